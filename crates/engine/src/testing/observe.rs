//! What the operator would observe of the world.

use std::collections::BTreeSet;

use flywheel_api::rollout::RolloutPlan;
use flywheel_api::{Approval, BiasPolicy, FlywheelPipeline, FlywheelRun, ModelVersion, Rollout, names};
use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use super::world::{Kind, World};
use crate::approval::ApprovalView;
use crate::bias::PolicyView;
use crate::bias_policy::{BiasPolicyObservation, Judged};
use crate::binding::{self, VersionView};
use crate::model_version::{self, Delivery, ModelVersionObservation};
use crate::pipeline::{self, MetricAnswer, PipelineObservation, RunFact};
use crate::rollout::{self, Answer, Peer, PipelineFacts, Reading, RolloutObservation};
use crate::run::{self, JobView, RolloutView, RunObservation, SnapshotView, VersionFact};
use crate::view::{LiveView, Policies, created};

impl World {
    fn target_of(&self, plan: &RolloutPlan) -> Option<Deployment> {
        self.find(Kind::Deployment, &plan.target_ref.name)
    }

    fn live_version(&self, plan: Option<&RolloutPlan>) -> Option<LiveView> {
        let plan = plan?;
        let target = self.target_of(plan);
        LiveView::served(target.as_ref(), plan, &self.all(Kind::ModelVersion))
    }

    fn untold(&self, plan: Option<&RolloutPlan>) -> Option<String> {
        let plan = plan?;
        let target = self.target_of(plan);
        LiveView::untold(target.as_ref(), plan)
    }

    fn policies(&self, pipeline: Option<&FlywheelPipeline>) -> Policies {
        let all: Vec<BiasPolicy> = self.all(Kind::BiasPolicy);
        pipeline.map_or_else(Policies::default, |p| {
            Policies::choose(p, all.iter().map(PolicyView::of).collect())
        })
    }

    fn approvals(&self, subjects: &[&str]) -> Vec<ApprovalView> {
        let all: Vec<Approval> = self.all(Kind::Approval);
        let named = all
            .iter()
            .filter(|a| subjects.contains(&a.spec.subject_ref.name.as_str()));
        named.map(ApprovalView::of).collect()
    }

    fn answer(&self, query: &str) -> Reading {
        self.answers.get(query).cloned().unwrap_or(Reading::Empty)
    }

    /// What the operator observes of a pipeline.
    #[must_use]
    pub fn pipeline_observation(&self, name: &str) -> Option<PipelineObservation> {
        let pipeline: FlywheelPipeline = self.find(Kind::Pipeline, name)?;
        let uid = pipeline.metadata.uid.clone().unwrap_or_default();
        let pending = pipeline::pending_run(&pipeline);
        let all: Vec<FlywheelPipeline> = self.all(Kind::Pipeline);
        let runs: Vec<FlywheelRun> = self.all(Kind::Run);
        let versions: Vec<ModelVersion> = self.all(Kind::ModelVersion);
        let rollouts: Vec<Rollout> = self.all(Kind::Rollout);
        Some(PipelineObservation {
            now: self.now,
            settings: self.settings.clone(),
            siblings: all
                .iter()
                .filter(|p| p.spec.model.name == pipeline.spec.model.name && p.metadata.uid != pipeline.metadata.uid)
                .map(|p| (p.metadata.name.clone().unwrap_or_default(), created(&p.metadata)))
                .collect::<Vec<_>>()
                .into(),
            policies: self.policies(Some(&pipeline)),
            runs: runs
                .iter()
                .filter(|r| r.spec.pipeline_ref.name == name || r.metadata.name == pending)
                .map(|r| RunFact::of(r, &pipeline))
                .collect::<Vec<_>>()
                .into(),
            live: self.live_version(pipeline.spec.rollout.as_ref()).into(),
            untold: self.untold(pipeline.spec.rollout.as_ref()).into(),
            versions: versions
                .iter()
                .filter(|v| v.spec.model_name == pipeline.spec.model.name)
                .map(pipeline::VersionView::of)
                .collect::<Vec<_>>()
                .into(),
            rollouts: rollouts.iter().map(Delivery::of).collect::<Vec<_>>().into(),
            unreadable: self.unreadable_neighbours().into(),
            unreadable_runs: self
                .strange(Kind::Run, |_, run| run["spec"]["pipelineRef"]["name"] == *name)
                .into(),
            snapshots: self.snapshots(&uid).into(),
            answers: self.metric_answers(&pipeline),
            denied: None,
            pipeline,
        })
    }

