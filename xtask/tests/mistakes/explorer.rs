//! The explorer of `crates/engine/tests/explore`, in scenes in which the operator makes a mistake. Each is cut down to
//! what the mistake needs, so that it is visited in a moment.

use std::panic::{self, AssertUnwindSafe};

use flywheel_api::reference::AutomationLevel;
use flywheel_engine::testing::Mistake;
use stateright::{Checker, Expectation, HasDiscoveries, Model};

use crate::model::{GROUPS, Loop};
use crate::moves::{Forgery, Move};
use crate::rules::Violation;
use crate::scenes::{self, Scene};

/// Transitions of a scene after which no further block of states is visited.
const TRANSITIONS: usize = 800;

/// Stands for an invariant where the explorer itself stopped: no rule of it found anything.
pub const STOPPED: &str = "panic";

/// The first violation that is met in a scene.
pub fn explore(mut scene: Scene, mistake: Option<Mistake>) -> Option<Violation> {
    scene.world.mistake = mistake;
    let visit = || {
        // One thread: which invariant is found must not depend on which of two is faster.
        let builder = Loop::new(scene).checker().threads(1).target_state_count(TRANSITIONS);
        let checker = builder.finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
        let properties = checker.model().properties();
        let always = properties.iter().filter(|p| p.expectation == Expectation::Always);
        let mut paths = always.filter_map(|p| checker.discovery(p.name));
        paths.find_map(|path| path.last_state().broken.clone())
    };
    let met = panic::catch_unwind(AssertUnwindSafe(visit));
    met.unwrap_or_else(|_| Some(Violation::new(STOPPED, "the explorer stops")))
}

/// The scene with these moves alone, each at most once, and no faults.
fn only(scene: Scene, wanted: fn(&Move) -> bool) -> Scene {
    let moves = scene.moves.into_iter().filter(|(_, m)| wanted(m)).collect();
    let mut left = [1; GROUPS];
    left[crate::model::CRASH] = 0;
    left[crate::model::SLOW] = 0;
    Scene {
        roads: Vec::new(),
        escapes: 0,
        moves,
        left,
        ..scene
    }
}

/// A run waits for a person, and gets an Approval of evidence that nobody saw.
pub fn forged_digest() -> Scene {
    only(scenes::approval(), |m| matches!(m, Move::Forge(Forgery::Digest)))
}

/// A run waits for a person, and gets an Approval of an object that is gone.
pub fn forged_subject() -> Scene {
    only(scenes::approval(), |m| matches!(m, Move::Forge(Forgery::Subject)))
}

/// A run waits for a person, and who asked for it approves it.
pub fn own_approval() -> Scene {
    only(scenes::approval(), |m| matches!(m, Move::Forge(Forgery::Own)))
}

/// A run waits for a person while its pipeline's level is lowered.
pub fn lowered_level() -> Scene {
    only(scenes::approval(), |m| {
        matches!(m, Move::Level(AutomationLevel::Manual) | Move::Person(..))
    })
}

/// A version is approved and delivered.
pub fn approved() -> Scene {
    Scene {
        roads: scenes::approval().roads,
        ..only(scenes::approval(), |_| false)
    }
}

/// From every moment of a delivery the way back is tried.
pub fn ways_back() -> Scene {
    Scene {
        roads: scenes::delivery().roads,
        escapes: 1,
        ..only(scenes::delivery(), |_| false)
    }
}

/// A delivery whose check is asked, in part without an answer.
pub fn unanswered() -> Scene {
    Scene {
        roads: scenes::delivery().roads,
        ..only(scenes::delivery(), |_| false)
    }
}

/// A delivery takes pods from the baseline.
pub fn shrinking() -> Scene {
    only(scenes::shrink(), |m| matches!(m, Move::Pods(_) | Move::Minute))
}
