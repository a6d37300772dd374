//! Promotion: the candidate carries the full load, then the target takes the version over, then the candidate goes.

use std::ops::ControlFlow;

use flywheel_api::RolloutStatus;
use flywheel_api::rollout::{RolloutPhase, StepStatus, Weights};
use flywheel_api::schema::Duration;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::draft::{Draft, Why};
use super::facts::{Carried, Twin, is_complete, is_paused, replicas};
use super::reach::reach;
use super::step::{adopt, full, obstacle, restart, rival};
use super::{back, candidate, pending};
use crate::binding;
use crate::decision::{Action, Decision, PatchKind};
use crate::standing::{Kind, Standing};

/// From here on the version goes to full weight.
pub(super) fn enter(draft: &mut Draft<'_>) {
    draft.clear_hold();
    draft.status.phase = RolloutPhase::Promoting;
    draft.status.progress_since = draft.now();
    draft.status.step = Some(StepStatus {
        index: i32::try_from(draft.plan().strategy.steps.len()).unwrap_or(i32::MAX),
        name: "full".to_owned(),
        ..StepStatus::default()
    });
}

/// What to do while the target takes the version over.
pub(super) fn decide(draft: Draft<'_>) -> Decision<RolloutStatus> {
    let Some(target) = draft.target() else {
        let why = back::target_gone(&draft);
        return back::begin(draft, &why);
    };
    if let Some(why) = back::wished(&draft) {
        return back::begin(draft, &why);
    }
    match draft.carried(target) {
        Carried::Candidate => take_over(draft, target),
        Carried::Foreign(live) if draft.is_adopted(live.as_deref()) => adopt(draft, live),
        Carried::Baseline | Carried::Foreign(_) | Carried::Unreadable(_) => hand_over(draft, target),
    }
}

/// The target still carries the baseline: the candidate must be able to carry everything before it changes.
fn hand_over<'a>(mut draft: Draft<'a>, target: &'a Deployment) -> Decision<RolloutStatus> {
    if let Some(name) = rival(&draft) {
        return pending::step_back(draft, name);
    }
    // Without replicas there is nothing that could be judged in steps: that holds no promotion.
    let hold = obstacle(&draft, target).filter(|h| h.reason != "TargetScaledToZero");
    if let Some(hold) = hold {
        draft.status.progress_since = None;
        draft.hold(&hold.reason);
        return draft.rest(hold.standing);
    }
    let hash = binding::template_hash(target, &draft.plan().binding);
    let has_candidate = draft.status.candidate_deployment.is_some();
    if has_candidate && draft.status.template_hash.as_ref() != Some(&hash) {
        return restart(draft, hash);
    }
    if has_candidate {
        let wanted = weights(&draft, target);
        draft = match reach(draft, target, &wanted) {
            ControlFlow::Break(decision) => return decision,
            ControlFlow::Continue(draft) => draft,
        };
    }
    draft.clear_hold();
    let wanted = draft.status.candidate.as_ref().and_then(|side| side.value.as_deref());
    let why = format!("sets the binding of the target to {}", wanted.unwrap_or_default());
    draft.status.progress_since.get_or_insert(Time(draft.o.now));
    let action = bind(&draft, target);
    draft.act("Promoting", why, action)
}

/// Weights at which the candidate carries the full load, while the target is as it was.
pub(super) fn weights(draft: &Draft<'_>, target: &Deployment) -> Weights {
    let shrunk = draft.status.weights.as_ref().filter(|_| back::is_shrunk(draft));
    let whole = full(draft, target);
    Weights {
        asked: 100,
        actual: 0,
        candidate_replicas: whole,
        baseline_replicas: shrunk.map_or(whole, |w| w.baseline_replicas),
    }
}

/// The one write that sets what serves. The replicas that the plan took come back afterwards: a Deployment whose template
/// and replicas change at once gets more pods of the old template first.
fn bind(draft: &Draft<'_>, target: &Deployment) -> Action {
    let side = draft.status.candidate.clone().unwrap_or_default();
    let body = binding::patch(&draft.plan().binding, side.value.as_deref(), side.version.as_deref());
    candidate::patch(target, PatchKind::Strategic, body)
}

