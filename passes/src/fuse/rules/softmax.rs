//! Softmax: one term for all its spellings.
//!
//! `(softmax S x)` is 0 in rows where all of `x` is −inf, `(loose S x)` is NaN there, as the
//! spellings without a guard are. They are equal where the analysis proves that every row keeps a
//! key ([`alive`]). Neither depends on what is subtracted from a row: not in its value, and not in
//! its derivatives, so whether gradients pass the maximum (`stop`) makes no difference.

use egg::Id;
use gigac_ir::graph::{AxisId, DType};
use gigac_ir::pointwise::Pointwise;

use super::Set::Reassociating;
use super::{Match, Right, Rule, When, terms_of, text};
use crate::fuse::facts::{Facts, Terms, holds_at_minus_infinity, known, listed, literal};
use crate::fuse::term::{Head, Term};
use crate::fuse::witness::alive;

use Right::Build;
use When::{BelowInfinity, Covers, Finite, Is, Lacks, Number, Positive};

pub(super) const RULES: &[Rule] = &[
    rule!(Reassociating, "softmax", "(div (exp ?y) (sum ?S (exp ?y)))" => text("(loose ?S ?y)"), [],
        "the definition"),
    rule!(Reassociating, "softmax-after-product", "(div (dot ?S (exp ?y) ?v) (sum ?S (exp ?y)))"
        => text("(dot ?S (loose ?S ?y) ?v)"), [], "normalised after the product with the values"),
    rule!(Reassociating, "softmax-scaled-product",
        "(mul (dot ?S (exp ?y) ?v) (div ?k (sum ?S (exp ?y))))"
        => text("(dot ?S (loose ?S ?y) ?v)"), [Is("?k", 1.0)],
        "normalised after the product with the values"),
    rule!(Reassociating, "softmax-guarded", "(div (exp ?y) (max (sum ?S (exp ?y)) ?k))"
        => Build(guarded), [Number("?k")], "a sum of at least 1, or 0 in a masked row"),
    rule!(Reassociating, "softmax-guarded-first", "(div (exp ?y) (max ?k (sum ?S (exp ?y))))"
        => Build(guarded), [Number("?k")], "a sum of at least 1, or 0 in a masked row"),
    rule!(Reassociating, "softmax-guarded-product",
        "(div (dot ?S (exp ?y) ?v) (max (sum ?S (exp ?y)) ?k))" => Build(guarded_product),
        [Number("?k")], "normalised after the product with the values"),
    rule!(Reassociating, "softmax-no-zero",
        "(div (exp ?y) (where (eq (sum ?S (exp ?y)) ?z) ?k (sum ?S (exp ?y))))"
        => text("(softmax ?S ?y)"), [Is("?z", 0.0), Positive("?k"), BelowInfinity("?y")],
        "a sum that is replaced where it is 0"),
    rule!(Reassociating, "softmax-zero-row",
        "(where (eq (sum ?S (exp ?y)) ?z) ?k (div (exp ?y) (sum ?S (exp ?y))))"
        => text("(softmax ?S ?y)"), [Is("?z", 0.0), Is("?k", 0.0), BelowInfinity("?y")],
        "a row that is replaced where its sum is 0"),
    rule!(Reassociating, "loose-shift", "(loose ?S (sub ?x ?c))" => Build(shifted),
        [Lacks("?c", "?S"), Covers("?x", "?c")], "the maximum is subtracted, or something else"),
    rule!(Reassociating, "softmax-shift", "(softmax ?S (sub ?x ?c))" => text("(softmax ?S ?x)"),
        [Lacks("?c", "?S"), Covers("?x", "?c"), Finite("?c")],
        "the maximum is subtracted, or something else"),
    rule!(Reassociating, "softmax-alive", "(loose ?S ?x)" => Build(tight), [],
        "no row is masked throughout"),
    rule!(Reassociating, "softmax-again",
        "(div (where ?c (softmax ?S ?x) ?k) (sum ?S (where ?c (softmax ?S ?x) ?k)))"
        => text("(loose ?S (where ?c ?x -inf))"), [Is("?k", 0.0)],
        "masked after the softmax and normalised again"),
    rule!(Reassociating, "loose-again",
        "(div (where ?c (loose ?S ?x) ?k) (sum ?S (where ?c (loose ?S ?x) ?k)))"
        => text("(loose ?S (where ?c ?x -inf))"), [Is("?k", 0.0)],
        "masked after the softmax and normalised again"),
    rule!(Reassociating, "sink", "(div (exp ?y) (add (sum ?S (exp ?y)) (exp ?z)))"
        => text("(sunk ?S ?y ?z)"), [Lacks("?z", "?S"), Covers("?y", "?z"), Finite("?z")],
        "one more element in the sum takes a share and gives nothing"),
    rule!(Reassociating, "sink-after-product",
        "(div (dot ?S (exp ?y) ?v) (add (sum ?S (exp ?y)) (exp ?z)))"
        => text("(dot ?S (sunk ?S ?y ?z) ?v)"),
        [Lacks("?z", "?S"), Covers("?y", "?z"), Finite("?z")],
        "normalised after the product with the values"),
    rule!(Reassociating, "sink-shift", "(sunk ?S (sub ?x ?c) (sub ?z ?c))"
        => text("(sunk ?S ?x ?z)"), [Lacks("?c", "?S"), Covers("?x", "?c"), Finite("?c")],
        "the maximum is subtracted, or something else"),
    rule!(Reassociating, "sink-of-one", "(sunk ?S (sub ?x ?c) (neg ?c))"
        => text("(sunk ?S ?x 0.0)"), [Lacks("?c", "?S"), Covers("?x", "?c"), Finite("?c")],
        "one is added to the sum: exp(0), with the maximum subtracted exp(−m)"),
    rule!(Reassociating, "sink-appended", "(slice ?Z ?S ?p (softmax ?Z (append ?S ?Z ?x ?z)))"
        => Build(appended), [Covers("?x", "?z"), Finite("?z")],
        "a column of sinks that is dropped behind the softmax"),
    rule!(Reassociating, "sink-appended-loose",
        "(slice ?Z ?S ?p (loose ?Z (append ?S ?Z ?x ?z)))"
        => Build(appended), [Covers("?x", "?z"), Finite("?z")],
        "a column of sinks that is dropped behind the softmax"),
    rule!(Reassociating, "underflow", "(softmax ?S (where ?c ?x ?y))" => Build(underflow),
        [Finite("?x"), Finite("?y")],
        "a mask of −1e9 weighs nothing, if the scores are bounded and every row keeps a key"),
];

