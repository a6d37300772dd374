//! The rules of the house that no compiler knows: sizes, purity, who writes, who depends on whom.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// Longest source file, in lines, tests included.
const MAX_LINES: usize = 500;

/// Words that only some files may use.
struct Rule {
    /// The folder to which the rule applies.
    folder: &'static str,
    words: &'static [&'static str],
    /// Files of the folder that may use them.
    except: &'static [&'static str],
    why: &'static str,
}

/// What no decision may use: it would not be a function of its observation any more.
const IMPURE: &[&str] = &[
    "Timestamp::now",
    "SystemTime",
    "Instant::now",
    "std::env",
    "std::fs",
    "async fn",
    "kube::Client",
    "rand::",
    "HashMap",
    "HashSet",
];
const WRITES: &[&str] = &[".create(", ".patch(", ".patch_status(", ".replace_status(", ".delete("];

const RULES: [Rule; 4] = [
    Rule {
        folder: "crates/engine/src",
        words: IMPURE,
        except: &[],
        why: "decisions know only what was observed, in an order of its own",
    },
    Rule {
        folder: "crates/api/src",
        words: IMPURE,
        except: &[],
        why: "kinds are plain data",
    },
    Rule {
        folder: "src",
        words: WRITES,
        except: &["apply.rs", "record.rs", "invalid.rs", "leader.rs"],
        why: "only these write to the API server: apply.rs, record.rs, invalid.rs, leader.rs",
    },
    Rule {
        folder: "src",
        words: &["std::env", "env::var"],
        except: &["args.rs", "telemetry.rs"],
        why: "only args.rs and telemetry.rs read the environment",
    },
];

/// What a crate may depend on among ours, and what it must not depend on at all.
struct Manifest {
    file: &'static str,
    ours: &'static [&'static str],
    never: &'static [&'static str],
}

const RUNTIME: &[&str] = &["tokio", "futures", "tracing", "hyper", "rand"];
const MANIFESTS: [Manifest; 3] = [
    Manifest {
        file: "crates/api/Cargo.toml",
        ours: &[],
        never: RUNTIME,
    },
    Manifest {
        file: "crates/engine/Cargo.toml",
        ours: &["flywheel-api"],
        never: &["kube", "tokio", "futures", "tracing", "hyper", "rand"],
    },
    Manifest {
        file: "crates/cli/Cargo.toml",
        ours: &["flywheel-api", "flywheel-engine"],
        never: &[],
    },
];

/// All that breaks a rule, a sentence each.
pub fn problems() -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for file in sources(Path::new("."))? {
        let file = file.strip_prefix(".").unwrap_or(&file);
        problems.extend(of_source(file, &read(file)?));
    }
    for manifest in &MANIFESTS {
        problems.extend(of_manifest(manifest, &read(Path::new(manifest.file))?));
    }
    Ok(problems)
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

fn of_source(file: &Path, text: &str) -> Vec<String> {
    let (shown, lines) = (file.display(), text.lines().count());
    let mut problems = Vec::new();
    if lines > MAX_LINES {
        problems.push(format!("{shown} has {lines} lines, {MAX_LINES} are allowed: cut it"));
    }
    for rule in &RULES {
        let Ok(inside) = file.strip_prefix(rule.folder) else {
            continue;
        };
        if rule.except.iter().any(|name| inside == Path::new(name)) {
            continue;
        }
        let used = rule.words.iter().filter(|word| text.contains(**word));
        problems.extend(used.map(|word| format!("{shown} uses {word}: {}", rule.why)));
    }
    if file.starts_with("tests/it") {
        problems.extend(unnamed(text).map(|test| {
            let kinds = crate::test::KINDS.join(", ");
            format!("{shown}: the test {test} is never run: let its name begin with one of {kinds}")
        }));
    }
    problems
}

/// Tests on clusters are chosen by the beginning of their names: those that no beginning chooses.
fn unnamed(text: &str) -> impl Iterator<Item = &str> {
    let tests = text.split("#[test]").skip(1);
    let tests = tests.chain(text.split("#[tokio::test").skip(1));
    let names = tests.filter_map(|after| after.split_once("fn ")?.1.split(['(', '<']).next());
    // A macro names its tests elsewhere.
    let named = names.filter(|name| !name.starts_with('$'));
    named.filter(|name| !crate::test::KINDS.iter().any(|kind| name.starts_with(kind)))
}

fn of_manifest(manifest: &Manifest, text: &str) -> Vec<String> {
    let section = |line: &&str| !line.starts_with('[');
    let dependencies = text.split("\n[dependencies]\n").nth(1).unwrap_or_default();
    let names = dependencies.lines().take_while(section);
    let names = names.filter_map(|line| line.split(['.', ' ', '=']).next());
    let foreign = |name: &&str| {
        let unknown = name.starts_with("flywheel") && !manifest.ours.contains(name);
        unknown || *name == "xtask" || manifest.never.contains(name)
    };
    let (file, ours) = (manifest.file, manifest.ours.join(", "));
    names
        .filter(foreign)
        .map(|name| format!("{file} depends on {name}: of this house it may know [{ours}], and nothing that acts"))
        .collect()
}

/// All Rust files of the repository.
fn sources(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            found.extend(sources(&path)?);
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(file: &str, text: &str) -> usize {
        of_source(Path::new(file), text).len()
    }

    #[test]
    fn what_breaks_a_rule_is_found_and_what_may_is_not() {
        let long = "\n".repeat(MAX_LINES + 1);
        for (file, text, count) in [
            ("src/driver.rs", "api.patch(name)", 1),
            ("src/apply.rs", "api.patch(name)", 0),
            ("src/controller/apply.rs", "api.patch(name)", 1),
            ("src/driver.rs", "std::env::var(name)", 2),
            ("src/args.rs", "std::env::var(name)", 0),
            ("crates/engine/src/gate.rs", "Timestamp::now()", 1),
            ("crates/engine/tests/laws/main.rs", "Timestamp::now()", 0),
            ("crates/api/src/lib.rs", "use std::collections::HashMap;", 1),
            ("src/driver.rs", &long, 1),
            ("tests/it/turns.rs", "#[test]\nfn it_works() {}", 1),
            (
                "tests/it/turns.rs",
                "#[tokio::test(flavor = \"a\")]\nasync fn node_it_works() {}",
                0,
            ),
            ("tests/it/turns.rs", "#[tokio::test]\nasync fn $name() {}", 0),
        ] {
            assert_eq!(found(file, text), count, "{file}: {}", text.get(..20).unwrap_or(text));
        }
    }

    #[test]
    fn a_crate_that_depends_on_what_it_must_not_is_found() {
        let engine = &MANIFESTS[1];
        let text = "[package]\n\n[dependencies]\nflywheel-api.workspace = true\ntokio.workspace = true\n\
            flywheel = { path = \"..\" }\n\n[dev-dependencies]\nrand = \"1\"\n";
        let found = of_manifest(engine, text);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found[0].contains("tokio") && found[1].contains("flywheel:"),
            "{found:?}"
        );
    }
}
