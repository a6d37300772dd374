//! Worlds as the operator leaves them, one per state that people ask about; for tests.

use flywheel_engine::evidence::freeze;
use jiff::Timestamp;
use kube::ResourceExt;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::world::World;

/// The moment at which all scenes are looked at.
pub const NOW: &str = "2026-03-02T12:00:00Z";
const SHA: &str = "sha256:4d5f0123456789abcdef0123456789abcdef0123456789abcdef0123456789ab";

fn typed<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap_or_else(|e| panic!("a scene is broken: {e}"))
}

/// Metadata of an object that was created some minutes ago.
fn meta(name: &str, minutes: i64) -> Value {
    let now: Timestamp = NOW.parse().unwrap();
    let created = now - jiff::SignedDuration::from_mins(minutes);
    json!({ "name": name, "namespace": "ml", "uid": format!("uid-{name}"), "creationTimestamp": created, "generation": 1 })
}

fn ago(minutes: i64) -> Value {
    let now: Timestamp = NOW.parse().unwrap();
    json!(now - jiff::SignedDuration::from_mins(minutes))
}

fn condition(type_: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({ "type": type_, "status": status, "reason": reason, "message": message,
        "lastTransitionTime": ago(2), "observedGeneration": 1 })
}

/// Conditions of a run or rollout whose version serves.
fn promoted(message: &str) -> Value {
    json!([
        condition("Ready", "True", "Promoted", message),
        condition("Complete", "True", "Promoted", message)
    ])
}

/// Pipeline, the version that serves, its run and rollout, its Deployment with three pods.
pub fn quiet() -> World {
    let ready = condition("Ready", "True", "Idle", "The next run starts at 2026-03-09T03:00:00Z.");
    let pipeline = json!({ "metadata": meta("eta", 6000), "spec": {
        "automationLevel": "HumanOversight", "model": { "name": "eta" },
        "stages": [
            { "name": "train", "type": "Train", "image": "example/eta:1" },
            { "name": "evaluate", "type": "Evaluate", "image": "example/eta:1" }
        ] }, "status": { "observedGeneration": 1,
        "effectiveLevel": { "level": "HumanOversight", "reason": "Spec" },
        "liveVersion": { "name": "eta-6", "since": ago(5000) },
        "nextScheduleTime": "2026-03-09T03:00:00Z", "conditions": [ready,
            condition("Accepted", "True", "Accepted", "The pipeline was understood.")] } });
    let mut run = run("eta-6", 5100);
    run["status"]["outcome"] = json!("Promoted");
    run["status"]["outcomeReason"] = json!("Version eta-6 serves.");
    run["status"]["finishedAt"] = ago(5000);
    run["status"]["conditions"] = promoted("Version eta-6 serves.");
    let mut rollout = rollout("eta-6", "Promoted", 5050);
    rollout["status"]["finishedAt"] = ago(5000);
    rollout["status"]["promotedAt"] = ago(5010);
    let serves = "The version serves since 2026-02-26T23:00:00Z; nothing spoke against it.";
    rollout["status"]["outcomeReason"] = json!(serves);
    rollout["status"]["baseline"] = json!({ "version": "eta-5", "value": "pvc://store/eta-5" });
    rollout["status"]["conditions"] = promoted(serves);
    World {
        namespace: "ml".to_owned(),
        now: NOW.parse().unwrap(),
        pipelines: vec![typed(pipeline)],
        runs: vec![typed(run)],
        versions: vec![typed(version("eta-6", 6, "Live", 5060))],
        rollouts: vec![typed(rollout)],
        deployments: vec![typed(deployment("eta", 3, "pvc://store/eta-6"))],
        pods: (1..=3)
            .map(|n| typed(pod(&format!("eta-6d4-{n}"), false, true)))
            .collect(),
        ..World::default()
    }
}

