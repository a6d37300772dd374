//! Why a version must stay: it serves, a Rollout is under way with it, or one would go back to it.

use std::collections::{BTreeMap, BTreeSet};

use flywheel_api::condition::{self, Setting};
use flywheel_api::rollout::{RolloutPhase, RolloutPlan};
use k8s_openapi::api::apps::v1::Deployment;

use super::{Delivery, ModelVersionObservation, unreadable};
use crate::binding;

/// Plans with their targets, as far as these exist.
type Aimed<'a> = (&'a RolloutPlan, Option<&'a Deployment>);

/// Targets that exist and whose binding none of their plans can read: nobody can say what serves there. An old plan may
/// name a container that was renamed since; then a newer one tells.
#[must_use]
pub fn untold<'a>(plans: impl Iterator<Item = Aimed<'a>>) -> BTreeSet<String> {
    targets(plans, false)
}

/// The other targets: of these one of their plans tells what serves there, or they do not exist.
#[must_use]
pub fn told<'a>(plans: impl Iterator<Item = Aimed<'a>>) -> BTreeSet<String> {
    targets(plans, true)
}

fn targets<'a>(plans: impl Iterator<Item = Aimed<'a>>, told: bool) -> BTreeSet<String> {
    let mut all: BTreeMap<&str, bool> = BTreeMap::new();
    for (plan, target) in plans {
        let is_told = target.is_none_or(|t| binding::value(t, &plan.binding).is_ok());
        *all.entry(plan.target_ref.name.as_str()).or_default() |= is_told;
    }
    let chosen = all.into_iter().filter(|(_, is_told)| *is_told == told);
    chosen.map(|(name, _)| name.to_owned()).collect()
}

/// Targets on which the version serves. Where nobody can say so it still does, if it was live before.
pub(super) fn serving(o: &ModelVersionObservation) -> BTreeSet<&String> {
    let stored = o.version.status.as_ref();
    let live = stored.filter(|s| condition::is_true(&s.conditions, condition::LIVE));
    let before = live.into_iter().flat_map(|s| &s.targets);
    let unknown = |t: &&String| o.untold.contains(*t) || is_hidden(o, t);
    o.serves.iter().chain(before.filter(unknown)).collect()
}

/// Whether no plan that can be read tells of that target, and one that cannot be read may be about it.
fn is_hidden(o: &ModelVersionObservation, target: &str) -> bool {
    o.unreadable.hides_targets() && !o.told.contains(target) && !o.untold.contains(target)
}

/// Why the version must stay, if it must.
pub(super) fn needed_by(o: &ModelVersionObservation, name: &str) -> Option<String> {
    if serving(o).iter().any(|target| !is_hidden(o, target)) {
        return Some(format!("version {name} serves: roll out another version first"));
    }
    if let Some(rollout) = goes_back_to(o, name) {
        return Some(way_back(rollout, name));
    }
    if let Some(target) = o.untold.first() {
        return Some(format!(
            "nobody can say whether version {name} serves on Deployment {target}, whose binding cannot be read: \
             correct the container or variable there, or plan.binding"
        ));
    }
    let under_way = o
        .rollouts
        .iter()
        .find(|r| r.phase.holds_target() || r.phase == RolloutPhase::Observing)?;
    Some(format!(
        "Rollout {} delivers version {name}: wait for its end",
        under_way.name
    ))
}

/// The conditions that say so; the admission policy of the chart reads them.
pub(super) fn conditions(o: &ModelVersionObservation, name: &str) -> [Setting; 2] {
    [live(o), rollback_target(o, name)]
}

fn live(o: &ModelVersionObservation) -> Setting {
    let serves = |message: String| Setting::yes(condition::LIVE, "Serves", message);
    match (serving(o).first(), unreadable::plan(o)) {
        (Some(_), _) if !o.serves.is_empty() => serves("A target's binding carries this version.".to_owned()),
        (Some(target), Some(broken)) if is_hidden(o, target) => serves(format!(
            "Deployment {target} carried this version, and nobody can say what it carries now: {}.",
            broken.said()
        )),
        (Some(target), _) => serves(format!(
            "The binding of Deployment {target}, which carried this version, cannot be read."
        )),
        (None, Some(broken)) => unknown(
            condition::LIVE,
            format!(
                "Nobody can say whether a target's binding carries this version: {}.",
                broken.said()
            ),
        ),
        (None, None) => Setting::no(
            condition::LIVE,
            "DoesNotServe",
            "No target's binding carries this version.",
        ),
    }
}

