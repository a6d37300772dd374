use serde_json::json;

use super::broken;
use super::story::By;
use super::turn::Turn;
use crate::trace::Kind;

/// The operator writes these messages into the status of the run, one after the other.
fn written(messages: &[&str], between: impl Fn(&mut Turn)) -> Vec<&'static str> {
    let mut turn = Turn::begin("FullyAutomated");
    for message in messages {
        let now = turn.story.second();
        turn.story.status(By::Operator, &Kind::Run, "eta-1", |s| {
            s["conditions"] = json!([{ "type": "Ready", "message": message, "lastTransitionTime": now }]);
        });
        between(&mut turn);
    }
    broken(&turn.story)
}

const TO_AND_FRO: [&str; 8] = ["a", "b", "a", "b", "a", "b", "a", "b"];

#[test]
fn a_status_that_goes_to_and_fro_breaks_i11() {
    assert_eq!(written(&TO_AND_FRO, |turn| turn.story.wait(1)), ["I11"]);
    assert_eq!(written(&TO_AND_FRO[..5], |turn| turn.story.wait(1)), [""; 0]);
    assert_eq!(
        written(&["a", "b", "c", "a", "b", "d", "a"], |turn| turn.story.wait(1)),
        [""; 0]
    );
}

#[test]
fn a_status_that_follows_what_others_do_is_fine() {
    let flaps = |turn: &mut Turn| {
        turn.story.patch(By::User, &Kind::Deployment, "eta", |o| {
            o["metadata"]["labels"] = json!({});
        });
    };
    assert_eq!(written(&TO_AND_FRO, flaps), [""; 0]);
    assert_eq!(
        written(&TO_AND_FRO, |turn| turn.story.wait(30)),
        [""; 0],
        "an administrator's switch"
    );
}

#[test]
fn a_check_that_flaps_is_no_loop() {
    let mut turn = Turn::held();
    for _ in 0..4 {
        turn.checks(&[("errors", "Pass")]);
        turn.checks(&[("errors", "Inconclusive")]);
    }
    assert_eq!(broken(&turn.story), [""; 0]);
}

#[test]
fn a_status_that_is_written_again_with_nothing_new_breaks_i11() {
    let again = |times: usize| {
        let mut turn = Turn::begin("FullyAutomated");
        for _ in 0..times {
            turn.story.again(By::Operator, &Kind::Run, "eta-1");
        }
        broken(&turn.story)
    };
    assert_eq!(again(2), [""; 0]);
    assert_eq!(again(5), ["I11"]);
}

#[test]
fn two_statuses_that_drive_each_other_to_and_fro_break_i11() {
    let mut turn = Turn::held();
    for message in TO_AND_FRO {
        for (kind, name) in [(Kind::Run, "eta-1"), (Kind::Version, "eta-1")] {
            turn.story
                .status(By::Operator, &kind, name, |s| s["stage"] = json!(message));
        }
        turn.story.wait(1);
    }
    assert_eq!(broken(&turn.story), ["I11"]);
}
