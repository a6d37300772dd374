//! Scenarios of other projects' end-to-end suites, with our expectations.
//!
//! | Scenario | Test |
//! | --- | --- |
//! | Argo Rollouts: abort, retry, promote | [`cluster_abort_gives_all_pods_back_and_a_retry_is_promoted`] |
//! | Argo Rollouts: promote full during an analysis | [`cluster_full_promotion_during_a_check_ends_the_waiting`] |
//! | Argo Rollouts: scale-down on abort | [`cluster_the_candidate_goes_after_an_abort`] |
//! | Argo Rollouts: dynamic stable scale, rollback to stable | [`cluster_the_baseline_regrows_before_the_candidate_shrinks`] |
//! | Argo Rollouts: pause longer than the progress deadline | [`cluster_waiting_longer_than_the_deadline_is_no_failure`] |
//! | Argo Rollouts: reduce weight and honour maxUnavailable | [`cluster_the_targets_own_strategy_limits_its_takeover`] |
//! | Argo Rollouts: scaling when paused | [`cluster_scaling_while_held_scales_the_candidate_too`] |
//! | Argo Rollouts: scaling during an update | [`cluster_scaling_while_pods_start_reaches_the_new_weight`] |
//! | Argo Rollouts: spec and replicas change at the same time | [`cluster_template_and_replicas_change_at_the_same_time`] |
//! | Argo Rollouts: inconclusive background analysis | [`cluster_an_inconclusive_check_holds_without_a_rollback`] |
//! | Argo Rollouts: rollback within the window | [`cluster_an_older_version_returns_at_once_without_steps`] |
//! | Argo Rollouts: wait for paused, wait for completed | [`cluster_waiting_and_completion_are_conditions`] |
//! | Argo Rollouts: pause with a spec writes nothing | `hand::cluster_a_waiting_rollout_writes_nothing` |
//! | Argo Rollouts: superseded attempts | `queue::cluster_rollouts_of_one_target_go_one_after_the_other` |
//! | Flagger: rollback at the failure threshold | [`cluster_the_first_failure_beyond_the_threshold_rolls_back`] |
//! | Flagger: reverting after a failure starts no new run | [`cluster_applying_a_failed_rollout_again_starts_no_new_run`] |
//! | Flagger: a scaler on the primary | [`cluster_an_autoscaler_is_never_fought`] |
//! | Flagger: revert on deletion | `deletion::cluster_deletion_at_a_step_gives_the_traffic_back` |
//! | Argo Rollouts: metrics of the controller | `helm::helm_1_…` |
//! | Argo Rollouts: a bad image leaves the stable version alone | `deliveries::node_a_candidate_that_never_becomes_ready_…` |
//! | Argo Rollouts: objects that cannot be read | `helm::helm_4_…`, `unreadable::…` |
//! | KServe: canary create, with the split of real requests | `deliveries::node_a_candidate_gets_the_share_of_requests_…` |
//! | KServe: canary promote, rollback | `hand::…promoted`, `hand::…rolled_back_by_hand_at_a_step` |
//! | KServe: force stop | [`cluster_the_candidate_goes_after_an_abort`] |
//! | KServe: delete at non-zero weight, late join | `deletion`, `queue` |
//!
//! Those about routers, experiments, blue-green, sessions and mirrors do not apply to replica ratios.

use flywheel_api::Rollout;
use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::scene::{PATIENCE, calm, decisions, is, long, plan, scene, step, uri};
use crate::fast::{Answer, fast, is_candidate};
use crate::world::condition;

fn errors(query: &str, more: Value) -> Value {
    let mut check =
        json!({ "name": "errors", "providerRef": { "name": "fake" }, "query": query, "max": "1", "interval": "1s" });
    let fields = check.as_object_mut().expect("an object");
    fields.extend(more.as_object().expect("an object").clone());
    json!({ "checks": [check] })
}

