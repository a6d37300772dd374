//! The laws, checked on every write of a history.

// Others take this file in by its path: what belongs to it is beside it.
#[path = "gates.rs"]
pub mod gates;
#[path = "steps.rs"]
mod steps;

use std::collections::BTreeMap;

use flywheel_api::flywheel_run::StageState;
use flywheel_api::names::{ANNOTATION_LINEAGE, ANNOTATION_MODEL_VERSION};
use flywheel_api::reference::{AutomationLevel, Verdict};
use flywheel_api::rollout::RolloutPhase;
use flywheel_api::{FlywheelPipeline, FlywheelRun, Rollout};
use flywheel_engine::decision::{Action, Child, ChildKind, Patch};
use flywheel_engine::lineage::register::{self, Register};
use flywheel_engine::rollout::Reading;
use flywheel_engine::testing::{Kind, World, Write};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::Value;

// By its path, because this file has another name for those who take the laws from elsewhere.
#[path = "looked.rs"]
pub mod looked;

/// An invariant, and a law that is about it.
pub type Law = (&'static str, fn(&Write));

/// Laws of single writes.
pub const OF_WRITES: [Law; 11] = [
    ("I4", intent_before_effect),
    ("I13", numbers_never_decrease),
    ("I7", weights_stay_in_bounds),
    ("I13", end_is_the_end),
    ("I2", gates::before_delivery),
    ("I3", steps::need_their_approval),
    ("I19", steps::last_their_shortest_time),
    ("I13", lineage_only_grows),
    ("I13", references_keep_a_head),
    ("I21", no_data_never_passes),
    ("I13", steps::follow_each_other),
];

/// What was seen of a history so far.
#[derive(Default)]
pub struct Laws {
    seen: usize,
    created: BTreeMap<(Kind, String), usize>,
    /// The invariant that is being judged: the broken one, if a law panics.
    #[allow(dead_code, reason = "read where mistakes are made on purpose")]
    pub judged: &'static str,
}

impl Laws {
    /// Checks the writes since the last look; `braked` tells whether the brake was pulled all the time.
    pub fn check(&mut self, world: &World, braked: bool) {
        for write in &world.writes[self.seen..] {
            for (invariant, law) in OF_WRITES {
                self.judged = invariant;
                law(write);
            }
            self.judged = "I18";
            if braked {
                brake_stops_forward_decisions(write);
            }
            levels_are_allowed(write, world.settings.automation_ceiling);
            self.judged = "I1";
            self.once(write);
        }
        self.seen = world.writes.len();
        self.judged = "I5";
        lineage_is_whole(world);
        self.judged = "what was not looked at";
        looked::what_was_not_looked_at_does_not_count(world);
    }

    /// No attempt has two Jobs, no version two Rollouts, whatever was lost.
    fn once(&mut self, write: &Write) {
        let Some(Action::Create(child)) = &write.action else {
            return;
        };
        let (kind, name) = match &**child {
            Child::Job(job) => (Kind::Job, &job.metadata.name),
            Child::Rollout(rollout) => (Kind::Rollout, &rollout.metadata.name),
            Child::FlywheelRun(run) => (Kind::Run, &run.metadata.name),
            Child::ModelVersion(version) => (Kind::ModelVersion, &version.metadata.name),
            Child::ControllerRevision(_) | Child::Deployment(_) => return,
        };
        let key = (kind, name.clone().unwrap());
        let count = self.created.entry(key.clone()).or_default();
        *count += 1;
        assert_eq!(*count, 1, "{key:?} was created twice");
    }
}

fn actor<K: DeserializeOwned>(write: &Write) -> K {
    serde_json::from_value(write.before.clone()).unwrap()
}

/// What is there of a chain stays, and a status that has one keeps it.
fn lineage_only_grows(write: &Write) {
    let Some(after) = write.after.as_ref().filter(|_| write.actor.0 == Kind::ModelVersion) else {
        return;
    };
    let entries = |v: &Value| {
        v["status"]["lineage"]["entries"]
            .as_array()
            .cloned()
            .unwrap_or_default()
    };
    let (old, new) = (entries(&write.before), entries(after));
    assert!(
        !new.is_empty() && new.starts_with(&old),
        "{:?} rewrites its lineage",
        write.actor
    );
    let marked = write.before["metadata"]["annotations"][ANNOTATION_LINEAGE].is_string();
    assert!(
        marked || old.is_empty() || new.len() == old.len(),
        "{:?} grows its lineage before a mark outlives its status",
        write.actor
    );
}

/// Whoever is made for a version keeps the head of its lineage.
fn references_keep_a_head(write: &Write) {
    let Some(Action::Create(child)) = &write.action else {
        return;
    };
    let reference = match &**child {
        Child::Rollout(rollout) => Some(&rollout.spec.model_version_ref),
        Child::ModelVersion(version) => version.spec.parent.as_ref(),
        _ => None,
    };
    if let (Some(reference), Child::Rollout(_)) = (reference, &**child) {
        assert!(reference.uid.is_some() && reference.head.is_some(), "{reference:?}");
    } else if let Some(reference) = reference {
        // The parent's status may be lost just then, or the parent be gone.
        assert!(reference.uid.is_some() || reference.head.is_none(), "{reference:?}");
    }
}

/// Nothing is found in the lineage of any version.
fn lineage_is_whole(world: &World) {
    let register = Register {
        versions: world.all(Kind::ModelVersion),
        rollouts: world.all(Kind::Rollout),
        earlier: Vec::new(),
    };
    for verdict in register::check(&register) {
        assert!(verdict.findings.is_empty(), "{verdict:#?}");
    }
}

/// An effect is only done when the stored status already names it.
fn intent_before_effect(write: &Write) {
    let name = |m: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta| m.name.clone().unwrap();
    match &write.action {
        Some(Action::Create(child)) => match &**child {
            Child::Job(job) => {
                let status = actor::<FlywheelRun>(write).status.unwrap();
                let running = status.stages.iter().find(|s| s.state == StageState::Running).unwrap();
                let intended = running.job.as_ref().unwrap();
                assert_eq!((&intended.name, &intended.uid), (&name(&job.metadata), &None));
            }
            Child::ControllerRevision(revision) => {
                let status = actor::<FlywheelRun>(write).status.unwrap();
                assert_eq!(status.snapshot.unwrap().name, name(&revision.metadata));
            }
            Child::ModelVersion(version) => {
                let status = actor::<FlywheelRun>(write).status.unwrap();
                assert_eq!(status.model_version.unwrap().name, name(&version.metadata));
            }
            Child::Rollout(rollout) => {
                let status = actor::<FlywheelRun>(write).status.unwrap();
                assert_eq!(status.rollout.unwrap().name, name(&rollout.metadata));
            }
            Child::FlywheelRun(run) => {
                let pipeline: FlywheelPipeline = actor(write);
                let pending = pipeline.status.unwrap().pending_run.unwrap();
                assert_eq!(format!("eta-{}", pending.number), name(&run.metadata));
            }
            Child::Deployment(candidate) => {
                let status = actor::<Rollout>(write).status.unwrap();
                assert!(status.baseline.is_some() && status.phase.holds_target());
                assert_eq!(status.candidate_deployment.unwrap().name, name(&candidate.metadata));
            }
        },
        Some(Action::Patch(patch)) if patch.object.kind == ChildKind::Deployment => {
            let status = actor::<Rollout>(write).status.unwrap();
            assert!(
                status.phase.holds_target() && status.baseline.is_some(),
                "{:?}",
                status.phase
            );
            match bound(write, patch) {
                Some(true) => assert_eq!(status.phase, RolloutPhase::Promoting),
                Some(false) => assert_eq!(status.phase, RolloutPhase::RollingBack),
                None => {}
            }
        }
        _ => {}
    }
}

/// Whether a patch binds the target to the candidate of the Rollout that makes it; nothing if it binds nothing.
fn bound(write: &Write, patch: &Patch) -> Option<bool> {
    let annotations = &patch.body["spec"]["template"]["metadata"]["annotations"];
    let version = annotations.get(ANNOTATION_MODEL_VERSION)?;
    Some(version == &write.before["spec"]["modelVersionRef"]["name"])
}

fn numbers_never_decrease(write: &Write) {
    let Some(after) = &write.after else { return };
    let (before, after) = (&write.before["status"], &after["status"]);
    for field in ["observedGeneration", "lastRunNumber", "lastVersionNumber"] {
        let number = |s: &Value| s[field].as_i64().unwrap_or(i64::MIN);
        assert!(
            number(before) <= number(after),
            "{field} of {:?} decreases",
            write.actor
        );
    }
    let success = |s: &Value| s["lastSuccessTime"].as_str().map(|t| t.parse::<Timestamp>().unwrap());
    assert!(
        success(before) <= success(after),
        "the last success of {:?} is forgotten",
        write.actor
    );
    let attempts = |s: &Value| -> BTreeMap<String, i64> {
        let stages = s["stages"].as_array().cloned().unwrap_or_default();
        let of = |s: &Value| (s["name"].to_string(), s["attempt"].as_i64().unwrap_or(0));
        stages.iter().map(of).collect()
    };
    let later = attempts(after);
    for (stage, attempt) in attempts(before) {
        assert!(
            later.get(&stage).is_none_or(|now| *now >= attempt),
            "attempts of {stage} decrease"
        );
    }
}

fn weights_stay_in_bounds(write: &Write) {
    let Some(after) = &write.after else { return };
    let weights = &after["status"]["weights"];
    for field in ["asked", "actual"] {
        assert!((0..=100).contains(&weights[field].as_i64().unwrap_or(0)), "{weights}");
    }
    for field in ["candidateReplicas", "baselineReplicas"] {
        assert!(weights[field].as_i64().unwrap_or(0) >= 0, "{weights}");
    }
}

/// An outcome stands; only a person takes a promoted version back.
fn end_is_the_end(write: &Write) {
    let Some(after) = &write.after else { return };
    let (before, after) = (&write.before["status"]["outcome"], &after["status"]["outcome"]);
    let served = before == "Promoted" || (before == "Superseded" && !write.before["status"]["promotedAt"].is_null());
    let asked = write.before["spec"]["desiredState"] == "RollBack" && served;
    assert!(before.is_null() || before == after || asked, "{before} becomes {after}");
}

/// A check passes on answers that were numbers, and a gate on a metric that a stage reported.
fn no_data_never_passes(write: &Write) {
    let Some(after) = &write.after else { return };
    let changed = |field: &str| after["status"][field] != write.before["status"][field];
    match write.actor.0 {
        Kind::Rollout if changed("checks") => checks_pass_on_answers(write, after),
        Kind::Run if changed("gates") => gates_pass_on_metrics(write, after),
        _ => {}
    }
}

fn checks_pass_on_answers(write: &Write, after: &Value) {
    let (before, after): (Rollout, Rollout) = (actor(write), serde_json::from_value(after.clone()).unwrap());
    let old = before.status.unwrap_or_default().checks;
    let new = after.status.unwrap_or_default().checks;
    let passed = new.iter().filter(|c| c.verdict == Verdict::Pass && !old.contains(c));
    for said in passed {
        let mut plan = before.spec.plan.checks.iter();
        let check = plan.find(|c| c.name == said.name).expect("a check of the plan");
        let samples = check.samples_query.iter().filter(|_| check.min_samples.is_some());
        let queries = [&check.query].into_iter().chain(&check.baseline_query).chain(samples);
        for query in queries {
            let answer = write.answers.get(query);
            assert!(
                matches!(answer, Some(Reading::Value(_))),
                "check {} passes, and the answer to {query} was {answer:?}",
                said.name
            );
        }
    }
}

fn gates_pass_on_metrics(write: &Write, after: &Value) {
    let (before, after): (FlywheelRun, FlywheelRun) = (actor(write), serde_json::from_value(after.clone()).unwrap());
    // What a run whose status was lost takes back from its version was judged before that.
    let registered = before.status.and_then(|s| s.model_version?.uid).is_some();
    let status = after.status.unwrap_or_default();
    let passed = status.gates.iter().filter(|g| g.verdict == Verdict::Pass);
    for gate in passed.filter(|_| registered) {
        let mut reported = status
            .stages
            .iter()
            .filter_map(|s| s.result.as_ref())
            .flat_map(|r| &r.metrics);
        let found = reported.any(|m| m.name == gate.metric && Some(&m.value) == gate.value.as_ref());
        assert!(found, "no stage reported the metric on which it passes: {gate:?}");
    }
}

fn brake_stops_forward_decisions(write: &Write) {
    if let Some(Action::Create(child)) = &write.action {
        let fine = matches!(&**child, Child::ModelVersion(_) | Child::ControllerRevision(_));
        assert!(fine, "{:?} was created under the brake by {:?}", child, write.actor);
    }
    if let Some(Action::Patch(patch)) = &write.action {
        assert_ne!(
            bound(write, patch),
            Some(true),
            "the target was bound to the candidate under the brake"
        );
    }
    let Some(after) = &write.after else { return };
    let index = |v: &Value| v["status"]["step"]["index"].as_i64();
    let lost = index(&write.before).is_none();
    assert!(
        lost || index(after) <= index(&write.before),
        "a step was left under the brake"
    );
}

/// No decision records a freer level than the administrator allows.
fn levels_are_allowed(write: &Write, ceiling: AutomationLevel) {
    let Some(after) = &write.after else { return };
    let decisions = |v: &Value| v["status"]["decisions"].as_array().cloned().unwrap_or_default();
    let old = decisions(&write.before);
    for decision in decisions(after).iter().filter(|d| !old.contains(d)) {
        let level: Option<AutomationLevel> = serde_json::from_value(decision["level"].clone()).unwrap();
        assert!(
            level.is_none_or(|level| level <= ceiling),
            "{decision} is freer than the ceiling {ceiling:?}"
        );
    }
}
