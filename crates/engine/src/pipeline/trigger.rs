//! What starts a run, and when: schedules, metrics, the queue.

use flywheel_api::FlywheelPipeline;
use flywheel_api::flywheel_pipeline::{
    Comparison, ConcurrencyPolicy, FlywheelPipelineStatus, MetricTrigger, PendingRun, ScheduleTrigger, Trigger,
    TriggerType,
};
use flywheel_api::schema::Duration;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{PipelineObservation, active, created, dropped, run_name, schedule};
use crate::decision::Note;
use crate::level::{Step, Who, who};
use crate::run::snapshot;
use crate::standing::{Kind, Standing, awaited, missing_since};
use crate::view::{Absent, level_in_force};

/// Where the pipeline stands, and when to look again.
pub struct Plan {
    pub standing: Standing,
    pub until: Option<Timestamp>,
    /// The run that is intended may be made.
    pub starts: bool,
}

impl Plan {
    const fn rest(standing: Standing, until: Option<Timestamp>) -> Self {
        Self {
            standing,
            until,
            starts: false,
        }
    }

    fn ready(reason: &str, message: impl Into<String>, until: Option<Timestamp>) -> Self {
        Self::rest(Standing::new(Kind::Ready, reason, message), until)
    }

    fn starting(run: &str) -> Self {
        Self {
            starts: true,
            ..Self::rest(
                Standing::new(Kind::Working, "Starting", format!("Run {run} starts.")),
                None,
            )
        }
    }
}

/// Moves the pending run along; without one, looks whether a trigger fires.
pub fn plan(o: &PipelineObservation, status: &mut FlywheelPipelineStatus, events: &mut Vec<Note>) -> Plan {
    if let Some(made) = status.pending_run.clone().and_then(|p| follow(o, status, events, &p)) {
        return made;
    }
    let until = look_again(o, status);
    if let Some(stopped) = stopped(o, status, until) {
        // Nothing starts by itself then.
        status.next_schedule_time = None;
        return stopped;
    }
    if let Some(pending) = &status.pending_run {
        return Plan::starting(&run_name(name(&o.pipeline), pending.number));
    }
    let fired = fires(o, status);
    let Some(run) = active(o).map(|r| r.name.clone()) else {
        return match fired.or_else(|| take_queued(o, status)) {
            Some(trigger) => start(o, status, events, &trigger),
            None => Plan::ready("Idle", idle(o, status), until),
        };
    };
    if let Some(trigger) = fired {
        busy(o, status, events, &run, &trigger);
    }
    Plan::ready("Running", format!("Run {run} is under way."), until)
}

/// What keeps triggers from starting runs. A run that was intended and not made is forgotten, but while the brake holds or
/// something cannot be told: then it waits.
fn stopped(o: &PipelineObservation, status: &mut FlywheelPipelineStatus, until: Option<Timestamp>) -> Option<Plan> {
    let stale = super::show::stale_at(o, status).filter(|at| *at > o.now);
    if let Some(standing) = snapshot::without_store(&o.pipeline.spec, &o.settings) {
        status.pending_run = None;
        return Some(Plan::rest(standing, stale));
    }
    if o.pipeline.spec.suspend {
        status.pending_run = None;
        status.queued_trigger = None;
        return Some(Plan::ready(
            "Suspended",
            "No new run starts while spec.suspend is true.",
            stale,
        ));
    }
    if o.settings.brake.engaged {
        let message = format!(
            "The administrator's brake stops every forward decision: {}",
            o.settings.brake.reason
        );
        return Some(Plan::rest(Standing::new(Kind::Braked, "Braked", message), until));
    }
    let level = level_in_force(&o.pipeline, &o.settings, &o.policies);
    if who(level, Step::StartRun) != Who::Machine {
        status.pending_run = None;
        let message = format!(
            "At level {} a run starts on request only: kubectl flywheel run {} -n {}",
            level.name(),
            name(&o.pipeline),
            o.pipeline.metadata.namespace.as_deref().unwrap_or_default(),
        );
        return Some(Plan::ready("OnRequest", message, stale));
    }
    unknown(o).map(|absent| await_missing(o, status, &absent))
}

/// Waits for what is missing. Since when is in the status.
fn await_missing(o: &PipelineObservation, status: &mut FlywheelPipelineStatus, absent: &Absent<'_>) -> Plan {
    let message = format!("{} No run starts without it.", absent.message);
    let stored = o.pipeline.status.as_ref().and_then(|s| s.missing_since.as_ref());
    let since = missing_since(stored, &status.conditions, absent.reason, o.now);
    status.missing_since = Some(Time(since));
    let (standing, until) = awaited(since, o.now, absent.reason, message);
    Plan::rest(standing, until)
}