#[tokio::test]
async fn cluster_abort_gives_all_pods_back_and_a_retry_is_promoted() {
    let scene = scene(fast("retry").await, 2).await;
    scene.roll("first", "eta-2", plan(&[long("half", 50)], json!({}))).await;
    scene.held("first", "MinDuration").await;
    scene.want("first", "Abort").await;
    let aborted = scene.ended("first", "RolledBack").await;
    let taken = ["Begin/Begun", "RollBack/AbortRequested", "RolledBack/BackAtBaseline"];
    assert_eq!(decisions(&aborted), taken);
    scene.serve_version(2, 0).await;
    scene
        .roll("second", "eta-2", plan(&[step("half", 50)], json!({})))
        .await;
    scene.ended("second", "Promoted").await;
    scene.finish(Some(&uri(2)), 2).await;
}

#[tokio::test]
async fn cluster_full_promotion_during_a_check_ends_the_waiting() {
    let scene = scene(fast("promotefull").await, 2).await;
    scene.say("errors", Answer::Number(0.0));
    let checks = errors(&scene.query("errors"), json!({}));
    scene
        .roll("up", "eta-2", plan(&[long("third", 33), long("half", 50)], checks))
        .await;
    scene.held("up", "MinDuration").await;
    scene.want("up", "Promote").await;
    scene.ended("up", "Promoted").await;
    scene.finish(Some(&uri(2)), 2).await;
}

#[tokio::test]
async fn cluster_the_candidate_goes_after_an_abort() {
    let scene = scene(fast("scaledown").await, 3).await;
    scene.roll("up", "eta-2", plan(&[long("half", 50)], json!({}))).await;
    scene.held("up", "MinDuration").await;
    let before: Vec<_> = scene
        .pods(|p| !is_candidate(p))
        .await
        .iter()
        .map(ResourceExt::uid)
        .collect();
    scene.want("up", "Abort").await;
    scene.ended("up", "RolledBack").await;
    scene.gone::<Deployment>("web-candidate").await;
    let after: Vec<_> = scene
        .pods(|p| !is_candidate(p))
        .await
        .iter()
        .map(ResourceExt::uid)
        .collect();
    assert_eq!(before, after, "the baseline's pods are untouched");
    scene.finish(Some(&uri(1)), 3).await;
}

#[tokio::test]
async fn cluster_the_baseline_regrows_before_the_candidate_shrinks() {
    let scene = scene(fast("dynamic").await, 5).await;
    let shrink = json!({ "capacity": { "baseline": "ShrinkWithWeight" } });
    scene
        .roll("up", "eta-2", plan(&[step("fifth", 20), long("most", 80)], shrink))
        .await;
    let held = scene.held("up", "MinDuration").await;
    assert_eq!(held["status"]["weights"]["candidateReplicas"], 4);
    scene.want("up", "RollBack").await;
    scene.ended("up", "RolledBack").await;
    scene.finish(Some(&uri(1)), 5).await;
}

#[tokio::test]
async fn cluster_waiting_longer_than_the_deadline_is_no_failure() {
    let scene = scene(fast("nodeadline").await, 1).await;
    // Long enough that a busy machine starts its pods before.
    let patient = json!({ "name": "half", "weight": 50, "minDuration": "63s" });
    scene
        .roll(
            "up",
            "eta-2",
            plan(&[patient], json!({ "progressDeadlineSeconds": 60 })),
        )
        .await;
    scene.ended("up", "Promoted").await;
    scene.finish(Some(&uri(2)), 1).await;
}

#[tokio::test]
async fn cluster_the_targets_own_strategy_limits_its_takeover() {
    let scene = scene(fast("unavailable").await, 4).await;
    let careful = json!({ "spec": { "strategy": { "rollingUpdate": { "maxSurge": 0, "maxUnavailable": 1 } } } });
    scene.edit::<Deployment>("web", careful).await;
    scene.roll("up", "eta-2", plan(&[step("half", 50)], json!({}))).await;
    // The candidate carries everything before the target takes over, so not even its missing pod is missed.
    scene.ended("up", "Promoted").await;
    scene.finish(Some(&uri(2)), 4).await;
}

