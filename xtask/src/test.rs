//! `cargo xtask test`: all tests, those on real clusters included.

mod count;
mod rights;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use jiff::Timestamp;

use self::count::{Call, Count};
use self::rights::Rights;
use crate::cluster::{self, Audit, Cluster, Options, Profile};
use crate::existing::Existing;
use crate::operator::{Operator, free_port};
use crate::tools::{self, Tool};
use crate::trace::tail::Tail;
use crate::trace::{self, History, Scope};
use crate::{cache, chart, check, demo, image, packages, quickship, shell};

/// Tests without a node wait for the API server most of the time, so more of them run at once than there are cores. Four
/// wait for the end, to be alone.
const API_THREADS: u32 = 28;
/// Each of these has several operators at once, and with `--long` many.
const FAULT_THREADS: u32 = 4;
const LONG_FAULT_THREADS: u32 = 2;
/// With `--long` each of them that does not try all of its plans begins further ones for so many seconds.
const LONG: u32 = 250;
/// Who waits for long wants to know what was covered: tests that pass are heard only with this.
const SHOWN: &str = "--show-output";
/// Tests on a node wait for pods most of the time.
const NODE_THREADS: u32 = 10;

/// Run all tests.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only tests whose name contains this; leaves out the checks.
    pub filter: Option<String>,
    /// Leave the clusters up afterwards.
    #[arg(long)]
    pub keep: bool,
    /// Name of the clusters: `<name>-api` and `<name>-full`.
    #[arg(long, default_value = "test")]
    pub name: String,
    /// Bring up and test only this kind of cluster.
    #[arg(long, value_enum)]
    pub profile: Option<Profile>,
    /// Explore, walk and let go wrong all that there is time for, and print what was covered. Turn the whole demo too,
    /// from nothing to its report: it fails if a turn of the loop ends otherwise than its story says. Its cluster goes
    /// afterwards, unless it was there before. All of it takes up to 75 minutes on 2 cores.
    #[arg(long, conflicts_with_all = ["filter", "profile", "kubeconfig"])]
    pub long: bool,
    /// Run the tests on a node, and no others, on a cluster that exists.
    #[command(flatten)]
    pub existing: Existing,
}

/// The images of the tests on a node, as `--image` names them.
const IMAGES: [&str; 2] = ["operator", "probe"];

/// Runs everything and says how many tests passed.
///
/// # Errors
/// If a check or a test failed, or a cluster could not be brought up: a test that cannot run fails.
pub fn run(args: &Args) -> Result<()> {
    args.existing.check(&IMAGES)?;
    let mut count = Count::default();
    if let Some(cluster) = args.existing.cluster()? {
        on_existing(args, &cluster, &mut count)?;
        return conclude(&count);
    }
    let filter = args.filter.as_deref();
    if filter.is_none() && args.profile.is_none() {
        check::run(&check::Args {})?;
    }
    let on_clusters_only = KINDS.iter().any(|kind| names_only(filter, kind));
    if args.profile.is_none() && !on_clusters_only {
        let env: Vec<(&str, String)> = long(args).into_iter().collect();
        let call = |cargo, program| Call {
            cargo,
            filter,
            program,
            env: &env,
        };
        let shown = args.long.then_some(SHOWN);
        count.cargo(&call(&["test", "--workspace"], shown.as_slice()))?;
        count.one(quickship::Runtime::prepare().and_then(|python| python.test()));
        // Whole clusters come and go in these: one by one, while nothing else asks for the machine.
        let alone = ["--ignored", "--test-threads=1"];
        let clusters = ["test", "--workspace", "--test", "hygiene", "--test", "network"];
        count.cargo(&call(&clusters, &alone))?;
    }
    on_clusters(args, &mut count)?;
    if args.long {
        count.one(demonstrate(args.keep));
    }
    conclude(&count)
}

/// The demo, judged by its own story and by the audit log of its cluster.
fn demonstrate(keep: bool) -> Result<String> {
    let was_there = cluster::find(demo::CLUSTER)?.is_some();
    let begun = Timestamp::now();
    let told = demo::run(&demo::Args::default());
    let cluster = cluster::find(demo::CLUSTER)?;
    let judged = match &cluster {
        Some(cluster) => judge(cluster, begun, true),
        None => Err(anyhow!("the demo left no cluster")),
    };
    if cluster.is_some() && !keep && !was_there {
        cluster::down(demo::CLUSTER)?;
    }
    told.and(judged)
}

fn conclude(count: &Count) -> Result<()> {
    if !count.covered.is_empty() {
        println!("\nWhat was covered:");
        count.covered.iter().for_each(|what| println!("  {what}"));
        println!();
    }
    println!("{} passed, {} failed", count.passed, count.failed);
    if !count.is_good() {
        bail!("tests failed");
    }
    Ok(())
}

/// Kinds of tests on clusters, by the beginning of their names: on an API server, there with operators of their own
/// whose writes go wrong, there while its store is away, on a node, and those that change and remove the operator.
pub(crate) const KINDS: [&str; 5] = ["cluster_", "fault_", "etcd_", "node_", "helm_"];

