//! Who decides: the levels of automation, live and only ever stricter.

use flywheel_api::{FlywheelRun, ModelVersion};
use k8s_openapi::api::batch::v1::Job;
use serde_json::{Value, json};

use super::turn::{turn, until, well};
use crate::fast::{alone, fast};
use crate::rollout::scene::{PATIENCE, calm, is};
use crate::world::condition;

#[tokio::test]
async fn cluster_at_level_semi_automated_people_decide_on_training_and_on_promotion() {
    let turn = turn(fast("semi").await, json!({ "automationLevel": "SemiAutomated" })).await;
    turn.ask("eta-1").await;
    let train = turn.waits("eta-1", "Train").await;
    assert!(is(&train, "AwaitingApproval", "True") && is(&train, "Ready", "True"));
    assert!(turn.names::<Job>().await.is_empty());
    turn.decide(&train, "train", "Approve").await;
    let promote = turn.waits("eta-1", "Promote").await;
    assert_eq!(promote["status"]["waitingFor"]["subject"]["kind"], "ModelVersion");
    turn.decide(&promote, "promote", "Approve").await;
    turn.ended("eta-1", "Registered").await;
    turn.finish().await;
}

#[tokio::test]
async fn cluster_a_rejected_training_ends_the_run_before_it_costs_anything() {
    let turn = turn(fast("notrain").await, json!({ "automationLevel": "SemiAutomated" })).await;
    turn.ask("eta-1").await;
    let train = turn.waits("eta-1", "Train").await;
    turn.decide(&train, "no", "Reject").await;
    turn.ended("eta-1", "Rejected").await;
    assert!(turn.names::<Job>().await.is_empty());
    assert!(turn.names::<ModelVersion>().await.is_empty());
    turn.finish().await;
}

#[tokio::test]
async fn cluster_a_rejected_promotion_keeps_the_version_as_rejected() {
    let turn = turn(fast("nopromote").await, json!({ "automationLevel": "HumanOversight" })).await;
    turn.ask("eta-1").await;
    let promote = turn.waits("eta-1", "Promote").await;
    turn.decide(&promote, "no", "Reject").await;
    turn.ended("eta-1", "Rejected").await;
    let rejected = |o: &Value| o["status"]["state"] == "Rejected";
    turn.until::<ModelVersion>("eta-1", PATIENCE, "rejected", rejected)
        .await;
    turn.finish().await;
}

#[tokio::test]
async fn cluster_at_level_manual_a_users_request_runs_the_stages_and_waits_for_promotion() {
    let turn = turn(fast("manual").await, json!({ "automationLevel": "Manual" })).await;
    turn.ask("eta-1").await;
    let promote = turn.waits("eta-1", "Promote").await;
    turn.decide(&promote, "yes", "Approve").await;
    turn.ended("eta-1", "Registered").await;
    turn.finish().await;
}

#[tokio::test]
async fn cluster_a_level_that_is_lowered_in_mid_run_counts_from_the_next_decision_on() {
    let turn = turn(fast("lowered").await, json!({})).await;
    turn.kubelet.stages(until("train"));
    turn.ask("eta-1").await;
    let first = turn.running("eta-1", 0).await;
    assert_eq!(first["status"]["level"], "FullyAutomated");
    turn.change(json!({ "automationLevel": "HumanOversight" })).await;
    turn.kubelet.stages(well);
    let promote = turn.waits("eta-1", "Promote").await;
    assert_eq!(promote["status"]["level"], "HumanOversight");
    turn.decide(&promote, "yes", "Approve").await;
    turn.ended("eta-1", "Registered").await;
    turn.finish().await;
}

#[tokio::test]
async fn cluster_an_approval_that_names_other_evidence_does_not_count() {
    let turn = turn(fast("runstale").await, json!({ "automationLevel": "HumanOversight" })).await;
    turn.ask("eta-1").await;
    let right = turn.waits("eta-1", "Promote").await;
    let mut wrong = right.clone();
    wrong["status"]["waitingFor"]["evidenceDigest"] = json!(format!("sha256:{}", "0".repeat(64)));
    turn.decide(&wrong, "wrong", "Approve").await;
    let stale = |o: &Value| o["status"]["waitingFor"]["stale"] == json!(["wrong"]);
    turn.until::<FlywheelRun>("eta-1", PATIENCE, "stale", stale).await;
    turn.decide(&right, "right", "Approve").await;
    turn.ended("eta-1", "Registered").await;
    turn.finish().await;
}

#[tokio::test]
async fn cluster_the_brake_and_the_ceiling_of_the_administrator_hold_runs() {
    let turn = turn(alone("ceiling").await, json!({})).await;
    turn.settings(json!({ "automationCeiling": "HumanOversight" })).await;
    turn.ask("eta-1").await;
    turn.waits("eta-1", "Promote").await;
    turn.cancel("eta-1").await;
    turn.ended("eta-1", "Cancelled").await;
    turn.settings(json!({ "brake": { "engaged": true, "reason": "audit" } }))
        .await;
    turn.ask("eta-2").await;
    let braked = |o: &Value| is(o, "Braked", "True");
    turn.until::<FlywheelRun>("eta-2", PATIENCE, "braked", braked).await;
    calm(1).await;
    turn.settings(json!({})).await;
    turn.ended("eta-2", "Registered").await;
    turn.finish().await;
}

#[tokio::test]
async fn cluster_the_first_promotion_without_a_constant_gate_waits_for_a_person_at_every_level() {
    let gates = json!([{ "name": "error", "metric": "mae", "direction": "Minimize", "compareTo": "LiveVersion" }]);
    let plan = super::turn::delivery();
    let turn = turn(fast("firstone").await, json!({ "gates": gates, "rollout": plan })).await;
    turn.serve(1).await;
    turn.ask("eta-1").await;
    let first = turn.waits("eta-1", "Promote").await;
    assert!(condition(&first, "Complete", "False", "Running"));
    turn.decide(&first, "yes", "Approve").await;
    turn.ended("eta-1", "Promoted").await;
    turn.finish().await;
}
