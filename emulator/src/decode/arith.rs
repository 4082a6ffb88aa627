//! Integer arithmetic, comparison, selection, logic and shifts; where an opcode also takes
//! floating-point types, those go to [`super::floats`].

use super::floats;
use super::ins::Ins;
use crate::error::PtxError;
use crate::lanes::{
    AluFn, BoolOp, Isa, Lane, Pred, PredOut, Slot, carry3, map1, map2, map3, map4, test2,
};
use crate::num::ftz;
use crate::program::{FlowRule, Op};
use crate::syntax::ast::Operand;
use crate::types::Ty;

type Decoded = Result<Op, PtxError>;

/// `d, a` of one type.
fn unary(ins: &mut Ins, ty: Ty) -> Result<(Slot, Slot), PtxError> {
    Ok((ins.dst(ty)?, ins.src(ty)?))
}

/// `d, a, b` of one type.
fn binary(ins: &mut Ins, ty: Ty) -> Result<(Slot, Slot, Slot), PtxError> {
    Ok((ins.dst(ty)?, ins.src(ty)?, ins.src(ty)?))
}

/// The type with twice the width, for `.wide`.
fn widened(ty: Ty) -> Option<Ty> {
    Some(match ty {
        Ty::U16 => Ty::U32,
        Ty::S16 => Ty::S32,
        Ty::U32 => Ty::U64,
        Ty::S32 => Ty::S64,
        _ => return None,
    })
}

/// Picks the closure of an integer type; signed and unsigned of one width share it.
macro_rules! by_width {
    ($ins:expr, $ty:expr, $build:ident, ($($slot:expr),*), |$($arg:ident),*| $body:expr) => {{
        let isa = $ins.isa();
        match $ty.bits() {
            16 => $build(isa, $($slot),*, move |$($arg: u16),*| -> u16 { $body }),
            32 => $build(isa, $($slot),*, move |$($arg: u32),*| -> u32 { $body }),
            64 => $build(isa, $($slot),*, move |$($arg: u64),*| -> u64 { $body }),
            _ => return $ins.unsupported(),
        }
    }};
}

/// Picks the closure of an integer type where the sign matters.
macro_rules! by_int {
    ($ins:expr, $ty:expr, $build:ident, ($($slot:expr),*), |$($arg:ident),*| $body:expr) => {{
        let isa = $ins.isa();
        match $ty {
            Ty::U16 | Ty::B16 => $build(isa, $($slot),*, move |$($arg: u16),*| $body),
            Ty::S16 => $build(isa, $($slot),*, move |$($arg: i16),*| $body),
            Ty::U32 | Ty::B32 => $build(isa, $($slot),*, move |$($arg: u32),*| $body),
            Ty::S32 => $build(isa, $($slot),*, move |$($arg: i32),*| $body),
            Ty::U64 | Ty::B64 => $build(isa, $($slot),*, move |$($arg: u64),*| $body),
            Ty::S64 => $build(isa, $($slot),*, move |$($arg: i64),*| $body),
            _ => return $ins.unsupported(),
        }
    }};
}

/// Whether the last modifier names a floating-point type.
fn is_float(ins: &Ins) -> bool {
    ins.ast.opcode.rsplit('.').next().and_then(Ty::parse).is_some_and(Ty::is_float)
}

// --- add, sub, mul, mad --------------------------------------------------------------------

pub(super) fn add(ins: &mut Ins) -> Decoded {
    if is_float(ins) {
        return floats::add(ins, false);
    }
    add_or_sub(ins, false)
}

pub(super) fn sub(ins: &mut Ins) -> Decoded {
    if is_float(ins) {
        return floats::add(ins, true);
    }
    add_or_sub(ins, true)
}

