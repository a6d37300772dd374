//! I14, as far as it concerns time: what was deleted goes as soon as nothing keeps it any more.
//!
//! Flywheel holds Rollouts and versions by a finalizer. A deleted Rollout may wait for pods of its target on the way back,
//! until the deadline of its plan, and for a candidate that is on its way out; a deleted version waits while it serves,
//! or while a Rollout has it in hand or would go back to it. Judged is the time from when nothing of this holds any more:
//! each phase of a Rollout begins it anew.
//!
//! Only time counts in which an operator was at work that also writes in that namespace, as its writes show, wherever they
//! are: of a longer silence a little counts, because it may have been away, or its world at rest. What was deleted shortly
//! before the log ends is not judged, nor anything while an object of the namespace cannot be read, beside which no version
//! is let go. That a namespace ends, which lets versions go, the history does not hold.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use flywheel_api::names;
use flywheel_api::rollout::RolloutPhase;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::json::{int, label, list, named, text, uid};
use super::{Finding, Key, Kind, Rule, Step, World, binding};

const I14: &str = "I14";

/// How long the operator may take: a look that hangs is given up after a minute, and the next one lets go.
const MOST: SignedDuration = SignedDuration::from_secs(90);
/// How long it may take after it was refused something: its pauses after failures grow to five minutes.
const MOST_AFTER_FAILURES: SignedDuration = SignedDuration::from_secs(390);
/// As much of the time between two writes counts: a dead operator is followed by another one within it.
const SILENCE: SignedDuration = SignedDuration::from_secs(30);

/// Kinds that go with the finalizer by which Flywheel holds them.
const HELD: [(Kind, &str); 2] = [
    (Kind::Rollout, names::FINALIZER_ROLLOUT),
    (Kind::Version, names::FINALIZER_LIVE),
];
/// Kinds that the operator must be able to read.
const READ: [Kind; 5] = [Kind::Pipeline, Kind::Run, Kind::Version, Kind::Rollout, Kind::Policy];

/// What was deleted and is held.
#[derive(Debug, Default)]
pub struct Overdue {
    /// The operators, by their credentials.
    operators: HashMap<String, Clock>,
    /// Which of them write in a namespace.
    namespaces: HashMap<String, BTreeSet<String>>,
    leaving: BTreeMap<Key, Leaving>,
}

/// For how long an operator has been at work.
#[derive(Debug, Default)]
struct Clock {
    last: Option<Timestamp>,
    work: SignedDuration,
}

#[derive(Debug)]
struct Leaving {
    uid: String,
    phase: String,
    /// How long each operator had been at work when nothing kept it any more.
    free: Option<HashMap<String, SignedDuration>>,
    /// An operator was refused something since.
    refused: bool,
    told: bool,
}

impl Rule for Overdue {
    fn step(&mut self, world: &World, step: &Step) -> Vec<Finding> {
        self.note(step);
        self.follow(step);
        let mut found = Vec::new();
        for (key, leaving) in &mut self.leaving {
            let Some(object) = world.get(key) else { continue };
            if keeps(world, key, object, &step.at) {
                leaving.free = None;
                continue;
            }
            let here = self.namespaces.get(&key.namespace).into_iter().flatten();
            let operators = here.filter_map(|credential| Some((credential, self.operators.get(credential)?.work)));
            found.extend(leaving.problem(key, operators));
        }
        found
    }

    fn refused(&mut self, step: &Step) -> Vec<Finding> {
        self.note(step);
        if step.operator {
            // An API server that is not well refuses more than the log tells.
            let hit = |key: &Key| step.code >= 500 || key.namespace == step.key.namespace;
            for (_, leaving) in self.leaving.iter_mut().filter(|(key, _)| hit(key)) {
                leaving.refused = true;
                leaving.free = None;
            }
        }
        Vec::new()
    }
}

impl Overdue {
    fn note(&mut self, step: &Step) {
        let Some(at) = step.at.parse::<Timestamp>().ok().filter(|_| step.operator) else {
            return;
        };
        let here = self.namespaces.entry(step.key.namespace.clone()).or_default();
        here.insert(step.credential.clone());
        let clock = self.operators.entry(step.credential.clone()).or_default();
        if let Some(last) = clock.last {
            let pause = at.duration_since(last).clamp(SignedDuration::ZERO, SILENCE);
            clock.work = clock.work.saturating_add(pause);
        }
        clock.last = Some(clock.last.map_or(at, |last| last.max(at)));
    }

    /// Whether the object of this write is being deleted now, or has gone.
    fn follow(&mut self, step: &Step) {
        let held = step.after.as_deref().filter(|o| is_held(&step.key.kind, o));
        let Some(object) = held else {
            self.leaving.remove(&step.key);
            return;
        };
        let phase = text(object, "/status/phase");
        let known = self.leaving.get(&step.key);
        if known.is_some_and(|known| known.uid == uid(object) && known.phase == phase) {
            return;
        }
        let leaving = Leaving {
            uid: uid(object).to_owned(),
            phase: phase.to_owned(),
            free: None,
            refused: known.is_some_and(|known| known.refused),
            told: known.is_some_and(|known| known.told),
        };
        self.leaving.insert(step.key.clone(), leaving);
    }
}

/// Whether it is being deleted and Flywheel holds it.
fn is_held(kind: &Kind, object: &Value) -> bool {
    let ours = HELD
        .iter()
        .find(|(held, _)| held == kind)
        .map(|(_, finalizer)| *finalizer);
    let finalizers = list(object, "/metadata/finalizers");
    let leaving = !text(object, "/metadata/deletionTimestamp").is_empty();
    leaving && ours.is_some_and(|ours| finalizers.iter().any(|f| f == ours))
}

