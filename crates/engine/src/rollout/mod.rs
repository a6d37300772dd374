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
mod promote;
mod query;
mod reach;
mod show;
mod step;

use flywheel_api::RolloutStatus;
use flywheel_api::rollout::RolloutPhase;

pub use candidate::{ANNOTATION_BASELINE, ANNOTATION_STEP};
pub use evidence::adoption_digest;
pub use observation::{Answer, Peer, PipelineFacts, Reading, RolloutObservation};
pub use query::{due_checks, query};

use crate::decision::Decision;
use draft::Draft;

/// What to do for this Rollout now: record, do one effect, or wait.
#[must_use]
pub fn decide(o: &RolloutObservation) -> Decision<RolloutStatus> {
    let draft = Draft::new(o);
    if let Some(effect) = done::guard(&draft).or_else(|| lost::mark(&draft)) {
        return Decision::Do(effect);
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
