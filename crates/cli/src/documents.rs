//! Every command in the documents and examples is one that the plugin understands.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{CommandFactory, Parser};

use crate::args::Arguments;

const COMMAND: &str = "kubectl flywheel";
/// Pages that show how a command is built instead of one that could be run.
const GENERATED: [&str; 2] = ["docs/reference/conditions.md", "docs/reference/plugin.md"];

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let is_text = path.extension().is_some_and(|e| e == "md" || e == "yaml");
        if path.is_dir() {
            files(&path, found);
        } else if is_text && !GENERATED.iter().any(|page| path.ends_with(page)) {
            found.push(path);
        }
    }
}

/// The arguments of every command in this text, from blocks of code, comments and code in sentences.
fn commands(text: &str) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    for line in text.lines() {
        let whole = line.trim_start_matches(['#', ' ']).starts_with(COMMAND);
        let parts: Vec<&str> = if whole {
            line.split(" && ").collect()
        } else {
            line.split('`').skip(1).step_by(2).collect()
        };
        let given = parts.iter().filter_map(|p| p.split_once(COMMAND));
        all.extend(given.map(|(_, rest)| words(rest)).filter(|words| !words.is_empty()));
    }
    all
}

/// Words as a shell would see them, up to a comment.
fn words(text: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut quoted = false;
    let mut open = false;
    for c in text.chars() {
        match c {
            '"' => {
                quoted = !quoted;
                open = open || quoted;
                if quoted {
                    all.push(String::new());
                }
            }
            '#' if !quoted && !open => break,
            ' ' if !quoted => open = false,
            _ if open || quoted => all.last_mut().expect("a word").push(c),
            _ => {
                open = true;
                all.push(c.to_string());
            }
        }
    }
    all
}

#[test]
fn every_command_in_the_documents_is_understood() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut pages = vec![
        root.join("README.md"),
        root.join("CONTRIBUTING.md"),
        root.join("SECURITY.md"),
    ];
    files(&root.join("docs"), &mut pages);
    files(&root.join("examples"), &mut pages);
    let mut wrong = Vec::new();
    let mut count = 0;
    for page in pages {
        for words in commands(&fs::read_to_string(&page).expect("a page")) {
            count += 1;
            let known = Arguments::command().find_subcommand(&words[0]).is_some() || words[0].starts_with('-');
            let all = std::iter::once("kubectl-flywheel").chain(words.iter().map(String::as_str));
            let parsed = words.len() == 1 || Arguments::try_parse_from(all).is_ok();
            if !known || !parsed {
                wrong.push(format!("{}: {words:?}", page.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(count >= 20, "only {count} commands were found");
}

#[test]
fn commands_are_read_as_a_shell_reads_them() {
    let text = "kubectl flywheel approve run a --reason \"looks good\"   # why\n# See: kubectl no\nUse `kubectl flywheel get`.";
    assert_eq!(
        commands(text),
        [vec!["approve", "run", "a", "--reason", "looks good"], vec!["get"]]
    );
}
