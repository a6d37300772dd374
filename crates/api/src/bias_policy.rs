//! BiasPolicy: what fairness means for a model, and what happens when it is violated.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::reference::{AutomationLevel, Direction, Enforcement};
use crate::schema::{Decimal, choice, pattern};

/// What fairness means for a model, and what happens when it is violated.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "flywheel.dev",
    version = "v1alpha1",
    kind = "BiasPolicy",
    plural = "biaspolicies",
    namespaced,
    status = "BiasPolicyStatus",
    shortname = "bias",
    category = "flywheel",
    derive = "PartialEq",
    doc = "What fairness means for a model: limits on metrics of groups and on how a new version may shift between them. The verdict is taken on the confidence bound; missing or too small groups are Inconclusive, never a pass.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].status"
    ),
    printcolumn(name = "Pipelines", type_ = "integer", json_path = ".status.pipelines"),
    printcolumn(name = "Cap", type_ = "string", json_path = ".spec.maxAutomationLevel"),
    printcolumn(name = "Worst", type_ = "string", json_path = ".status.worst"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "(has(self.objectives) && size(self.objectives) > 0) || has(self.improvement)", "message": "a BiasPolicy needs objectives or improvement: add a limit" },
    { "rule": "!has(self.objectives) || self.objectives.all(o, !has(o.attribute) || self.protectedAttributes.exists(a, a.name == o.attribute))", "message": "objectives[].attribute must be the name of a protected attribute: correct it, or leave it out for all of them" },
    { "rule": "!has(self.objectives) || self.objectives.all(o, !(o.name in ['improvement', 'improvement-gap', 'policy']))", "message": "objectives[].name must not be improvement, improvement-gap or policy: verdicts of other rules are called so" },
]))]
pub struct BiasPolicySpec {
    /// Pipelines, by their labels, that the policy applies to, beside those that name it in `spec.biasPolicies`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_selector: Option<LabelSelector>,
    /// Highest automation level of these pipelines: Manual, SemiAutomated, HumanOversight or FullyAutomated; no cap if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "choice::<AutomationLevel>")]
    pub max_automation_level: Option<AutomationLevel>,
    /// Attributes whose groups must not be disadvantaged.
    #[schemars(length(min = 1, max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub protected_attributes: Vec<ProtectedAttribute>,
    /// When a group is large enough to be judged.
    #[serde(default)]
    pub groups: GroupRules,
    /// Limits on differences or ratios between the groups of the candidate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub objectives: Vec<Objective>,
    /// Limits on how the candidate may shift between groups against the live version (differential improvement).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub improvement: Option<Improvement>,
    /// How the bounds are taken.
    #[serde(default)]
    pub inference: Inference,
}

/// Labels that an object must have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LabelSelector {
    /// Labels, all of which a pipeline must have with these values.
    #[schemars(extend("maxProperties" = 8, "minProperties" = 1, "additionalProperties" = { "type": "string", "maxLength": 63, "pattern": pattern::LABEL_VALUE }))]
    pub match_labels: BTreeMap<String, String>,
}

/// An attribute whose groups must not be disadvantaged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProtectedAttribute {
    /// Name of the attribute in the stage's result.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Groups that must be reported; a missing one is Inconclusive. Without a list, those that are reported are judged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 63)), extend("x-kubernetes-list-type" = "set"))]
    pub groups: Vec<String>,
}

/// When a group is large enough to be judged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GroupRules {
    /// Smallest group that is judged.
    #[serde(default)]
    pub min_size: MinSize,
}

/// Fewest rows of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MinSize {
    /// Fewest rows of a group; one with fewer is Inconclusive, which blocks as a failure does.
    #[serde(default = "hundred")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub units: i64,
}

fn hundred() -> i64 {
    100
}

impl Default for MinSize {
    fn default() -> Self {
        Self { units: hundred() }
    }
}