fn add_or_sub(ins: &mut Ins, minus: bool) -> Decoded {
    if ins.flag("cc") {
        return carried(ins, minus, false, true);
    }
    let sat = ins.flag("sat");
    let ty = ins.ty()?;
    let (d, a, b) = binary(ins, ty)?;
    let isa = ins.isa();
    if sat {
        if ty != Ty::S32 {
            return ins.error("`.sat` is only for `.s32`");
        }
        let f = move |a: i32, b: i32| if minus { a.saturating_sub(b) } else { a.saturating_add(b) };
        return Ok(Op::Alu(map2(isa, d, a, b, f)));
    }
    if matches!(ty, Ty::U16x2 | Ty::S16x2) {
        let f = move |a: [u16; 2], b: [u16; 2]| -> [u16; 2] {
            std::array::from_fn(|i| {
                if minus { a[i].wrapping_sub(b[i]) } else { a[i].wrapping_add(b[i]) }
            })
        };
        return Ok(Op::Alu(map2(isa, d, a, b, f)));
    }
    Ok(Op::Alu(if minus {
        by_width!(ins, ty, map2, (d, a, b), |a, b| a.wrapping_sub(b))
    } else {
        by_width!(ins, ty, map2, (d, a, b), |a, b| a.wrapping_add(b))
    }))
}

/// `add.cc`, `addc`, `sub.cc`, `subc`: the carry flag is a hidden predicate. It is what the adder carries out, so after
/// a subtraction, `a + !b + 1`, it is set when nothing was borrowed. The manual speaks of the borrow itself, which is the same for
/// chains of one kind; but `ptxas` keeps the carry, and nvcc's 128-bit division reads it with `addc` after `subc.cc`.
fn carried(ins: &mut Ins, minus: bool, takes: bool, gives: bool) -> Decoded {
    let ty = ins.ty()?;
    let (d, a, b) = binary(ins, ty)?;
    let carry = ins.body.carry;
    let cc = (carry, gives.then_some(carry));
    let isa = ins.isa();
    Ok(Op::Alu(match ty.bits() {
        32 => carry3(isa, d, a, b, a, cc, move |a: u32, b: u32, _: u32, c: bool| {
            let c = u64::from(if takes { c } else { minus });
            let wide = u64::from(a) + u64::from(if minus { !b } else { b }) + c;
            (wide as u32, wide >> 32 & 1 != 0)
        }),
        64 => carry3(isa, d, a, b, a, cc, move |a: u64, b: u64, _: u64, c: bool| {
            let c = u128::from(if takes { c } else { minus });
            let wide = u128::from(a) + u128::from(if minus { !b } else { b }) + c;
            (wide as u64, wide >> 64 & 1 != 0)
        }),
        _ => return ins.unsupported(),
    }))
}

pub(super) fn addc(ins: &mut Ins) -> Decoded {
    let gives = ins.flag("cc");
    carried(ins, false, true, gives)
}

pub(super) fn subc(ins: &mut Ins) -> Decoded {
    let gives = ins.flag("cc");
    carried(ins, true, true, gives)
}

/// Which half of a product is wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Half {
    Low,
    High,
    Wide,
}

fn half(ins: &mut Ins) -> Result<Half, PtxError> {
    match ins.choice(&[("lo", Half::Low), ("hi", Half::High), ("wide", Half::Wide)]) {
        Some(half) => Ok(half),
        None => ins.error(format!("`{}` needs `.lo`, `.hi` or `.wide`", ins.ast.opcode)),
    }
}

