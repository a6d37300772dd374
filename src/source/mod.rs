//! Where numbers come from.

pub mod prometheus;
