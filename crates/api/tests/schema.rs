//! The schemas keep the promises of the API: documented, bounded, structural, small.

use flywheel_api::crds;
use serde_json::Value;

/// Client-side apply stores the object in an annotation of at most 256 KiB; half of it is our budget.
const MAX_CRD_BYTES: usize = 150 * 1024;

fn schemas() -> Vec<(String, Value)> {
    crds()
        .into_iter()
        .map(|crd| {
            let kind = crd.spec.names.kind.clone();
            let schema = crd.spec.versions[0].schema.as_ref().and_then(|s| s.open_api_v3_schema.clone()).expect("schema");
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
        let boilerplate = [".metadata", ".apiVersion", ".kind"].iter().any(|p| path.matches('.').count() == 1 && path.ends_with(p));
        (is_property && !boilerplate && !(text.ends_with('.') || text.ends_with('`'))).then(|| format!("description is {text:?}"))
    });
    assert!(found.iter().all(|f| in_condition(f) || f.ends_with(".spec: description is \"\"") ), "{found:#?}");
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
        ["on", "off", "yes", "no", "y", "n"].contains(&name.as_str()).then(|| "YAML 1.1 boolean".to_owned())
    });
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn no_property_names_another_namespace() {
    let found = problems(|path, _| {
        path.rsplit('.').next()?.to_lowercase().contains("namespace").then(|| "namespace field".to_owned())
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
