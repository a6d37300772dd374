//! The delivery: the run intends a Rollout, makes it and takes its outcome.

use flywheel_api::flywheel_run::{RolloutIntent, RunOutcome};
use flywheel_api::lineage::VersionRef;
use flywheel_api::names;
use flywheel_api::reference::UidRef;
use flywheel_api::rollout::{RolloutDesiredState, RolloutPhase, RolloutPlan};
use flywheel_api::{Rollout, RolloutSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::turn::{Next, Turn};
use super::view::RolloutView;
use crate::decision::{Action, Child, ChildKind, Effect, ObjectKey, Patch, PatchKind};
use crate::model_version;
use crate::standing::{self, Kind, Standing};

/// Nothing if the pipeline has no rollout.
pub fn rollout(turn: &mut Turn<'_>) -> Option<Next> {
    let plan = turn.plan.as_ref()?.rollout.clone()?;
    "Rollout".clone_into(&mut turn.status.stage);
    let version = turn.status.model_version.as_ref()?.name.clone();
    let Some(intent) = turn.status.rollout.clone() else {
        turn.status.rollout = Some(RolloutIntent {
            name: version.clone(),
            uid: None,
        });
        turn.status.waiting_for = None;
        let message = format!("Version {version} goes to Deployment {}.", plan.target_ref.name);
        turn.decided("Deliver", "Permitted", &message, None, false);
        return Some(Next::Rest(Standing::new(Kind::Working, "Delivering", message), None));
    };
    match (&*turn.o.rollout, &intent.uid) {
        (None, None) if turn.o.settings.brake.engaged => turn.braked(),
        (None, None) => Some(make(turn, &intent, &version, plan)),
        (None, Some(_)) => {
            let message = format!("Rollout {} was deleted before it ended.", intent.name);
            Some(turn.finish(RunOutcome::Cancelled, "RolloutDeleted", &message))
        }
        (Some(found), _) if found.run_uid.as_deref() != Some(turn.uid()) => Some(taken(turn, &intent)),
        (Some(found), None) => {
            turn.status.rollout = Some(RolloutIntent {
                uid: Some(found.uid.clone()),
                ..intent
            });
            Some(standing(found))
        }
        (Some(found), Some(_)) => Some(outcome(turn, &found.clone())),
    }
}

/// The Rollout keeps the head of the version's lineage: it is made once there is one that a lost status does not make untrue.
/// What serves must show why it may, also when its run is gone: it is made once the version does.
fn make(turn: &Turn<'_>, intent: &RolloutIntent, version: &str, plan: RolloutPlan) -> Next {
    let ready = turn
        .o
        .version
        .as_ref()
        .filter(|v| model_version::shows(v, &turn.status));
    let Some(reference) = ready.map(VersionRef::of).filter(|r| r.head.is_some()) else {
        return behind(turn, version);
    };
    Next::Do(Effect {
        action: Action::Create(Box::new(Child::Rollout(build(turn, intent, reference, plan)))),
        why: format!("deliver {version}"),
    })
}

/// The version is told of its run as the run itself is: a moment later it shows all of it. If it never does, its status
/// cannot be written.
fn behind(turn: &Turn<'_>, version: &str) -> Next {
    let message = format!(
        "Version {version} is delivered once its lineage has begun and its status shows the gates, bias verdicts and \
         approvals of this run: see the events of ModelVersion {version}."
    );
    let decided = turn.status.decisions.iter().rev().find(|d| d.decision == "Deliver");
    let since = decided.map_or(turn.now(), |d| d.at.0);
    match standing::awaited(since, turn.now(), "VersionBehind", message) {
        (standing, Some(until)) => Next::Still(Some(until), standing.message),
        (standing, None) => Next::Rest(standing, None),
    }
}

/// Another one's Rollout has the name: it is skipped, never adopted.
fn taken(turn: &mut Turn<'_>, intent: &RolloutIntent) -> Next {
    if intent.uid.is_some() || intent.name.ends_with("-delivery") {
        let message = format!(
            "Rollout {} belongs to somebody else: delete it and request a new run.",
            intent.name
        );
        return turn.finish(RunOutcome::Failed, "RolloutNameTaken", &message);
    }
    let name = format!("{}-delivery", intent.name);
    turn.status.rollout = Some(RolloutIntent {
        name: name.clone(),
        uid: None,
    });
    Next::Rest(
        Standing::new(Kind::Working, "Delivering", format!("The delivery is called {name}.")),
        None,
    )
}

fn build(turn: &Turn<'_>, intent: &RolloutIntent, version: VersionRef, plan: RolloutPlan) -> Rollout {
    let mut labels = turn.labels();
    labels.insert(names::LABEL_MODEL_VERSION.to_owned(), version.name.clone());
    labels.insert(names::LABEL_TARGET.to_owned(), plan.target_ref.name.clone());
    let pipeline = turn.o.pipeline.as_ref().map(|p| UidRef {
        name: p.metadata.name.clone().unwrap_or_default(),
        uid: p.metadata.uid.clone().unwrap_or_default(),
    });
    // What is raised from now on counts for the next run, also before the Rollout has decided anything.
    let max_automation_level = pipeline.as_ref().map(|_| turn.level());
    let spec = RolloutSpec {
        model_version_ref: version,
        plan,
        run_ref: Some(UidRef {
            name: turn.name().to_owned(),
            uid: turn.uid().to_owned(),
        }),
        pipeline_ref: pipeline,
        max_automation_level,
        desired_state: RolloutDesiredState::Progress,
        hold_reason: String::new(),
    };
    let mut rollout = Rollout::new(&intent.name, spec);
    rollout.metadata = ObjectMeta {
        name: Some(intent.name.clone()),
        labels: Some(labels),
        finalizers: Some(vec![names::FINALIZER_ROLLOUT.to_owned()]),
        ..ObjectMeta::default()
    };
    rollout
}

fn standing(rollout: &RolloutView) -> Next {
    let phase = rollout.phase.name();
    let message = if rollout.message.is_empty() {
        format!("Rollout {} is {phase}.", rollout.name)
    } else {
        rollout.message.clone()
    };
    let waits = matches!(
        rollout.phase,
        RolloutPhase::Pending | RolloutPhase::Queued | RolloutPhase::Holding
    );
    let kind = if waits { Kind::Waiting } else { Kind::Working };
    Next::Rest(Standing::new(kind, "RollingOut", message), None)
}

/// A run ends when its Rollout observes or has ended.
pub fn outcome(turn: &mut Turn<'_>, rollout: &RolloutView) -> Next {
    let name = &rollout.name;
    let why = &rollout.outcome_reason;
    match rollout.phase {
        RolloutPhase::Observing | RolloutPhase::Promoted | RolloutPhase::Superseded => {
            let version = turn
                .status
                .model_version
                .as_ref()
                .map(|v| v.name.clone())
                .unwrap_or_default();
            turn.finish(RunOutcome::Promoted, "RolledOut", &format!("Version {version} serves."))
        }
        RolloutPhase::RolledBack => turn.finish(
            RunOutcome::RolledBack,
            "RolledBack",
            &format!("Rollout {name} went back: {why}"),
        ),
        RolloutPhase::Aborted => turn.finish(
            RunOutcome::RolledBack,
            "Aborted",
            &format!("Rollout {name} was aborted: {why}"),
        ),
        RolloutPhase::Failed => turn.finish(
            RunOutcome::Failed,
            "RolloutFailed",
            &format!("Rollout {name} failed: {why}"),
        ),
        RolloutPhase::Pending
        | RolloutPhase::Queued
        | RolloutPhase::Preparing
        | RolloutPhase::Progressing
        | RolloutPhase::Holding
        | RolloutPhase::Promoting
        | RolloutPhase::RollingBack => standing(rollout),
    }
}

/// Asks a Rollout to go back; nothing if it was asked already. What was delivered cannot be aborted any more.
pub fn abort(rollout: &RolloutView) -> Option<Effect> {
    if matches!(
        rollout.desired,
        RolloutDesiredState::Abort | RolloutDesiredState::RollBack
    ) {
        return None;
    }
    let wanted = if rollout.phase.is_delivered() {
        RolloutDesiredState::RollBack
    } else {
        RolloutDesiredState::Abort
    };
    let object = ObjectKey {
        kind: ChildKind::Rollout,
        name: rollout.name.clone(),
        uid: rollout.uid.clone(),
        resource_version: rollout.resource_version.clone(),
    };
    let body = serde_json::json!({ "spec": { "desiredState": wanted } });
    let patch = Patch {
        object,
        body,
        kind: PatchKind::Merge,
    };
    Some(Effect {
        action: Action::Patch(Box::new(patch)),
        why: "its run was cancelled or rejected".to_owned(),
    })
}
