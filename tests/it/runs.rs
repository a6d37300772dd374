//! Pipelines and runs on an API server: what they say, and in which order things happen.

mod failures;
mod leaving;
mod levels;
mod order;
mod restored;
pub mod turn;
mod whole;

use flywheel_api::{BiasPolicy, FlywheelPipeline, FlywheelRun};
use k8s_openapi::api::batch::v1::Job;
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::world::{api, condition, pipeline, run};

#[tokio::test]
async fn cluster_a_pipeline_becomes_ready_and_shows_its_level() {
    let world = api("ready").await;
    world
        .apply::<FlywheelPipeline>("eta", pipeline("eta", "example/eta"))
        .await
        .expect("accepted");
    let ready = world
        .until::<FlywheelPipeline>("eta", 20, "ready", |o| condition(o, "Ready", "True", "Idle"))
        .await;
    assert_eq!(ready["status"]["effectiveLevel"]["level"], "FullyAutomated");
    assert!(condition(&ready, "Accepted", "True", "Accepted"));
}

#[tokio::test]
async fn cluster_the_second_pipeline_of_a_model_is_stalled_and_heals() {
    let world = api("second").await;
    world
        .apply::<FlywheelPipeline>("a", pipeline("eta", "example/eta"))
        .await
        .expect("accepted");
    world
        .until::<FlywheelPipeline>("a", 20, "ready", |o| condition(o, "Ready", "True", "Idle"))
        .await;
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    world
        .apply::<FlywheelPipeline>("b", pipeline("eta", "example/eta"))
        .await
        .expect("accepted");
    let stalled = world
        .until::<FlywheelPipeline>("b", 20, "stalled", |o| condition(o, "Stalled", "True", "ModelTaken"))
        .await;
    assert!(condition(&stalled, "Accepted", "False", "ModelTaken"));
    world.apply::<FlywheelRun>("b-1", run("b")).await.expect("accepted");
    let waits = |o: &Value| condition(o, "Stalled", "True", "PipelineNotAccepted");
    world.until::<FlywheelRun>("b-1", 20, "waiting", waits).await;
    world
        .api::<FlywheelPipeline>()
        .delete("a", &kube::api::DeleteParams::default())
        .await
        .expect("deleted");
    world
        .until::<FlywheelPipeline>("b", 20, "accepted", |o| condition(o, "Accepted", "True", "Accepted"))
        .await;
    world
        .until::<FlywheelRun>("b-1", 20, "begun", |o| o["status"]["snapshot"].is_object())
        .await;
}

#[tokio::test]
async fn cluster_a_broken_schedule_is_stalled_with_its_remedy() {
    let world = api("schedule").await;
    let mut object = pipeline("eta", "example/eta");
    object["spec"]["triggers"] = json!([{ "name": "never", "type": "Schedule", "schedule": { "cron": "0 25 * * *" } }]);
    world
        .apply::<FlywheelPipeline>("eta", object)
        .await
        .expect("accepted by the schema");
    let stalled = world
        .until::<FlywheelPipeline>("eta", 20, "stalled", |o| {
            condition(o, "Stalled", "True", "InvalidSchedule")
        })
        .await;
    assert!(
        stalled["status"]["conditions"]
            .to_string()
            .contains("spec.triggers[never].schedule")
    );
}

