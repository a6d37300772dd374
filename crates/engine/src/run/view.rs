//! What a run sees of the objects around it.

use flywheel_api::condition;
use flywheel_api::flywheel_run::{FlywheelRunStatus, RunOutcome, StageState, StageStatus};
use flywheel_api::lineage::VersionRef;
use flywheel_api::model_version::ModelArtifact;
use flywheel_api::names;
use flywheel_api::reference::UidRef;
use flywheel_api::rollout::{RolloutDesiredState, RolloutPhase};
use flywheel_api::{FlywheelRun, ModelVersion, Rollout};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use serde::{Deserialize, Serialize};

pub use super::pod::PodView;
use crate::view::created;

/// A Job with its pods.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct JobView {
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// Resource version.
    pub resource_version: Option<String>,
    /// UID of the run that made it, from its label.
    pub run_uid: String,
    /// It is being deleted.
    pub deleting: bool,
    /// When it was created.
    pub created: Timestamp,
    /// Where it stands.
    pub state: JobState,
    /// The stage file that its pods read.
    pub file: String,
    /// Its pods, the newest last.
    pub pods: Vec<PodView>,
}

/// Where a Job stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobState {
    /// It runs or will run.
    #[default]
    Active,
    /// Its pod exited with 0.
    Complete,
    /// It failed, with the reason of its condition.
    Failed {
        /// Reason of the condition Failed.
        reason: String,
    },
}

impl JobView {
    /// The view of a Job; `pods` are all pods of the run.
    #[must_use]
    pub fn of(job: &Job, pods: &[Pod]) -> Self {
        let uid = job.metadata.uid.clone().unwrap_or_default();
        let owned = |p: &&Pod| p.metadata.owner_references.iter().flatten().any(|r| r.uid == uid);
        let mut pods: Vec<PodView> = pods.iter().filter(owned).map(PodView::of).collect();
        pods.sort_by_key(|p| p.created);
        let conditions = job
            .status
            .as_ref()
            .and_then(|s| s.conditions.as_deref())
            .unwrap_or_default();
        let holds = |type_: &str| conditions.iter().find(|c| c.type_ == type_ && c.status == "True");
        let state = match (holds("Complete"), holds("Failed")) {
            (Some(_), _) => JobState::Complete,
            (None, Some(failed)) => JobState::Failed {
                reason: failed.reason.clone().unwrap_or_default(),
            },
            (None, None) => JobState::Active,
        };
        let label = |key: &str| {
            job.metadata
                .labels
                .as_ref()
                .and_then(|l| l.get(key))
                .cloned()
                .unwrap_or_default()
        };
        Self {
            name: job.metadata.name.clone().unwrap_or_default(),
            uid,
            resource_version: job.metadata.resource_version.clone(),
            run_uid: label(names::LABEL_RUN_UID),
            deleting: job.metadata.deletion_timestamp.is_some(),
            created: job
                .metadata
                .creation_timestamp
                .as_ref()
                .map(|t| t.0)
                .unwrap_or_default(),
            state,
            file: file(job).unwrap_or_default(),
            pods,
        }
    }
}

fn file(job: &Job) -> Option<String> {
    let template = job.spec.as_ref()?.template.metadata.as_ref()?;
    template.annotations.as_ref()?.get(names::ANNOTATION_STAGE).cloned()
}

/// Another unfinished run of the namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Name.
    pub name: String,
    /// Name of its pipeline.
    pub pipeline: String,
    /// When it was created.
    pub created: Timestamp,
    /// It has begun.
    pub begun: bool,
    /// One of its stages runs.
    pub running_stage: bool,
    /// Since when it could start its next stage, as far as it says; nothing while it has none or waits for a person.
    #[serde(default)]
    pub could_start: Option<Timestamp>,
    /// It said that it waits for room in the namespace, or for others to take it first.
    #[serde(default)]
    pub waits_for_room: bool,
}

/// So long a run that could start a stage is expected to, and so long a run that waits for room lets it go first once there
/// is some: later something must be in its way of which it says nothing.
pub const SOON: SignedDuration = SignedDuration::from_secs(60);

/// Whether the decision about a run looks at its peers: only who begins, or starts a stage, lets others go first.
#[must_use]
pub fn asks_for_peers(run: &FlywheelRun) -> bool {
    let Some(status) = &run.status else {
        return true;
    };
    let open = status.stages.iter().find(|s| s.state != StageState::Succeeded);
    let starts = open.is_some_and(|stage| stage.state == StageState::Pending);
    status.outcome.is_none() && (status.started_at.is_none() || starts)
}

