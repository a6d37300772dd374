//! What must always hold, in the words of the invariants: of every decision in the light of what was seen, of every
//! write, and of every world.
//!
//! The laws of single writes are those of the histories (`laws/check.rs`). The others are added here, because only who
//! visits every state can ask them of every state.

use std::panic::{self, AssertUnwindSafe};

use flywheel_api::approval::ApprovalDecision;
use flywheel_api::flywheel_run::RunOutcome;
use flywheel_api::reference::{ApprovalRecord, Verdict, WaitingFor};
use flywheel_api::rollout::RolloutPhase;
use flywheel_api::{Approval, BiasPolicy, FlywheelPipeline, FlywheelRun, ModelVersion, Rollout};
use flywheel_engine::decision::{Action, Child};
use flywheel_engine::testing::{Content, Held, Kind, World, Write};
use k8s_openapi::api::apps::v1::ControllerRevision;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::check::{OF_WRITES, gates};
use crate::moves::FORGED;
use crate::tables;

/// The invariants and their sentences.
pub const INVARIANTS: [(&str, &str); 10] = [
    (
        "I2",
        "nothing is delivered or promoted before all that it was asked for has passed",
    ),
    (
        "I3",
        "only an Approval of this object, this evidence and another person counts",
    ),
    (
        "I4",
        "a Rollout can go back from everywhere, and what went back stays back",
    ),
    (
        "I7",
        "pods that serve are taken away only after as many others are ready",
    ),
    (
        "I13",
        "phases and steps follow each other, numbers never go down, what was recorded stays and is so",
    ),
    ("I16", "what belongs to an older spec does not count for the new one"),
    ("I17", "one Rollout at a time works on a target"),
    ("I18", "a decision records a level that was in force"),
    ("I19", "no step is left before its time"),
    ("I21", "without data nothing passes"),
];

/// An invariant that does not hold, and what was found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Violation {
    pub invariant: &'static str,
    pub found: String,
}

impl Violation {
    pub fn new(invariant: &'static str, found: impl Into<String>) -> Self {
        let found = found.into();
        Self { invariant, found }
    }
}

/// What was reached in a world.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ends {
    pub promoted: bool,
    pub rolled_back: bool,
    pub approved: bool,
    pub rejected: bool,
}

impl Ends {
    pub fn of(world: &World) -> Self {
        let rollouts: Vec<Rollout> = world.all(Kind::Rollout);
        let runs: Vec<FlywheelRun> = world.all(Kind::Run);
        let of_rollouts = rollouts.iter().filter_map(|r| r.status.as_ref());
        let phases: Vec<RolloutPhase> = of_rollouts.clone().map(|s| s.phase).collect();
        let of_runs = runs.iter().filter_map(|r| r.status.as_ref());
        let refused = of_runs.clone().any(|s| s.outcome == Some(RunOutcome::Rejected));
        let used: Vec<&ApprovalRecord> = of_rollouts
            .flat_map(|s| &s.approvals)
            .chain(of_runs.flat_map(|s| &s.approvals))
            .collect();
        Self {
            promoted: phases.contains(&RolloutPhase::Promoted),
            rolled_back: phases.contains(&RolloutPhase::RolledBack),
            approved: used.iter().any(|a| a.decision == ApprovalDecision::Approve),
            rejected: refused || used.iter().any(|a| a.decision == ApprovalDecision::Reject),
        }
    }
}

type Found = Result<(), Violation>;

fn demand(holds: bool, invariant: &'static str, found: impl FnOnce() -> String) -> Found {
    if holds {
        Ok(())
    } else {
        Err(Violation::new(invariant, found()))
    }
}

fn read<K: DeserializeOwned>(value: &Value) -> K {
    serde_json::from_value(value.clone()).expect("it can be read")
}

