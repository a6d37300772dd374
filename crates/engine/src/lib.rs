//! The decisions of Flywheel: pure functions from what was observed to at most one write.
//!
//! `observe → decide → apply`: the operator gathers everything a decision may know into an `Observation` (plain,
//! serialisable data with the current time in it), `decide` turns it into a [`decision::Decision`], and the operator
//! carries that out. Nothing here is async, talks to a cluster, reads a clock, an environment or a file. `decide` is
//! total: bad input and missing evidence are decisions too.
//!
//! Laws, tested as properties: the same observation gives the same decision; from a quiet world every object reaches
//! `Wait` in a bounded number of steps; an effect is only done when the stored status already names it.

pub mod approval;
pub mod bias;
pub mod bias_policy;
pub mod binding;
pub mod capture;
pub mod decision;
pub mod denial;
pub mod evidence;
pub mod gate;
pub mod level;
pub mod lineage;
pub mod model_version;
pub mod part;
pub mod pipeline;
pub mod promotion;
pub mod rollout;
pub mod run;
pub mod settings;
pub mod standing;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod view;
