//! Programs built from Go modules at the versions pinned under `xtask/tools`.
//!
//! A group is one go.mod. Its programs live in a folder named by the digest of go.mod, go.sum and
//! the build flags, so a changed pin builds anew and leaves the other groups alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::{cache, shell};

/// A program that is built on demand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// The store behind the API server.
    Etcd,
    /// The Kubernetes API server.
    KubeApiserver,
    /// The controllers for Deployments, Jobs, service accounts and the rest.
    KubeControllerManager,
    /// The scheduler.
    KubeScheduler,
    /// The node agent.
    Kubelet,
    /// Service addresses on a node.
    KubeProxy,
    /// The command line of Kubernetes.
    Kubectl,
    /// The package manager of Kubernetes.
    Helm,
    /// The name server of the cluster.
    Coredns,
    /// Argo Rollouts, against which rollouts are measured.
    ArgoRollouts,
    /// The nodes and pods that only a measurement has.
    Kwok,
}

impl Tool {
    /// Every tool that a cluster or a test needs, in the order in which they are built.
    pub const ALL: [Self; 9] = [
        Self::Etcd,
        Self::KubeApiserver,
        Self::KubeControllerManager,
        Self::Kubectl,
        Self::KubeScheduler,
        Self::Kubelet,
        Self::KubeProxy,
        Self::Helm,
        Self::Coredns,
    ];

    /// The tools that only `cargo xtask bench` needs, and builds.
    pub const OF_BENCH: [Self; 2] = [Self::ArgoRollouts, Self::Kwok];

    /// The file name of the program.
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::KubeApiserver => "kube-apiserver",
            Self::KubeControllerManager => "kube-controller-manager",
            Self::KubeScheduler => "kube-scheduler",
            Self::Kubelet => "kubelet",
            Self::KubeProxy => "kube-proxy",
            Self::Kubectl => "kubectl",
            Self::Helm => "helm",
            Self::Coredns => "coredns",
            Self::ArgoRollouts => "argo-rollouts",
            Self::Kwok => "kwok",
        }
    }

    fn package(self) -> String {
        match self {
            Self::Etcd => "go.etcd.io/etcd/server/v3".to_owned(),
            Self::Helm => "helm.sh/helm/v4/cmd/helm".to_owned(),
            Self::Coredns => "github.com/coredns/coredns".to_owned(),
            Self::ArgoRollouts => "github.com/argoproj/argo-rollouts/cmd/rollouts-controller".to_owned(),
            Self::Kwok => "sigs.k8s.io/kwok/cmd/kwok".to_owned(),
            kubernetes => format!("k8s.io/kubernetes/cmd/{}", kubernetes.name()),
        }
    }

    fn group(self) -> &'static str {
        match self {
            Self::Helm => "helm",
            Self::Coredns => "coredns",
            Self::ArgoRollouts => "argo-rollouts",
            Self::Kwok => "kwok",
            _ => "kubernetes",
        }
    }
}

/// Builds the tools that are missing, and prints where each one is.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only the tools with these file names; without a name, all that clusters and tests need.
    #[arg(value_name = "NAME", value_parser = clap::builder::PossibleValuesParser::new(every().map(Tool::name)))]
    names: Vec<String>,
}

/// Runs `cargo xtask tools`.
pub fn run(args: Args) -> Result<()> {
    let Args { names } = args;
    let named = |tool: &Tool| names.iter().any(|name| name == tool.name());
    let needed = |tool: &Tool| names.is_empty() && Tool::ALL.contains(tool);
    for tool in every().filter(|tool| named(tool) || needed(tool)) {
        println!("{}", path(tool)?.display());
    }
    Ok(())
}

fn every() -> impl Iterator<Item = Tool> {
    Tool::ALL.into_iter().chain(Tool::OF_BENCH)
}

/// The path of a tool; builds it when it is missing, which takes minutes the first time.
pub fn path(tool: Tool) -> Result<PathBuf> {
    let group = Group::read(tool.group())?;
    let program = group.bin.join(tool.name());
    if program.is_file() {
        return Ok(program);
    }
    let _lock = cache::lock(&group.bin.with_extension("lock"))?;
    if !program.is_file() {
        group.build(tool, &program)?;
    }
    Ok(program)
}

/// A Go module as it was published.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Source {
    /// Its folder, which nobody writes to.
    pub dir: PathBuf,
    /// Its version, with a `v` before it.
    pub version: String,
}

