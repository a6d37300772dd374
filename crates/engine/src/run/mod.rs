//! One turn of the loop: stages as Jobs, a version, its verdicts, its delivery.

mod begin;
mod deliver;
mod job;
mod judge;
mod pod;
mod register;
mod result;
pub(crate) mod snapshot;
mod stage;
mod stage_file;
mod turn;
mod unreadable;
mod view;

use flywheel_api::flywheel_run::{FlywheelRunStatus, RunDesiredState, RunOutcome};
use flywheel_api::rollout::RolloutPhase;
use flywheel_api::{FlywheelPipeline, FlywheelRun, ModelVersion};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use snapshot::{SnapshotData, revision_data};
pub use stage_file::stage_id;
pub use unreadable::Unreadable;
pub use view::{
    JobState, JobView, Peer, PodView, RolloutView, SnapshotView, VersionFact, asks_for_live, asks_for_peers, sends_back,
};

use crate::approval::ApprovalView;
use crate::decision::Decision;
use crate::denial::Denial;
use crate::part::Part;
use crate::settings::Settings;
use crate::standing::{Kind, Standing};
use crate::view::{LiveView, Policies};
use turn::{Next, Turn};

/// Everything that the decision about a run may know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunObservation {
    /// Now, in whole seconds.
    pub now: Timestamp,
    /// The administrator's settings.
    pub settings: Settings,
    /// The run.
    pub run: FlywheelRun,
    /// Its pipeline, if it exists.
    pub pipeline: Part<Option<FlywheelPipeline>>,
    /// The snapshot named in the status, if it exists.
    pub snapshot: Option<SnapshotView>,
    /// Jobs that carry this run's UID, with their pods.
    pub jobs: Part<Vec<JobView>>,
    /// The other unfinished runs of the namespace, if [`asks_for_peers`] says that they count.
    pub peers: Part<Vec<Peer>>,
    /// The version that serves on the target, if [`asks_for_live`] says that it counts.
    pub live: Part<Option<LiveView>>,
    /// Why nobody can say what serves there: the target is missing, or its binding cannot be read. That is not to say that
    /// nothing serves.
    #[serde(default)]
    pub untold: Part<Option<String>>,
    /// The versions of the model, and the one named in the status whichever model it is of.
    pub versions: Part<Vec<VersionFact>>,
    /// The version named in the status, if it exists.
    pub version: Part<Option<ModelVersion>>,
    /// The Rollout named in the status, if it exists; where none is named, the one that bears the version's name, which
    /// a lost status may have intended.
    pub rollout: Part<Option<RolloutView>>,
    /// Bias policies that apply to the pipeline.
    pub policies: Part<Policies>,
    /// Approvals that name this run or its version.
    pub approvals: Part<Vec<ApprovalView>>,
    /// What it depends on and this version of the operator cannot read.
    #[serde(default)]
    pub unreadable: Unreadable,
    /// Its effect that the API server has refused more than once.
    #[serde(default)]
    pub denied: Option<Denial>,
}

/// What to do with a run: at most one write.
#[must_use]
pub fn decide(o: &RunObservation) -> Decision<FlywheelRunStatus> {
    let mut turn = Turn::new(o);
    let next = advance(&mut turn);
    turn.settle(next)
}

/// The turn as a table: the first row that is not done decides.
fn advance(turn: &mut Turn<'_>) -> Next {
    if turn.o.run.metadata.deletion_timestamp.is_some() {
        return turn.leave_alone("the run is being deleted; its Jobs go with it");
    }
    if turn.status.outcome.is_some() {
        return turn.tidy_up();
    }
    if turn.o.run.spec.desired_state == RunDesiredState::Cancel {
        return cancel(turn);
    }
    let steps: [fn(&mut Turn<'_>) -> Option<Next>; 10] = [
        unreadable::neighbours,
        begin::pipeline,
        begin::owner,
        begin::start,
        begin::mark,
        begin::snapshot,
        stage::run_all,
        register::version,
        judge::promotion,
        deliver::rollout,
    ];
    for step in steps {
        if let Some(next) = step(turn) {
            return next;
        }
    }
    turn.finish(
        RunOutcome::Registered,
        "Registered",
        "The version is registered and approved; the pipeline has no rollout.",
    )
}

/// Stops Jobs and Rollout first, then ends.
fn cancel(turn: &mut Turn<'_>) -> Next {
    if let Some(job) = turn.o.jobs.iter().find(|j| j.state == JobState::Active && !j.deleting) {
        return Next::Do(turn.delete_job(job, "the run was cancelled"));
    }
    if let Some(next) = unreadable::rollout(turn) {
        return next;
    }
    if let Some(rollout) = &*turn.o.rollout
        && rollout.run_uid.as_deref() == Some(turn.uid())
        && !rollout.phase.is_terminal()
        && rollout.phase != RolloutPhase::Observing
    {
        if let Some(effect) = deliver::abort(rollout) {
            return Next::Do(effect);
        }
        return Next::Rest(
            Standing::new(Kind::Working, "Cancelling", "The rollout goes back to the baseline."),
            None,
        );
    }
    let ours = |r: &&RolloutView| r.run_uid.as_deref() == Some(turn.uid());
    if let Some(rollout) = turn.o.rollout.as_ref().filter(ours)
        && rollout.phase.has_delivered()
    {
        return deliver::outcome(turn, rollout);
    }
    turn.finish(RunOutcome::Cancelled, "Cancelled", "The run was cancelled by a person.")
}
