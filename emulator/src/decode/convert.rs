//! `cvt` and `cvt.pack` (PTX ISA, "Data Movement and Conversion").

use super::ins::Ins;
use crate::error::PtxError;
use crate::lanes::{AluFn, Slot, map1, map2, map3};
use crate::num::*;
use crate::program::Op;
use crate::types::Ty;

type Decoded = Result<Op, PtxError>;

/// Everything a conversion may ask for.
#[derive(Debug, Clone, Copy)]
struct Conversion {
    from: Ty,
    to: Ty,
    round: Round,
    /// `.rni` and friends: a float stays a float but becomes integral.
    integral: bool,
    flush: bool,
    sat: bool,
    relu: bool,
    finite: bool,
}

pub(super) fn cvt(ins: &mut Ins) -> Decoded {
    if ins.flag("pack") {
        return pack(ins);
    }
    let integral = ins.choice(&[
        ("rni", Round::Even),
        ("rzi", Round::Zero),
        ("rmi", Round::Down),
        ("rpi", Round::Up),
    ]);
    let round = ins.round();
    let finite = ins.flag("satfinite");
    let relu = ins.flag("relu");
    let flush = ins.flag("ftz");
    let sat = ins.flag("sat");
    let (to, from) = (ins.ty()?, ins.ty()?);
    let c = Conversion {
        from,
        to,
        round: integral.or(round).unwrap_or(Round::Even),
        integral: integral.is_some(),
        flush,
        sat,
        relu,
        finite,
    };
    if matches!(to, Ty::F16x2 | Ty::BF16x2 | Ty::E4M3x2 | Ty::E5M2x2) {
        return pairs(ins, c);
    }
    let operand = ins.take()?;
    let (d, dst_bits) = ins.dst_of(operand, to.bits())?;
    let operand = ins.take()?;
    let (a, src_bits) = ins.src_any(operand, from)?;
    if dst_bits < to.bits() || src_bits < from.bits() {
        return ins.error("a register is narrower than its type");
    }
    if !c.sat && !from.is_float() && !to.is_float() {
        // The upper half of a wider source plays no part.
        ins.moves(&[a], if src_bits == 64 { Ty::B64 } else { Ty::B32 });
    }
    if let Some(alu) = fast(ins, c, d, a, dst_bits) {
        return Ok(Op::Alu(alu));
    }
    let isa = ins.isa();
    // The result fills the register: sign-extended for signed types, zero-extended for others.
    Ok(Op::Alu(match (src_bits == 64, dst_bits == 64) {
        (false, false) => {
            map1(isa, d, a, move |a: u32| trim(convert(c, u64::from(a)), dst_bits) as u32)
        }
        (false, true) => map1(isa, d, a, move |a: u32| convert(c, u64::from(a))),
        (true, false) => map1(isa, d, a, move |a: u64| trim(convert(c, a), dst_bits) as u32),
        (true, true) => map1(isa, d, a, move |a: u64| convert(c, a)),
    }))
}

fn trim(v: u64, bits: u32) -> u64 {
    if bits == 16 { v & 0xffff } else { v }
}

/// The conversions that fill inner loops, as vector code.
fn fast(ins: &Ins, c: Conversion, d: Slot, a: Slot, dst_bits: u32) -> Option<AluFn> {
    if c.flush || c.sat || c.relu || c.finite || c.integral || dst_bits != c.to.bits().max(16) {
        return None;
    }
    let isa = ins.isa();
    Some(match (c.to, c.from) {
        (Ty::S64, Ty::S32) => map1(isa, d, a, |a: i32| i64::from(a)),
        (Ty::U64 | Ty::S64, Ty::U32) => map1(isa, d, a, |a: u32| u64::from(a)),
        (Ty::U32 | Ty::S32, Ty::U64 | Ty::S64) => map1(isa, d, a, |a: u64| a as u32),
        (Ty::U16 | Ty::S16, Ty::U32 | Ty::S32) => map1(isa, d, a, |a: u32| a as u16),
        (Ty::U32 | Ty::S32, Ty::U16) => map1(isa, d, a, |a: u16| u32::from(a)),
        (Ty::F32, Ty::F16) => map1(isa, d, a, |a: u16| canon(half_to_f32(a))),
        (Ty::F32, Ty::BF16) => map1(isa, d, a, |a: u16| canon(brain_to_f32(a))),
        (Ty::F16, Ty::F32) if c.round == Round::Even => map1(isa, d, a, f32_to_half),
        (Ty::BF16, Ty::F32) if c.round == Round::Even => map1(isa, d, a, f32_to_brain),
        (Ty::F32, Ty::S32) if c.round == Round::Even => map1(isa, d, a, |a: i32| a as f32),
        (Ty::F32, Ty::U32) if c.round == Round::Even => map1(isa, d, a, |a: u32| a as f32),
        (Ty::F64, Ty::F32) => map1(isa, d, a, |a: f32| f64::from(a)),
        (Ty::F32, Ty::F64) if c.round == Round::Even => map1(isa, d, a, |a: f64| canon(a as f32)),
        _ => return None,
    })
}

