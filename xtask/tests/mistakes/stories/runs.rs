//! Stories of runs: stages, verdicts, people, levels.

use flywheel_api::approval::ApprovalDecision::{Approve, Reject};
use flywheel_api::flywheel_run::RunOutcome;
use flywheel_api::reference::AutomationLevel;
use flywheel_api::{Approval, ModelVersion, Rollout};
use flywheel_engine::testing::{self, Ending, Kind, World};
use serde_json::json;

use super::{delivered, outcome, shop};
use crate::stage::Stage;

/// A run that waits for a person.
fn asked(stage: &mut Stage) {
    shop(stage);
    stage.turn();
    assert!(stage.world.waiting().is_some(), "nobody is asked");
}

/// A better version is trained, approved and delivered.
pub fn a_turn(stage: &mut Stage) {
    asked(stage);
    stage.person("jane", Approve);
    stage.live(4);
    assert_eq!(outcome(stage), Some(RunOutcome::Promoted), "how the run ends");
}

/// A person takes an hour to decide.
pub fn a_patient_run(stage: &mut Stage) {
    asked(stage);
    stage.live(60);
    stage.person("jane", Approve);
    stage.live(4);
    assert_eq!(outcome(stage), Some(RunOutcome::Promoted), "how the run ends");
}

/// A stage that takes its time.
pub fn a_slow_stage(stage: &mut Stage) {
    shop(stage);
    stage.world.endings.insert("train".to_owned(), Ending::Runs);
    stage.live(3);
    assert_eq!(stage.world.names(Kind::Job).len(), 1, "Jobs of one stage");
}

/// The first attempt of a stage is evicted.
pub fn a_retry(stage: &mut Stage) {
    shop(stage);
    stage.world.endings.insert("train".to_owned(), Ending::Evicted);
    stage.turn();
    stage.world.endings.clear();
    stage.live(2);
    assert!(stage.world.waiting().is_some(), "the second attempt leads nowhere");
    assert_eq!(stage.world.names(Kind::Job).len(), 3, "two attempts and an evaluation");
}

/// A version that is worse than the one that serves.
pub fn a_worse_version(stage: &mut Stage) {
    shop(stage);
    stage.world.report.change = 0.9;
    stage.turn();
    stage.person("jane", Approve);
    stage.live(1);
    assert_eq!(outcome(stage), Some(RunOutcome::Rejected), "how the run ends");
}

/// An Approval of other evidence than is shown.
pub fn a_stale_approval(stage: &mut Stage) {
    asked(stage);
    stage.happens(|w| {
        let mut waiting = w.waiting().expect("somebody is asked");
        waiting.evidence_digest.0 = format!("sha256:{}", "0".repeat(64));
        w.add(Kind::Approval, &testing::approval("stale", "jane", Approve, &waiting));
    });
    stage.turn();
    assert!(!delivered(stage), "it is delivered");
}

/// Somebody passes another model off as the version of a run that is still evaluating its own.
pub fn a_forged_version(stage: &mut Stage) {
    shop(stage);
    stage.world.endings.insert("evaluate".to_owned(), Ending::Runs);
    stage.turn();
    let forged = forged(&stage.world);
    stage.happens(|w| {
        w.add(Kind::ModelVersion, &forged);
    });
    stage.world.endings.clear();
    stage.turn();
    stage.person("jane", Approve);
    stage.live(4);
    assert_eq!(outcome(stage), Some(RunOutcome::Promoted), "how the run ends");
    assert_ne!(stage.world.binding("eta"), Some(testing::uri(7)), "it serves");
}

/// The version that the run is going to register, but for its model.
fn forged(world: &World) -> ModelVersion {
    let mut later = world.clone();
    later.mistake = None;
    later.endings.clear();
    later.turn();
    let mut version: ModelVersion = later.get(Kind::ModelVersion, "eta-2");
    version.spec.artifact = testing::version(7).spec.artifact;
    version.spec.parent = None;
    version.status = None;
    let metadata = &mut version.metadata;
    (metadata.uid, metadata.resource_version) = (None, None);
    (metadata.labels, metadata.annotations, metadata.finalizers) = (None, None, None);
    version
}

