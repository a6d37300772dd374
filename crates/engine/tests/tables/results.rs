//! What can be wrong with a stage's result: every case is an Error with a sentence, never a pass.

use flywheel_api::FlywheelRun;
use flywheel_api::flywheel_run::{RunOutcome, StageFailure, StageStatus};
use flywheel_api::gate::GateSpec;
use flywheel_api::reference::Verdict;
use flywheel_engine::gate::judge;
use flywheel_engine::testing::{self, Ending, Kind, World};
use rstest::rstest;
use serde_json::{Value, json};

/// A run at level FullyAutomated, with that stage at work.
fn at(stage: &str) -> World {
    let mut world = World::default();
    world.add(Kind::Deployment, &testing::target(1, Some(&testing::uri(1))));
    world.add(Kind::ModelVersion, &testing::version(1));
    let mut pipeline = serde_json::to_value(testing::pipeline()).unwrap();
    for stage in pipeline["spec"]["stages"].as_array_mut().unwrap() {
        stage["retry"] = json!({ "limit": 0, "when": [] });
    }
    world.add(Kind::Pipeline, &pipeline);
    world.add(Kind::Run, &testing::run("eta-request", "joe"));
    world.endings.insert(stage.to_owned(), Ending::Runs);
    world.turn();
    world
}

/// The stage file of the Job at work.
fn file(world: &World, stage: &str) -> Value {
    let jobs: Vec<k8s_openapi::api::batch::v1::Job> = world.all(Kind::Job);
    let files = jobs.into_iter().map(|j| {
        let annotations = j.spec.unwrap().template.metadata.unwrap().annotations.unwrap();
        serde_json::from_str::<Value>(&annotations["flywheel.dev/stage-file"]).unwrap()
    });
    files
        .into_iter()
        .find(|f| f["stage"] == stage)
        .expect("the stage is at work")
}

/// The failure after the stage reported this document.
fn failure(world: &mut World, stage: &str, document: String) -> Option<StageFailure> {
    world.endings.insert(stage.to_owned(), Ending::Says(document));
    world.turn();
    let run: FlywheelRun = world.get(Kind::Run, "eta-request");
    let status = run.status.unwrap();
    let failure = status.stages.iter().find(|s| s.name == stage).unwrap().failure.clone();
    assert_eq!(failure.is_some(), status.outcome == Some(RunOutcome::Failed));
    failure
}

fn report(world: &World, stage: &str, change: impl FnOnce(&mut Value)) -> String {
    let mut document: Value = serde_json::from_str(&world.report.document(&file(world, stage))).unwrap();
    change(&mut document);
    document.to_string()
}

#[test]
fn what_the_contract_asks_for_is_taken() {
    let mut world = at("evaluate");
    let document = report(&world, "evaluate", |_| {});
    assert_eq!(failure(&mut world, "evaluate", document), None);
}

#[rstest]
#[case::empty("", "NoResult", "/dev/termination-log")]
#[case::garbage("OK, trained", "BrokenResult", "no valid JSON")]
#[case::other_json("[]", "BrokenResult", "no valid JSON")]
#[case::other_version(r#"{"apiVersion":"v2","id":"x"}"#, "BrokenResult", "is understood")]
#[case::another_attempt(
    r#"{"apiVersion":"flywheel.dev/stage/v1alpha1","id":"x/train/1"}"#,
    "BrokenResult",
    "repeat the id"
)]
#[case::unknown_field(
    r#"{"apiVersion":"flywheel.dev/stage/v1alpha1","id":"x","score":1}"#,
    "BrokenResult",
    "score"
)]
fn a_document_that_is_no_result(#[case] text: &str, #[case] reason: &str, #[case] words: &str) {
    let mut world = at("train");
    let failure = failure(&mut world, "train", text.to_owned()).unwrap();
    assert_eq!(failure.reason, reason);
    assert!(failure.message.contains(words), "{}", failure.message);
}

