//! Typical histories from beginning to end, and whole decisions at their turning points.

use std::collections::BTreeSet;

use flywheel_api::Rollout;
use flywheel_api::approval::ApprovalDecision::{Approve, Reject, Revoke};
use flywheel_api::flywheel_run::RunOutcome;
use flywheel_api::model_version::VersionState;
use flywheel_api::reference::{NameRef, WaitingFor};
use flywheel_api::rollout::RolloutPhase;
use flywheel_engine::rollout::{LABEL_STEP, Reading};
use flywheel_engine::testing::{self, Ending, Kind, World};
use serde_json::json;

use crate::shop::{condition, delivery, outcome, phase, rollout, run, shop, version};

#[test]
fn a_better_version_is_approved_rolled_out_and_promoted() {
    let mut world = shop();
    world.live(1);
    assert_eq!(run(&world, "eta-request").stage, "Approval");
    world.person("jane", Approve);
    world.live(25);
    assert_eq!(outcome(&world, "eta-request"), Some(RunOutcome::Promoted));
    assert_eq!(phase(&world, "eta-2"), RolloutPhase::Promoted);
    let made = version(&world, "eta-2");
    assert_eq!(world.binding("eta"), Some(made.spec.artifact.uri.0.clone()));
    let status = made.status.unwrap();
    assert_eq!(status.state, VersionState::Live);
    assert_eq!(
        (
            status.evaluations.len(),
            status.approvals.len(),
            status.deployments.len()
        ),
        (2, 1, 1)
    );
    assert_eq!(version(&world, "eta-1").status.unwrap().children, ["eta-2"]);
}

#[test]
fn a_worse_version_is_refused_by_its_gate() {
    let mut world = shop();
    world.report.change = 0.9;
    world.live(1);
    let status = run(&world, "eta-request");
    assert_eq!(status.outcome, Some(RunOutcome::Rejected));
    assert_eq!(status.gates[0].reason, "WorseThanLive");
    assert!(world.names(Kind::Rollout).is_empty());
    assert_eq!(version(&world, "eta-2").status.unwrap().state, VersionState::Rejected);
}

#[test]
fn an_improvement_at_the_expense_of_small_airports_is_stopped_by_the_policy() {
    let mut world = shop();
    world.add(Kind::BiasPolicy, &testing::policy("airports"));
    world.set(Kind::Pipeline, "eta", "biasPolicies", json!([{ "name": "airports" }]));
    world.report.groups = vec![("hub", 4000, 10.0, -1.5), ("small", 1000, 17.0, 1.2)];
    world.live(1);
    let status = run(&world, "eta-request");
    assert_eq!(status.outcome, Some(RunOutcome::Rejected));
    let verdict = status.bias.iter().find(|v| v.objective == "improvement").unwrap();
    assert_eq!(
        (verdict.reason.as_str(), verdict.group.as_str()),
        ("LimitBreached", "small")
    );
}

#[test]
fn a_version_that_only_production_shows_to_be_broken_is_rolled_back() {
    let mut plan = testing::plan();
    plan["checks"] = json!([testing::check()]);
    let mut world = delivery(&plan);
    world
        .answers
        .insert("errors($candidate)".to_owned(), Reading::Value(0.001));
    world.live(5);
    assert_eq!(phase(&world, "second"), RolloutPhase::Holding);
    world
        .answers
        .insert("errors($candidate)".to_owned(), Reading::Value(0.2));
    world.live(2);
    assert_eq!(phase(&world, "second"), RolloutPhase::RolledBack);
    assert_eq!(world.binding("eta"), Some(testing::uri(1)));
    assert_eq!(world.names(Kind::Deployment), ["eta"]);
}

/// A run whose target cannot be read from before it begins until its version is registered, at a level at which no person is
/// asked.
fn unread(spoil: fn(&mut World)) -> World {
    let mut world = shop();
    world.set(Kind::Pipeline, "eta", "automationLevel", "FullyAutomated");
    spoil(&mut world);
    world.live(3);
    assert!(run(&world, "eta-request").model_version.unwrap().uid.is_some());
    world
}

