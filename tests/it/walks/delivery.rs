//! What a Rollout makes of Deployments, held against what its plan and its version ask for. That is worked out here from
//! the spec and from the manifest of the target's owner alone.

use std::time::Duration;

use flywheel_api::names::{ANNOTATION_MODEL_VERSION, LABEL_ROLE, LABEL_ROLLOUT_UID, ROLE_CANDIDATE};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Patch, PatchParams};
use serde_json::{Map, Value, json};

use crate::rollout::scene::{Scene, uri, web};

/// Pods of the target: so many that different weights ask for different numbers of pods.
pub const PODS: i32 = 4;
/// How often it is looked again before something is wrong, and the pause between.
const LOOKS: usize = 10;
const PAUSE: Duration = Duration::from_millis(500);
/// Phases in which a Rollout rests without having touched its target, or with everything taken back.
const UNTOUCHED: [&str; 5] = ["Pending", "Queued", "RolledBack", "Aborted", "Failed"];

/// Pictures of the target and of the candidate, once they are as they must be.
///
/// # Errors
/// What is otherwise.
pub async fn delivered(scene: &Scene, rollout: &Value) -> Result<Vec<Value>, String> {
    let owners = owners(scene).await;
    let mut wrong = String::new();
    for _ in 0..LOOKS {
        let (target, candidate) = (found(scene, "web").await, found(scene, "web-candidate").await);
        match judge(rollout, &owners, target.as_ref(), candidate.as_ref()) {
            Ok(()) => return Ok([target, candidate].iter().flatten().map(picture).collect()),
            Err(why) => wrong = why,
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(format!("consistency: {wrong}"))
}

async fn found(scene: &Scene, name: &str) -> Option<Value> {
    let found = scene.api::<Deployment>().get_opt(name).await;
    let found = found.expect("the API server answers");
    found.map(|deployment| serde_json::to_value(deployment).expect("an object is JSON"))
}

/// The pod template of the target as its owner applies it, with what the API server adds to it.
async fn owners(scene: &Scene) -> Value {
    let mut manifest = web(PODS, Some(&uri(1)));
    manifest["metadata"]["name"] = json!("web-of-its-owner");
    let params = PatchParams::apply("walk").force().dry_run();
    let made = scene
        .api::<Deployment>()
        .patch("web-of-its-owner", &params, &Patch::Apply(manifest))
        .await
        .expect("the manifest is good");
    serde_json::to_value(made).expect("an object is JSON")["spec"]["template"].clone()
}

/// What is otherwise than it must be.
fn judge(rollout: &Value, owners: &Value, target: Option<&Value>, candidate: Option<&Value>) -> Result<(), String> {
    let phase = rollout["status"]["phase"].as_str().unwrap_or_default();
    let (holds, delivered) = (phase == "Holding", ["Observing", "Promoted"].contains(&phase));
    if !holds && !delivered && !UNTOUCHED.contains(&phase) {
        return Ok(());
    }
    let target = target.ok_or("the target is gone")?;
    let (more, left) = if holds { replicas(rollout)? } else { (0, PODS) };
    same("replicas of the target", &target["spec"]["replicas"], &json!(left))?;
    let serves = if delivered {
        bound(owners, rollout)
    } else {
        owners.clone()
    };
    same(
        "the target's pods",
        &plain(&target["spec"]["template"]),
        &plain(&serves),
    )?;
    // A Rollout that found its version live has no baseline, and writes nothing.
    if delivered && rollout["status"]["baseline"].is_object() {
        says_its_version(target, rollout)?;
    }
    match candidate {
        None if !holds => Ok(()),
        None => Err("there is no candidate at a step".to_owned()),
        Some(_) if !holds => Err(format!("there is a candidate in phase {phase}")),
        Some(found) => {
            same("replicas of the candidate", &found["spec"]["replicas"], &json!(more))?;
            let wanted = copied(owners, rollout);
            same(
                "the candidate's pods",
                &plain(&found["spec"]["template"]),
                &plain(&wanted),
            )?;
            says_its_version(found, rollout)
        }
    }
}

fn same(what: &str, is: &Value, wanted: &Value) -> Result<(), String> {
    if is == wanted {
        Ok(())
    } else {
        Err(format!("{what}: {is:#} instead of {wanted:#}"))
    }
}

fn says_its_version(deployment: &Value, rollout: &Value) -> Result<(), String> {
    let annotations = &deployment["spec"]["template"]["metadata"]["annotations"];
    let version = &rollout["spec"]["modelVersionRef"]["name"];
    same(
        "the version in the annotation",
        &annotations[ANNOTATION_MODEL_VERSION],
        version,
    )
}

/// Replicas of the candidate and of the target at the step. While the target keeps its pods the candidate's share is at
/// most the weight, otherwise the nearest one; both have a pod at least.
fn replicas(rollout: &Value) -> Result<(i32, i32), String> {
    let (plan, step) = (&rollout["spec"]["plan"], &rollout["status"]["step"]);
    let index = step["index"]
        .as_u64()
        .and_then(|n| usize::try_from(n).ok())
        .unwrap_or(0);
    let weight = plan["strategy"]["steps"][index]["weight"].as_i64();
    let weight = weight.and_then(|w| i32::try_from(w).ok());
    let weight = weight.ok_or_else(|| format!("it holds at a step that the plan does not have: {step}"))?;
    Ok(if plan["capacity"]["baseline"] == "ShrinkWithWeight" {
        let candidate = ((PODS * weight + 50) / 100).max(1);
        (candidate, (PODS - candidate).max(1))
    } else {
        ((PODS * weight / (100 - weight)).max(1), PODS)
    })
}

/// The owner's template with the value of the version in the variable of the binding.
fn bound(owners: &Value, rollout: &Value) -> Value {
    let (mut made, spec) = (owners.clone(), &rollout["spec"]);
    let binding = &spec["plan"]["binding"];
    let version = spec["modelVersionRef"]["name"].as_str().unwrap_or_default();
    let number: u32 = version.trim_start_matches("eta-").parse().unwrap_or(0);
    let containers = made["spec"]["containers"].as_array_mut().into_iter().flatten();
    for container in containers.filter(|c| c["name"] == binding["container"]) {
        let mut env = container["env"].as_array().cloned().unwrap_or_default();
        env.retain(|variable| variable["name"] != binding["name"]);
        env.push(json!({ "name": binding["name"], "value": uri(number) }));
        container["env"] = json!(env);
    }
    made
}

/// The template of the candidate: the version, labels by which its pods are told from the target's, and time to leave
/// the Service before they stop.
fn copied(owners: &Value, rollout: &Value) -> Value {
    let mut made = bound(owners, rollout);
    made["metadata"]["labels"][LABEL_ROLE] = json!(ROLE_CANDIDATE);
    made["metadata"]["labels"][LABEL_ROLLOUT_UID] = rollout["metadata"]["uid"].clone();
    let drain = rollout["spec"]["plan"]["drainSeconds"].as_i64().unwrap_or(5);
    if drain > 0 {
        for container in made["spec"]["containers"].as_array_mut().into_iter().flatten() {
            container["lifecycle"] = json!({ "preStop": { "sleep": { "seconds": drain } } });
        }
        made["spec"]["terminationGracePeriodSeconds"] = json!(30 + drain);
    }
    made
}

/// A pod template without its annotations, and with its variables by their names: a merge may order them otherwise.
fn plain(template: &Value) -> Value {
    let mut plain = template.clone();
    if let Some(metadata) = plain["metadata"].as_object_mut() {
        metadata.remove("annotations");
        metadata.remove("creationTimestamp");
    }
    for container in plain["spec"]["containers"].as_array_mut().into_iter().flatten() {
        let env = container["env"].as_array().cloned().unwrap_or_default();
        let name = |variable: &Value| variable["name"].as_str().unwrap_or_default().to_owned();
        let by_name: Map<String, Value> = env.into_iter().map(|v| (name(&v), v)).collect();
        container["env"] = Value::Object(by_name);
    }
    plain
}

/// What two ways to the same spec must have in common.
fn picture(deployment: &Value) -> Value {
    let mut template = plain(&deployment["spec"]["template"]);
    if let Some(labels) = template["metadata"]["labels"].as_object_mut() {
        labels.remove(LABEL_ROLLOUT_UID);
    }
    json!({ "deployment": deployment["metadata"]["name"], "replicas": deployment["spec"]["replicas"],
        "template": template })
}
