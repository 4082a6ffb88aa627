//! Rebuilds a graph node by node, letting a rule replace some of them.

use std::collections::HashMap;

use gigac_ir::graph::{Builder, Graph, Node, Op, Region, Role, ValueId};
use gigac_ir::ops::OpError;

/// What a rule makes of a node, given its operands in the new graph: its new results, or nothing
/// to copy it.
pub(crate) type Rule<'r> =
    dyn FnMut(&mut Builder, &Node, &[ValueId]) -> Result<Option<Vec<ValueId>>, OpError> + 'r;

/// The graph with a rule applied to every node that is not a repeat, and to the bodies of repeats.
///
/// # Panics
/// When the rule builds an ill-typed node: the passes only rewrite verified graphs.
pub(crate) fn rebuild(mut graph: Graph, rule: &mut Rule<'_>) -> Graph {
    let root = std::mem::take(&mut graph.root);
    let roles: Vec<Role> = std::mem::take(&mut graph.roles);
    let mut builder = Builder::new(graph);
    let mut map = HashMap::new();
    region(&mut builder, &root, &mut map, rule).unwrap_or_else(|e| panic!("a rule built {e}"));
    for (role, value) in roles.into_iter().zip(&root.results) {
        builder.result(role, map[value]);
    }
    builder.finish()
}

fn region(
    builder: &mut Builder,
    from: &Region,
    map: &mut HashMap<ValueId, ValueId>,
    rule: &mut Rule<'_>,
) -> Result<(), OpError> {
    for node in &from.nodes {
        let operands: Vec<ValueId> = node.operands.iter().map(|v| map[v]).collect();
        let results = match (&node.region, &node.op) {
            (Some(body), Op::Repeat { axis, reversed, carried }) => {
                let (carried, stacked) = operands.split_at(*carried as usize);
                let args = builder.open_repeat(*axis, carried, stacked);
                map.extend(body.args.iter().copied().zip(args));
                region(builder, body, map, rule)?;
                let out: Vec<ValueId> = body.results.iter().map(|v| map[v]).collect();
                let (next, stack) = out.split_at(carried.len());
                builder.close_repeat((*axis, *reversed), carried, stacked, next, stack)?
            }
            _ => match rule(builder, node, &operands)? {
                Some(results) => results,
                None => builder.copy(node, &operands)?,
            },
        };
        map.extend(node.results.iter().copied().zip(results));
    }
    Ok(())
}
