//! Writes checkpoints.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use gigac_ir::plan::{Plan, State};
use sha2::{Digest, Sha256};

use super::index::{self, FORMAT, KIND, Shard, hex};
use super::{ASIDE, INDEX, Index, LATEST, Position, folder, name};
use crate::error::{Error, Result};
use crate::exec::arena::Arena;
use crate::weights::tensors::{self, Entry};

/// Bytes of tensors after which a new shard begins.
const SHARD_BYTES: u64 = 2 << 30;

/// Writes a checkpoint of a run. Nothing is visible under the final name before all of it is on
/// disk; a failure leaves older checkpoints as they were.
///
/// # Errors
/// [`Error::Io`] names the folder.
pub fn save(run: &Path, model: &str, plan: &Plan, arena: &Arena, position: Position) -> Result<()> {
    let folder = folder(run);
    let (target, aside) =
        (folder.join(name(position.steps)), folder.join(format!("{ASIDE}{:08}", position.steps)));
    let written = fs::create_dir_all(&folder)
        .and_then(|()| remove(&aside))
        .and_then(|()| fs::create_dir(&aside))
        .and_then(|()| fill(&aside, model, plan, arena, position.clone()))
        // Only a damaged one can be in the way: a whole one would not be written again.
        .and_then(|()| remove(&target))
        .and_then(|()| fs::rename(&aside, &target))
        .and_then(|()| sync(&folder))
        .and_then(|()| point(&folder, position.steps));
    written.map_err(|e| {
        // What could not be finished is not worth keeping; its own failure says nothing new.
        let _ = remove(&aside);
        Error::io("write checkpoint", &target)(e)
    })
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Makes the names in a folder durable.
fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Lets `latest` name a checkpoint.
fn point(folder: &Path, steps: u64) -> io::Result<()> {
    let aside = folder.join(format!(".{LATEST}"));
    let mut file = File::create(&aside)?;
    writeln!(file, "{}", name(steps))?;
    file.sync_all()?;
    fs::rename(&aside, folder.join(LATEST))?;
    sync(folder)
}

fn fill(
    aside: &Path,
    model: &str,
    plan: &Plan,
    arena: &Arena,
    position: Position,
) -> io::Result<()> {
    let shards = shards(plan);
    let count = shards.len();
    let shards: io::Result<Vec<Shard>> = shards
        .iter()
        .enumerate()
        .map(|(i, states)| {
            let name = format!("states-{:05}-of-{count:05}.safetensors", i + 1);
            shard(aside, name, plan, states, arena)
        })
        .collect();
    let mut index = Index {
        kind: KIND.to_owned(),
        format: FORMAT,
        gigac: env!("CARGO_PKG_VERSION").to_owned(),
        model: model.to_owned(),
        position,
        shards: shards?,
        sha256: String::new(),
    };
    index.sha256 = index.digest()?;
    let mut file = File::create(aside.join(INDEX))?;
    file.write_all(&serde_json::to_vec_pretty(&index)?)?;
    file.sync_all()?;
    sync(aside)
}

/// Deals the states to shards, in order.
fn shards(plan: &Plan) -> Vec<Vec<(&State, String)>> {
    let mut shards = vec![Vec::new()];
    let mut bytes = 0;
    for (state, name) in index::tensors(plan) {
        let size = 4 * plan.elements(state);
        if bytes > 0 && bytes + size > SHARD_BYTES {
            shards.push(Vec::new());
            bytes = 0;
        }
        bytes += size;
        shards.last_mut().expect("there is one from the start").push((state, name));
    }
    shards
}

fn shard(
    folder: &Path,
    name: String,
    plan: &Plan,
    states: &[(&State, String)],
    arena: &Arena,
) -> io::Result<Shard> {
    let shape = |s: &State| plan.params[s.param as usize].axes.iter().map(|(_, n)| *n).collect();
    let entries: Vec<Entry> = states.iter().map(|(s, name)| Entry::f32(name, shape(s))).collect();
    let file = File::create(folder.join(&name))?;
    let mut out =
        Hashing { out: BufWriter::with_capacity(1 << 20, file), hash: Sha256::new(), bytes: 0 };
    tensors::write(&mut out, &entries, |i, out| {
        let state = states[i].0;
        tensors::write_f32(out, arena.slice(state.offset, plan.elements(state) as usize))
    })?;
    out.out.into_inner()?.sync_all()?;
    Ok(Shard {
        name,
        bytes: out.bytes,
        sha256: hex(&out.hash.finalize()),
        tensors: entries.into_iter().map(|e| e.name).collect(),
    })
}

/// Hashes and counts what is written.
struct Hashing<W> {
    out: W,
    hash: Sha256,
    bytes: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
