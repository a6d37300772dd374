//! Observation of a kind.
