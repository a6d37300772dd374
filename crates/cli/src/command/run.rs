//! `run`: a FlywheelRun, asked for by you.

use flywheel_api::reference::{NameRef, Parameter};
use flywheel_api::{FlywheelPipeline, FlywheelRun, FlywheelRunSpec, names};
use kube::ResourceExt;
use kube::api::ListParams;

use super::{DONE, watch, written};
use crate::args::{Form, Run};
use crate::cluster::Cluster;
use crate::error::{Error, refused};
use crate::paper::Paper;
use crate::show;
use crate::subject::{Kind, Subject};
use crate::tree;
use crate::world::{World, status};

/// Numbers that are tried when others take the same ones at the same time.
const ATTEMPTS: i64 = 8;

/// Creates the run, and draws it if that is asked for.
pub async fn run(cluster: &Cluster, paper: Paper, args: &Run) -> Result<u8, Error> {
    let subject = Subject::parse(&args.subject, &[Kind::Pipeline], Some(Kind::Pipeline))?;
    let pipeline: FlywheelPipeline = cluster.get(&subject.name).await?;
    let parameters = parameters(&args.parameters)?;
    let requested_by = cluster.me().await?;
    let spec = FlywheelRunSpec {
        pipeline_ref: NameRef::new(&*subject.name),
        trigger: flywheel_api::flywheel_run::RunTrigger::default(),
        requested_by,
        parameters,
        desired_state: flywheel_api::flywheel_run::RunDesiredState::default(),
    };
    let created = match &args.name {
        Some(name) => named(cluster, name, &spec).await?,
        None => numbered(cluster, &pipeline, &spec).await?,
    };
    let name = created.name_any();
    let sentence = format!(
        "FlywheelRun {name} of FlywheelPipeline {} is asked for by {}: `kubectl flywheel get run {name} -n {}` shows it.",
        subject.name, spec.requested_by, cluster.namespace
    );
    written(&created, args.output.form, &sentence)?;
    if args.watch && args.output.form == Form::Table {
        let subject = Subject { kind: Kind::Run, name };
        let draw = |world: &World| Ok(tree::draw(paper, &show::get::tree(world, Some(&subject), false)?));
        watch::draw(cluster, None, draw, |world| rests(world, &subject.name)).await?;
    }
    Ok(DONE)
}

/// Ended, or a person is waited for.
fn rests(world: &World, run: &str) -> bool {
    world.run(run).is_ok_and(|run| {
        let status = status(run);
        status.outcome.is_some() || status.waiting_for.is_some()
    })
}

/// Later ones of the same name are refused: the list is a map by name.
fn parameters(texts: &[String]) -> Result<Vec<Parameter>, Error> {
    let mut all: Vec<Parameter> = Vec::new();
    for text in texts {
        let Some((name, value)) = text.split_once('=').filter(|(name, _)| !name.is_empty()) else {
            return refused(format!("--parameter {text} is no NAME=VALUE"));
        };
        if all.iter().any(|p| p.name == name) {
            return refused(format!("--parameter {name} is given twice: give it once"));
        }
        all.push(Parameter {
            name: name.to_owned(),
            value: value.to_owned(),
        });
    }
    Ok(all)
}

async fn named(cluster: &Cluster, name: &str, spec: &FlywheelRunSpec) -> Result<FlywheelRun, Error> {
    match cluster.create(&FlywheelRun::new(name, spec.clone())).await? {
        Some(created) => Ok(created),
        None => refused(format!(
            "FlywheelRun {name} exists in namespace {}: choose another --name",
            cluster.namespace
        )),
    }
}

/// The next number of the pipeline; one more where somebody else was faster.
async fn numbered(
    cluster: &Cluster,
    pipeline: &FlywheelPipeline,
    spec: &FlywheelRunSpec,
) -> Result<FlywheelRun, Error> {
    let name = pipeline.name_any();
    let runs: Vec<FlywheelRun> = cluster.list(&ListParams::default()).await?;
    let next = next(pipeline, &runs);
    for number in next..next + ATTEMPTS {
        let run = format!("{name}-{number}");
        if run.len() > names::MAX_NAME {
            return refused(format!(
                "{run} is longer than {} characters: give the run a shorter --name",
                names::MAX_NAME
            ));
        }
        if let Some(created) = cluster.create(&FlywheelRun::new(&run, spec.clone())).await? {
            return Ok(created);
        }
    }
    refused(format!(
        "{name}-{next} and the next {ATTEMPTS} names are taken: give the run a --name"
    ))
}

/// One above everything that was given.
fn next(pipeline: &FlywheelPipeline, runs: &[FlywheelRun]) -> i64 {
    let stem = format!("{}-", pipeline.name_any());
    let status = pipeline.status.clone().unwrap_or_default();
    let pending = status.pending_run.map_or(0, |p| p.number);
    let highest = runs
        .iter()
        .filter_map(|r| r.name_any().strip_prefix(&stem)?.parse::<i64>().ok())
        .max()
        .unwrap_or(0);
    1 + highest.max(status.last_run_number).max(pending)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_names_with_values() {
        let good = parameters(&["week=17".to_owned(), "filter=a=b".to_owned()]).unwrap();
        assert_eq!((good[1].name.as_str(), good[1].value.as_str()), ("filter", "a=b"));
        let twice = parameters(&["week=17".to_owned(), "week=18".to_owned()]).unwrap_err();
        assert_eq!(twice.to_string(), "--parameter week is given twice: give it once");
        assert!(parameters(&["week".to_owned()]).is_err());
    }
}
