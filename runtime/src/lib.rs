//! Runs what the compiler made: executors of plans, and the trainer around them.
//!
//! - [`exec`]: the arena, worker threads, code, and the CPU executor.
//! - [`payload`]: the program inside an executable; [`cli`]: its command line.
//! - [`weights`]: initial values, names in files, import and export.
//! - [`data`]: from texts to the inputs of a step.
//! - [`checkpoint`]: everything that a run needs to continue bit for bit.
//! - [`metrics`]: what a run tells of itself.
//! - [`train`]: the run as a whole; [`mod@bench`]: its speed on synthetic data.
//!
//! **Invariant:** of the intermediate representations it sees the plan and the program alone;
//! nothing else in the workspace maps code or touches devices.

pub mod bench;
pub mod checkpoint;
pub mod cli;
pub mod console;
pub mod data;
pub mod error;
pub mod exec;
pub mod metrics;
pub mod payload;
#[cfg(test)]
mod testing;
pub mod train;
pub mod weights;
mod whole;

pub use error::{Error, Result};
