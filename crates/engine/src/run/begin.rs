//! How a run begins: its pipeline, its turn, its snapshot.

use std::collections::BTreeMap;

use flywheel_api::FlywheelPipeline;
use flywheel_api::condition;
use flywheel_api::flywheel_run::{RunOutcome, StageState, StageStatus};
use flywheel_api::names;
use flywheel_api::reference::{AutomationLevel, NameRef};
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;

use super::turn::{Next, Turn};
use super::{snapshot, view};
use crate::decision::{Action, Child, ChildKind, Effect, ObjectKey, Patch, PatchKind};
use crate::level;
use crate::standing::{Kind, Standing};

/// The mark of a run that was skipped.
const NEVER: &str = "never";

/// The decision of a run that goes on although its status was lost.
pub const REBUILD: &str = "Rebuild";

/// The pipeline must be there, and be the one that the run began with.
pub fn pipeline(turn: &mut Turn<'_>) -> Option<Next> {
    let known = turn.o.pipeline.peek().as_ref().and_then(|p| p.metadata.uid.as_ref());
    if known.is_some() && known == turn.status.pipeline_uid.as_ref() {
        return None;
    }
    let wanted = &turn.o.run.spec.pipeline_ref.name;
    let Some(pipeline) = &*turn.o.pipeline else {
        let message = format!(
            "spec.pipelineRef names FlywheelPipeline {wanted}, which does not exist: create it or delete the run."
        );
        return Some(Next::Missing("PipelineNotFound", message));
    };
    let uid = pipeline.metadata.uid.clone();
    if turn.status.pipeline_uid.is_some() && turn.status.pipeline_uid != uid {
        let message =
            format!("FlywheelPipeline {wanted} was deleted and another one of that name made: request a new run.");
        // Its owner may be gone: without the mark it would begin for the other one if its status were lost.
        let marks = mark(turn);
        return marks.or_else(|| Some(turn.finish(RunOutcome::Cancelled, "PipelineReplaced", &message)));
    }
    None
}

/// Runs belong to their pipeline, also those that a user asked for.
pub fn owner(turn: &mut Turn<'_>) -> Option<Next> {
    let owners = turn.o.run.metadata.owner_references.clone().unwrap_or_default();
    let owns = |p: &FlywheelPipeline| owners.iter().any(|o| p.metadata.uid.as_ref() == Some(&o.uid));
    if turn.o.pipeline.peek().as_ref().is_some_and(owns) {
        return None;
    }
    let pipeline = turn.o.pipeline.as_ref().filter(|p| !owns(p))?;
    let uid = pipeline.metadata.uid.as_deref()?;
    if owners.iter().any(|o| o.kind == "FlywheelPipeline") {
        let name = pipeline.metadata.name.as_deref().unwrap_or_default();
        let message =
            format!("The run belongs to an earlier FlywheelPipeline {name}, which was deleted: request a new run.");
        return Some(turn.finish(RunOutcome::Cancelled, "PipelineReplaced", &message));
    }
    let mut all: Vec<OwnerReference> = owners;
    all.push(owner_reference(
        "FlywheelPipeline",
        pipeline.metadata.name.as_deref()?,
        uid,
    ));
    let mut labels = BTreeMap::new();
    labels.insert(names::LABEL_PIPELINE, pipeline.metadata.name.clone());
    labels.insert(names::LABEL_PIPELINE_UID, Some(uid.to_owned()));
    let body = serde_json::json!({ "metadata": { "ownerReferences": all, "labels": labels } });
    Some(Next::Do(patch(turn, body, "the run belongs to its pipeline")))
}

