//! Which run begins when: queue, cap, triggers, suspension.

use flywheel_api::{FlywheelPipeline, FlywheelRun};
use serde_json::{Value, json};

use super::turn::{turn, until, well};
use crate::fast::{Answer, fast};
use crate::rollout::scene::{PATIENCE, calm, is};
use crate::world::{condition, run};

fn metric(query: &str) -> Value {
    json!([{ "name": "drift", "type": "Metric", "metric": { "providerRef": { "name": "fake" },
        "query": format!("{query} $sinceLastRun"), "operator": "GreaterThan", "value": "1", "interval": "1s" } }])
}

#[tokio::test]
async fn cluster_runs_of_one_pipeline_go_one_after_the_other() {
    let turn = turn(fast("oneafter").await, json!({})).await;
    turn.kubelet.stages(until("train"));
    turn.ask("eta-1").await;
    turn.running("eta-1", 0).await;
    turn.ask("eta-2").await;
    let queued = |o: &Value| condition(o, "Ready", "True", "Queued");
    turn.until::<FlywheelRun>("eta-2", PATIENCE, "queued", queued).await;
    turn.kubelet.stages(well);
    turn.ended("eta-1", "Registered").await;
    turn.ended("eta-2", "Registered").await;
    turn.finish().await;
}

#[tokio::test]
async fn cluster_a_full_namespace_makes_further_runs_wait() {
    let turn = turn(fast("full").await, json!({})).await;
    turn.kubelet.stages(until("train"));
    for name in ["a", "b", "c", "d", "e"] {
        turn.pipeline(name, json!({ "model": { "name": name } })).await;
        turn.apply::<FlywheelRun>(name, run(name)).await.expect("accepted");
        if name != "e" {
            turn.running(name, 0).await;
        }
    }
    let waits = |o: &Value| condition(o, "Ready", "True", "NamespaceFull");
    turn.until::<FlywheelRun>("e", PATIENCE, "waiting", waits).await;
    turn.cancel("a").await;
    turn.running("e", 0).await;
    turn.finish().await;
}

