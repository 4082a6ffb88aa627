//! What is known of a number: an interval, and whether it can be infinite, NaN or zero.
//!
//! Reals are exact (see the graph IR), so nothing overflows here; but the exponential of a very
//! negative number may be zero, as it is in every arithmetic. What comes from outside is finite.
//!
//! A comparison of a number with itself or with +∞ is another matter: a model has it to find what is not finite, so it is
//! decided only where bounds say that nothing can overflow.

use gigac_ir::pointwise::Pointwise;

/// Exponents below which an exponential may be zero: f32 has no such numbers.
const UNDERFLOW: f64 = -80.0;

/// The values that a number may take. Bools are 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Range {
    /// No value is below.
    pub(crate) lo: f64,
    /// No value is above.
    pub(crate) hi: f64,
    /// Whether −∞ is possible.
    pub(crate) minus: bool,
    /// Whether +∞ is possible.
    pub(crate) plus: bool,
    /// Whether NaN is possible.
    pub(crate) nan: bool,
    /// Whether zero is possible.
    pub(crate) zero: bool,
}

impl Range {
    /// Anything.
    pub(crate) const ANY: Self = Self {
        lo: f64::NEG_INFINITY,
        hi: f64::INFINITY,
        minus: true,
        plus: true,
        nan: true,
        zero: true,
    };

    /// Any finite number.
    pub(crate) const FINITE: Self = Self { minus: false, plus: false, nan: false, ..Self::ANY };

    /// The finite numbers from `lo` to `hi`.
    pub(crate) fn within(lo: f64, hi: f64) -> Self {
        Self { lo, hi, zero: lo <= 0.0 && hi >= 0.0, ..Self::FINITE }
    }

    /// One number.
    pub(crate) fn of(x: f64) -> Self {
        if x.is_nan() {
            return Self::ANY;
        }
        let (minus, plus) = (x == f64::NEG_INFINITY, x == f64::INFINITY);
        Self { minus, plus, ..Self::within(x, x) }
    }

    /// Whether it is a number, and not infinite.
    pub(crate) fn finite(self) -> bool {
        !(self.minus || self.plus || self.nan)
    }

    /// Whether it is finite and above zero.
    pub(crate) fn positive(self) -> bool {
        self.finite() && !self.zero && self.lo >= 0.0
    }

    /// Values of either.
    pub(crate) fn hull(self, other: Self) -> Self {
        Self {
            lo: self.lo.min(other.lo),
            hi: self.hi.max(other.hi),
            minus: self.minus || other.minus,
            plus: self.plus || other.plus,
            nan: self.nan || other.nan,
            zero: self.zero || other.zero,
        }
    }

    /// What two descriptions of the same number say together.
    pub(crate) fn both(self, other: Self) -> Self {
        let (lo, hi) = match (self.lo.max(other.lo), self.hi.min(other.hi)) {
            // Constants that differ in their last bits.
            (lo, hi) if lo > hi => (self.lo, self.hi),
            bounds => bounds,
        };
        Self {
            lo,
            hi,
            minus: self.minus && other.minus && lo == f64::NEG_INFINITY,
            plus: self.plus && other.plus && hi == f64::INFINITY,
            nan: self.nan && other.nan,
            zero: self.zero && other.zero && lo <= 0.0 && hi >= 0.0,
        }
    }

    /// Makes the flags agree with the bounds.
    fn tidy(self) -> Self {
        let (lo, hi) = (
            if self.lo.is_nan() { f64::NEG_INFINITY } else { self.lo },
            if self.hi.is_nan() { f64::INFINITY } else { self.hi },
        );
        Self {
            lo,
            hi,
            minus: self.minus && lo == f64::NEG_INFINITY,
            plus: self.plus && hi == f64::INFINITY,
            zero: self.zero && lo <= 0.0 && hi >= 0.0,
            nan: self.nan,
        }
    }

    /// The sum of `count` such numbers, 1 or more.
    pub(crate) fn times(self, count: u64) -> Self {
        let n = count as f64;
        // A sum of numbers of one sign is zero only when all of them are.
        let one_sign = self.lo >= 0.0 || self.hi <= 0.0;
        Self {
            lo: if self.lo < 0.0 { self.lo * n } else { self.lo },
            hi: if self.hi > 0.0 { self.hi * n } else { self.hi },
            nan: self.nan || self.minus && self.plus,
            zero: self.zero || !one_sign,
            ..self
        }
        .tidy()
    }

    fn neg(self) -> Self {
        Self { lo: -self.hi, hi: -self.lo, minus: self.plus, plus: self.minus, ..self }
    }

