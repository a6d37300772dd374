//! Five hundred broken objects beside healthy ones: what is broken harms itself alone, and costs others no more time than as
//! many healthy objects do.
//!
//! Broken in every way that the API server lets through: what only a newer operator can read, what refers to nothing,
//! what contests a name, what is as large as an object may be. Each of them says so, but for those that are only large:
//! they are accepted. Decisions that panic are tried in `src/driver/tests.rs`.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use flywheel_api::{BiasPolicy, FlywheelPipeline, FlywheelRun, ModelVersion, Rollout};
use futures::future::join;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::NamespaceResourceScope;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::core::DeserializeGuard;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::fast::{Fast, alone};
use crate::rollout::scene::{PATIENCE, is, plan, step};
use crate::rollout::unreadable::{grow, write};
use crate::world::{condition, pipeline, run};

/// Objects of each of five sorts.
const EACH: usize = 100;
/// Healthy versions that are made at once, again and again while the others arrive.
const HEALTHY: usize = 50;
/// What 99 of 100 healthy versions wait for the operator's first word may be twice as long beside broken objects as beside
/// healthy ones, and this.
const DELAY: Duration = Duration::from_secs(2);
/// Objects made at the same time.
const AT_ONCE: usize = 16;
/// Annotations of an object may be 256 KiB, their names included.
const NOTES: usize = 262_000;

/// The names of so many objects of a sort.
fn names(sort: &'static str, count: usize) -> impl Iterator<Item = String> {
    (0..count).map(move |n| format!("{sort}-{n}"))
}

/// A version of a model of its own.
fn version(model: &str) -> Value {
    let digest = format!("sha256:{}", "a".repeat(64));
    json!({ "spec": { "modelName": model, "version": 1,
        "artifact": { "uri": format!("s3://models/{model}/1"), "digest": digest } } })
}

/// A policy that applies to nobody.
fn policy(compare: &str) -> Value {
    json!({ "spec": { "protectedAttributes": [{ "name": "region" }],
        "modelSelector": { "matchLabels": { "team": "none" } },
        "objectives": [{ "name": "gap", "metric": "mae", "compare": compare, "limit": { "max": "1" } }] } })
}

