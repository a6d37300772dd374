//! I20, as far as it concerns failures: what is refused again and again is tried more and more seldom.
//!
//! Judged are requests of the operator that the API server refuses for good reasons (400 to 499, but not 404, 409 and
//! 429, which say that the next try may succeed): at most twelve of the same kind on the same object within a minute,
//! as long as nobody else writes anything in the namespace, which might have been a reason to try again.
//!
//! How many writes a run and a step take is judged in `run_budget.rs` and `step_budget.rs`. Reads are not judged, since
//! the log need not hold them.

use std::collections::{BTreeMap, VecDeque};

use jiff::{SignedDuration, Timestamp};

use super::{Finding, Key, Kind, Rule, Step, World};

const I20: &str = "I20";

/// In this time.
const MINUTE: SignedDuration = SignedDuration::from_secs(60);
/// As many tries.
const MOST: usize = 12;
/// Answers after which the next try may succeed.
const PASSING: [u16; 3] = [404, 409, 429];

/// The last refusals by object and verb.
#[derive(Debug, Default)]
pub struct Refusals {
    last: BTreeMap<(Key, String), VecDeque<Timestamp>>,
}

impl Rule for Refusals {
    fn step(&mut self, _: &World, step: &Step) -> Vec<Finding> {
        if !step.operator {
            self.last.retain(|(key, _), _| key.namespace != step.key.namespace);
        }
        Vec::new()
    }

    fn refused(&mut self, step: &Step) -> Vec<Finding> {
        let counts = (400..500).contains(&step.code) && !PASSING.contains(&step.code);
        let Ok(at) = step.at.parse::<Timestamp>() else {
            return Vec::new();
        };
        if !step.operator || !counts || matches!(step.key.kind, Kind::Other(_)) {
            return Vec::new();
        }
        let tries = self.last.entry((step.key.clone(), step.verb.clone())).or_default();
        tries.retain(|earlier| at.duration_since(*earlier) < MINUTE);
        tries.push_back(at);
        if tries.len() <= MOST {
            return Vec::new();
        }
        tries.clear();
        let (verb, key, code) = (&step.verb, &step.key, step.code);
        let message =
            format!("the operator tries to {verb} {key} more than {MOST} times in a minute, which is answered {code}");
        vec![Finding::new(I20, message)]
    }
}
