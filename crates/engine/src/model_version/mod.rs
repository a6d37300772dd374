//! A version's place in the loop, derived from its run, its Rollouts and what serves: nothing is decided here but
//! whether it may be let go.

use std::collections::BTreeSet;

use flywheel_api::condition;
use flywheel_api::flywheel_run::{FlywheelRunStatus, RunOutcome};
use flywheel_api::model_version::{DeploymentRecord, ModelVersionStatus, VersionState};
use flywheel_api::names;
use flywheel_api::reference::UidRef;
use flywheel_api::rollout::RolloutPhase;
use flywheel_api::{FlywheelRun, ModelVersion, Rollout};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, Serialize};

use crate::binding;
use crate::decision::{Action, ChildKind, Decision, Effect, Note, ObjectKey, Patch, PatchKind, Wait};
use crate::lineage::{self, Reached};
use crate::part::Part;
use crate::standing::{Kind, Standing};

mod found;
mod keep;
mod unreadable;

pub use found::shows;
pub use keep::{told, untold};
pub use unreadable::{Unreadable, may_be_about};

/// Everything that the decision about a version may know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelVersionObservation {
    /// Now, in whole seconds.
    pub now: Timestamp,
    /// The version.
    pub version: ModelVersion,
    /// The run that made it, if it still exists.
    pub run: Part<Option<FlywheelRun>>,
    /// Rollouts that deliver or delivered it, or that would go back to it.
    pub rollouts: Part<Vec<Delivery>>,
    /// Names of versions that name this one as parent. They are shown, and nothing follows from them.
    pub children: Part<Vec<String>>,
    /// Names of the targets whose binding carries its artifact.
    pub serves: Part<BTreeSet<String>>,
    /// Names of the targets that exist and whose binding cannot be read, as [`untold`] says: it may serve there.
    #[serde(default)]
    pub untold: Part<BTreeSet<String>>,
    /// Names of the other targets that were looked at, as [`told`] says.
    #[serde(default)]
    pub told: Part<BTreeSet<String>>,
    /// What it depends on and this version of the operator cannot read.
    #[serde(default)]
    pub unreadable: Unreadable,
    /// The namespace is being deleted.
    pub namespace_terminating: bool,
}

/// A Rollout as a version sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// Version that it delivers.
    pub candidate: String,
    /// Version that it goes back to.
    pub baseline: Option<String>,
    /// Deployment.
    pub target: String,
    /// When it was created.
    pub created: Timestamp,
    /// Where it stands.
    pub phase: RolloutPhase,
    /// It has begun: it took its target, whatever has become of it since. One that found its version live never did.
    #[serde(default)]
    pub begun: bool,
    /// A run asked for it; otherwise a person did.
    #[serde(default)]
    pub by_run: bool,
    /// When the target carried its value with all pods ready, if it did.
    #[serde(default)]
    pub promoted: Option<Timestamp>,
    /// The target's binding carries the value that it delivers; only looked up for versions.
    #[serde(default)]
    pub serves: bool,
}

impl Delivery {
    /// The view of a Rollout.
    #[must_use]
    pub fn of(rollout: &Rollout) -> Self {
        let status = rollout.status.clone().unwrap_or_default();
        Self {
            begun: status.candidate.is_some() && status.baseline.is_some(),
            name: rollout.metadata.name.clone().unwrap_or_default(),
            uid: rollout.metadata.uid.clone().unwrap_or_default(),
            candidate: rollout.spec.model_version_ref.name.clone(),
            baseline: status.baseline.and_then(|b| b.version),
            target: rollout.spec.plan.target_ref.name.clone(),
            created: rollout
                .metadata
                .creation_timestamp
                .as_ref()
                .map(|t| t.0)
                .unwrap_or_default(),
            phase: status.phase,
            by_run: rollout.spec.run_ref.is_some(),
            promoted: status.promoted_at.map(|t| t.0),
            serves: false,
        }
    }

