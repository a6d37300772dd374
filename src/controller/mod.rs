//! One module per kind: what its decision must know, gathered by live reads.

use std::fmt::Debug;
use std::future::Future;
use std::hash::Hash;

use flywheel_engine::decision::Decision;
use jiff::Timestamp;
use kube::Resource;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::context::Context;

pub mod bias_policy;
pub mod model_version;
pub mod pipeline;
pub mod rollout;
pub mod run;

/// A kind that the operator reconciles: `observe`, then the engine's `decide`; the driver does the rest.
pub trait Controller: Send + Sync + 'static {
    /// The kind.
    type Object: Resource<DynamicType: Default + Eq + Hash + Clone + Debug + Unpin>
        + Clone
        + Debug
        + DeserializeOwned
        + Serialize
        + Send
        + Sync
        + 'static;
    /// Its status.
    type Status: Clone + Debug + PartialEq + Serialize + Send + Sync;
    /// Everything that the decision may know; it can be printed as JSON and replayed.
    type Observation: Serialize + Send + Sync;

    /// Name of the controller in metrics and logs, such as `rollout`.
    const NAME: &'static str;

    /// Gathers the observation; `object` was just read live.
    fn observe(
        context: &Context,
        object: Self::Object,
        now: Timestamp,
    ) -> impl Future<Output = Result<Self::Observation, kube::Error>> + Send;

    /// The engine's pure decision.
    fn decide(observation: &Self::Observation) -> Decision<Self::Status>;
}
