//! The file that a stage reads: inputs, output, parameters and seed, all derived from what is recorded.

use flywheel_api::flywheel_run::{FlywheelRunStatus, StageState};
use flywheel_api::names;
use flywheel_api::reference::Parameter;
use flywheel_api::schema::Uri;
use flywheel_api::stage::StageSpec;
use flywheel_api::stage_contract::{ArtifactType, InputRole, STAGE_API_VERSION, StageFile, StageInput, StageOutput};
use sha2::Digest as _;

use super::turn::Turn;

/// `<run uid>/<stage>/<attempt>`: what a result must repeat.
#[must_use]
pub fn stage_id(run_uid: &str, stage: &str, attempt: i32) -> String {
    format!("{run_uid}/{stage}/{attempt}")
}

/// Where an attempt writes: a folder of its own, never used twice.
pub fn output_uri(turn: &Turn<'_>, stage: &str, attempt: i32) -> Option<Uri> {
    let root = &turn.plan.as_ref()?.artifacts.as_ref()?.uri;
    let namespace = turn.o.run.metadata.namespace.as_deref().unwrap_or_default();
    let pipeline = &turn.o.run.spec.pipeline_ref.name;
    Some(root.join(&format!("{namespace}/{pipeline}/{}/{stage}/{attempt}", turn.uid())))
}

/// The stage file of an attempt.
pub fn build(turn: &Turn<'_>, stage: &StageSpec, attempt: i32) -> Option<StageFile> {
    let plan = turn.plan.as_ref()?;
    let output = output_uri(turn, &stage.name, attempt)?;
    Some(StageFile {
        api_version: STAGE_API_VERSION.to_owned(),
        id: stage_id(turn.uid(), &stage.name, attempt),
        namespace: turn.o.run.metadata.namespace.clone().unwrap_or_default(),
        pipeline: turn.o.run.spec.pipeline_ref.name.clone(),
        run: turn.name().to_owned(),
        run_uid: turn.uid().to_owned(),
        model: plan.model.name.clone(),
        stage: stage.name.clone(),
        type_: stage.type_,
        attempt,
        inputs: inputs(turn, &stage.name),
        output: StageOutput {
            path: output.claim().map(|_| names::OUTPUT_ROOT.to_owned()),
            uri: output,
        },
        parameters: parameters(&plan.parameters, &turn.o.run.spec.parameters),
        seed: seed(turn.uid(), &stage.name),
    })
}

/// The pipeline's parameters, overridden by the run's.
pub fn parameters(pipeline: &[Parameter], run: &[Parameter]) -> Vec<Parameter> {
    let kept = pipeline.iter().filter(|p| !run.iter().any(|r| r.name == p.name));
    kept.chain(run).cloned().collect()
}

/// The same for every attempt of a stage of a run; fits into 53 bits, so that every language reads it exactly.
pub fn seed(run_uid: &str, stage: &str) -> i64 {
    let hash = sha2::Sha256::digest(format!("{run_uid}/{stage}").as_bytes());
    hash.iter().take(6).fold(0, |seed, byte| (seed << 8) | i64::from(*byte))
}

/// Sources, artifacts of the stages before this one, and the live version's model.
fn inputs(turn: &Turn<'_>, stage: &str) -> Vec<StageInput> {
    let sources = turn.plan.iter().flat_map(|p| &p.data.sources).map(|s| StageInput {
        format: s.format.map(|f| f.name().to_owned()),
        ..input(s.name.clone(), InputRole::Source, s.uri.clone())
    });
    let live = turn
        .o
        .live
        .as_ref()
        .filter(|l| compared(&turn.status, &l.name))
        .map(|live| StageInput {
            digest: Some(live.artifact.digest.clone()),
            type_: Some(ArtifactType::Model),
            version: Some(live.name.clone()),
            artifact: Some("model".to_owned()),
            ..input(
                "live.model".to_owned(),
                InputRole::LiveVersion,
                live.artifact.uri.clone(),
            )
        });
    sources.chain(artifacts(&turn.status, stage)).chain(live).collect()
}

/// The live version is an input only while it is the one that the run compares with.
fn compared(status: &FlywheelRunStatus, live: &str) -> bool {
    status.compared_with.as_ref().is_some_and(|c| c.name == live)
}

fn artifacts<'a>(status: &'a FlywheelRunStatus, stage: &'a str) -> impl Iterator<Item = StageInput> + 'a {
    let before = status.stages.iter().take_while(move |s| s.name != stage);
    before.filter(|s| s.state == StageState::Succeeded).flat_map(|s| {
        s.result.iter().flat_map(|r| &r.artifacts).map(|a| StageInput {
            digest: Some(a.digest.clone()),
            stage: Some(s.name.clone()),
            artifact: Some(a.name.clone()),
            type_: Some(a.type_),
            ..input(format!("{}.{}", s.name, a.name), InputRole::Artifact, a.uri.clone())
        })
    })
}

fn input(name: String, role: InputRole, uri: Uri) -> StageInput {
    let path = uri.claim().map(|_| format!("{}/{name}", names::INPUT_ROOT));
    StageInput {
        name,
        role,
        uri,
        digest: None,
        path,
        format: None,
        stage: None,
        artifact: None,
        type_: None,
        version: None,
    }
}
