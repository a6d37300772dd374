//! The delivery of one version to one target.
