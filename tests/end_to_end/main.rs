//! The built command, used as a person would: every stage from a model file to trained weights.
//!
//! `gigac train` needs the runner beside the command: `cargo build --workspace` comes before.

mod architectures;
mod command;
mod emulate;
mod machine_code;
mod memory;
mod passes_off;
mod precision;
mod support;
mod tutorial;
