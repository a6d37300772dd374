//! What users are shown is applied as they would apply it, with kubectl: the examples, and the YAML of the documents.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::kubectl::Desk;
use crate::rollout::unreadable::NEWER;

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The files of the folder and below, in order.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            all.extend(files(&path, ending));
        } else if path.to_string_lossy().ends_with(ending) {
            all.push(path);
        }
    }
    all.sort();
    all
}

/// The numbered examples.
fn examples() -> Vec<PathBuf> {
    let folder = repository().join("examples");
    let all = files(&folder, ".yaml");
    all.into_iter().filter(|p| p.parent() == Some(&folder)).collect()
}

/// Blocks of YAML on a page that are whole objects.
fn manifests(page: &str) -> Vec<String> {
    let blocks = page.split("```yaml\n").skip(1);
    let blocks = blocks.map(|b| b.split("```").next().unwrap_or_default().to_owned());
    blocks
        .filter(|b| b.lines().any(|l| l.starts_with("apiVersion:")) && !b.contains("argoproj.io/"))
        .collect()
}

/// The objects of a manifest as they are now.
fn objects(desk: &Desk, file: &str) -> Vec<Value> {
    let list: Value = serde_json::from_str(&desk.run(&["get", "-f", file, "-o", "json"])).expect("JSON");
    match list["items"].as_array() {
        Some(items) => items.clone(),
        None => vec![list],
    }
}

fn accepted(object: &Value) -> Option<(String, String)> {
    let conditions = object["status"]["conditions"].as_array()?;
    let found = conditions.iter().find(|c| c["type"] == "Accepted")?;
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    Some((text(&found["status"]), text(&found["reason"])))
}

/// Waits until the operator has said of every pipeline, policy and Rollout whether it accepts it.
fn settled(desk: &Desk, file: &str) -> Vec<Value> {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let all = objects(desk, file);
        let judged = |o: &&Value| {
            ["FlywheelPipeline", "BiasPolicy", "Rollout"]
                .iter()
                .any(|k| o["kind"] == *k)
        };
        let open: Vec<&Value> = all.iter().filter(judged).filter(|o| accepted(o).is_none()).collect();
        if open.is_empty() {
            return all;
        }
        assert!(Instant::now() < end, "{file}: nobody looked at {open:#?}");
        std::thread::sleep(Duration::from_millis(300));
    }
}

fn generations(objects: &[Value]) -> Vec<(String, Value)> {
    let name = |o: &Value| format!("{}/{}", o["kind"], o["metadata"]["name"]);
    objects
        .iter()
        .map(|o| (name(o), o["metadata"]["generation"].clone()))
        .collect()
}

/// Applies a manifest on every way, and again; nothing may differ afterwards.
fn apply(desk: &Desk, file: &str) {
    desk.run(&["apply", "--server-side", "--dry-run=server", "-f", file]);
    desk.run(&["apply", "--server-side", "-f", file]);
    let first = settled(desk, file);
    for object in &first {
        if let Some((status, reason)) = accepted(object) {
            let fine = status == "True" || reason == "ProviderNotFound";
            assert!(fine, "{file}: {} is not accepted: {reason}", object["metadata"]["name"]);
        }
    }
    desk.run(&["apply", "--server-side", "-f", file]);
    assert_eq!(
        generations(&first),
        generations(&objects(desk, file)),
        "{file}: applying it again changed something"
    );
    differs_in_nothing(desk, &["diff", "--server-side", "-f", file]);
}

