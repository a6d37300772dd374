//! A version is registered when all stages have succeeded, whatever the gates will say of it.

use std::collections::BTreeMap;

use flywheel_api::flywheel_run::{RunOutcome, VersionIntent};
use flywheel_api::lineage::VersionRef;
use flywheel_api::model_version::{Dataset, ModelArtifact, Provenance, StageProvenance};
use flywheel_api::names;
use flywheel_api::reference::UidRef;
use flywheel_api::stage_contract::{Artifact, ArtifactType};
use flywheel_api::{ModelVersion, ModelVersionSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::turn::{Next, Turn};
use super::view::VersionFact;
use super::{judge, stage, stage_file};
use crate::decision::{Action, Child, Effect};
use crate::standing::{Kind, Standing};

/// Number and name first, then the object, then its UID.
pub fn version(turn: &mut Turn<'_>) -> Option<Next> {
    let Some(intent) = turn.status.model_version.clone() else {
        return Some(intend(turn));
    };
    let taken = turn.o.versions.iter().find(|v| v.name == intent.name);
    let ours = taken.is_none_or(|v| is_own(turn, v));
    if !ours && intent.uid.is_none() {
        return Some(intend(turn));
    }
    match (&*turn.o.version, &intent.uid) {
        (None, None) => Some(match build(turn, &intent) {
            Some(version) => Next::Do(Effect {
                action: Action::Create(Box::new(Child::ModelVersion(version))),
                why: format!("register {}", intent.name),
            }),
            None => turn.finish(
                RunOutcome::Failed,
                "NoModel",
                "The Train stage reported no model: let its result name one, as the stage contract says, and request a new run.",
            ),
        }),
        (None, Some(_)) => {
            let message = format!("ModelVersion {} was deleted before its delivery.", intent.name);
            Some(turn.finish(RunOutcome::Cancelled, "VersionDeleted", &message))
        }
        (Some(version), None) => {
            let uid = version.metadata.uid.clone();
            turn.status.model_version = Some(VersionIntent { uid, ..intent.clone() });
            recall(turn, version);
            let message = format!("Version {} is registered.", intent.name);
            turn.decided("Register", "StagesSucceeded", &message, None, false);
            Some(Next::Rest(Standing::new(Kind::Working, "Registered", message), None))
        }
        (Some(version), Some(uid)) if version.metadata.uid.as_ref() != Some(uid) => {
            let message = format!("ModelVersion {} was replaced by another one of its name.", intent.name);
            Some(turn.finish(RunOutcome::Failed, "VersionReplaced", &message))
        }
        (Some(_), Some(_)) => None,
    }
}

/// A version shows what its run says. A run whose status was lost takes back what the version knows of it, so that the
/// version does not forget that; until there is a Rollout the run judges anew. The level at which it trained is in force
/// still: one that was raised meanwhile counts for the next run.
fn recall(turn: &mut Turn<'_>, version: &ModelVersion) {
    let (level, trained) = (turn.level(), version.spec.provenance.as_ref().map(|p| p.level));
    turn.status.level = Some(trained.map_or(level, |trained| trained.min(level)));
    let Some(known) = &version.status else { return };
    turn.status.gates.clone_from(&known.evaluations);
    turn.status.bias.clone_from(&known.bias);
    judge::keep(turn, known.approvals.clone());
}

/// The next number is one above everything that exists; a name that another version bears is skipped.
fn intend(turn: &mut Turn<'_>) -> Next {
    let model = turn.plan.as_ref().map(|p| p.model.name.clone()).unwrap_or_default();
    let own = turn.o.versions.iter().find(|v| is_own(turn, v));
    let pipeline = turn.o.pipeline.as_ref().and_then(|p| p.status.as_ref());
    let known = pipeline.map_or(0, |s| s.last_version_number);
    // A number is not used again after its version was deleted: metrics and labels go by the name. Nor is one whose name a
    // version of another model bears.
    let tried = turn.status.model_version.as_ref().map_or(0, |v| v.number);
    let last = turn
        .o
        .versions
        .iter()
        .map(|v| v.number)
        .fold(known.max(tried), i64::max);
    let number = own.map_or(last + 1, |v| v.number);
    let name = own.map_or_else(|| format!("{model}-{number}"), |v| v.name.clone());
    turn.status.model_version = Some(VersionIntent {
        name: name.clone(),
        number,
        uid: None,
    });
    "Register".clone_into(&mut turn.status.stage);
    Next::Rest(
        Standing::new(Kind::Working, "Registering", format!("Version {name} is registered.")),
        None,
    )
}

/// Whether a version is the one that this run registered, before its status was lost: it says so itself, and it is what
/// the training reported. Anything else bears a name that is taken.
fn is_own(turn: &Turn<'_>, version: &VersionFact) -> bool {
    version.run_uid.as_deref() == Some(turn.uid()) && model(turn).as_ref() == Some(&version.artifact)
}

/// The model that the training reported.
fn model(turn: &Turn<'_>) -> Option<ModelArtifact> {
    let result = stage::train(turn)?.result.as_ref()?;
    let model = result.artifacts.iter().find(|a| a.type_ == ArtifactType::Model)?;
    Some(ModelArtifact {
        uri: model.uri.clone(),
        digest: model.digest.clone(),
        size_bytes: model.size_bytes,
    })
}

fn build(turn: &Turn<'_>, intent: &VersionIntent) -> Option<ModelVersion> {
    let plan = turn.plan.as_ref()?;
    let train = stage::train(turn)?;
    let spec = ModelVersionSpec {
        model_name: plan.model.name.clone(),
        version: intent.number,
        artifact: model(turn)?,
        parent: turn.status.compared_with.as_ref().map(|c| parent(turn, &c.name)),
        provenance: Some(provenance(turn, &train.name)?),
        datasets: datasets(turn),
        parameters: stage_file::parameters(&plan.parameters, &turn.o.run.spec.parameters),
    };
    let mut version = ModelVersion::new(&intent.name, spec);
    version.metadata = ObjectMeta {
        name: Some(intent.name.clone()),
        labels: Some(labels(turn, &version.spec)),
        finalizers: Some(vec![names::FINALIZER_LIVE.to_owned()]),
        ..ObjectMeta::default()
    };
    Some(version)
}

/// The parent with the head of its lineage, which the parent's own status can then no longer take back.
fn parent(turn: &Turn<'_>, name: &str) -> VersionRef {
    let found = turn.o.versions.iter().find(|v| v.name == name);
    found.map_or_else(|| VersionRef::new(name), |v| v.reference.clone())
}

/// Lineage can be walked downwards by labels: from a dataset, from a parent, from a run.
fn labels(turn: &Turn<'_>, spec: &ModelVersionSpec) -> BTreeMap<String, String> {
    let mut labels = turn.labels();
    if let Some(parent) = &spec.parent {
        labels.insert(names::LABEL_PARENT.to_owned(), parent.name.clone());
    }
    let hex = |d: &Dataset| {
        d.digest
            .as_str()
            .strip_prefix("sha256:")
            .and_then(|h| h.get(..16))
            .map(str::to_owned)
    };
    if let Some(first) = spec.datasets.iter().find_map(hex) {
        labels.insert(names::LABEL_DATASET.to_owned(), first);
    }
    labels
}

fn provenance(turn: &Turn<'_>, train: &str) -> Option<Provenance> {
    let plan = turn.plan.as_ref()?;
    let pipeline = turn.o.pipeline.as_ref()?;
    let stages = turn.status.stages.iter().filter_map(|s| {
        let job = s.job.as_ref()?;
        Some(StageProvenance {
            name: s.name.clone(),
            type_: s.type_,
            job: UidRef {
                name: job.name.clone(),
                uid: job.uid.clone().unwrap_or_default(),
            },
            attempt: s.attempt,
            image: plan
                .stages
                .iter()
                .find(|p| p.name == s.name)
                .map(|p| p.image.clone())
                .unwrap_or_default(),
            image_id: s.image_id.clone(),
            started_at: s.started_at.clone()?,
            finished_at: s.finished_at.clone()?,
            attestations: s.result.as_ref().and_then(|r| r.attestations.clone()),
        })
    });
    Some(Provenance {
        pipeline: UidRef {
            name: pipeline.metadata.name.clone().unwrap_or_default(),
            uid: pipeline.metadata.uid.clone().unwrap_or_default(),
        },
        run: UidRef {
            name: turn.name().to_owned(),
            uid: turn.uid().to_owned(),
        },
        snapshot_digest: turn.status.snapshot.as_ref()?.digest.clone(),
        stages: stages.collect(),
        seed: stage_file::seed(turn.uid(), train),
        level: turn.level(),
        requested_by: turn.o.run.spec.requested_by.clone(),
    })
}

fn datasets(turn: &Turn<'_>) -> Vec<Dataset> {
    let of = |stage: &str, a: &Artifact| Dataset {
        name: format!("{stage}.{}", a.name),
        uri: a.uri.clone(),
        digest: a.digest.clone(),
        records: a.records,
        window: a.window.clone(),
    };
    let all = turn.status.stages.iter().flat_map(|s| {
        let artifacts = s
            .result
            .iter()
            .flat_map(|r| &r.artifacts)
            .filter(|a| a.type_ == ArtifactType::Dataset);
        artifacts.map(move |a| of(&s.name, a))
    });
    all.take(32).collect()
}
