//! Deletion in every phase, foreground and background: what serves goes on serving, nothing is left behind.

use flywheel_api::{Approval, BiasPolicy, Rollout};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};

use super::scene::{PATIENCE, Scene, long, plan, scene, step, uri};
use crate::fast::{fast, is_candidate, named, variable};
use crate::world::{condition, gap};

/// Brings a Rollout into a phase, deletes it, and sees what serves then; both ways of deletion one after the other.
async fn deleted<F>(test: &str, replicas: i32, more: Value, reach: F, serves: u32)
where
    F: AsyncFn(&Scene),
{
    let scene = scene(fast(test).await, replicas).await;
    for params in [DeleteParams::foreground(), DeleteParams::background()] {
        let weight = if more["capacity"].is_object() { 75 } else { 50 };
        let steps = if more["observe"].is_object() {
            vec![]
        } else {
            vec![long("most", weight)]
        };
        scene.roll("up", "eta-2", plan(&steps, more.clone())).await;
        reach(&scene).await;
        scene.delete("up", &params).await;
        scene.gone::<Rollout>("up").await;
        scene.kubelet.all_ready();
        scene.gone::<Deployment>("web-candidate").await;
        scene.serves(replicas).await;
        assert_eq!(scene.value().await, Some(uri(serves)));
        scene.set(&uri(1)).await;
        scene.serves(replicas).await;
    }
    scene.finish(Some(&uri(1)), replicas).await;
}

#[tokio::test]
async fn cluster_deletion_before_the_beginning_leaves_nothing() {
    let scene = scene(fast("delpending").await, 1).await;
    scene
        .edit::<Deployment>("web", json!({ "spec": { "paused": true } }))
        .await;
    for params in [DeleteParams::foreground(), DeleteParams::background()] {
        scene.roll("up", "eta-2", plan(&[step("half", 50)], json!({}))).await;
        scene
            .until::<Rollout>("up", PATIENCE, "waiting", |o| {
                condition(o, "Ready", "True", "TargetPaused")
            })
            .await;
        scene.delete("up", &params).await;
        scene.gone::<Rollout>("up").await;
    }
    scene
        .edit::<Deployment>("web", json!({ "spec": { "paused": false } }))
        .await;
    scene.finish(Some(&uri(1)), 1).await;
}

#[tokio::test]
async fn cluster_deletion_while_pods_start_removes_the_candidate() {
    let reach = async |scene: &Scene| {
        scene.kubelet.unready(is_candidate);
        scene.phase("up", "Progressing").await;
    };
    deleted("delprogress", 2, json!({}), reach, 1).await;
}

#[tokio::test]
async fn cluster_deletion_at_a_step_gives_the_traffic_back() {
    let reach = async |scene: &Scene| {
        scene.held("up", "MinDuration").await;
    };
    deleted("delstep", 2, json!({}), reach, 1).await;
}

#[tokio::test]
async fn cluster_deletion_with_a_shrunk_baseline_restores_it_first() {
    let reach = async |scene: &Scene| {
        scene.held("up", "MinDuration").await;
    };
    let shrink = json!({ "capacity": { "baseline": "ShrinkWithWeight" } });
    deleted("delshrunk", 4, shrink, reach, 1).await;
}

#[tokio::test]
async fn cluster_deletion_while_the_target_takes_over_goes_back_to_the_baseline() {
    let reach = async |scene: &Scene| {
        scene
            .kubelet
            .unready(|p| !is_candidate(p) && variable(p, "MODEL_URI") == Some(uri(2)));
        scene.held("up", "MinDuration").await;
        scene.want("up", "Promote").await;
        let taking = |o: &Value| o["status"]["phase"] == "Promoting" && o["status"]["weights"]["actual"] == 100;
        scene.until::<Rollout>("up", PATIENCE, "taking over", taking).await;
    };
    deleted("deltakeover", 2, json!({}), reach, 1).await;
}

