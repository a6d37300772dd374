//! What every controller needs: the client, the administrator's settings, the metric providers.

use std::sync::Arc;

use flywheel_engine::settings::Settings;
use kube::Client;
use tokio::sync::watch;

/// Shared by all controllers.
#[derive(Clone)]
pub struct Context {
    /// Client whose writes are not retried by itself.
    pub client: Client,
    settings: watch::Receiver<Arc<Settings>>,
}

impl Context {
    /// A context with these settings, followed as they change.
    #[must_use]
    pub const fn new(client: Client, settings: watch::Receiver<Arc<Settings>>) -> Self {
        Self { client, settings }
    }

    /// The settings in force now.
    #[must_use]
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.borrow().clone()
    }
}
