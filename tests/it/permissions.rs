//! Who may do what: the roles and the admission policies that the chart installs, asked of a real API server.

use flywheel_api::{Approval, FlywheelRun, ModelVersion, Rollout};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{Value, json};

use crate::world::{World, api, condition, from};

/// A client of another person of the cluster.
async fn client_of(user: &str) -> Client {
    let file = std::env::var("FLYWHEEL_TEST_API_KUBECONFIG").expect("run `cargo xtask test`");
    let options = KubeConfigOptions {
        context: Some(user.to_owned()),
        ..KubeConfigOptions::default()
    };
    let kubeconfig = Kubeconfig::read_from(&file).expect("the kubeconfig can be read");
    let config = Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .expect("the kubeconfig knows the person");
    Client::try_from(config).expect("a client")
}

async fn bind(world: &World, name: &str, role: &str, subjects: Value) {
    let binding: RoleBinding = from(json!({
        "metadata": { "name": name }, "subjects": subjects,
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role },
    }));
    world
        .api::<RoleBinding>()
        .create(&PostParams::default(), &binding)
        .await
        .expect("a binding");
}

fn person(name: &str) -> Value {
    json!([{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name }])
}

fn approval(name: &str, kind: &str, gate: &str, approver: &str) -> Approval {
    from(json!({ "metadata": { "name": name }, "spec": {
        "subjectRef": { "kind": kind, "name": "eta-1", "uid": "0" }, "gate": gate, "decision": "Approve",
        "evidenceDigest": format!("sha256:{}", "0".repeat(64)), "approver": approver,
    }}))
}

async fn create(client: &Client, namespace: &str, object: &Approval) -> Result<(), String> {
    let api: Api<Approval> = Api::namespaced(client.clone(), namespace);
    let made = api.create(&PostParams::default(), object).await;
    made.map(drop).map_err(|e| e.to_string())
}

/// Roles take a moment to reach the API server's authorizer.
pub async fn until_allowed(world: &World, user: &str, groups: &[&str], verb: &str, resource: &str) {
    for _ in 0..100 {
        if allowed(world, user, groups, verb, resource).await {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    panic!("{user} may still not {verb} {resource}");
}

#[tokio::test]
async fn cluster_only_a_permitted_person_approves_and_under_her_own_name() {
    let world = api("approve").await;
    let space = &world.namespace;
    bind(&world, "approvers", "flywheel-approver", person("jane")).await;
    // Bob may write Approvals, and may approve nothing.
    let group = json!(["flywheel.dev"]);
    let role = json!({ "metadata": { "name": "writer" },
        "rules": [{ "apiGroups": group, "resources": ["approvals"], "verbs": ["create"] }] });
    let roles = world.api::<k8s_openapi::api::rbac::v1::Role>();
    roles.create(&PostParams::default(), &from(role)).await.expect("a role");
    let account = format!("system:serviceaccount:{space}:default");
    let subjects = json!([person("bob")[0], person(&account)[0]]);
    let binding: RoleBinding = from(json!({ "metadata": { "name": "writers" }, "subjects": subjects,
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "writer" } }));
    let bindings = world.api::<RoleBinding>();
    bindings
        .create(&PostParams::default(), &binding)
        .await
        .expect("a binding");
    until_allowed(&world, "bob", &[], "create", "approvals").await;
    until_allowed(&world, "jane", &[], "approve", "modelversions").await;

    let (jane, bob) = (client_of("jane").await, client_of("bob").await);
    let subjects = [
        ("ModelVersion", "Promote"),
        ("FlywheelRun", "Train"),
        ("Rollout", "RolloutStep"),
    ];
    for (kind, gate) in subjects {
        let name = kind.to_lowercase();
        create(&jane, space, &approval(&name, kind, gate, "jane"))
            .await
            .expect("jane may approve");
        let refused = create(&bob, space, &approval("bob", kind, gate, "bob"))
            .await
            .unwrap_err();
        assert!(
            refused.contains("spec.subjectRef") && refused.contains("verb approve"),
            "{refused}"
        );
    }
    let forged = create(&jane, space, &approval("forged", "ModelVersion", "Promote", "bob"))
        .await
        .unwrap_err();
    assert!(forged.contains("spec.approver is bob, and you are jane"), "{forged}");
    bind(&world, "robots", "flywheel-approver", person(&account)).await;
    let mut config = admin().await;
    config.auth_info.impersonate = Some(account.clone());
    let robot = Client::try_from(config).expect("a client");
    let refused = create(&robot, space, &approval("robot", "ModelVersion", "Promote", &account))
        .await
        .unwrap_err();
    assert!(refused.contains("only people approve"), "{refused}");
}

fn requested(name: &str, requested_by: &str, trigger: &str) -> FlywheelRun {
    from(
        json!({ "metadata": { "name": name }, "spec": { "pipelineRef": { "name": "eta" }, "requestedBy": requested_by,
        "trigger": { "name": "x", "type": trigger } } }),
    )
}

#[tokio::test]
async fn cluster_a_run_is_requested_in_ones_own_name_and_triggers_belong_to_the_operator() {
    let world = api("request").await;
    bind(&world, "editors", "edit", person("bob")).await;
    until_allowed(&world, "bob", &[], "create", "flywheelruns").await;
    let runs: Api<FlywheelRun> = Api::namespaced(client_of("bob").await, &world.namespace);
    let create = async |name: &str, by: &str, trigger: &str| {
        let made = runs.create(&PostParams::default(), &requested(name, by, trigger)).await;
        made.map(drop).map_err(|e| e.to_string())
    };
    create("own", "bob", "Request").await.expect("bob asks as bob");
    let forged = create("forged", "jane", "Request").await.unwrap_err();
    assert!(
        forged.contains("spec.requestedBy is jane, and you are bob: write bob"),
        "{forged}"
    );
    for trigger in ["Schedule", "Metric"] {
        let refused = create("hidden", "", trigger).await.unwrap_err();
        let said = format!("spec.trigger.type is {trigger}, which the operator alone writes");
        assert!(refused.contains(&said), "{refused}");
    }
}

#[tokio::test]
async fn cluster_a_rollout_of_a_person_names_no_run() {
    let world = api("claimed").await;
    bind(&world, "editors", "edit", person("bob")).await;
    until_allowed(&world, "bob", &[], "create", "rollouts").await;
    let rollouts: Api<Rollout> = Api::namespaced(client_of("bob").await, &world.namespace);
    let mut rollout: Rollout = from(json!({ "metadata": { "name": "own" }, "spec": delivery() }));
    rollouts
        .create(&PostParams::default(), &rollout)
        .await
        .expect("bob delivers by hand");
    rollout.metadata.name = Some("claimed".to_owned());
    rollout.spec.run_ref = Some(from(json!({ "name": "eta-1", "uid": "0" })));
    let refused = rollouts.create(&PostParams::default(), &rollout).await.unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("spec.runRef names run eta-1, and the operator alone writes"),
        "{refused}"
    );
}

