//! Watches that pass on what changes something that somebody looks at.
//!
//! A Rollout writes its status twice a step; what its neighbours look at changes at its beginning and its end alone. Each
//! change that is passed on costs every neighbour a look.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use flywheel_api::{FlywheelPipeline, FlywheelRun, Rollout};
use flywheel_engine::run::Peer;
use futures::{Stream, StreamExt};
use kube::Resource;

use crate::guard::Guard;
use crate::watch::Change;

/// Objects whose facet, a number that changes with what is looked at, changed, and those that are gone. When the watch
/// begins anew all objects pass: what went meanwhile is told by nobody, and concerns those that stayed.
pub fn news<O: Resource + Send + Sync + 'static>(
    changes: impl Stream<Item = Change<O>> + Send + 'static,
    facet: impl Fn(&O) -> u64 + Send + 'static,
) -> impl Stream<Item = Arc<O>> + Send + 'static {
    let mut seen = HashMap::<String, u64>::new();
    changes.filter_map(move |change| {
        let passed = passed(&mut seen, change, &facet);
        async { passed }
    })
}

/// Objects that changed in any way, and those that are gone.
pub fn all<O: Send + Sync + 'static>(
    changes: impl Stream<Item = Change<O>> + Send + 'static,
) -> impl Stream<Item = Arc<O>> + Send + 'static {
    changes.filter_map(|change| async {
        match change {
            Change::Begun => None,
            Change::Applied(object) | Change::Deleted(object) => Some(object),
        }
    })
}

/// Objects that are there and changed.
pub fn present<O: Send + Sync + 'static>(
    changes: impl Stream<Item = Change<O>> + Send + 'static,
) -> impl Stream<Item = Arc<O>> + Send + 'static {
    changes.filter_map(|change| async {
        match change {
            Change::Applied(object) => Some(object),
            Change::Begun | Change::Deleted(_) => None,
        }
    })
}

fn passed<O: Resource>(
    seen: &mut HashMap<String, u64>,
    change: Change<O>,
    facet: impl Fn(&O) -> u64,
) -> Option<Arc<O>> {
    let uid = |object: &O| object.meta().uid.clone().unwrap_or_default();
    match change {
        Change::Begun => {
            seen.clear();
            None
        }
        Change::Applied(object) => {
            let now = facet(&object);
            (seen.insert(uid(&object), now) != Some(now)).then_some(object)
        }
        Change::Deleted(object) => {
            seen.remove(&uid(&object));
            Some(object)
        }
    }
}

/// What the neighbours of a Rollout look at: what users write, the outline of its phase, its target, the two sides, and
/// when it settled. One that cannot be read is news whenever it changes.
pub fn outline(rollout: &Guard<Rollout>) -> u64 {
    facet(rollout, |rollout| {
        let seen = rollout.status.as_ref().map(|s| {
            let settled = (&s.promoted_at, &s.finished_at);
            (s.phase.outline(), &s.target_uid, &s.candidate, &s.baseline, settled)
        });
        serde_json::to_string(&(&rollout.metadata.annotations, seen))
    })
}

/// What the neighbours of a run look at: what users write, its owners, when it began and ended, what its peers see, its
/// snapshot, and what the bias policies said of which version.
pub fn run_outline(run: &Guard<FlywheelRun>) -> u64 {
    facet(run, |run| {
        let seen = run.status.as_ref().map(|s| {
            let times = (&s.started_at, &s.finished_at, &s.outcome);
            (times, Peer::of(run), &s.snapshot, &s.model_version, &s.bias)
        });
        serde_json::to_string(&(&run.metadata.owner_references, seen))
    })
}

/// What versions of its model look at of a pipeline: what users write, and which version it says is live.
pub fn pipeline_outline(pipeline: &Guard<FlywheelPipeline>) -> u64 {
    facet(pipeline, |pipeline| {
        let status = pipeline.status.as_ref();
        serde_json::to_string(&status.map(|s| &s.live_version))
    })
}

/// What users write: spec and labels.
pub fn spec<K: Resource>(guard: &Guard<K>) -> u64 {
    facet(guard, |_| Ok(String::new()))
}

