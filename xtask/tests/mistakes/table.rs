//! Which suite catches which mistake.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::panic;

use flywheel_engine::testing::Mistake::{self, *};

use crate::explorer::{self, explore};
use crate::rules::Violation;
use crate::scenes::Scene;
use crate::stage::{Found, Story, play};
use crate::stories::{deliveries as of, runs};

/// Makes a scene.
type Scenery = fn() -> Scene;

/// A mistake, the story that goes wrong with it, and the smallest scene in which the explorer meets it. Where there is
/// none, no rule of the explorer is about it, or it takes more than the scenes have in them.
type Case = (Mistake, Story, Option<Scenery>);

const CASES: &[Case] = &[
    (NextAttemptTooEarly, runs::a_slow_stage, None),
    (NamesByChance, runs::a_turn, None),
    (EffectBeforeIntent, runs::a_turn, Some(explorer::approved)),
    (DigestOfAnotherModel, runs::a_turn, None),
    (AdoptsForgedVersion, runs::a_forged_version, None),
    (FailedGateOpens, runs::a_worse_version, None),
    (AnyEvidenceCounts, runs::a_stale_approval, Some(explorer::forged_digest)),
    (
        AnySubjectCounts,
        runs::an_approval_of_a_namesake,
        Some(explorer::forged_subject),
    ),
    (OwnApprovalCounts, runs::an_own_approval, Some(explorer::own_approval)),
    (RejectionUnheard, runs::a_rejection, None),
    (RevocationUnheard, runs::a_revocation, None),
    (BackToNothing, of::a_way_back, Some(explorer::ways_back)),
    (
        EffectWithoutPrecondition,
        of::a_late_promotion,
        Some(explorer::ways_back),
    ),
    (ZeroesAreLost, of::a_late_candidate, Some(explorer::ways_back)),
    (LineageCut, runs::a_turn, Some(explorer::approved)),
    (AskedIsReady, of::slow_pods, Some(explorer::shrinking)),
    (AdoptsByName, of::a_namesake_of_the_candidate, None),
    (DeletesByName, of::a_late_deletion, None),
    (ResultOfAnyJob, runs::a_turn, None),
    (WritesForNothing, runs::a_turn, None),
    (DeafToOthers, runs::a_turn, None),
    (DeafToTime, of::a_delivery, None),
    (PanicEndsAll, of::a_neighbour_that_panics, None),
    (UnreadableStopsAll, of::an_unreadable_neighbour, None),
    (UnreadableIsAbsent, of::a_delivery_behind_an_unreadable_one, None),
    (BackAtOnce, of::a_way_back, Some(explorer::ways_back)),
    (AttemptsCountAnew, runs::a_retry, None),
    (StatusWithoutPrecondition, of::a_late_status, None),
    (LetsGoAtOnce, of::a_deleted_rollout, None),
    (NeverLetsGo, of::a_rollout_deleted_in_a_busy_namespace, None),
    (WholeListWritten, of::a_delivery, None),
    (OverwritesOthers, of::a_foreign_value, None),
    (PlanOfToday, runs::an_edited_pipeline, None),
    (TemplateChangeUnseen, of::a_changed_template, None),
    (NoQueue, of::two_rollouts, None),
    (LevelOfTheStart, runs::a_lowered_level, Some(explorer::lowered_level)),
    (CeilingUnheard, runs::a_ceiling, None),
    (BrakeUnheard, runs::a_brake, None),
    (ShortestTimeForgotten, of::a_delivery, Some(explorer::ways_back)),
    (SpeaksToAndFro, of::a_delivery, None),
    (CountsTheTime, runs::a_patient_run, None),
    (NoDataPasses, of::a_silent_check, None),
    (MissingPolicyPasses, runs::a_deleted_policy, None),
    (OldVerdictCounts, runs::a_changed_policy, None),
];

