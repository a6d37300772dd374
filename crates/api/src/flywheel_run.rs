//! FlywheelRun: one turn of the loop.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::flywheel_pipeline::TriggerType;
use crate::reference::{
    ApprovalRecord, AutomationLevel, BiasVerdict, DecisionRecord, GateVerdict, NameRef, Parameter, WaitingFor,
};
use crate::schema::{Digest, choice};
use crate::stage::{FailureClass, StageType};
use crate::stage_contract::{Artifact, Attestations, GroupTable, Metric};

/// One turn of the loop.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "flywheel.dev",
    version = "v1alpha1",
    kind = "FlywheelRun",
    plural = "flywheelruns",
    namespaced,
    status = "FlywheelRunStatus",
    shortname = "fwr",
    category = "flywheel",
    derive = "PartialEq",
    selectable = ".spec.pipelineRef.name",
    doc = "One turn of a pipeline's loop: created by the operator for each trigger, or by a user who asks for a run. Everything but desiredState is immutable.",
    printcolumn(name = "Pipeline", type_ = "string", json_path = ".spec.pipelineRef.name"),
    printcolumn(name = "Trigger", type_ = "string", json_path = ".spec.trigger.name"),
    printcolumn(name = "Stage", type_ = "string", json_path = ".status.stage"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.modelVersion.name"),
    printcolumn(name = "Waits", type_ = "string", json_path = ".status.waitingFor.gate"),
    printcolumn(name = "Outcome", type_ = "string", json_path = ".status.outcome"),
    printcolumn(
        name = "Status",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].message",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "self.pipelineRef == oldSelf.pipelineRef && self.trigger == oldSelf.trigger && self.requestedBy == oldSelf.requestedBy && has(self.parameters) == has(oldSelf.parameters) && (!has(self.parameters) || self.parameters == oldSelf.parameters)", "message": "a FlywheelRun is immutable but for desiredState: create another run" },
    { "rule": "self.trigger.type != 'Request' || size(self.requestedBy) > 0", "message": "requestedBy is required for a run that a user asks for (trigger.type Request): set it to your user name, as `kubectl auth whoami` prints it" },
    { "rule": "oldSelf.desiredState != 'Cancel' || self.desiredState == 'Cancel'", "message": "a cancelled run cannot go on: create another run" },
]))]
pub struct FlywheelRunSpec {
    /// Pipeline that turns. Immutable.
    pub pipeline_ref: NameRef,
    /// What started the run; for a run that you ask for leave it out. Immutable.
    #[serde(default)]
    pub trigger: RunTrigger,
    /// User who asked for the run, as `kubectl auth whoami` prints it: whose approval does not count where four eyes
    /// are demanded. Required for type Request, empty when the operator created the run. Immutable.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub requested_by: String,
    /// Parameters of this run; they override the pipeline's of the same name. Immutable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub parameters: Vec<Parameter>,
    /// What you want now.
    /// Run: go on. Cancel: stop for good; Jobs are deleted and the Rollout is aborted.
    #[serde(default)]
    pub desired_state: RunDesiredState,
}

/// What started a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunTrigger {
    /// Name of the trigger.
    #[schemars(length(max = 63))]
    pub name: String,
    /// Type of the trigger: Schedule, Metric or Request.
    #[serde(rename = "type")]
    pub type_: TriggerType,
}

impl Default for RunTrigger {
    fn default() -> Self {
        Self {
            name: "request".to_owned(),
            type_: TriggerType::Request,
        }
    }
}

/// What the user wants of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RunDesiredState {
    /// Go on.
    #[default]
    Run,
    /// Stop.
    Cancel,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum RunOutcome {
    /// The version serves.
    Promoted,
    /// The version is registered and passed its gates; the pipeline has no rollout.
    Registered,
    /// A gate, a bias policy or a person refused the version.
    Rejected,
    /// The rollout went back to the baseline.
    RolledBack,
    /// The run did not begin: the pipeline was suspended or changed its mind.
    Skipped,
    /// A person stopped the run.
    Cancelled,
    /// A stage failed.
    Failed,
}

impl RunOutcome {
    /// The name as it stands in YAML.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Promoted => "Promoted",
            Self::Registered => "Registered",
            Self::Rejected => "Rejected",
            Self::RolledBack => "RolledBack",
            Self::Skipped => "Skipped",
            Self::Cancelled => "Cancelled",
            Self::Failed => "Failed",
        }
    }

    /// Whether the loop did what it is for.
    #[must_use]
    pub const fn is_success(self) -> bool {
        matches!(self, Self::Promoted | Self::Registered)
    }
}

