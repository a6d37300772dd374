//! I7 and I17: pods that serve are taken away only after as many others are ready as the target asked for, and at most
//! one Rollout works on a target.

use std::collections::HashMap;

use flywheel_api::names;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::json::{int, label, text, uid};
use super::{Finding, Key, Kind, Rule, Step, World};

const I7: &str = "I7";
const I17: &str = "I17";

/// A write stands on what the operator read some moments before: pods that failed since are not its fault.
const LAG: SignedDuration = SignedDuration::from_secs(5);

/// Phases in which a Rollout works on its target. One that is preparing has done nothing yet: creating the candidate is
/// the lock.
const WORKS: [&str; 4] = ["Progressing", "Holding", "Promoting", "RollingBack"];

/// When each Deployment last had ready pods, and how many.
#[derive(Debug, Default)]
pub struct Capacity {
    /// By UID: ready pods over time, the newest last.
    ready: HashMap<String, Vec<(Timestamp, i64)>>,
}

impl Rule for Capacity {
    fn step(&mut self, world: &World, step: &Step) -> Vec<Finding> {
        let found = match step.key.kind {
            Kind::Rollout if step.operator && step.subresource == "status" => second(world, step),
            Kind::Deployment if step.operator => self.taken(world, step),
            _ => None,
        };
        self.note(step);
        found.into_iter().collect()
    }
}

impl Capacity {
    fn note(&mut self, step: &Step) {
        if step.key.kind != Kind::Deployment {
            return;
        }
        let (Ok(at), Some(object)) = (step.at.parse::<Timestamp>(), &step.after) else {
            return;
        };
        let known = self.ready.entry(uid(object).to_owned()).or_default();
        known.push((at, ready(object)));
    }

    /// The most ready pods that a Deployment had in the moments before.
    fn most(&self, deployment: &Value, at: &str) -> i64 {
        let Ok(at) = at.parse::<Timestamp>() else {
            return i64::MAX;
        };
        let known = self.ready.get(uid(deployment)).map(Vec::as_slice).unwrap_or_default();
        let from = at.checked_sub(LAG).unwrap_or(at);
        let begun = known.iter().rposition(|(since, _)| *since <= from).unwrap_or(0);
        known.iter().skip(begun).map(|(_, count)| *count).max().unwrap_or(0)
    }

    /// A write that takes pods away leaves at least as many ready ones as the target had.
    fn taken(&self, world: &World, step: &Step) -> Option<Finding> {
        let before = step.before.as_deref()?;
        let owner = label(before, names::LABEL_ROLLOUT_UID);
        if owner.is_empty() {
            return self.shrunk(world, step, before);
        }
        let rollout = world.by_uid(&Kind::Rollout, owner)?;
        let name = text(rollout, "/spec/plan/targetRef/name");
        let target = world.named(Kind::Deployment, &step.key.namespace, name)?;
        if step.after.is_some() && text(step.later(), "/metadata/deletionTimestamp").is_empty() {
            return None;
        }
        let needed = match text(rollout, "/status/phase") {
            "Promoting" if !is_shrunk(rollout) => replicas(target),
            "Promoting" | "Progressing" | "Holding" if is_shrunk(rollout) => int(rollout, "/status/baselineReplicas")?,
            // On the way back the baseline has all its pods, or cannot get them while the candidate is there.
            _ => return None,
        };
        let left = self.most(target, &step.at);
        let message = || format!("{} goes while its target has {left} ready pods of {needed}", step.key);
        (left < needed).then(|| Finding::new(I7, message()).about(&target_key(step, name)))
    }

    /// The baseline shrinks only by as many pods as the candidate has ready.
    fn shrunk(&self, world: &World, step: &Step, before: &Value) -> Option<Finding> {
        let (was, is) = (replicas(before), replicas(step.later()));
        if is >= was || self.most(before, &step.at) < was {
            return None;
        }
        let mut all = world.all(Kind::Rollout, &step.key.namespace);
        let aims = |o: &Value| text(o, "/spec/plan/targetRef/name") == step.key.name && works(o);
        let (key, rollout) = all.find(|(_, o)| aims(o))?;
        let full = int(rollout, "/status/baselineReplicas")?;
        let mut candidates = world.all(Kind::Deployment, &step.key.namespace);
        let candidate = candidates.find(|(_, o)| label(o, names::LABEL_ROLLOUT_UID) == uid(rollout));
        let ready = candidate.map_or(0, |(_, c)| self.most(c, &step.at));
        let message = || {
            format!(
                "{} shrinks to {is} pods while the candidate has {ready}: {full} served",
                step.key
            )
        };
        (is + ready < full).then(|| Finding::new(I7, message()).about(key))
    }
}

fn target_key(step: &Step, name: &str) -> Key {
    Key {
        name: name.to_owned(),
        ..step.key.clone()
    }
}

fn replicas(deployment: &Value) -> i64 {
    int(deployment, "/spec/replicas").unwrap_or(1)
}

fn ready(deployment: &Value) -> i64 {
    int(deployment, "/status/readyReplicas").unwrap_or(0)
}

fn is_shrunk(rollout: &Value) -> bool {
    let intended = int(rollout, "/status/weights/baselineReplicas");
    let plan = text(rollout, "/spec/plan/capacity/baseline");
    plan == "ShrinkWithWeight" && intended < int(rollout, "/status/baselineReplicas")
}

fn works(rollout: &Value) -> bool {
    WORKS.contains(&text(rollout, "/status/phase"))
}

/// Another Rollout that works on the same target.
fn second(world: &World, step: &Step) -> Option<Finding> {
    let rollout = step.later();
    let target = text(rollout, "/status/targetUid");
    if !works(rollout) || target.is_empty() {
        return None;
    }
    let mut all = world.all(Kind::Rollout, &step.key.namespace);
    let rival = |key: &Key, o: &Value| *key != step.key && works(o) && text(o, "/status/targetUid") == target;
    let (other, _) = all.find(|(key, o)| rival(key, o))?;
    let message = format!("{} and {other} work on the same target at the same time", step.key);
    Some(Finding::new(I17, message).about(other))
}
