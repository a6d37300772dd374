//! Five hundred broken objects beside fifty healthy ones: what is broken harms itself alone, and costs others no time.
//!
//! Broken in every way that the API server lets through: what only a newer operator can read, what refers to nothing,
//! what contests a name, what is as large as an object may be. Decisions that panic are tried in `src/driver/tests.rs`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use flywheel_api::{BiasPolicy, FlywheelPipeline, ModelVersion, Rollout};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::NamespaceResourceScope;
use kube::Resource;
use kube::core::DeserializeGuard;
use kube::runtime::{WatchStreamExt, watcher};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::fast::{Fast, alone};
use crate::rollout::scene::{PATIENCE, plan, step};
use crate::rollout::unreadable::{grow, write};
use crate::world::{self, condition, pipeline};

/// Broken objects of each of five sorts.
const BROKEN: usize = 100;
/// Healthy ones, which are made at once.
const HEALTHY: usize = 50;
/// So much later may 99 of 100 healthy objects be served when there are broken ones.
const DELAY: Duration = Duration::from_secs(2);
/// Objects made at the same time.
const AT_ONCE: usize = 16;

/// A version of a model of its own, without a parent or with one.
fn version(model: &str, parent: Option<&str>) -> Value {
    let digest = format!("sha256:{}", "a".repeat(64));
    let mut object = json!({ "spec": { "modelName": model, "version": 1,
        "artifact": { "uri": format!("s3://models/{model}/1"), "digest": digest } } });
    if let Some(name) = parent {
        object["spec"]["parent"] = json!({ "name": name, "uid": "00000000-0000-0000-0000-000000000000" });
    }
    object
}

async fn make<K>(fast: &Fast, objects: impl Iterator<Item = (String, Value)>)
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Serialize,
    K: std::fmt::Debug,
{
    let all = objects.map(|(name, object)| async move { fast.apply::<K>(&name, object).await.map(drop) });
    let made: Result<(), kube::Error> = stream::iter(all)
        .buffer_unordered(AT_ONCE)
        .try_for_each(|()| async { Ok(()) })
        .await;
    made.expect("accepted");
}

/// Makes all of them, and waits until each says what is wrong with it.
async fn poison(fast: &Fast) {
    let each = |sort: &'static str| (0..BROKEN).map(move |n| format!("{sort}-{n}"));
    grow(&fast.client, "modelversions.flywheel.dev", "RollingOut", "Archived").await;
    make::<ModelVersion>(fast, each("strange").map(|name| (name.clone(), version(&name, None)))).await;
    let orphans = each("orphan").map(|name| (name.clone(), version(&name, Some("nobody"))));
    make::<ModelVersion>(fast, orphans).await;
    let strange = each("strange").map(|name| async move {
        let newer = json!({ "status": { "state": "Archived" } });
        write::<ModelVersion>(fast, &name, newer, true).await;
    });
    stream::iter(strange)
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<()>>()
        .await;
    let nowhere = each("nowhere").map(|name| {
        let mut to = plan(&[step("half", 50)], json!({}));
        to["targetRef"]["name"] = json!(name);
        (
            name,
            json!({ "spec": { "modelVersionRef": { "name": "nothing" }, "plan": to } }),
        )
    });
    make::<Rollout>(fast, nowhere).await;
    let policies = each("policy").enumerate().map(|(n, name)| {
        let mut policy = json!({ "spec": { "protectedAttributes": [{ "name": "region" }],
            "modelSelector": { "matchLabels": { "team": "none" } },
            "objectives": [{ "name": "gap", "metric": "mae", "compare": "Difference", "limit": { "max": "1" } }] } });
        if n.is_multiple_of(5) {
            policy["metadata"]["annotations"] = json!({ "example.com/notes": "x".repeat(200_000) });
        }
        (name, policy)
    });
    make::<BiasPolicy>(fast, policies).await;
    let contested = each("contested").map(|name| {
        let mut object = pipeline("contested", "example/eta");
        object["spec"]["artifacts"]["uri"] = json!("s3://models/");
        object["spec"]["biasPolicies"] = json!([{ "name": "nobody" }]);
        (name, object)
    });
    make::<FlywheelPipeline>(fast, contested).await;
    told(fast).await;
}

