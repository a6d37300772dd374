//! A model that is served on a node: target, Service, versions, Rollouts, and what must be left in the end.

use std::time::{Duration, Instant};

use flywheel_api::{FlywheelRun, ModelVersion, Rollout};
use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment, ReplicaSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::world::{PATIENCE, World, from};

/// The image of the probe.
pub fn probe() -> String {
    std::env::var("FLYWHEEL_TEST_PROBE_IMAGE").expect("FLYWHEEL_TEST_PROBE_IMAGE is not set: run `cargo xtask test`")
}

/// The artifact of a model that the server knows without reading a file; words in its name say how it behaves.
pub fn uri(model: &str) -> String {
    format!("https://models.example/{model}")
}

/// The manifest of a target, as its owner keeps it: without the variable that Flywheel sets.
pub fn manifest(name: &str, replicas: i32) -> Value {
    json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name }, "spec": {
        "replicas": replicas,
        "selector": { "matchLabels": { "app": name } },
        "strategy": { "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 0 } },
        "template": {
            "metadata": { "labels": { "app": name } },
            "spec": {
                "automountServiceAccountToken": false,
                "enableServiceLinks": false,
                "securityContext": { "runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": { "type": "RuntimeDefault" } },
                "containers": [{
                    "name": "app", "image": probe(), "args": ["serve"], "imagePullPolicy": "IfNotPresent",
                    "ports": [{ "name": "http", "containerPort": 8080 }],
                    // A server that is slow because the machine is busy is still ready: with the defaults of a second and three
                    // tries every pod of a Service may be taken out of it at once, and connections begun then are lost.
                    "readinessProbe": { "httpGet": { "path": "/ready", "port": "http" }, "periodSeconds": 1,
                        "timeoutSeconds": 10, "failureThreshold": 10 },
                    "lifecycle": { "preStop": { "sleep": { "seconds": 5 } } },
                    "resources": { "requests": { "cpu": "5m", "memory": "16Mi" } },
                    "securityContext": { "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": { "drop": ["ALL"] } }
                }]
            }
        }
    }})
}

/// The manifest of a target that reads its model from the artifact store.
pub fn manifest_with_store(name: &str, replicas: i32) -> Value {
    let mut target = manifest(name, replicas);
    let pod = &mut target["spec"]["template"]["spec"];
    let claim = json!({ "claimName": "artifacts", "readOnly": true });
    pod["volumes"] = json!([{ "name": "models", "persistentVolumeClaim": claim }]);
    pod["containers"][0]["volumeMounts"] = json!([{ "name": "models", "mountPath": "/models", "readOnly": true }]);
    target
}

/// Creates a target that serves this model from the beginning, if one is named, and its Service.
pub async fn serve(world: &World, name: &str, replicas: i32, model: Option<&str>) -> String {
    serve_as(world, manifest(name, replicas), model).await
}

/// Creates a target from a manifest and its Service; says where it answers.
pub async fn serve_as(world: &World, mut target: Value, model: Option<&str>) -> String {
    let name = target["metadata"]["name"].as_str().expect("a name").to_owned();
    if let Some(model) = model {
        target["spec"]["template"]["spec"]["containers"][0]["env"] =
            json!([{ "name": "MODEL_URI", "value": uri(model) }]);
    }
    let by_owner = PostParams {
        field_manager: Some("owner".to_owned()),
        ..PostParams::default()
    };
    let target: Deployment = from(target);
    world.api().create(&by_owner, &target).await.expect("a target");
    let service: Service = from(json!({ "metadata": { "name": name },
        "spec": { "selector": { "app": name }, "ports": [{ "port": 80, "targetPort": "http" }] } }));
    let service = world.api().create(&by_owner, &service).await.expect("a Service");
    let address = service.spec.and_then(|s| s.cluster_ip).expect("a service address");
    format!("http://{address}/")
}

/// Registers a version by hand, as `<model>-<number>`.
pub async fn version(world: &World, model: &str, number: i64, artifact: &str) -> ModelVersion {
    let object = json!({ "spec": { "modelName": model, "version": number, "artifact": {
        "uri": artifact, "digest": format!("sha256:{}", "0".repeat(64)) } } });
    world
        .apply(&format!("{model}-{number}"), object)
        .await
        .expect("a version")
}

