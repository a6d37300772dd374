//! The plugin as people use it: the built program, with the kubeconfig of a person, against an API server.

use std::process::{Command, Output};

use flywheel_api::{Approval, FlywheelPipeline, FlywheelRun, ModelVersion, Rollout};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::permissions::until_allowed;
use crate::world::{World, api, condition, pipeline};

const SHA: &str = "sha256:4d5f0123456789abcdef0123456789abcdef0123456789abcdef0123456789ab";

/// What the plugin answered.
pub struct Answer {
    pub code: i32,
    pub out: String,
    pub error: String,
}

/// `kubectl flywheel` with these words, in the namespace of the world, as that person.
pub fn plugin(world: &World, person: &str, words: &str) -> Answer {
    let program =
        std::env::var("FLYWHEEL_TEST_PLUGIN").expect("FLYWHEEL_TEST_PLUGIN is not set: run `cargo xtask test`");
    let kubeconfig = std::env::var("FLYWHEEL_TEST_API_KUBECONFIG")
        .expect("FLYWHEEL_TEST_API_KUBECONFIG is not set: run `cargo xtask test`");
    let Output { status, stdout, stderr } = Command::new(program)
        .args(words.split(' '))
        .args(["--context", person, "--namespace", &world.namespace])
        .env("KUBECONFIG", kubeconfig)
        .env_remove("COLUMNS")
        .output()
        .expect("the plugin starts");
    let answer = Answer {
        code: status.code().expect("the plugin ends by itself"),
        out: String::from_utf8(stdout).expect("text"),
        error: String::from_utf8(stderr).expect("text"),
    };
    assert!(!answer.out.contains('\u{1b}'), "no colours in a pipe: {}", answer.out);
    answer
}

impl Answer {
    /// The output of what was done.
    pub fn done(self) -> String {
        assert_eq!(self.code, 0, "{}{}", self.out, self.error);
        self.out
    }

    /// The sentence of what was refused.
    pub fn refused(self) -> String {
        assert_eq!(self.code, 1, "{}{}", self.out, self.error);
        assert!(self.error.starts_with("error: "), "{}", self.error);
        self.error
    }
}

