//! Verdicts of checks in a Rollout, and what they do.

use flywheel_api::Rollout;
use flywheel_api::reference::Verdict;
use flywheel_api::rollout::{RolloutPhase, RolloutStatus};
use flywheel_engine::rollout::Reading;
use flywheel_engine::testing::{self, Kind, World};
use rstest::rstest;
use serde_json::{Value, json};

/// A Rollout that holds its first step, with this check and these answers.
fn holding(fields: Value, answers: &[(&str, Reading)]) -> World {
    let mut check = json!({ "name": "errors", "providerRef": { "name": "prometheus" }, "query": "candidate",
        "interval": "30s" });
    check
        .as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    let mut plan = testing::plan();
    plan["checks"] = json!([check]);
    let mut world = World::default();
    world.add(Kind::Deployment, &testing::target(4, Some(&testing::uri(1))));
    world.run_deployments();
    world.add(Kind::ModelVersion, &testing::version(1));
    world.add(Kind::ModelVersion, &testing::version(2));
    world.add(Kind::Rollout, &testing::rollout("second", 2, &plan));
    let named = answers.iter().map(|(q, r)| ((*q).to_owned(), r.clone()));
    world.answers.extend(named);
    world.live(2);
    world
}

fn status(world: &World) -> RolloutStatus {
    let rollout: Rollout = world.get(Kind::Rollout, "second");
    rollout.status.unwrap()
}

fn value(v: f64) -> Reading {
    Reading::Value(v)
}

#[rstest]
#[case::within(json!({ "max": "0.01" }), vec![("candidate", value(0.01))], Verdict::Pass)]
#[case::above(json!({ "max": "0.01" }), vec![("candidate", value(0.02))], Verdict::Fail)]
#[case::below(json!({ "min": "5" }), vec![("candidate", value(4.0))], Verdict::Fail)]
#[case::no_data(json!({ "max": "0.01" }), vec![("candidate", Reading::Empty)], Verdict::Inconclusive)]
#[case::not_a_number(json!({ "max": "0.01" }), vec![("candidate", Reading::from(f64::NAN))], Verdict::Inconclusive)]
#[case::provider_down(json!({ "max": "0.01" }), vec![("candidate", Reading::Error("it is down".to_owned()))], Verdict::Error)]
#[case::few_samples(json!({ "max": "0.01", "samplesQuery": "n", "minSamples": 100 }),
    vec![("candidate", value(0.0)), ("n", value(99.0))], Verdict::Inconclusive)]
#[case::samples_unknown(json!({ "max": "0.01", "samplesQuery": "n", "minSamples": 100 }),
    vec![("candidate", value(0.0)), ("n", Reading::Empty)], Verdict::Inconclusive)]
#[case::samples_unanswered(json!({ "max": "0.01", "samplesQuery": "n", "minSamples": 100 }),
    vec![("candidate", value(0.0)), ("n", Reading::Error("no".to_owned()))], Verdict::Error)]
#[case::enough_samples(json!({ "max": "0.01", "samplesQuery": "n", "minSamples": 100 }),
    vec![("candidate", value(0.0)), ("n", value(100.0))], Verdict::Pass)]
#[case::relatively_worse(json!({ "baselineQuery": "baseline", "direction": "Minimize", "maxRelativeChange": "0.05" }),
    vec![("candidate", value(1.06)), ("baseline", value(1.0))], Verdict::Fail)]
#[case::relatively_fine(json!({ "baselineQuery": "baseline", "direction": "Minimize", "maxRelativeChange": "0.05" }),
    vec![("candidate", value(1.05)), ("baseline", value(1.0))], Verdict::Pass)]
#[case::larger_is_better(json!({ "baselineQuery": "baseline", "direction": "Maximize", "maxRelativeChange": "0.05" }),
    vec![("candidate", value(0.9)), ("baseline", value(1.0))], Verdict::Fail)]
#[case::baseline_zero(json!({ "baselineQuery": "baseline", "direction": "Minimize", "maxRelativeChange": "0.05" }),
    vec![("candidate", value(0.1)), ("baseline", value(0.0))], Verdict::Fail)]
#[case::baseline_silent(json!({ "baselineQuery": "baseline", "direction": "Minimize", "maxRelativeChange": "0.05" }),
    vec![("candidate", value(0.1)), ("baseline", Reading::Empty)], Verdict::Inconclusive)]
