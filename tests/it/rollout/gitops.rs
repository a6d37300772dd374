//! The target's manifest is applied again in the middle of a Rollout, with kubectl, as a sync does it.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::scene::scene as begin;
use super::scene::{Scene, calm, decisions, long, plan, step, uri, web};
use crate::fast::fast;

fn kubectl(scene: &Scene, args: &[&str], manifest: &Value) {
    let variable =
        |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run `cargo xtask test`"));
    let mut child = Command::new(variable("FLYWHEEL_TEST_KUBECTL"))
        .args([
            "--kubeconfig",
            &variable("FLYWHEEL_TEST_API_KUBECONFIG"),
            "-n",
            &scene.namespace,
        ])
        .args(args)
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("kubectl starts");
    let mut input = child.stdin.take().expect("an input");
    input.write_all(manifest.to_string().as_bytes()).expect("written");
    drop(input);
    assert!(child.wait().expect("kubectl ends").success(), "kubectl {args:?}");
}

/// The manifest leaves the variable out, as the documentation says; Flywheel sets it.
async fn synced(test: &str, apply: &[&str]) {
    let scene = begin(fast(test).await, 2).await;
    let mut manifest = web(2, None);
    manifest["metadata"]["name"] = json!("web");
    scene
        .roll("up", "eta-2", plan(&[step("third", 33), long("half", 50)], json!({})))
        .await;
    scene.held("up", "MinDuration").await;
    kubectl(&scene, apply, &manifest);
    calm(2).await;
    let held = scene.held("up", "MinDuration").await;
    assert!(
        !decisions(&held).iter().any(|d| d.starts_with("Restart")),
        "{:?}",
        decisions(&held)
    );
    assert_eq!(
        scene.value().await,
        Some(uri(1)),
        "the sync does not touch the variable"
    );
    scene.want("up", "Promote").await;
    scene.ended("up", "Promoted").await;
    kubectl(&scene, apply, &manifest);
    calm(1).await;
    let web = scene.serves(2).await;
    assert_eq!(
        web["spec"]["template"]["metadata"]["annotations"]["flywheel.dev/model-version"],
        "eta-2"
    );
    scene.finish(Some(&uri(2)), 2).await;
}

#[tokio::test]
async fn cluster_a_manifest_that_is_applied_client_side_in_mid_rollout_changes_nothing() {
    synced("clientside", &["apply"]).await;
}

#[tokio::test]
async fn cluster_a_manifest_that_is_applied_server_side_in_mid_rollout_changes_nothing() {
    let apply = ["apply", "--server-side", "--force-conflicts", "--field-manager=sync"];
    synced("serverside", &apply).await;
}
