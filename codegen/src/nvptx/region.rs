//! Kernels without products: pointwise work, reductions, gathers, scatters, optimizers.
//!
//! A block takes one grid point. Variables with tiles of one position are uniform; the others lie
//! over the threads: each thread holds runs of neighbours, as long as an access of 128 bits takes,
//! and neighbouring threads hold neighbouring runs. Loops that do not lie in one another use the
//! same threads again, so what one loop leaves in memory the next one finds in the same thread.

use std::collections::BTreeSet;

use gigac_ir::kernel::{BufferId, Expr, Factor, Kernel, Offset, Stmt, TileId, VarId};

use super::gpu::{Gpu, WARP};
use super::layout::{Layout, Spread};
use super::lower::{Frame, Lowerer, Refusal};
use super::runs::longest;
use super::{GpuTarget, Resources};

/// Most threads of a block.
const THREADS: u64 = 256;

/// Most elements of one value that a thread holds.
const REGISTERS: usize = 128;

/// Accesses of so many times fewer elements than others count for little.
const FEW: u64 = 4;

/// The choice of spreads.
struct Planner<'k> {
    kernel: &'k Kernel,
    accesses: Vec<Place<'k>>,
    /// Variables whose positions one thread takes in turn.
    serial: Vec<VarId>,
    spreads: Vec<Option<Spread>>,
}

/// Threads of the block, and the spread of every variable.
fn plan(kernel: &Kernel) -> Result<(u64, Vec<Spread>), Refusal> {
    let accesses = accesses(&kernel.body);
    let spreads = vec![None; kernel.vars.len()];
    let mut planner = Planner { kernel, accesses, serial: serial(kernel), spreads };
    let bits = planner.spread_all();
    let single = |spread: Option<Spread>| spread.unwrap_or_else(Spread::single);
    let spreads: Vec<Spread> = planner.spreads.into_iter().map(single).collect();
    bounded(kernel, &spreads)?;
    Ok((WARP.max(1 << bits), spreads))
}

impl Planner<'_> {
    /// Spreads all variables with several positions in a tile; returns the bits taken. Neighbouring
    /// threads go along the loops, or along the grid where more elements are contiguous so.
    fn spread_all(&mut self) -> u32 {
        let wide = |v: &VarId| tile(self.kernel, *v) > 1;
        let nests = nests(&self.kernel.body, &wide);
        let grid: Vec<VarId> = self.kernel.grid.iter().copied().filter(wide).rev().collect();
        if self.traffic(&nests.concat()) < self.traffic(&grid) {
            let bit = self.chain(&grid, 0);
            nests.iter().map(|nest| self.chain(nest, bit)).fold(bit, u32::max)
        } else {
            let bit = nests.iter().map(|nest| self.chain(nest, 0)).fold(0, u32::max);
            self.chain(&grid, bit)
        }
    }

    /// Elements of accesses that run along one of these variables.
    fn traffic(&self, vars: &[VarId]) -> u64 {
        let runs = |access: &&Place<'_>| vars.iter().any(|v| access.run(self.kernel, *v) > 1);
        self.accesses.iter().filter(runs).map(|a| a.elements(self.kernel)).sum()
    }

    /// The longest run along a variable of an access that counts: one of few elements beside others,
    /// such as one for each row, decides nothing.
    fn longest_run(&self, var: VarId) -> u64 {
        let elements = |access: &Place<'_>| access.elements(self.kernel);
        let most = self.accesses.iter().map(elements).max().unwrap_or(0);
        let counts = |access: &&Place<'_>| elements(access) >= most / FEW;
        let runs = self.accesses.iter().filter(counts).map(|a| a.run(self.kernel, var));
        runs.max().unwrap_or(1)
    }

    /// Spreads variables over the bits from `bit` on, the first one fastest; returns the next bit.
    /// Those that another nest has spread stay as they are, and the others keep off their bits.
    fn chain(&mut self, vars: &[VarId], bit: u32) -> u32 {
        let taken = vars.iter().filter_map(|v| self.spreads[v.0 as usize].as_ref());
        let taken: u64 = taken.map(Spread::mask).fold(0, |a, b| a | b);
        let bit = bit.max(u64::BITS - taken.leading_zeros());
        vars.iter().fold(bit, |bit, var| {
            if self.spreads[var.0 as usize].is_some() {
                return bit;
            }
            let tile = tile(self.kernel, *var);
            let run = self.longest_run(*var).min(tile.next_power_of_two());
            let wanted = match self.serial.contains(var) {
                true => 0,
                false => tile.div_ceil(run).next_power_of_two().ilog2(),
            };
            let width = wanted.min(THREADS.ilog2().saturating_sub(bit));
            self.spreads[var.0 as usize] = Some(Spread::runs(bit, width, run, tile));
            bit + width
        })
    }
}

/// Positions of a tile that exist at most.
fn tile(kernel: &Kernel, var: VarId) -> u64 {
    kernel.var(var).tile.min(kernel.var(var).extent)
}

