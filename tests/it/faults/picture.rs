//! What a namespace looks like in the end, without what differs between two histories in which nothing went wrong.

use std::collections::BTreeMap;
use std::fmt::Debug;

use flywheel_api::{Approval, BiasPolicy, FlywheelPipeline, FlywheelRun, ModelVersion, Rollout};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment};
use k8s_openapi::api::batch::v1::Job;
use kube::Resource;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::world::World;

/// In the place of what differs from one history to the next.
const ANY: &str = "*";

/// Objects by kind and name.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture(BTreeMap<String, Value>);

impl Picture {
    /// The namespace as it is now.
    pub async fn take(world: &World) -> Self {
        let mut all = BTreeMap::new();
        add::<FlywheelPipeline>(world, &mut all).await;
        add::<FlywheelRun>(world, &mut all).await;
        add::<ModelVersion>(world, &mut all).await;
        add::<Rollout>(world, &mut all).await;
        add::<BiasPolicy>(world, &mut all).await;
        add::<Approval>(world, &mut all).await;
        add::<ControllerRevision>(world, &mut all).await;
        add::<Job>(world, &mut all).await;
        add::<Deployment>(world, &mut all).await;
        Self(all)
    }

    /// What both histories have in common.
    pub fn shared(&self, other: &Self) -> Self {
        let keys = self.0.keys().chain(other.0.keys());
        let both = |key: &String| {
            let of = |all: &Self| all.0.get(key).cloned().unwrap_or(json!("absent"));
            (key.clone(), shared(&of(self), &of(other)))
        };
        Self(keys.map(both).collect())
    }

    /// The first thing in which another history differs, if any: where, what was expected, and what is there.
    pub fn differs(&self, other: &Self) -> Option<String> {
        let keys: Vec<&String> = self.0.keys().collect();
        let theirs: Vec<&String> = other.0.keys().collect();
        if keys != theirs {
            return Some(format!("objects: expected {keys:?}, found {theirs:?}"));
        }
        self.0
            .iter()
            .find_map(|(key, expected)| differs(key, expected, other.0.get(key)?))
    }
}

async fn add<K>(world: &World, all: &mut BTreeMap<String, Value>)
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug + Serialize,
{
    let list = world.api::<K>().list(&Default::default()).await.expect("a list");
    for item in list.items {
        let mut object = serde_json::to_value(item).expect("JSON");
        let mut name = object["metadata"]["name"].as_str().expect("a name").to_owned();
        let kind = K::kind(&());
        // The names of Jobs and snapshots end in a hash of UIDs.
        if matches!(kind.as_ref(), "Job" | "ControllerRevision") {
            name.truncate(name.rfind('-').unwrap_or(name.len()));
        }
        if matches!(kind.as_ref(), "Job" | "Deployment") {
            object["status"] = Value::Null;
        }
        let metadata = object["metadata"].as_object_mut().expect("metadata");
        metadata.retain(|key, _| {
            matches!(
                key.as_str(),
                "labels" | "annotations" | "finalizers" | "ownerReferences"
            )
        });
        // How far a lineage had come when a Rollout kept its head depends on who was faster.
        if let Some(head) = object.pointer_mut("/spec/modelVersionRef/head") {
            *head = Value::Null;
        }
        timeless(&mut object);
        all.insert(format!("{kind}/{name}"), object);
    }
}

fn shared(one: &Value, two: &Value) -> Value {
    match (one, two) {
        (Value::Object(a), Value::Object(b)) if a.keys().eq(b.keys()) => {
            let both = a
                .iter()
                .zip(b.values())
                .map(|((key, x), y)| (key.clone(), shared(x, y)));
            Value::Object(both.collect())
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            Value::Array(a.iter().zip(b).map(|(x, y)| shared(x, y)).collect())
        }
        _ if one == two => one.clone(),
        _ => json!(ANY),
    }
}

/// Two histories may have done the same within one second: times are left out, wherever they stand.
fn timeless(value: &mut Value) {
    match value {
        Value::String(text) => {
            let words =
                text.split(' ').map(
                    |word| match word.trim_end_matches(['.', ';', ',']).parse::<jiff::Timestamp>() {
                        Ok(_) => "TIME",
                        Err(_) => word,
                    },
                );
            *text = words.collect::<Vec<_>>().join(" ");
        }
        Value::Array(all) => all.iter_mut().for_each(timeless),
        Value::Object(all) => all.values_mut().for_each(timeless),
        _ => {}
    }
}

fn differs(at: &str, expected: &Value, found: &Value) -> Option<String> {
    match (expected, found) {
        (Value::String(any), _) if any == ANY => None,
        (Value::Object(a), Value::Object(b)) => {
            let lost = a.keys().find(|key| !b.contains_key(*key));
            let new = b.keys().find(|key| !a.contains_key(*key));
            if let Some(key) = lost.or(new) {
                let (a, b) = (a.get(key), b.get(key));
                return Some(format!("{at}/{key}: expected {a:?}, found {b:?}"));
            }
            a.iter()
                .find_map(|(key, x)| differs(&format!("{at}/{key}"), x, b.get(key)?))
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let pairs = a.iter().zip(b).enumerate();
            pairs
                .into_iter()
                .find_map(|(n, (x, y))| differs(&format!("{at}/{n}"), x, y))
        }
        _ if expected == found => None,
        _ => Some(format!("{at}: expected {expected}, found {found}")),
    }
}

#[test]
fn fault_what_two_histories_share_is_compared_and_nothing_else() {
    let picture = |value: Value| Picture(BTreeMap::from([("Run/a".to_owned(), value)]));
    let one = picture(json!({ "uid": "1", "phase": "Done", "names": ["a", "b"] }));
    let two = picture(json!({ "uid": "2", "phase": "Done", "names": ["a", "c"] }));
    let both = one.shared(&two);
    assert_eq!(both.differs(&one), None);
    assert_eq!(
        both.differs(&picture(json!({ "uid": "3", "phase": "Done", "names": ["a", ""] }))),
        None
    );
    for wrong in [
        json!({ "uid": "3", "phase": "Lost", "names": ["a", ""] }),
        json!({ "uid": "3", "phase": "Done", "names": ["a"] }),
        json!({ "uid": "3", "phase": "Done", "names": ["a", ""], "more": 1 }),
        json!({ "uid": "3", "phase": "Done" }),
    ] {
        assert!(both.differs(&picture(wrong.clone())).is_some(), "{wrong}");
    }
    assert!(both.differs(&Picture(BTreeMap::new())).is_some());
}
