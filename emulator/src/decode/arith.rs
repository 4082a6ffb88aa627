//! Integer arithmetic, comparison, selection, logic and shifts; where an opcode also takes
//! floating-point types, those go to [`super::floats`].

use super::floats;
use super::ins::Ins;
use crate::error::PtxError;
use crate::lanes::{Slot, carry3, map1, map2, map3};
use crate::program::Op;
use crate::types::Ty;

pub(super) type Decoded = Result<Op, PtxError>;

/// `d, a` of one type.
pub(super) fn unary(ins: &mut Ins, ty: Ty) -> Result<(Slot, Slot), PtxError> {
    Ok((ins.dst(ty)?, ins.src(ty)?))
}

/// `d, a, b` of one type.
pub(super) fn binary(ins: &mut Ins, ty: Ty) -> Result<(Slot, Slot, Slot), PtxError> {
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

pub(super) use by_width;

/// Whether the last modifier names a floating-point type.
pub(super) fn is_float(ins: &Ins) -> bool {
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
