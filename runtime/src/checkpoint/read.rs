//! Finds, checks and loads checkpoints.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use gigac_ir::plan::Plan;
use sha2::{Digest, Sha256};

use super::index::{FORMAT, KIND, hex, tensor_name};
use super::{ASIDE, INDEX, Index, folder, index::Shard, steps};
use crate::error::{Error, Result};
use crate::exec::arena::Arena;
use crate::weights::initial::elements;
use crate::weights::tensors::TensorFile;

/// Longest index that is read.
const MAX_INDEX: u64 = 64 << 20;

/// Removes what a killed run left half-written.
///
/// # Errors
/// [`Error::Io`] when the folder cannot be read.
pub fn sweep(run: &Path) -> Result<()> {
    let folder = folder(run);
    for entry in entries(&folder)? {
        if entry.file_name().to_string_lossy().starts_with(ASIDE) {
            fs::remove_dir_all(entry.path()).map_err(Error::io("remove", &entry.path()))?;
        }
    }
    Ok(())
}

/// The newest whole checkpoint of a run, if there is any checkpoint at all; `warn` is told of
/// every damaged one.
///
/// # Errors
/// [`Error::Input`] when there are checkpoints and none is whole, or the newest is of another
/// format.
pub fn newest(run: &Path, mut warn: impl FnMut(&str)) -> Result<Option<(PathBuf, Index)>> {
    let mut found: Vec<(u64, PathBuf)> = entries(&folder(run))?
        .into_iter()
        .filter_map(|e| Some((steps(e.file_name().to_str()?)?, e.path())))
        .collect();
    found.sort();
    let any = !found.is_empty();
    for (steps, path) in found.into_iter().rev() {
        match verify(&path) {
            Ok(index) if index.format != FORMAT => {
                let what = format!(
                    "a checkpoint of format {}, this executable reads format {FORMAT}: continue \
                     with gigac {}",
                    index.format, index.gigac
                );
                return Err(Error::file(&path, what));
            }
            Ok(index) if index.position.steps == steps => return Ok(Some((path, index))),
            Ok(_) => warn(&format!("{}: damaged, its name is wrong", path.display())),
            Err(what) => warn(&format!("{}: damaged, {what}", path.display())),
        }
    }
    if any {
        return Err(Error::file(&folder(run), "none of the checkpoints is whole"));
    }
    Ok(None)
}

fn entries(folder: &Path) -> Result<Vec<fs::DirEntry>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.collect::<io::Result<_>>().map_err(Error::io("read", folder)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(Error::io("read", folder)(e)),
    }
}

/// Reads the index and checks every digest.
fn verify(path: &Path) -> Result<Index, String> {
    let index = read_index(&path.join(INDEX))?;
    // Another format may have other digests: leave the judgement to the caller.
    if index.format == FORMAT {
        index.shards.iter().try_for_each(|shard| check(path, shard))?;
    }
    Ok(index)
}

fn read_index(path: &Path) -> Result<Index, String> {
    let file = fs::File::open(path).map_err(|e| format!("index.json: {e}"))?;
    let mut text = Vec::new();
    file.take(MAX_INDEX).read_to_end(&mut text).map_err(|e| format!("index.json: {e}"))?;
    let index: Index = serde_json::from_slice(&text).map_err(|e| format!("index.json: {e}"))?;
    if index.kind != KIND {
        return Err("index.json is not that of a checkpoint".to_owned());
    }
    let digest = index.digest().map_err(|e| format!("index.json: {e}"))?;
    if index.format == FORMAT && digest != index.sha256 {
        return Err("index.json differs from its digest".to_owned());
    }
    Ok(index)
}

fn check(folder: &Path, shard: &Shard) -> Result<(), String> {
    let name = &shard.name;
    if Path::new(name).file_name() != Some(name.as_ref()) {
        return Err(format!("`{name}` is not a name of a shard"));
    }
    let mut file = fs::File::open(folder.join(name)).map_err(|e| format!("{name}: {e}"))?;
    let mut hash = Sha256::new();
    let bytes = io::copy(&mut file, &mut hash).map_err(|e| format!("{name}: {e}"))?;
    if bytes != shard.bytes {
        return Err(format!("{name} has {bytes} bytes of {}", shard.bytes));
    }
    if hex(&hash.finalize()) != shard.sha256 {
        return Err(format!("{name} differs from its digest"));
    }
    Ok(())
}

/// Copies all states of a whole checkpoint into the arena.
///
/// # Errors
/// [`Error::Input`] when it is of another model.
pub fn load(path: &Path, index: &Index, model: &str, plan: &Plan, arena: &mut Arena) -> Result<()> {
    if index.model != model {
        let what = format!("a checkpoint of model `{}`, not of `{model}`", index.model);
        return Err(Error::file(path, what));
    }
    let files: Vec<TensorFile> = index
        .shards
        .iter()
        .map(|s| TensorFile::open(&path.join(&s.name)))
        .collect::<Result<_>>()?;
    for state in &plan.states {
        let name = tensor_name(plan, state);
        let param = &plan.params[state.param as usize];
        let wrong = |what: String| {
            Error::file(
                path,
                format!("a checkpoint of another version of the model: `{name}` {what}"),
            )
        };
        let tensor = files.iter().find_map(|f| f.get(&name));
        let tensor = tensor.ok_or_else(|| wrong("is missing".to_owned()))?;
        let shape: Vec<u64> = param.axes.iter().map(|(_, n)| *n).collect();
        if tensor.shape != shape {
            return Err(wrong(format!("has shape {:?}, not {shape:?}", tensor.shape)));
        }
        let values = arena.slice_mut(state.offset, elements(plan, state) as usize);
        tensor.read_f32(0, values).map_err(wrong)?;
    }
    let tensors: usize = index.shards.iter().map(|s| s.tensors.len()).sum();
    if tensors != plan.states.len() {
        let what = format!("it has {tensors} states, the model {}", plan.states.len());
        return Err(Error::file(path, what));
    }
    Ok(())
}
