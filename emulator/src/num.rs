//! Scalar arithmetic exactly as the PTX manual states it: roundings, flushing, saturation, NaN,
//! and conversions between every pair of formats.

/// Rounding modes; the integer roundings of `cvt` (`rni` …) are the same four.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Round {
    Even,
    Zero,
    Down,
    Up,
    /// `.rna`: to nearest, ties away from zero.
    Away,
}

// --- f32 -----------------------------------------------------------------------------------

/// Flushes a subnormal to a zero of the same sign if `on` (`.ftz`).
#[inline(always)]
pub(crate) fn ftz(on: bool, x: f32) -> f32 {
    let flush = on && x.to_bits() & 0x7f80_0000 == 0;
    if flush { f32::from_bits(x.to_bits() & 0x8000_0000) } else { x }
}

/// Clamps to [0, 1] if `on` (`.sat`); NaN becomes zero.
#[inline(always)]
pub(crate) fn sat(on: bool, x: f32) -> f32 {
    if !on {
        x
    } else if x > 0.0 {
        if x < 1.0 { x } else { 1.0 }
    } else {
        0.0
    }
}

/// [`sat`] for doubles.
#[inline(always)]
pub(crate) fn sat64(on: bool, x: f64) -> f64 {
    if !on {
        x
    } else if x > 0.0 {
        if x < 1.0 { x } else { 1.0 }
    } else {
        0.0
    }
}

/// Every NaN result is `0x7fffffff`.
#[inline(always)]
pub(crate) fn canon(x: f32) -> f32 {
    if x.is_nan() { f32::from_bits(0x7fff_ffff) } else { x }
}

/// The double next to `x` such that (x, err) rounds to odd: sticky information survives a second
/// rounding to a narrower format.
#[inline(always)]
pub(crate) fn to_odd(x: f64, err: f64) -> f64 {
    if err == 0.0 || !x.is_finite() || err.is_nan() || x.to_bits() & 1 == 1 {
        return x;
    }
    // The exact value lies between x and its neighbour on the side of `err`; one of the two is odd.
    if (err > 0.0) == (x > 0.0 || (x == 0.0 && err > 0.0)) {
        f64::from_bits(x.to_bits() + 1)
    } else {
        f64::from_bits(x.to_bits() - 1)
    }
}

/// Error of a sum (Knuth): `a + b = s + e` exactly.
#[inline(always)]
pub(crate) fn sum_error(a: f64, b: f64, s: f64) -> f64 {
    let bb = s - a;
    (a - (s - bb)) + (b - bb)
}

/// Rounds a double (already exact, or rounded to odd) to single.
#[inline(always)]
pub(crate) fn narrow(x: f64, round: Round) -> f32 {
    let near = x as f32;
    let back = f64::from(near);
    if x.is_nan() || back == x {
        return near;
    }
    match round {
        Round::Even | Round::Away => near,
        Round::Zero => {
            if back.abs() > x.abs() {
                step(near, -1)
            } else {
                near
            }
        }
        Round::Down => {
            if back > x {
                down32(near)
            } else {
                near
            }
        }
        Round::Up => {
            if back < x {
                up32(near)
            } else {
                near
            }
        }
    }
}

/// The neighbour of `x` away from (`+1`) or towards (`-1`) zero.
fn step(x: f32, by: i32) -> f32 {
    f32::from_bits(x.to_bits().wrapping_add_signed(by))
}

fn down32(x: f32) -> f32 {
    if x > 0.0 {
        step(x, -1)
    } else if x == 0.0 {
        -f32::from_bits(1)
    } else {
        step(x, 1)
    }
}

fn up32(x: f32) -> f32 {
    -down32(-x)
}

/// `a + b` in single, any rounding. An exact zero sum of opposite signs is −0 when rounding down.
#[inline(always)]
pub(crate) fn add32(a: f32, b: f32, round: Round) -> f32 {
    if round == Round::Even {
        return a + b;
    }
    let (x, y) = (f64::from(a), f64::from(b));
    let s = x + y;
    if s == 0.0
        && round == Round::Down
        && (a != 0.0 || a.is_sign_negative() != b.is_sign_negative())
    {
        return -0.0;
    }
    narrow(to_odd(s, sum_error(x, y, s)), round)
}

