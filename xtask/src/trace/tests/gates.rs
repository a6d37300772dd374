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
    // At once, because there are no replicas to which steps could apply.
    turn.phase("Promoting", |s| {
        s["baselineReplicas"] = json!(0);
        s["step"] = json!({ "index": 2, "name": "full" });
    });
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

/// A metric whose comparison with this version speaks for the candidate.
fn better_than(version: &str, level: &str) -> Value {
    json!({ "name": "mae", "value": "4", "samples": 1000, "level": level,
        "baseline": { "version": version, "value": "5", "difference": "-1", "low": "-1.2", "high": "-0.8" } })
}

/// A turn whose first gate compares with what serves, and whose second one has a limit. Version `eta-0` serves from the
/// beginning, `former` does not. Something happens just before the delivery.
fn beside(metric: Value, verdict: &str, happens: impl FnOnce(&mut Turn)) -> Turn {
    let mut turn = Turn::begin(LEVEL);
    let gates = json!([
        { "name": "error", "metric": "mae", "compareTo": "LiveVersion", "direction": "Minimize", "onMissing": "Fail",
            "confidence": { "level": "0.95", "minSamples": 100 } },
        { "name": "bound", "metric": "mae", "compareTo": "Constant", "max": "5", "onMissing": "Fail" }]);
    turn.story
        .patch(By::User, &Kind::Revision, "eta-abc", |o| o["data"]["gates"] = gates);
    for (name, uri) in [("eta-0", "s3://old"), ("former", "s3://former")] {
        let spec = json!({ "modelName": "eta", "version": 0, "artifact": { "uri": uri } });
        turn.story
            .create(By::User, &Kind::Version, name, json!({ "spec": spec }));
    }
    turn.story.wait(61);
    turn.report(LEVEL, metric);
    turn.register();
    let judged = json!([
        { "gate": "error", "metric": "mae", "verdict": verdict },
        { "gate": "bound", "metric": "mae", "verdict": "Pass" }]);
    turn.story
        .status(By::Operator, &Kind::Run, "eta-1", |s| s["gates"] = judged);
    happens(&mut turn);
    turn.deliver(LEVEL);
    turn
}

/// Somebody sets what the target carries.
fn carries(turn: &mut Turn, value: &str) {
    turn.story.patch(By::User, &Kind::Deployment, "eta", |o| {
        o["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"] = json!(value);
    });
}

#[test]
fn a_version_that_was_compared_with_the_one_that_serves_is_fine() {
    let turn = beside(better_than("eta-0", "0.95"), "Pass", |_| {});
    assert_eq!(broken(&turn.story), [""; 0]);
}

#[test]
fn a_comparison_with_a_version_that_does_not_serve_breaks_i2() {
    for other in ["former", ""] {
        let turn = beside(better_than(other, "0.95"), "Pass", |_| {});
        assert_eq!(broken(&turn.story), ["I2"], "{other:?}");
    }
    let replaced = |turn: &mut Turn| {
        carries(turn, "s3://former");
        turn.story.wait(61);
    };
    let turn = beside(better_than("eta-0", "0.95"), "Pass", replaced);
    assert_eq!(broken(&turn.story), ["I2"], "it served some time ago");
}

#[test]
fn a_comparison_with_what_served_a_moment_ago_is_fine() {
    let turn = beside(better_than("eta-0", "0.95"), "Pass", |turn| {
        carries(turn, "s3://former");
        turn.story.wait(5);
    });
    assert_eq!(broken(&turn.story), [""; 0]);
}

#[test]
fn a_comparison_with_a_version_of_which_the_log_does_not_tell_is_fine() {
    let turn = beside(better_than("older-than-the-log", "0.95"), "Pass", |_| {});
    assert_eq!(broken(&turn.story), [""; 0]);
}

#[test]
fn a_comparison_with_nothing_while_a_version_serves_breaks_i2() {
    let metric = || json!({ "name": "mae", "value": "4", "samples": 1000 });
    let turn = beside(metric(), "NotApplicable", |_| {});
    assert_eq!(broken(&turn.story), ["I2"]);
    assert!(first(&turn.story).contains("version eta-0"));
    let began = beside(metric(), "NotApplicable", |turn| {
        carries(turn, "s3://nobodys");
        turn.story.wait(61);
        turn.story.status(By::Operator, &Kind::Run, "eta-1", |s| {
            s["comparedWith"] = json!({ "name": "eta-0" });
        });
    });
    assert_eq!(broken(&began.story), ["I2"], "the run began beside it");
}

#[test]
fn a_comparison_with_nothing_is_fine_where_nothing_may_have_served() {
    let metric = || json!({ "name": "mae", "value": "4", "samples": 1000 });
    let cases: [fn(&mut Turn); 3] = [
        |turn| carries(turn, "s3://nobodys"),
        |turn| {
            carries(turn, "s3://nobodys");
            carries(turn, "s3://old");
        },
        |turn| {
            turn.story.delete(By::User, &Kind::Version, "eta-0");
            turn.story.wait(5);
        },
    ];
    for (index, case) in cases.into_iter().enumerate() {
        let turn = beside(metric(), "NotApplicable", case);
        assert_eq!(broken(&turn.story), [""; 0], "case {index}");
    }
}

#[test]
fn an_interval_that_is_less_sure_than_the_gate_asks_for_breaks_i2() {
    let turn = beside(better_than("eta-0", "0.9"), "Pass", |_| {});
    assert_eq!(broken(&turn.story), ["I2"]);
    let interval = |level: Value| json!({ "name": "mae", "value": "4", "low": "3", "high": "4.5", "samples": 100, "level": level });
    assert_eq!(broken(&evaluated(interval(json!("0.95"))).story), [""; 0]);
    assert_eq!(broken(&evaluated(interval(json!("0.9"))).story), ["I2"]);
    assert_eq!(broken(&evaluated(interval(Value::Null)).story), ["I2"]);
}

#[test]
fn a_delivery_while_nobody_can_say_what_serves_breaks_i2() {
    let cases: [fn(&mut Turn); 3] = [
        |turn| turn.story.delete(By::User, &Kind::Deployment, "eta"),
        |turn| {
            turn.story.patch(By::User, &Kind::Deployment, "eta", |o| {
                o["spec"]["template"]["spec"]["containers"][0]["name"] = json!("renamed");
            });
        },
        |turn| {
            turn.story.patch(By::User, &Kind::Deployment, "eta", |o| {
                let variable = json!({ "name": "MODEL_URI", "valueFrom": { "fieldRef": {} } });
                o["spec"]["template"]["spec"]["containers"][0]["env"] = json!([variable]);
            });
        },
    ];
    for (index, case) in cases.into_iter().enumerate() {
        for (seconds, expected) in [(61, vec!["I2"]), (5, Vec::new())] {
            let turn = beside(better_than("eta-0", "0.95"), "Pass", |turn| {
                case(turn);
                turn.story.wait(seconds);
            });
            assert_eq!(broken(&turn.story), expected, "case {index}, {seconds} s before");
        }
    }
}

#[test]
fn a_delivery_of_a_run_that_is_older_than_the_log_is_not_judged() {
    let mut turn = Turn::judged(LEVEL);
    turn.judge("Fail");
    turn.deliver(LEVEL);
    let made = |r: &crate::trace::audit::Request| r.key.kind == Kind::Run && r.code == 201;
    turn.story.requests.retain(|r| !made(r));
    let mut all = broken(&turn.story);
    all.retain(|i| *i == "I2");
    assert_eq!(all, [""; 0]);
}