/// What a run would have to know and nobody can say. That there is nothing may be known late, until a run starts.
fn unknown(o: &PipelineObservation) -> Option<Absent<'_>> {
    let unreadable = [&o.unreadable, &o.unreadable_runs];
    let mut unreadable = unreadable.into_iter().filter(|all| !all.peek().is_empty());
    let object = unreadable.find_map(|all| all.first()).map(|object| {
        let message = format!(
            "{object} cannot be read by this version of the operator, and nothing is forgotten until it can: its condition Ready says why."
        );
        Absent::new(object, "Unreadable", message)
    });
    o.policies.absent().next().or(object)
}

fn name(pipeline: &FlywheelPipeline) -> &str {
    pipeline.metadata.name.as_deref().unwrap_or_default()
}

fn idle(o: &PipelineObservation, status: &FlywheelPipelineStatus) -> String {
    let waits = match &status.next_schedule_time {
        Some(next) => format!("Waits for its triggers; next scheduled run at {}.", next.0),
        None => "Waits for its triggers.".to_owned(),
    };
    let unanswered = o
        .answers
        .iter()
        .find_map(|a| Some((&a.trigger, a.answer.as_ref().err()?)));
    match unanswered {
        Some((trigger, why)) => format!("{waits} Trigger {trigger}: the provider did not answer: {why}."),
        None => waits,
    }
}

/// The intended run exists: it is under way. A name that is taken by another pipeline's run is skipped.
fn follow(
    o: &PipelineObservation,
    status: &mut FlywheelPipelineStatus,
    events: &mut Vec<Note>,
    pending: &PendingRun,
) -> Option<Plan> {
    let run = run_name(name(&o.pipeline), pending.number);
    let found = o.runs.iter().find(|r| r.name == run)?;
    if found.ours {
        status.pending_run = None;
        status.last_run_number = status.last_run_number.max(pending.number);
        events.push(Note::normal(
            "StartRun",
            format!("Trigger {} started run {run}.", pending.trigger),
        ));
        return Some(Plan::ready("Running", format!("Run {run} is under way."), None));
    }
    status.pending_run = Some(PendingRun {
        number: pending.number.saturating_add(1),
        ..pending.clone()
    });
    let standing = Standing::new(Kind::Working, "Starting", format!("{run} is taken."));
    Some(Plan::rest(standing, None))
}

fn start(
    o: &PipelineObservation,
    status: &mut FlywheelPipelineStatus,
    events: &mut Vec<Note>,
    trigger: &Trigger,
) -> Plan {
    if let Some(at) = too_early(o, status) {
        status.queued_trigger = Some(trigger.name.clone());
        return Plan::ready(
            "MinInterval",
            format!("Trigger {} waits for cadence.minInterval until {at}.", trigger.name),
            Some(at),
        );
    }
    o.unreadable.look();
    // The facts have taken the runs that exist into account.
    let number = status.last_run_number.saturating_add(1);
    status.queued_trigger = None;
    status.last_run_start_time = Some(Time(o.now));
    status.pending_run = Some(PendingRun {
        number,
        trigger: trigger.name.clone(),
        trigger_type: trigger.type_,
    });
    let run = run_name(name(&o.pipeline), number);
    events.push(Note::normal("TriggerFired", format!("Trigger {} fired.", trigger.name)));
    Plan::starting(&run)
}

/// Until when the next run must wait, if it must.
fn too_early(o: &PipelineObservation, status: &FlywheelPipelineStatus) -> Option<Timestamp> {
    let interval = o
        .pipeline
        .spec
        .cadence
        .min_interval
        .as_ref()
        .and_then(Duration::seconds)?;
    let last = status.last_run_start_time.as_ref()?.0;
    Some(last + SignedDuration::from_secs(interval)).filter(|at| *at > o.now)
}

/// A trigger that fired during a run: dropped, or one more run afterwards.
fn busy(
    o: &PipelineObservation,
    status: &mut FlywheelPipelineStatus,
    events: &mut Vec<Note>,
    run: &str,
    trigger: &Trigger,
) {
    match o.pipeline.spec.cadence.concurrency_policy {
        ConcurrencyPolicy::Queue => status.queued_trigger = Some(trigger.name.clone()),
        ConcurrencyPolicy::Forbid if trigger.type_ == TriggerType::Schedule => {
            let message = format!(
                "Trigger {} fired while run {run} is under way: dropped (concurrencyPolicy Forbid).",
                trigger.name
            );
            dropped(events, "TriggerDropped", message);
        }
        // A metric that is still beyond its value fires again when the run has ended: nothing to tell.
        ConcurrencyPolicy::Forbid => {}
    }
}

