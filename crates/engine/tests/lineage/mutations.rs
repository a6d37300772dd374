//! What somebody may do to a chain. Each is done twice: plainly, and by somebody who computes every digest anew, so
//! that the chain by itself is without fault and only the heads that others keep tell.

use flywheel_api::ModelVersion;
use flywheel_api::lineage::{Lineage, LineageEntry, LineageType};
use flywheel_api::names::ANNOTATION_LINEAGE;
use flywheel_engine::lineage::finding::Defect;
use flywheel_engine::lineage::register::{self, Register};
use flywheel_engine::lineage::{identity, seal};

use crate::life::{Life, long_life};

fn lineage(version: &mut ModelVersion) -> &mut Lineage {
    version.status.as_mut().unwrap().lineage.as_mut().unwrap()
}

/// Everything that a forger without limits would do: places, links, digests, head, mark and the state that they tell of.
fn reseal(version: &mut ModelVersion) {
    let mut previous = identity(version);
    let lineage = lineage(version);
    for (place, entry) in lineage.entries.iter_mut().enumerate() {
        entry.index = i32::try_from(place).unwrap();
        entry.previous = previous;
        entry.digest = seal(entry);
        previous = entry.digest.clone();
    }
    lineage.head.length = i32::try_from(lineage.entries.len()).unwrap();
    lineage.head.digest = previous;
    let first = lineage.entries[0].digest.0.clone();
    let told = lineage.entries.iter().rev().find_map(|e| e.type_.state());
    version.status.as_mut().unwrap().state = told.unwrap_or_default();
    let annotations = version.metadata.annotations.get_or_insert_default();
    annotations.insert(ANNOTATION_LINEAGE.to_owned(), first);
}

fn found(register: &Register) -> Vec<Defect> {
    let verdicts = register::check(register);
    verdicts
        .into_iter()
        .flat_map(|v| v.findings)
        .map(|f| f.defect)
        .collect()
}

/// The defects that are found after the change, plainly and resealed.
fn mutate(change: impl Fn(&mut ModelVersion)) -> (Vec<Defect>, Vec<Defect>) {
    let mut plain = long_life().register();
    assert_eq!(found(&plain), [], "the life before the change is honest");
    change(&mut plain.versions[0]);
    let mut resealed = plain.clone();
    reseal(&mut resealed.versions[0]);
    (found(&plain), found(&resealed))
}

fn entry(type_: LineageType) -> LineageEntry {
    let version = long_life().version;
    let all = version.status.unwrap().lineage.unwrap().entries;
    all.into_iter().find(|e| e.type_ == type_).unwrap()
}

#[test]
fn the_long_life_has_entries_of_all_sorts() {
    let mut life = long_life();
    let types: Vec<LineageType> = lineage(&mut life.version).entries.iter().map(|e| e.type_).collect();
    use LineageType::{Approved, Decided, Evaluated, Live, Registered, RollingOut, Superseded};
    assert_eq!(
        types,
        [
            Registered, Evaluated, Decided, RollingOut, Live, Superseded, RollingOut, Live
        ]
    );
    assert!(!types.contains(&Approved), "no outcome of the run was told");
    let verdicts = life.verdicts();
    assert_eq!(verdicts[0].anchors, 3, "two Rollouts and a child know the chain");
}

#[test]
fn mutation_01_an_edited_entry() {
    let (plain, resealed) = mutate(|v| {
        lineage(v).entries[2].at = lineage(v).entries[1].at.clone();
    });
    assert_eq!(plain, [Defect::EditedEntry]);
    assert_eq!(resealed, [Defect::Forked; 3]);
}

#[test]
fn mutation_02_entries_in_another_order() {
    let (plain, resealed) = mutate(|v| lineage(v).entries.swap(1, 2));
    assert!(plain.contains(&Defect::WrongIndex) && plain.contains(&Defect::BrokenLink));
    assert_eq!(resealed, [Defect::Forked; 3]);
}

#[test]
fn mutation_03_an_entry_added_in_between() {
    let (plain, resealed) = mutate(|v| lineage(v).entries.insert(2, entry(LineageType::Live)));
    assert!(plain.contains(&Defect::WrongIndex) && plain.contains(&Defect::BrokenLink));
    assert!(plain.contains(&Defect::WrongLength));
    assert!(resealed.contains(&Defect::Forked), "{resealed:?}");
}

#[test]
fn mutation_04_the_first_entry_dropped() {
    let (plain, resealed) = mutate(|v| drop(lineage(v).entries.remove(0)));
    assert!(plain.contains(&Defect::WrongBeginning) && plain.contains(&Defect::ForeignChain));
    assert!(plain.contains(&Defect::OtherBeginning) && plain.contains(&Defect::WrongIndex));
    assert!(resealed.contains(&Defect::WrongBeginning) && resealed.contains(&Defect::Forked));
}

#[test]
fn mutation_05_an_entry_in_the_middle_dropped() {
    let (plain, resealed) = mutate(|v| drop(lineage(v).entries.remove(3)));
    assert!(plain.contains(&Defect::WrongIndex) && plain.contains(&Defect::BrokenLink));
    assert!(plain.contains(&Defect::WrongLength));
    assert!(resealed.contains(&Defect::Forked), "{resealed:?}");
}

