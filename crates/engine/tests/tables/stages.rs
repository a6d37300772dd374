//! Attempts that fail: class, reason, retries.

use flywheel_api::FlywheelRun;
use flywheel_api::flywheel_run::{FlywheelRunStatus, RunOutcome, StageState};
use flywheel_api::stage::FailureClass::{self, Application, Infrastructure};
use flywheel_engine::testing::{self, Ending, Kind, World};
use k8s_openapi::api::batch::v1::Job;
use rstest::rstest;
use serde_json::json;

fn shop() -> World {
    let mut world = World::default();
    world.add(Kind::Deployment, &testing::target(1, Some(&testing::uri(1))));
    world.add(Kind::ModelVersion, &testing::version(1));
    world.add(Kind::Pipeline, &testing::pipeline());
    world.add(Kind::Run, &testing::run("eta-request", "joe"));
    world
}

fn status(world: &World) -> FlywheelRunStatus {
    let run: FlywheelRun = world.get(Kind::Run, "eta-request");
    run.status.unwrap()
}

#[rstest]
#[case::exit_code(Ending::Exit(3), Application, "ExitCode", "code 3")]
#[case::memory(Ending::OutOfMemory, Application, "OOMKilled", "resources.limits.memory")]
#[case::time(Ending::Deadline, Application, "DeadlineExceeded", "timeoutSeconds")]
#[case::no_result(Ending::Says(" ".to_owned()), Application, "NoResult", "no result")]
#[case::image(Ending::ImagePull, Infrastructure, "ImagePullFailed", "imagePullSecrets")]
#[case::eviction(Ending::Evicted, Infrastructure, "Evicted", "took pod")]
#[case::pod_gone(Ending::PodGone, Infrastructure, "ResultLost", "gone before")]
#[case::no_pod(Ending::NoPod, Infrastructure, "PodNotCreated", "quotas")]
fn an_attempt_fails_with_its_class_and_reason(
    #[case] ending: Ending,
    #[case] class: FailureClass,
    #[case] reason: &str,
    #[case] words: &str,
) {
    let mut world = shop();
    world.set(
        Kind::Pipeline,
        "eta",
        "stages/0/retry",
        json!({ "limit": 0, "when": [] }),
    );
    world.endings.insert("train".to_owned(), ending);
    world.live(6);
    let status = status(&world);
    let failure = status.stages[0].failure.clone().expect("it failed");
    assert_eq!(
        (failure.class, failure.reason.as_str()),
        (class, reason),
        "{}",
        failure.message
    );
    assert!(failure.message.contains(words), "{}", failure.message);
    assert_eq!(
        (status.outcome, status.stages[0].attempt),
        (Some(RunOutcome::Failed), 1)
    );
    let jobs: Vec<Job> = world.all(Kind::Job);
    assert!(
        jobs.iter().all(|j| j.status.is_some()),
        "a Job that cannot succeed is removed"
    );
}

#[rstest]
#[case::infrastructure_is_repeated(Ending::Evicted, 3)]
#[case::application_is_not(Ending::Exit(1), 1)]
fn only_the_failures_that_the_stage_names_are_repeated(#[case] ending: Ending, #[case] attempts: i32) {
    let mut world = shop();
    world.endings.insert("train".to_owned(), ending);
    world.live(6);
    let status = status(&world);
    assert_eq!(
        (status.outcome, status.stages[0].attempt),
        (Some(RunOutcome::Failed), attempts)
    );
    assert_eq!(
        world.names(Kind::Job).len(),
        attempts as usize,
        "every attempt has a Job of its own"
    );
}

#[test]
fn the_pause_before_an_attempt_doubles() {
    let mut world = shop();
    world.set(
        Kind::Pipeline,
        "eta",
        "stages/0/retry",
        json!({ "limit": 3, "when": ["Application"], "backoff": "1m" }),
    );
    world.endings.insert("train".to_owned(), Ending::Exit(1));
    world.live(10);
    let starts: Vec<i64> = status(&world)
        .decisions
        .iter()
        .filter(|d| d.decision == "StartStage")
        .map(|d| d.at.0.duration_since(testing::at(0)).as_secs())
        .collect();
    let pauses: Vec<i64> = starts.windows(2).map(|w| w[1] - w[0]).collect();
    assert_eq!(pauses, [60, 120, 240]);
}

#[test]
fn a_cancelled_run_leaves_no_job_at_work() {
    let mut world = shop();
    world.endings.insert("train".to_owned(), Ending::Runs);
    world.live(1);
    world.set(Kind::Run, "eta-request", "desiredState", "Cancel");
    world.live(1);
    assert_eq!(status(&world).outcome, Some(RunOutcome::Cancelled));
    assert!(world.names(Kind::Job).is_empty());
}

