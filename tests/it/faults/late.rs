//! Writes that arrive late: an operator that leads freezes while a write of it is on its way, another one takes over and goes
//! back as a person asks, and then the write arrives. What `crates/engine/tests/laws/late.rs` shows of decisions alone is
//! tried here with two operators and an API server.

use std::sync::Arc;

use futures::future::join_all;
use http::{Method, StatusCode};
use k8s_openapi::api::apps::v1::Deployment;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::leaders::{MOMENTS, ONE_LEASE, ends, holds};
use super::process::Process;
use super::proxy::{Plan, Proxy};
use crate::fast::{fast, is_candidate};
use crate::rollout::scene::{Scene, long, plan, scene, step, uri};
use crate::world::until;

/// Where a write stands that is kept on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Nobody has sent it yet.
    Awaited,
    /// It was sent, and has not arrived.
    Kept,
    /// It may arrive.
    Free,
    /// The API server has answered it.
    Answered(StatusCode),
}

/// A write that is kept on its way: the first one of its method and path.
#[derive(Debug)]
pub struct Held {
    method: Method,
    path: String,
    place: watch::Sender<Place>,
}

impl Held {
    fn new(method: Method, path: String) -> Self {
        Self {
            method,
            path,
            place: watch::Sender::new(Place::Awaited),
        }
    }

    /// Whether a write is the one to be kept; none that follows it is.
    pub fn is(&self, method: &Method, path: &str) -> bool {
        let alike = *method == self.method && path == self.path;
        alike
            && self.place.send_if_modified(|place| {
                let first = *place == Place::Awaited;
                if first {
                    *place = Place::Kept;
                }
                first
            })
    }

    /// Waits until it may arrive.
    pub async fn freed(&self) {
        let mut place = self.place.subscribe();
        let _ = place.wait_for(|place| *place == Place::Free).await;
    }

    /// It has arrived, and this was the answer.
    pub fn answered(&self, status: StatusCode) {
        self.place.send_replace(Place::Answered(status));
    }

    /// Waits until it was sent.
    async fn sent(&self) {
        let what = format!("{} {} is sent", self.method, self.path);
        let sent = || async { (*self.place.borrow() == Place::Kept).then_some(()) };
        until(&what, MOMENTS.as_secs(), sent).await;
    }

    /// Lets it arrive; says what the API server answers.
    async fn arrive(&self) -> StatusCode {
        self.place.send_replace(Place::Free);
        let what = format!("{} {} is answered", self.method, self.path);
        let answer = || async {
            match *self.place.borrow() {
                Place::Answered(status) => Some(status),
                Place::Awaited | Place::Kept | Place::Free => None,
            }
        };
        until(&what, MOMENTS.as_secs(), answer).await
    }
}

/// What is on its way when the operator freezes, and what becomes of it and of its Rollout.
struct What {
    word: &'static str,
    method: Method,
    /// The Deployment that it is about, after its collection's path.
    of: &'static str,
    plan: Value,
    outcome: &'static str,
    answer: StatusCode,
}

/// A promotion and replicas that are taken from the baseline are refused, because the way back has left its mark on the
/// target. A creation cannot be refused: the candidate has no pods, and its Rollout removes it.
fn all() -> [What; 3] {
    let shrinking = json!({ "capacity": { "baseline": "ShrinkWithWeight" } });
    [
        What {
            word: "promotion",
            method: Method::PATCH,
            of: "/web",
            plan: plan(&[step("half", 50)], json!({})),
            outcome: "RolledBack",
            answer: StatusCode::CONFLICT,
        },
        What {
            word: "shrinking",
            method: Method::PATCH,
            of: "/web",
            plan: plan(&[long("half", 50)], shrinking),
            outcome: "RolledBack",
            answer: StatusCode::CONFLICT,
        },
        What {
            word: "creation",
            method: Method::POST,
            of: "",
            plan: plan(&[long("half", 50)], json!({})),
            outcome: "Aborted",
            answer: StatusCode::CREATED,
        },
    ]
}

/// One of these in a namespace of its own.
struct Trial {
    what: What,
    scene: Scene,
    held: Arc<Held>,
}

impl Trial {
    async fn begin(what: What) -> Self {
        let scene = scene(fast(&format!("fault-late-{}", what.word)).await, 2).await;
        let path = format!("/apis/apps/v1/namespaces/{}/deployments{}", scene.namespace, what.of);
        let held = Arc::new(Held::new(what.method.clone(), path));
        Self { what, scene, held }
    }

    /// Begins the Rollout; the operator sends the write, which does not arrive.
    async fn until_sent(&self) {
        self.scene.roll("up", "eta-2", self.what.plan.clone()).await;
        self.held.sent().await;
    }

    /// The write arrives after the Rollout has ended.
    async fn arrives(&self) {
        let answer = self.held.arrive().await;
        assert_eq!(answer, self.what.answer, "{}", self.what.word);
    }

    /// The target serves what it served before, and nothing is left.
    async fn judge(self) {
        self.scene.gone::<Deployment>("web-candidate").await;
        if self.what.answer == StatusCode::CREATED {
            let pods = self.scene.pods(is_candidate).await;
            assert!(pods.is_empty(), "a candidate that came late has pods: {pods:?}");
        }
        self.scene.finish(Some(&uri(1)), 2).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_what_a_frozen_leader_had_sent_changes_nothing_after_its_successor_went_back() {
    let _alone = ONE_LEASE.lock().await;
    let trials = join_all(all().map(Trial::begin)).await;
    let client = trials.first().expect("a trial").scene.client.clone();
    let namespaces: Vec<&str> = trials.iter().map(|t| t.scene.namespace.as_str()).collect();
    let namespaces = namespaces.join(",");
    let held = trials.iter().map(|trial| trial.held.clone()).collect();
    let plan = Plan {
        held,
        ..Plan::default()
    };
    let (_proxy, address, _deaths) = Proxy::listen(plan).await;
    let mut first = Process::elected(&namespaces, "fifth", Some(address));
    holds(&client, "fifth").await;
    let second = Process::elected(&namespaces, "sixth", None);
    join_all(trials.iter().map(Trial::until_sent)).await;
    first.freeze();
    join_all(trials.iter().map(|trial| trial.scene.want("up", "RollBack"))).await;
    holds(&client, "sixth").await;
    join_all(trials.iter().map(|t| t.scene.ended("up", t.what.outcome))).await;
    join_all(trials.iter().map(Trial::arrives)).await;
    // It has its answers, and what it had decided before it froze: it has to see that it leads no more.
    first.thaw();
    ends(&mut first).await;
    join_all(trials.into_iter().map(Trial::judge)).await;
    drop(second);
}
