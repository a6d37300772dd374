//! Whole loops and their laws: the production decisions in a small world.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::needless_pass_by_value,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that meets what it does not expect should stop"
)]

mod check;
mod deliveries;
mod denied;
mod late;
mod levels;
mod loops;
mod lost;
mod missing;
mod moves;
mod parts;
mod pipelines;
mod room;
mod shop;
mod turns;
mod unreadable;

use proptest::test_runner::Config;

/// So many times as many histories with `FLYWHEEL_TEST_LONG`.
const LONG: u32 = 8;

/// Tries so many histories, other ones each time.
fn histories(count: u32) -> Config {
    let times = if std::env::var_os("FLYWHEEL_TEST_LONG").is_some() {
        LONG
    } else {
        1
    };
    Config {
        cases: count * times,
        failure_persistence: None,
        ..Config::default()
    }
}
