//! Objects that this operator cannot read: what depends on them goes no further, and everything may go back.

use flywheel_api::approval::ApprovalDecision::Approve;
use flywheel_api::flywheel_run::RunOutcome;
use flywheel_api::model_version::VersionState;
use flywheel_api::names::LABEL_MODEL_VERSION;
use flywheel_api::reference::UidRef;
use flywheel_api::rollout::RolloutPhase;
use flywheel_engine::testing::{self, Ending, Kind, World};
use rstest::rstest;
use serde_json::{Value, json};

use crate::shop::{condition, delivery, outcome, phase, pipeline, reason, rollout, run, shop, version};

/// A version of a pipeline's model that stays at its step.
fn delivered() -> World {
    let plan = testing::plan();
    let mut world = delivery(&plan);
    world.delete(Kind::Rollout, "second");
    world.add(Kind::Pipeline, &testing::pipeline());
    world.set(Kind::Pipeline, "eta", "automationLevel", "FullyAutomated");
    let mut asked = testing::rollout("third", 2, &plan);
    asked.spec.pipeline_ref = Some(UidRef {
        name: "eta".to_owned(),
        uid: pipeline(&world).metadata.uid.unwrap(),
    });
    world.add(Kind::Rollout, &asked);
    world.live(2);
    assert_eq!(phase(&world, "third"), RolloutPhase::Holding);
    world
}

/// Where the name of the target's container is.
const CONTAINER: &str = "template/spec/containers/0/name";

fn break_off(world: &mut World, kind: Kind, name: &str) {
    world.unreadable.insert((kind, name.to_owned()));
}

#[test]
fn a_delivery_whose_pipeline_cannot_be_read_goes_no_further_and_says_so() {
    let mut world = delivered();
    break_off(&mut world, Kind::Pipeline, "eta");
    world.live(30);
    assert_eq!(phase(&world, "third"), RolloutPhase::Holding);
    assert_eq!(reason(&world, Kind::Rollout, "third"), "PipelineUnreadable");
    world.unreadable.clear();
    world.live(60);
    assert!(phase(&world, "third").has_delivered());
}

#[rstest]
#[case::wished("RollBack")]
#[case::aborted("Abort")]
fn a_delivery_whose_pipeline_cannot_be_read_can_go_back(#[case] wish: &str) {
    let mut world = delivered();
    break_off(&mut world, Kind::Pipeline, "eta");
    world.set(Kind::Rollout, "third", "desiredState", wish);
    world.live(5);
    assert!(phase(&world, "third").is_terminal());
    assert!(!phase(&world, "third").has_delivered());
}

#[test]
fn a_delivery_whose_pipeline_cannot_be_read_can_be_deleted() {
    let mut world = delivered();
    break_off(&mut world, Kind::Pipeline, "eta");
    world.delete(Kind::Rollout, "third");
    world.live(5);
    assert!(world.names(Kind::Rollout).is_empty());
}

#[rstest]
#[case::pipeline(Kind::Pipeline, "eta")]
#[case::version(Kind::ModelVersion, "eta-1")]
fn a_run_beside_what_cannot_be_read_says_so_and_can_be_cancelled(#[case] kind: Kind, #[case] name: &str) {
    let mut world = shop();
    world.endings.insert("train".to_owned(), Ending::Runs);
    world.live(1);
    break_off(&mut world, kind, name);
    world.live(15);
    assert_eq!(reason(&world, Kind::Run, "eta-request"), "Unreadable");
    let stalled = condition(&world, Kind::Run, "eta-request", "Stalled");
    let message = stalled["message"].as_str().unwrap_or_default();
    assert!(message.contains(name), "{stalled}");
    world.set(Kind::Run, "eta-request", "desiredState", "Cancel");
    world.live(15);
    assert_eq!(outcome(&world, "eta-request"), Some(RunOutcome::Cancelled));
    assert!(world.names(Kind::Job).is_empty());
}

#[test]
fn a_run_that_waited_for_what_could_not_be_read_goes_on_afterwards() {
    let mut world = shop();
    break_off(&mut world, Kind::ModelVersion, "eta-1");
    world.live(15);
    assert!(world.names(Kind::Job).is_empty());
    world.unreadable.clear();
    world.live(15);
    assert_eq!(run(&world, "eta-request").stage, "Approval");
}

