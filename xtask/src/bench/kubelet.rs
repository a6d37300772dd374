//! A fast actor in the kubelet's place: the pod of a stage ends well as soon as it is there.

use anyhow::{Context as _, Result};
use flywheel_api::names;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::bed::Bed;

/// Pods that are written to at the same time.
const AT_ONCE: usize = 16;

/// The actor; it stops when this is dropped.
pub struct Kubelet(JoinHandle<()>);

impl Kubelet {
    /// Takes care of the stages of all namespaces.
    pub fn start(bed: &Bed) -> Self {
        Self(bed.beside(run(bed.client.clone())))
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn run(client: Client) {
    let pods = watcher(Api::<Pod>::all(client.clone()), watcher::Config::default()).default_backoff();
    let ends = pods.applied_objects().for_each_concurrent(AT_ONCE, |pod| {
        let client = client.clone();
        async move {
            let Ok(pod) = pod else { return };
            // A pod that has just gone needs no status; of another failure the measurement says that it takes too long.
            if let Err(error) = end(client, &pod).await {
                eprintln!("{error:#}");
            }
        }
    });
    ends.await;
}

async fn end(client: Client, pod: &Pod) -> Result<()> {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let ended = matches!(phase, Some("Succeeded" | "Failed"));
    let Some(file) = pod.annotations().get(names::ANNOTATION_STAGE).filter(|_| !ended) else {
        return Ok(());
    };
    let file: Value = serde_json::from_str(file).context("a stage file that is no JSON")?;
    let now = jiff::Timestamp::now();
    let message = result(&file).to_string();
    let state = json!({ "terminated": { "exitCode": 0, "reason": "Completed", "message": message,
        "startedAt": now, "finishedAt": now } });
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let containers: Vec<Value> = containers
        .map(|container| {
            json!({ "name": container.name, "image": container.image, "ready": false, "restartCount": 0,
                "imageID": format!("sha256:{}", "e".repeat(64)), "state": state })
        })
        .collect();
    let status = json!({ "status": { "phase": "Succeeded", "containerStatuses": containers } });
    let api: Api<Pod> = Api::namespaced(client, &pod.namespace().unwrap_or_default());
    let name = pod.name_any();
    let patched = api
        .patch_status(&name, &PatchParams::default(), &Patch::Merge(status))
        .await;
    patched.map(drop).with_context(|| format!("cannot end the pod {name}"))
}

/// What a stage that does its work reports.
fn result(file: &Value) -> Value {
    let mut result = json!({ "apiVersion": file.get("apiVersion"), "id": file.get("id") });
    let (key, value) = if file.get("type").and_then(Value::as_str) == Some("Train") {
        let output = file.pointer("/output/uri").and_then(Value::as_str).unwrap_or_default();
        let digest = format!("sha256:{}", "ab".repeat(32));
        let model = json!({ "name": "model", "type": "Model", "uri": format!("{output}/model"), "digest": digest });
        ("artifacts", model)
    } else {
        let metric = json!({ "name": "mae", "value": 1.0, "samples": 1000, "low": 0.9, "high": 1.1, "level": 0.95 });
        ("metrics", metric)
    };
    if let Some(fields) = result.as_object_mut() {
        fields.insert(key.to_owned(), json!([value]));
    }
    result
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::result;

    #[test]
    fn a_stage_that_trains_reports_a_model_and_another_one_a_metric() {
        let file = json!({ "apiVersion": "v", "id": "i", "type": "Train", "output": { "uri": "s3://models/1" } });
        assert_eq!(result(&file)["artifacts"][0]["uri"], "s3://models/1/model");
        let file = json!({ "apiVersion": "v", "id": "i", "type": "Evaluate" });
        assert_eq!(
            (&result(&file)["metrics"][0]["name"], &result(&file)["id"]),
            (&json!("mae"), &json!("i"))
        );
    }
}
