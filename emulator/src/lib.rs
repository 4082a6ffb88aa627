//! Executes NVIDIA PTX (sm_80, sm_90) on the CPU and reports what is wrong with it.
//!
//! Three goals, in this order: the result is what the PTX manual says; whatever the manual leaves
//! open is used against the program, so that mistakes show; it is fast enough for tests.
//!
//! PTX text goes through [`syntax`] (tree), `decode` (flat program of closures), and `exec` (blocks
//! over host threads, warps of 32 lanes with a program counter per lane). `check` holds the shadow
//! memory and the vector clocks of the race detector. The crate knows the PTX manual and nothing of
//! any compiler; it opens no file.
//!
//! Start at [`Launch`].

mod check;
mod decode;
mod error;
mod exec;
pub mod forms;
mod lanes;
mod launch;
mod memory;
pub mod meta;
mod num;
mod profile;
mod program;
pub mod syntax;
pub mod types;

pub use check::{Access, Checks, Finding, FindingKind, Place};
pub use error::{LaunchError, PtxError, Span};
pub use exec::engine::Schedule;
pub use exec::tensormap::TensorMap;
pub use lanes::Isa;
pub use launch::{Launch, Module, Report};
pub use memory::{Filler, Memory};
pub use profile::{GPUS, Gpu, Profile};
