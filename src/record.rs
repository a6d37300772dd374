//! Writes a status, and the events that tell of the change of mind.

use flywheel_engine::decision::{Note, Record};
use kube::core::object::HasStatus;
use kube::runtime::events::{Event, EventType};
use kube::{Api, Error, Resource, ResourceExt};

use crate::apply::{Applied, Kind, post};
use crate::context::Context;

/// Writes the status, refused unless the object is still the one that was observed; then publishes the events.
///
/// # Errors
/// Whatever the API server or the way to it says, but for a conflict.
pub async fn record<K>(context: &Context, mut object: K, record: Record<K::Status>) -> Result<Applied, Error>
where
    K: Kind + HasStatus + Resource<DynamicType = ()>,
    K::Status: Send,
{
    let namespace = object.namespace().unwrap_or_default();
    let name = object.name_any();
    *object.status_mut() = Some(record.status);
    object.meta_mut().managed_fields = None;
    let api = Api::<K>::namespaced(context.client.clone(), &namespace);
    match api.replace_status(&name, &post(), &object).await {
        Ok(_) => {}
        Err(Error::Api(status)) if status.is_conflict() || status.is_not_found() => return Ok(Applied::Outdated),
        Err(error) => return Err(error),
    }
    for note in record.events {
        publish(context, &object, note).await;
    }
    Ok(Applied::Done)
}

/// An event that is lost is a pity, not an error: the status has the same decision.
pub async fn publish<K: Resource<DynamicType = ()>>(context: &Context, object: &K, note: Note) {
    let reference = object.object_ref(&());
    context.metrics.decision(&K::kind(&()), &note.reason);
    // Events of one (reason, action) within six minutes keep the first text: what varies goes into the action.
    let action: String = note.message.chars().filter(|c| !c.is_control()).take(120).collect();
    let event = Event {
        type_: if note.warning {
            EventType::Warning
        } else {
            EventType::Normal
        },
        reason: note.reason,
        note: Some(note.message.chars().take(1000).collect()),
        action,
        secondary: None,
    };
    if let Err(error) = context.recorder.publish(&event, &reference).await {
        tracing::warn!(%error, reason = event.reason, "the event was not published");
    }
}