fn rollback_target(o: &ModelVersionObservation, name: &str) -> Setting {
    let is_target = |message: String| Setting::yes(condition::ROLLBACK_TARGET, "RolloutGoesBack", message);
    if let Some(rollout) = goes_back_to(o, name) {
        return is_target(way_back(rollout, name));
    }
    let Some(broken) = unreadable::rollout(o) else {
        return Setting::no(
            condition::ROLLBACK_TARGET,
            "NoRollout",
            "No Rollout would go back to this version.",
        );
    };
    let stored = o.version.status.as_ref();
    if stored.is_some_and(|s| condition::is_true(&s.conditions, condition::ROLLBACK_TARGET)) {
        return is_target(format!(
            "A Rollout would have gone back to this version, and nobody can say whether it still would: {}.",
            broken.said()
        ));
    }
    unknown(
        condition::ROLLBACK_TARGET,
        format!(
            "Nobody can say whether a Rollout would go back to this version: {}.",
            broken.said()
        ),
    )
}

fn unknown(type_: &'static str, message: String) -> Setting {
    Setting {
        status: None,
        ..Setting::no(type_, "Unreadable", message)
    }
}

/// The Rollout that would go back to this version: it is under way, or what it delivered still serves.
fn goes_back_to<'a>(o: &'a ModelVersionObservation, name: &str) -> Option<&'a Delivery> {
    o.rollouts.iter().find(|r| {
        let back = r.baseline.as_deref() == Some(name) && r.candidate != name;
        let under_way = r.phase.holds_target() || r.phase == RolloutPhase::Observing;
        back && (under_way || (r.phase.has_delivered() && may_serve(o, r)))
    })
}

/// Whether its target carries what it delivered, or cannot be read.
fn may_serve(o: &ModelVersionObservation, rollout: &Delivery) -> bool {
    rollout.serves || o.untold.contains(&rollout.target)
}

/// The same words from the beginning of the Rollout until another version serves.
fn way_back(rollout: &Delivery, name: &str) -> String {
    format!(
        "Rollout {} goes back to version {name} should version {} fail: delete this version once another one serves, or delete \
         that Rollout first",
        rollout.name, rollout.candidate
    )
}

#[cfg(test)]
mod tests {
    use flywheel_api::{ModelVersion, ModelVersionSpec};
    use jiff::Timestamp;

    use super::super::Unreadable;
    use super::*;

    fn observed(serves: bool, phase: RolloutPhase, candidate_serves: bool) -> ModelVersionObservation {
        let spec: ModelVersionSpec = serde_json::from_value(serde_json::json!({
            "modelName": "eta", "version": 1, "artifact": { "uri": "s3://eta/1", "digest": "sha256:0" }
        }))
        .unwrap();
        ModelVersionObservation {
            now: Timestamp::UNIX_EPOCH,
            version: ModelVersion::new("eta-1", spec),
            run: None.into(),
            rollouts: vec![Delivery {
                name: "second".to_owned(),
                candidate: "eta-2".to_owned(),
                baseline: Some("eta-1".to_owned()),
                phase,
                serves: candidate_serves,
                ..Delivery::default()
            }]
            .into(),
            children: Vec::new().into(),
            serves: serves
                .then(|| "eta".to_owned())
                .into_iter()
                .collect::<BTreeSet<_>>()
                .into(),
            untold: BTreeSet::new().into(),
            told: BTreeSet::new().into(),
            unreadable: Unreadable::default(),
            namespace_terminating: false,
        }
    }

    fn is_target(o: &ModelVersionObservation) -> bool {
        let [_, target] = conditions(o, "eta-1");
        target.status == Some(true)
    }

    #[test]
    fn a_version_is_a_rollback_target_while_a_rollout_is_under_way_or_its_candidate_serves() {
        for (phase, candidate_serves, expected) in [
            (RolloutPhase::Pending, false, false),
            (RolloutPhase::Queued, false, false),
            (RolloutPhase::Progressing, false, true),
            (RolloutPhase::RollingBack, false, true),
            (RolloutPhase::Observing, true, true),
            (RolloutPhase::Promoted, true, true),
            (RolloutPhase::Promoted, false, false),
            (RolloutPhase::Superseded, true, true),
            (RolloutPhase::Superseded, false, false),
            (RolloutPhase::RolledBack, false, false),
        ] {
            let o = observed(false, phase, candidate_serves);
            assert_eq!(is_target(&o), expected, "{phase:?}");
            assert_eq!(needed_by(&o, "eta-1").is_some(), expected, "{phase:?}");
        }
    }

