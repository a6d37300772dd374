//! Programs built from Go modules at the versions pinned under `xtask/tools`.
//!
//! A group is one go.mod. Its programs live in a folder named by the digest of go.mod, go.sum and
//! the build flags, so a changed pin builds anew and leaves the other groups alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
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
}

impl Tool {
    /// Every tool, in the order in which they are built.
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
        }
    }

    fn package(self) -> String {
        match self {
            Self::Etcd => "go.etcd.io/etcd/server/v3".to_owned(),
            Self::Helm => "helm.sh/helm/v4/cmd/helm".to_owned(),
            Self::Coredns => "github.com/coredns/coredns".to_owned(),
            kubernetes => format!("k8s.io/kubernetes/cmd/{}", kubernetes.name()),
        }
    }

    fn group(self) -> &'static str {
        match self {
            Self::Helm => "helm",
            Self::Coredns => "coredns",
            _ => "kubernetes",
        }
    }
}

/// Builds the tools that are missing, and prints where each one is.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only the tools with these file names.
    #[arg(value_name = "NAME", value_parser = clap::builder::PossibleValuesParser::new(Tool::ALL.map(Tool::name)))]
    names: Vec<String>,
}

/// Runs `cargo xtask tools`.
pub fn run(args: Args) -> Result<()> {
    let Args { names } = args;
    for tool in Tool::ALL {
        if names.is_empty() || names.iter().any(|name| name == tool.name()) {
            println!("{}", path(tool)?.display());
        }
    }
    Ok(())
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
        let go = shell::find("go").with_context(|| {
            format!(
                "{} must be built, and there is no `go` on PATH: install Go 1.26 or newer",
                tool.name()
            )
        })?;
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
