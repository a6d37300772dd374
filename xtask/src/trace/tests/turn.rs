//! One turn of a loop as the operator writes it, step by step: tests leave steps out or put others in.

use flywheel_api::names;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::story::{By, Story};
use crate::trace::Kind;

/// Digest of the model that is trained and registered.
pub const MODEL: &str = "sha256:a";

pub struct Turn {
    pub story: Story,
}

impl Turn {
    /// A target, a pipeline, and the first run with its snapshot.
    pub fn begin(level: &str) -> Self {
        Self::with(level, |_| {})
    }

    pub fn with(level: &str, change: impl FnOnce(&mut Value)) -> Self {
        let mut turn = Self { story: Story::new() };
        let story = &mut turn.story;
        story.create(By::User, &Kind::Deployment, "eta", json!({ "status": { "readyReplicas": 3 }, "spec": { "replicas": 3, "template": { "spec": {
            "containers": [{ "name": "app", "image": "x", "env": [{ "name": "MODEL_URI", "value": "s3://old" }] }] } } } }));
        let mut spec = json!({ "automationLevel": level, "model": { "name": "eta" } });
        change(&mut spec);
        let pipeline = story.create(By::User, &Kind::Pipeline, "eta", json!({ "spec": spec }));
        let owner = json!([{ "kind": "FlywheelPipeline", "name": "eta", "uid": pipeline, "controller": true }]);
        let labels = json!({ names::LABEL_PIPELINE_UID: pipeline });
        story.create(By::Operator, &Kind::Run, "eta-1", json!({ "metadata": { "ownerReferences": owner, "labels": labels },
            "spec": { "pipelineRef": { "name": "eta" }, "trigger": { "name": "weekly", "type": "Schedule" }, "requestedBy": "" } }));
        story.status(By::Operator, &Kind::Run, "eta-1", |s| {
            *s = json!({ "observedGeneration": 1, "snapshot": { "name": "eta-abc" }, "stages": [
                { "name": "train", "type": "Train", "state": "Pending", "attempt": 0 },
                { "name": "evaluate", "type": "Evaluate", "state": "Pending", "attempt": 0 }] });
        });
        let plan = turn.plan();
        turn.story.create(
            By::Operator,
            &Kind::Revision,
            "eta-abc",
            json!({ "metadata": { "ownerReferences": owner }, "data": {
            "model": { "name": "eta" },
            "stages": [{ "name": "train", "retry": { "limit": 2 } }, { "name": "evaluate", "retry": { "limit": 0 } }],
            "gates": [{ "name": "error", "metric": "mae", "compareTo": "Constant", "max": "5",
                "onMissing": "Fail", "confidence": { "level": "0.95", "minSamples": 100 } }],
            "rollout": plan } }),
        );
        turn
    }

    pub fn plan(&self) -> Value {
        json!({ "targetRef": { "kind": "Deployment", "name": "eta" },
            "binding": { "type": "DeploymentEnv", "container": "app", "name": "MODEL_URI" },
            "strategy": { "steps": [{ "name": "tenth", "weight": 10 }, { "name": "half", "weight": 50 }] },
            "capacity": { "baseline": "Keep" },
            "checks": [{ "name": "errors", "onFail": "RollBack" }, { "name": "late", "onFail": "Hold", "fromStep": "half" },
                { "name": "gossip", "onFail": "Warn" }] })
    }

    pub fn run_uid(&self) -> String {
        self.story.uid(&Kind::Run, "eta-1")
    }

    pub fn stage(&mut self, stage: &str, change: impl FnOnce(&mut Value)) {
        self.story.status(By::Operator, &Kind::Run, "eta-1", |s| {
            let all = s["stages"].as_array_mut().expect("stages");
            change(all.iter_mut().find(|one| one["name"] == stage).expect("the stage"));
        });
    }

    /// Decides and records that an attempt starts.
    pub fn intend(&mut self, stage: &str, attempt: i64, level: &str) {
        let job = format!("eta-1-{stage}-{attempt}");
        self.story.status(By::Operator, &Kind::Run, "eta-1", |s| {
            let all = s["stages"].as_array_mut().expect("stages");
            let one = all.iter_mut().find(|one| one["name"] == stage).expect("the stage");
            one["state"] = json!("Running");
            one["attempt"] = json!(attempt);
            one["job"] = json!({ "name": job });
            decide(s, "StartStage", level, None);
        });
    }

    /// Makes the Job of an attempt, and records its UID where it was intended.
    pub fn job(&mut self, stage: &str, attempt: i64) {
        let name = format!("eta-1-{stage}-{attempt}");
        let uid = self.run_uid();
        let job = self.story.create(By::Operator, &Kind::Job, &name, json!({ "metadata": {
            "ownerReferences": [{ "kind": "FlywheelRun", "name": "eta-1", "uid": uid, "controller": true }],
            "labels": { names::LABEL_RUN_UID: uid, names::LABEL_STAGE: stage, names::LABEL_ATTEMPT: attempt.to_string() } } }));
        let status = self.story.get(&Kind::Run, "eta-1")["status"].clone();
        let mut stages = status["stages"].as_array().expect("stages").iter();
        if stages.any(|s| s["name"] == stage && s["job"]["name"] == json!(name)) {
            self.stage(stage, |s| s["job"]["uid"] = json!(job));
        }
    }

