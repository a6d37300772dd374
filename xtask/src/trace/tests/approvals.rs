use serde_json::json;

use super::story::By;
use super::turn::{Turn, decide};
use super::{broken, first};
use crate::trace::Kind;

const HUMAN: &str = "HumanOversight";

/// A version waits for its delivery; the digest of what it shows.
fn waiting(rule: serde_json::Value) -> (Turn, String) {
    let mut turn = Turn::with(HUMAN, |spec| spec["approvals"] = rule);
    turn.stages(HUMAN);
    turn.register();
    turn.judge("Pass");
    let digest = turn.ask("Promote", HUMAN);
    (turn, digest)
}

#[test]
fn a_delivery_that_a_person_approved_is_fine() {
    let (mut turn, digest) = waiting(json!([]));
    turn.approval("by-jane", "jane", "Approve", "Promote", &digest);
    turn.approved("Promote", &digest);
    turn.deliver(HUMAN);
    turn.candidate();
    assert_eq!(broken(&turn.story), [""; 0]);
}

#[test]
fn a_delivery_that_nobody_approved_breaks_i3() {
    let (mut turn, digest) = waiting(json!([]));
    turn.deliver(HUMAN);
    assert_eq!(broken(&turn.story), ["I3"]);
    let (mut forged, _) = waiting(json!([]));
    forged.approved("Promote", &digest);
    forged.deliver(HUMAN);
    assert_eq!(
        broken(&forged.story),
        ["I3"],
        "the record names no Approval that exists"
    );
}

