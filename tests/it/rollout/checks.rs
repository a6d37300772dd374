//! Checks: numbers pass or fail, and no data never passes.

use flywheel_api::Rollout;
use k8s_openapi::api::events::v1::Event;
use serde_json::{Value, json};

use super::scene::{PATIENCE, Scene, calm, decisions, is, message, plan, scene, step, uri};
use crate::fast::{Answer, fast, queries};
use crate::world::condition;

/// The check `errors`: at most 1, asked every second.
fn errors(scene: &Scene, more: Value) -> Value {
    let mut check = json!({ "name": "errors", "providerRef": { "name": "fake" }, "query": scene.query("errors"),
        "max": "1", "interval": "1s" });
    let fields = check.as_object_mut().expect("an object");
    fields.extend(more.as_object().expect("an object").clone());
    check
}

/// Begins a Rollout of `eta-2` with one step at half weight and this check.
async fn checked(scene: &Scene, check: Value) {
    let plan = plan(&[step("half", 50)], json!({ "checks": [check] }));
    scene.roll("up", "eta-2", plan).await;
}

async fn verdict(scene: &Scene, verdict: &str) -> Value {
    scene
        .until::<Rollout>("up", PATIENCE, verdict, |o| {
            o["status"]["checks"][0]["verdict"] == verdict
        })
        .await
}

#[tokio::test]
async fn cluster_a_passing_check_lets_the_version_go_on() {
    let scene = scene(fast("pass").await, 1).await;
    scene.say("errors", Answer::Number(0.25));
    checked(&scene, errors(&scene, json!({}))).await;
    let done = scene.ended("up", "Promoted").await;
    assert_eq!(done["status"]["checks"][0]["verdict"], "Pass");
    assert_eq!(done["status"]["checks"][0]["value"], "0.25");
    scene.finish(Some(&uri(2)), 1).await;
}

#[tokio::test]
async fn cluster_a_failed_check_rolls_back() {
    let scene = scene(fast("fail").await, 2).await;
    scene.say("errors", Answer::Number(3.0));
    checked(&scene, errors(&scene, json!({}))).await;
    let back = scene.ended("up", "RolledBack").await;
    let reason = back["status"]["outcomeReason"].as_str().unwrap_or_default();
    assert!(
        reason.contains("Check errors of spec.plan.checks failed 1 times in a row: 3 is above 1."),
        "{reason}"
    );
    scene.finish(Some(&uri(1)), 2).await;
}

#[tokio::test]
async fn cluster_failures_within_the_limit_are_tolerated() {
    let scene = scene(fast("tolerated").await, 1).await;
    scene.say("errors", Answer::Number(3.0));
    checked(&scene, errors(&scene, json!({ "failureLimit": 50 }))).await;
    let open = |o: &Value| o["status"]["checks"][0]["failures"].as_i64() >= Some(2);
    scene.until::<Rollout>("up", PATIENCE, "failing", open).await;
    scene.say("errors", Answer::Number(0.0));
    scene.ended("up", "Promoted").await;
    scene.finish(Some(&uri(2)), 1).await;
}

#[tokio::test]
async fn cluster_no_data_never_passes_and_never_rolls_back() {
    let scene = scene(fast("nodata").await, 1).await;
    checked(&scene, errors(&scene, json!({}))).await;
    let held = scene.held("up", "Inconclusive").await;
    assert!(is(&held, "Ready", "True") && condition(&held, "ChecksPassing", "False", "Inconclusive"));
    scene.say("errors", Answer::NotANumber);
    calm(3).await;
    verdict(&scene, "Inconclusive").await;
    scene.held("up", "Inconclusive").await;
    scene.say("errors", Answer::Number(1.0));
    scene.ended("up", "Promoted").await;
    scene.finish(Some(&uri(2)), 1).await;
}

