//! The whole loop: from a request to a version that serves, and the second turn that is held against it.

use flywheel_api::{BiasPolicy, FlywheelRun, ModelVersion, Rollout};
use k8s_openapi::api::apps::v1::Deployment;
use serde_json::{Value, json};

use super::turn::{delivery, evaluated, trained, turn, well};
use crate::fast::fast;
use crate::rollout::scene::{PATIENCE, is};
use crate::world::{condition, gap};

fn compared() -> Value {
    json!({ "rollout": delivery(), "gates": [
        { "name": "limit", "metric": "mae", "compareTo": "Constant", "max": "5" },
        { "name": "error", "metric": "mae", "direction": "Minimize", "compareTo": "LiveVersion" } ] })
}

#[tokio::test]
async fn cluster_a_better_version_is_promoted_and_a_worse_one_is_refused_before_it_gets_traffic() {
    let turn = turn(fast("whole").await, compared()).await;
    turn.serve(2).await;
    turn.ask("eta-1").await;
    turn.ended("eta-1", "Promoted").await;
    let live = |o: &Value| o["status"]["state"] == "Live" && is(o, "Live", "True");
    let first = turn.until::<ModelVersion>("eta-1", PATIENCE, "live", live).await;
    assert_eq!(turn.served().await, first["spec"]["artifact"]["uri"]);
    turn.ask("eta-2").await;
    let second = turn.ended("eta-2", "Promoted").await;
    assert_eq!(second["status"]["comparedWith"]["name"], "eta-1");
    assert_eq!(second["status"]["gates"][1]["verdict"], "Pass");
    let version = turn.until::<ModelVersion>("eta-2", PATIENCE, "live", live).await;
    assert_eq!(version["spec"]["parent"]["name"], "eta-1");
    let child = |o: &Value| o["status"]["children"] == json!(["eta-2"]) && o["status"]["state"] == "Superseded";
    turn.until::<ModelVersion>("eta-1", PATIENCE, "superseded", child).await;
    turn.kubelet.stages(|file| {
        if file["type"] == "Train" {
            trained(file)
        } else {
            evaluated(file, 2.0, 0.5)
        }
    });
    turn.ask("eta-3").await;
    let refused = turn.ended("eta-3", "Rejected").await;
    assert!(
        refused["status"]["outcomeReason"]
            .to_string()
            .contains("it must not be worse")
    );
    assert_eq!(turn.names::<Rollout>().await, ["eta-1", "eta-2"]);
    assert_eq!(turn.served().await, version["spec"]["artifact"]["uri"]);
    turn.finish().await;
}

#[tokio::test]
async fn cluster_a_bias_policy_refuses_a_version_whose_groups_differ() {
    let turn = turn(fast("biased").await, json!({})).await;
    turn.apply::<BiasPolicy>("fair", gap()).await.expect("accepted");
    turn.change(json!({ "biasPolicies": [{ "name": "fair" }] })).await;
    turn.ask("eta-1").await;
    let refused = turn.ended("eta-1", "Rejected").await;
    assert_eq!(refused["status"]["bias"][0]["verdict"], "Fail");
    turn.finish().await;
}

#[tokio::test]
async fn cluster_old_runs_and_versions_are_forgotten_but_never_what_serves_or_could_be_gone_back_to() {
    let history = json!({ "successfulRuns": 1, "failedRuns": 1, "modelVersions": 2 });
    let turn = turn(
        fast("history").await,
        json!({ "rollout": delivery(), "history": history }),
    )
    .await;
    turn.serve(1).await;
    for name in ["eta-1", "eta-2", "eta-3"] {
        turn.ask(name).await;
        turn.ended(name, "Promoted").await;
    }
    turn.left::<FlywheelRun>(&["eta-3"]).await;
    turn.left::<ModelVersion>(&["eta-2", "eta-3"]).await;
    turn.left::<Rollout>(&["eta-2", "eta-3"]).await;
    turn.ask("eta-4").await;
    turn.ended("eta-4", "Promoted").await;
    turn.left::<ModelVersion>(&["eta-3", "eta-4"]).await;
    turn.finish().await;
}

#[tokio::test]
async fn cluster_a_rollout_that_goes_back_ends_its_run_as_rolled_back() {
    let mut plan = delivery();
    plan["strategy"]["steps"][0]["minDuration"] = json!("1h");
    let turn = turn(fast("wentback").await, json!({ "rollout": plan })).await;
    turn.serve(1).await;
    turn.ask("eta-1").await;
    let holding = |o: &Value| o["status"]["step"]["holdReason"] == "MinDuration";
    turn.until::<Rollout>("eta-1", PATIENCE, "holding", holding).await;
    let waiting = |o: &Value| condition(o, "Ready", "True", "RollingOut");
    turn.until::<FlywheelRun>("eta-1", PATIENCE, "waiting", waiting).await;
    let patch = kube::api::Patch::Merge(json!({ "spec": { "desiredState": "Abort" } }));
    turn.api::<Rollout>()
        .patch("eta-1", &Default::default(), &patch)
        .await
        .expect("accepted");
    turn.ended("eta-1", "RolledBack").await;
    let back = |o: &Value| o["status"]["state"] == "RolledBack";
    turn.until::<ModelVersion>("eta-1", PATIENCE, "rolled back", back).await;
    assert_eq!(turn.served().await, Value::Null);
    assert_eq!(turn.names::<Deployment>().await, ["web"]);
    turn.kubelet.stages(well);
    turn.finish().await;
}
