//! Observations that were captured, for example for a bug report, decided again.
//!
//! `<kind>/<name>.json` is an observation as the operator's trace log prints it; `<name>.snap` beside it is the decision.
//! To add one, put its file there and run `INSTA_UPDATE=always cargo test -p flywheel-engine --test captured`; then
//! correct the decision in the `.snap` to what it should be, and mend the engine until it agrees.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that meets what it does not expect should stop"
)]

use std::fs;
use std::path::{Path, PathBuf};

use flywheel_engine::decision::Decision;
use flywheel_engine::testing::shown;
use flywheel_engine::{bias_policy, model_version, pipeline, rollout, run};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A kind's folder, and how an observation of it is decided.
type Replay = (&'static str, fn(&str) -> Value);

const KINDS: [Replay; 5] = [
    ("pipeline", |text| replay(text, pipeline::decide)),
    ("run", |text| replay(text, run::decide)),
    ("modelversion", |text| replay(text, model_version::decide)),
    ("rollout", |text| replay(text, rollout::decide)),
    ("biaspolicy", |text| replay(text, bias_policy::decide)),
];

fn folder(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captured").join(kind)
}

fn replay<O: DeserializeOwned, S: Serialize>(text: &str, decide: fn(&O) -> Decision<S>) -> Value {
    let observation: O = serde_json::from_str(text).expect("it is an observation of its kind");
    shown(decide(&observation))
}

#[test]
fn every_captured_observation_is_decided_as_it_says() {
    for (kind, decide) in KINDS {
        let files = fs::read_dir(folder(kind)).expect("every kind has a folder");
        let mut files: Vec<PathBuf> = files.map(|f| f.unwrap().path()).collect();
        files.retain(|f| f.extension().is_some_and(|e| e == "json"));
        files.sort();
        assert!(!files.is_empty(), "{kind} has an example");
        for file in files {
            let decision = decide(&fs::read_to_string(&file).unwrap());
            let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
            insta::with_settings!({ snapshot_path => folder(kind), prepend_module_to_snapshot => false }, {
                insta::assert_yaml_snapshot!(name, decision);
            });
        }
    }
}
