//! `cargo xtask bench`: what the operator uses and how fast it is, measured on this machine in one run.
//!
//! Nothing here is a test: numbers depend on the machine, so an aim that is missed is printed and fails nothing.

mod audit;
mod bed;
mod idle;
mod kubelet;
mod lineage;
mod process;
mod report;
mod rollouts;
mod runs;
mod size;

use std::path::PathBuf;

use anyhow::Result;

use self::bed::Bed;
use crate::image::{self, Ours};

/// What the chart is installed with for a measurement: what every pipeline needs, and nothing else.
const SETTINGS: [&str; 1] = ["config.artifacts.uri=s3://models/"];
/// Where many runs begin at once, they are not to wait for each other.
const SETTINGS_OF_RUNS: [&str; 2] = ["config.artifacts.uri=s3://models/", "config.maxRunsPerNamespace=1000"];

/// Measure memory, writes and times, and print them as tables.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this; everything, one after the other, if absent.
    #[command(subcommand)]
    what: Option<What>,
    /// Name of the cluster, which is made anew for each measurement.
    #[arg(long, global = true, default_value = "bench")]
    name: String,
    /// Measure this operator instead of the one of this checkout, which is compiled for production.
    #[arg(long, global = true, value_name = "FILE")]
    operator: Option<PathBuf>,
    /// Leave the last cluster up afterwards.
    #[arg(long, global = true)]
    keep: bool,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum What {
    /// Memory, writes and start with many objects with which nothing happens.
    Idle(idle::Args),
    /// Times, reconciles and writes of many runs that begin at once.
    Runs(runs::Args),
    /// Many rollouts at once, side by side with Argo Rollouts.
    Rollouts(rollouts::Args),
    /// How long the plugin takes to verify the lineage of many versions.
    Lineage(lineage::Args),
    /// Size of the program and of its image, and how long a cold build takes.
    Size(size::Args),
}

/// Runs `cargo xtask bench`.
///
/// # Errors
/// If something cannot be measured.
pub fn run(args: Args) -> Result<()> {
    let Args {
        what,
        name,
        operator,
        keep,
    } = args;
    let all = what.map_or_else(everything, |what| vec![what]);
    let program = || operator.clone().map_or_else(|| image::program(Ours::Operator), Ok);
    let bed = |settings: &[&str]| Bed::prepare(&program()?, &name, keep, settings);
    println!("{}", machine());
    for what in all {
        let report = match what {
            What::Idle(args) => idle::run(&bed(&SETTINGS)?, &args)?,
            What::Runs(args) => runs::run(&bed(&SETTINGS_OF_RUNS)?, &args)?,
            What::Rollouts(args) => rollouts::run(&bed(&SETTINGS)?, &args)?,
            What::Lineage(args) => lineage::run(&args)?,
            What::Size(args) => size::run(&program()?, &args)?,
        };
        println!("\n{}", report.render());
    }
    println!("{}", machine());
    Ok(())
}

fn everything() -> Vec<What> {
    vec![
        What::Size(size::Args::everything()),
        What::Lineage(lineage::Args::default()),
        What::Runs(runs::Args::default()),
        What::Rollouts(rollouts::Args::default()),
        What::Idle(idle::Args::default()),
    ]
}

/// What the numbers were measured on, and how busy it was.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("unknown processor", |rest| rest.trim_start_matches([' ', '\t', ':']));
    let cores = cpus.lines().filter(|line| line.starts_with("processor")).count();
    let memory = read("/proc/meminfo");
    let kibibytes = memory.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok());
    let load = read("/proc/loadavg");
    let load: Vec<&str> = load.split_whitespace().take(3).collect();
    format!(
        "{cores} × {model}, {}, load average {}",
        report::mib(kibibytes.unwrap_or_default() << 10),
        load.join(" ")
    )
}
