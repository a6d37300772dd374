//! The words in which everything is said: times, durations, and where an object stands.

use flywheel_api::condition::{self, find};
use flywheel_api::model_version::VersionState;
use flywheel_api::reference::{Verdict, WaitingFor};
use flywheel_api::rollout::RolloutPhase;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, Time};

use crate::paper::Tone;

/// A number of seconds as kubectl prints ages: `41s`, `5m3s`, `2h`, `3d`.
#[must_use]
pub fn length(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        ..0 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        120..600 => match seconds % 60 {
            0 => format!("{minutes}m"),
            rest => format!("{minutes}m{rest}s"),
        },
        600..10_800 => format!("{minutes}m"),
        10_800..172_800 => format!("{hours}h"),
        _ => format!("{days}d"),
    }
}

/// Time between two moments.
#[must_use]
pub fn between(from: &Time, to: &Time) -> String {
    length(to.0.as_second() - from.0.as_second())
}

/// Time since a moment.
#[must_use]
pub fn since(from: &Time, now: Timestamp) -> String {
    length(now.as_second() - from.0.as_second())
}

/// Age of an object.
#[must_use]
pub fn age(metadata: &ObjectMeta, now: Timestamp) -> String {
    metadata
        .creation_timestamp
        .as_ref()
        .map_or_else(String::new, |at| since(at, now))
}

/// A length of time as people write it, such as `90s`, `1h30m` or `7d`, in seconds.
#[must_use]
pub fn seconds(text: &str) -> Option<i64> {
    match text.strip_suffix('d') {
        Some(days) => days.parse::<i64>().ok()?.checked_mul(86_400),
        None => flywheel_api::schema::Duration::from(text).seconds(),
    }
    .filter(|seconds| *seconds > 0)
}

/// The first twelve digits of a digest: enough to compare by eye.
#[must_use]
pub fn short(digest: &str) -> String {
    match digest.strip_prefix("sha256:") {
        Some(hex) => format!("sha256:{}", hex.chars().take(12).collect::<String>()),
        None => digest.to_owned(),
    }
}

/// Where an object stands, as its conditions say it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// What it means.
    pub tone: Tone,
    /// One word for machines.
    pub reason: String,
    /// One sentence for people.
    pub message: String,
    /// Since when.
    pub since: Option<Time>,
}

/// Reads the conditions in the order in which they matter: an end, a stop, a wait, work, readiness.
#[must_use]
pub fn standing(metadata: &ObjectMeta, observed_generation: i64, conditions: &[Condition]) -> Standing {
    if metadata.deletion_timestamp.is_some() {
        return Standing {
            tone: Tone::Busy,
            reason: "Terminating".to_owned(),
            message: "It is being deleted.".to_owned(),
            since: metadata.deletion_timestamp.clone(),
        };
    }
    let of = |c: &Condition, tone: Tone| Standing {
        tone,
        reason: c.reason.clone(),
        message: c.message.clone(),
        since: Some(c.last_transition_time.clone()),
    };
    let holds = |type_: &str| find(conditions, type_).filter(|c| c.status == "True");
    if let Some(end) = holds(condition::COMPLETE) {
        return of(end, outcome(&end.reason));
    }
    let order = [
        (condition::STALLED, Tone::Bad),
        (condition::BRAKED, Tone::Waits),
        (condition::AWAITING_APPROVAL, Tone::Waits),
        (condition::RECONCILING, Tone::Busy),
    ];
    if let Some((found, tone)) = order.iter().find_map(|(type_, tone)| Some((holds(type_)?, *tone))) {
        return of(found, tone);
    }
    match find(conditions, condition::READY) {
        Some(ready) if ready.status == "True" => of(ready, rest(&ready.reason)),
        Some(ready) => of(ready, Tone::Busy),
        None if observed_generation < 0 || conditions.is_empty() => Standing {
            tone: Tone::Busy,
            reason: "Unobserved".to_owned(),
            message: "The operator has not looked at it yet: does it run, and does it watch this namespace?".to_owned(),
            since: metadata.creation_timestamp.clone(),
        },
        None => Standing::default(),
    }
}

