//! Conditions and reasons, read from the source of the decisions: a reason that the code does not use is on no page.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::text::{is_next, is_sentence, literals};
use super::{cell, head};

/// Where decisions are.
const ENGINE: &str = "crates/engine/src";

/// Where the reasons of each kind are decided.
const KINDS: [(&str, &[&str]); 5] = [
    ("FlywheelPipeline", &["pipeline", "view.rs", "denial.rs"]),
    ("FlywheelRun", &["run", "promotion.rs", "view.rs", "denial.rs"]),
    ("Rollout", &["rollout", "binding.rs", "denial.rs"]),
    ("ModelVersion", &["model_version"]),
    ("BiasPolicy", &["bias_policy"]),
];

/// Where verdicts of gates and policies are decided.
const VERDICTS: [&str; 2] = ["gate.rs", "bias"];

/// What is said of a reason whose sentence comes from elsewhere.
const PASSED_ON: &str = "(the sentence of what was found)";

/// Reasons that stand in a match instead of a call, in the order of the errors that they belong to.
const NAMED: [&str; 3] = ["ContainerNotFound", "BindingNotLiteral", "BindingInvalid"];

const INTRODUCTION: &str = "\
Conditions are for machines, their messages for people: one sentence on what is so, since when, and what to do.

`Ready` sums up: nothing is wrong; waiting for a person, time or data is Ready.
`Reconciling` and `Stalled` are only present while they are true: the machine works, or it cannot go on without a change.
`kubectl wait`, Helm and Flux read them as they are.

| Condition | True means |
| --- | --- |
";

/// The page.
pub fn page() -> Result<String> {
    let mut text = head("Conditions and reasons");
    text.push_str(INTRODUCTION);
    for (name, doc) in types(include_str!("../../../crates/api/src/condition.rs")) {
        writeln!(text, "| `{name}` | {} |", cell(&doc))?;
    }
    text.push_str("\nWhere a sentence below has `…`, the object's own names and numbers stand.\n");
    for (kind, places) in KINDS {
        table(&mut text, &format!("Reasons of {kind}"), ENGINE, places)?;
    }
    table(&mut text, "Reasons of all these kinds", "src", &["invalid.rs"])?;
    table(&mut text, "Reasons of verdicts", ENGINE, &VERDICTS)?;
    Ok(text)
}

fn table(text: &mut String, title: &str, folder: &str, places: &[&str]) -> Result<()> {
    let mut reasons: BTreeMap<String, String> = BTreeMap::new();
    for place in places {
        for file in sources(&Path::new(folder).join(place))? {
            let source = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
            for (reason, sentence) in found(&source) {
                let known = reasons.entry(reason).or_default();
                if known.is_empty() {
                    *known = sentence;
                }
            }
        }
    }
    writeln!(text, "\n## {title}\n\n| Reason | Says |\n| --- | --- |")?;
    for (reason, sentence) in reasons {
        writeln!(text, "| `{reason}` | {} |", cell(&sentence))?;
    }
    Ok(())
}

/// The file, or the files of the folder, in order.
fn sources(place: &Path) -> Result<Vec<PathBuf>> {
    if place.is_file() {
        return Ok(vec![place.to_owned()]);
    }
    let entries = fs::read_dir(place).with_context(|| format!("cannot read {}", place.display()))?;
    let mut all = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
        if path.is_dir() {
            all.extend(sources(&path)?);
        } else if name.ends_with(".rs") && !name.contains("test") {
            all.push(path);
        }
    }
    all.sort();
    Ok(all)
}

/// The documented condition types.
fn types(source: &str) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let mut doc = String::new();
    for line in source.lines() {
        if let Some(words) = line.strip_prefix("/// ") {
            doc = format!("{doc} {words}").trim().to_owned();
            continue;
        }
        if let Some(name) = line.strip_prefix("pub const ").and_then(|l| l.split('"').nth(1)) {
            all.push((name.to_owned(), doc.clone()));
        }
        doc.clear();
    }
    all
}

/// Every UpperCamelCase text that is followed by a sentence, or follows one: that is how reasons are written.
fn found(source: &str) -> Vec<(String, String)> {
    let code = source.split("#[cfg(test)]").next().unwrap_or_default();
    let texts = literals(&spelled_out(code));
    let is_error = |before: &str| before.trim_end().ends_with("#[error(");
    let errors: Vec<&String> = texts.iter().filter(|(_, b)| is_error(b)).map(|(t, _)| t).collect();
    let mut all = Vec::new();
    for (index, (text, before)) in texts.iter().enumerate() {
        if !is_reason(text) || !(is_call(before) || NAMED.contains(&text.as_str())) {
            continue;
        }
        let after = texts.get(index + 1).filter(|(t, code)| is_sentence(t) && is_next(code));
        let earlier = texts.get(index.saturating_sub(3)..index).unwrap_or_default();
        let earlier = earlier.iter().rev().find(|(t, _)| is_sentence(t));
        let foreign = texts.get(index + 1).is_some_and(|(_, code)| is_foreign(code));
        let sentence = match NAMED.iter().position(|n| n == text) {
            Some(number) => errors.get(number).copied(),
            None => after.or(earlier.filter(|_| !foreign)).map(|(t, _)| t),
        };
        let sentence = sentence.map(|t| readable(t));
        all.push((text.clone(), sentence.unwrap_or_else(|| PASSED_ON.to_owned())));
    }
    all
}

