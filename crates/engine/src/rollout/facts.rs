//! Questions to the observation: what the target carries, whose the candidate is, who else wants the target.

use flywheel_api::names;
use flywheel_api::rollout::{RolloutPhase, Side};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use serde_json::Value;

use super::draft::{BEGIN, Draft, Why};
use super::evidence::adoption_digest;
use super::observation::{Peer, created};
use crate::binding::{self, BindingError};

/// Whose value the target carries.
pub(super) enum Carried {
    Baseline,
    Candidate,
    /// Neither: somebody else wrote it.
    Foreign(Option<String>),
    Unreadable(BindingError),
}

/// Whose the Deployment with the candidate's name is.
pub(super) enum Twin<'a> {
    None,
    /// Ours.
    Ours(&'a Deployment),
    /// Being deleted.
    Going,
    /// Another Rollout's that exists.
    Rival(String),
    /// Another Rollout's that is gone.
    Orphan(&'a Deployment),
    /// No Rollout's: a user's.
    Stranger,
}

impl<'a> Draft<'a> {
    /// The target, if it is still the one that the Rollout began with.
    pub(super) fn target(&self) -> Option<&'a Deployment> {
        let known = self.status.target_uid.as_ref();
        self.o
            .target
            .as_ref()
            .filter(|t| t.metadata.deletion_timestamp.is_none())
            .filter(|t| known.is_none() || known == t.metadata.uid.as_ref())
    }

    pub(super) fn carried(&self, target: &Deployment) -> Carried {
        let live = match binding::value(target, &self.plan().binding) {
            Ok(live) => live,
            Err(error) => return Carried::Unreadable(error),
        };
        let is = |side: &Option<Side>| side.as_ref().is_some_and(|s| s.value == live);
        if is(&self.status.candidate) {
            Carried::Candidate
        } else if is(&self.status.baseline) {
            Carried::Baseline
        } else {
            Carried::Foreign(live)
        }
    }

    pub(super) fn twin(&self) -> Twin<'a> {
        let Some(found) = &*self.o.candidate else {
            return Twin::None;
        };
        let label = found
            .metadata
            .labels
            .as_ref()
            .and_then(|l| l.get(names::LABEL_ROLLOUT_UID));
        match label {
            None => Twin::Stranger,
            Some(_) if found.metadata.deletion_timestamp.is_some() => Twin::Going,
            Some(uid) if uid == self.uid() => Twin::Ours(found),
            Some(uid) => {
                let owner = self.o.others.iter().find(|p| p.uid == *uid);
                owner.map_or(Twin::Orphan(found), |owner| Twin::Rival(owner.name.clone()))
            }
        }
    }

    /// Why nobody writes on the target: what it carries, what it should carry, who wrote it, and what to do.
    pub(super) fn drift(&self, target: &Deployment) -> Why {
        let live = binding::value(target, &self.plan().binding).ok().flatten();
        let baseline = self.status.baseline.as_ref().map(|b| b.value.as_deref());
        let candidate = self.status.candidate.as_ref().and_then(|c| c.value.as_deref());
        let expected = match (baseline, candidate) {
            (Some(baseline), Some(candidate)) => format!("{} or {candidate}", shown(baseline)),
            _ => shown(self.left_behind().unwrap_or_default()).to_owned(),
        };
        self.drift_from(target, live.as_deref(), &expected)
    }

    fn drift_from(&self, target: &Deployment, live: Option<&str>, expected: &str) -> Why {
        let message = format!(
            "Deployment {} carries {} (last written by {}), expected {expected}: set it back, or take it as the new baseline with `{}` (annotation {}={}).",
            target.metadata.name.as_deref().unwrap_or_default(),
            shown(live),
            self.last_writer(target),
            self.command("adopt"),
            names::ANNOTATION_ADOPT,
            adoption_digest(live),
        );
        Why::new("Drifted", message)
    }

    /// Whether a person took the drifted value as the new baseline.
    pub(super) fn is_adopted(&self, live: Option<&str>) -> bool {
        let annotations = self.o.rollout.metadata.annotations.as_ref();
        let asked = annotations.and_then(|a| a.get(names::ANNOTATION_ADOPT));
        asked.is_some_and(|digest| *digest == adoption_digest(live).0)
    }

    /// One side of the Rollout, with the version that the value names.
    pub(super) fn side(&self, value: Option<String>) -> Side {
        Side {
            version: value.as_ref().and_then(|v| binding::version_of(v, &self.o.versions)),
            value,
        }
    }

    /// The side that the Rollout brings.
    pub(super) fn ours(&self, wanted: String) -> Side {
        Side {
            version: Some(self.o.rollout.spec.model_version_ref.name.clone()),
            value: Some(wanted),
        }
    }

    /// The value that the last Rollout of this target left on it.
    pub(super) fn left_behind(&self) -> Option<Option<&'a str>> {
        self.last_to_leave().map(|(_, value)| value)
    }

    /// Whether the target carries what a Rollout left on it, or none left anything. The times at which they did are of the
    /// clocks of those who led then; where these disagree, the API server's word counts that Flywheel wrote the value, if
    /// it is what one of them left.
    pub(super) fn is_left_behind(&self, target: &Deployment, live: Option<&str>) -> bool {
        let Some(last) = self.left_behind() else {
            return true;
        };
        last == live || (self.wrote(target) && self.leavers().any(|(_, _, value)| value == live))
    }

    /// The last Rollout of this target, and the value that it left on it.
    fn last_to_leave(&self) -> Option<(&'a Peer, Option<&'a str>)> {
        let all = self.leavers();
        let last = all.max_by_key(|&(at, peer, _)| (at, peer.created, peer.name.as_str()));
        last.map(|(_, peer, value)| (peer, value))
    }

    /// The Rollouts of this target that left a value on it: when, by the clock of whoever led, and which.
    fn leavers(&self) -> impl Iterator<Item = (jiff::Timestamp, &'a Peer, Option<&'a str>)> {
        let uid = self.o.target.as_ref().and_then(|t| t.metadata.uid.as_ref());
        let left = move |p: &'a Peer| {
            let side = match p.phase {
                RolloutPhase::Promoted | RolloutPhase::Superseded | RolloutPhase::Observing => &p.candidate,
                RolloutPhase::RolledBack | RolloutPhase::Aborted | RolloutPhase::Failed => &p.baseline,
                _ => &None,
            };
            let at = p.settled_at.filter(|_| p.target_uid.as_ref() == uid)?;
            side.as_ref().map(|s| (at, p, s.value.as_deref()))
        };
        self.o.others.iter().filter_map(left)
    }

    /// Another Rollout that went back since this one recorded its baseline: the target carries what that one restored,
    /// not what somebody else wrote.
    pub(super) fn went_back_meanwhile(&self) -> Option<&'a Peer> {
        let Carried::Foreign(live) = self.carried(self.target()?) else {
            return None;
        };
        let (peer, value) = self.last_to_leave()?;
        let began = self.status.decisions.iter().rfind(|d| d.decision == BEGIN)?.at.0;
        let since = peer.settled_at.is_some_and(|at| at >= began);
        (since && peer.phase == RolloutPhase::RolledBack && value == live.as_deref()).then_some(peer)
    }

    /// Another Rollout that goes first.
    pub(super) fn ahead(&self) -> Option<&'a Peer> {
        let open = |p: &&Peer| matches!(p.phase, RolloutPhase::Pending | RolloutPhase::Queued) && !p.deleting;
        let others = || self.o.others.iter();
        let holds = others().filter(|p| p.phase.holds_target()).min_by_key(|p| p.key());
        holds.or_else(|| {
            others()
                .filter(open)
                .filter(|p| self.is_older(p))
                .min_by_key(|p| p.key())
        })
    }

    pub(super) fn is_older(&self, peer: &Peer) -> bool {
        peer.key() < (created(&self.o.rollout), self.name())
    }

    /// Another Rollout that took the target after this one had promoted its version.
    pub(super) fn successor(&self) -> Option<&'a Peer> {
        let promoted = self.status.promoted_at.as_ref()?.0;
        self.o.others.iter().find(|p| p.follows(promoted))
    }

    /// Whether this Rollout has taken the target.
    pub(super) fn has_taken(&self, target: &Deployment) -> bool {
        taken_by(target) == Some(self.uid())
    }

    /// Whether another Rollout may still go back to what it found on this target.
    fn may_go_back(&self, target: &Deployment) -> bool {
        let delivered = |p: &&Peer| p.target_uid == target.metadata.uid && p.candidate.is_some();
        let may = |p: &Peer| p.phase == RolloutPhase::RollingBack || p.phase.has_delivered();
        self.o.others.iter().filter(delivered).any(may)
    }

    /// The Rollout that took the target after this one had promoted its version. As long as it is open its mark counts, also
    /// if it stepped back since: it may go on from there at any moment.
    pub(super) fn taker(&self, target: &Deployment) -> Option<&'a Peer> {
        self.status.promoted_at.as_ref()?;
        let uid = taken_by(target)?;
        let open = self.o.others.iter().find(|p| p.uid == uid && !p.phase.is_terminal());
        open.or_else(|| self.successor().filter(|p| p.uid == uid))
    }

    /// Whether the Rollout has to take the target before it does anything with it: another one may still go back there, or
    /// left its mark.
    pub(super) fn must_take(&self, target: &Deployment) -> bool {
        !self.has_taken(target) && (self.may_go_back(target) || taken_by(target).is_some())
    }

    /// The manager that wrote the binding last, as the API server recorded it.
    fn last_writer(&self, target: &Deployment) -> String {
        let owners = self.owners(target, &[]);
        let last = owners.into_iter().max_by_key(|e| e.time.as_ref().map(|t| t.0));
        last.and_then(|e| e.manager.clone())
            .unwrap_or_else(|| "an unknown manager".to_owned())
    }

    /// Whether Flywheel wrote the value that the target carries, as the API server recorded it: whoever sets another value
    /// takes the field over. The stores of the watches do not keep that.
    fn wrote(&self, target: &Deployment) -> bool {
        let value = self.plan().binding.name.as_ref().map(|_| "f:value");
        let owners = self.owners(target, value.as_slice());
        let ours = |e: &&ManagedFieldsEntry| e.manager.as_deref() == Some(names::FIELD_MANAGER);
        owners.iter().any(ours)
    }

    /// Who owns the binding, or what lies below it, as the API server recorded it.
    fn owners<'t>(&self, target: &'t Deployment, below: &[&str]) -> Vec<&'t ManagedFieldsEntry> {
        let binding = &self.plan().binding;
        let container = format!("k:{{\"name\":\"{}\"}}", binding.container);
        let mut path = vec!["f:spec", "f:template", "f:spec", "f:containers", &container];
        let variable = binding.name.as_ref().map(|n| format!("k:{{\"name\":\"{n}\"}}"));
        match &variable {
            Some(variable) => path.extend(["f:env", variable]),
            None => path.push("f:image"),
        }
        path.extend(below);
        let owns = |fields: &Value| path.iter().try_fold(fields, |at, key| at.get(*key)).is_some();
        let entries = target.metadata.managed_fields.iter().flatten();
        entries
            .filter(|e| e.fields_v1.as_ref().is_some_and(|f| owns(&f.0)))
            .collect()
    }
}

