//! Finds, checks and loads checkpoints.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use gigac_ir::plan::Plan;
use sha2::{Digest, Sha256};

use super::index::{FORMAT, KIND, hex, tensors};
use super::{ASIDE, INDEX, Index, folder, index::Shard, steps};
use crate::error::{Error, Result};
use crate::exec::arena::Arena;
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
        return Err(Error::file(
            &folder(run),
            "none of the checkpoints is whole: without `--resume` the run begins again",
        ));
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

/// Copies all states of a whole checkpoint into the arena; the copies in bf16 are left to
/// [`initial::round`](crate::weights::initial::round).
///
/// # Errors
/// [`Error::Input`] when it is of another model.
pub fn load(path: &Path, index: &Index, model: &str, plan: &Plan, arena: &mut Arena) -> Result<()> {
    if index.model != model {
        let what = format!(
            "a checkpoint of model `{}`, not of `{model}`: continue it with that model, or choose \
             another `--out`",
            index.model
        );
        return Err(Error::file(path, what));
    }
    let files: Vec<TensorFile> = index
        .shards
        .iter()
        .map(|s| TensorFile::open(&path.join(&s.name)))
        .collect::<Result<_>>()?;
    let mut wanted = 0;
    for (state, name) in tensors(plan) {
        wanted += 1;
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
        let values = arena.slice_mut(state.offset, plan.elements(state) as usize);
        tensor.read_f32(0, values).map_err(wrong)?;
    }
    let held: usize = index.shards.iter().map(|s| s.tensors.len()).sum();
    if held != wanted {
        let what = format!("it has {held} states, the model {wanted}");
        return Err(Error::file(path, what));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{Position, name, save};
    use crate::testing;
    use gigac_ir::graph::Slot;
    use gigac_ir::plan::State;
    use proptest::prelude::*;

    fn position(steps: u64) -> Position {
        Position { steps, tokens: 64, seed: 1, settings: String::new(), data: String::new() }
    }

    /// A run with one checkpoint.
    fn run() -> tempfile::TempDir {
        let (run, plan) = (tempfile::tempdir().unwrap(), testing::program().phases.remove(0).step);
        let mut arena = Arena::new(plan.arena_bytes).unwrap();
        arena.slice_mut::<f32>(0, 4).copy_from_slice(&[1.0, f32::NAN, -0.0, 3.5]);
        save(run.path(), "bigram", &plan, &arena, position(7)).unwrap();
        run
    }

    #[test]
    fn states_come_back_bit_for_bit() {
        let (run, plan) = (run(), testing::program().phases.remove(0).step);
        let (path, index) = newest(run.path(), |w| panic!("{w}")).unwrap().unwrap();
        assert_eq!(
            (index.position.clone(), path.file_name().unwrap()),
            (position(7), name(7).as_ref())
        );
        let mut arena = Arena::new(plan.arena_bytes).unwrap();
        load(&path, &index, "bigram", &plan, &mut arena).unwrap();
        let want = [1.0, f32::NAN, -0.0, 3.5].map(f32::to_bits);
        assert_eq!(arena.slice::<u32>(0, 4), want);
        let error = load(&path, &index, "trigram", &plan, &mut arena).unwrap_err();
        assert!(error.to_string().contains("not of `trigram`"), "{error}");
    }

    #[test]
    fn other_versions_of_a_model_are_refused() {
        let (run, mut plan) = (run(), testing::program().phases.remove(0).step);
        let (path, index) = newest(run.path(), |_| ()).unwrap().unwrap();
        plan.params[1].axes[0].1 = 128;
        let mut arena = Arena::new(plan.arena_bytes).unwrap();
        let error = load(&path, &index, "bigram", &plan, &mut arena).unwrap_err();
        assert!(error.to_string().contains("`bias/weight` has shape [256], not [128]"), "{error}");
    }

    /// Copies in bf16 follow from the weights: with them and without a checkpoint is the same.
    #[test]
    fn copies_are_left_out() {
        let (old, mut plan) = (run(), testing::program().phases.remove(0).step);
        let offset = plan.arena_bytes.next_multiple_of(64);
        plan.states.push(State { param: 1, slot: Slot::Rounded, offset });
        plan.arena_bytes = offset + 512;
        let mut arena = Arena::new(plan.arena_bytes).unwrap();
        let (path, index) = newest(old.path(), |w| panic!("{w}")).unwrap().unwrap();
        load(&path, &index, "bigram", &plan, &mut arena).unwrap();
        arena.slice_mut::<u16>(offset, 256).fill(0x3f80);
        let new = tempfile::tempdir().unwrap();
        save(new.path(), "bigram", &plan, &arena, position(7)).unwrap();
        let index = newest(new.path(), |w| panic!("{w}")).unwrap().unwrap().1;
        assert_eq!(index, newest(old.path(), |w| panic!("{w}")).unwrap().unwrap().1);
    }

    proptest! {
        /// Any change of any byte is noticed, and nothing panics.
        #[test]
        fn damage_is_noticed(shard in any::<bool>(), at in any::<prop::sample::Index>(), flip in 1_u8..) {
            let run = run();
            let folder = folder(run.path()).join(name(7));
            let file = if shard { "states-00001-of-00001.safetensors" } else { INDEX };
            let mut bytes = fs::read(folder.join(file)).unwrap();
            // White space of the index may change without harm.
            let harms = |at: &usize| shard || !bytes[*at].is_ascii_whitespace();
            let places: Vec<usize> = (0..bytes.len()).filter(harms).collect();
            bytes[*at.get(&places)] ^= flip;
            fs::write(folder.join(file), bytes).unwrap();
            prop_assert!(newest(run.path(), |_| ()).is_err());
        }

        #[test]
        fn cut_files_are_noticed(at in any::<prop::sample::Index>()) {
            let run = run();
            let path = folder(run.path()).join(name(7)).join(INDEX);
            let bytes = fs::read(&path).unwrap();
            fs::write(&path, &bytes[..at.index(bytes.len())]).unwrap();
            prop_assert_eq!(newest(run.path(), |_| ()).unwrap_err().exit_code(), 1);
        }
    }
}
