//! What it costs to have many objects with which nothing happens.

use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use flywheel_api::{FlywheelPipeline, ModelVersion};
use serde_json::{Value, json};

use super::audit::{self, Log};
use super::bed::{Bed, Operating};
use super::report::{Report, mib, time};

/// Pipelines per namespace, and as many versions.
const PER_NAMESPACE: u32 = 100;
/// Most memory, in bytes, with as many pipelines and versions as follow.
const MEMORY: u64 = 40 << 20;
const MANY: u32 = 1000;
/// Seconds in which each object is looked at at least once.
const QUIET: u64 = 600;
/// Longest start.
const START: Duration = Duration::from_secs(3);

/// What to measure.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Measure with so many pipelines and as many versions, one after the other.
    #[arg(long, value_delimiter = ',', default_values_t = [MANY, 10 * MANY])]
    objects: Vec<u32>,
    /// Seconds for which writes are counted while nothing happens.
    #[arg(long, default_value_t = QUIET)]
    quiet: u64,
}

impl Default for Args {
    fn default() -> Self {
        Self {
            objects: vec![MANY, 10 * MANY],
            quiet: QUIET,
        }
    }
}

/// Measures and returns the table.
///
/// # Errors
/// If the cluster or the operator fails.
pub fn run(bed: &Bed, args: &Args) -> Result<Report> {
    let mut report = Report::new("Idle");
    let mut objects = args.objects.clone();
    objects.sort_unstable();
    let operator = bed.operate()?;
    operator.ready()?;
    sleep(Duration::from_secs(5));
    report.value("memory without objects", mib(operator.process.memory()?.resident));
    let mut made = 0;
    for count in &objects {
        grow(bed, &operator, made, *count, &mut report)?;
        rest(bed, &operator, *count, args.quiet, &mut report)?;
        made = *count;
    }
    drop(operator);
    start(bed, made, &mut report)?;
    Ok(report)
}

/// Makes the objects from `from` to `to` and measures when the operator is at rest.
fn grow(bed: &Bed, operator: &Operating, from: u32, to: u32, report: &mut Report) -> Result<()> {
    eprintln!("making pipelines and versions {from} to {to} …");
    let mut log = Log::of(&bed.cluster)?;
    let (before, asked) = (operator.process.cpu()?, operator.requests()?);
    let namespaces = from.div_ceil(PER_NAMESPACE)..to.div_ceil(PER_NAMESPACE);
    bed.namespaces(&namespaces.map(namespace).collect::<Vec<_>>())?;
    bed.make::<FlywheelPipeline>((from..to).map(pipeline))?;
    bed.make::<ModelVersion>((from..to).map(version))?;
    // Each says in its status that it was accepted.
    let least = usize::try_from(to.saturating_sub(from).saturating_mul(2))?;
    let writes = bed.rest(&mut log, audit::OPERATOR, least)?;
    let cpu = operator.process.cpu()?.saturating_sub(before);
    // Metrics are asked for by everybody who runs the operator, so what they take belongs to it.
    let requests = operator.requests()?.saturating_sub(asked);
    let memory = operator.process.memory()?;
    report.value(
        format!("{to} of each: memory when they were made"),
        mib(memory.resident),
    );
    report.value(format!("{to} of each: peak while they were made"), mib(memory.peak));
    let made = audit::count(&writes, audit::OPERATOR);
    report.value(
        format!("{to} of each: writes for {least} new objects"),
        made.to_string(),
    );
    report.value(
        format!("{to} of each: requests for that, reads included"),
        requests.to_string(),
    );
    report.value(format!("{to} of each: processor time for that"), time(cpu));
    Ok(())
}

fn rest(bed: &Bed, operator: &Operating, count: u32, seconds: u64, report: &mut Report) -> Result<()> {
    eprintln!("doing nothing for {seconds} s …");
    let mut log = Log::of(&bed.cluster)?;
    let before = operator.process.cpu()?;
    sleep(Duration::from_secs(seconds));
    let writes = log.read()?;
    let ours = writes.iter().filter(|write| write.agent.starts_with(audit::OPERATOR));
    let writes = ours
        .inspect(|write| eprintln!("written: {} {:?}", write.verb, write.to))
        .count();
    let cpu = operator.process.cpu()?.saturating_sub(before);
    let resident = operator.process.memory()?.resident;
    let what = format!("{count} pipelines and {count} versions: memory after {seconds} idle seconds");
    if count == MANY {
        let met = resident <= MEMORY;
        report.aim(what, mib(resident), &format!("at most {}", mib(MEMORY)), met);
    } else {
        report.value(what, mib(resident));
    }
    let what = format!("{count} of each: writes in {seconds} idle seconds");
    report.aim(what, writes.to_string(), "0", writes == 0);
    report.value(
        format!("{count} of each: processor time in {seconds} idle seconds"),
        time(cpu),
    );
    Ok(())
}

/// A new start in front of everything that is there.
fn start(bed: &Bed, count: u32, report: &mut Report) -> Result<()> {
    eprintln!("starting the operator anew …");
    let operator = bed.operate()?;
    let ready = operator.ready()?;
    let what = format!("start to ready with {count} of each");
    report.aim(what, time(ready), &format!("below {}", time(START)), ready < START);
    let each = u64::from(count);
    let looked = operator.reconciled(&[("pipeline", each), ("modelversion", each)])?;
    report.value(
        format!("start until each of {count} and {count} was looked at"),
        time(looked),
    );
    let memory = operator.process.memory()?;
    report.value(
        format!("memory after that start with {count} of each"),
        mib(memory.resident),
    );
    report.value(format!("peak of that start with {count} of each"), mib(memory.peak));
    Ok(())
}

fn namespace(index: u32) -> String {
    format!("idle-{index}")
}

fn metadata(index: u32) -> Value {
    json!({ "name": format!("eta{index}-1"), "namespace": namespace(index / PER_NAMESPACE) })
}

/// A pipeline as users write it, whose schedule is far away.
fn pipeline(index: u32) -> Value {
    let image = format!("example/stage@sha256:{}", "ab".repeat(32));
    let stage = |name: &str, type_: &str| json!({ "name": name, "type": type_, "image": image, "args": [name] });
    json!({ "metadata": metadata(index), "apiVersion": "flywheel.dev/v1alpha1", "kind": "FlywheelPipeline", "spec": {
        "automationLevel": "HumanOversight",
        "model": { "name": format!("eta{index}") },
        "triggers": [{ "name": "yearly", "type": "Schedule", "schedule": { "cron": "0 3 1 1 *" } }],
        "stages": [stage("train", "Train"), stage("evaluate", "Evaluate")],
        "gates": [{ "name": "error", "metric": "mae", "compareTo": "Constant", "max": "5" }],
    }})
}

/// A version that a user registered, of the model of the pipeline with that number.
fn version(index: u32) -> Value {
    let digest = format!("sha256:{}", "ab".repeat(32));
    json!({ "metadata": metadata(index), "apiVersion": "flywheel.dev/v1alpha1", "kind": "ModelVersion", "spec": {
        "modelName": format!("eta{index}"), "version": 1,
        "artifact": { "uri": format!("s3://models/eta{index}/1"), "digest": digest },
    }})
}
