use serde_json::json;

use super::story::{By, Story};
use super::turn::Turn;
use crate::trace::audit::Request;
use crate::trace::{History, Kind, check, render};

#[test]
fn writes_are_ordered_by_revision_and_late_lines_do_not_bring_objects_back() {
    let mut story = Story::new();
    story.create(By::User, &Kind::Job, "j", json!({ "spec": 1 }));
    story.patch(By::User, &Kind::Job, "j", |o| o["spec"] = json!(2));
    story.delete(By::User, &Kind::Job, "j");
    let swapped = |order: [usize; 3]| {
        let requests = order.map(|index| story.requests[index].clone());
        let history = History::fold(requests.to_vec());
        let states = history.steps.iter().map(|s| s.later()["spec"].clone());
        (
            states.collect::<Vec<_>>(),
            history.steps.last().map(|s| s.after.is_none()),
        )
    };
    assert_eq!(swapped([0, 1, 2]), (vec![json!(1), json!(2), json!(null)], Some(true)));
    assert_eq!(swapped([1, 0, 2]), (vec![json!(1), json!(2), json!(null)], Some(true)));
    assert_eq!(swapped([0, 2, 1]).1, Some(true), "the deletion was logged first");
}

#[test]
fn an_object_with_finalizers_is_gone_when_the_last_one_goes() {
    let mut story = Story::new();
    story.create(
        By::User,
        &Kind::Rollout,
        "r",
        json!({ "metadata": { "finalizers": ["x"] } }),
    );
    story.delete(By::User, &Kind::Rollout, "r");
    story.patch(By::Operator, &Kind::Rollout, "r", |o| {
        o["metadata"]["finalizers"] = json!([]);
    });
    let after: Vec<bool> = story.history().steps.iter().map(|s| s.after.is_some()).collect();
    assert_eq!(after, [true, true, false]);
}

#[test]
fn taking_the_last_finalizer_off_a_deleted_object_changes_nothing_of_it() {
    let mut turn = Turn::held();
    turn.story.delete(By::User, &Kind::Rollout, "eta-1");
    turn.phase("RollingBack", |_| {});
    turn.story.delete(By::Operator, &Kind::Deployment, "eta-candidate");
    turn.phase("Aborted", |_| {});
    turn.story.patch(By::Operator, &Kind::Rollout, "eta-1", |o| {
        o["metadata"]["finalizers"] = json!([]);
    });
    assert_eq!(super::broken(&turn.story), Vec::<&str>::new());
}

#[test]
fn a_deletion_that_is_repeated_while_the_object_goes_is_no_deletion_of_a_strangers_object() {
    let mut turn = Turn::held();
    turn.story.delete(By::User, &Kind::Rollout, "eta-1");
    let mut repeated = turn.story.requests.last().expect("a request").clone();
    turn.phase("RollingBack", |_| {});
    turn.story.delete(By::Operator, &Kind::Deployment, "eta-candidate");
    turn.phase("Aborted", |_| {});
    turn.story.patch(By::Operator, &Kind::Rollout, "eta-1", |o| {
        o["metadata"]["finalizers"] = json!([]);
    });
    let last = turn.story.requests.last().expect("a request").clone();
    repeated = Request {
        operator: true,
        user: last.user,
        at: last.at,
        ..repeated
    };
    repeated.answer["metadata"]["resourceVersion"] = last.answer["metadata"]["resourceVersion"].clone();
    turn.story.requests.push(repeated);
    assert_eq!(super::broken(&turn.story), Vec::<&str>::new());
}

#[test]
fn an_answer_with_metadata_alone_takes_nothing_else_away() {
    let mut story = Story::new();
    let object = json!({ "spec": 1, "metadata": { "finalizers": ["x"] } });
    story.create(By::User, &Kind::Rollout, "r", object);
    story.delete(By::User, &Kind::Rollout, "r");
    let answer = &mut story.requests.last_mut().expect("a request").answer;
    answer["kind"] = json!("PartialObjectMetadata");
    answer.as_object_mut().expect("an object").remove("spec");
    let history = story.history();
    let last = history.steps.last().expect("a step");
    assert_eq!(last.later()["spec"], json!(1));
    assert!(!last.later()["metadata"]["deletionTimestamp"].is_null());
}