fn run(name: &str, minutes: i64) -> Value {
    let stage = |stage: &str, type_: &str, from: i64, to: i64| {
        json!({ "name": stage, "type": type_, "state": "Succeeded", "attempt": 1,
            "job": { "name": format!("{name}-{stage}-1a2b"), "uid": format!("uid-{name}-{stage}") },
            "startedAt": ago(minutes - from), "finishedAt": ago(minutes - to),
            "imageId": format!("example/eta@{SHA}"), "result": { "artifacts": [], "metrics": [], "groups": [] } })
    };
    json!({ "metadata": meta(name, minutes), "spec": { "pipelineRef": { "name": "eta" },
        "trigger": { "name": "weekly", "type": "Schedule" } }, "status": {
        "observedGeneration": 1, "level": "HumanOversight", "startedAt": ago(minutes), "stage": "Approval",
        "comparedWith": { "name": "eta-6" },
        "stages": [stage("train", "Train", 0, 3), stage("evaluate", "Evaluate", 3, 4)],
        "modelVersion": { "name": name, "number": 7, "uid": format!("uid-{name}") } } })
}

fn version(name: &str, number: i64, state: &str, minutes: i64) -> Value {
    let parent = format!("eta-{}", number - 1);
    json!({ "metadata": meta(name, minutes), "spec": { "modelName": "eta", "version": number,
        "artifact": { "uri": format!("pvc://store/{name}"), "digest": SHA, "sizeBytes": 4096 },
        "parent": { "name": parent },
        "datasets": [{ "name": "train.rows", "uri": "pvc://store/rows", "digest": SHA, "records": 120_000,
            "window": { "start": "2026-02-23T00:00:00Z", "end": "2026-03-01T00:00:00Z" } }],
        "parameters": [{ "name": "week", "value": "9" }],
        "provenance": { "pipeline": { "name": "eta", "uid": "uid-eta" }, "run": { "name": name, "uid": format!("uid-{name}") },
            "snapshotDigest": SHA, "seed": 7, "level": "HumanOversight",
            "stages": [{ "name": "train", "type": "Train", "job": { "name": format!("{name}-train-1a2b"), "uid": format!("uid-{name}-train") },
                "attempt": 1, "image": "example/eta:1", "imageId": format!("example/eta@{SHA}"),
                "startedAt": ago(minutes + 4), "finishedAt": ago(minutes + 1) }] } },
        "status": { "observedGeneration": 1, "state": state,
            "conditions": [condition("Ready", "True", "Registered", &format!("Version {name} is registered."))] } })
}

fn plan() -> Value {
    json!({ "targetRef": { "kind": "Deployment", "name": "eta" },
        "binding": { "type": "DeploymentEnv", "container": "app", "name": "MODEL_URI" },
        "strategy": { "steps": [{ "name": "tenth", "weight": 10, "minDuration": "10m" },
            { "name": "half", "weight": 50, "minDuration": "10m", "approval": { "minApprovals": 2 } }] },
        "checks": [{ "name": "errors", "providerRef": { "name": "main" }, "query": "rate(errors{version=\"$candidate\"}[1m])",
            "max": "0.01", "interval": "30s", "failureLimit": 1 }] })
}

fn rollout(name: &str, phase: &str, minutes: i64) -> Value {
    json!({ "metadata": meta(name, minutes), "spec": { "modelVersionRef": { "name": name }, "plan": plan(),
        "runRef": { "name": name, "uid": format!("uid-{name}") }, "pipelineRef": { "name": "eta", "uid": "uid-eta" } },
        "status": { "observedGeneration": 1, "phase": phase, "targetUid": "uid-eta",
            "candidate": { "version": name, "value": format!("pvc://store/{name}") },
            "baseline": { "version": "eta-6", "value": "pvc://store/eta-6" }, "baselineReplicas": 3 } })
}

fn deployment(name: &str, replicas: i32, value: &str) -> Value {
    let candidate = name.ends_with("-candidate");
    let mut labels = json!({ "app": "eta" });
    let mut metadata = meta(name, 4000);
    if candidate {
        labels["flywheel.dev/role"] = json!("candidate");
        metadata["labels"] = json!({ "flywheel.dev/role": "candidate", "flywheel.dev/target": "eta" });
    }
    json!({ "metadata": metadata, "spec": { "replicas": replicas, "selector": { "matchLabels": labels },
        "template": { "metadata": { "labels": labels }, "spec": { "containers": [{ "name": "app", "image": "example/serve:1",
            "env": [{ "name": "MODEL_URI", "value": value }] }] } } },
        "status": { "replicas": replicas, "readyReplicas": replicas, "observedGeneration": 1 } })
}

