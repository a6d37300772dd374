//! ModelVersion: its run, its Rollouts, its children, and whether it serves.

use std::collections::{BTreeMap, BTreeSet};

use flywheel_api::model_version::{ModelVersionStatus, VersionState};
use flywheel_api::rollout::RolloutPlan;
use flywheel_api::{FlywheelPipeline, FlywheelRun, ModelVersion, Rollout, names};
use flywheel_engine::binding;
use flywheel_engine::decision::Decision;
use flywheel_engine::model_version::{self, Delivery, ModelVersionObservation};
use flywheel_engine::rollout::LABEL_LENGTH;
use futures::future::try_join_all;
use futures::try_join;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use kube::{Error, ResourceExt};

use super::{Controller, Related, RelatedKind};
use crate::context::Context;
use crate::guard::Guard;
use crate::inputs::{Input, Inputs};
use crate::lookup::{Choice, Field, Reader};
use crate::watch::{Watched, Watches};

/// Reconciles ModelVersions.
pub struct ModelVersions;

impl Controller for ModelVersions {
    type Object = ModelVersion;
    type Status = ModelVersionStatus;
    type Answers = ();
    type Observation = ModelVersionObservation;

    const NAME: &'static str = "modelversion";
    const RELATED: &'static [RelatedKind] = &[
        RelatedKind::Run,
        RelatedKind::RolloutOutline,
        RelatedKind::DeploymentSpec,
        RelatedKind::PipelineOutline,
        RelatedKind::ModelVersionSpec,
    ];

    fn watched(watches: &Watches) -> &Watched<Guard<ModelVersion>> {
        &watches.versions
    }

    fn concerns(object: &ModelVersion, related: &Related) -> bool {
        let name = object.metadata.name.as_deref().unwrap_or_default();
        let status = object.status.as_ref();
        let run = object.spec.provenance.as_ref().map(|p| p.run.name.as_str());
        match related.kind {
            RelatedKind::Run => run == Some(related.name.as_str()),
            // A Rollout of another version of the model may end this one's service.
            RelatedKind::RolloutOutline => {
                related.has(names::LABEL_MODEL, &object.spec.model_name)
                    || status.is_some_and(|s| s.deployments.iter().any(|d| d.rollout.name == related.name))
                    || related.name == name
            }
            RelatedKind::DeploymentSpec => status.is_some_and(|s| s.targets.contains(&related.name)),
            // It says where versions of the model serve, and that another one does than before. Not each change of the
            // target, whose number of pods may change often: there may be many versions.
            RelatedKind::PipelineOutline => related.may_be_about(&object.spec.model_name),
            RelatedKind::ModelVersionSpec => related.has(names::LABEL_PARENT, name),
            _ => false,
        }
    }

    fn in_progress(object: &ModelVersion) -> bool {
        object
            .status
            .as_ref()
            .is_some_and(|s| s.state == VersionState::RollingOut)
    }

    async fn observe(
        _: &Context,
        inputs: &Inputs<'_>,
        version: ModelVersion,
        (): (),
        now: Timestamp,
    ) -> Result<ModelVersionObservation, Error> {
        let deleting = version.metadata.deletion_timestamp.is_some();
        let (run, delivered, children, namespace_terminating) = try_join!(
            inputs.part(Input::Run, |reader| run(reader, &version)),
            inputs.part(Input::Deliveries, |reader| delivered(reader, &version)),
            inputs.part(Input::Names, |reader| children(reader, &version)),
            async { Ok(deleting && inputs.late(Input::Names).terminating().await?) },
        )?;
        Ok(ModelVersionObservation {
            now,
            run,
            rollouts: delivered.map(|d| d.rollouts.clone()),
            children,
            serves: delivered.map(|d| d.serves.clone()),
            untold: delivered.map(|d| d.untold.clone()),
            namespace_terminating,
            version,
        })
    }

    fn decide(observation: &ModelVersionObservation) -> Decision<ModelVersionStatus> {
        model_version::decide(observation)
    }
}

/// Whether the Rollout delivers the version, or goes back to it.
fn is_about(rollout: &Rollout, version: &str) -> bool {
    let baseline = rollout.status.as_ref().and_then(|s| s.baseline.as_ref());
    rollout.spec.model_version_ref.name == version || baseline.is_some_and(|b| b.version.as_deref() == Some(version))
}

