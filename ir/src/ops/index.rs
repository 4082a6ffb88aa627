//! Data-dependent indexing: gather, its adjoint scatter, and the choice of the largest.

use super::{OpDef, OpError, absent, need, one, two, union};
use crate::graph::{DType, Op, Type};

/// `x[axis = e]`.
pub const GATHER: OpDef = OpDef {
    name: "gather",
    infer: |op, graph, operands| {
        let Op::Gather { axis } = op else { unreachable!("row of another op") };
        let [x, e] = two("gather", operands)?;
        need("gather", graph, x, *axis)?;
        let DType::Int { lo, hi } = e.dtype else {
            return Err(OpError::DType { op: "gather", expected: "an int index", got: e.dtype });
        };
        let size = graph.size(*axis);
        if lo < 0 || hi > size as i64 {
            let name = graph.axes[axis.index()].name.clone();
            return Err(OpError::Range { op: "gather", axis: name, size, lo, hi });
        }
        let mut axes = Vec::new();
        for a in &x.axes {
            if a == axis {
                axes.extend(e.axes.iter().filter(|b| *b == axis || !x.has(**b)));
            } else {
                axes.push(*a);
            }
        }
        Ok(vec![Type { dtype: x.dtype, axes }])
    },
    flops: super::free,
};

/// The adjoint of a gather.
pub const SCATTER: OpDef = OpDef {
    name: "scatter",
    infer: |op, graph, operands| {
        let Op::Scatter { axes, to } = op else { unreachable!("row of another op") };
        let [x, e] = two("scatter", operands)?;
        if !matches!(e.dtype, DType::Int { .. }) {
            return Err(OpError::DType { op: "scatter", expected: "an int index", got: e.dtype });
        }
        let mut all = Type { dtype: x.dtype, axes: union(&[x, e]) };
        for axis in axes {
            need("scatter", graph, &all, *axis)?;
        }
        all.axes.retain(|a| !axes.contains(a));
        absent("scatter", graph, &all, *to)?;
        all.axes.push(*to);
        Ok(vec![all])
    },
    flops: |_, graph, operands, _| graph.elements(&union(operands)),
};

/// Values and positions of the largest.
pub const TOP: OpDef = OpDef {
    name: "top",
    infer: |op, graph, operands| {
        let Op::Top { axis, to } = op else { unreachable!("row of another op") };
        let x = one("top", operands)?;
        need("top", graph, x, *axis)?;
        absent("top", graph, x, *to)?;
        if !x.dtype.is_real() {
            return Err(OpError::DType { op: "top", expected: "a real", got: x.dtype });
        }
        let size = graph.size(*axis);
        if graph.size(*to) > size {
            let (left, right) = (i128::from(size), i128::from(graph.size(*to)));
            return Err(OpError::Size { op: "top", left, right });
        }
        let axes: Vec<_> = x.axes.iter().map(|a| if a == axis { *to } else { *a }).collect();
        let index = DType::Int { lo: 0, hi: size as i64 };
        Ok(vec![Type { dtype: x.dtype, axes: axes.clone() }, Type { dtype: index, axes }])
    },
    flops: |op, graph, operands, _| {
        let Op::Top { axis, .. } = op else { unreachable!("row of another op") };
        graph.elements(&operands[0].axes) * graph.size(*axis)
    },
};
