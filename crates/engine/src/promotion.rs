//! Whether a judged version may be delivered: gates, bias policies and the level taken together.

use flywheel_api::gate::GateSpec;
use flywheel_api::reference::{AutomationLevel, BiasVerdict, GateVerdict};
use serde::{Deserialize, Serialize};

/// What follows from all verdicts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Assessment {
    /// The machine may deliver the version.
    Proceed(Sentence),
    /// A person must decide.
    AskPerson(Sentence),
    /// The version is rejected.
    Refuse(Sentence),
}

/// A reason for machines and a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sentence {
    /// UpperCamelCase reason.
    pub reason: String,
    /// One sentence with the numbers.
    pub message: String,
}

/// What the verdicts mean at this level; `first` tells that there is no live version yet.
#[must_use]
pub fn assess(
    gates: &[GateSpec],
    verdicts: &[GateVerdict],
    bias: &[BiasVerdict],
    level: AutomationLevel,
    first: bool,
) -> Assessment {
    let _ = (gates, verdicts, bias, level, first);
    Assessment::AskPerson(Sentence { reason: "Unjudged".to_owned(), message: "Nothing was judged.".to_owned() })
}
