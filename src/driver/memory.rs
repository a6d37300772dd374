//! What a driver remembers of the objects that it looked at.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::denial::Denials;

/// So long after a live look at what is in progress the stores are asked first, and then it is looked at live again: of an
/// event that a watch does not tell nobody hears.
pub(super) const TRUSTED: Duration = Duration::from_secs(60);

/// So long after a write of a status the watch is waited for, if it has not told of it yet.
const OWN_NEWS: Duration = Duration::from_secs(5);

/// Of so many objects something is remembered, before those that are gone are forgotten.
const LOOKS: usize = 1024;

/// What is remembered of each object, by namespace and name, until it is gone.
pub(super) struct Known<T> {
    pub(super) of: HashMap<Box<str>, T>,
    /// As many are kept before those that are gone are forgotten.
    limit: usize,
}

impl<T> Default for Known<T> {
    fn default() -> Self {
        Self {
            of: HashMap::new(),
            limit: LOOKS,
        }
    }
}

impl<T> Known<T> {
    /// Makes room for one more.
    pub(super) fn tidy(&mut self, exists: impl Fn(&str) -> bool) {
        if self.of.len() >= self.limit {
            self.of.retain(|key, _| exists(key));
            self.limit = self.of.len().saturating_mul(2).max(LOOKS);
        }
    }
}

/// Failures in a row of each object, by namespace and name. An object that changed in between came on, even if its write
/// seemed to fail: an answer that is lost says nothing about the write.
#[derive(Default)]
pub(super) struct Failures(Known<(String, u32)>);

impl Failures {
    /// Counts a failure at this resource version, and says how many there are in a row.
    pub(super) fn failed(&mut self, key: &str, version: &str, exists: impl Fn(&str) -> bool) -> u32 {
        self.0.tidy(exists);
        let (before, count) = self.0.of.entry(key.into()).or_default();
        if before != version {
            (*before, *count) = (version.to_owned(), 0);
        }
        *count = count.saturating_add(1);
        *count
    }

    pub(super) fn succeeded(&mut self, key: &str) {
        self.0.of.remove(key);
    }
}

/// When each object, by namespace and name, was last looked at live, or for the first time. A watch may be dead without that
/// anybody knows: what its store says is believed only for so long.
pub(super) struct Looks {
    last: Known<Instant>,
    /// The version over which the object was written just now: whoever looks at it decides the same once more.
    pub(super) left: Versions,
    /// The version in the store over which a write was refused: it is believed no more.
    pub(super) refused: Versions,
    /// Refusals in a row.
    pub(super) refusals: Failures,
    /// What the API server will refuse until somebody changes something.
    pub(super) denials: Denials,
    /// Until when the API server wants not to be asked again.
    held_off: HashMap<Box<str>, Instant>,
}

impl Default for Looks {
    fn default() -> Self {
        Self {
            last: Known::default(),
            left: Versions::lasting(OWN_NEWS),
            refused: Versions::lasting(TRUSTED),
            refusals: Failures::default(),
            denials: Denials::default(),
            held_off: HashMap::new(),
        }
    }
}

impl Looks {
    /// Whether it was never looked at.
    pub(super) fn is_first(&self, key: &str) -> bool {
        !self.last.of.contains_key(key)
    }

    /// For how long yet, from then on, the stores are believed of it, if they are so for this long after a live look.
    pub(super) fn trusted_for(&self, key: &str, longest: Duration, at: Instant) -> Option<Duration> {
        let age = at.saturating_duration_since(*self.last.of.get(key)?);
        longest.checked_sub(age).filter(|left| !left.is_zero())
    }

    /// Nobody looks at it for so long.
    pub(super) fn hold_off(&mut self, key: &str, pause: Duration) {
        let now = Instant::now();
        if self.held_off.len() >= LOOKS {
            self.held_off.retain(|_, until| *until > now);
        }
        self.held_off.insert(key.into(), now + pause);
    }

    /// For how long yet nobody is to look at it.
    pub(super) fn held_off(&self, key: &str) -> Option<Duration> {
        let left = self.held_off.get(key)?.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }

    #[cfg(test)]
    pub(super) fn age(&mut self, key: &str, by: Duration) {
        if let Some(last) = self.last.of.get_mut(key) {
            *last = last.checked_sub(by).unwrap();
        }
    }

    /// It was looked at just now.
    pub(super) fn looked(&mut self, key: &str, exists: impl Fn(&str) -> bool) {
        self.last.tidy(exists);
        self.last.of.insert(key.into(), Instant::now());
    }
}

/// A resource version of each object, by namespace and name. None is remembered for longer than it counts.
pub(super) struct Versions {
    last: Duration,
    noted: HashMap<String, (String, Instant)>,
}

impl Versions {
    fn lasting(last: Duration) -> Self {
        Self {
            last,
            noted: HashMap::new(),
        }
    }

    /// Whether this version of the object was noted not long ago.
    pub(super) fn has(&self, key: &str, version: Option<&str>) -> bool {
        let noted = self.noted.get(key).filter(|(_, at)| at.elapsed() < self.last);
        noted.is_some_and(|(noted, _)| Some(noted.as_str()) == version)
    }

    pub(super) fn note(&mut self, key: String, version: String) {
        if self.noted.len() >= LOOKS {
            self.noted.retain(|_, (_, at)| at.elapsed() < self.last);
        }
        self.noted.insert(key, (version, Instant::now()));
    }

    pub(super) fn forget(&mut self, key: &str) {
        self.noted.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_at_objects_that_are_gone_are_forgotten_and_no_others() {
        let mut looks = Looks::default();
        for number in 0..5000 {
            looks.looked(&number.to_string(), |key| key == "7");
        }
        assert!(looks.last.of.len() <= 1024, "{}", looks.last.of.len());
        assert!(!looks.is_first("7") && looks.is_first("8"));
    }

    #[test]
    fn the_stores_are_believed_from_the_last_live_look_on_by_whoever_came_in_time() {
        let (mut looks, minute) = (Looks::default(), Duration::from_secs(60));
        let came = Instant::now();
        assert_eq!(looks.trusted_for("a/x", minute, came), None, "nobody looked");
        looks.looked("a/x", |_| true);
        assert_eq!(
            looks.trusted_for("a/x", minute, came),
            Some(minute),
            "it was looked at while this waited for its turn"
        );
        let last = looks.last.of["a/x"];
        let after = |seconds| looks.trusted_for("a/x", minute, last + Duration::from_secs(seconds));
        assert_eq!(after(59), Some(Duration::from_secs(1)));
        assert_eq!(after(60), None);
    }

    #[test]
    fn failures_of_objects_that_are_gone_are_forgotten_and_no_others() {
        let mut failures = Failures::default();
        for number in 0..5000 {
            failures.failed(&number.to_string(), "1", |key| key == "7");
        }
        assert!(failures.0.of.len() <= 1024, "{}", failures.0.of.len());
        assert_eq!(failures.failed("7", "1", |_| true), 2);
        assert_eq!(failures.failed("8", "1", |_| true), 1);
    }

    #[test]
    fn an_object_whose_answers_are_lost_but_which_comes_on_is_not_kept_waiting() {
        let mut failures = Failures::default();
        let counts = ["1", "1", "2", "3", "3"].map(|version| failures.failed("a/x", version, |_| true));
        assert_eq!(counts, [1, 2, 1, 1, 2]);
        assert_eq!(failures.failed("a/y", "3", |_| true), 1, "another object");
        failures.succeeded("a/x");
        assert_eq!(failures.failed("a/x", "3", |_| true), 1);
    }
}
