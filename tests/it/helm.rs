//! The operator as the chart installed it: these tests change or remove it, so they run after all others, one by one, in
//! the order of their names.

use std::path::{Path, PathBuf};
use std::process::Command;

use flywheel_api::{BiasPolicy, FlywheelPipeline, FlywheelRun, ModelVersion, Rollout};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, LogParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use crate::world::{World, condition, from, node, pipeline, run, until};

const SYSTEM: &str = "flywheel-system";
const CHART: &str = "charts/flywheel";

/// Runs a program that the test command names in a variable, and returns what it printed.
fn tool(variable: &str, args: &[&str]) -> Result<String, String> {
    let program = std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: run `cargo xtask test`"));
    let kubeconfig = std::env::var("FLYWHEEL_TEST_FULL_KUBECONFIG").expect("a kubeconfig");
    let home = std::env::temp_dir().join("flywheel-helm");
    let output = Command::new(program)
        .args(args)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("KUBECONFIG", kubeconfig)
        .envs(["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"].map(|name| (name, &home)))
        .output()
        .expect("the program starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    Err(format!("{text}{}", String::from_utf8_lossy(&output.stderr)))
}

fn helm(args: &[&str]) -> String {
    tool("FLYWHEEL_TEST_HELM", args).unwrap_or_else(|e| panic!("helm {args:?}: {e}"))
}

/// Upgrades the release to a chart, with what it was installed with and these settings.
fn upgrade(chart: &str, more: &[&str]) {
    let args = ["upgrade", "flywheel", chart, "--namespace", SYSTEM, "--reuse-values"];
    helm(&[&args, &["--wait", "--timeout=3m"][..], more].concat());
}

async fn operators(client: &Client) -> Vec<Pod> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), SYSTEM);
    let ours = ListParams::default().labels("app.kubernetes.io/component=operator");
    let found = pods.list(&ours).await.expect("pods").items;
    found
        .into_iter()
        .filter(|p| p.metadata.deletion_timestamp.is_none())
        .collect()
}

async fn holder(client: &Client) -> Option<String> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), SYSTEM);
    let lease = leases.get_opt("flywheel").await.expect("an answer")?;
    lease.spec?.holder_identity.filter(|h| !h.is_empty())
}

/// What a replica answers, through the API server.
async fn ask(client: &Client, pod: &str, path: &str) -> String {
    let uri = format!("/api/v1/namespaces/{SYSTEM}/pods/{pod}:8080/proxy{path}");
    let request = http::Request::get(uri).body(Vec::new()).expect("a request");
    client.request_text(request).await.expect("the replica answers")
}

#[tokio::test]
async fn helm_1_two_restricted_replicas_run_and_one_of_them_leads() {
    let world = node("helm-replicas").await;
    world
        .apply::<FlywheelPipeline>("eta", pipeline("eta", "example/eta"))
        .await
        .expect("accepted");
    world
        .until::<FlywheelPipeline>("eta", 30, "ready", |o| condition(o, "Ready", "True", "Idle"))
        .await;
    let space: Namespace = Api::all(world.client.clone()).get(SYSTEM).await.expect("the namespace");
    assert_eq!(space.labels()["pod-security.kubernetes.io/enforce"], "restricted");
    let pods = operators(&world.client).await;
    assert_eq!(pods.len(), 2);
    let leader = holder(&world.client).await.expect("a leader");
    assert!(
        pods.iter().any(|p| p.name_any() == leader),
        "{leader} is one of the pods"
    );
    for pod in &pods {
        let name = pod.name_any();
        assert_eq!(ask(&world.client, &name, "/healthz").await, "ok\n");
        assert_eq!(ask(&world.client, &name, "/readyz").await, "ok\n");
        let leads = u8::from(name == leader);
        let metrics = ask(&world.client, &name, "/metrics").await;
        assert!(
            metrics.contains(&format!("\nflywheel_leader {leads}\n")),
            "{name}: {metrics}"
        );
    }
    let space = &world.namespace;
    let line = format!("flywheel_pipeline_info{{level=\"FullyAutomated\",name=\"eta\",namespace=\"{space}\"");
    let metrics = until("the metrics tell of the pipeline", 10, || async {
        let text = ask(&world.client, &leader, "/metrics").await;
        text.contains(&line).then_some(text)
    })
    .await;
    check_metrics(&metrics);
    check_log(&world.client, &leader, space).await;
}