/// The code with its named texts where they are passed on.
fn spelled_out(code: &str) -> String {
    let lines = code.lines();
    let named = lines.filter_map(|l| l.strip_prefix("const ")?.strip_suffix(';')?.split_once(": &str = "));
    named.fold(code.to_owned(), |code, (name, text)| {
        code.replace(&format!("({name},"), &format!("({text},"))
    })
}

/// The sentence belongs to another object: it is passed on as it is.
fn is_foreign(code: &str) -> bool {
    let code: String = code.split_whitespace().collect();
    code.starts_with(",&*") && !code.starts_with(",&*message") && !code.starts_with(",&*why")
}

fn is_reason(text: &str) -> bool {
    text.len() > 2
        && text.starts_with(|c: char| c.is_ascii_uppercase())
        && text.chars().all(|c| c.is_ascii_alphanumeric())
        && text.chars().any(|c| c.is_ascii_lowercase())
}

/// The code before the text is a call that takes a reason.
fn is_call(before: &str) -> bool {
    let code: String = before.split_whitespace().collect();
    let calls = [
        "Why::new(",
        "Plan::ready(",
        "Sentence::new(",
        "Hold::waiting(",
        "Standing::new(kind,",
        "Next::Wait(",
        "Next::Missing(",
        "condition::FRESH,",
        "condition::LIVE_VERSION_UNKNOWN,",
        "condition::READY,",
        "draft.act(",
        "Absent::new(name,",
        "Absent::new(object,",
        "Verdict::Pass,",
        "Verdict::Fail,",
        "Verdict::Error,",
        "Verdict::Inconclusive,",
        "Verdict::NotApplicable,",
    ];
    let standing = code.rsplit_once("Standing::new(").is_some_and(|(_, rest)| {
        rest.strip_prefix("Kind::")
            .is_some_and(|k| k.ends_with(',') && !k.contains('('))
    });
    let missing = code.contains("Standing::missing(") && code.ends_with(',');
    let finish = code.contains("finish(RunOutcome::") && code.ends_with(',');
    standing || missing || finish || calls.iter().any(|call| code.ends_with(call))
}

/// The sentence as a reader sees it: what is filled in becomes `…`.
fn readable(text: &str) -> String {
    let mut shown = String::new();
    let mut depth = 0;
    for c in text.chars() {
        match c {
            '{' => {
                depth += 1;
                if depth == 1 {
                    shown.push('…');
                }
            }
            '}' => depth -= 1,
            _ if depth <= 0 => shown.push(c),
            _ => {}
        }
    }
    shown.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_found_with_their_sentences() {
        let code = r#"
            let message = format!("Waits for run {} of the same pipeline to end.", first.name);
            Some(Next::Rest(Standing::new(Kind::Waiting, "Queued", message), None));
            Why::new("Deleted", "The Rollout is being deleted.");
            log("NotAReason", "Some words that follow.");
        "#;
        let expected = [
            ("Queued", "Waits for run … of the same pipeline to end."),
            ("Deleted", "The Rollout is being deleted."),
        ];
        let all = found(code);
        let all: Vec<_> = all.iter().map(|(r, s)| (r.as_str(), s.as_str())).collect();
        assert_eq!(all, expected);
    }

    #[test]
    fn the_page_knows_what_the_operator_says() {
        let page = std::env::set_current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).map(|()| page().unwrap());
        let page = page.unwrap();
        for reason in [
            "`ModelTaken`",
            "`NoArtifactStore`",
            "`Drifted`",
            "`GroupTooSmall`",
            "`ContainerNotFound`",
            "`RollingOut`",
            "`TargetGone`",
            "`RollBackOverdue`",
            "`CandidateLeaving`",
            "| `LiveVersionUnknown` | What serves cannot be told",
            "`GateInconclusive`",
            "`GateError`",
            "`BiasInconclusive`",
            "`BiasFail`",
            "`BiasError`",
            "`Invalid`",
        ] {
            assert!(page.contains(reason), "{reason} is not on the page");
        }
    }
}
