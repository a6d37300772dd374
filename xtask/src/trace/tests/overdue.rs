use flywheel_api::names;
use serde_json::json;

use super::story::By;
use super::turn::Turn;
use super::{broken, first};
use crate::trace::Kind;

/// The operator is at work on something else for that many seconds.
fn works(turn: &mut Turn, seconds: i64) {
    for _ in 0..seconds / 10 {
        turn.story.wait(10);
        let look = turn.story.requests.len();
        turn.story.status(By::Operator, &Kind::Policy, "airports", |s| {
            s["conditions"] = json!([{ "type": "Ready", "message": format!("look {look}") }]);
        });
    }
}

fn with_policy(mut turn: Turn) -> Turn {
    turn.story
        .create(By::User, &Kind::Policy, "airports", json!({ "spec": {} }));
    turn
}

/// A promoted Rollout that was deleted.
fn promoted() -> Turn {
    let mut turn = Turn::at_last_step();
    turn.promote("FullyAutomated", None);
    turn.bind();
    turn.end();
    turn.story.delete(By::User, &Kind::Rollout, "eta-1");
    with_policy(turn)
}

fn lets_go(turn: &mut Turn, kind: Kind) {
    turn.story.patch(By::Operator, &kind, "eta-1", |o| {
        o["metadata"]["finalizers"] = json!([]);
    });
}

#[test]
fn a_deleted_rollout_that_is_not_let_go_breaks_i14() {
    let mut turn = promoted();
    works(&mut turn, 80);
    assert_eq!(broken(&turn.story), [""; 0], "it takes a while");
    works(&mut turn, 40);
    assert_eq!(broken(&turn.story), ["I14"]);
    assert!(
        first(&turn.story).contains("has not let it go"),
        "{}",
        first(&turn.story)
    );
    lets_go(&mut turn, Kind::Rollout);
    works(&mut turn, 300);
    assert_eq!(broken(&turn.story), ["I14"], "it is told once");
}

#[test]
fn a_deleted_rollout_that_is_let_go_is_fine() {
    let mut turn = promoted();
    works(&mut turn, 20);
    lets_go(&mut turn, Kind::Rollout);
    works(&mut turn, 300);
    assert_eq!(broken(&turn.story), [""; 0]);
}

#[test]
fn time_without_an_operator_does_not_count() {
    let mut turn = promoted();
    turn.story.wait(3600);
    turn.story.patch(By::User, &Kind::Policy, "airports", |o| {
        o["metadata"]["labels"] = json!({ "a": "b" });
    });
    works(&mut turn, 20);
    lets_go(&mut turn, Kind::Rollout);
    assert_eq!(broken(&turn.story), [""; 0]);
}

#[test]
fn after_failures_the_operator_makes_longer_pauses() {
    let mut turn = promoted();
    let refused = |turn: &mut Turn| {
        turn.story.refused(By::Operator, "patch", &Kind::Rollout, "eta-1", 500);
    };
    works(&mut turn, 60);
    refused(&mut turn);
    works(&mut turn, 300);
    assert_eq!(broken(&turn.story), [""; 0]);
    works(&mut turn, 120);
    assert_eq!(broken(&turn.story), ["I14"]);
}

/// A deleted Rollout is on its way back, and the target's pods are not all there.
fn going_back() -> Turn {
    let mut turn = Turn::held();
    turn.story.patch(By::User, &Kind::Rollout, "eta-1", |o| {
        o["spec"]["plan"]["progressDeadlineSeconds"] = json!(600);
    });
    turn.story.delete(By::User, &Kind::Rollout, "eta-1");
    let now = turn.story.second();
    turn.phase("RollingBack", |s| s["progressSince"] = json!(now));
    with_policy(turn)
}

#[test]
fn a_rollout_on_its_way_back_waits_for_pods_until_its_deadline() {
    let mut turn = going_back();
    works(&mut turn, 500);
    assert_eq!(broken(&turn.story), [""; 0]);
    works(&mut turn, 300);
    assert_eq!(broken(&turn.story), ["I14"]);
}