#[tokio::test]
async fn cluster_a_missed_schedule_starts_one_run() {
    let triggers = json!([{ "name": "daily", "type": "Schedule", "schedule": { "cron": "*/5 * * * *" } }]);
    let turn = turn(fast("missed").await, json!({ "triggers": triggers })).await;
    let ready = |o: &Value| o["status"]["nextScheduleTime"].is_string();
    turn.until::<FlywheelPipeline>("eta", PATIENCE, "scheduled", ready)
        .await;
    let past = jiff::Timestamp::now() - jiff::SignedDuration::from_mins(20);
    let past = json!(past.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    turn.rewrite::<FlywheelPipeline>("eta", |status| status["lastScheduleTime"] = past.clone())
        .await;
    let made = turn.ended("eta-1", "Registered").await;
    assert_eq!(made["spec"]["trigger"], json!({ "name": "daily", "type": "Schedule" }));
    assert!(made["metadata"]["ownerReferences"][0]["name"] == "eta");
    calm(2).await;
    turn.left::<FlywheelRun>(&["eta-1"]).await;
    turn.finish().await;
}

#[tokio::test]
async fn cluster_a_metric_fires_once_and_not_again_during_its_run() {
    let turn = turn(fast("metric").await, json!({})).await;
    turn.say("drift", Answer::Nothing);
    turn.change(json!({ "triggers": metric(&turn.query("drift")) })).await;
    calm(3).await;
    turn.left::<FlywheelRun>(&[]).await;
    turn.kubelet.stages(until("train"));
    turn.say("drift", Answer::Number(2.0));
    let first = turn.running("eta-1", 0).await;
    assert_eq!(first["spec"]["trigger"]["type"], "Metric");
    calm(3).await;
    turn.left::<FlywheelRun>(&["eta-1"]).await;
    turn.say("drift", Answer::Number(0.0));
    turn.kubelet.stages(well);
    turn.ended("eta-1", "Registered").await;
    calm(3).await;
    turn.left::<FlywheelRun>(&["eta-1"]).await;
    turn.finish().await;
}

#[tokio::test]
async fn cluster_a_name_that_a_run_of_another_pipeline_bears_is_passed_over() {
    let turn = turn(fast("taken").await, json!({})).await;
    turn.pipeline("theta", json!({ "model": { "name": "theta" } })).await;
    turn.apply::<FlywheelRun>("eta-1", run("theta"))
        .await
        .expect("accepted");
    turn.ended("eta-1", "Registered").await;
    turn.kubelet.stages(until("train"));
    turn.say("drift", Answer::Number(2.0));
    turn.change(json!({ "triggers": metric(&turn.query("drift")) })).await;
    let made = turn.running("eta-2", 0).await;
    assert_eq!(made["spec"]["pipelineRef"]["name"], "eta");
    turn.say("drift", Answer::Number(0.0));
    turn.kubelet.stages(well);
    turn.ended("eta-2", "Registered").await;
    turn.left::<FlywheelRun>(&["eta-1", "eta-2"]).await;
    turn.finish().await;
}

#[tokio::test]
async fn cluster_a_trigger_waits_for_the_shortest_interval() {
    let turn = turn(fast("interval").await, json!({ "cadence": { "minInterval": "1h" } })).await;
    turn.say("drift", Answer::Number(2.0));
    turn.change(json!({ "triggers": metric(&turn.query("drift")) })).await;
    turn.ended("eta-1", "Registered").await;
    let waits = |o: &Value| condition(o, "Ready", "True", "MinInterval");
    turn.until::<FlywheelPipeline>("eta", PATIENCE, "waiting", waits).await;
    turn.ask("by-hand").await;
    turn.ended("by-hand", "Registered").await;
    turn.left::<FlywheelRun>(&["by-hand", "eta-1"]).await;
    turn.finish().await;
}

#[tokio::test]
async fn cluster_a_trigger_during_a_run_is_queued_if_the_policy_says_so() {
    let turn = turn(
        fast("queues").await,
        json!({ "cadence": { "concurrencyPolicy": "Queue" } }),
    )
    .await;
    turn.kubelet.stages(until("train"));
    turn.say("drift", Answer::Number(2.0));
    turn.ask("by-hand").await;
    turn.running("by-hand", 0).await;
    turn.change(json!({ "triggers": metric(&turn.query("drift")) })).await;
    let queued = |o: &Value| o["status"]["queuedTrigger"] == "drift";
    turn.until::<FlywheelPipeline>("eta", PATIENCE, "queued", queued).await;
    turn.say("drift", Answer::Number(0.0));
    turn.kubelet.stages(well);
    turn.ended("eta-1", "Registered").await;
    calm(2).await;
    turn.left::<FlywheelRun>(&["by-hand", "eta-1"]).await;
    turn.finish().await;
}

#[tokio::test]
async fn cluster_a_suspended_pipeline_starts_nothing() {
    let turn = turn(fast("suspended").await, json!({ "suspend": true })).await;
    turn.say("drift", Answer::Number(2.0));
    turn.change(json!({ "triggers": metric(&turn.query("drift")) })).await;
    turn.ask("by-hand").await;
    turn.ended("by-hand", "Skipped").await;
    let suspended = |o: &Value| condition(o, "Ready", "True", "Suspended");
    turn.until::<FlywheelPipeline>("eta", PATIENCE, "suspended", suspended)
        .await;
    turn.left::<FlywheelRun>(&["by-hand"]).await;
    turn.change(json!({ "suspend": false })).await;
    turn.ended("eta-1", "Registered").await;
    turn.finish().await;
}

#[tokio::test]
async fn cluster_a_live_version_that_grows_old_is_not_fresh() {
    let cadence = json!({ "cadence": { "maxInterval": "5s" }, "rollout": super::turn::delivery() });
    let turn = turn(fast("fresh").await, cadence).await;
    turn.serve(1).await;
    turn.ask("eta-1").await;
    turn.ended("eta-1", "Promoted").await;
    let stale = |o: &Value| is(o, "Fresh", "False") && o["status"]["liveVersion"]["name"] == "eta-1";
    turn.until::<FlywheelPipeline>("eta", PATIENCE, "stale", stale).await;
    turn.finish().await;
}
