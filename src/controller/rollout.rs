//! Rollout: its version, target and candidate, the other Rollouts of the target, approvals, and the answers of checks.

use flywheel_api::rollout::CheckSpec;
use flywheel_api::{FlywheelPipeline, ModelVersion, Rollout, RolloutStatus, names};
use flywheel_engine::approval::ApprovalView;
use flywheel_engine::binding::VersionView;
use flywheel_engine::decision::{Action, Child, ChildKind, Decision};
use flywheel_engine::part::Part;
use flywheel_engine::rollout::{self, Answer, Peer, PipelineFacts, Reading, RolloutObservation};
use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use futures::try_join;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Error, ResourceExt};

use super::{Controller, Related, RelatedKind};
use crate::context::Context;
use crate::guard::Guard;
use crate::inputs::{Input, Inputs};
use crate::lookup::{Choice, Reader};
use crate::watch::{Watched, Watches};

/// Reconciles Rollouts.
pub struct Rollouts;

impl Controller for Rollouts {
    type Object = Rollout;
    type Status = RolloutStatus;
    type Answers = Vec<Answer>;
    type Observation = RolloutObservation;

    const NAME: &'static str = "rollout";
    const RELATED: &'static [RelatedKind] = &[
        RelatedKind::Deployment,
        RelatedKind::RolloutOutline,
        RelatedKind::ModelVersionSpec,
        RelatedKind::PipelineSpec,
        RelatedKind::BiasPolicy,
        RelatedKind::Approval,
    ];
    const FINALIZER: Option<&'static str> = Some(names::FINALIZER_ROLLOUT);

    fn watched(watches: &Watches) -> &Watched<Guard<Rollout>> {
        &watches.rollouts
    }

    fn concerns(object: &Rollout, related: &Related) -> bool {
        let name = object.metadata.name.as_deref().unwrap_or_default();
        let target = &object.spec.plan.target_ref.name;
        // What has ended is moved by neither settings nor neighbours, but for one that is asked to go back.
        let open = rollout::is_open(object);
        match related.kind {
            RelatedKind::Deployment => rollout::is_side(object, &related.name),
            RelatedKind::RolloutOutline => {
                rollout::heeds_others(object) && related.may_be_about(target) && related.name != name
            }
            RelatedKind::ModelVersionSpec => open && related.name == object.spec.model_version_ref.name,
            RelatedKind::PipelineSpec => {
                open && object
                    .spec
                    .pipeline_ref
                    .as_ref()
                    .is_some_and(|p| p.name == related.name)
            }
            RelatedKind::BiasPolicy => open && object.spec.pipeline_ref.is_some(),
            RelatedKind::Approval => open && related.is_about(name),
            _ => false,
        }
    }

    /// Of what it did on its target nothing is known: that is left as it is. Its candidate is left, too, because nobody can
    /// say which pods the baseline lacks as long as that serves.
    async fn keeps(context: &Context, rollout: &ObjectMeta) -> Result<Option<String>, Error> {
        let namespace = rollout.namespace.as_deref().unwrap_or_default();
        let uid = rollout.uid.as_deref().unwrap_or_default();
        let made = Choice::Label(names::LABEL_ROLLOUT_UID, uid);
        let found = Reader::live(context, namespace).guarded::<Deployment>(made).await?;
        let mut all = found.readable.iter().map(|d| &d.metadata).chain(&found.unreadable);
        let left = all.find(|candidate| candidate.deletion_timestamp.is_none());
        Ok(left.map(|candidate| left_for_a_person(namespace, candidate)))
    }

    fn frees(rollout: &ObjectMeta, related: &Related) -> bool {
        let uid = rollout.uid.as_deref().unwrap_or_default();
        let leaving = rollout.deletion_timestamp.is_some();
        leaving && related.kind == RelatedKind::Deployment && related.has(names::LABEL_ROLLOUT_UID, uid)
    }

    fn in_progress(object: &Rollout) -> bool {
        rollout::is_open(object)
    }

    fn uses_settings(object: &Rollout) -> bool {
        rollout::is_open(object)
    }

    fn ask<'a>(context: &'a Context, rollout: &'a Rollout, now: Timestamp) -> Option<BoxFuture<'a, Vec<Answer>>> {
        let due = rollout::due_checks(rollout, now);
        (!due.is_empty()).then(|| answers(context, rollout, due, now).boxed())
    }

    async fn observe(
        context: &Context,
        inputs: &Inputs<'_>,
        rollout: Rollout,
        answers: Vec<Answer>,
        now: Timestamp,
    ) -> Result<RolloutObservation, Error> {
        let (Sides { target, candidate }, others, version, versions, pipeline, approvals) = try_join!(
            sides(inputs, &rollout),
            inputs.part(Input::Peers, |reader| others(reader, &rollout)),
            inputs.part(Input::Versions, |reader| version(reader, &rollout)),
            inputs.part(Input::Names, |reader| versions(reader, &rollout)),
            inputs.part(Input::Pipeline, |reader| pipeline(reader, &rollout)),
            inputs.part(Input::Approvals, |reader| approvals(reader, &rollout)),
        )?;
        Ok(RolloutObservation {
            now,
            version,
            target,
            candidate,
            others,
            pipeline,
            versions,
            approvals,
            answers,
            settings: (*context.settings()).clone(),
            denied: inputs.denied.clone(),
            rollout,
        })
    }

    fn confirms(rollout: &Rollout, action: &Action) -> Option<Input> {
        match action {
            Action::Create(child) => matches!(**child, Child::Deployment(_)).then_some(Input::Candidate),
            Action::Patch(patch) if patch.object.kind == ChildKind::Deployment => {
                patch.object.resource_version.as_ref()?;
                let is_target = patch.object.name == rollout.spec.plan.target_ref.name;
                Some(if is_target { Input::Target } else { Input::Candidate })
            }
            Action::Patch(_) | Action::Delete(_) => None,
        }
    }

    fn decide(observation: &RolloutObservation) -> Decision<RolloutStatus> {
        rollout::decide(observation)
    }
}

