//! Small views of objects that several decisions look at.

use flywheel_api::model_version::ModelArtifact;
use flywheel_api::reference::AutomationLevel;
use flywheel_api::rollout::RolloutPlan;
use flywheel_api::{BiasPolicySpec, FlywheelPipeline, ModelVersion};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

use crate::bias::PolicyView;
use crate::binding;
use crate::level;
use crate::settings::Settings;

/// The version that serves on the target, as the binding's value says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveView {
    /// Name of the ModelVersion.
    pub name: String,
    /// Its artifact.
    pub artifact: ModelArtifact,
}

impl LiveView {
    /// The view of this version.
    #[must_use]
    pub fn of(version: &ModelVersion) -> Self {
        Self {
            name: version.metadata.name.clone().unwrap_or_default(),
            artifact: version.spec.artifact.clone(),
        }
    }

    /// The version whose value the target's binding carries; the binding decides, not the annotation.
    #[must_use]
    pub fn served(target: Option<&Deployment>, plan: &RolloutPlan, versions: &[ModelVersion]) -> Option<Self> {
        let value = binding::value(target?, &plan.binding).ok().flatten()?;
        versions
            .iter()
            .find(|v| binding::wanted(&plan.binding, &v.spec) == value)
            .map(Self::of)
    }

    /// Why nobody can say what serves on the plan's target, and what to do; nothing if it can be seen.
    #[must_use]
    pub fn untold(target: Option<&Deployment>, plan: &RolloutPlan) -> Option<String> {
        let Some(target) = target else {
            let name = &plan.target_ref.name;
            return Some(format!(
                "Deployment {name}, to which the pipeline's spec.rollout delivers, does not exist: create it."
            ));
        };
        let unreadable = binding::value(target, &plan.binding).err()?;
        Some(format!("{unreadable}."))
    }
}

/// When an object was created; the epoch for one that was not yet.
pub(crate) fn created(metadata: &ObjectMeta) -> Timestamp {
    metadata
        .creation_timestamp
        .as_ref()
        .map_or(Timestamp::UNIX_EPOCH, |t| t.0)
}

/// The bias policies that apply to a pipeline: those that it names, and those that select its labels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policies {
    /// Policies that exist.
    pub found: Vec<PolicyView>,
    /// Names of policies that the pipeline names and that do not exist.
    pub missing: Vec<String>,
    /// Names of policies that this version of the operator cannot read: each may apply.
    #[serde(default)]
    pub unreadable: Vec<String>,
}

/// Something that a decision would have to know and that nobody can say.
pub(crate) struct Absent<'a> {
    pub name: &'a str,
    pub reason: &'static str,
    pub message: String,
}

impl<'a> Absent<'a> {
    pub(crate) const fn new(name: &'a str, reason: &'static str, message: String) -> Self {
        Self { name, reason, message }
    }
}

impl Policies {
    /// Whether a policy of this name applies to the pipeline: named in its spec, or by a selector that its labels fit.
    #[must_use]
    pub fn apply(pipeline: &FlywheelPipeline, name: &str, policy: &BiasPolicySpec) -> bool {
        let named = || pipeline.spec.bias_policies.iter().any(|r| r.name == name);
        let labels = pipeline.metadata.labels.as_ref();
        let has = |(key, value): (&String, &String)| labels.and_then(|l| l.get(key)) == Some(value);
        let selector = policy.model_selector.as_ref().map(|s| &s.match_labels);
        selector.is_some_and(|wanted| !wanted.is_empty() && wanted.iter().all(has)) || named()
    }

    /// Chooses among all policies of the namespace.
    #[must_use]
    pub fn choose(pipeline: &FlywheelPipeline, all: Vec<PolicyView>) -> Self {
        let named: Vec<&str> = pipeline.spec.bias_policies.iter().map(|r| r.name.as_str()).collect();
        let missing = named
            .iter()
            .filter(|n| !all.iter().any(|p| p.name == **n))
            .map(|n| (*n).to_owned())
            .collect();
        let applies = |p: &PolicyView| Self::apply(pipeline, &p.name, &p.spec);
        let mut found: Vec<PolicyView> = all.into_iter().filter(applies).collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Self {
            found,
            missing,
            unreadable: Vec::new(),
        }
    }

    /// The same with policies that exist and cannot be read.
    #[must_use]
    pub fn with_unreadable(mut self, names: Vec<String>) -> Self {
        self.missing.retain(|missing| !names.contains(missing));
        self.unreadable = names;
        self
    }

    /// Policies whose word is not known, and what to do about each.
    pub(crate) fn absent(&self) -> impl Iterator<Item = Absent<'_>> {
        let missing = self.missing.iter().map(|name| {
            let message =
                format!("spec.biasPolicies names BiasPolicy {name}, which does not exist: create it or take it out.");
            Absent::new(name, "PolicyNotFound", message)
        });
        let unreadable = self.unreadable.iter().map(|name| {
            let message = format!(
                "BiasPolicy {name} cannot be read by this version of the operator, and may apply: its condition Ready says why."
            );
            Absent::new(name, "PolicyUnreadable", message)
        });
        missing.chain(unreadable)
    }

    /// Highest level that each policy allows. A policy that is missing could cap the level: until it is there, nothing
    /// is decided without a person.
    #[must_use]
    pub fn caps(&self) -> Vec<AutomationLevel> {
        let missing = self.absent().map(|_| AutomationLevel::HumanOversight);
        self.found
            .iter()
            .filter_map(|p| p.spec.max_automation_level)
            .chain(missing)
            .collect()
    }
}

/// The level in force for a pipeline.
#[must_use]
pub fn level_in_force(pipeline: &FlywheelPipeline, settings: &Settings, policies: &Policies) -> AutomationLevel {
    level::effective(
        pipeline.spec.automation_level,
        settings.automation_ceiling,
        &policies.caps(),
    )
    .level
}
