//! Writes one after the other, as an API server would have logged them.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::trace::audit::Request;
use crate::trace::{History, Key, Kind};

/// Who writes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum By {
    Operator,
    User,
}

pub struct Story {
    pub requests: Vec<Request>,
    pub namespace: &'static str,
    objects: BTreeMap<Key, Value>,
    revision: u64,
    now: Timestamp,
}

impl Story {
    pub fn new() -> Self {
        Self {
            requests: Vec::new(),
            namespace: "a",
            objects: BTreeMap::new(),
            revision: 100,
            now: "2026-01-01T00:00:00Z".parse().expect("a time"),
        }
    }

    pub fn wait(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
    }

    /// The present second, as statuses hold it.
    pub fn second(&self) -> String {
        let second = Timestamp::from_second(self.now.as_second()).expect("a time");
        second.to_string()
    }

    pub fn key(&self, kind: &Kind, name: &str) -> Key {
        Key {
            kind: kind.clone(),
            namespace: self.namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    pub fn get(&self, kind: &Kind, name: &str) -> Value {
        self.objects.get(&self.key(kind, name)).cloned().unwrap_or_default()
    }

    pub fn uid(&self, kind: &Kind, name: &str) -> String {
        self.get(kind, name)["metadata"]["uid"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    pub fn create(&mut self, by: By, kind: &Kind, name: &str, mut object: Value) -> String {
        let uid = format!("{}-{name}-{}", kind.resource().1, self.revision);
        object["metadata"]["name"] = json!(name);
        object["metadata"]["namespace"] = json!(self.namespace);
        object["metadata"]["uid"] = json!(uid);
        object["metadata"]["generation"] = json!(1);
        self.write(by, "create", kind, name, "", 201, object);
        uid
    }

    pub fn patch(&mut self, by: By, kind: &Kind, name: &str, change: impl FnOnce(&mut Value)) {
        let mut object = self.get(kind, name);
        change(&mut object);
        self.write(by, "patch", kind, name, "", 200, object);
    }

    pub fn status(&mut self, by: By, kind: &Kind, name: &str, change: impl FnOnce(&mut Value)) {
        let mut object = self.get(kind, name);
        change(&mut object["status"]);
        self.write(by, "update", kind, name, "status", 200, object);
    }

    pub fn delete(&mut self, by: By, kind: &Kind, name: &str) {
        let key = self.key(kind, name);
        let kept = self
            .objects
            .get(&key)
            .filter(|o| !o["metadata"]["finalizers"].is_null())
            .cloned();
        match kept {
            Some(mut object) => {
                object["metadata"]["deletionTimestamp"] = json!(self.second());
                self.write(by, "delete", kind, name, "", 200, object);
            }
            None => {
                self.objects.remove(&key);
                self.log(
                    by,
                    "delete",
                    key,
                    "",
                    200,
                    json!({ "kind": "Status", "status": "Success" }),
                );
            }
        }
    }

    /// A write of a status that changes nothing: the API server leaves the revision as it is.
    pub fn again(&mut self, by: By, kind: &Kind, name: &str) {
        let (key, object) = (self.key(kind, name), self.get(kind, name));
        self.log(by, "update", key, "status", 200, object);
    }

    /// A request that the API server refused.
    pub fn refused(&mut self, by: By, verb: &str, kind: &Kind, name: &str, code: u16) {
        let key = self.key(kind, name);
        self.log(
            by,
            verb,
            key,
            "",
            code,
            json!({ "kind": "Status", "status": "Failure" }),
        );
    }

    fn write(&mut self, by: By, verb: &str, kind: &Kind, name: &str, part: &str, code: u16, mut object: Value) {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        let key = self.key(kind, name);
        self.objects.insert(key.clone(), object.clone());
        self.log(by, verb, key, part, code, object);
    }

    fn log(&mut self, by: By, verb: &str, key: Key, part: &str, code: u16, answer: Value) {
        self.now += SignedDuration::from_millis(100);
        let operator = by == By::Operator;
        self.requests.push(Request {
            at: self.now.to_string(),
            user: if operator { "operator" } else { "jane" }.to_owned(),
            credential: String::new(),
            operator,
            verb: verb.to_owned(),
            key,
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
