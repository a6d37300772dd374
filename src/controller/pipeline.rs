//! FlywheelPipeline: its runs, versions, Rollouts and snapshots, what serves, and the answers of metric triggers.

use flywheel_api::flywheel_pipeline::FlywheelPipelineStatus;
use flywheel_api::flywheel_pipeline::MetricTrigger;
use flywheel_api::{FlywheelPipeline, FlywheelRun, ModelVersion, Rollout, names};
use flywheel_engine::decision::Decision;
use flywheel_engine::model_version::Delivery;
use flywheel_engine::pipeline::{self, MetricAnswer, PipelineObservation, RunFact, VersionView};
use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::core::DeserializeGuard;
use kube::{Error, ResourceExt};

use super::{Controller, Related, RelatedKind};
use crate::context::Context;
use crate::lookup::{Choice, Field, Guarded, Reader};
use crate::watch::{Watched, Watches};

/// Reconciles FlywheelPipelines.
pub struct Pipelines;

impl Controller for Pipelines {
    type Object = FlywheelPipeline;
    type Status = FlywheelPipelineStatus;
    type Answers = Vec<MetricAnswer>;
    type Observation = PipelineObservation;

    const NAME: &'static str = "pipeline";
    const RELATED: &'static [RelatedKind] = &[
        RelatedKind::PipelineSpec,
        RelatedKind::Run,
        RelatedKind::ModelVersion,
        RelatedKind::RolloutOutline,
        RelatedKind::BiasPolicy,
        RelatedKind::DeploymentSpec,
    ];

    fn watched(watches: &Watches) -> &Watched<DeserializeGuard<FlywheelPipeline>> {
        &watches.pipelines
    }

    fn concerns(object: &FlywheelPipeline, related: &Related) -> bool {
        let name = object.name_any();
        match related.kind {
            // A pipeline that held the model's name may be gone: of two, the older one holds it.
            RelatedKind::PipelineSpec => related.name != name && related.created <= object.creation_timestamp(),
            RelatedKind::Run => {
                related.has(names::LABEL_PIPELINE, &name) || !related.labels.contains_key(names::LABEL_PIPELINE)
            }
            RelatedKind::ModelVersion | RelatedKind::RolloutOutline => {
                related.has(names::LABEL_MODEL, &object.spec.model.name)
            }
            RelatedKind::BiasPolicy => true,
            RelatedKind::DeploymentSpec => object
                .spec
                .rollout
                .as_ref()
                .is_some_and(|r| r.target_ref.name == related.name),
            _ => false,
        }
    }

    fn in_progress(object: &FlywheelPipeline) -> bool {
        object.status.as_ref().is_some_and(|s| s.active_run.is_some())
    }

    fn uses_settings(_: &FlywheelPipeline) -> bool {
        true
    }

    fn ask<'a>(
        context: &'a Context,
        pipeline: &'a FlywheelPipeline,
        now: Timestamp,
    ) -> Option<BoxFuture<'a, Vec<MetricAnswer>>> {
        let due = pipeline::due_metrics(pipeline);
        (!due.is_empty()).then(|| answers(context, pipeline, due, now).boxed())
    }

    async fn observe(
        context: &Context,
        reader: Reader<'_>,
        pipeline: FlywheelPipeline,
        answers: Vec<MetricAnswer>,
        now: Timestamp,
    ) -> Result<PipelineObservation, Error> {
        let name = pipeline.name_any();
        let uid = pipeline.metadata.uid.clone().unwrap_or_default();
        let model = pipeline.spec.model.name.clone();
        let siblings: Vec<FlywheelPipeline> = reader.pipelines(&model).await?;
        // Before the runs: a snapshot that is made in between is not taken for one that no run refers to.
        let of_uid = Choice::Label(names::LABEL_PIPELINE_UID, &uid);
        let snapshots: Vec<ControllerRevision> = reader.list(of_uid).await?;
        let runs: Vec<FlywheelRun> = reader.list(Choice::Field(Field::RunPipeline, &name)).await?;
        let known = reader.versions(&model).await?;
        let rollouts: Guarded<Rollout> = reader.guarded(Choice::All).await?;
        let unreadable = unreadable(&known, &rollouts);
        let (all, mut rollouts) = (known.readable, rollouts.readable);
        // A user's Rollout has no labels: those of the model are told by their versions.
        rollouts.retain(|r| all.iter().any(|v| v.name_any() == r.spec.model_version_ref.name));
        Ok(PipelineObservation {
            now,
            siblings: siblings
                .iter()
                .filter(|p| p.name_any() != name)
                .map(|p| (p.name_any(), created(p)))
                .collect(),
            policies: reader.policies(Some(&pipeline)).await?,
            runs: runs.iter().map(|r| RunFact::of(r, &uid)).collect(),
            live: reader.live_version(pipeline.spec.rollout.as_ref(), &all).await?,
            versions: all.iter().map(VersionView::of).collect(),
            rollouts: rollouts.iter().map(Delivery::of).collect(),
            unreadable,
            snapshots: snapshots
                .iter()
                .map(|s| (s.name_any(), s.metadata.uid.clone().unwrap_or_default()))
                .collect(),
            answers,
            settings: (*context.settings()).clone(),
            pipeline,
        })
    }

    fn decide(observation: &PipelineObservation) -> Decision<FlywheelPipelineStatus> {
        pipeline::decide(observation)
    }
}

/// Versions and Rollouts that cannot be read, by kind and name.
fn unreadable(versions: &Guarded<ModelVersion>, rollouts: &Guarded<Rollout>) -> Vec<String> {
    let versions = versions
        .unreadable_names()
        .into_iter()
        .map(|n| format!("ModelVersion {n}"));
    let rollouts = rollouts.unreadable_names().into_iter().map(|n| format!("Rollout {n}"));
    versions.chain(rollouts).collect()
}

fn created(object: &impl ResourceExt) -> Timestamp {
    object
        .meta()
        .creation_timestamp
        .as_ref()
        .map(|t| t.0)
        .unwrap_or_default()
}

/// Asks the providers of metric triggers, all at once.
async fn answers(
    context: &Context,
    pipeline: &FlywheelPipeline,
    due: Vec<(String, MetricTrigger)>,
    now: Timestamp,
) -> Vec<MetricAnswer> {
    let settings = context.settings();
    let asked = due.into_iter().filter_map(|(trigger, metric)| {
        let url = settings.provider(&metric.provider_ref.name)?.url.clone();
        let query = pipeline::metric_query(pipeline, &metric, now);
        Some(async move {
            let answer = context.prometheus.query(&url, &query).await;
            MetricAnswer { trigger, answer }
        })
    });
    join_all(asked).await
}
