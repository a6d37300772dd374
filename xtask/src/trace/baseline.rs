//! I4, as far as it concerns safety: what served before can be had back by one write, and no other write of the operator
//! touches it.
//!
//! Judged are the operator's writes.
//!
//! - A Deployment that a Rollout recorded as its target is never deleted, and never scaled from some pods to none.
//! - Its binding changes from the recorded baseline to the candidate's value only for a Rollout that promotes, and from
//!   the candidate's value to the recorded baseline only for one that rolls back. So a value that others set is never
//!   overwritten, and what is restored is what was there.
//! - A Rollout that ends `RolledBack` or `Aborted` does not leave its candidate's value on the target.
//! - A version to which a Rollout at work would go back is not deleted.
//!
//! For the binding a Rollout's phase counts as it was within the last minute: a promotion's write that hangs may take
//! effect after the way back has begun. Other fields of the target are I15's, pods that are taken away I7's. That the way back ends is
//! not judged: it depends on pods that the log does not show.

use std::collections::HashMap;
use std::sync::Arc;

use flywheel_api::names;
use serde_json::Value;

use super::json::{int, label, text, uid};
use super::moments::Moments;
use super::{Finding, Kind, Rule, Step, World, binding};

const I4: &str = "I4";

/// Phases in which a Rollout may have to go back.
const AT_WORK: [&str; 5] = ["Progressing", "Holding", "Promoting", "Observing", "RollingBack"];
/// Ends after which the baseline serves.
const BACK: [&str; 2] = ["RolledBack", "Aborted"];

/// What a Rollout recorded.
#[derive(Debug, Clone, Default, PartialEq)]
struct Record {
    phase: String,
    target: String,
    baseline: Option<String>,
    candidate: Option<String>,
    /// Name of the version that the baseline's value names.
    version: String,
}

impl Record {
    fn of(rollout: &Value) -> Self {
        let value = |at: &str| rollout.pointer(at).and_then(Value::as_str).map(str::to_owned);
        Self {
            phase: text(rollout, "/status/phase").to_owned(),
            target: text(rollout, "/status/targetUid").to_owned(),
            baseline: value("/status/baseline/value"),
            candidate: value("/status/candidate/value"),
            version: text(rollout, "/status/baseline/version").to_owned(),
        }
    }

    fn allows(&self, was: Option<&str>, is: Option<&str>) -> bool {
        let sides = (self.baseline.as_deref(), self.candidate.as_deref());
        match self.phase.as_str() {
            "Promoting" => (was, is) == sides,
            "RollingBack" => (is, was) == sides,
            _ => false,
        }
    }
}

/// Records of all Rollouts, and Deployments as they were.
#[derive(Debug, Default)]
pub struct Baseline {
    /// By UID.
    rollouts: HashMap<String, Moments<Record>>,
    /// By UID; nothing when it is gone.
    targets: HashMap<String, Moments<Option<Arc<Value>>>>,
}

impl Rule for Baseline {
    fn step(&mut self, world: &World, step: &Step) -> Vec<Finding> {
        match step.key.kind {
            Kind::Rollout => {
                let known = self.rollouts.entry(uid(step.object()).to_owned()).or_default();
                known.note(&step.at, Record::of(step.object()));
            }
            Kind::Deployment => {
                let known = self.targets.entry(uid(step.object()).to_owned()).or_default();
                known.note(&step.at, step.after.clone());
            }
            _ => {}
        }
        if !step.operator {
            return Vec::new();
        }
        let problem = match step.key.kind {
            Kind::Rollout if step.subresource == "status" => self.left(step),
            Kind::Deployment => self.written(world, step),
            Kind::Version if step.verb == "delete" => self.forgotten(world, step),
            _ => None,
        };
        problem.map(|message| Finding::new(I4, message)).into_iter().collect()
    }
}

impl Baseline {
    /// A write on a target that may not be.
    fn written(&self, world: &World, step: &Step) -> Option<String> {
        let before = step.before.as_deref()?;
        let target = uid(before);
        if !label(before, names::LABEL_ROLLOUT_UID).is_empty() {
            return None;
        }
        let concerned: Vec<(&Value, &Moments<Record>)> = self
            .rollouts
            .iter()
            .filter(|(_, known)| known.when_sent(&step.at).any(|r| r.target == target))
            .filter_map(|(rollout, known)| Some((&*world.known(rollout)?.object, known)))
            .collect();
        if concerned.is_empty() {
            return None;
        }
        if step.verb == "delete" || step.after.is_none() {
            return Some(format!("the operator deletes {}, the target of a Rollout", step.key));
        }
        let [had, has] = [before, step.later()].map(|o| int(o, "/spec/replicas").unwrap_or(1));
        if had > 0 && has < 1 {
            return Some(format!(
                "the operator takes all pods of {}, the target of a Rollout",
                step.key
            ));
        }
        let values = |rollout: &Value| {
            let plan = rollout.pointer("/spec/plan").unwrap_or(&Value::Null);
            [before, step.later()].map(|o| binding::value(o, plan).map(str::to_owned))
        };
        let bound = concerned.iter().map(|(rollout, known)| (values(rollout), known));
        let changed: Vec<_> = bound.filter(|([was, is], _)| was != is).collect();
        let ([was, is], _) = changed.first()?;
        let allowed = changed.iter().any(|([was, is], known)| {
            let mut recent = known.when_sent(&step.at).filter(|r| r.target == target);
            recent.any(|r| r.allows(was.as_deref(), is.as_deref()))
        });
        let message = || {
            format!(
                "the operator sets the binding of {} from {} to {}, which no Rollout at work recorded as its two sides",
                step.key,
                shown(was),
                shown(is)
            )
        };
        (!allowed).then(message)
    }

    /// A Rollout that went back, and whose candidate's value its target still carries.
    fn left(&self, step: &Step) -> Option<String> {
        let (old, new) = (step.earlier(), step.later());
        let record = Record::of(new);
        if !BACK.contains(&record.phase.as_str()) || text(old, "/status/phase") == record.phase {
            return None;
        }
        let candidate = record
            .candidate
            .as_deref()
            .filter(|c| record.baseline.as_deref() != Some(c))?;
        let plan = new.pointer("/spec/plan").unwrap_or(&Value::Null);
        let carries = |target: &Option<Arc<Value>>| {
            target.as_deref().is_some_and(|t| {
                let stays = text(t, "/metadata/deletionTimestamp").is_empty();
                stays && binding::value(t, plan) == Some(candidate)
            })
        };
        let mut recent = self.targets.get(&record.target)?.recent(&step.at);
        let message = || {
            format!(
                "{} is {}, but its target still carries {candidate}",
                step.key, record.phase
            )
        };
        recent.all(carries).then(message)
    }

    /// A version is deleted that a Rollout at work needs.
    fn forgotten(&self, world: &World, step: &Step) -> Option<String> {
        let needs = |r: &Record| AT_WORK.contains(&r.phase.as_str()) && r.version == step.key.name;
        let mut all = world.all(Kind::Rollout, &step.key.namespace);
        let (rollout, _) = all.find(|(_, o)| {
            let known = self.rollouts.get(uid(o));
            known.is_some_and(|k| k.reaches_back(&step.at) && k.recent(&step.at).all(needs))
        })?;
        Some(format!(
            "the operator deletes {}, to which {rollout} would go back",
            step.key
        ))
    }
}

fn shown(value: &Option<String>) -> &str {
    value.as_deref().unwrap_or("no value")
}
