//! Vectors that block programs read: one number for each row, or for each column of a loop's tiles.
//!
//! They come with the panels, by asynchronous copies of 16 bytes, and lie behind them in shared memory. Those along the
//! rows are read into registers once.

use gigac_ir::kernel::{BufferId, Expr, Offset, TileId, VarId};
use inkwell::values::{IntValue, PointerValue};

use super::super::layout::{Layout, Spread};
use super::super::lower::Refusal;
use super::super::runs::{WIDEST, longest};
use super::Block;
use super::program::Program;

/// Elements that one copy takes.
const RUN: u64 = 4;

/// A vector and where it lies, from the start of what is fixed or of a stage.
#[derive(Clone, Copy)]
pub(super) struct Vector {
    along: VarId,
    at: u64,
}

impl<'e> Program<'e> {
    /// The variable along which a value is a vector of 4-byte elements that copies of 16 bytes can fetch: that of rows, or
    /// of an innermost loop.
    fn vector(&self, value: TileId) -> Option<VarId> {
        let (buffer, offset) = self.plain_load(value)?;
        let &[along] = &self.wide(value)[..] else { return None };
        let bytes = self.kernel.buffers[buffer.0 as usize].storage.bytes();
        let fits = bytes * RUN == WIDEST
            && longest(self.kernel, buffer, offset, None, along) == RUN
            && self.kernel.var(along).tile.is_multiple_of(RUN);
        let rows = along == self.rows && !self.turns(value);
        (fits && (rows || self.innermost.contains(&along))).then_some(along)
    }

    /// What a value loads from a buffer that is only read, at positions alone.
    fn plain_load(&self, value: TileId) -> Option<(BufferId, &'e Offset)> {
        match self.exprs.get(&value)? {
            Expr::Load { buffer, offset, mask: None } if self.is_loaded(value) => {
                offset.tiles().is_empty().then_some((*buffer, offset))
            }
            _ => None,
        }
    }
}

impl<'c> Block<'_, '_, 'c> {
    /// Gives every vector its place behind the panels.
    pub(super) fn place_vectors(&mut self) {
        let mut values: Vec<TileId> = self.program.exprs.keys().copied().collect();
        values.sort_unstable();
        for value in values {
            let Some(along) = self.program.vector(value) else { continue };
            let size = self.size(along);
            if size / RUN > self.plan.threads() {
                continue;
            }
            let rows = along == self.program.rows;
            let end = if rows { &mut self.fixed } else { &mut self.stage };
            self.vectors.insert(value, Vector { along, at: *end });
            *end += size / RUN * WIDEST;
        }
    }

    /// Vectors along a variable.
    pub(super) fn vectors_along(&self, var: VarId) -> Vec<TileId> {
        let along = |value: &TileId| self.vectors[value].along == var;
        let mut values: Vec<TileId> = self.vectors.keys().copied().filter(along).collect();
        values.sort_unstable();
        values
    }

    fn vector_base(&self, value: TileId, slot: IntValue<'c>) -> PointerValue<'c> {
        let (gpu, vector) = (self.lowerer.gpu, self.vectors[&value]);
        match vector.along == self.program.rows {
            true => gpu.bytes(gpu.shared_memory(), gpu.i32(vector.at)),
            false => {
                let stage = gpu.bytes(gpu.shared_memory(), slot);
                gpu.bytes(stage, gpu.i32(self.fixed + vector.at))
            }
        }
    }

    /// Sends for vectors along a variable that is at a position.
    pub(super) fn send_vectors(
        &self,
        values: &[TileId],
        (along, first): (VarId, IntValue<'c>),
        slot: IntValue<'c>,
    ) -> Result<(), Refusal> {
        if values.is_empty() {
            return Ok(());
        }
        let (gpu, thread) = (self.lowerer.gpu, self.lowerer.frame.thread);
        let count = self.size(along) / RUN;
        let mut spreads = vec![Spread::single(); self.program.kernel.vars.len()];
        let bits = count.next_power_of_two().ilog2();
        spreads[along.0 as usize] = Spread::runs(0, bits, RUN, RUN << bits);
        let layout = Layout::new(gpu, thread, spreads);
        let mut lowerer = self.lowerer.another(layout);
        lowerer.firsts[along.0 as usize] = Some(first);
        let shape = lowerer.layout.shape(&[along]);
        gpu.when(gpu.below(thread, gpu.i32(count)), || {
            for value in values {
                let load = self.program.plain_load(*value).expect("vectors are loads");
                let (from, size) = lowerer.source(load, (&shape, &[0]), WIDEST, true)?;
                let place = gpu.times(lowerer.in_tile(along, 0), (WIDEST / RUN) as i64);
                let to = gpu.bytes(self.vector_base(*value, slot), place);
                gpu.copy_async(to, from, WIDEST, size);
            }
            Ok(())
        })
    }

    /// From here on, loads of vectors read shared memory.
    pub(super) fn stage_vectors(&mut self, values: &[TileId], slot: IntValue<'c>) {
        for value in values {
            let from = (self.vectors[value].along, self.vector_base(*value, slot));
            self.lowerer.staged.insert(*value, from);
        }
    }
}
