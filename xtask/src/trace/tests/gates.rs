use serde_json::{Value, json};

use super::story::By;
use super::turn::Turn;
use super::{broken, first};
use crate::trace::Kind;

const LEVEL: &str = "FullyAutomated";

fn evaluated(metric: Value) -> Turn {
    let mut turn = Turn::begin(LEVEL);
    turn.report(LEVEL, metric);
    turn.register();
    turn.judge("Pass");
    turn.deliver(LEVEL);
    turn
}

#[test]
fn a_delivery_whose_gate_passed_is_fine() {
    let turn = evaluated(json!({ "name": "mae", "value": "4", "samples": 100 }));
    assert_eq!(broken(&turn.story), [""; 0]);
}

#[test]
fn verdicts_that_are_no_pass_break_i2() {
    for verdict in ["Fail", "Inconclusive", "Error", "NotApplicable", "", "Unknown"] {
        let mut turn = Turn::judged(LEVEL);
        turn.judge(verdict);
        turn.deliver(LEVEL);
        assert_eq!(broken(&turn.story), ["I2"], "{verdict}");
    }
}

#[test]
fn a_delivery_without_any_verdict_breaks_i2() {
    let mut turn = Turn::begin(LEVEL);
    turn.stages(LEVEL);
    turn.register();
    turn.deliver(LEVEL);
    assert_eq!(broken(&turn.story), ["I2"]);
    assert!(first(&turn.story).contains("is missing"));
}

#[test]
fn a_pass_that_the_numbers_do_not_show_breaks_i2() {
    let metrics = [
        json!({ "name": "mae", "value": "5.1", "samples": 100 }),
        json!({ "name": "mae", "value": "4.9", "low": "4.7", "high": "5.1", "samples": 100 }),
        json!({ "name": "mae", "value": "4", "samples": 99 }),
        json!({ "name": "mae", "value": "4" }),
        json!({ "name": "mae", "value": "NaN", "samples": 100 }),
        json!({ "name": "other", "value": "4", "samples": 100 }),
    ];
    for metric in metrics {
        let turn = evaluated(metric.clone());
        assert_eq!(broken(&turn.story), ["I2"], "{metric}");
    }
}

#[test]
fn a_registered_outcome_is_a_delivery() {
    let mut turn = Turn::judged(LEVEL);
    turn.judge("Fail");
    turn.story.status(By::Operator, &Kind::Run, "eta-1", |s| {
        s["outcome"] = json!("Registered");
    });
    assert_eq!(broken(&turn.story), ["I2", "I3"]);
}

#[test]
fn a_bias_policy_that_blocks_or_was_not_applied_breaks_i2() {
    let judged = |mut verdicts: Value| {
        let mut turn = Turn::with(LEVEL, |spec| spec["biasPolicies"] = json!([{ "name": "fair" }]));
        let policy = turn
            .story
            .create(By::User, &Kind::Policy, "fair", json!({ "spec": {} }));
        turn.stages(LEVEL);
        turn.register();
        turn.judge("Pass");
        for verdict in verdicts.as_array_mut().expect("verdicts") {
            verdict["policyUid"] = json!(policy);
            verdict["policyGeneration"] = json!(1);
        }
        turn.story
            .status(By::Operator, &Kind::Run, "eta-1", |s| s["bias"] = verdicts);
        turn.deliver(LEVEL);
        broken(&turn.story)
    };
    let verdict = |verdict: &str, enforcement: &str| json!([{ "policy": "fair", "verdict": verdict, "enforcement": enforcement }]);
    assert_eq!(judged(verdict("Pass", "Block")), [""; 0]);
    assert_eq!(judged(verdict("Fail", "Warn")), [""; 0]);
    assert_eq!(judged(verdict("Inconclusive", "Block")), ["I2"]);
    assert_eq!(judged(verdict("Error", "Block")), ["I2"]);
    assert_eq!(judged(json!([])), ["I2"]);
}

