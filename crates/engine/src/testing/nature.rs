//! What happens by itself in a cluster: Jobs end, pods become ready.

use k8s_openapi::api::batch::v1::Job;
use serde_json::{Value, json};

use super::world::{Kind, World};
use flywheel_api::names;

/// How a Job ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It runs on.
    Runs,
    /// Exit code 0 with a result.
    Success,
    /// Exit code 0 with this termination message.
    Says(String),
    /// This exit code.
    Exit(i32),
    /// The container ran out of memory.
    OutOfMemory,
    /// The image cannot be pulled: the Job runs on.
    ImagePull,
    /// The pod was evicted.
    Evicted,
    /// Exit code 0, but the pod is gone.
    PodGone,
    /// The attempt took too long.
    Deadline,
    /// No pod is made: quota or admission refuses it.
    NoPod,
}

/// What the Evaluate stage reports of the metric `mae`.
#[derive(Clone, Debug)]
pub struct Report {
    /// The candidate's error.
    pub value: f64,
    /// Half width of its interval.
    pub half: f64,
    /// Rows behind it.
    pub samples: i64,
    /// Change against the live version on the same rows: negative is better.
    pub change: f64,
    /// Half width of the change's interval.
    pub change_half: f64,
    /// Groups of airports: name, rows, error, change; intervals as above.
    pub groups: Vec<(&'static str, i64, f64, f64)>,
}

impl Default for Report {
    fn default() -> Self {
        Self {
            value: 12.0,
            half: 0.5,
            samples: 5000,
            change: -0.6,
            change_half: 0.2,
            groups: vec![("hub", 4000, 11.0, -0.7), ("small", 1000, 15.0, -0.2)],
        }
    }
}

impl Report {
    fn metrics(&self, live: Option<&str>) -> Value {
        let mut metric = json!({ "name": "mae", "value": self.value, "samples": self.samples,
            "low": self.value - self.half, "high": self.value + self.half, "level": 0.95 });
        if let Some(version) = live {
            metric["baseline"] = json!({ "version": version, "value": self.value - self.change,
                "difference": self.change, "low": self.change - self.change_half,
                "high": self.change + self.change_half });
        }
        json!([metric])
    }

    fn tables(&self, live: Option<&str>) -> Value {
        let row = |(name, samples, value, change): &(&str, i64, f64, f64)| {
            let mut cells = vec![json!(name), json!(value), json!(samples)];
            cells.extend([json!(value - self.half), json!(value + self.half)]);
            if live.is_some() {
                let (low, high) = (change - self.change_half, change + self.change_half);
                cells.extend([json!(value - change), json!(change), json!(low), json!(high)]);
            }
            Value::Array(cells)
        };
        let mut columns = vec!["group", "value", "samples", "low", "high"];
        if live.is_some() {
            columns.extend(["baseline", "difference", "differenceLow", "differenceHigh"]);
        }
        let rows: Vec<Value> = self.groups.iter().map(row).collect();
        json!([{ "metric": "mae", "attribute": "airport", "level": 0.95, "columns": columns, "rows": rows }])
    }

    /// The result document of an attempt, from its stage file.
    #[must_use]
    pub fn document(&self, file: &Value) -> String {
        let output = file["output"]["uri"].as_str().unwrap_or_default();
        let artifact = |name: &str, type_: &str, digit: char| {
            json!({ "name": name, "type": type_, "uri": format!("{output}/{name}"),
                "digest": format!("sha256:{}", digit.to_string().repeat(64)) })
        };
        let live = file["inputs"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|i| i["role"] == "LiveVersion");
        let live = live.and_then(|i| i["version"].as_str());
        let mut result = json!({ "apiVersion": file["apiVersion"], "id": file["id"] });
        match file["type"].as_str() {
            Some("Train") => result["artifacts"] = json!([artifact("model", "Model", 'a')]),
            Some("Evaluate") => {
                result["metrics"] = self.metrics(live);
                if !self.groups.is_empty() {
                    result["groups"] = self.tables(live);
                }
            }
            _ => result["artifacts"] = json!([artifact("data", "Dataset", 'd')]),
        }
        result.to_string()
    }
}

impl World {
    /// Lets every Job go on: it gets its pod, and ends as `endings` say for its stage.
    pub fn run_jobs(&mut self) {
        for name in self.names(Kind::Job) {
            let job: Job = self.get(Kind::Job, &name);
            if job.status.as_ref().is_some_and(|s| s.conditions.is_some()) {
                continue;
            }
            let labels = job.metadata.labels.clone().unwrap_or_default();
            let stage = labels.get(names::LABEL_STAGE).cloned().unwrap_or_default();
            let ending = self.endings.get(&stage).cloned().unwrap_or(Ending::Success);
            self.end_job(&name, &job, &ending);
        }
    }