impl Leaving {
    /// Told once.
    fn problem<'a>(
        &mut self,
        key: &Key,
        operators: impl Iterator<Item = (&'a String, SignedDuration)>,
    ) -> Option<Finding> {
        let free = self.free.get_or_insert_default();
        let worked = operators.map(|(credential, work)| {
            let since = *free.entry(credential.clone()).or_insert(work);
            work.saturating_sub(since)
        });
        let waited = worked.max()?;
        let most = if self.refused { MOST_AFTER_FAILURES } else { MOST };
        if self.told || waited <= most {
            return None;
        }
        self.told = true;
        let message = format!(
            "{key} is being deleted and nothing keeps it, and in {} s of work the operator has not let it go",
            waited.as_secs()
        );
        Some(Finding::new(I14, message).about(key))
    }
}

/// Whether something keeps what is being deleted.
fn keeps(world: &World, key: &Key, object: &Value, at: &str) -> bool {
    let unreadable = |kind: &Kind| world.all(kind.clone(), &key.namespace).any(|(_, o)| is_invalid(o));
    let needed = match key.kind {
        Kind::Rollout => goes_back(world, key, object, at) || candidate_goes(world, key, object),
        _ => serves(world, key, object) || is_in_hand(world, key),
    };
    needed || READ.iter().any(unreadable)
}

/// Whether an object says that the operator cannot read it.
pub(super) fn is_invalid(object: &Value) -> bool {
    named(object, "/status/conditions", "type", "Ready").is_some_and(|c| text(c, "/reason") == "Invalid")
}

/// Whether the pods of a Rollout's target are waited for on the way back, which the plan's deadline ends.
fn goes_back(world: &World, key: &Key, rollout: &Value, at: &str) -> bool {
    let name = text(rollout, "/spec/plan/targetRef/name");
    let target = world.named(Kind::Deployment, &key.namespace, name);
    let incomplete = target.is_some_and(|target| !is_complete(target));
    if text(rollout, "/status/phase") != "RollingBack" || !incomplete {
        return false;
    }
    let since: Option<Timestamp> = text(rollout, "/status/progressSince").parse().ok();
    let deadline = int(rollout, "/spec/plan/progressDeadlineSeconds").map(SignedDuration::from_secs);
    let end = since.zip(deadline).and_then(|(since, d)| since.checked_add(d).ok());
    let now: Option<Timestamp> = at.parse().ok();
    end.zip(now).is_none_or(|(end, now)| now <= end)
}

/// Whether all pods of a Deployment are of its present template and ready, and no others are left.
fn is_complete(deployment: &Value) -> bool {
    let wanted = int(deployment, "/spec/replicas").unwrap_or(1);
    let counts = ["replicas", "updatedReplicas", "readyReplicas", "availableReplicas"];
    let seen = int(deployment, "/status/observedGeneration") >= int(deployment, "/metadata/generation");
    seen && counts
        .iter()
        .all(|c| int(deployment, &format!("/status/{c}")).unwrap_or(0) == wanted)
}

/// Whether a candidate of the Rollout is on its way out, which is the garbage collector's business.
fn candidate_goes(world: &World, key: &Key, rollout: &Value) -> bool {
    let mut all = world.all(Kind::Deployment, &key.namespace);
    all.any(|(_, o)| {
        label(o, names::LABEL_ROLLOUT_UID) == uid(rollout) && !text(o, "/metadata/deletionTimestamp").is_empty()
    })
}

/// Whether any Deployment carries the version, in whatever field.
fn serves(world: &World, key: &Key, version: &Value) -> bool {
    let mut all = world.all(Kind::Deployment, &key.namespace);
    all.any(|(_, o)| {
        let template = o.pointer("/spec/template/spec/containers").unwrap_or(&Value::Null);
        holds_text(template, &|value| binding::names(version, value))
    })
}

fn holds_text(value: &Value, wanted: &impl Fn(&str) -> bool) -> bool {
    match value {
        Value::Object(fields) => fields.values().any(|v| holds_text(v, wanted)),
        Value::Array(all) => all.iter().any(|v| holds_text(v, wanted)),
        Value::String(text) => wanted(text),
        _ => false,
    }
}

/// Whether a Rollout delivers the version or may go back to it.
fn is_in_hand(world: &World, key: &Key) -> bool {
    let mut all = world.all(Kind::Rollout, &key.namespace);
    all.any(|(_, rollout)| {
        let delivers = text(rollout, "/spec/modelVersionRef/name") == key.name;
        let back = text(rollout, "/status/baseline/version") == key.name;
        let phase: Option<RolloutPhase> = rollout
            .pointer("/status/phase")
            .and_then(|phase| serde_json::from_value(phase.clone()).ok());
        match phase {
            Some(RolloutPhase::Promoted) => back && promoted_serves(world, key, rollout),
            Some(phase) => (delivers || back) && (phase.holds_target() || phase == RolloutPhase::Observing),
            None => false,
        }
    })
}

fn promoted_serves(world: &World, key: &Key, rollout: &Value) -> bool {
    let plan = rollout.pointer("/spec/plan").unwrap_or(&Value::Null);
    let target = world.named(Kind::Deployment, &key.namespace, text(plan, "/targetRef/name"));
    let carried = target.and_then(|target| binding::value(target, plan));
    carried.is_some() && carried == rollout.pointer("/status/candidate/value").and_then(Value::as_str)
}
