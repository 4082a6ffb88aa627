//! Rebuilds a graph node by node, letting a rule replace some of them.

use std::collections::HashMap;

use gigac_ir::graph::{Builder, Graph, Node, Op, Region, Role, ValueId};
use gigac_ir::ops::OpError;

/// Values of the old graph to those of the new one.
pub(crate) type Map = HashMap<ValueId, ValueId>;

/// What a rule makes of a node, given its operands in the new graph: its new results, or nothing
/// to copy it.
pub(crate) type Rule<'r> =
    dyn FnMut(&mut Builder, &Node, &[ValueId]) -> Result<Option<Vec<ValueId>>, OpError> + 'r;

/// What copies a region into the one that is open.
pub(crate) type Inside<'r> = dyn FnMut(&mut Builder, &Region, &mut Map) -> Result<(), OpError> + 'r;

/// The graph with a rule applied to every node that is not a repeat, and to the bodies of repeats.
///
/// # Panics
/// When the rule builds an ill-typed node: the passes only rewrite verified graphs.
pub(crate) fn rebuild(graph: Graph, rule: &mut Rule<'_>) -> Graph {
    regions(graph, &mut |builder, from, map| region(builder, from, map, rule))
}

/// The graph with its root copied by `inside`.
///
/// # Panics
/// As [`rebuild`].
pub(crate) fn regions(mut graph: Graph, inside: &mut Inside<'_>) -> Graph {
    let root = std::mem::take(&mut graph.root);
    let roles: Vec<Role> = std::mem::take(&mut graph.roles);
    let mut builder = Builder::new(graph);
    let mut map = Map::new();
    inside(&mut builder, &root, &mut map).unwrap_or_else(|e| panic!("a rule built {e}"));
    for (role, value) in roles.into_iter().zip(&root.results) {
        builder.result(role, map[value]);
    }
    builder.finish()
}

fn region(
    builder: &mut Builder,
    from: &Region,
    map: &mut Map,
    rule: &mut Rule<'_>,
) -> Result<(), OpError> {
    for node in &from.nodes {
        if matches!(node.op, Op::Repeat { .. }) {
            repeat(builder, node, map, &mut |b, body, map| region(b, body, map, rule))?;
            continue;
        }
        let operands: Vec<ValueId> = node.operands.iter().map(|v| map[v]).collect();
        builder.span = builder.graph.values[node.results[0].index()].span;
        let results = match rule(builder, node, &operands)? {
            Some(results) => results,
            None => builder.copy(node, &operands)?,
        };
        map.extend(node.results.iter().copied().zip(results));
    }
    Ok(())
}

/// Copies a repeat, its body by `inside`.
pub(crate) fn repeat(
    builder: &mut Builder,
    node: &Node,
    map: &mut Map,
    inside: &mut Inside<'_>,
) -> Result<(), OpError> {
    let (Some(body), Op::Repeat { axis, reversed, carried }) = (&node.region, &node.op) else {
        unreachable!("only repeats are copied so")
    };
    let operands: Vec<ValueId> = node.operands.iter().map(|v| map[v]).collect();
    let (carried, stacked) = operands.split_at(*carried as usize);
    let args = builder.open_repeat(*axis, carried, stacked);
    map.extend(body.args.iter().copied().zip(args));
    inside(builder, body, map)?;
    let out: Vec<ValueId> = body.results.iter().map(|v| map[v]).collect();
    let (next, stack) = out.split_at(carried.len());
    let results = builder.close_repeat((*axis, *reversed), carried, stacked, next, stack)?;
    map.extend(node.results.iter().copied().zip(results));
    Ok(())
}