/// Names, help and types are as Prometheus wants them.
fn check_metrics(text: &str) {
    use std::io::Write;
    let promtool = std::env::var("FLYWHEEL_TEST_PROMTOOL").expect("FLYWHEEL_TEST_PROMTOOL is not set");
    let mut child = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("promtool starts");
    child
        .stdin
        .take()
        .expect("an input")
        .write_all(text.as_bytes())
        .expect("it reads");
    let output = child.wait_with_output().expect("promtool ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

/// Every line is JSON, and what belongs to a reconcile names its object.
async fn check_log(client: &Client, pod: &str, namespace: &str) {
    let pods: Api<Pod> = Api::namespaced(client.clone(), SYSTEM);
    let log = pods.logs(pod, &LogParams::default()).await.expect("a log");
    let lines: Vec<Value> = log
        .lines()
        .map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}")))
        .collect();
    let of_ours = lines
        .iter()
        .filter(|l| l["span"]["object"] == "eta" && l["span"]["namespace"] == namespace);
    let written = of_ours.filter(|l| l["message"] == "record the status").count();
    assert!(written > 0, "no line of the pipeline's reconcile in {log}");
    assert!(
        lines
            .iter()
            .all(|l| l["level"].is_string() && l["timestamp"].is_string())
    );
}

#[tokio::test]
async fn helm_2_a_leader_that_is_told_to_go_hands_over_before_its_lease_would_end() {
    let world = node("helm-hand-over").await;
    let first = until("a leader", 60, || holder(&world.client)).await;
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), SYSTEM);
    pods.delete(&first, &DeleteParams::default()).await.expect("deleted");
    // A lease that is not given back lasts 15 s after its last renewal.
    let second = until("another replica leads", 14, || async {
        holder(&world.client).await.filter(|h| *h != first)
    })
    .await;
    world
        .apply::<FlywheelPipeline>("eta", pipeline("eta", "example/eta"))
        .await
        .expect("accepted");
    world
        .until::<FlywheelPipeline>("eta", 30, "ready", |o| condition(o, "Ready", "True", "Idle"))
        .await;
    until("two replicas again", 90, || async {
        let pods = operators(&world.client).await;
        let ready = |p: &Pod| {
            let conditions = p.status.iter().flat_map(|s| s.conditions.iter().flatten());
            conditions.filter(|c| c.type_ == "Ready" && c.status == "True").count() == 1
        };
        (pods.len() == 2 && pods.iter().all(ready)).then_some(())
    })
    .await;
    assert!(
        ask(&world.client, &second, "/metrics")
            .await
            .contains("\nflywheel_leader 1\n")
    );
}

async fn version(world: &World, number: i64) {
    let spec = json!({ "modelName": "eta", "version": number, "artifact": {
        "uri": format!("https://models.example/eta-{number}"), "digest": format!("sha256:{}", "0".repeat(64)) } });
    world
        .apply::<ModelVersion>(&format!("eta-{number}"), json!({ "spec": spec }))
        .await
        .expect("a version");
}

/// A target whose pods do nothing but run.
async fn target(world: &World) {
    let spec = json!({ "replicas": 2, "selector": { "matchLabels": { "app": "eta" } }, "template": {
        "metadata": { "labels": { "app": "eta" } },
        "spec": {
            "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 1,
            "securityContext": { "runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": { "type": "RuntimeDefault" } },
            "containers": [{
                "name": "app", "image": "localhost/pause:1", "imagePullPolicy": "IfNotPresent",
                "env": [{ "name": "MODEL_URI", "value": "https://models.example/eta-1" }],
                "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } }
            }]
        }
    }});
    world
        .apply::<Deployment>("eta", json!({ "spec": spec }))
        .await
        .expect("a target");
}

