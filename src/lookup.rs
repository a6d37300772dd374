//! How a decision's objects are looked up: live before a write, in the stores of the watches otherwise.

use std::sync::Arc;

use flywheel_api::flywheel_pipeline::FlywheelPipeline;
use flywheel_api::rollout::RolloutPlan;
use flywheel_api::{Approval, BiasPolicy, FlywheelRun, ModelVersion, Rollout};
use flywheel_engine::approval::ApprovalView;
use flywheel_engine::bias::PolicyView;
use flywheel_engine::view::{LiveView, Policies};
use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::ListParams;
use kube::core::DeserializeGuard;
use kube::{Api, Client, Error, Resource};

use crate::apply::Kind;
use crate::context::Context;
use crate::watch::{Watched, Watches};

/// A kind that is looked up.
pub trait Looked: Kind + Send + Sync + 'static {
    /// Its watch, if its objects are kept.
    fn watched(_: &Watches) -> Option<&Watched<DeserializeGuard<Self>>> {
        None
    }

    /// The value of a field by which its objects are chosen.
    fn field(&self, _: Field) -> Option<&str> {
        None
    }
}

impl Looked for ControllerRevision {}
impl Looked for Deployment {}
impl Looked for Job {}
impl Looked for Pod {}

impl Looked for FlywheelPipeline {
    fn watched(watches: &Watches) -> Option<&Watched<DeserializeGuard<Self>>> {
        Some(&watches.pipelines)
    }

    fn field(&self, field: Field) -> Option<&str> {
        matches!(field, Field::PipelineModel).then_some(&self.spec.model.name)
    }
}

impl Looked for FlywheelRun {
    fn watched(watches: &Watches) -> Option<&Watched<DeserializeGuard<Self>>> {
        Some(&watches.runs)
    }

    fn field(&self, field: Field) -> Option<&str> {
        matches!(field, Field::RunPipeline).then_some(&self.spec.pipeline_ref.name)
    }
}

impl Looked for ModelVersion {
    fn watched(watches: &Watches) -> Option<&Watched<DeserializeGuard<Self>>> {
        Some(&watches.versions)
    }

    fn field(&self, field: Field) -> Option<&str> {
        match field {
            Field::VersionModel => Some(&self.spec.model_name),
            _ => None,
        }
    }
}

impl Looked for Rollout {
    fn watched(watches: &Watches) -> Option<&Watched<DeserializeGuard<Self>>> {
        Some(&watches.rollouts)
    }

    fn field(&self, field: Field) -> Option<&str> {
        matches!(field, Field::RolloutTarget).then_some(&self.spec.plan.target_ref.name)
    }
}

impl Looked for BiasPolicy {
    fn watched(watches: &Watches) -> Option<&Watched<DeserializeGuard<Self>>> {
        Some(&watches.policies)
    }
}

impl Looked for Approval {
    fn watched(watches: &Watches) -> Option<&Watched<DeserializeGuard<Self>>> {
        Some(&watches.approvals)
    }

    fn field(&self, field: Field) -> Option<&str> {
        matches!(field, Field::ApprovalSubject).then_some(&self.spec.subject_ref.name)
    }
}

/// A field by which objects are chosen: each is a selectable field of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Of a pipeline: its model.
    PipelineModel,
    /// Of a run: its pipeline.
    RunPipeline,
    /// Of a version: its model.
    VersionModel,
    /// Of a Rollout: its target.
    RolloutTarget,
    /// Of an Approval: its subject.
    ApprovalSubject,
}

impl Field {
    const fn path(self) -> &'static str {
        match self {
            Self::PipelineModel => "spec.model.name",
            Self::RunPipeline => "spec.pipelineRef.name",
            Self::VersionModel => "spec.modelName",
            Self::RolloutTarget => "spec.plan.targetRef.name",
            Self::ApprovalSubject => "spec.subjectRef.name",
        }
    }
}

