//! The operator as a test may treat it: killed without warning, or kept down for a while.
//!
//! `FLYWHEEL_TEST_OPERATOR` is `deployment:<namespace>/<name>`. Tests that keep it down do so one after the other; all
//! other tests must bear that.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use futures::FutureExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Resource};
use serde_json::json;
use tokio::sync::Mutex;

use crate::world::World;

static DOWN: Mutex<()> = Mutex::const_new(());
const PATIENCE: Duration = Duration::from_secs(300);

/// Namespace and name of the operator's Deployment.
fn deployment() -> (String, String) {
    let text =
        std::env::var("FLYWHEEL_TEST_OPERATOR").expect("FLYWHEEL_TEST_OPERATOR is not set: run `cargo xtask test`");
    let name = text.strip_prefix("deployment:").and_then(|rest| rest.split_once('/'));
    let (namespace, name) =
        name.unwrap_or_else(|| panic!("FLYWHEEL_TEST_OPERATOR is {text}: expected deployment:<namespace>/<name>"));
    (namespace.to_owned(), name.to_owned())
}

/// Kills the operator that acts, without a chance to finish anything or to give its lease back.
pub async fn kill(world: &World) {
    let _alone = DOWN.lock().await;
    let (namespace, name) = deployment();
    // The chart gives the lease the name of the Deployment.
    let leases: Api<Lease> = Api::namespaced(world.client.clone(), &namespace);
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), &namespace);
    // After a kill the lease names the dead one until it expires.
    let leader = wait("a pod of the operator leads", || async {
        let holder = leases.get_opt(&name).await.ok()??.spec?.holder_identity?;
        let pod = pods.get_opt(&holder).await.ok()??;
        pod.meta().deletion_timestamp.is_none().then_some(holder)
    })
    .await;
    let at_once = DeleteParams::default().grace_period(0);
    pods.delete(&leader, &at_once).await.expect("the leader is killed");
}

/// Does something while the operator is down, and brings it up again whatever comes of it.
pub async fn while_down<T>(world: &World, act: impl Future<Output = T>) -> T {
    let _alone = DOWN.lock().await;
    let (namespace, name) = deployment();
    let all: Api<Deployment> = Api::namespaced(world.client.clone(), &namespace);
    let before = all.get(&name).await.expect("the operator's Deployment");
    let replicas = before.spec.and_then(|s| s.replicas).unwrap_or(1);
    scale(world, &namespace, &name, 0).await;
    let outcome = AssertUnwindSafe(act).catch_unwind().await;
    scale(world, &namespace, &name, replicas).await;
    outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

async fn scale(world: &World, namespace: &str, name: &str, replicas: i32) {
    let all: Api<Deployment> = Api::namespaced(world.client.clone(), namespace);
    let body = json!({ "spec": { "replicas": replicas } });
    all.patch(name, &PatchParams::default(), &Patch::Merge(body))
        .await
        .expect("the operator can be scaled");
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), namespace);
    wait("the operator is scaled", || async {
        let found = all.get(name).await.ok()?;
        let selector = found.spec?.selector.match_labels?;
        let selector: Vec<String> = selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let pods = pods
            .list(&ListParams::default().labels(&selector.join(",")))
            .await
            .ok()?;
        let ready = found.status.and_then(|s| s.ready_replicas).unwrap_or(0);
        let settled = pods.items.iter().all(|pod| pod.meta().deletion_timestamp.is_none());
        let count = i32::try_from(pods.items.len()).ok()?;
        (settled && count == replicas && ready == replicas).then_some(())
    })
    .await;
}

async fn wait<T, F: Future<Output = Option<T>>>(what: &str, look: impl Fn() -> F) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < end, "not after {} s: {what}", PATIENCE.as_secs());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
