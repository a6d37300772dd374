//! What the objects themselves tell: every number stands in a spec or a status already.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use flywheel_api::flywheel_run::{RunOutcome, StageState};
use flywheel_api::reference::{Verdict, WaitingFor};
use flywheel_api::schema::Decimal;
use flywheel_api::{BiasPolicy, FlywheelPipeline, FlywheelRun, ModelVersion, Rollout};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, Opts};

use crate::clock::Clock;

/// Shows all objects of one store.
pub type Show = Box<dyn Fn(&Families) + Send + Sync>;

/// A kind whose objects are seen in the metrics.
pub trait Shown {
    /// Sets what this object tells.
    fn show(&self, to: &Families);
}

/// Computes the metrics of objects whenever they are asked for.
pub struct Objects {
    shows: Arc<Mutex<Vec<Show>>>,
    clock: Arc<Clock>,
}

impl Objects {
    /// What these show, one for each store; for how long something is waited for, the clock says.
    pub const fn new(shows: Arc<Mutex<Vec<Show>>>, clock: Arc<Clock>) -> Self {
        Self { shows, clock }
    }
}

impl Collector for Objects {
    fn desc(&self) -> Vec<&Desc> {
        Vec::new()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let families = Families::new(self.clock.now());
        for show in self.shows.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            show(&families);
        }
        families.gauges.values().flat_map(Collector::collect).collect()
    }
}

/// Name, help and labels beside `namespace` and `name`.
const FAMILIES: [(&str, &str, &[&str]); 17] = [
    (
        "flywheel_pipeline_info",
        "A pipeline; always 1.",
        &["level", "suspended"],
    ),
    (
        "flywheel_pipeline_condition",
        "1 for the status that a condition of a pipeline has.",
        CONDITION,
    ),
    (
        "flywheel_pipeline_last_success_timestamp_seconds",
        "When a run last ended well.",
        &[],
    ),
    (
        "flywheel_run_info",
        "A run; always 1.",
        &["pipeline", "stage", "outcome"],
    ),
    (
        "flywheel_run_condition",
        "1 for the status that a condition of a run has.",
        CONDITION,
    ),
    (
        "flywheel_pipeline_stage_duration_seconds",
        "How long a stage of a run took, from the decision to start it to its recorded result; name is that of the run.",
        &["pipeline", "stage"],
    ),
    (
        "flywheel_model_version_info",
        "A version; always 1.",
        &["model", "pipeline", "stage"],
    ),
    (
        "flywheel_model_version_condition",
        "1 for the status that a condition of a version has.",
        CONDITION,
    ),
    (
        "flywheel_evaluation_score",
        "What the evaluation of a version found for a metric.",
        &["metric"],
    ),
    (
        "flywheel_bias_disparity",
        "What a bias policy measured for the group that decided, in the unit of its objective.",
        &["policy", "objective", "attribute", "group"],
    ),
    (
        "flywheel_bias_violations",
        "Objectives of a bias policy that a version does not meet.",
        &["policy"],
    ),
    (
        "flywheel_rollout_info",
        "A Rollout; always 1.",
        &["target", "version", "phase"],
    ),
    (
        "flywheel_rollout_condition",
        "1 for the status that a condition of a Rollout has.",
        CONDITION,
    ),
    (
        "flywheel_rollout_weight_percent",
        "Share of the traffic that the ready replicas of a side give.",
        &["role"],
    ),
    (
        "flywheel_rollout_step",
        "Number of the current step, from 0; the number of steps stands for full weight.",
        &[],
    ),
    (
        "flywheel_rollout_finished_timestamp_seconds",
        "When a Rollout ended, by its outcome.",
        &["outcome"],
    ),
    (
        "flywheel_gate_blocked_seconds",
        "How long a gate has waited for a person.",
        &["kind", "gate"],
    ),
];

const CONDITION: &[&str] = &["type", "status"];

/// The metrics of one scrape.
pub struct Families {
    gauges: BTreeMap<&'static str, GaugeVec>,
    now: Timestamp,
}

/// The object that a value belongs to.
struct Of<'a> {
    families: &'a Families,
    namespace: String,
    name: String,
}

