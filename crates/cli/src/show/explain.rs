//! Why does it wait, why was it refused, why did it go back: every gate, verdict, check and approval with its numbers.
//!
//! The sentences are those of the status: the engine said them when it decided.

use flywheel_api::condition::find;
use flywheel_api::flywheel_run::{StageState, StageStatus};
use flywheel_api::reference::{ApprovalRecord, DecisionRecord, WaitingFor};
use flywheel_api::rollout::{CheckSpec, RolloutPhase};
use flywheel_api::{BiasPolicy, FlywheelPipeline, FlywheelRun, ModelVersion, Rollout, condition};
use flywheel_engine::level::{self, Who};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;

use super::explanation::{Explanation, Item};
use super::verdicts;
use crate::error::{Error, refused};
use crate::paper::Tone;
use crate::subject::{Kind, Subject};
use crate::words::{self, Standing, standing};
use crate::world::{World, newest_first, rollout_status, status};

/// Decisions that are shown without `--all`.
const SHOWN_DECISIONS: usize = 5;

/// Why the subject stands where it stands.
pub fn explain(world: &World, subject: &Subject, all: bool) -> Result<Explanation, Error> {
    let shown = if all { usize::MAX } else { SHOWN_DECISIONS };
    let name = &subject.name;
    Ok(match subject.kind {
        Kind::Pipeline => pipeline(world, world.pipeline(name)?),
        Kind::Run => run(world, world.run(name)?, shown),
        Kind::Version => version(world, world.version(name)?, shown),
        Kind::Rollout => rollout(world, world.rollout(name)?, shown),
        Kind::Policy => policy(world, world.policy(name)?),
        Kind::Approval | Kind::Deployment | Kind::Dataset => {
            return refused(format!("there is nothing to explain about a {}", subject.kind.word()));
        }
    })
}

fn run(world: &World, run: &FlywheelRun, shown: usize) -> Explanation {
    let status = status(run);
    let stands = standing(&run.metadata, status.observed_generation, &status.conditions);
    let mut explanation = Explanation::new("FlywheelRun", run.name_any(), run.namespace(), stands);
    let waits = status.waiting_for.as_ref();
    explanation.add(
        "What is waited for",
        waits.map(|w| waiting(world, w)).into_iter().collect(),
    );
    let stages = status.stages.iter().map(|s| stage(run, s));
    explanation.add("Stages", stages.collect());
    explanation.add("Gates", status.gates.iter().map(verdicts::gate).collect());
    explanation.add("Bias policies", status.bias.iter().map(verdicts::bias).collect());
    explanation.add("Approvals", approvals(world, &status.approvals, waits));
    if let Some(found) = world.version_of(run) {
        let rollouts = world.rollouts_of(&found.name_any());
        explanation.add("Rollout", rollouts.into_iter().map(|r| pointer(world, r)).collect());
    }
    explanation.add("Last decisions", decisions(&status.decisions, shown));
    explanation
}

fn version(world: &World, version: &ModelVersion, shown: usize) -> Explanation {
    let own = version.status.clone().unwrap_or_default();
    let made_by = world.run_of(version).map(status);
    let waits = world.waits_on(version).map(|(_, waits)| waits);
    let stands = version_stands(
        version,
        made_by.as_ref().map(|s| s.outcome_reason.as_str()),
        waits.as_ref(),
    );
    let mut explanation = Explanation::new("ModelVersion", version.name_any(), version.namespace(), stands);
    let wait = waits.as_ref().map(|w| waiting(world, w));
    explanation.add("What is waited for", wait.into_iter().collect());
    explanation.add("Gates", own.evaluations.iter().map(verdicts::gate).collect());
    explanation.add("Bias policies", own.bias.iter().map(verdicts::bias).collect());
    explanation.add("Approvals", approvals(world, &own.approvals, waits.as_ref()));
    let rollouts = world.rollouts_of(&version.name_any());
    explanation.add("Rollouts", rollouts.into_iter().map(|r| pointer(world, r)).collect());
    let decided = made_by.map(|s| s.decisions).unwrap_or_default();
    explanation.add("Last decisions of its run", decisions(&decided, shown));
    explanation
}

