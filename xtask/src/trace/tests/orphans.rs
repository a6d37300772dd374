use serde_json::json;

use super::story::By;
use super::turn::Turn;
use super::{broken, first};
use crate::trace::Kind;

const COLLECTOR: &str = "system:serviceaccount:kube-system:generic-garbage-collector";

/// The garbage collector removes something else, that many seconds later.
fn collects(turn: &mut Turn, seconds: i64) {
    turn.story.wait(seconds);
    turn.story.create(By::User, &Kind::Job, "other", json!({}));
    turn.story.delete(By::User, &Kind::Job, "other");
    turn.story.requests.last_mut().expect("a deletion").user = COLLECTOR.to_owned();
}

/// A run with a Job that has ended, and is deleted.
fn deleted() -> Turn {
    let mut turn = Turn::judged("FullyAutomated");
    turn.story.delete(By::User, &Kind::Run, "eta-1");
    turn
}

fn without_jobs(turn: &mut Turn) {
    for stage in ["train", "evaluate"] {
        turn.story.delete(By::User, &Kind::Job, &format!("eta-1-{stage}-1"));
    }
}

#[test]
fn the_jobs_of_a_run_go_with_it() {
    let mut turn = deleted();
    without_jobs(&mut turn);
    collects(&mut turn, 300);
    assert_eq!(broken(&turn.story), [""; 0]);
}

#[test]
fn a_job_that_outlives_its_run_breaks_i14() {
    let mut turn = deleted();
    collects(&mut turn, 40);
    assert_eq!(broken(&turn.story), [""; 0], "the garbage collector takes its time");
    collects(&mut turn, 120);
    assert_eq!(broken(&turn.story), ["I14"]);
    assert!(
        first(&turn.story).contains("flywheelruns/eta-1"),
        "{}",
        first(&turn.story)
    );
}

#[test]
fn without_a_garbage_collector_nothing_is_judged() {
    let mut turn = deleted();
    turn.story.wait(3600);
    turn.story.create(By::User, &Kind::Job, "other", json!({}));
    assert_eq!(broken(&turn.story), [""; 0]);
}

#[test]
fn a_job_that_is_on_its_way_out_or_was_given_up_is_no_fault() {
    for field in ["deletionTimestamp", "ownerReferences"] {
        let mut turn = deleted();
        for stage in ["train", "evaluate"] {
            let now = turn.story.second();
            turn.story
                .patch(By::User, &Kind::Job, &format!("eta-1-{stage}-1"), |o| {
                    o["metadata"]["finalizers"] = json!(["example.com/slow"]);
                    o["metadata"][field] = if field == "ownerReferences" {
                        json!([])
                    } else {
                        json!(now)
                    };
                });
        }
        collects(&mut turn, 300);
        assert_eq!(broken(&turn.story), [""; 0], "{field}");
    }
}

#[test]
fn a_job_that_comes_after_its_run_has_gone_must_go_too() {
    let mut turn = Turn::begin("FullyAutomated");
    turn.intend("train", 1, "FullyAutomated");
    let uid = turn.run_uid();
    let job = json!({ "metadata": { "ownerReferences": [{ "kind": "FlywheelRun", "uid": uid, "controller": true }] } });
    turn.story.delete(By::User, &Kind::Run, "eta-1");
    turn.story.create(By::User, &Kind::Job, "late", job);
    collects(&mut turn, 40);
    assert_eq!(broken(&turn.story), [""; 0]);
    collects(&mut turn, 120);
    assert_eq!(broken(&turn.story), ["I14"]);
}

#[test]
fn the_runs_of_a_pipeline_go_with_it() {
    let mut turn = Turn::begin("FullyAutomated");
    turn.story.delete(By::User, &Kind::Pipeline, "eta");
    turn.story.delete(By::User, &Kind::Revision, "eta-abc");
    collects(&mut turn, 180);
    assert_eq!(broken(&turn.story), ["I14"]);
}
