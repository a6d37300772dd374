//! I14, as far as it concerns safety: a Rollout goes only when nothing of it is left on its target.
//!
//! Judged are the operator's writes that take Flywheel's finalizer off a Rollout: somebody had asked for its deletion,
//! its phase is not one in which it is at work, and no candidate of its own exists that is not being deleted itself.
//! A candidate that came into being in the moments before may be the late effect of a request that was sent earlier.
//! One that the operator cannot read may go in any phase, once it says so.
//!
//! That a deletion ends in time is judged in `overdue.rs`, and what becomes of Jobs in `orphans.rs`. For what a version is
//! kept is not judged: it is also let go because its namespace ends, which the history does not hold.

use flywheel_api::names;

use super::json::{label, list, text, uid};
use super::moments::just_before;
use super::overdue::is_invalid;
use super::{Finding, Kind, Rule, Step, World};

const I14: &str = "I14";

/// Phases in which a Rollout has something on its target.
const AT_WORK: [&str; 5] = ["Preparing", "Progressing", "Holding", "Promoting", "RollingBack"];

/// Rollouts that go.
#[derive(Debug, Default)]
pub struct Leaving;

impl Rule for Leaving {
    fn step(&mut self, world: &World, step: &Step) -> Vec<Finding> {
        let guarded = |object| {
            list(object, "/metadata/finalizers")
                .iter()
                .any(|f| f == names::FINALIZER_ROLLOUT)
        };
        let lets_go = step.operator && guarded(step.earlier()) && !guarded(step.later());
        if step.key.kind != Kind::Rollout || !lets_go {
            return Vec::new();
        }
        left_behind(world, step).into_iter().collect()
    }
}

fn left_behind(world: &World, step: &Step) -> Option<Finding> {
    let rollout = step.earlier();
    if step.after.is_some() && text(step.later(), "/metadata/deletionTimestamp").is_empty() {
        let message = format!(
            "the operator takes its finalizer off {}, which nobody deleted",
            step.key
        );
        return Some(Finding::new(I14, message));
    }
    let phase = text(rollout, "/status/phase");
    if AT_WORK.contains(&phase) && !is_invalid(rollout) {
        let message = format!("the operator lets {} go in phase {phase}", step.key);
        return Some(Finding::new(I14, message));
    }
    let mut all = world.all(Kind::Deployment, &step.key.namespace);
    let (candidate, _) = all.find(|(_, o)| {
        label(o, names::LABEL_ROLLOUT_UID) == uid(rollout)
            && text(o, "/metadata/deletionTimestamp").is_empty()
            && !just_before(text(o, "/metadata/creationTimestamp"), &step.at)
    })?;
    let message = format!(
        "the operator lets {} go while its candidate {candidate} is left",
        step.key
    );
    Some(Finding::new(I14, message).about(candidate))
}
