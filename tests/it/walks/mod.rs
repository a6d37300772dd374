//! Walks through the custom resources, in the manner of Acto: each step changes one property to a value made from the
//! schema, reverts a change, deletes an object and makes it again, or tries a wrong value.
//!
//! After each step the oracles judge. Consistency: what was accepted is observed, and what depends on it follows; of a
//! Rollout these are the Deployments, with their replicas and their pods. What a stage says of its pod reaches its Job:
//! that has a test of its own, because a walk waits with a run.
//! Differential: objects made from nothing with the same specs look the same. Recovery: what is reverted looks as before.
//! Health: what rests is well, or names the field that is wrong. Crash: no reconcile panics or hangs. Quiescence: nothing
//! is written at rest. What happened on the way is judged by the audit log, as after every test.
//!
//! The steps follow from a seed, which `FLYWHEEL_TEST_SEED` changes; with `FLYWHEEL_TEST_LONG` there are ten times as many.

mod compile;
mod delivery;
mod ground;
mod jobs;
mod mend;
mod metrics;
mod oracle;
mod scenery;
mod schema;
mod semantic;
mod sight;
mod units;
mod walk;
mod wrong;

use self::scenery::Course;
use self::walk::Walk;

/// The kinds that are walked through.
const KINDS: [&str; 6] = [
    "FlywheelPipeline",
    "BiasPolicy",
    "Rollout",
    "ModelVersion",
    "FlywheelRun",
    "Approval",
];

/// The seed that was asked for, or that one.
fn seed(own: u64) -> u64 {
    std::env::var("FLYWHEEL_TEST_SEED").map_or(own, |text| text.parse().expect("a seed is a number"))
}

/// Whether a long run was asked for.
fn is_long() -> bool {
    std::env::var_os("FLYWHEEL_TEST_LONG").is_some()
}

/// Walks so far, or ten times as far.
async fn walk(course: Course, name: &str, own: u64, steps: usize) {
    let seed = seed(own);
    let steps = if is_long() { steps * 10 } else { steps };
    println!("{name}: seed {seed}, {steps} steps");
    let mut walk = Walk::begin(course, name, seed)
        .await
        .unwrap_or_else(|why| panic!("{name}: {why}"));
    let outcome = walk.go(steps).await;
    let (tally, (touched, all)) = (&walk.tally, walk.reach());
    println!("covered: {name}: {tally:?}, {touched} of {all} properties");
    if let Err(why) = outcome {
        panic!("{name}, FLYWHEEL_TEST_SEED={seed}: {why}\nThe steps:\n{}", walk.story());
    }
    println!("{}", walk.log.join("\n"));
    let tried = walk.tally.accepted + walk.tally.refused;
    assert!(
        walk.tally.accepted * 10 >= tried * 7,
        "only {} of {tried} values were accepted",
        walk.tally.accepted
    );
}

macro_rules! walks {
    ($($name:ident: $course:ident, $word:literal, $seed:literal, $steps:literal;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                walk(Course::$course, $word, $seed, $steps).await;
            }
        )*
    };
}

walks! {
    cluster_walk_through_a_pipeline_and_its_policy: Loop, "walk-loop", 1, 19;
    cluster_walk_through_a_pipeline_and_its_policy_on_another_way: Loop, "walk-loop-b", 2, 19;
    cluster_walk_through_a_delivery: Delivery, "walk-delivery", 3, 10;
    cluster_walk_through_a_run: Turn, "walk-run", 4, 12;
}
