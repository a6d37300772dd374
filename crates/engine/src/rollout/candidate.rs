//! The candidate: a second Deployment behind the target's Service, and the intent that its annotations and a label repeat.
//!
//! It carries the target's pod labels plus two, so that the target's Service finds its pods and the target's Deployment
//! does not own them. It belongs to the target, not to the Rollout: a foreground delete of the Rollout would kill it
//! before the traffic went back. Its name derives from the target: creating it is the lock.

use std::collections::BTreeMap;

use flywheel_api::flywheel_run::JobRef;
use flywheel_api::names;
use flywheel_api::rollout::{BaselineCapacity, RolloutPhase, RolloutPlan, Side, StepStatus, Weights};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::core::v1::{Lifecycle, LifecycleHandler, PodSpec, PodTemplateSpec, SleepAction};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::draft::Draft;
use super::facts::replicas;
use crate::binding;
use crate::decision::{Action, ChildKind, ObjectKey, Patch, PatchKind};

/// Annotation on a candidate Deployment: what served when the Rollout began, as JSON, so that a lost status can be
/// rebuilt.
pub const ANNOTATION_BASELINE: &str = "flywheel.dev/baseline";
/// Label on a candidate Deployment: number of the step that its replicas are for. It is no annotation, because Kubernetes'
/// controller copies those to the ReplicaSet, with a write of its own in the way of the one that scales it.
pub const LABEL_STEP: &str = "flywheel.dev/step";

/// Grace period of a pod that names none, as the API server sets it.
const DEFAULT_GRACE_SECONDS: i64 = 30;

/// The intent as the candidate's annotation repeats it.
#[derive(PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BaselineNote {
    #[serde(flatten)]
    pub(super) side: Side,
    pub(super) replicas: i32,
}

impl BaselineNote {
    /// The intent that an annotation repeats; nothing if it cannot be read.
    pub(super) fn read(annotation: &str) -> Option<Self> {
        serde_json::from_str(annotation).ok()
    }
}

/// What the name of a candidate has after that of its target.
pub(super) const SUFFIX: &str = "-candidate";

/// Name of the candidate's Deployment.
#[must_use]
pub fn name(plan: &RolloutPlan) -> String {
    format!("{}{SUFFIX}", plan.target_ref.name)
}

/// Key of an observed Deployment.
fn key(deployment: &Deployment) -> ObjectKey {
    ObjectKey {
        kind: ChildKind::Deployment,
        name: deployment.metadata.name.clone().unwrap_or_default(),
        uid: deployment.metadata.uid.clone().unwrap_or_default(),
        resource_version: deployment.metadata.resource_version.clone(),
    }
}

/// Changes a Deployment if it is still the one that was seen.
pub(super) fn patch(deployment: &Deployment, kind: PatchKind, body: Value) -> Action {
    Action::Patch(Box::new(Patch {
        object: key(deployment),
        body,
        kind,
    }))
}

/// Deletes a Deployment, whatever happened to it since.
pub(super) fn delete(deployment: &Deployment) -> Action {
    Action::Delete(ObjectKey {
        resource_version: None,
        ..key(deployment)
    })
}

/// Sets the replicas of a Deployment.
pub(super) fn scale(deployment: &Deployment, count: i32) -> Action {
    patch(deployment, PatchKind::Merge, json!({ "spec": { "replicas": count } }))
}

/// Replicas of both sides at a weight, where the target serves with `full` replicas.
pub(super) fn weights(plan: &RolloutPlan, asked: i32, full: i32) -> Weights {
    let (weight, whole) = (i64::from(asked.clamp(1, 99)), i64::from(full.max(0)));
    let narrow = |count: i64| i32::try_from(count).unwrap_or(i32::MAX);
    let (candidate, baseline) = match plan.capacity.baseline {
        BaselineCapacity::Keep => (narrow(whole * weight / (100 - weight)).max(1), full),
        BaselineCapacity::ShrinkWithWeight => {
            let candidate = narrow((whole * weight + 50) / 100).max(1);
            (candidate, (full - candidate).max(1))
        }
    };
    Weights {
        asked,
        actual: 0,
        candidate_replicas: candidate,
        baseline_replicas: baseline,
    }
}

/// Share of the traffic that these ready replicas give, in percent; below 100, which means that the target itself
/// carries the version.
pub(super) fn share(candidate: i32, baseline: i32) -> i32 {
    let (part, whole) = (i64::from(candidate), i64::from(candidate) + i64::from(baseline));
    let percent = (part * 100 + whole / 2).checked_div(whole).unwrap_or(0);
    i32::try_from(percent).unwrap_or(99).clamp(0, 99)
}

