//! The metrics, read from where they are registered.

use super::text::{is_next, is_sentence, literals};
use super::{cell, head};

const SOURCES: [&str; 2] = [
    include_str!("../../../src/metrics.rs"),
    include_str!("../../../src/metrics/objects.rs"),
];

/// The page.
pub fn page() -> String {
    let mut text = head("Metrics");
    text.push_str("What `/metrics` of the operator shows. Metrics of objects also have the labels `namespace` and `name`, and vanish with their object.\n\n");
    text.push_str("| Metric | Labels | What it is |\n| --- | --- | --- |\n");
    for source in SOURCES {
        for (name, help, labels) in found(source) {
            text.push_str(&format!("| `{name}` | {} | {} |\n", labels.join(", "), cell(&help)));
        }
    }
    text
}

/// Name, help and labels of each metric.
fn found(source: &str) -> Vec<(String, String, Vec<String>)> {
    let texts = literals(source.split("#[cfg(test)]").next().unwrap_or_default());
    let mut all = Vec::new();
    for (index, (name, _)) in texts.iter().enumerate() {
        let help = texts.get(index + 1).filter(|(t, code)| is_sentence(t) && is_next(code));
        let Some((help, _)) = help.filter(|_| name.starts_with("flywheel_")) else {
            continue;
        };
        all.push((
            name.clone(),
            help.clone(),
            labels(texts.get(index + 2..).unwrap_or_default()),
        ));
    }
    all
}

/// The labels in the list that follows, if one does.
fn labels(texts: &[(String, String)]) -> Vec<String> {
    let code = |code: &str| code.split_whitespace().collect::<String>();
    match texts.first() {
        Some((_, before)) if code(before).starts_with(",CONDITION") => vec!["type".to_owned(), "status".to_owned()],
        Some((first, before)) if code(before).ends_with("&[") && !code(before).contains(';') => {
            let further = texts.iter().skip(1).take_while(|(_, before)| code(before) == ",");
            std::iter::once(first.clone())
                .chain(further.map(|(label, _)| label.clone()))
                .collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_found_with_their_labels() {
        let all = found(
            r#"counter("flywheel_a_total", "How many there were.", &["kind", "reason"])?; ("flywheel_b", "How it stands now.", CONDITION), ("flywheel_c", "How it stands now.", &[]), other("x")"#,
        );
        let labels: Vec<_> = all.iter().map(|(_, _, labels)| labels.join(" ")).collect();
        assert_eq!(labels, ["kind reason", "type status", ""]);
    }
}
