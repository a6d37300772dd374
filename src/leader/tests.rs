use std::future::pending;
use std::sync::{Arc, Mutex};

use clap::Parser;
use http::Method;

use super::*;
use crate::testing::{NO_ANSWER, Sent, Server, refusal};

/// The one lease of a cluster, as others and we write it.
#[derive(Clone, Default)]
struct Store(Arc<Mutex<Stored>>);

#[derive(Default)]
struct Stored {
    lease: Option<Value>,
    version: u64,
    /// The API server does not answer any more.
    silent: bool,
    /// Another holder renews its lease before each look, with a clock of its own.
    renews_as: Option<i64>,
}

impl Store {
    fn lease(&self) -> Value {
        self.0.lock().unwrap().lease.clone().unwrap_or_default()
    }

    fn holder(&self) -> String {
        let lease = self.lease();
        lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned()
    }

    /// A lease of another one, renewed so many seconds from now by the times that it names.
    fn held_by_other(offset: i64) -> Self {
        let store = Self::default();
        store.0.lock().unwrap().renew(offset);
        store
    }

    fn answer(&self, sent: &Sent) -> (u16, Value) {
        let mut stored = self.0.lock().unwrap();
        if stored.silent {
            return (NO_ANSWER, Value::Null);
        }
        if let Some(offset) = stored.renews_as {
            stored.renew(offset);
        }
        match (&sent.0, stored.lease.clone()) {
            (&Method::GET, None) => refusal(404, "NotFound"),
            (&Method::GET, Some(lease)) => (200, lease),
            (&Method::POST, Some(_)) => refusal(409, "AlreadyExists"),
            (&Method::POST, None) => (201, stored.put(sent.2.clone())),
            (_, Some(mut lease)) => {
                if sent.2["metadata"]["resourceVersion"] != lease["metadata"]["resourceVersion"] {
                    return refusal(409, "Conflict");
                }
                for (field, value) in sent.2["spec"].as_object().unwrap() {
                    lease["spec"][field] = value.clone();
                }
                (200, stored.put(lease))
            }
            (_, None) => refusal(404, "NotFound"),
        }
    }
}

impl Stored {
    fn put(&mut self, mut lease: Value) -> Value {
        self.version += 1;
        lease["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.lease = Some(lease.clone());
        lease
    }

    fn renew(&mut self, offset: i64) {
        let renewed = Timestamp::now() + jiff::SignedDuration::from_secs(offset);
        self.put(json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": { "name": "flywheel", "namespace": "flywheel-system" },
            "spec": { "holderIdentity": "other", "renewTime": MicroTime(renewed), "leaseDurationSeconds": 1,
                "leaseTransitions": 3 } }));
    }
}

/// Twenty times as fast as in earnest; a lease is in whole seconds.
const FAST: Pace = Pace {
    lasts: Duration::from_secs(1),
    period: Duration::from_millis(250),
    deadline: Duration::from_millis(500),
    request: Duration::from_millis(200),
    retry: Duration::from_millis(50),
};
/// A slow machine needs so long at most.
const PATIENCE: Duration = Duration::from_mins(1);

async fn candidate(store: &Store) -> Election {
    let answers = store.clone();
    let client = Server::default().client(move |sent| answers.answer(sent));
    let args = Args::parse_from(["flywheel-operator", "--lease-name", "flywheel", "--identity", "me"]);
    stand(client, &args, FAST).await.unwrap()
}

/// Waits until this process leads, or leads no more.
async fn until(election: &mut Election, wanted: bool) {
    let changed = election.leads.wait_for(|leads| *leads == wanted);
    timeout(PATIENCE, changed).await.expect("it changes").unwrap();
}

#[tokio::test]
async fn a_lease_that_nobody_has_is_taken_kept_and_given_back() {
    let store = Store::default();
    let mut election = candidate(&store).await;
    until(&mut election, true).await;
    let version = || store.0.lock().unwrap().version;
    let before = version();
    while version() < before + 5 {
        assert!(*election.leads.borrow(), "it is renewed");
        sleep(FAST.retry).await;
    }
    election.resign().await;
    assert_eq!(store.holder(), "", "the next one need not wait");
}

#[tokio::test]
async fn a_dead_holder_whose_clock_was_an_hour_ahead_is_followed_when_its_lease_has_lasted() {
    let (store, begun) = (Store::held_by_other(3600), Instant::now());
    let mut election = candidate(&store).await;
    until(&mut election, true).await;
    assert!(begun.elapsed() >= FAST.lasts, "it might still have acted");
    assert_eq!(
        (store.holder().as_str(), &store.lease()["spec"]["leaseTransitions"]),
        ("me", &json!(4))
    );
}

#[tokio::test]
async fn a_holder_whose_clock_is_an_hour_behind_keeps_its_lease() {
    let store = Store::held_by_other(-3600);
    store.0.lock().unwrap().renews_as = Some(-3600);
    let election = candidate(&store).await;
    sleep(FAST.lasts * 4).await;
    assert!(!*election.leads.borrow());
    assert_eq!(store.holder(), "other");
}

#[tokio::test]
async fn a_renewal_that_hangs_ends_the_lead() {
    let store = Store::default();
    let mut election = candidate(&store).await;
    until(&mut election, true).await;
    store.0.lock().unwrap().silent = true;
    until(&mut election, false).await;
}

#[tokio::test]
async fn a_lease_that_another_one_took_ends_the_lead() {
    let store = Store::default();
    let mut election = candidate(&store).await;
    until(&mut election, true).await;
    store.0.lock().unwrap().renew(0);
    until(&mut election, false).await;
    sleep(FAST.period * 4).await;
    assert_eq!(store.holder(), "other", "what is another one's is not given back");
}

#[tokio::test]
async fn running_reconciles_are_finished_while_the_lease_is_held() {
    let store = Store::default();
    let mut election = candidate(&store).await;
    until(&mut election, true).await;
    let held = store.clone();
    let finished = async move {
        sleep(FAST.lasts * 2).await;
        assert_eq!(held.holder(), "me", "it is renewed meanwhile");
    };
    election.resign_after(finished, PATIENCE).await;
    assert_eq!(store.holder(), "");
}

#[tokio::test]
async fn a_reconcile_that_hangs_is_waited_for_no_longer_than_there_is_time() {
    let store = Store::default();
    let mut election = candidate(&store).await;
    until(&mut election, true).await;
    let ended = election.resign_after(pending(), FAST.period);
    timeout(PATIENCE, ended).await.expect("it is given up");
    assert_eq!(store.holder(), "");
}

#[tokio::test]
async fn after_a_lost_lease_reconciles_get_no_time() {
    let store = Store::default();
    let mut election = candidate(&store).await;
    until(&mut election, true).await;
    store.0.lock().unwrap().renew(0);
    until(&mut election, false).await;
    let ended = election.resign_after(pending(), PATIENCE * 2);
    timeout(PATIENCE, ended).await.expect("another one is about to act");
    assert_eq!(store.holder(), "other");
}

#[tokio::test]
async fn a_lease_that_is_lost_while_reconciles_are_finished_ends_their_time() {
    let store = Store::default();
    let mut election = candidate(&store).await;
    until(&mut election, true).await;
    let taken = store.clone();
    let finished = async move {
        taken.0.lock().unwrap().renew(0);
        pending::<()>().await;
    };
    let ended = election.resign_after(finished, PATIENCE * 2);
    timeout(PATIENCE, ended).await.expect("another one is about to act");
    assert_eq!(store.holder(), "other");
}