/// Which objects of a namespace are looked up.
#[derive(Clone, Copy, Debug)]
pub enum Choice<'a> {
    /// All.
    All,
    /// Those with this value in this field.
    Field(Field, &'a str),
    /// Those with this value of this label.
    Label(&'static str, &'a str),
}

impl Choice<'_> {
    fn params(self) -> ListParams {
        match self {
            Self::All => ListParams::default(),
            Self::Field(field, value) => ListParams::default().fields(&format!("{}={value}", field.path())),
            Self::Label(label, value) => ListParams::default().labels(&format!("{label}={value}")),
        }
    }

    fn takes<K: Looked>(self, object: &K) -> bool {
        match self {
            Self::All => true,
            Self::Field(field, value) => object.field(field) == Some(value),
            Self::Label(label, value) => object
                .meta()
                .labels
                .as_ref()
                .and_then(|l| l.get(label))
                .is_some_and(|v| v == value),
        }
    }
}

/// Looks up objects of one namespace: of the API server, or as far as they reach, in the stores of the watches.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    client: &'a Client,
    stores: Option<&'a Watches>,
    namespace: &'a str,
}

impl<'a> Reader<'a> {
    /// Asks the API server for everything.
    pub const fn live(context: &'a Context, namespace: &'a str) -> Self {
        Self {
            client: &context.client,
            stores: None,
            namespace,
        }
    }

    /// Takes what the watches know, and asks the API server for the rest.
    pub fn stored(context: &'a Context, namespace: &'a str) -> Self {
        Self {
            stores: Some(&context.watches),
            ..Self::live(context, namespace)
        }
    }

    /// The objects of the namespace that the watches know; nothing if they do not, or if one cannot be read: which
    /// choice that one belongs to, only the API server knows.
    fn known<K: Looked>(&self) -> Option<Vec<Arc<DeserializeGuard<K>>>> {
        let mut all = K::watched(self.stores?)?.known()?;
        all.retain(|guard| guard.meta().namespace.as_deref() == Some(self.namespace));
        all.iter().all(|guard| guard.0.is_ok()).then_some(all)
    }

    fn chosen<K: Looked>(&self, choice: Choice<'_>) -> Option<Vec<K>> {
        let known = self.known::<K>()?;
        let readable = known.iter().filter_map(|guard| guard.0.as_ref().ok());
        Some(readable.filter(|o| choice.takes(*o)).cloned().collect())
    }

    /// The object of that name, if it exists.
    pub async fn get<K: Looked>(&self, name: &str) -> Result<Option<K>, Error> {
        if name.is_empty() {
            return Ok(None);
        }
        if let Some(watched) = self.stores.and_then(K::watched) {
            let found = watched.find(self.namespace, name);
            if let Some(Ok(object)) = found.as_deref().map(|guard| &guard.0) {
                return Ok(Some(object.clone()));
            }
        }
        Api::<K>::namespaced(self.client.clone(), self.namespace)
            .get_opt(name)
            .await
    }

    /// The object of that name, if it exists and can be read.
    pub async fn readable<K: Looked>(&self, name: &str) -> Result<Option<K>, Error> {
        if let Some(found) = self
            .stores
            .and_then(K::watched)
            .and_then(|w| w.find(self.namespace, name))
        {
            return Ok(found.0.as_ref().ok().cloned());
        }
        let all: Api<DeserializeGuard<K>> = Api::namespaced(self.client.clone(), self.namespace);
        Ok(all.get_opt(name).await?.and_then(|guard| guard.0.ok()))
    }

    /// All objects of the choice.
    pub async fn list<K: Looked>(&self, choice: Choice<'_>) -> Result<Vec<K>, Error> {
        if let Some(chosen) = self.chosen(choice) {
            return Ok(chosen);
        }
        let api = Api::<K>::namespaced(self.client.clone(), self.namespace);
        Ok(api.list(&choice.params()).await?.items)
    }