    fn end_job(&mut self, name: &str, job: &Job, ending: &Ending) {
        let template = job.spec.as_ref().map(|s| s.template.clone()).unwrap_or_default();
        let file = template
            .metadata
            .and_then(|m| m.annotations)
            .and_then(|a| a.get(names::ANNOTATION_STAGE).cloned())
            .unwrap_or_default();
        let file: Value = serde_json::from_str(&file).expect("a Job carries its stage file");
        let ended = |code: i32, reason: &str, message: &str| json!({ "terminated": { "exitCode": code, "reason": reason, "message": message } });
        let (state, pod_reason) = match ending {
            Ending::NoPod | Ending::Deadline | Ending::PodGone => (None, ""),
            Ending::Runs => (Some(json!({ "running": {} })), ""),
            Ending::Success => (Some(ended(0, "Completed", &self.report.document(&file))), ""),
            Ending::Says(text) => (Some(ended(0, "Completed", text)), ""),
            Ending::Exit(code) => (Some(ended(*code, "Error", "")), ""),
            Ending::OutOfMemory => (Some(ended(137, "OOMKilled", "")), ""),
            Ending::ImagePull => (Some(json!({ "waiting": { "reason": "ImagePullBackOff" } })), ""),
            Ending::Evicted => (Some(json!({ "waiting": { "reason": "PodInitializing" } })), "Evicted"),
        };
        self.put_pod(name, job, state, pod_reason);
        let condition = match ending {
            Ending::Runs | Ending::ImagePull | Ending::NoPod => return,
            Ending::Success | Ending::Says(_) | Ending::PodGone => ("Complete", ""),
            Ending::Deadline => ("Failed", "DeadlineExceeded"),
            Ending::Exit(_) | Ending::OutOfMemory | Ending::Evicted => ("Failed", "BackoffLimitExceeded"),
        };
        let conditions = json!([{ "type": condition.0, "status": "True", "reason": condition.1 }]);
        self.edit(Kind::Job, name, |j| j["status"] = json!({ "conditions": conditions }));
    }

    fn put_pod(&mut self, name: &str, job: &Job, state: Option<Value>, reason: &str) {
        let Some(state) = state else {
            self.delete(Kind::Pod, name);
            return;
        };
        if self.raw(&(Kind::Pod, name.to_owned())).is_none() {
            let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name,
                "labels": job.metadata.labels, "ownerReferences": [{ "apiVersion": "batch/v1", "kind": "Job",
                    "name": name, "uid": job.metadata.uid, "controller": true }] } });
            self.create(Kind::Pod, pod);
        }
        let status = json!({ "reason": Some(reason).filter(|r| !r.is_empty()), "containerStatuses": [{
            "name": "stage", "image": "example/eta:1", "ready": false, "restartCount": 0,
            "imageID": "example/eta@sha256:1", "state": state }] });
        self.edit(Kind::Pod, name, |p| p["status"] = status);
    }

    /// Lets every Deployment reach what its spec asks for, but for those whose pods are broken or that are paused.
    pub fn run_deployments(&mut self) {
        for name in self.names(Kind::Deployment) {
            self.run_deployment(&name);
        }
    }

    /// Lets one Deployment reach what its spec asks for.
    pub fn run_deployment(&mut self, name: &str) {
        let value = self.binding(name);
        let broken = value.is_some_and(|v| self.broken.contains(&v));
        self.edit(Kind::Deployment, name, |d| {
            let wanted = d["spec"]["replicas"].as_i64().unwrap_or(1);
            let generation = d["metadata"]["generation"].clone();
            let settled = d["status"]["observedGeneration"] == generation;
            let ready = d["status"]["readyReplicas"].as_i64().unwrap_or(0);
            if d["spec"]["paused"] == json!(true) {
                return;
            }
            d["status"] = if broken {
                // A rolling update keeps the old pods until new ones are ready.
                let updated = if settled {
                    d["status"]["updatedReplicas"].as_i64().unwrap_or(0)
                } else {
                    1
                };
                json!({ "observedGeneration": generation, "replicas": ready + updated, "updatedReplicas": updated,
                        "readyReplicas": ready.min(wanted), "availableReplicas": ready.min(wanted) })
            } else {
                json!({ "observedGeneration": generation, "replicas": wanted, "updatedReplicas": wanted,
                        "readyReplicas": wanted, "availableReplicas": wanted })
            };
        });
    }

    /// The value that a Deployment's binding carries.
    #[must_use]
    pub fn binding(&self, name: &str) -> Option<String> {
        let deployment = self.raw(&(Kind::Deployment, name.to_owned()))?;
        let containers = deployment["spec"]["template"]["spec"]["containers"].as_array()?;
        let env = containers.first()?["env"].as_array()?;
        let found = env.iter().find(|e| e["name"] == "MODEL_URI")?;
        found["value"].as_str().map(str::to_owned)
    }

    /// Ready pods of a Deployment.
    #[must_use]
    pub fn ready(&self, name: &str) -> i64 {
        self.raw(&(Kind::Deployment, name.to_owned()))
            .map_or(0, |d| d["status"]["readyReplicas"].as_i64().unwrap_or(0))
    }

    /// Everything that happens by itself, with the operator looking on, for that many minutes.
    pub fn live(&mut self, minutes: i64) {
        for _ in 0..minutes {
            self.turn();
            self.pass(60);
        }
        self.turn();
    }

    /// The world as it is now, until nothing moves any more: Jobs end, pods become ready, the operator follows.
    pub fn turn(&mut self) {
        for _ in 0..200 {
            self.settle();
            let before = self.writes.len();
            self.run_jobs();
            self.run_deployments();
            self.settle();
            if self.writes.len() == before {
                return;
            }
        }
        panic!("the world does not come to rest");
    }
}
