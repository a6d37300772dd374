//! I7 and I17: pods that serve are taken away only after as many others are ready as the target asked for, and at most
//! one Rollout works on a target.
//!
//! Three kinds of writes of the operator take pods away. Each is judged by what was ready at any one moment shortly
//! before it.
//!
//! - A candidate is deleted: all pods of its target are ready, if the target carried the version or the plan took pods of
//!   it. Past the plan's deadline a way back does without.
//! - A candidate gets fewer pods than the operator gave it: the same, where the pods that it keeps count too, and no more
//!   is asked than was ready.
//! - A target gets fewer pods: what is left of it and the ready pods of the candidate are as many as it had when the
//!   Rollout began, or as were ready.
//!
//! While the plan leaves the baseline all its pods, a candidate may go at any time before the promotion: whether pods of
//! the baseline fail by themselves is not asked. A status that was lost does not tell any more that the plan took pods.

use std::collections::{HashMap, HashSet};

use flywheel_api::names;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::json::{int, label, text, uid};
use super::moments::Moments;
use super::{Finding, Key, Kind, Rule, Step, World};

const I7: &str = "I7";
const I17: &str = "I17";

/// Times in a status are whole seconds of a clock that may be a little ahead of the log's.
const CLOCKS: SignedDuration = SignedDuration::from_secs(2);

/// Phases in which a Rollout works on its target. One that is preparing has done nothing yet: creating the candidate is
/// the lock.
const WORKS: [&str; 4] = ["Progressing", "Holding", "Promoting", "RollingBack"];

/// Pods of a Deployment: those that it asks for, and those that are ready.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Pods {
    asked: i64,
    ready: i64,
}

impl Pods {
    fn of(deployment: &Value) -> Self {
        Self {
            asked: replicas(deployment),
            ready: int(deployment, "/status/readyReplicas").unwrap_or(0),
        }
    }
}

/// How many pods of a target must be ready.
#[derive(Debug, Clone, Copy)]
enum Demand {
    /// As many as it asks for.
    Asked,
    /// As many as it had when the Rollout began.
    Full(i64),
}

impl Demand {
    const fn of(self, pods: Pods) -> i64 {
        match self {
            Self::Asked => pods.asked,
            Self::Full(full) => full,
        }
    }
}

