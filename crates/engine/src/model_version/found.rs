//! What the run of a version found, in the version's own status: it outlives the run.

use flywheel_api::ModelVersion;
use flywheel_api::flywheel_run::FlywheelRunStatus;
use flywheel_api::model_version::ModelVersionStatus;
use flywheel_api::reference::{ApprovalGate, ApprovalRecord};

/// Copies the verdicts and approvals of a run into the status of the version with this UID, if the run says that it made it.
pub fn copy(run: &FlywheelRunStatus, uid: Option<&String>, status: &mut ModelVersionStatus) {
    if run.model_version.as_ref().and_then(|v| v.uid.as_ref()) != uid {
        return;
    }
    status.evaluations.clone_from(&run.gates);
    status.bias.clone_from(&run.bias);
    let promote = |a: &&ApprovalRecord| a.gate == ApprovalGate::Promote;
    status.approvals = run.approvals.iter().filter(promote).cloned().collect();
    let waiting = run.waiting_for.as_ref().filter(|w| w.gate == ApprovalGate::Promote);
    // Nobody may have looked while it waited: whoever approved named the evidence, too.
    let waited = waiting.map(|w| &w.evidence_digest);
    let approved = status.approvals.last().map(|a| &a.evidence_digest);
    if let Some(digest) = waited.or(approved) {
        status.evidence_digest = Some(digest.clone());
    }
}

/// Whether a version shows all that its run found. The run may be deleted from then on.
#[must_use]
pub fn shows(version: &ModelVersion, run: &FlywheelRunStatus) -> bool {
    let Some(stored) = &version.status else { return false };
    let mut wanted = stored.clone();
    copy(run, version.metadata.uid.as_ref(), &mut wanted);
    wanted == *stored
}
