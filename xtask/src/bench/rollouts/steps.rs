//! What a step costs, by the order of the writes of each rollout.

use std::collections::BTreeMap;

use super::super::audit::{Place, Write};

/// The name that a candidate has after that of its target.
const CANDIDATE: &str = "-candidate";

/// Writes that were made at a step, over all rollouts and steps; a candidate is made and goes outside of them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Steps {
    /// To the status of the Rollout.
    pub status: usize,
    /// To the candidate.
    pub candidate: usize,
    /// To the target.
    pub target: usize,
}

impl Steps {
    /// Counts the writes of that agent, where a Rollout has the name of its target.
    pub fn of(writes: &[Write], agent: &str) -> Self {
        let mut ordered: Vec<&Write> = writes.iter().filter(|write| write.agent.starts_with(agent)).collect();
        ordered.sort_by_key(|write| write.answered);
        let (mut found, mut at) = (Self::default(), BTreeMap::new());
        for write in ordered {
            let name = write.to.name.as_str();
            match what(&write.to) {
                ("rollouts", "status") => {
                    let in_step = ["Progressing", "Holding"].contains(&write.object.phase());
                    let step = in_step && write.object.step().is_some();
                    at.insert(name, step);
                    found.status += usize::from(step);
                }
                ("deployments", _) if changes(write) => {
                    let of = name.strip_suffix(CANDIDATE);
                    let step = at.get(of.unwrap_or(name)).copied().unwrap_or_default();
                    let count = if of.is_some() {
                        &mut found.candidate
                    } else {
                        &mut found.target
                    };
                    *count += usize::from(step);
                }
                _ => {}
            }
        }
        found
    }
}

fn what(place: &Place) -> (&str, &str) {
    (&place.resource, &place.subresource)
}

fn changes(write: &Write) -> bool {
    ["update", "patch"].contains(&write.verb.as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Place, Steps, Write};

    fn write(to: [&str; 3], phase: &str) -> anyhow::Result<Write> {
        let [resource, subresource, name] = to.map(str::to_owned);
        let status = json!({ "phase": phase, "step": { "name": "half" } });
        Ok(Write {
            agent: "flywheel-operator/1".to_owned(),
            verb: "patch".to_owned(),
            to: Place {
                resource,
                subresource,
                name,
                ..Place::default()
            },
            received: "2026-01-01T00:00:00Z".parse()?,
            answered: "2026-01-01T00:00:00Z".parse()?,
            object: serde_json::from_value(json!({ "status": status }))?,
        })
    }

    #[test]
    fn what_is_written_before_and_after_the_steps_is_not_counted() -> anyhow::Result<()> {
        let (status, candidate, target) = (
            ["rollouts", "status", "web"],
            ["deployments", "", "web-candidate"],
            ["deployments", "", "web"],
        );
        let writes = [
            write(candidate, "")?,
            write(status, "Preparing")?,
            write(status, "Progressing")?,
            write(candidate, "")?,
            write(target, "")?,
            write(["rollouts", "status", "other"], "Promoting")?,
            write(status, "Holding")?,
            write(status, "Promoting")?,
            write(candidate, "")?,
            write(target, "")?,
        ];
        let expected = Steps {
            status: 2,
            candidate: 1,
            target: 1,
        };
        assert_eq!(Steps::of(&writes, "flywheel-operator/"), expected);
        assert_eq!(Steps::of(&writes, "argo-rollouts/"), Steps::default());
        Ok(())
    }
}
