//! Live reads that several controllers share.

use flywheel_api::flywheel_pipeline::FlywheelPipeline;
use flywheel_api::rollout::RolloutPlan;
use flywheel_api::{Approval, BiasPolicy, ModelVersion, Rollout};
use flywheel_engine::approval::ApprovalView;
use flywheel_engine::bias::PolicyView;
use flywheel_engine::view::{LiveView, Policies};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::ListParams;
use kube::core::DeserializeGuard;
use kube::{Api, Client, Error, Resource};

use crate::apply::Kind;

/// The object of that name, if it exists.
pub async fn get<K: Kind>(client: &Client, namespace: &str, name: &str) -> Result<Option<K>, Error> {
    if name.is_empty() {
        return Ok(None);
    }
    Api::<K>::namespaced(client.clone(), namespace).get_opt(name).await
}

/// All objects that the parameters choose.
pub async fn list<K: Kind>(client: &Client, namespace: &str, params: ListParams) -> Result<Vec<K>, Error> {
    Ok(Api::<K>::namespaced(client.clone(), namespace)
        .list(&params)
        .await?
        .items)
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

/// All objects that the parameters choose, whether they can be read or not.
pub async fn guarded<K: Kind>(client: &Client, namespace: &str, params: ListParams) -> Result<Guarded<K>, Error> {
    let all: Api<DeserializeGuard<K>> = Api::namespaced(client.clone(), namespace);
    let mut found = Guarded {
        readable: Vec::new(),
        unreadable: Vec::new(),
    };
    for DeserializeGuard(one) in all.list(&params).await? {
        match one {
            Ok(object) => found.readable.push(object),
            Err(broken) => found.unreadable.push(broken.metadata),
        }
    }
    Ok(found)
}

/// Chooses the versions of a model.
pub fn of_model(model: &str) -> ListParams {
    ListParams::default().fields(&format!("spec.modelName={model}"))
}

/// Chooses the pipelines of a model.
pub fn pipelines_of(model: &str) -> ListParams {
    ListParams::default().fields(&format!("spec.model.name={model}"))
}

/// All versions of a model, whether they can be read or not.
pub async fn versions(client: &Client, namespace: &str, model: &str) -> Result<Guarded<ModelVersion>, Error> {
    guarded(client, namespace, of_model(model)).await
}

/// All Rollouts to a target.
pub async fn rollouts_to(client: &Client, namespace: &str, target: &str) -> Result<Guarded<Rollout>, Error> {
    guarded(
        client,
        namespace,
        ListParams::default().fields(&format!("spec.plan.targetRef.name={target}")),
    )
    .await
}

/// The version that serves on the plan's target: the binding's value decides.
pub async fn live(
    client: &Client,
    namespace: &str,
    plan: Option<&RolloutPlan>,
    versions: &[ModelVersion],
) -> Result<Option<LiveView>, Error> {
    let Some(plan) = plan else {
        return Ok(None);
    };
    let target: Option<Deployment> = get(client, namespace, &plan.target_ref.name).await?;
    Ok(LiveView::served(target.as_ref(), plan, versions))
}

/// Bias policies that apply to a pipeline.
pub async fn policies(
    client: &Client,
    namespace: &str,
    pipeline: Option<&FlywheelPipeline>,
) -> Result<Policies, Error> {
    let Some(pipeline) = pipeline else {
        return Ok(Policies::default());
    };
    let all: Guarded<BiasPolicy> = guarded(client, namespace, ListParams::default()).await?;
    let found = Policies::choose(pipeline, all.readable.iter().map(PolicyView::of).collect());
    Ok(found.with_unreadable(all.unreadable_names()))
}

/// Approvals whose subject has this name; one that cannot be read approves nothing.
pub async fn approvals(client: &Client, namespace: &str, subject: &str) -> Result<Vec<ApprovalView>, Error> {
    if subject.is_empty() {
        return Ok(Vec::new());
    }
    let params = ListParams::default().fields(&format!("spec.subjectRef.name={subject}"));
    let all: Guarded<Approval> = guarded(client, namespace, params).await?;
    Ok(all.readable.iter().map(ApprovalView::of).collect())
}

/// Whether the namespace is being deleted.
pub async fn terminating(client: &Client, namespace: &str) -> Result<bool, Error> {
    let found = Api::<Namespace>::all(client.clone()).get_opt(namespace).await?;
    Ok(found.is_none_or(|n| n.metadata.deletion_timestamp.is_some()))
}