#[tokio::test]
async fn cluster_a_version_that_a_person_imports_names_no_run() {
    let world = api("passed-off").await;
    bind(&world, "editors", "edit", person("bob")).await;
    until_allowed(&world, "bob", &[], "create", "modelversions").await;
    let versions: Api<ModelVersion> = Api::namespaced(client_of("bob").await, &world.namespace);
    let mut own = version(1);
    own["metadata"] = json!({ "name": "eta-1" });
    let own: ModelVersion = from(own);
    versions
        .create(&PostParams::default(), &own)
        .await
        .expect("bob imports a version");

    let mut claimed = own.clone();
    claimed.metadata.name = Some("claimed".to_owned());
    claimed.spec.provenance = Some(from(json!({
        "pipeline": { "name": "eta", "uid": "0" }, "run": { "name": "eta-1", "uid": "0" }, "stages": [], "seed": 0,
        "snapshotDigest": format!("sha256:{}", "0".repeat(64)), "level": "Manual", "requestedBy": "",
    })));
    let refused = versions.create(&PostParams::default(), &claimed).await.unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("spec.provenance names run eta-1, and the operator alone registers"),
        "{refused}"
    );

    let label = json!({ "flywheel.dev/run-uid": "0" });
    let mut labelled = own;
    labelled.metadata.name = Some("labelled".to_owned());
    labelled.metadata.labels = Some(from(label.clone()));
    let created = versions.create(&PostParams::default(), &labelled).await;
    let change = |labels: Value| Patch::Merge(json!({ "metadata": { "labels": labels } }));
    let params = PatchParams::default();
    let patched = versions.patch("eta-1", &params, &change(label)).await;
    for refused in [created, patched] {
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("flywheel.dev/run-uid is 0"), "{refused}");
    }
    let other = change(json!({ "team": "blue" }));
    versions
        .patch("eta-1", &params, &other)
        .await
        .expect("a label of bob's");
}