pub(super) fn mul(ins: &mut Ins) -> Decoded {
    if is_float(ins) {
        return floats::mul(ins);
    }
    let half = half(ins)?;
    let ty = ins.ty()?;
    if half == Half::Wide {
        let Some(wide) = widened(ty) else { return ins.unsupported() };
        let (d, a, b) = (ins.dst(wide)?, ins.src(ty)?, ins.src(ty)?);
        let isa = ins.isa();
        return Ok(Op::Alu(match ty {
            Ty::U16 => map2(isa, d, a, b, |a: u16, b: u16| u32::from(a) * u32::from(b)),
            Ty::S16 => map2(isa, d, a, b, |a: i16, b: i16| i32::from(a) * i32::from(b)),
            Ty::U32 => map2(isa, d, a, b, |a: u32, b: u32| u64::from(a) * u64::from(b)),
            _ => map2(isa, d, a, b, |a: i32, b: i32| i64::from(a) * i64::from(b)),
        }));
    }
    let (d, a, b) = binary(ins, ty)?;
    let isa = ins.isa();
    Ok(Op::Alu(match (half, ty) {
        (Half::Low, _) => by_width!(ins, ty, map2, (d, a, b), |a, b| a.wrapping_mul(b)),
        (_, Ty::U16) => {
            map2(isa, d, a, b, |a: u16, b: u16| ((u32::from(a) * u32::from(b)) >> 16) as u16)
        }
        (_, Ty::S16) => {
            map2(isa, d, a, b, |a: i16, b: i16| ((i32::from(a) * i32::from(b)) >> 16) as i16)
        }
        (_, Ty::U32) => {
            map2(isa, d, a, b, |a: u32, b: u32| ((u64::from(a) * u64::from(b)) >> 32) as u32)
        }
        (_, Ty::S32) => {
            map2(isa, d, a, b, |a: i32, b: i32| ((i64::from(a) * i64::from(b)) >> 32) as i32)
        }
        (_, Ty::U64) => {
            map2(isa, d, a, b, |a: u64, b: u64| ((u128::from(a) * u128::from(b)) >> 64) as u64)
        }
        (_, Ty::S64) => {
            map2(isa, d, a, b, |a: i64, b: i64| ((i128::from(a) * i128::from(b)) >> 64) as i64)
        }
        _ => return ins.unsupported(),
    }))
}

pub(super) fn mad(ins: &mut Ins) -> Decoded {
    if is_float(ins) {
        return floats::fma(ins);
    }
    let half = half(ins)?;
    if ins.flag("cc") {
        return mad_carried(ins, half, false, true);
    }
    let sat = ins.flag("sat");
    let ty = ins.ty()?;
    let isa = ins.isa();
    if half == Half::Wide {
        let Some(wide) = widened(ty) else { return ins.unsupported() };
        let (d, a, b, c) = (ins.dst(wide)?, ins.src(ty)?, ins.src(ty)?, ins.src(wide)?);
        return Ok(Op::Alu(match ty {
            Ty::U16 => map3(isa, d, a, b, c, |a: u16, b: u16, c: u32| {
                (u32::from(a) * u32::from(b)).wrapping_add(c)
            }),
            Ty::S16 => map3(isa, d, a, b, c, |a: i16, b: i16, c: i32| {
                (i32::from(a) * i32::from(b)).wrapping_add(c)
            }),
            Ty::U32 => map3(isa, d, a, b, c, |a: u32, b: u32, c: u64| {
                (u64::from(a) * u64::from(b)).wrapping_add(c)
            }),
            _ => map3(isa, d, a, b, c, |a: i32, b: i32, c: i64| {
                (i64::from(a) * i64::from(b)).wrapping_add(c)
            }),
        }));
    }
    let (d, a, b) = binary(ins, ty)?;
    let c = ins.src(ty)?;
    if sat && (half != Half::High || ty != Ty::S32) {
        return ins.error("`.sat` is only for `mad.hi.sat.s32`");
    }
    Ok(Op::Alu(match (half, ty) {
        (Half::Low, _) => {
            by_width!(ins, ty, map3, (d, a, b, c), |a, b, c| a.wrapping_mul(b).wrapping_add(c))
        }
        (_, Ty::U16) => map3(isa, d, a, b, c, |a: u16, b: u16, c: u16| {
            (((u32::from(a) * u32::from(b)) >> 16) as u16).wrapping_add(c)
        }),
        (_, Ty::S16) => map3(isa, d, a, b, c, |a: i16, b: i16, c: i16| {
            (((i32::from(a) * i32::from(b)) >> 16) as i16).wrapping_add(c)
        }),
        (_, Ty::U32) => map3(isa, d, a, b, c, |a: u32, b: u32, c: u32| {
            (((u64::from(a) * u64::from(b)) >> 32) as u32).wrapping_add(c)
        }),
        (_, Ty::S32) => map3(isa, d, a, b, c, move |a: i32, b: i32, c: i32| {
            let high = ((i64::from(a) * i64::from(b)) >> 32) as i32;
            if sat { high.saturating_add(c) } else { high.wrapping_add(c) }
        }),
        (_, Ty::U64) => map3(isa, d, a, b, c, |a: u64, b: u64, c: u64| {
            (((u128::from(a) * u128::from(b)) >> 64) as u64).wrapping_add(c)
        }),
        (_, Ty::S64) => map3(isa, d, a, b, c, |a: i64, b: i64, c: i64| {
            (((i128::from(a) * i128::from(b)) >> 64) as i64).wrapping_add(c)
        }),
        _ => return ins.unsupported(),
    }))
}

