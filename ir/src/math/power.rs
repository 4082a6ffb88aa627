//! Powers.
//!
//! The relative error of `e^(y·log x)` is the absolute error of the exponent, which reaches 88, so
//! the logarithm is computed in two words, `head + tail`, with some 35 bits.

use super::{LN_2, Lanes, exp_of_sum, split};

/// ⅔ in two parts.
const TWO_THIRDS: [f32; 2] = [0.666_666_7, -1.986_821_6e-8];

/// `(2 artanh s − 2s − ⅔s³) / s⁵` in `s²` for `|s| ≤ 0.2`; error 2⁻³³ of the logarithm.
const ARTANH: [f32; 3] = [0.400_003_9, 0.285_256_42, 0.238_722_73];

/// `x^y` as C's `powf` has it: negative bases take whole exponents only, `x^0 = 1^y = 1`.
pub fn pow<L: Lanes>(l: &L, x: L::Real, y: L::Real) -> L::Real {
    let (zero, one) = (l.real(0.0), l.real(1.0));
    let a = l.abs(x);
    let magnitude = positive_power(l, a, y);

    let whole = l.eq(l.floor(y), y);
    let half = l.mul(y, l.real(0.5));
    let odd = l.both(whole, l.not(l.eq(l.floor(half), half)));
    let negative = l.flip(magnitude, l.sign(x));
    let signed = l.select(odd, negative, magnitude);

    let finite = l.lt(a, l.real(f32::INFINITY));
    let no_root = l.both(l.both(l.lt(x, zero), finite), l.not(whole));
    let result = l.select(no_root, l.real(f32::NAN), signed);
    l.select(l.either(l.eq(y, zero), l.eq(x, one)), one, result)
}

/// `a^y` for `a ≥ 0`.
fn positive_power<L: Lanes>(l: &L, a: L::Real, y: L::Real) -> L::Real {
    let zero = l.real(0.0);
    let (head, tail) = log_in_two_words(l, a);
    // 1^∞ is 1, and ∞·0 would be NaN.
    let one = l.eq(a, l.real(1.0));
    let product = l.select(one, zero, l.mul(y, head));
    let rest = l.fma(y, tail, l.fma(y, head, l.sub(zero, product)));
    let ordinary = l.both(l.lt(l.abs(product), l.real(200.0)), l.not(one));
    exp_of_sum(l, product, l.select(ordinary, rest, zero))
}

/// `log a` as `head + tail` for `a ≥ 0`; head is −∞ for 0, `a` for ∞ and NaN.
fn log_in_two_words<L: Lanes>(l: &L, a: L::Real) -> (L::Real, L::Real) {
    let (k, f) = split(l, a);
    let (head, tail) = log_near_one(l, f);
    let whole = l.mul(k, l.real(LN_2[0]));
    let (sum, lost) = fast_two_sum(l, whole, head);
    let rest = l.add(lost, l.fma(k, l.real(LN_2[1]), tail));
    let (head, tail) = fast_two_sum(l, sum, rest);
    let head = l.select(l.lt(a, l.real(f32::INFINITY)), head, a);
    let head = l.select(l.eq(a, l.real(0.0)), l.real(f32::NEG_INFINITY), head);
    (head, tail)
}

/// `log(1 + f) = 2 artanh s`, `s = f/(2 + f)`, in two words.
fn log_near_one<L: Lanes>(l: &L, f: L::Real) -> (L::Real, L::Real) {
    let two = l.real(2.0);
    let (d, d_tail) = fast_two_sum(l, two, f);
    let inverse = l.div(l.real(1.0), d);
    let s = l.mul(f, inverse);
    let minus_s = l.sub(l.real(0.0), s);
    let s_tail = l.mul(l.fma(minus_s, d_tail, l.fma(minus_s, d, f)), inverse);

    let (z, z_tail) = two_product(l, s, s);
    let z_tail = l.fma(l.mul(two, s), s_tail, z_tail);
    let (cube, cube_tail) = two_product(l, s, z);
    let cube_tail = l.fma(s, z_tail, l.fma(s_tail, z, cube_tail));
    let (third, third_tail) = two_product(l, cube, l.real(TWO_THIRDS[0]));
    let third_tail = l.fma(cube, l.real(TWO_THIRDS[1]), third_tail);
    let third_tail = l.fma(cube_tail, l.real(TWO_THIRDS[0]), third_tail);
    let fifth = l.mul(l.mul(z, cube), l.polynomial(z, &ARTANH));

    let (head, lost) = fast_two_sum(l, l.mul(two, s), third);
    let tail = l.add(third_tail, l.fma(two, s_tail, fifth));
    (head, l.add(lost, tail))
}

/// `a + b` rounded, and what rounding lost; `|a| ≥ |b|` or `a = 0`.
fn fast_two_sum<L: Lanes>(l: &L, a: L::Real, b: L::Real) -> (L::Real, L::Real) {
    let sum = l.add(a, b);
    (sum, l.add(l.sub(a, sum), b))
}

/// `a · b` rounded, and what rounding lost.
fn two_product<L: Lanes>(l: &L, a: L::Real, b: L::Real) -> (L::Real, L::Real) {
    let product = l.mul(a, b);
    (product, l.fma(a, b, l.sub(l.real(0.0), product)))
}
