//! Where the elements of tiles lie: over the threads of a block, and in the registers of a thread.
//!
//! Every variable has a **spread**, and a tile is spread along each of its variables on its own:
//! the element that register `r` of thread `t` holds stands at the position
//!
//! `first + start + Σ (bit of t)·stride + registers[r]`
//!
//! along a variable. This is enough for everything here: runs of neighbouring elements in a thread,
//! the accumulators of `mma` (rows by lane bits 2 to 4, columns by bits 0 and 1), and what follows
//! from them. A tile that does not vary along a variable is the same in all threads that differ
//! in this variable's bits alone.

use gigac_ir::kernel::{Kernel, VarId};
use inkwell::values::IntValue;

use super::gpu::Gpu;

/// The spread of one variable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Spread {
    /// Bits of the thread number, and what each adds.
    pub(super) bits: Vec<(u32, u64)>,
    /// What each register adds.
    pub(super) registers: Vec<u64>,
    /// What is added everywhere.
    pub(super) start: u64,
}

impl Spread {
    /// One position, the same in all threads.
    pub(super) fn single() -> Self {
        Self { bits: Vec::new(), registers: vec![0], start: 0 }
    }

    /// `2^width` threads, counted by the bits from `bit` on, with runs of `run` neighbours each,
    /// repeated until `tile` positions are covered.
    pub(super) fn runs(bit: u32, width: u32, run: u64, tile: u64) -> Self {
        let bits = (0..width).map(|i| (bit + i, run << i)).collect();
        let step = run << width;
        let repeats = tile.div_ceil(step).max(1);
        let registers = (0..repeats).flat_map(|r| (0..run).map(move |e| r * step + e)).collect();
        Self { bits, registers, start: 0 }
    }

    /// One past the largest position.
    pub(super) fn span(&self) -> u64 {
        let threads: u64 = self.bits.iter().map(|(_, stride)| stride).sum();
        self.start + threads + self.registers.iter().max().copied().unwrap_or(0) + 1
    }

    /// The same with other positions in the place of these, which it takes bit by bit to other bits.
    pub(super) fn mapped(&self, map: impl Fn(u64) -> u64) -> Self {
        Self {
            bits: self.bits.iter().map(|(bit, stride)| (*bit, map(*stride))).collect(),
            registers: self.registers.iter().map(|r| map(*r)).collect(),
            start: map(self.start),
        }
    }

    /// The bits of the thread number that it uses.
    pub(super) fn mask(&self) -> u64 {
        self.bits.iter().map(|(bit, _)| 1 << bit).sum()
    }

    /// Whether registers come in runs of so many neighbours that begin at multiples of it.
    pub(super) fn has_runs_of(&self, length: u64) -> bool {
        let whole = |run: &[u64]| {
            run.len() as u64 == length
                && run[0].is_multiple_of(length)
                && run.windows(2).all(|w| w[1] == w[0] + 1)
        };
        self.start.is_multiple_of(length)
            && self.bits.iter().all(|(_, stride)| stride.is_multiple_of(length))
            && self.registers.chunks(length as usize).all(whole)
    }
}

/// The spreads of all variables, with what the thread adds computed.
#[derive(Clone)]
pub(super) struct Layout<'c> {
    spreads: Vec<Spread>,
    threads: Vec<IntValue<'c>>,
}

impl<'c> Layout<'c> {
    /// Computes what the thread adds to positions, where the builder stands.
    pub(super) fn new(gpu: &Gpu<'c>, thread: IntValue<'c>, spreads: Vec<Spread>) -> Self {
        let threads = spreads.iter().map(|s| share(gpu, thread, &s.bits)).collect();
        Self { spreads, threads }
    }

    pub(super) fn spread(&self, var: VarId) -> &Spread {
        &self.spreads[var.0 as usize]
    }

    /// What the thread adds to positions along a variable.
    pub(super) fn of_thread(&self, var: VarId) -> IntValue<'c> {
        self.threads[var.0 as usize]
    }

    /// The position that a register has in a spread, whatever that of its variable is.
    pub(super) fn in_spread(
        gpu: &Gpu<'c>,
        thread: IntValue<'c>,
        spread: &Spread,
        register: usize,
    ) -> IntValue<'c> {
        let inside = spread.start + spread.registers[register];
        gpu.plus_constant(share(gpu, thread, &spread.bits), inside as i64)
    }

    /// Registers of a tile along these variables.
    pub(super) fn shape(&self, vars: &[VarId]) -> Shape {
        let sizes = vars.iter().map(|v| self.spread(*v).registers.len()).collect();
        Shape { vars: vars.to_vec(), sizes }
    }
}

/// `Σ (bit of the thread)·stride`, runs of neighbouring bits taken together.
fn share<'c>(gpu: &Gpu<'c>, thread: IntValue<'c>, bits: &[(u32, u64)]) -> IntValue<'c> {
    let mut sum: Option<IntValue<'c>> = None;
    let mut rest = bits;
    while let [(bit, stride), ..] = *rest {
        let along = |(i, b): (usize, &(u32, u64))| *b == (bit + i as u32, stride << i);
        let count = rest.iter().enumerate().take_while(|(i, b)| along((*i, b))).count();
        let field = gpu.and(gpu.shift(thread, -(bit as i32)), (1 << count) - 1);
        let part = gpu.times(field, stride as i64);
        sum = Some(sum.map_or(part, |sum| gpu.plus(sum, part)));
        rest = &rest[count..];
    }
    sum.unwrap_or_else(|| gpu.i32(0))
}

/// The registers of a tile: row-major along its variables.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub(super) vars: Vec<VarId>,
    sizes: Vec<usize>,
}

impl Shape {
    pub(super) fn count(&self) -> usize {
        self.sizes.iter().product()
    }

    /// All registers in their order.
    pub(super) fn all(&self) -> impl Iterator<Item = Vec<usize>> + use<'_> {
        (0..self.count()).map(|mut index| {
            let mut at = vec![0; self.sizes.len()];
            for (at, size) in at.iter_mut().zip(&self.sizes).rev() {
                *at = index % size;
                index /= size;
            }
            at
        })
    }

    /// The number of a register of this shape, given coordinates of another one that has all its
    /// variables.
    pub(super) fn index(&self, of: &Shape, at: &[usize]) -> usize {
        self.vars.iter().zip(&self.sizes).fold(0, |index, (var, size)| {
            let place = of.vars.iter().position(|v| v == var);
            index * size + place.map_or(0, |p| at[p])
        })
    }

    /// The coordinate along a variable; 0 when it does not vary along it.
    pub(super) fn along(&self, at: &[usize], var: VarId) -> usize {
        self.vars.iter().position(|v| *v == var).map_or(0, |p| at[p])
    }
}

/// How positions in a tile are limited: by the tile, and by the extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    /// Every position of the spread exists.
    None,
    /// Positions in the tile below this exist, in every tile.
    Fixed(u64),
    /// The last tile is ragged: positions in the tile below `min(tile, extent − first)` exist.
    Ragged {
        /// The tile.
        tile: u64,
        /// The extent.
        extent: u64,
    },
}

impl Limit {
    pub(super) fn of(kernel: &Kernel, var: VarId, spread: &Spread) -> Self {
        let (extent, tile) = (kernel.var(var).extent, kernel.var(var).tile);
        if extent <= tile {
            return if spread.span() > extent { Self::Fixed(extent) } else { Self::None };
        }
        match extent.is_multiple_of(tile) {
            false => Self::Ragged { tile, extent },
            true if spread.span() > tile => Self::Fixed(tile),
            true => Self::None,
        }
    }
}
