//! What is forgotten: old runs, snapshots that no run refers to, old versions with their ended Rollouts. Never a
//! version that serves, its parent, or one that a Rollout could go back to.

use std::collections::BTreeSet;

use flywheel_api::rollout::RolloutPhase;

use super::{PipelineObservation, RunFact, VersionView};
use crate::decision::{Action, ChildKind, Effect, ObjectKey};

/// The next object to forget: none while something cannot be read that may need it.
pub fn prune(o: &PipelineObservation) -> Option<Effect> {
    if !o.unreadable.is_empty() || !o.unreadable_runs.is_empty() {
        return None;
    }
    run(o).or_else(|| snapshot(o)).or_else(|| version(o))
}

fn delete(kind: ChildKind, name: &str, uid: &str, why: &str) -> Effect {
    let key = ObjectKey {
        kind,
        name: name.to_owned(),
        uid: uid.to_owned(),
        resource_version: None,
    };
    Effect {
        action: Action::Delete(key),
        why: format!("forget {name}: {why}"),
    }
}

fn run(o: &PipelineObservation) -> Option<Effect> {
    let history = &o.pipeline.spec.history;
    let surplus = |good: bool, keep: i32| {
        let ended = |r: &&RunFact| r.ours && !r.deleting && r.outcome.is_some_and(|x| x.is_success() == good);
        let mut all: Vec<&RunFact> = o.runs.iter().filter(ended).collect();
        all.sort_by_key(|r| (r.finished, r.name.clone()));
        let count = all.len().saturating_sub(usize::try_from(keep).unwrap_or(0));
        all.into_iter().take(count).next()
    };
    let old = surplus(true, history.successful_runs).or_else(|| surplus(false, history.failed_runs))?;
    Some(delete(
        ChildKind::FlywheelRun,
        &old.name,
        &old.uid,
        "the history of runs is full",
    ))
}

/// Snapshots are only made by runs that exist, after their names were recorded: what no run names is left over.
fn snapshot(o: &PipelineObservation) -> Option<Effect> {
    // A run that is about to begin may take any of them.
    if o.runs.iter().any(|r| r.outcome.is_none() && r.snapshot.is_none()) {
        return None;
    }
    let used: BTreeSet<&str> = o.runs.iter().filter_map(|r| r.snapshot.as_deref()).collect();
    let (name, uid) = o.snapshots.iter().find(|(name, _)| !used.contains(name.as_str()))?;
    Some(delete(
        ChildKind::ControllerRevision,
        name,
        uid,
        "no run refers to this snapshot",
    ))
}

fn version(o: &PipelineObservation) -> Option<Effect> {
    // Any of them may be what serves, or its way back.
    if o.untold.is_some() {
        return None;
    }
    let keep = usize::try_from(o.pipeline.spec.history.model_versions).unwrap_or(0);
    let needed = needed(o);
    // A version that no run made belongs to the person who imported it.
    let ours = |v: &&VersionView| !v.deleting && v.run_uid.is_some();
    let mut all: Vec<&VersionView> = o.versions.iter().filter(ours).collect();
    all.sort_by_key(|v| v.number);
    let count = all.len().saturating_sub(keep);
    let old = all
        .into_iter()
        .take(count)
        .find(|v| !needed.contains(v.name.as_str()))?;
    match o.rollouts.iter().find(|r| r.candidate == old.name) {
        Some(rollout) => Some(delete(
            ChildKind::Rollout,
            &rollout.name,
            &rollout.uid,
            "its version is forgotten",
        )),
        None => Some(delete(
            ChildKind::ModelVersion,
            &old.name,
            &old.uid,
            "the history of versions is full",
        )),
    }
}

/// Versions that must stay.
fn needed(o: &PipelineObservation) -> BTreeSet<&str> {
    let mut needed = BTreeSet::new();
    let mut keep = |name: Option<&'_ str>| {
        if let Some(found) = o.versions.iter().find(|v| Some(v.name.as_str()) == name) {
            needed.insert(found.name.as_str());
        }
    };
    let serves = |v: &VersionView| v.serves || o.live.as_ref().is_some_and(|l| l.name == v.name);
    let serving: BTreeSet<&str> = o
        .versions
        .iter()
        .filter(|v| serves(v))
        .map(|v| v.name.as_str())
        .collect();
    for version in o.versions.iter().filter(|v| serving.contains(v.name.as_str())) {
        keep(Some(&version.name));
        keep(version.parent.as_deref());
    }
    for rollout in o.rollouts.iter() {
        let under_way = !rollout.phase.is_terminal();
        // What a person asked for is not ours to forget.
        if under_way || !rollout.by_run {
            keep(Some(&rollout.candidate));
        }
        let delivered = matches!(rollout.phase, RolloutPhase::Promoted | RolloutPhase::Superseded);
        if under_way || (delivered && serving.contains(rollout.candidate.as_str())) {
            keep(rollout.baseline.as_deref());
        }
    }
    let working: BTreeSet<&str> = o
        .runs
        .iter()
        .filter(|r| r.outcome.is_none())
        .map(|r| r.uid.as_str())
        .collect();
    for version in o
        .versions
        .iter()
        .filter(|v| v.run_uid.as_deref().is_some_and(|uid| working.contains(uid)))
    {
        keep(Some(&version.name));
    }
    needed
}

