//! Laws of Rollouts over all kinds of histories.

use flywheel_api::approval::ApprovalDecision::Approve;
use flywheel_api::reference::UidRef;
use flywheel_api::rollout::RolloutPhase;
use flywheel_api::{FlywheelPipeline, Rollout};
use flywheel_engine::decision::Decision;
use flywheel_engine::rollout::{Reading, decide, heeds_others};
use flywheel_engine::testing::{self, Kind, World};
use jiff::SignedDuration;
use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};

use crate::check::Laws;
use crate::moves::{Move, of_delivery};
use crate::shop::{condition, delivery, phase, rollout};

fn plans() -> impl Strategy<Value = Value> {
    let whether = any::<bool>;
    let all = (whether(), whether(), whether(), whether(), 0..3_usize);
    all.prop_map(|(shrink, checked, approval, hasty, steps)| {
        let mut plan = testing::plan();
        let weights = if shrink { [30, 80] } else { [10, 50] };
        let shortest = if hasty { Value::Null } else { json!("1m") };
        let step = |(i, w): (usize, &i32)| json!({ "name": format!("step{i}"), "weight": w, "minDuration": shortest });
        plan["strategy"]["steps"] = weights.iter().enumerate().take(steps).map(step).collect();
        if shrink {
            plan["capacity"] = json!({ "baseline": "ShrinkWithWeight" });
        }
        if checked {
            plan["checks"] = json!([testing::check()]);
            plan["observe"] = json!({ "duration": "5m" });
        }
        if approval && steps > 0 {
            plan["strategy"]["steps"][0]["approval"] = json!({ "minApprovals": 2 });
        }
        plan
    })
}

/// Everything heals: nothing is broken, held or silent any more.
fn heal(world: &mut World) {
    world.broken.clear();
    world.settings.brake.engaged = false;
    world
        .answers
        .insert("errors($candidate)".to_owned(), Reading::Value(0.001));
    world.run_deployments();
}

/// Pods that are ready and go on serving: what a Deployment does not ask for any more is on its way out.
fn serving(world: &World) -> i64 {
    let of = |name: &str| {
        let deployment = world.raw(&(Kind::Deployment, name.to_owned()));
        let wanted = deployment.map_or(0, |d| d["spec"]["replicas"].as_i64().unwrap_or(1));
        wanted.min(world.ready(name))
    };
    of("eta") + of("eta-candidate")
}

/// Never fewer ready pods than the target serves with: the operator's own writes take none away.
fn capacity(world: &World, full: i64) {
    let ready = serving(world);
    assert!(ready >= full, "{ready} of {full} pods are ready");
}

/// Whether the plan's deadline has passed: then the candidate goes before the baseline is whole, because nothing else would
/// help.
fn overdue(world: &World) -> bool {
    let asked: Rollout = world.get(Kind::Rollout, "second");
    let since = asked.status.unwrap_or_default().progress_since;
    let waited = since.map(|since| world.now.duration_since(since.0).as_secs());
    waited.is_some_and(|waited| waited >= asked.spec.plan.progress_deadline_seconds)
}

fn serves(world: &World) -> i64 {
    match world.binding("eta").as_deref() {
        Some("s3://models/eta/1") => 1,
        Some("s3://models/eta/2") => 2,
        other => panic!("{other:?} serves"),
    }
}

