//! What every controller needs: the client, the administrator's settings, metrics, health, the metric providers.

use std::sync::Arc;

use flywheel_engine::settings::Settings;
use kube::Client;
use kube::runtime::events::{Recorder, Reporter};
use tokio::sync::watch;

use crate::clock::Clock;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::source::prometheus::Prometheus;
use crate::throttle::Throttle;
use crate::watch::Watches;

/// Shared by all controllers.
#[derive(Clone)]
pub struct Context {
    /// Client whose writes are not retried by itself.
    pub client: Client,
    /// Publishes events.
    pub recorder: Recorder,
    /// Counts what happens.
    pub metrics: Arc<Metrics>,
    /// Knows whether the watches live.
    pub health: Arc<Health>,
    /// Asks metric providers.
    pub prometheus: Prometheus,
    /// What the watches know.
    pub watches: Arc<Watches>,
    /// Knows whether the API server wants to be left alone.
    pub throttle: Arc<Throttle>,
    /// Now, as the API server says.
    pub clock: Arc<Clock>,
    settings: watch::Receiver<Arc<Settings>>,
}

impl Context {
    /// A context with these settings, followed as they change.
    #[must_use]
    pub fn new(
        client: Client,
        identity: &str,
        settings: watch::Receiver<Arc<Settings>>,
        metrics: Arc<Metrics>,
        health: Arc<Health>,
        throttle: Arc<Throttle>,
        clock: Arc<Clock>,
    ) -> Self {
        let reporter = Reporter {
            controller: "flywheel".to_owned(),
            instance: Some(identity.to_owned()),
        };
        let recorder = Recorder::new(client.clone(), reporter);
        Self {
            client,
            recorder,
            metrics,
            health,
            prometheus: Prometheus::default(),
            watches: Arc::default(),
            throttle,
            clock,
            settings,
        }
    }

    /// The same with other watches.
    #[must_use]
    pub fn watching(&self, watches: Arc<Watches>) -> Self {
        Self {
            watches,
            ..self.clone()
        }
    }

    /// The settings in force now.
    #[must_use]
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.borrow().clone()
    }

    /// Notices every change of the settings.
    #[must_use]
    pub fn settings_changes(&self) -> watch::Receiver<Arc<Settings>> {
        self.settings.clone()
    }
}