#[tokio::test]
async fn cluster_deletion_of_a_watched_version_keeps_it_serving() {
    let reach = async |scene: &Scene| {
        scene.phase("up", "Observing").await;
    };
    let watch = json!({ "observe": { "duration": "1h" } });
    deleted("delwatch", 2, watch, reach, 2).await;
}

#[tokio::test]
async fn cluster_deletion_on_the_way_back_ends_the_way_back() {
    let reach = async |scene: &Scene| {
        scene.held("up", "MinDuration").await;
        scene.want("up", "RollBack").await;
    };
    let shrink = json!({ "capacity": { "baseline": "ShrinkWithWeight" } });
    deleted("delback", 4, shrink, reach, 1).await;
}

#[tokio::test]
async fn cluster_deletion_after_promotion_keeps_the_version_serving() {
    let reach = async |scene: &Scene| {
        scene.held("up", "MinDuration").await;
        scene.want("up", "Promote").await;
        scene.ended("up", "Promoted").await;
    };
    deleted("delpromoted", 2, json!({}), reach, 2).await;
}

/// Deletes a policy and an Approval of this delivery, both ways; both go at once, and its phase stays.
async fn beside(scene: &Scene) {
    let phase = async || {
        let found = scene.api::<Rollout>().get("up").await.expect("it stays");
        (found.metadata.uid, found.status.map(|status| status.phase))
    };
    let before = phase().await;
    let approval = json!({ "spec": { "subjectRef": { "kind": "Rollout", "name": "up", "uid": before.0 },
        "gate": "RolloutStep", "decision": "Approve", "evidenceDigest": format!("sha256:{}", "0".repeat(64)),
        "approver": "jane", "reason": "seen" } });
    let approvals = scene.person::<Approval>("jane").await;
    for params in [DeleteParams::foreground(), DeleteParams::background()] {
        scene.apply::<BiasPolicy>("fair", gap()).await.expect("accepted");
        let made: Approval = named("jane", approval.clone());
        approvals.create(&PostParams::default(), &made).await.expect("accepted");
        scene
            .api::<BiasPolicy>()
            .delete("fair", &params)
            .await
            .expect("deleted");
        scene.api::<Approval>().delete("jane", &params).await.expect("deleted");
        scene.gone::<BiasPolicy>("fair").await;
        scene.gone::<Approval>("jane").await;
    }
    assert_eq!(phase().await, before);
}

#[tokio::test]
async fn cluster_deletion_of_policies_and_approvals_leaves_a_delivery_alone() {
    let scene = scene(fast("delbeside").await, 2).await;
    scene.kubelet.unready(is_candidate);
    scene.roll("up", "eta-2", plan(&[long("half", 50)], json!({}))).await;
    scene.phase("up", "Progressing").await;
    beside(&scene).await;
    scene.kubelet.all_ready();
    scene.held("up", "MinDuration").await;
    beside(&scene).await;
    scene
        .kubelet
        .unready(|p| !is_candidate(p) && variable(p, "MODEL_URI") == Some(uri(2)));
    scene.want("up", "Promote").await;
    scene.phase("up", "Promoting").await;
    beside(&scene).await;
    scene.kubelet.all_ready();
    scene.ended("up", "Promoted").await;
    beside(&scene).await;
    scene.finish(Some(&uri(2)), 2).await;
}

#[tokio::test]
async fn cluster_a_namespace_that_is_deleted_in_mid_rollout_vanishes() {
    let scene = scene(fast("delnamespace").await, 1).await;
    scene.roll("up", "eta-2", plan(&[long("half", 50)], json!({}))).await;
    scene.held("up", "MinDuration").await;
    scene.kubelet.floor("web", 0);
    let namespaces: Api<Namespace> = Api::all(scene.client.clone());
    namespaces
        .delete(&scene.namespace, &DeleteParams::background())
        .await
        .expect("deleted");
    let end = std::time::Instant::now() + std::time::Duration::from_secs(PATIENCE * crate::world::PATIENCE);
    while let Some(left) = namespaces.get_opt(&scene.namespace).await.expect("an answer") {
        assert!(std::time::Instant::now() < end, "{:#?}", left.status);
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    }
    scene.judge().await;
}
