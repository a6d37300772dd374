//! Hand-made histories: honest ones, ones that break an invariant, and ones that nearly do.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::needless_pass_by_value,
    clippy::too_many_arguments
)]

mod approvals;
mod attempts;
mod baseline;
mod capacity;
mod gates;
mod history;
mod in_force;
mod leaving;
mod lineage;
mod loops;
mod order;
mod orphans;
mod overdue;
mod owners;
mod policies;
mod recorded;
mod refusals;
mod results;
mod run_budget;
mod specs;
mod step_budget;
mod steps;
mod story;
mod turn;

use super::check;
use story::Story;

/// Which invariants a story breaks, without repetitions.
fn broken(story: &Story) -> Vec<&'static str> {
    let mut all: Vec<&str> = check(&story.history()).iter().map(|v| v.invariant).collect();
    all.dedup();
    all
}

/// What the first violation says.
fn first(story: &Story) -> String {
    check(&story.history())
        .first()
        .map(|v| v.message.clone())
        .unwrap_or_default()
}
