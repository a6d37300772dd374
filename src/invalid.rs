//! Objects that this version of the operator cannot read: they say so themselves, and all others go on.
//!
//! The API server keeps objects by the CRD that was installed when they were written; after a downgrade of the operator,
//! or of the CRD, one of them may hold what no type here has.

use flywheel_api::condition::{self, Setting};
use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{ApiResource, DynamicObject, Patch};
use kube::{Api, Client, Error, Resource};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::apply::patching;

/// Sets the conditions Ready=False and Stalled=True with the reason Invalid on this object, once, if it still cannot be read.
///
/// # Errors
/// Whatever the API server or the way to it says, but for an object that is gone or was changed.
pub async fn mark<K>(client: &Client, namespace: &str, name: &str, why: &str) -> Result<(), Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned,
{
    let kind = ApiResource::erase::<K>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &kind);
    let Some(found) = api.get_opt(name).await? else {
        return Ok(());
    };
    let raw = serde_json::to_value(&found).map_err(Error::SerdeError)?;
    if serde_json::from_value::<K>(raw).is_ok() {
        // It was mended since; the watch will tell.
        return Ok(());
    }
    let stored: Vec<Condition> = found
        .data
        .pointer("/status/conditions")
        .and_then(|conditions| serde_json::from_value(conditions.clone()).ok())
        .unwrap_or_default();
    let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default();
    let wanted = condition::replace(&stored, &settings(&kind, why), found.metadata.generation, now);
    if wanted == stored {
        return Ok(());
    }
    let body = json!({
        "metadata": { "resourceVersion": found.metadata.resource_version },
        "status": { "observedGeneration": found.metadata.generation, "conditions": wanted },
    });
    match api.patch_status(name, &patching(), &Patch::Merge(body)).await {
        Ok(_) => Ok(()),
        // Whoever changed it wakes us again.
        Err(Error::Api(status)) if status.is_conflict() || status.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }
}

fn settings(kind: &ApiResource, why: &str) -> [Setting; 2] {
    let message = format!(
        "This version of the operator cannot read the object: {why}. Apply it again as `kubectl explain {}` describes it, \
         or upgrade the operator.",
        kind.plural
    );
    [
        Setting::no(condition::READY, "Invalid", &*message),
        Setting::yes(condition::STALLED, "Invalid", message),
    ]
}