/// What a decision breaks, in the light of what was seen.
pub fn of_decision(seen: &World, held: &Held) -> Option<Violation> {
    let found = match (&held.content, held.actor.0) {
        (Content::Status(after, _), Kind::Rollout) => rollout_status(seen, held, after),
        (Content::Status(after, _), Kind::Run) => run_status(seen, held, after),
        (Content::Effect(action), Kind::Run) => match &**action {
            Action::Create(child) => created(seen, held, child),
            _ => Ok(()),
        },
        (Content::Effect(action), Kind::Rollout) => {
            if let (Action::Patch(patch), true) = (&**action, gives_way(seen, &read(&held.before)))
                && patch.object.name == "eta"
            {
                let found = format!("{} writes on a target that is another's", held.actor.1);
                return Some(Violation::new("I17", found));
            }
            let mut after = seen.clone();
            after.arrive(held);
            if after.writes.is_empty() {
                Ok(())
            } else {
                taken(seen, &after)
            }
        }
        _ => Ok(()),
    };
    found.err()
}

fn rollout_status(seen: &World, held: &Held, after: &Value) -> Found {
    let rollout: Rollout = read(&held.before);
    let (before, after) = (
        rollout.status.clone().unwrap_or_default(),
        read::<flywheel_api::RolloutStatus>(after),
    );
    let (was, is) = (before.phase, after.phase);
    demand(tables::allows(tables::ROLLOUT, was.name(), is.name()), "I13", || {
        format!("phase {was:?} becomes {is:?}")
    })?;
    let entered = |phase| is == phase && was != phase;
    if entered(RolloutPhase::Observing) || entered(RolloutPhase::Promoted) {
        let brought = after.candidate.as_ref().and_then(|side| side.value.clone());
        let carried = seen.binding("eta");
        demand(carried == brought, "I13", || {
            format!(
                "{} is {is:?}, and its target carries {carried:?}, not {brought:?}",
                held.actor.1
            )
        })?;
    }
    if entered(RolloutPhase::Promoting) && before.step.is_some() {
        for check in &rollout.spec.plan.checks {
            let verdict = after.checks.iter().find(|c| c.name == check.name).map(|c| c.verdict);
            demand(verdict == Some(Verdict::Pass), "I2", || {
                format!("promotion begins while check {} says {verdict:?}", check.name)
            })?;
        }
    }
    let waited = asked([&before.waiting_for, &after.waiting_for], &before.approvals);
    used(seen, &before.approvals, &after.approvals, "", &waited)
}

fn run_status(seen: &World, held: &Held, after: &Value) -> Found {
    let run: FlywheelRun = read(&held.before);
    let before = run.status.clone().unwrap_or_default();
    let after: flywheel_api::flywheel_run::FlywheelRunStatus = read(after);
    let waited = asked([&before.waiting_for, &after.waiting_for], &before.approvals);
    used(
        seen,
        &before.approvals,
        &after.approvals,
        &run.spec.requested_by,
        &waited,
    )?;
    let tried = before.stages.iter().any(|s| s.attempt > 0);
    let kept = before.snapshot.is_none() || before.snapshot == after.snapshot;
    demand(kept || !tried, "I16", || {
        "a run that has begun takes another snapshot".to_owned()
    })?;
    let fresh = after.decisions.iter().filter(|d| !before.decisions.contains(d));
    let most = freest(seen, &run.spec.pipeline_ref.name);
    for decision in fresh {
        let fine = decision.level.zip(most).is_none_or(|(level, most)| level <= most);
        demand(fine, "I18", || {
            format!(
                "{} is decided at {:?}, but {most:?} was in force",
                decision.decision, decision.level
            )
        })?;
    }
    Ok(())
}

/// The evidence that a person was asked about: what waits, and what was decided before.
fn asked<'a>(waiting: [&'a Option<WaitingFor>; 2], used: &'a [ApprovalRecord]) -> Vec<&'a str> {
    let waiting = waiting.into_iter().flatten().map(|w| w.evidence_digest.0.as_str());
    waiting
        .chain(used.iter().map(|r| r.evidence_digest.0.as_str()))
        .collect()
}

