//! A status that is lost at any moment, as a backup that was restored loses it.

use flywheel_api::approval::ApprovalDecision::Approve;
use flywheel_api::flywheel_run::RunOutcome;
use flywheel_api::rollout::RolloutPhase;
use flywheel_engine::testing::{self, Ending, Kind, World};
use rstest::rstest;
use serde_json::{Value, json};

use crate::check::Laws;
use crate::shop::{delivery, outcome, phase, reason, rollout, run, shop, version};

/// Looks, one at a time, until that many writes were made; everything else happens as soon as it can.
fn go(world: &mut World, writes: usize) -> bool {
    for _ in 0..200 {
        for kind in [Kind::Pipeline, Kind::Run, Kind::ModelVersion, Kind::Rollout] {
            for name in world.names(kind) {
                world.look(kind, &name);
                if world.writes.len() >= writes {
                    return true;
                }
            }
        }
        if world.waiting().is_some() {
            world.person("jane", Approve);
        }
        world.run_jobs();
        world.run_deployments();
        world.pass(60);
        if outcome(world, "eta-request").is_some() && phase(world, "eta-2") == RolloutPhase::Promoted {
            world.settle();
            return false;
        }
    }
    panic!("the turn does not end");
}

/// How a turn goes on in which a status is lost now.
fn lose(before: &World, kind: Kind, name: &str) -> World {
    let mut world = before.clone();
    world.lose_status(kind, name);
    world.live(2);
    for _ in 0..3 {
        world.person("jane", Approve);
        world.live(12);
    }
    Laws::default().check(&world, false);
    world
}

#[rstest]
#[case::run(Kind::Run, "eta-request")]
#[case::pipeline(Kind::Pipeline, "eta")]
#[case::version(Kind::ModelVersion, "eta-2")]
#[case::rollout(Kind::Rollout, "eta-2")]
fn nothing_is_done_twice_after_a_lost_status(#[case] kind: Kind, #[case] name: &str) {
    let mut before = shop();
    let mut after = before.writes.len();
    while go(&mut before, after) {
        let world = lose(&before, kind, name);
        let ended = outcome(&world, "eta-request");
        let lost = ended == Some(RunOutcome::Failed) && run(&world, "eta-request").outcome_reason.contains("status");
        assert!(
            ended == Some(RunOutcome::Promoted) || lost,
            "after {after} writes: {:?}",
            run(&world, "eta-request")
        );
        assert!(world.names(Kind::Job).len() <= 2, "after {after} writes");
        assert!(world.names(Kind::ModelVersion).len() <= 2, "after {after} writes");
        after += 6;
    }
    assert!(after > 50, "the turn has {after} writes");
}

#[test]
fn a_running_job_is_taken_over_and_not_replaced() {
    let mut world = shop();
    world.endings.insert("train".to_owned(), Ending::Runs);
    world.live(2);
    let before = world.names(Kind::Job);
    world.lose_status(Kind::Run, "eta-request");
    world.live(2);
    assert_eq!(world.names(Kind::Job), before);
    assert_eq!(run(&world, "eta-request").stages[0].attempt, 1);
}

#[test]
fn a_job_that_works_on_other_inputs_is_not_taken_over() {
    let mut world = shop();
    world.endings.insert("train".to_owned(), Ending::Runs);
    world.live(2);
    let before = world.names(Kind::Job);
    world.set(Kind::Pipeline, "eta", "data/sources/0/uri", "s3://trips/other");
    world.lose_status(Kind::Run, "eta-request");
    world.live(2);
    let after = world.names(Kind::Job);
    assert_eq!((after.len(), before.contains(&after[0])), (1, false));
    assert_eq!(
        run(&world, "eta-request").stages[0].attempt,
        2,
        "a number is never used twice"
    );
}

#[test]
fn an_ended_run_does_not_train_again_after_its_jobs_are_gone() {
    let mut world = shop();
    world.report.change = 0.9;
    world.live(1);
    assert_eq!(outcome(&world, "eta-request"), Some(RunOutcome::Rejected));
    world.pass(4000);
    world.settle();
    assert!(world.names(Kind::Job).is_empty());
    world.lose_status(Kind::Run, "eta-request");
    world.live(2);
    assert_eq!(outcome(&world, "eta-request"), Some(RunOutcome::Failed));
    assert!(world.names(Kind::Job).is_empty());
}

