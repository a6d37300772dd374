//! The steps: a weight is reached, held while its demands are met one after the other, and left.

use std::ops::ControlFlow;

use flywheel_api::RolloutStatus;
use flywheel_api::rollout::{BaselineCapacity, RolloutDesiredState, RolloutPhase, Step, StepStatus};
use flywheel_api::schema::{Digest, Duration};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::approve::{self, Gate};
use super::check::{self, Failing};
use super::draft::{Draft, Why, later};
use super::facts::{Carried, Twin, is_paused, ready, replicas};
use super::query::since;
use super::reach::{reach, underway};
use super::{back, candidate, pending, promote};
use crate::binding;
use crate::decision::Decision;
use crate::standing::{Kind, Standing};

/// What is waited for at a step: the reason in the step's status, and the sentence.
pub(super) struct Hold {
    pub(super) reason: String,
    pub(super) standing: Standing,
}

impl Hold {
    fn waiting(reason: &str, message: String) -> Self {
        Self {
            reason: reason.to_owned(),
            standing: Standing::new(Kind::Waiting, reason, message),
        }
    }
}

/// What to do while the version gets its share step by step.
pub(super) fn decide(mut draft: Draft<'_>) -> Decision<RolloutStatus> {
    let Some(target) = draft.target() else {
        let why = back::target_gone(&draft);
        return back::begin(draft, &why);
    };
    if let Some(why) = back::wished(&draft) {
        return back::begin(draft, &why);
    }
    check::take(&mut draft);
    let failing = check::failing(&draft);
    if let Some(Failing::RollBack(why)) = &failing {
        return back::begin(draft, why);
    }
    if let Some(name) = rival(&draft) {
        return pending::step_back(draft, name);
    }
    if let Carried::Foreign(live) = draft.carried(target)
        && draft.is_adopted(live.as_deref())
    {
        return adopt(draft, live);
    }
    let Some((index, step)) = current(&draft) else {
        promote::enter(&mut draft);
        return draft.rest(Standing::new(Kind::Working, "Promoting", "All steps are done."));
    };
    if let Some(hold) = obstacle(&draft, target) {
        return stay(draft, step, hold);
    }
    let hash = binding::template_hash(target, &draft.plan().binding);
    if draft.status.template_hash.as_ref() != Some(&hash) {
        return restart(draft, hash);
    }
    if draft.status.phase == RolloutPhase::Holding {
        return hold(draft, target, index, step, failing);
    }
    let wanted = candidate::weights(draft.plan(), step.weight, full(&draft, target));
    match reach(draft, target, &wanted) {
        ControlFlow::Break(decision) => decision,
        ControlFlow::Continue(draft) => reached(draft, target, index, step),
    }
}

fn current<'a>(draft: &Draft<'a>) -> Option<(i32, &'a Step)> {
    let index = draft.status.step.as_ref().map_or(0, |s| s.index);
    let step = usize::try_from(index)
        .ok()
        .and_then(|i| draft.plan().strategy.steps.get(i))?;
    Some((index, step))
}

/// Replicas with which the target serves alone.
pub(super) fn full(draft: &Draft<'_>, target: &Deployment) -> i32 {
    match draft.plan().capacity.baseline {
        BaselineCapacity::Keep => replicas(target),
        // The plan itself changes the target's replicas: only the recorded ones say how many it had.
        BaselineCapacity::ShrinkWithWeight => draft.status.baseline_replicas.unwrap_or_else(|| replicas(target)),
    }
}

/// The Rollout that got the target first, as long as this one has done nothing.
pub(super) fn rival(draft: &Draft<'_>) -> Option<String> {
    let made = draft
        .status
        .candidate_deployment
        .as_ref()
        .is_some_and(|c| c.uid.is_some());
    if made || matches!(draft.twin(), Twin::Ours(_)) {
        return None;
    }
    if let Twin::Rival(name) = draft.twin() {
        return Some(name);
    }
    if draft.target().is_some_and(|t| draft.has_taken(t)) {
        return None;
    }
    let others = draft.o.others.iter();
    let first = others
        .filter(|p| p.phase.holds_target() && draft.is_older(p))
        .min_by_key(|p| p.created);
    // That the target carried the version once says that something was done.
    let meanwhile = || draft.went_back_meanwhile().filter(|_| !back::took_over(draft));
    first.or_else(meanwhile).map(|p| p.name.clone())
}

