//! An actor in the kubelet's place: it makes the pods of one namespace run, be ready, or end, by writing their status.
//!
//! It sees every version of every pod in the order in which the API server stored them, so what it says about the
//! number of ready pods holds at every moment, not only when somebody looked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, Pod};
use kube::api::{Patch, PatchParams};
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::world::World;

/// How the container of a stage ends.
#[derive(Clone, Debug)]
pub enum Ending {
    /// With this exit code and this termination message.
    Exit(i32, String),
    /// Killed for its memory.
    OutOfMemory,
    /// Its node went away: the pod fails without that its container said anything.
    Evicted,
    /// It runs on.
    Runs,
}

type Unready = Box<dyn Fn(&Pod) -> bool + Send>;
type Script = Box<dyn Fn(&Value) -> Ending + Send>;

#[derive(Default)]
struct State {
    pods: HashMap<String, Pod>,
    unready: Option<Unready>,
    script: Option<Script>,
    floors: HashMap<String, Floor>,
    violations: Vec<String>,
}

/// How many pods must be ready; it counts from the moment when so many are.
#[derive(Clone, Copy)]
struct Floor {
    count: usize,
    reached: bool,
}

/// The actor; it stops when it is dropped.
pub struct Kubelet {
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Kubelet {
    /// Takes care of the pods of that namespace.
    pub fn start(world: &World) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let changed = Arc::new(Notify::new());
        let task = tokio::spawn(run(
            world.client.clone(),
            world.namespace.clone(),
            state.clone(),
            changed.clone(),
        ));
        Self { state, changed, task }
    }

    /// From now on these pods are not ready, also those that were.
    pub fn unready(&self, which: impl Fn(&Pod) -> bool + Send + 'static) {
        lock(&self.state).unready = Some(Box::new(which));
        self.changed.notify_one();
    }

    /// From now on all pods are ready.
    pub fn all_ready(&self) {
        lock(&self.state).unready = None;
        self.changed.notify_one();
    }

    /// From now on the containers of stages end so; the argument is their stage file.
    pub fn stages(&self, script: impl Fn(&Value) -> Ending + Send + 'static) {
        lock(&self.state).script = Some(Box::new(script));
        self.changed.notify_one();
    }

    /// As soon as that many pods with label `app` of this value are ready, there must always be as many.
    pub fn floor(&self, app: &str, count: usize) {
        let mut state = lock(&self.state);
        state.floors.insert(app.to_owned(), Floor { count, reached: false });
        count_ready(&mut state);
    }

    /// Fails if there were too few ready pods at any moment.
    pub fn judge(&self) {
        let state = lock(&self.state);
        assert!(state.violations.is_empty(), "{:#?}", state.violations);
        assert!(
            state.floors.values().all(|f| f.reached),
            "the pods were never all ready"
        );
    }
}

fn count_ready(state: &mut State) {
    for (app, floor) in state.floors.clone() {
        let count = ready(state, &app);
        if floor.reached && count < floor.count {
            let pods: Vec<String> = state.pods.values().map(shown).collect();
            let message = format!("only {count} of {} pods of {app} were ready: {pods:?}", floor.count);
            state.violations.push(message);
        } else if count >= floor.count {
            state.floors.insert(app, Floor { reached: true, ..floor });
        }
    }
}

fn ready(state: &State, app: &str) -> usize {
    let serves = |pod: &&Pod| {
        pod.labels().get("app").is_some_and(|a| a == app) && pod.metadata.deletion_timestamp.is_none() && is_ready(pod)
    };
    state.pods.values().filter(serves).count()
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
    conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True")
}

async fn run(client: Client, namespace: String, state: Arc<Mutex<State>>, changed: Arc<Notify>) {
    let api: Api<Pod> = Api::namespaced(client, &namespace);
    let mut events = Box::pin(watcher(api.clone(), watcher::Config::default()));
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(event)) => note(&state, event),
                Some(Err(_)) => tokio::time::sleep(Duration::from_millis(100)).await,
                None => return,
            },
            () = changed.notified() => {}
        }
        let due = due(&state);
        for (name, status) in due {
            let patch = Patch::Merge(json!({ "status": status }));
            // A pod that has just gone needs no status.
            let _ = api.patch_status(&name, &PatchParams::default(), &patch).await;
        }
    }
}

