//! Verdicts on lineage as a page: each version with its entries, and what was found.

use flywheel_api::ModelVersion;
use flywheel_api::lineage::LineageEntry;
use flywheel_engine::lineage::register::{Register, Verdict};

use crate::paper::{Paper, Tone};
use crate::tree::{self, Node};
use crate::words;

/// All verdicts, and the sum of them.
#[must_use]
pub fn page(paper: Paper, register: &Register, verdicts: &[Verdict]) -> String {
    let nodes: Vec<Node> = verdicts
        .iter()
        .map(|verdict| {
            let same = |v: &&ModelVersion| {
                v.metadata.uid.as_deref().unwrap_or_default() == verdict.uid
                    && v.status.as_ref().and_then(|s| s.lineage.as_ref()).map(|l| &l.head) == verdict.head.as_ref()
                    && v.metadata.name.as_ref() == Some(&verdict.name)
            };
            node(register.versions.iter().find(same), verdict)
        })
        .collect();
    format!("{}{}\n", tree::draw(paper, &nodes), sum(verdicts))
}

fn node(version: Option<&ModelVersion>, verdict: &Verdict) -> Node {
    let (tone, state) = match (verdict.findings.as_slice(), verdict.notices.as_slice()) {
        ([], []) => (Tone::Good, "Whole"),
        ([], _) => (Tone::Waits, "Noted"),
        _ => (Tone::Bad, "Found"),
    };
    let mut node = Node::new(format!("ModelVersion {}", verdict.name), tone, state);
    if let Some(head) = &verdict.head {
        let kept = match verdict.anchors {
            0 => "nobody else knows a head of it".to_owned(),
            1 => "held against 1 head that is kept elsewhere".to_owned(),
            many => format!("held against {many} heads that are kept elsewhere"),
        };
        node = node.saying(format!(
            "{}, head {}; {kept}",
            entries_of(i64::from(head.length)),
            words::short(&head.digest.0)
        ));
    }
    let entries = version
        .and_then(|v| v.status.as_ref())
        .and_then(|s| s.lineage.as_ref())
        .map(|l| l.entries.as_slice())
        .unwrap_or_default();
    node.children = entries.iter().map(entry).collect();
    let found = verdict.findings.iter();
    node.children.extend(
        found.map(|f| Node::new("finding", Tone::Bad, format!("{:?}", f.defect)).saying(format!("{}.", f.message))),
    );
    let noted = verdict.notices.iter();
    node.children.extend(
        noted.map(|n| Node::new("notice", Tone::Waits, format!("{:?}", n.remark)).saying(format!("{}.", n.message))),
    );
    node
}

fn entry(entry: &LineageEntry) -> Node {
    let subjects: Vec<String> = entry
        .subjects
        .iter()
        .map(|s| format!("{} {}", s.kind, s.name))
        .collect();
    Node::new(
        format!("entry {}", entry.index),
        Tone::Plain,
        format!("{:?}", entry.type_),
    )
    .aged(entry.at.0.to_string())
    .saying(subjects.join(", "))
}

fn sum(verdicts: &[Verdict]) -> String {
    let findings: usize = verdicts.iter().map(|v| v.findings.len()).sum();
    let bad = verdicts.iter().filter(|v| !v.findings.is_empty()).count();
    let entries: i64 = verdicts
        .iter()
        .filter_map(|v| v.head.as_ref())
        .map(|h| i64::from(h.length))
        .sum();
    let versions = match verdicts.len() {
        1 => "1 version".to_owned(),
        many => format!("{many} versions"),
    };
    let of = format!("{versions} with {}", entries_of(entries));
    match findings {
        0 => format!("Nothing was found in {of}."),
        1 => format!("1 finding in {bad} of {of}."),
        many => format!("{many} findings in {bad} of {of}."),
    }
}

fn entries_of(count: i64) -> String {
    if count == 1 {
        "1 entry".to_owned()
    } else {
        format!("{count} entries")
    }
}