/// `a × b` in single, any rounding; the double product is exact.
#[inline(always)]
pub(crate) fn mul32(a: f32, b: f32, round: Round) -> f32 {
    if round == Round::Even { a * b } else { narrow(f64::from(a) * f64::from(b), round) }
}

/// `a × b + c` in single with one rounding.
#[inline(always)]
pub(crate) fn fma32(a: f32, b: f32, c: f32, round: Round) -> f32 {
    if round == Round::Even {
        return a.mul_add(b, c);
    }
    let (p, c) = (f64::from(a) * f64::from(b), f64::from(c));
    let s = p + c;
    if s == 0.0
        && round == Round::Down
        && (p != 0.0 || p.is_sign_negative() != c.is_sign_negative())
    {
        return -0.0;
    }
    narrow(to_odd(s, sum_error(p, c, s)), round)
}

/// `a ÷ b` in single, any rounding.
#[inline(always)]
pub(crate) fn div32(a: f32, b: f32, round: Round) -> f32 {
    if round == Round::Even {
        return a / b;
    }
    let (x, y) = (f64::from(a), f64::from(b));
    let q = x / y;
    if !q.is_finite() || b.is_infinite() {
        return q as f32;
    }
    let rest = (-q).mul_add(y, x);
    narrow(to_odd(q, if y < 0.0 { -rest } else { rest }), round)
}

/// Square root in single, any rounding.
#[inline(always)]
pub(crate) fn sqrt32(a: f32, round: Round) -> f32 {
    if round == Round::Even || a <= 0.0 || !a.is_finite() {
        return a.sqrt();
    }
    let x = f64::from(a);
    let q = x.sqrt();
    narrow(to_odd(q, (-q).mul_add(q, x)), round)
}

// --- f64 -----------------------------------------------------------------------------------

/// Moves the nearest result to the directed one, given the sign of `exact - near`.
fn direct(near: f64, error: f64, round: Round) -> f64 {
    if error == 0.0 || near.is_nan() {
        return near;
    }
    if near.is_infinite() {
        let towards = match round {
            Round::Zero => true,
            Round::Down => near > 0.0,
            Round::Up => near < 0.0,
            _ => false,
        };
        return if towards && error.is_finite() { f64::MAX.copysign(near) } else { near };
    }
    match round {
        Round::Zero if (error < 0.0) == (near > 0.0) && near != 0.0 => {
            f64::from_bits(near.to_bits() - 1)
        }
        Round::Down if error < 0.0 => near.next_down(),
        Round::Up if error > 0.0 => near.next_up(),
        _ => near,
    }
}

/// `a + b` in double.
#[inline(always)]
pub(crate) fn add64(a: f64, b: f64, round: Round) -> f64 {
    let s = a + b;
    if round == Round::Even {
        return s;
    }
    if s == 0.0
        && round == Round::Down
        && (a != 0.0 || a.is_sign_negative() != b.is_sign_negative())
    {
        return -0.0;
    }
    if s.is_infinite() && a.is_finite() && b.is_finite() {
        return direct(s, -s.signum(), round);
    }
    direct(s, if s.is_finite() { sum_error(a, b, s) } else { 0.0 }, round)
}

/// `a × b` in double.
#[inline(always)]
pub(crate) fn mul64(a: f64, b: f64, round: Round) -> f64 {
    let p = a * b;
    if round == Round::Even {
        return p;
    }
    if p.is_infinite() && a.is_finite() && b.is_finite() {
        return direct(p, -p.signum(), round);
    }
    if !p.is_finite() || a == 0.0 || b == 0.0 {
        return p;
    }
    direct(p, product_error(a, b, p), round)
}

/// Sign of `a·b − p`, scaled so that the residual itself cannot underflow.
fn product_error(a: f64, b: f64, p: f64) -> f64 {
    if p.abs() > 1e-280 {
        return a.mul_add(b, -p);
    }
    // Bring the smaller factor, and then the product, into the normal range.
    let up = 2f64.powi(600);
    let (small, large) = if a.abs() < b.abs() { (a, b) } else { (b, a) };
    let (small, p) = (small * up, p * up);
    if large.abs() < 1e-150 {
        small.mul_add(large * up, -(p * up))
    } else {
        small.mul_add(large, -p)
    }
}