/// The place in its life, with the sentence of whoever put it there.
fn version_stands(version: &ModelVersion, ended: Option<&str>, waits: Option<&WaitingFor>) -> Standing {
    let own = version.status.clone().unwrap_or_default();
    let (tone, state) = words::of_state(own.state);
    let stands = standing(&version.metadata, own.observed_generation, &own.conditions);
    if stands.reason == "Unobserved" || stands.reason == "Terminating" {
        return stands;
    }
    let rejected = own.state == flywheel_api::model_version::VersionState::Rejected;
    let message = match ended.filter(|_| rejected).filter(|s| !s.is_empty()) {
        Some(sentence) => format!("{} {sentence}", stands.message),
        None => stands.message,
    };
    Standing {
        tone: if waits.is_some() { Tone::Waits } else { tone },
        reason: state.to_owned(),
        message,
        since: None,
    }
}

fn rollout(world: &World, rollout: &Rollout, shown: usize) -> Explanation {
    let status = rollout_status(rollout);
    let mut stands = standing(&rollout.metadata, status.observed_generation, &status.conditions);
    if status.phase == RolloutPhase::RollingBack && !status.outcome_reason.is_empty() {
        stands.message = format!("{} {}", status.outcome_reason, stands.message);
    }
    let mut explanation = Explanation::new("Rollout", rollout.name_any(), rollout.namespace(), stands);
    let waits = status.waiting_for.as_ref();
    explanation.add(
        "What is waited for",
        waits.map(|w| waiting(world, w)).into_iter().collect(),
    );
    explanation.add("Delivery", vec![delivery(rollout)]);
    explanation.add("Steps", steps(rollout));
    let plan = &rollout.spec.plan;
    let checks = plan.checks.iter().map(|c| verdicts::check(c, said(rollout, c)));
    explanation.add("Checks", checks.collect());
    explanation.add("Target", target(rollout));
    explanation.add("Approvals", approvals(world, &status.approvals, waits));
    explanation.add("Last decisions", decisions(&status.decisions, shown));
    explanation
}

fn said<'a>(rollout: &'a Rollout, check: &CheckSpec) -> Option<&'a flywheel_api::rollout::CheckStatus> {
    let all = rollout.status.iter().flat_map(|s| &s.checks);
    all.into_iter().find(|s| s.name == check.name)
}

fn delivery(rollout: &Rollout) -> Item {
    let status = rollout_status(rollout);
    let plan = &rollout.spec.plan;
    let before = status.baseline.and_then(|b| b.version.or(b.value));
    let weights = status.weights.unwrap_or_default();
    let item = Item::new(
        format!(
            "{} to Deployment {}",
            rollout.spec.model_version_ref.name, plan.target_ref.name
        ),
        words::of_phase(status.phase),
        status.phase.name(),
    )
    .number("baseline", before);
    if status.phase.is_terminal() {
        return item;
    }
    item.number("traffic", Some(format!("{} %", weights.actual)))
        .number("asked", Some(format!("{} %", weights.asked)))
        .number(
            "replicas",
            Some(format!(
                "{} + {}",
                weights.baseline_replicas, weights.candidate_replicas
            )),
        )
}

fn steps(rollout: &Rollout) -> Vec<Item> {
    let status = rollout_status(rollout);
    let at = status.step.as_ref().map(|s| s.index);
    let over = status.phase.is_terminal();
    let steps = rollout.spec.plan.strategy.steps.iter().zip(0..);
    let item = |(step, index): (&flywheel_api::rollout::Step, i32)| {
        let current = at == Some(index) && !over;
        let (tone, state) = match at {
            Some(at) if index < at => (Tone::Good, "Left".to_owned()),
            Some(_) if current => {
                let hold = status.step.as_ref().map(|s| s.hold_reason.clone()).unwrap_or_default();
                (Tone::Waits, if hold.is_empty() { "Current".to_owned() } else { hold })
            }
            Some(at) if index == at => (Tone::Bad, "Reached".to_owned()),
            _ => (Tone::Quiet, "Ahead".to_owned()),
        };
        let approvals = step.approval.as_ref().map(|a| a.min_approvals);
        let entered = status
            .step
            .as_ref()
            .filter(|_| current)
            .and_then(|s| s.entered_at.as_ref());
        Item::new(step.name.clone(), tone, state)
            .number("weight", Some(format!("{} %", step.weight)))
            .number("at least", step.min_duration.as_ref())
            .number("at most", step.max_duration.as_ref())
            .number("approvals", approvals)
            .number("entered", entered.map(|at| at.0))
    };
    steps.map(item).collect()
}