/// What is to be done with the candidate of a Rollout that cannot be read, before that goes.
fn left_for_a_person(namespace: &str, candidate: &ObjectMeta) -> String {
    let name = candidate.name.as_deref().unwrap_or_default();
    let labels = candidate.labels.as_ref();
    let target = labels
        .and_then(|l| l.get(names::LABEL_TARGET))
        .map_or("", String::as_str);
    format!(
        "It is being deleted, and waits until its candidate is gone, whose pods may serve: see with `kubectl get deployment \
         {target} {name} -n {namespace} -o yaml` that Deployment {target} has as many ready pods as annotation {} of \
         Deployment {name} says that it had, or scale it, and then run `kubectl delete deployment {name} -n {namespace}`. \
         Deployment {target} stays as it is, whichever version it carries.",
        rollout::ANNOTATION_BASELINE
    )
}

/// The two Deployments of a Rollout.
struct Sides {
    target: Part<Option<Deployment>>,
    candidate: Part<Option<Deployment>>,
}

async fn sides(inputs: &Inputs<'_>, rollout: &Rollout) -> Result<Sides, Error> {
    let plan = &rollout.spec.plan;
    let read = async |input, name: &str| inputs.part(input, |reader| async move { reader.get(name).await }).await;
    // The target first: a write on it is refused if it changed since, and whoever makes the candidate anew changes it. That
    // holds also if what the write confirms comes from a store: it is older, and as it was until the write.
    let target = read(Input::Target, &plan.target_ref.name).await?;
    let candidate = read(Input::Candidate, &rollout::candidate_name(plan)).await?;
    Ok(Sides { target, candidate })
}

/// The version that is delivered.
async fn version(reader: Reader<'_>, rollout: &Rollout) -> Result<Option<ModelVersion>, Error> {
    reader.readable(&rollout.spec.model_version_ref.name).await
}

/// Where the sides are to be named, all versions.
async fn versions(reader: Reader<'_>, rollout: &Rollout) -> Result<Vec<VersionView>, Error> {
    if !rollout::names_sides(rollout) {
        return Ok(Vec::new());
    }
    let view = |version: &ModelVersion| VersionView {
        name: version.name_any(),
        uri: version.spec.artifact.uri.0.clone(),
    };
    // Only names are taken from the other versions: one that cannot be read must not keep a version from going back.
    reader.each_readable(Choice::All, view).await
}

async fn approvals(reader: Reader<'_>, rollout: &Rollout) -> Result<Vec<ApprovalView>, Error> {
    reader.approvals(&rollout.name_any()).await
}

async fn pipeline(reader: Reader<'_>, rollout: &Rollout) -> Result<Option<PipelineFacts>, Error> {
    let Some(reference) = &rollout.spec.pipeline_ref else {
        return Ok(None);
    };
    let facts = match reader.guard::<FlywheelPipeline>(&reference.name).await? {
        Some(Guard(Ok(pipeline))) => {
            let policies = reader.policies(Some(&pipeline)).await?;
            PipelineFacts::of(&pipeline, &policies)
        }
        Some(Guard(Err(broken))) => PipelineFacts::unreadable(&broken.metadata),
        None => return Ok(None),
    };
    Ok(Some(facts))
}

