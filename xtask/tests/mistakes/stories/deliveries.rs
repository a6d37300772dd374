//! Stories of Rollouts that a user made.

use flywheel_api::rollout::RolloutPhase;
use flywheel_engine::decision::{Action, Child, ChildKind};
use flywheel_engine::rollout::Reading;
use flywheel_engine::testing::{self, Content, Kind, World};
use serde_json::json;

use super::{delivery, phase, plan, wish};
use crate::stage::Stage;

/// Version 2 is delivered.
pub fn a_delivery(stage: &mut Stage) {
    delivery(stage, &plan());
    stage.live(1);
    assert_eq!(phase(stage, "second"), RolloutPhase::Holding, "it lasts two minutes");
    stage.live(3);
    assert_eq!(phase(stage, "second"), RolloutPhase::Promoted, "how it ends");
    assert_eq!(stage.world.binding("eta"), Some(testing::uri(2)));
}

/// A metric provider without data, and then with bad data.
pub fn a_silent_check(stage: &mut Stage) {
    let mut plan = plan();
    plan["checks"] = json!([testing::check()]);
    delivery(stage, &plan);
    stage.live(4);
    assert_eq!(
        phase(stage, "second"),
        RolloutPhase::Holding,
        "without data nothing passes"
    );
    stage.happens(|w| drop(w.answers.insert("errors($candidate)".to_owned(), Reading::Value(0.5))));
    stage.live(2);
    assert_eq!(phase(stage, "second"), RolloutPhase::RolledBack, "how it ends");
}

/// What was promoted is taken back.
pub fn a_way_back(stage: &mut Stage) {
    delivery(stage, &plan());
    stage.live(4);
    wish(stage, "RollBack");
    stage.live(1);
    assert_eq!(phase(stage, "second"), RolloutPhase::RolledBack, "how it ends");
    assert_eq!(stage.world.binding("eta"), Some(testing::uri(1)));
}

/// Pods of the candidate take their time.
pub fn slow_pods(stage: &mut Stage) {
    let mut plan = plan();
    plan["capacity"] = json!({ "baseline": "ShrinkWithWeight" });
    delivery(stage, &plan);
    stage.settle();
    let target = stage
        .world
        .raw(&(Kind::Deployment, "eta".to_owned()))
        .expect("it is there");
    assert_eq!(target["spec"]["replicas"], 2, "no other pod is ready");
    stage.live(4);
    assert_eq!(phase(stage, "second"), RolloutPhase::Promoted, "how it ends");
}

/// A user's own Deployment has the candidate's name.
pub fn a_namesake_of_the_candidate(stage: &mut Stage) {
    stage.begin(|w| {
        let mut own = testing::target(3, None);
        own.metadata.name = Some("eta-candidate".to_owned());
        w.add(Kind::Deployment, &own);
    });
    delivery(stage, &plan());
    stage.live(3);
    wish(stage, "RollBack");
    stage.live(1);
    let own = stage.world.raw(&(Kind::Deployment, "eta-candidate".to_owned()));
    assert_eq!(own.expect("it is left alone")["spec"]["replicas"], 3);
}

/// The Rollout is deleted while its candidate serves.
pub fn a_deleted_rollout(stage: &mut Stage) {
    delivery(stage, &plan());
    stage.live(1);
    stage.happens(|w| w.delete(Kind::Rollout, "second"));
    stage.live(1);
    assert_eq!(stage.world.names(Kind::Deployment), ["eta"]);
}

/// The Rollout is deleted while the operator has other things to do.
pub fn a_rollout_deleted_in_a_busy_namespace(stage: &mut Stage) {
    delivery(stage, &plan());
    stage.live(1);
    stage.happens(|w| w.delete(Kind::Rollout, "second"));
    stage.happens(|w| {
        w.add(Kind::BiasPolicy, &testing::policy("airports"));
    });
    for limit in 0..10 {
        let limit = limit.to_string();
        stage.happens(|w| w.set(Kind::BiasPolicy, "airports", "objectives/0/limit/max", limit));
        stage.turn();
    }
    assert!(!stage.exists(Kind::Rollout, "second"), "it is still there");
}

/// A Rollout of another target makes the operator panic.
pub fn a_neighbour_that_panics(stage: &mut Stage) {
    delivery(stage, &plan());
    stage.happens(|w| {
        let mut plan = plan();
        plan["targetRef"]["name"] = json!("other");
        w.add(Kind::Rollout, &testing::rollout("poison", 2, &plan));
        w.panics.insert((Kind::Rollout, "poison".to_owned()));
    });
    stage.live(4);
    assert_eq!(phase(stage, "second"), RolloutPhase::Promoted, "how it ends");
}

