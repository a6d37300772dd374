use flywheel_api::names;
use serde_json::{Value, json};

use super::story::By;
use super::turn::Turn;
use super::{broken, first};
use crate::trace::{History, Kind, check};

const LEVEL: &str = "FullyAutomated";

#[test]
fn a_write_in_another_namespace_than_its_cause_breaks_i8() {
    let mut turn = Turn::begin(LEVEL);
    turn.intend("train", 1, LEVEL);
    turn.story.namespace = "b";
    let run = turn
        .story
        .requests
        .iter()
        .find(|r| r.key.kind == Kind::Run)
        .map(|r| r.answer["metadata"]["uid"].clone());
    turn.story.create(
        By::Operator,
        &Kind::Job,
        "eta-1-train-1",
        json!({ "metadata": {
        "ownerReferences": [{ "kind": "FlywheelRun", "name": "eta-1", "uid": run, "controller": true }],
        "labels": { names::LABEL_RUN_UID: run, names::LABEL_STAGE: "train", names::LABEL_ATTEMPT: "1" } } }),
    );
    assert_eq!(broken(&turn.story), ["I8"]);
}

#[test]
fn a_cluster_wide_write_breaks_i8() {
    let mut turn = Turn::begin(LEVEL);
    turn.story.namespace = "";
    turn.story
        .create(By::Operator, &Kind::Other("namespaces".to_owned()), "b", json!({}));
    assert_eq!(broken(&turn.story), ["I8"]);
}

#[test]
fn creating_without_owner_or_with_a_made_up_one_breaks_i9() {
    for owners in [
        json!([]),
        json!([{ "kind": "FlywheelPipeline", "uid": "made-up", "controller": true }]),
    ] {
        let mut turn = Turn::begin(LEVEL);
        turn.story.create(
            By::Operator,
            &Kind::Revision,
            "eta-def",
            json!({ "metadata": { "ownerReferences": owners } }),
        );
        assert_eq!(broken(&turn.story), ["I9"]);
    }
}

#[test]
fn deleting_a_users_object_breaks_i9() {
    let objects: [(Kind, Value); 4] = [
        (Kind::Job, json!({})),
        (Kind::Deployment, json!({ "spec": { "replicas": 1 } })),
        (Kind::Version, json!({ "spec": { "modelName": "eta", "version": 1 } })),
        (Kind::Rollout, json!({ "spec": {} })),
    ];
    for (kind, object) in objects {
        let mut turn = Turn::begin(LEVEL);
        turn.story.create(By::User, &kind, "mine", object);
        turn.story.delete(By::Operator, &kind, "mine");
        assert_eq!(broken(&turn.story), ["I9"], "{kind:?}");
    }
}

#[test]
fn deleting_what_was_made_is_fine_also_after_its_owner_is_gone() {
    let mut turn = Turn::held();
    turn.story.patch(By::User, &Kind::Rollout, "eta-1", |o| {
        o["metadata"]["finalizers"] = Value::Null;
    });
    turn.story.delete(By::User, &Kind::Rollout, "eta-1");
    turn.story.delete(By::Operator, &Kind::Deployment, "eta-candidate");
    assert_eq!(broken(&turn.story), [""; 0]);
}

#[test]
fn a_write_cannot_give_itself_the_right_to_it() {
    let mut turn = Turn::held();
    let rollout = turn.story.uid(&Kind::Rollout, "eta-1");
    turn.story.create(
        By::User,
        &Kind::Deployment,
        "other",
        json!({ "spec": { "replicas": 1 } }),
    );
    turn.story.patch(By::Operator, &Kind::Deployment, "other", |o| {
        o["metadata"]["labels"] = json!({ names::LABEL_ROLLOUT_UID: rollout });
    });
    assert_eq!(broken(&turn.story), ["I9"]);
}

#[test]
fn objects_that_are_none_of_its_business_break_i9() {
    for kind in [Kind::Other("secrets".to_owned()), Kind::Approval] {
        let mut turn = Turn::begin(LEVEL);
        turn.story.create(By::Operator, &kind, "x", json!({}));
        assert_eq!(broken(&turn.story), ["I9"], "{kind:?}");
    }
}

