//! Reductions along a variable: over the registers of a thread, then over lanes of a warp by
//! shuffles, then over warps through shared memory. The order is that of a tree, fixed by the
//! spread alone, and every thread ends up with the result.

use gigac_ir::kernel::{Reduction, TileId, VarId};

use super::gpu::WARP;
use super::layout::Shape;
use super::lower::{Lowerer, Refusal, Tile};
use crate::llvm::emit::Value;
use crate::llvm::reduce::{combine, neutral, reduce_values};

impl<'c> Lowerer<'_, 'c> {
    /// Reduces a value; `shape` is that of the result.
    pub(super) fn reduce(
        &mut self,
        reduction: Reduction,
        of: TileId,
        var: VarId,
        shape: &Shape,
    ) -> Result<Tile<'c>, Refusal> {
        let inside = self.inside_threads(reduction, of, var, shape)?;
        Ok(self.over_threads(reduction, var, inside).into())
    }

    /// Reduces a value in each thread.
    pub(super) fn inside_threads(
        &mut self,
        reduction: Reduction,
        of: TileId,
        var: VarId,
        shape: &Shape,
    ) -> Result<Vec<Value<'c>>, Refusal> {
        let (tile, own) = (self.value(of)?, self.shape(of));
        let mut groups: Vec<Vec<Value<'c>>> = vec![Vec::new(); shape.count()];
        for (at, value) in own.all().zip(tile.iter()) {
            let value = match self.exists(var, own.along(&at, var)) {
                Some(exists) => {
                    self.gpu.select(exists, *value, neutral(self.gpu, reduction, *value))
                }
                None => *value,
            };
            groups[shape.index(&own, &at)].push(value);
        }
        Ok(groups.iter().map(|values| self.tree(reduction, values)).collect())
    }

    /// Reduces over threads what each of them has.
    pub(super) fn over_threads(
        &mut self,
        reduction: Reduction,
        var: VarId,
        values: Vec<Value<'c>>,
    ) -> Vec<Value<'c>> {
        let over = |value| self.over_lanes(reduction, var, value);
        let lanes = values.into_iter().map(over).collect();
        self.over_warps(reduction, var, lanes)
    }

    fn over_lanes(&self, reduction: Reduction, var: VarId, value: Value<'c>) -> Value<'c> {
        let bits = self.layout.spread(var).bits.iter().map(|(bit, _)| 1 << bit);
        bits.filter(|bit| *bit < WARP).fold(value, |value, bit| {
            self.joined(reduction, value, self.gpu.shuffle_xor(value, bit))
        })
    }

    /// Combines two values; where bits may differ, a maximum is one instruction.
    fn joined(&self, reduction: Reduction, a: Value<'c>, b: Value<'c>) -> Value<'c> {
        match reduction {
            Reduction::Max if self.quick && a.is_float_value() => {
                self.gpu.intrinsic("llvm.maximum", &[a, b])
            }
            _ => combine(self.gpu, reduction, a, b),
        }
    }

    fn tree(&self, reduction: Reduction, values: &[Value<'c>]) -> Value<'c> {
        match values {
            _ if !self.quick => reduce_values(self.gpu, reduction, values),
            [one] => *one,
            _ => {
                let (low, high) = values.split_at(values.len().div_ceil(2));
                self.joined(reduction, self.tree(reduction, low), self.tree(reduction, high))
            }
        }
    }

    /// Every thread writes what it has; after a barrier it reads what the threads have that
    /// differ in the warp alone, in ascending order.
    fn over_warps(
        &mut self,
        reduction: Reduction,
        var: VarId,
        values: Vec<Value<'c>>,
    ) -> Vec<Value<'c>> {
        let bits = self.layout.spread(var).bits.iter().map(|(bit, _)| 1 << bit);
        let bits: Vec<u64> = bits.filter(|bit| *bit >= WARP).collect();
        if bits.is_empty() {
            return values;
        }
        let (gpu, threads) = (self.gpu, self.frame.threads);
        let (start, used) = &mut self.scratch;
        *used = (*used).max(values.len() as u64 * threads * 4);
        let start = *start;
        let place = |register: usize, thread| {
            let at = gpu.plus_constant(
                gpu.shift(thread, 2),
                (start + register as u64 * threads * 4) as i64,
            );
            gpu.bytes(gpu.shared_memory(), at)
        };
        for (register, value) in values.iter().enumerate() {
            gpu.store_as(place(register, self.frame.thread), *value, 4);
        }
        gpu.barrier();
        let mask: u64 = bits.iter().sum();
        let base = gpu.and(self.frame.thread, (threads - 1) & !mask);
        let warps = (0..threads).filter(|t| t & !mask == 0);
        let read = |(register, value): (usize, &Value<'c>)| {
            let of = |warp: u64| {
                let at = place(register, gpu.plus_constant(base, warp as i64));
                gpu.load_as(at, value.get_type(), 4)
            };
            let parts: Vec<Value> = warps.clone().map(of).collect();
            reduce_values(gpu, reduction, &parts)
        };
        let results = values.iter().enumerate().map(read).collect();
        // The next reduction writes to the same place.
        gpu.barrier();
        results
    }
}
