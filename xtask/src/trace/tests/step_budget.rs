use serde_json::json;

use super::story::By;
use super::turn::Turn;
use super::{broken, first};
use crate::trace::Kind;

/// The operator says so many new things about the Rollout.
fn chatter(turn: &mut Turn, times: usize) {
    for _ in 0..times {
        let phase = turn.story.get(&Kind::Rollout, "eta-1")["status"]["phase"].clone();
        turn.phase(phase.as_str().expect("a phase"), |s| {
            // Something new each time.
            let thoughts = s["outcomeReason"].as_str().unwrap_or_default();
            s["outcomeReason"] = json!(format!("{thoughts}."));
        });
    }
}

/// At the second step, which is reached.
fn second_step() -> Turn {
    let mut turn = Turn::held();
    turn.checks(&[("errors", "Pass")]);
    turn.next_step("FullyAutomated", None);
    turn.hold();
    turn
}

#[test]
fn a_step_takes_two_writes_of_the_status() {
    assert_eq!(broken(&second_step().story), [""; 0]);
    let mut turn = second_step();
    chatter(&mut turn, 1);
    assert_eq!(broken(&turn.story), ["I20"]);
    assert!(
        first(&turn.story).contains("3 times in step half, where 2 are enough"),
        "{}",
        first(&turn.story)
    );
    chatter(&mut turn, 5);
    assert_eq!(broken(&turn.story), ["I20"], "it is told once");
}

#[test]
fn what_is_waited_for_is_said_and_taken_back() {
    let mut turn = second_step();
    for reason in ["MinDuration", "AwaitingApproval", ""] {
        turn.phase("Holding", |s| s["step"]["holdReason"] = json!(reason));
    }
    assert_eq!(broken(&turn.story), [""; 0]);
    chatter(&mut turn, 3);
    assert_eq!(broken(&turn.story), ["I20"]);
}

#[test]
fn every_answer_of_a_check_may_be_written() {
    let mut turn = second_step();
    for number in 0..20 {
        turn.checks(&[
            ("errors", if number % 2 == 0 { "Pass" } else { "Inconclusive" }),
            ("late", "Pass"),
        ]);
    }
    assert_eq!(broken(&turn.story), [""; 0]);
}

#[test]
fn an_answer_that_was_not_due_is_no_cause() {
    let mut turn = second_step();
    turn.story.patch(By::User, &Kind::Rollout, "eta-1", |o| {
        o["spec"]["plan"]["checks"][0]["interval"] = json!("30s");
    });
    for _ in 0..12 {
        turn.checks(&[("errors", "Pass")]);
    }
    assert!(broken(&turn.story).contains(&"I20"), "{:?}", broken(&turn.story));
}

#[test]
fn a_check_that_is_forgotten_and_answered_anew_is_no_cause() {
    let mut turn = second_step();
    for _ in 0..5 {
        turn.checks(&[("errors", "Pass")]);
        turn.phase("Holding", |s| s["checks"] = json!([]));
    }
    assert_eq!(broken(&turn.story), ["I20"]);
}

#[test]
fn what_others_do_is_followed() {
    let others: [fn(&mut Turn, usize); 3] = [
        |turn, n| {
            turn.story.patch(By::User, &Kind::Rollout, "eta-1", |o| {
                o["spec"]["holdReason"] = json!(n.to_string());
            });
        },
        |turn, n| {
            let n = n.to_string();
            turn.story.patch(By::User, &Kind::Deployment, "eta", |o| {
                o["metadata"]["labels"] = json!({ "n": n });
            });
        },
        |turn, n| {
            turn.story.status(By::User, &Kind::Deployment, "eta-candidate", |s| {
                s["readyReplicas"] = json!(20 - n);
            });
        },
    ];
    for other in others {
        let mut turn = second_step();
        turn.story.status(By::User, &Kind::Deployment, "eta-candidate", |s| {
            s["readyReplicas"] = json!(30);
        });
        for number in 0..10 {
            other(&mut turn, number);
            chatter(&mut turn, 1);
        }
        assert_eq!(broken(&turn.story), [""; 0]);
    }
    let mut turn = second_step();
    for number in 0..10 {
        turn.story.status(By::User, &Kind::Deployment, "eta-candidate", |s| {
            s["readyReplicas"] = json!(number);
        });
        chatter(&mut turn, 1);
    }
    assert_eq!(
        broken(&turn.story),
        ["I20"],
        "pods that become ready are what the step waits for"
    );
}

#[test]
fn a_candidate_is_scaled_once_in_a_step() {
    let scale = |turn: &mut Turn, replicas: usize| {
        turn.story.patch(By::Operator, &Kind::Deployment, "eta-candidate", |o| {
            o["spec"]["replicas"] = json!(replicas);
        });
    };
    let mut turn = second_step();
    scale(&mut turn, 2);
    assert_eq!(broken(&turn.story), [""; 0]);
    scale(&mut turn, 3);
    assert_eq!(broken(&turn.story), ["I20"]);
    let mut turn = second_step();
    scale(&mut turn, 2);
    turn.story.patch(By::User, &Kind::Deployment, "eta-candidate", |o| {
        o["spec"]["replicas"] = json!(9);
    });
    scale(&mut turn, 2);
    assert_eq!(broken(&turn.story), [""; 0], "somebody else scaled it");
}

#[test]
fn a_status_that_was_taken_away_is_found_again() {
    let mut turn = second_step();
    let status = turn.story.get(&Kind::Rollout, "eta-1")["status"].clone();
    turn.story.status(By::User, &Kind::Rollout, "eta-1", |s| *s = json!({}));
    turn.story.status(By::Operator, &Kind::Rollout, "eta-1", |s| {
        *s = status;
        s["phase"] = json!("Progressing");
    });
    chatter(&mut turn, 1);
    assert_eq!(broken(&turn.story), [""; 0]);
}

#[test]
fn the_first_step_also_learns_the_uid_of_its_candidate() {
    let begun = |more: usize| {
        let mut turn = Turn::held();
        chatter(&mut turn, more);
        broken(&turn.story)
    };
    assert_eq!(begun(0), [""; 0]);
    assert_eq!(begun(1), ["I20"]);
}

#[test]
fn the_brake_is_not_in_the_history_and_may_come_and_go() {
    let mut turn = second_step();
    for number in 0..20 {
        let reason = if number % 2 == 0 { "Braked" } else { "StepReached" };
        turn.phase("Holding", |s| {
            s["conditions"] = json!([{ "type": "Ready", "reason": reason }]);
        });
        turn.story.wait(30);
    }
    assert_eq!(broken(&turn.story), [""; 0]);
}

#[test]
fn what_a_person_does_just_before_a_promotion_is_followed_in_it() {
    let promotes = |person: bool| {
        let mut turn = Turn::at_last_step();
        if person {
            turn.story.patch(By::User, &Kind::Rollout, "eta-1", |o| {
                o["spec"]["holdReason"] = json!("looked at it");
            });
        }
        turn.promote("FullyAutomated", None);
        chatter(&mut turn, 5);
        broken(&turn.story).iter().filter(|id| **id == "I20").count()
    };
    assert_eq!((promotes(true), promotes(false)), (0, 1));
}
