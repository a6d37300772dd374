#![cfg_attr(
    test,
    allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)
)]

//! `kubectl flywheel`: the loop for people at a terminal.
//!
//! Reads objects, shows them, and writes only specs, one annotation and Approvals, always with the user's own
//! credentials. A verb is one file of [`command`]: it reads what it needs into a [`world::World`], and everything that
//! is printed is a pure function of that world ([`show`]). What is said about an object is what its status says; the
//! plugin has no opinion of its own.

mod args;
mod cluster;
mod command;
#[cfg(test)]
mod documents;
mod error;
mod paper;
mod reference;
#[cfg(test)]
mod scenes;
mod show;
mod subject;
mod tree;
mod words;
mod world;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

/// Exit code of what failed or was refused.
const FAILED: u8 = 1;

/// Parses the arguments, does what they ask and says how it went: 0 done, 1 failed or refused, 2 not understood;
/// `status` knows 3 and 4 too.
#[must_use]
pub fn main() -> ExitCode {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let arguments = args::Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the plugin cannot start: {error}");
            return ExitCode::from(FAILED);
        }
    };
    match runtime.block_on(command::run(&arguments)) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(FAILED)
        }
    }
}

/// The whole command line.
fn command_line() -> clap::Command {
    args::Arguments::command()
}
