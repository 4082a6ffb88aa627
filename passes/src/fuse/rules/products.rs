//! Products and sums: scales move out of them, so that a score is a function of `dot(q, k)`.

use egg::Id;
use gigac_ir::graph::DType;
use gigac_ir::pointwise::Pointwise;

use super::Set::{Exact, Reassociating};
use super::{Match, Right, Rule, When, text};
use crate::fuse::facts::{Terms, known, listed, literal};
use crate::fuse::term::{Head, Term};

use Right::Build;
use When::{Active, Covers, Divisor, Finite, IsReal, Lacks, Number, Together};

pub(super) const RULES: &[Rule] = &[
    rule!(Exact, "dot-commutes", "(dot ?A ?x ?y)" => text("(dot ?A ?y ?x)"), [],
        "products are written in any order"),
    rule!(Reassociating, "dot-scaled", "(dot ?A (mul ?x ?c) ?y)" => text("(mul (dot ?A ?x ?y) ?c)"),
        [Lacks("?c", "?A"), Covers("?x", "?c"), Finite("?c")],
        "a scale on q, on k, or on the score"),
    rule!(Reassociating, "scale-into-dot", "(mul (dot ?A ?x ?y) ?c)"
        => text("(dot ?A (mul ?x ?c) ?y)"),
        [Lacks("?c", "?A"), Covers("?x", "?c"), Finite("?c"), Active("?c"), Together("?x", "?y", "?A")],
        "a trained scale belongs to the queries: a score that is a function of it would be stored; \
         behind a product with a weight it is an epilogue"),
    rule!(Reassociating, "dot-divided", "(dot ?A (div ?x ?c) ?y)"
        => text("(div (dot ?A ?x ?y) ?c)"), [Lacks("?c", "?A"), Covers("?x", "?c"), Divisor("?c")],
        "a scale on q, on k, or on the score"),
    rule!(Reassociating, "dot-negated", "(dot ?A (neg ?x) ?y)" => text("(neg (dot ?A ?x ?y))"), [],
        "a sign on q, on k, or on the score"),
    rule!(Reassociating, "sum-scaled", "(sum ?A (mul ?x ?c))" => text("(mul (sum ?A ?x) ?c)"),
        [Lacks("?c", "?A"), Covers("?x", "?c"), Finite("?c")],
        "a mean written as the sum of x·(1/n)"),
    rule!(Reassociating, "sum-divided", "(sum ?A (div ?x ?c))" => text("(div (sum ?A ?x) ?c)"),
        [Lacks("?c", "?A"), Covers("?x", "?c"), Divisor("?c")], "a mean written as the sum of x/n"),
    rule!(Reassociating, "sum-of-product", "(sum ?A (mul ?x ?y))" => Build(matrix_product),
        [IsReal("?x")], "a matrix product written as a sum"),
    rule!(Reassociating, "dot-of-number", "(dot ?A ?x ?k)" => Build(sum_of_scaled),
        [Number("?k"), Finite("?k"), IsReal("?x")], "a mean written as a product with ones"),
    rule!(Reassociating, "dot-of-merged", "(dot ?A (merge ?f ?d ?x) ?y)" => Build(dot_of_merged),
        [], "heads merged before the output projection, or batches of heads"),
    rule!(Exact, "dot-of-renamed", "(dot ?b (rename ?a ?b ?x) (rename ?a ?b ?y))"
        => text("(dot ?a ?x ?y)"), [], "the name of a summed axis does not matter"),
];

/// `Σ x·y` as a product, where both have axes that the other lacks: elsewhere it is a reduction.
fn matrix_product(terms: &mut Terms, m: &Match) -> Option<Id> {
    let (axes, x, y) = (m.at("?A"), m.at("?x"), m.at("?y"));
    let (a, b) = (known(terms, x), known(terms, y));
    let shared = listed(terms, axes).iter().all(|s| a.has(*s) && b.has(*s));
    let free = a.axes.iter().any(|s| !b.has(*s)) && b.axes.iter().any(|s| !a.has(*s));
    (shared && free).then(|| terms.add(Term::new(Head::Dot, &[axes, x, y])))
}

/// `Σ x·k` as `(Σ x)·k`.
fn sum_of_scaled(terms: &mut Terms, m: &Match) -> Option<Id> {
    let (axes, x) = (m.at("?A"), m.at("?x"));
    let number = known(terms, m.at("?k")).number()?;
    if listed(terms, axes).is_empty() {
        return None;
    }
    let sum = terms.add(Term::new(Head::Sum, &[axes, x]));
    let number = literal(terms, DType::F32, number);
    Some(terms.add(Term::map(Pointwise::Mul, &[sum, number])))
}

/// A product of something whose axes are merged: the merge moves behind the product, or, where the
/// merged axis is summed, the other operand is split instead.
fn dot_of_merged(terms: &mut Terms, m: &Match) -> Option<Id> {
    let (axes, f, d) = (m.at("?A"), m.at("?f"), m.at("?d"));
    let (x, y) = (m.at("?x"), m.at("?y"));
    let merged = listed(terms, d)[0];
    let factors = listed(terms, f).to_vec();
    let summed = listed(terms, axes).to_vec();
    let other = known(terms, y);
    if factors.iter().any(|a| other.has(*a)) {
        return None;
    }
    let y = if other.has(merged) { terms.add(Term::new(Head::Split, &[d, f, y])) } else { y };
    if !summed.contains(&merged) {
        let product = terms.add(Term::new(Head::Dot, &[axes, x, y]));
        return Some(terms.add(Term::new(Head::Merge, &[f, d, product])));
    }
    let mut all: Vec<_> = summed.into_iter().filter(|a| *a != merged).chain(factors).collect();
    all.sort_unstable();
    let all = terms.add(Term::axes(&all));
    Some(terms.add(Term::new(Head::Dot, &[all, x, y])))
}
