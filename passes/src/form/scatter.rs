//! Emits a scatter: a grid over the axes that stay; inside, zeros everywhere, then one addition
//! after the other in row-major order, so that the result does not depend on threads.

use gigac_ir::graph::{AxisId, Node, Op};
use gigac_ir::kernel::{Expr, Factor, Offset, Scalar, Var, VarId};

use super::nest::positions;
use super::trace::{Context, Traced, Tracer, replace, scalar};

/// Emits a scatter.
pub(crate) fn emit(context: &Context<'_>, node: &Node) -> Traced {
    let (graph, tiles) = (context.graph, context.machine.regions());
    let Op::Scatter { axes, to } = &node.op else { unreachable!("only scatters") };
    let value = node.results[0];
    let rest: Vec<AxisId> = context.layouts.of(value).iter().copied().filter(|a| a != to).collect();
    let mut vars: Vec<Var> = Vec::new();
    let last = rest.len().wrapping_sub(1);
    let others: u64 = graph.elements(&rest[..rest.len().saturating_sub(1)]);
    for (i, axis) in rest.iter().enumerate() {
        let extent = graph.size(*axis);
        let mut tile = if i == last { extent.next_power_of_two().min(tiles.vector) } else { 1 };
        while tile > tiles.least && extent.div_ceil(tile) * others < tiles.points {
            tile /= 2;
        }
        vars.push(Var { name: format!("r{i}"), extent, tile });
    }
    let grid: Vec<VarId> = (0..vars.len()).map(|i| VarId(i as u32)).collect();
    let (fill, walk) = (VarId(vars.len() as u32), VarId(vars.len() as u32 + 1));
    vars.push(Var { name: "fill".into(), extent: graph.size(*to), tile: 1 });
    vars.push(Var { name: "walk".into(), extent: graph.elements(axes), tile: 1 });
    let singles: Vec<Vec<AxisId>> = rest.iter().map(|a| vec![*a]).collect();
    let rows = positions(context, &singles, &grid);
    let mut tracer = Tracer::new(context, vars, grid);

    tracer.open(fill);
    let zero = match scalar(graph.ty(value).dtype) {
        Scalar::F32 => tracer.emit(Expr::Real(0.0), Scalar::F32, vec![]),
        _ => tracer.emit(Expr::Int(0), Scalar::I32, vec![]),
    };
    let place = replace(&rows, &[], &[(*to, Offset::var(fill))]);
    tracer.store(value, &place, zero, false);
    tracer.close(Vec::new());

    tracer.open(walk);
    let mut at = rows.clone();
    at.extend(positions(context, std::slice::from_ref(axes), &[walk]));
    let x = tracer.value(node.operands[0], &at, None);
    let e = tracer.value(node.operands[1], &at, None);
    let place = replace(&rows, &[], &[(*to, Offset::factor(Factor::Tile(e)))]);
    tracer.store(value, &place, x, true);
    tracer.close(Vec::new());
    tracer.finish()
}