/// What is found in a request of which the log holds who asked for what, and no object.
fn brief(verb: &str, group: &str, resource: &str, part: &str) -> Vec<&'static str> {
    let line = json!({ "stage": "ResponseComplete", "level": "Metadata", "verb": verb, "requestURI": "/",
        "user": { "username": "operator" }, "userAgent": "flywheel-operator/0.1.0", "responseStatus": { "code": 201 },
        "stageTimestamp": "2026-01-01T00:00:00.000000Z",
        "objectRef": { "namespace": "a", "name": "x", "apiGroup": group, "resource": resource, "subresource": part } });
    let history = History::parse(format!("{line}\n").as_bytes(), None).expect("audit events");
    check(&history).iter().map(|v| v.invariant).collect()
}

#[test]
fn requests_of_which_the_log_holds_no_object_break_i9() {
    for (verb, group, resource, part) in [
        ("create", "", "secrets", ""),
        ("update", "", "secrets", ""),
        ("patch", "", "secrets", ""),
        ("delete", "", "secrets", ""),
        ("deletecollection", "", "secrets", ""),
        ("create", "", "serviceaccounts", "token"),
        ("create", "", "pods", "eviction"),
        ("create", "", "pods", "exec"),
        ("update", "flywheel.dev", "modelversions", "another"),
        ("deletecollection", "batch", "jobs", ""),
    ] {
        assert_eq!(brief(verb, group, resource, part), ["I9"], "{verb} {resource}/{part}");
    }
    for (verb, group, resource) in [
        ("create", "events.k8s.io", "events"),
        ("patch", "events.k8s.io", "events"),
        ("update", "coordination.k8s.io", "leases"),
    ] {
        assert_eq!(brief(verb, group, resource, ""), [""; 0], "{verb} {resource}");
    }
}

#[test]
fn a_write_that_changes_nothing_needs_no_right() {
    let mut turn = Turn::held();
    turn.story.again(By::Operator, &Kind::Deployment, "eta");
    turn.story.requests.last_mut().expect("a request").subresource = String::new();
    assert_eq!(broken(&turn.story), [""; 0]);
}

#[test]
fn a_target_that_no_rollout_holds_must_not_be_written() {
    let mut turn = Turn::judged(LEVEL);
    turn.deliver(LEVEL);
    turn.bind();
    assert_eq!(broken(&turn.story), ["I9"]);
}

#[test]
fn a_write_on_the_target_that_was_on_its_way_when_somebody_took_the_status_away_is_fine() {
    for (seconds, expected) in [(0, vec![]), (60, vec!["I9"])] {
        let mut turn = Turn::held();
        turn.phase("RollingBack", |_| {});
        turn.story.status(By::User, &Kind::Rollout, "eta-1", |s| *s = json!({}));
        turn.story.wait(seconds);
        turn.story.patch(By::Operator, &Kind::Deployment, "eta", |o| {
            o["metadata"]["annotations"] = json!({ names::ANNOTATION_TURNED_BACK: "of-the-rollout" });
        });
        assert_eq!(broken(&turn.story), expected, "after {seconds} s");
    }
}

#[test]
fn a_new_target_of_the_same_name_must_not_be_written() {
    let mut turn = Turn::at_last_step();
    turn.promote(LEVEL, None);
    let mut target = turn.story.get(&Kind::Deployment, "eta");
    target["metadata"] = json!({});
    turn.story.delete(By::User, &Kind::Deployment, "eta");
    turn.story.create(By::User, &Kind::Deployment, "eta", target);
    turn.bind();
    assert_eq!(broken(&turn.story), ["I9"]);
}

#[test]
fn other_fields_of_the_target_break_i15() {
    let cases: [fn(&mut Value); 4] = [
        |o| o["spec"]["replicas"] = json!(2),
        |o| o["spec"]["template"]["spec"]["containers"][0]["image"] = json!("y"),
        |o| o["metadata"]["labels"] = json!({ "a": "b" }),
        |o| o["spec"]["template"]["spec"]["containers"][0]["env"] = json!([]),
    ];
    for (index, case) in cases.into_iter().enumerate() {
        let mut turn = Turn::at_last_step();
        turn.promote(LEVEL, None);
        turn.story.patch(By::User, &Kind::Deployment, "eta", |o| {
            o["spec"]["template"]["spec"]["containers"][0]["env"] = json!([{ "name": "OTHER", "value": "1" }]);
        });
        turn.story.patch(By::Operator, &Kind::Deployment, "eta", case);
        assert_eq!(broken(&turn.story), ["I15"], "case {index}");
    }
}