#[tokio::test]
async fn cluster_a_schedule_starts_a_run_and_a_run_without_pipeline_waits_for_it() {
    let world = api("trigger").await;
    world.apply::<FlywheelRun>("early", run("eta")).await.expect("accepted");
    world
        .until::<FlywheelRun>("early", 20, "reconciling", |o| {
            condition(o, "Reconciling", "True", "PipelineNotFound")
        })
        .await;
    let mut object = pipeline("eta", "example/eta");
    object["spec"]["triggers"] =
        json!([{ "name": "minutely", "type": "Schedule", "schedule": { "cron": "* * * * *" } }]);
    object["spec"]["cadence"] = json!({ "concurrencyPolicy": "Queue" });
    world.apply::<FlywheelPipeline>("eta", object).await.expect("accepted");
    let begun = world
        .until::<FlywheelRun>("early", 20, "begun", |o| {
            o["status"]["stages"][0]["job"]["uid"].is_string()
        })
        .await;
    assert_eq!(begun["metadata"]["ownerReferences"][0]["kind"], "FlywheelPipeline");
    let busy = world
        .until::<FlywheelPipeline>("eta", 80, "queued", |o| o["status"]["queuedTrigger"] == "minutely")
        .await;
    assert_eq!(busy["status"]["activeRun"]["name"], "early");
    world
        .api::<FlywheelRun>()
        .patch(
            "early",
            &kube::api::PatchParams::default(),
            &kube::api::Patch::Merge(json!({ "spec": { "desiredState": "Cancel" } })),
        )
        .await
        .expect("cancelled");
    world
        .until::<FlywheelRun>("early", 20, "cancelled", |o| {
            condition(o, "Complete", "True", "Cancelled")
        })
        .await;
    world
        .until::<FlywheelRun>("eta-1", 20, "begun", |o| {
            o["status"]["stages"][0]["job"]["uid"].is_string()
        })
        .await;
    let jobs = world.api::<Job>().list(&ListParams::default()).await.expect("listed");
    assert_eq!(
        jobs.items
            .iter()
            .filter(|j| j.metadata.deletion_timestamp.is_none())
            .count(),
        1,
        "the cancelled Job is gone"
    );
}

#[tokio::test]
async fn cluster_semi_automated_training_waits_for_a_person_and_old_evidence_does_not_count() {
    let world = api("train").await;
    let mut object = pipeline("eta", "example/eta");
    object["spec"]["automationLevel"] = json!("SemiAutomated");
    world.apply::<FlywheelPipeline>("eta", object).await.expect("accepted");
    world.apply::<FlywheelRun>("eta-1", run("eta")).await.expect("accepted");
    let waits = world
        .until::<FlywheelRun>("eta-1", 20, "waiting", |o| o["status"]["waitingFor"]["gate"] == "Train")
        .await;
    assert!(condition(&waits, "Ready", "True", "AwaitingApproval"));
    let waiting = waits["status"]["waitingFor"].clone();
    let approval = |digest: Value| json!({ "spec": { "subjectRef": waiting["subject"], "gate": "Train", "decision": "Approve", "evidenceDigest": digest, "approver": "admin" } });
    let other = json!(format!("sha256:{}", "0".repeat(64)));
    world
        .apply::<flywheel_api::Approval>("stale", approval(other))
        .await
        .expect("accepted");
    world
        .until::<FlywheelRun>("eta-1", 20, "told of the stale one", |o| {
            o["status"]["waitingFor"]["stale"][0] == "stale"
        })
        .await;
    world
        .apply::<flywheel_api::Approval>("good", approval(waiting["evidenceDigest"].clone()))
        .await
        .expect("accepted");
    let begun = world
        .until::<FlywheelRun>("eta-1", 20, "begun", |o| {
            o["status"]["stages"][0]["job"]["uid"].is_string()
        })
        .await;
    assert_eq!(begun["status"]["approvals"][0]["name"], "good");
}

#[tokio::test]
async fn cluster_a_bias_policy_counts_its_pipelines() {
    let world = api("bias").await;
    let mut object = pipeline("eta", "example/eta");
    object["metadata"]["labels"] = json!({ "team": "eta" });
    world.apply::<FlywheelPipeline>("eta", object).await.expect("accepted");
    let policy = json!({ "spec": {
        "modelSelector": { "matchLabels": { "team": "eta" } },
        "maxAutomationLevel": "HumanOversight",
        "protectedAttributes": [{ "name": "region" }],
        "objectives": [{ "name": "gap", "metric": "mae", "compare": "Difference", "limit": { "max": "1" } }]
    }});
    world.apply::<BiasPolicy>("fair", policy).await.expect("accepted");
    world
        .until::<BiasPolicy>("fair", 20, "counted", |o| o["status"]["pipelines"] == 1)
        .await;
    world
        .until::<FlywheelPipeline>("eta", 20, "capped", |o| {
            o["status"]["effectiveLevel"]["reason"] == "BiasPolicyCap"
        })
        .await;
}