#[test]
fn a_run_that_a_person_asked_for_does_not_begin_without_a_policy_that_may_forbid_it() {
    let mut world = shop();
    world.set(Kind::Pipeline, "eta", "biasPolicies", json!([{ "name": "airports" }]));
    world.live(15);
    assert_eq!(reason(&world, Kind::Run, "eta-request"), "PolicyNotFound");
    assert!(world.names(Kind::Job).is_empty());
    world.set(Kind::Pipeline, "eta", "biasPolicies", json!([]));
    world.live(1);
    assert_eq!(run(&world, "eta-request").stage, "Approval");
}

#[test]
fn a_pipeline_whose_run_cannot_be_read_says_so_and_starts_none() {
    let mut world = shop();
    let often = json!({ "name": "often", "type": "Schedule", "schedule": { "cron": "*/5 * * * *" } });
    world.set(Kind::Pipeline, "eta", "triggers", json!([often]));
    world.set(Kind::Pipeline, "eta", "automationLevel", "FullyAutomated");
    break_off(&mut world, Kind::Run, "eta-request");
    world.live(15);
    assert_eq!(reason(&world, Kind::Pipeline, "eta"), "Unreadable");
    assert_eq!(world.names(Kind::Run), ["eta-request"]);
}

/// Whether a version says that it is beside what cannot be read, and which command shows that. Nothing is wrong with the
/// version itself, but that its deletion waits.
fn names(world: &World, name: &str, command: &str) -> bool {
    let deleting = version(world, name).metadata.deletion_timestamp.is_some();
    let ready = condition(world, Kind::ModelVersion, name, "Ready");
    let stalled = condition(world, Kind::ModelVersion, name, "Stalled");
    let message = ready["message"].as_str().unwrap_or_default();
    let waits = (ready["status"] == "False", stalled["status"] == "True");
    ready["reason"] == "Unreadable" && message.contains(command) && waits == (deleting, deleting)
}

/// A Rollout of version 2 to that target, which bears its label and cannot be read.
fn strange(world: &mut World, target: &str) {
    let mut plan = testing::plan();
    plan["targetRef"]["name"] = json!(target);
    world.add(Kind::Rollout, &testing::rollout("strange", 2, &plan));
    world.edit(Kind::Rollout, "strange", |o| {
        o["metadata"]["labels"] = json!({ LABEL_MODEL_VERSION: "eta-2" });
    });
    break_off(world, Kind::Rollout, "strange");
}

/// The states of which a version's lineage tells.
fn told(world: &World, name: &str) -> Vec<VersionState> {
    let lineage = version(world, name).status.unwrap().lineage.unwrap();
    lineage.entries.iter().filter_map(|e| e.type_.state()).collect()
}

#[test]
fn a_version_that_is_delivered_beside_a_rollout_of_it_that_cannot_be_read_is_live_afterwards() {
    let mut world = delivery(&testing::plan());
    world.live(2);
    strange(&mut world, "elsewhere");
    world.live(30);
    assert_eq!(phase(&world, "second"), RolloutPhase::Promoted);
    assert_eq!(version(&world, "eta-2").status.unwrap().state, VersionState::Live);
    assert_eq!(told(&world, "eta-2"), [VersionState::RollingOut, VersionState::Live]);
}

#[test]
fn a_version_tells_no_state_in_a_wrong_order_because_a_rollout_of_it_could_not_be_read() {
    let mut world = shop();
    world.live(1);
    assert_eq!(run(&world, "eta-request").stage, "Approval");
    strange(&mut world, "eta");
    world.person("jane", Approve);
    world.live(15);
    assert_eq!(phase(&world, "eta-2"), RolloutPhase::Queued);
    assert!(told(&world, "eta-2").is_empty(), "{:?}", told(&world, "eta-2"));
    world.unreadable.clear();
    world.delete(Kind::Rollout, "strange");
    world.live(40);
    assert_eq!(phase(&world, "eta-2"), RolloutPhase::Promoted);
    let way = [VersionState::Approved, VersionState::RollingOut, VersionState::Live];
    assert_eq!(told(&world, "eta-2"), way);
}