/// The plan of a Rollout to a target, with these steps.
pub fn plan(target: &str, steps: Value) -> Value {
    json!({ "targetRef": { "name": target },
        "binding": { "type": "DeploymentEnv", "container": "app", "name": "MODEL_URI" },
        "strategy": { "steps": steps } })
}

/// Asks for the delivery of a version.
pub async fn deliver(world: &World, name: &str, version: &str, plan: Value) -> Rollout {
    let object = json!({ "spec": { "modelVersionRef": { "name": version }, "plan": plan } });
    world.apply(name, object).await.expect("a Rollout")
}

/// Says what the user wants of a Rollout.
pub async fn want(world: &World, rollout: &str, state: &str) {
    let body = json!({ "spec": { "desiredState": state } });
    world
        .api::<Rollout>()
        .patch(rollout, &PatchParams::default(), &Patch::Merge(body))
        .await
        .expect("accepted");
}

/// Waits until a Rollout is in one of these phases.
pub async fn reaches(world: &World, rollout: &str, seconds: u64, phases: &[&str]) -> Value {
    world
        .until::<Rollout>(rollout, seconds, &format!("{phases:?}"), |o| {
            phases.iter().any(|phase| o["status"]["phase"] == *phase)
        })
        .await
}

/// The value that the target's binding carries.
pub async fn bound(world: &World, target: &str) -> Option<String> {
    let found = world.api::<Deployment>().get(target).await.expect("the target");
    let pod = found.spec.and_then(|s| s.template.spec)?;
    let env = pod.containers.into_iter().next()?.env.unwrap_or_default();
    env.into_iter().find(|e| e.name == "MODEL_URI")?.value
}

/// UIDs and restarts of the pods that the target itself owns.
pub async fn own_pods(world: &World, target: &str) -> Vec<(String, i32)> {
    let mine = ListParams::default().labels(&format!("app={target},flywheel.dev/role!=candidate"));
    let pods = world.api::<Pod>().list(&mine).await.expect("pods");
    let mut all: Vec<_> = pods
        .items
        .iter()
        .map(|p| {
            let statuses = p.status.iter().flat_map(|s| s.container_statuses.iter().flatten());
            (p.uid().unwrap_or_default(), statuses.map(|s| s.restart_count).sum())
        })
        .collect();
    all.sort();
    all
}

/// Waits until nothing is left of what Flywheel made for a delivery: candidates with their ReplicaSets and pods, and
/// Jobs, pods and snapshots of runs that are gone.
pub async fn nothing_left(world: &World, seconds: u64) {
    let seconds = seconds * PATIENCE;
    let end = Instant::now() + Duration::from_secs(seconds);
    loop {
        let left = left(world).await;
        if left.is_empty() {
            return;
        }
        assert!(
            Instant::now() < end,
            "{}: still left after {seconds} s: {left:?}",
            world.namespace
        );
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

async fn left(world: &World) -> Vec<String> {
    let candidates = ListParams::default().labels("flywheel.dev/role=candidate");
    let runs = world
        .api::<FlywheelRun>()
        .list(&ListParams::default())
        .await
        .expect("runs");
    let known: Vec<String> = runs.items.iter().filter_map(ResourceExt::uid).collect();
    let orphan = |labels: &std::collections::BTreeMap<String, String>| {
        labels
            .get("flywheel.dev/run-uid")
            .is_some_and(|uid| !known.contains(uid))
    };
    let mut left = Vec::new();
    macro_rules! collect {
        ($kind:ty, $params:expr, $is_left:expr) => {
            for object in world.api::<$kind>().list($params).await.expect("a list").items {
                if $is_left(&object) {
                    left.push(format!("{} {}", stringify!($kind), object.name_any()));
                }
            }
        };
    }
    let all = ListParams::default();
    collect!(Deployment, &candidates, |_: &Deployment| true);
    collect!(ReplicaSet, &candidates, |_: &ReplicaSet| true);
    collect!(Pod, &candidates, |_: &Pod| true);
    collect!(Job, &all, |o: &Job| orphan(o.labels()));
    collect!(Pod, &all, |o: &Pod| orphan(o.labels()));
    let pipelines = world
        .api::<flywheel_api::FlywheelPipeline>()
        .list(&all)
        .await
        .expect("pipelines");
    let pipelines: Vec<String> = pipelines.items.iter().filter_map(ResourceExt::uid).collect();
    collect!(ControllerRevision, &all, |o: &ControllerRevision| !o
        .owner_references()
        .iter()
        .any(|r| pipelines.contains(&r.uid)));
    left
}