/// Ready with one of these reasons means that time or data is waited for.
fn rest(reason: &str) -> Tone {
    match reason {
        "Idle" | "Registered" | "OnRequest" | "Suspended" | "Observing" | "Accepted" => Tone::Good,
        "Running" | "RollingOut" => Tone::Busy,
        _ => Tone::Waits,
    }
}

fn outcome(reason: &str) -> Tone {
    match reason {
        "Promoted" | "Registered" => Tone::Good,
        "Superseded" | "Skipped" | "Cancelled" => Tone::Quiet,
        _ => Tone::Bad,
    }
}

/// What a verdict means; only Pass lets anything go forward.
#[must_use]
pub const fn of_verdict(verdict: Verdict) -> Tone {
    match verdict {
        Verdict::Pass => Tone::Good,
        Verdict::NotApplicable => Tone::Quiet,
        Verdict::Inconclusive => Tone::Waits,
        Verdict::Fail | Verdict::Error => Tone::Bad,
    }
}

/// What the place of a version in its life means.
#[must_use]
pub const fn of_state(state: VersionState) -> (Tone, &'static str) {
    match state {
        VersionState::Candidate => (Tone::Busy, "Candidate"),
        VersionState::Rejected => (Tone::Bad, "Rejected"),
        VersionState::Approved => (Tone::Good, "Approved"),
        VersionState::RollingOut => (Tone::Busy, "RollingOut"),
        VersionState::Live => (Tone::Good, "Live"),
        VersionState::Superseded => (Tone::Quiet, "Superseded"),
        VersionState::RolledBack => (Tone::Bad, "RolledBack"),
    }
}

/// What the phase of a rollout means.
#[must_use]
pub const fn of_phase(phase: RolloutPhase) -> Tone {
    match phase {
        RolloutPhase::Pending | RolloutPhase::Preparing | RolloutPhase::Progressing | RolloutPhase::Promoting => {
            Tone::Busy
        }
        RolloutPhase::Queued | RolloutPhase::Holding => Tone::Waits,
        RolloutPhase::Observing | RolloutPhase::Promoted => Tone::Good,
        RolloutPhase::Superseded => Tone::Quiet,
        RolloutPhase::RollingBack | RolloutPhase::RolledBack | RolloutPhase::Aborted | RolloutPhase::Failed => {
            Tone::Bad
        }
    }
}

/// What is waited for, since when, and how much of it is there.
#[must_use]
pub fn waiting(waits: &WaitingFor, now: Timestamp) -> String {
    let stale = match waits.stale.as_slice() {
        [] => String::new(),
        names => format!("; {} named older evidence and do not count", names.join(", ")),
    };
    format!(
        "waits for {} since {} ({}), {} of {} approvals{stale}",
        waits.gate.name(),
        since(&waits.since, now),
        waits.since.0,
        waits.approved_by.len(),
        waits.needed,
    )
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(-5, "0s")]
    #[case(0, "0s")]
    #[case(119, "119s")]
    #[case(183, "3m3s")]
    #[case(300, "5m")]
    #[case(3700, "61m")]
    #[case(10_800, "3h")]
    #[case(200_000, "2d")]
    fn lengths_are_printed_as_kubectl_does(#[case] seconds: i64, #[case] text: &str) {
        assert_eq!(length(seconds), text);
    }

    #[rstest]
    #[case("90s", Some(90))]
    #[case("1h30m", Some(5400))]
    #[case("7d", Some(604_800))]
    #[case("0s", None)]
    #[case("soon", None)]
    #[case("d", None)]
    fn lengths_are_read_as_people_write_them(#[case] text: &str, #[case] expected: Option<i64>) {
        assert_eq!(seconds(text), expected);
    }

    #[test]
    fn an_object_that_nobody_looked_at_says_so() {
        let found = standing(&ObjectMeta::default(), -1, &[]);
        assert_eq!(found.reason, "Unobserved");
    }
}
