//! Rollouts on a node under traffic: whatever happens to the operator, the candidate or the target's manifest in
//! mid-rollout, no request fails and what should serve serves.

use std::process::{Command, Stdio};
use std::time::Duration;

use flywheel_api::ModelVersion;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::operator;
use crate::serving::{
    bound, deliver, manifest, nothing_left, own_pods, plan, reaches, serve, serve_as, uri, version, want,
};
use crate::traffic::{Tally, Traffic};
use crate::world::{World, condition, node};

/// A target that serves version 1, and the artifact of version 2, which is registered.
async fn two_versions(world: &World, replicas: i32) -> String {
    let url = serve(world, "eta", replicas, Some("eta-one")).await;
    version(world, "eta", 1, &uri("eta-one")).await;
    version(world, "eta", 2, &uri("eta-two")).await;
    url
}

/// Two steps that wait until the test lets them go on.
fn patient_steps() -> Value {
    json!([{ "name": "third", "weight": 34, "minDuration": "3s" }, { "name": "half", "weight": 50, "minDuration": "3s" }])
}

/// One step that is only left when a person says so.
fn held_step() -> Value {
    json!([{ "name": "half", "weight": 50, "minDuration": "1h" }])
}

#[tokio::test]
async fn node_a_candidate_that_never_becomes_ready_is_rolled_back_and_the_baseline_is_untouched() {
    let world = node("unready").await;
    let url = serve(&world, "eta", 2, Some("eta-one")).await;
    version(&world, "eta", 2, &uri("eta-unready")).await;
    let traffic = Traffic::start(&url).await;
    let target = world
        .until::<Deployment>("eta", 90, "ready", |o| o["status"]["readyReplicas"] == 2)
        .await;
    let pods = own_pods(&world, "eta").await;
    let mut plan = plan("eta", held_step());
    plan["progressDeadlineSeconds"] = json!(15);
    deliver(&world, "eta-2", "eta-2", plan).await;
    let back = reaches(&world, "eta-2", 120, &["RolledBack"]).await;
    assert!(
        condition(&back, "Stalled", "True", "RolledBack"),
        "{:#}",
        back["status"]
    );
    let reasons = back["status"]["decisions"].to_string();
    assert!(reasons.contains("ProgressDeadlineExceeded"), "{reasons}");
    nothing_left(&world, 60).await;
    assert_eq!(
        own_pods(&world, "eta").await,
        pods,
        "no pod of the baseline was touched"
    );
    let now = world.until::<Deployment>("eta", 10, "there", |_| true).await;
    // The way back leaves its mark on the Deployment itself, which counts as a generation.
    assert_eq!(now["spec"], target["spec"]);
    traffic.expect_only(&["eta-one"]).await;
}

#[tokio::test]
async fn node_an_operator_killed_again_and_again_in_mid_rollout_fails_no_request() {
    let world = node("killed").await;
    let url = two_versions(&world, 2).await;
    let traffic = Traffic::start(&url).await;
    deliver(&world, "eta-2", "eta-2", plan("eta", patient_steps())).await;
    let mut amid: Vec<String> = Vec::new();
    for phases in [&["Preparing", "Progressing"][..], &["Holding"], &["Promoting"]] {
        world
            .until::<flywheel_api::Rollout>("eta-2", 120, &format!("{phases:?} or later"), |o| {
                let phase = o["status"]["phase"].as_str().unwrap_or_default();
                phases.contains(&phase) || phase == "Promoted"
            })
            .await;
        operator::kill(&world).await;
        // Nobody has followed it yet: this is how far it came.
        let left = world.until::<flywheel_api::Rollout>("eta-2", 30, "there", |_| true);
        amid.extend(left.await["status"]["phase"].as_str().map(str::to_owned));
    }
    amid.retain(|phase| phase != "Promoted");
    println!(
        "covered: an operator killed 3 times, {} of them in mid-rollout: {amid:?}",
        amid.len()
    );
    assert!(!amid.is_empty(), "each time the version was promoted already");
    reaches(&world, "eta-2", 180, &["Promoted"]).await;
    assert_eq!(bound(&world, "eta").await, Some(uri("eta-two")));
    nothing_left(&world, 60).await;
    traffic.until_answered_by("eta-two", 10).await;
    traffic.expect_only(&["eta-one", "eta-two"]).await;
    world
        .until::<ModelVersion>("eta-2", 60, "live", |o| o["status"]["state"] == "Live")
        .await;
}

