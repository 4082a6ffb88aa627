//! What is known of every class of the e-graph: axes, element type, range, constness.
//!
//! All terms of a class have the same axes and the same kind of elements; a rule that would unite
//! others, or build a term that does not type-check (two crossing axes renamed alike), is broken,
//! and the analysis says so.

use std::collections::HashMap;

use egg::{Analysis, DidMerge, EGraph, Id};
use gigac_ir::graph::{AxisId, Bits, DType, Graph, Op, Type, ValueId};
use gigac_ir::kernel::Reduction;
use gigac_ir::ops;
use gigac_ir::ops::vjp::is_smooth;
use gigac_ir::pointwise::Pointwise;
use smallvec::SmallVec;

use super::attend::Attention;
use super::certify::Certificate;
use super::range::{self, Range};
use super::term::{Head, Term};

/// The e-graph of a region.
pub(crate) type Terms = EGraph<Term, Context>;

/// Axes of a value, ascending.
pub(crate) type AxisSet = SmallVec<[AxisId; 6]>;

/// What is known of a value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Known {
    /// Its axes, ascending.
    pub(crate) axes: AxisSet,
    /// Element type.
    pub(crate) dtype: DType,
    /// Its elements.
    pub(crate) range: Range,
    /// The number that all elements are.
    pub(crate) constant: Option<Bits>,
    /// Whether gradients may flow through it to a parameter.
    pub(crate) active: bool,
}

impl Known {
    fn of(ty: &Type, range: Range, constant: Option<Bits>, active: bool) -> Self {
        let mut axes: AxisSet = ty.axes.iter().copied().collect();
        axes.sort_unstable();
        Self { axes, dtype: ty.dtype, range, constant, active }
    }

    /// Whether it varies along an axis.
    pub(crate) fn has(&self, axis: AxisId) -> bool {
        self.axes.binary_search(&axis).is_ok()
    }

    /// The number that all elements are.
    pub(crate) fn number(&self) -> Option<f64> {
        self.constant.map(Bits::get)
    }

    fn ty(&self) -> Type {
        Type { dtype: self.dtype, axes: self.axes.to_vec() }
    }
}

/// What is known of a class.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Facts {
    /// An attribute.
    Attribute(Head),
    /// Several values.
    Tuple,
    /// A value.
    Value(Known),
}

/// What terms refer to: axes, declarations, types of values from outside, operations.
pub(crate) struct Context {
    /// Axes, parameters and inputs; the graph's nodes are not here.
    pub(crate) graph: Graph,
    /// Types of the values that terms name.
    pub(crate) types: HashMap<ValueId, Type>,
    /// Attentions of [`Head::Attend`], their certificates, and what is known of their outputs.
    pub(crate) attentions: Vec<Attention>,
    pub(crate) certificates: Vec<Certificate>,
    pub(crate) outputs: Vec<Known>,
    /// Operations of [`Head::Other`].
    ops: Vec<Op>,
    /// Their numbers.
    numbers: HashMap<Op, u32>,
    /// Axes made by rules: a part of an axis, by the axis, the name and the size.
    parts: HashMap<(AxisId, u64), AxisId>,
}

impl Context {
    /// A context without values.
    pub(crate) fn new(graph: Graph) -> Self {
        Self {
            graph,
            types: HashMap::new(),
            attentions: Vec::new(),
            certificates: Vec::new(),
            outputs: Vec::new(),
            ops: Vec::new(),
            numbers: HashMap::new(),
            parts: HashMap::new(),
        }
    }

    /// The number of an operation.
    pub(crate) fn number(&mut self, op: &Op) -> u32 {
        if let Some(known) = self.numbers.get(op) {
            return *known;
        }
        let number = self.ops.len() as u32;
        self.ops.push(op.clone());
        self.numbers.insert(op.clone(), number);
        number
    }

    /// The operation with a number.
    pub(crate) fn op(&self, number: u32) -> &Op {
        &self.ops[number as usize]
    }

    /// An axis for the copies that repeat something along `axis`; the same one each time.
    pub(crate) fn part(&mut self, axis: AxisId, size: u64) -> AxisId {
        if let Some(known) = self.parts.get(&(axis, size)) {
            return *known;
        }
        let name = format!("{}.copy", self.graph.axes[axis.index()].name);
        let part = self.graph.add_axis(&name, size);
        self.parts.insert((axis, size), part);
        part
    }
}

