//! The pseudo-code of "Video instructions".

use crate::Op;
use crate::integer::{low, value};

/// Bits `at .. at + bits` that a selector names.
fn selected(selector: &str) -> (u32, u32) {
    match selector.as_bytes() {
        [b'b', n] => (8 * u32::from(n - b'0'), 8),
        [b'h', n] => (16 * u32::from(n - b'0'), 16),
        _ => (0, 32),
    }
}

fn extract(word: u64, (at, bits): (u32, u32), ty: &str) -> i128 {
    value(word >> at & ((1 << bits) - 1), &format!("{}{bits}", &ty[..1]))
}

fn clamp(v: i128, bits: u32, signed: bool) -> i128 {
    if signed {
        v.clamp(-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    } else {
        v.clamp(0, (1 << bits) - 1)
    }
}

fn merge(v: i128, (at, bits): (u32, u32), into: u64) -> u64 {
    let mask = low(-1, bits) << at;
    into & !mask | low(v, bits) << at
}

fn pairwise(op: &Op, name: &str, a: i128, b: i128) -> i128 {
    let compared = |w: &str| match w {
        "eq" => a == b,
        "ne" => a != b,
        "lt" => a < b,
        "le" => a <= b,
        "gt" => a > b,
        _ => a >= b,
    };
    match name {
        "vadd" => a + b,
        "vsub" => a - b,
        "vabsdiff" => (a - b).abs(),
        "vmin" => a.min(b),
        "vmax" => a.max(b),
        "vavrg" if a + b >= 0 => (a + b + 1) >> 1,
        "vavrg" => (a + b) >> 1,
        "vset" => compared(op.words()[3]).into(),
        "vshl" | "vshr" => {
            let n = if op.has("clamp") { b.min(32) } else { b & 31 };
            if name == "vshl" { a << n } else { a >> n }
        }
        other => panic!("no model of `{other}`"),
    }
}

/// Scalar and SIMD forms; `op.selectors` holds those of d, a and b.
pub(crate) fn video(op: &Op, r: &[u64]) -> u64 {
    let types = op.types();
    let name = op.base();
    if name == "vmad" {
        return mad(op, r);
    }
    let set = name.starts_with("vset");
    let (d, ta, tb) =
        if set { ("u32", types[0], types[1]) } else { (types[0], types[1], types[2]) };
    let signed = d == "s32";
    if name.ends_with(['2', '4']) {
        return simd(op, r, (signed, ta, tb));
    }
    let into = selected(&op.selectors[0]);
    let (a, b) = (
        extract(r[0], selected(&op.selectors[1]), ta),
        extract(r[1], selected(&op.selectors[2]), tb),
    );
    let v = pairwise(op, name, a, b);
    let v = if op.has("sat") { clamp(v, into.1, signed) } else { v };
    let as_d = |v: i128| value(low(v, 32), d);
    let c = as_d(r[2].into());
    match () {
        () if op.has("add") => low(as_d(v) + c, 32),
        () if op.has("min") => low(as_d(v).min(c), 32),
        () if op.has("max") => low(as_d(v).max(c), 32),
        () => merge(v, into, r[2]),
    }
}

fn mad(op: &Op, r: &[u64]) -> u64 {
    let types = op.types();
    let signed = types[1] == "s32" || types[2] == "s32";
    let a = extract(r[0], selected(&op.selectors[1]), types[1]);
    let b = extract(r[1], selected(&op.selectors[2]), types[2]);
    let c = value(r[2], if signed { "s32" } else { "u32" });
    let shift = if op.has("shr7") {
        7
    } else if op.has("shr15") {
        15
    } else {
        0
    };
    // The result has 64 bits before it is clamped.
    let wide = (a * b + c + i128::from(op.has("po"))) >> shift;
    let wide = value(low(wide, 64), if signed { "s64" } else { "u64" });
    low(if op.has("sat") { clamp(wide, 32, signed) } else { wide }, 32)
}

fn simd(op: &Op, r: &[u64], (signed, ta, tb): (bool, &str, &str)) -> u64 {
    let (name, n) = op.base().split_at(op.base().len() - 1);
    let n: u32 = n.parse().expect("2 or 4");
    let bits = 32 / n;
    let digits = |text: &str, default: &str| -> Vec<u32> {
        let text = if text.is_empty() { default } else { &text[1..] };
        text.chars().rev().map(|c| c.to_digit(10).expect("a digit")).collect()
    };
    let (da, db) = if n == 2 { ("10", "32") } else { ("3210", "7654") };
    let (from_a, from_b) = (digits(&op.selectors[1], da), digits(&op.selectors[2], db));
    let mask = digits(&op.selectors[0], da);
    let both = r[1] << 32 | r[0] & 0xffff_ffff;
    let mut out = r[2];
    for i in 0..n {
        if !mask.contains(&i) {
            continue;
        }
        let a = extract(both, (bits * from_a[i as usize], bits), ta);
        let b = extract(both, (bits * from_b[i as usize], bits), tb);
        let v = pairwise(op, name, a, b);
        let v = if op.has("sat") { clamp(v, bits, signed) } else { v };
        out = if op.has("add") {
            low(i128::from(out) + v, 32)
        } else {
            merge(v, (bits * i, bits), out)
        };
    }
    out
}
