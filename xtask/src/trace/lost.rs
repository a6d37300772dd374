//! Writes whose outcome nobody was told: the API server answered with an error of its own, because its store was away
//! for instance, and may have made them all the same. What later lines show to have been made is a step like any other.
//!
//! - A creation was made if the next write on that name finds an object and does not create it itself. What that write
//!   may have changed in the same part of the object counts as created so.
//! - A deletion was made if the next write finds an object of another UID, or the same one on its way out. The operator
//!   repeats what fails: where it asked for the deletion of that very object, and nobody writes on it any more, the
//!   object is gone too. The same holds for the write that takes the last finalizer off an object on its way out.
//! - Any other write was made if the next one answers with more than it can have changed itself: the API server keeps
//!   writes of a status and of the rest apart, and whoever replaces a version that nobody knows of tells of it.
//!
//! Of two such writes on the same part of an object the last one counts. What nobody writes on afterwards, or is written
//! before the answer is logged, is not found; nor is what became of a collection.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::audit::Request;
use super::history::leaving;
use super::json::{changes, list, text, uid};
use super::world::{Key, Kind};

/// Kinds of answers that are not the object itself.
const NO_OBJECT: [&str; 3] = ["Status", "Scale", "PartialObjectMetadata"];

/// What the log tells of an object after a write on it whose outcome nobody was told.
#[derive(Debug, Default)]
pub(super) struct Fate {
    /// The next write that was carried out.
    next: Option<Request>,
    /// The version that the first writer replaced who named one.
    replaced: String,
}

/// What became of the objects of such writes, by the place of the request.
pub(super) fn fates(ordered: &[(u64, Request)]) -> HashMap<usize, Fate> {
    let unknown = |r: &Request| r.code >= 500 && !r.key.name.is_empty() && !matches!(r.key.kind, Kind::Other(_));
    let all = ordered.iter().enumerate().filter(|(_, (_, r))| unknown(r));
    let fate = |(place, (_, lost)): (usize, &(u64, Request))| {
        let later = ordered.iter().skip(place + 1).map(|(_, r)| r);
        (place, Fate::of(&lost.key, later))
    };
    all.map(fate).collect()
}

impl Fate {
    fn of<'a>(key: &Key, later: impl Iterator<Item = &'a Request>) -> Self {
        let mut fate = Self::default();
        for request in later {
            if let Some(item) = collected(request, key) {
                let (key, answer) = (key.clone(), item.clone());
                let next = Request {
                    key,
                    answer,
                    ..request.clone()
                };
                fate.next = Some(next);
                break;
            }
            if request.key != *key {
                continue;
            }
            if fate.replaced.is_empty() {
                version(&request.body).clone_into(&mut fate.replaced);
            }
            if request.code < 400 {
                fate.next = Some(request.clone());
                break;
            }
        }
        fate
    }

    /// The object that a lost request created; nothing if it is not known to have.
    pub(super) fn born(&self, lost: &Request) -> Option<Value> {
        let next = self.next.as_ref().filter(|_| lost.subresource.is_empty())?;
        if next.code == 201 && next.subresource.is_empty() {
            return None;
        }
        let found = Some(identity(&next.answer)).filter(|u| !u.is_empty())?;
        let whole = !NO_OBJECT.contains(&text(&next.answer, "/kind"));
        let mut object = if whole { &next.answer } else { &lost.body }.clone();
        let fields = object.as_object_mut()?;
        if next.subresource == "status" {
            fields.remove("status");
        }
        let metadata = fields.entry("metadata").or_insert_with(|| json!({})).as_object_mut()?;
        metadata.insert("uid".to_owned(), json!(found));
        metadata.remove("deletionTimestamp");
        if !self.replaced.is_empty() {
            metadata.insert("resourceVersion".to_owned(), json!(self.replaced));
        }
        Some(object)
    }

    /// What a lost request left of an object that it deleted, or let go: nothing, or the object on its way out. Nothing at
    /// all if it is not known to have.
    pub(super) fn left(&self, lost: &Request, object: &Value) -> Option<Option<Value>> {
        let deletes = lost.verb == "delete";
        let meant = ["/preconditions/uid", "/metadata/uid"].map(|pointer| text(&lost.body, pointer));
        let meant = meant.into_iter().find(|u| !u.is_empty()).unwrap_or_default();
        let another = !meant.is_empty() && meant != uid(object);
        if !lost.subresource.is_empty() || another || !(deletes || lets_go(lost, object)) {
            return None;
        }
        let kept = deletes && !list(object, "/metadata/finalizers").is_empty();
        let Some(next) = &self.next else {
            return (lost.operator && !kept && meant == uid(object)).then_some(None);
        };
        let found = identity(&next.answer);
        let marked = text(&next.answer, "/metadata/deletionTimestamp");
        if found == uid(object) {
            let was_marked = !text(object, "/metadata/deletionTimestamp").is_empty();
            let by_next = was_marked || next.verb.starts_with("delete") || marked.is_empty();
            return (deletes && !by_next).then(|| Some(leaving(object, marked)));
        }
        let known = !found.is_empty();
        known.then(|| kept.then(|| leaving(object, &lost.at)))
    }
}

