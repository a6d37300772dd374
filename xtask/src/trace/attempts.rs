//! I1: at most one Job of a run that has not ended, one Job per attempt, and no attempt before the last one has ended or
//! was recorded as lost. The intent stands in the run's status before its Job exists.

use std::collections::{BTreeMap, HashMap};

use flywheel_api::names;
use serde_json::Value;

use super::json::{holds, int, label, list, named, text, uid};
use super::{Finding, Kind, Rule, Step, World};

const I1: &str = "I1";

/// Run UID and stage.
type Stage = (String, String);

/// What is known of all attempts so far.
#[derive(Debug, Default)]
pub struct Attempts {
    jobs: BTreeMap<(Stage, i64), Vec<String>>,
    failed: HashMap<Stage, i64>,
}

impl Rule for Attempts {
    fn step(&mut self, world: &World, step: &Step) -> Vec<Finding> {
        match step.key.kind {
            Kind::Run => self.recorded(step),
            Kind::Job if step.operator && step.created() => return self.started(world, step),
            _ => {}
        }
        Vec::new()
    }
}

impl Attempts {
    /// Remembers which attempts the run's status calls failed.
    fn recorded(&mut self, step: &Step) {
        let run = uid(step.object());
        for stage in list(step.later(), "/status/stages") {
            let key = (run.to_owned(), text(stage, "/name").to_owned());
            let attempt = int(stage, "/attempt").unwrap_or(0);
            let open = text(stage, "/state") == "Running" || stage.get("failure").is_none();
            if !open {
                let last = self.failed.entry(key).or_default();
                *last = attempt.max(*last);
            }
        }
        let lost =
            !step.operator && list(step.earlier(), "/status/stages").len() > list(step.later(), "/status/stages").len();
        if lost {
            // Somebody else took the status away: what the operator cannot know any more is not held against it.
            self.jobs.retain(|((of, _), _), _| of.as_str() != run);
            self.failed.retain(|(of, _), _| of.as_str() != run);
        }
    }

    fn started(&mut self, world: &World, step: &Step) -> Vec<Finding> {
        let job = step.later();
        let (run, stage) = (label(job, names::LABEL_RUN_UID), label(job, names::LABEL_STAGE));
        let key = (run.to_owned(), stage.to_owned());
        let Ok(attempt) = label(job, names::LABEL_ATTEMPT).parse::<i64>() else {
            let message = format!("Job {} has no attempt in label {}", step.key.name, names::LABEL_ATTEMPT);
            return vec![Finding::new(I1, message)];
        };
        let mut found = Vec::new();
        for (other, object) in world.all(Kind::Job, &step.key.namespace) {
            let same = label(object, names::LABEL_RUN_UID) == run && uid(object) != uid(job);
            if same && !ended(object) {
                let message = format!("{} starts while {other} of the same run has not ended", step.key);
                found.push(Finding::new(I1, message).about(other));
            }
        }
        let before = self.jobs.entry((key.clone(), attempt)).or_default();
        if let Some(first) = before.first() {
            let message = format!("attempt {attempt} of stage {stage} gets a second Job; the first had UID {first}");
            found.push(Finding::new(I1, message));
        }
        before.push(uid(job).to_owned());
        let recorded = self.failed.get(&key).copied().unwrap_or(0);
        if attempt > 1 && recorded < attempt - 1 {
            let message = format!(
                "attempt {attempt} of stage {stage} starts, but attempt {} was never recorded as failed or lost",
                attempt - 1
            );
            found.push(Finding::new(I1, message));
        }
        if let Some(run) = world.by_uid(&Kind::Run, run) {
            found.extend(unintended(run, stage, attempt, &step.key.name));
            found.extend(too_many(world, &step.key.namespace, run, stage, attempt));
        }
        found
    }
}

/// Whether a Job runs no pods any more, or is on its way out.
fn ended(job: &Value) -> bool {
    let leaving = !text(job, "/metadata/deletionTimestamp").is_empty();
    leaving || holds(job, "Complete") || holds(job, "Failed")
}

fn unintended(run: &Value, stage: &str, attempt: i64, job: &str) -> Option<Finding> {
    let status = named(run, "/status/stages", "name", stage);
    let intended = status.is_some_and(|s| {
        int(s, "/attempt") == Some(attempt) && text(s, "/state") == "Running" && text(s, "/job/name") == job
    });
    let message = || format!("Job {job} has no intent: the run's status does not name it as running attempt {attempt}");
    (!intended).then(|| Finding::new(I1, message()))
}

fn too_many(world: &World, namespace: &str, run: &Value, stage: &str, attempt: i64) -> Option<Finding> {
    let snapshot = world.named(Kind::Revision, namespace, text(run, "/status/snapshot/name"))?;
    let limit = int(named(snapshot, "/data/stages", "name", stage)?, "/retry/limit")?;
    let message = || format!("attempt {attempt} of stage {stage}, whose retry.limit is {limit}");
    (attempt > limit + 1).then(|| Finding::new(I1, message()))
}
