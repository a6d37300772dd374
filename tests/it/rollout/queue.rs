//! Several Rollouts of one target: one after the other, the oldest first.

use flywheel_api::Rollout;
use kube::api::DeleteParams;
use serde_json::json;

use super::scene::{PATIENCE, calm, long, plan, scene, step, uri};
use crate::fast::fast;
use crate::world::condition;

#[tokio::test]
async fn cluster_rollouts_of_one_target_go_one_after_the_other() {
    let scene = scene(fast("queue").await, 2).await;
    scene.roll("a", "eta-2", plan(&[long("half", 50)], json!({}))).await;
    scene.held("a", "MinDuration").await;
    scene.roll("b", "eta-3", plan(&[step("half", 50)], json!({}))).await;
    calm(1).await;
    scene.roll("c", "eta-1", plan(&[step("third", 33)], json!({}))).await;
    let queued = scene.phase("b", "Queued").await;
    assert_eq!(queued["status"]["queuedBehind"], "a");
    assert!(condition(&queued, "Ready", "True", "Queued"));
    scene.phase("c", "Queued").await;
    scene.want("a", "Promote").await;
    for name in ["a", "b", "c"] {
        scene.ended(name, "Promoted").await;
    }
    scene.finish(Some(&uri(1)), 2).await;
}

#[tokio::test]
async fn cluster_rollouts_that_are_made_at_once_each_get_the_target_alone() {
    let scene = scene(fast("race").await, 2).await;
    let steps = [step("half", 50)];
    let (a, b) = (plan(&steps, json!({})), plan(&steps, json!({})));
    tokio::join!(scene.roll("a", "eta-2", a), scene.roll("b", "eta-3", b));
    let over = |o: &serde_json::Value| {
        condition(o, "Complete", "True", "Promoted") || condition(o, "Complete", "True", "Superseded")
    };
    scene.until::<Rollout>("a", PATIENCE, "over", over).await;
    scene.until::<Rollout>("b", PATIENCE, "over", over).await;
    let value = scene.value().await;
    assert!(value == Some(uri(2)) || value == Some(uri(3)));
    scene.finish(value.as_deref(), 2).await;
}

#[tokio::test]
async fn cluster_an_abort_lets_the_next_one_begin() {
    let scene = scene(fast("nextone").await, 2).await;
    scene.roll("a", "eta-2", plan(&[long("half", 50)], json!({}))).await;
    scene.held("a", "MinDuration").await;
    scene.roll("b", "eta-3", plan(&[step("half", 50)], json!({}))).await;
    scene.phase("b", "Queued").await;
    scene.want("a", "Abort").await;
    scene.ended("a", "RolledBack").await;
    scene.ended("b", "Promoted").await;
    scene.finish(Some(&uri(3)), 2).await;
}

#[tokio::test]
async fn cluster_a_queued_rollout_can_be_deleted_or_aborted() {
    let scene = scene(fast("leaves").await, 1).await;
    scene.roll("a", "eta-2", plan(&[long("half", 50)], json!({}))).await;
    scene.held("a", "MinDuration").await;
    for name in ["b", "c"] {
        scene.roll(name, "eta-3", plan(&[step("half", 50)], json!({}))).await;
        scene.phase(name, "Queued").await;
    }
    scene.delete("b", &DeleteParams::foreground()).await;
    scene.gone::<Rollout>("b").await;
    scene.want("c", "Abort").await;
    scene.ended("c", "Aborted").await;
    scene.held("a", "MinDuration").await;
    scene.want("a", "Promote").await;
    scene.ended("a", "Promoted").await;
    scene.finish(Some(&uri(2)), 1).await;
}

#[tokio::test]
async fn cluster_a_version_that_serves_already_is_promoted_without_a_write() {
    let scene = scene(fast("already").await, 1).await;
    let before = scene.serves(1).await;
    scene.roll("up", "eta-1", plan(&[step("half", 50)], json!({}))).await;
    let done = scene.ended("up", "Promoted").await;
    assert!(
        done["status"]["outcomeReason"]
            .to_string()
            .contains("carries the version already")
    );
    let after = scene.serves(1).await;
    assert_eq!(before["metadata"]["generation"], after["metadata"]["generation"]);
    scene.finish(Some(&uri(1)), 1).await;
}
