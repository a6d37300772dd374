//! One module per kind: what its decision must know, and where that is read.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::future::Future;

use flywheel_api::condition;
use flywheel_engine::decision::{Action, Decision};
use futures::future::BoxFuture;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, Time};
use kube::core::object::HasStatus;
use serde::Serialize;

use crate::apply::Kind;
use crate::context::Context;
use crate::guard::Guard;
use crate::inputs::{Input, Inputs};
use crate::metrics::objects::Shown;
use crate::watch::{Watched, Watches};

pub mod bias_policy;
pub mod model_version;
pub mod pipeline;
pub mod rollout;
pub mod run;

/// A kind that the operator reconciles: `observe`, then the engine's `decide`; the driver does the rest.
pub trait Controller: Send + Sync + 'static {
    /// The kind.
    type Object: Kind + HasStatus<Status = Self::Status> + Shown + Send + Sync + 'static;
    /// Its status.
    type Status: Clone + Debug + PartialEq + Serialize + Send + Sync;
    /// What metric providers answered.
    type Answers: Clone + Default + Send;
    /// Everything that the decision may know; it can be printed as JSON and replayed.
    type Observation: Serialize + Send + Sync;

    /// Name of the controller in metrics and logs, such as `rollout`.
    const NAME: &'static str;
    /// Kinds whose changes may concern an object of this kind.
    const RELATED: &'static [RelatedKind];
    /// What holds a deleted object of this kind until the operator lets it go.
    const FINALIZER: Option<&'static str> = None;

    /// The watch of the kind.
    fn watched(watches: &Watches) -> &Watched<Guard<Self::Object>>;

    /// Whether a change of a related object of the same namespace may concern this object.
    fn concerns(object: &Self::Object, related: &Related) -> bool;

    /// Why a deleted object of this kind that cannot be read is not let go, and what a person has to do: a sentence.
    fn keeps(_: &Context, _: &ObjectMeta) -> impl Future<Output = Result<Option<String>, kube::Error>> + Send {
        async { Ok(None) }
    }

    /// Whether a change of a related object of the same namespace may be what such an object waited for.
    fn frees(_: &ObjectMeta, _: &Related) -> bool {
        false
    }

    /// Whether something is still to come of the object: it is then looked at again soon, whatever the watches say.
    fn in_progress(_: &Self::Object) -> bool {
        false
    }

    /// Whether a change of the administrator's settings may concern this object.
    fn uses_settings(_: &Self::Object) -> bool {
        false
    }

    /// What metric providers are to be asked before the observation, if anything is due. They are strangers who may be
    /// slow: no turn is held while they are asked.
    fn ask<'a>(_: &'a Context, _: &'a Self::Object, _: Timestamp) -> Option<BoxFuture<'a, Self::Answers>> {
        None
    }

    /// Gathers the observation. What comes from the stores is a [`flywheel_engine::part::Part`] of it, and no write rests on
    /// it before it was read live; but for what may be known [`Inputs::late`] and what the write [`Controller::confirms`].
    fn observe(
        context: &Context,
        inputs: &Inputs<'_>,
        object: Self::Object,
        answers: Self::Answers,
        now: Timestamp,
    ) -> impl Future<Output = Result<Self::Observation, kube::Error>> + Send;

    /// What need not be read before this is done, because the API server refuses it if that has changed since: the object of
    /// a patch, and that there is none of the name that is created.
    fn confirms(_: &Self::Object, _: &Action) -> Option<Input> {
        None
    }

    /// The engine's pure decision.
    fn decide(observation: &Self::Observation) -> Decision<Self::Status>;
}

/// Kinds whose changes wake controllers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelatedKind {
    /// batch/v1 Job.
    Job,
    /// Pod of a stage.
    Pod,
    /// apps/v1 Deployment.
    Deployment,
    /// apps/v1 Deployment, its spec alone: what serves there, not how many pods it has.
    DeploymentSpec,
    /// FlywheelPipeline.
    Pipeline,
    /// FlywheelPipeline, its spec and labels alone.
    PipelineSpec,
    /// FlywheelPipeline, as far as versions of its model look at it: its spec, and which version it says is live.
    PipelineOutline,
    /// FlywheelRun.
    Run,
    /// FlywheelRun, as far as others than its version look at it: not how its stages come on, and not its log.
    RunOutline,
    /// ModelVersion.
    ModelVersion,
    /// ModelVersion, its spec and labels alone.
    ModelVersionSpec,
    /// Rollout.
    Rollout,
    /// Rollout, as far as others than its run look at it: not what it waits for, and not its log.
    RolloutOutline,
    /// BiasPolicy, its spec and labels alone.
    BiasPolicy,
    /// Approval.
    Approval,
}

/// A change of a related object.
#[derive(Clone, Debug)]
pub struct Related {
    /// Kind.
    pub kind: RelatedKind,
    /// Name.
    pub name: String,
    /// What it is about, if it can be read: of a run its pipeline, of a pipeline and a version the model, of a Rollout
    /// its target, of an Approval its subject.
    pub about: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// When it was created.
    pub created: Option<Time>,
}

impl Related {
    /// Whether it is known to be about the object of that name.
    #[must_use]
    pub fn is_about(&self, name: &str) -> bool {
        self.about.as_deref() == Some(name)
    }

    /// Whether it may be about the object of that name: one that cannot be read may be about any.
    #[must_use]
    pub fn may_be_about(&self, name: &str) -> bool {
        self.about.as_deref().is_none_or(|about| about == name)
    }

    /// Whether it carries this label with this value.
    #[must_use]
    pub fn has(&self, label: &str, value: &str) -> bool {
        self.labels.get(label).is_some_and(|found| found == value)
    }
}

/// Whether the stored condition Ready has this reason.
pub(crate) fn is_held_by(conditions: &[Condition], reason: &str) -> bool {
    condition::find(conditions, condition::READY).is_some_and(|ready| ready.reason == reason)
}
