//! Every reason that a gate can give.

use flywheel_api::flywheel_run::StageStatus;
use flywheel_api::gate::GateSpec;
use flywheel_api::reference::{AutomationLevel, GateVerdict, Verdict};
use flywheel_engine::gate::{judge, judge_all};
use flywheel_engine::promotion::{Assessment, assess};
use flywheel_engine::testing::object;
use rstest::rstest;
use serde_json::{Value, json};

fn gate(mut fields: Value) -> GateSpec {
    fields["name"] = json!("error");
    fields["metric"] = json!("mae");
    object(fields)
}

/// The stages of a run whose evaluation reported this metric.
fn stages(metric: Value) -> Vec<StageStatus> {
    let metrics = if metric.is_null() { json!([]) } else { json!([metric]) };
    object(json!([
        { "name": "train", "type": "Train", "state": "Succeeded", "result": {} },
        { "name": "evaluate", "type": "Evaluate", "state": "Succeeded", "result": { "metrics": metrics } },
    ]))
}

fn metric(low: &str, value: &str, high: &str) -> Value {
    json!({ "name": "mae", "value": value, "samples": 500, "low": low, "high": high, "level": "0.95" })
}

fn compared(low: &str, difference: &str, high: &str) -> Value {
    let mut metric = metric("9", "10", "11");
    metric["baseline"] =
        json!({ "version": "eta-1", "value": "10", "difference": difference, "low": low, "high": high });
    metric
}

fn without(mut metric: Value, field: &str) -> Value {
    metric.as_object_mut().unwrap().remove(field);
    metric
}

fn with(mut metric: Value, field: &str, value: Value) -> Value {
    metric[field] = value;
    metric
}

#[rstest]
#[case::below_the_maximum(json!({ "max": "11" }), metric("9", "10", "11"), Verdict::Pass, "WithinLimits")]
#[case::the_point_passes_but_not_the_bound(json!({ "max": "10.5" }), metric("9", "10", "11"), Verdict::Inconclusive, "IntervalTooWide")]
#[case::beyond_the_maximum(json!({ "max": "8" }), metric("9", "10", "11"), Verdict::Fail, "LimitBreached")]
#[case::above_the_minimum(json!({ "min": "9" }), metric("9", "10", "11"), Verdict::Pass, "WithinLimits")]
#[case::below_the_minimum(json!({ "min": "11.5" }), metric("9", "10", "11"), Verdict::Fail, "LimitBreached")]
#[case::both_limits_and_one_is_breached(json!({ "min": "1", "max": "2" }), metric("9", "10", "11"), Verdict::Fail, "LimitBreached")]
#[case::no_interval_is_the_point(json!({ "max": "10" }), without(without(metric("9", "10", "11"), "low"), "high"), Verdict::Pass, "WithinLimits")]
#[case::too_few_rows(json!({ "max": "11", "confidence": { "minSamples": 501 } }), metric("9", "10", "11"), Verdict::Inconclusive, "TooFewSamples")]
#[case::no_rows_reported(json!({ "max": "11" }), without(metric("9", "10", "11"), "samples"), Verdict::Inconclusive, "SamplesMissing")]
#[case::weaker_interval(json!({ "max": "11", "confidence": { "level": "0.99" } }), metric("9", "10", "11"), Verdict::Inconclusive, "ConfidenceTooLow")]
#[case::interval_without_level(json!({ "max": "11" }), without(metric("9", "10", "11"), "level"), Verdict::Inconclusive, "ConfidenceTooLow")]
#[case::no_limit(json!({}), metric("9", "10", "11"), Verdict::Error, "NoLimit")]
#[case::broken_limit(json!({ "max": "ten" }), metric("9", "10", "11"), Verdict::Error, "BrokenLimit")]
#[case::broken_metric(json!({ "max": "11" }), metric("x", "y", "z"), Verdict::Error, "BrokenMetric")]
#[case::metric_missing(json!({ "max": "11" }), Value::Null, Verdict::Error, "MetricMissing")]
fn a_gate_with_constants(#[case] spec: Value, #[case] reported: Value, #[case] verdict: Verdict, #[case] reason: &str) {
    let found = judge(&gate(spec), &stages(reported), Some("eta-1"));
    assert_eq!(
        (found.verdict, found.reason.as_str()),
        (verdict, reason),
        "{}",
        found.message
    );
    assert!(found.message.starts_with("Gate error: ") && found.message.ends_with('.'));
}

#[rstest]
#[case::not_worse_on_the_bound(json!({}), compared("-0.5", "-0.3", "0"), Verdict::Pass, "NotWorseThanLive")]
#[case::better_on_the_point_only(json!({}), compared("-0.5", "-0.3", "0.1"), Verdict::Inconclusive, "IntervalTooWide")]
#[case::shown_to_be_worse(json!({}), compared("0.1", "0.3", "0.5"), Verdict::Fail, "WorseThanLive")]
#[case::within_the_allowed_regression(json!({ "maxRegression": "0.5" }), compared("0.1", "0.3", "0.5"), Verdict::Pass, "NotWorseThanLive")]
#[case::not_better_enough(json!({ "minImprovement": "1" }), compared("-0.5", "-0.3", "0"), Verdict::Fail, "WorseThanLive")]
#[case::better_enough(json!({ "minImprovement": "0.2" }), compared("-0.5", "-0.3", "-0.2"), Verdict::Pass, "NotWorseThanLive")]
#[case::larger_is_better(json!({ "direction": "Maximize" }), compared("0", "0.3", "0.5"), Verdict::Pass, "NotWorseThanLive")]
#[case::larger_is_better_and_it_is_smaller(json!({ "direction": "Maximize" }), compared("-0.5", "-0.3", "-0.1"), Verdict::Fail, "WorseThanLive")]
#[case::not_compared(json!({}), metric("9", "10", "11"), Verdict::Error, "NotCompared")]
#[case::compared_with_another(json!({}), with(compared("-0.5", "-0.3", "0"), "baseline", json!({ "version": "eta-0",
    "value": "10", "difference": "0", "low": "0", "high": "0" })), Verdict::Error, "ForeignBaseline")]
