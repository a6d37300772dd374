//! The cluster without nodes, with everything that makes time fast: an actor in the kubelet's place, a metric provider
//! whose answers a test dictates, and the administrator's settings.
//!
//! The settings are one object for all tests of the cluster. A test that changes them runs alone.

mod kubelet;
mod metrics;

use std::fmt::Debug;
use std::ops::Deref;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::{OnceCell, OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

pub use kubelet::{Ending, Kubelet};
pub use metrics::{Answer, queries, say};

use crate::world::{World, api, from};

static ALONE: LazyLock<Arc<RwLock<()>>> = LazyLock::new(Arc::default);
static SETTINGS: OnceCell<()> = OnceCell::const_new();

/// A namespace on the cluster without nodes, whose pods live.
pub struct Fast {
    world: World,
    pub kubelet: Kubelet,
    _turn: Turn,
}

/// Beside other tests, or alone.
enum Turn {
    Shared(#[expect(dead_code, reason = "held, never read")] OwnedRwLockReadGuard<()>),
    Alone(#[expect(dead_code, reason = "held, never read")] OwnedRwLockWriteGuard<()>),
}

impl Deref for Fast {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

/// A namespace beside those of other tests.
pub async fn fast(test: &str) -> Fast {
    let turn = Turn::Shared(ALONE.clone().read_owned().await);
    open(test, turn).await
}

/// A namespace while no other test of the cluster without nodes runs, so that the settings may change.
pub async fn alone(test: &str) -> Fast {
    // Not in the lock's queue, where it would hold up all that come after it: it begins when nobody else wants to.
    loop {
        if let Ok(turn) = ALONE.clone().try_write_owned() {
            return open(test, Turn::Alone(turn)).await;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

async fn open(test: &str, turn: Turn) -> Fast {
    let world = api(test).await;
    SETTINGS.get_or_init(|| configure(&world, json!({}))).await;
    let kubelet = Kubelet::start(&world);
    Fast {
        world,
        kubelet,
        _turn: turn,
    }
}

/// Writes the settings: those that all tests need, and these.
async fn configure(world: &World, more: Value) {
    let mut settings = json!({
        "metricProviders": [
            { "name": "fake", "url": metrics::url() },
            { "name": "dead", "url": "http://127.0.0.1:1" },
        ],
        "maxRunsPerNamespace": 4,
        "artifacts": { "uri": "s3://models/" },
    });
    let fields = settings.as_object_mut().expect("an object");
    fields.extend(more.as_object().expect("an object").clone());
    let map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "flywheel-config" },
        "data": { "config.yaml": settings.to_string() } });
    Api::<ConfigMap>::namespaced(world.client.clone(), "flywheel-system")
        .patch(
            "flywheel-config",
            &PatchParams::apply("test").force(),
            &Patch::Apply(map),
        )
        .await
        .expect("the settings are written");
}

impl Fast {
    /// Changes the administrator's settings; only for a test that runs alone.
    pub async fn settings(&self, more: Value) {
        assert!(matches!(self._turn, Turn::Alone(_)), "settings are shared: use `alone`");
        configure(&self.world, more).await;
    }

    /// A metric as this namespace sees it: what to write as query.
    pub fn query(&self, metric: &str) -> String {
        metrics::name(&self.namespace, metric)
    }

    /// An API as a person of that name uses it, who may do everything.
    pub async fn person<K>(&self, name: &str) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        let (_, mut config) = crate::world::config("FLYWHEEL_TEST_API").await;
        config.auth_info.impersonate = Some(name.to_owned());
        config.auth_info.impersonate_groups = Some(vec!["system:masters".to_owned()]);
        let client = kube::Client::try_from(config).expect("a client");
        Api::namespaced(client, &self.namespace)
    }

    /// Where the metric provider listens.
    pub fn provider(&self) -> String {
        metrics::url()
    }

    /// Changes an object's status as nobody but the administrator may.
    pub async fn rewrite<K>(&self, name: &str, change: impl Fn(&mut Value))
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug + Serialize,
    {
        loop {
            let found = self.api::<K>().get(name).await.expect("the object exists");
            let mut object = serde_json::to_value(found).expect("an object is JSON");
            change(&mut object["status"]);
            match self
                .api::<K>()
                .replace_status(name, &PostParams::default(), &from(object))
                .await
            {
                Err(kube::Error::Api(status)) if status.is_conflict() => {}
                written => return drop(written.expect("the status is written")),
            }
        }
    }

    /// Dictates the answer to that query.
    pub fn say(&self, metric: &str, answer: Answer) {
        say(&self.query(metric), answer);
    }

    /// Pods that fit, as the API server has them.
    pub async fn pods(&self, fits: impl Fn(&Pod) -> bool) -> Vec<Pod> {
        let all = self.api::<Pod>().list(&Default::default()).await.expect("pods");
        all.items.into_iter().filter(|p| fits(p)).collect()
    }

    /// Ends the test: what must hold at every moment held at every moment.
    pub async fn finish(self) {
        self.kubelet.judge();
        if let Turn::Alone(_) = self._turn {
            configure(&self.world, json!({})).await;
        }
    }
}

/// A pod of a candidate Deployment.
pub fn is_candidate(pod: &Pod) -> bool {
    let labels = pod.metadata.labels.iter().flatten();
    labels
        .into_iter()
        .any(|(k, v)| k == "flywheel.dev/role" && v == "candidate")
}

/// The value of a variable of the pod's first container.
pub fn variable(pod: &Pod, name: &str) -> Option<String> {
    let container = pod.spec.as_ref()?.containers.first()?;
    let found = container.env.iter().flatten().find(|e| e.name == name)?;
    found.value.clone()
}

/// A typed object of JSON with this name.
pub fn named<K: DeserializeOwned>(name: &str, mut object: Value) -> K {
    object["metadata"]["name"] = json!(name);
    from(object)
}