#[test]
fn a_collection_is_deleted_object_by_object() {
    let mut story = Story::new();
    for (name, finalizers) in [("a", json!(null)), ("b", json!(["x"])), ("c", json!(null))] {
        story.create(
            By::User,
            &Kind::Job,
            name,
            json!({ "metadata": { "finalizers": finalizers } }),
        );
    }
    let items = ["a", "b"].map(|name| story.get(&Kind::Job, name));
    story.refused(By::User, "deletecollection", &Kind::Job, "", 200);
    story.requests.last_mut().expect("a request").answer = json!({ "kind": "JobList", "items": items });
    let history = story.history();
    let gone: Vec<&str> = history
        .steps
        .iter()
        .filter(|s| s.after.is_none())
        .map(|s| s.key.name.as_str())
        .collect();
    assert_eq!(gone, ["a"]);
}

#[test]
fn a_candidate_whose_deletion_is_logged_behind_that_of_all_in_its_namespace_is_not_one_that_nobody_owns() {
    let mut story = Story::new();
    let uid = story.create(By::User, &Kind::Deployment, "web-candidate", json!({}));
    let items = [story.get(&Kind::Deployment, "web-candidate")];
    story.refused(By::User, "deletecollection", &Kind::Deployment, "", 200);
    story.requests.last_mut().expect("a request").answer = json!({ "kind": "DeploymentList", "items": items });
    story.refused(By::Operator, "delete", &Kind::Deployment, "web-candidate", 200);
    story.requests.last_mut().expect("a request").answer =
        json!({ "kind": "Status", "status": "Success", "details": { "uid": uid } });
    let history = story.history();
    assert_eq!(history.steps.len(), 2);
    assert!(check(&history).is_empty(), "{}", render(&history, &check(&history)));
}

#[test]
fn a_write_between_the_listing_and_the_deletion_of_a_collection_hides_no_deletion() {
    let mut story = Story::new();
    let object = json!({ "metadata": { "finalizers": ["x"] }, "status": {} });
    story.create(By::User, &Kind::Version, "b", object);
    let list = json!({ "kind": "ModelVersionList", "metadata": { "resourceVersion": "101" },
        "items": [story.get(&Kind::Version, "b")] });
    story.refused(By::User, "deletecollection", &Kind::Version, "", 200);
    story.requests.last_mut().expect("a request").answer = list;
    story.status(By::Operator, &Kind::Version, "b", |s| s["state"] = json!("Live"));
    story.patch(By::Operator, &Kind::Version, "b", |o| {
        o["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:01Z");
        o["metadata"]["finalizers"] = json!([]);
    });
    let history = story.history();
    let last = history.steps.last().expect("a step");
    assert!(!last.earlier()["metadata"]["deletionTimestamp"].is_null());
    assert!(last.after.is_none());
    assert!(check(&history).is_empty(), "{}", render(&history, &check(&history)));
}

#[test]
fn scaling_changes_the_deployment_and_not_into_a_scale() {
    let mut story = Story::new();
    story.create(
        By::User,
        &Kind::Deployment,
        "d",
        json!({ "spec": { "replicas": 1, "paused": true } }),
    );
    story.status(By::User, &Kind::Deployment, "d", |_| {});
    let last = story.requests.last_mut().expect("a request");
    last.subresource = "scale".to_owned();
    last.answer =
        json!({ "kind": "Scale", "metadata": { "uid": "x", "resourceVersion": "900" }, "spec": { "replicas": 4 } });
    let history = story.history();
    assert_eq!(
        history.steps[1].later()["spec"],
        json!({ "replicas": 4, "paused": true })
    );
}