/// The object of this key as the deletion of its collection listed it.
fn collected<'a>(request: &'a Request, key: &Key) -> Option<&'a Value> {
    let here = request.key.kind == key.kind && request.key.namespace == key.namespace;
    if request.verb != "deletecollection" || request.code >= 400 || !here {
        return None;
    }
    let mut items = list(&request.answer, "/items").iter();
    items.find(|item| text(item, "/metadata/name") == key.name)
}

/// UID of the object that an answer is about.
fn identity(answer: &Value) -> &str {
    let uids = [uid(answer), text(answer, "/details/uid")];
    uids.into_iter().find(|u| !u.is_empty()).unwrap_or_default()
}

/// Whether a write takes the last finalizer off an object that is on its way out.
fn lets_go(write: &Request, object: &Value) -> bool {
    let named = write.body.pointer("/metadata/finalizers").is_some();
    let none = list(&write.body, "/metadata/finalizers").is_empty();
    let taken = none && (write.verb == "update" || (write.verb == "patch" && named));
    taken && !text(object, "/metadata/deletionTimestamp").is_empty()
}

/// The version that an object has, or that a write replaces.
pub(super) fn version(object: &Value) -> &str {
    text(object, "/metadata/resourceVersion")
}

/// The version that the first of these requests replaces that names one.
pub(super) fn replaced<'a>(mut later: impl Iterator<Item = &'a Request>) -> &'a str {
    let named = later.find_map(|request| Some(version(&request.body)).filter(|v| !v.is_empty()));
    named.unwrap_or_default()
}

/// What an object was between a lost write and the next one, if the lost one is known to have been made; `replaced` is
/// the version that was replaced after it.
pub(super) fn between(
    before: &Value,
    lost: &Request,
    replaced: &str,
    next: &Request,
    after: Option<&Value>,
) -> Option<Value> {
    let was_for = version(&lost.body);
    let late = !was_for.is_empty() && was_for != version(before);
    let known = replaced == version(before) && !replaced.is_empty();
    if late || known || after.is_some_and(|after| uid(after) != uid(before)) {
        return None;
    }
    // Somebody replaced a version that nobody knows of, and this write was made for the one before it.
    let unknown = !replaced.is_empty() && !was_for.is_empty();
    let status = |r: &Request| r.subresource == "status";
    let mut made = match (status(lost), status(next)) {
        (true, true) if unknown => with_status(before, Some(lost.body.get("status")?)),
        (false, false) if unknown => rewritten(before, lost, next, after?)?,
        (true, false) => with_status(before, after?.get("status")),
        (false, true) => with_status(after?, before.get("status")),
        _ => return None,
    };
    if status(lost) != status(next) && changes(Some(before), Some(&made)).is_empty() {
        return None;
    }
    if let Some(metadata) = made.pointer_mut("/metadata").and_then(Value::as_object_mut)
        && !replaced.is_empty()
    {
        metadata.insert("resourceVersion".to_owned(), json!(replaced));
    }
    Some(made)
}

fn with_status(object: &Value, status: Option<&Value>) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        match status {
            Some(status) => drop(fields.insert("status".to_owned(), status.clone())),
            None => drop(fields.remove("status")),
        }
    }
    object
}

/// What a lost write of the main part made, if with it the next one explains what the object is.
fn rewritten(before: &Value, lost: &Request, next: &Request, after: &Value) -> Option<Value> {
    let made = match lost.verb.as_str() {
        "update" => with_status(&lost.body, before.get("status")),
        _ => merged(before, &lost.body),
    };
    let explained = match next.verb.as_str() {
        "patch" => changes(Some(&merged(&made, &next.body)), Some(after)).is_empty(),
        _ => lost.verb == "update",
    };
    explained.then_some(made)
}

/// What a JSON merge patch makes of a value.
fn merged(value: &Value, patch: &Value) -> Value {
    let Value::Object(fields) = patch else {
        return patch.clone();
    };
    let mut merged_fields: Map<String, Value> = value.as_object().cloned().unwrap_or_default();
    for (key, change) in fields {
        if change.is_null() {
            merged_fields.remove(key);
            continue;
        }
        let new = merged(merged_fields.get(key).unwrap_or(&Value::Null), change);
        merged_fields.insert(key.clone(), new);
    }
    Value::Object(merged_fields)
}
