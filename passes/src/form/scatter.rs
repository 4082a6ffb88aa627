//! Emits a scatter: a grid over the axes that stay; inside, zeros everywhere, then one addition
//! after the other in row-major order, so that the result does not depend on threads.
//!
//! Where the axes that stay give too few grid points, the axis that is scattered to is in the grid too:
//! of `n` points each takes every `n`-th position, and of the additions those that meet it.
//! Neighbouring positions go to different points, since those that are met most often are often
//! neighbours.

use gigac_ir::graph::{AxisId, Node, Op};
use gigac_ir::kernel::{Expr, Factor, Offset, Scalar, Stmt, TileId, Var, VarId};
use gigac_ir::pointwise::Pointwise;

use super::nest::positions;
use super::trace::{Context, Traced, Tracer, replace, scalar};

/// How a scatter is shared out.
struct Shape {
    /// All variables: the grid's, `fill` and `walk`.
    vars: Vec<Var>,
    /// Grid points that share the positions scattered to.
    shares: u64,
}

impl Shape {
    fn of(context: &Context<'_>, rest: &[AxisId], (axes, to): (&[AxisId], AxisId)) -> Self {
        let (graph, tiles) = (context.graph, context.machine.regions());
        let last = rest.len().wrapping_sub(1);
        let others: u64 = graph.elements(&rest[..rest.len().saturating_sub(1)]);
        let row = |(i, axis): (usize, &AxisId)| {
            let extent = graph.size(*axis);
            let mut tile = if i == last { extent.next_power_of_two().min(tiles.vector) } else { 1 };
            while tile > tiles.columns && extent.div_ceil(tile) * others < tiles.points {
                tile /= 2;
            }
            Var { name: format!("r{i}"), extent, tile }
        };
        let mut vars: Vec<Var> = rest.iter().enumerate().map(row).collect();
        let points: u64 = vars.iter().map(Var::tiles).product();
        let shares = (tiles.points / points).clamp(1, graph.size(to));
        let one = |name: &str, extent: u64| Var { name: name.into(), extent, tile: 1 };
        vars.push(one("share", shares));
        vars.push(one("fill", graph.size(to).div_ceil(shares)));
        vars.push(one("walk", graph.elements(axes)));
        Self { vars, shares }
    }
}

/// Emits a scatter.
pub(crate) fn emit(context: &Context<'_>, node: &Node) -> Traced {
    let graph = context.graph;
    let Op::Scatter { axes, to } = &node.op else { unreachable!("only scatters") };
    let value = node.results[0];
    let rest: Vec<AxisId> = context.layouts.of(value).iter().copied().filter(|a| a != to).collect();
    let Shape { vars, shares } = Shape::of(context, &rest, (axes, *to));
    let rows: Vec<VarId> = (0..rest.len()).map(|i| VarId(i as u32)).collect();
    let [share, fill, walk] = [0, 1, 2].map(|i| VarId((rest.len() + i) as u32));
    let grid = [&[share], &rows[..]].concat();
    let singles: Vec<Vec<AxisId>> = rest.iter().map(|a| vec![*a]).collect();
    let rows = positions(context, &singles, &rows);
    let mut tracer = Tracer::new(context, vars, grid);
    let int =
        |tracer: &mut Tracer<'_, '_>, i: u64| tracer.emit(Expr::Int(i as i32), Scalar::I32, vec![]);

    tracer.open(fill);
    let zero = match scalar(graph.ty(value).dtype) {
        Scalar::F32 => tracer.emit(Expr::Real(0.0), Scalar::F32, vec![]),
        _ => int(&mut tracer, 0),
    };
    let own = Offset::var(fill).times(shares as i64).plus(&Offset::var(share));
    let own = super::digits::simplify(own, &tracer.kernel.vars);
    let ragged = !graph.size(*to).is_multiple_of(shares);
    let inside: Option<TileId> = ragged.then(|| {
        let (position, end) = (tracer.index(&own), int(&mut tracer, graph.size(*to)));
        tracer.pointwise(Pointwise::Lt, &[position, end])
    });
    tracer.store_where(value, &replace(&rows, &[], &[(*to, own)]), zero, inside, false);
    tracer.close(Vec::new());

    tracer.open(walk);
    let mut at = rows.clone();
    at.extend(positions(context, std::slice::from_ref(axes), &[walk]));
    let e = tracer.value(node.operands[1], &at, None);
    let meets: Option<TileId> = (shares > 1).then(|| {
        let shares = int(&mut tracer, shares);
        let (own, of) =
            (tracer.index(&Offset::var(share)), tracer.pointwise(Pointwise::Mod, &[e, shares]));
        tracer.pointwise(Pointwise::Eq, &[of, own])
    });
    if let Some(meets) = meets {
        tracer.push(Stmt::When(meets));
    }
    let x = tracer.value(node.operands[0], &at, meets);
    let place = replace(&rows, &[], &[(*to, Offset::factor(Factor::Tile(e)))]);
    tracer.store_where(value, &place, x, meets, true);
    tracer.close(Vec::new());
    tracer.finish()
}
