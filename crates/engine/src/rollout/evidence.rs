//! The evidence of a step: what a person sees and approves. No timestamps and no live values, so that it only changes
//! when what it says changes.

use flywheel_api::reference::{AutomationLevel, Verdict};
use flywheel_api::rollout::{CheckSpec, Side};
use flywheel_api::schema::Digest;
use serde::Serialize;

use super::draft::Draft;
use crate::evidence::{Frozen, freeze};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StepEvidence<'a> {
    subject: &'a str,
    step: StepName<'a>,
    weight: i32,
    candidate: Option<&'a Side>,
    baseline: Option<&'a Side>,
    plan: Digest,
    /// Hash of the target's pod template that the candidate is a copy of.
    template: Option<&'a str>,
    checks: Vec<CheckVerdict<'a>>,
    level: Option<AutomationLevel>,
}

#[derive(Serialize)]
struct StepName<'a> {
    index: i32,
    name: &'a str,
}

#[derive(Serialize)]
struct CheckVerdict<'a> {
    name: &'a str,
    verdict: Option<Verdict>,
}

/// The evidence on which the current step may be left; nothing outside of a step.
pub(super) fn of_step(draft: &Draft<'_>, checks: &[&CheckSpec]) -> Option<Frozen> {
    let status = &draft.status;
    let step = status.step.as_ref()?;
    let said = |check: &&CheckSpec| status.checks.iter().find(|s| s.name == check.name).map(|s| s.verdict);
    freeze(&StepEvidence {
        subject: draft.uid(),
        step: StepName {
            index: step.index,
            name: &step.name,
        },
        weight: status.weights.as_ref().map_or(0, |w| w.asked),
        candidate: status.candidate.as_ref(),
        baseline: status.baseline.as_ref(),
        plan: freeze(draft.plan()).ok()?.digest,
        template: status.template_hash.as_deref(),
        checks: checks
            .iter()
            .map(|check| CheckVerdict {
                name: &check.name,
                verdict: said(check),
            })
            .collect(),
        level: draft.level(),
    })
    .ok()
}

/// Digest of a drifted value: what the annotation `flywheel.dev/adopt` must carry to take it as the new baseline.
#[must_use]
pub fn adoption_digest(value: Option<&str>) -> Digest {
    freeze(&value).map(|f| f.digest).unwrap_or_default()
}
