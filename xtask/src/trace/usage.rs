//! What the operator really used: verbs by resource, to be compared with what its role grants.

use std::collections::BTreeMap;
use std::fmt;

use super::History;

/// Verbs that were used on one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// API group; empty for the core group.
    pub group: String,
    /// Plural, with the subresource after a slash.
    pub resource: String,
    /// Verbs in alphabetical order.
    pub verbs: Vec<String>,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dot = if self.group.is_empty() { "" } else { "." };
        write!(f, "{}{dot}{}: {}", self.resource, self.group, self.verbs.join(", "))
    }
}

/// Writes that the operator made or tried, by resource. Reads are not in the log unless the cluster was brought up with
/// `--audit-reads`, and leases and events never are.
#[must_use]
pub fn used_rules(history: &History) -> Vec<Rule> {
    let mut used: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for step in history.steps.iter().filter(|s| s.operator) {
        let (group, plural) = step.key.kind.resource();
        let slash = if step.subresource.is_empty() { "" } else { "/" };
        let resource = format!("{plural}{slash}{}", step.subresource);
        let verbs = used.entry((group.to_owned(), resource)).or_default();
        if let Err(place) = verbs.binary_search(&step.verb) {
            verbs.insert(place, step.verb.clone());
        }
    }
    let rule = |((group, resource), verbs)| Rule { group, resource, verbs };
    used.into_iter().map(rule).collect()
}
