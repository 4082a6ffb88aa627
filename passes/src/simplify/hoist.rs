//! Hoisting: nodes that depend on no argument of a repeat's body move in front of the repeat.
//!
//! Requires a well-formed graph; preserves results. Inner repeats go first, so a node leaves as
//! many bodies as it can. O(depth · operands) time.

use std::collections::HashSet;

use gigac_ir::graph::{Graph, Node, Op, Region, ValueId};

/// Moves invariant nodes out of repeats.
pub fn hoist(mut graph: Graph) -> Graph {
    visit(&mut graph.root);
    graph
}

fn visit(region: &mut Region) {
    let mut nodes = Vec::new();
    for mut node in std::mem::take(&mut region.nodes) {
        if let (Op::Repeat { .. }, Some(body)) = (&node.op, &mut node.region) {
            visit(body);
            nodes.extend(invariant(body));
        }
        nodes.push(node);
    }
    region.nodes = nodes;
}

/// Takes the nodes out of a body that depend on none of its arguments.
fn invariant(body: &mut Region) -> Vec<Node> {
    let mut variant: HashSet<ValueId> = body.args.iter().copied().collect();
    let (inside, outside): (Vec<Node>, Vec<Node>) =
        std::mem::take(&mut body.nodes).into_iter().partition(|node| {
            let depends = reads(node, &variant);
            if depends {
                variant.extend(&node.results);
            }
            depends
        });
    body.nodes = inside;
    outside
}

/// Whether a node, or the body of a repeat, reads one of the values.
fn reads(node: &Node, values: &HashSet<ValueId>) -> bool {
    node.operands.iter().any(|v| values.contains(v))
        || node.region.as_ref().is_some_and(|body| {
            body.results.iter().any(|v| values.contains(v))
                || body.nodes.iter().any(|n| reads(n, values))
        })
}
