//! "Floating point" and "Half precision": exact where the manual says so, within its error elsewhere.

use crate::Op;
use crate::exact::{self, BF16, F16, F32, F64, Format, Mode, Value};

/// The format of a type, if it is one of floats.
pub(crate) fn format(ty: &str) -> Option<Format> {
    Some(match ty {
        "f64" => F64,
        "f32" => F32,
        "f16" => F16,
        "bf16" => BF16,
        _ => return None,
    })
}

/// Judges a result; says what was expected if it is wrong.
pub(crate) fn judge(op: &Op, r: &[u64], got: u64) -> Result<(), String> {
    let ty = op.last_type();
    if let Some(half) = ty.strip_suffix("x2") {
        for i in 0..2 {
            let parts: Vec<u64> = r.iter().map(|v| v >> (16 * i) & 0xffff).collect();
            one(op, half, &parts, got >> (16 * i) & 0xffff)?;
        }
        return Ok(());
    }
    one(op, ty, r, got)
}

fn one(op: &Op, ty: &str, r: &[u64], got: u64) -> Result<(), String> {
    let f = format(ty).expect("a float type");
    let flush = op.has("ftz");
    let inputs: Vec<u64> = r.iter().map(|&bits| f.flush(flush, bits)).collect();
    let v: Vec<Value> = inputs.iter().map(|&bits| f.decode(bits)).collect();
    if op.has("approx") || op.has("full") {
        return approximate(op, ty, f, &v, got);
    }
    let want = match op.base() {
        "testp" => u64::from(class(op, f, r[0])),
        // The magnitude of b with the sign of a.
        "copysign" => r[1] & f.nan() | r[0] & !f.nan(),
        "abs" | "neg" if !v[0].is_nan() => {
            if op.base() == "abs" {
                inputs[0] & f.nan()
            } else {
                inputs[0] ^ (f.nan() + 1)
            }
        }
        "min" | "max" => extreme(op, f, &v, &inputs),
        _ => arithmetic(op, f, &v),
    };
    same(op, f, got, want)
}

/// Equal bits. A NaN has one pattern in the formats of up to 32 bits, except where an instruction only
/// moves the sign; of a double any will do.
fn same(op: &Op, f: Format, got: u64, want: u64) -> Result<(), String> {
    let nan = op.base() != "testp" && op.base() != "copysign" && f.decode(want).is_nan();
    let loose = f == F64 || matches!(op.base(), "abs" | "neg");
    if got == want || nan && loose && f.decode(got).is_nan() {
        return Ok(());
    }
    Err(format!("{want:#x}"))
}

fn class(op: &Op, f: Format, bits: u64) -> bool {
    let v = f.decode(bits);
    let subnormal = !v.is_zero() && f.decode(f.flush(true, bits)).is_zero();
    match op.words()[1] {
        "finite" => !v.is_nan() && !v.is_infinite(),
        "infinite" => v.is_infinite(),
        "number" => !v.is_nan(),
        "notanumber" => v.is_nan(),
        "normal" => !v.is_nan() && !v.is_infinite() && !subnormal,
        _ => subnormal,
    }
}

/// `.sat` and `.relu` of a value before it is rounded; NaN becomes zero under `.sat`.
fn limited(op: &Op, v: Value) -> Value {
    let (zero, one) = (exact::integer(0), exact::integer(1));
    if op.has("sat") {
        if v.is_nan() || v.negative {
            return zero;
        }
        return if exact::compare(&v, &one).is_some_and(|o| o.is_gt()) { one } else { v };
    }
    if op.has("relu") && v.negative && !v.is_nan() { zero } else { v }
}

fn arithmetic(op: &Op, f: Format, v: &[Value]) -> u64 {
    let mode = Mode::of(op.words());
    let minus = |x: &Value| x.negate(true);
    let result = match op.base() {
        "add" => exact::add(&v[0], &v[1], mode),
        "sub" => exact::add(&v[0], &minus(&v[1]), mode),
        "mul" => exact::mul(&v[0], &v[1]),
        "fma" | "mad" => exact::add(&exact::mul(&v[0], &v[1]), &v[2], mode),
        "div" => exact::div(&v[0], &v[1]),
        "rcp" => exact::div(&exact::integer(1), &v[0]),
        "sqrt" => exact::sqrt(&v[0]),
        "abs" => v[0].abs(),
        "neg" => minus(&v[0]),
        other => panic!("no model of `{other}`"),
    };
    f.flush(op.has("ftz"), f.encode(&limited(op, result), mode, false))
}

