//! Pointwise operations: the scalar functions shared by the graph IR and the kernel IR.
//!
//! One table row per function: its name in both text forms, its arity, how it types, what it
//! computes in f64 (read by the reference interpreters and by constant folding) and its price.
//! Code generators map each variant to instructions; gradients stand in `ops/pointwise.rs`.

use serde::{Deserialize, Serialize};

/// How the result type of a pointwise function follows from its operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Typing {
    /// Reals to a real.
    Real,
    /// Ints to an int when all operands are ints, else reals to a real.
    Arithmetic,
    /// Ints to an int.
    Integer,
    /// Numbers to a bool.
    Compare,
    /// Bools to a bool.
    Logic,
    /// Anything to a real.
    ToReal,
    /// A real to a real, in kernels alone: in graphs a cast says it.
    Rounding,
    /// `where(bool, a, b)`: the common type of `a` and `b`.
    Select,
}

/// The facts about one pointwise function.
pub struct PointwiseDef {
    /// The function.
    pub op: Pointwise,
    /// Its name in the text forms.
    pub name: &'static str,
    /// Number of operands.
    pub arity: usize,
    /// Typing rule.
    pub typing: Typing,
    /// Price in floating-point operations on a CPU without special function units.
    pub flops: u32,
    /// Value in f64. Bools are 0 and 1, ints are exact.
    pub eval: fn(&[f64]) -> f64,
}

macro_rules! pointwise {
    ($( $(#[$doc:meta])* $variant:ident = $name:literal, $arity:literal, $typing:ident, $flops:literal, |$x:ident| $eval:expr; )*) => {
        /// A scalar function applied element by element; operands broadcast over the union of
        /// their axes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Pointwise { $( $(#[$doc])* $variant, )* }

        /// The table, in the order of the enumeration.
        pub const POINTWISE: &[PointwiseDef] = &[
            $( PointwiseDef {
                op: Pointwise::$variant, name: $name, arity: $arity, typing: Typing::$typing,
                flops: $flops, eval: |$x| $eval,
            }, )*
        ];
    };
}

pointwise! {
    /// `-x`.
    Neg = "neg", 1, Arithmetic, 1, |x| -x[0];
    /// `e^x`.
    Exp = "exp", 1, Real, 12, |x| x[0].exp();
    /// Natural logarithm.
    Log = "log", 1, Real, 14, |x| x[0].ln();
    /// Square root.
    Sqrt = "sqrt", 1, Real, 6, |x| x[0].sqrt();
    /// Sine, radians.
    Sin = "sin", 1, Real, 16, |x| x[0].sin();
    /// Cosine, radians.
    Cos = "cos", 1, Real, 16, |x| x[0].cos();
    /// Hyperbolic tangent.
    Tanh = "tanh", 1, Real, 18, |x| x[0].tanh();
    /// Error function, `2/√π ∫₀ˣ e^(−t²) dt`.
    Erf = "erf", 1, Real, 24, |x| erf(x[0]);
    /// Largest whole number not above `x`; stays real.
    Floor = "floor", 1, Real, 1, |x| x[0].floor();
    /// Logical negation.
    Not = "not", 1, Logic, 1, |x| f64::from(x[0] == 0.0);
    /// Int or bool to real.
    ToReal = "real", 1, ToReal, 1, |x| x[0];
    /// Pins a value to f32 (the precision pass may not narrow it).
    F32 = "f32", 1, ToReal, 0, |x| x[0];
    /// The bf16 nearest to `x` as f32, the even one of two; NaN keeps its sign and upper bits.
    Bf16 = "bf16", 1, Rounding, 4, |x| half::bf16::from_f32(x[0] as f32).to_f64();
    /// The value itself; no gradient passes.
    Stop = "stop", 1, Arithmetic, 0, |x| x[0];
    /// Sum.
    Add = "add", 2, Arithmetic, 1, |x| x[0] + x[1];
    /// Difference.
    Sub = "sub", 2, Arithmetic, 1, |x| x[0] - x[1];
    /// Product.
    Mul = "mul", 2, Arithmetic, 1, |x| x[0] * x[1];
    /// True division, always real.
    Div = "div", 2, Real, 4, |x| x[0] / x[1];
    /// Floor division of ints.
    FloorDiv = "floordiv", 2, Integer, 8, |x| (x[0] / x[1]).floor();
    /// Power.
    Pow = "pow", 2, Real, 30, |x| x[0].powf(x[1]);
    /// Remainder with the sign of the divisor, `a - b·floor(a/b)`.
    Mod = "mod", 2, Arithmetic, 8, |x| x[0] - x[1] * (x[0] / x[1]).floor();
    /// Smaller of two; the first of equals.
    Min = "min", 2, Arithmetic, 1, |x| if x[1] < x[0] { x[1] } else { x[0] };
    /// Larger of two; the first of equals.
    Max = "max", 2, Arithmetic, 1, |x| if x[1] > x[0] { x[1] } else { x[0] };
    /// Equal.
    Eq = "eq", 2, Compare, 1, |x| f64::from(x[0] == x[1]);
    /// Not equal.
    Ne = "ne", 2, Compare, 1, |x| f64::from(x[0] != x[1]);
    /// Less.
    Lt = "lt", 2, Compare, 1, |x| f64::from(x[0] < x[1]);
    /// Less or equal.
    Le = "le", 2, Compare, 1, |x| f64::from(x[0] <= x[1]);
    /// Greater.
    Gt = "gt", 2, Compare, 1, |x| f64::from(x[0] > x[1]);
    /// Greater or equal.
    Ge = "ge", 2, Compare, 1, |x| f64::from(x[0] >= x[1]);
    /// Both.
    And = "and", 2, Logic, 1, |x| f64::from(x[0] != 0.0 && x[1] != 0.0);
    /// Either.
    Or = "or", 2, Logic, 1, |x| f64::from(x[0] != 0.0 || x[1] != 0.0);
    /// `where(c, a, b)`: `a` where `c` holds, else `b`.
    Where = "where", 3, Select, 1, |x| if x[0] != 0.0 { x[1] } else { x[2] };
}

impl Pointwise {
    /// The table row of this function.
    pub fn def(self) -> &'static PointwiseDef {
        &POINTWISE[self as usize]
    }

    /// Its name in the text forms.
    pub fn name(self) -> &'static str {
        self.def().name
    }

    /// The function of that name.
    pub fn parse(name: &str) -> Option<Self> {
        POINTWISE.iter().find(|d| d.name == name).map(|d| d.op)
    }
}

