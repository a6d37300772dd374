//! One look at a run: the status in the making, and how it becomes a decision.

use flywheel_api::condition::{self, Setting};
use flywheel_api::flywheel_run::{FlywheelRunStatus, RunOutcome, StageState};
use flywheel_api::names;
use flywheel_api::reference::{AutomationLevel, WaitingFor};
use flywheel_api::schema::Digest;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::snapshot::SnapshotData;
use super::view::{JobState, JobView, sends_back};
use super::{RunObservation, begin, deliver, snapshot};
use crate::decision::{Action, ChildKind, Decision, Effect, Note, ObjectKey, Wait};
use crate::denial;
use crate::level;
use crate::standing::{self, Kind, Standing, shorten};
use crate::view::level_in_force;

/// What follows from one row of the table.
pub enum Next {
    /// One effect, if the stored status already permits it.
    Do(Effect),
    /// Stand there until then, or until something changes.
    Rest(Standing, Option<Timestamp>),
    /// Wait for what is missing, with a reason and a sentence; after some minutes that is a failure.
    Missing(&'static str, String),
    /// The status is as it should be; nothing to do.
    Still(Option<Timestamp>, String),
}

/// One look at a run.
pub struct Turn<'a> {
    pub o: &'a RunObservation,
    pub status: FlywheelRunStatus,
    pub plan: Option<SnapshotData>,
    events: Vec<Note>,
}

impl<'a> Turn<'a> {
    pub fn new(o: &'a RunObservation) -> Self {
        let status = o.run.status.clone().unwrap_or_default();
        let plan = o.snapshot.as_ref().and_then(|s| snapshot::read(&s.data));
        Self {
            o,
            status,
            plan,
            events: Vec::new(),
        }
    }

