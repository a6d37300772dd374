//! `cargo xtask demo`: the loop turns on real flights, on a real cluster.

mod bars;
mod early;
mod kube;
mod play;
mod plots;
mod report;
mod score;
mod setup;
mod story;
mod svg;
mod traffic;
mod watch;

use anyhow::Result;

use self::bars::Bars;
use self::kube::Kube;
use self::play::Ended;
pub use self::setup::CLUSTER;
use crate::existing::Existing;
use crate::{cache, tools};

/// Turn the loop on three million real flights, from the first model to a rollback.
#[derive(Debug, Default, clap::Args)]
pub struct Args {
    /// A cluster that exists, and its images: operator, quickship and prometheus.
    #[command(flatten)]
    existing: Existing,
}

impl Args {
    const IMAGES: [&str; 3] = ["operator", "quickship", "prometheus"];
}

/// Runs `cargo xtask demo`.
///
/// # Errors
/// If something cannot be built or installed, if a turn of the loop ends otherwise than the story says, or if a request
/// of the travellers failed.
pub fn run(args: &Args) -> Result<()> {
    args.existing.check(&Args::IMAGES)?;
    println!("Flywheel on real flights (January to June 2001). What you will see, with the times of a warm start:\n");
    for (time, what) in story::STORYBOARD {
        println!("{time:>5}  {what}");
    }
    println!();
    let bars = Bars::start();
    let built = setup::build(args, &bars)?;
    let kube = setup::install(args, &bars, &built)?;
    let folder = cache::target().join("demo");
    cache::create(&folder)?;
    let mut ended = Vec::new();
    for turn in &story::TURNS {
        ended.push(play::turn(&kube, &bars, turn, &folder)?);
    }
    let bar = bars.begin("the report: every version on every week");
    let scores = score::all(&kube, &ended)?;
    let report = report::write(&folder, &kube.namespace, &ended, &scores)?;
    bar.done(&format!("the report is in {}", report.display()));
    farewell(&bars, &kube, &ended)
}

/// Five decisions, each with its number and the command that explains it; and how to look around.
fn farewell(bars: &Bars, kube: &Kube, ended: &[Ended]) -> Result<()> {
    println!();
    for one in ended {
        println!("week {:>2}  {}", one.turn.week, play::headline(one));
        println!(
            "         kubectl flywheel explain run {} -n {}",
            one.turn.run(),
            kube.namespace
        );
    }
    let folders = std::env::join_paths(tools::folders()?)?;
    let plugin = kube
        .plugin
        .parent()
        .map(|p| p.display().to_string())
        .unwrap_or_default();
    println!("\nThe cluster stays up:");
    println!("  export KUBECONFIG={}", kube.cluster.kubeconfig.display());
    println!("  export PATH={plugin}:{}:$PATH", folders.to_string_lossy());
    if kube.ours {
        println!(
            "  cargo xtask cluster down --name {}   # when you have seen enough",
            kube.cluster.name
        );
    }
    println!("All of this took {} minutes.", bars.clock());
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    /// What is said of these images on a cluster that exists.
    fn said(more: &[&str]) -> Result<()> {
        let words = ["demo", "--kubeconfig", "x"].iter().chain(more);
        Line::try_parse_from(words)?.args.existing.check(&Args::IMAGES)
    }

    #[test]
    fn a_foreign_cluster_without_images_is_refused_before_anything_is_built() {
        let said = said(&["--image", "operator=r/o@sha256:1"]).map_err(|error| error.to_string());
        let said = said.expect_err("images are missing");
        assert!(
            said.contains("--registry") && said.contains("quickship=") && !said.contains("operator="),
            "{said}"
        );
    }

    #[test]
    fn an_image_needs_a_known_name_and_a_digest() {
        let pushed = |image: &str| said(&["--registry", "r", "--image", image]);
        assert!(pushed("quickship=r/q@sha256:1").is_ok());
        assert!(pushed("quickship=r/q:latest").is_err());
        assert!(pushed("other=r/q@sha256:1").is_err());
    }
}
