use serde_json::{Value, json};

use super::broken;
use super::story::By;
use super::turn::Turn;
use crate::trace::Kind;

const LEVEL: &str = "FullyAutomated";

fn policy() -> Value {
    json!({ "spec": { "modelSelector": { "matchLabels": { "team": "eta" } },
        "protectedAttributes": [{ "name": "region" }], "objectives": [{ "name": "gap" }] } })
}

/// A run that was judged by a policy which selects its pipeline.
fn judged() -> Turn {
    let mut turn = Turn::begin(LEVEL);
    turn.story.patch(By::User, &Kind::Pipeline, "eta", |o| {
        o["metadata"]["labels"] = json!({ "team": "eta" });
    });
    turn.story.create(By::User, &Kind::Policy, "fair", policy());
    turn.story.wait(30);
    turn.stages(LEVEL);
    turn.register();
    turn.judge("Pass");
    verdict(&mut turn, 1);
    turn.story.wait(30);
    turn
}

/// The policy passes the version in this generation.
fn verdict(turn: &mut Turn, generation: i64) {
    let uid = turn.story.uid(&Kind::Policy, "fair");
    turn.story.status(By::Operator, &Kind::Run, "eta-1", |s| {
        s["bias"] = json!([{ "policy": "fair", "policyUid": uid, "policyGeneration": generation, "verdict": "Pass" }]);
    });
}

fn change(turn: &mut Turn) {
    turn.story.patch(By::User, &Kind::Policy, "fair", |o| {
        o["metadata"]["generation"] = json!(2);
    });
}

#[test]
fn a_pass_of_the_policy_as_it_is_counts() {
    let mut turn = judged();
    turn.deliver(LEVEL);
    assert_eq!(broken(&turn.story), [""; 0]);
    let mut again = judged();
    change(&mut again);
    verdict(&mut again, 2);
    again.deliver(LEVEL);
    assert_eq!(broken(&again.story), [""; 0]);
}

#[test]
fn a_pass_of_a_policy_that_was_changed_deleted_or_made_anew_breaks_i22() {
    type Case = (&'static str, fn(&mut Turn));
    let cases: [Case; 4] = [
        ("changed", change),
        ("deleted", |turn| turn.story.delete(By::User, &Kind::Policy, "fair")),
        ("made anew", |turn| {
            turn.story.delete(By::User, &Kind::Policy, "fair");
            turn.story.create(By::User, &Kind::Policy, "fair", policy());
        }),
        ("withdrawn", |turn| {
            turn.story.patch(By::User, &Kind::Pipeline, "eta", |o| {
                o["metadata"]["labels"] = json!({});
            });
        }),
    ];
    for (name, case) in cases {
        let delivered = |seconds: i64| {
            let mut turn = judged();
            case(&mut turn);
            turn.story.wait(seconds);
            turn.deliver(LEVEL);
            broken(&turn.story)
        };
        assert_eq!(delivered(30), ["I22"], "{name}");
        assert_eq!(delivered(1), [""; 0], "{name}, but in this moment");
    }
}

#[test]
fn a_policy_that_was_not_asked_breaks_i22() {
    let mut turn = judged();
    turn.story
        .status(By::Operator, &Kind::Run, "eta-1", |s| s["bias"] = json!([]));
    turn.deliver(LEVEL);
    assert_eq!(broken(&turn.story), ["I22"]);
}

#[test]
fn a_policy_without_anything_to_judge_says_nothing() {
    let mut turn = Turn::with(LEVEL, |_| {});
    turn.story.patch(By::User, &Kind::Pipeline, "eta", |o| {
        o["metadata"]["labels"] = json!({ "team": "eta" });
    });
    let mut empty = policy();
    empty["spec"]["objectives"] = json!([]);
    turn.story.create(By::User, &Kind::Policy, "fair", empty);
    turn.story.wait(30);
    turn.stages(LEVEL);
    turn.register();
    turn.judge("Pass");
    turn.deliver(LEVEL);
    assert_eq!(broken(&turn.story), [""; 0]);
}

#[test]
fn a_policy_that_changes_between_the_decision_and_the_rollout_breaks_i22() {
    let mut turn = judged();
    turn.story.status(By::Operator, &Kind::Run, "eta-1", |s| {
        s["rollout"] = json!({ "name": "eta-1" });
        super::turn::decide(s, "Deliver", LEVEL, None);
    });
    change(&mut turn);
    turn.story.wait(30);
    turn.rollout();
    assert_eq!(broken(&turn.story), ["I22"]);
}