/// The only axis of a list.
fn only(terms: &Terms, axes: Id) -> Option<AxisId> {
    match listed(terms, axes) {
        [axis] => Some(*axis),
        _ => None,
    }
}

/// Whether all rows of a class are the maximum over `S` of `x`; gradients may be stopped in it.
fn is_largest(terms: &Terms, class: Id, axes: Id, x: Id) -> bool {
    let Some(largest) = terms.lookup(Term::new(Head::Largest, &[axes, x])) else { return false };
    let stopped = terms.lookup(Term::map(Pointwise::Stop, &[largest]));
    [Some(largest), stopped].contains(&Some(terms.find(class)))
}

/// Whether all rows of a class are the maximum over `S` of `x`, but finite where that is −inf.
fn is_guarded_largest(terms: &Terms, class: Id, axes: Id, x: Id) -> bool {
    let guards = |t: &Term| {
        let Head::Map(Pointwise::Where) = t.head else { return false };
        let [c, a, b] = [0, 1, 2].map(|i| t.children[i]);
        [(a, b, true), (b, a, false)].into_iter().any(|(other, m, when)| {
            is_largest(terms, m, axes, x)
                && known(terms, other).range.finite()
                && holds_at_minus_infinity(terms, c, m) == Some(when)
        })
    };
    let stopped = |t: &Term| {
        t.head == Head::Map(Pointwise::Stop) && is_guarded_largest(terms, t.children[0], axes, x)
    };
    terms[class].iter().any(|t| guards(t) || stopped(t))
}

