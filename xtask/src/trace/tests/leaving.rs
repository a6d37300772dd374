use serde_json::json;

use super::broken;
use super::story::By;
use super::turn::Turn;
use crate::trace::Kind;

fn lets_go(turn: &mut Turn) {
    turn.story.patch(By::Operator, &Kind::Rollout, "eta-1", |o| {
        o["metadata"]["finalizers"] = json!([]);
    });
}

/// The Rollout was deleted and goes back.
fn deleted() -> Turn {
    let mut turn = Turn::held();
    turn.story.delete(By::User, &Kind::Rollout, "eta-1");
    turn.phase("RollingBack", |_| {});
    turn
}

#[test]
fn a_rollout_goes_after_its_candidate() {
    let mut turn = deleted();
    turn.story.delete(By::Operator, &Kind::Deployment, "eta-candidate");
    turn.phase("RolledBack", |_| {});
    lets_go(&mut turn);
    assert_eq!(broken(&turn.story), [""; 0]);
}

#[test]
fn a_rollout_that_goes_before_its_candidate_breaks_i14() {
    let mut turn = deleted();
    turn.phase("RolledBack", |_| {});
    lets_go(&mut turn);
    assert_eq!(broken(&turn.story), ["I14"]);
}

#[test]
fn a_candidate_that_is_being_deleted_or_came_late_is_no_fault() {
    for field in ["deletionTimestamp", "creationTimestamp"] {
        let mut turn = deleted();
        let now = turn.story.second();
        turn.story.patch(By::User, &Kind::Deployment, "eta-candidate", |o| {
            o["metadata"][field] = json!(now);
            o["metadata"]["finalizers"] = json!(["example.com/slow"]);
        });
        turn.phase("RolledBack", |_| {});
        lets_go(&mut turn);
        assert_eq!(broken(&turn.story), [""; 0], "{field}");
    }
}

#[test]
fn a_candidate_that_was_deleted_just_before_its_unreadable_rollout_went_is_not_called_left() {
    let mut turn = Turn::held();
    turn.story.delete(By::User, &Kind::Rollout, "eta-1");
    turn.story.status(By::Operator, &Kind::Rollout, "eta-1", |s| {
        s["conditions"] = json!([{ "type": "Ready", "status": "False", "reason": "Invalid" }]);
    });
    let before = turn.story.get(&Kind::Rollout, "eta-1")["metadata"]["resourceVersion"].clone();
    turn.story.create(By::User, &Kind::Job, "of-somebody-else", json!({}));
    turn.story.delete(By::User, &Kind::Deployment, "eta-candidate");
    lets_go(&mut turn);
    let answer = &mut turn.story.requests.last_mut().expect("a request").answer;
    answer["metadata"]["resourceVersion"] = before;
    assert_eq!(broken(&turn.story), [""; 0]);
}

#[test]
fn a_rollout_that_goes_while_it_works_breaks_i14() {
    let mut turn = deleted();
    turn.story.delete(By::Operator, &Kind::Deployment, "eta-candidate");
    lets_go(&mut turn);
    assert_eq!(broken(&turn.story), ["I14"]);
}

#[test]
fn a_rollout_that_cannot_be_read_goes_in_any_phase_once_it_says_so_and_has_no_candidate() {
    let goes = |says_so: bool, has_candidate: bool| {
        let mut turn = Turn::held();
        turn.story.delete(By::User, &Kind::Rollout, "eta-1");
        if !has_candidate {
            turn.story.delete(By::User, &Kind::Deployment, "eta-candidate");
        }
        if says_so {
            turn.story.status(By::Operator, &Kind::Rollout, "eta-1", |s| {
                s["conditions"] = json!([{ "type": "Ready", "status": "False", "reason": "Invalid" }]);
            });
        }
        lets_go(&mut turn);
        broken(&turn.story)
    };
    assert_eq!(goes(true, false), [""; 0]);
    assert_eq!(goes(false, false), ["I14"]);
    assert_eq!(goes(true, true), ["I14"]);
}

#[test]
fn letting_go_of_what_nobody_deleted_breaks_i14() {
    let mut turn = Turn::at_last_step();
    turn.promote("FullyAutomated", None);
    turn.bind();
    turn.end();
    lets_go(&mut turn);
    assert_eq!(broken(&turn.story), ["I14"]);
}