/// Error function in f64 by its Taylor series below 2.5 and by the continued fraction of `erfc`
/// above (Abramowitz and Stegun 7.1.5, 7.1.14); relative error below 1e-14.
pub fn erf(x: f64) -> f64 {
    let a = x.abs();
    if a.is_nan() {
        return x;
    }
    if a > 6.0 {
        return 1f64.copysign(x);
    }
    let scale = 2.0 / std::f64::consts::PI.sqrt();
    if a < 2.5 {
        let (mut term, mut sum, mut n) = (a, a, 0.0);
        while term.abs() > 1e-17 * sum.abs() {
            n += 1.0;
            term *= -a * a / n;
            sum += term / (2.0 * n + 1.0);
        }
        return (scale * sum).copysign(x);
    }
    let fraction = (1..=80).rev().fold(a, |tail, k| a + f64::from(k) / 2.0 / tail);
    (1.0 - (-a * a).exp() / (fraction * std::f64::consts::PI.sqrt())).copysign(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_in_enumeration_order() {
        for (i, def) in POINTWISE.iter().enumerate() {
            assert_eq!(def.op as usize, i, "{}", def.name);
            assert_eq!(Pointwise::parse(def.name), Some(def.op));
        }
    }

    #[test]
    fn erf_known_values() {
        for (x, y) in [
            (0.5, 0.520_499_877_813_046_5),
            (1.0, 0.842_700_792_949_714_9),
            (3.0, 0.999_977_909_503_001_4),
        ] {
            assert!((erf(x) - y).abs() < 1e-14, "erf({x}) = {}", erf(x));
            assert_eq!(erf(-x), -erf(x));
        }
    }
}
