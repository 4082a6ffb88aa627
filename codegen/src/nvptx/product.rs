//! Matrix products, with what is computed from them in front of their stores.
//!
//! A block takes one tile of the result, whose elements lie in the registers of its threads; of
//! several results with rows or columns in common it takes one tile each. Where
//! all operands are exact in bf16, tensor cores multiply ([`super::tensor`]); else threads
//! multiply and add one contracted position after the other, in ascending order.

use gigac_ir::kernel::{BufferId, Expr, Kernel, Offset, Storage, TileId, VarId};
use gigac_ir::pointwise::Pointwise;
use inkwell::values::InstructionOpcode as Op;

use super::gpu::Gpu;
use super::layout::{Layout, Spread};
use super::lower::{Frame, Lowerer, Refusal, Tile};
use super::panel::padded;
use super::runs::longest;
use super::tensor::{self, Warps};
use super::{GpuTarget, Resources, slab};
use crate::llvm::emit::Value;
use crate::pattern::{Product, Products, Store, Sum};

/// Threads along rows and along columns, as bits, of products without tensor cores.
const GRID_BITS: u32 = 4;

/// Neighbouring columns of a thread in products without tensor cores.
const RUN: u64 = 4;

/// Most elements of the results that a thread holds.
const ACCUMULATORS: usize = 128;

/// The registers of each sum, in the order of its rows' and columns' variables.
pub(super) type Sums<'c> = Vec<Vec<Value<'c>>>;

/// Emits the function of a product.
pub(super) fn lower(
    gpu: &Gpu<'_>,
    kernel: &Kernel,
    target: GpuTarget,
) -> Result<Resources, Refusal> {
    let found = Products::recognise(kernel);
    let found = found.map_err(|reason| format!("it is no matrix product ({reason})"))?;
    let parts = Part::of(&found)?;
    let expr = |value: TileId| found.exprs.get(&value).copied();
    let exact = |p: &Product| [p.lhs, p.rhs].iter().all(|v| is_bf16(kernel, &expr, *v));
    let warps = found.loops.iter().flatten().all(exact).then(|| Warps::share(&found));
    let threads = warps.map_or(1 << (2 * GRID_BITS), |w| w.threads());
    let spreads = spreads(&found, warps.as_ref());
    let registers = |v: VarId| spreads[v.0 as usize].registers.len();
    let held: Vec<usize> =
        found.sums.iter().map(|s| registers(s.rows) * registers(s.cols)).collect();
    let all: usize = held.iter().sum();
    if all > ACCUMULATORS {
        return Err(format!("its tiles take {all} registers of each thread"));
    }
    let frame = Frame::new(gpu, kernel, threads);
    if by_element(&found) {
        gpu.resident(frame.function, if threads <= tensor::SHARING { 2 } else { 1 });
    }
    let layout = Layout::new(gpu, frame.thread, spreads);
    let mut lowerer = Lowerer::new(gpu, kernel, &frame, layout);
    lowerer.lazy = found.exprs.iter().map(|(value, expr)| (*value, *expr)).collect();
    lowerer.place();
    let mut sums: Sums<'_> = held.iter().map(|n| vec![gpu.real(0.0, 1); *n]).collect();
    let mut shared = 0;
    for products in &found.loops {
        match &warps {
            Some(warps) => {
                let turns = (&found, &products[..]);
                shared = shared.max(tensor::multiply(&lowerer, turns, warps, &mut sums, target)?);
            }
            None => lowerer.fused(&found, products, &mut sums)?,
        }
    }
    for part in &parts {
        match warps.and_then(|warps| Some((warps, slab::run(&found, part)?))) {
            Some((warps, run)) => {
                let slab = (&found, part, run);
                shared = shared.max(slab::finish(&lowerer, slab, &warps, &sums)?);
            }
            None => {
                for number in &part.sums {
                    lowerer.arrange(&found.sums[*number], &sums[*number]);
                }
                lowerer.finish(part)?;
            }
        }
    }
    gpu.ret();
    Ok(Resources { threads, shared })
}

