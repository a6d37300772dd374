//! What a version depends on and this version of the operator cannot read: what was known of it stays, and it is not let
//! go.

use flywheel_api::names;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

use super::ModelVersionObservation;
use crate::part::Part;
use crate::standing::{Kind, Standing};

/// Names of objects around a version that exist and cannot be read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Unreadable {
    /// The run that made it.
    pub run: Part<Vec<String>>,
    /// Pipelines of its model: it may serve where they deliver to.
    pub pipelines: Part<Vec<String>>,
    /// Rollouts that [`may_be_about`] it.
    pub rollouts: Part<Vec<String>>,
    /// Other Rollouts of the namespace, any of which may go back to it; only looked up while it is deleted.
    pub others: Part<Vec<String>>,
}

impl Unreadable {
    /// Whether a plan cannot be read: it may name a target on which the version serves.
    pub(super) fn hides_targets(&self) -> bool {
        !self.pipelines.is_empty() || !self.rollouts.is_empty()
    }
}

/// Whether a Rollout of which nothing is known but this delivers the version, or goes back to it: its labels tell, into
/// which the name of every version fits.
#[must_use]
pub fn may_be_about(rollout: &ObjectMeta, version: &str) -> bool {
    let has = |label: &str| {
        let labels = rollout.labels.as_ref();
        labels.and_then(|l| l.get(label)).is_some_and(|found| found == version)
    };
    has(names::LABEL_MODEL_VERSION) || has(names::LABEL_BASELINE_VERSION)
}

/// An object that cannot be read.
#[derive(Clone, Copy)]
pub(super) struct Broken<'a> {
    kind: &'static str,
    /// Its kind as a command names it, whatever other kinds a cluster has.
    resource: &'static str,
    name: &'a str,
}

impl<'a> Broken<'a> {
    fn first(kind: &'static str, resource: &'static str, names: &'a [String]) -> Option<Self> {
        let name = names.first()?;
        Some(Self { kind, resource, name })
    }

    /// That it cannot be read.
    pub(super) fn said(self) -> String {
        format!(
            "{} {} cannot be read by this version of the operator",
            self.kind, self.name
        )
    }

    /// The command that shows it.
    fn command(self, o: &ModelVersionObservation) -> String {
        let namespace = o.version.metadata.namespace.as_deref().unwrap_or_default();
        format!("kubectl get {} {} -n {namespace} -o yaml", self.resource, self.name)
    }
}

/// What a version has been through by a Rollout that cannot be read nobody knows.
pub(super) fn rollout(o: &ModelVersionObservation) -> Option<Broken<'_>> {
    Broken::first("Rollout", "rollouts.flywheel.dev", &o.unreadable.rollouts)
}

/// Where a version serves by a plan that cannot be read nobody knows.
pub(super) fn plan(o: &ModelVersionObservation) -> Option<Broken<'_>> {
    let pipeline = Broken::first("FlywheelPipeline", "flywheelpipeline", &o.unreadable.pipelines);
    pipeline.or_else(|| rollout(o))
}

/// Where a version stands beside what cannot be read, if there is something. It is registered and judged all the same:
/// what is broken says so itself, and nothing is wrong with the version.
pub(super) fn beside(o: &ModelVersionObservation, known: &str) -> Option<Standing> {
    let run = || Broken::first("FlywheelRun", "flywheelrun", &o.unreadable.run);
    let (broken, hidden) = match plan(o) {
        Some(plan) => (plan, "where it serves and was delivered to"),
        None => (run()?, "what its run found and decided"),
    };
    let (said, command) = (broken.said(), broken.command(o));
    let message = format!(
        "{known} {said}, so what it shows of {hidden} is what was known before: look at that object with `{command}`, and do what its condition Ready says."
    );
    Some(Standing::new(Kind::Ready, "Unreadable", message))
}

/// Why a version that is deleted must stay although nothing is known to need it: what cannot be read may.
pub(super) fn keeps(o: &ModelVersionObservation) -> Option<Standing> {
    let other = || Broken::first("Rollout", "rollouts.flywheel.dev", &o.unreadable.others);
    let broken = plan(o).or_else(other)?;
    let (said, command) = (broken.said(), broken.command(o));
    let message = format!(
        "The deletion waits, because {said} and may need the version: look at that object with `{command}`, and do what its condition Ready says."
    );
    Some(Standing::new(Kind::Stalled, "Unreadable", message))
}
