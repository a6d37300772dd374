//! The statuses of what stays when runs are forgotten are lost at once, as after a restore of a backup without them. That
//! of a run that ended cannot be rebuilt: its Jobs are gone.

use std::fmt::Debug;

use flywheel_api::{BiasPolicy, FlywheelPipeline, FlywheelRun, ModelVersion, Rollout};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::batch::v1::Job;
use kube::api::ListParams;
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::turn::{Turn, delivery, fair, turn};
use crate::fast::fast;
use crate::rollout::scene::{PATIENCE, is};

async fn uids<K>(turn: &Turn) -> Vec<String>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let all = turn.api::<K>().list(&ListParams::default()).await.expect("a list");
    all.items.iter().filter_map(ResourceExt::uid).collect()
}

/// What exists, by UIDs: what is made twice, or anew, shows.
async fn made(turn: &Turn) -> Vec<String> {
    let (jobs, rollouts) = (uids::<Job>(turn).await, uids::<Rollout>(turn).await);
    let (versions, runs) = (uids::<ModelVersion>(turn).await, uids::<FlywheelRun>(turn).await);
    let mut uids = [jobs, rollouts, versions, runs].concat();
    uids.sort();
    uids
}

#[tokio::test]
async fn cluster_when_statuses_are_lost_at_once_the_same_version_is_live_and_nothing_is_made_again() {
    let spec = json!({ "rollout": delivery(), "biasPolicies": [{ "name": "fair" }] });
    let turn = turn(fast("restored").await, spec).await;
    turn.apply::<BiasPolicy>("fair", fair()).await.expect("accepted");
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
