//! The writes of an audit log in the order in which the API server made them, with each object before and after.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead as _, BufReader, Read, Seek as _, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::audit::{self, Request};
use super::json::{changes, int, list, text, uid};
use super::lost::{self, Fate};
use super::world::{Key, World};

/// One write, or a refused try.
#[derive(Debug, Clone)]
pub struct Step {
    /// Revision of the store after it; of a deletion the last one before.
    pub revision: u64,
    /// When.
    pub at: String,
    /// Who.
    pub user: String,
    /// What proved who it was; every process of an operator has its own, as a rule.
    pub credential: String,
    /// The operator wrote it.
    pub operator: bool,
    /// `create`, `update`, `patch`, `delete` or `deletecollection`.
    pub verb: String,
    /// Which object.
    pub key: Key,
    /// Part of the object; empty for the object itself.
    pub subresource: String,
    /// HTTP status of the answer; 400 and more: nothing was written.
    pub code: u16,
    /// The object before; nothing if it did not exist.
    pub before: Option<Arc<Value>>,
    /// The object after; nothing if it is gone.
    pub after: Option<Arc<Value>>,
}

impl Step {
    /// Whether the API server carried it out.
    #[must_use]
    pub const fn succeeded(&self) -> bool {
        self.code < 400
    }

    /// The object: as it is after, or was before it went.
    #[must_use]
    pub fn object(&self) -> &Value {
        let found = self.after.as_deref().or(self.before.as_deref());
        found.unwrap_or(&Value::Null)
    }

    /// The object before.
    #[must_use]
    pub fn earlier(&self) -> &Value {
        self.before.as_deref().unwrap_or(&Value::Null)
    }

    /// The object after.
    #[must_use]
    pub fn later(&self) -> &Value {
        self.after.as_deref().unwrap_or(&Value::Null)
    }

    /// Whether nobody was told if it was made: the answer was lost, or came too late.
    #[must_use]
    pub const fn is_lost(&self) -> bool {
        self.code >= 500
    }

    /// Whether an object that was there before and is there after is what it was, but for what every write changes.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let stays = self.before.is_some() && self.after.is_some() && !self.verb.starts_with("delete");
        stays && changes(self.before.as_deref(), self.after.as_deref()).is_empty()
    }

    /// Whether the object came into being.
    #[must_use]
    pub fn created(&self) -> bool {
        self.code == 201 && self.subresource.is_empty() && self.after.is_some()
    }
}

/// Which part of a log counts.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// Only this namespace; all if absent.
    pub namespace: Option<String>,
    /// Bytes at the beginning of the log that are skipped.
    pub from: u64,
}

/// The writes of an audit log in the order in which the API server made them.
#[derive(Debug, Default)]
pub struct History {
    /// All writes.
    pub steps: Vec<Step>,
}

impl History {
    /// Reads an audit log.
    ///
    /// # Errors
    /// If the file cannot be read, or one of its lines is no audit event.
    pub fn read(log: &Path, scope: &Scope) -> Result<Self> {
        let context = || format!("cannot read the audit log {}", log.display());
        let mut file = std::fs::File::open(log).with_context(context)?;
        file.seek(SeekFrom::Start(scope.from)).with_context(context)?;
        Self::parse(file, scope.namespace.as_deref()).with_context(context)
    }

    /// Reads the lines of an audit log; a last line without end is still being written and does not count.
    ///
    /// # Errors
    /// If the source cannot be read, or one of its lines is no audit event.
    pub fn parse(source: impl Read, namespace: Option<&str>) -> Result<Self> {
        let wanted = namespace.map(|n| format!("\"namespace\":\"{n}\""));
        let mut lines = BufReader::with_capacity(1 << 20, source);
        let (mut requests, mut line, mut number) = (Vec::new(), String::new(), 0_usize);
        loop {
            line.clear();
            if lines.read_line(&mut line)? == 0 || !line.ends_with('\n') {
                break;
            }
            number += 1;
            if wanted.as_ref().is_some_and(|w| !line.contains(w)) {
                continue;
            }
            let request = audit::read(&line).with_context(|| format!("line {number}"))?;
            let ours = |r: &Request| namespace.is_none_or(|n| r.key.namespace == n);
            requests.extend(request.filter(ours));
        }
        Ok(Self::fold(requests))
    }

    /// Orders requests and computes each object before and after.
    #[must_use]
    pub fn fold(requests: Vec<Request>) -> Self {
        let mut ordered = Vec::with_capacity(requests.len());
        let mut last = 0;
        for request in requests {
            let revision = revision(&request.answer).filter(|_| request.code < 400 && !vanishes(&request.answer));
            last = revision.unwrap_or(0).max(last);
            ordered.push((revision.unwrap_or(last), request));
        }
        // Stable: requests without a revision of their own stay behind what was logged before them.
        ordered.sort_by_key(|(revision, _)| *revision);
        let (mut fold, mut fates) = (Fold::default(), lost::fates(&ordered));
        let steps = ordered
            .into_iter()
            .enumerate()
            .flat_map(|(place, (revision, r))| fold.steps(revision, &r, fates.remove(&place)))
            .collect();
        Self { steps }
    }

