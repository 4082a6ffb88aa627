//! Layout: renames, splits, merges and broadcasts that undo each other or do nothing.

use egg::Id;
use gigac_ir::pointwise::Pointwise;

use super::Set::Exact;
use super::{Match, Right, Rule, When, terms_of, text};
use crate::fuse::facts::{Known, Terms, known, listed};
use crate::fuse::term::{Head, Term};

use Right::Build;
use When::Has;

pub(super) const RULES: &[Rule] = &[
    rule!(Exact, "rename-twice", "(rename ?b ?c (rename ?a ?b ?x))" => Build(rename_twice), [],
        "two names for one axis"),
    rule!(Exact, "merge-of-split", "(merge ?f ?d (split ?d ?f ?x))" => text("?x"), [],
        "factors put together again"),
    rule!(Exact, "split-of-merge", "(split ?d ?f (merge ?f ?d ?x))" => text("?x"), [],
        "factors taken apart again"),
    rule!(Exact, "rename-of-pos", "(rename ?a ?b (pos ?a))" => text("(pos ?b)"), [],
        "positions are the same along every axis of a size"),
    rule!(Exact, "rename-of-map", "(rename ?a ?b ?x)" => Build(rename_of_map), [],
        "masks and positions are compared, whatever their axis was called"),
    rule!(Exact, "split-of-pos", "(split ?d ?f (pos ?d))" => Build(split_of_pos), [],
        "a position along a product of axes"),
    rule!(Exact, "gather-of-map", "(gather ?a ?x ?e)" => Build(gather_of_map), [],
        "only what is read is computed: log-softmax, then a choice"),
    rule!(Exact, "slice-of-map", "(slice ?a ?b ?p ?x)" => Build(slice_of_map), [],
        "only what is read is computed"),
    rule!(Exact, "largest-of-broadcast", "(largest ?a (broadcast ?a ?x))" => text("?x"), [],
        "the maximum of what does not vary"),
    rule!(Exact, "dot-broadcast", "(dot ?a (broadcast ?b ?x) ?y)" => text("(dot ?a ?x ?y)"),
        [Has("?x", "?a")], "broadcasting is free"),
];

/// `x[A -> B][B -> C]`.
fn rename_twice(terms: &mut Terms, m: &Match) -> Option<Id> {
    let (a, c) = (m.at("?a"), m.at("?c"));
    if terms.find(a) == terms.find(c) {
        return Some(m.at("?x"));
    }
    Some(terms.add(Term::new(Head::Rename, &[a, c, m.at("?x")])))
}

/// A function of operands, of which some are replaced by what `with` makes of them.
pub(super) fn rebuilt(
    terms: &mut Terms,
    function: Pointwise,
    operands: &[Id],
    changes: impl Fn(&Known) -> bool,
    with: impl Fn(&mut Terms, Id) -> Id,
) -> Id {
    let operands: Vec<Id> = operands
        .iter()
        .map(|x| if changes(known(terms, *x)) { with(terms, *x) } else { *x })
        .collect();
    terms.add(Term::map(function, &operands))
}

/// Scalar functions in a class.
pub(super) fn maps(terms: &Terms, class: Id) -> Vec<(Pointwise, Vec<Id>)> {
    let map = |term: Term| match term.head {
        Head::Map(function) => Some((function, term.children.to_vec())),
        _ => None,
    };
    terms_of(terms, class).into_iter().filter_map(map).collect()
}

/// `f(x, y)[A -> B]` as `f(x[A -> B], y[A -> B])`, for what is not a real: copies of masks are
/// cheaper than reading them.
fn rename_of_map(terms: &mut Terms, m: &Match) -> Option<Id> {
    let (a, b, x) = (m.at("?a"), m.at("?b"), m.at("?x"));
    if known(terms, x).dtype.is_real() {
        return None;
    }
    let axis = listed(terms, a)[0];
    all(terms, maps(terms, x), |terms, function, operands| {
        let rename = |terms: &mut Terms, x| terms.add(Term::new(Head::Rename, &[a, b, x]));
        rebuilt(terms, function, operands, |k| k.has(axis), rename)
    })
}

/// `x[D = e]` of a function is the function of what is read.
fn gather_of_map(terms: &mut Terms, m: &Match) -> Option<Id> {
    let (a, x, e) = (m.at("?a"), m.at("?x"), m.at("?e"));
    let axis = listed(terms, a)[0];
    all(terms, maps(terms, x), |terms, function, operands| {
        let gather = |terms: &mut Terms, x| terms.add(Term::new(Head::Gather, &[a, x, e]));
        rebuilt(terms, function, operands, |k| k.has(axis), gather)
    })
}

fn slice_of_map(terms: &mut Terms, m: &Match) -> Option<Id> {
    let (a, b, p, x) = (m.at("?a"), m.at("?b"), m.at("?p"), m.at("?x"));
    let axis = listed(terms, a)[0];
    all(terms, maps(terms, x), |terms, function, operands| {
        let slice = |terms: &mut Terms, x| terms.add(Term::new(Head::Slice, &[a, b, p, x]));
        rebuilt(terms, function, operands, |k| k.has(axis), slice)
    })
}

/// `pos(H*K)` as `pos(H)·K + pos(K)`.
fn split_of_pos(terms: &mut Terms, m: &Match) -> Option<Id> {
    let axes = listed(terms, m.at("?f")).to_vec();
    let mut sum = terms.add(Term::leaf(Head::Int(0)));
    for axis in axes {
        let size = terms.analysis.graph.size(axis) as i64;
        let size = terms.add(Term::leaf(Head::Int(size)));
        let list = terms.add(Term::axes(&[axis]));
        let pos = terms.add(Term::new(Head::Pos, &[list]));
        let scaled = terms.add(Term::map(Pointwise::Mul, &[sum, size]));
        sum = terms.add(Term::map(Pointwise::Add, &[scaled, pos]));
    }
    Some(sum)
}

/// Builds a term for each function of a class; they are equal.
fn all(
    terms: &mut Terms,
    maps: Vec<(Pointwise, Vec<Id>)>,
    mut build: impl FnMut(&mut Terms, Pointwise, &[Id]) -> Id,
) -> Option<Id> {
    let built: Vec<Id> = maps.iter().map(|(f, operands)| build(terms, *f, operands)).collect();
    let (first, rest) = built.split_first()?;
    rest.iter().for_each(|other| {
        terms.union(*first, *other);
    });
    Some(*first)
}
