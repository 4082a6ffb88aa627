//! Sine and cosine.

use super::{Lanes, SHIFTER};

/// π/2 in three parts of 24 bits.
const HALF_PI: [f32; 3] = [std::f32::consts::FRAC_PI_2, -4.371_139e-8, -1.715_124_5e-15];

/// `(sin r − r) / r³` in `r²` for `|r| ≤ 0.8`; error 2⁻³².
const SIN: [f32; 4] = [-0.166_666_67, 0.008_333_378, -0.000_198_524_84, 2.824_720_2e-6];

/// `(cos r − 1 + r²/2) / r⁴` in `r²` for `|r| ≤ 0.8`; error 2⁻³⁷.
const COS: [f32; 4] = [0.041_666_668, -0.001_388_897_9, 2.482_133_8e-5, -2.879_360_5e-7];

/// Sine of an angle in radians.
pub fn sin<L: Lanes>(l: &L, x: L::Real) -> L::Real {
    let (quadrant, r) = reduce(l, l.abs(x));
    l.flip(of_quadrant(l, quadrant, r), l.sign(x))
}

/// Cosine of an angle in radians.
pub fn cos<L: Lanes>(l: &L, x: L::Real) -> L::Real {
    let (quadrant, r) = reduce(l, l.abs(x));
    of_quadrant(l, l.int_add(quadrant, l.int(1)), r)
}

/// `x = n·π/2 + r` with `|r|` hardly above π/4: an int whose two lowest bits are those of `n`,
/// and `r`.
///
/// `n` is computed with the error of one product, so a large `x` may leave some `r` too large;
/// a second round takes care of them. Fused products lose nothing as long as `n < 2²⁴`.
fn reduce<L: Lanes>(l: &L, x: L::Real) -> (L::Int, L::Real) {
    let per_quadrant = l.real(std::f32::consts::FRAC_2_PI);
    let n = l.round(l.mul(x, per_quadrant));
    let r = HALF_PI.iter().fold(x, |r, part| l.fma(n, l.real(-part), r));
    let m = l.round(l.mul(r, per_quadrant));
    let r = HALF_PI[..2].iter().fold(r, |r, part| l.fma(m, l.real(-part), r));
    let fours = l.floor(l.mul(n, l.real(0.25)));
    let quadrant = l.add(l.fma(fours, l.real(-4.0), n), m);
    let r = l.at_least(l.at_most(r, 1.0), -1.0);
    (l.bits(l.add(quadrant, l.real(SHIFTER))), r)
}

/// `sin(r + quadrant·π/2)`.
fn of_quadrant<L: Lanes>(l: &L, quadrant: L::Int, r: L::Real) -> L::Real {
    let z = l.mul(r, r);
    let sin = l.fma(l.mul(r, z), l.polynomial(z, &SIN), r);
    let tail = l.mul(l.mul(z, z), l.polynomial(z, &COS));
    let half = l.mul(z, l.real(0.5));
    let near = l.sub(l.real(1.0), half);
    // What the rounding of 1 − z/2 lost, added back.
    let lost = l.sub(l.sub(l.real(1.0), near), half);
    let cos = l.add(near, l.add(lost, tail));
    let even = l.int_eq(l.int_and(quadrant, l.int(1)), l.int(0));
    l.flip(l.select(even, sin, cos), l.shl(l.int_and(quadrant, l.int(2)), 30))
}
