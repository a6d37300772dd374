//! What a Rollout refers to: missing at first, missing for long, of the wrong form, gone later.

use flywheel_api::{FlywheelPipeline, ModelVersion, Rollout};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use super::scene::{PATIENCE, is, long, plan, scene, step, uri, web};
use crate::fast::{alone, fast};
use crate::world::{condition, pipeline};

#[tokio::test]
async fn cluster_a_missing_version_is_waited_for_and_heals() {
    let scene = scene(fast("noversion").await, 1).await;
    scene.roll("up", "eta-4", plan(&[step("half", 50)], json!({}))).await;
    let missing = |o: &Value| {
        condition(o, "Reconciling", "True", "VersionNotFound") && condition(o, "Ready", "False", "VersionNotFound")
    };
    scene.until::<Rollout>("up", PATIENCE, "missing", missing).await;
    scene.version(4, &uri(4)).await;
    scene.ended("up", "Promoted").await;
    scene.finish(Some(&uri(4)), 1).await;
}

#[tokio::test]
async fn cluster_a_missing_target_is_stalled_after_five_minutes_and_heals() {
    let scene = scene(fast("notarget").await, 1).await;
    let mut other = plan(&[step("half", 50)], json!({}));
    other["targetRef"]["name"] = json!("shop");
    scene.roll("up", "eta-2", other).await;
    let missing = |o: &Value| condition(o, "Reconciling", "True", "TargetNotFound");
    scene.until::<Rollout>("up", PATIENCE, "missing", missing).await;
    scene
        .rewrite::<Rollout>("up", |status| status["missingSince"] = json!("2026-01-01T00:00:00Z"))
        .await;
    let stalled = |o: &Value| condition(o, "Stalled", "True", "TargetNotFound");
    scene.until::<Rollout>("up", PATIENCE, "stalled", stalled).await;
    let mut shop = web(1, None);
    shop["metadata"]["name"] = json!("shop");
    for pointer in ["/spec/selector/matchLabels/app", "/spec/template/metadata/labels/app"] {
        *shop.pointer_mut(pointer).expect("a label") = json!("shop");
    }
    scene.deploy(&shop).await;
    let done = scene.ended("up", "Promoted").await;
    assert!(!is(&done, "Stalled", "True"));
    scene.gone::<Deployment>("shop-candidate").await;
    scene.finish(Some(&uri(1)), 1).await;
}

#[tokio::test]
async fn cluster_a_container_that_is_not_there_is_named_with_those_that_are() {
    let scene = scene(fast("container").await, 1).await;
    let mut wrong = plan(&[step("half", 50)], json!({}));
    wrong["binding"]["container"] = json!("model");
    scene.roll("up", "eta-2", wrong).await;
    let named = |o: &Value| condition(o, "Reconciling", "True", "ContainerNotFound");
    let said = scene.until::<Rollout>("up", PATIENCE, "named", named).await;
    assert!(
        said["status"]["conditions"]
            .to_string()
            .contains("has no container model, only app")
    );
    scene.want("up", "Abort").await;
    scene.ended("up", "Aborted").await;
    scene.finish(Some(&uri(1)), 1).await;
}

#[tokio::test]
async fn cluster_an_image_can_be_the_model() {
    let scene = scene(fast("image").await, 2).await;
    scene.version(4, "oci://example/web:4").await;
    let mut image = plan(&[long("half", 50)], json!({}));
    image["binding"] = json!({ "type": "DeploymentImage", "container": "app" });
    scene.roll("no", "eta-2", image.clone()).await;
    let refused = |o: &Value| condition(o, "Reconciling", "True", "ArtifactNotAnImage");
    scene.until::<Rollout>("no", PATIENCE, "refused", refused).await;
    scene.want("no", "Abort").await;
    scene.roll("up", "eta-4", image).await;
    scene.held("up", "MinDuration").await;
    scene.want("up", "Promote").await;
    scene.ended("up", "Promoted").await;
    let taken = scene.serves(2).await;
    assert_eq!(
        taken["spec"]["template"]["spec"]["containers"][0]["image"],
        "example/web:4"
    );
    scene.want("up", "RollBack").await;
    scene.ended("up", "RolledBack").await;
    let back = scene.serves(2).await;
    assert_eq!(
        back["spec"]["template"]["spec"]["containers"][0]["image"],
        "example/web:1"
    );
    scene.finish(Some(&uri(1)), 2).await;
}

