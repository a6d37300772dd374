//! An operator that runs on this machine against a cluster.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::chart;
use crate::cluster::{Beside, Cluster};

/// An operator that stops when this is dropped.
#[derive(Debug)]
pub struct Operator(Beside);

impl Operator {
    /// Starts the program against a cluster on which the chart is installed, with the rights that the chart gives and
    /// no others; a `port` of 0 is for who asks it for nothing.
    ///
    /// # Errors
    /// If the API server gives no token, or if the program cannot be started.
    pub fn start(cluster: &Cluster, program: &Path, port: u16) -> Result<Self> {
        let path = cluster.state.join("operator.log");
        let mut command = Command::new(program);
        command
            .args(["--namespace", chart::NAMESPACE, "--leader-elect=false"])
            .args(["--log-format", "text", "--listen", &format!("127.0.0.1:{port}")])
            .env("KUBECONFIG", chart::kubeconfig(cluster)?);
        cluster.beside("operator", command, &path).map(Self)
    }

    /// The number of its process.
    pub fn pid(&self) -> u32 {
        self.0.pid()
    }
}

/// A port for a program that is about to start: it is free again when the listener is dropped.
///
/// # Errors
/// If there is none.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
