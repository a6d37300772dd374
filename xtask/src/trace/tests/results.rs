use serde_json::{Value, json};

use super::story::By;
use super::turn::{MODEL, Turn};
use super::{broken, first};
use crate::trace::Kind;

const LEVEL: &str = "FullyAutomated";

fn complete() -> Turn {
    let mut turn = Turn::begin(LEVEL);
    turn.intend("train", 1, LEVEL);
    turn.job("train", 1);
    turn.job_ends("train", 1, "Complete");
    turn
}

/// The train stage succeeds with this model.
fn trained(turn: &mut Turn, digest: &str) {
    turn.stage("train", |s| {
        s["state"] = json!("Succeeded");
        let model = json!({ "name": "model", "type": "Model", "uri": "s3://new", "digest": digest });
        s["result"] = json!({ "metrics": [], "artifacts": [model] });
    });
}

fn register(turn: &mut Turn, digest: &str) {
    turn.register_as(json!({ "uri": "s3://new", "digest": digest }));
}

#[test]
fn a_result_of_the_intended_job_is_fine() {
    let mut turn = complete();
    trained(&mut turn, "sha256:a");
    register(&mut turn, "sha256:a");
    assert_eq!(broken(&turn.story), [""; 0]);
}

#[test]
fn a_result_of_a_job_that_is_gone_is_fine_if_it_was_complete() {
    let mut turn = complete();
    turn.story.delete(By::User, &Kind::Job, "eta-1-train-1");
    trained(&mut turn, "sha256:a");
    assert_eq!(broken(&turn.story), [""; 0]);
}

