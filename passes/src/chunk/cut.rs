//! Which nodes of a region to cut, and along which axis.

use std::collections::{HashMap, HashSet};

use gigac_ir::graph::{AxisId, Graph, Node, Op, Region, ValueId};
use gigac_ir::kernel::Reduction;

use super::{Limits, adds_up};

/// A convex part of a region that can be computed chunk by chunk.
pub(super) struct Cut {
    /// The axis.
    pub(super) axis: AxisId,
    /// Number of chunks.
    pub(super) chunks: u64,
    /// Positions along the axis in each of them; those that are left over come last.
    pub(super) rows: u64,
    /// By node: whether it is in the part.
    pub(super) inside: Vec<bool>,
    /// By node: whether it must run after the part.
    pub(super) after: Vec<bool>,
    /// Sums along the axis.
    pub(super) sums: Vec<ValueId>,
    /// Values with the axis that are read behind the part.
    pub(super) stacked: Vec<ValueId>,
}

impl Cut {
    /// The nodes of the part, in order.
    pub(super) fn nodes<'r>(&self, region: &'r Region) -> impl Iterator<Item = &'r Node> + use<'r> {
        let inside = self.inside.clone();
        region.nodes.iter().zip(inside).filter(|(_, inside)| *inside).map(|(node, _)| node)
    }

    /// The nodes before, or after, the part.
    pub(super) fn outside<'r>(
        &'r self,
        region: &'r Region,
        after: bool,
    ) -> impl Iterator<Item = &'r Node> {
        let here = move |i: &usize| !self.inside[*i] && self.after[*i] == after;
        (0..region.nodes.len()).filter(here).map(|i| &region.nodes[i])
    }

    /// Values from before the part that have the axis, in order of first use.
    pub(super) fn sliced(&self, graph: &Graph, region: &Region) -> Vec<ValueId> {
        let own: HashSet<ValueId> = self.nodes(region).flat_map(|n| n.results.clone()).collect();
        let mut found = Vec::new();
        for value in self.nodes(region).flat_map(|n| &n.operands) {
            if graph.ty(*value).has(self.axis) && !own.contains(value) && !found.contains(value) {
                found.push(*value);
            }
        }
        found
    }
}

/// The first product of a region that expands an operand, with all that must be cut with it.
pub(super) fn find(graph: &Graph, region: &Region, limits: &Limits) -> Option<Cut> {
    let uses = Uses::of(region);
    let products = region.nodes.iter().enumerate().filter(|(_, n)| matches!(n.op, Op::Dot { .. }));
    products.into_iter().find_map(|(seed, node)| {
        let result = node.results[0];
        let elements = graph.elements(&graph.ty(result).axes);
        if elements < limits.least_elements {
            return None;
        }
        // Equal chunks along some axis, or else nearly all of it in equal chunks.
        [true, false].into_iter().find_map(|equal| {
            let axes = graph.ty(result).axes.iter();
            axes.filter_map(|axis| Some((*axis, chunks(graph, node, *axis, limits, equal)?)))
                .find_map(|(axis, chunks)| {
                    Part { graph, region, uses: &uses, axis, elements }.grow(seed, chunks)
                })
        })
    })
}

/// Number of chunks of a product along an axis, when it is worth cutting there: equal ones, or as many as
/// have enough rows.
fn chunks(graph: &Graph, node: &Node, axis: AxisId, limits: &Limits, equal: bool) -> Option<u64> {
    let [a, b] = [0, 1].map(|i| graph.ty(node.operands[i]));
    let (cut, other) = match (a.has(axis), b.has(axis)) {
        (true, false) => (a, b),
        (false, true) => (b, a),
        _ => return None,
    };
    let result = graph.ty(node.results[0]);
    if graph.elements(&result.axes) < limits.expansion * graph.elements(&cut.axes) {
        return None;
    }
    let rows = result.axes.iter().filter(|x| cut.has(**x) && !other.has(**x));
    let rows: u64 = rows.map(|x| graph.size(*x)).product();
    let size = graph.size(axis);
    let most = (rows / limits.least_rows).min(size);
    (2..=most).rev().find(|count| !equal || size.is_multiple_of(*count))
}

/// Who makes and who reads the values of a region, by index of the node.
struct Uses {
    maker: HashMap<ValueId, usize>,
    readers: HashMap<ValueId, Vec<usize>>,
    results: HashSet<ValueId>,
}

impl Uses {
    fn of(region: &Region) -> Self {
        let mut uses = Self {
            maker: HashMap::new(),
            readers: HashMap::new(),
            results: region.results.iter().copied().collect(),
        };
        for (i, node) in region.nodes.iter().enumerate() {
            uses.maker.extend(node.results.iter().map(|r| (*r, i)));
            for value in reads(node) {
                uses.readers.entry(value).or_default().push(i);
            }
        }
        uses
    }

    fn readers(&self, value: ValueId) -> &[usize] {
        self.readers.get(&value).map_or(&[], |r| r)
    }
}

/// Values that a node reads, bodies of repeats included.
fn reads(node: &Node) -> Vec<ValueId> {
    fn captured(region: &Region, found: &mut Vec<ValueId>) {
        for node in &region.nodes {
            found.extend(reads(node));
        }
        found.extend(&region.results);
    }
    let mut found = node.operands.clone();
    if let Some(body) = &node.region {
        captured(body, &mut found);
    }
    found
}

/// A part of a region while it grows around a product.
struct Part<'a> {
    graph: &'a Graph,
    region: &'a Region,
    uses: &'a Uses,
    axis: AxisId,
    /// Values with the axis and at least as many elements are not to be stored whole.
    elements: u64,
}

