//! A stack that becomes a piece of a concatenation is not written first: its elements are chosen.
//!
//! Pairs that were rotated are stacked, merged, and laid beside what passes. The stack becomes
//! `where(pos == 0, a, b)`, which the kernel of the concatenation computes. After differentiation: the
//! gradient of a stack is slices, that of a choice sums.
//!
//! Requires a verified graph; preserves results to the bit. O(nodes) time.

use std::collections::HashSet;

use gigac_ir::graph::{Builder, Graph, Node, Op, ValueId};
use gigac_ir::ops::OpError;
use gigac_ir::pointwise::Pointwise;

use super::Uses;
use crate::pass::{Need, Pass, Report, Run, Scope};
use crate::rebuild::rebuild;

/// The pass.
pub const STACKS: Pass = Pass {
    name: "stacks",
    about: "a stack that is a piece of a concatenation becomes a choice",
    need: Need::Optional,
    scope: Scope::All,
    run: Run::Graph(|graph, _| run(graph)),
};

/// Most values of a stack among which an element is chosen.
const MOST: usize = 4;

fn run(graph: Graph) -> (Graph, Report) {
    let (old, mut count) = (graph.clone(), 0);
    let uses = Uses::of(&old);
    let pieces = pieces(&uses);
    let graph = rebuild(graph, &mut |b, node, operands| {
        if !pieces.contains(&node.results[0]) {
            return Ok(None);
        }
        count += 1;
        choice(b, node, operands).map(|v| Some(vec![v]))
    });
    (graph, Report::new().count(count, "stacks became choices"))
}

/// The stacks that concatenations read, directly or through views, and nobody else.
fn pieces(uses: &Uses<'_>) -> HashSet<ValueId> {
    let cats = uses.makers.values().filter(|n| matches!(n.op, Op::Cat { .. }));
    cats.flat_map(|n| &n.operands).filter_map(|v| stack(uses, *v)).collect()
}

/// The stack that a value is a view of.
fn stack(uses: &Uses<'_>, value: ValueId) -> Option<ValueId> {
    let node = uses.makers.get(&value).filter(|_| uses.once(value))?;
    match &node.op {
        Op::Rename { .. } | Op::Split { .. } | Op::Merge { .. } => stack(uses, node.operands[0]),
        Op::Cat { pieces, .. } if pieces.len() <= MOST => {
            pieces.iter().all(Option::is_none).then_some(value)
        }
        _ => None,
    }
}

/// The elements of a stack, by their position in it.
fn choice(b: &mut Builder, node: &Node, operands: &[ValueId]) -> Result<ValueId, OpError> {
    let Op::Cat { to, .. } = node.op else { unreachable!("a stack is a concatenation") };
    let place = b.op(Op::Pos(to), &[])?;
    let (last, before) = operands.split_last().expect("a concatenation has pieces");
    let mut made = *last;
    for (i, operand) in before.iter().enumerate().rev() {
        let i = b.int(i as i64);
        let here = b.map(Pointwise::Eq, &[place, i])?;
        made = b.map(Pointwise::Where, &[here, *operand, made])?;
    }
    Ok(made)
}