/// What is known of a value's class.
///
/// # Panics
/// When the class is an attribute or a tuple.
pub(crate) fn known(terms: &Terms, id: Id) -> &Known {
    match &terms[id].data {
        Facts::Value(known) => known,
        other => panic!("a value was expected, not {other:?}"),
    }
}

/// The axes that an attribute lists.
pub(crate) fn listed(terms: &Terms, id: Id) -> &[AxisId] {
    match &terms[id].data {
        Facts::Attribute(Head::Axes(axes)) => axes,
        other => panic!("a list of axes was expected, not {other:?}"),
    }
}

/// The graph's operation that a term stands for, or none when it has no such form.
pub(crate) fn operation(terms: &Terms, term: &Term) -> Option<Op> {
    let axes = |i: usize| listed(terms, term.children[i]);
    let axis = |i: usize| axes(i)[0];
    Some(match &term.head {
        Head::Real(bits) => Op::Real(*bits),
        Head::Int(i) => Op::Int(*i),
        Head::Bool(b) => Op::Bool(*b),
        Head::Map(function) => Op::Pointwise(*function),
        Head::Pos => Op::Pos(axis(0)),
        Head::Rename => Op::Rename { from: axis(0), to: axis(1) },
        Head::Split => Op::Split { from: axis(0), to: axes(1).to_vec() },
        Head::Merge => Op::Merge { from: axes(0).to_vec(), to: axis(1) },
        Head::Slice => {
            let Facts::Attribute(Head::Affine(start, stride)) = terms[term.children[2]].data else {
                panic!("the third attribute of a slice is affine")
            };
            Op::Slice { axis: axis(0), to: axes(1).first().copied(), start, stride }
        }
        Head::Broadcast => Op::Broadcast { axes: axes(0).to_vec() },
        Head::Gather => Op::Gather { axis: axis(0) },
        Head::Sum => Op::Reduce { op: Reduction::Sum, axes: axes(0).to_vec() },
        Head::Largest => Op::Reduce { op: Reduction::Max, axes: axes(0).to_vec() },
        Head::Dot => Op::Dot { axes: axes(0).to_vec() },
        Head::Append => Op::Cat { pieces: vec![Some(axis(0)), None], to: axis(1) },
        Head::Other(number) => terms.analysis.op(*number).clone(),
        _ => return None,
    })
}

/// What follows for a term from what is known of its children.
fn facts(terms: &Terms, term: &Term) -> Facts {
    match &term.head {
        Head::Axes(_) | Head::Affine(..) => Facts::Attribute(term.head.clone()),
        Head::Node(_) => Facts::Tuple,
        Head::Attend(number) => Facts::Value(terms.analysis.outputs[*number as usize].clone()),
        Head::Value(value) | Head::Result(value) => {
            let ty = &terms.analysis.types[value];
            Facts::Value(Known::of(ty, outside(ty), None, ty.dtype.is_real()))
        }
        Head::Softmax | Head::Loose => {
            let x = known(terms, term.children[1]);
            let nan = x.range.nan || x.range.plus || term.head == Head::Loose && x.range.minus;
            let range = Range { nan, ..Range::within(0.0, 1.0) };
            Facts::Value(Known { range, constant: None, dtype: DType::F32, ..x.clone() })
        }
        Head::Sunk => {
            let [x, z] = [1, 2].map(|i| known(terms, term.children[i]));
            let nan = x.range.nan || x.range.plus || !z.range.finite();
            let range = Range { nan, ..Range::within(0.0, 1.0) };
            let mut axes: AxisSet = x.axes.iter().chain(&z.axes).copied().collect();
            axes.sort_unstable();
            axes.dedup();
            let active = x.active || z.active;
            Facts::Value(Known { axes, dtype: DType::F32, range, constant: None, active })
        }
        _ => Facts::Value(computed(terms, term)),
    }
}

/// Values from outside are finite.
fn outside(ty: &Type) -> Range {
    match ty.dtype {
        DType::Int { lo, hi } => Range::within(lo as f64, (hi - 1).max(lo) as f64),
        DType::Bool => Range::within(0.0, 1.0),
        DType::F32 | DType::Bf16 => Range::FINITE,
    }
}