    /// Versions and Rollouts that cannot be read.
    fn unreadable_neighbours(&self) -> Vec<String> {
        let all = self.unreadable.iter();
        let neighbours = all.filter(|(kind, _)| matches!(kind, Kind::ModelVersion | Kind::Rollout));
        neighbours.map(|(kind, name)| format!("{kind:?} {name}")).collect()
    }

    /// Rollouts of a target that cannot be read: what is known of one is its metadata.
    fn unreadable_peers(&self, target: &str) -> Vec<Peer> {
        let all = self.unreadable.iter().filter(|(kind, _)| *kind == Kind::Rollout);
        let of_target = all
            .filter_map(|key| self.raw(key))
            .filter(|o| o["spec"]["plan"]["targetRef"]["name"] == target);
        of_target
            .map(|o| Peer::unreadable(&super::object(o["metadata"].clone())))
            .collect()
    }

    /// Names of the objects of a kind that are meant and cannot be read.
    fn strange(&self, kind: Kind, meant: impl Fn(&str, &Value) -> bool) -> Vec<String> {
        let all = self.unreadable.iter().filter(|(of, _)| *of == kind);
        let meant = all.filter(|key| self.raw(key).is_some_and(|object| meant(&key.1, object)));
        meant.map(|(_, name)| name.clone()).collect()
    }

    /// What a Rollout must know of its pipeline, as far as that can be read.
    fn pipeline_facts(&self, name: &str) -> Option<PipelineFacts> {
        if let Some(pipeline) = self.find::<FlywheelPipeline>(Kind::Pipeline, name) {
            return Some(PipelineFacts::of(&pipeline, &self.policies(Some(&pipeline))));
        }
        let broken = self.raw(&(Kind::Pipeline, name.to_owned()))?;
        Some(PipelineFacts::unreadable(&super::object(broken["metadata"].clone())))
    }

    /// Name and UID of the snapshots of a pipeline.
    fn snapshots(&self, pipeline_uid: &str) -> Vec<(String, String)> {
        let all: Vec<ControllerRevision> = self.all(Kind::ControllerRevision);
        let labelled = all.into_iter().filter(|s| {
            let mut labels = s.metadata.labels.iter().flatten();
            labels.any(|(k, v)| k == names::LABEL_PIPELINE_UID && v == pipeline_uid)
        });
        labelled
            .map(|s| (s.metadata.name.unwrap_or_default(), s.metadata.uid.unwrap_or_default()))
            .collect()
    }

    /// Answers to the queries of metric triggers that are due.
    fn metric_answers(&self, pipeline: &FlywheelPipeline) -> Vec<MetricAnswer> {
        let due = pipeline::due_metrics(pipeline).into_iter();
        due.map(|(trigger, metric)| MetricAnswer {
            trigger,
            answer: match self.answer(&metric.query) {
                Reading::Value(v) => Ok(Some(v)),
                Reading::Empty => Ok(None),
                Reading::Error(why) => Err(why),
            },
        })
        .collect()
    }

    /// What the operator observes of a run.
    #[must_use]
    pub fn run_observation(&self, name: &str) -> Option<RunObservation> {
        let run: FlywheelRun = self.find(Kind::Run, name)?;
        let status = run.status.clone().unwrap_or_default();
        let pipeline: Option<FlywheelPipeline> = self.find(Kind::Pipeline, &run.spec.pipeline_ref.name);
        let snapshot = status.snapshot.as_ref().and_then(|s| self.snapshot(&s.name));
        let plan = match &snapshot {
            Some(s) => serde_json::from_value(s.data["rollout"].clone()).ok(),
            None => pipeline.as_ref().and_then(|p| p.spec.rollout.clone()),
        };
        let delivered = plan.as_ref().filter(|_| run::asks_for_live(&run));
        let model = pipeline.as_ref().map(|p| p.spec.model.name.clone()).unwrap_or_default();
        let version = status
            .model_version
            .as_ref()
            .map(|v| v.name.clone())
            .unwrap_or_default();
        let mut versions: Vec<ModelVersion> = self.all(Kind::ModelVersion);
        versions.retain(|v| v.spec.model_name == model || v.metadata.name.as_ref() == Some(&version));
        let named = status.rollout.as_ref().map_or(version.as_str(), |r| r.name.as_str());
        let rollout: Option<Rollout> = self.find(Kind::Rollout, named);
        let uid = run.metadata.uid.clone().unwrap_or_default();
        Some(RunObservation {
            now: self.now,
            settings: self.settings.clone(),
            policies: self.policies(pipeline.as_ref()).into(),
            snapshot,
            jobs: self.jobs(&uid).into(),
            peers: self.peers(&run).into(),
            live: self.live_version(delivered).into(),
            untold: self.untold(delivered).into(),
            version: versions
                .iter()
                .find(|v| v.metadata.name.as_ref() == Some(&version))
                .cloned()
                .into(),
            versions: versions.iter().map(VersionFact::of).collect::<Vec<_>>().into(),
            rollout: rollout.as_ref().map(RolloutView::of).into(),
            approvals: self.approvals(&[name, version.as_str()]).into(),
            unreadable: self.unreadable_around(&run, &model, named),
            denied: None,
            pipeline: pipeline.into(),
            run,
        })
    }

