use flywheel_api::names;
use serde_json::{Value, json};

use super::story::By;
use super::turn::Turn;
use super::{broken, first};
use crate::trace::Kind;

const LEVEL: &str = "FullyAutomated";

/// A Rollout that a user made, in so many steps without checks, with these annotations.
fn by_hand(count: usize, annotations: Value) -> Turn {
    let mut turn = Turn::judged(LEVEL);
    let mut plan = turn.plan();
    let step = |n: usize| json!({ "name": format!("s{n}"), "weight": 10 * (n + 1) });
    plan["strategy"]["steps"] = (0..count).map(step).collect();
    plan["checks"] = json!([]);
    let rollout = json!({ "metadata": { "annotations": annotations }, "spec": { "plan": plan } });
    turn.story.create(By::User, &Kind::Rollout, "eta-1", rollout);
    turn
}

/// The operator writes that the Rollout is there.
fn at(turn: &mut Turn, phase: &str, index: i64) {
    turn.phase(phase, |s| {
        s["step"] = json!({ "index": index, "name": format!("s{index}") });
    });
}

/// A Rollout in three steps that takes these places one after the other.
fn goes(places: &[(&str, i64)]) -> Turn {
    let mut turn = by_hand(3, json!({}));
    for (phase, index) in places {
        at(&mut turn, phase, *index);
    }
    turn
}

#[test]
fn steps_that_follow_each_other_are_fine() {
    let whole = [
        ("Preparing", 0),
        ("Progressing", 0),
        ("Holding", 0),
        ("Progressing", 1),
        ("Progressing", 2),
        ("Holding", 2),
        ("Promoting", 3),
    ];
    assert_eq!(broken(&goes(&whole).story), [""; 0]);
    let again = [
        ("Preparing", 0),
        ("Progressing", 0),
        ("Progressing", 1),
        ("Holding", 1),
        ("Progressing", 0),
        ("Progressing", 1),
    ];
    assert_eq!(broken(&goes(&again).story), [""; 0], "the target's template changed");
}

#[test]
fn a_rollout_that_begins_with_a_later_step_breaks_i13() {
    for place in [
        ("Preparing", 1),
        ("Progressing", 0),
        ("Progressing", 2),
        ("Promoting", 3),
    ] {
        let turn = goes(&[place]);
        assert_eq!(broken(&turn.story), ["I13"], "{place:?}");
        assert!(first(&turn.story).contains("begins with step"), "{place:?}");
    }
    let nowhere = {
        let mut turn = by_hand(3, json!({}));
        turn.phase("Preparing", |_| {});
        turn
    };
    assert_eq!(broken(&nowhere.story), ["I13"]);
}

#[test]
fn a_rollout_that_begins_again_after_another_one_went_first_begins_with_the_first_step() {
    let second = |index: i64| {
        let mut turn = goes(&[("Preparing", 0), ("Progressing", 0), ("Progressing", 1)]);
        turn.phase("Queued", |s| s["step"] = Value::Null);
        at(&mut turn, "Preparing", index);
        broken(&turn.story)
    };
    assert_eq!(second(0), [""; 0]);
    assert_eq!(second(1), ["I13"]);
}

#[test]
fn a_plan_without_steps_and_a_target_without_replicas_begin_at_full_weight() {
    let mut stepless = by_hand(0, json!({}));
    at(&mut stepless, "Promoting", 0);
    assert_eq!(broken(&stepless.story), [""; 0]);
    let begins = |replicas: i64| {
        let mut turn = by_hand(3, json!({}));
        turn.phase("Promoting", |s| {
            s["baselineReplicas"] = json!(replicas);
            s["step"] = json!({ "index": 3, "name": "full" });
        });
        broken(&turn.story)
    };
    assert_eq!(begins(0), [""; 0]);
    assert_eq!(begins(2), ["I13"]);
}

#[test]
fn a_step_that_is_skipped_breaks_i13() {
    let begun = [("Preparing", 0), ("Progressing", 0), ("Holding", 0)];
    for place in [("Progressing", 2), ("Promoting", 3), ("Promoting", 1)] {
        let turn = goes(&[&begun[..], &[place][..]].concat());
        assert_eq!(broken(&turn.story), ["I13"], "{place:?}");
    }
    let back = [("Progressing", 1), ("Progressing", 2), ("Progressing", 1)];
    let turn = goes(&[&begun[..], &back[..]].concat());
    assert_eq!(broken(&turn.story), ["I13"], "back by one");
    assert!(first(&turn.story).contains("goes from step 2 to step 1"));
}

