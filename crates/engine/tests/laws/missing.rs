//! What is missing is a failure after five minutes: of its own, whatever was so before.

use flywheel_api::rollout::RolloutPhase;
use flywheel_engine::testing::{self, Ending, Kind, World};
use serde_json::json;

use crate::shop::{condition, pipeline, reason, rollout, run, shop};

/// From now on a version of the model cannot be read, or can again: whoever looks at it hears of it.
fn change(world: &mut World, readable: bool) {
    let key = (Kind::ModelVersion, "eta-1".to_owned());
    if readable {
        world.unreadable.remove(&key);
    } else {
        world.unreadable.insert(key);
    }
    let now = world.now.to_string();
    world.edit(Kind::ModelVersion, "eta-1", |o| {
        o["metadata"]["annotations"]["changed"] = json!(now);
    });
}

fn says(world: &World, kind: Kind, name: &str, type_: &str, reason: &str) -> bool {
    condition(world, kind, name, type_)["reason"] == reason
}

#[test]
fn a_run_that_was_at_work_for_long_is_not_stalled_as_soon_as_something_cannot_be_read() {
    let mut world = shop();
    world.endings.insert("train".to_owned(), Ending::Runs);
    world.live(10);
    let says = |world: &World, type_| says(world, Kind::Run, "eta-request", type_, "Unreadable");
    let since = |world: &World| run(world, "eta-request").missing_since;
    for _ in 0..2 {
        change(&mut world, false);
        world.live(4);
        assert!(says(&world, "Reconciling") && !says(&world, "Stalled"));
        let first = since(&world);
        world.live(1);
        assert!(says(&world, "Stalled") && !says(&world, "Reconciling"));
        let writes = world.writes.len();
        world.live(9);
        assert_eq!(world.writes.len(), writes, "who waits writes nothing");
        assert!(first.is_some() && since(&world) == first);
        change(&mut world, true);
        world.live(1);
        assert_eq!(reason(&world, Kind::Run, "eta-request"), "StageRunning");
        assert_eq!(since(&world), None);
    }
}

#[test]
fn a_run_that_lost_its_status_while_something_could_not_be_read_has_five_minutes_again() {
    let mut world = shop();
    change(&mut world, false);
    world.live(6);
    let says = |world: &World, type_| says(world, Kind::Run, "eta-request", type_, "Unreadable");
    assert!(says(&world, "Stalled"));
    world.lose_status(Kind::Run, "eta-request");
    world.live(4);
    assert!(says(&world, "Reconciling") && !says(&world, "Stalled"));
    world.live(1);
    assert!(says(&world, "Stalled"));
}

#[test]
fn a_run_that_an_older_operator_left_stalled_stays_so() {
    let mut world = shop();
    change(&mut world, false);
    world.live(6);
    world.edit(Kind::Run, "eta-request", |o| {
        drop(o["status"].as_object_mut().unwrap().remove("missingSince"));
    });
    world.live(1);
    assert!(says(&world, Kind::Run, "eta-request", "Stalled", "Unreadable"));
    assert!(run(&world, "eta-request").missing_since.is_some());
}

#[test]
fn a_pipeline_that_was_stalled_is_not_so_at_once_for_what_it_misses_next() {
    let mut world = shop();
    world.delete(Kind::Run, "eta-request");
    world.set(Kind::Pipeline, "eta", "automationLevel", "FullyAutomated");
    world.set(Kind::Pipeline, "eta", "biasPolicies", json!([{ "name": "airports" }]));
    world.live(10);
    let says = |world: &World, type_, reason| says(world, Kind::Pipeline, "eta", type_, reason);
    assert!(says(&world, "Stalled", "PolicyNotFound"));
    world.add(Kind::BiasPolicy, &testing::policy("airports"));
    change(&mut world, false);
    world.live(4);
    assert!(says(&world, "Reconciling", "Unreadable") && !says(&world, "Stalled", "Unreadable"));
    world.live(1);
    assert!(says(&world, "Stalled", "Unreadable"));
    change(&mut world, true);
    world.live(1);
    assert_eq!(reason(&world, Kind::Pipeline, "eta"), "Idle");
    assert_eq!(pipeline(&world).status.unwrap().missing_since, None);
}

/// A Rollout whose target and whose version are missing.
fn without_anything() -> World {
    let mut world = World::default();
    world.add(Kind::Rollout, &testing::rollout("second", 2, &testing::plan()));
    world
}

#[test]
fn a_rollout_that_missed_its_version_for_long_is_not_stalled_at_once_for_its_target() {
    let mut world = without_anything();
    world.live(10);
    let says = |world: &World, type_, reason| says(world, Kind::Rollout, "second", type_, reason);
    assert!(says(&world, "Stalled", "VersionNotFound"));
    world.add(Kind::ModelVersion, &testing::version(2));
    world.live(4);
    assert!(says(&world, "Reconciling", "TargetNotFound") && !says(&world, "Stalled", "TargetNotFound"));
    world.live(1);
    assert!(says(&world, "Stalled", "TargetNotFound"));
    world.add(Kind::Deployment, &testing::target(4, Some(&testing::uri(1))));
    world.live(2);
    let begun = rollout(&world, "second");
    assert_eq!((begun.phase, begun.missing_since), (RolloutPhase::Holding, None));
}

#[test]
fn a_clock_that_was_ahead_does_not_delay_that_a_rollout_is_stalled() {
    let mut world = without_anything();
    world.live(1);
    let ahead = testing::at(86_400).to_string();
    world.edit(Kind::Rollout, "second", |o| {
        o["status"]["missingSince"] = json!(ahead);
    });
    world.live(6);
    assert!(says(&world, Kind::Rollout, "second", "Stalled", "VersionNotFound"));
}