pub(super) fn madc(ins: &mut Ins) -> Decoded {
    let half = half(ins)?;
    let gives = ins.flag("cc");
    mad_carried(ins, half, true, gives)
}

fn mad_carried(ins: &mut Ins, half: Half, takes: bool, gives: bool) -> Decoded {
    let ty = ins.ty()?;
    let (d, a, b) = binary(ins, ty)?;
    let c = ins.src(ty)?;
    let carry = ins.body.carry;
    let cc = (carry, gives.then_some(carry));
    let isa = ins.isa();
    let high = half == Half::High;
    let signed = ty.is_signed();
    Ok(Op::Alu(match ty.bits() {
        32 => carry3(isa, d, a, b, c, cc, move |a: u32, b: u32, c: u32, carry: bool| {
            let product = if signed {
                (i64::from(a as i32) * i64::from(b as i32)) as u64
            } else {
                u64::from(a) * u64::from(b)
            };
            let part = if high { product >> 32 } else { product & 0xffff_ffff };
            let sum = part + u64::from(c) + u64::from(carry && takes);
            (sum as u32, sum >> 32 != 0)
        }),
        64 => carry3(isa, d, a, b, c, cc, move |a: u64, b: u64, c: u64, carry: bool| {
            let product = if signed {
                (i128::from(a as i64) * i128::from(b as i64)) as u128
            } else {
                u128::from(a) * u128::from(b)
            };
            let part = if high { product >> 64 } else { product & u128::from(u64::MAX) };
            let sum = part + u128::from(c) + u128::from(carry && takes);
            (sum as u64, sum >> 64 != 0)
        }),
        _ => return ins.unsupported(),
    }))
}

/// Low 24 bits, sign- or zero-extended.
fn low24(v: u32, signed: bool) -> i64 {
    if signed { i64::from((v << 8) as i32 >> 8) } else { i64::from(v & 0xff_ffff) }
}

pub(super) fn mul24(ins: &mut Ins) -> Decoded {
    let high = half(ins)? == Half::High;
    let ty = ins.ty()?;
    let (d, a, b) = binary(ins, ty)?;
    let signed = ty == Ty::S32;
    Ok(Op::Alu(map2(ins.isa(), d, a, b, move |a: u32, b: u32| {
        ((low24(a, signed) * low24(b, signed)) >> if high { 16 } else { 0 }) as u32
    })))
}

pub(super) fn mad24(ins: &mut Ins) -> Decoded {
    let high = half(ins)? == Half::High;
    let sat = ins.flag("sat");
    let ty = ins.ty()?;
    let (d, a, b) = binary(ins, ty)?;
    let c = ins.src(ty)?;
    let signed = ty == Ty::S32;
    Ok(Op::Alu(map3(ins.isa(), d, a, b, c, move |a: u32, b: u32, c: u32| {
        let product = ((low24(a, signed) * low24(b, signed)) >> if high { 16 } else { 0 }) as u32;
        if sat { (product as i32).saturating_add(c as i32) as u32 } else { product.wrapping_add(c) }
    })))
}

pub(super) fn sad(ins: &mut Ins) -> Decoded {
    let ty = ins.ty()?;
    let (d, a, b) = binary(ins, ty)?;
    let c = ins.src(ty)?;
    Ok(Op::Alu(by_int!(ins, ty, map3, (d, a, b, c), |a, b, c| {
        c.wrapping_add(if a < b { b.wrapping_sub(a) } else { a.wrapping_sub(b) })
    })))
}

// --- div, rem, abs, neg, min, max ----------------------------------------------------------