    /// The view of a Rollout with its target.
    #[must_use]
    pub fn on(rollout: &Rollout, target: Option<&Deployment>) -> Self {
        let candidate = rollout.status.as_ref().and_then(|s| s.candidate.as_ref());
        let live = target.and_then(|t| binding::value(t, &rollout.spec.plan.binding).ok().flatten());
        Self {
            serves: live.is_some() && candidate.is_some_and(|c| c.value == live),
            ..Self::of(rollout)
        }
    }
}

/// What to do with a version: at most one write.
#[must_use]
#[expect(clippy::too_many_lines, reason = "a decision that reads as a table")]
pub fn decide(o: &ModelVersionObservation) -> Decision<ModelVersionStatus> {
    let name = o.version.metadata.name.clone().unwrap_or_default();
    let stored = o.version.status.clone().unwrap_or_default();
    let held = o
        .version
        .metadata
        .finalizers
        .iter()
        .flatten()
        .any(|f| f == names::FINALIZER_LIVE);
    let deleting = o.version.metadata.deletion_timestamp.is_some();
    let needed = (deleting && !o.namespace_terminating)
        .then(|| must_stay(o, &name))
        .flatten();
    match (deleting, held) {
        (true, true) if needed.is_none() => return Decision::Do(release(o, &name)),
        (true, false) => {
            return Decision::Wait(Wait {
                until: None,
                reason: "the version is being deleted".to_owned(),
            });
        }
        (false, false) => return Decision::Do(hold(o, &name)),
        (true | false, true) => {}
    }
    if let Some(effect) = mark(o, &name) {
        return Decision::Do(effect);
    }
    let mut status = stored.clone();
    if let Some(run) = o.run.as_ref().and_then(|r| r.status.as_ref()) {
        found::copy(run, o.version.metadata.uid.as_ref(), &mut status);
    }
    status.deployments = deployments(o, &name, &stored);
    let delivered = o.rollouts.iter().map(|r| &r.target);
    // What keeps it from going is looked at when it changes.
    let untold = o.untold.iter().filter(|_| needed.is_some());
    // None is forgotten while a plan may be about it that cannot be read.
    let hidden = stored.targets.iter().filter(|_| o.unreadable.hides_targets());
    let known = keep::serving(o).into_iter().chain(delivered);
    let targets: BTreeSet<&String> = known.chain(untold).chain(hidden).collect();
    status.targets = targets.into_iter().take(64).cloned().collect();
    status.children = o.children.peek().iter().rev().take(32).rev().cloned().collect();
    let found = state(o, &name, stored.state);
    // Where nobody can say what it came to, its lineage tells nothing either: it would tell it in a wrong order.
    let passed = found.map_or_else(Vec::new, |_| passed(o, &name, stored.state));
    let state = found.unwrap_or(stored.state);
    let mut events = Vec::new();
    if state != status.state {
        status.state = state;
        events.push(Note::normal(
            &format!("{state:?}"),
            format!("Version {name} is {}.", words(state)),
        ));
    }
    let present = reached(o, &name, state);
    status.lineage = lineage::extended(&o.version, &status, &passed, &present, o.now);
    let generation = o.version.metadata.generation;
    status.observed_generation = generation.unwrap_or_default();
    let standing = needed.unwrap_or_else(|| registered(o, &name, state));
    let mut settings = standing.settings();
    settings.extend(keep::conditions(o, &name));
    status.conditions = condition::replace(&stored.conditions, &settings, generation, o.now);
    Decision::settle(
        &stored,
        status,
        events,
        || None,
        Wait {
            until: None,
            reason: standing.message,
        },
    )
}

/// Where a version stands that is being deleted and must stay: what needs it, or may.
fn must_stay(o: &ModelVersionObservation, name: &str) -> Option<Standing> {
    let needed = keep::needed_by(o, name)
        .map(|why| Standing::new(Kind::Stalled, "InUse", format!("The deletion waits: {why}.")));
    needed.or_else(|| unreadable::keeps(o))
}