/// When the run began, ended its last stage, or may try again, whichever came last.
fn could_start(status: &FlywheelRunStatus) -> Option<Timestamp> {
    let open = status.stages.iter().find(|s| s.state != StageState::Succeeded)?;
    if open.state != StageState::Pending || status.waiting_for.is_some() {
        return None;
    }
    let ended = status.stages.iter().filter_map(|s| s.finished_at.as_ref());
    let times = ended.chain(&open.retry_at).chain(&status.started_at);
    times.map(|t| t.0).max()
}

/// Whether the decision about a run looks at what serves: who begins, makes a Job, or is judged, but not who waits for a Job
/// or for a Rollout.
#[must_use]
pub fn asks_for_live(run: &FlywheelRun) -> bool {
    let Some(status) = &run.status else {
        return true;
    };
    let made = |s: &StageStatus| s.state == StageState::Running && s.job.as_ref().is_some_and(|j| j.uid.is_some());
    let delivers = status.rollout.as_ref().is_some_and(|r| r.uid.is_some());
    status.outcome.is_none() && !delivers && !status.stages.iter().any(made)
}

/// Whether a Rollout of the run goes back that appears after the run has ended.
#[must_use]
pub fn sends_back(status: &FlywheelRunStatus) -> bool {
    !matches!(
        status.outcome,
        None | Some(RunOutcome::Promoted | RunOutcome::RolledBack)
    )
}

impl Peer {
    /// What another run must know of this one; nothing if it has ended or is being deleted.
    #[must_use]
    pub fn of(run: &FlywheelRun) -> Option<Self> {
        let status = run.status.clone().unwrap_or_default();
        if status.outcome.is_some() || run.metadata.deletion_timestamp.is_some() {
            return None;
        }
        Some(Self {
            name: run.metadata.name.clone().unwrap_or_default(),
            pipeline: run.spec.pipeline_ref.name.clone(),
            created: created(&run.metadata),
            begun: status.started_at.is_some(),
            running_stage: status.stages.iter().any(|s| s.state == StageState::Running),
            could_start: could_start(&status),
            waits_for_room: [condition::WAITING_FOR_ROOM, condition::YIELDS_ROOM]
                .iter()
                .any(|type_| condition::is_true(&status.conditions, type_)),
        })
    }

    /// Until when it goes first, as a run sees it that has seen room since then; nothing if it cannot start a stage now.
    /// Until that moment the brake may have held both, or nobody may have looked. Who waits has its minute after those
    /// before it, whose minutes end at `others`: it let them go first as well.
    #[must_use]
    pub fn goes_first_until(&self, now: Timestamp, since: Timestamp, others: Timestamp) -> Option<Timestamp> {
        let due = self.could_start.filter(|at| *at <= now && !self.running_stage)?;
        let from = if self.waits_for_room { others } else { due };
        Some(from.max(since) + SOON)
    }
}

/// A snapshot as it was read back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SnapshotView {
    /// Name of the ControllerRevision.
    pub name: String,
    /// Its data.
    pub data: serde_json::Value,
}

/// A version of the model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionFact {
    /// Name.
    pub name: String,
    /// Number.
    pub number: i64,
    /// UID of the run that made it, from its provenance: labels are anybody's to set.
    pub run_uid: Option<String>,
    /// The model itself.
    #[serde(default)]
    pub artifact: ModelArtifact,
    /// Which one it is, and how far its lineage has come.
    pub reference: VersionRef,
}

impl VersionFact {
    /// What a run must know of a version.
    #[must_use]
    pub fn of(version: &ModelVersion) -> Self {
        Self {
            name: version.metadata.name.clone().unwrap_or_default(),
            number: version.spec.version,
            run_uid: version.spec.provenance.as_ref().map(|p| p.run.uid.clone()),
            artifact: version.spec.artifact.clone(),
            reference: VersionRef::of(version),
        }
    }
}

/// What a run needs to know of its Rollout.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutView {
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// Resource version.
    pub resource_version: Option<String>,
    /// UID of the run that asked for it.
    pub run_uid: Option<String>,
    /// What is wanted of it.
    pub desired: RolloutDesiredState,
    /// Where it stands.
    pub phase: RolloutPhase,
    /// Message of its condition Ready.
    pub message: String,
    /// Why it ended.
    pub outcome_reason: String,
}

impl RolloutView {
    /// The view of a Rollout.
    #[must_use]
    pub fn of(rollout: &Rollout) -> Self {
        let status = rollout.status.clone().unwrap_or_default();
        let ready = condition::find(&status.conditions, condition::READY);
        Self {
            name: rollout.metadata.name.clone().unwrap_or_default(),
            uid: rollout.metadata.uid.clone().unwrap_or_default(),
            resource_version: rollout.metadata.resource_version.clone(),
            run_uid: rollout.spec.run_ref.as_ref().map(|r: &UidRef| r.uid.clone()),
            desired: rollout.spec.desired_state,
            phase: status.phase,
            message: ready.map(|c| c.message.clone()).unwrap_or_default(),
            outcome_reason: status.outcome_reason,
        }
    }
}
