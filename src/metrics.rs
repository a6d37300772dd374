//! Metrics of the operator. What is known of objects is computed from the stores at scrape time, so that it vanishes
//! with the object. Names and labels are part of the API; no label has more values than there are objects.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

use crate::clock::Clock;
use crate::controller::Controller;
use crate::watch::Watches;

pub mod objects;

use self::objects::{Objects, Show, Shown};

/// All metrics.
pub struct Metrics {
    registry: Registry,
    reconciles: HistogramVec,
    queued: HistogramVec,
    errors: IntCounterVec,
    decisions: IntCounterVec,
    requests: IntCounterVec,
    leader: IntGauge,
    shows: Arc<Mutex<Vec<Show>>>,
}

impl Metrics {
    /// Registers everything. What is waited for is timed by that clock.
    ///
    /// # Errors
    /// If two metrics have the same name, which is a bug.
    pub fn new(clock: Arc<Clock>) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let reconciles = histogram(
            "flywheel_reconcile_duration_seconds",
            "Time of one reconcile.",
            &[0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0],
            &["kind", "result"],
        )?;
        let queued = histogram(
            "flywheel_queue_delay_seconds",
            "Time that an object waited for its turn.",
            &[0.005, 0.05, 0.25, 1.0, 5.0, 30.0, 120.0],
            &["kind"],
        )?;
        let errors = counter(
            "flywheel_reconcile_errors_total",
            "Reconciles that failed.",
            &["kind", "reason"],
        )?;
        let decisions = counter(
            "flywheel_decisions_total",
            "Changes of mind, by kind and decision.",
            &["kind", "decision"],
        )?;
        let requests = counter(
            "flywheel_api_requests_total",
            "Answers of the API server, by status code.",
            &["code"],
        )?;
        let leader = IntGauge::new("flywheel_leader", "1 while this process holds the lease.")?;
        let shows: Arc<Mutex<Vec<Show>>> = Arc::default();
        for counts in [&errors, &decisions, &requests] {
            registry.register(Box::new(counts.clone()))?;
        }
        for times in [&reconciles, &queued] {
            registry.register(Box::new(times.clone()))?;
        }
        registry.register(Box::new(leader.clone()))?;
        registry.register(Box::new(build_info()?))?;
        registry.register(Box::new(Objects::new(shows.clone(), clock)))?;
        Ok(Self {
            registry,
            reconciles,
            queued,
            errors,
            decisions,
            requests,
            leader,
            shows,
        })
    }

    /// One reconcile took this long.
    pub fn reconciled(&self, kind: &str, result: &str, time: Duration) {
        self.reconciles
            .with_label_values(&[kind, result])
            .observe(time.as_secs_f64());
    }

    /// An object waited this long for its turn.
    pub fn queued(&self, kind: &str, time: Duration) {
        self.queued.with_label_values(&[kind]).observe(time.as_secs_f64());
    }

    /// One reconcile failed.
    pub fn error(&self, kind: &str, reason: &str) {
        self.errors.with_label_values(&[kind, reason]).inc();
    }

    /// A decision was recorded.
    pub fn decision(&self, kind: &str, decision: &str) {
        self.decisions.with_label_values(&[kind, decision]).inc();
    }

    /// The API server answered a request.
    pub fn answered(&self, code: http::StatusCode) {
        self.requests.with_label_values(&[code.as_str()]).inc();
    }

    /// This process holds the lease, or does not.
    pub fn leader(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// Shows the objects of this controller from now on.
    pub fn watch_objects<C: Controller>(&self, watches: Arc<Watches>) {
        let show: Show = Box::new(move |families| {
            for guard in C::watched(&watches).all() {
                if let Ok(object) = &guard.0 {
                    object.show(families);
                }
            }
        });
        self.shows.lock().unwrap_or_else(PoisonError::into_inner).push(show);
    }

    /// All metrics in the text format of Prometheus.
    ///
    /// # Errors
    /// If a metric cannot be written, which is a bug.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

fn build_info() -> Result<IntGaugeVec, prometheus::Error> {
    let build = IntGaugeVec::new(
        Opts::new("flywheel_build_info", "Version of the operator; always 1."),
        &["version"],
    )?;
    build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
    Ok(build)
}

fn histogram(name: &str, help: &str, buckets: &[f64], labels: &[&str]) -> Result<HistogramVec, prometheus::Error> {
    HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels)
}

fn counter(name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
    IntCounterVec::new(Opts::new(name, help), labels)
}
