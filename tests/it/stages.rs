//! Stages on a node: what becomes of good, bad and missing results.

use std::process::Command;

use flywheel_api::{Approval, BiasPolicy, FlywheelPipeline, FlywheelRun, ModelVersion};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};
use serde_json::json;

use crate::operator;
use crate::serving::probe;
use crate::world::{World, condition, from, gap, node, pipeline, run};

/// A claim on a folder of the node that every user may write to.
pub async fn store(world: &World) {
    let folder = format!("/tmp/flywheel-test/{}", world.namespace);
    std::fs::create_dir_all(format!("{folder}/store")).expect("a folder");
    for path in [folder.clone(), format!("{folder}/store")] {
        let all = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(path, all).expect("permissions");
    }
    let volume: PersistentVolume = from(json!({ "metadata": { "name": world.namespace }, "spec": {
        "capacity": { "storage": "1Gi" }, "accessModes": ["ReadWriteMany"], "hostPath": { "path": folder },
        "claimRef": { "namespace": world.namespace, "name": "artifacts" } } }));
    Api::all(world.client.clone())
        .create(&PostParams::default(), &volume)
        .await
        .expect("a volume");
    let claim = json!({ "spec": { "accessModes": ["ReadWriteMany"], "storageClassName": "", "volumeName": world.namespace,
        "resources": { "requests": { "storage": "1Gi" } } } });
    world
        .apply::<PersistentVolumeClaim>("artifacts", claim)
        .await
        .expect("a claim");
}

#[tokio::test]
async fn node_train_and_evaluate_end_in_a_model_version_with_its_lineage() {
    let world = node("lineage").await;
    store(&world).await;
    world
        .apply::<FlywheelPipeline>("eta", pipeline("eta", &probe()))
        .await
        .expect("accepted");
    world.apply::<FlywheelRun>("eta-1", run("eta")).await.expect("accepted");
    let done = world
        .until::<FlywheelRun>("eta-1", 120, "registered", |o| {
            condition(o, "Complete", "True", "Registered")
        })
        .await;
    let version = world
        .until::<ModelVersion>("eta-1", 20, "approved", |o| o["status"]["state"] == "Approved")
        .await;
    assert_eq!(version["spec"]["provenance"]["run"]["uid"], done["metadata"]["uid"]);
    assert_eq!(
        version["spec"]["provenance"]["stages"][0]["job"]["uid"],
        done["status"]["stages"][0]["job"]["uid"]
    );
    assert!(
        version["spec"]["provenance"]["stages"][0]["imageId"]
            .as_str()
            .is_some_and(|i| i.contains("sha256"))
    );
    assert_eq!(version["spec"]["datasets"][0]["name"], "train.rows");
    assert_eq!(
        version["metadata"]["labels"]["flywheel.dev/dataset"],
        "0123456789abcdef"
    );
    assert_eq!(version["status"]["evaluations"][0]["verdict"], "Pass");
    let file = version["spec"]["artifact"]["uri"]
        .as_str()
        .unwrap_or_default()
        .replace("pvc://artifacts/", "");
    let path = format!("/tmp/flywheel-test/{}/{file}", world.namespace);
    assert!(
        std::path::Path::new(&path).exists(),
        "the artifact lies where its URI says: {path}"
    );
}

