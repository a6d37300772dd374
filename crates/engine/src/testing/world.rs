//! The objects of one namespace, and what an API server does with decisions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Serialize;
use serde_json::{Value, json};

use super::at;
use super::kind::DECIDED;
pub use super::kind::Kind;
use super::mistake::Mistake;
use super::nature::{Ending, Report};
use super::stored::{Readable, Stored};
use crate::decision::{Action, Note};
use crate::rollout::Reading;
use crate::settings::{MetricProvider, Settings};
use flywheel_api::flywheel_pipeline::ArtifactStore;

/// An object by kind and name.
pub type Key = (Kind, String);

/// One write of the operator: who acted, and what it did.
#[derive(Clone, Debug)]
pub struct Write {
    /// When.
    pub at: Timestamp,
    /// The object whose decision it was.
    pub actor: Key,
    /// The actor as it was stored when it decided.
    pub before: Value,
    /// The effect; nothing for a status.
    pub action: Option<Action>,
    /// The actor after a recorded status.
    pub after: Option<Value>,
    /// The object that the effect changed, as it was before.
    pub object_before: Option<Value>,
    /// Events of a recorded status.
    pub events: Vec<Note>,
    /// What the metric provider answered when it was decided, whatever the operator took from that.
    pub answers: BTreeMap<String, Reading>,
}

/// The objects of one namespace.
#[derive(Clone, Debug)]
pub struct World {
    /// Now.
    pub now: Timestamp,
    /// The administrator's settings.
    pub settings: Settings,
    /// What stages report.
    pub report: Report,
    /// How the next Job of a stage ends; without an entry it succeeds.
    pub endings: BTreeMap<String, Ending>,
    /// Answers to queries of checks and triggers; without an entry there is no data.
    pub answers: BTreeMap<String, Reading>,
    /// Values of the binding whose pods never become ready.
    pub broken: Vec<String>,
    /// The namespace is being deleted.
    pub terminating: bool,
    /// Objects that this operator cannot read.
    pub unreadable: BTreeSet<Key>,
    /// Objects the decision on which panics.
    pub panics: BTreeSet<Key>,
    /// The mistake that the operator makes.
    pub mistake: Option<Mistake>,
    /// All writes of the operator.
    pub writes: Vec<Write>,
    pub(super) objects: BTreeMap<Key, Arc<Stored>>,
    /// Number of the last change.
    pub(super) counter: u64,
    pub(super) asleep: BTreeMap<Key, Sleep>,
}

/// The operator waits on an object: until the world changes, or until that time.
#[derive(Clone, Debug)]
pub(super) struct Sleep {
    pub(super) world: (u64, String),
    pub(super) until: Timestamp,
}

/// Every object is looked at this often, whatever it waits for.
pub(super) const RESYNC: SignedDuration = SignedDuration::from_mins(10);

impl Default for World {
    fn default() -> Self {
        Self {
            now: at(0),
            settings: Settings {
                artifacts: Some(ArtifactStore {
                    uri: "s3://store".into(),
                    credentials_ref: None,
                }),
                metric_providers: vec![MetricProvider {
                    name: "prometheus".to_owned(),
                    url: "http://prometheus".to_owned(),
                }],
                ..Settings::default()
            },
            report: Report::default(),
            endings: BTreeMap::new(),
            answers: BTreeMap::new(),
            broken: Vec::new(),
            terminating: false,
            unreadable: BTreeSet::new(),
            panics: BTreeSet::new(),
            mistake: None,
            writes: Vec::new(),
            objects: BTreeMap::new(),
            counter: 0,
            asleep: BTreeMap::new(),
        }
    }
}

impl World {
    /// Adds an object as a user would apply it.
    pub fn add<K: Serialize>(&mut self, kind: Kind, object: &K) -> &mut Self {
        let value = serde_json::to_value(object).expect("objects are JSON");
        assert!(self.create(kind, value), "the name is free");
        self
    }

    /// The object, if it exists and can be read.
    #[must_use]
    pub fn find<K: Readable>(&self, kind: Kind, name: &str) -> Option<K> {
        let key = (kind, name.to_owned());
        let stored = self.objects.get(&key).filter(|_| !self.unreadable.contains(&key));
        stored.map(|stored| stored.read())
    }

    /// The object, which exists.
    #[must_use]
    pub fn get<K: Readable>(&self, kind: Kind, name: &str) -> K {
        self.find(kind, name)
            .unwrap_or_else(|| panic!("{kind:?} {name} exists"))
    }

    /// All objects of a kind that can be read, by name.
    #[must_use]
    pub fn all<K: Readable>(&self, kind: Kind) -> Vec<K> {
        self.names(kind)
            .iter()
            .filter_map(|name| self.find(kind, name))
            .collect()
    }

