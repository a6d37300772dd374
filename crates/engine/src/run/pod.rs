//! A stage's pod, and what it says about a failed attempt.

use flywheel_api::flywheel_run::StageFailure;
use flywheel_api::stage::FailureClass;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use serde::{Deserialize, Serialize};

use super::job::CONTAINER;
use super::view::{JobState, JobView};

/// A stage's pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodView {
    /// Name.
    pub name: String,
    /// When it was created.
    pub created: Timestamp,
    /// When it got its node.
    #[serde(default)]
    pub scheduled: Option<Timestamp>,
    /// Reason of the pod's own failure, such as Evicted.
    pub reason: String,
    /// A node was drained, lost or under pressure (condition DisruptionTarget).
    pub disrupted: bool,
    /// Why the container does not run yet.
    pub waiting_reason: String,
    /// The node's words to that.
    pub waiting_message: String,
    /// Exit code, once the container ended.
    pub exit_code: Option<i32>,
    /// Reason of the end, such as OOMKilled.
    pub exit_reason: String,
    /// Termination message, once the container ended.
    pub message: String,
    /// Image that ran, as the node reported it.
    pub image_id: Option<String>,
}

impl PodView {
    /// The view of a pod.
    #[must_use]
    pub fn of(pod: &Pod) -> Self {
        let status = pod.status.clone().unwrap_or_default();
        let conditions = status.conditions.unwrap_or_default();
        let holds = |type_: &str| conditions.iter().find(|c| c.type_ == type_ && c.status == "True");
        let all = status.container_statuses.unwrap_or_default();
        let container: ContainerStatus = all.into_iter().find(|c| c.name == CONTAINER).unwrap_or_default();
        let state = container.state.unwrap_or_default();
        let waiting = state.waiting.unwrap_or_default();
        let ended = state.terminated;
        let text = |t: Option<&String>| t.cloned().unwrap_or_default();
        Self {
            name: pod.metadata.name.clone().unwrap_or_default(),
            created: pod
                .metadata
                .creation_timestamp
                .as_ref()
                .map(|t| t.0)
                .unwrap_or_default(),
            scheduled: holds("PodScheduled").and_then(|c| Some(c.last_transition_time.as_ref()?.0)),
            reason: status.reason.unwrap_or_default(),
            disrupted: holds("DisruptionTarget").is_some(),
            waiting_reason: waiting.reason.unwrap_or_default(),
            waiting_message: waiting.message.unwrap_or_default(),
            exit_code: ended.as_ref().map(|t| t.exit_code),
            exit_reason: text(ended.as_ref().and_then(|t| t.reason.as_ref())),
            message: text(ended.as_ref().and_then(|t| t.message.as_ref())),
            image_id: Some(container.image_id).filter(|id| !id.is_empty()),
        }
    }

    /// Why the container cannot start, if it cannot: `true` when waiting longer does not help.
    fn start_problem(&self) -> Option<(&'static str, bool)> {
        match self.waiting_reason.as_str() {
            "InvalidImageName" => Some(("ImagePullFailed", true)),
            "ErrImagePull" | "ImagePullBackOff" | "ErrImageNeverPull" => Some(("ImagePullFailed", false)),
            "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
                Some(("ContainerNotCreated", false))
            }
            _ => None,
        }
    }
}

/// Longest time in which an image may fail to be pulled: registries have hiccups. How long the pod waited for its node
/// does not count.
const PULL_PATIENCE: SignedDuration = SignedDuration::from_secs(60);

/// Longest time in which the Job's pod may not have been made, in seconds.
const POD_PATIENCE: i64 = 300;

/// Why a Job that has not ended cannot succeed.
pub fn stuck(job: &JobView, now: Timestamp) -> Option<StageFailure> {
    let Some(pod) = job.pods.last() else {
        return no_pod(job, now);
    };
    let (reason, hopeless) = pod.start_problem()?;
    if now < pulled_by(pod) && !hopeless {
        return None;
    }
    let said = if pod.waiting_message.is_empty() {
        &pod.waiting_reason
    } else {
        &pod.waiting_message
    };
    let remedy = "check image, imagePullSecrets and references to ConfigMaps and Secrets";
    Some(failure(
        FailureClass::Infrastructure,
        reason,
        format!("The container cannot start: {said}; {remedy}."),
    ))
}

