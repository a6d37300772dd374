//! Who leads: two operators that both act, and a leader that was frozen and wakes up beside its successor. The lease only
//! saves work, so the end is the one with one operator.

use std::time::Duration;

use flywheel_api::Rollout;
use futures::future::join_all;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};

use super::picture::Picture;
use super::process::{LEASE, Process, SYSTEM};
use super::story::{STORIES, Story};
use super::{REST, normal, told};
use crate::fast::fast;
use crate::world::PATIENCE;

/// What takes a few moments on a machine that has nothing else to do.
const MOMENTS: Duration = Duration::from_secs(60 * PATIENCE);

async fn holds(client: &Client, identity: &str) {
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_two_operators_that_both_act_end_every_story_as_one_does() {
    let all = STORIES.map(|story| async move {
        let normal = normal(story).await;
        let name = format!("fault-{story:?}-both").to_lowercase();
        let mut end = told(story, name, vec![Vec::new(), Vec::new()]).await;
        assert_eq!(normal.picture.differs(&end.picture), None, "{story:?}");
        let mut made = normal.made.clone();
        for all in [&mut made, &mut end.made] {
            // Both may delete the same object, which is one deletion.
            all.sort();
            all.dedup();
        }
        assert_eq!(end.made, made, "{story:?}");
        println!(
            "{story:?}: {} writes of two operators, {} of one",
            end.writes, normal.writes
        );
    });
    join_all(all).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_a_frozen_leader_that_wakes_up_beside_its_successor_changes_nothing() {
    let normal = normal(Story::RolledBack).await;
    let fast = fast("fault-frozen").await;
    let (client, namespace) = (fast.client.clone(), fast.namespace.clone());
    let mut first = Process::elected(&namespace, "first");
    holds(&client, "first").await;
    let _second = Process::elected(&namespace, "second");
    let freeze = async {
        let rollouts: Api<Rollout> = Api::namespaced(client.clone(), &namespace);
        loop {
            let all = rollouts.list(&kube::api::ListParams::default()).await.expect("a list");
            if all.items.iter().any(|r| r.status.is_some()) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        first.freeze();
        holds(&client, "second").await;
        // It believes that it leads, and what it was sending is still on its way.
        first.thaw();
        let ends = async {
            while !first.ended() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let ended = tokio::time::timeout(MOMENTS, ends).await;
        assert!(
            ended.is_ok(),
            "who lost the lease ends, so that it begins anew as one that waits"
        );
    };
    let (ended, ()) = tokio::join!(Story::RolledBack.tell(fast), freeze);
    tokio::time::sleep(REST).await;
    let picture = Picture::take(&ended).await;
    assert_eq!(normal.picture.differs(&picture), None);
    ended.finish().await;
}