/// Waits until the broken objects say so.
async fn told(fast: &Fast) {
    let all = |kind: &'static str, fact: fn(&Value) -> bool| async move {
        let resource = kube::api::ApiResource::from_gvk_with_plural(
            &kube::api::GroupVersionKind::gvk("flywheel.dev", "v1alpha1", ""),
            kind,
        );
        let api: kube::Api<kube::api::DynamicObject> =
            kube::Api::namespaced_with(fast.client.clone(), &fast.namespace, &resource);
        world::until(kind, 4 * PATIENCE, || async {
            let found = api.list(&kube::api::ListParams::default()).await.expect("a list");
            let objects = found.items.iter().map(|o| serde_json::to_value(o).expect("JSON"));
            (objects.filter(fact).count() >= BROKEN).then_some(())
        })
        .await;
    };
    all("modelversions", |o| condition(o, "Stalled", "True", "Invalid")).await;
    all("rollouts", |o| {
        o["status"]["conditions"].to_string().contains("NotFound")
    })
    .await;
    all("biaspolicies", |o| condition(o, "Ready", "True", "Accepted")).await;
    all("flywheelpipelines", |o| o["status"]["observedGeneration"] == 1).await;
}

/// When the operator's first word about each of the healthy versions was heard.
async fn heard(fast: &Fast, mine: &str) -> BTreeMap<String, Instant> {
    let versions = fast.api::<DeserializeGuard<ModelVersion>>();
    let mut states = Box::pin(watcher(versions, watcher::Config::default()).applied_objects());
    let mut heard = BTreeMap::new();
    while heard.len() < HEALTHY {
        let state = states.next().await.expect("a watch has no end");
        let Some(version) = state.ok().and_then(|guard| guard.0.ok()) else {
            continue;
        };
        let name = version.metadata.name.clone().unwrap_or_default();
        if name.starts_with(mine) && version.status.is_some_and(|s| !s.conditions.is_empty()) {
            heard.entry(name).or_insert_with(Instant::now);
        }
    }
    heard
}

/// Makes healthy versions at once, and says how long each waited for the operator's first word, the longest last.
async fn served(fast: &Fast, when: &str) -> Vec<Duration> {
    let mine = format!("healthy-{when}-");
    let all = (0..HEALTHY).map(|n| format!("{mine}{n}")).map(|name| async move {
        fast.apply::<ModelVersion>(&name, version(&name, None))
            .await
            .expect("accepted");
        (name, Instant::now())
    });
    let made = stream::iter(all)
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<(String, Instant)>>();
    let both = futures::future::join(heard(fast, &mine), made);
    let (heard, made) = tokio::time::timeout(Duration::from_secs(4 * PATIENCE), both)
        .await
        .expect("each healthy version is served");
    let wait = |(name, at): &(String, Instant)| heard.get(name).expect("heard").saturating_duration_since(*at);
    let mut waits: Vec<Duration> = made.iter().map(wait).collect();
    waits.sort();
    waits
}

fn worst(waits: &[Duration]) -> Duration {
    let nearly_all = (waits.len() * 99).div_ceil(100);
    waits.get(nearly_all.saturating_sub(1)).copied().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_five_hundred_broken_objects_cost_the_others_no_time() {
    let fast = alone("poison").await;
    let before = worst(&served(&fast, "before").await);
    poison(&fast).await;
    let among = worst(&served(&fast, "among").await);
    println!(
        "covered: 99 of 100 healthy versions heard after {before:.1?} without broken objects, {among:.1?} among {}",
        5 * BROKEN
    );
    assert!(
        among < before + DELAY,
        "healthy versions wait {among:?} among broken ones, and {before:?} without"
    );
    fast.finish().await;
}
