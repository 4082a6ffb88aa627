//! Concatenations move outwards, and lookups that only reorder an axis become views.
//!
//! What is laid end to end is written to memory before it is read. So a function of a concatenation
//! becomes the concatenation of functions of its pieces, and pieces that are concatenations themselves
//! become part of the outer one: what is left is one, at the end, and the kernel that writes it
//! computes all the rest. `x·cos + cat(−b, a)·sin` becomes `cat(a·cos − b·sin, b·cos + a·sin)`.
//!
//! A lookup whose index is known at compile time and takes each position once (a rotation of an
//! axis, the neighbour in each pair) is slices laid end to end, or reversed; its gradient then is too,
//! instead of a scatter.
//!
//! Only values with one reader move. Requires a verified graph; preserves results to the bit. O(nodes)
//! time, and one evaluation of each index.

mod orders;
mod outwards;
mod stacks;

use std::collections::HashMap;

use gigac_ir::graph::{Graph, Node, Op, Region, ValueId};

use crate::pass::{Need, Pass, Report, Run, Scope};
use crate::rebuild::rebuild;
use outwards::Outwards;

pub use stacks::STACKS;

/// The pass.
pub const CATS: Pass = Pass {
    name: "cats",
    about: "concatenations move outwards, lookups that reorder an axis become views",
    need: Need::Optional,
    scope: Scope::All,
    run: Run::Graph(|graph, _| run(graph)),
};

fn run(graph: Graph) -> (Graph, Report) {
    let (graph, lookups) = reordered(graph);
    let (graph, moved) = moved(graph);
    let report = Report::new().count(lookups, "lookups became views");
    (graph, report.count(moved, "functions moved into concatenations"))
}

/// Lookups that reorder an axis become views. Gives how many.
fn reordered(graph: Graph) -> (Graph, usize) {
    let (old, mut count) = (graph.clone(), 0);
    let uses = Uses::of(&old);
    let graph = rebuild(graph, &mut |b, node, operands| {
        let view = orders::view(&uses, b, node, operands)?;
        count += usize::from(view.is_some());
        Ok(view.map(|v| vec![v]))
    });
    (graph, count)
}

/// Functions move into concatenations. Gives how many.
fn moved(graph: Graph) -> (Graph, usize) {
    let old = graph.clone();
    let uses = Uses::of(&old);
    let mut outwards = Outwards::new(&uses);
    let graph = rebuild(graph, &mut |b, node, operands| {
        let value = outwards.node(b, node, operands)?;
        Ok(value.map(|v| vec![v]))
    });
    (graph, outwards.moved)
}

/// Who makes each value of a graph, and how often it is read.
struct Uses<'g> {
    graph: &'g Graph,
    makers: HashMap<ValueId, &'g Node>,
    readers: HashMap<ValueId, usize>,
}

impl<'g> Uses<'g> {
    fn of(graph: &'g Graph) -> Self {
        let mut uses = Self { graph, makers: HashMap::new(), readers: HashMap::new() };
        uses.region(&graph.root);
        uses
    }

    fn region(&mut self, region: &'g Region) {
        for node in &region.nodes {
            self.makers.extend(node.results.iter().map(|r| (*r, node)));
            node.operands.iter().for_each(|v| *self.readers.entry(*v).or_default() += 1);
            node.region.iter().for_each(|body| self.region(body));
        }
        region.results.iter().for_each(|v| *self.readers.entry(*v).or_default() += 1);
    }

    /// Whether a value has one reader.
    fn once(&self, value: ValueId) -> bool {
        self.readers.get(&value) == Some(&1)
    }

    /// Whether a value is a product that nobody else reads, or computed from one: that is best done
    /// where the product is.
    fn ends_product(&self, value: ValueId) -> bool {
        self.once(value)
            && self.makers.get(&value).is_some_and(|node| match node.op {
                Op::Dot { .. } => true,
                Op::Pointwise(_) => node.operands.iter().any(|v| self.ends_product(*v)),
                _ => false,
            })
    }
}
