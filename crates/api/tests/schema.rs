//! The schemas keep the promises of the API: documented, bounded, structural, small.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that meets what it does not expect should stop"
)]

use flywheel_api::crds;
use serde_json::Value;

/// Client-side apply stores the object in an annotation of at most 256 KiB; half of it is our budget.
const MAX_CRD_BYTES: usize = 150 * 1024;

fn schemas() -> Vec<(String, Value)> {
    crds()
        .into_iter()
        .map(|crd| {
            let kind = crd.spec.names.kind.clone();
            let schema = crd.spec.versions[0]
                .schema
                .as_ref()
                .and_then(|s| s.open_api_v3_schema.clone())
                .expect("schema");
            (kind, serde_json::to_value(schema).expect("schema serialises"))
        })
        .collect()
}

fn walk(path: &str, node: &Value, visit: &mut dyn FnMut(&str, &Value)) {
    visit(path, node);
    if let Some(properties) = node["properties"].as_object() {
        for (name, child) in properties {
            walk(&format!("{path}.{name}"), child, visit);
        }
    }
    if node["items"].is_object() {
        walk(&format!("{path}[]"), &node["items"], visit);
    }
    if node["additionalProperties"].is_object() {
        walk(&format!("{path}{{}}"), &node["additionalProperties"], visit);
    }
}

fn problems(rule: impl Fn(&str, &Value) -> Option<String>) -> Vec<String> {
    let mut found = Vec::new();
    for (kind, schema) in schemas() {
        walk(&kind, &schema, &mut |path, node| {
            if let Some(problem) = rule(path, node) {
                found.push(format!("{path}: {problem}"));
            }
        });
    }
    found
}

fn in_condition(path: &str) -> bool {
    path.contains(".conditions[]")
}

