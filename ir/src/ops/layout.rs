//! Layout: renames, splits, merges, affine slices and their adjoint, concatenation, broadcast.
//! None of them computes; kernels read through them.

use super::{OpDef, OpError, absent, free, need, one, same_size, union};
use crate::graph::{AxisId, DType, Graph, Op, Type};

/// `x[A -> B]`.
pub const RENAME: OpDef = OpDef {
    name: "rename",
    infer: |op, graph, operands| {
        let Op::Rename { from, to } = op else { unreachable!("row of another op") };
        same_size("rename", graph.size(*from), graph.size(*to))?;
        substitute("rename", graph, one("rename", operands)?, &[*from], &[*to])
    },
    flops: free,
};

/// `x[D -> H*K]`.
pub const SPLIT: OpDef = OpDef {
    name: "split",
    infer: |op, graph, operands| {
        let Op::Split { from, to } = op else { unreachable!("row of another op") };
        same_size("split", graph.size(*from), graph.elements(to))?;
        substitute("split", graph, one("split", operands)?, &[*from], to)
    },
    flops: free,
};

/// `x[H*K -> D]`.
pub const MERGE: OpDef = OpDef {
    name: "merge",
    infer: |op, graph, operands| {
        let Op::Merge { from, to } = op else { unreachable!("row of another op") };
        same_size("merge", graph.elements(from), graph.size(*to))?;
        substitute("merge", graph, one("merge", operands)?, from, &[*to])
    },
    flops: free,
};

/// `x[A = start + stride·pos(B)]`.
pub const SLICE: OpDef = OpDef {
    name: "slice",
    infer: |op, graph, operands| {
        let Op::Slice { axis, to, start, stride } = op else { unreachable!("row of another op") };
        inside("slice", graph, *axis, to.map_or(1, |t| graph.size(t)), *start, *stride)?;
        substitute("slice", graph, one("slice", operands)?, &[*axis], to.as_slice())
    },
    flops: free,
};

/// The adjoint of a slice.
pub const PAD: OpDef = OpDef {
    name: "pad",
    infer: |op, graph, operands| {
        let Op::Pad { axis, to, start, stride } = op else { unreachable!("row of another op") };
        let x = one("pad", operands)?;
        inside("pad", graph, *to, axis.map_or(1, |a| graph.size(a)), *start, *stride)?;
        match axis {
            Some(axis) => substitute("pad", graph, x, &[*axis], &[*to]),
            None => {
                absent("pad", graph, x, *to)?;
                let axes = x.axes.iter().copied().chain([*to]).collect();
                Ok(vec![Type { dtype: x.dtype, axes }])
            }
        }
    },
    flops: free,
};

/// Pieces end to end.
pub const CAT: OpDef = OpDef { name: "cat", infer: infer_cat, flops: free };

/// New axes.
pub const BROADCAST: OpDef = OpDef {
    name: "broadcast",
    infer: |op, graph, operands| {
        let Op::Broadcast { axes } = op else { unreachable!("row of another op") };
        let x = one("broadcast", operands)?;
        for axis in axes {
            absent("broadcast", graph, x, *axis)?;
        }
        let axes = axes.iter().chain(&x.axes).copied().collect();
        Ok(vec![Type { dtype: x.dtype, axes }])
    },
    flops: free,
};

/// The operand's type with `from` replaced, at the place of the first of them, by `to`.
fn substitute(
    op: &'static str,
    graph: &Graph,
    x: &Type,
    from: &[AxisId],
    to: &[AxisId],
) -> Result<Vec<Type>, OpError> {
    for axis in from {
        need(op, graph, x, *axis)?;
    }
    let mut rest = Type { dtype: x.dtype, axes: x.axes.clone() };
    rest.axes.retain(|a| !from.contains(a));
    for axis in to {
        absent(op, graph, &rest, *axis)?;
        rest.axes.push(*axis);
    }
    let mut axes = Vec::new();
    for axis in &x.axes {
        if !from.contains(axis) {
            axes.push(*axis);
        } else if Some(axis) == x.axes.iter().find(|a| from.contains(a)) {
            axes.extend(to);
        }
    }
    Ok(vec![Type { dtype: x.dtype, axes }])
}

/// Checks that `start + stride·j`, for `j < count`, stays inside an axis.
fn inside(
    op: &'static str,
    graph: &Graph,
    axis: AxisId,
    count: u64,
    start: i64,
    stride: i64,
) -> Result<(), OpError> {
    if count == 0 {
        return Ok(());
    }
    let last = i128::from(start) + i128::from(stride) * (i128::from(count) - 1);
    let (lo, hi) = (i128::from(start).min(last), i128::from(start).max(last) + 1);
    let size = graph.size(axis);
    if lo >= 0 && hi <= i128::from(size) && stride != 0 {
        return Ok(());
    }
    let name = graph.axes[axis.index()].name.clone();
    Err(OpError::Range { op, axis: name, size, lo: lo as i64, hi: hi as i64 })
}

fn infer_cat(op: &Op, graph: &Graph, operands: &[&Type]) -> Result<Vec<Type>, OpError> {
    let Op::Cat { pieces, to } = op else { unreachable!("row of another op") };
    if pieces.len() != operands.len() || pieces.is_empty() {
        return Err(OpError::Arity { op: "cat", expected: pieces.len(), got: operands.len() });
    }
    let mut total = 0;
    let mut rest = Vec::new();
    for (piece, x) in pieces.iter().zip(operands) {
        if let Some(axis) = piece {
            need("cat", graph, x, *axis)?;
        }
        if *piece != Some(*to) {
            absent("cat", graph, x, *to)?;
        }
        total += piece.map_or(1, |a| graph.size(a));
        let axes = x.axes.iter().copied().filter(|a| Some(*a) != *piece).collect();
        rest.push(Type { dtype: x.dtype, axes });
    }
    same_size("cat", total, graph.size(*to))?;
    let mut axes = union(&rest.iter().collect::<Vec<_>>());
    axes.push(*to);
    let dtype = rest.iter().map(|t| t.dtype).reduce(common).unwrap_or(DType::F32);
    let mixed = rest.iter().find(|t| t.dtype.is_real() != dtype.is_real());
    if let Some(other) = mixed {
        return Err(OpError::DType { op: "cat", expected: "pieces of one kind", got: other.dtype });
    }
    Ok(vec![Type { dtype, axes }])
}

/// The type that holds both.
fn common(a: DType, b: DType) -> DType {
    match (a, b) {
        (DType::Int { lo, hi }, DType::Int { lo: c, hi: d }) => {
            DType::Int { lo: lo.min(c), hi: hi.max(d) }
        }
        (DType::Bf16, DType::Bf16) => DType::Bf16,
        (a, b) if a.is_real() && b.is_real() => DType::F32,
        (a, _) => a,
    }
}