#[test]
fn a_result_that_is_too_long_is_refused() {
    let mut world = at("train");
    let document = report(&world, "train", |d| d["id"] = json!("x".repeat(5000)));
    let failure = failure(&mut world, "train", document).unwrap();
    assert!(failure.message.contains("4096 are allowed"), "{}", failure.message);
}

#[rstest]
#[case::no_model("/artifacts", json!([]), "exactly one artifact of type Model")]
#[case::foreign_place("/artifacts/0/uri", json!("s3://store/elsewhere"), "must lie below the attempt's output")]
#[case::no_digest("/artifacts/0/digest", json!("sha256:abc"), "64 hexadecimal digits")]
#[case::name("/artifacts/0/name", json!("My Model"), "lower case letters")]
fn a_training_that_reports_no_usable_model(#[case] field: &str, #[case] value: Value, #[case] words: &str) {
    let mut world = at("train");
    let document = report(&world, "train", |d| *d.pointer_mut(field).unwrap() = value);
    let failure = failure(&mut world, "train", document).unwrap();
    assert!(failure.message.contains(words), "{}", failure.message);
}

#[rstest]
#[case::interval_beside_its_value("/metrics/0/low", json!(13), "does not hold the value")]
#[case::half_an_interval("/metrics/0/high", Value::Null, "both low and high")]
#[case::no_level("/metrics/0/level", json!(95), "between 0 and 1")]
#[case::negative_samples("/metrics/0/samples", json!(-1), "must not be negative")]
#[case::difference_of_another_sign("/metrics/0/baseline/difference", json!(0.6), "value minus baseline")]
#[case::nameless_baseline("/metrics/0/baseline/version", json!(""), "name of the live version")]
#[case::unknown_column("/groups/0/columns/0", json!("grp"), "unknown column")]
#[case::row_too_short("/groups/0/rows/0", json!(["hub", 1]), "cells")]
#[case::text_for_a_number("/groups/0/rows/0/1", json!("11"), "must be a number")]
#[case::group_twice("/groups/0/rows/1/0", json!("hub"), "twice")]
fn an_evaluation_that_contradicts_itself(#[case] field: &str, #[case] value: Value, #[case] words: &str) {
    let mut world = at("evaluate");
    let document = report(&world, "evaluate", |d| *d.pointer_mut(field).unwrap() = value);
    let failure = failure(&mut world, "evaluate", document).unwrap();
    assert!(failure.message.contains(words), "{}", failure.message);
}

#[test]
fn a_table_of_groups_that_is_reported_twice_is_refused() {
    let mut world = at("evaluate");
    let document = report(&world, "evaluate", |d| {
        let table = d["groups"][0].clone();
        d["groups"].as_array_mut().unwrap().push(table);
    });
    let failure = failure(&mut world, "evaluate", document).unwrap();
    assert!(failure.message.contains("reported twice"), "{}", failure.message);
}

/// A metric that was compared with the live version: its value, that of the live version, and the difference with its
/// interval.
fn compared(value: f64, live: f64, [low, difference, high]: [f64; 3]) -> Value {
    json!({ "name": "mae", "value": value, "samples": 5000, "level": 0.95,
        "baseline": { "version": "eta-1", "value": live, "difference": difference, "low": low, "high": high } })
}

/// What is kept of an evaluation after this change.
fn kept(change: impl FnOnce(&mut Value)) -> Vec<StageStatus> {
    let mut world = at("evaluate");
    let document = report(&world, "evaluate", change);
    assert_eq!(failure(&mut world, "evaluate", document), None);
    let run: FlywheelRun = world.get(Kind::Run, "eta-request");
    run.status.unwrap().stages
}

/// What a gate says of that metric.
fn said(mut gate: Value, metric: Value) -> (Verdict, String) {
    gate["name"] = json!("error");
    gate["metric"] = json!("mae");
    let gate: GateSpec = testing::object(gate);
    let said = judge(&gate, &kept(|d| d["metrics"][0] = metric), Some("eta-1"));
    (said.verdict, said.reason)
}

