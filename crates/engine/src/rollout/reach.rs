//! Reaching a weight: the candidate is made, scaled and ready, and the baseline shrinks if the plan says so.

use std::ops::ControlFlow;

use flywheel_api::RolloutStatus;
use flywheel_api::names::ANNOTATION_TAKEN_BY;
use flywheel_api::rollout::{BaselineCapacity, RolloutPhase, Weights};
use k8s_openapi::api::apps::v1::Deployment;
use serde_json::json;

use super::draft::Draft;
use super::facts::{Twin, is_complete, replicas};
use super::{back, candidate, pending};
use crate::decision::{Action, Child, Decision, PatchKind};
use crate::standing::{Kind, Standing};

/// What is next on the way to a weight.
enum Next {
    Reached,
    /// Pods are waited for, or the intent is to be recorded.
    Underway,
    Wait(&'static str, String),
    Act(&'static str, String, Action),
    StepBack(String),
}

/// Goes on towards these weights. Continues when they are reached; breaks with what is to be done before, which is
/// going back once the plan's deadline has passed.
pub(super) fn reach<'a>(
    mut draft: Draft<'a>,
    target: &Deployment,
    wanted: &Weights,
) -> ControlFlow<Decision<RolloutStatus>, Draft<'a>> {
    let next = next(&mut draft, target, wanted);
    let decision = match next {
        Next::Reached => return ControlFlow::Continue(draft),
        Next::StepBack(name) => pending::step_back(draft, name),
        Next::Underway | Next::Wait(..) | Next::Act(..) if draft.overdue() => {
            let why = back::deadline(&draft);
            back::begin(draft, &why)
        }
        Next::Underway => {
            draft.clear_hold();
            let standing = underway(&draft);
            draft.rest(standing)
        }
        Next::Wait(reason, message) => {
            draft.clear_hold();
            draft.rest(Standing::new(Kind::Working, reason, message))
        }
        Next::Act(reason, why, action) => {
            draft.clear_hold();
            draft.act(reason, why, action)
        }
    };
    ControlFlow::Break(decision)
}

/// Where a Rollout stands from the time that it leaves a step until the next weight is reached: one sentence for all of
/// the way, so that nothing is written but what was decided and what was reached.
pub(super) fn underway(draft: &Draft<'_>) -> Standing {
    let since = draft.status.progress_since.as_ref().map_or(draft.o.now, |t| t.0);
    let wanted = draft.status.weights.clone().unwrap_or_default();
    let baseline = match draft.plan().capacity.baseline {
        BaselineCapacity::ShrinkWithWeight if wanted.asked < 100 => {
            format!(
                ", then until the baseline has exactly {} ready pods",
                wanted.baseline_replicas
            )
        }
        BaselineCapacity::ShrinkWithWeight | BaselineCapacity::Keep => String::new(),
    };
    let message = format!(
        "Goes to {} % since {since}: waits for {} ready candidate pods{baseline}.",
        wanted.asked, wanted.candidate_replicas
    );
    Standing::new(Kind::Working, "WaitingForPods", message)
}

fn next(draft: &mut Draft<'_>, target: &Deployment, wanted: &Weights) -> Next {
    let name = candidate::name(draft.plan());
    let found = match draft.twin() {
        Twin::None => None,
        Twin::Going => return Next::Wait("CandidateLeaving", format!("Waits until the former {name} is gone.")),
        Twin::Rival(rival) if draft.status.phase == RolloutPhase::Preparing => return Next::StepBack(rival),
        Twin::Rival(_) | Twin::Stranger => {
            let message = format!("Deployment {name} exists and is not this Rollout's: rename or delete it.");
            return Next::Wait("CandidateNameTaken", message);
        }
        Twin::Orphan(orphan) => {
            let why = format!("{name} was left behind by a Rollout that is gone");
            return Next::Act("CandidateOrphaned", why, candidate::delete(orphan));
        }
        Twin::Ours(found) if candidate::is_stale(draft, found) => return discard(draft, target, found),
        Twin::Ours(found) => Some(found),
    };
    if let Some(action) = lost(draft, target, found) {
        let why = "the candidate is gone: makes writes outdated that counted on its pods".to_owned();
        return Next::Act("CandidateLost", why, action);
    }
    // A candidate that is there already is from an attempt before, after which it stepped back.
    if found.is_some() && draft.status.phase == RolloutPhase::Preparing && draft.must_take(target) {
        return take(draft, target);
    }
    if record(draft, wanted, found) {
        return Next::Underway;
    }
    let Some(found) = found else {
        if draft.must_take(target) {
            return take(draft, target);
        }
        let made = candidate::build(draft, target);
        let why = format!("makes {name}, without pods at first");
        return Next::Act(
            "CreatingCandidate",
            why,
            Action::Create(Box::new(Child::Deployment(made))),
        );
    };
    scale(draft, target, found, wanted)
}

