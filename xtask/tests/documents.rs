#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    missing_docs
)]

//! What the documents promise: links lead somewhere, examples are YAML with a header, golden documents of the stage
//! contract are what their schemas say.

use std::fs;
use std::path::{Path, PathBuf};

use flywheel_api::stage_contract::{MAX_RESULT_BYTES, StageFile, StageResult};
use serde_json::Value;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All files below the folder whose name ends so.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            all.extend(files(&path, ending));
        } else if name.ends_with(ending) {
            all.push(path);
        }
    }
    all.sort();
    all
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&read(path)).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Targets of the links outside of blocks of code.
fn links(text: &str) -> Vec<String> {
    let mut in_code = false;
    let mut all = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        all.extend(
            line.split("](")
                .skip(1)
                .filter_map(|l| Some(l.split_once(')')?.0.to_owned())),
        );
    }
    all
}

/// The name under which a heading can be linked to.
fn anchor(heading: &str) -> String {
    let lower = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = lower.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn every_relative_link_leads_somewhere() {
    let mut broken = Vec::new();
    // Templates of the generators stand elsewhere than what they become.
    let templates = repository().join("xtask/src");
    let pages = files(&repository(), ".md");
    for page in pages.into_iter().filter(|p| !p.starts_with(&templates)) {
        for link in links(&read(&page)) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((&link, ""));
            let target = if file.is_empty() {
                page.clone()
            } else {
                page.parent().expect("a folder").join(file)
            };
            let known = target.exists()
                && (heading.is_empty()
                    || read(&target)
                        .lines()
                        .any(|l| l.starts_with('#') && anchor(l) == heading));
            if !known {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn the_first_pages_stay_short() {
    for (name, most) in [("README.md", 200), ("ARCHITECTURE.md", 250)] {
        let lines = read(&repository().join(name)).lines().count();
        assert!(lines <= most, "{name} has {lines} lines, {most} are allowed");
    }
}

#[test]
fn every_page_can_be_reached_from_the_readme() {
    let mut known = vec![repository().join("README.md").canonicalize().expect("a README")];
    let mut next = 0;
    while let Some(page) = known.get(next).cloned() {
        next += 1;
        for link in links(&read(&page)) {
            let file = link.split('#').next().unwrap_or_default();
            let Ok(target) = page.parent().expect("a folder").join(file).canonicalize() else {
                continue;
            };
            let is_page = target.extension().is_some_and(|e| e == "md");
            if is_page && !known.contains(&target) {
                known.push(target);
            }
        }
    }
    let folders = ["concepts", "tasks", "reference"].map(|f| repository().join("docs").join(f));
    let all = folders.iter().flat_map(|f| files(f, ".md"));
    let lost: Vec<_> = all
        .filter(|p| !known.contains(&p.canonicalize().expect("a page")))
        .collect();
    assert!(lost.is_empty(), "no link leads to {lost:#?}");
}

#[test]
fn every_example_says_what_it_shows_and_how_to_clean_up() {
    let examples = files(&repository().join("examples"), ".yaml");
    let numbered: Vec<_> = examples
        .iter()
        .filter(|p| p.parent().is_some_and(|f| f.ends_with("examples")))
        .collect();
    assert!(numbered.len() >= 5, "{numbered:?}");
    for example in numbered {
        let text = read(example);
        let header: Vec<&str> = text.lines().take_while(|l| l.starts_with('#')).collect();
        for word in ["# Before:", "# Apply:", "# See:", "# Clean:"] {
            assert!(
                header.iter().any(|l| l.starts_with(word)),
                "{}: no {word}",
                example.display()
            );
        }
        let name = example.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        assert!(header.iter().any(|l| l.contains(name)), "{name} does not name itself");
    }
}

fn contract() -> PathBuf {
    repository().join("docs/reference/stage-contract")
}

fn schema(name: &str) -> jsonschema::Validator {
    let schema = json(&repository().join(format!("docs/reference/{name}.schema.json")));
    jsonschema::validator_for(&schema).unwrap_or_else(|e| panic!("{name}: {e}"))
}

#[test]
fn golden_stage_files_are_what_the_schema_says_and_what_the_operator_writes() {
    let schema = schema("stage-file");
    let golden: Vec<_> = files(&contract(), ".json")
        .into_iter()
        .filter(|p| p.parent().is_some_and(|f| f.ends_with("stage-contract")))
        .collect();
    assert!(!golden.is_empty());
    for path in golden {
        let value = json(&path);
        let errors: Vec<String> = schema.iter_errors(&value).map(|e| e.to_string()).collect();
        assert!(errors.is_empty(), "{}: {errors:?}", path.display());
        let file: StageFile = serde_json::from_value(value.clone()).expect("a stage file");
        assert_eq!(serde_json::to_value(&file).expect("JSON"), value, "{}", path.display());
    }
}

#[test]
fn golden_results_are_what_the_schema_says() {
    let schema = schema("stage-result");
    let golden = files(&contract().join("valid"), ".json");
    assert!(golden.len() >= 4, "{golden:?}");
    for path in golden {
        let value = json(&path);
        let errors: Vec<String> = schema.iter_errors(&value).map(|e| e.to_string()).collect();
        assert!(errors.is_empty(), "{}: {errors:?}", path.display());
        let _: StageResult = serde_json::from_value(value.clone()).expect("a result");
        let size = value.to_string().len();
        assert!(size <= MAX_RESULT_BYTES, "{}: {size} bytes", path.display());
    }
}

#[test]
fn broken_results_are_refused_by_the_schema() {
    let schema = schema("stage-result");
    let broken = files(&contract().join("invalid"), ".json");
    assert!(broken.len() >= 12, "{broken:?}");
    for path in broken {
        assert!(!schema.is_valid(&json(&path)), "{} is accepted", path.display());
    }
}