#[rstest]
#[case::before_anybody_looked(0)]
#[case::before_its_mark(1)]
#[case::before_its_outcome(2)]
#[case::after_its_outcome(3)]
fn a_run_that_was_skipped_does_not_begin_when_its_status_is_lost_and_its_pipeline_resumed(#[case] looks: usize) {
    let mut world = shop();
    world.set(Kind::Pipeline, "eta", "suspend", true);
    for _ in 0..looks {
        assert!(world.look(Kind::Run, "eta-request"));
    }
    assert_eq!(outcome(&world, "eta-request").is_some(), looks == 3);
    world.set(Kind::Pipeline, "eta", "suspend", false);
    world.lose_status(Kind::Pipeline, "eta");
    world.lose_status(Kind::Run, "eta-request");
    world.live(2);
    // Nothing was decided before the mark: then it begins.
    let skipped = outcome(&world, "eta-request") == Some(RunOutcome::Skipped);
    assert_eq!((skipped, world.names(Kind::Job).is_empty()), (looks > 1, looks > 1));
}

#[test]
fn a_run_whose_pipeline_was_replaced_as_it_began_does_not_begin_for_the_other_one() {
    let mut world = shop();
    for _ in 0..2 {
        assert!(world.look(Kind::Run, "eta-request"));
    }
    assert!(run(&world, "eta-request").started_at.is_some());
    // As `kubectl delete --cascade=orphan` leaves it.
    world.edit(Kind::Run, "eta-request", |o| {
        o["metadata"]["ownerReferences"] = json!([]);
    });
    world.delete(Kind::Pipeline, "eta");
    world.add(Kind::Pipeline, &testing::pipeline());
    world.live(1);
    assert_eq!(outcome(&world, "eta-request"), Some(RunOutcome::Cancelled));
    world.lose_status(Kind::Run, "eta-request");
    world.live(2);
    assert_eq!(outcome(&world, "eta-request"), Some(RunOutcome::Failed));
    assert!(world.names(Kind::Job).is_empty());
}

/// A run that waits for a person, with a bias policy.
fn judged() -> World {
    let mut world = shop();
    world.add(Kind::BiasPolicy, &testing::policy("airports"));
    world.set(Kind::Pipeline, "eta", "biasPolicies", json!([{ "name": "airports" }]));
    world.live(1);
    world
}

/// The status of the run is lost, and its version knows what it knew.
fn lose_that_of_the_run(world: &mut World) {
    let before = version(world, "eta-2").status.unwrap();
    assert!(!before.evaluations.is_empty() && !before.bias.is_empty() && !before.approvals.is_empty());
    world.lose_status(Kind::Run, "eta-request");
    world.live(2);
    let after = version(world, "eta-2").status.unwrap();
    assert_eq!(after.evaluations, before.evaluations);
    assert_eq!(after.bias, before.bias);
    assert_eq!(after.approvals, before.approvals);
    assert_eq!(after.lineage, before.lineage, "nothing happened to the version");
}

#[test]
fn a_version_does_not_forget_its_verdicts_and_approvals_when_the_status_of_its_run_is_lost() {
    let mut world = judged();
    world.person("jane", Approve);
    world.live(2);
    assert!(phase(&world, "eta-2").holds_target());
    lose_that_of_the_run(&mut world);
    world.set(Kind::Rollout, "eta-2", "desiredState", "RollBack");
    world.live(2);
    assert_eq!(outcome(&world, "eta-request"), Some(RunOutcome::RolledBack));
    lose_that_of_the_run(&mut world);
    assert_eq!(outcome(&world, "eta-request"), Some(RunOutcome::RolledBack));
}