#[tokio::test]
async fn cluster_scaling_while_held_scales_the_candidate_too() {
    let scene = scene(fast("scaleheld").await, 1).await;
    scene.roll("up", "eta-2", plan(&[long("half", 50)], json!({}))).await;
    scene.held("up", "MinDuration").await;
    scene.want("up", "Hold").await;
    scene.held("up", "ManualHold").await;
    scene.scale(3).await;
    scene.serves(3).await;
    scene.want("up", "Progress").await;
    let grown = |o: &Value| {
        o["status"]["weights"]["candidateReplicas"] == 3 && o["status"]["step"]["holdReason"] == "MinDuration"
    };
    scene.until::<Rollout>("up", PATIENCE, "grown", grown).await;
    scene.want("up", "Promote").await;
    scene.ended("up", "Promoted").await;
    scene.finish(Some(&uri(2)), 3).await;
}

#[tokio::test]
async fn cluster_scaling_while_pods_start_reaches_the_new_weight() {
    let scene = scene(fast("scaleduring").await, 1).await;
    scene.kubelet.unready(is_candidate);
    scene.roll("up", "eta-2", plan(&[long("half", 50)], json!({}))).await;
    scene.phase("up", "Progressing").await;
    scene.scale(3).await;
    scene.serves(3).await;
    scene.kubelet.all_ready();
    let held = scene.held("up", "MinDuration").await;
    assert_eq!(held["status"]["weights"]["candidateReplicas"], 3);
    assert_eq!(held["status"]["weights"]["actual"], 50);
    scene.want("up", "Promote").await;
    scene.ended("up", "Promoted").await;
    scene.finish(Some(&uri(2)), 3).await;
}

#[tokio::test]
async fn cluster_template_and_replicas_change_at_the_same_time() {
    let scene = scene(fast("both").await, 1).await;
    scene.roll("up", "eta-2", plan(&[long("half", 50)], json!({}))).await;
    scene.held("up", "MinDuration").await;
    let both = json!({ "spec": { "replicas": 3, "template": { "metadata": { "annotations": { "owner": "ops" } } } } });
    scene.edit::<Deployment>("web", both).await;
    let again = |o: &Value| {
        decisions(o).contains(&"Restart/TemplateChanged".to_owned())
            && o["status"]["step"]["holdReason"] == "MinDuration"
            && o["status"]["weights"]["candidateReplicas"] == 3
    };
    scene.until::<Rollout>("up", PATIENCE, "begun again", again).await;
    scene.want("up", "Promote").await;
    scene.ended("up", "Promoted").await;
    scene.finish(Some(&uri(2)), 3).await;
}

#[tokio::test]
async fn cluster_an_inconclusive_check_holds_without_a_rollback() {
    let scene = scene(fast("inconclusive").await, 1).await;
    let checks = errors(&scene.query("errors"), json!({}));
    scene.roll("up", "eta-2", plan(&[step("half", 50)], checks)).await;
    scene.held("up", "Inconclusive").await;
    calm(4).await;
    let held = scene.held("up", "Inconclusive").await;
    assert_eq!(held["status"]["phase"], "Holding");
    assert_eq!(scene.candidate().await, Some(1));
    scene.want("up", "Abort").await;
    scene.ended("up", "RolledBack").await;
    scene.finish(Some(&uri(1)), 1).await;
}

#[tokio::test]
async fn cluster_an_older_version_returns_at_once_without_steps() {
    let scene = scene(fast("window").await, 2).await;
    scene.roll("up", "eta-2", plan(&[step("half", 50)], json!({}))).await;
    scene.ended("up", "Promoted").await;
    scene.roll("back", "eta-1", plan(&[], json!({}))).await;
    let done = scene.ended("back", "Promoted").await;
    assert_eq!(decisions(&done), ["Begin/Begun", "Promoted/Promoted"]);
    scene.finish(Some(&uri(1)), 2).await;
}

