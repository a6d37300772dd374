//! Levels that change while a delivery is under way: a lower one counts at once, a higher one for the next run.

use flywheel_api::Rollout;
use flywheel_api::approval::ApprovalDecision::Approve;
use flywheel_api::flywheel_run::RunOutcome;
use flywheel_api::names::{ANNOTATION_BEGUN, ANNOTATION_LEVEL};
use flywheel_api::reference::ApprovalGate;
use flywheel_api::reference::AutomationLevel::{self, FullyAutomated, HumanOversight, Manual, SemiAutomated};
use flywheel_engine::decision::Action;
use flywheel_engine::testing::{self, Ending, Kind, World};
use rstest::rstest;
use serde_json::{Value, json};

use crate::shop::{outcome, rollout, run, shop};

fn set(world: &mut World, level: AutomationLevel) {
    world.set(Kind::Pipeline, "eta", "automationLevel", level);
}

/// The step at which the delivery of the run is.
fn step(world: &World) -> Option<i32> {
    rollout(world, "eta-2").step.map(|step| step.index)
}

/// Whether the delivery of the run waits for a person.
fn asks(world: &World) -> bool {
    rollout(world, "eta-2").waiting_for.is_some()
}

/// What the operator wrote beside the statuses of objects of that kind when it noted a level there.
fn notes(world: &World, kind: Kind) -> Vec<Value> {
    let of_kind = world.writes.iter().filter(|write| write.actor.0 == kind);
    let annotations = of_kind.filter_map(|write| match &write.action {
        Some(Action::Patch(patch)) => Some(patch.body["metadata"]["annotations"].clone()),
        _ => None,
    });
    annotations.filter(|a| a[ANNOTATION_LEVEL].is_string()).collect()
}

#[rstest]
#[case::before_it_was_intended(0, 0, false)]
#[case::before_it_was_made(2, 0, false)]
#[case::before_it_began(3, 0, false)]
#[case::at_a_step(3, 1, false)]
#[case::and_then_its_status_is_lost(3, 0, true)]
fn a_level_that_is_raised_in_the_middle_of_a_run_lets_its_rollout_leave_no_step_without_a_person(
    #[case] looks: usize,
    #[case] minutes: i64,
    #[case] lost: bool,
) {
    let mut world = shop();
    set(&mut world, Manual);
    world.live(1);
    world.person("jane", Approve).expect("the promotion waits");
    for _ in 0..looks {
        assert!(world.look(Kind::Run, "eta-request") || world.look(Kind::ModelVersion, "eta-2"));
    }
    if minutes > 0 {
        world.live(minutes);
        assert_eq!(step(&world), Some(0));
    }
    set(&mut world, FullyAutomated);
    world.live(5);
    let asked: Rollout = world.get(Kind::Rollout, "eta-2");
    assert_eq!(asked.spec.max_automation_level, Some(Manual));
    if lost {
        world.lose_status(Kind::Rollout, "eta-2");
    }
    for index in 0..2 {
        world.live(15);
        assert_eq!((step(&world), asks(&world)), (Some(index), true), "a person decides");
        world.person("jane", Approve);
        world.live(1);
    }
    world.live(2);
    assert_eq!(outcome(&world, "eta-request"), Some(RunOutcome::Promoted));
    let decisions = rollout(&world, "eta-2").decisions;
    assert!(decisions.iter().all(|d| d.level == Some(Manual)), "{decisions:?}");
}

#[test]
fn a_level_that_is_raised_counts_for_the_delivery_of_the_next_run() {
    let mut world = shop();
    set(&mut world, Manual);
    world.live(1);
    world.set(Kind::Run, "eta-request", "desiredState", "Cancel");
    set(&mut world, FullyAutomated);
    world.live(1);
    world.add(Kind::Run, &testing::run("eta-next", "joe"));
    world.live(25);
    assert_eq!(outcome(&world, "eta-next"), Some(RunOutcome::Promoted));
}

#[test]
fn a_step_that_waits_for_a_person_because_the_level_was_lowered_waits_on_when_it_is_raised_again() {
    let mut world = shop();
    world.live(1);
    world.person("jane", Approve).expect("the promotion waits");
    world.live(5);
    assert_eq!(run(&world, "eta-request").level, Some(HumanOversight));
    set(&mut world, Manual);
    world.live(10);
    assert_eq!((step(&world), asks(&world)), (Some(0), true), "it counts at once");
    let told = rollout(&world, "eta-2").decisions;
    let last = told.last().map(|d| (d.decision.as_str(), d.level));
    assert_eq!(last, Some(("AwaitApproval", Some(Manual))));
    set(&mut world, FullyAutomated);
    world.live(10);
    assert_eq!((step(&world), asks(&world)), (Some(0), true));
    assert_eq!(rollout(&world, "eta-2").decisions, told, "it is told once");
    world.person("jane", Approve);
    world.live(1);
    assert_eq!(step(&world), Some(1));
}