fn pod(name: &str, candidate: bool, ready: bool) -> Value {
    let mut metadata = meta(name, 8);
    metadata["labels"] = json!({ "app": "eta" });
    if candidate {
        metadata["labels"]["flywheel.dev/role"] = json!("candidate");
    }
    let state = if ready {
        json!({ "running": { "startedAt": ago(8) } })
    } else {
        json!({ "waiting": { "reason": "CrashLoopBackOff", "message": "back-off 20s restarting failed container" } })
    };
    json!({ "metadata": metadata, "status": { "phase": "Running", "containerStatuses": [{ "name": "app", "image": "i", "imageID": "i",
        "ready": ready, "restartCount": if ready { 0 } else { 3 }, "state": state }] } })
}

fn gate(verdict: &str, message: &str) -> Value {
    json!({ "gate": "error", "metric": "mae", "verdict": verdict, "reason": if verdict == "Pass" { "NotWorse" } else { "Worse" },
        "message": message, "value": "12.41", "baseline": "12.98", "low": "-0.61", "high": "-0.52", "limit": "0", "samples": 48_210 })
}

fn small_airports(verdict: &str) -> Value {
    json!({ "policy": "airports", "policyUid": "uid-airports", "policyGeneration": 3, "objective": "improvement",
        "attribute": "size", "group": "small", "verdict": verdict, "enforcement": "Block", "reason": "Regressed",
        "message": "Policy airports: group small of size becomes worse by at least 0.31, at most 0.1 is allowed.",
        "value": "0.42", "bound": "0.31", "limit": "0.1", "samples": 2310 })
}

fn decided(minutes: i64, decision: &str, reason: &str, message: &str) -> Value {
    json!({ "at": ago(minutes), "decision": decision, "reason": reason, "message": message, "level": "HumanOversight" })
}

fn waits(gate: &str, kind: &str, name: &str, evidence: &Value, needed: i32) -> Value {
    let frozen = freeze(evidence).unwrap();
    let namespace = "ml";
    json!({ "gate": gate, "subject": { "kind": kind, "name": name, "uid": format!("uid-{name}") },
        "evidenceDigest": frozen.digest, "evidence": frozen.json, "since": ago(2), "needed": needed,
        "resolve": format!("kubectl flywheel approve {} {name} -n {namespace}", kind.to_lowercase()) })
}

/// A candidate passed its gates and waits for a person; an Approval of older evidence does not count.
pub fn waiting() -> World {
    let mut world = quiet();
    let verdict = gate(
        "Pass",
        "Gate error: mae is 12.41 against 12.98 of eta-6; the difference is at most -0.52, 0 is allowed.",
    );
    let evidence = json!({ "subject": { "kind": "ModelVersion", "name": "eta-7", "uid": "uid-eta-7" }, "gate": "Promote",
        "artifact": { "uri": "pvc://store/eta-7", "digest": SHA, "sizeBytes": 4096 }, "datasets": [SHA], "verdicts": [verdict],
        "bias": [], "plan": null, "live": "eta-6", "level": "HumanOversight" });
    let message = "1 gates and all bias policies passed; at level HumanOversight a person decides on the delivery. 0 of 1 approvals. To decide: kubectl flywheel approve modelversion eta-7 -n ml";
    let mut run = run("eta-7", 9);
    run["status"]["gates"] = json!([verdict]);
    run["status"]["waitingFor"] = waits("Promote", "ModelVersion", "eta-7", &evidence, 1);
    run["status"]["waitingFor"]["stale"] = json!(["eta-7-old"]);
    run["status"]["decisions"] = json!([
        decided(9, "StartStage", "Permitted", "Stage train starts, attempt 1."),
        decided(5, "Register", "StagesSucceeded", "Version eta-7 is registered."),
        decided(2, "AwaitApproval", "Promote", message)
    ]);
    run["status"]["conditions"] = json!([
        condition("Ready", "True", "AwaitingApproval", message),
        condition("AwaitingApproval", "True", "AwaitingApproval", message)
    ]);
    let mut version = version("eta-7", 7, "Candidate", 5);
    version["status"]["evaluations"] = json!([verdict]);
    world.runs.push(typed(run));
    world.versions.push(typed(version));
    world.approvals.push(typed(json!({ "metadata": meta("eta-7-old", 3), "spec": {
        "subjectRef": { "kind": "ModelVersion", "name": "eta-7", "uid": "uid-eta-7" }, "gate": "Promote", "decision": "Approve",
        "evidenceDigest": format!("sha256:{}", "0".repeat(64)), "approver": "jane", "reason": "looked fine yesterday" } })));
    world
}

