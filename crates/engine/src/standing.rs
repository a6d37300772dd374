//! Where an object stands, and the conditions that say so: one rule for all kinds.
//!
//! Waiting for a person, time or data is Ready; Reconciling means that the machine works; Stalled that it cannot go on
//! without a change from outside (kstatus).

use flywheel_api::condition::{self, Setting};
use flywheel_api::reference::{AutomationLevel, DecisionRecord};
use flywheel_api::schema::Digest;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Apply order must not matter: a missing reference is only a failure after this time.
pub const PATIENCE: SignedDuration = SignedDuration::from_mins(5);

/// Decisions that are kept in a status.
const KEPT_DECISIONS: usize = 50;

/// Where an object stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The machine works.
    Working,
    /// Time or data is waited for.
    Waiting,
    /// A person is waited for.
    AwaitingPerson,
    /// The administrator's brake holds.
    Braked,
    /// Others take all the room that the administrator allows.
    NoRoom,
    /// There is room, and others take it first.
    YieldsRoom,
    /// Something must change from outside.
    Stalled,
    /// Idle or done.
    Ready,
}

/// Where an object stands, with a reason for machines and a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Where.
    pub kind: Kind,
    /// UpperCamelCase reason.
    pub reason: String,
    /// One sentence.
    pub message: String,
}

impl Standing {
    /// A standing with its reason and sentence.
    pub fn new(kind: Kind, reason: &str, message: impl Into<String>) -> Self {
        Self {
            kind,
            reason: reason.to_owned(),
            message: message.into(),
        }
    }

    /// A reference that cannot be resolved: Reconciling for five minutes (apply order), then Stalled.
    pub fn missing(since: Timestamp, now: Timestamp, reason: &str, message: impl Into<String>) -> Self {
        let kind = if now.duration_since(since) < PATIENCE {
            Kind::Working
        } else {
            Kind::Stalled
        };
        Self::new(kind, reason, message)
    }

    /// The conditions that say so.
    #[must_use]
    pub fn settings(&self) -> Vec<Setting> {
        let yes = |type_| Setting::yes(type_, &self.reason, &*self.message);
        let ready = match self.kind {
            Kind::Working | Kind::Stalled => Setting::no(condition::READY, &self.reason, &*self.message),
            Kind::Waiting | Kind::AwaitingPerson | Kind::Braked | Kind::NoRoom | Kind::YieldsRoom | Kind::Ready => {
                yes(condition::READY)
            }
        };
        let extra = match self.kind {
            Kind::Working => Some(yes(condition::RECONCILING)),
            Kind::Stalled => Some(yes(condition::STALLED)),
            Kind::AwaitingPerson => Some(yes(condition::AWAITING_APPROVAL)),
            Kind::Braked => Some(yes(condition::BRAKED)),
            Kind::NoRoom => Some(yes(condition::WAITING_FOR_ROOM)),
            Kind::YieldsRoom => Some(yes(condition::YIELDS_ROOM)),
            Kind::Waiting | Kind::Ready => None,
        };
        std::iter::once(ready).chain(extra).collect()
    }
}

/// Since when something has been missing, for the reason that the conditions `old` give: `stored`, as the status says it.
///
/// It is now where they give another reason, or none, as when the status was lost. The times of conditions do not tell:
/// who worked before has been Reconciling for as long.
#[must_use]
pub fn missing_since(stored: Option<&Time>, old: &[Condition], reason: &str, now: Timestamp) -> Timestamp {
    let said = |type_| condition::find(old, type_).filter(|c| c.reason == reason);
    if said(condition::READY).is_none() {
        return now;
    }
    // A status that an older operator wrote does not say since when; who was Stalled then stays so.
    let stalled = || {
        said(condition::STALLED)?
            .last_transition_time
            .0
            .checked_sub(PATIENCE)
            .ok()
    };
    // A clock that was ahead has left a moment that is to come.
    stored
        .map(|since| since.0)
        .or_else(stalled)
        .map_or(now, |since| since.min(now))
}

