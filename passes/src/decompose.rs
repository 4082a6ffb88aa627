//! Decomposition: replaces operations that have no kernels of their own.
//!
//! - Attention over axes that its kernels do not take becomes products, a softmax and the score function in the
//!   open. On GPUs kernels multiply bf16 only, and heads of at most 256.
//! - `top` becomes ranks: an element's rank is the number of those that beat it.
//! - A scatter over few elements becomes a sum of one-hot choices, which fuses.
//! - A product without free axes becomes multiply and sum.
//! - A product that sums over a single element is no contraction: it multiplies.
//!
//! Requires a verified graph; preserves results. O(nodes) time.

use gigac_ir::graph::{AxisId, Builder, DType, Graph, Op, ValueId};
use gigac_ir::kernel::{Machine, Reduction};
use gigac_ir::ops::{self, OpError};
use gigac_ir::pointwise::Pointwise;

use crate::form::has_kernels;
use crate::pass::{Need, Pass, Report, Run, Scope};
use crate::rebuild::rebuild;

/// The pass.
pub const DECOMPOSE: Pass = Pass {
    name: "decompose",
    about: "operations without kernels of their own become others",
    need: Need::Necessary("`top` has no kernel of its own"),
    scope: Scope::All,
    run: Run::Graph(|graph, context| run(graph, context.options.machine())),
};

/// Scatters over at most this many elements become sums.
const FEW: u64 = 16;

/// Decomposes a graph for CPUs.
pub fn decompose(graph: Graph) -> Graph {
    run(graph, Machine::Cpu).0
}

fn run(graph: Graph, machine: Machine) -> (Graph, Report) {
    let mut attentions = 0;
    let graph = rebuild(graph, &mut |b, node, operands| match node.op {
        Op::Attend { .. } | Op::AttendGrad { .. } if !has_kernels(&b.graph, node, machine) => {
            attentions += 1;
            ops::attend::decompose(b, node, operands).map(Some)
        }
        _ => Ok(None),
    });
    let (mut tops, mut scatters, mut products, mut singles) = (0, 0, 0, 0);
    let graph = rebuild(graph, &mut |b, node, operands| match &node.op {
        Op::Top { axis, to } => {
            tops += 1;
            top(b, operands[0], *axis, *to).map(Some)
        }
        Op::Scatter { axes, to } if b.graph.elements(axes) <= FEW => {
            scatters += 1;
            one_hot(b, operands, axes, *to).map(|v| Some(vec![v]))
        }
        Op::Dot { axes } if !axes.is_empty() && no_free_axes(b, operands) => {
            products += 1;
            let product = b.map(Pointwise::Mul, operands)?;
            sum(b, product, axes).map(|v| Some(vec![v]))
        }
        Op::Dot { axes } if !axes.is_empty() && b.graph.elements(axes) == 1 => {
            singles += 1;
            let [x, y] = [0, 1].map(|i| single(b, operands[i], axes));
            b.op(Op::Dot { axes: vec![] }, &[x?, y?]).map(|v| Some(vec![v]))
        }
        _ => Ok(None),
    });
    let report = Report::new()
        .count(attentions, "attentions without kernels in the open")
        .count(tops, "`top` as ranks")
        .count(scatters, "small scatters as sums")
        .count(products, "products without free axes as sums")
        .count(singles, "products over one element as pointwise ones");
    (graph, report)
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

/// The value at the only position of some axes.
fn single(b: &mut Builder, x: ValueId, axes: &[AxisId]) -> Result<ValueId, OpError> {
    axes.iter()
        .try_fold(x, |x, axis| b.op(Op::Slice { axis: *axis, to: None, start: 0, stride: 1 }, &[x]))
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
    sum(b, chosen, axes)
}

fn sum(b: &mut Builder, x: ValueId, axes: &[AxisId]) -> Result<ValueId, OpError> {
    b.op(Op::Reduce { op: Reduction::Sum, axes: axes.to_vec() }, &[x])
}
