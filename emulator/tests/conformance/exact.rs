//! Binary floating point in whole numbers of any length: every operation is exact and rounds once.
//! It shares nothing with the emulator, which computes with the host's floating point.

use num_bigint::BigUint;

/// A binary format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Format {
    /// Bits of the significand, the hidden one included.
    pub(crate) precision: u64,
    /// Exponents of the smallest normal and of the largest finite number.
    pub(crate) emin: i64,
    pub(crate) emax: i64,
    /// Whether the top exponent means infinity; without, it only has one NaN.
    pub(crate) infinity: bool,
}

pub(crate) const F64: Format = Format { precision: 53, emin: -1022, emax: 1023, infinity: true };
pub(crate) const F32: Format = Format { precision: 24, emin: -126, emax: 127, infinity: true };
pub(crate) const F16: Format = Format { precision: 11, emin: -14, emax: 15, infinity: true };
pub(crate) const BF16: Format = Format { precision: 8, emin: -126, emax: 127, infinity: true };
pub(crate) const TF32: Format = Format { precision: 11, emin: -126, emax: 127, infinity: true };
pub(crate) const E4M3: Format = Format { precision: 4, emin: -6, emax: 8, infinity: false };
pub(crate) const E5M2: Format = Format { precision: 3, emin: -14, emax: 15, infinity: true };

/// Roundings of the manual.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Even,
    Zero,
    Down,
    Up,
    Away,
}

impl Mode {
    /// From `.rn` or `.rni` and so on; to nearest even by default.
    pub(crate) fn of(words: &[&str]) -> Mode {
        let has = |a: &str| words.iter().any(|w| *w == a || *w == format!("{a}i"));
        match () {
            () if has("rz") => Mode::Zero,
            () if has("rm") => Mode::Down,
            () if has("rp") => Mode::Up,
            () if has("rna") => Mode::Away,
            () => Mode::Even,
        }
    }
}

/// A value: a sign and a magnitude.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Value {
    pub(crate) negative: bool,
    pub(crate) magnitude: Magnitude,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Magnitude {
    Nan,
    Infinite,
    /// `m · 2^e`; the lowest bit of `m` may stand for anything nonzero below it.
    Finite(BigUint, i64),
}

use Magnitude::{Finite, Infinite, Nan};

fn zero() -> BigUint {
    BigUint::ZERO
}

pub(crate) fn nan() -> Value {
    Value { negative: false, magnitude: Nan }
}

pub(crate) fn infinite(negative: bool) -> Value {
    Value { negative, magnitude: Infinite }
}

pub(crate) fn finite(negative: bool, m: BigUint, e: i64) -> Value {
    Value { negative, magnitude: Finite(m, e) }
}

pub(crate) fn integer(v: i128) -> Value {
    finite(v < 0, BigUint::from(v.unsigned_abs()), 0)
}

impl Value {
    pub(crate) fn is_nan(&self) -> bool {
        self.magnitude == Nan
    }

    pub(crate) fn is_infinite(&self) -> bool {
        self.magnitude == Infinite
    }

    pub(crate) fn is_zero(&self) -> bool {
        matches!(&self.magnitude, Finite(m, _) if *m == zero())
    }

    pub(crate) fn negate(&self, on: bool) -> Value {
        Value { negative: self.negative ^ on, ..self.clone() }
    }

    pub(crate) fn abs(&self) -> Value {
        Value { negative: false, ..self.clone() }
    }

    /// The nearest double, for comparisons with a tolerance.
    pub(crate) fn to_f64(&self) -> f64 {
        f64::from_bits(F64.encode(self, Mode::Even, false))
    }
}

impl Format {
    fn fraction_bits(self) -> u64 {
        self.precision - 1
    }

    fn exponent_bits(self) -> u64 {
        64 - ((self.emax - self.emin + 2) as u64).leading_zeros() as u64
    }

    /// Bits of the whole format.
    pub(crate) fn width(self) -> u64 {
        // e4m3 spends its top exponent on numbers.
        1 + self.fraction_bits() + if self.infinity { self.exponent_bits() } else { 4 }
    }

