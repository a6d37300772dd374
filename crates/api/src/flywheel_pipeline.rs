//! FlywheelPipeline: the loop as its owner declares it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::gate::GateSpec;
use crate::reference::{ApprovalGate, AutomationLevel, NameRef, Parameter};
use crate::rollout::RolloutPlan;
use crate::schema::{Decimal, Duration, Uri, choice, pattern};
use crate::stage::StageSpec;

/// The loop of one model: data, cadence, stages, gates, automation level and rollout plan.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "flywheel.dev",
    version = "v1alpha1",
    kind = "FlywheelPipeline",
    plural = "flywheelpipelines",
    namespaced,
    status = "FlywheelPipelineStatus",
    shortname = "fwp",
    category = "flywheel",
    derive = "PartialEq",
    selectable = ".spec.model.name",
    doc = "The closed loop of one model: its data, when it turns, the stages that train and evaluate, the gates, how much the machine may decide by itself, and how a version is rolled out.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].status"
    ),
    printcolumn(name = "Level", type_ = "string", json_path = ".status.effectiveLevel.level"),
    printcolumn(name = "Live", type_ = "string", json_path = ".status.liveVersion.name"),
    printcolumn(name = "Run", type_ = "string", json_path = ".status.activeRun.name"),
    printcolumn(name = "Last", type_ = "string", json_path = ".status.lastRun.outcome"),
    printcolumn(
        name = "Next",
        type_ = "string",
        json_path = ".status.nextScheduleTime",
        priority = 1
    ),
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
    { "rule": "self.stages.exists(s, s.type == 'Train')", "message": "stages needs one stage of type Train: add the stage that makes the model" },
    { "rule": "self.stages.filter(s, s.type == 'Train').size() <= 1", "message": "stages may have only one stage of type Train: make the others Custom" },
    { "rule": "self.stages.exists(s, s.type == 'Evaluate')", "message": "stages needs a stage of type Evaluate after Train: add the stage that judges the model" },
    { "rule": "!self.stages.exists(s, s.type == 'Train') || !self.stages.exists(s, s.type == 'Evaluate') || self.stages.map(s, s.type == 'Train' ? 1 : 0).indexOf(1) < self.stages.map(s, s.type == 'Evaluate' ? 1 : 0).lastIndexOf(1)", "message": "stages run in their order: move the stage of type Evaluate behind the one of type Train" },
    { "rule": "!has(self.rollout) || self.rollout.binding.type != 'DeploymentImage' || !has(self.artifacts) || self.artifacts.uri.startsWith('oci://')", "message": "rollout.binding.type DeploymentImage delivers images: artifacts.uri must begin with oci://, or take binding.type DeploymentEnv" },
    { "rule": "has(self.rollout) || !has(self.cadence) || !has(self.cadence.maxInterval)", "message": "cadence.maxInterval is the age of the live version: add rollout, or leave maxInterval out" },
    { "rule": "!has(self.gates) || self.gates.all(g, !has(g.stage) || self.stages.exists(s, s.name == g.stage))", "message": "gates[].stage must be the name of a stage: correct it, or leave it out for the last Evaluate stage" },
    { "rule": "!has(self.cadence) || !has(self.cadence.minInterval) || !has(self.cadence.maxInterval) || duration(self.cadence.minInterval) < duration(self.cadence.maxInterval)", "message": "cadence.minInterval must be shorter than cadence.maxInterval: otherwise no run could keep the version fresh" },
    { "rule": "self.automationLevel != 'FullyAutomated' || (has(self.gates) && self.gates.exists(g, !has(g.dryRun) || !g.dryRun))", "message": "automationLevel FullyAutomated needs at least one gate that is not a dry run: nothing else stops a bad version" },
]))]
pub struct FlywheelPipelineSpec {
    /// If true, no run starts, also none that a user asks for; running ones finish. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
    /// How much the machine may decide by itself.
    /// Manual: everything on request.
    /// SemiAutomated: people decide training and deployment.
    /// HumanOversight: people decide deployment.
    /// FullyAutomated: people act on alerts; needs at least one gate.
    /// The administrator's ceiling and bias policies may lower it; a change counts from the next decision on.
    #[serde(default)]
    pub automation_level: AutomationLevel,
    /// The model that this pipeline makes.
    pub model: ModelSpec,
    /// Where stages leave their artifacts; without it the store of the operator's configuration is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifacts: Option<ArtifactStore>,
    /// What starts a run: any of these does. Without triggers only a user's FlywheelRun does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub triggers: Vec<Trigger>,
    /// How often runs may and should start, and what happens when one is already running.
    #[serde(default)]
    pub cadence: Cadence,
    /// The data that the stages read.
    #[serde(default)]
    pub data: DataSpec,
    /// Named texts that every stage receives; a FlywheelRun may override them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub parameters: Vec<Parameter>,
    /// The stages, in the order in which they run: exactly one of type Train and one of type Evaluate behind it.
    /// A run keeps the stages that it began with.
    #[schemars(length(min = 1, max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub stages: Vec<StageSpec>,
    /// Demands on the metrics that stages report. All must pass before a version is promoted, at every automation level.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub gates: Vec<GateSpec>,
    /// Bias policies that must pass, beside those that select the model by label.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub bias_policies: Vec<NameRef>,
    /// How many people must approve where the automation level asks for an approval. Without an entry one is enough.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["gate"]))]
    pub approvals: Vec<ApprovalRule>,
    /// How a version reaches its target. Without it a run ends when the version is registered and approved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutPlan>,
    /// How many finished runs and retired versions are kept.
    #[serde(default)]
    pub history: History,
}

