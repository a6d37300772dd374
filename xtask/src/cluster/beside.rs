//! What can be started beside a cluster that is up, and ends with it.

use std::path::Path;

use anyhow::Result;

use super::control_plane;
use super::identities::Identities;
use super::processes::Place;
use super::{Cluster, Profile};

impl Cluster {
    /// Starts a program that ends when the cluster is taken down, and whose log is among those of the cluster.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start<A: AsRef<std::ffi::OsStr>>(
        &self,
        component: &str,
        program: &Path,
        args: impl IntoIterator<Item = A>,
    ) -> Result<()> {
        self.place().start(component, program, args)
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

    fn place(&self) -> Place {
        Place {
            state: self.state.clone(),
            inside: None,
        }
    }
}
