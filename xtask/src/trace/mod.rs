//! The trace checker: judges what the operator did to a cluster by the API server's audit log alone.
//!
//! The log is folded into a [`History`] of object versions in the order of the store's revisions, and each invariant is
//! a [`Rule`] that looks at every write with the [`World`] as it then was. The rules know the API and the declared
//! tables ([`tables`]), never the engine: what they find wrong is wrong whatever the engine meant.
//!
//! | Invariant | What it says | Where |
//! | --- | --- | --- |
//! | I1 | one attempt at a time and one Job per attempt | [`attempts`] |
//! | I1b | what an attempt made stays what it made, and a version that is registered or delivered carries it | [`results`] |
//! | I2 | nothing is delivered or promoted unless every required gate and check passed | [`gates`] |
//! | I3 | training, traffic and steps have the approvals that the level and the plan demand | [`approvals`] |
//! | I4 | what served before can be had back by one write, and nothing else touches it | [`baseline`] |
//! | I5 | the lineage of a version only grows, and what others keep of it is true | [`lineage`] |
//! | I7 | pods are taken away only after as many others are ready | [`capacity`] |
//! | I8 | every write stays in the namespace of the object that caused it | [`owners`] |
//! | I9 | only objects that belong to the acting object are changed or deleted | [`owners`] |
//! | I10 | a result is taken only from the Job whose UID the intent held | [`results`] |
//! | I11 | no status is written again and again without need | [`loops`] |
//! | I13 | phases move along declared edges; numbers never go down | [`order`] |
//! | I13 | steps follow each other from the first one on, and what counts as promoted serves | [`steps`] |
//! | I14 | a Rollout goes only when nothing of it is left on its target | [`leaving`] |
//! | I14 | what was deleted goes in time, and what it owned with it | [`overdue`], [`orphans`] |
//! | I15 | of what users own only the two declared fields are written | [`owners`] |
//! | I16 | what belongs to an older spec does not count for the new one | [`specs`] |
//! | I17 | one Rollout at a time works on a target | [`capacity`] |
//! | I18 | decisions record a level that was in force, and within a run it never rises | [`in_force`] |
//! | I20 | a run takes at most 40 writes, a step two of the status and one of the candidate | [`run_budget`], [`step_budget`] |
//! | I20 | what is refused again and again is tried more and more seldom | [`refusals`] |
//! | I22 | a bias policy that was changed or deleted takes its older verdicts with it | [`policies`] |
//!
//! Each file says what is judged and what the log cannot show.

mod answers;
pub mod approvals;
pub mod attempts;
pub mod audit;
pub mod baseline;
pub mod binding;
pub mod capacity;
pub mod gates;
pub mod history;
pub mod in_force;
pub mod json;
pub mod leaving;
pub mod levels;
pub mod lineage;
pub mod loops;
mod lost;
pub mod moments;
pub mod order;
pub mod orphans;
pub mod overdue;
pub mod owners;
mod pipelines;
pub mod policies;
pub mod refusals;
pub mod report;
pub mod results;
pub mod run_budget;
pub mod serving;
pub mod specs;
pub mod step_budget;
pub mod steps;
pub mod tables;
pub mod tail;
pub mod usage;
pub mod world;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use jiff::Timestamp;

pub use history::{History, Scope, Step};
pub use report::{Violation, render};
pub use world::{Key, Kind, World};

/// Judge what an operator did by the audit log of its cluster.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The audit log: JSON lines, written with xtask/src/cluster/audit-policy.yaml.
    pub file: PathBuf,
    /// Only this namespace.
    #[arg(long, short)]
    pub namespace: Option<String>,
    /// Also print which verbs the operator used on which resources.
    #[arg(long)]
    pub rules: bool,
}

