//! Objects that this version of the operator cannot read: they say so, they stop what depends on them from going forward,
//! and nothing from going back. They can be deleted.

use flywheel_api::{BiasPolicy, FlywheelPipeline, FlywheelRun, ModelVersion, Rollout};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::{Value, json};

use super::scene::{PATIENCE, Scene, long, plan, scene, step, uri};
use crate::fast::fast;
use crate::world::{World, condition, from, pipeline, run, until};

/// Values that only a newer operator knows. Tests of the same cluster may meet them at any moment.
pub const NEWER: [&str; 5] = ["Archived", "Postpone", "Quotient", "Rerun", "Rewind"];

/// Lets the API server take a value that a newer operator may know, wherever it takes the known one.
pub async fn grow(client: &Client, crd: &str, known: &str, newer: &str) {
    assert!(NEWER.contains(&newer), "{newer} is not among those that others expect");
    fn add(schema: &mut Value, known: &str, newer: &str) {
        match schema {
            Value::Array(all) => {
                let has = |wanted: &str| all.iter().any(|value| value == wanted);
                if has(known) && !has(newer) {
                    all.push(json!(newer));
                }
                all.iter_mut().for_each(|one| add(one, known, newer));
            }
            Value::Object(fields) => fields.values_mut().for_each(|one| add(one, known, newer)),
            _ => {}
        }
    }
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    // Others may let it take more at the same time.
    for _ in 0..20 {
        let mut definition = serde_json::to_value(crds.get(crd).await.expect("the CRD")).expect("JSON");
        add(&mut definition["spec"]["versions"], known, newer);
        match crds.replace(crd, &PostParams::default(), &from(definition)).await {
            Err(kube::Error::Api(status)) if status.is_conflict() => {}
            taken => return drop(taken.expect("the CRD takes more")),
        }
    }
    panic!("the CRD {crd} changes all the time");
}

/// Objects of a kind as they are stored, whether they can be read or not.
fn raw<K: Resource<DynamicType = ()>>(world: &World) -> Api<DynamicObject> {
    let kind = ApiResource::erase::<K>(&());
    Api::namespaced_with(world.client.clone(), &world.namespace, &kind)
}

