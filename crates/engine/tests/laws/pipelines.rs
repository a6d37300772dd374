//! When a pipeline turns, what it shows and what it forgets.

use flywheel_api::FlywheelRun;
use flywheel_api::approval::ApprovalDecision::Approve;
use flywheel_api::flywheel_run::RunOutcome;
use flywheel_api::names::ANNOTATION_BEGUN;
use flywheel_engine::pipeline::metric_query;
use flywheel_engine::rollout::Reading;
use flywheel_engine::testing::{self, Ending, Kind, World};
use jiff::SignedDuration;
use rstest::rstest;
use serde_json::{Value, json};

use crate::check::Laws;
use crate::shop::{condition, outcome, phase, pipeline, reason, rollout, run, shop};

/// A pipeline that turns by this trigger at level FullyAutomated.
fn turning(trigger: Value) -> World {
    let mut world = World::default();
    world.add(Kind::Deployment, &testing::target(4, Some(&testing::uri(1))));
    world.add(Kind::ModelVersion, &testing::version(1));
    world.add(Kind::Pipeline, &testing::pipeline());
    world.set(Kind::Pipeline, "eta", "automationLevel", "FullyAutomated");
    world.set(Kind::Pipeline, "eta", "triggers", json!([trigger]));
    world.turn();
    world
}

fn hourly() -> Value {
    json!({ "name": "hourly", "type": "Schedule", "schedule": { "cron": "0 * * * *" } })
}

fn metric() -> Value {
    json!({ "name": "drift", "type": "Metric", "metric": { "providerRef": { "name": "prometheus" },
        "query": "new_rows", "operator": "GreaterThan", "value": "1000" } })
}

fn runs(world: &World) -> Vec<String> {
    world.names(Kind::Run)
}

#[test]
fn a_schedule_starts_one_run_at_its_moment() {
    let mut world = turning(hourly());
    world.live(59);
    assert!(runs(&world).is_empty());
    world.live(2);
    assert_eq!(runs(&world), ["eta-1"]);
    world.live(30);
    assert_eq!(runs(&world), ["eta-1"]);
    assert_eq!(outcome(&world, "eta-1"), Some(RunOutcome::Promoted));
}

#[test]
fn a_success_stays_known_when_later_runs_fail() {
    let mut world = turning(hourly());
    world.live(90);
    assert_eq!(outcome(&world, "eta-1"), Some(RunOutcome::Promoted));
    let success = |world: &World| pipeline(world).status.unwrap().last_success_time;
    let first = success(&world);
    assert!(first.is_some());
    world.report.change = 0.9;
    world.live(60);
    assert_eq!(outcome(&world, "eta-2"), Some(RunOutcome::Rejected));
    assert_eq!(pipeline(&world).status.unwrap().last_run.unwrap().name, "eta-2");
    assert_eq!(success(&world), first);
}

#[test]
fn a_metric_starts_a_run_when_it_crosses_its_value_and_not_without_data() {
    let mut world = turning(metric());
    world.live(3);
    world.answers.insert("new_rows".to_owned(), Reading::Value(1000.0));
    world.live(3);
    assert!(runs(&world).is_empty(), "the value itself is not above it");
    world
        .answers
        .insert("new_rows".to_owned(), Reading::Error("it is down".to_owned()));
    world.live(3);
    assert!(runs(&world).is_empty());
    let ready = condition(&world, Kind::Pipeline, "eta", "Ready");
    assert!(ready["message"].as_str().unwrap().contains("it is down"), "{ready}");
    world.answers.insert("new_rows".to_owned(), Reading::Value(1001.0));
    world.live(1);
    assert_eq!(runs(&world), ["eta-1"]);
}

#[test]
fn a_trigger_that_fires_within_the_shortest_interval_waits_for_its_end() {
    let mut world = turning(hourly());
    world.set(Kind::Pipeline, "eta", "cadence", json!({ "minInterval": "90m" }));
    world.live(61);
    assert_eq!(runs(&world), ["eta-1"]);
    world.live(70);
    assert_eq!(
        (runs(&world).len(), reason(&world, Kind::Pipeline, "eta").as_str()),
        (1, "MinInterval")
    );
    world.live(25);
    assert_eq!(runs(&world), ["eta-1", "eta-2"]);
}

