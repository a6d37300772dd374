//! Which suite catches which mistake, and as what.

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

/// A mistake, the story that goes wrong with it, and the invariant that each suite finds broken: so that a rule that
/// has gone blind is missed, also where another one still sees the mistake.
#[derive(Clone, Copy)]
struct Case {
    mistake: Mistake,
    story: Story,
    /// As what the laws find it; empty if they need not.
    laws: &'static str,
    /// As what the trace checker finds it; empty if it need not.
    trace: &'static str,
    /// The smallest scene in which the explorer meets it, and as what. Where there is none, no rule of the explorer is
    /// about it, or it takes more than the scenes have in them.
    scene: Option<(Scenery, &'static str)>,
}

const fn case(mistake: Mistake, story: Story, [laws, trace]: [&'static str; 2]) -> Case {
    Case {
        mistake,
        story,
        laws,
        trace,
        scene: None,
    }
}

impl Case {
    /// The explorer meets it too, in that scene and as a breach of that invariant.
    const fn met(self, scene: Scenery, invariant: &'static str) -> Self {
        Self {
            scene: Some((scene, invariant)),
            ..self
        }
    }

    /// Whether a suite finds it, and not only the end of its story.
    fn is_found(&self) -> bool {
        !self.laws.is_empty() || !self.trace.is_empty() || self.scene.is_some()
    }
}

/// Mistakes that only the story's end shows: what it says then, and why nothing else can.
const END_ALONE: &[(Mistake, &str, &str)] = &[
    (
        DeafToOthers,
        "nobody is asked",
        "what is written is right; of a look that does not happen there is nothing to judge",
    ),
    (
        DeafToTime,
        "how it ends",
        "what is written is right; of a look that does not happen there is nothing to judge",
    ),
    (
        PanicEndsAll,
        "how it ends",
        "an operator that has ended writes nothing that could be judged",
    ),
    (
        UnreadableStopsAll,
        "how it ends",
        "an operator that has stopped writes nothing that could be judged",
    ),
    (
        UnreadableIsAbsent,
        "how it ends",
        "neither a write nor the audit log tells what an operator cannot read",
    ),
];

const CASES: &[Case] = &[
    case(NextAttemptTooEarly, runs::a_slow_stage, ["", "I1"]),
    case(NamesByChance, runs::a_turn, ["I4", "I1"]),
    case(EffectBeforeIntent, runs::a_turn, ["I4", "I1"]).met(explorer::approved, "I4"),
    case(DigestOfAnotherModel, runs::a_turn, ["", "I1b"]),
    case(AdoptsForgedVersion, runs::a_forged_version, ["", "I1b"]),
    case(FailedGateOpens, runs::a_worse_version, ["", "I2"]),
    case(AnyEvidenceCounts, runs::a_stale_approval, ["", "I3"]).met(explorer::forged_digest, "I3"),
    case(AnySubjectCounts, runs::an_approval_of_a_namesake, ["", "I3"]).met(explorer::forged_subject, "I3"),
    case(OwnApprovalCounts, runs::an_own_approval, ["", "I3"]).met(explorer::own_approval, "I3"),
    case(RejectionUnheard, runs::a_rejection, ["", "I3"]),
    case(RevocationUnheard, runs::a_revocation, ["", "I3"]),
    case(BackToNothing, of::a_way_back, ["", "I4"]).met(explorer::ways_back, "I4"),
    case(EffectWithoutPrecondition, of::a_late_promotion, ["", "I4"]).met(explorer::ways_back, "I4"),
    case(ZeroesAreLost, of::a_late_candidate, ["", ""]).met(explorer::ways_back, "I4"),
    case(LineageCut, runs::a_turn, ["I13", "I5"]).met(explorer::approved, "I13"),
    case(AskedIsReady, of::slow_pods, ["", "I7"]).met(explorer::shrinking, "I7"),
    case(AdoptsByName, of::a_namesake_of_the_candidate, ["", "I9"]),
    case(DeletesByName, of::a_late_deletion, ["", "I9"]),
    case(ResultOfAnyJob, runs::a_turn, ["", "I10"]),
    case(WritesForNothing, runs::a_turn, ["I11", "I11"]),
    case(DeafToOthers, runs::a_turn, ["", ""]),
    case(DeafToTime, of::a_delivery, ["", ""]),
    case(PanicEndsAll, of::a_neighbour_that_panics, ["", ""]),
    case(UnreadableStopsAll, of::an_unreadable_neighbour, ["", ""]),
    case(UnreadableIsAbsent, of::a_delivery_behind_an_unreadable_one, ["", ""]),
    case(BackAtOnce, of::a_way_back, ["", "I13"]).met(explorer::ways_back, "I4"),
    case(AttemptsCountAnew, runs::a_retry, ["I13", "I13"]),
    case(StatusWithoutPrecondition, of::a_late_status, ["", "I13"]),
    case(LetsGoAtOnce, of::a_deleted_rollout, ["", "I14"]),
    case(NeverLetsGo, of::a_rollout_deleted_in_a_busy_namespace, ["", "I14"]),
    case(WholeListWritten, of::a_delivery, ["", "I15"]),
    case(OverwritesOthers, of::a_foreign_value, ["", "I4"]),
    case(PlanOfToday, runs::an_edited_pipeline, ["", "I16"]),
    case(TemplateChangeUnseen, of::a_changed_template, ["", "I16"]),
    case(NoQueue, of::two_rollouts, ["", "I17"]),
    case(LevelOfTheStart, runs::a_lowered_level, ["", "I18"]).met(explorer::lowered_level, "I18"),
    case(CeilingUnheard, runs::a_ceiling, ["I18", ""]),
    case(BrakeUnheard, runs::a_brake, ["I18", ""]),
    case(ShortestTimeForgotten, of::a_delivery, ["I19", ""]).met(explorer::ways_back, "I19"),
    case(SpeaksToAndFro, of::a_delivery, ["I11", "I20"]),
    case(CountsTheTime, runs::a_patient_run, ["", "I20"]),
    case(NoDataPasses, of::a_silent_check, ["I21", ""]).met(explorer::unanswered, "I21"),
    case(MissingPolicyPasses, runs::a_deleted_policy, ["", "I2"]),
    case(OldVerdictCounts, runs::a_changed_policy, ["", "I22"]),
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
fn every_mistake_is_caught_as_what_it_is_and_nothing_else() {
    let known: BTreeSet<Mistake> = CASES.iter().map(|case| case.mistake).collect();
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
    for (mistake, _, why) in END_ALONE {
        eprintln!("{mistake:?}: only its story ends otherwise, because {why}");
    }
    assert_eq!(honest, Vec::<String>::new(), "found where no mistake was made");
    let missed = rows.iter().flat_map(Row::missed).collect::<Vec<_>>();
    assert_eq!(missed, Vec::<String>::new(), "not found as it should be");
    println!("covered: {} mistakes on purpose, each of them noticed", rows.len());
}

/// What is found in the stories and scenes while the operator makes no mistake.
fn without_mistake() -> Vec<String> {
    let stories: BTreeMap<usize, Story> = CASES.iter().map(|case| (case.story as usize, case.story)).collect();
    let scenes = CASES.iter().filter_map(|case| Some(case.scene?.0));
    let scenes: BTreeMap<usize, Scenery> = scenes.map(|scene| (scene as usize, scene)).collect();
    let mut found = Vec::new();
    for story in stories.into_values() {
        let told = play(story, None);
        found.extend(told.laws.map(|v| v.found).into_iter().chain(told.end));
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
    case: Case,
    told: Found,
    met: Option<Violation>,
}

fn row(case: &Case) -> Row {
    Row {
        case: *case,
        told: play(case.story, Some(case.mistake)),
        met: case.scene.and_then(|(scene, _)| explore(scene(), Some(case.mistake))),
    }
}

/// The invariant of a violation, if there is one.
fn invariant(found: Option<&Violation>) -> &'static str {
    found.map_or("", |v| v.invariant)
}

impl Row {
    /// What was not found as the case says, a sentence each.
    fn missed(&self) -> Vec<String> {
        let (case, mut missed) = (self.case, Vec::new());
        let mut miss = |suite: &str, wanted: &str, found: &str| {
            missed.push(format!(
                "{:?}: {suite} found {found:?} broken instead of {wanted:?}",
                case.mistake
            ));
        };
        let laws = invariant(self.told.laws.as_ref());
        if !case.laws.is_empty() && laws != case.laws {
            miss("the laws", case.laws, laws);
        }
        if !case.trace.is_empty() && self.told.trace.iter().all(|v| v.invariant != case.trace) {
            miss(
                "the trace checker",
                case.trace,
                self.traced().map_or("", |v| v.invariant),
            );
        }
        let met = invariant(self.met.as_ref());
        if let Some((_, wanted)) = case.scene.filter(|(_, wanted)| *wanted != met) {
            miss("the explorer", wanted, met);
        }
        if !case.is_found() && !self.ends_as_listed() {
            missed.push(format!(
                "{:?}: no suite has to find it, and its story does not end as {END_ALONE:?} says: {:?}",
                case.mistake, self.told.end
            ));
        }
        missed
    }

    /// Whether the story's end may be all that shows the mistake, and shows it in the words of the story.
    fn ends_as_listed(&self) -> bool {
        let listed = END_ALONE.iter().find(|(mistake, ..)| *mistake == self.case.mistake);
        let end = self.told.end.as_deref().unwrap_or_default();
        listed.is_some_and(|(_, words, _)| end.contains(words))
    }

    /// The violation of the trace checker that is closest to the mistake.
    fn traced(&self) -> Option<&xtask::trace::Violation> {
        let all = &self.told.trace;
        let closest = all.iter().find(|v| v.invariant == self.case.trace);
        closest.or(all.first())
    }

    fn line(&self) -> String {
        let (traced, mistake) = (self.traced(), self.case.mistake);
        let words = traced.map(|v| v.message.clone());
        let words = words.or_else(|| self.met.as_ref().map(|v| v.found.clone()));
        let words = words
            .or_else(|| self.told.laws.as_ref().map(|v| v.found.clone()))
            .or_else(|| self.told.end.clone());
        let words = words.unwrap_or_default();
        let words: String = words.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut line = String::new();
        let _ = writeln!(
            line,
            "{:<26} {:<6} {:<5} {:<6} {:<9} {:<4} {}",
            format!("{mistake:?}"),
            mistake.invariant(),
            invariant(self.told.laws.as_ref()),
            traced.map_or("", |v| v.invariant),
            invariant(self.met.as_ref()),
            if self.told.end.is_some() { "yes" } else { "" },
            words.chars().take(100).collect::<String>()
        );
        line
    }
}
