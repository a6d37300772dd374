//! I8, I9 and I15: every write of the operator has an object of Flywheel that caused it, in the same namespace, and an
//! object that is changed or deleted belongs to it by UID. Of what users own, two declared fields are written.
//!
//! Of secrets, of tokens and of parts of an object such as the eviction of a pod the log does not tell what became of
//! them: that the operator asked for it is enough.

use std::sync::Arc;

use flywheel_api::names;
use flywheel_api::rollout::RolloutPhase;
use serde_json::Value;

use super::json::{changes, label, lies_in, list, text, uid};
use super::moments::just_before;
use super::{Finding, Key, Kind, Rule, Step, World, binding};

const I8: &str = "I8";
const I9: &str = "I9";
const I15: &str = "I15";

/// What gives the operator the right to a write.
#[derive(Debug, Clone, Copy)]
enum Right {
    /// The controller reference names the acting object of this kind.
    Controller(&'static Kind),
    /// A label or a field of the object holds the UID of the acting object of this kind.
    Uid(Source, &'static Kind),
    /// The object itself acts: only these fields change.
    Itself(&'static [&'static str]),
    /// A run that nobody owns is taken by the pipeline that it names.
    Unowned,
    /// The run that asked for a Rollout stops it, or takes back what arrived late and was promoted.
    Abort,
    /// A Rollout under way writes its two fields on its target.
    Target,
}

/// Where a UID stands.
#[derive(Debug, Clone, Copy)]
enum Source {
    Label(&'static str),
    Field(&'static str),
}

/// That an object began is remembered beside its status, which may be lost.
const BEGUN: &str = "metadata.annotations.flywheel.dev/begun";
const LINEAGE: &str = "metadata.annotations.flywheel.dev/lineage";
/// So is the lowest level at which it decided.
const LEVEL: &str = "metadata.annotations.flywheel.dev/lowest-level";

/// Everything that the operator may write but status, and what gives it the right to: one right is enough.
const RIGHTS: &[(Kind, &str, &[Right])] = &[
    (Kind::Job, "create", &[Right::Controller(&Kind::Run)]),
    (Kind::Job, "delete", &[Right::Controller(&Kind::Run)]),
    (Kind::Revision, "create", &[Right::Controller(&Kind::Pipeline)]),
    (Kind::Revision, "delete", &[Right::Controller(&Kind::Pipeline)]),
    (Kind::Run, "create", &[Right::Controller(&Kind::Pipeline)]),
    (
        Kind::Run,
        "patch",
        &[Right::Itself(&[
            "metadata.ownerReferences",
            "metadata.labels",
            BEGUN,
            LEVEL,
        ])],
    ),
    (
        Kind::Run,
        "delete",
        &[Right::Controller(&Kind::Pipeline), Right::Unowned],
    ),
    (
        Kind::Version,
        "create",
        &[Right::Uid(Source::Label(names::LABEL_RUN_UID), &Kind::Run)],
    ),
    (
        Kind::Version,
        "patch",
        &[Right::Itself(&["metadata.finalizers", LINEAGE])],
    ),
    (
        Kind::Version,
        "delete",
        &[Right::Uid(Source::Label(names::LABEL_RUN_UID), &Kind::Run)],
    ),
    (
        Kind::Rollout,
        "create",
        &[Right::Uid(Source::Field("/spec/runRef/uid"), &Kind::Run)],
    ),
    (
        Kind::Rollout,
        "patch",
        &[
            Right::Itself(&["metadata.finalizers", "metadata.labels.flywheel.dev/", BEGUN, LEVEL]),
            Right::Abort,
        ],
    ),
    (
        Kind::Rollout,
        "delete",
        &[Right::Uid(Source::Field("/spec/runRef/uid"), &Kind::Run)],
    ),
    (
        Kind::Deployment,
        "create",
        &[Right::Uid(Source::Label(names::LABEL_ROLLOUT_UID), &Kind::Rollout)],
    ),
    (
        Kind::Deployment,
        "patch",
        &[
            Right::Uid(Source::Label(names::LABEL_ROLLOUT_UID), &Kind::Rollout),
            Right::Target,
        ],
    ),
    (
        Kind::Deployment,
        "delete",
        &[Right::Uid(Source::Label(names::LABEL_ROLLOUT_UID), &Kind::Rollout)],
    ),
];

/// Kinds whose status the operator writes.
const STATUS: [Kind; 5] = [Kind::Pipeline, Kind::Run, Kind::Version, Kind::Rollout, Kind::Policy];

/// Requests that write nothing, or only what the operator is known by: they have no cause in a namespace.
const OWN: [&str; 4] = [
    "leases.coordination.k8s.io",
    "events.events.k8s.io",
    "events",
    "selfsubjectaccessreviews.authorization.k8s.io",
];

/// Every write has a cause, in its namespace, that it belongs to.
#[derive(Debug, Default)]
pub struct Owners {
    /// Rollouts that held a target until somebody else took their status away, and when: a write may have been on its way.
    robbed: Vec<(String, Key, Arc<Value>)>,
}

impl Rule for Owners {
    fn step(&mut self, world: &World, step: &Step) -> Vec<Finding> {
        self.note(step);
        let own = matches!(&step.key.kind, Kind::Other(name) if OWN.contains(&name.as_str()));
        if !step.operator || own || is_nothing(step) {
            return Vec::new();
        }
        if step.key.namespace.is_empty() {
            let message = format!("the operator writes {}, which lies in no namespace", step.key);
            return vec![Finding::new(I8, message)];
        }
        let status = step.subresource == "status" && STATUS.contains(&step.key.kind);
        if status {
            return only_status(step).into_iter().collect();
        }
        let right = RIGHTS
            .iter()
            .find(|(kind, verb, _)| *kind == step.key.kind && *verb == step.verb);
        let Some((.., rights)) = right.filter(|_| step.subresource.is_empty()) else {
            let message = format!("the operator has no business to {} {}", step.verb, step.key);
            return vec![Finding::new(I9, message)];
        };
        let mut refused = Vec::new();
        for right in *rights {
            match self.permits(*right, world, step) {
                Ok(()) => return Vec::new(),
                Err(finding) => refused.push(finding),
            }
        }
        // The gravest reason: a write in another's namespace, then a field that is not ours.
        refused.sort_by_key(|f| match f.invariant {
            I8 => 0,
            I15 => 1,
            _ => 2,
        });
        refused.into_iter().take(1).collect()
    }
}

impl Owners {
    fn note(&mut self, step: &Step) {
        if step.operator || step.key.kind != Kind::Rollout || step.subresource != "status" {
            return;
        }
        let held = |o: &&Arc<Value>| holds(text(o, "/status/phase"));
        let (before, after) = (step.before.as_ref().filter(held), step.after.as_ref().filter(held));
        if let (Some(before), None) = (before, after) {
            self.robbed.push((step.at.clone(), step.key.clone(), before.clone()));
        }
    }

    fn permits(&self, right: Right, world: &World, step: &Step) -> Result<(), Finding> {
        // What an object was before the write counts: a write cannot give itself the right to it.
        let object = step.before.as_deref().unwrap_or_else(|| step.later());
        match right {
            Right::Controller(kind) => acting(world, step, kind, controller(object)),
            Right::Uid(Source::Label(key), kind) => acting(world, step, kind, label(object, key)),
            Right::Uid(Source::Field(pointer), kind) => acting(world, step, kind, text(object, pointer)),
            Right::Itself(fields) => itself(step, fields),
            Right::Unowned => unowned(world, step),
            Right::Abort => abort(world, step),
            Right::Target => self.target(world, step),
        }
    }

    /// A Rollout that recorded the Deployment's UID and holds it writes the binding, the annotation, and where its plan
    /// shrinks the baseline the replicas.
    fn target(&self, world: &World, step: &Step) -> Result<(), Finding> {
        let (name, target) = (step.key.name.as_str(), uid(step.earlier()));
        let aims = |o: &Value| text(o, "/spec/plan/targetRef/name") == name && text(o, "/status/targetUid") == target;
        let now = world.all(Kind::Rollout, &step.key.namespace);
        let here = |(at, key, _): &&(String, Key, _)| key.namespace == step.key.namespace && just_before(at, &step.at);
        let robbed = self.robbed.iter().filter(here).map(|(_, key, before)| (key, before));
        let mut rollouts = now.chain(robbed);
        let holder = rollouts.find(|(_, o)| aims(o) && holds(text(o, "/status/phase")));
        let Some((key, rollout)) = holder else {
            let message = format!("no Rollout that is under way recorded {} as its target", step.key);
            return Err(Finding::new(I9, message));
        };
        let plan = rollout.pointer("/spec/plan").unwrap_or(&Value::Null);
        let allowed = binding::paths(plan);
        let fields: Vec<&str> = allowed.iter().map(String::as_str).collect();
        itself(step, &fields).map_err(|f| f.about(key))
    }
}

/// Whether the log tells that a write changed nothing.
fn is_nothing(step: &Step) -> bool {
    let known = !matches!(step.key.kind, Kind::Other(_));
    let whole = matches!(step.subresource.as_str(), "" | "status" | "scale");
    known && whole && !step.verb.starts_with("delete") && step.before == step.after
}

fn only_status(step: &Step) -> Option<Finding> {
    let all = changes(step.before.as_deref(), step.after.as_deref());
    let foreign = all.iter().find(|c| !lies_in(&c.path, "status"))?;
    let message = format!("a write of the status of {} also changes {foreign}", step.key);
    Some(Finding::new(I15, message))
}

fn controller(object: &Value) -> &str {
    let mut owners = list(object, "/metadata/ownerReferences").iter();
    let found = owners.find(|o| o.get("controller").and_then(Value::as_bool) == Some(true));
    found.map(|o| text(o, "/uid")).unwrap_or_default()
}

/// The acting object must be known by its UID, be of that kind, and lie in the same namespace.
fn acting(world: &World, step: &Step, kind: &Kind, owner: &str) -> Result<(), Finding> {
    let wanted = kind.resource().1;
    if owner.is_empty() {
        let message = format!(
            "{} names no object of {wanted} by UID, and the operator writes it",
            step.key
        );
        return Err(Finding::new(I9, message));
    }
    let Some(known) = world.known(owner).filter(|k| k.key.kind == *kind) else {
        let message = format!("{} names UID {owner}, which no object of {wanted} ever had", step.key);
        return Err(Finding::new(I9, message));
    };
    if known.key.namespace == step.key.namespace {
        return Ok(());
    }
    let message = format!(
        "{} is written because of {}, which lies in another namespace",
        step.key, known.key
    );
    Err(Finding::new(I8, message).about(&known.key))
}

fn itself(step: &Step, fields: &[&str]) -> Result<(), Finding> {
    // The write that takes the last finalizer off a deleted object is the one after which it is gone.
    let leaves = step.after.is_none() && !text(step.earlier(), "/metadata/deletionTimestamp").is_empty();
    if leaves && step.verb != "delete" && fields.contains(&"metadata.finalizers") {
        return Ok(());
    }
    let all = changes(step.before.as_deref(), step.after.as_deref());
    match all.iter().find(|c| !fields.iter().any(|f| lies_in(&c.path, f))) {
        None => Ok(()),
        Some(foreign) => Err(Finding::new(
            I15,
            format!("the operator changes {foreign} of {}", step.key),
        )),
    }
}

fn unowned(world: &World, step: &Step) -> Result<(), Finding> {
    let object = step.object();
    let owned = list(object, "/metadata/ownerReferences");
    let taken = owned.iter().any(|o| text(o, "/kind") == "FlywheelPipeline");
    let pipeline = text(object, "/spec/pipelineRef/name");
    let named = world.named(Kind::Pipeline, &step.key.namespace, pipeline);
    if !taken && named.is_some() {
        return Ok(());
    }
    let message = format!(
        "{} belongs to no pipeline that exists, and the operator deletes it",
        step.key
    );
    Err(Finding::new(I9, message))
}

fn abort(world: &World, step: &Step) -> Result<(), Finding> {
    itself(step, &["spec.desiredState"])?;
    let delivered = matches!(text(step.earlier(), "/status/phase"), "Observing" | "Promoted");
    let wanted = if delivered { "RollBack" } else { "Abort" };
    if text(step.later(), "/spec/desiredState") != wanted {
        let message = format!("the operator asks {} for anything but {wanted}", step.key);
        return Err(Finding::new(I15, message));
    }
    acting(world, step, &Kind::Run, text(step.earlier(), "/spec/runRef/uid"))
}

/// Whether a Rollout in this phase holds its target.
fn holds(phase: &str) -> bool {
    let phase: Result<RolloutPhase, _> = serde_json::from_value(Value::String(phase.to_owned()));
    phase.is_ok_and(RolloutPhase::holds_target)
}
