//! Transcendental functions in f32, the same bits on every target.
//!
//! A function is written once, over [`Lanes`]: run on an [`f32`] by [`Single`], emitted as vector
//! code by the code generators. Only IEEE `+ − × ÷ √`, fused multiply-add, rounding to whole
//! numbers, comparisons and integer operations occur, so all implementations agree bit for bit.
//! There are no branches; special values flow through selections.
//!
//! | function | method | largest error (ulp) |
//! |---|---|---|
//! | [`exp`] | `2ᵏ·e^r`, `|r| ≤ ½ ln 2`, degree 7; 0 below −86 | 1.0 |
//! | [`log`] | `k·ln 2 + log(1 + f)`, `|f| ≤ ⅓`, degree 11 | 0.8 |
//! | [`tanh`] | odd polynomial below 0.5625, `1 − 2/(e^(2x) + 1)` above | 1.5 |
//! | [`erf`] | odd polynomial below 0.93, `1 − e^(−t·q(t))` above | 1.0 |
//! | [`sin`], [`cos`] | Cody and Waite's reduction by π/2 in three parts, twice; degrees 9, 10 | 1.5 |
//! | [`pow`] | `e^(y·log x)`, the logarithm and the product in two words | 1.1 |
//! | [`bf16`] | the nearest bf16, exactly | |
//!
//! `sin` and `cos`: in ulp for `|x| ≤ 10⁵`; up to 2²⁴ the absolute error stays below 3·10⁻⁷, and
//! beyond, where neighbouring floats are more than a radian apart, the result is some value in
//! `[−1, 1]`. Errors are the largest against f64 of 42 million arguments strewn over all floats (`pow`:
//! a million pairs); the tests repeat this with fewer.
//!
//! Coefficients: minimax fits of our own (Remez exchange in 140-bit arithmetic on the intervals
//! above, rounded to f32 one after the other from the lowest degree, the others fitted again).
//! Methods: Cody and Waite, "Software Manual for the Elementary Functions", 1980; the products in
//! two words follow Dekker, Numer. Math. 18 (1971).

mod power;
mod single;
#[cfg(test)]
mod tests;
mod trigonometric;

pub use power::pow;
pub use single::Single;
pub use trigonometric::{cos, sin};

/// Vectors of f32, i32 and truth values, and the operations that every target has.
///
/// Ints wrap, comparisons with NaN are false.
pub trait Lanes {
    /// Vector of f32.
    type Real: Copy;
    /// Vector of i32.
    type Int: Copy;
    /// Vector of truth values.
    type Mask: Copy;