/// A newer operator made a Rollout of the same target, which this one cannot read, while a person wants to go back.
pub fn an_unreadable_neighbour(stage: &mut Stage) {
    delivery(stage, &plan());
    stage.live(1);
    stage.happens(newer);
    wish(stage, "RollBack");
    stage.live(1);
    assert_eq!(phase(stage, "second"), RolloutPhase::RolledBack, "how it ends");
    assert_eq!(stage.world.binding("eta"), Some(testing::uri(1)));
}

/// Of a Rollout that cannot be read nobody knows how far it is.
pub fn a_delivery_behind_an_unreadable_one(stage: &mut Stage) {
    stage.begin(newer);
    delivery(stage, &plan());
    stage.live(4);
    assert_eq!(phase(stage, "second"), RolloutPhase::Queued, "how it ends");
}

fn newer(world: &mut World) {
    world.add(Kind::Rollout, &testing::rollout("newer", 1, &plan()));
    world.unreadable.insert((Kind::Rollout, "newer".to_owned()));
}

/// Somebody else writes the binding.
pub fn a_foreign_value(stage: &mut Stage) {
    delivery(stage, &plan());
    stage.live(1);
    stage.happens(|w| w.write_binding("eta", "s3://somewhere/else"));
    stage.live(3);
    assert_eq!(stage.world.binding("eta").as_deref(), Some("s3://somewhere/else"));
}

/// The target's owner changes it while a step is held.
pub fn a_changed_template(stage: &mut Stage) {
    delivery(stage, &plan());
    stage.live(1);
    let field = "template/spec/terminationGracePeriodSeconds";
    stage.happens(|w| w.set(Kind::Deployment, "eta", field, 45));
    stage.live(1);
    assert_ne!(phase(stage, "second"), RolloutPhase::Promoted, "the step begins again");
    stage.live(3);
    assert_eq!(phase(stage, "second"), RolloutPhase::Promoted, "how it ends");
}

/// Two Rollouts without steps want the same target.
pub fn two_rollouts(stage: &mut Stage) {
    let mut plan = plan();
    plan["strategy"]["steps"] = json!([]);
    delivery(stage, &plan);
    stage.happens(|w| {
        w.add(Kind::ModelVersion, &testing::version(3));
        w.add(Kind::Rollout, &testing::rollout("third", 3, &plan));
    });
    stage.live(2);
    assert_eq!(phase(stage, "third"), RolloutPhase::Promoted, "how it ends");
    assert_eq!(stage.world.binding("eta"), Some(testing::uri(3)));
}

/// A promotion that hangs, and arrives after the way back.
pub fn a_late_promotion(stage: &mut Stage) {
    delivery(stage, &plan());
    let binds = |action: &Action| matches!(action, Action::Patch(p) if p.body["spec"]["template"].is_object());
    let late = stage.until(binds);
    wish(stage, "RollBack");
    stage.live(3);
    stage.arrive(&late);
    assert_eq!(stage.world.binding("eta"), Some(testing::uri(1)));
}

/// A status that hangs, and arrives after the way back.
pub fn a_late_status(stage: &mut Stage) {
    delivery(stage, &plan());
    stage.live(1);
    stage.world.pass(60);
    let late = stage.world.hold(Kind::Rollout, "second").expect("the step is over");
    assert!(matches!(&late.content, Content::Status(s, _) if s["phase"] == "Promoting"));
    wish(stage, "RollBack");
    stage.live(1);
    stage.arrive(&late);
    assert_eq!(phase(stage, "second"), RolloutPhase::RolledBack, "how it ends");
}

/// A deletion of the candidate that arrives after a user took its name.
pub fn a_late_deletion(stage: &mut Stage) {
    delivery(stage, &plan());
    stage.live(1);
    wish(stage, "RollBack");
    let late = stage.until(|action| matches!(action, Action::Delete(key) if key.kind == ChildKind::Deployment));
    stage.happens(|w| w.delete(Kind::Deployment, "eta-candidate"));
    stage.happens(|w| {
        let mut own = testing::target(3, None);
        own.metadata.name = Some("eta-candidate".to_owned());
        w.add(Kind::Deployment, &own);
    });
    stage.arrive(&late);
    assert!(stage.exists(Kind::Deployment, "eta-candidate"), "another's Deployment");
}

/// A candidate that is created after its Rollout is gone.
pub fn a_late_candidate(stage: &mut Stage) {
    delivery(stage, &plan());
    let creates = |action: &Action| matches!(action, Action::Create(child) if matches!(**child, Child::Deployment(_)));
    let late = stage.until(creates);
    stage.happens(|w| w.delete(Kind::Rollout, "second"));
    stage.live(1);
    stage.arrive(&late);
    stage.happens(World::run_deployments);
    assert_eq!(stage.world.ready("eta-candidate"), 0, "it serves");
}
