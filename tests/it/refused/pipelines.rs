//! Wrong pipelines: everything but stages.

use flywheel_api::FlywheelPipeline;
use serde_json::{Value, json};

use super::{Wrong, refuse, wrong};
use crate::world::{api, pipeline};

pub(super) fn good() -> Value {
    let mut good = pipeline("eta", "example/eta");
    good["spec"]["triggers"] =
        json!([{ "name": "weekly", "type": "Schedule", "schedule": { "cron": "0 3 * * 1", "timeZone": "UTC" } }]);
    good["spec"]["cadence"] = json!({ "minInterval": "1h", "maxInterval": "100h", "concurrencyPolicy": "Forbid" });
    good["spec"]["data"] = json!({ "sources": [{ "name": "trips", "uri": "s3://trips/x", "format": "Parquet" }] });
    good["spec"]["parameters"] = json!([{ "name": "week", "value": "5" }]);
    good["spec"]["history"] = json!({ "successfulRuns": 5, "failedRuns": 5, "modelVersions": 5 });
    good["spec"]["approvals"] = json!([{ "gate": "Promote", "minApprovals": 2 }]);
    good["spec"]["biasPolicies"] = json!([{ "name": "fair" }]);
    good["spec"]["rollout"] = json!({
        "targetRef": { "kind": "Deployment", "name": "eta" },
        "binding": { "type": "DeploymentEnv", "container": "app", "name": "MODEL_URI" },
        "strategy": { "steps": [{ "name": "tenth", "weight": 10 }] },
    });
    good
}

