//! The loop as a tree: pipeline, runs, stages, version, rollout, Deployments, pods.

use flywheel_api::condition::{self, is_true};
use flywheel_api::flywheel_run::{StageState, StageStatus};
use flywheel_api::reference::Verdict;
use flywheel_api::{FlywheelPipeline, FlywheelRun, ModelVersion, Rollout};
use kube::ResourceExt;

use super::serving;
use crate::error::{Error, refused};
use crate::paper::Tone;
use crate::subject::{Kind, Subject};
use crate::tree::Node;
use crate::words::{self, Standing, standing};
use crate::world::{World, newest_first, rollout_status, status};

/// Finished runs that a pipeline shows.
const SHOWN_RUNS: usize = 3;

/// The tree of one object, or of everything in the namespace.
pub fn tree(world: &World, subject: Option<&Subject>, all: bool) -> Result<Vec<Node>, Error> {
    let Some(subject) = subject else {
        return Ok(everything(world, all));
    };
    let name = &subject.name;
    let node = match subject.kind {
        Kind::Pipeline => pipeline(world, world.pipeline(name)?, all),
        Kind::Run => run(world, world.run(name)?, true),
        Kind::Version => version(world, world.version(name)?),
        Kind::Rollout => rollout(world, world.rollout(name)?),
        Kind::Deployment => serving::deployment(world, world.deployment(name)?),
        Kind::Policy => policy(world, world.policy(name)?),
        Kind::Approval | Kind::Dataset => {
            return refused(format!(
                "a {} is no tree: use `kubectl flywheel lineage`",
                subject.kind.word()
            ));
        }
    };
    Ok(vec![node])
}

/// All pipelines, then what belongs to none.
fn everything(world: &World, all: bool) -> Vec<Node> {
    let mut pipelines: Vec<&FlywheelPipeline> = world.pipelines.iter().collect();
    pipelines.sort_by_key(|p| p.name_any());
    let known = |name: &str| world.pipelines.iter().any(|p| p.name_any() == name);
    let mut nodes: Vec<Node> = pipelines.into_iter().map(|p| pipeline(world, p, all)).collect();
    let mut strays: Vec<&FlywheelRun> = world
        .runs
        .iter()
        .filter(|r| !known(&r.spec.pipeline_ref.name))
        .collect();
    strays.sort_by(|a, b| newest_first(&a.metadata, &b.metadata));
    nodes.extend(strays.into_iter().map(|r| run(world, r, true)));
    let mut alone: Vec<&Rollout> = world.rollouts.iter().filter(|r| r.spec.run_ref.is_none()).collect();
    alone.sort_by(|a, b| newest_first(&a.metadata, &b.metadata));
    nodes.extend(alone.into_iter().map(|r| rollout(world, r)));
    nodes
}

fn pipeline(world: &World, pipeline: &FlywheelPipeline, all: bool) -> Node {
    let status = pipeline.status.clone().unwrap_or_default();
    let stands = standing(&pipeline.metadata, status.observed_generation, &status.conditions);
    let name = pipeline.name_any();
    let mut facts = Vec::new();
    if let Some(level) = &status.effective_level {
        let why = if level.reason == "Spec" {
            String::new()
        } else {
            format!(" ({} below {})", level.reason, pipeline.spec.automation_level.name())
        };
        facts.push(format!("level {}{why}", level.level.name()));
    }
    let unknown = is_true(&status.conditions, condition::LIVE_VERSION_UNKNOWN);
    facts.push(match &status.live_version {
        Some(live) if unknown => format!("{} served when it was last seen", live.name),
        Some(live) => format!("{} serves since {}", live.name, words::since(&live.since, world.now)),
        None if unknown => "nobody can say what serves".to_owned(),
        None => "no version serves".to_owned(),
    });
    if let Some(next) = &status.next_schedule_time {
        facts.push(format!("next run {}", next.0));
    }
    let mut node = Node::new(format!("FlywheelPipeline {name}"), stands.tone, &*stands.reason)
        .aged(words::age(&pipeline.metadata, world.now))
        .saying(format!("{}.", facts.join(", ")))
        .saying(&*stands.message);
    let live = status.live_version.map(|v| v.name);
    let mut finished = 0;
    for each in world.runs_of(&name) {
        let serves = live.is_some() && crate::world::status(each).model_version.map(|v| v.name) == live;
        let over = crate::world::status(each).outcome.is_some();
        finished += usize::from(over);
        if all || !over || serves || finished <= SHOWN_RUNS {
            node.children.push(run(world, each, !over || serves));
        }
    }
    let orphan = |v: &&ModelVersion| live.as_deref() == Some(v.name_any().as_str()) && world.run_of(v).is_none();
    node.children
        .extend(world.versions.iter().filter(orphan).map(|v| version(world, v)));
    node
}

