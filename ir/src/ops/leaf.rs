//! Leaves: constants, positions, parameters, inputs, noise.

use super::vjp::none;
use super::{Eval, EvalError, OpDef, OpError, free};
use crate::graph::{DType, Graph, Op, Type};
use crate::philox::{philox, uniform};
use crate::tensor::Tensor;

/// Real constant.
pub const REAL: OpDef = OpDef { name: "real", infer, flops: free, vjp: none, eval };
/// Int constant.
pub const INT: OpDef = OpDef { name: "int", infer, flops: free, vjp: none, eval };
/// Bool constant.
pub const BOOL: OpDef = OpDef { name: "bool", infer, flops: free, vjp: none, eval };
/// Positions along an axis.
pub const POS: OpDef = OpDef { name: "pos", infer, flops: free, vjp: none, eval };
/// A parameter's state.
pub const PARAM: OpDef = OpDef { name: "param", infer, flops: free, vjp: none, eval };
/// An input.
pub const INPUT: OpDef = OpDef { name: "input", infer, flops: free, vjp: none, eval };
/// Counter-based random numbers; ten rounds of two multiplications give four of them.
pub const NOISE: OpDef = OpDef {
    name: "noise",
    infer,
    flops: |_, graph, _, results| 20 * graph.elements(&results[0].axes),
    vjp: none,
    eval: |e, operands| {
        let Op::Noise { key, .. } = e.op else { unreachable!("row of another op") };
        let word = |i: usize| operands.get(i).map_or(0, |t| t.data[0] as i64 as u32);
        let mut out = e.full(0, 0.0);
        for (i, x) in out.data.iter_mut().enumerate() {
            let counter = [i as u32, word(1), word(2), word(3)];
            *x = uniform(philox([word(0), *key], counter)[0]);
        }
        Ok(vec![out])
    },
};

fn infer(op: &Op, graph: &Graph, operands: &[&Type]) -> Result<Vec<Type>, OpError> {
    let scalar = |dtype| Type { dtype, axes: Vec::new() };
    if let Op::Noise { axes, .. } = op {
        if operands.len() > 4 {
            return Err(OpError::Arity { op: "noise", expected: 4, got: operands.len() });
        }
        for ty in operands {
            if !matches!(ty.dtype, DType::Int { .. }) || !ty.axes.is_empty() {
                let expected = "scalar ints as its key";
                return Err(OpError::DType { op: "noise", expected, got: ty.dtype });
            }
        }
        return Ok(vec![Type { dtype: DType::F32, axes: axes.clone() }]);
    }
    if !operands.is_empty() {
        return Err(OpError::Arity { op: super::def(op).name, expected: 0, got: operands.len() });
    }
    Ok(vec![match op {
        Op::Int(i) => scalar(DType::Int { lo: *i, hi: i.saturating_add(1) }),
        Op::Bool(_) => scalar(DType::Bool),
        Op::Pos(axis) => Type {
            dtype: DType::Int { lo: 0, hi: (graph.size(*axis) as i64).max(1) },
            axes: vec![*axis],
        },
        Op::Param(param, _) => Type { dtype: DType::F32, axes: graph.params[param.index()].axes() },
        Op::Input(input) => graph.inputs[input.index()].ty.clone(),
        _ => scalar(DType::F32),
    }])
}

/// Constants and positions; states and inputs are the interpreter's business.
fn eval(e: &Eval, _: &[&Tensor]) -> Result<Vec<Tensor>, EvalError> {
    let mut out = e.full(0, 0.0);
    match e.op {
        Op::Real(bits) => out.data[0] = bits.get(),
        Op::Int(i) => out.data[0] = *i as f64,
        Op::Bool(b) => out.data[0] = f64::from(*b),
        Op::Pos(_) => out.data.iter_mut().enumerate().for_each(|(i, x)| *x = i as f64),
        other => unreachable!("`{}` is bound, not computed", super::def(other).name),
    }
    Ok(vec![out])
}
