//! The integer sections of the manual in wide integers.

use crate::Op;

/// Bits of an integer type.
pub(crate) fn width(ty: &str) -> u32 {
    ty.trim_start_matches(|c: char| c.is_ascii_alphabetic()).parse().unwrap_or(32)
}

pub(crate) fn is_signed(ty: &str) -> bool {
    ty.starts_with('s')
}

/// The value of the low bits of a register.
pub(crate) fn value(bits: u64, ty: &str) -> i128 {
    let (w, v) = (width(ty), i128::from(bits));
    let v = v & ((1 << w) - 1);
    if is_signed(ty) && v >> (w - 1) & 1 != 0 { v - (1 << w) } else { v }
}

/// The low bits of a value.
pub(crate) fn low(v: i128, bits: u32) -> u64 {
    (v & ((1i128 << bits) - 1)) as u64
}

fn bit(v: u64, i: i64) -> u64 {
    if (0..64).contains(&i) { v >> i & 1 } else { 0 }
}

/// The result of an opcode of "Integer arithmetic" on operands as they stand in registers.
pub(crate) fn arithmetic(op: &Op, r: &[u64]) -> u64 {
    let ty = op.last_type();
    if let Some(half) = ty.strip_suffix("x2") {
        let lane = |i: u32| {
            let parts: Vec<u64> = r.iter().map(|v| v >> (16 * i) & 0xffff).collect();
            one(op, half, &parts) & 0xffff
        };
        return lane(0) | lane(1) << 16;
    }
    one(op, ty, r)
}

fn one(op: &Op, ty: &str, r: &[u64]) -> u64 {
    let w = width(ty);
    let v = |i: usize| value(r[i], ty);
    let max = if is_signed(ty) { (1i128 << (w - 1)) - 1 } else { (1 << w) - 1 };
    let min = if is_signed(ty) { -(1i128 << (w - 1)) } else { 0 };
    let saturated = |x: i128| if op.has("sat") { x.clamp(min, max) } else { x };
    let product = |a: i128, b: i128| -> i128 {
        // An unsigned 64-bit product needs all 128 bits; as a pattern they are the same.
        let full = (a as u128).wrapping_mul(b as u128);
        match () {
            () if op.has("hi") && is_signed(ty) => (full as i128) >> w,
            () if op.has("hi") => (full >> w) as i128,
            () => full as i128,
        }
    };
    let relu = |x: i128| if op.has("relu") { x.max(0) } else { x };
    let result_bits = if op.has("wide") { 2 * w } else { w };
    let out = match op.base() {
        "add" => saturated(v(0) + v(1)),
        "sub" => saturated(v(0) - v(1)),
        "mul" => product(v(0), v(1)),
        "mad" if op.has("wide") => v(0) * v(1) + value(r[2], &format!("{}{}", &ty[..1], 2 * w)),
        "mad" if op.has("sat") => saturated(product(v(0), v(1)) + v(2)),
        "mad" => product(v(0), v(1)).wrapping_add(v(2)),
        "mul24" | "mad24" => {
            let narrow = |x: u64| value(x << 8 & 0xffff_ffff, ty) >> 8;
            let full = narrow(r[0]) * narrow(r[1]);
            let part = value(low(if op.has("hi") { full >> 16 } else { full }, 32), ty);
            saturated(part + if op.base() == "mad24" { v(2) } else { 0 })
        }
        "sad" => v(2) + (v(0) - v(1)).abs(),
        // Division by zero is left open; the hardware gives all ones and the dividend.
        "div" => {
            if v(1) == 0 {
                -1
            } else {
                v(0) / v(1)
            }
        }
        "rem" => {
            if v(1) == 0 {
                v(0)
            } else {
                v(0) % v(1)
            }
        }
        "abs" => v(0).abs(),
        "neg" => -v(0),
        "min" => relu(v(0).min(v(1))),
        "max" => relu(v(0).max(v(1))),
        _ => return bits(op, ty, r),
    };
    low(out, result_bits)
}

