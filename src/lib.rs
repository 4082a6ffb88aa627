//! gigac: an ahead-of-time compiler for training large transformers.
//!
//! This crate joins the rooms: the front end, the passes, the code generator and the runtime know
//! nothing of each other. [`compile`] goes from a model file to a program; `commands` are what a
//! user types.

pub mod cache;
pub mod commands;
pub mod compile;
pub mod emulate;
pub mod failure;
pub mod line;
pub mod machine;
pub mod ptx;
pub mod report;
mod shrink;
pub mod size;
pub mod watch;
