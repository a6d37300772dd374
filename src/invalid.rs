//! Objects that this version of the operator cannot read: they say so themselves, and all others go on.
//!
//! The API server keeps objects by the CRD that was installed when they were written; after a downgrade of the operator,
//! or of the CRD, one of them may hold what no type here has. One that is deleted is let go once it says so, unless
//! something of it is left that only a person can judge: nobody else would ever let it go, and what it may need is kept.

use flywheel_api::condition::{self, Setting};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use kube::api::{ApiResource, DynamicObject, Patch};
use kube::{Api, Error};
use serde_json::{Value, json};

use crate::apply::patching;
use crate::context::Context;
use crate::controller::{Controller, is_held_by};

/// One write for this object, if it still cannot be read: it says so, once, in the conditions Ready=False and Stalled=True
/// with the reason Invalid; if it is being deleted, it goes afterwards, or says what keeps it.
///
/// # Errors
/// Whatever the API server or the way to it says, but for an object that is gone or was changed.
pub async fn attend<C: Controller>(context: &Context, namespace: &str, name: &str, why: &str) -> Result<(), Error> {
    let kind = ApiResource::erase::<C::Object>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), namespace, &kind);
    let Some(found) = api.get_opt(name).await? else {
        return Ok(());
    };
    let raw = serde_json::to_value(&found).map_err(Error::SerdeError)?;
    if serde_json::from_value::<C::Object>(raw).is_ok() {
        // It was mended since; the watch will tell.
        return Ok(());
    }
    let stored = conditions(&found);
    let finalizer = C::FINALIZER.filter(|ours| is_leaving(&found.metadata, ours));
    // After the object itself was read: what comes into being from now on changes it.
    let kept = match finalizer {
        Some(_) => C::keeps(context, &found.metadata).await?,
        None => None,
    };
    let free = finalizer.filter(|_| kept.is_none() && is_held_by(&stored, "Invalid"));
    let written = if let Some(finalizer) = free {
        tracing::info!(namespace, name, "an object that cannot be read is let go");
        let body = without(finalizer, &found.metadata);
        api.patch(name, &patching(), &Patch::Merge(body)).await
    } else {
        let wanted = settings(&kind, why, kept.as_deref());
        let Some(body) = marked(&found, &stored, &wanted, context.clock.now()) else {
            return Ok(());
        };
        api.patch_status(name, &patching(), &Patch::Merge(body)).await
    };
    match written {
        Ok(_) => Ok(()),
        // Whoever changed it wakes us again.
        Err(Error::Api(status)) if status.is_conflict() || status.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }
}

fn conditions(object: &DynamicObject) -> Vec<Condition> {
    let stored = object.data.pointer("/status/conditions");
    stored
        .and_then(|conditions| serde_json::from_value(conditions.clone()).ok())
        .unwrap_or_default()
}

/// Whether it is being deleted, and waits for this finalizer to go.
fn is_leaving(metadata: &ObjectMeta, finalizer: &str) -> bool {
    let mut all = metadata.finalizers.iter().flatten();
    metadata.deletion_timestamp.is_some() && all.any(|found| found == finalizer)
}

/// A patch that takes this finalizer away, if nothing has changed since.
fn without(finalizer: &str, metadata: &ObjectMeta) -> Value {
    let all = metadata.finalizers.iter().flatten();
    let others: Vec<&String> = all.filter(|found| *found != finalizer).collect();
    json!({ "metadata": { "resourceVersion": metadata.resource_version, "uid": metadata.uid, "finalizers": others } })
}

/// A patch of the status that says so; nothing if it is said.
fn marked(object: &DynamicObject, stored: &[Condition], settings: &[Setting], now: Timestamp) -> Option<Value> {
    let metadata = &object.metadata;
    let wanted = condition::replace(stored, settings, metadata.generation, now);
    (wanted != stored).then(|| {
        json!({
            "metadata": { "resourceVersion": metadata.resource_version },
            "status": { "observedGeneration": metadata.generation, "conditions": wanted },
        })
    })
}

fn settings(kind: &ApiResource, why: &str, kept: Option<&str>) -> [Setting; 2] {
    let mut message = format!(
        "This version of the operator cannot read the object: {why}. Apply it again as `kubectl explain {}` describes it; \
         if that is refused, upgrade the operator or delete the object.",
        kind.plural
    );
    if let Some(kept) = kept {
        message.push(' ');
        message.push_str(kept);
    }
    [
        Setting::no(condition::READY, "Invalid", &*message),
        Setting::yes(condition::STALLED, "Invalid", message),
    ]
}