#[tokio::test]
async fn helm_3_the_brake_is_seen_on_each_object_and_rollbacks_go_on() {
    let world = node("helm-brake").await;
    target(&world).await;
    version(&world, 1).await;
    version(&world, 2).await;
    let plan = json!({ "targetRef": { "kind": "Deployment", "name": "eta" },
        "binding": { "type": "DeploymentEnv", "container": "app", "name": "MODEL_URI" },
        "strategy": { "steps": [{ "name": "half", "weight": 50, "minDuration": "1h" }] } });
    let rollout = json!({ "spec": { "modelVersionRef": { "name": "eta-2" }, "plan": plan } });
    world.apply::<Rollout>("eta-2", rollout).await.expect("a Rollout");
    world
        .until::<Rollout>("eta-2", 90, "holding", |o| o["status"]["phase"] == "Holding")
        .await;

    upgrade(
        CHART,
        &["--set=config.brake.engaged=true,config.brake.reason=audit of week 20"],
    );
    world
        .apply::<FlywheelPipeline>("eta", pipeline("eta", "example/eta"))
        .await
        .expect("accepted");
    world.apply::<FlywheelRun>("eta-9", run("eta")).await.expect("accepted");
    let braked = |o: &Value| {
        condition(o, "Braked", "True", "Braked") && o["status"]["conditions"].to_string().contains("audit of week 20")
    };
    // A mounted ConfigMap would take a minute; this one is watched.
    world.until::<FlywheelPipeline>("eta", 30, "braked", braked).await;
    let held = world.until::<FlywheelRun>("eta-9", 30, "braked", braked).await;
    assert!(held["status"]["startedAt"].is_null(), "{held:#}");
    world.until::<Rollout>("eta-2", 30, "braked", braked).await;

    let back = Patch::Merge(json!({ "spec": { "desiredState": "RollBack" } }));
    world
        .api::<Rollout>()
        .patch("eta-2", &PatchParams::default(), &back)
        .await
        .expect("accepted");
    world
        .until::<Rollout>("eta-2", 90, "rolled back", |o| o["status"]["phase"] == "RolledBack")
        .await;
    let left = world
        .api::<Deployment>()
        .get_opt("eta-candidate")
        .await
        .expect("an answer");
    assert!(
        left.is_none_or(|d| d.metadata.deletion_timestamp.is_some()),
        "the candidate is gone"
    );

    upgrade(CHART, &["--set=config.brake.engaged=false"]);
    world
        .until::<FlywheelRun>("eta-9", 30, "begun", |o| o["status"]["startedAt"].is_string())
        .await;
}

/// A copy of the chart whose CRD of BiasPolicies knows one more way to compare.
fn newer_chart() -> PathBuf {
    let copy = std::env::temp_dir().join(format!("flywheel-newer-{}", std::process::id()));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(CHART);
    let copied = Command::new("cp")
        .arg("-R")
        .arg(source)
        .arg(&copy)
        .status()
        .expect("cp");
    assert!(copied.success());
    let file = copy.join("files/crds/biaspolicies.yaml");
    let text = std::fs::read_to_string(&file).expect("a CRD");
    let at = text.find("- Difference\n").expect("an enumeration");
    let indent = text[..at].rsplit('\n').next().unwrap_or_default();
    let more = format!("- Difference\n{indent}- Quotient\n");
    let newer = text.replacen("- Difference\n", &more, 1);
    std::fs::write(&file, newer).expect("written");
    copy
}

fn policy(compare: &str) -> Value {
    json!({ "spec": {
        "modelSelector": { "matchLabels": { "team": "eta" } },
        "protectedAttributes": [{ "name": "region" }],
        "objectives": [{ "name": "gap", "metric": "mae", "compare": compare, "limit": { "max": "1" } }]
    }})
}

#[tokio::test]
async fn helm_4_an_upgrade_changes_a_crd_and_what_the_operator_cannot_read_says_so() {
    let world = node("helm-newer").await;
    let chart = newer_chart();
    upgrade(chart.to_str().expect("a path"), &[]);
    let crds: Api<CustomResourceDefinition> = Api::all(world.client.clone());
    let crd = crds.get("biaspolicies.flywheel.dev").await.expect("the CRD");
    assert!(
        serde_json::to_string(&crd).expect("JSON").contains("\"Quotient\""),
        "the CRD was not upgraded"
    );

    let kind = ApiResource::erase::<BiasPolicy>(&());
    let objects: Api<DynamicObject> = Api::namespaced_with(world.client.clone(), &world.namespace, &kind);
    let mut newer = policy("Quotient");
    newer["apiVersion"] = json!(kind.api_version);
    newer["kind"] = json!(kind.kind);
    newer["metadata"]["name"] = json!("newer");
    objects
        .create(&PostParams::default(), &from(newer))
        .await
        .expect("the newer CRD takes it");
    let marked = until("the unreadable object says so", 30, || async {
        let object = objects.get("newer").await.expect("an answer");
        let value = serde_json::to_value(&object).expect("JSON");
        let says = condition(&value, "Ready", "False", "Invalid") && condition(&value, "Stalled", "True", "Invalid");
        says.then_some(value)
    })
    .await;
    let text = marked["status"]["conditions"].to_string();
    assert!(
        text.contains("Quotient") && text.contains("kubectl explain biaspolicies"),
        "{text}"
    );
    assert_eq!(marked["status"]["observedGeneration"], marked["metadata"]["generation"]);
    // The others go on.
    world
        .apply::<BiasPolicy>("known", policy("Difference"))
        .await
        .expect("accepted");
    world
        .until::<BiasPolicy>("known", 30, "ready", |o| {
            o["status"]["conditions"].to_string().contains("\"Ready\"") && o["status"]["observedGeneration"] == 1
        })
        .await;
    objects
        .delete("newer", &DeleteParams::default())
        .await
        .expect("deleted");
    upgrade(CHART, &[]);
    std::fs::remove_dir_all(chart).expect("removed");
}

