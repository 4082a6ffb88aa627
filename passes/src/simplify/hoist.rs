//! Hoisting: nodes that depend on no argument of a repeat's body move in front of the repeat.
//!
//! Requires a well-formed graph; preserves results. Inner repeats go first, so a node leaves as
//! many bodies as it can. O(depth · operands) time.

use std::collections::HashSet;

use gigac_ir::graph::{Graph, Node, Op, Region, ValueId};

use crate::pass::{Need, Pass, Report, Run, Scope};

/// The pass.
pub const HOIST: Pass = Pass {
    name: "hoist",
    about: "what does not depend on the turn leaves the body of a repeat",
    need: Need::Optional,
    scope: Scope::All,
    run: Run::Graph(|graph, _| run(graph)),
};

/// Moves invariant nodes out of repeats.
pub fn hoist(graph: Graph) -> Graph {
    run(graph).0
}

fn run(mut graph: Graph) -> (Graph, Report) {
    let moved = visit(&mut graph.root);
    (graph, Report::new().count(moved, "nodes out of a repeat"))
}

/// Gives the number of nodes moved.
fn visit(region: &mut Region) -> usize {
    let mut nodes = Vec::new();
    let mut moved = 0;
    for mut node in std::mem::take(&mut region.nodes) {
        if let (Op::Repeat { .. }, Some(body)) = (&node.op, &mut node.region) {
            moved += visit(body);
            let outside = invariant(body);
            moved += outside.len();
            nodes.extend(outside);
        }
        nodes.push(node);
    }
    region.nodes = nodes;
    moved
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
