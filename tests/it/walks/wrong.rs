//! Values that a property must not have: of another type, beyond a bound, no choice, no number, too many.

use serde_json::{Value, json};

use super::schema::{Property, keys, validator};

/// A wrong value, and what is wrong with it.
#[derive(Clone, Debug)]
pub struct Wrong {
    pub what: &'static str,
    pub value: Value,
}

fn wrong(what: &'static str, value: Value) -> Wrong {
    Wrong { what, value }
}

/// All wrong values of a property that its schema alone tells from right ones.
pub fn wrongs(property: &Property) -> Vec<Wrong> {
    let node = &property.schema;
    let judge = validator(node);
    let mut found = match node["type"].as_str() {
        Some("string") => texts(node),
        Some("integer") => integers(node),
        Some("boolean") => vec![wrong("a text", json!("yes")), wrong("a number", json!(1))],
        Some("array") => lists(node),
        _ => objects(node),
    };
    // A text that one pattern refuses is right for another.
    found.retain(|wrong| !judge.is_valid(&wrong.value));
    if property.required && node["nullable"] != true {
        // Elsewhere null is the same as nothing.
        found.push(wrong("null", Value::Null));
    }
    found.extend(duplicates(node));
    found
}

fn texts(node: &Value) -> Vec<Wrong> {
    let most = node["maxLength"]
        .as_u64()
        .and_then(|n| usize::try_from(n).ok())
        .unwrap_or(0);
    vec![
        wrong("a number", json!(42)),
        wrong("a list", json!(["a"])),
        wrong("an object", json!({ "name": "a" })),
        wrong("empty", json!("")),
        wrong("a blank", json!(" ")),
        wrong("no number", json!("NaN")),
        wrong("no choice", json!("Nonsense!")),
        wrong("other letters", json!("Ünïcödé ✗")),
        wrong("a way out", json!("../../etc/passwd")),
        wrong("too long", json!("x".repeat(most + 1))),
    ]
}

fn integers(node: &Value) -> Vec<Wrong> {
    let mut found = vec![
        wrong("a text", json!("5")),
        wrong("no number", json!("NaN")),
        wrong("a fraction", json!(1.5)),
        wrong("a list", json!([1])),
    ];
    let bound = |key: &str| node[key].as_f64();
    #[expect(clippy::cast_possible_truncation, reason = "bounds in schemas are whole numbers")]
    found.extend(bound("minimum").map(|n| wrong("too small", json!(n as i64 - 1))));
    #[expect(clippy::cast_possible_truncation, reason = "bounds in schemas are whole numbers")]
    found.extend(bound("maximum").map(|n| wrong("too large", json!(n as i64 + 1))));
    found
}

fn lists(node: &Value) -> Vec<Wrong> {
    let most = node["maxItems"]
        .as_u64()
        .and_then(|n| usize::try_from(n).ok())
        .unwrap_or(0);
    vec![
        wrong("a text", json!("a")),
        wrong("an object", json!({ "name": "a" })),
        wrong("a list of numbers", json!([1])),
        wrong("too many", (0..=most).map(|n| example(&node["items"], n)).collect()),
        wrong("too few", json!([])),
    ]
}

fn objects(node: &Value) -> Vec<Wrong> {
    let most = node["maxProperties"]
        .as_u64()
        .and_then(|n| usize::try_from(n).ok())
        .unwrap_or(0);
    let crowd = (0..=most).map(|n| (format!("key-{n}"), json!("1")));
    vec![
        wrong("a text", json!("a")),
        wrong("a list", json!([])),
        wrong("a number", json!(1)),
        wrong("an unknown field", json!({ "nobodysField": "a" })),
        wrong("a map of numbers", json!({ "a": 1 })),
        wrong("too many", Value::Object(crowd.collect())),
    ]
}

/// Two items with the same key: the API server knows that, JSON Schema does not.
fn duplicates(node: &Value) -> Option<Wrong> {
    let keys = keys(node);
    let texts = keys
        .iter()
        .all(|key| node["items"]["properties"][key]["type"] == "string");
    let few = node["maxItems"].as_u64().is_some_and(|most| most < 2);
    if keys.is_empty() || !texts || few {
        return None;
    }
    let item = example(&node["items"], 0);
    Some(wrong("the same key twice", json!([item, item])))
}

/// Something of that schema; the same number gives the same.
fn example(node: &Value, number: usize) -> Value {
    if let Some(choices) = node["enum"].as_array() {
        return choices[number % choices.len()].clone();
    }
    match node["type"].as_str() {
        Some("integer") => json!(1),
        Some("boolean") => json!(true),
        Some("array") => json!([]),
        Some("object") => {
            let required = node["required"].as_array().into_iter().flatten();
            let fields = required.filter_map(Value::as_str);
            fields
                .map(|name| (name.to_owned(), example(&node["properties"][name], number)))
                .collect()
        }
        _ => json!(format!("a-{number}")),
    }
}
