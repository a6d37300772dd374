//! Objects and a small world for tests: whole loops run through the production `decide` functions without IO.
//!
//! The world keeps objects as the API server would (UIDs, resource versions, generations, finalizers, owners), carries
//! out decisions with their preconditions, and lets Jobs end and Deployments become ready when it is told to. It
//! decides nothing itself. Only for tests: behind `cfg(test)` and the feature `testing`.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::needless_pass_by_value,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a broken fixture must stop the test"
)]

mod held;
mod kind;
mod mistake;
mod nature;
mod observe;
mod patch;
mod people;
mod scene;
mod stored;
mod world;

use flywheel_api::approval::ApprovalDecision;
use flywheel_api::reference::WaitingFor;
use flywheel_api::{Approval, BiasPolicy, FlywheelPipeline, FlywheelRun, ModelVersion, Rollout};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::Deployment;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

pub use held::{Content, Held, shown};
pub use kind::DECIDED;
pub use mistake::Mistake;
pub use nature::{Ending, Report};
pub use world::{Key, Kind, World, Write};

/// Namespace of everything in the world.
pub const NAMESPACE: &str = "shop";

/// That many seconds after the world began: Monday, 5 January 2026, 00:00 UTC.
#[must_use]
pub fn at(seconds: i64) -> Timestamp {
    "2026-01-05T00:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_secs(seconds)
}

/// An object from its JSON, as the API server would read it.
#[must_use]
pub fn object<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).expect("the fixture is an object of its kind")
}

/// The smallest useful pipeline, as the documentation shows it, without triggers.
#[must_use]
pub fn pipeline() -> FlywheelPipeline {
    object(json!({
        "apiVersion": "flywheel.dev/v1alpha1",
        "kind": "FlywheelPipeline",
        "metadata": { "name": "eta", "namespace": NAMESPACE },
        "spec": {
            "automationLevel": "HumanOversight",
            "model": { "name": "eta" },
            "data": { "sources": [{ "name": "trips", "uri": "s3://trips/2026", "format": "Parquet" }] },
            "stages": [
                { "name": "train", "type": "Train", "image": "example/eta:1", "args": ["train"] },
                { "name": "evaluate", "type": "Evaluate", "image": "example/eta:1", "args": ["evaluate"] },
            ],
            "gates": [
                { "name": "error", "metric": "mae", "direction": "Minimize", "compareTo": "LiveVersion" },
                { "name": "bound", "metric": "mae", "max": "20" },
            ],
            "rollout": plan(),
        },
    }))
}

/// A plan with two steps of ten minutes.
#[must_use]
pub fn plan() -> Value {
    json!({
        "targetRef": { "kind": "Deployment", "name": "eta" },
        "binding": { "type": "DeploymentEnv", "container": "app", "name": "MODEL_URI" },
        "strategy": { "steps": [
            { "name": "tenth", "weight": 10, "minDuration": "10m" },
            { "name": "half", "weight": 50, "minDuration": "10m" },
        ] },
    })
}

/// A check that compares an error rate with a constant.
#[must_use]
pub fn check() -> Value {
    json!({ "name": "errors", "providerRef": { "name": "prometheus" }, "query": "errors($candidate)", "max": "0.01",
        "interval": "30s" })
}

/// A run that a user asked for.
#[must_use]
pub fn run(name: &str, requested_by: &str) -> FlywheelRun {
    object(json!({
        "apiVersion": "flywheel.dev/v1alpha1",
        "kind": "FlywheelRun",
        "metadata": { "name": name, "namespace": NAMESPACE },
        "spec": { "pipelineRef": { "name": "eta" }, "requestedBy": requested_by },
    }))
}

/// A version that a user imported.
#[must_use]
pub fn version(number: i64) -> ModelVersion {
    let digit = number % 10;
    object(json!({
        "apiVersion": "flywheel.dev/v1alpha1",
        "kind": "ModelVersion",
        "metadata": { "name": format!("eta-{number}"), "namespace": NAMESPACE },
        "spec": {
            "modelName": "eta",
            "version": number,
            "artifact": { "uri": uri(number), "digest": format!("sha256:{}", digit.to_string().repeat(64)) },
        },
    }))
}

/// Where an imported version lies.
#[must_use]
pub fn uri(number: i64) -> String {
    format!("s3://models/eta/{number}")
}

/// The Deployment that serves the model.
#[must_use]
pub fn target(replicas: i32, value: Option<&str>) -> Deployment {
    let env = value.map_or_else(|| json!([]), |v| json!([{ "name": "MODEL_URI", "value": v }]));
    object(json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": "eta", "namespace": NAMESPACE },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": "eta" } },
            "template": {
                "metadata": { "labels": { "app": "eta" } },
                "spec": { "containers": [{ "name": "app", "image": "example/server:1", "env": env }] },
            },
        },
    }))
}

/// A Rollout without pipeline of that version.
#[must_use]
pub fn rollout(name: &str, number: i64, plan: &Value) -> Rollout {
    object(json!({
        "apiVersion": "flywheel.dev/v1alpha1",
        "kind": "Rollout",
        "metadata": { "name": name, "namespace": NAMESPACE },
        "spec": { "modelVersionRef": { "name": format!("eta-{number}") }, "plan": plan },
    }))
}

/// A bias policy: no size of airport may have an error beyond 18, nor become worse by more than 0.5.
#[must_use]
pub fn policy(name: &str) -> BiasPolicy {
    object(json!({
        "apiVersion": "flywheel.dev/v1alpha1",
        "kind": "BiasPolicy",
        "metadata": { "name": name, "namespace": NAMESPACE },
        "spec": {
            "protectedAttributes": [{ "name": "airport", "groups": ["hub", "small"] }],
            "objectives": [{ "name": "worst", "metric": "mae", "compare": "WorstGroup", "limit": { "max": "18" } }],
            "improvement": { "metric": "mae", "direction": "Minimize", "perGroup": { "maxRegression": "0.5" } },
        },
    }))
}

/// What a person decides on what waits.
#[must_use]
pub fn approval(name: &str, approver: &str, decision: ApprovalDecision, waiting: &WaitingFor) -> Approval {
    object(json!({
        "apiVersion": "flywheel.dev/v1alpha1",
        "kind": "Approval",
        "metadata": { "name": name, "namespace": NAMESPACE },
        "spec": {
            "subjectRef": waiting.subject,
            "gate": waiting.gate,
            "decision": decision,
            "evidenceDigest": waiting.evidence_digest,
            "approver": approver,
        },
    }))
}