/// An owner reference that lets the garbage collector remove what belongs to its owner.
pub fn owner_reference(kind: &str, name: &str, uid: &str) -> OwnerReference {
    OwnerReference {
        api_version: names::API_VERSION.to_owned(),
        kind: kind.to_owned(),
        name: name.to_owned(),
        uid: uid.to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// The turn of this run: not suspended, not braked, nobody before it.
pub fn start(turn: &mut Turn<'_>) -> Option<Next> {
    if turn.status.started_at.is_some() {
        return None;
    }
    let pipeline = turn.o.pipeline.as_ref()?;
    if marked(turn) == Some(NEVER) {
        let message = "The pipeline was suspended: resume it and request a new run.";
        return Some(turn.finish(RunOutcome::Skipped, "PipelineSuspended", message));
    }
    let lost = marked(turn).is_some();
    if lost && turn.o.jobs.is_empty() {
        let message = "The run had begun, but its status and its Jobs are gone: request a new run.";
        return Some(turn.finish(RunOutcome::Failed, "StatusLost", message));
    }
    if !lost && let Some(next) = not_yet(turn, pipeline) {
        return Some(next);
    }
    let data = snapshot::take(&pipeline.spec, &turn.o.settings);
    if let Some(standing) = snapshot::without_store(&pipeline.spec, &turn.o.settings) {
        return Some(Next::Rest(standing, None));
    }
    turn.status.pipeline_uid.clone_from(&pipeline.metadata.uid);
    turn.status.snapshot = snapshot::identify(pipeline.metadata.name.as_deref().unwrap_or_default(), &data);
    turn.status.compared_with = turn.o.live.as_ref().map(|l| NameRef::new(&*l.name));
    turn.status.started_at = Some(Time(turn.now()));
    turn.status.stages = data.stages.iter().map(|s| pending(&s.name, s.type_)).collect();
    turn.status.stage = data.stages.first().map(|s| s.name.clone()).unwrap_or_default();
    let message = match (&turn.status.compared_with, &*turn.o.untold) {
        (Some(live), _) => format!("The run begins; live is {}.", live.name),
        (None, None) => "The run begins; no version is live.".to_owned(),
        (None, Some(why)) => format!("The run begins; what serves cannot be told. {why}"),
    };
    let (decision, reason) = if lost {
        (REBUILD, "StatusLost")
    } else {
        ("StartRun", "Triggered")
    };
    turn.decided(decision, reason, &message, None, lost);
    Some(Next::Rest(Standing::new(Kind::Working, "Starting", message), None))
}

/// When the run began, or that it never does, whatever its status says.
fn marked<'a>(turn: &Turn<'a>) -> Option<&'a str> {
    let annotations = turn.o.run.metadata.annotations.as_ref()?;
    annotations.get(names::ANNOTATION_BEGUN).map(String::as_str)
}

/// What keeps the run from beginning.
fn not_yet(turn: &Turn<'_>, pipeline: &FlywheelPipeline) -> Option<Next> {
    let name = pipeline.metadata.name.as_deref().unwrap_or_default();
    if pipeline.spec.suspend {
        // Before its outcome, which may be lost: then the run must not begin in a pipeline that was resumed.
        let never = serde_json::json!({ names::ANNOTATION_BEGUN: NEVER });
        return Some(Next::Do(annotate(turn, &never, "the run never begins")));
    }
    let conditions = pipeline
        .status
        .as_ref()
        .map(|s| s.conditions.as_slice())
        .unwrap_or_default();
    if let Some(refused) = condition::find(conditions, condition::ACCEPTED).filter(|c| c.status == "False") {
        let message = format!("FlywheelPipeline {name} is not accepted: {}", refused.message);
        return Some(Next::Rest(
            Standing::new(Kind::Stalled, "PipelineNotAccepted", message),
            None,
        ));
    }
    turn.braked().or_else(|| unheard(turn)).or_else(|| queue(turn, name))
}

/// A policy that is missing or cannot be read may forbid what the run is for: it would train for nothing.
fn unheard(turn: &Turn<'_>) -> Option<Next> {
    let absent = turn.o.policies.absent().next()?;
    let message = format!("{} No run starts without it.", absent.message);
    Some(Next::Missing(absent.reason, message))
}

/// A mark that outlives the status: a run that began once never begins again, nor at a higher level.
pub fn mark(turn: &mut Turn<'_>) -> Option<Next> {
    if marked(turn).is_some() {
        return None;
    }
    let since = turn.status.started_at.as_ref()?.0.to_string();
    let begun = serde_json::json!({ names::ANNOTATION_BEGUN: since, names::ANNOTATION_LEVEL: turn.status.level });
    Some(Next::Do(annotate(turn, &begun, "the run has begun")))
}

/// Notes that the level of a run sank, when nothing else is to be done: its status may be lost, and the level be raised by
/// then.
pub fn note_level(turn: &Turn<'_>) -> Option<Effect> {
    let metadata = &turn.o.run.metadata;
    let goes_on = turn.status.outcome.is_none() && metadata.deletion_timestamp.is_none();
    let begun = marked(turn).is_some_and(|mark| mark != NEVER);
    let sank = |level: &AutomationLevel| level::noted(metadata).is_none_or(|noted| *level < noted);
    let level = turn.status.level.filter(|_| goes_on && begun).filter(sank)?;
    let sunk = serde_json::json!({ names::ANNOTATION_LEVEL: level });
    Some(annotate(turn, &sunk, "the level of the run sank"))
}