/// Whether only tests of that kind can match.
fn names_only(filter: Option<&str>, kind: &str) -> bool {
    filter.is_some_and(|f| f.starts_with(kind))
}

/// Compiles what is tested and what the tests run.
fn build() -> Result<PathBuf> {
    let build = ["build", "--workspace", "--bins", "--example", "probe"];
    let status = shell::cargo().args(build).status().context("cannot start cargo")?;
    if !status.success() {
        bail!("the programs under test could not be built");
    }
    Ok(cache::target().join("debug"))
}

/// One cluster after the other, so that two cores are enough.
fn on_clusters(args: &Args, count: &mut Count) -> Result<()> {
    let built = build()?;
    let (only, filter) = (args.profile, args.filter.as_deref());
    let (mut passed, mut rights) = (Ok(()), Rights::default());
    let elsewhere = names_only(filter, "node_") || names_only(filter, "helm_");
    if only.is_none_or(|only| only == Profile::Api) && !elsewhere {
        passed = on_api_server(args, &built, count, &mut rights);
    }
    let here = ["cluster_", "fault_", "etcd_"]
        .iter()
        .any(|kind| names_only(filter, kind));
    if only.is_none_or(|only| only == Profile::Full) && !here {
        passed = passed.and(on_node(args, &built, count, &mut rights));
    }
    if only.is_none() && filter.is_none() {
        count.one(rights.judge());
    }
    passed
}

fn up(args: &Args, profile: Profile, suffix: &str) -> Result<Cluster> {
    cluster::up(&Options {
        name: format!("{}-{suffix}", args.name),
        profile,
        audit: Audit::Writes,
    })
}

/// Tests that need objects, but no pods: the operator is a process, with the rights of the chart and no others.
fn on_api_server(args: &Args, built: &Path, count: &mut Count, rights: &mut Rights) -> Result<()> {
    let cluster = up(args, Profile::Api, "api")?;
    let begun = Timestamp::now();
    chart::install(&cluster, None, &["config.artifacts.uri=s3://models/"])?;
    let port = free_port()?;
    let operator = Operator::start(&cluster, &built.join("flywheel-operator"), port)?;
    let mut env = environment(built)?;
    env.extend(long(args));
    env.extend([
        ("FLYWHEEL_TEST_API_METRICS", format!("127.0.0.1:{port}")),
        ("FLYWHEEL_TEST_API_KUBECONFIG", cluster.kubeconfig.display().to_string()),
        ("FLYWHEEL_TEST_API_AUDIT_LOG", cluster.audit_log.display().to_string()),
        ("RUST_TEST_THREADS", API_THREADS.to_string()),
    ]);
    let filter = args.filter.as_deref();
    let mut outcome = Ok(());
    let wanted = |kind: &str| !KINDS.iter().any(|other| *other != kind && names_only(filter, other));
    if wanted("cluster_") {
        outcome = tests(args, count, "cluster_", &env);
    }
    drop(operator);
    env.extend(operators(built, &cluster)?);
    if wanted("fault_") {
        let threads = if args.long { LONG_FAULT_THREADS } else { FAULT_THREADS };
        env.push(("RUST_TEST_THREADS", threads.to_string()));
        outcome = outcome.and(tests(args, count, "fault_", &env));
    }
    if wanted("etcd_") {
        // What happens to the store happens to everybody: nobody else is there any more.
        env.push(("RUST_TEST_THREADS", "1".to_owned()));
        outcome = outcome.and(tests(args, count, "etcd_", &env));
    }
    count.one(rights.read(&cluster));
    finish(args, &cluster, begun, count).and(outcome)
}

/// What makes tests long.
fn long(args: &Args) -> Option<(&'static str, String)> {
    args.long.then(|| ("FLYWHEEL_TEST_LONG", LONG.to_string()))
}

