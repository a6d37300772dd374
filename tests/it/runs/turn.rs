//! A loop whose stages are acted: what they report is dictated by the test.

use std::ops::Deref;

use flywheel_api::{Approval, FlywheelPipeline, FlywheelRun};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::fast::{Ending, Fast, named};
use crate::rollout::scene::{PATIENCE, plan, step, web};
use crate::world::{condition, pipeline, run};

/// A namespace with a pipeline `eta`.
pub struct Turn {
    fast: Fast,
}

impl Deref for Turn {
    type Target = Fast;

    fn deref(&self) -> &Fast {
        &self.fast
    }
}

/// A pipeline `eta` with these changes of its spec, whose stages end well.
pub async fn turn(fast: Fast, changes: Value) -> Turn {
    let turn = Turn { fast };
    turn.kubelet.stages(well);
    turn.pipeline("eta", changes).await;
    turn
}

/// A delivery to `web` in one step.
pub fn delivery() -> Value {
    plan(&[step("half", 50)], json!({}))
}

/// A policy that what [`evaluated`] reports keeps: one region may be off by more than the other, but not by much.
pub fn fair() -> Value {
    json!({ "spec": { "modelSelector": { "matchLabels": { "team": "eta" } },
        "protectedAttributes": [{ "name": "region", "groups": ["north", "south"] }],
        "objectives": [{ "name": "gap", "metric": "mae", "compare": "Difference", "limit": { "max": "2" } }] } })
}

/// What a stage that does its work reports.
pub fn well(file: &Value) -> Ending {
    match file["type"].as_str() {
        Some("Train") => trained(file),
        _ => evaluated(file, 1.0, -0.5),
    }
}

/// A model and the dataset that it was made of.
pub fn trained(file: &Value) -> Ending {
    let digest = format!("sha256:{}", "ab".repeat(32));
    let uri = |name: &str| format!("{}/{name}", file["output"]["uri"].as_str().expect("an output"));
    ended(
        json!({ "apiVersion": file["apiVersion"], "id": file["id"], "artifacts": [
        { "name": "model", "type": "Model", "uri": uri("model"), "digest": digest },
        { "name": "rows", "type": "Dataset", "uri": uri("rows"), "digest": digest, "records": 1000 } ] }),
    )
}

/// This error, and this difference from the live version where one was given.
pub fn evaluated(file: &Value, error: f64, difference: f64) -> Ending {
    let live = file["inputs"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|i| i["role"] == "LiveVersion");
    let mut metric = json!({ "name": "mae", "value": error, "samples": 1000, "low": error - 0.1, "high": error + 0.1,
        "level": 0.95 });
    if let Some(live) = live {
        metric["baseline"] = json!({ "version": live["version"], "value": error - difference, "difference": difference,
            "low": difference - 0.1, "high": difference + 0.1 });
    }
    let groups = json!([{ "attribute": "region", "metric": "mae", "level": 0.95,
        "columns": ["group", "value", "samples", "low", "high"],
        "rows": [["north", error, 500, error - 0.1, error + 0.1], ["south", error + 0.5, 500, error + 0.4, error + 0.6]] }]);
    ended(json!({ "apiVersion": file["apiVersion"], "id": file["id"], "metrics": [metric], "groups": groups }))
}

fn ended(result: Value) -> Ending {
    Ending::Exit(0, result.to_string())
}

/// The stage of this name runs on; the others end well.
pub fn until(stage: &'static str) -> impl Fn(&Value) -> Ending + Send {
    move |file| {
        if file["stage"] == stage {
            Ending::Runs
        } else {
            well(file)
        }
    }
}

impl Turn {
    /// Applies a pipeline with these changes of its spec.
    pub async fn pipeline(&self, name: &str, changes: Value) {
        let mut object = pipeline(name, "example/stage:1");
        let fields = object["spec"].as_object_mut().expect("an object");
        fields.extend(changes.as_object().expect("an object").clone());
        self.apply::<FlywheelPipeline>(name, object).await.expect("accepted");
    }