fn annotate(turn: &Turn<'_>, annotations: &serde_json::Value, why: &str) -> Effect {
    let body = serde_json::json!({ "metadata": { "annotations": annotations } });
    patch(turn, body, why)
}

fn patch(turn: &Turn<'_>, body: serde_json::Value, why: &str) -> Effect {
    let object = ObjectKey {
        kind: ChildKind::FlywheelRun,
        name: turn.name().to_owned(),
        uid: turn.uid().to_owned(),
        resource_version: turn.o.run.metadata.resource_version.clone(),
    };
    let patch = Patch {
        object,
        body,
        kind: PatchKind::Merge,
    };
    Effect {
        action: Action::Patch(Box::new(patch)),
        why: why.to_owned(),
    }
}

/// A stage that has not begun.
fn pending(name: &str, type_: flywheel_api::stage::StageType) -> StageStatus {
    StageStatus {
        name: name.to_owned(),
        type_,
        state: StageState::Pending,
        attempt: 0,
        job: None,
        started_at: None,
        finished_at: None,
        retry_at: None,
        image_id: None,
        failure: None,
        result: None,
    }
}

/// One run of a pipeline at a time, in the order of their creation.
fn queue(turn: &Turn<'_>, pipeline: &str) -> Option<Next> {
    let created = turn
        .o
        .run
        .metadata
        .creation_timestamp
        .as_ref()
        .map(|t| t.0)
        .unwrap_or_default();
    let before =
        |p: &&view::Peer| p.pipeline == pipeline && (p.begun || (p.created, &*p.name) < (created, turn.name()));
    let first = turn
        .o
        .peers
        .iter()
        .filter(before)
        .min_by_key(|p| (!p.begun, p.created, p.name.clone()))?;
    let message = format!("Waits for run {} of the same pipeline to end.", first.name);
    Some(Next::Rest(Standing::new(Kind::Waiting, "Queued", message), None))
}

/// The snapshot must be stored before anything is built on it.
pub fn snapshot(turn: &mut Turn<'_>) -> Option<Next> {
    let wanted = turn.status.snapshot.clone()?;
    if turn.o.snapshot.is_some() {
        if turn.plan.is_some() {
            return None;
        }
        let message = format!(
            "ControllerRevision {} is no snapshot that this operator can read: request a new run.",
            wanted.name
        );
        return Some(turn.finish(RunOutcome::Failed, "BrokenSnapshot", &message));
    }
    let pipeline = turn.o.pipeline.as_ref()?;
    let name = pipeline.metadata.name.as_deref().unwrap_or_default();
    let data = snapshot::take(&pipeline.spec, &turn.o.settings);
    let current = snapshot::identify(name, &data)?;
    if current != wanted {
        return Some(changed(turn, current, &data));
    }
    let revision = ControllerRevision {
        metadata: ObjectMeta {
            name: Some(wanted.name),
            owner_references: Some(vec![owner_reference(
                "FlywheelPipeline",
                name,
                pipeline.metadata.uid.as_deref()?,
            )]),
            labels: Some(
                turn.labels()
                    .into_iter()
                    .filter(|(k, _)| !k.starts_with(names::LABEL_RUN))
                    .collect(),
            ),
            ..ObjectMeta::default()
        },
        data: Some(RawExtension(snapshot::revision_data(&data))),
        revision: pipeline.metadata.generation.unwrap_or(1).max(1),
    };
    let action = Action::Create(Box::new(Child::ControllerRevision(revision)));
    Some(Next::Do(Effect {
        action,
        why: "store the run's snapshot of its pipeline".to_owned(),
    }))
}

/// The pipeline changed between the intent and its effect. Before the first stage the run takes the new one; later
/// a lost snapshot cannot be made up for.
fn changed(turn: &mut Turn<'_>, current: flywheel_api::flywheel_run::Snapshot, data: &super::SnapshotData) -> Next {
    if turn.status.stages.iter().any(|s| s.attempt > 0) {
        let message = "The run's snapshot was deleted and the pipeline has changed since: request a new run.";
        return turn.finish(RunOutcome::Failed, "SnapshotLost", message);
    }
    turn.status.snapshot = Some(current);
    turn.status.stages = data.stages.iter().map(|s| pending(&s.name, s.type_)).collect();
    Next::Rest(
        Standing::new(
            Kind::Working,
            "Starting",
            "The pipeline changed before the first stage.",
        ),
        None,
    )
}