/// `a × b + c` in double with one rounding.
#[inline(always)]
pub(crate) fn fma64(a: f64, b: f64, c: f64, round: Round) -> f64 {
    let near = a.mul_add(b, c);
    if round == Round::Even || !a.is_finite() || !b.is_finite() || !c.is_finite() {
        return near;
    }
    directed_fma(a, b, c, round)
}

/// A positive number `m · 2^e`; the lowest bit of `m` may stand for anything below it.
type Wide = (u128, i32);

/// [`fma64`] of finite numbers in whole numbers: the product fits in 106 bits, and of a sum only the
/// bits near its top decide, once what lies below is gathered in one sticky bit.
fn directed_fma(a: f64, b: f64, c: f64, round: Round) -> f64 {
    let ((ma, ea), (mb, eb), (mc, ec)) = (parts(a), parts(b), parts(c));
    let product = top((ma * mb, ea + eb));
    let addend = top((mc, ec));
    let negative = a.is_sign_negative() != b.is_sign_negative();
    let (large, small, sign) = if product.0 == 0 || addend.0 != 0 && addend.1 > product.1 {
        (addend, product, c.is_sign_negative())
    } else {
        (product, addend, negative)
    };
    let low = sticky_shift(small.0, large.1.abs_diff(small.1));
    let same = negative == c.is_sign_negative();
    let (m, sign) = match () {
        () if same => (large.0 + low, sign),
        () if low > large.0 => (low - large.0, !sign),
        () => (large.0 - low, sign),
    };
    if m == 0 {
        let zero_sign = if same { sign } else { round == Round::Down };
        return if zero_sign { -0.0 } else { 0.0 };
    }
    round_wide((m, large.1), sign, round)
}

/// Significand and exponent of a finite number.
fn parts(x: f64) -> Wide {
    let bits = x.to_bits();
    let (exponent, fraction) = ((bits >> 52 & 0x7ff) as i32, u128::from(bits & ((1 << 52) - 1)));
    if exponent == 0 { (fraction, -1074) } else { (fraction | 1 << 52, exponent - 1075) }
}

/// Moves the top bit to place 125, so that two of them can be added.
fn top((m, e): Wide) -> Wide {
    if m == 0 {
        return (0, i32::MIN / 2);
    }
    let up = m.leading_zeros() as i32 - 2;
    (m << up, e - up)
}

fn sticky_shift(m: u128, by: u32) -> u128 {
    match by {
        0 => m,
        1..=127 => m >> by | u128::from(m & ((1 << by) - 1) != 0),
        _ => u128::from(m != 0),
    }
}

fn round_wide((m, e): Wide, negative: bool, round: Round) -> f64 {
    let top = 127 - m.leading_zeros() as i32;
    // Exponent of the last place kept.
    let quantum = (top + e - 52).max(-1074);
    let drop = quantum - e;
    let (mut whole, rest) = if drop > 0 {
        (if drop < 128 { m >> drop } else { 0 }, drop >= 128 || m & ((1 << drop) - 1) != 0)
    } else {
        (m << -drop, false)
    };
    let away = match round {
        Round::Up => !negative,
        Round::Down => negative,
        _ => false,
    };
    whole += u128::from(rest && away);
    let (whole, quantum) =
        if whole >> 53 != 0 { (whole >> 1, quantum + 1) } else { (whole, quantum) };
    let bits = if whole >> 52 == 0 {
        whole as u64
    } else {
        let biased = (quantum + 1075) as u64;
        if biased >= 0x7ff {
            let bits = if away { f64::INFINITY } else { f64::MAX }.to_bits();
            return f64::from_bits(bits | u64::from(negative) << 63);
        }
        biased << 52 | whole as u64 & ((1 << 52) - 1)
    };
    f64::from_bits(bits | u64::from(negative) << 63)
}

/// `a ÷ b` in double.
#[inline(always)]
pub(crate) fn div64(a: f64, b: f64, round: Round) -> f64 {
    let q = a / b;
    if round == Round::Even || a == 0.0 || b == 0.0 || !a.is_finite() || !b.is_finite() {
        return q;
    }
    if q.is_infinite() {
        return direct(q, -q.signum(), round);
    }
    // A tiny dividend is scaled, or the residual itself would underflow.
    let up = if a.abs() < 1e-200 { 2f64.powi(600) } else { 1.0 };
    let rest = (-q * up).mul_add(b, a * up);
    direct(q, if b < 0.0 { -rest } else { rest }, round)
}

