//! The API server, with the user's own credentials; every error says which request failed.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::DeserializeGuard;
use kube::{Api, Client, Config, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::args::Connection;
use crate::error::{Error, Request, refused};

/// Field manager of everything that the plugin writes.
pub const FIELD_MANAGER: &str = "kubectl-flywheel";

/// A namespaced kind.
pub trait Kind:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + DeserializeOwned
    + Serialize
    + Send
    + Sync
    + 'static
{
}

impl<K> Kind for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Serialize
        + Send
        + Sync
        + 'static
{
}

/// Plural and group.
#[must_use]
pub fn resource<K: Kind>() -> String {
    let (plural, group) = (K::plural(&()), K::group(&()));
    if group.is_empty() {
        plural.into_owned()
    } else {
        format!("{plural}.{group}")
    }
}

/// A cluster and a namespace.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    /// Namespace; empty for all.
    pub namespace: String,
    /// Objects that were left out of lists, each told once.
    unreadable: Arc<Mutex<BTreeSet<String>>>,
}

impl Cluster {
    /// Follows the kubeconfig as kubectl does.
    pub async fn connect(wanted: &Connection) -> Result<Self, Error> {
        let config = config(wanted).await?;
        let namespace = wanted
            .namespace
            .clone()
            .unwrap_or_else(|| config.default_namespace.clone());
        let server = config.cluster_url.to_string();
        let client = Client::try_from(config).map_err(|error| Error::Connection {
            what: format!("cannot talk to {server}"),
            why: error.to_string(),
        })?;
        Ok(Self {
            client,
            namespace,
            unreadable: Arc::default(),
        })
    }

    /// A cluster that this client reaches.
    #[cfg(test)]
    pub fn of(client: Client, namespace: &str) -> Self {
        Self {
            client,
            namespace: namespace.to_owned(),
            unreadable: Arc::default(),
        }
    }

    /// The same cluster in another namespace; in all of them if it is empty.
    #[must_use]
    pub fn within(&self, namespace: &str) -> Self {
        Self {
            client: self.client.clone(),
            namespace: namespace.to_owned(),
            unreadable: Arc::clone(&self.unreadable),
        }
    }

    /// The objects of a kind.
    #[must_use]
    pub fn api<K: Resource<DynamicType = (), Scope = NamespaceResourceScope>>(&self) -> Api<K> {
        if self.namespace.is_empty() {
            Api::all(self.client.clone())
        } else {
            Api::namespaced(self.client.clone(), &self.namespace)
        }
    }

    fn request<K: Kind>(&self, verb: &'static str, name: &str) -> Request {
        Request {
            verb,
            resource: resource::<K>(),
            name: name.to_owned(),
            namespace: self.namespace.clone(),
        }
    }

    /// The object of that name.
    pub async fn get<K: Kind>(&self, name: &str) -> Result<K, Error> {
        let found = self.api::<K>().get(name).await;
        found.map_err(|e| self.request::<K>("get", name).failed(&e))
    }

    /// The objects that the parameters choose; one that cannot be read is left out, with a warning that names it.
    pub async fn list<K: Kind>(&self, params: &ListParams) -> Result<Vec<K>, Error> {
        let (read, rest) = self.apart::<K>(params).await?;
        for Unreadable { metadata, why } in rest {
            let what = named::<K>(&metadata);
            let first = self.unreadable.lock().is_ok_and(|mut told| told.insert(what.clone()));
            if first {
                eprintln!("warning: {what} cannot be read and is left out: {why}");
            }
        }
        Ok(read)
    }

    /// All objects of a kind, for a check that may leave out none: one that cannot be read is an error.
    pub async fn every<K: Kind>(&self) -> Result<Vec<K>, Error> {
        let (read, rest) = self.apart::<K>(&ListParams::default()).await?;
        match rest.into_iter().next() {
            Some(Unreadable { metadata, why }) => refused(format!("{} cannot be read: {why}", named::<K>(&metadata))),
            None => Ok(read),
        }
    }

    async fn apart<K: Kind>(&self, params: &ListParams) -> Result<(Vec<K>, Vec<Unreadable>), Error> {
        let found = self.api::<DeserializeGuard<K>>().list(params).await;
        found
            .map(|list| apart(list.items))
            .map_err(|e| self.request::<K>("list", "").failed(&e))
    }

    /// What was left out of lists until now, in the words of [`named`].
    #[must_use]
    pub fn unreadable(&self) -> Vec<String> {
        let told = self.unreadable.lock();
        told.map(|told| told.iter().cloned().collect()).unwrap_or_default()
    }

    /// Creates the object; nothing if one of its name exists.
    pub async fn create<K: Kind>(&self, object: &K) -> Result<Option<K>, Error> {
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        match self.api::<K>().create(&params, object).await {
            Ok(created) => Ok(Some(created)),
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(None),
            Err(error) => {
                let name = object.meta().name.clone().unwrap_or_default();
                Err(self.request::<K>("create", &name).failed(&error))
            }
        }
    }

