//! Conditions: their types and reasons, which are part of the API, and how they are set and compared.
//!
//! Deliberately without a clock: the time of a transition comes in as an argument.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The summary: nothing is wrong and nothing is being worked on; waiting for a person, time or data is Ready.
pub const READY: &str = "Ready";
/// The machine works towards the spec (kstatus: in progress). Only present while true.
pub const RECONCILING: &str = "Reconciling";
/// The machine cannot go on without a change from outside (kstatus: failed). Only present while true.
pub const STALLED: &str = "Stalled";
/// The spec was understood and is supported.
pub const ACCEPTED: &str = "Accepted";
/// A run or Rollout has ended; the reason is its outcome.
pub const COMPLETE: &str = "Complete";
/// A person's decision is waited for.
pub const AWAITING_APPROVAL: &str = "AwaitingApproval";
/// A run waits for room: other runs of its namespace take all that the administrator allows. Only present while true.
pub const WAITING_FOR_ROOM: &str = "WaitingForRoom";
/// There is room, and a run lets those that were created earlier take it first, each for a minute. Only present while true.
pub const YIELDS_ROOM: &str = "YieldsRoom";
/// Nobody can say what serves on the target of a pipeline: the live version that it shows, if any, is the one that was seen
/// last. Only present while true.
pub const LIVE_VERSION_UNKNOWN: &str = "LiveVersionUnknown";
/// The live version is younger than `cadence.maxInterval`.
pub const FRESH: &str = "Fresh";
/// The last run ended without failure.
pub const LAST_RUN_SUCCEEDED: &str = "LastRunSucceeded";
/// The target carries the value that the Rollout expects in its binding.
pub const TARGET_BOUND: &str = "TargetBound";
/// The version serves on some target.
pub const LIVE: &str = "Live";
/// A Rollout would go back to the version.
pub const ROLLBACK_TARGET: &str = "RollbackTarget";
/// All checks of the Rollout pass.
pub const CHECKS_PASSING: &str = "ChecksPassing";
/// The administrator stopped every forward decision.
pub const BRAKED: &str = "Braked";

/// A condition to be set: everything but the time of its transition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Condition type, one of this module's constants.
    pub type_: &'static str,
    /// True, false or unknown (nothing).
    pub status: Option<bool>,
    /// UpperCamelCase reason for machines.
    pub reason: String,
    /// One sentence for people: what is so, since when, and what to do.
    pub message: String,
}

impl Setting {
    /// A condition that is true.
    #[must_use]
    pub fn yes(type_: &'static str, reason: &str, message: impl Into<String>) -> Self {
        Self {
            type_,
            status: Some(true),
            reason: reason.to_owned(),
            message: message.into(),
        }
    }

    /// A condition that is false.
    #[must_use]
    pub fn no(type_: &'static str, reason: &str, message: impl Into<String>) -> Self {
        Self {
            type_,
            status: Some(false),
            reason: reason.to_owned(),
            message: message.into(),
        }
    }
}

fn status_text(status: Option<bool>) -> &'static str {
    match status {
        Some(true) => "True",
        Some(false) => "False",
        None => "Unknown",
    }
}

/// The new list of conditions: exactly `settings`, in their order; a condition keeps its transition time while its
/// status stays the same. Types that `settings` does not name vanish.
#[must_use]
pub fn replace(old: &[Condition], settings: &[Setting], generation: Option<i64>, now: Timestamp) -> Vec<Condition> {
    settings
        .iter()
        .map(|s| {
            let status = status_text(s.status);
            let since = old
                .iter()
                .find(|c| c.type_ == s.type_ && c.status == status)
                .map_or(Time(now), |c| c.last_transition_time.clone());
            Condition {
                type_: s.type_.to_owned(),
                status: status.to_owned(),
                reason: s.reason.clone(),
                message: bounded(&s.message),
                observed_generation: generation,
                last_transition_time: since,
            }
        })
        .collect()
}

/// Messages are cut at 1,024 characters: the schema and `kubectl describe` have bounds.
fn bounded(message: &str) -> String {
    if message.chars().count() <= 1024 {
        message.to_owned()
    } else {
        message.chars().take(1023).chain(['…']).collect()
    }
}

/// The condition of that type.
#[must_use]
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.type_ == type_)
}

/// Whether the condition of that type is there and true.
#[must_use]
pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
    find(conditions, type_).is_some_and(|c| c.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap_or_default()
    }

    #[test]
    fn transition_time_moves_only_when_the_status_changes() {
        let first = replace(&[], &[Setting::yes(READY, "Idle", "Waits.")], Some(1), at(10));
        let same = replace(&first, &[Setting::yes(READY, "Running", "Runs.")], Some(1), at(20));
        assert_eq!(same[0].last_transition_time, Time(at(10)));
        let other = replace(&same, &[Setting::no(READY, "Broken", "Broke.")], Some(1), at(30));
        assert_eq!(other[0].last_transition_time, Time(at(30)));
    }

    #[test]
    fn long_messages_are_cut_on_a_character() {
        let c = replace(&[], &[Setting::yes(READY, "Idle", "é".repeat(2000))], None, at(0));
        assert_eq!(c[0].message.chars().count(), 1024);
    }
}