/// The module that a tool is built from, for the files that it has beside the program.
///
/// # Errors
/// If the module is neither in Go's cache nor to be had.
pub fn source(tool: Tool) -> Result<Source> {
    let group = Group::read(tool.group())?;
    let package = tool.package();
    let module = package
        .split_once("/cmd/")
        .map_or(package.as_str(), |(module, _)| module);
    let mut download = Command::new(go(tool)?);
    download.current_dir(&group.source).env("GOFLAGS", "-mod=readonly");
    let found = shell::run(download.args(["mod", "download", "-json", module]))?;
    serde_json::from_str(&found).with_context(|| format!("Go does not say where {module} is"))
}

/// Whether a tool is built already.
///
/// # Errors
/// If the pins of its group cannot be read.
pub fn is_built(tool: Tool) -> Result<bool> {
    Ok(Group::read(tool.group())?.bin.join(tool.name()).is_file())
}

/// The folders that hold the tools, for `PATH`.
pub fn folders() -> Result<Vec<PathBuf>> {
    ["kubernetes", "helm", "coredns"]
        .into_iter()
        .map(|name| Ok(Group::read(name)?.bin))
        .collect()
}

struct Group {
    source: PathBuf,
    bin: PathBuf,
    flags: String,
}

impl Group {
    fn read(name: &str) -> Result<Self> {
        let source = cache::workspace().join("xtask/tools").join(name);
        let go_mod = read(&source.join("go.mod"))?;
        let go_sum = read(&source.join("go.sum"))?;
        let flags = link_flags(&go_mod)?;
        let mut digest = Sha256::new();
        for part in [&go_mod, &go_sum, &flags] {
            digest.update(part.as_bytes());
            digest.update([0]);
        }
        let key: String = digest
            .finalize()
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let bin = cache::dir()?.join("tools").join(key).join("bin");
        Ok(Self { source, bin, flags })
    }

    fn build(&self, tool: Tool, program: &Path) -> Result<()> {
        let go = go(tool)?;
        eprintln!("building {} (minutes the first time) …", tool.name());
        let started = Instant::now();
        cache::create(&self.bin)?;
        // Whoever finds the final name finds a whole program.
        let unfinished = program.with_extension("unfinished");
        shell::show(
            Command::new(go)
                .current_dir(&self.source)
                .env("CGO_ENABLED", "0")
                .env("GOFLAGS", "-mod=readonly")
                .args(["build", "-trimpath", "-ldflags", &self.flags, "-o"])
                .arg(&unfinished)
                .arg(tool.package()),
        )
        .with_context(|| format!("cannot build {} from {}", tool.name(), self.source.display()))?;
        fs::rename(&unfinished, program).with_context(|| format!("cannot create {}", program.display()))?;
        eprintln!("built {} in {} s", tool.name(), started.elapsed().as_secs());
        Ok(())
    }
}

fn go(tool: Tool) -> Result<PathBuf> {
    shell::find("go").with_context(|| {
        let name = tool.name();
        format!("{name} must be built, and there is no `go` on PATH: install Go 1.26 or newer")
    })
}

/// Kubernetes learns its version only from the linker.
fn link_flags(go_mod: &str) -> Result<String> {
    let Some(version) = go_mod
        .lines()
        .find_map(|line| line.trim().strip_prefix("k8s.io/kubernetes v"))
    else {
        return Ok("-s -w".to_owned());
    };
    let version = version.split_whitespace().next().unwrap_or_default();
    let mut parts = version.split('.');
    let (Some(major), Some(minor)) = (parts.next(), parts.next()) else {
        bail!("go.mod pins k8s.io/kubernetes v{version}: write a version like v1.34.4");
    };
    let set = "-X k8s.io/component-base/version.git";
    Ok(format!(
        "-s -w {set}Version=v{version} {set}Major={major} {set}Minor={minor}"
    ))
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::link_flags;

    #[test]
    fn the_version_of_kubernetes_reaches_the_linker() -> anyhow::Result<()> {
        let flags = link_flags("require (\n\tk8s.io/kubernetes v1.34.4\n)\n")?;
        assert!(flags.contains("gitVersion=v1.34.4"), "{flags}");
        assert!(
            flags.contains("gitMajor=1 ") && flags.ends_with("gitMinor=34"),
            "{flags}"
        );
        Ok(())
    }

    #[test]
    fn other_groups_only_strip() -> anyhow::Result<()> {
        assert_eq!(link_flags("module helmtool\n")?, "-s -w");
        Ok(())
    }
}
