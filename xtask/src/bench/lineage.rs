//! How long `kubectl flywheel lineage verify` takes for many entries, from the file to the verdict.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use flywheel_api::ModelVersion;
use flywheel_api::model_version::VersionState;
use flywheel_engine::lineage::{self, Reached};
use jiff::Timestamp;
use serde_json::json;

use super::report::{Report, mib, time};
use crate::{cache, image, shell};

/// Each is measured so often; the middle one counts.
const TRIALS: usize = 5;
const AIM: Duration = Duration::from_secs(1);

/// What to measure.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Versions, each with a chain.
    #[arg(long, default_value_t = Args::default().versions)]
    versions: i64,
    /// Entries of each chain.
    #[arg(long, default_value_t = Args::default().entries)]
    entries: i64,
    /// Measure this plugin instead of the one of this checkout, which is compiled for production.
    #[arg(long, value_name = "FILE")]
    plugin: Option<PathBuf>,
}

impl Default for Args {
    fn default() -> Self {
        Self {
            versions: 400,
            entries: 250,
            plugin: None,
        }
    }
}

/// Measures and returns the table.
///
/// # Errors
/// If the plugin cannot be built, or finds something in chains that are honest.
pub fn run(args: &Args) -> Result<Report> {
    let plugin = args
        .plugin
        .clone()
        .map_or_else(|| image::compile("flywheel-cli", "kubectl-flywheel"), Ok)?;
    let file = cache::dir()?.join("bench-lineage.json");
    let text = document(args)?;
    let size = text.len();
    std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    let verified = middle(|| verify(&plugin, &file))?;
    let hashed = middle(|| hash(&file))?;
    std::fs::remove_file(&file)?;
    let mut report = Report::new("Lineage");
    let entries = args.versions * args.entries;
    report.value("file", mib(u64::try_from(size)?));
    let what = format!("{entries} entries of {} versions: read and verified", args.versions);
    let aim = format!("at most {}", time(AIM));
    report.aim(what, time(verified), &aim, verified <= AIM);
    report.value("the same file: its bytes hashed by sha256sum", time(hashed));
    Ok(report)
}

/// The middle one of some measurements.
fn middle(measure: impl Fn() -> Result<Duration>) -> Result<Duration> {
    let mut all = (0..TRIALS).map(|_| measure()).collect::<Result<Vec<_>>>()?;
    all.sort();
    all.get(TRIALS / 2).copied().context("nothing was measured")
}

fn verify(plugin: &Path, file: &Path) -> Result<Duration> {
    let started = Instant::now();
    let mut command = Command::new(plugin);
    let said = shell::run(command.args(["lineage", "verify", "-o", "name", "-f"]).arg(file))?;
    ensure!(said.is_empty(), "honest chains are called broken: {said}");
    Ok(started.elapsed())
}

fn hash(file: &Path) -> Result<Duration> {
    let started = Instant::now();
    let status = Command::new("sha256sum").arg(file).stdout(Stdio::null()).status()?;
    ensure!(status.success(), "sha256sum ended with {status}");
    Ok(started.elapsed())
}

/// A list as `kubectl get -o json` prints it.
fn document(args: &Args) -> Result<String> {
    let first = chain(args.entries)?;
    let all = (1..=args.versions).map(|number| like(&first, number));
    let items = all.collect::<Result<Vec<_>>>()?;
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": items });
    Ok(serde_json::to_string_pretty(&list)?)
}

fn version(number: i64) -> Result<ModelVersion> {
    let version = json!({
        "apiVersion": "flywheel.dev/v1alpha1",
        "kind": "ModelVersion",
        "metadata": { "name": format!("eta-{number}"), "namespace": "shop", "uid": format!("uid-{number}") },
        "spec": { "modelName": "eta", "version": number, "artifact": {
            "uri": format!("s3://models/eta/{number}"), "digest": format!("sha256:{}", "0".repeat(64)) } },
    });
    Ok(serde_json::from_value(version)?)
}

/// A version whose chain has grown to so many entries as the operator lets it grow.
fn chain(entries: i64) -> Result<ModelVersion> {
    let mut version = version(1)?;
    for turn in 0..entries {
        let mut status = version.status.take().unwrap_or_default();
        status.state = if turn % 2 == 0 {
            VersionState::Candidate
        } else {
            VersionState::Live
        };
        version.status = Some(status.clone());
        let present = Reached {
            state: status.state,
            cause: None,
        };
        status.lineage = lineage::extended(&version, &status, &[], &present, Timestamp::from_second(turn)?);
        version.status = Some(status);
    }
    Ok(version)
}

/// The same chain for another version.
fn like(first: &ModelVersion, number: i64) -> Result<ModelVersion> {
    let mut version = version(number)?;
    version.status.clone_from(&first.status);
    let (mut previous, facts) = (lineage::identity(&version), lineage::of_spec(&version.spec));
    let lineage = version.status.as_mut().and_then(|s| s.lineage.as_mut());
    let lineage = lineage.context("the chain has no entries")?;
    for (index, entry) in lineage.entries.iter_mut().enumerate() {
        if index == 0 {
            entry.facts = facts.clone();
        }
        entry.previous = previous;
        entry.digest = lineage::seal(entry);
        previous = entry.digest.clone();
    }
    lineage.head.digest = previous;
    Ok(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chains_that_are_measured_are_as_long_as_they_are_said_to_be_and_honest() -> Result<()> {
        let args = Args {
            versions: 3,
            entries: 5,
            ..Args::default()
        };
        let list: serde_json::Value = serde_json::from_str(&document(&args)?)?;
        let versions: Vec<ModelVersion> = serde_json::from_value(list["items"].clone())?;
        let of = |v: &ModelVersion| v.status.as_ref()?.lineage.as_ref().map(|l| l.entries.len());
        assert_eq!(versions.iter().filter_map(of).collect::<Vec<_>>(), [5, 5, 5]);
        let register = lineage::register::Register {
            versions,
            ..lineage::register::Register::default()
        };
        assert!(
            lineage::register::check(&register)
                .iter()
                .all(|v| v.findings.is_empty())
        );
        Ok(())
    }
}
