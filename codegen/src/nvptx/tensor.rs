//! The main loop of a product on tensor cores.
//!
//! The loop is software-pipelined over its tiles of the contracted variable. With `s` stages of
//! shared memory, turn `i` waits until its panels have come, passes one barrier, sends for the
//! panels of turn `i + s − 1`, which take the place of those of turn `i − 1`, and multiplies:
//! `ldmatrix`, then `mma` of 16 × 8 × 16. The accumulators of a warp are tiles of 16 × 8: a thread
//! has two neighbouring columns of two rows of each (PTX ISA, "Matrix Fragments for mma.m16n8k16").

use gigac_ir::kernel::VarId;
use inkwell::values::{IntValue, PointerValue};

use super::GpuTarget;
use super::gpu::WARP;
use super::layout::Spread;
use super::lower::{Lowerer, Refusal};
use super::panel::{Panel, padded};
use crate::llvm::emit::Value;
use crate::pattern::{Contraction, Product};

/// Rows and columns of a warp come in multiples of this: two `mma` columns share an `ldmatrix`.
const UNIT: u64 = 16;

/// Depth of one `mma`.
const DEPTH: u64 = 16;

/// Most stages of the pipeline.
const STAGES: u64 = 4;

/// Blocks of so few threads take half of the shared memory at most, so that two fit on a
/// multiprocessor.
const SHARING: u64 = 4 * WARP;

/// Most accumulators of a thread.
const ACCUMULATORS: u64 = 128;

/// How the tile of the result is shared between warps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Warps {
    /// Warps along rows and along columns, powers of two.
    down: u64,
    across: u64,
    /// Rows of one warp.
    pub(super) rows: u64,
    /// Columns of one warp.
    pub(super) cols: u64,
}

impl Warps {
    /// Shares a tile between four warps, or eight where four would hold too much: with the fewest
    /// rows and columns that do not exist, then the fewest operands to read.
    pub(super) fn share(rows: u64, cols: u64) -> Self {
        let of = |warps: u64| {
            let splits = (0..=warps.ilog2()).map(|i| 1 << i);
            let candidates = splits.map(|down| {
                let across = warps / down;
                let part = |extent: u64, parts| extent.div_ceil(parts).next_multiple_of(UNIT);
                Self { down, across, rows: part(rows, down), cols: part(cols, across) }
            });
            candidates.min_by_key(|w| (w.rows * w.cols, w.rows + w.cols)).expect("some split")
        };
        let four = of(4);
        if four.rows * four.cols <= ACCUMULATORS * WARP { four } else { of(8) }
    }

    pub(super) fn threads(&self) -> u64 {
        self.down * self.across * WARP
    }

    /// The spreads of rows and of columns.
    pub(super) fn spreads(&self) -> [Spread; 2] {
        let lanes = WARP.ilog2();
        let warp = |first: u32, count: u64, size: u64| {
            (0..count.ilog2()).map(move |i| (first + i, size << i))
        };
        let rows = [(2, 1), (3, 2), (4, 4)].into_iter().chain(warp(lanes, self.down, self.rows));
        let cols = lanes + self.down.ilog2();
        let cols = [(0, 2), (1, 4)].into_iter().chain(warp(cols, self.across, self.cols));
        let pairs = |size: u64, step: u64, pair: u64| {
            (0..size / step).flat_map(move |i| [i * step, i * step + pair]).collect()
        };
        [
            Spread { bits: rows.collect(), registers: pairs(self.rows, 16, 8), start: 0 },
            Spread { bits: cols.collect(), registers: pairs(self.cols, 8, 1), start: 0 },
        ]
    }
}

/// Adds a product to the accumulators; also gives the bytes of shared memory that it uses.
pub(super) fn multiply<'c>(
    lowerer: &Lowerer<'_, 'c>,
    found: &Contraction<'_>,
    product: &Product,
    warps: &Warps,
    sum: Vec<Value<'c>>,
    target: GpuTarget,
) -> Result<(Vec<Value<'c>>, u64), Refusal> {
    let kernel = lowerer.kernel;
    let (k, bits) = (product.k, warps.threads().ilog2());
    let depth = padded(kernel, k);
    let panel = |value, own: VarId, size| {
        let loads = found.loads(value);
        Panel::new(kernel, (value, &loads), [own, k], [size, depth], bits)
    };
    let panels = [
        panel(product.lhs, found.rows, warps.down * warps.rows),
        panel(product.rhs, found.cols, warps.across * warps.cols),
    ];
    let stage: u64 = panels.iter().map(Panel::bytes).sum();
    let turns = kernel.var(k).tiles();
    let blocks = if warps.threads() <= SHARING { 2 } else { 1 };
    let stages = target.shared_limit() / (blocks * stage);
    let stages = stages.clamp(2, STAGES).min(turns.max(2));
    let slots = stages.min(turns);
    let used = lowerer.frame.local + slots * stage;
    if used > target.shared_limit() {
        return Err(format!("{used} bytes of shared memory are more than a block has"));
    }
    let pipeline = Pipeline { lowerer, k, panels, warps: *warps, stage, stages, slots, depth };
    Ok((pipeline.run(found, sum)?, used))
}