    pub(crate) fn decode(self, bits: u64) -> Value {
        let negative = bits >> (self.width() - 1) & 1 != 0;
        let top = (1u64 << (self.width() - 1 - self.fraction_bits())) - 1;
        let exponent = bits >> self.fraction_bits() & top;
        let fraction = bits & ((1 << self.fraction_bits()) - 1);
        let all = (1 << self.fraction_bits()) - 1;
        let magnitude = if exponent == top && self.infinity {
            if fraction == 0 { Infinite } else { Nan }
        } else if exponent == top && fraction == all {
            Nan
        } else if exponent == 0 {
            Finite(fraction.into(), self.emin - self.fraction_bits() as i64)
        } else {
            let m = fraction | 1 << self.fraction_bits();
            Finite(m.into(), exponent as i64 - 1 + self.emin - self.fraction_bits() as i64)
        };
        Value { negative, magnitude }
    }

    /// The only NaN that results have: all bits but the sign.
    pub(crate) fn nan(self) -> u64 {
        (1 << (self.width() - 1)) - 1
    }

    fn largest(self) -> u64 {
        if self.infinity { self.infinity_bits() - 1 } else { self.nan() - 1 }
    }

    fn infinity_bits(self) -> u64 {
        ((1 << (self.width() - self.precision)) - 1) << self.fraction_bits()
    }

    /// Rounds once. `satfinite`: what is too large becomes the largest number.
    pub(crate) fn encode(self, v: &Value, mode: Mode, satfinite: bool) -> u64 {
        let sign = u64::from(v.negative) << (self.width() - 1);
        let overflow = match () {
            () if satfinite => self.largest(),
            () if self.infinity => self.infinity_bits(),
            () => self.nan(),
        };
        let (m, e) = match &v.magnitude {
            Nan => return self.nan(),
            Infinite => return sign | overflow,
            Finite(m, _) if *m == zero() => return sign,
            Finite(m, e) => (m, *e),
        };
        // The exponent of the last place that is kept.
        let quantum = (m.bits() as i64 - 1 + e).max(self.emin) - self.fraction_bits() as i64;
        let whole = round_to(m, e - quantum, mode, v.negative);
        if whole == zero() {
            return sign;
        }
        let (whole, quantum) = if whole.bits() > self.precision {
            (whole >> 1u32, quantum + 1)
        } else {
            (whole, quantum)
        };
        let exponent = quantum + self.fraction_bits() as i64;
        let small: u64 = whole.try_into().expect("at most the precision");
        let normal = small >> self.fraction_bits() != 0;
        let biased = if normal { (exponent - self.emin + 1) as u64 } else { 0 };
        let bits = biased << self.fraction_bits() | small & ((1 << self.fraction_bits()) - 1);
        if exponent > self.emax || bits > self.largest() {
            let inward = match mode {
                Mode::Even | Mode::Away => false,
                Mode::Zero => true,
                Mode::Down => !v.negative,
                Mode::Up => v.negative,
            };
            return sign | if inward { self.largest() } else { overflow };
        }
        sign | bits
    }

    /// `.ftz`: subnormal numbers become zero.
    pub(crate) fn flush(self, on: bool, bits: u64) -> u64 {
        if on && bits & self.infinity_bits() == 0 { bits & 1 << (self.width() - 1) } else { bits }
    }
}

/// `m · 2^shift` as a whole number.
fn round_to(m: &BigUint, shift: i64, mode: Mode, negative: bool) -> BigUint {
    if shift >= 0 {
        return m << shift as u64;
    }
    let n = (-shift) as u64;
    let floor: BigUint = m >> n;
    let rest = m - (&floor << n);
    if rest == zero() {
        return floor;
    }
    let half = BigUint::from(1u32) << (n - 1);
    let up = match mode {
        Mode::Even => rest > half || rest == half && floor.bit(0),
        Mode::Away => rest >= half,
        Mode::Zero => false,
        Mode::Down => negative,
        Mode::Up => !negative,
    };
    if up { floor + 1u32 } else { floor }
}

/// Rounds to a whole number, as a value.
pub(crate) fn round_integral(v: &Value, mode: Mode) -> Value {
    match &v.magnitude {
        Finite(m, e) => finite(v.negative, round_to(m, *e, mode, v.negative), 0),
        _ => v.clone(),
    }
}

