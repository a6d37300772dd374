//! `adopt`: takes a value that someone else wrote into the target as what serves.

use flywheel_api::{Rollout, condition, names};
use flywheel_engine::binding;
use flywheel_engine::rollout::adoption_digest;
use k8s_openapi::api::apps::v1::Deployment;
use serde_json::json;

use super::{DONE, print};
use crate::args::Adopt;
use crate::cluster::Cluster;
use crate::error::{Error, refused};
use crate::subject::{Kind, Subject};
use crate::world::rollout_status;

/// Binds the adoption to the value that the target carries now.
pub async fn run(cluster: &Cluster, args: &Adopt) -> Result<u8, Error> {
    let subject = Subject::parse(&args.subject, &[Kind::Rollout], Some(Kind::Rollout))?;
    let name = &subject.name;
    let rollout: Rollout = cluster.get(name).await?;
    let status = rollout_status(&rollout);
    let plan = &rollout.spec.plan;
    let target: Deployment = cluster.get(&plan.target_ref.name).await?;
    let live = match binding::value(&target, &plan.binding) {
        Ok(live) => live,
        Err(error) => return refused(format!("there is no value to adopt: {error}")),
    };
    let shown = live.clone().unwrap_or_else(|| "no value".to_owned());
    if let Some(wanted) = args.value.as_ref().filter(|w| Some(*w) != live.as_ref()) {
        return refused(format!(
            "Deployment {} carries {shown}, not {wanted}: it changed since you looked; adopt the new value, or set it back",
            plan.target_ref.name
        ));
    }
    let drifted = [condition::READY, condition::TARGET_BOUND]
        .iter()
        .filter_map(|type_| condition::find(&status.conditions, type_))
        .find(|c| c.reason == "Drifted");
    let Some(drifted) = drifted.filter(|_| !status.phase.is_terminal()) else {
        return refused(format!(
            "Rollout {name} reports no drift (it is {}): there is nothing to adopt",
            status.phase.name()
        ));
    };
    print(&format!("{}\n", drifted.message))?;
    let digest = adoption_digest(live.as_deref());
    let body = json!({ "metadata": { "annotations": { names::ANNOTATION_ADOPT: digest } } });
    cluster.patch::<Rollout>(name, &body).await?;
    print(&format!(
        "{shown} is adopted as what serves on Deployment {}: Rollout {name} goes on from there.\n",
        plan.target_ref.name
    ))?;
    Ok(DONE)
}
