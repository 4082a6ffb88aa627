//! Operands of attention that the way back reads as they are, instead of making them again.
//!
//! Attention reads its queries and keys from memory, so what rotates them or adds a bias is stored
//! on the way forward anyway. When only linear functions lie between what is kept and such an
//! operand, the way back needs nothing from in between: the operand is kept in place of what it was
//! made of, which nobody reads any more.

use std::collections::{HashMap, HashSet};

use gigac_ir::graph::{Node, Op, ValueId};
use gigac_ir::ops::attend;
use gigac_ir::pointwise::Pointwise;

use super::forward::Taped;

/// The operands of a body's attentions that are linear in what the body keeps or was given.
pub(super) fn moved(tape: &[Taped], arguments: &[ValueId]) -> Vec<ValueId> {
    let body = Body::of(tape, arguments);
    let attentions = nodes(tape).filter(|n| matches!(n.op, Op::Attend { .. }));
    let operands = attentions.flat_map(|n| &n.operands[..attend::fixed(&n.op)]);
    let mut found: Vec<ValueId> = Vec::new();
    for value in operands.map(|v| body.base(*v)) {
        if body.linear.contains(&value) && !found.contains(&value) {
            found.push(value);
        }
    }
    found
}

fn nodes(tape: &[Taped]) -> impl Iterator<Item = &Node> {
    tape.iter().filter_map(|item| match item {
        Taped::Node(node) => Some(node),
        Taped::Repeat(_) => None,
    })
}

/// What is known of the values of a body.
struct Body<'t> {
    maker: HashMap<ValueId, &'t Node>,
    /// Values that depend on arguments of the body or on what it keeps, and these.
    varying: HashSet<ValueId>,
    /// Those among them that are linear in arguments and kept values, and are neither.
    linear: HashSet<ValueId>,
}

impl<'t> Body<'t> {
    fn of(tape: &'t [Taped], arguments: &[ValueId]) -> Self {
        let kept = tape.iter().flat_map(Taped::kept);
        let given: HashSet<ValueId> = arguments.iter().copied().chain(kept).collect();
        let mut body =
            Self { maker: HashMap::new(), varying: given.clone(), linear: HashSet::new() };
        for node in nodes(tape).filter(|n| !given.contains(&n.results[0])) {
            let value = node.results[0];
            body.maker.insert(value, node);
            if node.operands.iter().any(|v| body.varying.contains(v)) {
                body.varying.insert(value);
                let known = |v: &ValueId| {
                    !body.varying.contains(v) || given.contains(v) || body.linear.contains(v)
                };
                if body.is_linear(node) && node.operands.iter().all(known) {
                    body.linear.insert(value);
                }
            }
        }
        body
    }

    /// What other names and parts of a value belong to.
    fn base(&self, mut value: ValueId) -> ValueId {
        while let Some(node) = self.maker.get(&value)
            && is_view(&node.op)
        {
            value = node.operands[0];
        }
        value
    }

    fn is_linear(&self, node: &Node) -> bool {
        let constant = |i: usize| !self.varying.contains(&node.operands[i]);
        match &node.op {
            Op::Pointwise(Pointwise::Add | Pointwise::Sub | Pointwise::Neg | Pointwise::F32)
            | Op::Pad { .. }
            | Op::Broadcast { .. }
            | Op::Cat { .. } => true,
            Op::Pointwise(Pointwise::Mul) => constant(0) || constant(1),
            Op::Pointwise(Pointwise::Div) => constant(1),
            op => is_view(op),
        }
    }
}

fn is_view(op: &Op) -> bool {
    matches!(op, Op::Rename { .. } | Op::Split { .. } | Op::Merge { .. } | Op::Slice { .. })
}
