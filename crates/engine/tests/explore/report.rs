//! Visiting a scene, and saying what was visited.

use std::panic;
use std::sync::atomic::{AtomicU64, Ordering};

use stateright::{Checker, Expectation, HasDiscoveries, Model};

use crate::model::{KINDS, Loop};
use crate::scenes::{self, Scene};
use crate::told;

/// Whether everything is visited that the time allows.
fn is_long() -> bool {
    std::env::var_os("FLYWHEEL_TEST_LONG").is_some()
}

/// What was visited of a scene.
pub struct Visit {
    pub states: usize,
    /// Counterexamples, told.
    pub broken: Vec<String>,
    /// What was to be reached and was not.
    pub missed: Vec<&'static str>,
}

/// Visits a scene breadth first, and prints how much of it.
pub fn visit(scene: Scene) -> Visit {
    let (name, states, time) = (scene.name, scene.states, scene.time);
    let model = Loop::new(scene);
    let builder = model.checker().threads(2).target_state_count(states).timeout(time);
    let checker = builder.finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let (of, found) = (checker.model(), checker.discoveries());
    let seconds = of.started.elapsed().as_secs_f64();
    let count = checker.unique_state_count();
    let properties = of.properties();
    let sometimes = properties.iter().filter(|p| p.expectation == Expectation::Sometimes);
    let (reached, missed): (Vec<&str>, Vec<&str>) =
        sometimes.map(|p| p.name).partition(|name| found.contains_key(name));
    let (worlds, writes) = of.space.sizes();
    let rate = count as f64 / seconds;
    eprintln!(
        "{name}: {count} distinct states, {} transitions, depth {}, {seconds:.0} s, {rate:.0} states/s",
        checker.state_count(),
        checker.max_depth()
    );
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
    eprintln!(
        "  {}",
        all(
            of.scene.moves.iter().map(|(_, m)| format!("{m:?}")).collect(),
            &of.moves
        )
    );
    let always = properties.iter().filter(|p| p.expectation == Expectation::Always);
    let broken = always
        .filter_map(|p| checker.discovery(p.name))
        .map(|path| told::path(of, path))
        .collect();
    Visit {
        states: count,
        broken,
        missed,
    }
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
    eprintln!("covered: {total} distinct states in {} scenes", visits.len());
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
