//! Lineage of a ModelVersion: entries that only grow, each bound to the one before it by a digest, and references that
//! keep a copy of the chain's head where its owner cannot change it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model_version::VersionState;
use crate::names::ANNOTATION_LINEAGE;
use crate::schema::{Digest, pattern};

/// Most entries of a chain; the last one of a full chain is of type Full.
pub const MAX_ENTRIES: usize = 256;
/// Most subjects of an entry.
pub const MAX_SUBJECTS: usize = 32;

/// What happened to a version, in its order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "self.head.length == size(self.entries) && self.head.digest == self.entries[size(self.entries) - 1].digest", "message": "lineage.head must tell the number of entries and the digest of the last one" },
]))]
pub struct Lineage {
    /// Length of the chain and digest of its last entry.
    pub head: LineageHead,
    /// The chain: each entry carries the digest of the one before it. Entries are only ever added.
    #[schemars(length(min = 1, max = 256), extend("x-kubernetes-validations" = [
        { "rule": "oldSelf.all(i, e, i < size(self) && self[i] == e)", "message": "lineage only grows: keep the entries that are there, in their order, and add new ones at the end" },
    ]))]
    pub entries: Vec<LineageEntry>,
}

/// The end of a chain: whoever knows it knows all of the chain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LineageHead {
    /// Number of entries.
    #[schemars(range(min = 1, max = 256))]
    pub length: i32,
    /// Digest of the last entry.
    pub digest: Digest,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LineageEntry {
    /// Place in the chain; the first one is 0.
    #[schemars(range(min = 0, max = 255))]
    pub index: i32,
    /// What happened.
    /// Registered: the version was seen first; facts: its spec.
    /// Rebuilt: its status had been lost, and the chain begins anew; facts: its spec.
    /// Evaluated: gates were judged; facts: status.evaluations.
    /// BiasJudged: bias policies were judged; facts: status.bias.
    /// Decided: people decided; facts: status.approvals.
    /// Candidate, Rejected, Approved, RollingOut, Live, Superseded, RolledBack: status.state became that.
    /// Full: the chain takes no more entries.
    #[serde(rename = "type")]
    pub type_: LineageType,
    /// When it was recorded.
    pub at: Time,
    /// Objects that it came of: the run, the Rollout, the Approvals.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub subjects: Vec<LineageSubject>,
    /// SHA-256 of the facts as canonical JSON (RFC 8785).
    pub facts: Digest,
    /// Digest of the entry before; of the object's identity for the first one.
    pub previous: Digest,
    /// SHA-256 of this entry without this field, as canonical JSON (RFC 8785).
    pub digest: Digest,
}

/// What an entry tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum LineageType {
    /// The version was seen first.
    Registered,
    /// Its status had been lost: the chain begins anew.
    Rebuilt,
    /// Gates were judged.
    Evaluated,
    /// Bias policies were judged.
    BiasJudged,
    /// People decided.
    Decided,
    /// Gates or approvals are open again.
    Candidate,
    /// Refused by a gate, a bias policy or a person.
    Rejected,
    /// Approved by all that had to.
    Approved,
    /// A Rollout delivers it.
    RollingOut,
    /// It serves.
    Live,
    /// Another version serves instead.
    Superseded,
    /// A Rollout brought it and took it back.
    RolledBack,
    /// The chain takes no more entries.
    Full,
}

impl LineageType {
    /// The state that the version has from this entry on, if it tells of one.
    #[must_use]
    pub const fn state(self) -> Option<VersionState> {
        match self {
            Self::Candidate => Some(VersionState::Candidate),
            Self::Rejected => Some(VersionState::Rejected),
            Self::Approved => Some(VersionState::Approved),
            Self::RollingOut => Some(VersionState::RollingOut),
            Self::Live => Some(VersionState::Live),
            Self::Superseded => Some(VersionState::Superseded),
            Self::RolledBack => Some(VersionState::RolledBack),
            Self::Registered | Self::Rebuilt | Self::Evaluated | Self::BiasJudged | Self::Decided | Self::Full => None,
        }
    }
}

impl From<VersionState> for LineageType {
    fn from(state: VersionState) -> Self {
        match state {
            VersionState::Candidate => Self::Candidate,
            VersionState::Rejected => Self::Rejected,
            VersionState::Approved => Self::Approved,
            VersionState::RollingOut => Self::RollingOut,
            VersionState::Live => Self::Live,
            VersionState::Superseded => Self::Superseded,
            VersionState::RolledBack => Self::RolledBack,
        }
    }
}

/// An object that an entry came of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LineageSubject {
    /// Kind of the object, such as `FlywheelRun`, `Rollout` or `Approval`.
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// Name of the object, in the same namespace.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// UID of the object.
    #[schemars(length(max = 64))]
    pub uid: String,
}

/// Reference to a ModelVersion. A name is enough; the operator and the plugin also write down which one they meant and
/// how far its lineage had come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VersionRef {
    /// Name of the ModelVersion, in the same namespace.
    #[schemars(length(min = 1, max = 253), regex(pattern = pattern::SUBDOMAIN))]
    pub name: String,
    /// UID of the ModelVersion, so that a namesake made later is not meant; any of that name if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub uid: Option<String>,
    /// Head of its lineage when the reference was made.
    /// `kubectl flywheel lineage verify` holds the chain against it: one that was cut or rewritten since is found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<LineageHead>,
}

/// Digest of the first entry that the chain ever had, as the annotation tells it.
#[must_use]
pub fn mark(version: &crate::ModelVersion) -> Option<&str> {
    let annotations = version.metadata.annotations.as_ref()?;
    annotations.get(ANNOTATION_LINEAGE).map(String::as_str)
}

impl VersionRef {
    /// A reference to whichever version has that name.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ..Self::default()
        }
    }

    /// A reference to exactly this version, with the head of its lineage once a mark outlives its status: another chain
    /// could be begun before, should the status be lost.
    #[must_use]
    pub fn of(version: &crate::ModelVersion) -> Self {
        let status = version.status.as_ref().filter(|_| mark(version).is_some());
        let lineage = status.and_then(|s| s.lineage.as_ref());
        Self {
            name: version.metadata.name.clone().unwrap_or_default(),
            uid: version.metadata.uid.clone(),
            head: lineage.map(|l| l.head.clone()),
        }
    }

    /// Whether this version is meant.
    #[must_use]
    pub fn means(&self, version: &crate::ModelVersion) -> bool {
        version.metadata.name.as_ref() == Some(&self.name)
            && self
                .uid
                .as_ref()
                .is_none_or(|uid| version.metadata.uid.as_ref() == Some(uid))
    }
}
