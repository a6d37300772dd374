//! A lost status: what stands outside of it says where a Rollout was, and that it must not begin again.
//!
//! A Rollout that begins is marked with its baseline before its first effect, and one that finds its version live with
//! that. Together with what the candidate bears and the binding's value that is enough to go on, or to end where
//! going on would repeat what was decided. When it set what serves is not known any more: what later ones left on the
//! target is theirs to say.

use flywheel_api::RolloutStatus;
use flywheel_api::rollout::RolloutPhase;
use k8s_openapi::api::apps::v1::Deployment;

use super::candidate::{self, BaselineNote};
use super::draft::{Draft, Why};
use super::facts::{Carried, Twin};
use super::observation::{self, Peer};
use super::{back, pending, promote};
use crate::binding;
use crate::decision::{Decision, Effect};
use crate::standing::{Kind, Standing};

/// The mark of a Rollout that found its version live: what served before nobody knows.
pub(super) const FOUND_LIVE: &str = "AlreadyLive";

/// What the Rollout was marked with.
pub(super) fn mark<'a>(draft: &Draft<'a>) -> Option<&'a str> {
    observation::mark(&draft.o.rollout)
}

/// What to do with a Rollout that had its turn and whose status knows nothing of it; nothing otherwise.
pub(super) fn decide(mut draft: Draft<'_>) -> Result<Decision<RolloutStatus>, Box<Draft<'_>>> {
    let known = observation::is_known(&draft.status);
    match draft.twin() {
        Twin::Ours(found) if known => {
            let effect = give_back(found);
            return Ok(draft.only(effect));
        }
        Twin::Ours(found) => return Ok(rebuild(draft, found)),
        _ => {}
    }
    let Some(mark) = mark(&draft).filter(|_| !known && !draft.is_deleting()) else {
        return Err(Box::new(draft));
    };
    let note = BaselineNote::read(mark);
    if let Some(why) = pending::outdated(&draft) {
        draft.status.baseline = note.map(|n| n.side);
        return Ok(draft.end(RolloutPhase::Superseded, &why));
    }
    let (Some(target), Some(version)) = (draft.target(), &*draft.o.version) else {
        return Ok(give_up(draft));
    };
    let wanted = binding::wanted(&draft.plan().binding, &version.spec);
    if let Some(why) = redelivered(&draft, target, &wanted) {
        draft.status.baseline = note.map(|n| n.side);
        return Ok(draft.end(RolloutPhase::Superseded, &why));
    }
    Ok(match note {
        Some(note) => resume(draft, target, wanted, note),
        None => found_live(draft, target, wanted),
    })
}

/// What the target carries is the delivery of a later Rollout of the same version, which had found another value there.
/// Its status may be lost as well; then its mark says so.
fn redelivered(draft: &Draft<'_>, target: &Deployment, wanted: &str) -> Option<Why> {
    let live = binding::value(target, &draft.plan().binding).ok().flatten();
    let version = &draft.o.rollout.spec.model_version_ref.name;
    let again = |p: &&Peer| {
        let serves = p.phase == RolloutPhase::Promoting || p.phase.is_delivered();
        let found = p.baseline.as_ref().filter(|_| serves).or(p.lost.as_ref());
        p.version == *version && !draft.is_older(p) && found.is_some_and(|side| side.value != live)
    };
    let later = draft.o.others.iter().find(again)?;
    let message = format!(
        "The status was lost; Rollout {}, which was created later, delivered the version once more.",
        later.name
    );
    (live.as_deref() == Some(wanted)).then(|| Why::new("StatusLost", message))
}

/// The Rollout had begun, and nothing of a candidate is left: it had carried its version to the target, or it is over.
fn resume(mut draft: Draft<'_>, target: &Deployment, wanted: String, note: BaselineNote) -> Decision<RolloutStatus> {
    draft.status.target_uid = target.metadata.uid.clone();
    draft.status.candidate = Some(draft.ours(wanted));
    draft.status.baseline_replicas = Some(note.replicas);
    draft.status.baseline = Some(note.side);
    match draft.carried(target) {
        Carried::Candidate => {}
        Carried::Baseline => return give_up(draft),
        Carried::Foreign(_) | Carried::Unreadable(_) => {
            // Whoever wrote that came later: this Rollout does not say what the target should carry.
            draft.status.target_uid = None;
            return give_up(draft);
        }
    }
    if let Some(other) = at_work(&draft) {
        // One at a time works on a target: the other one could not begin before this one was promoted.
        promote::took_over(&mut draft);
        let message = format!("The status was lost; Rollout {other} has begun since, so this one had been promoted.");
        return draft.end(RolloutPhase::Promoted, &Why::new("StatusLost", message));
    }
    // The candidate went only after the target had all its replicas: how many it has now is its owner's will.
    draft.status.weights.get_or_insert_default().baseline_replicas = note.replicas;
    promote::enter(&mut draft);
    let message = "The status was lost; the target carries the version, so its promotion is finished.";
    draft.remember("Rebuild", &Why::new("StatusLost", message), None, true);
    draft.rest(Standing::new(Kind::Working, "StatusLost", message))
}

/// Another Rollout that has begun: its candidate is there, or it is about to make one, or brings its version without.
fn at_work(draft: &Draft<'_>) -> Option<String> {
    if let Twin::Rival(other) = draft.twin() {
        return Some(other);
    }
    let begun = |p: &&Peer| p.phase.holds_target() && p.baseline.is_some();
    let other = draft.o.others.iter().find(begun)?;
    Some(other.name.clone())
}

/// The Rollout had found its version live: it was never to go forward, whatever serves now.
fn found_live(draft: Draft<'_>, target: &Deployment, wanted: String) -> Decision<RolloutStatus> {
    let live = binding::value(target, &draft.plan().binding).ok().flatten();
    if live.as_ref() == Some(&wanted) {
        return pending::already_live(draft, target, wanted);
    }
    let message = "The status was lost; the Rollout had found its version live, and something else serves since.";
    draft.end(RolloutPhase::Superseded, &Why::new("StatusLost", message))
}

/// Nothing of the Rollout is left on the target: it is over.
fn give_up(draft: Draft<'_>) -> Decision<RolloutStatus> {
    let message = "The Rollout had begun, but its status and its candidate are gone: create another Rollout.";
    draft.end(RolloutPhase::Failed, &Why::new("StatusLost", message))
}

/// The Rollout stepped back while its candidate was being made, by another operator or late: what began is over.
fn give_back(found: &Deployment) -> Effect {
    let why = "removes the candidate of a beginning that was given up".to_owned();
    let action = candidate::delete(found);
    Effect { action, why }
}

/// A candidate of this Rollout exists, but the status does not know of it.
fn rebuild<'a>(mut draft: Draft<'a>, found: &'a Deployment) -> Decision<RolloutStatus> {
    let mark = mark(&draft);
    let Some(whole) = candidate::restore_status(&mut draft, found, mark) else {
        let why = "nobody can say what served before, so the candidate is made anew".to_owned();
        return draft.act("CandidateUnreadable", why, candidate::delete(found));
    };
    let index = draft.status.step.as_ref().map_or(0, |s| s.index);
    let message = format!("The status was lost; the Rollout goes on at step {index}, as its candidate says.");
    let carried = draft.target().map(|t| draft.carried(t));
    if matches!(carried, Some(Carried::Candidate)) {
        promote::enter(&mut draft);
    } else if !whole {
        let message =
            "The status was lost, and what the candidate bears of it cannot be read: goes back to the baseline.";
        return back::begin(draft, &Why::new("CandidateUnreadable", message));
    }
    draft.remember("Rebuild", &Why::new("StatusLost", message.clone()), None, true);
    draft.rest(Standing::new(Kind::Working, "StatusLost", message))
}
