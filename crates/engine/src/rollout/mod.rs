//! The decision on a Rollout: from what was observed to at most one write.
//!
//! A Rollout holds its target from the moment its beginning is recorded until the version is promoted or the baseline
//! is back. The order is always the same: the stored status names the intent, then the effect is done, then the next
//! observation shows it. Going back needs no approval, no metric and no level, and neither brake nor hold stop it.
//! A value in the binding that is neither the recorded baseline's nor ours is never overwritten.

mod approve;
mod back;
mod candidate;
mod check;
mod done;
mod draft;
mod evidence;
mod facts;
mod lost;
mod observation;
mod observe;
mod pending;
mod prepare;
mod promote;
mod query;
mod reach;
mod show;
mod step;

use flywheel_api::names::ANNOTATION_ADOPT;
use flywheel_api::rollout::{RolloutDesiredState, RolloutPhase};
use flywheel_api::{Rollout, RolloutStatus};

pub use candidate::{ANNOTATION_BASELINE, LABEL_STEP, name as candidate_name};
pub use evidence::adoption_digest;
pub use observation::{Answer, Peer, PipelineFacts, Reading, RolloutObservation};
pub use query::{due_checks, query};

use crate::decision::Decision;
use draft::Draft;

/// Whether the decision may have to name the version of a value that it finds on the target, for which it must know all
/// versions: before the beginning, and when a person takes another value as the baseline.
#[must_use]
pub fn names_sides(rollout: &Rollout) -> bool {
    let phase = rollout.status.as_ref().map(|s| s.phase).unwrap_or_default();
    let annotations = rollout.metadata.annotations.as_ref();
    matches!(phase, RolloutPhase::Pending | RolloutPhase::Queued)
        || annotations.is_some_and(|a| a.contains_key(ANNOTATION_ADOPT))
}

/// Whether it has not ended.
#[must_use]
pub fn is_open(rollout: &Rollout) -> bool {
    rollout.status.as_ref().is_none_or(|s| !s.phase.is_terminal())
}

/// Whether other Rollouts of its target may move it: until its end, and while a person wants its promoted version taken
/// back, which may have to wait for a later one that goes back.
#[must_use]
pub fn heeds_others(rollout: &Rollout) -> bool {
    let asked = rollout.spec.desired_state == RolloutDesiredState::RollBack;
    is_open(rollout) || (asked && rollout.status.as_ref().is_some_and(came_to_serve))
}

/// Whether its version came to serve, so that a person may want it taken back. Of a Rollout that ended as Superseded
/// while it was watched it did, of one that never began it did not.
fn came_to_serve(status: &RolloutStatus) -> bool {
    status.phase.has_delivered() && status.promoted_at.is_some()
}

/// Whether the Deployment of that name is the Rollout's target or its candidate. It is asked of every Rollout whenever a
/// Deployment changes.
#[must_use]
pub fn is_side(rollout: &Rollout, deployment: &str) -> bool {
    let target = &rollout.spec.plan.target_ref.name;
    deployment == target || deployment.strip_suffix(candidate::SUFFIX) == Some(target)
}

/// What to do for this Rollout now: record, do one effect, or wait.
#[must_use]
pub fn decide(o: &RolloutObservation) -> Decision<RolloutStatus> {
    let draft = Draft::new(o);
    if let Some(effect) = prepare::prepare(&draft) {
        return draft.only(effect);
    }
    match draft.status.phase {
        RolloutPhase::Pending | RolloutPhase::Queued => pending::decide(draft),
        RolloutPhase::Preparing | RolloutPhase::Progressing | RolloutPhase::Holding => step::decide(draft),
        RolloutPhase::Promoting => promote::decide(draft),
        RolloutPhase::Observing => observe::decide(draft),
        RolloutPhase::RollingBack => back::decide(draft),
        RolloutPhase::Promoted
        | RolloutPhase::RolledBack
        | RolloutPhase::Aborted
        | RolloutPhase::Superseded
        | RolloutPhase::Failed => done::decide(draft),
    }
}