/// Records that the target itself carries the version; true if that was not known yet.
pub(super) fn note_takeover(draft: &mut Draft<'_>) -> bool {
    if back::took_over(draft) {
        return false;
    }
    let weights = draft.status.weights.get_or_insert_default();
    weights.asked = 100;
    weights.actual = 100;
    draft.status.progress_since = draft.now();
    true
}

/// The target carries the version: its pods must all be of this generation and ready, first those that the plan left it
/// and then all of them, before the candidate goes.
fn take_over(mut draft: Draft<'_>, target: &Deployment) -> Decision<RolloutStatus> {
    if note_takeover(&mut draft) {
        draft.clear_hold();
        let standing = replacing(&draft);
        return draft.rest(standing);
    }
    if !is_complete(target) {
        if is_paused(target) {
            draft.status.progress_since = None;
            draft.hold("TargetPaused");
            let standing = pending::paused(&draft);
            return draft.rest(standing);
        }
        draft.clear_hold();
        if draft.overdue() {
            let why = back::deadline(&draft);
            return back::begin(draft, &why);
        }
        let standing = replacing(&draft);
        return draft.rest(standing);
    }
    if let Some(action) = back::restore(&draft, target) {
        return draft.act(
            "RestoringReplicas",
            "the target gets all its replicas again".to_owned(),
            action,
        );
    }
    draft.clear_hold();
    match remove_candidate(draft) {
        ControlFlow::Break(decision) => decision,
        ControlFlow::Continue(draft) => promoted(draft),
    }
}

fn replacing(draft: &Draft<'_>) -> Standing {
    let name = &draft.plan().target_ref.name;
    let since = draft.status.progress_since.as_ref().map_or(draft.o.now, |t| t.0);
    let message = format!("Deployment {name} carries the version since {since}: waits until all its pods serve it.");
    Standing::new(Kind::Working, "Promoting", message)
}

/// Takes the candidate away. Continues when it is gone; its pods serve on for the drain time after they left the
/// Service.
pub(super) fn remove_candidate<'a>(draft: Draft<'a>) -> ControlFlow<Decision<RolloutStatus>, Draft<'a>> {
    let ours = draft
        .status
        .candidate_deployment
        .as_ref()
        .is_some_and(|c| c.uid.is_some());
    let message = "Waits until the candidate is gone, whose pods leave the Service first.";
    match draft.twin() {
        Twin::Ours(found) => {
            let why = "removes the candidate, whose pods leave the Service first".to_owned();
            ControlFlow::Break(draft.act("RemovingCandidate", why, candidate::delete(found)))
        }
        Twin::Going if ours => {
            ControlFlow::Break(draft.rest(Standing::new(Kind::Working, "RemovingCandidate", message)))
        }
        _ => ControlFlow::Continue(draft),
    }
}

/// The target has taken the version over.
pub(super) fn took_over(draft: &mut Draft<'_>) {
    let full = draft.target().map_or(0, replicas);
    draft.status.promoted_at = draft.now();
    draft.status.progress_since = None;
    draft.status.candidate_deployment = None;
    draft.status.weights = Some(Weights {
        asked: 100,
        actual: 100,
        candidate_replicas: 0,
        baseline_replicas: full,
    });
}

fn promoted(mut draft: Draft<'_>) -> Decision<RolloutStatus> {
    let observe = draft.plan().observe.duration.as_ref();
    let seconds = observe.and_then(Duration::seconds).unwrap_or(0);
    took_over(&mut draft);
    let version = &draft.o.rollout.spec.model_version_ref.name;
    let name = &draft.plan().target_ref.name;
    if seconds <= 0 {
        let message = format!(
            "ModelVersion {version} serves on Deployment {name} since {}.",
            draft.o.now
        );
        return draft.end(RolloutPhase::Promoted, &Why::new("Promoted", message));
    }
    draft.status.phase = RolloutPhase::Observing;
    let message = format!("ModelVersion {version} serves on Deployment {name} and is watched for {seconds} s.");
    let why = Why::new("Observing", message);
    draft.remember("Observe", &why, None, false);
    draft.rest(Standing::new(Kind::Waiting, why.reason, why.message))
}