#[tokio::test]
async fn cluster_a_step_that_stays_without_data_is_rolled_back_after_its_longest_time() {
    let scene = scene(fast("longest").await, 1).await;
    let short = json!({ "name": "half", "weight": 50, "maxDuration": "3s" });
    let checks = json!({ "checks": [errors(&scene, json!({}))] });
    scene.roll("up", "eta-2", plan(&[short], checks)).await;
    let back = scene.ended("up", "RolledBack").await;
    let reason = back["status"]["outcomeReason"].as_str().unwrap_or_default();
    assert!(reason.contains("could not be left within 3 s"), "{reason}");
    scene.finish(Some(&uri(1)), 1).await;
}

#[tokio::test]
async fn cluster_two_series_are_an_error_that_holds() {
    let scene = scene(fast("series").await, 1).await;
    scene.say("errors", Answer::TwoSeries);
    checked(&scene, errors(&scene, json!({}))).await;
    let held = verdict(&scene, "Error").await;
    assert!(
        held["status"]["checks"][0]["message"]
            .to_string()
            .contains("aggregate them to one")
    );
    for answer in [Answer::Refusal, Answer::Down] {
        scene.say("errors", answer);
        calm(2).await;
        verdict(&scene, "Error").await;
    }
    scene.say("errors", Answer::Number(0.0));
    scene.ended("up", "Promoted").await;
    scene.finish(Some(&uri(2)), 1).await;
}

#[tokio::test]
async fn cluster_a_provider_that_cannot_be_reached_or_is_unknown_is_an_error_that_holds() {
    let scene = scene(fast("dead").await, 1).await;
    let dead = errors(&scene, json!({ "providerRef": { "name": "dead" } }));
    let unknown = errors(&scene, json!({ "name": "other", "providerRef": { "name": "nobody" } }));
    let plan = plan(&[step("half", 50)], json!({ "checks": [dead, unknown] }));
    scene.roll("up", "eta-2", plan).await;
    let both = |o: &Value| {
        let checks = o["status"]["checks"].as_array().cloned().unwrap_or_default();
        checks.len() == 2 && checks.iter().all(|c| c["verdict"] == "Error")
    };
    let held = scene.until::<Rollout>("up", PATIENCE, "errors", both).await;
    assert!(
        held["status"]["checks"][1]["message"]
            .to_string()
            .contains("declared no metric provider")
    );
    scene.held("up", "Inconclusive").await;
    scene.want("up", "RollBack").await;
    scene.ended("up", "RolledBack").await;
    scene.finish(Some(&uri(1)), 1).await;
}

#[tokio::test]
async fn cluster_a_provider_that_never_answers_does_not_keep_a_version_from_going_back() {
    let scene = scene(fast("silence").await, 2).await;
    scene.say("errors", Answer::Silence);
    scene.say("samples", Answer::Silence);
    let queries = json!({ "samplesQuery": scene.query("samples"), "minSamples": 1 });
    let checks: Vec<Value> = (0..8)
        .map(|n| {
            let mut check = errors(&scene, queries.clone());
            check["name"] = json!(format!("errors-{n}"));
            check
        })
        .collect();
    let plan = plan(&[step("half", 50)], json!({ "checks": checks }));
    scene.roll("up", "eta-2", plan).await;
    let unanswered = verdict(&scene, "Error").await;
    let said = unanswered["status"]["checks"].to_string();
    assert!(said.contains("no answer within 10 s"), "{said}");
    scene.want("up", "RollBack").await;
    scene.ended("up", "RolledBack").await;
    scene.finish(Some(&uri(1)), 2).await;
}

