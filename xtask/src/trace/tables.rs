//! What is declared: the edges along which phases and states may move.

/// Edges of a Rollout's phase. A phase that is not there is `Pending`.
pub const ROLLOUT: &[(&str, &[&str])] = &[
    // Progressing and Promoting: the status was lost and is rebuilt from the candidate.
    (
        "Pending",
        &[
            "Queued",
            "Preparing",
            "Progressing",
            "Promoting",
            "Promoted",
            "Aborted",
            "Superseded",
            "Failed",
        ],
    ),
    (
        "Queued",
        &[
            "Pending",
            "Preparing",
            "Progressing",
            "Promoting",
            "Promoted",
            "Aborted",
            "Superseded",
            "Failed",
        ],
    ),
    // Queued: another Rollout made its candidate first.
    ("Preparing", &["Progressing", "Queued", "RollingBack"]),
    ("Progressing", &["Holding", "Promoting", "Queued", "RollingBack"]),
    ("Holding", &["Progressing", "Promoting", "RollingBack"]),
    // Progressing: the target's template changed, so the steps begin again.
    (
        "Promoting",
        &["Progressing", "Queued", "Observing", "Promoted", "RollingBack"],
    ),
    ("Observing", &["Promoted", "RollingBack", "Superseded", "Failed"]),
    // Superseded: another Rollout began on what this one had promoted, while the way back was being decided.
    ("RollingBack", &["RolledBack", "Aborted", "Superseded", "Failed"]),
    // RollingBack: a person asks for the way back after the end.
    ("Promoted", &["RollingBack"]),
    ("RolledBack", &[]),
    ("Aborted", &[]),
    ("Superseded", &["RollingBack"]),
    ("Failed", &[]),
];

/// Edges of a stage's state. A stage that is not there is `Pending`.
pub const STAGE: &[(&str, &[&str])] = &[
    ("Pending", &["Running"]),
    // Pending: another attempt follows.
    ("Running", &["Pending", "Succeeded", "Failed"]),
    ("Succeeded", &[]),
    ("Failed", &[]),
];

/// Edges of a version's state. It repeats what the run and the Rollouts say, and a Rollout that is deleted takes back
/// what it said; but what was rejected is never approved (a person may still deliver it with a Rollout of her own), and
/// what was judged is no candidate again unless no run judged it.
pub const VERSION: &[(&str, &[&str])] = &[
    // Whoever looks seldom sees only where a delivery ended.
    (
        "Candidate",
        &["Rejected", "Approved", "RollingOut", "Live", "Superseded", "RolledBack"],
    ),
    ("Rejected", &["RollingOut", "Live"]),
    (
        "Approved",
        &["Rejected", "RollingOut", "Live", "Superseded", "RolledBack"],
    ),
    (
        "RollingOut",
        &["Live", "Superseded", "RolledBack", "Approved", "Rejected", "Candidate"],
    ),
    (
        "Live",
        &["RollingOut", "Superseded", "RolledBack", "Approved", "Rejected"],
    ),
    (
        "Superseded",
        &["RollingOut", "Live", "RolledBack", "Approved", "Rejected"],
    ),
    (
        "RolledBack",
        &["RollingOut", "Live", "Superseded", "Approved", "Rejected"],
    ),
];

/// Phases in which the version is at full weight or was.
pub const PROMOTED: [&str; 3] = ["Promoting", "Observing", "Promoted"];

/// Automation levels from the strictest to the freest.
pub const LEVELS: [&str; 4] = ["Manual", "SemiAutomated", "HumanOversight", "FullyAutomated"];

/// Levels at which a person decides on training.
pub const PERSON_TRAINS: [&str; 1] = ["SemiAutomated"];
/// Levels at which a person decides on the delivery.
pub const PERSON_DELIVERS: [&str; 3] = ["Manual", "SemiAutomated", "HumanOversight"];
/// Levels at which a person decides on every step of a rollout.
pub const PERSON_STEPS: [&str; 1] = ["Manual"];

/// Whether one may move from a state to another; staying is always allowed.
#[must_use]
pub fn allows(edges: &[(&str, &[&str])], from: &str, to: &str) -> bool {
    from == to || edges.iter().any(|(at, next)| *at == from && next.contains(&to))
}

/// How free a level is: its place among all levels.
#[must_use]
pub fn freedom(level: &str) -> usize {
    LEVELS.iter().position(|l| *l == level).unwrap_or(LEVELS.len())
}

#[cfg(test)]
mod tests {
    use flywheel_api::rollout::RolloutPhase;

    use super::*;

    #[test]
    fn every_edge_leads_to_a_declared_state() {
        for table in [ROLLOUT, STAGE, VERSION] {
            for (from, next) in table {
                for to in *next {
                    assert!(table.iter().any(|(at, _)| at == to), "{from} → {to}");
                }
            }
        }
    }

    #[test]
    fn ended_phases_are_those_that_the_api_calls_terminal() {
        use RolloutPhase::{
            Aborted, Failed, Holding, Observing, Pending, Preparing, Progressing, Promoted, Promoting, Queued,
            RolledBack, RollingBack, Superseded,
        };
        let all = [
            Pending,
            Queued,
            Preparing,
            Progressing,
            Holding,
            Promoting,
            Observing,
            Promoted,
            RollingBack,
            RolledBack,
            Aborted,
            Superseded,
            Failed,
        ];
        for phase in all {
            let next = ROLLOUT
                .iter()
                .find(|(at, _)| *at == phase.name())
                .map(|(_, next)| *next);
            let ends = next.is_some_and(|n| n.is_empty() || n == ["RollingBack"]);
            assert_eq!(ends, phase.is_terminal(), "{phase:?}");
        }
    }
}