#[tokio::test]
async fn node_a_candidate_gets_the_share_of_requests_that_its_weight_says() {
    let world = node("share").await;
    let url = two_versions(&world, 3).await;
    let traffic = Traffic::start(&url).await;
    let quarter = json!([{ "name": "quarter", "weight": 25, "minDuration": "1h" }]);
    deliver(&world, "eta-2", "eta-2", plan("eta", quarter)).await;
    let held = reaches(&world, "eta-2", 120, &["Holding"]).await;
    assert_eq!(held["status"]["weights"]["actual"], 25);
    let before = traffic.so_far();
    while traffic.so_far().requests < before.requests + 240 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let after = traffic.so_far();
    let of = |model: &str| {
        let count = |tally: &Tally| tally.answers.get(model).copied().unwrap_or(0);
        f64::from(count(&after) - count(&before))
    };
    // Six standard deviations of a fair choice among four pods, 240 times.
    let share = of("eta-two") / (of("eta-one") + of("eta-two"));
    assert!((0.08..0.42).contains(&share), "{share}: {after:?}");
    want(&world, "eta-2", "Abort").await;
    reaches(&world, "eta-2", 120, &["RolledBack"]).await;
    nothing_left(&world, 60).await;
    traffic.expect_only(&["eta-one", "eta-two"]).await;
}

#[tokio::test]
async fn node_an_operator_that_is_down_during_a_promotion_fails_no_request_and_goes_on() {
    let world = node("down").await;
    let mut target = manifest("eta", 2);
    // Pods that count only after some seconds keep the promotion open while the operator is down.
    target["spec"]["minReadySeconds"] = json!(4);
    let url = serve_as(&world, target, Some("eta-one")).await;
    version(&world, "eta", 2, &uri("eta-two")).await;
    let traffic = Traffic::start(&url).await;
    deliver(&world, "eta-2", "eta-2", plan("eta", held_step())).await;
    reaches(&world, "eta-2", 120, &["Holding"]).await;
    want(&world, "eta-2", "Promote").await;
    reaches(&world, "eta-2", 60, &["Promoting"]).await;
    operator::while_down(&world, tokio::time::sleep(Duration::from_secs(10))).await;
    reaches(&world, "eta-2", 180, &["Promoted"]).await;
    nothing_left(&world, 60).await;
    traffic.until_answered_by("eta-two", 10).await;
    traffic.expect_only(&["eta-one", "eta-two"]).await;
}

/// `kubectl apply`, as the owner of the target runs it.
fn kubectl_apply(world: &World, target: &Value, flags: &[&str]) {
    let variable =
        |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run `cargo xtask test`"));
    let mut kubectl = Command::new(variable("FLYWHEEL_TEST_KUBECTL"))
        .env("KUBECONFIG", variable("FLYWHEEL_TEST_FULL_KUBECONFIG"))
        .args(["apply", "--namespace", &world.namespace, "--filename", "-"])
        .args(flags)
        .stdin(Stdio::piped())
        .spawn()
        .expect("kubectl starts");
    let input = kubectl.stdin.take().expect("an input");
    serde_json::to_writer(input, target).expect("kubectl reads");
    assert!(kubectl.wait().expect("kubectl ends").success());
}