pub(super) fn div(ins: &mut Ins) -> Decoded {
    if is_float(ins) {
        return floats::div(ins);
    }
    let ty = ins.ty()?;
    let (d, a, b) = binary(ins, ty)?;
    // Division by zero is unspecified; the hardware gives all ones.
    Ok(Op::Alu(by_int!(ins, ty, map2, (d, a, b), |a, b| if b == 0 {
        !0
    } else {
        a.wrapping_div(b)
    })))
}

pub(super) fn rem(ins: &mut Ins) -> Decoded {
    let ty = ins.ty()?;
    let (d, a, b) = binary(ins, ty)?;
    Ok(Op::Alu(by_int!(ins, ty, map2, (d, a, b), |a, b| if b == 0 {
        a
    } else {
        a.wrapping_rem(b)
    })))
}

pub(super) fn abs(ins: &mut Ins) -> Decoded {
    if is_float(ins) {
        return floats::abs(ins);
    }
    let ty = ins.ty()?;
    let (d, a) = unary(ins, ty)?;
    let isa = ins.isa();
    Ok(Op::Alu(match ty {
        Ty::S16 => map1(isa, d, a, |a: i16| a.wrapping_abs()),
        Ty::S32 => map1(isa, d, a, |a: i32| a.wrapping_abs()),
        Ty::S64 => map1(isa, d, a, |a: i64| a.wrapping_abs()),
        _ => return ins.unsupported(),
    }))
}

pub(super) fn neg(ins: &mut Ins) -> Decoded {
    if is_float(ins) {
        return floats::neg(ins);
    }
    let ty = ins.ty()?;
    let (d, a) = unary(ins, ty)?;
    Ok(Op::Alu(by_width!(ins, ty, map1, (d, a), |a| a.wrapping_neg())))
}

pub(super) fn min(ins: &mut Ins) -> Decoded {
    min_or_max(ins, false)
}

pub(super) fn max(ins: &mut Ins) -> Decoded {
    min_or_max(ins, true)
}

fn min_or_max(ins: &mut Ins, max: bool) -> Decoded {
    if is_float(ins) {
        return floats::min_or_max(ins, max);
    }
    let relu = ins.flag("relu");
    let ty = ins.ty()?;
    let (d, a, b) = binary(ins, ty)?;
    let isa = ins.isa();
    Ok(Op::Alu(match ty {
        Ty::U16x2 => map2(isa, d, a, b, move |a: [u16; 2], b: [u16; 2]| -> [u16; 2] {
            std::array::from_fn(|i| if max { a[i].max(b[i]) } else { a[i].min(b[i]) })
        }),
        Ty::S16x2 => map2(isa, d, a, b, move |a: [i16; 2], b: [i16; 2]| -> [i16; 2] {
            std::array::from_fn(|i| {
                let v = if max { a[i].max(b[i]) } else { a[i].min(b[i]) };
                if relu { v.max(0) } else { v }
            })
        }),
        Ty::S32 if relu => map2(
            isa,
            d,
            a,
            b,
            move |a: i32, b: i32| if max { a.max(b).max(0) } else { a.min(b).max(0) },
        ),
        _ if relu => return ins.unsupported(),
        _ if max => by_int!(ins, ty, map2, (d, a, b), |a, b| a.max(b)),
        _ => by_int!(ins, ty, map2, (d, a, b), |a, b| a.min(b)),
    }))
}

// --- bits ----------------------------------------------------------------------------------

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

/// `dp4a.atype.btype`
pub(super) fn dp4a(ins: &mut Ins) -> Decoded {
    let (ta, tb) = (ins.ty()?, ins.ty()?);
    let (d, a, b) = binary(ins, Ty::B32)?;
    let c = ins.src(Ty::B32)?;
    let (sa, sb) = (ta.is_signed(), tb.is_signed());
    Ok(Op::Alu(map3(ins.isa(), d, a, b, c, move |a: u32, b: u32, c: u32| {
        (0..4).fold(c, |sum, i| sum.wrapping_add((byte(a, i, sa) * byte(b, i, sb)) as u32))
    })))
}

fn byte(v: u32, i: u32, signed: bool) -> i32 {
    let b = (v >> (8 * i)) as u8;
    if signed { i32::from(b as i8) } else { i32::from(b) }
}

