//! Wrong Rollouts.

use flywheel_api::Rollout;
use serde_json::{Value, json};

use super::{Wrong, refuse, wrong};
use crate::world::api;

fn good() -> Value {
    json!({ "spec": { "modelVersionRef": { "name": "eta-1" }, "desiredState": "Progress", "holdReason": "", "plan": {
        "targetRef": { "kind": "Deployment", "name": "eta" },
        "binding": { "type": "DeploymentEnv", "container": "app", "name": "MODEL_URI" },
        "capacity": { "baseline": "Keep" },
        "strategy": { "steps": [
            { "name": "tenth", "weight": 10, "minDuration": "1m", "maxDuration": "2m" },
            { "name": "half", "weight": 50 },
        ] },
        "checks": [{ "name": "errors", "providerRef": { "name": "prometheus" }, "query": "1", "max": "2",
            "fromStep": "tenth", "interval": "30s" }],
        "progressDeadlineSeconds": 60, "drainSeconds": 5 } } })
}

pub(super) fn mistakes() -> Vec<Wrong> {
    let steps = "/spec/plan/strategy/steps";
    vec![
        wrong(
            "/spec/modelVersionRef/name",
            json!("Eta 1"),
            "spec.modelVersionRef.name",
            "name of an object",
        ),
        wrong(
            "/spec/pipelineRef",
            json!({ "name": "Eta 1", "uid": "u" }),
            "spec.pipelineRef.name",
            "name of an object",
        ),
        wrong(
            "/spec/maxAutomationLevel",
            json!("Manual"),
            "maxAutomationLevel needs pipelineRef",
            "let steps ask for approval",
        ),
        wrong(
            "/spec/maxAutomationLevel",
            json!("Automatic"),
            "spec.maxAutomationLevel",
            "\"Manual\", \"SemiAutomated\"",
        ),
        wrong(
            "/spec/desiredState",
            json!("Pause"),
            "spec.desiredState",
            "\"Progress\", \"Hold\"",
        ),
        wrong(
            "/spec/desiredState",
            json!("Hold"),
            "desiredState Hold needs holdReason",
            "say for whom and until when",
        ),
        wrong(
            "/spec/plan/targetRef/kind",
            json!("StatefulSet"),
            "spec.plan.targetRef.kind",
            "\"Deployment\"",
        ),
        wrong(
            "/spec/plan/targetRef/name",
            json!("Eta"),
            "spec.plan.targetRef.name",
            "lower case letters",
        ),
        wrong(
            "/spec/plan/targetRef/namespace",
            json!("other"),
            ".spec.plan.targetRef.namespace",
            "field not declared",
        ),
        wrong(
            "/spec/plan/binding/type",
            json!("DeploymentImage"),
            "binding.name",
            "forbidden for DeploymentImage",
        ),
        wrong(
            "/spec/plan/binding/type",
            json!("Annotation"),
            "spec.plan.binding.type",
            "\"DeploymentEnv\"",
        ),
        wrong(
            "/spec/plan/binding",
            json!({ "type": "DeploymentEnv", "container": "app" }),
            "binding.name",
            "required for type DeploymentEnv",
        ),
        wrong(
            "/spec/plan/binding/name",
            json!("MODEL-URI"),
            "spec.plan.binding.name",
            "letters, digits and underscores",
        ),
        wrong(
            "/spec/plan/binding/container",
            json!("App"),
            "spec.plan.binding.container",
            "lower case letters",
        ),
        wrong(
            "/spec/plan/strategy/steps/1/weight",
            json!(60),
            "a step with weight above 50",
            "needs capacity.baseline: ShrinkWithWeight",
        ),
        wrong(
            "/spec/plan/strategy/steps/1/weight",
            json!(10),
            "steps must have different weights",
            "merge the steps",
        ),
        wrong(
            "/spec/plan/strategy/steps/1/weight",
            json!(5),
            "steps must stand by increasing weight",
            "sort them",
        ),
        wrong(
            "/spec/plan/strategy/steps/1/weight",
            json!(0),
            "spec.plan.strategy.steps[1].weight",
            "greater than or equal to 1",
        ),
        wrong(
            "/spec/plan/strategy/steps/1/weight",
            json!(100),
            "spec.plan.strategy.steps[1].weight",
            "less than or equal to 99",
        ),
        wrong(
            "/spec/plan/strategy/steps/1/weight",
            json!("half"),
            "weight",
            "expected numeric",
        ),
        wrong(
            "/spec/plan/strategy/steps/1/name",
            json!("tenth"),
            "name=\"tenth\"",
            "duplicate entries for key",
        ),
        wrong(
            "/spec/plan/strategy/steps/1/name",
            json!("full"),
            "name must not be full",
            "after the last step",
        ),
        wrong(
            "/spec/plan/strategy/steps/0/minDuration",
            json!("3m"),
            "maxDuration must not be shorter than minDuration",
            "raise maxDuration or lower minDuration",
        ),
        wrong(
            "/spec/plan/strategy/steps/0/minDuration",
            json!("soon"),
            "spec.plan.strategy.steps[0].minDuration",
            "such as 90s, 10m",
        ),
        wrong(
            steps,
            json!([{ "name": "tenth", "weight": 10, "maxDuration": "0s" }]),
            "maxDuration must be longer than 0s",
            "leave it out for no limit",
        ),
        wrong(
            steps,
            json!([{ "name": "tenth", "weight": 10, "approval": { "minApprovals": 0 } }]),
            "approval.minApprovals",
            "greater than or equal to 1",
        ),
        wrong(
            "/spec/plan/progressDeadlineSeconds",
            json!(1),
            "spec.plan.progressDeadlineSeconds",
            "greater than or equal to 10",
        ),
        wrong(
            "/spec/plan/drainSeconds",
            json!(-1),
            "spec.plan.drainSeconds",
            "greater than or equal to 0",
        ),
        wrong(
            "/spec/plan/capacity/baseline",
            json!("Remove"),
            "spec.plan.capacity.baseline",
            "\"Keep\"",
        ),
        wrong(
            "/spec/plan/rollback",
            json!({ "mode": "Never" }),
            "spec.plan.rollback.mode",
            "\"Auto\", \"Recommend\"",
        ),
        wrong(
            "/spec/plan/observe",
            json!({ "duration": "1 hour" }),
            "spec.plan.observe.duration",
            "such as 90s",
        ),
    ]
}

