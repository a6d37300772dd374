//! ModelVersion: an immutable model with its lineage.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::lineage::{Lineage, VersionRef};
use crate::reference::{ApprovalRecord, AutomationLevel, BiasVerdict, GateVerdict, Parameter, UidRef};
use crate::schema::{Digest, Uri, pattern};
use crate::stage::StageType;
use crate::stage_contract::{Attestations, Window};

/// An immutable model with its lineage.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "flywheel.dev",
    version = "v1alpha1",
    kind = "ModelVersion",
    plural = "modelversions",
    namespaced,
    status = "ModelVersionStatus",
    shortname = "mv",
    category = "flywheel",
    derive = "PartialEq",
    selectable = ".spec.modelName",
    doc = "An immutable model: its artifact, where it comes from, what was found when it was evaluated, who approved it and where it serves.",
    printcolumn(name = "Model", type_ = "string", json_path = ".spec.modelName"),
    printcolumn(name = "Version", type_ = "integer", json_path = ".spec.version"),
    printcolumn(name = "State", type_ = "string", json_path = ".status.state"),
    printcolumn(name = "Run", type_ = "string", json_path = ".spec.provenance.run.name"),
    printcolumn(name = "Parent", type_ = "string", json_path = ".spec.parent.name", priority = 1),
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
    { "rule": "self == oldSelf", "message": "a ModelVersion is immutable: register another version" },
]))]
pub struct ModelVersionSpec {
    /// Name of the model.
    #[schemars(length(min = 1, max = 40), regex(pattern = pattern::NAME))]
    pub model_name: String,
    /// Number of the version, unique per model.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub version: i64,
    /// The model itself: where it lies and its digest.
    pub artifact: ModelArtifact,
    /// Version that was live when this one was made, and that it was compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<VersionRef>,
    /// Where the version comes from; absent for an imported one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provenance: Option<Provenance>,
    /// Datasets that it was made and judged with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub datasets: Vec<Dataset>,
    /// Parameters that the stages received.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub parameters: Vec<Parameter>,
}

/// The model itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelArtifact {
    /// Where it lies; this is the value that a binding of type DeploymentEnv sets.
    pub uri: Uri,
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// Size in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000_000_000_000_i64))]
    pub size_bytes: Option<i64>,
}

/// Where a version comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Provenance {
    /// The pipeline.
    pub pipeline: UidRef,
    /// The run.
    pub run: UidRef,
    /// Digest of the pipeline's snapshot that ran.
    pub snapshot_digest: Digest,
    /// What really ran.
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub stages: Vec<StageProvenance>,
    /// Seed of the Train stage.
    pub seed: i64,
    /// Automation level when the version was registered: Manual, SemiAutomated, HumanOversight or FullyAutomated.
    pub level: AutomationLevel,
    /// User who asked for the run; empty when a trigger did.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 256))]
    pub requested_by: String,
}

/// One stage as it really ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StageProvenance {
    /// Name of the stage.
    #[schemars(length(max = 20))]
    pub name: String,
    /// What the stage does: Collect, Filter, Label, Train, Evaluate or Custom.
    #[serde(rename = "type")]
    pub type_: StageType,
    /// Job that ran.
    pub job: UidRef,
    /// Number of the attempt that succeeded.
    pub attempt: i32,
    /// Image as the pipeline named it.
    #[schemars(length(max = 512))]
    pub image: String,
    /// Digest of the image that ran, as the node reported it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub image_id: Option<String>,
    /// When it started.
    pub started_at: Time,
    /// When it ended.
    pub finished_at: Time,
    /// What the stage vouched for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attestations: Option<Attestations>,
}

/// A dataset with its digest and window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Dataset {
    /// `<stage>.<artifact>`.
    #[schemars(length(max = 63))]
    pub name: String,
    /// Where it lies.
    pub uri: Uri,
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// Number of records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000_000_000_i64))]
    pub records: Option<i64>,
    /// Time that it covers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
}

/// Where a version stands in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum VersionState {
    /// Registered; gates or approvals are open.
    #[default]
    Candidate,
    /// Refused by a gate, a bias policy or a person.
    Rejected,
    /// Approved by all that had to.
    Approved,
    /// A Rollout delivers it.
    RollingOut,
    /// It serves.
    Live,
    /// Another version serves instead.
    Superseded,
    /// A Rollout brought it and took it back.
    RolledBack,
}

/// What is known of a version.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "!has(oldSelf.lineage) || has(self.lineage) || self.observedGeneration < 1", "message": "lineage cannot be removed from a status: keep it, or let the whole status be made anew" },
]))]
pub struct ModelVersionStatus {
    /// Generation of the spec that this status is about.
    pub observed_generation: i64,
    /// Where the version stands; for people.
    /// Candidate: gates or approvals are open. Rejected: refused. Approved: by all that had to.
    /// RollingOut: a Rollout delivers it. Live: it serves. Superseded: another one serves. RolledBack: it was taken back.
    pub state: VersionState,
    /// Digest of the evidence that approvals of gate Promote name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence_digest: Option<Digest>,
    /// What the gates said.
    #[schemars(length(max = 32))]
    pub evaluations: Vec<GateVerdict>,
    /// What the bias policies said.
    #[schemars(length(max = 256))]
    pub bias: Vec<BiasVerdict>,
    /// Approvals that were used.
    #[schemars(length(max = 32))]
    pub approvals: Vec<ApprovalRecord>,
    /// Where it serves or served: the last 32.
    #[schemars(length(max = 32))]
    pub deployments: Vec<DeploymentRecord>,
    /// Deployments that carry it, or that its Rollouts deliver to or would bring back to it: the first 64 by name. A
    /// change of one of them is looked at at once.
    #[schemars(length(max = 64), inner(length(max = 253)))]
    pub targets: Vec<String>,
    /// Versions that name this one as parent: the last 32.
    #[schemars(length(max = 32), inner(length(max = 253)))]
    pub children: Vec<String>,
    /// What happened to the version, as a chain that only grows; `kubectl flywheel lineage verify` checks it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lineage: Option<Lineage>,
    /// What is so right now.
    #[schemars(schema_with = "crate::schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// Where a version serves or served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeploymentRecord {
    /// `Deployment/<name>`.
    #[schemars(length(max = 280))]
    pub target: String,
    /// Rollout that brought it.
    pub rollout: UidRef,
    /// Phase of the Rollout, where `Progressing` stands for every phase from `Preparing` to `Promoting`: which step it
    /// is at, and with which weight, says the Rollout itself.
    #[schemars(length(max = 32))]
    pub phase: String,
    /// When the Rollout was created.
    pub since: Time,
}
