//! `rollback`: back to what served before, or to any version of the model.

use flywheel_api::lineage::VersionRef;
use flywheel_api::rollout::{Observe, RolloutDesiredState, RolloutPhase, RolloutPlan, Strategy};
use flywheel_api::{ModelVersion, Rollout, RolloutSpec, names};
use flywheel_engine::binding;
use flywheel_engine::rollout::Peer;
use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::json;

use super::{DONE, written};
use crate::args::Rollback;
use crate::cluster::Cluster;
use crate::error::{Error, refused};
use crate::subject::{Kind, Subject};
use crate::world::{newest_first, rollout_status};

/// Names that are tried when others take the same ones at the same time.
const ATTEMPTS: usize = 32;

/// The rollout goes back by itself where it can; with `--to` another one, without steps, delivers the older version.
pub async fn run(cluster: &Cluster, args: &Rollback) -> Result<u8, Error> {
    let subject = Subject::parse(&args.subject, &[Kind::Rollout, Kind::Deployment], Some(Kind::Rollout))?;
    let rollout = match subject.kind {
        Kind::Deployment => last_to(cluster, args, &subject.name).await?,
        _ => cluster.get::<Rollout>(&subject.name).await?,
    };
    match &args.to {
        Some(version) => deliver(cluster, args, &rollout, version).await,
        None => go_back(cluster, args, &rollout).await,
    }
}

/// The rollout that set what serves on a Deployment, or is about to.
async fn last_to(cluster: &Cluster, args: &Rollback, target: &str) -> Result<Rollout, Error> {
    match last(to(cluster, target).await?, args.to.is_none()) {
        Some(last) => Ok(last),
        None => refused(format!(
            "no Rollout delivered anything to Deployment {target} in namespace {}: there is nothing to go back to",
            cluster.namespace
        )),
    }
}

/// The newest one; to go back, one that found its version live counts only if there is no other: it has no way back.
fn last(mut all: Vec<Rollout>, back: bool) -> Option<Rollout> {
    all.retain(|r| {
        let status = rollout_status(r);
        status.phase.holds_target() || (status.phase.has_delivered() && status.promoted_at.is_some())
    });
    let no_way = |r: &Rollout| back && rollout_status(r).baseline.is_none();
    all.sort_by(|a, b| {
        let by_way = no_way(a).cmp(&no_way(b));
        by_way.then_with(|| newest_first(&a.metadata, &b.metadata))
    });
    all.into_iter().next()
}

async fn to(cluster: &Cluster, target: &str) -> Result<Vec<Rollout>, Error> {
    let params = ListParams::default().fields(&format!("spec.plan.targetRef.name={target}"));
    cluster.list(&params).await
}

async fn go_back(cluster: &Cluster, args: &Rollback, rollout: &Rollout) -> Result<u8, Error> {
    let (name, namespace) = (rollout.name_any(), &cluster.namespace);
    let status = rollout_status(rollout);
    let target = &rollout.spec.plan.target_ref.name;
    let other = format!("kubectl flywheel rollback deployment {target} --to VERSION -n {namespace}");
    if let Some(later) = successor(cluster, rollout).await? {
        return refused(format!(
            "Rollout {name} does not say any more what serves on Deployment {target}, Rollout {later} does: roll that one back, or name the version with `{other}`"
        ));
    }
    let over = match status.phase {
        RolloutPhase::RollingBack | RolloutPhase::RolledBack | RolloutPhase::Aborted | RolloutPhase::Failed => true,
        // Its version came to serve, and the Rollout that took its place went back.
        RolloutPhase::Superseded => status.promoted_at.is_none(),
        _ => false,
    };
    if over {
        return refused(format!(
            "Rollout {name} is {} already ({}): to deliver another version, run `{other}`",
            status.phase.name(),
            status.outcome_reason.trim_end_matches('.')
        ));
    }
    if status.phase == RolloutPhase::Promoted && status.baseline.is_none() {
        return refused(format!(
            "Rollout {name} found its version live already, so what served before is not known: name the version with `{other}`"
        ));
    }
    let before = status
        .baseline
        .and_then(|b| b.version.or(b.value))
        .unwrap_or_else(|| "what served before".to_owned());
    let body = json!({ "spec": { "desiredState": "RollBack" } });
    let changed = cluster.patch::<Rollout>(&name, &body).await?;
    let sentence = format!(
        "Rollout {name} is asked to go back to {before}: `kubectl flywheel get rollout {name} -n {namespace}` shows it."
    );
    written(&changed, args.output.form, &sentence)?;
    Ok(DONE)
}

