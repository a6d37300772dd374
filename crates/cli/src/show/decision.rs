//! A person's decision: the evidence that is decided on, and the Approval that says so.

use flywheel_api::approval::ApprovalDecision;
use flywheel_api::reference::WaitingFor;
use flywheel_api::{Approval, ApprovalSpec, names};
use flywheel_engine::evidence::freeze;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::Value;

use crate::error::{Error, refused};
use crate::paper::{Paper, Tone, pad};

/// What a person adds to a decision.
#[derive(Clone, Debug)]
pub struct Decided {
    /// Approve or Reject.
    pub decision: ApprovalDecision,
    /// Who decides.
    pub approver: String,
    /// Why.
    pub reason: String,
    /// When it ends to count.
    pub expires_at: Option<Time>,
}

/// The evidence in full, as it is frozen into the status: one line per fact.
pub fn evidence(waits: &WaitingFor, paper: Paper) -> Result<String, Error> {
    let value: Value = match serde_json::from_str(&waits.evidence) {
        Ok(value) => value,
        Err(error) => return refused(format!("the evidence of {} is no JSON: {error}", waits.subject.name)),
    };
    let frozen = freeze(&value).map(|f| f.digest).unwrap_or_default();
    if frozen != waits.evidence_digest {
        return refused(format!(
            "status.waitingFor of {} {} names evidence {}, but its evidence has digest {frozen}: someone altered the status; nothing is decided on it",
            waits.subject.kind.name(),
            waits.subject.name,
            waits.evidence_digest
        ));
    }
    let head = format!("Evidence {}", waits.evidence_digest);
    let mut text = format!("{}\n", paper.paint(Tone::Strong, &head));
    let facts = value.as_object().into_iter().flatten().filter(|(_, v)| !v.is_null());
    let width = value
        .as_object()
        .into_iter()
        .flatten()
        .map(|(k, _)| k.len())
        .max()
        .unwrap_or(0);
    for (name, fact) in facts {
        let lines: Vec<String> = match fact {
            Value::Array(items) if items.is_empty() => vec!["none".to_owned()],
            Value::Array(items) => items.iter().map(said).collect(),
            other => vec![said(other)],
        };
        let mut label = name.as_str();
        for line in lines {
            for part in Paper::wrap(&line, paper.width.saturating_sub(width + 4)) {
                text.push_str(&format!("  {}  {part}\n", pad(label, width)));
                label = "";
            }
        }
    }
    Ok(text)
}

/// A fact in one line.
fn said(fact: &Value) -> String {
    match fact {
        Value::String(text) => text.clone(),
        Value::Object(fields) => {
            let fields = fields.iter().filter(|(_, v)| !v.is_null());
            let parts: Vec<String> = fields
                .map(|(k, v)| match v {
                    Value::Object(_) => format!("{k} ({})", said(v)),
                    _ => format!("{k} {}", said(v)),
                })
                .collect();
            parts.join(", ")
        }
        Value::Array(items) => format!("[{}]", items.iter().map(said).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

/// The Approval that binds the decision to the evidence. Its name derives from what it says, so that the same decision
/// twice is one object; `again` tells a decision apart from one that does not count any more.
#[must_use]
pub fn approval(waits: &WaitingFor, decided: &Decided, namespace: &str, again: u32) -> Approval {
    let spec = ApprovalSpec {
        subject_ref: waits.subject.clone(),
        gate: waits.gate,
        decision: decided.decision,
        evidence_digest: waits.evidence_digest.clone(),
        approver: decided.approver.clone(),
        reason: decided.reason.clone(),
        expires_at: decided.expires_at.clone(),
        revokes: None,
    };
    let says = (
        &spec.subject_ref.uid,
        spec.gate,
        spec.decision,
        &spec.evidence_digest,
        &spec.approver,
        again,
    );
    let hash: String = freeze(&says)
        .map(|f| f.digest.0)
        .unwrap_or_default()
        .chars()
        .skip("sha256:".len())
        .take(10)
        .collect();
    let room = names::MAX_NAME.saturating_sub(hash.len() + 1);
    let stem: String = waits.subject.name.chars().take(room).collect();
    let mut approval = Approval::new("", spec);
    approval.metadata = ObjectMeta {
        name: Some(format!("{}-{hash}", stem.trim_end_matches('-'))),
        namespace: Some(namespace.to_owned()),
        ..ObjectMeta::default()
    };
    approval
}

/// Whether an Approval still says what its author wanted.
#[must_use]
pub fn stands(approval: &Approval, all: &[Approval], now: jiff::Timestamp) -> bool {
    let expired = approval.spec.expires_at.as_ref().is_some_and(|at| at.0 <= now);
    let revoked = all.iter().any(|r| {
        r.spec.decision == ApprovalDecision::Revoke
            && r.spec.approver == approval.spec.approver
            && r.spec.revokes.as_ref().map(|n| &n.name) == approval.metadata.name.as_ref()
    });
    !expired && !revoked
}
