//! A bias policy's own status: where it applies and the worst that it found.

use flywheel_api::BiasPolicy;
use flywheel_api::bias_policy::BiasPolicyStatus;
use flywheel_api::condition;
use flywheel_api::reference::BiasVerdict;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::decision::{Decision, Wait};
use crate::standing::{Kind, Standing};

/// Everything that the decision about a policy may know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BiasPolicyObservation {
    /// Now, in whole seconds.
    pub now: Timestamp,
    /// The policy.
    pub policy: BiasPolicy,
    /// Pipelines that it applies to, each with what it said of the newest judged version.
    pub pipelines: Vec<Judged>,
}

/// A pipeline and what the policy said of its newest judged version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    /// Name of the pipeline.
    pub pipeline: String,
    /// Name of the version, if one was judged.
    pub version: Option<String>,
    /// The verdicts of this policy.
    pub verdicts: Vec<BiasVerdict>,
}

/// What to do with a policy: at most one write.
#[must_use]
pub fn decide(o: &BiasPolicyObservation) -> Decision<BiasPolicyStatus> {
    let stored = o.policy.status.clone().unwrap_or_default();
    if o.policy.metadata.deletion_timestamp.is_some() {
        return Decision::Wait(Wait {
            until: None,
            reason: "the policy is being deleted".to_owned(),
        });
    }
    let worst = o
        .pipelines
        .iter()
        .flat_map(|p| p.verdicts.iter().map(move |v| (v.verdict, p)))
        .max_by_key(|(verdict, _)| *verdict);
    let count = i64::try_from(o.pipelines.len()).unwrap_or(i64::MAX);
    let worst_text = worst.map_or_else(String::new, |(verdict, p)| {
        format!("{} ({})", verdict.name(), p.version.as_deref().unwrap_or(&p.pipeline))
    });
    let generation = o.policy.metadata.generation;
    let message = match (count, worst_text.as_str()) {
        (0, _) => "Applies to no pipeline: name it in spec.biasPolicies, or set modelSelector.".to_owned(),
        (n, "") => format!("Applies to {n} pipelines; no version was judged yet."),
        (n, worst) => format!("Applies to {n} pipelines; worst verdict: {worst}."),
    };
    let standing = Standing::new(Kind::Ready, "Accepted", message);
    let mut settings = standing.settings();
    settings.push(condition::Setting::yes(
        condition::ACCEPTED,
        "Accepted",
        "The policy was understood.",
    ));
    let status = BiasPolicyStatus {
        observed_generation: generation.unwrap_or_default(),
        pipelines: count,
        worst: worst_text,
        conditions: condition::replace(&stored.conditions, &settings, generation, o.now),
    };
    Decision::settle(
        &stored,
        status,
        Vec::new(),
        || None,
        Wait {
            until: None,
            reason: standing.message,
        },
    )
}
