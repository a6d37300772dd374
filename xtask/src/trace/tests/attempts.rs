use serde_json::json;

use super::story::By;
use super::turn::Turn;
use super::{broken, first};
use crate::trace::Kind;

const LEVEL: &str = "FullyAutomated";

fn one_attempt() -> Turn {
    let mut turn = Turn::begin(LEVEL);
    turn.intend("train", 1, LEVEL);
    turn.job("train", 1);
    turn
}

#[test]
fn a_second_attempt_after_a_failed_one_is_fine() {
    let mut turn = one_attempt();
    turn.job_ends("train", 1, "Failed");
    turn.fails("train");
    turn.intend("train", 2, LEVEL);
    turn.job("train", 2);
    assert_eq!(broken(&turn.story), [""; 0]);
}

#[test]
fn a_second_attempt_after_a_lost_job_is_fine() {
    let mut turn = one_attempt();
    turn.story.delete(By::User, &Kind::Job, "eta-1-train-1");
    turn.fails("train");
    turn.intend("train", 2, LEVEL);
    turn.job("train", 2);
    assert_eq!(broken(&turn.story), [""; 0]);
}

#[test]
fn a_second_attempt_while_the_first_runs_breaks_i1() {
    let mut turn = one_attempt();
    turn.fails("train");
    turn.intend("train", 2, LEVEL);
    turn.job("train", 2);
    assert_eq!(broken(&turn.story), ["I1"]);
    assert!(first(&turn.story).contains("has not ended"), "{}", first(&turn.story));
}

#[test]
fn a_second_attempt_whose_predecessor_was_never_recorded_breaks_i1() {
    let mut turn = one_attempt();
    turn.job_ends("train", 1, "Failed");
    turn.intend("train", 2, LEVEL);
    turn.job("train", 2);
    assert_eq!(broken(&turn.story), ["I1"]);
}

#[test]
fn a_second_job_of_the_same_attempt_breaks_i1() {
    let mut turn = one_attempt();
    turn.story.delete(By::Operator, &Kind::Job, "eta-1-train-1");
    turn.job("train", 1);
    assert_eq!(broken(&turn.story), ["I1"]);
    assert!(first(&turn.story).contains("second Job"));
}

#[test]
fn the_same_attempt_after_somebody_took_the_status_away_is_fine() {
    let mut turn = one_attempt();
    turn.story.delete(By::Operator, &Kind::Job, "eta-1-train-1");
    turn.story.status(By::User, &Kind::Run, "eta-1", |s| *s = json!({}));
    turn.story.status(By::Operator, &Kind::Run, "eta-1", |s| {
        *s = json!({ "snapshot": { "name": "eta-abc" }, "stages": [{ "name": "train", "type": "Train", "state": "Pending", "attempt": 0 }] });
    });
    turn.intend("train", 1, LEVEL);
    turn.job("train", 1);
    assert_eq!(broken(&turn.story), [""; 0]);
}

#[test]
fn a_job_without_intent_breaks_i1() {
    let mut turn = Turn::begin(LEVEL);
    turn.job("train", 1);
    assert_eq!(broken(&turn.story), ["I1"]);
    assert!(first(&turn.story).contains("no intent"));
}

#[test]
fn more_attempts_than_the_limit_break_i1() {
    let mut turn = Turn::begin(LEVEL);
    for attempt in 1..=4 {
        turn.intend("train", attempt, LEVEL);
        turn.job("train", attempt);
        turn.job_ends("train", attempt, "Failed");
        turn.fails("train");
    }
    assert_eq!(broken(&turn.story), ["I1"]);
    assert!(first(&turn.story).contains("retry.limit is 2"));
}

#[test]
fn a_job_that_a_user_makes_is_not_the_operators_fault() {
    let mut turn = one_attempt();
    turn.story.create(
        By::User,
        &Kind::Job,
        "forged",
        json!({ "metadata": { "labels": { "flywheel.dev/run-uid": turn.run_uid() } } }),
    );
    assert_eq!(broken(&turn.story), [""; 0]);
}
