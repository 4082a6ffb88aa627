//! Small graphs to try an attention on, with the candidate's own score function.
//!
//! Axes are cut to a few positions, spread over the whole axis and the same for axes of one size, so
//! that diagonals, windows and ends are met at the positions that they have; operands are numbers that
//! look random. So the price depends on the score function, and not on the sizes of the model.
//!
//! Where the mask hides all of that, a trial would prove nothing: zeros equal zeros. Then keys are
//! looked for that some query sees, and ints are drawn from elsewhere in their range.

use std::collections::HashMap;

use egg::Id;
use gigac_ir::graph::{
    AxisId, Builder, DType, Feed, Graph, Init, Input, InputId, Op, Param, ParamId, Role, Slot,
    Stored, Type, ValueId,
};
use gigac_ir::interpret::{Bindings, interpret};
use gigac_ir::kernel::Reduction;
use gigac_ir::ops::OpError;
use gigac_ir::philox::{philox, uniform};
use gigac_ir::pointwise::Pointwise;

use super::attend::{Attention, Step, score, sunk};
use super::facts::{Terms, known, listed};
use super::term::Head;

/// Positions of an axis that are tried.
const POSITIONS: u64 = 3;
/// Queries that keys are looked for.
const QUERIES: u64 = 9;
/// Neighbouring keys that are looked at, at the beginning, in the middle and at the end.
const STRETCH: u64 = 4096;
/// Keys that one query has to see: of one alone the weight is 1, whatever the score.
const ENOUGH: usize = 2;

/// Where an attention is tried.
#[derive(Clone, Debug)]
pub(super) struct Places {
    /// The positions of each axis, ascending.
    positions: Vec<Vec<u64>>,
    ints: Ints,
    /// Pairs of queries and keys that the mask shows there.
    pub(super) pairs: usize,
}

/// Which ints stand for data.
#[derive(Clone, Copy, Debug)]
enum Ints {
    /// Some of the lower end, so that some are equal.
    Low,
    /// Any.
    Any,
    /// Some of the upper end.
    High,
}

impl Places {
    /// Places where some query sees enough keys, or none when they are not found.
    pub(super) fn of(terms: &Terms, attention: &Attention) -> Option<Self> {
        let tried = [Ints::Low, Ints::Any, Ints::High];
        tried.into_iter().find_map(|ints| Self::with(terms, attention, ints))
    }

    fn with(terms: &Terms, attention: &Attention, ints: Ints) -> Option<Self> {
        let axes = terms.analysis.graph.axes.iter();
        let positions = axes.map(|axis| spread(axis.size, POSITIONS)).collect();
        let mut places = Self { positions, ints, pairs: 0 };
        if !places.look(terms, attention) {
            places = places.found(terms, attention)?;
            let sees = places.look(terms, attention);
            assert!(sees, "keys that are seen among others are seen alone");
        }
        Some(places)
    }

    /// Counts the pairs that the mask shows; whether some query sees enough keys.
    fn look(&mut self, terms: &Terms, attention: &Attention) -> bool {
        let rows = self.rows(terms, attention);
        self.pairs = rows.iter().map(|row| row.seen().count()).sum();
        rows.iter().any(|row| row.seen().count() >= ENOUGH.min(row.sees.len()))
    }

