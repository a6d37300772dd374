//! What was so for each pipeline, and when, as its spec and the policies that apply to it said.

use std::collections::HashMap;

use serde_json::Value;

use super::json::{list, text, uid};
use super::moments::Moments;
use super::{Key, Kind, Step, World};

/// A value of each pipeline over time.
#[derive(Debug)]
pub struct OfPipelines<T> {
    /// By UID of the pipeline.
    all: HashMap<String, Moments<T>>,
}

impl<T> Default for OfPipelines<T> {
    fn default() -> Self {
        Self { all: HashMap::new() }
    }
}

impl<T: PartialEq> OfPipelines<T> {
    /// Computes the value of every pipeline of the namespace anew if this is a write of a pipeline or of a policy.
    pub fn note(&mut self, world: &World, step: &Step, value: impl Fn(&World, &str, &Value) -> T) {
        if !matches!(step.key.kind, Kind::Pipeline | Kind::Policy) || !step.subresource.is_empty() {
            return;
        }
        let namespace = &step.key.namespace;
        for (_, pipeline) in world.all(Kind::Pipeline, namespace) {
            let moments = self.all.entry(uid(pipeline).to_owned()).or_default();
            moments.note(&step.at, value(world, namespace, pipeline));
        }
    }

    /// The values of the pipeline with this UID; nothing if it is not known.
    #[must_use]
    pub fn of(&self, pipeline: &str) -> Option<&Moments<T>> {
        self.all.get(pipeline)
    }
}

/// The policies that apply to a pipeline: those that it names, and those that select its labels.
pub fn applying<'a>(
    world: &'a World,
    namespace: &str,
    pipeline: &'a Value,
) -> impl Iterator<Item = (&'a Key, &'a Value)> {
    let named = |name: &str| {
        let mut policies = list(pipeline, "/spec/biasPolicies").iter();
        policies.any(|p| text(p, "/name") == name)
    };
    let all = world.all(Kind::Policy, namespace).map(|(key, policy)| (key, &**policy));
    all.filter(move |(key, policy)| named(&key.name) || selects(policy, pipeline))
}

/// Whether a policy selects a pipeline by its labels.
fn selects(policy: &Value, pipeline: &Value) -> bool {
    let wanted = policy
        .pointer("/spec/modelSelector/matchLabels")
        .and_then(Value::as_object);
    let labels = pipeline.pointer("/metadata/labels");
    wanted.is_some_and(|w| !w.is_empty() && w.iter().all(|(k, v)| labels.and_then(|l| l.get(k)) == Some(v)))
}
