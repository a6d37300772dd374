//! Every order of things in small scenes, as far as time and memory go: stateright drives the production decisions,
//! breadth first, through the states that two operators, their crashes, slow reads and late writes, people, an
//! adversary and time can reach.
//!
//! A plain test run visits a small part of each scene; with the variable `FLYWHEEL_TEST_LONG` more faults are allowed,
//! and a larger part is visited. Each scene prints how much that was, and whether it was exhausted or cut off. What the
//! model leaves out is written in [`model`].

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a test that meets what it does not expect should stop"
)]

#[allow(
    dead_code,
    reason = "the laws of single writes are taken from there, the others are for histories"
)]
#[path = "../laws/check.rs"]
mod check;
mod escape;
mod honest;
mod model;
mod moves;
mod report;
mod rules;
mod scenes;
mod space;
#[allow(
    dead_code,
    reason = "of what is declared for the judge of traces, the edges of phases are taken"
)]
#[path = "../../../../xtask/src/trace/tables.rs"]
mod tables;
mod told;
