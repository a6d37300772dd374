//! The loop of one model: when a run starts, which version is live, what is kept.