/// It waits and says why; once the target can be read, it is known that the version was not compared with what serves.
fn is_judged_when_the_target_can_be_read(mut world: World, why: &str, mend: fn(&mut World)) {
    let waits = run(&world, "eta-request");
    assert_eq!((waits.outcome, waits.gates.len()), (None, 0));
    let ready = condition(&world, Kind::Run, "eta-request", "Ready");
    let message = ready["message"].as_str().unwrap_or_default();
    assert!(
        ready["reason"] == "LiveVersionUnknown" && message.contains(why),
        "{ready}"
    );
    mend(&mut world);
    world.live(3);
    let judged = run(&world, "eta-request");
    assert_eq!(judged.outcome, Some(RunOutcome::Rejected));
    assert_eq!(judged.gates[0].reason, "NotCompared");
    assert!(world.names(Kind::Rollout).is_empty());
    assert_eq!(world.binding("eta"), Some(testing::uri(1)));
}

#[test]
fn a_version_that_was_compared_with_nothing_is_not_delivered_because_the_target_was_missing() {
    let world = unread(|w| w.delete(Kind::Deployment, "eta"));
    is_judged_when_the_target_can_be_read(world, "Deployment eta, to which", |w| {
        w.add(Kind::Deployment, &testing::target(4, Some(&testing::uri(1))));
    });
}

#[test]
fn a_version_that_was_compared_with_nothing_is_not_delivered_because_the_binding_could_not_be_read() {
    const NAME: &str = "template/spec/containers/0/name";
    let world = unread(|w| w.set(Kind::Deployment, "eta", NAME, "renamed"));
    is_judged_when_the_target_can_be_read(world, "no container app", |w| {
        w.set(Kind::Deployment, "eta", NAME, "app");
    });
}

#[test]
fn a_person_who_rejects_ends_the_run() {
    let mut world = shop();
    world.live(1);
    world.person("jane", Reject);
    world.live(1);
    assert_eq!(outcome(&world, "eta-request"), Some(RunOutcome::Rejected));
}

/// Jane takes her Approval back, and Bob approves the same evidence.
fn bob_instead_of_jane(world: &mut World, waiting: &WaitingFor) {
    let mut revoke = testing::approval("revoke", "jane", Revoke, waiting);
    revoke.spec.revokes = Some(NameRef::new("approval-0"));
    world.add(Kind::Approval, &revoke);
    world.add(Kind::Approval, &testing::approval("by-bob", "bob", Approve, waiting));
}

/// Who approved, as the run keeps it, and how often that was told as a decision.
fn approvers(world: &World) -> (Vec<String>, usize) {
    let status = run(world, "eta-request");
    let told = status.decisions.iter().filter(|d| d.decision == "Approved").count();
    (status.approvals.into_iter().map(|a| a.approver).collect(), told)
}

#[test]
fn who_approved_the_second_attempt_of_a_training_is_recorded_when_it_is_somebody_else() {
    let mut world = shop();
    world.set(Kind::Pipeline, "eta", "automationLevel", "SemiAutomated");
    world.settle();
    let waiting = world.waiting().unwrap();
    world.person("jane", Approve);
    world.endings.insert("train".to_owned(), Ending::Evicted);
    world.settle();
    world.run_jobs();
    world.settle();
    world.endings.clear();
    assert_eq!(approvers(&world), (vec!["jane".to_owned()], 1));
    bob_instead_of_jane(&mut world, &waiting);
    world.settle();
    world.pass(60);
    world.settle();
    assert_eq!(run(&world, "eta-request").stages[0].attempt, 2);
    assert_eq!(approvers(&world), (vec!["jane".to_owned(), "bob".to_owned()], 2));
}

#[test]
fn who_approved_a_version_that_the_brake_held_is_recorded_when_it_is_somebody_else() {
    let mut world = shop();
    world.live(1);
    let waiting = world.waiting().unwrap();
    world.person("jane", Approve);
    world.look(Kind::Run, "eta-request");
    assert_eq!(approvers(&world), (vec!["jane".to_owned()], 1));
    world.settings.brake.engaged = true;
    bob_instead_of_jane(&mut world, &waiting);
    world.settle();
    world.settings.brake.engaged = false;
    world.live(1);
    assert_eq!(approvers(&world), (vec!["jane".to_owned(), "bob".to_owned()], 2));
    assert_eq!(version(&world, "eta-2").status.unwrap().approvals.len(), 2);
}