struct Pipeline<'a, 'e, 'c> {
    lowerer: &'a Lowerer<'e, 'c>,
    k: VarId,
    /// Of rows and of columns.
    panels: [Panel; 2],
    warps: Warps,
    /// Bytes of a stage.
    stage: u64,
    stages: u64,
    /// Stages that are used.
    slots: u64,
    depth: u64,
}

impl<'c> Pipeline<'_, '_, 'c> {
    fn run(&self, found: &Contraction<'_>, sum: Vec<Value<'c>>) -> Result<Vec<Value<'c>>, Refusal> {
        let gpu = self.lowerer.gpu;
        let declared = self.lowerer.kernel.var(self.k);
        let (turns, tile) = (declared.tiles(), declared.tile);
        let ahead = self.stages - 1;
        for turn in 0..ahead {
            if turn < turns {
                self.send_for(gpu.i32(turn * tile), gpu.i32(turn * self.stage))?;
            }
            gpu.commit_copies();
        }
        let mut accumulators = self.fragments(found, &sum);
        accumulators.insert(0, gpu.i32(0).into());
        accumulators.insert(1, gpu.i32(ahead % self.slots * self.stage).into());
        let mut outer = self.lowerer.another(self.lowerer.layout.clone());
        let mut result = outer.counted((turns, tile), &accumulators, |_, first, carried| {
            let [read, write] = [carried[0], carried[1]].map(Value::into_int_value);
            gpu.wait_copies(self.stages - 2);
            gpu.barrier();
            let next = gpu.plus_constant(first, (ahead * tile) as i64);
            if ahead < turns {
                let more = gpu.below(next, gpu.i32(turns * tile));
                gpu.when(more, || self.send_for(next, write))?;
            }
            gpu.commit_copies();
            let sums = self.compute(read, &carried[2..]);
            let slots = [read, write].map(|slot| self.next_slot(slot).into());
            Ok(slots.into_iter().chain(sums).collect())
        })?;
        result.drain(..2);
        if found.products.len() > 1 {
            // The next product fills the same memory.
            gpu.barrier();
        }
        Ok(self.elements(found, &result))
    }

    fn next_slot(&self, slot: IntValue<'c>) -> IntValue<'c> {
        let gpu = self.lowerer.gpu;
        let next = gpu.plus_constant(slot, self.stage as i64);
        let inside = gpu.below(next, gpu.i32(self.slots * self.stage));
        gpu.select(inside, next.into(), gpu.i32(0).into()).into_int_value()
    }

    /// Sends for the panels of the turn that begins at `first`.
    fn send_for(&self, first: IntValue<'c>, slot: IntValue<'c>) -> Result<(), Refusal> {
        let bases = self.bases(slot);
        let mut panels = self.panels.iter().zip(bases);
        panels.try_for_each(|(panel, base)| panel.fill(self.lowerer, (self.k, first), base))
    }

    /// Where the panels of a stage lie.
    fn bases(&self, slot: IntValue<'c>) -> [PointerValue<'c>; 2] {
        let gpu = self.lowerer.gpu;
        let start = gpu.plus_constant(slot, self.lowerer.frame.local as i64);
        [0, self.panels[0].bytes()]
            .map(|at| gpu.bytes(gpu.shared_memory(), gpu.plus_constant(start, at as i64)))
    }

    /// One turn: all `mma` of the warp's tile.
    fn compute(&self, slot: IntValue<'c>, sums: &[Value<'c>]) -> Vec<Value<'c>> {
        let gpu = self.lowerer.gpu;
        let bases = self.bases(slot);
        let (down, across) = (self.warps.rows / 16, self.warps.cols / 16);
        let mut sums: Vec<[Value<'c>; 4]> =
            sums.chunks_exact(4).map(|c| [c[0], c[1], c[2], c[3]]).collect();
        for step in 0..self.depth / DEPTH {
            let lhs: Vec<_> = (0..down).map(|i| self.lhs(bases[0], i, step)).collect();
            let rhs: Vec<_> = (0..across).map(|j| self.rhs(bases[1], j, step)).collect();
            for (i, a) in lhs.iter().enumerate() {
                for (j, [b0, b1, b2, b3]) in rhs.iter().enumerate() {
                    let at = 2 * (i * across as usize + j);
                    sums[at] = gpu.multiply(*a, [*b0, *b1], sums[at]);
                    sums[at + 1] = gpu.multiply(*a, [*b2, *b3], sums[at + 1]);
                }
            }
        }
        sums.concat()
    }

    /// Rows `16·i …` of the warp at a step of the depth.
    fn lhs(&self, base: PointerValue<'c>, i: u64, step: u64) -> [Value<'c>; 4] {
        let gpu = self.lowerer.gpu;
        let lane = gpu.and(self.lowerer.frame.thread, WARP - 1);
        let warp = self.warp(0, self.warps.down);
        let row = gpu.plus_constant(gpu.times(warp, self.warps.rows as i64), (16 * i) as i64);
        let (low, high) = (gpu.and(lane, 15), gpu.shift(lane, -4));
        if self.panels[0].along_k {
            let chunk = gpu.plus_constant(high, (2 * step) as i64);
            return self.matrices(0, base, gpu.plus(row, low), chunk);
        }
        let seventh = gpu.plus(gpu.and(lane, 7), gpu.shift(high, 3));
        let line = gpu.plus_constant(seventh, (DEPTH * step) as i64);
        let half = gpu.and(gpu.shift(lane, -3), 1);
        self.matrices(0, base, line, gpu.plus(gpu.shift(row, -3), half))
    }

    /// Columns `16·j …` of the warp at a step of the depth.
    fn rhs(&self, base: PointerValue<'c>, j: u64, step: u64) -> [Value<'c>; 4] {
        let gpu = self.lowerer.gpu;
        let lane = gpu.and(self.lowerer.frame.thread, WARP - 1);
        let warp = self.warp(self.warps.down.ilog2(), self.warps.across);
        let col = gpu.plus_constant(gpu.times(warp, self.warps.cols as i64), (16 * j) as i64);
        let (low, high) = (gpu.and(lane, 15), gpu.shift(lane, -4));
        if self.panels[1].along_k {
            let half = gpu.and(gpu.shift(lane, -3), 1);
            let line = gpu.plus(col, gpu.plus(gpu.and(lane, 7), gpu.shift(high, 3)));
            return self.matrices(1, base, line, gpu.plus_constant(half, (2 * step) as i64));
        }
        let line = gpu.plus_constant(low, (DEPTH * step) as i64);
        self.matrices(1, base, line, gpu.plus(gpu.shift(col, -3), high))
    }

    /// The number of the warp along rows or columns.
    fn warp(&self, bit: u32, count: u64) -> IntValue<'c> {
        let gpu = self.lowerer.gpu;
        let warp = gpu.shift(self.lowerer.frame.thread, -((WARP.ilog2() + bit) as i32));
        gpu.and(warp, count - 1)
    }

    fn matrices(
        &self,
        panel: usize,
        base: PointerValue<'c>,
        line: IntValue<'c>,
        chunk: IntValue<'c>,
    ) -> [Value<'c>; 4] {
        let panel = &self.panels[panel];
        let place = panel.place(self.lowerer, line, chunk);
        let gpu = self.lowerer.gpu;
        gpu.load_matrices(gpu.bytes(base, place), !panel.along_k)
    }

    /// Where the accumulators of `mma` stand among the elements of the result, which are ordered by
    /// the numbers of the variables.
    fn order(&self, found: &Contraction<'_>) -> Vec<usize> {
        let (rows, cols) = ((self.warps.rows / 8) as usize, (self.warps.cols / 4) as usize);
        let place = |row: usize, col: usize| {
            if found.rows < found.cols { row * cols + col } else { col * rows + row }
        };
        let mut order = Vec::with_capacity(rows * cols);
        for i in 0..rows / 2 {
            for j in 0..cols / 2 {
                let four = [(0, 0), (0, 1), (1, 0), (1, 1)];
                order.extend(four.map(|(r, c)| place(2 * i + r, 2 * j + c)));
            }
        }
        order
    }

    fn fragments(&self, found: &Contraction<'_>, elements: &[Value<'c>]) -> Vec<Value<'c>> {
        self.order(found).into_iter().map(|at| elements[at]).collect()
    }

    fn elements(&self, found: &Contraction<'_>, fragments: &[Value<'c>]) -> Vec<Value<'c>> {
        let mut elements = fragments.to_vec();
        for (at, value) in self.order(found).into_iter().zip(fragments) {
            elements[at] = *value;
        }
        elements
    }
}
