//! Watching the promoted version: a failed check takes it back, a newer Rollout ends the watch.

use flywheel_api::RolloutStatus;
use flywheel_api::rollout::{RolloutDesiredState, RolloutPhase};
use flywheel_api::schema::Duration;
use k8s_openapi::api::apps::v1::Deployment;

use super::check::{self, Failing};
use super::draft::{Draft, Why, later};
use super::facts::Carried;
use super::{back, done};
use crate::decision::Decision;
use crate::standing::{Kind, Standing};

/// What to do while the promoted version is watched.
pub(super) fn decide(mut draft: Draft<'_>) -> Decision<RolloutStatus> {
    if draft.is_deleting() {
        return done::let_go(draft);
    }
    let Some(target) = draft.target() else {
        let why = back::target_gone(&draft);
        return draft.end(RolloutPhase::Failed, &why);
    };
    if let Some(peer) = draft.successor() {
        let message = format!(
            "Rollout {} took the target over while this version was watched.",
            peer.name
        );
        return draft.end(RolloutPhase::Superseded, &Why::new("Superseded", message));
    }
    match draft.o.rollout.spec.desired_state {
        RolloutDesiredState::RollBack | RolloutDesiredState::Abort => {
            let why = Why::new(
                "RollBackRequested",
                "Goes back to the baseline, as spec.desiredState asks.",
            );
            return back::begin(draft, &why);
        }
        RolloutDesiredState::Progress | RolloutDesiredState::Hold | RolloutDesiredState::Promote => {}
    }
    check::take(&mut draft);
    check::wake(&mut draft);
    match check::failing(&draft) {
        Some(Failing::RollBack(why)) => return back::begin(draft, &why),
        Some(Failing::Hold(why)) => {
            draft.hold(why.reason);
            return draft.rest(Standing::new(Kind::Waiting, why.reason, why.message));
        }
        None => {}
    }
    match draft.carried(target) {
        Carried::Candidate => watch(draft),
        Carried::Foreign(live) => drifted(draft, target, live.as_deref()),
        Carried::Baseline => {
            let live = draft.status.baseline.as_ref().and_then(|b| b.value.clone());
            drifted(draft, target, live.as_deref())
        }
        Carried::Unreadable(error) => {
            draft.hold(error.reason());
            draft.rest(Standing::new(Kind::Stalled, error.reason(), format!("{error}.")))
        }
    }
}

fn drifted(mut draft: Draft<'_>, target: &Deployment, live: Option<&str>) -> Decision<RolloutStatus> {
    if draft.is_adopted(live) {
        let message = "Another value was adopted as what serves; this version is not watched any more.";
        return draft.end(RolloutPhase::Superseded, &Why::new("Adopted", message));
    }
    let why = draft.drift(target);
    draft.hold(why.reason);
    draft.rest(Standing::new(Kind::Waiting, why.reason, why.message))
}

fn watch(mut draft: Draft<'_>) -> Decision<RolloutStatus> {
    let length = draft.plan().observe.duration.as_ref();
    let seconds = length.and_then(Duration::seconds).unwrap_or(0);
    let promoted = draft.status.promoted_at.as_ref().map_or(draft.o.now, |t| t.0);
    let end = later(promoted, seconds).unwrap_or(draft.o.now);
    let hurried = draft.o.rollout.spec.desired_state == RolloutDesiredState::Promote;
    if end > draft.o.now && !hurried {
        draft.wake(Some(end));
        draft.clear_hold();
        let message = format!("The version serves since {promoted} and is watched until {end}.");
        return draft.rest(Standing::new(Kind::Waiting, "Observing", message));
    }
    if let Some(message) = check::open(&draft) {
        draft.hold("Inconclusive");
        let message = format!("The watch should have ended at {end}, but not all checks pass. {message}");
        return draft.rest(Standing::new(Kind::Waiting, "Inconclusive", message));
    }
    let message = format!(
        "The version serves since {promoted}; nothing spoke against it until {}.",
        draft.o.now
    );
    draft.end(RolloutPhase::Promoted, &Why::new("Promoted", message))
}
