//! A registered version: its state, its deployments, its protection.
