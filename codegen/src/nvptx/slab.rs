//! What follows a product on tensor cores, in a layout with wide accesses.
//!
//! The accumulators of `mma` give a thread two neighbouring columns: stores of 4 or 8 bytes. So each
//! warp passes its tile through shared memory of its own, 8 rows at a time: a **slab**, in which
//! a thread has as many neighbouring columns as fill 128 bits. The epilogue runs once for every
//! slab, which also keeps few values alive.

use gigac_ir::kernel::Stmt;
use inkwell::values::{IntValue, PointerValue};

use super::gpu::WARP;
use super::layout::{Layout, Shape, Spread};
use super::lower::{Lowerer, Refusal, Tile};
use super::product::ascending;
use super::runs::longest;
use super::tensor::Warps;
use crate::llvm::emit::{Elem, Value};
use crate::pattern::Contraction;

/// Rows of a slab.
const ROWS: u64 = 8;

/// Floats that one access of shared memory takes.
const VECTOR: u64 = 4;

/// Floats between rows beside the columns: eight rows then meet different banks.
const PADDING: u64 = 8;

/// Neighbouring columns of a thread; none where accesses along columns are no wider than those of
/// the accumulators.
pub(super) fn run(found: &Contraction<'_>) -> Option<u64> {
    let store = |stmt: &Stmt| match stmt {
        Stmt::Store { buffer, offset, mask, .. } => {
            longest(found.kernel, *buffer, offset, *mask, found.cols)
        }
        _ => 1,
    };
    let run = found.kernel.body.iter().map(store).max().unwrap_or(1).min(2 * VECTOR);
    (run >= VECTOR).then_some(run)
}

/// Finishes the kernel; gives the bytes of shared memory that it uses.
pub(super) fn finish<'c>(
    lowerer: &Lowerer<'_, 'c>,
    found: &Contraction<'_>,
    warps: &Warps,
    run: u64,
    sum: &[Value<'c>],
) -> Result<u64, Refusal> {
    let gpu = lowerer.gpu;
    // Until here the memory holds panels, which other warps may still read.
    gpu.barrier();
    let slabs = Slabs { lowerer, found, warps, run };
    let base = slabs.base();
    for number in 0..warps.rows / ROWS {
        slabs.write(base, number, sum);
        gpu.warp_barrier();
        slabs.finish(base, number)?;
        gpu.warp_barrier();
    }
    Ok(lowerer.frame.local + slabs.bytes() * warps.threads() / WARP)
}

struct Slabs<'a, 'e, 'c> {
    lowerer: &'a Lowerer<'e, 'c>,
    found: &'a Contraction<'a>,
    warps: &'a Warps,
    run: u64,
}

impl<'c> Slabs<'_, '_, 'c> {
    /// Bytes of the slab of one warp.
    fn bytes(&self) -> u64 {
        4 * ROWS * self.pitch()
    }

    /// Floats from row to row.
    fn pitch(&self) -> u64 {
        self.warps.cols + PADDING
    }

    fn lane(&self) -> IntValue<'c> {
        self.lowerer.gpu.and(self.lowerer.frame.thread, WARP - 1)
    }

    /// Where the slab of this warp lies.
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
        let held = self.lowerer.layout.shape(&ascending(self.found.rows, self.found.cols));
        let register = |row: u64, col: u64| {
            let of = |var| if var == self.found.rows { row } else { col };
            let at: Vec<usize> = held.vars.iter().map(|v| of(*v) as usize).collect();
            sum[held.index(&held, &at)]
        };
        let (row, col) = (gpu.shift(self.lane(), -2), gpu.shift(gpu.and(self.lane(), 3), 1));
        let start = gpu.bytes(base, self.place(row, col));
        for tile in 0..self.warps.cols / 8 {
            let pair = [0, 1].map(|i| register(number, 2 * tile + i));
            gpu.store_as(gpu.bytes(start, gpu.i32(32 * tile)), gpu.gather_lanes(&pair), 8);
        }
    }

    /// Runs the epilogue on a slab.
    fn finish(&self, base: PointerValue<'c>, number: u64) -> Result<(), Refusal> {
        let (rows, cols) = self.spreads(number);
        let mut spreads = vec![Spread::single(); self.lowerer.kernel.vars.len()];
        spreads[self.found.rows.0 as usize] = rows;
        spreads[self.found.cols.0 as usize] = cols;
        let layout = Layout::new(self.lowerer.gpu, self.lowerer.frame.thread, spreads);
        let mut lowerer = self.lowerer.another(layout);
        let held = lowerer.layout.shape(&ascending(self.found.rows, self.found.cols));
        let sum = self.read(base, &lowerer, &held);
        lowerer.finish(self.found, &sum)
    }

    /// The spreads of a slab's rows and columns.
    fn spreads(&self, number: u64) -> (Spread, Spread) {
        let [rows, cols] = self.warps.spreads();
        let lanes = WARP.ilog2();
        let of_warps = |of: Spread| of.bits.into_iter().filter(move |(bit, _)| *bit >= lanes);
        let across = (self.warps.cols / self.run).trailing_zeros().min(lanes);
        let down = (lanes - across).min(ROWS.ilog2());
        let mut wide = Spread::runs(0, across, self.run, self.warps.cols);
        wide.bits.extend(of_warps(cols));
        let mut tall = Spread::runs(across, down, 1, ROWS);
        tall.bits.extend(of_warps(rows));
        tall.start = number * ROWS;
        (tall, wide)
    }

    /// Reads the elements of a slab.
    fn read(&self, base: PointerValue<'c>, lowerer: &Lowerer<'_, 'c>, held: &Shape) -> Tile<'c> {
        let gpu = self.lowerer.gpu;
        let across = (self.warps.cols / self.run).trailing_zeros().min(WARP.ilog2());
        let row = gpu.shift(self.lane(), -(across as i32));
        let row = gpu.and(row, ROWS - 1);
        let col = gpu.times(gpu.and(self.lane(), (1 << across) - 1), self.run as i64);
        let start = gpu.bytes(base, self.place(row, col));
        let mut tile = vec![gpu.real(0.0, 1); held.count()];
        let vectors = lowerer.starts(held, lowerer.run_along(self.found.cols, VECTOR));
        for (at, members) in vectors {
            let register = |var| lowerer.layout.spread(var).registers[held.along(&at, var)];
            let (row, col) = (register(self.found.rows), register(self.found.cols));
            let from = gpu.bytes(start, gpu.i32(4 * (row * self.pitch() + col)));
            let four = gpu.load_as(from, gpu.ty(Elem::F32, VECTOR), 16);
            for (lane, member) in (0..).zip(members) {
                tile[member] = gpu.lane(four, lane);
            }
        }
        tile.into()
    }
}
