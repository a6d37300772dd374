//! Drift: a value that is neither the recorded baseline's nor ours is never overwritten.

use flywheel_api::Rollout;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::scene::{PATIENCE, Scene, calm, decisions, long, message, plan, scene, step, uri};
use crate::fast::fast;
use crate::world::condition;

/// Takes the drifted value as the new baseline, with the annotation that the condition names.
async fn adopt(scene: &Scene, name: &str, drifted: &Value) {
    let said = message(drifted, "TargetBound");
    let said = if said.is_empty() {
        message(drifted, "Ready")
    } else {
        said
    };
    let after = said.split("flywheel.dev/adopt=").nth(1).expect("the remedy");
    let digest = after.split(')').next().expect("a digest");
    let patch = json!({ "metadata": { "annotations": { "flywheel.dev/adopt": digest } } });
    scene
        .api::<Rollout>()
        .patch(name, &PatchParams::default(), &Patch::Merge(patch))
        .await
        .expect("accepted");
}

#[tokio::test]
async fn cluster_drift_stops_every_write_and_names_who_wrote() {
    let scene = scene(fast("drift").await, 2).await;
    scene.roll("up", "eta-2", plan(&[long("half", 50)], json!({}))).await;
    scene.held("up", "MinDuration").await;
    scene.set("s3://elsewhere").await;
    let drifted = scene.held("up", "Drifted").await;
    assert!(condition(&drifted, "TargetBound", "False", "Drifted"));
    let said = message(&drifted, "TargetBound");
    for part in [
        "carries s3://elsewhere",
        "last written by person",
        "s3://models/eta/1 or s3://models/eta/2",
    ] {
        assert!(said.contains(part), "{part} is missing in: {said}");
    }
    let before = scene.serves(2).await;
    scene.want("up", "Promote").await;
    calm(3).await;
    let after = scene.serves(2).await;
    assert_eq!(before["metadata"]["generation"], after["metadata"]["generation"]);
    assert_eq!(scene.candidate().await, Some(2));
    scene.set(&uri(1)).await;
    scene.ended("up", "Promoted").await;
    scene.finish(Some(&uri(2)), 2).await;
}

#[tokio::test]
async fn cluster_an_adopted_value_is_what_a_rollback_goes_back_to() {
    let scene = scene(fast("adopt").await, 1).await;
    scene.roll("up", "eta-2", plan(&[long("half", 50)], json!({}))).await;
    scene.held("up", "MinDuration").await;
    scene.set("s3://elsewhere").await;
    let drifted = scene.held("up", "Drifted").await;
    adopt(&scene, "up", &drifted).await;
    let adopted = scene.held("up", "MinDuration").await;
    assert!(decisions(&adopted).contains(&"Adopt/Adopted".to_owned()));
    scene.want("up", "Promote").await;
    scene.ended("up", "Promoted").await;
    scene.want("up", "RollBack").await;
    scene.ended("up", "RolledBack").await;
    scene.finish(Some("s3://elsewhere"), 1).await;
}

#[tokio::test]
async fn cluster_a_drifted_target_gets_no_new_rollout_until_a_person_adopts_it() {
    let scene = scene(fast("adoptfirst").await, 1).await;
    scene.roll("up", "eta-2", plan(&[], json!({}))).await;
    scene.ended("up", "Promoted").await;
    scene.set("s3://elsewhere").await;
    scene.roll("next", "eta-3", plan(&[step("half", 50)], json!({}))).await;
    let drifted = scene
        .until::<Rollout>("next", PATIENCE, "drifted", |o| {
            condition(o, "TargetBound", "False", "Drifted")
        })
        .await;
    assert_eq!(scene.candidate().await, None);
    adopt(&scene, "next", &drifted).await;
    scene.ended("next", "Promoted").await;
    scene.finish(Some(&uri(3)), 1).await;
}

#[tokio::test]
async fn cluster_a_rollback_leaves_a_foreign_value_alone() {
    let scene = scene(fast("leftalone").await, 1).await;
    scene.roll("up", "eta-2", plan(&[long("half", 50)], json!({}))).await;
    scene.held("up", "MinDuration").await;
    scene.set("s3://elsewhere").await;
    scene.held("up", "Drifted").await;
    scene.want("up", "RollBack").await;
    let back = scene.ended("up", "RolledBack").await;
    assert!(
        back["status"]["outcomeReason"]
            .to_string()
            .contains("foreign value, which was left alone")
    );
    scene.finish(Some("s3://elsewhere"), 1).await;
}

#[tokio::test]
async fn cluster_a_version_that_a_person_sets_by_hand_in_mid_rollout_is_taken_over() {
    let scene = scene(fast("byperson").await, 2).await;
    scene.roll("up", "eta-2", plan(&[long("half", 50)], json!({}))).await;
    scene.held("up", "MinDuration").await;
    scene.set(&uri(2)).await;
    scene.want("up", "Promote").await;
    scene.ended("up", "Promoted").await;
    let web = scene.api::<Deployment>().get("web").await.expect("there");
    assert_eq!(web.spec.and_then(|s| s.replicas), Some(2));
    scene.finish(Some(&uri(2)), 2).await;
}
