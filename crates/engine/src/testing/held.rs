//! Writes on their way: what the operator decided, until the API server gets it.
//!
//! Between a look and its write anything can happen: the operator stops, another one decides, the write is late. Here
//! the two are apart, so that a test can say what happens between them.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use jiff::Timestamp;

use super::mistake::{Mistake, seen, sent};
use super::patch;
use super::world::{Key, Kind, RESYNC, Sleep, World, Write};
use crate::decision::{Action, Child, Decision, Note, ObjectKey};
use crate::rollout::Reading;
use crate::{bias_policy, model_version, pipeline, rollout, run};

/// A write that was decided and did not arrive yet.
#[derive(Clone, Debug)]
pub struct Held {
    /// The object whose decision it is.
    pub actor: Key,
    /// The actor as it was when it decided.
    pub before: Value,
    /// What is written.
    pub content: Content,
    /// What the metric provider answered when it was decided.
    pub answers: BTreeMap<String, Reading>,
}

/// What a write writes.
#[derive(Clone, Debug)]
pub enum Content {
    /// The actor's status, if the actor is still what it was.
    Status(Value, Vec<Note>),
    /// One effect.
    Effect(Box<Action>),
}

impl World {
    /// Lets the operator look at one object once. Returns whether it wrote.
    pub fn look(&mut self, kind: Kind, name: &str) -> bool {
        self.hold(kind, name).is_some_and(|held| self.arrive(&held))
    }

    /// Lets the operator look at one object once, and holds the write that it decides on.
    pub fn hold(&mut self, kind: Kind, name: &str) -> Option<Held> {
        if self.is_passed_over(&(kind, name.to_owned())) {
            return None;
        }
        let decided = match kind {
            Kind::Pipeline => self.decided(
                kind,
                name,
                |w, n| w.seen(w.pipeline_observation(n), seen::pipeline),
                pipeline::decide,
            ),
            Kind::Run => self.decided(kind, name, |w, n| w.seen(w.run_observation(n), seen::run), run::decide),
            Kind::ModelVersion => self.decided(kind, name, Self::version_observation, model_version::decide),
            Kind::Rollout => self.decided(
                kind,
                name,
                |w, n| w.seen(w.rollout_observation(n), seen::rollout),
                rollout::decide,
            ),
            Kind::BiasPolicy => self.decided(kind, name, Self::policy_observation, bias_policy::decide),
            _ => None,
        };
        let Some(mistake) = self.mistake else { return decided };
        sent::instead(mistake, self, &(kind, name.to_owned()), decided)
    }

    /// Whether nothing comes of a look at this object: it cannot be read, or its decision panics, which is the affair of
    /// that object alone unless the operator makes a mistake.
    fn is_passed_over(&self, key: &Key) -> bool {
        let by_others = match self.mistake {
            Some(Mistake::PanicEndsAll) => !self.panics.is_empty(),
            Some(Mistake::UnreadableStopsAll) => self.unreadable.iter().any(|(kind, _)| *kind == key.0),
            _ => false,
        };
        by_others || self.panics.contains(key) || self.unreadable.contains(key)
    }

    /// An observation with the world's mistake in it.
    fn seen<O>(&self, observation: Option<O>, wrong: fn(Mistake, &mut O)) -> Option<O> {
        let mut observation = observation?;
        if let Some(mistake) = self.mistake {
            wrong(mistake, &mut observation);
        }
        Some(observation)
    }

    /// Whether an outdated write of this kind takes effect, by mistake.
    #[must_use]
    pub fn ignores_precondition(&self, content: &Content) -> bool {
        match content {
            Content::Status(..) => self.mistake == Some(Mistake::StatusWithoutPrecondition),
            Content::Effect(action) => match &**action {
                Action::Create(_) => false,
                Action::Patch(_) => self.mistake == Some(Mistake::EffectWithoutPrecondition),
                Action::Delete(_) => self.mistake == Some(Mistake::DeletesByName),
            },
        }
    }

    /// A held write reaches the API server. Returns whether its preconditions hold and it was done.
    pub fn arrive(&mut self, held: &Held) -> bool {
        match &held.content {
            Content::Status(status, events) => {
                let stored = self.raw(&held.actor).map(|o| &o["metadata"]);
                let same = |field: &str| stored.is_some_and(|m| m[field] == held.before["metadata"][field]);
                let outdated = !same("uid") || !same("resourceVersion");
                if outdated && !self.ignores_precondition(&held.content) {
                    return false;
                }
                let Some(mut after) = self.raw(&held.actor).cloned() else {
                    return false;
                };
                after["status"] = status.clone();
                self.put(held.actor.clone(), after.clone());
                self.log(held, None, Some(after), None, events.clone());
                true
            }
            Content::Effect(action) => {
                let object = self.subject(action);
                let regardless = self.ignores_precondition(&held.content);
                let done = self.carry_out((**action).clone(), regardless);
                self.log(held, Some((**action).clone()), None, object, Vec::new());
                done
            }
        }
    }

