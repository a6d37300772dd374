//! What happened in a history without faults, and which faults of reads can make a difference in it.

use std::collections::BTreeSet;

/// An event of a watch: the n-th about that object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// Plural name.
    pub kind: String,
    /// Without what differs from history to history.
    pub name: String,
    /// Counted from 1.
    pub nth: usize,
}

/// A read: the first one of that kind after so many writes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Look {
    /// Writes before it.
    pub after: usize,
    /// Plural name.
    pub kind: String,
}

impl Look {
    /// Whether that read is of the kind, and as late or later.
    pub fn is_reached_by(&self, read: &Self) -> bool {
        self.kind == read.kind && self.after <= read.after
    }
}

/// What passes between an operator and the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// The operator is told something.
    Event(Moment),
    /// It asks for something.
    Read(Look),
    /// It writes an object of this kind.
    Write(String),
}

/// All of it, in its order.
#[derive(Clone, Debug, Default)]
pub struct Journal(pub Vec<Entry>);

/// Which kinds are read by those who write objects of a kind: a write can depend on no others.
const READ_BY: [(&str, &[&str]); 8] = [
    ("flywheelpipelines", PIPELINE),
    // Runs are made and deleted by pipelines.
    ("flywheelruns", EVERYTHING),
    ("jobs", RUN),
    ("controllerrevisions", EVERYTHING),
    // Versions and Rollouts are made by runs.
    ("modelversions", EVERYTHING),
    ("rollouts", EVERYTHING),
    ("deployments", ROLLOUT),
    ("biaspolicies", &["biaspolicies", "flywheelpipelines", "flywheelruns"]),
];
const EVERYTHING: &[&str] = &super::reads::WATCHED;
const PIPELINE: &[&str] = &[
    "flywheelpipelines",
    "flywheelruns",
    "modelversions",
    "rollouts",
    "biaspolicies",
    "deployments",
];
const RUN: &[&str] = EVERYTHING;
const ROLLOUT: &[&str] = &[
    "rollouts",
    "deployments",
    "modelversions",
    "flywheelpipelines",
    "biaspolicies",
    "approvals",
];

/// Whether a write of an object of one kind may depend on an event of another one.
fn depends(written: &str, on: &str) -> bool {
    READ_BY
        .iter()
        .any(|(kind, read)| *kind == written && read.contains(&on))
}

impl Journal {
    /// All events.
    pub fn moments(&self) -> BTreeSet<Moment> {
        let moment = |entry: &Entry| match entry {
            Entry::Event(moment) => Some(moment.clone()),
            _ => None,
        };
        self.0.iter().filter_map(moment).collect()
    }

    /// How often the API server was asked.
    pub fn reads(&self) -> usize {
        self.0.iter().filter(|e| matches!(e, Entry::Read(_))).count()
    }

    /// The events that a later write can depend on: before the next event of the same object, which tells everything that
    /// this one told, somebody who reads the kind writes.
    pub fn causes(&self) -> Vec<Moment> {
        let caused = |(at, entry): (usize, &Entry)| {
            let Entry::Event(moment) = entry else { return None };
            let next = |e: &&Entry| match e {
                Entry::Event(other) => other.kind != moment.kind || other.name != moment.name,
                _ => true,
            };
            let mut rest = self.0.iter().skip(at + 1).take_while(next);
            let written = rest.any(|e| matches!(e, Entry::Write(kind) if depends(kind, &moment.kind)));
            written.then(|| moment.clone())
        };
        self.0.iter().enumerate().filter_map(caused).collect()
    }

    /// The reads that a later write can depend on: the first of each kind between two writes, if the second one is made by
    /// somebody who reads the kind.
    pub fn looks(&self) -> Vec<Look> {
        let mut all = BTreeSet::new();
        let mut since = Vec::new();
        for entry in &self.0 {
            match entry {
                Entry::Read(look) => since.push(look.clone()),
                Entry::Write(kind) => {
                    let read = since.drain(..).filter(|look| depends(kind, &look.kind));
                    all.extend(read);
                }
                Entry::Event(_) => {}
            }
        }
        all.into_iter().collect()
    }
}

#[test]
fn fault_only_what_a_write_can_depend_on_is_tried() {
    let event = |kind: &str, name: &str, nth| {
        Entry::Event(Moment {
            kind: kind.to_owned(),
            name: name.to_owned(),
            nth,
        })
    };
    let read = |after, kind: &str| {
        Entry::Read(Look {
            after,
            kind: kind.to_owned(),
        })
    };
    let write = |kind: &str| Entry::Write(kind.to_owned());
    let journal = Journal(vec![
        event("pods", "a", 1),
        event("pods", "a", 2),
        event("rollouts", "up", 1),
        read(0, "rollouts"),
        read(0, "pods"),
        write("deployments"),
        event("rollouts", "up", 2),
        read(1, "rollouts"),
    ]);
    let kept: Vec<(String, usize)> = journal.causes().into_iter().map(|m| (m.kind, m.nth)).collect();
    // Nobody who writes Deployments reads pods, the first event of the pod is overtaken, and nothing follows the last one.
    assert_eq!(kept, [("rollouts".to_owned(), 1)]);
    let looks: Vec<String> = journal.looks().into_iter().map(|l| l.kind).collect();
    assert_eq!(looks, ["rollouts"]);
    assert_eq!((journal.moments().len(), journal.reads()), (4, 3));
}
