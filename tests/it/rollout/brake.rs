//! The administrator's brake: forward stops, back goes on.

use flywheel_api::Rollout;
use serde_json::{Value, json};

use super::scene::{PATIENCE, calm, is, long, message, plan, scene, step, uri};
use crate::fast::alone;

#[tokio::test]
async fn cluster_the_brake_stops_forward_but_not_back() {
    let scene = scene(alone("brake").await, 1).await;
    scene.roll("a", "eta-2", plan(&[long("half", 50)], json!({}))).await;
    scene.held("a", "MinDuration").await;
    scene
        .settings(json!({ "brake": { "engaged": true, "reason": "the audit of May" } }))
        .await;
    let braked = scene.held("a", "Brake").await;
    assert!(is(&braked, "Braked", "True") && is(&braked, "Ready", "True"));
    assert!(message(&braked, "Braked").contains("the audit of May"));
    scene.want("a", "Promote").await;
    calm(2).await;
    scene.held("a", "Brake").await;
    scene.want("a", "RollBack").await;
    scene.ended("a", "RolledBack").await;
    scene.roll("b", "eta-3", plan(&[step("half", 50)], json!({}))).await;
    let stopped = |o: &Value| is(o, "Braked", "True") && o["status"]["phase"] == "Pending";
    scene.until::<Rollout>("b", PATIENCE, "braked", stopped).await;
    assert_eq!(scene.candidate().await, None);
    scene.settings(json!({})).await;
    scene.ended("b", "Promoted").await;
    scene.finish(Some(&uri(3)), 1).await;
}
