//! How fast many runs that begin at once get to their first Job, and what a whole run costs.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use flywheel_api::{FlywheelPipeline, FlywheelRun};
use kube::core::{ApiResource, DynamicObject};
use serde_json::{Value, json};

use super::audit::{self, Log, Write};
use super::bed::Bed;
use super::kubelet::Kubelet;
use super::report::{Report, mib, per, percentile, rate, time};
use crate::trace::json::holds;

const NAMESPACE: &str = "runs";
/// Longest time to the first Job for 99 of 100 runs.
const FIRST_JOB: Duration = Duration::from_secs(1);
/// Most writes of the operator for one run.
const WRITES: f64 = 40.0;

/// What to measure.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Measure with so many runs at once, each of a pipeline of its own.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
}

impl Default for Args {
    fn default() -> Self {
        Self { runs: 100 }
    }
}

/// Measures and returns the table.
///
/// # Errors
/// If the cluster, the operator or a run fails.
pub fn run(bed: &Bed, args: &Args) -> Result<Report> {
    let (runs, count) = (args.runs, usize::try_from(args.runs)?);
    let mut log = Log::of(&bed.cluster)?;
    let operator = bed.operate()?;
    operator.ready()?;
    bed.namespaces(&[NAMESPACE.to_owned()])?;
    bed.make::<FlywheelPipeline>((0..runs).map(pipeline))?;
    bed.rest(&mut log, audit::OPERATOR, count)?;
    let _kubelet = Kubelet::start(bed);
    let (cpu, reconciles) = (operator.process.cpu()?, operator.reconciles()?.values().sum::<u64>());
    eprintln!("making {runs} runs …");
    let begun = Instant::now();
    bed.make::<FlywheelRun>((0..runs).map(asked))?;
    bed.all(&ApiResource::erase::<FlywheelRun>(&()), NAMESPACE, count, has_ended)?;
    let took = begun.elapsed();
    let done = operator.reconciles()?.values().sum::<u64>().saturating_sub(reconciles);
    let writes = bed.rest(&mut log, audit::OPERATOR, count)?;
    let cpu = operator.process.cpu()?.saturating_sub(cpu);
    let firsts = first_jobs(&writes);
    if firsts.len() != count {
        bail!("{} of {runs} runs had a Job: the audit log is not whole", firsts.len());
    }
    let mut report = Report::new("Runs");
    let what = |what: &str| format!("{runs} runs at once: {what}");
    report.value(what("p50 from run to first Job"), time(percentile(&firsts, 50)));
    let last = percentile(&firsts, 99);
    let aim = format!("below {}", time(FIRST_JOB));
    report.aim(what("p99 from run to first Job"), time(last), &aim, last < FIRST_JOB);
    report.value(what("until all had ended"), time(took));
    let reconciles = usize::try_from(done)?;
    let second = format!("{:.0}", rate(reconciles, 1) / took.as_secs_f64());
    report.value(what("reconciles per second until then"), second);
    report.value(what("reconciles per run"), per(reconciles, count));
    let made = audit::count(&writes, audit::OPERATOR);
    report.at_most(what("writes per run"), made, count, WRITES);
    report.value(what("processor time per run"), time(cpu / runs));
    report.value(what("peak of memory"), mib(operator.process.memory()?.peak));
    Ok(report)
}

/// For each run, the time from when the API server had it to when it had the run's first Job.
fn first_jobs(writes: &[Write]) -> Vec<Duration> {
    let created = |resource: &'static str| {
        let all = writes.iter().filter(|write| write.verb == "create");
        all.filter(move |write| write.to.resource == resource)
    };
    let mut first = BTreeMap::new();
    for job in created("jobs") {
        let of = first.entry(job.object.owner()).or_insert(job.answered);
        *of = job.answered.min(*of);
    }
    let times = created("flywheelruns").filter_map(|run| {
        let job = first.get(&Some(run.to.name.as_str()))?;
        Duration::try_from(job.duration_since(run.received)).ok()
    });
    times.collect()
}

fn has_ended(run: &DynamicObject) -> bool {
    holds(&run.data, "Complete")
}

fn name(index: u32) -> String {
    format!("eta{index}")
}

/// A pipeline that trains, evaluates and judges, and delivers nothing.
fn pipeline(index: u32) -> Value {
    let image = format!("example/stage@sha256:{}", "ab".repeat(32));
    let stage = |name: &str, type_: &str| json!({ "name": name, "type": type_, "image": image, "args": [name] });
    json!({ "apiVersion": "flywheel.dev/v1alpha1", "kind": "FlywheelPipeline",
        "metadata": { "name": name(index), "namespace": NAMESPACE },
        "spec": {
            "automationLevel": "FullyAutomated",
            "model": { "name": name(index) },
            "stages": [stage("train", "Train"), stage("evaluate", "Evaluate")],
            "gates": [{ "name": "error", "metric": "mae", "compareTo": "Constant", "max": "5" }],
        } })
}

fn asked(index: u32) -> Value {
    json!({ "apiVersion": "flywheel.dev/v1alpha1", "kind": "FlywheelRun",
        "metadata": { "name": format!("{}-run", name(index)), "namespace": NAMESPACE },
        "spec": { "pipelineRef": { "name": name(index) }, "requestedBy": "admin" } })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::first_jobs;
    use crate::bench::audit::{Place, Write};

    fn created(resource: &str, name: &str, owner: &str, at: [&str; 2]) -> anyhow::Result<Write> {
        let to = Place {
            resource: resource.to_owned(),
            name: name.to_owned(),
            ..Place::default()
        };
        let [received, answered] = at.map(|second| format!("2026-01-01T00:00:0{second}Z").parse());
        let object = json!({ "metadata": { "ownerReferences": [{ "name": owner }] } });
        Ok(Write {
            agent: String::new(),
            verb: "create".to_owned(),
            to,
            received: received?,
            answered: answered?,
            object: serde_json::from_value(object)?,
        })
    }

    #[test]
    fn the_first_job_of_a_run_counts_and_no_other() -> anyhow::Result<()> {
        let writes = [
            created("flywheelruns", "one", "pipeline", ["1.0", "1.1"])?,
            created("jobs", "one-train", "one", ["1.2", "1.5"])?,
            created("jobs", "one-evaluate", "one", ["3.0", "3.5"])?,
            created("flywheelruns", "without-job", "pipeline", ["1.0", "1.1"])?,
        ];
        assert_eq!(first_jobs(&writes), [Duration::from_millis(500)]);
        Ok(())
    }
}