#[test]
fn a_version_shows_what_its_run_says_that_judged_anew_after_its_status_was_lost() {
    let mut world = judged();
    let before = version(&world, "eta-2").status.unwrap();
    world.set(Kind::BiasPolicy, "airports", "objectives/0/limit/max", "1");
    world.lose_status(Kind::Run, "eta-request");
    world.live(2);
    assert_eq!(outcome(&world, "eta-request"), Some(RunOutcome::Rejected));
    let after = version(&world, "eta-2").status.unwrap();
    assert_eq!(after.bias, run(&world, "eta-request").bias);
    assert_ne!(after.bias, before.bias);
}

#[test]
fn a_version_that_was_rolled_back_is_not_delivered_again() {
    let mut world = delivery(&testing::plan());
    world.live(2);
    world.edit(Kind::Rollout, "second", |o| {
        o["spec"]["plan"]["progressDeadlineSeconds"] = json!(60);
    });
    world.broken.push(testing::uri(2));
    world.set(Kind::Deployment, "eta", "replicas", 60);
    world.live(15);
    assert_eq!(phase(&world, "second"), RolloutPhase::RolledBack);
    world.broken.clear();
    world.lose_status(Kind::Rollout, "second");
    world.live(30);
    assert_eq!(phase(&world, "second"), RolloutPhase::Failed);
    assert_eq!(reason(&world, Kind::Rollout, "second"), "Failed");
    assert_eq!(world.binding("eta"), Some(testing::uri(1)));
}

#[test]
fn a_promoted_version_can_still_be_taken_back_after_its_status_was_lost() {
    let mut world = delivery(&testing::plan());
    world.live(25);
    assert_eq!(phase(&world, "second"), RolloutPhase::Promoted);
    world.lose_status(Kind::Rollout, "second");
    world.live(2);
    assert_eq!(phase(&world, "second"), RolloutPhase::Promoted);
    assert_eq!(
        rollout(&world, "second").baseline.unwrap().version.as_deref(),
        Some("eta-1")
    );
    world.set(Kind::Rollout, "second", "desiredState", "RollBack");
    world.live(2);
    assert_eq!(world.binding("eta"), Some(testing::uri(1)));
}

#[test]
fn of_two_lost_statuses_at_a_target_the_promoted_one_does_not_begin_to_work_beside_the_other() {
    for names in [["second", "third"], ["third", "second"]] {
        let mut world = delivery(&testing::plan());
        world.live(25);
        assert_eq!(phase(&world, "second"), RolloutPhase::Promoted);
        let steps = json!([{ "name": "half", "weight": 50, "minDuration": "1h" }]);
        let mut plan = testing::plan();
        plan["strategy"]["steps"] = steps;
        world.add(Kind::ModelVersion, &testing::version(3));
        world.add(Kind::Rollout, &testing::rollout("third", 3, &plan));
        world.live(3);
        assert_eq!(phase(&world, "third"), RolloutPhase::Holding);
        for name in names {
            world.lose_status(Kind::Rollout, name);
        }
        // Whoever looks first.
        for name in names.into_iter().cycle().take(12) {
            world.look(Kind::Rollout, name);
            assert_ne!(phase(&world, "second"), RolloutPhase::Promoting, "{names:?}");
        }
        let (old, new) = (phase(&world, "second"), phase(&world, "third"));
        assert_eq!((old, new), (RolloutPhase::Promoted, RolloutPhase::Holding));
        world.set(Kind::Rollout, "third", "desiredState", "RollBack");
        world.live(5);
        assert_eq!(phase(&world, "third"), RolloutPhase::RolledBack);
        assert_eq!(world.binding("eta"), Some(testing::uri(2)));
    }
}

#[test]
fn a_lost_status_takes_no_version_back_from_beneath_a_rollout_that_has_just_begun() {
    let mut world = delivery(&testing::plan());
    world.live(25);
    assert_eq!(phase(&world, "second"), RolloutPhase::Promoted);
    world.add(Kind::ModelVersion, &testing::version(3));
    world.add(Kind::Rollout, &testing::rollout("third", 3, &testing::plan()));
    // It has no candidate yet.
    world.look(Kind::Rollout, "third");
    assert_eq!(phase(&world, "third"), RolloutPhase::Preparing);
    world.set(Kind::Rollout, "second", "desiredState", "RollBack");
    world.lose_status(Kind::Rollout, "second");
    for _ in 0..6 {
        world.look(Kind::Rollout, "second");
    }
    assert_eq!(phase(&world, "second"), RolloutPhase::Promoted);
    assert_eq!(world.binding("eta"), Some(testing::uri(2)));
    world.live(30);
    assert_eq!(phase(&world, "third"), RolloutPhase::Promoted);
    assert_eq!(world.binding("eta"), Some(testing::uri(3)));
}