/// The binding, where it is not as it should be.
fn target(rollout: &Rollout) -> Vec<Item> {
    let status = rollout_status(rollout);
    let bound = find(&status.conditions, condition::TARGET_BOUND).filter(|c| c.status != "True");
    let stalled =
        find(&status.conditions, condition::STALLED).filter(|c| c.status == "True" && !status.phase.is_terminal());
    let item = |c: &Condition| Item::new(c.type_.clone(), Tone::Bad, c.reason.clone()).saying(&*c.message);
    bound.into_iter().chain(stalled).map(item).collect()
}

fn pipeline(world: &World, pipeline: &FlywheelPipeline) -> Explanation {
    let status = pipeline.status.clone().unwrap_or_default();
    let stands = standing(&pipeline.metadata, status.observed_generation, &status.conditions);
    let name = pipeline.name_any();
    let mut explanation = Explanation::new("FlywheelPipeline", name.clone(), pipeline.namespace(), stands);
    let held = status.conditions.iter().filter(|c| c.type_ != condition::READY);
    explanation.add("Conditions", held.map(held_condition).collect());
    if let Some(effective) = &status.effective_level {
        let why = format!("level {} ({})", effective.level.name(), effective.reason);
        let items = level::STEPS.iter().map(|(step, what)| {
            let (tone, by) = match level::who(effective.level, *step) {
                Who::Machine => (Tone::Good, "machine"),
                Who::Person => (Tone::Waits, "person"),
                Who::OnRequest => (Tone::Quiet, "on request"),
            };
            Item::new(*what, tone, by)
        });
        explanation.add(&format!("Who decides at {why}"), items.collect());
    }
    let runs = world.runs_of(&name);
    let items = runs.into_iter().take(SHOWN_DECISIONS).map(|r| {
        let status = crate::world::status(r);
        let stands = standing(&r.metadata, status.observed_generation, &status.conditions);
        Item::new(r.name_any(), stands.tone, stands.reason)
            .saying(stands.message)
            .commanding(explain_command(
                "run",
                &r.name_any(),
                &r.namespace().unwrap_or_default(),
            ))
    });
    explanation.add("Runs", items.collect());
    explanation
}

fn held_condition(found: &Condition) -> Item {
    let abnormal = [
        condition::STALLED,
        condition::BRAKED,
        condition::RECONCILING,
        condition::LIVE_VERSION_UNKNOWN,
    ];
    let good = (found.status == "True") != abnormal.contains(&found.type_.as_str());
    let tone = if good { Tone::Good } else { Tone::Bad };
    Item::new(found.type_.clone(), tone, found.reason.clone()).saying(&*found.message)
}

/// A policy with what it said of the newest versions.
fn policy(world: &World, policy: &BiasPolicy) -> Explanation {
    let status = policy.status.clone().unwrap_or_default();
    let name = policy.name_any();
    let stands = standing(&policy.metadata, status.observed_generation, &status.conditions);
    let mut explanation = Explanation::new("BiasPolicy", name.clone(), policy.namespace(), stands);
    let mut versions: Vec<&ModelVersion> = world.versions.iter().collect();
    versions.sort_by(|a, b| newest_first(&a.metadata, &b.metadata));
    for version in versions {
        let own = version.status.iter().flat_map(|s| &s.bias).filter(|b| b.policy == name);
        let title = format!("What it said of {}", version.name_any());
        explanation.add(&title, own.map(verdicts::bias).collect());
    }
    explanation.sections.truncate(SHOWN_DECISIONS);
    explanation
}

fn pointer(world: &World, rollout: &Rollout) -> Item {
    let status = rollout_status(rollout);
    let stands = standing(&rollout.metadata, status.observed_generation, &status.conditions);
    let namespace = world.namespace.clone();
    Item::new(rollout.name_any(), words::of_phase(status.phase), status.phase.name())
        .saying(stands.message)
        .commanding(explain_command("rollout", &rollout.name_any(), &namespace))
}

fn explain_command(kind: &str, name: &str, namespace: &str) -> String {
    format!("kubectl flywheel explain {kind} {name} -n {namespace}")
}

