//! I2: a version is delivered or promoted only if every required gate, bias policy and check passed on what the writing
//! revision itself says. Failed, inconclusive, missing and broken are all "not passed", and a recorded pass counts only
//! if the numbers beside it show it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use serde_json::Value;

use super::json::{int, list, named, number, text, uid};
use super::tables::PROMOTED;
use super::{Finding, Kind, Rule, Step, World, binding};

const I2: &str = "I2";

/// Gates of runs and checks of Rollouts.
#[derive(Debug, Default)]
pub struct Gates {
    /// Rollouts that a run decided to make, by the run's UID: a status that somebody takes away undoes no decision.
    decided: HashMap<String, BTreeSet<String>>,
}

impl Rule for Gates {
    fn step(&mut self, world: &World, step: &Step) -> Vec<Finding> {
        if !step.operator || step.subresource != "status" {
            return Vec::new();
        }
        let rollout = text(step.later(), "/status/rollout/name");
        let mut decides = step.key.kind == Kind::Run && delivers(step.earlier(), step.later());
        if step.key.kind == Kind::Run && !rollout.is_empty() {
            let known = self.decided.entry(uid(step.later()).to_owned()).or_default();
            // Who finds its Rollout again after a lost status decides nothing anew.
            decides &= known.insert(rollout.to_owned());
        }
        let problem = match step.key.kind {
            Kind::Run if decides => unproven(world, &step.key.namespace, step.later()),
            Kind::Rollout => self.promotion(world, step).or_else(|| open_check(step)),
            _ => None,
        };
        problem.map(|message| Finding::new(I2, message)).into_iter().collect()
    }
}

impl Gates {
    /// A Rollout that a run asked for is promoted only if that run's gates passed.
    fn promotion(&self, world: &World, step: &Step) -> Option<String> {
        let [was, is] = [step.earlier(), step.later()].map(|o| text(o, "/status/phase"));
        let run = world.asked_by(step.later());
        if run.is_empty() || !PROMOTED.contains(&is) || PROMOTED.contains(&was) {
            return None;
        }
        let Some(known) = world.known(run).filter(|k| k.key.kind == Kind::Run) else {
            return Some(format!(
                "{} is promoted for a run with UID {run} that never was",
                step.key
            ));
        };
        let decided = self
            .decided
            .get(run)
            .is_some_and(|names| names.contains(&step.key.name));
        let message = || {
            format!(
                "{} is promoted, but {} never decided to deliver it",
                step.key, known.key
            )
        };
        (!decided).then(message)
    }
}

/// Whether this write of a run's status is the decision to deliver its version, or to let it pass without a rollout.
#[must_use]
pub fn delivers(old: &Value, new: &Value) -> bool {
    let intends = |run: &Value| run.pointer("/status/rollout").is_some();
    let registered = |run: &Value| text(run, "/status/outcome") == "Registered";
    (intends(new) && !intends(old)) || (registered(new) && !registered(old))
}

/// Why the run's version may not be delivered; nothing if all that is required has passed.
fn unproven(world: &World, namespace: &str, run: &Value) -> Option<String> {
    let name = text(run, "/metadata/name");
    let snapshot = text(run, "/status/snapshot/name");
    let Some(plan) = world.named(Kind::Revision, namespace, snapshot) else {
        return Some(format!("run {name} delivers without its snapshot {snapshot}"));
    };
    let mut shown = false;
    let mut person = false;
    for gate in list(plan, "/data/gates") {
        if gate.get("dryRun").and_then(Value::as_bool) == Some(true) {
            continue;
        }
        let gate_name = text(gate, "/name");
        let said = named(run, "/status/gates", "gate", gate_name);
        let verdict = said.map_or("missing", |v| text(v, "/verdict"));
        match verdict {
            "Pass" => {
                if let Err(why) = supported(gate, run) {
                    return Some(format!("run {name} delivers; gate {gate_name} says Pass, but {why}"));
                }
                shown = true;
            }
            "NotApplicable" if text(gate, "/compareTo") == "LiveVersion" => {}
            "Inconclusive" | "Error" if text(gate, "/onMissing") == "Hold" => person = true,
            other => return Some(format!("run {name} delivers, but gate {gate_name} is {other}")),
        }
    }
    if let Some(problem) = biased(world, namespace, run) {
        return Some(problem);
    }
    let first = served(world, namespace, plan.pointer("/data/rollout")).is_none();
    person |= first && !shown;
    let approved = list(run, "/status/approvals")
        .iter()
        .any(|a| text(a, "/gate") == "Promote");
    (person && !approved).then(|| {
        format!("run {name} delivers although nothing showed its version to be good, and no person approved it")
    })
}