#[test]
fn results_that_may_not_be_taken_break_i10() {
    type Case = (&'static str, fn(&mut Turn));
    let cases: [Case; 4] = [
        ("no UID in the intent", |turn| {
            turn.stage("train", |s| s["job"]["uid"] = Value::Null);
        }),
        ("a UID that no Job had", |turn| {
            turn.stage("train", |s| s["job"]["uid"] = json!("forged"));
        }),
        ("a Job of another attempt", |turn| {
            turn.stage("train", |s| s["attempt"] = json!(2));
        }),
        ("another run's Job", |turn| {
            let job = json!({ "metadata": { "labels": { "flywheel.dev/run-uid": "other" } },
                "status": { "conditions": [{ "type": "Complete", "status": "True" }] } });
            let uid = turn.story.create(By::User, &Kind::Job, "other", job);
            turn.stage("train", |s| s["job"]["uid"] = json!(uid));
        }),
    ];
    for (name, case) in cases {
        let mut turn = complete();
        case(&mut turn);
        trained(&mut turn, "sha256:a");
        assert_eq!(broken(&turn.story), ["I10"], "{name}");
    }
}

#[test]
fn a_job_that_took_the_place_of_the_intended_one_breaks_i10() {
    let mut turn = complete();
    turn.story.delete(By::User, &Kind::Job, "eta-1-train-1");
    let uid = turn.run_uid();
    let labels = json!({ "flywheel.dev/run-uid": uid, "flywheel.dev/stage": "train", "flywheel.dev/attempt": "1" });
    let job = json!({ "metadata": { "labels": labels }, "status": { "conditions": [{ "type": "Complete", "status": "True" }] } });
    let forged = turn.story.create(By::User, &Kind::Job, "eta-1-train-1", job);
    turn.stage("train", |s| {
        s["state"] = json!("Succeeded");
        s["job"]["uid"] = json!(forged);
    });
    assert_eq!(broken(&turn.story), ["I10"]);
    assert!(first(&turn.story).contains("the intent held"));
}

#[test]
fn a_job_that_still_runs_or_failed_gives_no_result() {
    for condition in ["", "Failed"] {
        let mut turn = Turn::begin(LEVEL);
        turn.intend("train", 1, LEVEL);
        turn.job("train", 1);
        turn.job_ends("train", 1, condition);
        trained(&mut turn, "sha256:a");
        assert_eq!(broken(&turn.story), ["I10"], "{condition:?}");
    }
}

#[test]
fn a_result_that_becomes_another_one_breaks_i1b() {
    let mut turn = complete();
    trained(&mut turn, "sha256:a");
    trained(&mut turn, "sha256:a");
    assert_eq!(broken(&turn.story), [""; 0]);
    trained(&mut turn, "sha256:b");
    assert_eq!(broken(&turn.story), ["I1b"]);
}

#[test]
fn what_somebody_else_wrote_into_the_status_is_not_the_operators_fault() {
    let mut turn = complete();
    trained(&mut turn, "sha256:a");
    turn.story.status(By::User, &Kind::Run, "eta-1", |s| {
        s["stages"][0]["result"]["artifacts"][0]["digest"] = json!("sha256:b");
    });
    turn.stage("train", |s| s["imageId"] = json!("x"));
    assert_eq!(broken(&turn.story), [""; 0]);
}

#[test]
fn a_version_with_a_model_that_no_attempt_reported_breaks_i1b() {
    let mut turn = complete();
    trained(&mut turn, "sha256:a");
    register(&mut turn, "sha256:b");
    assert_eq!(broken(&turn.story), ["I1b"]);
}

#[test]
fn a_version_that_lies_elsewhere_than_the_model_that_was_reported_breaks_i1b() {
    let mut turn = complete();
    trained(&mut turn, "sha256:a");
    turn.register_as(json!({ "uri": "s3://elsewhere", "digest": "sha256:a" }));
    assert_eq!(broken(&turn.story), ["I1b"]);
}

#[test]
fn a_version_that_is_registered_before_anything_was_reported_breaks_i1b() {
    let mut turn = complete();
    register(&mut turn, "sha256:a");
    assert_eq!(broken(&turn.story), ["I1b"]);
}

#[test]
fn a_version_is_fine_whose_runs_status_the_log_does_not_tell() {
    let mut lost = complete();
    trained(&mut lost, "sha256:a");
    let answer = lost.story.requests.last_mut().expect("a request");
    (answer.code, answer.answer) = (504, json!({ "kind": "Status" }));
    register(&mut lost, "sha256:a");
    assert_eq!(broken(&lost.story), [""; 0], "the answer was lost");
    let mut changed = complete();
    trained(&mut changed, "sha256:a");
    changed.story.status(By::User, &Kind::Run, "eta-1", |s| {
        s["stages"][0]["result"]["artifacts"][0]["digest"] = json!("sha256:b");
    });
    register(&mut changed, "sha256:b");
    assert_eq!(broken(&changed.story), [""; 0], "somebody else wrote it");
}

/// The run takes a version for its own that somebody else made, with this digest, and delivers it.
fn adopts(digest: &str) -> Turn {
    let mut turn = Turn::begin(LEVEL);
    turn.stages(LEVEL);
    let labels = json!({ "flywheel.dev/run-uid": turn.run_uid() });
    let spec = json!({ "modelName": "eta", "version": 1, "artifact": { "uri": "s3://new", "digest": digest } });
    let version = json!({ "metadata": { "labels": labels }, "spec": spec });
    let uid = turn.story.create(By::User, &Kind::Version, "eta-1", version);
    turn.story.status(By::Operator, &Kind::Run, "eta-1", |s| {
        s["modelVersion"] = json!({ "name": "eta-1", "number": 1, "uid": uid });
    });
    turn.judge("Pass");
    turn.deliver(LEVEL);
    turn
}

#[test]
fn a_delivery_of_a_version_that_somebody_passes_off_as_the_runs_breaks_i1b() {
    assert_eq!(broken(&adopts(MODEL).story), [""; 0], "it is what was trained");
    let forged = adopts("sha256:forged");
    assert_eq!(broken(&forged.story), ["I1b"]);
    assert!(first(&forged.story).contains("delivers modelversions/eta-1"));
}

#[test]
fn a_delivery_of_a_version_is_fine_that_is_found_again_after_the_runs_status_was_taken_away() {
    let mut turn = Turn::judged(LEVEL);
    let before = turn.story.get(&Kind::Run, "eta-1")["status"].clone();
    turn.story.status(By::User, &Kind::Run, "eta-1", |s| *s = json!({}));
    turn.story.status(By::Operator, &Kind::Run, "eta-1", |s| *s = before);
    turn.deliver(LEVEL);
    let mut all = broken(&turn.story);
    all.retain(|i| *i == "I1b");
    assert_eq!(all, [""; 0]);
}
