//! Which values are rounded where they are defined.
//!
//! One walk from the results back to the parameters: when a value is reached, all that read it have
//! been seen.

use std::collections::{HashMap, HashSet};

use gigac_ir::graph::{DType, Graph, Node, Op, Region, Slot, ValueId};
use gigac_ir::kernel::Reduction;
use gigac_ir::pointwise::Pointwise;

use super::facts::{Facts, is_view};
use super::{factors, is_product};

/// The values that are rounded for all that read them. Among them may be arguments of bodies, which
/// are then carried as bf16, results of repeats, which are then stacked as bf16, and
/// concatenations, whose pieces are rounded.
pub(super) fn rounded(graph: &Graph, facts: &Facts) -> HashSet<ValueId> {
    let mut choose = Choose { graph, facts, rounded: HashSet::new(), summed: HashMap::new() };
    for value in &graph.root.results {
        choose.read(*value, true);
    }
    choose.region(&graph.root);
    choose.rounded
}

struct Choose<'a> {
    graph: &'a Graph,
    facts: &'a Facts,
    rounded: HashSet<ValueId>,
    /// Of the values that something reads: whether all that read them only add them up, into a sum
    /// in f32 or a result of the program.
    summed: HashMap<ValueId, bool>,
}

impl Choose<'_> {
    fn read(&mut self, value: ValueId, summed: bool) {
        *self.summed.entry(value).or_insert(true) &= summed;
    }

    fn is_summed(&self, value: ValueId) -> bool {
        self.summed.get(&value).copied().unwrap_or(true)
    }

    fn round(&mut self, value: ValueId) {
        if self.facts.may_round(self.graph, value) && !self.facts.is_whole(value) {
            self.rounded.insert(value);
        }
    }

    /// Rounds a value that lies in memory, unless it is on its way into a sum.
    fn store(&mut self, value: ValueId) {
        if !self.is_summed(value) {
            self.round(value);
        }
    }

    fn region(&mut self, region: &Region) {
        for node in region.nodes.iter().rev() {
            match (&node.op, &node.region) {
                (Op::Repeat { carried, .. }, Some(body)) => {
                    self.repeat(node, body, *carried as usize);
                }
                _ => self.node(node),
            }
        }
    }

    fn repeat(&mut self, node: &Node, body: &Region, carried: usize) {
        let arguments = &body.args[1..];
        for (argument, next) in arguments.iter().zip(&body.results[..carried]) {
            self.read(*next, self.facts.is_sum(*argument));
        }
        for (stack, slice) in node.results.iter().zip(&body.results).skip(carried) {
            self.read(*slice, self.is_summed(*stack));
            self.store(*stack);
            if self.rounded.contains(stack) {
                self.round(*slice);
            }
        }
        self.region(body);
        for (argument, init) in arguments.iter().zip(&node.operands[..carried]) {
            let sum = self.facts.is_sum(*argument);
            self.read(*init, sum);
            if !sum {
                self.round(*argument);
            }
        }
        for (slice, stack) in arguments.iter().zip(&node.operands).skip(carried) {
            self.read(*stack, self.is_summed(*slice));
            // The whole is rounded in front of the repeat, where that may be.
            if self.rounded.remove(slice) {
                self.round(*stack);
            }
        }
    }

    fn node(&mut self, node: &Node) {
        self.read_operands(node);
        let result = node.results[0];
        if self.facts.depends(result) {
            for operand in &node.operands[..factors(self.graph, node)] {
                self.round(*operand);
            }
        }
        match &node.op {
            Op::Param(_, Slot::Weight) if !self.facts.is_table(result) => self.store(result),
            Op::Gather { .. } if self.facts.is_table(node.operands[0]) => self.store(result),
            Op::Dot { .. } if is_product(self.graph, node) => self.store(result),
            Op::Attend { .. } | Op::AttendGrad { .. } => {
                node.results.iter().for_each(|v| self.store(*v));
            }
            Op::Cat { .. } => self.store(result),
            // A view of a rounded value is rounded already.
            op if is_view(op) && self.rounded.remove(&result) => self.round(node.operands[0]),
            _ => {}
        }
    }

    fn read_operands(&mut self, node: &Node) {
        let on = self.is_summed(node.results[0]);
        for (i, value) in node.operands.iter().enumerate() {
            self.read(*value, on && self.is_linear(node, i));
        }
    }

    /// Whether a node adds up, scales by what depends on no parameter, or moves an operand.
    fn is_linear(&self, node: &Node, operand: usize) -> bool {
        let constant = |i: usize| !self.facts.depends(node.operands[i]);
        match &node.op {
            Op::Pointwise(Pointwise::Add | Pointwise::Sub | Pointwise::Neg | Pointwise::F32)
            | Op::Cast(DType::F32)
            | Op::Reduce { op: Reduction::Sum, .. } => true,
            Op::Pointwise(Pointwise::Mul) => constant(1 - operand),
            Op::Pointwise(Pointwise::Div) => operand == 0 && constant(1),
            Op::Pointwise(Pointwise::Where) => operand > 0,
            Op::Scatter { .. } => operand == 0,
            op => is_view(op) && operand == 0,
        }
    }
}
