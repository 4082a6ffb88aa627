//! Arithmetic of reals and ints.

use egg::Id;
use gigac_ir::graph::{Bits, DType};
use gigac_ir::pointwise::Pointwise;

use super::Set::{Exact, Reassociating};
use super::{Match, Right, Rule, When, is, text};
use crate::fuse::facts::{Terms, known, literal};
use crate::fuse::term::{Head, Term};

use Right::Build;
use When::{Active, Divisor, Finite, Is, IsInt, IsReal, NeverNegative, Number, Positive, Varies};

pub(super) const RULES: &[Rule] = &[
    rule!(Exact, "add-commutes", "(add ?a ?b)" => text("(add ?b ?a)"), [],
        "sums are written in any order"),
    rule!(Exact, "mul-commutes", "(mul ?a ?b)" => text("(mul ?b ?a)"), [],
        "products are written in any order"),
    rule!(Exact, "mul-one", "(mul ?a ?k)" => text("?a"), [Is("?k", 1.0)],
        "a gain or a mask of ones"),
    rule!(Exact, "div-one", "(div ?a ?k)" => text("?a"), [Is("?k", 1.0)], "a divisor of one"),
    rule!(Exact, "sub-zero", "(sub ?a ?k)" => text("?a"), [Is("?k", 0.0)],
        "nothing is subtracted; −0 − 0 is −0"),
    rule!(Exact, "int-add-zero", "(add ?a ?k)" => text("?a"), [Is("?k", 0.0), IsInt("?a")],
        "ints have one zero"),
    rule!(Exact, "int-sub-same", "(sub ?a ?a)" => text("0"), [IsInt("?a")],
        "the distance of a position to itself"),
    rule!(Exact, "neg-neg", "(neg (neg ?a))" => text("?a"), [], "signs cancel"),
    rule!(Exact, "add-neg", "(add ?a (neg ?b))" => text("(sub ?a ?b)"), [],
        "a difference written as a sum"),
    rule!(Exact, "sub-neg", "(sub ?a (neg ?b))" => text("(add ?a ?b)"), [],
        "a sum written as a difference"),
    rule!(Reassociating, "add-zero", "(add ?a ?k)" => text("?a"), [Is("?k", 0.0)],
        "an additive mask of zeros; −0 becomes 0"),
    rule!(Exact, "div-power-of-two", "(div ?a ?k)" => Build(by_power_of_two), [],
        "multiplying is cheaper than dividing"),
    rule!(Reassociating, "div-number", "(div ?a ?k)" => Build(by_reciprocal), [],
        "multiplying is cheaper than dividing"),
    rule!(Reassociating, "mul-reciprocal", "(mul ?a (div ?k ?b))" => text("(div ?a ?b)"),
        [Is("?k", 1.0)], "one form of x·rsqrt and x/sqrt"),
    rule!(Reassociating, "div-by-few", "(div ?a ?b)" => Build(by_few), [],
        "one division for a row, not one for each element"),
    rule!(Reassociating, "mul-numbers", "(mul (mul ?a ?k) ?l)" => Build(two_factors),
        [IsReal("?a"), Number("?k"), Number("?l")], "two scales are one"),
    rule!(Reassociating, "number-outwards", "(mul ?a (mul ?b ?k))" => text("(mul (mul ?a ?b) ?k)"),
        [IsReal("?a"), Varies("?a"), Number("?k")], "squares and products of two values stand together"),
    rule!(Reassociating, "common-factor", "(sub (mul ?a ?r) (mul ?b ?r))"
        => text("(mul (sub ?a ?b) ?r)"), [Finite("?r"), IsReal("?a"), IsReal("?b")],
        "a norm written as x·r − m·r"),
    rule!(Reassociating, "pow-one", "(pow ?a ?k)" => text("?a"), [Is("?k", 1.0)],
        "a power that is none"),
    rule!(Reassociating, "pow-square", "(pow ?a ?k)" => text("(mul ?a ?a)"), [Is("?k", 2.0)],
        "a product is cheaper than a power"),
    rule!(Reassociating, "pow-cube", "(pow ?a ?k)" => text("(mul ?a (mul ?a ?a))"),
        [Is("?k", 3.0)], "a product is cheaper than a power"),
    rule!(Reassociating, "pow-fourth", "(pow ?a ?k)" => text("(mul (mul ?a ?a) (mul ?a ?a))"),
        [Is("?k", 4.0)], "a product is cheaper than a power"),
    rule!(Reassociating, "pow-reciprocal", "(pow ?a ?k)" => text("(div 1.0 ?a)"),
        [Is("?k", -1.0)], "a quotient is cheaper than a power"),
    rule!(Reassociating, "pow-root", "(pow ?a ?k)" => text("(sqrt ?a)"),
        [Is("?k", 0.5), Positive("?a")], "a root is cheaper than a power"),
    rule!(Reassociating, "pow-inverse-root", "(pow ?a ?k)" => text("(div 1.0 (sqrt ?a))"),
        [Is("?k", -0.5), Positive("?a")], "rsqrt written as a power"),
    rule!(Reassociating, "root-of-quotient", "(sqrt (div ?k ?a))" => text("(div 1.0 (sqrt ?a))"),
        [Is("?k", 1.0), Positive("?a")], "rsqrt written as the root of a reciprocal"),
    rule!(Reassociating, "power-of-number", "(pow ?k ?a)" => Build(exponential),
        [Number("?k"), Positive("?k"), IsReal("?a"), Active("?a")],
        "a softmax of powers of two; tables of angles stay as they are"),
    rule!(Reassociating, "exp-scaled-difference", "(exp (mul (sub ?a ?b) ?k))"
        => text("(exp (sub (mul ?a ?k) (mul ?b ?k)))"), [Number("?k"), Divisor("?k")],
        "a softmax that is scaled after the maximum was subtracted"),
    rule!(Exact, "stop-scaled", "(mul (stop ?a) ?k)" => text("(stop (mul ?a ?k))"),
        [Number("?k")], "the same, where no gradient passes the maximum"),
    rule!(Reassociating, "largest-scaled", "(mul (largest ?S ?a) ?k)" => text("(largest ?S (mul ?a ?k))"),
        [Number("?k"), Positive("?k")], "the same, where gradients pass it"),
    rule!(Reassociating, "div-by-scaled", "(div ?a (mul ?b ?k))" => Build(scaled_quotient),
        [Number("?k"), Divisor("?k"), IsReal("?b")], "exponentials over their mean"),
    rule!(Reassociating, "log-exp", "(log (exp ?a))" => text("?a"), [IsReal("?a")],
        "inverse functions"),
    rule!(Reassociating, "exp-minus-log", "(exp (sub ?a (log ?z)))" => text("(div (exp ?a) ?z)"),
        [NeverNegative("?z")], "a softmax written as exp(x − logsumexp(x)): the sum is known"),
    rule!(Reassociating, "exp-minus-sum", "(exp (sub ?a (add ?l ?c)))"
        => text("(exp (sub (sub ?a ?c) ?l))"), [],
        "a softmax written as exp(x − logsumexp(x)): the maximum stands beside the logarithm"),
];

