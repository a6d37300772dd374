//! What a check of lineage says: findings, which nothing honest explains, and notices, which a reader should know.

use serde::Serialize;

/// Something that no honest history explains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Defect {
    /// The operator has looked at the version, and it has no lineage.
    Missing,
    /// The first entry is bound to another object.
    ForeignChain,
    /// The chain does not begin with a first entry, or has a second one.
    WrongBeginning,
    /// The first entry is not the one that the annotation tells of.
    OtherBeginning,
    /// The places of two neighbours are not consecutive.
    WrongIndex,
    /// An entry is not bound to the one before it.
    BrokenLink,
    /// The content of an entry does not give its digest.
    EditedEntry,
    /// The head tells another number of entries.
    WrongLength,
    /// The head tells another last digest.
    WrongHead,
    /// Spec or status say something else than the entry that tells of them.
    OtherFacts,
    /// Somebody knows a longer chain: entries were cut off, or an older state was put back.
    CutOff,
    /// Somebody knows another entry at that place: the chain was rewritten, or there are two of them.
    Forked,
}

/// A defect with its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which defect.
    pub defect: Defect,
    /// The field that is wrong.
    pub field: String,
    /// One sentence: what was found, and what would be right.
    pub message: String,
}

/// Something that happens to honest versions too, but that a reader should know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Remark {
    /// Nobody has looked at the version yet.
    NotBegun,
    /// The status had been lost: what was before is not known.
    Rebuilt,
    /// A reference means an earlier version of the same name.
    Namesake,
    /// The chain takes no more entries.
    Full,
}

/// A remark with its sentence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Notice {
    /// Which remark.
    pub remark: Remark,
    /// One sentence.
    pub message: String,
}

impl Finding {
    /// A finding about a field: what stands there, and what would be right.
    #[must_use]
    pub fn new(defect: Defect, field: impl Into<String>, found: &str, right: &str) -> Self {
        let field = field.into();
        Self {
            defect,
            message: format!("{field}: found {found}, but {right}"),
            field,
        }
    }
}

impl Notice {
    /// A notice with its sentence.
    #[must_use]
    pub fn new(remark: Remark, message: impl Into<String>) -> Self {
        Self {
            remark,
            message: message.into(),
        }
    }
}