/// What served when the Rollout began.
pub(super) fn note(draft: &Draft<'_>) -> BaselineNote {
    BaselineNote {
        side: draft.status.baseline.clone().unwrap_or_default(),
        replicas: draft.status.baseline_replicas.unwrap_or(1),
    }
}

/// The annotations that repeat the intent.
fn annotations(draft: &Draft<'_>) -> BTreeMap<String, String> {
    let hash = draft.status.template_hash.clone().unwrap_or_default();
    BTreeMap::from([
        (
            ANNOTATION_BASELINE.to_owned(),
            serde_json::to_string(&note(draft)).unwrap_or_default(),
        ),
        (names::ANNOTATION_TEMPLATE_HASH.to_owned(), hash),
    ])
}

/// The value of [`LABEL_STEP`].
fn step(draft: &Draft<'_>) -> String {
    draft.status.step.as_ref().map_or(0, |s| s.index).to_string()
}

fn annotation<'a>(candidate: &'a Deployment, key: &str) -> Option<&'a str> {
    candidate.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

fn labelled_step(candidate: &Deployment) -> Option<&str> {
    let labels = candidate.metadata.labels.as_ref()?;
    labels.get(LABEL_STEP).map(String::as_str)
}

/// Whether the candidate is a copy of another template than the one that is recorded.
pub(super) fn is_stale(draft: &Draft<'_>, candidate: &Deployment) -> bool {
    annotation(candidate, names::ANNOTATION_TEMPLATE_HASH) != draft.status.template_hash.as_deref()
}

/// The patch that brings replicas, annotations and step of the candidate in line with the intent; nothing if they are.
pub(super) fn align(draft: &Draft<'_>, candidate: &Deployment, count: i32) -> Option<Action> {
    let (wanted, step) = (annotations(draft), step(draft));
    let noted = wanted.iter().all(|(k, v)| annotation(candidate, k) == Some(v));
    if noted && labelled_step(candidate) == Some(&step) && replicas(candidate) == count {
        return None;
    }
    let metadata = json!({ "annotations": wanted, "labels": { LABEL_STEP: step } });
    let body = json!({ "metadata": metadata, "spec": { "replicas": count } });
    Some(patch(candidate, PatchKind::Merge, body))
}

/// Whether exactly that many pods of the current generation are ready, and no others are left.
pub(super) fn is_ready(candidate: &Deployment, count: i32) -> bool {
    let status = candidate.status.clone().unwrap_or_default();
    status.observed_generation >= candidate.metadata.generation
        && replicas(candidate) == count
        && [status.replicas, status.updated_replicas, status.ready_replicas]
            .iter()
            .all(|found| found.unwrap_or(0) == count)
}

/// The candidate as it is created: without pods, because a creation that arrives after the way back must serve nobody.
pub(super) fn build(draft: &Draft<'_>, target: &Deployment) -> Deployment {
    let (plan, source) = (draft.plan(), target.spec.clone().unwrap_or_default());
    let ours = BTreeMap::from([
        (names::LABEL_ROLE.to_owned(), names::ROLE_CANDIDATE.to_owned()),
        (names::LABEL_ROLLOUT_UID.to_owned(), draft.uid().to_owned()),
    ]);
    let mut selected = source.selector.match_labels.clone().unwrap_or_default();
    selected.extend(ours.clone());
    let mut labels = ours.clone();
    labels.extend([
        (
            names::LABEL_MODEL_VERSION.to_owned(),
            draft.o.rollout.spec.model_version_ref.name.clone(),
        ),
        (names::LABEL_TARGET.to_owned(), plan.target_ref.name.clone()),
        (LABEL_STEP.to_owned(), step(draft)),
        ("app.kubernetes.io/managed-by".to_owned(), names::MANAGED_BY.to_owned()),
    ]);
    Deployment {
        metadata: ObjectMeta {
            name: Some(name(plan)),
            namespace: draft.o.rollout.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: Some(annotations(draft)),
            owner_references: Some(vec![owner(target)]),
            ..ObjectMeta::default()
        },
        spec: Some(DeploymentSpec {
            replicas: Some(0),
            selector: LabelSelector {
                match_labels: Some(selected),
                match_expressions: None,
            },
            template: template(draft, &source.template, &ours),
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(IntOrString::Int(1)),
                    max_unavailable: Some(IntOrString::Int(0)),
                }),
            }),
            min_ready_seconds: source.min_ready_seconds,
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