/// The queued trigger, if the pipeline still has it.
fn take_queued(o: &PipelineObservation, status: &mut FlywheelPipelineStatus) -> Option<Trigger> {
    let queued = status.queued_trigger.clone()?;
    let found = o.pipeline.spec.triggers.iter().find(|t| t.name == queued).cloned();
    if found.is_none() {
        status.queued_trigger = None;
    }
    found
}

/// The first trigger that fires now. Scheduled moments are marked as handled.
fn fires(o: &PipelineObservation, status: &mut FlywheelPipelineStatus) -> Option<Trigger> {
    let after = status
        .last_schedule_time
        .as_ref()
        .map_or_else(|| created(&o.pipeline), |t| t.0);
    let mut fired = None;
    for trigger in &o.pipeline.spec.triggers {
        if let Some(plan) = &trigger.schedule
            && let Some(at) = schedule::due(plan, after, o.now)
        {
            let last = status.last_schedule_time.take().map_or(at, |t| t.0.max(at));
            status.last_schedule_time = Some(Time(last));
            fired = fired.or_else(|| Some(trigger.clone()));
        }
        if let Some(metric) = &trigger.metric
            && asked_since_last_run(o, status)
            && crosses(o, &trigger.name, metric)
        {
            fired = fired.or_else(|| Some(trigger.clone()));
        }
    }
    status.next_schedule_time = next_schedule(o).map(Time);
    fired
}

/// Whether the queries knew when the last run started; after a lost status they did not.
fn asked_since_last_run(o: &PipelineObservation, status: &FlywheelPipelineStatus) -> bool {
    o.pipeline.status.as_ref().and_then(last_start) == last_start(status)
}

/// When the last run started, whoever asked for it.
fn last_start(status: &FlywheelPipelineStatus) -> Option<Timestamp> {
    let times = [&status.last_run_start_time, &status.last_request_start_time];
    times.into_iter().flatten().map(|t| t.0).max()
}

fn crosses(o: &PipelineObservation, trigger: &str, metric: &MetricTrigger) -> bool {
    let answer = o
        .answers
        .iter()
        .find(|a| a.trigger == trigger)
        .and_then(|a| a.answer.as_ref().ok().copied().flatten());
    let Some((value, limit)) = answer.zip(metric.value.value()) else {
        return false;
    };
    match metric.operator {
        Comparison::GreaterThan => value > limit,
        Comparison::LessThan => value < limit,
    }
}

fn schedules(o: &PipelineObservation) -> impl Iterator<Item = &ScheduleTrigger> {
    o.pipeline.spec.triggers.iter().filter_map(|t| t.schedule.as_ref())
}

fn next_schedule(o: &PipelineObservation) -> Option<Timestamp> {
    schedules(o).filter_map(|s| schedule::next(s, o.now)).min()
}

/// When something may happen by itself.
fn look_again(o: &PipelineObservation, status: &FlywheelPipelineStatus) -> Option<Timestamp> {
    let metrics = o
        .pipeline
        .spec
        .triggers
        .iter()
        .filter_map(|t| t.metric.as_ref())
        .filter_map(|m| m.interval.seconds());
    let metric = metrics.min().map(|s| o.now + SignedDuration::from_secs(s.max(1)));
    let stale = super::show::stale_at(o, status).filter(|at| *at > o.now);
    [next_schedule(o), metric, stale].into_iter().flatten().min()
}

/// Metric triggers whose query should be asked now: those of a pipeline that could start a run.
#[must_use]
pub fn due_metrics(pipeline: &FlywheelPipeline) -> Vec<(String, MetricTrigger)> {
    let pending = pipeline.status.as_ref().is_some_and(|s| s.pending_run.is_some());
    if pipeline.spec.suspend || pending {
        return Vec::new();
    }
    pipeline
        .spec
        .triggers
        .iter()
        .filter_map(|t| t.metric.clone().map(|m| (t.name.clone(), m)))
        .collect()
}

/// The query with the time since the last run's start, or since the pipeline's creation.
#[must_use]
pub fn metric_query(pipeline: &FlywheelPipeline, metric: &MetricTrigger, now: Timestamp) -> String {
    let last = pipeline.status.as_ref().and_then(last_start);
    let since = last.unwrap_or_else(|| created(pipeline));
    let seconds = now.duration_since(since).as_secs().max(1);
    metric.query.replace("$sinceLastRun", &format!("{seconds}s"))
}