/// Where any other version stands.
fn registered(o: &ModelVersionObservation, name: &str, state: VersionState) -> Standing {
    let message = format!("Version {name} is registered and {}.", words(state));
    unreadable::beside(o, &message).unwrap_or_else(|| Standing::new(Kind::Ready, "Registered", message))
}

const fn words(state: VersionState) -> &'static str {
    match state {
        VersionState::Candidate => "a candidate",
        VersionState::Rejected => "rejected",
        VersionState::Approved => "approved",
        VersionState::RollingOut => "being rolled out",
        VersionState::Live => "live",
        VersionState::Superseded => "superseded",
        VersionState::RolledBack => "rolled back",
    }
}

/// Where it was delivered to. What was known of a Rollout that cannot be read stays.
fn deployments(o: &ModelVersionObservation, name: &str, stored: &ModelVersionStatus) -> Vec<DeploymentRecord> {
    let begun = |r: &&Delivery| !matches!(r.phase, RolloutPhase::Pending | RolloutPhase::Queued);
    let record = |r: &Delivery| DeploymentRecord {
        target: format!("Deployment/{}", r.target),
        rollout: UidRef {
            name: r.name.clone(),
            uid: r.uid.clone(),
        },
        phase: r.phase.outline().name().to_owned(),
        since: Time(r.created),
    };
    let hidden = |d: &&DeploymentRecord| o.unreadable.rollouts.contains(&d.rollout.name);
    let kept = stored.deployments.iter().filter(hidden).cloned();
    let mine = o.rollouts.iter().filter(|r| r.candidate == name);
    let mut all: Vec<DeploymentRecord> = mine.filter(begun).map(record).chain(kept).collect();
    all.sort_by(|a, b| (&a.since, &a.rollout.name).cmp(&(&b.since, &b.rollout.name)));
    let surplus = all.len().saturating_sub(32);
    all.drain(..surplus);
    all
}

/// Where the version stands; nothing if that depends on a Rollout that cannot be read.
fn state(o: &ModelVersionObservation, name: &str, stored: VersionState) -> Option<VersionState> {
    let last = last(o, |r| r.candidate == name);
    let rolling = last.is_some_and(|r| r.phase.holds_target());
    Some(match (rolling, !keep::serving(o).is_empty(), last.map(|r| r.phase)) {
        (true, ..) => VersionState::RollingOut,
        (false, true, _) => VersionState::Live,
        // It may have brought it anywhere else.
        (false, false, _) if !o.unreadable.rollouts.is_empty() => return None,
        (false, false, Some(RolloutPhase::RolledBack | RolloutPhase::Aborted | RolloutPhase::Failed)) => {
            VersionState::RolledBack
        }
        (false, false, Some(RolloutPhase::Promoted | RolloutPhase::Superseded | RolloutPhase::Observing)) => {
            VersionState::Superseded
        }
        (false, false, _) if replaced(o, name) => VersionState::Superseded,
        (false, false, _) => from_run(o, stored),
    })
}

/// Whether a Rollout put another version in its place, however it had come to serve.
fn replaced(o: &ModelVersionObservation, name: &str) -> bool {
    let from = |r: &Delivery| r.baseline.as_deref() == Some(name) && r.candidate != name;
    o.rollouts.iter().any(|r| from(r) && r.phase.has_delivered())
}

fn from_run(o: &ModelVersionObservation, stored: VersionState) -> VersionState {
    let Some(run) = o.run.as_ref().and_then(|r| r.status.as_ref()) else {
        return match stored {
            // It may have said more.
            known if !o.unreadable.run.is_empty() => known,
            // It served without that a Rollout of its own had brought it, and serves no more.
            VersionState::Live => VersionState::Superseded,
            // Its Rollout was deleted on the way, and took the traffic back before it went.
            VersionState::RollingOut => VersionState::RolledBack,
            other => other,
        };
    };
    match run.outcome {
        Some(RunOutcome::Rejected | RunOutcome::Cancelled | RunOutcome::Failed | RunOutcome::Skipped) => {
            VersionState::Rejected
        }
        _ if is_approved(run) => VersionState::Approved,
        _ => VersionState::Candidate,
    }
}