    /// A constant in every lane.
    fn real(&self, value: f32) -> Self::Real;
    /// A constant in every lane.
    fn int(&self, value: i32) -> Self::Int;
    /// `a + b`.
    fn add(&self, a: Self::Real, b: Self::Real) -> Self::Real;
    /// `a − b`.
    fn sub(&self, a: Self::Real, b: Self::Real) -> Self::Real;
    /// `a · b`.
    fn mul(&self, a: Self::Real, b: Self::Real) -> Self::Real;
    /// `a / b`.
    fn div(&self, a: Self::Real, b: Self::Real) -> Self::Real;
    /// `a · b + c`, rounded once.
    fn fma(&self, a: Self::Real, b: Self::Real, c: Self::Real) -> Self::Real;
    /// `√a`.
    fn sqrt(&self, a: Self::Real) -> Self::Real;
    /// Largest whole number not above.
    fn floor(&self, a: Self::Real) -> Self::Real;
    /// Nearest whole number, the even one of two.
    fn round(&self, a: Self::Real) -> Self::Real;
    /// The bits of a float.
    fn bits(&self, a: Self::Real) -> Self::Int;
    /// The float with these bits.
    fn float(&self, a: Self::Int) -> Self::Real;
    /// A small int as a float, exactly.
    fn to_real(&self, a: Self::Int) -> Self::Real;
    /// `a + b`.
    fn int_add(&self, a: Self::Int, b: Self::Int) -> Self::Int;
    /// `a − b`.
    fn int_sub(&self, a: Self::Int, b: Self::Int) -> Self::Int;
    /// Bits set in both.
    fn int_and(&self, a: Self::Int, b: Self::Int) -> Self::Int;
    /// Bits set in either but not in both.
    fn int_xor(&self, a: Self::Int, b: Self::Int) -> Self::Int;
    /// `a · 2^by`.
    fn shl(&self, a: Self::Int, by: u32) -> Self::Int;
    /// `⌊a / 2^by⌋`.
    fn shr(&self, a: Self::Int, by: u32) -> Self::Int;
    /// `a < b`.
    fn lt(&self, a: Self::Real, b: Self::Real) -> Self::Mask;
    /// `a = b`.
    fn eq(&self, a: Self::Real, b: Self::Real) -> Self::Mask;
    /// `a = b`.
    fn int_eq(&self, a: Self::Int, b: Self::Int) -> Self::Mask;
    /// Both.
    fn both(&self, a: Self::Mask, b: Self::Mask) -> Self::Mask;
    /// Either.
    fn either(&self, a: Self::Mask, b: Self::Mask) -> Self::Mask;
    /// Not.
    fn not(&self, a: Self::Mask) -> Self::Mask;
    /// `then` where the mask holds.
    fn select(&self, mask: Self::Mask, then: Self::Real, otherwise: Self::Real) -> Self::Real;

    /// `|a|`.
    fn abs(&self, a: Self::Real) -> Self::Real {
        self.float(self.int_and(self.bits(a), self.int(i32::MAX)))
    }

    /// The sign bit of a float, all other bits 0.
    fn sign(&self, a: Self::Real) -> Self::Int {
        self.int_and(self.bits(a), self.int(i32::MIN))
    }

    /// Flips the sign where the sign bit of `sign` is set.
    fn flip(&self, a: Self::Real, sign: Self::Int) -> Self::Real {
        self.float(self.int_xor(self.bits(a), sign))
    }

    /// `a` kept at or below `limit`; NaN stays.
    fn at_most(&self, a: Self::Real, limit: f32) -> Self::Real {
        let limit = self.real(limit);
        self.select(self.lt(limit, a), limit, a)
    }

    /// `a` kept at or above `limit`; NaN stays.
    fn at_least(&self, a: Self::Real, limit: f32) -> Self::Real {
        let limit = self.real(limit);
        self.select(self.lt(a, limit), limit, a)
    }

    /// `c₀ + c₁x + c₂x² + …` by Horner's rule.
    fn polynomial(&self, x: Self::Real, coefficients: &[f32]) -> Self::Real {
        let (last, rest) = coefficients.split_last().expect("a polynomial has coefficients");
        rest.iter().rev().fold(self.real(*last), |sum, c| self.fma(sum, x, self.real(*c)))
    }
}

/// Adding this to `|x| < 2²²` leaves `x` rounded to a whole number in the low bits.
const SHIFTER: f32 = 12_582_912.0;

/// ln 2 in two parts; the first has 15 bits, so that its multiples by exponents are exact.
const LN_2: [f32; 2] = [0.693_145_75, 1.428_606_8e-6];

/// `(e^r − 1 − r) / r²` for `|r| ≤ ½ ln 2`; error 2⁻³¹ of `e^r`.
const EXP: [f32; 6] =
    [0.5, 0.166_666_48, 0.041_666_48, 0.008_337_85, 0.001_393_322_5, 0.000_173_448_28];

/// Below it `e^x` is 0: the result would be smaller than 2⁻¹²⁴. Processors take a hundred times as
/// long over a denormal as over any other number, and masked scores are all below.
const UNDERFLOW: f32 = -86.0;

