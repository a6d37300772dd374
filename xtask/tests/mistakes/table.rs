//! Which suite catches which mistake.

use std::panic;
use std::time::Instant;

use flywheel_engine::testing::Mistake;

use crate::stage::{Found, Story, play};
use crate::stories;

/// Where a mistake is looked for.
struct Case {
    mistake: Mistake,
    story: Story,
}

const fn case(mistake: Mistake, story: Story) -> Case {
    Case { mistake, story }
}

const CASES: &[Case] = &[
    case(Mistake::NamesByChance, stories::a_turn),
    case(Mistake::FailedGateOpens, stories::a_worse_version),
    case(Mistake::AnyEvidenceCounts, stories::a_stale_approval),
    case(Mistake::ResultOfAnyJob, stories::a_turn),
    case(Mistake::NoDataPasses, stories::a_silent_check),
    case(Mistake::WritesForNothing, stories::a_turn),
];

#[test]
fn every_mistake_is_caught() {
    let loud = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let mut rows = Vec::new();
    for case in CASES {
        let begun = Instant::now();
        let honest = play(case.story, None);
        let told = play(case.story, Some(case.mistake));
        rows.push((case.mistake, honest, told, begun.elapsed()));
    }
    panic::set_hook(loud);
    for (mistake, honest, told, time) in &rows {
        eprintln!("{mistake:?} ({}) {:.1} s", mistake.invariant(), time.as_secs_f64());
        show("  honest", honest);
        show("  found", told);
    }
    assert!(
        rows.iter()
            .all(|(_, honest, ..)| honest.laws.is_none() && honest.trace.is_none())
    );
    assert!(
        rows.iter()
            .all(|(.., told, _)| told.laws.is_some() || told.trace.is_some())
    );
}

fn show(what: &str, found: &Found) {
    if let Some(law) = &found.laws {
        eprintln!(
            "{what} by laws: {}",
            law.chars().take(150).collect::<String>().replace('\n', " ")
        );
    }
    if let Some((invariant, message)) = &found.trace {
        eprintln!("{what} by trace: {invariant} {message}");
    }
}