impl Families {
    /// Empty ones.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        let gauge = |(name, help, extra): (&'static str, &str, &[&str])| {
            let labels: Vec<&str> = ["namespace", "name"].iter().chain(extra).copied().collect();
            Some((name, GaugeVec::new(Opts::new(name, help), &labels).ok()?))
        };
        Self {
            gauges: FAMILIES.into_iter().filter_map(gauge).collect(),
            now,
        }
    }

    fn of(&self, object: &impl ResourceExt) -> Of<'_> {
        Of {
            families: self,
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
        }
    }
}

impl Of<'_> {
    /// Sets a value.
    fn set(&self, metric: &str, extra: &[&str], value: f64) {
        let labels: Vec<&str> = [&*self.namespace, &*self.name].iter().chain(extra).copied().collect();
        let gauge = self.families.gauges.get(metric);
        if let Some(gauge) = gauge.and_then(|g| g.get_metric_with_label_values(&labels).ok()) {
            gauge.set(value);
        }
    }

    fn conditions(&self, metric: &str, conditions: &[Condition]) {
        for condition in conditions {
            self.set(metric, &[&condition.type_, &condition.status], 1.0);
        }
    }

    fn waits(&self, kind: &str, waiting: Option<&WaitingFor>) {
        if let Some(waiting) = waiting {
            let seconds = self.families.now.duration_since(waiting.since.0).as_secs_f64();
            self.set(
                "flywheel_gate_blocked_seconds",
                &[kind, waiting.gate.name()],
                seconds.max(0.0),
            );
        }
    }
}

/// Seconds since the epoch.
fn seconds(time: &Time) -> f64 {
    time.0.as_duration().as_secs_f64()
}

impl Shown for FlywheelPipeline {
    fn show(&self, to: &Families) {
        let of = to.of(self);
        let status = self.status.clone().unwrap_or_default();
        let level = status.effective_level.map_or(self.spec.automation_level, |l| l.level);
        let suspended = if self.spec.suspend { "true" } else { "false" };
        of.set("flywheel_pipeline_info", &[level.name(), suspended], 1.0);
        of.conditions("flywheel_pipeline_condition", &status.conditions);
        if let Some(at) = &status.last_success_time {
            of.set("flywheel_pipeline_last_success_timestamp_seconds", &[], seconds(at));
        }
    }
}

impl Shown for FlywheelRun {
    fn show(&self, to: &Families) {
        let of = to.of(self);
        let status = self.status.clone().unwrap_or_default();
        let pipeline = &*self.spec.pipeline_ref.name;
        let outcome = status.outcome.map_or("", RunOutcome::name);
        of.set("flywheel_run_info", &[pipeline, &status.stage, outcome], 1.0);
        of.conditions("flywheel_run_condition", &status.conditions);
        of.waits("run", status.waiting_for.as_ref());
        for stage in &status.stages {
            if let (StageState::Succeeded, Some(from), Some(to)) = (stage.state, &stage.started_at, &stage.finished_at)
            {
                let metric = "flywheel_pipeline_stage_duration_seconds";
                of.set(metric, &[pipeline, &stage.name], seconds(to) - seconds(from));
            }
        }
    }
}

impl Shown for ModelVersion {
    fn show(&self, to: &Families) {
        let of = to.of(self);
        let status = self.status.clone().unwrap_or_default();
        let pipeline = self.spec.provenance.as_ref().map_or("", |p| p.pipeline.name.as_str());
        let stage = format!("{:?}", status.state);
        of.set(
            "flywheel_model_version_info",
            &[&self.spec.model_name, pipeline, &stage],
            1.0,
        );
        of.conditions("flywheel_model_version_condition", &status.conditions);
        for gate in &status.evaluations {
            if let Some(value) = gate.value.as_ref().and_then(Decimal::value) {
                of.set("flywheel_evaluation_score", &[&gate.metric], value);
            }
        }
        let mut violations: BTreeMap<&str, f64> = BTreeMap::new();
        for verdict in &status.bias {
            let failed = f64::from(u8::from(verdict.verdict == Verdict::Fail));
            *violations.entry(&verdict.policy).or_default() += failed;
            if let Some(value) = verdict.value.as_ref().and_then(Decimal::value) {
                let labels: [&str; 4] = [&verdict.policy, &verdict.objective, &verdict.attribute, &verdict.group];
                of.set("flywheel_bias_disparity", &labels, value);
            }
        }
        for (policy, count) in violations {
            of.set("flywheel_bias_violations", &[policy], count);
        }
    }
}

