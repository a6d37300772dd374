//! Mistakes in what is seen: the observation is not what the world is.

use flywheel_api::FlywheelRun;
use flywheel_api::approval::ApprovalDecision;
use flywheel_api::model_version::ModelArtifact;
use flywheel_api::reference::{AutomationLevel, WaitingFor};
use flywheel_api::stage::StageType;
use flywheel_api::stage_contract::ArtifactType;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;

use super::Mistake;
use super::sent::uncounted;
use crate::approval::ApprovalView;
use crate::binding;
use crate::pipeline::PipelineObservation;
use crate::rollout::{Reading, RolloutObservation};
use crate::run::{JobState, RunObservation};
use crate::settings::Settings;

/// What is wrong in the observation of a pipeline.
pub fn pipeline(mistake: Mistake, o: &mut PipelineObservation) {
    settings(mistake, &mut o.settings);
    if mistake == Mistake::UnreadableIsAbsent {
        o.unreadable.clear();
    }
}

/// What is wrong in the observation of a run.
pub fn run(mistake: Mistake, o: &mut RunObservation) {
    settings(mistake, &mut o.settings);
    let waiting = o.run.status.as_ref().and_then(|s| s.waiting_for.clone());
    approvals(mistake, &mut o.approvals, waiting.as_ref());
    match mistake {
        Mistake::NextAttemptTooEarly => {
            for job in o.jobs.iter_mut().filter(|j| j.state == JobState::Active && !j.deleting) {
                job.pods.clear();
                job.state = JobState::Failed { reason: String::new() };
            }
        }
        Mistake::FailedGateOpens => {
            let gates = o.snapshot.as_mut().and_then(|s| s.data["gates"].as_array_mut());
            gates.into_iter().flatten().for_each(|g| g["dryRun"] = true.into());
        }
        Mistake::OwnApprovalCounts => {
            let rules = o.pipeline.iter_mut().flat_map(|p| &mut p.spec.approvals);
            rules.for_each(|r| r.separation_of_duties = false);
        }
        Mistake::ResultOfAnyJob => name_jobs(o),
        Mistake::AdoptsForgedVersion => believe_versions(o),
        Mistake::LevelOfTheStart => {
            let known = o.run.status.as_ref().and_then(|s| s.level);
            if let (Some(pipeline), Some(level)) = (&mut *o.pipeline, known) {
                pipeline.spec.automation_level = level;
            }
        }
        Mistake::MissingPolicyPasses => {
            o.policies.missing.clear();
            let found = &o.policies.found;
            if let Some(status) = &mut o.run.status {
                status.bias.retain(|v| found.iter().any(|p| p.name == v.policy));
            }
        }
        Mistake::OldVerdictCounts => keep_generations(o),
        Mistake::CountsTheTime => {
            let conditions = o.run.status.iter_mut().flat_map(|s| &mut s.conditions);
            conditions.for_each(|c| c.message = uncounted(&c.message).to_owned());
        }
        _ => {}
    }
}

/// What is wrong in the observation of a Rollout.
pub fn rollout(mistake: Mistake, o: &mut RolloutObservation) {
    settings(mistake, &mut o.settings);
    let status = o.rollout.status.clone().unwrap_or_default();
    approvals(mistake, &mut o.approvals, status.waiting_for.as_ref());
    match mistake {
        Mistake::ShortestTimeForgotten => {
            let steps = o.rollout.spec.plan.strategy.steps.iter_mut();
            steps.for_each(|s| s.min_duration = None);
        }
        Mistake::AskedIsReady => o.target.iter_mut().chain(&mut *o.candidate).for_each(ready),
        Mistake::AdoptsByName => {
            if let (Some(candidate), Some(uid)) = (&mut *o.candidate, o.rollout.metadata.uid.clone()) {
                let labels = candidate.metadata.labels.get_or_insert_default();
                labels.insert(flywheel_api::names::LABEL_ROLLOUT_UID.to_owned(), uid);
            }
        }
        Mistake::OverwritesOthers => {
            let sides = [status.baseline.clone(), status.candidate].map(|s| s.and_then(|s| s.value));
            let plan = &o.rollout.spec.plan;
            if let (Some(target), Some(before)) = (&mut *o.target, &sides[0]) {
                let carried = binding::value(target, &plan.binding).ok().flatten();
                let template = target.spec.as_mut().map(|s| &mut s.template);
                if let (Some(template), false) = (template, sides.contains(&carried)) {
                    let version = status.baseline.and_then(|b| b.version).unwrap_or_default();
                    binding::set(template, &plan.binding, before, &version);
                }
            }
        }
        Mistake::TemplateChangeUnseen => {
            let hash = o
                .target
                .as_ref()
                .map(|t| binding::template_hash(t, &o.rollout.spec.plan.binding));
            if let Some(status) = o.rollout.status.as_mut().filter(|s| s.template_hash.is_some()) {
                status.template_hash = hash;
            }
        }
        Mistake::NoQueue => o.others.clear(),
        Mistake::UnreadableIsAbsent => {
            let nobody = Timestamp::UNIX_EPOCH;
            o.others.retain(|peer| peer.created != nobody);
        }
        Mistake::NoDataPasses => {
            let silent = o
                .answers
                .iter_mut()
                .filter(|a| !matches!(a.candidate, Reading::Value(_)));
            silent.for_each(|a| a.candidate = Reading::Value(0.0));
        }
        _ => {}
    }
}