/// Pods without a model serve on while they end: the users come when they are gone.
async fn first_pods_gone(world: &World) {
    let pods = world.api::<k8s_openapi::api::core::v1::Pod>();
    let of_app = kube::api::ListParams::default().labels("app=eta");
    let end = std::time::Instant::now() + Duration::from_secs(120);
    while pods.list(&of_app).await.expect("a list").items.len() != 2 {
        assert!(std::time::Instant::now() < end, "pods of the first template do not end");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// What the owner's sync must not move: the binding, the candidate and where the Rollout stands.
async fn synced_in_mid_rollout(test: &str, flags: &[&str]) {
    let world = node(test).await;
    let target = manifest("eta", 2);
    kubectl_apply(&world, &target, flags);
    let service: k8s_openapi::api::core::v1::Service = crate::world::from(json!({ "metadata": { "name": "eta" },
        "spec": { "selector": { "app": "eta" }, "ports": [{ "port": 80, "targetPort": "http" }] } }));
    let service = world
        .api()
        .create(&kube::api::PostParams::default(), &service)
        .await
        .expect("a Service");
    let url = format!(
        "http://{}/",
        service.spec.and_then(|s| s.cluster_ip).expect("an address")
    );
    version(&world, "eta", 1, &uri("eta-one")).await;
    version(&world, "eta", 2, &uri("eta-two")).await;
    // The first delivery sets the binding, so that there is something that a sync could undo.
    deliver(&world, "eta-1", "eta-1", plan("eta", json!([]))).await;
    reaches(&world, "eta-1", 120, &["Promoted"]).await;
    first_pods_gone(&world).await;
    let traffic = Traffic::start(&url).await;
    deliver(&world, "eta-2", "eta-2", plan("eta", held_step())).await;
    reaches(&world, "eta-2", 120, &["Holding"]).await;
    kubectl_apply(&world, &target, flags);
    assert_eq!(
        bound(&world, "eta").await,
        Some(uri("eta-one")),
        "the manifest does not name the variable"
    );
    traffic.until_answered_by("eta-two", 20).await;
    want(&world, "eta-2", "Promote").await;
    reaches(&world, "eta-2", 60, &["Promoting"]).await;
    kubectl_apply(&world, &target, flags);
    let done = reaches(&world, "eta-2", 180, &["Promoted"]).await;
    assert!(
        !done["status"]["decisions"].to_string().contains("Restart"),
        "{:#}",
        done["status"]
    );
    kubectl_apply(&world, &target, flags);
    assert_eq!(bound(&world, "eta").await, Some(uri("eta-two")));
    nothing_left(&world, 60).await;
    traffic.until_answered_by("eta-two", 10).await;
    traffic.expect_only(&["eta-one", "eta-two"]).await;
}

#[tokio::test]
async fn node_the_manifest_applied_again_by_the_client_in_mid_rollout_changes_nothing() {
    synced_in_mid_rollout("client-side", &[]).await;
}

#[tokio::test]
async fn node_the_manifest_applied_again_by_the_server_in_mid_rollout_changes_nothing() {
    synced_in_mid_rollout("server-side", &["--server-side", "--field-manager=owner"]).await;
}

#[tokio::test]
async fn node_a_target_whose_template_changes_in_mid_rollout_begins_again_and_fails_no_request() {
    let world = node("template").await;
    let url = two_versions(&world, 1).await;
    let traffic = Traffic::start(&url).await;
    deliver(&world, "eta-2", "eta-2", plan("eta", held_step())).await;
    reaches(&world, "eta-2", 120, &["Holding"]).await;
    let body = json!({ "spec": { "template": { "metadata": { "annotations": { "example.com/owner": "team" } } } } });
    world
        .api::<Deployment>()
        .patch("eta", &PatchParams::default(), &Patch::Merge(body))
        .await
        .expect("changed by its owner");
    world
        .until::<Deployment>("eta-candidate", 120, "a copy of the new template", |o| {
            o["spec"]["template"]["metadata"]["annotations"]["example.com/owner"] == "team"
        })
        .await;
    reaches(&world, "eta-2", 120, &["Holding"]).await;
    want(&world, "eta-2", "Promote").await;
    reaches(&world, "eta-2", 180, &["Promoted"]).await;
    nothing_left(&world, 60).await;
    traffic.until_answered_by("eta-two", 10).await;
    traffic.expect_only(&["eta-one", "eta-two"]).await;
}
