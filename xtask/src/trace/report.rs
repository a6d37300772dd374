//! Violations, and how people read them.

use std::fmt::Write as _;

use super::history::{History, Step};
use super::json::changes;
use super::world::Key;

/// Writes that a report shows before the violation.
const TRAIL: usize = 8;
/// Changes that a report shows of one write.
const SHOWN: usize = 6;

/// A write that broke an invariant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which invariant: `I1`, `I2` and so on.
    pub invariant: &'static str,
    /// What is wrong, with what would be right.
    pub message: String,
    /// Index of the write in the history.
    pub step: usize,
    /// Objects that it is about.
    pub objects: Vec<Key>,
}

/// What a violation says, with the last writes on its objects.
#[must_use]
pub fn render(history: &History, violations: &[Violation]) -> String {
    let Some(first) = violations.first() else {
        return String::new();
    };
    let mut text = format!("{} is violated: {}\n", first.invariant, first.message);
    for object in &first.objects {
        let _ = writeln!(text, "  about {object}");
    }
    let _ = writeln!(text, "  the last writes, the violation at the end:");
    let mut objects = first.objects.clone();
    if let Some(step) = history.steps.get(first.step) {
        objects.push(step.key.clone());
    }
    for step in history.trail(first.step, &objects, TRAIL) {
        let _ = write!(text, "{}", write(step));
    }
    let more = violations.len() - 1;
    if more > 0 {
        let _ = writeln!(text, "and {more} more:");
    }
    for other in violations.iter().skip(1) {
        let revision = history.steps.get(other.step).map_or(0, |s| s.revision);
        let _ = writeln!(text, "  {} at revision {revision}: {}", other.invariant, other.message);
    }
    text
}

/// One write: when, who, what, and what it changed.
fn write(step: &Step) -> String {
    let who = if step.operator { " (the operator)" } else { "" };
    let part = if step.subresource.is_empty() {
        String::new()
    } else {
        format!("/{}", step.subresource)
    };
    let (verb, key) = (&step.verb, &step.key);
    let mut text = format!(
        "    {} at {} {}{who}: {verb} {key}{part}\n",
        step.revision, step.at, step.user
    );
    if step.before.is_none() || step.after.is_none() {
        return text;
    }
    let all = changes(step.before.as_deref(), step.after.as_deref());
    for change in all.iter().take(SHOWN) {
        let _ = writeln!(text, "      {change}");
    }
    let more = all.len().saturating_sub(SHOWN);
    if more > 0 {
        let _ = writeln!(text, "      and {more} more changes");
    }
    text
}