/// What keeps the Rollout from going forward, though never from going back.
pub(super) fn obstacle(draft: &Draft<'_>, target: &Deployment) -> Option<Hold> {
    match draft.carried(target) {
        Carried::Foreign(_) => return Some(Hold::waiting("Drifted", draft.drift(target).message)),
        Carried::Unreadable(error) => {
            let standing = Standing::new(Kind::Stalled, error.reason(), format!("{error}."));
            let reason = error.reason().to_owned();
            return Some(Hold { reason, standing });
        }
        Carried::Baseline | Carried::Candidate => {}
    }
    let named = |reason: &str| {
        let reason = reason.to_owned();
        move |standing| Hold { reason, standing }
    };
    if let Some(standing) = pending::braked(draft) {
        return Some(named("Brake")(standing));
    }
    if let Some(standing) = pending::blind(draft) {
        return Some(named("PipelineUnreadable")(standing));
    }
    if let Some(standing) = pending::held(draft) {
        return Some(named("ManualHold")(standing));
    }
    if is_paused(target) {
        return Some(named("TargetPaused")(pending::paused(draft)));
    }
    if full(draft, target) == 0 {
        let name = &draft.plan().target_ref.name;
        let message = format!("Deployment {name} was scaled to zero: the Rollout goes on when it has replicas again.");
        return Some(Hold::waiting("TargetScaledToZero", message));
    }
    None
}

/// Waits at the step, at most for its longest time. Time spent waiting is no progress that could be overdue.
pub(super) fn stay(mut draft: Draft<'_>, step: &Step, hold: Hold) -> Decision<RolloutStatus> {
    let longest = step.max_duration.as_ref().and_then(Duration::seconds);
    if let (Some(entered), Some(longest)) = (since(&draft.status), longest) {
        let end = later(entered, longest);
        if end.is_some_and(|e| e <= draft.o.now) {
            let message = format!(
                "Step {} could not be left within {longest} s (maxDuration in spec.plan): {}",
                step.name, hold.standing.message
            );
            return back::begin(draft, &Why::new("MaxDurationExceeded", message));
        }
        draft.wake(end);
    }
    draft.status.progress_since = None;
    if hold.reason != "AwaitingApproval" {
        draft.status.waiting_for = None;
    }
    draft.hold(&hold.reason);
    check::wake(&mut draft);
    draft.rest(hold.standing)
}

/// Takes the drifted value as the new baseline, as a person asked.
pub(super) fn adopt(mut draft: Draft<'_>, live: Option<String>) -> Decision<RolloutStatus> {
    let shown = live.clone().unwrap_or_else(|| "no value".to_owned());
    draft.status.baseline = Some(draft.side(live));
    draft.clear_hold();
    let why = Why::new(
        "Adopted",
        format!("The new baseline is {shown}, as asked by annotation."),
    );
    draft.remember("Adopt", &why, None, false);
    draft.rest(Standing::new(Kind::Working, why.reason, why.message))
}

/// The target's owner changed it: what was learned about the old template counts no more.
pub(super) fn restart(mut draft: Draft<'_>, hash: String) -> Decision<RolloutStatus> {
    let first = draft.plan().strategy.steps.first().map(|s| s.name.clone());
    draft.status.template_hash = Some(hash);
    draft.status.step = Some(StepStatus {
        name: first.unwrap_or_default(),
        ..StepStatus::default()
    });
    if draft.status.phase != RolloutPhase::Preparing {
        draft.status.phase = RolloutPhase::Progressing;
    }
    if let Some(reference) = &mut draft.status.candidate_deployment {
        reference.uid = None;
    }
    draft.status.checks.clear();
    draft.status.waiting_for = None;
    draft.status.progress_since = draft.now();
    let message = "The target's pod template changed: the candidate is made anew and the steps begin again.";
    let why = Why::new("TemplateChanged", message);
    draft.remember("Restart", &why, None, true);
    draft.rest(Standing::new(Kind::Working, why.reason, why.message))
}

