//! I13: phases and states move along declared edges only; generations, attempts and numbers never go down.

use std::collections::HashMap;

use flywheel_api::names;
use serde_json::Value;

use super::json::{int, label, list, named, text};
use super::tables::{ROLLOUT, STAGE, VERSION, allows};
use super::{Finding, Kind, Rule, Step, World};

const I13: &str = "I13";

/// Phases, states and numbers of all objects.
#[derive(Debug, Default)]
pub struct Order {
    /// Number of the last run that the operator made for a pipeline, by the pipeline's UID.
    runs: HashMap<String, i64>,
}

impl Rule for Order {
    fn step(&mut self, world: &World, step: &Step) -> Vec<Finding> {
        let mut found: Vec<Finding> = self.numbers(world, step).into_iter().collect();
        if step.operator && step.subresource == "status" && step.before.is_some() {
            found.extend(counters(step));
            found.extend(edges(step));
        }
        found
    }
}

/// Numbers in a status that never go down.
const COUNTERS: [&str; 2] = ["/status/observedGeneration", "/status/lastRunNumber"];

fn counters(step: &Step) -> Vec<Finding> {
    let (old, new) = (step.earlier(), step.later());
    let fell = |was: i64, is: i64, what: &str| {
        (is < was).then(|| Finding::new(I13, format!("{what} of {} falls from {was} to {is}", step.key)))
    };
    let mut found = Vec::new();
    for pointer in COUNTERS {
        let (was, is) = (
            int(old, pointer).unwrap_or(i64::MIN),
            int(new, pointer).unwrap_or(i64::MIN),
        );
        found.extend(fell(was, is, pointer));
    }
    let generation = int(new, "/metadata/generation").unwrap_or(i64::MAX);
    if int(new, "/status/observedGeneration").is_some_and(|observed| observed > generation) {
        found.push(Finding::new(
            I13,
            format!("{} says to have observed a generation beyond {generation}", step.key),
        ));
    }
    for (stage, was) in stages(old) {
        let is = named(new, "/status/stages", "name", stage).and_then(|s| int(s, "/attempt"));
        found.extend(fell(was, is.unwrap_or(0), &format!("the attempt of stage {stage}")));
    }
    found
}

fn stages(run: &Value) -> impl Iterator<Item = (&str, i64)> {
    let all = list(run, "/status/stages").iter();
    all.map(|s| (text(s, "/name"), int(s, "/attempt").unwrap_or(0)))
}

fn edges(step: &Step) -> Vec<Finding> {
    let (old, new) = (step.earlier(), step.later());
    match step.key.kind {
        Kind::Rollout => {
            let phase = |o| or(text(o, "/status/phase"), "Pending");
            moved(step, ROLLOUT, "phase", phase(old), phase(new))
                .into_iter()
                .collect()
        }
        Kind::Version => {
            let state = |o| or(text(o, "/status/state"), "Candidate");
            moved(step, VERSION, "state", state(old), state(new))
                .into_iter()
                .collect()
        }
        Kind::Run => run_edges(step, old, new),
        _ => Vec::new(),
    }
}

fn run_edges(step: &Step, old: &Value, new: &Value) -> Vec<Finding> {
    let mut found = Vec::new();
    let (was, is) = (text(old, "/status/outcome"), text(new, "/status/outcome"));
    if !was.is_empty() && was != is {
        let message = format!(
            "the outcome of {} changes from {was} to {}",
            step.key,
            or(is, "nothing")
        );
        found.push(Finding::new(I13, message));
    }
    for stage in list(new, "/status/stages") {
        let name = text(stage, "/name");
        let before = named(old, "/status/stages", "name", name);
        let from = or(before.map_or("", |s| text(s, "/state")), "Pending");
        let what = format!("stage {name}");
        found.extend(moved(step, STAGE, &what, from, or(text(stage, "/state"), "Pending")));
        let was = before.and_then(|s| int(s, "/attempt")).unwrap_or(0);
        let is = int(stage, "/attempt").unwrap_or(0);
        if is > was + 1 {
            let message = format!("stage {name} of {} skips from attempt {was} to {is}", step.key);
            found.push(Finding::new(I13, message));
        }
    }
    found
}

fn moved(step: &Step, edges: &[(&str, &[&str])], what: &str, from: &str, to: &str) -> Option<Finding> {
    let message = || {
        format!(
            "the {what} of {} moves from {from} to {to}, which is no declared edge",
            step.key
        )
    };
    (!allows(edges, from, to)).then(|| Finding::new(I13, message()))
}

const fn or<'a>(text: &'a str, default: &'a str) -> &'a str {
    if text.is_empty() { default } else { text }
}

impl Order {
    /// Runs of a pipeline are numbered upwards, versions above everything of their model that exists.
    fn numbers(&mut self, world: &World, step: &Step) -> Option<Finding> {
        if !step.created() || !step.operator {
            return None;
        }
        let object = step.later();
        let (number, last) = match step.key.kind {
            Kind::Version => {
                let model = text(object, "/spec/modelName");
                let others = world.all(Kind::Version, &step.key.namespace);
                let same = others.filter(|(key, o)| **key != step.key && text(o, "/spec/modelName") == model);
                let last = same.filter_map(|(_, o)| int(o, "/spec/version")).max();
                (int(object, "/spec/version")?, last.unwrap_or(0))
            }
            Kind::Run => {
                let pipeline = text(object, "/spec/pipelineRef/name");
                let number = step.key.name.strip_prefix(pipeline)?.strip_prefix('-')?.parse().ok()?;
                let uid = label(object, names::LABEL_PIPELINE_UID).to_owned();
                let last = self.runs.insert(uid, number).unwrap_or(0);
                (number, last)
            }
            _ => return None,
        };
        let message = || format!("{} gets number {number}, but there was number {last} before", step.key);
        (number <= last).then(|| Finding::new(I13, message()))
    }
}
