//! Which automation levels were in force for a pipeline, and when: the minimum of its spec and of its bias policies'
//! caps. The administrator's ceiling is no object of the cluster; it only ever makes the level stricter.

use std::collections::HashMap;

use serde_json::Value;

use super::json::{list, text, uid};
use super::moments::Moments;
use super::tables::freedom;
use super::{Kind, Step, World};

/// Levels of all pipelines over time.
#[derive(Debug, Default)]
pub struct Levels {
    /// By UID of the pipeline.
    all: HashMap<String, Moments<String>>,
}

impl Levels {
    /// Notes what a write of a pipeline or of a policy changes.
    pub fn step(&mut self, world: &World, step: &Step) {
        if !matches!(step.key.kind, Kind::Pipeline | Kind::Policy) || !step.subresource.is_empty() {
            return;
        }
        for (_, pipeline) in world.all(Kind::Pipeline, &step.key.namespace) {
            let level = in_force(world, &step.key.namespace, pipeline);
            self.all
                .entry(uid(pipeline).to_owned())
                .or_default()
                .note(&step.at, level);
        }
    }

    /// The freest level that was in force in the moments before; nothing if the pipeline is not known.
    #[must_use]
    pub fn freest(&self, pipeline: &str, at: &str) -> Option<&str> {
        let recent = self.all.get(pipeline)?.recent(at).map(String::as_str);
        recent.max_by_key(|level| freedom(level))
    }
}

fn in_force(world: &World, namespace: &str, pipeline: &Value) -> String {
    let named: Vec<&str> = list(pipeline, "/spec/biasPolicies")
        .iter()
        .map(|p| text(p, "/name"))
        .collect();
    let mut level = text(pipeline, "/spec/automationLevel");
    let mut cap = |other: &'static str| {
        if freedom(other) < freedom(level) {
            level = other;
        }
    };
    for (key, policy) in world.all(Kind::Policy, namespace) {
        let most = text(policy, "/spec/maxAutomationLevel");
        let known = super::tables::LEVELS.into_iter().find(|l| *l == most);
        if let Some(known) = known.filter(|_| named.contains(&key.name.as_str()) || selects(policy, pipeline)) {
            cap(known);
        }
    }
    let missing = named
        .iter()
        .any(|name| world.named(Kind::Policy, namespace, name).is_none());
    if missing {
        cap("HumanOversight");
    }
    level.to_owned()
}

/// Whether a policy selects a pipeline by its labels.
#[must_use]
pub fn selects(policy: &Value, pipeline: &Value) -> bool {
    let wanted = policy
        .pointer("/spec/modelSelector/matchLabels")
        .and_then(Value::as_object);
    let labels = pipeline.pointer("/metadata/labels");
    wanted.is_some_and(|w| !w.is_empty() && w.iter().all(|(k, v)| labels.and_then(|l| l.get(k)) == Some(v)))
}
