//! Who lets a step be left: the machine, or people by Approvals of the frozen evidence.

use flywheel_api::reference::{ApprovalGate, SubjectKind, SubjectRef, WaitingFor};
use flywheel_api::rollout::Step;
use flywheel_api::schema::Digest;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::draft::{Draft, Why};
use super::{check, evidence};
use crate::approval::{Demand, Tally, tally};
use crate::evidence::Frozen;
use crate::level::{self, Who, who};
use crate::standing::{Kind, Standing};

/// Approvals that a status keeps.
const KEPT: usize = 32;
/// Names that the wait lists.
const LISTED: usize = 10;

/// Whether a step may be left.
pub(super) enum Gate {
    /// Yes, on this evidence if people decided.
    Open(Option<Digest>),
    /// A person rejected the version.
    Rejected(Why),
    /// A person is waited for.
    Shut(Standing),
}

/// How many people must let the step be left, by itself or by the level in force; nothing if the machine does.
pub(super) fn asked(draft: &Draft<'_>, step: &Step) -> Option<i32> {
    let asked = step.approval.as_ref().map(|a| a.min_approvals);
    let level = draft.level();
    let person = level.is_some_and(|l| who(l, level::Step::NextStep) != Who::Machine);
    asked.or(person.then_some(1))
}

/// Counts the Approvals of this step's evidence, and says what is waited for.
pub(super) fn gate(draft: &mut Draft<'_>, step: &Step) -> Gate {
    let Some(asked) = asked(draft, step) else {
        return Gate::Open(None);
    };
    let rule = draft.o.pipeline.as_ref().and_then(|p| p.step_rule.as_ref());
    // The quorum is live, but what a person was told once is not made easier afterwards.
    let told = draft.status.waiting_for.as_ref().map_or(1, |w| w.needed);
    let needed = asked.max(rule.map_or(1, |r| r.min_approvals)).max(told);
    let excluded = rule
        .filter(|r| r.separation_of_duties)
        .and_then(|_| requested_by(draft));
    let checks = check::blocking(draft);
    let Some(frozen) = evidence::of_step(draft, &checks) else {
        let message = "The evidence of the step cannot be written as JSON; nothing can be approved.";
        return Gate::Shut(Standing::new(Kind::Stalled, "EvidenceUnwritable", message));
    };
    let subject = SubjectRef {
        kind: SubjectKind::Rollout,
        name: draft.name().to_owned(),
        uid: draft.uid().to_owned(),
    };
    let demand = Demand {
        subject: &subject,
        gate: ApprovalGate::RolloutStep,
        digest: &frozen.digest,
        needed,
        excluded,
    };
    let tally = tally(&draft.o.approvals, &demand, draft.o.now);
    if let Some(rejection) = tally.rejected {
        let message = format!("{} rejected the version at step {}.", rejection.approver, step.name);
        return Gate::Rejected(Why::new("Rejected", message));
    }
    if tally.satisfied {
        draft.status.approvals.extend(tally.approved);
        let surplus = draft.status.approvals.len().saturating_sub(KEPT);
        draft.status.approvals.drain(..surplus);
        return Gate::Open(Some(frozen.digest));
    }
    let standing = ask(draft, step, subject, frozen, needed, &tally);
    Gate::Shut(standing)
}

/// The user who asked for the run that made the version.
fn requested_by<'a>(draft: &Draft<'a>) -> Option<&'a str> {
    let provenance = draft.o.version.as_ref()?.spec.provenance.as_ref()?;
    Some(provenance.requested_by.as_str()).filter(|user| !user.is_empty())
}

fn ask(
    draft: &mut Draft<'_>,
    step: &Step,
    subject: SubjectRef,
    frozen: Frozen,
    needed: i32,
    tally: &Tally,
) -> Standing {
    let before = draft.status.waiting_for.take();
    if before.as_ref().is_some_and(|w| w.evidence_digest != frozen.digest) {
        let message = format!(
            "The evidence of step {} changed: earlier Approvals do not count.",
            step.name
        );
        draft.tell(&Why::new("EvidenceChanged", message), true);
    }
    let since = before.map_or(Time(draft.o.now), |w| w.since);
    let resolve = draft.command("approve");
    let message = format!(
        "Step {} waits since {} for {needed} Approvals and has {}: run `{resolve}`.",
        step.name,
        since.0,
        tally.approved.len()
    );
    if is_lowered(draft) {
        let why = Why::new("AwaitingApproval", message.clone());
        draft.remember("AwaitApproval", &why, Some(frozen.digest.clone()), true);
    }
    draft.status.waiting_for = Some(WaitingFor {
        gate: ApprovalGate::RolloutStep,
        subject,
        evidence_digest: frozen.digest,
        evidence: frozen.json,
        since,
        needed,
        approved_by: tally.approved.iter().map(|a| a.name.clone()).take(LISTED).collect(),
        stale: tally.stale.iter().take(LISTED).cloned().collect(),
        resolve,
    });
    Standing::new(Kind::AwaitingPerson, "AwaitingApproval", message)
}

/// Whether the level in force is stricter than at every decision so far. To ask a person because of it is a decision: what
/// was asked once is not withdrawn when the level is raised again.
fn is_lowered(draft: &Draft<'_>) -> bool {
    let decided = draft.status.decisions.iter().filter_map(|d| d.level).min();
    decided.zip(draft.level()).is_some_and(|(before, now)| now < before)
}
