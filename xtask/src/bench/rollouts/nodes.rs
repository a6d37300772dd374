//! Nodes that only pretend: their pods are scheduled, become ready and go, and nothing runs.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::super::bed::Bed;
use crate::tools::{self, Tool};
use crate::{cache, shell};

const NODES: usize = 10;
/// What happens to nodes and pods, among the files of the module: a node without heartbeat would be taken for dead.
const STAGES: [&str; 5] = [
    "node/fast/node-initialize.yaml",
    "node/heartbeat-with-lease/node-heartbeat-with-lease.yaml",
    "pod/fast/pod-ready.yaml",
    "pod/fast/pod-complete.yaml",
    "pod/fast/pod-delete.yaml",
];

/// Starts the scheduler and the nodes, and waits until they are ready.
///
/// # Errors
/// If something cannot be started, or if a node does not become ready.
pub fn prepare(bed: &Bed) -> Result<()> {
    let cluster = &bed.cluster;
    let program = tools::path(Tool::Kwok)?;
    let folder = tools::source(Tool::Kwok)?.dir.join("kustomize/stage");
    let config = cluster.state.join("kwok.yaml");
    let stages: std::io::Result<Vec<String>> = STAGES
        .iter()
        .map(|file| std::fs::read_to_string(folder.join(file)))
        .collect();
    cache::write(&config, stages?.join("\n---\n"))?;
    cluster.start_scheduler()?;
    let flags = [
        format!("--config={}", config.display()),
        format!("--kubeconfig={}", cluster.kubeconfig.display()),
        "--manage-all-nodes=true".to_owned(),
        "--node-lease-duration-seconds=40".to_owned(),
        "--node-port=0".to_owned(),
    ];
    cluster.place().start(Tool::Kwok.name(), &program, flags)?;
    let node =
        |index| json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": format!("pretended-{index}") } });
    let nodes: Vec<Value> = (0..NODES).map(node).collect();
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": nodes });
    cluster.kubectl_with_input(&["create", "--filename=-"], &list.to_string())?;
    let ready = ["wait", "--for=condition=Ready", "nodes", "--all", "--timeout=60s"];
    cluster.kubectl(&ready).with_context(|| {
        let log = cluster.state.join("log/kwok.log");
        format!("the nodes are not ready: {}", shell::tail(&log, 5))
    })?;
    Ok(())
}
