//! I13, as far as it concerns rollouts: steps are taken one after the other from the first one on, and what counts as
//! promoted serves.
//!
//! Judged are the operator's writes of a Rollout's status.
//!
//! - It begins with the first step, or at full weight if its plan has no steps or its target no replicas.
//! - A step is followed by the next one, or by the first one when the steps begin again; full weight follows the last one.
//! - When a Rollout comes to be `Observing` or `Promoted`, its target carried the candidate's value.
//!
//! A status that was lost is found again where the Rollout was. So nothing is said of the first write after somebody else
//! wrote the status or the plan, or after one of which nobody was told whether it was made, nor of the first one of a
//! Rollout that bears the mark of its beginning and knows nothing else. That the steps begin again because the target was
//! changed is not judged: by what the operator tells templates apart, the log does not show.

use std::collections::HashSet;

use flywheel_api::names;
use serde_json::Value;

use super::json::{int, list, text, uid};
use super::serving::Serving;
use super::{Finding, Kind, Rule, Step, World};

const I13: &str = "I13";

/// Phases of a Rollout that has not begun.
const WAITS: [&str; 3] = ["", "Pending", "Queued"];
/// Phases of a Rollout on its way to full weight.
const WORKS: [&str; 4] = ["Preparing", "Progressing", "Holding", "Promoting"];
/// Phases in which the version serves.
const SERVES: [&str; 2] = ["Observing", "Promoted"];

/// The steps of all Rollouts.
#[derive(Debug, Default)]
pub struct Steps {
    /// UIDs of Rollouts whose status may be another one than the operator wrote last, as far as the log tells.
    unsure: HashSet<String>,
    serving: Serving,
}

impl Rule for Steps {
    fn step(&mut self, _: &World, step: &Step) -> Vec<Finding> {
        self.serving.note(step);
        if step.key.kind != Kind::Rollout {
            return Vec::new();
        }
        let (old, new) = (step.earlier(), step.later());
        if !step.operator {
            if !step.created() && is_rewritten(old, new) {
                self.unsure.insert(uid(step.object()).to_owned());
            }
            return Vec::new();
        }
        if step.subresource != "status" {
            return Vec::new();
        }
        let is_unsure = self.unsure.remove(uid(new));
        if is_unsure || uid(old) != uid(new) || is_lost(old) {
            return Vec::new();
        }
        let problems = [moved(step), self.unserved(step)];
        let found = problems.into_iter().flatten();
        found.map(|message| Finding::new(I13, message)).collect()
    }

    fn refused(&mut self, step: &Step) -> Vec<Finding> {
        self.serving.refused(step);
        if step.key.kind == Kind::Rollout && step.operator && step.is_lost() {
            self.unsure.insert(uid(step.object()).to_owned());
        }
        Vec::new()
    }
}

fn is_rewritten(old: &Value, new: &Value) -> bool {
    ["/status", "/spec/plan"]
        .iter()
        .any(|at| old.pointer(at) != new.pointer(at))
}

/// Whether the Rollout had begun once, and its status knows nothing of it.
fn is_lost(rollout: &Value) -> bool {
    let annotations = rollout.pointer("/metadata/annotations");
    let is_marked = annotations.and_then(|a| a.get(names::ANNOTATION_BEGUN)).is_some();
    let is_empty = |at| list(rollout, at).is_empty();
    is_marked && is_empty("/status/decisions") && is_empty("/status/conditions")
}

/// Why a Rollout may not go from where it was to where it is.
fn moved(step: &Step) -> Option<String> {
    let sides = [step.earlier(), step.later()];
    let [was, is] = sides.map(|o| text(o, "/status/phase"));
    let [from, to] = sides.map(|o| int(o, "/status/step/index"));
    let all = i64::try_from(list(step.later(), "/spec/plan/strategy/steps").len()).ok();
    let place = to.map_or_else(|| "no step".to_owned(), |index| format!("step {index}"));
    if WAITS.contains(&was) && WORKS.contains(&is) {
        let replicas = int(step.later(), "/status/baselineReplicas");
        let at_once = all == Some(0) || replicas.is_some_and(|count| count < 1);
        let fine = match is {
            "Preparing" => to == Some(0),
            "Promoting" => at_once && to == all,
            _ => false,
        };
        return (!fine).then(|| format!("{} begins with {place} as {is}", step.key));
    }
    if let (Some(from), Some(to)) = (from, to)
        && ![from, from + 1, 0].contains(&to)
    {
        return Some(format!("{} goes from step {from} to {place}", step.key));
    }
    let is_early = is == "Promoting" && was != is && to != all;
    is_early.then(|| format!("{} goes to full weight with {place}, which is not the end", step.key))
}

impl Steps {
    /// The version is said to have come to serve, and the target did not carry it.
    fn unserved(&self, step: &Step) -> Option<String> {
        let rollout = step.later();
        let [was, is] = [step.earlier(), rollout].map(|o| text(o, "/status/phase"));
        if was == is || !SERVES.contains(&is) {
            return None;
        }
        let plan = rollout.pointer("/spec/plan").unwrap_or(&Value::Null);
        let [target, value] = ["/status/targetUid", "/status/candidate/value"].map(|at| text(rollout, at));
        let carried = self
            .serving
            .may_carry(&step.key.namespace, plan, (target, value), &step.at);
        (!carried).then(|| format!("{} is {is}, but its target did not carry {value:?}", step.key))
    }
}