/// A candidate that was refused: by a gate, by a bias policy, or by both.
pub fn refused(by_gate: bool, by_bias: bool) -> World {
    let mut world = quiet();
    let sentence = if by_gate {
        "Gate error: mae is 13.4 against 12.98 of eta-6; the difference is at least 0.2, 0 is allowed."
    } else {
        "Policy airports: group small of size becomes worse by at least 0.31, at most 0.1 is allowed."
    };
    let verdict = gate(if by_gate { "Fail" } else { "Pass" }, "Gate error: the numbers decide.");
    let bias = json!([small_airports(if by_bias { "Fail" } else { "Pass" })]);
    let mut run = run("eta-7", 9);
    run["status"]["gates"] = json!([verdict]);
    run["status"]["bias"] = bias.clone();
    run["status"]["outcome"] = json!("Rejected");
    run["status"]["outcomeReason"] = json!(sentence);
    run["status"]["finishedAt"] = ago(4);
    run["status"]["decisions"] = json!([decided(
        4,
        "Finish",
        if by_gate { "GateFailed" } else { "BiasFail" },
        sentence
    )]);
    run["status"]["conditions"] = json!([
        condition("Complete", "True", "Rejected", sentence),
        condition("Ready", "True", "Rejected", sentence)
    ]);
    let mut version = version("eta-7", 7, "Rejected", 5);
    version["status"]["evaluations"] = json!([verdict]);
    version["status"]["bias"] = bias;
    world.runs.push(typed(run));
    world.versions.push(typed(version));
    world
}

/// A rollout on its way, with its candidate's pods.
fn delivering(status: &Value, ready: bool) -> World {
    let mut world = quiet();
    let mut run = run("eta-7", 20);
    run["status"]["stage"] = json!("Rollout");
    run["status"]["conditions"] = json!([condition("Ready", "True", "RollingOut", "Rollout eta-7 is under way.")]);
    let mut rollout = rollout("eta-7", "Holding", 12);
    let fields = rollout["status"].as_object_mut().unwrap();
    fields.insert(
        "candidateDeployment".to_owned(),
        json!({ "name": "eta-candidate", "uid": "uid-c" }),
    );
    fields.extend(status.as_object().unwrap().clone());
    world.runs.push(typed(run));
    world.versions.push(typed(version("eta-7", 7, "RollingOut", 15)));
    world.rollouts.push(typed(rollout));
    world
        .deployments
        .push(typed(deployment("eta-candidate", 1, "pvc://store/eta-7")));
    world.pods.push(typed(pod("eta-candidate-7f9-x", true, ready)));
    world
}

fn check(verdict: &str, value: &str, message: &str) -> Value {
    json!({ "name": "errors", "verdict": verdict, "message": message, "value": value, "limit": "0.01",
        "failures": i32::from(verdict == "Fail"), "at": ago(0) })
}