/// The run that registered the version.
async fn run(reader: Reader<'_>, version: &ModelVersion) -> Result<Option<FlywheelRun>, Error> {
    let Some(provenance) = &version.spec.provenance else {
        return Ok(None);
    };
    let found: Option<FlywheelRun> = reader.get(&provenance.run.name).await?;
    Ok(found.filter(|run| run.metadata.uid.as_ref() == Some(&provenance.run.uid)))
}

/// What is said of a version by where it was delivered.
struct Delivered {
    rollouts: Vec<Delivery>,
    /// Targets on which it serves, whoever brought it there.
    serves: BTreeSet<String>,
    /// Targets that exist, and of which nobody can say what serves there.
    untold: BTreeSet<String>,
}

/// The Rollouts are those of the moment in which the targets were read: one of before its promotion, beside a target of
/// after it, would say that the version is live before it is rolled out, and a lineage keeps that.
async fn delivered(reader: Reader<'_>, version: &ModelVersion) -> Result<Delivered, Error> {
    let model = Choice::Field(Field::PipelineModel, &version.spec.model_name);
    let of_pipelines = reader
        .each(model, |p: &FlywheelPipeline| p.spec.rollout.clone())
        .await?;
    // What the stores know costs no request, and mostly is what the API server knows, too.
    let mut before = rollouts(reader.of_stores(), version).await?;
    loop {
        let of_rollouts = before.iter().map(|r| &r.spec.plan);
        let plans: Vec<&RolloutPlan> = of_pipelines.iter().flatten().chain(of_rollouts).collect();
        let targets = targets(reader, &plans).await?;
        let mine = rollouts(reader, version).await?;
        if !mine.iter().map(written).eq(before.iter().map(written)) {
            before = mine;
            continue;
        }
        let target = |plan: &RolloutPlan| targets.get(&plan.target_ref.name);
        let serving = plans.iter().filter(|p| carries(target(p), p, version));
        return Ok(Delivered {
            serves: serving.map(|p| p.target_ref.name.clone()).collect(),
            untold: model_version::untold(plans.iter().map(|p| (*p, target(p)))),
            rollouts: mine.iter().map(|r| Delivery::on(r, target(&r.spec.plan))).collect(),
        });
    }
}

/// What changes with every write of a Rollout.
fn written(rollout: &Rollout) -> (Option<&str>, Option<&str>) {
    let metadata = &rollout.metadata;
    (metadata.uid.as_deref(), metadata.resource_version.as_deref())
}

/// The Rollouts that deliver the version, and those that go back to it, by their labels.
async fn rollouts(reader: Reader<'_>, version: &ModelVersion) -> Result<Vec<Rollout>, Error> {
    let deleting = version.metadata.deletion_timestamp.is_some();
    let version = &version.name_any();
    let about = |r: &Rollout| is_about(r, version).then(|| r.clone());
    let found = if deleting {
        // Any of them may need it as the way back: it is not let go before all can be read.
        reader.each(Choice::All, about).await?
    } else if version.len() > LABEL_LENGTH {
        reader.each_readable(Choice::All, about).await?
    } else {
        let labelled = |label| reader.each_readable(Choice::Label(label, version), about);
        let (mut to, back) = try_join!(
            labelled(names::LABEL_MODEL_VERSION),
            labelled(names::LABEL_BASELINE_VERSION),
        )?;
        to.extend(back);
        to
    };
    let mut mine: Vec<Rollout> = found.into_iter().flatten().collect();
    mine.sort_by_key(ResourceExt::name_any);
    mine.dedup_by_key(|r| r.name_any());
    Ok(mine)
}

/// The versions that name this one as parent.
async fn children(reader: Reader<'_>, version: &ModelVersion) -> Result<Vec<String>, Error> {
    let name = version.name_any();
    let child = |v: &ModelVersion| {
        let parent = v.spec.parent.as_ref().map(|p| p.name.as_str());
        (parent == Some(&name)).then(|| v.name_any())
    };
    let of_model = Choice::Field(Field::VersionModel, &version.spec.model_name);
    let all = reader.each_readable(of_model, child).await?;
    Ok(all.into_iter().flatten().collect())
}