    /// The last writes on these objects up to a step, the newest last.
    #[must_use]
    pub fn trail(&self, until: usize, keys: &[Key], most: usize) -> Vec<&Step> {
        let of = |s: &&Step| keys.contains(&s.key) && s.succeeded();
        let past = self.steps.iter().take(until + 1).rev();
        let mut trail: Vec<&Step> = past.filter(of).take(most).collect();
        trail.reverse();
        trail
    }
}

fn revision(answer: &Value) -> Option<u64> {
    text(answer, "/metadata/resourceVersion").parse().ok()
}

/// UID of the object that a deletion answers with, whole or in a status.
fn deleted(answer: &Value) -> &str {
    match uid(answer) {
        "" => text(answer, "/details/uid"),
        uid => uid,
    }
}

/// Whether an answer is that to a write which took the last finalizer off an object on its way out. It bears the revision
/// of the write before it, which says nothing about when the object went. Pods have a time to end in.
fn vanishes(answer: &Value) -> bool {
    let marked = !text(answer, "/metadata/deletionTimestamp").is_empty();
    let grace = int(answer, "/metadata/deletionGracePeriodSeconds").unwrap_or(0);
    marked && grace == 0 && list(answer, "/metadata/finalizers").is_empty()
}

#[derive(Default)]
struct Fold {
    world: World,
    gone: HashMap<String, Arc<Value>>,
    /// UIDs of what was deleted with its collection.
    collected: HashSet<String>,
    /// Writes whose outcome nobody was told: their client went away, or the answer came too late.
    lost: HashMap<Key, Vec<Request>>,
}

impl Fold {
    fn steps(&mut self, revision: u64, request: &Request, fate: Option<Fate>) -> Vec<Step> {
        if request.verb == "deletecollection" && request.code < 400 {
            let gone = self.collected(request);
            let uids = list(&request.answer, "/items").iter().map(|o| uid(o).to_owned());
            self.collected.extend(uids);
            if gone.is_empty() && request.operator {
                // What was in it the log does not tell, or nothing; that the operator asked for it is to be seen.
                return vec![self.step(revision, request, request.key.clone(), None)];
            }
            return gone
                .into_iter()
                .map(|(key, after)| self.step(revision, request, key, after))
                .collect();
        }
        let repeated = request.verb == "delete" && self.gone.contains_key(deleted(&request.answer));
        if repeated && request.code < 400 {
            // The second answer to a deletion: the last finalizer went in between, or its collection, of which each object may
            // be gone already, was logged first.
            return Vec::new();
        }
        let key = request.key.clone();
        let after = match request.code < 400 {
            true => self.after(request),
            false => self.world.get(&key).cloned(),
        };
        if request.code >= 500 {
            let refused = self.step(revision, request, key, after);
            let made = fate.and_then(|fate| self.settled(revision, request, &fate));
            if made.is_none() {
                self.lose(request);
            }
            return [refused].into_iter().chain(made).collect();
        }
        // A refusal says nothing of the object.
        let late = match request.code < 400 {
            true => self.late(revision, request, after.as_deref()),
            false => Vec::new(),
        };
        late.into_iter()
            .chain([self.step(revision, request, key, after)])
            .collect()
    }

    /// The creation or the deletion that a lost request made after all.
    fn settled(&mut self, revision: u64, lost: &Request, fate: &Fate) -> Option<Step> {
        let known = self.world.get(&lost.key).cloned();
        let (code, after) = match (lost.verb.as_str(), known) {
            ("create", None) => (201, Some(fate.born(lost)?)),
            ("create", Some(_)) | (_, None) => return None,
            (_, Some(object)) => (200, fate.left(lost, &object)?),
        };
        let made = Request { code, ..lost.clone() };
        Some(self.step(revision, &made, lost.key.clone(), after.map(Arc::new)))
    }

    /// Keeps a lost write until the next one on its object tells of it.
    fn lose(&mut self, request: &Request) {
        if !matches!(request.verb.as_str(), "update" | "patch") {
            return;
        }
        let of_status = |r: &Request| r.subresource == "status";
        let known = self.lost.entry(request.key.clone()).or_default();
        known.retain(|other| of_status(other) != of_status(request));
        known.push(request.clone());
    }

