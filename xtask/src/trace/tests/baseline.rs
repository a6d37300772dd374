use serde_json::{Value, json};

use super::broken;
use super::story::By;
use super::turn::{MODEL, Turn};
use crate::trace::Kind;

const LEVEL: &str = "FullyAutomated";

/// The operator sets the binding of the target.
fn set(turn: &mut Turn, by: By, value: &str) {
    let value = value.to_owned();
    turn.story.patch(by, &Kind::Deployment, "eta", |o| {
        o["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"] = json!(value);
    });
}

/// The target carries the version.
fn bound() -> Turn {
    let mut turn = Turn::at_last_step();
    turn.promote(LEVEL, None);
    turn.bind();
    turn
}

fn back(turn: &mut Turn, value: &str) {
    turn.story.wait(30);
    turn.phase("RollingBack", |_| {});
    set(turn, By::Operator, value);
    turn.story.delete(By::Operator, &Kind::Deployment, "eta-candidate");
    turn.story.wait(30);
    turn.phase("RolledBack", |_| {});
}

#[test]
fn the_way_back_sets_the_recorded_value() {
    let mut turn = bound();
    back(&mut turn, "s3://old");
    assert_eq!(broken(&turn.story), [""; 0]);
}

#[test]
fn the_way_back_to_another_value_breaks_i4() {
    let mut turn = bound();
    back(&mut turn, "s3://older");
    assert_eq!(broken(&turn.story), ["I4"]);
}

#[test]
fn a_rollout_that_went_back_and_left_its_value_breaks_i4() {
    let ended = |phase: &str, other: Option<&str>, seconds: i64| {
        let mut turn = bound();
        turn.phase("RollingBack", |_| {});
        turn.story.delete(By::Operator, &Kind::Deployment, "eta-candidate");
        if let Some(other) = other {
            set(&mut turn, By::User, other);
        }
        turn.story.wait(seconds);
        turn.phase(phase, |_| {});
        broken(&turn.story)
    };
    assert_eq!(ended("RolledBack", None, 30), ["I4"]);
    assert_eq!(ended("Aborted", None, 30), ["I4"]);
    assert_eq!(ended("Failed", None, 30), [""; 0], "nothing is left to go back");
    assert_eq!(
        ended("RolledBack", Some("s3://users"), 30),
        [""; 0],
        "what others set is left alone"
    );
}

#[test]
fn a_target_that_others_set_to_the_version_in_the_last_moment_is_no_fault() {
    let mut turn = bound();
    turn.story.wait(30);
    turn.phase("RollingBack", |_| {});
    set(&mut turn, By::Operator, "s3://old");
    set(&mut turn, By::User, "s3://new");
    turn.phase("RolledBack", |_| {});
    assert_eq!(broken(&turn.story), [""; 0]);
}

#[test]
fn overwriting_what_others_set_breaks_i4() {
    let mut turn = Turn::at_last_step();
    turn.promote(LEVEL, None);
    set(&mut turn, By::User, "s3://drifted");
    turn.bind();
    assert_eq!(broken(&turn.story), ["I4"]);
}

#[test]
fn a_value_that_a_person_adopted_is_the_new_baseline() {
    let mut turn = Turn::at_last_step();
    set(&mut turn, By::User, "s3://drifted");
    turn.phase("Holding", |s| s["baseline"]["value"] = json!("s3://drifted"));
    turn.promote(LEVEL, None);
    turn.bind();
    back(&mut turn, "s3://drifted");
    assert_eq!(broken(&turn.story), [""; 0]);
}

#[test]
fn binding_before_the_promotion_breaks_i4() {
    let mut turn = Turn::held();
    turn.bind();
    assert_eq!(broken(&turn.story), ["I4"]);
}

#[test]
fn a_promotions_write_that_hangs_may_arrive_after_the_way_back_began() {
    let late = |seconds: i64| {
        let mut turn = Turn::at_last_step();
        turn.promote(LEVEL, None);
        turn.story.wait(30);
        turn.phase("RollingBack", |_| {});
        turn.story.wait(seconds);
        turn.bind();
        broken(&turn.story)
    };
    assert_eq!(late(40), [""; 0]);
    assert_eq!(late(90), ["I4"]);
}

#[test]
fn a_target_that_is_deleted_or_emptied_breaks_i4() {
    let mut turn = Turn::held();
    turn.story.delete(By::Operator, &Kind::Deployment, "eta");
    assert!(broken(&turn.story).contains(&"I4"));
    let mut by_user = Turn::held();
    by_user.story.delete(By::User, &Kind::Deployment, "eta");
    assert_eq!(broken(&by_user.story), [""; 0]);
    let mut emptied = Turn::held();
    emptied.story.patch(By::Operator, &Kind::Deployment, "eta", |o| {
        o["spec"]["replicas"] = json!(0);
    });
    assert!(broken(&emptied.story).contains(&"I4"));
}

#[test]
fn a_version_to_which_a_rollout_would_go_back_is_not_deleted() {
    let deleted = |phase: &str, seconds: i64| {
        let mut turn = Turn::held();
        let labels = json!({ "flywheel.dev/run-uid": turn.run_uid() });
        let version: Value = json!({ "metadata": { "labels": labels }, "spec": { "modelName": "eta", "version": 2,
            "artifact": { "uri": "s3://new", "digest": MODEL } } });
        turn.story.create(By::Operator, &Kind::Version, "eta-0", version);
        turn.story.status(By::User, &Kind::Rollout, "eta-1", |s| {
            s["phase"] = json!(phase);
            s["baseline"]["version"] = json!("eta-0");
        });
        turn.story.wait(seconds);
        turn.story.delete(By::Operator, &Kind::Version, "eta-0");
        broken(&turn.story)
    };
    assert_eq!(deleted("Holding", 30), ["I4"]);
    assert_eq!(deleted("Holding", 1), [""; 0], "what needs it began in this moment");
    assert_eq!(deleted("RollingBack", 30), ["I4"]);
}
