//! The stages, one after the other: intent, Job, result, retries.

use flywheel_api::condition;
use flywheel_api::flywheel_run::{JobRef, RunOutcome, StageFailure, StageOutcome, StageState, StageStatus};
use flywheel_api::reference::{ApprovalGate, SubjectKind, SubjectRef};
use flywheel_api::stage::{FailureClass, StageSpec, StageType};
use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::begin::REBUILD;
use super::judge::{Ask, ask};
use super::pod::{failure, failure_of, stuck, stuck_until};
use super::result::{Expected, read};
use super::turn::{Next, Turn};
use super::view::{JobState, JobView, Peer, PodView};
use super::{job, stage_file};
use crate::decision::{Action, Child, Effect};
use crate::level::{Step, Who, who};
use crate::standing::{Kind, Standing};
use crate::view::created;

/// Longest pause between two attempts, in seconds.
const MAX_BACKOFF: i64 = 3600;
/// Most retries that a stage can ask for.
const MAX_RETRIES: i32 = 10;

/// The first stage that has not succeeded decides.
pub fn run_all(turn: &mut Turn<'_>) -> Option<Next> {
    let open = turn
        .status
        .stages
        .iter()
        .position(|s| s.state != StageState::Succeeded)?;
    let stage = turn.status.stages.get(open)?.clone();
    let specs = turn.plan.as_ref().map(|p| p.stages.clone()).unwrap_or_default();
    let Some(spec) = specs.iter().find(|s| s.name == stage.name) else {
        let message = format!("Stage {} is not in the run's snapshot: request a new run.", stage.name);
        return Some(turn.finish(RunOutcome::Failed, "BrokenSnapshot", &message));
    };
    turn.status.stage.clone_from(&stage.name);
    Some(match stage.state {
        StageState::Pending => begin(turn, spec, &stage),
        StageState::Running => watch(turn, spec, &stage),
        StageState::Failed | StageState::Succeeded => {
            let message = stage.failure.map_or_else(String::new, |f| f.message);
            turn.finish(
                RunOutcome::Failed,
                "StageFailed",
                &format!("Stage {} failed: {message}", stage.name),
            )
        }
    })
}

/// Starts the next attempt, if everybody who has a say agrees.
fn begin(turn: &mut Turn<'_>, spec: &StageSpec, stage: &StageStatus) -> Next {
    let (attempt, exists) = match next_attempt(turn, spec, stage) {
        Attempt::New(attempt) => (attempt, false),
        Attempt::Existing(attempt) => (attempt, true),
        Attempt::Foreign(attempt) => return give_up(turn, stage, attempt),
    };
    if !exists && let Some(next) = clear_the_way(turn) {
        return next;
    }
    if let Some(braked) = turn.braked() {
        return braked;
    }
    if let Some(next) = permission(turn, spec) {
        return next;
    }
    if let Some(at) = stage.retry_at.as_ref().map(|t| t.0).filter(|t| *t > turn.now()) {
        let message = format!("Stage {} is tried again at {at}.", stage.name);
        return Next::Rest(Standing::new(Kind::Working, "RetryPause", message), Some(at));
    }
    if let Some(full) = no_room(turn) {
        return full;
    }
    let name = job::name(turn.name(), turn.uid(), &stage.name, attempt);
    let now = turn.now();
    update(turn, &stage.name, |s| {
        s.state = StageState::Running;
        s.attempt = attempt;
        s.job = Some(JobRef {
            name: name.clone(),
            uid: None,
        });
        s.started_at = Some(Time(now));
        s.retry_at = None;
    });
    turn.status.waiting_for = None;
    turn.decided(
        "StartStage",
        spec.type_.name(),
        &format!("Stage {} starts, attempt {attempt}.", stage.name),
        None,
        false,
    );
    working(&stage.name, attempt, None)
}

/// Of the runs that want to start a stage, those that were created first get the room that is left: whoever looks at the
/// same time sees the same order, so that all of them together do not take more than there is. One that does not take it
/// holds up the others for a minute, whatever it says.
fn no_room(turn: &Turn<'_>) -> Option<Next> {
    let max = turn.o.settings.max_runs_per_namespace;
    let running = turn.o.peers.iter().filter(|p| p.running_stage).count();
    let left = i64::from(max).saturating_sub(i64::try_from(running).unwrap_or(i64::MAX));
    let first = if left > 0 { go_first(turn) } else { Vec::new() };
    if i64::try_from(first.len()).unwrap_or(i64::MAX) < left {
        return None;
    }
    let kind = if left > 0 { Kind::YieldsRoom } else { Kind::NoRoom };
    let message = format!(
        "The administrator allows {max} runs of a namespace to have a running stage: runs that are at work, or were created earlier, take all of them."
    );
    let standing = Standing::new(kind, "NamespaceFull", message);
    Some(Next::Rest(standing, first.into_iter().min()))
}

