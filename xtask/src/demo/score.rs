//! Every version on every week, scored by a Job of the example: what the report compares.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::kube::{Kube, text};
use super::play::Ended;

/// Mean absolute error, in minutes, of one version on the flights of one week.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// The week.
    pub week: u32,
    /// The version.
    pub version: String,
    /// All flights.
    pub all: f64,
    /// Flights from small airports.
    pub small: f64,
    /// Flights from hubs.
    pub hub: f64,
}

/// Runs the Job and reads what it printed.
pub fn all(kube: &Kube, ended: &[Ended]) -> Result<Vec<Score>> {
    let models = ended.iter().filter_map(|one| {
        let version = one.version.as_ref()?;
        let path = text(version, "/spec/artifact/uri").strip_prefix("pvc://quickship/")?;
        Some(format!("{}=/data/{path}", one.version_name()))
    });
    let models: Vec<String> = models.collect();
    let list = format!(
        "\"25\", {}]",
        models.iter().map(|m| format!("{m:?}")).collect::<Vec<_>>().join(", ")
    );
    kube.apply_text(&kube.manifest("score.yaml")?.replace("\"25\"]", &list))?;
    let end = Instant::now() + Duration::from_secs(300);
    loop {
        let job: Value = serde_json::from_str(&kube.kubectl(&["get", "job", "score", "--output=json"])?)
            .context("kubectl printed no JSON")?;
        let counts = |key: &str| job.pointer(key).and_then(Value::as_i64).unwrap_or(0);
        if counts("/status/succeeded") > 0 {
            break;
        }
        if counts("/status/failed") > 0 || Instant::now() > end {
            bail!(
                "the Job score did not succeed: kubectl logs job/score -n {}",
                kube.namespace
            );
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    parse(&kube.kubectl(&["logs", "job/score"])?)
}

fn parse(text: &str) -> Result<Vec<Score>> {
    let read = |line| serde_json::from_str(line).with_context(|| format!("the Job score printed `{line}`"));
    text.lines().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn scores_are_read_and_anything_else_is_an_error() {
        let line = r#"{"week": 3, "version": "eta-1", "all": 17.0, "small": 15.0, "hub": 17.3}"#;
        assert_eq!(parse(line).map(|all| all.len()).unwrap_or(0), 1);
        assert!(parse("Traceback").is_err());
    }
}
