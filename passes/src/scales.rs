//! Numbers leave the operands of products: `dot(x·k, y)` is `dot(x, y)·k`.
//!
//! An operand of a product lies in memory, so a scaled one would be written for it; scaling what comes
//! out costs nothing, where the product is. The gradient of `0.5 · dot(a, w)` scales its cotangent in this way.
//!
//! Only values that are in memory anyway lose their scale, and only where no other reader needs the scaled value
//! there, and no product is added to another in registers. Rounds elsewhere unless the number is a power of two; with `exact`
//! only those move. Requires a verified graph. O(nodes) time.

use std::collections::HashMap;

use gigac_ir::graph::{Graph, Node, Op, Region, ValueId};
use gigac_ir::pointwise::Pointwise;

use crate::pass::{Need, Pass, Report, Run, Scope};
use crate::rebuild::rebuild;

/// The pass.
pub const SCALES: Pass = Pass {
    name: "scales",
    about: "numbers leave the operands of products",
    need: Need::Optional,
    scope: Scope::All,
    run: Run::Graph(|graph, context| run(graph, context.options.exact)),
};

fn run(graph: Graph, exact: bool) -> (Graph, Report) {
    let old = graph.clone();
    let mut readers = Readers::default();
    readers.region(&old.root);
    let scales = readers.scales(exact);
    // What is scaled, in the new graph.
    let mut bare: HashMap<ValueId, ValueId> = HashMap::new();
    let graph = rebuild(graph, &mut |b, node, operands| {
        if scales.contains_key(&node.results[0]) {
            let scaled = usize::from(readers.number(node.operands[0]).is_some());
            bare.insert(node.results[0], operands[scaled]);
        }
        let factors = node.operands.iter().filter_map(|v| scales.get(v)).copied();
        let factors: Vec<f64> = factors.collect();
        if factors.is_empty() || !is_product(node) {
            return Ok(None);
        }
        let pairs = node.operands.iter().zip(operands);
        let operands: Vec<ValueId> =
            pairs.map(|(old, new)| bare.get(old).copied().unwrap_or(*new)).collect();
        let product = b.op(node.op.clone(), &operands)?;
        let factor = b.real(factors.iter().product());
        Ok(Some(vec![b.map(Pointwise::Mul, &[product, factor])?]))
    });
    (graph, Report::new().count(scales.len(), "scales behind products"))
}

/// Who makes and who reads each value. What a region gives is read by nobody that is known.
#[derive(Default)]
struct Readers<'g> {
    makers: HashMap<ValueId, &'g Node>,
    readers: HashMap<ValueId, Vec<Option<&'g Node>>>,
}

impl<'g> Readers<'g> {
    fn region(&mut self, region: &'g Region) {
        for node in &region.nodes {
            self.makers.extend(node.results.iter().map(|r| (*r, node)));
            node.operands.iter().for_each(|v| self.readers.entry(*v).or_default().push(Some(node)));
            node.region.iter().for_each(|body| self.region(body));
        }
        region.results.iter().for_each(|v| self.readers.entry(*v).or_default().push(None));
    }

    fn of(&self, value: ValueId) -> &[Option<&'g Node>] {
        self.readers.get(&value).map_or(&[], |r| r)
    }

    /// The scaled values that lose their scale, with what it is.
    fn scales(&self, exact: bool) -> HashMap<ValueId, f64> {
        let scaled = |node: &&Node| {
            let Op::Pointwise(Pointwise::Mul) = node.op else { return None };
            let value = node.results[0];
            let numbers = [0, 1].map(|i| self.number(node.operands[i]));
            let (factor, x) = match numbers {
                [Some(k), None] => (k, node.operands[1]),
                [None, Some(k)] => (k, node.operands[0]),
                _ => return None,
            };
            let rounds = exact && factor.to_bits() << 12 != 0;
            let moves = factor.is_normal() && !rounds && self.lies_in_memory(x);
            let readers = self.of(value);
            let leaves = readers.iter().all(|r| r.is_some_and(|r| self.takes(r)));
            let any = readers.iter().flatten().any(|r| is_product(r));
            (moves && leaves && any).then_some((value, factor))
        };
        self.makers.values().filter_map(scaled).collect()
    }

    fn number(&self, value: ValueId) -> Option<f64> {
        match self.makers.get(&value)?.op {
            Op::Real(x) => Some(x.get()),
            _ => None,
        }
    }

    /// Whether a value is no function that is computed where it is read.
    fn lies_in_memory(&self, value: ValueId) -> bool {
        self.makers.get(&value).is_none_or(|node| {
            matches!(
                node.op,
                Op::Repeat { .. }
                    | Op::Dot { .. }
                    | Op::Attend { .. }
                    | Op::AttendGrad { .. }
                    | Op::Param(..)
            )
        })
    }

    /// Whether a reader is a product that is not added to another one, or computes what it reads.
    fn takes(&self, reader: &Node) -> bool {
        let product = |v: &ValueId| self.makers.get(v).is_some_and(|n| is_product(n));
        let sums = |r: &Node| {
            matches!(r.op, Op::Pointwise(Pointwise::Add)) && r.operands.iter().all(product)
        };
        match reader.op {
            Op::Reduce { .. } | Op::Pointwise(_) => true,
            _ => {
                let added = self.of(reader.results[0]).iter().flatten().any(|r| sums(r));
                is_product(reader) && !added
            }
        }
    }
}

/// Whether a node sums products.
fn is_product(node: &Node) -> bool {
    matches!(&node.op, Op::Dot { axes } if !axes.is_empty())
}
