//! Visiting a scene, and saying what was visited.

use std::panic;
use std::sync::atomic::{AtomicU64, Ordering};

use stateright::{Checker, Expectation, HasDiscoveries, Model};

use crate::model::{KINDS, Loop};
use crate::scenes::{self, Scene};
use crate::told;

/// Whether as much is visited as time and memory allow.
fn is_long() -> bool {
    std::env::var_os("FLYWHEEL_TEST_LONG").is_some()
}

/// What was visited of a scene.
pub struct Visit {
    pub states: usize,
    /// Nothing is left that the scene's bounds allow.
    pub exhausted: bool,
    /// How much that was.
    pub extent: String,
    /// Counterexamples, told.
    pub broken: Vec<String>,
    /// What was to be reached and was not.
    pub missed: Vec<&'static str>,
}

/// Visits a scene breadth first, and prints how much of it.
pub fn visit(scene: Scene) -> Visit {
    let (name, transitions, time) = (scene.name, scene.transitions, scene.time);
    let model = Loop::new(scene);
    // Stateright counts a state as often as it is reached, and calls that the count of states.
    let builder = model.checker().threads(2).target_state_count(transitions).timeout(time);
    let checker = builder.finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    // First of all: to tell its discoveries the checker looks at their states again.
    let (states, left, extent) = extent(&checker);
    eprintln!("{name}: {extent}");
    let (of, found) = (checker.model(), checker.discoveries());
    let properties = of.properties();
    let sometimes = properties.iter().filter(|p| p.expectation == Expectation::Sometimes);
    let (reached, missed): (Vec<&str>, Vec<&str>) =
        sometimes.map(|p| p.name).partition(|name| found.contains_key(name));
    print_content(of, &reached);
    let always = properties.iter().filter(|p| p.expectation == Expectation::Always);
    let broken = always
        .filter_map(|p| checker.discovery(p.name))
        .map(|path| told::path(of, path))
        .collect();
    Visit {
        states,
        exhausted: left == 0,
        extent,
        broken,
        missed,
    }
}

/// Distinct states that were reached, those of them of which nobody asked what can happen next, and both in words.
fn extent(checker: &impl Checker<Loop>) -> (usize, usize, String) {
    let of = checker.model();
    let (states, visited) = (checker.unique_state_count(), of.visited.load(Ordering::Relaxed));
    let left = states.saturating_sub(visited);
    let end = if left == 0 {
        "exhausted".to_owned()
    } else {
        format!("cut off before {left} of them were visited")
    };
    let extent = format!(
        "{states} distinct states, {} transitions, depth {}, {:.0} s, {end}",
        checker.state_count(),
        checker.max_depth(),
        of.started.elapsed().as_secs_f64()
    );
    (states, left, extent)
}

/// What there was, and how often each thing happened.
fn print_content(of: &Loop, reached: &[&str]) {
    let (worlds, writes) = of.space.sizes();
    eprintln!(
        "  {worlds} worlds and views, {writes} writes; reached: {}",
        reached.join(", ")
    );
    let all = |names: Vec<String>, counts: &[AtomicU64]| {
        let each = names
            .into_iter()
            .zip(counts)
            .map(|(n, c)| format!("{n} {}", c.load(Ordering::Relaxed)));
        each.collect::<Vec<_>>().join(", ")
    };
    eprintln!("  {}", all(KINDS.iter().map(|k| (*k).to_owned()).collect(), &of.kinds));
    let moves = of.scene.moves.iter().map(|(_, m)| format!("{m:?}")).collect();
    eprintln!("  {}", all(moves, &of.moves));
}

/// The laws panic where they are broken; what they say is kept, and not printed.
pub fn be_quiet() {
    panic::set_hook(Box::new(|_| {}));
}

#[test]
fn no_order_of_things_breaks_an_invariant() {
    let loud = panic::take_hook();
    be_quiet();
    let visits: Vec<(&str, Visit)> = scenes::all(is_long()).into_iter().map(|s| (s.name, visit(s))).collect();
    panic::set_hook(loud);
    let total: usize = visits.iter().map(|(_, v)| v.states).sum();
    visits
        .iter()
        .for_each(|(name, v)| eprintln!("covered: {name}: {}", v.extent));
    let exhausted = visits.iter().filter(|(_, v)| v.exhausted).count();
    eprintln!(
        "covered: {total} distinct states in {} scenes, {exhausted} of them exhausted",
        visits.len()
    );
    // Printed here, because another test may have silenced what panics say.
    for (name, visit) in &visits {
        visit.broken.iter().for_each(|told| eprintln!("{name}:\n{told}"));
        visit
            .missed
            .iter()
            .for_each(|missed| eprintln!("{name}: never reached {missed}"));
    }
    let good = visits.iter().all(|(_, v)| v.broken.is_empty() && v.missed.is_empty());
    assert!(
        good,
        "an invariant was broken, or something that must be reached was not"
    );
    assert!(
        !is_long() || total >= 1_000_000,
        "only {total} distinct states were visited"
    );
}
