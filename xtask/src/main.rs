//! `cargo xtask <command>`: the entrance for everything that contributors do.

use clap::Parser;
use xtask::{bench, check, cluster, demo, generate, image, test, tools, trace};

/// Everything that contributors do with this repository.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
enum Command {
    Bench(bench::Args),
    Check(check::Args),
    Cluster(cluster::Args),
    Demo(demo::Args),
    Generate(generate::Args),
    Image(image::Args),
    Test(test::Args),
    Tools(tools::Args),
    Trace(trace::Args),
}

fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Bench(args) => bench::run(args),
        Command::Check(args) => check::run(&args),
        Command::Cluster(args) => cluster::run(args),
        Command::Demo(args) => demo::run(&args),
        Command::Generate(args) => generate::run(&args),
        Command::Image(args) => image::run(args),
        Command::Test(args) => test::run(&args),
        Command::Tools(args) => tools::run(args),
        Command::Trace(args) => trace::run(&args),
    }
}
