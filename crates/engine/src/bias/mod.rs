//! Bias policies on the metrics of groups that evaluations report.
//!
//! The verdict is taken on the confidence bound, never on the point. Two groups are compared with the interval that
//! their own intervals imply (MOVER: Zou and Donner, Statistics in Medicine 27, 2008, pages 1693-1702; for ratios on
//! the logarithmic scale), which assumes that the groups share no rows. Missing and too small groups are Inconclusive.

mod interval;
mod objective;

use flywheel_api::flywheel_run::StageStatus;
use flywheel_api::reference::{BiasVerdict, Enforcement, Verdict};
use flywheel_api::schema::Decimal;
use flywheel_api::stage::StageType;
use flywheel_api::stage_contract::{GroupTable, Metric};
use flywheel_api::{BiasPolicy, BiasPolicySpec};
use serde::{Deserialize, Serialize};

/// A bias policy that applies, as it was observed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyView {
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// Generation.
    pub generation: i64,
    /// Spec.
    pub spec: BiasPolicySpec,
}

impl PolicyView {
    /// The view of a policy.
    #[must_use]
    pub fn of(policy: &BiasPolicy) -> Self {
        Self {
            name: policy.metadata.name.clone().unwrap_or_default(),
            uid: policy.metadata.uid.clone().unwrap_or_default(),
            generation: policy.metadata.generation.unwrap_or_default(),
            spec: policy.spec.clone(),
        }
    }
}

/// What serves, as seen from the comparison that the evaluation made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Live {
    /// No version served when the run began, and none serves.
    Nothing,
    /// The version that the evaluation compared with serves.
    Same,
    /// Something else serves: the comparison says nothing about it.
    Changed,
}

impl Live {
    /// Holds the version that the run compares with against the one that serves.
    #[must_use]
    pub fn of(compared: Option<&str>, live: Option<&str>) -> Self {
        match (compared, live) {
            (None, None) => Self::Nothing,
            (Some(compared), Some(live)) if compared == live => Self::Same,
            _ => Self::Changed,
        }
    }
}

/// What every policy says of the run's stages, each on its own: the strictest wins where they are combined.
#[must_use]
pub fn judge_all(policies: &[PolicyView], stages: &[StageStatus], live: Live) -> Vec<BiasVerdict> {
    policies.iter().flat_map(|policy| judge(policy, stages, live)).collect()
}

fn judge(policy: &PolicyView, stages: &[StageStatus], live: Live) -> Vec<BiasVerdict> {
    let mut verdicts = Vec::new();
    for objective in &policy.spec.objectives {
        let wanted = |a: &&flywheel_api::bias_policy::ProtectedAttribute| {
            objective.attribute.as_ref().is_none_or(|name| *name == a.name)
        };
        for attribute in policy.spec.protected_attributes.iter().filter(wanted) {
            let case = Case::new(policy, &objective.name, attribute, objective.enforcement);
            verdicts.push(match case.table(stages, &objective.metric) {
                Ok(groups) => objective::judge(&case, objective, &groups),
                Err(verdict) => *verdict,
            });
        }
    }
    for attribute in policy
        .spec
        .improvement
        .iter()
        .flat_map(|_| &policy.spec.protected_attributes)
    {
        verdicts.extend(objective::improvement(policy, attribute, stages, live));
    }
    verdicts
}

/// One objective on one attribute.
struct Case<'a> {
    policy: &'a PolicyView,
    objective: String,
    attribute: &'a flywheel_api::bias_policy::ProtectedAttribute,
    enforcement: Enforcement,
}

/// One group with readable numbers.
struct Group<'a> {
    metric: &'a Metric,
}

impl<'a> Case<'a> {
    fn new(
        policy: &'a PolicyView,
        objective: &str,
        attribute: &'a flywheel_api::bias_policy::ProtectedAttribute,
        enforcement: Enforcement,
    ) -> Self {
        Self {
            policy,
            objective: objective.to_owned(),
            attribute,
            enforcement,
        }
    }

    fn verdict(&self, verdict: Verdict, reason: &str, group: &str, what: &str) -> BiasVerdict {
        BiasVerdict {
            policy: self.policy.name.clone(),
            policy_uid: self.policy.uid.clone(),
            policy_generation: self.policy.generation,
            objective: self.objective.clone(),
            attribute: self.attribute.name.clone(),
            group: group.to_owned(),
            verdict,
            enforcement: self.enforcement,
            reason: reason.to_owned(),
            message: format!("{} of {}: {what}.", self.objective, self.policy.name),
            value: None,
            bound: None,
            limit: None,
            samples: None,
        }
    }

    /// The groups of the attribute, if all are there, large enough and have intervals of the level asked for.
    fn table<'s>(&self, stages: &'s [StageStatus], metric: &str) -> Result<Vec<Group<'s>>, Box<BiasVerdict>> {
        // What Train and the stages before it report says nothing about the model on data that it has not seen.
        let judging = stages.iter().rev().take_while(|s| s.type_ != StageType::Train);
        let found = judging.filter_map(|s| s.result.as_ref()).find_map(|r| {
            r.groups
                .iter()
                .find(|t: &&GroupTable| t.attribute == self.attribute.name && t.metric == metric)
        });
        let Some(table) = found else {
            let what = format!(
                "no stage reported {metric} by {}: add it to the result's groups",
                self.attribute.name
            );
            return Err(Box::new(self.verdict(Verdict::Error, "GroupsNotReported", "", &what)));
        };
        let missing = self
            .attribute
            .groups
            .iter()
            .find(|g| !table.groups.iter().any(|m| m.name == **g));
        if let Some(missing) = missing {
            let what = format!("{metric} of the group {missing} is missing");
            return Err(Box::new(self.verdict(
                Verdict::Inconclusive,
                "GroupMissing",
                missing,
                &what,
            )));
        }
        let listed = |m: &&Metric| self.attribute.groups.is_empty() || self.attribute.groups.contains(&m.name);
        let groups: Vec<Group<'s>> = table
            .groups
            .iter()
            .filter(listed)
            .map(|metric| Group { metric })
            .collect();
        if groups.is_empty() {
            let what = format!("{metric} by {} has no group", self.attribute.name);
            return Err(Box::new(self.verdict(Verdict::Inconclusive, "GroupMissing", "", &what)));
        }
        groups.iter().try_for_each(|g| self.usable(g))?;
        Ok(groups)
    }

    fn usable(&self, group: &Group<'_>) -> Result<(), Box<BiasVerdict>> {
        let (name, fewest) = (&group.metric.name, self.policy.spec.groups.min_size.units);
        let samples = group.metric.samples.unwrap_or(0);
        if samples < fewest {
            let what = format!("the group {name} has {samples} rows, {fewest} are needed");
            let mut verdict = self.verdict(Verdict::Inconclusive, "GroupTooSmall", name, &what);
            verdict.samples = Some(samples);
            return Err(Box::new(verdict));
        }
        let alpha = self.policy.spec.inference.alpha.value().unwrap_or(0.0);
        let level = group.metric.level.as_ref().and_then(Decimal::value).unwrap_or(0.0);
        if level < 1.0 - alpha - 1e-9 {
            let what = format!(
                "the interval of the group {name} has level {level}, {} is needed",
                1.0 - alpha
            );
            return Err(Box::new(self.verdict(
                Verdict::Inconclusive,
                "ConfidenceTooLow",
                name,
                &what,
            )));
        }
        Ok(())
    }
}
