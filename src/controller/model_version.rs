//! ModelVersion: its run, its Rollouts, its children, and whether it serves.

use std::collections::{BTreeMap, BTreeSet};

use flywheel_api::model_version::{ModelVersionStatus, VersionState};
use flywheel_api::rollout::RolloutPlan;
use flywheel_api::{FlywheelPipeline, FlywheelRun, ModelVersion, Rollout, names};
use flywheel_engine::binding;
use flywheel_engine::decision::Decision;
use flywheel_engine::model_version::{self, Delivery, ModelVersionObservation, Unreadable};
use futures::future::try_join_all;
use futures::try_join;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Error, Resource, ResourceExt};

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
    const FINALIZER: Option<&'static str> = Some(names::FINALIZER_LIVE);

    fn watched(watches: &Watches) -> &Watched<Guard<ModelVersion>> {
        &watches.versions
    }

    fn concerns(object: &ModelVersion, related: &Related) -> bool {
        let name = object.metadata.name.as_deref().unwrap_or_default();
        let status = object.status.as_ref();
        let run = object.spec.provenance.as_ref().map(|p| p.run.name.as_str());
        // What cannot be read may be of any model, and bear no label: whatever changes may be it. A version
        // that is deleted and in use says so in another condition than Ready.
        let held = || status.is_some_and(|s| s.conditions.iter().any(|c| c.reason == "Unreadable"));
        match related.kind {
            RelatedKind::Run => run == Some(related.name.as_str()),
            // A Rollout of another version of the model may end this one's service.
            RelatedKind::RolloutOutline => {
                related.has(names::LABEL_MODEL, &object.spec.model_name)
                    || status.is_some_and(|s| s.deployments.iter().any(|d| d.rollout.name == related.name))
                    || related.name == name
                    || held()
            }
            RelatedKind::DeploymentSpec => status.is_some_and(|s| s.targets.contains(&related.name)),
            // It says where versions of the model serve, and that another one does than before. Not each change of the
            // target, whose number of pods may change often: there may be many versions.
            RelatedKind::PipelineOutline => related.may_be_about(&object.spec.model_name) || held(),
            RelatedKind::ModelVersionSpec => related.has(names::LABEL_PARENT, name),
            _ => false,
        }
    }

    /// Nobody can say whether it serves, but where all that serves ends.
    async fn keeps(context: &Context, version: &ObjectMeta) -> Result<Option<String>, Error> {
        let namespace = version.namespace.as_deref().unwrap_or_default();
        if Reader::live(context, namespace).terminating().await? {
            return Ok(None);
        }
        let name = version.name.as_deref().unwrap_or_default();
        Ok(Some(format!(
            "It is being deleted, and waits because it may serve: see that no Deployment carries it and no Rollout goes back \
             to it, and then run `kubectl patch modelversions.flywheel.dev {name} -n {namespace} --type merge -p \
             '{{\"metadata\":{{\"finalizers\":[]}}}}'`."
        )))
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
            unreadable: Unreadable {
                run: run.map(|found| found.iter().filter_map(Guard::unreadable_name).collect()),
                pipelines: delivered.map(|d| d.pipelines.clone()),
                rollouts: delivered.map(|d| d.unreadable.clone()),
                others: delivered.map(|d| d.others.clone()),
            },
            run: run.map(|found| found.as_ref().and_then(Guard::readable).cloned()),
            rollouts: delivered.map(|d| d.rollouts.clone()),
            children,
            serves: delivered.map(|d| d.serves.clone()),
            untold: delivered.map(|d| d.untold.clone()),
            told: delivered.map(|d| d.told.clone()),
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

/// The run that registered the version, whether it can be read or not.
async fn run(reader: Reader<'_>, version: &ModelVersion) -> Result<Option<Guard<FlywheelRun>>, Error> {
    let Some(provenance) = &version.spec.provenance else {
        return Ok(None);
    };
    let found = reader.guard::<FlywheelRun>(&provenance.run.name).await?;
    Ok(found.filter(|run| run.meta().uid.as_ref() == Some(&provenance.run.uid)))
}

/// What is said of a version by where it was delivered.
struct Delivered {
    rollouts: Vec<Delivery>,
    /// Targets on which it serves, whoever brought it there.
    serves: BTreeSet<String>,
    /// Targets that exist, and of which nobody can say what serves there.
    untold: BTreeSet<String>,
    /// The other targets.
    told: BTreeSet<String>,
    /// Names of pipelines of its model that cannot be read.
    pipelines: Vec<String>,
    /// Names of Rollouts that cannot be read and may be about it.
    unreadable: Vec<String>,
    /// Names of others that cannot be read.
    others: Vec<String>,
}

/// The Rollouts are those of the moment in which the targets were read: one of before its promotion, beside a target of
/// after it, would say that the version is live before it is rolled out, and a lineage keeps that.
async fn delivered(reader: Reader<'_>, version: &ModelVersion) -> Result<Delivered, Error> {
    let model = Choice::Field(Field::PipelineModel, &version.spec.model_name);
    let of_pipelines = reader
        .each_guarded(model, |p: &FlywheelPipeline| p.spec.rollout.clone())
        .await?;
    // What the stores know costs no request, and mostly is what the API server knows, too.
    let mut before = rollouts(reader.of_stores(), version).await?.readable;
    loop {
        let of_rollouts = before.iter().map(|r| &r.spec.plan);
        let plans: Vec<&RolloutPlan> = of_pipelines.readable.iter().flatten().chain(of_rollouts).collect();
        let targets = targets(reader, &plans).await?;
        let mine = rollouts(reader, version).await?;
        if !mine.readable.iter().map(written).eq(before.iter().map(written)) {
            before = mine.readable;
            continue;
        }
        let target = |plan: &RolloutPlan| targets.get(&plan.target_ref.name);
        let aimed: Vec<(&RolloutPlan, Option<&Deployment>)> = plans.iter().map(|p| (*p, target(p))).collect();
        let serving = plans.iter().filter(|p| carries(target(p), p, version));
        return Ok(Delivered {
            serves: serving.map(|p| p.target_ref.name.clone()).collect(),
            untold: model_version::untold(aimed.iter().copied()),
            told: model_version::told(aimed.iter().copied()),
            rollouts: mine
                .readable
                .iter()
                .map(|r| Delivery::on(r, target(&r.spec.plan)))
                .collect(),
            pipelines: in_order(of_pipelines.unreadable),
            unreadable: in_order(mine.unreadable),
            others: in_order(mine.others),
        });
    }
}

/// What changes with every write of a Rollout.
fn written(rollout: &Rollout) -> (Option<&str>, Option<&str>) {
    let metadata = &rollout.metadata;
    (metadata.uid.as_deref(), metadata.resource_version.as_deref())
}

/// Rollouts around a version.
struct Mine {
    /// Those that deliver it, and those that go back to it.
    readable: Vec<Rollout>,
    /// Those that cannot be read, and may do so.
    unreadable: Vec<ObjectMeta>,
    /// Others that cannot be read, if the version is being deleted.
    others: Vec<ObjectMeta>,
}

/// The Rollouts that deliver the version, and those that go back to it, by their labels.
async fn rollouts(reader: Reader<'_>, version: &ModelVersion) -> Result<Mine, Error> {
    let deleting = version.metadata.deletion_timestamp.is_some();
    let version = &version.name_any();
    let about = |r: &Rollout| is_about(r, version).then(|| r.clone());
    let found = if deleting {
        // Any of them may need a version that is deleted as the way back: it is not let go before all can be read.
        reader.each_guarded(Choice::All, about).await?
    } else {
        let labelled = |label| reader.each_guarded(Choice::Label(label, version), about);
        let (mut to, back) = try_join!(
            labelled(names::LABEL_MODEL_VERSION),
            labelled(names::LABEL_BASELINE_VERSION),
        )?;
        to.readable.extend(back.readable);
        to.unreadable.extend(back.unreadable);
        to
    };
    let mut readable: Vec<Rollout> = found.readable.into_iter().flatten().collect();
    readable.sort_by_key(ResourceExt::name_any);
    readable.dedup_by_key(|r| r.name_any());
    let mine = |rollout: &ObjectMeta| model_version::may_be_about(rollout, version);
    let (unreadable, others) = found.unreadable.into_iter().partition(mine);
    Ok(Mine {
        readable,
        unreadable,
        others,
    })
}

/// The names of objects, each once and in their order: what is decided must not depend on who lists them.
fn in_order(objects: Vec<ObjectMeta>) -> Vec<String> {
    let names: BTreeSet<String> = objects.into_iter().filter_map(|object| object.name).collect();
    names.into_iter().collect()
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
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{self, Sent, Server};

    fn list(kind: &str, items: &[Value]) -> Value {
        json!({ "apiVersion": "flywheel.dev/v1alpha1", "kind": kind, "metadata": {}, "items": items })
    }

    /// The target is told its version between the answer to a list of Rollouts and the one to a look at the target.
    fn promoting(sent: &Sent, promoted: &AtomicBool) -> Value {
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

    /// Version 2, which a run made.
    fn made() -> ModelVersion {
        let provenance = json!({ "pipeline": { "name": "eta", "uid": "p" }, "run": { "name": "eta-run", "uid": "newer" },
            "snapshotDigest": "sha256:0", "stages": [], "seed": 7, "level": "Manual" });
        let spec = json!({ "modelName": "eta", "version": 2, "provenance": provenance,
            "artifact": { "uri": "s3://eta/2", "digest": "sha256:0" } });
        ModelVersion::new("eta-2", serde_json::from_value(spec).unwrap())
    }

    /// An object that only a newer operator can read.
    fn newer(kind: &str, name: &str, labels: &Value) -> Value {
        json!({ "apiVersion": "flywheel.dev/v1alpha1", "kind": kind, "spec": "of a newer operator",
            "metadata": { "name": name, "namespace": "shop", "uid": "newer", "labels": labels } })
    }

    /// An API server all of whose objects only a newer operator can read.
    fn newer_objects(sent: &Sent) -> (u16, Value) {
        let none = json!({});
        let rollouts = [
            newer("Rollout", "by-hand", &none),
            newer("Rollout", "up", &json!({ "flywheel.dev/model-version": "eta-2" })),
        ];
        let answer = match testing::name(sent) {
            "eta-run" => newer("FlywheelRun", "eta-run", &none),
            "flywheelpipelines" => list("FlywheelPipelineList", &[newer("FlywheelPipeline", "eta", &none)]),
            "rollouts" => list("RolloutList", &rollouts),
            _ => list("List", &[]),
        };
        (200, answer)
    }

    #[tokio::test]
    async fn a_version_beside_what_cannot_be_read_is_looked_at_and_told_what_that_is() {
        let context = testing::context(Server::default().client(newer_objects));
        let inputs = Inputs::live(&context, "shop");
        let seen = ModelVersions::observe(&context, &inputs, made(), (), Timestamp::UNIX_EPOCH)
            .await
            .unwrap();
        assert_eq!(*seen.run, None);
        assert_eq!(*seen.unreadable.run, ["eta-run"]);
        assert_eq!(*seen.unreadable.pipelines, ["eta"]);
        assert_eq!(*seen.unreadable.rollouts, ["up"]);
        assert!(seen.rollouts.is_empty() && seen.serves.is_empty());
    }

    #[tokio::test]
    async fn a_version_that_is_deleted_is_told_of_every_rollout_that_cannot_be_read() {
        let context = testing::context(Server::default().client(newer_objects));
        let mut version = made();
        version.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
        let reader = Inputs::live(&context, "shop").late(Input::Deliveries);
        let found = rollouts(reader, &version).await.unwrap();
        assert_eq!(
            (in_order(found.unreadable), in_order(found.others)),
            (vec!["up".to_owned()], vec!["by-hand".to_owned()])
        );
    }

    #[test]
    fn a_version_that_something_unreadable_holds_hears_when_it_is_mended() {
        let held = |reasons: [&str; 2]| {
            let said = |type_: &str, reason: &str| {
                json!({ "type": type_, "status": "Unknown", "reason": reason,
                "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z" })
            };
            let conditions = [said("Ready", reasons[0]), said("Live", reasons[1])];
            let mut version = made();
            version.status = Some(serde_json::from_value(json!({ "conditions": conditions })).unwrap());
            version
        };
        for kind in [RelatedKind::PipelineOutline, RelatedKind::RolloutOutline] {
            let mended = Related {
                kind,
                name: "by-hand".to_owned(),
                about: Some("another".to_owned()),
                labels: BTreeMap::new(),
                created: None,
            };
            let hears = |reasons| ModelVersions::concerns(&held(reasons), &mended);
            assert!(hears(["Unreadable", "DoesNotServe"]), "{kind:?}");
            assert!(hears(["InUse", "Unreadable"]), "{kind:?}");
            assert!(!hears(["Registered", "DoesNotServe"]), "{kind:?}");
        }
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
