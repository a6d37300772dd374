//! What people do by hand: let it go, hold, hurry, abort, roll back.

use flywheel_api::{ModelVersion, Rollout};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::scene::{PATIENCE, calm, decisions, is, long, message, plan, scene, step, uri};
use crate::fast::fast;
use crate::world::condition;

#[tokio::test]
async fn cluster_a_version_goes_through_its_steps_and_is_promoted() {
    let scene = scene(fast("promoted").await, 4).await;
    let steps = [step("fifth", 20), long("half", 50)];
    scene.roll("up", "eta-2", plan(&steps, json!({}))).await;
    let half = scene.held("up", "MinDuration").await;
    assert_eq!(half["status"]["step"]["name"], "half");
    assert_eq!(half["status"]["weights"]["actual"], 50);
    assert!(is(&half, "Ready", "True"), "waiting for time is Ready: {half:#}");
    assert!(condition(&half, "TargetBound", "True", "AsRecorded"));
    assert_eq!(scene.candidate().await, Some(4));
    assert_eq!(
        scene.value().await,
        Some(uri(1)),
        "the target is untouched until promotion"
    );
    scene.want("up", "Promote").await;
    let done = scene.ended("up", "Promoted").await;
    let taken = [
        "Begin/Begun",
        "NextStep/StepPassed",
        "Promote/StepPassed",
        "Promoted/Promoted",
    ];
    assert_eq!(decisions(&done), taken);
    let web = scene.serves(4).await;
    assert_eq!(
        web["spec"]["template"]["metadata"]["annotations"]["flywheel.dev/model-version"],
        "eta-2"
    );
    scene.serve_version(2, 4).await;
    scene.finish(Some(&uri(2)), 4).await;
}

#[tokio::test]
async fn cluster_a_version_that_serves_is_live_and_the_former_one_is_superseded() {
    let scene = scene(fast("served").await, 1).await;
    scene.roll("up", "eta-2", plan(&[], json!({}))).await;
    scene.ended("up", "Promoted").await;
    let live = |o: &serde_json::Value| o["status"]["state"] == "Live" && is(o, "Live", "True");
    scene.until::<ModelVersion>("eta-2", PATIENCE, "live", live).await;
    let past = |o: &serde_json::Value| o["status"]["state"] == "Superseded" && is(o, "Live", "False");
    scene.until::<ModelVersion>("eta-1", PATIENCE, "superseded", past).await;
    scene.finish(Some(&uri(2)), 1).await;
}

#[tokio::test]
async fn cluster_a_version_is_rolled_back_by_hand_at_a_step() {
    let scene = scene(fast("byhand").await, 2).await;
    scene.roll("up", "eta-2", plan(&[long("half", 50)], json!({}))).await;
    scene.held("up", "MinDuration").await;
    scene.want("up", "RollBack").await;
    let back = scene.ended("up", "RolledBack").await;
    assert!(condition(&back, "Stalled", "True", "RolledBack"));
    assert_eq!(
        decisions(&back).last().map(String::as_str),
        Some("RolledBack/BackAtBaseline")
    );
    scene.finish(Some(&uri(1)), 2).await;
}

#[tokio::test]
async fn cluster_a_promoted_version_is_rolled_back_by_hand_with_one_write() {
    let scene = scene(fast("later").await, 2).await;
    scene.roll("up", "eta-2", plan(&[step("half", 50)], json!({}))).await;
    scene.ended("up", "Promoted").await;
    scene.serves(2).await;
    scene.want("up", "RollBack").await;
    scene.ended("up", "RolledBack").await;
    scene.finish(Some(&uri(1)), 2).await;
}

#[tokio::test]
async fn cluster_a_held_rollout_stays_and_goes_on_when_asked() {
    let scene = scene(fast("hold").await, 2).await;
    let steps = [long("third", 33), step("half", 50)];
    scene.roll("up", "eta-2", plan(&steps, json!({}))).await;
    scene.held("up", "MinDuration").await;
    scene.want("up", "Hold").await;
    let held = scene.held("up", "ManualHold").await;
    assert!(is(&held, "Ready", "True"));
    assert!(message(&held, "Ready").contains("asked by a test"));
    scene.want("up", "Progress").await;
    scene.held("up", "MinDuration").await;
    scene.want("up", "Promote").await;
    scene.ended("up", "Promoted").await;
    scene.finish(Some(&uri(2)), 2).await;
}

