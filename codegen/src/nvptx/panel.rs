//! Panels: operands of tensor cores in shared memory.
//!
//! A panel holds a tile of bf16 in **lines**, contiguous along the variable that is contiguous in
//! device memory: the contracted one, or the operand's own. A line is a row of 16-byte chunks, which
//! are swizzled: chunk `c` of line `l` lies at `c xor (l / (8/n)) mod n`, with `n` the chunks of a
//! line, at most 8. So eight lines at one chunk, which is what `ldmatrix` takes at a time, meet all
//! banks once.
//!
//! Lines may be **interleaved**: which position a line has is then [`position_of`] its number.

use gigac_ir::kernel::{BufferId, Expr, Kernel, Offset, Storage, TileId, VarId};
use gigac_ir::pointwise::Pointwise;
use inkwell::values::{IntValue, PointerValue};

use super::layout::{Layout, Shape, Spread};
use super::lower::{Lowerer, Refusal};
use super::runs::{WIDEST, longest};
use crate::llvm::emit::Value;

/// Elements of a chunk.
const CHUNK: u64 = 8;

/// Chunks after which the banks repeat.
pub(super) const PERIOD: u64 = 8;

/// How one operand lies in shared memory, and how it comes there.
pub(super) struct Panel {
    /// The operand.
    value: TileId,
    /// Whether lines run along the contracted variable.
    pub(super) along_k: bool,
    /// The variable along lines, and the one across.
    pub(super) fast: VarId,
    pub(super) slow: VarId,
    lines: u64,
    /// Elements of a line, without what pads it.
    width: u64,
    /// Chunks of a line.
    pub(super) chunks: u64,
    /// Neighbours that one access takes.
    run: u64,
    /// Of positions along lines, and of lines.
    spreads: [Spread; 2],
    /// Whether lines are interleaved.
    pub(super) interleaved: bool,
    /// Whether addresses are sums of 32 bits, widened: each is one multiply-add then, and operands with the same strides
    /// share the sums. Else they are sums of 64 bits.
    pub(super) narrow: bool,
}

impl Panel {
    /// The panel of an operand: `extents` are its positions along its own variable and along the
    /// contracted one, in multiples of 16. `loads` are what the operand is computed from, `bits` count the
    /// threads that fill it.
    pub(super) fn new(
        kernel: &Kernel,
        (value, loads): (TileId, &[(BufferId, &Offset)]),
        [own, k]: [VarId; 2],
        extents: [u64; 2],
        bits: u32,
    ) -> Self {
        let run = |var: VarId| {
            let along = loads.iter().map(|(b, offset)| longest(kernel, *b, offset, None, var));
            along.max().unwrap_or(1).min(CHUNK)
        };
        let along_k = run(k) >= run(own);
        let ((fast, width), (slow, lines)) = match along_k {
            true => ((k, extents[1]), (own, extents[0])),
            false => ((own, extents[0]), (k, extents[1])),
        };
        let run = run(fast);
        let needed = width / CHUNK;
        let chunks = match needed <= PERIOD {
            true => needed.next_power_of_two(),
            false => needed.next_multiple_of(PERIOD),
        };
        let log = |n: u64| n.next_power_of_two().ilog2();
        let across = log(width / run).min(bits);
        let down = log(lines).min(bits - across);
        let spreads = [Spread::runs(0, across, run, width), Spread::runs(across, down, 1, lines)];
        Self {
            value,
            along_k,
            fast,
            slow,
            lines,
            width,
            chunks,
            run,
            spreads,
            interleaved: false,
            narrow: false,
        }
    }

    /// The spread of positions across lines.
    fn across(&self) -> Spread {
        if self.interleaved { self.spreads[1].mapped(position_of) } else { self.spreads[1].clone() }
    }

    /// Bytes that it takes.
    pub(super) fn bytes(&self) -> u64 {
        self.lines * self.chunks * WIDEST
    }