pub(super) fn dp2a(ins: &mut Ins) -> Decoded {
    let high = half(ins)? == Half::High;
    let (ta, tb) = (ins.ty()?, ins.ty()?);
    let (d, a, b) = binary(ins, Ty::B32)?;
    let c = ins.src(Ty::B32)?;
    let (sa, sb) = (ta.is_signed(), tb.is_signed());
    let base = if high { 2 } else { 0 };
    Ok(Op::Alu(map3(ins.isa(), d, a, b, c, move |a: u32, b: u32, c: u32| {
        (0..2).fold(c, |sum, i| {
            let h = (a >> (16 * i)) as u16;
            let h = if sa { i32::from(h as i16) } else { i32::from(h) };
            sum.wrapping_add(h.wrapping_mul(byte(b, base + i, sb)) as u32)
        })
    })))
}

// --- comparison ----------------------------------------------------------------------------

/// Comparison operators; the last ten are for floats (`u` forms are true on NaN).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cmp {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    Equ,
    Neu,
    Ltu,
    Leu,
    Gtu,
    Geu,
    Num,
    Nan,
}

pub(super) const COMPARISONS: &[(&str, Cmp)] = &[
    ("eq", Cmp::Eq),
    ("ne", Cmp::Ne),
    ("lt", Cmp::Lt),
    ("le", Cmp::Le),
    ("gt", Cmp::Gt),
    ("ge", Cmp::Ge),
    ("lo", Cmp::Lt),
    ("ls", Cmp::Le),
    ("hi", Cmp::Gt),
    ("hs", Cmp::Ge),
    ("equ", Cmp::Equ),
    ("neu", Cmp::Neu),
    ("ltu", Cmp::Ltu),
    ("leu", Cmp::Leu),
    ("gtu", Cmp::Gtu),
    ("geu", Cmp::Geu),
    ("num", Cmp::Num),
    ("nan", Cmp::Nan),
];

impl Cmp {
    /// The comparison of two values that may be unordered.
    #[inline(always)]
    pub(super) fn holds<T: PartialOrd>(self, a: T, b: T) -> bool {
        #[allow(clippy::eq_op)]
        let nan = a != a || b != b;
        match self {
            Cmp::Eq => a == b,
            Cmp::Ne => !nan && a != b,
            Cmp::Lt => a < b,
            Cmp::Le => a <= b,
            Cmp::Gt => a > b,
            Cmp::Ge => a >= b,
            Cmp::Equ => nan || a == b,
            Cmp::Neu => a != b,
            Cmp::Ltu => nan || a < b,
            Cmp::Leu => nan || a <= b,
            Cmp::Gtu => nan || a > b,
            Cmp::Geu => nan || a >= b,
            Cmp::Num => !nan,
            Cmp::Nan => nan,
        }
    }
}

/// A comparison loop with the operator resolved outside it.
fn compare<T: Lane + PartialOrd>(isa: Isa, cmp: Cmp, a: Slot, b: Slot, out: PredOut) -> AluFn {
    match cmp {
        Cmp::Eq => test2(isa, a, b, out, |a: T, b: T| a == b),
        Cmp::Ne => test2(isa, a, b, out, |a: T, b: T| Cmp::Ne.holds(a, b)),
        Cmp::Lt => test2(isa, a, b, out, |a: T, b: T| a < b),
        Cmp::Le => test2(isa, a, b, out, |a: T, b: T| a <= b),
        Cmp::Gt => test2(isa, a, b, out, |a: T, b: T| a > b),
        Cmp::Ge => test2(isa, a, b, out, |a: T, b: T| a >= b),
        other => test2(isa, a, b, out, move |a: T, b: T| other.holds(a, b)),
    }
}