/// At the first step; its time is not over.
pub fn rolling_out() -> World {
    let message = "Step tenth has its weight since 2026-03-02T11:56:00Z and stays until 2026-03-02T12:06:00Z.";
    delivering(
        &json!({ "step": { "index": 0, "name": "tenth", "enteredAt": ago(4), "holdReason": "MinDuration" },
            "weights": { "asked": 10, "actual": 25, "candidateReplicas": 1, "baselineReplicas": 3 },
            "checks": [check("Pass", "0.002", "0.002 is at most 0.01.")],
            "decisions": [decided(12, "Begin", "Begun", "Begins with step tenth at 10 %; the baseline is pvc://store/eta-6.")],
            "conditions": [condition("Ready", "True", "MinDuration", message),
                condition("TargetBound", "True", "AsRecorded", "The target carries the value of the baseline, as recorded.")] }),
        true,
    )
}

/// At the second step, which needs two people; one has approved.
pub fn held() -> World {
    let evidence = json!({ "subject": "uid-eta-7", "step": { "index": 1, "name": "half" }, "weight": 50,
        "candidate": { "version": "eta-7", "value": "pvc://store/eta-7" }, "baseline": { "version": "eta-6", "value": "pvc://store/eta-6" },
        "plan": SHA, "checks": [{ "name": "errors", "verdict": "Pass" }], "level": "HumanOversight" });
    let mut waits = waits("RolloutStep", "Rollout", "eta-7", &evidence, 2);
    waits["approvedBy"] = json!(["eta-7-jane"]);
    let digest = waits["evidenceDigest"].clone();
    let message = "Step half waits since 2026-03-02T11:58:00Z for 2 Approvals and has 1: run `kubectl flywheel approve rollout eta-7 -n ml`.";
    let mut world = delivering(
        &json!({ "step": { "index": 1, "name": "half", "enteredAt": ago(4), "holdReason": "AwaitingApproval" },
            "weights": { "asked": 50, "actual": 50, "candidateReplicas": 3, "baselineReplicas": 3 },
            "checks": [check("Pass", "0.002", "0.002 is at most 0.01.")], "waitingFor": waits,
            "conditions": [condition("Ready", "True", "AwaitingApproval", message),
                condition("AwaitingApproval", "True", "AwaitingApproval", message)] }),
        true,
    );
    world.approvals.push(typed(json!({ "metadata": meta("eta-7-jane", 1), "spec": {
        "subjectRef": { "kind": "Rollout", "name": "eta-7", "uid": "uid-eta-7" }, "gate": "RolloutStep", "decision": "Approve",
        "evidenceDigest": digest, "approver": "jane", "reason": "numbers are good" } })));
    world
}

/// Someone else wrote another value into the target; the candidate crashes on top of it.
pub fn drifted() -> World {
    let digest = flywheel_engine::rollout::adoption_digest(Some("pvc://store/hotfix"));
    let message = format!(
        "Deployment eta carries pvc://store/hotfix (last written by kubectl-edit), expected pvc://store/eta-6 or pvc://store/eta-7: set it back, or take it as the new baseline with `kubectl flywheel adopt rollout eta-7 -n ml` (annotation flywheel.dev/adopt={digest})."
    );
    let mut world = delivering(
        &json!({ "step": { "index": 0, "name": "tenth", "enteredAt": ago(4), "holdReason": "Drifted" },
            "weights": { "asked": 10, "actual": 0, "candidateReplicas": 1, "baselineReplicas": 3 },
            "conditions": [condition("Ready", "True", "Drifted", &message), condition("TargetBound", "False", "Drifted", &message)] }),
        false,
    );
    world.deployments.retain(|d| d.name_any() != "eta");
    world
        .deployments
        .push(typed(deployment("eta", 3, "pvc://store/hotfix")));
    world
}

