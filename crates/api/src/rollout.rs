//! Rollout: the one-shot delivery of one ModelVersion to one target.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::lineage::VersionRef;
use crate::reference::{AutomationLevel, Direction, NameRef, UidRef};
pub use crate::rollout_status::{CheckStatus, RolloutPhase, RolloutStatus, Side, StepStatus, Weights};
use crate::schema::{Decimal, Duration, choice, pattern};

/// The delivery of one version to one target. Its plan never changes: a new plan is a new Rollout.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "flywheel.dev",
    version = "v1alpha1",
    kind = "Rollout",
    plural = "rollouts",
    namespaced,
    status = "RolloutStatus",
    shortname = "fwro",
    category = "flywheel",
    derive = "PartialEq",
    selectable = ".spec.plan.targetRef.name",
    selectable = ".spec.modelVersionRef.name",
    doc = "The one-shot delivery of one ModelVersion to one target, in steps. Use the full name rollouts.flywheel.dev: other groups have a kind of the same name.",
    printcolumn(name = "Version", type_ = "string", json_path = ".spec.modelVersionRef.name"),
    printcolumn(name = "Target", type_ = "string", json_path = ".spec.plan.targetRef.name"),
    printcolumn(name = "Step", type_ = "string", json_path = ".status.step.name"),
    printcolumn(name = "Weight", type_ = "integer", json_path = ".status.weights.actual"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Hold", type_ = "string", json_path = ".status.step.holdReason"),
    printcolumn(name = "Outcome", type_ = "string", json_path = ".status.outcome", priority = 1),
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
    { "rule": "self.modelVersionRef == oldSelf.modelVersionRef", "message": "modelVersionRef is immutable: create another Rollout for another version" },
    { "rule": "self.plan == oldSelf.plan", "message": "plan is immutable: create another Rollout for another plan" },
    { "rule": "has(self.runRef) == has(oldSelf.runRef) && (!has(self.runRef) || self.runRef == oldSelf.runRef)", "message": "runRef is immutable: it records who asked for the delivery; create another Rollout" },
    { "rule": "has(self.pipelineRef) == has(oldSelf.pipelineRef) && (!has(self.pipelineRef) || self.pipelineRef == oldSelf.pipelineRef)", "message": "pipelineRef is immutable: it records who asked for the delivery; create another Rollout" },
    { "rule": "has(self.maxAutomationLevel) == has(oldSelf.maxAutomationLevel) && (!has(self.maxAutomationLevel) || self.maxAutomationLevel == oldSelf.maxAutomationLevel)", "message": "maxAutomationLevel is immutable: it records the level at which the delivery was asked for; create another Rollout" },
    { "rule": "!has(self.maxAutomationLevel) || has(self.pipelineRef)", "message": "maxAutomationLevel needs pipelineRef: a Rollout without pipeline has no level; leave it out, or let steps ask for approval" },
    { "rule": "self.desiredState != 'Hold' || size(self.holdReason) > 0", "message": "desiredState Hold needs holdReason: say for whom and until when it holds" },
    { "rule": "!(oldSelf.desiredState in ['Abort', 'RollBack']) || self.desiredState == oldSelf.desiredState", "message": "a Rollout that was aborted or rolled back cannot go on: create another Rollout" },
]))]
pub struct RolloutSpec {
    /// ModelVersion to deliver. Immutable.
    pub model_version_ref: VersionRef,
    /// Target, binding, steps, checks: everything about how. Immutable.
    pub plan: RolloutPlan,
    /// Run that asked for this delivery, which the operator alone writes; leave it out of a Rollout that you ask for.
    /// Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_ref: Option<UidRef>,
    /// Pipeline that asked for this delivery: its level counts, and its deletion aborts the Rollout.
    /// Absent for a Rollout without pipeline, which has no level. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline_ref: Option<UidRef>,
    /// Highest automation level of this delivery: Manual, SemiAutomated, HumanOversight or FullyAutomated; no cap if absent.
    /// The operator writes the level at which a run asked for it: one that is raised later counts for the next run.
    /// Needs pipelineRef. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "choice::<AutomationLevel>")]
    pub max_automation_level: Option<AutomationLevel>,
    /// What you want now; it may change at any time, but Abort and RollBack are final.
    /// Progress: go through the steps.
    /// Hold: stay at the current step; holdReason says why.
    /// Promote: skip the remaining waiting times, never an approval or a failed check.
    /// Abort: back to the baseline, before promotion.
    /// RollBack: back to the baseline, also after promotion.
    #[serde(default)]
    pub desired_state: RolloutDesiredState,
    /// Why it holds, for whom and until when; required for desiredState Hold, shown in the status.
    #[serde(default)]
    #[schemars(length(max = 512))]
    pub hold_reason: String,
}

/// What the user wants of a Rollout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RolloutDesiredState {
    /// Go through the steps.
    #[default]
    Progress,
    /// Stay at the current step.
    Hold,
    /// Skip waiting times; approvals and checks still count.
    Promote,
    /// Back to the baseline, before promotion.
    Abort,
    /// Back to the baseline, at any time.
    RollBack,
}

