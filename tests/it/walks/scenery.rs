//! Where walks take place: what they walk through, the world around it, and what must follow from a spec.

use std::time::{Duration, Instant};

use flywheel_api::{FlywheelPipeline, FlywheelRun, ModelVersion};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::delivery::PODS;
use super::sight::{Objects, resource};
use crate::fast::fast;
use crate::rollout::scene::{self, Scene, is, uri, web};
use crate::world::gap;

/// What is walked through together, because one depends on the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Course {
    /// A pipeline that delivers to `web`, and a policy that caps its level.
    Loop,
    /// A Rollout to `web`, and a version beside it.
    Delivery,
    /// A run that waits for a person.
    Turn,
}

/// One object of a course.
#[derive(Clone, Copy, Debug)]
pub struct Subject {
    pub kind: &'static str,
    pub name: &'static str,
}

const fn subject(kind: &'static str, name: &'static str) -> Subject {
    Subject { kind, name }
}

/// In a spec: the evidence that the run of the course waits with.
pub const SEEN: &str = "sha256:5ee45ee45ee45ee45ee45ee45ee45ee45ee45ee45ee45ee45ee45ee45ee45ee4";
/// In a spec: the UID of that run.
pub const RUN: &str = "00000000-0000-4000-8000-00000000000a";

/// Two steps, gates, triggers and a plan.
fn pipeline() -> Value {
    json!({
        "model": { "name": "eta" },
        "automationLevel": "FullyAutomated",
        "artifacts": { "uri": "s3://models/eta" },
        "data": { "sources": [{ "name": "rides", "uri": "s3://data/rides", "format": "Parquet" }] },
        "stages": [
            { "name": "train", "type": "Train", "image": "example/eta" },
            { "name": "evaluate", "type": "Evaluate", "image": "example/eta" },
        ],
        "gates": [{ "name": "error", "metric": "mae", "compareTo": "Constant", "max": "5" }],
        "biasPolicies": [{ "name": "gap" }],
        "triggers": [{ "name": "weekly", "type": "Schedule", "schedule": { "cron": "0 3 29 2 *" } }],
        "rollout": scene::plan(&[scene::long("few", 20), scene::long("half", 50)], json!({})),
    })
}

/// A Rollout that stays at its step.
fn rollout() -> Value {
    let plan = scene::plan(&[scene::long("half", 50)], json!({ "drainSeconds": 0 }));
    json!({ "modelVersionRef": { "name": "eta-2" }, "plan": plan, "desiredState": "Progress" })
}

fn version() -> Value {
    let digest = format!("sha256:{}", "9".repeat(64));
    json!({ "modelName": "theta", "version": 1, "artifact": { "uri": "s3://models/theta/1", "digest": digest } })
}

impl Course {
    /// In the order in which a user creates them.
    pub fn subjects(self) -> Vec<Subject> {
        match self {
            Self::Loop => vec![subject("BiasPolicy", "gap"), subject("FlywheelPipeline", "eta")],
            Self::Delivery => vec![subject("ModelVersion", "theta-1"), subject("Rollout", "up")],
            Self::Turn => vec![subject("FlywheelRun", "eta-9"), subject("Approval", "say")],
        }
    }

    /// Whether the objects of the course mean each other by their UIDs, so that a new one makes the others meaningless.
    pub fn is_bound(self) -> bool {
        self == Self::Turn
    }

    /// Changes that the API server takes and the operator cannot follow: kind, path, value.
    pub fn stumbles(self) -> Vec<(&'static str, &'static str, Value)> {
        let nobodys = || json!("nobodys");
        match self {
            Self::Loop => vec![
                ("FlywheelPipeline", "triggers[].schedule.cron", json!("0 25 * * *")),
                (
                    "FlywheelPipeline",
                    "triggers[].schedule.timeZone",
                    json!("Mars/Olympus"),
                ),
                ("FlywheelPipeline", "triggers[].metric.providerRef.name", nobodys()),
                ("FlywheelPipeline", "biasPolicies[].name", nobodys()),
            ],
            Self::Delivery => vec![
                ("Rollout", "plan.targetRef.name", nobodys()),
                ("Rollout", "plan.binding.container", nobodys()),
                ("Rollout", "modelVersionRef.name", nobodys()),
            ],
            Self::Turn => vec![("FlywheelRun", "pipelineRef.name", nobodys())],
        }
    }

    /// How the objects begin.
    pub fn seeds(self) -> Vec<Value> {
        match self {
            Self::Loop => vec![gap()["spec"].clone(), pipeline()],
            Self::Delivery => vec![version(), rollout()],
            Self::Turn => vec![
                json!({ "pipelineRef": { "name": "eta" }, "requestedBy": "admin" }),
                json!({ "gate": "Train", "decision": "Approve", "approver": "admin", "reason": "seen",
                    "evidenceDigest": SEEN, "subjectRef": { "kind": "FlywheelRun", "name": "eta-9", "uid": RUN } }),
            ],
        }
    }

