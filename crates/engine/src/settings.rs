//! What the administrator decides for the whole installation; part of every observation.

use std::collections::BTreeMap;

use flywheel_api::flywheel_pipeline::ArtifactStore;
use flywheel_api::reference::AutomationLevel;
use serde::{Deserialize, Serialize};

/// The administrator's settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Settings {
    /// Stops every forward decision; rollbacks go on.
    pub brake: Brake,
    /// Highest automation level of any pipeline.
    pub automation_ceiling: AutomationLevel,
    /// Artifact store of pipelines that name none.
    pub artifacts: Option<ArtifactStore>,
    /// Metric providers by name.
    pub metric_providers: Vec<MetricProvider>,
    /// Most runs with a running stage per namespace; further ones wait.
    pub max_runs_per_namespace: i32,
    /// Requests of stages that name none, such as `cpu: 100m`.
    pub default_requests: BTreeMap<String, String>,
    /// Limits of stages that name none.
    pub default_limits: BTreeMap<String, String>,
    /// Seconds for which a Job is kept after its result was recorded.
    pub job_retention_seconds: i64,
}

/// The administrator's brake.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Brake {
    /// Whether it is pulled.
    pub engaged: bool,
    /// Why, shown on every object that it holds.
    pub reason: String,
}

/// A metric provider.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricProvider {
    /// Name that checks and triggers refer to.
    pub name: String,
    /// Base URL of a Prometheus HTTP API.
    pub url: String,
}

impl Settings {
    /// The metric provider that the administrator declared by this name.
    #[must_use]
    pub fn provider(&self, name: &str) -> Option<&MetricProvider> {
        self.metric_providers.iter().find(|p| p.name == name)
    }
}

impl Default for Settings {
    fn default() -> Self {
        let quantities = |cpu: &str, memory: &str| {
            BTreeMap::from([
                ("cpu".to_owned(), cpu.to_owned()),
                ("memory".to_owned(), memory.to_owned()),
            ])
        };
        Self {
            brake: Brake::default(),
            automation_ceiling: AutomationLevel::FullyAutomated,
            artifacts: None,
            metric_providers: Vec::new(),
            max_runs_per_namespace: 10,
            default_requests: quantities("100m", "128Mi"),
            default_limits: BTreeMap::from([("memory".to_owned(), "1Gi".to_owned())]),
            job_retention_seconds: 3600,
        }
    }
}
