//! The operator of Flywheel: IO and wiring around the decisions of `flywheel-engine`.

pub mod context;
pub mod controller;