#[tokio::test]
async fn node_a_version_that_misses_its_gate_is_rejected_and_one_of_a_human_level_waits() {
    let world = node("gates").await;
    store(&world).await;
    let mut object = pipeline("eta", &probe());
    object["spec"]["automationLevel"] = json!("HumanOversight");
    world.apply::<FlywheelPipeline>("eta", object).await.expect("accepted");
    let mut bad = run("eta");
    bad["spec"]["parameters"] = json!([{ "name": "error", "value": "9" }]);
    world.apply::<FlywheelRun>("bad", bad).await.expect("accepted");
    let refused = world
        .until::<FlywheelRun>("bad", 120, "rejected", |o| condition(o, "Complete", "True", "Rejected"))
        .await;
    assert!(
        refused["status"]["outcomeReason"]
            .as_str()
            .is_some_and(|r| r.contains("at most 5 is demanded"))
    );
    world
        .until::<ModelVersion>("eta-1", 20, "rejected", |o| o["status"]["state"] == "Rejected")
        .await;
    world.apply::<FlywheelRun>("good", run("eta")).await.expect("accepted");
    let waits = world
        .until::<FlywheelRun>("good", 120, "waiting", |o| {
            o["status"]["waitingFor"]["gate"] == "Promote"
        })
        .await;
    let waiting = &waits["status"]["waitingFor"];
    let approval = json!({ "spec": { "subjectRef": waiting["subject"], "gate": "Promote", "decision": "Approve",
        "evidenceDigest": waiting["evidenceDigest"], "approver": "admin", "reason": "the numbers are good" } });
    world.apply::<Approval>("by-admin", approval).await.expect("accepted");
    world
        .until::<FlywheelRun>("good", 30, "registered", |o| {
            condition(o, "Complete", "True", "Registered")
        })
        .await;
    world
        .until::<ModelVersion>("eta-2", 20, "approved by a person", |o| {
            o["status"]["approvals"][0]["name"] == "by-admin"
        })
        .await;
}

#[tokio::test]
async fn node_a_bias_policy_stops_a_version_whose_groups_differ() {
    let world = node("fair").await;
    store(&world).await;
    world.apply::<BiasPolicy>("fair", gap()).await.expect("accepted");
    let mut object = pipeline("eta", &probe());
    object["spec"]["biasPolicies"] = json!([{ "name": "fair" }]);
    world.apply::<FlywheelPipeline>("eta", object).await.expect("accepted");
    world.apply::<FlywheelRun>("eta-1", run("eta")).await.expect("accepted");
    let refused = world
        .until::<FlywheelRun>("eta-1", 120, "rejected", |o| {
            condition(o, "Complete", "True", "Rejected")
        })
        .await;
    assert_eq!(refused["status"]["bias"][0]["verdict"], "Fail");
    world
        .until::<BiasPolicy>("fair", 20, "told", |o| o["status"]["worst"] == "Fail (eta-1)")
        .await;
}

#[tokio::test]
async fn node_a_stage_that_leaves_no_valid_result_fails_with_its_reason() {
    let world = node("broken").await;
    store(&world).await;
    let cases = [
        ("silent", "NoResult"),
        ("garbage", "BrokenResult"),
        ("foreign", "BrokenResult"),
        ("no-model", "BrokenResult"),
        ("exit", "ExitCode"),
        ("memory", "OOMKilled"),
        ("slow", "DeadlineExceeded"),
    ];
    for (mode, _) in cases {
        let mut object = pipeline(mode, &probe());
        object["spec"]["stages"][0]["args"] = json!([mode]);
        object["spec"]["stages"][0]["timeoutSeconds"] = json!(if mode == "slow" { 8 } else { 300 });
        object["spec"]["stages"][0]["resources"] =
            json!({ "limits": { "memory": "48Mi" }, "requests": { "cpu": "10m" } });
        world.apply::<FlywheelPipeline>(mode, object).await.expect("accepted");
        world.apply::<FlywheelRun>(mode, run(mode)).await.expect("accepted");
    }
    for (mode, reason) in cases {
        let failed = world
            .until::<FlywheelRun>(mode, 150, "failed", |o| condition(o, "Stalled", "True", "Failed"))
            .await;
        assert_eq!(failed["status"]["stages"][0]["failure"]["reason"], reason, "{mode}");
        assert_eq!(
            failed["status"]["stages"][0]["attempt"], 1,
            "{mode} is no fault of the infrastructure"
        );
    }
    // Of a run that failed the plugin shows the stage that failed.
    let said = logs(&world, "exit");
    assert!(said.contains("there are no rows to train on"), "{said}");
}

