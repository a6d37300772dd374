//! ModelVersion: its run, its Rollouts, its children, and whether it serves.

use flywheel_api::model_version::ModelVersionStatus;
use flywheel_api::rollout::RolloutPlan;
use flywheel_api::{FlywheelPipeline, FlywheelRun, ModelVersion, Rollout, names};
use flywheel_engine::binding;
use flywheel_engine::decision::Decision;
use flywheel_engine::model_version::{self, Delivery, ModelVersionObservation};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::ListParams;
use kube::{Client, Error, ResourceExt};

use super::{Controller, Related, RelatedKind};
use crate::context::Context;
use crate::lookup::{get, guarded, list, terminating, versions};

/// Reconciles ModelVersions.
pub struct ModelVersions;

impl Controller for ModelVersions {
    type Object = ModelVersion;
    type Status = ModelVersionStatus;
    type Observation = ModelVersionObservation;

    const NAME: &'static str = "modelversion";
    const RELATED: &'static [RelatedKind] = &[
        RelatedKind::Run,
        RelatedKind::Rollout,
        RelatedKind::Deployment,
        RelatedKind::ModelVersion,
    ];

    fn concerns(object: &ModelVersion, related: &Related) -> bool {
        let name = object.name_any();
        let status = object.status.clone().unwrap_or_default();
        let run = object.spec.provenance.as_ref().map(|p| p.run.name.as_str());
        match related.kind {
            RelatedKind::Run => run == Some(related.name.as_str()),
            // A Rollout of another version of the model may end this one's service.
            RelatedKind::Rollout => {
                related.has(names::LABEL_MODEL, &object.spec.model_name)
                    || status.deployments.iter().any(|d| d.rollout.name == related.name)
                    || related.name == name
            }
            RelatedKind::Deployment => status
                .deployments
                .iter()
                .any(|d| d.target == format!("Deployment/{}", related.name)),
            RelatedKind::ModelVersion => related.has(names::LABEL_PARENT, &name),
            RelatedKind::Job
            | RelatedKind::Pod
            | RelatedKind::Pipeline
            | RelatedKind::BiasPolicy
            | RelatedKind::Approval => false,
        }
    }

    async fn observe(
        context: &Context,
        version: ModelVersion,
        now: Timestamp,
    ) -> Result<ModelVersionObservation, Error> {
        let client = &context.client;
        let (namespace, name) = (version.namespace().unwrap_or_default(), version.name_any());
        let provenance = version.spec.provenance.clone();
        let run: Option<FlywheelRun> = match &provenance {
            Some(p) => get(client, &namespace, &p.run.name).await?,
            None => None,
        };
        let run = run.filter(|r| {
            provenance
                .as_ref()
                .is_some_and(|p| r.metadata.uid.as_deref() == Some(&p.run.uid))
        });
        let deleting = version.metadata.deletion_timestamp.is_some();
        let all: Vec<Rollout> = if deleting {
            // Any of them may need it as the way back: it is not let go before all can be read.
            list(client, &namespace, ListParams::default()).await?
        } else {
            guarded(client, &namespace, ListParams::default()).await?.readable
        };
        let mine = |r: &&Rollout| {
            let baseline = r
                .status
                .as_ref()
                .and_then(|s| s.baseline.as_ref())
                .and_then(|b| b.version.as_deref());
            r.spec.model_version_ref.name == name || baseline == Some(name.as_str())
        };
        let mine: Vec<&Rollout> = all.iter().filter(mine).collect();
        let mut deliveries = Vec::new();
        let mut serves = serves(client, &namespace, &version).await?;
        for rollout in &mine {
            let plan = &rollout.spec.plan;
            let target: Option<Deployment> = get(client, &namespace, &plan.target_ref.name).await?;
            serves |= carries(target.as_ref(), plan, &version);
            deliveries.push(Delivery::on(rollout, target.as_ref()));
        }
        let family = versions(client, &namespace, &version.spec.model_name).await?.readable;
        let child = |v: &&ModelVersion| v.spec.parent.as_ref().is_some_and(|p| p.name == name);
        Ok(ModelVersionObservation {
            now,
            run,
            rollouts: deliveries,
            children: family.iter().filter(child).map(ResourceExt::name_any).collect(),
            serves,
            namespace_terminating: deleting && terminating(client, &namespace).await?,
            version,
        })
    }

    fn decide(observation: &ModelVersionObservation) -> Decision<ModelVersionStatus> {
        model_version::decide(observation)
    }
}

/// Whether it serves on the target of a pipeline of its model, whoever brought it there.
async fn serves(client: &Client, namespace: &str, version: &ModelVersion) -> Result<bool, Error> {
    let of_model = ListParams::default().fields(&format!("spec.model.name={}", version.spec.model_name));
    let pipelines: Vec<FlywheelPipeline> = list(client, namespace, of_model).await?;
    for plan in pipelines.iter().filter_map(|p| p.spec.rollout.as_ref()) {
        let target: Option<Deployment> = get(client, namespace, &plan.target_ref.name).await?;
        if carries(target.as_ref(), plan, version) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn carries(target: Option<&Deployment>, plan: &RolloutPlan, version: &ModelVersion) -> bool {
    let value = target.and_then(|t| binding::value(t, &plan.binding).ok().flatten());
    value.is_some_and(|v| v == binding::wanted(&plan.binding, &version.spec))
}
