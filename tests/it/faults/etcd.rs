//! etcd under the loop: it is stopped, killed, compacted and away for long, each at another moment of a turn. The end is
//! the one of a turn in which nothing happens to it, nothing is made twice, and nothing that was acknowledged is lost.
//!
//! What happens to etcd happens to all: this runs after all other tests of its cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use flywheel_api::{FlywheelPipeline, FlywheelRun, ModelVersion, Rollout};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::PostParams;
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use xtask::cluster::{self, End, Store};
use xtask::operator::free_port;
use xtask::trace::{History, Scope};

use super::REST;
use super::leaders::holds;
use super::masked;
use super::picture::Picture;
use super::process::{self, Process};
use crate::fast::{Fast, fast, named};
use crate::rollout::scene::{PATIENCE, plan};
use crate::runs::turn::{Turn, turn, until, well};
use crate::world;

/// So short that the operator keeps its lease, if the machine is not too busy.
const SHORT: Duration = Duration::from_secs(1);
/// An absence that is shorter costs no operator its lease: it is renewed every 5 s, and given up after 10 s without.
const HARMLESS: Duration = Duration::from_secs(4);
/// How often it is tried to make an absence as short as that, if none was: etcd that is asked to end takes its time, and a
/// machine that is busy takes some to begin it again.
const TRIES: usize = 8;
/// So long that the operator cannot renew its lease in time, which takes it 10 s to find out.
const LONG: Duration = Duration::from_secs(14);
/// What takes a few moments on a machine that has nothing else to do.
const MOMENTS: Duration = Duration::from_secs(15 * world::PATIENCE);
/// What the API server says of a watch that cannot go on where it was.
const COMPACTED: [&str; 2] = ["too old resource version", "Expired"];
/// What it says when it ends because its lease is gone.
const LOST: &str = "the lease was lost";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_that_is_stopped_killed_compacted_and_away_for_long_changes_no_end() {
    let cluster = variable("FLYWHEEL_TEST_API_CLUSTER");
    let cluster = cluster::find(&cluster).expect("its record").expect("the cluster is up");
    let store = Arc::new(cluster.store().expect("it has an etcd"));
    let (one, two) = (fast("etcd-one").await, fast("etcd-two").await);
    let operator = Tended::start(&format!("{},{}", one.namespace, two.namespace));
    let (one, two) = tokio::join!(told(one, None), told(two, None));
    assert_eq!(one.made, two.made, "two turns without faults make the same");
    drop(operator);
    let third = fast("etcd-tried").await;
    let trial = Trial {
        operator: Tended::start(&third.namespace),
        store,
        absences: AtomicUsize::new(0),
        harmless: AtomicUsize::new(0),
    };
    let tried = told(third, Some(trial)).await;
    assert_eq!(one.picture.shared(&two.picture).differs(&tried.picture), None);
    assert_eq!(tried.made, one.made, "what was made, and how many times");
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run `cargo xtask test`"))
}

/// How a turn ended.
struct Told {
    picture: Picture,
    /// What was made, and how many times.
    made: BTreeMap<String, usize>,
}

/// A turn to a version that serves; something happens to etcd at each of its stations.
async fn told(fast: Fast, trial: Option<Trial>) -> Told {
    let log = PathBuf::from(variable("FLYWHEEL_TEST_API_AUDIT_LOG"));
    let from = std::fs::metadata(&log).expect("an audit log").len();
    // What happens at the last step takes as long as it takes: a person lets the version go on, not the time.
    let steps = [
        json!({ "name": "third", "weight": 34, "minDuration": "5s" }),
        json!({ "name": "half", "weight": 50, "approval": { "minApprovals": 1 } }),
    ];
    let rollout = plan(&steps, json!({ "observe": { "duration": "5s" } }));
    let turn = turn(fast, json!({ "rollout": rollout })).await;
    turn.kubelet.stages(until("train"));
    turn.serve(2).await;
    turn.ask("eta-1").await;
    turn.running("eta-1", 0).await;
    happens(&trial, &turn, Event::Stopped).await;
    turn.kubelet.stages(until("evaluate"));
    turn.running("eta-1", 1).await;
    happens(&trial, &turn, Event::Compacted).await;
    turn.kubelet.stages(well);
    held(&turn, "third", "MinDuration").await;
    happens(&trial, &turn, Event::Killed).await;
    let waiting = held(&turn, "half", "AwaitingApproval").await;
    happens(&trial, &turn, Event::CompactedApart).await;
    lives_through(&trial, &turn).await;
    turn.decide(&waiting, "further", "Approve").await;
    let observing = |o: &Value| o["status"]["phase"] == "Observing";
    turn.until::<Rollout>("eta-1", PATIENCE, "observing", observing).await;
    happens(&trial, &turn, Event::AwayForLong).await;
    let done = |o: &Value| o["status"]["phase"] == "Promoted";
    turn.until::<Rollout>("eta-1", PATIENCE, "promoted", done).await;
    turn.ended("eta-1", "Promoted").await;
    let known = |o: &Value| o["status"]["lastRun"]["name"] == "eta-1" && o["status"]["activeRun"].is_null();
    turn.until::<FlywheelPipeline>("eta", PATIENCE, "aware of its run's end", known)
        .await;
    // The last write of a leader on its way out may have been the promotion: the next one waits for the lease first.
    let told = |o: &Value| o["status"]["deployments"][0]["phase"] == "Promoted";
    turn.until::<ModelVersion>("eta-1", PATIENCE, "aware of its delivery's end", told)
        .await;
    tokio::time::sleep(REST).await;
    let scope = Scope {
        namespace: Some(turn.namespace.clone()),
        from,
    };
    let told = Told {
        picture: Picture::take(&turn).await,
        made: made(&History::read(&log, &scope).expect("the audit log")),
    };
    turn.finish().await;
    told
}

