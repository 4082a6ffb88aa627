//! "Conversions".

use crate::Op;
use crate::exact::{self, E4M3, E5M2, Format, Magnitude, Mode, TF32, Value};
use crate::float::format;
use crate::integer::{is_signed, low, value, width};

fn element(ty: &str) -> Option<Format> {
    Some(match ty {
        "e4m3" => E4M3,
        "e5m2" => E5M2,
        "tf32" => TF32,
        other => return format(other),
    })
}

fn range(ty: &str) -> (i128, i128) {
    let w = width(ty);
    if is_signed(ty) { (-(1 << (w - 1)), (1 << (w - 1)) - 1) } else { (0, (1 << w) - 1) }
}

/// The result as it stands in the destination register, extended to its width.
pub(crate) fn convert(op: &Op, r: &[u64], register_bits: u32) -> u64 {
    if op.has("pack") {
        return pack(op, r);
    }
    let types = op.types();
    let (to, from) = (types[0], types[1]);
    if let Some(to) = to.strip_suffix("x2") {
        let bits = element(to).expect("a float type").width() as u32;
        let (upper, lower) = match from.strip_suffix("x2") {
            None => (one(op, to, from, r[0]), one(op, to, from, r[1])),
            Some(half) => {
                let w = element(half).expect("a float type").width();
                let mask = (1 << w) - 1;
                (one(op, to, half, r[0] >> w & mask), one(op, to, half, r[0] & mask))
            }
        };
        return upper << bits | lower;
    }
    let out = one(op, to, from, r[0]);
    if to == "tf32" {
        // The layout of a single; a NaN is that of singles.
        return if out == TF32.nan() { 0x7fff_ffff } else { out << 13 };
    }
    // Narrow results fill the register: by their sign or with zeros.
    if element(to).is_none() { low(value(out, to), register_bits) } else { out }
}

fn one(op: &Op, to: &str, from: &str, bits: u64) -> u64 {
    let mode = Mode::of(op.words());
    let v = match element(from) {
        None => exact::integer(value(bits, from)),
        Some(f) => f.decode(if from == "f32" { f.flush(op.has("ftz"), bits) } else { bits }),
    };
    match element(to) {
        None => to_integer(op, to, from, &v, mode),
        Some(f) => to_float(op, f, to, from, v, mode),
    }
}

fn to_integer(op: &Op, to: &str, from: &str, v: &Value, mode: Mode) -> u64 {
    let (least, most) = range(to);
    if v.is_nan() {
        // Zero from narrow formats to narrow integers, the top bit alone otherwise.
        let wide = from == "f64" || width(to) == 64;
        return if wide { 1 << (width(to) - 1) } else { 0 };
    }
    let whole = exact::to_i128(&exact::round_integral(v, mode));
    let clamps = element(from).is_some() || op.has("sat");
    low(if clamps { whole.clamp(least, most) } else { whole }, width(to))
}

fn to_float(op: &Op, f: Format, to: &str, from: &str, v: Value, mode: Mode) -> u64 {
    let integral =
        op.words().iter().any(|w| w.len() == 3 && w.starts_with('r') && w.ends_with('i'));
    let v = if integral { exact::round_integral(&v, mode) } else { v };
    let one = exact::integer(1);
    let v = match () {
        () if op.has("sat") && (v.is_nan() || v.negative) => exact::integer(0),
        () if op.has("sat") && exact::compare(&v, &one).is_some_and(|o| o.is_gt()) => one,
        () if op.has("relu") && v.negative && !v.is_nan() => exact::integer(0),
        () => v,
    };
    let mode = if integral { Mode::Even } else { mode };
    let satfinite = op.has("satfinite") && !matches!(v.magnitude, Magnitude::Nan);
    let out = f.encode(&v, mode, satfinite);
    let flush = op.has("ftz") && to == "f32";
    let _ = from;
    f.flush(flush, out)
}

/// `cvt.pack`: two clamped integers side by side, in front of them the low bits of c.
fn pack(op: &Op, r: &[u64]) -> u64 {
    let types = op.types();
    let (least, most) = range(types[0]);
    let bits = width(types[0]);
    let narrow = |v: u64| low(value(v, types[1]).clamp(least, most), bits);
    let both = narrow(r[0]) << bits | narrow(r[1]);
    if types.len() > 2 { (r[2] << (2 * bits) | both) & 0xffff_ffff } else { both }
}