/// Square root in double.
#[inline(always)]
pub(crate) fn sqrt64(a: f64, round: Round) -> f64 {
    let q = a.sqrt();
    if round == Round::Even || a <= 0.0 || !a.is_finite() {
        q
    } else if a < 1e-200 {
        // The residual would underflow; roots of tiny numbers are not tiny.
        sqrt64(a * 2f64.powi(600), round) * 2f64.powi(-300)
    } else {
        direct(q, (-q).mul_add(q, a), round)
    }
}

// --- 16-bit formats ------------------------------------------------------------------------

/// binary16 bits → single, without branches, so that a loop over it is vector code.
#[inline(always)]
pub(crate) fn half_to_f32(h: u16) -> f32 {
    let sign = u32::from(h & 0x8000) << 16;
    let body = u32::from(h & 0x7fff) << 13;
    let exponent = body & (0x7c00 << 13);
    let normal = body + (112 << 23);
    let special = body + (224 << 23);
    let subnormal = (f32::from_bits(body + (113 << 23)) - f32::from_bits(113 << 23)).to_bits();
    let magnitude = if exponent == 0x7c00 << 13 {
        special
    } else if exponent == 0 {
        subnormal
    } else {
        normal
    };
    f32::from_bits(magnitude | sign)
}

/// Single → binary16 bits, to nearest even; NaN is `0x7fff`.
#[inline(always)]
pub(crate) fn f32_to_half(x: f32) -> u16 {
    let bits = x.to_bits();
    let sign = (bits >> 16) as u16 & 0x8000;
    let body = bits & 0x7fff_ffff;
    let magic = f32::from_bits((127 - 15 + 23 - 10 + 1) << 23);
    let subnormal = (f32::from_bits(body) + magic).to_bits().wrapping_sub(magic.to_bits()) as u16;
    let odd = body >> 13 & 1;
    let normal = (body.wrapping_add(0xc800_0fff).wrapping_add(odd) >> 13) as u16;
    let magnitude = if body > 0x7f80_0000 {
        return 0x7fff;
    } else if body >= (127 + 16) << 23 {
        0x7c00
    } else if body < 113 << 23 {
        subnormal
    } else {
        normal
    };
    magnitude | sign
}

/// bfloat16 bits → single.
#[inline(always)]
pub(crate) fn brain_to_f32(b: u16) -> f32 {
    f32::from_bits(u32::from(b) << 16)
}

/// Single → bfloat16 bits, to nearest even; NaN is `0x7fff`.
#[inline(always)]
pub(crate) fn f32_to_brain(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = (bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16;
    if x.is_nan() { 0x7fff } else { rounded }
}

/// A binary format by its parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Format {
    /// Stored fraction bits.
    pub(crate) fraction: i32,
    /// Exponent of the smallest normal number.
    pub(crate) emin: i32,
    /// Exponent of the largest finite numbers.
    pub(crate) emax: i32,
    /// Exponent bits.
    pub(crate) exponent: i32,
    /// Whether the top exponent holds infinities (e4m3 has none).
    pub(crate) infinity: bool,
}

#[allow(missing_docs)]
impl Format {
    pub(crate) const HALF: Format =
        Format { fraction: 10, emin: -14, emax: 15, exponent: 5, infinity: true };
    pub(crate) const BRAIN: Format =
        Format { fraction: 7, emin: -126, emax: 127, exponent: 8, infinity: true };
    pub(crate) const TF32: Format =
        Format { fraction: 10, emin: -126, emax: 127, exponent: 8, infinity: true };
    pub(crate) const SINGLE: Format =
        Format { fraction: 23, emin: -126, emax: 127, exponent: 8, infinity: true };
    pub(crate) const E4M3: Format =
        Format { fraction: 3, emin: -6, emax: 8, exponent: 4, infinity: false };
    pub(crate) const E5M2: Format =
        Format { fraction: 2, emin: -14, emax: 15, exponent: 5, infinity: true };