    /// A namespace with everything that the objects of the course refer to.
    pub async fn open(self, name: &str) -> Scene {
        let pods = if self == Self::Delivery { PODS } else { 1 };
        let scene = scene::scene(fast(name).await, pods).await;
        if self == Self::Turn {
            let mut spec = pipeline();
            spec["automationLevel"] = json!("SemiAutomated");
            spec.as_object_mut().expect("a spec").remove("biasPolicies");
            // One Approval is counted, and opens nothing.
            spec["approvals"] = json!([{ "gate": "Train", "minApprovals": 2 }]);
            scene
                .apply::<FlywheelPipeline>("eta", json!({ "spec": spec }))
                .await
                .expect("accepted");
        }
        scene
    }

    /// Brings the world back to where the course began, before one of its objects is made anew.
    pub async fn reset(self, scene: &Scene, subject: Subject) {
        if subject.kind != "Rollout" {
            return;
        }
        let all = scene.api::<Deployment>();
        for name in ["web", "web-candidate"] {
            if all.get_opt(name).await.expect("the API server answers").is_some() {
                all.delete(name, &DeleteParams::background()).await.expect("deleted");
                scene.gone::<Deployment>(name).await;
            }
        }
        scene.deploy(&web(PODS, Some(&uri(1)))).await;
        scene.serves(PODS).await;
        for n in 1..=2 {
            if scene
                .api::<ModelVersion>()
                .get_opt(&format!("eta-{n}"))
                .await
                .expect("an answer")
                .is_none()
            {
                scene.version(n, &uri(n)).await;
            }
        }
    }

    /// What must be so, besides what holds of every object.
    pub fn follows(self, objects: &Objects) -> Result<(), String> {
        let of = |kind: &str, name: &str| objects.get(&(kind.to_owned(), name.to_owned()));
        match self {
            Self::Loop => match (of("FlywheelPipeline", "eta"), of("BiasPolicy", "gap")) {
                (Some(pipeline), Some(policy)) => in_the_loop(pipeline, policy),
                _ => Ok(()),
            },
            Self::Delivery => of("Rollout", "up").map_or(Ok(()), in_the_delivery),
            Self::Turn => match (of("FlywheelRun", "eta-9"), of("Approval", "say")) {
                (Some(run), Some(approval)) => in_the_turn(run, approval),
                _ => Ok(()),
            },
        }
    }
}

/// What stands under the list at that key.
fn items<'a>(node: &'a Value, list: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    node[list].as_array().into_iter().flatten()
}

const LEVELS: [&str; 4] = ["Manual", "SemiAutomated", "HumanOversight", "FullyAutomated"];

/// The reason that a pipeline must show, from its spec alone.
fn reason(spec: &Value, level: &str) -> (&'static str, &'static str) {
    let broken = |t: &Value| t["schedule"]["cron"] == "0 25 * * *" || t["schedule"]["timeZone"] == "Mars/Olympus";
    let unknown = |t: &Value| t["metric"]["providerRef"]["name"] == "nobodys";
    if items(spec, "triggers").any(broken) {
        ("Stalled", "InvalidSchedule")
    } else if items(spec, "triggers").any(unknown) {
        ("Stalled", "ProviderNotFound")
    } else if spec["suspend"] == true {
        ("Ready", "Suspended")
    } else if level == "Manual" {
        ("Ready", "OnRequest")
    } else if items(spec, "biasPolicies").any(|p| p["name"] == "nobodys") {
        ("Reconciling", "PolicyNotFound")
    } else {
        ("Ready", "Idle")
    }
}

fn in_the_loop(pipeline: &Value, policy: &Value) -> Result<(), String> {
    let spec = &pipeline["spec"];
    let named = items(spec, "biasPolicies").any(|p| p["name"] == "gap");
    let labels = policy
        .pointer("/spec/modelSelector/matchLabels")
        .and_then(Value::as_object);
    let selected = labels.is_some_and(|all| all.iter().all(|(k, v)| pipeline["metadata"]["labels"][k] == *v));
    let applies = named || selected;
    if policy["status"]["pipelines"] != i64::from(applies) {
        let says = &policy["status"]["pipelines"];
        return Err(format!(
            "consistency: the policy applies to {} pipelines and says {says}",
            i64::from(applies)
        ));
    }
    let rank = |level: &Value| LEVELS.iter().position(|l| level == l);
    let own = rank(&policy["spec"]["maxAutomationLevel"]).filter(|_| applies);
    // What a policy that is missing would say, people say.
    let missing = items(spec, "biasPolicies").any(|p| p["name"] == "nobodys");
    let cap = own.into_iter().chain(missing.then_some(2)).min();
    let asked = rank(&spec["automationLevel"]).unwrap_or(0);
    let level = LEVELS[cap.map_or(asked, |cap| cap.min(asked))];
    let (type_, reason) = reason(spec, level);
    if !is(pipeline, type_, "True") || !crate::world::condition(pipeline, type_, "True", reason) {
        return Err(format!("consistency: the pipeline should be {type_} for {reason}"));
    }
    let shown = &pipeline["status"]["effectiveLevel"]["level"];
    if type_ != "Stalled" && shown != level {
        return Err(format!(
            "consistency: the level in force is {level}, and the pipeline shows {shown}"
        ));
    }
    Ok(())
}

