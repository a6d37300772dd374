//! Watches that pass on what changes something that somebody looks at.
//!
//! A Rollout writes its status some ten times a step; what its neighbours look at changes in half of these. Each event
//! that is passed on costs every neighbour a look at the world by live reads.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use flywheel_api::{Rollout, condition};
use futures::{Stream, StreamExt};
use kube::Resource;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::watcher::{Error, Event};

/// Objects whose facet, a number that changes with what is looked at, changed, and those that are gone. When the watch
/// begins anew all objects pass: what went meanwhile is told by nobody, and concerns those that stayed.
pub fn news<K: Resource + Send + 'static>(
    events: impl Stream<Item = Result<Event<K>, Error>> + Send + 'static,
    facet: impl Fn(&K) -> u64 + Send + 'static,
) -> impl Stream<Item = Result<K, Error>> + Send + 'static {
    let mut seen = HashMap::<String, u64>::new();
    events.filter_map(move |event| {
        let passed = event.map(|event| passed(&mut seen, event, &facet)).transpose();
        async { passed }
    })
}

fn passed<K: Resource>(seen: &mut HashMap<String, u64>, event: Event<K>, facet: impl Fn(&K) -> u64) -> Option<K> {
    let uid = |object: &K| object.meta().uid.clone().unwrap_or_default();
    match event {
        Event::Init => {
            seen.clear();
            None
        }
        Event::InitDone => None,
        Event::InitApply(object) | Event::Apply(object) => {
            let now = facet(&object);
            (seen.insert(uid(&object), now) != Some(now)).then_some(object)
        }
        Event::Delete(object) => {
            seen.remove(&uid(&object));
            Some(object)
        }
    }
}

/// What the neighbours of a Rollout look at: everything but its step, what it waits for, its
/// checks, its log, and the conditions that do not tell of a foreign hand on the target. One that
/// cannot be read is news whenever it changes.
pub fn outline(rollout: &DeserializeGuard<Rollout>) -> u64 {
    let mut hasher = DefaultHasher::new();
    match &rollout.0 {
        Ok(rollout) => {
            let mut outline = rollout.clone();
            outline.metadata.resource_version = None;
            outline.metadata.managed_fields = None;
            if let Some(status) = &mut outline.status {
                (status.step, status.waiting_for, status.progress_since) = (None, None, None);
                status.checks.clear();
                status.decisions.clear();
                status.conditions.retain(|c| c.type_ == condition::TARGET_BOUND);
            }
            serde_json::to_string(&outline).unwrap_or_default().hash(&mut hasher);
        }
        Err(unreadable) => unreadable.metadata.resource_version.hash(&mut hasher),
    }
    hasher.finish()
}

/// What users write: spec and labels.
pub fn spec<K>(object: &PartialObjectMeta<K>) -> u64 {
    let mut hasher = DefaultHasher::new();
    let metadata = &object.metadata;
    let deleting = metadata.deletion_timestamp.is_some();
    (metadata.generation, &metadata.labels, deleting).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use serde_json::json;

    use super::*;

    type Guard = DeserializeGuard<Rollout>;

    fn rollout(uid: &str, version: &str, phase: &str, message: &str) -> Guard {
        let object = json!({ "apiVersion": "flywheel.dev/v1alpha1", "kind": "Rollout",
            "metadata": { "name": "up", "uid": uid, "resourceVersion": version },
            "spec": { "modelVersionRef": { "name": "eta-2" }, "plan": {
                "targetRef": { "kind": "Deployment", "name": "web" },
                "binding": { "type": "DeploymentEnv", "container": "app", "name": "MODEL_URI" } } },
            "status": { "phase": phase, "conditions": [{ "type": "Ready", "status": "False", "reason": "Waiting",
                "message": message, "lastTransitionTime": "2026-01-01T00:00:00Z" }] } });
        serde_json::from_value(object).expect("a guard takes everything")
    }

    async fn told(events: Vec<Event<Guard>>) -> Vec<String> {
        let events = stream::iter(events.into_iter().map(Ok));
        let version = |o: Result<Guard, Error>| o.expect("no error").meta().resource_version.clone();
        news(events, outline)
            .filter_map(|o| async { version(o) })
            .collect()
            .await
    }

    #[tokio::test]
    async fn what_a_rollout_waits_for_is_no_news_and_its_phase_is() {
        let first = rollout("a", "1", "Progressing", "one pod of two");
        assert!(first.0.is_ok(), "{first:?}");
        let events = vec![
            Event::Init,
            Event::InitApply(first),
            Event::InitDone,
            Event::Apply(rollout("a", "2", "Progressing", "two pods of two")),
            Event::Apply(rollout("a", "3", "Promoting", "two pods of two")),
            Event::Apply(rollout("b", "4", "Promoting", "another object of that name")),
        ];
        assert_eq!(told(events).await, ["1", "3", "4"]);
    }

    #[tokio::test]
    async fn a_watch_that_begins_anew_tells_of_all_objects() {
        let (one, other) = (
            rollout("a", "1", "Progressing", ""),
            rollout("b", "2", "Progressing", ""),
        );
        let begun = |object: &Guard| [Event::Init, Event::InitApply(object.clone()), Event::InitDone];
        let mut events: Vec<Event<Guard>> = begun(&one).into();
        events.push(Event::Apply(other.clone()));
        // The first one went without that anybody heard of it: the other one may have waited for that.
        events.extend(begun(&other));
        assert_eq!(told(events).await, ["1", "2", "2"]);
    }

    #[tokio::test]
    async fn a_deletion_is_always_news() {
        let (was, gone) = (rollout("a", "1", "Promoting", ""), rollout("a", "2", "Promoting", ""));
        assert_eq!(told(vec![Event::Apply(was), Event::Delete(gone)]).await, ["1", "2"]);
    }

    #[tokio::test]
    async fn a_rollout_that_cannot_be_read_is_news_whenever_it_changes() {
        let strange = |version| rollout("a", version, "PhaseOfANewerOperator", "");
        assert!(strange("1").0.is_err());
        let events = vec![Event::Apply(strange("1")), Event::Apply(strange("2"))];
        assert_eq!(told(events).await, ["1", "2"]);
    }
}