#[tokio::test]
async fn cluster_a_variable_that_was_not_set_is_removed_again_by_a_rollback() {
    let scene = scene(fast("unset").await, 1).await;
    let mut other = plan(&[step("half", 50)], json!({}));
    other["binding"]["name"] = json!("OTHER_MODEL");
    scene.roll("up", "eta-2", other).await;
    scene.ended("up", "Promoted").await;
    let env = |o: &Value| o["spec"]["template"]["spec"]["containers"][0]["env"].clone();
    let set = scene.serves(1).await;
    assert!(env(&set).to_string().contains("OTHER_MODEL"));
    scene.want("up", "RollBack").await;
    scene.ended("up", "RolledBack").await;
    let back = scene.serves(1).await;
    assert_eq!(env(&back), json!([{ "name": "MODEL_URI", "value": uri(1) }]));
    scene.finish(Some(&uri(1)), 1).await;
}

#[tokio::test]
async fn cluster_a_deleted_pipeline_aborts_its_rollout() {
    let scene = scene(fast("pipelinegone").await, 1).await;
    let pipelines = scene.api::<FlywheelPipeline>();
    let made = scene
        .apply::<FlywheelPipeline>("eta", pipeline("eta", "example/eta"))
        .await
        .expect("accepted");
    let spec = json!({ "spec": { "modelVersionRef": { "name": "eta-2" }, "plan": plan(&[long("half", 50)], json!({})),
        "pipelineRef": { "name": "eta", "uid": made.metadata.uid } } });
    scene.apply::<Rollout>("up", spec).await.expect("accepted");
    scene.held("up", "MinDuration").await;
    pipelines
        .delete("eta", &DeleteParams::foreground())
        .await
        .expect("deleted");
    let back = scene.ended("up", "RolledBack").await;
    assert!(back["status"]["outcomeReason"].to_string().contains("was deleted"));
    scene.finish(Some(&uri(1)), 1).await;
}

#[tokio::test]
async fn cluster_a_version_that_is_deleted_while_it_is_rolled_out_stays_until_the_end() {
    let scene = scene(fast("leaving").await, 1).await;
    scene.roll("up", "eta-2", plan(&[long("half", 50)], json!({}))).await;
    scene.held("up", "MinDuration").await;
    let kept = |o: &Value| o["metadata"]["finalizers"].is_array();
    scene.until::<ModelVersion>("eta-2", PATIENCE, "protected", kept).await;
    let versions = scene.api::<ModelVersion>();
    versions
        .delete("eta-2", &DeleteParams::background())
        .await
        .expect("asked");
    super::scene::calm(1).await;
    assert!(
        versions.get_opt("eta-2").await.expect("an answer").is_some(),
        "it is delivered"
    );
    scene.want("up", "Abort").await;
    scene.ended("up", "RolledBack").await;
    scene.gone::<ModelVersion>("eta-2").await;
    scene.finish(Some(&uri(1)), 1).await;
}

#[tokio::test]
async fn cluster_a_provider_that_the_administrator_declares_later_is_asked_then() {
    let scene = scene(alone("declared").await, 1).await;
    let check = json!([{ "name": "errors", "providerRef": { "name": "late" }, "query": scene.query("errors"),
        "max": "1", "interval": "1s" }]);
    scene.say("errors", crate::fast::Answer::Number(0.0));
    scene
        .roll("up", "eta-2", plan(&[step("half", 50)], json!({ "checks": check })))
        .await;
    scene.held("up", "Inconclusive").await;
    let providers = json!([{ "name": "late", "url": scene.provider() }]);
    scene.settings(json!({ "metricProviders": providers })).await;
    scene.ended("up", "Promoted").await;
    scene.finish(Some(&uri(2)), 1).await;
}
