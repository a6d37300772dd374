//! Whatever is deleted of a delivery, in whichever phase and whichever way: the live model goes on serving, and nothing
//! is left behind.

use std::fmt;

use flywheel_api::{FlywheelPipeline, ModelVersion, Rollout};
use futures::future::join_all;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{DeleteParams, PropagationPolicy};
use kube::{Error, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::serving::{bound, manifest, nothing_left, plan, probe, reaches, serve_as, uri, version, want};
use crate::traffic::Traffic;
use crate::world::{World, node, pipeline};

/// What is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Rollout,
    Candidate,
    CandidateVersion,
    BaselineVersion,
    Pipeline,
    Run,
}

/// How it is deleted: with everything that it owns first, or last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Foreground,
    Background,
}

/// One deletion in a namespace of many; everything that belongs to it bears its name.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub kind: Kind,
    pub way: Way,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", format!("{:?}-{:?}", self.kind, self.way).to_lowercase())
    }
}

impl Case {
    pub fn params(&self) -> DeleteParams {
        DeleteParams {
            propagation_policy: Some(match self.way {
                Way::Foreground => PropagationPolicy::Foreground,
                Way::Background => PropagationPolicy::Background,
            }),
            ..DeleteParams::default()
        }
    }

    pub fn model(&self, number: &str) -> String {
        format!("{self}-{number}")
    }

    pub async fn delete(&self, world: &World) {
        let (name, params) = (self.to_string(), self.params());
        let gone = match self.kind {
            Kind::Rollout => world.api::<Rollout>().delete(&name, &params).await.map(drop),
            Kind::Candidate => {
                let name = format!("{name}-candidate");
                world.api::<Deployment>().delete(&name, &params).await.map(drop)
            }
            Kind::Pipeline => world.api::<FlywheelPipeline>().delete(&name, &params).await.map(drop),
            Kind::CandidateVersion => delete_version(world, &format!("{name}-2"), &params).await,
            Kind::BaselineVersion => delete_version(world, &format!("{name}-1"), &params).await,
            Kind::Run => panic!("a run is deleted together with its Jobs, elsewhere"),
        };
        gone.expect("deleted");
    }
}

/// A version that serves may also be kept by a policy of the administrator, which refuses the deletion.
async fn delete_version(world: &World, name: &str, params: &DeleteParams) -> Result<(), Error> {
    match world.api::<ModelVersion>().delete(name, params).await {
        Err(Error::Api(refused)) if [403, 422].contains(&refused.code) => Ok(()),
        other => other.map(drop),
    }
}

fn cases(kinds: &[Kind]) -> Vec<Case> {
    let ways = [Way::Foreground, Way::Background];
    kinds
        .iter()
        .flat_map(|kind| ways.map(|way| Case { kind: *kind, way }))
        .collect()
}

/// How many deletions are under way at the same time; pods that start and stop are what a small machine is slow at.
static UNDER_WAY: Semaphore = Semaphore::const_new(6);

/// Goes through all cases, a few at a time.
pub async fn each<F: Future<Output = ()>>(kinds: &[Kind], of: impl Fn(Case) -> F) {
    let one = |case| {
        let work = of(case);
        async {
            let _turn = UNDER_WAY.acquire().await.expect("never closed");
            work.await;
        }
    };
    join_all(cases(kinds).into_iter().map(one)).await;
}

/// A target that serves version 1, and a delivery of version 2 for a pipeline.
pub async fn begin(world: &World, case: &Case, plan: Value) -> Traffic {
    let name = case.to_string();
    let mut target = manifest(&name, 1);
    // Pods that count only after some seconds keep a promotion open for long enough.
    target["spec"]["minReadySeconds"] = json!(4);
    let url = serve_as(world, target, Some(&case.model("one"))).await;
    version(world, &name, 1, &uri(&case.model("one"))).await;
    version(world, &name, 2, &uri(&case.model("two"))).await;
    let pipeline: FlywheelPipeline = world.apply(&name, pipeline(&name, &probe())).await.expect("accepted");
    let traffic = Traffic::gentle(&url).await;
    let by = json!({ "name": name, "uid": pipeline.uid() });
    let rollout =
        json!({ "spec": { "modelVersionRef": { "name": format!("{name}-2") }, "plan": plan, "pipelineRef": by } });
    world.apply::<Rollout>(&name, rollout).await.expect("accepted");
    traffic
}

pub fn half(case: &Case) -> Value {
    plan(
        &case.to_string(),
        json!([{ "name": "half", "weight": 50, "minDuration": "1h" }]),
    )
}

