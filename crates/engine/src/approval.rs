//! Approvals: which of them count at a gate.

use flywheel_api::approval::ApprovalDecision;
use flywheel_api::reference::{ApprovalGate, ApprovalRecord, SubjectRef};
use flywheel_api::schema::Digest;
use flywheel_api::{Approval, ApprovalSpec};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, Serialize};

use crate::view::created;

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

impl ApprovalView {
    /// The view of an Approval.
    #[must_use]
    pub fn of(approval: &Approval) -> Self {
        Self {
            name: approval.metadata.name.clone().unwrap_or_default(),
            uid: approval.metadata.uid.clone().unwrap_or_default(),
            at: created(&approval.metadata),
            spec: approval.spec.clone(),
        }
    }
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

/// Counts the Approvals that meet the demand at this time: right subject UID, gate and digest, not expired, not revoked,
/// one per approver. A rejection that counts wins over every approval.
#[must_use]
pub fn tally(approvals: &[ApprovalView], demand: &Demand<'_>, now: Timestamp) -> Tally {
    let mut tally = Tally::default();
    let mut ordered: Vec<&ApprovalView> = approvals.iter().filter(|a| concerns(a, demand)).collect();
    ordered.sort_by(|a, b| (a.at, &a.name).cmp(&(b.at, &b.name)));
    for view in ordered {
        if !stands(view, approvals, now) {
            continue;
        }
        if view.spec.evidence_digest != *demand.digest {
            tally.stale.push(view.name.clone());
            continue;
        }
        match view.spec.decision {
            ApprovalDecision::Approve => {
                let own = demand.excluded.is_some_and(|user| user == view.spec.approver);
                let again = tally.approved.iter().any(|a| a.approver == view.spec.approver);
                if !own && !again {
                    tally.approved.push(record(view));
                }
            }
            ApprovalDecision::Reject if tally.rejected.is_none() => tally.rejected = Some(record(view)),
            ApprovalDecision::Reject | ApprovalDecision::Revoke => {}
        }
    }
    let needed = usize::try_from(demand.needed.max(1)).unwrap_or(usize::MAX);
    tally.satisfied = tally.rejected.is_none() && tally.approved.len() >= needed;
    tally
}

fn concerns(view: &ApprovalView, demand: &Demand<'_>) -> bool {
    view.spec.subject_ref == *demand.subject
        && view.spec.gate == demand.gate
        && view.spec.decision != ApprovalDecision::Revoke
}

/// Neither expired nor taken back by the person who gave it.
fn stands(view: &ApprovalView, all: &[ApprovalView], now: Timestamp) -> bool {
    let expired = view.spec.expires_at.as_ref().is_some_and(|t| t.0 <= now);
    let revoked = all.iter().any(|r| {
        r.spec.decision == ApprovalDecision::Revoke
            && r.spec.revokes.as_ref().is_some_and(|n| n.name == view.name)
            && r.spec.approver == view.spec.approver
            && r.spec.subject_ref == view.spec.subject_ref
            && r.at >= view.at
    });
    !expired && !revoked
}

fn record(view: &ApprovalView) -> ApprovalRecord {
    ApprovalRecord {
        name: view.name.clone(),
        uid: view.uid.clone(),
        gate: view.spec.gate,
        approver: view.spec.approver.clone(),
        decision: view.spec.decision,
        evidence_digest: view.spec.evidence_digest.clone(),
        at: Time(view.at),
    }
}

#[cfg(test)]
mod tests {
    use flywheel_api::reference::{NameRef, SubjectKind};
    use rstest::rstest;

    use super::*;

    fn subject() -> SubjectRef {
        SubjectRef {
            kind: SubjectKind::ModelVersion,
            name: "eta-1".to_owned(),
            uid: "u1".to_owned(),
        }
    }

    fn view(name: &str, approver: &str, decision: ApprovalDecision, digest: &str) -> ApprovalView {
        ApprovalView {
            name: name.to_owned(),
            uid: name.to_owned(),
            at: Timestamp::UNIX_EPOCH,
            spec: ApprovalSpec {
                subject_ref: subject(),
                gate: ApprovalGate::Promote,
                decision,
                evidence_digest: digest.into(),
                approver: approver.to_owned(),
                reason: String::new(),
                expires_at: None,
                revokes: None,
            },
        }
    }

    fn count(views: &[ApprovalView], needed: i32, excluded: Option<&str>) -> Tally {
        let (subject, digest) = (subject(), Digest::from("d"));
        let demand = Demand {
            subject: &subject,
            gate: ApprovalGate::Promote,
            digest: &digest,
            needed,
            excluded,
        };
        tally(views, &demand, Timestamp::UNIX_EPOCH)
    }

    #[rstest]
    #[case::one_is_enough(&[("a", "jane", "d")], 1, None, true)]
    #[case::the_same_person_counts_once(&[("a", "jane", "d"), ("b", "jane", "d")], 2, None, false)]
    #[case::two_people(&[("a", "jane", "d"), ("b", "bob", "d")], 2, None, true)]
    #[case::other_evidence(&[("a", "jane", "old")], 1, None, false)]
    #[case::own_run(&[("a", "jane", "d")], 1, Some("jane"), false)]
    #[case::nobody(&[], 0, None, false)]
    fn approvals_are_counted_per_person_and_evidence(
        #[case] given: &[(&str, &str, &str)],
        #[case] needed: i32,
        #[case] excluded: Option<&str>,
        #[case] satisfied: bool,
    ) {
        let views: Vec<_> = given
            .iter()
            .map(|(n, a, d)| view(n, a, ApprovalDecision::Approve, d))
            .collect();
        assert_eq!(count(&views, needed, excluded).satisfied, satisfied);
    }

    #[test]
    fn a_rejection_wins_and_a_revocation_takes_the_own_approval_back() {
        let approve = view("a", "jane", ApprovalDecision::Approve, "d");
        let reject = view("b", "bob", ApprovalDecision::Reject, "d");
        let both = count(&[approve.clone(), reject], 1, None);
        assert!(!both.satisfied && both.rejected.is_some());
        let mut revoke = view("c", "jane", ApprovalDecision::Revoke, "d");
        revoke.spec.revokes = Some(NameRef::new("a"));
        assert!(!count(&[approve.clone(), revoke.clone()], 1, None).satisfied);
        revoke.spec.approver = "bob".to_owned();
        assert!(
            count(&[approve, revoke], 1, None).satisfied,
            "only the approver can take it back"
        );
    }

    #[test]
    fn expired_and_foreign_approvals_do_not_count_and_stale_ones_are_named() {
        let mut expired = view("a", "jane", ApprovalDecision::Approve, "d");
        expired.spec.expires_at = Some(Time(Timestamp::UNIX_EPOCH));
        let mut foreign = view("b", "jane", ApprovalDecision::Approve, "d");
        foreign.spec.subject_ref.uid = "namesake".to_owned();
        let stale = view("c", "jane", ApprovalDecision::Approve, "older");
        let tally = count(&[expired, foreign, stale], 1, None);
        assert_eq!((tally.satisfied, tally.stale), (false, vec!["c".to_owned()]));
    }
}
