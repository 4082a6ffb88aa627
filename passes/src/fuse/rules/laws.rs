//! The law of rules: what a rule adds to a class means the same as the class did.
//!
//! Every rule's left side is instantiated with random operands over random axes (numbers, masks
//! with rows hidden throughout, −∞, zeros of both signs), the rule is applied to that graph alone,
//! and every term of every class is evaluated in f64. Exact rules must keep the bits, the others
//! 1e-9 relative; both must keep all gradients.

use std::collections::HashMap;

use egg::{ENodeOrVar, Id, Pattern, Var};
use gigac_ir::graph::{
    AxisId, Builder, DType, Feed, Graph, Init, Input, InputId, Op, Param, ParamId, Role, Slot,
    Stored, Type, ValueId,
};
use gigac_ir::interpret::{Bindings, interpret};
use gigac_ir::kernel::Reduction;
use gigac_ir::ops::OpError;
use gigac_ir::philox::{philox, uniform};
use gigac_ir::pointwise::Pointwise as P;
use gigac_ir::tensor::Tensor;

use super::{Rule, Set, When, all};
use crate::differentiate::differentiate;
use crate::fuse::facts::{Facts, Terms, operation};
use crate::fuse::import::import;
use crate::fuse::search::saturate;
use crate::fuse::term::{Head, Term};

/// How often a rule must apply.
const WANTED: usize = 8;
/// Graphs tried for that.
const TRIES: u32 = 40_000;

/// Left sides that are narrower than the rule's, for rules that look at more than their pattern.
const INSTANCES: &[(&str, &str)] = &[
    ("softmax-guarded", GUARDED),
    ("softmax-guarded-first", GUARDED_FIRST),
    ("softmax-guarded-product", GUARDED_PRODUCT),
    ("repeat-heads", "(gather ?g ?x (floordiv (pos ?h) 2))"),
    ("rename-of-map", "(rename ?a ?b (le ?x (pos ?a)))"),
    ("split-of-map", "(split ?d ?f (le ?x (pos ?d)))"),
    ("gather-of-map", "(gather ?a (sub ?x ?y) ?e)"),
    ("slice-of-map", "(slice ?a ?b ?p (mul ?x ?y))"),
    ("softmax-alive", "(loose ?S (where (le (pos ?S) (pos ?T)) ?x -inf))"),
    ("underflow", "(softmax ?S (where (le (pos ?S) (pos ?T)) (tanh ?x) -1e4))"),
    ("loose-shift", "(loose ?S (sub ?x (stop (largest ?S ?x))))"),
    ("merge-of-where-split", "(where (le (pos ?d) ?e) (merge ?f ?d ?x) ?k)"),
    ("int-sub-same", "(sub (pos ?T) (pos ?T))"),
    ("exp-scaled-difference", "(exp (mul (sub ?a ?b) 0.7))"),
];

const GUARDED: &str = "(div (exp (sub ?x (where (eq (stop (largest ?S ?x)) -inf) 0.0 (stop (largest ?S ?x))))) \
    (max (sum ?S (exp (sub ?x (where (eq (stop (largest ?S ?x)) -inf) 0.0 (stop (largest ?S ?x)))))) ?k))";
const GUARDED_FIRST: &str = "(div (exp (sub ?x (where (lt -inf (largest ?S ?x)) (largest ?S ?x) 0.0))) \
    (max ?k (sum ?S (exp (sub ?x (where (lt -inf (largest ?S ?x)) (largest ?S ?x) 0.0))))))";
const GUARDED_PRODUCT: &str = "(div (dot ?S (exp (sub ?x (where (ne (largest ?S ?x) -inf) (largest ?S ?x) 0.0))) ?v) \
    (max (sum ?S (exp (sub ?x (where (ne (largest ?S ?x) -inf) (largest ?S ?x) 0.0)))) ?k))";

