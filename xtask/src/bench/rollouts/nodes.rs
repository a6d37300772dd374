//! Nodes that only pretend: their pods are scheduled, become ready and go, and nothing runs.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::json;

use super::super::bed::Bed;
use crate::cache;
use crate::tools::{self, Tool};

const NODES: usize = 10;
/// What happens to nodes and pods, among the files of the module: a node without heartbeat would be taken for dead.
const STAGES: [&str; 5] = [
    "node/fast/node-initialize.yaml",
    "node/heartbeat-with-lease/node-heartbeat-with-lease.yaml",
    "pod/fast/pod-ready.yaml",
    "pod/fast/pod-complete.yaml",
    "pod/fast/pod-delete.yaml",
];
const PATIENCE: Duration = Duration::from_secs(60);

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
    cluster.start(Tool::Kwok.name(), &program, flags)?;
    let nodes = (0..NODES).map(|index| json!({ "metadata": { "name": format!("pretended-{index}") } }));
    let nodes = nodes.map(|node| json!({ "apiVersion": "v1", "kind": "Node", "metadata": node.get("metadata") }));
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": nodes.collect::<Vec<_>>() });
    cluster.kubectl_with_input(&["create", "--filename=-"], &list.to_string())?;
    ready(bed)
}

fn ready(bed: &Bed) -> Result<()> {
    let conditions = r#"jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}"#;
    let begun = Instant::now();
    loop {
        let said = bed.cluster.kubectl(&["get", "nodes", "--output", conditions])?;
        if said.split_whitespace().filter(|word| *word == "True").count() == NODES {
            return Ok(());
        }
        if begun.elapsed() > PATIENCE {
            let log = bed.cluster.state.join("log/kwok.log");
            bail!("the nodes are not ready: {}", crate::shell::tail(&log, 5));
        }
        sleep(Duration::from_millis(200));
    }
}
