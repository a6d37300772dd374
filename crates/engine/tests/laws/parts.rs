//! Whoever decides again on live reads need read nothing but what the decision looked at.

use flywheel_api::rollout::RolloutPhase;
use flywheel_engine::decision::Decision;
use flywheel_engine::testing::Kind;
use serde_json::json;

use crate::check::looked::{DEPLOYMENTS, delivery_looked_at};
use crate::shop::{delivery, phase};

#[test]
fn a_step_without_demands_rests_on_the_deployments_alone() {
    let mut plan = flywheel_engine::testing::plan();
    plan["strategy"]["steps"] = json!([{ "name": "half", "weight": 50 }]);
    plan["observe"] = json!({ "duration": "5m" });
    let (mut world, mut writes) = (delivery(&plan), 0);
    while phase(&world, "second") != RolloutPhase::Observing {
        let at = phase(&world, "second");
        let under_way = matches!(
            at,
            RolloutPhase::Progressing | RolloutPhase::Holding | RolloutPhase::Promoting
        );
        let (decision, looked) = delivery_looked_at(&world, "second");
        if under_way && !matches!(decision, Decision::Wait(_)) {
            writes += 1;
            assert_eq!(looked & !DEPLOYMENTS, 0, "{decision:?}");
        }
        if !world.look(Kind::Rollout, "second") {
            world.run_deployments();
            world.pass(10);
        }
    }
    assert!(writes > 5, "{writes}");
}