#[rstest]
#[case::forbid("Forbid", 1)]
#[case::queue("Queue", 2)]
fn a_trigger_that_fires_during_a_run(#[case] policy: &str, #[case] expected: usize) {
    let mut world = turning(hourly());
    world.set(Kind::Pipeline, "eta", "cadence", json!({ "concurrencyPolicy": policy }));
    world.endings.insert("train".to_owned(), Ending::Runs);
    world.live(130);
    assert_eq!(runs(&world).len(), 1, "one run at a time");
    let told = world
        .writes
        .iter()
        .flat_map(|w| &w.events)
        .any(|e| e.reason == "TriggerDropped");
    assert_eq!(told, policy == "Forbid");
    world.endings.clear();
    world.live(30);
    assert_eq!(runs(&world).len(), expected);
}

#[test]
fn nothing_starts_while_suspended_and_the_next_moment_is_not_shown() {
    let mut world = turning(hourly());
    assert!(pipeline(&world).status.unwrap().next_schedule_time.is_some());
    world.set(Kind::Pipeline, "eta", "suspend", true);
    world.live(121);
    assert!(runs(&world).is_empty());
    assert_eq!(reason(&world, Kind::Pipeline, "eta"), "Suspended");
    assert!(pipeline(&world).status.unwrap().next_schedule_time.is_none());
}

#[test]
fn a_pipeline_that_waits_for_a_policy_or_the_brake_shows_no_moment_at_which_it_would_run() {
    let mut world = turning(hourly());
    let next = |world: &World| pipeline(world).status.unwrap().next_schedule_time;
    assert!(next(&world).is_some());
    world.set(Kind::Pipeline, "eta", "biasPolicies", json!([{ "name": "nobodys" }]));
    world.turn();
    assert_eq!(reason(&world, Kind::Pipeline, "eta"), "PolicyNotFound");
    assert_eq!(next(&world), None);
    world.set(Kind::Pipeline, "eta", "biasPolicies", json!([]));
    world.turn();
    assert!(next(&world).is_some());
    world.settings.brake.engaged = true;
    world.turn();
    assert_eq!(reason(&world, Kind::Pipeline, "eta"), "Braked");
    assert_eq!(next(&world), None);
}

#[test]
fn a_pipeline_whose_trigger_breaks_shows_what_serves_and_no_moment_at_which_it_would_run() {
    let mut world = turning(hourly());
    let well = pipeline(&world).status.unwrap();
    assert!(well.live_version.is_some() && well.next_schedule_time.is_some());
    let mut broken = hourly();
    broken["schedule"]["cron"] = json!("0 25 * * *");
    world.set(Kind::Pipeline, "eta", "triggers", json!([broken]));
    world.turn();
    let walked = pipeline(&world).status.unwrap();
    assert_eq!(reason(&world, Kind::Pipeline, "eta"), "InvalidSchedule");
    assert_eq!(walked.live_version, well.live_version);
    assert_eq!(walked.next_schedule_time, None);
    // The same spec from the beginning.
    let fresh = pipeline(&turning(broken)).status.unwrap();
    assert_eq!(fresh.effective_level, walked.effective_level);
    assert_eq!(fresh.live_version.map(|v| v.name), walked.live_version.map(|v| v.name));
}

#[test]
fn a_run_that_was_intended_before_the_brake_was_pulled_is_not_made() {
    let mut world = turning(hourly());
    world.pass(3600);
    world.look(Kind::Pipeline, "eta");
    assert!(pipeline(&world).status.unwrap().pending_run.is_some());
    world.settings.brake.engaged = true;
    world.settle();
    assert!(runs(&world).is_empty());
    assert_eq!(condition(&world, Kind::Pipeline, "eta", "Braked")["status"], "True");
    world.settings.brake.engaged = false;
    world.settle();
    assert_eq!(runs(&world), ["eta-1"]);
}

