//! I2: a version is delivered or promoted only if every required gate, bias policy and check passed on what the writing
//! revision itself says. Failed, inconclusive, missing and broken are all "not passed", and a recorded verdict counts only
//! if what is beside it shows it.
//!
//! - A pass needs as many rows and, where there is an interval, as sure a one as the gate asks for, within the limits. Of
//!   a comparison the interval is that with a version that served when the delivery was decided.
//! - That there is nothing to compare with is no verdict for a run that began beside a version, nor while one of its
//!   model serves.
//! - While nobody can say what serves, because the target is missing or its binding cannot be read, nothing is delivered.
//!
//! What served is known as far as the log tells: a version of which it does not tell is not said to be the wrong one, and
//! of a run that is older than the log its delivery is not judged.

use std::collections::{BTreeSet, HashMap};

use serde_json::Value;

use super::json::{int, list, named, number, text, uid};
use super::serving::{Serving, Then};
use super::tables::PROMOTED;
use super::{Finding, Kind, Rule, Step, World};

const I2: &str = "I2";

/// How sure an interval must be where the gate does not say it.
const SURE: f64 = 0.95;

/// Gates of runs and checks of Rollouts.
#[derive(Debug, Default)]
pub struct Gates {
    /// Rollouts that a run decided to make, by the run's UID: a status that somebody takes away undoes no decision.
    decided: HashMap<String, BTreeSet<String>>,
    serving: Serving,
}

impl Rule for Gates {
    fn step(&mut self, world: &World, step: &Step) -> Vec<Finding> {
        self.serving.note(step);
        if !step.operator || step.subresource != "status" {
            return Vec::new();
        }
        let run = uid(step.later());
        let rollout = text(step.later(), "/status/rollout/name");
        let is_run = step.key.kind == Kind::Run;
        let mut decides = is_run && delivers(step.earlier(), step.later()) && world.is_whole(run);
        if is_run && !rollout.is_empty() {
            let known = self.decided.entry(run.to_owned()).or_default();
            // Who finds its Rollout again after a lost status decides nothing anew.
            decides &= known.insert(rollout.to_owned());
        }
        let problem = match step.key.kind {
            Kind::Run if decides => self.unproven(world, step),
            Kind::Rollout => self.promotion(world, step).or_else(|| open_check(step)),
            _ => None,
        };
        problem.map(|message| Finding::new(I2, message)).into_iter().collect()
    }

    fn refused(&mut self, step: &Step) -> Vec<Finding> {
        self.serving.refused(step);
        Vec::new()
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

    /// Why the run's version may not be delivered; nothing if all that is required has passed.
    fn unproven(&self, world: &World, step: &Step) -> Option<String> {
        let (run, namespace) = (step.later(), step.key.namespace.as_str());
        let name = text(run, "/metadata/name");
        let snapshot = text(run, "/status/snapshot/name");
        let Some(plan) = world.named(Kind::Revision, namespace, snapshot) else {
            return Some(format!("run {name} delivers without its snapshot {snapshot}"));
        };
        let rollout = plan.pointer("/data/rollout").filter(|plan| !plan.is_null());
        let live = self.serving.when(namespace, rollout, &step.at);
        if live.is_untold() {
            return Some(format!(
                "run {name} delivers while nobody can say what its target serves"
            ));
        }
        let shown = match judged(plan, run, &live) {
            Ok(shown) => shown,
            Err(why) => return Some(format!("run {name} delivers, but {why}")),
        };
        if let Some(problem) = biased(world, namespace, run) {
            return Some(problem);
        }
        let person = shown.asks_person || (live.is_nothing() && !shown.is_good);
        let approved = list(run, "/status/approvals")
            .iter()
            .any(|a| text(a, "/gate") == "Promote");
        (person && !approved).then(|| {
            format!("run {name} delivers although nothing showed its version to be good, and no person approved it")
        })
    }
}

/// Whether this write of a run's status is the decision to deliver its version, or to let it pass without a rollout.
#[must_use]
pub fn delivers(old: &Value, new: &Value) -> bool {
    let intends = |run: &Value| run.pointer("/status/rollout").is_some();
    let registered = |run: &Value| text(run, "/status/outcome") == "Registered";
    (intends(new) && !intends(old)) || (registered(new) && !registered(old))
}

/// What gates that do not stop a version come to.
#[derive(Debug, Default)]
struct Shown {
    /// One of them passed.
    is_good: bool,
    /// One of them leaves it to a person.
    asks_person: bool,
}

/// What the gates of a run come to, or why one of them stops its version.
fn judged(plan: &Value, run: &Value, live: &Then<'_>) -> Result<Shown, String> {
    let mut shown = Shown::default();
    for gate in list(plan, "/data/gates") {
        if gate.get("dryRun").and_then(Value::as_bool) == Some(true) {
            continue;
        }
        let name = text(gate, "/name");
        let said = named(run, "/status/gates", "gate", name);
        match said.map_or("missing", |v| text(v, "/verdict")) {
            "Pass" => {
                supported(gate, run, live).map_err(|why| format!("gate {name} says Pass: {why}"))?;
                shown.is_good = true;
            }
            "NotApplicable" if text(gate, "/compareTo") == "LiveVersion" => {
                let began = text(run, "/status/comparedWith/name");
                let beside = Some(began).filter(|name| !name.is_empty());
                if let Some(other) = beside.or_else(|| live.throughout(text(plan, "/data/model/name"))) {
                    return Err(format!("gate {name} compared it with nothing beside version {other}"));
                }
            }
            "Inconclusive" | "Error" if text(gate, "/onMissing") == "Hold" => shown.asks_person = true,
            other => return Err(format!("gate {name} is {other}")),
        }
    }
    Ok(shown)
}

/// Whether the numbers that the run's stages reported show what a recorded pass says.
fn supported(gate: &Value, run: &Value, live: &Then<'_>) -> Result<(), String> {
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
    let compares = text(gate, "/compareTo") == "LiveVersion";
    let other = text(metric, "/baseline/version");
    if compares && (other.is_empty() || !live.may_be(other)) {
        return Err(format!(
            "{metric_name} was compared with {other:?}, which did not serve"
        ));
    }
    let has_interval = number(metric, "/low").is_some() && number(metric, "/high").is_some();
    if (compares || has_interval) && !is_sure(gate, metric) {
        return Err(format!(
            "the interval of {metric_name} is less sure than was asked for: {metric}"
        ));
    }
    let met = if compares {
        no_worse(gate, metric)
    } else {
        within(gate, metric)
    };
    if met == Some(true) {
        return Ok(());
    }
    Err(format!("the reported {metric_name} does not show it: {metric}"))
}

/// Whether the intervals of a metric have the confidence that the gate asks for.
fn is_sure(gate: &Value, metric: &Value) -> bool {
    let wanted = number(gate, "/confidence/level").unwrap_or(SURE);
    number(metric, "/level").is_some_and(|level| level >= wanted - 1e-9)
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
