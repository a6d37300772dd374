//! Lineage: whatever is done to a chain is found, and nothing is found in honest ones.

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

mod honest;
mod life;
mod mutations;
mod speed;
