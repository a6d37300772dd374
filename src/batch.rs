//! Reads that many ask for at the same time are made once for all of them.
//!
//! Who asks must be told what is so after it asked. So whoever asks while a read is under way shares the next one with all
//! others who asked since: the group commit of a database, turned around. However many ask, the API server answers one at
//! a time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// So long a read waits for the one before it, which may never end.
const PATIENCE: Duration = Duration::from_secs(1);

type Read<T> = Shared<BoxFuture<'static, Option<Arc<T>>>>;

/// Reads by what is read.
pub struct Batch<T>(Arc<Mutex<HashMap<String, Line<T>>>>);

/// Who waits for the same.
struct Line<T> {
    /// The read that has not begun.
    next: Option<Read<T>>,
    /// Held by the one that is under way.
    turn: Arc<Semaphore>,
}

impl<T> Line<T> {
    /// Whether somebody waits for the next read, or one is under way.
    fn is_in_use(&self) -> bool {
        let waited_for = |next: &Read<T>| next.strong_count() > Some(1);
        self.next.as_ref().is_some_and(waited_for) || Arc::strong_count(&self.turn) > 1
    }
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self {
            next: None,
            turn: Arc::new(Semaphore::new(1)),
        }
    }
}

impl<T> Default for Batch<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: Send + Sync + 'static> Batch<T> {
    /// What a read gives that begins after this was called; nothing if it failed, so that each who asked can see for
    /// itself why.
    pub async fn read<F>(&self, what: &str, read: impl FnOnce() -> F + Send + 'static) -> Option<Arc<T>>
    where
        F: Future<Output = Option<T>> + Send,
    {
        self.join(what, read).await
    }

    fn join<F>(&self, what: &str, read: impl FnOnce() -> F + Send + 'static) -> Read<T>
    where
        F: Future<Output = Option<T>> + Send,
    {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Namespaces come and go.
        lines.retain(|_, line| line.is_in_use());
        let line = lines.entry(what.to_owned()).or_default();
        let (all, turn, what) = (self.0.clone(), line.turn.clone(), what.to_owned());
        let begin = move || {
            let mut lines = all.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(line) = lines.get_mut(&what) {
                line.next = None;
            }
        };
        let next = line.next.get_or_insert_with(|| {
            let work = async move {
                let turn = timeout(PATIENCE, turn.acquire_owned()).await;
                begin();
                let found = read().await.map(Arc::new);
                drop(turn);
                found
            };
            work.boxed().shared()
        });
        next.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn all_who_ask_while_a_read_is_under_way_share_the_next_one() {
        let batch: Arc<Batch<usize>> = Arc::default();
        let (reads, end) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
        let ask = || {
            let (batch, reads, end) = (batch.clone(), reads.clone(), end.clone());
            tokio::spawn(async move {
                let number = move || async move {
                    let number = reads.fetch_add(1, Ordering::SeqCst);
                    end.acquire().await.ok()?.forget();
                    Some(number)
                };
                *batch.read("shop", number).await.unwrap()
            })
        };
        let first = ask();
        while reads.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        let others: Vec<_> = (0..100).map(|_| ask()).collect();
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        end.add_permits(2);
        assert_eq!(first.await.unwrap(), 0);
        for other in others {
            assert_eq!(other.await.unwrap(), 1, "it asked after the first read had begun");
        }
        assert!(batch.0.lock().unwrap()["shop"].next.is_none());
    }

    #[tokio::test]
    async fn a_read_that_never_ends_holds_up_the_next_one_for_a_second() {
        let batch: Arc<Batch<u8>> = Arc::default();
        let other = batch.clone();
        let hangs = tokio::spawn(async move { other.read("shop", std::future::pending::<Option<u8>>).await });
        while batch
            .0
            .lock()
            .unwrap()
            .get("shop")
            .is_none_or(|line| line.next.is_some())
        {
            tokio::task::yield_now().await;
        }
        let begun = std::time::Instant::now();
        let told = batch.read("shop", || async { Some(7) }).await;
        assert_eq!(told.as_deref(), Some(&7));
        assert!(begun.elapsed() >= PATIENCE, "{:?}", begun.elapsed());
        hangs.abort();
    }

    #[tokio::test]
    async fn of_namespaces_that_nobody_reads_any_more_no_line_is_kept() {
        let batch = Batch::<u8>::default();
        for number in 0..100 {
            batch.read(&number.to_string(), || async { Some(1) }).await;
        }
        let lines = batch.0.lock().unwrap();
        assert_eq!(lines.keys().collect::<Vec<_>>(), ["99"]);
    }

    #[tokio::test]
    async fn a_read_that_fails_is_nothing_to_all_who_asked_for_it() {
        let batch = Batch::<u8>::default();
        assert!(batch.read("shop", || async { None }).await.is_none());
        assert_eq!(batch.read("shop", || async { Some(1) }).await.as_deref(), Some(&1));
    }
}