impl Peer {
    /// The order in which Rollouts get their target.
    fn key(&self) -> (jiff::Timestamp, &str) {
        (self.created, &self.name)
    }
}

fn taken_by(target: &Deployment) -> Option<&str> {
    let annotations = target.metadata.annotations.as_ref()?;
    annotations.get(names::ANNOTATION_TAKEN_BY).map(String::as_str)
}

fn shown(value: Option<&str>) -> &str {
    value.unwrap_or("no value")
}

/// Replicas that the Deployment asks for.
pub(super) fn replicas(deployment: &Deployment) -> i32 {
    deployment.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)
}

/// Whether the Deployment is paused.
pub(super) fn is_paused(deployment: &Deployment) -> bool {
    deployment.spec.as_ref().and_then(|s| s.paused).unwrap_or(false)
}

/// Replicas that are ready.
pub(super) fn ready(deployment: &Deployment) -> i32 {
    deployment.status.as_ref().and_then(|s| s.ready_replicas).unwrap_or(0)
}

/// Whether all pods are of the current generation and ready, and no others are left.
pub(super) fn is_complete(deployment: &Deployment) -> bool {
    let status = deployment.status.clone().unwrap_or_default();
    let wanted = replicas(deployment);
    let counts = [
        status.replicas,
        status.updated_replicas,
        status.ready_replicas,
        status.available_replicas,
    ];
    status.observed_generation >= deployment.metadata.generation
        && counts.iter().all(|count| count.unwrap_or(0) == wanted)
}
