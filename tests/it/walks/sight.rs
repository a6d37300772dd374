//! What a namespace looks like, as it is watched: every object of our kinds in its last state, and since when nothing
//! changed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use flywheel_api::{Approval, BiasPolicy, FlywheelPipeline, FlywheelRun, ModelVersion, Rollout};
use futures::StreamExt;
use kube::api::{ApiResource, DynamicObject};
use kube::runtime::watcher::{Config, Event, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::Value;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::world::PATIENCE;

/// Nothing is written for so long once a step has settled.
pub const QUIET: Duration = Duration::from_secs(2);
/// A step settles in so many seconds on a machine that does nothing else.
const SETTLED: u64 = 30;

/// Objects by kind and name.
pub type Objects = BTreeMap<(String, String), Value>;

struct Seen {
    objects: Objects,
    changes: u64,
    last: Instant,
}

/// The watches of one namespace; they end when this is dropped.
pub struct Sight {
    seen: Arc<Mutex<Seen>>,
    changed: Arc<Notify>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Sight {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// How the API server knows a kind.
pub fn resource(kind: &str) -> ApiResource {
    fn of<K: Resource<DynamicType = ()>>() -> ApiResource {
        ApiResource::erase::<K>(&())
    }
    match kind {
        "FlywheelPipeline" => of::<FlywheelPipeline>(),
        "BiasPolicy" => of::<BiasPolicy>(),
        "Rollout" => of::<Rollout>(),
        "ModelVersion" => of::<ModelVersion>(),
        "FlywheelRun" => of::<FlywheelRun>(),
        "Approval" => of::<Approval>(),
        other => panic!("{other} is no kind"),
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sight {
    /// Watches all our kinds in that namespace.
    pub fn open(client: &Client, namespace: &str) -> Self {
        let seen = Seen {
            objects: Objects::new(),
            changes: 0,
            last: Instant::now(),
        };
        let (seen, changed) = (Arc::new(Mutex::new(seen)), Arc::new(Notify::new()));
        let tasks = super::KINDS.iter().map(|kind| {
            let api = Api::namespaced_with(client.clone(), namespace, &resource(kind));
            tokio::spawn(follow(kind, api, seen.clone(), changed.clone()))
        });
        Self {
            tasks: tasks.collect(),
            seen,
            changed,
        }
    }

    /// The object as it is now.
    pub fn object(&self, kind: &str, name: &str) -> Option<Value> {
        lock(&self.seen)
            .objects
            .get(&(kind.to_owned(), name.to_owned()))
            .cloned()
    }

    /// Waits until the fact holds and nothing has changed for a while.
    ///
    /// # Errors
    /// What is missing: the fact, or the quiet.
    pub async fn settled(&self, fact: impl Fn(&Objects) -> Result<(), String>) -> Result<Objects, String> {
        let begun = Instant::now();
        let end = begun + Duration::from_secs(SETTLED * PATIENCE);
        let before = lock(&self.seen).changes;
        loop {
            let changed = self.changed.notified();
            let (open, left) = {
                let seen = lock(&self.seen);
                let calm = seen.last.max(begun).elapsed();
                let open = fact(&seen.objects).err();
                if open.is_none() && calm >= QUIET {
                    return Ok(seen.objects.clone());
                }
                (open, QUIET.saturating_sub(calm).max(Duration::from_millis(20)))
            };
            if Instant::now() > end {
                let changes = lock(&self.seen).changes - before;
                let problem = open.unwrap_or_else(|| format!("quiescence: it never rests, {changes} changes"));
                return Err(format!("{problem} (after {} s)", begun.elapsed().as_secs()));
            }
            // Whichever comes first: a change, or the end of the quiet time.
            let _ = tokio::time::timeout(left, changed).await;
        }
    }
}

async fn follow(kind: &str, api: Api<DynamicObject>, seen: Arc<Mutex<Seen>>, changed: Arc<Notify>) {
    let mut events = std::pin::pin!(watcher(api, Config::default()));
    while let Some(event) = events.next().await {
        let Ok(event) = event else {
            tokio::time::sleep(Duration::from_millis(200)).await;
            continue;
        };
        let key = |object: &DynamicObject| (kind.to_owned(), object.name_any());
        let mut seen = lock(&seen);
        match event {
            Event::Apply(object) | Event::InitApply(object) => {
                let value = serde_json::to_value(&object).expect("an object is JSON");
                let old = seen.objects.insert(key(&object), value.clone());
                if old.is_some_and(|old| old["metadata"]["resourceVersion"] == value["metadata"]["resourceVersion"]) {
                    continue;
                }
            }
            Event::Delete(object) => drop(seen.objects.remove(&key(&object))),
            Event::Init | Event::InitDone => continue,
        }
        seen.changes += 1;
        seen.last = Instant::now();
        changed.notify_waiters();
    }
}