pub(super) fn mistakes() -> Vec<Wrong> {
    let metric = |extra: Value| {
        let mut metric = json!({ "providerRef": { "name": "prometheus" }, "query": "1", "operator": "LessThan", "value": "1", "interval": "1m" });
        for (key, value) in extra.as_object().cloned().unwrap_or_default() {
            metric[key] = value;
        }
        json!([{ "name": "drift", "type": "Metric", "metric": metric }])
    };
    vec![
        wrong(
            "/spec/automationLevel",
            json!("Automatic"),
            "spec.automationLevel",
            "\"Manual\", \"SemiAutomated\"",
        ),
        wrong(
            "/spec/autoLevel",
            json!("Manual"),
            ".spec.autoLevel",
            "field not declared in schema",
        ),
        wrong(
            "/spec/model/name",
            json!("Eta"),
            "spec.model.name",
            "lower case letters, digits and hyphens",
        ),
        wrong(
            "/spec/model/name",
            json!("eta-"),
            "spec.model.name",
            "not end with a hyphen",
        ),
        wrong(
            "/spec/model/name",
            json!("a-name-that-is-much-too-long-for-a-model-name"),
            "spec.model.name",
            "40",
        ),
        wrong(
            "/spec/artifacts/uri",
            json!("ftp://somewhere"),
            "spec.artifacts.uri",
            "begins with pvc://, s3://",
        ),
        wrong(
            "/spec/artifacts/uri",
            json!("/a/path"),
            "spec.artifacts.uri",
            "such as pvc://claim/folder",
        ),
        wrong(
            "/spec/artifacts/uri",
            json!("pvc://models/../other"),
            "spec.artifacts.uri",
            "without ..",
        ),
        wrong(
            "/spec/artifacts/uri",
            json!("pvc://My_Claim/x"),
            "spec.artifacts.uri",
            "name of a PersistentVolumeClaim",
        ),
        wrong(
            "/spec/artifacts/uri",
            json!("pvc://a..b/models"),
            "spec.artifacts.uri",
            "each part between dots begins and ends with a letter or digit",
        ),
        wrong(
            "/spec/artifacts/credentialsRef",
            json!({ "name": "My Secret" }),
            "spec.artifacts.credentialsRef.name",
            "name of an object",
        ),
        wrong(
            "/spec/data/sources/0/uri",
            json!("trips"),
            "spec.data.sources[0].uri",
            "begins with pvc://",
        ),
        wrong(
            "/spec/data/sources/0/format",
            json!("Excel"),
            "spec.data.sources[0].format",
            "\"Parquet\"",
        ),
        wrong(
            "/spec/data/sources/0/name",
            json!("my trips"),
            "spec.data.sources[0].name",
            "lower case letters",
        ),
        wrong(
            "/spec/parameters/0/name",
            json!("no spaces"),
            "spec.parameters[0].name",
            "begin with a letter",
        ),
        wrong(
            "/spec/triggers/0/type",
            json!("Metric"),
            "metric is required for type Metric",
            "add it, or correct type",
        ),
        wrong(
            "/spec/triggers/0/type",
            json!("Request"),
            "schedule is required for type Schedule",
            "add it, or correct type",
        ),
        wrong(
            "/spec/triggers/0/type",
            json!("Volume"),
            "spec.triggers[0].type",
            "\"Schedule\", \"Metric\"",
        ),
        wrong(
            "/spec/triggers/0/schedule/cron",
            json!("every monday"),
            "spec.triggers[0].schedule.cron",
            "cron expression of five fields",
        ),
        wrong(
            "/spec/triggers/0/schedule/timeZone",
            json!("my zone"),
            "spec.triggers[0].schedule.timeZone",
            "such as UTC or Europe/Zurich",
        ),
        wrong(
            "/spec/triggers/0/schedule/startingDeadlineSeconds",
            json!(1),
            "startingDeadlineSeconds",
            "greater than or equal to 10",
        ),
        wrong(
            "/spec/triggers/0/name",
            json!("Weekly!"),
            "spec.triggers[0].name",
            "lower case letters",
        ),
        wrong(
            "/spec/triggers",
            metric(json!({ "operator": "Above" })),
            "spec.triggers[0].metric.operator",
            "\"GreaterThan\", \"LessThan\"",
        ),
        wrong(
            "/spec/triggers",
            metric(json!({ "value": "many" })),
            "spec.triggers[0].metric.value",
            "decimal number as quoted text",
        ),
        wrong(
            "/spec/triggers",
            metric(json!({ "interval": "0s" })),
            "metric.interval",
            "at least 1s",
        ),
        wrong(
            "/spec/triggers",
            metric(json!({ "query": "" })),
            "spec.triggers[0].metric.query",
            "at least 1 chars",
        ),
        wrong(
            "/spec/cadence/minInterval",
            json!("5d"),
            "spec.cadence.minInterval",
            "such as 90s, 10m or 1h30m",
        ),
        wrong(
            "/spec/cadence/minInterval",
            json!("200h"),
            "cadence.minInterval",
            "must be shorter than cadence.maxInterval",
        ),
        wrong(
            "/spec/cadence/concurrencyPolicy",
            json!("Replace"),
            "spec.cadence.concurrencyPolicy",
            "\"Forbid\", \"Queue\"",
        ),
        wrong(
            "/spec/history/successfulRuns",
            json!(0),
            "spec.history.successfulRuns",
            "greater than or equal to 1",
        ),
        wrong(
            "/spec/history/modelVersions",
            json!(1),
            "spec.history.modelVersions",
            "greater than or equal to 2",
        ),
        wrong(
            "/spec/approvals/0/gate",
            json!("RolloutStep"),
            "approvals[].gate",
            "set rollout.strategy.steps[].approval",
        ),
        wrong(
            "/spec/approvals/0/minApprovals",
            json!(0),
            "spec.approvals[0].minApprovals",
            "greater than or equal to 1",
        ),
        wrong(
            "/spec/approvals",
            json!([{ "gate": "Train" }, { "gate": "Train" }]),
            "gate=\"Train\"",
            "duplicate entries for key",
        ),
        wrong(
            "/spec/biasPolicies",
            json!([{ "name": "Fair!" }]),
            "spec.biasPolicies[0].name",
            "name of an object",
        ),
        wrong(
            "/spec/rollout",
            Value::Null,
            "cadence.maxInterval",
            "add rollout, or leave maxInterval out",
        ),
        wrong(
            "/spec/rollout/binding",
            json!({ "type": "DeploymentImage", "container": "app" }),
            "rollout.binding.type DeploymentImage",
            "artifacts.uri must begin with oci://",
        ),
        wrong(
            "/spec/rollout/strategy/steps/0/weight",
            json!(60),
            "a step with weight above 50",
            "needs capacity.baseline: ShrinkWithWeight",
        ),
        wrong("/spec/stages", json!([]), "spec.stages", "at least 1 items"),
    ]
}

