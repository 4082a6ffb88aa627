//! What follows a product on tensor cores, in a layout with wide accesses.
//!
//! The accumulators of `mma` give a thread two neighbouring columns: stores of 4 or 8 bytes. So each
//! warp passes its tiles through shared memory of its own, 8 rows at a time: a **slab**, in which
//! a thread has as many neighbouring columns as fill 128 bits, of each sum. The epilogue runs once for
//! every slab, which also keeps few values alive.

use inkwell::values::{IntValue, PointerValue};

use super::gpu::WARP;
use super::layout::{Layout, Shape, Spread};
use super::lower::{Lowerer, Refusal};
use super::panel::padded;
use super::product::{Part, Sums, ascending};
use super::runs::longest;
use super::tensor::Warps;
use crate::llvm::emit::{Elem, Value};
use crate::pattern::{Products, Store};

/// Rows of a slab.
const ROWS: u64 = 8;

/// Floats that one access of shared memory takes.
const VECTOR: u64 = 4;

/// Floats between rows beside the columns: eight rows then meet different banks.
const PADDING: u64 = 8;

/// Neighbouring columns of a thread; none where accesses along columns are no wider than those of
/// the accumulators, or where sums have one position for rows or columns.
pub(super) fn run(found: &Products<'_>, part: &Part<'_>) -> Option<u64> {
    let of = |s: &&Store<'_>| longest(found.kernel, s.buffer, s.offset, s.mask, part.cols);
    let run = part.stores.iter().map(of).max().unwrap_or(1).min(2 * VECTOR);
    let whole = |sum: &usize| {
        let vars = &found.kernel.ty(found.sums[*sum].value).vars;
        vars.contains(&part.rows) && vars.contains(&part.cols)
    };
    (run >= VECTOR && part.sums.iter().all(whole)).then_some(run)
}

/// Finishes a part of the kernel, with so many neighbouring columns of a thread; gives the bytes of
/// shared memory that it uses.
pub(super) fn finish<'c>(
    lowerer: &Lowerer<'_, 'c>,
    (found, part, run): (&Products<'_>, &Part<'_>, u64),
    warps: &Warps,
    sums: &Sums<'c>,
) -> Result<u64, Refusal> {
    let gpu = lowerer.gpu;
    let [rows, cols] = [part.rows, part.cols].map(|v| padded(found.kernel, v));
    let (rows, cols) = (warps.rows(rows), warps.cols(cols));
    let slabs = Slabs { lowerer, found, part, warps, cols, run };
    // Until here the memory holds panels, or slabs of another part, which other warps may still read.
    gpu.barrier();
    let base = slabs.base();
    for number in 0..rows / ROWS {
        for (i, sum) in part.sums.iter().enumerate() {
            slabs.write(slabs.one(base, i), number, &sums[*sum]);
        }
        gpu.warp_barrier();
        slabs.finish(base, number)?;
        gpu.warp_barrier();
    }
    Ok(lowerer.frame.local + slabs.bytes() * warps.threads() / WARP)
}

struct Slabs<'a, 'e, 'c> {
    lowerer: &'a Lowerer<'e, 'c>,
    found: &'a Products<'a>,
    part: &'a Part<'a>,
    warps: &'a Warps,
    /// Columns of a warp.
    cols: u64,
    run: u64,
}

impl<'c> Slabs<'_, '_, 'c> {
    /// Bytes of the slabs of one warp, one for each sum.
    fn bytes(&self) -> u64 {
        4 * ROWS * self.pitch() * self.part.sums.len() as u64
    }

    /// Where the slab of a sum lies, of those of a warp.
    fn one(&self, base: PointerValue<'c>, i: usize) -> PointerValue<'c> {
        let gpu = self.lowerer.gpu;
        gpu.bytes(base, gpu.i32(4 * ROWS * self.pitch() * i as u64))
    }

    /// Floats from row to row.
    fn pitch(&self) -> u64 {
        self.cols + PADDING
    }

    fn lane(&self) -> IntValue<'c> {
        self.lowerer.gpu.and(self.lowerer.frame.thread, WARP - 1)
    }

