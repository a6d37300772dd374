//! What is known of a Rollout: its phase, both sides, the current step, weights and checks.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::flywheel_run::JobRef;
use crate::reference::{ApprovalRecord, DecisionRecord, Verdict, WaitingFor};
use crate::schema::Decimal;

/// Where a Rollout stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum RolloutPhase {
    /// Not begun: references are resolved.
    #[default]
    Pending,
    /// Another Rollout holds the target.
    Queued,
    /// The candidate is made.
    Preparing,
    /// The weight of the step is being reached.
    Progressing,
    /// The weight is reached; something is waited for.
    Holding,
    /// The target takes over the version.
    Promoting,
    /// The version serves and is watched.
    Observing,
    /// The version serves; done.
    Promoted,
    /// Traffic goes back to the baseline.
    RollingBack,
    /// The baseline serves; done.
    RolledBack,
    /// Stopped before any traffic; done.
    Aborted,
    /// A newer Rollout took the target while this one only observed; done.
    Superseded,
    /// Could not be carried out; done.
    Failed,
}

impl RolloutPhase {
    /// The name as it stands in YAML.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Queued => "Queued",
            Self::Preparing => "Preparing",
            Self::Progressing => "Progressing",
            Self::Holding => "Holding",
            Self::Promoting => "Promoting",
            Self::Observing => "Observing",
            Self::Promoted => "Promoted",
            Self::RollingBack => "RollingBack",
            Self::RolledBack => "RolledBack",
            Self::Aborted => "Aborted",
            Self::Superseded => "Superseded",
            Self::Failed => "Failed",
        }
    }

    /// Whether nothing will happen any more.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(
            self,
            Self::Promoted | Self::RolledBack | Self::Aborted | Self::Superseded | Self::Failed
        )
    }

    /// The phase as far as others look at it: `Progressing` stands for every phase from `Preparing` to `Promoting`.
    #[must_use]
    pub const fn outline(self) -> Self {
        match self {
            Self::Preparing | Self::Holding | Self::Promoting => Self::Progressing,
            other => other,
        }
    }

    /// Whether the Rollout holds its target, so that others queue.
    #[must_use]
    pub const fn holds_target(self) -> bool {
        matches!(
            self,
            Self::Preparing | Self::Progressing | Self::Holding | Self::Promoting | Self::RollingBack
        )
    }

    /// Whether the version has come to serve, and nothing has taken its place yet.
    #[must_use]
    pub const fn is_delivered(self) -> bool {
        matches!(self, Self::Observing | Self::Promoted)
    }

    /// Whether the version has come to serve, whatever has taken its place since.
    #[must_use]
    pub const fn has_delivered(self) -> bool {
        self.is_delivered() || matches!(self, Self::Superseded)
    }
}

/// Schema of an outcome: the phases that are ends.
fn ends(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": ["Promoted", "RolledBack", "Aborted", "Superseded", "Failed"] })
}

/// What is known of a Rollout.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RolloutStatus {
    /// Generation of the spec that this status is about.
    pub observed_generation: i64,
    /// Where the Rollout stands; for people.
    /// Pending: references are resolved. Queued: another Rollout holds the target. Preparing: the candidate is made.
    /// Progressing: the weight of the step is being reached. Holding: it is reached and something is waited for.
    /// Promoting: the target takes the version over. Observing: the version serves and is watched.
    /// RollingBack: traffic goes back to the baseline.
    /// The ends: Promoted, RolledBack, Aborted (before any traffic), Superseded (by a newer Rollout) and Failed.
    pub phase: RolloutPhase,
    /// UID of the target.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub target_uid: Option<String>,
    /// Version that is delivered, with its UID and the value that the binding gets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub candidate: Option<Side>,
    /// What served when the Rollout began: one write of this value goes back to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Side>,
    /// Replicas of the target when the Rollout began; restored from here where the plan shrinks the baseline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baseline_replicas: Option<i32>,
    /// Hash of the target's pod template that the candidate is a copy of.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub template_hash: Option<String>,
    /// Candidate Deployment: the name is the intent, the UID follows once it exists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub candidate_deployment: Option<JobRef>,
    /// The current step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<StepStatus>,
    /// Share of the traffic, as asked and as replicas really give it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<Weights>,
    /// What the checks said last.
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub checks: Vec<CheckStatus>,
    /// The decision that waits for a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<WaitingFor>,
    /// Approvals that were used.
    #[schemars(length(max = 32))]
    pub approvals: Vec<ApprovalRecord>,
    /// Rollout that holds the target.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253))]
    pub queued_behind: String,
    /// Since when a needed object is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing_since: Option<Time>,
    /// When the current progress (pods becoming ready) began; its deadline counts from here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress_since: Option<Time>,
    /// When the target carried the new value with all its pods ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub promoted_at: Option<Time>,
    /// How it ended: Promoted, RolledBack, Aborted, Superseded or Failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "ends")]
    pub outcome: Option<RolloutPhase>,
    /// One sentence: why it ended so, or why it goes back.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub outcome_reason: String,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// The last 50 decisions.
    #[schemars(length(max = 50))]
    pub decisions: Vec<DecisionRecord>,
    /// What is so right now.
    #[schemars(schema_with = "crate::schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// One side of a rollout.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Side {
    /// Name of the ModelVersion; absent if the value belongs to none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub version: Option<String>,
    /// Value of the binding; absent if the variable was not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub value: Option<String>,
}

/// The current step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepStatus {
    /// Number of the step, from 0; the number of steps stands for full weight.
    pub index: i32,
    /// Name of the step; `full` after the last one.
    #[schemars(length(max = 40))]
    pub name: String,
    /// When its weight was reached; absent before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entered_at: Option<Time>,
    /// What is waited for: MinDuration, AwaitingApproval, Inconclusive, CheckFailed, ManualHold, Brake, TargetPaused, Drifted.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63))]
    pub hold_reason: String,
}

/// Share of the traffic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Weights {
    /// Share that the step asks for, in percent.
    pub asked: i32,
    /// Share that the ready replicas give, in percent.
    pub actual: i32,
    /// Replicas of the candidate that are intended.
    pub candidate_replicas: i32,
    /// Replicas of the baseline that are intended.
    pub baseline_replicas: i32,
}

/// What a check said last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckStatus {
    /// Name of the check.
    #[schemars(length(max = 40))]
    pub name: String,
    /// What the check says: Pass, Inconclusive, Fail or Error; never NotApplicable.
    pub verdict: Verdict,
    /// One sentence with the numbers.
    #[schemars(length(max = 512))]
    pub message: String,
    /// Answer for the candidate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Decimal>,
    /// Answer for the baseline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Decimal>,
    /// Limit that the answer was held against.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Decimal>,
    /// Samples behind the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<i64>,
    /// Failures in a row.
    #[serde(default)]
    pub failures: i32,
    /// When it was asked last.
    pub at: Time,
}