/// Stops the traffic: no request failed, and this model is bound and answers.
pub async fn serves(world: &World, case: &Case, traffic: Traffic, number: &str) {
    let model = case.model(number);
    assert_eq!(bound(world, &case.to_string()).await, Some(uri(&model)), "{case}");
    traffic.until_answered_by(&model, 60).await;
    let tally = traffic.stop().await;
    assert!(tally.failures.is_empty(), "{case}: requests failed: {tally:?}");
}

pub async fn is_gone<K>(world: &World, name: &str)
where
    K: flywheel::apply::Kind,
{
    let end = std::time::Instant::now() + std::time::Duration::from_secs(400);
    while let Some(found) = world.api::<K>().get_opt(name).await.expect("an answer") {
        assert!(
            std::time::Instant::now() < end,
            "{} {name} does not go: {:?}",
            K::kind(&()),
            found.meta()
        );
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}

pub async fn is_there(world: &World, version: String) {
    let found = world.api::<ModelVersion>().get_opt(&version).await.expect("an answer");
    assert!(found.is_some(), "{version} is needed and must stay");
}

/// What becomes of a delivery that is not promoted yet.
async fn before_promotion(world: &World, case: Case, phase: &str) {
    let name = case.to_string();
    let traffic = begin(world, &case, half(&case)).await;
    let held = reaches(world, &name, 180, &["Holding"]).await;
    if phase == "Promoting" {
        want(world, &name, "Promote").await;
        reaches(world, &name, 60, &["Promoting"]).await;
    }
    case.delete(world).await;
    match case.kind {
        Kind::Rollout => {
            is_gone::<Rollout>(world, &name).await;
            serves(world, &case, traffic, "one").await;
        }
        Kind::Pipeline => {
            is_gone::<FlywheelPipeline>(world, &name).await;
            reaches(world, &name, 120, &["RolledBack", "Aborted"]).await;
            serves(world, &case, traffic, "one").await;
        }
        Kind::Candidate | Kind::CandidateVersion | Kind::BaselineVersion => {
            if case.kind == Kind::Candidate && phase == "Holding" {
                let before = &held["status"]["candidateDeployment"]["uid"];
                world
                    .until::<Rollout>(&name, 120, "at the step with a new candidate", |o| {
                        let now = &o["status"]["candidateDeployment"]["uid"];
                        o["status"]["phase"] == "Holding" && now.is_string() && now != before
                    })
                    .await;
            }
            is_there(world, format!("{name}-1")).await;
            is_there(world, format!("{name}-2")).await;
            want(world, &name, "Promote").await;
            reaches(world, &name, 180, &["Promoted"]).await;
            is_there(world, format!("{name}-2")).await;
            serves(world, &case, traffic, "two").await;
        }
        Kind::Run => unreachable!("a run is deleted together with its Jobs, elsewhere"),
    }
}

const ALL: [Kind; 5] = [
    Kind::Rollout,
    Kind::Candidate,
    Kind::CandidateVersion,
    Kind::BaselineVersion,
    Kind::Pipeline,
];

#[tokio::test]
async fn node_deletions_while_a_candidate_has_traffic_keep_the_live_model_serving() {
    let world = node("del-holding").await;
    each(&ALL, |case| before_promotion(&world, case, "Holding")).await;
    nothing_left(&world, 90).await;
}

#[tokio::test]
async fn node_deletions_during_a_promotion_keep_the_live_model_serving() {
    let world = node("del-promoting").await;
    each(&ALL, |case| before_promotion(&world, case, "Promoting")).await;
    nothing_left(&world, 90).await;
}

/// What becomes of a delivery whose version already serves.
async fn after_promotion(world: &World, case: Case) {
    let name = case.to_string();
    let mut plan = plan(&name, json!([]));
    plan["observe"] = json!({ "duration": "1h" });
    let traffic = begin(world, &case, plan).await;
    reaches(world, &name, 180, &["Observing"]).await;
    case.delete(world).await;
    match case.kind {
        Kind::Rollout => is_gone::<Rollout>(world, &name).await,
        Kind::Pipeline => is_gone::<FlywheelPipeline>(world, &name).await,
        _ => {
            is_there(world, format!("{name}-1")).await;
            want(world, &name, "RollBack").await;
            reaches(world, &name, 120, &["RolledBack"]).await;
        }
    }
    let serving = if matches!(case.kind, Kind::CandidateVersion | Kind::BaselineVersion) {
        "one"
    } else {
        "two"
    };
    serves(world, &case, traffic, serving).await;
}

#[tokio::test]
async fn node_deletions_while_a_promoted_version_is_watched_keep_the_live_model_serving() {
    let world = node("del-observing").await;
    let kinds = [
        Kind::Rollout,
        Kind::CandidateVersion,
        Kind::BaselineVersion,
        Kind::Pipeline,
    ];
    each(&kinds, |case| after_promotion(&world, case)).await;
    nothing_left(&world, 90).await;
}