#[test]
fn a_version_beside_a_pipeline_that_cannot_be_read_says_so_stays_live_and_is_not_let_go() {
    let mut world = shop();
    world.delete(Kind::Run, "eta-request");
    world.turn();
    let live = |world: &World| condition(world, Kind::ModelVersion, "eta-1", "Live")["status"].clone();
    assert_eq!(live(&world), "True");
    break_off(&mut world, Kind::Pipeline, "eta");
    world.live(11);
    let command = "`kubectl get flywheelpipeline eta -n shop -o yaml`";
    assert!(names(&world, "eta-1", command));
    let status = version(&world, "eta-1").status.unwrap();
    assert_eq!((live(&world), status.state), (json!("True"), VersionState::Live));
    assert_eq!(status.targets, ["eta"]);
    let writes = world.writes.len();
    world.live(11);
    assert_eq!(world.writes.len(), writes, "who waits writes nothing");
    world.delete(Kind::ModelVersion, "eta-1");
    world.turn();
    assert!(names(&world, "eta-1", command));
    world.lose_status(Kind::ModelVersion, "eta-1");
    world.turn();
    assert!(names(&world, "eta-1", command), "nobody can say that it does not serve");
    assert_eq!(live(&world), "Unknown");
    world.unreadable.clear();
    world.live(11);
    assert_eq!(reason(&world, Kind::ModelVersion, "eta-1"), "InUse");
}

#[test]
fn a_version_whose_run_cannot_be_read_says_so_keeps_what_was_found_and_can_be_deleted() {
    let mut world = shop();
    world.report.change = 0.9;
    world.live(1);
    assert_eq!(outcome(&world, "eta-request"), Some(RunOutcome::Rejected));
    let before = version(&world, "eta-2").status.unwrap();
    break_off(&mut world, Kind::Run, "eta-request");
    world.live(11);
    assert!(names(
        &world,
        "eta-2",
        "`kubectl get flywheelrun eta-request -n shop -o yaml`"
    ));
    let after = version(&world, "eta-2").status.unwrap();
    assert_eq!((after.state, after.lineage), (VersionState::Rejected, before.lineage));
    assert!(!after.evaluations.is_empty() && after.evaluations == before.evaluations);
    world.delete(Kind::ModelVersion, "eta-2");
    world.turn();
    assert_eq!(world.names(Kind::ModelVersion), ["eta-1"]);
}

#[test]
fn a_version_that_is_deleted_beside_any_rollout_that_cannot_be_read_stays_and_says_why() {
    let mut world = shop();
    world.delete(Kind::Run, "eta-request");
    world.add(Kind::ModelVersion, &testing::version(3));
    world.add(Kind::Rollout, &testing::rollout("newer", 1, &testing::plan()));
    break_off(&mut world, Kind::Rollout, "newer");
    world.turn();
    assert_eq!(reason(&world, Kind::ModelVersion, "eta-3"), "Registered");
    world.delete(Kind::ModelVersion, "eta-3");
    world.turn();
    assert!(names(
        &world,
        "eta-3",
        "`kubectl get rollouts.flywheel.dev newer -n shop -o yaml`"
    ));
    world.unreadable.clear();
    world.delete(Kind::Rollout, "newer");
    world.turn();
    assert_eq!(world.names(Kind::ModelVersion), ["eta-1"]);
}

#[test]
fn versions_whose_rollout_cannot_be_read_stay_what_they_were() {
    let mut world = delivery(&testing::plan());
    world.live(30);
    assert_eq!(phase(&world, "second"), RolloutPhase::Promoted);
    let all = ["eta-1", "eta-2"];
    let shown = |world: &World, name: &str| {
        let status = version(world, name).status.unwrap();
        (status.state, status.deployments, status.lineage, status.targets)
    };
    let before = all.map(|name| shown(&world, name));
    break_off(&mut world, Kind::Rollout, "second");
    world.live(11);
    assert_eq!(all.map(|name| shown(&world, name)), before);
    for name in all {
        assert!(names(
            &world,
            name,
            "`kubectl get rollouts.flywheel.dev second -n shop -o yaml`"
        ));
    }
    let is = |name, type_| condition(&world, Kind::ModelVersion, name, type_)["status"].clone();
    assert_eq!(
        (is("eta-2", "Live"), is("eta-1", "RollbackTarget")),
        (json!("True"), json!("True"))
    );
    world.delete(Kind::ModelVersion, "eta-1");
    world.turn();
    assert_eq!(reason(&world, Kind::ModelVersion, "eta-1"), "Unreadable");
    world.unreadable.clear();
    world.live(11);
    assert_eq!(reason(&world, Kind::ModelVersion, "eta-1"), "InUse");
}

