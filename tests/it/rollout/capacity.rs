//! Replicas: the target is scaled, is shrunk by the plan, or has none at all.

use flywheel_api::Rollout;
use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::scene::{PATIENCE, calm, long, plan, scene, step, uri};
use crate::fast::{fast, is_candidate};

fn shrink() -> Value {
    json!({ "capacity": { "baseline": "ShrinkWithWeight" } })
}

async fn baseline(scene: &super::scene::Scene) -> i32 {
    let web = scene.api::<Deployment>().get("web").await.expect("there");
    web.spec.and_then(|s| s.replicas).unwrap_or(1)
}

#[tokio::test]
async fn cluster_a_weight_above_half_shrinks_the_baseline_and_promotion_restores_it() {
    let scene = scene(fast("shrink").await, 4).await;
    scene.roll("up", "eta-2", plan(&[long("most", 75)], shrink())).await;
    let held = scene.held("up", "MinDuration").await;
    assert_eq!(held["status"]["weights"]["actual"], 75);
    assert_eq!((baseline(&scene).await, scene.candidate().await), (1, Some(3)));
    scene.want("up", "Promote").await;
    scene.ended("up", "Promoted").await;
    scene.finish(Some(&uri(2)), 4).await;
}

#[tokio::test]
async fn cluster_a_shrunk_baseline_is_whole_before_the_candidate_goes() {
    let scene = scene(fast("regrow").await, 4).await;
    scene.roll("up", "eta-2", plan(&[long("most", 75)], shrink())).await;
    scene.held("up", "MinDuration").await;
    let known: Vec<String> = scene.pods(|_| true).await.iter().map(ResourceExt::name_any).collect();
    scene
        .kubelet
        .unready(move |p| !is_candidate(p) && !known.contains(&p.name_any()));
    scene.want("up", "Abort").await;
    let restored = |o: &Value| o["status"]["replicas"] == 4;
    scene.until::<Deployment>("web", PATIENCE, "restored", restored).await;
    calm(2).await;
    assert_eq!(
        scene.candidate().await,
        Some(3),
        "the candidate serves until the baseline is whole"
    );
    scene.kubelet.all_ready();
    scene.ended("up", "RolledBack").await;
    assert_eq!(baseline(&scene).await, 4);
    scene.finish(Some(&uri(1)), 4).await;
}

#[tokio::test]
async fn cluster_weights_grow_step_by_step_to_ninety_percent_without_losing_capacity() {
    let scene = scene(fast("ninety").await, 5).await;
    let steps = [step("fifth", 20), step("most", 60), step("nearly", 90)];
    scene.roll("up", "eta-2", plan(&steps, shrink())).await;
    scene.ended("up", "Promoted").await;
    scene.finish(Some(&uri(2)), 5).await;
}

#[tokio::test]
async fn cluster_a_target_without_replicas_is_promoted_at_once() {
    let scene = scene(fast("empty").await, 1).await;
    scene.kubelet.floor("web", 0);
    scene.scale(0).await;
    scene.serves(0).await;
    scene.roll("up", "eta-2", plan(&[long("half", 50)], json!({}))).await;
    let done = scene.ended("up", "Promoted").await;
    assert!(
        done["status"]["decisions"][0]["message"]
            .to_string()
            .contains("the target has no replicas")
    );
    scene.finish(Some(&uri(2)), 0).await;
}

#[tokio::test]
async fn cluster_a_target_that_is_scaled_to_zero_holds_its_rollout() {
    let scene = scene(fast("tozero").await, 2).await;
    scene.roll("up", "eta-2", plan(&[long("half", 50)], json!({}))).await;
    scene.held("up", "MinDuration").await;
    scene.kubelet.floor("web", 0);
    scene.scale(0).await;
    scene.held("up", "TargetScaledToZero").await;
    scene.scale(2).await;
    scene.held("up", "MinDuration").await;
    scene.want("up", "Promote").await;
    scene.ended("up", "Promoted").await;
    scene.finish(Some(&uri(2)), 2).await;
}

#[tokio::test]
async fn cluster_a_scaled_target_gets_its_weight_anew() {
    let scene = scene(fast("scaled").await, 2).await;
    scene.roll("up", "eta-2", plan(&[long("half", 50)], json!({}))).await;
    scene.held("up", "MinDuration").await;
    scene.scale(4).await;
    let grown = |o: &Value| {
        o["status"]["step"]["holdReason"] == "MinDuration" && o["status"]["weights"]["candidateReplicas"] == 4
    };
    scene.until::<Rollout>("up", PATIENCE, "grown", grown).await;
    scene.scale(1).await;
    scene.kubelet.floor("web", 1);
    let shrunk = |o: &Value| {
        o["status"]["step"]["holdReason"] == "MinDuration" && o["status"]["weights"]["candidateReplicas"] == 1
    };
    scene.until::<Rollout>("up", PATIENCE, "shrunk", shrunk).await;
    scene.want("up", "Promote").await;
    scene.ended("up", "Promoted").await;
    scene.finish(Some(&uri(2)), 1).await;
}

#[tokio::test]
async fn cluster_a_target_that_is_scaled_while_it_is_shrunk_keeps_the_new_size() {
    let scene = scene(fast("shrunksize").await, 4).await;
    scene.roll("up", "eta-2", plan(&[long("most", 75)], shrink())).await;
    scene.held("up", "MinDuration").await;
    // The plan owns the count while it shrinks the baseline: what was recorded comes back.
    scene.scale(2).await;
    scene.held("up", "MinDuration").await;
    scene.want("up", "Promote").await;
    scene.ended("up", "Promoted").await;
    scene.finish(Some(&uri(2)), 4).await;
}