/// A pipeline of that model.
fn of_model(model: &str) -> Value {
    let mut object = pipeline(model, "example/eta");
    object["spec"]["artifacts"]["uri"] = json!("s3://models/");
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

/// Makes objects that only a newer operator can read, or gives them such a status.
async fn make_strange<K: Resource<DynamicType = ()>>(fast: &Fast, names: impl Iterator<Item = String>, newer: Value) {
    let status = newer["status"].is_object();
    let all = names.map(|name| {
        let newer = newer.clone();
        async move { write::<K>(fast, &name, newer, status).await }
    });
    stream::iter(all).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
}

/// Makes all of the broken ones, and waits until each says what is wrong with it.
async fn poison(fast: &Fast) {
    make::<ModelVersion>(fast, names("strange", EACH).map(|name| (name.clone(), version(&name)))).await;
    let archived = json!({ "status": { "state": "Archived" } });
    make_strange::<ModelVersion>(fast, names("strange", EACH), archived).await;
    make::<FlywheelRun>(fast, names("astray", EACH).map(|name| (name, run("nobody")))).await;
    let nowhere = names("nowhere", EACH).map(|name| {
        let mut to = plan(&[step("half", 50)], json!({}));
        to["targetRef"]["name"] = json!(name);
        (
            name,
            json!({ "spec": { "modelVersionRef": { "name": "nothing" }, "plan": to } }),
        )
    });
    make::<Rollout>(fast, nowhere).await;
    make_strange::<BiasPolicy>(fast, names("newer", EACH / 2), policy("Quotient")).await;
    let large = names("large", EACH / 2).map(|name| {
        let mut policy = policy("Difference");
        policy["metadata"]["annotations"] = json!({ "example.com/notes": "x".repeat(NOTES) });
        (name, policy)
    });
    make::<BiasPolicy>(fast, large).await;
    let contested = names("contested", EACH).map(|name| {
        let mut object = of_model("contested");
        object["spec"]["biasPolicies"] = json!([{ "name": "nobody" }]);
        (name, object)
    });
    make::<FlywheelPipeline>(fast, contested).await;

    let unreadable = |o: &Value| condition(o, "Stalled", "True", "Invalid");
    say(fast, "modelversions", "strange", EACH, unreadable).await;
    say(fast, "biaspolicies", "newer", EACH / 2, unreadable).await;
    say(fast, "biaspolicies", "large", EACH / 2, accepted).await;
    let alone = |o: &Value| is_unready(o, &["PipelineNotFound"]);
    say(fast, "flywheelruns", "astray", EACH, alone).await;
    let missing = |o: &Value| is_unready(o, &["TargetNotFound", "VersionNotFound"]);
    say(fast, "rollouts", "nowhere", EACH, missing).await;
    // The first one has the name, and no policy.
    let contests = |o: &Value| is_unready(o, &["ModelTaken", "PolicyNotFound", "PolicyUnreadable"]);
    say(fast, "flywheelpipelines", "contested", EACH, contests).await;
}

/// Makes as many healthy ones, which rest as soon as they are known, and waits until they do.
async fn crowd(fast: &Fast) {
    make::<ModelVersion>(fast, names("calm", 3 * EACH).map(|name| (name.clone(), version(&name)))).await;
    make::<BiasPolicy>(fast, names("calm", EACH).map(|name| (name, policy("Difference")))).await;
    make::<FlywheelPipeline>(fast, names("calm", EACH).map(|name| (name.clone(), of_model(&name)))).await;
    let ready = |o: &Value| is(o, "Ready", "True");
    say(fast, "modelversions", "calm", 3 * EACH, ready).await;
    say(fast, "biaspolicies", "calm", EACH, accepted).await;
    say(fast, "flywheelpipelines", "calm", EACH, ready).await;
}

fn accepted(object: &Value) -> bool {
    condition(object, "Ready", "True", "Accepted")
}

/// Whether it says that it is not ready, for one of these reasons.
fn is_unready(object: &Value, reasons: &[&str]) -> bool {
    reasons.iter().any(|reason| condition(object, "Ready", "False", reason))
}

/// Waits until so many objects of a kind and sort have said this. They are watched, not asked for again and again: some are
/// large.
async fn say(fast: &Fast, kind: &str, sort: &str, count: usize, fact: fn(&Value) -> bool) {
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("flywheel.dev", "v1alpha1", ""), kind);
    let api: Api<DynamicObject> = Api::namespaced_with(fast.client.clone(), &fast.namespace, &resource);
    let mut states = Box::pin(watcher(api, watcher::Config::default()).applied_objects());
    let mut said = BTreeSet::new();
    let all = async {
        while said.len() < count {
            let state = states.next().await.expect("a watch has no end");
            let Ok(state) = state else { continue };
            let name = state.metadata.name.clone().unwrap_or_default();
            let state = serde_json::to_value(state).expect("JSON");
            if name.starts_with(sort) && fact(&state) {
                said.insert(name);
            }
        }
    };
    let patience = Duration::from_secs(4 * PATIENCE);
    let in_time = tokio::time::timeout(patience, all).await.is_ok();
    assert!(in_time, "{} of {count} {kind} {sort} say what they are", said.len());
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
        fast.apply::<ModelVersion>(&name, version(&name))
            .await
            .expect("accepted");
        (name, Instant::now())
    });
    let made = stream::iter(all)
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<(String, Instant)>>();
    let both = join(heard(fast, &mine), made);
    let (heard, made) = tokio::time::timeout(Duration::from_secs(4 * PATIENCE), both)
        .await
        .expect("each healthy version is served");
    let wait = |(name, at): &(String, Instant)| heard.get(name).expect("heard").saturating_duration_since(*at);
    let mut waits: Vec<Duration> = made.iter().map(wait).collect();
    waits.sort();
    waits
}

/// How long healthy versions wait while these others arrive and are told what they are, the longest last.
async fn served_while(fast: &Fast, others: impl Future<Output = ()>) -> Vec<Duration> {
    // Whoever comes first to a namespace waits for what is begun only once.
    served(fast, "first").await;
    let over = Cell::new(false);
    let others = async {
        others.await;
        over.set(true);
    };
    let healthy = async {
        let mut waits = Vec::new();
        for turn in 0.. {
            waits.extend(served(fast, &format!("turn-{turn}")).await);
            if over.get() {
                break;
            }
        }
        waits
    };
    let ((), mut waits) = join(others, healthy).await;
    waits.sort();
    waits
}

fn worst(waits: &[Duration]) -> Duration {
    let nearly_all = (waits.len() * 99).div_ceil(100);
    waits.get(nearly_all.saturating_sub(1)).copied().unwrap_or_default()
}

/// A namespace, and an API server that takes what only a newer operator can read. It is told before anything is timed, for
/// all watches of a kind begin anew when its definition changes.
async fn prepared(test: &str) -> Fast {
    let fast = alone(test).await;
    grow(&fast.client, "modelversions.flywheel.dev", "RollingOut", "Archived").await;
    grow(&fast.client, "biaspolicies.flywheel.dev", "Difference", "Quotient").await;
    fast
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_five_hundred_broken_objects_cost_the_others_no_time() {
    let fast = prepared("poison-none").await;
    let beside = served_while(&fast, crowd(&fast)).await;
    fast.finish().await;
    let fast = prepared("poison").await;
    let among = served_while(&fast, poison(&fast)).await;
    let ([few, many], [beside, among]) = ([beside.len(), among.len()], [worst(&beside), worst(&among)]);
    println!(
        "covered: 99 of 100 of {many} healthy versions heard after {among:.1?} while {} broken objects arrive, of {few} after \
         {beside:.1?} while as many healthy ones do",
        5 * EACH
    );
    assert!(
        among < beside + DELAY,
        "healthy versions wait {among:?} among broken ones, and {beside:?} among healthy ones"
    );
    fast.finish().await;
}
