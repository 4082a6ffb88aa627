//! Random numbers of initial values: the same bits on every target, for any number of threads.
//!
//! An element's value depends on the seed, the parameter's name and the element's index over the
//! whole parameter alone. Philox4x32-10 has the key `[seed, tag]` and the counter `[block low,
//! block high, name low, name high]`, where `name` is the FNV-1a hash (64 bits) of the parameter's
//! name and `block` the element's index divided by 4; the element takes word `index mod 4`, and for
//! a normal pair the neighbouring word too. The tag counts attempts of truncated draws.
//!
//! The normal transform is Box and Muller's, `√(−2·ln u)·cos 2πv` and `… sin 2πv`, with our own
//! polynomials: every operation is an IEEE add, multiply, fused multiply-add or square root in f32,
//! or works on integers, so that any target gives the same bits.

use gigac_ir::graph::Init;
use gigac_ir::philox::philox;

/// Attempts of a truncated draw: the chance that all fail is 10⁻²¹.
const ATTEMPTS: u32 = 16;

/// A stream of initial values for one parameter.
#[derive(Clone, Copy)]
pub struct Stream {
    seed: u32,
    name: u64,
}

impl Stream {
    /// The stream of a parameter.
    pub fn new(seed: u32, name: &str) -> Self {
        Self { seed, name: fnv1a(name.as_bytes()) }
    }

    /// Fills a part of the parameter that begins at element `first`.
    pub fn fill(&self, init: Init, first: u64, values: &mut [f32]) {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("fma") && std::arch::is_x86_feature_detected!("avx2")
        {
            // SAFETY: the CPU has the feature.
            return unsafe { self.fill_fma(init, first, values) };
        }
        self.fill_any(init, first, values);
    }

    /// The same bits with the fused instruction, without which each one is a call.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    fn fill_fma(&self, init: Init, first: u64, values: &mut [f32]) {
        self.fill_any(init, first, values);
    }

    #[inline(always)]
    fn fill_any(&self, init: Init, first: u64, values: &mut [f32]) {
        for (index, value) in (first..).zip(values) {
            *value = self.value(init, index);
        }
    }

    /// The initial value of one element.
    #[inline(always)]
    pub fn value(&self, init: Init, index: u64) -> f32 {
        match init {
            Init::Constant(c) => c as f32,
            Init::Normal { std } => self.normal(index, 0) * std as f32,
            Init::Truncated { std } => self.truncated(index) * std as f32,
            Init::Uniform { lo, hi } => self.uniform(index, lo as f32, hi as f32),
        }
    }

    #[inline(always)]
    fn words(&self, index: u64, tag: u32) -> [u32; 4] {
        let block = index / 4;
        let counter =
            [block as u32, (block >> 32) as u32, self.name as u32, (self.name >> 32) as u32];
        philox([self.seed, tag], counter)
    }

    #[inline(always)]
    fn uniform(&self, index: u64, lo: f32, hi: f32) -> f32 {
        let word = self.words(index, 0)[(index % 4) as usize];
        let unit = (word >> 8) as f32 * two_to(-24);
        let value = unit.mul_add(hi - lo, lo);
        // Rounding may reach the upper end, which does not belong to the range.
        if value < hi { value } else { lo }
    }

    #[inline(always)]
    fn normal(&self, index: u64, tag: u32) -> f32 {
        let words = self.words(index, tag);
        let pair = (index % 4 / 2 * 2) as usize;
        let (cosine, sine) = normal_pair(words[pair], words[pair + 1]);
        if index.is_multiple_of(2) { cosine } else { sine }
    }

    #[inline(always)]
    fn truncated(&self, index: u64) -> f32 {
        (0..ATTEMPTS).map(|tag| self.normal(index, tag)).find(|z| z.abs() <= 2.0).unwrap_or(0.0)
    }
}