#[tokio::test]
async fn cluster_the_candidate_is_compared_with_the_baseline() {
    let scene = scene(fast("compare").await, 1).await;
    scene.say("candidate", Answer::Number(11.0));
    scene.say("baseline", Answer::Number(10.0));
    let check = json!({ "name": "latency", "providerRef": { "name": "fake" }, "interval": "1s",
        "query": format!("{} $candidate $namespace $since", scene.query("candidate")),
        "baselineQuery": format!("{} $baseline", scene.query("baseline")),
        "direction": "Minimize", "maxRelativeChange": "0.05", "onFail": "Hold" });
    checked(&scene, check).await;
    let held = scene.held("up", "CheckFailed").await;
    assert!(
        held["status"]["checks"][0]["message"]
            .to_string()
            .contains("beyond 0.05")
    );
    scene.say("candidate", Answer::Number(10.4));
    scene.ended("up", "Promoted").await;
    let asked = queries(&scene.query("candidate"));
    let filled = format!("{} eta-2 {} ", scene.query("candidate"), scene.namespace);
    assert!(
        asked.iter().all(|q| q.starts_with(&filled) && q.ends_with('s')),
        "{asked:?}"
    );
    let asked = queries(&scene.query("baseline"));
    assert!(asked.iter().all(|q| q.ends_with(" eta-1")), "{asked:?}");
    scene.finish(Some(&uri(2)), 1).await;
}

#[tokio::test]
async fn cluster_too_few_samples_hold_whatever_the_answer_is() {
    let scene = scene(fast("samples").await, 1).await;
    scene.say("errors", Answer::Number(9.0));
    scene.say("count", Answer::Number(99.0));
    let more = json!({ "samplesQuery": scene.query("count"), "minSamples": 100 });
    checked(&scene, errors(&scene, more)).await;
    let held = scene.held("up", "Inconclusive").await;
    assert!(message(&held, "Ready").contains("99 of 100 samples"), "{held:#}");
    scene.say("count", Answer::Number(100.0));
    scene.ended("up", "RolledBack").await;
    scene.finish(Some(&uri(1)), 1).await;
}

#[tokio::test]
async fn cluster_a_check_that_only_warns_tells_and_lets_go_on() {
    let scene = scene(fast("warn").await, 1).await;
    scene.say("errors", Answer::Number(9.0));
    let steps = [json!({ "name": "half", "weight": 50, "minDuration": "3s" })];
    let checks = json!({ "checks": [errors(&scene, json!({ "onFail": "Warn" }))] });
    scene.roll("up", "eta-2", plan(&steps, checks)).await;
    scene.ended("up", "Promoted").await;
    let events = scene.api::<Event>().list(&Default::default()).await.expect("events");
    let warned = |e: &&Event| e.reason.as_deref() == Some("CheckFailed") && e.type_.as_deref() == Some("Warning");
    assert_eq!(events.items.iter().filter(warned).count(), 1, "told once");
    scene.finish(Some(&uri(2)), 1).await;
}

#[tokio::test]
async fn cluster_a_recommended_rollback_waits_for_a_person() {
    let scene = scene(fast("recommend").await, 1).await;
    scene.say("errors", Answer::Number(9.0));
    let more = json!({ "checks": [errors(&scene, json!({}))], "rollback": { "mode": "Recommend" } });
    scene.roll("up", "eta-2", plan(&[step("half", 50)], more)).await;
    let held = scene.held("up", "CheckFailed").await;
    assert!(
        message(&held, "Ready").contains("kubectl flywheel rollback rollout up"),
        "{held:#}"
    );
    calm(3).await;
    scene.held("up", "CheckFailed").await;
    scene.want("up", "RollBack").await;
    scene.ended("up", "RolledBack").await;
    scene.finish(Some(&uri(1)), 1).await;
}

#[tokio::test]
async fn cluster_a_check_is_asked_from_its_step_on() {
    let scene = scene(fast("fromstep").await, 4).await;
    scene.say("errors", Answer::Number(9.0));
    let steps = [step("fifth", 20), step("half", 50)];
    let checks = json!({ "checks": [errors(&scene, json!({ "fromStep": "half" }))] });
    scene.roll("up", "eta-2", plan(&steps, checks)).await;
    let back = scene.ended("up", "RolledBack").await;
    let taken = ["Begin/Begun", "NextStep/StepPassed", "RollBack/CheckFailed"];
    assert_eq!(decisions(&back)[..3], taken);
    scene.finish(Some(&uri(1)), 4).await;
}
