//! Reading JSON objects, and what changed between two of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::Value;

/// The text at a JSON pointer; empty where there is none.
#[must_use]
pub fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The whole number at a JSON pointer.
#[must_use]
pub fn int(value: &Value, pointer: &str) -> Option<i64> {
    value.pointer(pointer).and_then(Value::as_i64)
}

/// The number at a JSON pointer; Flywheel's decimals are texts.
#[must_use]
pub fn number(value: &Value, pointer: &str) -> Option<f64> {
    match value.pointer(pointer)? {
        Value::String(text) => text.parse().ok(),
        other => other.as_f64(),
    }
    .filter(|n: &f64| n.is_finite())
}

/// The list at a JSON pointer; empty where there is none.
#[must_use]
pub fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    let found = value.pointer(pointer).and_then(Value::as_array);
    found.map(Vec::as_slice).unwrap_or_default()
}

/// The element of a list whose field has this text.
#[must_use]
pub fn named<'a>(value: &'a Value, pointer: &str, field: &str, wanted: &str) -> Option<&'a Value> {
    let pointer_of_field = format!("/{field}");
    let mut all = list(value, pointer).iter();
    all.find(|element| text(element, &pointer_of_field) == wanted)
}

/// A label of an object; empty where there is none.
#[must_use]
pub fn label<'a>(object: &'a Value, key: &str) -> &'a str {
    let labels = object.pointer("/metadata/labels");
    labels
        .and_then(|l| l.get(key))
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// The UID of an object.
#[must_use]
pub fn uid(object: &Value) -> &str {
    text(object, "/metadata/uid")
}

/// Whether a condition of this type is True.
#[must_use]
pub fn holds(object: &Value, condition: &str) -> bool {
    named(object, "/status/conditions", "type", condition).is_some_and(|c| text(c, "/status") == "True")
}

/// One value that differs between two objects.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Where: fields by dots, elements of named lists by `[name]`.
    pub path: String,
    /// What it was; nothing if it was not there.
    pub from: Option<Value>,
    /// What it is now; nothing if it is gone.
    pub to: Option<Value>,
}

/// Fields that every write changes and that say nothing.
const NOISE: [&str; 6] = [
    "metadata.deletionGracePeriodSeconds",
    "metadata.deletionTimestamp",
    "metadata.managedFields",
    "metadata.resourceVersion",
    "metadata.generation",
    "metadata.creationTimestamp",
];

/// What differs between two objects, in the order of the paths.
#[must_use]
pub fn changes(before: Option<&Value>, after: Option<&Value>) -> Vec<Change> {
    let mut found = Vec::new();
    compare(String::new(), before, after, &mut found);
    found.retain(|c| !NOISE.iter().any(|noise| lies_in(&c.path, noise)));
    found
}

/// Whether what changed at this path is the field or lies in it: `image` is no part of `imagePullPolicy`. A field that
/// ends in `/` stands for all keys of a map that begin so.
#[must_use]
pub fn lies_in(path: &str, field: &str) -> bool {
    path.strip_prefix(field)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']) || field.ends_with('/'))
}

fn compare(path: String, before: Option<&Value>, after: Option<&Value>, found: &mut Vec<Change>) {
    if before == after {
        return;
    }
    let sides = (parts(before), parts(after));
    let (Some(old), Some(new)) = sides else {
        found.push(Change {
            path,
            from: before.cloned(),
            to: after.cloned(),
        });
        return;
    };
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for key in keys {
        let dot = if path.is_empty() || key.starts_with('[') {
            ""
        } else {
            "."
        };
        let (old, new) = (old.get(key).copied(), new.get(key).copied());
        compare(format!("{path}{dot}{key}"), old, new, found);
    }
}

/// The parts of an object or a list, by name; a missing value has none. Nothing for plain values.
fn parts(value: Option<&Value>) -> Option<BTreeMap<String, &Value>> {
    match value {
        None | Some(Value::Null) => Some(BTreeMap::new()),
        Some(Value::Object(fields)) => Some(fields.iter().map(|(k, v)| (k.clone(), v)).collect()),
        Some(Value::Array(elements)) => {
            let name = |(index, element): (usize, &Value)| match key(element) {
                "" => format!("[{index}]"),
                name => format!("[{name}]"),
            };
            Some(elements.iter().enumerate().map(|e| (name(e), e.1)).collect())
        }
        Some(_) => None,
    }
}

fn key(element: &Value) -> &str {
    let names = ["/name", "/type", "/uid"].map(|pointer| text(element, pointer));
    names.into_iter().find(|name| !name.is_empty()).unwrap_or_default()
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} → {}", self.path, short(&self.from), short(&self.to))
    }
}

/// A value in at most 60 characters.
fn short(value: &Option<Value>) -> String {
    let Some(value) = value else {
        return "nothing".to_owned();
    };
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    if text.chars().count() <= 60 {
        return text;
    }
    text.chars().take(59).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn changes_name_the_fields_and_the_elements_of_lists() {
        let before = json!({ "metadata": { "resourceVersion": "1" }, "spec": { "replicas": 1,
            "containers": [{ "name": "app", "env": [{ "name": "MODEL", "value": "v1" }] }] } });
        let after = json!({ "metadata": { "resourceVersion": "2" }, "spec": { "replicas": 2,
            "containers": [{ "name": "app", "env": [{ "name": "MODEL", "value": "v2" }, { "name": "OTHER" }] }] } });
        let texts: Vec<String> = changes(Some(&before), Some(&after))
            .iter()
            .map(Change::to_string)
            .collect();
        assert_eq!(
            texts,
            [
                "spec.containers[app].env[MODEL].value: v1 → v2",
                "spec.containers[app].env[OTHER].name: nothing → OTHER",
                "spec.replicas: 1 → 2",
            ]
        );
    }

    #[test]
    fn a_field_whose_name_begins_like_another_is_no_part_of_it() {
        for (path, field, expected) in [
            ("spec.image", "spec.image", true),
            ("spec.imagePullPolicy", "spec.image", false),
            ("spec.env[MODEL].value", "spec.env[MODEL]", true),
            ("spec.env[MODEL_2].value", "spec.env[MODEL]", false),
            ("metadata.finalizers[0]", "metadata.finalizers", true),
            (
                "metadata.labels.flywheel.dev/target",
                "metadata.labels.flywheel.dev/",
                true,
            ),
            ("metadata.labels.app", "metadata.labels.flywheel.dev/", false),
            ("metadata", "metadata.labels", false),
        ] {
            assert_eq!(lies_in(path, field), expected, "{path} in {field}");
        }
    }

    #[test]
    fn decimals_are_numbers_and_not_a_number_is_none() {
        let value = json!({ "a": "1.5", "b": 2, "c": "NaN", "d": "x" });
        let numbers = ["/a", "/b", "/c", "/d", "/e"].map(|p| number(&value, p));
        assert_eq!(numbers, [Some(1.5), Some(2.0), None, None, None]);
    }
}