pub(super) fn checks() -> Vec<Wrong> {
    let check = |extra: Value| {
        let mut all = json!([{ "name": "errors", "providerRef": { "name": "prometheus" }, "query": "1" }]);
        for (key, value) in extra.as_object().cloned().unwrap_or_default() {
            all[0][key] = value;
        }
        all
    };
    let at = "/spec/plan/checks";
    let base = json!({ "baselineQuery": "1", "direction": "Minimize", "maxRelativeChange": "-0.1" });
    vec![
        wrong(
            "/spec/plan/checks/0/fromStep",
            json!("nowhere"),
            "checks[].fromStep",
            "must be the name of a step",
        ),
        wrong(
            "/spec/plan/checks/0/interval",
            json!("x"),
            "spec.plan.checks[0].interval",
            "such as 90s",
        ),
        wrong(
            "/spec/plan/checks/0/interval",
            json!("0s"),
            "interval must be",
            "at least 1s",
        ),
        wrong(
            "/spec/plan/checks/0/providerRef",
            json!({}),
            "spec.plan.checks[0].providerRef.name",
            "Required value",
        ),
        wrong(
            at,
            check(json!({})),
            "constants (min, max) or with the baseline",
            "set one of the two",
        ),
        wrong(
            at,
            check(json!({ "max": "1", "baselineQuery": "1" })),
            "baselineQuery",
            "set one of the two",
        ),
        wrong(
            at,
            check(json!({ "baselineQuery": "1" })),
            "needs direction and maxRelativeChange",
            "add both",
        ),
        wrong(
            at,
            check(json!({ "max": "1", "direction": "Minimize" })),
            "direction and maxRelativeChange",
            "add baselineQuery or remove them",
        ),
        wrong(
            at,
            check(json!({ "min": "2", "max": "1" })),
            "min must not be greater than max",
            "correct one of them",
        ),
        wrong(at, check(base), "maxRelativeChange must not be negative", "0 demands"),
        wrong(
            at,
            check(json!({ "max": "1", "minSamples": 5 })),
            "samplesQuery and minSamples",
            "set both or none",
        ),
        wrong(
            at,
            check(json!({ "max": "1", "samplesQuery": "1" })),
            "samplesQuery and minSamples",
            "set both or none",
        ),
        wrong(
            at,
            check(json!({ "max": "1", "failureLimit": -1 })),
            "spec.plan.checks[0].failureLimit",
            "greater than or equal to 0",
        ),
        wrong(
            at,
            check(json!({ "max": "1", "onFail": "Explode" })),
            "spec.plan.checks[0].onFail",
            "\"RollBack\"",
        ),
        wrong(
            at,
            check(json!({ "max": "x" })),
            "spec.plan.checks[0].max",
            "decimal number as quoted text",
        ),
    ]
}

/// A plan that cannot be changed, and a decision that cannot be taken back.
#[tokio::test]
async fn cluster_wrong_rollouts_are_refused_with_their_remedy() {
    let world = api("wrong-rollout").await;
    refuse::<Rollout>(&world, &good(), &mistakes()).await;
    refuse::<Rollout>(&world, &good(), &checks()).await;
    let immutable = [
        (
            "/spec/plan/drainSeconds",
            json!(6),
            "create another Rollout for another plan",
        ),
        (
            "/spec/modelVersionRef/name",
            json!("eta-2"),
            "create another Rollout for another version",
        ),
        (
            "/spec/runRef",
            json!({ "name": "eta-1", "uid": "u" }),
            "runRef is immutable",
        ),
        (
            "/spec/maxAutomationLevel",
            json!("Manual"),
            "maxAutomationLevel is immutable",
        ),
    ];
    for (at, value, words) in immutable {
        let mut changed = good();
        super::set(&mut changed, at, &value);
        let error = world.apply::<Rollout>("good", changed).await.expect_err(at);
        assert!(error.to_string().contains(words), "{at}: {error}");
    }
    let mut aborted = good();
    aborted["spec"]["desiredState"] = json!("Abort");
    world.apply::<Rollout>("good", aborted).await.expect("aborted");
    let error = world
        .apply::<Rollout>("good", good())
        .await
        .expect_err("Abort is final");
    assert!(
        error.to_string().contains("cannot go on: create another Rollout"),
        "{error}"
    );
}
