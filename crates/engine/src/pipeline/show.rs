//! What a pipeline shows: level, live version, runs, freshness.

use flywheel_api::condition::{self, Setting};
use flywheel_api::flywheel_pipeline::{FlywheelPipelineStatus, LastRun, TriggerType, VersionSince};
use flywheel_api::flywheel_run::RunOutcome;
use flywheel_api::reference::NameRef;
use flywheel_api::schema::Duration;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{PipelineObservation, RunFact, active, run_number, setting};
use crate::level;
use crate::standing::Standing;

/// The clocks of two operators that follow each other may differ by so much: no moment fires twice because of that.
const SKEW: SignedDuration = SignedDuration::from_secs(60);

/// Facts, as they are now.
pub fn facts(o: &PipelineObservation, status: &mut FlywheelPipelineStatus) {
    let spec = &o.pipeline.spec;
    status.observed_generation = o.pipeline.metadata.generation.unwrap_or_default();
    // Whoever finds something missing says so again.
    status.missing_since = None;
    status.effective_level = Some(level::effective(
        spec.automation_level,
        o.settings.automation_ceiling,
        &o.policies.caps(),
    ));
    status.live_version = live_version(o, status.live_version.take());
    starts(o, status);
    let numbers = o.runs.iter().filter_map(|r| run_number(o, &r.name));
    status.last_run_number = numbers.fold(status.last_run_number, i64::max);
    let versions = o.versions.iter().map(|v| v.number);
    status.last_version_number = versions.fold(status.last_version_number, i64::max);
    status.active_run = active(o).map(|r| NameRef::new(&*r.name));
    let ended = o.runs.iter().filter(|r| r.ours).filter_map(|r| Some((r.finished?, r)));
    if let Some((at, run)) = ended.max_by_key(|(at, r)| (*at, r.name.clone())) {
        let outcome = run.outcome.map_or_else(String::new, |o| o.name().to_owned());
        status.last_run = Some(LastRun {
            name: run.name.clone(),
            outcome,
            finished_at: Time(at),
        });
    }
    // The run itself may be forgotten, and others may have failed since.
    let good = o
        .runs
        .iter()
        .filter(|r| r.ours && r.outcome.is_some_and(RunOutcome::is_success));
    let known = status.last_success_time.take().map(|t| t.0);
    status.last_success_time = known.max(good.filter_map(|r| r.finished).max()).map(Time);
}

/// What serves, and since when. It grows no younger because it could not be seen, or because the status was lost: then the
/// Rollout that delivered it knows.
fn live_version(o: &PipelineObservation, old: Option<VersionSince>) -> Option<VersionSince> {
    let Some(live) = o.live.as_ref() else {
        return old.filter(|old| o.untold.is_some() || is_unreadable(o, &old.name));
    };
    let since = match old {
        Some(old) if old.name == live.name => return Some(old),
        Some(_) => o.now,
        None => {
            let delivered = o.rollouts.iter().filter(|r| r.candidate == live.name);
            let promoted = delivered.filter_map(|r| r.promoted).max();
            promoted.map_or(o.now, |at| at.min(o.now))
        }
    };
    Some(VersionSince {
        name: live.name.clone(),
        since: Time(since),
    })
}

/// Whether the version of that name cannot be read: of what the target carries nobody can say then that it is this one.
fn is_unreadable(o: &PipelineObservation, version: &str) -> bool {
    let named = |object: &String| object.strip_prefix("ModelVersion ") == Some(version);
    o.unreadable.iter().any(named)
}

/// That nobody can say what serves, and why.
fn live_unknown(o: &PipelineObservation, status: &FlywheelPipelineStatus) -> Option<Setting> {
    let seen = status.live_version.as_ref();
    let of_version = || {
        let seen = seen.filter(|seen| o.live.is_none() && is_unreadable(o, &seen.name))?;
        Some(format!(
            "ModelVersion {} cannot be read by this version of the operator: its condition Ready says why.",
            seen.name
        ))
    };
    let why = (*o.untold).clone().or_else(of_version)?;
    let known = seen.map_or(
        "no version is known to have served",
        |_| "liveVersion is what was seen last",
    );
    let message = format!("What serves cannot be told; {known}. {why}");
    Some(Setting::yes(
        condition::LIVE_VERSION_UNKNOWN,
        "LiveVersionUnknown",
        message,
    ))
}

