//! Writes that hang, and arrive when their decision counts no more.

use flywheel_api::Rollout;
use flywheel_api::flywheel_run::RunOutcome;
use flywheel_api::rollout::RolloutPhase;
use flywheel_engine::decision::{Action, Child};
use flywheel_engine::testing::{self, Content, Held, Kind, World};
use serde_json::json;

use crate::shop::{delivery, outcome, phase, reason, run, shop, version};

/// Lets everything go on until such an effect is decided, and holds it.
fn until(world: &mut World, wanted: fn(&Action) -> bool) -> Held {
    for _ in 0..200 {
        let keys: Vec<_> = world.keys().cloned().collect();
        for (kind, name) in keys {
            while let Some(held) = world.hold(kind, &name) {
                if matches!(&held.content, Content::Effect(action) if wanted(action)) {
                    return held;
                }
                assert!(world.arrive(&held), "{held:?}");
            }
        }
        if world.waiting().is_some() {
            world.person("jane", flywheel_api::approval::ApprovalDecision::Approve);
        }
        world.run_jobs();
        world.run_deployments();
        world.pass(60);
    }
    panic!("no such effect is decided");
}

fn binds(action: &Action) -> bool {
    matches!(action, Action::Patch(p) if p.body["spec"]["template"].is_object())
}

fn shrinks(action: &Action) -> bool {
    matches!(action, Action::Patch(p) if p.object.name == "eta" && p.body["spec"]["replicas"].is_number())
}

fn makes_a_candidate(action: &Action) -> bool {
    matches!(action, Action::Create(child) if matches!(**child, Child::Deployment(_)))
}

fn delivers(action: &Action) -> bool {
    matches!(action, Action::Create(child) if matches!(**child, Child::Rollout(_)))
}

fn go_back(world: &mut World) {
    world.set(Kind::Rollout, "second", "desiredState", "RollBack");
}

#[test]
fn a_promotion_that_arrives_after_the_way_back_is_refused() {
    let mut world = delivery(&testing::plan());
    let late = until(&mut world, binds);
    go_back(&mut world);
    world.live(3);
    assert_eq!(phase(&world, "second"), RolloutPhase::RolledBack);
    assert!(!world.arrive(&late), "the version that was taken back would serve");
    assert_eq!(world.binding("eta"), Some(testing::uri(1)));
}

#[test]
fn a_promotion_that_arrives_as_the_way_back_begins_is_taken_back() {
    let mut world = delivery(&testing::plan());
    let late = until(&mut world, binds);
    go_back(&mut world);
    while phase(&world, "second") != RolloutPhase::RollingBack {
        assert!(world.look(Kind::Rollout, "second"));
    }
    assert!(world.arrive(&late), "nothing was written on the target yet");
    world.live(3);
    assert_eq!(phase(&world, "second"), RolloutPhase::RolledBack);
    assert_eq!(world.binding("eta"), Some(testing::uri(1)));
}

#[test]
fn replicas_that_are_taken_after_the_way_back_are_not_lost() {
    let mut plan = testing::plan();
    plan["capacity"] = json!({ "baseline": "ShrinkWithWeight" });
    let mut world = delivery(&plan);
    let late = until(&mut world, shrinks);
    go_back(&mut world);
    world.live(3);
    assert_eq!(phase(&world, "second"), RolloutPhase::RolledBack);
    assert!(!world.arrive(&late), "the target would stay without its replicas");
    assert_eq!(world.ready("eta"), 4);
}

#[test]
fn a_candidate_whose_creation_arrives_after_its_rollout_is_gone_has_no_pods() {
    let mut world = delivery(&testing::plan());
    let late = until(&mut world, makes_a_candidate);
    world.delete(Kind::Rollout, "second");
    world.live(3);
    assert!(world.names(Kind::Rollout).is_empty());
    assert!(world.arrive(&late), "its name is free");
    world.run_deployments();
    assert_eq!(world.ready("eta-candidate"), 0);
}

