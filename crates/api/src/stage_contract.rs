//! The stage contract: the file that a stage reads and the result that it leaves.
//!
//! Both are plain JSON, so that a stage can be written in any language. The wire types carry numbers; what is kept in
//! a status carries decimal texts, because Kubernetes APIs have no floats. The schema of the result is published as
//! `docs/reference/stage-result.schema.json`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::reference::Parameter;
use crate::schema::{Decimal, Digest, Uri, pattern};
use crate::stage::StageType;

/// `apiVersion` of the stage file and of the result.
pub const STAGE_API_VERSION: &str = "flywheel.dev/stage/v1alpha1";
/// Largest result that a container can leave in its termination message, in bytes.
pub const MAX_RESULT_BYTES: usize = 4096;

/// The file named by `FLYWHEEL_STAGE`: everything a stage needs to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StageFile {
    /// Version of this contract.
    #[schemars(extend("const" = STAGE_API_VERSION))]
    pub api_version: String,
    /// `<run uid>/<stage>/<attempt>`; the result must repeat it.
    pub id: String,
    /// Namespace of the run.
    pub namespace: String,
    /// Name of the pipeline.
    pub pipeline: String,
    /// Name of the run.
    pub run: String,
    /// UID of the run.
    pub run_uid: String,
    /// Name of the model.
    pub model: String,
    /// Name of the stage.
    pub stage: String,
    /// Type of the stage.
    #[serde(rename = "type")]
    pub type_: StageType,
    /// Number of the attempt, from 1.
    pub attempt: i32,
    /// What the stage may read.
    pub inputs: Vec<StageInput>,
    /// Where the stage writes.
    pub output: StageOutput,
    /// Parameters of the pipeline and the run.
    pub parameters: Vec<Parameter>,
    /// Seed for random numbers: the same for every attempt of this stage in this run.
    pub seed: i64,
}

/// One input of a stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StageInput {
    /// Name of the input: `<source>`, `<stage>.<artifact>` or `live.model`.
    pub name: String,
    /// Source, Artifact or LiveVersion.
    pub role: InputRole,
    /// Where it lies.
    pub uri: Uri,
    /// Digest, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// Path in the container, if the URI is a mounted claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Format of a source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// Stage that made the artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// Name of the artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<String>,
    /// Type of the artifact.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub type_: Option<ArtifactType>,
    /// Name of the live ModelVersion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// Where an input comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum InputRole {
    /// A data source of the pipeline.
    Source,
    /// An artifact of an earlier stage of the run.
    Artifact,
    /// An artifact of the live version.
    LiveVersion,
}

/// Where a stage writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StageOutput {
    /// URI of the attempt's own folder; every artifact's URI must lie below it.
    pub uri: Uri,
    /// Path in the container, if the URI is a mounted claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// The result that a stage leaves in its termination message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StageResult {
    /// Version of this contract.
    #[schemars(extend("const" = STAGE_API_VERSION))]
    pub api_version: String,
    /// The stage file's `id`.
    pub id: String,
    /// Artifacts that were written.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub artifacts: Vec<Artifact>,
    /// Metrics of the whole.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub metrics: Vec<WireMetric>,
    /// Metrics of groups.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub groups: Vec<WireGroups>,
    /// What the stage vouches for.
    #[serde(default)]
    pub attestations: Option<Attestations>,
}

/// A metric as reported.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("dependentRequired" = { "low": ["high"], "high": ["low"] }))]
pub struct WireMetric {
    /// Name of the metric.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Value of the candidate.
    pub value: f64,
    /// Rows behind the value.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub samples: Option<i64>,
    /// Lower bound of the value's interval.
    #[serde(default)]
    pub low: Option<f64>,
    /// Upper bound of the value's interval.
    #[serde(default)]
    pub high: Option<f64>,
    /// Confidence level of all intervals of this metric, such as 0.95.
    #[serde(default)]
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    pub level: Option<f64>,
    /// The live version on the same rows.
    #[serde(default)]
    pub baseline: Option<WireBaseline>,
}

