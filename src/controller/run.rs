//! FlywheelRun: its pipeline, snapshot, Jobs with pods, version, Rollout, policies and approvals.

use flywheel_api::flywheel_run::FlywheelRunStatus;
use flywheel_api::{FlywheelPipeline, FlywheelRun, ModelVersion, Rollout, names};
use flywheel_engine::approval::ApprovalView;
use flywheel_engine::decision::Decision;
use flywheel_engine::part::Part;
use flywheel_engine::run::{self, JobView, Peer, RolloutView, RunObservation, SnapshotView, Unreadable, VersionFact};
use flywheel_engine::view::{LiveView, Policies};
use futures::try_join;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::{Error, ResourceExt};

use super::{Controller, Related, RelatedKind, is_held_by};
use crate::context::Context;
use crate::guard::Guard;
use crate::inputs::{Input, Inputs};
use crate::lookup::{Choice, Guarded, Reader};
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
        RelatedKind::RunOutline,
        RelatedKind::ModelVersion,
        RelatedKind::Rollout,
        RelatedKind::DeploymentSpec,
        RelatedKind::BiasPolicy,
        RelatedKind::Approval,
    ];

    fn watched(watches: &Watches) -> &Watched<Guard<FlywheelRun>> {
        &watches.runs
    }

    fn concerns(object: &FlywheelRun, related: &Related) -> bool {
        let name = object.metadata.name.as_deref().unwrap_or_default();
        let open = object.status.as_ref().is_none_or(|s| s.outcome.is_none());
        let version = version_name(object);
        let ours = || related.has(names::LABEL_RUN, name);
        let held_by = |reason| {
            let status = object.status.as_ref();
            status.is_some_and(|s| is_held_by(&s.conditions, reason))
        };
        match related.kind {
            RelatedKind::Job => ours(),
            RelatedKind::Pod => open && ours(),
            // Any version may be the one that could not be read.
            RelatedKind::ModelVersion => open && (ours() || related.name == version || held_by("Unreadable")),
            RelatedKind::Rollout => {
                let late = object.status.as_ref().is_some_and(run::sends_back);
                ((open || late) && ours()) || (open && related.name == version)
            }
            // Which one is its target says its snapshot, which is not at hand here.
            RelatedKind::DeploymentSpec => open && held_by("LiveVersionUnknown"),
            // Its status too: it says whether the pipeline is accepted, and what serves.
            RelatedKind::Pipeline => open && related.name == object.spec.pipeline_ref.name,
            RelatedKind::RunOutline => related.name != name && run::asks_for_peers(object),
            RelatedKind::BiasPolicy => open,
            // One that cannot be read approves nothing.
            RelatedKind::Approval => open && (related.is_about(name) || related.is_about(version)),
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
        inputs: &Inputs<'_>,
        run: FlywheelRun,
        (): (),
        now: Timestamp,
    ) -> Result<RunObservation, Error> {
        // What does not depend on each other is asked for at once: a list may take the API server a while.
        let (around, jobs, peers, delivery, approvals) = try_join!(
            around(inputs, &run),
            inputs.part(Input::Jobs, |reader| jobs(reader, &run)),
            inputs.part(Input::Peers, |reader| peers(reader, &run)),
            inputs.part(Input::Rollout, |reader| rollout(reader, &run)),
            inputs.part(Input::Approvals, |reader| approvals(reader, &run)),
        )?;
        let Around {
            pipeline,
            snapshot,
            versions,
            live,
            untold,
            policies,
        } = around;
        let named = |v: &&ModelVersion| v.name_any() == version_name(&run);
        let unreadable = Unreadable {
            pipeline: pipeline.map(|found| found.iter().filter_map(Guard::unreadable_name).collect()),
            versions: versions.map(Guarded::unreadable_names),
            rollout: delivery.map(|found| found.iter().filter_map(Guard::unreadable_name).collect()),
        };
        Ok(RunObservation {
            now,
            settings: (*context.settings()).clone(),
            snapshot,
            jobs,
            peers,
            live,
            untold,
            version: versions.map(|all| all.readable.iter().find(named).cloned()),
            versions: versions.map(|all| all.readable.iter().map(VersionFact::of).collect()),
            rollout: delivery.map(|found| found.as_ref().and_then(Guard::readable).map(RolloutView::of)),
            policies,
            approvals,
            pipeline: pipeline.map(|found| found.as_ref().and_then(Guard::readable).cloned()),
            unreadable,
            denied: inputs.denied.clone(),
            run,
        })
    }

    fn decide(observation: &RunObservation) -> Decision<FlywheelRunStatus> {
        run::decide(observation)
    }
}

