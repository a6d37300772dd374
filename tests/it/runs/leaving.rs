//! Cancelled and deleted: in each stage, foreground and background; what serves goes on serving.

use flywheel_api::{FlywheelPipeline, FlywheelRun, ModelVersion, Rollout};
use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment};
use k8s_openapi::api::batch::v1::Job;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use super::turn::{Turn, delivery, turn, until, well};
use crate::fast::fast;
use crate::rollout::scene::PATIENCE;

/// A pipeline at the given point of a run; its version goes out in a step that is only left by hand.
async fn at(test: &str, point: &str) -> Turn {
    let mut plan = delivery();
    plan["strategy"]["steps"][0]["minDuration"] = json!("1h");
    let level = if point == "approval" {
        "HumanOversight"
    } else {
        "FullyAutomated"
    };
    let turn = turn(fast(test).await, json!({ "rollout": plan, "automationLevel": level })).await;
    turn.serve(1).await;
    reach(&turn, "eta-1", point).await;
    turn
}

async fn reach(turn: &Turn, run: &str, point: &str) {
    match point {
        "train" => turn.kubelet.stages(until("train")),
        "evaluate" => turn.kubelet.stages(until("evaluate")),
        _ => turn.kubelet.stages(well),
    }
    turn.ask(run).await;
    match point {
        "train" => drop(turn.running(run, 0).await),
        "evaluate" => drop(turn.running(run, 1).await),
        "approval" => drop(turn.waits(run, "Promote").await),
        _ => {
            let rolling = |o: &Value| o["status"]["rollout"]["uid"].is_string();
            let found = turn.until::<FlywheelRun>(run, PATIENCE, "rolling out", rolling).await;
            let rollout = found["status"]["rollout"]["name"]
                .as_str()
                .expect("a Rollout")
                .to_owned();
            let holding = |o: &Value| o["status"]["step"]["holdReason"] == "MinDuration";
            turn.until::<Rollout>(&rollout, PATIENCE, "holding", holding).await;
        }
    }
}

/// The run is cancelled: its Jobs stop, its Rollout goes back.
async fn cancelled(test: &str, point: &str) {
    let turn = at(test, point).await;
    turn.cancel("eta-1").await;
    turn.ended("eta-1", "Cancelled").await;
    turn.left::<Deployment>(&["web"]).await;
    assert_eq!(turn.served().await, Value::Null);
    let active = turn.api::<Job>().list(&Default::default()).await.expect("Jobs");
    let running = active
        .items
        .iter()
        .filter(|j| j.status.as_ref().and_then(|s| s.active).unwrap_or(0) > 0);
    assert_eq!(running.count(), 0);
    turn.finish().await;
}

#[tokio::test]
async fn cluster_a_run_is_cancelled_while_it_trains() {
    cancelled("canceltrain", "train").await;
}

#[tokio::test]
async fn cluster_a_run_is_cancelled_while_it_evaluates() {
    cancelled("cancelevaluate", "evaluate").await;
}

#[tokio::test]
async fn cluster_a_run_is_cancelled_while_it_waits_for_a_person() {
    cancelled("cancelapproval", "approval").await;
}

#[tokio::test]
async fn cluster_a_run_is_cancelled_while_it_rolls_out() {
    cancelled("cancelrollout", "rollout").await;
}

/// The pipeline is deleted, both ways one after the other: nothing of its runs is left, and the target is as before.
async fn pipeline_deleted(test: &str, point: &str) {
    let turn = at(test, point).await;
    for (number, params) in [DeleteParams::foreground(), DeleteParams::background()]
        .into_iter()
        .enumerate()
    {
        if number > 0 {
            let mut plan = delivery();
            plan["strategy"]["steps"][0]["minDuration"] = json!("1h");
            let level = if point == "approval" {
                "HumanOversight"
            } else {
                "FullyAutomated"
            };
            turn.pipeline("eta", json!({ "rollout": plan, "automationLevel": level }))
                .await;
            reach(&turn, "again", point).await;
        }
        turn.api::<FlywheelPipeline>()
            .delete("eta", &params)
            .await
            .expect("deleted");
        turn.left::<FlywheelPipeline>(&[]).await;
        turn.left::<FlywheelRun>(&[]).await;
        turn.left::<Job>(&[]).await;
        turn.left::<ControllerRevision>(&[]).await;
        turn.left::<Deployment>(&["web"]).await;
        assert_eq!(turn.served().await, Value::Null);
        for name in turn.names::<Rollout>().await {
            let over = |o: &Value| o["status"]["phase"] == "RolledBack";
            turn.until::<Rollout>(&name, PATIENCE, "rolled back", over).await;
        }
    }
    turn.finish().await;
}

#[tokio::test]
async fn cluster_a_pipeline_is_deleted_while_a_run_trains() {
    pipeline_deleted("pipetrain", "train").await;
}

#[tokio::test]
async fn cluster_a_pipeline_is_deleted_while_a_run_waits_for_a_person() {
    pipeline_deleted("pipeapproval", "approval").await;
}

#[tokio::test]
async fn cluster_a_pipeline_is_deleted_while_a_run_rolls_out() {
    pipeline_deleted("piperollout", "rollout").await;
}

#[tokio::test]
async fn cluster_a_run_is_deleted_while_it_trains_and_takes_its_jobs_along() {
    let turn = at("runtrain", "train").await;
    for (name, params) in [
        ("eta-1", DeleteParams::foreground()),
        ("eta-2", DeleteParams::background()),
    ] {
        if name != "eta-1" {
            reach(&turn, name, "train").await;
        }
        turn.api::<FlywheelRun>().delete(name, &params).await.expect("deleted");
        turn.left::<FlywheelRun>(&[]).await;
        turn.left::<Job>(&[]).await;
    }
    turn.left::<ModelVersion>(&[]).await;
    turn.finish().await;
}

#[tokio::test]
async fn cluster_a_run_that_is_deleted_while_it_rolls_out_leaves_the_rollout_to_its_plan() {
    let turn = at("runrollout", "rollout").await;
    turn.api::<FlywheelRun>()
        .delete("eta-1", &DeleteParams::foreground())
        .await
        .expect("deleted");
    turn.left::<FlywheelRun>(&[]).await;
    let patch = kube::api::Patch::Merge(json!({ "spec": { "desiredState": "Promote" } }));
    turn.api::<Rollout>()
        .patch("eta-1", &Default::default(), &patch)
        .await
        .expect("accepted");
    let promoted = |o: &Value| o["status"]["phase"] == "Promoted";
    turn.until::<Rollout>("eta-1", PATIENCE, "promoted", promoted).await;
    turn.left::<ModelVersion>(&["eta-1"]).await;
    turn.left::<Deployment>(&["web"]).await;
    assert!(turn.served().await.is_string());
    turn.finish().await;
}