impl Shown for Rollout {
    fn show(&self, to: &Families) {
        let of = to.of(self);
        let status = self.status.clone().unwrap_or_default();
        let (target, version) = (&self.spec.plan.target_ref.name, &self.spec.model_version_ref.name);
        of.set("flywheel_rollout_info", &[target, version, status.phase.name()], 1.0);
        of.conditions("flywheel_rollout_condition", &status.conditions);
        of.waits("rollout", status.waiting_for.as_ref());
        if let Some(weights) = &status.weights {
            let metric = "flywheel_rollout_weight_percent";
            of.set(metric, &["candidate"], f64::from(weights.actual));
            of.set(metric, &["baseline"], f64::from(100 - weights.actual.clamp(0, 100)));
        }
        if let Some(step) = &status.step {
            of.set("flywheel_rollout_step", &[], f64::from(step.index));
        }
        if let (Some(at), Some(outcome)) = (&status.finished_at, status.outcome) {
            let metric = "flywheel_rollout_finished_timestamp_seconds";
            of.set(metric, &[outcome.name()], seconds(at));
        }
    }
}

impl Shown for BiasPolicy {
    // What a policy found is told of each version: a policy that applies to nothing has nothing to tell.
    fn show(&self, _: &Families) {}
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn gathered(object: &impl Shown) -> String {
        let families = Families::new(Timestamp::from_second(1_000).unwrap());
        object.show(&families);
        let all: Vec<MetricFamily> = families
            .gauges
            .values()
            .flat_map(Collector::collect)
            .filter(|family| !family.get_metric().is_empty())
            .collect();
        prometheus::TextEncoder::new().encode_to_string(&all).unwrap()
    }

    #[test]
    fn a_rollout_that_waits_tells_its_weights_and_for_how_long() {
        let rollout: Rollout = serde_json::from_value(json!({
            "metadata": { "name": "eta-3", "namespace": "shop" },
            "spec": {
                "modelVersionRef": { "name": "eta-3" },
                "plan": {
                    "targetRef": { "kind": "Deployment", "name": "eta" },
                    "binding": { "type": "DeploymentEnv", "container": "app", "name": "MODEL_URI" },
                }
            },
            "status": {
                "phase": "Holding",
                "weights": { "asked": 10, "actual": 9, "candidateReplicas": 1, "baselineReplicas": 10 },
                "waitingFor": {
                    "gate": "RolloutStep", "subject": { "kind": "Rollout", "name": "eta-3", "uid": "u" },
                    "evidenceDigest": "sha256:0", "evidence": "{}", "since": "1970-01-01T00:10:00Z", "needed": 1, "resolve": "r"
                },
                "conditions": [{ "type": "Ready", "status": "True", "reason": "AwaitingApproval", "message": "",
                    "lastTransitionTime": "1970-01-01T00:10:00Z" }]
            }
        }))
        .unwrap();
        let text = gathered(&rollout);
        for line in [
            "flywheel_gate_blocked_seconds{gate=\"RolloutStep\",kind=\"rollout\",name=\"eta-3\",namespace=\"shop\"} 400",
            "flywheel_rollout_weight_percent{name=\"eta-3\",namespace=\"shop\",role=\"candidate\"} 9",
            "flywheel_rollout_weight_percent{name=\"eta-3\",namespace=\"shop\",role=\"baseline\"} 91",
            "flywheel_rollout_condition{name=\"eta-3\",namespace=\"shop\",status=\"True\",type=\"Ready\"} 1",
            "phase=\"Holding\",target=\"eta\",version=\"eta-3\"} 1",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn a_rollback_tells_when_it_was() {
        let mut rollout: Rollout = serde_json::from_value(json!({
            "metadata": { "name": "eta-3", "namespace": "shop" },
            "spec": { "modelVersionRef": { "name": "eta-3" }, "plan": {
                "targetRef": { "kind": "Deployment", "name": "eta" },
                "binding": { "type": "DeploymentEnv", "container": "app", "name": "MODEL_URI" } } },
            "status": { "phase": "RolledBack", "outcome": "RolledBack", "finishedAt": "1970-01-01T00:10:00Z" }
        }))
        .unwrap();
        let line =
            "flywheel_rollout_finished_timestamp_seconds{name=\"eta-3\",namespace=\"shop\",outcome=\"RolledBack\"} 600";
        assert!(gathered(&rollout).contains(line));
        rollout.status = None;
        assert!(!gathered(&rollout).contains("finished_timestamp"));
    }
}
