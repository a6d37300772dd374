//! Writes a status, and the events that tell of the change of mind.

use flywheel_engine::decision::{Note, Record};
use kube::core::object::HasStatus;
use kube::runtime::events::{Event, EventType};
use kube::{Api, Error, Resource, ResourceExt};

use crate::apply::{Applied, Kind, post};
use crate::context::Context;

/// Bytes of an event's action, and of its text, that the API server takes.
const MAX_ACTION: usize = 128;
const MAX_NOTE: usize = 1024;

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
    let action = note.message.chars().filter(|c| !c.is_control()).collect();
    let event = Event {
        type_: if note.warning {
            EventType::Warning
        } else {
            EventType::Normal
        },
        reason: note.reason,
        note: Some(cut(note.message, MAX_NOTE)),
        action: cut(action, MAX_ACTION),
        secondary: None,
    };
    if let Err(error) = context.recorder.publish(&event, &reference).await {
        tracing::warn!(%error, reason = event.reason, "the event was not published");
    }
}

/// The text, or as many whole characters of it as these bytes hold.
fn cut(mut text: String, bytes: usize) -> String {
    let end = text.floor_char_boundary(bytes);
    text.truncate(end);
    text
}

#[cfg(test)]
mod tests {
    use flywheel_api::Rollout;

    use super::*;
    use crate::testing::{Server, context, rollout};

    #[tokio::test]
    async fn an_event_whose_characters_have_several_bytes_keeps_to_the_limits_of_the_api_server() {
        let object: Rollout = serde_json::from_value(rollout("one")).unwrap();
        for letter in ["x", "ä", "語", "🛫"] {
            let server = Server::default();
            let context = context(server.client(|sent| (200, sent.2.clone())));
            publish(&context, &object, Note::warning("Told", letter.repeat(2000))).await;
            let (_, _, event) = server.only_write();
            for (field, limit) in [("action", MAX_ACTION), ("note", MAX_NOTE)] {
                let text = event[field].as_str().unwrap();
                assert!(
                    text.len() <= limit && text.len() + letter.len() > limit,
                    "{field}: {text}"
                );
                assert_eq!(text, letter.repeat(text.len() / letter.len()));
            }
        }
        assert_eq!(cut("short".to_owned(), 128), "short");
    }
}