fn in_the_delivery(rollout: &Value) -> Result<(), String> {
    let wanted = &rollout["spec"]["desiredState"];
    if ["Abort", "RollBack"].iter().any(|w| wanted == w) && !is(rollout, "Complete", "True") {
        return Err(format!(
            "consistency: {wanted} was asked for, and the Rollout has not ended"
        ));
    }
    Ok(())
}

fn in_the_turn(run: &Value, approval: &Value) -> Result<(), String> {
    let ended = is(run, "Complete", "True");
    if run["spec"]["desiredState"] == "Cancel" && !ended {
        return Err("consistency: the run was cancelled, and has not ended".to_owned());
    }
    let (waiting, said) = (&run["status"]["waitingFor"], &approval["spec"]);
    let meant = said["gate"] == "Train" && said["subjectRef"]["uid"] == run["metadata"]["uid"];
    let named = said["subjectRef"]["name"] == run["metadata"]["name"];
    let expired = said["expiresAt"].as_str().is_some_and(|at| at < "2026");
    if !meant || !named || !waiting.is_object() {
        return Ok(());
    }
    let counts = said["evidenceDigest"] == waiting["evidenceDigest"] && !expired;
    if said["decision"] == "Reject" && counts && !ended {
        return Err("consistency: the training was rejected, and the run waits on".to_owned());
    }
    let approves = said["decision"] == "Approve" && counts;
    if items(waiting, "approvedBy").any(|name| name == "say") != approves {
        return Err(format!(
            "consistency: the Approval counts is {approves}, and the run shows {waiting}"
        ));
    }
    Ok(())
}

/// One object of a course in one namespace.
pub struct Place {
    client: Client,
    namespace: String,
    api: Api<DynamicObject>,
    subject: Subject,
}

impl Place {
    pub fn new(client: &Client, namespace: &str, subject: Subject) -> Self {
        let api = Api::namespaced_with(client.clone(), namespace, &resource(subject.kind));
        Self {
            client: client.clone(),
            namespace: namespace.to_owned(),
            api,
            subject,
        }
    }

    /// Server-side apply, as a user does it.
    pub async fn apply(&self, spec: &Value) -> Result<Value, kube::Error> {
        self.patch(self.subject.name, spec, &PatchParams::apply("walk").force())
            .await
    }

    /// What the API server would say of this spec for a new object.
    pub async fn try_anew(&self, spec: &Value) -> Result<Value, kube::Error> {
        let name = format!("{}-tried", self.subject.name);
        self.patch(&name, spec, &PatchParams::apply("walk").force().dry_run())
            .await
    }

    async fn patch(&self, name: &str, spec: &Value, params: &PatchParams) -> Result<Value, kube::Error> {
        let kind = resource(self.subject.kind);
        let spec = if self.subject.kind == "Approval" {
            self.bound(spec).await
        } else {
            spec.clone()
        };
        let object = json!({ "apiVersion": kind.api_version, "kind": kind.kind, "spec": spec,
            "metadata": { "name": name, "labels": { "team": "a" } } });
        let made = self.api.patch(name, params, &Patch::Apply(object)).await?;
        Ok(serde_json::to_value(made).expect("an object is JSON"))
    }

    /// An Approval's spec with what the run is and shows, once it waits for a person.
    async fn bound(&self, spec: &Value) -> Value {
        let runs: Api<FlywheelRun> = Api::namespaced(self.client.clone(), &self.namespace);
        let end = Instant::now() + Duration::from_secs(10);
        let (mut uid, mut digest) = (Value::Null, Value::Null);
        while digest.is_null() && Instant::now() < end {
            let run = runs.get_opt("eta-9").await.expect("the API server answers");
            let run = serde_json::to_value(run).expect("an object is JSON");
            uid = run["metadata"]["uid"].clone();
            digest = run["status"]["waitingFor"]["evidenceDigest"].clone();
            let waits = ["Complete", "Reconciling", "Stalled"]
                .iter()
                .all(|type_| !is(&run, type_, "True"));
            if !waits {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let text = spec.to_string();
        let text = uid.as_str().map_or(text.clone(), |uid| text.replace(RUN, uid));
        let text = digest
            .as_str()
            .map_or(text.clone(), |digest| text.replace(SEEN, digest));
        serde_json::from_str(&text).expect("still JSON")
    }

    /// The object as the API server has it.
    pub async fn get(&self) -> Option<Value> {
        let found = self
            .api
            .get_opt(self.subject.name)
            .await
            .expect("the API server answers");
        found.map(|object| serde_json::to_value(object).expect("an object is JSON"))
    }

    /// Deletes the object, if it is there.
    pub async fn delete(&self) -> Result<(), kube::Error> {
        match self.api.delete(self.subject.name, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            deleted => deleted.map(drop),
        }
    }
}
