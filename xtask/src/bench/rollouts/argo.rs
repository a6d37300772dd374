//! Argo Rollouts, built from its published module, as a process like ours.

use std::process::Command;

use anyhow::{Context as _, Result};
use kube::Api;
use kube::api::{Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use serde_json::{Value, json};

use super::super::bed::Bed;
use super::super::process::Process;
use super::{Side, WEIGHTS, container, pods, workload};
use crate::cluster::Beside;
use crate::operator::free_port;
use crate::tools::{self, Tool};

/// A running controller, which ends when this is dropped.
pub struct Argo(Beside);

/// Its version, without the `v`.
///
/// # Errors
/// If its module cannot be had.
pub fn version() -> Result<String> {
    let version = tools::source(Tool::ArgoRollouts)?.version;
    Ok(version.trim_start_matches('v').to_owned())
}

/// Installs its kinds, with the manifests of its module.
///
/// # Errors
/// If the API server refuses them.
pub fn install(bed: &Bed) -> Result<()> {
    let folder = tools::source(Tool::ArgoRollouts)?.dir.join("manifests/crds");
    let folder = folder.to_string_lossy();
    let apply = ["apply", "--server-side", "--kustomize", &folder];
    bed.cluster.kubectl(&apply)?;
    let established = ["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"];
    bed.cluster.kubectl(&established)?;
    Ok(())
}

impl Argo {
    /// Starts it with its default settings; like ours, it does not look for a leader.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(bed: &Bed) -> Result<Self> {
        let path = bed.cluster.state.join("log/argo-rollouts.log");
        let mut command = Command::new(tools::path(Tool::ArgoRollouts)?);
        command
            .arg("--kubeconfig")
            .arg(&bed.cluster.kubeconfig)
            .arg("--leader-elect=false");
        for flag in ["metricsPort", "healthzPort"] {
            command.arg(format!("--{flag}={}", free_port()?));
        }
        let name = Tool::ArgoRollouts.name();
        bed.cluster.beside(name, command, &path).map(Self)
    }
}

impl Side for Argo {
    const NAMESPACE: &'static str = "argo";
    const AGENT: &'static str = "argo-rollouts/";

    fn process(&self) -> Process {
        Process { pid: self.0.pid() }
    }

    fn install(&self, bed: &Bed, count: u32) -> Result<usize> {
        let kind = rollouts();
        bed.make_of(&kind, (0..count).map(rollout))?;
        let all = usize::try_from(count)?;
        bed.all(&kind, Self::NAMESPACE, all, serves)?;
        // A ReplicaSet and a status.
        Ok(all.saturating_mul(2))
    }

    fn change(&self, bed: &Bed, count: u32) -> Result<()> {
        let api: Api<DynamicObject> = Api::namespaced_with(bed.client.clone(), Self::NAMESPACE, &rollouts());
        let one = |index: u32| {
            let api = api.clone();
            async move {
                let template = json!({ "spec": { "containers": [container(index, 2)] } });
                let patch = Patch::Merge(json!({ "spec": { "template": template } }));
                let changed = api.patch(&workload(index), &PatchParams::default(), &patch).await;
                changed.map(drop).context("cannot change a Rollout")
            }
        };
        bed.at_once((0..count).map(one))
    }

    fn promoted(&self, bed: &Bed, count: u32) -> Result<()> {
        let all = usize::try_from(count)?;
        bed.all(&rollouts(), Self::NAMESPACE, all, serves)
    }
}

fn rollouts() -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("argoproj.io", "v1alpha1", "Rollout"))
}

fn rollout(index: u32) -> Value {
    let mut spec = pods(index);
    if let Some(fields) = spec.as_object_mut() {
        let steps: Vec<Value> = WEIGHTS.iter().map(|weight| json!({ "setWeight": weight })).collect();
        fields.insert("strategy".to_owned(), json!({ "canary": { "steps": steps } }));
    }
    json!({ "apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "spec": spec,
        "metadata": { "name": workload(index), "namespace": Argo::NAMESPACE } })
}

/// Whether it says that what its spec asks for now serves everything. It writes to the spec itself, so that the number
/// of the generation says nothing else.
fn serves(rollout: &DynamicObject) -> bool {
    let status = |name: &str| rollout.data.pointer(&format!("/status/{name}")).and_then(Value::as_str);
    let (stable, generation) = (status("stableRS"), rollout.metadata.generation);
    status("phase") == Some("Healthy")
        && status("observedGeneration").and_then(|seen| seen.parse().ok()) == generation
        && stable.is_some_and(|stable| !stable.is_empty())
        && stable == status("currentPodHash")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::serves;

    #[test]
    fn only_a_healthy_rollout_that_has_seen_its_spec_serves() -> anyhow::Result<()> {
        let rollout = |generation: u32, phase: &str, stable: &str| {
            let status =
                json!({ "phase": phase, "observedGeneration": "2", "stableRS": stable, "currentPodHash": "new" });
            serde_json::from_value(json!({ "metadata": { "name": "web", "generation": generation }, "status": status }))
        };
        assert!(serves(&rollout(2, "Healthy", "new")?));
        assert!(!serves(&rollout(2, "Healthy", "old")?));
        assert!(!serves(&rollout(2, "Progressing", "new")?));
        assert!(!serves(&rollout(3, "Healthy", "new")?));
        Ok(())
    }
}