    /// All objects of the choice, whether they can be read or not.
    pub async fn guarded<K: Looked>(&self, choice: Choice<'_>) -> Result<Guarded<K>, Error> {
        if let Some(readable) = self.chosen(choice) {
            return Ok(Guarded {
                readable,
                unreadable: Vec::new(),
            });
        }
        let all: Api<DeserializeGuard<K>> = Api::namespaced(self.client.clone(), self.namespace);
        let mut found = Guarded {
            readable: Vec::new(),
            unreadable: Vec::new(),
        };
        for DeserializeGuard(one) in all.list(&choice.params()).await? {
            match one {
                Ok(object) => found.readable.push(object),
                Err(broken) => found.unreadable.push(broken.metadata),
            }
        }
        Ok(found)
    }

    /// All pipelines of a model.
    pub async fn pipelines(&self, model: &str) -> Result<Vec<FlywheelPipeline>, Error> {
        self.list(Choice::Field(Field::PipelineModel, model)).await
    }

    /// All versions of a model, whether they can be read or not.
    pub async fn versions(&self, model: &str) -> Result<Guarded<ModelVersion>, Error> {
        self.guarded(Choice::Field(Field::VersionModel, model)).await
    }

    /// All Rollouts to a target.
    pub async fn rollouts_to(&self, target: &str) -> Result<Guarded<Rollout>, Error> {
        self.guarded(Choice::Field(Field::RolloutTarget, target)).await
    }

    /// The version that serves on the plan's target: the binding's value decides.
    pub async fn live_version(
        &self,
        plan: Option<&RolloutPlan>,
        versions: &[ModelVersion],
    ) -> Result<Option<LiveView>, Error> {
        let Some(plan) = plan else {
            return Ok(None);
        };
        let target: Option<Deployment> = self.get(&plan.target_ref.name).await?;
        Ok(LiveView::served(target.as_ref(), plan, versions))
    }

    /// Bias policies that apply to a pipeline.
    pub async fn policies(&self, pipeline: Option<&FlywheelPipeline>) -> Result<Policies, Error> {
        let Some(pipeline) = pipeline else {
            return Ok(Policies::default());
        };
        // Not copied whole: there may be many, and each is looked through by every pipeline.
        if let Some(known) = self.known::<BiasPolicy>() {
            let readable = known.iter().filter_map(|guard| guard.0.as_ref().ok());
            return Ok(Policies::choose(pipeline, readable.map(PolicyView::of).collect()));
        }
        let all: Guarded<BiasPolicy> = self.guarded(Choice::All).await?;
        let found = Policies::choose(pipeline, all.readable.iter().map(PolicyView::of).collect());
        Ok(found.with_unreadable(all.unreadable_names()))
    }

    /// Approvals whose subject has this name; one that cannot be read approves nothing.
    pub async fn approvals(&self, subject: &str) -> Result<Vec<ApprovalView>, Error> {
        if subject.is_empty() {
            return Ok(Vec::new());
        }
        let all: Guarded<Approval> = self.guarded(Choice::Field(Field::ApprovalSubject, subject)).await?;
        Ok(all.readable.iter().map(ApprovalView::of).collect())
    }

    /// Whether the namespace is being deleted.
    pub async fn terminating(&self) -> Result<bool, Error> {
        let found = Api::<Namespace>::all(self.client.clone())
            .get_opt(self.namespace)
            .await?;
        Ok(found.is_none_or(|n| n.metadata.deletion_timestamp.is_some()))
    }
}

/// Objects for what must not stand still because of one that cannot be read.
pub struct Guarded<K> {
    /// Those that can be read.
    pub readable: Vec<K>,
    /// The metadata of the others.
    pub unreadable: Vec<ObjectMeta>,
}

impl<K: Resource> Guarded<K> {
    /// The metadata of all of them.
    pub fn metadata(&self) -> impl Iterator<Item = &ObjectMeta> {
        self.readable.iter().map(K::meta).chain(&self.unreadable)
    }

    /// The names of those that cannot be read.
    pub fn unreadable_names(&self) -> Vec<String> {
        self.unreadable.iter().filter_map(|m| m.name.clone()).collect()
    }
}