proptest! {
    #![proptest_config(crate::histories(16))]

    #[test]
    fn every_history_keeps_the_laws_and_comes_to_rest(
        plan in plans(),
        moves in proptest::collection::vec(of_delivery(), 0..30),
    ) {
        let mut world = delivery(&plan);
        let mut laws = Laws::default();
        let scaled = moves.iter().any(|m| matches!(m, Move::Scale(_)));
        for step in &moves {
            let braked = world.settings.brake.engaged;
            let before = serving(&world);
            step.make(&mut world);
            laws.check(&world, braked && step.is_operators());
            let back = phase(&world, "second") == RolloutPhase::RollingBack && overdue(&world);
            let full = i64::from(rollout(&world, "second").baseline_replicas.unwrap_or(0));
            if step.is_operators() && !back && !scaled && before >= full {
                capacity(&world, full);
            }
        }
        heal(&mut world);
        for _ in 0..4 {
            for person in ["jane", "bob"] {
                world.person(person, Approve);
            }
            world.live(4);
            laws.check(&world, false);
        }
        let end = rollout(&world, "second");
        let held = world.raw(&(Kind::Rollout, "second".to_owned())).unwrap()["spec"]["desiredState"] == "Hold";
        prop_assert!(end.phase.is_terminal() || held, "{:?}", end.phase);
        match end.phase {
            RolloutPhase::Promoted => prop_assert_eq!(serves(&world), 2),
            RolloutPhase::RolledBack | RolloutPhase::Aborted => prop_assert_eq!(serves(&world), 1),
            _ => {}
        }
        if end.phase.is_terminal() {
            prop_assert_eq!(world.names(Kind::Deployment), vec!["eta".to_owned()]);
        }
    }

    #[test]
    fn from_everywhere_an_abort_or_a_deletion_leads_back_to_the_baseline(
        plan in plans(),
        moves in proptest::collection::vec(of_delivery(), 0..20),
        deleted in any::<bool>(),
        braked in any::<bool>(),
    ) {
        let mut world = delivery(&plan);
        moves.iter().for_each(|m| m.make(&mut world));
        let ended = phase(&world, "second").is_terminal() || phase(&world, "second") == RolloutPhase::Observing;
        let lost = moves.iter().any(|m| matches!(m, Move::Lose(_)));
        world.broken.clear();
        // Whatever people and providers say, and though nothing may go forward.
        world.settings.brake.engaged = braked;
        world.answers.clear();
        if deleted {
            world.delete(Kind::Rollout, "second");
        } else {
            world.edit(Kind::Rollout, "second", |o| o["spec"]["desiredState"] = json!("RollBack"));
        }
        world.live(3);
        prop_assert_eq!(world.names(Kind::Deployment), vec!["eta".to_owned()]);
        prop_assert_eq!(deleted, world.names(Kind::Rollout).is_empty());
        if !ended && !lost {
            prop_assert_eq!(serves(&world), 1);
        }
        serves(&world);
    }

    #[test]
    fn no_data_never_passes(
        readings in proptest::collection::vec(
            prop_oneof![Just(Reading::Empty), Just(Reading::Error("it is down".to_owned()))], 1..12),
    ) {
        let mut plan = testing::plan();
        plan["checks"] = json!([testing::check()]);
        let mut world = delivery(&plan);
        for reading in readings {
            world.answers.insert("errors($candidate)".to_owned(), reading);
            world.live(11);
            prop_assert_eq!(rollout(&world, "second").step.map(|s| s.index), Some(0));
        }
        prop_assert_eq!(phase(&world, "second"), RolloutPhase::Holding);
    }
}

#[test]
fn a_delivery_whose_pipeline_is_gone_names_the_field_that_names_it() {
    let mut world = delivery(&testing::plan());
    world.delete(Kind::Rollout, "second");
    let mut asked = testing::rollout("third", 2, &testing::plan());
    asked.spec.pipeline_ref = Some(UidRef {
        name: "eta".to_owned(),
        uid: "of-another-one".to_owned(),
    });
    world.add(Kind::Rollout, &asked);
    world.live(3);
    let ready = condition(&world, Kind::Rollout, "third", "Ready");
    let message = ready["message"].as_str().unwrap_or_default();
    assert!(message.contains("spec.pipelineRef"), "{ready}");
}

#[test]
fn a_delivery_goes_back_although_its_pipeline_is_still_there_while_it_is_being_deleted() {
    let mut world = delivery(&testing::plan());
    world.delete(Kind::Rollout, "second");
    world.add(Kind::Pipeline, &testing::pipeline());
    let pipeline: FlywheelPipeline = world.get(Kind::Pipeline, "eta");
    let mut asked = testing::rollout("third", 2, &testing::plan());
    asked.spec.pipeline_ref = Some(UidRef {
        name: "eta".to_owned(),
        uid: pipeline.metadata.uid.unwrap(),
    });
    world.add(Kind::Rollout, &asked);
    world.live(2);
    let mut seen = world.rollout_observation("third").unwrap();
    assert!(phase(&world, "third").holds_target());
    seen.pipeline.as_mut().unwrap().deleting = true;
    let Decision::Record(record) = decide(&seen) else {
        panic!("it goes back");
    };
    assert_eq!(record.status.phase, RolloutPhase::RollingBack);
}

#[rstest]
#[case::at_a_step(3)]
#[case::after_its_promotion(25)]
fn a_promoted_version_can_be_taken_back_after_the_next_rollout_went_back(#[case] minutes: i64) {
    let mut world = delivery(&testing::plan());
    world.live(25);
    assert_eq!(phase(&world, "second"), RolloutPhase::Promoted);
    world.add(Kind::ModelVersion, &testing::version(3));
    world.add(Kind::Rollout, &testing::rollout("third", 3, &testing::plan()));
    world.live(minutes);
    world.set(Kind::Rollout, "third", "desiredState", "RollBack");
    world.live(3);
    assert_eq!(phase(&world, "third"), RolloutPhase::RolledBack);
    assert_eq!(world.binding("eta"), Some(testing::uri(2)));
    world.set(Kind::Rollout, "second", "desiredState", "RollBack");
    world.live(3);
    let ready = condition(&world, Kind::Rollout, "second", "Ready");
    assert_eq!(phase(&world, "second"), RolloutPhase::RolledBack, "{ready}");
    assert_eq!(world.binding("eta"), Some(testing::uri(1)));
}

