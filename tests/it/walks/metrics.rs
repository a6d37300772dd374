//! The crash oracle: the operator's own metrics. No reconcile panicked or hung, and the process is the one that began.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Reasons of failed reconciles that no input may bring about.
const CRASHES: [&str; 2] = ["Panic", "Timeout"];

/// The operator's counters at one moment.
pub struct Metrics {
    crashes: f64,
    requests: f64,
}

impl Metrics {
    /// Asks the operator.
    pub async fn read() -> Result<Self, String> {
        let text = ask()
            .await
            .map_err(|error| format!("crash: the operator does not answer: {error}"))?;
        let sum = |fits: &dyn Fn(&str) -> bool| -> f64 {
            let lines = text.lines().filter(|line| fits(line));
            lines
                .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
                .sum()
        };
        let crashed = |line: &str| {
            let of = |reason: &&str| line.contains(&format!("reason=\"{reason}\""));
            line.starts_with("flywheel_reconcile_errors_total{") && CRASHES.iter().any(of)
        };
        let requests = sum(&|line| line.starts_with("flywheel_api_requests_total{"));
        if requests == 0.0 {
            return Err(format!("crash: these are not the metrics of an operator: {text}"));
        }
        Ok(Self {
            crashes: sum(&crashed),
            requests,
        })
    }

    /// Holds what is counted now against what was counted then.
    pub fn since(&self, then: &Self) -> Result<(), String> {
        if self.crashes > then.crashes {
            let count = self.crashes - then.crashes;
            return Err(format!(
                "crash: {count} reconciles panicked or hung: look at the operator's log"
            ));
        }
        if self.requests < then.requests {
            return Err("crash: the operator began anew, its counters are smaller than before".to_owned());
        }
        Ok(())
    }
}

async fn ask() -> std::io::Result<String> {
    let address = std::env::var("FLYWHEEL_TEST_API_METRICS")
        .unwrap_or_else(|_| panic!("FLYWHEEL_TEST_API_METRICS is not set: run `cargo xtask test`"));
    let mut stream = TcpStream::connect(&address).await?;
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
