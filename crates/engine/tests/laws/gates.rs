//! The law of deliveries: what the status of a run must say before its Rollout is made.

use flywheel_api::FlywheelRun;
use flywheel_api::flywheel_run::FlywheelRunStatus;
use flywheel_api::reference::{ApprovalGate, AutomationLevel, GateVerdict, Verdict};
use flywheel_engine::decision::{Action, Child};
use flywheel_engine::testing::Write;

use super::actor;

/// The reason of a gate that found the version not worse than the one that serves.
const COMPARED: &str = "NotWorseThanLive";

/// No Rollout without every gate, every policy and the person that the level asks for.
pub fn before_delivery(write: &Write) {
    let Some(Action::Create(child)) = &write.action else {
        return;
    };
    if !matches!(&**child, Child::Rollout(_)) {
        return;
    }
    let status = actor::<FlywheelRun>(write).status.unwrap();
    assert!(!status.gates.is_empty());
    // The stages of these worlds compare with what served when their run began.
    let began = status.compared_with.as_ref().map(|c| c.name.as_str());
    for gate in &status.gates {
        assert!(lets_pass(&status, gate, began), "{gate:?} beside {began:?}");
    }
    for verdict in &status.bias {
        assert!(
            matches!(verdict.verdict, Verdict::Pass | Verdict::NotApplicable),
            "{verdict:?}"
        );
    }
    let approved = status.approvals.iter().any(|a| a.gate == ApprovalGate::Promote);
    let constant = status
        .gates
        .iter()
        .any(|g| g.gate == "bound" && g.verdict == Verdict::Pass);
    let free = status.level == Some(AutomationLevel::FullyAutomated) && constant;
    assert!(approved || free, "delivered without approval at {:?}", status.level);
}

/// Whether a gate lets a version pass while this one is live: after a comparison with that very version, and without one
/// only if none is.
pub fn lets_pass(status: &FlywheelRunStatus, gate: &GateVerdict, live: Option<&str>) -> bool {
    let said = match gate.verdict {
        Verdict::Pass if gate.reason == COMPARED => live.is_some() && compared_with(status, gate) == live,
        Verdict::Pass => true,
        Verdict::NotApplicable => live.is_none(),
        Verdict::Inconclusive | Verdict::Fail | Verdict::Error => false,
    };
    said || gate.dry_run
}

/// The version with which a stage says to have compared the metric of a gate.
fn compared_with<'a>(status: &'a FlywheelRunStatus, gate: &GateVerdict) -> Option<&'a str> {
    let results = status.stages.iter().filter_map(|stage| stage.result.as_ref());
    let mut metrics = results.flat_map(|r| &r.metrics).filter(|m| m.name == gate.metric);
    metrics.find_map(|m| Some(m.baseline.as_ref()?.version.as_str()))
}