    fn max(self) -> f64 {
        let top = if self.infinity {
            2.0 - 2f64.powi(-self.fraction)
        } else {
            2.0 - 2.0 * 2f64.powi(-self.fraction)
        };
        top * 2f64.powi(self.emax)
    }

    /// The canonical NaN.
    pub(crate) fn nan(self) -> u32 {
        (1 << (self.fraction + self.exponent)) - 1
    }

    /// Bits of `x` rounded to this format. `finite`: out-of-range values become the largest
    /// finite number (`.satfinite`).
    pub(crate) fn encode(self, x: f64, round: Round, finite: bool) -> u32 {
        let sign = u32::from(x.is_sign_negative()) << (self.fraction + self.exponent);
        if x.is_nan() {
            return self.nan();
        }
        let a = x.abs();
        if a == 0.0 {
            return sign;
        }
        let rounded = if a.is_infinite() { a } else { self.quantise(a, round, x < 0.0) };
        if rounded > self.max() {
            return sign | self.overflow(a, round, finite, x < 0.0);
        }
        sign | self.pack(rounded)
    }

    fn quantise(self, a: f64, round: Round, negative: bool) -> f64 {
        let exponent = ((a.to_bits() >> 52) as i32 - 1023).max(self.emin);
        let scale = self.fraction - exponent;
        // Two factors, so that neither overflows.
        let (s1, s2) = (2f64.powi(scale / 2), 2f64.powi(scale - scale / 2));
        let scaled = a * s1 * s2;
        let whole = match (round, negative) {
            (Round::Even, _) => scaled.round_ties_even(),
            (Round::Away, _) => scaled.round(),
            (Round::Zero, _) | (Round::Down, false) | (Round::Up, true) => scaled.trunc(),
            (Round::Down, true) | (Round::Up, false) => scaled.ceil(),
        };
        whole / s1 / s2
    }

    fn overflow(self, a: f64, round: Round, finite: bool, negative: bool) -> u32 {
        let largest = self.pack(self.max());
        let inward = match round {
            Round::Even | Round::Away => false,
            Round::Zero => true,
            Round::Down => !negative,
            Round::Up => negative,
        };
        if finite || (inward && a.is_finite()) {
            largest
        } else if self.infinity {
            largest + 1
        } else {
            self.nan()
        }
    }

    /// Bits of a positive value that the format holds exactly.
    fn pack(self, a: f64) -> u32 {
        if a == 0.0 {
            return 0;
        }
        let exponent = ((a.to_bits() >> 52) as i32 - 1023).max(self.emin);
        let scale = self.fraction - exponent;
        let whole = (a * 2f64.powi(scale / 2) * 2f64.powi(scale - scale / 2)) as u32;
        let biased = (exponent - self.emin + 1) as u32;
        let hidden = 1u32 << self.fraction;
        if whole >= hidden { (biased << self.fraction) + (whole - hidden) } else { whole }
    }

    /// Value of the low bits of `bits`.
    pub(crate) fn decode(self, bits: u32) -> f64 {
        let sign = if bits >> (self.fraction + self.exponent) & 1 != 0 { -1.0 } else { 1.0 };
        let fraction = bits & ((1 << self.fraction) - 1);
        let exponent = bits >> self.fraction & ((1 << self.exponent) - 1);
        let top = (1u32 << self.exponent) - 1;
        let magnitude = if exponent == top && self.infinity {
            if fraction == 0 { f64::INFINITY } else { f64::NAN }
        } else if exponent == top && fraction == (1 << self.fraction) - 1 {
            f64::NAN
        } else if exponent == 0 {
            f64::from(fraction) * 2f64.powi(self.emin - self.fraction)
        } else {
            f64::from(fraction + (1 << self.fraction))
                * 2f64.powi(exponent as i32 - 1 + self.emin - self.fraction)
        };
        sign * magnitude
    }
}

/// Rounds to an integer value.
pub(crate) fn round_integer(x: f64, round: Round) -> f64 {
    match round {
        Round::Even => x.round_ties_even(),
        Round::Zero => x.trunc(),
        Round::Down => x.floor(),
        Round::Up => x.ceil(),
        Round::Away => x.round(),
    }
}

