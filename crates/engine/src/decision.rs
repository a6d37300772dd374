//! What a reconcile does: record a status, do one effect, or wait.
//!
//! The engine builds the objects and patches; this module gives them a form that one small applier can carry out with
//! preconditions. It deliberately knows no namespace: everything happens in the namespace of the object that acts.

use flywheel_api::{FlywheelRun, ModelVersion, Rollout};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment};
use k8s_openapi::api::batch::v1::Job;
use serde::{Deserialize, Serialize};

/// The outcome of one look at an object: at most one write.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision<S> {
    /// Write this status: an intent, an observed fact or a verdict.
    Record(Record<S>),
    /// Do one effect that the stored status already permits.
    Do(Effect),
    /// Nothing to do until then, or until something changes.
    Wait(Wait),
}

/// A status to write, with the events that tell of the change of mind.
#[derive(Clone, Debug, PartialEq)]
pub struct Record<S> {
    /// The whole new status.
    pub status: S,
    /// Published once, after the write succeeded.
    pub events: Vec<Note>,
}

/// One effect and why it is done.
#[derive(Clone, Debug, PartialEq)]
pub struct Effect {
    /// What is done.
    pub action: Action,
    /// One sentence for the log.
    pub why: String,
}

/// Nothing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// Look again at that time; without one, only when something changes.
    pub until: Option<Timestamp>,
    /// One sentence for the log.
    pub reason: String,
}

/// A Kubernetes event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// A person may have to act.
    pub warning: bool,
    /// UpperCamelCase reason.
    pub reason: String,
    /// One sentence.
    pub message: String,
}

impl Note {
    /// An event for the record.
    #[must_use]
    pub fn normal(reason: &str, message: impl Into<String>) -> Self {
        Self {
            warning: false,
            reason: reason.to_owned(),
            message: message.into(),
        }
    }

    /// An event that a person should see.
    #[must_use]
    pub fn warning(reason: &str, message: impl Into<String>) -> Self {
        Self {
            warning: true,
            reason: reason.to_owned(),
            message: message.into(),
        }
    }
}

/// One write to the API server, with its precondition.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Create exactly this object. If the name is taken by an object with the same owner UID label, it is there
    /// already; if by another, the next observation shows that and the engine decides.
    Create(Box<Child>),
    /// Patch, refused by the API server unless the resource version still holds.
    Patch(Box<Patch>),
    /// Delete in the background, refused unless UID (and resource version, if given) still hold; gone is done.
    Delete(ObjectKey),
}

impl Action {
    /// UID of the object that it changes or deletes; nothing if it creates one.
    #[must_use]
    pub fn uid(&self) -> Option<&str> {
        match self {
            Self::Create(_) => None,
            Self::Patch(patch) => Some(&patch.object.uid),
            Self::Delete(key) => Some(&key.uid),
        }
    }
}

/// An object that the operator creates.
#[derive(Clone, Debug, PartialEq)]
pub enum Child {
    /// A stage's attempt.
    Job(Job),
    /// A run's snapshot of its pipeline.
    ControllerRevision(ControllerRevision),
    /// A triggered run.
    FlywheelRun(FlywheelRun),
    /// A registered version.
    ModelVersion(ModelVersion),
    /// A delivery.
    Rollout(Rollout),
    /// A rollout's candidate.
    Deployment(Deployment),
}

/// A patch with precondition.
#[derive(Clone, Debug, PartialEq)]
pub struct Patch {
    /// The object; its resource version is the precondition.
    pub object: ObjectKey,
    /// The patch body, without `metadata.resourceVersion`: the applier adds it.
    pub body: serde_json::Value,
    /// How lists are merged.
    pub kind: PatchKind,
}

/// How a patch is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchKind {
    /// JSON merge patch (RFC 7386).
    Merge,
    /// Strategic merge patch: lists of named things are merged by their keys; built-in kinds only.
    Strategic,
}

/// An object that exists, as it was observed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectKey {
    /// Kind.
    pub kind: ChildKind,
    /// Name, in the namespace of the object that acts.
    pub name: String,
    /// UID.
    pub uid: String,
    /// Resource version that the decision was made on.
    pub resource_version: Option<String>,
}

/// Kinds that the operator writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChildKind {
    /// batch/v1 Job.
    #[default]
    Job,
    /// apps/v1 ControllerRevision.
    ControllerRevision,
    /// apps/v1 Deployment.
    Deployment,
    /// FlywheelRun.
    FlywheelRun,
    /// ModelVersion.
    ModelVersion,
    /// Rollout.
    Rollout,
}

impl<S: PartialEq> Decision<S> {
    /// The usual shape of a decision: first the status that should stand (an intent among it), then the one effect
    /// that it permits, then waiting. What the effect depends on is not looked at before the status stands.
    pub fn settle(
        current: &S,
        desired: S,
        events: Vec<Note>,
        effect: impl FnOnce() -> Option<Effect>,
        wait: Wait,
    ) -> Self {
        if *current != desired {
            return Self::Record(Record {
                status: desired,
                events,
            });
        }
        match effect() {
            Some(effect) => Self::Do(effect),
            None => Self::Wait(wait),
        }
    }
}
