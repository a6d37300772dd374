//! The stories: short histories, each of which goes wrong with some mistakes.

pub mod deliveries;
pub mod runs;

use flywheel_api::flywheel_run::RunOutcome;
use flywheel_api::rollout::RolloutPhase;
use flywheel_api::{FlywheelRun, Rollout};
use flywheel_engine::testing::{self, Kind, World};
use serde_json::{Value, json};

use crate::stage::Stage;

/// One step of two minutes.
fn plan() -> Value {
    let mut plan = testing::plan();
    plan["strategy"]["steps"] = json!([{ "name": "half", "weight": 50, "minDuration": "2m" }]);
    plan
}

/// Version 1 serves with two pods.
fn served(world: &mut World) {
    world.add(Kind::Deployment, &testing::target(2, Some(&testing::uri(1))));
    world.run_deployments();
    world.add(Kind::ModelVersion, &testing::version(1));
}

/// A pipeline with a policy, and a run that Joe asked for.
fn shop(stage: &mut Stage) {
    stage.begin(|world| {
        served(world);
        world.add(Kind::BiasPolicy, &testing::policy("airports"));
        let mut pipeline = testing::pipeline();
        pipeline.spec.bias_policies = testing::object(json!([{ "name": "airports" }]));
        pipeline.spec.rollout = testing::object(plan());
        pipeline.spec.approvals = testing::object(json!([{ "gate": "Promote", "separationOfDuties": true }]));
        world.add(Kind::Pipeline, &pipeline);
    });
    stage.turn();
    stage.happens(|w| {
        w.add(Kind::Run, &testing::run("eta-request", "joe"));
    });
}

/// A Rollout that nobody but a user asked for.
fn delivery(stage: &mut Stage, plan: &Value) {
    stage.begin(|world| {
        served(world);
        world.add(Kind::ModelVersion, &testing::version(2));
        world.add(Kind::Rollout, &testing::rollout("second", 2, plan));
    });
}

fn wish(stage: &mut Stage, state: &str) {
    stage.happens(|w| w.set(Kind::Rollout, "second", "desiredState", state));
}

fn outcome(stage: &Stage) -> Option<RunOutcome> {
    let run: FlywheelRun = stage.world.get(Kind::Run, "eta-request");
    run.status.unwrap_or_default().outcome
}

fn phase(stage: &Stage, name: &str) -> RolloutPhase {
    let rollout: Rollout = stage.world.get(Kind::Rollout, name);
    rollout.status.unwrap_or_default().phase
}

fn delivered(stage: &Stage) -> bool {
    !stage.world.names(Kind::Rollout).is_empty()
}
