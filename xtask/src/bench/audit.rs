//! Who wrote how often, by the API server's audit log. Events and leases are not in it.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::cluster::Cluster;

/// The operator's requests carry a name that begins so.
pub const OPERATOR: &str = "flywheel-operator/";
/// So do the requests that make the load.
pub const LOAD: &str = "flywheel-bench/1";

/// One successful write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// What the program that wrote calls itself.
    pub agent: String,
}

/// The part of an audit log that has not been read yet.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    from: u64,
}

impl Log {
    /// Begins at the present end.
    ///
    /// # Errors
    /// If there is no log.
    pub fn of(cluster: &Cluster) -> Result<Self> {
        let path = cluster.audit_log.clone();
        let from = std::fs::metadata(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self { path, from: from.len() })
    }

    /// The successful writes that are whole in the log and have not been read before.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn read(&mut self) -> Result<Vec<Write>> {
        let context = || format!("cannot read {}", self.path.display());
        let mut file = File::open(&self.path).with_context(context)?;
        file.seek(SeekFrom::Start(self.from)).with_context(context)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).with_context(context)?;
        // What comes after the last line break is still being written.
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        bytes.truncate(whole);
        self.from += u64::try_from(whole).unwrap_or_default();
        let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.filter_map(|line| write(line).transpose()).collect()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    stage: String,
    verb: String,
    #[serde(default)]
    user_agent: String,
    #[serde(default)]
    response_status: Status,
}

#[derive(Deserialize, Default)]
struct Status {
    #[serde(default)]
    code: u16,
}

fn write(line: &[u8]) -> Result<Option<Write>> {
    let line: Line = serde_json::from_slice(line).context("a line of the audit log is no event")?;
    let wrote = ["create", "update", "patch", "delete", "deletecollection"].contains(&line.verb.as_str());
    let succeeded = (200..300).contains(&line.response_status.code);
    let counts = line.stage == "ResponseComplete" && wrote && succeeded;
    Ok(counts.then_some(Write { agent: line.user_agent }))
}

/// How many writes a program with such a name made.
pub fn count(writes: &[Write], agent: &str) -> usize {
    writes.iter().filter(|write| write.agent.starts_with(agent)).count()
}

#[cfg(test)]
mod tests {
    use super::{OPERATOR, count, write};

    fn line(verb: &str, stage: &str, code: u16) -> String {
        format!(
            r#"{{"stage":"{stage}","verb":"{verb}","userAgent":"flywheel-operator/1","responseStatus":{{"code":{code}}}}}"#
        )
    }

    #[test]
    fn writes_are_counted_by_who_made_them() -> anyhow::Result<()> {
        let made = write(line("create", "ResponseComplete", 201).as_bytes())?.expect("a write");
        assert_eq!(count(&[made.clone(), made.clone()], OPERATOR), 2);
        assert_eq!(count(&[made], "kubectl/"), 0);
        Ok(())
    }

    #[test]
    fn reads_and_refused_or_unfinished_writes_are_no_writes() -> anyhow::Result<()> {
        assert_eq!(write(line("get", "ResponseComplete", 200).as_bytes())?, None);
        assert_eq!(write(line("update", "ResponseComplete", 409).as_bytes())?, None);
        assert_eq!(write(line("update", "RequestReceived", 200).as_bytes())?, None);
        assert!(write(b"{").is_err());
        Ok(())
    }
}