fn computed(terms: &Terms, term: &Term) -> Known {
    let op = operation(terms, term).expect("all other heads are operations");
    let operands: Vec<&Known> = term.operands().iter().map(|c| known(terms, *c)).collect();
    let types: Vec<Type> = operands.iter().map(|k| k.ty()).collect();
    let types: Vec<&Type> = types.iter().collect();
    let inferred = ops::infer(&op, &terms.analysis.graph, &types)
        .unwrap_or_else(|e| panic!("a rule built the ill-typed term `{term}`: {e}"));
    let [ty] = &inferred[..] else { panic!("`{term}` has several results") };
    let range = match ty.dtype {
        DType::Int { .. } => outside(ty),
        _ => ranged(terms, term, &op, &operands),
    };
    let constant = match &op {
        Op::Real(bits) => Some(*bits),
        _ => constant(&op, ty, range, &operands),
    };
    let source = matches!(op, Op::Param(..));
    let flows = source || is_smooth(&op) && operands.iter().any(|k| k.active);
    Known::of(ty, range, constant, ty.dtype.is_real() && flows)
}

/// The range of a term whose type is not an int.
fn ranged(terms: &Terms, term: &Term, op: &Op, operands: &[&Known]) -> Range {
    let ranges: SmallVec<[Range; 3]> = operands.iter().map(|k| k.range).collect();
    let count = |axes: &[AxisId]| terms.analysis.graph.elements(axes);
    let same = matches!(term.operands(), [a, b, ..] if terms.find(*a) == terms.find(*b));
    match op {
        Op::Real(bits) => Range::of(bits.get()),
        Op::Bool(b) => Range::of(f64::from(*b)),
        Op::Pointwise(Pointwise::Where) => chosen(terms, term, &ranges),
        Op::Pointwise(function) => range::apply(*function, &ranges, same),
        Op::Noise { .. } => Range::within(0.0, 1.0),
        Op::Reduce { op: Reduction::Sum, axes } if count(axes) > 0 => ranges[0].times(count(axes)),
        Op::Reduce { op: Reduction::Max, axes } if count(axes) > 0 => ranges[0],
        Op::Dot { axes } if count(axes) > 0 => {
            range::apply(Pointwise::Mul, &ranges, same).times(count(axes))
        }
        Op::Rename { .. }
        | Op::Split { .. }
        | Op::Merge { .. }
        | Op::Slice { .. }
        | Op::Broadcast { .. }
        | Op::Cast(_)
        | Op::Gather { .. } => ranges[0],
        Op::Pad { .. } => ranges[0].hull(Range::of(0.0)),
        Op::Cat { .. } => ranges.iter().copied().reduce(Range::hull).unwrap_or(Range::ANY),
        Op::Param(..) | Op::Input(_) => Range::FINITE,
        _ => Range::ANY,
    }
}

/// The range of a choice: `where(m == -inf, a, m)` and its like are not −inf where `m` is taken.
fn chosen(terms: &Terms, term: &Term, ranges: &[Range]) -> Range {
    let mut ranges: SmallVec<[Range; 3]> = ranges.into();
    let [c, a, b] = [0, 1, 2].map(|i| term.children[i]);
    for (i, branch, taken) in [(1, a, false), (2, b, true)] {
        if holds_at_minus_infinity(terms, c, branch) == Some(taken) {
            ranges[i].minus = false;
        }
    }
    range::apply(Pointwise::Where, &ranges, false)
}

/// The truth of a condition that tells −inf from all other values of `m`, where `m` is −inf.
pub(crate) fn holds_at_minus_infinity(terms: &Terms, condition: Id, m: Id) -> Option<bool> {
    let m = unstopped(terms, m);
    let negated = terms[condition].iter().filter(|t| t.head == Head::Map(Pointwise::Not));
    let inner = negated.flat_map(|t| terms[t.children[0]].iter());
    let direct = terms[condition].iter().find_map(|t| compares(terms, t, m));
    direct.or_else(|| inner.into_iter().find_map(|t| compares(terms, t, m)).map(|holds| !holds))
}

/// The value that gradients are stopped in, or the value itself.
fn unstopped(terms: &Terms, class: Id) -> Id {
    let inner = terms[class].iter().find_map(|t| match t.head {
        Head::Map(Pointwise::Stop) => Some(t.children[0]),
        _ => None,
    });
    terms.find(inner.unwrap_or(class))
}