/// A check failed in production, and what served before serves again.
pub fn rolled_back() -> World {
    let sentence = "Check errors of spec.plan.checks failed 2 times in a row: 0.31 is above 0.01. The baseline serves.";
    let mut world = delivering(
        &json!({ "phase": "RolledBack", "outcome": "RolledBack", "outcomeReason": sentence, "finishedAt": ago(1),
            "candidateDeployment": null, "step": { "index": 0, "name": "tenth", "enteredAt": ago(4) },
            "weights": { "asked": 0, "actual": 0, "candidateReplicas": 0, "baselineReplicas": 3 },
            "checks": [check("Fail", "0.31", "0.31 is above 0.01.")],
            "decisions": [decided(2, "RollBack", "CheckFailed", "Check errors of spec.plan.checks failed 2 times in a row: 0.31 is above 0.01."),
                decided(1, "RolledBack", "BackAtBaseline", sentence)],
            "conditions": [condition("Ready", "False", "RolledBack", sentence), condition("Stalled", "True", "RolledBack", sentence),
                condition("Complete", "True", "RolledBack", sentence)] }),
        true,
    );
    world.deployments.retain(|d| d.name_any() == "eta");
    world.pods.pop();
    let ended = format!("Rollout eta-7 went back: {sentence}");
    let status = json!({ "observedGeneration": 1, "startedAt": ago(20), "finishedAt": ago(1), "outcome": "RolledBack", "outcomeReason": ended,
        "modelVersion": { "name": "eta-7", "number": 7, "uid": "uid-eta-7" },
        "conditions": [condition("Complete", "True", "RolledBack", &ended)] });
    world.runs[1].status = Some(typed(status));
    world.versions[1] = typed(version("eta-7", 7, "RolledBack", 15));
    world
}

/// The administrator stopped every forward decision.
pub fn braked() -> World {
    let mut world = waiting();
    let message = "The administrator's brake stops every forward decision: audit until Friday";
    let conditions = json!([
        condition("Ready", "True", "Braked", message),
        condition("Braked", "True", "Braked", message)
    ]);
    world.pipelines[0].status.as_mut().unwrap().conditions = typed(conditions.clone());
    let run = world.runs[1].status.as_mut().unwrap();
    run.waiting_for = None;
    run.conditions = typed(conditions);
    world
}

/// Somebody renamed the container whose variable is the binding; the version that was live before is shown, if there is one.
pub fn untold(seen: bool) -> World {
    let mut world = quiet();
    let known = if seen {
        "liveVersion is what was seen last"
    } else {
        "no version is known to have served"
    };
    let why = format!("What serves cannot be told; {known}. Deployment eta has no container app, only web.");
    let unknown = condition("LiveVersionUnknown", "True", "LiveVersionUnknown", &why);
    let status = world.pipelines[0].status.as_mut().unwrap();
    status.conditions.push(typed(unknown));
    status.live_version = status.live_version.take().filter(|_| seen);
    world
}

/// Training was killed once and cannot pull its image now.
pub fn failing_stage() -> World {
    let mut world = quiet();
    let mut run = run("eta-7", 9);
    run["status"]["modelVersion"] = Value::Null;
    run["status"]["stages"] = json!([{ "name": "train", "type": "Train", "state": "Running", "attempt": 2, "startedAt": ago(3),
        "failure": { "class": "Application", "reason": "OOMKilled",
            "message": "The container ran out of memory (OOMKilled): raise resources.limits.memory of the stage." } },
        { "name": "evaluate", "type": "Evaluate", "state": "Pending", "attempt": 0 }]);
    run["status"]["conditions"] = json!([
        condition("Ready", "False", "Running", "Stage train runs, attempt 2."),
        condition("Reconciling", "True", "Running", "Stage train runs, attempt 2.")
    ]);
    let mut stuck = pod("eta-7-train-1a2b-x", false, false);
    stuck["metadata"]["labels"] =
        json!({ "flywheel.dev/run-uid": "uid-eta-7", "flywheel.dev/stage": "train", "flywheel.dev/attempt": "2" });
    stuck["status"]["phase"] = json!("Pending");
    stuck["status"]["containerStatuses"][0]["state"] = json!({ "waiting": { "reason": "ImagePullBackOff",
        "message": "Back-off pulling image \"example/eta:1\"" } });
    stuck["status"]["containerStatuses"][0]["restartCount"] = json!(0);
    world.runs.push(typed(run));
    world.pods.push(typed(stuck));
    world
}