/// `exp(x − c)/Σ exp(x − c)` for a `c` that is finite, or the maximum of `x`: a row in which that
/// is −inf is NaN either way.
fn shifted(terms: &mut Terms, m: &Match) -> Option<Id> {
    let (axes, x, c) = (m.at("?S"), m.at("?x"), m.at("?c"));
    let range = known(terms, x).range;
    let legal = known(terms, c).range.finite()
        || !range.nan
            && !range.plus
            && (is_largest(terms, c, axes, x) || is_guarded_largest(terms, c, axes, x));
    legal.then(|| terms.add(Term::new(Head::Loose, &[axes, x])))
}

/// What the guarded quotient `e/max(Σ e, k)` with `e = exp(x − c)` is: the sum is at least 1 where
/// `c` is the maximum of `x`, so `k` counts in masked rows only.
fn guarded(terms: &mut Terms, m: &Match) -> Option<Id> {
    let (axes, y) = (m.at("?S"), m.at("?y"));
    let k = known(terms, m.at("?k")).number()?;
    if !(k > 0.0 && k <= 1.0) {
        return None;
    }
    terms_of(terms, y).into_iter().find_map(|t| {
        let Head::Map(Pointwise::Sub) = t.head else { return None };
        let [x, c] = [t.children[0], t.children[1]];
        let range = known(terms, x).range;
        if range.nan || range.plus {
            return None;
        }
        let head = match () {
            () if is_guarded_largest(terms, c, axes, x) => Head::Softmax,
            () if is_largest(terms, c, axes, x) => Head::Loose,
            () => return None,
        };
        Some(terms.add(Term::new(head, &[axes, x])))
    })
}

fn guarded_product(terms: &mut Terms, m: &Match) -> Option<Id> {
    let (axes, v) = (m.at("?S"), m.at("?v"));
    let p = guarded(terms, m)?;
    Some(terms.add(Term::new(Head::Dot, &[axes, p, v])))
}

/// Without a masked row both kinds of softmax are the same.
fn tight(terms: &mut Terms, m: &Match) -> Option<Id> {
    let (axes, x) = (m.at("?S"), m.at("?x"));
    let range = known(terms, x).range;
    let legal = !range.nan && !range.plus && alive(terms, x, only(terms, axes)?);
    legal.then(|| terms.add(Term::new(Head::Softmax, &[axes, x])))
}

/// Exponents from which f64 gives 0, and f32 all the more.
const NOTHING: f64 = -746.0;

/// Masked scores that are so far below all others that their weights are 0 in every arithmetic.
fn underflow(terms: &mut Terms, m: &Match) -> Option<Id> {
    let (axes, c, x, y) = (m.at("?S"), m.at("?c"), m.at("?x"), m.at("?y"));
    let highest = known(terms, y).range.hi - known(terms, x).range.lo;
    if highest.is_nan() || highest > NOTHING {
        return None;
    }
    let hidden = literal(terms, DType::F32, f64::NEG_INFINITY);
    let masked = terms.add(Term::map(Pointwise::Where, &[c, x, hidden]));
    let legal = alive(terms, masked, only(terms, axes)?);
    legal.then(|| terms.add(Term::new(Head::Softmax, &[axes, masked])))
}

/// The first elements of a softmax over `x` and, behind it, `z`.
fn appended(terms: &mut Terms, m: &Match) -> Option<Id> {
    let whole = Facts::Attribute(Head::Affine(0, 1));
    let first = terms[m.at("?p")].data == whole;
    first.then(|| terms.add(Term::new(Head::Sunk, &[m.at("?S"), m.at("?x"), m.at("?z")])))
}
