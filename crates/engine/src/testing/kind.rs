//! Kinds of objects in the world.

use crate::decision::ChildKind;

/// Kinds of objects in the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// FlywheelPipeline.
    Pipeline,
    /// FlywheelRun.
    Run,
    /// ModelVersion.
    ModelVersion,
    /// Rollout.
    Rollout,
    /// BiasPolicy.
    BiasPolicy,
    /// Approval.
    Approval,
    /// Deployment.
    Deployment,
    /// Job.
    Job,
    /// Pod.
    Pod,
    /// ControllerRevision.
    ControllerRevision,
}

/// Kinds that the operator decides on, in the order in which the world lets it.
pub const DECIDED: [Kind; 5] = [
    Kind::Pipeline,
    Kind::Run,
    Kind::ModelVersion,
    Kind::Rollout,
    Kind::BiasPolicy,
];

impl From<ChildKind> for Kind {
    fn from(kind: ChildKind) -> Self {
        match kind {
            ChildKind::Job => Self::Job,
            ChildKind::ControllerRevision => Self::ControllerRevision,
            ChildKind::Deployment => Self::Deployment,
            ChildKind::FlywheelRun => Self::Run,
            ChildKind::ModelVersion => Self::ModelVersion,
            ChildKind::Rollout => Self::Rollout,
        }
    }
}