/// Rounds an integer to a double.
pub(crate) fn int_to_f64(v: i128, round: Round) -> f64 {
    let near = v as f64;
    let error = v - near as i128;
    direct(near, error as f64, round)
}

/// Rounds an integer to a single.
pub(crate) fn int_to_f32(v: i128, round: Round) -> f32 {
    let near = v as f32;
    let error = v - near as i128;
    match round {
        Round::Zero if error != 0 && (error < 0) == (v > 0) => step(near, -1),
        Round::Down if error < 0 => down32(near),
        Round::Up if error > 0 => up32(near),
        _ => near,
    }
}

// --- minimum and maximum -------------------------------------------------------------------

/// `min`/`max` for floats: a NaN loses unless `.NaN`; −0 < +0.
#[inline(always)]
pub(crate) fn minmax(a: f32, b: f32, max: bool, nan: bool) -> f32 {
    // Total order on bits: flip the magnitude of negative numbers.
    let key = |x: f32| {
        let i = x.to_bits() as i32;
        i ^ ((i >> 31) as u32 >> 1) as i32
    };
    let first = if max { key(a) >= key(b) } else { key(a) <= key(b) };
    let pick = if first { a } else { b };
    let quiet = f32::from_bits(0x7fff_ffff);
    if nan {
        if a.is_nan() || b.is_nan() { quiet } else { pick }
    } else if a.is_nan() {
        if b.is_nan() { quiet } else { b }
    } else if b.is_nan() {
        a
    } else {
        pick
    }
}

/// [`minmax`] for doubles.
#[inline(always)]
pub(crate) fn minmax64(a: f64, b: f64, max: bool) -> f64 {
    if a.is_nan() {
        return b;
    }
    if b.is_nan() {
        return a;
    }
    if (a.total_cmp(&b).is_ge()) == max { a } else { b }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_bit_conversions_agree_with_the_half_crate() {
        for bits in 0..=u16::MAX {
            let want = half::f16::from_bits(bits).to_f32();
            let got = half_to_f32(bits);
            assert!(want.to_bits() == got.to_bits() || want.is_nan() && got.is_nan(), "{bits:04x}");
            if !want.is_nan() {
                assert_eq!(f32_to_half(got), bits);
                assert_eq!(
                    Format::HALF.encode(f64::from(got), Round::Even, false),
                    u32::from(bits)
                );
                assert_eq!(Format::HALF.decode(u32::from(bits)), f64::from(got));
            }
        }
        for i in 0..2_000_000u32 {
            let x = f32::from_bits(i.wrapping_mul(2_654_435_761));
            if x.is_nan() {
                continue;
            }
            assert_eq!(f32_to_half(x), half::f16::from_f32(x).to_bits(), "{x:e}");
            assert_eq!(f32_to_brain(x), half::bf16::from_f32(x).to_bits(), "{x:e}");
            let single = Format::SINGLE.encode(f64::from(x), Round::Even, false);
            assert_eq!(single, x.to_bits());
        }
    }

    #[test]
    fn directed_roundings_enclose_the_exact_value() {
        let mut seed = 1u64;
        let mut next = || {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            f32::from_bits((seed >> 33) as u32 & 0x3fff_ffff | 0x2000_0000)
        };
        for _ in 0..100_000 {
            let (a, b) = (next(), next());
            let exact = f64::from(a) * f64::from(b);
            let (down, up) = (mul32(a, b, Round::Down), mul32(a, b, Round::Up));
            assert!(f64::from(down) <= exact && exact <= f64::from(up), "{a} {b}");
            assert!(down == up || down.next_up() == up);
            let (down, up) = (div32(a, b, Round::Down), div32(a, b, Round::Up));
            assert!(down <= a / b && a / b <= up && (down == up || down.next_up() == up));
            assert_eq!(add32(a, b, Round::Zero), add32(a, b, Round::Down));
        }
        assert_eq!(add32(1.0, f32::MIN_POSITIVE, Round::Up), 1.0f32.next_up());
        assert_eq!(add32(1.0, -f32::MIN_POSITIVE, Round::Zero), 1.0f32.next_down());
        assert_eq!(fma32(f32::MAX, 2.0, 0.0, Round::Zero), f32::MAX);
    }
}
