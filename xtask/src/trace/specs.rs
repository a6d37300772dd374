//! I16: what belongs to an older spec does not count for the new one.
//!
//! Judged are four kinds of writes of the operator.
//!
//! - A run keeps its snapshot once one of its stages was tried.
//! - The Rollout that is made for a run carries the plan of the run's snapshot and the run's version.
//! - Where a person must approve, what she approved for training is this stage of this snapshot, and for the delivery
//!   the gates of this snapshot and the very verdicts of the bias policies. (I3 compares verdicts of gates, level and
//!   version, and asks whether it was shown at all.)
//! - A step is left only if the target's pod template, but for Flywheel's two fields, is one that it had when the step
//!   was reached.
//!
//! That a pipeline's other changes take effect only for later runs follows from the first two. What the status does not
//! repeat (which template a metric came from) the log does not show.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use super::approvals::record;
use super::gates::{delivers, leaves};
use super::json::{changes, int, lies_in, list, named, text, uid};
use super::moments::Moments;
use super::tables::{PERSON_DELIVERS, PERSON_TRAINS};
use super::{Finding, Kind, Rule, Step, World, binding};

const I16: &str = "I16";

/// Evidence by its digest, and what targets were.
#[derive(Debug, Default)]
pub struct Specs {
    evidence: HashMap<String, Value>,
    /// By UID of the Deployment.
    templates: HashMap<String, Moments<Template>>,
    /// By UID of the Rollout: the templates that its target had when the present step was reached.
    reached: HashMap<String, Vec<Template>>,
}

/// A Deployment's pod template.
#[derive(Debug, Clone)]
struct Template(Arc<Value>);

impl Template {
    fn spec(&self) -> Option<&Value> {
        self.0.pointer("/spec/template")
    }

    /// The same but for Flywheel's two fields.
    fn like(&self, other: &Self, ours: &[String]) -> bool {
        let all = changes(self.spec(), other.spec());
        all.iter().all(|c| {
            let path = format!("spec.template.{}", c.path);
            ours.iter().any(|o| lies_in(&path, o))
        })
    }
}

impl PartialEq for Template {
    fn eq(&self, other: &Self) -> bool {
        self.spec() == other.spec()
    }
}

impl Rule for Specs {
    fn step(&mut self, world: &World, step: &Step) -> Vec<Finding> {
        if let (Kind::Deployment, Some(object)) = (&step.key.kind, &step.after) {
            let known = self.templates.entry(uid(object).to_owned()).or_default();
            known.note(&step.at, Template(object.clone()));
        }
        if !step.operator {
            return Vec::new();
        }
        let status = step.subresource == "status";
        let problem = match step.key.kind {
            Kind::Run if status => {
                self.shown(step);
                replanned(step).or_else(|| self.approved(world, step))
            }
            Kind::Rollout if status => self.retold(step),
            Kind::Rollout if step.created() => otherwise(world, step),
            _ => None,
        };
        problem.map(|message| Finding::new(I16, message)).into_iter().collect()
    }
}

/// A run that has begun takes another snapshot.
fn replanned(step: &Step) -> Option<String> {
    let (old, new) = (step.earlier(), step.later());
    let tried = list(old, "/status/stages")
        .iter()
        .any(|s| int(s, "/attempt").unwrap_or(0) > 0);
    let [was, is] = [old, new].map(|o| text(o, "/status/snapshot/digest"));
    let message = || format!("{} goes on with snapshot {is:?} instead of {was:?}", step.key);
    (tried && !was.is_empty() && was != is).then(message)
}

/// A Rollout with another plan or another version than its run decided.
fn otherwise(world: &World, step: &Step) -> Option<String> {
    let rollout = step.later();
    let run = world.by_uid(&Kind::Run, text(rollout, "/spec/runRef/uid"))?;
    let version = |o: &Value, at: &str| text(o, at).to_owned();
    let (wanted, carried) = (
        version(run, "/status/modelVersion/name"),
        version(rollout, "/spec/modelVersionRef/name"),
    );
    if !wanted.is_empty() && wanted != carried {
        return Some(format!("{} delivers {carried}, but its run made {wanted}", step.key));
    }
    let snapshot = text(run, "/status/snapshot/name");
    let snapshot = world.named(Kind::Revision, &step.key.namespace, snapshot)?;
    let planned = snapshot.pointer("/data/rollout")?;
    let other = missing(planned, rollout.pointer("/spec/plan").unwrap_or(&Value::Null), "plan")?;
    Some(format!("{} differs from its run's snapshot in {other}", step.key))
}

