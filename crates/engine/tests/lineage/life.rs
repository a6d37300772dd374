//! Versions as they live: what a controller observes of them, and the production decision on it, without a cluster.

use std::collections::BTreeSet;

use flywheel_api::approval::ApprovalDecision;
use flywheel_api::flywheel_run::RunOutcome;
use flywheel_api::lineage::VersionRef;
use flywheel_api::reference::{ApprovalGate, ApprovalRecord, GateVerdict, Verdict};
use flywheel_api::rollout::RolloutPhase;
use flywheel_api::{FlywheelRun, ModelVersion, Rollout};
use flywheel_engine::decision::{Action, Decision, PatchKind};
use flywheel_engine::lineage::register::{self, Register, Verdict as Checked};
use flywheel_engine::model_version::{Delivery, ModelVersionObservation, Unreadable, decide};
use flywheel_engine::testing::{self, at};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

/// A version with what is around it.
#[derive(Clone)]
pub struct Life {
    pub now: Timestamp,
    pub version: ModelVersion,
    pub run: Option<FlywheelRun>,
    pub deliveries: Vec<Delivery>,
    pub serves: bool,
    /// Rollouts and children, with the heads that they knew when they were made.
    pub rollouts: Vec<Rollout>,
    pub children: Vec<ModelVersion>,
}

impl Life {
    /// A version that a run made, or that a person imported.
    pub fn begin(number: i64, made: bool) -> Self {
        let mut version = testing::version(number);
        version.metadata.uid = Some(format!("uid-{number}"));
        version.metadata.generation = Some(1);
        let run = made.then(|| {
            let mut run = testing::run(&format!("run-{number}"), "joe");
            run.metadata.uid = Some(format!("run-uid-{number}"));
            run
        });
        if let Some(run) = &run {
            let reference = json!({ "name": run.metadata.name, "uid": run.metadata.uid });
            version.spec.provenance = Some(testing::object(json!({
                "pipeline": { "name": "eta", "uid": "pipeline-uid" }, "run": reference, "stages": [], "seed": 7,
                "snapshotDigest": format!("sha256:{}", "0".repeat(64)), "level": "HumanOversight",
            })));
        }
        Self {
            now: at(0),
            version,
            run,
            deliveries: Vec::new(),
            serves: false,
            rollouts: Vec::new(),
            children: Vec::new(),
        }
    }

    /// Lets the operator look until nothing is left to do.
    pub fn settle(&mut self) -> &mut Self {
        for _ in 0..8 {
            let observation = ModelVersionObservation {
                now: self.now,
                version: self.version.clone(),
                run: self.run.clone().into(),
                rollouts: self.deliveries.clone().into(),
                children: Vec::new().into(),
                serves: self
                    .serves
                    .then(|| "eta".to_owned())
                    .into_iter()
                    .collect::<BTreeSet<_>>()
                    .into(),
                untold: BTreeSet::new().into(),
                told: BTreeSet::new().into(),
                unreadable: Unreadable::default(),
                namespace_terminating: false,
            };
            match decide(&observation) {
                Decision::Record(record) => self.version.status = Some(record.status),
                Decision::Do(effect) => {
                    let Action::Patch(patch) = effect.action else {
                        panic!("a version is only patched")
                    };
                    assert_eq!(patch.kind, PatchKind::Merge);
                    self.annotate(&patch.body["metadata"]);
                }
                Decision::Wait(_) => return self,
            }
        }
        panic!("a version does not come to rest");
    }

    fn annotate(&mut self, change: &serde_json::Value) {
        let metadata = &mut self.version.metadata;
        if let Some(all) = change["finalizers"].as_array() {
            metadata.finalizers = Some(all.iter().map(|f| f.as_str().unwrap().to_owned()).collect());
        }
        for (key, value) in change["annotations"].as_object().into_iter().flatten() {
            let text = value.as_str().unwrap().to_owned();
            metadata.annotations.get_or_insert_default().insert(key.clone(), text);
        }
    }

    pub fn pass(&mut self, seconds: i64) -> &mut Self {
        self.now += jiff::SignedDuration::from_secs(seconds);
        self
    }

    /// The run judges the version.
    pub fn judge(&mut self, value: i64) -> &mut Self {
        let uid = self.version.metadata.uid.clone();
        let name = self.version.metadata.name.clone().unwrap();
        let Some(run) = &mut self.run else { return self };
        let status = run.status.get_or_insert_default();
        status.model_version = Some(testing::object(json!({ "name": name, "number": 1, "uid": uid })));
        status.gates = vec![GateVerdict {
            gate: "error".to_owned(),
            metric: "mae".to_owned(),
            verdict: if value < 20 { Verdict::Pass } else { Verdict::Fail },
            reason: "Bound".to_owned(),
            message: format!("The error is {value}."),
            value: Some(flywheel_api::schema::Decimal(value.to_string())),
            baseline: None,
            low: None,
            high: None,
            limit: None,
            samples: Some(1000),
            dry_run: false,
        }];
        self.settle()
    }

