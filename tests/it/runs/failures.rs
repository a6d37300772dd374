//! Stages that fail: what is tried again, and what is not.

use flywheel_api::{FlywheelPipeline, FlywheelRun};
use k8s_openapi::api::batch::v1::Job;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use super::turn::{trained, turn, until, well};
use crate::fast::{Ending, fast};
use crate::rollout::scene::PATIENCE;
use crate::world::condition;

/// The train stage with this retry and this timeout.
fn patient(limit: i32, timeout: i32) -> Value {
    json!({ "stages": [
        { "name": "train", "type": "Train", "image": "example/stage:1", "runAsUser": 65532, "timeoutSeconds": timeout,
          "retry": { "limit": limit, "backoff": "1s" } },
        { "name": "evaluate", "type": "Evaluate", "image": "example/stage:1", "runAsUser": 65532 } ] })
}

#[tokio::test]
async fn cluster_a_failure_of_the_infrastructure_is_tried_again() {
    let turn = turn(fast("evicted").await, patient(2, 600)).await;
    turn.kubelet.stages(|file| {
        if file["stage"] == "train" && file["attempt"] == 1 {
            Ending::Evicted
        } else {
            well(file)
        }
    });
    turn.ask("eta-1").await;
    let done = turn.ended("eta-1", "Registered").await;
    assert_eq!(done["status"]["stages"][0]["attempt"], 2);
    let retried = done["status"]["decisions"].as_array().into_iter().flatten();
    assert_eq!(
        retried
            .filter(|d| d["decision"] == "RetryStage" && d["reason"] == "Evicted")
            .count(),
        1
    );
    turn.finish().await;
}

#[tokio::test]
async fn cluster_a_failure_of_the_application_is_not_tried_again() {
    let turn = turn(fast("exits").await, patient(2, 600)).await;
    turn.kubelet.stages(|_| Ending::Exit(3, String::new()));
    turn.ask("eta-1").await;
    let failed = turn.ended("eta-1", "Failed").await;
    assert_eq!(failed["status"]["stages"][0]["attempt"], 1);
    assert_eq!(failed["status"]["stages"][0]["failure"]["reason"], "ExitCode");
    assert!(condition(&failed, "Stalled", "True", "Failed"));
    let told = |o: &Value| condition(o, "LastRunSucceeded", "False", "Failed");
    turn.until::<FlywheelPipeline>("eta", PATIENCE, "told", told).await;
    turn.finish().await;
}

#[tokio::test]
async fn cluster_retries_end() {
    let turn = turn(fast("alwaysevicted").await, patient(1, 600)).await;
    turn.kubelet.stages(|_| Ending::Evicted);
    turn.ask("eta-1").await;
    let failed = turn.ended("eta-1", "Failed").await;
    assert_eq!(failed["status"]["stages"][0]["attempt"], 2);
    assert_eq!(failed["status"]["stages"][0]["failure"]["class"], "Infrastructure");
    turn.finish().await;
}

#[tokio::test]
async fn cluster_a_stage_that_takes_too_long_fails() {
    let turn = turn(fast("slow").await, patient(0, 5)).await;
    turn.kubelet.stages(until("train"));
    turn.ask("eta-1").await;
    let failed = turn.ended("eta-1", "Failed").await;
    assert_eq!(failed["status"]["stages"][0]["failure"]["reason"], "DeadlineExceeded");
    turn.finish().await;
}

#[tokio::test]
async fn cluster_a_result_that_is_missing_broken_or_foreign_is_never_a_success() {
    let turn = turn(fast("results").await, json!({})).await;
    let foreign = json!({ "apiVersion": "flywheel.dev/stage/v1alpha1", "id": "another/train/1" }).to_string();
    let cases = [
        (Ending::Exit(0, String::new()), "NoResult"),
        (Ending::Exit(0, "{ \"hello\": ".to_owned()), "BrokenResult"),
        (Ending::Exit(0, foreign), "BrokenResult"),
        (Ending::OutOfMemory, "OOMKilled"),
    ];
    for (number, (ending, reason)) in cases.into_iter().enumerate() {
        turn.kubelet.stages(move |_| ending.clone());
        let name = format!("eta-{}", number + 1);
        turn.ask(&name).await;
        let failed = turn.ended(&name, "Failed").await;
        assert_eq!(failed["status"]["stages"][0]["failure"]["reason"], reason);
    }
    turn.finish().await;
}

#[tokio::test]
async fn cluster_a_job_that_is_deleted_by_hand_is_made_again_as_another_attempt() {
    let turn = turn(fast("jobgone").await, patient(1, 600)).await;
    turn.kubelet.stages(until("train"));
    turn.ask("eta-1").await;
    let running = turn.running("eta-1", 0).await;
    let job = running["status"]["stages"][0]["job"]["name"]
        .as_str()
        .expect("a Job")
        .to_owned();
    turn.api::<Job>()
        .delete(&job, &DeleteParams::background())
        .await
        .expect("deleted");
    let again = |o: &Value| o["status"]["stages"][0]["attempt"] == 2;
    turn.until::<FlywheelRun>("eta-1", PATIENCE, "tried again", again).await;
    turn.kubelet.stages(well);
    turn.ended("eta-1", "Registered").await;
    turn.finish().await;
}

#[tokio::test]
async fn cluster_a_finished_stage_never_runs_again_because_its_job_is_gone() {
    let turn = turn(fast("jobforgotten").await, json!({})).await;
    turn.kubelet.stages(until("evaluate"));
    turn.ask("eta-1").await;
    let running = turn.running("eta-1", 1).await;
    let job = running["status"]["stages"][0]["job"]["name"]
        .as_str()
        .expect("a Job")
        .to_owned();
    turn.api::<Job>()
        .delete(&job, &DeleteParams::background())
        .await
        .expect("deleted");
    turn.kubelet.stages(|file| {
        if file["stage"] == "train" {
            Ending::Exit(9, String::new())
        } else {
            well(file)
        }
    });
    let done = turn.ended("eta-1", "Registered").await;
    assert_eq!(done["status"]["stages"][0]["attempt"], 1);
    turn.finish().await;
}

#[tokio::test]
async fn cluster_a_lost_status_goes_on_with_the_jobs_that_exist() {
    let turn = turn(fast("lostrun").await, json!({ "automationLevel": "HumanOversight" })).await;
    turn.kubelet.stages(until("train"));
    turn.ask("eta-1").await;
    let running = turn.running("eta-1", 0).await;
    let job = running["status"]["stages"][0]["job"]["name"].clone();
    turn.rewrite::<FlywheelRun>("eta-1", |status| *status = json!({})).await;
    let again = turn.running("eta-1", 0).await;
    assert_eq!(again["status"]["stages"][0]["job"]["name"], job);
    turn.kubelet.stages(|file| {
        if file["stage"] == "train" {
            trained(file)
        } else {
            well(file)
        }
    });
    let waiting = turn.waits("eta-1", "Promote").await;
    turn.rewrite::<FlywheelRun>("eta-1", |status| *status = json!({})).await;
    let waiting_again = turn.waits("eta-1", "Promote").await;
    let digest = |o: &Value| o["status"]["waitingFor"]["evidenceDigest"].clone();
    assert_eq!(
        digest(&waiting),
        digest(&waiting_again),
        "what was approved still counts"
    );
    turn.decide(&waiting, "yes", "Approve").await;
    turn.ended("eta-1", "Registered").await;
    turn.left::<flywheel_api::ModelVersion>(&["eta-1"]).await;
    turn.finish().await;
}