fn settings(mistake: Mistake, settings: &mut Settings) {
    match mistake {
        Mistake::CeilingUnheard => settings.automation_ceiling = AutomationLevel::FullyAutomated,
        Mistake::BrakeUnheard => settings.brake.engaged = false,
        _ => {}
    }
}

fn approvals(mistake: Mistake, all: &mut Vec<ApprovalView>, waiting: Option<&WaitingFor>) {
    match (mistake, waiting) {
        (Mistake::AnyEvidenceCounts, Some(waiting)) => {
            let digest = &waiting.evidence_digest;
            all.iter_mut().for_each(|a| a.spec.evidence_digest.clone_from(digest));
        }
        (Mistake::AnySubjectCounts, Some(waiting)) => {
            let named = all
                .iter_mut()
                .filter(|a| a.spec.subject_ref.name == waiting.subject.name);
            named.for_each(|a| a.spec.subject_ref.uid.clone_from(&waiting.subject.uid));
        }
        (Mistake::RejectionUnheard, _) => all.retain(|a| a.spec.decision != ApprovalDecision::Reject),
        (Mistake::RevocationUnheard, _) => all.retain(|a| a.spec.decision != ApprovalDecision::Revoke),
        _ => {}
    }
}

/// The status seems to name the Jobs that are there by UID.
fn name_jobs(o: &mut RunObservation) {
    let FlywheelRun {
        status: Some(status), ..
    } = &mut o.run
    else {
        return;
    };
    for reference in status.stages.iter_mut().filter_map(|s| s.job.as_mut()) {
        let found = o.jobs.iter().find(|j| j.name == reference.name);
        reference.uid = found.map(|j| j.uid.clone()).or(reference.uid.take());
    }
}

/// Versions that say to be of the run seem to carry the model that it trained.
fn believe_versions(o: &mut RunObservation) {
    let stages = o.run.status.iter().flat_map(|s| &s.stages);
    let trained = stages.filter(|s| s.type_ == StageType::Train);
    let mut artifacts = trained.filter_map(|s| s.result.as_ref()).flat_map(|r| &r.artifacts);
    let Some(model) = artifacts.find(|a| a.type_ == ArtifactType::Model) else {
        return;
    };
    let artifact = ModelArtifact {
        uri: model.uri.clone(),
        digest: model.digest.clone(),
        size_bytes: model.size_bytes,
    };
    let run = o.run.metadata.uid.clone();
    let own = o.versions.iter_mut().filter(|v| v.run_uid == run);
    own.for_each(|v| v.artifact.clone_from(&artifact));
}

/// Policies seem to be of the generation that was judged.
fn keep_generations(o: &mut RunObservation) {
    let known = o.run.status.iter().flat_map(|s| &s.bias);
    for verdict in known {
        let policy = o.policies.found.iter_mut().find(|p| p.name == verdict.policy);
        if let Some(policy) = policy {
            policy.generation = verdict.policy_generation;
        }
    }
}

fn ready(deployment: &mut Deployment) {
    let wanted = deployment.spec.as_ref().and_then(|s| s.replicas);
    let status = deployment.status.get_or_insert_default();
    status.observed_generation = deployment.metadata.generation;
    for count in [
        &mut status.replicas,
        &mut status.updated_replicas,
        &mut status.ready_replicas,
        &mut status.available_replicas,
    ] {
        *count = wanted;
    }
}