    /// Changes the fields that the body names.
    pub async fn patch<K: Kind>(&self, name: &str, body: &Value) -> Result<K, Error> {
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let changed = self.api::<K>().patch(name, &params, &Patch::Merge(body)).await;
        changed.map_err(|e| self.request::<K>("patch", name).failed(&e))
    }

    /// Who the API server says that you are.
    pub async fn me(&self) -> Result<String, Error> {
        let request = Request {
            verb: "create",
            resource: "selfsubjectreviews.authentication.k8s.io".to_owned(),
            name: "you".to_owned(),
            namespace: String::new(),
        };
        let review = Api::<SelfSubjectReview>::all(self.client.clone())
            .create(&PostParams::default(), &SelfSubjectReview::default())
            .await
            .map_err(|e| request.failed(&e))?;
        let user = review.status.and_then(|s| s.user_info).and_then(|u| u.username);
        user.filter(|u| !u.is_empty()).ok_or_else(|| {
            Error::Refused("the API server does not say who you are: log in, or choose another --context".to_owned())
        })
    }
}

/// An object that the plugin cannot read, such as one of a newer operator.
struct Unreadable {
    metadata: ObjectMeta,
    why: String,
}

/// What of a list can be read, and the rest.
fn apart<K: Kind>(items: Vec<DeserializeGuard<K>>) -> (Vec<K>, Vec<Unreadable>) {
    let (mut read, mut rest) = (Vec::new(), Vec::new());
    for item in items {
        match item.0 {
            Ok(object) => read.push(object),
            Err(invalid) => rest.push(Unreadable {
                metadata: invalid.metadata,
                why: invalid.error,
            }),
        }
    }
    (read, rest)
}

/// `rollouts.flywheel.dev/eta-7 in namespace ml`
#[must_use]
pub fn named<K: Kind>(metadata: &ObjectMeta) -> String {
    let (name, namespace) = (metadata.name.as_deref(), metadata.namespace.as_deref());
    format!(
        "{}/{} in namespace {}",
        resource::<K>(),
        name.unwrap_or_default(),
        namespace.unwrap_or_default()
    )
}

async fn config(wanted: &Connection) -> Result<Config, Error> {
    let failed = |what: &str, why: String| Error::Connection {
        what: what.to_owned(),
        why,
    };
    let chosen =
        wanted.kubeconfig.is_some() || wanted.context.is_some() || wanted.cluster.is_some() || wanted.user.is_some();
    let options = KubeConfigOptions {
        context: wanted.context.clone(),
        cluster: wanted.cluster.clone(),
        user: wanted.user.clone(),
    };
    let mut config = if chosen {
        let file = match &wanted.kubeconfig {
            Some(path) => Kubeconfig::read_from(path),
            None => Kubeconfig::read(),
        };
        let file = file.map_err(|e| failed("the kubeconfig cannot be read", e.to_string()))?;
        let config = Config::from_custom_kubeconfig(file, &options).await;
        config.map_err(|e| failed("the kubeconfig does not say which cluster to use", e.to_string()))?
    } else {
        let config = Config::infer().await;
        config.map_err(|e| {
            failed(
                "there is no cluster to talk to (set KUBECONFIG, or --kubeconfig)",
                e.to_string(),
            )
        })?
    };
    if let Some(user) = &wanted.as_user {
        config.auth_info.impersonate = Some(user.clone());
    }
    if !wanted.as_groups.is_empty() {
        config.auth_info.impersonate_groups = Some(wanted.as_groups.clone());
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use flywheel_api::Rollout;
    use kube::ResourceExt;
    use kube::core::ObjectList;

    use super::*;
    use crate::scenes;

    #[test]
    fn one_unreadable_object_does_not_hide_its_neighbours() {
        let world = scenes::quiet();
        let good = serde_json::to_value(&world.rollouts[0]).unwrap();
        let mut bad = good.clone();
        bad["metadata"]["name"] = "newer".into();
        bad["spec"]["plan"]["binding"]["type"] = "Unheard".into();
        let list = serde_json::json!({ "apiVersion": "flywheel.dev/v1alpha1", "kind": "RolloutList",
            "metadata": { "resourceVersion": "1" }, "items": [bad, good] });
        let list: ObjectList<DeserializeGuard<Rollout>> = serde_json::from_value(list).unwrap();
        let (read, rest) = apart(list.items);
        let names: Vec<String> = read.iter().map(ResourceExt::name_any).collect();
        assert_eq!(names, ["eta-6"]);
        let rest: Vec<String> = rest.iter().map(|u| named::<Rollout>(&u.metadata)).collect();
        assert_eq!(rest, ["rollouts.flywheel.dev/newer in namespace ml"]);
    }
}
