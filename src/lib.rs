//! The operator of Flywheel: IO and wiring around the decisions of `flywheel-engine`.

pub mod apply;
pub mod args;
pub mod batch;
pub mod clock;
pub mod contents;
pub mod context;
pub mod controller;
pub mod driver;
pub mod guard;
pub mod health;
pub mod inputs;
pub mod invalid;
pub mod leader;
pub mod lookup;
pub mod metrics;
pub mod queue;
pub mod record;
pub mod server;
pub mod settings;
pub mod source;
pub mod telemetry;
#[cfg(test)]
mod testing;
pub mod throttle;
pub mod watch;
pub mod wiring;
