//! The loop itself: when it turns, what it shows, what it forgets.

mod history;
mod schedule;
mod show;
mod trigger;

use flywheel_api::condition::{self, Setting};
use flywheel_api::flywheel_pipeline::{FlywheelPipelineStatus, PendingRun, TriggerType};
use flywheel_api::flywheel_run::{RunOutcome, RunTrigger};
use flywheel_api::names;
use flywheel_api::reference::NameRef;
use flywheel_api::{FlywheelPipeline, FlywheelRun, FlywheelRunSpec, ModelVersion};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde::{Deserialize, Serialize};

pub use trigger::{due_metrics, metric_query};

use crate::decision::{Action, Child, Decision, Effect, Note, Wait};
use crate::denial::{self, Denial};
use crate::model_version::Delivery;
use crate::part::Part;
use crate::settings::Settings;
use crate::standing::{Kind, Standing};
use crate::view::{self, LiveView, Policies};

/// Everything that the decision about a pipeline may know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PipelineObservation {
    /// Now, in whole seconds.
    pub now: Timestamp,
    /// The administrator's settings.
    pub settings: Settings,
    /// The pipeline.
    pub pipeline: FlywheelPipeline,
    /// Other pipelines of the same model: name and creation.
    pub siblings: Part<Vec<(String, Timestamp)>>,
    /// Bias policies that apply.
    pub policies: Policies,
    /// The pipeline's runs, and the one that bears the name of [`pending_run`], whoever's it is.
    pub runs: Part<Vec<RunFact>>,
    /// The model's versions.
    pub versions: Part<Vec<VersionView>>,
    /// Rollouts of the model's versions.
    pub rollouts: Part<Vec<Delivery>>,
    /// Versions of the model and Rollouts that cannot be read, such as `ModelVersion eta-3`: while there are some, no run
    /// starts and nothing is forgotten.
    #[serde(default)]
    pub unreadable: Part<Vec<String>>,
    /// The pipeline's runs that cannot be read: the same.
    #[serde(default)]
    pub unreadable_runs: Part<Vec<String>>,
    /// Snapshots: name and UID.
    pub snapshots: Part<Vec<(String, String)>>,
    /// The version that serves on the target.
    pub live: Part<Option<LiveView>>,
    /// Why nobody can say what serves: the target does not exist, or its binding cannot be read. Meanwhile no version and
    /// no Rollout is forgotten.
    #[serde(default)]
    pub untold: Part<Option<String>>,
    /// Answers to the queries of metric triggers that were due.
    pub answers: Vec<MetricAnswer>,
    /// Its effect that the API server has refused more than once.
    #[serde(default)]
    pub denied: Option<Denial>,
}

/// A run as its pipeline sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunFact {
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// Whether the run is of this very pipeline: it names it in its spec, and as owner, unless it was not yet taken by any.
    pub ours: bool,
    /// What started it.
    pub trigger: TriggerType,
    /// When it was created.
    pub created: Timestamp,
    /// When it began, if it did.
    #[serde(default)]
    pub started: Option<Timestamp>,
    /// How it ended, if it did.
    pub outcome: Option<RunOutcome>,
    /// When it ended.
    pub finished: Option<Timestamp>,
    /// Its snapshot.
    pub snapshot: Option<String>,
    /// It is being deleted.
    pub deleting: bool,
}

impl RunFact {
    /// What a pipeline must know of a run that names it, or bears a name that it wants to give.
    #[must_use]
    pub fn of(run: &FlywheelRun, pipeline: &FlywheelPipeline) -> Self {
        let status = run.status.clone().unwrap_or_default();
        let named = pipeline.metadata.name.as_ref() == Some(&run.spec.pipeline_ref.name);
        let owners = || run.metadata.owner_references.iter().flatten();
        let free = owners().all(|o| o.kind != "FlywheelPipeline");
        let owned = owners().any(|o| pipeline.metadata.uid.as_ref() == Some(&o.uid));
        // The mark outlives the status; that of a run that never begins is no time.
        let annotations = run.metadata.annotations.as_ref();
        let mark = annotations.and_then(|a| a.get(names::ANNOTATION_BEGUN));
        let marked: Option<Timestamp> = mark.and_then(|since| since.parse().ok());
        Self {
            name: run.metadata.name.clone().unwrap_or_default(),
            uid: run.metadata.uid.clone().unwrap_or_default(),
            ours: named && (free || owned),
            trigger: run.spec.trigger.type_,
            created: view::created(&run.metadata),
            started: marked.or(status.started_at.map(|t| t.0)),
            outcome: status.outcome,
            finished: status.finished_at.map(|t| t.0),
            snapshot: status.snapshot.map(|s| s.name),
            deleting: run.metadata.deletion_timestamp.is_some(),
        }
    }
}