    #[test]
    fn a_way_back_stays_one_while_the_binding_of_its_target_cannot_be_read() {
        let mut o = observed(false, RolloutPhase::Promoted, false);
        for delivery in o.rollouts.iter_mut() {
            "eta".clone_into(&mut delivery.target);
        }
        assert!(!is_target(&o));
        o.untold = BTreeSet::from(["eta".to_owned()]).into();
        assert!(is_target(&o) && needed_by(&o, "eta-1").is_some());
    }

    #[test]
    fn a_target_that_one_of_its_plans_can_read_is_told() {
        let target = crate::testing::target(1, Some("s3://eta/1"));
        let plan: RolloutPlan = serde_json::from_value(crate::testing::plan()).unwrap();
        let mut old = plan.clone();
        "before".clone_into(&mut old.binding.container);
        let by = |plans: &[&RolloutPlan]| untold(plans.iter().map(|p| (*p, Some(&target))));
        assert_eq!(by(&[&old]), BTreeSet::from(["eta".to_owned()]));
        assert!(by(&[&old, &plan]).is_empty());
        assert!(
            untold([(&old, None)].into_iter()).is_empty(),
            "a missing one serves nobody"
        );
    }

    #[test]
    fn a_version_that_another_one_replaced_is_superseded_even_if_nobody_saw_it_serve() {
        use flywheel_api::model_version::VersionState;
        for (serves, phase, expected) in [
            (true, RolloutPhase::Progressing, VersionState::Live),
            (false, RolloutPhase::Promoting, VersionState::Candidate),
            (false, RolloutPhase::Observing, VersionState::Superseded),
            (false, RolloutPhase::Promoted, VersionState::Superseded),
            (true, RolloutPhase::RolledBack, VersionState::Live),
        ] {
            let o = observed(serves, phase, !serves);
            let found = super::super::state(&o, "eta-1", VersionState::Candidate);
            assert_eq!(found, Some(expected), "{phase:?}");
        }
    }

    #[test]
    fn a_version_whose_rollout_was_deleted_on_the_way_is_rolled_back() {
        use flywheel_api::model_version::VersionState;
        let mut o = observed(false, RolloutPhase::Progressing, false);
        o.rollouts.clear();
        let found = super::super::state(&o, "eta-1", VersionState::RollingOut);
        assert_eq!(found, Some(VersionState::RolledBack));
    }

    #[test]
    fn a_rollout_that_cannot_be_read_hides_no_state_that_the_others_tell() {
        use flywheel_api::model_version::VersionState;
        for (name, serves, phase, expected) in [
            (
                "eta-2",
                false,
                RolloutPhase::Progressing,
                Some(VersionState::RollingOut),
            ),
            ("eta-2", true, RolloutPhase::Promoted, Some(VersionState::Live)),
            ("eta-2", false, RolloutPhase::RolledBack, None),
            ("eta-1", true, RolloutPhase::Progressing, Some(VersionState::Live)),
            ("eta-1", false, RolloutPhase::Promoted, None),
            ("eta-3", false, RolloutPhase::Pending, None),
        ] {
            let mut o = observed(serves, phase, false);
            o.unreadable.rollouts = vec!["newer".to_owned()].into();
            let found = super::super::state(&o, name, VersionState::Candidate);
            assert_eq!(found, expected, "{name} {phase:?}");
        }
    }

    #[test]
    fn why_a_version_must_stay_names_the_rollout_and_the_remedy() {
        let promoted = needed_by(&observed(false, RolloutPhase::Promoted, true), "eta-1").unwrap();
        assert!(
            promoted.contains("second") && promoted.contains("delete that Rollout first"),
            "{promoted}"
        );
        let serves = needed_by(&observed(true, RolloutPhase::Promoted, true), "eta-1").unwrap();
        assert!(serves.contains("roll out another version first"), "{serves}");
    }
}
