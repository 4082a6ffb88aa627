//! The template of attention: `Σ softmax(score; S)·v` over `S`, where the score is a function of
//! one product `q·k`.
//!
//! Rules have made one term of all spellings of the softmax. Here the score is taken apart: scalar
//! functions, positions and numbers become the score function, values that do not vary along rows
//! and keys at once are captured, and so is what varies along both and can be had in no other way
//! (a bias, a mask that is an input). So scale, soft-cap, ALiBi, bias, window and every mask are
//! one template.

use std::collections::{HashMap, HashSet};

use egg::Id;
use gigac_ir::graph::{AxisId, Builder, ValueId};
use gigac_ir::ops::OpError;
use gigac_ir::pointwise::Pointwise;

use super::certify::{Refusal, certify};
use super::facts::{Terms, known, listed, operation};
use super::price::{Price, elements, operations};
use super::term::{Head, Term};

/// An attention that was found.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Attention {
    /// Queries.
    pub(crate) q: Id,
    /// Keys.
    pub(crate) k: Id,
    /// Values.
    pub(crate) v: Id,
    /// Axis that the softmax runs over.
    pub(crate) keys: AxisId,
    /// Axes that the product of queries and keys sums over.
    pub(crate) inner: Vec<AxisId>,
    /// The class of the score.
    pub(crate) score: Id,
    /// How each class of the score function is computed.
    pub(crate) recipe: HashMap<Id, Step>,
    /// What the score function reads beside the product.
    pub(crate) captured: Vec<Id>,
    /// One more element of each row's softmax, which has no value.
    pub(crate) sink: Option<Id>,
    /// Price of the score function.
    pub(crate) price: u64,
}

/// How the score function computes a class.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    /// It is the product of queries and keys.
    Product,
    /// It is captured.
    Captured,
    /// It is computed.
    Term(Term),
}

impl Attention {
    /// What the operation reads.
    pub(crate) fn operands(&self) -> impl Iterator<Item = Id> {
        [self.q, self.k, self.v].into_iter().chain(self.captured.iter().copied())
    }
}

/// The output of an attention with a sink: `out · Σ exp score / (Σ exp score + exp z)`, which is
/// `out · sigmoid(lse − z)`. Rows that are masked throughout are zeros already.
///
/// # Errors
/// When `z` has axes that the rows lack.
pub(crate) fn sunk(
    b: &mut Builder,
    out: ValueId,
    lse: ValueId,
    z: ValueId,
) -> Result<ValueId, OpError> {
    let half = b.real(0.5);
    let above = b.map(Pointwise::Sub, &[lse, z])?;
    let above = b.map(Pointwise::Mul, &[above, half])?;
    let share = b.map(Pointwise::Tanh, &[above])?;
    let share = b.map(Pointwise::Mul, &[share, half])?;
    let share = b.map(Pointwise::Add, &[share, half])?;
    b.map(Pointwise::Mul, &[out, share])
}

/// Adds all attentions of an e-graph, if they are certified, to the classes that they compute.
/// Gives the reasons of those that are not.
pub(crate) fn find(terms: &mut Terms, price: &Price) -> Vec<Refusal> {
    let mut refused = Vec::new();
    let mut found = Vec::new();
    for class in terms.classes() {
        for term in class.iter() {
            found.extend(matched(terms, class.id, term, price.vector));
        }
    }
    for (class, attention) in found {
        let certificate = match certify(terms, &attention) {
            Ok(certificate) => certificate,
            Err(refusal) => {
                refused.push(refusal);
                continue;
            }
        };
        let number = terms.analysis.attentions.len() as u32;
        let operands: Vec<Id> = attention.operands().chain(attention.sink).collect();
        let facts = known(terms, class).clone();
        terms.analysis.attentions.push(attention);
        terms.analysis.certificates.push(certificate);
        terms.analysis.outputs.push(facts);
        let term = terms.add(Term::new(Head::Attend(number), &operands));
        terms.union(class, term);
    }
    terms.rebuild();
    refused
}

