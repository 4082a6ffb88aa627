//! Masks: all ways to hide a score become `where(mask, score, -inf)`.
//!
//! −∞ absorbs what is added to it, so a mask moves outwards through sums, scales and the
//! exponential. What it passes must be finite, and a scale positive; the analysis proves that.

use egg::Id;
use gigac_ir::pointwise::Pointwise;

use super::Set::{Exact, Reassociating};
use super::{Match, Right, Rule, When, text};
use crate::fuse::facts::{Terms, known};
use crate::fuse::term::Term;

use Right::Build;
use When::{AboveInfinity, BelowInfinity, Finite, Is, NotNegative, Number, Positive};

const INF: f64 = f64::INFINITY;

pub(super) const RULES: &[Rule] = &[
    rule!(Exact, "choice-neg", "(neg (where ?c ?a ?b))" => text("(where ?c (neg ?a) (neg ?b))"),
        [Number("?b")], "the sign of a choice with a number"),
    rule!(Exact, "choice-real", "(real (where ?c ?a ?b))" => text("(where ?c (real ?a) (real ?b))"),
        [Number("?a"), Number("?b")], "a mask of ints used as numbers"),
    rule!(Exact, "choice-mul", "(mul (where ?c ?a ?b) ?k)"
        => text("(where ?c (mul ?a ?k) (mul ?b ?k))"), [Number("?a"), Number("?b"), Number("?k")],
        "a function of a choice of two numbers is a choice of two numbers"),
    rule!(Exact, "choice-div", "(div (where ?c ?a ?b) ?k)"
        => text("(where ?c (div ?a ?k) (div ?b ?k))"), [Number("?a"), Number("?b"), Number("?k")],
        "a function of a choice of two numbers is a choice of two numbers"),
    rule!(Exact, "choice-add", "(add (where ?c ?a ?b) ?k)"
        => text("(where ?c (add ?a ?k) (add ?b ?k))"), [Number("?a"), Number("?b"), Number("?k")],
        "a function of a choice of two numbers is a choice of two numbers"),
    rule!(Exact, "choice-sub", "(sub (where ?c ?a ?b) ?k)"
        => text("(where ?c (sub ?a ?k) (sub ?b ?k))"), [Number("?a"), Number("?b"), Number("?k")],
        "a function of a choice of two numbers is a choice of two numbers"),
    rule!(Exact, "number-minus-choice", "(sub ?k (where ?c ?a ?b))"
        => text("(where ?c (sub ?k ?a) (sub ?k ?b))"), [Number("?a"), Number("?b"), Number("?k")],
        "masks written as (1 − m)·−inf"),
    rule!(Exact, "choice-log", "(log (where ?c ?a ?b))" => text("(where ?c (log ?a) (log ?b))"),
        [Number("?a"), Number("?b")], "an additive mask written as log(m)"),
    rule!(Exact, "mask-add", "(add ?x (where ?c ?a ?k))" => text("(where ?c (add ?x ?a) ?k)"),
        [Is("?k", -INF), BelowInfinity("?x")], "a mask added to the scores"),
    rule!(Exact, "mask-sub", "(sub (where ?c ?a ?k) ?y)" => text("(where ?c (sub ?a ?y) ?k)"),
        [Is("?k", -INF), AboveInfinity("?y")], "something subtracted from masked scores"),
    rule!(Exact, "sub-masked", "(where ?c (sub ?a ?y) ?k)" => text("(sub (where ?c ?a ?k) ?y)"),
        [Is("?k", -INF), AboveInfinity("?y")], "masks applied after the maximum is subtracted"),
    rule!(Exact, "sub-mask", "(sub ?x (where ?c ?a ?k))" => text("(where ?c (sub ?x ?a) -inf)"),
        [Is("?k", INF), BelowInfinity("?x")], "a mask subtracted from the scores"),
    rule!(Exact, "mask-mul", "(mul ?x (where ?c ?a ?k))" => text("(where ?c (mul ?x ?a) ?k)"),
        [Is("?k", -INF), Positive("?x")], "a scale after the mask"),
    rule!(Exact, "mask-div", "(div (where ?c ?a ?k) ?y)" => text("(where ?c (div ?a ?y) ?k)"),
        [Is("?k", -INF), Positive("?y")], "a scale after the mask"),
    rule!(Exact, "mask-exp", "(exp (where ?c ?a ?k))" => text("(where ?c (exp ?a) 0.0)"),
        [Is("?k", -INF)], "what is masked weighs nothing"),
    rule!(Exact, "exp-masked", "(where ?c (exp ?a) ?k)" => text("(exp (where ?c ?a -inf))"),
        [Is("?k", 0.0)], "masks applied after the exponential"),
    rule!(Exact, "mask-times", "(mul ?x (where ?c ?a ?k))" => text("(where ?c (mul ?x ?a) ?k)"),
        [Is("?k", 0.0), NotNegative("?x"), Finite("?a")],
        "a mask of ones and zeros; x·0 is 0 without a sign"),
    rule!(Reassociating, "mask-times-signed", "(mul ?x (where ?c ?a ?k))"
        => text("(where ?c (mul ?x ?a) ?k)"), [Is("?k", 0.0), Finite("?x"), Finite("?a")],
        "a mask of ones and zeros; −0 becomes 0"),
    rule!(Reassociating, "large-mask", "(add ?x (where ?c ?a ?k))" => Build(large_mask),
        [Number("?a"), Number("?k")], "a mask of large numbers, taken apart for `underflow`"),
];

/// A number from which a mask of numbers is meant as one.
const LARGE: f64 = -1e3;

/// `x + where(c, a, k)` as `where(c, x + a, x + k)` for a large negative `k`.
fn large_mask(terms: &mut Terms, m: &Match) -> Option<Id> {
    let k = known(terms, m.at("?k")).number()?;
    if k > LARGE || k == -INF || !known(terms, m.at("?x")).range.finite() {
        return None;
    }
    let (x, c) = (m.at("?x"), m.at("?c"));
    let add = |terms: &mut Terms, y: Id| terms.add(Term::map(Pointwise::Add, &[x, y]));
    let (kept, hidden) = (add(terms, m.at("?a")), add(terms, m.at("?k")));
    Some(terms.add(Term::map(Pointwise::Where, &[c, kept, hidden])))
}
