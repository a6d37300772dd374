use serde_json::{Value, json};

use super::broken;
use super::story::By;
use super::turn::Turn;
use crate::trace::Kind;

const LEVEL: &str = "FullyAutomated";

fn ready(turn: &mut Turn, name: &str, count: i64) {
    turn.story.status(By::User, &Kind::Deployment, name, |s| {
        *s = json!({ "readyReplicas": count });
    });
}

/// The target carries the version, and has this many ready pods when the candidate goes.
fn promoted(count: i64, seconds: i64) -> Vec<&'static str> {
    let mut turn = Turn::at_last_step();
    turn.promote(LEVEL, None);
    turn.bind();
    ready(&mut turn, "eta", 3);
    ready(&mut turn, "eta", count);
    turn.story.wait(seconds);
    turn.end();
    broken(&turn.story)
}

#[test]
fn the_candidate_goes_when_the_target_is_ready_and_not_before() {
    assert_eq!(promoted(3, 30), [""; 0]);
    assert_eq!(promoted(2, 30), ["I7"]);
    assert_eq!(promoted(2, 1), [""; 0], "a pod failed after the operator had looked");
}

#[test]
fn on_the_way_back_the_candidate_goes_at_once() {
    let mut turn = Turn::held();
    turn.phase("RollingBack", |_| {});
    turn.story.delete(By::Operator, &Kind::Deployment, "eta-candidate");
    assert_eq!(broken(&turn.story), [""; 0]);
}

fn shrink(turn: &mut Turn) {
    turn.story.patch(By::User, &Kind::Rollout, "eta-1", |o| {
        o["spec"]["plan"]["capacity"]["baseline"] = json!("ShrinkWithWeight");
    });
    turn.phase("Progressing", |s| s["baselineReplicas"] = json!(3));
}

fn scale(turn: &mut Turn, by: By, name: &str, count: i64) {
    turn.story.patch(by, &Kind::Deployment, name, |o| {
        o["spec"]["replicas"] = json!(count);
    });
}

/// A baseline of three, of which so many are ready, shrinks beside so many pods of the candidate.
fn shrunk(baseline: i64, candidate: i64, to: i64) -> Vec<&'static str> {
    let mut turn = Turn::held();
    shrink(&mut turn);
    ready(&mut turn, "eta", baseline);
    ready(&mut turn, "eta-candidate", candidate);
    turn.story.wait(30);
    scale(&mut turn, By::Operator, "eta", to);
    broken(&turn.story)
}

#[test]
fn the_baseline_shrinks_only_beside_a_ready_candidate() {
    assert_eq!(shrunk(3, 1, 2), [""; 0]);
    assert_eq!(shrunk(3, 0, 2), ["I7"]);
}

#[test]
fn a_baseline_with_a_pod_that_is_not_ready_shrinks_only_beside_a_ready_candidate() {
    assert_eq!(shrunk(2, 2, 1), [""; 0]);
    assert_eq!(shrunk(2, 0, 1), ["I7"]);
    assert_eq!(shrunk(1, 0, 1), [""; 0], "it takes none that is ready");
}

#[test]
fn a_baseline_shrinks_beside_a_candidate_that_somebody_else_deleted_in_this_moment() {
    let shrunk = |seconds: i64| {
        let mut turn = Turn::held();
        shrink(&mut turn);
        ready(&mut turn, "eta", 3);
        ready(&mut turn, "eta-candidate", 1);
        turn.story.wait(30);
        turn.story.delete(By::User, &Kind::Deployment, "eta-candidate");
        turn.story.wait(seconds);
        scale(&mut turn, By::Operator, "eta", 2);
        broken(&turn.story)
    };
    assert_eq!(shrunk(1), [""; 0]);
    assert_eq!(shrunk(30), ["I7"]);
}

/// The way back of a plan that took two of three pods, and so many seconds later the candidate goes.
fn went_back(count: i64, seconds: i64, goes: impl FnOnce(&mut Turn)) -> Vec<&'static str> {
    let mut turn = Turn::held();
    shrink(&mut turn);
    turn.story.patch(By::User, &Kind::Rollout, "eta-1", |o| {
        o["spec"]["plan"]["progressDeadlineSeconds"] = json!(600);
    });
    let now = turn.story.second();
    turn.phase("RollingBack", |s| {
        s["weights"] = json!({ "baselineReplicas": 1 });
        s["progressSince"] = json!(now);
    });
    ready(&mut turn, "eta", count);
    turn.story.wait(seconds);
    goes(&mut turn);
    broken(&turn.story)
}