/// `e^x`. Overflows to ∞; 0 below −86, so that no result is denormal.
pub fn exp<L: Lanes>(l: &L, x: L::Real) -> L::Real {
    let (shifted, q) = reduced(l, l.at_most(x, 89.0), None);
    // 2ᵏ may overflow where 2·e^r·2ᵏ⁻¹ does not. The exponent takes k from the low bits of
    // `shifted`, whose others are shifted out.
    let twice = l.fma(q, l.real(2.0), l.real(2.0));
    let power = l.int_add(l.shl(l.bits(shifted), 23), l.int(126 << 23));
    let scaled = l.mul(twice, l.float(power));
    l.select(l.lt(x, l.real(UNDERFLOW)), l.real(0.0), scaled)
}

/// `e^(x + tail)` for a tail below an ulp of `x`, denormal results included.
fn exp_of_sum<L: Lanes>(l: &L, x: L::Real, tail: L::Real) -> L::Real {
    // Beyond these bounds the result is 0 or ∞, and within them 2ᵏ is a product of two floats.
    let (shifted, q) = reduced(l, l.at_least(l.at_most(x, 89.0), -104.0), Some(tail));
    let k = l.int_sub(l.bits(shifted), l.bits(l.real(SHIFTER)));
    let e = l.add(l.real(1.0), q);
    let half = l.shr(k, 1);
    l.mul(l.mul(e, power_of_two(l, half)), power_of_two(l, l.int_sub(k, half)))
}

/// `e^(x + tail) = 2ᵏ·e^r`; gives `k` in the low bits of a float, and `e^r − 1`.
fn reduced<L: Lanes>(l: &L, x: L::Real, tail: Option<L::Real>) -> (L::Real, L::Real) {
    let shifted = l.fma(x, l.real(std::f32::consts::LOG2_E), l.real(SHIFTER));
    let n = l.sub(shifted, l.real(SHIFTER));
    let r = l.fma(n, l.real(-LN_2[0]), x);
    let mut r = l.fma(n, l.real(-LN_2[1]), r);
    if let Some(tail) = tail {
        r = l.add(r, tail);
    }
    let p = l.polynomial(r, &EXP);
    (shifted, l.fma(l.mul(r, r), p, r))
}

/// `2ᵏ` for the exponent of a normal float.
fn power_of_two<L: Lanes>(l: &L, k: L::Int) -> L::Real {
    l.float(l.shl(l.int_add(k, l.int(127)), 23))
}

/// `x = 2ᵏ·(1 + f)` of a positive, finite `x`, with `⅔ ≤ 1 + f < 4⁄3`; gives `(k, f)`.
fn split<L: Lanes>(l: &L, x: L::Real) -> (L::Real, L::Real) {
    let denormal = l.lt(x, l.real(f32::MIN_POSITIVE));
    let bits = l.bits(l.select(denormal, l.mul(x, l.real(8_388_608.0)), x));
    let k = l.shr(l.int_sub(bits, l.int(0x3f2a_aaab)), 23);
    let m = l.float(l.int_sub(bits, l.shl(k, 23)));
    let shift = l.select(denormal, l.real(-23.0), l.real(0.0));
    (l.add(l.to_real(k), shift), l.sub(m, l.real(1.0)))
}

/// `(log(1 + f) − f + f²/2) / f³` for `|f| ≤ ⅓`; error 2⁻²⁹ of the logarithm.
const LOG: [f32; 9] = [
    0.333_333_34,
    -0.249_998_1,
    0.199_997_65,
    -0.166_800_86,
    0.142_989_56,
    -0.121_884_65,
    0.108_203_5,
    -0.128_760_32,
    0.117_448_01,
];

/// Natural logarithm: `log 0 = −∞`, NaN below.
pub fn log<L: Lanes>(l: &L, x: L::Real) -> L::Real {
    let (k, f) = split(l, x);
    let z = l.mul(f, f);
    let y = l.mul(l.mul(f, z), l.polynomial(f, &LOG));
    let y = l.fma(k, l.real(LN_2[1]), y);
    let y = l.fma(z, l.real(-0.5), y);
    let y = l.fma(k, l.real(LN_2[0]), l.add(f, y));
    let y = l.select(l.lt(x, l.real(f32::INFINITY)), y, x);
    let y = l.select(l.eq(x, l.real(0.0)), l.real(f32::NEG_INFINITY), y);
    l.select(l.lt(x, l.real(0.0)), l.real(f32::NAN), y)
}

