//! What the API server cannot know when a spec is applied: the status says it, with the field and the remedy.

use flywheel_api::{FlywheelPipeline, FlywheelRun};
use k8s_openapi::api::core::v1::ResourceQuota;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::fast::alone;
use crate::world::{World, api, condition, pipeline, run};

/// Wrong specs of the tests below.
pub(super) const COUNT: usize = 6;

/// The messages of all conditions.
fn said(object: &Value) -> String {
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions
        .iter()
        .filter_map(|c| c["message"].as_str())
        .collect::<Vec<_>>()
        .join(" ")
}

async fn stalls(world: &World, object: Value, reason: &str, words: &[&str]) {
    world
        .apply::<FlywheelPipeline>("eta", object)
        .await
        .expect("accepted by the schema");
    let stalled = world
        .until::<FlywheelPipeline>("eta", 30, "stalled", |o| condition(o, "Stalled", "True", reason))
        .await;
    assert!(condition(&stalled, "Accepted", "False", reason), "{stalled:#}");
    assert!(condition(&stalled, "Ready", "False", reason), "{stalled:#}");
    for word in words {
        assert!(said(&stalled).contains(word), "{word} is not in {}", said(&stalled));
    }
}

#[tokio::test]
async fn cluster_schedules_that_never_come_are_stalled_with_their_remedy() {
    let schedules = [
        json!({ "cron": "0 25 * * *" }),
        json!({ "cron": "0 3 * * 9" }),
        json!({ "cron": "0 3 30 2 *" }),
        json!({ "cron": "0 3 L * *" }),
        json!({ "cron": "0 3 * * 1", "timeZone": "Mars/Olympus" }),
    ];
    for (number, schedule) in schedules.into_iter().enumerate() {
        let world = api(&format!("later-schedule-{number}")).await;
        let mut object = pipeline("eta", "example/eta");
        object["spec"]["triggers"] = json!([{ "name": "never", "type": "Schedule", "schedule": schedule }]);
        stalls(
            &world,
            object,
            "InvalidSchedule",
            &[
                "spec.triggers[never].schedule",
                "such as \"0 3 * * 1\"",
                "Europe/Zurich",
            ],
        )
        .await;
    }
}

#[tokio::test]
async fn cluster_a_provider_that_nobody_declared_is_stalled_with_those_that_are() {
    let world = api("later-provider").await;
    let mut object = pipeline("eta", "example/eta");
    object["spec"]["triggers"] = json!([{ "name": "drift", "type": "Metric", "metric": {
        "providerRef": { "name": "nobodys" }, "query": "1", "operator": "LessThan", "value": "1" } }]);
    let words = ["spec.triggers[drift].metric.providerRef", "nobodys", "declared: "];
    stalls(&world, object, "ProviderNotFound", &words).await;
}

#[tokio::test]
async fn cluster_a_run_and_a_pipeline_without_artifact_store_say_where_to_set_it() {
    let world = alone("later-store").await;
    world.settings(json!({ "artifacts": null })).await;
    let mut object = pipeline("eta", "example/eta");
    object["spec"].as_object_mut().expect("a spec").remove("artifacts");
    world.apply::<FlywheelPipeline>("eta", object).await.expect("accepted");
    world.apply::<FlywheelRun>("eta-1", run("eta")).await.expect("accepted");
    let stored = |o: &Value| condition(o, "Stalled", "True", "NoArtifactStore");
    let run = world.until::<FlywheelRun>("eta-1", 30, "stalled", stored).await;
    let pipeline = world.until::<FlywheelPipeline>("eta", 30, "stalled", stored).await;
    for stalled in [run, pipeline] {
        let said = said(&stalled);
        assert!(said.contains("set spec.artifacts.uri of the pipeline"), "{said}");
    }
    // What the administrator mends heals by itself.
    world.settings(json!({})).await;
    let well = |o: &Value| condition(o, "Ready", "True", "Running");
    world.until::<FlywheelPipeline>("eta", 30, "ready", well).await;
}

#[tokio::test]
async fn cluster_a_run_whose_job_exceeds_a_quota_says_so_and_goes_on_when_there_is_room() {
    let world = api("later-quota").await;
    let quota = json!({ "spec": { "hard": { "count/jobs.batch": "0" } } });
    world.apply::<ResourceQuota>("small", quota).await.expect("a quota");
    let object = pipeline("eta", "example/eta");
    world.apply::<FlywheelPipeline>("eta", object).await.expect("accepted");
    world.apply::<FlywheelRun>("eta-1", run("eta")).await.expect("accepted");
    let refused = |o: &Value| condition(o, "Stalled", "True", "WriteRefused");
    let stalled = world.until::<FlywheelRun>("eta-1", 60, "stalled", refused).await;
    let message = said(&stalled);
    assert!(
        message.contains("small") && message.contains("count/jobs.batch"),
        "{message}"
    );
    let quotas = world.api::<ResourceQuota>();
    quotas.delete("small", &DeleteParams::default()).await.expect("a quota");
    let runs = |o: &Value| condition(o, "Reconciling", "True", "StageRunning");
    world.until::<FlywheelRun>("eta-1", 60, "at work", runs).await;
}

#[tokio::test]
async fn cluster_a_pipeline_whose_run_exceeds_a_quota_says_so_and_turns_when_there_is_room() {
    let world = api("later-quota-runs").await;
    let quota = json!({ "spec": { "hard": { "count/flywheelruns.flywheel.dev": "0" } } });
    world.apply::<ResourceQuota>("small", quota).await.expect("a quota");
    let counts = |o: &Value| o["status"]["hard"].is_object();
    world.until::<ResourceQuota>("small", 60, "enforced", counts).await;
    let mut object = pipeline("eta", "example/eta");
    object["spec"]["triggers"] = json!([{ "name": "often", "type": "Schedule", "schedule": { "cron": "* * * * *" } }]);
    world.apply::<FlywheelPipeline>("eta", object).await.expect("accepted");
    let refused = |o: &Value| condition(o, "Stalled", "True", "WriteRefused");
    let stalled = world.until::<FlywheelPipeline>("eta", 120, "stalled", refused).await;
    let message = said(&stalled);
    assert!(
        message.contains("trigger often starts run eta-1") && message.contains("count/flywheelruns.flywheel.dev"),
        "{message}"
    );
    let quotas = world.api::<ResourceQuota>();
    quotas.delete("small", &DeleteParams::default()).await.expect("a quota");
    let well = |o: &Value| condition(o, "Ready", "True", "Running");
    world.until::<FlywheelPipeline>("eta", 120, "turning", well).await;
}

#[tokio::test]
async fn cluster_a_run_of_no_pipeline_says_what_is_missing() {
    let world = api("later-pipeline").await;
    world
        .apply::<FlywheelRun>("eta-1", run("nobodys"))
        .await
        .expect("accepted");
    let waits = world
        .until::<FlywheelRun>("eta-1", 30, "reconciling", |o| {
            condition(o, "Reconciling", "True", "PipelineNotFound")
        })
        .await;
    assert!(
        said(&waits).contains("spec.pipelineRef names FlywheelPipeline nobodys, which does not exist: create it"),
        "{}",
        said(&waits)
    );
}
