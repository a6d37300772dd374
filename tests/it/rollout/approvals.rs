//! Steps that a person lets go: by an Approval of exactly what was seen.

use flywheel_api::{Approval, Rollout};
use kube::api::PostParams;
use serde_json::{Value, json};

use super::scene::{PATIENCE, Scene, calm, is, plan, scene, step, uri};
use crate::fast::{Answer, fast, named};

async fn asks(scene: &Scene, needed: i32, more: Value) -> Value {
    let half = json!({ "name": "half", "weight": 50, "approval": { "minApprovals": needed } });
    scene.roll("up", "eta-2", plan(&[half], more)).await;
    let held = scene.held("up", "AwaitingApproval").await;
    assert!(is(&held, "AwaitingApproval", "True") && is(&held, "Ready", "True"));
    assert_eq!(
        held["status"]["waitingFor"]["resolve"],
        format!("kubectl flywheel approve rollout up -n {}", scene.namespace)
    );
    held
}

/// Decides on what the Rollout waits for.
async fn decide(scene: &Scene, held: &Value, approver: &str, decision: &str) {
    let waiting = &held["status"]["waitingFor"];
    let approval = json!({ "spec": { "subjectRef": waiting["subject"], "gate": "RolloutStep", "decision": decision,
        "evidenceDigest": waiting["evidenceDigest"], "approver": approver, "reason": "seen" } });
    let approval: Approval = named(&format!("{approver}-{}", decision.to_lowercase()), approval);
    let approvals = scene.person::<Approval>(approver).await;
    approvals
        .create(&PostParams::default(), &approval)
        .await
        .expect("accepted");
}

#[tokio::test]
async fn cluster_a_step_waits_for_its_approvals() {
    let scene = scene(fast("stepapprove").await, 1).await;
    let held = asks(&scene, 2, json!({})).await;
    decide(&scene, &held, "jane", "Approve").await;
    let one = |o: &Value| o["status"]["waitingFor"]["approvedBy"] == json!(["jane-approve"]);
    scene.until::<Rollout>("up", PATIENCE, "half approved", one).await;
    decide(&scene, &held, "joe", "Approve").await;
    let done = scene.ended("up", "Promoted").await;
    assert_eq!(done["status"]["approvals"].as_array().map(Vec::len), Some(2));
    let passed = &done["status"]["decisions"][1];
    assert_eq!(passed["evidenceDigest"], held["status"]["waitingFor"]["evidenceDigest"]);
    scene.finish(Some(&uri(2)), 1).await;
}

#[tokio::test]
async fn cluster_a_rejection_rolls_back() {
    let scene = scene(fast("reject").await, 1).await;
    let held = asks(&scene, 1, json!({})).await;
    decide(&scene, &held, "jane", "Reject").await;
    let back = scene.ended("up", "RolledBack").await;
    assert!(back["status"]["outcomeReason"].to_string().contains("jane rejected"));
    scene.finish(Some(&uri(1)), 1).await;
}

#[tokio::test]
async fn cluster_an_approval_of_other_evidence_is_stale() {
    let scene = scene(fast("stale").await, 1).await;
    let mut held = asks(&scene, 1, json!({})).await;
    let right = held.clone();
    held["status"]["waitingFor"]["evidenceDigest"] = json!(format!("sha256:{}", "0".repeat(64)));
    decide(&scene, &held, "jane", "Approve").await;
    let stale = |o: &Value| o["status"]["waitingFor"]["stale"] == json!(["jane-approve"]);
    scene.until::<Rollout>("up", PATIENCE, "stale", stale).await;
    decide(&scene, &right, "joe", "Approve").await;
    scene.ended("up", "Promoted").await;
    scene.finish(Some(&uri(2)), 1).await;
}

#[tokio::test]
async fn cluster_a_check_that_turns_worse_blocks_what_was_approved() {
    let scene = scene(fast("worse").await, 1).await;
    scene.say("errors", Answer::Number(0.0));
    let checks = json!({ "checks": [{ "name": "errors", "providerRef": { "name": "fake" }, "interval": "1s",
        "query": scene.query("errors"), "max": "1", "onFail": "Hold" }] });
    let held = asks(&scene, 1, checks).await;
    scene.say("errors", Answer::Number(9.0));
    scene.held("up", "CheckFailed").await;
    decide(&scene, &held, "jane", "Approve").await;
    calm(3).await;
    scene.held("up", "CheckFailed").await;
    scene.say("errors", Answer::Number(0.0));
    scene.ended("up", "Promoted").await;
    scene.finish(Some(&uri(2)), 1).await;
}

#[tokio::test]
async fn cluster_an_approval_counts_for_its_own_step_only() {
    let scene = scene(fast("ownstep").await, 2).await;
    let asking = |name: &str, weight: i32| json!({ "name": name, "weight": weight, "approval": { "minApprovals": 1 } });
    let steps = [asking("third", 33), asking("half", 50)];
    scene.roll("up", "eta-2", plan(&steps, json!({}))).await;
    let third = scene.held("up", "AwaitingApproval").await;
    decide(&scene, &third, "jane", "Approve").await;
    let at_half =
        |o: &Value| o["status"]["step"]["name"] == "half" && o["status"]["step"]["holdReason"] == "AwaitingApproval";
    let half = scene.until::<Rollout>("up", PATIENCE, "half", at_half).await;
    assert_eq!(half["status"]["waitingFor"]["stale"], json!(["jane-approve"]));
    decide(&scene, &half, "joe", "Approve").await;
    scene.ended("up", "Promoted").await;
    scene.finish(Some(&uri(2)), 2).await;
}

#[tokio::test]
async fn cluster_a_step_without_approval_asks_nobody() {
    let scene = scene(fast("nobody").await, 1).await;
    scene.roll("up", "eta-2", plan(&[step("half", 50)], json!({}))).await;
    let done = scene.ended("up", "Promoted").await;
    assert!(done["status"]["approvals"].as_array().is_none_or(Vec::is_empty));
    scene.finish(Some(&uri(2)), 1).await;
}
