//! What may happen to the target and to the candidate in the middle of a Rollout.

use flywheel_api::Rollout;
use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt;
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};

use super::scene::{PATIENCE, calm, decisions, is, long, plan, scene, step, uri, web};
use crate::fast::{fast, is_candidate, named, variable};
use crate::world::condition;

#[tokio::test]
async fn cluster_a_candidate_that_never_gets_ready_is_rolled_back_at_the_deadline() {
    let scene = scene(fast("deadline").await, 2).await;
    scene.kubelet.unready(is_candidate);
    let deadline = json!({ "progressDeadlineSeconds": 10 });
    let seen = scene.look("up");
    scene.roll("up", "eta-2", plan(&[step("half", 50)], deadline)).await;
    let back = scene.ended("up", "RolledBack").await;
    let waits = seen.first(|o| o["status"]["phase"] == "Progressing");
    assert!(is(&waits.expect("it waited for its pods"), "Reconciling", "True"));
    assert!(decisions(&back).contains(&"RollBack/ProgressDeadlineExceeded".to_owned()));
    assert!(condition(&back, "Stalled", "True", "RolledBack"));
    scene.finish(Some(&uri(1)), 2).await;
}

#[tokio::test]
async fn cluster_a_target_that_cannot_take_over_goes_back_while_the_candidate_serves() {
    let scene = scene(fast("takeover").await, 2).await;
    scene
        .kubelet
        .unready(|p| !is_candidate(p) && variable(p, "MODEL_URI") == Some(uri(2)));
    let deadline = json!({ "progressDeadlineSeconds": 10 });
    scene.roll("up", "eta-2", plan(&[step("half", 50)], deadline)).await;
    let back = scene.ended("up", "RolledBack").await;
    assert!(decisions(&back).contains(&"RollBack/ProgressDeadlineExceeded".to_owned()));
    scene.finish(Some(&uri(1)), 2).await;
}

#[tokio::test]
async fn cluster_a_candidate_that_loses_its_pods_reaches_its_weight_anew() {
    let scene = scene(fast("losespods").await, 2).await;
    scene.roll("up", "eta-2", plan(&[long("half", 50)], json!({}))).await;
    scene.held("up", "MinDuration").await;
    scene.kubelet.unready(is_candidate);
    scene.phase("up", "Progressing").await;
    scene.kubelet.all_ready();
    scene.held("up", "MinDuration").await;
    scene.want("up", "Promote").await;
    scene.ended("up", "Promoted").await;
    scene.finish(Some(&uri(2)), 2).await;
}

#[tokio::test]
async fn cluster_a_changed_template_makes_the_candidate_anew_and_begins_the_steps_again() {
    let scene = scene(fast("template").await, 2).await;
    let steps = [step("third", 33), long("half", 50)];
    scene.roll("up", "eta-2", plan(&steps, json!({}))).await;
    scene.held("up", "MinDuration").await;
    let old = scene.api::<Deployment>().get("web-candidate").await.expect("there");
    let image =
        json!({ "spec": { "template": { "spec": { "containers": [{ "name": "app", "image": "example/web:2" }] } } } });
    scene.edit::<Deployment>("web", image).await;
    let again = |o: &Value| {
        decisions(o).contains(&"Restart/TemplateChanged".to_owned())
            && o["status"]["step"]["holdReason"] == "MinDuration"
    };
    let held = scene.until::<Rollout>("up", PATIENCE, "begun again", again).await;
    let passed = decisions(&held);
    assert_eq!(
        passed.iter().filter(|d| *d == "NextStep/StepPassed").count(),
        2,
        "{passed:?}"
    );
    let new = scene.api::<Deployment>().get("web-candidate").await.expect("there");
    assert_ne!(old.uid(), new.uid());
    let copied = new.spec.and_then(|s| s.template.spec).expect("a template");
    assert_eq!(copied.containers[0].image.as_deref(), Some("example/web:2"));
    scene.want("up", "Promote").await;
    scene.ended("up", "Promoted").await;
    let taken = scene.serves(2).await;
    assert_eq!(
        taken["spec"]["template"]["spec"]["containers"][0]["image"],
        "example/web:2"
    );
    scene.finish(Some(&uri(2)), 2).await;
}

#[tokio::test]
async fn cluster_a_paused_target_holds_before_and_in_the_middle() {
    let scene = scene(fast("paused").await, 2).await;
    let paused = |paused: bool| json!({ "spec": { "paused": paused } });
    scene.edit::<Deployment>("web", paused(true)).await;
    scene.roll("up", "eta-2", plan(&[long("half", 50)], json!({}))).await;
    scene
        .until::<Rollout>("up", PATIENCE, "waiting", |o| {
            condition(o, "Ready", "True", "TargetPaused")
        })
        .await;
    assert_eq!(scene.candidate().await, None);
    scene.edit::<Deployment>("web", paused(false)).await;
    scene.held("up", "MinDuration").await;
    scene.edit::<Deployment>("web", paused(true)).await;
    scene.held("up", "TargetPaused").await;
    scene.want("up", "Promote").await;
    calm(2).await;
    assert_eq!(scene.value().await, Some(uri(1)));
    scene.edit::<Deployment>("web", paused(false)).await;
    scene.ended("up", "Promoted").await;
    scene.finish(Some(&uri(2)), 2).await;
}

