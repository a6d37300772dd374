//! What people do in the world.

use flywheel_api::approval::ApprovalDecision;
use flywheel_api::reference::WaitingFor;
use flywheel_api::{FlywheelRun, Rollout};
use serde_json::json;

use super::approval;
use super::world::{Kind, World};

impl World {
    /// What waits for a person: of runs first, then of Rollouts.
    #[must_use]
    pub fn waiting(&self) -> Option<WaitingFor> {
        let runs: Vec<FlywheelRun> = self.all(Kind::Run);
        let rollouts: Vec<Rollout> = self.all(Kind::Rollout);
        let of_runs = runs.into_iter().filter_map(|r| r.status?.waiting_for);
        of_runs
            .chain(rollouts.into_iter().filter_map(|r| r.status?.waiting_for))
            .next()
    }

    /// A person decides on what waits. Returns the name of the Approval; nothing if nothing waits.
    pub fn person(&mut self, approver: &str, decision: ApprovalDecision) -> Option<String> {
        let waiting = self.waiting()?;
        let count = self.names(Kind::Approval).len();
        let name = format!("approval-{count}");
        self.add(Kind::Approval, &approval(&name, approver, decision, &waiting));
        Some(name)
    }

    /// A user sets a field below `spec`, such as `/desiredState`.
    pub fn set(&mut self, kind: Kind, name: &str, field: &str, value: impl serde::Serialize) {
        self.edit(kind, name, |o| {
            let mut at = &mut o["spec"];
            for key in field.split('/').filter(|k| !k.is_empty()) {
                at = match key.parse::<usize>() {
                    Ok(index) => &mut at[index],
                    Err(_) => &mut at[key],
                };
            }
            *at = json!(value);
        });
    }

    /// Somebody else writes the binding of a Deployment.
    pub fn write_binding(&mut self, name: &str, value: &str) {
        self.set(
            Kind::Deployment,
            name,
            "template/spec/containers/0/env",
            json!([{ "name": "MODEL_URI", "value": value }]),
        );
    }
}