    /// Which keys each query sees.
    fn rows(&self, terms: &Terms, attention: &Attention) -> Vec<Row> {
        let keys = attention.keys;
        let (graph, bindings) = Trial::new(terms, self).scores(terms, attention);
        let scores = interpret(&graph, &bindings).expect("a trial is bound wholly").remove(0);
        let mut axes: Vec<AxisId> = scores.axes.iter().copied().filter(|a| *a != keys).collect();
        axes.push(keys);
        let sizes: Vec<usize> = axes.iter().map(|a| graph.size(*a) as usize).collect();
        let scores = scores.arranged(&axes, &sizes);
        let mut rows = vec![Row { query: Vec::new(), sees: Vec::new() }];
        for axis in &axes[..axes.len() - 1] {
            let along = |row: Row| {
                let positions = self.positions[axis.index()].iter();
                let query = |p: &u64| [&row.query[..], &[(*axis, *p)]].concat();
                positions.map(|p| Row { query: query(p), sees: Vec::new() }).collect::<Vec<_>>()
            };
            rows = rows.into_iter().flat_map(along).collect();
        }
        for (row, scores) in rows.iter_mut().zip(scores.data.chunks(sizes[sizes.len() - 1])) {
            row.sees = scores.iter().map(|score| *score > f64::NEG_INFINITY).collect();
        }
        rows
    }

    /// The same places with keys of which some query sees enough, and one that it does not see if there
    /// is one.
    fn found(&self, terms: &Terms, attention: &Attention) -> Option<Self> {
        let (graph, keys) = (&terms.analysis.graph, attention.keys);
        let candidates = stretches(graph.size(keys));
        let mut wide = self.clone();
        let steps = attention.recipe.values();
        let read: Vec<AxisId> = steps.filter_map(|s| position(terms, s)).collect();
        for (index, positions) in wide.positions.iter_mut().enumerate() {
            let axis = AxisId(index as u32);
            if axis == keys {
                positions.clone_from(&candidates);
            } else if !read.contains(&axis) {
                positions.truncate(1);
            } else if graph.size(axis) == graph.size(keys) {
                *positions = spread(graph.size(axis), QUERIES);
            }
        }
        let rows = wide.rows(terms, attention);
        let enough = |row: &&Row| row.seen().count() >= ENOUGH;
        let cut = |row: &&Row| row.sees.contains(&false);
        let row = rows.iter().filter(enough).find(cut).or_else(|| rows.iter().find(enough))?;
        let hidden = row.sees.iter().position(|sees| !sees);
        let mut chosen: Vec<usize> =
            [row.seen().next(), row.seen().last(), hidden].into_iter().flatten().collect();
        chosen.sort_unstable();
        let mut places = self.clone();
        places.positions[keys.index()] = chosen.into_iter().map(|i| candidates[i]).collect();
        for (axis, position) in &row.query {
            let positions = &mut places.positions[axis.index()];
            if !positions.contains(position) {
                positions[1] = *position;
            }
        }
        Some(places)
    }
}

/// The keys that one query sees.
struct Row {
    /// The query's positions.
    query: Vec<(AxisId, u64)>,
    /// By the index of the key's position.
    sees: Vec<bool>,
}

impl Row {
    /// Indices of the keys that it sees.
    fn seen(&self) -> impl Iterator<Item = usize> {
        self.sees.iter().enumerate().filter(|(_, sees)| **sees).map(|(i, _)| i)
    }
}

/// The first position of an axis, the last, and what lies evenly between, `most` in all.
fn spread(whole: u64, most: u64) -> Vec<u64> {
    let size = whole.min(most);
    (0..size).map(|i| (i * (whole - 1)).checked_div(size - 1).unwrap_or(0)).collect()
}

/// Neighbouring positions at the beginning, in the middle and at the end of an axis.
fn stretches(size: u64) -> Vec<u64> {
    let starts = [0, (size / 2).saturating_sub(STRETCH / 2), size.saturating_sub(STRETCH)];
    let mut all: Vec<u64> =
        starts.iter().flat_map(|start| *start..size.min(start + STRETCH)).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// The axis whose positions a step of a score function is.
fn position(terms: &Terms, step: &Step) -> Option<AxisId> {
    match step {
        Step::Term(term) if term.head == Head::Pos => Some(listed(terms, term.children[0])[0]),
        _ => None,
    }
}

/// A small graph with one attention.
pub(super) struct Trial<'p> {
    builder: Builder,
    bindings: Bindings,
    places: &'p Places,
    /// Sizes of the axes that were cut.
    whole: Vec<u64>,
}

