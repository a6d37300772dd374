//! Objects of which some may be unreadable: one of them says so itself, and the list that it stands in is read all the
//! same.
//!
//! As `kube::core::DeserializeGuard`, which builds a tree of each object and copies it before it reads the object, and keeps
//! who wrote which field, of which no decision asks: half of what a page of a list took.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::PartialObjectMeta;
use kube::core::error_boundary::InvalidObject;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error as _};
use serde_json::value::RawValue;

/// An object without `metadata.managedFields`, or what can be said of one that this version of the operator cannot read.
#[derive(Clone, Debug)]
pub struct Guard<K>(pub Result<K, InvalidObject>);

impl<K> Guard<K> {
    /// The object, if it can be read.
    pub fn readable(&self) -> Option<&K> {
        self.0.as_ref().ok()
    }

    /// Its name, if it cannot be read.
    pub fn unreadable_name(&self) -> Option<String> {
        let broken = self.0.as_ref().err()?;
        broken.metadata.name.clone()
    }

    /// The object.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn whole(&self) -> Result<&K, kube::Error> {
        let broken = |broken| kube::Error::SerdeError(serde_json::Error::custom(broken));
        self.0.as_ref().map_err(broken)
    }
}

impl<'de, K: Resource + DeserializeOwned> Deserialize<'de> for Guard<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        if let Ok(mut object) = serde_json::from_str::<K>(text.get()) {
            object.meta_mut().managed_fields = None;
            return Ok(Self(Ok(object)));
        }
        let PartialObjectMeta { metadata, .. } =
            serde_json::from_str::<PartialObjectMeta<K>>(text.get()).map_err(D::Error::custom)?;
        let broken = InvalidObject {
            error: why::<K>(text.get()),
            metadata: ObjectMeta {
                managed_fields: None,
                ..metadata
            },
        };
        Ok(Self(Err(broken)))
    }
}

/// Which field cannot be read, and why; without the place in the text, which is another one after each write.
fn why<K: DeserializeOwned>(text: &str) -> String {
    let mut text = serde_json::Deserializer::from_str(text);
    let Err(error) = serde_path_to_error::deserialize::<_, K>(&mut text) else {
        return String::new();
    };
    let inner = error.inner();
    let place = format!(" at line {} column {}", inner.line(), inner.column());
    let said = inner.to_string();
    format!("{}: {}", error.path(), said.strip_suffix(&place).unwrap_or(&said))
}

impl<K: Resource> Resource for Guard<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(dt)
    }

    fn group(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::group(dt)
    }

    fn version(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::version(dt)
    }

    fn plural(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(dt)
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.as_ref().map_or_else(|broken| &broken.metadata, K::meta)
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.as_mut().map_or_else(|broken| &mut broken.metadata, K::meta_mut)
    }
}

#[cfg(test)]
mod tests {
    use flywheel_api::Rollout;
    use kube::core::{ObjectList, WatchEvent};
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::rollout;

    fn broken() -> Value {
        let mut object = rollout("broken");
        object["spec"]["desiredState"] = json!("Rewind");
        object
    }

    fn listed(items: &[Value]) -> Vec<Guard<Rollout>> {
        let list = json!({ "apiVersion": "flywheel.dev/v1alpha1", "kind": "RolloutList",
            "metadata": { "resourceVersion": "9" }, "items": items });
        let list: ObjectList<Guard<Rollout>> = serde_json::from_str(&list.to_string()).unwrap();
        list.items
    }

    #[test]
    fn an_object_that_cannot_be_read_names_the_field_and_leaves_its_list_readable() {
        let all = listed(&[rollout("well"), broken()]);
        assert_eq!(all[0].0.as_ref().unwrap().metadata.name.as_deref(), Some("well"));
        let why = all[1].0.as_ref().unwrap_err();
        assert_eq!(why.metadata.name.as_deref(), Some("broken"));
        assert!(
            why.error.starts_with("spec.desiredState: unknown variant `Rewind`"),
            "{why}"
        );
        let refused = all[1].whole().unwrap_err().to_string();
        assert!(refused.contains("spec.desiredState"), "{refused}");
    }

    #[test]
    fn what_is_said_of_an_unreadable_object_does_not_depend_on_where_the_field_stands_in_the_text() {
        let mut longer = broken();
        longer["metadata"]["annotations"] = json!({ "of": "another length" });
        let all = listed(&[broken(), longer]);
        let said = |n: usize| all[n].0.as_ref().unwrap_err().error.clone();
        assert_eq!(said(0), said(1));
        assert!(!said(0).contains("column"), "{}", said(0));
    }

    #[test]
    fn an_event_of_a_watch_is_read_without_who_wrote_which_field() {
        let mut object = rollout("well");
        object["metadata"]["managedFields"] = json!([{ "manager": "kubectl", "operation": "Apply" }]);
        for object in [object.clone(), {
            object["spec"]["desiredState"] = json!("Rewind");
            object
        }] {
            // In the order in which an API server writes it: what the object is, is known when it is read.
            let event = format!(r#"{{"type":"MODIFIED","object":{object}}}"#);
            let WatchEvent::Modified(guard) = serde_json::from_str::<WatchEvent<Guard<Rollout>>>(&event).unwrap()
            else {
                panic!("{event}")
            };
            assert_eq!(guard.meta().managed_fields, None);
            assert_eq!(guard.meta().name.as_deref(), Some("well"));
        }
    }

    #[test]
    fn an_object_without_metadata_is_an_error_of_the_list() {
        assert!(serde_json::from_str::<Guard<Rollout>>("[]").is_err());
    }
}