    pub fn name(&self) -> &'a str {
        self.o.run.metadata.name.as_deref().unwrap_or_default()
    }

    /// A command of the plugin about this run.
    pub fn command(&self, verb: &str) -> String {
        let namespace = self.o.run.metadata.namespace.as_deref().unwrap_or_default();
        format!("kubectl flywheel {verb} run {} -n {namespace}", self.name())
    }

    pub fn uid(&self) -> &'a str {
        self.o.run.metadata.uid.as_deref().unwrap_or_default()
    }

    pub fn now(&self) -> Timestamp {
        self.o.now
    }

    /// A user asked for this run; triggers did not.
    pub fn requested(&self) -> bool {
        self.o.run.spec.trigger.type_ == flywheel_api::flywheel_pipeline::TriggerType::Request
    }

    /// The level in force: live, and never freer than at an earlier decision of this run, also of a status that was lost.
    pub fn level(&self) -> AutomationLevel {
        let o = self.o;
        let live = o
            .pipeline
            .as_ref()
            .map_or(AutomationLevel::Manual, |p| level_in_force(p, &o.settings, &o.policies));
        let before = [self.status.level, level::noted(&o.run.metadata)];
        before.into_iter().flatten().fold(live, AutomationLevel::min)
    }

    /// Remembers a decision and tells of it.
    pub fn decided(&mut self, decision: &str, reason: &str, message: &str, digest: Option<Digest>, warning: bool) {
        let level = Some(self.level());
        self.status.level = level;
        let record = standing::decision(self.now(), decision, reason, message, level, digest);
        standing::remember(&mut self.status.decisions, record);
        let note = if warning {
            Note::warning(decision, message)
        } else {
            Note::normal(decision, message)
        };
        self.events.push(note);
    }

    /// Ends the run.
    pub fn finish(&mut self, outcome: RunOutcome, reason: &str, message: &str) -> Next {
        let warning = !outcome.is_success();
        self.decided(outcome.name(), reason, message, None, warning);
        self.status.outcome = Some(outcome);
        self.status.outcome_reason = shorten(message, 1024);
        self.status.finished_at = Some(Time(self.now()));
        self.status.waiting_for = None;
        "Done".clone_into(&mut self.status.stage);
        self.tidy_up()
    }

    /// Waits for what is missing. Since when is in the status, and in no other that says where the run stands.
    fn await_missing(&mut self, reason: &str, message: String) -> Wait {
        let (stored, now) = (self.status.missing_since.as_ref(), self.now());
        let since = standing::missing_since(stored, &self.status.conditions, reason, now);
        let (standing, until) = standing::awaited(since, now, reason, message);
        self.conditions(&standing);
        self.status.missing_since = Some(Time(since));
        Wait {
            until,
            reason: said(&standing),
        }
    }

    /// The brake's standing, if it is pulled.
    pub fn braked(&self) -> Option<Next> {
        let brake = &self.o.settings.brake;
        brake.engaged.then(|| {
            let message = format!(
                "The administrator's brake stops every forward decision: {}",
                brake.reason
            );
            Next::Rest(Standing::new(Kind::Braked, "Braked", message), None)
        })
    }

    /// Begins or goes on to wait for a person. New evidence makes a new wait, with an event.
    pub fn wait_for(&mut self, mut waiting: WaitingFor, message: &str) -> Next {
        let old = self.status.waiting_for.take();
        let same = old.filter(|w| w.gate == waiting.gate && w.evidence_digest == waiting.evidence_digest);
        match same {
            Some(old) => waiting.since = old.since,
            None => {
                let what = format!("{message} To decide: {}", waiting.resolve);
                let digest = Some(waiting.evidence_digest.clone());
                self.decided("AwaitApproval", waiting.gate.name(), &what, digest, true);
            }
        }
        let text = format!(
            "{message} {} of {} approvals. To decide: {}",
            waiting.approved_by.len(),
            waiting.needed,
            waiting.resolve
        );
        self.status.waiting_for = Some(waiting);
        Next::Rest(Standing::new(Kind::AwaitingPerson, "AwaitingApproval", text), None)
    }

    /// Deletes a Job in the background, refused unless its UID still holds.
    pub fn delete_job(&self, job: &JobView, why: &str) -> Effect {
        let key = ObjectKey {
            kind: ChildKind::Job,
            name: job.name.clone(),
            uid: job.uid.clone(),
            resource_version: None,
        };
        Effect {
            action: Action::Delete(key),
            why: format!("delete Job {}: {why}", job.name),
        }
    }

    /// After the end: Jobs are removed some time after their result was recorded.
    pub fn tidy_up(&mut self) -> Next {
        let keep = SignedDuration::from_secs(self.o.settings.job_retention_seconds.max(0));
        let end = self.status.finished_at.as_ref().map_or(self.now(), |t| t.0);
        let due = end + keep;
        let mut jobs = self.o.jobs.iter().filter(|j| !j.deleting);
        let job = if self.now() >= due {
            jobs.next()
        } else {
            jobs.find(|j| j.state == JobState::Active)
        };
        if let Some(job) = job {
            return Next::Do(self.delete_job(job, "the run has ended"));
        }
        if let Some(effect) = self.late_delivery() {
            return Next::Do(effect);
        }
        let until = (!self.o.jobs.is_empty()).then_some(due);
        Next::Rest(self.ended(), until)
    }

    /// The creation of a Rollout may arrive after its run was cancelled or rejected: what nobody wants goes back, also if
    /// it was promoted before the run looked. A run that knew its Rollout ended with it.
    fn late_delivery(&self) -> Option<Effect> {
        let rollout = self.o.rollout.as_ref()?;
        let ours = rollout.run_uid.as_deref() == Some(self.uid());
        let unseen = self.status.rollout.as_ref().is_some_and(|r| r.uid.is_none());
        let refused = matches!(self.status.outcome, Some(RunOutcome::Cancelled | RunOutcome::Rejected));
        let unwanted = if rollout.phase.is_delivered() {
            refused && unseen
        } else {
            !rollout.phase.is_terminal() && sends_back(&self.status)
        };
        (ours && unwanted).then(|| deliver::abort(rollout)).flatten()
    }

    /// The standing of a run that has ended.
    fn ended(&self) -> Standing {
        let outcome = self.status.outcome.unwrap_or(RunOutcome::Failed);
        let bad = matches!(outcome, RunOutcome::Failed | RunOutcome::RolledBack);
        let kind = if bad { Kind::Stalled } else { Kind::Ready };
        Standing::new(kind, outcome.name(), self.status.outcome_reason.clone())
    }

    /// Nothing is decided and nothing is written.
    pub fn leave_alone(&mut self, why: &str) -> Next {
        Next::Still(None, why.to_owned())
    }

    fn conditions(&mut self, standing: &Standing) {
        self.status.missing_since = None;
        let mut settings = standing.settings();
        if self.status.pipeline_uid.is_some() {
            settings.push(Setting::yes(
                condition::ACCEPTED,
                "Accepted",
                "The pipeline was found and its snapshot taken.",
            ));
        }
        settings.push(match self.status.outcome {
            Some(outcome) => Setting::yes(condition::COMPLETE, outcome.name(), &*self.status.outcome_reason),
            None => Setting::no(condition::COMPLETE, "Running", "The run has not ended."),
        });
        let generation = self.o.run.metadata.generation;
        self.status.observed_generation = generation.unwrap_or_default();
        self.status.conditions = condition::replace(&self.status.conditions, &settings, generation, self.o.now);
    }

    /// Turns what follows into a decision: the status first, then the effect that it permits.
    pub fn settle(mut self, next: Next) -> Decision<FlywheelRunStatus> {
        let stored = self.o.run.status.clone().unwrap_or_default();
        let (effect, wait) = match next {
            Next::Do(effect) => {
                let idle = Wait {
                    until: None,
                    reason: effect.why.clone(),
                };
                if self.status != stored {
                    let standing = self.working();
                    self.conditions(&standing);
                }
                (Some(effect), idle)
            }
            Next::Rest(standing, until) => {
                let reason = said(&standing);
                self.conditions(&standing);
                (None, Wait { until, reason })
            }
            Next::Missing(reason, message) => (None, self.await_missing(reason, message)),
            Next::Still(until, reason) => (None, Wait { until, reason }),
        };
        let effect = effect.or_else(|| begin::note_level(&self));
        if let Some(standing) = denial::standing(self.o.denied.as_ref(), effect.as_ref(), &stored.conditions) {
            self.conditions(&standing);
        }
        Decision::settle(&stored, self.status, self.events, || effect, wait)
    }

    /// What the machine works on, for the status that permits an effect.
    fn working(&self) -> Standing {
        let running = self.status.stages.iter().find(|s| s.state == StageState::Running);
        match (self.status.outcome, running) {
            (Some(_), _) => self.ended(),
            (None, Some(stage)) => Standing::new(
                Kind::Working,
                "StageRunning",
                format!("Stage {}, attempt {}, starts.", stage.name, stage.attempt),
            ),
            (None, None) => Standing::new(
                Kind::Working,
                "Working",
                format!("The run is at {}.", self.status.stage),
            ),
        }
    }

    /// Labels of everything that this run makes.
    pub fn labels(&self) -> std::collections::BTreeMap<String, String> {
        // Its name and UID are those that it began with.
        let pipeline = self.o.pipeline.peek().as_ref();
        let text = |t: Option<&String>| t.cloned().unwrap_or_default();
        [
            ("app.kubernetes.io/managed-by", names::MANAGED_BY.to_owned()),
            (
                names::LABEL_PIPELINE,
                text(pipeline.and_then(|p| p.metadata.name.as_ref())),
            ),
            (
                names::LABEL_PIPELINE_UID,
                text(pipeline.and_then(|p| p.metadata.uid.as_ref())),
            ),
            (names::LABEL_RUN, self.name().to_owned()),
            (names::LABEL_RUN_UID, self.uid().to_owned()),
            (
                names::LABEL_MODEL,
                self.plan.as_ref().map(|p| p.model.name.clone()).unwrap_or_default(),
            ),
        ]
        .into_iter()
        .map(|(k, v)| (k.to_owned(), v))
        .collect()
    }
}

/// What the log says of who stands there.
fn said(standing: &Standing) -> String {
    format!("{}: {}", standing.reason, standing.message)
}