#[test]
fn mutation_06_the_last_entry_dropped() {
    let (plain, resealed) = mutate(|v| drop(lineage(v).entries.pop()));
    assert_eq!(plain, [Defect::WrongLength, Defect::WrongHead, Defect::OtherFacts]);
    // Nobody had seen it yet: only a copy taken earlier tells.
    assert_eq!(resealed, []);
    let mut register = long_life().register();
    register.earlier = vec![register.versions[0].clone()];
    lineage(&mut register.versions[0]).entries.pop();
    reseal(&mut register.versions[0]);
    assert_eq!(found(&register), [Defect::CutOff]);
}

#[test]
fn mutation_07_a_truncated_chain() {
    let (plain, resealed) = mutate(|v| lineage(v).entries.truncate(3));
    assert!(plain.contains(&Defect::WrongLength) && plain.contains(&Defect::CutOff));
    assert!(resealed.contains(&Defect::CutOff), "{resealed:?}");
    let (_, forgotten) = mutate(|v| lineage(v).entries.truncate(1));
    assert!(forgotten.contains(&Defect::CutOff) && forgotten.contains(&Defect::OtherFacts));
}

#[test]
fn mutation_08_a_fork() {
    let mut life = long_life();
    let honest = life.version.clone();
    let length = lineage(&mut life.version).entries.len();
    lineage(&mut life.version).entries[length - 1].subjects.clear();
    reseal(&mut life.version);
    // Both are whole; together they contradict each other.
    let register = Register {
        versions: vec![honest.clone(), life.version.clone()],
        ..Register::default()
    };
    assert_eq!(found(&register), [Defect::Forked; 2]);
    let register = Register {
        versions: vec![life.version.clone()],
        earlier: vec![honest],
        ..Register::default()
    };
    assert_eq!(found(&register), [Defect::Forked]);
}

#[test]
fn mutation_09_chains_swapped_between_objects() {
    let mut register = long_life().register();
    let (a, b) = (register.versions[0].status.clone(), register.versions[1].status.clone());
    register.versions[0].status = b;
    register.versions[1].status = a;
    let plain = found(&register);
    assert_eq!(plain.iter().filter(|d| **d == Defect::ForeignChain).count(), 2);
    assert_eq!(plain.iter().filter(|d| **d == Defect::OtherBeginning).count(), 2);
    for version in &mut register.versions {
        reseal(version);
    }
    let resealed = found(&register);
    assert!(resealed.contains(&Defect::OtherFacts) && resealed.contains(&Defect::CutOff));
}

#[test]
fn mutation_10_an_older_status_put_back() {
    let mut old = Life::begin(1, true);
    old.settle().pass(60);
    let old = old.judge(12).version.status.clone();
    let mut register = long_life().register();
    register.versions[0].status = old;
    // The status by itself is as it once was: without fault.
    let alone = Register {
        versions: vec![register.versions[0].clone()],
        ..Register::default()
    };
    assert_eq!(found(&alone), []);
    assert_eq!(found(&register), [Defect::CutOff; 3]);
}

#[test]
fn mutation_11_another_identity_swapped_in() {
    let (plain, _) = mutate(|v| v.metadata.uid = Some("uid-other".to_owned()));
    assert_eq!(plain, [Defect::ForeignChain]);
    let (plain, _) = mutate(|v| v.spec.artifact.uri = "s3://models/eta/other".into());
    assert_eq!(plain, [Defect::OtherFacts]);
    let (plain, resealed) = mutate(|v| {
        v.spec.artifact.uri = "s3://models/eta/other".into();
        let facts = flywheel_engine::lineage::of_spec(&v.spec);
        lineage(v).entries[0].facts = facts;
    });
    assert_eq!(plain, [Defect::EditedEntry]);
    assert_eq!(resealed, [Defect::Forked; 3]);
}

#[test]
fn mutation_12_a_head_that_tells_another_length() {
    let (plain, _) = mutate(|v| lineage(v).head.length += 1);
    assert_eq!(plain, [Defect::WrongLength]);
    let (plain, _) = mutate(|v| {
        let lineage = lineage(v);
        lineage.head.length = 4;
        lineage.head.digest = lineage.entries[3].digest.clone();
    });
    assert_eq!(plain, [Defect::WrongLength, Defect::WrongHead]);
}

#[test]
fn what_the_status_says_beside_its_chain_is_found() {
    let (verdicts, _) = mutate(|v| v.status.as_mut().unwrap().evaluations.clear());
    assert_eq!(verdicts, [Defect::OtherFacts]);
    let (approvals, _) = mutate(|v| v.status.as_mut().unwrap().approvals[0].approver = "eve".to_owned());
    assert_eq!(approvals, [Defect::OtherFacts]);
    let mut register = long_life().register();
    register.versions[0].status.as_mut().unwrap().lineage = None;
    assert_eq!(found(&register), [Defect::Missing]);
}

#[test]
fn a_finding_names_the_field_what_was_found_and_what_would_be_right() {
    let mut life = long_life();
    let other = "sha256:".to_owned() + &"0".repeat(64);
    lineage(&mut life.version).entries[3].facts = other.into();
    let findings = life.verdicts().remove(0).findings;
    assert_eq!(findings[0].field, "status.lineage.entries[3].digest");
    assert!(findings[0].message.contains("but the entry's content gives sha256:"));
}
