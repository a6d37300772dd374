//! The kinds of Flywheel: Kubernetes resources of group `flywheel.dev`, version `v1alpha1`.
//!
//! The nouns only: nothing here talks to a cluster, reads a clock or decides anything. Field docs are the texts of
//! `kubectl explain`; validation is part of the schema (patterns, bounds, CEL), so that the API server refuses bad
//! input and no webhook is needed.

pub mod approval;
pub mod bias_policy;
pub mod condition;
pub mod flywheel_pipeline;
pub mod flywheel_run;
pub mod gate;
pub mod lineage;
pub mod model_version;
pub mod names;
pub mod reference;
mod remedy;
pub mod rollout;
pub mod rollout_status;
pub mod schema;
pub mod stage;
pub mod stage_contract;

pub use approval::{Approval, ApprovalSpec};
pub use bias_policy::{BiasPolicy, BiasPolicySpec, BiasPolicyStatus};
pub use flywheel_pipeline::{FlywheelPipeline, FlywheelPipelineSpec, FlywheelPipelineStatus};
pub use flywheel_run::{FlywheelRun, FlywheelRunSpec, FlywheelRunStatus};
pub use model_version::{ModelVersion, ModelVersionSpec, ModelVersionStatus};
pub use rollout::{Rollout, RolloutSpec, RolloutStatus};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps,
};
use kube::core::CustomResourceExt;

/// The CustomResourceDefinitions of all kinds, ready to be applied.
#[must_use]
pub fn crds() -> Vec<CustomResourceDefinition> {
    [
        FlywheelPipeline::crd(),
        FlywheelRun::crd(),
        ModelVersion::crd(),
        Rollout::crd(),
        BiasPolicy::crd(),
        Approval::crd(),
    ]
    .into_iter()
    .map(finish)
    .collect()
}

/// What the derive cannot say: a default status for kstatus (an object without status would read as finished), the
/// bound on names, and sentences for patterns, defaults and limits.
fn finish(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    let longest = match crd.spec.names.kind.as_str() {
        "FlywheelPipeline" | "BiasPolicy" => names::MAX_NAME,
        _ => names::MAX_DERIVED_NAME,
    };
    for version in &mut crd.spec.versions {
        let has_status = version.subresources.as_ref().is_some_and(|s| s.status.is_some());
        let Some(root) = version.schema.as_mut().and_then(|s| s.open_api_v3_schema.as_mut()) else {
            continue;
        };
        bound_name(root, longest);
        let Some(properties) = root.properties.as_mut() else {
            continue;
        };
        if let Some(spec) = properties.get_mut("spec") {
            remedy::explain(spec);
            remedy::spell_out(spec);
        }
        if has_status && let Some(status) = properties.get_mut("status") {
            status.default = Some(JSON(serde_json::json!({ "observedGeneration": -1 })));
            status.nullable = None;
        }
    }
    crd
}

fn bound_name(root: &mut JSONSchemaProps, longest: usize) {
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::ValidationRule;
    root.x_kubernetes_validations.get_or_insert_default().push(ValidationRule {
        rule: format!("size(self.metadata.name) <= {longest} && !self.metadata.name.contains('.')"),
        message: Some(format!(
            "metadata.name must be a DNS label of at most {longest} characters: it becomes part of labels and of other names"
        )),
        ..ValidationRule::default()
    });
}