    /// Changes the pipeline `eta`.
    pub async fn change(&self, spec: Value) {
        let patch = Patch::Merge(json!({ "spec": spec }));
        self.api::<FlywheelPipeline>()
            .patch("eta", &PatchParams::default(), &patch)
            .await
            .expect("accepted");
    }

    /// Asks for a run of the pipeline `eta`.
    pub async fn ask(&self, name: &str) {
        self.apply::<FlywheelRun>(name, run("eta")).await.expect("accepted");
    }

    /// Cancels a run.
    pub async fn cancel(&self, name: &str) {
        let patch = Patch::Merge(json!({ "spec": { "desiredState": "Cancel" } }));
        self.api::<FlywheelRun>()
            .patch(name, &PatchParams::default(), &patch)
            .await
            .expect("accepted");
    }

    /// Waits until the run has ended so.
    pub async fn ended(&self, name: &str, outcome: &str) -> Value {
        let fact = |o: &Value| condition(o, "Complete", "True", outcome);
        self.until::<FlywheelRun>(name, PATIENCE, outcome, fact).await
    }

    /// Waits until that stage of the run runs.
    pub async fn running(&self, name: &str, stage: usize) -> Value {
        let fact = |o: &Value| {
            o["status"]["stages"][stage]["state"] == "Running" && o["status"]["stages"][stage]["job"]["uid"].is_string()
        };
        self.until::<FlywheelRun>(name, PATIENCE, "running", fact).await
    }

    /// Waits until the run waits for a person at that gate.
    pub async fn waits(&self, name: &str, gate: &str) -> Value {
        let fact = |o: &Value| o["status"]["waitingFor"]["gate"] == gate;
        self.until::<FlywheelRun>(name, PATIENCE, gate, fact).await
    }

    /// Decides on what the run waits for.
    pub async fn decide(&self, waiting: &Value, name: &str, decision: &str) {
        let waiting = &waiting["status"]["waitingFor"];
        let approval = json!({ "spec": { "subjectRef": waiting["subject"], "gate": waiting["gate"],
            "decision": decision, "evidenceDigest": waiting["evidenceDigest"], "approver": "jane", "reason": "seen" } });
        let approval: Approval = named(name, approval);
        let approvals = self.person::<Approval>("jane").await;
        approvals
            .create(&PostParams::default(), &approval)
            .await
            .expect("accepted");
    }

    /// Deploys the target `web`, which carries no model yet, and waits until its pods are ready.
    pub async fn serve(&self, replicas: i32) {
        self.apply::<Deployment>("web", web(replicas, None))
            .await
            .expect("accepted");
        let ready = |o: &Value| o["status"]["readyReplicas"] == replicas;
        self.until::<Deployment>("web", PATIENCE, "ready", ready).await;
        self.kubelet.floor("web", usize::try_from(replicas).expect("a count"));
    }

    /// The value that `web` carries.
    pub async fn served(&self) -> Value {
        let web = self.api::<Deployment>().get("web").await.expect("the target exists");
        let value = serde_json::to_value(web).expect("JSON");
        value["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"].clone()
    }

    /// Names of the objects of a kind, in alphabetical order.
    pub async fn names<K>(&self) -> Vec<String>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + serde::de::DeserializeOwned
            + std::fmt::Debug,
    {
        let all = self.api::<K>().list(&Default::default()).await.expect("a list");
        let mut names: Vec<String> = all.items.iter().map(kube::ResourceExt::name_any).collect();
        names.sort();
        names
    }

    /// Waits until exactly these objects of a kind are left.
    pub async fn left<K>(&self, names: &[&str])
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + serde::de::DeserializeOwned
            + std::fmt::Debug,
    {
        let end = std::time::Instant::now() + std::time::Duration::from_secs(PATIENCE * crate::world::PATIENCE);
        loop {
            let found = self.names::<K>().await;
            if found == names {
                return;
            }
            assert!(
                std::time::Instant::now() < end,
                "{} {found:?} instead of {names:?}",
                K::kind(&())
            );
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    }

    /// Ends the test.
    pub async fn finish(self) {
        self.fast.finish().await;
    }
}
