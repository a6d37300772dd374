//! The same deliveries by Flywheel and by Argo Rollouts, one after the other on the same cluster.
//!
//! Both replace version 1 by version 2 for many workloads at once, through the same steps without waiting times, with the
//! same pods on nodes that only pretend, and with their default settings.

mod argo;
mod flywheel;
mod nodes;
mod steps;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use self::argo::Argo;
use self::flywheel::Flywheel;
use self::steps::Steps;
use super::audit::{self, Log, Write};
use super::bed::Bed;
use super::process::Process;
use super::report::{Report, mib, per, rate, time};

/// Replicas of each workload.
const REPLICAS: u32 = 4;
/// Weights of the steps.
const WEIGHTS: [u32; 3] = [25, 50, 75];

/// Most of Argo's time, processor time, memory and writes.
const AIMS: Aims = Aims {
    time: 0.25,
    cpu: 0.25,
    memory: 0.33,
    writes: 1.0,
};
/// Most writes per step: to the status, and to the candidate.
const STATUS_WRITES: f64 = 2.0;
const CANDIDATE_WRITES: f64 = 1.0;

struct Aims {
    time: f64,
    cpu: f64,
    memory: f64,
    writes: f64,
}

/// Few enough to wait for nobody, and many.
const COUNTS: [u32; 2] = [50, 500];

/// What to measure.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Measure so many rollouts at once; more than one number for one measurement after the other.
    #[arg(long, value_delimiter = ',', default_values_t = COUNTS)]
    count: Vec<u32>,
}

impl Default for Args {
    fn default() -> Self {
        Self { count: COUNTS.into() }
    }
}

/// One of the two who deliver.
trait Side {
    /// Its namespace.
    const NAMESPACE: &'static str;
    /// How its requests name it.
    const AGENT: &'static str;

    /// Its process.
    fn process(&self) -> Process;

    /// Requests that it made, reads included, if it counts them.
    fn requests(&self) -> Result<u64> {
        Ok(0)
    }

    /// Makes the workloads with version 1 and waits until all of them serve; returns how many writes of its own that
    /// takes at least.
    fn install(&self, bed: &Bed, count: u32) -> Result<usize>;

    /// Asks for version 2, of all at once.
    fn change(&self, bed: &Bed, count: u32) -> Result<()>;

    /// Waits until version 2 has taken over everywhere.
    fn promoted(&self, bed: &Bed, count: u32) -> Result<()>;
}

/// What one side took.
struct Took {
    count: usize,
    time: Duration,
    cpu: Duration,
    peak: u64,
    own: usize,
    requests: u64,
    kubernetes: usize,
    writes: Vec<Write>,
}

/// Measures and returns the table.
///
/// # Errors
/// If the cluster or one of the two fails.
pub fn run(bed: &Bed, args: &Args) -> Result<Report> {
    nodes::prepare(bed)?;
    argo::install(bed)?;
    let version = argo::version()?;
    let mut report = Report::new(format!("Rollouts: Flywheel / Argo Rollouts {version}"));
    for count in &args.count {
        let theirs = side(bed, &Argo::start(bed)?, *count)?;
        let ours = side(bed, &Flywheel::start(bed)?, *count)?;
        compare(&mut report, *count, &ours, &theirs);
    }
    Ok(report)
}

/// Measures one side, which begins with an empty namespace and leaves none.
fn side<S: Side>(bed: &Bed, side: &S, count: u32) -> Result<Took> {
    let (name, all) = (S::NAMESPACE, usize::try_from(count)?);
    bed.namespaces(&[name.to_owned()])?;
    let mut log = Log::of(&bed.cluster)?;
    eprintln!("{name}: making {count} workloads …");
    let least = side.install(bed, count)?;
    bed.rest(&mut log, S::AGENT, least)?;
    let (before, asked) = (side.process().cpu()?, side.requests()?);
    eprintln!("{name}: delivering …");
    let begun = Instant::now();
    side.change(bed, count)?;
    side.promoted(bed, count)?;
    let time = begun.elapsed();
    let writes = bed.rest(&mut log, S::AGENT, all)?;
    let cpu = side.process().cpu()?.saturating_sub(before);
    let requests = side.requests()?.saturating_sub(asked);
    eprintln!("{name}: {time:.1?}, cleaning up …");
    let peak = side.process().memory()?.peak;
    let gone = ["delete", "namespace", name, "--wait", "--timeout=10m"];
    bed.cluster.kubectl(&gone).context("the namespace does not go")?;
    Ok(Took {
        count: all,
        time,
        cpu,
        peak,
        own: audit::count(&writes, S::AGENT),
        requests,
        kubernetes: audit::count(&writes, audit::KUBERNETES),
        writes,
    })
}

/// A number of one side, and how it is printed.
type Measure = fn(&Took) -> (f64, String);

fn compare(report: &mut Report, count: u32, ours: &Took, theirs: &Took) {
    let what = |what: &str| format!("{count} rollouts: {what}");
    let sides: [(&str, Measure, f64); 4] = [
        ("time until all are promoted", Took::seconds, AIMS.time),
        ("writes of each", Took::writes, AIMS.writes),
        ("processor time of each", Took::millis, AIMS.cpu),
        ("peak of memory", Took::memory, AIMS.memory),
    ];
    for (name, value, aim) in sides {
        report.against(what(name), &value(ours), &value(theirs), aim);
    }
    let others = |took: &Took| per(took.kubernetes, took.count);
    let both = format!("{} / {}", others(ours), others(theirs));
    report.value(what("writes of Kubernetes' controllers for each"), both);
    let requests = usize::try_from(ours.requests).unwrap_or(usize::MAX);
    report.value(
        what("requests of Flywheel for each, reads included"),
        per(requests, ours.count),
    );
    let steps = Steps::of(&ours.writes, Flywheel::AGENT);
    let each = ours.count.saturating_mul(WEIGHTS.len());
    report.at_most(what("writes to the status per step"), steps.status, each, STATUS_WRITES);
    let name = what("writes to the candidate per step");
    report.at_most(name, steps.candidate, each, CANDIDATE_WRITES);
    report.value(what("writes to the target per step"), per(steps.target, each));
}

impl Took {
    fn seconds(&self) -> (f64, String) {
        (self.time.as_secs_f64(), time(self.time))
    }

    fn writes(&self) -> (f64, String) {
        (rate(self.own, self.count), per(self.own, self.count))
    }

    fn millis(&self) -> (f64, String) {
        let millis = self.cpu.as_secs_f64() * 1000.0 / rate(self.count, 1);
        (millis, format!("{millis:.1} ms"))
    }

    fn memory(&self) -> (f64, String) {
        let bytes = usize::try_from(self.peak).unwrap_or(usize::MAX);
        (rate(bytes, 1), mib(self.peak))
    }
}

fn workload(index: u32) -> String {
    format!("web-{index}")
}

fn uri(index: u32, version: u32) -> String {
    format!("s3://models/{}/{version}", workload(index))
}

/// The fields that a Deployment and Argo's Rollout share: replicas and pods that carry version 1.
fn pods(index: u32) -> Value {
    json!({
        "replicas": REPLICAS,
        "selector": { "matchLabels": { "app": workload(index) } },
        "template": {
            "metadata": { "labels": { "app": workload(index) } },
            "spec": { "containers": [container(index, 1)] },
        },
    })
}

fn container(index: u32, version: u32) -> Value {
    json!({ "name": "app", "image": "registry.k8s.io/pause:3.10",
        "env": [{ "name": "MODEL_URI", "value": uri(index, version) }] })
}