    /// A person decides.
    pub fn decided(&mut self, who: &str) -> &mut Self {
        let at = Time(self.now);
        let Some(run) = &mut self.run else { return self };
        run.status.get_or_insert_default().approvals.push(ApprovalRecord {
            name: format!("by-{who}"),
            uid: format!("approval-{who}"),
            gate: ApprovalGate::Promote,
            approver: who.to_owned(),
            decision: ApprovalDecision::Approve,
            evidence_digest: format!("sha256:{}", "e".repeat(64)).into(),
            at,
        });
        self.settle()
    }

    pub fn ended(&mut self, outcome: RunOutcome) -> &mut Self {
        if let Some(run) = &mut self.run {
            run.status.get_or_insert_default().outcome = Some(outcome);
        }
        self.settle()
    }

    /// A Rollout is made for the version; it keeps the head that it sees.
    pub fn deliver(&mut self, name: &str, phase: RolloutPhase) -> &mut Self {
        let reference = VersionRef::of(&self.version);
        let own = reference.name.clone();
        let mut rollout = testing::rollout(name, 1, &testing::plan());
        rollout.spec.model_version_ref = reference;
        rollout.metadata.creation_timestamp = Some(Time(self.now));
        self.rollouts.push(rollout);
        self.moved(name, &own, None, phase)
    }

    /// A Rollout stands in that phase.
    pub fn moved(&mut self, name: &str, candidate: &str, baseline: Option<&str>, phase: RolloutPhase) -> &mut Self {
        let created = self.now;
        let begun = !matches!(
            phase,
            RolloutPhase::Pending | RolloutPhase::Queued | RolloutPhase::Aborted
        );
        match self.deliveries.iter_mut().find(|d| d.name == name) {
            Some(delivery) => {
                delivery.phase = phase;
                delivery.begun |= begun;
            }
            None => self.deliveries.push(Delivery {
                name: name.to_owned(),
                uid: format!("rollout-{name}"),
                candidate: candidate.to_owned(),
                baseline: baseline.map(str::to_owned),
                target: "eta".to_owned(),
                created,
                phase,
                begun,
                ..Delivery::default()
            }),
        }
        self.settle()
    }

    pub fn serving(&mut self, serves: bool) -> &mut Self {
        self.serves = serves;
        self.settle()
    }

    /// A version is made that has this one as parent; it keeps the head that it sees.
    pub fn child(&mut self, number: i64) -> &mut Self {
        let mut child = Self::begin(number, false);
        child.now = self.now;
        child.version.metadata.creation_timestamp = Some(Time(self.now));
        child.version.spec.parent = Some(VersionRef::of(&self.version));
        child.settle();
        self.children.push(child.version);
        self
    }

    /// The status is lost, as a restored backup loses it.
    pub fn lose_status(&mut self) -> &mut Self {
        self.version.status = None;
        self.settle()
    }

    pub fn register(&self) -> Register {
        Register {
            versions: std::iter::once(self.version.clone())
                .chain(self.children.iter().cloned())
                .collect(),
            rollouts: self.rollouts.clone(),
            earlier: Vec::new(),
        }
    }

    pub fn verdicts(&self) -> Vec<Checked> {
        register::check(&self.register())
    }
}

/// A version that was judged, approved, delivered, served, became the parent of another and was superseded; then it was
/// taken back into service: eight entries, known to two Rollouts and a child.
pub fn long_life() -> Life {
    let mut life = Life::begin(1, true);
    life.settle().pass(60);
    life.judge(12).pass(60);
    life.decided("jane").pass(60);
    life.deliver("first", RolloutPhase::Pending).pass(60);
    life.moved("first", "eta-1", None, RolloutPhase::Progressing).pass(600);
    life.serving(true);
    life.moved("first", "eta-1", None, RolloutPhase::Promoted).pass(3600);
    life.child(2).pass(60);
    life.moved("other", "eta-2", Some("eta-1"), RolloutPhase::Promoted);
    life.serving(false).pass(60);
    life.deliver("back", RolloutPhase::Progressing).pass(60);
    life.serving(true);
    life.moved("back", "eta-1", Some("eta-2"), RolloutPhase::Promoted);
    life
}