#[test]
fn a_ceiling_that_is_lifted_in_the_middle_of_a_delivery_counts_for_the_next_run() {
    let mut world = shop();
    world.settings.automation_ceiling = Manual;
    world.live(1);
    world.person("jane", Approve).expect("the promotion waits");
    world.settings.automation_ceiling = FullyAutomated;
    world.live(15);
    assert_eq!((step(&world), asks(&world)), (Some(0), true));
}

#[test]
fn a_run_whose_status_is_lost_after_its_level_was_raised_waits_for_a_person_still() {
    let mut world = shop();
    world.live(1);
    assert!(run(&world, "eta-request").waiting_for.is_some());
    set(&mut world, FullyAutomated);
    world.lose_status(Kind::Run, "eta-request");
    world.live(3);
    assert!(run(&world, "eta-request").waiting_for.is_some());
    assert!(world.names(Kind::Rollout).is_empty());
}

/// Whether a run waits for a person before it trains.
fn asks_to_train(world: &World) -> bool {
    let waiting = run(world, "eta-request").waiting_for;
    waiting.is_some_and(|waiting| waiting.gate == ApprovalGate::Train)
}

#[rstest]
#[case::from_its_beginning(SemiAutomated, 1)]
#[case::since_it_was_lowered(FullyAutomated, 2)]
fn a_run_that_asked_before_its_training_asks_still_when_the_level_is_raised_and_its_status_is_lost(
    #[case] first: AutomationLevel,
    #[case] noted: usize,
) {
    let mut world = shop();
    world.edit(Kind::Pipeline, "eta", |o| {
        let collect = json!({ "name": "collect", "type": "Collect", "image": "example/eta:1" });
        o["spec"]["stages"].as_array_mut().unwrap().insert(0, collect);
    });
    set(&mut world, first);
    world.endings.insert("collect".to_owned(), Ending::Runs);
    world.live(1);
    set(&mut world, SemiAutomated);
    world.endings.clear();
    world.live(1);
    assert!(asks_to_train(&world));
    let before = notes(&world, Kind::Run);
    assert_eq!(before.len(), noted, "{before:?}");
    assert!(
        before[0][ANNOTATION_BEGUN].is_string(),
        "in the write that marks its beginning"
    );
    assert_eq!(before[noted - 1][ANNOTATION_LEVEL], "SemiAutomated");
    set(&mut world, FullyAutomated);
    world.lose_status(Kind::Run, "eta-request");
    world.live(3);
    assert!(asks_to_train(&world));
    assert_eq!(run(&world, "eta-request").level, Some(SemiAutomated));
    assert_eq!(world.names(Kind::Job).len(), 1, "it collected its data");
    assert_eq!(notes(&world, Kind::Run), before, "nothing is noted twice");
    world.person("jane", Approve).expect("the training waits");
    world.live(3);
    assert_eq!(world.names(Kind::Job).len(), 3);
}

#[test]
fn a_rollout_whose_level_was_lowered_asks_at_its_step_still_when_it_is_raised_and_its_status_is_lost() {
    let mut world = shop();
    world.live(1);
    world.person("jane", Approve).expect("the promotion waits");
    world.live(5);
    assert!(notes(&world, Kind::Rollout).is_empty(), "its spec says so");
    set(&mut world, Manual);
    world.live(10);
    assert_eq!((step(&world), asks(&world)), (Some(0), true));
    set(&mut world, FullyAutomated);
    world.lose_status(Kind::Rollout, "eta-2");
    world.live(15);
    assert_eq!((step(&world), asks(&world)), (Some(0), true));
    assert_eq!(notes(&world, Kind::Rollout), [json!({ ANNOTATION_LEVEL: "Manual" })]);
    world.person("jane", Approve).expect("the step waits");
    world.live(1);
    assert_eq!(step(&world), Some(1));
}

#[test]
fn a_rollout_that_begins_at_a_lower_level_than_its_run_asked_at_notes_that_with_its_beginning() {
    let mut world = shop();
    world.live(1);
    world.person("jane", Approve).expect("the promotion waits");
    while world.names(Kind::Rollout).is_empty() {
        assert!(world.look(Kind::Run, "eta-request") || world.look(Kind::ModelVersion, "eta-2"));
    }
    set(&mut world, Manual);
    world.live(15);
    assert_eq!((step(&world), asks(&world)), (Some(0), true));
    let noted = notes(&world, Kind::Rollout);
    assert_eq!(noted.len(), 1, "{noted:?}");
    assert_eq!(noted[0][ANNOTATION_LEVEL], "Manual");
    assert!(noted[0][ANNOTATION_BEGUN].is_string());
}

#[test]
fn a_delivery_whose_level_sinks_when_it_is_to_go_back_goes_back_without_a_write_for_that() {
    let mut world = shop();
    world.live(1);
    world.person("jane", Approve).expect("the promotion waits");
    world.live(5);
    set(&mut world, Manual);
    world.set(Kind::Rollout, "eta-2", "desiredState", "RollBack");
    world.live(2);
    assert_eq!(outcome(&world, "eta-request"), Some(RunOutcome::RolledBack));
    assert!(notes(&world, Kind::Rollout).is_empty());
}
