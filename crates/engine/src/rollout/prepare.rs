//! What a Rollout bears before its first effect: a finalizer, labels and, once it had its turn, a mark that outlives
//! its status, with the level at which it began. A level that sinks later is noted beside the mark.
//!
//! The status goes first, so that all of it is one write.

use std::collections::BTreeMap;

use flywheel_api::ModelVersion;
use flywheel_api::names::{
    ANNOTATION_BEGUN, ANNOTATION_LEVEL, FINALIZER_ROLLOUT, LABEL_BASELINE_VERSION, LABEL_MODEL, LABEL_MODEL_VERSION,
    LABEL_TARGET,
};
use flywheel_api::rollout::RolloutPhase;
use serde_json::{Map, Value, json};

use super::draft::Draft;
use super::{candidate, done, lost};
use crate::decision::Effect;

/// Longest value of a label. A Deployment may have a longer name, and so may a version that a Rollout names and that is not
/// there.
const LABEL_LENGTH: usize = 63;

/// Gives the Rollout what it lacks.
pub(super) fn prepare(draft: &Draft<'_>) -> Option<Effect> {
    if draft.status.conditions.is_empty() || draft.is_deleting() {
        return None;
    }
    let mark = mark(draft);
    let why = if mark.is_some() {
        "the Rollout had its turn, and must not begin again should its status be lost"
    } else {
        "the traffic must go back before the Rollout may vanish, and its version must find it"
    };
    let mut labels = labels(draft);
    // It may have to be taken away.
    labels.extend(mark.iter().map(|_| (LABEL_BASELINE_VERSION, baseline(draft))));
    let mut metadata = Map::new();
    let mut set = |field: &str, value: Value| metadata.insert(field.to_owned(), value);
    if let Some(finalizers) = finalizers(draft) {
        set("finalizers", json!(finalizers));
    }
    if !labels.is_empty() {
        set("labels", json!(labels));
    }
    if let Some(mark) = mark {
        let level = draft
            .sunk_level()
            .map(|level| (ANNOTATION_LEVEL, level.name().to_owned()));
        let annotations: BTreeMap<&str, String> = [(ANNOTATION_BEGUN, mark)].into_iter().chain(level).collect();
        set("annotations", json!(annotations));
    }
    (!metadata.is_empty()).then(|| done::patch(draft, json!({ "metadata": metadata }), why.to_owned()))
}

/// Notes that the level of a Rollout sank, when nothing else is to be done: its status may be lost, and the level be raised by
/// then. Who goes back or has ended needs no level.
pub(super) fn note_level(draft: &Draft<'_>) -> Option<Effect> {
    let phase = draft.status.phase;
    let forward = phase != RolloutPhase::RollingBack && !phase.is_terminal() && !draft.is_deleting();
    let level = draft.sunk_level().filter(|_| forward)?;
    let body = json!({ "metadata": { "annotations": { ANNOTATION_LEVEL: level } } });
    Some(done::patch(draft, body, "the level of the Rollout sank".to_owned()))
}

/// All finalizers, if ours is not among them: without it a deleted Rollout could leave a candidate behind.
fn finalizers(draft: &Draft<'_>) -> Option<Vec<String>> {
    let mut all = draft.o.rollout.metadata.finalizers.clone().unwrap_or_default();
    if draft.status.phase.is_terminal() || all.iter().any(|f| f == FINALIZER_ROLLOUT) {
        return None;
    }
    all.push(FINALIZER_ROLLOUT.to_owned());
    Some(all)
}

/// The labels that are missing, by which versions and pipelines find their Rollouts: one that a user made has none.
fn labels<'d>(draft: &'d Draft<'_>) -> BTreeMap<&'static str, Option<&'d str>> {
    let missing = missing_labels(draft, draft.o.version.peek().as_ref());
    if missing.is_empty() {
        return missing;
    }
    missing_labels(draft, draft.o.version.as_ref())
}

fn missing_labels<'d>(
    draft: &'d Draft<'_>,
    version: Option<&'d ModelVersion>,
) -> BTreeMap<&'static str, Option<&'d str>> {
    let spec = &draft.o.rollout.spec;
    let version = version.filter(|v| spec.model_version_ref.means(v));
    let wanted = [
        (LABEL_TARGET, Some(spec.plan.target_ref.name.as_str())),
        (LABEL_MODEL_VERSION, Some(spec.model_version_ref.name.as_str())),
        (LABEL_MODEL, version.map(|v| v.spec.model_name.as_str())),
    ];
    let missing = |(key, value): &(&str, Option<&str>)| {
        value.is_some_and(|v| v.len() <= LABEL_LENGTH) && present(draft, key) != *value
    };
    wanted.into_iter().filter(missing).collect()
}

fn present<'d>(draft: &'d Draft<'_>, label: &str) -> Option<&'d str> {
    draft.o.rollout.metadata.labels.as_ref()?.get(label).map(String::as_str)
}

/// What the Rollout is to be marked with and is not: its baseline once it has begun, or that it found its version live.
/// By the label of its baseline the version that it goes back to finds it.
fn mark(draft: &Draft<'_>) -> Option<String> {
    let wanted = match draft.status.phase {
        RolloutPhase::Preparing | RolloutPhase::Progressing | RolloutPhase::Holding | RolloutPhase::Promoting => {
            serde_json::to_string(&candidate::note(draft)).ok()?
        }
        RolloutPhase::Promoted if draft.status.baseline.is_none() => lost::FOUND_LIVE.to_owned(),
        _ => return None,
    };
    let labelled = present(draft, LABEL_BASELINE_VERSION) == baseline(draft);
    let marked = lost::mark(draft) == Some(wanted.as_str());
    (!labelled || !marked).then_some(wanted)
}

/// The version that the Rollout goes back to, if a label can name it.
fn baseline<'d>(draft: &'d Draft<'_>) -> Option<&'d str> {
    let version = draft.status.baseline.as_ref()?.version.as_deref()?;
    (version.len() <= LABEL_LENGTH).then_some(version)
}