/// Approvals that this status uses for the first time were there, name this evidence and come from somebody else.
fn used(seen: &World, before: &[ApprovalRecord], after: &[ApprovalRecord], requester: &str, asked: &[&str]) -> Found {
    for record in after.iter().filter(|r| !before.iter().any(|b| b.uid == r.uid)) {
        let found: Option<Approval> = seen.find(Kind::Approval, &record.name);
        let Some(approval) = found else {
            return Err(Violation::new(
                "I3",
                format!("Approval {} counts, which is not there", record.name),
            ));
        };
        demand(!record.name.starts_with(FORGED), "I3", || {
            format!("Approval {} counts", record.name)
        })?;
        let spec = &approval.spec;
        demand(requester.is_empty() || spec.approver != requester, "I3", || {
            format!("{} asked for the run, and approves it", spec.approver)
        })?;
        demand(asked.contains(&spec.evidence_digest.0.as_str()), "I3", || {
            format!("Approval {} counts for other evidence than {asked:?}", record.name)
        })?;
    }
    Ok(())
}

/// The freest level that the spec, the ceiling and the policies allow; nothing without the pipeline.
fn freest(seen: &World, pipeline: &str) -> Option<flywheel_api::reference::AutomationLevel> {
    let pipeline: FlywheelPipeline = seen.find(Kind::Pipeline, pipeline)?;
    let named = |p: &&BiasPolicy| {
        pipeline
            .spec
            .bias_policies
            .iter()
            .any(|r| Some(&r.name) == p.metadata.name.as_ref())
    };
    let policies: Vec<BiasPolicy> = seen.all(Kind::BiasPolicy);
    let caps = policies
        .iter()
        .filter(named)
        .filter_map(|p| p.spec.max_automation_level);
    let live = pipeline.spec.automation_level.min(seen.settings.automation_ceiling);
    Some(caps.fold(live, Ord::min))
}

/// A Rollout has the plan of its run's snapshot, and is decided on verdicts of the policies as they are, and of the gates
/// on what serves.
fn created(seen: &World, held: &Held, child: &Child) -> Found {
    let Child::Rollout(rollout) = child else { return Ok(()) };
    let status = read::<FlywheelRun>(&held.before).status.unwrap_or_default();
    let name = status.snapshot.as_ref().map(|s| s.name.clone()).unwrap_or_default();
    let revision: Option<ControllerRevision> = seen.find(Kind::ControllerRevision, &name);
    let data = revision.and_then(|r| r.data).map(|d| d.0).unwrap_or_default();
    let plan = serde_json::from_value(data["rollout"].clone()).ok();
    demand(plan.as_ref() == Some(&rollout.spec.plan), "I16", || {
        format!(
            "Rollout {:?} does not carry the plan of snapshot {name}",
            rollout.metadata.name
        )
    })?;
    for policy in seen.all::<BiasPolicy>(Kind::BiasPolicy) {
        let named = policy.metadata.name.unwrap_or_default();
        let judged = status
            .bias
            .iter()
            .find(|v| v.policy == named)
            .map(|v| v.policy_generation);
        let is = policy.metadata.generation.unwrap_or_default();
        demand(judged == Some(is), "I16", || {
            format!("generation {is} of policy {named} was never judged: {judged:?}")
        })?;
    }
    let live = live(seen);
    for gate in &status.gates {
        demand(gates::lets_pass(&status, gate, live.as_deref()), "I2", || {
            format!("a delivery begins while {live:?} serves and gate {gate:?} says so")
        })?;
    }
    Ok(())
}

/// The version that the target carries.
fn live(world: &World) -> Option<String> {
    let value = world.binding("eta")?;
    let all: Vec<ModelVersion> = world.all(Kind::ModelVersion);
    let carried = all.into_iter().find(|v| v.spec.artifact.uri.as_str() == value)?;
    carried.metadata.name
}