fn no_pod(job: &JobView, now: Timestamp) -> Option<StageFailure> {
    let name = &job.name;
    let message = format!(
        "The cluster made no pod for Job {name} within {POD_PATIENCE} s: `kubectl describe job {name}` says why; check quotas, LimitRanges and Pod Security."
    );
    let late = now.duration_since(job.created).as_secs() >= POD_PATIENCE;
    late.then(|| failure(FailureClass::Infrastructure, "PodNotCreated", message))
}

/// When to look again at a pod that is not there or cannot start.
pub fn stuck_until(job: &JobView) -> Option<Timestamp> {
    let Some(pod) = job.pods.last() else {
        return Some(job.created + SignedDuration::from_secs(POD_PATIENCE));
    };
    pod.start_problem()?;
    Some(pulled_by(pod))
}

/// When the node has tried for long enough to have the image.
fn pulled_by(pod: &PodView) -> Timestamp {
    pod.scheduled.unwrap_or(pod.created) + PULL_PATIENCE
}

/// Why a Job failed, from its condition and its pod; `logs` is the command that shows what the container wrote.
pub fn failure_of(job: &JobView, logs: &str) -> Option<StageFailure> {
    let JobState::Failed { reason } = &job.state else {
        return None;
    };
    if reason == "DeadlineExceeded" {
        let message = "The attempt ran longer than timeoutSeconds: raise it, or make the stage faster.";
        return Some(failure(FailureClass::Application, "DeadlineExceeded", message));
    }
    let Some(pod) = job.pods.last() else {
        let message = "The pod was gone before it could be read; the node may be lost.";
        return Some(failure(FailureClass::Infrastructure, "PodLost", message));
    };
    Some(pod_failure(pod, logs))
}

fn pod_failure(pod: &PodView, logs: &str) -> StageFailure {
    if pod.disrupted || !pod.reason.is_empty() {
        let reason = if pod.reason.is_empty() {
            "Disrupted"
        } else {
            &pod.reason
        };
        return failure(
            FailureClass::Infrastructure,
            reason,
            format!("The node took pod {} away ({reason}).", pod.name),
        );
    }
    match (pod.exit_code, pod.exit_reason.as_str()) {
        (_, "OOMKilled") => {
            let message = "The container ran out of memory (OOMKilled): raise resources.limits.memory of the stage.";
            failure(FailureClass::Application, "OOMKilled", message)
        }
        (Some(code), _) => {
            let message = format!("The container exited with code {code}; `{logs}` shows its last lines.");
            failure(FailureClass::Application, "ExitCode", message)
        }
        (None, _) => {
            let message = format!("Pod {} failed before its container ended.", pod.name);
            failure(FailureClass::Infrastructure, "PodLost", message)
        }
    }
}

/// A failure with its class, reason and sentence.
pub fn failure(class: FailureClass, reason: &str, message: impl Into<String>) -> StageFailure {
    let reason = crate::standing::shorten(reason, 63);
    StageFailure {
        class,
        reason,
        message: crate::standing::shorten(&message.into(), 1024),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{at, object};

    /// A Job whose pod was made when the world began and cannot pull its image.
    fn job(conditions: &Value) -> JobView {
        let pod: Pod = object(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": "train", "creationTimestamp": at(0).to_string() },
            "status": { "conditions": conditions, "containerStatuses": [{
                "name": CONTAINER, "image": "example/eta:1", "imageID": "", "ready": false, "restartCount": 0,
                "state": { "waiting": { "reason": "ErrImagePull" } } }] },
        }));
        JobView {
            pods: vec![PodView::of(&pod)],
            ..JobView::default()
        }
    }

    #[test]
    fn a_pod_that_waited_long_for_its_node_does_not_fail_at_the_first_hiccup_of_the_registry() {
        let got =
            |at: Timestamp| json!([{ "type": "PodScheduled", "status": "True", "lastTransitionTime": at.to_string() }]);
        for (conditions, patient_until) in [(json!([]), 60), (got(at(1)), 61), (got(at(600)), 660)] {
            let job = job(&conditions);
            assert_eq!(stuck(&job, at(patient_until - 1)), None, "{conditions}");
            assert_eq!(stuck_until(&job), Some(at(patient_until)), "{conditions}");
            let failed = stuck(&job, at(patient_until)).expect("it fails");
            assert_eq!(failed.reason, "ImagePullFailed");
        }
    }
}
