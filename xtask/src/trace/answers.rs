//! What metric providers answered to the checks of a Rollout, as a write of its status tells it.
//!
//! A check is asked when its step is reached, or when the watch begins, and then each time that its interval has passed.
//! Both follow from the times in the status that was replaced and in the one that replaces it, whatever the clock was
//! that they were taken from.

use flywheel_api::schema::Duration;
use jiff::Timestamp;
use serde_json::Value;

use super::json::{list, named, text};
use super::{Kind, Step};

/// An answer to one check.
#[derive(Debug)]
pub(super) struct Answer<'a> {
    /// Name of the check.
    pub(super) check: &'a str,
    /// Since when the traffic is as it is that was asked about.
    pub(super) since: &'a str,
    /// Whether it was its turn.
    pub(super) turn: Turn,
}

/// Whether it was a check's turn to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// It was asked for the first time since the traffic is as it is.
    First,
    /// Its interval had passed, or is not known.
    Due,
    /// After so many seconds, of so many that its interval has.
    Early(i64, i64),
}

/// The answers that a write of a Rollout's status brings.
pub(super) fn answers(step: &Step) -> Vec<Answer<'_>> {
    if step.key.kind != Kind::Rollout || step.subresource != "status" {
        return Vec::new();
    }
    let (old, new) = (step.earlier(), step.later());
    let since = since(old);
    let answer = |said| {
        let (check, at) = (text(said, "/name"), text(said, "/at"));
        let was = named(old, "/status/checks", "name", check).map_or("", |before| text(before, "/at"));
        let interval = interval(new, check);
        (was != at).then(|| Answer {
            check,
            since,
            turn: turn(since, was, at, interval),
        })
    };
    list(new, "/status/checks").iter().filter_map(answer).collect()
}

/// Since when the traffic is judged that a Rollout has.
fn since(rollout: &Value) -> &str {
    match text(rollout, "/status/phase") {
        "Observing" => text(rollout, "/status/promotedAt"),
        _ => text(rollout, "/status/step/enteredAt"),
    }
}

/// The interval of a check in seconds.
fn interval(rollout: &Value, check: &str) -> Option<i64> {
    let planned = named(rollout, "/spec/plan/checks", "name", check)?;
    let seconds = Duration(text(planned, "/interval").to_owned()).seconds()?;
    Some(seconds.max(1))
}

fn turn(since: &str, was: &str, at: &str, interval: Option<i64>) -> Turn {
    let [since, was, at] = [since, was, at].map(|time| time.parse::<Timestamp>().ok());
    let Some(was) = was.filter(|was| since.is_none_or(|since| *was >= since)) else {
        return Turn::First;
    };
    let waited = at.map(|at| at.duration_since(was).as_secs());
    match waited.zip(interval) {
        Some((waited, interval)) if waited < interval => Turn::Early(waited, interval),
        _ => Turn::Due,
    }
}