/// Where an object stands that has waited since then for what is missing, and when that becomes a failure.
#[must_use]
pub fn awaited(
    since: Timestamp,
    now: Timestamp,
    reason: &str,
    message: impl Into<String>,
) -> (Standing, Option<Timestamp>) {
    let until = since.checked_add(PATIENCE).ok().filter(|at| *at > now);
    (Standing::missing(since, now, reason, message), until)
}

/// Adds a decision and keeps the last 50.
pub fn remember(decisions: &mut Vec<DecisionRecord>, record: DecisionRecord) {
    decisions.push(record);
    let surplus = decisions.len().saturating_sub(KEPT_DECISIONS);
    decisions.drain(..surplus);
}

/// A decision with its reason.
#[must_use]
pub fn decision(
    now: Timestamp,
    decision: &str,
    reason: &str,
    message: &str,
    level: Option<AutomationLevel>,
    evidence_digest: Option<Digest>,
) -> DecisionRecord {
    DecisionRecord {
        at: Time(now),
        decision: decision.to_owned(),
        reason: reason.to_owned(),
        message: shorten(message, 512),
        level,
        evidence_digest,
    }
}

/// A text of at most `most` characters, as the schema demands.
#[must_use]
pub fn shorten(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        text.to_owned()
    } else {
        text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_reference_stalls_after_five_minutes() {
        let since = Timestamp::UNIX_EPOCH;
        let early = Standing::missing(
            since,
            since + SignedDuration::from_secs(299),
            "TargetNotFound",
            "It is missing.",
        );
        let late = Standing::missing(
            since,
            since + SignedDuration::from_secs(300),
            "TargetNotFound",
            "It is missing.",
        );
        assert_eq!((early.kind, late.kind), (Kind::Working, Kind::Stalled));
    }

    /// What a status says of that standing since then, and what is missing later.
    fn found_missing(before: &Standing, stored: Option<i64>) -> i64 {
        let second = |n| Timestamp::UNIX_EPOCH + SignedDuration::from_secs(n);
        let old = condition::replace(&[], &before.settings(), None, second(1_000));
        let stored = stored.map(|n| Time(second(n)));
        let since = missing_since(stored.as_ref(), &old, "PolicyNotFound", second(2_000));
        since.as_second()
    }

    #[test]
    fn who_was_at_work_for_long_has_five_minutes_until_what_is_missing_is_a_failure() {
        let works = Standing::new(Kind::Working, "StageRunning", "It runs.");
        assert_eq!(found_missing(&works, None), 2_000);
        let misses = Standing::new(Kind::Working, "PolicyNotFound", "It is missing.");
        assert_eq!(found_missing(&misses, Some(1_900)), 1_900, "it is what was recorded");
        let other = Standing::new(Kind::Stalled, "PipelineNotFound", "It is missing.");
        assert_eq!(found_missing(&other, Some(1_000)), 2_000, "that was something else");
    }

    #[test]
    fn who_was_stalled_before_the_time_was_recorded_stays_stalled() {
        let gave_up = Standing::new(Kind::Stalled, "PolicyNotFound", "It is missing.");
        assert_eq!(found_missing(&gave_up, None), 700);
        let waits = Standing::new(Kind::Working, "PolicyNotFound", "It is missing.");
        assert_eq!(found_missing(&waits, None), 2_000);
    }

    #[test]
    fn a_clock_that_was_ahead_delays_no_failure() {
        let misses = Standing::new(Kind::Working, "PolicyNotFound", "It is missing.");
        assert_eq!(found_missing(&misses, Some(9_000)), 2_000);
        let (_, until) = awaited(Timestamp::MAX, Timestamp::MAX, "PolicyNotFound", "It is missing.");
        assert_eq!(until, None, "no time is too late for it");
    }

    #[test]
    fn only_the_last_fifty_decisions_are_kept() {
        let mut all = Vec::new();
        for n in 0..60 {
            remember(
                &mut all,
                decision(Timestamp::UNIX_EPOCH, &n.to_string(), "r", "m", None, None),
            );
        }
        assert_eq!((all.len(), all[0].decision.as_str()), (50, "10"));
    }
}