#[test]
fn the_first_version_needs_something_that_shows_it_to_be_good() {
    let mut turn = Turn::judged(LEVEL);
    turn.story.patch(By::Operator, &Kind::Revision, "eta-abc", |o| {
        o["data"]["gates"] =
            json!([{ "name": "error", "metric": "mae", "compareTo": "LiveVersion", "direction": "Minimize" }]);
    });
    turn.judge("NotApplicable");
    turn.deliver(LEVEL);
    let mut all = broken(&turn.story);
    all.retain(|i| *i == "I2");
    assert_eq!(all, ["I2"]);
}

#[test]
fn a_turn_up_to_promotion_is_fine() {
    let mut turn = Turn::at_last_step();
    turn.promote(LEVEL, None);
    turn.bind();
    turn.end();
    assert_eq!(broken(&turn.story), [""; 0]);
}

#[test]
fn leaving_a_step_with_an_open_check_breaks_i2() {
    for verdict in ["Fail", "Inconclusive", "Error"] {
        let mut turn = Turn::held();
        turn.checks(&[("errors", verdict)]);
        turn.next_step(LEVEL, None);
        assert_eq!(broken(&turn.story), ["I2"], "{verdict}");
    }
    let mut turn = Turn::held();
    turn.next_step(LEVEL, None);
    assert_eq!(broken(&turn.story), ["I2"], "never asked");
}

#[test]
fn a_check_that_passed_before_the_step_began_breaks_i2() {
    let mut turn = Turn::held();
    turn.checks(&[("errors", "Pass")]);
    turn.next_step(LEVEL, None);
    turn.checks(&[("errors", "Pass"), ("late", "Pass")]);
    turn.hold();
    turn.promote(LEVEL, None);
    assert_eq!(broken(&turn.story), ["I2"]);
    assert!(first(&turn.story).contains("before"));
}

#[test]
fn promotion_with_an_inconclusive_check_breaks_i2() {
    let mut turn = Turn::at_last_step();
    turn.checks(&[("errors", "Pass"), ("late", "Inconclusive")]);
    turn.promote(LEVEL, None);
    assert_eq!(broken(&turn.story), ["I2"]);
}

#[test]
fn a_watch_that_ends_with_an_open_check_breaks_i2() {
    let watched = |verdict: &str| {
        let mut turn = Turn::at_last_step();
        turn.promote(LEVEL, None);
        turn.bind();
        let now = turn.story.second();
        let said = |name: &str, v: &str| json!({ "name": name, "verdict": v, "at": now });
        let checks = json!([said("errors", "Pass"), said("late", verdict)]);
        turn.phase("Observing", |s| {
            s["promotedAt"] = json!(now);
            s["checks"] = checks;
        });
        turn.end();
        broken(&turn.story)
    };
    assert_eq!(watched("Pass"), [""; 0]);
    assert_eq!(watched("Error"), ["I2"]);
}

#[test]
fn promoting_what_no_run_decided_to_deliver_breaks_i2() {
    let mut turn = Turn::judged(LEVEL);
    turn.rollout();
    turn.phase("Promoting", |_| {});
    assert_eq!(broken(&turn.story), ["I2"]);
}

#[test]
fn a_promotion_that_goes_on_after_somebody_took_the_runs_status_away_is_fine() {
    let mut turn = Turn::at_last_step();
    turn.story.status(By::User, &Kind::Run, "eta-1", |s| *s = json!({}));
    turn.promote(LEVEL, None);
    turn.bind();
    turn.end();
    assert_eq!(broken(&turn.story), [""; 0]);
}

#[test]
fn a_delivery_that_is_found_again_after_its_status_was_taken_away_is_fine() {
    let mut turn = Turn::at_last_step();
    turn.story.status(By::User, &Kind::Run, "eta-1", |s| *s = json!({}));
    let found = json!({ "name": "eta-1" });
    turn.story
        .status(By::Operator, &Kind::Run, "eta-1", |s| *s = json!({ "rollout": found }));
    assert_eq!(broken(&turn.story), [""; 0]);
}
