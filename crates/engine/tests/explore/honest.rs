//! The explorer can fail: for every invariant a world or a write is made by hand as a bug would make it, and is found.

use std::panic;
use std::time::Duration;

use flywheel_api::{FlywheelRun, Rollout};
use flywheel_engine::decision::{Action, Child, ChildKind, ObjectKey, Patch, PatchKind};
use flywheel_engine::testing::{self, Content, Held, Kind, World};
use serde_json::{Value, json};

use crate::report::{be_quiet, visit};
use crate::scenes::{Scene, one_step, served, shop};

/// What is found where nothing happens but that this write arrives.
fn found(world: World, late: Option<Held>) -> String {
    let loud = panic::take_hook();
    be_quiet();
    let visit = visit(Scene {
        actors: &[],
        late,
        escapes: 1,
        transitions: 100,
        time: Duration::from_secs(10),
        ..Scene::plain("a bug", world)
    });
    panic::set_hook(loud);
    visit.broken.join("\n")
}

/// Version 1 serves, and a Rollout to version 2 has gone as far as it can without time.
fn under_way(plan: &Value) -> World {
    let mut world = served();
    world.add(Kind::Rollout, &testing::rollout("second", 2, plan));
    world.turn();
    world
}

fn sent(world: &World, actor: (Kind, &str), content: Content) -> Held {
    let actor = (actor.0, actor.1.to_owned());
    let mut before = world.raw(&actor).expect("it is there").clone();
    before["metadata"]["resourceVersion"] = json!("1");
    Held {
        actor,
        before,
        content,
        answers: world.answers.clone(),
    }
}

fn status(world: &World, actor: (Kind, &str), change: impl FnOnce(&mut Value)) -> Held {
    let mut held = sent(world, actor, Content::Status(json!({}), Vec::new()));
    let mut after = held.before["status"].clone();
    change(&mut after);
    held.content = Content::Status(after, Vec::new());
    held
}

fn key(world: &World, name: &str) -> ObjectKey {
    let object = world.raw(&(Kind::Deployment, name.to_owned())).expect("it is there");
    ObjectKey {
        kind: ChildKind::Deployment,
        name: name.to_owned(),
        uid: object["metadata"]["uid"].as_str().unwrap().to_owned(),
        resource_version: Some("1".to_owned()),
    }
}

const SECOND: (Kind, &str) = (Kind::Rollout, "second");

#[test]
fn a_promotion_whose_check_failed_is_found() {
    let mut plan = one_step(50);
    plan["checks"] = json!([testing::check()]);
    let world = under_way(&plan);
    let bug = status(&world, SECOND, |s| s["phase"] = json!("Promoting"));
    assert!(found(world, Some(bug)).contains("I2 broken"));
}

#[test]
fn a_check_that_passes_without_an_answer_is_found() {
    let mut plan = one_step(50);
    plan["checks"] = json!([testing::check()]);
    let world = under_way(&plan);
    let passed =
        json!({ "name": "errors", "verdict": "Pass", "message": "X", "value": "0", "at": "2026-01-05T00:00:00Z" });
    let bug = status(&world, SECOND, |s| s["checks"] = json!([passed]));
    assert!(found(world, Some(bug)).contains("I21 broken"));
}

#[test]
fn an_approval_that_counts_for_evidence_that_nobody_saw_is_found() {
    let mut plan = one_step(50);
    plan["strategy"]["steps"][0]["approval"] = json!({ "minApprovals": 1 });
    let mut world = under_way(&plan);
    world.live(2);
    crate::moves::Move::Forge(crate::moves::Forgery::Digest).make(&mut world);
    let record = json!({ "name": "forged-digest", "uid": "x", "gate": "RolloutStep", "approver": "mallory",
        "decision": "Approve", "evidenceDigest": format!("sha256:{}", "0".repeat(64)), "at": "2026-01-05T00:00:00Z" });
    let bug = status(&world, SECOND, |s| s["approvals"] = json!([record]));
    assert!(found(world, Some(bug)).contains("I3 broken"));
}

#[test]
fn a_target_that_is_bound_before_its_promotion_is_found_and_told() {
    let world = under_way(&one_step(50));
    let annotations = json!({ "metadata": { "annotations": { "flywheel.dev/model-version": "eta-2" } } });
    let patch = Patch {
        object: key(&world, "eta"),
        body: json!({ "spec": { "template": annotations } }),
        kind: PatchKind::Merge,
    };
    let bug = sent(
        &world,
        SECOND,
        Content::Effect(Box::new(Action::Patch(Box::new(patch)))),
    );
    let told = found(world, Some(bug));
    assert!(
        told.contains("  1. A write of an operator that is no more arrives: patch Deployment eta"),
        "{told}"
    );
    assert!(told.contains("template.metadata"), "{told}");
    assert!(
        told.contains("I4 broken: a Rollout can go back from everywhere, and what went back stays back."),
        "{told}"
    );
}

