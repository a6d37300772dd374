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
