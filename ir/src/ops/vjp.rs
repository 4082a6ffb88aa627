//! What gradient rules work with.
//!
//! A rule gets the cotangents of an operation's results and gives those of its operands. **The
//! axes of a cotangent are a subset of its value's axes**: along a missing axis it does not vary,
//! so the gradient of a sum costs nothing. Rules are written with the operations of the table, so
//! gradients are optimised like any other code.

use std::collections::{HashMap, HashSet};

use crate::graph::{AxisId, Bits, Builder, Node, Op, Type, ValueId};
use crate::kernel::Reduction;
use crate::ops::union;
use crate::pointwise::Pointwise;

/// A gradient rule: cotangents of the results to those of the operands.
pub type Rule = fn(&mut Vjp, &[Option<ValueId>]) -> Vec<Option<ValueId>>;

/// Gives the value of the forward pass at the place where the gradient is computed: itself, a
/// saved copy, or a recomputed one.
pub type Fetch<'a> = dyn FnMut(&mut Builder, ValueId) -> ValueId + 'a;

/// One application of a rule.
pub struct Vjp<'a> {
    /// Where the gradient is built.
    pub builder: &'a mut Builder,
    /// The node of the forward pass.
    pub node: &'a Node,
    /// Which operands want a cotangent.
    pub wanted: &'a [bool],
    /// Access to values of the forward pass.
    pub fetch: &'a mut Fetch<'a>,
}

/// No operand gets a gradient.
pub fn none(v: &mut Vjp, _: &[Option<ValueId>]) -> Vec<Option<ValueId>> {
    vec![None; v.node.operands.len()]
}

/// Whether results of an operation vary smoothly with its operands.
pub fn is_smooth(op: &Op) -> bool {
    !matches!(op, Op::Pointwise(Pointwise::Stop | Pointwise::Floor))
}

/// Reverse mode over nodes that stand in the region being built: cotangents of `sources`, given
/// that of one result. A source that the result does not depend on has none.
pub fn straight_line(
    builder: &mut Builder,
    tape: &[Node],
    sources: &[ValueId],
    (result, cotangent): (ValueId, ValueId),
) -> HashMap<ValueId, ValueId> {
    let mut active: HashSet<ValueId> = sources.iter().copied().collect();
    for node in tape {
        if is_smooth(&node.op) && node.operands.iter().any(|v| active.contains(v)) {
            active.extend(node.results.iter().filter(|v| builder.ty(**v).dtype.is_real()));
        }
    }
    let mut cotangents = HashMap::new();
    if active.contains(&result) {
        cotangents.insert(result, cotangent);
    }
    for node in tape.iter().rev() {
        let own = |v: &ValueId| !sources.contains(v);
        let g: Vec<Option<ValueId>> =
            node.results.iter().map(|v| own(v).then(|| cotangents.remove(v)).flatten()).collect();
        if g.iter().all(Option::is_none) {
            continue;
        }
        let wanted: Vec<bool> = node.operands.iter().map(|v| active.contains(v)).collect();
        let mut fetch = |_: &mut Builder, v: ValueId| v;
        let mut vjp = Vjp { builder, node, wanted: &wanted, fetch: &mut fetch };
        let parts = (super::def(&node.op).vjp)(&mut vjp, &g);
        for (operand, part) in node.operands.iter().zip(parts) {
            let Some(part) = part.filter(|_| active.contains(operand)) else { continue };
            let sum = match cotangents.get(operand) {
                Some(known) => vjp.map(Pointwise::Add, &[*known, part]),
                None => part,
            };
            cotangents.insert(*operand, sum);
        }
    }
    cotangents
}

impl Vjp<'_> {
    /// The value of an operand.
    pub fn operand(&mut self, i: usize) -> ValueId {
        (self.fetch)(self.builder, self.node.operands[i])
    }

    /// The value of a result.
    pub fn result(&mut self, i: usize) -> ValueId {
        (self.fetch)(self.builder, self.node.results[i])
    }

    /// The number that an operand is, when it is a constant.
    pub fn constant(&self, i: usize) -> Option<f64> {
        self.builder.constant(self.node.operands[i])
    }

    /// Axes of a value.
    pub fn axes(&self, value: ValueId) -> Vec<AxisId> {
        self.builder.ty(value).axes.clone()
    }

    /// Axes of an operand.
    pub fn operand_axes(&self, i: usize) -> Vec<AxisId> {
        self.axes(self.node.operands[i])
    }

    /// Adds a node. A rule that builds an ill-typed one is wrong for every input.
    pub fn emit(&mut self, op: Op, operands: &[ValueId]) -> ValueId {
        let name = super::def(&self.node.op).name;
        match self.builder.op(op, operands) {
            Ok(value) => value,
            Err(error) => panic!("the gradient of `{name}` is ill-typed: {error}"),
        }
    }

    /// A pointwise function.
    pub fn map(&mut self, function: Pointwise, operands: &[ValueId]) -> ValueId {
        self.emit(Op::Pointwise(function), operands)
    }

    /// A real constant.
    pub fn real(&mut self, x: f64) -> ValueId {
        self.emit(Op::Real(Bits::from(x)), &[])
    }

    /// A product; ones vanish.
    pub fn mul(&mut self, a: ValueId, b: ValueId) -> ValueId {
        match (self.builder.constant(a), self.builder.constant(b)) {
            (Some(1.0), _) => b,
            (_, Some(1.0)) => a,
            _ => self.map(Pointwise::Mul, &[a, b]),
        }
    }

    /// A multiple.
    pub fn scale(&mut self, a: ValueId, factor: f64) -> ValueId {
        let factor = self.real(factor);
        self.mul(a, factor)
    }

    /// `where(condition, a, 0)`, the way gradients leave out what was not taken.
    pub fn masked(&mut self, condition: ValueId, a: ValueId) -> ValueId {
        let zero = self.real(0.0);
        self.map(Pointwise::Where, &[condition, a, zero])
    }

    /// The sum over axes; none is no sum.
    pub fn sum(&mut self, a: ValueId, axes: Vec<AxisId>) -> ValueId {
        if axes.is_empty() {
            return a;
        }
        self.emit(Op::Reduce { op: Reduction::Sum, axes }, &[a])
    }

    /// The value with at least the given axes.
    pub fn spread(&mut self, a: ValueId, axes: &[AxisId]) -> ValueId {
        let missing: Vec<AxisId> =
            axes.iter().copied().filter(|x| !self.builder.ty(a).has(*x)).collect();
        if missing.is_empty() { a } else { self.emit(Op::Broadcast { axes: missing }, &[a]) }
    }

    /// The cotangent of a value with the axes `to` that was broadcast to the axes `from`: the sum
    /// over the others.
    pub fn fit(&mut self, g: ValueId, from: &[AxisId], to: &[AxisId]) -> ValueId {
        let extra = from.iter().copied().filter(|a| !to.contains(a));
        let (summed, constant): (Vec<_>, Vec<_>) = extra.partition(|a| self.builder.ty(g).has(*a));
        let g = self.sum(g, summed);
        match self.builder.graph.elements(&constant) {
            1 => g,
            n => self.scale(g, n as f64),
        }
    }

    /// Union of the operands' axes.
    pub fn union(&self) -> Vec<AxisId> {
        let types: Vec<&Type> = self.node.operands.iter().map(|v| self.builder.ty(*v)).collect();
        union(&types)
    }
}
