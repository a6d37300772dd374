use serde_json::json;

use super::story::By;
use super::turn::Turn;
use super::{broken, first};
use crate::trace::Kind;

/// The operator says so many new things in the status of the run.
fn chatter(turn: &mut Turn, times: usize) {
    for number in 0..times {
        turn.story.status(By::Operator, &Kind::Run, "eta-1", |s| {
            s["stage"] = json!(format!("thought {number}"));
        });
    }
}

/// A turn takes some writes, and these are more.
fn turn_with(chatters: usize) -> Turn {
    let mut turn = Turn::judged("FullyAutomated");
    chatter(&mut turn, chatters);
    turn
}

#[test]
fn a_run_that_writes_more_than_forty_times_breaks_i20() {
    assert_eq!(broken(&turn_with(20).story), [""; 0]);
    let turn = turn_with(40);
    assert_eq!(broken(&turn.story), ["I20"]);
    assert!(
        first(&turn.story).contains("where 40 are enough"),
        "{}",
        first(&turn.story)
    );
}

#[test]
fn what_others_write_may_have_to_be_followed() {
    let mut turn = turn_with(0);
    for number in 0..20 {
        turn.story.patch(By::User, &Kind::Pipeline, "eta", |o| {
            o["metadata"]["labels"] = json!({ "number": number.to_string() });
        });
        chatter(&mut turn, 2);
        turn.story.wait(30);
    }
    assert_eq!(broken(&turn.story), [""; 0]);
}

#[test]
fn a_status_that_was_taken_away_is_found_again() {
    let mut turn = turn_with(10);
    turn.story.status(By::User, &Kind::Run, "eta-1", |s| *s = json!({}));
    chatter(&mut turn, 30);
    assert_eq!(broken(&turn.story), [""; 0]);
    chatter(&mut turn, 30);
    assert_eq!(broken(&turn.story), ["I20"], "once, not again and again");
}

#[test]
fn pods_that_come_and_go_are_no_reason_to_write() {
    let mut turn = turn_with(0);
    for ready in 0..20 {
        turn.story.status(By::User, &Kind::Deployment, "eta", |s| {
            s["readyReplicas"] = json!(ready);
        });
        chatter(&mut turn, 2);
    }
    assert_eq!(broken(&turn.story), ["I20"]);
}

#[test]
fn each_attempt_has_its_writes() {
    let mut turn = Turn::begin("FullyAutomated");
    for attempt in 1..=3 {
        turn.intend("train", attempt, "FullyAutomated");
        turn.job("train", attempt);
        turn.job_ends("train", attempt, "Failed");
        turn.fails("train");
    }
    chatter(&mut turn, 20);
    assert_eq!(broken(&turn.story), [""; 0]);
}

#[test]
fn what_is_refused_or_changes_nothing_is_no_write_of_a_run() {
    let mut turn = turn_with(0);
    for _ in 0..50 {
        turn.story.refused(By::Operator, "update", &Kind::Run, "eta-1", 409);
        turn.story.wait(10);
    }
    assert_eq!(broken(&turn.story), [""; 0]);
}
