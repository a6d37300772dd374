//! The status that is being drafted, and how it becomes a decision.
//!
//! Every branch of the state machine changes the draft and ends in [`Draft::settle`]: if the draft differs from the
//! stored status it is recorded, and only a status that stands permits the effect.

use flywheel_api::RolloutStatus;
use flywheel_api::condition;
use flywheel_api::reference::AutomationLevel;
use flywheel_api::rollout::{RolloutPhase, RolloutPlan, Weights};
use flywheel_api::schema::Digest;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{PipelineFacts, RolloutObservation, prepare, show};
use crate::decision::{Action, Decision, Effect, Note, Wait};
use crate::denial;
use crate::level;
use crate::standing::{self, Kind, Standing};

/// The decision that records the baseline and takes the target.
pub(super) const BEGIN: &str = "Begin";

/// A change of mind, with its reason for machines and its sentence for people.
#[derive(Clone, Debug)]
pub(super) struct Why {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Why {
    pub(super) fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }
}

/// The status that is being drafted.
pub(super) struct Draft<'a> {
    pub(super) o: &'a RolloutObservation,
    pub(super) status: RolloutStatus,
    events: Vec<Note>,
    until: Option<Timestamp>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(o: &'a RolloutObservation) -> Self {
        Self {
            o,
            status: o.stored(),
            events: Vec::new(),
            until: None,
        }
    }

    pub(super) fn plan(&self) -> &'a RolloutPlan {
        &self.o.rollout.spec.plan
    }

    pub(super) fn now(&self) -> Option<Time> {
        Some(Time(self.o.now))
    }

    pub(super) fn name(&self) -> &'a str {
        self.o.rollout.metadata.name.as_deref().unwrap_or_default()
    }

    pub(super) fn uid(&self) -> &'a str {
        self.o.rollout.metadata.uid.as_deref().unwrap_or_default()
    }

    pub(super) fn is_deleting(&self) -> bool {
        self.o.rollout.metadata.deletion_timestamp.is_some()
    }

    /// A command of the plugin that acts on this Rollout.
    pub(super) fn command(&self, verb: &str) -> String {
        let namespace = self.o.rollout.metadata.namespace.as_deref().unwrap_or("default");
        format!("kubectl flywheel {verb} rollout {} -n {namespace}", self.name())
    }

    /// The level in force, never freer than at an earlier decision or when the run asked for the delivery; nothing for a
    /// Rollout without pipeline.
    pub(super) fn level(&self) -> Option<AutomationLevel> {
        let pipeline = self.o.pipeline.as_ref()?;
        let before = self.levels().chain(self.noted_level());
        if pipeline.unreadable {
            // The level that was in force: a stricter one could keep a check from going back.
            return before.min().or(Some(pipeline.level));
        }
        let ceiling = self.o.settings.automation_ceiling;
        let live = level::effective(pipeline.level, ceiling, &pipeline.caps).level;
        Some(before.fold(live, AutomationLevel::min))
    }

    /// The levels at which it decided, as far as its status knows.
    fn levels(&self) -> impl Iterator<Item = AutomationLevel> {
        self.status.decisions.iter().filter_map(|d| d.level)
    }

    /// The lowest level that is known beside the status, which may be lost.
    fn noted_level(&self) -> Option<AutomationLevel> {
        let rollout = &self.o.rollout;
        let noted = level::noted(&rollout.metadata);
        noted.into_iter().chain(rollout.spec.max_automation_level).min()
    }

    /// The lowest level at which it decided, if that is known by its status alone.
    pub(super) fn sunk_level(&self) -> Option<AutomationLevel> {
        let (lowest, noted) = (self.levels().min()?, self.noted_level());
        noted.is_none_or(|noted| lowest < noted).then_some(lowest)
    }

    /// Whether the pipeline that asked for this delivery is gone or on its way, or another one bears its name.
    pub(super) fn pipeline_gone(&self) -> Option<Why> {
        let asked = self.o.rollout.spec.pipeline_ref.as_ref()?;
        let is_there = |pipeline: &Option<PipelineFacts>| {
            let found = pipeline.as_ref();
            found.is_some_and(|p| p.uid == asked.uid && !p.deleting)
        };
        if is_there(self.o.pipeline.peek()) || is_there(&self.o.pipeline) {
            return None;
        }
        let message = format!(
            "FlywheelPipeline {}, which asked for this delivery (spec.pipelineRef), was deleted.",
            asked.name
        );
        Some(Why::new("PipelineDeleted", message))
    }

    /// Looks again at that time at the latest.
    pub(super) fn wake(&mut self, at: Option<Timestamp>) {
        if let Some(at) = at.filter(|at| *at > self.o.now) {
            self.until = Some(self.until.map_or(at, |u| u.min(at)));
        }
    }

    /// Records a change of mind and tells of it.
    pub(super) fn remember(&mut self, decision: &str, why: &Why, digest: Option<Digest>, warning: bool) {
        let record = standing::decision(self.o.now, decision, why.reason, &why.message, self.level(), digest);
        standing::remember(&mut self.status.decisions, record);
        self.tell(why, warning);
    }

    /// Tells of something that changes no mind.
    pub(super) fn tell(&mut self, why: &Why, warning: bool) {
        let note = if warning { Note::warning } else { Note::normal };
        self.events.push(note(why.reason, why.message.clone()));
    }

    /// Whether the progress that began at `progress_since` took longer than the plan allows; begins it if need be.
    pub(super) fn overdue(&mut self) -> bool {
        let since = self.status.progress_since.get_or_insert(Time(self.o.now)).0;
        let deadline = later(since, self.plan().progress_deadline_seconds);
        self.wake(deadline);
        deadline.is_some_and(|d| d <= self.o.now)
    }

    /// What follows, with nothing to be done.
    pub(super) fn rest(self, standing: Standing) -> Decision<RolloutStatus> {
        self.settle(standing, None)
    }

    /// What follows, with an effect that the stored status permits. While the machine works, an effect changes no word
    /// of where the Rollout stands: it is over before anybody reads it, and each write of a status costs its neighbours
    /// a look.
    pub(super) fn act(self, reason: &str, why: String, action: Action) -> Decision<RolloutStatus> {
        let conditions = self.o.rollout.status.iter().flat_map(|s| &s.conditions);
        let mut stored = conditions
            .filter(|c| c.type_ == condition::RECONCILING)
            .map(|c| Standing::new(Kind::Working, &c.reason, &*c.message));
        let standing = stored.next();
        let standing = standing.unwrap_or_else(|| Standing::new(Kind::Working, reason, why.clone()));
        self.settle(standing, Some(Effect { action, why }))
    }

    /// An effect that does not change where the Rollout stands.
    pub(super) fn clean(self, standing: Standing, action: Action, why: String) -> Decision<RolloutStatus> {
        self.settle(standing, Some(Effect { action, why }))
    }

    /// An effect that changes no word of the status, but for that it is refused.
    pub(super) fn only(self, effect: Effect) -> Decision<RolloutStatus> {
        match self.denied(Some(&effect)) {
            Some(standing) => self.settle(standing, Some(effect)),
            None => Decision::Do(effect),
        }
    }

    fn denied(&self, effect: Option<&Effect>) -> Option<Standing> {
        denial::standing(self.o.denied.as_ref(), effect, &self.o.stored().conditions)
    }

    /// First the status that should stand, then the effect, then waiting.
    fn settle(mut self, standing: Standing, effect: Option<Effect>) -> Decision<RolloutStatus> {
        let effect = effect.or_else(|| prepare::note_level(&self));
        let denied = self.denied(effect.as_ref());
        let standing = denied.unwrap_or(standing);
        let stored = self.o.stored();
        let before = condition::find(&stored.conditions, condition::READY).map(|c| c.reason.as_str());
        if self.events.is_empty() && standing.kind != Kind::Working && before != Some(standing.reason.as_str()) {
            let warning = !matches!(standing.kind, Kind::Waiting | Kind::Ready);
            let note = if warning { Note::warning } else { Note::normal };
            self.events.push(note(&standing.reason, standing.message.clone()));
        }
        let generation = self.o.rollout.metadata.generation;
        self.status.observed_generation = generation.unwrap_or_default();
        let settings = show::conditions(&self, &standing);
        self.status.conditions = condition::replace(&stored.conditions, &settings, generation, self.o.now);
        let wait = Wait {
            until: self.until,
            reason: standing.message,
        };
        Decision::settle(&stored, self.status, self.events, || effect, wait)
    }

    /// Ends the Rollout.
    pub(super) fn end(mut self, outcome: RolloutPhase, why: &Why) -> Decision<RolloutStatus> {
        self.remember(outcome.name(), why, None, show::is_failure(outcome));
        self.status.phase = outcome;
        self.status.outcome = Some(outcome);
        self.status.outcome_reason = standing::shorten(&why.message, 1024);
        self.status.finished_at = self.now();
        self.status.progress_since = None;
        self.status.missing_since = None;
        self.status.queued_behind.clear();
        self.clear_hold();
        let standing = show::ended(&self.status);
        self.rest(standing)
    }

    /// Intends these weights; what the candidate really gets stays as it was observed. Whether that was intended before.
    pub(super) fn head_for(&mut self, wanted: &Weights) -> bool {
        let weights = self.status.weights.get_or_insert_default();
        let intended = Weights {
            actual: weights.actual,
            ..wanted.clone()
        };
        let same = *weights == intended;
        *weights = intended;
        same
    }

    /// Nothing is waited for at the step any more.
    pub(super) fn clear_hold(&mut self) {
        self.status.waiting_for = None;
        if let Some(step) = &mut self.status.step {
            step.hold_reason.clear();
        }
    }

    /// Says what is waited for at the step.
    pub(super) fn hold(&mut self, reason: &str) {
        if let Some(step) = &mut self.status.step {
            reason.clone_into(&mut step.hold_reason);
        }
    }
}

/// That many seconds later.
pub(super) fn later(at: Timestamp, seconds: i64) -> Option<Timestamp> {
    at.checked_add(SignedDuration::from_secs(seconds)).ok()
}
