//! A status that is lost at any moment, as a backup that was restored loses it.

use flywheel_api::approval::ApprovalDecision::Approve;
use flywheel_api::flywheel_run::RunOutcome;
use flywheel_api::rollout::RolloutPhase;
use flywheel_engine::testing::{self, Ending, Kind, World};
use rstest::rstest;
use serde_json::json;

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