impl<'p> Trial<'p> {
    pub(super) fn new(terms: &Terms, places: &'p Places) -> Self {
        let mut graph = Graph::new("certificate");
        graph.axes.clone_from(&terms.analysis.graph.axes);
        let whole = graph.axes.iter().map(|a| a.size).collect();
        for (axis, positions) in graph.axes.iter_mut().zip(&places.positions) {
            axis.size = positions.len() as u64;
        }
        Self { builder: Builder::new(graph), bindings: Bindings::default(), places, whole }
    }

    /// Queries, keys and values, then what the score function reads beside the product, by class.
    fn operands(
        &mut self,
        terms: &Terms,
        attention: &Attention,
    ) -> ([ValueId; 3], Vec<(Id, ValueId)>) {
        let fixed = [attention.q, attention.k, attention.v]
            .map(|x| self.real(known(terms, x).axes.to_vec(), -1.0));
        let mut given = Vec::new();
        for class in &attention.captured {
            let facts = known(terms, *class);
            let ty = Type { dtype: facts.dtype, axes: facts.axes.to_vec() };
            given.push((*class, self.captured(ty)));
        }
        let steps = attention.recipe.iter();
        let mut positions: Vec<(Id, AxisId)> =
            steps.filter_map(|(id, step)| Some((*id, position(terms, step)?))).collect();
        positions.sort_unstable();
        given.extend(positions.into_iter().map(|(class, axis)| (class, self.positions(axis))));
        (fixed, given)
    }

    /// The scores.
    fn scores(mut self, terms: &Terms, attention: &Attention) -> (Graph, Bindings) {
        let ([q, k, _], given) = self.operands(terms, attention);
        let b = &mut self.builder;
        let raw = must(b.op(Op::Dot { axes: attention.inner.clone() }, &[q, k]));
        let mut built: HashMap<Id, ValueId> = given.into_iter().collect();
        let result = score(b, terms, attention, attention.score, raw, &mut built);
        let own = &b.ty(result).axes;
        let axes = known(terms, attention.score).axes.iter().copied();
        let missing: Vec<AxisId> = axes.filter(|a| !own.contains(a)).collect();
        let whole = match missing.is_empty() {
            true => result,
            false => must(b.op(Op::Broadcast { axes: missing }, &[result])),
        };
        b.result(Role::Output("scores".into()), whole);
        (self.builder.finish(), self.bindings)
    }

    /// The loss `Σ weight · attention`; a sink's share of the softmax by `share`.
    pub(super) fn loss(
        mut self,
        terms: &Terms,
        attention: &Attention,
        share: Share,
    ) -> (Graph, Bindings) {
        let (fixed, given) = self.operands(terms, attention);
        let sink = attention.sink.map(|z| self.real(known(terms, z).axes.to_vec(), -1.0));
        let operands: Vec<ValueId> =
            fixed.into_iter().chain(given.iter().map(|(_, value)| *value)).collect();
        let op = Op::Attend { keys: attention.keys, inner: attention.inner.clone() };
        let b = &mut self.builder;
        let args = must(b.open_score(&op, &operands));
        let classes = given.iter().map(|(class, _)| *class);
        let mut built: HashMap<Id, ValueId> = classes.zip(args[1..].iter().copied()).collect();
        let result = score(b, terms, attention, attention.score, args[0], &mut built);
        let made = must(b.close_score(op, &operands, &[result]));
        let out = sink.map_or(made[0], |z| must(share(b, made[0], made[1], z)));
        let axes = b.ty(out).axes.clone();
        let weight = must(b.op(Op::Noise { axes: axes.clone(), key: 0 }, &[]));
        let weighed = must(b.map(Pointwise::Mul, &[out, weight]));
        let loss = must(b.op(Op::Reduce { op: Reduction::Sum, axes }, &[weighed]));
        b.result(Role::LossTerm(0), loss);
        (self.builder.finish(), self.bindings)
    }