/// When runs started, and for which moment of a schedule: a lost status must not make the triggers fire once more.
fn starts(o: &PipelineObservation, status: &mut FlywheelPipelineStatus) {
    let runs = || o.runs.iter().filter(|r| r.ours);
    let triggered = |r: &&RunFact| r.trigger != TriggerType::Request;
    let started = runs().filter(triggered).map(|r| r.created).max();
    let known = passed(status.last_run_start_time.take(), o.now);
    status.last_run_start_time = known.max(started).map(Time);
    // From here metric triggers count; for who has none it is not worth a write.
    let counts = o.pipeline.spec.triggers.iter().any(|t| t.metric.is_some());
    let asked = |r: &&RunFact| counts && r.trigger == TriggerType::Request;
    // A clock that was ahead has marked a beginning that is to come: the API server knows when the run was asked for.
    let marked = |r: &RunFact| r.started.map(|at| if at > o.now + SKEW { r.created } else { at });
    let begun = runs().filter(asked).filter_map(marked).max();
    let known = passed(status.last_request_start_time.take(), o.now);
    status.last_request_start_time = known.max(begun).map(Time);
    let scheduled = |r: &&RunFact| r.trigger == TriggerType::Schedule;
    let made = runs().filter(scheduled).map(|r| r.created).max();
    let known = passed(status.last_schedule_time.take(), o.now);
    status.last_schedule_time = known.or(made).map(Time);
}

/// A stored moment of the past. A clock that was ahead has left one that is to come: nothing would fire until then, so
/// it counts as now.
fn passed(stored: Option<Time>, now: Timestamp) -> Option<Timestamp> {
    stored.map(|t| if t.0 > now + SKEW { now } else { t.0 })
}

/// When the live version becomes too old.
pub fn stale_at(o: &PipelineObservation, status: &FlywheelPipelineStatus) -> Option<Timestamp> {
    let most = o
        .pipeline
        .spec
        .cadence
        .max_interval
        .as_ref()
        .and_then(Duration::seconds)?;
    let since = status
        .live_version
        .as_ref()
        .map_or_else(|| super::created(&o.pipeline), |v| v.since.0);
    Some(since + SignedDuration::from_secs(most))
}

/// Conditions of an accepted or refused pipeline.
pub fn conditions(o: &PipelineObservation, status: &mut FlywheelPipelineStatus, standing: &Standing, accepted: bool) {
    let mut settings = standing.settings();
    let message = if accepted {
        "The pipeline was understood."
    } else {
        standing.message.as_str()
    };
    let reason = if accepted { "Accepted" } else { standing.reason.as_str() };
    settings.push(setting(accepted, condition::ACCEPTED, reason, message));
    settings.extend(live_unknown(o, status));
    if let Some(at) = stale_at(o, status).filter(|_| accepted) {
        let live = status.live_version.as_ref().map_or("No version", |v| v.name.as_str());
        settings.push(if at > o.now {
            setting(
                true,
                condition::FRESH,
                "WithinMaxInterval",
                format!("{live} is younger than cadence.maxInterval until {at}."),
            )
        } else {
            setting(
                false,
                condition::FRESH,
                "Stale",
                format!("{live} is older than cadence.maxInterval since {at}: look at the last runs."),
            )
        });
    }
    if let Some(last) = status.last_run.as_ref().filter(|_| accepted) {
        let good = !matches!(last.outcome.as_str(), "Failed" | "RolledBack");
        let message = format!("Run {} ended as {}.", last.name, last.outcome);
        settings.push(setting(good, condition::LAST_RUN_SUCCEEDED, &last.outcome, message));
    }
    let generation = o.pipeline.metadata.generation;
    status.conditions = condition::replace(&status.conditions, &settings, generation, o.now);
}
