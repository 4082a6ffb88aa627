//! Layout: renames, splits, merges, affine slices and their adjoint, concatenation, broadcast.
//! None of them computes; kernels read through them.

use super::attributes::{axes, axis, close, maybe, print_axes, print_axis, print_maybe};
use super::vjp::Vjp;
use super::{Eval, EvalError, OpDef, OpError, absent, free, need, one, same_size, union};
use crate::graph::{AxisId, DType, Graph, Op, Type, ValueId};
use crate::tensor::{Tensor, walk};
use crate::text::{Parsed, integer, joined, list, symbol};

/// `x[A -> B]`.
pub const RENAME: OpDef = OpDef {
    name: "rename",
    print: |op, graph| {
        let Op::Rename { from, to } = op else { unreachable!("row of another op") };
        format!("{} -> {}", print_axis(graph, *from), print_axis(graph, *to))
    },
    parse: |graph, text| {
        let (text, from) = axis(graph, text)?;
        let (text, ()) = symbol(text, "->")?;
        let (text, to) = axis(graph, text)?;
        close(text, Op::Rename { from, to })
    },
    infer: |op, graph, operands| {
        let Op::Rename { from, to } = op else { unreachable!("row of another op") };
        same_size("rename", graph.size(*from), graph.size(*to))?;
        substitute("rename", graph, one("rename", operands)?, &[*from], &[*to])
    },
    flops: free,
    vjp: |v, g| {
        let (Op::Rename { from, to }, Some(g)) = (&v.node.op, g[0]) else {
            unreachable!("row of another op")
        };
        vec![Some(rename(v, g, *to, *from))]
    },
    eval: |e, operands| {
        let Op::Rename { from, to } = e.op else { unreachable!("row of another op") };
        relabel(e, operands[0], &[*from], &[*to])
    },
};

/// `x[D -> H*K]`.
pub const SPLIT: OpDef = OpDef {
    name: "split",
    print: |op, graph| {
        let Op::Split { from, to } = op else { unreachable!("row of another op") };
        format!("{} -> {}", print_axis(graph, *from), print_axes(graph, "*", to))
    },
    parse: |graph, text| {
        let (text, from) = axis(graph, text)?;
        let (text, ()) = symbol(text, "->")?;
        let (text, to) = axes(graph, text, "*", "]")?;
        Ok((text, Op::Split { from, to }))
    },
    infer: |op, graph, operands| {
        let Op::Split { from, to } = op else { unreachable!("row of another op") };
        same_size("split", graph.size(*from), graph.elements(to))?;
        substitute("split", graph, one("split", operands)?, &[*from], to)
    },
    flops: free,
    vjp: |v, g| {
        let (Op::Split { from, to }, Some(g)) = (&v.node.op, g[0]) else {
            unreachable!("row of another op")
        };
        let (from, to) = (*from, to.clone());
        if !to.iter().any(|a| v.builder.ty(g).has(*a)) {
            return vec![Some(g)];
        }
        let g = v.spread(g, &to);
        vec![Some(v.emit(Op::Merge { from: to, to: from }, &[g]))]
    },
    eval: |e, operands| {
        let Op::Split { from, to } = e.op else { unreachable!("row of another op") };
        relabel(e, operands[0], &[*from], to)
    },
};

/// `x[H*K -> D]`.
pub const MERGE: OpDef = OpDef {
    name: "merge",
    print: |op, graph| {
        let Op::Merge { from, to } = op else { unreachable!("row of another op") };
        format!("{} -> {}", print_axes(graph, "*", from), print_axis(graph, *to))
    },
    parse: |graph, text| {
        let (text, from) = axes(graph, text, "*", "->")?;
        let (text, to) = axis(graph, text)?;
        close(text, Op::Merge { from, to })
    },
    infer: |op, graph, operands| {
        let Op::Merge { from, to } = op else { unreachable!("row of another op") };
        same_size("merge", graph.elements(from), graph.size(*to))?;
        substitute("merge", graph, one("merge", operands)?, from, &[*to])
    },
    flops: free,
    vjp: |v, g| {
        let (Op::Merge { from, to }, Some(g)) = (&v.node.op, g[0]) else {
            unreachable!("row of another op")
        };
        if !v.builder.ty(g).has(*to) {
            return vec![Some(g)];
        }
        vec![Some(v.emit(Op::Split { from: *to, to: from.clone() }, &[g]))]
    },
    eval: |e, operands| {
        let Op::Merge { from, to } = e.op else { unreachable!("row of another op") };
        relabel(e, operands[0], from, &[*to])
    },
};

