//! Statuses are lost at once, as after a restore of a backup without them: at rest, and while a version is delivered. That
//! of a run that ended cannot be rebuilt if its Jobs are gone.

use std::fmt::Debug;

use flywheel_api::{BiasPolicy, FlywheelPipeline, FlywheelRun, ModelVersion, Rollout};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::turn::{Turn, delivery, fair, turn};
use crate::fast::fast;
use crate::rollout::scene::{PATIENCE, is, long, plan};

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

/// The statuses of all that exists are lost, as after a restore of a backup.
async fn lose_all(turn: &Turn) {
    async fn lose<K>(turn: &Turn)
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug + Serialize,
    {
        for name in turn.names::<K>().await {
            turn.rewrite::<K>(&name, |status| *status = json!({})).await;
        }
    }
    tokio::join!(
        lose::<FlywheelPipeline>(turn),
        lose::<FlywheelRun>(turn),
        lose::<ModelVersion>(turn),
        lose::<Rollout>(turn),
        lose::<BiasPolicy>(turn),
    );
}

/// A turn whose first version serves and whose second one is delivered to a half, where it stays.
async fn half_delivered(test: &str) -> Turn {
    let turn = turn(fast(test).await, json!({ "rollout": delivery() })).await;
    turn.apply::<BiasPolicy>("fair", fair()).await.expect("accepted");
    turn.serve(2).await;
    turn.ask("eta-1").await;
    turn.ended("eta-1", "Promoted").await;
    let live = |o: &Value| o["status"]["state"] == "Live";
    turn.until::<ModelVersion>("eta-1", PATIENCE, "live", live).await;
    turn.change(json!({ "rollout": plan(&[long("half", 50)], json!({})) }))
        .await;
    turn.ask("eta-2").await;
    turn.until::<Rollout>("eta-2", PATIENCE, "held", held).await;
    turn
}

fn held(rollout: &Value) -> bool {
    rollout["status"]["step"]["holdReason"] == "MinDuration"
}

/// After the loss the second version is where it was, and ends as a person wants it.
async fn goes_on_as(turn: &Turn, wanted: &str, phase: &str) {
    let (before, served) = (made(turn).await, turn.served().await);
    lose_all(turn).await;
    turn.until::<Rollout>("eta-2", PATIENCE, "held again", held).await;
    assert_eq!(turn.served().await, served, "what serves goes on serving");
    let patch = Patch::Merge(json!({ "spec": { "desiredState": wanted, "holdReason": "asked by a test" } }));
    let rollouts = turn.api::<Rollout>();
    rollouts
        .patch("eta-2", &PatchParams::default(), &patch)
        .await
        .expect("accepted");
    turn.until::<Rollout>("eta-2", PATIENCE, phase, |o| o["status"]["phase"] == phase)
        .await;
    let ended = |o: &Value| is(o, "Complete", "True");
    turn.until::<FlywheelRun>("eta-2", PATIENCE, "ended", ended).await;
    let rests = |o: &Value| o["status"]["activeRun"].is_null() && o["status"]["lastRunNumber"] == 2;
    turn.until::<FlywheelPipeline>("eta", PATIENCE, "at rest", rests).await;
    turn.left::<Deployment>(&["web"]).await;
    assert_eq!(made(turn).await, before, "nothing is made again");
}

#[tokio::test]
async fn cluster_when_statuses_are_lost_at_once_in_mid_rollout_the_new_version_still_comes_to_serve() {
    let turn = half_delivered("restoredmid").await;
    goes_on_as(&turn, "Promote", "Promoted").await;
    let live = |o: &Value| o["status"]["state"] == "Live";
    let version = turn.until::<ModelVersion>("eta-2", PATIENCE, "live", live).await;
    assert_eq!(turn.served().await, version["spec"]["artifact"]["uri"]);
    turn.finish().await;
}

#[tokio::test]
async fn cluster_when_statuses_are_lost_at_once_in_mid_rollout_the_way_back_is_still_known() {
    let turn = half_delivered("restoredback").await;
    let served = turn.served().await;
    goes_on_as(&turn, "RollBack", "RolledBack").await;
    let live = |o: &Value| o["status"]["state"] == "Live";
    let version = turn.until::<ModelVersion>("eta-1", PATIENCE, "live", live).await;
    assert_eq!(
        (&turn.served().await, &served),
        (&version["spec"]["artifact"]["uri"], &served)
    );
    turn.finish().await;
}
