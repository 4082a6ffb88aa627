//! What a checkpoint says about itself.

use gigac_ir::graph::Slot;
use gigac_ir::plan::{Plan, State};
use gigac_ir::program::Program;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::Result;

/// Format of checkpoints; raised whenever their meaning changes.
pub(super) const FORMAT: u32 = 1;
/// First field of every index.
pub(super) const KIND: &str = "gigac checkpoint";

/// Where a run stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Steps done.
    pub steps: u64,
    /// Tokens seen.
    pub tokens: u64,
    /// Seed: with `steps` it gives the position in the data and the state of all randomness.
    pub seed: u32,
    /// Digest of the model's settings; equal ones continue bit for bit.
    pub settings: String,
    /// Digest of the names and sizes of the data.
    pub data: String,
}

/// A shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// Name in the checkpoint's folder.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256 digest, in hexadecimal.
    pub sha256: String,
    /// Tensors in it: states by name.
    pub tensors: Vec<String>,
}

/// The index of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// Always the same, so that other files are not taken for an index.
    pub kind: String,
    /// Format of the checkpoint.
    pub format: u32,
    /// Version of the compiler, for people.
    pub gigac: String,
    /// Name of the model.
    pub model: String,
    /// Where the run stood.
    pub position: Position,
    /// The files.
    pub shards: Vec<Shard>,
    /// Digest of this index with an empty string in this place.
    pub sha256: String,
}

impl Index {
    /// The digest that belongs into the index.
    pub(super) fn digest(&self) -> Result<String, serde_json::Error> {
        let bare = Self { sha256: String::new(), ..self.clone() };
        Ok(hex(&Sha256::digest(serde_json::to_vec(&bare)?)))
    }
}

/// Bytes in hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// A digest of what has to be equal for two runs to be equal: model, parameters, settings.
pub fn settings_digest(program: &Program) -> String {
    let mut hash = Sha256::new();
    hash.update(&program.model);
    for phase in &program.phases {
        let parts = (phase.tokens, &phase.settings, phase.tokens_per_step, &phase.step.params);
        hash.update(format!("{parts:?}"));
    }
    hex(&hash.finalize())
}

/// A digest of the data's paths and sizes.
pub fn data_digest(parts: impl IntoIterator<Item = (String, u64)>) -> String {
    let mut hash = Sha256::new();
    for (name, size) in parts {
        hash.update(format!("{name}\0{size}\0"));
    }
    hex(&hash.finalize())
}

/// The states that a checkpoint holds, with the names of their tensors: all but the copies in bf16,
/// which follow from the weights. They are f32.
pub(super) fn tensors(plan: &Plan) -> impl Iterator<Item = (&State, String)> {
    plan.states.iter().filter_map(|state| {
        let slot = match state.slot {
            Slot::Weight => "weight",
            Slot::Moment1 => "moment1",
            Slot::Moment2 => "moment2",
            Slot::Rounded => return None,
        };
        Some((state, format!("{}/{slot}", plan.params[state.param as usize].name)))
    })
}
