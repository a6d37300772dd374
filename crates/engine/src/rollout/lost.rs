//! A lost status: what stands outside of it says where a Rollout was, and that it must not begin again.
//!
//! A Rollout that begins is marked with its baseline before its first effect. Together with the candidate's annotations
//! and the binding's value that is enough to go on, or to end where going on would repeat what was decided.

use flywheel_api::RolloutStatus;
use flywheel_api::names::ANNOTATION_BEGUN;
use flywheel_api::rollout::RolloutPhase;
use k8s_openapi::api::apps::v1::Deployment;

use super::candidate::{self, BaselineNote};
use super::draft::{Draft, Why};
use super::facts::{Carried, Twin};
use super::promote;
use crate::binding;
use crate::decision::{Decision, Effect};
use crate::standing::{Kind, Standing};

/// The baseline that the Rollout was marked with.
pub(super) fn note(draft: &Draft<'_>) -> Option<BaselineNote> {
    let annotations = draft.o.rollout.metadata.annotations.as_ref()?;
    serde_json::from_str(annotations.get(ANNOTATION_BEGUN)?).ok()
}

/// What to do with a Rollout that has begun and whose status knows nothing of it; nothing otherwise.
pub(super) fn decide(mut draft: Draft<'_>) -> Result<Decision<RolloutStatus>, Box<Draft<'_>>> {
    let known = !draft.status.decisions.is_empty() || !draft.status.conditions.is_empty();
    match draft.twin() {
        Twin::Ours(found) if known => return Ok(give_back(found)),
        Twin::Ours(found) => return Ok(rebuild(draft, found)),
        _ => {}
    }
    let Some(note) = note(&draft).filter(|_| !known && !draft.is_deleting()) else {
        return Err(Box::new(draft));
    };
    let (Some(target), Some(version)) = (draft.target(), &*draft.o.version) else {
        return Ok(give_up(draft));
    };
    let wanted = binding::wanted(&draft.plan().binding, &version.spec);
    draft.status.target_uid = target.metadata.uid.clone();
    draft.status.candidate = Some(draft.ours(wanted));
    draft.status.baseline_replicas = Some(note.replicas);
    draft.status.baseline = Some(note.side);
    if !matches!(draft.carried(target), Carried::Candidate) {
        return Ok(give_up(draft));
    }
    if let Twin::Rival(other) = draft.twin() {
        // One at a time works on a target: the other one could not begin before this one was promoted.
        promote::took_over(&mut draft);
        let message = format!("The status was lost; Rollout {other} has begun since, so this one had been promoted.");
        return Ok(draft.end(RolloutPhase::Promoted, &Why::new("StatusLost", message)));
    }
    promote::enter(&mut draft);
    let message = "The status was lost; the target carries the version, so its promotion is finished.";
    draft.remember("Rebuild", &Why::new("StatusLost", message), None, true);
    Ok(draft.rest(Standing::new(Kind::Working, "StatusLost", message)))
}

/// Nothing of the Rollout is left on the target: it is over.
fn give_up(draft: Draft<'_>) -> Decision<RolloutStatus> {
    let message = "The Rollout had begun, but its status and its candidate are gone: create another Rollout.";
    draft.end(RolloutPhase::Failed, &Why::new("StatusLost", message))
}

/// The Rollout stepped back while its candidate was being made, by another operator or late: what began is over.
fn give_back(found: &Deployment) -> Decision<RolloutStatus> {
    let why = "removes the candidate of a beginning that was given up".to_owned();
    let action = candidate::delete(found);
    Decision::Do(Effect { action, why })
}

/// A candidate of this Rollout exists, but the status does not know of it.
fn rebuild<'a>(mut draft: Draft<'a>, found: &'a Deployment) -> Decision<RolloutStatus> {
    if !candidate::restore_status(&mut draft, found) {
        let why = "the candidate's annotations cannot be read, so it is made anew".to_owned();
        return draft.act("CandidateUnreadable", why, candidate::delete(found));
    }
    let index = draft.status.step.as_ref().map_or(0, |s| s.index);
    let message = format!("The status was lost; the Rollout goes on at step {index}, as its candidate says.");
    let carried = draft.target().map(|t| draft.carried(t));
    if matches!(carried, Some(Carried::Candidate)) {
        promote::enter(&mut draft);
    }
    draft.remember("Rebuild", &Why::new("StatusLost", message.clone()), None, true);
    draft.rest(Standing::new(Kind::Working, "StatusLost", message))
}
