//! Wrong Approvals, bias policies, runs and versions.

use flywheel_api::{Approval, BiasPolicy, FlywheelRun, ModelVersion};
use serde_json::{Value, json};

use super::{Wrong, refuse, wrong};
use crate::world::{api, run};

fn digest() -> String {
    format!("sha256:{}", "a".repeat(64))
}

fn approval() -> Value {
    json!({ "spec": { "subjectRef": { "kind": "ModelVersion", "name": "eta-1", "uid": "u" }, "gate": "Promote",
        "decision": "Approve", "evidenceDigest": digest(), "approver": "admin", "reason": "" } })
}

pub(super) fn approvals() -> Vec<Wrong> {
    vec![
        wrong(
            "/spec/gate",
            json!("Train"),
            "gate Train",
            "set subjectRef.kind to FlywheelRun",
        ),
        wrong(
            "/spec/gate",
            json!("RolloutStep"),
            "gate RolloutStep",
            "set subjectRef.kind to Rollout",
        ),
        wrong("/spec/gate", json!("Deploy"), "spec.gate", "\"Promote\""),
        wrong(
            "/spec/subjectRef/kind",
            json!("Rollout"),
            "gate Promote",
            "set subjectRef.kind to ModelVersion",
        ),
        wrong(
            "/spec/subjectRef/kind",
            json!("Deployment"),
            "spec.subjectRef.kind",
            "\"ModelVersion\"",
        ),
        wrong(
            "/spec/subjectRef/uid",
            json!(""),
            "spec.subjectRef.uid",
            "at least 1 chars",
        ),
        wrong(
            "/spec/decision",
            json!("Revoke"),
            "revokes",
            "names the Approval to take back",
        ),
        wrong("/spec/decision", json!("Maybe"), "spec.decision", "\"Approve\""),
        wrong(
            "/spec/revokes",
            json!({ "name": "x" }),
            "revokes",
            "forbidden otherwise",
        ),
        wrong(
            "/spec/evidenceDigest",
            json!("sha256:abc"),
            "spec.evidenceDigest",
            "64 digits of 0-9 and a-f",
        ),
        wrong("/spec/approver", json!(""), "spec.approver", "at least 1 chars"),
        wrong("/spec/expiresAt", json!("tomorrow"), "spec.expiresAt", "date-time"),
    ]
}

fn policy() -> Value {
    json!({ "spec": { "protectedAttributes": [{ "name": "region" }], "inference": { "alpha": "0.05" },
        "groups": { "minSize": { "units": 100 } },
        "modelSelector": { "matchLabels": { "team": "eta" } },
        "improvement": { "metric": "mae", "direction": "Minimize", "perGroup": { "maxRegression": "0" } },
        "objectives": [{ "name": "gap", "metric": "mae", "attribute": "region", "compare": "Difference",
            "limit": { "max": "1" } }] } })
}

pub(super) fn policies() -> Vec<Wrong> {
    let objective = |compare: &str, limit: Value| json!([{ "name": "gap", "metric": "mae", "attribute": "region", "compare": compare, "limit": limit }]);
    let at = "/spec/objectives";
    let empty = json!({ "protectedAttributes": [{ "name": "region" }] });
    vec![
        wrong("/spec", empty, "objectives or improvement", "add a limit"),
        wrong(
            "/spec/protectedAttributes",
            json!([]),
            "spec.protectedAttributes",
            "at least 1 items",
        ),
        wrong(
            "/spec/protectedAttributes",
            json!([{ "name": "a" }, { "name": "a" }]),
            "name=\"a\"",
            "duplicate entries for key",
        ),
        wrong(
            "/spec/maxAutomationLevel",
            json!("None"),
            "spec.maxAutomationLevel",
            "\"HumanOversight\"",
        ),
        wrong(
            "/spec/modelSelector/matchLabels",
            json!({}),
            "spec.modelSelector.matchLabels",
            "at least 1 properties",
        ),
        wrong(
            "/spec/modelSelector/matchLabels",
            json!({ "team": "a b" }),
            "spec.modelSelector.matchLabels[team]",
            "value of a label",
        ),
        wrong(
            "/spec/objectives/0/attribute",
            json!("age"),
            "objectives[].attribute",
            "must be the name of a protected attribute",
        ),
        wrong(
            "/spec/objectives/0/name",
            json!("improvement"),
            "objectives[].name",
            "verdicts of other rules are called so",
        ),
        wrong(
            "/spec/objectives/0/compare",
            json!("Average"),
            "spec.objectives[0].compare",
            "\"Difference\", \"Ratio\"",
        ),
        wrong(
            "/spec/objectives/0/mode",
            json!("Hope"),
            "spec.objectives[0].mode",
            "\"Detect\", \"Assure\"",
        ),
        wrong(
            "/spec/objectives/0/enforcement",
            json!("Ignore"),
            "spec.objectives[0].enforcement",
            "\"Block\", \"Warn\"",
        ),
        wrong(
            at,
            objective("Difference", json!({ "min": "1" })),
            "compare: Difference",
            "limit.max only",
        ),
        wrong(
            at,
            objective("Difference", json!({ "max": "-1" })),
            "compare: Difference",
            "a gap is never negative",
        ),
        wrong(
            at,
            objective("Ratio", json!({ "max": "1" })),
            "compare: Ratio",
            "limit.min only",
        ),
        wrong(
            at,
            objective("Ratio", json!({ "min": "80" })),
            "compare: Ratio",
            "above 0 and at most 1, such as 0.80",
        ),
        wrong(
            at,
            objective("WorstGroup", json!({ "min": "1", "max": "2" })),
            "compare: WorstGroup",
            "not both",
        ),
        wrong(
            "/spec/improvement/perGroup/maxRegression",
            json!("-1"),
            "improvement.perGroup.maxRegression",
            "0 demands that no group becomes worse",
        ),
        wrong(
            "/spec/improvement/gap",
            json!({ "maxWidening": "-1" }),
            "improvement.gap.maxWidening",
            "0 demands that all groups gain alike",
        ),
        wrong(
            "/spec/improvement",
            json!({ "metric": "mae", "direction": "Minimize" }),
            "improvement needs perGroup or gap",
            "add a limit",
        ),
        wrong(
            "/spec/inference/alpha",
            json!("0.9"),
            "inference.alpha",
            "at most 0.5, such as 0.05",
        ),
        wrong(
            "/spec/groups/minSize/units",
            json!(0),
            "spec.groups.minSize.units",
            "greater than or equal to 1",
        ),
    ]
}

