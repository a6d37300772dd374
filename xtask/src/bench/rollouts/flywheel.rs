//! Our side: Deployments that serve version 1, and a Rollout to version 2 for each.

use anyhow::Result;
use flywheel_api::{ModelVersion, Rollout};
use k8s_openapi::api::apps::v1::Deployment;
use kube::core::{ApiResource, DynamicObject};
use serde_json::{Value, json};

use super::super::audit;
use super::super::bed::{Bed, Operating};
use super::super::process::Process;
use super::{REPLICAS, Side, WEIGHTS, pods, uri, workload};

/// A running operator.
pub struct Flywheel(Operating);

impl Flywheel {
    /// Starts it as users do.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(bed: &Bed) -> Result<Self> {
        let operator = bed.operate()?;
        operator.ready()?;
        Ok(Self(operator))
    }
}

impl Side for Flywheel {
    const NAMESPACE: &'static str = "flywheel";
    const AGENT: &'static str = audit::OPERATOR;

    fn process(&self) -> Process {
        self.0.process
    }

    fn requests(&self) -> Result<u64> {
        self.0.requests()
    }

    fn install(&self, bed: &Bed, count: u32) -> Result<usize> {
        bed.make::<Deployment>((0..count).map(deployment))?;
        bed.make::<ModelVersion>((0..count).map(|index| version(index, 1)))?;
        bed.make::<ModelVersion>((0..count).map(|index| version(index, 2)))?;
        let all = usize::try_from(count)?;
        bed.all(&ApiResource::erase::<Deployment>(&()), Self::NAMESPACE, all, all_ready)?;
        // The status of each version.
        Ok(all.saturating_mul(2))
    }

    fn change(&self, bed: &Bed, count: u32) -> Result<()> {
        bed.make::<Rollout>((0..count).map(rollout))
    }

    fn promoted(&self, bed: &Bed, count: u32) -> Result<()> {
        let all = usize::try_from(count)?;
        let kind = ApiResource::erase::<Rollout>(&());
        bed.all(&kind, Self::NAMESPACE, all, is_promoted)
    }
}

fn all_ready(deployment: &DynamicObject) -> bool {
    let ready = deployment.data.pointer("/status/readyReplicas");
    ready.and_then(Value::as_u64) == Some(u64::from(REPLICAS))
}

fn is_promoted(rollout: &DynamicObject) -> bool {
    rollout.data.pointer("/status/phase").and_then(Value::as_str) == Some("Promoted")
}

fn metadata(name: &str) -> Value {
    json!({ "name": name, "namespace": Flywheel::NAMESPACE })
}

fn deployment(index: u32) -> Value {
    json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata(&workload(index)), "spec": pods(index) })
}

fn version(index: u32, version: u32) -> Value {
    let name = workload(index);
    let digest = format!("sha256:{}", format!("{version}").repeat(64));
    json!({ "apiVersion": "flywheel.dev/v1alpha1", "kind": "ModelVersion",
        "metadata": metadata(&format!("{name}-{version}")),
        "spec": { "modelName": name, "version": version, "artifact": { "uri": uri(index, version), "digest": digest } } })
}

/// As Argo does without a router, the baseline shrinks while the candidate grows.
fn rollout(index: u32) -> Value {
    let name = workload(index);
    let steps = WEIGHTS.map(|weight| json!({ "name": format!("to-{weight}"), "weight": weight }));
    json!({ "apiVersion": "flywheel.dev/v1alpha1", "kind": "Rollout", "metadata": metadata(&name), "spec": {
        "modelVersionRef": { "name": format!("{name}-2") },
        "plan": {
            "targetRef": { "kind": "Deployment", "name": name },
            "binding": { "type": "DeploymentEnv", "container": "app", "name": "MODEL_URI" },
            "capacity": { "baseline": "ShrinkWithWeight" },
            "strategy": { "steps": steps },
        },
    }})
}
