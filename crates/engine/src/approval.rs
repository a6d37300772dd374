//! Approvals: which of them count at a gate.

use flywheel_api::reference::{ApprovalGate, ApprovalRecord, SubjectRef};
use flywheel_api::schema::Digest;
use flywheel_api::ApprovalSpec;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// An Approval as it was observed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalView {
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// When it was created.
    pub at: Timestamp,
    /// Spec.
    pub spec: ApprovalSpec,
}

/// What a gate asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand<'a> {
    /// Object that is decided on.
    pub subject: &'a SubjectRef,
    /// Gate.
    pub gate: ApprovalGate,
    /// Evidence that must have been seen.
    pub digest: &'a Digest,
    /// Different people who must approve.
    pub needed: i32,
    /// User whose own approval does not count (separation of duties).
    pub excluded: Option<&'a str>,
}

/// What the Approvals of a gate add up to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Approvals that count, one per approver.
    pub approved: Vec<ApprovalRecord>,
    /// The first rejection that counts.
    pub rejected: Option<ApprovalRecord>,
    /// Names of Approvals of this gate and subject that name other evidence.
    pub stale: Vec<String>,
    /// Enough people approved and nobody rejected.
    pub satisfied: bool,
}

/// Counts the Approvals that meet the demand at this time: right subject UID, gate and digest, not expired, not revoked.
#[must_use]
pub fn tally(approvals: &[ApprovalView], demand: &Demand<'_>, now: Timestamp) -> Tally {
    let _ = (approvals, demand, now);
    Tally::default()
}
