//! BiasPolicy: the pipelines that it applies to, and what it said of their newest judged versions.

use flywheel_api::bias_policy::BiasPolicyStatus;
use flywheel_api::reference::BiasVerdict;
use flywheel_api::{BiasPolicy, FlywheelPipeline, FlywheelRun};
use flywheel_engine::bias_policy::{self, BiasPolicyObservation, Judged};
use flywheel_engine::decision::Decision;
use flywheel_engine::view::Policies;
use futures::try_join;
use jiff::Timestamp;
use kube::{Error, ResourceExt};

use super::{Controller, Related, RelatedKind};
use crate::context::Context;
use crate::guard::Guard;
use crate::inputs::{Input, Inputs};
use crate::lookup::Choice;
use crate::watch::{Watched, Watches};

/// Reconciles BiasPolicies.
pub struct BiasPolicies;

impl Controller for BiasPolicies {
    type Object = BiasPolicy;
    type Status = BiasPolicyStatus;
    type Answers = ();
    type Observation = BiasPolicyObservation;

    const NAME: &'static str = "biaspolicy";
    const RELATED: &'static [RelatedKind] = &[RelatedKind::PipelineSpec, RelatedKind::RunOutline];

    fn watched(watches: &Watches) -> &Watched<Guard<BiasPolicy>> {
        &watches.policies
    }

    fn concerns(_: &BiasPolicy, related: &Related) -> bool {
        matches!(related.kind, RelatedKind::PipelineSpec | RelatedKind::RunOutline)
    }

    async fn observe(
        _: &Context,
        inputs: &Inputs<'_>,
        policy: BiasPolicy,
        (): (),
        now: Timestamp,
    ) -> Result<BiasPolicyObservation, Error> {
        // Its status says what is so as far as it can be read, and nothing follows from it.
        let reader = inputs.late(Input::Runs);
        let name = policy.name_any();
        // There may be many pipelines and runs, and each change of theirs is looked at by each policy.
        let applies = |p: &FlywheelPipeline| Policies::apply(p, &name, &policy.spec).then(|| p.name_any());
        let (pipelines, runs) = try_join!(
            reader.each_readable(Choice::All, applies),
            reader.each_readable(Choice::All, |run: &FlywheelRun| Said::of(run, &name)),
        )?;
        let runs: Vec<Said> = runs.into_iter().flatten().collect();
        let pipelines = pipelines.into_iter().flatten();
        let pipelines = pipelines.map(|pipeline| judged(pipeline, &runs)).collect();
        Ok(BiasPolicyObservation { now, policy, pipelines })
    }

    fn decide(observation: &BiasPolicyObservation) -> Decision<BiasPolicyStatus> {
        bias_policy::decide(observation)
    }
}

/// What a policy said in a run.
struct Said {
    pipeline: String,
    begun: Option<Timestamp>,
    version: Option<String>,
    verdicts: Vec<BiasVerdict>,
}

impl Said {
    /// Nothing if the run was not judged by the policy.
    fn of(run: &FlywheelRun, policy: &str) -> Option<Self> {
        let status = run.status.as_ref()?;
        let verdicts: Vec<BiasVerdict> = status.bias.iter().filter(|v| v.policy == policy).cloned().collect();
        (!verdicts.is_empty()).then(|| Self {
            pipeline: run.spec.pipeline_ref.name.clone(),
            begun: status.started_at.as_ref().map(|t| t.0),
            version: status.model_version.as_ref().map(|v| v.name.clone()),
            verdicts,
        })
    }
}

/// What was said in the pipeline's newest run.
fn judged(pipeline: String, runs: &[Said]) -> Judged {
    let of_pipeline = runs.iter().filter(|said| said.pipeline == pipeline);
    let newest = of_pipeline.max_by_key(|said| said.begun);
    Judged {
        version: newest.and_then(|said| said.version.clone()),
        verdicts: newest.map(|said| said.verdicts.clone()).unwrap_or_default(),
        pipeline,
    }
}
