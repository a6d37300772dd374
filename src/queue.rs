//! Which objects of a kind are to be looked at: first come, first served, each once, and none twice at the same time.
//!
//! The idea is that of client-go's work queue. The runtime's own runner asks each object that waits whenever anything
//! happens, and with a limit lets those go first that came last: ten thousand objects held each other up
//! ([decision 7](../docs/decisions/0007-a-queue-of-our-own.md)).

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kube::Resource;
use tokio::sync::Notify;
use tokio::time::{Instant as Moment, sleep_until};

use crate::watch::place;

/// Namespace and name of an object, with a slash between them.
pub type Key = Arc<str>;

/// The key of an object.
pub fn key<K: Resource>(object: &K) -> Key {
    let (namespace, name) = place(object);
    format!("{namespace}/{name}").into()
}

/// The objects of one kind that wait for a look.
#[derive(Default)]
pub struct Queue {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// In the order in which they came.
    line: VecDeque<Key>,
    /// Since when each of them waits.
    since: HashMap<Key, Instant>,
    /// Those that are being looked at, and whether they are to be looked at once more.
    taken: HashMap<Key, bool>,
    /// Those that are to be looked at later, by the moment.
    later: BTreeSet<(Instant, Key)>,
    /// The moment of each of them.
    due: HashMap<Key, Instant>,
}

impl State {
    fn add(&mut self, key: Key, since: Instant) {
        if let Some(again) = self.taken.get_mut(&key) {
            *again = true;
        } else if !self.since.contains_key(&key) {
            self.since.insert(key.clone(), since);
            self.line.push_back(key);
        }
    }

    fn take(&mut self, now: Instant) -> Option<(Key, Instant)> {
        while let Some((at, _)) = self.later.first()
            && *at <= now
            && let Some((at, key)) = self.later.pop_first()
        {
            self.due.remove(&key);
            self.add(key, at);
        }
        let key = self.line.pop_front()?;
        let since = self.since.remove(&key).unwrap_or(now);
        // This look says when the next one is due.
        if let Some(at) = self.due.remove(&key) {
            self.later.remove(&(at, key.clone()));
        }
        self.taken.insert(key.clone(), false);
        Some((key, since))
    }

    fn ended(&mut self, key: &Key, pause: Option<Duration>, now: Instant) {
        let again = self.taken.remove(key).unwrap_or_default();
        if let Some(at) = pause.and_then(|pause| now.checked_add(pause)) {
            self.later.insert((at, key.clone()));
            self.due.insert(key.clone(), at);
        }
        if again {
            self.add(key.clone(), now);
        }
    }
}

impl Queue {
    /// The object is to be looked at. If it waits already, that look will see what there is to see.
    pub fn add(&self, key: Key) {
        self.state().add(key, Instant::now());
        self.changed.notify_one();
    }

    /// The one that has waited longest. There may be one caller at a time; one that is given up takes nothing.
    pub async fn next(self: &Arc<Self>) -> Taken {
        loop {
            let due = {
                let mut state = self.state();
                if let Some((key, since)) = state.take(Instant::now()) {
                    let queue = self.clone();
                    return Taken {
                        queue,
                        key,
                        since,
                        pause: None,
                    };
                }
                state.later.first().map(|(at, _)| *at)
            };
            match due {
                Some(at) => tokio::select! {
                    () = self.changed.notified() => {}
                    () = sleep_until(Moment::from_std(at)) => {}
                },
                None => self.changed.notified().await,
            }
        }
    }

    /// Whether there is anybody to look at now, or being looked at.
    #[cfg(test)]
    pub fn waits(&self) -> bool {
        let state = self.state();
        !state.line.is_empty() || !state.taken.is_empty()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An object that is being looked at until this is dropped; nobody else looks at it meanwhile.
pub struct Taken {
    queue: Arc<Queue>,
    /// Its namespace and name.
    pub key: Key,
    /// When it began to wait.
    pub since: Instant,
    /// So long after the look it is to be looked at again, if nothing happens before.
    pub pause: Option<Duration>,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.queue.state().ended(&self.key, self.pause, Instant::now());
        self.queue.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn next(queue: &Arc<Queue>) -> Option<Taken> {
        queue.next().now_or_never()
    }

    fn names(queue: &Arc<Queue>) -> Vec<String> {
        let all = std::iter::from_fn(|| next(queue));
        all.map(|taken| taken.key.to_string()).collect()
    }

    fn queue(names: &[&str]) -> Arc<Queue> {
        let queue = Arc::<Queue>::default();
        names.iter().for_each(|name| queue.add((*name).into()));
        queue
    }

    #[test]
    fn who_came_first_is_looked_at_first_and_once_however_often_it_came() {
        let queue = queue(&["c", "a", "b", "a", "c"]);
        assert_eq!(names(&queue), ["c", "a", "b"]);
        assert_eq!(names(&queue), [""; 0]);
    }

    #[test]
    fn what_happens_during_a_look_is_looked_at_after_it_and_behind_those_who_came_before() {
        let queue = queue(&["a"]);
        let taken = next(&queue).unwrap();
        queue.add("a".into());
        queue.add("b".into());
        queue.add("a".into());
        let other = next(&queue).unwrap();
        assert_eq!(&*other.key, "b");
        assert!(next(&queue).is_none(), "nobody looks at it twice at the same time");
        drop(taken);
        assert_eq!(&*next(&queue).unwrap().key, "a");
        assert!(next(&queue).is_none());
    }

    #[tokio::test]
    async fn who_is_to_be_looked_at_later_is_so_then_or_when_something_happens_before() {
        let queue = queue(&["soon", "later", "woken"]);
        for (name, pause) in [("soon", 20), ("later", 3_600_000), ("woken", 3_600_000)] {
            let mut taken = next(&queue).unwrap();
            assert_eq!(&*taken.key, name);
            taken.pause = Some(Duration::from_millis(pause));
        }
        assert_eq!(&*queue.next().await.key, "soon");
        queue.add("woken".into());
        assert_eq!(names(&queue), ["woken"]);
        let state = queue.state();
        assert_eq!(
            (state.later.len(), state.due.len()),
            (1, 1),
            "its old moment is forgotten"
        );
    }

    #[tokio::test]
    async fn who_waits_for_the_next_one_is_woken_by_whoever_comes() {
        let queue = queue(&[]);
        let waits = tokio::spawn({
            let queue = queue.clone();
            async move { queue.next().await.key.to_string() }
        });
        tokio::task::yield_now().await;
        queue.add("a".into());
        let woken = tokio::time::timeout(Duration::from_secs(10), waits).await;
        assert_eq!(woken.unwrap().unwrap(), "a");
    }
}
