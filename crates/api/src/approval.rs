//! Approval: a person's decision on one gate of one object, bound to the evidence that was seen.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::reference::{ApprovalGate, NameRef, SubjectRef};
use crate::schema::Digest;

/// A person's decision on one gate of one object.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "flywheel.dev",
    version = "v1alpha1",
    kind = "Approval",
    plural = "approvals",
    namespaced,
    shortname = "fwa",
    category = "flywheel",
    derive = "PartialEq",
    selectable = ".spec.subjectRef.name",
    doc = "A person's decision on one gate of one object, bound to the evidence that was seen. Immutable; a decision is taken back by a further Approval with decision Revoke.",
    printcolumn(name = "Decision", type_ = "string", json_path = ".spec.decision"),
    printcolumn(name = "Gate", type_ = "string", json_path = ".spec.gate"),
    printcolumn(name = "Subject", type_ = "string", json_path = ".spec.subjectRef.name"),
    printcolumn(name = "Approver", type_ = "string", json_path = ".spec.approver"),
    printcolumn(name = "Expires", type_ = "date", json_path = ".spec.expiresAt", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "self == oldSelf", "message": "an Approval is immutable: create a new one (decision Revoke takes this one back)" },
    { "rule": "(self.decision == 'Revoke') == has(self.revokes)", "message": "revokes names the Approval to take back: it is required for decision Revoke and forbidden otherwise" },
    { "rule": "self.gate != 'Train' || self.subjectRef.kind == 'FlywheelRun'", "message": "gate Train is decided on a FlywheelRun: set subjectRef.kind to FlywheelRun" },
    { "rule": "self.gate != 'Promote' || self.subjectRef.kind == 'ModelVersion'", "message": "gate Promote is decided on a ModelVersion: set subjectRef.kind to ModelVersion" },
    { "rule": "self.gate != 'RolloutStep' || self.subjectRef.kind == 'Rollout'", "message": "gate RolloutStep is decided on a Rollout: set subjectRef.kind to Rollout" },
]))]
pub struct ApprovalSpec {
    /// Object that is decided on, as in its `status.waitingFor.subject`.
    pub subject_ref: SubjectRef,
    /// Gate that is decided.
    /// Train: the training of a FlywheelRun. Promote: the delivery of a ModelVersion. RolloutStep: the next step of a Rollout.
    pub gate: ApprovalGate,
    /// What you decide.
    /// Approve: the gate may open. Reject: the run ends, or the rollout goes back. Revoke: an earlier Approval of yours does not count any more.
    pub decision: ApprovalDecision,
    /// Digest of the evidence that was seen, from the object's `status.waitingFor.evidenceDigest`.
    pub evidence_digest: Digest,
    /// User who decides; the API server refuses any name but the requesting user's own.
    #[schemars(length(min = 1, max = 256))]
    pub approver: String,
    /// Why you decide so, for the record.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub reason: String,
    /// Moment from which on the decision does not count any more, such as 2026-12-31T00:00:00Z; never if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// Approval that is taken back; required for decision Revoke and forbidden otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revokes: Option<NameRef>,
}

/// What the person decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum ApprovalDecision {
    /// The gate may open.
    Approve,
    /// The gate stays shut for good.
    Reject,
    /// An earlier Approval does not count any more.
    Revoke,
}
