//! The main loop of a product on tensor cores.
//!
//! The loop is software-pipelined over its tiles of the contracted variable. With `s` stages of
//! shared memory, turn `i` waits until its panels have come, passes one barrier, sends for the
//! panels of turn `i + s − 1`, which take the place of those of turn `i − 1`, and multiplies:
//! `ldmatrix`, then `mma` of 16 × 8 × 16. The accumulators of a warp are tiles of 16 × 8: a thread
//! has two neighbouring columns of two rows of each (PTX ISA, "Matrix Fragments for mma.m16n8k16").
//!
//! A loop may hold several products. An operand that they share has one panel, and its fragments are
//! loaded once for all of them: the tiles of results that share rows work like one tile with the
//! columns of all.

use gigac_ir::kernel::{TileId, VarId};
use inkwell::values::{IntValue, PointerValue};

use super::GpuTarget;
use super::gpu::WARP;
use super::layout::Spread;
use super::lower::{Lowerer, Refusal};
use super::panel::{Panel, padded};
use super::product::Sums;
use crate::llvm::emit::Value;
use crate::pattern::{Product, Products, Sum};

/// Rows and columns of a warp come in multiples of this: two `mma` columns share an `ldmatrix`.
const UNIT: u64 = 16;

/// Depth of one `mma`.
const DEPTH: u64 = 16;

/// Most stages of the pipeline.
const STAGES: u64 = 4;

/// Blocks of so few threads take half of the shared memory at most, so that two fit on a
/// multiprocessor.
pub(super) const SHARING: u64 = 4 * WARP;

/// Most accumulators of a thread.
const ACCUMULATORS: u64 = 128;

/// How the tiles of the results are shared between warps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Warps {
    /// Warps along rows and along columns, powers of two.
    down: u64,
    across: u64,
}

impl Warps {
    /// Shares tiles between four warps, or eight where four would hold too much: with the fewest
    /// rows and columns that do not exist, then the fewest operands to read.
    pub(super) fn share(found: &Products<'_>) -> Self {
        let of = |warps: u64| {
            let splits = (0..=warps.ilog2()).map(|i| 1 << i);
            let candidates = splits.map(|down| Self { down, across: warps / down });
            candidates.min_by_key(|w| (w.held(found), w.read(found))).expect("some split")
        };
        let four = of(4);
        if four.held(found) <= ACCUMULATORS * WARP { four } else { of(8) }
    }

    /// Elements of all results in a warp.
    fn held(&self, found: &Products<'_>) -> u64 {
        let of = |sum: &Sum| {
            let [rows, cols] = [sum.rows, sum.cols].map(|v| padded(found.kernel, v));
            self.rows(rows) * self.cols(cols)
        };
        found.sums.iter().map(of).sum()
    }

    /// Rows and columns of all operands in a warp.
    fn read(&self, found: &Products<'_>) -> u64 {
        let of = |(_, side): (TileId, Side)| self.part(side, padded(found.kernel, side.var(found)));
        found.loops.iter().flat_map(|products| operands(products)).map(of).sum()
    }

    /// Rows of a warp, of so many.
    pub(super) fn rows(&self, rows: u64) -> u64 {
        rows.div_ceil(self.down).next_multiple_of(UNIT)
    }

    /// Columns of a warp, of so many.
    pub(super) fn cols(&self, cols: u64) -> u64 {
        cols.div_ceil(self.across).next_multiple_of(UNIT)
    }

    /// Positions of an operand's own variable in a warp.
    fn part(&self, side: Side, size: u64) -> u64 {
        match side {
            Side::Rows(_) => self.rows(size),
            Side::Cols(_) => self.cols(size),
        }
    }

    pub(super) fn threads(&self) -> u64 {
        self.down * self.across * WARP
    }