/// What a write breaks.
pub fn of_write(before: &World, after: &World) -> Option<Violation> {
    let write = after.writes.last()?;
    let broken = OF_WRITES.iter().find_map(|(invariant, law)| {
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| law(write)));
        let why = outcome.err()?;
        let text = why.downcast_ref::<String>().cloned();
        let text = text.or_else(|| why.downcast_ref::<&str>().map(|s| (*s).to_owned()));
        Some(Violation::new(invariant, text.unwrap_or_default()))
    });
    // Pods of a candidate that somebody else deleted while the write was on its way are nobody's fault here, also if another
    // one has its name since; that they are not taken by the operator itself is asked of the way back.
    let whole = has_its_candidate(before, write);
    broken.or_else(|| whole.then(|| taken(before, after).err()).flatten())
}

/// Whether the candidate whose pods the writing Rollout counts on is there; before it has one, whether there is any.
fn has_its_candidate(world: &World, write: &Write) -> bool {
    let Some(there) = world.raw(&(Kind::Deployment, "eta-candidate".to_owned())) else {
        return false;
    };
    let known = &write.before["status"]["candidateDeployment"]["uid"];
    known.is_null() || there["metadata"]["uid"] == *known
}

/// An operator's write leaves as many ready pods as the target should have, or as many as there were.
fn taken(before: &World, after: &World) -> Found {
    let write = after.writes.last().expect("a write");
    if write.actor.0 != Kind::Rollout || !matches!(write.action, Some(Action::Patch(_) | Action::Delete(_))) {
        return Ok(());
    }
    let status = read::<Rollout>(&write.before).status.unwrap_or_default();
    let full = i64::from(status.baseline_replicas.unwrap_or(0));
    let left = [before, after].map(|w| serving(w, "eta") + serving(w, "eta-candidate"));
    demand(left[1] >= left[0].min(full), "I7", || {
        format!("of {full} pods {} were ready and {} are left", left[0], left[1])
    })
}

/// Pods that are ready and that the spec goes on asking for.
fn serving(world: &World, name: &str) -> i64 {
    let spec = world
        .raw(&(Kind::Deployment, name.to_owned()))
        .map(|d| d["spec"]["replicas"].as_i64().unwrap_or(1));
    spec.map_or(0, |wanted| wanted.min(world.ready(name)))
}

/// Whether this Rollout's way back was recorded after the next one had taken the target: what is left to do is to end.
pub fn gives_way(world: &World, rollout: &Rollout) -> bool {
    let status = rollout.status.clone().unwrap_or_default();
    let target = world.raw(&(Kind::Deployment, "eta".to_owned()));
    let owner = target.and_then(|t| t["metadata"]["annotations"]["flywheel.dev/taken-by"].as_str());
    let went_back = world.binding("eta") == status.baseline.and_then(|b| b.value);
    let others: Vec<Rollout> = world.all(Kind::Rollout);
    let another = others.iter().any(|r| {
        // It may have stepped back since, and go on at any moment.
        let open = r.status.as_ref().is_some_and(|s| !s.phase.is_terminal());
        open && r.metadata.uid != rollout.metadata.uid && r.metadata.uid.as_deref() == owner
    });
    status.phase == RolloutPhase::RollingBack && status.promoted_at.is_some() && !went_back && another
}

/// What a world breaks by itself.
pub fn of_world(world: &World) -> Option<Violation> {
    let works = |r: &&Rollout| {
        let status = r.status.clone().unwrap_or_default();
        // One that has recorded its beginning and done nothing yet may have to step back.
        let made = status.candidate_deployment.is_some_and(|c| c.uid.is_some());
        let took_over = status.weights.is_some_and(|w| w.actual == 100);
        status.phase.holds_target() && (made || took_over) && !gives_way(world, r)
    };
    let all: Vec<Rollout> = world.all(Kind::Rollout);
    let at_work: Vec<_> = all
        .iter()
        .filter(works)
        .map(|r| r.metadata.name.clone().unwrap_or_default())
        .collect();
    (at_work.len() > 1).then(|| Violation::new("I17", format!("{at_work:?} work on one target")))
}
