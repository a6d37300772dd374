//! The objects of one namespace, and what an API server does with decisions.

use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::kind::DECIDED;
pub use super::kind::Kind;
use super::nature::{Ending, Report};
use super::{at, patch};
use crate::decision::{Action, Child, Decision, Note, ObjectKey};
use crate::rollout::Reading;
use crate::settings::{MetricProvider, Settings};
use crate::{bias_policy, model_version, pipeline, rollout, run};
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
    /// All writes of the operator.
    pub writes: Vec<Write>,
    objects: BTreeMap<Key, Value>,
    counter: u64,
    asleep: BTreeMap<Key, Sleep>,
    /// Objects that were read since they changed: reading JSON is what costs time.
    read: RefCell<BTreeMap<Key, Rc<dyn Any>>>,
}

/// The operator waits on an object: until the world changes, or until that time.
#[derive(Clone, Debug)]
struct Sleep {
    world: (u64, String),
    until: Timestamp,
}

/// Every object is looked at this often, whatever it waits for.
const RESYNC: SignedDuration = SignedDuration::from_mins(10);

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
            writes: Vec::new(),
            objects: BTreeMap::new(),
            counter: 0,
            asleep: BTreeMap::new(),
            read: RefCell::default(),
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

    /// The object, if it exists.
    #[must_use]
    pub fn find<K: DeserializeOwned + Clone + 'static>(&self, kind: Kind, name: &str) -> Option<K> {
        let key = (kind, name.to_owned());
        let value = self.objects.get(&key)?;
        if let Some(known) = self.read.borrow().get(&key).and_then(|k| k.downcast_ref::<K>()) {
            return Some(known.clone());
        }
        let object: K = serde_json::from_value(value.clone()).expect("the world keeps readable objects");
        self.read.borrow_mut().insert(key, Rc::new(object.clone()));
        Some(object)
    }

    /// The object, which exists.
    #[must_use]
    pub fn get<K: DeserializeOwned + Clone + 'static>(&self, kind: Kind, name: &str) -> K {
        self.find(kind, name)
            .unwrap_or_else(|| panic!("{kind:?} {name} exists"))
    }

    /// All objects of a kind, by name.
    #[must_use]
    pub fn all<K: DeserializeOwned + Clone + 'static>(&self, kind: Kind) -> Vec<K> {
        self.names(kind).iter().map(|name| self.get(kind, name)).collect()
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
        self.objects.get(key)
    }

    /// Changes an object as a user would; a changed spec makes a new generation.
    pub fn edit(&mut self, kind: Kind, name: &str, change: impl FnOnce(&mut Value)) {
        let key = (kind, name.to_owned());
        let Some(old) = self.objects.get(&key).cloned() else {
            return;
        };
        let mut new = old.clone();
        change(&mut new);
        if new == old {
            return;
        }
        if new["spec"] != old["spec"] {
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
        let Some(old) = self.objects.get(&key).cloned() else {
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

    fn fresh(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    fn put(&mut self, key: Key, mut value: Value) {
        value["metadata"]["resourceVersion"] = json!(self.fresh().to_string());
        let gone = !value["metadata"]["deletionTimestamp"].is_null()
            && value["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty);
        self.read.borrow_mut().remove(&key);
        self.objects.insert(key.clone(), value);
        if gone {
            self.remove(&key);
        }
    }

    /// Removes an object, and then what it owned.
    fn remove(&mut self, key: &Key) {
        let Some(old) = self.objects.remove(key) else { return };
        self.read.borrow_mut().remove(key);
        self.fresh();
        let uid = old["metadata"]["uid"].clone();
        let owned: Vec<Key> = self
            .objects
            .iter()
            .filter(|(_, v)| {
                let mut owners = v["metadata"]["ownerReferences"].as_array().into_iter().flatten();
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

    /// Lets the operator look at one object once. Returns whether it wrote.
    pub fn look(&mut self, kind: Kind, name: &str) -> bool {
        match kind {
            Kind::Pipeline => self.decided(kind, name, Self::pipeline_observation, pipeline::decide),
            Kind::Run => self.decided(kind, name, Self::run_observation, run::decide),
            Kind::ModelVersion => self.decided(kind, name, Self::version_observation, model_version::decide),
            Kind::Rollout => self.decided(kind, name, Self::rollout_observation, rollout::decide),
            Kind::BiasPolicy => self.decided(kind, name, Self::policy_observation, bias_policy::decide),
            _ => false,
        }
    }

    /// The decision on an object as JSON, for snapshots; nothing is written.
    #[must_use]
    pub fn decision(&self, kind: Kind, name: &str) -> Value {
        match kind {
            Kind::Pipeline => self.pipeline_observation(name).map(|o| shown(pipeline::decide(&o))),
            Kind::Run => self.run_observation(name).map(|o| shown(run::decide(&o))),
            Kind::ModelVersion => self.version_observation(name).map(|o| shown(model_version::decide(&o))),
            Kind::Rollout => self.rollout_observation(name).map(|o| shown(rollout::decide(&o))),
            Kind::BiasPolicy => self.policy_observation(name).map(|o| shown(bias_policy::decide(&o))),
            _ => None,
        }
        .unwrap_or_default()
    }

    fn decided<O, S>(
        &mut self,
        kind: Kind,
        name: &str,
        observe: fn(&Self, &str) -> Option<O>,
        decide: fn(&O) -> Decision<S>,
    ) -> bool
    where
        O: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
        S: Serialize + Clone + PartialEq + std::fmt::Debug,
    {
        let key = (kind, name.to_owned());
        let world = self.outside();
        if self
            .asleep
            .get(&key)
            .is_some_and(|s| s.world == world && s.until > self.now)
        {
            return false;
        }
        let Some(observation) = observe(self, name) else {
            return false;
        };
        let decision = decide(&observation);
        if let Decision::Wait(wait) = &decision {
            let until = wait.until.unwrap_or(Timestamp::MAX).min(self.now + RESYNC);
            self.asleep.insert(key, Sleep { world, until });
            return false;
        }
        assert_eq!(
            decision,
            decide(&observation),
            "the same observation gives the same decision"
        );
        if self.writes.len().is_multiple_of(8) {
            let text = serde_json::to_string(&observation).expect("observations are JSON");
            let replayed: O = serde_json::from_str(&text).expect("observations can be read back");
            assert_eq!(replayed, observation, "an observation can be replayed");
        }
        let before = self.objects.get(&key).cloned().unwrap_or_default();
        match decision {
            Decision::Record(record) => {
                let mut after = before.clone();
                after["status"] = serde_json::to_value(&record.status).expect("a status is JSON");
                self.put(key.clone(), after.clone());
                self.log(key, before, None, Some(after), None, record.events);
                true
            }
            Decision::Do(effect) => {
                let object = self.subject(&effect.action);
                let done = self.carry_out(effect.action.clone());
                self.log(key, before, Some(effect.action), None, object, Vec::new());
                done
            }
            Decision::Wait(_) => false,
        }
    }

    /// What wakes the operator when it changes.
    fn outside(&self) -> (u64, String) {
        let rest = format!("{:?} {:?} {}", self.settings, self.answers, self.terminating);
        (self.counter, rest)
    }

    fn log(
        &mut self,
        actor: Key,
        before: Value,
        action: Option<Action>,
        after: Option<Value>,
        object_before: Option<Value>,
        events: Vec<Note>,
    ) {
        self.writes.push(Write {
            at: self.now,
            actor,
            before,
            action,
            after,
            object_before,
            events,
        });
    }

    fn subject(&self, action: &Action) -> Option<Value> {
        let key = match action {
            Action::Create(_) => return None,
            Action::Patch(patch) => &patch.object,
            Action::Delete(key) => key,
        };
        self.objects.get(&(key.kind.into(), key.name.clone())).cloned()
    }

    /// Whether the preconditions of a write hold.
    fn holds(&self, key: &ObjectKey) -> bool {
        self.objects.get(&(key.kind.into(), key.name.clone())).is_some_and(|o| {
            let version = key.resource_version.as_ref();
            o["metadata"]["uid"] == json!(key.uid)
                && version.is_none_or(|v| o["metadata"]["resourceVersion"] == json!(v))
        })
    }

    fn carry_out(&mut self, action: Action) -> bool {
        match action {
            Action::Create(child) => {
                let (kind, value) = split(*child);
                self.create(kind, value)
            }
            Action::Patch(change) => {
                assert!(
                    change.object.resource_version.is_some(),
                    "a patch has a precondition: {change:?}"
                );
                let holds = self.holds(&change.object);
                if holds {
                    let (kind, name) = (change.object.kind.into(), change.object.name.clone());
                    self.edit(kind, &name, |o| patch::apply(change.kind, o, &change.body));
                }
                holds
            }
            Action::Delete(key) => {
                let holds = self.holds(&key);
                if holds {
                    self.delete(key.kind.into(), &key.name);
                }
                holds
            }
        }
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

fn shown<S: Serialize>(decision: Decision<S>) -> Value {
    match decision {
        Decision::Record(record) => json!({ "record": record.status, "events": record.events }),
        Decision::Do(effect) => match effect.action {
            Action::Create(child) => json!({ "why": effect.why, "create": split(*child).1 }),
            Action::Patch(patch) => json!({ "why": effect.why, "patch": patch.object, "body": patch.body }),
            Action::Delete(key) => json!({ "why": effect.why, "delete": key }),
        },
        Decision::Wait(wait) => json!({ "wait": wait.reason, "until": wait.until }),
    }
}

fn split(child: Child) -> (Kind, Value) {
    match child {
        Child::Job(o) => (Kind::Job, json!(o)),
        Child::ControllerRevision(o) => (Kind::ControllerRevision, json!(o)),
        Child::FlywheelRun(o) => (Kind::Run, json!(o)),
        Child::ModelVersion(o) => (Kind::ModelVersion, json!(o)),
        Child::Rollout(o) => (Kind::Rollout, json!(o)),
        Child::Deployment(o) => (Kind::Deployment, json!(o)),
    }
}