#[tokio::test]
async fn cluster_a_candidate_that_is_deleted_by_hand_comes_back() {
    let scene = scene(fast("candidategone").await, 2).await;
    scene.roll("up", "eta-2", plan(&[long("half", 50)], json!({}))).await;
    scene.held("up", "MinDuration").await;
    let candidates = scene.api::<Deployment>();
    let old = candidates.get("web-candidate").await.expect("there");
    candidates
        .delete("web-candidate", &DeleteParams::foreground())
        .await
        .expect("deleted");
    let anew = |o: &Value| o["metadata"]["uid"] != json!(old.uid()) && o["status"]["readyReplicas"] == 2;
    scene
        .until::<Deployment>("web-candidate", PATIENCE, "made anew", anew)
        .await;
    scene.held("up", "MinDuration").await;
    scene.want("up", "Promote").await;
    scene.ended("up", "Promoted").await;
    scene.finish(Some(&uri(2)), 2).await;
}

#[tokio::test]
async fn cluster_a_candidate_that_is_scaled_by_hand_gets_its_replicas_back() {
    let scene = scene(fast("candidatescaled").await, 2).await;
    scene.roll("up", "eta-2", plan(&[long("half", 50)], json!({}))).await;
    scene.held("up", "MinDuration").await;
    scene
        .edit::<Deployment>("web-candidate", json!({ "spec": { "replicas": 5 } }))
        .await;
    let back = |o: &Value| o["spec"]["replicas"] == 2 && o["status"]["replicas"] == 2;
    scene
        .until::<Deployment>("web-candidate", PATIENCE, "two again", back)
        .await;
    scene.held("up", "MinDuration").await;
    scene.want("up", "Promote").await;
    scene.ended("up", "Promoted").await;
    scene.finish(Some(&uri(2)), 2).await;
}

#[tokio::test]
async fn cluster_a_strangers_deployment_of_the_candidates_name_is_left_alone() {
    let scene = scene(fast("stranger").await, 1).await;
    let mut stranger = web(1, None);
    stranger["metadata"]["name"] = json!("web-candidate");
    for pointer in ["/spec/selector/matchLabels/app", "/spec/template/metadata/labels/app"] {
        *stranger.pointer_mut(pointer).expect("a label") = json!("stranger");
    }
    scene.deploy(&stranger).await;
    scene.roll("up", "eta-2", plan(&[step("half", 50)], json!({}))).await;
    let taken = |o: &Value| condition(o, "Reconciling", "True", "CandidateNameTaken");
    scene.until::<Rollout>("up", PATIENCE, "name taken", taken).await;
    let found = scene
        .api::<Deployment>()
        .get("web-candidate")
        .await
        .expect("left alone");
    assert_eq!(found.spec.and_then(|s| s.replicas), Some(1));
    let deployments = scene.api::<Deployment>();
    deployments
        .delete("web-candidate", &DeleteParams::background())
        .await
        .expect("deleted");
    scene.ended("up", "Promoted").await;
    scene.finish(Some(&uri(2)), 1).await;
}

#[tokio::test]
async fn cluster_a_deleted_target_fails_its_rollout_and_takes_the_candidate_along() {
    let scene = scene(fast("targetgone").await, 1).await;
    scene.roll("up", "eta-2", plan(&[long("half", 50)], json!({}))).await;
    scene.held("up", "MinDuration").await;
    scene.kubelet.floor("web", 0);
    let deployments = scene.api::<Deployment>();
    deployments
        .delete("web", &DeleteParams::background())
        .await
        .expect("deleted");
    let failed = scene.ended("up", "Failed").await;
    assert!(
        failed["status"]["outcomeReason"]
            .to_string()
            .contains("create another Rollout")
    );
    scene.gone::<Deployment>("web-candidate").await;
    // Made anew, the target is another one: a new Rollout begins with what it carries.
    scene.version(3, &uri(3)).await;
    let anew: Deployment = named("web", web(1, Some(&uri(3))));
    deployments
        .create(&PostParams::default(), &anew)
        .await
        .expect("accepted");
    scene.roll("next", "eta-2", plan(&[step("half", 50)], json!({}))).await;
    scene.ended("next", "Promoted").await;
    scene.finish(Some(&uri(2)), 1).await;
}