/// The Rollout when it is held at this step for this reason.
async fn held(turn: &Turn, step: &str, reason: &str) -> Value {
    let held = |o: &Value| o["status"]["step"]["name"] == step && o["status"]["step"]["holdReason"] == reason;
    turn.until::<Rollout>("eta-1", PATIENCE, "at its step", held).await
}

/// How many objects of each kind and name the operator made, whether it was told so or not.
fn made(history: &History) -> BTreeMap<String, usize> {
    let mut all = BTreeSet::new();
    for object in history
        .steps
        .iter()
        .filter_map(|step| step.after.as_deref().map(|o| (step, o)))
    {
        let (step, object) = object;
        let (_, resource) = step.key.kind.resource();
        let uid = object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        all.insert((masked(&format!("/{resource}/{}", step.key.name)), uid));
    }
    let mut made = BTreeMap::new();
    for (name, _) in all {
        *made.entry(name).or_default() += 1;
    }
    made
}

/// What happens to etcd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// It is asked to end, and begins again.
    Stopped,
    /// Its past is compacted while it runs.
    Compacted,
    /// It is killed, and begins again.
    Killed,
    /// It is asked to end, and its past is compacted before the API server hears of it again: no watch can go on.
    CompactedApart,
    /// It is killed, and begins again when the operator has lost its lease.
    AwayForLong,
}

/// Whom it happens to.
struct Trial {
    store: Arc<Store>,
    operator: Tended,
    /// How often etcd was away, and how often so briefly that the operator had to go on.
    absences: AtomicUsize,
    harmless: AtomicUsize,
}

/// The operator that lives through an absence is seen at least once.
async fn lives_through(trial: &Option<Trial>, turn: &Turn) {
    let Some(known) = trial else { return };
    let harmless = || known.harmless.load(Ordering::SeqCst);
    for _ in 0..TRIES {
        if harmless() > 0 {
            break;
        }
        // One that waits for the lease has none to lose.
        holds(&turn.client, &known.operator.identity()).await;
        happens(trial, turn, Event::Killed).await;
    }
    let (harmless, absences) = (harmless(), known.absences.load(Ordering::SeqCst));
    println!("covered: etcd: the same operator went on after {harmless} of {absences} absences");
    assert!(harmless > 0, "etcd was never away for less than {HARMLESS:?}");
}

async fn happens(trial: &Option<Trial>, turn: &Turn, event: Event) {
    let Some(trial) = trial else { return };
    let begun = Instant::now();
    let before = everything(turn).await;
    let (said, followers) = (trial.operator.said().len(), trial.operator.followers());
    let number = trial.absences.load(Ordering::SeqCst);
    let (acknowledged, away) = befalls(&trial.store, turn, event, number).await;
    if event == Event::AwayForLong {
        trial.operator.ends(followers).await;
    }
    trial.operator.is_well().await;
    if away < HARMLESS {
        assert_eq!(
            trial.operator.followers(),
            followers,
            "{event:?}: the operator has ended: {}",
            trial.operator.said()
        );
    }
    if event != Event::Compacted {
        trial.absences.fetch_add(1, Ordering::SeqCst);
        trial.harmless.fetch_add(usize::from(away < HARMLESS), Ordering::SeqCst);
    }
    let after = everything(turn).await;
    let lost: Vec<&String> = before
        .difference(&after)
        .chain(acknowledged.difference(&after))
        .collect();
    assert!(
        lost.is_empty(),
        "{event:?}: acknowledged, and not there any more: {lost:?}"
    );
    if event == Event::CompactedApart {
        let fresh = trial.operator.said().split_off(said);
        // Unless it took so long that it lost its lease: then it had no watch any more that could be told.
        let heard = COMPACTED.iter().chain([&LOST]).any(|words| fresh.contains(words));
        assert!(heard, "no watch of the operator was told that it is too old: {fresh}");
    }
    let [away, all] = [away, begun.elapsed()].map(|time| time.as_secs_f32());
    println!("covered: etcd {event:?}: away for {away:.1} s, over after {all:.1} s");
}

