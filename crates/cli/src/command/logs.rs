//! `logs`: the last lines of a stage's pod, or of a rollout's candidate.
//!
//! The operator never copies logs into a status, because they may hold data of people; whoever may read pods' logs may
//! read them here.

use flywheel_api::flywheel_run::{StageState, StageStatus};
use flywheel_api::{FlywheelPipeline, FlywheelRun, Rollout, names};
use futures::{AsyncBufReadExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{ListParams, LogParams};

use super::{DONE, print};
use crate::args::Logs;
use crate::cluster::Cluster;
use crate::error::{Error, Request, refused};
use crate::show::serving;
use crate::subject::{Kind, Subject};
use crate::world::{now, rollout_status, status};

/// Prints the lines.
pub async fn run(cluster: &Cluster, args: &Logs) -> Result<u8, Error> {
    let accepted = [Kind::Run, Kind::Pipeline, Kind::Rollout];
    let subject = Subject::parse(&args.subject, &accepted, Some(Kind::Run))?;
    let (pods, what) = match subject.kind {
        Kind::Rollout => candidate(cluster, &subject.name).await?,
        Kind::Pipeline => {
            let run = run_of(cluster, &subject.name).await?;
            of_stage(cluster, &run, args).await?
        }
        _ => of_stage(cluster, &subject.name, args).await?,
    };
    if pods.is_empty() {
        return refused(format!(
            "{what} has no pod any more in namespace {}: the operator removes Jobs some time after their result was recorded, and a node that is lost takes its pods along",
            cluster.namespace
        ));
    }
    let several = pods.len() > 1;
    for pod in &pods {
        if several {
            print(&format!("==> {} <==\n", pod.name_any()))?;
        }
        lines(cluster, pod, args).await?;
    }
    Ok(DONE)
}

async fn lines(cluster: &Cluster, pod: &Pod, args: &Logs) -> Result<(), Error> {
    let name = pod.name_any();
    let request = Request {
        verb: "get",
        resource: "pods/log".to_owned(),
        name: name.clone(),
        namespace: cluster.namespace.clone(),
    };
    let container = pod
        .spec
        .as_ref()
        .and_then(|s| s.containers.first())
        .map(|c| c.name.clone());
    let params = LogParams {
        container,
        tail_lines: Some(args.tail),
        follow: args.follow,
        ..LogParams::default()
    };
    if !args.follow {
        let text = cluster
            .api::<Pod>()
            .logs(&name, &params)
            .await
            .map_err(|e| request.failed(&e))?;
        if text.is_empty() {
            let node = serving::pod(pod, now());
            eprintln!("Pod {name} has written nothing: it is {}.", node.state);
        }
        return print(&text);
    }
    let stream = cluster.api::<Pod>().log_stream(&name, &params).await;
    let mut stream = stream.map_err(|e| request.failed(&e))?.lines();
    while let Some(line) = stream.try_next().await.map_err(|e| Error::Output(e.to_string()))? {
        print(&format!("{line}\n"))?;
    }
    Ok(())
}

/// The active run of a pipeline, or its last one.
async fn run_of(cluster: &Cluster, pipeline: &str) -> Result<String, Error> {
    let found: FlywheelPipeline = cluster.get(pipeline).await?;
    let status = found.status.unwrap_or_default();
    let last = status.last_run.map(|r| r.name);
    match status.active_run.map(|r| r.name).or(last) {
        Some(run) => Ok(run),
        None => refused(format!(
            "FlywheelPipeline {pipeline} has no run yet: start one with `kubectl flywheel run pipeline {pipeline} -n {}`",
            cluster.namespace
        )),
    }
}

async fn of_stage(cluster: &Cluster, name: &str, args: &Logs) -> Result<(Vec<Pod>, String), Error> {
    let run: FlywheelRun = cluster.get(name).await?;
    let stages = status(&run).stages;
    let stage = choose(&stages, args.stage.as_deref(), name)?;
    let attempt = args.attempt.unwrap_or(stage.attempt);
    let uid = run.metadata.uid.as_deref().unwrap_or_default();
    let labels = format!(
        "{}={uid},{}={},{}={attempt}",
        names::LABEL_RUN_UID,
        names::LABEL_STAGE,
        stage.name,
        names::LABEL_ATTEMPT
    );
    let pods = cluster.list(&ListParams::default().labels(&labels)).await?;
    Ok((
        pods,
        format!("attempt {attempt} of stage {} of FlywheelRun {name}", stage.name),
    ))
}

/// The stage that was named; else the one that runs, the one that failed, or the last one that began.
fn choose<'a>(stages: &'a [StageStatus], wanted: Option<&str>, run: &str) -> Result<&'a StageStatus, Error> {
    let all = || stages.iter().map(|s| s.name.as_str()).collect::<Vec<_>>().join(", ");
    let found = match wanted {
        Some(name) => stages.iter().find(|s| s.name == name),
        None => {
            let of = |state: StageState| stages.iter().find(|s| s.state == state);
            let begun = || stages.iter().rev().find(|s| s.attempt > 0);
            of(StageState::Running)
                .or_else(|| of(StageState::Failed))
                .or_else(begun)
        }
    };
    match (found, wanted) {
        (Some(stage), _) if stage.attempt > 0 => Ok(stage),
        (Some(stage), _) => refused(format!(
            "stage {} of FlywheelRun {run} has not begun: it has no log yet",
            stage.name
        )),
        (None, Some(name)) => refused(format!(
            "FlywheelRun {run} has no stage {name}: its stages are {}",
            all()
        )),
        (None, None) => refused(format!("no stage of FlywheelRun {run} has begun: there is no log yet")),
    }
}

/// The pods of a rollout's candidate.
async fn candidate(cluster: &Cluster, name: &str) -> Result<(Vec<Pod>, String), Error> {
    let rollout: Rollout = cluster.get(name).await?;
    let status = rollout_status(&rollout);
    if status.candidate_deployment.is_none() {
        return refused(format!(
            "Rollout {name} has no candidate (it is {}): the pods of Deployment {} are the target's own",
            status.phase.name(),
            rollout.spec.plan.target_ref.name
        ));
    }
    let uid = rollout.metadata.uid.clone().unwrap_or_default();
    let labels = format!("{}={uid}", names::LABEL_ROLLOUT_UID);
    let pods = cluster.list(&ListParams::default().labels(&labels)).await?;
    Ok((pods, format!("the candidate of Rollout {name}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenes;

    #[test]
    fn the_stage_that_runs_or_failed_is_chosen() {
        let world = scenes::failing_stage();
        let stages = world.runs[1].status.clone().unwrap().stages;
        assert_eq!(choose(&stages, None, "eta-7").unwrap().name, "train");
        let early = choose(&stages, Some("evaluate"), "eta-7").unwrap_err();
        assert_eq!(
            early.to_string(),
            "stage evaluate of FlywheelRun eta-7 has not begun: it has no log yet"
        );
        let unknown = choose(&stages, Some("collect"), "eta-7").unwrap_err();
        assert!(unknown.to_string().ends_with("its stages are train, evaluate"));
    }
}
