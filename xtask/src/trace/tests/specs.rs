use serde_json::{Value, json};

use super::broken;
use super::story::By;
use super::turn::Turn;
use crate::trace::Kind;

const LEVEL: &str = "FullyAutomated";

fn snapshot(turn: &mut Turn, digest: &str) {
    turn.story.status(By::Operator, &Kind::Run, "eta-1", |s| {
        s["snapshot"]["digest"] = json!(digest);
    });
}

#[test]
fn a_run_keeps_its_snapshot_once_a_stage_was_tried() {
    let mut turn = Turn::begin(LEVEL);
    snapshot(&mut turn, "sha256:a");
    snapshot(&mut turn, "sha256:b");
    assert_eq!(broken(&turn.story), [""; 0], "no stage was tried");
    turn.intend("train", 1, LEVEL);
    snapshot(&mut turn, "sha256:b");
    assert_eq!(broken(&turn.story), [""; 0]);
    snapshot(&mut turn, "sha256:c");
    assert_eq!(broken(&turn.story), ["I16"]);
}

#[test]
fn a_status_that_somebody_took_away_is_built_anew_with_another_snapshot() {
    let mut turn = Turn::begin(LEVEL);
    snapshot(&mut turn, "sha256:a");
    turn.intend("train", 1, LEVEL);
    turn.story.status(By::User, &Kind::Run, "eta-1", |s| *s = json!({}));
    turn.story.status(By::Operator, &Kind::Run, "eta-1", |s| {
        *s = json!({ "observedGeneration": 1, "snapshot": { "name": "eta-abc", "digest": "sha256:b" }, "stages": [
            { "name": "train", "type": "Train", "state": "Pending", "attempt": 0 }] });
    });
    assert_eq!(broken(&turn.story), [""; 0]);
}

/// A run decides to deliver, and its Rollout is made with this change.
fn delivered(change: impl FnOnce(&mut Value)) -> Vec<&'static str> {
    let mut turn = Turn::judged(LEVEL);
    turn.story.status(By::Operator, &Kind::Run, "eta-1", |s| {
        s["rollout"] = json!({ "name": "eta-1" });
        super::turn::decide(s, "Deliver", LEVEL, None);
    });
    let (run, mut plan) = (turn.run_uid(), turn.plan());
    plan["drainSeconds"] = json!(5);
    let mut spec =
        json!({ "plan": plan, "runRef": { "name": "eta-1", "uid": run }, "modelVersionRef": { "name": "eta-1" } });
    change(&mut spec);
    turn.story
        .create(By::Operator, &Kind::Rollout, "eta-1", json!({ "spec": spec }));
    broken(&turn.story)
}

#[test]
fn a_rollout_carries_the_plan_and_the_version_of_its_run() {
    assert_eq!(delivered(|_| {}), [""; 0], "a default that the API server added");
    let weight = |spec: &mut Value| spec["plan"]["strategy"]["steps"][0]["weight"] = json!(20);
    assert_eq!(delivered(weight), ["I16"]);
    let checks = |spec: &mut Value| spec["plan"]["checks"] = json!([]);
    assert_eq!(delivered(checks), ["I16"]);
    let version = |spec: &mut Value| spec["modelVersionRef"]["name"] = json!("eta-0");
    assert_eq!(delivered(version), ["I16"]);
}

/// Trains at a level at which a person approves, on this evidence.
fn trained(evidence: Value) -> Vec<&'static str> {
    let semi = "SemiAutomated";
    let mut turn = Turn::begin(semi);
    snapshot(&mut turn, "sha256:a");
    let subject = json!({ "kind": "FlywheelRun", "name": "eta-1", "uid": turn.run_uid() });
    let digest = turn.wait_for(&Kind::Run, "Train", &subject, &evidence);
    turn.approval("x", "jane", "Approve", "Train", &digest);
    turn.approved("Train", &digest);
    turn.intend("train", 1, semi);
    broken(&turn.story)
}

#[test]
fn training_on_the_approval_of_another_snapshot_or_stage_breaks_i16() {
    assert_eq!(trained(json!({ "snapshot": "sha256:a", "stage": "train" })), [""; 0]);
    assert_eq!(trained(json!({ "snapshot": "sha256:b", "stage": "train" })), ["I16"]);
    assert_eq!(trained(json!({ "snapshot": "sha256:a", "stage": "tune" })), ["I16"]);
}

