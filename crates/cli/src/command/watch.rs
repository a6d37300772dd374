//! Drawing again whenever something changes: watches feed stores, a change draws, at most five times a second.

use std::io::IsTerminal;
use std::time::Duration;

use flywheel_api::{Approval, BiasPolicy, FlywheelPipeline, FlywheelRun, ModelVersion, Rollout};
use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt, watcher};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::print;
use crate::cluster::{Cluster, Kind};
use crate::error::Error;
use crate::world::{World, now};

/// Shortest time between two drawings.
const PACE: Duration = Duration::from_millis(200);
/// Ages grow, so that a terminal is drawn at least this often.
const PULSE: Duration = Duration::from_secs(1);

struct Stores {
    pipelines: Store<DeserializeGuard<FlywheelPipeline>>,
    runs: Store<DeserializeGuard<FlywheelRun>>,
    versions: Store<DeserializeGuard<ModelVersion>>,
    rollouts: Store<DeserializeGuard<Rollout>>,
    policies: Store<DeserializeGuard<BiasPolicy>>,
    approvals: Store<DeserializeGuard<Approval>>,
    deployments: Store<DeserializeGuard<Deployment>>,
    pods: Store<DeserializeGuard<Pod>>,
}

impl Stores {
    /// What is seen now, of the same part of the cluster as at the first look.
    fn world(&self, first: &World) -> World {
        World {
            namespace: first.namespace.clone(),
            now: now(),
            pipelines: state(&self.pipelines),
            runs: state(&self.runs),
            versions: state(&self.versions),
            rollouts: state(&self.rollouts),
            policies: state(&self.policies),
            approvals: state(&self.approvals),
            deployments: state(&self.deployments),
            pods: state(&self.pods),
            hidden: first.hidden.clone(),
            unreadable: first.unreadable.clone(),
        }
    }
}

/// What can be read; the first look named the rest.
fn state<K: Kind>(store: &Store<DeserializeGuard<K>>) -> Vec<K> {
    let all = store.state();
    all.iter().filter_map(|o| o.0.as_ref().ok().cloned()).collect()
}

/// Draws until it is interrupted, the time is over, or there is nothing more to come; whether it ended by itself.
pub async fn draw(
    cluster: &Cluster,
    limit: Option<i64>,
    mut text: impl FnMut(&World) -> Result<String, Error>,
    over: impl Fn(&World) -> bool,
) -> Result<bool, Error> {
    // The first look is a list: it says what is wrong where something is, and what the user may not see.
    let first = World::fetch(cluster).await?;
    let end = limit.map(|s| Instant::now() + Duration::from_secs(u64::try_from(s).unwrap_or(0)));
    let terminal = std::io::stdout().is_terminal();
    let mut shown = show(terminal, &text(&first)?, "")?;
    if over(&first) {
        return Ok(true);
    }
    let (told, mut changes) = mpsc::channel(1);
    let stores = follow_all(cluster, &told, &first.hidden);
    ready(&stores, &first.hidden).await;
    loop {
        let pulse = Instant::now() + if terminal { PULSE } else { Duration::from_secs(3600) };
        let until = end.map_or(pulse, |end| end.min(pulse));
        tokio::select! {
            _ = changes.recv() => {}
            () = tokio::time::sleep_until(until) => {}
            _ = tokio::signal::ctrl_c() => return Ok(false),
        }
        let world = stores.world(&first);
        shown = show(terminal, &text(&world)?, &shown)?;
        if over(&world) {
            return Ok(true);
        }
        if end.is_some_and(|end| end <= Instant::now()) {
            return Ok(false);
        }
        tokio::time::sleep(PACE).await;
    }
}

/// A terminal is cleared; a pipe gets what has changed, below a line.
fn show(terminal: bool, text: &str, before: &str) -> Result<String, Error> {
    if text != before {
        print(&match (terminal, before.is_empty()) {
            (true, _) => format!("\u{1b}[H\u{1b}[2J{text}"),
            (false, true) => text.to_owned(),
            (false, false) => format!("---\n{text}"),
        })?;
    }
    Ok(text.to_owned())
}

fn follow_all(cluster: &Cluster, told: &mpsc::Sender<()>, hidden: &[String]) -> Stores {
    Stores {
        pipelines: follow(cluster, told, hidden),
        runs: follow(cluster, told, hidden),
        versions: follow(cluster, told, hidden),
        rollouts: follow(cluster, told, hidden),
        policies: follow(cluster, told, hidden),
        approvals: follow(cluster, told, hidden),
        deployments: follow(cluster, told, hidden),
        pods: follow(cluster, told, hidden),
    }
}

fn follow<K: Kind>(cluster: &Cluster, told: &mpsc::Sender<()>, hidden: &[String]) -> Store<DeserializeGuard<K>> {
    let (store, writer) = reflector::store();
    if hidden.contains(&crate::cluster::resource::<K>()) {
        return store;
    }
    let events = watcher(cluster.api::<DeserializeGuard<K>>(), watcher::Config::default()).default_backoff();
    let mut events = Box::pin(events.reflect(writer));
    let told = told.clone();
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            // A full channel means that a drawing is due anyway.
            let stop = event.is_ok() && matches!(told.try_send(()), Err(mpsc::error::TrySendError::Closed(())));
            if stop {
                return;
            }
        }
    });
    store
}

/// Waits until every store has its first list, but not for ever: a watch that fails is tried again behind the drawing.
async fn ready(stores: &Stores, hidden: &[String]) {
    let seen = |resource: &str| !hidden.iter().any(|h| h == resource);
    let all = async {
        let _ = futures::join!(
            stores.pipelines.wait_until_ready(),
            stores.runs.wait_until_ready(),
            stores.versions.wait_until_ready(),
            stores.rollouts.wait_until_ready(),
        );
        if seen("deployments.apps") {
            let _ = stores.deployments.wait_until_ready().await;
        }
        if seen("pods") {
            let _ = stores.pods.wait_until_ready().await;
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(10), all).await;
}
