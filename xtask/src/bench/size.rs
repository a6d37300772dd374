//! What users download, and what contributors wait for.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result};

use super::report::{Report, mib, time};
use crate::{cache, image, shell};

/// What to measure.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Also compile the operator for production from nothing, which takes minutes.
    #[arg(long)]
    cold: bool,
}

impl Args {
    /// All that can be measured.
    pub const fn everything() -> Self {
        Self { cold: true }
    }
}

/// Measures and returns the table.
///
/// # Errors
/// If the image or the program cannot be built.
pub fn run(program: &Path, args: &Args) -> Result<Report> {
    let mut report = Report::new("Size");
    report.value("program", mib(bytes(program)?));
    let image = image::build(program, "localhost/flywheel-bench:size", &[])?;
    report.value("image, with libraries and certificates", mib(bytes(&image.archive)?));
    if args.cold {
        report.value("cold build of the operator for production", time(cold()?));
    }
    Ok(report)
}

fn bytes(path: &Path) -> Result<u64> {
    let file = path.metadata();
    Ok(file.with_context(|| format!("cannot read {}", path.display()))?.len())
}

/// Compiles into an empty folder, with all dependencies downloaded before.
fn cold() -> Result<std::time::Duration> {
    shell::show(shell::cargo().args(["fetch", "--locked"]))?;
    let target = cache::dir()?.join("cold-build");
    crate::debian::remove(&target)?;
    let started = Instant::now();
    let build = [
        "build",
        "--release",
        "--locked",
        "--package",
        "flywheel",
        "--bin",
        "flywheel-operator",
    ];
    shell::show(
        shell::cargo()
            .current_dir(cache::workspace())
            .args(build)
            .env("CARGO_TARGET_DIR", &target),
    )?;
    let took = started.elapsed();
    crate::debian::remove(&target)?;
    Ok(took)
}