/// A promoted version that was asked to go back when the container of its binding had been renamed.
fn renamed() -> World {
    let mut plan = testing::plan();
    plan["observe"] = json!({ "duration": "24h" });
    plan["progressDeadlineSeconds"] = json!(120);
    let mut world = delivery(&plan);
    world.live(25);
    assert_eq!(phase(&world, "second"), RolloutPhase::Observing);
    rename(&mut world, "web");
    world.set(Kind::Rollout, "second", "desiredState", "RollBack");
    world.live(10);
    assert_eq!(phase(&world, "second"), RolloutPhase::RollingBack);
    assert_eq!(reason(&world, Kind::Rollout, "second"), "ContainerNotFound");
    world
}

fn rename(world: &mut World, container: &str) {
    world.set(Kind::Deployment, "eta", "template/spec/containers/0/name", container);
}

#[test]
fn a_way_back_whose_binding_cannot_be_read_waits_until_it_can() {
    let mut world = renamed();
    rename(&mut world, "app");
    world.live(3);
    assert_eq!(phase(&world, "second"), RolloutPhase::RolledBack);
    assert_eq!(world.binding("eta"), Some(testing::uri(1)));
}

#[test]
fn a_way_back_whose_binding_cannot_be_read_does_not_keep_its_rollout_from_being_deleted() {
    let mut world = renamed();
    world.delete(Kind::Rollout, "second");
    world.live(1);
    assert_eq!(world.names(Kind::Rollout), ["second"], "it may still be mended");
    world.live(5);
    assert!(world.names(Kind::Rollout).is_empty());
    assert_eq!(world.binding("eta"), Some(testing::uri(2)), "nobody could take it back");
}

#[test]
fn a_version_that_served_stays_live_and_is_not_let_go_while_its_binding_cannot_be_read() {
    let mut world = shop();
    world.delete(Kind::Run, "eta-request");
    world.turn();
    let live = |world: &World| condition(world, Kind::ModelVersion, "eta-1", "Live")["status"].clone();
    assert_eq!(live(&world), "True");
    world.set(Kind::Deployment, "eta", CONTAINER, "renamed");
    world.turn();
    let status = version(&world, "eta-1").status.unwrap();
    assert_eq!((live(&world), status.targets), (json!("True"), vec!["eta".to_owned()]));
    world.delete(Kind::ModelVersion, "eta-1");
    world.turn();
    assert_eq!(reason(&world, Kind::ModelVersion, "eta-1"), "InUse");
    world.lose_status(Kind::ModelVersion, "eta-1");
    world.turn();
    assert_eq!(reason(&world, Kind::ModelVersion, "eta-1"), "InUse");
    // A target that does not exist serves nobody.
    world.delete(Kind::Deployment, "eta");
    world.turn();
    assert!(world.names(Kind::ModelVersion).is_empty());
}

#[test]
fn a_live_version_grows_no_younger_by_a_binding_that_was_unreadable_or_a_status_that_was_lost() {
    let mut world = shop();
    world.set(Kind::Pipeline, "eta", "automationLevel", "FullyAutomated");
    world.live(30);
    assert_eq!(outcome(&world, "eta-request"), Some(RunOutcome::Promoted));
    let since = |world: &World| pipeline(world).status.unwrap().live_version.map(|v| v.since);
    let before = since(&world);
    for name in ["renamed", "app"] {
        world.set(Kind::Deployment, "eta", CONTAINER, name);
        world.pass(600);
        world.turn();
        assert_eq!(since(&world), before, "{name}");
    }
    world.lose_status(Kind::Pipeline, "eta");
    world.turn();
    assert!(since(&world).is_some());
    assert_eq!(since(&world), rollout(&world, "eta-2").promoted_at);
}

#[test]
fn a_pipeline_whose_target_cannot_be_read_says_so_and_shows_what_was_live_when_it_was_seen_last() {
    let mut world = shop();
    world.settle();
    let said = |world: &World| condition(world, Kind::Pipeline, "eta", "LiveVersionUnknown");
    let live = |world: &World| pipeline(world).status.unwrap().live_version.map(|v| v.name);
    assert_eq!((said(&world), live(&world).as_deref()), (Value::Null, Some("eta-1")));
    world.set(Kind::Deployment, "eta", CONTAINER, "renamed");
    world.settle();
    let unknown = said(&world);
    assert_eq!(unknown["status"], "True");
    assert!(
        unknown["message"].as_str().unwrap().contains("no container app"),
        "{unknown}"
    );
    assert_eq!(live(&world).as_deref(), Some("eta-1"));
    world.set(Kind::Deployment, "eta", CONTAINER, "app");
    world.settle();
    assert_eq!((said(&world), live(&world).as_deref()), (Value::Null, Some("eta-1")));
    world.delete(Kind::Deployment, "eta");
    world.settle();
    let gone = said(&world);
    assert!(
        gone["message"].as_str().unwrap().contains("does not exist: create it"),
        "{gone}"
    );
}

