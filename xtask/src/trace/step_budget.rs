//! I20, as far as it concerns rollouts: a step takes two writes of the status and one of the candidate.
//!
//! The one write of the status goes to the step, the other says that it is reached. Every further one needs a cause: the
//! first step also learns the UID of its candidate; what is waited for at a step, such as its shortest time or a person,
//! is said and taken back; a check that was due has an answer; and what others do is followed: they write the Rollout,
//! its target, its candidate, an Approval or another Rollout of the target, or pods are lost. Other phases than steps are
//! judged by the same rule, with what each of them takes.
//!
//! The administrator's settings are not in the history: that the brake stops a Rollout, or lets it go, is not counted.

use std::collections::{BTreeSet, HashMap};

use flywheel_api::names;
use serde_json::Value;

use super::answers::{Turn, answers};
use super::json::{changes, int, label, lies_in, named, text, uid};
use super::{Finding, Kind, Rule, Step, World};

const I20: &str = "I20";

/// Writes of the status in a step.
const STATUS: usize = 2;
/// Writes of the candidate in a step, which scale it.
const CANDIDATE: usize = 1;
/// Further writes of the status until the first step is reached, which tell of the candidate's UID.
const FIRST: usize = 1;
/// Writes of the status in a phase that is no step.
const PHASE: usize = 3;
/// Writes that follow from something that is waited for: it is said, and taken back.
const WAIT: usize = 2;
/// Writes that follow from what others do: it is said, the weight is reached anew, and what was waited for is again.
const CAUSE: usize = 4;

/// Phases in which a Rollout is at a step.
const STEPS: [&str; 3] = ["Preparing", "Progressing", "Holding"];
/// Reasons that every step has.
const USUAL: [&str; 6] = [
    "",
    "WaitingForPods",
    "StepReached",
    "Preparing",
    "Progressing",
    "Promoting",
];

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
    /// Writes that bring an answer of a check that was due.
    answers: usize,
    /// Checks that were answered here for the first time, and since when the traffic was as it was.
    firsts: BTreeSet<(String, String)>,
    causes: usize,
    /// Causes since the last write of the status, and between that one and the one before: what somebody does just before
    /// the place changes is followed after it.
    recent: usize,
    former: usize,
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
        let (recent, former) = (account.recent, account.former);
        if account.place != place {
            *account = Account {
                causes: recent + former,
                first: int(rollout, "/status/step/index").unwrap_or(0) == 0,
                target: text(rollout, "/spec/plan/targetRef/name").to_owned(),
                place,
                ..Account::default()
            };
        }
        (account.former, account.recent) = (recent, 0);
        account.status += usize::from(!is_brake(step));
        account.answers += usize::from(account.hears(step));
        account.waits.extend(waits(rollout));
        let most = account.most();
        account.excess(&format!("the status of {}", step.key), account.status, most)
    }

    fn scaled(&mut self, world: &World, step: &Step) -> Option<Finding> {
        let of = label(step.object(), names::LABEL_ROLLOUT_UID);
        let here = self.namespaces.get_mut(&step.key.namespace)?;
        let account = here.get_mut(of).filter(|_| step.verb == "patch")?;
        account.candidate += 1;
        let most = CANDIDATE + account.causes;
        let found = account.excess(&step.key.to_string(), account.candidate, most);
        let rollout = world.known(of).map_or(&step.key, |known| &known.key);
        found.map(|finding| finding.about(rollout))
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
            let concerned = usize::from(account.is_concerned(of, step));
            account.causes += concerned;
            account.recent += concerned;
        }
    }
}

impl Account {
    /// Whether a write brings an answer of a check that was due: the first one since the traffic is as it is, or one whose
    /// interval has passed.
    fn hears(&mut self, step: &Step) -> bool {
        let mut due = false;
        for answer in answers(step) {
            due |= match answer.turn {
                Turn::First => self.firsts.insert((answer.check.to_owned(), answer.since.to_owned())),
                Turn::Due => true,
                Turn::Early(..) => false,
            };
        }
        due
    }

    /// More writes than are enough, the first time.
    fn excess(&mut self, what: &str, writes: usize, most: usize) -> Option<Finding> {
        if self.told || writes <= most {
            return None;
        }
        self.told = true;
        let place = &self.place;
        let message = format!("{what} is written {writes} times in {place}, where {most} are enough");
        Some(Finding::new(I20, message))
    }

    /// Writes of the status that have a cause.
    fn most(&self) -> usize {
        let own = match self.place.strip_prefix("step ") {
            Some(_) if self.first => STATUS + FIRST,
            Some(_) => STATUS,
            None => PHASE,
        };
        own.saturating_add(self.causes.saturating_mul(CAUSE))
            .saturating_add(self.waits.len().saturating_mul(WAIT))
            .saturating_add(self.answers)
    }

    /// Whether a write is one that the Rollout with this UID follows, and not its own.
    fn is_concerned(&self, of: &str, step: &Step) -> bool {
        let object = step.object();
        match step.key.kind {
            // The run that asked for a Rollout stops it; marks and labels of its own are no news to it.
            Kind::Rollout if of == uid(object) => !step.operator || is_asked(step),
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
    let person = text(rollout, "/status/waitingFor/gate");
    let ready = named(rollout, "/status/conditions", "type", "Ready").map_or("", |c| text(c, "/reason"));
    let all = [hold, person, ready].into_iter();
    all.filter(|reason| !USUAL.contains(reason)).map(str::to_owned).next()
}

fn is_status(step: &Step) -> bool {
    step.subresource == "status"
        || changes(step.before.as_deref(), step.after.as_deref())
            .iter()
            .all(|c| lies_in(&c.path, "status"))
}

/// Whether the administrator's brake came or went, as a status says.
pub(super) fn is_brake(step: &Step) -> bool {
    let braked =
        |o: &Value| named(o, "/status/conditions", "type", "Ready").is_some_and(|c| text(c, "/reason") == "Braked");
    braked(step.earlier()) != braked(step.later())
}

/// Whether something else is asked of an object than before.
fn is_asked(step: &Step) -> bool {
    step.earlier().pointer("/spec") != step.later().pointer("/spec")
}

/// Whether a Deployment has fewer ready pods than before.
fn lost_pods(step: &Step) -> bool {
    let ready = |o: &Value| int(o, "/status/readyReplicas").unwrap_or(0);
    ready(step.later()) < ready(step.earlier())
}
