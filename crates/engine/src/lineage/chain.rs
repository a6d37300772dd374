//! The check of one version by itself: whether its chain is whole, is its own, and says what spec and status say.

use flywheel_api::ModelVersion;
use flywheel_api::lineage::{Lineage, LineageEntry, LineageType};
use flywheel_api::model_version::ModelVersionStatus;
use flywheel_api::schema::Digest;

use super::finding::{Defect, Finding, Notice, Remark};
use super::{identity, is_told, mark, of_spec, of_status, seal};

/// What was found out about one version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// What no honest history explains.
    pub findings: Vec<Finding>,
    /// What a reader should know.
    pub notices: Vec<Notice>,
}

/// Checks a version by itself.
#[must_use]
pub fn check(version: &ModelVersion) -> Checked {
    let status = version.status.clone().unwrap_or_default();
    let mut checked = Checked::default();
    let Some(lineage) = status.lineage.as_ref().filter(|l| !l.entries.is_empty()) else {
        absent(version, &status, &mut checked);
        return checked;
    };
    beginning(version, lineage, &mut checked);
    checked.findings.extend(links(&lineage.entries));
    checked.findings.extend(head(lineage));
    checked.findings.extend(spec(version, lineage));
    if lineage.entries.last().is_some_and(|e| e.type_ == LineageType::Full) {
        let message = "the chain is full: what happened after its last entry stands in the status alone";
        checked.notices.push(Notice::new(Remark::Full, message));
    } else {
        checked.findings.extend(facts(&status, &lineage.entries));
    }
    checked
}

fn absent(version: &ModelVersion, status: &ModelVersionStatus, checked: &mut Checked) {
    if status.observed_generation < 1 {
        let message = "the operator has not looked at the version since it was made or since its status was lost";
        checked.notices.push(Notice::new(Remark::NotBegun, message));
    } else {
        let known = mark(version).unwrap_or("no first entry");
        let right = format!(
            "a version with a status has at least one entry (annotation flywheel.dev/lineage: {known}); restore it from a copy"
        );
        let finding = Finding::new(Defect::Missing, "status.lineage", "nothing", &right);
        checked.findings.push(finding);
    }
}

/// The first entry is one, belongs to this object, and is the one that the annotation tells of.
fn beginning(version: &ModelVersion, lineage: &Lineage, checked: &mut Checked) {
    let Some(first) = lineage.entries.first() else { return };
    let own = identity(version);
    if first.previous != own {
        let right = format!("this object's identity gives {own}: the chain belongs to another object");
        let finding = Finding::new(Defect::ForeignChain, field(0, "previous"), &first.previous.0, &right);
        checked.findings.push(finding);
    }
    if !is_first(first.type_) {
        let finding = Finding::new(
            Defect::WrongBeginning,
            field(0, "type"),
            &format!("{:?}", first.type_),
            "a chain begins with Registered or Rebuilt: earlier entries were removed",
        );
        checked.findings.push(finding);
    }
    if first.type_ == LineageType::Rebuilt {
        let message = format!(
            "the status was lost, and the chain began anew at {}: what was before, only copies tell (it began with {})",
            first.at.0,
            mark(version).unwrap_or("an unknown entry")
        );
        checked.notices.push(Notice::new(Remark::Rebuilt, message));
    } else if let Some(other) = mark(version).filter(|m| *m != first.digest.0) {
        let right = format!("annotation flywheel.dev/lineage tells of {other}: the chain was replaced from its start");
        let finding = Finding::new(Defect::OtherBeginning, field(0, "digest"), &first.digest.0, &right);
        checked.findings.push(finding);
    }
}

const fn is_first(type_: LineageType) -> bool {
    matches!(type_, LineageType::Registered | LineageType::Rebuilt)
}