/// The targets of these plans, by their names: each is read once.
async fn targets(reader: Reader<'_>, plans: &[&RolloutPlan]) -> Result<BTreeMap<String, Deployment>, Error> {
    let names: BTreeSet<&str> = plans.iter().map(|p| p.target_ref.name.as_str()).collect();
    let found = names.into_iter().map(|name| async move {
        let target = reader.get(name).await?;
        Ok::<_, Error>(target.map(|target| (name.to_owned(), target)))
    });
    Ok(try_join_all(found).await?.into_iter().flatten().collect())
}

fn carries(target: Option<&Deployment>, plan: &RolloutPlan, version: &ModelVersion) -> bool {
    let value = target.and_then(|t| binding::value(t, &plan.binding).ok().flatten());
    value.is_some_and(|v| v == binding::wanted(&plan.binding, &version.spec))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use flywheel_api::ModelVersionSpec;
    use flywheel_api::rollout::RolloutPhase;
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{self, Sent, Server};

    /// The target is told its version between the answer to a list of Rollouts and the one to a look at the target.
    fn promoting(sent: &Sent, promoted: &AtomicBool) -> Value {
        let list = |kind: &str, items: &[Value]| {
            json!({ "apiVersion": "flywheel.dev/v1alpha1", "kind": kind,
            "metadata": {}, "items": items })
        };
        if sent.1.contains("/deployments/") {
            promoted.store(true, Ordering::SeqCst);
            let env = json!([{ "name": "MODEL_URI", "value": "s3://eta/2" }]);
            return json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "eta" }, "spec": {
                "selector": {}, "template": { "spec": { "containers": [{ "name": "app", "env": env }] } } } });
        }
        if !sent.1.contains("/rollouts") {
            return list("List", &[]);
        }
        let mut rollout = testing::rollout("eta-2");
        if promoted.load(Ordering::SeqCst) {
            rollout["metadata"]["resourceVersion"] = json!("8");
            rollout["status"] = json!({ "phase": "Promoting" });
        }
        list("RolloutList", &[rollout])
    }

    #[test]
    fn a_version_hears_of_the_pipelines_of_its_model_which_say_where_it_may_serve() {
        let spec = json!({ "modelName": "eta", "version": 1,
            "artifact": { "uri": "s3://eta/1", "digest": "sha256:0" } });
        let version = ModelVersion::new("eta-1", serde_json::from_value(spec).unwrap());
        let hears = |about: Option<&str>| {
            let change = Related {
                kind: RelatedKind::PipelineOutline,
                name: "pipeline".to_owned(),
                about: about.map(ToOwned::to_owned),
                labels: BTreeMap::new(),
                created: None,
            };
            ModelVersions::RELATED.contains(&change.kind) && ModelVersions::concerns(&version, &change)
        };
        assert!(hears(Some("eta")) && hears(None));
        assert!(!hears(Some("delay")));
    }

    #[tokio::test]
    async fn a_version_that_is_promoted_between_two_reads_is_not_live_before_it_is_rolled_out() {
        let promoted = Arc::new(AtomicBool::new(false));
        let client = Server::default().client(move |sent| (200, promoting(sent, &promoted)));
        let context = testing::context(client);
        let spec: ModelVersionSpec = serde_json::from_value(json!({ "modelName": "eta", "version": 2,
            "artifact": { "uri": "s3://eta/2", "digest": "sha256:0" } }))
        .unwrap();
        let version = ModelVersion::new("eta-2", spec);
        let inputs = Inputs::live(&context, "shop");
        let seen = ModelVersions::observe(&context, &inputs, version, (), Timestamp::UNIX_EPOCH)
            .await
            .unwrap();
        assert_eq!(*seen.serves, BTreeSet::from(["eta".to_owned()]));
        let phases: Vec<RolloutPhase> = seen.rollouts.iter().map(|r| r.phase).collect();
        assert_eq!(
            phases,
            [RolloutPhase::Promoting],
            "the Rollout of before beside the target of after"
        );
    }
}
