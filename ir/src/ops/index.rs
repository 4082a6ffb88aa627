//! Data-dependent indexing: gather, its adjoint scatter, and the choice of the largest.

use super::attributes::{axes, axis, close, print_axes, print_axis};
use super::vjp::Vjp;
use super::{Eval, EvalError, OpDef, OpError, absent, need, one, two, union};
use crate::graph::{AxisId, DType, Op, Type, ValueId};
use crate::pointwise::Pointwise;
use crate::tensor::{Tensor, walk};
use crate::text::symbol;

/// `x[axis = e]`.
pub const GATHER: OpDef = OpDef {
    name: "gather",
    print: |op, graph| {
        let Op::Gather { axis } = op else { unreachable!("row of another op") };
        print_axis(graph, *axis)
    },
    parse: |graph, text| {
        let (text, axis) = axis(graph, text)?;
        close(text, Op::Gather { axis })
    },
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
    vjp: vjp_gather,
    eval: |e, operands| {
        let Op::Gather { axis } = e.op else { unreachable!("row of another op") };
        let [x, index] = [operands[0], operands[1]];
        let mut out = e.full(0, 0.0);
        let own = |a: &AxisId| if a == axis { 0 } else { x.stride(*a) };
        let strides = [out.axes.iter().map(own).collect(), index.strides(&out.axes)];
        let (sizes, size) = (out.sizes.clone(), e.graph.size(*axis) as usize);
        let mut bad = None;
        walk(&sizes, &strides, |i, at| {
            let k = index.data[at[1] as usize];
            if k >= 0.0 && k < size as f64 {
                out.data[i] = x.data[(at[0] + k as isize * x.stride(*axis)) as usize];
            } else {
                bad = Some(k);
            }
        });
        let name = || e.graph.axes[axis.index()].name.clone();
        match bad {
            Some(index) => Err(EvalError::Index { op: "gather", axis: name(), size, index }),
            None => Ok(vec![out]),
        }
    },
};

/// The adjoint of a gather.
pub const SCATTER: OpDef = OpDef {
    name: "scatter",
    print: |op, graph| {
        let Op::Scatter { axes, to } = op else { unreachable!("row of another op") };
        format!("{} -> {}", print_axes(graph, ", ", axes), print_axis(graph, *to))
    },
    parse: |graph, text| {
        let (text, axes) = axes(graph, text, ",", "->")?;
        let (text, to) = axis(graph, text)?;
        close(text, Op::Scatter { axes, to })
    },
    infer: |op, graph, operands| {
        let Op::Scatter { axes, to } = op else { unreachable!("row of another op") };
        let [x, e] = two("scatter", operands)?;
        if !matches!(e.dtype, DType::Int { .. }) {
            return Err(OpError::DType { op: "scatter", expected: "an int index", got: e.dtype });
        }
        // A sum of reals is not rounded to what they are stored in.
        let dtype = if x.dtype.is_real() { DType::F32 } else { x.dtype };
        let mut all = Type { dtype, axes: union(&[x, e]) };
        for axis in axes {
            need("scatter", graph, &all, *axis)?;
        }
        all.axes.retain(|a| !axes.contains(a));
        absent("scatter", graph, &all, *to)?;
        all.axes.push(*to);
        Ok(vec![all])
    },
    flops: |_, graph, operands, _| graph.elements(&union(operands)),
    vjp: vjp_scatter,
    eval: |e, operands| {
        let Op::Scatter { axes, to } = e.op else { unreachable!("row of another op") };
        let [x, index] = [operands[0], operands[1]];
        let mut out = e.full(0, 0.0);
        let mut all = x.axes.clone();
        all.extend(index.axes.iter().filter(|a| !x.axes.contains(a)));
        let place = |a: &AxisId| if axes.contains(a) { 0 } else { out.stride(*a) };
        let strides =
            [x.strides(&all), index.strides(&all), all.iter().map(place).collect::<Vec<_>>()];
        let (size, stride) = (e.graph.size(*to) as f64, out.stride(*to));
        walk(&e.sizes(&all), &strides, |_, at| {
            let k = index.data[at[1] as usize];
            if k >= 0.0 && k < size {
                out.data[(at[2] + k as isize * stride) as usize] += x.data[at[0] as usize];
            }
        });
        Ok(vec![out])
    },
};

