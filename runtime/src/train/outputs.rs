//! Named outputs of the model: logits to a file, and samples of text.

use gigac_ir::graph::Role;
use gigac_ir::kernel::Storage;
use gigac_ir::plan::{Plan, PlanResult};
use gigac_ir::program::ProgramPhase;
use half::bf16;

use super::machine::Machine;
use crate::data::batch::{Batch, Layout, TOKENS, feed_scalars};
use crate::error::{Error, Result};
use crate::exec::arena::Arena;
use crate::exec::executor::Executor;

/// Name of the output that sampling uses.
const LOGITS: &str = "logits";

/// Computes logits.
pub(super) struct Logits<'p> {
    executor: Executor<'p>,
    /// The columns that the plan wants.
    pub(super) layout: Layout,
    result: &'p PlanResult,
    /// Stride of each logical axis: those of `tokens`, then the vocabulary.
    strides: Vec<u64>,
    sizes: Vec<u64>,
}

impl<'p> Logits<'p> {
    /// The logits of a phase, when its model has such an output over the axes of `tokens` and one
    /// more.
    ///
    /// # Errors
    /// As binding a plan.
    pub(super) fn new(machine: &Machine<'_>, phase: &'p ProgramPhase) -> Result<Option<Self>> {
        let Some(plan) = &phase.outputs else { return Ok(None) };
        let Some(result) = plan.result(&Role::Output(LOGITS.to_owned())) else { return Ok(None) };
        let Some((sizes, strides)) = logical(plan, result) else { return Ok(None) };
        let layout = Layout::new(plan);
        Ok(Some(Self { executor: machine.bind(plan)?, layout, result, strides, sizes }))
    }

    /// Size of the vocabulary.
    pub(super) fn vocabulary(&self) -> u64 {
        self.sizes.last().copied().unwrap_or(1)
    }

    /// Runs the plan on a batch of its own layout.
    ///
    /// # Errors
    /// See [`Machine::run`].
    pub(super) fn run(
        &mut self,
        machine: &mut Machine<'_>,
        batch: &Batch,
        at: (u64, u64, u32),
    ) -> Result<()> {
        let plan = self.executor.plan();
        machine.prepare(plan);
        batch.feed(&self.layout, &mut machine.arena);
        feed_scalars(plan, &mut machine.arena, at.0, at.1, at.2);
        machine.run(&mut self.executor)
    }

    /// Copies the logits of one position, counted over all rows, once the plan has run.
    pub(super) fn read(&self, arena: &Arena, position: u64, out: &mut Vec<f32>) {
        let last = self.sizes.len() - 1;
        let (mut rest, mut offset) = (position, 0);
        for axis in (0..last).rev() {
            offset += rest % self.sizes[axis] * self.strides[axis];
            rest /= self.sizes[axis];
        }
        let places = (0..self.sizes[last]).map(|v| (offset + v * self.strides[last]) as usize);
        let count = self.sizes.iter().product::<u64>() as usize;
        out.clear();
        match self.result.storage {
            Storage::Bf16 => {
                let values = arena.slice::<u16>(self.result.offset, count);
                out.extend(places.map(|p| bf16::from_bits(values[p]).to_f32()));
            }
            _ => {
                let values = arena.slice::<f32>(self.result.offset, count);
                out.extend(places.map(|p| values[p]));
            }
        }
    }
}

/// Sizes and strides of a result in the order of the axes of `tokens`, then its last axis.
fn logical(plan: &Plan, result: &PlanResult) -> Option<(Vec<u64>, Vec<u64>)> {
    if !matches!(result.storage, Storage::F32 | Storage::Bf16) {
        return None;
    }
    let stride = |at: usize| result.axes[at + 1..].iter().map(|(_, n)| n).product::<u64>();
    let mut order = Vec::new();
    for (name, _) in &plan.input(TOKENS)?.axes {
        order.push(result.axes.iter().position(|(n, _)| n == name)?);
    }
    let mut others = (0..result.axes.len()).filter(|i| !order.contains(i));
    let vocabulary = others.next()?;
    if others.next().is_some() {
        return None;
    }
    order.push(vocabulary);
    Some((
        order.iter().map(|i| result.axes[*i].1).collect(),
        order.iter().map(|i| stride(*i)).collect(),
    ))
}

/// Writes the logits of a whole batch of the step's layout to a file: `[B, T, V]`.
///
/// # Errors
/// [`Error::Io`], or [`Error::Usage`] when the outputs take another number of rows.
pub(super) fn dump_logits(
    path: &std::path::Path,
    logits: &mut Logits<'_>,
    machine: &mut Machine<'_>,
    batch: (&Layout, &Batch),
    at: (u64, u64, u32),
) -> Result<()> {
    use crate::weights::tensors::{self, Entry};
    use crate::whole;
    let (from, time) = (batch.0, logits.layout.time);
    if from.time != time || !from.rows.is_multiple_of(logits.layout.rows.max(1)) {
        return Err(Error::Usage("the outputs take batches of another shape".to_owned()));
    }
    let shape = vec![from.rows, time, logits.vocabulary()];
    let positions = logits.layout.rows * time;
    let (mut part, mut values) = (Batch::new(&logits.layout), Vec::new());
    whole::write(path, |out| {
        tensors::write(out, &[Entry::f32(LOGITS, shape)], |_, out| {
            for index in 0..from.rows / logits.layout.rows {
                batch.1.part(from, index, &logits.layout, &mut part);
                logits.run(machine, &part, at).map_err(std::io::Error::other)?;
                for position in 0..positions {
                    logits.read(&machine.arena, position, &mut values);
                    tensors::write_f32(out, &values)?;
                }
            }
            Ok(())
        })
    })
}
