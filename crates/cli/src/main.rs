//! Entry point of the plugin: `kubectl flywheel` runs the program `kubectl-flywheel` that it finds on the PATH.

use std::process::ExitCode;

fn main() -> ExitCode {
    flywheel_cli::main()
}
