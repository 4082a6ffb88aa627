//! Checkpoints: everything that a run needs to continue bit for bit.
//!
//! `checkpoints/step-00000100/` holds safetensors shards with all states and `index.json` with
//! the position of the run and a SHA-256 digest of every file and of itself. It is written under
//! a hidden temporary name, made durable, and renamed: under its final name it is complete or
//! absent. `checkpoints/latest` names the newest complete one.

mod index;
mod read;
mod write;

pub use index::{Index, Position, data_digest, settings_digest};
pub use read::{load, newest, sweep};
pub use write::save;

use std::path::{Path, PathBuf};

/// The folder of a run's checkpoints.
pub fn folder(run: &Path) -> PathBuf {
    run.join("checkpoints")
}

/// The final name of a checkpoint.
pub fn name(steps: u64) -> String {
    format!("step-{steps:08}")
}

/// Steps done, of a checkpoint's name.
fn steps(name: &str) -> Option<u64> {
    name.strip_prefix("step-")?.parse().ok()
}

/// Hidden names of checkpoints in the making begin so.
const ASIDE: &str = ".step-";
/// The index of a checkpoint.
const INDEX: &str = "index.json";
/// Names the newest checkpoint.
const LATEST: &str = "latest";