/// The spreads of rows and columns over warps; without tensor cores over all threads alike.
fn spreads(found: &Products<'_>, warps: Option<&Warps>) -> Vec<Spread> {
    let mut spreads = vec![Spread::single(); found.kernel.vars.len()];
    for sum in &found.sums {
        let [rows, cols] = [sum.rows, sum.cols].map(|v| padded(found.kernel, v));
        let sides = match warps {
            Some(warps) => warps.spreads(rows, cols),
            None => {
                let [rows, cols] = [sum.rows, sum.cols].map(|v| size(found.kernel, v));
                let run = RUN.min(cols.next_power_of_two());
                let cols = Spread::runs(0, GRID_BITS, run, cols);
                [Spread::runs(GRID_BITS, GRID_BITS, 1, rows), cols]
            }
        };
        for (var, spread) in [sum.rows, sum.cols].into_iter().zip(sides) {
            spreads[var.0 as usize] = spread;
        }
    }
    spreads
}

/// Whether some matrix is read or written element by element, as rows of odd lengths are. A thread has many addresses
/// then, and `ptxas` puts some of them into local memory for more blocks on a multiprocessor than the tile needs, unless it is told
/// how many these are.
fn by_element(found: &Products<'_>) -> bool {
    let kernel = found.kernel;
    let single = |(buffer, offset): (BufferId, &Offset)| {
        let wide = |v: &VarId| size(kernel, *v) > 1;
        let vars: Vec<VarId> = offset.vars().into_iter().filter(wide).collect();
        vars.len() > 1 && vars.iter().all(|v| longest(kernel, buffer, offset, None, *v) == 1)
    };
    let loads = found.exprs.values().any(|expr| match expr {
        Expr::Load { buffer, offset, .. } => single((*buffer, offset)),
        _ => false,
    });
    loads || found.stores.iter().any(|s| single((s.buffer, s.offset)))
}

/// Positions of a tile that exist at most.
fn size(kernel: &Kernel, var: VarId) -> u64 {
    kernel.var(var).tile.min(kernel.var(var).extent)
}

/// A part of the epilogue: sums with the same rows and columns, and the stores of what is computed
/// from them.
pub(super) struct Part<'k> {
    /// The sums, by number.
    pub(super) sums: Vec<usize>,
    pub(super) rows: VarId,
    pub(super) cols: VarId,
    pub(super) stores: Vec<&'k Store<'k>>,
}

impl<'k> Part<'k> {
    fn of(found: &'k Products<'k>) -> Result<Vec<Self>, Refusal> {
        let mut parts: Vec<Self> = Vec::new();
        for (number, &Sum { rows, cols, .. }) in found.sums.iter().enumerate() {
            match parts.iter_mut().find(|p| (p.rows, p.cols) == (rows, cols)) {
                Some(part) => part.sums.push(number),
                None => parts.push(Self { sums: vec![number], rows, cols, stores: Vec::new() }),
            }
        }
        let mut owners = vec![None; found.kernel.buffers.len()];
        for store in &found.stores {
            let sums = found.sums_of(store.operands());
            let mut of =
                (0..parts.len()).filter(|p| parts[*p].sums.iter().any(|s| sums.contains(s)));
            let part = of.next().unwrap_or(0);
            if of.next().is_some() {
                return Err("it stores a value of sums with different columns".to_owned());
            }
            // Parts are stored one after the other, each buffer in the order of the text.
            if *owners[store.buffer.0 as usize].get_or_insert(part) != part {
                return Err("it stores sums with different columns to one buffer".to_owned());
            }
            parts[part].stores.push(store);
        }
        Ok(parts)
    }
}

/// Whether a value has at most the digits of bf16.
pub(super) fn is_bf16<'k>(
    kernel: &Kernel,
    expr: &dyn Fn(TileId) -> Option<&'k Expr>,
    value: TileId,
) -> bool {
    let narrow = |value: TileId| is_bf16(kernel, expr, value);
    match expr(value) {
        Some(Expr::Load { buffer, .. }) => {
            kernel.buffers[buffer.0 as usize].storage == Storage::Bf16
        }
        Some(Expr::Real(x)) => (*x as f32).to_bits().trailing_zeros() >= 16,
        Some(Expr::Pointwise(Pointwise::Bf16, _)) => true,
        Some(Expr::Pointwise(Pointwise::Stop, x)) => narrow(x[0]),
        Some(Expr::Pointwise(Pointwise::Where, x)) => narrow(x[1]) && narrow(x[2]),
        _ => false,
    }
}