#[test]
fn a_run_that_was_intended_before_a_policy_went_is_not_made_without_it() {
    let mut world = turning(hourly());
    world.pass(3600);
    world.look(Kind::Pipeline, "eta");
    assert!(pipeline(&world).status.unwrap().pending_run.is_some());
    world.set(Kind::Pipeline, "eta", "biasPolicies", json!([{ "name": "nobodys" }]));
    world.settle();
    assert!(runs(&world).is_empty());
    assert_eq!(reason(&world, Kind::Pipeline, "eta"), "PolicyNotFound");
    world.set(Kind::Pipeline, "eta", "biasPolicies", json!([]));
    world.settle();
    assert_eq!(runs(&world), ["eta-1"]);
}

#[test]
fn a_scheduled_moment_is_not_handled_twice_after_the_status_was_lost() {
    let mut world = turning(hourly());
    world.live(75);
    assert_eq!(runs(&world), ["eta-1"]);
    world.live(10);
    world.lose_status(Kind::Pipeline, "eta");
    world.live(20);
    assert_eq!(runs(&world), ["eta-1"]);
}

#[rstest]
#[case::by_hours("2026-01-05T05:00:00Z", 1)]
#[case::by_a_second("2026-01-05T01:00:00Z", 0)]
fn a_clock_that_was_ahead_silences_no_schedule_and_lets_no_moment_fire_twice(
    #[case] last: &str,
    #[case] expected: usize,
) {
    let mut world = turning(hourly());
    world.pass(3599);
    world.edit(Kind::Pipeline, "eta", |o| o["status"]["lastScheduleTime"] = json!(last));
    world.live(2);
    assert_eq!(runs(&world).len(), expected);
}

#[rstest]
#[case::before_a_trigger_fires(0)]
#[case::after_its_run_was_intended(1)]
fn a_run_of_another_pipeline_that_bears_the_next_name_blocks_no_trigger(#[case] looks: usize) {
    let mut world = turning(hourly());
    let mut other = testing::pipeline();
    other.metadata.name = Some("theta".to_owned());
    other.spec.model.name = "theta".to_owned();
    other.spec.rollout = None;
    world.add(Kind::Pipeline, &other);
    world.turn();
    world.pass(3600);
    for _ in 0..looks {
        assert!(world.look(Kind::Pipeline, "eta"));
    }
    let mut taken = testing::run("eta-1", "joe");
    taken.spec.pipeline_ref.name = "theta".to_owned();
    world.add(Kind::Run, &taken);
    world.turn();
    assert_eq!(runs(&world), ["eta-1", "eta-2"]);
    let made: FlywheelRun = world.get(Kind::Run, "eta-2");
    assert_eq!(made.spec.trigger.name, "hourly");
    let status = pipeline(&world).status.unwrap();
    assert_eq!((status.pending_run, status.last_run_number), (None, 2));
    assert_eq!(status.active_run.unwrap().name, "eta-2");
    Laws::default().check(&world, false);
}

/// A pipeline whose metric counts since the last run.
fn counting() -> World {
    let mut counting = metric();
    counting["metric"]["query"] = json!("increase(rows[$sinceLastRun])");
    turning(counting)
}

/// What it asks now.
fn asked(world: &World) -> String {
    let pipeline = pipeline(world);
    metric_query(&pipeline, pipeline.spec.triggers[0].metric.as_ref().unwrap(), world.now)
}

#[test]
fn a_clock_that_was_ahead_as_a_requested_run_began_silences_no_metric() {
    let mut world = counting();
    world.add(Kind::Run, &testing::run("eta-request", "joe"));
    world.live(1);
    let ahead = json!(world.now + SignedDuration::from_hours(1));
    world.edit(Kind::Run, "eta-request", |o| {
        o["metadata"]["annotations"][ANNOTATION_BEGUN] = ahead.clone();
    });
    world.edit(Kind::Pipeline, "eta", |o| o["status"]["lastRequestStartTime"] = ahead);
    world.turn();
    world.live(5);
    assert_eq!(asked(&world), "increase(rows[300s])");
    world.lose_status(Kind::Pipeline, "eta");
    world.turn();
    assert_eq!(asked(&world), "increase(rows[360s])", "since it was asked for");
}

