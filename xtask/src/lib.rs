//! What `cargo xtask` is made of, in reading order; a command is a module with `run(args)`.
//!
//! Everything lives below one cache folder (`cache`); other programs are started through `shell`.
//! Nothing here is part of what users install.

pub mod bench;
pub mod cache;
pub mod chart;
pub mod check;
pub mod cluster;
pub mod debian;
pub mod demo;
pub mod existing;
pub mod generate;
pub mod image;
pub mod operator;
pub mod packages;
pub mod quickship;
mod reference;
pub mod shell;
pub mod test;
pub mod tools;
pub mod trace;