#[test]
fn a_candidate_whose_creation_arrives_after_the_end_is_removed() {
    let mut world = delivery(&testing::plan());
    let late = until(&mut world, makes_a_candidate);
    go_back(&mut world);
    world.live(3);
    assert!(phase(&world, "second").is_terminal());
    assert!(world.arrive(&late), "its name is free");
    world.live(1);
    assert_eq!(world.names(Kind::Deployment), vec!["eta".to_owned()]);
}

#[test]
fn a_delivery_whose_creation_arrives_after_its_run_was_cancelled_goes_back() {
    let mut world = shop();
    let late = until(&mut world, delivers);
    world.set(Kind::Run, "eta-request", "desiredState", "Cancel");
    world.settle();
    assert_eq!(outcome(&world, "eta-request"), Some(RunOutcome::Cancelled));
    assert!(world.arrive(&late), "its name is free");
    world.live(30);
    let rollout: Rollout = world.all(Kind::Rollout).remove(0);
    assert_eq!(rollout.status.unwrap_or_default().phase, RolloutPhase::Aborted);
    assert_eq!(world.binding("eta"), Some(testing::uri(1)));
}

#[test]
fn a_version_whose_status_is_written_late_never_loses_what_its_run_found() {
    let mut world = shop();
    for _ in 0..60 {
        let keys: Vec<_> = world.keys().cloned().collect();
        for (kind, name) in keys {
            let is_late = kind == Kind::ModelVersion && !run(&world, "eta-request").gates.is_empty();
            while !is_late && world.look(kind, &name) {}
        }
        if world.waiting().is_some() {
            world.person("jane", flywheel_api::approval::ApprovalDecision::Approve);
        }
        world.run_jobs();
        world.run_deployments();
        world.pass(60);
    }
    let found = run(&world, "eta-request");
    assert!(found.rollout.is_some_and(|r| r.uid.is_none()), "it means to deliver it");
    assert!(
        world.names(Kind::Rollout).is_empty(),
        "its run may be gone before the version shows anything"
    );
    assert_eq!(
        reason(&world, Kind::Run, "eta-request"),
        "VersionBehind",
        "that takes too long"
    );
    while world.look(Kind::ModelVersion, "eta-2") {}
    world.live(3);
    assert_eq!(world.names(Kind::Rollout), ["eta-2"]);
    let shown = version(&world, "eta-2").status.unwrap_or_default();
    assert_eq!(
        (shown.evaluations, shown.approvals.len()),
        (found.gates, found.approvals.len())
    );
}

#[test]
fn a_delivery_that_is_promoted_before_its_run_that_was_cancelled_looks_goes_back() {
    let mut world = shop();
    world.set(Kind::Pipeline, "eta", "rollout/strategy/steps", json!([]));
    let late = until(&mut world, delivers);
    world.set(Kind::Run, "eta-request", "desiredState", "Cancel");
    world.settle();
    assert_eq!(outcome(&world, "eta-request"), Some(RunOutcome::Cancelled));
    assert!(world.arrive(&late), "its name is free");
    for _ in 0..20 {
        world.look(Kind::Rollout, "eta-2");
        world.run_deployments();
    }
    assert_eq!(phase(&world, "eta-2"), RolloutPhase::Promoted);
    world.live(3);
    assert_eq!(phase(&world, "eta-2"), RolloutPhase::RolledBack);
    assert_eq!(world.binding("eta"), Some(testing::uri(1)));
    assert_eq!(outcome(&world, "eta-request"), Some(RunOutcome::Cancelled));
}