/// An Approval of another version that had the same name.
pub fn an_approval_of_a_namesake(stage: &mut Stage) {
    asked(stage);
    stage.happens(|w| {
        let mut waiting = w.waiting().expect("somebody is asked");
        "another".clone_into(&mut waiting.subject.uid);
        w.add(Kind::Approval, &testing::approval("other", "jane", Approve, &waiting));
    });
    stage.turn();
    assert!(!delivered(stage), "it is delivered");
}

/// The person who asked for the run approves it.
pub fn an_own_approval(stage: &mut Stage) {
    asked(stage);
    stage.person("joe", Approve);
    stage.turn();
    assert!(!delivered(stage), "it is delivered");
}

/// One person rejects what another one approves.
pub fn a_rejection(stage: &mut Stage) {
    asked(stage);
    stage.person("bob", Reject);
    stage.person("jane", Approve);
    stage.turn();
    assert_eq!(outcome(stage), Some(RunOutcome::Rejected), "how the run ends");
}

/// A person takes an approval back before the second person comes.
pub fn a_revocation(stage: &mut Stage) {
    asked(stage);
    stage.happens(|w| w.set(Kind::Pipeline, "eta", "approvals/0/minApprovals", 2));
    stage.turn();
    stage.person("jane", Approve);
    stage.turn();
    stage.happens(|w| {
        let given: Approval = w.all(Kind::Approval).remove(0);
        let mut taken = json!(given);
        taken["metadata"] = json!({ "name": "taken-back" });
        taken["spec"]["decision"] = json!("Revoke");
        taken["spec"]["revokes"] = json!({ "name": given.metadata.name });
        w.add(Kind::Approval, &taken);
    });
    stage.person("bob", Approve);
    stage.turn();
    assert!(!delivered(stage), "it is delivered");
}

/// The level is lowered while the version is evaluated.
pub fn a_lowered_level(stage: &mut Stage) {
    shop(stage);
    stage.happens(|w| w.set(Kind::Pipeline, "eta", "automationLevel", "FullyAutomated"));
    stage.world.endings.insert("evaluate".to_owned(), Ending::Runs);
    stage.turn();
    stage.happens(|w| w.set(Kind::Pipeline, "eta", "automationLevel", "HumanOversight"));
    stage.world.endings.clear();
    stage.turn();
    assert!(!delivered(stage), "it is delivered");
}

/// The administrator allows less than the pipeline.
pub fn a_ceiling(stage: &mut Stage) {
    stage.world.settings.automation_ceiling = AutomationLevel::HumanOversight;
    shop(stage);
    stage.happens(|w| w.set(Kind::Pipeline, "eta", "automationLevel", "FullyAutomated"));
    stage.turn();
    assert!(!delivered(stage), "it is delivered");
}

/// The administrator pulls the brake while a person is asked.
pub fn a_brake(stage: &mut Stage) {
    asked(stage);
    stage.brake();
    stage.person("jane", Approve);
    stage.turn();
    assert!(!delivered(stage), "it is delivered");
}

/// The pipeline is edited after its run began.
pub fn an_edited_pipeline(stage: &mut Stage) {
    asked(stage);
    stage.happens(|w| w.set(Kind::Pipeline, "eta", "rollout/strategy/steps", json!([])));
    stage.person("jane", Approve);
    stage.turn();
    let rollout: Rollout = stage.world.get(Kind::Rollout, "eta-2");
    assert_eq!(rollout.spec.plan.strategy.steps.len(), 1);
}

/// A policy is deleted that the pipeline names.
pub fn a_deleted_policy(stage: &mut Stage) {
    asked(stage);
    stage.happens(|w| w.delete(Kind::BiasPolicy, "airports"));
    stage.turn();
    stage.person("jane", Approve);
    stage.turn();
    assert!(!delivered(stage), "it is delivered");
}

/// A policy becomes stricter while a person is asked.
pub fn a_changed_policy(stage: &mut Stage) {
    asked(stage);
    stage.happens(|w| w.set(Kind::BiasPolicy, "airports", "objectives/0/limit/max", "17"));
    stage.turn();
    stage.person("jane", Approve);
    stage.turn();
    assert!(delivered(stage), "people approved what the new policy said");
}