fn deliver(world: &mut World, name: &str, number: i64, plan: &Value) {
    world.add(Kind::Rollout, &testing::rollout(name, number, plan));
    world.live(25);
}

/// Version 3 serves after version 2; its Rollout has this plan.
fn two_deliveries(plan: &Value) -> World {
    let mut world = delivery(&testing::plan());
    world.live(25);
    for number in 3..=4 {
        world.add(Kind::ModelVersion, &testing::version(number));
    }
    deliver(&mut world, "third", 3, plan);
    assert_eq!(phase(&world, "second"), RolloutPhase::Promoted);
    assert_eq!(world.binding("eta"), Some(testing::uri(3)));
    world
}

fn go_back(mut world: World, name: &str, number: i64) {
    world.set(Kind::Rollout, name, "desiredState", "RollBack");
    world.live(3);
    assert_eq!(phase(&world, name), RolloutPhase::RolledBack);
    assert_eq!(world.binding("eta"), Some(testing::uri(number)));
}

#[test]
fn the_lost_status_of_an_old_rollout_holds_up_neither_the_one_after_it_nor_the_next_one() {
    let mut world = two_deliveries(&testing::plan());
    world.lose_status(Kind::Rollout, "second");
    world.live(2);
    assert_eq!(phase(&world, "second"), RolloutPhase::Superseded);
    go_back(world.clone(), "third", 2);
    deliver(&mut world, "fourth", 4, &testing::plan());
    assert_eq!(phase(&world, "fourth"), RolloutPhase::Promoted);
    assert_eq!(world.binding("eta"), Some(testing::uri(4)));
}

#[test]
fn the_lost_status_of_an_old_rollout_does_not_end_the_watch_of_the_one_after_it() {
    let mut plan = testing::plan();
    plan["observe"] = json!({ "duration": "1h" });
    let mut world = two_deliveries(&plan);
    assert_eq!(phase(&world, "third"), RolloutPhase::Observing);
    world.lose_status(Kind::Rollout, "second");
    world.live(2);
    assert_eq!(phase(&world, "third"), RolloutPhase::Observing);
    world.live(60);
    assert_eq!(phase(&world, "third"), RolloutPhase::Promoted);
}

#[test]
fn an_old_rollout_whose_status_is_lost_does_not_take_over_that_its_version_serves_again() {
    let mut world = two_deliveries(&testing::plan());
    deliver(&mut world, "again", 2, &testing::plan());
    assert_eq!(world.binding("eta"), Some(testing::uri(2)));
    world.lose_status(Kind::Rollout, "second");
    world.live(2);
    assert_eq!(phase(&world, "second"), RolloutPhase::Superseded);
    go_back(world, "again", 3);
}

#[test]
fn of_two_rollouts_that_delivered_the_same_version_and_lost_their_statuses_at_once_the_older_one_is_superseded() {
    for names in [["second", "third", "again"], ["again", "third", "second"]] {
        let mut world = two_deliveries(&testing::plan());
        deliver(&mut world, "again", 2, &testing::plan());
        assert_eq!(world.binding("eta"), Some(testing::uri(2)));
        for name in names {
            world.lose_status(Kind::Rollout, name);
        }
        // Whoever looks first.
        for name in names.into_iter().cycle().take(18) {
            world.look(Kind::Rollout, name);
        }
        world.live(2);
        let found = (phase(&world, "second"), phase(&world, "again"));
        assert_eq!(found, (RolloutPhase::Superseded, RolloutPhase::Promoted), "{names:?}");
        go_back(world, "again", 3);
    }
}