    /// Where a chunk of a line lies, in bytes from the panel's start.
    pub(super) fn place<'c>(
        &self,
        lowerer: &Lowerer<'_, 'c>,
        line: IntValue<'c>,
        chunk: IntValue<'c>,
    ) -> IntValue<'c> {
        let gpu = lowerer.gpu;
        let period = self.chunks.min(PERIOD);
        let turn = gpu.shift(line, -((PERIOD / period).ilog2() as i32));
        let swizzled = gpu.xor(chunk, gpu.and(turn, period - 1));
        let start = gpu.times(line, (self.chunks * WIDEST) as i64);
        gpu.plus(start, gpu.shift(swizzled, WIDEST.ilog2() as i32))
    }

    /// Fills the panel at `base` with the tile that begins at `first` of the contracted variable.
    pub(super) fn fill<'e, 'c>(
        &self,
        outer: &Lowerer<'e, 'c>,
        (k, first): (VarId, IntValue<'c>),
        base: PointerValue<'c>,
    ) -> Result<(), Refusal> {
        let mut spreads = vec![Spread::single(); outer.kernel.vars.len()];
        spreads[self.fast.0 as usize] = self.spreads[0].clone();
        spreads[self.slow.0 as usize] = self.across();
        let layout = Layout::new(outer.gpu, outer.frame.thread, spreads);
        let mut lowerer = outer.another(layout);
        lowerer.firsts[k.0 as usize] = Some(first);
        match self.direct(&lowerer) {
            Some((load, offset)) => self.copy(&mut lowerer, load, offset, base),
            None => self.compute(&mut lowerer, base),
        }
    }

    /// The load, when the operand is nothing but what one asynchronous copy can take.
    fn direct<'e>(&self, lowerer: &Lowerer<'e, '_>) -> Option<(TileId, &'e Offset)> {
        let mut value = self.value;
        while let Some(Expr::Pointwise(Pointwise::Stop, x)) = lowerer.lazy.get(&value) {
            value = x[0];
        }
        let Some(Expr::Load { buffer, offset, mask: None }) = lowerer.lazy.get(&value) else {
            return None;
        };
        let bf16 = lowerer.kernel.buffers[buffer.0 as usize].storage == Storage::Bf16;
        let wide = longest(lowerer.kernel, *buffer, offset, None, self.fast) >= 2;
        (bf16 && wide && lowerer.is_constant(*buffer)).then_some((value, offset))
    }

    fn copy<'c>(
        &self,
        lowerer: &mut Lowerer<'_, 'c>,
        load: TileId,
        offset: &Offset,
        base: PointerValue<'c>,
    ) -> Result<(), Refusal> {
        let Some(Expr::Load { buffer, .. }) = lowerer.lazy.get(&load) else {
            unreachable!("a direct operand is a load");
        };
        let gpu = lowerer.gpu;
        let shape = self.shape(lowerer);
        let run = lowerer.run(*buffer, offset, None, &shape);
        let bytes = run.length * Storage::Bf16.bytes();
        for (at, _) in lowerer.starts(&shape, run) {
            let (from, size) =
                lowerer.source((*buffer, offset), (&shape, &at), bytes, self.narrow)?;
            let to = self.destination(lowerer, (&shape, &at), base);
            let copy = || gpu.copy_async(to, from, bytes, size);
            match self.takes_part(lowerer, &shape, &at) {
                Some(condition) => gpu.when(condition, copy),
                None => copy(),
            }
        }
        Ok(())
    }

    fn compute<'c>(
        &self,
        lowerer: &mut Lowerer<'_, 'c>,
        base: PointerValue<'c>,
    ) -> Result<(), Refusal> {
        let gpu = lowerer.gpu;
        let (tile, own) = (lowerer.value(self.value)?, lowerer.shape(self.value));
        let shape = self.shape(lowerer);
        let coordinates: Vec<Vec<usize>> = shape.all().collect();
        for (at, members) in lowerer.starts(&shape, lowerer.run_along(self.fast, self.run)) {
            let lane = |register: &usize| {
                let at = &coordinates[*register];
                let value = tile[own.index(&shape, at)];
                match lowerer.inside(&shape, at) {
                    Some(inside) => gpu.select(inside, value, gpu.real(0.0, 1)),
                    None => value,
                }
            };
            let lanes: Vec<Value> = members.iter().map(lane).collect();
            let to = self.destination(lowerer, (&shape, &at), base);
            let write = || lowerer.write(Storage::Bf16, to, &lanes, false);
            match self.takes_part(lowerer, &shape, &at) {
                Some(condition) => gpu.when(condition, write),
                None => write(),
            }
        }
        Ok(())
    }

    /// All elements of the panel.
    fn shape(&self, lowerer: &Lowerer<'_, '_>) -> Shape {
        lowerer.layout.shape(&[self.fast.min(self.slow), self.fast.max(self.slow)])
    }

    /// Where an element lies.
    fn destination<'c>(
        &self,
        lowerer: &Lowerer<'_, 'c>,
        (shape, at): (&Shape, &[usize]),
        base: PointerValue<'c>,
    ) -> PointerValue<'c> {
        let gpu = lowerer.gpu;
        let (thread, register) = (lowerer.frame.thread, shape.along(at, self.slow));
        let line = Layout::in_spread(gpu, thread, &self.spreads[1], register);
        let along = lowerer.in_tile(self.fast, shape.along(at, self.fast));
        let chunk = gpu.shift(along, -(CHUNK.ilog2() as i32));
        let place = self.place(lowerer, line, chunk);
        let within = gpu.shift(gpu.and(along, CHUNK - 1), 1);
        gpu.bytes(base, if self.run == CHUNK { place } else { gpu.plus(place, within) })
    }

    /// Which threads fill the element: the first of those that hold it, when it is in the panel.
    fn takes_part<'c>(
        &self,
        lowerer: &Lowerer<'_, 'c>,
        shape: &Shape,
        at: &[usize],
    ) -> Option<Value<'c>> {
        let gpu = lowerer.gpu;
        let used: u64 = self.spreads.iter().map(Spread::mask).sum();
        let idle = (lowerer.frame.threads - 1) & !used;
        let first = (idle != 0).then(|| {
            let bits = gpu.and(lowerer.frame.thread, idle);
            gpu.icmp(inkwell::IntPredicate::EQ, bits.into(), gpu.i32(0).into())
        });
        let across = self.across();
        let sides = [(self.fast, &self.spreads[0], self.width), (self.slow, &across, self.lines)];
        let within = sides.into_iter().filter(|(_, spread, limit)| spread.span() > *limit);
        let within = within.map(|(var, _, limit)| {
            gpu.below(lowerer.in_tile(var, shape.along(at, var)), gpu.i32(limit))
        });
        first.into_iter().chain(within).reduce(|a, b| gpu.both(a, b))
    }
}

/// Lines that are interleaved with one another.
pub(super) const INTERLEAVED: u64 = 32;

/// The position of an interleaved line. Of 32 lines, four tiles of `mma`, a thread has columns or rows `2·q` and `2·q + 1` of
/// each, with `q` its lane's lowest two bits: 32 positions in such an order that these are eight neighbours.
pub(super) fn position_of(line: u64) -> u64 {
    let (odd, q, tile) = (line & 1, line >> 1 & 3, line >> 3 & 3);
    (line & !(INTERLEAVED - 1)) + 8 * q + 2 * tile + odd
}

/// Positions of a tile in multiples of 16.
pub(super) fn padded(kernel: &Kernel, var: VarId) -> u64 {
    let declared = kernel.var(var);
    declared.tile.min(declared.extent).next_multiple_of(16)
}
