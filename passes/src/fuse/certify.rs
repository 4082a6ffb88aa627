//! The certificate of an attention: before it may be chosen, its value and its closed-form gradient
//! are compared, in f64, with those of the operations that it stands for.
//!
//! It is the candidate's own score function that is tried. Axes are cut to a few positions, spread
//! over the whole axis and the same for axes of one size, so that diagonals, windows and ends are
//! met at the positions that they have; operands are numbers that look random. So the price depends
//! on the score function, and not on the sizes of the model.

use std::collections::HashMap;
use std::fmt;

use egg::Id;
use gigac_ir::graph::{
    AxisId, Builder, DType, Feed, Graph, Init, Input, InputId, Op, Param, ParamId, Role, Slot,
    Stored, Type, ValueId,
};
use gigac_ir::interpret::{Bindings, interpret};
use gigac_ir::kernel::Reduction;
use gigac_ir::philox::{philox, uniform};
use gigac_ir::pointwise::Pointwise;

use super::attend::{Attention, Step, score};
use super::facts::{Terms, known, listed};
use super::term::Head;
use crate::decompose;
use crate::differentiate::differentiate;

/// Positions of an axis that are tried.
const POSITIONS: u64 = 3;
/// Differences up to this, relative or below 1 absolute, are rounding.
const ROUNDING: f64 = 1e-9;

/// What was compared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Certificate {
    /// Numbers that were compared: the loss, and gradients of all operands.
    pub numbers: usize,
    /// The largest difference, relative or below 1 absolute.
    pub difference: f64,
}

impl Certificate {
    /// The one with the larger difference.
    pub(super) fn worse<'c>(a: &'c Self, b: &'c Self) -> &'c Self {
        if b.difference > a.difference { b } else { a }
    }
}

impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "gradients certified, {} numbers within {:.0e}", self.numbers, self.difference)
    }
}

/// The certificate of an attention, or none when it is not what it stands for.
pub(crate) fn certify(terms: &Terms, attention: &Attention) -> Option<Certificate> {
    let (graph, bindings) = Trial::new(terms).graph(terms, attention);
    let unfused = differentiate(&decompose::attention(graph.clone()), 1);
    compare(&differentiate(&graph, 1), &unfused, &bindings)
}

/// Compares all results of two joint graphs; none when some differ.
fn compare(fused: &Graph, unfused: &Graph, bindings: &Bindings) -> Option<Certificate> {
    let results = |graph: &Graph| {
        interpret(graph, bindings).unwrap_or_else(|e| panic!("a trial is bound wholly: {e}"))
    };
    let (got, expected) = (results(fused), results(unfused));
    let mut certificate = Certificate { numbers: 0, difference: 0.0 };
    for (role, got) in fused.roles.iter().zip(&got) {
        let at = unfused.roles.iter().position(|r| r == role)?;
        let expected = expected[at].arranged(&got.axes, &got.sizes);
        for (x, y) in got.data.iter().zip(&expected.data) {
            let same = x == y || x.is_nan() && y.is_nan();
            let difference = if same { 0.0 } else { (x - y).abs() / y.abs().max(1.0) };
            // A NaN on one side alone is no rounding either.
            if difference.is_nan() || difference > ROUNDING {
                return None;
            }
            certificate.numbers += 1;
            certificate.difference = certificate.difference.max(difference);
        }
    }
    Some(certificate)
}

/// A small graph with one attention.
struct Trial {
    builder: Builder,
    bindings: Bindings,
    /// Sizes of the axes that were cut.
    whole: Vec<u64>,
}

impl Trial {
    fn new(terms: &Terms) -> Self {
        let mut graph = Graph::new("certificate");
        graph.axes.clone_from(&terms.analysis.graph.axes);
        let whole = graph.axes.iter().map(|a| a.size).collect();
        graph.axes.iter_mut().for_each(|a| a.size = a.size.min(POSITIONS));
        Self { builder: Builder::new(graph), bindings: Bindings::default(), whole }
    }

    /// The loss `Σ weight · attention`.
    fn graph(mut self, terms: &Terms, attention: &Attention) -> (Graph, Bindings) {
        let mut operands = [attention.q, attention.k, attention.v]
            .map(|x| self.real(known(terms, x).axes.to_vec(), -1.0))
            .to_vec();
        let mut given = attention.captured.clone();
        operands.extend(attention.captured.iter().map(|x| {
            let facts = known(terms, *x);
            let ty = Type { dtype: facts.dtype, axes: facts.axes.to_vec() };
            self.captured(ty)
        }));
        let mut positions: Vec<(Id, AxisId)> =
            attention.recipe.iter().filter_map(|(id, step)| position(terms, *id, step)).collect();
        positions.sort_unstable();
        for (class, axis) in positions {
            given.push(class);
            operands.push(self.positions(axis));
        }
        let op = Op::Attend { keys: attention.keys, inner: attention.inner.clone() };
        let b = &mut self.builder;
        let args = must(b.open_score(&op, &operands));
        let mut built: HashMap<Id, ValueId> =
            given.into_iter().zip(args[1..].iter().copied()).collect();
        let result = score(b, terms, attention, attention.score, args[0], &mut built);
        let out = must(b.close_score(op, &operands, &[result]))[0];
        let axes = b.ty(out).axes.clone();
        let weight = must(b.op(Op::Noise { axes: axes.clone(), key: 0 }, &[]));
        let weighed = must(b.map(Pointwise::Mul, &[out, weight]));
        let loss = must(b.op(Op::Reduce { op: Reduction::Sum, axes }, &[weighed]));
        b.result(Role::LossTerm(0), loss);
        (self.builder.finish(), self.bindings)
    }