#[test]
fn a_metric_counts_anew_after_a_run_that_a_person_asked_for() {
    let mut world = counting();
    world.live(10);
    assert_eq!(asked(&world), "increase(rows[600s])");
    world.add(Kind::Run, &testing::run("eta-request", "joe"));
    world.live(5);
    assert_eq!(asked(&world), "increase(rows[300s])");
    world.live(25);
    assert_eq!(outcome(&world, "eta-request"), Some(RunOutcome::Promoted));
    // One that is skipped has read nothing.
    world.set(Kind::Pipeline, "eta", "suspend", true);
    world.add(Kind::Run, &testing::run("eta-skipped", "joe"));
    world.turn();
    assert_eq!(outcome(&world, "eta-skipped"), Some(RunOutcome::Skipped));
    assert_eq!(asked(&world), "increase(rows[1800s])");
    world.lose_status(Kind::Pipeline, "eta");
    world.lose_status(Kind::Run, "eta-request");
    assert!(world.look(Kind::Pipeline, "eta"));
    assert_eq!(asked(&world), "increase(rows[1800s])", "it is found again");
}

#[test]
fn no_run_starts_without_a_policy_that_the_pipeline_names() {
    let mut world = turning(hourly());
    world.set(Kind::Pipeline, "eta", "biasPolicies", json!([{ "name": "airports" }]));
    world.live(2);
    assert_eq!(
        condition(&world, Kind::Pipeline, "eta", "Reconciling")["status"],
        "True"
    );
    world.live(5);
    assert_eq!(
        condition(&world, Kind::Pipeline, "eta", "Stalled")["reason"],
        "PolicyNotFound"
    );
    world.live(60);
    assert!(runs(&world).is_empty());
    world.add(Kind::BiasPolicy, &testing::policy("airports"));
    world.live(1);
    assert_eq!(condition(&world, Kind::Pipeline, "eta", "Stalled"), Value::Null);
}

#[test]
fn the_second_pipeline_of_a_model_is_stalled_and_so_are_its_runs() {
    let mut world = shop();
    world.pass(1);
    let mut other = testing::pipeline();
    other.metadata.name = Some("eta-too".to_owned());
    world.add(Kind::Pipeline, &other);
    let mut asked = testing::run("eta-too-request", "joe");
    asked.spec.pipeline_ref.name = "eta-too".to_owned();
    world.settle();
    world.add(Kind::Run, &asked);
    world.live(1);
    assert_eq!(reason(&world, Kind::Pipeline, "eta-too"), "ModelTaken");
    assert_eq!(reason(&world, Kind::Run, "eta-too-request"), "PipelineNotAccepted");
}

#[test]
fn freshness_is_lost_when_no_version_became_live_in_time() {
    let mut world = shop();
    world.set(Kind::Pipeline, "eta", "cadence", json!({ "maxInterval": "1h" }));
    world.settle();
    assert_eq!(condition(&world, Kind::Pipeline, "eta", "Fresh")["status"], "True");
    world.pass(3600);
    world.settle();
    assert_eq!(condition(&world, Kind::Pipeline, "eta", "Fresh")["status"], "False");
}

#[test]
fn history_keeps_what_serves_its_parent_and_what_one_would_go_back_to() {
    let mut world = turning(hourly());
    world.set(
        Kind::Pipeline,
        "eta",
        "history",
        json!({ "successfulRuns": 1, "failedRuns": 1, "modelVersions": 2 }),
    );
    world.live(210);
    // A person imported the first one: it is not the pipeline's to forget.
    assert_eq!(world.names(Kind::ModelVersion), ["eta-1", "eta-3", "eta-4"]);
    // Two that are refused: the live one is the oldest now.
    world.report.change = 0.9;
    world.live(130);
    let names = world.names(Kind::ModelVersion);
    assert!(
        names.contains(&"eta-4".to_owned()) && names.contains(&"eta-3".to_owned()),
        "{names:?}"
    );
    assert_eq!(runs(&world).len(), 2, "one good and one bad");
}

