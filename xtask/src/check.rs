//! `cargo xtask check`: what a reviewer should not have to look for.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::{generate, shell};

/// Longest source file, in lines, tests included.
const MAX_LINES: usize = 500;
/// What no decision may use: it would not be a function of its observation any more.
const IMPURE: [&str; 8] = [
    "Timestamp::now",
    "SystemTime",
    "Instant::now",
    "std::env",
    "std::fs",
    "async fn",
    "kube::Client",
    "rand::",
];

/// Format, lints, sizes, purity of the decisions, and drift of what is generated.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Checks everything and names all that is wrong.
///
/// # Errors
/// The first of the checks that fails, with what to do.
pub fn run(_: &Args) -> Result<()> {
    cargo(&["fmt", "--all", "--check"], "run `cargo fmt --all`")?;
    let mut problems = Vec::new();
    for file in sources(Path::new("."))? {
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let lines = text.lines().count();
        if lines > MAX_LINES {
            problems.push(format!(
                "{} has {lines} lines, {MAX_LINES} are allowed: cut it",
                file.display()
            ));
        }
        let decisions = file.starts_with("./crates/engine/src") || file.starts_with("./crates/api/src");
        for word in IMPURE.iter().filter(|w| decisions && text.contains(**w)) {
            problems.push(format!(
                "{} uses {word}: decisions know only what was observed",
                file.display()
            ));
        }
    }
    if !problems.is_empty() {
        bail!("{}", problems.join("\n"));
    }
    generate::run(&generate::Args { check: true })?;
    dependencies()?;
    // The tests on clusters are no default target, so --all-targets leaves them out.
    for targets in ["--all-targets", "--test=it"] {
        let command = ["clippy", "--workspace", targets, "--", "-D", "warnings"];
        cargo(&command, "mend the warnings")?;
    }
    Ok(())
}

/// Licences, duplicates and sources of all dependencies, and known advisories where their database can be had.
fn dependencies() -> Result<()> {
    if shell::find("cargo-deny").is_none() {
        println!("cargo-deny is not installed: licences, sources and advisories of dependencies are not checked");
        return Ok(());
    }
    cargo(
        &["deny", "--offline", "check", "bans", "licenses", "sources"],
        "read deny.toml",
    )?;
    if shell::run(shell::cargo().args(["deny", "fetch", "db"])).is_err() {
        println!("the database of advisories cannot be had: advisories are not checked");
        return Ok(());
    }
    cargo(
        &["deny", "check", "advisories"],
        "update the dependency, or say in deny.toml why it does not matter",
    )
}

fn cargo(args: &[&str], remedy: &str) -> Result<()> {
    let status = shell::cargo().args(args).status().context("cannot start cargo")?;
    if status.success() {
        Ok(())
    } else {
        bail!("cargo {} failed: {remedy}", args.join(" "))
    }
}

/// All Rust files of the repository.
fn sources(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            found.extend(sources(&path)?);
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
    Ok(found)
}