/// Two Rollouts without steps; the beginning of the later one hangs while the earlier one, promoted, goes back.
#[test]
fn a_rollout_that_begins_while_its_predecessor_goes_back_is_not_drifted() {
    let mut plan = testing::plan();
    plan["strategy"]["steps"] = json!([]);
    let mut world = delivery(&plan);
    world.add(Kind::ModelVersion, &testing::version(3));
    world.add(Kind::Rollout, &testing::rollout("third", 3, &plan));
    while phase(&world, "second") != RolloutPhase::Promoted {
        assert!(world.look(Kind::Rollout, "second") || world.look(Kind::Rollout, "third"));
        world.run_deployments();
    }
    let mut begins = world.hold(Kind::Rollout, "third").expect("its turn has come");
    while !matches!(&begins.content, Content::Status(s, _) if s["phase"] == "Promoting") {
        assert!(world.arrive(&begins));
        begins = world.hold(Kind::Rollout, "third").expect("its turn has come");
    }
    go_back(&mut world);
    assert!(world.look(Kind::Rollout, "second"));
    assert!(world.arrive(&begins), "nobody wrote on it");
    for _ in 0..20 {
        world.look(Kind::Rollout, "second");
        world.run_deployments();
    }
    assert_eq!(phase(&world, "second"), RolloutPhase::RolledBack);
    assert_eq!(world.binding("eta"), Some(testing::uri(1)));
    world.live(3);
    assert_eq!(phase(&world, "third"), RolloutPhase::Promoted);
    assert_eq!(
        crate::shop::rollout(&world, "third").baseline.unwrap().value,
        Some(testing::uri(1))
    );
}

#[test]
fn replicas_that_are_taken_for_a_candidate_that_is_gone_are_not_taken_beside_the_next_one() {
    let mut plan = testing::plan();
    plan["capacity"] = json!({ "baseline": "ShrinkWithWeight" });
    let mut world = delivery(&plan);
    let late = until(&mut world, shrinks);
    world.delete(Kind::Deployment, "eta-candidate");
    while !world.names(Kind::Deployment).contains(&"eta-candidate".to_owned()) {
        assert!(world.look(Kind::Rollout, "second"));
    }
    assert!(!world.arrive(&late), "the next candidate has no pods yet");
    world.live(60);
    assert_eq!(phase(&world, "second"), RolloutPhase::Promoted);
}

/// A Rollout without steps is promoted; its way back hangs, and arrives when the next Rollout, with a step, has its candidate.
fn a_late_way_back() -> World {
    let mut plan = testing::plan();
    plan["strategy"]["steps"] = json!([]);
    let mut world = delivery(&plan);
    world.add(Kind::ModelVersion, &testing::version(3));
    while phase(&world, "second") != RolloutPhase::Promoted {
        assert!(world.look(Kind::Rollout, "second"));
        world.run_deployments();
    }
    go_back(&mut world);
    let late = world.hold(Kind::Rollout, "second").expect("a person asked for it");
    assert!(matches!(&late.content, Content::Status(s, _) if s["phase"] == "RollingBack"));
    world.pass(1);
    world.add(Kind::Rollout, &testing::rollout("third", 3, &testing::plan()));
    while !world.names(Kind::Deployment).contains(&"eta-candidate".to_owned()) {
        assert!(world.look(Kind::Rollout, "third"));
    }
    assert!(world.arrive(&late), "nobody wrote on it");
    world
}

#[test]
fn a_way_back_that_arrives_after_a_successor_began_leaves_the_target_to_it() {
    let mut world = a_late_way_back();
    world.look(Kind::Rollout, "second");
    assert_eq!(phase(&world, "second"), RolloutPhase::Superseded);
    assert_eq!(
        world.binding("eta"),
        Some(testing::uri(2)),
        "it is the baseline of the next one"
    );
    world.live(60);
    assert_eq!(phase(&world, "third"), RolloutPhase::Promoted);
}

#[test]
fn a_way_back_that_is_looked_at_when_its_successor_serves_is_superseded() {
    let mut world = a_late_way_back();
    while phase(&world, "third") != RolloutPhase::Promoted {
        if !world.look(Kind::Rollout, "third") {
            if world.waiting().is_some() {
                world.person("jane", flywheel_api::approval::ApprovalDecision::Approve);
            }
            world.run_deployments();
            world.pass(60);
        }
    }
    world.look(Kind::Rollout, "second");
    assert_eq!(phase(&world, "second"), RolloutPhase::Superseded);
    assert_eq!(world.binding("eta"), Some(testing::uri(3)));
}