/// What the run's pipeline leads to.
struct Around {
    pipeline: Part<Option<Guard<FlywheelPipeline>>>,
    snapshot: Option<SnapshotView>,
    versions: Part<Guarded<ModelVersion>>,
    live: Part<Option<LiveView>>,
    untold: Part<Option<String>>,
    policies: Part<Policies>,
}

async fn around(inputs: &Inputs<'_>, run: &FlywheelRun) -> Result<Around, Error> {
    let (pipeline, snapshot) = try_join!(
        inputs.part(Input::Pipeline, |reader| async move {
            reader.guard::<FlywheelPipeline>(&run.spec.pipeline_ref.name).await
        }),
        // What is in it never changes, and that it went may be noticed late.
        snapshot(inputs.late(Input::Snapshot), run),
    )?;
    // What it leads to is read live only if it is: it is not looked at here.
    let found = pipeline.peek().as_ref().and_then(Guard::readable);
    // The snapshot's plan counts once there is one; before, the pipeline's.
    let plan = match &snapshot {
        None => found.and_then(|p| p.spec.rollout.clone()),
        Some(snapshot) => {
            let stored = snapshot.data.get("rollout").cloned();
            stored.and_then(|plan| serde_json::from_value(plan).ok())
        }
    };
    let model = found.map_or("", |p| &p.spec.model.name);
    let delivered = plan.as_ref().filter(|_| run::asks_for_live(run));
    let (versions, target, policies) = try_join!(
        inputs.part(Input::Versions, |reader| versions(reader, model, version_name(run))),
        inputs.part(Input::Live, |reader| async move { reader.target(delivered).await }),
        inputs.part(Input::Policies, |reader| async move { reader.policies(found).await }),
    )?;
    let live = target.map(|target| {
        let plan = plan.as_ref()?;
        LiveView::served(target.as_ref(), plan, &versions.peek().readable)
    });
    let untold = target.map(|target| LiveView::untold(target.as_ref(), delivered?));
    Ok(Around {
        snapshot,
        versions,
        live,
        untold,
        policies,
        pipeline,
    })
}

/// All versions of the model, and the one of that name whichever model it is of.
async fn versions(reader: Reader<'_>, model: &str, name: &str) -> Result<Guarded<ModelVersion>, Error> {
    if model.is_empty() {
        return Ok(Guarded::none());
    }
    let mut all = reader.versions(model).await?;
    let is_known =
        all.readable.iter().any(|v| v.name_any() == name) || all.unreadable_names().iter().any(|n| n == name);
    if !is_known && let Some(found) = reader.guard(name).await? {
        all.add(found);
    }
    Ok(all)
}

async fn snapshot(reader: Reader<'_>, run: &FlywheelRun) -> Result<Option<SnapshotView>, Error> {
    let snapshot = run.status.as_ref().and_then(|s| s.snapshot.as_ref());
    reader.snapshot(snapshot.map_or("", |s| &s.name)).await
}

/// The name of the version that the run registers; empty before it is known.
fn version_name(run: &FlywheelRun) -> &str {
    let version = run.status.as_ref().and_then(|s| s.model_version.as_ref());
    version.map_or("", |v| &v.name)
}

async fn rollout(reader: Reader<'_>, run: &FlywheelRun) -> Result<Option<Guard<Rollout>>, Error> {
    let intent = run.status.as_ref().and_then(|s| s.rollout.as_ref());
    // After a lost status the Rollout may exist without its intent: it bears the version's name.
    reader.guard(intent.map_or(version_name(run), |r| &r.name)).await
}