/// Delivers at a level at which a person approves, on evidence with this change.
fn approved(change: impl FnOnce(&mut Value)) -> Vec<&'static str> {
    let human = "HumanOversight";
    let mut turn = Turn::begin(human);
    let policy = turn
        .story
        .create(By::User, &Kind::Policy, "fair", json!({ "spec": {} }));
    turn.story.patch(By::User, &Kind::Pipeline, "eta", |o| {
        o["spec"]["biasPolicies"] = json!([{ "name": "fair" }]);
    });
    turn.stages(human);
    turn.register();
    turn.judge("Pass");
    turn.story.status(By::Operator, &Kind::Run, "eta-1", |s| {
        s["bias"] = json!([{ "policy": "fair", "policyUid": policy, "policyGeneration": 1, "verdict": "Pass",
            "objective": "gap", "attribute": "region", "enforcement": "Block" }]);
    });
    let version = turn.story.uid(&Kind::Version, "eta-1");
    let subject = json!({ "kind": "ModelVersion", "name": "eta-1", "uid": version });
    let verdicts = turn.story.get(&Kind::Run, "eta-1")["status"]["gates"].clone();
    let gates = turn.story.get(&Kind::Revision, "eta-abc")["data"]["gates"].clone();
    let mut evidence = json!({ "gate": "Promote", "level": human, "subject": subject, "verdicts": verdicts, "gates": gates,
        "bias": [{ "policy": "fair", "uid": policy, "generation": 1, "objective": "gap", "attribute": "region", "verdict": "Pass" }] });
    change(&mut evidence);
    let digest = turn.wait_for(&Kind::Run, "Promote", &subject, &evidence);
    turn.approval("x", "jane", "Approve", "Promote", &digest);
    turn.approved("Promote", &digest);
    turn.deliver(human);
    broken(&turn.story)
}

#[test]
fn delivering_on_the_approval_of_other_gates_or_verdicts_breaks_i16() {
    assert_eq!(approved(|_| {}), [""; 0]);
    assert_eq!(approved(|e| e["gates"][0]["max"] = json!("9")), ["I16"]);
    assert_eq!(approved(|e| e["bias"][0]["generation"] = json!(2)), ["I16"]);
    assert_eq!(approved(|e| e["bias"] = json!([])), ["I16"]);
}

/// A step is left after the target was changed in this way.
fn left(seconds: i64, by: By, change: impl FnOnce(&mut Value)) -> Vec<&'static str> {
    let mut turn = Turn::held();
    turn.story.wait(30);
    turn.story.patch(by, &Kind::Deployment, "eta", change);
    turn.story.wait(seconds);
    turn.checks(&[("errors", "Pass")]);
    turn.next_step(LEVEL, None);
    broken(&turn.story)
}

#[test]
fn a_step_that_is_left_although_the_target_became_another_breaks_i16() {
    let image = |o: &mut Value| o["spec"]["template"]["spec"]["containers"][0]["image"] = json!("y");
    assert_eq!(left(30, By::User, image), ["I16"]);
    assert_eq!(left(1, By::User, image), [""; 0], "changed in this moment");
    let scaled = |o: &mut Value| o["spec"]["replicas"] = json!(5);
    assert_eq!(left(30, By::User, scaled), [""; 0]);
    let annotated = |o: &mut Value| {
        o["spec"]["template"]["metadata"] = json!({ "annotations": { "flywheel.dev/model-version": "eta-0" } });
    };
    assert_eq!(left(30, By::User, annotated), [""; 0], "a field of Flywheel's");
}

#[test]
fn a_step_that_is_left_although_the_pull_policy_beside_its_image_changed_breaks_i16() {
    let left = |field: &str| {
        let mut turn = Turn::held();
        turn.story.patch(By::User, &Kind::Rollout, "eta-1", |o| {
            o["spec"]["plan"]["binding"] = json!({ "type": "DeploymentImage", "container": "app" });
        });
        turn.story.wait(30);
        turn.story.patch(By::User, &Kind::Deployment, "eta", |o| {
            o["spec"]["template"]["spec"]["containers"][0][field] = json!("y");
        });
        turn.story.wait(30);
        turn.checks(&[("errors", "Pass")]);
        turn.next_step(LEVEL, None);
        broken(&turn.story)
    };
    assert_eq!(left("image"), [""; 0], "the field of Flywheel's");
    assert_eq!(left("imagePullPolicy"), ["I16"]);
}

#[test]
fn a_step_that_begins_again_after_the_target_changed_is_fine() {
    let mut turn = Turn::held();
    turn.story.wait(30);
    turn.story.patch(By::User, &Kind::Deployment, "eta", |o| {
        o["spec"]["template"]["spec"]["containers"][0]["image"] = json!("y");
    });
    turn.story.wait(30);
    turn.phase("Progressing", |s| s["step"]["enteredAt"] = Value::Null);
    turn.hold();
    turn.checks(&[("errors", "Pass")]);
    turn.next_step(LEVEL, None);
    assert_eq!(broken(&turn.story), [""; 0]);
}
