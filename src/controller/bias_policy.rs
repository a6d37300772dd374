//! BiasPolicy: the pipelines that it applies to, and what it said of their newest judged versions.

use flywheel_api::bias_policy::BiasPolicyStatus;
use flywheel_api::{BiasPolicy, FlywheelPipeline, FlywheelRun};
use flywheel_engine::bias::PolicyView;
use flywheel_engine::bias_policy::{self, BiasPolicyObservation, Judged};
use flywheel_engine::decision::Decision;
use flywheel_engine::view::Policies;
use jiff::Timestamp;
use kube::core::DeserializeGuard;
use kube::{Error, ResourceExt};

use super::{Controller, Related, RelatedKind};
use crate::context::Context;
use crate::lookup::{Choice, Reader};
use crate::watch::{Watched, Watches};

/// Reconciles BiasPolicies.
pub struct BiasPolicies;

impl Controller for BiasPolicies {
    type Object = BiasPolicy;
    type Status = BiasPolicyStatus;
    type Answers = ();
    type Observation = BiasPolicyObservation;

    const NAME: &'static str = "biaspolicy";
    const RELATED: &'static [RelatedKind] = &[RelatedKind::PipelineSpec, RelatedKind::Run];

    fn watched(watches: &Watches) -> &Watched<DeserializeGuard<BiasPolicy>> {
        &watches.policies
    }

    fn concerns(_: &BiasPolicy, related: &Related) -> bool {
        matches!(related.kind, RelatedKind::PipelineSpec | RelatedKind::Run)
    }

    async fn observe(
        _: &Context,
        reader: Reader<'_>,
        policy: BiasPolicy,
        (): (),
        now: Timestamp,
    ) -> Result<BiasPolicyObservation, Error> {
        let pipelines: Vec<FlywheelPipeline> = reader.list(Choice::All).await?;
        let runs: Vec<FlywheelRun> = reader.list(Choice::All).await?;
        let name = policy.name_any();
        let view = PolicyView::of(&policy);
        let applies = |p: &FlywheelPipeline| !Policies::choose(p, vec![view.clone()]).found.is_empty();
        let pipelines = pipelines
            .iter()
            .filter(|p| applies(p))
            .map(|p| judged(&p.name_any(), &name, &runs))
            .collect();
        Ok(BiasPolicyObservation { now, policy, pipelines })
    }

    fn decide(observation: &BiasPolicyObservation) -> Decision<BiasPolicyStatus> {
        bias_policy::decide(observation)
    }
}

/// What the policy said in the pipeline's newest run that it judged.
fn judged(pipeline: &str, policy: &str, runs: &[FlywheelRun]) -> Judged {
    let verdicts = |r: &FlywheelRun| {
        let all = r
            .status
            .iter()
            .flat_map(|s| &s.bias)
            .filter(|v| v.policy == policy)
            .cloned();
        (
            all.collect::<Vec<_>>(),
            r.status
                .as_ref()
                .and_then(|s| s.model_version.as_ref())
                .map(|v| v.name.clone()),
        )
    };
    let newest = runs
        .iter()
        .filter(|r| r.spec.pipeline_ref.name == pipeline && !verdicts(r).0.is_empty())
        .max_by_key(|r| r.status.as_ref().and_then(|s| s.started_at.as_ref()).map(|t| t.0));
    let (verdicts, version) = newest.map(verdicts).unwrap_or_default();
    Judged {
        pipeline: pipeline.to_owned(),
        version,
        verdicts,
    }
}