#[test]
fn on_the_way_back_the_candidate_goes_when_the_baseline_has_its_pods_again() {
    let goes = |turn: &mut Turn| turn.story.delete(By::Operator, &Kind::Deployment, "eta-candidate");
    assert_eq!(went_back(3, 30, goes), [""; 0]);
    assert_eq!(went_back(1, 30, goes), ["I7"]);
    assert_eq!(went_back(1, 590, goes), ["I7"]);
    assert_eq!(
        went_back(1, 600, goes),
        [""; 0],
        "past the deadline nothing else would help"
    );
    let emptied = |turn: &mut Turn| {
        ready(turn, "eta-candidate", 1);
        turn.story.wait(30);
        scale(turn, By::Operator, "eta-candidate", 0);
    };
    assert_eq!(went_back(1, 30, emptied), ["I7"]);
    let target_goes = |turn: &mut Turn| {
        turn.story.patch(By::User, &Kind::Deployment, "eta", |o| {
            o["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            o["metadata"]["finalizers"] = json!(["foregroundDeletion"]);
        });
        goes(turn);
    };
    assert_eq!(went_back(1, 30, target_goes), [""; 0], "there is nothing to wait for");
}

#[test]
fn after_the_target_carried_the_version_the_candidate_goes_when_its_pods_are_ready() {
    let went_back = |count: i64, carried: i64| {
        let mut turn = Turn::at_last_step();
        turn.promote(LEVEL, None);
        turn.phase("RollingBack", |s| s["weights"] = json!({ "actual": carried }));
        ready(&mut turn, "eta", count);
        turn.story.wait(30);
        turn.story.delete(By::Operator, &Kind::Deployment, "eta-candidate");
        broken(&turn.story)
    };
    assert_eq!(went_back(3, 100), [""; 0]);
    assert_eq!(went_back(2, 100), ["I7"]);
    assert_eq!(went_back(2, 50), [""; 0], "no pod of the baseline was touched");
}

#[test]
fn a_candidate_keeps_its_pods_while_a_shrunk_baseline_lacks_them() {
    let scaled = |by: By, to: i64| {
        let mut turn = Turn::held();
        shrink(&mut turn);
        turn.phase("Progressing", |s| s["weights"] = json!({ "baselineReplicas": 1 }));
        scale(&mut turn, by, "eta-candidate", 2);
        ready(&mut turn, "eta-candidate", 2);
        scale(&mut turn, By::Operator, "eta", 1);
        ready(&mut turn, "eta", 1);
        turn.story.wait(30);
        scale(&mut turn, By::Operator, "eta-candidate", to);
        broken(&turn.story)
    };
    assert_eq!(scaled(By::Operator, 2), [""; 0]);
    assert_eq!(scaled(By::Operator, 1), ["I7"]);
    assert_eq!(scaled(By::Operator, 0), ["I7"]);
    assert_eq!(scaled(By::User, 1), [""; 0], "what somebody else gave it is taken back");
}

#[test]
fn a_candidate_follows_a_target_that_its_owner_scales_down() {
    let mut turn = Turn::at_last_step();
    scale(&mut turn, By::Operator, "eta-candidate", 3);
    ready(&mut turn, "eta-candidate", 3);
    turn.promote(LEVEL, None);
    ready(&mut turn, "eta", 0);
    scale(&mut turn, By::User, "eta", 1);
    turn.story.wait(30);
    scale(&mut turn, By::Operator, "eta-candidate", 1);
    assert_eq!(broken(&turn.story), [""; 0]);
}

#[test]
fn pods_that_the_owner_asks_for_in_this_moment_are_not_waited_for() {
    let asked = |seconds: i64| {
        let mut turn = Turn::at_last_step();
        turn.promote(LEVEL, None);
        turn.bind();
        turn.story.wait(30);
        scale(&mut turn, By::User, "eta", 5);
        turn.story.wait(seconds);
        turn.end();
        broken(&turn.story)
    };
    assert_eq!(asked(1), [""; 0]);
    assert_eq!(asked(30), ["I7"]);
}

#[test]
fn a_candidate_is_made_anew_only_when_a_shrunk_baseline_is_whole_again() {
    let discarded = |count: i64| {
        let mut turn = Turn::held();
        shrink(&mut turn);
        turn.phase("Progressing", |s| s["weights"] = json!({ "baselineReplicas": 2 }));
        ready(&mut turn, "eta", count);
        turn.story.wait(30);
        turn.story.delete(By::Operator, &Kind::Deployment, "eta-candidate");
        broken(&turn.story)
    };
    assert_eq!(discarded(3), [""; 0]);
    assert_eq!(discarded(2), ["I7"]);
}

#[test]
fn two_rollouts_that_work_on_one_target_break_i17() {
    let both = |phase: &str, target: &str| {
        let mut turn = Turn::held();
        let plan = turn.plan();
        let uid = turn.story.uid(&Kind::Deployment, "eta");
        let uid = if target.is_empty() { uid } else { target.to_owned() };
        let object: Value = json!({ "spec": { "plan": plan }, "status": { "targetUid": uid } });
        turn.story.create(By::User, &Kind::Rollout, "eta-2", object);
        let index = if phase == "Promoting" { 2 } else { 0 };
        turn.story.status(By::Operator, &Kind::Rollout, "eta-2", |s| {
            s["phase"] = json!(phase);
            // Without replicas it may begin at full weight.
            s["baselineReplicas"] = json!(0);
            s["step"] = json!({ "index": index });
        });
        broken(&turn.story)
    };
    assert_eq!(both("Queued", ""), [""; 0]);
    assert_eq!(both("Preparing", ""), [""; 0], "creating the candidate is the lock");
    assert_eq!(both("Promoting", ""), ["I17"]);
    assert_eq!(both("Promoting", "another"), [""; 0], "the target was made anew");
}
