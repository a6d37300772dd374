//! Mistakes in what is sent: the write is not what was decided.

use flywheel_api::names::FINALIZER_ROLLOUT;
use flywheel_api::schema::Digest;
use serde_json::{Value, json};

use super::Mistake;
use crate::decision::{Action, Child, ChildKind, ObjectKey, Patch, PatchKind};
use crate::testing::held::{Content, Held};
use crate::testing::world::{Key, Kind, World};

/// What is sent instead of what was decided on an object; nothing if nothing is.
pub fn instead(mistake: Mistake, world: &World, actor: &Key, decided: Option<Held>) -> Option<Held> {
    match (mistake, decided) {
        (Mistake::WritesForNothing, None) => again(world, actor),
        (Mistake::SpeaksToAndFro, None) => with_word(world, actor, Kind::Rollout, |said| format!("{said} Or not.")),
        (Mistake::CountsTheTime, None) => {
            let now = world.now;
            with_word(world, actor, Kind::Run, |said| {
                format!("{}{COUNTED}{now}.", uncounted(said))
            })
        }
        (Mistake::NeverLetsGo, Some(held)) if lets_go(&held) => None,
        (Mistake::LetsGoAtOnce, decided) => let_go(world, actor).or(decided),
        (Mistake::EffectBeforeIntent, Some(held)) => Some(too_soon(world, actor, held)),
        (_, None) => None,
        (_, Some(mut held)) => {
            match &mut held.content {
                Content::Status(status, _) => recorded(mistake, actor.0, status),
                Content::Effect(action) => done(mistake, world, &held.before, action),
            }
            Some(held)
        }
    }
}

fn held(world: &World, actor: &Key, before: Value, content: Content) -> Held {
    Held {
        actor: actor.clone(),
        before,
        content,
        answers: world.answers.clone(),
    }
}

fn again(world: &World, actor: &Key) -> Option<Held> {
    let before = world.raw(actor).filter(|o| o["status"].is_object())?.clone();
    let content = Content::Status(before["status"].clone(), Vec::new());
    Some(held(world, actor, before, content))
}

/// What begins the words that tell the time.
const COUNTED: &str = " It is ";

/// A message without the words that tell the time.
pub fn uncounted(message: &str) -> &str {
    message.split_once(COUNTED).map_or(message, |(said, _)| said)
}

/// The status with other words in its first condition, unless it has them.
fn with_word(world: &World, actor: &Key, kind: Kind, word: impl Fn(&str) -> String) -> Option<Held> {
    let before = world.raw(actor).filter(|_| actor.0 == kind)?.clone();
    let mut status = before["status"].clone();
    let message = status.pointer_mut("/conditions/0/message")?;
    *message = json!(word(message.as_str()?));
    if status == before["status"] {
        return None;
    }
    Some(held(world, actor, before, Content::Status(status, Vec::new())))
}

/// Whether the last finalizer of ours would go.
fn lets_go(held: &Held) -> bool {
    let Content::Effect(action) = &held.content else {
        return false;
    };
    let deleted = !held.before["metadata"]["deletionTimestamp"].is_null();
    deleted && matches!(&**action, Action::Patch(patch) if patch.body["metadata"]["finalizers"].is_array())
}

fn let_go(world: &World, actor: &Key) -> Option<Held> {
    let before = world.raw(actor).filter(|_| actor.0 == Kind::Rollout)?.clone();
    let metadata = &before["metadata"];
    let guarded = metadata["finalizers"]
        .as_array()
        .is_some_and(|f| f.contains(&json!(FINALIZER_ROLLOUT)));
    if metadata["deletionTimestamp"].is_null() || !guarded {
        return None;
    }
    let text = |field: &str| metadata[field].as_str().unwrap_or_default().to_owned();
    let patch = Patch {
        object: ObjectKey {
            kind: ChildKind::Rollout,
            name: actor.1.clone(),
            uid: text("uid"),
            resource_version: Some(text("resourceVersion")),
        },
        body: json!({ "metadata": { "finalizers": [] } }),
        kind: PatchKind::Merge,
    };
    let content = Content::Effect(Box::new(Action::Patch(Box::new(patch))));
    Some(held(world, actor, before, content))
}

/// Instead of the intent its effect, as the next look would decide on it.
fn too_soon(world: &World, actor: &Key, held: Held) -> Held {
    let mut next = world.clone();
    next.mistake = None;
    if !matches!(held.content, Content::Status(..)) || !next.arrive(&held) {
        return held;
    }
    match next.hold(actor.0, &actor.1).map(|then| then.content) {
        Some(Content::Effect(action)) if matches!(*action, Action::Create(_)) => {
            let content = Content::Effect(action);
            Held { content, ..held }
        }
        _ => held,
    }
}

fn recorded(mistake: Mistake, kind: Kind, status: &mut Value) {
    match (mistake, kind) {
        (Mistake::LineageCut, Kind::ModelVersion) => {
            let entries = status["lineage"]["entries"].as_array_mut();
            if let Some(entries) = entries.filter(|e| e.len() > 1) {
                entries.remove(0);
            }
        }
        (Mistake::BackAtOnce, Kind::Rollout) if status["phase"] == "RollingBack" => {
            status["phase"] = json!("RolledBack");
            status["outcome"] = json!("RolledBack");
        }
        (Mistake::AttemptsCountAnew, Kind::Run) => {
            let stages = status["stages"].as_array_mut();
            let again = |s: &&mut Value| s["state"] == "Pending" && s["failure"].is_object();
            stages
                .into_iter()
                .flatten()
                .filter(again)
                .for_each(|s| s["attempt"] = json!(0));
        }
        _ => {}
    }
}

fn done(mistake: Mistake, world: &World, before: &Value, action: &mut Action) {
    match (mistake, action) {
        (Mistake::NamesByChance, Action::Create(child)) => {
            if let Child::Job(job) = &mut **child {
                let name = job.metadata.name.clone().unwrap_or_default();
                job.metadata.name = Some(format!("{name}-{}", world.counter));
            }
        }
        (Mistake::DigestOfAnotherModel, Action::Create(child)) => {
            if let Child::ModelVersion(version) = &mut **child {
                version.spec.artifact.digest = Digest(format!("sha256:{}", "f".repeat(64)));
            }
        }
        (Mistake::PlanOfToday, Action::Create(child)) => {
            let pipeline = before["spec"]["pipelineRef"]["name"].as_str().unwrap_or_default();
            let pipeline: Option<flywheel_api::FlywheelPipeline> = world.find(Kind::Pipeline, pipeline);
            if let (Child::Rollout(rollout), Some(plan)) = (&mut **child, pipeline.and_then(|p| p.spec.rollout)) {
                rollout.spec.plan = plan;
            }
        }
        (Mistake::ZeroesAreLost, Action::Create(child)) => {
            if let Child::Deployment(deployment) = &mut **child
                && let Some(spec) = &mut deployment.spec
            {
                spec.replicas = spec.replicas.filter(|count| *count != 0);
            }
        }
        (Mistake::BackToNothing, Action::Patch(patch)) if before["status"]["phase"] == "RollingBack" => {
            if let Some(variable) = patch.body.pointer_mut("/spec/template/spec/containers/0/env/0") {
                *variable = json!({ "name": variable["name"], "$patch": "delete" });
            }
        }
        (Mistake::WholeListWritten, Action::Patch(patch)) => patch.kind = PatchKind::Merge,
        _ => {}
    }
}
