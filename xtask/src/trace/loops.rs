//! I11: from a quiet world every object comes to rest.
//!
//! Judged are the operator's writes of the status of one object.
//!
//! - Three within a minute that bring nothing new, or three at any pace while nothing else is written in the namespace.
//!   A time is nothing new, also in a sentence, but for the moments of a schedule, which are a minute apart at least.
//! - Six in a row, each within seconds of the last, by which the status goes to and fro between two contents. A row ends
//!   where anybody writes anything else in the namespace than a status of the operator's: objects whose statuses drive
//!   each other to and fro are a loop too.
//! - A check that is answered again before its interval has passed. An answer that is due may be written each time, also
//!   if it is what it was, and ends a row.
//!
//! The log does not hold what the operator reads from elsewhere (pods, metrics, its own settings); only what goes to and
//! fro faster than those change is called a loop, and whether something new was worth a write in a quiet namespace is
//! not asked. That the status then really is right is not judged, nor are loops in which something else is done than a
//! status written: those have their budget, see `run_budget.rs`, `step_budget.rs`.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::answers::{Turn, answers};
use super::json::text;
use super::{Finding, Key, Kind, Rule, Step, World};

const I11: &str = "I11";

/// The longest time between two writes to and fro.
const PAUSE: SignedDuration = SignedDuration::from_secs(5);
/// Writes to and fro.
const TURNS: usize = 6;
/// Writes that bring nothing new.
const REPEATS: usize = 3;
/// As long as they count where other things happen too.
const MINUTE: SignedDuration = SignedDuration::from_secs(60);

/// Moments of a schedule in a status.
const SCHEDULE: [&str; 2] = ["/status/lastScheduleTime", "/status/nextScheduleTime"];

/// Statuses that are written again and again.
#[derive(Debug, Default)]
pub struct Loops {
    /// The present rows of writes of each namespace, by the object whose status is written.
    rows: HashMap<String, HashMap<Key, Row>>,
    /// When the status of an object was written with nothing new, since there was something new.
    repeats: HashMap<Key, Vec<Timestamp>>,
}

#[derive(Debug, Default)]
struct Row {
    at: Option<Timestamp>,
    contents: Vec<Value>,
    /// Writes with nothing new.
    repeats: usize,
}

impl Rule for Loops {
    fn step(&mut self, _: &World, step: &Step) -> Vec<Finding> {
        // Nobody decides on what the operator tells in events.
        if step.operator && matches!(step.key.kind, Kind::Other(_)) {
            return Vec::new();
        }
        let ends = !step.operator || step.subresource != "status" || step.before.is_none() || step.after.is_none();
        if ends {
            self.rows.remove(&step.key.namespace);
            self.repeats.remove(&step.key);
            return Vec::new();
        }
        let answers = answers(step);
        let early = answers.iter().filter_map(|answer| match answer.turn {
            Turn::Early(waited, interval) => Some((answer.check, waited, interval)),
            Turn::First | Turn::Due => None,
        });
        let mut found: Vec<String> = early
            .map(|(check, waited, interval)| {
                let key = &step.key;
                format!("check {check} of {key} is answered again after {waited} s, where its interval is {interval} s")
            })
            .collect();
        if found.len() < answers.len() {
            self.rows.remove(&step.key.namespace);
        } else {
            found.extend(self.written(step));
        }
        found.into_iter().map(|message| Finding::new(I11, message)).collect()
    }
}

impl Loops {
    /// A status that is written without a provider having said anything that was due.
    fn written(&mut self, step: &Step) -> Option<String> {
        let content = |o: &Value| timeless(o.get("status").unwrap_or(&Value::Null));
        let (was, is) = (content(step.earlier()), content(step.later()));
        let at: Option<Timestamp> = step.at.parse().ok();
        let rows = self.rows.entry(step.key.namespace.clone()).or_default();
        if was != is {
            self.repeats.remove(&step.key);
            rows.values_mut().for_each(|row| row.repeats = 0);
            let row = rows.entry(step.key.clone()).or_default();
            return row.turned(is, at).then(|| {
                format!(
                    "the status of {} goes to and fro between two contents, {TURNS} writes in a row",
                    step.key
                )
            });
        }
        if on_schedule(step) {
            return None;
        }
        let row = rows.entry(step.key.clone()).or_default();
        let times = self.repeats.entry(step.key.clone()).or_default();
        row.repeats += 1;
        times.extend(at);
        times.retain(|earlier| at.is_some_and(|at| at.duration_since(*earlier) <= MINUTE));
        if times.len().max(row.repeats) < REPEATS {
            return None;
        }
        times.clear();
        row.repeats = 0;
        Some(format!(
            "the status of {} is written {REPEATS} times with nothing new",
            step.key
        ))
    }
}

impl Row {
    /// Whether with this content the status has gone to and fro often enough; so once for each row.
    fn turned(&mut self, content: Value, at: Option<Timestamp>) -> bool {
        let pause = self.at.zip(at).map(|(last, now)| now.duration_since(last));
        if pause.is_some_and(|pause| pause > PAUSE) {
            self.contents.clear();
        }
        self.at = at;
        self.contents.push(content);
        let surplus = self.contents.len().saturating_sub(TURNS);
        self.contents.drain(..surplus);
        let before_last = self.contents.iter().zip(self.contents.iter().skip(2));
        let next = self.contents.iter().zip(self.contents.iter().skip(1));
        let whole = self.contents.len() == TURNS;
        let turned = whole && before_last.into_iter().all(|(a, b)| a == b) && next.into_iter().all(|(a, b)| a != b);
        if turned {
            self.contents.clear();
        }
        turned
    }
}

/// Whether a write tells of a later moment of a schedule.
fn on_schedule(step: &Step) -> bool {
    SCHEDULE.iter().any(|pointer| {
        let [was, is] = [step.earlier(), step.later()].map(|o| text(o, pointer).parse::<Timestamp>().ok());
        was.zip(is).is_some_and(|(was, is)| is.duration_since(was) >= MINUTE)
    })
}

/// The same without times.
fn timeless(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields.iter().map(|(k, v)| (k.clone(), timeless(v))).collect(),
        Value::Array(all) => all.iter().map(timeless).collect(),
        Value::String(text) => Value::String(undated(text)),
        other => other.clone(),
    }
}

/// A text without the times in it.
fn undated(text: &str) -> String {
    let words = text.split(' ').filter(|word| {
        let bare = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        // As many letters has a second of UTC.
        bare.len() < 20 || bare.parse::<Timestamp>().is_err()
    });
    words.collect::<Vec<_>>().join(" ")
}