/// The model that a pipeline makes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ModelSpec {
    /// Name of the model; versions are called `<name>-<n>`. Immutable; one pipeline per model and namespace.
    #[schemars(length(min = 1, max = 40), regex(pattern = pattern::NAME))]
    #[schemars(extend("x-kubernetes-validations" = [
        { "rule": "self == oldSelf", "message": "model.name is immutable: create another pipeline for another model" },
    ]))]
    pub name: String,
}

/// Where stages leave their artifacts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactStore {
    /// Root below which every attempt gets a folder of its own.
    /// `pvc://claim/path` is mounted; `s3://`, `gs://`, `az://`, `https://` and `oci://` are passed on to the stages.
    pub uri: Uri,
    /// Secret of the same namespace with credentials for the store; its keys become environment variables of every stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_ref: Option<NameRef>,
}

/// What starts a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "(self.type == 'Schedule') == has(self.schedule)", "message": "schedule is required for type Schedule and forbidden otherwise: add it, or correct type" },
    { "rule": "(self.type == 'Metric') == has(self.metric)", "message": "metric is required for type Metric and forbidden otherwise: add it, or correct type" },
]))]
pub struct Trigger {
    /// Name of the trigger, unique in the pipeline.
    #[schemars(length(min = 1, max = 40), regex(pattern = pattern::NAME))]
    pub name: String,
    /// What fires.
    /// Schedule: a cron expression. Metric: a query of a metric provider. Request: a user's FlywheelRun that names this trigger.
    #[serde(rename = "type")]
    pub type_: TriggerType,
    /// For type Schedule: when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<ScheduleTrigger>,
    /// For type Metric: which query and which value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<MetricTrigger>,
}

/// Kinds of triggers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TriggerType {
    /// A cron expression.
    Schedule,
    /// A metric that crosses a value.
    Metric,
    /// A user's FlywheelRun.
    Request,
}

/// A cron expression with its time zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleTrigger {
    /// Five fields: minute, hour, day of month, month, day of week; `0 3 * * 1` is every Monday at three.
    #[schemars(length(min = 9, max = 128), regex(pattern = pattern::CRON))]
    pub cron: String,
    /// IANA time zone, such as Europe/Zurich.
    #[serde(default = "utc")]
    #[schemars(length(min = 1, max = 64), regex(pattern = pattern::TIME_ZONE))]
    pub time_zone: String,
    /// How late a missed run may still start, in seconds; of several missed ones only the last starts.
    #[serde(default = "default_starting_deadline")]
    #[schemars(range(min = 10, max = 604_800))]
    pub starting_deadline_seconds: i64,
}

fn utc() -> String {
    "UTC".to_owned()
}

fn default_starting_deadline() -> i64 {
    3600
}

/// A metric that starts a run when it crosses a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "duration(self.interval) >= duration('1s')", "message": "metric.interval must be at least 1s" },
]))]
pub struct MetricTrigger {
    /// Metric provider, by the name under which the administrator declared it.
    pub provider_ref: NameRef,
    /// Query with one number as answer. `$sinceLastRun` stands for the time since the last run's start, such as `3600s`.
    #[schemars(length(min = 1, max = 2048))]
    pub query: String,
    /// When the trigger fires.
    /// GreaterThan: the answer is above value. LessThan: it is below.
    pub operator: Comparison,
    /// Value that the answer is compared with.
    pub value: Decimal,
    /// How often the query is asked, at least every second, such as 5m.
    #[serde(default = "one_minute")]
    #[schemars(length(min = 2))]
    pub interval: Duration,
}

fn one_minute() -> Duration {
    Duration::from("1m")
}

/// How a metric is compared with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Comparison {
    /// True above the value.
    GreaterThan,
    /// True below the value.
    LessThan,
}

/// How often runs may and should start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cadence {
    /// Shortest time between the starts of two triggered runs, such as 6h; a user's request does not wait for it. None if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2))]
    pub min_interval: Option<Duration>,
    /// Age of the live version, such as 168h, beyond which the condition Fresh is False. No limit if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2))]
    pub max_interval: Option<Duration>,
    /// What happens when a trigger fires during a run.
    /// Forbid: nothing; the trigger is dropped, with an event.
    /// Queue: one more run starts afterwards.
    #[serde(default)]
    pub concurrency_policy: ConcurrencyPolicy,
}

/// What happens when a trigger fires during a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConcurrencyPolicy {
    /// Nothing: the trigger is dropped.
    #[default]
    Forbid,
    /// One more run starts after the running one.
    Queue,
}