    pub fn job_ends(&mut self, stage: &str, attempt: i64, condition: &str) {
        let name = format!("eta-1-{stage}-{attempt}");
        self.story.status(By::User, &Kind::Job, &name, |s| {
            *s = json!({ "conditions": [{ "type": condition, "status": "True" }] });
        });
    }

    pub fn fails(&mut self, stage: &str) {
        self.stage(stage, |s| {
            s["state"] = json!("Pending");
            s["failure"] = json!({ "reason": "OOMKilled" });
        });
    }

    pub fn succeeds(&mut self, stage: &str, metrics: Value) {
        let model = json!({ "name": "model", "type": "Model", "uri": "s3://new", "digest": MODEL });
        let artifacts = if stage == "train" { vec![model] } else { Vec::new() };
        self.stage(stage, |s| {
            s["state"] = json!("Succeeded");
            s["result"] = json!({ "metrics": metrics, "artifacts": artifacts });
        });
    }

    /// Both stages, without a failure.
    pub fn stages(&mut self, level: &str) {
        self.report(
            level,
            json!({ "name": "mae", "value": "4", "low": "3.9", "high": "4.1", "level": "0.95", "samples": 1000 }),
        );
    }

    /// Both stages report this metric.
    pub fn report(&mut self, level: &str, metric: Value) {
        for stage in ["train", "evaluate"] {
            self.intend(stage, 1, level);
            self.job(stage, 1);
            self.job_ends(stage, 1, "Complete");
            self.succeeds(stage, json!([metric]));
        }
    }

    pub fn register(&mut self) {
        self.register_as(json!({ "uri": "s3://new", "digest": MODEL }));
    }

    /// A version with this artifact.
    pub fn register_as(&mut self, artifact: Value) {
        let run = self.run_uid();
        let uid = self.story.create(
            By::Operator,
            &Kind::Version,
            "eta-1",
            json!({
            "metadata": { "labels": { names::LABEL_RUN_UID: run } },
            "spec": { "modelName": "eta", "version": 1, "artifact": artifact } }),
        );
        self.story.status(By::Operator, &Kind::Run, "eta-1", |s| {
            s["modelVersion"] = json!({ "name": "eta-1", "number": 1, "uid": uid });
        });
    }

    pub fn judge(&mut self, verdict: &str) {
        self.story.status(By::Operator, &Kind::Run, "eta-1", |s| {
            s["gates"] = json!([{ "gate": "error", "metric": "mae", "verdict": verdict }]);
        });
    }

    /// A run begins to wait for people, with its evidence.
    pub fn ask(&mut self, gate: &str, level: &str) -> String {
        let run = self.story.get(&Kind::Run, "eta-1");
        let subject = if gate == "Train" {
            json!({ "kind": "FlywheelRun", "name": "eta-1", "uid": run["metadata"]["uid"] })
        } else {
            json!({ "kind": "ModelVersion", "name": "eta-1", "uid": run["status"]["modelVersion"]["uid"] })
        };
        let evidence = json!({ "gate": gate, "level": level, "subject": subject, "verdicts": run["status"]["gates"] });
        self.wait_for(&Kind::Run, gate, &subject, &evidence)
    }

    pub fn wait_for(&mut self, kind: &Kind, gate: &str, subject: &Value, evidence: &Value) -> String {
        let json = evidence.to_string();
        let digest = Sha256::digest(json.as_bytes())
            .iter()
            .fold("sha256:".to_owned(), |hex, byte| format!("{hex}{byte:02x}"));
        self.story.status(By::Operator, kind, "eta-1", |s| {
            s["waitingFor"] = json!({ "gate": gate, "subject": subject, "evidence": json, "evidenceDigest": digest });
        });
        digest
    }

    pub fn approval(&mut self, name: &str, approver: &str, decision: &str, gate: &str, digest: &str) {
        let subject = match gate {
            "Train" => (Kind::Run, "FlywheelRun"),
            "Promote" => (Kind::Version, "ModelVersion"),
            _ => (Kind::Rollout, "Rollout"),
        };
        let uid = self.story.uid(&subject.0, "eta-1");
        self.story.create(By::User, &Kind::Approval, name, json!({ "spec": { "gate": gate, "decision": decision,
            "subjectRef": { "kind": subject.1, "name": "eta-1", "uid": uid }, "evidenceDigest": digest, "approver": approver } }));
    }

    /// The run takes the approvals of a gate.
    pub fn approved(&mut self, gate: &str, digest: &str) {
        self.story.status(By::Operator, &Kind::Run, "eta-1", |s| {
            s["approvals"] = json!([{ "gate": gate, "decision": "Approve", "evidenceDigest": digest }]);
            s["waitingFor"] = Value::Null;
        });
    }