async fn admin() -> Config {
    let file = std::env::var("FLYWHEEL_TEST_API_KUBECONFIG").expect("run `cargo xtask test`");
    let kubeconfig = Kubeconfig::read_from(&file).expect("the kubeconfig can be read");
    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .expect("the kubeconfig is whole")
}

fn version(number: i64) -> Value {
    json!({ "spec": { "modelName": "eta", "version": number, "artifact": {
        "uri": format!("https://models.example/eta-{number}"), "digest": format!("sha256:{}", "0".repeat(64)) } } })
}

fn delivery() -> Value {
    json!({ "modelVersionRef": { "name": "eta-2" }, "plan": {
        "targetRef": { "kind": "Deployment", "name": "eta" },
        "binding": { "type": "DeploymentEnv", "container": "app", "name": "MODEL_URI" },
        "strategy": { "steps": [{ "name": "half", "weight": 50 }] } } })
}

async fn delete(world: &World, name: &str) -> Result<(), String> {
    let versions = world.api::<ModelVersion>();
    let deleted = versions.delete(name, &DeleteParams::background()).await;
    deleted.map(drop).map_err(|e| e.to_string())
}

async fn serve(world: &World, uri: &str) {
    let target = json!({ "spec": { "replicas": 1, "selector": { "matchLabels": { "app": "eta" } }, "template": {
        "metadata": { "labels": { "app": "eta" } },
        "spec": { "containers": [{ "name": "app", "image": "example/eta", "env": [{ "name": "MODEL_URI", "value": uri }] }] }
    }}});
    world.apply::<Deployment>("eta", target).await.expect("a target");
}