impl Part<'_> {
    /// All that computes or reads large values, and all between; nothing when the axis cannot be
    /// cut there, or nothing would be won.
    fn grow(&self, seed: usize, chunks: u64) -> Option<Cut> {
        let count = self.region.nodes.len();
        let mut inside = vec![false; count];
        inside[seed] = true;
        loop {
            let before = inside.clone();
            for node in 0..count {
                if inside[node] {
                    self.take_neighbours(node, &mut inside)?;
                }
            }
            let (after, needed) = (self.after(&inside), self.needed(&inside));
            (0..count).for_each(|i| inside[i] |= after[i] && needed[i]);
            if inside == before {
                return self.checked(inside, after, chunks);
            }
        }
    }

    fn is_large(&self, value: ValueId) -> bool {
        let ty = self.graph.ty(value);
        ty.has(self.axis) && self.graph.elements(&ty.axes) >= self.elements
    }

    /// Readers of a node's large results, and makers of its large operands; nothing when one of
    /// these enters or leaves the region: it lies in memory whole, and so may its like.
    fn take_neighbours(&self, node: usize, inside: &mut [bool]) -> Option<()> {
        let node = &self.region.nodes[node];
        for value in node.results.iter().filter(|v| self.is_large(**v)) {
            if self.uses.results.contains(value) {
                return None;
            }
            self.uses.readers(*value).iter().for_each(|reader| inside[*reader] = true);
        }
        // What is rounded is stacked rounded.
        for value in node.results.iter().filter(|v| self.graph.ty(**v).has(self.axis)) {
            let readers = self.uses.readers(*value).iter();
            let casts = readers.filter(|r| matches!(self.region.nodes[**r].op, Op::Cast(_)));
            casts.for_each(|reader| inside[*reader] = true);
        }
        for value in node.operands.iter().filter(|v| self.is_large(**v)) {
            let maker = *self.uses.maker.get(value)?;
            if !matches!(self.region.nodes[maker].op, Op::Param(..) | Op::Input(_)) {
                inside[maker] = true;
            }
        }
        Some(())
    }

    /// Nodes that read, directly or not, what the part computes.
    fn after(&self, inside: &[bool]) -> Vec<bool> {
        let mut after = vec![false; inside.len()];
        for (i, node) in self.region.nodes.iter().enumerate() {
            let follows = |v: &ValueId| {
                self.uses.maker.get(v).is_some_and(|m| *m < i && (inside[*m] || after[*m]))
            };
            after[i] = reads(node).iter().any(follows);
        }
        after
    }

    /// Nodes that the part reads from, directly or not.
    fn needed(&self, inside: &[bool]) -> Vec<bool> {
        let mut needed = vec![false; inside.len()];
        for (i, node) in self.region.nodes.iter().enumerate().rev() {
            if inside[i] || needed[i] {
                for value in reads(node) {
                    if let Some(maker) = self.uses.maker.get(&value) {
                        needed[*maker] = true;
                    }
                }
            }
        }
        needed
    }

    fn checked(&self, inside: Vec<bool>, after: Vec<bool>, chunks: u64) -> Option<Cut> {
        let (axis, rows) = (self.axis, self.graph.size(self.axis) / chunks);
        let (sums, stacked) = (Vec::new(), Vec::new());
        let mut cut = Cut { axis, chunks, rows, inside, after, sums, stacked };
        for node in cut.nodes(self.region) {
            let reads_sum = node.operands.iter().any(|v| cut.sums.contains(v));
            if reads_sum || !self.can_be_cut(node) {
                return None;
            }
            if self.is_sum(node) {
                cut.sums.push(node.results[0]);
            }
        }
        let leaves = |value: &ValueId| {
            self.uses.results.contains(value)
                || self.uses.readers(*value).iter().any(|reader| !cut.inside[*reader])
        };
        let results = cut.nodes(self.region).map(|n| n.results[0]);
        cut.stacked = results.filter(|v| !cut.sums.contains(v) && leaves(v)).collect();
        Some(cut)
    }

    /// Whether a node sums over the axis.
    fn is_sum(&self, node: &Node) -> bool {
        match &node.op {
            Op::Reduce { axes, .. } | Op::Dot { axes } => axes.contains(&self.axis),
            _ => false,
        }
    }

    /// Whether a chunk of a node's result is the same operation on chunks of its operands, or
    /// its result the sum of those of all chunks.
    fn can_be_cut(&self, node: &Node) -> bool {
        let result = self.graph.ty(node.results[0]);
        let elsewhere = |axes: &[AxisId]| !axes.contains(&self.axis);
        match &node.op {
            _ if self.is_sum(node) => {
                let sum = !matches!(node.op, Op::Reduce { op: Reduction::Max, .. });
                sum && adds_up(result.dtype)
            }
            _ if !result.has(self.axis) => false,
            Op::Pos(_)
            | Op::Pointwise(_)
            | Op::Cast(_)
            | Op::Broadcast { .. }
            | Op::Reduce { .. }
            | Op::Dot { .. } => true,
            Op::Rename { from, to } => elsewhere(&[*from, *to]),
            Op::Split { from, to } => elsewhere(&[*from]) && elsewhere(to),
            Op::Merge { from, to } => elsewhere(from) && elsewhere(&[*to]),
            Op::Slice { axis, to, .. } => elsewhere(&[*axis]) && elsewhere(to.as_slice()),
            Op::Pad { axis, to, .. } => elsewhere(axis.as_slice()) && elsewhere(&[*to]),
            Op::Gather { axis } => elsewhere(&[*axis]),
            _ => false,
        }
    }
}