/// What is known of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct FlywheelRunStatus {
    /// Generation of the spec that this status is about.
    pub observed_generation: i64,
    /// The pipeline's UID when the run began.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub pipeline_uid: Option<String>,
    /// Frozen copy of the pipeline's stages, data, gates and rollout plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Snapshot>,
    /// Automation level in force at the last decision: Manual, SemiAutomated, HumanOversight or FullyAutomated.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "choice::<AutomationLevel>")]
    pub level: Option<AutomationLevel>,
    /// Live version that this run's candidate is compared with; frozen when the run begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compared_with: Option<NameRef>,
    /// Stage that runs, or where the run stands: a stage's name, Gates, Approval, Rollout or Done.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63))]
    pub stage: String,
    /// The stages with their attempts, in order.
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub stages: Vec<StageStatus>,
    /// Version number and name that this run's model gets: the intent before the ModelVersion is created.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_version: Option<VersionIntent>,
    /// What the gates said.
    #[schemars(length(max = 32))]
    pub gates: Vec<GateVerdict>,
    /// What the bias policies said.
    #[schemars(length(max = 256))]
    pub bias: Vec<BiasVerdict>,
    /// The decision that waits for a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<WaitingFor>,
    /// Since when something that the run needs is missing or cannot be read; five minutes later it is Stalled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing_since: Option<Time>,
    /// Approvals that were used.
    #[schemars(length(max = 32))]
    pub approvals: Vec<ApprovalRecord>,
    /// Rollout that delivers the version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutIntent>,
    /// How the run ended.
    /// Promoted: the version serves. Registered: it passed its gates, and the pipeline has no rollout.
    /// Rejected: a gate, a bias policy or a person refused it. RolledBack: the rollout went back to the baseline.
    /// Skipped: the run did not begin. Cancelled: a person stopped it. Failed: a stage failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "choice::<RunOutcome>")]
    pub outcome: Option<RunOutcome>,
    /// One sentence: why it ended so.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub outcome_reason: String,
    /// When the run began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When the run ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// The last 50 decisions.
    #[schemars(length(max = 50))]
    pub decisions: Vec<DecisionRecord>,
    /// What is so right now.
    #[schemars(schema_with = "crate::schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// A frozen copy of the pipeline.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Snapshot {
    /// Name of the ControllerRevision that holds it.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Digest of its canonical JSON.
    pub digest: Digest,
}

/// The version that a run makes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VersionIntent {
    /// Name of the ModelVersion.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Number of the version.
    pub number: i64,
    /// UID of the ModelVersion, once it exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub uid: Option<String>,
}

/// The Rollout that a run starts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RolloutIntent {
    /// Name of the Rollout.
    #[schemars(length(max = 253))]
    pub name: String,
    /// UID of the Rollout, once it exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub uid: Option<String>,
}

/// State of one stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StageStatus {
    /// Name of the stage.
    #[schemars(length(max = 20))]
    pub name: String,
    /// What the stage does: Collect, Filter, Label, Train, Evaluate or Custom.
    #[serde(rename = "type")]
    pub type_: StageType,
    /// Pending, Running, Succeeded or Failed.
    pub state: StageState,
    /// Number of the current or last attempt, from 1; 0 before the first.
    #[serde(default)]
    pub attempt: i32,
    /// Job of the current or last attempt: name as intent, UID once it exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobRef>,
    /// When the current attempt was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When the stage ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// Moment before which the next attempt does not start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Time>,
    /// Digest of the image that ran, as the node reported it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub image_id: Option<String>,
    /// Why the last attempt failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<StageFailure>,
    /// What the stage reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<StageOutcome>,
}

/// State of a stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum StageState {
    /// Not started, or waiting for the next attempt.
    #[default]
    Pending,
    /// An attempt runs.
    Running,
    /// An attempt ended with a valid result.
    Succeeded,
    /// The last allowed attempt failed.
    Failed,
}

/// A Job by name and UID.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JobRef {
    /// Name of the Job.
    #[schemars(length(max = 63))]
    pub name: String,
    /// UID of the Job, once it exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub uid: Option<String>,
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StageFailure {
    /// Whose fault it is: Infrastructure or Application.
    pub class: FailureClass,
    /// Machine-readable reason, such as OOMKilled, DeadlineExceeded, ImagePullFailed, ExitCode, NoResult, BrokenResult, PodLost.
    #[schemars(length(max = 63))]
    pub reason: String,
    /// One sentence, with the exit code and the last log lines where there are some.
    #[schemars(length(max = 1024))]
    pub message: String,
}

/// What a stage reported, as it was verified.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct StageOutcome {
    /// Artifacts with their digests.
    #[schemars(length(max = 16))]
    pub artifacts: Vec<Artifact>,
    /// Metrics with samples and intervals.
    #[schemars(length(max = 64))]
    pub metrics: Vec<Metric>,
    /// Metrics of groups.
    #[schemars(length(max = 16))]
    pub groups: Vec<GroupTable>,
    /// What the stage vouches for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attestations: Option<Attestations>,
}