    /// The spreads of so many rows and columns.
    pub(super) fn spreads(&self, rows: u64, cols: u64) -> [Spread; 2] {
        let (rows, cols) = (self.rows(rows), self.cols(cols));
        let lanes = WARP.ilog2();
        let warp = |first: u32, count: u64, size: u64| {
            (0..count.ilog2()).map(move |i| (first + i, size << i))
        };
        let down = [(2, 1), (3, 2), (4, 4)].into_iter().chain(warp(lanes, self.down, rows));
        let first = lanes + self.down.ilog2();
        let across = [(0, 2), (1, 4)].into_iter().chain(warp(first, self.across, cols));
        let pairs = |size: u64, step: u64, pair: u64| {
            (0..size / step).flat_map(move |i| [i * step, i * step + pair]).collect()
        };
        [
            Spread { bits: down.collect(), registers: pairs(rows, 16, 8), start: 0 },
            Spread { bits: across.collect(), registers: pairs(cols, 8, 1), start: 0 },
        ]
    }
}

/// The side of a product that an operand is on, with a sum whose rows or columns it has, by number.
#[derive(Clone, Copy)]
enum Side {
    Rows(usize),
    Cols(usize),
}

impl Side {
    /// The operand's own variable.
    fn var(self, found: &Products<'_>) -> VarId {
        match self {
            Self::Rows(sum) => found.sums[sum].rows,
            Self::Cols(sum) => found.sums[sum].cols,
        }
    }
}

/// The operands of a loop's products, each once for each side that it is on.
fn operands(products: &[Product]) -> Vec<(TileId, Side)> {
    let mut found: Vec<(TileId, Side)> = Vec::new();
    let sides = |p: &Product| [(p.lhs, Side::Rows(p.sum)), (p.rhs, Side::Cols(p.sum))];
    for (value, side) in products.iter().flat_map(sides) {
        if place(&found, value, side).is_none() {
            found.push((value, side));
        }
    }
    found
}

/// Where an operand stands among others.
fn place(operands: &[(TileId, Side)], value: TileId, side: Side) -> Option<usize> {
    let alike = |other: Side| std::mem::discriminant(&other) == std::mem::discriminant(&side);
    operands.iter().position(|(other, s)| *other == value && alike(*s))
}

/// An operand of a loop: its panel, and which part of it a warp takes.
struct Operand {
    panel: Panel,
    side: Side,
    /// Positions of a warp along the operand's own variable.
    part: u64,
}

/// Adds the products of a loop to their sums; gives the bytes of shared memory that it uses.
pub(super) fn multiply<'c>(
    lowerer: &Lowerer<'_, 'c>,
    (found, products): (&Products<'_>, &[Product]),
    warps: &Warps,
    sums: &mut Sums<'c>,
    target: GpuTarget,
) -> Result<u64, Refusal> {
    let kernel = lowerer.kernel;
    let (k, bits) = (products[0].k, warps.threads().ilog2());
    let depth = padded(kernel, k);
    let values = operands(products);
    let operand = |&(value, side): &(TileId, Side)| {
        let (loads, own) = (found.loads(value), side.var(found));
        let part = warps.part(side, padded(kernel, own));
        let count = match side {
            Side::Rows(_) => warps.down,
            Side::Cols(_) => warps.across,
        };
        let panel = Panel::new(kernel, (value, &loads), [own, k], [part * count, depth], bits);
        Operand { panel, side, part }
    };
    let at = |value, side| place(&values, value, side).expect("operands of products are collected");
    let pairs = products.iter().map(|p| Pair {
        sum: p.sum,
        lhs: at(p.lhs, Side::Rows(p.sum)),
        rhs: at(p.rhs, Side::Cols(p.sum)),
    });
    let (operands, pairs): (Vec<Operand>, Vec<Pair>) =
        (values.iter().map(operand).collect(), pairs.collect());
    let stage: u64 = operands.iter().map(|o| o.panel.bytes()).sum();
    let turns = kernel.var(k).tiles();
    let blocks = if warps.threads() <= SHARING { 2 } else { 1 };
    let stages = target.shared_limit() / (blocks * stage);
    let stages = stages.clamp(2, STAGES).min(turns.max(2));
    let slots = stages.min(turns);
    let used = lowerer.frame.local + slots * stage;
    if used > target.shared_limit() {
        return Err(format!("{used} bytes of shared memory are more than a block has"));
    }
    let pipeline =
        Pipeline { lowerer, k, operands, pairs, warps: *warps, stage, stages, slots, depth };
    pipeline.run(found, sums)?;
    if found.loops.len() > 1 {
        // The next product fills the same memory.
        lowerer.gpu.barrier();
    }
    Ok(used)
}

