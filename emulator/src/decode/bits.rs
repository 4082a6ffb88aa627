//! Bits: logic, shifts, fields, counts and permutations.

use super::arith::{Decoded, binary, by_width, unary};
use super::ins::Ins;
use crate::error::PtxError;
use crate::lanes::{BoolOp, Slot, map1, map2, map3, map4};
use crate::program::{FlowRule, Op};
use crate::syntax::ast::Operand;
use crate::types::Ty;

fn logic(ins: &mut Ins, op: BoolOp) -> Decoded {
    let ty = ins.ty()?;
    if ty == Ty::Pred {
        ins.flow.rule = match op {
            BoolOp::And => FlowRule::PredicateAnd,
            BoolOp::Or => FlowRule::PredicateOr,
            BoolOp::Xor => FlowRule::Any,
        };
        let (d, a, b) = (ins.pred_dst()?, ins.pred_src()?, ins.pred_src()?);
        return Ok(Op::Alu(Box::new(move |regs, mask| {
            let v = op.apply(regs.pred(a), regs.pred(b));
            regs.put_pred(d, mask, v);
        })));
    }
    let (d, a, b) = binary(ins, ty)?;
    ins.flow.rule = match op {
        BoolOp::And => FlowRule::And(a, b),
        BoolOp::Or => FlowRule::Or(a, b),
        BoolOp::Xor => FlowRule::Union(vec![a, b]),
    };
    Ok(Op::Alu(match op {
        BoolOp::And => by_width!(ins, ty, map2, (d, a, b), |a, b| a & b),
        BoolOp::Or => by_width!(ins, ty, map2, (d, a, b), |a, b| a | b),
        BoolOp::Xor => by_width!(ins, ty, map2, (d, a, b), |a, b| a ^ b),
    }))
}

pub(super) fn and(ins: &mut Ins) -> Decoded {
    logic(ins, BoolOp::And)
}

pub(super) fn or(ins: &mut Ins) -> Decoded {
    logic(ins, BoolOp::Or)
}

pub(super) fn xor(ins: &mut Ins) -> Decoded {
    logic(ins, BoolOp::Xor)
}

pub(super) fn not(ins: &mut Ins) -> Decoded {
    let ty = ins.ty()?;
    if ty == Ty::Pred {
        let (d, a) = (ins.pred_dst()?, ins.pred_src()?);
        return Ok(Op::Alu(Box::new(move |regs, mask| {
            let v = !regs.pred(a);
            regs.put_pred(d, mask, v);
        })));
    }
    let (d, a) = unary(ins, ty)?;
    ins.flow.rule = FlowRule::Union(vec![a]);
    Ok(Op::Alu(by_width!(ins, ty, map1, (d, a), |a| !a)))
}

pub(super) fn cnot(ins: &mut Ins) -> Decoded {
    let ty = ins.ty()?;
    let (d, a) = unary(ins, ty)?;
    Ok(Op::Alu(by_width!(ins, ty, map1, (d, a), |a| if a == 0 { 1 } else { 0 })))
}

pub(super) fn lop3(ins: &mut Ins) -> Decoded {
    let bool_op = ins.bool_op();
    ins.ty()?;
    let (d, p) = match ins.take()? {
        Operand::Pair(d, p) => (ins.dst_of(d, 32)?.0, ins.pred_dst_of(p)?),
        single => (ins.dst_of(single, 32)?.0, None),
    };
    let (a, b, c) = (ins.src(Ty::B32)?, ins.src(Ty::B32)?, ins.src(Ty::B32)?);
    let lut = ins.immediate()? as u32;
    let isa = ins.isa();
    let table = move |a: u32, b: u32, c: u32| {
        // Each bit of the table is one minterm; the loop is over constants and vectorises.
        (0..8).fold(0, |acc, i| {
            let on = 0u32.wrapping_sub(lut >> i & 1);
            let ma = if i & 4 != 0 { a } else { !a };
            let mb = if i & 2 != 0 { b } else { !b };
            let mc = if i & 1 != 0 { c } else { !c };
            acc | (ma & mb & mc & on)
        })
    };
    let compute = map3(isa, d, a, b, c, table);
    let Some(op) = bool_op else {
        ins.flow.rule = FlowRule::Union(vec![a, b, c]);
        return Ok(Op::Alu(compute));
    };
    let q = ins.pred_src()?;
    Ok(Op::Alu(Box::new(move |regs, mask| {
        compute(regs, mask);
        let row: [u32; 32] = regs.get(d);
        let nonzero = (0..32).fold(0, |m, i| m | u32::from(row[i] != 0) << i);
        let value = op.apply(nonzero, regs.pred(q));
        if let Some(p) = p {
            regs.put_pred(p, mask, value);
        }
    })))
}

