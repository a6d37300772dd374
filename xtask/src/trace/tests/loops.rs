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
    assert_eq!(written(&TO_AND_FRO, others_write), [""; 0]);
    assert_eq!(
        written(&TO_AND_FRO, |turn| turn.story.wait(30)),
        [""; 0],
        "an administrator's switch"
    );
}

fn others_write(turn: &mut Turn) {
    turn.story.patch(By::User, &Kind::Deployment, "eta", |o| {
        o["metadata"]["labels"] = json!({});
    });
}

#[test]
fn a_status_that_goes_to_and_fro_with_an_event_each_time_breaks_i11() {
    let tells = |turn: &mut Turn| {
        let events = Kind::Other("events.events.k8s.io".to_owned());
        turn.story.create(By::Operator, &events, "told", json!({}));
        turn.story.wait(1);
    };
    assert_eq!(written(&TO_AND_FRO, tells), ["I11"], "nobody decides on events");
}

/// The operator writes the time into the status of the run, and then so many times again after that many seconds.
fn dated(times: usize, seconds: i64, between: impl Fn(&mut Turn)) -> Vec<&'static str> {
    let mut turn = Turn::begin("FullyAutomated");
    for _ in 0..=times {
        let now = turn.story.second();
        turn.story.status(By::Operator, &Kind::Run, "eta-1", |s| {
            s["startedAt"] = json!(now);
            s["conditions"] = json!([{ "type": "Ready", "message": format!("Waits since {now}, for room.") }]);
        });
        turn.story.wait(seconds);
        between(&mut turn);
    }
    broken(&turn.story)
}

#[test]
fn a_status_that_brings_nothing_but_another_time_breaks_i11() {
    assert_eq!(dated(2, 1, |_| {}), [""; 0]);
    assert_eq!(dated(3, 1, |_| {}), ["I11"]);
    assert_eq!(dated(3, 15, others_write), ["I11"], "that others write is no reason");
    assert_eq!(dated(6, 40, others_write), [""; 0], "it is seldom, and may be one");
    assert_eq!(dated(3, 600, |_| {}), ["I11"], "nothing else happens");
}

#[test]
fn the_moments_of_a_schedule_are_told_each_time() {
    let told = |seconds: i64| {
        let mut turn = Turn::begin("FullyAutomated");
        for _ in 0..6 {
            let now = turn.story.second();
            turn.story.status(By::Operator, &Kind::Pipeline, "eta", |s| {
                s["lastScheduleTime"] = json!(now);
            });
            turn.story.wait(seconds);
        }
        broken(&turn.story)
    };
    assert_eq!(told(60), [""; 0]);
    assert_eq!(told(10), ["I11"], "no schedule has moments so close to each other");
}

#[test]
fn a_check_that_is_answered_before_its_interval_has_passed_breaks_i11() {
    let answered = |seconds: i64, interval: &str| {
        let mut turn = Turn::held();
        turn.story.patch(By::User, &Kind::Rollout, "eta-1", |o| {
            o["spec"]["plan"]["checks"][0]["interval"] = json!(interval);
        });
        for _ in 0..4 {
            turn.checks(&[("errors", "Pass")]);
            turn.story.wait(seconds);
        }
        broken(&turn.story)
    };
    assert_eq!(answered(29, "30s"), [""; 0]);
    assert_eq!(answered(27, "30s"), ["I11"]);
    assert_eq!(answered(27, "20s"), [""; 0]);
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
