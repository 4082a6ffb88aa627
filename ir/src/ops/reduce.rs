//! Reductions and contractions.

use super::attributes::{axes, print_axes};
use super::vjp::Vjp;
use super::{Eval, EvalError, OpDef, OpError, need, one, two, union};
use crate::graph::{AxisId, DType, Op, Type, ValueId};
use crate::kernel::Reduction;
use crate::pointwise::Pointwise;
use crate::tensor::{Tensor, walk};
use crate::text;

/// Sum or maximum over axes.
pub const REDUCE: OpDef = OpDef {
    name: "reduce",
    print: |op, graph| {
        let Op::Reduce { op, axes } = op else { unreachable!("row of another op") };
        let name = if *op == Reduction::Sum { "sum" } else { "max" };
        format!("{name}: {}", print_axes(graph, ", ", axes))
    },
    parse: |graph, text| {
        let (rest, word) = text::word(text)?;
        let op = match word {
            "sum" => Reduction::Sum,
            "max" => Reduction::Max,
            _ => return text::fault(text, "expected `sum` or `max`"),
        };
        let (rest, ()) = text::symbol(rest, ":")?;
        let (rest, axes) = axes(graph, rest, ",", "]")?;
        Ok((rest, Op::Reduce { op, axes }))
    },
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
                hi: hi.saturating_sub(1).saturating_mul(count).max(0).saturating_add(1),
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
    vjp: |v, g| {
        let (Op::Reduce { op, axes }, Some(g)) = (&v.node.op, g[0]) else {
            unreachable!("row of another op")
        };
        match op {
            Reduction::Sum => vec![Some(g)],
            Reduction::Max => vec![Some(vjp_max(v, axes, g))],
        }
    },
    eval: |e, operands| {
        let Op::Reduce { op, .. } = e.op else { unreachable!("row of another op") };
        let x = operands[0];
        let start = if *op == Reduction::Sum { 0.0 } else { f64::NEG_INFINITY };
        let mut out = e.full(0, start);
        let strides = out.strides(&x.axes);
        walk(&x.sizes, &[strides], |i, at| {
            let (y, x) = (&mut out.data[at[0] as usize], x.data[i]);
            match op {
                Reduction::Sum => *y += x,
                Reduction::Max if x > *y || x.is_nan() => *y = x,
                Reduction::Max => {}
            }
        });
        Ok(vec![out])
    },
};

/// `Σ a·b`.
pub const DOT: OpDef = OpDef {
    name: "dot",
    print: |op, graph| {
        let Op::Dot { axes } = op else { unreachable!("row of another op") };
        print_axes(graph, ", ", axes)
    },
    parse: |graph, text| {
        let (text, axes) = axes(graph, text, ",", "]")?;
        Ok((text, Op::Dot { axes }))
    },
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
    vjp: |v, g| {
        let Some(g) = g[0] else { unreachable!("a dot has one result") };
        let side = |v: &mut Vjp, i: usize| v.wanted[i].then(|| vjp_dot(v, i, g));
        vec![side(v, 0), side(v, 1)]
    },
    eval: eval_dot,
};

/// The gradient goes to the first of the largest, in row-major order of the axes.
fn vjp_max(v: &mut Vjp, axes: &[AxisId], g: ValueId) -> ValueId {
    let (x, y) = (v.operand(0), v.result(0));
    let mut index = v.emit(Op::Int(0), &[]);
    for axis in axes {
        let size = v.emit(Op::Int(v.builder.graph.size(*axis) as i64), &[]);
        let pos = v.emit(Op::Pos(*axis), &[]);
        index = v.map(Pointwise::Mul, &[index, size]);
        index = v.map(Pointwise::Add, &[index, pos]);
    }
    // The smallest index among equals is minus the largest of the negated ones.
    let equal = v.map(Pointwise::Eq, &[x, y]);
    let none = v.emit(Op::Int(-(v.builder.graph.elements(axes) as i64)), &[]);
    let index = v.map(Pointwise::Neg, &[index]);
    let candidates = v.map(Pointwise::Where, &[equal, index, none]);
    let axes = axes.to_vec();
    let first = v.emit(Op::Reduce { op: Reduction::Max, axes }, &[candidates]);
    let chosen = v.map(Pointwise::Eq, &[index, first]);
    v.masked(chosen, g)
}

/// `∂/∂a Σ a·b`: the cotangent times the other operand, summed over the axes that only the other
/// operand has.
fn vjp_dot(v: &mut Vjp, side: usize, g: ValueId) -> ValueId {
    let mine = v.operand_axes(side);
    let mut other = v.operand(1 - side);
    let (axes, constant): (Vec<_>, Vec<_>) = v
        .operand_axes(1 - side)
        .into_iter()
        .filter(|a| !mine.contains(a))
        .partition(|a| v.builder.ty(g).has(*a));
    other = v.sum(other, constant);
    if v.axes(g).is_empty() { v.mul(g, other) } else { v.emit(Op::Dot { axes }, &[g, other]) }
}

/// As a batch of matrix products whose rows lie along the contracted axes.
fn eval_dot(e: &Eval, operands: &[&Tensor]) -> Result<Vec<Tensor>, EvalError> {
    let Op::Dot { axes } = e.op else { unreachable!("row of another op") };
    let [a, b] = [operands[0], operands[1]];
    let shared = |x: &AxisId| a.axes.contains(x) && b.axes.contains(x) && !axes.contains(x);
    let batch: Vec<AxisId> = a.axes.iter().copied().filter(shared).collect();
    let free = |x: &Tensor| -> Vec<AxisId> {
        x.axes.iter().copied().filter(|y| !batch.contains(y) && !axes.contains(y)).collect()
    };
    let (rows, columns) = (free(a), free(b));
    let laid = |x: &Tensor, own: &[AxisId]| {
        let order: Vec<AxisId> = [&batch, own, axes].into_iter().flatten().copied().collect();
        x.arranged(&order, &e.sizes(&order)).data
    };
    let (left, right) = (laid(a, &rows), laid(b, &columns));
    let count = |axes: &[AxisId]| e.graph.elements(axes) as usize;
    let (m, n, k) = (count(&rows), count(&columns), count(axes));
    let order: Vec<AxisId> = [&batch, &rows, &columns].into_iter().flatten().copied().collect();
    let mut out = Tensor::full(&order, &e.sizes(&order), 0.0);
    for (i, y) in out.data.iter_mut().enumerate() {
        let (row, column) = (i / n, i / (m * n) * n + i % n);
        let (row, column) = (&left[row * k..][..k], &right[column * k..][..k]);
        *y = row.iter().zip(column).map(|(a, b)| a * b).sum();
    }
    let axes = &e.results[0].axes;
    Ok(vec![out.arranged(axes, &e.sizes(axes))])
}
