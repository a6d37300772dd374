//! Before the beginning: references are resolved, others go first, and what serves is recorded.

use flywheel_api::flywheel_run::JobRef;
use flywheel_api::names;
use flywheel_api::rollout::{BindingType, RolloutDesiredState, RolloutPhase, StepStatus, Weights};
use flywheel_api::{ModelVersion, RolloutStatus};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::draft::{BEGIN, Draft, Why};
use super::facts::{Twin, is_paused, replicas};
use super::observation::PipelineFacts;
use super::{candidate, done, lost, promote};
use crate::binding;
use crate::decision::Decision;
use crate::standing::{self, Kind, Standing};

/// What to do before the beginning.
pub(super) fn decide(draft: Draft<'_>) -> Decision<RolloutStatus> {
    let mut draft = match lost::decide(draft) {
        Ok(decision) => return decision,
        Err(draft) => *draft,
    };
    if draft.is_deleting() {
        return done::let_go(draft);
    }
    if let Some(why) = plan_error(&draft) {
        return draft.end(RolloutPhase::Failed, &why);
    }
    if let Some(why) = unwanted(&draft) {
        return draft.end(RolloutPhase::Aborted, &why);
    }
    if let Some(why) = outdated(&draft) {
        return draft.end(RolloutPhase::Superseded, &why);
    }
    let (target, wanted, live) = match references(&draft) {
        Ok(found) => found,
        Err(why) => return missing(draft, &why),
    };
    draft.status.missing_since = None;
    if let Some(name) = goes_first(&draft) {
        return queue(draft, name);
    }
    draft.status.phase = RolloutPhase::Pending;
    draft.status.queued_behind.clear();
    if let Some(standing) = stopped(&draft) {
        return draft.rest(standing);
    }
    if live.as_ref() == Some(&wanted) {
        return already_live(draft, target, wanted);
    }
    if !draft.is_left_behind(target, live.as_deref()) && !draft.is_adopted(live.as_deref()) {
        let why = draft.drift(target);
        return draft.rest(Standing::new(Kind::Waiting, why.reason, why.message));
    }
    if is_paused(target) {
        let standing = paused(&draft);
        return draft.rest(standing);
    }
    begin(draft, target, wanted, live)
}

/// A plan that can never be carried out.
pub(super) fn plan_error(draft: &Draft<'_>) -> Option<Why> {
    let steps = &draft.plan().strategy.steps;
    let pair = steps
        .iter()
        .zip(steps.iter().skip(1))
        .find(|(a, b)| a.weight >= b.weight)?;
    let message = format!(
        "Step {} asks for {} % after step {} with {} %: create a Rollout whose steps stand by increasing weight.",
        pair.1.name, pair.1.weight, pair.0.name, pair.0.weight
    );
    Some(Why::new("StepsNotIncreasing", message))
}

/// The user or the pipeline does not want it any more.
fn unwanted(draft: &Draft<'_>) -> Option<Why> {
    draft
        .pipeline_gone()
        .or_else(|| match draft.o.rollout.spec.desired_state {
            RolloutDesiredState::Abort => Some(Why::new(
                "AbortRequested",
                "Aborted before it began, as spec.desiredState asks.",
            )),
            RolloutDesiredState::RollBack => Some(Why::new(
                "RollBackRequested",
                "Aborted before it began, as spec.desiredState asks.",
            )),
            _ => None,
        })
}

/// A Rollout that was created later already delivered its version: this one would go back in time.
pub(super) fn outdated(draft: &Draft<'_>) -> Option<Why> {
    let peer = draft.o.others.iter().find(|p| {
        let delivered = p.phase.is_delivered();
        delivered && p.baseline.is_some() && p.created > super::observation::created(&draft.o.rollout)
    })?;
    let message = format!(
        "Rollout {}, which was created later, already delivered its version.",
        peer.name
    );
    Some(Why::new("NewerVersionDelivered", message))
}

/// The target, the value that the binding gets, and the value that it has.
fn references<'a>(draft: &Draft<'a>) -> Result<(&'a Deployment, String, Option<String>), Why> {
    let plan = draft.plan();
    let version = version(draft)?;
    let Some(target) = draft.target() else {
        let message = format!(
            "spec.plan.targetRef names Deployment {}, which does not exist: create it, or abort this Rollout.",
            plan.target_ref.name
        );
        return Err(Why::new("TargetNotFound", message));
    };
    let live = binding::value(target, &plan.binding).map_err(|e| Why::new(e.reason(), format!("{e}.")))?;
    selector(target)?;
    if matches!(draft.twin(), Twin::Stranger) {
        let name = candidate::name(plan);
        let message =
            format!("Deployment {name} exists and is not Flywheel's: rename it, its name is the candidate's.");
        return Err(Why::new("CandidateNameTaken", message));
    }
    Ok((target, binding::wanted(&plan.binding, &version.spec), live))
}

