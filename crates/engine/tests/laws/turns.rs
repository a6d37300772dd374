//! Laws of pipelines and runs over all kinds of histories.

use flywheel_api::Rollout;
use flywheel_api::flywheel_run::RunOutcome;
use flywheel_api::reference::AutomationLevel;
use flywheel_engine::testing::{self, Ending, Kind, World};
use proptest::prelude::*;
use serde_json::json;

use crate::check::Laws;
use crate::moves::{Move, of_turn};
use crate::shop::{outcome, run, shop};

fn heal(world: &mut World) {
    world.endings.clear();
    world.settings.brake.engaged = false;
    world.set(Kind::Pipeline, "eta", "suspend", false);
}

/// The levels that the run recorded, in their order.
fn levels(world: &World) -> Vec<AutomationLevel> {
    run(world, "eta-request")
        .decisions
        .iter()
        .filter_map(|d| d.level)
        .collect()
}

/// The level at which the run asked for its delivery, and those that the delivery recorded, in their order.
fn levels_of_delivery(world: &World) -> Vec<AutomationLevel> {
    let Some(rollout) = world.find::<Rollout>(Kind::Rollout, "eta-2") else {
        return Vec::new();
    };
    let decisions = rollout.status.unwrap_or_default().decisions;
    let decided = decisions.iter().filter_map(|d| d.level);
    rollout.spec.max_automation_level.into_iter().chain(decided).collect()
}

proptest! {
    #![proptest_config(crate::histories(16))]

    #[test]
    fn every_history_keeps_the_laws_and_ends(moves in proptest::collection::vec(of_turn(), 0..40)) {
        let mut world = shop();
        let mut laws = Laws::default();
        for step in &moves {
            let braked = world.settings.brake.engaged;
            step.make(&mut world);
            laws.check(&world, braked && step.is_operators());
        }
        let lost = moves.iter().any(|m| matches!(m, Move::Lose(_)));
        if !lost {
            let levels = levels(&world);
            prop_assert!(levels.is_sorted_by(|a, b| a >= b), "{levels:?}");
        }
        let levels = levels_of_delivery(&world);
        prop_assert!(levels.is_sorted_by(|a, b| a >= b), "{levels:?}");
        heal(&mut world);
        let drifted = world.binding("eta").is_some_and(|v| v.contains("somewhere"));
        for _ in 0..6 {
            world.person("jane", flywheel_api::approval::ApprovalDecision::Approve);
            world.live(8);
            laws.check(&world, false);
        }
        let waits = run(&world, "eta-request");
        let idle = waits.waiting_for.is_some() || drifted || reason_is_manual(&world);
        prop_assert!(waits.outcome.is_some() || idle, "{waits:#?}");
        serves(&world)?;
    }

    #[test]
    fn what_serves_survives_every_deletion(
        moves in proptest::collection::vec(of_turn(), 0..25),
        kind in prop_oneof![Just(Kind::Pipeline), Just(Kind::Run), Just(Kind::Rollout), Just(Kind::ModelVersion)],
    ) {
        let mut world = shop();
        moves.iter().for_each(|m| m.make(&mut world));
        heal(&mut world);
        let before = world.binding("eta");
        world.names(kind).iter().for_each(|n| world.delete(kind, n));
        world.live(3);
        serves(&world)?;
        if kind == Kind::Pipeline {
            prop_assert!(world.names(Kind::Job).is_empty());
            // A run that nobody looked at yet has no owner and waits for its pipeline.
            prop_assert!(world.names(Kind::Run).iter().all(|r| run(&world, r).started_at.is_none()));
            prop_assert_eq!(world.names(Kind::Deployment), vec!["eta".to_owned()]);
        }
        if kind == Kind::ModelVersion && before.as_deref() == Some("s3://models/eta/1") {
            prop_assert!(world.names(Kind::ModelVersion).contains(&"eta-1".to_owned()));
        }
    }

    #[test]
    fn a_report_without_something_never_passes(
        missing in prop_oneof![Just("metrics"), Just("groups"), Just("baseline"), Just("samples"), Just("interval"), Just("level"), Just("group")],
    ) {
        let mut world = shop();
        world.add(Kind::BiasPolicy, &testing::policy("airports"));
        world.set(Kind::Pipeline, "eta", "biasPolicies", json!([{ "name": "airports" }]));
        world.endings.insert("evaluate".to_owned(), Ending::Runs);
        world.live(1);
        world.endings.insert("evaluate".to_owned(), Ending::Says(without(&world, missing)));
        world.live(1);
        prop_assert!(matches!(outcome(&world, "eta-request"), Some(RunOutcome::Rejected | RunOutcome::Failed)));
        prop_assert!(world.names(Kind::Rollout).is_empty());
    }
}

fn reason_is_manual(world: &World) -> bool {
    ["LevelIsManual", "NamespaceFull"].contains(&crate::shop::reason(world, Kind::Run, "eta-request").as_str())
}

/// Something that was promoted, or what a person put there.
fn serves(world: &World) -> Result<(), TestCaseError> {
    let value = world.binding("eta").unwrap_or_default();
    let known =
        value.starts_with("s3://models/eta/1") || value.starts_with("s3://store/") || value.contains("somewhere");
    prop_assert!(known, "{value} serves");
    Ok(())
}

/// The result that the Evaluate stage would report, but for one thing.
fn without(world: &World, missing: &str) -> String {
    let jobs: Vec<k8s_openapi::api::batch::v1::Job> = world.all(Kind::Job);
    let file = |j: &k8s_openapi::api::batch::v1::Job| {
        let template = &j.spec.as_ref().unwrap().template;
        let text = template.metadata.as_ref().unwrap().annotations.as_ref().unwrap()["flywheel.dev/stage-file"].clone();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()
    };
    let evaluate = jobs
        .iter()
        .map(file)
        .find(|f| f["type"] == "Evaluate")
        .expect("it runs");
    let mut result: serde_json::Value = serde_json::from_str(&world.report.document(&evaluate)).unwrap();
    let take = |v: &mut serde_json::Value, key: &str| drop(v.as_object_mut().and_then(|o| o.remove(key)));
    match missing {
        "baseline" | "samples" | "level" => take(&mut result["metrics"][0], missing),
        "interval" => {
            take(&mut result["metrics"][0], "low");
            result["metrics"][0]["value"] = json!(25.0);
            take(&mut result["metrics"][0], "high");
        }
        "group" => drop(result["groups"][0]["rows"].as_array_mut().map(|r| r.remove(1))),
        other => take(&mut result, other),
    }
    result.to_string()
}