/// Variables along which stores may meet: those whose elements one thread must take in order.
fn serial(kernel: &Kernel) -> Vec<VarId> {
    let mut found = Vec::new();
    let mut meeting = |stmt: &Stmt| {
        let Stmt::Store { offset, value, accumulate, .. } = stmt else { return };
        found.extend(offset.tiles().iter().flat_map(|t| kernel.ty(*t).vars.clone()));
        if *accumulate {
            let whole = |var: &VarId| {
                let itself = Factor::Digit { var: *var, divisor: 1, modulus: 0 };
                offset.terms.iter().any(|t| t.factor == itself)
            };
            let vars = kernel.ty(*value).vars.iter().copied().chain(offset.vars());
            found.extend(vars.filter(|v| !whole(v)));
        }
    };
    each(&kernel.body, &mut meeting);
    found
}

fn each(body: &[Stmt], visit: &mut dyn FnMut(&Stmt)) {
    for stmt in body {
        visit(stmt);
        if let Stmt::Loop { body, .. } = stmt {
            each(body, visit);
        }
    }
}

/// No value may take more registers than a thread has, nor vary along variables that share
/// threads.
fn bounded(kernel: &Kernel, spreads: &[Spread]) -> Result<(), Refusal> {
    for (i, ty) in kernel.values.iter().enumerate() {
        let value = TileId(i as u32);
        let along = || ty.vars.iter().map(|v| &spreads[v.0 as usize]);
        let registers: usize = along().map(|s| s.registers.len()).product();
        if registers > REGISTERS {
            return Err(format!("{value} takes {registers} registers of each thread"));
        }
        let masks = along().map(Spread::mask);
        if masks.clone().sum::<u64>() != masks.fold(0, |a, b| a | b) {
            return Err(format!("{value} varies along loops that share threads"));
        }
    }
    Ok(())
}

/// An access to memory.
struct Place<'k> {
    buffer: BufferId,
    offset: &'k Offset,
    mask: Option<TileId>,
}

impl Place<'_> {
    /// Elements of a tile: combinations of positions of the variables in its offset.
    fn elements(&self, kernel: &Kernel) -> u64 {
        let of_tiles = self.offset.tiles().into_iter().flat_map(|t| kernel.ty(t).vars.clone());
        let vars: BTreeSet<VarId> = self.offset.vars().into_iter().chain(of_tiles).collect();
        vars.iter().map(|v| tile(kernel, *v)).product()
    }

    /// How many neighbours along a variable it can take at once.
    fn run(&self, kernel: &Kernel, var: VarId) -> u64 {
        longest(kernel, self.buffer, self.offset, self.mask, var)
    }
}

fn accesses(body: &[Stmt]) -> Vec<Place<'_>> {
    let mut found = Vec::new();
    for stmt in body {
        match stmt {
            Stmt::Let(_, Expr::Load { buffer, offset, mask })
            | Stmt::Store { buffer, offset, mask, .. } => {
                found.push(Place { buffer: *buffer, offset, mask: *mask });
            }
            Stmt::Loop { body, .. } => found.extend(accesses(body)),
            Stmt::Let(..) | Stmt::When(_) => {}
        }
    }
    found
}

/// The nests of loops over variables that lie over threads, innermost first.
fn nests(body: &[Stmt], wide: &dyn Fn(&VarId) -> bool) -> Vec<Vec<VarId>> {
    let mut found = Vec::new();
    for stmt in body {
        let Stmt::Loop { var, body, .. } = stmt else { continue };
        let own: Vec<VarId> = Some(*var).filter(wide).into_iter().collect();
        let inner = nests(body, wide);
        if inner.is_empty() {
            found.extend((!own.is_empty()).then(|| own.clone()));
        }
        found.extend(inner.into_iter().map(|nest| [nest, own.clone()].concat()));
    }
    found
}

/// Threads of a block of a kernel without products.
pub(super) fn threads(kernel: &Kernel) -> Result<u64, Refusal> {
    Ok(plan(kernel)?.0)
}

/// Emits a kernel without products.
pub(super) fn lower(
    gpu: &Gpu<'_>,
    kernel: &Kernel,
    target: GpuTarget,
) -> Result<Resources, Refusal> {
    let (threads, spreads) = plan(kernel)?;
    let frame = Frame::new(gpu, kernel, threads);
    emit(gpu, kernel, target, &frame, spreads)
}

/// Emits a kernel without products for a launch whose blocks have so many threads, of which it takes its own.
pub(super) fn lower_part(
    gpu: &Gpu<'_>,
    kernel: &Kernel,
    target: GpuTarget,
    of_block: u64,
) -> Result<Resources, Refusal> {
    let (threads, spreads) = plan(kernel)?;
    let frame = Frame::of_part(gpu, kernel, threads, of_block);
    emit(gpu, kernel, target, &frame, spreads)
}

fn emit<'c>(
    gpu: &Gpu<'c>,
    kernel: &Kernel,
    target: GpuTarget,
    frame: &Frame<'c>,
    spreads: Vec<Spread>,
) -> Result<Resources, Refusal> {
    let layout = Layout::new(gpu, frame.thread, spreads);
    let mut lowerer = Lowerer::new(gpu, kernel, frame, layout);
    lowerer.place();
    lowerer.block(&kernel.body)?;
    gpu.ret();
    let shared = frame.local + lowerer.scratch.1;
    if shared > target.shared_limit() {
        return Err(format!("{shared} bytes of shared memory are more than a block has"));
    }
    Ok(Resources { threads: frame.threads, shared })
}
