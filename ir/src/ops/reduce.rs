//! Reductions and contractions.

use super::{OpDef, OpError, need, one, two, union};
use crate::graph::{DType, Op, Type};
use crate::kernel::Reduction;

/// Sum or maximum over axes.
pub const REDUCE: OpDef = OpDef {
    name: "reduce",
    infer: |op, graph, operands| {
        let Op::Reduce { op: reduction, axes } = op else { unreachable!("row of another op") };
        let x = one("reduce", operands)?;
        for axis in axes {
            need("reduce", graph, x, *axis)?;
        }
        let count = graph.elements(axes) as i64;
        let dtype = match (reduction, x.dtype) {
            (Reduction::Sum, DType::Int { lo, hi }) => DType::Int {
                lo: lo.saturating_mul(count).min(0),
                hi: (hi - 1).saturating_mul(count).max(0).saturating_add(1),
            },
            (_, DType::Bool) => {
                return Err(OpError::DType { op: "reduce", expected: "numbers", got: x.dtype });
            }
            (_, DType::Int { .. }) => x.dtype,
            _ => DType::F32,
        };
        let axes = x.axes.iter().copied().filter(|a| !axes.contains(a)).collect();
        Ok(vec![Type { dtype, axes }])
    },
    flops: |_, graph, operands, _| graph.elements(&operands[0].axes),
};

/// `Σ a·b`.
pub const DOT: OpDef = OpDef {
    name: "dot",
    infer: |op, graph, operands| {
        let Op::Dot { axes } = op else { unreachable!("row of another op") };
        let [a, b] = two("dot", operands)?;
        for x in [a, b] {
            if !x.dtype.is_real() {
                return Err(OpError::DType { op: "dot", expected: "reals", got: x.dtype });
            }
            for axis in axes {
                need("dot", graph, x, *axis)?;
            }
        }
        let axes = union(&[a, b]).into_iter().filter(|x| !axes.contains(x)).collect();
        Ok(vec![Type { dtype: DType::F32, axes }])
    },
    flops: |_, graph, operands, _| 2 * graph.elements(&union(operands)),
};
