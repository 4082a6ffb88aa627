//! Exact constants: rationals over `i128`, and `f64` where a value is irrational or outgrows them.

use std::cmp::Ordering;
use std::fmt;

/// A compile-time number.
///
/// `Exact` values are kept in lowest terms with a positive denominator; whatever overflows them becomes `Float`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Number {
    /// The rational `num / den`.
    Exact { num: i128, den: i128 },
    /// Anything else, infinities included.
    Float(f64),
}

impl Number {
    pub(crate) const ZERO: Number = Number::Exact { num: 0, den: 1 };
    pub(crate) const ONE: Number = Number::Exact { num: 1, den: 1 };

    pub(crate) fn whole(value: impl Into<i128>) -> Number {
        Number::Exact { num: value.into(), den: 1 }
    }

    /// `num / den` in lowest terms; `None` when a sign change overflows or `den` is zero.
    fn ratio(num: i128, den: i128) -> Option<Number> {
        if den == 0 {
            return None;
        }
        let divisor = gcd(num.checked_abs()?, den.checked_abs()?).max(1);
        let (num, den) = (num / divisor, den / divisor);
        if den < 0 {
            return Some(Number::Exact { num: num.checked_neg()?, den: den.checked_neg()? });
        }
        Some(Number::Exact { num, den })
    }

    pub(crate) fn to_f64(self) -> f64 {
        match self {
            Number::Exact { num, den } => num as f64 / den as f64,
            Number::Float(value) => value,
        }
    }

    /// The value as an integer, if it is one that fits.
    pub(crate) fn as_whole(self) -> Option<i64> {
        match self {
            Number::Exact { num, den: 1 } => i64::try_from(num).ok(),
            Number::Exact { .. } => None,
            Number::Float(value) => {
                let exact = value.fract() == 0.0 && value.abs() < 9.0e15;
                exact.then_some(value as i64)
            }
        }
    }

    /// Whole numbers written or computed exactly are integers; floats stay real even when they happen to be whole.
    pub(crate) fn is_exact_whole(self) -> bool {
        matches!(self, Number::Exact { den: 1, .. }) && self.as_whole().is_some()
    }

    pub(crate) fn is_nan(self) -> bool {
        matches!(self, Number::Float(value) if value.is_nan())
    }

    fn lift(
        self,
        other: Number,
        exact: impl Fn(i128, i128, i128, i128) -> Option<Number>,
        float: impl Fn(f64, f64) -> f64,
    ) -> Number {
        if let (Number::Exact { num: a, den: b }, Number::Exact { num: c, den: d }) = (self, other)
            && let Some(result) = exact(a, b, c, d)
        {
            return result;
        }
        Number::Float(float(self.to_f64(), other.to_f64()))
    }

    pub(crate) fn add(self, other: Number) -> Number {
        let exact = |a: i128, b: i128, c: i128, d: i128| {
            let num = a.checked_mul(d)?.checked_add(c.checked_mul(b)?)?;
            Number::ratio(num, b.checked_mul(d)?)
        };
        self.lift(other, exact, |x, y| x + y)
    }

    pub(crate) fn neg(self) -> Number {
        Number::whole(-1).mul(self)
    }

    pub(crate) fn sub(self, other: Number) -> Number {
        self.add(other.neg())
    }

    pub(crate) fn mul(self, other: Number) -> Number {
        let exact = |a: i128, b: i128, c: i128, d: i128| {
            Number::ratio(a.checked_mul(c)?, b.checked_mul(d)?)
        };
        self.lift(other, exact, |x, y| x * y)
    }

    /// True division; a zero divisor gives the IEEE result, which callers report.
    pub(crate) fn div(self, other: Number) -> Number {
        let exact = |a: i128, b: i128, c: i128, d: i128| {
            Number::ratio(a.checked_mul(d)?, b.checked_mul(c)?)
        };
        self.lift(other, exact, |x, y| x / y)
    }

    /// The remainder with the divisor's sign: `x - floor(x / y) * y`.
    pub(crate) fn rem(self, other: Number) -> Number {
        self.sub(self.div(other).floor().mul(other))
    }

    pub(crate) fn floor(self) -> Number {
        match self {
            Number::Exact { num, den } => Number::whole(num.div_euclid(den)),
            Number::Float(value) => {
                let floor = value.floor();
                if floor.abs() < 9.0e15 {
                    return Number::whole(floor as i64);
                }
                Number::Float(floor)
            }
        }
    }