/// Until when each of the runs goes first that take the room which is left before this one.
fn go_first(turn: &Turn<'_>) -> Vec<jiff::Timestamp> {
    let now = turn.now();
    let mine = (created(&turn.o.run.metadata), turn.name());
    let mut earlier: Vec<&Peer> = turn.o.peers.iter().filter(|p| (p.created, &*p.name) < mine).collect();
    earlier.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
    let yields = condition::find(&turn.status.conditions, condition::YIELDS_ROOM);
    let since = yields.map_or(now, |c| c.last_transition_time.0);
    let mut others = since;
    let mut all = Vec::new();
    for peer in earlier {
        if let Some(until) = peer.goes_first_until(now, since, others) {
            others = others.max(until);
            all.push(until);
        }
    }
    all.retain(|until| now < *until);
    all
}

/// The next attempt of a stage.
enum Attempt {
    /// Its Job is to be made.
    New(i32),
    /// Its Job exists, though the status does not know of it.
    Existing(i32),
    /// A Job of that number exists and works on other inputs.
    Foreign(i32),
}

/// After a lost status Jobs exist that are not remembered: the last one is taken over if it works on the same inputs,
/// and no number is used twice.
fn next_attempt(turn: &Turn<'_>, spec: &StageSpec, stage: &StageStatus) -> Attempt {
    let next = stage.attempt.saturating_add(1);
    let job = |attempt: i32| {
        let name = job::name(turn.name(), turn.uid(), &stage.name, attempt);
        turn.o.jobs.iter().find(move |j| j.name == name)
    };
    let last = (next..=next.saturating_add(MAX_RETRIES))
        .rev()
        .find_map(|n| Some((n, job(n)?)));
    match last {
        None => Attempt::New(next),
        Some((n, found)) if !found.deleting && Some(&found.file) == job::file(turn, spec, n).as_ref() => {
            Attempt::Existing(n)
        }
        Some((n, _)) => Attempt::Foreign(n),
    }
}

/// The number is recorded before its Job is deleted: the next attempt gets another one.
fn give_up(turn: &mut Turn<'_>, stage: &StageStatus, attempt: i32) -> Next {
    update(turn, &stage.name, |s| s.attempt = attempt);
    let message = format!(
        "Stage {}, attempt {attempt}, which the lost status knew of, works on other inputs and is given up.",
        stage.name
    );
    turn.decided("GiveUpAttempt", "InputsChanged", &message, None, true);
    Next::Rest(Standing::new(Kind::Working, "InputsChanged", message), None)
}

/// Before a Job is made no other one of the run may be at work, and the version must not be made already: that it is, only
/// a run whose status was lost does not know. To any other one a version that claims to be its own is a stranger's.
fn clear_the_way(turn: &mut Turn<'_>) -> Option<Next> {
    let uid = turn.uid();
    let rebuilt = turn.status.decisions.iter().any(|d| d.decision == REBUILD);
    if rebuilt && let Some(made) = turn.o.versions.iter().find(|v| v.run_uid.as_deref() == Some(uid)) {
        let message = format!(
            "The run's status was lost and cannot be rebuilt, because Jobs of it are gone; it made version {}: request a new run.",
            made.name
        );
        return Some(turn.finish(RunOutcome::Failed, "StatusLost", &message));
    }
    let old = turn.o.jobs.iter().find(|j| j.state == JobState::Active)?;
    if old.deleting {
        let message = format!("Waits until Job {} of an attempt that was given up is gone.", old.name);
        return Some(Next::Rest(Standing::new(Kind::Working, "JobLeaving", message), None));
    }
    Some(Next::Do(turn.delete_job(old, "its attempt was given up")))
}

fn working(stage: &str, attempt: i32, until: Option<jiff::Timestamp>) -> Next {
    let message = format!("Stage {stage} runs, attempt {attempt}.");
    Next::Rest(Standing::new(Kind::Working, "StageRunning", message), until)
}