/// Each entry gives its digest, carries that of the one before, and stands in its place.
#[must_use]
pub fn links(entries: &[LineageEntry]) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut before: Option<&LineageEntry> = None;
    for (place, entry) in entries.iter().enumerate() {
        let own = seal(entry);
        if entry.digest != own {
            let right = format!("the entry's content gives {own}: the entry was changed");
            let finding = Finding::new(Defect::EditedEntry, field(place, "digest"), &entry.digest.0, &right);
            found.push(finding);
        }
        let expected = before.map_or(0, |b| b.index.saturating_add(1));
        if entry.index != expected {
            let right = format!("{expected} follows: entries were removed, added or put in another order");
            let finding = Finding::new(
                Defect::WrongIndex,
                field(place, "index"),
                &entry.index.to_string(),
                &right,
            );
            found.push(finding);
        }
        if let Some(last) = before.filter(|b| b.digest != entry.previous) {
            let right = format!("the entry before it is {}: they do not belong together", last.digest);
            let finding = Finding::new(Defect::BrokenLink, field(place, "previous"), &entry.previous.0, &right);
            found.push(finding);
        }
        if place > 0 && is_first(entry.type_) {
            let type_ = format!("{:?}", entry.type_);
            let right = "only a first entry has that type: another chain was appended";
            found.push(Finding::new(
                Defect::WrongBeginning,
                field(place, "type"),
                &type_,
                right,
            ));
        }
        before = Some(entry);
    }
    found
}

fn head(lineage: &Lineage) -> Vec<Finding> {
    let mut found = Vec::new();
    let (head, length) = (&lineage.head, lineage.entries.len());
    if usize::try_from(head.length) != Ok(length) {
        let right = format!("there are {length} entries: some were cut off or added, or the head is another chain's");
        let finding = Finding::new(
            Defect::WrongLength,
            "status.lineage.head.length",
            &head.length.to_string(),
            &right,
        );
        found.push(finding);
    }
    if let Some(last) = lineage.entries.last().filter(|e| e.digest != head.digest) {
        let right = format!("the last entry is {}", last.digest);
        let finding = Finding::new(Defect::WrongHead, "status.lineage.head.digest", &head.digest.0, &right);
        found.push(finding);
    }
    found
}

/// The spec is the one that was registered.
fn spec(version: &ModelVersion, lineage: &Lineage) -> Option<Finding> {
    let first = lineage.entries.first().filter(|e| is_first(e.type_))?;
    let own = of_spec(&version.spec);
    let right = format!("its first entry was made for {}: the spec was changed", first.facts);
    (first.facts != own).then(|| Finding::new(Defect::OtherFacts, "spec", &format!("what gives {own}"), &right))
}

/// Verdicts, approvals and state are the ones that the last entry of their type tells of.
fn facts(status: &ModelVersionStatus, entries: &[LineageEntry]) -> Vec<Finding> {
    let lists = [
        (LineageType::Evaluated, "status.evaluations"),
        (LineageType::BiasJudged, "status.bias"),
        (LineageType::Decided, "status.approvals"),
    ];
    let mut found: Vec<Finding> = lists
        .into_iter()
        .filter_map(|(type_, name)| list(status, entries, type_, name))
        .collect();
    let told = entries.iter().rev().find_map(|e| e.type_.state()).unwrap_or_default();
    if told != status.state {
        let right = format!("the entries end with {told:?}");
        let state = format!("{:?}", status.state);
        found.push(Finding::new(Defect::OtherFacts, "status.state", &state, &right));
    }
    // A state is all that its entry tells: another digest tells of something else.
    let states = entries.iter().enumerate().filter(|(_, e)| e.type_.state().is_some());
    found.extend(states.filter_map(|(place, e)| {
        let own = of_status(status, e.type_).filter(|own| *own != e.facts)?;
        let right = format!("{:?} gives {own}", e.type_);
        Some(Finding::new(
            Defect::OtherFacts,
            field(place, "facts"),
            &e.facts.0,
            &right,
        ))
    }));
    found
}

fn list(status: &ModelVersionStatus, entries: &[LineageEntry], type_: LineageType, name: &str) -> Option<Finding> {
    let own: Digest = of_status(status, type_)?;
    let Some((place, last)) = entries.iter().enumerate().rfind(|(_, e)| e.type_ == type_) else {
        let right = format!("no entry of type {type_:?} tells of it");
        return is_told(status, type_).then(|| Finding::new(Defect::OtherFacts, name, "something", &right));
    };
    let right = format!("entry {place} ({type_:?}) was made for {}", last.facts);
    (last.facts != own).then(|| Finding::new(Defect::OtherFacts, name, &format!("what gives {own}"), &right))
}

fn field(place: usize, name: &str) -> String {
    format!("status.lineage.entries[{place}].{name}")
}