/// A product of a loop: its sum, and its operands, by number.
struct Pair {
    sum: usize,
    lhs: usize,
    rhs: usize,
}

struct Pipeline<'a, 'e, 'c> {
    lowerer: &'a Lowerer<'e, 'c>,
    k: VarId,
    operands: Vec<Operand>,
    pairs: Vec<Pair>,
    warps: Warps,
    /// Bytes of a stage.
    stage: u64,
    stages: u64,
    /// Stages that are used.
    slots: u64,
    depth: u64,
}

impl<'c> Pipeline<'_, '_, 'c> {
    fn run(&self, found: &Products<'_>, sums: &mut Sums<'c>) -> Result<(), Refusal> {
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
        let write = gpu.i32(ahead % self.slots * self.stage);
        let mut carried: Vec<Value<'c>> = vec![gpu.i32(0).into(), write.into()];
        for pair in &self.pairs {
            carried.extend(self.fragments(&found.sums[pair.sum], &sums[pair.sum]));
        }
        let mut outer = self.lowerer.another(self.lowerer.layout.clone());
        let result = outer.counted((turns, tile), &carried, |_, first, carried| {
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
        let mut rest = &result[2..];
        for pair in &self.pairs {
            let (own, others) = rest.split_at(sums[pair.sum].len());
            sums[pair.sum] = self.elements(&found.sums[pair.sum], own);
            rest = others;
        }
        Ok(())
    }

    fn next_slot(&self, slot: IntValue<'c>) -> IntValue<'c> {
        let gpu = self.lowerer.gpu;
        let next = gpu.plus_constant(slot, self.stage as i64);
        let inside = gpu.below(next, gpu.i32(self.slots * self.stage));
        gpu.select(inside, next.into(), gpu.i32(0).into()).into_int_value()
    }

    /// Sends for the panels of the turn that begins at `first`.
    fn send_for(&self, first: IntValue<'c>, slot: IntValue<'c>) -> Result<(), Refusal> {
        let mut panels = self.operands.iter().map(|o| &o.panel).zip(self.bases(slot));
        panels.try_for_each(|(panel, base)| panel.fill(self.lowerer, (self.k, first), base))
    }

    /// Where the panels of a stage lie.
    fn bases(&self, slot: IntValue<'c>) -> Vec<PointerValue<'c>> {
        let gpu = self.lowerer.gpu;
        let start = gpu.plus_constant(slot, self.lowerer.frame.local as i64);
        let mut at = 0;
        let base = |operand: &Operand| {
            let base = gpu.bytes(gpu.shared_memory(), gpu.plus_constant(start, at));
            at += operand.panel.bytes() as i64;
            base
        };
        self.operands.iter().map(base).collect()
    }

    /// One turn: all `mma` of the warp's tiles.
    fn compute(&self, slot: IntValue<'c>, sums: &[Value<'c>]) -> Vec<Value<'c>> {
        let gpu = self.lowerer.gpu;
        let bases = self.bases(slot);
        let mut sums: Vec<[Value<'c>; 4]> =
            sums.chunks_exact(4).map(|c| [c[0], c[1], c[2], c[3]]).collect();
        for step in 0..self.depth / DEPTH {
            let loaded = |(operand, base): (&Operand, &PointerValue<'c>)| {
                let tiles = 0..operand.part / 16;
                tiles.map(|i| self.loaded(operand, *base, i, step)).collect()
            };
            let fragments: Vec<Vec<[Value<'c>; 4]>> =
                self.operands.iter().zip(&bases).map(loaded).collect();
            let mut sums = sums.iter_mut();
            for Pair { lhs, rhs, .. } in &self.pairs {
                for a in &fragments[*lhs] {
                    for [b0, b1, b2, b3] in &fragments[*rhs] {
                        for b in [[*b0, *b1], [*b2, *b3]] {
                            let sum = sums.next().expect("an accumulator for each product");
                            *sum = gpu.multiply(*a, b, *sum);
                        }
                    }
                }
            }
        }
        sums.concat()
    }

    /// Rows or columns `16·i …` of the warp at a step of the depth.
    fn loaded(
        &self,
        operand: &Operand,
        base: PointerValue<'c>,
        i: u64,
        step: u64,
    ) -> [Value<'c>; 4] {
        match operand.side {
            Side::Rows(_) => self.lhs(operand, base, i, step),
            Side::Cols(_) => self.rhs(operand, base, i, step),
        }
    }

    /// Rows `16·i …` of the warp at a step of the depth.
    fn lhs(&self, of: &Operand, base: PointerValue<'c>, i: u64, step: u64) -> [Value<'c>; 4] {
        let gpu = self.lowerer.gpu;
        let lane = gpu.and(self.lowerer.frame.thread, WARP - 1);
        let warp = self.warp(0, self.warps.down);
        let row = gpu.plus_constant(gpu.times(warp, of.part as i64), (16 * i) as i64);
        let (low, high) = (gpu.and(lane, 15), gpu.shift(lane, -4));
        if of.panel.along_k {
            let chunk = gpu.plus_constant(high, (2 * step) as i64);
            return self.matrices(of, base, gpu.plus(row, low), chunk);
        }
        let seventh = gpu.plus(gpu.and(lane, 7), gpu.shift(high, 3));
        let line = gpu.plus_constant(seventh, (DEPTH * step) as i64);
        let half = gpu.and(gpu.shift(lane, -3), 1);
        self.matrices(of, base, line, gpu.plus(gpu.shift(row, -3), half))
    }

    /// Columns `16·j …` of the warp at a step of the depth.
    fn rhs(&self, of: &Operand, base: PointerValue<'c>, j: u64, step: u64) -> [Value<'c>; 4] {
        let gpu = self.lowerer.gpu;
        let lane = gpu.and(self.lowerer.frame.thread, WARP - 1);
        let warp = self.warp(self.warps.down.ilog2(), self.warps.across);
        let col = gpu.plus_constant(gpu.times(warp, of.part as i64), (16 * j) as i64);
        let (low, high) = (gpu.and(lane, 15), gpu.shift(lane, -4));
        if of.panel.along_k {
            let half = gpu.and(gpu.shift(lane, -3), 1);
            let line = gpu.plus(col, gpu.plus(gpu.and(lane, 7), gpu.shift(high, 3)));
            return self.matrices(of, base, line, gpu.plus_constant(half, (2 * step) as i64));
        }
        let line = gpu.plus_constant(low, (DEPTH * step) as i64);
        self.matrices(of, base, line, gpu.plus(gpu.shift(col, -3), high))
    }

    /// The number of the warp along rows or columns.
    fn warp(&self, bit: u32, count: u64) -> IntValue<'c> {
        let gpu = self.lowerer.gpu;
        let warp = gpu.shift(self.lowerer.frame.thread, -((WARP.ilog2() + bit) as i32));
        gpu.and(warp, count - 1)
    }

    fn matrices(
        &self,
        Operand { panel, .. }: &Operand,
        base: PointerValue<'c>,
        line: IntValue<'c>,
        chunk: IntValue<'c>,
    ) -> [Value<'c>; 4] {
        let place = panel.place(self.lowerer, line, chunk);
        let gpu = self.lowerer.gpu;
        gpu.load_matrices(gpu.bytes(base, place), !panel.along_k)
    }

    /// Where the accumulators of `mma` stand among the elements of a sum, which are ordered by
    /// the numbers of the variables.
    fn order(&self, sum: &Sum) -> Vec<usize> {
        let [rows, cols] = [sum.rows, sum.cols].map(|v| padded(self.lowerer.kernel, v));
        let (rows, cols) = (self.warps.rows(rows) as usize / 8, self.warps.cols(cols) as usize / 4);
        let place = |row: usize, col: usize| {
            if sum.rows < sum.cols { row * cols + col } else { col * rows + row }
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

    fn fragments(&self, sum: &Sum, elements: &[Value<'c>]) -> Vec<Value<'c>> {
        self.order(sum).into_iter().map(|at| elements[at]).collect()
    }

    fn elements(&self, sum: &Sum, fragments: &[Value<'c>]) -> Vec<Value<'c>> {
        let mut elements = fragments.to_vec();
        for (at, value) in self.order(sum).into_iter().zip(fragments) {
            elements[at] = *value;
        }
        elements
    }
}