#[test]
fn a_stage_that_names_no_resources_gets_the_administrators() {
    let mut world = shop();
    world.set(
        Kind::Pipeline,
        "eta",
        "stages/1/resources",
        json!({ "requests": { "memory": "4Gi" }, "limits": { "cpu": "50m" } }),
    );
    world.live(1);
    let quantities = |stage: &str| {
        let jobs: Vec<Job> = world.all(Kind::Job);
        let job = jobs
            .into_iter()
            .find(|j| j.metadata.name.as_ref().unwrap().contains(stage))
            .unwrap();
        let all = job
            .spec
            .unwrap()
            .template
            .spec
            .unwrap()
            .containers
            .remove(0)
            .resources
            .unwrap();
        let text =
            |r: Option<std::collections::BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>>| {
                r.unwrap_or_default()
                    .into_iter()
                    .map(|(k, v)| format!("{k} {}", v.0))
                    .collect::<Vec<_>>()
                    .join(", ")
            };
        (text(all.requests), text(all.limits))
    };
    assert_eq!(
        quantities("train"),
        ("cpu 100m, memory 128Mi".to_owned(), "memory 1Gi".to_owned())
    );
    // Neither a limit below the stage's own request, nor a request beyond its own limit.
    assert_eq!(quantities("evaluate"), ("memory 4Gi".to_owned(), "cpu 50m".to_owned()));
}

#[test]
fn more_runs_than_the_administrator_allows_wait() {
    let mut world = shop();
    world.settings.max_runs_per_namespace = 1;
    world.endings.insert("train".to_owned(), Ending::Runs);
    let mut other = serde_json::to_value(testing::pipeline()).unwrap();
    other["metadata"]["name"] = json!("risk");
    other["spec"]["model"]["name"] = json!("risk");
    other["spec"].as_object_mut().unwrap().remove("rollout");
    world.add(Kind::Pipeline, &other);
    let mut asked = testing::run("risk-request", "joe");
    asked.spec.pipeline_ref.name = "risk".to_owned();
    world.live(1);
    world.add(Kind::Run, &asked);
    world.live(1);
    let waits: FlywheelRun = world.get(Kind::Run, "risk-request");
    assert_eq!(waits.status.unwrap().stages[0].state, StageState::Pending);
    world.endings.clear();
    world.live(3);
    let runs: FlywheelRun = world.get(Kind::Run, "risk-request");
    assert_ne!(runs.status.unwrap().stages[0].state, StageState::Pending);
}

#[test]
fn runs_of_one_pipeline_go_one_after_the_other() {
    let mut world = shop();
    world.endings.insert("train".to_owned(), Ending::Runs);
    world.live(1);
    world.add(Kind::Run, &testing::run("eta-second", "joe"));
    world.live(1);
    let second: FlywheelRun = world.get(Kind::Run, "eta-second");
    assert!(second.status.unwrap().started_at.is_none());
}

#[test]
fn a_run_of_an_earlier_pipeline_of_that_name_is_cancelled() {
    let mut world = shop();
    world.edit(Kind::Run, "eta-request", |r| {
        r["metadata"]["ownerReferences"] = json!([{ "apiVersion": "flywheel.dev/v1alpha1", "kind": "FlywheelPipeline",
            "name": "eta", "uid": "former", "controller": true }]);
    });
    world.live(1);
    assert_eq!(status(&world).outcome, Some(RunOutcome::Cancelled));
}

#[test]
fn a_job_of_an_attempt_that_was_given_up_is_gone_before_the_next_begins() {
    let mut world = shop();
    world.endings.insert("train".to_owned(), Ending::ImagePull);
    world.turn();
    let first = world.names(Kind::Job).remove(0);
    world.edit(Kind::Job, &first, |j| {
        j["metadata"]["finalizers"] = json!(["example.com/slow"]);
    });
    world.live(4);
    assert_eq!(
        world.names(Kind::Job),
        std::slice::from_ref(&first),
        "it is still there"
    );
    world.edit(Kind::Job, &first, |j| j["metadata"]["finalizers"] = json!([]));
    world.live(1);
    assert_ne!(world.names(Kind::Job), [first]);
}

#[test]
fn every_kind_of_volume_reaches_the_pod_as_it_was_written() {
    let mut world = shop();
    let volumes = json!([
        { "name": "scratch", "emptyDir": { "sizeLimit": "1Gi" } },
        { "name": "claim", "persistentVolumeClaim": { "claimName": "words", "readOnly": true } },
        { "name": "map", "configMap": { "name": "training" } },
        { "name": "key", "secret": { "name": "store" } },
        { "name": "both", "projected": { "sources": [
            { "configMap": { "name": "training" } }, { "secret": { "name": "store" } }] } },
    ]);
    world.set(Kind::Pipeline, "eta", "stages/0/volumes", volumes.clone());
    world.turn();
    let names = world.names(Kind::Job);
    let training = names.iter().find(|n| n.contains("train")).expect("a training");
    let job: Job = world.get(Kind::Job, training);
    let pod = serde_json::to_value(job.spec.unwrap().template.spec.unwrap()).unwrap();
    let found = |name: &str| {
        let all = pod["volumes"].as_array().unwrap();
        all.iter()
            .find(|v| v["name"] == name)
            .cloned()
            .unwrap_or_else(|| panic!("{name}: {pod:#}"))
    };
    for written in volumes.as_array().unwrap() {
        let name = written["name"].as_str().unwrap();
        // A Secret as a volume is the one source whose field has another name in a pod.
        let expected = match name {
            "key" => json!({ "name": "key", "secret": { "secretName": "store" } }),
            _ => written.clone(),
        };
        assert_eq!(found(name), expected);
    }
}