/// Writes an object that only a newer operator can read; the API server may need a moment to know its new CRD.
pub async fn write<K: Resource<DynamicType = ()>>(world: &World, name: &str, object: Value, status: bool) {
    let (kind, api) = (ApiResource::erase::<K>(&()), raw::<K>(world));
    let patch = Patch::Apply(json!({ "apiVersion": kind.api_version, "kind": kind.kind,
        "metadata": { "name": name }, "spec": object["spec"], "status": object["status"] }));
    let newer = PatchParams::apply("newer").force();
    for _ in 0..50 {
        let written = if status {
            api.patch_status(name, &newer, &patch).await
        } else {
            api.patch(name, &newer, &patch).await
        };
        match written {
            Ok(_) => return,
            Err(why) => eprintln!("{name} is not taken yet: {why}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    panic!("the newer {name} was not taken");
}

/// Waits until an object says that it cannot be read.
async fn says_that_it_cannot_be_read<K: Resource<DynamicType = ()>>(world: &World, name: &str) -> Value {
    let api = raw::<K>(world);
    until(&format!("{name} says that it cannot be read"), PATIENCE, || async {
        let found = serde_json::to_value(api.get(name).await.expect("there")).expect("JSON");
        condition(&found, "Stalled", "True", "Invalid").then_some(found)
    })
    .await
}

/// A Rollout of a pipeline in the middle of its way, and then three neighbours that cannot be read.
async fn among_unreadable(scene: &Scene) {
    let client = &scene.client;
    scene.version(3, &uri(3)).await;
    grow(client, "biaspolicies.flywheel.dev", "Difference", "Quotient").await;
    grow(client, "rollouts.flywheel.dev", "RollBack", "Rewind").await;
    grow(client, "modelversions.flywheel.dev", "RollingOut", "Archived").await;
    let mut policy = json!({ "spec": { "modelSelector": { "matchLabels": { "team": "eta" } },
        "protectedAttributes": [{ "name": "region" }],
        "objectives": [{ "name": "gap", "metric": "mae", "compare": "Difference", "limit": { "max": "1" } }] } });
    policy["spec"]["objectives"][0]["compare"] = json!("Quotient");
    write::<BiasPolicy>(scene, "newer", policy, false).await;
    let other = json!({ "spec": { "modelVersionRef": { "name": "eta-2" }, "desiredState": "Rewind",
        "plan": plan(&[step("half", 50)], json!({})) } });
    write::<Rollout>(scene, "newer", other, false).await;
    write::<ModelVersion>(scene, "eta-3", json!({ "status": { "state": "Archived" } }), true).await;
}

#[tokio::test]
async fn cluster_neighbours_that_cannot_be_read_stop_no_way_back() {
    let scene = scene(fast("unreadable").await, 2).await;
    let mut eta = pipeline("eta", "example/eta");
    eta["spec"]["artifacts"]["uri"] = json!("s3://models/");
    let eta: FlywheelPipeline = scene.apply("eta", eta).await.expect("accepted");
    let rollout = json!({ "spec": { "modelVersionRef": { "name": "eta-2" },
        "pipelineRef": { "name": "eta", "uid": eta.uid() }, "plan": plan(&[long("half", 50)], json!({})) } });
    scene.apply::<Rollout>("up", rollout).await.expect("accepted");
    scene.held("up", "MinDuration").await;
    among_unreadable(&scene).await;

    says_that_it_cannot_be_read::<BiasPolicy>(&scene, "newer").await;
    // What may apply and cannot be read lets no run start; who has not begun waits behind who cannot be read.
    scene
        .until::<FlywheelPipeline>("eta", PATIENCE, "no run without the policy", |o| {
            let conditions = o["status"]["conditions"].to_string();
            conditions.contains("PolicyUnreadable") && conditions.contains("BiasPolicy newer cannot be read")
        })
        .await;
    scene.want("up", "RollBack").await;
    scene.ended("up", "RolledBack").await;
    scene.roll("next", "eta-2", plan(&[step("half", 50)], json!({}))).await;
    let queued = scene.phase("next", "Queued").await;
    assert_eq!(queued["status"]["queuedBehind"], "newer");
    scene.finish(Some(&uri(1)), 2).await;
}

#[tokio::test]
async fn cluster_a_run_that_cannot_be_read_says_so() {
    let fast = fast("unreadable-run").await;
    grow(&fast.client, "flywheelruns.flywheel.dev", "Cancel", "Rerun").await;
    let mut newer = run("eta");
    newer["spec"]["desiredState"] = json!("Rerun");
    write::<FlywheelRun>(&fast, "newer", newer, false).await;
    let said = says_that_it_cannot_be_read::<FlywheelRun>(&fast, "newer").await;
    let conditions = said["status"]["conditions"].to_string();
    assert!(
        conditions.contains("spec.desiredState") && conditions.contains("Rerun"),
        "{conditions}"
    );
    fast.finish().await;
}

/// A version of which nobody can say whether it serves is well, and the API server does not let it be deleted.
async fn refuses_to_delete(scene: &Scene, name: &str) {
    let unknown =
        |o: &Value| condition(o, "Live", "Unknown", "Unreadable") && condition(o, "Ready", "True", "Unreadable");
    scene
        .until::<ModelVersion>(name, PATIENCE, "nobody can say", unknown)
        .await;
    let deleted = scene
        .api::<ModelVersion>()
        .delete(name, &DeleteParams::background())
        .await;
    let refused = deleted.expect_err("it may serve").to_string();
    let says = [
        "type Live",
        "FlywheelPipeline eta cannot be read",
        "Mend that object first",
    ];
    assert!(says.iter().all(|words| refused.contains(words)), "{refused}");
}

#[tokio::test]
async fn cluster_what_depends_on_a_pipeline_that_cannot_be_read_goes_back_and_is_cancelled() {
    let scene = scene(fast("unreadable-pipeline").await, 2).await;
    let mut eta = pipeline("eta", "example/eta");
    eta["spec"]["artifacts"]["uri"] = json!("s3://models/");
    let eta: FlywheelPipeline = scene.apply("eta", eta).await.expect("accepted");
    scene.apply::<FlywheelRun>("eta-9", run("eta")).await.expect("accepted");
    let begun = |o: &Value| o["status"]["startedAt"].is_string();
    scene.until::<FlywheelRun>("eta-9", PATIENCE, "begun", begun).await;
    let rollout = json!({ "spec": { "modelVersionRef": { "name": "eta-2" },
        "pipelineRef": { "name": "eta", "uid": eta.uid() }, "plan": plan(&[long("half", 50)], json!({})) } });
    scene.apply::<Rollout>("up", rollout).await.expect("accepted");
    scene.held("up", "MinDuration").await;

    grow(&scene.client, "flywheelpipelines.flywheel.dev", "Queue", "Postpone").await;
    let newer = json!({ "spec": { "cadence": { "concurrencyPolicy": "Postpone" } } });
    write::<FlywheelPipeline>(&scene, "eta", newer, false).await;
    scene.held("up", "PipelineUnreadable").await;
    let told = |o: &Value| {
        let conditions = o["status"]["conditions"].to_string();
        conditions.contains("\"Unreadable\"") && conditions.contains("FlywheelPipeline eta cannot be read")
    };
    scene.until::<FlywheelRun>("eta-9", PATIENCE, "it waits", told).await;
    scene.until::<ModelVersion>("eta-1", PATIENCE, "it says so", told).await;
    refuses_to_delete(&scene, "eta-2").await;
    scene.want("up", "RollBack").await;
    scene.ended("up", "RolledBack").await;
    let cancel = Patch::Merge(json!({ "spec": { "desiredState": "Cancel" } }));
    let runs = scene.api::<FlywheelRun>();
    runs.patch("eta-9", &PatchParams::default(), &cancel)
        .await
        .expect("accepted");
    let cancelled = |o: &Value| condition(o, "Complete", "True", "Cancelled");
    scene
        .until::<FlywheelRun>("eta-9", PATIENCE, "cancelled", cancelled)
        .await;
    scene.finish(Some(&uri(1)), 2).await;
}

#[tokio::test]
async fn cluster_a_rollout_that_cannot_be_read_is_deleted_once_its_candidate_is_gone_and_lets_versions_go() {
    let scene = scene(fast("unreadable-deleted").await, 2).await;
    scene.version(3, &uri(3)).await;
    let registered = |o: &Value| condition(o, "Ready", "True", "Registered");
    scene
        .until::<ModelVersion>("eta-3", PATIENCE, "registered", registered)
        .await;
    scene.roll("up", "eta-2", plan(&[long("half", 50)], json!({}))).await;
    scene.held("up", "MinDuration").await;
    grow(&scene.client, "rollouts.flywheel.dev", "RollBack", "Rewind").await;
    let newer = json!({ "spec": { "desiredState": "Rewind" } });
    write::<Rollout>(&scene, "up", newer, false).await;

    let rollouts = raw::<Rollout>(&scene);
    rollouts.delete("up", &DeleteParams::default()).await.expect("deleted");
    let versions = scene.api::<ModelVersion>();
    versions
        .delete("eta-3", &DeleteParams::default())
        .await
        .expect("deleted");
    let waits = |o: &Value| condition(o, "Stalled", "True", "Unreadable");
    scene.until::<ModelVersion>("eta-3", PATIENCE, "it waits", waits).await;
    until("it says what is left", PATIENCE, || async {
        let found = serde_json::to_value(rollouts.get("up").await.expect("there")).expect("JSON");
        let told = found["status"]["conditions"].to_string();
        told.contains("kubectl delete deployment web-candidate").then_some(())
    })
    .await;
    assert!(scene.candidate().await.is_some(), "its pods may serve");

    let deployments = scene.api::<Deployment>();
    deployments
        .delete("web-candidate", &DeleteParams::background())
        .await
        .expect("deleted");
    until("it is gone", PATIENCE, || async {
        let found = rollouts.get_opt("up").await.expect("the API server answers");
        found.is_none().then_some(())
    })
    .await;
    scene.gone::<ModelVersion>("eta-3").await;
    scene.finish(Some(&uri(1)), 2).await;
}