#[test]
fn approvals_that_do_not_count_break_i3() {
    type Case = (&'static str, fn(&mut Turn, &str));
    let cases: [Case; 6] = [
        ("other evidence", |turn, _| {
            turn.approval("x", "jane", "Approve", "Promote", "sha256:other");
        }),
        ("another gate", |turn, digest| {
            turn.approval("x", "jane", "Approve", "Train", digest);
        }),
        ("a rejection", |turn, digest| {
            turn.approval("x", "jane", "Approve", "Promote", digest);
            turn.approval("y", "bob", "Reject", "Promote", digest);
        }),
        ("expired", |turn, digest| {
            turn.approval("x", "jane", "Approve", "Promote", digest);
            let end = turn.story.second();
            turn.story
                .patch(By::User, &Kind::Approval, "x", |o| o["spec"]["expiresAt"] = json!(end));
            turn.story.wait(60);
        }),
        ("revoked", |turn, digest| {
            turn.approval("x", "jane", "Approve", "Promote", digest);
            turn.approval("y", "jane", "Revoke", "Promote", digest);
            turn.story.patch(By::User, &Kind::Approval, "y", |o| {
                o["spec"]["revokes"] = json!({ "name": "x" });
            });
        }),
        ("deleted", |turn, digest| {
            turn.approval("x", "jane", "Approve", "Promote", digest);
            turn.story.delete(By::User, &Kind::Approval, "x");
        }),
    ];
    for (name, case) in cases {
        let (mut turn, digest) = waiting(json!([]));
        case(&mut turn, &digest);
        turn.approved("Promote", &digest);
        turn.deliver(HUMAN);
        assert_eq!(broken(&turn.story), ["I3"], "{name}");
    }
}

#[test]
fn an_approval_that_another_person_revoked_still_counts() {
    let (mut turn, digest) = waiting(json!([]));
    turn.approval("x", "jane", "Approve", "Promote", &digest);
    turn.approval("y", "bob", "Revoke", "Promote", &digest);
    turn.story.patch(By::User, &Kind::Approval, "y", |o| {
        o["spec"]["revokes"] = json!({ "name": "x" });
    });
    turn.approved("Promote", &digest);
    turn.deliver(HUMAN);
    assert_eq!(broken(&turn.story), [""; 0]);
}

#[test]
fn a_namesakes_approval_breaks_i3() {
    let (mut turn, digest) = waiting(json!([]));
    turn.approval("x", "jane", "Approve", "Promote", &digest);
    turn.story.patch(By::User, &Kind::Approval, "x", |o| {
        o["spec"]["subjectRef"]["uid"] = json!("namesake");
    });
    turn.approved("Promote", &digest);
    turn.deliver(HUMAN);
    assert_eq!(broken(&turn.story), ["I3"]);
}

#[test]
fn a_rule_of_two_needs_two_people() {
    let rule = json!([{ "gate": "Promote", "minApprovals": 2 }]);
    let approved = |people: &[&str]| {
        let (mut turn, digest) = waiting(rule.clone());
        for (index, person) in people.iter().enumerate() {
            turn.approval(&format!("x{index}"), person, "Approve", "Promote", &digest);
        }
        turn.approved("Promote", &digest);
        turn.deliver(HUMAN);
        broken(&turn.story)
    };
    assert_eq!(approved(&["jane", "bob"]), [""; 0]);
    assert_eq!(approved(&["jane", "jane"]), ["I3"]);
}

#[test]
fn separation_of_duties_leaves_the_requester_out() {
    let approved = |separate: bool| {
        let (mut turn, digest) = waiting(json!([{ "gate": "Promote", "separationOfDuties": separate }]));
        turn.story.patch(By::User, &Kind::Run, "eta-1", |o| {
            o["spec"]["requestedBy"] = json!("jane");
        });
        turn.approval("x", "jane", "Approve", "Promote", &digest);
        turn.approved("Promote", &digest);
        turn.deliver(HUMAN);
        broken(&turn.story)
    };
    assert_eq!(approved(false), [""; 0]);
    assert_eq!(approved(true), ["I3"]);
}

#[test]
fn evidence_that_is_not_what_its_digest_says_breaks_i3() {
    let (mut turn, _) = waiting(json!([]));
    turn.story.status(By::Operator, &Kind::Run, "eta-1", |s| {
        s["waitingFor"]["evidence"] = json!("{}");
    });
    assert_eq!(broken(&turn.story), ["I3"]);
}

#[test]
fn delivering_on_evidence_that_changed_since_breaks_i3() {
    let (mut turn, digest) = waiting(json!([]));
    turn.approval("x", "jane", "Approve", "Promote", &digest);
    turn.approved("Promote", &digest);
    turn.story.status(By::Operator, &Kind::Run, "eta-1", |s| {
        s["gates"][0]["value"] = json!("4.2");
    });
    turn.deliver(HUMAN);
    assert_eq!(broken(&turn.story), ["I3"]);
    assert!(first(&turn.story).contains("another verdicts of gates"));
}

#[test]
fn a_level_that_is_stricter_than_the_spec_is_fine() {
    let mut turn = Turn::judged("FullyAutomated");
    let digest = turn.ask("Promote", "SemiAutomated");
    turn.approval("x", "jane", "Approve", "Promote", &digest);
    turn.approved("Promote", &digest);
    turn.deliver("SemiAutomated");
    assert_eq!(broken(&turn.story), [""; 0], "the administrator's ceiling");
}

#[test]
fn semi_automated_training_needs_an_approval() {
    let semi = "SemiAutomated";
    let mut turn = Turn::begin(semi);
    turn.intend("train", 1, semi);
    assert_eq!(broken(&turn.story), ["I3"]);
    let mut turn = Turn::begin(semi);
    let digest = turn.ask("Train", semi);
    turn.approval("x", "jane", "Approve", "Train", &digest);
    turn.approved("Train", &digest);
    turn.intend("train", 1, semi);
    assert_eq!(broken(&turn.story), [""; 0]);
}

#[test]
fn manual_training_needs_a_run_that_a_user_asked_for() {
    let mut turn = Turn::begin("Manual");
    turn.intend("train", 1, "Manual");
    assert_eq!(broken(&turn.story), ["I3"]);
    let mut asked = Turn::begin("Manual");
    asked.story.patch(By::User, &Kind::Run, "eta-1", |o| {
        o["spec"]["trigger"]["type"] = json!("Request");
    });
    asked.intend("train", 1, "Manual");
    assert_eq!(broken(&asked.story), [""; 0]);
}

#[test]
fn a_candidate_without_a_delivery_breaks_i3() {
    let mut turn = Turn::judged("FullyAutomated");
    turn.rollout();
    turn.make_candidate();
    assert_eq!(broken(&turn.story), ["I3"]);
}

#[test]
fn a_rollout_that_a_user_made_needs_no_delivery_whatever_run_it_names() {
    let run = |turn: &Turn| json!({ "name": "eta-1", "uid": turn.run_uid() });
    let nobody = |_: &Turn| json!({ "name": "nobody", "uid": "nobody" });
    for named in [|_: &Turn| json!(null), run, nobody] {
        let mut turn = Turn::judged("FullyAutomated");
        let spec = json!({ "plan": turn.plan(), "runRef": named(&turn) });
        turn.story
            .create(By::User, &Kind::Rollout, "eta-1", json!({ "spec": spec }));
        turn.candidate();
        turn.checks(&[("errors", "Pass")]);
        turn.next_step("", None);
        turn.hold();
        turn.checks(&[("errors", "Pass"), ("late", "Pass")]);
        turn.promote("", None);
        turn.bind();
        turn.end();
        assert_eq!(broken(&turn.story), [""; 0]);
    }
}

/// A step with an approval of its own, left with this digest.
fn left(approve: impl FnOnce(&mut Turn, &str), index: i64, desired: &str) -> Vec<&'static str> {
    let mut turn = Turn::judged("FullyAutomated");
    turn.deliver("FullyAutomated");
    let desired = desired.to_owned();
    turn.story.patch(By::User, &Kind::Rollout, "eta-1", |o| {
        o["spec"]["plan"]["strategy"]["steps"][0]["approval"] = json!({ "minApprovals": 1 });
        o["spec"]["desiredState"] = json!(desired);
    });
    turn.candidate();
    let subject = json!({ "kind": "Rollout", "name": "eta-1", "uid": turn.story.uid(&Kind::Rollout, "eta-1") });
    let digest = turn.wait_for(
        &Kind::Rollout,
        "RolloutStep",
        &subject,
        &json!({ "step": { "index": index } }),
    );
    turn.checks(&[("errors", "Pass")]);
    approve(&mut turn, &digest);
    turn.next_step("FullyAutomated", Some(&digest));
    broken(&turn.story)
}