/// What the level says about this type of stage.
fn permission(turn: &mut Turn<'_>, spec: &StageSpec) -> Option<Next> {
    match who(turn.level(), Step::StartStage(spec.type_)) {
        Who::Machine => None,
        Who::OnRequest if turn.requested() => None,
        Who::OnRequest => {
            let message = "The level is Manual and no user asked for this run: cancel it and request one.";
            Some(Next::Rest(Standing::new(Kind::Waiting, "LevelIsManual", message), None))
        }
        Who::Person => train_approval(turn, spec),
    }
}

fn train_approval(turn: &mut Turn<'_>, spec: &StageSpec) -> Option<Next> {
    let inputs: Vec<_> = turn
        .status
        .stages
        .iter()
        .flat_map(|s| s.result.iter().flat_map(|r| &r.artifacts))
        .map(|a| a.digest.clone())
        .collect();
    let subject = SubjectRef {
        kind: SubjectKind::FlywheelRun,
        name: turn.name().to_owned(),
        uid: turn.uid().to_owned(),
    };
    let evidence = serde_json::json!({
        "subject": subject,
        "gate": ApprovalGate::Train,
        "stage": spec.name,
        "snapshot": turn.status.snapshot.as_ref().map(|s| &s.digest),
        "parameters": turn.o.run.spec.parameters,
        "inputs": inputs,
        "level": turn.level(),
    });
    let message = format!(
        "Stage {} waits: at level {} a person decides on training.",
        spec.name,
        turn.level().name()
    );
    ask(
        turn,
        Ask {
            subject,
            gate: ApprovalGate::Train,
            evidence,
            message,
        },
    )
}

/// An attempt runs: its Job is made, watched and read.
fn watch(turn: &mut Turn<'_>, spec: &StageSpec, stage: &StageStatus) -> Next {
    let Some(reference) = &stage.job else {
        return job_lost(turn, spec, stage, "The status names no Job for the running attempt.");
    };
    let found = turn
        .o
        .jobs
        .iter()
        .find(|j| j.name == reference.name && job::is_ours(j, turn.uid()));
    match (found, &reference.uid) {
        (None, None) => make_job(turn, spec, stage),
        (None, Some(_)) => job_lost(turn, spec, stage, "The Job was deleted before its result was read."),
        (Some(job), None) => {
            let uid = job.uid.clone();
            update(turn, &stage.name, |s| {
                s.job = s.job.take().map(|j| JobRef { uid: Some(uid), ..j });
            });
            working(&stage.name, stage.attempt, None)
        }
        (Some(job), Some(uid)) if job.uid != *uid => {
            job_lost(turn, spec, stage, "The Job was replaced by another one of its name.")
        }
        (Some(job), Some(_)) => ended(turn, spec, stage, job),
    }
}

/// The Job that the status names is made, unless the brake was pulled since.
fn make_job(turn: &mut Turn<'_>, spec: &StageSpec, stage: &StageStatus) -> Next {
    if let Some(braked) = turn.braked() {
        return braked;
    }
    match job::build(turn, spec, stage.attempt) {
        Some(job) => Next::Do(Effect {
            action: Action::Create(Box::new(Child::Job(job))),
            why: format!("start stage {}, attempt {}", stage.name, stage.attempt),
        }),
        None => no_store(turn),
    }
}

fn job_lost(turn: &mut Turn<'_>, spec: &StageSpec, stage: &StageStatus, message: &str) -> Next {
    let lost = failure(FailureClass::Infrastructure, "JobLost", message);
    failed(turn, spec, stage, lost)
}

fn no_store(turn: &mut Turn<'_>) -> Next {
    let message =
        "The run's snapshot names no artifact store: set spec.artifacts.uri of the pipeline, and request a new run.";
    turn.finish(RunOutcome::Failed, "BrokenSnapshot", message)
}

fn ended(turn: &mut Turn<'_>, spec: &StageSpec, stage: &StageStatus, job: &JobView) -> Next {
    match &job.state {
        JobState::Active => match stuck(job, turn.now()) {
            Some(problem) => failed(turn, spec, stage, problem),
            None => {
                let until = stuck_until(job).filter(|t| *t > turn.now());
                working(&stage.name, stage.attempt, until)
            }
        },
        JobState::Failed { .. } => {
            let unknown = || {
                failure(
                    FailureClass::Infrastructure,
                    "JobFailed",
                    "The Job failed without a reason: read its events with `kubectl describe job`.",
                )
            };
            let logs = format!("{} --stage {}", turn.command("logs"), spec.name);
            failed(turn, spec, stage, failure_of(job, &logs).unwrap_or_else(unknown))
        }
        JobState::Complete => complete(turn, spec, stage, job),
    }
}

