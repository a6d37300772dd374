//! Merge patches as the API server applies them: RFC 7386, and as much of a strategic merge as the engine uses.

use serde_json::{Map, Value};

use crate::decision::PatchKind;

/// Applies a patch to an object.
pub fn apply(kind: PatchKind, object: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *object = patch.clone();
        return;
    };
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let Value::Object(fields) = object else { return };
    for (key, change) in changes {
        match (change, fields.get_mut(key)) {
            (Value::Null, _) => drop(fields.remove(key)),
            (Value::Array(items), old) if kind == PatchKind::Strategic && named(items) => {
                let mut list = old.and_then(|o| o.as_array().cloned()).unwrap_or_default();
                items.iter().for_each(|item| merge(&mut list, item));
                fields.insert(key.clone(), Value::Array(list));
            }
            (change, Some(old)) => apply(kind, old, change),
            (change, None) => {
                let mut fresh = Value::Null;
                apply(kind, &mut fresh, change);
                fields.insert(key.clone(), fresh);
            }
        }
    }
}

fn named(items: &[Value]) -> bool {
    !items.is_empty() && items.iter().all(|i| i.get("name").is_some())
}

/// Lists of named things are merged by name.
fn merge(list: &mut Vec<Value>, item: &Value) {
    let found = list.iter().position(|old| old.get("name") == item.get("name"));
    if item.get("$patch") == Some(&Value::from("delete")) {
        list.retain(|old| old.get("name") != item.get("name"));
        return;
    }
    match found.and_then(|i| list.get_mut(i)) {
        Some(old) => apply(PatchKind::Strategic, old, item),
        None => list.push(item.clone()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_strategic_merge_joins_named_lists_and_deletes_what_is_marked() {
        let mut object = json!({ "c": [{ "name": "app", "env": [{ "name": "A", "value": "1" }], "image": "x" }] });
        let set = json!({ "c": [{ "name": "app", "env": [{ "name": "B", "value": "2" }] }] });
        apply(PatchKind::Strategic, &mut object, &set);
        assert_eq!(
            object["c"][0]["env"],
            json!([{ "name": "A", "value": "1" }, { "name": "B", "value": "2" }])
        );
        let unset = json!({ "c": [{ "name": "app", "env": [{ "name": "A", "$patch": "delete" }] }] });
        apply(PatchKind::Strategic, &mut object, &unset);
        assert_eq!(
            object["c"][0],
            json!({ "name": "app", "env": [{ "name": "B", "value": "2" }], "image": "x" })
        );
    }

    #[test]
    fn a_merge_patch_replaces_lists_and_removes_nulls() {
        let mut object = json!({ "a": [1, 2], "b": { "c": 1, "d": 2 } });
        apply(PatchKind::Merge, &mut object, &json!({ "a": [3], "b": { "c": null } }));
        assert_eq!(object, json!({ "a": [3], "b": { "d": 2 } }));
    }
}
