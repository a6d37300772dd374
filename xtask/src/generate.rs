//! `cargo xtask generate`: everything that is derived from the code and kept in the repository.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use flywheel_api::stage_contract::{StageFile, StageResult};

use crate::shell;

pub mod chart;

/// Write everything that is derived from the code.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write nothing; fail if a file is not what it would be.
    #[arg(long)]
    pub check: bool,
}

/// Writes or compares.
///
/// # Errors
/// With `--check`, the names of the files that are stale.
pub fn run(args: &Args) -> Result<()> {
    let mut stale = Vec::new();
    let mut files = files()?;
    if !args.check {
        // A test of the plugin itself compares its page: building the plugin only for the check would take minutes.
        files.push((PathBuf::from("docs/reference/plugin.md"), plugin()?));
    }
    for (path, text) in files {
        if fs::read_to_string(&path).is_ok_and(|old| old == text) {
            continue;
        }
        if args.check {
            stale.push(path.display().to_string());
            continue;
        }
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        println!("{}", path.display());
    }
    if stale.is_empty() {
        return Ok(());
    }
    bail!("stale, run `cargo xtask generate`: {}", stale.join(", "))
}

fn files() -> Result<Vec<(PathBuf, String)>> {
    let mut all = Vec::new();
    let mut names = Vec::new();
    for crd in flywheel_api::crds() {
        let name = format!("{}.yaml", crd.spec.names.plural);
        let text = serde_saphyr::to_string(&crd)?;
        all.push((chart::crd(&name), text.clone()));
        all.push((Path::new("crds").join(&name), text));
        names.push(name);
    }
    let list: Vec<String> = names.iter().map(|n| format!("  - {n}\n")).collect();
    let header = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n";
    all.push((
        PathBuf::from("crds/kustomization.yaml"),
        format!("{header}{}", list.concat()),
    ));
    all.push((
        PathBuf::from("docs/reference/levels.md"),
        format!(
            "# Who decides what\n\nGenerated from the table that the operator itself uses.\n\n{}",
            flywheel_engine::level::markdown()
        ),
    ));
    all.push((PathBuf::from("docs/reference/plugin.md"), plugin()?));
    let schemas = [
        (
            "stage-file",
            serde_json::to_string_pretty(&schemars::schema_for!(StageFile))?,
        ),
        (
            "stage-result",
            serde_json::to_string_pretty(&schemars::schema_for!(StageResult))?,
        ),
    ];
    for (name, text) in schemas {
        all.push((
            PathBuf::from(format!("docs/reference/{name}.schema.json")),
            format!("{text}\n"),
        ));
    }
    all.push(chart::readme()?);
    all.push(chart::permissions()?);
    all.extend(crate::reference::files()?);
    Ok(all)
}

/// The plugin's own page. It is asked for it as a program, so that xtask need not be linked with a Kubernetes client.
fn plugin() -> Result<String> {
    let output = shell::cargo()
        .args(["run", "--quiet", "--bin", "kubectl-flywheel", "--", "__reference"])
        .output()
        .context("cannot start cargo")?;
    if !output.status.success() {
        bail!(
            "the plugin does not print its reference: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    String::from_utf8(output.stdout).context("the plugin's reference is no text")
}
