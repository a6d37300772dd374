//! Which automation levels were in force for a pipeline, and when: the minimum of its spec and of its bias policies'
//! caps. The administrator's ceiling is no object of the cluster; it only ever makes the level stricter.

use serde_json::Value;

use super::json::{list, text};
use super::pipelines::{OfPipelines, applying};
use super::tables::freedom;
use super::{Kind, Step, World};

/// Levels of all pipelines over time.
#[derive(Debug, Default)]
pub struct Levels(OfPipelines<String>);

impl Levels {
    /// Notes what a write of a pipeline or of a policy changes.
    pub fn step(&mut self, world: &World, step: &Step) {
        self.0.note(world, step, in_force);
    }

    /// The freest level that was in force in the moments before; nothing if the pipeline is not known.
    #[must_use]
    pub fn freest(&self, pipeline: &str, at: &str) -> Option<&str> {
        let recent = self.0.of(pipeline)?.recent(at).map(String::as_str);
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
    for (_, policy) in applying(world, namespace, pipeline) {
        let most = text(policy, "/spec/maxAutomationLevel");
        let known = super::tables::LEVELS.into_iter().find(|l| *l == most);
        if let Some(known) = known {
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
