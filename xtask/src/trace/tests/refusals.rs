use super::broken;
use super::story::By;
use super::turn::Turn;
use crate::trace::Kind;

/// A Job is refused with this code so many times.
fn refused(code: u16, times: usize, between: impl Fn(&mut Turn)) -> Vec<&'static str> {
    let mut turn = Turn::begin("FullyAutomated");
    for _ in 0..times {
        turn.story
            .refused(By::Operator, "create", &Kind::Job, "eta-1-train-1", code);
        between(&mut turn);
    }
    broken(&turn.story)
}

#[test]
fn a_request_that_is_refused_again_and_again_breaks_i20() {
    assert_eq!(refused(403, 13, |_| {}), ["I20"]);
    assert_eq!(refused(403, 12, |_| {}), [""; 0]);
    assert_eq!(refused(403, 30, |turn| turn.story.wait(6)), [""; 0], "seldom enough");
    assert_eq!(refused(409, 30, |_| {}), [""; 0], "the next try may succeed");
}

#[test]
fn trying_again_after_others_wrote_something_is_fine() {
    let others = |turn: &mut Turn| {
        turn.story.patch(By::User, &Kind::Deployment, "eta", |o| {
            o["metadata"]["labels"] = serde_json::json!({});
        });
    };
    assert_eq!(refused(403, 30, others), [""; 0]);
    let own = |turn: &mut Turn| {
        let number = turn.story.requests.len();
        turn.stage("train", |s| {
            s["failure"] = serde_json::json!({ "reason": format!("refused at {number}") });
        });
    };
    assert_eq!(refused(403, 30, own), ["I20"], "its own writes are no reason");
}

#[test]
fn what_users_try_is_their_own_affair() {
    let mut turn = Turn::begin("FullyAutomated");
    for _ in 0..30 {
        turn.story.refused(By::User, "patch", &Kind::Pipeline, "eta", 422);
    }
    assert_eq!(broken(&turn.story), [""; 0]);
}