    /// A parameter with elements in `[lo, 1)`.
    fn real(&mut self, axes: Vec<AxisId>, lo: f64) -> ValueId {
        let graph = &mut self.builder.graph;
        let id = ParamId(graph.params.len() as u32);
        let name = format!("operand{}", id.0);
        let count = graph.elements(&axes) as u32;
        graph.params.push(Param {
            stored: Stored::plain(&name, axes.len()),
            name,
            dims: axes.into_iter().map(|a| vec![a]).collect(),
            init: Init::Constant(0.0),
            lr: 1.0,
            decay: 1.0,
            frozen: false,
            span: None,
        });
        let data = (0..count).map(|i| lo + (1.0 - lo) * number(id.0, i));
        self.bindings.params.insert((id, Slot::Weight), data.collect());
        must(self.builder.op(Op::Param(id, Slot::Weight), &[]))
    }

    /// What the score function reads beside the product. Reals are above zero, so that they may be
    /// divisors and bases of powers; ints are of the lower end of their range, so that some are equal.
    fn captured(&mut self, ty: Type) -> ValueId {
        let (lo, width) = match ty.dtype {
            DType::F32 | DType::Bf16 => return self.real(ty.axes, 0.5),
            DType::Bool => (0, 2),
            DType::Int { lo, hi } => (lo, (hi - lo).clamp(1, POSITIONS as i64)),
        };
        let count = self.builder.graph.elements(&ty.axes) as u32;
        let key = 100 + self.builder.graph.inputs.len() as u32;
        let data = (0..count).map(|i| (lo as f64) + (number(key, i) * width as f64).floor());
        self.input(ty, data.collect())
    }

    /// Positions of an axis: the first, the last, and what lies evenly between.
    fn positions(&mut self, axis: AxisId) -> ValueId {
        let (size, whole) = (self.builder.graph.size(axis), self.whole[axis.index()]);
        let place = |i: u64| (i * (whole - 1)).checked_div(size - 1).unwrap_or(0) as f64;
        let dtype = DType::Int { lo: 0, hi: whole.max(1) as i64 };
        self.input(Type { dtype, axes: vec![axis] }, (0..size).map(place).collect())
    }

    fn input(&mut self, ty: Type, data: Vec<f64>) -> ValueId {
        let graph = &mut self.builder.graph;
        let id = InputId(graph.inputs.len() as u32);
        let name = format!("given{}", id.0);
        graph.inputs.push(Input { name, ty, feed: Feed::Data, span: None });
        self.bindings.inputs.insert(id, data);
        must(self.builder.op(Op::Input(id), &[]))
    }
}

/// The axis whose positions a class of a score function is.
fn position(terms: &Terms, class: Id, step: &Step) -> Option<(Id, AxisId)> {
    match step {
        Step::Term(term) if term.head == Head::Pos => {
            Some((class, listed(terms, term.children[0])[0]))
        }
        _ => None,
    }
}

/// A number in `[0, 1)` that looks random.
fn number(key: u32, i: u32) -> f64 {
    uniform(philox([key, 1], [i, 0, 0, 0])[0])
}

fn must<T>(result: Result<T, gigac_ir::ops::OpError>) -> T {
    result.unwrap_or_else(|e| panic!("a trial is well typed: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A soft cap, a bias and a causal mask.
    const FUSED: &str = "graph attention {
  axes T = 3, S = 3, K = 2
  param q[T, K] ~ normal(1.0)
  param k[S, K] ~ normal(1.0)
  param v[S, K] ~ normal(1.0)
  param bias[S] ~ normal(1.0)
  %0 = param[q]
  %1 = param[k]
  %2 = param[v]
  %3 = param[bias]
  %4, %5 = attend[S, K] %0, %1, %2 score(%6, %7 = %3) {
    %8 = tanh %6
    %9 = add %8, %7
    %10 = pos[S]
    %11 = pos[T]
    %12 = le %10, %11
    %13 = real[-inf]
    %14 = where %12, %9, %13
    give %14
  }
  %15 = mul %4, %4
  %16 = reduce[sum: T, K] %15
  result term 0 = %16
}";

    /// Every way to damage one operation of the gradient is found.
    #[test]
    fn wrong_gradients_get_no_certificate() {
        let fused = Graph::parse(FUSED).expect("well formed");
        let bindings = Bindings::example(&fused);
        let unfused = differentiate(&decompose::attention(fused.clone()), 1);
        let right = differentiate(&fused, 1).to_string();
        let judge = |text: &str| {
            let joint = Graph::parse(text).unwrap_or_else(|e| panic!("{e} in\n{text}"));
            compare(&joint, &unfused, &bindings)
        };
        let certificate = judge(&right).expect("the gradient as it is");
        assert_eq!(certificate.numbers, 1 + 3 * 3 * 2 + 3, "the loss, q, k, v and the bias");
        assert!(certificate.difference < ROUNDING);
        let body = right.find("attend_grad").expect("the gradient is closed-form");
        let (before, after) = right.split_at(body);
        let mut damaged = 0;
        for (from, to) in
            [(" mul ", " add "), (" sub ", " add "), (" le ", " lt "), ("tanh", "sin")]
        {
            for (at, _) in after.match_indices(from) {
                let (left, rest) = after.split_at(at);
                let wrong = format!("{before}{left}{to}{}", &rest[from.len()..]);
                assert_eq!(judge(&wrong), None, "{wrong}");
                damaged += 1;
            }
        }
        assert!(damaged >= 5, "{damaged} damaged in\n{right}");
    }
}
