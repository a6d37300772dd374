//! The worlds in which the histories happen.

use flywheel_api::FlywheelRun;
use flywheel_api::flywheel_run::{FlywheelRunStatus, RunOutcome};
use flywheel_api::rollout::{RolloutPhase, RolloutStatus};
use flywheel_api::{FlywheelPipeline, ModelVersion, Rollout};
use flywheel_engine::testing::{self, Kind, World};
use serde_json::Value;

/// A pipeline with version 1 live, and a run that Joe asked for.
pub fn shop() -> World {
    let mut world = World::default();
    world.add(Kind::Deployment, &testing::target(4, Some(&testing::uri(1))));
    world.add(Kind::ModelVersion, &testing::version(1));
    world.add(Kind::Pipeline, &testing::pipeline());
    world.turn();
    world.add(Kind::Run, &testing::run("eta-request", "joe"));
    world
}

/// Version 1 live, and a Rollout without pipeline to version 2.
pub fn delivery(plan: &Value) -> World {
    let mut world = World::default();
    world.add(Kind::Deployment, &testing::target(4, Some(&testing::uri(1))));
    world.run_deployments();
    world.add(Kind::ModelVersion, &testing::version(1));
    world.add(Kind::ModelVersion, &testing::version(2));
    world.add(Kind::Rollout, &testing::rollout("second", 2, plan));
    world
}

pub fn run(world: &World, name: &str) -> FlywheelRunStatus {
    let run: FlywheelRun = world.get(Kind::Run, name);
    run.status.unwrap_or_default()
}

pub fn outcome(world: &World, name: &str) -> Option<RunOutcome> {
    run(world, name).outcome
}

pub fn rollout(world: &World, name: &str) -> RolloutStatus {
    let rollout: Rollout = world.get(Kind::Rollout, name);
    rollout.status.unwrap_or_default()
}

pub fn phase(world: &World, name: &str) -> RolloutPhase {
    rollout(world, name).phase
}

pub fn pipeline(world: &World) -> FlywheelPipeline {
    world.get(Kind::Pipeline, "eta")
}

pub fn version(world: &World, name: &str) -> ModelVersion {
    world.get(Kind::ModelVersion, name)
}

/// Reason of the condition Ready.
pub fn reason(world: &World, kind: Kind, name: &str) -> String {
    condition(world, kind, name, "Ready")["reason"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

pub fn condition(world: &World, kind: Kind, name: &str, type_: &str) -> Value {
    let object = world.raw(&(kind, name.to_owned())).cloned().unwrap_or_default();
    let all = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    all.into_iter().find(|c| c["type"] == type_).unwrap_or_default()
}