/// Whether a run let its version pass: it registered it, or means to deliver it.
fn is_approved(run: &FlywheelRunStatus) -> bool {
    run.outcome == Some(RunOutcome::Registered) || run.rollout.is_some()
}

/// States that a version has certainly been in: nobody may have looked at that time, as when the operator was away.
fn passed(o: &ModelVersionObservation, name: &str, stored: VersionState) -> Vec<Reached> {
    let run = o.run.as_ref().and_then(|r| r.status.as_ref());
    let approved =
        (stored == VersionState::Candidate && run.is_some_and(is_approved)).then_some(VersionState::Approved);
    let delivered = last(o, |r| r.candidate == name && r.begun)
        .is_some_and(|r| r.phase.is_delivered() || r.phase.is_terminal())
        .then_some(VersionState::RollingOut);
    let states = approved.into_iter().chain(delivered);
    states.map(|state| reached(o, name, state)).collect()
}

/// The newest of some deliveries.
fn last(o: &ModelVersionObservation, of: impl Fn(&Delivery) -> bool) -> Option<&Delivery> {
    let some = o.rollouts.iter().filter(|r| of(r));
    some.max_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)))
}

/// A state with what it came of: the Rollout that put the version where it is, or took its place; otherwise its run.
fn reached(o: &ModelVersionObservation, name: &str, state: VersionState) -> Reached {
    let rollout = match state {
        VersionState::RollingOut | VersionState::Live => last(o, |r| r.candidate == name && r.begun),
        VersionState::RolledBack => last(o, |r| r.candidate == name),
        VersionState::Superseded => last(o, |r| r.baseline.as_deref() == Some(name) && r.candidate != name),
        VersionState::Candidate | VersionState::Rejected | VersionState::Approved => None,
    };
    let cause = match rollout {
        Some(r) => Some(lineage::rollout(&r.name, &r.uid)),
        None => lineage::run(&o.version),
    };
    Reached { state, cause }
}

/// A mark that outlives the status: should it be lost, the lineage does not pretend to be a first one. It stands before the
/// lineage grows, and before anybody keeps its head.
fn mark(o: &ModelVersionObservation, name: &str) -> Option<Effect> {
    if lineage::mark(&o.version).is_some() {
        return None;
    }
    let lineage = o.version.status.as_ref()?.lineage.as_ref()?;
    let first = &lineage.entries.first()?.digest;
    let metadata = serde_json::json!({ "annotations": { names::ANNOTATION_LINEAGE: first } });
    Some(patch(
        o,
        name,
        &metadata,
        format!("the lineage of version {name} has begun"),
    ))
}

fn patch(o: &ModelVersionObservation, name: &str, metadata: &serde_json::Value, why: String) -> Effect {
    let object = ObjectKey {
        kind: ChildKind::ModelVersion,
        name: name.to_owned(),
        uid: o.version.metadata.uid.clone().unwrap_or_default(),
        resource_version: o.version.metadata.resource_version.clone(),
    };
    let body = serde_json::json!({ "metadata": metadata });
    Effect {
        action: Action::Patch(Box::new(Patch {
            object,
            body,
            kind: PatchKind::Merge,
        })),
        why,
    }
}

fn release(o: &ModelVersionObservation, name: &str) -> Effect {
    let others = o
        .version
        .metadata
        .finalizers
        .iter()
        .flatten()
        .filter(|f| *f != names::FINALIZER_LIVE);
    patch(
        o,
        name,
        &serde_json::json!({ "finalizers": others.collect::<Vec<_>>() }),
        format!("version {name} may go: nothing needs it"),
    )
}

fn hold(o: &ModelVersionObservation, name: &str) -> Effect {
    let mut all = o.version.metadata.finalizers.clone().unwrap_or_default();
    all.push(names::FINALIZER_LIVE.to_owned());
    let metadata = serde_json::json!({ "finalizers": all });
    patch(
        o,
        name,
        &metadata,
        format!("version {name} must not vanish while it serves"),
    )
}
