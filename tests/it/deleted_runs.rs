//! Pipelines, runs and whole namespaces that are deleted while Jobs run or a version is delivered: what serves goes on
//! serving, and Jobs, pods and snapshots vanish with their owner.

use flywheel_api::{FlywheelPipeline, FlywheelRun, Rollout};
use futures::future::join_all;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::deletions::{Case, Kind, each, is_gone, serves};
use crate::serving::{
    deliver, manifest_with_store, nothing_left, plan, probe, reaches, serve, serve_as, uri, version, want,
};
use crate::stages::store;
use crate::traffic::Traffic;
use crate::world::{World, node, pipeline, run};

/// A target that serves, and a pipeline with a run whose training takes long enough to be deleted.
async fn begin(world: &World, case: &Case, busy: &str) -> Traffic {
    let name = case.to_string();
    let url = serve_as(world, manifest_with_store(&name, 1), Some(&case.model("one"))).await;
    let mut object = pipeline(&name, &probe());
    object["spec"]["stages"][0]["args"] = json!(["train", busy]);
    object["spec"]["rollout"] = plan(&name, json!([{ "name": "half", "weight": 50, "minDuration": "1h" }]));
    world.apply::<FlywheelPipeline>(&name, object).await.expect("accepted");
    let traffic = Traffic::gentle(&url).await;
    world.apply::<FlywheelRun>(&name, run(&name)).await.expect("accepted");
    traffic
}

async fn delete(world: &World, case: &Case) {
    let name = case.to_string();
    match case.kind {
        Kind::Run => {
            world
                .api::<FlywheelRun>()
                .delete(&name, &case.params())
                .await
                .expect("deleted");
        }
        _ => {
            world
                .api::<FlywheelPipeline>()
                .delete(&name, &case.params())
                .await
                .expect("deleted");
            is_gone::<FlywheelPipeline>(world, &name).await;
        }
    }
    is_gone::<FlywheelRun>(world, &name).await;
}

fn stage_runs(run: &Value) -> bool {
    run["status"]["stages"][0]["job"]["uid"].is_string()
}

async fn while_training(world: &World, case: Case) {
    let name = case.to_string();
    let traffic = begin(world, &case, "600").await;
    world.until::<FlywheelRun>(&name, 120, "training", stage_runs).await;
    delete(world, &case).await;
    serves(world, &case, traffic, "one").await;
}

#[tokio::test]
async fn node_pipelines_and_runs_deleted_while_a_stage_runs_leave_nothing_behind() {
    let world = node("del-training").await;
    store(&world).await;
    each(&[Kind::Pipeline, Kind::Run], |case| while_training(&world, case)).await;
    nothing_left(&world, 90).await;
}

/// A deleted pipeline takes its delivery back; a deleted run has done its part and leaves the delivery alone.
async fn while_delivering(world: &World, case: Case) {
    let name = case.to_string();
    let traffic = begin(world, &case, "0").await;
    let rollout = format!("{name}-1");
    reaches(world, &rollout, 240, &["Holding"]).await;
    delete(world, &case).await;
    if case.kind == Kind::Run {
        let left = world.until::<Rollout>(&rollout, 10, "there", |_| true).await;
        assert_eq!(left["status"]["phase"], "Holding", "{case}");
        want(world, &rollout, "Abort").await;
    }
    reaches(world, &rollout, 120, &["RolledBack"]).await;
    serves(world, &case, traffic, "one").await;
}

#[tokio::test]
async fn node_pipelines_and_runs_deleted_while_a_version_is_delivered_keep_the_live_model_serving() {
    let world = node("del-delivering").await;
    store(&world).await;
    each(&[Kind::Pipeline, Kind::Run], |case| while_delivering(&world, case)).await;
    nothing_left(&world, 90).await;
}

/// A namespace with a delivery in this phase and a stage that runs.
async fn namespace_in(phase: &'static str) {
    let world = node(&format!("gone-{}", phase.to_lowercase())).await;
    store(&world).await;
    serve(&world, "eta", 1, Some("eta-one")).await;
    version(&world, "eta", 1, &uri("eta-one")).await;
    version(&world, "eta", 2, &uri("eta-two")).await;
    let mut object = pipeline("other", &probe());
    object["spec"]["stages"][0]["args"] = json!(["train", "600"]);
    world
        .apply::<FlywheelPipeline>("other", object)
        .await
        .expect("accepted");
    world
        .apply::<FlywheelRun>("other", run("other"))
        .await
        .expect("accepted");
    let steps = match phase {
        "Holding" => json!([{ "name": "half", "weight": 50, "minDuration": "1h" }]),
        _ => json!([]),
    };
    let mut plan = plan("eta", steps);
    plan["observe"] = json!({ "duration": "1h" });
    deliver(&world, "eta-2", "eta-2", plan).await;
    reaches(&world, "eta-2", 180, &[phase]).await;
    world.until::<FlywheelRun>("other", 60, "training", stage_runs).await;
    let all: Api<Namespace> = Api::all(world.client.clone());
    all.delete(&world.namespace, &DeleteParams::default())
        .await
        .expect("deleted");
    let end = std::time::Instant::now() + std::time::Duration::from_secs(400);
    while let Some(found) = all.get_opt(&world.namespace).await.expect("an answer") {
        assert!(std::time::Instant::now() < end, "in phase {phase}: {:#?}", found.status);
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
}

#[tokio::test]
async fn node_a_namespace_is_deleted_in_every_phase_of_a_delivery() {
    join_all(["Holding", "Promoting", "Observing"].map(namespace_in)).await;
}