#[test]
fn a_restored_rollout_that_seems_to_be_the_last_one_does_not_say_what_its_target_should_carry() {
    let mut world = two_deliveries(&testing::plan());
    // What is restored is made anew, in whatever order.
    let now = world.now;
    world.edit(Kind::Rollout, "second", |o| {
        o["metadata"]["creationTimestamp"] = json!(now);
    });
    for name in ["second", "third"] {
        world.lose_status(Kind::Rollout, name);
    }
    world.live(2);
    let found = (phase(&world, "second"), phase(&world, "third"));
    assert_eq!(found, (RolloutPhase::Failed, RolloutPhase::Promoted));
    deliver(&mut world, "fourth", 4, &testing::plan());
    assert_eq!(phase(&world, "fourth"), RolloutPhase::Promoted);
    assert_eq!(world.binding("eta"), Some(testing::uri(4)));
}

/// Version 2 serves; a Rollout that is older than its own had found version 1 live.
fn found_live_and_replaced() -> World {
    let mut world = World::default();
    world.add(Kind::Deployment, &testing::target(4, Some(&testing::uri(1))));
    world.run_deployments();
    for number in 1..=2 {
        world.add(Kind::ModelVersion, &testing::version(number));
    }
    world.add(Kind::Rollout, &testing::rollout("first", 1, &testing::plan()));
    world.live(1);
    let first = rollout(&world, "first");
    assert_eq!((first.phase, first.baseline), (RolloutPhase::Promoted, None));
    deliver(&mut world, "second", 2, &testing::plan());
    assert_eq!(phase(&world, "second"), RolloutPhase::Promoted);
    world
}

#[test]
fn a_version_that_was_found_live_does_not_come_back_when_all_statuses_are_lost() {
    for names in [["first", "second"], ["second", "first"]] {
        let mut world = found_live_and_replaced();
        for name in names {
            world.lose_status(Kind::Rollout, name);
        }
        // Whoever looks first.
        for name in names.into_iter().cycle().take(12) {
            world.look(Kind::Rollout, name);
        }
        world.live(30);
        let found = (phase(&world, "first"), phase(&world, "second"));
        assert_eq!(found, (RolloutPhase::Superseded, RolloutPhase::Promoted), "{names:?}");
        assert_eq!(world.binding("eta"), Some(testing::uri(2)), "{names:?}");
    }
}

#[test]
fn a_version_that_was_found_live_does_not_come_back_when_the_rollout_that_replaced_it_is_gone() {
    let mut world = found_live_and_replaced();
    world.delete(Kind::Rollout, "second");
    world.live(2);
    world.lose_status(Kind::Rollout, "first");
    world.live(30);
    assert_eq!(world.names(Kind::Rollout), ["first"]);
    assert_eq!(phase(&world, "first"), RolloutPhase::Superseded);
    assert_eq!(world.binding("eta"), Some(testing::uri(2)));
}

#[test]
fn a_version_that_was_found_live_and_serves_is_found_live_again() {
    let mut world = found_live_and_replaced();
    world.set(Kind::Rollout, "second", "desiredState", "RollBack");
    world.live(3);
    world.lose_status(Kind::Rollout, "first");
    world.live(2);
    let first = rollout(&world, "first");
    assert_eq!((first.phase, first.baseline), (RolloutPhase::Promoted, None));
    assert_eq!(world.binding("eta"), Some(testing::uri(1)));
}

#[rstest]
#[case::known(false)]
#[case::lost(true)]
fn a_target_that_was_scaled_after_its_promotion_keeps_its_replicas(#[case] lost: bool) {
    let mut plan = testing::plan();
    plan["capacity"] = json!({ "baseline": "ShrinkWithWeight" });
    let mut world = delivery(&plan);
    world.live(25);
    assert_eq!(phase(&world, "second"), RolloutPhase::Promoted);
    world.set(Kind::Deployment, "eta", "replicas", 2);
    world.live(1);
    if lost {
        world.lose_status(Kind::Rollout, "second");
    }
    world.live(3);
    assert_eq!(phase(&world, "second"), RolloutPhase::Promoted);
    assert_eq!(world.ready("eta"), 2);
    world.set(Kind::Rollout, "second", "desiredState", "RollBack");
    world.live(3);
    assert_eq!(phase(&world, "second"), RolloutPhase::RolledBack);
    assert_eq!(world.ready("eta"), 2);
}