/// A run; its stages and version only where they are asked for.
pub fn run(world: &World, run: &FlywheelRun, whole: bool) -> Node {
    let status = status(run);
    let stands = standing(&run.metadata, status.observed_generation, &status.conditions);
    let begun = status.started_at.as_ref().or(run.metadata.creation_timestamp.as_ref());
    let took = match (begun, &status.finished_at) {
        (Some(begun), Some(end)) => words::between(begun, end),
        (Some(begun), None) => words::since(begun, world.now),
        (None, _) => String::new(),
    };
    let mut node = Node::new(format!("FlywheelRun {}", run.name_any()), stands.tone, &*stands.reason).aged(took);
    node = match &status.waiting_for {
        Some(waits) => node
            .saying(format!("{}:", words::waiting(waits, world.now)))
            .commanding(&*waits.resolve),
        None if status.outcome.is_some() => node.saying(&*status.outcome_reason),
        None => node.saying(&*stands.message),
    };
    if whole {
        node.children.extend(status.stages.iter().map(|s| stage(world, run, s)));
    }
    match world.version_of(run) {
        Some(made) if whole => node.children.push(version(world, made)),
        Some(made) => node.children.extend(undone(world, made)),
        None => {}
    }
    node
}

/// Rollouts of a finished run's version that ended otherwise than the run says.
fn undone(world: &World, version: &ModelVersion) -> Vec<Node> {
    let rollouts = world.rollouts_of(&version.name_any());
    let unfinished = rollouts.into_iter().filter(|r| {
        let phase = rollout_status(r).phase;
        !phase.is_terminal() || words::of_phase(phase) == Tone::Bad
    });
    unfinished.map(|r| rollout(world, r)).collect()
}

fn stage(world: &World, run: &FlywheelRun, stage: &StageStatus) -> Node {
    let (tone, state) = match stage.state {
        StageState::Pending => (Tone::Quiet, "Pending"),
        // The Job of a run that was cancelled is deleted; its stage stays as it was.
        StageState::Running if status(run).outcome.is_some() => (Tone::Quiet, "Stopped"),
        StageState::Running => (Tone::Busy, "Running"),
        StageState::Succeeded => (Tone::Good, "Succeeded"),
        StageState::Failed => (Tone::Bad, "Failed"),
    };
    let took = match (&stage.started_at, &stage.finished_at) {
        (Some(begun), Some(end)) => words::between(begun, end),
        (Some(begun), None) => words::since(begun, status(run).finished_at.as_ref().map_or(world.now, |t| t.0)),
        (None, _) => String::new(),
    };
    let mut node = Node::new(format!("stage {}", stage.name), tone, state).aged(took);
    if stage.attempt > 1 {
        node = node.saying(format!("attempt {}", stage.attempt));
    }
    if let Some(failure) = stage.failure.as_ref().filter(|_| stage.state != StageState::Succeeded) {
        let namespace = run.namespace().unwrap_or_default();
        node = node
            .saying(format!("{}: {}", failure.reason, failure.message))
            .commanding(format!(
                "kubectl flywheel logs run {} --stage {} -n {namespace}",
                run.name_any(),
                stage.name
            ));
    }
    if stage.state == StageState::Running {
        let pods = world.pods_of_stage(run, &stage.name, stage.attempt);
        node.children
            .extend(pods.into_iter().map(|p| serving::pod(p, world.now)));
    }
    node
}

/// A version with its verdicts and rollouts.
pub fn version(world: &World, version: &ModelVersion) -> Node {
    let status = version.status.clone().unwrap_or_default();
    let name = version.name_any();
    let (tone, state) = words::of_state(status.state);
    let mut node =
        Node::new(format!("ModelVersion {name}"), tone, state).aged(words::age(&version.metadata, world.now));
    let gates = status
        .evaluations
        .iter()
        .map(|g| (g.gate.clone(), g.verdict, g.value.as_ref().map(ToString::to_string)));
    let bias = status.bias.iter().map(|b| {
        let name = format!("{}/{} {}", b.policy, b.objective, b.group);
        (
            name.trim_end().to_owned(),
            b.verdict,
            b.bound.as_ref().map(ToString::to_string),
        )
    });
    node = node.saying(verdicts("gates", gates)).saying(verdicts("bias", bias));
    let rollouts = world.rollouts_of(&name);
    node.children
        .extend(rollouts.into_iter().take(SHOWN_RUNS).map(|r| rollout(world, r)));
    node
}

