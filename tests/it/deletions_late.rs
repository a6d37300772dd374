//! Deletions around a delivery that waits for its turn, and around one that is on its way back.

use flywheel_api::{FlywheelPipeline, ModelVersion, Rollout};
use serde_json::json;

use crate::deletions::{Case, Kind, begin, each, half, is_gone, is_there, serves};
use crate::serving::{nothing_left, plan, reaches, uri, version, want};
use crate::world::{World, node};

/// What becomes of the delivery under way when something of the one behind it is deleted.
async fn behind(world: &World, case: Case) {
    let (name, next) = (case.to_string(), format!("{case}-next"));
    let traffic = begin(world, &case, half(&case)).await;
    let first = reaches(world, &name, 180, &["Holding"]).await;
    version(world, &name, 3, &uri(&case.model("three"))).await;
    let spec = json!({ "spec": { "modelVersionRef": { "name": format!("{name}-3") }, "plan": half(&case),
        "pipelineRef": first["spec"]["pipelineRef"] } });
    world.apply::<Rollout>(&next, spec).await.expect("accepted");
    reaches(world, &next, 60, &["Queued"]).await;
    match case.kind {
        Kind::Rollout => {
            let rollouts = world.api::<Rollout>();
            rollouts.delete(&next, &case.params()).await.expect("deleted");
            is_gone::<Rollout>(world, &next).await;
        }
        Kind::CandidateVersion => {
            let versions = world.api::<ModelVersion>();
            versions
                .delete(&format!("{name}-3"), &case.params())
                .await
                .expect("deleted");
            is_gone::<ModelVersion>(world, &format!("{name}-3")).await;
            want(world, &next, "Abort").await;
            reaches(world, &next, 60, &["Aborted"]).await;
        }
        _ => {
            let pipelines = world.api::<FlywheelPipeline>();
            pipelines.delete(&name, &case.params()).await.expect("deleted");
            reaches(world, &next, 120, &["Aborted"]).await;
            reaches(world, &name, 120, &["RolledBack", "Aborted"]).await;
            return serves(world, &case, traffic, "one").await;
        }
    }
    let now = reaches(world, &name, 10, &["Holding"]).await;
    let candidate = &now["status"]["candidateDeployment"]["uid"];
    assert_eq!(candidate, &first["status"]["candidateDeployment"]["uid"], "{case}");
    want(world, &name, "Promote").await;
    reaches(world, &name, 180, &["Promoted"]).await;
    serves(world, &case, traffic, "two").await;
}

#[tokio::test]
async fn node_deletions_behind_a_delivery_leave_it_alone() {
    let world = node("del-queued").await;
    let kinds = [Kind::Rollout, Kind::CandidateVersion, Kind::Pipeline];
    each(&kinds, |case| behind(&world, case)).await;
    nothing_left(&world, 90).await;
}

/// What becomes of a delivery that is taken back from a target that had it whole.
async fn on_the_way_back(world: &World, case: Case) {
    let name = case.to_string();
    let mut plan = plan(&name, json!([]));
    plan["observe"] = json!({ "duration": "1h" });
    let traffic = begin(world, &case, plan).await;
    reaches(world, &name, 180, &["Observing"]).await;
    want(world, &name, "RollBack").await;
    reaches(world, &name, 60, &["RollingBack"]).await;
    case.delete(world).await;
    match case.kind {
        Kind::Rollout => is_gone::<Rollout>(world, &name).await,
        _ => {
            reaches(world, &name, 120, &["RolledBack"]).await;
        }
    }
    is_there(world, format!("{name}-1")).await;
    serves(world, &case, traffic, "one").await;
}

#[tokio::test]
async fn node_deletions_on_the_way_back_bring_the_baseline_back() {
    let world = node("del-back").await;
    let kinds = [
        Kind::Rollout,
        Kind::CandidateVersion,
        Kind::BaselineVersion,
        Kind::Pipeline,
    ];
    each(&kinds, |case| on_the_way_back(&world, case)).await;
    nothing_left(&world, 90).await;
}
