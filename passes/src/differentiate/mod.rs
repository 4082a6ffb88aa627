//! Differentiation: the forward graph to the joint graph of losses, metrics and gradients.
//!
//! Reverse mode over the op table's gradient rules. What needs care are repeats:
//! - The forward repeat also returns, stacked, what the backward needs and cannot compute again
//!   cheaply: its carried values, and the results of products, reductions, scatters, choices and
//!   inner repeats. All else is computed again inside the backward body, which clones the
//!   defining nodes down to saved values.
//! - The backward is one repeat in the other direction. It carries the cotangents of the carried
//!   values and of the active values captured from outside, reads the saved stacks, and returns
//!   the gradients of stacked operands, stacked.
//!
//! So the joint graph is as small for 54 layers as for two. Dead values are removed at the end,
//! and with them everything that was saved and is not read.
//!
//! Requires a verified graph. O(nodes) time: a node is cloned at most once for each repeat inside
//! or around it.

mod activity;
mod forward;
mod operands;
mod reverse;

use std::collections::HashMap;

use gigac_ir::graph::{
    AxisId, Builder, DType, Feed, Graph, InputId, Op, ParamId, Role, Slot, ValueId,
};
use gigac_ir::pointwise::Pointwise;

use crate::pass::{Need, Pass, Report, Run, Scope};
use crate::simplify::dead;
use activity::active;
use forward::{Copier, Taped};
use reverse::Reverse;

/// The pass.
pub const DIFFERENTIATE: Pass = Pass {
    name: "differentiate",
    about: "the forward graph becomes the joint graph of losses, metrics and gradients",
    need: Need::Necessary("training needs gradients"),
    scope: Scope::Step,
    run: Run::Graph(|graph, context| {
        let joint = differentiate(&graph, context.micro);
        let gradients = joint.roles.iter().filter(|r| matches!(r, Role::Gradient(_))).count();
        (joint, Report::new().count(gradients, "gradients"))
    }),
};

/// The joint graph: [`Role::Loss`], [`Role::Metric`] and a [`Role::Gradient`] for every parameter
/// that is not frozen. Outputs are dropped.
///
/// With `micro > 1` every input of data gets a leading axis `Micro`, and the step is a repeat over
/// it that adds up losses and gradients; denominators (`loss a per b`) are summed by a repeat
/// before it. A term without denominator and every metric is averaged over micro-batches.
pub fn differentiate(forward: &Graph, micro: u64) -> Graph {
    let mut joint = Graph::new(forward.name.clone());
    joint.axes = forward.axes.clone();
    joint.params = forward.params.clone();
    joint.inputs = forward.inputs.clone();
    let mut b = Builder::new(joint);
    // Parameters stand at the root, whatever region reads them.
    let params: Vec<(ParamId, ValueId)> = (0..forward.params.len() as u32)
        .map(ParamId)
        .filter(|p| !forward.params[p.index()].frozen)
        .map(|p| (p, must(b.op(Op::Param(p, Slot::Weight), &[]))))
        .collect();
    if micro > 1 {
        micro_batches(&mut b, forward, &params, micro);
    } else {
        one_batch(&mut b, forward, &params);
    }
    dead(b.finish())
}

/// A loss line in the graph being built.
struct Term {
    line: u32,
    numerator: ValueId,
    denominator: Option<ValueId>,
}

/// The forward pass, copied into the region that is open.
struct Forward {
    tape: Vec<Taped>,
    terms: Vec<Term>,
    metrics: Vec<(String, ValueId)>,
}

impl Forward {
    fn copy(b: &mut Builder, forward: &Graph, copy: Copier) -> Self {
        let (tape, results) = copy.root(b, forward);
        let (mut terms, mut metrics) = (Vec::new(), Vec::new());
        let mut denominators = HashMap::new();
        for (role, value) in forward.roles.iter().zip(results) {
            match role {
                Role::LossTerm(line) => {
                    let numerator = real(b, value);
                    terms.push(Term { line: *line, numerator, denominator: None });
                }
                Role::LossPer(line) => {
                    denominators.insert(*line, real(b, value));
                }
                Role::Metric(name) => metrics.push((name.clone(), real(b, value))),
                _ => {}
            }
        }
        for term in &mut terms {
            term.denominator = denominators.get(&term.line).copied();
        }
        Self { tape, terms, metrics }
    }

