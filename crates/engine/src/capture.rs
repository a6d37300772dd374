//! Observations for a log or a bug report: everything that decides, without the names of people.
//!
//! What remains is what users wrote into specs and what stages reported, which holds data of people only if somebody put
//! it there.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::Value;

/// Fields that hold the name of a person.
const PEOPLE: [&str; 2] = ["approver", "requestedBy"];
/// Shorter names are replaced only where nothing else stands: they may be part of any word.
const SHORT: usize = 3;

/// The observation as JSON. The same person has the same number everywhere, so that it is decided alike.
#[must_use]
pub fn nameless<O: Serialize>(observation: &O) -> Value {
    let mut value = serde_json::to_value(observation).unwrap_or_default();
    let mut names = BTreeSet::new();
    collect(&value, &mut names);
    let mut names: Vec<String> = names.into_iter().collect();
    // A name that contains another one goes first.
    names.sort_by_key(|name| std::cmp::Reverse(name.len()));
    replace(&mut value, &names);
    value
}

fn collect(value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (field, inner) in fields {
                if let Some(name) = inner
                    .as_str()
                    .filter(|n| PEOPLE.contains(&field.as_str()) && !n.is_empty())
                {
                    names.insert(name.to_owned());
                }
                collect(inner, names);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, names)),
        _ => {}
    }
}

fn replace(value: &mut Value, names: &[String]) {
    match value {
        Value::Object(fields) => fields.values_mut().for_each(|inner| replace(inner, names)),
        Value::Array(items) => items.iter_mut().for_each(|item| replace(item, names)),
        Value::String(text) => {
            for (number, name) in (1..).zip(names) {
                if text == name || name.len() >= SHORT {
                    *text = text.replace(name.as_str(), &format!("person-{number}"));
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn no_name_of_a_person_is_left() {
        let seen = json!({
            "run": { "spec": { "requestedBy": "jane@example.com" } },
            "approvals": [{ "spec": { "approver": "jane" } }, { "spec": { "approver": "bo" } }],
            "message": "jane approved what jane@example.com asked for; the robot looked on.",
        });
        assert_eq!(
            nameless(&seen),
            json!({
                "run": { "spec": { "requestedBy": "person-1" } },
                "approvals": [{ "spec": { "approver": "person-2" } }, { "spec": { "approver": "person-3" } }],
                "message": "person-2 approved what person-1 asked for; the robot looked on.",
            })
        );
    }
}