pub(super) fn gates() -> Vec<Wrong> {
    let gate = |extra: Value| {
        let mut gate = json!([{ "name": "error", "metric": "mae" }]);
        for (key, value) in extra.as_object().cloned().unwrap_or_default() {
            gate[0][key] = value;
        }
        gate
    };
    let live = |extra: Value| {
        let mut all = gate(json!({ "compareTo": "LiveVersion", "direction": "Minimize" }));
        for (key, value) in extra.as_object().cloned().unwrap_or_default() {
            all[0][key] = value;
        }
        all
    };
    let at = "/spec/gates";
    vec![
        wrong(
            at,
            json!([]),
            "automationLevel FullyAutomated",
            "needs at least one gate that is not a dry run",
        ),
        wrong(
            at,
            gate(json!({ "max": "5", "dryRun": true })),
            "automationLevel FullyAutomated",
            "needs at least one gate that is not a dry run",
        ),
        wrong(at, gate(json!({})), "compareTo: Constant", "needs min or max"),
        wrong(
            at,
            gate(json!({ "max": "5", "direction": "Minimize" })),
            "direction",
            "or set compareTo: LiveVersion",
        ),
        wrong(
            at,
            gate(json!({ "compareTo": "LiveVersion" })),
            "compareTo: LiveVersion",
            "needs direction: Minimize or Maximize",
        ),
        wrong(
            at,
            gate(json!({ "compareTo": "Best", "max": "5" })),
            "spec.gates[0].compareTo",
            "\"Constant\", \"LiveVersion\"",
        ),
        wrong(
            at,
            live(json!({ "direction": "Down" })),
            "spec.gates[0].direction",
            "\"Maximize\", \"Minimize\"",
        ),
        wrong(
            at,
            live(json!({ "max": "5" })),
            "min and max are constants",
            "set compareTo: Constant",
        ),
        wrong(
            at,
            live(json!({ "maxRegression": "1", "minImprovement": "1" })),
            "maxRegression or minImprovement",
            "not both",
        ),
        wrong(
            at,
            live(json!({ "maxRegression": "-1" })),
            "maxRegression must not be negative",
            "set minImprovement",
        ),
        wrong(
            at,
            live(json!({ "minImprovement": "-1" })),
            "minImprovement must not be negative",
            "set maxRegression",
        ),
        wrong(
            at,
            gate(json!({ "min": "5", "max": "1" })),
            "min must not be greater than max",
            "correct one of them",
        ),
        wrong(
            at,
            gate(json!({ "max": "about five" })),
            "spec.gates[0].max",
            "decimal number as quoted text",
        ),
        wrong(
            at,
            gate(json!({ "max": "1e3" })),
            "spec.gates[0].max",
            "such as \"0.05\"",
        ),
        wrong(
            at,
            gate(json!({ "max": "5", "stage": "nowhere" })),
            "gates[].stage",
            "correct it, or leave it out",
        ),
        wrong(
            at,
            gate(json!({ "max": "5", "metric": "" })),
            "spec.gates[0].metric",
            "at least 1 chars",
        ),
        wrong(
            at,
            gate(json!({ "max": "5", "confidence": { "level": "1.5" } })),
            "confidence.level",
            "at least 0.5 and below 1",
        ),
        wrong(
            at,
            gate(json!({ "max": "5", "confidence": { "minSamples": 0 } })),
            "confidence.minSamples",
            "greater than or equal to 1",
        ),
        wrong(
            at,
            gate(json!({ "max": "5", "onMissing": "Ignore" })),
            "spec.gates[0].onMissing",
            "\"Fail\", \"Hold\"",
        ),
    ]
}

#[tokio::test]
async fn cluster_wrong_pipelines_are_refused_with_their_remedy() {
    let world = api("wrong-pipeline").await;
    refuse::<FlywheelPipeline>(&world, &good(), &mistakes()).await;
    refuse::<FlywheelPipeline>(&world, &good(), &gates()).await;
    let mut renamed = good();
    renamed["spec"]["model"]["name"] = json!("other");
    let error = world
        .apply::<FlywheelPipeline>("good", renamed)
        .await
        .expect_err("the model is immutable");
    assert!(
        error.to_string().contains("create another pipeline for another model"),
        "{error}"
    );
    let long = "a-pipeline-with-a-name-of-more-than-forty-characters";
    let error = world
        .apply::<FlywheelPipeline>(long, good())
        .await
        .expect_err("the name is too long");
    assert!(
        error
            .to_string()
            .contains("metadata.name must be a DNS label of at most 40"),
        "{error}"
    );
}
