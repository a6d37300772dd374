//! `cargo xtask check`: what a reviewer should not have to look for.

mod house;

use anyhow::{Context, Result, bail};

use crate::{generate, shell};

/// Format, lints, the rules of the house, and drift of what is generated.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Checks everything and names all that is wrong.
///
/// # Errors
/// The first of the checks that fails, with what to do.
pub fn run(_: &Args) -> Result<()> {
    cargo(&["fmt", "--all", "--check"], "run `cargo fmt --all`")?;
    let problems = house::problems()?;
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
