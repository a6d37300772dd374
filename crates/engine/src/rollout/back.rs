//! The way back: one write restores the value, the baseline gets its replicas, the candidate goes.
//!
//! Before anything is taken away, the target gets a mark that makes forward writes outdated which are still on their way.
//!
//! It needs no approval, no metric provider and no level, and nothing stops it. Whatever else it finds in the binding
//! it leaves alone.

use std::ops::ControlFlow;

use flywheel_api::RolloutStatus;
use flywheel_api::names::{ANNOTATION_TAKEN_BY, ANNOTATION_TURNED_BACK};
use flywheel_api::rollout::{BaselineCapacity, RolloutDesiredState, RolloutPhase, Weights};
use k8s_openapi::api::apps::v1::Deployment;
use serde_json::{Value, json};

use super::draft::{Draft, Why};
use super::facts::{Carried, is_complete, is_paused, replicas};
use super::{candidate, promote};
use crate::binding::{self, BindingError};
use crate::decision::{Action, Decision, PatchKind};
use crate::standing::{Kind, Standing, shorten};

/// The decision that leads to outcome Aborted: the candidate got no traffic.
const ABORT: &str = "Abort";
const ROLL_BACK: &str = "RollBack";
const TARGET_GONE: &str = "TargetGone";

/// The Deployment that the Rollout began with is gone.
pub(super) fn target_gone(draft: &Draft<'_>) -> Why {
    let name = &draft.plan().target_ref.name;
    let message = format!("Deployment {name}, with which the Rollout began, was deleted: create another Rollout.");
    Why::new(TARGET_GONE, message)
}

/// The plan's deadline has passed.
pub(super) fn deadline(draft: &Draft<'_>) -> Why {
    let since = draft.status.progress_since.as_ref().map_or(draft.o.now, |t| t.0);
    let seconds = draft.plan().progress_deadline_seconds;
    let message = format!(
        "No progress within {seconds} s (spec.plan.progressDeadlineSeconds) since {since}: pods did not become ready."
    );
    Why::new("ProgressDeadlineExceeded", message)
}

/// People or their deletions want the Rollout to go back.
pub(super) fn wished(draft: &Draft<'_>) -> Option<Why> {
    if draft.is_deleting() {
        return Some(Why::new("Deleted", "The Rollout is being deleted."));
    }
    match draft.o.rollout.spec.desired_state {
        RolloutDesiredState::Abort => Some(Why::new(
            "AbortRequested",
            "Goes back to the baseline, as spec.desiredState asks.",
        )),
        RolloutDesiredState::RollBack => Some(Why::new(
            "RollBackRequested",
            "Goes back to the baseline, as spec.desiredState asks.",
        )),
        RolloutDesiredState::Progress | RolloutDesiredState::Hold | RolloutDesiredState::Promote => {
            draft.pipeline_gone()
        }
    }
}

/// Begins the way back.
pub(super) fn begin(mut draft: Draft<'_>, why: &Why) -> Decision<RolloutStatus> {
    let wished = !matches!(why.reason, TARGET_GONE | "ProgressDeadlineExceeded");
    let unseen = draft.status.phase == RolloutPhase::Preparing && wished;
    draft.remember(if unseen { ABORT } else { ROLL_BACK }, why, None, true);
    draft.status.phase = RolloutPhase::RollingBack;
    draft.status.outcome = None;
    draft.status.finished_at = None;
    draft.status.outcome_reason = shorten(&why.message, 1024);
    draft.status.progress_since = draft.now();
    draft.clear_hold();
    draft.rest(Standing::new(Kind::Working, why.reason, &*why.message))
}

/// Whether the target itself carried the version.
pub(super) fn took_over(draft: &Draft<'_>) -> bool {
    draft.status.weights.as_ref().is_some_and(|w| w.actual == 100)
}

