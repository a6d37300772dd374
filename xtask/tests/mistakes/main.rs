//! Seeded bugs: a mistake of the operator at a time, and which suite catches it.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a test that meets what it does not expect should stop"
)]

use xtask::trace::tables;

mod builds;
#[allow(dead_code, reason = "the laws of worlds are for histories of their own")]
#[path = "../../../crates/engine/tests/laws/check.rs"]
mod check;
#[path = "../../../crates/engine/tests/explore/escape.rs"]
mod escape;
mod explorer;
#[allow(dead_code, reason = "who visits a scene at length counts what happens in it")]
#[path = "../../../crates/engine/tests/explore/model.rs"]
mod model;
#[allow(dead_code, reason = "each mistake is looked for in the smallest scene")]
#[path = "../../../crates/engine/tests/explore/moves.rs"]
mod moves;
mod recorder;
#[path = "../../../crates/engine/tests/explore/rules.rs"]
mod rules;
#[allow(dead_code, reason = "each mistake is looked for in the smallest scene")]
#[path = "../../../crates/engine/tests/explore/scenes.rs"]
mod scenes;
#[allow(dead_code, reason = "who visits a scene at length counts what was computed")]
#[path = "../../../crates/engine/tests/explore/space.rs"]
mod space;
mod stage;
mod stories;
mod table;