#[test]
fn a_baseline_that_cannot_get_its_pods_back_is_found() {
    let mut world = under_way(&one_step(50));
    world.edit(Kind::Rollout, "second", |o| o["status"]["baselineReplicas"] = json!(5));
    let told = found(world, None);
    assert!(
        told.contains("I4 broken") && told.contains("the target has 2 of 5 pods"),
        "{told}"
    );
}

#[test]
fn a_candidate_that_goes_before_the_baseline_is_whole_is_found() {
    let mut plan = one_step(50);
    plan["capacity"] = json!({ "baseline": "ShrinkWithWeight" });
    let world = under_way(&plan);
    let bug = Content::Effect(Box::new(Action::Delete(key(&world, "eta-candidate"))));
    let bug = sent(&world, SECOND, bug);
    assert!(found(world, Some(bug)).contains("I7 broken"));
}

#[test]
fn a_phase_that_moves_along_no_edge_is_found() {
    let world = under_way(&one_step(50));
    let bug = status(&world, SECOND, |s| s["phase"] = json!("Promoted"));
    assert!(found(world, Some(bug)).contains("I13 broken"));
}

#[test]
fn a_generation_that_goes_down_is_found() {
    let world = under_way(&one_step(50));
    let bug = status(&world, SECOND, |s| s["observedGeneration"] = json!(0));
    assert!(found(world, Some(bug)).contains("I13 broken"));
}

#[test]
fn a_delivery_with_another_plan_than_the_snapshot_is_found() {
    let mut world = shop();
    world.turn();
    let run: FlywheelRun = world.get(Kind::Run, "eta-request");
    let rollout: Rollout = testing::rollout("eta-2", 2, &one_step(90));
    assert!(run.status.is_some());
    let create = Action::Create(Box::new(Child::Rollout(rollout)));
    let bug = sent(&world, (Kind::Run, "eta-request"), Content::Effect(Box::new(create)));
    assert!(found(world, Some(bug)).contains("I16 broken"));
}

#[test]
fn a_delivery_after_a_comparison_with_nothing_beside_a_version_that_serves_is_found() {
    let mut world = shop();
    world.turn();
    world.edit(Kind::Run, "eta-request", |o| {
        o["status"]["gates"][0]["verdict"] = json!("NotApplicable");
        o["status"]["comparedWith"] = Value::Null;
    });
    let rollout: Rollout = testing::rollout("eta-2", 2, &one_step(50));
    let create = Action::Create(Box::new(Child::Rollout(rollout)));
    let bug = sent(&world, (Kind::Run, "eta-request"), Content::Effect(Box::new(create)));
    let told = found(world, Some(bug));
    assert!(told.contains("I2 broken") && told.contains("serves and gate"), "{told}");
}

#[test]
fn two_rollouts_at_work_on_one_target_are_found() {
    let mut world = under_way(&one_step(50));
    world.add(Kind::Rollout, &testing::rollout("third", 3, &one_step(50)));
    world.settle();
    world.edit(Kind::Rollout, "third", |o| {
        o["status"]["phase"] = json!("Holding");
        o["status"]["candidateDeployment"] = json!({ "name": "eta-candidate", "uid": "another" });
    });
    assert!(found(world, None).contains("I17 broken"));
}

#[test]
fn a_decision_at_a_level_that_was_not_in_force_is_found() {
    let mut world = shop();
    world.turn();
    let decision = json!({ "at": "2026-01-05T00:00:00Z", "decision": "Deliver", "reason": "X", "message": "X",
        "level": "FullyAutomated" });
    let bug = status(&world, (Kind::Run, "eta-request"), |s| {
        s["decisions"].as_array_mut().unwrap().push(decision);
    });
    assert!(found(world, Some(bug)).contains("I18 broken"));
}

#[test]
fn a_step_that_is_left_before_its_time_is_found() {
    let world = under_way(&one_step(50));
    let bug = status(&world, SECOND, |s| {
        s["phase"] = json!("Promoting");
        s["step"] = json!({ "index": 1, "name": "full" });
    });
    assert!(found(world, Some(bug)).contains("I19 broken"));
}

#[test]
fn a_step_that_is_skipped_is_found() {
    let mut plan = one_step(10);
    plan["strategy"]["steps"] = json!([{ "name": "a", "weight": 10 }, { "name": "b", "weight": 30 },
        { "name": "c", "weight": 50 }]);
    // Without an answer it stays at the first step.
    plan["checks"] = json!([testing::check()]);
    let world = under_way(&plan);
    let bug = status(&world, SECOND, |s| {
        s["phase"] = json!("Progressing");
        s["step"] = json!({ "index": 2, "name": "c" });
    });
    let told = found(world, Some(bug));
    assert!(told.contains("step 0 is followed by step 2"), "{told}");
}

#[test]
fn a_version_that_counts_as_promoted_before_its_target_carries_it_is_found() {
    let mut world = under_way(&one_step(50));
    world.edit(Kind::Rollout, "second", |o| o["status"]["phase"] = json!("Promoting"));
    let bug = status(&world, SECOND, |s| s["phase"] = json!("Promoted"));
    let told = found(world, Some(bug));
    assert!(told.contains("I13 broken"), "{told}");
    assert!(told.contains("its target carries"), "{told}");
}
