//! A hundred thousand entries are checked in the time that hashing their bytes takes, times a small number: in about a
//! second. A bound in seconds would fail on a busy machine, and hide much on a fast one.

use std::time::{Duration, Instant};

use flywheel_api::ModelVersion;
use flywheel_api::model_version::VersionState;
use flywheel_engine::lineage::register::{self, Register};
use flywheel_engine::lineage::{Reached, extended, identity, of_spec, seal};
use flywheel_engine::testing::{self, at};
use sha2::Digest as _;

const VERSIONS: i64 = 400;
const ENTRIES: usize = 250;
/// In tests, where the code that makes the canonical form is not optimised, the check takes 18 times as long as the
/// hashing. Twice as much passes for noise; what grows with the number of entries would be far beyond.
const TIMES: u32 = 40;
/// How often the bytes are hashed to measure it: once is too short to be measured beside other work.
const HASHED: u32 = 10;
/// Other work may fall into one measurement alone: it takes as many in a row to be slow.
const TRIALS: usize = 5;

/// A chain as the operator makes it.
fn first() -> ModelVersion {
    let mut version = testing::version(1);
    for turn in 0..ENTRIES {
        let status = version.status.get_or_insert_default();
        status.observed_generation = 1;
        status.state = [VersionState::Candidate, VersionState::Live][turn % 2];
        let status = status.clone();
        let present = Reached {
            state: status.state,
            cause: None,
        };
        version.status.as_mut().unwrap().lineage = extended(&version, &status, &[], &present, at(turn as i64));
    }
    version
}

/// The same chain for another object.
fn like(first: &ModelVersion, number: i64) -> ModelVersion {
    let mut version = testing::version(number);
    version.metadata.uid = Some(format!("uid-{number}"));
    version.status.clone_from(&first.status);
    let (mut previous, facts) = (identity(&version), of_spec(&version.spec));
    let lineage = version.status.as_mut().unwrap().lineage.as_mut().unwrap();
    lineage.entries[0].facts = facts;
    for entry in &mut lineage.entries {
        entry.previous = previous;
        entry.digest = seal(entry);
        previous = entry.digest.clone();
    }
    lineage.head.digest = previous;
    version
}

#[test]
fn a_hundred_thousand_entries_are_checked_as_fast_as_their_bytes_are_hashed() {
    let first = first();
    let register = Register {
        versions: (1..=VERSIONS).map(|number| like(&first, number)).collect(),
        ..Register::default()
    };
    let bytes: Vec<Vec<u8>> = register
        .versions
        .iter()
        .flat_map(|v| &v.status.as_ref().unwrap().lineage.as_ref().unwrap().entries)
        .map(|e| serde_json::to_vec(e).unwrap())
        .collect();
    assert_eq!(bytes.len(), 100_000);
    let mut trials = (0..TRIALS).map(|_| measured(&register, &bytes));
    let fast = trials.find(|(checked, hashed)| *checked < *hashed * TIMES);
    let (checked, hashed) = fast.expect("one trial at least is not slow");
    println!("covered: 100000 entries of lineages checked in {checked:.1?}, their bytes hashed in {hashed:.1?}");
}

/// How long it takes to check the register, and to hash its bytes.
fn measured(register: &Register, bytes: &[Vec<u8>]) -> (Duration, Duration) {
    let begin = Instant::now();
    let hash = |b: &Vec<u8>| usize::from(sha2::Sha256::digest(b)[0]);
    let plain: usize = (0..HASHED).map(|_| bytes.iter().map(hash).sum::<usize>()).sum();
    let hashed = begin.elapsed() / HASHED;
    let begin = Instant::now();
    let verdicts = register::check(register);
    let checked = begin.elapsed();
    assert!(plain > 0 && verdicts.iter().all(|v| v.findings.is_empty()));
    println!("checked in {checked:.1?}, hashed in {hashed:.1?}");
    (checked, hashed)
}
