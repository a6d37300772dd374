//! The binding of a Rollout's plan, read on a Deployment: which field says what serves.

use flywheel_api::names::{ANNOTATION_TAKEN_BY, ANNOTATION_TURNED_BACK};
use serde_json::Value;

use super::json::{named, text};

/// The value that the Deployment carries in the binding; nothing if the variable or the container is not there.
#[must_use]
pub fn value<'a>(deployment: &'a Value, plan: &Value) -> Option<&'a str> {
    let name = text(plan, "/binding/container");
    let container = named(deployment, "/spec/template/spec/containers", "name", name)?;
    match text(plan, "/binding/type") {
        "DeploymentImage" => Some(text(container, "/image")),
        _ => named(container, "/env", "name", text(plan, "/binding/name")).map(|e| text(e, "/value")),
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