#[cfg(test)]
mod tests {
    use flywheel_api::{FlywheelPipeline, FlywheelPipelineSpec};
    use jiff::Timestamp;

    use super::*;
    use crate::model_version::Delivery;
    use crate::part::Part;
    use crate::settings::Settings;
    use crate::view::Policies;

    fn forgotten(versions: &[(&str, Option<&str>)]) -> Option<String> {
        prune(&observed(versions)).map(|effect| effect.why)
    }

    fn observed(versions: &[(&str, Option<&str>)]) -> PipelineObservation {
        let spec: FlywheelPipelineSpec = serde_json::from_value(serde_json::json!({
            "automationLevel": "Manual", "model": { "name": "eta" }, "stages": [], "history": { "modelVersions": 1 }
        }))
        .expect("a spec");
        let version = |(index, (name, run)): (usize, &(&str, Option<&str>))| VersionView {
            name: (*name).to_owned(),
            number: i64::try_from(index).expect("a number"),
            run_uid: run.map(str::to_owned),
            ..VersionView::default()
        };
        PipelineObservation {
            now: Timestamp::UNIX_EPOCH,
            settings: Settings::default(),
            pipeline: FlywheelPipeline::new("eta", spec),
            siblings: Part::default(),
            policies: Policies::default(),
            runs: Part::default(),
            versions: versions.iter().enumerate().map(version).collect::<Vec<_>>().into(),
            rollouts: Part::default(),
            unreadable: Part::default(),
            unreadable_runs: Part::default(),
            snapshots: Part::default(),
            live: Part::default(),
            untold: Part::default(),
            answers: Vec::new(),
            denied: None,
        }
    }

    #[test]
    fn a_version_that_a_person_rolled_out_stays_with_the_rollout() {
        let mut o = observed(&[("eta-2", Some("run-1")), ("eta-3", Some("run-2"))]);
        let mut rollout = Delivery {
            name: "back".to_owned(),
            candidate: "eta-2".to_owned(),
            phase: RolloutPhase::RolledBack,
            ..Delivery::default()
        };
        o.rollouts = vec![rollout.clone()].into();
        assert_eq!(prune(&o), None);
        rollout.by_run = true;
        o.rollouts = vec![rollout].into();
        let why = prune(&o).map(|effect| effect.why);
        assert_eq!(why.as_deref(), Some("forget back: its version is forgotten"));
    }

    #[test]
    fn no_version_and_no_rollout_is_forgotten_while_nobody_can_say_what_serves() {
        let mut o = observed(&[("eta-2", Some("run-1")), ("eta-3", Some("run-2"))]);
        let rollout = Delivery {
            name: "eta-2".to_owned(),
            candidate: "eta-2".to_owned(),
            phase: RolloutPhase::Promoted,
            by_run: true,
            ..Delivery::default()
        };
        o.rollouts = vec![rollout].into();
        o.untold = Some("Deployment eta has no container app.".to_owned()).into();
        assert_eq!(prune(&o), None);
        o.rollouts.clear();
        assert_eq!(prune(&o), None);
        o.untold = None.into();
        let why = prune(&o).map(|effect| effect.why);
        assert_eq!(why.as_deref(), Some("forget eta-2: the history of versions is full"));
    }

    #[test]
    fn versions_that_a_user_imported_are_never_forgotten() {
        let imported = [("a", None), ("b", None), ("eta-3", Some("run-1"))];
        assert_eq!(forgotten(&imported), None);
        let made = [("a", None), ("eta-2", Some("run-1")), ("eta-3", Some("run-2"))];
        let why = forgotten(&made);
        assert_eq!(why.as_deref(), Some("forget eta-2: the history of versions is full"));
    }

    #[test]
    fn a_version_of_which_nobody_can_say_whether_it_serves_is_not_forgotten() {
        let mut version = crate::testing::version(1);
        for (status, serves) in [("True", true), ("Unknown", true), ("False", false)] {
            let live = serde_json::json!({ "type": "Live", "status": status, "reason": "Said", "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z" });
            let status = serde_json::json!({ "conditions": [live] });
            version.status = Some(serde_json::from_value(status).expect("a status"));
            assert_eq!(VersionView::of(&version).serves, serves, "{live}");
        }
    }
}