/// Value of an integer type in the low bits of a register.
fn integer(bits: u64, ty: Ty) -> i128 {
    let width = ty.bits();
    let shift = 64 - width;
    if ty.is_signed() {
        i128::from((bits << shift) as i64 >> shift)
    } else {
        i128::from(bits << shift >> shift)
    }
}

fn format(ty: Ty) -> Option<Format> {
    Some(match ty {
        Ty::F16 => Format::HALF,
        Ty::BF16 => Format::BRAIN,
        Ty::TF32 | Ty::F32 => Format::SINGLE,
        Ty::E4M3 => Format::E4M3,
        Ty::E5M2 => Format::E5M2,
        _ => return None,
    })
}

/// Value of a float type; every one is exact in double.
fn float(bits: u64, ty: Ty) -> f64 {
    match format(ty) {
        Some(f) => f.decode(bits as u32),
        None => f64::from_bits(bits),
    }
}

fn range(ty: Ty) -> (i128, i128) {
    let bits = ty.bits();
    if ty.is_signed() { (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) } else { (0, (1 << bits) - 1) }
}

/// One conversion; the result is extended to 64 bits.
fn convert(c: Conversion, bits: u64) -> u64 {
    match (c.from.is_float(), c.to.is_float()) {
        (false, false) => int_to_int(c, integer(bits, c.from)),
        (false, true) => int_to_float(c, integer(bits, c.from)),
        (true, false) => float_to_int(c, flushed(c, float(bits, c.from))),
        (true, true) => float_to_float(c, flushed(c, float(bits, c.from))),
    }
}

/// `.ftz` flushes subnormal single-precision inputs.
fn flushed(c: Conversion, x: f64) -> f64 {
    let tiny = c.flush && c.from == Ty::F32 && x.abs() < f64::from(f32::MIN_POSITIVE);
    if tiny { 0f64.copysign(x) } else { x }
}

fn extend(v: i128, ty: Ty) -> u64 {
    integer(v as u64, ty) as u64
}

fn int_to_int(c: Conversion, v: i128) -> u64 {
    let (low, high) = range(c.to);
    extend(if c.sat { v.clamp(low, high) } else { v }, c.to)
}

fn int_to_float(c: Conversion, v: i128) -> u64 {
    match c.to {
        Ty::F64 => sat64(c.sat, int_to_f64(v, c.round)).to_bits(),
        Ty::F32 => u64::from(sat(c.sat, int_to_f32(v, c.round)).to_bits()),
        // 64-bit integers beyond 2^53 overflow or saturate the 16-bit formats long before the
        // double becomes inexact at their precision; rounding to odd keeps bfloat16 right.
        other => {
            let near = v as f64;
            let odd = to_odd(near, (v - near as i128) as f64);
            encode(c, other, odd)
        }
    }
}

fn float_to_int(c: Conversion, x: f64) -> u64 {
    let wide = c.from == Ty::F64 || c.to.bits() == 64;
    if x.is_nan() {
        return if wide { extend(1 << (c.to.bits() - 1), c.to) } else { 0 };
    }
    let (low, high) = range(c.to);
    // `as` saturates, so infinities and huge values land on the bounds.
    let v = (round_integer(x, c.round) as i128).clamp(low, high);
    extend(v, c.to)
}

