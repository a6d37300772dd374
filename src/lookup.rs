//! How a decision's objects are looked up: live before a write, in the stores of the watches otherwise.

use std::sync::Arc;

use flywheel_api::flywheel_pipeline::FlywheelPipeline;
use flywheel_api::rollout::RolloutPlan;
use flywheel_api::{Approval, BiasPolicy, FlywheelRun, ModelVersion, Rollout, names};
use flywheel_engine::approval::ApprovalView;
use flywheel_engine::bias::PolicyView;
use flywheel_engine::run::SnapshotView;
use flywheel_engine::view::Policies;
use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::ListParams;
use kube::{Api, Client, Error};

use crate::apply::Kind;
use crate::context::Context;
use crate::guard::Guard;
use crate::watch::{Known, Watched, Watches};

/// A kind that is looked up.
pub trait Looked: Kind + Send + Sync + 'static {
    /// Its watch, if its objects are kept.
    fn watched(_: &Watches) -> Option<&Watched<Guard<Self>>> {
        None
    }

    /// The value of a field by which its objects are chosen.
    fn field(&self, _: Field) -> Option<&str> {
        None
    }
}

impl Looked for ControllerRevision {}

impl Looked for Deployment {
    fn watched(watches: &Watches) -> Option<&Watched<Guard<Self>>> {
        Some(&watches.deployments)
    }
}

impl Looked for Job {
    fn watched(watches: &Watches) -> Option<&Watched<Guard<Self>>> {
        Some(&watches.jobs)
    }
}

impl Looked for Pod {
    fn watched(watches: &Watches) -> Option<&Watched<Guard<Self>>> {
        Some(&watches.pods)
    }
}

impl Looked for FlywheelPipeline {
    fn watched(watches: &Watches) -> Option<&Watched<Guard<Self>>> {
        Some(&watches.pipelines)
    }

    fn field(&self, field: Field) -> Option<&str> {
        matches!(field, Field::PipelineModel).then_some(&self.spec.model.name)
    }
}

impl Looked for FlywheelRun {
    fn watched(watches: &Watches) -> Option<&Watched<Guard<Self>>> {
        Some(&watches.runs)
    }

    fn field(&self, field: Field) -> Option<&str> {
        matches!(field, Field::RunPipeline).then_some(&self.spec.pipeline_ref.name)
    }
}

impl Looked for ModelVersion {
    fn watched(watches: &Watches) -> Option<&Watched<Guard<Self>>> {
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
    fn watched(watches: &Watches) -> Option<&Watched<Guard<Self>>> {
        Some(&watches.rollouts)
    }

    fn field(&self, field: Field) -> Option<&str> {
        matches!(field, Field::RolloutTarget).then_some(&self.spec.plan.target_ref.name)
    }
}

impl Looked for BiasPolicy {
    fn watched(watches: &Watches) -> Option<&Watched<Guard<Self>>> {
        Some(&watches.policies)
    }
}

impl Looked for Approval {
    fn watched(watches: &Watches) -> Option<&Watched<Guard<Self>>> {
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
            Self::Field(field, value) => object.field(field) == Some(value),
            Self::All | Self::Label(..) => self.takes_metadata(object.meta()).unwrap_or(false),
        }
    }

    /// Whether it takes an object of which nothing is known but its metadata, if these tell.
    fn takes_metadata(self, metadata: &ObjectMeta) -> Option<bool> {
        let label = |label: &str| metadata.labels.as_ref().and_then(|l| l.get(label));
        match self {
            Self::All => Some(true),
            Self::Field(..) => None,
            Self::Label(name, value) => Some(label(name).is_some_and(|found| found == value)),
        }
    }
}

/// Looks up objects of one namespace: of the API server, or as far as they reach, in the stores of the watches.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    client: &'a Client,
    watches: &'a Watches,
    /// What the watches know is not asked for.
    stored: bool,
    namespace: &'a str,
}