    /// The run decides to deliver and makes its Rollout.
    pub fn deliver(&mut self, level: &str) {
        self.story.status(By::Operator, &Kind::Run, "eta-1", |s| {
            s["rollout"] = json!({ "name": "eta-1" });
            decide(s, "Deliver", level, None);
        });
        self.rollout();
    }

    pub fn rollout(&mut self) {
        let (run, plan) = (self.run_uid(), self.plan());
        let pipeline = self.story.uid(&Kind::Pipeline, "eta");
        self.story.create(
            By::Operator,
            &Kind::Rollout,
            "eta-1",
            json!({
            "metadata": { "finalizers": [names::FINALIZER_ROLLOUT] },
            "spec": { "plan": plan, "runRef": { "name": "eta-1", "uid": run }, "desiredState": "Progress",
                "pipelineRef": { "name": "eta", "uid": pipeline }, "modelVersionRef": { "name": "eta-1" } } }),
        );
    }

    pub fn phase(&mut self, phase: &str, change: impl FnOnce(&mut Value)) {
        self.story.status(By::Operator, &Kind::Rollout, "eta-1", |s| {
            s["phase"] = json!(phase);
            change(s);
        });
    }

    /// The candidate exists and the first step is held.
    pub fn candidate(&mut self) {
        let target = self.story.uid(&Kind::Deployment, "eta");
        self.phase("Preparing", |s| {
            s["targetUid"] = json!(target);
            s["candidate"] = json!({ "value": "s3://new", "version": "eta-1" });
            s["baseline"] = json!({ "value": "s3://old" });
            s["step"] = json!({ "index": 0, "name": "tenth" });
        });
        self.make_candidate();
        self.phase("Progressing", |_| {});
        self.hold();
    }

    pub fn make_candidate(&mut self) {
        let uid = self.story.uid(&Kind::Rollout, "eta-1");
        self.story.create(
            By::Operator,
            &Kind::Deployment,
            "eta-candidate",
            json!({
            "metadata": { "labels": { names::LABEL_ROLLOUT_UID: uid } }, "spec": { "replicas": 1 } }),
        );
    }

    pub fn hold(&mut self) {
        self.story.wait(1);
        let now = self.story.second();
        self.phase("Holding", |s| s["step"]["enteredAt"] = json!(now));
    }

    /// The checks of the step say this.
    pub fn checks(&mut self, said: &[(&str, &str)]) {
        self.story.wait(1);
        let now = self.story.second();
        let all: Vec<Value> = said
            .iter()
            .map(|(name, verdict)| json!({ "name": name, "verdict": verdict, "at": now }))
            .collect();
        self.phase("Holding", |s| s["checks"] = json!(all));
    }

    pub fn next_step(&mut self, level: &str, digest: Option<&str>) {
        self.phase("Progressing", |s| {
            s["step"] = json!({ "index": 1, "name": "half" });
            decide(s, "NextStep", level, digest);
        });
    }

    pub fn promote(&mut self, level: &str, digest: Option<&str>) {
        self.phase("Promoting", |s| {
            s["step"] = json!({ "index": 2, "name": "full" });
            decide(s, "Promote", level, digest);
        });
    }

    pub fn bind(&mut self) {
        self.story.patch(By::Operator, &Kind::Deployment, "eta", |o| {
            o["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"] = json!("s3://new");
            o["spec"]["template"]["metadata"] = json!({ "annotations": { names::ANNOTATION_MODEL_VERSION: "eta-1" } });
        });
    }

    pub fn end(&mut self) {
        self.story.delete(By::Operator, &Kind::Deployment, "eta-candidate");
        self.phase("Promoted", |_| {});
    }

    /// Up to a judged version.
    pub fn judged(level: &str) -> Self {
        let mut turn = Self::begin(level);
        turn.stages(level);
        turn.register();
        turn.judge("Pass");
        turn
    }

    /// Up to a held first step, without people.
    pub fn held() -> Self {
        let mut turn = Self::judged("FullyAutomated");
        turn.deliver("FullyAutomated");
        turn.candidate();
        turn
    }

    /// Up to the last step with all its checks passed.
    pub fn at_last_step() -> Self {
        let mut turn = Self::held();
        turn.checks(&[("errors", "Pass"), ("gossip", "Fail")]);
        turn.next_step("FullyAutomated", None);
        turn.hold();
        turn.checks(&[("errors", "Pass"), ("late", "Pass")]);
        turn
    }
}

pub fn decide(status: &mut Value, decision: &str, level: &str, digest: Option<&str>) {
    let mut record = json!({ "decision": decision, "level": level });
    if let Some(digest) = digest {
        record["evidenceDigest"] = json!(digest);
    }
    match status["decisions"].as_array_mut() {
        Some(all) => all.push(record),
        None => status["decisions"] = json!([record]),
    }
}
