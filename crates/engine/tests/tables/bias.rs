//! Bias verdicts against numbers that can be derived by hand or are published.

use flywheel_api::flywheel_run::StageStatus;
use flywheel_api::reference::{BiasVerdict, Enforcement, Verdict};
use flywheel_engine::bias::{Live, PolicyView, judge_all};
use flywheel_engine::testing::object;
use rstest::rstest;
use serde_json::{Value, json};

fn policy(mut spec: Value) -> PolicyView {
    if spec.get("protectedAttributes").is_none() {
        spec["protectedAttributes"] = json!([{ "name": "sex", "groups": ["f", "m"] }]);
    }
    PolicyView {
        name: "fair".to_owned(),
        uid: "u1".to_owned(),
        generation: 3,
        spec: object(spec),
    }
}

fn objective(compare: &str, limit: Value, mode: &str) -> PolicyView {
    policy(json!({ "objectives": [
        { "name": "rate", "metric": "rate", "compare": compare, "limit": limit, "mode": mode },
    ] }))
}

/// A group: name, rows, low, value, high.
fn group(name: &str, samples: i64, low: f64, value: f64, high: f64) -> Value {
    json!({ "name": name, "value": value.to_string(), "samples": samples, "low": low.to_string(),
        "high": high.to_string(), "level": "0.95" })
}

/// A group with the paired change against the live version: low, change, high.
fn changed(name: &str, low: f64, change: f64, high: f64) -> Value {
    let mut group = group(name, 500, 9.0, 10.0, 11.0);
    group["baseline"] = json!({ "value": "10", "difference": change.to_string(), "low": low.to_string(),
        "high": high.to_string() });
    group
}

fn stages(groups: &[Value]) -> Vec<StageStatus> {
    object(json!([
        { "name": "train", "type": "Train", "state": "Succeeded", "result": {} },
        { "name": "evaluate", "type": "Evaluate", "state": "Succeeded", "result": { "groups": [
            { "attribute": "sex", "metric": "rate", "groups": groups },
        ] } },
    ]))
}

fn one(policy: PolicyView, groups: &[Value]) -> BiasVerdict {
    let mut all = judge_all(&[policy], &stages(groups), Live::Same);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

fn number(text: &Option<flywheel_api::schema::Decimal>) -> f64 {
    text.as_ref()
        .and_then(flywheel_api::schema::Decimal::value)
        .expect("a number")
}

fn close(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-6, "{found} is not {expected}");
}

/// Newcombe's hybrid score interval for 45/100 against 60/100 follows from the Wilson intervals of each (statsmodels
/// 0.15, `confint_proportions_2indep(method="newcomb")`): [-0.2804485, -0.0117239].
#[test]
fn the_difference_of_two_rates_has_newcombes_interval() {
    let a = group("f", 100, 0.356_145_379_795_119_73, 0.45, 0.547_553_970_025_578_7);
    let b = group("m", 100, 0.502_002_586_791_061_7, 0.6, 0.690_598_713_567_541_1);
    let found = one(
        objective("Difference", json!({ "max": "0.3" }), "Assure"),
        &[a.clone(), b.clone()],
    );
    assert_eq!(
        (found.verdict, found.group.as_str()),
        (Verdict::Pass, "m"),
        "{}",
        found.message
    );
    close(number(&found.value), 0.15);
    close(number(&found.bound), 0.280_449);
    let detected = one(objective("Difference", json!({ "max": "0.01" }), "Detect"), &[a, b]);
    assert_eq!(detected.verdict, Verdict::Fail);
    close(number(&detected.bound), 0.011_724);
}

/// On the logarithmic scale the interval of a ratio of equal groups is symmetric: exp(±√2·ln(1.25)).
#[test]
fn the_ratio_of_two_equal_rates_has_the_root_of_the_sum_of_squares_on_the_log_scale() {
    let half = |name| group(name, 500, 0.4, 0.5, 0.625);
    let found = one(
        objective("Ratio", json!({ "min": "0.72" }), "Assure"),
        &[half("f"), half("m")],
    );
    assert_eq!(found.verdict, Verdict::Pass, "{}", found.message);
    close(number(&found.value), 1.0);
    close(
        number(&found.bound),
        (-(2.0_f64.sqrt()) * 1.25_f64.ln()).exp().mul_add(1e6, 0.0).round() / 1e6,
    );
    let strict = one(
        objective("Ratio", json!({ "min": "0.74" }), "Assure"),
        &[half("f"), half("m")],
    );
    assert_eq!(
        (strict.verdict, strict.reason.as_str()),
        (Verdict::Inconclusive, "IntervalTooWide")
    );
}

