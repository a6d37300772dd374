//! ModelVersion: its run, its Rollouts, its children, and whether it serves.

use std::collections::{BTreeMap, BTreeSet};

use flywheel_api::model_version::ModelVersionStatus;
use flywheel_api::rollout::RolloutPlan;
use flywheel_api::{FlywheelPipeline, FlywheelRun, ModelVersion, Rollout, names};
use flywheel_engine::binding;
use flywheel_engine::decision::Decision;
use flywheel_engine::model_version::{self, Delivery, ModelVersionObservation};
use flywheel_engine::rollout::LABEL_LENGTH;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use kube::core::DeserializeGuard;
use kube::{Error, ResourceExt};

use super::{Controller, Related, RelatedKind};
use crate::context::Context;
use crate::lookup::{Choice, Reader};
use crate::watch::{Watched, Watches};

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
        RelatedKind::ModelVersionSpec,
    ];

    fn watched(watches: &Watches) -> &Watched<DeserializeGuard<ModelVersion>> {
        &watches.versions
    }

    fn concerns(object: &ModelVersion, related: &Related) -> bool {
        let name = object.name_any();
        let status = object.status.as_ref();
        let run = object.spec.provenance.as_ref().map(|p| p.run.name.as_str());
        match related.kind {
            RelatedKind::Run => run == Some(related.name.as_str()),
            // A Rollout of another version of the model may end this one's service.
            RelatedKind::RolloutOutline => {
                related.has(names::LABEL_MODEL, &object.spec.model_name)
                    || status.is_some_and(|s| s.deployments.iter().any(|d| d.rollout.name == related.name))
                    || related.name == name
            }
            RelatedKind::DeploymentSpec => status.is_some_and(|s| s.targets.contains(&related.name)),
            RelatedKind::ModelVersionSpec => related.has(names::LABEL_PARENT, &name),
            _ => false,
        }
    }

    async fn observe(
        _: &Context,
        reader: Reader<'_>,
        version: ModelVersion,
        (): (),
        now: Timestamp,
    ) -> Result<ModelVersionObservation, Error> {
        let name = version.name_any();
        let provenance = version.spec.provenance.clone();
        let run: Option<FlywheelRun> = match &provenance {
            Some(p) => reader.get(&p.run.name).await?,
            None => None,
        };
        let run = run.filter(|r| {
            provenance
                .as_ref()
                .is_some_and(|p| r.metadata.uid.as_deref() == Some(&p.run.uid))
        });
        let deleting = version.metadata.deletion_timestamp.is_some();
        let mine: Vec<Rollout> = if deleting {
            // Any of them may need it as the way back: it is not let go before all can be read.
            let all: Vec<Rollout> = reader.list(Choice::All).await?;
            all.into_iter().filter(|r| is_about(r, &name)).collect()
        } else {
            rollouts(reader, &name).await?
        };
        let pipelines: Vec<FlywheelPipeline> = reader.pipelines(&version.spec.model_name).await?;
        let plans = pipelines.iter().filter_map(|p| p.spec.rollout.as_ref());
        let plans: Vec<&RolloutPlan> = plans.chain(mine.iter().map(|r| &r.spec.plan)).collect();
        let targets = targets(reader, &plans).await?;
        let target = |plan: &RolloutPlan| targets.get(&plan.target_ref.name);
        let family = reader.versions(&version.spec.model_name).await?.readable;
        let child = |v: &&ModelVersion| v.spec.parent.as_ref().is_some_and(|p| p.name == name);
        Ok(ModelVersionObservation {
            now,
            run,
            rollouts: mine.iter().map(|r| Delivery::on(r, target(&r.spec.plan))).collect(),
            children: family.iter().filter(child).map(ResourceExt::name_any).collect(),
            // Whoever brought it there.
            serves: plans
                .iter()
                .filter(|p| carries(target(p), p, &version))
                .map(|p| p.target_ref.name.clone())
                .collect(),
            namespace_terminating: deleting && reader.terminating().await?,
            version,
        })
    }

    fn decide(observation: &ModelVersionObservation) -> Decision<ModelVersionStatus> {
        model_version::decide(observation)
    }
}

/// Whether the Rollout delivers the version, or goes back to it.
fn is_about(rollout: &Rollout, version: &str) -> bool {
    let baseline = rollout.status.as_ref().and_then(|s| s.baseline.as_ref());
    rollout.spec.model_version_ref.name == version || baseline.is_some_and(|b| b.version.as_deref() == Some(version))
}

/// The Rollouts that deliver the version, and those that go back to it, by their labels.
async fn rollouts(reader: Reader<'_>, version: &str) -> Result<Vec<Rollout>, Error> {
    let mut mine = Vec::new();
    if version.len() > LABEL_LENGTH {
        mine = reader.guarded(Choice::All).await?.readable;
    } else {
        for label in [names::LABEL_MODEL_VERSION, names::LABEL_BASELINE_VERSION] {
            mine.extend(reader.guarded(Choice::Label(label, version)).await?.readable);
        }
    }
    mine.retain(|r| is_about(r, version));
    mine.sort_by_key(ResourceExt::name_any);
    mine.dedup_by_key(|r| r.name_any());
    Ok(mine)
}

/// The targets of these plans, by their names: each is read once.
async fn targets(reader: Reader<'_>, plans: &[&RolloutPlan]) -> Result<BTreeMap<String, Deployment>, Error> {
    let names: BTreeSet<&str> = plans.iter().map(|p| p.target_ref.name.as_str()).collect();
    let mut found = BTreeMap::new();
    for name in names {
        if let Some(target) = reader.get(name).await? {
            found.insert(name.to_owned(), target);
        }
    }
    Ok(found)
}

fn carries(target: Option<&Deployment>, plan: &RolloutPlan, version: &ModelVersion) -> bool {
    let value = target.and_then(|t| binding::value(t, &plan.binding).ok().flatten());
    value.is_some_and(|v| v == binding::wanted(&plan.binding, &version.spec))
}
