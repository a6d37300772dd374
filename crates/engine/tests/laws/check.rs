//! The laws, checked on every write of a history.

use std::collections::BTreeMap;

use flywheel_api::flywheel_run::StageState;
use flywheel_api::names::{ANNOTATION_LINEAGE, ANNOTATION_MODEL_VERSION};
use flywheel_api::reference::{ApprovalGate, AutomationLevel, Verdict};
use flywheel_api::rollout::{RolloutDesiredState, RolloutPhase};
use flywheel_api::{FlywheelPipeline, FlywheelRun, ModelVersion, Rollout, RolloutStatus};
use flywheel_engine::decision::{Action, Child, ChildKind, Decision, Patch};
use flywheel_engine::lineage::register::{self, Register};
use flywheel_engine::part::Ledger;
use flywheel_engine::run::{self, Peer};
use flywheel_engine::testing::{self, Kind, World, Write};
use flywheel_engine::view::LiveView;
use flywheel_engine::{model_version, pipeline, rollout};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// An invariant, and a law that is about it.
pub type Law = (&'static str, fn(&Write));

/// Laws of single writes.
pub const OF_WRITES: [Law; 9] = [
    ("I4", intent_before_effect),
    ("I13", numbers_never_decrease),
    ("I7", weights_stay_in_bounds),
    ("I13", end_is_the_end),
    ("I2", gates_before_delivery),
    ("I3", steps_need_their_approval),
    ("I19", steps_last_their_shortest_time),
    ("I13", lineage_only_grows),
    ("I13", references_keep_a_head),
];

/// What was seen of a history so far.
#[derive(Default)]
pub struct Laws {
    seen: usize,
    created: BTreeMap<(Kind, String), usize>,
}

impl Laws {
    /// Checks the writes since the last look; `braked` tells whether the brake was pulled all the time.
    pub fn check(&mut self, world: &World, braked: bool) {
        for write in &world.writes[self.seen..] {
            OF_WRITES.iter().for_each(|(_, law)| law(write));
            if braked {
                brake_stops_forward_decisions(write);
            }
            levels_are_allowed(write, world.settings.automation_ceiling);
            self.once(write);
        }
        self.seen = world.writes.len();
        lineage_is_whole(world);
        peers_count_only_where_they_are_asked_for(world);
        what_serves_counts_only_where_it_is_asked_for(world);
        only_what_was_looked_at_counts(world);
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

/// Who does not ask for its peers decides the same whatever they do: nobody need read them.
fn peers_count_only_where_they_are_asked_for(world: &World) {
    let runs: Vec<FlywheelRun> = world.all(Kind::Run);
    for run in runs.iter().filter(|run| !run::asks_for_peers(run)) {
        let mut seen = world.run_observation(run.metadata.name.as_ref().unwrap()).unwrap();
        let alone = run::decide(&seen);
        let busy = |n| Peer {
            name: format!("another-{n}"),
            pipeline: run.spec.pipeline_ref.name.clone(),
            created: Timestamp::default(),
            begun: true,
            running_stage: true,
            ..Peer::default()
        };
        *seen.peers = (0..100).map(busy).collect();
        assert_eq!(run::decide(&seen), alone, "{:?}", run.metadata.name);
    }
}

/// Who does not ask for what serves decides the same whatever that is.
fn what_serves_counts_only_where_it_is_asked_for(world: &World) {
    let runs: Vec<FlywheelRun> = world.all(Kind::Run);
    for run in runs.iter().filter(|run| !run::asks_for_live(run)) {
        let mut seen = world.run_observation(run.metadata.name.as_ref().unwrap()).unwrap();
        let without = run::decide(&seen);
        *seen.live = Some(LiveView::of(&testing::version(9)));
        assert_eq!(run::decide(&seen), without, "{:?}", run.metadata.name);
    }
}

/// Decides once on all parts, and once without those that were not looked at; says what was looked at, a bit for each.
macro_rules! decided_alike_without_what_was_not_looked_at {
    ($observation:expr, $decide:path, $($part:ident),+) => {{
        let (mut seen, ledger) = ($observation, Ledger::default());
        let bits = (0..).map(|n| 1_u32 << n);
        let mut each = bits.clone();
        $(seen.$part = ledger.part(each.next().unwrap(), seen.$part.peek().clone());)+
        let decision = $decide(&seen);
        let (looked, mut each) = (ledger.noted(), bits);
        $(if looked & each.next().unwrap() == 0 {
            seen.$part = Default::default();
        })+
        assert_eq!($decide(&seen), decision, "{looked:b}");
        (decision, looked)
    }};
}

/// What a decision did not look at does not change it: nobody need read that live.
fn only_what_was_looked_at_counts(world: &World) {
    for run in world.all::<FlywheelRun>(Kind::Run) {
        let seen = world.run_observation(run.metadata.name.as_ref().unwrap()).unwrap();
        decided_alike_without_what_was_not_looked_at!(
            seen,
            run::decide,
            jobs,
            peers,
            live,
            untold,
            versions,
            version,
            rollout,
            policies,
            approvals
        );
    }
    for pipeline in world.all::<FlywheelPipeline>(Kind::Pipeline) {
        let seen = world
            .pipeline_observation(pipeline.metadata.name.as_ref().unwrap())
            .unwrap();
        decided_alike_without_what_was_not_looked_at!(
            seen,
            pipeline::decide,
            siblings,
            runs,
            versions,
            rollouts,
            unreadable,
            unreadable_runs,
            snapshots,
            live,
            untold
        );
    }
    for version in world.all::<ModelVersion>(Kind::ModelVersion) {
        let seen = world
            .version_observation(version.metadata.name.as_ref().unwrap())
            .unwrap();
        decided_alike_without_what_was_not_looked_at!(seen, model_version::decide, run, rollouts, serves, untold);
    }
    for rollout in world.all::<Rollout>(Kind::Rollout) {
        delivery_looked_at(world, rollout.metadata.name.as_ref().unwrap());
        an_effect_is_refused_if_its_deployment_changed(world, rollout.metadata.name.as_ref().unwrap());
    }
}

/// So that nobody need read it before: a patch bears the version that was seen, and what is created was not there.
fn an_effect_is_refused_if_its_deployment_changed(world: &World, name: &str) {
    let seen = world.rollout_observation(name).unwrap();
    let Decision::Do(effect) = rollout::decide(&seen) else {
        return;
    };
    let sides = [&seen.target, &seen.candidate];
    match &effect.action {
        Action::Create(child) if matches!(**child, Child::Deployment(_)) => assert!(seen.candidate.is_none()),
        Action::Patch(patch) if patch.object.kind == ChildKind::Deployment => {
            let changed = sides.iter().filter_map(|side| side.as_ref()).any(|side| {
                side.metadata.name.as_deref() == Some(&patch.object.name)
                    && side.metadata.uid.as_deref() == Some(&patch.object.uid)
                    && side.metadata.resource_version == patch.object.resource_version
            });
            assert!(changed && patch.object.resource_version.is_some(), "{name}: {patch:?}");
        }
        Action::Create(_) | Action::Patch(_) | Action::Delete(_) => {}
    }
}

/// The bits of the Deployments in what [`delivery_looked_at`] says.
pub const DEPLOYMENTS: u32 = 0b11;

/// What is decided on a Rollout, and whether it looked at its two Deployments, the others, the versions and the Approvals, a
/// bit for each.
pub fn delivery_looked_at(world: &World, name: &str) -> (Decision<RolloutStatus>, u32) {
    let seen = world.rollout_observation(name).unwrap();
    decided_alike_without_what_was_not_looked_at!(seen, rollout::decide, target, candidate, others, versions, approvals)
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
            match bound(patch) {
                Some(true) => assert_eq!(status.phase, RolloutPhase::Promoting),
                Some(false) => assert_eq!(status.phase, RolloutPhase::RollingBack),
                None => {}
            }
        }
        _ => {}
    }
}

/// Whether a patch binds the target to the candidate; nothing if it binds nothing.
fn bound(patch: &Patch) -> Option<bool> {
    let annotations = &patch.body["spec"]["template"]["metadata"]["annotations"];
    let version = annotations.get(ANNOTATION_MODEL_VERSION)?;
    Some(version == "eta-2" || version == "eta-3")
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

/// No Rollout without every gate, every policy and the person that the level asks for.
fn gates_before_delivery(write: &Write) {
    let Some(Action::Create(child)) = &write.action else {
        return;
    };
    if !matches!(&**child, Child::Rollout(_)) {
        return;
    }
    let status = actor::<FlywheelRun>(write).status.unwrap();
    assert!(!status.gates.is_empty());
    for gate in &status.gates {
        let fine = matches!(gate.verdict, Verdict::Pass | Verdict::NotApplicable);
        assert!(fine || gate.dry_run, "{gate:?}");
    }
    for verdict in &status.bias {
        assert!(
            matches!(verdict.verdict, Verdict::Pass | Verdict::NotApplicable),
            "{verdict:?}"
        );
    }
    let approved = status.approvals.iter().any(|a| a.gate == ApprovalGate::Promote);
    let constant = status
        .gates
        .iter()
        .any(|g| g.gate == "bound" && g.verdict == Verdict::Pass);
    let free = status.level == Some(AutomationLevel::FullyAutomated) && constant;
    assert!(approved || free, "delivered without approval at {:?}", status.level);
}

/// A step that asks for people is left on a digest that somebody approved, unless a user skips it or it goes back.
fn steps_need_their_approval(write: &Write) {
    let Some(after) = write.after.as_ref().filter(|_| write.actor.0 == Kind::Rollout) else {
        return;
    };
    let before: Rollout = actor(write);
    let after: Rollout = serde_json::from_value(after.clone()).unwrap();
    let (old, new) = (before.status.unwrap_or_default(), after.status.unwrap_or_default());
    let index = |s: &RolloutStatus| s.step.as_ref().map(|s| s.index);
    let steps = &before.spec.plan.strategy.steps;
    let asks = index(&old)
        .and_then(|i| steps.get(i as usize))
        .is_some_and(|s| s.approval.is_some());
    if is_at_a_step(old.phase) && index(&new) > index(&old) && asks {
        let digest = new
            .decisions
            .last()
            .and_then(|d| d.evidence_digest.clone())
            .expect("a digest");
        assert!(new.approvals.iter().any(|a| a.evidence_digest == digest));
    }
}

/// A step is left when it is held, or as soon as it is reached.
fn is_at_a_step(phase: RolloutPhase) -> bool {
    matches!(phase, RolloutPhase::Progressing | RolloutPhase::Holding)
}

/// A step is not left before its shortest time is over, unless a user skips the rest.
fn steps_last_their_shortest_time(write: &Write) {
    let Some(after) = write.after.as_ref().filter(|_| write.actor.0 == Kind::Rollout) else {
        return;
    };
    let (before, after): (Rollout, Rollout) = (actor(write), serde_json::from_value(after.clone()).unwrap());
    let (old, new) = (before.status.unwrap_or_default(), after.status.unwrap_or_default());
    let Some(held) = old.step.filter(|_| is_at_a_step(old.phase)) else {
        return;
    };
    let left = new.step.is_some_and(|step| step.index > held.index);
    let step = before.spec.plan.strategy.steps.get(held.index as usize);
    let shortest = step.and_then(|s| s.min_duration.as_ref()?.seconds());
    if let (true, Some(shortest)) = (left, shortest) {
        let entered = held.entered_at.map_or(write.at, |at| at.0);
        let lasted = write.at.duration_since(entered).as_secs();
        let hurried = before.spec.desired_state == RolloutDesiredState::Promote;
        assert!(
            hurried || lasted >= shortest,
            "step {} lasted {lasted} s of {shortest} s",
            held.name
        );
    }
}

fn brake_stops_forward_decisions(write: &Write) {
    if let Some(Action::Create(child)) = &write.action {
        let fine = matches!(&**child, Child::ModelVersion(_) | Child::ControllerRevision(_));
        assert!(fine, "{:?} was created under the brake by {:?}", child, write.actor);
    }
    if let Some(Action::Patch(patch)) = &write.action {
        assert_ne!(
            bound(patch),
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
