//! What was so in the moments before a write: a decision stands on what the operator read a little earlier.

use jiff::{SignedDuration, Timestamp};

/// How old what a write stands on may be: caches are far less behind, and on loaded machines requests take seconds.
const LAG: SignedDuration = SignedDuration::from_secs(10);
/// How late a request may take effect that was sent and hangs: a reconcile is given up after a minute.
const HANGS: SignedDuration = SignedDuration::from_secs(60);

/// A value over time.
#[derive(Debug)]
pub struct Moments<T> {
    /// Since when which value was in force, the newest last.
    known: Vec<(Timestamp, T)>,
}

impl<T> Default for Moments<T> {
    fn default() -> Self {
        Self { known: Vec::new() }
    }
}

impl<T: PartialEq> Moments<T> {
    /// The value from now on; a time that cannot be read counts as the last one.
    pub fn note(&mut self, at: &str, value: T) {
        if self.known.last().is_some_and(|(_, last)| *last == value) {
            return;
        }
        let last = self.known.last().map(|(since, _)| *since).unwrap_or_default();
        // The log is in the order of the store's revisions; times of answers may differ from it by a little.
        self.known.push((at.parse().unwrap_or(last).max(last), value));
    }

    /// All values that were in force at this time or in the moments before, the newest last.
    pub fn recent(&self, at: &str) -> impl Iterator<Item = &T> {
        self.within(at, LAG)
    }

    /// All values that were in force when a request can have been sent that takes effect at this time.
    pub fn when_sent(&self, at: &str) -> impl Iterator<Item = &T> {
        self.within(at, HANGS)
    }

    fn within(&self, at: &str, lag: SignedDuration) -> impl Iterator<Item = &T> {
        let from = at.parse::<Timestamp>().ok().and_then(|t| t.checked_sub(lag).ok());
        let begun = from.and_then(|from| self.known.iter().rposition(|(since, _)| *since <= from));
        self.known.iter().skip(begun.unwrap_or(0)).map(|(_, value)| value)
    }

    /// Whether the value was known for all of the moments before.
    #[must_use]
    pub fn reaches_back(&self, at: &str) -> bool {
        let from = at.parse::<Timestamp>().ok().and_then(|t| t.checked_sub(LAG).ok());
        let first = self.known.first().map(|(since, _)| *since);
        first.zip(from).is_some_and(|(first, from)| first <= from)
    }
}

/// Whether a time lies within the moments before another.
#[must_use]
pub fn just_before(time: &str, at: &str) -> bool {
    let [time, at] = [time, at].map(|t| t.parse::<Timestamp>().ok());
    time.zip(at).is_some_and(|(time, at)| at.duration_since(time) <= LAG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recent_values_are_those_that_were_in_force_in_the_last_seconds() {
        let mut moments = Moments::default();
        for (at, value) in [("00", 1), ("20", 2), ("25", 3), ("25", 3)] {
            moments.note(&format!("2026-01-01T00:00:{at}Z"), value);
        }
        let recent = |at: &str| {
            moments
                .recent(&format!("2026-01-01T00:00:{at}Z"))
                .copied()
                .collect::<Vec<_>>()
        };
        assert_eq!(recent("59"), [3]);
        assert_eq!(recent("32"), [2, 3]);
        assert_eq!(recent("28"), [1, 2, 3]);
        assert_eq!(
            moments.when_sent("2026-01-01T00:01:19Z").copied().collect::<Vec<_>>(),
            [1, 2, 3]
        );
        assert!(moments.reaches_back("2026-01-01T00:00:10Z"));
        assert!(!moments.reaches_back("2026-01-01T00:00:09Z"));
        assert_eq!(
            moments.recent("no time").count(),
            3,
            "who does not know the time excludes nothing"
        );
    }

    #[test]
    fn just_before_is_within_ten_seconds() {
        let at = "2026-01-01T00:00:10Z";
        assert!(just_before("2026-01-01T00:00:00Z", at));
        assert!(!just_before("2025-12-31T23:59:59Z", at));
        assert!(!just_before("", at));
    }
}