/// The comparison of `a` and `b` in type `ty`.
fn compare_typed(
    ins: &mut Ins,
    cmp: Cmp,
    flush: bool,
    ty: Ty,
    a: Slot,
    b: Slot,
    out: PredOut,
) -> Result<AluFn, PtxError> {
    let isa = ins.isa();
    Ok(match ty {
        Ty::U16 | Ty::B16 => compare::<u16>(isa, cmp, a, b, out),
        Ty::S16 => compare::<i16>(isa, cmp, a, b, out),
        Ty::U32 | Ty::B32 => compare::<u32>(isa, cmp, a, b, out),
        Ty::S32 => compare::<i32>(isa, cmp, a, b, out),
        Ty::U64 | Ty::B64 => compare::<u64>(isa, cmp, a, b, out),
        Ty::S64 => compare::<i64>(isa, cmp, a, b, out),
        Ty::F32 if flush => {
            test2(isa, a, b, out, move |a: f32, b: f32| cmp.holds(ftz(true, a), ftz(true, b)))
        }
        Ty::F32 => compare::<f32>(isa, cmp, a, b, out),
        Ty::F64 => compare::<f64>(isa, cmp, a, b, out),
        Ty::F16 => test2(isa, a, b, out, move |a: u16, b: u16| {
            cmp.holds(floats::half_in(a, flush), floats::half_in(b, flush))
        }),
        Ty::BF16 => test2(isa, a, b, out, move |a: u16, b: u16| {
            cmp.holds(crate::num::brain_to_f32(a), crate::num::brain_to_f32(b))
        }),
        _ => return ins.unsupported(),
    })
}

pub(super) fn setp(ins: &mut Ins) -> Decoded {
    let Some(cmp) = ins.choice(COMPARISONS) else { return ins.error("`setp` lacks a comparison") };
    let combine_op = ins.bool_op();
    let flush = ins.flag("ftz");
    let ty = ins.ty()?;
    let (p, q) = match ins.take()? {
        Operand::Pair(p, q) => (ins.pred_dst_of(p)?, ins.pred_dst_of(q)?),
        single => (ins.pred_dst_of(single)?, None),
    };
    let (a, b) = (ins.src(ty)?, ins.src(ty)?);
    let combine = match combine_op {
        Some(op) => Some((op, ins.pred_src()?)),
        None => None,
    };
    if matches!(ty, Ty::F16x2 | Ty::BF16x2) {
        return setp_pairs(ins, cmp, flush, ty, (p, q), a, b, combine);
    }
    let alu = compare_typed(ins, cmp, flush, ty, a, b, PredOut { p, q, combine })?;
    Ok(Op::Alu(alu))
}

/// `setp.f16x2`: `p` is the comparison of the low halves, `q` of the high ones.
#[allow(clippy::too_many_arguments)]
fn setp_pairs(
    ins: &mut Ins,
    cmp: Cmp,
    flush: bool,
    ty: Ty,
    (p, q): (Option<Pred>, Option<Pred>),
    a: Slot,
    b: Slot,
    combine: Option<(BoolOp, (Pred, bool))>,
) -> Decoded {
    let isa = ins.isa();
    let value = move |w: u32, high: bool| floats::pair_value(w, high, ty == Ty::F16x2, flush);
    let low = test2(isa, a, b, PredOut { p, q: None, combine }, move |a: u32, b: u32| {
        cmp.holds(value(a, false), value(b, false))
    });
    let high = test2(isa, a, b, PredOut { p: q, q: None, combine }, move |a: u32, b: u32| {
        cmp.holds(value(a, true), value(b, true))
    });
    Ok(Op::Alu(Box::new(move |regs, mask| {
        low(regs, mask);
        high(regs, mask);
    })))
}

