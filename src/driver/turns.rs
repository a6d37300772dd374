//! Whose turn it is: first come, first served.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit};

/// Turns of the objects of one kind. The runtime's own limit lets those go first that came last: when there is more to do
/// than the API server answers, some objects would wait for ever.
pub(super) struct Turns {
    free: Semaphore,
    /// By namespace and name.
    waiting: Arc<Mutex<HashSet<String>>>,
}

impl Turns {
    /// So many at the same time.
    pub(super) fn new(at_once: usize) -> Self {
        Self {
            free: Semaphore::new(at_once),
            waiting: Arc::default(),
        }
    }

    /// From now on nobody has one any more.
    pub(super) fn close(&self) {
        self.free.close();
    }

    /// The object of this namespace and name waits from now on, until what this returns is dropped.
    pub(super) fn queue(&self, key: String) -> Queued {
        lock(&self.waiting).insert(key.clone());
        Queued {
            key,
            waiting: self.waiting.clone(),
        }
    }

    /// Whether it waits.
    pub(super) fn is_queued(&self, key: &str) -> bool {
        lock(&self.waiting).contains(key)
    }

    /// Waits for a turn; there is none when the operator stops.
    pub(super) async fn next(&self) -> Option<SemaphorePermit<'_>> {
        self.free.acquire().await.ok()
    }
}

/// An object that waits for its turn.
pub(super) struct Queued {
    key: String,
    waiting: Arc<Mutex<HashSet<String>>>,
}

impl Drop for Queued {
    fn drop(&mut self) {
        lock(&self.waiting).remove(&self.key);
    }
}

fn lock(waiting: &Mutex<HashSet<String>>) -> MutexGuard<'_, HashSet<String>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_queued_is_so_until_the_turn_comes_or_is_given_up() {
        let turns = Turns::new(1);
        let queued = turns.queue("a/x".to_owned());
        assert!(turns.is_queued("a/x") && !turns.is_queued("a/y"));
        drop(queued);
        assert!(!turns.is_queued("a/x"));
    }
}
