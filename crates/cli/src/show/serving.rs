//! What serves: Deployments on both sides of a rollout, and their pods.

use flywheel_api::{Rollout, names};
use flywheel_engine::binding;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ContainerState, Pod};
use kube::ResourceExt;

use crate::paper::Tone;
use crate::tree::Node;
use crate::words;
use crate::world::{World, rollout_status};

/// The target and, while there is one, the candidate.
#[must_use]
pub fn sides(world: &World, rollout: &Rollout) -> Vec<Node> {
    let status = rollout_status(rollout);
    let target = &rollout.spec.plan.target_ref.name;
    let find = |name: &str| world.deployments.iter().find(|d| d.name_any() == name);
    let mut nodes = Vec::new();
    match find(target) {
        Some(found) => nodes.push(side(world, found, false)),
        None if world.hidden.iter().any(|r| r == "deployments.apps") => {}
        None => nodes.push(Node::new(format!("Deployment {target}"), Tone::Bad, "Missing")),
    }
    let candidate = status.candidate_deployment.as_ref().and_then(|c| find(&c.name));
    nodes.extend(candidate.map(|found| side(world, found, true)));
    nodes
}

/// A Deployment by itself, with the rollout that concerns it last.
#[must_use]
pub fn deployment(world: &World, deployment: &Deployment) -> Node {
    let candidate = deployment.labels().get(names::LABEL_ROLE).map(String::as_str) == Some(names::ROLE_CANDIDATE);
    let mut node = side(world, deployment, candidate);
    let last = world.rollouts_to(&deployment.name_any()).into_iter().next();
    if let Some(rollout) = last {
        node.children.insert(0, {
            let mut node = super::get::rollout(world, rollout);
            node.children.clear();
            node
        });
    }
    node
}

fn side(world: &World, deployment: &Deployment, candidate: bool) -> Node {
    let wanted = deployment.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1);
    let status = deployment.status.clone().unwrap_or_default();
    let ready = status.ready_replicas.unwrap_or(0);
    let tone = match ready {
        ready if ready >= wanted => Tone::Good,
        0 => Tone::Bad,
        _ => Tone::Busy,
    };
    let role = if candidate { "candidate" } else { "serves" };
    let paused = deployment.spec.as_ref().and_then(|s| s.paused).unwrap_or(false);
    let carries = carried(world, deployment, candidate);
    let mut node = Node::new(
        format!("Deployment {}", deployment.name_any()),
        tone,
        format!("{ready}/{wanted} ready"),
    )
    .aged(words::age(&deployment.metadata, world.now))
    .saying(format!("{role} {carries}{}", if paused { ", paused" } else { "" }));
    let pods = world.pods_of(deployment, candidate);
    node.children = pods.into_iter().map(|p| pod(p, world.now)).collect();
    node
}

/// The version that a Deployment carries; the value itself where it belongs to none.
fn carried(world: &World, deployment: &Deployment, candidate: bool) -> String {
    let name = deployment.name_any();
    let target = if candidate {
        deployment
            .labels()
            .get(names::LABEL_TARGET)
            .cloned()
            .unwrap_or_default()
    } else {
        name
    };
    let Some(rollout) = world.rollouts_to(&target).into_iter().next() else {
        return "an unknown version".to_owned();
    };
    let bound = &rollout.spec.plan.binding;
    match binding::value(deployment, bound) {
        Ok(Some(value)) => {
            let version = world.versions.iter().find(|v| binding::wanted(bound, &v.spec) == value);
            version.map_or(value, ResourceExt::name_any)
        }
        Ok(None) => "no version: the variable is not set".to_owned(),
        Err(error) => error.to_string(),
    }
}

/// A pod: ready or why not, restarts.
#[must_use]
pub fn pod(pod: &Pod, now: Timestamp) -> Node {
    let status = pod.status.clone().unwrap_or_default();
    let containers = status.container_statuses.unwrap_or_default();
    let phase = status.phase.unwrap_or_default();
    let stuck = containers.iter().find_map(|c| c.state.as_ref().and_then(reason));
    let unschedulable = status
        .conditions
        .iter()
        .flatten()
        .find(|c| c.type_ == "PodScheduled" && c.status == "False");
    let all_ready = !containers.is_empty() && containers.iter().all(|c| c.ready);
    let (tone, state) = match (pod.metadata.deletion_timestamp.is_some(), stuck, phase.as_str()) {
        (true, ..) => (Tone::Quiet, "Terminating".to_owned()),
        (_, Some((reason, _)), "Pending" | "Running") if reason != "ContainerCreating" => (Tone::Bad, reason),
        (_, _, "Running") if all_ready => (Tone::Good, "Ready".to_owned()),
        (_, _, "Running") => (Tone::Busy, "NotReady".to_owned()),
        (_, _, "Succeeded") => (Tone::Quiet, "Completed".to_owned()),
        (_, Some((reason, _)), "Failed") => (Tone::Bad, reason),
        (_, _, "Failed") => (Tone::Bad, status.reason.clone().unwrap_or_else(|| "Failed".to_owned())),
        _ => (Tone::Busy, phase.clone()),
    };
    let restarts: i32 = containers.iter().map(|c| c.restart_count).sum();
    let mut node = Node::new(format!("Pod {}", pod.name_any()), tone, state).aged(words::age(&pod.metadata, now));
    if restarts > 0 {
        node = node.saying(format!("{restarts} restarts"));
    }
    if tone == Tone::Bad {
        let said = containers.iter().find_map(|c| c.state.as_ref().and_then(reason));
        node = node.saying(said.map(|(_, message)| message).unwrap_or_default());
    }
    if let Some(condition) = unschedulable {
        node = node.saying(condition.message.clone().unwrap_or_default());
    }
    node
}

/// Why a container does not run, and what is said of it.
fn reason(state: &ContainerState) -> Option<(String, String)> {
    if let Some(waiting) = &state.waiting {
        return Some((waiting.reason.clone()?, waiting.message.clone().unwrap_or_default()));
    }
    let ended = state.terminated.as_ref().filter(|t| t.exit_code != 0)?;
    let reason = ended.reason.clone().unwrap_or_else(|| "Error".to_owned());
    Some((reason, format!("exit code {}", ended.exit_code)))
}
