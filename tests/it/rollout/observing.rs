//! The time after promotion in which a failed check still takes the version back.

use flywheel_api::Rollout;
use serde_json::{Value, json};

use super::scene::{PATIENCE, Scene, decisions, plan, scene, step, uri};
use crate::fast::{Answer, fast};
use crate::world::condition;

/// Promotes `eta-2` at once and watches it for that long with the check `errors`.
async fn watched(scene: &Scene, duration: &str) -> Value {
    let checks = json!([{ "name": "errors", "providerRef": { "name": "fake" }, "query": scene.query("errors"),
        "max": "1", "interval": "1s" }]);
    let plan = plan(&[], json!({ "checks": checks, "observe": { "duration": duration } }));
    scene.roll("up", "eta-2", plan).await;
    scene.phase("up", "Observing").await
}

#[tokio::test]
async fn cluster_a_watched_version_is_promoted_when_nothing_spoke_against_it() {
    let scene = scene(fast("watched").await, 2).await;
    scene.say("errors", Answer::Number(0.0));
    watched(&scene, "3s").await;
    let done = scene.ended("up", "Promoted").await;
    assert_eq!(
        decisions(&done),
        ["Begin/Begun", "Observe/Observing", "Promoted/Promoted"]
    );
    scene.finish(Some(&uri(2)), 2).await;
}

#[tokio::test]
async fn cluster_a_check_that_fails_while_the_version_is_watched_rolls_it_back() {
    let scene = scene(fast("watchfail").await, 2).await;
    scene.say("errors", Answer::Number(0.0));
    watched(&scene, "1h").await;
    scene.serves(2).await;
    scene.say("errors", Answer::Number(5.0));
    scene.ended("up", "RolledBack").await;
    scene.finish(Some(&uri(1)), 2).await;
}

#[tokio::test]
async fn cluster_a_watch_without_data_does_not_end_well() {
    let scene = scene(fast("watchblind").await, 1).await;
    watched(&scene, "2s").await;
    scene.held("up", "Inconclusive").await;
    scene.say("errors", Answer::Number(0.5));
    scene.ended("up", "Promoted").await;
    scene.finish(Some(&uri(2)), 1).await;
}

#[tokio::test]
async fn cluster_a_successor_ends_the_watch() {
    let scene = scene(fast("successor").await, 2).await;
    scene.say("errors", Answer::Number(0.0));
    watched(&scene, "1h").await;
    scene.roll("next", "eta-3", plan(&[step("half", 50)], json!({}))).await;
    scene.ended("next", "Promoted").await;
    scene.ended("up", "Superseded").await;
    scene.finish(Some(&uri(3)), 2).await;
}

#[tokio::test]
async fn cluster_a_watched_version_is_rolled_back_by_hand() {
    let scene = scene(fast("watchhand").await, 2).await;
    scene.say("errors", Answer::Number(0.0));
    watched(&scene, "1h").await;
    scene.want("up", "RollBack").await;
    scene.ended("up", "RolledBack").await;
    scene.finish(Some(&uri(1)), 2).await;
}

#[tokio::test]
async fn cluster_a_foreign_value_while_watched_is_drift_that_nobody_overwrites() {
    let scene = scene(fast("watchdrift").await, 1).await;
    scene.say("errors", Answer::Number(0.0));
    watched(&scene, "1h").await;
    scene.set("s3://elsewhere").await;
    let drifted = scene.held("up", "Drifted").await;
    assert!(condition(&drifted, "TargetBound", "False", "Drifted"));
    // The controller of Deployments counts pods that a ReplicaSet had a moment ago: whoever turns back in the middle of
    // a rolling update can be without pods, and nobody but that person does it here.
    scene.serves(1).await;
    scene.set(&uri(2)).await;
    let bound = |o: &Value| condition(o, "TargetBound", "True", "AsRecorded");
    scene.until::<Rollout>("up", PATIENCE, "bound", bound).await;
    scene.want("up", "Promote").await;
    scene.ended("up", "Promoted").await;
    scene.finish(Some(&uri(2)), 1).await;
}