#[test]
fn a_step_with_an_approval_is_left_with_one_only() {
    let approve = |turn: &mut Turn, digest: &str| turn.approval("x", "jane", "Approve", "RolloutStep", digest);
    assert_eq!(left(approve, 0, "Progress"), [""; 0]);
    assert_eq!(left(|_, _| (), 0, "Progress"), ["I3"]);
    assert_eq!(left(approve, 1, "Progress"), ["I3"], "evidence of another step");
    assert_eq!(left(|_, _| (), 0, "Promote"), ["I3"], "who hurries approves nothing");
}

#[test]
fn every_step_at_level_manual_needs_an_approval() {
    let mut turn = Turn::held();
    turn.story.patch(By::User, &Kind::Pipeline, "eta", |o| {
        o["spec"]["automationLevel"] = json!("Manual");
    });
    turn.story.wait(30);
    turn.checks(&[("errors", "Pass")]);
    turn.phase("Progressing", |s| {
        s["step"] = json!({ "index": 1, "name": "half" });
        decide(s, "NextStep", "Manual", None);
    });
    assert_eq!(broken(&turn.story), ["I3"]);
}

/// A delivery that a person approved on this evidence.
fn delivered_on(turn: &mut Turn, digest: &str) -> Vec<&'static str> {
    turn.approval("x", "jane", "Approve", "Promote", digest);
    turn.approved("Promote", digest);
    turn.deliver(HUMAN);
    broken(&turn.story)
}

#[test]
fn a_delivery_on_evidence_that_nobody_was_shown_breaks_i3() {
    let mut turn = Turn::judged(HUMAN);
    assert_eq!(delivered_on(&mut turn, "sha256:guessed"), ["I3"]);
    assert!(first(&turn.story).contains("which it never showed"));
    let mut elsewhere = Turn::judged(HUMAN);
    let evidence = json!({ "gate": "Promote", "level": HUMAN });
    let digest = elsewhere.wait_for(&Kind::Version, "Promote", &json!({}), &evidence);
    assert_eq!(
        delivered_on(&mut elsewhere, &digest),
        ["I3"],
        "another object showed it"
    );
}

#[test]
fn training_and_steps_on_evidence_that_nobody_was_shown_break_i3() {
    let semi = "SemiAutomated";
    let mut turn = Turn::begin(semi);
    turn.approval("x", "jane", "Approve", "Train", "sha256:guessed");
    turn.approved("Train", "sha256:guessed");
    turn.intend("train", 1, semi);
    assert_eq!(broken(&turn.story), ["I3"]);
    let mut step = Turn::held();
    step.story.patch(By::User, &Kind::Pipeline, "eta", |o| {
        o["spec"]["automationLevel"] = json!("Manual");
    });
    step.checks(&[("errors", "Pass")]);
    step.approval("x", "jane", "Approve", "RolloutStep", "sha256:guessed");
    step.next_step("Manual", Some("sha256:guessed"));
    assert_eq!(broken(&step.story), ["I3"]);
}

#[test]
fn evidence_that_was_shown_before_a_status_was_lost_still_counts() {
    let (mut turn, digest) = waiting(json!([]));
    let before = turn.story.get(&Kind::Run, "eta-1")["status"].clone();
    turn.story.status(By::User, &Kind::Run, "eta-1", |s| *s = json!({}));
    turn.story.status(By::Operator, &Kind::Run, "eta-1", |s| {
        *s = before;
        s["waitingFor"] = json!(null);
    });
    let mut all = delivered_on(&mut turn, &digest);
    all.retain(|i| *i == "I3");
    assert_eq!(all, [""; 0]);
}

#[test]
fn evidence_of_which_the_log_may_not_tell_counts() {
    let (mut lost, digest) = waiting(json!([]));
    let shown = lost.story.requests.last_mut().expect("a request");
    (shown.code, shown.answer) = (504, json!({ "kind": "Status" }));
    assert_eq!(delivered_on(&mut lost, &digest), [""; 0]);
    let mut older = Turn::judged(HUMAN);
    let made = |r: &crate::trace::audit::Request| r.key.kind == Kind::Run && r.code == 201;
    older.story.requests.retain(|r| !made(r));
    let mut all = delivered_on(&mut older, "sha256:shown-before-the-log");
    all.retain(|i| *i == "I3");
    assert_eq!(all, [""; 0]);
}
