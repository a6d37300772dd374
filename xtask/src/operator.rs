//! An operator that runs on this machine against a cluster.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};

use crate::chart;
use crate::cluster::{self, Cluster};

/// An operator that stops when this is dropped.
#[derive(Debug)]
pub struct Operator(Child);

impl Operator {
    /// Starts the program against a cluster on which the chart is installed, with the rights that the chart gives and
    /// no others; a `port` of 0 is for who asks it for nothing.
    ///
    /// # Errors
    /// If the API server gives no token, or if the program cannot be started.
    pub fn start(cluster: &Cluster, program: &Path, port: u16) -> Result<Self> {
        let path = cluster.state.join("operator.log");
        let log = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        let mut command = Command::new(program);
        // With this mark `cluster down` finds it, also when nobody is left who would stop it.
        cluster::mark(&mut command, &cluster.state, "operator");
        let child = command
            .args(["--namespace", chart::NAMESPACE, "--leader-elect=false"])
            .args(["--log-format", "text", "--listen", &format!("127.0.0.1:{port}")])
            .env("KUBECONFIG", chart::kubeconfig(cluster)?)
            .stdout(log.try_clone()?)
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .context("cannot start the operator")?;
        println!("operator on {}: log in {}", cluster.name, path.display());
        Ok(Self(child))
    }

    /// The number of its process.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