/// What `kubectl flywheel logs run` prints.
fn logs(world: &World, run: &str) -> String {
    let variable =
        |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run `cargo xtask test`"));
    let output = Command::new(variable("FLYWHEEL_TEST_PLUGIN"))
        .args(["logs", "run", run, "--namespace", &world.namespace])
        .env("KUBECONFIG", variable("FLYWHEEL_TEST_FULL_KUBECONFIG"))
        .output()
        .expect("the plugin starts");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

#[tokio::test]
async fn node_an_image_that_cannot_be_pulled_is_tried_again_and_then_fails() {
    let world = node("pull").await;
    store(&world).await;
    let mut object = pipeline("eta", "localhost:1/nowhere/nothing:1");
    object["spec"]["stages"][0]["retry"] = json!({ "limit": 1, "backoff": "1s" });
    world.apply::<FlywheelPipeline>("eta", object).await.expect("accepted");
    world.apply::<FlywheelRun>("eta-1", run("eta")).await.expect("accepted");
    let failed = world
        .until::<FlywheelRun>("eta-1", 240, "failed", |o| condition(o, "Stalled", "True", "Failed"))
        .await;
    assert_eq!(failed["status"]["stages"][0]["failure"]["reason"], "ImagePullFailed");
    assert_eq!(failed["status"]["stages"][0]["attempt"], 2);
}

/// While nobody looks, the Job completes and its pod, which holds the result, vanishes.
async fn complete_and_lose_the_pod(world: &World, job: &str) {
    world
        .until::<Job>(job, 120, "complete", |o| condition_of(o, "Complete"))
        .await;
    let pods = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={job}"));
    let now = DeleteParams::default().grace_period(0);
    world
        .api::<Pod>()
        .delete_collection(&now, &pods)
        .await
        .expect("deleted");
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !world.api::<Pod>().list(&pods).await.expect("pods").items.is_empty() {
        assert!(std::time::Instant::now() < end, "the pods of {job} do not go");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

fn condition_of(job: &serde_json::Value, type_: &str) -> bool {
    let conditions = job["status"]["conditions"].as_array().into_iter().flatten();
    conditions
        .into_iter()
        .any(|c| c["type"] == type_ && c["status"] == "True")
}

#[tokio::test]
async fn node_a_job_whose_pod_is_lost_before_its_result_was_read_is_run_again() {
    let world = node("lost").await;
    store(&world).await;
    let mut object = pipeline("eta", &probe());
    object["spec"]["stages"][0]["args"] = json!(["train", "8"]);
    object["spec"]["stages"][0]["retry"] = json!({ "limit": 1, "backoff": "1s" });
    world.apply::<FlywheelPipeline>("eta", object).await.expect("accepted");
    world.apply::<FlywheelRun>("eta-1", run("eta")).await.expect("accepted");
    let begun = world
        .until::<FlywheelRun>("eta-1", 60, "begun", |o| {
            o["status"]["stages"][0]["job"]["uid"].is_string()
        })
        .await;
    let job = begun["status"]["stages"][0]["job"]["name"]
        .as_str()
        .expect("a name")
        .to_owned();
    operator::while_down(&world, complete_and_lose_the_pod(&world, &job)).await;
    let done = world
        .until::<FlywheelRun>("eta-1", 180, "registered", |o| {
            condition(o, "Complete", "True", "Registered")
        })
        .await;
    assert_eq!(done["status"]["stages"][0]["attempt"], 2);
    let retry = &done["status"]["decisions"].to_string();
    assert!(retry.contains("ResultLost"), "{retry}");
    let version = world.until::<ModelVersion>("eta-1", 20, "there", |_| true).await;
    assert_eq!(
        version["spec"]["provenance"]["stages"][0]["attempt"], 2,
        "the lineage names the attempt that counts"
    );
}
