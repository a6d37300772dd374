//! Command line of the operator.

use std::net::SocketAddr;

use clap::{Parser, ValueEnum};

/// Kubernetes operator for the closed loop of a model.
#[derive(Clone, Debug, Parser)]
#[command(name = "flywheel-operator", version)]
pub struct Args {
    /// Namespace of the operator itself: its lease and its configuration lie there.
    #[arg(long, env = "POD_NAMESPACE", default_value = "flywheel-system")]
    pub namespace: String,
    /// ConfigMap with the administrator's settings, under the key config.yaml. Without this argument they are those
    /// of flywheel-config, if it exists; a map that is named must exist, else the brake is pulled.
    #[arg(long)]
    pub config_map: Option<String>,
    /// Namespaces to watch, separated by commas; all of them if absent.
    #[arg(long, value_delimiter = ',')]
    pub watch_namespaces: Vec<String>,
    /// Address of /metrics, /healthz and /readyz.
    #[arg(long, default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// Form of the log.
    #[arg(long, value_enum, default_value_t = LogFormat::Json)]
    pub log_format: LogFormat,
    /// Wait for the lease before acting.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub leader_elect: bool,
    /// Name of the lease.
    #[arg(long, default_value = "flywheel-operator")]
    pub lease_name: String,
    /// Name of this process among its replicas.
    #[arg(long, env = "POD_NAME", default_value = "flywheel-operator-local")]
    pub identity: String,
}

/// Form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// For people.
    Text,
}