/// Whether the numbers that the run's stages reported show what a recorded pass says.
fn supported(gate: &Value, run: &Value) -> Result<(), String> {
    let stages = list(run, "/status/stages");
    let stage = match text(gate, "/stage") {
        "" => stages.iter().rev().find(|s| text(s, "/type") == "Evaluate"),
        name => stages.iter().find(|s| text(s, "/name") == name),
    };
    let metric_name = text(gate, "/metric");
    let metric = stage.and_then(|s| named(s, "/result/metrics", "name", metric_name));
    let metric = metric.ok_or_else(|| format!("no stage reported {metric_name}"))?;
    let needed = int(gate, "/confidence/minSamples").unwrap_or(1);
    let samples = int(metric, "/samples").unwrap_or(0);
    if samples < needed {
        return Err(format!("{metric_name} stands on {samples} rows of {needed}"));
    }
    let constant = text(gate, "/compareTo") != "LiveVersion";
    let met = if constant {
        within(gate, metric)
    } else {
        no_worse(gate, metric)
    };
    if met == Some(true) {
        return Ok(());
    }
    Err(format!("the reported {metric_name} does not show it: {metric}"))
}

/// Both ends of the interval, or the value without one, are within the limits.
fn within(gate: &Value, metric: &Value) -> Option<bool> {
    let value = number(metric, "/value")?;
    let low = number(metric, "/low").unwrap_or(value);
    let high = number(metric, "/high").unwrap_or(value);
    let above = number(gate, "/min").is_none_or(|min| low >= min);
    let below = number(gate, "/max").is_none_or(|max| high <= max);
    Some(above && below)
}

/// The worse end of the paired difference is allowed.
fn no_worse(gate: &Value, metric: &Value) -> Option<bool> {
    let low = number(metric, "/baseline/low")?;
    let high = number(metric, "/baseline/high")?;
    let worst = if text(gate, "/direction") == "Maximize" {
        -low
    } else {
        high
    };
    let wanted = number(gate, "/minImprovement").map(|i| -i);
    let allowed = number(gate, "/maxRegression").or(wanted).unwrap_or(0.0);
    Some(worst <= allowed)
}

/// Bias policies that block, or that the pipeline names and that were not applied.
fn biased(world: &World, namespace: &str, run: &Value) -> Option<String> {
    let name = text(run, "/metadata/name");
    let verdicts = list(run, "/status/bias");
    let blocks =
        |v: &&Value| text(v, "/enforcement") == "Block" && !matches!(text(v, "/verdict"), "Pass" | "NotApplicable");
    if let Some(bad) = verdicts.iter().find(blocks) {
        let (policy, verdict) = (text(bad, "/policy"), text(bad, "/verdict"));
        return Some(format!("run {name} delivers, but bias policy {policy} says {verdict}"));
    }
    let pipeline = world.named(Kind::Pipeline, namespace, text(run, "/spec/pipelineRef/name"))?;
    let mut wanted = list(pipeline, "/spec/biasPolicies").iter().map(|p| text(p, "/name"));
    let unjudged = wanted.find(|p| !verdicts.iter().any(|v| text(v, "/policy") == *p))?;
    Some(format!(
        "run {name} delivers, but bias policy {unjudged} was not applied"
    ))
}

/// The version that the plan's target serves.
fn served<'a>(world: &'a World, namespace: &str, plan: Option<&Value>) -> Option<&'a Arc<Value>> {
    let plan = plan?;
    let target = world.named(Kind::Deployment, namespace, text(plan, "/targetRef/name"))?;
    let value = binding::value(target, plan)?;
    let mut versions = world.all(Kind::Version, namespace);
    versions.find(|(_, v)| binding::names(v, value)).map(|(_, v)| v)
}

/// Whether this write of a Rollout's status leaves a step: one that was held, or one that is left as soon as it is reached.
#[must_use]
pub fn leaves(old: &Value, new: &Value) -> bool {
    let index = |o| int(o, "/status/step/index").unwrap_or(0);
    let forward = index(new) > index(old) || text(new, "/status/phase") == "Promoting";
    matches!(text(old, "/status/phase"), "Holding" | "Progressing") && forward
}

/// A step is left, and the watch ends well, only if every check that can stop the version passed since it began.
fn open_check(step: &Step) -> Option<String> {
    let (old, new) = (step.earlier(), step.later());
    let watched = text(old, "/status/phase") == "Observing" && text(new, "/status/phase") == "Promoted";
    let since = match (leaves(old, new), watched) {
        (true, _) => text(old, "/status/step/enteredAt"),
        (false, true) => text(old, "/status/promotedAt"),
        (false, false) => return None,
    };
    let reached = if watched {
        i64::MAX
    } else {
        int(old, "/status/step/index").unwrap_or(0)
    };
    for check in list(new, "/spec/plan/checks") {
        if text(check, "/onFail") == "Warn" || first_step(new, check) > reached {
            continue;
        }
        let name = text(check, "/name");
        let said = named(new, "/status/checks", "name", name);
        let verdict = said.map_or("missing", |s| text(s, "/verdict"));
        if verdict != "Pass" {
            return Some(format!("{} goes on, but check {name} is {verdict}", step.key));
        }
        let at = said.map_or("", |s| text(s, "/at"));
        if at < since {
            return Some(format!(
                "{} goes on with check {name} of {at}, before {since}",
                step.key
            ));
        }
    }
    None
}

/// Index of the step from which on a check counts.
fn first_step(rollout: &Value, check: &Value) -> i64 {
    let from = text(check, "/fromStep");
    let steps = list(rollout, "/spec/plan/strategy/steps");
    let found = steps.iter().position(|s| text(s, "/name") == from);
    found.and_then(|i| i64::try_from(i).ok()).unwrap_or(0)
}