fn owner(target: &Deployment) -> OwnerReference {
    OwnerReference {
        api_version: "apps/v1".to_owned(),
        kind: "Deployment".to_owned(),
        name: target.metadata.name.clone().unwrap_or_default(),
        uid: target.metadata.uid.clone().unwrap_or_default(),
        controller: Some(false),
        block_owner_deletion: Some(false),
    }
}

fn template(draft: &Draft<'_>, source: &PodTemplateSpec, ours: &BTreeMap<String, String>) -> PodTemplateSpec {
    let mut template = source.clone();
    let candidate = draft.status.candidate.clone().unwrap_or_default();
    let (value, version) = (
        candidate.value.unwrap_or_default(),
        candidate.version.unwrap_or_default(),
    );
    binding::set(&mut template, &draft.plan().binding, &value, &version);
    let metadata = template.metadata.get_or_insert_default();
    metadata.labels.get_or_insert_default().extend(ours.clone());
    if let Some(pod) = &mut template.spec {
        drain(pod, draft.plan().drain_seconds);
    }
    template
}

/// A deleted pod leaves the Service at once, but routers hear of it later: it serves on for that long before it stops,
/// so that no request fails.
fn drain(pod: &mut PodSpec, seconds: i64) {
    if seconds <= 0 {
        return;
    }
    for container in &mut pod.containers {
        let lifecycle: &mut Lifecycle = container.lifecycle.get_or_insert_default();
        lifecycle.pre_stop.get_or_insert_with(|| LifecycleHandler {
            sleep: Some(SleepAction { seconds }),
            ..LifecycleHandler::default()
        });
    }
    let grace = pod.termination_grace_period_seconds.unwrap_or(DEFAULT_GRACE_SECONDS);
    pod.termination_grace_period_seconds = Some(grace.max(DEFAULT_GRACE_SECONDS + seconds));
}

/// Rebuilds a lost status from the candidate and from what the Rollout was marked with; nothing if neither says what served.
/// Whether all that going forward needs could be read.
pub(super) fn restore_status(draft: &mut Draft<'_>, candidate: &Deployment, mark: Option<&str>) -> Option<bool> {
    let noted = annotation(candidate, ANNOTATION_BASELINE).and_then(BaselineNote::read);
    let note = noted.or_else(|| mark.and_then(BaselineNote::read))?;
    let known = labelled_step(candidate).and_then(|t| t.parse::<i32>().ok());
    let hash = annotation(candidate, names::ANNOTATION_TEMPLATE_HASH);
    let value = binding::value(candidate, &draft.plan().binding).ok().flatten();
    let whole = known.is_some() && hash.is_some() && value.is_some();
    let ours = || Some(binding::wanted(&draft.plan().binding, &draft.o.version.as_ref()?.spec));
    let (index, value) = (known.unwrap_or(0), value.or_else(ours));
    let steps = &draft.plan().strategy.steps;
    let step = usize::try_from(index).ok().and_then(|i| steps.get(i));
    let live = draft.o.target.as_ref();
    // What the plan takes from the baseline at that step, also if the target asks for all of it again already: its pods need
    // not be back.
    let weight = step.or(steps.last()).map_or(100, |s| s.weight);
    let taken = weights(draft.plan(), weight, note.replicas).baseline_replicas;
    let (plan, status) = (draft.plan(), &mut draft.status);
    status.target_uid = live.and_then(|t| t.metadata.uid.clone());
    status.weights = Some(Weights {
        asked: step.map_or(100, |s| s.weight),
        actual: 0,
        candidate_replicas: replicas(candidate),
        baseline_replicas: live.map_or(note.replicas, replicas).min(taken),
    });
    status.candidate = Some(Side {
        version: Some(draft.o.rollout.spec.model_version_ref.name.clone()),
        value,
    });
    status.baseline = Some(note.side);
    status.baseline_replicas = Some(note.replicas);
    status.template_hash = hash.map(ToOwned::to_owned);
    status.candidate_deployment = Some(JobRef {
        name: name(plan),
        uid: candidate.metadata.uid.clone(),
    });
    status.step = Some(StepStatus {
        index: if step.is_some() {
            index
        } else {
            i32::try_from(steps.len()).unwrap_or(0)
        },
        name: step.map_or_else(|| "full".to_owned(), |s| s.name.clone()),
        ..StepStatus::default()
    });
    status.phase = if step.is_some() {
        RolloutPhase::Progressing
    } else {
        RolloutPhase::Promoting
    };
    Some(whole)
}