#[test]
fn a_pipeline_whose_live_version_cannot_be_read_does_not_forget_it_and_says_so() {
    let mut world = shop();
    world.settle();
    let live = |world: &World| pipeline(world).status.unwrap().live_version;
    let unknown = |world: &World| condition(world, Kind::Pipeline, "eta", "LiveVersionUnknown");
    let before = live(&world);
    assert!(before.is_some());
    break_off(&mut world, Kind::ModelVersion, "eta-1");
    world.set(Kind::Pipeline, "eta", "suspend", true);
    world.live(12);
    assert_eq!(
        reason(&world, Kind::Pipeline, "eta"),
        "Suspended",
        "it wrote its status"
    );
    assert_eq!(live(&world), before, "and serves as long as before");
    let said = unknown(&world);
    let message = said["message"].as_str().unwrap();
    assert!(
        message.contains("liveVersion is what was seen last. ModelVersion eta-1 cannot be read"),
        "{said}"
    );
    world.unreadable.clear();
    world.live(12);
    assert_eq!((live(&world), unknown(&world)), (before, Value::Null));
}

#[test]
fn a_pipeline_forgets_what_serves_no_more_whatever_else_cannot_be_read() {
    let mut world = shop();
    world.add(Kind::ModelVersion, &testing::version(3));
    world.settle();
    let live = |world: &World| pipeline(world).status.unwrap().live_version;
    assert!(live(&world).is_some());
    break_off(&mut world, Kind::ModelVersion, "eta-3");
    world.write_binding("eta", "s3://models/by-hand");
    world.live(12);
    assert_eq!(live(&world), None);
    let unknown = condition(&world, Kind::Pipeline, "eta", "LiveVersionUnknown");
    assert_eq!(unknown, Value::Null);
}

#[test]
fn a_pipeline_that_never_saw_a_version_serve_does_not_say_that_it_shows_the_last_one() {
    let mut world = World::default();
    world.add(Kind::Pipeline, &testing::pipeline());
    world.settle();
    let unknown = condition(&world, Kind::Pipeline, "eta", "LiveVersionUnknown");
    let message = unknown["message"].as_str().unwrap();
    assert!(message.contains("does not exist: create it"), "{unknown}");
    assert!(!message.contains("liveVersion"), "{unknown}");
}

fn replicas(world: &World) -> Value {
    world.raw(&(Kind::Deployment, "eta".to_owned())).expect("the target")["spec"]["replicas"].clone()
}

fn no_step(candidate: &mut Value) {
    candidate["metadata"]["labels"]
        .as_object_mut()
        .unwrap()
        .remove("flywheel.dev/step");
}

fn no_hash(candidate: &mut Value) {
    let annotations = candidate["metadata"]["annotations"].as_object_mut().unwrap();
    annotations.remove("flywheel.dev/template-hash");
}

fn no_baseline(candidate: &mut Value) {
    candidate["metadata"]["annotations"]["flywheel.dev/baseline"] = json!("four");
}

fn no_container(candidate: &mut Value) {
    candidate["spec"]["template"]["spec"]["containers"][0]["name"] = json!("other");
}

#[rstest]
#[case::step(no_step, RolloutPhase::RolledBack)]
#[case::hash(no_hash, RolloutPhase::RolledBack)]
#[case::container(no_container, RolloutPhase::RolledBack)]
#[case::baseline(no_baseline, RolloutPhase::Promoted)]
fn a_lost_status_beside_a_candidate_that_says_less_leaves_no_baseline_small(
    #[case] breaks: fn(&mut Value),
    #[case] end: RolloutPhase,
) {
    let mut plan = testing::plan();
    plan["capacity"] = json!({ "baseline": "ShrinkWithWeight" });
    let mut world = delivery(&plan);
    world.live(14);
    assert_eq!(replicas(&world), 2, "half is taken");
    world.edit(Kind::Deployment, "eta-candidate", breaks);
    world.lose_status(Kind::Rollout, "second");
    world.live(60);
    assert_eq!((phase(&world, "second"), replicas(&world)), (end, json!(4)));
    assert_eq!(world.names(Kind::Deployment), ["eta"]);
}