    /// The loss and the gradients, given the factor of every term.
    fn gradients(
        &self,
        b: &mut Builder,
        params: &[(ParamId, ValueId)],
        factors: &[ValueId],
    ) -> (ValueId, Vec<ValueId>) {
        let mut loss = None;
        let mut cotangents = HashMap::new();
        let active = active(b, &self.tape, params.iter().map(|(_, v)| *v));
        let mut reverse = Reverse::new(b, active, &self.tape);
        for (term, factor) in self.terms.iter().zip(factors) {
            let part = map(reverse.b, Pointwise::Mul, &[term.numerator, *factor]);
            loss = Some(match loss {
                Some(loss) => map(reverse.b, Pointwise::Add, &[loss, part]),
                None => part,
            });
            reverse.add(&mut cotangents, term.numerator, *factor);
        }
        reverse.region(&self.tape, &mut cotangents);
        let b = reverse.b;
        let loss = loss.unwrap_or_else(|| b.real(0.0));
        let gradients = params.iter().map(|(param, value)| {
            let axes = b.graph.params[param.index()].axes();
            let g = cotangents.remove(value);
            full(b, g, &axes)
        });
        (loss, gradients.collect())
    }
}

fn one_batch(b: &mut Builder, forward: &Graph, params: &[(ParamId, ValueId)]) {
    let pass = Forward::copy(b, forward, Copier::new(params));
    let one = b.real(1.0);
    let factors: Vec<ValueId> = pass
        .terms
        .iter()
        .map(|t| t.denominator.map_or(one, |d| map(b, Pointwise::Div, &[one, d])))
        .collect();
    let (loss, gradients) = pass.gradients(b, params, &factors);
    results(b, loss, pass.metrics, params, gradients);
}

fn micro_batches(b: &mut Builder, forward: &Graph, params: &[(ParamId, ValueId)], micro: u64) {
    let axis = b.graph.add_axis("Micro", micro);
    let inputs = stack_inputs(b, axis);
    let share = b.real(1.0 / micro as f64);
    let totals = denominators(b, forward, params, (axis, &inputs));

    let zero = b.real(0.0);
    let lines = forward.roles.iter().filter(|r| matches!(r, Role::Metric(_))).count();
    let mut inits = vec![zero; 1 + lines];
    for (param, _) in params {
        let axes = b.graph.params[param.index()].axes();
        inits.push(full(b, None, &axes));
    }
    let stacked: Vec<ValueId> = inputs.iter().map(|(_, v)| *v).collect();
    let args = b.open_repeat(axis, &inits, &stacked);
    let slices = inputs.iter().map(|(id, _)| *id).zip(args[1 + inits.len()..].iter().copied());
    let pass = Forward::copy(b, forward, Copier::micro(params, args[0], micro, slices));
    let factors: Vec<ValueId> =
        pass.terms.iter().map(|t| totals.get(&t.line).copied().unwrap_or(share)).collect();
    let (loss, gradients) = pass.gradients(b, params, &factors);
    let parts = [loss].into_iter().chain(pass.metrics.iter().map(|(_, v)| *v)).chain(gradients);
    let next: Vec<ValueId> =
        parts.zip(&args[1..]).map(|(x, sum)| map(b, Pointwise::Add, &[*sum, x])).collect();
    let sums = must(b.close_repeat((axis, false), &inits, &stacked, &next, &[]));

    let names = pass.metrics.into_iter().map(|(name, _)| name);
    let metrics: Vec<(String, ValueId)> = names
        .zip(&sums[1..])
        .map(|(name, sum)| (name, map(b, Pointwise::Mul, &[*sum, share])))
        .collect();
    let gradients = sums[1 + metrics.len()..].to_vec();
    results(b, sums[0], metrics, params, gradients);
}