    /// Other runs, if they count.
    fn peers(&self, run: &FlywheelRun) -> Vec<run::Peer> {
        let all: Vec<FlywheelRun> = self.all(Kind::Run);
        let others = all
            .iter()
            .filter(|r| run::asks_for_peers(run) && r.metadata.uid != run.metadata.uid);
        others.filter_map(run::Peer::of).collect()
    }

    /// What a run depends on and cannot be read: its pipeline, versions of this model, and the Rollout of this name.
    fn unreadable_around(&self, run: &FlywheelRun, model: &str, rollout: &str) -> run::Unreadable {
        let pipeline = &run.spec.pipeline_ref.name;
        let version = run.status.as_ref().and_then(|s| s.model_version.as_ref());
        let version = version.map_or("", |v| &v.name);
        let of_model = |name: &str, found: &Value| found["spec"]["modelName"] == *model || name == version;
        run::Unreadable {
            pipeline: self.strange(Kind::Pipeline, |name, _| name == pipeline).into(),
            versions: self.strange(Kind::ModelVersion, of_model).into(),
            rollout: self.strange(Kind::Rollout, |name, _| name == rollout).into(),
        }
    }

    /// A snapshot as it is read back.
    fn snapshot(&self, name: &str) -> Option<SnapshotView> {
        let revision: ControllerRevision = self.find(Kind::ControllerRevision, name)?;
        Some(SnapshotView {
            name: revision.metadata.name.unwrap_or_default(),
            data: revision.data.map(|d| d.0).unwrap_or_default(),
        })
    }

    /// Jobs of a run, with their pods.
    fn jobs(&self, run_uid: &str) -> Vec<JobView> {
        let (jobs, pods): (Vec<Job>, Vec<Pod>) = (self.all(Kind::Job), self.all(Kind::Pod));
        let views = jobs.iter().map(|j| JobView::of(j, &pods));
        views.filter(|j| j.run_uid == run_uid).collect()
    }

    /// What the operator observes of a Rollout.
    #[must_use]
    pub fn rollout_observation(&self, name: &str) -> Option<RolloutObservation> {
        let rollout: Rollout = self.find(Kind::Rollout, name)?;
        let target = &rollout.spec.plan.target_ref.name;
        let all: Vec<Rollout> = self.all(Kind::Rollout);
        let pipeline = rollout
            .spec
            .pipeline_ref
            .as_ref()
            .and_then(|p| self.pipeline_facts(&p.name));
        let versions: Vec<ModelVersion> = self.all(Kind::ModelVersion);
        let answers = rollout::due_checks(&rollout, self.now).into_iter().map(|check| Answer {
            check: check.name.clone(),
            candidate: self.answer(&check.query),
            baseline: check.baseline_query.as_ref().map(|q| self.answer(q)),
            samples: check.samples_query.as_ref().map(|q| self.answer(q)),
        });
        Some(RolloutObservation {
            now: self.now,
            settings: self.settings.clone(),
            version: self
                .find::<ModelVersion>(Kind::ModelVersion, &rollout.spec.model_version_ref.name)
                .into(),
            target: self.find::<Deployment>(Kind::Deployment, target).into(),
            candidate: self
                .find::<Deployment>(Kind::Deployment, &rollout::candidate_name(&rollout.spec.plan))
                .into(),
            others: all
                .iter()
                .filter(|r| r.metadata.uid != rollout.metadata.uid && r.spec.plan.target_ref.name == *target)
                .map(Peer::of)
                .chain(self.unreadable_peers(target))
                .collect::<Vec<_>>()
                .into(),
            pipeline: pipeline.into(),
            versions: versions
                .iter()
                .map(|v| VersionView {
                    name: v.metadata.name.clone().unwrap_or_default(),
                    uri: v.spec.artifact.uri.0.clone(),
                })
                .collect::<Vec<_>>()
                .into(),
            approvals: self.approvals(&[name]).into(),
            answers: answers.collect(),
            denied: None,
            rollout,
        })
    }

