//! The stories: short histories, each of which goes wrong with some mistakes.

use flywheel_api::approval::ApprovalDecision::Approve;
use flywheel_api::flywheel_run::RunOutcome;
use flywheel_api::rollout::RolloutPhase;
use flywheel_api::{FlywheelRun, Rollout};
use flywheel_engine::rollout::Reading;
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

fn outcome(stage: &Stage) -> Option<RunOutcome> {
    let run: FlywheelRun = stage.world.get(Kind::Run, "eta-request");
    run.status.unwrap_or_default().outcome
}

fn phase(stage: &Stage, name: &str) -> RolloutPhase {
    let rollout: Rollout = stage.world.get(Kind::Rollout, name);
    rollout.status.unwrap_or_default().phase
}

/// A better version is trained, approved and delivered.
pub fn a_turn(stage: &mut Stage) {
    shop(stage);
    stage.turn();
    assert!(stage.world.waiting().is_some(), "nobody is asked");
    stage.person("jane", Approve);
    stage.live(4);
    assert_eq!(outcome(stage), Some(RunOutcome::Promoted));
}

/// A version that is worse than the one that serves.
pub fn a_worse_version(stage: &mut Stage) {
    shop(stage);
    stage.world.report.change = 0.9;
    stage.turn();
    stage.person("jane", Approve);
    stage.live(1);
    assert_eq!(outcome(stage), Some(RunOutcome::Rejected));
}

/// A metric provider without data, and then with bad data.
pub fn a_silent_check(stage: &mut Stage) {
    let mut plan = plan();
    plan["checks"] = json!([testing::check()]);
    delivery(stage, &plan);
    stage.live(4);
    assert_eq!(phase(stage, "second"), RolloutPhase::Holding);
    stage.happens(|w| drop(w.answers.insert("errors($candidate)".to_owned(), Reading::Value(0.5))));
    stage.live(2);
    assert_eq!(phase(stage, "second"), RolloutPhase::RolledBack);
}

/// An Approval of other evidence than is shown.
pub fn a_stale_approval(stage: &mut Stage) {
    shop(stage);
    stage.turn();
    stage.happens(|w| {
        let mut waiting = w.waiting().expect("somebody is asked");
        waiting.evidence_digest.0 = format!("sha256:{}", "0".repeat(64));
        w.add(Kind::Approval, &testing::approval("stale", "jane", Approve, &waiting));
    });
    stage.turn();
    assert!(!stage.exists(Kind::Rollout, "eta-2"), "it is delivered");
}
