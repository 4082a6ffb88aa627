//! Matrix products, with what is computed from them in front of their stores.
//!
//! A block takes one tile of the result, whose elements lie in the registers of its threads. Where
//! both operands are exact in bf16, tensor cores multiply ([`super::tensor`]); else threads
//! multiply and add one contracted position after the other, in ascending order.

use gigac_ir::kernel::{Expr, Kernel, Storage, TileId, VarId};
use gigac_ir::pointwise::Pointwise;
use inkwell::values::InstructionOpcode as Op;

use super::gpu::Gpu;
use super::layout::{Layout, Spread};
use super::lower::{Frame, Lowerer, Refusal, Tile};
use super::tensor::{self, Warps};
use super::{GpuTarget, Resources, slab};
use crate::llvm::emit::Value;
use crate::pattern::{Contraction, Product};

/// Threads along rows and along columns, as bits, of products without tensor cores.
const GRID_BITS: u32 = 4;

/// Neighbouring columns of a thread in products without tensor cores.
const RUN: u64 = 4;

/// Most elements of the result that a thread holds.
const ACCUMULATORS: usize = 128;

/// Emits the function of a product.
pub(super) fn lower(
    gpu: &Gpu<'_>,
    kernel: &Kernel,
    target: GpuTarget,
) -> Result<Resources, Refusal> {
    let found = Contraction::recognise(kernel);
    let found = found.map_err(|reason| format!("it is no matrix product ({reason})"))?;
    let expr = |value: TileId| found.exprs.get(&value).copied();
    let exact = |p: &Product| [p.lhs, p.rhs].iter().all(|v| is_bf16(kernel, &expr, *v));
    let on_tensor_cores = found.products.iter().all(exact);
    let [rows, cols] =
        [found.rows, found.cols].map(|v| kernel.var(v).tile.min(kernel.var(v).extent));
    let warps = Warps::share(rows, cols);
    let (threads, sides) = if on_tensor_cores {
        (warps.threads(), warps.spreads())
    } else {
        let cols = Spread::runs(0, GRID_BITS, RUN.min(cols.next_power_of_two()), cols);
        (1 << (2 * GRID_BITS), [Spread::runs(GRID_BITS, GRID_BITS, 1, rows), cols])
    };
    let held: usize = sides.iter().map(|s| s.registers.len()).product();
    if held > ACCUMULATORS {
        return Err(format!("its tile takes {held} registers of each thread"));
    }
    let mut spreads = vec![Spread::single(); kernel.vars.len()];
    for (var, spread) in [found.rows, found.cols].into_iter().zip(sides) {
        spreads[var.0 as usize] = spread;
    }
    let frame = Frame::new(gpu, kernel, threads);
    let layout = Layout::new(gpu, frame.thread, spreads);
    let mut lowerer = Lowerer::new(gpu, kernel, &frame, layout);
    lowerer.lazy = found.exprs.iter().map(|(value, expr)| (*value, *expr)).collect();
    lowerer.place();
    let zero = vec![gpu.real(0.0, 1); held];
    let mut shared = 0;
    let mut sum = zero;
    for product in &found.products {
        sum = if on_tensor_cores {
            let (next, used) = tensor::multiply(&lowerer, &found, product, &warps, sum, target)?;
            shared = shared.max(used);
            next
        } else {
            lowerer.fused(product, &found, sum)?
        };
    }
    match slab::run(&found).filter(|_| on_tensor_cores) {
        Some(run) => shared = shared.max(slab::finish(&lowerer, &found, &warps, run, &sum)?),
        None => lowerer.finish(&found, &sum)?,
    }
    gpu.ret();
    Ok(Resources { threads, shared })
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
    /// Adds a product, tile by tile of the contracted variable: in each, fused multiply-adds of one
    /// position after the other.
    fn fused(
        &mut self,
        product: &Product,
        found: &Contraction<'_>,
        sum: Vec<Value<'c>>,
    ) -> Result<Vec<Value<'c>>, Refusal> {
        let gpu = self.gpu;
        let outside = self.values.clone();
        let k = self.kernel.var(product.k);
        let zero = vec![gpu.real(0.0, 1); sum.len()];
        let result = self.counted((k.tiles(), k.tile), &sum, |s, start, sums| {
            let rest = gpu.sub(gpu.i32(k.extent), start);
            let limit = gpu.min(rest, gpu.i32(k.tile));
            let tile = s.until(limit, 1, &zero, |s, position, sums| {
                s.firsts[product.k.0 as usize] = Some(gpu.plus(start, position));
                s.multiplied(product, found, sums)
            })?;
            let add = |(sum, tile): (&Value<'c>, Value<'c>)| gpu.binary(Op::FAdd, *sum, tile);
            Ok(sums.iter().zip(tile).map(add).collect())
        })?;
        self.firsts[product.k.0 as usize] = None;
        self.values = outside;
        Ok(result)
    }

    /// Adds the products at the contracted variable's position.
    fn multiplied(
        &mut self,
        product: &Product,
        found: &Contraction<'_>,
        sums: &[Value<'c>],
    ) -> Result<Vec<Value<'c>>, Refusal> {
        let shape = self.layout.shape(&ascending(found.rows, found.cols));
        let (a, own_a) = (self.value(product.lhs)?, self.shape(product.lhs));
        let (b, own_b) = (self.value(product.rhs)?, self.shape(product.rhs));
        let add = |(at, sum): (Vec<usize>, &Value<'c>)| {
            let (a, b) = (a[own_a.index(&shape, &at)], b[own_b.index(&shape, &at)]);
            self.gpu.intrinsic("llvm.fma", &[a, b, *sum])
        };
        Ok(shape.all().zip(sums).map(add).collect())
    }

    /// What follows the sum: everything that is stored is computed before anything is stored.
    pub(super) fn finish(
        &mut self,
        found: &Contraction<'_>,
        sum: &[Value<'c>],
    ) -> Result<(), Refusal> {
        self.values[found.sum.0 as usize] = Some(self.arranged(found, sum));
        for store in &found.stores {
            let tiles = store.offset.tiles().into_iter().chain(store.mask).chain([store.value]);
            tiles.into_iter().try_for_each(|value| self.value(value).map(|_| ()))?;
        }
        found
            .stores
            .iter()
            .try_for_each(|s| self.store(s.buffer, s.offset, s.value, s.mask, s.accumulate))
    }

    /// The sum in the order of its own variables.
    fn arranged(&self, found: &Contraction<'_>, sum: &[Value<'c>]) -> Tile<'c> {
        let held = self.layout.shape(&ascending(found.rows, found.cols));
        let own = self.shape(found.sum);
        let mut tile = vec![self.gpu.real(0.0, 1); own.count()];
        for (at, value) in held.all().zip(sum) {
            tile[own.index(&held, &at)] = *value;
        }
        tile.into()
    }
}

/// Rows and columns in the order of a kernel's variables.
pub(super) fn ascending(rows: VarId, cols: VarId) -> [VarId; 2] {
    [rows.min(cols), rows.max(cols)]
}
