//! The objects of a watch that are held, and what is known of names that were asked for.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// So many names are remembered of which there is no object, before those that nobody asks for any more are forgotten.
const MISSING: usize = 1024;

/// What a watch knows of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known<O> {
    /// There is an object.
    Here(Arc<O>),
    /// There is none.
    Missing,
    /// Nothing: whoever wants to know asks the API server.
    Nothing,
}

/// The right to say what the API server answered, unless the watch has told of the object since it was asked.
#[derive(Debug)]
pub struct Ask {
    place: Place,
    number: u64,
}

/// Namespace and name.
pub type Place = (String, String);

/// Objects by namespace and name, in the order in which the API server lists them. Who looks for some of a namespace, which
/// happens many times in each look, does not go through those of all others.
#[derive(Debug)]
pub(super) struct Held<O> {
    names: BTreeMap<String, BTreeMap<String, Option<Arc<O>>>>,
    /// Since when names are asked for of which the watch has told nothing since.
    asked: HashMap<Place, u64>,
    asks: u64,
    listed: bool,
    missing: usize,
    limit: usize,
}

impl<O> Default for Held<O> {
    fn default() -> Self {
        Self {
            names: BTreeMap::new(),
            asked: HashMap::new(),
            asks: 0,
            listed: false,
            missing: 0,
            limit: MISSING,
        }
    }
}

impl<O> Held<O> {
    /// Nothing is known any more; what the API server answers to questions from before does not count. Nor does what it
    /// answers before all that exist are listed: what went in between nobody tells.
    pub(super) fn clear(&mut self) {
        self.names.clear();
        self.asked.clear();
        self.missing = 0;
        self.listed = false;
    }

    /// All that exist were told.
    pub(super) const fn listed(&mut self) {
        self.listed = true;
    }

    /// All objects.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<O>> {
        self.names.values().flat_map(BTreeMap::values).flatten()
    }

    /// All objects of a namespace.
    pub(super) fn within(&self, namespace: &str) -> impl Iterator<Item = &Arc<O>> {
        let here = self.names.get(namespace).into_iter().flat_map(BTreeMap::values);
        here.flatten()
    }

    pub(super) fn known(&self, namespace: &str, name: &str) -> Known<O> {
        match self.names.get(namespace).and_then(|here| here.get(name)) {
            Some(Some(object)) => Known::Here(object.clone()),
            Some(None) => Known::Missing,
            None => Known::Nothing,
        }
    }

    /// The watch told that there is an object, or that there is none.
    pub(super) fn told(&mut self, place: Place, object: Option<Arc<O>>) {
        self.asked.remove(&place);
        self.missing += usize::from(object.is_none());
        let (namespace, name) = place;
        let before = self.names.entry(namespace).or_default().insert(name, object);
        self.missing -= usize::from(before.is_some_and(|before| before.is_none()));
    }

    /// The watch told of an object that is not held.
    pub(super) fn forget(&mut self, place: &Place) {
        self.asked.remove(place);
        let Some(here) = self.names.get_mut(&place.0) else {
            return;
        };
        if here.remove(&place.1).is_some_and(|object| object.is_none()) {
            self.missing = self.missing.saturating_sub(1);
        }
        if here.is_empty() {
            self.names.remove(&place.0);
        }
    }

    /// Somebody asks the API server; until the watch tells of the object, all who do have the same right.
    pub(super) fn ask(&mut self, place: Place) -> Option<Ask> {
        self.listed.then_some(())?;
        let next = self.asks + 1;
        let number = *self.asked.entry(place.clone()).or_insert(next);
        self.asks = self.asks.max(number);
        Some(Ask { place, number })
    }

    /// The API server answered; what the watch told meanwhile is not older.
    pub(super) fn learned(&mut self, ask: Ask, object: Option<Arc<O>>) {
        if self.asked.get(&ask.place) == Some(&ask.number) {
            self.told(ask.place, object);
        }
    }

    /// Forgets names of which there is no object and which nobody wants to know of, once there are many.
    pub(super) fn tidy(&mut self, wanted: impl Fn(&str, &str) -> bool) {
        if self.missing < self.limit {
            return;
        }
        self.asked.retain(|(namespace, name), _| wanted(namespace, name));
        for (namespace, here) in &mut self.names {
            here.retain(|name, object| object.is_some() || wanted(namespace, name));
        }
        self.names.retain(|_, here| !here.is_empty());
        let all = self.names.values().flat_map(BTreeMap::values);
        self.missing = all.filter(|object| object.is_none()).count();
        self.limit = self.missing.saturating_mul(2).max(MISSING);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str) -> Place {
        ("n".to_owned(), name.to_owned())
    }

    #[test]
    fn an_answer_counts_unless_the_watch_told_of_the_object_since_it_was_asked_for() {
        let mut held = Held::default();
        assert!(held.ask(place("a")).is_none(), "not all were told");
        held.listed();
        assert_eq!(held.known("n", "a"), Known::Nothing);
        let (first, second) = (held.ask(place("a")).unwrap(), held.ask(place("a")).unwrap());
        held.learned(second, None);
        assert_eq!(held.known("n", "a"), Known::Missing, "all who ask have the same right");
        held.learned(first, Some(Arc::new(1)));
        assert_eq!(held.known("n", "a"), Known::Missing, "answered already");

        let before = held.ask(place("b")).unwrap();
        held.told(place("b"), Some(Arc::new(2)));
        let after = held.ask(place("b")).unwrap();
        held.learned(before, None);
        assert_eq!(
            held.known("n", "b"),
            Known::Here(Arc::new(2)),
            "older than what the watch told"
        );
        held.learned(after, Some(Arc::new(3)));
        assert!(
            held.within("n").eq(&[Arc::new(3)]),
            "a name without an object is no object"
        );
    }

    #[test]
    fn of_what_is_not_held_and_of_what_was_asked_before_the_watch_began_anew_nothing_is_known() {
        for forget in [|held: &mut Held<u8>| held.forget(&place("a")), Held::clear] {
            let mut held = Held::default();
            held.listed();
            let ask = held.ask(place("a")).unwrap();
            forget(&mut held);
            held.listed();
            held.ask(place("a"));
            held.learned(ask, None);
            assert_eq!(held.known("n", "a"), Known::Nothing);
        }
    }

    #[test]
    fn names_without_an_object_that_nobody_wants_are_forgotten() {
        let mut held = Held::default();
        held.told(place("here"), Some(Arc::new(1)));
        for number in 0..5000 {
            held.told(place(&number.to_string()), None);
            held.tidy(|_, name| name == "7");
        }
        assert!(held.missing <= MISSING, "{}", held.missing);
        assert_eq!(held.known("n", "7"), Known::Missing);
        assert_eq!(held.within("n").count(), 1);
        held.told(place("7"), Some(Arc::new(7)));
        held.forget(&place("7"));
        let counted = held.names["n"].values().filter(|object| object.is_none()).count();
        assert_eq!(held.missing, counted);
    }
}
