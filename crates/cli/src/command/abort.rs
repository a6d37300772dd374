//! `abort`: stops a run, or a rollout before its promotion.

use flywheel_api::rollout::RolloutPhase;
use flywheel_api::{FlywheelRun, Rollout};
use serde_json::json;

use super::{DONE, print};
use crate::args::Abort;
use crate::cluster::Cluster;
use crate::error::{Error, refused};
use crate::subject::{Kind, Subject};
use crate::world::{rollout_status, status};

/// Writes what is wanted; the operator does it.
pub async fn run(cluster: &Cluster, args: &Abort) -> Result<u8, Error> {
    let subject = Subject::parse(&args.subject, &[Kind::Run, Kind::Rollout], None)?;
    let (name, namespace) = (&subject.name, &cluster.namespace);
    if subject.kind == Kind::Run {
        let run: FlywheelRun = cluster.get(name).await?;
        if let Some(outcome) = status(&run).outcome {
            return refused(format!(
                "FlywheelRun {name} has ended as {} already: there is nothing to stop",
                outcome.name()
            ));
        }
        let body = json!({ "spec": { "desiredState": "Cancel" } });
        cluster.patch::<FlywheelRun>(name, &body).await?;
        print(&format!(
            "FlywheelRun {name} is asked to stop: `kubectl flywheel get run {name} -n {namespace}` shows it.\n"
        ))?;
        return Ok(DONE);
    }
    let rollout: Rollout = cluster.get(name).await?;
    let phase = rollout_status(&rollout).phase;
    if phase == RolloutPhase::Observing {
        return refused(format!(
            "Rollout {name} is promoted and only watched: run `kubectl flywheel rollback rollout {name} -n {namespace}`"
        ));
    }
    if phase.is_terminal() {
        return refused(format!(
            "Rollout {name} has ended as {} already: there is nothing to stop",
            phase.name()
        ));
    }
    let body = json!({ "spec": { "desiredState": "Abort" } });
    cluster.patch::<Rollout>(name, &body).await?;
    print(&format!(
        "Rollout {name} is asked to go back to what served before: `kubectl flywheel get rollout {name} -n {namespace}` shows it.\n"
    ))?;
    Ok(DONE)
}