/// The weight is there: the time of the step begins, unless it began before. A step that asks for nothing more is over.
fn reached(mut draft: Draft<'_>, target: &Deployment, index: i32, step: &Step) -> Decision<RolloutStatus> {
    draft.status.phase = RolloutPhase::Holding;
    draft.status.progress_since = None;
    let now = Time(draft.o.now);
    if let Some(status) = &mut draft.status.step {
        status.entered_at.get_or_insert(now);
    }
    if let Some(weights) = &mut draft.status.weights {
        weights.actual = candidate::share(weights.candidate_replicas, ready(target));
    }
    let actual = draft.status.weights.as_ref().map_or(0, |w| w.actual);
    let message = format!(
        "Step {} is reached: the candidate gets {actual} % ({} % asked).",
        step.name, step.weight
    );
    if step.min_duration.is_none() && !check::any(&draft) && approve::asked(&draft, step).is_none() {
        return leave(draft, target, index, step, None);
    }
    draft.tell(&Why::new("StepReached", message.clone()), false);
    draft.rest(Standing::new(Kind::Working, "StepReached", message))
}

fn hold(
    mut draft: Draft<'_>,
    target: &Deployment,
    index: i32,
    step: &Step,
    failing: Option<Failing>,
) -> Decision<RolloutStatus> {
    if let Some(message) = lost_weight(&mut draft, target, step) {
        draft.status.phase = RolloutPhase::Progressing;
        draft.status.progress_since = draft.now();
        draft.clear_hold();
        return draft.rest(Standing::new(Kind::Working, "WaitingForPods", message));
    }
    if let Some(Failing::Hold(why)) = failing {
        let hold = Hold::waiting(why.reason, why.message);
        return stay(draft, step, hold);
    }
    if let Some(message) = check::open(&draft) {
        return stay(draft, step, Hold::waiting("Inconclusive", message));
    }
    let hurried = draft.o.rollout.spec.desired_state == RolloutDesiredState::Promote;
    let shortest = step.min_duration.as_ref().and_then(Duration::seconds);
    let end = since(&draft.status).zip(shortest).and_then(|(e, s)| later(e, s));
    if let Some(end) = end.filter(|end| *end > draft.o.now && !hurried) {
        draft.wake(Some(end));
        let message = format!("Stays at step {} until {end}.", step.name);
        return stay(draft, step, Hold::waiting("MinDuration", message));
    }
    match approve::gate(&mut draft, step) {
        Gate::Rejected(why) => back::begin(draft, &why),
        Gate::Shut(standing) => {
            let reason = "AwaitingApproval".to_owned();
            stay(draft, step, Hold { reason, standing })
        }
        Gate::Open(digest) => leave(draft, target, index, step, digest),
    }
}

/// Whether the weight must be reached again: the target was scaled, or pods of the candidate are missing.
fn lost_weight(draft: &mut Draft<'_>, target: &Deployment, step: &Step) -> Option<String> {
    let wanted = candidate::weights(draft.plan(), step.weight, full(draft, target));
    let weights = draft.status.weights.get_or_insert_default();
    if weights.candidate_replicas != wanted.candidate_replicas {
        return Some("The target was scaled: the step's weight is reached anew.".to_owned());
    }
    if weights.baseline_replicas != wanted.baseline_replicas {
        weights.baseline_replicas = wanted.baseline_replicas;
        weights.actual = candidate::share(wanted.candidate_replicas, wanted.baseline_replicas);
    }
    let whole = matches!(draft.twin(), Twin::Ours(c) if candidate::is_ready(c, wanted.candidate_replicas));
    (!whole).then(|| "Pods of the candidate are missing: the step's weight is reached anew.".to_owned())
}

fn leave(
    mut draft: Draft<'_>,
    target: &Deployment,
    index: i32,
    step: &Step,
    digest: Option<Digest>,
) -> Decision<RolloutStatus> {
    draft.clear_hold();
    let next = usize::try_from(index + 1)
        .ok()
        .and_then(|i| draft.plan().strategy.steps.get(i));
    let message = match next {
        Some(next) => {
            draft.status.phase = RolloutPhase::Progressing;
            draft.status.progress_since = draft.now();
            draft.status.step = Some(StepStatus {
                index: index + 1,
                name: next.name.clone(),
                ..StepStatus::default()
            });
            let wanted = candidate::weights(draft.plan(), next.weight, full(&draft, target));
            draft.head_for(&wanted);
            format!("Leaves step {} for step {} at {} %.", step.name, next.name, next.weight)
        }
        None => {
            promote::enter(&mut draft);
            let wanted = promote::weights(&draft, target);
            draft.head_for(&wanted);
            format!("Leaves step {}, the last one, for full weight.", step.name)
        }
    };
    let why = Why::new("StepPassed", message);
    let decision = if next.is_some() { "NextStep" } else { "Promote" };
    draft.remember(decision, &why, digest, false);
    let standing = underway(&draft);
    draft.rest(standing)
}
