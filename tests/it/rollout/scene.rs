//! The stage on which Rollouts are tested: a serving Deployment and versions that want its place.

use std::ops::Deref;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use flywheel_api::{ModelVersion, Rollout};
use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::watcher;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::fast::{Fast, named, variable};
use crate::world::{self, condition};

/// Seconds in which the machine does what it is asked for, if it has nothing else to do.
pub const PATIENCE: u64 = 60;

/// A serving Deployment `web` with versions of the model `eta`.
pub struct Scene {
    fast: Fast,
}

impl Deref for Scene {
    type Target = Fast;

    fn deref(&self) -> &Fast {
        &self.fast
    }
}

/// Value of the binding for the n-th version.
pub fn uri(n: u32) -> String {
    format!("s3://models/eta/{n}")
}

/// A scene in which `web` serves `eta-1` with that many ready pods.
pub async fn scene(fast: Fast, replicas: i32) -> Scene {
    let scene = Scene { fast };
    for n in 1..=2 {
        scene.version(n, &uri(n)).await;
    }
    scene.deploy(&web(replicas, Some(&uri(1)))).await;
    scene.serves(replicas).await;
    scene.kubelet.floor("web", usize::try_from(replicas).expect("a count"));
    scene
}

/// A Deployment that never has fewer pods than it should.
pub fn web(replicas: i32, value: Option<&str>) -> Value {
    let mut container = json!({ "name": "app", "image": "example/web:1" });
    if let Some(value) = value {
        container["env"] = json!([{ "name": "MODEL_URI", "value": value }]);
    }
    json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" }, "spec": {
        "replicas": replicas,
        "selector": { "matchLabels": { "app": "web" } },
        "strategy": { "type": "RollingUpdate", "rollingUpdate": { "maxSurge": "100%", "maxUnavailable": 0 } },
        "template": {
            "metadata": { "labels": { "app": "web" } },
            "spec": { "terminationGracePeriodSeconds": 0, "containers": [container] } } } })
}

/// One step without conditions.
pub fn step(name: &str, weight: i32) -> Value {
    json!({ "name": name, "weight": weight })
}

/// A step that is only left by hand.
pub fn long(name: &str, weight: i32) -> Value {
    json!({ "name": name, "weight": weight, "minDuration": "1h" })
}

/// A plan for `web` with these steps and these further fields.
pub fn plan(steps: &[Value], more: Value) -> Value {
    let mut plan = json!({
        "targetRef": { "kind": "Deployment", "name": "web" },
        "binding": { "type": "DeploymentEnv", "container": "app", "name": "MODEL_URI" },
        "strategy": { "steps": steps },
    });
    let fields = plan.as_object_mut().expect("an object");
    fields.extend(more.as_object().expect("an object").clone());
    plan
}

/// Whether the object has this condition, whatever its reason.
pub fn is(object: &Value, type_: &str, status: &str) -> bool {
    let all = object["status"]["conditions"].as_array().into_iter().flatten();
    all.into_iter().any(|c| c["type"] == type_ && c["status"] == status)
}

/// The message of a condition.
pub fn message(object: &Value, type_: &str) -> String {
    let mut all = object["status"]["conditions"].as_array().into_iter().flatten();
    let found = all.find(|c| c["type"] == type_);
    found.map_or_else(String::new, |c| c["message"].as_str().unwrap_or_default().to_owned())
}

/// Reasons of the decisions, in their order.
pub fn decisions(object: &Value) -> Vec<String> {
    let all = object["status"]["decisions"].as_array().into_iter().flatten();
    all.map(|d| format!("{}/{}", d["decision"], d["reason"]).replace('"', ""))
        .collect()
}

/// Every state of one Rollout, in their order: for what lasts for a moment.
pub struct Seen {
    states: Arc<Mutex<Vec<Value>>>,
    task: JoinHandle<()>,
}

impl Drop for Seen {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Seen {
    /// The first state of which this is true.
    pub fn first(&self, fact: impl Fn(&Value) -> bool) -> Option<Value> {
        let states = self.states.lock().expect("nobody panics");
        states.iter().find(|state| fact(state)).cloned()
    }
}

impl Scene {
    /// Looks at every state of a Rollout from now on.
    pub fn look(&self, name: &str) -> Seen {
        let states = Arc::new(Mutex::new(Vec::new()));
        let of_name = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let (mut events, noted) = (Box::pin(watcher(self.api::<Rollout>(), of_name)), states.clone());
        let task = tokio::spawn(async move {
            while let Some(event) = events.next().await {
                if let Ok(watcher::Event::Apply(found) | watcher::Event::InitApply(found)) = event {
                    let state = serde_json::to_value(found).expect("JSON");
                    noted.lock().expect("nobody panics").push(state);
                }
            }
        });
        Seen { states, task }
    }

    /// Registers a version by hand.
    pub async fn version(&self, n: u32, uri: &str) {
        let digest = format!("sha256:{}", format!("{n}").repeat(64));
        let object =
            json!({ "spec": { "modelName": "eta", "version": n, "artifact": { "uri": uri, "digest": digest } } });
        self.apply::<ModelVersion>(&format!("eta-{n}"), object)
            .await
            .expect("accepted");
    }

    /// Applies the Deployment's manifest as its owner does.
    pub async fn deploy(&self, manifest: &Value) {
        let name = manifest["metadata"]["name"].as_str().expect("a name").to_owned();
        self.apply::<Deployment>(&name, manifest.clone())
            .await
            .expect("accepted");
    }

