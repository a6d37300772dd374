//! Which checks are due, and the queries that are sent for them.

use flywheel_api::Rollout;
use flywheel_api::rollout::{CheckSpec, RolloutDesiredState, RolloutPhase, RolloutStatus};
use jiff::{SignedDuration, Timestamp};

/// Checks that are to be asked now: those that apply at this step and whose interval has passed. None while the Rollout
/// is told to go back, which no provider may delay.
#[must_use]
pub fn due_checks(rollout: &Rollout, now: Timestamp) -> Vec<&CheckSpec> {
    let Some(status) = &rollout.status else {
        return Vec::new();
    };
    let back = match rollout.spec.desired_state {
        RolloutDesiredState::RollBack => true,
        RolloutDesiredState::Abort => status.phase != RolloutPhase::Observing,
        _ => false,
    };
    if back || rollout.metadata.deletion_timestamp.is_some() {
        return Vec::new();
    }
    applicable(rollout, status)
        .filter(|check| due_at(check, status).is_some_and(|due| due <= now))
        .collect()
}

/// Checks that count now: while a step is held those whose `fromStep` is reached, while the version is watched all.
pub(super) fn applicable<'a>(rollout: &'a Rollout, status: &RolloutStatus) -> impl Iterator<Item = &'a CheckSpec> {
    let plan = &rollout.spec.plan;
    let reached = match status.phase {
        RolloutPhase::Holding => status.step.as_ref().map(|s| s.index),
        RolloutPhase::Observing => Some(i32::MAX),
        _ => None,
    };
    plan.checks.iter().filter(move |check| {
        let from = check
            .from_step
            .as_ref()
            .and_then(|name| plan.strategy.steps.iter().position(|s| s.name == *name));
        reached.is_some_and(|r| i32::try_from(from.unwrap_or(0)).is_ok_and(|from| from <= r))
    })
}

/// When a check is asked next: at once if it was not asked since the weight was reached.
pub(super) fn due_at(check: &CheckSpec, status: &RolloutStatus) -> Option<Timestamp> {
    let since = since(status)?;
    match status.checks.iter().find(|c| c.name == check.name) {
        Some(last) if last.at.0 >= since => {
            let interval = check.interval.seconds().unwrap_or(30).max(1);
            last.at.0.checked_add(SignedDuration::from_secs(interval)).ok()
        }
        Some(_) | None => Some(since),
    }
}

/// Since when the current traffic is judged.
pub(super) fn since(status: &RolloutStatus) -> Option<Timestamp> {
    match status.phase {
        RolloutPhase::Observing => status.promoted_at.as_ref().map(|t| t.0),
        _ => status.step.as_ref().and_then(|s| s.entered_at.as_ref()).map(|t| t.0),
    }
}

/// The query with the names of both sides, the namespace and the time since the step began filled in.
#[must_use]
pub fn query(text: &str, rollout: &Rollout, now: Timestamp) -> String {
    let status = rollout.status.clone().unwrap_or_default();
    let baseline = status
        .baseline
        .as_ref()
        .and_then(|b| b.version.as_deref())
        .unwrap_or("none");
    // A range of zero seconds is refused by Prometheus.
    let seconds = since(&status).map_or(1, |s| now.duration_since(s).as_secs().max(1));
    text.replace("$candidate", &rollout.spec.model_version_ref.name)
        .replace("$namespace", rollout.metadata.namespace.as_deref().unwrap_or_default())
        .replace("$baseline", baseline)
        .replace("$since", &format!("{seconds}s"))
}
