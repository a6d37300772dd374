//! I11: from a quiet world every object comes to rest.
//!
//! Judged are rows of writes of the operator on the status of one object, each within seconds of the last: three that
//! change nothing, or six by which the status goes to and fro between two contents. A row ends where anybody writes
//! anything else in the namespace than a status of the operator's: objects whose statuses drive each other to and fro are
//! a loop too. Times within a status do not count as content, and a row ends where a status brings what a metric provider
//! said.
//!
//! The log does not hold what the operator reads from elsewhere (pods, metrics, its own settings); only what goes to and
//! fro faster than those change is called a loop. That the status then really is right is not judged, nor are loops in
//! which something else is done than a status written: those have their budget, see `run_budget.rs`, `step_budget.rs`.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{Finding, Key, Rule, Step, World};

const I11: &str = "I11";

/// The longest time between two writes of a row.
const PAUSE: SignedDuration = SignedDuration::from_secs(5);
/// Writes that change nothing.
const EMPTY: usize = 3;
/// Writes to and fro.
const TURNS: usize = 6;

/// Parts of a status that hold what was asked of a metric provider.
const MEASURED: [&str; 2] = ["/status/checks", "/status/triggers"];

/// The present rows of writes of each namespace, by the object whose status is written.
#[derive(Debug, Default)]
pub struct Loops {
    rows: HashMap<String, HashMap<Key, Row>>,
}

#[derive(Debug, Default)]
struct Row {
    at: Option<Timestamp>,
    contents: Vec<Value>,
    empty: usize,
}

impl Rule for Loops {
    fn step(&mut self, _: &World, step: &Step) -> Vec<Finding> {
        let namespace = &step.key.namespace;
        let measured = |p: &str| step.earlier().pointer(p) != step.later().pointer(p);
        let ends = !step.operator || step.subresource != "status" || step.before.is_none() || step.after.is_none();
        if ends || MEASURED.iter().any(|p| measured(p)) {
            self.rows.remove(namespace);
            return Vec::new();
        }
        let at: Option<Timestamp> = step.at.parse().ok();
        let rows = self.rows.entry(namespace.clone()).or_default();
        let row = rows.entry(step.key.clone()).or_default();
        let pause = row.at.zip(at).map(|(last, now)| now.duration_since(last));
        if pause.is_some_and(|pause| pause > PAUSE) {
            *row = Row::default();
        }
        row.at = at;
        row.empty = if step.before == step.after { row.empty + 1 } else { 0 };
        row.contents
            .push(timeless(step.later().get("status").unwrap_or(&Value::Null)));
        let surplus = row.contents.len().saturating_sub(TURNS);
        row.contents.drain(..surplus);
        row.problem(step)
            .into_iter()
            .map(|message| Finding::new(I11, message))
            .collect()
    }
}

impl Row {
    /// Told once for each row.
    fn problem(&mut self, step: &Step) -> Option<String> {
        if self.empty == EMPTY {
            return Some(format!(
                "the status of {} is written {EMPTY} times with nothing new",
                step.key
            ));
        }
        let before_last = self.contents.iter().zip(self.contents.iter().skip(2));
        let next = self.contents.iter().zip(self.contents.iter().skip(1));
        let whole = self.contents.len() == TURNS;
        if whole && before_last.into_iter().all(|(a, b)| a == b) && next.into_iter().all(|(a, b)| a != b) {
            self.contents.clear();
            return Some(format!(
                "the status of {} goes to and fro between two contents, {TURNS} writes in a row",
                step.key
            ));
        }
        None
    }
}

/// The same without times.
fn timeless(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields.iter().map(|(k, v)| (k.clone(), timeless(v))).collect(),
        Value::Array(all) => all.iter().map(timeless).collect(),
        Value::String(text) if text.parse::<Timestamp>().is_ok() => Value::Null,
        other => other.clone(),
    }
}