/// `(tanh x − x) / x³` in `x²` for `|x| ≤ 0.5625`; error 2⁻³³ of tanh.
const TANH: [f32; 6] =
    [-0.333_333_3, 0.133_332_28, -0.053_949_635, 0.021_716_474, -0.008_215_524, 0.002_175_99];

/// Hyperbolic tangent.
pub fn tanh<L: Lanes>(l: &L, x: L::Real) -> L::Real {
    let a = l.abs(x);
    let z = l.mul(a, a);
    let small = l.fma(l.mul(a, z), l.polynomial(z, &TANH), a);
    let e = exp(l, l.add(a, a));
    let large = l.sub(l.real(1.0), l.div(l.real(2.0), l.add(e, l.real(1.0))));
    l.flip(l.select(l.lt(a, l.real(0.5625)), small, large), l.sign(x))
}

/// `erf x / x − 1` in `x²` for `|x| ≤ 0.93`; error 2⁻³⁰.
const ERF: [f32; 7] = [
    0.128_379_17,
    -0.376_126_3,
    0.112_836_24,
    -0.026_855_588,
    0.005_191_948,
    -0.000_804_383_95,
    7.969_664e-5,
];

/// `−log(1 − erf t) / t − 1` for `0.92 ≤ t ≤ 4`; error 2⁻³² of erf.
const ERFC: [f32; 8] = [
    0.128_551_75,
    0.635_625_24,
    0.105_262_78,
    -0.022_674_242,
    0.002_930_232_8,
    -4.961_756e-5,
    -4.557_441e-5,
    4.937_582e-6,
];

/// Error function, `2/√π ∫₀ˣ e^(−t²) dt`.
pub fn erf<L: Lanes>(l: &L, x: L::Real) -> L::Real {
    let a = l.abs(x);
    let small = l.fma(a, l.polynomial(l.mul(a, a), &ERF), a);
    let t = l.at_most(a, 4.0);
    let exponent = l.fma(t, l.polynomial(t, &ERFC), t);
    let large = l.sub(l.real(1.0), exp(l, l.sub(l.real(0.0), exponent)));
    l.flip(l.select(l.lt(a, l.real(0.925)), small, large), l.sign(x))
}

/// The nearest bf16, the even one of two: adds just under half of the last place kept, and its
/// lowest bit. A NaN keeps its sign and upper bits and becomes quiet.
pub fn bf16<L: Lanes>(l: &L, x: L::Real) -> L::Real {
    let (bits, upper) = (l.bits(x), l.int(-0x1_0000));
    let odd = l.int_and(l.shr(bits, 16), l.int(1));
    let up = l.int_add(l.int_add(bits, l.int(0x7fff)), odd);
    let quiet = l.int_xor(l.int_and(bits, l.int(-0x41_0000)), l.int(0x40_0000));
    l.select(l.eq(x, x), l.float(l.int_and(up, upper)), l.float(l.int_and(quiet, upper)))
}

/// Remainder with the sign of the divisor, `a − b·⌊a/b⌋`.
pub fn modulo<L: Lanes>(l: &L, a: L::Real, b: L::Real) -> L::Real {
    let zero = l.real(0.0);
    let n = l.floor(l.div(a, b));
    let r = l.fma(l.sub(zero, n), b, a);
    // The quotient may have been rounded up to a whole number.
    let wrong =
        l.either(l.both(l.lt(r, zero), l.lt(zero, b)), l.both(l.lt(zero, r), l.lt(b, zero)));
    l.select(wrong, l.add(r, b), r)
}
