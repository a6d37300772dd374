//! FlywheelPipeline: its runs, versions, Rollouts and snapshots, what serves, and the answers of metric triggers.

use std::collections::BTreeSet;

use flywheel_api::flywheel_pipeline::FlywheelPipelineStatus;
use flywheel_api::flywheel_pipeline::MetricTrigger;
use flywheel_api::{FlywheelPipeline, FlywheelRun, ModelVersion, names};
use flywheel_engine::decision::Decision;
use flywheel_engine::model_version::Delivery;
use flywheel_engine::pipeline::{self, MetricAnswer, PipelineObservation, RunFact, VersionView};
use flywheel_engine::view::LiveView;
use futures::future::{BoxFuture, join_all};
use futures::{FutureExt, try_join};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Error, ResourceExt};

use super::{Controller, Related, RelatedKind, is_held_by};
use crate::context::Context;
use crate::guard::Guard;
use crate::inputs::{Input, Inputs};
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
        RelatedKind::RunOutline,
        RelatedKind::ModelVersion,
        RelatedKind::RolloutOutline,
        RelatedKind::BiasPolicy,
        RelatedKind::DeploymentSpec,
    ];

    fn watched(watches: &Watches) -> &Watched<Guard<FlywheelPipeline>> {
        &watches.pipelines
    }

    fn concerns(object: &FlywheelPipeline, related: &Related) -> bool {
        let name = object.metadata.name.as_deref().unwrap_or_default();
        // What cannot be read may be of any model or pipeline, and bear no label: whatever changes may be it.
        let held = || {
            let status = object.status.as_ref();
            status.is_some_and(|s| is_held_by(&s.conditions, "Unreadable"))
        };
        match related.kind {
            // A pipeline that held the model's name may be gone: of two, the older one holds it.
            RelatedKind::PipelineSpec => related.name != name && related.created <= object.creation_timestamp(),
            RelatedKind::RunOutline => related.may_be_about(name) || held(),
            // By its spec: what people import bears no label.
            RelatedKind::ModelVersion => related.may_be_about(&object.spec.model.name) || held(),
            RelatedKind::RolloutOutline => {
                let unreadable = related.about.is_none();
                unreadable || related.has(names::LABEL_MODEL, &object.spec.model.name) || held()
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
        inputs: &Inputs<'_>,
        pipeline: FlywheelPipeline,
        answers: Vec<MetricAnswer>,
        now: Timestamp,
    ) -> Result<PipelineObservation, Error> {
        let (uid, model) = (
            pipeline.metadata.uid.as_deref().unwrap_or_default(),
            &pipeline.spec.model.name,
        );
        let plan = pipeline.spec.rollout.as_ref();
        let (siblings, (snapshots, runs), versions, rollouts, target, policies) = try_join!(
            inputs.part(Input::Peers, |reader| siblings(reader, &pipeline)),
            async {
                // One after the other: a snapshot that is made in between is not taken for one that no run refers to.
                let snapshots = inputs.part(Input::Snapshot, |reader| snapshots(reader, uid)).await?;
                let runs = inputs.part(Input::Runs, |reader| runs(reader, &pipeline)).await?;
                Ok((snapshots, runs))
            },
            inputs.part(Input::Versions, |reader| async move { reader.versions(model).await }),
            inputs.part(Input::Deliveries, |reader| async move {
                reader.each_guarded(Choice::All, Delivery::of).await
            }),
            inputs.part(Input::Live, |reader| async move { reader.target(plan).await }),
            // Its runs read them live before anything follows from them.
            async { inputs.late(Input::Policies).known_policies(&pipeline).await },
        )?;
        let known = versions.peek();
        Ok(PipelineObservation {
            now,
            siblings,
            policies,
            live: target.map(|target| LiveView::served(target.as_ref(), plan?, &known.readable)),
            untold: target.map(|target| LiveView::untold(target.as_ref(), plan?)),
            rollouts: rollouts.map(|all| of_model(&all.readable, &known.readable)),
            unreadable: rollouts.map(|all| unreadable(known, all)),
            versions: versions.map(|all| all.readable.iter().map(VersionView::of).collect()),
            unreadable_runs: runs.map(|all| named("FlywheelRun", all).collect()),
            runs: runs.map(|all| all.readable.clone()),
            snapshots,
            answers,
            settings: (*context.settings()).clone(),
            denied: inputs.denied.clone(),
            pipeline,
        })
    }

    fn decide(observation: &PipelineObservation) -> Decision<FlywheelPipelineStatus> {
        pipeline::decide(observation)
    }
}

/// Other pipelines of the same model. Who holds it is known of one that cannot be read, too.
async fn siblings(reader: Reader<'_>, pipeline: &FlywheelPipeline) -> Result<Vec<(String, Timestamp)>, Error> {
    let name = pipeline.name_any();
    let of_model = Choice::Field(Field::PipelineModel, &pipeline.spec.model.name);
    let all = reader
        .each_guarded(of_model, |p: &FlywheelPipeline| p.metadata.clone())
        .await?;
    let all = all.readable.iter().chain(&all.unreadable);
    let known = all.map(|metadata| (metadata.name.clone().unwrap_or_default(), created(metadata)));
    Ok(known.filter(|(other, _)| *other != name).collect())
}

/// The pipeline's snapshots, by name and UID.
async fn snapshots(reader: Reader<'_>, pipeline_uid: &str) -> Result<Vec<(String, String)>, Error> {
    let all = reader.snapshots(pipeline_uid).await?.into_iter();
    Ok(all
        .map(|s| (s.name.unwrap_or_default(), s.uid.unwrap_or_default()))
        .collect())
}

/// The pipeline's runs, and the one of the name that its next one is to bear, whoever's that is.
async fn runs(reader: Reader<'_>, pipeline: &FlywheelPipeline) -> Result<Guarded<RunFact>, Error> {
    let fact = |run: &FlywheelRun| RunFact::of(run, pipeline);
    let name = pipeline.name_any();
    let mut all = reader
        .each_guarded(Choice::Field(Field::RunPipeline, &name), fact)
        .await?;
    let pending = pipeline::pending_run(pipeline).unwrap_or_default();
    let is_known = all.readable.iter().any(|run| run.name == pending) || all.unreadable_names().contains(&pending);
    if !is_known && let Some(Guard(taken)) = reader.guard::<FlywheelRun>(&pending).await? {
        all.add(Guard(taken.map(|run| fact(&run))));
    }
    Ok(all)
}

/// The deliveries of these versions. A user's Rollout has no labels: those of the model are told by their versions.
fn of_model(all: &[Delivery], versions: &[ModelVersion]) -> Vec<Delivery> {
    let versions: BTreeSet<String> = versions.iter().map(ResourceExt::name_any).collect();
    let of_model = all.iter().filter(|delivery| versions.contains(&delivery.candidate));
    of_model.cloned().collect()
}

/// Versions and Rollouts that cannot be read, by kind and name.
fn unreadable(versions: &Guarded<ModelVersion>, rollouts: &Guarded<Delivery>) -> Vec<String> {
    named("ModelVersion", versions)
        .chain(named("Rollout", rollouts))
        .collect()
}

/// Those that cannot be read, by kind and name.
fn named<T>(kind: &str, all: &Guarded<T>) -> impl Iterator<Item = String> {
    let names = all.unreadable_names().into_iter();
    names.map(move |name| format!("{kind} {name}"))
}

fn created(metadata: &ObjectMeta) -> Timestamp {
    metadata.creation_timestamp.as_ref().map(|t| t.0).unwrap_or_default()
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    /// A pipeline of model eta whose condition Ready has this reason.
    fn pipeline(reason: &str) -> FlywheelPipeline {
        let spec = json!({ "model": { "name": "eta" }, "stages": [] });
        let mut pipeline = FlywheelPipeline::new("eta", serde_json::from_value(spec).unwrap());
        let status = json!({ "conditions": [{ "type": "Ready", "status": "False", "reason": reason, "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z" }] });
        pipeline.status = Some(serde_json::from_value(status).unwrap());
        pipeline
    }

    /// A change of an object that bears no labels.
    fn change(kind: RelatedKind, about: Option<&str>) -> Related {
        Related {
            kind,
            name: "by-hand".to_owned(),
            about: about.map(ToOwned::to_owned),
            labels: BTreeMap::new(),
            created: None,
        }
    }

    #[test]
    fn a_pipeline_hears_of_an_imported_version_of_its_model_which_bears_no_label() {
        let wakes = |about| Pipelines::concerns(&pipeline("Idle"), &change(RelatedKind::ModelVersion, about));
        assert!(wakes(Some("eta")));
        assert!(wakes(None), "one that cannot be read may be of any model");
        assert!(!wakes(Some("delay")));
    }

    #[test]
    fn a_pipeline_that_starts_no_runs_hears_when_its_live_version_can_be_read_again() {
        for reason in ["Suspended", "OnRequest", "Braked"] {
            let mended = change(RelatedKind::ModelVersion, Some("eta"));
            assert!(Pipelines::concerns(&pipeline(reason), &mended), "{reason}");
        }
    }

    #[test]
    fn a_pipeline_that_something_unreadable_holds_hears_when_it_is_mended() {
        for kind in [
            RelatedKind::ModelVersion,
            RelatedKind::RolloutOutline,
            RelatedKind::RunOutline,
        ] {
            let mended = change(kind, Some("another"));
            assert!(Pipelines::concerns(&pipeline("Unreadable"), &mended), "{kind:?}");
            assert!(!Pipelines::concerns(&pipeline("Idle"), &mended), "{kind:?}");
            assert!(Pipelines::concerns(&pipeline("Idle"), &change(kind, None)), "{kind:?}");
        }
    }
}
