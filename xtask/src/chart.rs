//! The chart of this repository: installed on a cluster as users install it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::generate::chart::CHART;
use crate::tools::{self, Tool};
use crate::{cache, shell};

/// Name of the release, and so of the operator's Deployment, Lease and ServiceAccount.
pub const RELEASE: &str = "flywheel";
/// Namespace of the operator.
pub const NAMESPACE: &str = "flywheel-system";

/// Helm, which keeps its own files below the cache folder.
///
/// # Errors
/// If Helm cannot be built.
pub fn helm() -> Result<Command> {
    let home = cache::dir()?.join("helm");
    let mut command = Command::new(tools::path(Tool::Helm)?);
    command.current_dir(cache::workspace());
    for name in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        command.env(name, &home);
    }
    Ok(command)
}

/// Installs or upgrades the operator in a namespace that enforces Pod Security "restricted", and waits until it runs.
///
/// Without an image everything but the operator itself is installed: CRDs, roles, policies and settings.
///
/// # Errors
/// If Helm refuses, or if the operator is not ready after four minutes.
pub fn install(cluster: &Cluster, image: Option<&str>, values: &[&str]) -> Result<()> {
    let namespace = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": { "name": NAMESPACE, "labels": { "pod-security.kubernetes.io/enforce": "restricted" } },
    });
    cluster.kubectl_with_input(
        &["apply", "--server-side", "--filename=-"],
        &serde_json::to_string(&namespace)?,
    )?;
    let mut command = helm()?;
    command.args(["upgrade", "--install", RELEASE, CHART, "--namespace", NAMESPACE]);
    command
        .args(["--wait", "--timeout=4m", "--kubeconfig"])
        .arg(&cluster.kubeconfig);
    match image {
        Some(reference) => {
            let (repository, digest) = reference.split_once('@').with_context(|| {
                format!("the operator's image {reference} must be named by its digest, as in name@sha256:…")
            })?;
            command.arg(format!("--set=image.repository={repository},image.digest={digest}"));
        }
        None => {
            command.arg("--set=replicaCount=0");
        }
    }
    command.args(values.iter().map(|value| format!("--set={value}")));
    shell::run(&mut command)?;
    let established = ["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"];
    cluster.kubectl(&established)?;
    Ok(())
}

/// A kubeconfig with which a program on this machine has the rights of the installed operator, and no others.
///
/// # Errors
/// If the API server gives no token.
pub fn kubeconfig(cluster: &Cluster) -> Result<PathBuf> {
    let token = cluster.kubectl(&["create", "token", RELEASE, "--namespace", NAMESPACE, "--duration=24h"])?;
    let text = std::fs::read_to_string(&cluster.kubeconfig)
        .with_context(|| format!("cannot read {}", cluster.kubeconfig.display()))?;
    let mut config: Value = serde_saphyr::from_str(&text).context("the kubeconfig is not YAML")?;
    let place = config
        .pointer("/contexts/0/context/cluster")
        .cloned()
        .context("the kubeconfig has no context")?;
    let change = json!({
        "users": [{ "name": RELEASE, "user": { "token": token.trim() } }],
        "contexts": [{ "name": RELEASE, "context": { "cluster": place, "user": RELEASE } }],
        "current-context": RELEASE,
    });
    for (key, value) in change.as_object().into_iter().flatten() {
        if let Some(fields) = config.as_object_mut() {
            fields.insert(key.clone(), value.clone());
        }
    }
    let path = cluster.state.join("operator.kubeconfig");
    cache::write(&path, serde_saphyr::to_string(&config)?)?;
    Ok(path)
}

/// The user that the operator is to the API server.
#[must_use]
pub fn operator() -> String {
    format!("system:serviceaccount:{NAMESPACE}:{RELEASE}")
}

/// What the chart gives for these arguments of `helm template`.
///
/// # Errors
/// If Helm refuses, such as for a value that the chart does not know.
pub fn render(args: &[&str]) -> Result<String> {
    let mut command = helm()?;
    command.args(["template", RELEASE, CHART, "--namespace", NAMESPACE]);
    shell::run(command.args(args))
}

/// A file of the chart.
#[must_use]
pub fn file(name: &str) -> PathBuf {
    cache::workspace().join(Path::new(CHART).join(name))
}
