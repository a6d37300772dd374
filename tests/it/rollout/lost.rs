//! A status that is lost in any phase: the Rollout goes on from what the cluster shows, or stays ended.

use flywheel_api::Rollout;
use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::scene::{PATIENCE, Scene, decisions, long, plan, scene, step, uri};
use crate::fast::{fast, is_candidate, variable};
use crate::world::condition;

async fn lose(scene: &Scene, name: &str) {
    scene.rewrite::<Rollout>(name, |status| *status = json!({})).await;
}

fn rebuilt(o: &Value) -> bool {
    decisions(o).contains(&"Rebuild/StatusLost".to_owned())
}

#[tokio::test]
async fn cluster_a_status_lost_before_the_beginning_begins() {
    let scene = scene(fast("lostpending").await, 1).await;
    let paused = |paused: bool| json!({ "spec": { "paused": paused } });
    scene.edit::<Deployment>("web", paused(true)).await;
    scene.roll("up", "eta-2", plan(&[step("half", 50)], json!({}))).await;
    let waits = |o: &Value| condition(o, "Ready", "True", "TargetPaused");
    scene.until::<Rollout>("up", PATIENCE, "waiting", waits).await;
    lose(&scene, "up").await;
    scene.until::<Rollout>("up", PATIENCE, "waiting", waits).await;
    scene.edit::<Deployment>("web", paused(false)).await;
    scene.ended("up", "Promoted").await;
    scene.finish(Some(&uri(2)), 1).await;
}

#[tokio::test]
async fn cluster_a_status_lost_while_queued_is_queued_again() {
    let scene = scene(fast("lostqueued").await, 1).await;
    scene.roll("a", "eta-2", plan(&[long("half", 50)], json!({}))).await;
    scene.held("a", "MinDuration").await;
    scene.roll("b", "eta-3", plan(&[step("half", 50)], json!({}))).await;
    scene.phase("b", "Queued").await;
    lose(&scene, "b").await;
    scene.phase("b", "Queued").await;
    scene.want("a", "Promote").await;
    scene.ended("b", "Promoted").await;
    scene.finish(Some(&uri(3)), 1).await;
}

#[tokio::test]
async fn cluster_a_status_lost_while_pods_start_goes_on_with_its_candidate() {
    let scene = scene(fast("lostprogress").await, 2).await;
    scene.kubelet.unready(is_candidate);
    scene.roll("up", "eta-2", plan(&[long("half", 50)], json!({}))).await;
    scene.phase("up", "Progressing").await;
    let made = |o: &Value| o["status"]["replicas"] == 2;
    let before = scene.until::<Deployment>("web-candidate", PATIENCE, "made", made).await;
    lose(&scene, "up").await;
    scene.until::<Rollout>("up", PATIENCE, "rebuilt", rebuilt).await;
    scene.kubelet.all_ready();
    scene.held("up", "MinDuration").await;
    let after = scene.api::<Deployment>().get("web-candidate").await.expect("there");
    assert_eq!(before["metadata"]["uid"], json!(after.uid()));
    scene.want("up", "RollBack").await;
    scene.ended("up", "RolledBack").await;
    scene.finish(Some(&uri(1)), 2).await;
}

#[tokio::test]
async fn cluster_a_status_lost_at_a_step_goes_on_at_that_step() {
    let scene = scene(fast("loststep").await, 4).await;
    let steps = [step("fifth", 20), long("half", 50)];
    scene.roll("up", "eta-2", plan(&steps, json!({}))).await;
    scene.held("up", "MinDuration").await;
    lose(&scene, "up").await;
    scene.until::<Rollout>("up", PATIENCE, "rebuilt", rebuilt).await;
    let held = scene.held("up", "MinDuration").await;
    assert_eq!(held["status"]["step"]["name"], "half");
    assert_eq!(
        held["status"]["baseline"],
        json!({ "version": "eta-1", "value": uri(1) })
    );
    scene.want("up", "Promote").await;
    scene.ended("up", "Promoted").await;
    scene.want("up", "RollBack").await;
    scene.ended("up", "RolledBack").await;
    scene.finish(Some(&uri(1)), 4).await;
}

#[tokio::test]
async fn cluster_a_status_lost_while_the_baseline_is_shrunk_still_restores_its_replicas() {
    let scene = scene(fast("lostshrunk").await, 4).await;
    let shrink = json!({ "capacity": { "baseline": "ShrinkWithWeight" } });
    scene.roll("up", "eta-2", plan(&[long("most", 75)], shrink)).await;
    scene.held("up", "MinDuration").await;
    lose(&scene, "up").await;
    scene.until::<Rollout>("up", PATIENCE, "rebuilt", rebuilt).await;
    scene.held("up", "MinDuration").await;
    scene.want("up", "RollBack").await;
    scene.ended("up", "RolledBack").await;
    scene.finish(Some(&uri(1)), 4).await;
}

#[tokio::test]
async fn cluster_a_status_lost_while_the_target_takes_over_still_knows_the_way_back() {
    let scene = scene(fast("losttakeover").await, 2).await;
    scene
        .kubelet
        .unready(|p| !is_candidate(p) && variable(p, "MODEL_URI") == Some(uri(2)));
    scene.roll("up", "eta-2", plan(&[step("half", 50)], json!({}))).await;
    let taking = |o: &Value| o["status"]["phase"] == "Promoting" && o["status"]["weights"]["actual"] == 100;
    scene.until::<Rollout>("up", PATIENCE, "taking over", taking).await;
    lose(&scene, "up").await;
    scene.until::<Rollout>("up", PATIENCE, "rebuilt", rebuilt).await;
    scene.want("up", "RollBack").await;
    scene.ended("up", "RolledBack").await;
    scene.finish(Some(&uri(1)), 2).await;
}

#[tokio::test]
async fn cluster_a_status_lost_on_the_way_back_goes_back() {
    let scene = scene(fast("lostback").await, 4).await;
    let shrink = json!({ "capacity": { "baseline": "ShrinkWithWeight" } });
    scene.roll("up", "eta-2", plan(&[long("most", 75)], shrink)).await;
    scene.held("up", "MinDuration").await;
    let known: Vec<String> = scene.pods(|_| true).await.iter().map(ResourceExt::name_any).collect();
    scene
        .kubelet
        .unready(move |p| !is_candidate(p) && !known.contains(&p.name_any()));
    scene.want("up", "RollBack").await;
    scene.phase("up", "RollingBack").await;
    lose(&scene, "up").await;
    scene.phase("up", "RollingBack").await;
    scene.kubelet.all_ready();
    scene.ended("up", "RolledBack").await;
    scene.finish(Some(&uri(1)), 4).await;
}

#[tokio::test]
async fn cluster_a_status_lost_while_the_version_is_watched_leaves_it_serving() {
    let scene = scene(fast("lostwatch").await, 1).await;
    let watch = json!({ "observe": { "duration": "1h" } });
    scene.roll("up", "eta-2", plan(&[], watch)).await;
    scene.phase("up", "Observing").await;
    lose(&scene, "up").await;
    scene.want("up", "Promote").await;
    scene.ended("up", "Promoted").await;
    scene.finish(Some(&uri(2)), 1).await;
}
