use flywheel_api::names::ANNOTATION_LINEAGE;
use flywheel_api::reference::{ApprovalGate, ApprovalRecord};
use jiff::Timestamp;

use super::*;
use crate::testing;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn seen(version: &mut ModelVersion, second: i64) {
    let status = version.status.get_or_insert_default();
    let status = status.clone();
    let present = Reached {
        state: status.state,
        cause: None,
    };
    let lineage = extended(version, &status, &[], &present, at(second));
    version.status.as_mut().unwrap().lineage = lineage;
}

fn types(version: &ModelVersion) -> Vec<LineageType> {
    let lineage = version.status.as_ref().unwrap().lineage.as_ref().unwrap();
    lineage.entries.iter().map(|e| e.type_).collect()
}

#[test]
fn the_same_status_adds_nothing() {
    let mut version = testing::version(1);
    seen(&mut version, 1);
    let before = version.clone();
    seen(&mut version, 2);
    assert_eq!(version, before);
    assert_eq!(types(&version), [LineageType::Registered]);
}

#[test]
fn verdicts_decisions_and_states_are_told_in_their_order_and_again_when_they_change() {
    let mut version = testing::version(1);
    seen(&mut version, 1);
    let status = version.status.as_mut().unwrap();
    status.approvals.push(ApprovalRecord {
        name: "jane".to_owned(),
        uid: "u-1".to_owned(),
        gate: ApprovalGate::Promote,
        approver: "jane".to_owned(),
        decision: flywheel_api::approval::ApprovalDecision::Approve,
        evidence_digest: Digest::default(),
        at: Time(at(2)),
    });
    status.state = VersionState::Approved;
    seen(&mut version, 3);
    version.status.as_mut().unwrap().approvals.clear();
    seen(&mut version, 4);
    let expected = [
        LineageType::Registered,
        LineageType::Decided,
        LineageType::Approved,
        LineageType::Decided,
    ];
    assert_eq!(types(&version), expected);
    let lineage = version.status.as_ref().unwrap().lineage.clone().unwrap();
    assert_eq!(lineage.entries[1].subjects, [subject("Approval", "jane", "u-1")]);
    assert_eq!(chain::check(&version), chain::Checked::default());
}

#[test]
fn a_chain_whose_status_was_lost_says_so() {
    let mut version = testing::version(1);
    seen(&mut version, 1);
    let first = version.status.take().unwrap().lineage.unwrap().head.digest.0;
    version.metadata.annotations = Some([(ANNOTATION_LINEAGE.to_owned(), first)].into());
    seen(&mut version, 2);
    assert_eq!(types(&version), [LineageType::Rebuilt]);
    let checked = chain::check(&version);
    assert!(checked.findings.is_empty(), "{checked:?}");
    assert_eq!(checked.notices[0].remark, finding::Remark::Rebuilt);
}

#[test]
fn a_full_chain_says_so_and_stays_true() {
    let mut version = testing::version(1);
    for second in 0..300 {
        let status = version.status.get_or_insert_default();
        status.state = if second % 2 == 0 {
            VersionState::Live
        } else {
            VersionState::Superseded
        };
        seen(&mut version, second);
    }
    let all = types(&version);
    assert_eq!((all.len(), all[255]), (MAX_ENTRIES, LineageType::Full));
    let checked = chain::check(&version);
    assert!(checked.findings.is_empty(), "{checked:?}");
    assert_eq!(checked.notices[0].remark, finding::Remark::Full);
}

#[test]
fn a_chain_is_the_same_whoever_computes_it() {
    let mut version = testing::version(1);
    version.metadata.uid = Some("6f1c".to_owned());
    seen(&mut version, 1_767_571_200);
    let entry = &version.status.as_ref().unwrap().lineage.as_ref().unwrap().entries[0];
    // The documented bytes, hashed without any of the code above.
    let identity = r#"{"kind":"ModelVersion","name":"eta-1","namespace":"shop","uid":"6f1c"}"#;
    assert_eq!(entry.previous, sha256(identity));
    let spec = format!(
        r#"{{"spec":{{"artifact":{{"digest":"sha256:{}","uri":"s3://models/eta/1"}},"modelName":"eta","version":1}}}}"#,
        "1".repeat(64)
    );
    assert_eq!(entry.facts, sha256(&spec));
    let whole = format!(
        r#"{{"at":"2026-01-05T00:00:00Z","facts":"{}","index":0,"previous":"{}","type":"Registered"}}"#,
        entry.facts, entry.previous
    );
    assert_eq!(entry.digest, sha256(&whole));
}

fn sha256(text: &str) -> Digest {
    use sha2::Digest as _;
    let hash = sha2::Sha256::digest(text.as_bytes());
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    Digest(format!("sha256:{hex}"))
}