/// A limit on the groups of the candidate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "self.compare != 'Difference' || (has(self.limit.max) && !has(self.limit.min))", "message": "compare: Difference needs limit.max only: the largest allowed gap between two groups" },
    { "rule": "self.compare != 'Ratio' || (has(self.limit.min) && !has(self.limit.max))", "message": "compare: Ratio needs limit.min only: the smallest allowed ratio of the smallest to the largest group, such as 0.80" },
    { "rule": "self.compare != 'Ratio' || !has(self.limit.min) || (double(self.limit.min) > 0.0 && double(self.limit.min) <= 1.0)", "message": "compare: Ratio needs limit.min above 0 and at most 1, such as 0.80" },
    { "rule": "self.compare != 'Difference' || !has(self.limit.max) || double(self.limit.max) >= 0.0", "message": "compare: Difference needs limit.max of at least 0: a gap is never negative" },
    { "rule": "self.compare != 'WorstGroup' || has(self.limit.min) != has(self.limit.max)", "message": "compare: WorstGroup needs limit.max (an error) or limit.min (a score), not both" },
]))]
pub struct Objective {
    /// Name of the objective, unique in the policy.
    #[schemars(length(min = 1, max = 40), regex(pattern = pattern::NAME))]
    pub name: String,
    /// Metric of the groups in the stage's result.
    #[schemars(length(min = 1, max = 63))]
    pub metric: String,
    /// Protected attribute whose groups are compared; all attributes, one after the other, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub attribute: Option<String>,
    /// How the groups are compared.
    /// Difference: largest minus smallest group. Ratio: smallest by largest group. WorstGroup: every group by itself.
    pub compare: Compare,
    /// The limit: max for Difference, min for Ratio, one of the two for WorstGroup.
    pub limit: Limit,
    /// Which side bears the burden of proof.
    /// Detect: fails on evidence of a breach, passes otherwise if the groups are large enough.
    /// Assure: passes only on evidence of compliance.
    #[serde(default)]
    pub mode: Mode,
    /// What a verdict other than a pass does.
    /// Block: it stops the promotion. Warn: it is only recorded.
    #[serde(default)]
    pub enforcement: Enforcement,
}

/// How groups are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Compare {
    /// Largest minus smallest group.
    Difference,
    /// Smallest by largest group.
    Ratio,
    /// Every group by itself.
    WorstGroup,
}

/// A limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Limit {
    /// Smallest allowed value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<Decimal>,
    /// Largest allowed value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<Decimal>,
}

/// Which side bears the burden of proof.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Mode {
    /// Fails on evidence of a breach.
    Detect,
    /// Passes only on evidence of compliance.
    #[default]
    Assure,
}

/// Limits on how the candidate may shift between groups against the live version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "has(self.perGroup) || has(self.gap)", "message": "improvement needs perGroup or gap (or both): add a limit" },
]))]
pub struct Improvement {
    /// Metric of the groups in the stage's result, with the live version on the same rows.
    #[schemars(length(min = 1, max = 63))]
    pub metric: String,
    /// Whether smaller (Minimize) or larger (Maximize) values are better.
    pub direction: Direction,
    /// Limit for every group by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_group: Option<PerGroup>,
    /// Limit for the distance between the groups that gain most and least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<Gap>,
    /// What a verdict other than a pass does.
    /// Block: it stops the promotion. Warn: it is only recorded.
    #[serde(default)]
    pub enforcement: Enforcement,
}

/// Limit for every group by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "double(self.maxRegression) >= 0.0", "message": "improvement.perGroup.maxRegression must not be negative: 0 demands that no group becomes worse" },
]))]
pub struct PerGroup {
    /// How much worse a group may become, in units of the metric.
    pub max_regression: Decimal,
    /// Which side bears the burden of proof.
    /// Detect: fails on evidence of a breach. Assure: passes only on evidence of compliance.
    #[serde(default)]
    pub mode: Mode,
}

/// Limit for the distance between the groups that gain most and least.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "double(self.maxWidening) >= 0.0", "message": "improvement.gap.maxWidening must not be negative: 0 demands that all groups gain alike" },
]))]
pub struct Gap {
    /// How much more one group may gain than another, in units of the metric.
    pub max_widening: Decimal,
    /// Which side bears the burden of proof.
    /// Detect: fails on evidence of a breach. Assure: passes only on evidence of compliance.
    #[serde(default)]
    pub mode: Mode,
}

/// How the bounds are taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "double(self.alpha) > 0.0 && double(self.alpha) <= 0.5", "message": "inference.alpha must be above 0 and at most 0.5, such as 0.05" },
]))]
pub struct Inference {
    /// Error probability of each interval: the stage must report intervals of at least level 1 - alpha.
    #[serde(default = "default_alpha")]
    pub alpha: Decimal,
}

fn default_alpha() -> Decimal {
    Decimal::from("0.05")
}

impl Default for Inference {
    fn default() -> Self {
        Self { alpha: default_alpha() }
    }
}

/// What is known of a policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct BiasPolicyStatus {
    /// Generation of the spec that this status is about.
    pub observed_generation: i64,
    /// Pipelines that the policy applies to.
    pub pipelines: i64,
    /// Worst verdict over the newest judged version of each of these pipelines.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128))]
    pub worst: String,
    /// What is so right now.
    #[schemars(schema_with = "crate::schema::conditions")]
    pub conditions: Vec<Condition>,
}
