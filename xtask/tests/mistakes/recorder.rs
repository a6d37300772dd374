//! What happens in a world, as the audit log of an API server would tell it.

use std::collections::BTreeMap;

use flywheel_engine::decision::{Action, Child, ChildKind};
use flywheel_engine::testing::{Content, Held, Key, Kind, NAMESPACE, World};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use xtask::trace::audit::Request;
use xtask::trace::{self, History};

/// Watches a world, and keeps who wrote what.
#[derive(Default)]
pub struct Recorder {
    requests: Vec<Request>,
    known: BTreeMap<Key, Value>,
    revision: u64,
    at: Timestamp,
}

impl Recorder {
    /// What changed since the last look; of the operator is what it wrote, everything else is of others.
    pub fn note(&mut self, world: &World, written: Option<&Held>) {
        let mut fresh: Vec<(u64, Key)> = Vec::new();
        for key in world.keys() {
            let object = world.raw(key).expect("it is there");
            let version = |o: &Value| o["metadata"]["resourceVersion"].as_str().and_then(|v| v.parse().ok());
            if self.known.get(key).map(version) != Some(version(object)) {
                fresh.push((version(object).unwrap_or(0), key.clone()));
            }
        }
        fresh.sort();
        let gone: Vec<Key> = self.known.keys().filter(|k| world.raw(k).is_none()).cloned().collect();
        for key in fresh.into_iter().map(|(_, key)| key) {
            let object = world.raw(&key).expect("it is there").clone();
            self.changed(world, &key, object, written);
        }
        for key in gone {
            self.vanished(world, &key, written);
        }
    }

    fn changed(&mut self, world: &World, key: &Key, object: Value, written: Option<&Held>) {
        let operator = written.is_some_and(|held| subject(held) == *key);
        let before = self.known.insert(key.clone(), object.clone());
        let same = before.filter(|b| b["metadata"]["uid"] == object["metadata"]["uid"]);
        let status = same.as_ref().is_some_and(|b| b["status"] != object["status"])
            || written.is_some_and(|h| operator && matches!(h.content, Content::Status(..)));
        let (verb, part, code) = match &same {
            None => ("create", "", 201),
            Some(_) if status => ("update", "status", 200),
            Some(_) => ("patch", "", 200),
        };
        // The API server leaves the revision as it is where nothing changes.
        let idle = same.is_some_and(|mut before| {
            before["metadata"]["resourceVersion"] = object["metadata"]["resourceVersion"].clone();
            before == object
        });
        self.log(world, key, (verb, part, code), operator, object, !idle);
    }

    fn vanished(&mut self, world: &World, key: &Key, written: Option<&Held>) {
        let mut object = self.known.remove(key).expect("it was there");
        let operator = written.is_some_and(|held| subject(held) == *key);
        let patched =
            written.is_some_and(|h| matches!(&h.content, Content::Effect(a) if matches!(**a, Action::Patch(_))));
        if operator && patched {
            // The last finalizer went.
            object["metadata"]["finalizers"] = json!([]);
            self.log(world, key, ("patch", "", 200), true, object, true);
        } else {
            let answer = json!({ "kind": "Status", "status": "Success" });
            self.log(world, key, ("delete", "", 200), operator, answer, false);
        }
    }

    fn log(
        &mut self,
        world: &World,
        key: &Key,
        (verb, part, code): (&str, &str, u16),
        operator: bool,
        mut answer: Value,
        moves: bool,
    ) {
        self.revision += u64::from(moves);
        if answer["metadata"].is_object() {
            answer["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        }
        self.at = (self.at + SignedDuration::from_millis(10)).max(world.now);
        self.requests.push(Request {
            at: self.at.to_string(),
            user: if operator { "operator" } else { "jane" }.to_owned(),
            credential: String::new(),
            operator,
            verb: verb.to_owned(),
            key: trace::Key {
                kind: kind(key.0),
                namespace: NAMESPACE.to_owned(),
                name: key.1.clone(),
            },
            subresource: part.to_owned(),
            code,
            body: Value::Null,
            answer,
        });
    }

    pub fn history(&self) -> History {
        History::fold(self.requests.clone())
    }
}

/// The object that a write is about.
fn subject(held: &Held) -> Key {
    let of = |kind: ChildKind, name: &str| (kind.into(), name.to_owned());
    match &held.content {
        Content::Status(..) => held.actor.clone(),
        Content::Effect(action) => match &**action {
            Action::Create(child) => created(child),
            Action::Patch(patch) => of(patch.object.kind, &patch.object.name),
            Action::Delete(key) => of(key.kind, &key.name),
        },
    }
}

fn kind(kind: Kind) -> trace::Kind {
    match kind {
        Kind::Pipeline => trace::Kind::Pipeline,
        Kind::Run => trace::Kind::Run,
        Kind::ModelVersion => trace::Kind::Version,
        Kind::Rollout => trace::Kind::Rollout,
        Kind::BiasPolicy => trace::Kind::Policy,
        Kind::Approval => trace::Kind::Approval,
        Kind::Deployment => trace::Kind::Deployment,
        Kind::Job => trace::Kind::Job,
        Kind::ControllerRevision => trace::Kind::Revision,
        Kind::Pod => trace::Kind::Other("pods".to_owned()),
    }
}

fn created(child: &Child) -> Key {
    let (kind, metadata) = match child {
        Child::Job(o) => (Kind::Job, &o.metadata),
        Child::ControllerRevision(o) => (Kind::ControllerRevision, &o.metadata),
        Child::FlywheelRun(o) => (Kind::Run, &o.metadata),
        Child::ModelVersion(o) => (Kind::ModelVersion, &o.metadata),
        Child::Rollout(o) => (Kind::Rollout, &o.metadata),
        Child::Deployment(o) => (Kind::Deployment, &o.metadata),
    };
    (kind, metadata.name.clone().unwrap_or_default())
}
