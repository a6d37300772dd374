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
    /// Where each object stands; of others nothing is known.
    places: HashMap<Key, Place>,
    /// Those that wait, in the order in which they came.
    line: VecDeque<Key>,
    /// Those that rest, by the moment at which they are due.
    later: BTreeSet<(Instant, Key)>,
}

/// Where an object stands.
#[derive(Clone, Copy)]
enum Place {
    /// It has waited for a look since then.
    Waits(Instant),
    /// It is being looked at, and maybe to be looked at once more.
    Taken { again: bool },
    /// It is to be looked at then, if nothing happens before.
    Rests(Instant),
}

impl State {
    fn add(&mut self, key: Key, since: Instant) {
        match self.places.get_mut(&key) {
            Some(Place::Waits(_)) => return,
            Some(Place::Taken { again }) => {
                *again = true;
                return;
            }
            Some(Place::Rests(due)) => {
                self.later.remove(&(*due, key.clone()));
            }
            None => {}
        }
        self.wait(key, since);
    }

    fn wait(&mut self, key: Key, since: Instant) {
        self.places.insert(key.clone(), Place::Waits(since));
        self.line.push_back(key);
    }

    fn take(&mut self, now: Instant) -> Option<(Key, Instant)> {
        while let Some((at, _)) = self.later.first()
            && *at <= now
            && let Some((at, key)) = self.later.pop_first()
        {
            self.wait(key, at);
        }
        let key = self.line.pop_front()?;
        let place = self.places.insert(key.clone(), Place::Taken { again: false });
        let since = match place {
            Some(Place::Waits(since)) => since,
            _ => now,
        };
        Some((key, since))
    }

    fn ended(&mut self, key: &Key, pause: Option<Duration>, now: Instant) {
        let taken = self.places.remove(key);
        if matches!(taken, Some(Place::Taken { again: true })) {
            // The look that is still to come says when the next one is due.
            self.wait(key.clone(), now);
        } else if let Some(at) = pause.and_then(|pause| now.checked_add(pause)) {
            self.places.insert(key.clone(), Place::Rests(at));
            self.later.insert((at, key.clone()));
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
        let mut places = self.state().places.clone().into_values();
        places.any(|place| !matches!(place, Place::Rests(_)))
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
            (state.later.len(), state.places.len()),
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