#[case::too_few_rows(json!({}), with(compared("-0.5", "-0.3", "0"), "samples", json!(99)), Verdict::Inconclusive, "TooFewSamples")]
#[case::weak_interval(json!({}), with(compared("-0.5", "-0.3", "0"), "level", json!("0.9")), Verdict::Inconclusive, "ConfidenceTooLow")]
#[case::broken(json!({}), compared("x", "y", "z"), Verdict::Error, "BrokenMetric")]
fn a_comparison_with_the_live_version(
    #[case] mut spec: Value,
    #[case] reported: Value,
    #[case] verdict: Verdict,
    #[case] reason: &str,
) {
    spec["compareTo"] = json!("LiveVersion");
    if spec.get("direction").is_none() {
        spec["direction"] = json!("Minimize");
    }
    let found = judge(&gate(spec), &stages(reported), Some("eta-1"));
    assert_eq!(
        (found.verdict, found.reason.as_str()),
        (verdict, reason),
        "{}",
        found.message
    );
}

#[test]
fn without_a_live_version_there_is_nothing_to_compare_with() {
    let spec = gate(json!({ "compareTo": "LiveVersion", "direction": "Minimize" }));
    let found = judge(&spec, &stages(metric("9", "10", "11")), None);
    assert_eq!(
        (found.verdict, found.reason.as_str()),
        (Verdict::NotApplicable, "NoLiveVersion")
    );
}

#[test]
fn a_stage_without_result_is_an_error() {
    let mut all = stages(metric("9", "10", "11"));
    all[1].result = None;
    let found = judge(&gate(json!({ "max": "11" })), &all, None);
    assert_eq!((found.verdict, found.reason.as_str()), (Verdict::Error, "NoResult"));
    let named = judge(
        &gate(json!({ "max": "11", "stage": "train" })),
        &stages(Value::Null),
        None,
    );
    assert_eq!(named.reason, "MetricMissing");
}

/// What follows from one gate with this verdict: `Proceed`, `Ask` or `Refuse` with the reason.
fn follows(verdict: Verdict, spec: Value, level: AutomationLevel, first: bool) -> String {
    let spec = gate(spec);
    let found = GateVerdict {
        verdict,
        ..judge_all(std::slice::from_ref(&spec), &stages(Value::Null), None).remove(0)
    };
    match assess(&[spec], &[found], &[], level, first) {
        Assessment::Proceed(s) => format!("Proceed {}", s.reason),
        Assessment::AskPerson(s) => format!("Ask {}", s.reason),
        Assessment::Refuse(s) => format!("Refuse {}", s.reason),
    }
}

#[rstest]
#[case(Verdict::Pass, json!({ "max": "1" }), true, "Proceed GatesPassed")]
#[case(Verdict::Pass, json!({ "compareTo": "LiveVersion" }), false, "Proceed GatesPassed")]
#[case(Verdict::NotApplicable, json!({ "compareTo": "LiveVersion" }), true, "Ask FirstVersion")]
#[case(Verdict::Fail, json!({ "max": "1" }), false, "Refuse GateFailed")]
#[case(Verdict::Fail, json!({ "max": "1", "onMissing": "Hold" }), false, "Refuse GateFailed")]
#[case(Verdict::Inconclusive, json!({ "max": "1" }), false, "Refuse GateInconclusive")]
#[case(Verdict::Error, json!({ "max": "1" }), false, "Refuse GateError")]
#[case(Verdict::Inconclusive, json!({ "max": "1", "onMissing": "Hold" }), false, "Ask GateInconclusive")]
#[case(Verdict::Error, json!({ "max": "1", "onMissing": "Hold" }), false, "Ask GateError")]
#[case(Verdict::Fail, json!({ "max": "1", "dryRun": true }), false, "Proceed GatesPassed")]
#[case(Verdict::Pass, json!({ "max": "1", "dryRun": true }), true, "Ask FirstVersion")]
fn what_a_verdict_means_when_everything_is_automated(
    #[case] verdict: Verdict,
    #[case] spec: Value,
    #[case] first: bool,
    #[case] expected: &str,
) {
    assert_eq!(follows(verdict, spec, AutomationLevel::FullyAutomated, first), expected);
}

#[rstest]
#[case(AutomationLevel::Manual)]
#[case(AutomationLevel::SemiAutomated)]
#[case(AutomationLevel::HumanOversight)]
fn at_every_other_level_a_person_decides(#[case] level: AutomationLevel) {
    assert_eq!(
        follows(Verdict::Pass, json!({ "max": "1" }), level, false),
        "Ask LevelAsksForApproval"
    );
    assert_eq!(
        follows(Verdict::Fail, json!({ "max": "1" }), level, false),
        "Refuse GateFailed"
    );
}

#[test]
fn a_gate_that_was_not_judged_refuses() {
    let spec = gate(json!({ "max": "1" }));
    let found = assess(&[spec], &[], &[], AutomationLevel::FullyAutomated, false);
    assert!(matches!(found, Assessment::Refuse(s) if s.reason == "GateUnjudged"));
}
