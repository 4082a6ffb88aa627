//! Emits a matrix product: batch axes and blocks of n and m in the grid, a loop over blocks of k,
//! then the epilogue, on sums that are still in registers. Blocks of m follow one another, so that
//! the columns of n are packed once for all of them.
//!
//! m are the axes of one operand alone, n those of the other; n is the side that has the fastest
//! axis of the result. Axes of one side become one variable; where they do not lie one behind
//! the other the offset has digits, and packing reads through them.

use std::collections::HashSet;

use gigac_ir::graph::{AxisId, Node, Op, ValueId};
use gigac_ir::kernel::{Carry, Expr, Scalar, TileId, Var, VarId, contraction_tiles};
use gigac_ir::pointwise::Pointwise;

use super::group::Product;
use super::nest::positions;
use super::trace::{Context, Traced, Tracer};

/// Emits a product. `external` are the values that other units or results read.
pub(crate) fn emit(
    context: &Context<'_>,
    product: &Product<'_>,
    external: &HashSet<ValueId>,
) -> Traced {
    let (graph, node) = (context.graph, product.node);
    let Op::Dot { axes } = &node.op else { unreachable!("only products are contracted") };
    let ends = product.epilogue.iter().map(|t| t.value);
    let kept: Vec<ValueId> =
        [node.results[0]].into_iter().chain(ends).filter(|v| external.contains(v)).collect();
    let result = context.layouts.of(*kept.last().unwrap_or(&node.results[0]));
    let [a, b] = [0, 1].map(|i| graph.ty(node.operands[i]));
    let batch: Vec<AxisId> = result.iter().copied().filter(|x| a.has(*x) && b.has(*x)).collect();
    let only_a: Vec<AxisId> = result.iter().copied().filter(|x| a.has(*x) && !b.has(*x)).collect();
    let only_b: Vec<AxisId> = result.iter().copied().filter(|x| b.has(*x) && !a.has(*x)).collect();
    let a_is_fast = result.last().is_some_and(|x| only_a.contains(x));
    let (left, right, m, n) = if a_is_fast {
        (node.operands[1], node.operands[0], only_b, only_a)
    } else {
        (node.operands[0], node.operands[1], only_a, only_b)
    };
    let k = contracted(context, node, axes);
    let extent = |axes: &[AxisId]| graph.elements(axes);
    let points = extent(&batch);
    let tiles = contraction_tiles(points, extent(&m), extent(&n), extent(&k));

    let mut vars: Vec<Var> = batch
        .iter()
        .enumerate()
        .map(|(i, axis)| Var { name: format!("b{i}"), extent: graph.size(*axis), tile: 1 })
        .collect();
    let first = vars.len() as u32;
    for (name, axes, tile) in [("m", &m, tiles.rows), ("n", &n, tiles.cols), ("k", &k, tiles.depth)]
    {
        vars.push(Var { name: name.into(), extent: extent(axes), tile });
    }
    let kv = VarId(first + 2);
    let grid: Vec<VarId> = (0..first).chain([first + 1, first]).map(VarId).collect();
    let mut groups: Vec<Vec<AxisId>> = batch.iter().map(|x| vec![*x]).collect();
    groups.extend([m, n, k]);
    let ids: Vec<VarId> = (0..first + 3).map(VarId).collect();
    let at = positions(context, &groups, &ids);

    let mut tracer = Tracer::new(context, vars, grid);
    let zero = tracer.emit(Expr::Real(0.0), Scalar::F32, vec![]);
    tracer.open(kv);
    let l = tracer.value(left, &at, None);
    let r = tracer.value(right, &at, None);
    let mut along: Vec<VarId> = tracer.union(&[l, r]);
    along.retain(|v| *v != kv);
    let dot = tracer.emit_here(Expr::Dot(l, r, kv), Scalar::F32, along.clone());
    let arg = tracer.fresh(Scalar::F32, along.clone());
    let sum = Expr::Pointwise(Pointwise::Add, vec![arg, dot]);
    let next = tracer.emit_here(sum, Scalar::F32, along.clone());
    let sum = tracer.fresh(Scalar::F32, along);
    tracer.close(vec![Carry { init: zero, arg, next, result: sum }]);
    let end = |tracer: &mut Tracer<'_, '_>, value: ValueId, tile: TileId| {
        if kept.contains(&value) {
            tracer.store(value, &at, tile, false);
        }
        tracer.computed.insert(value, tile);
    };
    end(&mut tracer, node.results[0], sum);
    for task in &product.epilogue {
        let tile = tracer.unrounded(task.node, &at);
        end(&mut tracer, task.value, tile);
    }
    tracer.finish()
}

/// The contracted axes in the order in which the first operand's memory has them.
fn contracted(context: &Context<'_>, node: &Node, axes: &[AxisId]) -> Vec<AxisId> {
    let order = &context.graph.ty(node.operands[0]).axes;
    let mut k: Vec<AxisId> = order.iter().copied().filter(|a| axes.contains(a)).collect();
    let base = super::select::base(&context.defs, node.operands[0]);
    if base == node.operands[0] {
        let layout = context.layouts.of(base);
        k.sort_by_key(|a| layout.iter().position(|x| x == a));
    }
    k
}
