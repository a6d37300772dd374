//! The binding of a Rollout's plan, read on a Deployment: which field says what serves.

use flywheel_api::names::{ANNOTATION_TAKEN_BY, ANNOTATION_TURNED_BACK};
use serde_json::Value;

use super::json::{list, named, text};

/// The value that the Deployment carries in the binding; nothing if the variable or the container is not there.
#[must_use]
pub fn value<'a>(deployment: &'a Value, plan: &Value) -> Option<&'a str> {
    let container = container(deployment, plan)?;
    match text(plan, "/binding/type") {
        "DeploymentImage" => Some(text(container, "/image")),
        _ => variable(container, plan).map(|e| text(e, "/value")),
    }
}

/// Whether the Deployment says what it carries: the container is there, and the variable has no value by reference.
#[must_use]
pub fn is_readable(deployment: &Value, plan: &Value) -> bool {
    let is_image = text(plan, "/binding/type") == "DeploymentImage";
    let is_literal = |e: &Value| e.get("valueFrom").is_none_or(Value::is_null);
    container(deployment, plan).is_some_and(|c| is_image || variable(c, plan).is_none_or(is_literal))
}

fn container<'a>(deployment: &'a Value, plan: &Value) -> Option<&'a Value> {
    let name = text(plan, "/binding/container");
    named(deployment, "/spec/template/spec/containers", "name", name)
}

/// The variable that the binding names; of several with that name the last one counts.
fn variable<'a>(container: &'a Value, plan: &Value) -> Option<&'a Value> {
    let name = text(plan, "/binding/name");
    list(container, "/env").iter().rfind(|e| text(e, "/name") == name)
}

/// The value that the binding gets for a version that lies at this URI.
#[must_use]
pub fn wanted<'a>(plan: &Value, uri: &'a str) -> &'a str {
    match text(plan, "/binding/type") {
        "DeploymentImage" => uri.strip_prefix("oci://").unwrap_or(uri),
        _ => uri,
    }
}

/// Paths of the target's fields that are Flywheel's under this plan.
#[must_use]
pub fn paths(plan: &Value) -> Vec<String> {
    let container = format!("spec.template.spec.containers[{}]", text(plan, "/binding/container"));
    let field = match text(plan, "/binding/type") {
        "DeploymentImage" => format!("{container}.image"),
        _ => format!("{container}.env[{}]", text(plan, "/binding/name")),
    };
    let annotation = format!(
        "spec.template.metadata.annotations.{}",
        flywheel_api::names::ANNOTATION_MODEL_VERSION
    );
    let marks = [ANNOTATION_TURNED_BACK, ANNOTATION_TAKEN_BY].map(|key| format!("metadata.annotations.{key}"));
    let mut paths = vec![field, annotation];
    paths.extend(marks);
    if text(plan, "/capacity/baseline") == "ShrinkWithWeight" {
        paths.push("spec.replicas".to_owned());
    }
    paths
}

/// Whether a version's artifact is what this value names.
#[must_use]
pub fn names(version: &Value, value: &str) -> bool {
    let uri = text(version, "/spec/artifact/uri");
    uri == value || uri.strip_prefix("oci://") == Some(value)
}
