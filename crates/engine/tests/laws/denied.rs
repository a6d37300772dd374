//! Effects that the API server refuses until somebody changes something, such as a quota.

use flywheel_engine::decision::{Action, Child, Decision, Effect};
use flywheel_engine::denial::Denial;
use flywheel_engine::testing::{self, Kind, World};
use flywheel_engine::{pipeline, rollout, run};
use serde_json::{Value, json};

use crate::shop::{delivery, reason, shop};

fn denial(what: &str) -> Option<Denial> {
    Some(Denial {
        what: what.to_owned(),
        said: "exceeded quota: small".to_owned(),
    })
}

/// What is decided on an object of the world while that is refused.
type Decide = fn(&World, Option<Denial>) -> Decision<Value>;

fn on_run(world: &World, denied: Option<Denial>) -> Decision<Value> {
    let mut o = world.run_observation("eta-request").expect("a run");
    o.denied = denied;
    plain(run::decide(&o))
}

fn on_pipeline(world: &World, denied: Option<Denial>) -> Decision<Value> {
    let mut o = world.pipeline_observation("eta").expect("a pipeline");
    o.denied = denied;
    plain(pipeline::decide(&o))
}

fn on_rollout(world: &World, denied: Option<Denial>) -> Decision<Value> {
    let mut o = world.rollout_observation("second").expect("a Rollout");
    o.denied = denied;
    plain(rollout::decide(&o))
}

fn plain<S: serde::Serialize>(decision: Decision<S>) -> Decision<Value> {
    match decision {
        Decision::Record(record) => Decision::Record(flywheel_engine::decision::Record {
            status: json!(record.status),
            events: record.events,
        }),
        Decision::Do(effect) => Decision::Do(effect),
        Decision::Wait(wait) => Decision::Wait(wait),
    }
}

/// Looks until the next thing to do is to create such an object.
fn until(world: &mut World, kind: Kind, name: &str, decide: Decide, wanted: fn(&Child) -> bool) -> Effect {
    for _ in 0..50 {
        match decide(world, None) {
            Decision::Do(effect) if matches!(&effect.action, Action::Create(child) if wanted(child)) => return effect,
            _ => assert!(world.look(kind, name)),
        }
    }
    panic!("no such effect is decided");
}

fn is_said_and_forgotten(mut world: World, kind: Kind, name: &str, decide: Decide, wanted: fn(&Child) -> bool) {
    let effect = until(&mut world, kind, name, decide, wanted);
    let tried = Decision::Do(effect.clone());
    assert_eq!(decide(&world, denial("something else")), tried, "that is over");
    let Decision::Record(record) = decide(&world, denial(&effect.why)) else {
        panic!("nothing is said");
    };
    world.edit(kind, name, |o| o["status"] = record.status.clone());
    let stalled = crate::shop::condition(&world, kind, name, "Stalled");
    assert_eq!(stalled["reason"], "WriteRefused");
    let said = stalled["message"].as_str().unwrap();
    assert!(
        said.contains(&effect.why) && said.contains("exceeded quota: small"),
        "{said}"
    );
    let in_other_words = Denial {
        what: effect.why,
        said: "exceeded quota: large, used: 7".to_owned(),
    };
    for denied in [None, Some(in_other_words)] {
        assert_eq!(decide(&world, denied), tried, "it is tried again, and nothing written");
    }
    for _ in 0..5 {
        world.look(kind, name);
    }
    assert_ne!(reason(&world, kind, name), "WriteRefused", "it is allowed now");
    assert_eq!(crate::shop::condition(&world, kind, name, "Stalled"), Value::Null);
}

#[test]
fn a_run_whose_job_is_refused_says_so_until_it_is_made() {
    let wanted = |child: &Child| matches!(child, Child::Job(_));
    is_said_and_forgotten(shop(), Kind::Run, "eta-request", on_run, wanted);
}