/// The pod exited with 0: only a valid result makes a success of it.
fn complete(turn: &mut Turn<'_>, spec: &StageSpec, stage: &StageStatus, job: &JobView) -> Next {
    let Some(pod) = job.pods.iter().rev().find(|p| p.exit_code == Some(0)) else {
        let message = "The pod was gone before its result could be read.";
        let lost = failure(FailureClass::Infrastructure, "ResultLost", message);
        return failed(turn, spec, stage, lost);
    };
    if pod.message.trim().is_empty() {
        let message = "The container exited with 0 but left no result: write it to /dev/termination-log.";
        let silent = failure(FailureClass::Application, "NoResult", message);
        return failed(turn, spec, stage, silent);
    }
    let id = stage_file::stage_id(turn.uid(), &stage.name, stage.attempt);
    let Some(output) = stage_file::output_uri(turn, &stage.name, stage.attempt) else {
        return no_store(turn);
    };
    let expected = Expected {
        id: &id,
        type_: spec.type_,
        output: &output,
    };
    match read(&pod.message, &expected) {
        Ok(outcome) => succeeded(turn, spec, stage, pod, outcome),
        Err(why) => {
            let broken = failure(FailureClass::Application, "BrokenResult", format!("{why}."));
            failed(turn, spec, stage, broken)
        }
    }
}

/// The result is kept, and its first metrics are told.
fn succeeded(turn: &mut Turn<'_>, spec: &StageSpec, stage: &StageStatus, pod: &PodView, outcome: StageOutcome) -> Next {
    let now = turn.now();
    let metrics = outcome
        .metrics
        .iter()
        .take(3)
        .map(|m| format!("{} {}", m.name, m.value))
        .collect::<Vec<_>>();
    update(turn, &stage.name, |s| {
        s.state = StageState::Succeeded;
        s.finished_at = Some(Time(now));
        s.image_id.clone_from(&pod.image_id);
        s.failure = None;
        s.result = Some(outcome);
    });
    let message = format!("Stage {} succeeded. {}", stage.name, metrics.join(", "));
    turn.decided("StageSucceeded", spec.type_.name(), message.trim_end(), None, false);
    Next::Rest(Standing::new(Kind::Working, "StageSucceeded", message), None)
}

/// Another attempt, if there is one left and this kind of failure is repeated.
fn failed(turn: &mut Turn<'_>, spec: &StageSpec, stage: &StageStatus, problem: StageFailure) -> Next {
    let again = stage.attempt <= spec.retry.limit && spec.retry.when.contains(&problem.class);
    let now = turn.now();
    let doublings = u32::try_from(stage.attempt.saturating_sub(1)).unwrap_or(0).min(32);
    let doubled = 1_i64 << doublings;
    let pause = spec
        .retry
        .backoff
        .seconds()
        .unwrap_or(30)
        .saturating_mul(doubled)
        .clamp(0, MAX_BACKOFF);
    let message = format!("Stage {}, attempt {}: {}", stage.name, stage.attempt, problem.message);
    let reason = problem.reason.clone();
    update(turn, &stage.name, |s| {
        s.failure = Some(problem);
        if again {
            s.state = StageState::Pending;
            s.retry_at = Some(Time(now + SignedDuration::from_secs(pause)));
        } else {
            s.state = StageState::Failed;
            s.finished_at = Some(Time(now));
        }
    });
    if again {
        turn.decided(
            "RetryStage",
            &reason,
            &format!("{message} Next attempt in {pause} s."),
            None,
            true,
        );
        return Next::Rest(
            Standing::new(Kind::Working, "RetryPause", message),
            Some(now + SignedDuration::from_secs(pause)),
        );
    }
    turn.decided("StageFailed", &reason, &message, None, true);
    turn.finish(RunOutcome::Failed, &reason, &message)
}

fn update(turn: &mut Turn<'_>, name: &str, change: impl FnOnce(&mut StageStatus)) {
    if let Some(stage) = turn.status.stages.iter_mut().find(|s| s.name == name) {
        change(stage);
    }
}

/// The stage that made the model.
pub fn train<'a>(turn: &'a Turn<'_>) -> Option<&'a StageStatus> {
    turn.status.stages.iter().find(|s| s.type_ == StageType::Train)
}
