//! What can be started beside a cluster that is up, and ends with it.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};

use super::control_plane;
use super::identities::Identities;
use super::processes::{Place, mark};
use super::{Cluster, Profile};

/// A program that stops when this is dropped, and at the latest when its cluster is taken down.
#[derive(Debug)]
pub struct Beside(Child);

impl Beside {
    /// The number of its process.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Cluster {
    /// Starts a program of this process, which writes to that log.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn beside(&self, component: &str, mut command: Command, path: &Path) -> Result<Beside> {
        let log = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
        // With this mark `cluster down` finds it, also when nobody is left who would stop it.
        mark(&mut command, &self.state, component);
        let child = command
            .stdout(log.try_clone()?)
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start the {component}"))?;
        println!("{component} on {}: log in {}", self.name, path.display());
        Ok(Beside(child))
    }

    /// Starts the scheduler on a cluster whose profile has none.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start_scheduler(&self) -> Result<()> {
        if self.profile == Profile::Full {
            return Ok(());
        }
        let identities = Identities::at(self.state.join("identities"));
        control_plane::start_scheduler(&self.place(), &identities)
    }

    /// Where programs are started that outlive this process and end when the cluster is taken down.
    pub fn place(&self) -> Place {
        Place {
            state: self.state.clone(),
            inside: None,
        }
    }
}