/// Instructions on bits, as loops over them.
fn bits(op: &Op, ty: &str, r: &[u64]) -> u64 {
    let w = i64::from(width(ty));
    let a = r[0];
    let word = |i: usize| r[i] as u32;
    match op.base() {
        "popc" => (0..w).map(|i| bit(a, i)).sum(),
        "clz" => (0..w).rev().take_while(|&i| bit(a, i) == 0).count() as u64,
        "bfind" => {
            let a = if is_signed(ty) && bit(a, w - 1) != 0 { !a } else { a };
            match (0..w).rev().find(|&i| bit(a, i) != 0) {
                None => 0xffff_ffff,
                Some(i) if op.has("shiftamt") => (w - 1 - i) as u64,
                Some(i) => i as u64,
            }
        }
        "fns" => find_nth_set(word(0), word(1) as i32, word(2) as i32).into(),
        "brev" => (0..w).fold(0, |out, i| out | bit(a, i) << (w - 1 - i)),
        "bfe" => {
            let (at, length) = ((r[1] & 0xff) as i64, (r[2] & 0xff) as i64);
            let sign =
                if is_signed(ty) && length > 0 { bit(a, (at + length - 1).min(w - 1)) } else { 0 };
            let one = |i| if i < length && at + i < w { bit(a, at + i) } else { sign };
            (0..w).fold(0, |out, i| out | one(i) << i)
        }
        "bfi" => {
            let (at, length) = ((r[2] & 0xff) as i64, (r[3] & 0xff) as i64);
            (0..length)
                .filter(|i| at + i < w)
                .fold(r[1], |out, i| out & !(1 << (at + i)) | bit(a, i) << (at + i))
        }
        "szext" => {
            let n = if op.has("clamp") { r[1].min(32) } else { r[1] & 31 } as i64;
            let sign = if ty == "s32" && n > 0 { bit(a, n - 1) } else { 0 };
            (0..32).fold(0, |out, i| out | if i < n { bit(a, i) } else { sign } << i)
        }
        "bmsk" => {
            let wrapped = |v: u64| if op.has("clamp") { v } else { v & 31 };
            let (from, count) = (wrapped(r[0]), wrapped(r[1]));
            (0..32)
                .filter(|i| *i >= from && *i < from.saturating_add(count))
                .fold(0, |out, i| out | 1 << i)
        }
        "dp4a" | "dp2a" => {
            let (ta, tb) = (op.types()[0], op.types()[1]);
            let (n, size) = if op.base() == "dp4a" { (4, 8) } else { (2, 16) };
            let from = if op.has("hi") { 2 } else { 0 };
            let element = |word: u64, i: u32, bits: u32, ty: &str| {
                value(word >> (i * bits) & ((1 << bits) - 1), &format!("{}{bits}", &ty[..1]))
            };
            let sum: i128 =
                (0..n).map(|i| element(r[0], i, size, ta) * element(r[1], from + i, 8, tb)).sum();
            low(i128::from(r[2]) + sum, 32)
        }
        other => panic!("no model of `{other}`"),
    }
}

fn find_nth_set(mask: u32, base: i32, offset: i32) -> u32 {
    let set = |i: i32| (0..32).contains(&i) && mask >> i & 1 != 0;
    if offset == 0 {
        return if set(base) { base as u32 } else { u32::MAX };
    }
    let mut left = offset.unsigned_abs();
    let mut at = i64::from(base);
    while (0..32).contains(&at) {
        left -= u32::from(set(at as i32));
        if left == 0 {
            return at as u32;
        }
        at += i64::from(offset.signum());
    }
    u32::MAX
}