/// The 64-bit FNV-1a hash.
pub fn fnv1a(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// Two independent standard normals of two random words.
#[inline(always)]
pub fn normal_pair(radius: u32, angle: u32) -> (f32, f32) {
    let r = (-2.0 * ln_unit(radius)).sqrt();
    let (sine, cosine) = sin_cos_turn(angle);
    (r * cosine, r * sine)
}

/// `ln((word + 1/2) · 2⁻³²)`: the distance of the mantissa from 1 by integers, then a polynomial.
#[inline(always)]
fn ln_unit(word: u32) -> f32 {
    // 2·word + 1 has at most 33 bits; shifted up, the mantissa is `high / 2⁶³` in [1, 2).
    let odd = (u64::from(word) << 1) | 1;
    let shift = odd.leading_zeros();
    let high = odd << shift;
    let exponent = 30 - shift as i32;
    // Centred on [√½, √2) in integers, so that nothing is lost near u = 1.
    let (exponent, f) = if high > SQRT_2 {
        (exponent + 1, -(high.wrapping_neg() as f32) * two_to(-64))
    } else {
        (exponent, (high - (1 << 63)) as f32 * two_to(-63))
    };
    let e = exponent as f32;
    e.mul_add(0.693_359_4, e.mul_add(-2.121_944_4e-4, ln_1p(f)))
}

/// √2 · 2⁶³.
const SQRT_2: u64 = 0xb504_f333_f9de_6484;

/// A power of two, exactly.
#[inline(always)]
fn two_to(exponent: i32) -> f32 {
    f32::from_bits(((127 + exponent) as u32) << 23)
}

/// ln(1 + f) on [√½ − 1, √2 − 1]; coefficients of Cephes' `logf`.
#[inline(always)]
fn ln_1p(f: f32) -> f32 {
    const C: [f32; 9] = [
        7.037_683_6e-2,
        -1.151_461e-1,
        1.167_699_87e-1,
        -1.242_014_1e-1,
        1.424_932_3e-1,
        -1.666_805_8e-1,
        2.000_071_5e-1,
        -2.499_999_4e-1,
        0.333_333_3,
    ];
    let polynomial = C[1..].iter().fold(C[0], |sum, c| sum.mul_add(f, *c));
    let square = f * f;
    (f * square).mul_add(polynomial, square.mul_add(-0.5, f))
}

/// Sine and cosine of `2π · word / 2³²`: octant by integers, the rest by polynomials.
#[inline(always)]
fn sin_cos_turn(word: u32) -> (f32, f32) {
    // Nearest quarter turn, and the distance from it in [−⅛, ⅛) turns.
    let quarter = word.wrapping_add(0x2000_0000) >> 30;
    let rest = word.wrapping_sub(quarter << 30) as i32;
    let x = rest as f32 * (std::f32::consts::TAU * two_to(-32));
    let (s, c) = (sin_small(x), cos_small(x));
    match quarter {
        0 => (s, c),
        1 => (c, -s),
        2 => (-s, -c),
        _ => (-c, s),
    }
}

/// Sine on [−π/4, π/4]; coefficients of Cephes' `sinf`.
#[inline(always)]
fn sin_small(x: f32) -> f32 {
    let z = x * x;
    let p = z.mul_add(-1.951_529_6e-4, 8.332_161e-3).mul_add(z, -1.666_665_5e-1);
    (x * z).mul_add(p, x)
}

/// Cosine on [−π/4, π/4]; coefficients of Cephes' `cosf`.
#[inline(always)]
fn cos_small(x: f32) -> f32 {
    let z = x * x;
    let p = z.mul_add(2.443_315_7e-5, -1.388_731_6e-3).mul_add(z, 4.166_664_6e-2);
    (z * z).mul_add(p, z.mul_add(-0.5, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers of the hash's authors.
    #[test]
    fn hash() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn logarithm_agrees_with_f64() {
        let edges = [0, 1, 2, 3, 255, 1 << 31, (1 << 31) - 1, 0xfeff_ffff, 0xff00_0000, u32::MAX];
        let spread = (0..100_000).map(|i: u32| i.wrapping_mul(0x9E37_79B9));
        for word in edges.into_iter().chain(spread) {
            let want = ((f64::from(word) + 0.5) / 4_294_967_296.0).ln();
            let got = f64::from(ln_unit(word));
            assert!((got - want).abs() <= 3e-7 * want.abs(), "{word}: {got} {want}");
        }
    }

    #[test]
    fn angle_agrees_with_f64() {
        for i in 0..100_000_u32 {
            let word = i.wrapping_mul(0x9E37_79B9);
            let angle = f64::from(word) / 4_294_967_296.0 * std::f64::consts::TAU;
            let (sine, cosine) = sin_cos_turn(word);
            assert!((f64::from(sine) - angle.sin()).abs() < 5e-7, "{word}");
            assert!((f64::from(cosine) - angle.cos()).abs() < 5e-7, "{word}");
        }
    }

    /// Mean, spread, symmetry, weight of the shoulders and tails.
    #[test]
    fn normal_has_its_moments() {
        let stream = Stream::new(7, "w");
        let n = 1_000_000;
        let mut z = vec![0.0; n];
        stream.fill(Init::Normal { std: 1.0 }, 0, &mut z);
        let moment = |k: i32| z.iter().map(|x| f64::from(*x).powi(k)).sum::<f64>() / n as f64;
        for (k, want, slack) in [(1, 0.0, 4e-3), (2, 1.0, 6e-3), (3, 0.0, 0.02), (4, 3.0, 0.05)] {
            assert!((moment(k) - want).abs() < slack, "moment {k}: {}", moment(k));
        }
        for (bound, want) in [(1.0, 0.317_31), (2.0, 0.045_5), (3.0, 0.002_7), (4.0, 6.334e-5)] {
            let beyond = z.iter().filter(|x| x.abs() > bound).count() as f64;
            let expected = want * n as f64;
            assert!((beyond - expected).abs() < 5.0 * expected.sqrt(), "beyond {bound}: {beyond}");
        }
    }

    #[test]
    fn neighbours_are_independent() {
        let stream = Stream::new(1, "w");
        let z: Vec<f64> =
            (0..200_000).map(|i| stream.value(Init::Normal { std: 1.0 }, i).into()).collect();
        for lag in 1..6 {
            let pairs = z.len() - lag;
            let r = (0..pairs).map(|i| z[i] * z[i + lag]).sum::<f64>() / pairs as f64;
            assert!(r.abs() < 0.012, "lag {lag}: {r}");
        }
    }

    #[test]
    fn truncated_and_uniform_stay_inside() {
        let stream = Stream::new(3, "w");
        let mut sum = 0.0;
        for i in 0..100_000 {
            let t = stream.value(Init::Truncated { std: 0.5 }, i);
            assert!(t.abs() <= 1.0);
            sum += f64::from(t * t);
            let u = stream.value(Init::Uniform { lo: -0.25, hi: 0.5 }, i);
            assert!((-0.25..0.5).contains(&u));
        }
        // Variance of a normal cut at two deviations: 0.774.
        assert!((sum / 100_000.0 / 0.25 - 0.7737).abs() < 0.01);
        assert_eq!(stream.value(Init::Constant(1.5), 9), 1.5);
    }

    #[test]
    fn parts_agree_with_the_whole() {
        let stream = Stream::new(5, "embed");
        let init = Init::Normal { std: 0.02 };
        let mut whole = vec![0.0; 1000];
        stream.fill(init, 0, &mut whole);
        let mut part = vec![0.0; 333];
        stream.fill(init, 501, &mut part);
        assert_eq!(part[..], whole[501..834]);
        assert_ne!(stream.value(init, 0), Stream::new(6, "embed").value(init, 0));
        assert_ne!(stream.value(init, 0), Stream::new(5, "head").value(init, 0));
    }

    /// Frozen bits: initial weights must never change between versions or targets.
    #[test]
    fn bits_are_frozen() {
        let stream = Stream::new(0, "embed");
        let bits: Vec<u32> =
            (0..4).map(|i| stream.value(Init::Normal { std: 1.0 }, i).to_bits()).collect();
        assert_eq!(bits, [1_071_431_158, 3_197_924_416, 1_052_424_319, 3_207_904_291]);
    }
}