/// Values and positions of the largest.
pub const TOP: OpDef = OpDef {
    name: "top",
    print: |op, graph| {
        let Op::Top { axis, to } = op else { unreachable!("row of another op") };
        format!("{} -> {}", print_axis(graph, *axis), print_axis(graph, *to))
    },
    parse: |graph, text| {
        let (text, from) = axis(graph, text)?;
        let (text, ()) = symbol(text, "->")?;
        let (text, to) = axis(graph, text)?;
        close(text, Op::Top { axis: from, to })
    },
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
        Ok(vec![Type { dtype: DType::F32, axes: axes.clone() }, Type { dtype: index, axes }])
    },
    flops: |op, graph, operands, _| {
        let Op::Top { axis, .. } = op else { unreachable!("row of another op") };
        graph.elements(&operands[0].axes) * graph.size(*axis)
    },
    vjp: |v, g| {
        let Op::Top { axis, to } = &v.node.op else { unreachable!("row of another op") };
        let scatter = Op::Scatter { axes: vec![*to], to: *axis };
        let Some(g) = g[0] else { return vec![None] };
        let index = v.result(1);
        vec![Some(v.emit(scatter, &[g, index]))]
    },
    eval: eval_top,
};

/// Where each index has a place of its own in `x`, a comparison says which elements were read (a
/// one-hot that kernels never build); elsewhere elements may have been read several times, and a
/// scatter adds up.
fn vjp_gather(v: &mut Vjp, g: &[Option<ValueId>]) -> Vec<Option<ValueId>> {
    let (Op::Gather { axis }, Some(mut g)) = (&v.node.op, g[0]) else {
        unreachable!("row of another op")
    };
    let axis = *axis;
    let mut index = v.operand(1);
    if v.builder.ty(index).has(axis) {
        // `x[T = e]` with `e` along T: the T of the result is not the T of `x`.
        let like = v.builder.graph.axes[axis.index()].clone();
        let to = v.builder.graph.add_axis(&like.name, like.size);
        index = v.emit(Op::Rename { from: axis, to }, &[index]);
        if v.builder.ty(g).has(axis) {
            g = v.emit(Op::Rename { from: axis, to }, &[g]);
        }
    }
    let own = v.operand_axes(0);
    let summed: Vec<AxisId> = v.axes(index).into_iter().filter(|a| !own.contains(a)).collect();
    if !summed.is_empty() {
        return vec![Some(v.emit(Op::Scatter { axes: summed, to: axis }, &[g, index])), None];
    }
    let pos = v.emit(Op::Pos(axis), &[]);
    let read = v.map(Pointwise::Eq, &[index, pos]);
    vec![Some(v.masked(read, g)), None]
}

/// Each element gets the cotangent of the place it went to; elements whose index lies outside
/// went nowhere.
fn vjp_scatter(v: &mut Vjp, g: &[Option<ValueId>]) -> Vec<Option<ValueId>> {
    let (Op::Scatter { to, .. }, Some(mut g)) = (&v.node.op, g[0]) else {
        unreachable!("row of another op")
    };
    let to = *to;
    let size = v.builder.graph.size(to) as i64;
    let index = v.operand(1);
    let DType::Int { lo, hi } = v.builder.ty(index).dtype else { unreachable!("an int index") };
    let outside = lo < 0 || hi > size;
    if v.builder.ty(g).has(to) {
        let mut inside = index;
        if outside {
            let (first, last) = (v.emit(Op::Int(0), &[]), v.emit(Op::Int(size - 1), &[]));
            inside = v.map(Pointwise::Max, &[inside, first]);
            inside = v.map(Pointwise::Min, &[inside, last]);
        }
        g = v.emit(Op::Gather { axis: to }, &[g, inside]);
    }
    if outside {
        let (first, end) = (v.emit(Op::Int(0), &[]), v.emit(Op::Int(size), &[]));
        let above = v.map(Pointwise::Ge, &[index, first]);
        let below = v.map(Pointwise::Lt, &[index, end]);
        let inside = v.map(Pointwise::And, &[above, below]);
        g = v.masked(inside, g);
    }
    let (all, own) = (v.union(), v.operand_axes(0));
    vec![Some(v.fit(g, &all, &own)), None]
}

fn eval_top(e: &Eval, operands: &[&Tensor]) -> Result<Vec<Tensor>, EvalError> {
    let Op::Top { axis, to } = e.op else { unreachable!("row of another op") };
    let x = operands[0];
    let (mut value, mut index) = (e.full(0, 0.0), e.full(1, 0.0));
    let rest: Vec<AxisId> = x.axes.iter().copied().filter(|a| a != axis).collect();
    let strides = [x.strides(&rest), value.strides(&rest)];
    let (from, into) = (x.stride(*axis), value.stride(*to));
    walk(&e.sizes(&rest), &strides, |_, at| {
        // Adding zero makes both zeros equal.
        let read = |i: usize| x.data[(at[0] + i as isize * from) as usize] + 0.0;
        let mut order: Vec<usize> = (0..e.graph.size(*axis) as usize).collect();
        order.sort_by(|i, j| read(*j).total_cmp(&read(*i)));
        for (n, i) in order.into_iter().take(e.graph.size(*to) as usize).enumerate() {
            let place = (at[1] + n as isize * into) as usize;
            value.data[place] = read(i);
            index.data[place] = i as f64;
        }
    });
    Ok(vec![value, index])
}