fn note(state: &Mutex<State>, event: watcher::Event<Pod>) {
    let mut state = lock(state);
    match event {
        watcher::Event::Apply(pod) | watcher::Event::InitApply(pod) => {
            state.pods.insert(pod.name_any(), pod);
        }
        watcher::Event::Delete(pod) => {
            state.pods.remove(&pod.name_any());
        }
        watcher::Event::Init | watcher::Event::InitDone => return,
    }
    count_ready(&mut state);
}

fn shown(pod: &Pod) -> String {
    format!("{} ready={}", pod.name_any(), is_ready(pod))
}

/// Pods whose status is not yet what it should be.
fn due(state: &Mutex<State>) -> Vec<(String, Value)> {
    let state = lock(state);
    let alive = |pod: &&Pod| pod.metadata.deletion_timestamp.is_none();
    let wanted = |pod: &Pod| match pod.annotations().get("flywheel.dev/stage-file") {
        Some(file) => stage(&state, pod, file),
        None => server(&state, pod),
    };
    let pods = state.pods.values().filter(alive);
    pods.filter_map(|p| wanted(p).map(|status| (p.name_any(), status)))
        .collect()
}

fn server(state: &State, pod: &Pod) -> Option<Value> {
    let ready = !state.unready.as_ref().is_some_and(|unready| unready(pod));
    let running = phase(pod) == "Running";
    if running && is_ready(pod) == ready {
        return None;
    }
    let word = if ready { "True" } else { "False" };
    let now = jiff::Timestamp::now();
    let condition = |type_: &str, status: &str| json!({ "type": type_, "status": status, "lastTransitionTime": now });
    Some(json!({
        "phase": "Running",
        "conditions": [
            condition("PodScheduled", "True"), condition("Initialized", "True"),
            condition("ContainersReady", word), condition("Ready", word),
        ],
        "containerStatuses": containers(pod, ready, json!({ "running": { "startedAt": now } })),
    }))
}

fn phase(pod: &Pod) -> String {
    let phase = pod.status.as_ref().and_then(|s| s.phase.clone());
    phase.unwrap_or_default()
}

fn containers(pod: &Pod, ready: bool, state: Value) -> Value {
    let all = pod.spec.iter().flat_map(|s| &s.containers);
    all.map(|c| {
        json!({ "name": c.name, "image": c.image, "imageID": format!("sha256:{}", "e".repeat(64)), "ready": ready,
            "restartCount": 0, "started": ready, "state": state })
    })
    .collect()
}

fn stage(state: &State, pod: &Pod, file: &str) -> Option<Value> {
    if matches!(phase(pod).as_str(), "Succeeded" | "Failed") {
        return None;
    }
    let file: Value = serde_json::from_str(file).expect("a stage file");
    let ending = state.script.as_ref()?(&file);
    let now = jiff::Timestamp::now();
    let ended = |code: i32, reason: &str, message: &str| {
        let terminated = ContainerStateTerminated {
            exit_code: code,
            reason: Some(reason.to_owned()),
            message: (!message.is_empty()).then(|| message.to_owned()),
            started_at: Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now)),
            finished_at: Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now)),
            ..ContainerStateTerminated::default()
        };
        let state = ContainerState {
            terminated: Some(terminated),
            ..ContainerState::default()
        };
        let phase = if code == 0 { "Succeeded" } else { "Failed" };
        json!({ "phase": phase, "containerStatuses": containers(pod, false, json!(state)) })
    };
    match ending {
        Ending::Exit(code, message) => Some(ended(code, if code == 0 { "Completed" } else { "Error" }, &message)),
        Ending::OutOfMemory => Some(ended(137, "OOMKilled", "")),
        Ending::Evicted => Some(
            json!({ "phase": "Failed", "reason": "Evicted", "message": "The node was low on memory.",
            "conditions": [{ "type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet",
                "lastTransitionTime": now }] }),
        ),
        Ending::Runs if phase(pod) == "Running" => None,
        Ending::Runs => {
            let running = json!({ "running": { "startedAt": now } });
            Some(json!({ "phase": "Running", "startTime": now, "containerStatuses": containers(pod, true, running) }))
        }
    }
}
