//! Gates on the metrics that stages report.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::reference::Direction;
use crate::schema::{Decimal, choice, pattern};

/// One demand on a metric that a stage reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "self.compareTo != 'Constant' || has(self.min) || has(self.max)", "message": "a gate with compareTo: Constant needs min or max (or both): add the limit, or set compareTo: LiveVersion with direction" },
    { "rule": "self.compareTo != 'Constant' || (!has(self.maxRegression) && !has(self.minImprovement) && !has(self.direction))", "message": "direction, maxRegression and minImprovement compare with the live version: remove them, or set compareTo: LiveVersion" },
    { "rule": "self.compareTo != 'LiveVersion' || (!has(self.min) && !has(self.max))", "message": "min and max are constants: remove them, or set compareTo: Constant" },
    { "rule": "self.compareTo != 'LiveVersion' || has(self.direction)", "message": "a gate with compareTo: LiveVersion needs direction: Minimize or Maximize" },
    { "rule": "!has(self.maxRegression) || !has(self.minImprovement)", "message": "set maxRegression or minImprovement, not both: one allows a loss, the other demands a gain" },
    { "rule": "!has(self.min) || !has(self.max) || double(self.min) <= double(self.max)", "message": "min must not be greater than max: correct one of them" },
    { "rule": "!has(self.maxRegression) || double(self.maxRegression) >= 0.0", "message": "maxRegression must not be negative: to demand an improvement set minImprovement" },
    { "rule": "!has(self.minImprovement) || double(self.minImprovement) >= 0.0", "message": "minImprovement must not be negative: to allow a regression set maxRegression" },
]))]
pub struct GateSpec {
    /// Name of the gate, unique in the pipeline.
    #[schemars(length(min = 1, max = 40), regex(pattern = pattern::NAME))]
    pub name: String,
    /// Stage that reports the metric; the last stage of type Evaluate if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 20))]
    pub stage: Option<String>,
    /// Name of the metric in the stage's result.
    #[schemars(length(min = 1, max = 63))]
    pub metric: String,
    /// Whether smaller (Minimize) or larger (Maximize) values are better; for comparisons with the live version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "choice::<Direction>")]
    pub direction: Option<Direction>,
    /// What the metric is held against.
    /// Constant: min and max, decided on the bound of the reported interval where there is one.
    /// LiveVersion: the live version on the same rows, decided on the bound of the paired difference.
    #[serde(default)]
    pub compare_to: CompareTo,
    /// Smallest value that passes, for Constant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<Decimal>,
    /// Largest value that passes, for Constant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<Decimal>,
    /// How much worse than the live version the candidate may be, in units of the metric.
    /// Default 0: the candidate must be shown not to be worse.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_regression: Option<Decimal>,
    /// How much better than the live version the candidate must be, in units of the metric; instead of maxRegression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_improvement: Option<Decimal>,
    /// How sure the evidence must be.
    #[serde(default)]
    pub confidence: Confidence,
    /// What happens when the metric is missing, broken or too thin to say.
    /// Fail: the candidate is rejected.
    /// Hold: the run waits for a person's Approval of gate Promote, at every automation level.
    #[serde(default)]
    pub on_missing: OnMissing,
    /// If true, the gate only records what it would say and stops nothing. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// What a metric is held against.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CompareTo {
    /// The limits `min` and `max`.
    #[default]
    Constant,
    /// The live version on the same rows.
    LiveVersion,
}

/// What the evidence of a gate must have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "double(self.level) >= 0.5 && double(self.level) < 1.0", "message": "confidence.level must be at least 0.5 and below 1, such as 0.95" },
]))]
pub struct Confidence {
    /// Smallest confidence level of the reported interval, from 0.5 to below 1; a lower one is Inconclusive.
    #[serde(default = "default_level")]
    pub level: Decimal,
    /// Fewest rows behind the metric; fewer are Inconclusive.
    #[serde(default = "default_samples")]
    #[schemars(range(min = 1, max = 1_000_000_000_000_i64))]
    pub min_samples: i64,
}

fn default_level() -> Decimal {
    Decimal::from("0.95")
}

fn default_samples() -> i64 {
    100
}

impl Default for Confidence {
    fn default() -> Self {
        Self {
            level: default_level(),
            min_samples: default_samples(),
        }
    }
}

/// What happens when the evidence cannot decide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnMissing {
    /// The candidate is rejected.
    #[default]
    Fail,
    /// A person decides.
    Hold,
}
