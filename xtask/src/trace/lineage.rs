//! I5: the lineage of a version only grows, is a chain, and what others keep of it is true.

use serde_json::Value;

use super::json::{int, list, text, uid};
use super::{Finding, Kind, Rule, Step, World};

const I5: &str = "I5";
const ENTRIES: &str = "/status/lineage/entries";

/// The chains of all versions.
#[derive(Debug, Default)]
pub struct Lineage;

impl Rule for Lineage {
    fn step(&mut self, world: &World, step: &Step) -> Vec<Finding> {
        match step.key.kind {
            Kind::Version if step.after.is_some() => {
                let mut found: Vec<Finding> = shrunk(step).into_iter().chain(broken(step)).collect();
                if step.operator && step.created() {
                    found.extend(untrue(world, step, "/spec/parent"));
                }
                found
            }
            Kind::Rollout if step.operator && step.created() => {
                untrue(world, step, "/spec/modelVersionRef").into_iter().collect()
            }
            _ => Vec::new(),
        }
    }
}

/// The old entries are how the new ones begin, unless the whole status was lost.
fn shrunk(step: &Step) -> Option<Finding> {
    let (old, new) = (list(step.earlier(), ENTRIES), list(step.later(), ENTRIES));
    let same = uid(step.earlier()) == uid(step.later());
    let lost = new.is_empty() && int(step.later(), "/status/observedGeneration").unwrap_or(-1) < 1;
    if !same || lost || new.starts_with(old) {
        return None;
    }
    let kept = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let message = format!(
        "the lineage of {} had {} entries, and only {kept} of them are left as they were",
        step.key,
        old.len()
    );
    Some(Finding::new(I5, message))
}

/// Each entry carries the digest of the one before, and the head tells of the last.
fn broken(step: &Step) -> Option<Finding> {
    let (object, entries) = (step.later(), list(step.later(), ENTRIES));
    let last = entries.last()?;
    let linked = |pair: (&Value, &Value)| text(pair.1, "/previous") == text(pair.0, "/digest");
    let torn = entries
        .iter()
        .zip(entries.iter().skip(1))
        .position(|pair| !linked(pair));
    if let Some(place) = torn {
        let message = format!(
            "entry {} in the lineage of {} is not bound to entry {place}",
            place + 1,
            step.key
        );
        return Some(Finding::new(I5, message));
    }
    let length = int(object, "/status/lineage/head/length");
    let head = text(object, "/status/lineage/head/digest");
    let fits = length == i64::try_from(entries.len()).ok() && head == text(last, "/digest");
    let message = || {
        format!(
            "the head in the lineage of {} does not tell of its last entry",
            step.key
        )
    };
    (!fits).then(|| Finding::new(I5, message()))
}

/// A head that the operator writes down is one that the version had.
fn untrue(world: &World, step: &Step, pointer: &str) -> Option<Finding> {
    let reference = step.later().pointer(pointer)?;
    let length = int(reference, "/head/length")?;
    let known = world.known(text(reference, "/uid"))?;
    let place = usize::try_from(length).ok()?.checked_sub(1)?;
    let entry = list(&known.object, ENTRIES).get(place);
    let true_ = entry.is_some_and(|e| text(e, "/digest") == text(reference, "/head/digest"));
    let message = || {
        format!(
            "{} keeps a head of {length} entries that {} did not have",
            step.key, known.key
        )
    };
    (!true_).then(|| Finding::new(I5, message()).about(&known.key))
}