    fn add(self, other: Self) -> Self {
        // Numbers of one sign do not cancel.
        let one_sign = self.lo >= 0.0 && other.lo >= 0.0 || self.hi <= 0.0 && other.hi <= 0.0;
        Self {
            lo: self.lo + other.lo,
            hi: self.hi + other.hi,
            minus: self.minus || other.minus,
            plus: self.plus || other.plus,
            nan: self.nan || other.nan || self.minus && other.plus || self.plus && other.minus,
            zero: !one_sign || self.zero && other.zero,
        }
        .tidy()
    }

    /// The product.
    pub(crate) fn mul(self, other: Self) -> Self {
        let infinite = |r: Self| r.minus || r.plus;
        // A bound of an unbounded finite number times zero is zero.
        let product = |a: f64, b: f64| if a == 0.0 || b == 0.0 { 0.0 } else { a * b };
        let corners = [
            product(self.lo, other.lo),
            product(self.lo, other.hi),
            product(self.hi, other.lo),
            product(self.hi, other.hi),
        ];
        let any = infinite(self) || infinite(other);
        Self {
            lo: corners.into_iter().fold(f64::INFINITY, f64::min),
            hi: corners.into_iter().fold(f64::NEG_INFINITY, f64::max),
            minus: any,
            plus: any,
            nan: self.nan
                || other.nan
                || infinite(self) && other.zero
                || infinite(other) && self.zero,
            zero: self.zero || other.zero,
        }
        .tidy()
    }

    fn recip(self) -> Self {
        // An infinite divisor gives zero; a divisor that may be zero gives anything.
        let infinite = self.minus || self.plus;
        if self.zero {
            return Self { nan: self.nan, zero: infinite, ..Self::ANY };
        }
        let (lo, hi) = if self.lo > 0.0 || self.hi < 0.0 {
            (1.0 / self.hi, 1.0 / self.lo)
        } else if self.lo >= 0.0 {
            (0.0, f64::INFINITY)
        } else if self.hi <= 0.0 {
            (f64::NEG_INFINITY, 0.0)
        } else {
            (f64::NEG_INFINITY, f64::INFINITY)
        };
        Self { lo, hi, minus: false, plus: false, nan: self.nan, zero: infinite }.tidy()
    }

    fn div(self, other: Self) -> Self {
        let infinite = |r: Self| r.minus || r.plus;
        let mut out = self.mul(other.recip());
        out.nan =
            self.nan || other.nan || self.zero && other.zero || infinite(self) && infinite(other);
        out.zero = self.zero || infinite(other);
        out
    }

    fn exp(self) -> Self {
        Self {
            // The bounds of large exponents are rounded to finite numbers.
            lo: self.lo.exp().min(f64::MAX),
            hi: self.hi.exp(),
            minus: false,
            plus: self.plus,
            nan: self.nan,
            zero: self.minus || self.lo < UNDERFLOW,
        }
        .tidy()
    }

    fn log(self) -> Self {
        Self {
            lo: if self.lo > 0.0 { self.lo.ln() } else { f64::NEG_INFINITY },
            hi: if self.hi > 0.0 { self.hi.ln() } else { f64::INFINITY },
            minus: self.zero,
            plus: self.plus,
            nan: self.nan || self.lo < 0.0,
            zero: true,
        }
        .tidy()
    }

    fn sqrt(self) -> Self {
        Self {
            lo: self.lo.max(0.0).sqrt(),
            hi: self.hi.max(0.0).sqrt(),
            minus: false,
            plus: self.plus,
            nan: self.nan || self.lo < 0.0,
            zero: self.zero,
        }
        .tidy()
    }

    /// `|f| ≤ 1`; an infinite operand has no sine.
    fn unit(self, infinite: bool) -> Self {
        Self { nan: self.nan || !infinite && (self.minus || self.plus), ..Self::within(-1.0, 1.0) }
    }

    fn min(self, other: Self) -> Self {
        let plus = self.plus && other.plus;
        let (lo, hi) = (self.lo.min(other.lo), self.hi.min(other.hi));
        Self { lo, hi, plus, ..self.hull(other) }.tidy()
    }

    fn max(self, other: Self) -> Self {
        let minus = self.minus && other.minus;
        let (lo, hi) = (self.lo.max(other.lo), self.hi.max(other.hi));
        Self { lo, hi, minus, ..self.hull(other) }.tidy()
    }

    fn pow(self, other: Self) -> Self {
        if self.positive() && other.finite() {
            return Self { zero: false, ..Self::within(0.0, f64::INFINITY) };
        }
        Self::ANY
    }

