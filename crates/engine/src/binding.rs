//! The binding: which field of a Deployment says which version serves.
//!
//! Two fields of a target are Flywheel's: the binding itself and the pod-template annotation that repeats the version's
//! name. Everything else belongs to the target's owner. Deliberately without any decision: this module reads the
//! binding, builds the patch that sets it, and hashes what is not ours.

use flywheel_api::ModelVersionSpec;
use flywheel_api::names::ANNOTATION_MODEL_VERSION;
use flywheel_api::rollout::{Binding, BindingType};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Container, EnvVar, PodTemplateSpec};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::evidence;

/// A version as far as a binding can name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionView {
    /// Name of the ModelVersion.
    pub name: String,
    /// URI of its artifact.
    pub uri: String,
}

/// Why a binding cannot be read on a Deployment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BindingError {
    /// The pod template has no container of that name.
    #[error(
        "Deployment {deployment} has no container {container}, only {found}: correct plan.binding.container or rename the container"
    )]
    ContainerMissing {
        /// Name of the Deployment.
        deployment: String,
        /// Container that the binding names.
        container: String,
        /// Containers that are there.
        found: String,
    },
    /// The variable takes its value from elsewhere.
    #[error(
        "variable {variable} of container {container} in Deployment {deployment} takes its value from a reference (valueFrom): remove it from the manifest, or give it a literal value, so that Flywheel can set it"
    )]
    ValueFrom {
        /// Name of the Deployment.
        deployment: String,
        /// Container that the binding names.
        container: String,
        /// Variable that the binding names.
        variable: String,
    },
    /// A binding of type DeploymentEnv without a variable.
    #[error("plan.binding of type DeploymentEnv names no variable for container {container}: set plan.binding.name")]
    NameMissing {
        /// Container that the binding names.
        container: String,
    },
}

impl BindingError {
    /// UpperCamelCase reason for conditions.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::ContainerMissing { .. } => "ContainerNotFound",
            Self::ValueFrom { .. } => "BindingNotLiteral",
            Self::NameMissing { .. } => "BindingInvalid",
        }
    }
}

/// The value that the Deployment's pod template carries: nothing if the variable is not set.
///
/// # Errors
/// If there is no such container, or the variable has no literal value.
pub fn value(deployment: &Deployment, binding: &Binding) -> Result<Option<String>, BindingError> {
    let name = deployment.metadata.name.clone().unwrap_or_default();
    let containers = template(deployment).map(containers).unwrap_or_default();
    let Some(container) = containers.iter().find(|c| c.name == binding.container) else {
        return Err(BindingError::ContainerMissing {
            deployment: name,
            container: binding.container.clone(),
            found: containers
                .iter()
                .map(|c| c.name.as_str())
                .collect::<Vec<_>>()
                .join(", "),
        });
    };
    if binding.type_ == BindingType::DeploymentImage {
        return Ok(container.image.clone());
    }
    let Some(variable) = &binding.name else {
        return Err(BindingError::NameMissing {
            container: binding.container.clone(),
        });
    };
    match container.env.iter().flatten().rfind(|e| e.name == *variable) {
        None => Ok(None),
        Some(EnvVar {
            value_from: Some(_), ..
        }) => Err(BindingError::ValueFrom {
            deployment: name,
            container: binding.container.clone(),
            variable: variable.clone(),
        }),
        // The API server stores an empty value as no value at all; both mean that the variable is set to nothing.
        Some(env) => Ok(Some(env.value.clone().unwrap_or_default())),
    }
}

/// A strategic merge patch that sets both of our fields, or removes them where the value or the version is nothing.
#[must_use]
pub fn patch(binding: &Binding, value: Option<&str>, version: Option<&str>) -> Value {
    let container = match (binding.type_, value) {
        (BindingType::DeploymentImage, _) => json!({ "name": binding.container, "image": value }),
        (BindingType::DeploymentEnv, Some(value)) => {
            json!({ "name": binding.container, "env": [{ "name": binding.name, "value": value }] })
        }
        (BindingType::DeploymentEnv, None) => {
            json!({ "name": binding.container, "env": [{ "name": binding.name, "$patch": "delete" }] })
        }
    };
    json!({ "spec": { "template": {
        "metadata": { "annotations": { ANNOTATION_MODEL_VERSION: version } },
        "spec": { "containers": [container] },
    } } })
}