/// The whole number that a rounded value is, limited to a range that no type exceeds.
pub(crate) fn to_i128(v: &Value) -> i128 {
    let limit = 1i128 << 100;
    let magnitude = match &v.magnitude {
        Finite(m, e) if m.bits() as i64 + e <= 99 => {
            i128::try_from(m.clone() << (*e).max(0) as u64).expect("below the limit")
        }
        _ => limit,
    };
    if v.negative { -magnitude } else { magnitude }
}

fn aligned(a: &BigUint, ea: i64, b: &BigUint, eb: i64) -> (BigUint, BigUint, i64) {
    let e = ea.min(eb);
    (a << (ea - e) as u64, b << (eb - e) as u64, e)
}

/// `a + b`. An exact zero from operands of different signs is negative only when rounding down.
pub(crate) fn add(a: &Value, b: &Value, mode: Mode) -> Value {
    match (&a.magnitude, &b.magnitude) {
        (Nan, _) | (_, Nan) => nan(),
        (Infinite, Infinite) if a.negative != b.negative => nan(),
        (Infinite, _) => a.clone(),
        (_, Infinite) => b.clone(),
        (Finite(ma, ea), Finite(mb, eb)) => {
            let (ma, mb, e) = aligned(ma, *ea, mb, *eb);
            if a.negative == b.negative {
                return finite(a.negative, ma + mb, e);
            }
            match ma.cmp(&mb) {
                std::cmp::Ordering::Greater => finite(a.negative, ma - mb, e),
                std::cmp::Ordering::Less => finite(b.negative, mb - ma, e),
                std::cmp::Ordering::Equal => finite(mode == Mode::Down, zero(), 0),
            }
        }
    }
}

pub(crate) fn mul(a: &Value, b: &Value) -> Value {
    let negative = a.negative != b.negative;
    match (&a.magnitude, &b.magnitude) {
        (Nan, _) | (_, Nan) => nan(),
        (Infinite, _) if b.is_zero() => nan(),
        (_, Infinite) if a.is_zero() => nan(),
        (Infinite, _) | (_, Infinite) => infinite(negative),
        (Finite(ma, ea), Finite(mb, eb)) => finite(negative, ma * mb, ea + eb),
    }
}

/// Bits beyond the precision that quotients and roots keep; the last one is sticky.
const EXTRA: u64 = 70;

pub(crate) fn div(a: &Value, b: &Value) -> Value {
    let negative = a.negative != b.negative;
    match (&a.magnitude, &b.magnitude) {
        (Nan, _) | (_, Nan) | (Infinite, Infinite) => nan(),
        (Infinite, _) => infinite(negative),
        (_, Infinite) => finite(negative, zero(), 0),
        (Finite(ma, ea), Finite(mb, eb)) => {
            if *mb == zero() {
                return if *ma == zero() { nan() } else { infinite(negative) };
            }
            let up = EXTRA + mb.bits();
            let wide = ma << up;
            let q = &wide / mb;
            let sticky = u32::from(&q * mb != wide);
            finite(negative, (q << 1u32) + sticky, ea - eb - up as i64 - 1)
        }
    }
}

pub(crate) fn sqrt(a: &Value) -> Value {
    match &a.magnitude {
        _ if a.is_zero() => a.clone(),
        Nan => nan(),
        _ if a.negative => nan(),
        Infinite => a.clone(),
        Finite(m, e) => {
            let up = 2 * EXTRA + u64::from(e.rem_euclid(2) != 0);
            let wide = m << up;
            let root = wide.sqrt();
            let sticky = u32::from(&root * &root != wide);
            finite(false, (root << 1u32) + sticky, (e - up as i64) / 2 - 1)
        }
    }
}

/// Orders two values; `None` if either is NaN. Zeros are equal.
pub(crate) fn compare(a: &Value, b: &Value) -> Option<std::cmp::Ordering> {
    let difference = add(a, &b.negate(true), Mode::Even);
    if a.is_nan() || b.is_nan() {
        return None;
    }
    if a.is_infinite() && b.is_infinite() && a.negative == b.negative || difference.is_zero() {
        return Some(std::cmp::Ordering::Equal);
    }
    Some(if difference.negative { std::cmp::Ordering::Less } else { std::cmp::Ordering::Greater })
}