    /// Where the slabs of this warp lie.
    fn base(&self) -> PointerValue<'c> {
        let gpu = self.lowerer.gpu;
        let warp = gpu.shift(self.lowerer.frame.thread, -(WARP.ilog2() as i32));
        let start = gpu.times(warp, self.bytes() as i64);
        gpu.bytes(gpu.shared_memory(), gpu.plus_constant(start, self.lowerer.frame.local as i64))
    }

    /// The place of an element, in bytes.
    fn place(&self, row: IntValue<'c>, col: IntValue<'c>) -> IntValue<'c> {
        let gpu = self.lowerer.gpu;
        gpu.shift(gpu.plus(gpu.times(row, self.pitch() as i64), col), 2)
    }

    /// Writes 8 rows of accumulators: a thread has pairs of columns in one of them.
    fn write(&self, base: PointerValue<'c>, number: u64, sum: &[Value<'c>]) {
        let gpu = self.lowerer.gpu;
        let held = self.lowerer.layout.shape(&ascending(self.part.rows, self.part.cols));
        let register = |row: u64, col: u64| {
            let of = |var| if var == self.part.rows { row } else { col };
            let at: Vec<usize> = held.vars.iter().map(|v| of(*v) as usize).collect();
            sum[held.index(&held, &at)]
        };
        let (row, col) = (gpu.shift(self.lane(), -2), gpu.shift(gpu.and(self.lane(), 3), 1));
        let start = gpu.bytes(base, self.place(row, col));
        for tile in 0..self.cols / 8 {
            let pair = [0, 1].map(|i| register(number, 2 * tile + i));
            gpu.store_as(gpu.bytes(start, gpu.i32(32 * tile)), gpu.gather_lanes(&pair), 8);
        }
    }

    /// Runs the epilogue on a slab.
    fn finish(&self, base: PointerValue<'c>, number: u64) -> Result<(), Refusal> {
        let (rows, cols) = self.spreads(number);
        let mut spreads = vec![Spread::single(); self.lowerer.kernel.vars.len()];
        spreads[self.part.rows.0 as usize] = rows;
        spreads[self.part.cols.0 as usize] = cols;
        let layout = Layout::new(self.lowerer.gpu, self.lowerer.frame.thread, spreads);
        let mut lowerer = self.lowerer.another(layout);
        let held = lowerer.layout.shape(&ascending(self.part.rows, self.part.cols));
        for (i, sum) in self.part.sums.iter().enumerate() {
            let elements = self.read(self.one(base, i), &lowerer, &held);
            lowerer.arrange(&self.found.sums[*sum], &elements);
        }
        lowerer.finish(self.part)
    }

    /// The spreads of a slab's rows and columns.
    fn spreads(&self, number: u64) -> (Spread, Spread) {
        let sizes = [self.part.rows, self.part.cols].map(|v| padded(self.found.kernel, v));
        let [rows, cols] = self.warps.spreads(sizes[0], sizes[1]);
        let lanes = WARP.ilog2();
        let of_warps = |of: Spread| of.bits.into_iter().filter(move |(bit, _)| *bit >= lanes);
        let across = (self.cols / self.run).trailing_zeros().min(lanes);
        let down = (lanes - across).min(ROWS.ilog2());
        let mut wide = Spread::runs(0, across, self.run, self.cols);
        wide.bits.extend(of_warps(cols));
        let mut tall = Spread::runs(across, down, 1, ROWS);
        tall.bits.extend(of_warps(rows));
        tall.start = number * ROWS;
        (tall, wide)
    }

    /// Reads the elements of a slab.
    fn read(
        &self,
        base: PointerValue<'c>,
        lowerer: &Lowerer<'_, 'c>,
        held: &Shape,
    ) -> Vec<Value<'c>> {
        let gpu = self.lowerer.gpu;
        let across = (self.cols / self.run).trailing_zeros().min(WARP.ilog2());
        let row = gpu.shift(self.lane(), -(across as i32));
        let row = gpu.and(row, ROWS - 1);
        let col = gpu.times(gpu.and(self.lane(), (1 << across) - 1), self.run as i64);
        let start = gpu.bytes(base, self.place(row, col));
        let mut tile = vec![gpu.real(0.0, 1); held.count()];
        let vectors = lowerer.starts(held, lowerer.run_along(self.part.cols, VECTOR));
        for (at, members) in vectors {
            let register = |var| lowerer.layout.spread(var).registers[held.along(&at, var)];
            let (row, col) = (register(self.part.rows), register(self.part.cols));
            let from = gpu.bytes(start, gpu.i32(4 * (row * self.pitch() + col)));
            let four = gpu.load_as(from, gpu.ty(Elem::F32, VECTOR), 16);
            for (lane, member) in (0..).zip(members) {
                tile[member] = gpu.lane(four, lane);
            }
        }
        tile
    }
}
