//! What a run depends on and this version of the operator cannot read: the run goes no further, and can be cancelled.

use serde::{Deserialize, Serialize};

use super::turn::{Next, Turn};
use crate::part::Part;

/// Names of objects around a run that exist and cannot be read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Unreadable {
    /// Its pipeline.
    pub pipeline: Part<Vec<String>>,
    /// Versions of the model: one of them may be live.
    pub versions: Part<Vec<String>>,
    /// Its Rollout.
    pub rollout: Part<Vec<String>>,
}

/// Waits as long as something cannot be read.
pub fn neighbours(turn: &mut Turn<'_>) -> Option<Next> {
    let all = &turn.o.unreadable;
    wait("FlywheelPipeline", &all.pipeline)
        .or_else(|| wait("ModelVersion", &all.versions))
        .or_else(|| rollout(turn))
}

/// Waits as long as the Rollout cannot be read: nobody knows whether it is to be aborted.
pub fn rollout(turn: &Turn<'_>) -> Option<Next> {
    wait("Rollout", &turn.o.unreadable.rollout)
}

/// That nothing is unreadable may be known late: what a decision rests on it looks at itself.
fn wait(kind: &str, unreadable: &Part<Vec<String>>) -> Option<Next> {
    if unreadable.peek().is_empty() {
        return None;
    }
    let name = unreadable.first()?;
    let message = format!(
        "{kind} {name} cannot be read by this version of the operator, and the run depends on it: its condition Ready says why."
    );
    Some(Next::Missing("Unreadable", message))
}
