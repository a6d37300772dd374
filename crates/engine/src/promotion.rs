//! Whether a judged version may be delivered: gates, bias policies and the level taken together.

use flywheel_api::gate::{CompareTo, GateSpec, OnMissing};
use flywheel_api::reference::{AutomationLevel, BiasVerdict, Enforcement, GateVerdict, Verdict};
use serde::{Deserialize, Serialize};

use crate::level::{Step, Who, who};

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

impl Sentence {
    fn new(reason: &str, message: impl Into<String>) -> Self {
        Self {
            reason: reason.to_owned(),
            message: message.into(),
        }
    }
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
    let mut ask = None;
    for gate in gates.iter().filter(|g| !g.dry_run) {
        match gate_says(gate, verdicts.iter().find(|v| v.gate == gate.name)) {
            Some(Assessment::Refuse(s)) => return Assessment::Refuse(s),
            Some(Assessment::AskPerson(s)) => ask = ask.or(Some(s)),
            Some(Assessment::Proceed(_)) | None => {}
        }
    }
    let blocking = bias.iter().filter(|v| v.enforcement == Enforcement::Block);
    // The worst verdict is the reason: a breach says more than a missing group.
    if let Some(sentence) = blocking.max_by_key(|v| v.verdict).and_then(bias_says) {
        return Assessment::Refuse(sentence);
    }
    if let Some(sentence) = ask {
        return Assessment::AskPerson(sentence);
    }
    let constant_passed = gates.iter().any(|g| {
        g.compare_to == CompareTo::Constant
            && !g.dry_run
            && verdicts.iter().any(|v| v.gate == g.name && v.verdict == Verdict::Pass)
    });
    if first && !constant_passed {
        let message =
            "The first version has nothing to be compared with, and no gate with constants passed: a person decides.";
        return Assessment::AskPerson(Sentence::new("FirstVersion", message));
    }
    let passed = verdicts
        .iter()
        .filter(|v| v.verdict == Verdict::Pass && !v.dry_run)
        .count();
    match who(level, Step::Promote) {
        Who::Machine => Assessment::Proceed(Sentence::new(
            "GatesPassed",
            format!("{passed} gates and all bias policies passed."),
        )),
        Who::Person | Who::OnRequest => Assessment::AskPerson(Sentence::new(
            "LevelAsksForApproval",
            format!(
                "{passed} gates and all bias policies passed; at level {} a person decides on the delivery.",
                level.name()
            ),
        )),
    }
}

/// Nothing if the policy lets the version pass.
fn bias_says(found: &BiasVerdict) -> Option<Sentence> {
    match found.verdict {
        Verdict::Pass | Verdict::NotApplicable => None,
        Verdict::Inconclusive => Some(Sentence::new("BiasInconclusive", &*found.message)),
        Verdict::Fail => Some(Sentence::new("BiasFail", &*found.message)),
        Verdict::Error => Some(Sentence::new("BiasError", &*found.message)),
    }
}

/// Nothing if the gate lets the version pass.
fn gate_says(gate: &GateSpec, verdict: Option<&GateVerdict>) -> Option<Assessment> {
    let Some(found) = verdict else {
        let message = format!("Gate {} was not judged.", gate.name);
        return Some(Assessment::Refuse(Sentence::new("GateUnjudged", message)));
    };
    let sentence = match found.verdict {
        Verdict::Pass | Verdict::NotApplicable => return None,
        Verdict::Fail => return Some(Assessment::Refuse(Sentence::new("GateFailed", &*found.message))),
        Verdict::Inconclusive => Sentence::new("GateInconclusive", &*found.message),
        Verdict::Error => Sentence::new("GateError", &*found.message),
    };
    Some(match gate.on_missing {
        OnMissing::Fail => Assessment::Refuse(sentence),
        OnMissing::Hold => Assessment::AskPerson(sentence),
    })
}