#[tokio::test]
async fn cluster_a_live_version_and_a_rollback_target_are_not_deleted_before_their_namespace() {
    let world = api("live").await;
    for number in [1, 2] {
        world
            .apply::<ModelVersion>(&format!("eta-{number}"), version(number))
            .await
            .expect("a version");
    }
    serve(&world, "https://models.example/eta-1").await;
    let rollout = json!({ "spec": delivery() });
    world.apply::<Rollout>("eta-2", rollout).await.expect("a Rollout");
    world
        .until::<ModelVersion>("eta-1", 30, "live", |o| condition(o, "Live", "True", "Serves"))
        .await;
    let refused = delete(&world, "eta-1").await.unwrap_err();
    assert!(
        refused.contains("eta-1 serves") && refused.contains("roll out another version first"),
        "{refused}"
    );
    // Somebody else's value serves now: version 1 is only what the Rollout would go back to.
    serve(&world, "https://models.example/other").await;
    world
        .until::<ModelVersion>("eta-1", 30, "a rollback target that does not serve", |o| {
            condition(o, "Live", "False", "DoesNotServe") && condition(o, "RollbackTarget", "True", "RolloutGoesBack")
        })
        .await;
    let refused = delete(&world, "eta-1").await.unwrap_err();
    assert!(
        refused.contains("Rollout eta-2 goes back") && refused.contains("once another one serves"),
        "{refused}"
    );
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    namespaces
        .delete(&world.namespace, &DeleteParams::default())
        .await
        .expect("deleted");
    // The API server's controller comes back to a namespace after pauses that grow while something is left in it.
    for _ in 0..900 {
        if namespaces.get_opt(&world.namespace).await.expect("an answer").is_none() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    panic!("the namespace {} does not end", world.namespace);
}

#[tokio::test]
async fn cluster_a_version_that_nothing_needs_is_deleted() {
    let world = api("unneeded").await;
    world
        .apply::<ModelVersion>("eta-1", version(1))
        .await
        .expect("a version");
    world
        .until::<ModelVersion>("eta-1", 30, "registered", |o| {
            condition(o, "RollbackTarget", "False", "NoRollout")
        })
        .await;
    delete(&world, "eta-1").await.expect("nothing needs it");
    for _ in 0..100 {
        if world
            .api::<ModelVersion>()
            .get_opt("eta-1")
            .await
            .expect("an answer")
            .is_none()
        {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    panic!("the version stays");
}

/// Whether the API server would let this user do this in the world's namespace; resources are `group/name/subresource`.
async fn allowed(world: &World, user: &str, groups: &[&str], verb: &str, resource: &str) -> bool {
    let mut parts = resource.split('/');
    let (name, sub) = (parts.next().unwrap(), parts.next());
    let group = match name {
        "deployments" | "controllerrevisions" => "apps",
        "jobs" => "batch",
        "leases" => "coordination.k8s.io",
        "roles" | "rolebindings" | "clusterroles" => "rbac.authorization.k8s.io",
        "configmaps" | "namespaces" | "nodes" | "pods" | "secrets" | "serviceaccounts" => "",
        _ => "flywheel.dev",
    };
    let review: SubjectAccessReview = from(
        json!({ "spec": { "user": user, "groups": groups, "resourceAttributes": {
            "namespace": world.namespace, "verb": verb, "group": group, "resource": name, "subresource": sub.unwrap_or_default(),
        }}}),
    );
    let asked = Api::all(world.client.clone())
        .create(&PostParams::default(), &review)
        .await
        .expect("an answer");
    asked.status.is_some_and(|s| s.allowed)
}

const OPERATOR: &str = "system:serviceaccount:flywheel-system:flywheel";

/// Who, what, on what, and whether it is allowed.
const RIGHTS: [(&str, &str, &str, bool); 44] = [
    ("view", "list", "approvals", true),
    ("view", "create", "flywheelruns", false),
    ("view", "create", "approvals", false),
    ("edit", "create", "flywheelpipelines", true),
    ("edit", "delete", "modelversions", true),
    ("edit", "list", "approvals", true),
    ("edit", "create", "approvals", false),
    ("edit", "delete", "approvals", false),
    ("edit", "approve", "modelversions", false),
    ("edit", "update", "modelversions/status", false),
    ("edit", "patch", "rollouts/status", false),
    ("admin", "approve", "rollouts", false),
    ("admin", "update", "flywheelruns/status", false),
    ("flywheel-approver", "create", "approvals", true),
    ("flywheel-approver", "approve", "flywheelruns", true),
    ("flywheel-approver", "update", "approvals", false),
    ("flywheel-approver", "delete", "approvals", false),
    ("flywheel-approver", "create", "flywheelruns", false),
    ("flywheel-approver", "patch", "rollouts", false),
    (OPERATOR, "watch", "approvals", true),
    (OPERATOR, "create", "approvals", false),
    (OPERATOR, "update", "approvals", false),
    (OPERATOR, "delete", "approvals", false),
    (OPERATOR, "approve", "modelversions", false),
    (OPERATOR, "update", "rollouts/status", true),
    (OPERATOR, "create", "flywheelpipelines", false),
    (OPERATOR, "delete", "flywheelpipelines", false),
    (OPERATOR, "create", "biaspolicies", false),
    (OPERATOR, "patch", "deployments", true),
    (OPERATOR, "create", "jobs", true),
    (OPERATOR, "update", "jobs/status", false),
    (OPERATOR, "create", "pods", false),
    (OPERATOR, "create", "pods/exec", false),
    (OPERATOR, "get", "pods/log", false),
    (OPERATOR, "get", "secrets", false),
    (OPERATOR, "list", "secrets", false),
    (OPERATOR, "get", "configmaps", false),
    (OPERATOR, "get", "leases", false),
    (OPERATOR, "create", "roles", false),
    (OPERATOR, "bind", "clusterroles", false),
    (OPERATOR, "create", "serviceaccounts/token", false),
    (OPERATOR, "list", "nodes", false),
    (OPERATOR, "list", "namespaces", false),
    ("anybody", "list", "flywheelpipelines", false),
];

#[tokio::test]
async fn cluster_every_role_allows_what_it_is_for_and_nothing_else() {
    let world = api("roles").await;
    for role in ["view", "edit", "admin", "flywheel-approver"] {
        bind(&world, role, role, person(role)).await;
    }
    until_allowed(&world, "view", &[], "get", "rollouts").await;
    until_allowed(&world, "edit", &[], "patch", "rollouts").await;
    until_allowed(&world, "admin", &[], "patch", "rollouts").await;
    until_allowed(&world, "flywheel-approver", &[], "approve", "rollouts").await;
    for (user, verb, resource, expected) in RIGHTS {
        let found = allowed(&world, user, &["system:authenticated"], verb, resource).await;
        assert_eq!(found, expected, "{user} {verb} {resource}");
    }
}

#[tokio::test]
async fn cluster_an_approval_is_never_changed() {
    let world = api("fixed").await;
    let mine = approval("mine", "ModelVersion", "Promote", "admin");
    create(&world.client, &world.namespace, &mine).await.expect("accepted");
    let change = json!({ "spec": { "approver": "jane" } });
    let changed = world
        .api::<Approval>()
        .patch("mine", &PatchParams::default(), &Patch::Merge(change))
        .await;
    let refused = changed.unwrap_err().to_string();
    assert!(refused.contains("immutable"), "{refused}");
}
