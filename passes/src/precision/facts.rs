//! What is known of the values of a graph before any is rounded.

use std::collections::{HashMap, HashSet};

use gigac_ir::graph::{Graph, Node, Op, Region, Slot, ValueId};
use gigac_ir::pointwise::Pointwise;

use super::is_product;
use crate::form::count_uses;

/// Facts by value.
#[derive(Default)]
pub(super) struct Facts {
    /// Depends on a parameter.
    depends: HashSet<ValueId>,
    /// A result of a reduction, or a pointwise function of such alone.
    statistics: HashSet<ValueId>,
    /// What `f32(x)` reads or gives, and views of it.
    pinned: HashSet<ValueId>,
    /// Carried values, as arguments of bodies, that their repeat does nothing but add to.
    sums: HashSet<ValueId>,
    /// Weights that are only looked up in.
    tables: HashSet<ValueId>,
    /// Weights without a copy in bf16.
    whole: HashSet<ValueId>,
}

impl Facts {
    /// The facts about a graph.
    pub(super) fn of(graph: &Graph) -> Self {
        let mut facts = Self::default();
        facts.find_sums(&graph.root, &count_uses(&graph.root));
        facts.find_tables(&graph.root);
        facts.find_whole(graph);
        facts.forward(graph, &graph.root);
        facts.pin_backward(&graph.root);
        facts
    }

    /// Whether a value depends on a parameter.
    pub(super) fn depends(&self, value: ValueId) -> bool {
        self.depends.contains(&value)
    }

    /// Whether `f32` pins a value.
    pub(super) fn is_pinned(&self, value: ValueId) -> bool {
        self.pinned.contains(&value)
    }

    /// Whether a carried value, as an argument of its body, is a sum in progress.
    pub(super) fn is_sum(&self, argument: ValueId) -> bool {
        self.sums.contains(&argument)
    }

    /// Whether a weight is only looked up in.
    pub(super) fn is_table(&self, value: ValueId) -> bool {
        self.tables.contains(&value)
    }

    /// Whether a value is a weight that has no copy in bf16.
    pub(super) fn is_whole(&self, value: ValueId) -> bool {
        self.whole.contains(&value)
    }

    /// Whether a value may be rounded for all that read it.
    pub(super) fn may_round(&self, graph: &Graph, value: ValueId) -> bool {
        graph.ty(value).dtype.is_real()
            && self.depends.contains(&value)
            && !self.statistics.contains(&value)
            && !self.pinned.contains(&value)
    }

    fn find_sums(&mut self, region: &Region, uses: &HashMap<ValueId, usize>) {
        for node in &region.nodes {
            let (Op::Repeat { carried, .. }, Some(body)) = (&node.op, &node.region) else {
                continue;
            };
            self.find_sums(body, uses);
            let sums = (0..*carried as usize).filter(|i| is_sum(body, *i, uses));
            self.sums.extend(sums.map(|i| body.args[1 + i]));
        }
    }

    fn find_tables(&mut self, root: &Region) {
        let weights = root.nodes.iter().filter(|n| matches!(n.op, Op::Param(_, Slot::Weight)));
        self.tables = weights.map(|n| n.results[0]).collect();
        self.keep_tables(root);
    }

    fn find_whole(&mut self, graph: &Graph) {
        let whole = |node: &&Node| match node.op {
            Op::Param(param, Slot::Weight) => !graph.params[param.index()].rounded,
            _ => false,
        };
        self.whole = graph.root.nodes.iter().filter(whole).map(|n| n.results[0]).collect();
    }

    /// Drops the weights that something other than a lookup reads.
    fn keep_tables(&mut self, region: &Region) {
        for node in &region.nodes {
            let looked_up = usize::from(matches!(node.op, Op::Gather { .. }));
            for value in &node.operands[looked_up..] {
                self.tables.remove(value);
            }
            if let (Op::Repeat { .. }, Some(body)) = (&node.op, &node.region) {
                self.keep_tables(body);
            }
        }
        for value in &region.results {
            self.tables.remove(value);
        }
    }

    fn forward(&mut self, graph: &Graph, region: &Region) {
        for node in &region.nodes {
            match (&node.op, &node.region) {
                (Op::Repeat { carried, .. }, Some(body)) => {
                    self.repeat(graph, node, body, *carried as usize);
                }
                _ => self.node(graph, node),
            }
        }
    }

