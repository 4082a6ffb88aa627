//! The end of a block program, in a layout with wide accesses.
//!
//! Accumulators give a thread two neighbouring columns of every 8. The four threads of a row exchange what
//! they have of 32 columns, by shuffles: afterwards each has 8 neighbours. Of what varies along rows alone,
//! the threads of four rows exchange it likewise.

use gigac_ir::kernel::{TileId, VarId};
use inkwell::values::IntValue;

use super::super::layout::{Layout, Shape, Spread};
use super::super::lower::{Lowerer, Tile};
use super::super::panel::padded;
use super::Block;
use crate::llvm::emit::Value;

/// Threads of a row.
const QUAD: usize = 4;

/// Columns of a tile of accumulators, and then of a thread.
const RUN: usize = 8;

impl<'e, 'c> Block<'_, 'e, 'c> {
    /// The program after its loops, where columns are spread in runs.
    pub(super) fn widened(&self) -> Lowerer<'e, 'c> {
        let kernel = self.program.kernel;
        let is_cols = |var: VarId| var != self.program.rows && kernel.var(var).tile > 1;
        let spread = |i: usize| {
            let var = VarId(i as u32);
            match is_cols(var) {
                true => Spread::runs(0, 2, RUN as u64, padded(kernel, var)),
                false => self.lowerer.layout.spread(var).clone(),
            }
        };
        let spreads = (0..kernel.vars.len()).map(spread).collect();
        let layout = Layout::new(self.lowerer.gpu, self.lowerer.frame.thread, spreads);
        let mut wide = self.lowerer.another(layout);
        for (i, tile) in self.lowerer.values.iter().enumerate() {
            let value = TileId(i as u32);
            let Some(tile) = tile else { continue };
            let cols = kernel.ty(value).vars.iter().copied().find(|v| is_cols(*v));
            wide.values[i] = match cols {
                None => Some(tile.clone()),
                // What can be computed again is.
                Some(_) if self.lowerer.lazy.contains_key(&value) => None,
                Some(cols) => {
                    let shapes = [self.lowerer.shape(value), wide.shape(value)];
                    Some(self.exchanged(tile, cols, &shapes))
                }
            };
        }
        wide
    }

    /// The program after its loops, where rows are spread in runs.
    pub(super) fn heightened(&self) -> Lowerer<'e, 'c> {
        let (kernel, rows) = (self.program.kernel, self.program.rows);
        let spread = |i: usize| self.lowerer.layout.spread(VarId(i as u32)).clone();
        let mut spreads: Vec<Spread> = (0..kernel.vars.len()).map(spread).collect();
        let spread = &mut spreads[rows.0 as usize];
        // Two of the three bits of rows become registers.
        spread.bits.retain(|(_, stride)| *stride >= QUAD as u64);
        let run = |first: &u64| {
            let first = *first;
            (0..QUAD as u64).map(move |i| first + i)
        };
        spread.registers = spread.registers.iter().flat_map(run).collect();
        let layout = Layout::new(self.lowerer.gpu, self.lowerer.frame.thread, spreads);
        let mut high = self.lowerer.another(layout);
        for (i, tile) in self.lowerer.values.iter().enumerate() {
            let value = TileId(i as u32);
            let Some(tile) = tile else { continue };
            high.values[i] = match &self.program.wide(value)[..] {
                [] => Some(tile.clone()),
                [var] if *var == rows && !self.lowerer.lazy.contains_key(&value) => {
                    Some(tile.iter().flat_map(|x| self.neighbours(*x)).collect())
                }
                _ => None,
            };
        }
        high
    }

    /// What the threads of four neighbouring rows have.
    fn neighbours(&self, own: Value<'c>) -> Vec<Value<'c>> {
        let gpu = self.lowerer.gpu;
        let mut found = vec![own];
        for bit in [4, 8] {
            let set = gpu.and(self.lowerer.frame.thread, bit);
            let upper = gpu.icmp(inkwell::IntPredicate::NE, set.into(), gpu.i32(0).into());
            let others: Vec<Value<'c>> = found.iter().map(|x| gpu.shuffle_xor(*x, bit)).collect();
            let pairs = || found.iter().zip(&others);
            let low = pairs().map(|(own, other)| gpu.select(upper, *other, *own));
            let high = pairs().map(|(own, other)| gpu.select(upper, *own, *other));
            found = low.chain(high).collect();
        }
        found
    }

    fn exchanged(&self, tile: &Tile<'c>, cols: VarId, [from, to]: &[Shape; 2]) -> Tile<'c> {
        let gpu = self.lowerer.gpu;
        let zero = gpu.real(0.0, 1);
        let place = from.vars.iter().position(|v| *v == cols).expect("it varies along columns");
        let width = self.lowerer.layout.spread(cols).registers.len();
        let mut result = vec![zero; to.count()];
        let rows = to.all().filter(|at| at[place].is_multiple_of(RUN));
        for at in rows {
            let group = at[place] / RUN;
            for odd in 0..2 {
                let word = |j: usize| {
                    let mut at = at.clone();
                    at[place] = 2 * (QUAD * group + j) + odd;
                    if at[place] < width { tile[from.index(from, &at)] } else { zero }
                };
                for (l, value) in self.transposed([0, 1, 2, 3].map(word)).into_iter().enumerate() {
                    let mut at = at.clone();
                    at[place] += 2 * l + odd;
                    result[to.index(to, &at)] = value;
                }
            }
        }
        result.into()
    }

    /// Four words of each of four threads: thread `q` gets word `q` of them all.
    fn transposed(&self, mut words: [Value<'c>; QUAD]) -> [Value<'c>; QUAD] {
        let gpu = self.lowerer.gpu;
        for bit in [1, 2] {
            let own: IntValue<'c> = gpu.and(self.lowerer.frame.thread, bit);
            let upper = gpu.icmp(inkwell::IntPredicate::NE, own.into(), gpu.i32(0).into());
            let bit = bit as usize;
            for low in (0..QUAD).filter(|i| i & bit == 0) {
                let (a, b) = (words[low], words[low | bit]);
                let other = gpu.shuffle_xor(gpu.select(upper, a, b), bit as u64);
                words[low] = gpu.select(upper, other, a);
                words[low | bit] = gpu.select(upper, b, other);
            }
        }
        words
    }
}