/// Builds a class of the score function of an attention. `built` holds the captured values.
pub(crate) fn score(
    builder: &mut Builder,
    terms: &Terms,
    attention: &Attention,
    class: Id,
    product: ValueId,
    built: &mut HashMap<Id, ValueId>,
) -> ValueId {
    if let Some(value) = built.get(&class) {
        return *value;
    }
    let value = match &attention.recipe[&class] {
        Step::Product => product,
        Step::Captured => unreachable!("captured values are there"),
        Step::Term(term) => {
            let mut operands = Vec::new();
            for operand in term.operands() {
                let operand = terms.find(*operand);
                operands.push(score(builder, terms, attention, operand, product, built));
            }
            let op = operation(terms, term).expect("a score function is made of operations");
            builder.op(op, &operands).unwrap_or_else(|e| panic!("a score is ill-typed: {e}"))
        }
    };
    built.insert(class, value);
    value
}

/// The attentions that a term is.
fn matched(terms: &Terms, class: Id, term: &Term, vector: f64) -> Vec<(Id, Attention)> {
    let mut found = Vec::new();
    let Head::Dot = term.head else { return found };
    let [keys] = *listed(terms, term.children[0]) else { return found };
    let [p, v] = [term.children[1], term.children[2]];
    for softmax in terms[p].iter().filter(|t| matches!(t.head, Head::Softmax | Head::Sunk)) {
        if listed(terms, softmax.children[0]) != [keys] {
            continue;
        }
        let score = terms.find(softmax.children[1]);
        let sink = softmax.children.get(2).map(|z| terms.find(*z));
        for (product, factors) in products(terms, score, keys) {
            let template = Template { terms, score, product, vector };
            let Some((recipe, price)) = template.recipe() else { continue };
            for (q, k, inner) in factors {
                let captured = template.captured(&recipe);
                let recipe = recipe.clone();
                let v = terms.find(v);
                let attention =
                    Attention { q, k, v, keys, inner, score, recipe, captured, sink, price };
                found.push((class, attention));
            }
        }
    }
    found
}

/// A product's queries, keys and summed axes.
type Factors = (Id, Id, Vec<AxisId>);

/// The products that a score is a function of, with their axes.
fn products(terms: &Terms, score: Id, keys: AxisId) -> Vec<(Id, Vec<Factors>)> {
    let axes = &known(terms, score).axes;
    let mut found = Vec::new();
    for class in inside(terms, score) {
        if known(terms, class).axes != *axes {
            continue;
        }
        let factors = terms[class].iter().filter_map(|t| {
            let Head::Dot = t.head else { return None };
            let inner = listed(terms, t.children[0]).to_vec();
            let [q, k] = [t.children[1], t.children[2]].map(|x| terms.find(x));
            let fits = !known(terms, q).has(keys) && known(terms, k).has(keys);
            (fits && !inner.is_empty()).then_some((q, k, inner))
        });
        let factors: Vec<_> = factors.collect();
        if !factors.is_empty() {
            found.push((class, factors));
        }
    }
    found
}

/// The classes that a score is made of, itself included, through scalar functions.
pub(crate) fn inside(terms: &Terms, score: Id) -> Vec<Id> {
    let axes = &known(terms, score).axes;
    let mut found = vec![score];
    let mut next = 0;
    while let Some(class) = found.get(next).copied() {
        next += 1;
        for term in terms[class].iter().filter(|t| computes(t)) {
            for operand in term.operands() {
                let operand = terms.find(*operand);
                let fits = known(terms, operand).axes.iter().all(|a| axes.contains(a));
                if fits && !found.contains(&operand) {
                    found.push(operand);
                }
            }
        }
    }
    found
}

/// Whether a score function may have a term.
fn computes(term: &Term) -> bool {
    matches!(
        term.head,
        Head::Map(_) | Head::Pos | Head::Real(_) | Head::Int(_) | Head::Bool(_) | Head::Broadcast
    )
}

/// Pairs of rows and keys that are read from memory, then the price of the rest.
type Cost = (u64, u64);

/// A score and the product that it is a function of.
struct Template<'t> {
    terms: &'t Terms,
    score: Id,
    product: Id,
    /// Picoseconds of an operation.
    vector: f64,
}

