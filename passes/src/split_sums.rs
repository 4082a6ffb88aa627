//! Reductions of much to little become several, so that all but the last have rows to share out among
//! threads: first along the fastest axes, then along the rest.
//!
//! Requires a verified graph; preserves results but for the order of additions. O(nodes) time.

use std::collections::BTreeSet;

use gigac_ir::graph::{AxisId, Builder, Graph, Op, ValueId};
use gigac_ir::kernel::Reduction;
use gigac_ir::ops::OpError;

use crate::depth::repeated_axes;
use crate::pass::{Need, Pass, Report, Run, Scope};
use crate::rebuild::rebuild;

/// The pass.
pub const SPLIT_SUMS: Pass = Pass {
    name: "split-sums",
    about: "a reduction of much to little becomes several, so that threads can share it",
    need: Need::Optional,
    scope: Scope::All,
    run: Run::Graph(|graph, context| match context.options.exact {
        true => (graph, Report::new().note("off: it adds in another order")),
        false => run(graph),
    }),
};

/// A reduction to fewer elements than this is split ...
const FEW_ROWS: u64 = 64;
/// ... when it reads at least this many ...
const MUCH: u64 = 8192;
/// ... or, for each turn of a repeat whose results it adds up, this many.
const MUCH_OF_A_TURN: u64 = 1024;
/// Sums of fewer numbers than this take another axis along.
const LONG: u64 = 1024;

/// Splits the reductions of a graph.
pub fn split_sums(graph: Graph) -> Graph {
    run(graph).0
}

fn run(graph: Graph) -> (Graph, Report) {
    let depth = repeated_axes(&graph.root);
    let mut split = 0;
    let graph = rebuild(graph, &mut |b, node, operands| match &node.op {
        Op::Reduce { op, axes } => {
            let parts = parts(b, *op, operands[0], axes, &depth)?;
            split += usize::from(parts.is_some());
            Ok(parts.map(|v| vec![v]))
        }
        _ => Ok(None),
    });
    (graph, Report::new().count(split, "reductions split"))
}

/// The reductions that stand for one, when it has few rows and much to read.
fn parts(
    b: &mut Builder,
    op: Reduction,
    x: ValueId,
    axes: &[AxisId],
    depth: &BTreeSet<AxisId>,
) -> Result<Option<ValueId>, OpError> {
    let order: Vec<AxisId> = b.ty(x).axes.iter().copied().filter(|a| axes.contains(a)).collect();
    let count = |axes: &[AxisId]| -> u64 {
        axes.iter().filter(|a| !depth.contains(a)).map(|a| b.graph.size(*a)).product()
    };
    let all = count(&b.ty(x).axes);
    let rows = all / count(axes).max(1);
    let much = if order.iter().any(|a| depth.contains(a)) { MUCH_OF_A_TURN } else { MUCH };
    if rows >= FEW_ROWS || all < much || order.len() < 2 {
        return Ok(None);
    }
    // Short axes are added up together, as long as enough rows are left.
    let longer = |from: usize| {
        from > 1 && count(&order[from..]) < LONG && rows * count(&order[..from - 1]) >= FEW_ROWS
    };
    let mut from = order.len() - 1;
    while longer(from) {
        from -= 1;
    }
    let (rest, first) = order.split_at(from);
    let part = b.op(Op::Reduce { op, axes: first.to_vec() }, &[x])?;
    match parts(b, op, part, rest, depth)? {
        Some(sum) => Ok(Some(sum)),
        None => b.op(Op::Reduce { op, axes: rest.to_vec() }, &[part]).map(Some),
    }
}
