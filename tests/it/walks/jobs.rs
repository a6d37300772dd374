//! Stages made from the schema, and the Jobs that the operator makes of them: every field of a stage reaches its pod.

use std::time::{Duration, Instant};

use flywheel_api::names::{ENV_STAGE, LABEL_RUN};
use flywheel_api::{FlywheelPipeline, FlywheelRun};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::events::v1::Event;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Map, Value, json};

use super::compile::{Chance, set, values};
use super::schema::{properties, spec};
use super::{is_long, seed};
use crate::fast::{Fast, fast};
use crate::world::{PATIENCE, pipeline, run};

/// Stages at once: as many runs may work in a namespace.
const TOGETHER: usize = 4;
/// How often so many are made in a long run.
const ROUNDS: usize = 10;
/// Seconds in which a run has its Job on a machine that does nothing else.
const MADE: u64 = 30;
/// The stage's place in the spec of a pipeline; its name and its type are what the rest of the spec goes by.
const STAGE: &str = "stages[].";
const KEPT: [&str; 2] = ["stages[].name", "stages[].type"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_walk_every_field_of_a_stage_reaches_its_job() {
    let (seed, rounds) = (seed(5), if is_long() { ROUNDS } else { 1 });
    println!("walk-jobs: seed {seed}");
    let world = fast("walk-jobs").await;
    let (mut chance, mut made, mut refused) = (Chance::new(seed), 0, 0);
    for round in 0..rounds {
        let stages: Vec<(String, Value)> = (0..TOGETHER)
            .map(|n| (format!("eta-{round}-{n}"), stage(&mut chance)))
            .collect();
        let mut asked = Vec::new();
        for (name, stage) in &stages {
            asked.push(ask(&world, name, stage).await);
        }
        for ((name, stage), asked) in stages.iter().zip(asked) {
            match compare(&world, name, stage, asked).await {
                Ok(()) => made += 1,
                Err(why) => {
                    println!("{name}: {why}: {stage:#}");
                    refused += 1;
                }
            }
        }
    }
    println!("covered: walk-jobs: {made} Jobs as their stages say, {refused} that the API server refuses");
    assert!(made * 10 >= (made + refused) * 7, "only {made} stages came to a Job");
    world.finish().await;
}

/// A stage with each property set, one after the other; what was set first may have to give way.
fn stage(chance: &mut Chance) -> Value {
    let schema = spec("FlywheelPipeline");
    let mut whole = json!({ "stages": [{ "name": "train", "type": "Train", "image": "example/eta" }] });
    for property in properties(&schema) {
        let path = property.path.to_string();
        if path.starts_with(STAGE) && !KEPT.contains(&path.as_str()) {
            let value = chance.draw(&values(&property.path, &property.schema));
            let changed = set(chance, &schema, &whole, &property.path, &value);
            // What was added behind the stage would be changed in its place.
            whole = json!({ "stages": [changed["stages"][0]] });
        }
    }
    let mut stage = whole["stages"][0].clone();
    tame(&mut stage);
    stage
}

/// Puts other texts where Kubernetes has a rule for the pods of a Job that no schema has, such as that a name has no two
/// dots in a row: there it matters that they arrive, not what they say.
fn tame(stage: &mut Value) {
    let names = [
        ("serviceAccountName", "trainer"),
        ("priorityClassName", "patient"),
        ("runtimeClassName", "gvisor"),
    ];
    for (field, name) in names {
        if stage.get(field).is_some() {
            stage[field] = json!(name);
        }
    }
    for list in ["tolerations", "nodeAffinity"] {
        for item in items_mut(stage, list).filter(|item| item.get("key").is_some()) {
            item["key"] = json!("example.com/accelerator");
        }
    }
    for variable in items_mut(stage, "env") {
        for reference in ["secretKeyRef", "configMapKeyRef"] {
            if let Some(key) = variable.pointer_mut(&format!("/{reference}/key")) {
                *key = json!("token");
            }
        }
    }
    for volume in items_mut(stage, "volumes") {
        if let Some(size) = volume.pointer_mut("/emptyDir/sizeLimit") {
            *size = json!("1Gi");
        }
    }
    for kind in ["requests", "limits"] {
        let all = stage.pointer_mut(&format!("/resources/{kind}"));
        if let Some(all) = all.and_then(Value::as_object_mut) {
            all.retain(|name, _| ["cpu", "memory"].contains(&name.as_str()));
        }
    }
}

fn items_mut<'a>(stage: &'a mut Value, list: &str) -> impl Iterator<Item = &'a mut Value> + use<'a> {
    stage.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten()
}

/// A pipeline with that stage, and a run of it; what the API server has against the pipeline, if it has.
async fn ask(world: &Fast, name: &str, stage: &Value) -> Result<(), String> {
    let mut object = pipeline(name, "example/eta");
    object["spec"]["stages"][0] = stage.clone();
    let taken = world.apply::<FlywheelPipeline>(name, object).await;
    taken.map_err(|why| format!("the pipeline is refused: {why}"))?;
    world.apply::<FlywheelRun>(name, run(name)).await.expect("accepted");
    Ok(())
}

/// Holds the Job against the stage; says why there is none, if the API server takes none.
async fn compare(world: &Fast, name: &str, stage: &Value, asked: Result<(), String>) -> Result<(), String> {
    asked?;
    let job = job(world, name).await;
    cancel(world, name).await;
    assert_eq!(of_job(&job?, stage), of_stage(stage), "the Job of the stage {stage:#}");
    Ok(())
}

async fn cancel(world: &Fast, name: &str) {
    let patch = Patch::Merge(json!({ "spec": { "desiredState": "Cancel" } }));
    let runs = world.api::<FlywheelRun>();
    runs.patch(name, &PatchParams::default(), &patch)
        .await
        .expect("accepted");
}