pub(super) fn runs() -> Vec<Wrong> {
    vec![
        wrong(
            "/spec/pipelineRef/name",
            json!(""),
            "spec.pipelineRef.name",
            "at least 1 chars",
        ),
        wrong(
            "/spec/pipelineRef/name",
            json!("Eta!"),
            "spec.pipelineRef.name",
            "name of an object",
        ),
        wrong(
            "/spec/desiredState",
            json!("Stop"),
            "spec.desiredState",
            "\"Run\", \"Cancel\"",
        ),
        wrong(
            "/spec/requestedBy",
            json!(""),
            "requestedBy is required",
            "set it to your user name",
        ),
        wrong(
            "/spec/trigger",
            json!({ "name": "x", "type": "Whim" }),
            "spec.trigger.type",
            "\"Request\"",
        ),
        wrong(
            "/spec/parameters",
            json!([{ "name": "9", "value": "" }]),
            "spec.parameters[0].name",
            "begin with a letter",
        ),
        wrong(
            "/spec/parameters",
            json!([{ "name": "a" }]),
            "spec.parameters[0].value",
            "Required value",
        ),
    ]
}

fn version() -> Value {
    json!({ "spec": { "modelName": "eta", "version": 1, "artifact": { "uri": "s3://models/eta/1", "digest": digest() } } })
}

pub(super) fn versions() -> Vec<Wrong> {
    vec![
        wrong("/spec/modelName", json!("ETA"), "spec.modelName", "lower case letters"),
        wrong("/spec/version", json!(0), "spec.version", "greater than or equal to 1"),
        wrong(
            "/spec/artifact/uri",
            json!("models/eta"),
            "spec.artifact.uri",
            "begins with pvc://",
        ),
        wrong(
            "/spec/artifact/digest",
            json!("md5:1"),
            "spec.artifact.digest",
            "64 digits of 0-9 and a-f",
        ),
        wrong(
            "/spec/artifact",
            json!({ "uri": "s3://models/eta/1" }),
            "spec.artifact.digest",
            "Required value",
        ),
        wrong(
            "/spec/parent",
            json!({ "name": "Eta 0" }),
            "spec.parent.name",
            "name of an object",
        ),
        // No request could ask for it: the version would never be looked at.
        wrong(
            "/spec/provenance",
            json!({ "run": { "name": "Eta 0", "uid": "u" }, "pipeline": { "name": "eta", "uid": "u" }, "level": "Manual",
                "requestedBy": "admin", "seed": 1, "snapshotDigest": digest(), "stages": [] }),
            "spec.provenance.run.name",
            "name of an object",
        ),
    ]
}

#[tokio::test]
async fn cluster_wrong_approvals_are_refused_with_their_remedy() {
    let world = api("wrong-approval").await;
    refuse::<Approval>(&world, &approval(), &approvals()).await;
    let mut changed = approval();
    changed["spec"]["decision"] = json!("Reject");
    let error = world
        .apply::<Approval>("good", changed)
        .await
        .expect_err("an Approval is immutable");
    assert!(error.to_string().contains("create a new one"), "{error}");
}

#[tokio::test]
async fn cluster_wrong_bias_policies_are_refused_with_their_remedy() {
    let world = api("wrong-policy").await;
    refuse::<BiasPolicy>(&world, &policy(), &policies()).await;
}

#[tokio::test]
async fn cluster_wrong_runs_are_refused_with_their_remedy() {
    let world = api("wrong-run").await;
    let mut good = run("eta");
    good["spec"]["desiredState"] = json!("Run");
    refuse::<FlywheelRun>(&world, &good, &runs()).await;
    let mut changed = good.clone();
    changed["spec"]["pipelineRef"]["name"] = json!("other");
    let error = world
        .apply::<FlywheelRun>("good", changed)
        .await
        .expect_err("immutable");
    assert!(error.to_string().contains("create another run"), "{error}");
    let mut cancelled = good.clone();
    cancelled["spec"]["desiredState"] = json!("Cancel");
    world.apply::<FlywheelRun>("good", cancelled).await.expect("cancelled");
    let error = world
        .apply::<FlywheelRun>("good", good.clone())
        .await
        .expect_err("final");
    assert!(error.to_string().contains("a cancelled run cannot go on"), "{error}");
    let long = "a-run-".repeat(11);
    let error = world
        .apply::<FlywheelRun>(long.trim_end_matches('-'), good)
        .await
        .expect_err("the name is too long");
    assert!(error.to_string().contains("at most 63 characters"), "{error}");
}

#[tokio::test]
async fn cluster_wrong_versions_are_refused_with_their_remedy() {
    let world = api("wrong-version").await;
    refuse::<ModelVersion>(&world, &version(), &versions()).await;
    let mut changed = version();
    changed["spec"]["artifact"]["uri"] = json!("s3://models/eta/other");
    let error = world
        .apply::<ModelVersion>("good", changed)
        .await
        .expect_err("immutable");
    assert!(error.to_string().contains("register another version"), "{error}");
}
