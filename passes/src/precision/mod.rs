//! Precision: where the `train` block says `bf16`, reals that depend on a parameter lie in memory
//! as bf16, and every rounding becomes a cast of the graph.
//!
//! Rounded are:
//! - weights: where one would be rounded for all that read it, they read its copy, a state that the
//!   optimizer keeps beside the f32 weights ([`copies`] says which have one; of a table that is only
//!   looked up in, what is found there is rounded),
//! - operands of products and of attention, and their results,
//! - what a repeat carries from turn to turn, and what it stacks for the way back,
//! - the pieces of a concatenation.
//!
//! Not rounded are:
//! - gradients of parameters on their way from the product to the optimizer, and every other sum
//!   that a repeat does nothing but add to (over chunks, micro-batches, layers),
//! - results of reductions, the logarithm of attention's denominator, and pointwise functions of
//!   these alone, but as operands of products,
//! - what depends on no parameter, but as an operand of a product with something that does,
//! - what `f32(x)` pins: its operand, its result, and views of them.
//!
//! All between is pointwise: computed in f32 and not rounded. A value is rounded once, and whoever
//! reads it reads the rounded one; results of the program are f32.
//!
//! Requires a verified joint graph, or a forward graph where nothing is trained. Not exact: that is
//! its purpose. O(nodes) time.

mod choose;
mod copies;
mod facts;

pub use copies::{copies, note_copies};

use std::collections::HashSet;

use gigac_ir::graph::{Builder, DType, Graph, Node, Op, ParamId, Region, Slot, ValueId};
use gigac_ir::ops::OpError;

use crate::pass::{Need, Pass, Report, Run, Scope};
use crate::rebuild::{Map, regions};
use facts::Facts;

/// The pass.
pub const PRECISION: Pass = Pass {
    name: "precision",
    about: "with `precision bf16`, what lies between kernels is rounded to bf16 by casts",
    need: Need::Necessary(
        "it is what `precision` says; `--set train.precision=f32` rounds nothing",
    ),
    scope: Scope::All,
    run: Run::Graph(|graph, context| match context.settings.precision.compute {
        DType::Bf16 => {
            let graph = precision(graph);
            let report = report(&graph);
            (graph, report)
        }
        _ => (graph, Report::new().note("off: the model says f32")),
    }),
};

/// Rounds to bf16 what lies between kernels.
pub fn precision(graph: Graph) -> Graph {
    let facts = Facts::of(&graph);
    let rounded = choose::rounded(&graph, &facts);
    let root: HashSet<ValueId> = graph.root.results.iter().copied().collect();
    let mut rewrite = Rewrite { facts: &facts, rounded: &rounded, results: root, wide: Map::new() };
    regions(graph, &mut |b, from, map| {
        rewrite.region(b, from, map)?;
        for value in &from.results {
            let wide = rewrite.wide.get(value).copied().unwrap_or(map[value]);
            let wide = cast(b, wide, DType::F32)?;
            map.insert(*value, wide);
        }
        Ok(())
    })
}

/// Whether a product is one for the units that multiply matrices. One without free axes is a
/// reduction of a pointwise product, and one that contracts nothing is pointwise.
fn is_product(graph: &Graph, node: &Node) -> bool {
    let Op::Dot { axes } = &node.op else { return false };
    let [a, b] = [0, 1].map(|i| graph.ty(node.operands[i]));
    let free = a.axes.iter().any(|x| !b.has(*x)) || b.axes.iter().any(|x| !a.has(*x));
    free && !axes.is_empty()
}

/// The operands that are multiplied as matrices.
fn factors(graph: &Graph, node: &Node) -> usize {
    match node.op {
        Op::Dot { .. } if is_product(graph, node) => 2,
        Op::Attend { .. } => 3,
        Op::AttendGrad { .. } => 4,
        _ => 0,
    }
}

struct Rewrite<'a> {
    facts: &'a Facts,
    /// Values that are rounded where they are defined.
    rounded: &'a HashSet<ValueId>,
    /// Results of the program.
    results: HashSet<ValueId>,
    /// What results of the program were before they were rounded for others.
    wide: Map,
}