/// kubectl reads an object twice to compare it, and the operator may write its status in between: what differs because
/// of the manifest differs again.
fn differs_in_nothing(desk: &Desk, diff: &[&str]) {
    let mut difference = Ok(String::new());
    for _ in 0..20 {
        difference = desk.try_run(diff);
        if difference == Ok(String::new()) {
            return;
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    panic!("{diff:?}: differs from what was applied: {difference:?}");
}

#[test]
fn cluster_every_example_can_be_applied_twice_and_differs_in_nothing() {
    let all = examples();
    assert!(all.len() >= 5, "{all:?}");
    for (number, example) in all.iter().enumerate() {
        let desk = Desk::new(&format!("example-{}", number + 1));
        apply(&desk, &example.to_string_lossy());
    }
}

#[test]
fn cluster_the_yaml_of_every_page_can_be_applied() {
    let mut pages = files(&repository().join("docs"), ".md");
    pages.push(repository().join("README.md"));
    let mut applied = 0;
    for (number, page) in pages.iter().enumerate() {
        let blocks = manifests(&fs::read_to_string(page).expect("a page"));
        if blocks.is_empty() {
            continue;
        }
        let desk = Desk::new(&format!("page-{number}"));
        for block in blocks {
            let file = desk.file(&block);
            applied += 1;
            if block.contains("kind: Approval\n") {
                // Only the approver herself can write it down, with the role of example 05.
                let role = repository().join("examples/05-approver-role.yaml");
                desk.run(&["apply", "--server-side", "-f", &role.to_string_lossy()]);
                desk.run(&["create", "--context", "jane", "-f", &file]);
                continue;
            }
            desk.run(&["apply", "--server-side", "--dry-run=server", "-f", &file]);
            desk.run(&["apply", "--server-side", "-f", &file]);
        }
    }
    assert!(applied >= 5, "{applied}");
}

#[test]
fn cluster_client_side_apply_and_wait_work_on_the_smallest_pipeline() {
    let desk = Desk::new("smallest");
    let file = repository().join("examples/01-smallest-pipeline.yaml");
    let file = file.to_string_lossy();
    assert!(desk.run(&["apply", "-f", &file]).contains("created"));
    desk.run(&[
        "wait",
        "flywheelpipeline/eta",
        "--for=condition=Accepted",
        "--timeout=60s",
    ]);
    desk.run(&["wait", "flywheelpipeline/eta", "--for=condition=Ready", "--timeout=60s"]);
    let first = generations(&objects(&desk, &file));
    // kubectl prints "configured" where the API server filled defaults into a list; the object itself must not change.
    desk.run(&["apply", "-f", &file]);
    assert_eq!(first, generations(&objects(&desk, &file)));
    differs_in_nothing(&desk, &["diff", "-f", &file]);
    for line in desk.run(&["get", "flywheelpipelines"]).lines() {
        assert!(line.len() <= 80, "{} columns: {line}", line.len());
    }
}

#[test]
fn cluster_the_smallest_pipeline_is_accepted_as_it_is_printed() {
    let desk = Desk::new("printed");
    let text = fs::read_to_string(repository().join("examples/01-smallest-pipeline.yaml")).expect("the example");
    let shortened = text.split("sha256:").fold(String::new(), |all, part| {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_hexdigit());
        if all.is_empty() {
            part.to_owned()
        } else {
            format!("{all}sha256:…{rest}")
        }
    });
    assert!(shortened.contains("example/eta@sha256:…\""), "{shortened}");
    let lines = shortened.lines().filter(|l| !l.starts_with('#')).count();
    assert!(lines <= 30, "{lines} lines");
    desk.run(&["apply", "-f", &desk.file(&shortened)]);
    desk.run(&[
        "wait",
        "flywheelpipeline/eta",
        "--for=condition=Accepted",
        "--timeout=60s",
    ]);
}

#[test]
fn cluster_kubectl_explain_answers_what_a_user_asks() {
    let desk = Desk::new("explain");
    let golden = repository().join("tests/it/golden");
    for field in [
        "flywheelpipeline.spec.automationLevel",
        "flywheelpipeline.spec.gates",
        "rollout.spec.desiredState",
        "approval.spec.decision",
        "biaspolicy.spec.objectives.compare",
    ] {
        let said = desk.run(&["explain", "--api-version=flywheel.dev/v1alpha1", field]);
        // Other tests make the CRDs of the cluster those of a newer operator.
        let lines = said.split_inclusive('\n').filter(|line| !NEWER.contains(&line.trim()));
        let said: String = lines.collect();
        let file = golden.join(format!("explain-{field}.txt"));
        if std::env::var_os("FLYWHEEL_BLESS").is_some() {
            fs::create_dir_all(&golden).expect("a folder");
            fs::write(&file, &said).expect("written");
        }
        let known = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        assert_eq!(
            said, known,
            "{field}: run with FLYWHEEL_BLESS=1 if this is what it should say"
        );
    }
}

#[test]
fn cluster_whole_objects_are_found_on_a_page() {
    let page = "text\n```yaml\napiVersion: v1\nkind: A\n```\n```yaml\nconfig: {}\n```\n```sh\napiVersion: no\n```\n";
    assert_eq!(manifests(page), ["apiVersion: v1\nkind: A\n"]);
}
