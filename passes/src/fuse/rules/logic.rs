//! Truth values: masks are simplified before anything looks at them.

use egg::Id;
use gigac_ir::graph::DType;
use gigac_ir::pointwise::Pointwise;

use super::Set::Exact;
use super::{Match, Right, Rule, When, text};
use crate::fuse::facts::{Terms, known, literal};
use crate::fuse::term::Term;

use Right::Build;
use When::{Is, IsBool, IsInt, Number, Ordered};

pub(super) const RULES: &[Rule] = &[
    rule!(Exact, "and-commutes", "(and ?a ?b)" => text("(and ?b ?a)"), [],
        "masks are written in any order"),
    rule!(Exact, "or-commutes", "(or ?a ?b)" => text("(or ?b ?a)"), [],
        "masks are written in any order"),
    rule!(Exact, "and-true", "(and ?a ?b)" => text("?a"), [Is("?b", 1.0)],
        "a mask of ones masks nothing"),
    rule!(Exact, "or-false", "(or ?a ?b)" => text("?a"), [Is("?b", 0.0)],
        "an empty alternative allows nothing"),
    rule!(Exact, "and-same", "(and ?a ?a)" => text("?a"), [], "a mask applied twice"),
    rule!(Exact, "or-same", "(or ?a ?a)" => text("?a"), [], "a mask applied twice"),
    rule!(Exact, "absorb-or", "(and ?a (or ?a ?b))" => text("?a"), [],
        "a wider mask around a narrower one"),
    rule!(Exact, "absorb-and", "(or ?a (and ?a ?b))" => text("?a"), [],
        "a narrower mask beside a wider one"),
    rule!(Exact, "not-not", "(not (not ?a))" => text("?a"), [], "masks of what is hidden"),
    rule!(Exact, "greater", "(gt ?a ?b)" => text("(lt ?b ?a)"), [], "one order of comparisons"),
    rule!(Exact, "greater-equal", "(ge ?a ?b)" => text("(le ?b ?a)"), [],
        "one order of comparisons"),
    rule!(Exact, "not-less", "(not (lt ?a ?b))" => text("(le ?b ?a)"),
        [Ordered("?a"), Ordered("?b")], "masks of what is hidden; NaN is in no order"),
    rule!(Exact, "not-less-equal", "(not (le ?a ?b))" => text("(lt ?b ?a)"),
        [Ordered("?a"), Ordered("?b")], "masks of what is hidden; NaN is in no order"),
    rule!(Exact, "not-equal", "(not (eq ?a ?b))" => text("(ne ?a ?b)"), [],
        "masks of what is hidden"),
    rule!(Exact, "not-unequal", "(not (ne ?a ?b))" => text("(eq ?a ?b)"), [],
        "masks of what is hidden"),
    rule!(Exact, "equal-commutes", "(eq ?a ?b)" => text("(eq ?b ?a)"), [],
        "documents are compared in any order"),
    rule!(Exact, "unequal-commutes", "(ne ?a ?b)" => text("(ne ?b ?a)"), [],
        "documents are compared in any order"),
    rule!(Exact, "distance-not-negative", "(le ?z (sub ?a ?b))" => text("(le ?b ?a)"),
        [Is("?z", 0.0), IsInt("?a")], "a causal mask written as a distance"),
    rule!(Exact, "distance-not-positive", "(le (sub ?a ?b) ?z)" => text("(le ?a ?b)"),
        [Is("?z", 0.0), IsInt("?a")], "a causal mask written as a distance"),
    rule!(Exact, "below-next", "(lt ?a (add ?b ?k))" => text("(le ?a ?b)"),
        [Is("?k", 1.0), IsInt("?a")], "a causal mask written with a strict order"),
    rule!(Exact, "where-true", "(where ?c ?a ?b)" => text("?a"), [Is("?c", 1.0)],
        "a mask of ones masks nothing"),
    rule!(Exact, "where-false", "(where ?c ?a ?b)" => text("?b"), [Is("?c", 0.0)],
        "a branch never taken"),
    rule!(Exact, "where-same", "(where ?c ?a ?a)" => text("?a"), [], "equal branches"),
    rule!(Exact, "where-not", "(where (not ?c) ?a ?b)" => text("(where ?c ?b ?a)"), [],
        "masks of what is hidden"),
    rule!(Exact, "where-number-first", "(where ?c ?k ?x)" => Build(number_last), [Number("?k")],
        "masked values stand second, so that masking has one form"),
    rule!(Exact, "where-where-and", "(where ?c (where ?d ?a ?b) ?b)"
        => text("(where (and ?c ?d) ?a ?b)"), [], "two masks are one"),
    rule!(Exact, "where-where-or", "(where ?c ?a (where ?d ?a ?b))"
        => text("(where (or ?c ?d) ?a ?b)"), [], "two alternatives are one mask"),
    rule!(Exact, "real-of-bool", "(real ?c)" => text("(where ?c 1.0 0.0)"), [IsBool("?c")],
        "masks of numbers become masks of truth values"),
    rule!(Exact, "bool-of-where", "(where ?c true false)" => text("?c"), [],
        "a truth value chosen by itself"),
    rule!(Exact, "test-of-where-eq", "(eq (where ?c ?a ?b) ?k)" => Build(test_equal),
        [Number("?a"), Number("?b"), Number("?k")], "a mask of numbers compared with one of them"),
    rule!(Exact, "test-of-where-ne", "(ne (where ?c ?a ?b) ?k)" => Build(test_unequal),
        [Number("?a"), Number("?b"), Number("?k")], "a mask of numbers compared with one of them"),
    rule!(Exact, "test-of-where-lt", "(lt (where ?c ?a ?b) ?k)" => Build(test_less),
        [Number("?a"), Number("?b"), Number("?k")], "a mask of numbers compared with a threshold"),
    rule!(Exact, "test-of-where-gt", "(lt ?k (where ?c ?a ?b))" => Build(test_greater),
        [Number("?a"), Number("?b"), Number("?k")], "a mask of numbers compared with a threshold"),
];

/// `where(c, k, x)` as `where(!c, x, k)`, unless `x` is a number too.
fn number_last(terms: &mut Terms, m: &Match) -> Option<Id> {
    let (c, k, x) = (m.at("?c"), m.at("?k"), m.at("?x"));
    if known(terms, x).constant.is_some() {
        return None;
    }
    let other = terms.add(Term::map(Pointwise::Not, &[c]));
    Some(terms.add(Term::map(Pointwise::Where, &[other, x, k])))
}

fn test_equal(terms: &mut Terms, m: &Match) -> Option<Id> {
    test(terms, m, |x, k| x == k)
}

fn test_unequal(terms: &mut Terms, m: &Match) -> Option<Id> {
    test(terms, m, |x, k| x != k)
}

fn test_less(terms: &mut Terms, m: &Match) -> Option<Id> {
    test(terms, m, |x, k| x < k)
}

fn test_greater(terms: &mut Terms, m: &Match) -> Option<Id> {
    test(terms, m, |x, k| k < x)
}

/// A comparison of `where(c, a, b)` with a number is `c`, its opposite, or known.
fn test(terms: &mut Terms, m: &Match, holds: fn(f64, f64) -> bool) -> Option<Id> {
    let number = |name: &str| known(terms, m.at(name)).number();
    let (a, b, k) = (number("?a")?, number("?b")?, number("?k")?);
    let c = m.at("?c");
    Some(match (holds(a, k), holds(b, k)) {
        (true, false) => c,
        (false, true) => terms.add(Term::map(Pointwise::Not, &[c])),
        (both, _) => literal(terms, DType::Bool, f64::from(both)),
    })
}
