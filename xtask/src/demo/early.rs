//! The first model as plain processes on the stage contract, before there is any cluster.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::quickship::{self, Runtime};
use crate::{cache, debian, shell};

/// What the plain processes found out.
#[derive(Debug)]
pub struct Early {
    /// Flights in the weeks that were cut.
    pub flights: u64,
    /// Flights that were dropped as dirt.
    pub dropped: u64,
    /// Mean absolute error of the first model, in minutes.
    pub error: f64,
    /// Flights that it was judged on.
    pub judged: i64,
}

/// Runs the three stages of week 3 one after the other, each with the file that Flywheel would give it.
pub fn first_model(runtime: &Runtime) -> Result<Early> {
    let arrivals = quickship::arrivals(runtime)?;
    let folder = cache::dir()?.join("first-model");
    debian::remove(&folder)?;
    let place = |stage: &str, file: &str| folder.join(stage).join(file);
    let source = |name: &str, path: &Path| json!({ "name": name, "role": "Source", "uri": uri(path), "path": path });
    let arrived = source("arrivals", &arrivals);
    run(runtime, &folder, "collect", std::slice::from_ref(&arrived))?;
    let rows = source("collect.rows", &place("collect", "rows.parquet"));
    run(runtime, &folder, "train", &[rows])?;
    let inputs = [
        arrived,
        source("collect.later", &place("collect", "later.parquet")),
        source("train.model", &place("train", "model.json")),
    ];
    let result = run(runtime, &folder, "evaluate", &inputs)?;
    let facts = read(&arrivals.join("facts.json"))?;
    let number = |pointer: &str| result.pointer(pointer).and_then(Value::as_f64);
    let sum = |values: &mut dyn Iterator<Item = u64>| values.sum();
    let weeks = facts.get("weeks").and_then(Value::as_object);
    let dropped = facts.get("dropped").and_then(Value::as_array);
    Ok(Early {
        flights: sum(&mut weeks.into_iter().flatten().filter_map(|(_, v)| v.as_u64())),
        dropped: sum(&mut dropped.into_iter().flatten().filter_map(|d| d.get("count")?.as_u64())),
        error: number("/metrics/0/value").context("the evaluation reported no error")?,
        judged: result
            .pointer("/metrics/0/samples")
            .and_then(Value::as_i64)
            .unwrap_or(0),
    })
}

fn run(runtime: &Runtime, folder: &Path, stage: &str, inputs: &[Value]) -> Result<Value> {
    let output = folder.join(stage);
    cache::create(&output)?;
    let file = json!({
        "apiVersion": "flywheel.dev/stage/v1alpha1",
        "id": format!("early/{stage}/1"),
        "inputs": inputs,
        "output": { "uri": uri(&output), "path": output },
        "parameters": parameters()?,
        "seed": 1,
    });
    let paths: [PathBuf; 2] = [output.join("stage.json"), output.join("result.json")];
    let [stage_file, message] = &paths;
    cache::write(stage_file, file.to_string())?;
    let mut command = runtime.quickship();
    command
        .arg(stage)
        .env("FLYWHEEL_STAGE", stage_file)
        .env("TERMINATION_MESSAGE", message);
    shell::run(&mut command)?;
    read(message)
}

/// Those of the pipeline: the model made by hand is the one that Flywheel makes.
fn parameters() -> Result<Value> {
    let path = quickship::folder().join("deploy/pipeline.yaml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let objects: Vec<Value> =
        serde_saphyr::from_multiple(&text).with_context(|| format!("{} is not YAML", path.display()))?;
    let found = objects.iter().find_map(|object| object.pointer("/spec/parameters"));
    found
        .cloned()
        .with_context(|| format!("{} has no spec.parameters", path.display()))
}

fn uri(path: &Path) -> String {
    format!("pvc://this-machine{}", path.display())
}

fn read(path: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is no JSON", path.display()))
}