    /// Changes one object as a person does with an editor.
    pub async fn edit<K>(&self, name: &str, patch: Value)
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + serde::de::DeserializeOwned
            + std::fmt::Debug,
    {
        let params = PatchParams {
            field_manager: Some("person".to_owned()),
            ..PatchParams::default()
        };
        self.api::<K>()
            .patch(name, &params, &Patch::Strategic(patch))
            .await
            .expect("accepted");
    }

    /// Sets the binding of `web` by hand.
    pub async fn set(&self, value: &str) {
        let container = json!({ "name": "app", "env": [{ "name": "MODEL_URI", "value": value }] });
        self.edit::<Deployment>(
            "web",
            json!({ "spec": { "template": { "spec": { "containers": [container] } } } }),
        )
        .await;
    }

    /// Scales `web` as a person or an autoscaler does.
    pub async fn scale(&self, replicas: i32) {
        self.edit::<Deployment>("web", json!({ "spec": { "replicas": replicas } }))
            .await;
    }

    /// Begins a Rollout of that version; the third one comes into being with it.
    pub async fn roll(&self, name: &str, version: &str, plan: Value) {
        if version == "eta-3" {
            self.version(3, &uri(3)).await;
        }
        let rollout: Rollout = named(
            name,
            json!({ "spec": { "modelVersionRef": { "name": version }, "plan": plan } }),
        );
        self.api::<Rollout>()
            .create(&PostParams::default(), &rollout)
            .await
            .expect("accepted");
    }

    /// Says what is wanted of a Rollout.
    pub async fn want(&self, name: &str, state: &str) {
        let patch = json!({ "spec": { "desiredState": state, "holdReason": "asked by a test" } });
        self.api::<Rollout>()
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .expect("accepted");
    }

    /// Waits until the Rollout is in that phase.
    pub async fn phase(&self, name: &str, phase: &str) -> Value {
        self.until::<Rollout>(name, PATIENCE, phase, |o| o["status"]["phase"] == phase)
            .await
    }

    /// Waits until the Rollout waits for that at its step.
    pub async fn held(&self, name: &str, reason: &str) -> Value {
        self.until::<Rollout>(name, PATIENCE, reason, |o| o["status"]["step"]["holdReason"] == reason)
            .await
    }

    /// Waits until the Rollout has ended so.
    pub async fn ended(&self, name: &str, outcome: &str) -> Value {
        let fact = |o: &Value| condition(o, "Complete", "True", outcome) && o["status"]["phase"] == outcome;
        self.until::<Rollout>(name, PATIENCE, outcome, fact).await
    }

    /// Waits until all pods of `web` are ready, and no others are left.
    pub async fn serves(&self, replicas: i32) -> Value {
        self.until::<Deployment>("web", PATIENCE, "serving", |o| {
            let counts = ["replicas", "updatedReplicas", "readyReplicas", "availableReplicas"];
            let counted = |c: &str| o["status"][c].as_i64().unwrap_or(0) == i64::from(replicas);
            o["status"]["observedGeneration"] == o["metadata"]["generation"] && counts.iter().all(|c| counted(c))
        })
        .await
    }

    /// Waits until so many pods carry that version. Those of a candidate go some time after its Deployment.
    pub async fn serve_version(&self, n: u32, count: usize) {
        let what = format!("{count} pods with version {n}");
        world::until(&what, PATIENCE * world::PATIENCE, || async {
            let pods = self.pods(|p| variable(p, "MODEL_URI") == Some(uri(n))).await;
            (pods.len() == count).then_some(())
        })
        .await;
    }

    /// The value that `web` carries.
    pub async fn value(&self) -> Option<String> {
        let web = self.api::<Deployment>().get("web").await.expect("the target exists");
        let container = web.spec?.template.spec?.containers.into_iter().next()?;
        container.env?.into_iter().find(|e| e.name == "MODEL_URI")?.value
    }

    /// The candidate's replicas, if there is a candidate.
    pub async fn candidate(&self) -> Option<i32> {
        let found = self.api::<Deployment>().get_opt("web-candidate").await;
        found.expect("the API server answers").and_then(|d| d.spec?.replicas)
    }

    /// Waits until nothing of that name is left.
    pub async fn gone<K>(&self, name: &str)
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + serde::de::DeserializeOwned
            + std::fmt::Debug,
    {
        let end = Instant::now() + Duration::from_secs(PATIENCE * world::PATIENCE);
        loop {
            let found = self.api::<K>().get_opt(name).await.expect("the API server answers");
            let Some(found) = found else { return };
            let uid = found.uid();
            assert!(Instant::now() < end, "{name} {uid:?} is still there: {found:#?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Deletes a Rollout.
    pub async fn delete(&self, name: &str, params: &DeleteParams) {
        self.api::<Rollout>().delete(name, params).await.expect("deleted");
    }

    /// Ends the test: the target serves this value alone with that many pods, nothing is left behind, and there were
    /// never too few ready pods.
    pub async fn finish(self, value: Option<&str>, replicas: i32) {
        self.gone::<Deployment>("web-candidate").await;
        self.serves(replicas).await;
        assert_eq!(self.value().await.as_deref(), value);
        self.fast.finish().await;
    }

    /// Ends a test whose target is not `web` any more.
    pub async fn judge(self) {
        self.fast.finish().await;
    }
}

/// Nothing happens for that long; for what must not happen.
pub async fn calm(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}
