//! What the decision on a Rollout may know: plain data that can be printed and replayed.

use flywheel_api::flywheel_pipeline::ApprovalRule;
use flywheel_api::names::ANNOTATION_BEGUN;
use flywheel_api::reference::{ApprovalGate, AutomationLevel};
use flywheel_api::rollout::{RolloutPhase, Side};
use flywheel_api::{FlywheelPipeline, ModelVersion, Rollout, RolloutStatus};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

use super::candidate::BaselineNote;
use crate::approval::ApprovalView;
use crate::binding::VersionView;
use crate::denial::Denial;
use crate::part::Part;
use crate::settings::Settings;
use crate::view::Policies;

/// Everything that the decision on a Rollout may know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RolloutObservation {
    /// Current time, in whole seconds.
    pub now: Timestamp,
    /// The administrator's settings.
    pub settings: Settings,
    /// The Rollout itself.
    pub rollout: Rollout,
    /// The version that it delivers.
    pub version: Part<Option<ModelVersion>>,
    /// The Deployment that it delivers to.
    pub target: Part<Option<Deployment>>,
    /// The Deployment named `<target>-candidate`, whoever made it.
    pub candidate: Part<Option<Deployment>>,
    /// The other Rollouts of the same target.
    pub others: Part<Vec<Peer>>,
    /// The pipeline of that name, if the Rollout names one and it exists.
    pub pipeline: Part<Option<PipelineFacts>>,
    /// Versions of the namespace, to name the one that serves; none where [`super::names_sides`] says that none is named.
    pub versions: Part<Vec<VersionView>>,
    /// Approvals that name this Rollout.
    pub approvals: Part<Vec<ApprovalView>>,
    /// Answers to the checks of [`super::due_checks`], and to no others.
    pub answers: Vec<Answer>,
    /// Its effect that the API server has refused more than once.
    #[serde(default)]
    pub denied: Option<Denial>,
}

/// Another Rollout of the same target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Peer {
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// When it was created.
    pub created: Timestamp,
    /// Where it stands.
    pub phase: RolloutPhase,
    /// When it last set what serves: its promotion, or the end of its way back. Nothing before.
    pub settled_at: Option<Timestamp>,
    /// Version and value that it delivers; nothing before it began.
    pub candidate: Option<Side>,
    /// What served before it; nothing before it began.
    pub baseline: Option<Side>,
    /// UID of the Deployment that it was delivered to: a target that was made anew carries nothing of it.
    pub target_uid: Option<String>,
    /// It is being deleted.
    pub deleting: bool,
    /// Name of the version that it delivers.
    #[serde(default)]
    pub version: String,
    /// Its status is lost, and its mark says that this served before it.
    #[serde(default)]
    pub lost: Option<Side>,
}

impl Peer {
    /// What another Rollout must know of this one.
    #[must_use]
    pub fn of(rollout: &Rollout) -> Self {
        let status = rollout.status.clone().unwrap_or_default();
        let note = mark(rollout).filter(|_| !is_known(&status));
        let note = note.and_then(BaselineNote::read);
        let settled = match status.phase {
            RolloutPhase::RolledBack | RolloutPhase::Aborted | RolloutPhase::Failed => &status.finished_at,
            _ => &status.promoted_at,
        };
        Self {
            name: rollout.metadata.name.clone().unwrap_or_default(),
            uid: rollout.metadata.uid.clone().unwrap_or_default(),
            created: created(rollout),
            phase: status.phase,
            settled_at: settled.as_ref().map(|t| t.0),
            candidate: status.candidate,
            baseline: status.baseline,
            target_uid: status.target_uid,
            deleting: rollout.metadata.deletion_timestamp.is_some(),
            version: rollout.spec.model_version_ref.name.clone(),
            lost: note.map(|n| n.side),
        }
    }

    /// A Rollout that cannot be read. Nobody knows how far it is: who has not begun waits behind it.
    #[must_use]
    pub fn unreadable(metadata: &ObjectMeta) -> Self {
        Self {
            name: metadata.name.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
            created: Timestamp::UNIX_EPOCH,
            phase: RolloutPhase::Pending,
            settled_at: None,
            candidate: None,
            baseline: None,
            target_uid: None,
            deleting: false,
            version: String::new(),
            lost: None,
        }
    }

    /// Whether it says what serves, after another Rollout of its target promoted a version at that time: it is at work
    /// there, or its version took the target over later. One that went back left what it had found.
    #[must_use]
    pub fn follows(&self, promoted: Timestamp) -> bool {
        let delivered = self.phase.has_delivered() && self.settled_at.is_some_and(|at| at > promoted);
        self.baseline.is_some() && (self.phase.holds_target() || delivered)
    }
}