/// A pipeline whose schedule has come.
fn due() -> World {
    let mut world = World::default();
    world.add(Kind::Pipeline, &testing::pipeline());
    let hourly = json!([{ "name": "hourly", "type": "Schedule", "schedule": { "cron": "0 * * * *" } }]);
    world.set(Kind::Pipeline, "eta", "triggers", hourly);
    world.look(Kind::Pipeline, "eta");
    world.pass(3600);
    world
}

fn is_run(child: &Child) -> bool {
    matches!(child, Child::FlywheelRun(_))
}

/// The pipeline says that its run is refused; how that was tried.
fn refused(world: &mut World) -> Effect {
    let start = until(world, Kind::Pipeline, "eta", on_pipeline, is_run);
    let Decision::Record(record) = on_pipeline(world, denial(&start.why)) else {
        panic!("nothing is said");
    };
    world.edit(Kind::Pipeline, "eta", |o| o["status"] = record.status.clone());
    assert_eq!(reason(world, Kind::Pipeline, "eta"), "WriteRefused");
    start
}

#[test]
fn a_pipeline_whose_run_is_refused_says_so_until_it_is_made() {
    is_said_and_forgotten(due(), Kind::Pipeline, "eta", on_pipeline, is_run);
}

#[test]
fn a_pipeline_whose_run_is_refused_says_so_until_none_is_wanted() {
    let mut world = due();
    refused(&mut world);
    world.set(Kind::Pipeline, "eta", "suspend", json!(true));
    assert!(world.look(Kind::Pipeline, "eta"));
    assert_eq!(reason(&world, Kind::Pipeline, "eta"), "Suspended");
    assert_eq!(
        crate::shop::condition(&world, Kind::Pipeline, "eta", "Stalled"),
        Value::Null
    );
}

#[test]
fn a_pipeline_whose_run_is_refused_forgets_what_is_over_which_may_be_what_leaves_no_room() {
    let mut world = due();
    let over = json!({ "outcome": "Cancelled", "finishedAt": world.now.to_string() });
    for name in ["old-1", "old-2"] {
        world.add(Kind::Run, &testing::run(name, "joe"));
        world.edit(Kind::Run, name, |o| o["status"] = over.clone());
    }
    let few = json!({ "successfulRuns": 1, "failedRuns": 1 });
    world.set(Kind::Pipeline, "eta", "history", few);
    let start = refused(&mut world);
    let Decision::Do(effect) = on_pipeline(&world, denial(&start.why)) else {
        panic!("nothing is done");
    };
    assert!(matches!(effect.action, Action::Delete(_)), "{}", effect.why);
}

#[test]
fn a_rollout_that_may_not_be_marked_says_so_until_it_is() {
    let mut world = delivery(&testing::plan());
    while !matches!(on_rollout(&world, None), Decision::Do(_)) {
        assert!(world.look(Kind::Rollout, "second"));
    }
    let Decision::Do(effect) = on_rollout(&world, None) else {
        panic!("the loop ended");
    };
    assert!(effect.why.contains("must not begin again"), "{}", effect.why);
    let Decision::Record(record) = on_rollout(&world, denial(&effect.why)) else {
        panic!("nothing is said");
    };
    world.edit(Kind::Rollout, "second", |o| o["status"] = record.status.clone());
    assert_eq!(reason(&world, Kind::Rollout, "second"), "WriteRefused");
    assert!(matches!(on_rollout(&world, None), Decision::Do(again) if again.why == effect.why));
    for _ in 0..3 {
        world.look(Kind::Rollout, "second");
    }
    assert_ne!(reason(&world, Kind::Rollout, "second"), "WriteRefused");
}

#[test]
fn a_rollout_whose_candidate_is_refused_says_so_until_it_is_made() {
    let wanted = |child: &Child| matches!(child, Child::Deployment(_));
    is_said_and_forgotten(delivery(&testing::plan()), Kind::Rollout, "second", on_rollout, wanted);
}
