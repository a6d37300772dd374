//! Whether the operator is alive (`/healthz`) and has begun to watch (`/readyz`).
//!
//! A watch that fails again and again for five minutes, or a controller whose stream ended, makes the process
//! unhealthy: a restart is then the best that can happen. That objects are looked at proves nothing: one of several
//! watches of a controller may be dead while timers and the other watches still wake it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Failures for longer than this are a dead watch.
const DEAD_AFTER: Duration = Duration::from_secs(300);
/// A failing watch tries again within this time; without a further failure it has recovered.
const RETRIES_WITHIN: Duration = Duration::from_secs(90);

/// Health of the whole process.
#[derive(Debug, Default)]
pub struct Health {
    watches: Mutex<BTreeMap<&'static str, Watch>>,
    ready: std::sync::atomic::AtomicBool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Watch {
    first: Option<Instant>,
    last: Option<Instant>,
    ended: bool,
}

impl Health {
    fn watches(&self) -> MutexGuard<'_, BTreeMap<&'static str, Watch>> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The process has a client, settings and a place in the election.
    pub fn ready(&self) {
        self.ready.store(true, std::sync::atomic::Ordering::Relaxed);
    }

    /// Whether the process may count as ready.
    pub fn is_ready(&self) -> bool {
        self.ready.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// A watch of this controller failed.
    pub fn watch_failed(&self, controller: &'static str, now: Instant) {
        let mut watches = self.watches();
        let watch = watches.entry(controller).or_default();
        let recovered = watch.last.is_none_or(|last| now.duration_since(last) > RETRIES_WITHIN);
        watch.first = watch.first.filter(|_| !recovered).or(Some(now));
        watch.last = Some(now);
    }

    /// The stream of this controller ended.
    pub fn ended(&self, controller: &'static str) {
        self.watches().entry(controller).or_default().ended = true;
    }

    /// What is wrong, if anything is.
    pub fn problem(&self, now: Instant) -> Option<String> {
        self.watches().iter().find_map(|(name, watch)| {
            if watch.ended {
                return Some(format!("the controller {name} has ended"));
            }
            let (first, last) = (watch.first?, watch.last?);
            let fresh = now.duration_since(last) <= RETRIES_WITHIN;
            let long = now.duration_since(first) >= DEAD_AFTER;
            (fresh && long).then(|| {
                format!(
                    "the watches of {name} have failed for {} s",
                    now.duration_since(first).as_secs()
                )
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_that_keeps_failing_is_dead_after_five_minutes() {
        let (health, start) = (Health::default(), Instant::now());
        for seconds in (0..300).step_by(30) {
            assert!(health.problem(start + Duration::from_secs(seconds)).is_none());
            health.watch_failed("run", start + Duration::from_secs(seconds));
        }
        assert!(health.problem(start + Duration::from_secs(300)).is_some());
        // It tried again and did not fail.
        assert!(health.problem(start + Duration::from_secs(391)).is_none());
    }

    #[test]
    fn a_single_failure_long_ago_is_forgotten() {
        let (health, start) = (Health::default(), Instant::now());
        health.watch_failed("run", start);
        health.watch_failed("run", start + Duration::from_secs(600));
        assert!(health.problem(start + Duration::from_secs(601)).is_none());
    }

    #[test]
    fn an_ended_controller_is_unhealthy_at_once() {
        let health = Health::default();
        health.ended("rollout");
        assert!(health.problem(Instant::now()).is_some());
    }
}
