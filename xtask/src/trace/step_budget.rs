//! I20, as far as it concerns rollouts: a step takes two writes of the status and one of the candidate.
//!
//! The one write of the status goes to the step, the other says that it is reached. Every further one needs a cause: the
//! first step also learns the UID of its candidate; what is waited for at a step, such as its shortest time or a person,
//! is said and taken back; a check that was asked has an answer; and what others do is followed: they write the Rollout,
//! its target, its candidate, an Approval or another Rollout of the target, or pods are lost. Other phases than steps are
//! judged by the same rule, with what each of them takes.
//!
//! The administrator's settings are not in the history: of what they make a Rollout wait for, each is allowed once.

use std::collections::{BTreeSet, HashMap};

use flywheel_api::names;
use serde_json::Value;

use super::json::{changes, int, label, named, text, uid};
use super::{Finding, Kind, Rule, Step, World};

const I20: &str = "I20";

/// Writes of the status in a step.
const STATUS: usize = 2;
/// Writes of the candidate in a step, which scale it.
const CANDIDATE: usize = 1;
/// Further writes of the status until the first step is reached.
const FIRST: usize = 2;
/// Writes of the status in a phase that is no step.
const PHASE: usize = 4;
/// Writes that follow from one cause: it is said, and taken back.
const CAUSE: usize = 2;

/// Phases in which a Rollout is at a step.
const STEPS: [&str; 3] = ["Preparing", "Progressing", "Holding"];
/// Parts of a status that hold what was asked of a metric provider.
const CHECKS: &str = "/status/checks";

/// The present step of each Rollout, by its namespace and its UID.
#[derive(Debug, Default)]
pub struct StepBudget {
    namespaces: HashMap<String, HashMap<String, Account>>,
}

#[derive(Debug, Default)]
struct Account {
    target: String,
    /// The step, or the phase.
    place: String,
    first: bool,
    status: usize,
    candidate: usize,
    answers: usize,
    causes: usize,
    waits: BTreeSet<String>,
    told: bool,
}

impl Rule for StepBudget {
    fn step(&mut self, world: &World, step: &Step) -> Vec<Finding> {
        if step.is_idle() {
            return Vec::new();
        }
        let found = match step.key.kind {
            Kind::Rollout if step.operator && step.subresource == "status" => self.recorded(step),
            Kind::Deployment if step.operator => self.scaled(world, step),
            _ => None,
        };
        self.caused(step);
        found.into_iter().collect()
    }
}

impl StepBudget {
    fn recorded(&mut self, step: &Step) -> Option<Finding> {
        let rollout = step.later();
        let place = place(rollout);
        let here = self.namespaces.entry(step.key.namespace.clone()).or_default();
        let account = here.entry(uid(rollout).to_owned()).or_default();
        if account.place != place {
            *account = Account {
                first: int(rollout, "/status/step/index").unwrap_or(0) == 0,
                target: text(rollout, "/spec/plan/targetRef/name").to_owned(),
                place,
                ..Account::default()
            };
        }
        account.status += 1;
        account.answers += usize::from(rollout.pointer(CHECKS) != step.earlier().pointer(CHECKS));
        account.waits.extend(waits(rollout));
        let most = account.most();
        if account.told || account.status <= most {
            return None;
        }
        account.told = true;
        let (place, status) = (&account.place, account.status);
        let message = format!(
            "the status of {} is written {status} times in {place}, where {most} are enough",
            step.key
        );
        Some(Finding::new(I20, message))
    }

    fn scaled(&mut self, world: &World, step: &Step) -> Option<Finding> {
        let of = label(step.object(), names::LABEL_ROLLOUT_UID);
        let here = self.namespaces.get_mut(&step.key.namespace)?;
        let account = here.get_mut(of).filter(|_| step.verb == "patch")?;
        account.candidate += 1;
        let most = CANDIDATE + account.causes;
        if account.told || account.candidate <= most {
            return None;
        }
        account.told = true;
        let (place, writes) = (&account.place, account.candidate);
        let message = format!(
            "{} is written {writes} times in {place}, where {most} are enough",
            step.key
        );
        let rollout = world.known(of).map_or(&step.key, |known| &known.key);
        Some(Finding::new(I20, message).about(rollout))
    }

    /// What somebody else wrote, or another Rollout.
    fn caused(&mut self, step: &Step) {
        let Some(here) = self.namespaces.get_mut(&step.key.namespace) else {
            return;
        };
        let object = step.object();
        if step.key.kind == Kind::Rollout && !step.operator && text(object, "/status/phase").is_empty() {
            // It has no status any more: what it takes to find it again is not held against the operator.
            here.remove(uid(object));
        }
        for (of, account) in here {
            account.causes += usize::from(account.is_concerned(of, step));
        }
    }
}

impl Account {
    /// Writes of the status that have a cause.
    fn most(&self) -> usize {
        let own = match self.place.strip_prefix("step ") {
            Some(_) if self.first => STATUS + FIRST,
            Some(_) => STATUS,
            None => PHASE,
        };
        let causes = self.causes.saturating_add(self.waits.len());
        own.saturating_add(causes.saturating_mul(CAUSE))
            .saturating_add(self.answers)
    }

    /// Whether a write is one that the Rollout with this UID follows, and not its own.
    fn is_concerned(&self, of: &str, step: &Step) -> bool {
        let object = step.object();
        match step.key.kind {
            Kind::Rollout if of == uid(object) => !step.operator || !is_status(step),
            Kind::Rollout => self.target == text(object, "/spec/plan/targetRef/name"),
            Kind::Deployment => {
                let candidate = label(object, names::LABEL_ROLLOUT_UID) == of;
                let of_it = candidate || self.target == step.key.name;
                !step.operator && of_it && (lost_pods(step) || !is_status(step))
            }
            Kind::Approval | Kind::Pipeline | Kind::Policy | Kind::Version => !step.operator && !is_status(step),
            _ => false,
        }
    }
}

/// The step at which a Rollout is, or its phase.
fn place(rollout: &Value) -> String {
    let phase = text(rollout, "/status/phase");
    if STEPS.contains(&phase) {
        return format!("step {}", text(rollout, "/status/step/name"));
    }
    format!("phase {phase}")
}

/// What is waited for, but for what every step waits for.
fn waits(rollout: &Value) -> Option<String> {
    let hold = text(rollout, "/status/step/holdReason");
    let ready = named(rollout, "/status/conditions", "type", "Ready").map_or("", |c| text(c, "/reason"));
    let usual = [
        "",
        "WaitingForPods",
        "StepReached",
        "Preparing",
        "Progressing",
        "Promoting",
    ];
    [hold, ready]
        .into_iter()
        .find(|reason| !usual.contains(reason))
        .map(str::to_owned)
}

fn is_status(step: &Step) -> bool {
    step.subresource == "status"
        || changes(step.before.as_deref(), step.after.as_deref())
            .iter()
            .all(|c| c.path.starts_with("status"))
}

/// Whether a Deployment has fewer ready pods than before.
fn lost_pods(step: &Step) -> bool {
    let ready = |o: &Value| int(o, "/status/readyReplicas").unwrap_or(0);
    ready(step.later()) < ready(step.earlier())
}