pub(super) fn created(rollout: &Rollout) -> Timestamp {
    rollout
        .metadata
        .creation_timestamp
        .as_ref()
        .map_or(Timestamp::UNIX_EPOCH, |t| t.0)
}

/// What a Rollout was marked with when it began: its baseline, or that it found its version live.
pub(super) fn mark(rollout: &Rollout) -> Option<&str> {
    let annotations = rollout.metadata.annotations.as_ref()?;
    annotations.get(ANNOTATION_BEGUN).map(String::as_str)
}

/// Whether a status tells what became of its Rollout: one that is lost, or was never written, knows nothing of it.
pub(super) const fn is_known(status: &RolloutStatus) -> bool {
    !status.decisions.is_empty() || !status.conditions.is_empty()
}

/// What a Rollout must know of its pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PipelineFacts {
    /// UID.
    pub uid: String,
    /// Level that its spec asks for.
    pub level: AutomationLevel,
    /// Levels that its bias policies allow at most.
    pub caps: Vec<AutomationLevel>,
    /// Its rule for Approvals of gate RolloutStep.
    pub step_rule: Option<ApprovalRule>,
    /// It is being deleted: with a foreground deletion it stays until what it owns is gone.
    #[serde(default)]
    pub deleting: bool,
    /// It cannot be read: nobody knows its level and its rules.
    #[serde(default)]
    pub unreadable: bool,
}

impl PipelineFacts {
    /// What is known of a pipeline that cannot be read: that it is there. It lets the Rollout go back, and not forward.
    #[must_use]
    pub fn unreadable(metadata: &ObjectMeta) -> Self {
        Self {
            uid: metadata.uid.clone().unwrap_or_default(),
            level: AutomationLevel::Manual,
            caps: Vec::new(),
            step_rule: None,
            deleting: metadata.deletion_timestamp.is_some(),
            unreadable: true,
        }
    }

    /// What a Rollout must know of the pipeline that asked for it.
    #[must_use]
    pub fn of(pipeline: &FlywheelPipeline, policies: &Policies) -> Self {
        Self {
            uid: pipeline.metadata.uid.clone().unwrap_or_default(),
            level: pipeline.spec.automation_level,
            caps: policies.caps(),
            deleting: pipeline.metadata.deletion_timestamp.is_some(),
            unreadable: false,
            step_rule: pipeline
                .spec
                .approvals
                .iter()
                .find(|r| r.gate == ApprovalGate::RolloutStep)
                .cloned(),
        }
    }
}

/// What a metric provider answered to one check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// Name of the check.
    pub check: String,
    /// Answer to the query.
    pub candidate: Reading,
    /// Answer to the baseline's query, if the check has one.
    pub baseline: Option<Reading>,
    /// Answer to the query that counts samples, if the check has one.
    pub samples: Option<Reading>,
}

/// The answer to one query.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Reading {
    /// One number.
    Value(f64),
    /// No number: no series, or NaN.
    Empty,
    /// The provider could not be asked, or gave no usable answer; one sentence.
    Error(String),
}

impl From<f64> for Reading {
    /// A number; NaN and infinities, which a query gives where there is nothing to divide by, are no answer.
    fn from(value: f64) -> Self {
        if value.is_finite() {
            Self::Value(value)
        } else {
            Self::Empty
        }
    }
}

impl RolloutObservation {
    /// The stored status.
    pub(super) fn stored(&self) -> RolloutStatus {
        self.rollout.status.clone().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    #[test]
    fn a_rollout_that_went_back_does_not_follow_the_one_before_it() {
        let at = |seconds: i64| Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds);
        for (phase, settled, expected) in [
            (RolloutPhase::Queued, None, false),
            (RolloutPhase::Progressing, None, true),
            (RolloutPhase::RollingBack, Some(20), true),
            (RolloutPhase::Observing, Some(20), true),
            (RolloutPhase::Promoted, Some(20), true),
            (RolloutPhase::Promoted, Some(5), false),
            (RolloutPhase::Superseded, Some(20), true),
            (RolloutPhase::Superseded, None, false),
            (RolloutPhase::RolledBack, Some(20), false),
            (RolloutPhase::Aborted, Some(20), false),
            (RolloutPhase::Failed, Some(20), false),
        ] {
            let peer = Peer {
                phase,
                settled_at: settled.map(at),
                baseline: Some(Side::default()),
                ..Peer::unreadable(&ObjectMeta::default())
            };
            assert_eq!(peer.follows(at(10)), expected, "{phase:?} {settled:?}");
        }
    }
}
