//! The frozen copy of the pipeline that a run works from: an apps/v1 ControllerRevision named by its content.

use flywheel_api::FlywheelPipelineSpec;
use flywheel_api::flywheel_pipeline::{ArtifactStore, DataSpec, ModelSpec};
use flywheel_api::flywheel_run::Snapshot;
use flywheel_api::gate::GateSpec;
use flywheel_api::reference::Parameter;
use flywheel_api::rollout::RolloutPlan;
use flywheel_api::stage::StageSpec;
use serde::{Deserialize, Serialize};

use crate::evidence::freeze;
use crate::settings::Settings;
use crate::standing::{Kind, Standing};

/// What a run takes from its pipeline at its beginning. Level, suspension, quorum and policies stay live.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotData {
    /// Model.
    pub model: ModelSpec,
    /// Artifact store in force: the pipeline's, or the operator's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifacts: Option<ArtifactStore>,
    /// Data.
    pub data: DataSpec,
    /// Parameters of the pipeline.
    pub parameters: Vec<Parameter>,
    /// Stages.
    pub stages: Vec<StageSpec>,
    /// Gates.
    pub gates: Vec<GateSpec>,
    /// Rollout plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutPlan>,
}

/// The snapshot of a pipeline as it is now.
pub fn take(spec: &FlywheelPipelineSpec, settings: &Settings) -> SnapshotData {
    SnapshotData {
        model: spec.model.clone(),
        artifacts: spec.artifacts.clone().or_else(|| settings.artifacts.clone()),
        data: spec.data.clone(),
        parameters: spec.parameters.clone(),
        stages: spec.stages.clone(),
        gates: spec.gates.clone(),
        rollout: spec.rollout.clone(),
    }
}

/// Why a pipeline cannot run if nobody said where artifacts go.
pub fn without_store(spec: &FlywheelPipelineSpec, settings: &Settings) -> Option<Standing> {
    let message = "There is no artifact store: set spec.artifacts.uri of the pipeline, or artifacts.uri in the operator's configuration.";
    let none = spec.artifacts.is_none() && settings.artifacts.is_none();
    none.then(|| Standing::new(Kind::Stalled, "NoArtifactStore", message))
}

/// Name and digest of a snapshot: the same content always has the same name.
pub fn identify(pipeline: &str, data: &SnapshotData) -> Option<Snapshot> {
    let frozen = freeze(data).ok()?;
    let hex = frozen.digest.as_str().strip_prefix("sha256:")?.get(..10)?.to_owned();
    Some(Snapshot {
        name: format!("{pipeline}-{hex}"),
        digest: frozen.digest,
    })
}

/// The data of a ControllerRevision for a snapshot.
#[must_use]
pub fn revision_data(data: &SnapshotData) -> serde_json::Value {
    serde_json::to_value(data).unwrap_or_default()
}

/// A snapshot as it was read back; nothing if it is none.
pub fn read(data: &serde_json::Value) -> Option<SnapshotData> {
    SnapshotData::deserialize(data).ok()
}