/// Sets both of our fields in a pod template, for a copy of the target.
pub fn set(template: &mut PodTemplateSpec, binding: &Binding, value: &str, version: &str) {
    template
        .metadata
        .get_or_insert_default()
        .annotations
        .get_or_insert_default()
        .insert(ANNOTATION_MODEL_VERSION.to_owned(), version.to_owned());
    let containers = template.spec.iter_mut().flat_map(|s| &mut s.containers);
    for container in containers.filter(|c| c.name == binding.container) {
        match &binding.name {
            Some(name) if binding.type_ == BindingType::DeploymentEnv => {
                let env = container.env.get_or_insert_default();
                let ours = EnvVar {
                    name: name.clone(),
                    value: Some(value.to_owned()),
                    value_from: None,
                };
                // It keeps its place: a variable may refer to those that stand before it.
                if env.iter().all(|e| e.name != *name) {
                    env.push(ours);
                } else {
                    for variable in env.iter_mut().filter(|e| e.name == *name) {
                        variable.clone_from(&ours);
                    }
                }
            }
            _ => container.image = Some(value.to_owned()),
        }
    }
}

/// The value that the binding gets for a version: the artifact's URI, for an image without the scheme `oci://`.
#[must_use]
pub fn wanted(binding: &Binding, version: &ModelVersionSpec) -> String {
    of_uri(binding.type_, version.artifact.uri.as_str()).to_owned()
}

fn of_uri(type_: BindingType, uri: &str) -> &str {
    match type_ {
        BindingType::DeploymentEnv => uri,
        BindingType::DeploymentImage => uri.strip_prefix("oci://").unwrap_or(uri),
    }
}

/// The version whose artifact the value names, with or without the scheme `oci://`.
#[must_use]
pub fn version_of(value: &str, versions: &[VersionView]) -> Option<String> {
    let names = |v: &&VersionView| v.uri == value || v.uri.strip_prefix("oci://") == Some(value);
    versions.iter().find(names).map(|v| v.name.clone())
}

/// Hash of the pod template without our two fields: it changes when the target's owner changes the target.
#[must_use]
pub fn template_hash(deployment: &Deployment, binding: &Binding) -> String {
    let mut template = template(deployment).cloned().unwrap_or_default();
    if let Some(metadata) = &mut template.metadata {
        metadata.creation_timestamp = None;
        if let Some(annotations) = &mut metadata.annotations {
            annotations.remove(ANNOTATION_MODEL_VERSION);
        }
        // Whether an empty map is there says nothing: our annotation may have been its only entry.
        metadata.annotations.take_if(|a| a.is_empty());
        metadata.labels.take_if(|l| l.is_empty());
    }
    let containers = template.spec.iter_mut().flat_map(|s| &mut s.containers);
    for container in containers.filter(|c| c.name == binding.container) {
        match binding.type_ {
            BindingType::DeploymentImage => container.image = None,
            BindingType::DeploymentEnv => {
                if let Some(env) = &mut container.env {
                    env.retain(|e| Some(&e.name) != binding.name.as_ref());
                }
                container.env.take_if(|e| e.is_empty());
            }
        }
    }
    let digest = evidence::freeze(&template).map(|f| f.digest.0).unwrap_or_default();
    digest.trim_start_matches("sha256:").chars().take(16).collect()
}

fn template(deployment: &Deployment) -> Option<&PodTemplateSpec> {
    deployment.spec.as_ref().map(|s| &s.template)
}

fn containers(template: &PodTemplateSpec) -> &[Container] {
    template
        .spec
        .as_ref()
        .map(|s| s.containers.as_slice())
        .unwrap_or_default()
}
