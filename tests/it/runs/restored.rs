//! The statuses of what stays when runs are forgotten are lost at once, as after a restore of a backup without them. That
//! of a run that ended cannot be rebuilt: its Jobs are gone.

use flywheel_api::{BiasPolicy, FlywheelPipeline, FlywheelRun, ModelVersion, Rollout};
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::turn::{Turn, delivery, turn};
use crate::fast::fast;
use crate::rollout::scene::{PATIENCE, is};

/// What exists, with UIDs: what is made twice, or anew, shows.
async fn made(turn: &Turn) -> Vec<String> {
    let all = kube::api::ListParams::default();
    let jobs = turn.api::<Job>().list(&all).await.expect("jobs").items;
    let rollouts = turn.api::<Rollout>().list(&all).await.expect("rollouts").items;
    let versions = turn.api::<ModelVersion>().list(&all).await.expect("versions").items;
    let runs = turn.api::<FlywheelRun>().list(&all).await.expect("runs").items;
    let uids = jobs.iter().map(ResourceExt::uid);
    let uids = uids.chain(rollouts.iter().map(ResourceExt::uid));
    let uids = uids.chain(versions.iter().map(ResourceExt::uid));
    let mut uids: Vec<String> = uids.chain(runs.iter().map(ResourceExt::uid)).flatten().collect();
    uids.sort();
    uids
}

#[tokio::test]
async fn cluster_when_statuses_are_lost_at_once_the_same_version_is_live_and_nothing_is_made_again() {
    let policy = json!({ "spec": { "modelSelector": { "matchLabels": { "team": "eta" } },
        "protectedAttributes": [{ "name": "region", "groups": ["north", "south"] }],
        "objectives": [{ "name": "gap", "metric": "mae", "compare": "Difference", "limit": { "max": "2" } }] } });
    let spec = json!({ "rollout": delivery(), "biasPolicies": [{ "name": "fair" }] });
    let turn = turn(fast("restored").await, spec).await;
    turn.apply::<BiasPolicy>("fair", policy).await.expect("accepted");
    turn.serve(2).await;
    turn.ask("eta-1").await;
    turn.ended("eta-1", "Promoted").await;
    let live = |o: &Value| o["status"]["state"] == "Live" && is(o, "Live", "True");
    let version = turn.until::<ModelVersion>("eta-1", PATIENCE, "live", live).await;
    let knows = |o: &Value| {
        let status = &o["status"];
        status["liveVersion"]["name"] == "eta-1"
            && status["lastRun"]["name"] == "eta-1"
            && status["activeRun"].is_null()
    };
    let pipeline = turn.until::<FlywheelPipeline>("eta", PATIENCE, "at rest", knows).await;
    let policy = turn
        .until::<BiasPolicy>("fair", PATIENCE, "ready", |o| is(o, "Ready", "True"))
        .await;
    let before = made(&turn).await;

    turn.rewrite::<FlywheelPipeline>("eta", |status| *status = json!({}))
        .await;
    turn.rewrite::<BiasPolicy>("fair", |status| *status = json!({})).await;
    turn.rewrite::<ModelVersion>("eta-1", |status| *status = json!({}))
        .await;
    turn.rewrite::<Rollout>("eta-1", |status| *status = json!({})).await;

    let found = turn.until::<ModelVersion>("eta-1", PATIENCE, "live again", live).await;
    assert_eq!(found["spec"], version["spec"]);
    let again = turn
        .until::<FlywheelPipeline>("eta", PATIENCE, "at rest again", knows)
        .await;
    for field in ["lastRunNumber", "lastVersionNumber", "lastSuccessTime"] {
        assert_eq!(again["status"][field], pipeline["status"][field], "{field}");
    }
    let shown = |o: &Value| is(o, "Ready", "True") && o["status"]["pipelines"] == policy["status"]["pipelines"];
    turn.until::<BiasPolicy>("fair", PATIENCE, "ready again", shown).await;
    turn.until::<Rollout>("eta-1", PATIENCE, "promoted", |o| o["status"]["phase"] == "Promoted")
        .await;
    assert_eq!(made(&turn).await, before, "nothing is made again");
    assert_eq!(turn.served().await, version["spec"]["artifact"]["uri"]);
    turn.finish().await;
}
