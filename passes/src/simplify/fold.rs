//! Folding: rebuilds the graph, leaving out what does nothing.
//!
//! - Pointwise functions of constants are computed, equal nodes become one (both by the builder).
//! - Exact identities: `x·1`, `x/1`, `x − 0`, `−(−x)`, `where` with a known condition or equal
//!   branches, a cast to the type at hand, reductions over nothing, renames back, whole slices.
//! - A slice of a slice is one slice.
//!   `x + 0` stays: it turns −0 into 0.
//! - A carried value that its repeat never changes is captured instead.
//!
//! Requires a verified graph; preserves results to the bit. O(nodes) time.

use std::collections::HashMap;

use gigac_ir::graph::{Builder, Graph, Node, Op, Region, ValueId};
use gigac_ir::ops::{self, OpError};
use gigac_ir::pointwise::Pointwise;

use super::nodes;
use crate::pass::{Need, Pass, Report, Run, Scope};

/// The pass.
pub const FOLD: Pass = Pass {
    name: "fold",
    about: "constants are computed, equal values become one, what does nothing goes",
    need: Need::Optional,
    scope: Scope::All,
    run: Run::Graph(|graph, _| {
        let before = nodes(&graph.root);
        let graph = fold(graph);
        let left = nodes(&graph.root);
        (graph, Report::new().note(format!("{before} nodes, {left} left")))
    }),
};

/// Removes operations that do nothing.
pub fn fold(graph: Graph) -> Graph {
    let mut empty = Graph::new(graph.name.clone());
    empty.axes = graph.axes.clone();
    empty.params = graph.params.clone();
    empty.inputs = graph.inputs.clone();
    let mut rebuild = Rebuild {
        old: &graph,
        b: Builder::new(empty),
        values: HashMap::new(),
        definitions: HashMap::new(),
    };
    if let Err(error) = rebuild.region(&graph.root) {
        panic!("folding made a verified graph ill-typed: {error}");
    }
    for (role, value) in graph.results() {
        rebuild.b.result(role.clone(), rebuild.values[&value]);
    }
    rebuild.b.finish()
}

struct Rebuild<'a> {
    old: &'a Graph,
    b: Builder,
    values: HashMap<ValueId, ValueId>,
    /// Operations of the values built so far.
    definitions: HashMap<ValueId, (Op, Vec<ValueId>)>,
}

