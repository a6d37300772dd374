//! What happens in a namespace while writes go wrong: each story ends in one way, whatever goes wrong.

use flywheel_api::{BiasPolicy, FlywheelPipeline, Rollout};
use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::fast::{Answer, Fast};
use crate::rollout::scene::{PATIENCE, long, plan, scene, uri};
use crate::runs::turn::{Turn, delivery, evaluated, fair, trained, turn};

/// A beginning, and the one end that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Story {
    /// From a request to a version that serves.
    Promoted,
    /// A version that misses its gate.
    Rejected,
    /// A check fails while the candidate has traffic.
    RolledBack,
    /// The pipeline is deleted while its version is delivered.
    Deleted,
    /// A version that a policy judges and a person approves serves.
    Approved,
}

pub const STORIES: [Story; 5] = [
    Story::Promoted,
    Story::Rejected,
    Story::RolledBack,
    Story::Deleted,
    Story::Approved,
];

/// A story that ended.
pub enum Ended {
    Turn(Turn),
    Scene(crate::rollout::scene::Scene),
}

impl std::ops::Deref for Ended {
    type Target = Fast;

    fn deref(&self) -> &Fast {
        match self {
            Self::Turn(turn) => turn,
            Self::Scene(scene) => scene,
        }
    }
}

impl Ended {
    /// What held at every moment is judged.
    pub async fn finish(self) {
        match self {
            Self::Turn(turn) => turn.finish().await,
            Self::Scene(scene) => scene.judge().await,
        }
    }
}

impl Story {
    /// Tells it to its end; panics if the end is another one.
    pub async fn tell(self, fast: Fast) -> Ended {
        match self {
            Self::Promoted => promoted(fast).await,
            Self::Rejected => rejected(fast).await,
            Self::RolledBack => rolled_back(fast).await,
            Self::Deleted => deleted(fast).await,
            Self::Approved => approved(fast).await,
        }
    }
}

async fn promoted(fast: Fast) -> Ended {
    let turn = turn(fast, json!({ "rollout": delivery() })).await;
    turn.serve(1).await;
    turn.ask("eta-1").await;
    serves(turn).await
}

async fn approved(fast: Fast) -> Ended {
    let spec = json!({ "rollout": delivery(), "automationLevel": "HumanOversight",
        "biasPolicies": [{ "name": "fair" }] });
    let turn = turn(fast, spec).await;
    turn.apply::<BiasPolicy>("fair", fair()).await.expect("accepted");
    turn.serve(1).await;
    turn.ask("eta-1").await;
    let waiting = turn.waits("eta-1", "Promote").await;
    turn.decide(&waiting, "yes", "Approve").await;
    serves(turn).await
}

/// The version of the run comes to serve.
async fn serves(turn: Turn) -> Ended {
    turn.ended("eta-1", "Promoted").await;
    let done = |o: &Value| o["status"]["phase"] == "Promoted";
    let all = turn.names::<Rollout>().await;
    turn.until::<Rollout>(all.first().expect("a Rollout"), PATIENCE, "promoted", done)
        .await;
    gone(&turn).await;
    known(&turn).await;
    Ended::Turn(turn)
}

async fn rejected(fast: Fast) -> Ended {
    let turn = turn(fast, json!({ "rollout": delivery() })).await;
    turn.kubelet.stages(|file| match file["type"].as_str() {
        Some("Train") => trained(file),
        _ => evaluated(file, 9.0, -0.5),
    });
    turn.serve(1).await;
    turn.ask("eta-1").await;
    turn.ended("eta-1", "Rejected").await;
    known(&turn).await;
    Ended::Turn(turn)
}

async fn rolled_back(fast: Fast) -> Ended {
    let scene = scene(fast, 2).await;
    scene.say("errors", Answer::Number(0.25));
    let check = json!({ "name": "errors", "providerRef": { "name": "fake" }, "query": scene.query("errors"),
        "max": "1", "interval": "1s" });
    let steps = [long("half", 50)];
    scene
        .roll("up", "eta-2", plan(&steps, json!({ "checks": [check] })))
        .await;
    let passing =
        |o: &Value| o["status"]["step"]["holdReason"] == "MinDuration" && o["status"]["checks"][0]["verdict"] == "Pass";
    scene
        .until::<Rollout>("up", PATIENCE, "passing its check", passing)
        .await;
    scene.say("errors", Answer::Number(3.0));
    scene.ended("up", "RolledBack").await;
    scene.gone::<Deployment>("web-candidate").await;
    assert_eq!(scene.value().await, Some(uri(1)));
    Ended::Scene(scene)
}

async fn deleted(fast: Fast) -> Ended {
    let steps = plan(&[long("half", 50)], json!({}));
    let turn = turn(fast, json!({ "rollout": steps })).await;
    turn.serve(2).await;
    turn.ask("eta-1").await;
    let all = loop {
        let all = turn.names::<Rollout>().await;
        if !all.is_empty() {
            break all;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    let name = all.first().expect("a Rollout");
    turn.until::<Rollout>(name, PATIENCE, "at its step", |o| {
        o["status"]["step"]["holdReason"] == "MinDuration"
    })
    .await;
    turn.api::<FlywheelPipeline>()
        .delete("eta", &DeleteParams::background())
        .await
        .expect("deleted");
    let back = |o: &Value| o["status"]["phase"] == "Aborted" || o["status"]["phase"] == "RolledBack";
    turn.until::<Rollout>(name, PATIENCE, "back", back).await;
    gone(&turn).await;
    turn.left::<FlywheelPipeline>(&[]).await;
    turn.left::<flywheel_api::FlywheelRun>(&[]).await;
    turn.left::<k8s_openapi::api::batch::v1::Job>(&[]).await;
    Ended::Turn(turn)
}

/// The pipeline knows how its run ended.
async fn known(turn: &Turn) {
    let known = |o: &Value| o["status"]["lastRun"]["name"] == "eta-1" && o["status"]["activeRun"].is_null();
    turn.until::<FlywheelPipeline>("eta", PATIENCE, "aware of its run's end", known)
        .await;
}

async fn gone(turn: &Turn) {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(PATIENCE * crate::world::PATIENCE);
    loop {
        let all = turn
            .api::<Deployment>()
            .list(&Default::default())
            .await
            .expect("a list");
        let names: Vec<String> = all.items.iter().map(ResourceExt::name_any).collect();
        if names == ["web"] {
            return;
        }
        assert!(std::time::Instant::now() < end, "left behind: {names:?}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}