#[rstest]
#[case::within("WorstGroup", json!({ "max": "13" }), "Assure", Verdict::Pass, "WithinLimits")]
#[case::bound_not_point("WorstGroup", json!({ "max": "12.5" }), "Assure", Verdict::Inconclusive, "IntervalTooWide")]
#[case::detection_needs_evidence("WorstGroup", json!({ "max": "12.5" }), "Detect", Verdict::Pass, "NoBreachShown")]
#[case::breached("WorstGroup", json!({ "max": "10.5" }), "Detect", Verdict::Fail, "LimitBreached")]
#[case::score_high_enough("WorstGroup", json!({ "min": "8" }), "Assure", Verdict::Pass, "WithinLimits")]
#[case::score_too_low("WorstGroup", json!({ "min": "11.5" }), "Assure", Verdict::Fail, "LimitBreached")]
#[case::limits_do_not_fit("Difference", json!({ "min": "1" }), "Assure", Verdict::Error, "BrokenLimit")]
fn every_group_by_itself(
    #[case] compare: &str,
    #[case] limit: Value,
    #[case] mode: &str,
    #[case] verdict: Verdict,
    #[case] reason: &str,
) {
    let groups = [group("f", 500, 9.0, 10.0, 11.0), group("m", 500, 11.0, 12.0, 13.0)];
    let found = one(objective(compare, limit, mode), &groups);
    assert_eq!(
        (found.verdict, found.reason.as_str()),
        (verdict, reason),
        "{}",
        found.message
    );
}

/// A score may be negative, and zero is a limit like any other.
#[rstest]
#[case::limit_zero("0", Verdict::Fail, "-0.2", "-0.1", "0")]
#[case::limit_below_zero("-0.5", Verdict::Pass, "-0.2", "-0.3", "-0.5")]
fn the_numbers_of_a_smallest_score_keep_their_sign(
    #[case] min: &str,
    #[case] verdict: Verdict,
    #[case] value: &str,
    #[case] bound: &str,
    #[case] limit: &str,
) {
    let groups = [group("f", 500, -0.3, -0.2, -0.1), group("m", 500, 0.5, 0.6, 0.7)];
    let found = one(objective("WorstGroup", json!({ "min": min }), "Assure"), &groups);
    assert_eq!(
        (found.verdict, found.group.as_str()),
        (verdict, "f"),
        "{}",
        found.message
    );
    let text = |d: &Option<flywheel_api::schema::Decimal>| d.as_ref().map(|d| d.0.clone()).unwrap();
    assert_eq!(
        (text(&found.value), text(&found.bound), text(&found.limit)),
        (value.into(), bound.into(), limit.into())
    );
    assert!(
        found
            .message
            .contains(&format!("is {value} [-0.3, -0.1] at f, at least {limit} is allowed")),
        "{}",
        found.message
    );
}

#[rstest]
#[case::group_missing(vec![group("f", 500, 9.0, 10.0, 11.0)], Verdict::Inconclusive, "GroupMissing")]
#[case::group_too_small(vec![group("f", 500, 9.0, 10.0, 11.0), group("m", 99, 9.0, 10.0, 11.0)], Verdict::Inconclusive, "GroupTooSmall")]
#[case::no_interval(vec![group("f", 500, 9.0, 10.0, 11.0), json!({ "name": "m", "value": "10", "samples": 500, "level": "0.95" })], Verdict::Inconclusive, "IntervalMissing")]
#[case::weak_interval(vec![group("f", 500, 9.0, 10.0, 11.0), json!({ "name": "m", "value": "10", "samples": 500, "low": "9", "high": "11", "level": "0.9" })], Verdict::Inconclusive, "ConfidenceTooLow")]
fn what_is_missing_or_too_thin_never_passes(
    #[case] groups: Vec<Value>,
    #[case] verdict: Verdict,
    #[case] reason: &str,
) {
    for mode in ["Assure", "Detect"] {
        let found = one(objective("WorstGroup", json!({ "max": "99" }), mode), &groups);
        assert_eq!(
            (found.verdict, found.reason.as_str()),
            (verdict, reason),
            "{}",
            found.message
        );
    }
}

#[test]
fn groups_that_nobody_reported_are_an_error() {
    let all = judge_all(
        &[objective("WorstGroup", json!({ "max": "99" }), "Detect")],
        &[],
        Live::Same,
    );
    assert_eq!(
        (all[0].verdict, all[0].reason.as_str()),
        (Verdict::Error, "GroupsNotReported")
    );
}

#[test]
fn what_the_training_reports_of_its_own_data_does_not_count() {
    let mut all = stages(&[group("f", 500, 9.0, 10.0, 11.0), group("m", 500, 9.0, 10.0, 11.0)]);
    all[0].result = all[1].result.take();
    let found = judge_all(
        &[objective("WorstGroup", json!({ "max": "99" }), "Detect")],
        &all,
        Live::Same,
    );
    assert_eq!(found[0].reason, "GroupsNotReported");
}