    /// A parameter with elements in `[lo, 1)`.
    fn real(&mut self, axes: Vec<AxisId>, lo: f64) -> ValueId {
        let id = ParamId(self.builder.graph.params.len() as u32);
        let name = format!("operand{}", id.0);
        let data = self.numbers(id.0, &axes).into_iter().map(|x| lo + (1.0 - lo) * x).collect();
        self.builder.graph.params.push(Param {
            stored: Stored::plain(&name, axes.len()),
            name,
            dims: axes.into_iter().map(|a| vec![a]).collect(),
            init: Init::Constant(0.0),
            lr: 1.0,
            decay: 1.0,
            frozen: false,
            rounded: false,
            span: None,
        });
        self.bindings.params.insert((id, Slot::Weight), data);
        must(self.builder.op(Op::Param(id, Slot::Weight), &[]))
    }

    /// What the score function reads beside the product. Reals are above zero, so that they may be
    /// divisors and bases of powers.
    fn captured(&mut self, ty: Type) -> ValueId {
        let (lo, hi) = match ty.dtype {
            DType::F32 | DType::Bf16 => return self.real(ty.axes, 0.5),
            DType::Bool => (0, 2),
            DType::Int { lo, hi } => (lo, hi.max(lo + 1)),
        };
        let few = (hi - lo).min(POSITIONS as i64);
        let (lo, count) = match self.places.ints {
            Ints::Low => (lo, few),
            Ints::Any => (lo, hi - lo),
            Ints::High => (hi - few, few),
        };
        let key = 100 + self.builder.graph.inputs.len() as u32;
        let numbers = self.numbers(key, &ty.axes).into_iter();
        let data = numbers.map(|x| lo as f64 + (x * count as f64).floor()).collect();
        self.input(ty, data)
    }

    /// Positions of an axis.
    fn positions(&mut self, axis: AxisId) -> ValueId {
        let dtype = DType::Int { lo: 0, hi: self.whole[axis.index()].max(1) as i64 };
        let data = self.places.positions[axis.index()].iter().map(|p| *p as f64).collect();
        self.input(Type { dtype, axes: vec![axis] }, data)
    }

    /// Numbers in `[0, 1)` that look random. The one of an element depends on its positions, so
    /// that it is the same wherever that element is tried.
    fn numbers(&self, key: u32, axes: &[AxisId]) -> Vec<f64> {
        let mut elements = vec![0_u64];
        for axis in axes {
            let whole = self.whole[axis.index()];
            let along = &self.places.positions[axis.index()];
            let next = |e: &u64| {
                let row = e.wrapping_mul(whole);
                along.iter().map(move |p| row.wrapping_add(*p))
            };
            elements = elements.iter().flat_map(next).collect();
        }
        let number = |e: u64| uniform(philox([key, 1], [e as u32, (e >> 32) as u32, 0, 0])[0]);
        elements.into_iter().map(number).collect()
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

/// How the output with a sink is computed from the output, its `lse` and the sink.
pub(super) type Share = fn(&mut Builder, ValueId, ValueId, ValueId) -> Result<ValueId, OpError>;

/// As fused programs do.
pub(super) const CLOSED: Share = sunk;

/// As it is defined: `out · exp lse / (exp lse + exp z)`.
pub(super) fn open(
    b: &mut Builder,
    out: ValueId,
    lse: ValueId,
    z: ValueId,
) -> Result<ValueId, OpError> {
    let (sum, more) = (b.map(Pointwise::Exp, &[lse])?, b.map(Pointwise::Exp, &[z])?);
    let all = b.map(Pointwise::Add, &[sum, more])?;
    let share = b.map(Pointwise::Div, &[sum, all])?;
    b.map(Pointwise::Mul, &[out, share])
}

fn must<T>(result: Result<T, OpError>) -> T {
    result.unwrap_or_else(|e| panic!("a trial is well typed: {e}"))
}