impl Rewrite<'_> {
    fn region(&mut self, b: &mut Builder, from: &Region, map: &mut Map) -> Result<(), OpError> {
        for node in &from.nodes {
            if matches!(node.op, Op::Repeat { .. }) {
                self.repeat(b, node, map)?;
            } else {
                self.node(b, node, map)?;
            }
        }
        Ok(())
    }

    fn node(&mut self, b: &mut Builder, node: &Node, map: &mut Map) -> Result<(), OpError> {
        b.span = b.graph.values[node.results[0].index()].span;
        let mut operands: Vec<ValueId> = node.operands.iter().map(|v| map[v]).collect();
        let multiplied = match self.facts.depends(node.results[0]) {
            true => factors(&b.graph, node),
            false => 0,
        };
        let pieces = matches!(node.op, Op::Cat { .. }) && self.rounded.contains(&node.results[0]);
        for (i, (old, new)) in node.operands.iter().zip(&mut operands).enumerate() {
            if i < multiplied && !self.facts.is_pinned(*old) || pieces {
                *new = cast(b, *new, DType::Bf16)?;
            }
        }
        if let Op::Param(param, Slot::Weight) = node.op
            && self.rounded.contains(&node.results[0])
        {
            return self.weight(b, node, param, map);
        }
        let results = b.copy(node, &operands)?;
        for (old, new) in node.results.iter().zip(results) {
            let value = if self.rounded.contains(old) { cast(b, new, DType::Bf16)? } else { new };
            if self.results.contains(old) {
                self.wide.insert(*old, new);
            }
            map.insert(*old, value);
        }
        Ok(())
    }

    /// The copy of a weight; the weight itself is read only where it is a result of the program.
    fn weight(
        &mut self,
        b: &mut Builder,
        node: &Node,
        param: ParamId,
        map: &mut Map,
    ) -> Result<(), OpError> {
        let weight = node.results[0];
        if self.results.contains(&weight) {
            self.wide.insert(weight, b.copy(node, &[])?[0]);
        }
        map.insert(weight, b.op(Op::Param(param, Slot::Rounded), &[])?);
        Ok(())
    }

    fn repeat(&mut self, b: &mut Builder, node: &Node, map: &mut Map) -> Result<(), OpError> {
        let (Some(body), Op::Repeat { axis, reversed, carried }) = (&node.region, &node.op) else {
            unreachable!("called for repeats")
        };
        let carried = *carried as usize;
        // A carried value has one type: at the start, as the body's argument and as its result.
        let held = |i: usize| match self.rounded.contains(&body.args[1 + i]) {
            true => DType::Bf16,
            false => DType::F32,
        };
        let mut operands: Vec<ValueId> = node.operands.iter().map(|v| map[v]).collect();
        for (i, init) in operands[..carried].iter_mut().enumerate() {
            *init = cast(b, *init, held(i))?;
        }
        let (inits, stacked) = operands.split_at(carried);
        let args = b.open_repeat(*axis, inits, stacked);
        map.extend(body.args.iter().copied().zip(args));
        self.region(b, body, map)?;
        let mut next = Vec::new();
        for (i, value) in body.results[..carried].iter().enumerate() {
            next.push(cast(b, map[value], held(i))?);
        }
        let mut stack = Vec::new();
        for (result, value) in node.results[carried..].iter().zip(&body.results[carried..]) {
            let value = map[value];
            let narrow = self.rounded.contains(result);
            stack.push(if narrow { cast(b, value, DType::Bf16)? } else { value });
        }
        let results = b.close_repeat((*axis, *reversed), inits, stacked, &next, &stack)?;
        map.extend(node.results.iter().copied().zip(results));
        Ok(())
    }
}

/// The value in a width, under its name; itself when it has that width, or is not a real.
fn cast(b: &mut Builder, value: ValueId, to: DType) -> Result<ValueId, OpError> {
    let from = b.ty(value).dtype;
    if from == to || !from.is_real() {
        return Ok(value);
    }
    let cast = b.op(Op::Cast(to), &[value])?;
    if let Some(name) = b.graph.values[value.index()].name.clone() {
        b.name(cast, &name);
    }
    Ok(cast)
}

/// How many weights are read in bf16, and how many casts there are.
fn report(graph: &Graph) -> Report {
    fn count(region: &Region, found: &mut [usize; 2]) {
        for node in &region.nodes {
            match (&node.op, &node.region) {
                (Op::Param(_, Slot::Rounded), _) => found[0] += 1,
                (Op::Cast(DType::Bf16), _) => found[1] += 1,
                (_, Some(body)) => count(body, found),
                _ => {}
            }
        }
    }
    let mut found = [0; 2];
    count(&graph.root, &mut found);
    Report::new().count(found[0], "weights as bf16").count(found[1], "other values rounded")
}
