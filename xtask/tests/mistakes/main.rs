//! Seeded bugs: a mistake of the operator at a time, and which suite catches it.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a test that meets what it does not expect should stop"
)]

#[allow(dead_code, reason = "the laws of worlds are for histories of their own")]
#[path = "../../../crates/engine/tests/laws/check.rs"]
mod check;
mod recorder;
mod stage;
mod stories;
mod table;
