//! Carries out one action with its preconditions.
//!
//! A conflict, an object that is there already or gone already are no errors: the world has moved on, and the next look
//! decides anew.

use flywheel_api::{FlywheelRun, ModelVersion, Rollout, names};
use flywheel_engine::decision::{Action, Child, ChildKind, ObjectKey, PatchKind};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment};
use k8s_openapi::api::batch::v1::Job;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy};
use kube::{Api, Client, Error, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

/// What became of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The write was done.
    Done,
    /// The precondition did not hold any more: nothing was written.
    Outdated,
}

/// Carries out one action in this namespace.
///
/// # Errors
/// Whatever the API server or the way to it says, but for failed preconditions.
pub async fn apply(client: &Client, namespace: &str, action: Action) -> Result<Applied, Error> {
    let outcome = match action {
        Action::Create(child) => create(client, namespace, *child).await,
        Action::Patch(patch) => match patch.object.kind {
            ChildKind::Deployment => change::<Deployment>(client, namespace, *patch).await,
            ChildKind::FlywheelRun => change::<FlywheelRun>(client, namespace, *patch).await,
            ChildKind::ModelVersion => change::<ModelVersion>(client, namespace, *patch).await,
            ChildKind::Rollout => change::<Rollout>(client, namespace, *patch).await,
            ChildKind::Job => change::<Job>(client, namespace, *patch).await,
            ChildKind::ControllerRevision => change::<ControllerRevision>(client, namespace, *patch).await,
        },
        Action::Delete(key) => match key.kind {
            ChildKind::Deployment => delete::<Deployment>(client, namespace, &key).await,
            ChildKind::FlywheelRun => delete::<FlywheelRun>(client, namespace, &key).await,
            ChildKind::ModelVersion => delete::<ModelVersion>(client, namespace, &key).await,
            ChildKind::Rollout => delete::<Rollout>(client, namespace, &key).await,
            ChildKind::Job => delete::<Job>(client, namespace, &key).await,
            ChildKind::ControllerRevision => delete::<ControllerRevision>(client, namespace, &key).await,
        },
    };
    match outcome {
        Ok(()) => Ok(Applied::Done),
        Err(Error::Api(status)) if status.is_conflict() || status.is_not_found() || status.is_already_exists() => {
            Ok(Applied::Outdated)
        }
        Err(error) => Err(error),
    }
}

async fn create(client: &Client, namespace: &str, child: Child) -> Result<(), Error> {
    match child {
        Child::Job(object) => make(client, namespace, object).await,
        Child::ControllerRevision(object) => make(client, namespace, object).await,
        Child::FlywheelRun(object) => make(client, namespace, object).await,
        Child::ModelVersion(object) => make(client, namespace, object).await,
        Child::Rollout(object) => make(client, namespace, object).await,
        Child::Deployment(object) => make(client, namespace, object).await,
    }
}

/// What the API of a kind needs.
pub trait Kind:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Serialize + std::fmt::Debug
{
}
impl<K> Kind for K where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + Serialize
        + std::fmt::Debug
{
}

/// Every write names its manager, so that users see who wrote which field.
pub fn post() -> PostParams {
    PostParams {
        field_manager: Some(names::FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    }
}

/// The same for patches.
pub fn patching() -> PatchParams {
    PatchParams {
        field_manager: Some(names::FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    }
}

async fn make<K: Kind>(client: &Client, namespace: &str, object: K) -> Result<(), Error> {
    Api::<K>::namespaced(client.clone(), namespace)
        .create(&post(), &object)
        .await
        .map(drop)
}

async fn change<K: Kind>(
    client: &Client,
    namespace: &str,
    patch: flywheel_engine::decision::Patch,
) -> Result<(), Error> {
    let mut body = patch.body;
    if let (Some(version), Some(fields)) = (&patch.object.resource_version, body.as_object_mut()) {
        let metadata = fields.entry("metadata").or_insert_with(|| json!({}));
        if let Some(metadata) = metadata.as_object_mut() {
            metadata.insert("resourceVersion".to_owned(), json!(version));
            metadata.insert("uid".to_owned(), json!(patch.object.uid));
        }
    }
    let params = patching();
    let api = Api::<K>::namespaced(client.clone(), namespace);
    let name = &patch.object.name;
    match patch.kind {
        PatchKind::Merge => api.patch(name, &params, &Patch::Merge(body)).await.map(drop),
        PatchKind::Strategic => api.patch(name, &params, &Patch::Strategic(body)).await.map(drop),
    }
}

async fn delete<K: Kind>(client: &Client, namespace: &str, key: &ObjectKey) -> Result<(), Error> {
    let params = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Background),
        preconditions: Some(Preconditions {
            uid: Some(key.uid.clone()),
            resource_version: key.resource_version.clone(),
        }),
        ..DeleteParams::default()
    };
    Api::<K>::namespaced(client.clone(), namespace)
        .delete(&key.name, &params)
        .await
        .map(drop)
}