#[test]
fn lines_of_other_namespaces_and_a_half_written_last_line_do_not_count() {
    let line = |namespace: &str| {
        json!({ "stage": "ResponseComplete", "verb": "create", "user": { "username": "jane" }, "requestURI": "/x",
            "objectRef": { "resource": "jobs", "namespace": namespace, "apiGroup": "batch", "name": "j" },
            "responseStatus": { "code": 201 }, "responseObject": { "metadata": { "uid": "u", "resourceVersion": "5" } } })
        .to_string()
    };
    let log = format!("{}\n{}\n{}", line("a"), line("b"), line("a"));
    let count = |namespace| History::parse(log.as_bytes(), namespace).expect("valid").steps.len();
    assert_eq!((count(Some("a")), count(None)), (1, 2));
    assert!(History::parse("nonsense\n".as_bytes(), None).is_err());
}

#[test]
fn a_report_names_the_invariant_the_objects_and_the_last_writes() {
    let mut turn = Turn::begin("FullyAutomated");
    turn.story
        .patch(By::User, &Kind::Run, "eta-1", |o| o["spec"]["note"] = json!("by hand"));
    turn.story.patch(By::Operator, &Kind::Run, "eta-1", |o| {
        o["spec"]["desiredState"] = json!("Cancel");
    });
    turn.story
        .create(By::Operator, &Kind::Other("secrets".to_owned()), "x", json!({}));
    let history = turn.story.history();
    insta::assert_snapshot!(render(&history, &check(&history)));
}

#[test]
fn a_write_whose_answer_was_lost_is_not_taken_for_the_next_one() {
    let mut turn = Turn::held();
    turn.story.patch(By::Operator, &Kind::Rollout, "eta-1", |o| {
        o["metadata"]["annotations"] = json!({ "flywheel.dev/begun": "{}" });
    });
    let lost = turn.story.requests.last_mut().expect("a request");
    lost.code = 504;
    lost.answer = json!({ "kind": "Status" });
    // Its successor does not know of it yet.
    turn.story.refused(By::Operator, "patch", &Kind::Rollout, "eta-1", 409);
    turn.story.status(By::Operator, &Kind::Rollout, "eta-1", |o| {
        o["status"]["conditions"] = json!([]);
    });
    assert_eq!(super::broken(&turn.story), Vec::<&str>::new());
    let history = turn.story.history();
    let [.., _, _, made, status] = history.steps.as_slice() else {
        panic!("four steps of the last three requests");
    };
    assert_eq!((made.verb.as_str(), made.subresource.as_str()), ("patch", ""));
    assert_eq!(made.later(), status.earlier());
    assert_eq!(status.earlier()["status"], made.earlier()["status"]);
}

#[test]
fn a_status_whose_answer_was_lost_is_not_taken_for_the_next_one() {
    let mut turn = Turn::held();
    let version = |object: &serde_json::Value| object["metadata"]["resourceVersion"].clone();
    let before = version(&turn.story.get(&Kind::Rollout, "eta-1"));
    turn.story.status(By::Operator, &Kind::Rollout, "eta-1", |status| {
        status["checks"] = json!([]);
    });
    let lost = turn.story.requests.last_mut().expect("a request");
    let made = version(&lost.answer);
    (lost.code, lost.body) = (504, lost.answer.take());
    lost.body["metadata"]["resourceVersion"] = before;
    turn.story.status(By::Operator, &Kind::Rollout, "eta-1", |status| {
        status["conditions"] = json!([]);
    });
    let next = turn.story.requests.last_mut().expect("a request");
    next.body = next.answer.clone();
    next.body["metadata"]["resourceVersion"] = made;
    let history = turn.story.history();
    let [.., refused, made, status] = history.steps.as_slice() else {
        panic!("three steps of the last two requests");
    };
    assert_eq!(
        (refused.code, made.code, made.subresource.as_str()),
        (504, 200, "status")
    );
    assert_eq!(made.later()["status"]["checks"], json!([]));
    assert_eq!(made.later(), status.earlier());
}

/// The API server makes the write, and answers with an error.
fn lose(request: &mut Request) {
    request.code = 504;
    request.body = std::mem::replace(&mut request.answer, json!({ "kind": "Status" }));
}