#[test]
fn a_version_that_serves_where_the_pipeline_no_longer_looks_is_kept() {
    let mut world = turning(hourly());
    world.set(
        Kind::Pipeline,
        "eta",
        "history",
        json!({ "successfulRuns": 1, "failedRuns": 1, "modelVersions": 2 }),
    );
    world.live(65);
    world.edit(Kind::Pipeline, "eta", |o| {
        drop(o["spec"].as_object_mut().unwrap().remove("rollout"));
    });
    world.live(250);
    let served = world.binding("eta").unwrap();
    let versions: Vec<flywheel_api::ModelVersion> = world.all(Kind::ModelVersion);
    assert!(
        versions.iter().any(|v| v.spec.artifact.uri.0 == served),
        "{served} is forgotten"
    );
}

#[test]
fn a_version_number_is_not_used_again_after_its_version_was_deleted() {
    let mut world = shop();
    world.report.change = 0.9;
    world.live(1);
    world.delete(Kind::ModelVersion, "eta-2");
    world.live(1);
    assert_eq!(world.names(Kind::ModelVersion), ["eta-1"]);
    world.add(Kind::Run, &testing::run("eta-again", "joe"));
    world.live(1);
    assert_eq!(world.names(Kind::ModelVersion), ["eta-1", "eta-3"]);
}

#[test]
fn a_level_that_is_raised_in_the_middle_of_a_run_counts_from_the_next_run() {
    let mut world = shop();
    world.live(1);
    world.set(Kind::Pipeline, "eta", "automationLevel", "FullyAutomated");
    world.live(1);
    assert!(run(&world, "eta-request").waiting_for.is_some());
    world.person("jane", Approve);
    world.live(25);
    assert_eq!(outcome(&world, "eta-request"), Some(RunOutcome::Promoted));
}

#[test]
fn a_level_that_is_lowered_in_the_middle_of_a_run_stops_the_next_decision() {
    let mut world = turning(hourly());
    world.endings.insert("evaluate".to_owned(), Ending::Runs);
    world.live(65);
    world.set(Kind::Pipeline, "eta", "automationLevel", "SemiAutomated");
    world.endings.clear();
    world.live(5);
    assert_eq!(run(&world, "eta-1").stage, "Approval");
}

#[test]
fn the_quorum_of_the_pipeline_counts_for_steps_and_leaves_out_who_asked() {
    let mut world = shop();
    world.set(Kind::Pipeline, "eta", "automationLevel", "Manual");
    world.set(
        Kind::Pipeline,
        "eta",
        "approvals",
        json!([
            { "gate": "RolloutStep", "minApprovals": 2, "separationOfDuties": true },
        ]),
    );
    world.live(1);
    world.person("joe", Approve);
    world.live(15);
    assert_eq!(
        rollout(&world, "eta-2")
            .waiting_for
            .expect("people decide on the step")
            .needed,
        2
    );
    world.person("joe", Approve);
    world.person("jane", Approve);
    world.live(1);
    assert_eq!(
        rollout(&world, "eta-2").step.unwrap().index,
        0,
        "who asked for the run does not count"
    );
    world.person("bob", Approve);
    world.live(1);
    assert_eq!(rollout(&world, "eta-2").step.unwrap().index, 1);
}

#[test]
fn a_quorum_that_is_lowered_does_not_make_a_waiting_decision_easier() {
    let mut world = shop();
    world.set(
        Kind::Pipeline,
        "eta",
        "approvals",
        json!([{ "gate": "Promote", "minApprovals": 2 }]),
    );
    world.live(1);
    world.set(Kind::Pipeline, "eta", "approvals", json!([]));
    world.person("jane", Approve);
    world.live(1);
    assert!(run(&world, "eta-request").waiting_for.is_some());
    assert!(world.names(Kind::Rollout).is_empty());
    world.person("bob", Approve);
    world.live(1);
    assert!(!phase(&world, "eta-2").is_terminal());
}