pub(super) fn set(ins: &mut Ins) -> Decoded {
    let Some(cmp) = ins.choice(COMPARISONS) else { return ins.error("`set` lacks a comparison") };
    let combine_op = ins.bool_op();
    let flush = ins.flag("ftz");
    let (dt, st) = (ins.ty()?, ins.ty()?);
    let d = ins.dst(dt)?;
    let (a, b) = (ins.src(st)?, ins.src(st)?);
    let combine = match combine_op {
        Some(op) => Some((op, ins.pred_src()?)),
        None => None,
    };
    let temporary = ins.body.scratch_pred();
    if matches!(st, Ty::F16x2 | Ty::BF16x2) {
        return set_pairs(ins, cmp, flush, (dt, st), (d, a, b), combine);
    }
    let out = PredOut { p: Some(temporary), q: None, combine };
    let test = compare_typed(ins, cmp, flush, st, a, b, out)?;
    let yes = match dt {
        Ty::F32 => 1f32.to_bits(),
        Ty::F16 => 0x3c00,
        Ty::BF16 => 0x3f80,
        Ty::U32 | Ty::S32 => u32::MAX,
        Ty::U16 | Ty::S16 => 0xffff,
        _ => return ins.unsupported(),
    };
    Ok(Op::Alu(Box::new(move |regs, mask| {
        test(regs, mask);
        let hit = regs.preds[temporary as usize];
        let values = std::array::from_fn(|i| if hit >> i & 1 != 0 { yes } else { 0 });
        regs.put::<u32>(d, mask, &values);
    })))
}

/// `set.f16x2.f16x2` and its kin: each half is set on its own.
fn set_pairs(
    ins: &mut Ins,
    cmp: Cmp,
    flush: bool,
    (dt, st): (Ty, Ty),
    (d, a, b): (Slot, Slot, Slot),
    combine: Option<(BoolOp, (Pred, bool))>,
) -> Decoded {
    let one = match dt {
        Ty::F16x2 => 0x3c00,
        Ty::BF16x2 => 0x3f80,
        Ty::U32 | Ty::S32 | Ty::B32 => 0xffff,
        _ => return ins.unsupported(),
    };
    let isa = ins.isa();
    let value = move |w: u32, high: bool| floats::pair_value(w, high, st == Ty::F16x2, flush);
    let halves = [false, true].map(|high| {
        let p = ins.body.scratch_pred();
        let out = PredOut { p: Some(p), q: None, combine };
        let test = move |a: u32, b: u32| cmp.holds(value(a, high), value(b, high));
        (p, test2(isa, a, b, out, test))
    });
    Ok(Op::Alu(Box::new(move |regs, mask| {
        halves.iter().for_each(|(_, test)| test(regs, mask));
        let [low, high] = [0, 1].map(|i: usize| regs.preds[halves[i].0 as usize]);
        let part = |hits: u32, i: usize| if hits >> i & 1 != 0 { one } else { 0 };
        regs.put::<u32>(d, mask, &std::array::from_fn(|i| part(low, i) | part(high, i) << 16));
    })))
}

pub(super) fn selp(ins: &mut Ins) -> Decoded {
    let ty = ins.ty()?;
    let (d, a, b) = binary(ins, ty)?;
    let p = ins.pred_src()?;
    ins.flow.rule = FlowRule::Select { a, b, p };
    let rows = ty.bits().div_ceil(32);
    Ok(Op::Alu(Box::new(move |regs, mask| {
        let chosen = regs.pred(p);
        for r in 0..rows {
            let (x, y): ([u32; 32], [u32; 32]) = (regs.get(a + r), regs.get(b + r));
            let out = std::array::from_fn(|i| if chosen >> i & 1 != 0 { x[i] } else { y[i] });
            regs.put::<u32>(d + r, mask, &out);
        }
    })))
}

/// `slct.dtype.ctype d, a, b, c`: `a` where `c >= 0`.
pub(super) fn slct(ins: &mut Ins) -> Decoded {
    let flush = ins.flag("ftz");
    let (ty, ct) = (ins.ty()?, ins.ty()?);
    let (d, a, b) = binary(ins, ty)?;
    let c = ins.src(ct)?;
    let isa = ins.isa();
    let float = ct == Ty::F32;
    let yes =
        move |c: u32| if float { ftz(flush, f32::from_bits(c)) >= 0.0 } else { c as i32 >= 0 };
    Ok(Op::Alu(match ty.bits() {
        16 => map3(isa, d, a, b, c, move |a: u16, b: u16, c: u32| if yes(c) { a } else { b }),
        32 => map3(isa, d, a, b, c, move |a: u32, b: u32, c: u32| if yes(c) { a } else { b }),
        _ => map3(isa, d, a, b, c, move |a: u64, b: u64, c: u32| if yes(c) { a } else { b }),
    }))
}

// --- logic and shifts ----------------------------------------------------------------------

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