    /// What the operator observes of a version.
    #[must_use]
    pub fn version_observation(&self, name: &str) -> Option<ModelVersionObservation> {
        let version: ModelVersion = self.find(Kind::ModelVersion, name)?;
        let made_by = version.spec.provenance.as_ref().map(|p| p.run.clone());
        let run: Option<FlywheelRun> = made_by.as_ref().and_then(|r| self.find(Kind::Run, &r.name));
        let run = run.filter(|r| made_by.is_some_and(|m| r.metadata.uid.as_deref() == Some(&m.uid)));
        let all: Vec<Rollout> = self.all(Kind::Rollout);
        let mine = |d: &Delivery| d.candidate == name || d.baseline.as_deref() == Some(name);
        let rollouts: Vec<&Rollout> = all.iter().filter(|r| mine(&Delivery::of(r))).collect();
        let pipelines: Vec<FlywheelPipeline> = self.all(Kind::Pipeline);
        let of_model = pipelines
            .iter()
            .filter(|p| p.spec.model.name == version.spec.model_name);
        let plans = of_model
            .filter_map(|p| p.spec.rollout.as_ref())
            .chain(rollouts.iter().map(|r| &r.spec.plan));
        let plans: Vec<(&RolloutPlan, Option<Deployment>)> = plans.map(|p| (p, self.target_of(p))).collect();
        let carries = |plan: &RolloutPlan, target: Option<&Deployment>| {
            let value = target.and_then(|t| binding::value(t, &plan.binding).ok().flatten());
            value == Some(binding::wanted(&plan.binding, &version.spec))
        };
        let aimed = || plans.iter().map(|(plan, target)| (*plan, target.as_ref()));
        let family: Vec<ModelVersion> = self.all(Kind::ModelVersion);
        let child = |v: &&ModelVersion| v.spec.parent.as_ref().is_some_and(|p| p.name == name);
        Some(ModelVersionObservation {
            now: self.now,
            run: run.into(),
            serves: plans
                .iter()
                .filter(|(plan, target)| carries(plan, target.as_ref()))
                .map(|(plan, _)| plan.target_ref.name.clone())
                .collect::<BTreeSet<_>>()
                .into(),
            untold: model_version::untold(aimed()).into(),
            told: model_version::told(aimed()).into(),
            unreadable: self.unreadable_near(&version),
            rollouts: rollouts
                .iter()
                .map(|r| Delivery::on(r, self.target_of(&r.spec.plan).as_ref()))
                .collect::<Vec<_>>()
                .into(),
            children: family
                .iter()
                .filter(child)
                .filter_map(|v| v.metadata.name.clone())
                .collect::<Vec<_>>()
                .into(),
            namespace_terminating: self.terminating,
            version,
        })
    }

    /// What a version depends on and cannot be read.
    fn unreadable_near(&self, version: &ModelVersion) -> model_version::Unreadable {
        let name = version.metadata.name.as_deref().unwrap_or_default();
        let model = &version.spec.model_name;
        let made_by = version.spec.provenance.as_ref().map(|p| &p.run);
        let is_run = |run: &Value| made_by.is_some_and(|r| run["metadata"]["uid"] == r.uid);
        let is_about = |rollout: &Value| {
            let metadata: ObjectMeta = super::object(rollout["metadata"].clone());
            model_version::may_be_about(&metadata, name)
        };
        let deleting = version.metadata.deletion_timestamp.is_some();
        model_version::Unreadable {
            run: self.strange(Kind::Run, |_, run| is_run(run)).into(),
            pipelines: self
                .strange(Kind::Pipeline, |_, p| p["spec"]["model"]["name"] == *model)
                .into(),
            rollouts: self.strange(Kind::Rollout, |_, rollout| is_about(rollout)).into(),
            others: self
                .strange(Kind::Rollout, |_, rollout| deleting && !is_about(rollout))
                .into(),
        }
    }

    /// What the operator observes of a bias policy.
    #[must_use]
    pub fn policy_observation(&self, name: &str) -> Option<BiasPolicyObservation> {
        let policy: BiasPolicy = self.find(Kind::BiasPolicy, name)?;
        let pipelines: Vec<FlywheelPipeline> = self.all(Kind::Pipeline);
        let applies = |p: &&FlywheelPipeline| !Policies::choose(p, vec![PolicyView::of(&policy)]).found.is_empty();
        let runs: Vec<FlywheelRun> = self.all(Kind::Run);
        let judged = |p: &FlywheelPipeline| {
            let pipeline = p.metadata.name.clone().unwrap_or_default();
            let last = runs.iter().rfind(|r| r.spec.pipeline_ref.name == pipeline);
            let status = last.and_then(|r| r.status.clone()).unwrap_or_default();
            Judged {
                pipeline,
                version: status.model_version.map(|v| v.name),
                verdicts: status.bias.into_iter().filter(|v| v.policy == name).collect(),
            }
        };
        Some(BiasPolicyObservation {
            now: self.now,
            pipelines: pipelines.iter().filter(applies).map(judged).collect(),
            policy,
        })
    }
}
