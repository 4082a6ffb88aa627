//! Decomposition: replaces operations that have no kernels of their own.
//!
//! - Attention becomes products, a softmax and the score function in the open.
//! - `top` becomes ranks: an element's rank is the number of those that beat it.
//! - A scatter over few elements becomes a sum of one-hot choices, which fuses.
//! - A product without free axes becomes multiply and sum.
//! - A reduction to few elements of much becomes two, so that the first one has rows to share out.
//!
//! Requires a verified graph. Exact, but for the order of additions in split sums.

use std::collections::BTreeSet;

use gigac_ir::graph::{AxisId, Builder, DType, Graph, Op, Region, ValueId};
use gigac_ir::kernel::Reduction;
use gigac_ir::ops::{self, OpError};
use gigac_ir::pointwise::Pointwise;

use crate::rebuild::rebuild;

/// Scatters over at most this many elements become sums.
const FEW: u64 = 16;
/// A reduction to fewer elements than this is split ...
const FEW_ROWS: u64 = 64;
/// ... when it reads at least this many.
const MUCH: u64 = 8192;

/// Decomposes a graph.
pub fn decompose(graph: Graph) -> Graph {
    let graph = attention(graph);
    let depth = repeated_axes(&graph.root);
    rebuild(graph, &mut |b, node, operands| match &node.op {
        Op::Top { axis, to } => top(b, operands[0], *axis, *to).map(Some),
        Op::Scatter { axes, to } if b.graph.elements(axes) <= FEW => {
            one_hot(b, operands, axes, *to, &depth).map(|v| Some(vec![v]))
        }
        Op::Dot { axes } if !axes.is_empty() && no_free_axes(b, operands) => {
            let product = b.map(Pointwise::Mul, operands)?;
            reduce(b, Reduction::Sum, product, axes, &depth).map(|v| Some(vec![v]))
        }
        Op::Reduce { op, axes } => reduce(b, *op, operands[0], axes, &depth).map(|v| Some(vec![v])),
        _ => Ok(None),
    })
}

/// Attention in terms of other operations: what the kernels of attention are judged by.
pub fn attention(graph: Graph) -> Graph {
    rebuild(graph, &mut |b, node, operands| match node.op {
        Op::Attend { .. } | Op::AttendGrad { .. } => {
            ops::attend::decompose(b, node, operands).map(Some)
        }
        _ => Ok(None),
    })
}

fn no_free_axes(b: &Builder, operands: &[ValueId]) -> bool {
    let [x, y] = [0, 1].map(|i| b.ty(operands[i]));
    x.axes.iter().all(|a| y.has(*a)) && y.axes.iter().all(|a| x.has(*a))
}

/// Values and positions of the largest, by rank.
fn top(b: &mut Builder, x: ValueId, axis: AxisId, to: AxisId) -> Result<Vec<ValueId>, OpError> {
    let (name, size) = (b.graph.axes[axis.index()].name.clone(), b.graph.size(axis));
    let other = b.graph.add_axis(&name, size);
    let rival = b.op(Op::Rename { from: axis, to: other }, &[x])?;
    let (here, there) = (b.op(Op::Pos(axis), &[])?, b.op(Op::Pos(other), &[])?);
    let larger = b.map(Pointwise::Gt, &[rival, x])?;
    let equal = b.map(Pointwise::Eq, &[rival, x])?;
    let earlier = b.map(Pointwise::Lt, &[there, here])?;
    let tie = b.map(Pointwise::And, &[equal, earlier])?;
    let beaten = b.map(Pointwise::Or, &[larger, tie])?;
    let (one, zero) = (b.int(1), b.int(0));
    let count = b.map(Pointwise::Where, &[beaten, one, zero])?;
    let rank = b.op(Op::Reduce { op: Reduction::Sum, axes: vec![other] }, &[count])?;
    let place = b.op(Op::Pos(to), &[])?;
    let hit = b.map(Pointwise::Eq, &[rank, place])?;
    let none = b.real(0.0);
    let chosen = b.map(Pointwise::Where, &[hit, x, none])?;
    let value = b.op(Op::Reduce { op: Reduction::Sum, axes: vec![axis] }, &[chosen])?;
    let chosen = b.map(Pointwise::Where, &[hit, here, zero])?;
    let index = b.op(Op::Reduce { op: Reduction::Sum, axes: vec![axis] }, &[chosen])?;
    let last = b.int(size as i64 - 1);
    Ok(vec![value, b.map(Pointwise::Min, &[index, last])?])
}

/// `Σ where(e == pos(to), x, 0)`.
fn one_hot(
    b: &mut Builder,
    operands: &[ValueId],
    axes: &[AxisId],
    to: AxisId,
    depth: &BTreeSet<AxisId>,
) -> Result<ValueId, OpError> {
    let place = b.op(Op::Pos(to), &[])?;
    let hit = b.map(Pointwise::Eq, &[operands[1], place])?;
    let zero = match b.ty(operands[0]).dtype {
        DType::Int { .. } => b.int(0),
        _ => b.real(0.0),
    };
    let chosen = b.map(Pointwise::Where, &[hit, operands[0], zero])?;
    if axes.is_empty() {
        return Ok(chosen);
    }
    reduce(b, Reduction::Sum, chosen, axes, depth)
}

/// A reduction, in two when it has few rows and much to read: first along the fastest axis.
fn reduce(
    b: &mut Builder,
    op: Reduction,
    x: ValueId,
    axes: &[AxisId],
    depth: &BTreeSet<AxisId>,
) -> Result<ValueId, OpError> {
    let order: Vec<AxisId> = b.ty(x).axes.iter().copied().filter(|a| axes.contains(a)).collect();
    let count = |axes: &mut dyn Iterator<Item = &AxisId>| -> u64 {
        axes.filter(|a| !depth.contains(a)).map(|a| b.graph.size(*a)).product()
    };
    let all = count(&mut b.ty(x).axes.iter());
    let rows = all / count(&mut axes.iter()).max(1);
    let Some((last, rest)) = order.split_last() else { unreachable!("reductions have axes") };
    if rows < FEW_ROWS && all >= MUCH && !rest.is_empty() {
        let part = b.op(Op::Reduce { op, axes: vec![*last] }, &[x])?;
        return b.op(Op::Reduce { op, axes: rest.to_vec() }, &[part]);
    }
    b.op(Op::Reduce { op, axes: axes.to_vec() }, &[x])
}

/// Axes that repeats run over: what is decided by sizes leaves them out, so that the plan has
/// the same shape for any depth.
pub(crate) fn repeated_axes(region: &Region) -> BTreeSet<AxisId> {
    let mut axes = BTreeSet::new();
    for node in &region.nodes {
        if let (Op::Repeat { axis, .. }, Some(body)) = (&node.op, &node.region) {
            axes.insert(*axis);
            axes.extend(repeated_axes(body));
        }
    }
    axes
}
