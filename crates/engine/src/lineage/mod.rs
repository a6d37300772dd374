//! The hash chain of a version: what is added to it, and how it is checked.
//!
//! A chain without keys proves nothing against somebody who may rewrite all of it. Therefore its head is copied to where
//! a status cannot reach: into the immutable specs of Rollouts and of versions made later ([`register`]).

pub mod chain;
pub mod finding;
pub mod register;

use flywheel_api::ModelVersion;
pub use flywheel_api::lineage::mark;
use flywheel_api::lineage::{
    Lineage, LineageEntry, LineageHead, LineageSubject, LineageType, MAX_ENTRIES, MAX_SUBJECTS,
};
use flywheel_api::model_version::{ModelVersionSpec, ModelVersionStatus, VersionState};
use flywheel_api::schema::Digest;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Serialize;
use serde_json::json;

use crate::evidence::freeze;

/// Something that happened, not yet an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// What happened.
    pub type_: LineageType,
    /// Objects that it came of.
    pub subjects: Vec<LineageSubject>,
    /// Digest of the facts.
    pub facts: Digest,
}

/// SHA-256 of a value as canonical JSON. The values here are texts, whole numbers and lists of them: they can always be
/// written as JSON.
fn digest<T: Serialize + ?Sized>(value: &T) -> Digest {
    freeze(&value).map(|f| f.digest).unwrap_or_default()
}

/// What the first entry is bound to: one object, so that a chain cannot be moved to another.
#[must_use]
pub fn identity(version: &ModelVersion) -> Digest {
    digest(&json!({
        "kind": "ModelVersion",
        "namespace": version.metadata.namespace,
        "name": version.metadata.name,
        "uid": version.metadata.uid,
    }))
}

/// The digest that an entry should have.
#[must_use]
pub fn seal(entry: &LineageEntry) -> Digest {
    #[derive(Serialize)]
    struct Sealed<'a> {
        index: i32,
        #[serde(rename = "type")]
        type_: LineageType,
        at: &'a Time,
        #[serde(skip_serializing_if = "<[LineageSubject]>::is_empty")]
        subjects: &'a [LineageSubject],
        facts: &'a Digest,
        previous: &'a Digest,
    }
    digest(&Sealed {
        index: entry.index,
        type_: entry.type_,
        at: &entry.at,
        subjects: &entry.subjects,
        facts: &entry.facts,
        previous: &entry.previous,
    })
}

/// Facts of a first entry.
#[must_use]
pub fn of_spec(spec: &ModelVersionSpec) -> Digest {
    digest(&json!({ "spec": spec }))
}

/// Facts of an entry of that type, as the status tells them now; nothing for types that tell of something else.
#[must_use]
pub fn of_status(status: &ModelVersionStatus, type_: LineageType) -> Option<Digest> {
    match type_ {
        LineageType::Evaluated => Some(digest(&json!({ "evaluations": status.evaluations }))),
        LineageType::BiasJudged => Some(digest(&json!({ "bias": status.bias }))),
        LineageType::Decided => Some(digest(&json!({ "approvals": status.approvals }))),
        other => other.state().map(of_state),
    }
}

fn of_state(state: VersionState) -> Digest {
    digest(&json!({ "state": state }))
}

/// The lists of a status that entries of a type tell of: whether there is something in them.
#[must_use]
pub fn is_told(status: &ModelVersionStatus, type_: LineageType) -> bool {
    match type_ {
        LineageType::Evaluated => !status.evaluations.is_empty(),
        LineageType::BiasJudged => !status.bias.is_empty(),
        LineageType::Decided => !status.approvals.is_empty(),
        _ => false,
    }
}

/// A state to which a version came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// The state.
    pub state: VersionState,
    /// What it came of.
    pub cause: Option<LineageSubject>,
}

impl Reached {
    fn fact(&self) -> Fact {
        Fact {
            type_: self.state.into(),
            subjects: self.cause.clone().into_iter().collect(),
            facts: of_state(self.state),
        }
    }

    fn is_told_by(&self, entry: &LineageEntry) -> bool {
        entry.type_ == self.state.into() && entry.subjects.iter().eq(&self.cause)
    }
}

/// The lineage with everything that the new status tells and the old entries do not. `passed` are the states that the
/// version has certainly been in, whether or not somebody looked at that time; `present` is the one of the status.
#[must_use]
pub fn extended(
    version: &ModelVersion,
    status: &ModelVersionStatus,
    passed: &[Reached],
    present: &Reached,
    now: Timestamp,
) -> Option<Lineage> {
    let mut entries = status.lineage.clone().map(|l| l.entries).unwrap_or_default();
    for fact in missing(version, status, &entries, passed, present) {
        push(&mut entries, version, fact, now);
    }
    let last = entries.last()?;
    Some(Lineage {
        head: LineageHead {
            length: i32::try_from(entries.len()).unwrap_or(i32::MAX),
            digest: last.digest.clone(),
        },
        entries,
    })
}