impl Template<'_> {
    /// The cheapest way to compute the score from the product, or none when it does not depend on
    /// it. Costs only fall until nothing changes.
    fn recipe(&self) -> Option<(HashMap<Id, Step>, u64)> {
        let classes = inside(self.terms, self.score);
        let made = self.made_of_product(&classes);
        let read = |c: &&Id| **c == self.product || !made.contains(c);
        let mut best: HashMap<Id, (Cost, Step)> =
            classes.iter().filter(read).map(|c| (*c, self.read(*c))).collect();
        let mut changed = true;
        while changed {
            changed = false;
            for class in &classes {
                for term in self.terms[*class].iter().filter(|t| computes(t)) {
                    let Some(cost) = self.computed(*class, term, &best) else { continue };
                    if best.get(class).is_none_or(|known| cost < known.0) {
                        best.insert(*class, (cost, Step::Term(term.clone())));
                        changed = true;
                    }
                }
            }
        }
        let ((_, price), _) = *best.get(&self.score)?;
        let recipe = self.used(&best);
        let reads = recipe.values().any(|step| *step == Step::Product);
        reads.then_some((recipe, price))
    }

    /// The classes that depend on the product. To read one, the kernel's own product would have to lie in
    /// memory; a bias for each pair of each row would make that look as cheap.
    fn made_of_product(&self, classes: &[Id]) -> HashSet<Id> {
        let mut made = HashSet::from([self.product]);
        loop {
            let before = made.len();
            let depends = |term: &Term| {
                computes(term)
                    && term.operands().iter().any(|x| made.contains(&self.terms.find(*x)))
            };
            let more = classes.iter().filter(|c| self.terms[**c].iter().any(depends));
            let more: Vec<Id> = more.copied().collect();
            made.extend(more);
            if made.len() == before {
                return made;
            }
        }
    }

    /// A class that is there already.
    fn read(&self, class: Id) -> (Cost, Step) {
        if class == self.product {
            return ((0, 0), Step::Product);
        }
        let size = elements(self.terms, &known(self.terms, class).axes) as u64;
        let pairs = if self.varies_along_both(class) { size } else { 0 };
        // One load for each score.
        ((pairs, self.each(1.0)), Step::Captured)
    }

    /// Whether a class has the keys and another axis of the product's queries alone.
    fn varies_along_both(&self, class: Id) -> bool {
        let facts = known(self.terms, class);
        facts.axes.len() > 1
            && self.terms[self.product].iter().any(|t| {
                let Head::Dot = t.head else { return false };
                let [q, k] = [t.children[1], t.children[2]].map(|x| known(self.terms, x));
                let own = |x: &super::facts::Known, y: &super::facts::Known| {
                    facts.axes.iter().any(|a| x.has(*a) && !y.has(*a))
                };
                own(q, k) && own(k, q)
            })
    }

    fn computed(&self, class: Id, term: &Term, best: &HashMap<Id, (Cost, Step)>) -> Option<Cost> {
        let mut cost = match term.head {
            Head::Map(function) => {
                let size = elements(self.terms, &known(self.terms, class).axes);
                (0, (size * operations(function) * self.vector).ceil() as u64)
            }
            _ => (0, 0),
        };
        for operand in term.operands() {
            let (pairs, price) = best.get(&self.terms.find(*operand))?.0;
            cost = (cost.0 + pairs, cost.1 + price);
        }
        Some(cost)
    }

    fn each(&self, operations: f64) -> u64 {
        let size = elements(self.terms, &known(self.terms, self.score).axes);
        (size * operations * self.vector).ceil() as u64
    }

    /// The part of the best steps that the score needs.
    fn used(&self, best: &HashMap<Id, (Cost, Step)>) -> HashMap<Id, Step> {
        let mut used = HashMap::new();
        let mut stack = vec![self.score];
        while let Some(class) = stack.pop() {
            let step = best[&class].1.clone();
            if let Step::Term(term) = &step {
                stack.extend(term.operands().iter().map(|x| self.terms.find(*x)));
            }
            used.insert(class, step);
        }
        used
    }

    /// The captured classes, in the order of their first use.
    fn captured(&self, recipe: &HashMap<Id, Step>) -> Vec<Id> {
        let mut found = Vec::new();
        let mut stack = vec![self.score];
        while let Some(class) = stack.pop() {
            match &recipe[&class] {
                Step::Captured if !found.contains(&class) => found.push(class),
                Step::Term(term) => {
                    stack.extend(term.operands().iter().rev().map(|x| self.terms.find(*x)));
                }
                _ => {}
            }
        }
        found
    }
}