#[test]
fn a_job_whose_creation_was_answered_with_an_error_counts_as_the_one_of_its_attempt() {
    let made = |again: bool| {
        let mut turn = Turn::begin("FullyAutomated");
        turn.intend("train", 1, "FullyAutomated");
        turn.job("train", 1);
        let mut jobs = turn.story.requests.iter_mut().filter(|r| r.key.kind == Kind::Job);
        lose(jobs.next().expect("a creation"));
        turn.job_ends("train", 1, "Complete");
        if again {
            turn.story.delete(By::User, &Kind::Job, "eta-1-train-1");
            turn.job("train", 1);
        }
        super::broken(&turn.story)
    };
    assert_eq!(made(false), [""; 0]);
    assert_eq!(made(true), ["I1"]);
}

#[test]
fn a_creation_that_was_refused_before_another_one_made_the_object_is_not_made_up() {
    let mut story = Story::new();
    story.refused(By::Operator, "create", &Kind::Job, "j", 503);
    story.create(By::User, &Kind::Job, "j", json!({}));
    story.refused(By::Operator, "create", &Kind::Job, "j", 503);
    story.status(By::User, &Kind::Job, "j", |s| *s = json!({ "active": 1 }));
    let codes: Vec<u16> = story.history().steps.iter().map(|s| s.code).collect();
    assert_eq!(codes, [503, 201, 503, 200]);
}

#[test]
fn a_candidate_whose_deletion_was_answered_with_an_error_is_left_only_if_somebody_still_writes_on_it() {
    let let_go = |made: bool| {
        let mut turn = Turn::held();
        let candidate = turn.story.uid(&Kind::Deployment, "eta-candidate");
        turn.story.delete(By::User, &Kind::Rollout, "eta-1");
        turn.phase("RollingBack", |_| {});
        turn.story
            .refused(By::Operator, "delete", &Kind::Deployment, "eta-candidate", 504);
        let last = turn.story.requests.last_mut().expect("a request");
        last.body = json!({ "preconditions": { "uid": candidate } });
        if !made {
            turn.story.status(By::User, &Kind::Deployment, "eta-candidate", |s| {
                *s = json!({ "readyReplicas": 1 });
            });
        }
        turn.phase("Aborted", |_| {});
        turn.story.patch(By::Operator, &Kind::Rollout, "eta-1", |o| {
            o["metadata"]["finalizers"] = json!([]);
        });
        super::broken(&turn.story)
    };
    assert_eq!(let_go(true), [""; 0]);
    assert_eq!(let_go(false), ["I14"]);
}

#[test]
fn an_object_that_was_made_anew_was_deleted_before_whatever_was_answered() {
    let mut story = Story::new();
    story.create(By::User, &Kind::Job, "j", json!({}));
    story.delete(By::User, &Kind::Job, "j");
    lose(story.requests.last_mut().expect("a request"));
    story.create(By::User, &Kind::Job, "j", json!({}));
    let history = story.history();
    let steps = history.steps.iter();
    let shapes: Vec<_> = steps
        .map(|s| (s.verb.as_str(), s.code, s.before.is_some(), s.after.is_some()))
        .collect();
    assert_eq!(
        shapes,
        [
            ("create", 201, false, true),
            ("delete", 504, true, true),
            ("delete", 200, true, false),
            ("create", 201, false, true),
        ]
    );
}

#[test]
fn an_object_is_on_its_way_out_although_its_deletion_and_its_end_were_answered_with_errors() {
    let mut turn = Turn::held();
    turn.story.delete(By::User, &Kind::Rollout, "eta-1");
    lose(turn.story.requests.last_mut().expect("a request"));
    turn.phase("RollingBack", |_| {});
    turn.story.delete(By::Operator, &Kind::Deployment, "eta-candidate");
    turn.phase("Aborted", |_| {});
    turn.story.patch(By::Operator, &Kind::Rollout, "eta-1", |o| {
        o["metadata"]["finalizers"] = json!([]);
    });
    lose(turn.story.requests.last_mut().expect("a request"));
    let history = turn.story.history();
    let marked = history.steps.iter().find(|s| s.verb == "delete" && s.code == 200);
    let marked = marked.expect("the deletion was made");
    assert!(!marked.operator && !marked.later()["metadata"]["deletionTimestamp"].is_null());
    let last = history.steps.last().expect("a step");
    assert!(last.operator && last.code == 200 && last.after.is_none());
    assert!(check(&history).is_empty(), "{}", render(&history, &check(&history)));
}

