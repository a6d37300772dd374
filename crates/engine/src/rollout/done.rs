//! The end: what is left behind is removed, the finalizer lets go, and a person may still ask for the way back.

use flywheel_api::RolloutStatus;
use flywheel_api::names::FINALIZER_ROLLOUT;
use flywheel_api::rollout::RolloutDesiredState;
use serde_json::{Value, json};

use super::draft::{Draft, Why};
use super::facts::{Carried, Twin};
use super::{back, came_to_serve, candidate, show};
use crate::decision::{Action, ChildKind, Decision, Effect, ObjectKey, Patch, PatchKind, Wait};

fn set_finalizers(draft: &Draft<'_>, finalizers: &[String], why: String) -> Effect {
    patch(draft, json!({ "metadata": { "finalizers": finalizers } }), why)
}

/// Changes the Rollout itself.
pub(super) fn patch(draft: &Draft<'_>, body: Value, why: String) -> Effect {
    let metadata = &draft.o.rollout.metadata;
    let action = Action::Patch(Box::new(Patch {
        object: ObjectKey {
            kind: ChildKind::Rollout,
            name: draft.name().to_owned(),
            uid: draft.uid().to_owned(),
            resource_version: metadata.resource_version.clone(),
        },
        body,
        kind: PatchKind::Merge,
    }));
    Effect { action, why }
}

/// Lets a deleted Rollout vanish, once no candidate of its own is left.
pub(super) fn let_go(draft: Draft<'_>) -> Decision<RolloutStatus> {
    if let Twin::Ours(found) = draft.twin() {
        let why = "the Rollout is being deleted and its candidate is left".to_owned();
        let action = candidate::delete(found);
        return draft.only(Effect { action, why });
    }
    let metadata = &draft.o.rollout.metadata;
    let finalizers = metadata.finalizers.clone().unwrap_or_default();
    let (ours, others): (Vec<_>, Vec<_>) = finalizers.into_iter().partition(|f| f == FINALIZER_ROLLOUT);
    if ours.is_empty() {
        return Decision::Wait(Wait {
            until: None,
            reason: "the Rollout is being deleted".to_owned(),
        });
    }
    let why = "nothing of the Rollout is left on the target".to_owned();
    let effect = set_finalizers(&draft, &others, why);
    draft.only(effect)
}

/// What to do after the end.
pub(super) fn decide(draft: Draft<'_>) -> Decision<RolloutStatus> {
    if draft.is_deleting() {
        return let_go(draft);
    }
    let standing = show::ended(&draft.status);
    if let Twin::Ours(found) = draft.twin() {
        let why = "the Rollout has ended and its candidate is left".to_owned();
        return draft.clean(standing, candidate::delete(found), why);
    }
    let asked = draft.o.rollout.spec.desired_state == RolloutDesiredState::RollBack;
    if !asked || !came_to_serve(&draft.status) {
        return draft.rest(standing);
    }
    let Some(obstacle) = irrevocable(&draft) else {
        let why = Why::new(
            "RollBackRequested",
            "Goes back to the baseline after promotion, as spec.desiredState asks.",
        );
        return back::begin(draft, &why);
    };
    let mut standing = standing;
    standing.message = format!("{} It cannot be rolled back: {obstacle}", standing.message);
    draft.rest(standing)
}

/// Why a promoted version cannot be taken back by its own Rollout.
fn irrevocable(draft: &Draft<'_>) -> Option<String> {
    let version = &draft.o.rollout.spec.model_version_ref.name;
    let taker = || draft.target().and_then(|target| draft.taker(target));
    if let Some(peer) = draft.successor().or_else(taker) {
        return Some(format!(
            "Rollout {} took the target over later; roll that one back.",
            peer.name
        ));
    }
    if draft.status.baseline.is_none() {
        let message =
            format!("what served before {version} is not known; create a Rollout to the version that should.");
        return Some(message);
    }
    let Some(target) = draft.target() else {
        return Some("its target was deleted.".to_owned());
    };
    let ours = matches!(draft.carried(target), Carried::Candidate);
    (!ours).then(|| "the target does not carry its value any more.".to_owned())
}