fn version<'a>(draft: &Draft<'a>) -> Result<&'a ModelVersion, Why> {
    let name = &draft.o.rollout.spec.model_version_ref.name;
    let Some(version) = &*draft.o.version else {
        let message = format!(
            "spec.modelVersionRef names ModelVersion {name}, which does not exist: create it, or abort this Rollout."
        );
        return Err(Why::new("VersionNotFound", message));
    };
    let reference = &draft.o.rollout.spec.model_version_ref;
    if !reference.means(version) {
        let message = format!(
            "spec.modelVersionRef.uid names ModelVersion {name} with UID {}, but the one of that name has UID {}: it was deleted and \
             made anew; create another Rollout for it, or abort this one.",
            reference.uid.as_deref().unwrap_or_default(),
            version.metadata.uid.as_deref().unwrap_or_default()
        );
        return Err(Why::new("VersionReplaced", message));
    }
    let uri = version.spec.artifact.uri.as_str();
    if draft.plan().binding.type_ == BindingType::DeploymentImage && !uri.starts_with("oci://") {
        let message = format!(
            "spec.modelVersionRef names ModelVersion {name}, which lies at {uri} and is no image: spec.plan.binding.type DeploymentImage needs an oci:// URI."
        );
        return Err(Why::new("ArtifactNotAnImage", message));
    }
    Ok(version)
}

/// The candidate's pods must be told from the target's by labels, and must be found by the target's Service.
fn selector(target: &Deployment) -> Result<(), Why> {
    let name = target.metadata.name.as_deref().unwrap_or_default();
    let spec = target.spec.clone().unwrap_or_default();
    let selected = spec.selector.match_labels.unwrap_or_default();
    let labels = spec.template.metadata.and_then(|m| m.labels).unwrap_or_default();
    if let Some((key, value)) = selected.iter().find(|(k, v)| labels.get(*k) != Some(*v)) {
        let message = format!("Deployment {name} selects {key}={value}, but its pods lack that label: add it.");
        return Err(Why::new("SelectorMismatch", message));
    }
    if labels.contains_key(names::LABEL_ROLE) {
        let message = format!("Deployment {name} is the candidate of another target: name that target instead.");
        return Err(Why::new("TargetIsCandidate", message));
    }
    Ok(())
}

fn missing(mut draft: Draft<'_>, why: &Why) -> Decision<RolloutStatus> {
    draft.status.phase = RolloutPhase::Pending;
    draft.status.queued_behind.clear();
    let (stored, now) = (draft.status.missing_since.as_ref(), draft.o.now);
    let since = standing::missing_since(stored, &draft.status.conditions, why.reason, now);
    draft.status.missing_since = Some(Time(since));
    let message = format!("{} (Since {since}.)", why.message);
    let (standing, until) = standing::awaited(since, now, why.reason, message);
    draft.wake(until);
    draft.rest(standing)
}

/// The Rollout that has the target, or gets it first.
fn goes_first(draft: &Draft<'_>) -> Option<String> {
    match draft.twin() {
        Twin::Rival(name) => Some(name),
        _ => draft.ahead().map(|p| p.name.clone()),
    }
}

/// Waits behind another Rollout.
fn queue(mut draft: Draft<'_>, name: String) -> Decision<RolloutStatus> {
    let message = format!("Waits for Rollout {name}, which goes first on this target.");
    draft.status.phase = RolloutPhase::Queued;
    draft.status.queued_behind = name;
    draft.rest(Standing::new(Kind::Waiting, "Queued", message))
}

/// Gives the target up to another Rollout that got it first: nothing was done yet.
pub(super) fn step_back(mut draft: Draft<'_>, name: String) -> Decision<RolloutStatus> {
    let message = format!("Rollout {name} got the target first.");
    draft.remember("Queue", &Why::new("TargetTaken", message), None, false);
    draft.status = RolloutStatus {
        decisions: std::mem::take(&mut draft.status.decisions),
        conditions: std::mem::take(&mut draft.status.conditions),
        ..RolloutStatus::default()
    };
    queue(draft, name)
}

