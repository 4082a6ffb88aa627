//! Functions of block programs that need not have the bits of the CPU.
//!
//! - `exp(x)` is `2^(x·log₂e)`, by the unit for powers of two; a difference of scaled values under it becomes
//!   one multiply-add.
//! - A maximum is one instruction; of zeros it is the positive one.
//! - A quotient whose divisor varies along fewer variables is a product with the reciprocal.
//! - `where(mask, x, constant)` is `x` where the mask holds in the whole tile: a branch that all threads
//!   take alike decides, and the mask is computed in the other case alone.

use std::f64::consts::LOG2_E;

use gigac_ir::kernel::{Expr, Scalar, TileId};
use gigac_ir::pointwise::Pointwise;
use inkwell::values::InstructionOpcode as Op;

use super::super::layout::Shape;
use super::super::lower::{Lowerer, Refusal, Tile};
use crate::llvm::emit::{Value, built};

/// Fewest registers for which a branch is worth it.
const MANY: usize = 8;

impl<'c> Lowerer<'_, 'c> {
    /// The function, where there is a quicker way.
    pub(in super::super) fn quickly(
        &mut self,
        function: Pointwise,
        of: &[TileId],
        shape: &Shape,
    ) -> Result<Option<Tile<'c>>, Refusal> {
        match function {
            Pointwise::Exp => self.power(of[0], shape).map(Some),
            Pointwise::Max if self.kernel.ty(of[0]).scalar == Scalar::F32 => {
                self.larger(of, shape).map(Some)
            }
            Pointwise::Div if self.shape(of[1]).count() < shape.count() => {
                self.divided(of, shape).map(Some)
            }
            Pointwise::Where if shape.count() >= MANY => self.chosen(of, shape),
            _ => Ok(None),
        }
    }

    fn real_of(&self, value: TileId) -> Option<f64> {
        match self.lazy.get(&value) {
            Some(Expr::Real(x)) => Some(*x),
            _ => None,
        }
    }

    /// A value as another one times a constant.
    fn unscaled(&self, value: TileId) -> (TileId, f64) {
        let Some(Expr::Pointwise(function, x)) = self.lazy.get(&value) else { return (value, 1.0) };
        let by = match (function, x.get(1).and_then(|by| self.real_of(*by))) {
            (Pointwise::Mul, Some(by)) => by,
            (Pointwise::Div, Some(by)) if by != 0.0 => 1.0 / by,
            _ => return (value, 1.0),
        };
        let (from, further) = self.unscaled(x[0]);
        (from, by * further)
    }

    /// The larger of two by one instruction.
    fn larger(&mut self, of: &[TileId], shape: &Shape) -> Result<Tile<'c>, Refusal> {
        let operands = self.operands(of)?;
        let element = |at: Vec<usize>| {
            let x = [0, 1].map(|i| operands[i].0[operands[i].1.index(shape, &at)]);
            self.gpu.intrinsic("llvm.maximum", &x)
        };
        Ok(shape.all().map(element).collect())
    }

    fn divided(&mut self, of: &[TileId], shape: &Shape) -> Result<Tile<'c>, Refusal> {
        let gpu = self.gpu;
        let (a, own_a) = (self.value(of[0])?, self.shape(of[0]));
        let (b, own_b) = (self.value(of[1])?, self.shape(of[1]));
        let inverse = |b: &Value<'c>| gpu.binary(Op::FDiv, gpu.real(1.0, 1), *b);
        let b: Vec<Value> = b.iter().map(inverse).collect();
        let element = |at: Vec<usize>| {
            gpu.binary(Op::FMul, a[own_a.index(shape, &at)], b[own_b.index(shape, &at)])
        };
        Ok(shape.all().map(element).collect())
    }

    fn power(&mut self, of: TileId, shape: &Shape) -> Result<Tile<'c>, Refusal> {
        let gpu = self.gpu;
        let (of, by) = self.unscaled(of);
        let log = by * LOG2_E;
        // What `base` has put in base two.
        let whole = log as f32 == 1.0;
        let times = |x, by: f64| gpu.binary(Op::FMul, x, gpu.real(by as f32, 1));
        if let Some(Expr::Pointwise(Pointwise::Sub, x)) = self.lazy.get(&of)
            && self.shape(x[0]).count() > self.shape(x[1]).count()
        {
            let (from, by) = self.unscaled(x[0]);
            let factor = gpu.real((by * log) as f32, 1);
            let (a, own_a) = (self.value(from)?, self.shape(from));
            let (b, own_b) = (self.value(x[1])?, self.shape(x[1]));
            // What is subtracted may be the least float, times log₂e −∞: −∞ + ∞ would be no number.
            let negated = |b: &Value<'c>| match whole {
                true => gpu.fneg(*b),
                false => gpu.intrinsic("llvm.minimum", &[times(*b, -log), gpu.real(f32::MAX, 1)]),
            };
            let b: Vec<Value> = b.iter().map(negated).collect();
            let element = |at: Vec<usize>| {
                let (a, b) = (a[own_a.index(shape, &at)], b[own_b.index(shape, &at)]);
                gpu.power_of_two(gpu.intrinsic("llvm.fma", &[a, factor, b]))
            };
            return Ok(shape.all().map(element).collect());
        }
        let (x, own) = (self.value(of)?, self.shape(of));
        let element = |at: Vec<usize>| {
            let x = x[own.index(shape, &at)];
            gpu.power_of_two(if whole { x } else { times(x, log) })
        };
        Ok(shape.all().map(element).collect())
    }

    fn chosen(&mut self, of: &[TileId], shape: &Shape) -> Result<Option<Tile<'c>>, Refusal> {
        let (gpu, holds) = (self.gpu, self.holds(of[0]));
        let constant = [of[1], of[2]].map(|v| self.real_of(v).is_some());
        let (certain, plain) = match (constant, holds.everywhere, holds.somewhere) {
            ([_, true], Some(everywhere), _) => (everywhere, of[1]),
            ([true, _], _, Some(somewhere)) => (gpu.not(somewhere), of[2]),
            _ => return Ok(None),
        };
        let (tile, own) = (self.value(plain)?, self.shape(plain));
        let plain: Vec<Value> = shape.all().map(|at| tile[own.index(shape, &at)]).collect();
        let (before, cut, join) = (gpu.here(), gpu.block("cut"), gpu.block("join"));
        gpu.branch(certain, join, cut);
        gpu.enter(cut);
        // What is computed here is known here alone.
        let outside = self.values.clone();
        let operands = self.operands(of)?;
        self.values = outside;
        let element = |at: Vec<usize>| {
            let [c, a, b] = [0, 1, 2].map(|i| operands[i].0[operands[i].1.index(shape, &at)]);
            gpu.select(c, a, b)
        };
        let masked: Vec<Value> = shape.all().map(element).collect();
        let last = gpu.here();
        gpu.jump(join);
        gpu.enter(join);
        let merge = |(plain, masked): (&Value<'c>, &Value<'c>)| {
            let phi = built(gpu.builder.build_phi(plain.get_type(), ""));
            phi.add_incoming(&[(plain, before), (masked, last)]);
            phi.as_basic_value()
        };
        Ok(Some(plain.iter().zip(&masked).map(merge).collect()))
    }
}