#[test]
fn a_ratio_of_rates_that_may_be_zero_is_undefined() {
    let groups = [group("f", 500, 0.0, 0.1, 0.2), group("m", 500, 0.4, 0.5, 0.6)];
    let found = one(objective("Ratio", json!({ "min": "0.8" }), "Detect"), &groups);
    assert_eq!(
        (found.verdict, found.reason.as_str()),
        (Verdict::Error, "RatioUndefined")
    );
}

fn improvement(fields: Value) -> PolicyView {
    let mut rule = json!({ "metric": "rate", "direction": "Minimize" });
    rule.as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    policy(json!({ "improvement": rule }))
}

#[rstest]
#[case::on_the_bound(0.5, Verdict::Pass, "WithinLimits")]
#[case::not_on_the_point(0.45, Verdict::Inconclusive, "IntervalTooWide")]
#[case::shown(0.05, Verdict::Fail, "LimitBreached")]
fn a_group_may_become_worse_by_so_much_on_the_bound(
    #[case] limit: f64,
    #[case] verdict: Verdict,
    #[case] reason: &str,
) {
    let groups = [changed("f", 0.1, 0.3, 0.5), changed("m", -2.0, -1.5, -1.0)];
    let found = one(
        improvement(json!({ "perGroup": { "maxRegression": limit.to_string() } })),
        &groups,
    );
    assert_eq!(
        (found.verdict, found.reason.as_str(), found.group.as_str()),
        (verdict, reason, "f")
    );
}

/// 0.3 − (−1.5) = 1.8, and √(0.2² + 0.5²) = 0.5385 on either side.
#[test]
fn the_gap_between_who_gains_most_and_least_has_its_own_interval() {
    let groups = [changed("f", 0.1, 0.3, 0.5), changed("m", -2.0, -1.5, -1.0)];
    let found = one(improvement(json!({ "gap": { "maxWidening": "2.4" } })), &groups);
    assert_eq!(
        (found.verdict, found.objective.as_str()),
        (Verdict::Pass, "improvement-gap"),
        "{}",
        found.message
    );
    close(number(&found.value), 1.8);
    close(number(&found.bound), 2.338_516);
    let breached = one(improvement(json!({ "gap": { "maxWidening": "1.2" } })), &groups);
    assert_eq!(breached.verdict, Verdict::Fail);
    close(number(&breached.bound), 1.261_484);
}

#[test]
fn where_larger_is_better_a_fall_is_a_regression() {
    let mut rule = improvement(json!({ "perGroup": { "maxRegression": "0.1" } }));
    rule.spec.improvement.as_mut().unwrap().direction = flywheel_api::reference::Direction::Maximize;
    let groups = [changed("f", -0.5, -0.4, -0.3), changed("m", 0.1, 0.2, 0.3)];
    let found = one(rule, &groups);
    assert_eq!((found.verdict, found.group.as_str()), (Verdict::Fail, "f"));
    close(number(&found.value), 0.4);
}

#[rstest]
#[case::no_live_version(Live::Nothing, Verdict::NotApplicable, "NoLiveVersion")]
#[case::another_serves_now(Live::Changed, Verdict::Error, "LiveVersionChanged")]
#[case::not_compared(Live::Same, Verdict::Error, "NotCompared")]
fn an_improvement_needs_the_live_version_on_the_same_rows(
    #[case] live: Live,
    #[case] verdict: Verdict,
    #[case] reason: &str,
) {
    let groups = [group("f", 500, 9.0, 10.0, 11.0), group("m", 500, 9.0, 10.0, 11.0)];
    let rule = improvement(json!({ "perGroup": { "maxRegression": "0.5" } }));
    let found = judge_all(&[rule], &stages(&groups), live).remove(0);
    assert_eq!((found.verdict, found.reason.as_str()), (verdict, reason));
}

#[test]
fn each_policy_speaks_for_itself_and_the_strictest_decides() {
    use flywheel_api::reference::AutomationLevel::FullyAutomated;
    use flywheel_engine::promotion::{Assessment, assess};
    let groups = [group("f", 500, 9.0, 10.0, 11.0), group("m", 500, 11.0, 12.0, 13.0)];
    let (mild, mut strict) = (
        objective("WorstGroup", json!({ "max": "20" }), "Assure"),
        objective("WorstGroup", json!({ "max": "10" }), "Assure"),
    );
    strict.name = "strict".to_owned();
    let all = judge_all(&[mild.clone(), strict.clone()], &stages(&groups), Live::Same);
    let refused = assess(&[], &[], &all, FullyAutomated, false);
    assert!(matches!(refused, Assessment::Refuse(s) if s.reason == "BiasFail" && s.message.contains("strict")));
    strict.spec.objectives[0].enforcement = Enforcement::Warn;
    let all = judge_all(&[mild, strict], &stages(&groups), Live::Same);
    assert!(matches!(
        assess(&[], &[], &all, FullyAutomated, false),
        Assessment::Proceed(_)
    ));
}