    fn decided<O, S>(
        &mut self,
        kind: Kind,
        name: &str,
        observe: fn(&Self, &str) -> Option<O>,
        decide: fn(&O) -> Decision<S>,
    ) -> Option<Held>
    where
        O: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
        S: Serialize + Clone + PartialEq + std::fmt::Debug,
    {
        let key = (kind, name.to_owned());
        let world = match self.mistake {
            Some(Mistake::DeafToOthers) => (0, format!("{:?}", self.raw(&key))),
            _ => self.outside(),
        };
        if self
            .asleep
            .get(&key)
            .is_some_and(|s| s.world == world && s.until > self.now)
        {
            return None;
        }
        let observation = observe(self, name)?;
        let decision = decide(&observation);
        if let Decision::Wait(wait) = &decision {
            let until = match self.mistake {
                Some(Mistake::DeafToTime) => Timestamp::MAX,
                Some(Mistake::DeafToOthers) => wait.until.unwrap_or(Timestamp::MAX),
                _ => wait.until.unwrap_or(Timestamp::MAX).min(self.now + RESYNC),
            };
            self.asleep.insert(key, Sleep { world, until });
            return None;
        }
        assert_eq!(
            decision,
            decide(&observation),
            "the same observation gives the same decision"
        );
        if !self.writes.is_empty() && self.writes.len().is_multiple_of(8) {
            let text = serde_json::to_string(&observation).expect("observations are JSON");
            let replayed: O = serde_json::from_str(&text).expect("observations can be read back");
            assert_eq!(replayed, observation, "an observation can be replayed");
        }
        let before = self.raw(&key).cloned().unwrap_or_default();
        let content = match decision {
            Decision::Record(record) => {
                let status = serde_json::to_value(&record.status).expect("a status is JSON");
                Content::Status(status, record.events)
            }
            Decision::Do(effect) => Content::Effect(Box::new(effect.action)),
            Decision::Wait(_) => return None,
        };
        Some(Held {
            actor: key,
            before,
            content,
            answers: self.answers.clone(),
        })
    }

    fn log(
        &mut self,
        held: &Held,
        action: Option<Action>,
        after: Option<Value>,
        object_before: Option<Value>,
        events: Vec<Note>,
    ) {
        self.writes.push(Write {
            at: self.now,
            actor: held.actor.clone(),
            before: held.before.clone(),
            action,
            after,
            object_before,
            events,
            answers: held.answers.clone(),
        });
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

    fn subject(&self, action: &Action) -> Option<Value> {
        let key = match action {
            Action::Create(_) => return None,
            Action::Patch(patch) => &patch.object,
            Action::Delete(key) => key,
        };
        self.raw(&(key.kind.into(), key.name.clone())).cloned()
    }

    /// Whether the preconditions of a write hold.
    fn holds(&self, key: &ObjectKey) -> bool {
        self.raw(&(key.kind.into(), key.name.clone())).is_some_and(|o| {
            let version = key.resource_version.as_ref();
            o["metadata"]["uid"] == json!(key.uid)
                && version.is_none_or(|v| o["metadata"]["resourceVersion"] == json!(v))
        })
    }

    fn carry_out(&mut self, action: Action, regardless: bool) -> bool {
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
                let holds = regardless || self.holds(&change.object);
                if holds {
                    let (kind, name) = (change.object.kind.into(), change.object.name.clone());
                    self.edit(kind, &name, |o| patch::apply(change.kind, o, &change.body));
                }
                holds
            }
            Action::Delete(key) => {
                let holds = regardless || self.holds(&key);
                if holds {
                    self.delete(key.kind.into(), &key.name);
                }
                holds
            }
        }
    }
}

/// A decision as JSON.
pub fn shown<S: Serialize>(decision: Decision<S>) -> Value {
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

pub(super) fn split(child: Child) -> (Kind, Value) {
    match child {
        Child::Job(o) => (Kind::Job, json!(o)),
        Child::ControllerRevision(o) => (Kind::ControllerRevision, json!(o)),
        Child::FlywheelRun(o) => (Kind::Run, json!(o)),
        Child::ModelVersion(o) => (Kind::ModelVersion, json!(o)),
        Child::Rollout(o) => (Kind::Rollout, json!(o)),
        Child::Deployment(o) => (Kind::Deployment, json!(o)),
    }
}
