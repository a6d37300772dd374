//! I10 and I1b: a result is taken only from the Job whose UID the run's status held before, and what an attempt made
//! stays what it made.
//!
//! Judged are the writes of the operator by which a stage becomes `Succeeded`: the status before named the very Job by
//! UID, that Job was made for this run, stage and attempt, and it was complete and not failed. What a stage's attempt
//! reported never changes afterwards. A version that is registered for a run, and one that a run delivers whoever made
//! it, lies where a model lies that the run's Train stage reported as the operator wrote it down, with its digest.
//!
//! The log holds no pods: whether the message really was in the Job's pod, and whether the digest is that of the files
//! in the store, it does not show. Where somebody else wrote the run's status, its earlier results are forgotten; until the
//! operator wrote it again, and where one of its own writes may be missing in the log, nobody knows what the status says.
//! That nothing was reported at all is not said of a run that is older than the log.

use std::collections::{BTreeSet, HashMap, HashSet};

use flywheel_api::names;
use serde_json::Value;

use super::gates::delivers;
use super::json::{holds, int, label, list, named, text, uid};
use super::{Finding, Kind, Rule, Step, World};

const I10: &str = "I10";
const I1B: &str = "I1b";

/// UID of the run, stage, attempt.
type Attempt = (String, String, i64);

/// What all attempts made.
#[derive(Debug, Default)]
pub struct Results {
    made: HashMap<Attempt, Value>,
    /// Models that Train stages reported, by UID of the run.
    models: HashMap<String, BTreeSet<Model>>,
    /// UIDs of runs whose status may say other things than what the operator wrote last, as far as the log tells.
    unsure: HashSet<String>,
}

/// Where a model lies, and the digest of what lies there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Model {
    uri: String,
    digest: String,
}

impl Model {
    fn of(artifact: &Value) -> Self {
        let of = |at| text(artifact, at).to_owned();
        Self {
            uri: of("/uri"),
            digest: of("/digest"),
        }
    }
}

impl Rule for Results {
    fn step(&mut self, world: &World, step: &Step) -> Vec<Finding> {
        match step.key.kind {
            Kind::Run if step.subresource == "status" => self.recorded(world, step),
            Kind::Version if step.operator && step.created() => self.registered(world, step).into_iter().collect(),
            _ => Vec::new(),
        }
    }

    fn refused(&mut self, step: &Step) -> Vec<Finding> {
        if step.key.kind == Kind::Run && step.operator && step.is_lost() {
            self.unsure.insert(uid(step.object()).to_owned());
        }
        Vec::new()
    }
}

impl Results {
    fn recorded(&mut self, world: &World, step: &Step) -> Vec<Finding> {
        let run = uid(step.later());
        if !step.operator {
            self.made.retain(|(of, ..), _| of != run);
            self.unsure.insert(run.to_owned());
            return Vec::new();
        }
        self.unsure.remove(run);
        let mut found = Vec::new();
        for stage in list(step.later(), "/status/stages") {
            self.remember_models(run, stage);
            if text(stage, "/state") != "Succeeded" {
                continue;
            }
            let before = named(step.earlier(), "/status/stages", "name", text(stage, "/name"));
            if before.map(|s| text(s, "/state")) != Some("Succeeded") {
                found.extend(untaken(world, run, before, stage).map(|why| Finding::new(I10, why)));
            }
            found.extend(self.changed(step, run, stage));
        }
        found.extend(self.delivered(world, step));
        found
    }

    fn remember_models(&mut self, run: &str, stage: &Value) {
        if text(stage, "/type") != "Train" {
            return;
        }
        let all = list(stage, "/result/artifacts").iter();
        let models = all.filter(|a| text(a, "/type") == "Model").map(Model::of);
        self.models.entry(run.to_owned()).or_default().extend(models);
    }

    /// What an attempt made is another thing than it was.
    fn changed(&mut self, step: &Step, run: &str, stage: &Value) -> Option<Finding> {
        let (name, attempt) = (text(stage, "/name"), int(stage, "/attempt").unwrap_or(0));
        let is = stage.pointer("/result").unwrap_or(&Value::Null).clone();
        let was = self
            .made
            .entry((run.to_owned(), name.to_owned(), attempt))
            .or_insert_with(|| is.clone());
        let message = || {
            format!(
                "the result of stage {name}, attempt {attempt}, of {} becomes another one",
                step.key
            )
        };
        (*was != is).then(|| Finding::new(I1B, message()))
    }

    /// A version is registered with a model that its run's Train stage did not report.
    fn registered(&self, world: &World, step: &Step) -> Option<Finding> {
        let run = label(step.later(), names::LABEL_RUN_UID);
        let is_told = world.is_whole(run) || self.models.get(run).is_some_and(|models| !models.is_empty());
        let is_sure = is_told && !self.unsure.contains(run);
        let what = self.unreported(run, step.later()).filter(|_| is_sure)?;
        Some(Finding::new(I1B, format!("{} is registered with {what}", step.key)))
    }

    /// A run delivers a version, whoever made it, with a model that its Train stage did not report.
    fn delivered(&self, world: &World, step: &Step) -> Option<Finding> {
        let run = step.later();
        let version = world.known(text(run, "/status/modelVersion/uid"))?;
        if version.key.kind != Kind::Version || !delivers(step.earlier(), run) {
            return None;
        }
        let what = self.unreported(uid(run), &version.object)?;
        let message = format!("{} delivers {} with {what}", step.key, version.key);
        Some(Finding::new(I1B, message).about(&version.key))
    }

    /// The model of a version, unless a run reported it.
    fn unreported(&self, run: &str, version: &Value) -> Option<String> {
        let model = Model::of(version.pointer("/spec/artifact").unwrap_or(&Value::Null));
        let reported = self.models.get(run).is_some_and(|models| models.contains(&model));
        let message = || {
            let Model { uri, digest } = &model;
            format!("the model {digest} at {uri}, which no attempt of its run reported")
        };
        (!reported).then(message)
    }
}

/// Why a stage may not be called succeeded; nothing if its result comes from the intended Job.
fn untaken(world: &World, run: &str, before: Option<&Value>, stage: &Value) -> Option<String> {
    let name = text(stage, "/name");
    let [intended, taken] = [before.unwrap_or(&Value::Null), stage].map(|s| text(s, "/job/uid"));
    if intended.is_empty() || intended != taken {
        return Some(format!(
            "stage {name} succeeds with the result of Job UID {taken:?}, but the intent held {intended:?}"
        ));
    }
    let Some(job) = world.known(intended).filter(|k| k.key.kind == Kind::Job) else {
        return Some(format!(
            "stage {name} succeeds with UID {intended}, which no Job ever had"
        ));
    };
    let attempt = int(stage, "/attempt").unwrap_or(0).to_string();
    let wanted = [
        (names::LABEL_RUN_UID, run),
        (names::LABEL_STAGE, name),
        (names::LABEL_ATTEMPT, &*attempt),
    ];
    if let Some((key, _)) = wanted.iter().find(|(key, value)| label(&job.object, key) != *value) {
        let other = label(&job.object, key);
        return Some(format!(
            "stage {name} succeeds with {}, whose label {key} is {other:?}",
            job.key
        ));
    }
    let complete = holds(&job.object, "Complete") && !holds(&job.object, "Failed");
    (!complete).then(|| format!("stage {name} succeeds, but {} is not complete", job.key))
}
