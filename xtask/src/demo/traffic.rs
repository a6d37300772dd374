//! The travellers of one week: a Job that asks for trips, and what it saw, second by second.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use super::kube::Kube;

/// What the travellers saw in one second.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Second {
    /// Seconds since 1970.
    pub at: f64,
    /// Week whose trips were asked for.
    pub week: u32,
    /// Answers by version.
    pub answers: BTreeMap<String, u64>,
    /// Sum of the absolute errors by version, in minutes.
    pub error_minutes: BTreeMap<String, f64>,
    /// Requests without a good answer.
    pub failed: u64,
    /// Why they failed.
    pub reasons: BTreeMap<String, u64>,
}

/// Travellers on their way.
#[derive(Debug)]
pub struct Travellers {
    job: String,
    log: PathBuf,
    follower: Child,
}

impl Travellers {
    /// Sends the travellers of a week on their way, and returns when the first one got an answer.
    pub fn depart(kube: &Kube, week: u32, folder: &Path) -> Result<Self> {
        let job = format!("travellers-week-{week:02}");
        let manifest = kube
            .manifest("travellers.yaml")?
            .replace("name: travellers }", &format!("name: {job} }}"))
            .replace("--week, \"4\"", &format!("--week, \"{week}\""));
        kube.apply_text(&manifest)?;
        let log = folder.join(format!("{job}.jsonl"));
        let end = Instant::now() + Duration::from_secs(180);
        let mut follower = kube.follow(&job, &log)?;
        loop {
            if read(&log).iter().any(|second| !second.answers.is_empty()) {
                return Ok(Self { job, log, follower });
            }
            // kubectl ends when the pod does not run yet.
            if follower.try_wait()?.is_some() {
                follower = kube.follow(&job, &log)?;
            }
            if Instant::now() > end {
                bail!("no traveller of week {week} got an answer in three minutes: kubectl describe job {job}");
            }
            thread::sleep(Duration::from_millis(500));
        }
    }

    /// What they have seen so far.
    pub fn seen(&self) -> Vec<Second> {
        read(&self.log)
    }

    /// Calls them back and returns what they saw.
    pub fn arrive(mut self, kube: &Kube) -> Result<Vec<Second>> {
        kube.kubectl(&["delete", "job", &self.job, "--wait=false", "--cascade=foreground"])?;
        let end = Instant::now() + Duration::from_secs(5);
        while self.follower.try_wait()?.is_none() && Instant::now() < end {
            thread::sleep(Duration::from_millis(100));
        }
        Ok(self.seen())
    }
}

impl Drop for Travellers {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.follower.kill();
        let _ = self.follower.wait();
    }
}

/// Requests and failures of many seconds.
pub fn count(seconds: &[Second]) -> (u64, u64) {
    let failed = seconds.iter().map(|second| second.failed).sum();
    let answered: u64 = seconds.iter().flat_map(|second| second.answers.values()).sum();
    (answered + failed, failed)
}

/// Mean absolute error of the answers of a version, with their number.
pub fn error_of(seconds: &[Second], version: &str) -> Option<(f64, u64)> {
    let answers: u64 = seconds.iter().filter_map(|s| s.answers.get(version)).sum();
    let minutes: f64 = seconds.iter().filter_map(|s| s.error_minutes.get(version)).sum();
    #[expect(clippy::cast_precision_loss, reason = "a demo has fewer answers than 2^52")]
    (answers > 0).then(|| (minutes / answers as f64, answers))
}

/// Lines that are not whole yet are left for the next look.
fn read(log: &Path) -> Vec<Second> {
    let text = fs::read_to_string(log).unwrap_or_default();
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_failures_and_errors_are_added_up() -> Result<()> {
        let line = r#"{"at":1.5,"week":4,"answers":{"eta-1":3,"eta-2":1},"errorMinutes":{"eta-1":30.0,"eta-2":5.0},"failed":2,"slowestMs":3.0}"#;
        let second: Second = serde_json::from_str(line)?;
        let seconds = [second.clone(), second];
        assert_eq!(count(&seconds), (12, 4));
        assert_eq!(error_of(&seconds, "eta-1"), Some((10.0, 6)));
        assert_eq!(error_of(&seconds, "eta-9"), None);
        Ok(())
    }
}