    fn repeat(&mut self, graph: &Graph, node: &Node, body: &Region, carried: usize) {
        let arguments = &body.args[1..];
        self.pass(&node.operands[carried..], &arguments[carried..]);
        copy(&mut self.depends, &node.operands[..carried], &arguments[..carried]);
        let sums: Vec<ValueId> =
            arguments[..carried].iter().copied().filter(|a| self.sums.contains(a)).collect();
        self.statistics.extend(sums);
        // What a turn makes of a carried value is what the next one begins with.
        loop {
            self.forward(graph, body);
            if !copy(&mut self.depends, &body.results[..carried], &arguments[..carried]) {
                break;
            }
        }
        copy(&mut self.depends, &body.results[..carried], &node.results[..carried]);
        copy(&mut self.statistics, &arguments[..carried], &node.results[..carried]);
        self.pass(&body.results[carried..], &node.results[carried..]);
    }

    /// The same values under other names.
    fn pass(&mut self, from: &[ValueId], to: &[ValueId]) {
        for facts in [&mut self.depends, &mut self.statistics, &mut self.pinned] {
            copy(facts, from, to);
        }
    }

    fn node(&mut self, graph: &Graph, node: &Node) {
        let depends = |v: &ValueId| self.depends.contains(v);
        if matches!(node.op, Op::Param(..)) || node.operands.iter().any(depends) {
            self.depends.extend(&node.results);
        }
        let varying = |v: &ValueId| graph.ty(*v).dtype.is_real() && self.depends.contains(v);
        let statistic = |v: &ValueId| !varying(v) || self.statistics.contains(v);
        match &node.op {
            Op::Attend { .. } => {
                self.statistics.insert(node.results[1]);
            }
            Op::Reduce { .. } => self.statistics.extend(&node.results),
            Op::Dot { axes } if !axes.is_empty() && !is_product(graph, node) => {
                self.statistics.extend(&node.results);
            }
            op if (is_pointwise(op) || is_view(op))
                && node.operands.iter().any(varying)
                && node.operands.iter().all(statistic) =>
            {
                self.statistics.extend(&node.results);
            }
            _ => {}
        }
        let pins = matches!(node.op, Op::Pointwise(Pointwise::F32));
        if pins || is_view(&node.op) && self.pinned.contains(&node.operands[0]) {
            self.pinned.extend(&node.results);
        }
    }

    fn pin_backward(&mut self, region: &Region) {
        for node in region.nodes.iter().rev() {
            match (&node.op, &node.region) {
                (Op::Repeat { carried, .. }, Some(body)) => {
                    let carried = *carried as usize;
                    copy(&mut self.pinned, &node.results[carried..], &body.results[carried..]);
                    self.pin_backward(body);
                    let slices = 1 + carried..;
                    copy(&mut self.pinned, &body.args[slices], &node.operands[carried..]);
                }
                (Op::Pointwise(Pointwise::F32), _) => {
                    self.pinned.insert(node.operands[0]);
                }
                (op, _) if is_view(op) && self.pinned.contains(&node.results[0]) => {
                    self.pinned.insert(node.operands[0]);
                }
                _ => {}
            }
        }
    }
}

/// Passes membership on from values to their counterparts; says whether that is news.
fn copy(set: &mut HashSet<ValueId>, from: &[ValueId], to: &[ValueId]) -> bool {
    let pairs = from.iter().zip(to);
    pairs.fold(false, |news, (from, to)| (set.contains(from) && set.insert(*to)) || news)
}

/// Whether the next value of what a body carries is that value plus something, and nothing else
/// reads it on the way.
fn is_sum(body: &Region, index: usize, uses: &HashMap<ValueId, usize>) -> bool {
    let mut value = body.args[1 + index];
    let mut added = false;
    for node in &body.nodes {
        if node.operands.contains(&value) {
            let adds = matches!(node.op, Op::Pointwise(Pointwise::Add));
            if !adds || uses.get(&value) != Some(&1) {
                return false;
            }
            value = node.results[0];
            added = true;
        }
    }
    added && value == body.results[index] && uses.get(&value) == Some(&1)
}

/// Whether an operation computes each element from elements at the same place.
fn is_pointwise(op: &Op) -> bool {
    match op {
        Op::Pointwise(_) | Op::Cast(_) => true,
        Op::Dot { axes } => axes.is_empty(),
        _ => false,
    }
}

/// Whether an operation reads its first operand at other places and computes nothing.
pub(super) fn is_view(op: &Op) -> bool {
    matches!(
        op,
        Op::Rename { .. }
            | Op::Split { .. }
            | Op::Merge { .. }
            | Op::Slice { .. }
            | Op::Pad { .. }
            | Op::Broadcast { .. }
            | Op::Gather { .. }
    )
}