/// The truth of a comparison of `m` with −inf, where `m` is −inf, if it is another elsewhere.
fn compares(terms: &Terms, term: &Term, m: Id) -> Option<bool> {
    let (Head::Map(function), [a, b]) = (&term.head, &term.children[..]) else { return None };
    let bound = |x: Id| known(terms, x).number() == Some(f64::NEG_INFINITY);
    let is_m = |x: Id| unstopped(terms, x) == m;
    let (right, left) = (is_m(*a) && bound(*b), bound(*a) && is_m(*b));
    match function {
        Pointwise::Eq if right || left => Some(true),
        Pointwise::Ne if right || left => Some(false),
        Pointwise::Gt if right => Some(false),
        Pointwise::Lt if left => Some(false),
        _ => None,
    }
}

/// The number that all elements are, when it is known.
fn constant(op: &Op, ty: &Type, range: Range, operands: &[&Known]) -> Option<Bits> {
    match ty.dtype {
        DType::Int { .. } | DType::Bool => {
            (range.lo == range.hi && !range.nan).then(|| range.lo.into())
        }
        _ => {
            let numbers = operands.iter().map(|k| k.number()).collect::<Option<SmallVec<[_; 3]>>>();
            match (op, numbers?) {
                (Op::Pointwise(function), numbers) if !numbers.is_empty() => {
                    Some((function.def().eval)(&numbers).into())
                }
                (
                    Op::Rename { .. }
                    | Op::Split { .. }
                    | Op::Merge { .. }
                    | Op::Slice { .. }
                    | Op::Broadcast { .. }
                    | Op::Gather { .. },
                    numbers,
                ) => Some(numbers[0].into()),
                _ => None,
            }
        }
    }
}

impl Analysis<Term> for Context {
    type Data = Facts;

    fn make(terms: &mut Terms, term: &Term, _: Id) -> Facts {
        facts(terms, term)
    }

    fn merge(&mut self, to: &mut Facts, from: Facts) -> DidMerge {
        let (Facts::Value(a), Facts::Value(b)) = (&mut *to, &from) else {
            assert!(*to == from, "a rule united {to:?} and {from:?}");
            return DidMerge(false, false);
        };
        let kind = a.dtype.is_real() == b.dtype.is_real()
            && (a.dtype == DType::Bool) == (b.dtype == DType::Bool);
        assert!(a.axes == b.axes && kind, "a rule united {a:?} and {b:?}");
        let both = Known {
            axes: a.axes.clone(),
            dtype: narrower(a.dtype, b.dtype),
            range: a.range.both(b.range),
            constant: a.constant.or(b.constant),
            active: a.active && b.active,
        };
        let changed = DidMerge(*a != both, *b != both);
        *a = both;
        changed
    }

    /// A class that is known to be one number gets that number as a term.
    fn modify(terms: &mut Terms, id: Id) {
        let Facts::Value(known) = &terms[id].data else { return };
        let Some(number) = known.number() else { return };
        let written = |t: &Term| match t.head {
            Head::Real(_) | Head::Int(_) | Head::Bool(_) => true,
            Head::Broadcast => self::known(terms, t.children[1]).constant.is_some(),
            _ => false,
        };
        if terms[id].iter().any(written) {
            return;
        }
        let (axes, dtype) = (known.axes.to_vec(), known.dtype);
        let number = literal(terms, dtype, number);
        let constant = broadcast(terms, number, &axes);
        terms.union(id, constant);
    }
}

/// A constant of a type.
pub(crate) fn literal(terms: &mut Terms, dtype: DType, number: f64) -> Id {
    terms.add(Term::leaf(match dtype {
        DType::Int { .. } => Head::Int(number as i64),
        DType::Bool => Head::Bool(number != 0.0),
        DType::F32 | DType::Bf16 => Head::Real(number.into()),
    }))
}

/// A value with more axes; none is the value itself.
pub(crate) fn broadcast(terms: &mut Terms, value: Id, axes: &[AxisId]) -> Id {
    if axes.is_empty() {
        return value;
    }
    let axes = terms.add(Term::axes(axes));
    terms.add(Term::new(Head::Broadcast, &[axes, value]))
}

/// The type that both descriptions of a value allow.
fn narrower(a: DType, b: DType) -> DType {
    match (a, b) {
        (DType::Int { lo, hi }, DType::Int { lo: c, hi: d }) => {
            DType::Int { lo: lo.max(c), hi: hi.min(d) }
        }
        _ => a,
    }
}
