//! ModelVersion: its run, its Rollouts, its children, and whether it serves.

use std::collections::{BTreeMap, BTreeSet};

use flywheel_api::condition;
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
use crate::lookup::{get, guarded, list, pipelines_of, terminating, versions};

/// Reconciles ModelVersions.
pub struct ModelVersions;

impl Controller for ModelVersions {
    type Object = ModelVersion;
    type Status = ModelVersionStatus;
    type Answers = ();
    type Observation = ModelVersionObservation;

    const NAME: &'static str = "modelversion";
    const RELATED: &'static [RelatedKind] = &[
        RelatedKind::Run,
        RelatedKind::RolloutOutline,
        RelatedKind::DeploymentSpec,
        RelatedKind::ModelVersion,
    ];

    fn concerns(object: &ModelVersion, related: &Related) -> bool {
        let name = object.name_any();
        let status = object.status.clone().unwrap_or_default();
        let run = object.spec.provenance.as_ref().map(|p| p.run.name.as_str());
        match related.kind {
            RelatedKind::Run => run == Some(related.name.as_str()),
            // A Rollout of another version of the model may end this one's service.
            RelatedKind::RolloutOutline => {
                related.has(names::LABEL_MODEL, &object.spec.model_name)
                    || status.deployments.iter().any(|d| d.rollout.name == related.name)
                    || related.name == name
            }
            // A version that a person brought there, or that is the way back, knows no target of its own.
            RelatedKind::DeploymentSpec => {
                let target = format!("Deployment/{}", related.name);
                let holds = |type_| condition::is_true(&status.conditions, type_);
                status.deployments.iter().any(|d| d.target == target)
                    || holds(condition::LIVE)
                    || holds(condition::ROLLBACK_TARGET)
            }
            RelatedKind::ModelVersion => related.has(names::LABEL_PARENT, &name),
            _ => false,
        }
    }

    async fn observe(
        context: &Context,
        version: ModelVersion,
        (): (),
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
        let pipelines: Vec<FlywheelPipeline> = list(client, &namespace, pipelines_of(&version.spec.model_name)).await?;
        let plans = pipelines.iter().filter_map(|p| p.spec.rollout.as_ref());
        let plans: Vec<&RolloutPlan> = plans.chain(mine.iter().map(|r| &r.spec.plan)).collect();
        let targets = targets(client, &namespace, &plans).await?;
        let target = |plan: &RolloutPlan| targets.get(&plan.target_ref.name);
        let family = versions(client, &namespace, &version.spec.model_name).await?.readable;
        let child = |v: &&ModelVersion| v.spec.parent.as_ref().is_some_and(|p| p.name == name);
        Ok(ModelVersionObservation {
            now,
            run,
            rollouts: mine.iter().map(|r| Delivery::on(r, target(&r.spec.plan))).collect(),
            children: family.iter().filter(child).map(ResourceExt::name_any).collect(),
            // Whoever brought it there.
            serves: plans.iter().any(|p| carries(target(p), p, &version)),
            namespace_terminating: deleting && terminating(client, &namespace).await?,
            version,
        })
    }

    fn decide(observation: &ModelVersionObservation) -> Decision<ModelVersionStatus> {
        model_version::decide(observation)
    }
}

/// The targets of these plans, by their names: each is read once.
async fn targets(
    client: &Client,
    namespace: &str,
    plans: &[&RolloutPlan],
) -> Result<BTreeMap<String, Deployment>, Error> {
    let names: BTreeSet<&str> = plans.iter().map(|p| p.target_ref.name.as_str()).collect();
    let mut found = BTreeMap::new();
    for name in names {
        if let Some(target) = get(client, namespace, name).await? {
            found.insert(name.to_owned(), target);
        }
    }
    Ok(found)
}

fn carries(target: Option<&Deployment>, plan: &RolloutPlan, version: &ModelVersion) -> bool {
    let value = target.and_then(|t| binding::value(t, &plan.binding).ok().flatten());
    value.is_some_and(|v| v == binding::wanted(&plan.binding, &version.spec))
}
