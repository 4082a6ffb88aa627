//! Errors against f64 over bit patterns strewn over all floats, and special values.

use super::*;
use crate::pointwise;

type Function = fn(&Single, f32) -> f32;
type Exact = fn(f64) -> f64;

/// Floats to try: every so many bit patterns, of both signs.
fn strewn(step: usize) -> impl Iterator<Item = f32> {
    (0..=u32::MAX).step_by(step).map(f32::from_bits).filter(|x| x.is_finite())
}

/// Error of a result in units of the last place of the exact value.
fn ulps(result: f32, exact: f64) -> f64 {
    if exact.is_nan() || result.is_nan() {
        return if exact.is_nan() && result.is_nan() { 0.0 } else { f64::INFINITY };
    }
    let rounded = exact as f32;
    if result == rounded {
        return 0.0;
    }
    if result.is_infinite() || rounded.is_infinite() {
        // Half an ulp around the largest float.
        let largest = f64::from(f32::MAX);
        let excess = |x: f32| if x.is_infinite() { largest.copysign(x.into()) } else { x.into() };
        return (excess(result) - excess(rounded)).abs()
            / f64::from(f32::MAX - f32::MAX.next_down());
    }
    let place = rounded.abs().next_up() - rounded.abs();
    (f64::from(result) - exact).abs() / f64::from(place)
}

/// The largest error over some arguments, and where it occurs.
fn worst(function: Function, exact: Exact, arguments: impl Iterator<Item = f32>) -> (f64, f32) {
    let errors = arguments.map(|x| (ulps(function(&Single, x), exact(f64::from(x))), x));
    errors.fold((0.0, 0.0), |worst, error| if error.0 > worst.0 { error } else { worst })
}

#[test]
fn errors_stay_below_what_the_table_says() {
    let near_one = || (0..200_000).map(|i| 0.5 + i as f32 * 1e-5);
    let functions: [(&str, Function, Exact, f64); 4] = [
        ("exp", exp, |x| if x < -86.0 { 0.0 } else { x.exp() }, 1.0),
        ("log", log, f64::ln, 0.8),
        ("tanh", tanh, f64::tanh, 1.5),
        ("erf", erf, pointwise::erf, 1.0),
    ];
    for (name, function, exact, limit) in functions {
        let (error, x) = worst(function, exact, strewn(3571).chain(near_one()));
        println!("{name}: {error:.3} ulp at {x:e}");
        assert!(error <= limit, "{name}({x:e}) is off by {error} ulp");
    }
}

#[test]
fn sine_and_cosine_are_accurate_to_a_hundred_thousand() {
    let angles = || strewn(3571).filter(|x| x.abs() <= 1e5);
    let positions = || (0..100_000).map(|i| i as f32);
    for (name, function, exact) in
        [("sin", sin as Function, f64::sin as Exact), ("cos", cos, f64::cos)]
    {
        let (error, x) = worst(function, exact, angles().chain(positions()));
        println!("{name}: {error:.3} ulp at {x:e}");
        assert!(error <= 1.5, "{name}({x:e}) is off by {error} ulp");
    }
}

#[test]
fn sine_and_cosine_of_large_angles() {
    let limit = 16_777_216.0;
    for x in strewn(997).filter(|x| x.abs() > 1e4) {
        let (s, c) = (sin(&Single, x), cos(&Single, x));
        assert!(s.abs() <= 1.0 && c.abs() <= 1.0, "{x:e}");
        if x.abs() <= limit {
            assert!((f64::from(s) - f64::from(x).sin()).abs() < 3e-7, "sin {x:e} = {s}");
            assert!((f64::from(c) - f64::from(x).cos()).abs() < 3e-7, "cos {x:e} = {c}");
        }
    }
    assert!(sin(&Single, f32::INFINITY).is_nan() && cos(&Single, f32::NAN).is_nan());
}

#[test]
fn powers() {
    let bases = || strewn(2_999_999).chain([1.0, 0.999_999_94, 1.000_000_1, 2.0, 10.0]);
    let exponents = || strewn(7_999_993).chain((-40..=40).map(|i| i as f32 / 4.0));
    let mut largest = (0.0, 0.0, 0.0);
    for x in bases() {
        for y in exponents() {
            let error = ulps(pow(&Single, x, y), f64::from(x).powf(f64::from(y)));
            if error > largest.0 {
                largest = (error, x, y);
            }
        }
    }
    println!("pow: {:.3} ulp at {:e}, {:e}", largest.0, largest.1, largest.2);
    assert!(largest.0 <= 1.1, "pow({:e}, {:e}) is off by {} ulp", largest.1, largest.2, largest.0);
}

