//! What all cluster tests share: a namespace of its own, apply, and waiting for a fact with a deadline.

use std::fmt::Debug;
use std::future::Future;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::watch_object;
use kube::{Api, Client, Config, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::trace::Trace;

/// Deadlines are written for a machine that does nothing else. How fast it is proves nothing: a busy one gets this many
/// times as long.
pub const PATIENCE: u64 = 4;

/// A namespace on a cluster. When it is dropped at the end of a test, its history is judged.
pub struct World {
    pub client: Client,
    pub namespace: String,
    _trace: Option<Trace>,
}

/// The cluster without nodes.
pub async fn api(test: &str) -> World {
    World::new("FLYWHEEL_TEST_API", test, None).await
}

/// The cluster with a node; the namespace enforces Pod Security "restricted".
pub async fn node(test: &str) -> World {
    World::new("FLYWHEEL_TEST_FULL", test, Some("restricted")).await
}

/// The administrator's kubeconfig of a cluster, and the way that it describes.
pub async fn config(cluster: &str) -> (String, Config) {
    let variable = format!("{cluster}_KUBECONFIG");
    let file = std::env::var(&variable).unwrap_or_else(|_| panic!("{variable} is not set: run `cargo xtask test`"));
    let kubeconfig = Kubeconfig::read_from(&file).expect("the kubeconfig can be read");
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .expect("the kubeconfig is whole");
    (file, config)
}

impl World {
    async fn new(cluster: &str, test: &str, security: Option<&str>) -> Self {
        let (file, config) = config(cluster).await;
        let client = Client::try_from(config).expect("a client");
        let name = format!("{test}-{}", std::process::id());
        let trace = Trace::begin(&format!("{cluster}_AUDIT_LOG"), &file, &name);
        let labels = security
            .map(|s| json!({ "pod-security.kubernetes.io/enforce": s }))
            .unwrap_or(json!({}));
        let namespace: Namespace = from(json!({ "metadata": { "name": name, "labels": labels } }));
        Api::all(client.clone())
            .create(&PostParams::default(), &namespace)
            .await
            .expect("a namespace");
        Self {
            client,
            namespace: name,
            _trace: trace,
        }
    }

    pub fn api<K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Server-side apply, as `kubectl apply --server-side` does it.
    pub async fn apply<K>(&self, name: &str, object: Value) -> Result<K, kube::Error>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug + Serialize,
    {
        let mut object = object;
        object["apiVersion"] = json!(K::api_version(&()));
        object["kind"] = json!(K::kind(&()));
        object["metadata"]["name"] = json!(name);
        self.api::<K>()
            .patch(name, &PatchParams::apply("test").force(), &Patch::Apply(object))
            .await
    }

    /// Waits until the fact holds; fails with the object's status after [`PATIENCE`] times that many seconds.
    pub async fn until<K>(&self, name: &str, seconds: u64, what: &str, fact: impl Fn(&Value) -> bool) -> Value
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + DeserializeOwned
            + Debug
            + Serialize
            + Send
            + 'static,
    {
        let seconds = seconds * PATIENCE;
        let mut last = Value::Null;
        // Watched, not asked for again and again: that would be a good part of the API server's work.
        let holds = async {
            let mut states = pin!(watch_object(self.api::<K>(), name).default_backoff());
            while let Some(state) = states.next().await {
                let Ok(found) = state else { continue };
                last = serde_json::to_value(&found).expect("an object is JSON");
                if found.is_some() && fact(&last) {
                    return;
                }
            }
        };
        if tokio::time::timeout(Duration::from_secs(seconds), holds).await.is_err() {
            panic!(
                "{} {name}: not {what} after {seconds} s: {:#}",
                K::kind(&()),
                last["status"]
            );
        }
        last
    }
}

/// A typed object of JSON.
pub fn from<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).expect("a whole object")
}

/// The condition of this type has this status and reason.
pub fn condition(object: &Value, type_: &str, status: &str, reason: &str) -> bool {
    object["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|c| c["type"] == type_ && c["status"] == status && c["reason"] == reason)
}

/// A pipeline without rollout, with two stages of the given image.
pub fn pipeline(model: &str, image: &str) -> Value {
    json!({ "spec": {
        "automationLevel": "FullyAutomated",
        "model": { "name": model },
        "artifacts": { "uri": "pvc://artifacts/store" },
        "stages": [
            { "name": "train", "type": "Train", "image": image, "args": ["train"], "runAsUser": 65532 },
            { "name": "evaluate", "type": "Evaluate", "image": image, "args": ["evaluate"], "runAsUser": 65532 }
        ],
        "gates": [{ "name": "error", "metric": "mae", "compareTo": "Constant", "max": "5" }]
    }})
}

/// A run that a user asks for.
pub fn run(pipeline: &str) -> Value {
    json!({ "spec": { "pipelineRef": { "name": pipeline }, "requestedBy": "admin" } })
}

/// Looks again and again until something is found.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, seconds: u64, look: impl Fn() -> F) -> T {
    let end = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < end, "not after {seconds} s: {what}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// A policy: one region may be off by little more than the other.
pub fn gap() -> Value {
    json!({ "spec": { "protectedAttributes": [{ "name": "region", "groups": ["north", "south"] }],
        "objectives": [{ "name": "gap", "metric": "mae", "compare": "Difference", "limit": { "max": "0.2" } }] } })
}
