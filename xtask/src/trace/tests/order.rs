use flywheel_api::names;
use serde_json::json;

use super::story::By;
use super::turn::Turn;
use super::{broken, first};
use crate::trace::Kind;

const LEVEL: &str = "FullyAutomated";

#[test]
fn phases_that_skip_an_edge_break_i13() {
    for (from, to) in [
        ("Preparing", "Holding"),
        ("Observing", "Progressing"),
        ("RolledBack", "Progressing"),
    ] {
        let mut turn = Turn::judged(LEVEL);
        turn.deliver(LEVEL);
        turn.story
            .status(By::User, &Kind::Rollout, "eta-1", |s| s["phase"] = json!(from));
        turn.phase(to, |_| {});
        assert_eq!(broken(&turn.story), ["I13"], "{from} → {to}");
    }
}

#[test]
fn phases_that_go_back_by_a_declared_edge_are_fine() {
    for (from, to) in [
        ("Holding", "Progressing"),
        ("Promoted", "RollingBack"),
        ("", "Progressing"),
    ] {
        let mut turn = Turn::judged(LEVEL);
        turn.deliver(LEVEL);
        turn.story
            .status(By::User, &Kind::Rollout, "eta-1", |s| s["phase"] = json!(from));
        turn.phase(to, |_| {});
        assert_eq!(broken(&turn.story), [""; 0], "{from} → {to}");
    }
}

#[test]
fn an_outcome_that_changes_breaks_i13() {
    let mut turn = Turn::begin(LEVEL);
    turn.story
        .status(By::Operator, &Kind::Run, "eta-1", |s| s["outcome"] = json!("Failed"));
    turn.story
        .status(By::Operator, &Kind::Run, "eta-1", |s| s["outcome"] = json!("Cancelled"));
    assert_eq!(broken(&turn.story), ["I13"]);
}

#[test]
fn attempts_that_fall_or_skip_break_i13() {
    for attempts in [[2, 1], [1, 3]] {
        let mut turn = Turn::begin(LEVEL);
        turn.story.status(By::User, &Kind::Run, "eta-1", |s| {
            s["stages"][0]["attempt"] = json!(attempts[0]);
        });
        turn.stage("train", |s| s["attempt"] = json!(attempts[1]));
        assert_eq!(broken(&turn.story), ["I13"], "{attempts:?}");
    }
}

#[test]
fn a_finished_stage_that_runs_again_breaks_i13() {
    let mut turn = Turn::begin(LEVEL);
    turn.stages(LEVEL);
    turn.stage("train", |s| s["state"] = json!("Running"));
    assert_eq!(broken(&turn.story), ["I13"]);
}

#[test]
fn observed_generations_that_fall_or_run_ahead_break_i13() {
    for generation in [0, 2] {
        let mut turn = Turn::begin(LEVEL);
        turn.story.status(By::Operator, &Kind::Run, "eta-1", |s| {
            s["observedGeneration"] = json!(generation);
        });
        assert_eq!(broken(&turn.story), ["I13"], "{generation}");
    }
}

#[test]
fn numbers_that_were_used_before_break_i13() {
    let again = |name: &str| {
        let mut turn = Turn::begin(LEVEL);
        let pipeline = turn.story.uid(&Kind::Pipeline, "eta");
        let owner = json!([{ "kind": "FlywheelPipeline", "uid": pipeline, "controller": true }]);
        turn.story.delete(By::User, &Kind::Run, "eta-1");
        turn.story.create(
            By::Operator,
            &Kind::Run,
            name,
            json!({
            "metadata": { "ownerReferences": owner, "labels": { names::LABEL_PIPELINE_UID: pipeline } },
            "spec": { "pipelineRef": { "name": "eta" } } }),
        );
        broken(&turn.story)
    };
    assert_eq!(again("eta-2"), [""; 0]);
    assert_eq!(again("eta-1"), ["I13"]);
}

#[test]
fn a_version_below_one_that_exists_breaks_i13() {
    let mut turn = Turn::begin(LEVEL);
    turn.story.create(
        By::User,
        &Kind::Version,
        "imported",
        json!({ "spec": { "modelName": "eta", "version": 7 } }),
    );
    turn.stages(LEVEL);
    turn.register();
    assert_eq!(broken(&turn.story), ["I13"]);
    assert!(first(&turn.story).contains("number 7"));
}

#[test]
fn a_rejected_version_that_becomes_approved_breaks_i13() {
    let mut turn = Turn::judged(LEVEL);
    for state in ["Rejected", "Approved"] {
        turn.story.status(By::Operator, &Kind::Version, "eta-1", |s| {
            *s = json!({ "state": state });
        });
    }
    assert_eq!(broken(&turn.story), ["I13"]);
}
