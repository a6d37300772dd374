//! The loop on a node: two turns, from the data to the live model and back along the lineage.

use flywheel_api::{FlywheelPipeline, FlywheelRun, ModelVersion, Rollout};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::serving::{bound, manifest_with_store, nothing_left, plan, probe, reaches, serve_as};
use crate::stages::store;
use crate::traffic::Traffic;
use crate::world::{World, condition, node, pipeline, run};

/// A loop whose versions must be good, and no worse than the live one on the same rows.
fn loop_of(target: &str) -> Value {
    let mut object = pipeline("eta", &probe());
    object["spec"]["gates"] = json!([
        { "name": "good", "metric": "mae", "compareTo": "Constant", "max": "5" },
        { "name": "better", "metric": "mae", "direction": "Minimize", "compareTo": "LiveVersion" }
    ]);
    object["spec"]["rollout"] = plan(target, json!([{ "name": "half", "weight": 50, "minDuration": "3s" }]));
    object
}

async fn turn(world: &World, name: &str, model: &str, error: &str) {
    let mut wanted = run("eta");
    wanted["spec"]["parameters"] = json!([{ "name": "model", "value": model }, { "name": "error", "value": error }]);
    world.apply::<FlywheelRun>(name, wanted).await.expect("accepted");
}

async fn promoted(world: &World, run: &str) -> Value {
    world
        .until::<FlywheelRun>(run, 180, "promoted", |o| condition(o, "Complete", "True", "Promoted"))
        .await
}

fn gate<'a>(run: &'a Value, name: &str) -> &'a Value {
    let gates = run["status"]["gates"].as_array().expect("verdicts");
    gates.iter().find(|g| g["gate"] == name).expect("a verdict")
}

#[tokio::test]
async fn node_two_turns_of_the_loop_deliver_compare_and_roll_out_under_traffic() {
    let world = node("turns").await;
    store(&world).await;
    let url = serve_as(&world, manifest_with_store("eta", 1), None).await;
    world
        .apply::<FlywheelPipeline>("eta", loop_of("eta"))
        .await
        .expect("accepted");
    let traffic = Traffic::start(&url).await;

    turn(&world, "eta-1", "eta-one", "1").await;
    let first = promoted(&world, "eta-1").await;
    assert_eq!(gate(&first, "good")["verdict"], "Pass");
    assert_eq!(
        gate(&first, "better")["verdict"],
        "NotApplicable",
        "nothing was live before"
    );
    traffic.until_answered_by("eta-one", 30).await;

    turn(&world, "eta-2", "eta-two", "0.8").await;
    let second = promoted(&world, "eta-2").await;
    assert_eq!(second["status"]["comparedWith"]["name"], "eta-1");
    assert_eq!(gate(&second, "better")["verdict"], "Pass");
    assert_eq!(
        gate(&second, "better")["baseline"],
        "1",
        "the live version's error on the same rows"
    );
    traffic.until_answered_by("eta-two", 30).await;

    world
        .until::<ModelVersion>("eta-1", 60, "superseded", |o| o["status"]["state"] == "Superseded")
        .await;
    world
        .until::<ModelVersion>("eta-2", 60, "live", |o| o["status"]["state"] == "Live")
        .await;
    nothing_left(&world, 60).await;
    // Nothing is asked of the loop any more that could be missed: every request had an answer of one of the three.
    traffic.expect_only(&["none", "eta-one", "eta-two"]).await;
    walk_forth(&world, "eta-1").await;
    walk_back(&world).await;
}

/// From the data of the first run to what serves now, by labels and status alone.
async fn walk_forth(world: &World, first_run: &str) {
    let run = world.until::<FlywheelRun>(first_run, 10, "there", |_| true).await;
    let datasets = run["status"]["stages"][0]["result"]["artifacts"]
        .as_array()
        .expect("artifacts");
    let dataset = datasets.iter().find(|a| a["type"] == "Dataset").expect("a dataset");
    let digest = dataset["digest"]
        .as_str()
        .expect("a digest")
        .trim_start_matches("sha256:");
    let of = |label: String| ListParams::default().labels(&label);
    let versions = world.api::<ModelVersion>();
    let made = versions
        .list(&of(format!("flywheel.dev/dataset={}", &digest[..16])))
        .await
        .expect("versions");
    let names: Vec<_> = made.items.iter().filter_map(|v| v.metadata.name.as_deref()).collect();
    assert_eq!(names, ["eta-1", "eta-2"], "the versions of that dataset");
    let children = versions
        .list(&of("flywheel.dev/parent=eta-1".to_owned()))
        .await
        .expect("versions");
    let child = &children.items.first().expect("a child").metadata.name;
    assert_eq!(child.as_deref(), Some("eta-2"));
    let rollouts = world
        .api::<Rollout>()
        .list(&of("flywheel.dev/model-version=eta-2".to_owned()))
        .await
        .expect("Rollouts");
    let delivery = rollouts.items.first().expect("a delivery");
    assert!(bound(world, &delivery.spec.plan.target_ref.name).await.is_some());
}

/// From what serves back to the Jobs and the data of the first version.
async fn walk_back(world: &World) {
    let target = world.until::<Deployment>("eta", 10, "there", |_| true).await;
    let serves = target["spec"]["template"]["metadata"]["annotations"]["flywheel.dev/model-version"].clone();
    assert_eq!(serves, "eta-2");
    let live = world.until::<ModelVersion>("eta-2", 10, "there", |_| true).await;
    assert_eq!(
        bound(world, "eta").await.as_deref(),
        live["spec"]["artifact"]["uri"].as_str()
    );
    let delivery = live["status"]["deployments"][0]["rollout"].clone();
    let rollout = reaches(world, delivery["name"].as_str().expect("a Rollout"), 10, &["Promoted"]).await;
    assert_eq!(rollout["metadata"]["uid"], delivery["uid"]);
    assert_eq!(rollout["status"]["baseline"]["version"], "eta-1");
    let parent = live["spec"]["parent"]["name"].as_str().expect("a parent");
    let parent = world.until::<ModelVersion>(parent, 10, "there", |_| true).await;
    assert_eq!(parent["status"]["children"][0], "eta-2");
    for (version, run) in [(&parent, "eta-1"), (&live, "eta-2")] {
        let provenance = &version["spec"]["provenance"];
        assert_eq!(provenance["run"]["name"], run);
        let made_by = world.until::<FlywheelRun>(run, 10, "there", |_| true).await;
        assert_eq!(provenance["run"]["uid"], made_by["metadata"]["uid"]);
        for (index, stage) in ["train", "evaluate"].into_iter().enumerate() {
            assert_eq!(provenance["stages"][index]["name"], stage);
            assert_eq!(
                provenance["stages"][index]["job"]["uid"],
                made_by["status"]["stages"][index]["job"]["uid"]
            );
            assert!(
                provenance["stages"][index]["imageId"]
                    .as_str()
                    .is_some_and(|i| i.contains("sha256"))
            );
        }
        assert_eq!(version["spec"]["datasets"][0]["name"], "train.rows");
    }
}