#[tokio::test]
async fn helm_5_with_watched_namespaces_the_operator_has_rights_in_those_alone() {
    let (watched, other) = (node("helm-watched").await, node("helm-other").await);
    upgrade(CHART, &[&format!("--set=watchNamespaces={{{}}}", watched.namespace)]);
    let bindings: Api<ClusterRoleBinding> = Api::all(watched.client.clone());
    assert!(
        bindings.get_opt("flywheel").await.expect("an answer").is_none(),
        "no rights in the whole cluster"
    );
    for world in [&other, &watched] {
        world
            .apply::<FlywheelPipeline>("eta", pipeline("eta", "example/eta"))
            .await
            .expect("accepted");
        target(world).await;
        version(world, 1).await;
    }
    watched
        .until::<FlywheelPipeline>("eta", 60, "ready", |o| condition(o, "Ready", "True", "Idle"))
        .await;
    watched
        .until::<ModelVersion>("eta-1", 30, "registered", |o| {
            condition(o, "Ready", "True", "Registered")
        })
        .await;
    let ignored = other
        .until::<FlywheelPipeline>("eta", 5, "there", |o| o["metadata"]["uid"].is_string())
        .await;
    assert_eq!(ignored["status"]["observedGeneration"], -1, "{ignored:#}");
    upgrade(CHART, &["--set-json=watchNamespaces=[]"]);
    other
        .until::<FlywheelPipeline>("eta", 60, "ready", |o| condition(o, "Ready", "True", "Idle"))
        .await;
}

#[tokio::test]
async fn helm_6_the_installed_manifests_do_not_drift() {
    let manifest = helm(&["get", "manifest", "flywheel", "--namespace", SYSTEM]);
    let file = std::env::temp_dir().join(format!("flywheel-manifest-{}.yaml", std::process::id()));
    std::fs::write(&file, manifest).expect("written");
    let path = file.to_str().expect("a path");
    // As another manager: Helm itself adds annotations that are not in the manifest.
    let diff = [
        "diff",
        "--server-side",
        "--field-manager=drift",
        "--force-conflicts",
        "--filename",
        path,
    ];
    tool("FLYWHEEL_TEST_KUBECTL", &diff).unwrap_or_else(|e| panic!("something changed what Helm installed: {e}"));
    let again = [
        "apply",
        "--server-side",
        "--filename=crds/approvals.yaml",
        "--dry-run=server",
        "--force-conflicts",
    ];
    tool("FLYWHEEL_TEST_KUBECTL", &again).expect("the CRDs can be managed apart");
    std::fs::remove_file(file).expect("removed");
}

#[tokio::test]
async fn helm_7_an_uninstall_keeps_crds_and_objects_and_an_install_goes_on_with_them() {
    let world = node("helm-uninstall").await;
    version(&world, 1).await;
    world
        .until::<ModelVersion>("eta-1", 30, "registered", |o| {
            condition(o, "Ready", "True", "Registered")
        })
        .await;
    let values = helm(&["get", "values", "flywheel", "--namespace", SYSTEM, "--output=json"]);
    helm(&["uninstall", "flywheel", "--namespace", SYSTEM, "--wait", "--timeout=2m"]);
    let crds: Api<CustomResourceDefinition> = Api::all(world.client.clone());
    let all = crds.list(&ListParams::default()).await.expect("a list").items;
    let ours = all.iter().filter(|c| c.spec.group == "flywheel.dev").count();
    assert_eq!(ours, 6, "the CRDs are kept");
    let kept = world
        .api::<ModelVersion>()
        .get("eta-1")
        .await
        .expect("the object is kept");
    let all: Api<Deployment> = Api::namespaced(world.client.clone(), SYSTEM);
    assert!(all.get_opt("flywheel").await.expect("an answer").is_none());

    let file = std::env::temp_dir().join(format!("flywheel-values-{}.json", std::process::id()));
    std::fs::write(&file, values).expect("written");
    let path = format!("--values={}", file.display());
    helm(&[
        "install",
        "flywheel",
        CHART,
        "--namespace",
        SYSTEM,
        "--wait",
        "--timeout=3m",
        &path,
    ]);
    std::fs::remove_file(file).expect("removed");
    version(&world, 2).await;
    world
        .until::<ModelVersion>("eta-2", 60, "registered", |o| {
            condition(o, "Ready", "True", "Registered")
        })
        .await;
    let same = world.api::<ModelVersion>().get("eta-1").await.expect("still there");
    assert_eq!(same.metadata.uid, kept.metadata.uid);
}