/// The other Rollouts of the target.
async fn others(reader: Reader<'_>, rollout: &Rollout) -> Result<Vec<Peer>, Error> {
    let other = |r: &Rollout| (r.metadata.uid != rollout.metadata.uid).then(|| Peer::of(r));
    let all = reader.rollouts_to(&rollout.spec.plan.target_ref.name, other).await?;
    let unreadable = all.unreadable.iter().map(Peer::unreadable);
    Ok(all.readable.into_iter().flatten().chain(unreadable).collect())
}

/// Asks the providers of these checks, all at once: a slow one costs its time once.
async fn answers(context: &Context, rollout: &Rollout, due: Vec<&CheckSpec>, now: Timestamp) -> Vec<Answer> {
    let settings = context.settings();
    join_all(due.into_iter().map(|check| {
        let settings = settings.clone();
        async move {
            let url = settings.provider(&check.provider_ref.name).map(|p| p.url.as_str());
            let other = async |query: &Option<String>| match query {
                Some(query) => Some(ask(context, url, query, rollout, now).await),
                None => None,
            };
            let (candidate, baseline, samples) = tokio::join!(
                ask(context, url, &check.query, rollout, now),
                other(&check.baseline_query),
                other(&check.samples_query),
            );
            Answer {
                check: check.name.clone(),
                candidate,
                baseline,
                samples,
            }
        }
    }))
    .await
}

async fn ask(context: &Context, url: Option<&str>, text: &str, rollout: &Rollout, now: Timestamp) -> Reading {
    let Some(url) = url else {
        return Reading::Error("the administrator declared no metric provider of that name".to_owned());
    };
    match context.prometheus.query(url, &rollout::query(text, rollout, now)).await {
        Ok(Some(value)) => Reading::from(value),
        Ok(None) => Reading::Empty,
        Err(why) => Reading::Error(why),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use flywheel_engine::decision::{ObjectKey, Patch, PatchKind};
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::rollout;

    #[test]
    fn what_has_ended_hears_of_other_rollouts_only_while_it_is_asked_to_go_back() {
        let another = Related {
            kind: RelatedKind::RolloutOutline,
            name: "two".to_owned(),
            about: Some("eta".to_owned()),
            labels: BTreeMap::new(),
            created: None,
        };
        let promoted = json!("2026-01-01T00:00:00Z");
        for (phase, promoted, wanted, expected) in [
            ("Progressing", json!(null), "Progress", true),
            ("Promoted", promoted.clone(), "Progress", false),
            ("Promoted", promoted.clone(), "RollBack", true),
            ("Superseded", promoted.clone(), "RollBack", true),
            ("Superseded", json!(null), "RollBack", false),
            ("RolledBack", promoted, "RollBack", false),
        ] {
            let mut object = rollout("one");
            object["spec"]["desiredState"] = json!(wanted);
            object["status"] = json!({ "phase": phase, "promotedAt": promoted });
            let object: Rollout = serde_json::from_value(object).unwrap();
            assert_eq!(Rollouts::concerns(&object, &another), expected, "{phase} {wanted}");
        }
    }

    #[test]
    fn the_object_of_a_patch_and_the_name_of_a_creation_are_confirmed_by_the_write() {
        let rollout: Rollout = serde_json::from_value(rollout("one")).unwrap();
        let key = |name: &str, version: Option<&str>| ObjectKey {
            kind: ChildKind::Deployment,
            name: name.to_owned(),
            uid: "u".to_owned(),
            resource_version: version.map(ToOwned::to_owned),
        };
        let patch = |object: ObjectKey| {
            let (body, kind) = (Value::Null, PatchKind::Merge);
            Action::Patch(Box::new(Patch { object, body, kind }))
        };
        let itself = ObjectKey {
            kind: ChildKind::Rollout,
            ..key("eta", Some("7"))
        };
        for (action, confirmed) in [
            (patch(key("eta", Some("7"))), Some(Input::Target)),
            (patch(key("eta-candidate", Some("7"))), Some(Input::Candidate)),
            (patch(key("eta", None)), None),
            (patch(itself), None),
            (
                Action::Create(Box::new(Child::Deployment(Deployment::default()))),
                Some(Input::Candidate),
            ),
            (Action::Delete(key("eta-candidate", None)), None),
        ] {
            assert_eq!(Rollouts::confirms(&rollout, &action), confirmed, "{action:?}");
        }
    }
}