/// The live version on the same rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WireBaseline {
    /// Name of the live ModelVersion.
    pub version: String,
    /// Its value.
    pub value: f64,
    /// Candidate minus baseline.
    pub difference: f64,
    /// Lower bound of the paired difference.
    pub low: f64,
    /// Upper bound of the paired difference.
    pub high: f64,
}

/// Schema of the columns: known names, once each, the required ones among them.
fn columns(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array", "uniqueItems": true,
        "items": { "enum": ["group", "value", "samples", "low", "high", "baseline", "difference", "differenceLow", "differenceHigh"] },
        "allOf": [
            { "contains": { "const": "group" } },
            { "contains": { "const": "value" } },
            { "contains": { "const": "samples" } },
        ]
    })
}

/// One metric of the groups of one attribute: columns and rows, to be short.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WireGroups {
    /// Attribute, such as `airport`.
    #[schemars(length(min = 1, max = 63))]
    pub attribute: String,
    /// Metric, such as `mae`.
    #[schemars(length(min = 1, max = 63))]
    pub metric: String,
    /// Confidence level of all intervals of this table, such as 0.95.
    #[serde(default)]
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    pub level: Option<f64>,
    /// Names of the columns: group, value, samples, low, high, baseline, difference, differenceLow, differenceHigh.
    /// The first three are required.
    #[schemars(schema_with = "columns")]
    pub columns: Vec<String>,
    /// One row per group.
    #[schemars(length(max = 32))]
    pub rows: Vec<Vec<serde_json::Value>>,
}

/// An artifact with its digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Artifact {
    /// Name of the artifact, unique in the stage.
    #[schemars(length(min = 1, max = 40), regex(pattern = pattern::LABEL))]
    pub name: String,
    /// Model, Dataset or Report.
    #[serde(rename = "type")]
    pub type_: ArtifactType,
    /// Where it lies, below the attempt's output.
    pub uri: Uri,
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// Size in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000_000_000_000_i64))]
    pub size_bytes: Option<i64>,
    /// Records of a dataset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000_000_000_i64))]
    pub records: Option<i64>,
    /// Time that a dataset covers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
}

/// What an artifact is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum ArtifactType {
    /// The model: the Train stage reports exactly one.
    Model,
    /// A dataset.
    Dataset,
    /// Anything for people to read.
    Report,
}

/// A span of time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// First moment.
    pub start: Time,
    /// First moment after it.
    pub end: Time,
}

/// What a stage vouches for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Attestations {
    /// No record can be traced to a person any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anonymized: Option<bool>,
    /// Only records with consent are left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consent_filtered: Option<bool>,
    /// Records that were dropped, by reason.
    #[schemars(length(max = 32))]
    pub dropped: Vec<Dropped>,
}

/// Records that were dropped for one reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dropped {
    /// Why.
    #[schemars(length(min = 1, max = 63))]
    pub reason: String,
    /// How many.
    #[schemars(range(min = 0, max = 1_000_000_000_000_i64))]
    pub count: i64,
}

/// A metric as it is kept: decimal texts instead of floats.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Metric {
    /// Name of the metric, or of the group in a table of groups.
    #[schemars(length(max = 63))]
    pub name: String,
    /// Value of the candidate.
    pub value: Decimal,
    /// Rows behind the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<i64>,
    /// Lower bound of the value's interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low: Option<Decimal>,
    /// Upper bound of the value's interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high: Option<Decimal>,
    /// Confidence level of the intervals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<Decimal>,
    /// The live version on the same rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<MetricBaseline>,
}

/// The live version on the same rows, as it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MetricBaseline {
    /// Name of the live ModelVersion; empty in tables of groups.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253))]
    pub version: String,
    /// Its value.
    pub value: Decimal,
    /// Candidate minus baseline.
    pub difference: Decimal,
    /// Lower bound of the paired difference.
    pub low: Decimal,
    /// Upper bound of the paired difference.
    pub high: Decimal,
}

/// One metric of the groups of one attribute, as it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GroupTable {
    /// Attribute, such as `airport`.
    #[schemars(length(max = 63))]
    pub attribute: String,
    /// Metric, such as `mae`.
    #[schemars(length(max = 63))]
    pub metric: String,
    /// One entry per group; `name` is the group.
    #[schemars(length(max = 32))]
    pub groups: Vec<Metric>,
}