fn a_check_says(#[case] fields: Value, #[case] answers: Vec<(&str, Reading)>, #[case] verdict: Verdict) {
    let mut fields = fields;
    fields["onFail"] = json!("Hold");
    let world = holding(fields, &answers);
    let status = status(&world);
    assert_eq!(status.checks[0].verdict, verdict, "{}", status.checks[0].message);
    assert_eq!(status.phase, RolloutPhase::Holding);
}

#[rstest]
#[case::rolls_back("RollBack", RolloutPhase::RolledBack)]
#[case::holds("Hold", RolloutPhase::Holding)]
#[case::only_warns("Warn", RolloutPhase::Promoted)]
fn what_a_failed_check_does(#[case] on_fail: &str, #[case] phase: RolloutPhase) {
    let mut world = holding(
        json!({ "max": "0.01", "onFail": on_fail }),
        &[("candidate", value(0.5))],
    );
    world.live(25);
    assert_eq!(status(&world).phase, phase);
}

#[test]
fn failures_are_counted_in_a_row_and_silence_does_not_end_the_row() {
    let mut world = holding(
        json!({ "max": "0.01", "failureLimit": 2 }),
        &[("candidate", value(0.0))],
    );
    for reading in [value(0.5), Reading::Empty, value(0.5)] {
        world.answers.insert("candidate".to_owned(), reading);
        world.pass(30);
        world.settle();
    }
    assert_eq!(
        (status(&world).phase, status(&world).checks[0].failures),
        (RolloutPhase::Holding, 2)
    );
    world.answers.insert("candidate".to_owned(), value(0.0));
    world.pass(30);
    world.settle();
    assert_eq!(status(&world).checks[0].failures, 0);
    for _ in 0..3 {
        world.answers.insert("candidate".to_owned(), value(0.5));
        world.pass(30);
        world.settle();
    }
    world.live(1);
    assert_eq!(status(&world).phase, RolloutPhase::RolledBack);
}

#[rstest]
#[case::no_past(Reading::Empty, Verdict::NotApplicable, RolloutPhase::Promoted)]
#[case::with_its_past(value(1.0), Verdict::Pass, RolloutPhase::Promoted)]
#[case::worse_than_its_past(value(0.5), Verdict::Fail, RolloutPhase::RolledBack)]
#[case::provider_down(Reading::Error("it is down".to_owned()), Verdict::Error, RolloutPhase::Observing)]
fn a_watched_version_is_compared_with_the_baselines_past(
    #[case] baseline: Reading,
    #[case] verdict: Verdict,
    #[case] phase: RolloutPhase,
) {
    let fields = json!({ "baselineQuery": "baseline", "direction": "Minimize", "maxRelativeChange": "0.05" });
    let mut world = holding(fields, &[("candidate", value(1.0)), ("baseline", value(1.0))]);
    world.edit(Kind::Rollout, "second", |o| {
        o["spec"]["plan"]["observe"] = json!({ "duration": "10m" });
    });
    while status(&world).phase != RolloutPhase::Observing {
        world.live(1);
    }
    world.answers.insert("baseline".to_owned(), baseline);
    world.live(20);
    let status = status(&world);
    assert_eq!(
        (status.checks[0].verdict, status.phase),
        (verdict, phase),
        "{}",
        status.checks[0].message
    );
}

#[test]
fn a_watched_version_without_data_of_its_own_stays_watched() {
    let fields = json!({ "baselineQuery": "baseline", "direction": "Minimize", "maxRelativeChange": "0.05" });
    let mut world = holding(fields, &[("candidate", value(1.0)), ("baseline", value(1.0))]);
    world.edit(Kind::Rollout, "second", |o| {
        o["spec"]["plan"]["observe"] = json!({ "duration": "10m" });
    });
    while status(&world).phase != RolloutPhase::Observing {
        world.live(1);
    }
    for side in ["candidate", "baseline"] {
        world.answers.insert(side.to_owned(), Reading::Empty);
    }
    world.live(20);
    assert_eq!(status(&world).phase, RolloutPhase::Observing);
}

#[test]
fn a_rollout_that_a_user_made_gets_the_labels_by_which_its_version_finds_it() {
    let world = holding(json!({ "max": "1" }), &[("candidate", value(0.0))]);
    let rollout: Rollout = world.get(Kind::Rollout, "second");
    let labels = rollout.metadata.labels.unwrap_or_default();
    let found = |key: &str| labels.get(key).map(String::as_str);
    assert_eq!(found("flywheel.dev/model"), Some("eta"));
    assert_eq!(found("flywheel.dev/model-version"), Some("eta-2"));
    assert_eq!(found("flywheel.dev/target"), Some("eta"));
}