    /// Names of all objects of a kind.
    #[must_use]
    pub fn names(&self, kind: Kind) -> Vec<String> {
        self.objects
            .keys()
            .filter(|(k, _)| *k == kind)
            .map(|(_, n)| n.clone())
            .collect()
    }

    /// The stored JSON.
    #[must_use]
    pub fn raw(&self, key: &Key) -> Option<&Value> {
        self.objects.get(key).map(|stored| &stored.value)
    }

    /// Changes an object as a user would; a changed spec makes a new generation.
    pub fn edit(&mut self, kind: Kind, name: &str, change: impl FnOnce(&mut Value)) {
        let key = (kind, name.to_owned());
        let Some(old) = self.raw(&key).cloned() else {
            return;
        };
        let mut new = old.clone();
        change(&mut new);
        if new == old {
            return;
        }
        // Of a Deployment the annotations count too, as its own strategy in the API server has it.
        let annotated = kind == Kind::Deployment && new["metadata"]["annotations"] != old["metadata"]["annotations"];
        if new["spec"] != old["spec"] || annotated {
            new["metadata"]["generation"] = json!(old["metadata"]["generation"].as_i64().unwrap_or(0) + 1);
        }
        self.put(key, new);
    }

    /// Forgets the status of an object, as a restored backup does.
    pub fn lose_status(&mut self, kind: Kind, name: &str) {
        self.edit(kind, name, |o| {
            if let Some(fields) = o.as_object_mut() {
                fields.remove("status");
            }
        });
    }

    /// Deletes an object as a user would: finalizers hold it, and what it owns goes with it.
    pub fn delete(&mut self, kind: Kind, name: &str) {
        let key = (kind, name.to_owned());
        let Some(old) = self.raw(&key).cloned() else {
            return;
        };
        let held = old["metadata"]["finalizers"].as_array().is_some_and(|f| !f.is_empty());
        if held {
            let mut new = old;
            if new["metadata"]["deletionTimestamp"].is_null() {
                new["metadata"]["deletionTimestamp"] = json!(Time(self.now));
                self.put(key, new);
            }
        } else {
            self.remove(&key);
        }
    }

    /// Lets time pass.
    pub fn pass(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
    }

    pub(super) fn fresh(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    pub(super) fn put(&mut self, key: Key, mut value: Value) {
        value["metadata"]["resourceVersion"] = json!(self.fresh().to_string());
        let gone = !value["metadata"]["deletionTimestamp"].is_null()
            && value["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty);
        self.objects.insert(key.clone(), Arc::new(Stored::new(value)));
        if gone {
            self.remove(&key);
        }
    }

    /// Removes an object, and then what it owned.
    fn remove(&mut self, key: &Key) {
        let Some(old) = self.objects.remove(key) else { return };
        self.fresh();
        let uid = old.value["metadata"]["uid"].clone();
        let owned: Vec<Key> = self
            .objects
            .iter()
            .filter(|(_, v)| {
                let mut owners = v.value["metadata"]["ownerReferences"].as_array().into_iter().flatten();
                owners.any(|o| o["uid"] == uid)
            })
            .map(|(k, _)| k.clone())
            .collect();
        for (kind, name) in owned {
            self.delete(kind, &name);
        }
    }

    pub(super) fn create(&mut self, kind: Kind, mut value: Value) -> bool {
        let name = value["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        assert!(!name.is_empty() && name.len() <= 63, "{name} is a DNS label");
        if self.objects.contains_key(&(kind, name.clone())) {
            return false;
        }
        value["metadata"]["uid"] = json!(format!("uid-{:04}", self.fresh()));
        value["metadata"]["namespace"] = json!(super::NAMESPACE);
        value["metadata"]["generation"] = json!(1);
        value["metadata"]["creationTimestamp"] = json!(Time(self.now));
        self.put((kind, name), value);
        true
    }

    /// What wakes the operator when it changes.
    pub(super) fn outside(&self) -> (u64, String) {
        let rest = format!("{:?} {:?} {}", self.settings, self.answers, self.terminating);
        (self.counter, rest)
    }

    /// Lets the operator look at everything once. Returns how many times it wrote.
    pub fn look_around(&mut self) -> usize {
        let keys: Vec<Key> = self
            .objects
            .keys()
            .filter(|(k, _)| DECIDED.contains(k))
            .cloned()
            .collect();
        keys.iter().filter(|(kind, name)| self.look(*kind, name)).count()
    }

    /// Lets the operator work until it waits everywhere.
    ///
    /// # Panics
    /// If it still writes after that many rounds: in a quiet world it must come to rest.
    pub fn settle(&mut self) {
        let rounds = 400;
        for _ in 0..rounds {
            if self.look_around() == 0 {
                return;
            }
        }
        let last: Vec<_> = self.writes.iter().rev().take(4).collect();
        panic!("the operator does not come to rest in {rounds} rounds; last writes: {last:#?}");
    }
}