pub(super) fn shf(ins: &mut Ins) -> Decoded {
    let left = ins.choice(&[("l", true), ("r", false)]);
    let wrap = wraps(ins)?;
    ins.ty()?;
    let Some(left) = left else { return ins.unsupported() };
    let (d, a, b) = binary(ins, Ty::B32)?;
    let c = ins.src(Ty::U32)?;
    ins.moves(&[a, b], Ty::B32);
    Ok(Op::Alu(map3(ins.isa(), d, a, b, c, move |a: u32, b: u32, c: u32| {
        let n = if wrap { c & 31 } else { c.min(32) };
        let both = u64::from(b) << 32 | u64::from(a);
        if left { (both << n >> 32) as u32 } else { (both >> n) as u32 }
    })))
}

pub(super) fn shl(ins: &mut Ins) -> Decoded {
    let ty = ins.ty()?;
    let (d, a, n) = (ins.dst(ty)?, ins.src(ty)?, ins.src(Ty::U32)?);
    ins.moves(&[a], ty);
    let isa = ins.isa();
    Ok(Op::Alu(match ty.bits() {
        16 => map2(isa, d, a, n, |a: u16, n: u32| if n < 16 { a << n } else { 0 }),
        32 => map2(isa, d, a, n, |a: u32, n: u32| if n < 32 { a << n } else { 0 }),
        _ => map2(isa, d, a, n, |a: u64, n: u32| if n < 64 { a << n } else { 0 }),
    }))
}

pub(super) fn shr(ins: &mut Ins) -> Decoded {
    let ty = ins.ty()?;
    let (d, a, n) = (ins.dst(ty)?, ins.src(ty)?, ins.src(Ty::U32)?);
    ins.moves(&[a], ty);
    let isa = ins.isa();
    Ok(Op::Alu(match (ty.bits(), ty.is_signed()) {
        (16, false) => map2(isa, d, a, n, |a: u16, n: u32| if n < 16 { a >> n } else { 0 }),
        (16, true) => map2(isa, d, a, n, |a: i16, n: u32| a >> n.min(15)),
        (32, false) => map2(isa, d, a, n, |a: u32, n: u32| if n < 32 { a >> n } else { 0 }),
        (32, true) => map2(isa, d, a, n, |a: i32, n: u32| a >> n.min(31)),
        (_, false) => map2(isa, d, a, n, |a: u64, n: u32| if n < 64 { a >> n } else { 0 }),
        (_, true) => map2(isa, d, a, n, |a: i64, n: u32| a >> n.min(63)),
    }))
}

/// The special modes of `prmt`.
#[derive(Clone, Copy)]
enum Permute {
    Index,
    Forward4,
    Backward4,
    Replicate8,
    EdgeLeft,
    EdgeRight,
    Replicate16,
}

pub(super) fn prmt(ins: &mut Ins) -> Decoded {
    ins.ty()?;
    let mode = ins
        .choice(&[
            ("f4e", Permute::Forward4),
            ("b4e", Permute::Backward4),
            ("rc8", Permute::Replicate8),
            ("ecl", Permute::EdgeLeft),
            ("ecr", Permute::EdgeRight),
            ("rc16", Permute::Replicate16),
        ])
        .unwrap_or(Permute::Index);
    let (d, a, b) = binary(ins, Ty::B32)?;
    let c = ins.src(Ty::B32)?;
    ins.moves(&[a, b], Ty::B32);
    Ok(Op::Alu(map3(ins.isa(), d, a, b, c, move |a: u32, b: u32, c: u32| {
        let selector = match mode {
            Permute::Index => c & 0xffff,
            _ => special_selector(mode, c & 3),
        };
        permute(a, b, selector)
    })))
}