/// What keeps the Rollout from beginning though it could.
fn stopped(draft: &Draft<'_>) -> Option<Standing> {
    braked(draft).or_else(|| blind(draft)).or_else(|| held(draft))
}

/// The administrator's brake.
pub(super) fn braked(draft: &Draft<'_>) -> Option<Standing> {
    let brake = &draft.o.settings.brake;
    let message = format!(
        "The administrator's brake stops every forward decision: {}",
        brake.reason
    );
    brake.engaged.then(|| Standing::new(Kind::Braked, "Braked", message))
}

/// A pipeline whose level and rules nobody knows, because it cannot be read. That it can may be known late.
pub(super) fn blind(draft: &Draft<'_>) -> Option<Standing> {
    let unreadable = |pipeline: &Option<PipelineFacts>| pipeline.as_ref().is_some_and(|p| p.unreadable);
    if !unreadable(draft.o.pipeline.peek()) || !unreadable(&draft.o.pipeline) {
        return None;
    }
    let name = draft.o.rollout.spec.pipeline_ref.as_ref().map_or("", |p| &*p.name);
    let message = format!(
        "FlywheelPipeline {name} (spec.pipelineRef) cannot be read by this version of the operator, so nobody knows its level and its rules: its condition Ready says why. Going back needs neither."
    );
    Some(Standing::new(Kind::Stalled, "PipelineUnreadable", message))
}

/// The user's hold.
pub(super) fn held(draft: &Draft<'_>) -> Option<Standing> {
    let spec = &draft.o.rollout.spec;
    let message = format!("Holds, as spec.desiredState asks: {}", spec.hold_reason);
    let holds = spec.desired_state == RolloutDesiredState::Hold;
    holds.then(|| Standing::new(Kind::Waiting, "ManualHold", message))
}

/// The target takes no new pods.
pub(super) fn paused(draft: &Draft<'_>) -> Standing {
    let name = &draft.plan().target_ref.name;
    let message = format!("Deployment {name} is paused: run `kubectl rollout resume deployment {name}`.");
    Standing::new(Kind::Waiting, "TargetPaused", message)
}

/// It serves already: there is nothing to do, and nothing to go back to.
pub(super) fn already_live(mut draft: Draft<'_>, target: &Deployment, wanted: String) -> Decision<RolloutStatus> {
    draft.status.target_uid = target.metadata.uid.clone();
    draft.status.candidate = Some(draft.ours(wanted));
    draft.status.promoted_at = draft.now();
    let why = Why::new(
        "AlreadyLive",
        "The target carries the version already; nothing was written.",
    );
    draft.end(RolloutPhase::Promoted, &why)
}

/// Records what serves and what is to come: from here on the target is held.
fn begin(mut draft: Draft<'_>, target: &Deployment, wanted: String, live: Option<String>) -> Decision<RolloutStatus> {
    let plan = draft.plan();
    let full = replicas(target);
    let shown = live.clone().unwrap_or_else(|| "no value".to_owned());
    draft.status.target_uid = target.metadata.uid.clone();
    draft.status.candidate = Some(draft.ours(wanted));
    draft.status.baseline = Some(draft.side(live));
    draft.status.baseline_replicas = Some(full);
    draft.status.template_hash = Some(binding::template_hash(target, &plan.binding));
    draft.status.progress_since = draft.now();
    let message = match plan.strategy.steps.first() {
        Some(step) if full > 0 => {
            draft.status.phase = RolloutPhase::Preparing;
            draft.status.candidate_deployment = Some(JobRef {
                name: candidate::name(plan),
                uid: None,
            });
            draft.status.weights = Some(candidate::weights(plan, step.weight, full));
            draft.status.step = Some(StepStatus {
                name: step.name.clone(),
                ..StepStatus::default()
            });
            format!(
                "Begins with step {} at {} %; the baseline is {shown}.",
                step.name, step.weight
            )
        }
        first => {
            promote::enter(&mut draft);
            draft.status.weights = Some(Weights {
                asked: 100,
                baseline_replicas: full,
                ..Weights::default()
            });
            let why = if first.is_some() {
                "the target has no replicas"
            } else {
                "the plan has no steps"
            };
            format!("Promotes at once, because {why}; the baseline is {shown}.")
        }
    };
    let why = Why::new("Begun", message);
    draft.remember(BEGIN, &why, None, false);
    let standing = Standing::new(Kind::Working, draft.status.phase.name(), why.message);
    draft.rest(standing)
}