async fn approvals(reader: Reader<'_>, run: &FlywheelRun) -> Result<Vec<ApprovalView>, Error> {
    let (name, version) = (run.name_any(), version_name(run));
    // A version is often called like its run; its Approvals must not be seen twice.
    let version = if version == name { "" } else { version };
    let (mut all, of_version) = try_join!(reader.approvals(&name), reader.approvals(version))?;
    all.extend(of_version);
    Ok(all)
}

async fn jobs(reader: Reader<'_>, run: &FlywheelRun) -> Result<Vec<JobView>, Error> {
    let uid = run.metadata.uid.clone().unwrap_or_default();
    let mine = Choice::Label(names::LABEL_RUN_UID, &uid);
    let jobs: Vec<Job> = reader.list(mine).await?;
    // Not at once: the pods of a Job that has ended have ended too.
    let pods: Vec<Pod> = if jobs.is_empty() {
        Vec::new()
    } else {
        reader.list(mine).await?
    };
    Ok(jobs.iter().map(|j| JobView::of(j, &pods)).collect())
}

async fn peers(reader: Reader<'_>, run: &FlywheelRun) -> Result<Vec<Peer>, Error> {
    if !run::asks_for_peers(run) {
        return Ok(Vec::new());
    }
    let other = |r: &FlywheelRun| (r.metadata.uid != run.metadata.uid).then(|| Peer::of(r)).flatten();
    let all = reader.each_readable(Choice::All, other).await?;
    Ok(all.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use flywheel_api::flywheel_run::RunOutcome;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_run_that_was_cancelled_or_rejected_hears_of_its_rollout_that_arrives_late() {
        let spec = serde_json::from_value(json!({ "pipelineRef": { "name": "eta" } })).unwrap();
        let mut run = FlywheelRun::new("eta-request", spec);
        let of = |run: &str| Related {
            kind: RelatedKind::Rollout,
            name: "eta-2".to_owned(),
            about: None,
            labels: BTreeMap::from([(names::LABEL_RUN.to_owned(), run.to_owned())]),
            created: None,
        };
        for (outcome, hears) in [
            (None, true),
            (Some(RunOutcome::Cancelled), true),
            (Some(RunOutcome::Rejected), true),
            (Some(RunOutcome::Promoted), false),
            (Some(RunOutcome::RolledBack), false),
        ] {
            run.status = Some(FlywheelRunStatus {
                outcome,
                ..FlywheelRunStatus::default()
            });
            assert_eq!(Runs::concerns(&run, &of("eta-request")), hears, "{outcome:?}");
            assert!(!Runs::concerns(&run, &of("another")), "{outcome:?}");
        }
    }

    #[test]
    fn a_run_hears_of_what_its_condition_says_that_it_waits_for() {
        let spec = serde_json::from_value(json!({ "pipelineRef": { "name": "eta" } })).unwrap();
        let mut run = FlywheelRun::new("eta-1", spec);
        let unknown = (RelatedKind::DeploymentSpec, "LiveVersionUnknown");
        for (kind, reason) in [unknown, (RelatedKind::ModelVersion, "Unreadable")] {
            let change = Related {
                kind,
                name: "by-hand".to_owned(),
                about: None,
                labels: BTreeMap::new(),
                created: None,
            };
            for (given, outcome, hears) in [
                (reason, None, true),
                ("Training", None, false),
                (reason, Some(RunOutcome::Cancelled), false),
            ] {
                let ready = json!({ "type": "Ready", "status": "False", "reason": given, "message": "",
                    "lastTransitionTime": "2026-01-01T00:00:00Z" });
                run.status = Some(FlywheelRunStatus {
                    outcome,
                    conditions: vec![serde_json::from_value(ready).unwrap()],
                    ..FlywheelRunStatus::default()
                });
                let told = Runs::RELATED.contains(&kind) && Runs::concerns(&run, &change);
                assert_eq!(told, hears, "{kind:?} {given} {outcome:?}");
            }
        }
    }
}