fn special_selector(mode: Permute, c: u32) -> u32 {
    let c = c as usize;
    match mode {
        Permute::Forward4 => [0x3210, 0x4321, 0x5432, 0x6543][c],
        Permute::Backward4 => [0x5670, 0x6701, 0x7012, 0x0123][c],
        Permute::Replicate8 => [0x0000, 0x1111, 0x2222, 0x3333][c],
        Permute::EdgeLeft => [0x3210, 0x3211, 0x3222, 0x3333][c],
        Permute::EdgeRight => [0x0000, 0x1110, 0x2210, 0x3210][c],
        Permute::Replicate16 => [0x1010, 0x3232, 0x1010, 0x3232][c],
        Permute::Index => 0x3210,
    }
}

fn permute(a: u32, b: u32, selector: u32) -> u32 {
    let both = u64::from(b) << 32 | u64::from(a);
    (0..4).fold(0, |out, i| {
        let s = selector >> (4 * i);
        let byte = (both >> (8 * (s & 7))) as u8;
        let byte = if s & 8 != 0 { ((byte as i8) >> 7) as u8 } else { byte };
        out | u32::from(byte) << (8 * i)
    })
}

/// `d` is 32 bits wide whatever the type.
fn count(ins: &mut Ins) -> Result<(Ty, Slot, Slot), PtxError> {
    let ty = ins.ty()?;
    Ok((ty, ins.dst(Ty::U32)?, ins.src(ty)?))
}

pub(super) fn popc(ins: &mut Ins) -> Decoded {
    let (ty, d, a) = count(ins)?;
    let isa = ins.isa();
    Ok(Op::Alu(match ty.bits() {
        32 => map1(isa, d, a, |a: u32| a.count_ones()),
        _ => map1(isa, d, a, |a: u64| a.count_ones()),
    }))
}

pub(super) fn clz(ins: &mut Ins) -> Decoded {
    let (ty, d, a) = count(ins)?;
    let isa = ins.isa();
    Ok(Op::Alu(match ty.bits() {
        32 => map1(isa, d, a, |a: u32| a.leading_zeros()),
        _ => map1(isa, d, a, |a: u64| a.leading_zeros()),
    }))
}

pub(super) fn bfind(ins: &mut Ins) -> Decoded {
    let shift = ins.flag("shiftamt");
    let (ty, d, a) = count(ins)?;
    let isa = ins.isa();
    let signed = ty.is_signed();
    Ok(Op::Alu(match ty.bits() {
        32 => map1(isa, d, a, move |a: u32| {
            let a = if signed && (a as i32) < 0 { !a } else { a };
            if a == 0 {
                u32::MAX
            } else {
                if shift { a.leading_zeros() } else { 31 - a.leading_zeros() }
            }
        }),
        _ => map1(isa, d, a, move |a: u64| {
            let a = if signed && (a as i64) < 0 { !a } else { a };
            if a == 0 {
                u32::MAX
            } else {
                if shift { a.leading_zeros() } else { 63 - a.leading_zeros() }
            }
        }),
    }))
}

pub(super) fn fns(ins: &mut Ins) -> Decoded {
    ins.ty()?;
    let (d, mask) = unary(ins, Ty::B32)?;
    let (base, offset) = (ins.src(Ty::B32)?, ins.src(Ty::S32)?);
    Ok(Op::Alu(map3(ins.isa(), d, mask, base, offset, find_nth_set)))
}

/// Position of the `offset`-th set bit from `base` (PTX ISA, `fns`).
fn find_nth_set(mask: u32, base: u32, offset: i32) -> u32 {
    if offset == 0 {
        return if base < 32 && mask >> base & 1 != 0 { base } else { u32::MAX };
    }
    let step = offset.signum();
    let mut left = offset.unsigned_abs();
    let mut position = base as i32;
    while (0..32).contains(&position) {
        if mask >> position & 1 != 0 {
            left -= 1;
            if left == 0 {
                return position as u32;
            }
        }
        position += step;
    }
    u32::MAX
}

pub(super) fn brev(ins: &mut Ins) -> Decoded {
    let ty = ins.ty()?;
    let (d, a) = unary(ins, ty)?;
    ins.moves(&[a], ty);
    Ok(Op::Alu(by_width!(ins, ty, map1, (d, a), |a| a.reverse_bits())))
}

