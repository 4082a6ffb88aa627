//! Emits a matrix product: batch axes and blocks of n and m in the grid, a loop over blocks of k,
//! then the epilogue, on sums that are still in registers. Blocks of m follow one another, so that
//! the columns of n are packed once for all of them.
//!
//! A sum of products has a loop for each of them, one after the other, into the same sums.
//!
//! m are the axes of one operand alone, n those of the other; n is the side that has the fastest
//! axis of the result. Axes of one side become one variable; where they do not lie one behind
//! the other the offset has digits, and packing reads through them.

use std::collections::{BTreeSet, HashSet};

use gigac_ir::graph::{AxisId, DType, Graph, Node, Op, ValueId};
use gigac_ir::kernel::{Carry, Expr, Scalar, TileId, Var, VarId};
use gigac_ir::pointwise::Pointwise;

use super::group::Product;
use super::nest::positions;
use super::trace::{Context, Positions, Traced, Tracer};

/// The axes of a product's result by the operands that have them.
pub(crate) struct Sides {
    batch: BTreeSet<AxisId>,
    /// Those that the left operand has alone, and those that the right one has.
    own: [BTreeSet<AxisId>; 2],
}

impl Sides {
    /// The sides of a product.
    pub(crate) fn of(graph: &Graph, product: &Node) -> Self {
        let [a, b] = [0, 1].map(|i| graph.ty(product.operands[i]));
        let axes = || graph.ty(product.results[0]).axes.iter().copied();
        let own = [(a, b), (b, a)].map(|(x, y)| axes().filter(|v| x.has(*v) && !y.has(*v)));
        let batch = axes().filter(|v| a.has(*v) && b.has(*v)).collect();
        Self { batch, own: own.map(Iterator::collect) }
    }

    /// Whether two products have the same rows and columns, one way or the other.
    pub(crate) fn agree(&self, other: &Self) -> bool {
        let [a, b] = &other.own;
        self.batch == other.batch && (self.own == other.own || self.own == [b.clone(), a.clone()])
    }
}

/// Emits a product. `external` are the values that other units or results read.
pub(crate) fn emit(
    context: &Context<'_>,
    product: &Product<'_>,
    external: &HashSet<ValueId>,
) -> Traced {
    let graph = context.graph;
    let ends = product.epilogue.iter().map(|t| t.value);
    let kept: Vec<ValueId> =
        [product.sum()].into_iter().chain(ends).filter(|v| external.contains(v)).collect();
    let result = context.layouts.of(*kept.last().unwrap_or(&product.sum()));
    let Sides { batch, own: [a, b] } = Sides::of(graph, product.terms[0]);
    let ordered = |set: &BTreeSet<AxisId>| -> Vec<AxisId> {
        result.iter().copied().filter(|x| set.contains(x)).collect()
    };
    let a_is_fast = result.last().is_some_and(|x| a.contains(x));
    let (rows, cols) = if a_is_fast { (&b, &a) } else { (&a, &b) };
    let (batch, m, n) = (ordered(&batch), ordered(rows), ordered(cols));
    let depths: Vec<Vec<AxisId>> = product.terms.iter().map(|t| contracted(context, t)).collect();
    let extent = |axes: &[AxisId]| graph.elements(axes);
    let operands = product.terms.iter().flat_map(|t| &t.operands);
    let bf16 = operands.map(|v| graph.ty(*v).dtype).all(|dtype| dtype == DType::Bf16);
    let along: Vec<u64> = depths.iter().map(|k| extent(k)).collect();
    let sides = [extent(&m), extent(&n)];
    let tiles = context.machine.products(extent(&batch), sides, [1, 1], &along, bf16);

    let mut vars: Vec<Var> = batch
        .iter()
        .enumerate()
        .map(|(i, axis)| Var { name: format!("b{i}"), extent: graph.size(*axis), tile: 1 })
        .collect();
    let first = vars.len() as u32;
    vars.push(Var { name: "m".into(), extent: extent(&m), tile: tiles[0].rows });
    vars.push(Var { name: "n".into(), extent: extent(&n), tile: tiles[0].cols });
    let grid: Vec<VarId> = (0..first).chain([first + 1, first]).map(VarId).collect();
    for (i, (k, tiles)) in depths.iter().zip(&tiles).enumerate() {
        let name = if depths.len() == 1 { "k".into() } else { format!("k{i}") };
        vars.push(Var { name, extent: extent(k), tile: tiles.depth });
    }
    let mut groups: Vec<Vec<AxisId>> = batch.iter().map(|x| vec![*x]).collect();
    groups.extend([m, n]);
    let ids: Vec<VarId> = (0..first + 2).map(VarId).collect();
    let at = positions(context, &groups, &ids);

    let mut tracer = Tracer::new(context, vars, grid);
    let mut sum = tracer.emit(Expr::Real(0.0), Scalar::F32, vec![]);
    for (i, (term, k)) in product.terms.iter().zip(depths).enumerate() {
        let kv = VarId(first + 2 + i as u32);
        let mut here = at.clone();
        here.extend(positions(context, &[k], &[kv]));
        let swapped = Sides::of(graph, term).own[0] != *rows;
        sum = accumulate(&mut tracer, term, swapped, &here, kv, sum);
    }
    let end = |tracer: &mut Tracer<'_, '_>, value: ValueId, tile: TileId| {
        if kept.contains(&value) {
            tracer.store(value, &at, tile, false);
        }
        tracer.computed.insert(value, tile);
    };
    end(&mut tracer, product.sum(), sum);
    for task in &product.epilogue {
        let tile = tracer.unrounded(task.node, &at);
        end(&mut tracer, task.value, tile);
    }
    tracer.finish()
}

/// A loop that adds a product to a sum. The operand of rows comes first: the second one of the
/// graph when they are swapped.
fn accumulate(
    tracer: &mut Tracer<'_, '_>,
    product: &Node,
    swapped: bool,
    at: &Positions,
    kv: VarId,
    init: TileId,
) -> TileId {
    let [left, right] = if swapped { [1, 0] } else { [0, 1] }.map(|i| product.operands[i]);
    tracer.open(kv);
    let l = tracer.value(left, at, None);
    let r = tracer.value(right, at, None);
    let mut along: Vec<VarId> = tracer.union(&[l, r]);
    along.retain(|v| *v != kv);
    let dot = tracer.emit_here(Expr::Dot(l, r, kv), Scalar::F32, along.clone());
    let arg = tracer.fresh(Scalar::F32, along.clone());
    let sum = Expr::Pointwise(Pointwise::Add, vec![arg, dot]);
    let next = tracer.emit_here(sum, Scalar::F32, along.clone());
    let result = tracer.fresh(Scalar::F32, along);
    tracer.close(vec![Carry { init, arg, next, result }]);
    result
}

/// The contracted axes in the order in which the first operand's memory has them.
fn contracted(context: &Context<'_>, product: &Node) -> Vec<AxisId> {
    let Op::Dot { axes } = &product.op else { unreachable!("only products are contracted") };
    let order = &context.graph.ty(product.operands[0]).axes;
    let mut k: Vec<AxisId> = order.iter().copied().filter(|a| axes.contains(a)).collect();
    let base = super::select::base(&context.defs, product.operands[0]);
    if base == product.operands[0] {
        let layout = context.layouts.of(base);
        k.sort_by_key(|a| layout.iter().position(|x| x == a));
    }
    k
}
