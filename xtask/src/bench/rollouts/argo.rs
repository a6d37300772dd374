//! Argo Rollouts, built from its published module, as a process like ours.

use std::fs::File;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _};
use kube::Api;
use kube::api::{Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject};
use serde_json::{Value, json};

use super::super::bed::{self, Bed};
use super::super::process::Process;
use super::{Side, WEIGHTS, container, kind, pods, workload};
use crate::cluster;
use crate::tools::{self, Tool};

/// Changes that are under way at the same time.
const AT_ONCE: usize = 48;

/// A running controller, which ends when this is dropped.
pub struct Argo(Child);

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
        let state = &bed.cluster.state;
        let path = state.join("log/argo-rollouts.log");
        let log = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        let mut command = Command::new(tools::path(Tool::ArgoRollouts)?);
        cluster::mark(&mut command, state, Tool::ArgoRollouts.name());
        command
            .arg("--kubeconfig")
            .arg(&bed.cluster.kubeconfig)
            .arg("--leader-elect=false");
        for flag in ["metricsPort", "healthzPort"] {
            command.arg(format!("--{flag}={}", bed::free_port()?));
        }
        let child = command
            .stdout(log.try_clone()?)
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .context("cannot start Argo Rollouts")?;
        println!("argo-rollouts on {}: log in {}", bed.cluster.name, path.display());
        Ok(Self(child))
    }
}

impl Drop for Argo {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Side for Argo {
    const NAMESPACE: &'static str = "argo";
    const AGENT: &'static str = "argo-rollouts/";

    fn process(&self) -> Process {
        Process { pid: self.0.id() }
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
        let all = futures::stream::iter((0..count).map(one)).buffer_unordered(AT_ONCE);
        bed.wait(all.try_for_each(|()| async { Ok(()) }))
    }

    fn promoted(&self, bed: &Bed, count: u32) -> Result<()> {
        let all = usize::try_from(count)?;
        bed.all(&rollouts(), Self::NAMESPACE, all, serves)
    }
}

fn rollouts() -> ApiResource {
    kind("argoproj.io", "v1alpha1", "Rollout", "rollouts")
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