/// What tests need that start operators of their own.
fn operators(built: &Path, cluster: &Cluster) -> Result<[(&'static str, String); 4]> {
    let program = built.join("flywheel-operator").display().to_string();
    let kubeconfig = chart::kubeconfig(cluster)?.display().to_string();
    Ok([
        ("FLYWHEEL_TEST_OPERATOR_PROGRAM", program),
        ("FLYWHEEL_TEST_OPERATOR_KUBECONFIG", kubeconfig),
        ("FLYWHEEL_TEST_API_CLUSTER", cluster.name.clone()),
        ("FLYWHEEL_TEST_CLOCK_LIBRARY", packages::clock_library()?),
    ])
}

/// Tests that need pods: the operator runs in the cluster, as users install it.
fn on_node(args: &Args, built: &Path, count: &mut Count, rights: &mut Rights) -> Result<()> {
    let cluster = up(args, Profile::Full, "full")?;
    let begun = Timestamp::now();
    let load = |program: &Path, name| {
        let image = image::build(program, name, &[])?;
        image::load(&cluster, &image).map(|()| image)
    };
    let operator = load(&built.join("flywheel-operator"), "localhost/flywheel-operator:test")?;
    let probe = load(&built.join("examples/probe"), "localhost/probe:dev")?;
    chart::install(&cluster, Some(&operator.reference()), &[])?;
    let mut env = node_environment(&cluster, built, probe.reference())?;
    env.push(("FLYWHEEL_TEST_FULL_AUDIT_LOG", cluster.audit_log.display().to_string()));
    let filter = args.filter.as_deref();
    let mut outcome = Ok(());
    if !names_only(filter, "helm_") {
        outcome = tests(args, count, "node_", &env);
        count.one(rights.read(&cluster));
    }
    if !names_only(filter, "node_") {
        // These change and remove the operator and its rights: after all others, one by one.
        env.retain(|(name, _)| *name != "RUST_TEST_THREADS");
        env.push(("RUST_TEST_THREADS", "1".to_owned()));
        outcome = outcome.and(tests(args, count, "helm_", &env));
        count.one(rights.read(&cluster));
    }
    finish(args, &cluster, begun, count).and(outcome)
}

/// Tests on a node of a cluster that exists. It stays as it is afterwards, the operator and the tests' namespaces
/// included. Nothing is judged by its audit log, which only its administrator has.
fn on_existing(args: &Args, cluster: &Cluster, count: &mut Count) -> Result<()> {
    let built = build()?;
    let reference = |name: &str, program: &str| match args.existing.image(name) {
        Some(reference) => Ok(reference.to_owned()),
        None => {
            let image = image::build(&built.join(program), &format!("localhost/flywheel-{name}:test"), &[])?;
            args.existing.push(&image)
        }
    };
    let operator = reference("operator", "flywheel-operator")?;
    let probe = reference("probe", "examples/probe")?;
    chart::install(cluster, Some(&operator), &[])?;
    let mut env = node_environment(cluster, &built, probe)?;
    env.push(("FLYWHEEL_TEST_FULL_AUDIT_LOG", String::new()));
    tests(args, count, "node_", &env)
}

/// What the tests on a node must know of their cluster.
fn node_environment(cluster: &Cluster, built: &Path, probe: String) -> Result<Vec<(&'static str, String)>> {
    let mut env = environment(built)?;
    let operator = format!("deployment:{}/{}", chart::NAMESPACE, chart::RELEASE);
    env.extend([
        (
            "FLYWHEEL_TEST_FULL_KUBECONFIG",
            cluster.kubeconfig.display().to_string(),
        ),
        ("FLYWHEEL_TEST_OPERATOR", operator),
        ("FLYWHEEL_TEST_PROBE_IMAGE", probe),
        ("RUST_TEST_THREADS", NODE_THREADS.to_string()),
    ]);
    Ok(env)
}

/// Runs the tests of one kind.
fn tests(args: &Args, count: &mut Count, kind: &str, env: &[(&str, String)]) -> Result<()> {
    let others: Vec<&str> = KINDS.into_iter().filter(|other| *other != kind).collect();
    let shown = args.long.then_some(SHOWN);
    count.cargo(&Call {
        // The whole workspace: other features of the same dependencies would be compiled anew.
        cargo: &["test", "--workspace", "--test", "it"],
        filter: args.filter.as_deref().or(Some(kind)),
        program: &others
            .iter()
            .flat_map(|k| ["--skip", *k])
            .chain(shown)
            .collect::<Vec<_>>(),
        env,
    })
}

/// The programs that the tests use.
fn environment(built: &Path) -> Result<Vec<(&'static str, String)>> {
    let path = |tool| tools::path(tool).map(|path| path.display().to_string());
    Ok(vec![
        ("FLYWHEEL_TEST_HELM", path(Tool::Helm)?),
        ("FLYWHEEL_TEST_KUBECTL", path(Tool::Kubectl)?),
        (
            "FLYWHEEL_TEST_PLUGIN",
            built.join("kubectl-flywheel").display().to_string(),
        ),
        (
            "FLYWHEEL_TEST_PROMTOOL",
            packages::path(packages::PROMTOOL)?.display().to_string(),
        ),
    ])
}

/// Judges all that happened, and takes the cluster down.
fn finish(args: &Args, cluster: &Cluster, begun: Timestamp, count: &mut Count) -> Result<()> {
    count.one(judge(cluster, begun, args.filter.is_none()));
    if args.keep {
        return Ok(());
    }
    cluster::down(&cluster.name)
}

/// Judges everything that happened on a cluster since the tests began, those that ended early included.
fn judge(cluster: &Cluster, begun: Timestamp, all: bool) -> Result<String> {
    let tail = Tail::new(&cluster.audit_log)?;
    let marker = format!("trace-of-all-{}", std::process::id());
    cluster.kubectl(&["create", "configmap", &marker])?;
    tail.wait_for(&marker, Duration::from_secs(20))?;
    let history = History::read(&cluster.audit_log, &Scope::default())?;
    if all && !history.steps.iter().any(|s| s.operator) {
        bail!(
            "{} holds no write of the operator: there is nothing to judge",
            cluster.audit_log.display()
        );
    }
    trace::judge(&history, &cluster.audit_log, Some(begun))
}
