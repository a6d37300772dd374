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

#[test]
fn the_baseline_shrinks_only_beside_a_ready_candidate() {
    let shrunk = |count: i64| {
        let mut turn = Turn::held();
        shrink(&mut turn);
        ready(&mut turn, "eta", 3);
        ready(&mut turn, "eta-candidate", count);
        turn.story.wait(30);
        turn.story.patch(By::Operator, &Kind::Deployment, "eta", |o| {
            o["spec"]["replicas"] = json!(2);
        });
        broken(&turn.story)
    };
    assert_eq!(shrunk(1), [""; 0]);
    assert_eq!(shrunk(0), ["I7"]);
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