/// The first place where a value lacks what another has. The API server adds defaults and leaves out what is empty.
fn missing(wanted: &Value, found: &Value, path: &str) -> Option<String> {
    match (wanted, found) {
        (Value::Object(fields), _) => fields
            .iter()
            .find_map(|(k, v)| missing(v, found.get(k).unwrap_or(&Value::Null), &format!("{path}.{k}"))),
        (Value::Array(all), Value::Array(others)) if all.len() == others.len() => {
            let mut pairs = all.iter().zip(others).enumerate();
            pairs.find_map(|(i, (a, b))| missing(a, b, &format!("{path}[{i}]")))
        }
        (Value::Array(all), Value::Null) if all.is_empty() => None,
        (Value::Null, _) => None,
        (wanted, found) => (wanted != found).then(|| path.to_owned()),
    }
}

impl Specs {
    fn shown(&mut self, step: &Step) {
        let Some(waiting) = step.later().pointer("/status/waitingFor").filter(|w| !w.is_null()) else {
            return;
        };
        let seen = serde_json::from_str(text(waiting, "/evidence")).unwrap_or_default();
        self.evidence.insert(text(waiting, "/evidenceDigest").to_owned(), seen);
    }

    /// A person approved something else than what goes on now.
    fn approved(&self, world: &World, step: &Step) -> Option<String> {
        let (old, run) = (step.earlier(), step.later());
        let level = |decision: &str| {
            let mut all = list(run, "/status/decisions").iter();
            all.rfind(|d| text(d, "/decision") == decision)
                .map_or("", |d| text(d, "/level"))
        };
        let trains = list(run, "/status/stages").iter().find(|s| {
            let running = |s: &Value| text(s, "/state") == "Running";
            let before = named(old, "/status/stages", "name", text(s, "/name"));
            text(s, "/type") == "Train" && running(s) && !before.is_some_and(running)
        });
        if let Some(stage) = trains.filter(|_| PERSON_TRAINS.contains(&level("StartStage"))) {
            let seen = self.evidence.get(record(run, "Train")?)?;
            let same = [
                (
                    seen.pointer("/snapshot"),
                    run.pointer("/status/snapshot/digest"),
                    "snapshot",
                ),
                (seen.pointer("/stage"), stage.get("name"), "stage"),
            ];
            return differs(&same).map(|what| format!("{} trains on the approval of another {what}", step.key));
        }
        let decision = if run.pointer("/status/rollout").is_some() {
            "Deliver"
        } else {
            "Registered"
        };
        if !delivers(old, run) || !PERSON_DELIVERS.contains(&level(decision)) {
            return None;
        }
        let seen = self.evidence.get(record(run, "Promote")?)?;
        let snapshot = world.named(Kind::Revision, &step.key.namespace, text(run, "/status/snapshot/name"));
        let bias = list(run, "/status/bias").iter().map(brief).collect();
        let same = [
            (
                seen.pointer("/gates"),
                snapshot.and_then(|s| s.pointer("/data/gates")),
                "list of gates",
            ),
            (seen.pointer("/bias"), Some(&Value::Array(bias)), "verdict on bias"),
        ];
        differs(&same).map(|what| format!("{} delivers on the approval of another {what}", step.key))
    }

    /// A step that is left although the target was changed since it was reached.
    fn retold(&mut self, step: &Step) -> Option<String> {
        let (old, new) = (step.earlier(), step.later());
        let target = text(new, "/status/targetUid");
        let templates = self.templates.get(target)?;
        let recent = || templates.recent(&step.at).cloned().collect::<Vec<_>>();
        let entered = |o: &Value| text(o, "/status/step/enteredAt").to_owned();
        // A step that is left as soon as it is reached was not recorded as reached.
        let held = !entered(old).is_empty();
        let left = (held && leaves(old, new)).then(|| self.reached.get(uid(new))).flatten();
        let ours = binding::paths(new.pointer("/spec/plan").unwrap_or(&Value::Null));
        let now = recent();
        let same = |was: &Vec<Template>| was.iter().any(|w| now.iter().any(|n| w.like(n, &ours)));
        let changed = left.is_some_and(|was| !same(was));
        if !entered(new).is_empty() && entered(old) != entered(new) {
            self.reached.insert(uid(new).to_owned(), now);
        }
        let name = text(old, "/status/step/name");
        changed.then(|| {
            format!(
                "{} leaves step {name}, which it reached with another pod template",
                step.key
            )
        })
    }
}

/// What evidence repeats of a policy's verdict.
fn brief(verdict: &Value) -> Value {
    let of = |field: &str| verdict.get(field).cloned().unwrap_or_default();
    serde_json::json!({ "policy": of("policy"), "uid": of("policyUid"), "generation": of("policyGeneration"),
        "objective": of("objective"), "attribute": of("attribute"), "verdict": of("verdict") })
}

/// The name of the first pair whose sides are both there and differ.
fn differs<'a>(pairs: &[(Option<&Value>, Option<&Value>, &'a str)]) -> Option<&'a str> {
    let differ = |(a, b, _): &&(Option<&Value>, Option<&Value>, &str)| {
        a.zip(*b).is_some_and(|(a, b)| missing(b, a, "").is_some())
    };
    pairs.iter().find(differ).map(|(.., what)| *what)
}