impl<'a> Reader<'a> {
    /// Asks the API server for everything.
    pub fn live(context: &'a Context, namespace: &'a str) -> Self {
        Self {
            client: &context.client,
            watches: &context.watches,
            stored: false,
            namespace,
        }
    }

    /// Takes what the watches know, and asks the API server for the rest.
    pub fn stored(context: &'a Context, namespace: &'a str) -> Self {
        Self {
            stored: true,
            ..Self::live(context, namespace)
        }
    }

    /// The same with what the watches know.
    #[must_use]
    pub const fn of_stores(self) -> Self {
        Self { stored: true, ..self }
    }

    /// The watches, if what they know is not asked for.
    fn stores(&self) -> Option<&'a Watches> {
        self.stored.then_some(self.watches)
    }

    /// The objects that the watches know and that the choice takes or, if they cannot be read, might take. They are in the
    /// order of their names, as the API server lists them: what is decided on a list must not depend on who lists it.
    fn here<K: Looked>(&self, choice: Choice<'_>) -> Option<Vec<Arc<Guard<K>>>> {
        let taken = |guard: &&Arc<Guard<K>>| match &guard.0 {
            Ok(object) => choice.takes(object),
            Err(broken) => choice.takes_metadata(&broken.metadata).unwrap_or(true),
        };
        let watched = K::watched(self.stores()?)?;
        watched.within(self.namespace, |here| here.filter(taken).cloned().collect())
    }

    /// The objects of the choice that the watches know, as the caller sees them; nothing if they do not: which value one
    /// that cannot be read has in a field, only the API server knows.
    fn chosen<K: Looked, T>(&self, choice: Choice<'_>, view: impl Fn(&K) -> T) -> Option<Guarded<T>> {
        let mut found = Guarded::none();
        for guard in self.here::<K>(choice)? {
            match &guard.0 {
                Ok(object) => found.readable.push(view(object)),
                Err(broken) => {
                    choice.takes_metadata(&broken.metadata)?;
                    found.unreadable.push(broken.metadata.clone());
                }
            }
        }
        Some(found)
    }

    /// The objects of the choice that the API server lists after this was called. A list of the whole namespace, which may
    /// be long, is made once for all who ask for it at the same time.
    async fn listed<K: Looked>(&self, choice: Choice<'_>) -> Result<Arc<Vec<Guard<K>>>, Error> {
        let api: Api<Guard<K>> = Api::namespaced(self.client.clone(), self.namespace);
        let params = choice.params();
        if let (Choice::All, Some(watched)) = (choice, K::watched(self.watches)) {
            let (api, params) = (api.clone(), params.clone());
            let list = move || async move { api.list(&params).await.ok().map(|all| all.items) };
            if let Some(all) = watched.lists.read(self.namespace, list).await {
                return Ok(all);
            }
        }
        Ok(Arc::new(api.list(&params).await?.items))
    }

    /// What the watches know of that name, if that is not asked for.
    fn known<K: Looked>(&self, name: &str) -> Known<Guard<K>> {
        let watched = self.stores().and_then(K::watched);
        watched.map_or(Known::Nothing, |watched| watched.known(self.namespace, name))
    }

    /// The object of that name, if it exists.
    pub async fn get<K: Looked>(&self, name: &str) -> Result<Option<K>, Error> {
        if name.is_empty() {
            return Ok(None);
        }
        match self.known::<K>(name) {
            Known::Here(guard) if guard.0.is_ok() => return Ok(guard.0.as_ref().ok().cloned()),
            Known::Missing => return Ok(None),
            Known::Here(_) | Known::Nothing => {}
        }
        let watched = K::watched(self.watches);
        let ask = watched.and_then(|watched| Some((watched, watched.ask(self.namespace, name)?)));
        let api = Api::<K>::namespaced(self.client.clone(), self.namespace);
        let found = api.get_opt(name).await?;
        if let Some((watched, ask)) = ask {
            watched.answered(ask, found.clone().map(|object| Guard(Ok(object))));
        }
        Ok(found)
    }

    /// The object of that name, if it exists, whether it can be read or not.
    pub async fn guard<K: Looked>(&self, name: &str) -> Result<Option<Guard<K>>, Error> {
        if name.is_empty() {
            return Ok(None);
        }
        match self.known::<K>(name) {
            Known::Here(guard) => return Ok(Some((*guard).clone())),
            Known::Missing => return Ok(None),
            Known::Nothing => {}
        }
        let all: Api<Guard<K>> = Api::namespaced(self.client.clone(), self.namespace);
        all.get_opt(name).await
    }

    /// The object of that name, if it exists and can be read.
    pub async fn readable<K: Looked>(&self, name: &str) -> Result<Option<K>, Error> {
        Ok(self.guard(name).await?.and_then(|guard| guard.0.ok()))
    }

    /// All objects of the choice.
    pub async fn list<K: Looked>(&self, choice: Choice<'_>) -> Result<Vec<K>, Error> {
        self.each(choice, K::clone).await
    }

    /// All objects of the choice as the caller sees them. There may be many: none is copied whole for a view of it.
    pub async fn each<K: Looked, T>(&self, choice: Choice<'_>, view: impl Fn(&K) -> T) -> Result<Vec<T>, Error> {
        if let Some(known) = self.chosen(choice, &view).filter(|known| known.unreadable.is_empty()) {
            return Ok(known.readable);
        }
        let all = self.listed::<K>(choice).await?;
        all.iter().map(|guard| guard.whole().map(&view)).collect()
    }

    /// All objects of the choice, whether they can be read or not.
    pub async fn guarded<K: Looked>(&self, choice: Choice<'_>) -> Result<Guarded<K>, Error> {
        self.each_guarded(choice, K::clone).await
    }

    /// All objects of the choice as the caller sees them, whether they can be read or not.
    pub async fn each_guarded<K: Looked, T>(
        &self,
        choice: Choice<'_>,
        view: impl Fn(&K) -> T,
    ) -> Result<Guarded<T>, Error> {
        if let Some(known) = self.chosen(choice, &view) {
            return Ok(known);
        }
        let mut found = Guarded::none();
        for Guard(one) in self.listed::<K>(choice).await?.iter() {
            match one {
                Ok(object) => found.readable.push(view(object)),
                Err(broken) => found.unreadable.push(broken.metadata.clone()),
            }
        }
        Ok(found)
    }

    /// All objects of the choice that can be read, as the caller sees them.
    pub async fn each_readable<K: Looked, T>(
        &self,
        choice: Choice<'_>,
        view: impl Fn(&K) -> T,
    ) -> Result<Vec<T>, Error> {
        if let Some(here) = self.here::<K>(choice) {
            let readable = here.iter().filter_map(|guard| guard.0.as_ref().ok());
            return Ok(readable.map(view).collect());
        }
        Ok(self.each_guarded(choice, view).await?.readable)
    }

    /// The metadata of a pipeline's snapshots; what is in them is of use to their runs alone.
    pub async fn snapshots(&self, pipeline_uid: &str) -> Result<Vec<ObjectMeta>, Error> {
        let mine = Choice::Label(names::LABEL_PIPELINE_UID, pipeline_uid);
        let known = self.stores().and_then(|stores| {
            stores.snapshots.within(self.namespace, |here| {
                let all = here.map(|snapshot| &snapshot.metadata);
                all.filter(|m| mine.takes_metadata(m) == Some(true)).cloned().collect()
            })
        });
        if let Some(known) = known {
            return Ok(known);
        }
        let api = Api::<ControllerRevision>::namespaced(self.client.clone(), self.namespace);
        let all = api.list_metadata(&mine.params()).await?;
        Ok(all.items.into_iter().map(|snapshot| snapshot.metadata).collect())
    }

    /// A snapshot of a pipeline. What is in one never changes: it is asked for once.
    pub async fn snapshot(&self, name: &str) -> Result<Option<SnapshotView>, Error> {
        let stores = self.stores();
        let known = stores.and_then(|stores| stores.snapshots.find(self.namespace, name));
        if let Some(uid) = known.as_ref().and_then(|known| known.metadata.uid.as_deref())
            && let Some(found) = self.watches.contents.get(uid)
        {
            return Ok(Some(found));
        }
        let found: Option<ControllerRevision> = self.get(name).await?;
        Ok(found.map(|revision| {
            let uid = revision.metadata.uid.clone().unwrap_or_default();
            let view = SnapshotView {
                name: name.to_owned(),
                data: revision.data.map(|data| data.0).unwrap_or_default(),
            };
            self.watches.contents.keep(uid, view.clone());
            view
        }))
    }

    /// All versions of a model, whether they can be read or not.
    pub async fn versions(&self, model: &str) -> Result<Guarded<ModelVersion>, Error> {
        self.guarded(Choice::Field(Field::VersionModel, model)).await
    }

    /// All Rollouts to a target as the caller sees them, whether they can be read or not.
    pub async fn rollouts_to<T>(&self, target: &str, view: impl Fn(&Rollout) -> T) -> Result<Guarded<T>, Error> {
        self.each_guarded(Choice::Field(Field::RolloutTarget, target), view)
            .await
    }

    /// The target of a plan, if there is a plan and it exists.
    pub async fn target(&self, plan: Option<&RolloutPlan>) -> Result<Option<Deployment>, Error> {
        self.get(plan.map_or("", |plan| &plan.target_ref.name)).await
    }

    /// Bias policies that apply to a pipeline.
    pub async fn policies(&self, pipeline: Option<&FlywheelPipeline>) -> Result<Policies, Error> {
        let Some(pipeline) = pipeline else {
            return Ok(Policies::default());
        };
        let applying = |policy: &BiasPolicy| {
            let name = policy.metadata.name.as_deref().unwrap_or_default();
            Policies::apply(pipeline, name, &policy.spec).then(|| PolicyView::of(policy))
        };
        let all = self.each_guarded(Choice::All, applying).await?;
        let unreadable = all.unreadable_names();
        let found = all.readable.into_iter().flatten().collect();
        Ok(Policies::choose(pipeline, found).with_unreadable(unreadable))
    }

    /// The same by what the watches know, for who decides nothing that another does not decide again on live reads: there
    /// may be many policies, and large ones.
    pub async fn known_policies(&self, pipeline: &FlywheelPipeline) -> Result<Policies, Error> {
        self.of_stores().policies(Some(pipeline)).await
    }

    /// Approvals whose subject has this name; one that cannot be read approves nothing.
    pub async fn approvals(&self, subject: &str) -> Result<Vec<ApprovalView>, Error> {
        if subject.is_empty() {
            return Ok(Vec::new());
        }
        let of_subject = Choice::Field(Field::ApprovalSubject, subject);
        self.each_readable(of_subject, ApprovalView::of).await
    }

    /// Whether the namespace is being deleted.
    pub async fn terminating(&self) -> Result<bool, Error> {
        let found = Api::<Namespace>::all(self.client.clone())
            .get_opt(self.namespace)
            .await?;
        Ok(found.is_none_or(|n| n.metadata.deletion_timestamp.is_some()))
    }
}

/// Objects, or views of them, for what must not stand still because of one that cannot be read.
pub struct Guarded<T> {
    /// Those that can be read.
    pub readable: Vec<T>,
    /// The metadata of the others.
    pub unreadable: Vec<ObjectMeta>,
}

impl<T> Guarded<T> {
    /// Nothing.
    pub const fn none() -> Self {
        Self {
            readable: Vec::new(),
            unreadable: Vec::new(),
        }
    }

    /// Adds an object.
    pub fn add(&mut self, guard: Guard<T>) {
        match guard.0 {
            Ok(object) => self.readable.push(object),
            Err(broken) => self.unreadable.push(broken.metadata),
        }
    }

    /// The names of those that cannot be read.
    pub fn unreadable_names(&self) -> Vec<String> {
        self.unreadable.iter().filter_map(|m| m.name.clone()).collect()
    }
}
