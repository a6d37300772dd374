//! Who wrote what and when, by the API server's audit log. Events and leases are left out.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::cluster::Cluster;

/// The operator's requests carry a name that begins so.
pub const OPERATOR: &str = "flywheel-operator/";
/// So do the requests that make the load.
pub const LOAD: &str = "flywheel-bench/1";

/// So do those of Kubernetes' own controllers.
pub const KUBERNETES: &str = "kube-controller-manager/";

/// One successful write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// What the program that wrote calls itself.
    pub agent: String,
    /// What it did, such as `create`.
    pub verb: String,
    /// What was written to.
    pub to: Place,
    /// When the API server had the request.
    pub received: Timestamp,
    /// When the answer was sent.
    pub answered: Timestamp,
    /// What the API server has since.
    pub object: Object,
}

/// Where an object is, or a part of one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Place {
    /// The kind in the words of an address, such as `jobs`.
    pub resource: String,
    /// The part, such as `status`.
    pub subresource: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// What matters here of an object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Object {
    metadata: Metadata,
    /// An object only for what is a kind; the answer to a deletion has a word here.
    status: Value,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    owner_references: Vec<Owner>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Owner {
    name: String,
}

impl Object {
    /// The name of its first owner.
    pub fn owner(&self) -> Option<&str> {
        self.metadata.owner_references.first().map(|owner| owner.name.as_str())
    }

    /// Its phase.
    pub fn phase(&self) -> &str {
        self.status.get("phase").and_then(Value::as_str).unwrap_or_default()
    }

    /// The step at which it is.
    pub fn step(&self) -> Option<&str> {
        self.status.pointer("/step/name")?.as_str()
    }
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
    object_ref: Place,
    request_received_timestamp: Timestamp,
    stage_timestamp: Timestamp,
    #[serde(default)]
    response_status: Answer,
    #[serde(default)]
    response_object: Option<Object>,
}

#[derive(Deserialize, Default)]
struct Answer {
    #[serde(default)]
    code: u16,
}

fn write(line: &[u8]) -> Result<Option<Write>> {
    let line: Line = serde_json::from_slice(line).context("a line of the audit log is no event")?;
    let wrote = ["create", "update", "patch", "delete", "deletecollection"].contains(&line.verb.as_str());
    let succeeded = (200..300).contains(&line.response_status.code);
    let told = ["events", "leases"].contains(&line.object_ref.resource.as_str());
    let counts = line.stage == "ResponseComplete" && wrote && succeeded && !told;
    Ok(counts.then(|| Write {
        agent: line.user_agent,
        verb: line.verb,
        to: line.object_ref,
        received: line.request_received_timestamp,
        answered: line.stage_timestamp,
        object: line.response_object.unwrap_or_default(),
    }))
}

/// How many writes a program with such a name made.
pub fn count(writes: &[Write], agent: &str) -> usize {
    writes.iter().filter(|write| write.agent.starts_with(agent)).count()
}

#[cfg(test)]
mod tests {
    use super::{OPERATOR, count, write};

    fn line(verb: &str, stage: &str, code: u16, resource: &str) -> String {
        let object = r#"{"metadata":{"name":"a","ownerReferences":[{"kind":"FlywheelRun","name":"one"}]},
            "status":{"phase":"Holding","step":{"name":"half","weight":50}}}"#;
        let text = format!(
            r#"{{"stage":"{stage}","verb":"{verb}","userAgent":"flywheel-operator/1",
            "objectRef":{{"resource":"{resource}","namespace":"n","name":"a","uid":"u"}},
            "requestReceivedTimestamp":"2026-01-01T00:00:00.000001Z","stageTimestamp":"2026-01-01T00:00:00.250001Z",
            "responseStatus":{{"code":{code}}},"responseObject":{object}}}"#
        );
        text.replace('\n', " ")
    }

    #[test]
    fn writes_are_counted_by_who_made_them() -> anyhow::Result<()> {
        let made = write(line("create", "ResponseComplete", 201, "jobs").as_bytes())?.expect("a write");
        assert_eq!(count(&[made.clone(), made.clone()], OPERATOR), 2);
        assert_eq!(count(&[made], "kubectl/"), 0);
        Ok(())
    }

    #[test]
    fn a_write_says_what_it_left_and_how_long_it_took() -> anyhow::Result<()> {
        let made = write(line("create", "ResponseComplete", 201, "jobs").as_bytes())?.expect("a write");
        assert_eq!((made.to.resource.as_str(), made.to.name.as_str()), ("jobs", "a"));
        assert_eq!(made.object.owner(), Some("one"));
        assert_eq!((made.object.phase(), made.object.step()), ("Holding", Some("half")));
        assert_eq!(made.answered.duration_since(made.received).as_millis(), 250);
        Ok(())
    }

    #[test]
    fn the_answer_to_a_deletion_is_no_object() -> anyhow::Result<()> {
        let text = line("delete", "ResponseComplete", 200, "jobs");
        let from = text.find(r#""status":{"phase""#).expect("a status");
        let text = format!(r#"{}"status":"Success"}}}}"#, &text[..from]);
        let made = write(text.as_bytes())?.expect("a write");
        assert_eq!((made.object.phase(), made.object.step()), ("", None));
        Ok(())
    }

    #[test]
    fn reads_events_and_refused_or_unfinished_writes_are_no_writes() -> anyhow::Result<()> {
        assert_eq!(write(line("get", "ResponseComplete", 200, "jobs").as_bytes())?, None);
        assert_eq!(write(line("update", "ResponseComplete", 409, "jobs").as_bytes())?, None);
        assert_eq!(write(line("update", "RequestReceived", 200, "jobs").as_bytes())?, None);
        assert_eq!(
            write(line("create", "ResponseComplete", 201, "events").as_bytes())?,
            None
        );
        assert!(write(b"{").is_err());
        Ok(())
    }
}