#[test]
fn a_rollout_that_finds_its_version_live_is_no_delivery_in_the_lineage() {
    let mut world = delivery(&testing::plan());
    world.live(25);
    let before = version(&world, "eta-2").status.unwrap();
    assert_eq!(before.state, VersionState::Live);
    world.add(Kind::Rollout, &testing::rollout("again", 2, &testing::plan()));
    world.live(2);
    let again = rollout(&world, "again");
    assert_eq!((again.phase, again.baseline), (RolloutPhase::Promoted, None));
    let after = version(&world, "eta-2").status.unwrap();
    assert_eq!((after.state, after.lineage), (before.state, before.lineage));
}

/// Every decision of a history, as one line each, so that a change of the order of writes is seen.
fn history(world: &World) -> String {
    let line = |w: &testing::Write| {
        let what = match &w.action {
            Some(flywheel_engine::decision::Action::Create(_)) => "creates".to_owned(),
            Some(flywheel_engine::decision::Action::Patch(p)) => {
                format!("patches {:?} {}", p.object.kind, p.object.name)
            }
            Some(flywheel_engine::decision::Action::Delete(k)) => format!("deletes {:?} {}", k.kind, k.name),
            None => {
                let events: Vec<&str> = w.events.iter().map(|e| e.reason.as_str()).collect();
                format!("records {}", events.join(", "))
            }
        };
        let minute = w.at.duration_since(testing::at(0)).as_secs() / 60;
        format!("{minute:>3} {:?} {}: {what}", w.actor.0, w.actor.1)
            .trim_end()
            .to_owned()
    };
    world.writes.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_writes_of_a_whole_turn_in_their_order() {
    let mut world = shop();
    world.live(1);
    world.person("jane", Approve);
    world.live(25);
    insta::assert_snapshot!(history(&world));
}

#[test]
fn the_writes_of_a_rollback_in_their_order() {
    let mut world = delivery(&testing::plan());
    world.live(12);
    world.set(Kind::Rollout, "second", "desiredState", "RollBack");
    world.live(1);
    assert_eq!(rollout(&world, "second").outcome, Some(RolloutPhase::RolledBack));
    insta::assert_snapshot!(history(&world));
}

/// Goes on until a decision of this object satisfies the question, and returns it.
fn until(world: &mut World, kind: Kind, name: &str, found: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
    for _ in 0..500 {
        let decision = world.decision(kind, name);
        if found(&decision) {
            return decision;
        }
        if world.look_around() == 0 {
            world.run_jobs();
            world.run_deployments();
            world.pass(10);
        }
    }
    panic!("the situation does not come");
}

#[test]
fn a_step_that_asks_for_nothing_is_left_with_the_write_that_reaches_it() {
    let mut plan = testing::plan();
    for step in plan["strategy"]["steps"].as_array_mut().unwrap() {
        step.as_object_mut().unwrap().remove("minDuration");
    }
    let mut world = delivery(&plan);
    world.live(5);
    let status = rollout(&world, "second");
    assert_eq!(status.phase, RolloutPhase::Promoted);
    let decided: Vec<&str> = status.decisions.iter().map(|d| d.decision.as_str()).collect();
    assert_eq!(decided, ["Begin", "NextStep", "Promote", "Promoted"]);
    let statuses = world.writes.iter().filter_map(|write| write.after.as_ref());
    assert!(statuses.clone().count() > 0);
    assert!(statuses.map(|s| &s["status"]["phase"]).all(|phase| phase != "Holding"));
}

#[test]
fn a_target_that_was_shrunk_gets_its_replicas_back_when_its_pods_serve_the_version() {
    let mut plan = testing::plan();
    plan["capacity"] = json!({ "baseline": "ShrinkWithWeight" });
    let mut world = delivery(&plan);
    let full = world.raw(&(Kind::Deployment, "eta".to_owned())).unwrap()["spec"]["replicas"].clone();
    let bind = until(&mut world, Kind::Rollout, "second", |d| {
        d["body"]["spec"]["template"].is_object()
    });
    assert!(bind["body"]["spec"]["replicas"].is_null(), "{bind}");
    let restore = until(&mut world, Kind::Rollout, "second", |d| {
        d["patch"]["name"] == "eta" && d["body"]["spec"]["replicas"].is_number()
    });
    assert_eq!(restore["body"]["spec"]["replicas"], full);
    let target = world.raw(&(Kind::Deployment, "eta".to_owned())).unwrap();
    assert!(target["spec"]["replicas"].as_i64() < full.as_i64(), "{target}");
    assert_eq!(world.ready("eta"), target["spec"]["replicas"].as_i64().unwrap());
    world.live(5);
    assert_eq!(phase(&world, "second"), RolloutPhase::Promoted);
    assert_eq!(Some(world.ready("eta")), full.as_i64());
}

#[test]
fn a_run_that_began_keeps_to_its_snapshot_when_its_pipeline_is_edited() {
    let mut world = shop();
    until(&mut world, Kind::Run, "eta-request", |d| {
        d["create"]["spec"]["backoffLimit"] == 0
    });
    // By the edited gate no version would pass, by the edited step none would be delivered slowly.
    let gate = json!([{ "name": "strict", "metric": "mae", "max": "0" }]);
    world.set(Kind::Pipeline, "eta", "gates", gate);
    world.edit(Kind::Pipeline, "eta", |p| {
        p["spec"]["rollout"]["strategy"]["steps"] = json!([{ "name": "all", "weight": 100 }]);
        p["spec"]["stages"][1]["image"] = json!("example/eta:2");
    });
    until(&mut world, Kind::Run, "eta-request", |d| {
        let pod = &d["create"]["spec"]["template"]["spec"];
        assert_ne!(pod["containers"][0]["image"], "example/eta:2", "{pod:#}");
        d["record"]["waitingFor"].is_object()
    });
    world.live(1);
    world.person("jane", Approve);
    world.live(25);
    let run = run(&world, "eta-request");
    assert_eq!(run.outcome, Some(RunOutcome::Promoted));
    let gates: Vec<&str> = run.gates.iter().map(|g| g.gate.as_str()).collect();
    assert_eq!(gates, ["error", "bound"]);
    let delivered: Rollout = world.get(Kind::Rollout, "eta-2");
    assert_eq!(delivered.spec.plan.strategy.steps.len(), 2);
}

#[test]
fn a_run_whose_version_would_bear_the_name_of_another_models_version_takes_the_next_number() {
    let mut world = shop();
    let mut namesake = testing::version(1);
    namesake.metadata.name = Some("eta-2".to_owned());
    namesake.spec.model_name = "tau".to_owned();
    world.add(Kind::ModelVersion, &namesake);
    world.live(6);
    let made = run(&world, "eta-request").model_version.unwrap();
    assert_eq!((made.name.as_str(), made.number), ("eta-3", 3));
    assert_eq!(version(&world, "eta-3").metadata.uid, made.uid);
}

#[test]
fn a_version_that_a_person_passes_off_as_that_of_a_run_is_not_delivered() {
    let mut before = shop();
    before.endings.insert("evaluate".to_owned(), Ending::Runs);
    before.live(2);
    let mut honest = before.clone();
    honest.endings.clear();
    honest.live(6);
    let trained = version(&honest, "eta-2");
    for claims in [true, false] {
        let mut forged = trained.clone();
        forged.metadata.uid = None;
        forged.metadata.resource_version = None;
        forged.status = None;
        forged.spec.artifact = testing::version(2).spec.artifact;
        // Without provenance the labels alone name the run.
        forged.spec.provenance = forged.spec.provenance.filter(|_| claims);
        let mut world = before.clone();
        world.add(Kind::ModelVersion, &forged);
        world.endings.clear();
        world.live(6);
        let made = run(&world, "eta-request").model_version.unwrap();
        assert_eq!((made.name.as_str(), made.number), ("eta-3", 3), "claims: {claims}");
        assert_eq!(version(&world, "eta-3").spec.artifact, trained.spec.artifact);
    }
}

#[test]
fn a_version_that_a_person_passes_off_as_that_of_a_run_before_its_first_job_does_not_end_the_run() {
    let mut honest = shop();
    honest.live(6);
    let trained = version(&honest, "eta-2");
    let mut forged = trained.clone();
    forged.metadata.uid = None;
    forged.metadata.resource_version = None;
    forged.status = None;
    forged.spec.artifact = testing::version(2).spec.artifact;
    for begun in [false, true] {
        let mut world = shop();
        while begun && run(&world, "eta-request").started_at.is_none() {
            assert!(world.look(Kind::Run, "eta-request"));
        }
        world.add(Kind::ModelVersion, &forged);
        world.live(6);
        let made = run(&world, "eta-request").model_version.expect("it trains");
        assert_eq!((made.name.as_str(), made.number), ("eta-3", 3), "begun: {begun}");
        assert_eq!(version(&world, "eta-3").spec.artifact, trained.spec.artifact);
    }
}

#[test]
fn whole_decisions_of_a_run() {
    let mut world = shop();
    let begin = until(&mut world, Kind::Run, "eta-request", |d| {
        d["record"]["startedAt"].is_string()
    });
    insta::assert_yaml_snapshot!("run_begins", begin);
    let snapshot = until(&mut world, Kind::Run, "eta-request", |d| {
        d["create"]["revision"].is_number()
    });
    insta::assert_yaml_snapshot!("run_stores_its_snapshot", snapshot);
    let job = until(&mut world, Kind::Run, "eta-request", |d| {
        d["create"]["spec"]["backoffLimit"] == 0
    });
    insta::assert_yaml_snapshot!("run_creates_the_training_job", job);
    let register = until(&mut world, Kind::Run, "eta-request", |d| {
        d["create"]["kind"] == "ModelVersion"
    });
    insta::assert_yaml_snapshot!("run_registers_the_version", register);
    let wait = until(&mut world, Kind::Run, "eta-request", |d| {
        d["record"]["waitingFor"].is_object()
    });
    insta::assert_yaml_snapshot!("run_waits_for_an_approval", wait);
    until(&mut world, Kind::Run, "eta-request", |d| d["wait"].is_string());
    world.person("jane", Approve);
    let deliver = until(&mut world, Kind::Run, "eta-request", |d| {
        d["create"]["kind"] == "Rollout"
    });
    insta::assert_yaml_snapshot!("run_delivers_the_version", deliver);
}

#[test]
fn whole_decisions_of_a_rollout() {
    let mut world = delivery(&testing::plan());
    let begin = until(&mut world, Kind::Rollout, "second", |d| {
        d["record"]["phase"] == "Preparing"
    });
    insta::assert_yaml_snapshot!("rollout_begins", begin);
    let candidate = until(&mut world, Kind::Rollout, "second", |d| d["create"].is_object());
    insta::assert_yaml_snapshot!("rollout_makes_the_candidate", candidate);
    let hold = until(&mut world, Kind::Rollout, "second", |d| {
        d["record"]["phase"] == "Holding"
    });
    insta::assert_yaml_snapshot!("rollout_holds_a_step", hold);
    let bind = until(&mut world, Kind::Rollout, "second", |d| {
        d["body"]["spec"]["template"].is_object()
    });
    insta::assert_yaml_snapshot!("rollout_binds_the_target", bind);
    let end = until(&mut world, Kind::Rollout, "second", |d| {
        d["record"]["outcome"] == "Promoted"
    });
    insta::assert_yaml_snapshot!("rollout_ends", end);
}

#[test]
fn no_annotation_of_the_candidate_changes_from_step_to_step() {
    let mut plan = testing::plan();
    let steps = [25, 50, 75].map(|weight| json!({ "name": format!("s{weight}"), "weight": weight }));
    plan["strategy"]["steps"] = json!(steps);
    let (mut world, mut seen, mut annotations) = (delivery(&plan), BTreeSet::new(), BTreeSet::new());
    for _ in 0..200 {
        if !world.look(Kind::Rollout, "second") {
            world.run_deployments();
            world.pass(10);
        }
        let candidate = world.raw(&(Kind::Deployment, "eta-candidate".to_owned()));
        if let Some(metadata) = candidate.map(|c| &c["metadata"]) {
            seen.insert(metadata["labels"][LABEL_STEP].to_string());
            annotations.insert(metadata["annotations"].to_string());
        }
    }
    assert_eq!(phase(&world, "second"), RolloutPhase::Promoted);
    assert_eq!(seen.len(), 4, "three steps, and full weight: {seen:?}");
    assert_eq!(
        annotations.len(),
        1,
        "each would be copied to the ReplicaSet by a write of its own: {annotations:?}"
    );
}