/// Marks the target, so that the last Rollout there, should it go back meanwhile, either does it before or leaves it.
fn take(draft: &Draft<'_>, target: &Deployment) -> Next {
    let body = json!({ "metadata": { "annotations": { ANNOTATION_TAKEN_BY: draft.uid() } } });
    let why = "takes the target, whose last Rollout may still go back".to_owned();
    Next::Act("TakingTarget", why, candidate::patch(target, PatchKind::Merge, body))
}

/// The candidate is a copy of a template that is no more; the baseline is whole before the candidate goes.
fn discard(draft: &Draft<'_>, target: &Deployment, found: &Deployment) -> Next {
    if let Some(action) = back::restore(draft, target) {
        return Next::Act("RestoringBaseline", "the candidate is made anew".to_owned(), action);
    }
    if back::is_shrunk(draft) && !is_complete(target) {
        let message = "Waits until the baseline has all its pods, because the candidate is made anew.";
        return Next::Wait("RestoringBaseline", message.to_owned());
    }
    let why = "the target's template changed, so the candidate is made anew".to_owned();
    Next::Act("TemplateChanged", why, candidate::delete(found))
}

/// The candidate went without that the Rollout removed it. A write may be on its way that takes pods from the baseline
/// because the candidate had as many: it must not meet a candidate that is made anew.
fn lost(draft: &Draft<'_>, target: &Deployment, found: Option<&Deployment>) -> Option<Action> {
    let reference = draft.status.candidate_deployment.as_ref().filter(|_| found.is_none())?;
    let shrinks = draft.plan().capacity.baseline == BaselineCapacity::ShrinkWithWeight;
    back::outdate(target, reference.uid.as_deref().filter(|_| shrinks)?)
}

/// The intent and the observed identity, before anything is done with them; whether they were not recorded yet.
fn record(draft: &mut Draft<'_>, wanted: &Weights, found: Option<&Deployment>) -> bool {
    let uid = found.and_then(|f| f.metadata.uid.clone());
    let reference = draft.status.candidate_deployment.get_or_insert_default();
    let known = reference.uid == uid && !reference.name.is_empty();
    reference.name = candidate::name(&draft.o.rollout.spec.plan);
    reference.uid = uid;
    if found.is_some() && draft.status.phase == RolloutPhase::Preparing {
        draft.status.phase = RolloutPhase::Progressing;
    }
    !draft.head_for(wanted) || !known
}

fn scale(draft: &Draft<'_>, target: &Deployment, found: &Deployment, wanted: &Weights) -> Next {
    let count = wanted.candidate_replicas;
    let shrinks = draft.plan().capacity.baseline == BaselineCapacity::ShrinkWithWeight;
    // Steps begin anew with a smaller share: pods that the candidate gives up are the baseline's before.
    if shrinks && replicas(found) > count {
        if replicas(target) < wanted.baseline_replicas {
            let why = format!(
                "the candidate is to shrink, so the baseline gets {} replicas before",
                wanted.baseline_replicas
            );
            return Next::Act(
                "RestoringBaseline",
                why,
                candidate::scale(target, wanted.baseline_replicas),
            );
        }
        if !is_complete(target) {
            return Next::Underway;
        }
    }
    if let Some(action) = candidate::align(draft, found, count) {
        return Next::Act(
            "ScalingCandidate",
            format!("scales the candidate to {count} replicas"),
            action,
        );
    }
    if !candidate::is_ready(found, count) {
        return Next::Underway;
    }
    if !shrinks {
        return Next::Reached;
    }
    let baseline = wanted.baseline_replicas;
    if replicas(target) != baseline {
        let why = format!("the candidate is ready, so the baseline shrinks to {baseline} replicas");
        return Next::Act("ShrinkingBaseline", why, candidate::scale(target, baseline));
    }
    if !is_complete(target) {
        return Next::Underway;
    }
    Next::Reached
}
