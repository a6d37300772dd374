//! Who leads: two operators that both act, a leader that was frozen and wakes up beside its successor, and one whose
//! renewals hang. The lease only saves work, so the end is the one with one operator. And one that is asked to end before
//! it stands for election.

use std::time::{Duration, Instant};

use flywheel_api::Rollout;
use futures::future::join_all;
use http::StatusCode;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};
use tokio::sync::Mutex;

use super::picture::Picture;
use super::process::{LEASE, Process, SYSTEM};
use super::proxy::{Plan, Proxy};
use super::story::{Ended, STORIES, Story};
use super::{End, HEARD, Normal, REST, normal, told};
use crate::fast::fast;
use crate::world::PATIENCE;

/// Operators that stand for election have one lease for all of them: one test at a time.
pub static ONE_LEASE: Mutex<()> = Mutex::const_new(());
/// What takes a few moments on a machine that has nothing else to do.
pub const MOMENTS: Duration = Duration::from_secs(60 * PATIENCE);
/// Part of the time for which a leader acts without a renewal.
const WHILE: Duration = Duration::from_secs(4);

/// Waits until this one leads.
pub async fn holds(client: &Client, identity: &str) {
    let leases: Api<Lease> = Api::namespaced(client.clone(), SYSTEM);
    let held = async {
        loop {
            let lease = leases.get_opt(LEASE).await.expect("an answer");
            let holder = lease.and_then(|l| l.spec?.holder_identity);
            if holder.as_deref() == Some(identity) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let held = tokio::time::timeout(MOMENTS, held).await;
    assert!(held.is_ok(), "{identity} does not lead");
}

/// At rest the story looks as it does without faults; the operator that acts is not needed any more.
async fn ends_as(normal: &Normal, ended: Ended, operator: Process) {
    let over = Instant::now();
    loop {
        tokio::time::sleep(REST).await;
        let picture = Picture::take(&ended).await;
        let differs = normal.picture.differs(&picture);
        if differs.is_none() || over.elapsed() > HEARD {
            assert_eq!(differs, None);
            break;
        }
    }
    drop(operator);
    ended.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_two_operators_that_both_act_end_every_story_as_one_does() {
    let all = STORIES.map(|story| async move {
        let normal = normal(story).await;
        let name = format!("fault-{story:?}-both").to_lowercase();
        let is_due = |end: &End| normal.picture.differs(&end.picture).is_none();
        let mut end = told(story, name, vec![Plan::default(), Plan::default()], is_due).await;
        assert_eq!(normal.picture.differs(&end.picture), None, "{story:?}");
        let mut made = normal.made.clone();
        for all in [&mut made, &mut end.made] {
            // Both may delete the same object, which is one deletion.
            all.sort();
            all.dedup();
        }
        assert_eq!(end.made, made, "{story:?}");
        println!(
            "covered: {story:?} with two operators: {} writes, {} of one",
            end.writes, normal.writes
        );
    });
    join_all(all).await;
}

/// Waits until the first Rollout is known to the operator: the story is in its middle.
async fn delivers(client: &Client, namespace: &str) {
    let rollouts: Api<Rollout> = Api::namespaced(client.clone(), namespace);
    let known = async {
        loop {
            let all = rollouts.list(&kube::api::ListParams::default()).await.expect("a list");
            if all.items.iter().any(|r| r.status.is_some()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let known = tokio::time::timeout(MOMENTS, known).await;
    assert!(known.is_ok(), "no Rollout has begun");
}

/// Who lost the lease ends by itself, so that it begins anew as one that waits.
pub async fn ends(process: &mut Process) {
    let ended = async {
        while !process.ended() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let ended = tokio::time::timeout(MOMENTS, ended).await;
    assert!(ended.is_ok(), "it still runs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_a_frozen_leader_that_wakes_up_beside_its_successor_changes_nothing() {
    let _alone = ONE_LEASE.lock().await;
    let normal = normal(Story::RolledBack).await;
    let fast = fast("fault-frozen").await;
    let (client, namespace) = (fast.client.clone(), fast.namespace.clone());
    let mut first = Process::elected(&namespace, "first", None);
    holds(&client, "first").await;
    let second = Process::elected(&namespace, "second", None);
    let freeze = async {
        delivers(&client, &namespace).await;
        first.freeze();
        holds(&client, "second").await;
        // It believes that it leads, and what it was sending is still on its way.
        first.thaw();
        ends(&mut first).await;
    };
    let (ended, ()) = tokio::join!(Story::RolledBack.tell(fast), freeze);
    ends_as(normal, ended, second).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_a_leader_whose_renewal_hangs_ends_and_what_hung_changes_nothing() {
    let _alone = ONE_LEASE.lock().await;
    let normal = normal(Story::RolledBack).await;
    let fast = fast("fault-hung").await;
    let (client, namespace) = (fast.client.clone(), fast.namespace.clone());
    let (proxy, address, _deaths) = Proxy::listen(Plan::default()).await;
    let mut first = Process::elected(&namespace, "third", Some(address));
    holds(&client, "third").await;
    let second = Process::elected(&namespace, "fourth", None);
    // Only its renewals: whatever else it does, it still can.
    proxy.hold_leases(true);
    // It goes on for a while, so that the story's middle sees its end.
    tokio::time::sleep(WHILE).await;
    let hang = async {
        ends(&mut first).await;
        holds(&client, "fourth").await;
        proxy.hold_leases(false);
        let late = || async { Some(proxy.held()).filter(|held| !held.is_empty()) };
        let held = crate::world::until("what hung arrives", MOMENTS.as_secs(), late).await;
        assert!(
            held.iter().all(|status| *status == StatusCode::CONFLICT),
            "{held:?}: a late renewal does not count"
        );
        holds(&client, "fourth").await;
    };
    let (ended, ()) = tokio::join!(Story::RolledBack.tell(fast), hang);
    ends_as(normal, ended, second).await;
}

#[tokio::test]
async fn fault_an_operator_that_is_asked_to_end_while_it_reads_its_settings_ends_at_once() {
    // It takes connections and never answers.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = silent.local_addr().expect("an address");
    let mut process = Process::elected("fault-early", "early", Some(address));
    let asked = tokio::time::timeout(MOMENTS, silent.accept()).await;
    let _connection = asked.expect("it asks for its settings").expect("a connection");
    process.terminate();
    ends(&mut process).await;
    // By a signal that nobody listens for, the first process of a container does not end at all.
    assert!(process.ended_well(), "it did not listen yet");
}
