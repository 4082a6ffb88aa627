//! Weights and gradients to and from files with the model's own names and shapes.

use std::collections::BTreeSet;
use std::path::Path;

use gigac_ir::graph::{Role, Slot};
use gigac_ir::plan::Plan;

use crate::error::{Error, Result};
use crate::exec::arena::Arena;
use crate::weights::stored::{Stored, stored};
use crate::weights::tensors::{self, Entry, TensorFile};
use crate::whole;

/// Lines of a report about a file; more are counted.
const MAX_PROBLEMS: usize = 50;

/// Reads all weights from a safetensors file, converting floats to f32.
///
/// # Errors
/// [`Error::Input`] lists every tensor that is missing, left over, or has another type or shape.
pub fn import(path: &Path, plan: &Plan, arena: &mut Arena) -> Result<()> {
    let file = TensorFile::open(path)?;
    let wanted = stored(&plan.params)?;
    let mut problems = Vec::new();
    for (name, stored) in &wanted {
        match file.get(name) {
            None => problems.push(format!("`{name}` is missing (shape {:?})", stored.shape)),
            Some(tensor) if tensor.shape != stored.shape => problems.push(format!(
                "`{name}` has shape {:?}, the model wants {:?}",
                tensor.shape, stored.shape
            )),
            Some(tensor) => problems
                .extend(tensor.read_f32(0, &mut []).err().map(|why| format!("`{name}` {why}"))),
        }
    }
    let left_over: BTreeSet<String> = file.names().filter(|n| !wanted.contains_key(n)).collect();
    problems.extend(left_over.iter().map(|n| format!("`{n}` is not a tensor of the model")));
    report(path, problems)?;
    let offsets = weight_offsets(plan);
    let mut problems = Vec::new();
    for (name, stored) in &wanted {
        if let Some(index) = read(&file, name, stored, plan, &offsets, arena) {
            problems.push(format!("`{name}` is not finite at element {index}"));
        }
    }
    report(path, problems)
}

fn report(path: &Path, mut problems: Vec<String>) -> Result<()> {
    if problems.is_empty() {
        return Ok(());
    }
    let more = problems.len().saturating_sub(MAX_PROBLEMS);
    problems.truncate(MAX_PROBLEMS);
    if more > 0 {
        problems.push(format!("and {more} more"));
    }
    let lines: String = problems.iter().map(|p| format!("\n  {p}")).collect();
    Err(Error::file(path, format!("its tensors are not those of the model:{lines}")))
}

/// Arena offset of each parameter's weights.
fn weight_offsets(plan: &Plan) -> Vec<u64> {
    let mut offsets = vec![0; plan.params.len()];
    for state in plan.states.iter().filter(|s| s.slot == Slot::Weight) {
        offsets[state.param as usize] = state.offset;
    }
    offsets
}

/// Copies a checked tensor into the arena; gives the first element that is not finite.
fn read(
    file: &TensorFile,
    name: &str,
    stored: &Stored,
    plan: &Plan,
    offsets: &[u64],
    arena: &mut Arena,
) -> Option<u64> {
    let tensor = file.get(name)?;
    let mut bad = None;
    for piece in &stored.pieces {
        let elements = plan.params[piece.param].elements() as usize;
        let values = arena.slice_mut::<f32>(offsets[piece.param], elements);
        piece.runs(|at, length| {
            let run = &mut values[at.param as usize..][..length];
            // The type was checked before, so there is nothing to report here.
            let _ = tensor.read_f32(at.tensor, run);
            let wrong = run.iter().position(|v| !v.is_finite());
            bad = bad.or(wrong.map(|i| at.tensor + i as u64));
        });
    }
    bad
}

/// Writes all weights.
///
/// # Errors
/// [`Error::Io`]; an older file of the name then stays as it was.
pub fn export(path: &Path, plan: &Plan, arena: &Arena) -> Result<()> {
    write(path, plan, arena, &weight_offsets(plan), |_| true)
}

/// Writes the gradients of the step just run.
///
/// # Errors
/// [`Error::Usage`] when the plan has none; [`Error::Io`] as [`export`].
pub fn dump_gradients(path: &Path, plan: &Plan, arena: &Arena) -> Result<()> {
    let mut offsets = vec![None; plan.params.len()];
    for result in &plan.results {
        if let Role::Gradient(param) = result.role {
            offsets[param.index()] = Some(result.offset);
        }
    }
    if offsets.iter().all(Option::is_none) {
        return Err(Error::Usage("this executable keeps no gradients".to_owned()));
    }
    let known: Vec<u64> = offsets.iter().map(|o| o.unwrap_or(0)).collect();
    write(path, plan, arena, &known, |param| offsets[param].is_some())
}

/// Writes stored tensors whose parameters all count, their values at given arena offsets.
fn write(
    path: &Path,
    plan: &Plan,
    arena: &Arena,
    offsets: &[u64],
    counts: impl Fn(usize) -> bool,
) -> Result<()> {
    let mut all = stored(&plan.params)?;
    all.retain(|_, stored| stored.pieces.iter().all(|p| counts(p.param)));
    let entries: Vec<Entry> =
        all.iter().map(|(name, stored)| Entry::f32(name, stored.shape.clone())).collect();
    let tensors: Vec<&Stored> = all.values().collect();
    let mut values = Vec::new();
    whole::write(path, |out| {
        tensors::write(out, &entries, |i, out| {
            gather(tensors[i], plan, arena, offsets, &mut values);
            tensors::write_f32(out, &values)
        })
    })
}

fn gather(stored: &Stored, plan: &Plan, arena: &Arena, offsets: &[u64], out: &mut Vec<f32>) {
    out.clear();
    out.resize(stored.elements() as usize, 0.0);
    for piece in &stored.pieces {
        let elements = plan.params[piece.param].elements() as usize;
        let values = arena.slice::<f32>(offsets[piece.param], elements);
        piece.runs(|at, length| {
            let from = &values[at.param as usize..][..length];
            out[at.tensor as usize..][..length].copy_from_slice(from);
        });
    }
}