/// `a/k` as `a·(1/k)` where that is the same number.
fn by_power_of_two(terms: &mut Terms, m: &Match) -> Option<Id> {
    let k = known(terms, m.at("?k")).number()?;
    // The mantissa's bits are zero; neither k nor its reciprocal is subnormal.
    let exact = k.is_normal() && (1.0 / k).is_normal() && k.to_bits() << 12 == 0;
    exact.then(|| {
        let factor = literal(terms, DType::F32, 1.0 / k);
        terms.add(Term::map(Pointwise::Mul, &[m.at("?a"), factor]))
    })
}

fn by_reciprocal(terms: &mut Terms, m: &Match) -> Option<Id> {
    let k = known(terms, m.at("?k")).number()?;
    (k.is_finite() && k != 0.0).then(|| times(terms, m.at("?a"), 1.0 / k))
}

fn times(terms: &mut Terms, a: Id, factor: f64) -> Id {
    let factor = literal(terms, DType::F32, familiar(terms, factor));
    terms.add(Term::map(Pointwise::Mul, &[a, factor]))
}

/// Steps of rounding within which two computed numbers are the same.
const STEPS: i64 = 4;

/// The number, or 1 or one that stands there already if that differs by rounding alone: otherwise
/// scales that are multiplied in different orders would make ever more numbers, and a term for each.
fn familiar(terms: &Terms, number: f64) -> f64 {
    let near = |step: i64| f64::from_bits(number.to_bits().wrapping_add_signed(step));
    let steps = std::iter::once(0).chain((1..=STEPS).flat_map(|step| [step, -step]));
    let stands = |x: f64| terms.lookup(Term::leaf(Head::Real(Bits::from(x)))).is_some();
    let known = |x: &f64| *x == 1.0 || stands(*x);
    steps.map(near).find(known).unwrap_or(number)
}

/// `a/b` as `a·(1/b)` where `b` has fewer axes, so that fewer divisions are done.
fn by_few(terms: &mut Terms, m: &Match) -> Option<Id> {
    let (a, b) = (known(terms, m.at("?a")), known(terms, m.at("?b")));
    let fewer = b.axes.len() < a.axes.len() && b.axes.iter().all(|x| a.has(*x));
    if !fewer || b.constant.is_some() || is(a, 1.0) {
        return None;
    }
    let one = literal(terms, DType::F32, 1.0);
    let reciprocal = terms.add(Term::map(Pointwise::Div, &[one, m.at("?b")]));
    Some(terms.add(Term::map(Pointwise::Mul, &[m.at("?a"), reciprocal])))
}

/// `k^a` as `exp(a · log k)`.
fn exponential(terms: &mut Terms, m: &Match) -> Option<Id> {
    let k = known(terms, m.at("?k")).number()?;
    // An infinite exponent of 1 gives 1, not NaN.
    let exponent = (k != 1.0).then(|| times(terms, m.at("?a"), k.ln()))?;
    Some(terms.add(Term::map(Pointwise::Exp, &[exponent])))
}

/// `a/(b·k)` as `(a/b)·(1/k)`.
fn scaled_quotient(terms: &mut Terms, m: &Match) -> Option<Id> {
    let k = known(terms, m.at("?k")).number()?;
    let quotient = terms.add(Term::map(Pointwise::Div, &[m.at("?a"), m.at("?b")]));
    Some(times(terms, quotient, 1.0 / k))
}

fn two_factors(terms: &mut Terms, m: &Match) -> Option<Id> {
    let (k, l) = (known(terms, m.at("?k")).number()?, known(terms, m.at("?l")).number()?);
    Some(times(terms, m.at("?a"), k * l))
}