    /// The lost writes on an object that the next one shows to have been made.
    fn late(&mut self, revision: u64, next: &Request, after: Option<&Value>) -> Vec<Step> {
        let all = self.lost.remove(&next.key).unwrap_or_default();
        let mut steps = Vec::new();
        for (place, lost) in all.iter().enumerate() {
            let replaced = lost::replaced(all.iter().skip(place + 1).chain([next]));
            let Some(before) = self.world.get(&next.key).cloned() else {
                break;
            };
            if let Some(between) = lost::between(&before, lost, replaced, next, after) {
                let made = Request {
                    code: 200,
                    ..lost.clone()
                };
                steps.push(self.step(revision, &made, next.key.clone(), Some(Arc::new(between))));
            }
        }
        steps
    }

    fn step(&mut self, revision: u64, request: &Request, key: Key, after: Option<Arc<Value>>) -> Step {
        let before = self.before(request, &key);
        if let (Some(before), None) = (&before, &after) {
            self.gone.insert(uid(before).to_owned(), before.clone());
        }
        let step = Step {
            revision,
            at: request.at.clone(),
            user: request.user.clone(),
            credential: request.credential.clone(),
            operator: request.operator,
            verb: request.verb.clone(),
            subresource: request.subresource.clone(),
            code: request.code,
            key,
            before,
            after,
        };
        self.world.set(&step);
        step
    }

    /// The object before a request. A collection's deletion is logged with the revision of its listing; its objects are
    /// marked one by one after it, and a write in between answers without the mark.
    fn before(&self, request: &Request, key: &Key) -> Option<Arc<Value>> {
        let known = self.world.get(key)?;
        let marked = text(&request.answer, "/metadata/deletionTimestamp");
        let between = uid(&request.answer) == uid(known) && self.collected.contains(uid(known));
        Some(match between && !marked.is_empty() {
            true => Arc::new(leaving(known, marked)),
            false => known.clone(),
        })
    }

    /// What the object is after a request that succeeded.
    fn after(&self, request: &Request) -> Option<Arc<Value>> {
        let (answer, current) = (&request.answer, self.world.get(&request.key));
        if text(answer, "/kind") == "Status" {
            return current.filter(|_| request.verb != "delete").cloned();
        }
        if request.subresource == "scale" {
            return current.map(|object| Arc::new(scaled(object, answer)));
        }
        // Clients that want no more are answered with the metadata alone.
        if text(answer, "/kind") == "PartialObjectMetadata" {
            let whole = current.map(|object| with_metadata(object, answer))?;
            return still_there(request, &whole).then(|| Arc::new(whole));
        }
        let part = !matches!(request.subresource.as_str(), "" | "status");
        if part || uid(answer).is_empty() {
            return current.cloned();
        }
        // A write that was logged after the deletion that followed it.
        if self.gone.contains_key(uid(answer)) {
            return current.cloned();
        }
        still_there(request, answer).then(|| Arc::new(answer.clone()))
    }

    /// What became of the objects of a deleted collection.
    fn collected(&self, request: &Request) -> Vec<(Key, Option<Arc<Value>>)> {
        let (kind, namespace) = (request.key.kind.clone(), &request.key.namespace);
        let answered = list(&request.answer, "/items");
        let all = self.world.all(kind, namespace);
        let deleted = all.filter(|(_, object)| answered.iter().any(|a| uid(a) == uid(object)));
        deleted
            .map(|(key, object)| {
                let kept = !list(object, "/metadata/finalizers").is_empty();
                (key.clone(), kept.then(|| Arc::new(leaving(object, &request.at))))
            })
            .collect()
    }
}

/// Whether the object that a request left is still there: a deleted one stays while it has finalizers.
fn still_there(request: &Request, object: &Value) -> bool {
    let leaving = !text(object, "/metadata/deletionTimestamp").is_empty() || request.verb == "delete";
    !leaving || !list(object, "/metadata/finalizers").is_empty()
}

/// The object as a deletion leaves it while it has finalizers.
pub(super) fn leaving(object: &Value, at: &str) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object.pointer_mut("/metadata").and_then(Value::as_object_mut) {
        metadata.entry("deletionTimestamp").or_insert_with(|| json!(at));
    }
    object
}

fn with_metadata(object: &Value, answer: &Value) -> Value {
    let mut object = object.clone();
    if let (Some(fields), Some(metadata)) = (object.as_object_mut(), answer.get("metadata")) {
        fields.insert("metadata".to_owned(), metadata.clone());
    }
    object
}

fn scaled(object: &Value, scale: &Value) -> Value {
    let mut object = object.clone();
    let fields = [
        ("/spec/replicas", "replicas", "/spec"),
        ("/metadata/resourceVersion", "resourceVersion", "/metadata"),
    ];
    for (pointer, field, parent) in fields {
        if let (Some(value), Some(Value::Object(at))) = (scale.pointer(pointer), object.pointer_mut(parent)) {
            at.insert(field.to_owned(), json!(value));
        }
    }
    object
}