/// Gives the inputs of data the leading axis; their values at the root.
fn stack_inputs(b: &mut Builder, axis: AxisId) -> Vec<(InputId, ValueId)> {
    let mut stacked = Vec::new();
    for i in 0..b.graph.inputs.len() {
        let input = &mut b.graph.inputs[i];
        if matches!(input.feed, Feed::Data | Feed::Optional(_)) {
            input.ty.axes.insert(0, axis);
            let id = InputId(i as u32);
            stacked.push((id, must(b.op(Op::Input(id), &[]))));
        }
    }
    stacked
}

/// One over the sum of each line's denominator over all micro-batches.
fn denominators(
    b: &mut Builder,
    forward: &Graph,
    params: &[(ParamId, ValueId)],
    (axis, inputs): (AxisId, &[(InputId, ValueId)]),
) -> HashMap<u32, ValueId> {
    let count = forward.roles.iter().filter(|r| matches!(r, Role::LossPer(_))).count();
    if count == 0 {
        return HashMap::new();
    }
    let inits = vec![b.real(0.0); count];
    let stacked: Vec<ValueId> = inputs.iter().map(|(_, v)| *v).collect();
    let args = b.open_repeat(axis, &inits, &stacked);
    let slices = inputs.iter().map(|(id, _)| *id).zip(args[1 + count..].iter().copied());
    let copy = Copier::micro(params, args[0], b.graph.size(axis), slices);
    let pass = Forward::copy(b, forward, copy);
    let parts: Vec<(u32, ValueId)> =
        pass.terms.iter().filter_map(|t| Some((t.line, t.denominator?))).collect();
    let next: Vec<ValueId> = parts
        .iter()
        .zip(&args[1..])
        .map(|((_, d), sum)| map(b, Pointwise::Add, &[*sum, *d]))
        .collect();
    let sums = must(b.close_repeat((axis, false), &inits, &stacked, &next, &[]));
    let one = b.real(1.0);
    let inverse =
        |(part, sum): (&(u32, ValueId), ValueId)| (part.0, map(b, Pointwise::Div, &[one, sum]));
    parts.iter().zip(sums).map(inverse).collect()
}

fn results(
    b: &mut Builder,
    loss: ValueId,
    metrics: Vec<(String, ValueId)>,
    params: &[(ParamId, ValueId)],
    gradients: Vec<ValueId>,
) {
    b.result(Role::Loss, loss);
    for (name, value) in metrics {
        b.result(Role::Metric(name), value);
    }
    for ((param, _), gradient) in params.iter().zip(gradients) {
        let name = format!("d {}", b.graph.params[param.index()].name);
        b.name(gradient, &name);
        b.result(Role::Gradient(*param), gradient);
    }
}

/// A cotangent, zero when absent, as an f32 with all of the given axes.
fn full(b: &mut Builder, g: Option<ValueId>, axes: &[AxisId]) -> ValueId {
    let mut g = g.unwrap_or_else(|| b.real(0.0));
    if b.ty(g).dtype != DType::F32 {
        g = must(b.op(Op::Cast(DType::F32), &[g]));
    }
    let own = &b.ty(g).axes;
    let missing: Vec<AxisId> = axes.iter().copied().filter(|a| !own.contains(a)).collect();
    if missing.is_empty() { g } else { must(b.op(Op::Broadcast { axes: missing }, &[g])) }
}

/// The value as a real.
fn real(b: &mut Builder, value: ValueId) -> ValueId {
    if b.ty(value).dtype.is_real() { value } else { map(b, Pointwise::ToReal, &[value]) }
}

fn map(b: &mut Builder, function: Pointwise, operands: &[ValueId]) -> ValueId {
    must(b.map(function, operands))
}

/// A node that a verified graph cannot make ill-typed.
fn must<T, E: std::fmt::Display>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|e| panic!("differentiation of a verified graph went wrong: {e}"))
}