pub(super) fn bfe(ins: &mut Ins) -> Decoded {
    let ty = ins.ty()?;
    let (d, a) = unary(ins, ty)?;
    let (position, length) = (ins.src(Ty::U32)?, ins.src(Ty::U32)?);
    ins.moves(&[a], ty);
    let isa = ins.isa();
    let signed = ty.is_signed();
    Ok(Op::Alu(match ty.bits() {
        32 => map3(isa, d, a, position, length, move |a: u32, p: u32, l: u32| {
            let wide = if signed { i64::from(a as i32) } else { i64::from(a) };
            extract(wide, p & 0xff, l & 0xff, signed, 32) as u32
        }),
        _ => map3(isa, d, a, position, length, move |a: u64, p: u32, l: u32| {
            extract(a as i64, p & 0xff, l & 0xff, signed, 64)
        }),
    }))
}

/// `bfe`: bits `p .. p + l` of `a`, sign-extended from the last bit inside the register.
fn extract(a: i64, p: u32, l: u32, signed: bool, bits: u32) -> u64 {
    if l == 0 {
        return 0;
    }
    let last = (p + l - 1).min(bits - 1);
    let sign = signed && a >> last & 1 != 0;
    let shifted = if p >= bits { 0 } else { (a as u64 & (u64::MAX >> (64 - bits))) >> p };
    let have = l.min(bits.saturating_sub(p));
    let keep = if have >= 64 { u64::MAX } else { (1 << have) - 1 };
    let field = shifted & keep;
    if sign { field | !keep } else { field }
}

pub(super) fn bfi(ins: &mut Ins) -> Decoded {
    let ty = ins.ty()?;
    let (d, a, b) = binary(ins, ty)?;
    let (position, length) = (ins.src(Ty::U32)?, ins.src(Ty::U32)?);
    ins.moves(&[a, b], ty);
    let isa = ins.isa();
    Ok(Op::Alu(match ty.bits() {
        32 => map4(isa, d, a, b, position, length, |a: u32, b: u32, p: u32, l: u32| {
            insert(u64::from(a), u64::from(b), p & 0xff, l & 0xff, 32) as u32
        }),
        _ => map4(isa, d, a, b, position, length, |a: u64, b: u64, p: u32, l: u32| {
            insert(a, b, p & 0xff, l & 0xff, 64)
        }),
    }))
}

fn insert(a: u64, b: u64, p: u32, l: u32, bits: u32) -> u64 {
    if l == 0 || p >= bits {
        return b;
    }
    let l = l.min(bits - p);
    let field = if l >= 64 { u64::MAX } else { ((1 << l) - 1) << p };
    b & !field | (a << p) & field
}

/// `.wrap` and `.clamp` of an index.
pub(super) fn wraps(ins: &mut Ins) -> Result<bool, PtxError> {
    match ins.choice(&[("wrap", true), ("clamp", false)]) {
        Some(wrap) => Ok(wrap),
        None => ins.error("needs `.wrap` or `.clamp`"),
    }
}

pub(super) fn szext(ins: &mut Ins) -> Decoded {
    let wrap = wraps(ins)?;
    let ty = ins.ty()?;
    let (d, a) = unary(ins, ty)?;
    let n = ins.src(Ty::U32)?;
    let signed = ty.is_signed();
    Ok(Op::Alu(map2(ins.isa(), d, a, n, move |a: u32, n: u32| {
        let n = if wrap { n & 31 } else { n.min(32) };
        match (n, signed) {
            (0, _) => 0,
            (32, _) => a,
            (n, true) => ((a << (32 - n)) as i32 >> (32 - n)) as u32,
            (n, false) => a & ((1 << n) - 1),
        }
    })))
}

pub(super) fn bmsk(ins: &mut Ins) -> Decoded {
    let wrap = wraps(ins)?;
    ins.ty()?;
    let (d, a, b) = binary(ins, Ty::B32)?;
    Ok(Op::Alu(map2(ins.isa(), d, a, b, move |a: u32, b: u32| {
        let (a, b) = if wrap { (a & 31, b & 31) } else { (a.min(32), b.min(32)) };
        let ones = if b >= 32 { u64::from(u32::MAX) } else { (1u64 << b) - 1 };
        (ones << a) as u32
    })))
}