/// `gates: error Pass 4.2, size Fail 12`, with those that do not pass first.
fn verdicts(what: &str, all: impl Iterator<Item = (String, Verdict, Option<String>)>) -> String {
    let mut all: Vec<_> = all.collect();
    all.sort_by_key(|(_, verdict, _)| std::cmp::Reverse(*verdict));
    let said: Vec<String> = all
        .into_iter()
        .map(|(name, verdict, value)| {
            format!("{name} {} {}", verdict.name(), value.unwrap_or_default())
                .trim_end()
                .to_owned()
        })
        .collect();
    if said.is_empty() {
        String::new()
    } else {
        format!("{what}: {}", said.join(", "))
    }
}

/// A rollout with its step, weights and checks; with its Deployments while it matters to them.
pub fn rollout(world: &World, rollout: &Rollout) -> Node {
    let status = rollout_status(rollout);
    let stands = standing(&rollout.metadata, status.observed_generation, &status.conditions);
    let took = match (&rollout.metadata.creation_timestamp, &status.finished_at) {
        (Some(begun), Some(end)) => words::between(begun, end),
        (Some(begun), None) => words::since(begun, world.now),
        (None, _) => String::new(),
    };
    let (tone, state) = phase(rollout, &stands);
    let target = &rollout.spec.plan.target_ref.name;
    let mut node = Node::new(format!("Rollout {}", rollout.name_any()), tone, state)
        .aged(took)
        .saying(progress(rollout));
    let checks = status
        .checks
        .iter()
        .map(|c| (c.name.clone(), c.verdict, c.value.as_ref().map(ToString::to_string)));
    if !status.phase.is_terminal() {
        node = node.saying(verdicts("checks", checks));
    }
    node = match &status.waiting_for {
        Some(waits) => node
            .saying(format!("{}:", words::waiting(waits, world.now)))
            .commanding(&*waits.resolve),
        None => node.saying(&*stands.message),
    };
    let newest = world.rollouts_to(target).first().map(|r| r.name_any());
    if !status.phase.is_terminal() || newest == Some(rollout.name_any()) {
        node.children = serving::sides(world, rollout);
    }
    node
}

fn phase(rollout: &Rollout, stands: &Standing) -> (Tone, String) {
    let status = rollout_status(rollout);
    let hold = status.step.as_ref().map(|s| s.hold_reason.as_str()).unwrap_or_default();
    let phase = status.phase;
    if phase.is_terminal() {
        return (words::of_phase(phase), phase.name().to_owned());
    }
    if !hold.is_empty() {
        return (Tone::Waits, format!("{} ({hold})", phase.name()));
    }
    match stands.reason.as_str() {
        "Unobserved" | "Terminating" => (stands.tone, stands.reason.clone()),
        _ if stands.tone == Tone::Bad => (Tone::Bad, format!("{} ({})", phase.name(), stands.reason)),
        _ => (words::of_phase(phase), phase.name().to_owned()),
    }
}

/// `eta-7 to Deployment eta, step tenth (1 of 2), 10 % of the traffic, 10 % asked`.
fn progress(rollout: &Rollout) -> String {
    let status = rollout_status(rollout);
    let plan = &rollout.spec.plan;
    let mut parts = vec![format!(
        "{} to Deployment {}",
        rollout.spec.model_version_ref.name, plan.target_ref.name
    )];
    if status.phase.is_terminal() {
        return format!("{}.", parts.concat());
    }
    if let Some(step) = &status.step {
        let of = plan.strategy.steps.len();
        parts.push(if step.name == "full" {
            "all steps done".to_owned()
        } else {
            format!("step {} ({} of {of})", step.name, step.index + 1)
        });
    }
    if let Some(weights) = &status.weights {
        parts.push(format!(
            "{} % of the traffic, {} % asked",
            weights.actual, weights.asked
        ));
    }
    format!("{}.", parts.join(", "))
}

fn policy(world: &World, policy: &flywheel_api::BiasPolicy) -> Node {
    let status = policy.status.clone().unwrap_or_default();
    let stands = standing(&policy.metadata, status.observed_generation, &status.conditions);
    let worst = if status.worst.is_empty() {
        "nothing judged yet".to_owned()
    } else {
        format!("worst verdict {}", status.worst)
    };
    Node::new(
        format!("BiasPolicy {}", policy.name_any()),
        stands.tone,
        &*stands.reason,
    )
    .aged(words::age(&policy.metadata, world.now))
    .saying(format!("applies to {} pipelines, {worst}.", status.pipelines))
    .saying(stands.message)
}