/// `min` and `max`: a NaN loses unless `.NaN`; minus zero is below plus zero.
fn extreme(op: &Op, f: Format, v: &[Value], bits: &[u64]) -> u64 {
    let xorsign = op.has("xorsign");
    let sign = if xorsign { (bits[0] ^ bits[1]) & !f.nan() } else { 0 };
    let (a, b) = if xorsign { (v[0].abs(), v[1].abs()) } else { (v[0].clone(), v[1].clone()) };
    if a.is_nan() && b.is_nan() || op.has("NaN") && (a.is_nan() || b.is_nan()) {
        return f.nan();
    }
    let below = match exact::compare(&a, &b) {
        _ if a.is_nan() => op.base() == "max",
        None => op.base() == "min",
        Some(std::cmp::Ordering::Equal) => a.negative && !b.negative,
        Some(o) => o.is_lt(),
    };
    let pick = usize::from(below != (op.base() == "min"));
    let magnitude = if xorsign { bits[pick] & f.nan() } else { bits[pick] };
    magnitude | sign
}

/// Instructions with a stated error.
fn approximate(op: &Op, ty: &str, f: Format, v: &[Value], got: u64) -> Result<(), String> {
    let x = v[0].to_f64();
    let flush = op.has("ftz");
    let exact = match op.base() {
        "rcp" => 1.0 / x,
        "sqrt" => x.sqrt(),
        "rsqrt" => 1.0 / x.sqrt(),
        "sin" => x.sin(),
        "cos" => x.cos(),
        "lg2" => x.log2(),
        "ex2" => x.exp2(),
        "tanh" => x.tanh(),
        "div" => {
            let y = v[1].to_f64();
            // Beyond 2^126 the reciprocal is gone: zero, or NaN for an infinite dividend.
            if op.has("approx") && y.abs() > 2f64.powi(126) && y.is_finite() {
                if !x.is_finite() { f64::NAN } else { 0f64.copysign(x) * 1f64.copysign(y) }
            } else {
                x / y
            }
        }
        other => panic!("no model of `{other}`"),
    };
    let (relative, absolute) = bound(op.base(), ty, x);
    let g = f.decode(got);
    // What rounding and flushing alone make of the exact value is right in any case.
    let value = F64.decode(exact.to_bits());
    if got == f.flush(flush, f.encode(&value, Mode::Even, false)) || g.is_nan() && exact.is_nan() {
        return Ok(());
    }
    let error = (g.to_f64() - exact).abs();
    if error <= relative * exact.abs() + absolute
        && g.negative == (exact < 0.0 || g.to_f64() == 0.0 && g.negative)
    {
        return Ok(());
    }
    Err(format!("about {exact:e}, not {:e}", g.to_f64()))
}

/// Relative and absolute error that the manual allows at `x`.
fn bound(base: &str, ty: &str, x: f64) -> (f64, f64) {
    let p = |n: f64| n.exp2();
    match (base, ty) {
        ("rcp" | "rsqrt", "f64") => (p(-20.0), 0.0),
        ("div", _) => (p(-22.0), 0.0),
        ("rcp" | "sqrt", _) => (p(-23.0), 0.0),
        ("rsqrt", _) => (p(-22.9), 0.0),
        ("sin" | "cos", _) if x.abs() <= std::f64::consts::TAU => (0.0, p(-20.5)),
        ("sin" | "cos", _) => (0.0, p(-14.7)),
        ("lg2", _) => (p(-22.0), p(-22.0)),
        ("ex2", "f32") => (p(-22.0), 0.0),
        ("ex2", "f16") => (p(-9.9), 0.0),
        ("ex2", _) => (p(-7.0), 0.0),
        ("tanh", "f32") => (p(-11.0), 0.0),
        ("tanh", "f16") => (0.0, p(-10.987)),
        ("tanh", _) => (0.0, p(-8.0)),
        other => panic!("no error is stated for {other:?}"),
    }
}
