//! Laws of the steps of a Rollout.

use flywheel_api::names::ANNOTATION_BEGUN;
use flywheel_api::rollout::{RolloutDesiredState, RolloutPhase};
use flywheel_api::{Rollout, RolloutStatus};
use flywheel_engine::testing::{Kind, Write};

use super::actor;

/// The Rollout before and after a write of its status.
fn sides(write: &Write) -> Option<(Rollout, Rollout)> {
    let after = write.after.as_ref().filter(|_| write.actor.0 == Kind::Rollout)?;
    Some((actor(write), serde_json::from_value(after.clone()).unwrap()))
}

fn index(status: &RolloutStatus) -> Option<i32> {
    status.step.as_ref().map(|step| step.index)
}

/// A step that asks for people is left on a digest that somebody approved, unless a user skips it or it goes back.
pub fn need_their_approval(write: &Write) {
    let Some((before, after)) = sides(write) else { return };
    let (old, new) = (before.status.unwrap_or_default(), after.status.unwrap_or_default());
    let steps = &before.spec.plan.strategy.steps;
    let asks = index(&old)
        .and_then(|i| steps.get(usize::try_from(i).unwrap()))
        .is_some_and(|s| s.approval.is_some());
    if is_at_a_step(old.phase) && index(&new) > index(&old) && asks {
        let digest = new
            .decisions
            .last()
            .and_then(|d| d.evidence_digest.clone())
            .expect("a digest");
        assert!(new.approvals.iter().any(|a| a.evidence_digest == digest));
    }
}

/// A step is left when it is held, or as soon as it is reached.
fn is_at_a_step(phase: RolloutPhase) -> bool {
    matches!(phase, RolloutPhase::Progressing | RolloutPhase::Holding)
}

/// A step is not left before its shortest time is over, unless a user skips the rest.
pub fn last_their_shortest_time(write: &Write) {
    let Some((before, after)) = sides(write) else { return };
    let (old, new) = (before.status.unwrap_or_default(), after.status.unwrap_or_default());
    let Some(held) = old.step.filter(|_| is_at_a_step(old.phase)) else {
        return;
    };
    let left = index(&new).is_some_and(|index| index > held.index);
    let steps = &before.spec.plan.strategy.steps;
    let step = steps.get(usize::try_from(held.index).unwrap());
    let shortest = step.and_then(|s| s.min_duration.as_ref()?.seconds());
    if let (true, Some(shortest)) = (left, shortest) {
        let entered = held.entered_at.map_or(write.at, |at| at.0);
        let lasted = write.at.duration_since(entered).as_secs();
        let hurried = before.spec.desired_state == RolloutDesiredState::Promote;
        assert!(
            hurried || lasted >= shortest,
            "step {} lasted {lasted} s of {shortest} s",
            held.name
        );
    }
}

/// Steps are taken one after the other, from the first one on, and full weight after the last one. A changed target leads
/// back to the first one, and a status that was lost is found again wherever it was.
pub fn follow_each_other(write: &Write) {
    let Some((before, after)) = sides(write).filter(|(before, _)| !is_lost(before)) else {
        return;
    };
    let full = i32::try_from(before.spec.plan.strategy.steps.len()).unwrap();
    let (old, new) = (before.status.unwrap_or_default(), after.status.unwrap_or_default());
    let (was, is) = (old.phase, new.phase);
    let (from, to) = (index(&old), index(&new));
    if begins(was, is) {
        let at_once = full == 0 || new.baseline_replicas == Some(0);
        let first = is == RolloutPhase::Preparing && to == Some(0);
        let last = is == RolloutPhase::Promoting && to == Some(full) && at_once;
        assert!(first || last, "it begins as {is:?} with step {to:?}");
        return;
    }
    if let (Some(from), Some(to)) = (from, to) {
        assert!(
            [from, from + 1, 0].contains(&to),
            "step {from} is followed by step {to}"
        );
    }
    let early = is == RolloutPhase::Promoting && was != is && to != Some(full);
    assert!(!early, "it goes to full weight with step {to:?} of {full}");
}

fn begins(was: RolloutPhase, is: RolloutPhase) -> bool {
    let works = [
        RolloutPhase::Preparing,
        RolloutPhase::Progressing,
        RolloutPhase::Holding,
        RolloutPhase::Promoting,
    ];
    matches!(was, RolloutPhase::Pending | RolloutPhase::Queued) && works.contains(&is)
}

/// Whether the Rollout bears the mark of its beginning, and its status knows nothing of it.
fn is_lost(rollout: &Rollout) -> bool {
    let annotations = rollout.metadata.annotations.as_ref();
    let marked = annotations.is_some_and(|a| a.contains_key(ANNOTATION_BEGUN));
    let known = |s: &RolloutStatus| !s.decisions.is_empty() || !s.conditions.is_empty();
    marked && !rollout.status.as_ref().is_some_and(known)
}