impl<'e, 'c> Lowerer<'e, 'c> {
    /// Adds the products of a loop, tile by tile of the contracted variable: in each, fused
    /// multiply-adds of one position after the other.
    fn fused(
        &mut self,
        found: &Products<'_>,
        products: &[Product],
        sums: &mut Sums<'c>,
    ) -> Result<(), Refusal> {
        let gpu = self.gpu;
        let outside = self.values.clone();
        let (var, k) = (products[0].k, self.kernel.var(products[0].k));
        let before: Vec<Value<'c>> = products.iter().flat_map(|p| sums[p.sum].clone()).collect();
        let zero = vec![gpu.real(0.0, 1); before.len()];
        let after = self.counted((k.tiles(), k.tile), &before, |s, start, held| {
            let rest = gpu.sub(gpu.i32(k.extent), start);
            let limit = gpu.min(rest, gpu.i32(k.tile));
            let tile = s.until(limit, 1, &zero, |s, position, tile| {
                s.firsts[var.0 as usize] = Some(gpu.plus(start, position));
                s.multiplied(found, products, tile)
            })?;
            let add = |(sum, tile): (&Value<'c>, Value<'c>)| gpu.binary(Op::FAdd, *sum, tile);
            Ok(held.iter().zip(tile).map(add).collect())
        })?;
        let mut after = after.into_iter();
        for product in products {
            sums[product.sum].fill_with(|| after.next().expect("a register for each sum"));
        }
        self.firsts[var.0 as usize] = None;
        self.values = outside;
        Ok(())
    }

    /// Adds the products at the contracted variable's position.
    fn multiplied(
        &mut self,
        found: &Products<'_>,
        products: &[Product],
        sums: &[Value<'c>],
    ) -> Result<Vec<Value<'c>>, Refusal> {
        let mut added = Vec::with_capacity(sums.len());
        for product in products {
            let sum = &found.sums[product.sum];
            let shape = self.layout.shape(&ascending(sum.rows, sum.cols));
            let (a, own_a) = (self.value(product.lhs)?, self.shape(product.lhs));
            let (b, own_b) = (self.value(product.rhs)?, self.shape(product.rhs));
            for at in shape.all() {
                let (a, b) = (a[own_a.index(&shape, &at)], b[own_b.index(&shape, &at)]);
                added.push(self.gpu.intrinsic("llvm.fma", &[a, b, sums[added.len()]]));
            }
        }
        Ok(added)
    }

    /// What follows the sums: everything that is stored is computed before anything is stored.
    pub(super) fn finish(&mut self, part: &Part<'_>) -> Result<(), Refusal> {
        for store in &part.stores {
            store.operands().try_for_each(|value| self.value(value).map(|_| ()))?;
        }
        let mut stores = part.stores.iter();
        stores.try_for_each(|s| self.store(s.buffer, s.offset, s.value, s.mask, s.accumulate))
    }

    /// Makes a sum known, in the order of its own variables. Along rows or columns that it does not have it is
    /// what stands at the first position.
    pub(super) fn arrange(&mut self, sum: &Sum, registers: &[Value<'c>]) {
        let held = self.layout.shape(&ascending(sum.rows, sum.cols));
        let own = self.shape(sum.value);
        let mut tile = vec![self.gpu.real(0.0, 1); own.count()];
        let places: Vec<usize> = held.all().map(|at| own.index(&held, &at)).collect();
        for (at, value) in places.into_iter().zip(registers).rev() {
            tile[at] = *value;
        }
        let tile: Tile<'c> = tile.into();
        self.values[sum.value.0 as usize] = Some(tile);
    }
}

/// Rows and columns in the order of a kernel's variables.
pub(super) fn ascending(rows: VarId, cols: VarId) -> [VarId; 2] {
    [rows.min(cols), rows.max(cols)]
}