#[test]
fn an_approval_of_a_step_does_not_count_for_pods_of_another_template() {
    let mut plan = testing::plan();
    plan["strategy"]["steps"][0] = json!({ "name": "canary", "weight": 10, "approval": { "minApprovals": 1 } });
    let mut world = delivery(&plan);
    let step = |world: &World| rollout(world, "second").step.unwrap().name;
    world.live(1);
    world.person("jane", Approve).expect("the canary waits");
    world.live(1);
    assert_eq!(step(&world), "half");
    world.set(
        Kind::Deployment,
        "eta",
        "template/spec/containers/0/image",
        "example/server:2",
    );
    world.live(3);
    assert_eq!(step(&world), "canary");
    let waiting = world.waiting().expect("nobody has looked at the new pods");
    assert_eq!(waiting.stale, ["approval-0"]);
    world.person("jane", Approve);
    world.live(15);
    assert_eq!(phase(&world, "second"), RolloutPhase::Promoted);
}

#[test]
fn a_version_that_was_still_watched_can_be_taken_back_after_the_next_rollout_went_back() {
    let mut plan = testing::plan();
    plan["observe"] = json!({ "duration": "24h" });
    let mut world = delivery(&plan);
    world.live(25);
    assert_eq!(phase(&world, "second"), RolloutPhase::Observing);
    world.add(Kind::ModelVersion, &testing::version(3));
    world.add(Kind::Rollout, &testing::rollout("third", 3, &testing::plan()));
    world.live(3);
    assert_eq!(phase(&world, "second"), RolloutPhase::Superseded);
    world.set(Kind::Rollout, "second", "desiredState", "RollBack");
    let asked: Rollout = world.get(Kind::Rollout, "second");
    assert!(heeds_others(&asked), "it waits for the later one");
    world.live(1);
    assert_eq!(phase(&world, "second"), RolloutPhase::Superseded);
    let kept = condition(&world, Kind::ModelVersion, "eta-1", "RollbackTarget");
    assert_eq!(kept["status"], "True", "{kept}");
    world.set(Kind::Rollout, "third", "desiredState", "RollBack");
    world.live(3);
    let ready = condition(&world, Kind::Rollout, "second", "Ready");
    assert_eq!(phase(&world, "second"), RolloutPhase::RolledBack, "{ready}");
    assert_eq!(world.binding("eta"), Some(testing::uri(1)));
}

#[test]
fn a_variable_of_the_candidate_can_refer_to_the_binding_as_that_of_the_target_does() {
    let env = |number: i64| {
        json!([
            { "name": "MODEL_URI", "value": testing::uri(number) },
            { "name": "MODEL_FILE", "value": "$(MODEL_URI)/m" },
        ])
    };
    let mut world = delivery(&testing::plan());
    world.set(Kind::Deployment, "eta", "template/spec/containers/0/env", env(1));
    world.live(2);
    let candidate = world.raw(&(Kind::Deployment, "eta-candidate".to_owned())).unwrap();
    assert_eq!(candidate["spec"]["template"]["spec"]["containers"][0]["env"], env(2));
}

/// As the API server records it when this manager has set the binding.
fn bound_by(world: &mut World, manager: &str) {
    let variable = json!({ "k:{\"name\":\"MODEL_URI\"}": { ".": {}, "f:name": {}, "f:value": {} } });
    let containers = json!({ "k:{\"name\":\"app\"}": { "f:env": variable } });
    let fields = json!({ "f:spec": { "f:template": { "f:spec": { "f:containers": containers } } } });
    world.edit(Kind::Deployment, "eta", |o| {
        o["metadata"]["managedFields"] = json!([{ "manager": manager, "operation": "Update",
            "apiVersion": "apps/v1", "fieldsType": "FieldsV1", "fieldsV1": fields }]);
    });
}