/// A version as its pipeline sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionView {
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// Number.
    pub number: i64,
    /// Name of its parent.
    pub parent: Option<String>,
    /// UID of the run that made it, from its provenance.
    pub run_uid: Option<String>,
    /// It serves on some target, as its own status says, or nobody can say that it does not.
    pub serves: bool,
    /// It is being deleted.
    pub deleting: bool,
}

impl VersionView {
    /// What a pipeline must know of a version.
    #[must_use]
    pub fn of(version: &ModelVersion) -> Self {
        let conditions = version.status.as_ref().map(|s| s.conditions.as_slice());
        let live = condition::find(conditions.unwrap_or_default(), condition::LIVE);
        Self {
            name: version.metadata.name.clone().unwrap_or_default(),
            uid: version.metadata.uid.clone().unwrap_or_default(),
            number: version.spec.version,
            parent: version.spec.parent.as_ref().map(|p| p.name.clone()),
            run_uid: version.spec.provenance.as_ref().map(|p| p.run.uid.clone()),
            serves: live.is_some_and(|live| live.status != "False"),
            deleting: version.metadata.deletion_timestamp.is_some(),
        }
    }
}

/// The answer to a metric trigger's query.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetricAnswer {
    /// Name of the trigger.
    pub trigger: String,
    /// The number; nothing if the query had no answer; or why it failed.
    pub answer: Result<Option<f64>, String>,
}

/// What to do with a pipeline: at most one write.
#[must_use]
pub fn decide(o: &PipelineObservation) -> Decision<FlywheelPipelineStatus> {
    if o.pipeline.metadata.deletion_timestamp.is_some() {
        let reason = "the pipeline is being deleted; its runs go with it, what serves stays".to_owned();
        return Decision::Wait(Wait { until: None, reason });
    }
    let stored = o.pipeline.status.clone().unwrap_or_default();
    let mut status = stored.clone();
    let mut events = Vec::new();
    show::facts(o, &mut status);
    if let Some(refused) = refusal(o) {
        show::conditions(o, &mut status, &refused, false);
        status.next_schedule_time = None;
        return Decision::settle(
            &stored,
            status,
            events,
            || None,
            Wait {
                until: None,
                reason: refused.message,
            },
        );
    }
    let plan = trigger::plan(o, &mut status, &mut events);
    let pending = status.pending_run.as_ref().filter(|_| plan.starts);
    let start = pending.and_then(|p| create(o, p));
    let denied = denial::standing(o.denied.as_ref(), start.as_ref(), &stored.conditions);
    // What is over may be what leaves no room.
    let is_first = denied.is_none();
    let standing = denied.unwrap_or(plan.standing);
    show::conditions(o, &mut status, &standing, true);
    let effect = || match start {
        Some(start) if is_first => Some(start),
        start => history::prune(o).or(start),
    };
    let reason = format!("{}: {}", standing.reason, standing.message);
    Decision::settle(
        &stored,
        status,
        events,
        effect,
        Wait {
            until: plan.until,
            reason,
        },
    )
}

