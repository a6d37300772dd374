#![allow(
    clippy::needless_pass_by_value,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    missing_docs
)]

//! Tests on real clusters, which `cargo xtask test` brings up: those named `cluster_` need an API server with the
//! operator, those named `node_` a node that runs pods. Without a cluster they fail.

mod deleted_runs;
mod deletions;
mod deletions_late;
mod deliveries;
mod examples;
mod fast;
mod faults;

mod helm;
mod kubectl;
mod operator;
mod permissions;
mod plugin;
mod plugin_verify;
mod poison;
mod refused;
mod rollout;
mod runs;
mod serving;
mod stages;
mod trace;
mod traffic;
mod turns;
mod walks;
mod world;
