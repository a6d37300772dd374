//! The log: JSON or text, filtered by `RUST_LOG`.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::args::LogFormat;

/// What is logged where `RUST_LOG` does not say otherwise.
const LEVEL: &str = "info";
/// Stands before what is asked for, which may name these crates, too. The client's warnings hold whole answers of the API
/// server, and with them what users wrote; what failed is told by our own.
const QUIET: &str = "kube_client=error,kube_runtime=warn";

/// Starts logging; a second call does nothing.
pub fn start(format: LogFormat) {
    let asked = std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_default();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter(&asked))
        .with_target(false)
        .with_ansi(std::io::stdout().is_terminal());
    let started = match format {
        LogFormat::Json => builder
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .try_init(),
        LogFormat::Text => builder.try_init(),
    };
    if let Err(error) = started {
        tracing::debug!(%error, "logging was started before");
    }
}

/// The filter for what is asked for; nothing, and what cannot be read, asks for the default.
fn filter(asked: &str) -> EnvFilter {
    let asked = if asked.is_empty() { LEVEL } else { asked };
    let quietly = |asked: &str| format!("{QUIET},{asked}");
    EnvFilter::try_new(quietly(asked)).unwrap_or_else(|_| EnvFilter::new(quietly(LEVEL)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_alone_does_not_log_the_answers_that_the_client_could_not_read() {
        let default = "kube_runtime=warn,kube_client=error,info";
        for (asked, chosen) in [
            ("", default),
            ("info", default),
            ("flywheel=loud", default),
            ("debug", "kube_runtime=warn,kube_client=error,debug"),
            (
                "info,flywheel::driver=trace",
                "flywheel::driver=trace,kube_runtime=warn,kube_client=error,info",
            ),
            ("info,kube_client=debug", "kube_runtime=warn,kube_client=debug,info"),
        ] {
            assert_eq!(filter(asked).to_string(), chosen, "{asked}");
        }
    }
}