/// "Extended-precision integers": the result and the carry flag; the last operand is the carry before.
pub(crate) fn extended(op: &Op, r: &[u64]) -> (u64, u64) {
    let ty = op.last_type();
    let w = width(ty);
    let v = |i: usize| r[i] as i128 & ((1 << w) - 1);
    let before = *r.last().expect("the carry") as i128;
    let takes = if matches!(op.base(), "addc" | "subc" | "madc") { before } else { 0 };
    let wide = match op.base() {
        "add" | "addc" => v(0) + v(1) + takes,
        "sub" => v(0) - v(1),
        // The flag is a carry, not a borrow: clear, it takes one more away.
        "subc" => v(0) - v(1) - (1 - takes),
        _ => {
            let full = (value(r[0], ty) as u128).wrapping_mul(value(r[1], ty) as u128);
            let part = if op.has("hi") { full >> w } else { full } & ((1 << w) - 1);
            part as i128 + v(2) + takes
        }
    };
    let borrows = op.base().starts_with("sub") && op.has("cc");
    let carry =
        if op.has("cc") { (wide >> w & 1) as u64 ^ u64::from(borrows) } else { before as u64 };
    (low(wide, w), carry)
}

/// "Logic and shifts"; predicates are zero or one. The second part is the predicate of `lop3`.
pub(crate) fn logic(op: &Op, r: &[u64]) -> (u64, u64) {
    let ty = op.last_type();
    let w = if ty == "pred" { 1 } else { width(ty) };
    let all = ((1u128 << w) - 1) as u64;
    let amount = |i: usize, limit: u64| r[i].min(limit);
    let out = match op.base() {
        "and" => r[0] & r[1],
        "or" => r[0] | r[1],
        "xor" => r[0] ^ r[1],
        "not" => !r[0],
        "cnot" => u64::from(r[0] & all == 0),
        "lop3" => {
            let one = |i: u32| {
                let at = |k: usize| r[k] >> i & 1;
                u64::from(op.lut >> (at(0) << 2 | at(1) << 1 | at(2)) & 1) << i
            };
            let out = (0..32).fold(0, |out, i| out | one(i));
            let hit = u64::from(out != 0);
            let p = match () {
                () if op.has("or") => hit | r[3],
                () if op.has("and") => hit & r[3],
                () => 0,
            };
            return (out, p);
        }
        "shf" => {
            let n = if op.has("clamp") { amount(2, 32) } else { r[2] & 31 };
            let both = u128::from(r[1] << 32 | r[0]);
            if op.has("l") { ((both << n) >> 32) as u64 } else { (both >> n) as u64 }
        }
        "shl" => (u128::from(r[0]) << amount(1, 64)) as u64,
        "shr" => (value(r[0], ty) >> amount(1, 64)) as u64,
        "prmt" => permute(op, r),
        other => panic!("no model of `{other}`"),
    };
    (out & all, 0)
}

fn permute(op: &Op, r: &[u64]) -> u64 {
    let source = (r[1] << 32 | r[0] & 0xffff_ffff).to_le_bytes();
    let c = r[2] as usize & 3;
    // The tables of the manual: which byte goes to each place, the lowest first.
    let table = |rows: [[usize; 4]; 4]| rows[c].map(|i| i as u64);
    let picks = match () {
        () if op.has("f4e") => table([[0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 5], [3, 4, 5, 6]]),
        () if op.has("b4e") => table([[0, 7, 6, 5], [1, 0, 7, 6], [2, 1, 0, 7], [3, 2, 1, 0]]),
        () if op.has("rc8") => [c as u64; 4],
        () if op.has("ecl") => table([[0, 1, 2, 3], [1, 1, 2, 3], [2, 2, 2, 3], [3, 3, 3, 3]]),
        () if op.has("ecr") => table([[0, 0, 0, 0], [0, 1, 1, 1], [0, 1, 2, 2], [0, 1, 2, 3]]),
        () if op.has("rc16") => table([[0, 1, 0, 1], [2, 3, 2, 3], [0, 1, 0, 1], [2, 3, 2, 3]]),
        () => [0, 4, 8, 12].map(|at| r[2] >> at & 15),
    };
    picks.iter().enumerate().fold(0, |out, (i, pick)| {
        let byte = source[(pick & 7) as usize];
        let sign = if byte & 0x80 != 0 { 0xff } else { 0 };
        out | u64::from(if pick & 8 != 0 { sign } else { byte }) << (8 * i)
    })
}
