//! The check of many versions together: what Rollouts, versions made later and earlier copies know of a chain.

use std::collections::BTreeMap;

use flywheel_api::lineage::{Lineage, LineageEntry, LineageHead, LineageType, VersionRef};
use flywheel_api::{ModelVersion, Rollout};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;

use super::chain::{self, Checked};
use super::finding::{Defect, Finding, Notice, Remark};

/// The clocks of the operator and of the API server may differ by this: who referred to a chain that soon after it was
/// rebuilt may have known the one before.
const CLOCKS: SignedDuration = SignedDuration::from_mins(5);

/// What is checked together.
#[derive(Clone, Debug, Default)]
pub struct Register {
    /// Versions; more than one copy of the same object is allowed, and must not contradict another.
    pub versions: Vec<ModelVersion>,
    /// Rollouts: their specs keep heads.
    pub rollouts: Vec<Rollout>,
    /// Earlier copies of versions: their chains must be how those of now begin.
    pub earlier: Vec<ModelVersion>,
}

/// What was found out about one version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// Head of its chain, as it says itself.
    pub head: Option<LineageHead>,
    /// Number of heads, kept elsewhere, that the chain was held against.
    pub anchors: usize,
    /// What no honest history explains.
    pub findings: Vec<Finding>,
    /// What a reader should know.
    pub notices: Vec<Notice>,
}

/// A head that is kept outside of the status that it tells of.
struct Anchor {
    /// Who keeps it, and in which field.
    keeper: String,
    uid: Option<String>,
    head: Option<LineageHead>,
    since: Timestamp,
}

/// By namespace and name of the version that is meant.
type Anchors = BTreeMap<(String, String), Vec<Anchor>>;

/// Checks all versions; one verdict each, in their order.
#[must_use]
pub fn check(register: &Register) -> Vec<Verdict> {
    let anchors = anchors(register);
    let copies = copies(register);
    let none = Vec::new();
    let verdict = |version: &ModelVersion| {
        let Checked {
            mut findings,
            mut notices,
        } = chain::check(version);
        let known = anchors.get(&key(&version.metadata)).unwrap_or(&none);
        let mut held = 0;
        for anchor in known {
            match hold(version, anchor) {
                Held::Fits => held += 1,
                Held::Not(finding) => {
                    held += 1;
                    findings.push(finding);
                }
                Held::Noted(notice) => notices.push(notice),
                Held::Silent => {}
            }
        }
        let twins = copies.get(uid(version)).into_iter().flatten();
        findings.extend(twins.filter_map(|twin| contradiction(version, twin)));
        let (namespace, name) = key(&version.metadata);
        Verdict {
            namespace,
            name,
            uid: uid(version).to_owned(),
            head: lineage(version).map(|l| l.head.clone()),
            anchors: held,
            findings,
            notices,
        }
    };
    register.versions.iter().map(verdict).collect()
}

fn key(metadata: &ObjectMeta) -> (String, String) {
    let text = |t: &Option<String>| t.clone().unwrap_or_default();
    (text(&metadata.namespace), text(&metadata.name))
}

fn uid(version: &ModelVersion) -> &str {
    version.metadata.uid.as_deref().unwrap_or_default()
}

fn lineage(version: &ModelVersion) -> Option<&Lineage> {
    version.status.as_ref()?.lineage.as_ref()
}

fn created(metadata: &ObjectMeta) -> Timestamp {
    crate::view::created(metadata)
}

fn anchors(register: &Register) -> Anchors {
    let mut all = Anchors::new();
    let mut keep = |metadata: &ObjectMeta, kind: &str, field: &str, reference: &VersionRef| {
        let (namespace, name) = key(metadata);
        all.entry((namespace, reference.name.clone()))
            .or_default()
            .push(Anchor {
                keeper: format!("{kind} {name}, {field}"),
                uid: reference.uid.clone(),
                head: reference.head.clone(),
                since: created(metadata),
            });
    };
    for rollout in &register.rollouts {
        let reference = &rollout.spec.model_version_ref;
        keep(&rollout.metadata, "Rollout", "spec.modelVersionRef", reference);
    }
    for version in &register.versions {
        if let Some(parent) = &version.spec.parent {
            keep(&version.metadata, "ModelVersion", "spec.parent", parent);
        }
    }
    for earlier in &register.earlier {
        let Some(lineage) = lineage(earlier) else { continue };
        let last = lineage.entries.last().map(|e| e.at.0).unwrap_or_default();
        all.entry(key(&earlier.metadata)).or_default().push(Anchor {
            keeper: "the earlier copy, status.lineage".to_owned(),
            uid: earlier.metadata.uid.clone(),
            head: Some(lineage.head.clone()),
            since: last,
        });
    }
    all
}