/// Whether the plan took replicas from the baseline. Before a version counts as promoted, its target has them back: how
/// many it has afterwards is its owner's will.
pub(super) fn is_shrunk(draft: &Draft<'_>) -> bool {
    let intended = draft.status.weights.as_ref().map(|w| w.baseline_replicas);
    draft.plan().capacity.baseline == BaselineCapacity::ShrinkWithWeight
        && draft.status.promoted_at.is_none()
        && intended < draft.status.baseline_replicas
}

/// Gives the target the replicas back that the plan took; nothing if it has them.
pub(super) fn restore(draft: &Draft<'_>, target: &Deployment) -> Option<Action> {
    let full = draft.status.baseline_replicas?;
    let missing = is_shrunk(draft) && replicas(target) < full;
    missing.then(|| candidate::scale(target, full))
}

/// What to do on the way back.
pub(super) fn decide(mut draft: Draft<'_>) -> Decision<RolloutStatus> {
    let Some(target) = draft.target() else {
        return leave(draft);
    };
    let carried = draft.carried(target);
    if let Some(taker) = draft.taker(target).filter(|_| !matches!(carried, Carried::Baseline)) {
        return give_way(draft, &taker.name);
    }
    if let Carried::Unreadable(error) = &carried
        && took_over(&draft)
        && let Some(standing) = unreadable(&mut draft, error)
    {
        return draft.rest(standing);
    }
    if matches!(carried, Carried::Candidate) {
        if promote::note_takeover(&mut draft) {
            let message = "The target carries the version; its binding goes back.";
            return draft.rest(Standing::new(Kind::Working, "RollingBack", message));
        }
        return unbind(draft, target);
    }
    if let Some(action) = close(&draft, target) {
        let why = "makes writes outdated that were decided before the way back and may still arrive".to_owned();
        return draft.act("RollingBack", why, action);
    }
    if let Some(action) = restore(&draft, target) {
        return draft.act(
            "RestoringBaseline",
            "the baseline gets all its replicas again".to_owned(),
            action,
        );
    }
    let awaited = took_over(&draft) || is_shrunk(&draft);
    // Past the deadline the candidate goes anyway: its pods may be what the baseline's pods find no room beside.
    if !awaited || is_complete(target) || draft.overdue() {
        return leave(draft);
    }
    let standing = incomplete(&draft, target, Kind::Working);
    draft.rest(standing)
}

/// Another Rollout took the target while the way back was being decided: what the target carries is that one's baseline, or
/// already what it brings. One that has begun and not taken it yet steps back instead.
fn give_way(draft: Draft<'_>, name: &str) -> Decision<RolloutStatus> {
    let message = format!("Rollout {name} took the target over before it went back; roll that one back.");
    draft.end(RolloutPhase::Superseded, &Why::new("Superseded", message))
}

/// Gives the target a new resource version, unless the way back did already: a write that was sent before and hangs
/// would take effect after the Rollout has ended. A foreign value says that somebody else wrote since.
fn close(draft: &Draft<'_>, target: &Deployment) -> Option<Action> {
    let untouched = matches!(draft.carried(target), Carried::Baseline);
    outdate(target, draft.uid()).filter(|_| untouched)
}

/// The target took the version over, and nobody can say where its binding stands now: the way back waits until it can
/// be read. A Rollout that is being deleted waits for that no longer than for pods; then it leaves the target as it is.
fn unreadable(draft: &mut Draft<'_>, error: &BindingError) -> Option<Standing> {
    if !draft.is_deleting() {
        // For the pods the time counts from when the way back can go on.
        draft.status.progress_since = None;
    } else if draft.overdue() {
        return None;
    }
    Some(Standing::new(Kind::Stalled, error.reason(), format!("{error}.")))
}