/// The data that the first stages read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DataSpec {
    /// Named places; every stage gets all of them as inputs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub sources: Vec<DataSource>,
}

/// One place with data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DataSource {
    /// Name of the source, unique in the pipeline.
    #[schemars(length(min = 1, max = 40), regex(pattern = pattern::NAME))]
    pub name: String,
    /// Where the data lies; a `pvc://` URI is mounted read-only.
    pub uri: Uri,
    /// Format of the data, told to the stages.
    /// Parquet: Apache Parquet. JSONLines: one JSON object per line. CSV: comma-separated values with a header. Other: anything else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "choice::<DataFormat>")]
    pub format: Option<DataFormat>,
}

/// Formats of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DataFormat {
    /// Apache Parquet.
    Parquet,
    /// One JSON object per line.
    #[serde(rename = "JSONLines")]
    JsonLines,
    /// Comma-separated values with a header.
    #[serde(rename = "CSV")]
    Csv,
    /// Anything else.
    Other,
}

impl DataFormat {
    /// The name as it stands in YAML.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Parquet => "Parquet",
            Self::JsonLines => "JSONLines",
            Self::Csv => "CSV",
            Self::Other => "Other",
        }
    }
}

/// How many people must approve at a gate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "self.gate != 'RolloutStep'", "message": "approvals[].gate must be Train or Promote: for RolloutStep set rollout.strategy.steps[].approval" },
]))]
pub struct ApprovalRule {
    /// The gate.
    /// Train: the training of a run. Promote: the delivery of a version. RolloutStep is set in the steps themselves.
    pub gate: ApprovalGate,
    /// How many different people must approve.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 10))]
    pub min_approvals: i32,
    /// If true, the approval of the user who requested the run does not count (four eyes). Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub separation_of_duties: bool,
}

fn one() -> i32 {
    1
}

/// How many finished objects are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct History {
    /// How many runs that ended well are kept.
    #[serde(default = "ten")]
    #[schemars(range(min = 1, max = 100))]
    pub successful_runs: i32,
    /// How many runs that failed, were rejected, cancelled or rolled back are kept.
    #[serde(default = "ten")]
    #[schemars(range(min = 1, max = 100))]
    pub failed_runs: i32,
    /// How many versions that runs made are kept. Beyond that stay live versions, their parents, rollback targets, and
    /// what people imported or rolled out.
    #[serde(default = "twenty")]
    #[schemars(range(min = 2, max = 1000))]
    pub model_versions: i32,
}

fn ten() -> i32 {
    10
}

fn twenty() -> i32 {
    20
}

impl Default for History {
    fn default() -> Self {
        Self {
            successful_runs: ten(),
            failed_runs: ten(),
            model_versions: twenty(),
        }
    }
}

/// What is known of the loop.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct FlywheelPipelineStatus {
    /// Generation of the spec that this status is about.
    pub observed_generation: i64,
    /// Automation level in force, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effective_level: Option<EffectiveLevel>,
    /// Version that serves on the target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live_version: Option<VersionSince>,
    /// Run in progress.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_run: Option<NameRef>,
    /// Run that ended last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_run: Option<LastRun>,
    /// When a run last ended well: its version was promoted, or registered where there is no rollout.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_success_time: Option<Time>,
    /// Highest run number given so far.
    pub last_run_number: i64,
    /// Highest version number seen so far.
    pub last_version_number: i64,
    /// Number and trigger of the run that is about to be created: the intent before the effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending_run: Option<PendingRun>,
    /// Trigger that waits for the end of the active run (concurrencyPolicy Queue).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub queued_trigger: Option<String>,
    /// When the last triggered run started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_run_start_time: Option<Time>,
    /// When the last run that a user asked for began; metric triggers count from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_request_start_time: Option<Time>,
    /// Scheduled moment that was handled last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_schedule_time: Option<Time>,
    /// Next scheduled moment; absent while nothing would start by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_schedule_time: Option<Time>,
    /// Since when something that a run needs is missing or cannot be read; five minutes later the pipeline is Stalled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing_since: Option<Time>,
    /// What is so right now.
    #[schemars(schema_with = "crate::schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// The automation level in force, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EffectiveLevel {
    /// The level: Manual, SemiAutomated, HumanOversight or FullyAutomated.
    pub level: AutomationLevel,
    /// What decided it: Spec, AdministratorCeiling or BiasPolicyCap.
    #[schemars(length(max = 63))]
    pub reason: String,
}

/// A version and since when it is so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VersionSince {
    /// Name of the ModelVersion.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Since when.
    pub since: Time,
}

/// The run that ended last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastRun {
    /// Name of the FlywheelRun.
    #[schemars(length(max = 253))]
    pub name: String,
    /// How it ended.
    #[schemars(length(max = 63))]
    pub outcome: String,
    /// When it ended.
    pub finished_at: Time,
}

/// The run that is about to be created.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PendingRun {
    /// Number of the run.
    pub number: i64,
    /// Name of the trigger that fired.
    #[schemars(length(max = 63))]
    pub trigger: String,
    /// Type of the trigger that fired: Schedule, Metric or Request.
    pub trigger_type: TriggerType,
}
