//! Leaders whose clocks disagree: what one of them noted, the next one compares with its own now.

use std::time::{Duration, Instant};

use flywheel_api::Rollout;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::leaders::{MOMENTS, ONE_LEASE, holds};
use super::process::{Process, log};
use crate::fast::fast;
use crate::rollout::scene::{plan, scene};

const HOUR: u32 = 3600;
/// For so long each step lasts at least.
const STEP: Duration = Duration::from_secs(30);
/// Times are noted in whole seconds, and seen a moment later.
const ROUNDED: Duration = Duration::from_secs(3);

fn at(step: &str) -> impl Fn(&Value) -> bool {
    move |o| o["status"]["step"]["name"] == step && o["status"]["step"]["holdReason"] == "MinDuration"
}

/// The last moment that the operator's log names.
fn last_moment(namespace: &str) -> Timestamp {
    let text = std::fs::read_to_string(log(namespace)).expect("a log");
    let words = text.lines().rev().flat_map(str::split_whitespace);
    let mut moments = words.filter_map(|word| word.parse().ok());
    moments.next().expect("a line with a time")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_leaders_whose_clocks_are_an_hour_apart_end_no_step_early_and_none_late() {
    let _alone = ONE_LEASE.lock().await;
    let fast = fast("fault-clocks").await;
    let (client, namespace) = (fast.client.clone(), fast.namespace.clone());
    let first = Process::elected(&namespace, "in-time", None);
    holds(&client, "in-time").await;
    let scene = scene(fast, 2).await;
    let step = |name: &str, weight: i32| json!({ "name": name, "weight": weight, "minDuration": "30s" });
    scene
        .roll("up", "eta-2", plan(&[step("third", 34), step("half", 50)], json!({})))
        .await;
    scene
        .until::<Rollout>("up", MOMENTS.as_secs(), "at its first step", at("third"))
        .await;
    let entered = Instant::now();
    drop(first);
    let second = Process::ahead(&namespace, "ahead", HOUR);
    holds(&client, "ahead").await;
    let hold = scene
        .until::<Rollout>("up", MOMENTS.as_secs(), "at its second step", at("half"))
        .await;
    assert!(
        entered.elapsed() + ROUNDED >= STEP,
        "the first step lasted {:?}",
        entered.elapsed()
    );
    let ahead = last_moment(&namespace).duration_since(Timestamp::now());
    assert!(ahead.as_mins() > 50, "it lives in the present: {ahead}");
    let noted: Timestamp = hold["status"]["step"]["enteredAt"]
        .as_str()
        .expect("a time")
        .parse()
        .expect("a time");
    assert!(
        noted.duration_since(Timestamp::now()).as_secs() <= 1,
        "noted as {noted}"
    );
    let entered = Instant::now();
    drop(second);
    let _third = Process::elected(&namespace, "in-time-again", None);
    scene.ended("up", "Promoted").await;
    assert!(
        entered.elapsed() + ROUNDED >= STEP,
        "the second step lasted {:?}",
        entered.elapsed()
    );
    scene.judge().await;
}