/// Why a pipeline is not accepted, if it is not.
fn refusal(o: &PipelineObservation) -> Option<Standing> {
    let name = o.pipeline.metadata.name.as_deref().unwrap_or_default();
    let created = created(&o.pipeline);
    let older = o.siblings.iter().find(|(n, at)| (*at, n.as_str()) < (created, name));
    if let Some((other, _)) = older {
        let model = &o.pipeline.spec.model.name;
        let message = format!(
            "spec.model.name is {model}, which FlywheelPipeline {other} already makes: one pipeline per model and namespace; delete one of them or choose another name."
        );
        return Some(Standing::new(Kind::Stalled, "ModelTaken", message));
    }
    let broken = o.pipeline.spec.triggers.iter().find_map(|t| {
        let schedule = t.schedule.as_ref()?;
        schedule::check(schedule).err().map(|why| (t.name.clone(), why))
    });
    if let Some((trigger, why)) = broken {
        let message = format!(
            "spec.triggers[{trigger}].schedule cannot be understood: {why}; cron needs five fields such as \"0 3 * * 1\", timeZone a name such as Europe/Zurich."
        );
        return Some(Standing::new(Kind::Stalled, "InvalidSchedule", message));
    }
    let unknown = o.pipeline.spec.triggers.iter().find_map(|t| {
        let provider = &t.metric.as_ref()?.provider_ref.name;
        o.settings
            .provider(provider)
            .is_none()
            .then(|| (t.name.clone(), provider.clone()))
    });
    let (trigger, provider) = unknown?;
    let known: Vec<_> = o.settings.metric_providers.iter().map(|p| p.name.as_str()).collect();
    let known = if known.is_empty() {
        "none".to_owned()
    } else {
        known.join(", ")
    };
    let message = format!(
        "spec.triggers[{trigger}].metric.providerRef names {provider}, which the administrator did not declare; declared: {known}."
    );
    Some(Standing::new(Kind::Stalled, "ProviderNotFound", message))
}

fn created(pipeline: &FlywheelPipeline) -> Timestamp {
    pipeline
        .metadata
        .creation_timestamp
        .as_ref()
        .map(|t| t.0)
        .unwrap_or_default()
}

/// Creates the run that the status intends.
fn create(o: &PipelineObservation, pending: &PendingRun) -> Option<Effect> {
    let name = o.pipeline.metadata.name.clone()?;
    let uid = o.pipeline.metadata.uid.clone()?;
    let run = run_name(&name, pending.number);
    let spec = FlywheelRunSpec {
        pipeline_ref: NameRef::new(&*name),
        trigger: RunTrigger {
            name: pending.trigger.clone(),
            type_: pending.trigger_type,
        },
        requested_by: String::new(),
        parameters: Vec::new(),
        desired_state: flywheel_api::flywheel_run::RunDesiredState::Run,
    };
    let mut object = FlywheelRun::new(&run, spec);
    object.metadata = ObjectMeta {
        name: Some(run.clone()),
        labels: Some(
            [
                ("app.kubernetes.io/managed-by", names::MANAGED_BY.to_owned()),
                (names::LABEL_PIPELINE, name.clone()),
                (names::LABEL_PIPELINE_UID, uid.clone()),
                (names::LABEL_MODEL, o.pipeline.spec.model.name.clone()),
            ]
            .into_iter()
            .map(|(k, v)| (k.to_owned(), v))
            .collect(),
        ),
        owner_references: Some(vec![OwnerReference {
            api_version: names::API_VERSION.to_owned(),
            kind: "FlywheelPipeline".to_owned(),
            name,
            uid,
            controller: Some(true),
            block_owner_deletion: Some(true),
        }]),
        ..ObjectMeta::default()
    };
    let why = format!("trigger {} starts run {run}", pending.trigger);
    Some(Effect {
        action: Action::Create(Box::new(Child::FlywheelRun(object))),
        why,
    })
}

/// Name of the run that the pipeline intends to make, if it intends one.
#[must_use]
pub fn pending_run(pipeline: &FlywheelPipeline) -> Option<String> {
    let pending = pipeline.status.as_ref()?.pending_run.as_ref()?;
    Some(run_name(pipeline.metadata.name.as_deref()?, pending.number))
}

/// Name of the run with this number.
fn run_name(pipeline: &str, number: i64) -> String {
    format!("{pipeline}-{number}")
}

/// The number in the name of a run.
fn run_number(o: &PipelineObservation, run: &str) -> Option<i64> {
    let pipeline = o.pipeline.metadata.name.as_deref()?;
    run.strip_prefix(pipeline)?.strip_prefix('-')?.parse().ok()
}

/// The run that has not ended, if there is one.
fn active(o: &PipelineObservation) -> Option<&RunFact> {
    o.runs
        .iter()
        .filter(|r| r.ours && r.outcome.is_none() && !r.deleting)
        .min_by_key(|r| (r.created, r.name.clone()))
}

/// A condition of the pipeline.
fn setting(yes: bool, type_: &'static str, reason: &str, message: impl Into<String>) -> Setting {
    if yes {
        Setting::yes(type_, reason, message)
    } else {
        Setting::no(type_, reason, message)
    }
}

/// Tells of a trigger that was dropped.
fn dropped(events: &mut Vec<Note>, reason: &str, message: String) {
    events.push(Note::warning(reason, message));
}
