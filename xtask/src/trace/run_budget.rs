//! I20, as far as it concerns runs: a run takes at most forty writes.
//!
//! Counted are the operator's writes that changed something: those on the run and its Jobs, those on its version until the
//! run has ended, and the creation of its snapshot and of its Rollout. Every write needs a cause, so the budget grows
//! with the causes that not every run has: a stage that is tried again, and a stage beyond those of a whole loop; what
//! its Rollout says, which the run repeats; what others write that the run looks at; and what other runs do while it
//! waits for them. A status that somebody else took away is found again, which begins the count anew.
//!
//! What the pipeline writes about its runs is not counted, nor that the administrator's brake stops a run or lets it go:
//! the settings are not in the history.

use std::collections::HashMap;

use flywheel_api::names;
use serde_json::Value;

use super::json::{label, list, named, text, uid};
use super::step_budget::is_brake;
use super::{Finding, Key, Kind, Rule, Step, World};

const I20: &str = "I20";

/// Writes of one run.
const MOST: usize = 40;
/// Of these, what does not depend on the number of attempts.
const FRAME: usize = 20;
/// Writes of one attempt: the intent, the Job, its UID, its end.
const ATTEMPT: usize = 4;
/// Writes that follow from one write of somebody else.
const CAUSE: usize = 2;

/// What others write that a run looks at.
const LOOKED_AT: [Kind; 7] = [
    Kind::Pipeline,
    Kind::Policy,
    Kind::Approval,
    Kind::Version,
    Kind::Rollout,
    Kind::Revision,
    Kind::Deployment,
];
/// Why a run waits for other runs.
const BEHIND_OTHERS: [&str; 2] = ["NamespaceFull", "Queued"];

/// The writes of each run, by its namespace and its UID.
#[derive(Debug, Default)]
pub struct RunBudget {
    namespaces: HashMap<String, Accounts>,
}

type Accounts = HashMap<String, Account>;

#[derive(Debug, Default)]
struct Account {
    writes: usize,
    attempts: usize,
    /// Further writes that have a cause.
    allowed: usize,
    behind: bool,
    told: bool,
}

impl Account {
    fn budget(&self) -> usize {
        let attempts = FRAME.saturating_add(self.attempts.saturating_mul(ATTEMPT));
        MOST.max(attempts).saturating_add(self.allowed)
    }
}

impl Rule for RunBudget {
    fn step(&mut self, world: &World, step: &Step) -> Vec<Finding> {
        if step.is_idle() {
            return Vec::new();
        }
        let runs = self.namespaces.entry(step.key.namespace.clone()).or_default();
        follow(runs, step);
        if !step.operator {
            caused(runs, step);
            return Vec::new();
        }
        let Some(of) = cause(world, step) else {
            return Vec::new();
        };
        let account = runs.entry(of.clone()).or_default();
        account.writes += usize::from(!is_brake(step));
        if account.told || account.writes <= account.budget() {
            return Vec::new();
        }
        account.told = true;
        let (writes, budget) = (account.writes, account.budget());
        let run = world.known(&of).map_or(&step.key, |known| &known.key);
        let message = format!("{run} takes {writes} writes, where {budget} are enough");
        vec![Finding::new(I20, message).about(run)]
    }
}

/// What a write says about a run, and what it allows other runs.
fn follow(runs: &mut Accounts, step: &Step) {
    let object = step.object();
    match step.key.kind {
        Kind::Run => {
            let account = runs.entry(uid(object).to_owned()).or_default();
            let ready = named(object, "/status/conditions", "type", "Ready");
            account.behind = ready.is_some_and(|c| BEHIND_OTHERS.contains(&text(c, "/reason")));
            if step.operator {
                // Who waits behind other runs says how many there are.
                let others = runs
                    .iter_mut()
                    .filter(|(of, account)| *of != uid(object) && account.behind);
                others.for_each(|(_, account)| account.allowed += 1);
            }
        }
        Kind::Job if step.operator && step.created() => {
            let run = label(object, names::LABEL_RUN_UID).to_owned();
            runs.entry(run).or_default().attempts += 1;
        }
        Kind::Rollout if step.operator && step.subresource == "status" => {
            let run = text(object, "/spec/runRef/uid").to_owned();
            runs.entry(run).or_default().allowed += 1;
        }
        _ => {}
    }
}

/// What others wrote.
fn caused(runs: &mut Accounts, step: &Step) {
    let object = step.object();
    match step.key.kind {
        Kind::Run => {
            let account = runs.entry(uid(object).to_owned()).or_default();
            account.allowed += CAUSE;
            if lost(step) {
                *account = Account::default();
            }
        }
        // The Job controller tells how the attempt goes, which is not more than it takes.
        Kind::Job if step.subresource != "status" => {
            let run = label(object, names::LABEL_RUN_UID).to_owned();
            runs.entry(run).or_default().allowed += CAUSE;
        }
        _ if LOOKED_AT.contains(&step.key.kind) && !is_nature(step) => {
            runs.values_mut().for_each(|account| account.allowed += CAUSE);
        }
        _ => {}
    }
}

/// Whether somebody took the status away, or a part of it.
fn lost(step: &Step) -> bool {
    let stages = |o: &Value| list(o, "/status/stages").len();
    stages(step.later()) < stages(step.earlier())
}

/// Whether this is how pods come and go, which no run is about.
fn is_nature(step: &Step) -> bool {
    step.key.kind == Kind::Deployment && step.subresource == "status"
}

/// UID of the run that a write of the operator is made for.
fn cause(world: &World, step: &Step) -> Option<String> {
    let object = step.object();
    let of = match step.key.kind {
        Kind::Run if step.verb != "delete" => uid(object),
        Kind::Job => label(object, names::LABEL_RUN_UID),
        Kind::Version => unfinished(world, label(object, names::LABEL_RUN_UID))?,
        Kind::Rollout if step.created() => text(object, "/spec/runRef/uid"),
        Kind::Revision if step.created() => intended(world, &step.key)?,
        _ => "",
    };
    (!of.is_empty()).then(|| of.to_owned())
}

fn unfinished<'a>(world: &World, run: &'a str) -> Option<&'a str> {
    let found = world.by_uid(&Kind::Run, run)?;
    text(found, "/status/outcome").is_empty().then_some(run)
}

/// The run whose status names the snapshot before it exists.
fn intended<'a>(world: &'a World, snapshot: &Key) -> Option<&'a str> {
    let mut runs = world.all(Kind::Run, &snapshot.namespace);
    let (_, run) = runs.find(|(_, run)| {
        text(run, "/status/snapshot/name") == snapshot.name && text(run, "/status/outcome").is_empty()
    })?;
    Some(uid(run))
}