/// What users write, and what else is seen of an object. One that cannot be read is news whenever it changes.
fn facet<K: Resource>(guard: &Guard<K>, seen: impl FnOnce(&K) -> serde_json::Result<String>) -> u64 {
    let mut hasher = DefaultHasher::new();
    match &guard.0 {
        Ok(object) => {
            let metadata = object.meta();
            let deleting = metadata.deletion_timestamp.is_some();
            (metadata.generation, &metadata.labels, deleting).hash(&mut hasher);
            seen(object).unwrap_or_default().hash(&mut hasher);
        }
        Err(unreadable) => unreadable.metadata.resource_version.hash(&mut hasher),
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use serde_json::json;

    use super::*;

    type Seen = Guard<Rollout>;

    fn rollout(uid: &str, version: &str, phase: &str, message: &str) -> Seen {
        let mut object = crate::testing::rollout("up");
        object["metadata"]["uid"] = json!(uid);
        object["metadata"]["resourceVersion"] = json!(version);
        object["status"] = json!({ "phase": phase, "conditions": [{ "type": "Ready", "status": "False",
            "reason": "Waiting", "message": message, "lastTransitionTime": "2026-01-01T00:00:00Z" }] });
        serde_json::from_value(object).expect("a guard takes everything")
    }

    fn applied(object: Seen) -> Change<Seen> {
        Change::Applied(Arc::new(object))
    }

    async fn told(changes: Vec<Change<Seen>>) -> Vec<String> {
        let version = |o: Arc<Seen>| o.meta().resource_version.clone();
        news(stream::iter(changes), outline)
            .filter_map(|o| async { version(o) })
            .collect()
            .await
    }

    #[tokio::test]
    async fn what_a_rollout_waits_for_is_no_news_and_its_phase_is() {
        let first = rollout("a", "1", "Progressing", "one pod of two");
        assert!(first.0.is_ok(), "{first:?}");
        let events = vec![
            Change::Begun,
            applied(first),
            applied(rollout("a", "2", "Progressing", "two pods of two")),
            applied(rollout("a", "3", "Observing", "two pods of two")),
            applied(rollout("b", "4", "Observing", "another object of that name")),
        ];
        assert_eq!(told(events).await, ["1", "3", "4"]);
    }

    #[tokio::test]
    async fn a_watch_that_begins_anew_tells_of_all_objects() {
        let (one, other) = (
            rollout("a", "1", "Progressing", ""),
            rollout("b", "2", "Progressing", ""),
        );
        let begun = |object: &Seen| [Change::Begun, applied(object.clone())];
        let mut events: Vec<Change<Seen>> = begun(&one).into();
        events.push(applied(other.clone()));
        // The first one went without that anybody heard of it: the other one may have waited for that.
        events.extend(begun(&other));
        assert_eq!(told(events).await, ["1", "2", "2"]);
    }

    #[tokio::test]
    async fn a_deletion_is_always_news() {
        let (was, gone) = (rollout("a", "1", "Observing", ""), rollout("a", "2", "Observing", ""));
        assert_eq!(
            told(vec![applied(was), Change::Deleted(Arc::new(gone))]).await,
            ["1", "2"]
        );
    }

    #[tokio::test]
    async fn a_rollout_that_cannot_be_read_is_news_whenever_it_changes() {
        let strange = |version| rollout("a", version, "PhaseOfANewerOperator", "");
        assert!(strange("1").0.is_err());
        let events = vec![applied(strange("1")), applied(strange("2"))];
        assert_eq!(told(events).await, ["1", "2"]);
    }

    #[test]
    fn a_status_that_cannot_be_read_any_more_or_again_is_news_though_the_spec_is_the_same() {
        let one = |version, phase| spec(&rollout("a", version, phase, ""));
        let (before, strange) = (one("1", "Observing"), one("2", "PhaseOfANewerOperator"));
        assert_ne!(before, strange, "it cannot be read any more");
        assert_eq!(
            before,
            one("3", "Promoted"),
            "it can be read again, and its status is no news"
        );
    }

    #[test]
    fn a_pipeline_is_news_to_versions_when_another_one_is_live_and_not_at_every_write() {
        let one = |version: &str, number: i64| {
            let object = json!({ "metadata": { "name": "eta" }, "spec": { "model": { "name": "eta" }, "stages": [] },
                "status": { "lastRunNumber": number, "liveVersion": {
                    "name": version, "since": "2026-01-01T00:00:00Z" } } });
            let guard: Guard<FlywheelPipeline> = serde_json::from_value(object).expect("a guard takes everything");
            assert!(guard.0.is_ok(), "{guard:?}");
            pipeline_outline(&guard)
        };
        assert_eq!(one("eta-1", 1), one("eta-1", 2));
        assert_ne!(one("eta-1", 1), one("eta-2", 1));
    }
}