fn waiting(world: &World, waits: &WaitingFor) -> Item {
    let item = Item::new(
        format!(
            "{} of {} {}",
            waits.gate.name(),
            waits.subject.kind.name(),
            waits.subject.name
        ),
        Tone::Waits,
        format!("{} of {} approvals", waits.approved_by.len(), waits.needed),
    )
    .saying(format!(
        "Since {} ({}).",
        words::since(&waits.since, world.now),
        waits.since.0
    ))
    .saying(format!("Evidence {}.", waits.evidence_digest));
    let item = match waits.stale.as_slice() {
        [] => item,
        names => item.saying(format!(
            "{} named older evidence and do not count: look at the new evidence and approve again.",
            names.join(", ")
        )),
    };
    item.commanding(&*waits.resolve)
        .commanding(waits.resolve.replacen(" approve ", " reject ", 1))
        .saying("To decide, run one of these; with --dry-run they print the Approval as YAML instead.")
}

fn stage(run: &FlywheelRun, stage: &StageStatus) -> Item {
    let tone = match stage.state {
        StageState::Pending => Tone::Quiet,
        StageState::Running => Tone::Busy,
        StageState::Succeeded => Tone::Good,
        StageState::Failed => Tone::Bad,
    };
    let took = match (&stage.started_at, &stage.finished_at) {
        (Some(begun), Some(end)) => Some(words::between(begun, end)),
        _ => None,
    };
    let result = stage.result.as_ref();
    let mut item = Item::new(stage.name.clone(), tone, format!("{:?}", stage.state))
        .number("took", took)
        .number("attempt", (stage.attempt > 1).then_some(stage.attempt))
        .number("metrics", result.map(|r| r.metrics.len()))
        .number("artifacts", result.map(|r| r.artifacts.len()));
    if let Some(failure) = stage.failure.as_ref().filter(|_| stage.state != StageState::Succeeded) {
        item = item
            .saying(format!(
                "{:?} failure {}: {}",
                failure.class, failure.reason, failure.message
            ))
            .commanding(format!(
                "kubectl flywheel logs run {} --stage {} -n {}",
                run.name_any(),
                stage.name,
                run.namespace().unwrap_or_default()
            ));
    }
    item
}

/// Approvals that were used, and those that are there and do not count.
fn approvals(world: &World, used: &[ApprovalRecord], waits: Option<&WaitingFor>) -> Vec<Item> {
    let approved = flywheel_api::approval::ApprovalDecision::Approve;
    let mut items: Vec<Item> = used
        .iter()
        .map(|a| {
            let tone = if a.decision == approved { Tone::Good } else { Tone::Bad };
            let reason = world
                .approvals
                .iter()
                .find(|o| o.metadata.uid.as_deref() == Some(&a.uid));
            Item::new(a.name.clone(), tone, format!("{:?}", a.decision))
                .number("gate", Some(a.gate.name()))
                .number("by", Some(&a.approver))
                .number("at", Some(a.at.0))
                .number("evidence", Some(words::short(a.evidence_digest.as_str())))
                .saying(reason.map(|o| o.spec.reason.clone()).unwrap_or_default())
        })
        .collect();
    let Some(waits) = waits else {
        return items;
    };
    let open = world.approvals.iter().filter(|a| {
        a.spec.subject_ref == waits.subject && used.iter().all(|u| Some(&u.uid) != a.metadata.uid.as_ref())
    });
    items.extend(open.map(|a| {
        let name = a.name_any();
        let expired = a.spec.expires_at.as_ref().is_some_and(|at| at.0 <= world.now);
        let (tone, why) = match () {
            () if waits.approved_by.contains(&name) => (Tone::Good, "Counts"),
            () if a.spec.evidence_digest != waits.evidence_digest => (Tone::Quiet, "OlderEvidence"),
            () if expired => (Tone::Quiet, "Expired"),
            () => (Tone::Quiet, "DoesNotCount"),
        };
        Item::new(name, tone, why)
            .number("by", Some(&a.spec.approver))
            .number("evidence", Some(words::short(a.spec.evidence_digest.as_str())))
            .saying(&*a.spec.reason)
    }));
    items
}

fn decisions(all: &[DecisionRecord], shown: usize) -> Vec<Item> {
    let from = all.len().saturating_sub(shown);
    let last = all.iter().skip(from);
    last.map(|d| {
        Item::new(d.at.0.to_string(), Tone::Quiet, d.decision.clone())
            .number("reason", Some(&d.reason))
            .number("level", d.level.map(flywheel_api::reference::AutomationLevel::name))
            .number("evidence", d.evidence_digest.as_ref().map(|e| words::short(e.as_str())))
            .saying(&*d.message)
    })
    .collect()
}