/// `x[A = start + stride·pos(B)]`.
pub const SLICE: OpDef = OpDef {
    name: "slice",
    print: |op, graph| {
        let Op::Slice { axis, to, start, stride } = op else { unreachable!("row of another op") };
        let (axis, to) = (print_axis(graph, *axis), print_maybe(graph, *to));
        format!("{axis} -> {to}, {start}, {stride}")
    },
    parse: |graph, text| {
        let (text, axis) = axis(graph, text)?;
        let (text, ()) = symbol(text, "->")?;
        let (text, to) = maybe(graph, text)?;
        let (text, (start, stride)) = affine(text)?;
        close(text, Op::Slice { axis, to, start, stride })
    },
    infer: |op, graph, operands| {
        let Op::Slice { axis, to, start, stride } = op else { unreachable!("row of another op") };
        inside("slice", graph, *axis, to.map_or(1, |t| graph.size(t)), *start, *stride)?;
        substitute("slice", graph, one("slice", operands)?, &[*axis], to.as_slice())
    },
    flops: free,
    vjp: |v, g| {
        let (Op::Slice { axis, to, start, stride }, Some(g)) = (&v.node.op, g[0]) else {
            unreachable!("row of another op")
        };
        let pad = Op::Pad { axis: *to, to: *axis, start: *start, stride: *stride };
        let g = v.spread(g, to.as_slice());
        vec![Some(v.emit(pad, &[g]))]
    },
    eval: |e, operands| {
        let Op::Slice { axis, to, start, stride } = e.op else { unreachable!("row of another op") };
        let x = operands[0];
        let mut out = e.full(0, 0.0);
        let step = |a: &AxisId| {
            if Some(*a) == *to { *stride as isize * x.stride(*axis) } else { x.stride(*a) }
        };
        let (strides, first) =
            (out.axes.iter().map(step).collect(), *start as isize * x.stride(*axis));
        let sizes = out.sizes.clone();
        walk(&sizes, &[strides], |i, at| out.data[i] = x.data[(first + at[0]) as usize]);
        Ok(vec![out])
    },
};

/// The adjoint of a slice.
pub const PAD: OpDef = OpDef {
    name: "pad",
    print: |op, graph| {
        let Op::Pad { axis, to, start, stride } = op else { unreachable!("row of another op") };
        let (axis, to) = (print_maybe(graph, *axis), print_axis(graph, *to));
        format!("{axis} -> {to}, {start}, {stride}")
    },
    parse: |graph, text| {
        let (text, from) = maybe(graph, text)?;
        let (text, ()) = symbol(text, "->")?;
        let (text, to) = axis(graph, text)?;
        let (text, (start, stride)) = affine(text)?;
        close(text, Op::Pad { axis: from, to, start, stride })
    },
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
    vjp: |v, g| {
        let (Op::Pad { axis, to, start, stride }, Some(g)) = (&v.node.op, g[0]) else {
            unreachable!("row of another op")
        };
        if !v.builder.ty(g).has(*to) {
            return vec![Some(g)];
        }
        let slice = Op::Slice { axis: *to, to: *axis, start: *start, stride: *stride };
        vec![Some(v.emit(slice, &[g]))]
    },
    eval: |e, operands| {
        let Op::Pad { axis, to, start, stride } = e.op else { unreachable!("row of another op") };
        let x = operands[0];
        let mut out = e.full(0, 0.0);
        let step = |a: &AxisId| {
            if Some(*a) == *axis { *stride as isize * out.stride(*to) } else { out.stride(*a) }
        };
        let (strides, first) =
            (x.axes.iter().map(step).collect(), *start as isize * out.stride(*to));
        walk(&x.sizes, &[strides], |i, at| out.data[(first + at[0]) as usize] = x.data[i]);
        Ok(vec![out])
    },
};

/// Pieces end to end.
pub const CAT: OpDef = OpDef {
    name: "cat",
    print: |op, graph| {
        let Op::Cat { pieces, to } = op else { unreachable!("row of another op") };
        let pieces = joined(" + ", pieces.iter().map(|p| print_maybe(graph, *p)));
        format!("{pieces} -> {}", print_axis(graph, *to))
    },
    parse: |graph, text| {
        let (text, pieces) = list(text, "+", "->", |t| maybe(graph, t))?;
        let (text, to) = axis(graph, text)?;
        close(text, Op::Cat { pieces, to })
    },
    infer: infer_cat,
    flops: free,
    vjp: vjp_cat,
    eval: eval_cat,
};

/// New axes.
pub const BROADCAST: OpDef = OpDef {
    name: "broadcast",
    print: |op, graph| {
        let Op::Broadcast { axes } = op else { unreachable!("row of another op") };
        print_axes(graph, ", ", axes)
    },
    parse: |graph, text| {
        let (text, axes) = axes(graph, text, ",", "]")?;
        Ok((text, Op::Broadcast { axes }))
    },
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
    vjp: |v, g| {
        let Some(g) = g[0] else { unreachable!("a broadcast has one result") };
        let (all, own) = (v.axes(v.node.results[0]), v.operand_axes(0));
        vec![Some(v.fit(g, &all, &own))]
    },
    eval: |e, operands| {
        let axes = &e.results[0].axes;
        Ok(vec![operands[0].arranged(axes, &e.sizes(axes))])
    },
};