#[test]
fn rules_keep_values_and_gradients() {
    let failures: Vec<String> = all().iter().filter_map(|rule| check(rule).err()).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

#[test]
fn names_are_unique() {
    let mut names: Vec<_> = all().into_iter().map(|r| r.name).collect();
    names.sort();
    let before = names.len();
    names.dedup();
    assert_eq!(names.len(), before);
}

fn check(rule: &Rule) -> Result<(), String> {
    let specific = INSTANCES.iter().find(|(name, _)| *name == rule.name).map(|(_, left)| *left);
    let left: Pattern<Term> = specific.unwrap_or(&rule.left).parse().expect("a pattern");
    let rewrite = [rule.rewrite()];
    let (mut applied, mut typed) = (0, 0);
    for key in 0..TRIES {
        let Ok(mut case) = Case::new(rule, &left, key) else { continue };
        typed += 1;
        case.finish();
        let graph = &case.graph;
        let mut declared = graph.clone();
        declared.root = Default::default();
        let imported = import(graph, declared, &graph.root, &HashMap::new(), |_| true);
        let mut imported = imported;
        for (head, axes, x, result) in &case.softmaxes {
            let axes = imported.terms.add(Term::axes(axes));
            let operands = x.iter().map(|x| imported.classes[x]);
            let children: Vec<Id> = [axes].into_iter().chain(operands).collect();
            let term = Term::new(head.clone(), &children);
            let class = imported.terms.add(term);
            imported.terms.union(class, imported.classes[result]);
        }
        imported.terms.rebuild();
        let before = imported.terms.total_size();
        let terms = imported.terms;
        let search = std::panic::AssertUnwindSafe(|| saturate(terms, &rewrite, 10_000, 1));
        let Ok(searched) = std::panic::catch_unwind(search) else {
            return Err(format!("rule `{}`, case {key}: it panics on\n{graph}", rule.name));
        };
        if searched.terms.total_size() == before && searched.applied.is_empty() {
            continue;
        }
        let classes = imported.classes;
        case.compare(rule, &searched.terms, &classes)
            .map_err(|e| format!("rule `{}`, case {key}: {e}\n{graph}", rule.name))?;
        applied += 1;
        if applied == WANTED {
            return Ok(());
        }
    }
    Err(format!("rule `{}` applied to {applied} of {typed} graphs", rule.name))
}

/// A random graph whose result is a rule's left side.
struct Case {
    b: Option<Builder>,
    graph: Graph,
    bindings: Bindings,
    key: u32,
    count: u32,
    root: ValueId,
    /// Softmaxes of the left side, which stand in the graph as what they mean.
    softmaxes: Vec<(Head, Vec<AxisId>, Vec<ValueId>, ValueId)>,
}

impl Case {
    fn new(rule: &Rule, left: &Pattern<Term>, key: u32) -> Result<Self, OpError> {
        let mut b = Builder::new(Graph::new("law"));
        for (name, size) in
            [("T", 3), ("S", 3), ("H", 4), ("G", 2), ("K", 2), ("R", 2), ("D", 6), ("J", 1)]
        {
            b.graph.add_axis(name, size);
        }
        let (graph, root) = (Graph::new(""), ValueId(0));
        let bindings = Bindings::default();
        let mut case =
            Self { b: Some(b), graph, bindings, key, count: 0, root, softmaxes: Vec::new() };
        case.root = case.instance(rule, left)?;
        Ok(case)
    }

    fn b(&mut self) -> &mut Builder {
        self.b.as_mut().expect("the graph is being built")
    }

    fn finish(&mut self) {
        let mut b = self.b.take().expect("the graph is being built");
        b.result(Role::Output("y".into()), self.root);
        self.graph = b.finish();
        self.graph.verify().expect("a well-formed graph");
    }

    fn random(&mut self) -> f64 {
        self.count += 1;
        uniform(philox([self.key, 9], [self.count, 0, 0, 0])[0])
    }

    fn below(&mut self, n: usize) -> usize {
        (self.random() * n as f64) as usize
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// The left side over random operands.
    fn instance(&mut self, rule: &Rule, left: &Pattern<Term>) -> Result<ValueId, OpError> {
        let mut lists: HashMap<Var, Vec<AxisId>> = HashMap::new();
        let mut values: HashMap<Var, ValueId> = HashMap::new();
        let mut built: Vec<Option<ValueId>> = Vec::new();
        for node in left.ast.iter() {
            let value = match node {
                ENodeOrVar::Var(_) => None,
                ENodeOrVar::ENode(term) => {
                    let (attributes, operands) = term.children.split_at(term.attributes());
                    for child in attributes {
                        lists.entry(variable(left, *child)).or_insert_with(|| self.list());
                    }
                    let attributes: Vec<Vec<AxisId>> =
                        attributes.iter().map(|c| lists[&variable(left, *c)].clone()).collect();
                    let mut given = Vec::new();
                    for child in operands {
                        given.push(match &left.ast[*child] {
                            ENodeOrVar::ENode(_) => {
                                built[usize::from(*child)].expect("children precede parents")
                            }
                            ENodeOrVar::Var(v) => match values.get(v) {
                                Some(known) => *known,
                                None => {
                                    let value = self.operand(rule, &v.to_string())?;
                                    values.insert(*v, value);
                                    value
                                }
                            },
                        });
                    }
                    Some(self.emit(term, &attributes, &given)?)
                }
            };
            built.push(value);
        }
        Ok(built.pop().flatten().expect("the root is an operation"))
    }

    /// A random list of axes.
    fn list(&mut self) -> Vec<AxisId> {
        let axis = |i: u32| AxisId(i);
        match self.below(4) {
            0 => vec![axis(3), axis(4)],
            1 => vec![self.below(8) as u32, self.below(8) as u32].into_iter().map(axis).collect(),
            _ => vec![axis(self.below(8) as u32)],
        }
    }

    /// A term of the pattern as a node of the graph.
    fn emit(
        &mut self,
        term: &Term,
        lists: &[Vec<AxisId>],
        operands: &[ValueId],
    ) -> Result<ValueId, OpError> {
        let one = |i: usize| match lists[i][..] {
            [axis] => Ok(axis),
            _ => Err(OpError::Carried),
        };
        let distinct = lists.iter().all(|l| (1..l.len()).all(|i| !l[..i].contains(&l[i])));
        if !distinct {
            return Err(OpError::Carried);
        }
        let op = match &term.head {
            Head::Real(x) => Op::Real(*x),
            Head::Int(i) => Op::Int(*i),
            Head::Bool(x) => Op::Bool(*x),
            Head::Map(f) => return self.b().ops(Op::Pointwise(*f), operands).map(|r| r[0]),
            Head::Pos => Op::Pos(one(0)?),
            Head::Rename => Op::Rename { from: one(0)?, to: one(1)? },
            Head::Split => Op::Split { from: one(0)?, to: lists[1].clone() },
            Head::Merge => Op::Merge { from: lists[0].clone(), to: one(1)? },
            Head::Slice => Op::Slice { axis: one(0)?, to: Some(one(1)?), start: 0, stride: 1 },
            Head::Broadcast => Op::Broadcast { axes: lists[0].clone() },
            Head::Gather => Op::Gather { axis: one(0)? },
            Head::Sum => Op::Reduce { op: Reduction::Sum, axes: lists[0].clone() },
            Head::Largest => Op::Reduce { op: Reduction::Max, axes: lists[0].clone() },
            Head::Dot => Op::Dot { axes: lists[0].clone() },
            Head::Append => Op::Cat { pieces: vec![Some(one(0)?), None], to: one(1)? },
            Head::Softmax | Head::Loose | Head::Sunk => {
                let result = softmax(self.b(), &term.head, &lists[0], operands)?;
                let term = (term.head.clone(), lists[0].clone(), operands.to_vec(), result);
                self.softmaxes.push(term);
                return Ok(result);
            }
            head => panic!("no pattern has {head:?}"),
        };
        self.b().op(op, operands)
    }

    /// A random operand, one that a condition of the rule asks for more often than not.
    fn operand(&mut self, rule: &Rule, name: &str) -> Result<ValueId, OpError> {
        let asked = rule.when.iter().find_map(|w| match w {
            When::Is(v, x) if *v == name => Some(Asked::Number(*x)),
            When::Number(v) if *v == name => Some(Asked::AnyNumber),
            When::Positive(v) | When::NotNegative(v) if *v == name => Some(Asked::Positive),
            _ => None,
        });
        match asked {
            Some(asked) if self.random() < 0.8 => self.asked(asked),
            _ => self.any(),
        }
    }

    fn asked(&mut self, asked: Asked) -> Result<ValueId, OpError> {
        match asked {
            Asked::Number(x) => self.number(x),
            Asked::AnyNumber => {
                let x = self.pick(&NUMBERS);
                self.number(x)
            }
            Asked::Positive => {
                let x = self.param();
                self.b().map(P::Exp, &[x])
            }
        }
    }

    /// A number as a real, an int or a truth value, sometimes along an axis.
    fn number(&mut self, x: f64) -> Result<ValueId, OpError> {
        let op = match self.below(3) {
            0 if x.fract() == 0.0 => Op::Int(x as i64),
            1 if x == 0.0 || x == 1.0 => Op::Bool(x != 0.0),
            _ => Op::Real(x.into()),
        };
        let value = self.b().op(op, &[])?;
        let axis = AxisId(self.below(8) as u32);
        if self.random() < 0.2 {
            return self.b().op(Op::Broadcast { axes: vec![axis] }, &[value]);
        }
        Ok(value)
    }

    fn any(&mut self) -> Result<ValueId, OpError> {
        let axis = AxisId(self.below(8) as u32);
        match self.below(14) {
            0..=3 => Ok(self.param()),
            4 => {
                let x = self.param();
                self.b().map(P::Exp, &[x])
            }
            5 => {
                let x = self.param();
                self.b().map(P::Mul, &[x, x])
            }
            6 => {
                let (c, x) = (self.truth()?, self.param());
                let low = self.b().real(f64::NEG_INFINITY);
                self.b().map(P::Where, &[c, x, low])
            }
            7 => {
                let x = self.pick(&NUMBERS);
                self.number(x)
            }
            8 => self.b().op(Op::Pos(axis), &[]),
            9 => Ok(self.input(2)),
            10 | 11 => self.truth(),
            12 => {
                let x = self.param();
                self.b().map(P::Tanh, &[x])
            }
            _ => {
                let x = self.param();
                let axes = vec![axis];
                self.b().op(Op::Broadcast { axes }, &[x])
            }
        }
    }

    /// A mask: of positions, of data, or one that hides everything.
    fn truth(&mut self) -> Result<ValueId, OpError> {
        let [a, c] = [0, 1].map(|_| AxisId(self.below(8) as u32));
        let (x, y) = (self.b().op(Op::Pos(a), &[])?, self.b().op(Op::Pos(c), &[])?);
        match self.below(4) {
            0 => self.b().op(Op::Bool(false), &[]),
            1 => {
                let (z, one) = (self.input(3), self.b().int(1));
                self.b().map(P::Lt, &[z, one])
            }
            _ => self.b().map(P::Le, &[x, y]),
        }
    }

    fn axes(&mut self) -> Vec<AxisId> {
        (0..8).filter(|_| self.random() < 0.45).map(AxisId).collect()
    }

    /// A parameter. In one of four some elements are zero, of either sign.
    fn param(&mut self) -> ValueId {
        let axes = self.axes();
        let id = ParamId(self.b().graph.params.len() as u32);
        let name = format!("p{}", id.0);
        self.b().graph.params.push(Param {
            name: name.clone(),
            dims: axes.iter().map(|a| vec![*a]).collect(),
            init: Init::Constant(0.0),
            lr: 1.0,
            decay: 1.0,
            frozen: false,
            rounded: false,
            stored: Stored::plain(&name, axes.len()),
            span: None,
        });
        let (count, edges) = (self.b().graph.elements(&axes), self.random() < 0.25);
        let data = (0..count).map(|_| match self.below(8) {
            0 if edges => 0.0,
            1 if edges => -0.0,
            _ => 4.0 * self.random() - 2.0,
        });
        let data = data.collect();
        self.bindings.params.insert((id, Slot::Weight), data);
        self.b().op(Op::Param(id, Slot::Weight), &[]).expect("a parameter")
    }

    /// An input of ints below `hi`.
    fn input(&mut self, hi: i64) -> ValueId {
        let axes = self.axes();
        let id = InputId(self.b().graph.inputs.len() as u32);
        let ty = Type { dtype: DType::Int { lo: 0, hi }, axes: axes.clone() };
        let name = format!("i{}", id.0);
        self.b().graph.inputs.push(Input { name, ty, feed: Feed::Data, span: None });
        let count = self.b().graph.elements(&axes);
        let data = (0..count).map(|_| self.below(hi as usize) as f64).collect();
        self.bindings.inputs.insert(id, data);
        self.b().op(Op::Input(id), &[]).expect("an input")
    }

    /// Compares all terms of all classes with what their classes were.
    fn compare(
        &self,
        rule: &Rule,
        terms: &Terms,
        classes: &HashMap<ValueId, Id>,
    ) -> Result<(), String> {
        let mut values: Vec<(Id, ValueId)> =
            classes.iter().map(|(value, class)| (terms.find(*class), *value)).collect();
        values.sort_unstable();
        let written: HashMap<Id, ValueId> = values.iter().rev().copied().collect();
        for (class, value) in &written {
            self.compare_facts(terms, *class, *value)?;
            for term in terms[*class].iter() {
                let mut b = Builder::new(self.graph.clone());
                let Some(other) = Rebuild { terms, written: &written, b: &mut b }.term(term, 0)
                else {
                    continue;
                };
                let graph = b.finish();
                let results = |v| self.results(&graph, v);
                same(rule.set, &results(*value), &results(other))
                    .map_err(|e| format!("`{term}` of {value}: {e}"))?;
            }
        }
        Ok(())
    }

    /// Checks what the analysis says of a class.
    fn compare_facts(&self, terms: &Terms, class: Id, value: ValueId) -> Result<(), String> {
        let Facts::Value(facts) = &terms[class].data else { return Ok(()) };
        let mut graph = self.graph.clone();
        graph.root.results = vec![value];
        graph.roles = vec![Role::Output("y".into())];
        let found = interpret(&graph, &self.bindings).expect("it runs").remove(0);
        let r = facts.range;
        for x in &found.data {
            let inside = match *x {
                x if x.is_nan() => r.nan,
                x if x == f64::INFINITY => r.plus,
                x if x == f64::NEG_INFINITY => r.minus,
                x => {
                    let slack = 1e-9 * (1.0 + x.abs());
                    x >= r.lo - slack && x <= r.hi + slack && (x != 0.0 || r.zero)
                }
            };
            let constant = facts.number().is_none_or(|c| {
                c == *x || c.is_nan() && x.is_nan() || (c - x).abs() <= 1e-9 * x.abs()
            });
            if !inside || !constant {
                return Err(format!("{value} is {x}, but {facts:?}"));
            }
        }
        Ok(())
    }

    /// A value, and the gradients of a weighted sum of its finite elements.
    fn results(&self, graph: &Graph, value: ValueId) -> (Tensor, Vec<Tensor>) {
        let mut graph = graph.clone();
        graph.root.results = vec![value];
        graph.roles = vec![Role::Output("y".into())];
        let y = interpret(&graph, &self.bindings).expect("it runs").remove(0);
        if !graph.ty(value).dtype.is_real() {
            return (y, Vec::new());
        }
        graph.root.results.clear();
        graph.roles.clear();
        let mut b = Builder::new(graph);
        // The order of axes fixes the weights, and may differ between spellings.
        let mut axes = b.ty(value).axes.clone();
        axes.sort_unstable();
        let loss = (|| {
            let (low, high, zero) = (b.real(f64::NEG_INFINITY), b.real(f64::INFINITY), b.real(0.0));
            let above = b.map(P::Gt, &[value, low])?;
            let below = b.map(P::Lt, &[value, high])?;
            let finite = b.map(P::And, &[above, below])?;
            let y = b.map(P::Where, &[finite, value, zero])?;
            let weight = b.op(Op::Noise { axes: axes.clone(), key: 3 }, &[])?;
            let y = b.map(P::Mul, &[y, weight])?;
            b.op(Op::Reduce { op: Reduction::Sum, axes }, &[y])
        })()
        .unwrap_or_else(|e: OpError| panic!("{e}"));
        b.result(Role::LossTerm(0), loss);
        let joint = differentiate(&b.finish(), 1);
        let mut all = interpret(&joint, &self.bindings).expect("it runs");
        all.remove(0);
        (y, all)
    }
}

/// What a condition asks for.
enum Asked {
    Number(f64),
    AnyNumber,
    Positive,
}

const NUMBERS: [f64; 12] =
    [0.0, 1.0, -1.0, 2.0, 0.5, 3.0, -0.5, 4.0, 0.3, -1e4, f64::NEG_INFINITY, f64::INFINITY];

fn variable(pattern: &Pattern<Term>, child: Id) -> Var {
    match &pattern.ast[child] {
        ENodeOrVar::Var(v) => *v,
        ENodeOrVar::ENode(_) => panic!("attributes of patterns are variables"),
    }
}

/// The softmax that a term of the e-graph stands for.
fn softmax(
    b: &mut Builder,
    head: &Head,
    axes: &[AxisId],
    operands: &[ValueId],
) -> Result<ValueId, OpError> {
    let x = operands[0];
    let m = b.op(Op::Reduce { op: Reduction::Max, axes: axes.to_vec() }, &[x])?;
    let m = b.map(P::Stop, &[m])?;
    if let [_, sink] = operands[..] {
        let m = b.map(P::Max, &[m, sink])?;
        let shifted = [x, sink].map(|x| b.map(P::Sub, &[x, m]));
        let [x, sink] = shifted;
        let (e, more) = (b.map(P::Exp, &[x?])?, b.map(P::Exp, &[sink?])?);
        let sum = b.op(Op::Reduce { op: Reduction::Sum, axes: axes.to_vec() }, &[e])?;
        let sum = b.map(P::Add, &[sum, more])?;
        return b.map(P::Div, &[e, sum]);
    }
    let (low, zero, half) = (b.real(f64::NEG_INFINITY), b.real(0.0), b.real(0.5));
    let none = b.map(P::Eq, &[m, low])?;
    let shift = b.map(P::Where, &[none, zero, m])?;
    let x = b.map(P::Sub, &[x, shift])?;
    let e = b.map(P::Exp, &[x])?;
    let sum = b.op(Op::Reduce { op: Reduction::Sum, axes: axes.to_vec() }, &[e])?;
    let sum = if *head == Head::Softmax { b.map(P::Max, &[sum, half])? } else { sum };
    b.map(P::Div, &[e, sum])
}

/// Terms as values of a graph that has one value of each written class.
struct Rebuild<'a> {
    terms: &'a Terms,
    written: &'a HashMap<Id, ValueId>,
    b: &'a mut Builder,
}

impl Rebuild<'_> {
    /// A term's value, or none when that goes too deep.
    fn term(&mut self, term: &Term, depth: u32) -> Option<ValueId> {
        if depth > 6 {
            return None;
        }
        let mut operands = Vec::new();
        for operand in term.operands() {
            operands.push(self.class(self.terms.find(*operand), depth + 1)?);
        }
        let built = match &term.head {
            Head::Softmax | Head::Loose | Head::Sunk => {
                let axes = super::listed(self.terms, term.children[0]).to_vec();
                softmax(self.b, &term.head, &axes, &operands)
            }
            _ => {
                // Axes that the rule made.
                self.b.graph.axes.clone_from(&self.terms.analysis.graph.axes);
                self.b.op(operation(self.terms, term)?, &operands)
            }
        };
        Some(built.unwrap_or_else(|e| panic!("`{term}` is ill-typed: {e}")))
    }

    fn class(&mut self, class: Id, depth: u32) -> Option<ValueId> {
        if let Some(value) = self.written.get(&class) {
            return Some(*value);
        }
        self.terms[class].iter().find_map(|t| self.term(t, depth))
    }
}

fn same(
    set: Set,
    (a, da): &(Tensor, Vec<Tensor>),
    (b, db): &(Tensor, Vec<Tensor>),
) -> Result<(), String> {
    let b = b.arranged(&a.axes, &a.sizes);
    for (x, y) in a.data.iter().zip(&b.data) {
        let equal = match set {
            Set::Exact => x.to_bits() == y.to_bits(),
            Set::Reassociating => x == y || (x - y).abs() <= 1e-9 * (1.0 + x.abs()),
        };
        if !(equal || x.is_nan() && y.is_nan()) {
            return Err(format!("{y} instead of {x}"));
        }
    }
    for (i, (x, y)) in da.iter().zip(db).enumerate() {
        let y = y.arranged(&x.axes, &x.sizes);
        for (x, y) in x.data.iter().zip(&y.data) {
            // A gradient that is not finite may become one that is.
            let close = (x - y).abs() <= 1e-8 * (1.0 + x.abs());
            if x.is_finite() && !close {
                return Err(format!("gradient {i} is {y} instead of {x}"));
            }
        }
    }
    Ok(())
}