#[tokio::test]
async fn cluster_a_rollout_that_is_held_before_it_begins_writes_nothing() {
    let scene = scene(fast("holdfirst").await, 1).await;
    let spec = json!({ "spec": { "modelVersionRef": { "name": "eta-2" }, "plan": plan(&[step("half", 50)], json!({})),
        "desiredState": "Hold", "holdReason": "until Monday" } });
    scene.apply::<Rollout>("up", spec).await.expect("accepted");
    scene
        .until::<Rollout>("up", PATIENCE, "held", |o| condition(o, "Ready", "True", "ManualHold"))
        .await;
    assert_eq!(scene.candidate().await, None);
    scene.want("up", "Progress").await;
    scene.ended("up", "Promoted").await;
    scene.finish(Some(&uri(2)), 1).await;
}

#[tokio::test]
async fn cluster_promote_skips_waiting_times_but_no_approval() {
    let scene = scene(fast("hurry").await, 2).await;
    let asks = json!({ "name": "half", "weight": 50, "minDuration": "1h", "approval": { "minApprovals": 2 } });
    scene
        .roll("up", "eta-2", plan(&[long("third", 33), asks], json!({})))
        .await;
    scene.held("up", "MinDuration").await;
    scene.want("up", "Promote").await;
    let waits = scene.held("up", "AwaitingApproval").await;
    assert_eq!(waits["status"]["step"]["name"], "half");
    calm(3).await;
    scene.held("up", "AwaitingApproval").await;
    assert_eq!(scene.value().await, Some(uri(1)));
    scene.want("up", "Abort").await;
    scene.ended("up", "RolledBack").await;
    scene.finish(Some(&uri(1)), 2).await;
}

#[tokio::test]
async fn cluster_promote_does_not_skip_a_failed_check() {
    let scene = scene(fast("nohurry").await, 2).await;
    scene.say("errors", crate::fast::Answer::Number(9.0));
    let check = json!([{ "name": "errors", "providerRef": { "name": "fake" }, "query": scene.query("errors"),
        "max": "1", "interval": "1s", "onFail": "Hold" }]);
    scene
        .roll("up", "eta-2", plan(&[long("half", 50)], json!({ "checks": check })))
        .await;
    scene.held("up", "CheckFailed").await;
    scene.want("up", "Promote").await;
    calm(4).await;
    scene.held("up", "CheckFailed").await;
    assert_eq!(scene.value().await, Some(uri(1)));
    scene.want("up", "Abort").await;
    scene.ended("up", "RolledBack").await;
    scene.finish(Some(&uri(1)), 2).await;
}

#[tokio::test]
async fn cluster_an_abort_before_the_beginning_writes_nothing() {
    let scene = scene(fast("early").await, 1).await;
    scene
        .edit::<Deployment>("web", json!({ "spec": { "paused": true } }))
        .await;
    scene.roll("up", "eta-2", plan(&[step("half", 50)], json!({}))).await;
    scene
        .until::<Rollout>("up", PATIENCE, "waiting", |o| {
            condition(o, "Ready", "True", "TargetPaused")
        })
        .await;
    scene.want("up", "Abort").await;
    scene.ended("up", "Aborted").await;
    assert_eq!(scene.candidate().await, None);
    scene
        .edit::<Deployment>("web", json!({ "spec": { "paused": false } }))
        .await;
    scene.finish(Some(&uri(1)), 1).await;
}

#[tokio::test]
async fn cluster_what_was_aborted_cannot_be_resumed() {
    let scene = scene(fast("nowayback").await, 1).await;
    scene.roll("up", "eta-2", plan(&[long("half", 50)], json!({}))).await;
    scene.held("up", "MinDuration").await;
    scene.want("up", "Abort").await;
    scene.ended("up", "RolledBack").await;
    let patch = Patch::Merge(json!({ "spec": { "desiredState": "Progress" } }));
    let refused = scene
        .api::<Rollout>()
        .patch("up", &PatchParams::default(), &patch)
        .await
        .expect_err("refused");
    assert!(refused.to_string().contains("create another Rollout"));
    scene.finish(Some(&uri(1)), 1).await;
}

#[tokio::test]
async fn cluster_a_waiting_rollout_writes_nothing() {
    let scene = scene(fast("quiet").await, 1).await;
    scene.roll("up", "eta-2", plan(&[long("half", 50)], json!({}))).await;
    let before = scene.held("up", "MinDuration").await;
    scene.serves(1).await;
    let web = scene.api::<Deployment>().get("web").await.expect("there");
    calm(5).await;
    let after = scene.held("up", "MinDuration").await;
    assert_eq!(
        before["metadata"]["resourceVersion"],
        after["metadata"]["resourceVersion"]
    );
    let now = scene.api::<Deployment>().get("web").await.expect("there");
    assert_eq!(web.metadata.generation, now.metadata.generation);
    scene.want("up", "Promote").await;
    scene.ended("up", "Promoted").await;
    scene.finish(Some(&uri(2)), 1).await;
}