impl Rebuild<'_> {
    fn region(&mut self, region: &Region) -> Result<(), OpError> {
        for node in &region.nodes {
            match (&node.op, &node.region) {
                (Op::Repeat { .. }, Some(body)) => self.repeat(node, body)?,
                (_, Some(score)) => self.attention(node, score)?,
                (_, None) => self.node(node)?,
            }
        }
        Ok(())
    }

    fn node(&mut self, node: &Node) -> Result<(), OpError> {
        let operands = self.mapped(&node.operands);
        let results = match self.same(node, &operands) {
            Some(known) => vec![known],
            None => match self.slice_of_slice(&node.op, &operands) {
                Some((op, inner)) => self.emit(&op, vec![inner])?,
                None => self.emit(&node.op, operands)?,
            },
        };
        self.define(&node.results, &results);
        Ok(())
    }

    /// A slice of what another one is cut from, when a slice of it is asked for.
    fn slice_of_slice(&self, op: &Op, operands: &[ValueId]) -> Option<(Op, ValueId)> {
        let Op::Slice { axis, to, start, stride } = *op else { return None };
        let (inner, of) = self.definitions.get(&operands[0])?;
        let Op::Slice { axis: from, to: Some(cut), start: first, stride: step } = *inner else {
            return None;
        };
        let (start, stride) = (first + step * start, step * stride);
        (cut == axis).then_some((Op::Slice { axis: from, to, start, stride }, of[0]))
    }

    fn emit(&mut self, op: &Op, operands: Vec<ValueId>) -> Result<Vec<ValueId>, OpError> {
        if matches!(op, Op::Pointwise(_)) {
            // The one-result form computes constants.
            let result = self.b.op(op.clone(), &operands)?;
            if self.b.constant(result).is_none() {
                self.definitions.insert(result, (op.clone(), operands));
            }
            return Ok(vec![result]);
        }
        let results = self.b.ops(op.clone(), &operands)?;
        let definition = (op.clone(), operands);
        self.definitions.extend(results.iter().map(|v| (*v, definition.clone())));
        Ok(results)
    }

    /// A value that equals the node's result and has its type.
    fn same(&self, node: &Node, operands: &[ValueId]) -> Option<ValueId> {
        let known = identity(self, &node.op, operands)?;
        let types: Vec<_> = operands.iter().map(|v| self.b.ty(*v)).collect();
        let ty = ops::infer(&node.op, &self.b.graph, &types).ok()?.pop()?;
        let found = self.b.ty(known);
        (found.dtype == ty.dtype && found.axes == ty.axes).then_some(known)
    }

    fn attention(&mut self, node: &Node, score: &Region) -> Result<(), OpError> {
        let operands = self.mapped(&node.operands);
        let args = self.b.open_score(&node.op, &operands)?;
        self.define(&score.args, &args);
        self.region(score)?;
        let given = self.mapped(&score.results);
        let results = self.b.close_score(node.op.clone(), &operands, &given)?;
        self.define(&node.results, &results);
        Ok(())
    }

    fn repeat(&mut self, node: &Node, body: &Region) -> Result<(), OpError> {
        let Op::Repeat { axis, reversed, carried } = node.op else {
            unreachable!("called for repeats")
        };
        let count = carried as usize;
        let operands = self.mapped(&node.operands);
        let (changes, kept): (Vec<usize>, Vec<usize>) =
            (0..count).partition(|i| body.results[*i] != body.args[1 + i]);
        let inits: Vec<ValueId> = changes.iter().map(|i| operands[*i]).collect();
        let args = self.b.open_repeat(axis, &inits, &operands[count..]);
        for i in &kept {
            self.define(&[body.args[1 + i], node.results[*i]], &[operands[*i]; 2]);
        }
        self.define(&body.args[..1], &args[..1]);
        for (i, arg) in changes.iter().zip(&args[1..]) {
            self.define(&[body.args[1 + i]], &[*arg]);
        }
        self.define(&body.args[1 + count..], &args[1 + inits.len()..]);
        self.region(body)?;
        let next: Vec<ValueId> = changes.iter().map(|i| self.values[&body.results[*i]]).collect();
        let stack = self.mapped(&body.results[count..]);
        let shape = (axis, reversed);
        let results = self.b.close_repeat(shape, &inits, &operands[count..], &next, &stack)?;
        for (i, result) in changes.iter().zip(&results) {
            self.define(&[node.results[*i]], &[*result]);
        }
        self.define(&node.results[count..], &results[inits.len()..]);
        Ok(())
    }

    fn mapped(&self, values: &[ValueId]) -> Vec<ValueId> {
        values.iter().map(|v| self.values[v]).collect()
    }

    fn define(&mut self, old: &[ValueId], new: &[ValueId]) {
        for (old, new) in old.iter().zip(new) {
            self.values.insert(*old, *new);
            let known = &self.old.values[old.index()];
            let info = &mut self.b.graph.values[new.index()];
            info.name = info.name.take().or_else(|| known.name.clone());
            info.span = info.span.or(known.span);
        }
    }
}

/// What an operation gives back unchanged: an operand, or what an operand undoes.
fn identity(rebuild: &Rebuild, op: &Op, operands: &[ValueId]) -> Option<ValueId> {
    let x = *operands.first()?;
    let undone = |inverse: Op| {
        let (first, inner) = rebuild.definitions.get(&x)?;
        (*first == inverse).then(|| inner[0])
    };
    match op {
        Op::Pointwise(function) => pointwise(rebuild, *function, operands),
        Op::Cast(to) => (rebuild.b.ty(x).dtype == *to).then_some(x),
        Op::Reduce { axes, .. } | Op::Broadcast { axes } => axes.is_empty().then_some(x),
        Op::Rename { from, to } if from == to => Some(x),
        Op::Rename { from, to } => undone(Op::Rename { from: *to, to: *from }),
        Op::Split { from, to } => undone(Op::Merge { from: to.clone(), to: *from }),
        Op::Merge { from, to } => undone(Op::Split { from: *to, to: from.clone() }),
        Op::Slice { axis, to: Some(to), start: 0, stride: 1 } => (axis == to).then_some(x),
        _ => None,
    }
}

fn pointwise(rebuild: &Rebuild, function: Pointwise, operands: &[ValueId]) -> Option<ValueId> {
    let is = |i: usize, x: f64| {
        rebuild.b.constant(operands[i]).is_some_and(|c| c.to_bits() == x.to_bits())
    };
    match function {
        Pointwise::Mul if is(0, 1.0) => Some(operands[1]),
        Pointwise::Mul | Pointwise::Div if is(1, 1.0) => Some(operands[0]),
        Pointwise::Sub if is(1, 0.0) => Some(operands[0]),
        Pointwise::ToReal => Some(operands[0]),
        Pointwise::Neg => match rebuild.definitions.get(&operands[0])? {
            (Op::Pointwise(Pointwise::Neg), inner) => Some(inner[0]),
            _ => None,
        },
        Pointwise::Where if operands[1] == operands[2] => Some(operands[1]),
        Pointwise::Where => {
            let holds = rebuild.b.constant(operands[0])?;
            Some(operands[if holds == 0.0 { 2 } else { 1 }])
        }
        _ => None,
    }
}
