//! Which parts of an observation a decision looked at.
//!
//! Most of an observation comes from the stores of the watches, which may be behind. A write must not rest on what is
//! outdated, but only what the decision looked at can mislead it: a decision is a function, so as long as those parts are
//! the same, it decides the same, whatever the others say. So each part remembers whether it was looked at, and before a
//! write is done those parts, and no others, are read live and decided on again; but for one that the write itself confirms.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The parts that were looked at, a bit for each.
#[derive(Clone, Debug, Default)]
pub struct Ledger(Arc<AtomicU32>);

impl Ledger {
    /// The part that this bit stands for: looking at it is noted here.
    #[must_use]
    pub fn part<T>(&self, bit: u32, value: T) -> Part<T> {
        let ledger = Some((self.clone(), bit));
        Part { value, ledger }
    }

    /// Notes that these parts were looked at.
    pub fn note(&self, bits: u32) {
        self.0.fetch_or(bits, Ordering::Relaxed);
    }

    /// The parts that were looked at.
    #[must_use]
    pub fn noted(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A part of an observation. Whoever dereferences it looks at it; printing and comparing whole observations does not count.
#[derive(Clone, Default)]
pub struct Part<T> {
    value: T,
    /// Where looks are noted; nowhere if it needs no confirmation.
    ledger: Option<(Ledger, u32)>,
}

impl<T> Part<T> {
    /// The value, for a question whose answer may be late: whoever does something because of it looks at the part itself.
    pub const fn peek(&self) -> &T {
        &self.value
    }

    /// Looks at it: for who peeked so far, and is about to do something because of it.
    pub fn look(&self) -> &T {
        self
    }

    /// A part that follows from this one: looking at it is looking at this one.
    pub fn map<U>(&self, view: impl FnOnce(&T) -> U) -> Part<U> {
        Part {
            value: view(&self.value),
            ledger: self.ledger.clone(),
        }
    }
}

impl<T> Deref for Part<T> {
    type Target = T;

    fn deref(&self) -> &T {
        if let Some((ledger, bit)) = &self.ledger {
            ledger.note(*bit);
        }
        &self.value
    }
}

impl<T> DerefMut for Part<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T> From<T> for Part<T> {
    fn from(value: T) -> Self {
        Self { value, ledger: None }
    }
}

impl<T: PartialEq> PartialEq for Part<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T: fmt::Debug> fmt::Debug for Part<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl<T: Serialize> Serialize for Part<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Part<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_part_that_was_looked_at_is_noted() {
        let ledger = Ledger::default();
        let (one, other) = (ledger.part(1, vec![7]), ledger.part(2, Some("x")));
        assert_eq!(one, Part::from(vec![7]));
        assert_eq!(
            format!("{one:?} {}", serde_json::to_string(&other).unwrap()),
            "[7] \"x\""
        );
        assert_eq!((other.peek(), ledger.noted()), (&Some("x"), 0));
        assert_eq!((one.first(), ledger.noted()), (Some(&7), 1));
        let follows = other.clone().map(Option::is_some);
        assert_eq!(ledger.noted(), 1, "to derive is not to look");
        assert!(*follows);
        assert_eq!(ledger.noted(), 3);
    }
}
