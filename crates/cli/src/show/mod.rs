//! What is printed, as functions of the world: no requests, no clock, no terminal.

pub mod decision;
pub mod explain;
pub mod explanation;
pub mod get;
pub mod lineage;
pub mod serving;
#[cfg(test)]
mod tests;
pub mod verdicts;
pub mod verify;