/// How a version reaches its target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "self.capacity.baseline == 'ShrinkWithWeight' || !has(self.strategy.steps) || self.strategy.steps.all(s, s.weight <= 50)", "message": "a step with weight above 50 needs capacity.baseline: ShrinkWithWeight: with all baseline pods kept, replicas cannot give more than half of the traffic to the candidate" },
    { "rule": "!has(self.checks) || self.checks.all(c, !has(c.fromStep) || (has(self.strategy.steps) && self.strategy.steps.exists(s, s.name == c.fromStep)))", "message": "checks[].fromStep must be the name of a step: correct it, or leave it out for the first step" },
]))]
pub struct RolloutPlan {
    /// The Deployment that serves the model.
    pub target_ref: TargetRef,
    /// Which field of the target says which version serves: the only one, beside an annotation, that Flywheel sets.
    pub binding: Binding,
    /// The steps by which the candidate gets its traffic.
    #[serde(default)]
    pub strategy: Strategy,
    /// What happens to the baseline's replicas during the steps.
    #[serde(default)]
    pub capacity: Capacity,
    /// Queries that must pass while the candidate has traffic, and while the promoted version is observed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub checks: Vec<CheckSpec>,
    /// Who decides to go back when a check with onFail RollBack fails.
    #[serde(default)]
    pub rollback: RollbackPolicy,
    /// How long the promoted version is watched: a check that fails in that time rolls it back.
    #[serde(default)]
    pub observe: Observe,
    /// Longest time, in seconds, in which pods must become ready; time spent waiting does not count.
    #[serde(default = "default_deadline")]
    #[schemars(range(min = 10, max = 86_400))]
    pub progress_deadline_seconds: i64,
    /// Time between taking pods out of the Service and stopping them, in seconds.
    #[serde(default = "default_drain")]
    #[schemars(range(min = 0, max = 3600))]
    pub drain_seconds: i64,
}

fn default_deadline() -> i64 {
    600
}

fn default_drain() -> i64 {
    5
}

/// What serves the model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TargetRef {
    /// Kind of the target. Deployment: a Deployment of group apps.
    #[serde(default)]
    pub kind: TargetKind,
    /// Name of the Deployment, in the same namespace; the candidate is called `<name>-candidate`.
    #[schemars(length(min = 1, max = 50), regex(pattern = pattern::LABEL))]
    pub name: String,
}

/// Kinds that can serve a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TargetKind {
    /// An apps/v1 Deployment.
    #[default]
    Deployment,
}

/// Which field of the target says which version serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "(self.type == 'DeploymentEnv') == has(self.name)", "message": "binding.name is the environment variable: it is required for type DeploymentEnv and forbidden for DeploymentImage" },
]))]
pub struct Binding {
    /// How the target is told its version.
    /// DeploymentEnv: an environment variable carries the artifact's URI.
    /// DeploymentImage: the container's image is the artifact (an `oci://` URI without the scheme).
    #[serde(rename = "type")]
    pub type_: BindingType,
    /// Name of the container in the target's pod template.
    #[schemars(length(min = 1, max = 63), regex(pattern = pattern::LABEL))]
    pub container: String,
    /// Name of the environment variable, for DeploymentEnv. Leave it out of the manifest that you sync: Flywheel sets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = pattern::VARIABLE))]
    pub name: Option<String>,
}

/// Kinds of bindings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BindingType {
    /// An environment variable of one container.
    DeploymentEnv,
    /// The image of one container.
    DeploymentImage,
}

/// The steps of a rollout.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "!has(self.steps) || self.steps.all(a, self.steps.all(b, a.name == b.name || a.weight != b.weight))", "message": "steps must have different weights: merge the steps of equal weight" },
    { "rule": "!has(self.steps) || self.steps.map(s, s.weight).isSorted()", "message": "steps must stand by increasing weight: sort them" },
]))]
pub struct Strategy {
    /// The steps, by increasing weight; full weight follows after the last one. Without steps the version is promoted at once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub steps: Vec<Step>,
}

/// One step: a state of the traffic and what it takes to leave it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "!has(self.maxDuration) || !has(self.minDuration) || duration(self.minDuration) <= duration(self.maxDuration)", "message": "maxDuration must not be shorter than minDuration: raise maxDuration or lower minDuration" },
    { "rule": "!has(self.maxDuration) || duration(self.maxDuration) > duration('0s')", "message": "maxDuration must be longer than 0s: leave it out for no limit" },
    { "rule": "self.name != 'full'", "message": "name must not be full: the state after the last step is called so" },
]))]
pub struct Step {
    /// Name of the step, unique in the rollout.
    #[schemars(length(min = 1, max = 40), regex(pattern = pattern::NAME))]
    pub name: String,
    /// Share of the traffic that the candidate gets, in percent.
    #[schemars(range(min = 1, max = 99))]
    pub weight: i32,
    /// Shortest time at this step, such as 10m, from the moment its weight is reached; none if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2))]
    pub min_duration: Option<Duration>,
    /// Longest time at this step, such as 2h; if it cannot be left by then, the version is rolled back. No limit if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2))]
    pub max_duration: Option<Duration>,
    /// If present, leaving this step needs Approvals of gate RolloutStep, at every automation level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<StepApproval>,
}