/// The Job of the run's first stage, or why the API server does not take it.
async fn job(world: &Fast, run: &str) -> Result<Value, String> {
    let of_run = ListParams::default().labels(&format!("{LABEL_RUN}={run}"));
    let end = Instant::now() + Duration::from_secs(MADE * PATIENCE);
    loop {
        let jobs = world.api::<Job>().list(&of_run).await.expect("the API server answers");
        if let Some(job) = jobs.items.into_iter().next() {
            return Ok(serde_json::to_value(job).expect("an object is JSON"));
        }
        if let Some(why) = refusal(world, run).await {
            return Err(why);
        }
        if Instant::now() > end {
            let run = world.api::<FlywheelRun>().get(run).await.expect("the run exists");
            panic!("there is no Job: {:#}", json!(run));
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// What the operator tells of a write that was refused.
async fn refusal(world: &Fast, run: &str) -> Option<String> {
    let events = world.api::<Event>().list(&ListParams::default()).await;
    let events = events.expect("the API server answers").items;
    let told = events.into_iter().find(|event| {
        let about = event.regarding.as_ref().and_then(|object| object.name.as_deref());
        about == Some(run) && event.reason.as_deref() == Some("WriteRefused")
    });
    told.map(|event| event.note.unwrap_or_default())
}

/// The items under that name, each as a Job says the same.
fn items(node: &Value, list: &str, said: impl Fn(&Value) -> Value) -> Vec<Value> {
    node[list].as_array().into_iter().flatten().map(said).collect()
}

/// What a stage says of its pod, in the shape of [`of_job`].
fn of_stage(stage: &Value) -> Value {
    let variable = |v: &Value| {
        json!({ "name": v["name"], "value": v["value"],
            "valueFrom": { "secretKeyRef": v["secretKeyRef"], "configMapKeyRef": v["configMapKeyRef"] } })
    };
    let volume = |v: &Value| {
        let mut volume = v.clone();
        volume["secret"] = json!({ "secretName": v["secret"]["name"] });
        volume
    };
    let quantities = |kind: &str| {
        let mut all = stage["resources"][kind].clone();
        for quantity in all.as_object_mut().into_iter().flat_map(Map::values_mut) {
            if quantity == "1.5" {
                // As the API server stores it.
                *quantity = json!("1500m");
            }
        }
        all
    };
    let deadline = stage.get("timeoutSeconds").cloned().unwrap_or(json!(3600));
    lean(json!({
        "image": stage["image"], "command": stage["command"], "args": stage["args"],
        "env": items(stage, "env", variable), "envFrom": stage["envFrom"],
        "requests": quantities("requests"), "limits": quantities("limits"),
        "volumeMounts": stage["volumeMounts"], "volumes": items(stage, "volumes", volume),
        "nodeSelector": stage["nodeSelector"], "tolerations": stage["tolerations"],
        "nodeAffinity": stage["nodeAffinity"],
        "serviceAccountName": stage["serviceAccountName"], "imagePullSecrets": stage["imagePullSecrets"],
        "runtimeClassName": stage["runtimeClassName"], "priorityClassName": stage["priorityClassName"],
        "runAsUser": stage["runAsUser"], "runAsGroup": stage["runAsGroup"], "fsGroup": stage["fsGroup"],
        "deadline": deadline,
    }))
}

/// What a Job says of the pod of its stage, without what the operator and the API server add by themselves.
fn of_job(job: &Value, stage: &Value) -> Value {
    const AFFINITY: &str =
        "/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms/0/matchExpressions";
    let pod = &job["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let own = |node: &Value, list: &str| {
        let ours = |item: &Value| {
            let name = item["name"].as_str().unwrap_or_default();
            name == ENV_STAGE || name.starts_with("flywheel-")
        };
        let mut all = items(node, list, Value::clone);
        all.retain(|item| !ours(item));
        all
    };
    // For what a stage does not name the administrator's defaults apply.
    let quantities = |kind: &str| {
        let mut all = container["resources"][kind].clone();
        if let Some(all) = all.as_object_mut() {
            all.retain(|name, _| stage["resources"][kind].get(name).is_some());
        }
        all
    };
    let security = &pod["securityContext"];
    lean(json!({
        "image": container["image"], "command": container["command"], "args": container["args"],
        "env": own(container, "env"), "envFrom": container["envFrom"],
        "requests": quantities("requests"), "limits": quantities("limits"),
        "volumeMounts": own(container, "volumeMounts"), "volumes": own(pod, "volumes"),
        "nodeSelector": pod["nodeSelector"], "tolerations": pod["tolerations"],
        "nodeAffinity": pod.pointer(AFFINITY),
        "serviceAccountName": pod["serviceAccountName"], "imagePullSecrets": pod["imagePullSecrets"],
        "runtimeClassName": pod["runtimeClassName"], "priorityClassName": pod["priorityClassName"],
        "runAsUser": security["runAsUser"], "runAsGroup": security["runAsGroup"], "fsGroup": security["fsGroup"],
        "deadline": job["spec"]["activeDeadlineSeconds"],
    }))
}

/// Without what says nothing, on which the API server and a user differ, and without its default for the mode of files.
fn lean(node: Value) -> Value {
    let says = |node: &Value| match node {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        Value::Bool(true) | Value::Number(_) => true,
    };
    match node {
        Value::Array(items) => items.into_iter().map(lean).collect(),
        Value::Object(fields) => {
            let lean = fields.into_iter().map(|(name, field)| (name, lean(field)));
            let kept = lean.filter(|(name, field)| says(field) && name != "defaultMode");
            Value::Object(kept.collect())
        }
        other => other,
    }
}