/// Lets it happen after so many absences; returns what was acknowledged until the last moment, and for how long nobody was
/// answered.
async fn befalls(store: &Arc<Store>, turn: &Turn, event: Event, number: usize) -> (BTreeSet<String>, Duration) {
    let writer = tokio::spawn(write_on(turn.api(), format!("{event:?}-{number}").to_lowercase()));
    // It is in the middle of its writes when it happens.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let store = store.clone();
    let act = move || match event {
        Event::Stopped => away(&store, End::Asked, SHORT),
        Event::Compacted => store.compact().map(drop),
        Event::Killed => away(&store, End::Killed, SHORT),
        Event::CompactedApart => store
            .end(End::Asked)
            .and_then(|()| store.compact_apart())
            .and_then(|_| store.start()),
        Event::AwayForLong => away(&store, End::Killed, LONG),
    };
    let begun = Instant::now();
    let done = tokio::task::spawn_blocking(act).await.expect("it is done");
    let away = begun.elapsed();
    done.unwrap_or_else(|why| panic!("{event:?}: {why:#}"));
    let acknowledged = writer.await.expect("what was acknowledged");
    assert!(!acknowledged.is_empty(), "{event:?}: nothing was written before it");
    (acknowledged, away)
}

fn away(store: &Store, end: End, how_long: Duration) -> anyhow::Result<()> {
    store.end(end)?;
    std::thread::sleep(how_long);
    store.start()
}

/// Writes one object after the other until one is not acknowledged, or enough are.
async fn write_on(api: Api<ConfigMap>, name: String) -> BTreeSet<String> {
    let mut acknowledged = BTreeSet::new();
    for number in 0..200 {
        let map: ConfigMap = named(&format!("{name}-{number}"), json!({}));
        match api.create(&PostParams::default(), &map).await {
            Ok(map) => drop(acknowledged.insert(shown(&map))),
            Err(_) => break,
        }
    }
    acknowledged
}

/// Every object of the namespace that matters, with its UID.
async fn everything(turn: &Turn) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    all.extend(every::<FlywheelPipeline>(turn).await);
    all.extend(every::<FlywheelRun>(turn).await);
    all.extend(every::<ModelVersion>(turn).await);
    all.extend(every::<Rollout>(turn).await);
    all.extend(every::<ControllerRevision>(turn).await);
    all.extend(every::<Job>(turn).await);
    all.extend(every::<Deployment>(turn).await);
    all.extend(every::<ConfigMap>(turn).await);
    all
}

async fn every<K>(turn: &Turn) -> Vec<String>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let all = turn.api::<K>().list(&Default::default()).await.expect("a list");
    all.items.iter().map(shown).collect()
}

fn shown<K: Resource<DynamicType = ()>>(object: &K) -> String {
    let metadata = object.meta();
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    format!("{} {} {}", K::kind(&()), text(&metadata.name), text(&metadata.uid))
}

/// An operator that holds the lease, and is followed by another one whenever it ends, as a Deployment does it.
struct Tended {
    namespace: String,
    port: u16,
    followers: Arc<AtomicUsize>,
    tender: JoinHandle<()>,
}

impl Tended {
    fn start(namespace: &str) -> Self {
        let port = free_port().expect("a free port");
        let followers = Arc::new(AtomicUsize::new(0));
        Self {
            namespace: namespace.to_owned(),
            port,
            followers: followers.clone(),
            tender: tokio::spawn(tend(namespace.to_owned(), port, followers)),
        }
    }

    /// How many have followed the first one.
    fn followers(&self) -> usize {
        self.followers.load(Ordering::SeqCst)
    }

    /// What the one that runs calls itself.
    fn identity(&self) -> String {
        identity(self.followers())
    }

    /// One has lost its lease, and ended by itself, since so many had followed the first.
    async fn ends(&self, before: usize) {
        let end = Instant::now() + MOMENTS;
        while self.followers() == before {
            assert!(Instant::now() < end, "an operator that lost its lease acts on");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// It says that it is ready and alive.
    async fn is_well(&self) {
        let end = Instant::now() + MOMENTS;
        loop {
            let answers = ["/readyz", "/healthz"].map(|path| ask(self.port, path).unwrap_or_default());
            if answers.iter().all(|answer| answer.contains(" 200 ")) {
                return;
            }
            assert!(Instant::now() < end, "the operator is not well: {answers:?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// All that it said.
    fn said(&self) -> String {
        std::fs::read_to_string(process::log(&self.namespace)).expect("a log")
    }
}

impl Drop for Tended {
    fn drop(&mut self) {
        // The process goes with the task.
        self.tender.abort();
    }
}

/// What the operator calls itself that so many came before.
fn identity(before: usize) -> String {
    match before {
        0 => "etcd".to_owned(),
        _ => format!("etcd-{before}"),
    }
}

/// Starts an operator, and the next one whenever it ends. One that has lost its lease answers until its turns are over:
/// that it ends is seen here alone.
async fn tend(namespace: String, port: u16, followers: Arc<AtomicUsize>) {
    let mut process = Process::listening(&namespace, &identity(0), port);
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        if process.ended() {
            let before = followers.fetch_add(1, Ordering::SeqCst) + 1;
            process = Process::listening(&namespace, &identity(before), port);
        }
    }
}

/// The first line of an answer of the operator.
fn ask(port: u16, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}
