//! How many runs of a namespace have a running stage at once.

use std::collections::BTreeSet;

use flywheel_api::FlywheelRun;
use flywheel_api::flywheel_run::StageState;
use flywheel_engine::testing::{self, Ending, Held, Kind, World};
use proptest::prelude::*;
use serde_json::json;

const RUNS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// A pipeline for each of some runs, which are created one after the other, and at most so many of them at work.
fn crowd(max: i32) -> World {
    let mut world = World::default();
    world.settings.max_runs_per_namespace = max;
    for name in RUNS {
        let mut pipeline = testing::pipeline();
        pipeline.metadata.name = Some(name.to_owned());
        pipeline.spec.model.name = testing::object(json!(name));
        pipeline.spec.rollout = None;
        world.add(Kind::Pipeline, &pipeline);
        let mut run = testing::run(name, "jane");
        run.spec.pipeline_ref.name = testing::object(json!(name));
        world.add(Kind::Run, &run);
        world.pass(1);
    }
    world.look_around();
    world
}

fn at_work(world: &World) -> BTreeSet<String> {
    let all: Vec<FlywheelRun> = world.all(Kind::Run);
    let works = |run: &&FlywheelRun| {
        let mut stages = run.status.iter().flat_map(|s| &s.stages);
        stages.any(|s| s.state == StageState::Running)
    };
    let working = all.iter().filter(works);
    working.map(|run| run.metadata.name.clone().unwrap()).collect()
}

fn look_at_the_others(world: &mut World) {
    for kind in [Kind::Pipeline, Kind::ModelVersion] {
        for name in world.names(kind) {
            world.look(kind, &name);
        }
    }
}

/// All runs are looked at in the same world; their writes arrive afterwards.
fn look_together(world: &mut World) {
    let held: Vec<Held> = RUNS.iter().filter_map(|name| world.hold(Kind::Run, name)).collect();
    held.iter().for_each(|write| {
        world.arrive(write);
    });
}

/// Only the run that was created first begins to work, however often all of them are looked at together.
fn the_first_alone_begins(world: &mut World) {
    assert!(at_work(world).is_empty());
    for _ in 0..5 {
        look_together(world);
        assert_eq!(at_work(world), BTreeSet::from(["a".to_owned()]));
    }
}

/// Runs whose next attempt could have started minutes ago, when nobody looked.
fn unattended() -> World {
    let mut world = crowd(6);
    world.endings.insert("train".to_owned(), Ending::Evicted);
    world.settle();
    world.run_jobs();
    world.settle();
    world.endings.clear();
    world.pass(300);
    world.settings.max_runs_per_namespace = 1;
    world
}

/// Whether all stages of all runs are done.
fn done(world: &World) -> bool {
    let all: Vec<FlywheelRun> = world.all(Kind::Run);
    let stages = |run: &FlywheelRun| run.status.as_ref().map(|s| s.stages.clone()).unwrap_or_default();
    let is_done = |run| {
        let stages = stages(run);
        !stages.is_empty() && stages.iter().all(|s| s.state == StageState::Succeeded)
    };
    all.iter().all(is_done)
}

proptest! {
    #![proptest_config(crate::histories(8))]

    #[test]
    fn runs_that_look_at_the_same_time_leave_no_more_at_work_than_the_maximum(
        max in 1..4_i32,
        rounds in proptest::collection::vec((any::<bool>(), 0..64_u8), 0..40),
    ) {
        let mut world = crowd(max);
        // Some are looked at in each round, all in the same world; their writes arrive afterwards.
        let every = std::iter::repeat_n((true, u8::MAX), 200);
        for (jobs, looked) in rounds.into_iter().chain(every) {
            let some = RUNS.iter().enumerate().filter(|(n, _)| looked & (1 << n) != 0);
            let held: Vec<Held> = some.filter_map(|(_, name)| world.hold(Kind::Run, name)).collect();
            held.iter().for_each(|write| { world.arrive(write); });
            look_at_the_others(&mut world);
            prop_assert!(at_work(&world).len() <= usize::try_from(max).unwrap(), "{:?}", at_work(&world));
            if jobs {
                world.run_jobs();
            }
            world.pass(1);
            if done(&world) {
                break;
            }
        }
        prop_assert!(done(&world), "some wait for ever");
    }
}

#[test]
fn the_runs_that_were_created_first_are_the_first_at_work() {
    let mut world = crowd(2);
    world.settle();
    assert_eq!(at_work(&world), BTreeSet::from(["a".to_owned(), "b".to_owned()]));
    let wait = crate::shop::reason(&world, Kind::Run, "c");
    assert_eq!(wait, "NamespaceFull");
}

#[test]
fn runs_that_the_brake_held_for_long_keep_to_the_maximum_when_it_is_released() {
    let mut world = crowd(0);
    world.settle();
    world.settings.brake.engaged = true;
    world.settle();
    assert_eq!(crate::shop::reason(&world, Kind::Run, "f"), "Braked");
    world.pass(300);
    world.settings.max_runs_per_namespace = 1;
    world.settings.brake.engaged = false;
    the_first_alone_begins(&mut world);
}

#[test]
fn runs_that_could_have_started_while_nobody_looked_keep_to_the_maximum() {
    the_first_alone_begins(&mut unattended());
}

#[test]
fn a_run_that_could_start_and_is_never_looked_at_keeps_others_waiting_for_a_minute_and_no_longer() {
    let mut world = unattended();
    world.panics.insert((Kind::Run, "a".to_owned()));
    look_together(&mut world);
    look_together(&mut world);
    assert!(at_work(&world).is_empty(), "{:?}", at_work(&world));
    world.pass(61);
    look_together(&mut world);
    assert_eq!(at_work(&world), BTreeSet::from(["b".to_owned()]));
}

/// Runs that say that they wait for room, and then there is room for one.
fn waiting() -> World {
    let mut world = crowd(0);
    world.settle();
    let first = |name| crate::shop::condition(&world, Kind::Run, name, "WaitingForRoom")["status"].clone();
    assert_eq!((first("a"), first("f")), (json!("True"), json!("True")));
    world.settings.max_runs_per_namespace = 1;
    world
}

#[test]
fn a_run_that_waits_for_room_and_never_takes_it_keeps_others_waiting_for_a_minute_and_no_longer() {
    let mut world = waiting();
    world.pass(300);
    world.panics.insert((Kind::Run, "a".to_owned()));
    look_together(&mut world);
    let writes = world.writes.len();
    look_together(&mut world);
    assert_eq!(world.writes.len(), writes, "since when there is room is written once");
    world.pass(58);
    look_together(&mut world);
    assert!(at_work(&world).is_empty(), "{:?}", at_work(&world));
    world.pass(3);
    look_together(&mut world);
    assert_eq!(at_work(&world), BTreeSet::from(["b".to_owned()]));
}

#[test]
fn each_run_that_waits_for_room_and_never_takes_it_costs_the_others_a_minute() {
    let mut world = waiting();
    for name in ["a", "b"] {
        world.panics.insert((Kind::Run, name.to_owned()));
    }
    look_together(&mut world);
    world.pass(61);
    look_together(&mut world);
    assert!(at_work(&world).is_empty(), "{:?}", at_work(&world));
    world.pass(60);
    look_together(&mut world);
    assert_eq!(at_work(&world), BTreeSet::from(["c".to_owned()]));
}
