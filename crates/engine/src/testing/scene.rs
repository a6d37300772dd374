//! A world as a value: two worlds are the same if everything that can be observed in them is.
//!
//! Resource versions and the history of writes say how a world came to be. An explorer that kept them would never
//! meet a world twice, so it takes them out, and keeps track itself of what a write was decided on.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use serde_json::json;

use super::held::{Content, Held};
use super::stored::{self, Stored};
use super::world::{Key, World};
use crate::decision::Action;

/// Resource version of every object of a world without history.
const TIMELESS: &str = "1";

impl Held {
    /// A number for what is written, and for what the actor was when it decided.
    #[must_use]
    pub fn content(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.actor.hash(&mut hasher);
        stored::hash(&self.before, &mut hasher);
        match &self.content {
            Content::Status(status, _) => stored::hash(status, &mut hasher),
            Content::Effect(action) => match &**action {
                Action::Create(child) => stored::hash(&super::held::split((**child).clone()).1, &mut hasher),
                Action::Patch(patch) => {
                    (&patch.object.name, &patch.object.uid).hash(&mut hasher);
                    stored::hash(&patch.body, &mut hasher);
                }
                Action::Delete(key) => ("delete", &key.name, &key.uid).hash(&mut hasher),
            },
        }
        hasher.finish()
    }
}

impl World {
    /// Takes the history out; UIDs that were given since `before` stay unique.
    pub fn forget_history(&mut self, before: &Self) {
        self.writes.clear();
        self.asleep.clear();
        let given = self.objects.values().filter_map(|o| {
            let uid = o.value["metadata"]["uid"].as_str()?;
            uid.strip_prefix("uid-")?.parse().ok()
        });
        self.counter = given.fold(before.counter, u64::max);
        for stored in self.objects.values_mut() {
            if stored.value["metadata"]["resourceVersion"] != TIMELESS {
                let mut value = stored.value.clone();
                value["metadata"]["resourceVersion"] = json!(TIMELESS);
                *stored = Arc::new(Stored::new(value));
            }
        }
    }

    /// A number for the content of an object; nothing if it does not exist.
    #[must_use]
    pub fn content(&self, key: &Key) -> Option<u64> {
        self.objects.get(key).map(|stored| stored.content())
    }

    /// A number for everything that can be observed.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for (key, stored) in &self.objects {
            (key, stored.content()).hash(&mut hasher);
        }
        let rest = (&self.settings, &self.answers, &self.broken, &self.endings, &self.report);
        (self.now, self.terminating, self.counter, format!("{rest:?}")).hash(&mut hasher);
        hasher.finish()
    }

    /// This world, but for one object, which is as it is in the other one.
    #[must_use]
    pub fn with_object_of(&self, other: &Self, key: &Key) -> Self {
        let mut mixed = self.clone();
        match other.objects.get(key) {
            Some(stored) => drop(mixed.objects.insert(key.clone(), Arc::clone(stored))),
            None => drop(mixed.objects.remove(key)),
        }
        mixed
    }

    /// What changed since the history was forgotten, if `before` is what it was then.
    #[must_use]
    pub fn changed(&self, before: &Self) -> Vec<Key> {
        let fresh = self
            .objects
            .iter()
            .filter(|(_, o)| o.value["metadata"]["resourceVersion"] != TIMELESS);
        let gone = before.objects.keys().filter(|key| !self.objects.contains_key(*key));
        fresh.map(|(key, _)| key).chain(gone).cloned().collect()
    }

    /// Names of all objects, in their order.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.objects.keys()
    }
}