/// `, start, stride`.
fn affine(text: &str) -> Parsed<'_, (i64, i64)> {
    let (text, ()) = symbol(text, ",")?;
    let (text, start) = integer(text)?;
    let (text, ()) = symbol(text, ",")?;
    let (text, stride) = integer(text)?;
    Ok((text, (start, stride)))
}

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
    let mut total = 0u64;
    let mut rest = Vec::new();
    for (piece, x) in pieces.iter().zip(operands) {
        if let Some(axis) = piece {
            need("cat", graph, x, *axis)?;
        }
        if *piece != Some(*to) {
            absent("cat", graph, x, *to)?;
        }
        total = total.saturating_add(piece.map_or(1, |a| graph.size(a)));
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

/// The same elements with `from` replaced by `to`, which has as many positions.
fn relabel(e: &Eval, x: &Tensor, from: &[AxisId], to: &[AxisId]) -> Result<Vec<Tensor>, EvalError> {
    let axes = &e.results[0].axes;
    let mut order = Vec::new();
    for axis in axes {
        if !to.contains(axis) {
            order.push(*axis);
        } else if Some(axis) == to.first() {
            order.extend(from);
        }
    }
    let data = x.arranged(&order, &e.sizes(&order)).data;
    Ok(vec![Tensor { axes: axes.clone(), sizes: e.sizes(axes), data }])
}

/// The cotangent with an axis renamed, where it has it.
fn rename(v: &mut Vjp, g: ValueId, from: AxisId, to: AxisId) -> ValueId {
    if from == to || !v.builder.ty(g).has(from) {
        return g;
    }
    v.emit(Op::Rename { from, to }, &[g])
}

/// Each piece gets its stretch of the cotangent.
fn vjp_cat(v: &mut Vjp, g: &[Option<ValueId>]) -> Vec<Option<ValueId>> {
    let (Op::Cat { pieces, to }, Some(g)) = (&v.node.op, g[0]) else {
        unreachable!("row of another op")
    };
    let (pieces, to) = (pieces.clone(), *to);
    let mut start = 0;
    let mut out = Vec::new();
    for (i, piece) in pieces.iter().enumerate() {
        out.push(v.wanted[i].then(|| vjp_piece(v, i, *piece, (to, start), g)));
        start += piece.map_or(1, |a| v.builder.graph.size(a) as i64);
    }
    out
}

fn vjp_piece(
    v: &mut Vjp,
    i: usize,
    piece: Option<AxisId>,
    (axis, start): (AxisId, i64),
    g: ValueId,
) -> ValueId {
    let mut rest = v.axes(v.node.results[0]);
    rest.retain(|a| *a != axis);
    let mut own = v.operand_axes(i);
    own.retain(|a| Some(*a) != piece);
    if !v.builder.ty(g).has(axis) {
        return v.fit(g, &rest, &own);
    }
    // The piece's axis may be one that other pieces are broadcast along.
    let to = piece.map(|a| if rest.contains(&a) { fresh(v, a) } else { a });
    let g = v.emit(Op::Slice { axis, to, start, stride: 1 }, &[g]);
    let g = v.fit(g, &rest, &own);
    match (to, piece) {
        (Some(to), Some(piece)) => rename(v, g, to, piece),
        _ => g,
    }
}

/// A new axis like another.
fn fresh(v: &mut Vjp, axis: AxisId) -> AxisId {
    let axis = v.builder.graph.axes[axis.index()].clone();
    v.builder.graph.add_axis(&axis.name, axis.size)
}

fn eval_cat(e: &Eval, operands: &[&Tensor]) -> Result<Vec<Tensor>, EvalError> {
    let Op::Cat { pieces, to } = e.op else { unreachable!("row of another op") };
    let mut out = e.full(0, 0.0);
    let place = out.strides(&out.axes);
    let mut first = 0;
    for (piece, x) in pieces.iter().zip(operands) {
        let count = piece.map_or(1, |a| e.graph.size(a) as usize);
        let stride = |a: &AxisId| match piece {
            Some(own) if a == to => x.stride(*own),
            Some(own) if a == own => 0,
            None if a == to => 0,
            _ => x.stride(*a),
        };
        let size = |a: &AxisId| if a == to { count } else { e.graph.size(*a) as usize };
        let sizes: Vec<usize> = out.axes.iter().map(size).collect();
        let strides = [place.clone(), out.axes.iter().map(stride).collect()];
        walk(&sizes, &strides, |_, at| out.data[first + at[0] as usize] = x.data[at[1] as usize]);
        first += count * out.stride(*to) as usize;
    }
    Ok(vec![out])
}