#[test]
fn a_rollout_on_its_way_back_whose_pods_are_there_does_not_wait_for_its_deadline() {
    let mut turn = going_back();
    turn.story.status(By::User, &Kind::Deployment, "eta", |s| {
        *s = json!({ "observedGeneration": 1, "replicas": 3, "updatedReplicas": 3, "readyReplicas": 3, "availableReplicas": 3 });
    });
    works(&mut turn, 200);
    assert_eq!(broken(&turn.story), ["I14"]);
}

#[test]
fn a_candidate_on_its_way_out_keeps_its_rollout() {
    let mut turn = promoted();
    let uid = turn.story.uid(&Kind::Rollout, "eta-1");
    turn.story.create(
        By::User,
        &Kind::Deployment,
        "eta-candidate",
        json!({ "metadata": { "labels": { names::LABEL_ROLLOUT_UID: uid }, "finalizers": ["example.com/slow"],
            "deletionTimestamp": "2026-01-01T00:00:00Z" } }),
    );
    works(&mut turn, 300);
    assert_eq!(broken(&turn.story), [""; 0]);
}

/// A deleted version, which served until somebody else put another value in its place.
fn version(replaced: bool) -> Turn {
    let mut turn = Turn::at_last_step();
    turn.story.patch(By::Operator, &Kind::Version, "eta-1", |o| {
        o["metadata"]["finalizers"] = json!([names::FINALIZER_LIVE]);
    });
    turn.promote("FullyAutomated", None);
    turn.bind();
    turn.end();
    turn.story.delete(By::User, &Kind::Version, "eta-1");
    if replaced {
        turn.story.patch(By::User, &Kind::Deployment, "eta", |o| {
            o["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"] = json!("s3://other");
        });
    }
    with_policy(turn)
}

#[test]
fn a_deleted_version_that_serves_is_kept() {
    let mut turn = version(false);
    works(&mut turn, 600);
    assert_eq!(broken(&turn.story), [""; 0]);
}

#[test]
fn a_deleted_version_that_nothing_needs_and_is_not_let_go_breaks_i14() {
    let mut turn = version(true);
    works(&mut turn, 80);
    assert_eq!(broken(&turn.story), [""; 0]);
    works(&mut turn, 40);
    assert_eq!(broken(&turn.story), ["I14"]);
}

#[test]
fn a_deleted_version_is_kept_while_a_rollout_has_it_in_hand() {
    for (phase, baseline) in [
        ("Holding", ""),
        ("Observing", ""),
        ("RollingBack", "eta-1"),
        ("Promoted", "eta-1"),
    ] {
        let mut turn = version(true);
        turn.story.status(By::User, &Kind::Rollout, "eta-1", |s| {
            s["phase"] = json!(phase);
            s["baseline"]["version"] = json!(baseline);
            s["candidate"]["value"] = json!("s3://other");
        });
        works(&mut turn, 300);
        assert_eq!(broken(&turn.story), [""; 0], "{phase}");
    }
}

#[test]
fn nobody_is_let_go_while_a_neighbour_cannot_be_read() {
    let mut turn = version(true);
    turn.story.create(
        By::User,
        &Kind::Rollout,
        "newer",
        json!({ "status": { "conditions": [
        { "type": "Ready", "status": "False", "reason": "Invalid" }] } }),
    );
    works(&mut turn, 300);
    assert_eq!(broken(&turn.story), [""; 0]);
}

/// The operator is at work in another namespace for that many seconds.
fn works_elsewhere(turn: &mut Turn, seconds: i64, credential: &str) {
    let home = std::mem::replace(&mut turn.story.namespace, "b");
    turn.story
        .create(By::User, &Kind::Policy, "airports", json!({ "spec": {} }));
    let begun = turn.story.requests.len();
    works(turn, seconds);
    for request in turn.story.requests.iter_mut().skip(begun) {
        credential.clone_into(&mut request.credential);
    }
    turn.story.namespace = home;
}

#[test]
fn work_elsewhere_counts_if_it_is_the_same_operators() {
    let mut turn = promoted();
    works_elsewhere(&mut turn, 300, "another operator");
    assert_eq!(broken(&turn.story), [""; 0]);
    let mut turn = promoted();
    works_elsewhere(&mut turn, 300, "");
    assert_eq!(broken(&turn.story), ["I14"]);
}