    /// A power; exact for exact bases and whole exponents of moderate size, and for exact square roots.
    pub(crate) fn pow(self, exponent: Number) -> Number {
        if let (Number::Exact { .. }, Some(n)) = (self, exponent.as_whole())
            && exponent.is_exact_whole()
            && n.unsigned_abs() <= 128
            && let Some(power) = self.exact_power(n)
        {
            return power;
        }
        if let Number::Exact { num: 1, den: 2 } = exponent {
            return self.sqrt();
        }
        Number::Float(self.to_f64().powf(exponent.to_f64()))
    }

    fn exact_power(self, n: i64) -> Option<Number> {
        let base = if n < 0 { Number::ONE.div(self) } else { self };
        let mut power = Number::ONE;
        for _ in 0..n.unsigned_abs() {
            power = power.mul(base);
        }
        matches!(power, Number::Exact { .. }).then_some(power)
    }

    pub(crate) fn sqrt(self) -> Number {
        if let Number::Exact { num, den } = self
            && let (Some(num), Some(den)) = (exact_root(num), exact_root(den))
        {
            return Number::Exact { num, den };
        }
        Number::Float(self.to_f64().sqrt())
    }

    /// Applies a transcendental function, in `f64`.
    pub(crate) fn map(self, f: impl Fn(f64) -> f64) -> Number {
        Number::Float(f(self.to_f64()))
    }

    pub(crate) fn compare(self, other: Number) -> Option<Ordering> {
        if let (Number::Exact { num: a, den: b }, Number::Exact { num: c, den: d }) = (self, other)
            && let (Some(left), Some(right)) = (a.checked_mul(d), c.checked_mul(b))
        {
            return Some(left.cmp(&right));
        }
        self.to_f64().partial_cmp(&other.to_f64())
    }

    pub(crate) fn min(self, other: Number) -> Number {
        if other.compare(self) == Some(Ordering::Less) { other } else { self }
    }

    pub(crate) fn max(self, other: Number) -> Number {
        if other.compare(self) == Some(Ordering::Greater) { other } else { self }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Number::Exact { num, den: 1 } => write!(f, "{num}"),
            Number::Exact { num, den } => write!(f, "{num}/{den}"),
            Number::Float(value) => write!(f, "{value}"),
        }
    }
}

/// Reads the text of a number token: digits, fraction, exponent, then a decimal (`K M B T`) or binary (`Ki Mi Gi Ti`)
/// factor. `None` when it is malformed or beyond `f64`.
pub(crate) fn parse(text: &str) -> Option<Number> {
    let end =
        text.find(|c: char| c.is_ascii_alphabetic() && !"eE".contains(c)).unwrap_or(text.len());
    let (body, suffix) = text.split_at(end);
    let factor = match suffix {
        "" => 1_i128,
        "K" => 1_000,
        "M" => 1_000_000,
        "B" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        _ => return None,
    };
    Some(decimal(body)?.mul(Number::whole(factor)))
}

/// A decimal literal, exact as long as its digits and exponent fit.
fn decimal(text: &str) -> Option<Number> {
    let float: f64 = text.parse().ok().filter(|value: &f64| value.is_finite())?;
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}").parse::<i128>();
    let (Ok(digits), Ok(exponent)) = (digits, exponent.parse::<i64>()) else {
        return Some(Number::Float(float));
    };
    let power = i64::try_from(fraction.len()).ok().and_then(|n| exponent.checked_sub(n));
    match power.map(|n| Number::whole(10).pow(Number::whole(n))) {
        Some(scale @ Number::Exact { .. }) => Some(Number::whole(digits).mul(scale)),
        _ => Some(Number::Float(float)),
    }
}

fn gcd(a: i128, b: i128) -> i128 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn exact_root(value: i128) -> Option<i128> {
    if !(0..(1 << 100)).contains(&value) {
        return None;
    }
    let guess = (value as f64).sqrt() as i128;
    ((guess - 2).max(0)..=guess + 2).find(|root| root * root == value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        parse(text).map_or("none".into(), |n| n.to_string())
    }

    #[test]
    fn literals_are_exact() {
        assert_eq!(shown("1e-5"), "1/100000");
        assert_eq!(shown("0.02"), "1/50");
        assert_eq!(shown("64Ki"), "65536");
        assert_eq!(shown("29B"), "29000000000");
        assert_eq!(shown("1e400"), "none");
        assert_eq!(shown("3D"), "none");
    }

    #[test]
    fn arithmetic_is_exact_until_it_cannot_be() {
        let third = Number::ONE.div(Number::whole(3));
        assert!(third.mul(Number::whole(3)).is_exact_whole());
        assert_eq!(Number::whole(256).sqrt().to_string(), "16");
        assert_eq!(Number::whole(-7).rem(Number::whole(2)).to_string(), "1");
        assert!(matches!(Number::whole(i128::MAX).mul(Number::whole(2)), Number::Float(_)));
        assert!(matches!(Number::whole(2).sqrt(), Number::Float(_)));
    }
}
