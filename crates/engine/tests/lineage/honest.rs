//! Honest histories of all kinds: nothing is found in any of them.

use flywheel_api::flywheel_run::RunOutcome;
use flywheel_api::lineage::LineageType;
use flywheel_api::rollout::RolloutPhase;
use flywheel_engine::lineage::finding::Remark;
use flywheel_engine::lineage::register::{self, Register};
use flywheel_engine::testing;
use serde_json::json;

use crate::life::Life;

const HISTORIES: u64 = 10_000;

/// Numbers that are the same every time (SplitMix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

const PHASES: [RolloutPhase; 7] = [
    RolloutPhase::Queued,
    RolloutPhase::Progressing,
    RolloutPhase::Observing,
    RolloutPhase::Promoted,
    RolloutPhase::RollingBack,
    RolloutPhase::RolledBack,
    RolloutPhase::Superseded,
];

const OUTCOMES: [RunOutcome; 4] = [
    RunOutcome::Promoted,
    RunOutcome::Rejected,
    RunOutcome::RolledBack,
    RunOutcome::Registered,
];

/// One thing that happens to a version.
fn step(life: &mut Life, dice: &mut Dice) {
    life.pass(dice.roll(4).pow(4) as i64);
    let phase = PHASES[dice.roll(PHASES.len() as u64) as usize];
    let one = dice.roll(3);
    match dice.roll(12) {
        0 | 1 => life.judge(dice.roll(40) as i64),
        2 => life.decided(["jane", "bob", "eve"][one as usize]),
        3 => life.ended(OUTCOMES[dice.roll(4) as usize]),
        4 if life.rollouts.len() < 4 => life.deliver(&format!("r{}", life.rollouts.len()), phase),
        5 => life.moved(&format!("r{one}"), "eta-1", Some("eta-0"), phase),
        6 => life.moved(&format!("o{one}"), "eta-9", Some("eta-1"), phase),
        7 => life.serving(one > 0),
        8 if life.children.len() < 4 => life.child(10 + life.children.len() as i64),
        9 if one == 0 => life.lose_status(),
        10 if one == 0 => {
            life.run = None;
            life.settle()
        }
        11 if one == 0 => {
            if let Some(run) = &mut life.run {
                run.status = None;
            }
            life.settle()
        }
        _ => life.settle(),
    };
}

/// What happened in all histories together, so that the test cannot pass by nothing happening.
#[derive(Debug, Default)]
struct Tally {
    entries: usize,
    anchors: usize,
    rebuilt: usize,
    copies: usize,
}

#[test]
fn nothing_is_found_in_ten_thousand_honest_histories() {
    let mut tally = Tally::default();
    for seed in 0..HISTORIES {
        let mut dice = Dice(seed);
        let mut life = Life::begin(1, !seed.is_multiple_of(4));
        life.settle();
        let mut earlier = Vec::new();
        for _ in 0..4 + dice.roll(12) {
            if dice.roll(8) == 0 {
                earlier.push(life.version.clone());
            }
            step(&mut life, &mut dice);
        }
        tally.copies += earlier.len();
        let register = Register {
            earlier,
            ..life.register()
        };
        for verdict in register::check(&register) {
            assert!(verdict.findings.is_empty(), "history {seed}: {verdict:#?}");
            tally.anchors += verdict.anchors;
            tally.rebuilt += usize::from(verdict.notices.iter().any(|n| n.remark == Remark::Rebuilt));
        }
        let lineage = life.version.status.unwrap().lineage.unwrap();
        tally.entries += lineage.entries.len();
    }
    assert!(tally.entries > 20_000 && tally.anchors > 5_000, "{tally:?}");
    assert!(tally.rebuilt > 500 && tally.copies > 5_000, "{tally:?}");
}

#[test]
fn a_namesake_of_a_deleted_version_is_noted_and_not_found() {
    let mut life = Life::begin(1, false);
    life.settle().deliver("first", RolloutPhase::Promoted);
    let rollouts = life.rollouts.clone();
    let mut again = Life::begin(1, false);
    again.version.metadata.uid = Some("uid-again".to_owned());
    again.settle();
    again.rollouts = rollouts;
    let verdict = again.verdicts().remove(0);
    assert!(verdict.findings.is_empty(), "{verdict:?}");
    assert_eq!(verdict.notices[0].remark, Remark::Namesake);
}

#[test]
fn heads_of_a_lost_chain_are_noted_and_those_of_the_new_one_are_held_against_it() {
    let mut life = Life::begin(1, true);
    life.settle().judge(12).pass(60);
    life.deliver("before", RolloutPhase::Progressing).pass(3600);
    life.lose_status().pass(3600);
    life.deliver("after", RolloutPhase::Progressing);
    let verdict = life.verdicts().remove(0);
    assert!(verdict.findings.is_empty(), "{verdict:?}");
    assert_eq!(verdict.anchors, 1, "{verdict:?}");
    assert_eq!(verdict.notices.len(), 2, "{verdict:?}");
    let lineage = life.version.status.as_mut().unwrap().lineage.as_mut().unwrap();
    assert_eq!(lineage.entries[0].type_, LineageType::Rebuilt);
    // The chain that began anew does not excuse what is done to it later.
    lineage.entries.truncate(1);
    lineage.head.length = 1;
    lineage.head.digest = lineage.entries[0].digest.clone();
    life.version.status.as_mut().unwrap().evaluations.clear();
    life.version.status.as_mut().unwrap().state = flywheel_api::model_version::VersionState::Candidate;
    let cut = life.verdicts().remove(0);
    assert_eq!(
        cut.findings.len(),
        1,
        "the Rollout made after it knows more entries: {cut:?}"
    );
}

/// A version that its run delivered while nobody looked: the phase in which its Rollout is found.
fn delivered_unseen(phase: RolloutPhase) -> Vec<LineageType> {
    let mut life = Life::begin(1, true);
    life.settle().judge(12).pass(60);
    let reference = testing::object(json!({ "name": "first", "uid": "rollout-first" }));
    life.run.as_mut().unwrap().status.as_mut().unwrap().rollout = Some(reference);
    life.serves = phase == RolloutPhase::Promoted;
    life.deliver("first", phase).pass(60);
    let verdict = life.verdicts().remove(0);
    assert!(verdict.findings.is_empty(), "{verdict:?}");
    let lineage = life.version.status.unwrap().lineage.unwrap();
    lineage.entries.iter().map(|e| e.type_).skip(2).collect()
}

#[test]
fn an_operator_that_was_away_while_a_version_was_approved_leaves_no_gap_in_its_lineage() {
    use LineageType::{Approved, Live, RolledBack, RollingOut};
    assert_eq!(delivered_unseen(RolloutPhase::Pending), [Approved]);
    assert_eq!(delivered_unseen(RolloutPhase::Progressing), [Approved, RollingOut]);
    assert_eq!(delivered_unseen(RolloutPhase::Promoted), [Approved, RollingOut, Live]);
    assert_eq!(
        delivered_unseen(RolloutPhase::RolledBack),
        [Approved, RollingOut, RolledBack]
    );
    assert_eq!(
        delivered_unseen(RolloutPhase::Aborted),
        [Approved, RolledBack],
        "before it began"
    );
}