/// Runs without the words of what panics: that laws are broken is what is asked for here.
fn quietly<T>(action: impl FnOnce() -> T) -> T {
    let loud = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let done = action();
    panic::set_hook(loud);
    done
}

#[test]
fn every_mistake_is_caught_and_nothing_else() {
    let known: BTreeSet<Mistake> = CASES.iter().map(|(mistake, ..)| *mistake).collect();
    assert_eq!(
        known,
        Mistake::ALL.iter().copied().collect(),
        "each mistake has its case"
    );
    let (honest, rows) = quietly(|| (without_mistake(), CASES.iter().map(row).collect::<Vec<_>>()));
    let mut table = format!(
        "{:<26} {:<6} {:<5} {:<6} {:<9} {:<4} found as\n",
        "mistake", "breaks", "laws", "trace", "explorer", "end"
    );
    rows.iter().for_each(|row| table.push_str(&row.line()));
    eprintln!("{table}");
    assert_eq!(honest, Vec::<String>::new(), "found where no mistake was made");
    let missed = rows.iter().filter(|r| r.is_missed()).map(|r| r.mistake.tells());
    assert_eq!(missed.collect::<Vec<_>>(), [""; 0], "not caught where it should be");
    println!("covered: {} mistakes on purpose, each of them noticed", rows.len());
}

/// What is found in the stories and scenes while the operator makes no mistake.
fn without_mistake() -> Vec<String> {
    let stories: BTreeMap<usize, Story> = CASES.iter().map(|(_, story, _)| (*story as usize, *story)).collect();
    let scenes = CASES.iter().filter_map(|(.., scene)| *scene);
    let scenes: BTreeMap<usize, Scenery> = scenes.map(|scene| (scene as usize, scene)).collect();
    let mut found = Vec::new();
    for story in stories.into_values() {
        let told = play(story, None);
        found.extend(told.laws.into_iter().chain(told.end));
        found.extend(told.trace.into_iter().map(|v| v.message));
    }
    found.extend(
        scenes
            .into_values()
            .filter_map(|scene| explore(scene(), None))
            .map(|v| v.found),
    );
    found
}

/// What became of one mistake.
struct Row {
    mistake: Mistake,
    told: Found,
    met: Option<Violation>,
    explored: bool,
}

fn row((mistake, story, scene): &Case) -> Row {
    Row {
        mistake: *mistake,
        told: play(*story, Some(*mistake)),
        met: scene.and_then(|scene| explore(scene(), Some(*mistake))),
        explored: scene.is_some(),
    }
}

impl Row {
    /// Whether no suite found it, or the explorer did not where it should.
    fn is_missed(&self) -> bool {
        let told = self.told.laws.is_some() || self.told.end.is_some() || !self.told.trace.is_empty();
        !told || (self.explored && self.met.is_none())
    }

    /// The violation of the trace checker that is closest to the mistake.
    fn traced(&self) -> Option<&xtask::trace::Violation> {
        let all = &self.told.trace;
        let closest = all.iter().find(|v| v.invariant == self.mistake.invariant());
        closest.or(all.first())
    }

    fn line(&self) -> String {
        let traced = self.traced();
        let words = traced.map(|v| v.message.clone());
        let words = words.or_else(|| self.met.as_ref().map(|v| v.found.clone()));
        let words = words
            .or_else(|| self.told.laws.clone())
            .or_else(|| self.told.end.clone());
        let words = words.unwrap_or_default();
        let words: String = words.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut line = String::new();
        let _ = writeln!(
            line,
            "{:<26} {:<6} {:<5} {:<6} {:<9} {:<4} {}",
            format!("{:?}", self.mistake),
            self.mistake.invariant(),
            if self.told.laws.is_some() { "yes" } else { "" },
            traced.map_or("", |v| v.invariant),
            self.met.as_ref().map_or("", |v| v.invariant),
            if self.told.end.is_some() { "yes" } else { "" },
            words.chars().take(100).collect::<String>()
        );
        line
    }
}