#[tokio::test]
async fn cluster_waiting_and_completion_are_conditions() {
    let scene = scene(fast("conditions").await, 1).await;
    scene.roll("up", "eta-2", plan(&[long("half", 50)], json!({}))).await;
    let held = scene.held("up", "MinDuration").await;
    assert!(is(&held, "Ready", "True") && condition(&held, "Complete", "False", "Unfinished"));
    assert_eq!(held["status"]["observedGeneration"], held["metadata"]["generation"]);
    scene.want("up", "Promote").await;
    let done = scene.ended("up", "Promoted").await;
    assert!(is(&done, "Ready", "True") && !is(&done, "Reconciling", "True") && !is(&done, "Stalled", "True"));
    assert_eq!(done["status"]["observedGeneration"], done["metadata"]["generation"]);
    scene.finish(Some(&uri(2)), 1).await;
}

#[tokio::test]
async fn cluster_the_first_failure_beyond_the_threshold_rolls_back() {
    let scene = scene(fast("threshold").await, 1).await;
    scene.say("errors", Answer::Number(50.0));
    let checks = errors(&scene.query("errors"), json!({ "failureLimit": 2 }));
    scene.roll("up", "eta-2", plan(&[long("half", 50)], checks)).await;
    let back = scene.ended("up", "RolledBack").await;
    assert_eq!(back["status"]["checks"][0]["failures"], 3);
    scene.finish(Some(&uri(1)), 1).await;
}

#[tokio::test]
async fn cluster_applying_a_failed_rollout_again_starts_no_new_run() {
    let scene = scene(fast("reapplied").await, 1).await;
    scene.say("errors", Answer::Number(50.0));
    let checks = errors(&scene.query("errors"), json!({}));
    let spec = json!({ "spec": { "modelVersionRef": { "name": "eta-2" }, "plan": plan(&[step("half", 50)], checks) } });
    scene.apply::<Rollout>("up", spec.clone()).await.expect("accepted");
    scene.ended("up", "RolledBack").await;
    scene.say("errors", Answer::Number(0.0));
    let template = json!({ "spec": { "template": { "metadata": { "annotations": { "owner": "ops" } } } } });
    scene.edit::<Deployment>("web", template).await;
    scene.apply::<Rollout>("up", spec.clone()).await.expect("accepted");
    calm(3).await;
    scene.ended("up", "RolledBack").await;
    assert_eq!(scene.candidate().await, None);
    // Deleted and applied, it is another Rollout: that is the way to try again.
    scene.delete("up", &Default::default()).await;
    scene.gone::<Rollout>("up").await;
    scene.apply::<Rollout>("up", spec).await.expect("accepted");
    scene.ended("up", "Promoted").await;
    scene.finish(Some(&uri(2)), 1).await;
}

#[tokio::test]
async fn cluster_an_autoscaler_is_never_fought() {
    let scene = scene(fast("autoscaler").await, 2).await;
    scene.roll("up", "eta-2", plan(&[long("half", 50)], json!({}))).await;
    scene.held("up", "MinDuration").await;
    for replicas in [3, 5, 2] {
        scene.scale(replicas).await;
        let follows = |o: &Value| {
            o["status"]["step"]["holdReason"] == "MinDuration"
                && o["status"]["weights"]["baselineReplicas"] == replicas
                && o["status"]["weights"]["candidateReplicas"] == replicas
        };
        scene.until::<Rollout>("up", PATIENCE, "following", follows).await;
        scene.serves(replicas).await;
    }
    scene.want("up", "Promote").await;
    scene.ended("up", "Promoted").await;
    scene.finish(Some(&uri(2)), 2).await;
}
