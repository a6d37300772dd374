//! The way back, from everywhere: with every fault over, with the brake pulled, no metric provider and nobody else at
//! work, a Rollout that is told to go back restores what served before it, and what arrives late changes nothing.

use flywheel_api::{Rollout, RolloutStatus};
use flywheel_engine::testing::{Held, Kind, World};
use serde_json::json;

use crate::rules::{Violation, gives_way};

/// Rounds of a minute in which a way back must end.
const ROUNDS: usize = 6;
/// Writes at most in a round.
const WRITES: usize = 30;

/// Why a Rollout of this world cannot go back; nothing if all can.
pub fn blocked(world: &World, late: Option<&Held>) -> Option<Violation> {
    let rollouts: Vec<Rollout> = world.all(Kind::Rollout);
    let open = rollouts.iter().filter_map(|r| {
        let status = r.status.clone().unwrap_or_default();
        let name = r.metadata.name.clone()?;
        (!status.phase.is_terminal() && status.baseline.is_some()).then_some((name, status))
    });
    open.filter(|(name, _)| late.is_none_or(|held| held.actor.1 == *name))
        .find_map(|(name, status)| stuck(world, &name, &status, late))
        .map(|found| Violation::new("I4", found))
}

fn stuck(world: &World, name: &str, status: &RolloutStatus, late: Option<&Held>) -> Option<String> {
    let began = status.target_uid.as_deref();
    let target = world.raw(&(Kind::Deployment, "eta".to_owned()))?;
    if target["metadata"]["uid"].as_str() != began {
        return None;
    }
    let before = status.baseline.as_ref().and_then(|b| b.value.clone());
    let wanted = status.candidate.as_ref().and_then(|c| c.value.clone());
    let carried = world.binding("eta");
    // A value of somebody else's is left alone.
    let expected = if carried == before || carried == wanted {
        before
    } else {
        carried.clone()
    };
    let yields = world
        .find::<Rollout>(Kind::Rollout, name)
        .is_some_and(|r| gives_way(world, &r));
    let mut world = world.clone();
    world.answers.clear();
    world.settings.brake.engaged = true;
    world.set(Kind::Rollout, name, "desiredState", "RollBack");
    follow(&mut world, name);
    let phase = |w: &World| {
        let rollout: Option<Rollout> = w.find(Kind::Rollout, name);
        rollout.map(|r| r.status.unwrap_or_default().phase)
    };
    if let Some(phase) = phase(&world).filter(|p| !p.is_terminal()) {
        return Some(format!(
            "{name}, told to go back, is still {phase:?} after {ROUNDS} quiet minutes"
        ));
    }
    if yields {
        // The other one has the target, and may itself be told to go back.
        let is = world.binding("eta");
        return (is != carried).then(|| format!("{name} left the target to another Rollout, and changed it to {is:?}"));
    }
    if let Some(found) = serves(&world, status, expected.as_deref()) {
        return Some(format!("{name} went back, and {found}"));
    }
    let held = late?;
    let took = world.arrive(held);
    world.run_deployments();
    serves(&world, status, expected.as_deref())
        .map(|found| format!("{name} went back, then a write arrives late (taken: {took}), and {found}"))
}

fn serves(world: &World, status: &RolloutStatus, expected: Option<&str>) -> Option<String> {
    let is = world.binding("eta");
    if is.as_deref() != expected {
        return Some(format!("the target carries {is:?} instead of {expected:?}"));
    }
    let (ready, full) = (world.ready("eta"), i64::from(status.baseline_replicas.unwrap_or(0)));
    let candidate = world.raw(&(Kind::Deployment, "eta-candidate".to_owned()));
    let ours = candidate.is_some_and(|c| c["metadata"]["labels"] != json!(null));
    if ready < full {
        return Some(format!("the target has {ready} of {full} pods"));
    }
    (ours && world.ready("eta-candidate") > 0).then(|| "pods of the candidate still serve".to_owned())
}

/// The operator looks at this Rollout alone, until nothing moves.
fn follow(world: &mut World, name: &str) {
    for _ in 0..ROUNDS {
        for _ in 0..WRITES {
            if !world.look(Kind::Rollout, name) {
                break;
            }
        }
        let ended = world
            .find::<Rollout>(Kind::Rollout, name)
            .is_none_or(|r| r.status.unwrap_or_default().phase.is_terminal());
        world.run_deployments();
        if ended {
            return;
        }
        world.pass(61);
    }
}
