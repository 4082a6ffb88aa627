//! "Comparison and selection".

use std::cmp::Ordering;

use crate::Op;
use crate::exact::{self, Value};
use crate::float::format;
use crate::integer::value;

/// Whether a comparison of two ordered (or, `None`, unordered) operands holds.
fn holds(cmp: &str, order: Option<Ordering>) -> bool {
    let nan = order.is_none();
    let is = |list: &[Ordering]| order.is_some_and(|o| list.contains(&o));
    use Ordering::{Equal, Greater, Less};
    match cmp {
        "eq" => is(&[Equal]),
        "ne" => is(&[Less, Greater]),
        "lt" | "lo" => is(&[Less]),
        "le" | "ls" => is(&[Less, Equal]),
        "gt" | "hi" => is(&[Greater]),
        "ge" | "hs" => is(&[Greater, Equal]),
        "num" => !nan,
        "nan" => nan,
        other => nan || holds(&other[..2], order),
    }
}

/// How two operands of a type compare.
fn order(ty: &str, flush: bool, a: u64, b: u64) -> Option<Ordering> {
    match format(ty) {
        None => Some(value(a, ty).cmp(&value(b, ty))),
        Some(f) => {
            let v = |bits: u64| -> Value { f.decode(f.flush(flush, bits)) };
            exact::compare(&v(a), &v(b))
        }
    }
}

fn combine(op: &Op, t: bool, c: bool) -> bool {
    match op.words().iter().find(|w| matches!(**w, "and" | "or" | "xor")) {
        Some(&"and") => t && c,
        Some(&"or") => t || c,
        Some(_) => t != c,
        None => t,
    }
}

/// Results of `set`, `setp` (both predicates), `selp` and `slct`.
pub(crate) fn compare(op: &Op, r: &[u64]) -> (u64, u64) {
    let ty = op.last_type();
    let flush = op.has("ftz");
    if op.base() == "selp" {
        return (if r[2] != 0 { r[0] } else { r[1] }, 0);
    }
    if op.base() == "slct" {
        let c = match format(ty) {
            None => value(r[2], ty) >= 0,
            Some(f) => {
                let zero = exact::integer(0);
                exact::compare(&f.decode(f.flush(flush, r[2])), &zero).is_some_and(Ordering::is_ge)
            }
        };
        return (if c { r[0] } else { r[1] }, 0);
    }
    let cmp = op.words()[1];
    let c = r.get(2).is_some_and(|c| *c != 0);
    let parts: Vec<bool> = match ty.strip_suffix("x2") {
        None => vec![holds(cmp, order(ty, flush, r[0], r[1]))],
        Some(half) => (0..2)
            .map(|i| {
                holds(cmp, order(half, flush, r[0] >> (16 * i) & 0xffff, r[1] >> (16 * i) & 0xffff))
            })
            .collect(),
    };
    if op.base() == "setp" {
        // The second predicate of a pair is for the upper half; otherwise it is the complement.
        let second = parts.get(1).copied().unwrap_or(!parts[0]);
        return (combine(op, parts[0], c).into(), combine(op, second, c).into());
    }
    let one = |yes: bool, ty: &str| match (yes, ty) {
        (false, _) => 0,
        (_, "f32") => 0x3f80_0000,
        (_, "f16") => 0x3c00,
        (_, "bf16") => 0x3f80,
        (_, "u16" | "s16") => 0xffff,
        _ => 0xffff_ffff,
    };
    let d = op.types()[0];
    if parts.len() == 1 {
        return (one(combine(op, parts[0], c), d), 0);
    }
    let half = d.strip_suffix("x2").unwrap_or("u16");
    (one(combine(op, parts[0], c), half) | one(combine(op, parts[1], c), half) << 16, 0)
}