/// The rights of somebody who looks on, for jane; with `approve` those of a reviewer.
async fn review(world: &World, approve: &[&str]) {
    let flywheel = [
        "flywheelpipelines",
        "flywheelruns",
        "modelversions",
        "rollouts",
        "biaspolicies",
        "approvals",
    ];
    let role = json!({ "rules": [
        { "apiGroups": ["flywheel.dev"], "resources": flywheel, "verbs": ["get", "list", "watch"] },
        { "apiGroups": ["flywheel.dev"], "resources": ["approvals"], "verbs": ["create"] },
        { "apiGroups": ["flywheel.dev"], "resources": ["flywheelruns"], "verbs": approve } ] });
    world.apply::<Role>("reviewer", role).await.expect("a role");
    let binding = json!({ "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reviewer" },
        "subjects": [{ "kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "jane" }] });
    world
        .apply::<RoleBinding>("reviewer", binding)
        .await
        .expect("a binding");
    for verb in approve {
        until_allowed(world, "jane", &[], verb, "flywheelruns").await;
    }
}

/// A run that waits for a person before it trains.
async fn waiting_run(world: &World) -> Value {
    let mut object = pipeline("eta", "example/eta");
    object["spec"]["automationLevel"] = json!("SemiAutomated");
    world.apply::<FlywheelPipeline>("eta", object).await.expect("accepted");
    let said = plugin(world, "admin", "run eta -p week=9").done();
    assert!(
        said.contains("FlywheelRun eta-1 of FlywheelPipeline eta is asked for by admin"),
        "{said}"
    );
    world
        .until::<FlywheelRun>("eta-1", 20, "waiting", |o| o["status"]["waitingFor"]["gate"] == "Train")
        .await
}

async fn approvals(world: &World) -> Vec<Approval> {
    let all = world.api::<Approval>().list(&ListParams::default()).await;
    all.expect("listed").items
}

#[tokio::test]
async fn cluster_plugin_a_run_is_asked_for_and_jane_approves_what_she_was_shown() {
    let world = api("plugin-approve").await;
    let waits = waiting_run(&world).await;
    assert_eq!(waits["spec"]["requestedBy"], "admin");
    assert_eq!(waits["spec"]["parameters"][0]["value"], "9");
    let digest = waits["status"]["waitingFor"]["evidenceDigest"]
        .as_str()
        .expect("a digest")
        .to_owned();

    let stranger = plugin(&world, "jane", "approve run eta-1").refused();
    assert!(
        stranger.starts_with("error: you may not get flywheelruns.flywheel.dev in namespace"),
        "{stranger}"
    );
    review(&world, &["get"]).await;
    let onlooker = plugin(&world, "jane", "approve run eta-1").refused();
    assert!(
        onlooker.contains("jane may not approve FlywheelRun eta-1"),
        "{onlooker}"
    );
    review(&world, &["approve"]).await;
    let shown = plugin(&world, "jane", "explain run eta-1").done();
    assert!(
        shown.contains("What is waited for") && shown.contains(&digest),
        "{shown}"
    );
    // What the operator says resolves the wait is what resolves it.
    let resolve = waits["status"]["waitingFor"]["resolve"].as_str().expect("a command");
    let words = resolve
        .strip_prefix("kubectl flywheel ")
        .expect("a command of the plugin");
    let words = words.split(" -n ").next().expect("words");
    let said = plugin(&world, "jane", words).done();
    assert!(said.contains(&format!("Evidence {digest}")), "{said}");
    assert!(said.contains("FlywheelRun eta-1 approved by jane"), "{said}");
    let given = approvals(&world).await;
    assert_eq!(given.len(), 1);
    assert_eq!(
        (given[0].spec.approver.as_str(), given[0].spec.evidence_digest.as_str()),
        ("jane", digest.as_str())
    );
    let begun = world
        .until::<FlywheelRun>("eta-1", 20, "begun", |o| {
            o["status"]["stages"][0]["job"]["uid"].is_string()
        })
        .await;
    assert_eq!(begun["status"]["approvals"][0]["approver"], "jane");
    let again = plugin(&world, "jane", words).refused();
    assert!(
        again.contains("nothing waits for a decision on FlywheelRun eta-1"),
        "{again}"
    );
}

#[tokio::test]
async fn cluster_plugin_a_rejection_ends_the_run_and_scripts_learn_it() {
    let world = api("plugin-reject").await;
    waiting_run(&world).await;
    assert_eq!(plugin(&world, "admin", "status run eta-1").code, 4, "it waits");
    let other = format!("reject run eta-1 --evidence-digest sha256:{}", "0".repeat(64));
    let changed = plugin(&world, "admin", &other).refused();
    assert!(changed.contains("it changed since you looked"), "{changed}");
    let printed = plugin(&world, "admin", "reject run eta-1 --dry-run").done();
    assert!(
        printed.contains("kind: Approval") && printed.contains("decision: Reject"),
        "{printed}"
    );
    assert!(approvals(&world).await.is_empty(), "nothing was created so far");
    let name = plugin(
        &world,
        "admin",
        "reject run eta-1 --reason not-now --expires-in 24h -o name",
    )
    .done();
    assert!(name.starts_with("approvals.flywheel.dev/eta-1-"), "{name}");
    let given = approvals(&world).await;
    assert_eq!(given[0].spec.reason, "not-now");
    assert!(given[0].spec.expires_at.is_some());
    world
        .until::<FlywheelRun>("eta-1", 20, "rejected", |o| {
            condition(o, "Complete", "True", "Rejected")
        })
        .await;
    let status = plugin(&world, "admin", "status run eta-1 -o name");
    assert_eq!((status.code, status.out.as_str()), (3, "Rejected\n"));
    let why = plugin(&world, "admin", "explain run eta-1").done();
    assert!(why.contains("admin rejected it with Approval"), "{why}");
}

#[tokio::test]
async fn cluster_plugin_an_aborted_run_is_cancelled_once() {
    let world = api("plugin-abort").await;
    waiting_run(&world).await;
    plugin(&world, "admin", "abort run eta-1").done();
    world
        .until::<FlywheelRun>("eta-1", 20, "cancelled", |o| {
            condition(o, "Complete", "True", "Cancelled")
        })
        .await;
    let again = plugin(&world, "admin", "abort run eta-1").refused();
    assert!(again.contains("has ended as Cancelled already"), "{again}");
    let unknown = plugin(&world, "admin", "abort run eta-9").refused();
    assert!(unknown.contains("flywheelruns.flywheel.dev/eta-9"), "{unknown}");
    let tree = plugin(&world, "admin", "get").done();
    assert!(
        tree.contains("FlywheelPipeline eta") && tree.contains("FlywheelRun eta-1"),
        "{tree}"
    );
    assert_eq!(
        plugin(&world, "admin", "get runs -o name").done(),
        "flywheelruns.flywheel.dev/eta-1\n"
    );
    let listed = plugin(&world, "admin", "get pipeline eta -o json").done();
    let listed: Value = serde_json::from_str(&listed).expect("JSON");
    assert_eq!(
        (&listed["kind"], &listed["metadata"]["name"]),
        (&json!("FlywheelPipeline"), &json!("eta"))
    );
}

/// Version, for deliveries without a pipeline.
async fn version(world: &World, number: i64, parent: Option<&str>) {
    let mut object = json!({ "spec": { "modelName": "eta", "version": number,
        "artifact": { "uri": format!("pvc://store/eta-{number}"), "digest": SHA },
        "datasets": [{ "name": "train.rows", "uri": "pvc://store/rows", "digest": SHA, "records": 1000 }] } });
    if let Some(parent) = parent {
        object["spec"]["parent"] = json!({ "name": parent });
    }
    world
        .apply::<ModelVersion>(&format!("eta-{number}"), object)
        .await
        .expect("accepted");
}

async fn target(world: &World, replicas: i32, value: &str) {
    let object = json!({ "spec": { "replicas": replicas, "selector": { "matchLabels": { "app": "eta" } },
        "template": { "metadata": { "labels": { "app": "eta" } }, "spec": { "containers": [{ "name": "app",
            "image": "example/serve", "env": [{ "name": "MODEL_URI", "value": value }] }] } } } });
    world.apply::<Deployment>("eta", object).await.expect("a target");
}

async fn deliver(world: &World, version: &str, steps: Value) {
    let object = json!({ "spec": { "modelVersionRef": { "name": version }, "plan": {
        "targetRef": { "name": "eta" }, "binding": { "type": "DeploymentEnv", "container": "app", "name": "MODEL_URI" },
        "strategy": { "steps": steps }, "drainSeconds": 0 } } });
    world.apply::<Rollout>(version, object).await.expect("accepted");
}

async fn bound(world: &World) -> String {
    let found = world.api::<Deployment>().get("eta").await.expect("the target");
    let found = serde_json::to_value(found).expect("JSON");
    let env = &found["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"];
    env.as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn cluster_plugin_a_promoted_version_goes_back_and_an_older_one_is_delivered_again() {
    let world = api("plugin-back").await;
    for (number, parent) in [(1, None), (2, Some("eta-1")), (3, Some("eta-2"))] {
        version(&world, number, parent).await;
    }
    target(&world, 0, "pvc://store/eta-1").await;
    for name in ["eta-2", "eta-3"] {
        deliver(&world, name, json!([])).await;
        world
            .until::<Rollout>(name, 30, "promoted", |o| condition(o, "Complete", "True", "Promoted"))
            .await;
    }
    assert_eq!(bound(&world).await, "pvc://store/eta-3");
    let earlier = plugin(&world, "admin", "rollback rollout eta-2").refused();
    assert!(earlier.contains("Rollout eta-3 does: roll that one back"), "{earlier}");

    let said = plugin(&world, "admin", "rollback deployment eta").done();
    assert!(said.contains("Rollout eta-3 is asked to go back to eta-2"), "{said}");
    world
        .until::<Rollout>("eta-3", 30, "rolled back", |o| {
            condition(o, "Complete", "True", "RolledBack")
        })
        .await;
    assert_eq!(bound(&world).await, "pvc://store/eta-2");

    let said = plugin(&world, "admin", "rollback deployment eta --to eta-1").done();
    assert!(
        said.contains("Rollout eta-1-back-1 delivers eta-1 to Deployment eta without steps"),
        "{said}"
    );
    world
        .until::<Rollout>("eta-1-back-1", 30, "promoted", |o| {
            condition(o, "Complete", "True", "Promoted")
        })
        .await;
    assert_eq!(bound(&world).await, "pvc://store/eta-1");
    let again = plugin(&world, "admin", "rollback deployment eta --to eta-1").refused();
    assert!(again.contains("carries eta-1 already"), "{again}");

    forward_and_backward(&world);
}

/// Lineage of what was delivered above, in both directions.
fn forward_and_backward(world: &World) {
    let json = |words: &str| -> Value { serde_json::from_str(&plugin(world, "admin", words).done()).expect("JSON") };
    let data = json(&format!("lineage dataset {} -o json", SHA.get(..20).expect("digits")));
    let made: Vec<&str> = data["leadsTo"]
        .as_array()
        .expect("facts")
        .iter()
        .filter_map(|f| f["name"].as_str())
        .collect();
    assert_eq!(made, ["eta-1", "eta-2", "eta-3"], "{data:#}");
    let first = &data["leadsTo"][0]["next"];
    let serving = first
        .as_array()
        .expect("facts")
        .iter()
        .find(|f| f["name"] == "eta-1-back-1");
    assert_eq!(
        serving.expect("the delivery")["next"][0]["kind"],
        "Deployment",
        "{data:#}"
    );

    let version = json("lineage modelversion eta-3 -o json");
    let parent = version["comesFrom"]
        .as_array()
        .expect("facts")
        .iter()
        .find(|f| f["kind"] == "parent")
        .expect("a parent");
    assert_eq!(
        (&parent["name"], &parent["next"][0]["name"]),
        (&json!("eta-2"), &json!("eta-1"))
    );
    let tree = plugin(world, "admin", "lineage deployment eta").done();
    assert!(tree.contains("serves eta-1") && tree.contains(SHA), "{tree}");
}

#[tokio::test]
async fn cluster_plugin_a_drifted_value_is_adopted_and_the_rollout_can_be_aborted() {
    let world = api("plugin-adopt").await;
    version(&world, 1, None).await;
    version(&world, 2, Some("eta-1")).await;
    target(&world, 2, "pvc://store/eta-1").await;
    deliver(&world, "eta-2", json!([{ "name": "half", "weight": 50 }])).await;
    world
        .until::<Rollout>("eta-2", 30, "begun", |o| {
            o["status"]["candidateDeployment"]["uid"].is_string()
        })
        .await;
    let calm = plugin(&world, "admin", "adopt eta-2").refused();
    assert!(calm.contains("reports no drift"), "{calm}");
    let edit = json!({ "spec": { "template": { "spec": { "containers": [{ "name": "app",
        "env": [{ "name": "MODEL_URI", "value": "pvc://store/hotfix" }] }] } } } });
    world
        .api::<Deployment>()
        .patch("eta", &PatchParams::default(), &Patch::Strategic(edit))
        .await
        .expect("edited");
    let drifted = world
        .until::<Rollout>("eta-2", 30, "drifted", |o| {
            condition(o, "TargetBound", "False", "Drifted")
        })
        .await;
    assert!(
        drifted["status"]["conditions"]
            .to_string()
            .contains("kubectl flywheel adopt rollout eta-2")
    );
    let moved = plugin(&world, "admin", "adopt eta-2 --value pvc://store/other").refused();
    assert!(
        moved.contains("carries pvc://store/hotfix, not pvc://store/other"),
        "{moved}"
    );
    let said = plugin(&world, "admin", "adopt rollout eta-2").done();
    assert!(said.contains("pvc://store/hotfix is adopted"), "{said}");
    let adopted = world
        .until::<Rollout>("eta-2", 30, "adopted", |o| {
            o["status"]["baseline"]["value"] == "pvc://store/hotfix"
        })
        .await;
    assert_ne!(adopted["status"]["phase"], "Failed");

    plugin(&world, "admin", "abort rollout eta-2").done();
    world
        .until::<Rollout>("eta-2", 60, "ended", |o| o["status"]["finishedAt"].is_string())
        .await;
    assert_eq!(bound(&world).await, "pvc://store/hotfix", "what serves was left alone");
    let ended = plugin(&world, "admin", "abort rollout eta-2").refused();
    assert!(ended.contains("has ended as"), "{ended}");
}

#[tokio::test]
async fn cluster_plugin_arguments_that_make_no_sense_are_refused_with_the_remedy() {
    let world = api("plugin-refused").await;
    assert_eq!(plugin(&world, "admin", "frobnicate").code, 2);
    assert_eq!(plugin(&world, "admin", "approve").code, 2);
    let cases = [
        (
            "approve pod eta",
            "pod is no kind that this verb knows: use one of modelversion, run, rollout",
        ),
        ("approve eta-1", "the kind of eta-1 is missing: write KIND NAME"),
        ("explain rollout nothing", "Rollout nothing does not exist in namespace"),
        ("run nothing", "flywheelpipelines.flywheel.dev/nothing in namespace"),
        ("logs run nothing", "flywheelruns.flywheel.dev/nothing in namespace"),
        ("lineage dataset sha256:abc", "is no digest"),
        (
            "reject run eta --expires-in soon",
            "--expires-in soon is no length of time",
        ),
    ];
    for (words, sentence) in cases {
        let said = plugin(&world, "admin", words).refused();
        assert!(said.contains(sentence), "{words}: {said}");
    }
    let empty = plugin(&world, "admin", "get").done();
    assert!(empty.contains("There is nothing of Flywheel in namespace"), "{empty}");
}