/// Leaves the UID of what is over on the target, unless it is there: what was decided before is refused.
pub(super) fn outdate(target: &Deployment, uid: &str) -> Option<Action> {
    let annotations = target.metadata.annotations.as_ref();
    let marked = annotations.and_then(|a| a.get(ANNOTATION_TURNED_BACK));
    let outdated = marked.is_some_and(|marked| marked == uid);
    (!outdated).then(|| candidate::patch(target, PatchKind::Merge, mark(uid)))
}

/// Whoever goes back, nobody has taken the target.
fn mark(uid: &str) -> Value {
    json!({ "metadata": { "annotations": { ANNOTATION_TURNED_BACK: uid, ANNOTATION_TAKEN_BY: null } } })
}

fn unbind(draft: Draft<'_>, target: &Deployment) -> Decision<RolloutStatus> {
    let side = draft.status.baseline.clone().unwrap_or_default();
    let shown = side.value.as_deref().unwrap_or("no value");
    let why = format!("sets the binding of the target back to {shown}");
    let mut body = binding::patch(&draft.plan().binding, side.value.as_deref(), side.version.as_deref());
    if let (Some(fields), Value::Object(mark)) = (body.as_object_mut(), mark(draft.uid())) {
        fields.extend(mark);
    }
    let action = candidate::patch(target, PatchKind::Strategic, body);
    draft.act("RollingBack", why, action)
}

fn incomplete(draft: &Draft<'_>, target: &Deployment, kind: Kind) -> Standing {
    let name = &draft.plan().target_ref.name;
    if is_paused(target) {
        let message = format!(
            "Deployment {name} is paused, so its pods cannot go back: run `kubectl rollout resume deployment {name}`."
        );
        return Standing::new(Kind::Stalled, "TargetPaused", message);
    }
    let since = draft.status.progress_since.as_ref().map_or(draft.o.now, |t| t.0);
    let message = format!("Goes back since {since}; waits until all pods of Deployment {name} are ready.");
    if kind == Kind::Stalled {
        Standing::new(kind, "RollBackOverdue", message)
    } else {
        Standing::new(kind, "RollingBack", message)
    }
}

/// Takes the candidate away and ends; a target whose pods still belong to the version keeps the Rollout from ending.
fn leave(draft: Draft<'_>) -> Decision<RolloutStatus> {
    let draft = match promote::remove_candidate(draft) {
        ControlFlow::Break(decision) => return decision,
        ControlFlow::Continue(draft) => draft,
    };
    if let Some(target) = draft.target()
        && took_over(&draft)
        && !is_complete(target)
        && !draft.is_deleting()
    {
        let standing = incomplete(&draft, target, Kind::Stalled);
        return draft.rest(standing);
    }
    end(draft)
}

fn end(mut draft: Draft<'_>) -> Decision<RolloutStatus> {
    let decided = draft
        .status
        .decisions
        .iter()
        .rfind(|d| d.decision == ABORT || d.decision == ROLL_BACK);
    let reason = decided.map_or("", |d| d.reason.as_str());
    let left = match draft.target().map(|t| draft.carried(t)) {
        Some(Carried::Foreign(_)) => Some("The target carries a foreign value, which was left alone."),
        Some(Carried::Unreadable(_)) => {
            Some("The binding of the target cannot be read, so the target was left as it is.")
        }
        _ => None,
    };
    let (outcome, end) = match decided.map(|d| d.decision.as_str()) {
        _ if reason == TARGET_GONE => (RolloutPhase::Failed, "Nothing is left to go back."),
        Some(ABORT) => (RolloutPhase::Aborted, "The candidate got no traffic."),
        _ => (RolloutPhase::RolledBack, "The baseline serves."),
    };
    let message = format!("{} {}", draft.status.outcome_reason, left.unwrap_or(end));
    draft.status.candidate_deployment = None;
    draft.status.weights = Some(Weights {
        baseline_replicas: draft.target().map_or(0, replicas),
        ..Weights::default()
    });
    draft.end(outcome, &Why::new("BackAtBaseline", message))
}