#[rstest]
#[case::worse(compared(4e-7, 1e-7, [2e-7, 3e-7, 4e-7]), Verdict::Fail, "WorseThanLive")]
#[case::better(compared(1e-7, 4e-7, [-4e-7, -3e-7, -2e-7]), Verdict::Pass, "NotWorseThanLive")]
fn a_tiny_metric_is_not_judged_as_zero_beside_the_live_version(
    #[case] metric: Value,
    #[case] verdict: Verdict,
    #[case] reason: &str,
) {
    let gate = json!({ "compareTo": "LiveVersion", "direction": "Minimize" });
    assert_eq!(said(gate, metric), (verdict, reason.to_owned()));
}

#[test]
fn a_tiny_metric_is_not_judged_as_zero_beside_a_limit() {
    let metric = json!({ "name": "mae", "value": 4.9e-7, "samples": 5000 });
    let expected = (Verdict::Fail, "LimitBreached".to_owned());
    assert_eq!(said(json!({ "max": "0.0000001" }), metric), expected);
}

#[test]
fn a_tiny_metric_of_a_group_is_not_kept_as_zero() {
    let stages = kept(|d| d["groups"][0]["rows"][0] = json!(["hub", 4e-7, 4000, 3e-7, 5e-7, 1e-7, 3e-7, 2e-7, 4e-7]));
    let evaluate = stages.iter().find(|s| s.name == "evaluate").unwrap();
    let hub = &evaluate.result.as_ref().unwrap().groups[0].groups[0];
    let baseline = hub.baseline.as_ref().unwrap();
    assert_eq!((hub.value.as_str(), baseline.low.as_str()), ("0.0000004", "0.0000002"));
}

#[rstest]
#[case::value(json!({ "name": "mae", "value": 4e-13, "samples": 5000 }))]
#[case::difference(compared(1.3e-12, 1e-12, [2e-13, 3e-13, 4e-13]))]
fn a_number_that_would_be_kept_as_zero_is_refused(#[case] metric: Value) {
    let mut world = at("evaluate");
    let document = report(&world, "evaluate", |d| d["metrics"][0] = metric);
    let failure = failure(&mut world, "evaluate", document).unwrap();
    assert!(failure.message.contains("metric mae"), "{}", failure.message);
    assert!(failure.message.contains("in a larger unit"), "{}", failure.message);
}

#[rstest]
#[case::small(compared(0.0004, 0.0001, [-0.0004, -0.0003, -0.0002]))]
#[case::tiny(compared(4e-7, 1e-7, [-4e-7, -3e-7, -2e-7]))]
#[case::of_large_numbers(compared(0.9312, 0.9308, [-0.0006, -0.0004, -0.0002]))]
#[case::of_another_scale(compared(0.0004, 0.0001, [0.00002, 0.00003, 0.00004]))]
#[case::none_from_zero(compared(0.0008, 0.0, [0.0, 0.0, 0.0]))]
fn a_small_difference_of_another_sign_or_scale_is_refused(#[case] metric: Value) {
    let mut world = at("evaluate");
    let document = report(&world, "evaluate", |d| d["metrics"][0] = metric);
    let failure = failure(&mut world, "evaluate", document).unwrap();
    assert!(failure.message.contains("value minus baseline"), "{}", failure.message);
}

#[rstest]
#[case::rounded_to_four_digits(compared(0.0512, 0.0498, [0.0001, 0.0013, 0.0025]))]
#[case::noise(compared(0.1 + 0.2, 0.3, [-1e-17, 5.5e-17, 6e-17]))]
#[case::single_precision(compared(12.000_001, 12.0, [-0.1, 0.000_000_2, 0.1]))]
#[case::the_same_model(compared(0.0004, 0.0004, [0.0, 0.0, 0.0]))]
fn a_difference_that_is_rounded_or_has_noise_is_taken(#[case] metric: Value) {
    let mut world = at("evaluate");
    let document = report(&world, "evaluate", |d| d["metrics"][0] = metric);
    assert_eq!(failure(&mut world, "evaluate", document), None);
}
