//! Small shared pieces of specs and statuses: references, parameters, levels, verdicts, decisions.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::{Decimal, Digest, choice, pattern};

/// Reference by name to an object of the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct NameRef {
    /// Name of the object, in the same namespace.
    #[schemars(length(min = 1, max = 253), regex(pattern = pattern::SUBDOMAIN))]
    pub name: String,
}

impl NameRef {
    /// A reference to `name`.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into() }
    }
}

/// Reference to one particular object: name and UID, so that a namesake made later is not meant.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct UidRef {
    /// Name of the object, in the same namespace.
    #[schemars(length(min = 1, max = 253), regex(pattern = pattern::SUBDOMAIN))]
    pub name: String,
    /// UID of the object.
    #[schemars(length(max = 64))]
    pub uid: String,
}

/// A named text that stages receive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Parameter {
    /// Name of the parameter, unique in its list.
    #[schemars(length(min = 1, max = 63), regex(pattern = pattern::PARAMETER))]
    pub name: String,
    /// Value of the parameter, passed on as it is.
    #[schemars(length(max = 1024))]
    pub value: String,
}

/// How much the machine may decide by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum AutomationLevel {
    /// Nothing starts without a request; every promotion waits for a person.
    #[default]
    Manual,
    /// Data and evaluation run by themselves; people decide training and deployment.
    SemiAutomated,
    /// Training and evaluation run by themselves; people decide deployment.
    HumanOversight,
    /// Everything runs by itself; people act on alerts.
    FullyAutomated,
}

impl AutomationLevel {
    /// The name as it stands in YAML.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Manual => "Manual",
            Self::SemiAutomated => "SemiAutomated",
            Self::HumanOversight => "HumanOversight",
            Self::FullyAutomated => "FullyAutomated",
        }
    }
}

/// A decision that may wait for a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ApprovalGate {
    /// The training of a run; subject: the FlywheelRun.
    Train,
    /// The delivery of a version; subject: the ModelVersion.
    Promote,
    /// The next step of a rollout; subject: the Rollout.
    RolloutStep,
}

impl ApprovalGate {
    /// The name as it stands in YAML.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Train => "Train",
            Self::Promote => "Promote",
            Self::RolloutStep => "RolloutStep",
        }
    }
}

/// What a gate, a check or a policy says. Only `Pass` lets anything go forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Verdict {
    /// The evidence shows that the demand is met.
    Pass,
    /// There is nothing to compare with yet; recorded, never a pass.
    NotApplicable,
    /// The evidence is too thin to say.
    Inconclusive,
    /// The evidence shows that the demand is not met.
    Fail,
    /// There is no usable evidence: missing, broken or foreign.
    Error,
}

impl Verdict {
    /// The name as it stands in YAML.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pass => "Pass",
            Self::NotApplicable => "NotApplicable",
            Self::Inconclusive => "Inconclusive",
            Self::Fail => "Fail",
            Self::Error => "Error",
        }
    }
}

/// Whether smaller or larger values of a metric are better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Direction {
    /// Larger is better.
    Maximize,
    /// Smaller is better.
    Minimize,
}

/// What a gate found, with the numbers that it decided on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GateVerdict {
    /// Name of the gate.
    #[schemars(length(max = 63))]
    pub gate: String,
    /// Metric that was judged.
    #[schemars(length(max = 63))]
    pub metric: String,
    /// The verdict: Pass, NotApplicable, Inconclusive, Fail or Error.
    pub verdict: Verdict,
    /// Machine-readable reason, in UpperCamelCase.
    #[schemars(length(max = 63))]
    pub reason: String,
    /// One sentence with the numbers.
    #[schemars(length(max = 512))]
    pub message: String,
    /// Value of the candidate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Decimal>,
    /// Value of the live version on the same rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Decimal>,
    /// Lower bound of the interval that was decided on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low: Option<Decimal>,
    /// Upper bound of the interval that was decided on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high: Option<Decimal>,
    /// Limit that the bound was held against.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Decimal>,
    /// Number of rows behind the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<i64>,
    /// If true, the gate only records what it would have said.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// What a bias policy found for one objective and one attribute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BiasVerdict {
    /// Name of the BiasPolicy.
    #[schemars(length(max = 253))]
    pub policy: String,
    /// UID of the BiasPolicy that was applied.
    #[schemars(length(max = 64))]
    pub policy_uid: String,
    /// Generation of the BiasPolicy that was applied.
    pub policy_generation: i64,
    /// Name of the objective, or `improvement` or `improvement-gap`.
    #[schemars(length(max = 63))]
    pub objective: String,
    /// Protected attribute.
    #[schemars(length(max = 63))]
    pub attribute: String,
    /// Group that decided; for differences and ratios the worse-off one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63))]
    pub group: String,
    /// The verdict: Pass, NotApplicable, Inconclusive, Fail or Error.
    pub verdict: Verdict,
    /// Whether a verdict other than Pass blocks the promotion (`Block`) or is only recorded (`Warn`).
    pub enforcement: Enforcement,
    /// Machine-readable reason, in UpperCamelCase.
    #[schemars(length(max = 63))]
    pub reason: String,
    /// One sentence with the numbers.
    #[schemars(length(max = 512))]
    pub message: String,
    /// Observed value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Decimal>,
    /// Confidence bound that was decided on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<Decimal>,
    /// Limit that the bound was held against.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Decimal>,
    /// Rows of the group that decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<i64>,
}