#[rstest]
#[case::what_flywheel_set("flywheel", 3, true)]
#[case::what_a_person_set("person", 3, false)]
#[case::what_no_rollout_left("flywheel", 5, false)]
fn a_rollout_is_not_drifted_because_an_earlier_leaders_clock_was_ahead(
    #[case] manager: &str,
    #[case] carried: i64,
    #[case] begins: bool,
) {
    let mut world = delivery(&testing::plan());
    world.live(25);
    let ahead = world.now + SignedDuration::from_hours(1);
    world.edit(Kind::Rollout, "second", |o| {
        o["status"]["promotedAt"] = json!(ahead);
        o["status"]["finishedAt"] = json!(ahead);
    });
    for number in 3..=4 {
        world.add(Kind::ModelVersion, &testing::version(number));
    }
    world.add(Kind::Rollout, &testing::rollout("third", 3, &testing::plan()));
    world.live(25);
    assert_eq!(phase(&world, "third"), RolloutPhase::Promoted);
    world.write_binding("eta", &testing::uri(carried));
    bound_by(&mut world, manager);
    world.add(Kind::Rollout, &testing::rollout("fourth", 4, &testing::plan()));
    world.live(25);
    let ready = condition(&world, Kind::Rollout, "fourth", "Ready");
    assert_eq!(phase(&world, "fourth") == RolloutPhase::Promoted, begins, "{ready}");
    assert_eq!(ready["reason"] == "Drifted", !begins, "{ready}");
}

/// At its second step, of 80 %: three of four pods are the candidate's.
fn shrunk() -> World {
    let mut plan = testing::plan();
    plan["capacity"] = json!({ "baseline": "ShrinkWithWeight" });
    plan["strategy"]["steps"] = json!([{ "name": "few", "weight": 30 },
        { "name": "most", "weight": 80, "approval": { "minApprovals": 1 } }]);
    let mut world = delivery(&plan);
    world.live(3);
    assert_eq!((world.ready("eta"), world.ready("eta-candidate")), (1, 3));
    world
}

#[test]
fn a_candidate_stays_until_the_baseline_has_its_pods_again_although_the_status_was_lost_on_the_way_back() {
    let mut world = shrunk();
    world.set(Kind::Rollout, "second", "desiredState", "RollBack");
    let asks = |world: &World| world.raw(&(Kind::Deployment, "eta".to_owned())).unwrap()["spec"]["replicas"].clone();
    while asks(&world) != 4 {
        assert!(world.look(Kind::Rollout, "second"));
    }
    world.lose_status(Kind::Rollout, "second");
    world.settle();
    capacity(&world, 4);
    world.live(3);
    assert_eq!(phase(&world, "second"), RolloutPhase::RolledBack);
    assert_eq!(world.names(Kind::Deployment), ["eta"]);
}

#[test]
fn a_candidate_gives_no_pods_up_before_the_baseline_has_them_when_a_change_of_the_template_was_taken_back() {
    let mut world = shrunk();
    let image = |world: &mut World, image: &str| {
        world.set(Kind::Deployment, "eta", "template/spec/containers/0/image", image);
    };
    let before = world.raw(&(Kind::Deployment, "eta".to_owned())).unwrap()["spec"]["template"]["spec"]["containers"][0]
        ["image"]
        .clone();
    image(&mut world, "example/eta:another");
    while rollout(&world, "second").step.is_some_and(|step| step.index > 0) {
        assert!(world.look(Kind::Rollout, "second"));
    }
    image(&mut world, before.as_str().unwrap());
    for _ in 0..12 {
        world.settle();
        capacity(&world, 4);
        world.run_deployments();
    }
    assert_eq!(
        (world.ready("eta"), world.ready("eta-candidate")),
        (1, 3),
        "it took the first step again"
    );
}

#[test]
fn a_version_is_not_taken_back_from_a_target_that_another_open_rollout_has_marked() {
    const MARK: &str = "flywheel.dev/taken-by";
    let mut at_once = testing::plan();
    at_once["strategy"]["steps"] = json!([]);
    let mut world = delivery(&at_once);
    world.live(3);
    assert_eq!(phase(&world, "second"), RolloutPhase::Promoted);
    // It took the target, stepped back behind another one, and may go on at any moment.
    world.settings.brake.engaged = true;
    world.add(Kind::ModelVersion, &testing::version(3));
    world.add(Kind::Rollout, &testing::rollout("third", 3, &testing::plan()));
    world.live(1);
    assert!(!phase(&world, "third").holds_target());
    let third: Rollout = world.get(Kind::Rollout, "third");
    world.edit(Kind::Deployment, "eta", |d| {
        d["metadata"]["annotations"][MARK] = json!(third.metadata.uid);
    });
    world.set(Kind::Rollout, "second", "desiredState", "RollBack");
    world.live(1);
    let said = condition(&world, Kind::Rollout, "second", "Ready")["message"].clone();
    assert!(
        said.as_str().unwrap().contains("Rollout third took the target"),
        "{said}"
    );
    assert_eq!(serves(&world), 2);
    world.set(Kind::Rollout, "third", "desiredState", "Abort");
    world.live(3);
    assert_eq!(phase(&world, "second"), RolloutPhase::RolledBack);
    assert_eq!(serves(&world), 1);
}