/// What the entries do not tell yet, in the order in which it happens to a version.
fn missing(
    version: &ModelVersion,
    status: &ModelVersionStatus,
    entries: &[LineageEntry],
    passed: &[Reached],
    present: &Reached,
) -> Vec<Fact> {
    let mut facts = Vec::new();
    let first = entries.first().map_or_else(|| beginning(version), |e| e.type_);
    if entries.is_empty() {
        facts.push(Fact {
            type_: first,
            subjects: origin(&version.spec),
            facts: of_spec(&version.spec),
        });
    }
    for type_ in [LineageType::Evaluated, LineageType::BiasJudged, LineageType::Decided] {
        let last = entries.iter().rfind(|e| e.type_ == type_).map(|e| &e.facts);
        if last.is_none() && !is_told(status, type_) {
            continue;
        }
        let now = of_status(status, type_).filter(|d| Some(d) != last);
        facts.extend(now.map(|facts| Fact {
            type_,
            subjects: subjects(version, status, type_),
            facts,
        }));
    }
    // A chain that was begun anew tells of what came later: when the rest was is not known.
    let unseen = |state: &&Reached| first != LineageType::Rebuilt && !entries.iter().any(|e| state.is_told_by(e));
    facts.extend(passed.iter().filter(unseen).map(Reached::fact));
    let of_facts = facts.iter().map(|f| f.type_);
    let all = entries.iter().map(|e| e.type_).chain(of_facts);
    let last = all.rev().find_map(LineageType::state).unwrap_or_default();
    if present.state != last {
        facts.push(present.fact());
    }
    facts
}

/// How a chain begins: a second time if one was begun once, whatever the status says.
fn beginning(version: &ModelVersion) -> LineageType {
    match mark(version) {
        Some(_) => LineageType::Rebuilt,
        None => LineageType::Registered,
    }
}

fn subject(kind: &str, name: &str, uid: &str) -> LineageSubject {
    LineageSubject {
        kind: kind.to_owned(),
        name: name.to_owned(),
        uid: uid.to_owned(),
    }
}

/// What a version comes of: its pipeline and run, and its parent.
fn origin(spec: &ModelVersionSpec) -> Vec<LineageSubject> {
    let made = spec.provenance.iter().flat_map(|p| {
        [
            subject("FlywheelPipeline", &p.pipeline.name, &p.pipeline.uid),
            subject("FlywheelRun", &p.run.name, &p.run.uid),
        ]
    });
    let parent = spec.parent.iter();
    let parent = parent.filter_map(|p| Some(subject("ModelVersion", &p.name, p.uid.as_deref()?)));
    made.chain(parent).collect()
}

fn subjects(version: &ModelVersion, status: &ModelVersionStatus, type_: LineageType) -> Vec<LineageSubject> {
    if type_ == LineageType::Decided {
        let all = status.approvals.iter().take(MAX_SUBJECTS);
        return all.map(|a| subject("Approval", &a.name, &a.uid)).collect();
    }
    run(version).into_iter().collect()
}

/// The run that made a version.
#[must_use]
pub fn run(version: &ModelVersion) -> Option<LineageSubject> {
    let run = &version.spec.provenance.as_ref()?.run;
    Some(subject("FlywheelRun", &run.name, &run.uid))
}

/// A Rollout as what a state came of.
#[must_use]
pub fn rollout(name: &str, uid: &str) -> LineageSubject {
    subject("Rollout", name, uid)
}

/// Adds an entry; the last place of a chain says that it is full.
fn push(entries: &mut Vec<LineageEntry>, version: &ModelVersion, fact: Fact, now: Timestamp) {
    let room = MAX_ENTRIES.saturating_sub(entries.len());
    if room == 0 {
        return;
    }
    let mut entry = LineageEntry {
        index: i32::try_from(entries.len()).unwrap_or(i32::MAX),
        type_: if room == 1 { LineageType::Full } else { fact.type_ },
        at: Time(now),
        subjects: fact.subjects,
        facts: fact.facts,
        previous: entries.last().map_or_else(|| identity(version), |e| e.digest.clone()),
        digest: Digest::default(),
    };
    entry.digest = seal(&entry);
    entries.push(entry);
}

#[cfg(test)]
mod tests;