/// What happens when an objective is not met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Enforcement {
    /// The promotion is stopped.
    #[default]
    Block,
    /// The verdict is recorded and shown, nothing is stopped.
    Warn,
}

/// One decision that was taken, with its reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DecisionRecord {
    /// When it was taken.
    pub at: Time,
    /// What was decided, in UpperCamelCase, such as `StartStage`, `Reject`, `NextStep`.
    #[schemars(length(max = 63))]
    pub decision: String,
    /// Machine-readable reason.
    #[schemars(length(max = 63))]
    pub reason: String,
    /// One sentence for people.
    #[schemars(length(max = 512))]
    pub message: String,
    /// Automation level in force: Manual, SemiAutomated, HumanOversight or FullyAutomated; absent for a Rollout without pipeline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "choice::<AutomationLevel>")]
    pub level: Option<AutomationLevel>,
    /// Digest of the evidence that the decision stands on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence_digest: Option<Digest>,
}

/// A decision that waits for a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WaitingFor {
    /// The gate that waits: Train, Promote or RolloutStep.
    pub gate: ApprovalGate,
    /// The object that an Approval must name.
    pub subject: SubjectRef,
    /// Digest that an Approval must name: SHA-256 of the canonical JSON in `evidence`.
    pub evidence_digest: Digest,
    /// The evidence itself: canonical JSON (RFC 8785) without timestamps.
    #[schemars(length(max = 32768))]
    pub evidence: String,
    /// Since when it waits.
    pub since: Time,
    /// Number of Approvals, by different people, that are needed.
    pub needed: i32,
    /// Names of the Approvals that count.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), inner(length(max = 253)))]
    pub approved_by: Vec<String>,
    /// Names of Approvals of this gate that name older evidence and so do not count.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), inner(length(max = 253)))]
    pub stale: Vec<String>,
    /// Command that resolves the wait.
    #[schemars(length(max = 512))]
    pub resolve: String,
}

/// The object that an Approval decides on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct SubjectRef {
    /// Kind: FlywheelRun, ModelVersion or Rollout.
    pub kind: SubjectKind,
    /// Name of the object, in the same namespace.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// UID of the object.
    #[schemars(length(min = 1, max = 64))]
    pub uid: String,
}

/// Kinds that an Approval can decide on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum SubjectKind {
    /// A run, for the gate Train.
    FlywheelRun,
    /// A version, for the gate Promote.
    ModelVersion,
    /// A rollout, for the gate RolloutStep.
    Rollout,
}

impl SubjectKind {
    /// The name as it stands in YAML.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::FlywheelRun => "FlywheelRun",
            Self::ModelVersion => "ModelVersion",
            Self::Rollout => "Rollout",
        }
    }
}

/// A person's decision as it was used, copied from an Approval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApprovalRecord {
    /// Name of the Approval.
    #[schemars(length(max = 253))]
    pub name: String,
    /// UID of the Approval.
    #[schemars(length(max = 64))]
    pub uid: String,
    /// Gate that was decided: Train, Promote or RolloutStep.
    pub gate: ApprovalGate,
    /// User who decided.
    #[schemars(length(max = 256))]
    pub approver: String,
    /// Approve or Reject; an Approval with decision Revoke is never used itself.
    pub decision: crate::approval::ApprovalDecision,
    /// Evidence that the user had seen.
    pub evidence_digest: Digest,
    /// When the Approval was created.
    pub at: Time,
}