#[test]
fn a_status_that_was_lost_is_found_again_in_the_middle() {
    let mut wiped = goes(&[("Preparing", 0), ("Progressing", 0)]);
    wiped
        .story
        .status(By::User, &Kind::Rollout, "eta-1", |s| *s = json!({}));
    at(&mut wiped, "Progressing", 2);
    assert_eq!(broken(&wiped.story), [""; 0]);
    at(&mut wiped, "Promoting", 1);
    assert_eq!(broken(&wiped.story), ["I13"], "from then on it counts");
    let mut restored = by_hand(3, json!({ names::ANNOTATION_BEGUN: "{}" }));
    at(&mut restored, "Progressing", 2);
    assert_eq!(broken(&restored.story), [""; 0]);
}

#[test]
fn a_step_that_seems_to_be_skipped_because_the_log_lost_a_write_is_fine() {
    let mut turn = goes(&[("Preparing", 0), ("Progressing", 0), ("Progressing", 1)]);
    let lost = turn.story.requests.last_mut().expect("a request");
    (lost.code, lost.answer) = (504, json!({ "kind": "Status" }));
    at(&mut turn, "Progressing", 2);
    assert_eq!(broken(&turn.story), [""; 0]);
}

#[test]
fn a_plan_that_somebody_changes_on_the_way_says_nothing_of_the_next_step() {
    let mut turn = goes(&[
        ("Preparing", 0),
        ("Progressing", 0),
        ("Progressing", 1),
        ("Progressing", 2),
    ]);
    turn.story.patch(By::User, &Kind::Rollout, "eta-1", |o| {
        o["spec"]["plan"]["strategy"]["steps"] = json!([{ "name": "s0", "weight": 10 }]);
    });
    at(&mut turn, "Promoting", 1);
    assert_eq!(broken(&turn.story), [""; 0]);
}

/// The delivery of a run comes to its last write, which says that the version serves.
fn ends(happens: impl FnOnce(&mut Turn), phase: &str) -> Turn {
    let mut turn = Turn::at_last_step();
    turn.promote(LEVEL, None);
    happens(&mut turn);
    let now = turn.story.second();
    turn.phase(phase, |s| s["promotedAt"] = json!(now));
    turn
}

fn carries(turn: &mut Turn, value: &str) {
    turn.story.patch(By::User, &Kind::Deployment, "eta", |o| {
        o["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"] = json!(value);
    });
}

#[test]
fn a_rollout_that_is_promoted_without_that_its_target_carries_the_version_breaks_i13() {
    for phase in ["Observing", "Promoted"] {
        assert_eq!(broken(&ends(Turn::bind, phase).story), [""; 0], "{phase}");
        let turn = ends(|_| {}, phase);
        assert_eq!(broken(&turn.story), ["I13"], "{phase}");
        assert!(first(&turn.story).contains("did not carry \"s3://new\""), "{phase}");
    }
}

#[test]
fn a_target_that_somebody_changes_as_the_rollout_ends_is_not_the_operators_fault() {
    let changed = |seconds: i64| {
        let turn = ends(
            |turn| {
                turn.bind();
                carries(turn, "s3://elsewhere");
                turn.story.wait(seconds);
            },
            "Promoted",
        );
        broken(&turn.story)
    };
    assert_eq!(changed(5), [""; 0]);
    assert_eq!(changed(61), ["I13"]);
}

#[test]
fn a_target_that_was_made_anew_with_the_version_is_not_the_one_that_was_promoted() {
    let turn = ends(
        |turn| {
            let mut twin = turn.story.get(&Kind::Deployment, "eta");
            turn.story.delete(By::User, &Kind::Deployment, "eta");
            twin["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"] = json!("s3://new");
            turn.story.create(By::User, &Kind::Deployment, "eta", twin);
        },
        "Promoted",
    );
    assert_eq!(broken(&turn.story), ["I13"]);
}