/// Pods and Rollouts over time.
#[derive(Debug, Default)]
pub struct Capacity {
    /// Of a target by its UID, of a candidate by the UID of its Rollout, also when it is gone.
    pods: HashMap<String, Moments<Pods>>,
    /// Those that somebody else than the operator scaled last.
    foreign: HashSet<String>,
    /// By UID of the Rollout: its `progressSince`, and when that was.
    progress: HashMap<String, (String, Option<Timestamp>)>,
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
        let object = step.object();
        match step.key.kind {
            Kind::Deployment => {
                let of = side(object);
                let pods = step.after.as_deref().map(Pods::of).unwrap_or_default();
                self.pods.entry(of.to_owned()).or_default().note(&step.at, pods);
                let scaled = replicas(step.earlier()) != replicas(step.later());
                if step.operator && (scaled || step.created()) {
                    self.foreign.remove(of);
                } else if scaled {
                    self.foreign.insert(of.to_owned());
                }
            }
            Kind::Rollout => {
                let since = text(object, "/status/progressSince");
                let known = self.progress.entry(uid(object).to_owned()).or_default();
                if known.0 != since {
                    // By a clock that is ahead it was later than the write that says so.
                    let times = [since, step.at.as_str()].map(|time| time.parse::<Timestamp>().ok());
                    let begun = times.into_iter().flatten().min();
                    *known = (since.to_owned(), begun.filter(|_| !since.is_empty()));
                }
            }
            _ => {}
        }
    }

    /// What a target or a candidate was at the moments before.
    fn recent(&self, of: &str, at: &str) -> impl Iterator<Item = Pods> {
        let known = self.pods.get(of).into_iter();
        known.flat_map(move |known| known.recent(at)).copied()
    }

    /// The most ready pods that it had in the moments before.
    fn most(&self, of: &str, at: &str) -> i64 {
        self.recent(of, at).map(|pods| pods.ready).max().unwrap_or(0)
    }

    /// A write that takes pods of a candidate or of a target away.
    fn taken(&self, world: &World, step: &Step) -> Option<Finding> {
        let before = step.before.as_deref()?;
        let owner = label(before, names::LABEL_ROLLOUT_UID);
        if owner.is_empty() {
            return self.shrunk(world, step, before);
        }
        let leaving = |o: &Value| !text(o, "/metadata/deletionTimestamp").is_empty();
        let stays = step.after.as_deref().filter(|o| !leaving(o));
        let left = stays.map_or(0, replicas);
        let fewer = stays.is_none() || (left < replicas(before) && !self.foreign.contains(owner));
        if leaving(before) || !fewer {
            return None;
        }
        let rollout = world.by_uid(&Kind::Rollout, owner)?;
        let name = text(rollout, "/spec/plan/targetRef/name");
        let target = world.named(Kind::Deployment, &step.key.namespace, name)?;
        let demand = self.demand(rollout, target, &step.at)?;
        let candidate = self.most(owner, &step.at);
        let covers = |pods: Pods| match stays {
            None => pods.ready >= demand.of(pods),
            Some(_) => pods.ready + left.min(candidate) >= demand.of(pods).min(pods.ready + candidate),
        };
        if self.recent(uid(target), &step.at).any(covers) {
            return None;
        }
        let (ready, needed) = (self.most(uid(target), &step.at), demand.of(Pods::of(target)));
        let what = stays.map_or_else(|| "goes".to_owned(), |_| format!("gets {left} pods"));
        let message = format!(
            "{} {what} while its target has {ready} ready pods of {needed}",
            step.key
        );
        Some(Finding::new(I7, message).about(&target_key(step, name)))
    }

    /// How many pods of its target a Rollout needs before it takes pods of its candidate; nothing if any will do.
    fn demand(&self, rollout: &Value, target: &Value, at: &str) -> Option<Demand> {
        let known = text(rollout, "/status/targetUid");
        let another = !known.is_empty() && known != uid(target);
        if another || !text(target, "/metadata/deletionTimestamp").is_empty() {
            return None;
        }
        let full = int(rollout, "/status/baselineReplicas").map(Demand::Full);
        let full = full.filter(|_| is_shrunk(rollout));
        let carried = int(rollout, "/status/weights/actual") == Some(100);
        match text(rollout, "/status/phase") {
            "Promoting" => Some(full.unwrap_or(Demand::Asked)),
            "Progressing" | "Holding" => full,
            "RollingBack" if self.is_overdue(rollout, at) => None,
            "RollingBack" => full.or(carried.then_some(Demand::Asked)),
            _ => None,
        }
    }

    /// Whether the plan's deadline may have passed since its progress began.
    fn is_overdue(&self, rollout: &Value, at: &str) -> bool {
        let begun = self.progress.get(uid(rollout)).and_then(|(_, begun)| *begun);
        let deadline = int(rollout, "/spec/plan/progressDeadlineSeconds").map(SignedDuration::from_secs);
        let end = begun.zip(deadline).and_then(|(begun, d)| begun.checked_add(d).ok());
        let now: Option<Timestamp> = at.parse().ok();
        end.zip(now).is_some_and(|(end, now)| end.duration_since(now) <= CLOCKS)
    }

    /// The baseline shrinks only by as many pods as the candidate has ready.
    fn shrunk(&self, world: &World, step: &Step, before: &Value) -> Option<Finding> {
        let (was, is) = (replicas(before), replicas(step.later()));
        if is >= was {
            return None;
        }
        let mut all = world.all(Kind::Rollout, &step.key.namespace);
        let aims = |o: &Value| text(o, "/spec/plan/targetRef/name") == step.key.name && works(o);
        let (key, rollout) = all.find(|(_, o)| aims(o))?;
        let full = int(rollout, "/status/baselineReplicas")?;
        let candidate = self.most(uid(rollout), &step.at);
        let needed = full.min(self.most(uid(before), &step.at) + candidate);
        let message = || {
            format!(
                "{} shrinks to {is} pods while the candidate has {candidate}, and {needed} served",
                step.key
            )
        };
        (is + candidate < needed).then(|| Finding::new(I7, message()).about(key))
    }
}

/// By what the pods of a Deployment are known: of a candidate the UID of its Rollout, of any other its own.
fn side(deployment: &Value) -> &str {
    match label(deployment, names::LABEL_ROLLOUT_UID) {
        "" => uid(deployment),
        rollout => rollout,
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

/// Whether the plan took pods of the target; it gives them back before a version counts as promoted.
fn is_shrunk(rollout: &Value) -> bool {
    let promoted = !text(rollout, "/status/promotedAt").is_empty();
    let intended = int(rollout, "/status/weights/baselineReplicas");
    let plan = text(rollout, "/spec/plan/capacity/baseline");
    !promoted && plan == "ShrinkWithWeight" && intended < int(rollout, "/status/baselineReplicas")
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