/// All bf16 of both signs, the halves between neighbours and the floats beside both: denormals,
/// the largest numbers, infinities and NaNs are among them.
#[test]
fn rounding_to_bf16_is_exact_at_every_boundary() {
    let boundaries = (0..=u16::MAX).map(|upper| u32::from(upper) << 16);
    for at in boundaries.flat_map(|b| [b, b + 0x7fff, b + 0x8000, b + 0x8001, b + 1, b + 0xffff]) {
        let x = f32::from_bits(at);
        let rounded = bf16(&Single, x);
        assert_eq!(rounded.to_bits() & 0xffff, 0, "{at:#x} keeps lower bits");
        if x.is_nan() {
            let (sign, upper) = (at & 1 << 31, at & 0x7fbf_0000);
            assert!(rounded.is_nan() && rounded.to_bits() == sign | upper | 0x7fc0_0000, "{at:#x}");
            continue;
        }
        let neighbours = [at & 0xffff_0000, (at & 0xffff_0000).wrapping_add(0x1_0000)];
        let [below, above] = neighbours.map(beyond_the_largest);
        let (down, up) = ((f64::from(x) - below).abs(), (above - f64::from(x)).abs());
        let even = neighbours[0] & 0x1_0000 == 0;
        let expect = if down < up || down == up && even { neighbours[0] } else { neighbours[1] };
        let expect = if x.is_infinite() { at } else { expect };
        assert_eq!(rounded.to_bits(), expect, "{at:#x}");
        assert_eq!(half::bf16::from_f32(x).to_f32().to_bits(), expect, "{at:#x}");
    }
}

/// The value of an upper half, where infinity is the power of two that follows.
fn beyond_the_largest(bits: u32) -> f64 {
    let x = f64::from(f32::from_bits(bits));
    if x.is_infinite() { 2f64.powi(128).copysign(x) } else { x }
}

/// Bits, with all NaNs taken for one.
fn bits(x: f32) -> u32 {
    if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() }
}

#[test]
fn special_values_are_those_of_the_standard_library() {
    let special = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.5,
        -0.5,
        2.0,
        -2.0,
        3.0,
        -3.0,
        1e-45,
        -1e-45,
        1e-38,
        -1e-38,
        f32::MAX,
        f32::MIN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        1e9,
        -1e9,
        16_777_217.0,
    ];
    for x in special {
        for y in special {
            let expect = f64::from(x).powf(f64::from(y)) as f32;
            let result = pow(&Single, x, y);
            let same = bits(result) == bits(expect)
                || ulps(result, expect.into()) <= 2.0 && result.is_normal();
            assert!(same, "pow({x:e}, {y:e}) = {result:e}, expected {expect:e}");
        }
    }
    let infinity = f32::INFINITY;
    for (name, function, pairs) in [
        (
            "exp",
            exp as Function,
            &[
                (0.0, 1.0),
                (-0.0, 1.0),
                (infinity, infinity),
                (-infinity, 0.0),
                (89.0, infinity),
                (-104.0, 0.0),
                (-86.1, 0.0),
                (f32::NAN, f32::NAN),
            ][..],
        ),
        (
            "log",
            log,
            &[
                (1.0, 0.0),
                (0.0, -infinity),
                (-0.0, -infinity),
                (infinity, infinity),
                (-1.0, f32::NAN),
                (-infinity, f32::NAN),
                (f32::NAN, f32::NAN),
            ],
        ),
        (
            "tanh",
            tanh,
            &[
                (0.0, 0.0),
                (-0.0, -0.0),
                (infinity, 1.0),
                (-infinity, -1.0),
                (20.0, 1.0),
                (1e-45, 1e-45),
                (f32::NAN, f32::NAN),
            ],
        ),
        (
            "erf",
            erf,
            &[
                (0.0, 0.0),
                (-0.0, -0.0),
                (infinity, 1.0),
                (-infinity, -1.0),
                (5.0, 1.0),
                (f32::NAN, f32::NAN),
            ],
        ),
        ("sin", sin, &[(0.0, 0.0), (-0.0, -0.0), (1e-45, 1e-45)]),
        ("cos", cos, &[(0.0, 1.0), (-0.0, 1.0), (1e-45, 1.0)]),
    ] {
        for (x, expect) in pairs {
            let result = function(&Single, *x);
            assert_eq!(bits(result), bits(*expect), "{name}({x:e}) = {result:e}");
        }
    }
}

#[test]
fn remainders_have_the_sign_of_the_divisor() {
    for a in [-7.5f32, -1.0, -0.1, 0.0, 0.1, 5.9, 6.0, 100.25, 1e6] {
        for b in [-3.0f32, -0.7, 0.7, 3.0, 1e3] {
            let r = modulo(&Single, a, b);
            let exact = f64::from(a) - f64::from(b) * (f64::from(a) / f64::from(b)).floor();
            assert!(r == 0.0 || (r < 0.0) == (b < 0.0) || r == b, "{a} mod {b} = {r}");
            assert!((f64::from(r) - exact).abs() <= 1e-6 * f64::from(b).abs(), "{a} mod {b} = {r}");
        }
    }
}
