//! Leaves: constants, positions, parameters, inputs, noise.

use super::{OpDef, OpError, free};
use crate::graph::{DType, Graph, Op, Type};

/// Real constant.
pub const REAL: OpDef = OpDef { name: "real", infer, flops: free };
/// Int constant.
pub const INT: OpDef = OpDef { name: "int", infer, flops: free };
/// Bool constant.
pub const BOOL: OpDef = OpDef { name: "bool", infer, flops: free };
/// Positions along an axis.
pub const POS: OpDef = OpDef { name: "pos", infer, flops: free };
/// A parameter's state.
pub const PARAM: OpDef = OpDef { name: "param", infer, flops: free };
/// An input.
pub const INPUT: OpDef = OpDef { name: "input", infer, flops: free };
/// Counter-based random numbers; ten rounds of two multiplications give four of them.
pub const NOISE: OpDef = OpDef {
    name: "noise",
    infer,
    flops: |_, graph, _, results| 20 * graph.elements(&results[0].axes),
};

fn infer(op: &Op, graph: &Graph, operands: &[&Type]) -> Result<Vec<Type>, OpError> {
    let scalar = |dtype| Type { dtype, axes: Vec::new() };
    if let Op::Noise { axes, .. } = op {
        for ty in operands {
            if !matches!(ty.dtype, DType::Int { .. }) {
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