/// Runs `cargo xtask trace`.
///
/// # Errors
/// If the log cannot be read, or an invariant is violated.
pub fn run(args: &Args) -> Result<()> {
    let scope = Scope {
        namespace: args.namespace.clone(),
        from: 0,
    };
    let history = History::read(&args.file, &scope)?;
    if args.rules {
        for rule in usage::used_rules(&history) {
            println!("{rule}");
        }
    }
    println!("{}", judge(&history, &args.file, None)?);
    Ok(())
}

/// Judges a history; the sentence says how much was looked at. What happened before `since` is known, but not judged.
///
/// # Errors
/// If an invariant is violated, with a report of the first violation.
pub fn judge(history: &History, source: &Path, since: Option<Timestamp>) -> Result<String> {
    let late = |step: usize| {
        let at = history.steps.get(step).and_then(|s| s.at.parse::<Timestamp>().ok());
        since.is_none_or(|since| at.is_none_or(|at| at >= since))
    };
    let violations: Vec<Violation> = check(history).into_iter().filter(|v| late(v.step)).collect();
    let writes = history.steps.iter().filter(|s| s.operator).count();
    if violations.is_empty() {
        return Ok(format!(
            "trace: {writes} writes of the operator among {} keep all invariants ({})",
            history.steps.len(),
            source.display()
        ));
    }
    bail!("{} ({})", render(history, &violations), source.display())
}

/// All violations, in the order of the writes that broke an invariant.
#[must_use]
pub fn check(history: &History) -> Vec<Violation> {
    let mut rules: [Box<dyn Rule>; 20] = [
        Box::<attempts::Attempts>::default(),
        Box::<gates::Gates>::default(),
        Box::<approvals::Approvals>::default(),
        Box::<owners::Owners>::default(),
        Box::<order::Order>::default(),
        Box::<steps::Steps>::default(),
        Box::<capacity::Capacity>::default(),
        Box::<lineage::Lineage>::default(),
        Box::<results::Results>::default(),
        Box::<baseline::Baseline>::default(),
        Box::<loops::Loops>::default(),
        Box::<leaving::Leaving>::default(),
        Box::<overdue::Overdue>::default(),
        Box::<orphans::Orphans>::default(),
        Box::<specs::Specs>::default(),
        Box::<in_force::InForce>::default(),
        Box::<policies::Policies>::default(),
        Box::<refusals::Refusals>::default(),
        Box::<run_budget::RunBudget>::default(),
        Box::<step_budget::StepBudget>::default(),
    ];
    let (mut world, mut violations) = (World::default(), Vec::new());
    for (index, step) in history.steps.iter().enumerate() {
        if step.succeeded() {
            world.set(step);
        }
        for rule in &mut rules {
            let found = match step.succeeded() {
                true => rule.step(&world, step),
                false => rule.refused(step),
            };
            violations.extend(found.into_iter().map(|finding| Violation {
                invariant: finding.invariant,
                message: finding.message,
                objects: finding.objects,
                step: index,
            }));
        }
    }
    violations
}

/// An invariant that is checked at every write.
pub trait Rule {
    /// What this write breaks; the world is as it is after the write.
    fn step(&mut self, world: &World, step: &Step) -> Vec<Finding>;

    /// What a try breaks that the API server refused; to most invariants it is nothing.
    fn refused(&mut self, _: &Step) -> Vec<Finding> {
        Vec::new()
    }
}

/// What a write breaks.
#[derive(Debug, Clone)]
pub struct Finding {
    /// Which invariant.
    pub invariant: &'static str,
    /// What is wrong, with what would be right.
    pub message: String,
    /// Further objects that it is about.
    pub objects: Vec<Key>,
}

impl Finding {
    /// A finding about the written object alone.
    pub fn new(invariant: &'static str, message: impl Into<String>) -> Self {
        Self {
            invariant,
            message: message.into(),
            objects: Vec::new(),
        }
    }

    /// A finding that is also about another object.
    #[must_use]
    pub fn about(mut self, object: &Key) -> Self {
        self.objects.push(object.clone());
        self
    }
}
