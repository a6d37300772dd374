//! All objects as they were at one moment of the history.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use super::history::Step;
use super::json::{text, uid};

/// Kinds that invariants speak of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// FlywheelPipeline.
    Pipeline,
    /// FlywheelRun.
    Run,
    /// ModelVersion.
    Version,
    /// Rollout.
    Rollout,
    /// BiasPolicy.
    Policy,
    /// Approval.
    Approval,
    /// Job.
    Job,
    /// Deployment.
    Deployment,
    /// ControllerRevision.
    Revision,
    /// Anything else: `resource` or `resource.group`.
    Other(String),
}

/// Every kind with its group and the plural by which requests name it.
const KINDS: [(Kind, &str, &str); 9] = [
    (Kind::Pipeline, "flywheel.dev", "flywheelpipelines"),
    (Kind::Run, "flywheel.dev", "flywheelruns"),
    (Kind::Version, "flywheel.dev", "modelversions"),
    (Kind::Rollout, "flywheel.dev", "rollouts"),
    (Kind::Policy, "flywheel.dev", "biaspolicies"),
    (Kind::Approval, "flywheel.dev", "approvals"),
    (Kind::Job, "batch", "jobs"),
    (Kind::Deployment, "apps", "deployments"),
    (Kind::Revision, "apps", "controllerrevisions"),
];

impl Kind {
    /// The kind of a resource.
    #[must_use]
    pub fn of(group: &str, resource: &str) -> Self {
        let known = KINDS.into_iter().find(|(_, g, r)| *g == group && *r == resource);
        known.map_or_else(
            || {
                let dot = if group.is_empty() { "" } else { "." };
                Self::Other(format!("{resource}{dot}{group}"))
            },
            |(kind, ..)| kind,
        )
    }

    /// Group and plural, as rules of a role name them.
    #[must_use]
    pub fn resource(&self) -> (&str, &str) {
        if let Self::Other(name) = self {
            return name
                .split_once('.')
                .map_or(("", name), |(resource, group)| (group, resource));
        }
        let known = KINDS.iter().find(|(kind, ..)| kind == self);
        known.map_or(("", ""), |(_, group, resource)| (*group, *resource))
    }
}

/// Which object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Kind.
    pub kind: Kind,
    /// Namespace; empty for what belongs to the whole cluster.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind.resource().1, self.name)?;
        if self.namespace.is_empty() {
            return Ok(());
        }
        write!(f, " in {}", self.namespace)
    }
}

/// An object by its UID: also one that is gone.
#[derive(Debug, Clone)]
pub struct Known {
    /// Which object.
    pub key: Key,
    /// Its last version.
    pub object: Arc<Value>,
    /// A person made it, or a program other than the operator.
    pub foreign: bool,
    /// The history tells how it was made, and so all that became of it.
    pub born: bool,
}

/// All objects as they were at one moment of the history.
#[derive(Debug, Default)]
pub struct World {
    live: BTreeMap<Key, Arc<Value>>,
    known: HashMap<String, Known>,
}

impl World {
    /// The object of that key, if it exists.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<&Arc<Value>> {
        self.live.get(key)
    }

    /// The object of that kind, namespace and name, if it exists.
    #[must_use]
    pub fn named(&self, kind: Kind, namespace: &str, name: &str) -> Option<&Arc<Value>> {
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        self.live.get(&Key { kind, namespace, name })
    }

    /// The object with that UID, also if it is gone by now.
    #[must_use]
    pub fn known(&self, uid: &str) -> Option<&Known> {
        self.known.get(uid)
    }

    /// The object of that kind with that UID, if it exists.
    #[must_use]
    pub fn by_uid(&self, kind: &Kind, uid: &str) -> Option<&Arc<Value>> {
        let known = self.known.get(uid).filter(|k| k.key.kind == *kind)?;
        self.live.get(&known.key).filter(|o| super::json::uid(o) == uid)
    }

    /// All objects of a kind that exist in a namespace.
    pub fn all(&self, kind: Kind, namespace: &str) -> impl Iterator<Item = (&Key, &Arc<Value>)> {
        let from = Key {
            kind,
            namespace: namespace.to_owned(),
            name: String::new(),
        };
        let (kind, namespace) = (from.kind.clone(), from.namespace.clone());
        self.live
            .range(from..)
            .take_while(move |(key, _)| key.kind == kind && key.namespace == namespace)
    }

    /// Whether the history tells how the object with that UID was made, and so all that became of it.
    #[must_use]
    pub fn is_whole(&self, uid: &str) -> bool {
        self.known(uid).is_some_and(|known| known.born)
    }

    /// UID of the run that asked for a Rollout; empty for one that somebody else made than the operator, whatever run it names.
    #[must_use]
    pub fn asked_by<'a>(&self, rollout: &'a Value) -> &'a str {
        match self.known(uid(rollout)) {
            Some(known) if known.foreign => "",
            Some(_) | None => text(rollout, "/spec/runRef/uid"),
        }
    }

    /// Sets what an object is after a write, or that it is gone.
    pub(super) fn set(&mut self, step: &Step) {
        let Some(object) = step.after.clone() else {
            self.live.remove(&step.key);
            return;
        };
        let uid = uid(&object).to_owned();
        let before = self.known.get(&uid);
        let known = Known {
            key: step.key.clone(),
            object: object.clone(),
            foreign: before.is_some_and(|known| known.foreign) || (step.created() && !step.operator),
            born: before.is_some_and(|known| known.born) || step.created(),
        };
        self.known.insert(uid, known);
        self.live.insert(step.key.clone(), object);
    }
}