    /// A truth value: known, or open.
    pub(crate) fn truth(known: Option<bool>) -> Self {
        known.map_or(Self::within(0.0, 1.0), |b| Self::of(f64::from(b)))
    }

    /// Whether it is known to hold, or known not to.
    pub(crate) fn holds(self) -> Option<bool> {
        match (self.lo, self.hi) {
            _ if self.nan => None,
            (lo, _) if lo > 0.0 => Some(true),
            (_, hi) if hi <= 0.0 => Some(false),
            _ => None,
        }
    }

    /// Whether it is −∞.
    fn is_minus(self) -> bool {
        self.hi == f64::NEG_INFINITY && !self.nan
    }

    /// Whether it is a number between finite bounds, in every arithmetic.
    fn bounded(self) -> bool {
        !self.nan && self.lo > f64::NEG_INFINITY && self.hi < f64::INFINITY
    }

    fn less(self, other: Self) -> Option<bool> {
        match () {
            () if self.nan || other.nan => None,
            () if self.is_minus() && !other.minus => Some(true),
            () if self.hi < other.lo => Some(true),
            () if self.lo >= other.hi => Some(false),
            () => None,
        }
    }

    fn equal(self, other: Self) -> Option<bool> {
        let excludes = |a: Self, b: Self| a.is_minus() && !b.minus || a == Self::of(0.0) && !b.zero;
        let apart = self.hi < other.lo
            || other.hi < self.lo
            || excludes(self, other)
            || excludes(other, self);
        let same = self.lo == self.hi && other.lo == other.hi && self.lo == other.lo;
        match () {
            () if apart => Some(false),
            () if self.nan || other.nan => None,
            () if same => Some(true),
            () => None,
        }
    }
}

/// The values of a function, given those of its operands. `same` says that the first two operands
/// are one value.
pub(crate) fn apply(function: Pointwise, x: &[Range], same: bool) -> Range {
    use Pointwise as P;
    match (function, x) {
        (P::Neg, [a]) => a.neg(),
        (P::Exp, [a]) => a.exp(),
        (P::Log, [a]) => a.log(),
        (P::Sqrt, [a]) => a.sqrt(),
        (P::Sin | P::Cos, [a]) => a.unit(false),
        (P::Tanh | P::Erf, [a]) => a.unit(true),
        (P::Floor, [a]) => Range { lo: a.lo.floor(), hi: a.hi.floor(), zero: true, ..*a }.tidy(),
        (P::Not, [a]) => Range::truth(a.holds().map(|b| !b)),
        (P::ToReal | P::F32 | P::Stop, [a]) => *a,
        (P::Add, [a, b]) => a.add(*b),
        (P::Sub, [a, _]) if same && a.finite() => Range::of(0.0),
        (P::Sub, [a, b]) => a.add(b.neg()),
        (P::Mul, [a, b]) if same => {
            let square = a.mul(*b);
            Range { lo: square.lo.max(0.0), minus: false, nan: a.nan, ..square }
        }
        (P::Mul, [a, b]) => a.mul(*b),
        (P::Div, [a, b]) => a.div(*b),
        (P::Pow, [a, b]) => a.pow(*b),
        (P::Min, [a, b]) => a.min(*b),
        (P::Max, [a, b]) => a.max(*b),
        (P::Eq | P::Le | P::Ge, [a, _]) if same => Range::truth(a.bounded().then_some(true)),
        (P::Ne, [a, _]) if same => Range::truth(a.bounded().then_some(false)),
        (P::Lt | P::Gt, [_, _]) if same => Range::of(0.0),
        (P::Eq, [a, b]) => Range::truth(a.equal(*b)),
        (P::Ne, [a, b]) => Range::truth(a.equal(*b).map(|e| !e)),
        (P::Lt, [a, b]) => Range::truth(a.less(*b)),
        (P::Gt, [a, b]) => Range::truth(b.less(*a)),
        (P::Le, [a, b]) => Range::truth(b.less(*a).map(|l| !l)),
        (P::Ge, [a, b]) => Range::truth(a.less(*b).map(|l| !l)),
        (P::And, [a, b]) => Range::truth(match (a.holds(), b.holds()) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (Some(true), Some(true)) => Some(true),
            _ => None,
        }),
        (P::Or, [a, b]) => Range::truth(match (a.holds(), b.holds()) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            (Some(false), Some(false)) => Some(false),
            _ => None,
        }),
        (P::Where, [c, a, b]) => match c.holds() {
            Some(true) => *a,
            Some(false) => *b,
            None => a.hull(*b),
        },
        _ => Range::ANY,
    }
}
