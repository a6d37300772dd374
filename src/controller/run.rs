//! FlywheelRun: its pipeline, snapshot, Jobs with pods, version, Rollout, policies and approvals.

use flywheel_api::flywheel_run::FlywheelRunStatus;
use flywheel_api::{FlywheelPipeline, FlywheelRun, ModelVersion, Rollout, names};
use flywheel_engine::decision::Decision;
use flywheel_engine::run::{self, JobView, Peer, RolloutView, RunObservation, SnapshotView, VersionFact};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::core::DeserializeGuard;
use kube::{Error, ResourceExt};

use super::{Controller, Related, RelatedKind};
use crate::context::Context;
use crate::lookup::{Choice, Field, Guarded, Reader};
use crate::watch::{Watched, Watches};

/// Reconciles FlywheelRuns.
pub struct Runs;

impl Controller for Runs {
    type Object = FlywheelRun;
    type Status = FlywheelRunStatus;
    type Answers = ();
    type Observation = RunObservation;

    const NAME: &'static str = "run";
    const RELATED: &'static [RelatedKind] = &[
        RelatedKind::Job,
        RelatedKind::Pod,
        RelatedKind::Pipeline,
        RelatedKind::Run,
        RelatedKind::ModelVersion,
        RelatedKind::Rollout,
        RelatedKind::BiasPolicy,
        RelatedKind::Approval,
    ];

    fn watched(watches: &Watches) -> &Watched<DeserializeGuard<FlywheelRun>> {
        &watches.runs
    }

    fn concerns(object: &FlywheelRun, related: &Related) -> bool {
        let name = object.name_any();
        let status = object.status.clone().unwrap_or_default();
        let open = status.outcome.is_none();
        let version = status.model_version.map(|v| v.name).unwrap_or_default();
        match related.kind {
            RelatedKind::Job => related.has(names::LABEL_RUN, &name),
            RelatedKind::Pod => open && related.has(names::LABEL_RUN, &name),
            RelatedKind::ModelVersion | RelatedKind::Rollout => {
                open && (related.has(names::LABEL_RUN, &name) || related.name == version)
            }
            // Its status too: it says whether the pipeline is accepted, and what serves.
            RelatedKind::Pipeline => open && related.name == object.spec.pipeline_ref.name,
            RelatedKind::Run => open && related.name != name,
            RelatedKind::BiasPolicy => open,
            RelatedKind::Approval => open && (related.name == name || related.name == version),
            _ => false,
        }
    }

    fn in_progress(object: &FlywheelRun) -> bool {
        object.status.as_ref().is_none_or(|s| s.outcome.is_none())
    }

    fn uses_settings(object: &FlywheelRun) -> bool {
        Self::in_progress(object)
    }

    async fn observe(
        context: &Context,
        reader: Reader<'_>,
        run: FlywheelRun,
        (): (),
        now: Timestamp,
    ) -> Result<RunObservation, Error> {
        let status = run.status.clone().unwrap_or_default();
        let pipeline: Option<FlywheelPipeline> = reader.get(&run.spec.pipeline_ref.name).await?;
        let snapshot = snapshot(reader, &status).await?;
        // The snapshot's plan counts once there is one; before, the pipeline's.
        let plan = snapshot.as_ref().map_or_else(
            || pipeline.as_ref().and_then(|p| p.spec.rollout.clone()),
            |s| {
                s.data
                    .get("rollout")
                    .and_then(|r| serde_json::from_value(r.clone()).ok())
            },
        );
        let model = pipeline.as_ref().map(|p| p.spec.model.name.clone()).unwrap_or_default();
        let all = all_versions(reader, &model).await?;
        let version_name = status
            .model_version
            .as_ref()
            .map(|v| v.name.clone())
            .unwrap_or_default();
        // After a lost status the Rollout may exist without its intent: it bears the version's name.
        let rollout_name = status
            .rollout
            .as_ref()
            .map_or(version_name.as_str(), |r| r.name.as_str());
        let rollout: Option<Rollout> = reader.get(rollout_name).await?;
        let mut decisions = reader.approvals(&run.name_any()).await?;
        // A version is often called like its run; its Approvals must not be seen twice.
        if version_name != run.name_any() {
            decisions.extend(reader.approvals(&version_name).await?);
        }
        Ok(RunObservation {
            now,
            settings: (*context.settings()).clone(),
            snapshot,
            jobs: jobs(reader, &run).await?,
            peers: peers(reader, &run).await?,
            live: reader.live_version(plan.as_ref(), &all).await?,
            version: all.iter().find(|v| v.name_any() == version_name).cloned(),
            versions: all.iter().map(VersionFact::of).collect(),
            rollout: rollout.as_ref().map(RolloutView::of),
            policies: reader.policies(pipeline.as_ref()).await?,
            approvals: decisions,
            pipeline,
            run,
        })
    }

    fn decide(observation: &RunObservation) -> Decision<FlywheelRunStatus> {
        run::decide(observation)
    }
}

/// All versions of the model. One that cannot be read is an error: it may be the live one, with which the new one is to
/// be compared.
async fn all_versions(reader: Reader<'_>, model: &str) -> Result<Vec<ModelVersion>, Error> {
    if model.is_empty() {
        return Ok(Vec::new());
    }
    reader.list(Choice::Field(Field::VersionModel, model)).await
}

async fn snapshot(reader: Reader<'_>, status: &FlywheelRunStatus) -> Result<Option<SnapshotView>, Error> {
    let name = status.snapshot.as_ref().map(|s| s.name.clone()).unwrap_or_default();
    let found: Option<ControllerRevision> = reader.get(&name).await?;
    Ok(found.map(|r| SnapshotView {
        name: r.name_any(),
        data: r.data.map(|d| d.0).unwrap_or_default(),
    }))
}

async fn jobs(reader: Reader<'_>, run: &FlywheelRun) -> Result<Vec<JobView>, Error> {
    let uid = run.metadata.uid.clone().unwrap_or_default();
    let mine = Choice::Label(names::LABEL_RUN_UID, &uid);
    let jobs: Vec<Job> = reader.list(mine).await?;
    let pods: Vec<Pod> = if jobs.is_empty() {
        Vec::new()
    } else {
        reader.list(mine).await?
    };
    Ok(jobs.iter().map(|j| JobView::of(j, &pods)).collect())
}

async fn peers(reader: Reader<'_>, run: &FlywheelRun) -> Result<Vec<Peer>, Error> {
    let all: Guarded<FlywheelRun> = reader.guarded(Choice::All).await?;
    let others = all.readable.iter().filter(|r| r.metadata.uid != run.metadata.uid);
    Ok(others.filter_map(Peer::of).collect())
}