/// How many people must approve before a step is left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepApproval {
    /// How many different people must approve.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 10))]
    pub min_approvals: i32,
}

fn one() -> i32 {
    1
}

/// What happens to the baseline's replicas during the steps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Capacity {
    /// What becomes of the baseline's replicas while the candidate grows.
    /// Keep: the baseline keeps its replicas, the candidate comes on top.
    /// ShrinkWithWeight: the baseline shrinks as the candidate grows, never below one; needed for weights above 50.
    #[serde(default)]
    pub baseline: BaselineCapacity,
}

/// What happens to the baseline's replicas during the steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BaselineCapacity {
    /// They stay.
    #[default]
    Keep,
    /// They shrink as the candidate grows.
    ShrinkWithWeight,
}

/// One query that must pass while the candidate has traffic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "has(self.baselineQuery) != (has(self.min) || has(self.max))", "message": "a check compares with constants (min, max) or with the baseline (baselineQuery): set one of the two" },
    { "rule": "!has(self.baselineQuery) || (has(self.direction) && has(self.maxRelativeChange))", "message": "a check with baselineQuery needs direction and maxRelativeChange: add both" },
    { "rule": "has(self.samplesQuery) == has(self.minSamples)", "message": "samplesQuery and minSamples belong together: set both or none" },
    { "rule": "duration(self.interval) >= duration('1s')", "message": "interval must be at least 1s" },
    { "rule": "has(self.baselineQuery) || (!has(self.direction) && !has(self.maxRelativeChange))", "message": "direction and maxRelativeChange compare with the baseline: add baselineQuery or remove them" },
    { "rule": "!has(self.min) || !has(self.max) || double(self.min) <= double(self.max)", "message": "min must not be greater than max: correct one of them" },
    { "rule": "!has(self.maxRelativeChange) || double(self.maxRelativeChange) >= 0.0", "message": "maxRelativeChange must not be negative: 0 demands that the candidate is not worse" },
]))]
pub struct CheckSpec {
    /// Name of the check, unique in the rollout.
    #[schemars(length(min = 1, max = 40), regex(pattern = pattern::NAME))]
    pub name: String,
    /// Metric provider, by the name under which the administrator declared it.
    pub provider_ref: NameRef,
    /// Query with one number as answer.
    /// `$candidate` and `$baseline` stand for the names of the two ModelVersions (`none` where a side has none),
    /// `$namespace` for the namespace, `$since` for the time since the step began, such as `90s`.
    #[schemars(length(min = 1, max = 2048))]
    pub query: String,
    /// The same query for the baseline; the two answers are compared. Takes the place of min and max.
    /// While the promoted version is watched the baseline has no traffic: with a range such as `[1h]` instead of
    /// `[$since]` its past is compared; without an answer for it the check is NotApplicable then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub baseline_query: Option<String>,
    /// Whether smaller (Minimize) or larger (Maximize) answers are better; with baselineQuery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "choice::<Direction>")]
    pub direction: Option<Direction>,
    /// Largest relative change for the worse against the baseline, such as `0.05` for five percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_relative_change: Option<Decimal>,
    /// Smallest answer that passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<Decimal>,
    /// Largest answer that passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<Decimal>,
    /// Query that counts the samples behind the answer; belongs to minSamples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub samples_query: Option<String>,
    /// Fewest samples for a verdict; with fewer it is Inconclusive, which never passes. Belongs to samplesQuery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000_000_i64))]
    pub min_samples: Option<i64>,
    /// Step from which on the check runs; the first one if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    pub from_step: Option<String>,
    /// How often it is asked, at least every second, such as 30s.
    #[serde(default = "default_interval")]
    #[schemars(length(min = 2))]
    pub interval: Duration,
    /// How many failures in a row are tolerated before onFail acts.
    #[serde(default)]
    #[schemars(range(min = 0, max = 100))]
    pub failure_limit: i32,
    /// What a failure beyond failureLimit does.
    /// RollBack: back to the baseline. Hold: stay at the step. Warn: only an event.
    #[serde(default)]
    pub on_fail: OnFail,
}

fn default_interval() -> Duration {
    Duration::from("30s")
}

/// What a failed check does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnFail {
    /// Back to the baseline.
    #[default]
    RollBack,
    /// Stay at the step.
    Hold,
    /// Only an event.
    Warn,
}

/// What happens when a check fails.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RollbackPolicy {
    /// Who decides to go back when a check with onFail RollBack fails.
    /// Auto: the operator goes back by itself.
    /// Recommend: it holds and says which command goes back.
    #[serde(default)]
    pub mode: RollbackMode,
}

/// Who decides to go back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RollbackMode {
    /// The operator.
    #[default]
    Auto,
    /// A person.
    Recommend,
}

/// How long the promoted version is watched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Observe {
    /// Time after promotion, such as 1h, in which the checks go on and a failed one rolls back; none if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2))]
    pub duration: Option<Duration>,
}