fn encode(c: Conversion, to: Ty, x: f64) -> u64 {
    let x = sat64(c.sat, x);
    let x = if c.relu && x <= 0.0 { 0.0 } else { x };
    match format(to) {
        Some(_) if to == Ty::TF32 => u64::from(tf32(x, c)),
        Some(f) => u64::from(f.encode(x, c.round, c.finite)),
        None if x.is_nan() => 0x7fff_ffff_ffff_ffff,
        None => x.to_bits(),
    }
}

/// tf32 keeps the layout of single with 13 low fraction bits zero.
fn tf32(x: f64, c: Conversion) -> u32 {
    if x.is_nan() { 0x7fff_ffff } else { Format::TF32.encode(x, c.round, c.finite) << 13 }
}

fn float_to_float(c: Conversion, x: f64) -> u64 {
    let x = if c.integral { round_integer(x, c.round) } else { x };
    let c = if c.integral { Conversion { round: Round::Even, ..c } } else { c };
    let bits = encode(c, c.to, x);
    // `.ftz` flushes subnormal single-precision results.
    if c.flush && c.to == Ty::F32 && bits & 0x7f80_0000 == 0 { bits & 0x8000_0000 } else { bits }
}

/// Conversions into two packed halves: `d = {a (high), b (low)}` from singles, or pairwise.
fn pairs(ins: &mut Ins, c: Conversion) -> Decoded {
    let isa = ins.isa();
    let element = |ty: Ty| match ty {
        Ty::F16x2 => Ty::F16,
        Ty::BF16x2 => Ty::BF16,
        Ty::E4M3x2 => Ty::E4M3,
        Ty::E5M2x2 => Ty::E5M2,
        other => other,
    };
    let each = Conversion { from: element(c.from), to: element(c.to), ..c };
    let (from_bits, to_bits) = (each.from.bits(), each.to.bits());
    let d = ins.dst(c.to)?;
    if c.from == Ty::F32 {
        let (a, b) = (ins.src(Ty::F32)?, ins.src(Ty::F32)?);
        let plain = c.round == Round::Even && !c.relu && !c.finite && !c.sat && !c.flush;
        return Ok(Op::Alu(match c.to {
            Ty::F16x2 if plain => {
                map2(isa, d, a, b, |a: f32, b: f32| [f32_to_half(b), f32_to_half(a)])
            }
            Ty::BF16x2 if plain => {
                map2(isa, d, a, b, |a: f32, b: f32| [f32_to_brain(b), f32_to_brain(a)])
            }
            _ => map2(isa, d, a, b, move |a: u32, b: u32| {
                (convert(each, u64::from(a)) << to_bits | convert(each, u64::from(b))) as u32
            }),
        }));
    }
    let a = ins.src(c.from)?;
    Ok(Op::Alu(map1(isa, d, a, move |a: u32| {
        let low = convert(each, u64::from(a & ((1 << from_bits) - 1)));
        let high = convert(each, u64::from(a >> from_bits));
        (high << to_bits | low) as u32
    })))
}

/// `cvt.pack.sat.convertType.abType[.cType] d, a, b[, c]`
fn pack(ins: &mut Ins) -> Decoded {
    if !ins.flag("sat") {
        return ins.error("`cvt.pack` needs `.sat`");
    }
    let (to, from) = (ins.ty()?, ins.ty()?);
    let with_c = to.bits() < 16;
    if with_c && ins.ty()? != Ty::B32 {
        return ins.unsupported();
    }
    let (d, a, b) = (ins.dst(Ty::B32)?, ins.src(from)?, ins.src(from)?);
    let c = if with_c { ins.src(Ty::B32)? } else { a };
    let bits = to.bits();
    let (low, high) = range(to);
    let narrow =
        move |v: u32| (integer(u64::from(v), from).clamp(low, high) as u32) & ((1u32 << bits) - 1);
    Ok(Op::Alu(map3(ins.isa(), d, a, b, c, move |a: u32, b: u32, c: u32| {
        let both = narrow(a) << bits | narrow(b);
        if with_c { c << (2 * bits) | both } else { both }
    })))
}