#[test]
fn every_property_is_documented_in_full_sentences() {
    let found = problems(|path, node| {
        let is_property = path.contains('.') && !path.ends_with("[]") && !path.ends_with("{}");
        let text = node["description"].as_str().unwrap_or_default();
        let boilerplate = [".metadata", ".apiVersion", ".kind"]
            .iter()
            .any(|p| path.matches('.').count() == 1 && path.ends_with(p));
        (is_property && !boilerplate && !(text.ends_with('.') || text.ends_with('`')))
            .then(|| format!("description is {text:?}"))
    });
    let found: Vec<_> = found.iter().filter(|f| !in_condition(f)).collect();
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn every_choice_is_explained_in_the_text_of_its_field() {
    let found = problems(|path, node| {
        let text = node["description"].as_str().unwrap_or_default();
        let values = node["enum"].as_array()?.iter().filter_map(Value::as_str);
        let silent: Vec<&str> = values.filter(|v| !text.contains(v)).collect();
        let is_item = path.ends_with("[]");
        (!is_item && !in_condition(path) && !silent.is_empty()).then(|| format!("{silent:?} not in {text:?}"))
    });
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn defaults_and_limits_of_a_spec_stand_in_the_text() {
    let found = problems(|path, node| {
        let text = node["description"].as_str().unwrap_or_default();
        let is_property = path.contains(".spec.") && !path.ends_with("[]") && !path.ends_with("{}");
        let says_default = match &node["default"] {
            Value::Null | Value::Object(_) => true,
            Value::String(default) => text.contains(default.as_str()),
            other => text.contains(other.to_string().trim_matches(['[', ']', '"'])),
        };
        let high = &node["maximum"];
        let says_limit = high.is_null() || text.contains("From ");
        (is_property && !(says_default && says_limit)).then(|| format!("{} {high} not in {text:?}", node["default"]))
    });
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn a_wrong_text_is_answered_with_a_sentence_and_not_with_a_regular_expression() {
    let found = problems(|path, node| {
        (path.contains(".spec") && !node["pattern"].is_null())
            .then(|| format!("pattern {} has no sentence in remedy.rs", node["pattern"]))
    });
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn every_list_of_a_spec_says_how_two_managers_share_it() {
    let found = problems(|path, node| {
        let how = &node["x-kubernetes-list-type"];
        let keys = &node["x-kubernetes-list-map-keys"];
        let whole = match how.as_str() {
            Some("map") => keys.is_array(),
            Some("atomic" | "set") => true,
            _ => false,
        };
        // The provenance is written once and by the operator alone.
        let shared = path.contains(".spec.") && !path.contains(".provenance.");
        (shared && node["type"] == "array" && !whole).then(|| format!("list type {how}, keys {keys}"))
    });
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn columns_fit_on_eighty_characters_and_end_with_the_age() {
    for crd in crds() {
        let columns = crd.spec.versions[0]
            .additional_printer_columns
            .clone()
            .unwrap_or_default();
        let narrow: Vec<_> = columns.iter().filter(|c| c.priority.unwrap_or(0) == 0).collect();
        let kind = &crd.spec.names.kind;
        assert_eq!(narrow.last().map(|c| c.name.as_str()), Some("Age"), "{kind}");
        assert!(narrow.len() <= 7, "{kind} has {} columns", narrow.len());
    }
}

#[test]
fn names_of_derived_objects_leave_room_for_what_is_appended() {
    let longest = "m".repeat(flywheel_api::names::MAX_NAME);
    let delivery = format!("{longest}-1000000000-delivery");
    assert!(
        delivery.len() <= flywheel_api::names::MAX_DERIVED_NAME,
        "{}",
        delivery.len()
    );
}

#[test]
fn no_unsigned_integers_and_no_floats() {
    let found = problems(|_, node| {
        let format = node["format"].as_str().unwrap_or_default();
        (format.starts_with("uint") || node["type"] == "number").then(|| format!("{} {format}", node["type"]))
    });
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn every_list_string_and_map_is_bounded() {
    let found = problems(|path, node| {
        if in_condition(path) || path.ends_with(".metadata") || path.matches('.').count() < 2 {
            return None;
        }
        match node["type"].as_str()? {
            "array" if node["maxItems"].is_null() => Some("list without maxItems".to_owned()),
            "string" if node["maxLength"].is_null() && node["enum"].is_null() && node["format"].is_null() => {
                Some("string without maxLength".to_owned())
            }
            "object" if !node["additionalProperties"].is_null() && node["maxProperties"].is_null() => {
                Some("map without maxProperties".to_owned())
            }
            _ => None,
        }
    });
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn no_property_is_read_as_a_boolean_by_kubectl() {
    let found = problems(|path, _| {
        let name = path.rsplit('.').next()?.to_lowercase();
        ["on", "off", "yes", "no", "y", "n"]
            .contains(&name.as_str())
            .then(|| "YAML 1.1 boolean".to_owned())
    });
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn no_property_names_another_namespace() {
    let found = problems(|path, _| {
        path.rsplit('.')
            .next()?
            .to_lowercase()
            .contains("namespace")
            .then(|| "namespace field".to_owned())
    });
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn each_crd_is_small_enough_for_client_side_apply() {
    for crd in crds() {
        let size = serde_json::to_vec(&crd).expect("crd serialises").len();
        assert!(size < MAX_CRD_BYTES, "{} has {size} bytes", crd.spec.names.kind);
    }
}

#[test]
fn every_cel_rule_has_a_message_with_a_remedy() {
    let found = problems(|_, node| {
        let rules = node["x-kubernetes-validations"].as_array()?;
        rules
            .iter()
            .find(|r| r["message"].as_str().is_none_or(|m| m.len() < 20))
            .map(|r| format!("rule {} has message {}", r["rule"], r["message"]))
    });
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn objects_with_a_status_never_read_as_finished_before_the_operator_saw_them() {
    for (kind, schema) in schemas() {
        let status = &schema["properties"]["status"];
        if !status.is_null() {
            assert_eq!(status["default"]["observedGeneration"], -1, "{kind}");
        }
    }
}