/// Another rollout that says what serves since this one delivered, by the operator's own rule.
async fn successor(cluster: &Cluster, rollout: &Rollout) -> Result<Option<String>, Error> {
    let Some(promoted) = rollout_status(rollout).promoted_at else {
        return Ok(None);
    };
    let all = to(cluster, &rollout.spec.plan.target_ref.name).await?;
    let later = all
        .iter()
        .find(|r| r.metadata.uid != rollout.metadata.uid && Peer::of(r).follows(promoted.0));
    Ok(later.map(ResourceExt::name_any))
}

/// A Rollout without steps: the same target and binding, another version, at once.
async fn deliver(cluster: &Cluster, args: &Rollback, last: &Rollout, version: &str) -> Result<u8, Error> {
    let target = &last.spec.plan.target_ref.name;
    let wanted: ModelVersion = cluster.get(version).await?;
    let deployment: Deployment = cluster.get(target).await?;
    let live = binding::value(&deployment, &last.spec.plan.binding).ok().flatten();
    if live == Some(binding::wanted(&last.spec.plan.binding, &wanted.spec)) {
        return refused(format!(
            "Deployment {target} carries {version} already: there is nothing to do"
        ));
    }
    if let Some(busy) = busy(cluster, target).await? {
        return refused(format!(
            "Rollout {busy} is under way on Deployment {target}: stop it first with `kubectl flywheel abort rollout {busy} -n {}`",
            cluster.namespace
        ));
    }
    let created = create(cluster, last, &wanted).await?;
    let name = created.name_any();
    let sentence = format!(
        "Rollout {name} delivers {version} to Deployment {target} without steps: `kubectl flywheel get rollout {name} -n {}` shows it.",
        cluster.namespace
    );
    written(&created, args.output.form, &sentence)?;
    Ok(DONE)
}

async fn busy(cluster: &Cluster, target: &str) -> Result<Option<String>, Error> {
    let all = to(cluster, target).await?;
    let open = all.iter().find(|r| {
        let phase = rollout_status(r).phase;
        !phase.is_terminal() && phase != RolloutPhase::Observing
    });
    Ok(open.map(ResourceExt::name_any))
}

async fn create(cluster: &Cluster, last: &Rollout, wanted: &ModelVersion) -> Result<Rollout, Error> {
    let version = wanted.name_any();
    let spec = RolloutSpec {
        model_version_ref: VersionRef::of(wanted),
        plan: RolloutPlan {
            strategy: Strategy::default(),
            checks: Vec::new(),
            observe: Observe::default(),
            ..last.spec.plan.clone()
        },
        run_ref: None,
        pipeline_ref: None,
        max_automation_level: None,
        desired_state: RolloutDesiredState::Progress,
        hold_reason: String::new(),
    };
    let room = names::MAX_NAME - "-back-99".len();
    let stem: String = version.chars().take(room).collect();
    for number in 1..=ATTEMPTS {
        let mut rollout = Rollout::new(&format!("{stem}-back-{number}"), spec.clone());
        let labels = [
            (names::LABEL_MODEL_VERSION, version.clone()),
            (names::LABEL_TARGET, spec.plan.target_ref.name.clone()),
        ];
        rollout.metadata.labels = Some(labels.map(|(k, v)| (k.to_owned(), v)).into());
        if let Some(created) = cluster.create(&rollout).await? {
            return Ok(created);
        }
    }
    refused(format!(
        "{stem}-back-1 and the next names are taken: delete old Rollouts first"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenes;

    #[test]
    fn a_later_rollout_that_found_its_version_live_does_not_bar_the_way_back() {
        let delivered = scenes::quiet().rollouts.remove(0);
        let mut found_live = delivered.clone();
        found_live.metadata.name = Some("again".to_owned());
        found_live.metadata.creation_timestamp = scenes::waiting().approvals[0].metadata.creation_timestamp.clone();
        found_live.status.as_mut().unwrap().baseline = None;
        let all = vec![found_live.clone(), delivered];
        let name = |rollout: Option<Rollout>| rollout.unwrap().name_any();
        assert_eq!(name(last(all.clone(), true)), "eta-6");
        assert_eq!(name(last(all, false)), "again", "its binding is the newest");
        assert_eq!(
            name(last(vec![found_live], true)),
            "again",
            "it says itself why there is no way back"
        );
    }
}