/// What came of holding a chain against a head.
enum Held {
    Fits,
    Not(Finding),
    Noted(Notice),
    Silent,
}

fn hold(version: &ModelVersion, anchor: &Anchor) -> Held {
    let keeper = &anchor.keeper;
    if let Some(meant) = anchor.uid.as_deref().filter(|u| *u != uid(version)) {
        let message = format!(
            "{keeper} means an earlier version of this name, with UID {meant}, which is gone; this one has {}",
            uid(version)
        );
        return Held::Noted(Notice::new(Remark::Namesake, message));
    }
    let (Some(head), Some(lineage)) = (&anchor.head, lineage(version)) else {
        return Held::Silent;
    };
    let place = usize::try_from(head.length).unwrap_or_default().wrapping_sub(1);
    let finding = match lineage.entries.get(place) {
        Some(entry) if entry.digest == head.digest => return Held::Fits,
        Some(entry) => {
            let field = format!("status.lineage.entries[{place}].digest");
            let right = format!("{keeper} knows {}: the chain was rewritten", head.digest);
            Finding::new(Defect::Forked, field, &entry.digest.0, &right)
        }
        None => {
            let found = format!("{} entries", lineage.entries.len());
            let right = format!(
                "{keeper} knows {} of them, the last one {}: entries were cut off, or an older status was put back",
                head.length, head.digest
            );
            Finding::new(Defect::CutOff, "status.lineage.entries", &found, &right)
        }
    };
    if before_rebuild(lineage, anchor.since) {
        let message = format!("{keeper} knows {} entries of the chain that was lost", head.length);
        return Held::Noted(Notice::new(Remark::Rebuilt, message));
    }
    Held::Not(finding)
}

/// Whether the chain was begun anew since: older heads tell of the one that was lost.
fn before_rebuild(lineage: &Lineage, since: Timestamp) -> bool {
    let first = lineage.entries.first().filter(|e| e.type_ == LineageType::Rebuilt);
    first.is_some_and(|e| since <= e.at.0.saturating_add(CLOCKS).unwrap_or(Timestamp::MAX))
}

/// Objects of which there is more than one copy, by UID.
fn copies(register: &Register) -> BTreeMap<&str, Vec<&ModelVersion>> {
    let mut all: BTreeMap<&str, Vec<&ModelVersion>> = BTreeMap::new();
    for version in register.versions.iter().filter(|v| !uid(v).is_empty()) {
        all.entry(uid(version)).or_default().push(version);
    }
    all.retain(|_, copies| copies.len() > 1);
    all
}

/// Two copies of one object must go the same way as far as both go.
fn contradiction(version: &ModelVersion, twin: &ModelVersion) -> Option<Finding> {
    let (own, other) = (&lineage(version)?.entries, &lineage(twin)?.entries);
    // One of them may have been taken before the status was lost.
    let rebuilt = |all: &[LineageEntry]| all.first().is_some_and(|e| e.type_ == LineageType::Rebuilt);
    if (rebuilt(own) || rebuilt(other)) && own.first() != other.first() {
        return None;
    }
    let mut pairs = own.iter().zip(other).enumerate();
    let (place, (a, b)) = pairs.find(|(_, (a, b))| a.digest != b.digest)?;
    let right = format!("another copy of this object has {}: one of them is not true", b.digest);
    let field = format!("status.lineage.entries[{place}].digest");
    Some(Finding::new(Defect::Forked, field, &a.digest.0, &right))
}