/// The API server makes a write for a version of the object, and answers with an error.
fn lose_of(turn: &mut Turn, version: &serde_json::Value, body: serde_json::Value) {
    let last = turn.story.requests.last_mut().expect("a request");
    lose(last);
    last.body = body;
    last.body["metadata"]["resourceVersion"] = version.clone();
}

/// The version of the Rollout.
fn version(turn: &Turn) -> serde_json::Value {
    turn.story.get(&Kind::Rollout, "eta-1")["metadata"]["resourceVersion"].clone()
}

#[test]
fn of_a_write_and_a_status_whose_answers_were_lost_both_are_found() {
    let mut turn = Turn::held();
    let before = version(&turn);
    turn.story.patch(By::Operator, &Kind::Rollout, "eta-1", |o| {
        o["metadata"]["annotations"] = json!({ "flywheel.dev/begun": "{}" });
    });
    lose_of(&mut turn, &before, json!({}));
    let marked = version(&turn);
    turn.phase("Holding", |s| s["step"]["holdReason"] = json!("MinDuration"));
    let status = turn.story.get(&Kind::Rollout, "eta-1")["status"].clone();
    lose_of(&mut turn, &marked, json!({ "status": status }));
    let told = version(&turn);
    turn.phase("RollingBack", |_| {});
    turn.story.requests.last_mut().expect("a request").body = json!({ "metadata": { "resourceVersion": told } });
    let history = turn.story.history();
    let [.., mark, waits, back] = history.steps.as_slice() else {
        panic!("three steps");
    };
    assert_eq!((mark.verb.as_str(), mark.code), ("patch", 200));
    assert_eq!((waits.subresource.as_str(), waits.code), ("status", 200));
    assert_eq!(mark.later()["status"], mark.earlier()["status"]);
    assert_eq!(waits.later()["status"]["step"]["holdReason"], json!("MinDuration"));
    assert_eq!(waits.later(), back.earlier());
    assert!(check(&history).is_empty(), "{}", render(&history, &check(&history)));
}

/// A patch of the operator whose answer was lost, and another patch after it.
fn patched(lost: serde_json::Value, by: By, next: serde_json::Value) -> Vec<&'static str> {
    let mut turn = Turn::held();
    for (by, mut body, is_lost) in [(By::Operator, lost, true), (by, next, false)] {
        let before = version(&turn);
        turn.story.patch(by, &Kind::Rollout, "eta-1", |o| {
            for part in ["metadata", "spec"] {
                let fields = body[part].as_object().cloned().unwrap_or_default();
                fields.into_iter().for_each(|(key, value)| o[part][key] = value);
            }
        });
        body["metadata"]["resourceVersion"] = before.clone();
        match is_lost {
            true => lose_of(&mut turn, &before, body),
            false => turn.story.requests.last_mut().expect("a request").body = body,
        }
    }
    super::broken(&turn.story)
}

#[test]
fn a_patch_whose_answer_was_lost_is_not_taken_for_the_next_patch() {
    let mark = json!({ "metadata": { "annotations": { "flywheel.dev/begun": "{}" } } });
    let hold = json!({ "spec": { "holdReason": "x" } });
    let abort = json!({ "spec": { "desiredState": "Abort" } });
    let label = json!({ "metadata": { "labels": { "a": "b" } } });
    assert_eq!(patched(mark.clone(), By::Operator, abort), [""; 0]);
    assert_eq!(patched(mark, By::User, label.clone()), [""; 0]);
    assert_eq!(patched(hold, By::User, label), ["I15"]);
}
