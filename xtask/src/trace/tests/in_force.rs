use serde_json::json;

use super::broken;
use super::story::By;
use super::turn::{Turn, decide};
use crate::trace::Kind;

const HUMAN: &str = "HumanOversight";

#[test]
fn deciding_at_a_level_that_was_not_in_force_breaks_i18() {
    let lowered = |seconds: i64| {
        let mut turn = Turn::judged("FullyAutomated");
        turn.story.patch(By::User, &Kind::Pipeline, "eta", |o| {
            o["spec"]["automationLevel"] = json!(HUMAN);
        });
        turn.story.wait(seconds);
        turn.deliver("FullyAutomated");
        broken(&turn.story)
    };
    assert_eq!(lowered(1), [""; 0], "the reconcile had read the old level");
    assert_eq!(lowered(30), ["I18"]);
}

#[test]
fn a_bias_policy_caps_the_level() {
    let capped = |labels: serde_json::Value| {
        let mut turn = Turn::judged("FullyAutomated");
        turn.story.create(
            By::User,
            &Kind::Policy,
            "fair",
            json!({ "spec": {
            "maxAutomationLevel": "SemiAutomated", "modelSelector": { "matchLabels": { "team": "eta" } } } }),
        );
        turn.story
            .patch(By::User, &Kind::Pipeline, "eta", |o| o["metadata"]["labels"] = labels);
        turn.story.wait(30);
        turn.deliver("FullyAutomated");
        broken(&turn.story)
    };
    assert_eq!(capped(json!({ "team": "other" })), [""; 0]);
    assert_eq!(capped(json!({ "team": "eta" })), ["I18"]);
}

#[test]
fn a_level_above_the_one_in_force_breaks_i18_whatever_is_decided() {
    let recorded = |level: &str| {
        let mut turn = Turn::begin(HUMAN);
        turn.story
            .status(By::Operator, &Kind::Run, "eta-1", |s| decide(s, "Judge", level, None));
        broken(&turn.story)
    };
    assert_eq!(recorded(HUMAN), [""; 0]);
    assert_eq!(recorded("Manual"), [""; 0], "the administrator's ceiling");
    assert_eq!(recorded("FullyAutomated"), ["I18"]);
}

#[test]
fn a_level_that_rises_within_a_run_breaks_i18() {
    let levels = |first: &str, second: &str| {
        let mut turn = Turn::begin(HUMAN);
        for level in [first, second] {
            turn.story
                .status(By::Operator, &Kind::Run, "eta-1", |s| s["level"] = json!(level));
        }
        broken(&turn.story)
    };
    assert_eq!(levels(HUMAN, "Manual"), [""; 0]);
    assert_eq!(levels("Manual", HUMAN), ["I18"]);
}

#[test]
fn the_effective_level_of_a_pipeline_keeps_below_a_cap() {
    let shown = |level: &str| {
        let mut turn = Turn::with(HUMAN, |spec| spec["biasPolicies"] = json!([{ "name": "fair" }]));
        turn.story.create(
            By::User,
            &Kind::Policy,
            "fair",
            json!({ "spec": { "maxAutomationLevel": "SemiAutomated" } }),
        );
        turn.story.wait(30);
        turn.story.status(By::Operator, &Kind::Pipeline, "eta", |s| {
            *s = json!({ "effectiveLevel": { "level": level } });
        });
        broken(&turn.story)
    };
    assert_eq!(shown("SemiAutomated"), [""; 0]);
    assert_eq!(shown(HUMAN), ["I18"]);
}