#[test]
fn the_pull_policy_beside_an_image_that_is_the_binding_breaks_i15() {
    let written = |field: &str| {
        let mut turn = Turn::at_last_step();
        turn.promote(LEVEL, None);
        turn.story.patch(By::User, &Kind::Rollout, "eta-1", |o| {
            o["spec"]["plan"]["binding"] = json!({ "type": "DeploymentImage", "container": "app" });
            o["status"]["baseline"]["value"] = json!("x");
            o["status"]["candidate"]["value"] = json!("y");
        });
        turn.story.patch(By::Operator, &Kind::Deployment, "eta", |o| {
            o["spec"]["template"]["spec"]["containers"][0][field] = json!("y");
        });
        broken(&turn.story)
    };
    assert_eq!(written("image"), [""; 0]);
    assert_eq!(written("imagePullPolicy"), ["I15"]);
}

#[test]
fn replicas_are_the_operators_where_the_plan_shrinks_the_baseline() {
    let mut turn = Turn::held();
    turn.story.patch(By::User, &Kind::Rollout, "eta-1", |o| {
        o["spec"]["plan"]["capacity"]["baseline"] = json!("ShrinkWithWeight");
    });
    turn.story.patch(By::Operator, &Kind::Deployment, "eta", |o| {
        o["spec"]["replicas"] = json!(2);
    });
    assert_eq!(broken(&turn.story), [""; 0]);
}

#[test]
fn the_spec_of_a_users_object_breaks_i15() {
    let mut turn = Turn::begin(LEVEL);
    turn.story.patch(By::Operator, &Kind::Run, "eta-1", |o| {
        o["spec"]["desiredState"] = json!("Cancel");
    });
    assert_eq!(broken(&turn.story), ["I15"]);
    assert!(first(&turn.story).contains("spec.desiredState"));
}

#[test]
fn the_level_of_a_run_or_a_rollout_may_be_noted_beside_its_status() {
    let mut turn = Turn::held();
    for kind in [Kind::Run, Kind::Rollout] {
        turn.story.patch(By::Operator, &kind, "eta-1", |o| {
            o["metadata"]["annotations"][names::ANNOTATION_LEVEL] = json!("Manual");
        });
    }
    assert_eq!(broken(&turn.story), [""; 0]);
}

#[test]
fn a_run_may_stop_its_own_rollout_and_nothing_else() {
    let asked = |state: &str, own: bool| {
        let mut turn = Turn::held();
        if !own {
            turn.story
                .patch(By::User, &Kind::Rollout, "eta-1", |o| o["spec"]["runRef"] = Value::Null);
        }
        turn.story.patch(By::Operator, &Kind::Rollout, "eta-1", |o| {
            o["spec"]["desiredState"] = json!(state);
        });
        broken(&turn.story)
    };
    assert_eq!(asked("Abort", true), [""; 0]);
    assert_eq!(asked("Promote", true), ["I15"]);
    assert_eq!(asked("RollBack", true), ["I15"]);
    assert_eq!(asked("Abort", false), ["I15"]);
}

#[test]
fn a_run_may_take_back_its_own_rollout_that_was_promoted() {
    let asked = |state: &str| {
        let mut turn = Turn::at_last_step();
        turn.promote(LEVEL, None);
        turn.bind();
        turn.end();
        turn.story.patch(By::Operator, &Kind::Rollout, "eta-1", |o| {
            o["spec"]["desiredState"] = json!(state);
        });
        broken(&turn.story)
    };
    assert_eq!(asked("RollBack"), [""; 0]);
    assert_eq!(asked("Abort"), ["I15"]);
}

#[test]
fn refused_writes_break_nothing_but_are_used_rules() {
    let mut turn = Turn::begin(LEVEL);
    turn.story
        .refused(By::Operator, "delete", &Kind::Other("secrets".to_owned()), "x", 403);
    assert_eq!(broken(&turn.story), [""; 0]);
    let rules = crate::trace::usage::used_rules(&turn.story.history());
    let texts: Vec<String> = rules.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "secrets: delete",
            "controllerrevisions.apps: create",
            "flywheelruns.flywheel.dev: create",
            "flywheelruns/status.flywheel.dev: update"
        ]
    );
}
