//! Floating-point arithmetic (PTX ISA, "Floating Point Instructions" and "Half Precision").
//!
//! Approximate instructions are computed in double and rounded once, which is within every error
//! bound that the manual states.

use super::ins::Ins;
use crate::error::PtxError;
use crate::lanes::{AluFn, PredOut, Slot, map1, map2, map3, test2};
use crate::num::*;
use crate::program::Op;
use crate::types::Ty;

type Decoded = Result<Op, PtxError>;

/// binary16 → single, with `.ftz`.
#[inline(always)]
pub(super) fn half_in(bits: u16, flush: bool) -> f32 {
    let bits = if flush && bits & 0x7c00 == 0 { bits & 0x8000 } else { bits };
    half_to_f32(bits)
}

/// One half of a packed pair as a single.
#[inline(always)]
pub(super) fn pair_value(word: u32, high: bool, half: bool, flush: bool) -> f32 {
    let bits = if high { (word >> 16) as u16 } else { word as u16 };
    if half { half_in(bits, flush) } else { brain_to_f32(bits) }
}

/// Modifiers of half-precision arithmetic.
#[derive(Clone, Copy, Default)]
struct HalfMods {
    flush: bool,
    sat: bool,
    relu: bool,
}

/// Double result → 16 bits with the modifiers applied.
#[inline(always)]
fn half_out(x: f64, half: bool, mods: HalfMods) -> u16 {
    let x = sat64(mods.sat, x);
    let x = if mods.relu && x <= 0.0 { 0.0 } else { x };
    if x.is_nan() {
        return 0x7fff;
    }
    // Rounding to odd first makes the second rounding exact.
    let single = x as f32;
    let odd = if f64::from(single) == x || single.is_infinite() || single.to_bits() & 1 == 1 {
        single
    } else if (f64::from(single) < x) == (x > 0.0) {
        f32::from_bits(single.to_bits() + 1)
    } else {
        f32::from_bits(single.to_bits().wrapping_sub(1))
    };
    let bits = if half { f32_to_half(odd) } else { f32_to_brain(odd) };
    if half && mods.flush && bits & 0x7c00 == 0 { bits & 0x8000 } else { bits }
}

/// A half-precision operation of one, two or three operands, given its value in double.
fn half_op(
    ins: &Ins,
    ty: Ty,
    d: Slot,
    s: [Slot; 3],
    mods: HalfMods,
    f: impl Fn(f32, f32, f32) -> f64 + Copy + Send + Sync + 'static,
) -> Result<AluFn, PtxError> {
    let isa = ins.isa();
    let half = matches!(ty, Ty::F16 | Ty::F16x2);
    let load = move |bits: u16| if half { half_in(bits, mods.flush) } else { brain_to_f32(bits) };
    Ok(match ty {
        Ty::F16 | Ty::BF16 => map3(isa, d, s[0], s[1], s[2], move |a: u16, b: u16, c: u16| {
            half_out(f(load(a), load(b), load(c)), half, mods)
        }),
        Ty::F16x2 | Ty::BF16x2 => map3(
            isa,
            d,
            s[0],
            s[1],
            s[2],
            move |a: [u16; 2], b: [u16; 2], c: [u16; 2]| -> [u16; 2] {
                std::array::from_fn(|i| half_out(f(load(a[i]), load(b[i]), load(c[i])), half, mods))
            },
        ),
        _ => return ins.unsupported(),
    })
}

fn half_mods(ins: &mut Ins) -> HalfMods {
    HalfMods { flush: ins.flag("ftz"), sat: ins.flag("sat"), relu: ins.flag("relu") }
}

/// `a × b + c` in double, rounded to odd where inexact.
#[inline(always)]
fn odd_fma(a: f32, b: f32, c: f32) -> f64 {
    let (p, c) = (f64::from(a) * f64::from(b), f64::from(c));
    let s = p + c;
    to_odd(s, sum_error(p, c, s))
}

// --- add, sub, mul, fma --------------------------------------------------------------------

pub(super) fn add(ins: &mut Ins, minus: bool) -> Decoded {
    let round = ins.round().unwrap_or(Round::Even);
    let mods = half_mods(ins);
    let ty = ins.ty()?;
    let (d, a, b) = (ins.dst(ty)?, ins.src(ty)?, ins.src(ty)?);
    let isa = ins.isa();
    let sign = if minus { -1.0 } else { 1.0 };
    Ok(Op::Alu(match ty {
        Ty::F32 if round == Round::Even && !mods.flush && !mods.sat && !minus => {
            map2(isa, d, a, b, |a: f32, b: f32| canon(a + b))
        }
        Ty::F32 if round == Round::Even && !mods.flush && !mods.sat => {
            map2(isa, d, a, b, |a: f32, b: f32| canon(a - b))
        }
        Ty::F32 => map2(isa, d, a, b, move |a: f32, b: f32| {
            let b = if minus { -b } else { b };
            float_out(add32(ftz(mods.flush, a), ftz(mods.flush, b), round), mods.flush, mods.sat)
        }),
        Ty::F64 => {
            map2(isa, d, a, b, move |a: f64, b: f64| add64(a, if minus { -b } else { b }, round))
        }
        _ => half_op(ins, ty, d, [a, b, b], mods, move |a, b, _| odd_fma(b, sign, a))?,
    }))
}

/// Result of a single-precision operation: flush, saturate, canonical NaN.
#[inline(always)]
fn float_out(x: f32, flush: bool, saturate: bool) -> f32 {
    canon(sat(saturate, ftz(flush, x)))
}

pub(super) fn mul(ins: &mut Ins) -> Decoded {
    let round = ins.round().unwrap_or(Round::Even);
    let mods = half_mods(ins);
    let ty = ins.ty()?;
    let (d, a, b) = (ins.dst(ty)?, ins.src(ty)?, ins.src(ty)?);
    let isa = ins.isa();
    Ok(Op::Alu(match ty {
        Ty::F32 if round == Round::Even && !mods.flush && !mods.sat => {
            map2(isa, d, a, b, |a: f32, b: f32| canon(a * b))
        }
        Ty::F32 => map2(isa, d, a, b, move |a: f32, b: f32| {
            float_out(mul32(ftz(mods.flush, a), ftz(mods.flush, b), round), mods.flush, mods.sat)
        }),
        Ty::F64 => map2(isa, d, a, b, move |a: f64, b: f64| mul64(a, b, round)),
        _ => half_op(ins, ty, d, [a, b, b], mods, |a, b, _| f64::from(a) * f64::from(b))?,
    }))
}

/// `fma` and floating `mad`, which are the same from sm_20 on.
pub(super) fn fma(ins: &mut Ins) -> Decoded {
    let round = ins.round().unwrap_or(Round::Even);
    if ins.flag("oob") {
        return ins.unsupported();
    }
    let mods = half_mods(ins);
    let ty = ins.ty()?;
    let (d, a, b, c) = (ins.dst(ty)?, ins.src(ty)?, ins.src(ty)?, ins.src(ty)?);
    let isa = ins.isa();
    Ok(Op::Alu(match ty {
        Ty::F32 if round == Round::Even && !mods.flush && !mods.sat => {
            map3(isa, d, a, b, c, |a: f32, b: f32, c: f32| canon(a.mul_add(b, c)))
        }
        Ty::F32 => map3(isa, d, a, b, c, move |a: f32, b: f32, c: f32| {
            let f = mods.flush;
            float_out(fma32(ftz(f, a), ftz(f, b), ftz(f, c), round), f, mods.sat)
        }),
        Ty::F64 => map3(isa, d, a, b, c, move |a: f64, b: f64, c: f64| fma64(a, b, c, round)),
        _ => half_op(ins, ty, d, [a, b, c], mods, odd_fma)?,
    }))
}

// --- div, rcp, sqrt, rsqrt -----------------------------------------------------------------

pub(super) fn div(ins: &mut Ins) -> Decoded {
    let approx = ins.flag("approx");
    let full = ins.flag("full");
    let round = ins.round().unwrap_or(Round::Even);
    let flush = ins.flag("ftz");
    let ty = ins.ty()?;
    let (d, a, b) = (ins.dst(ty)?, ins.src(ty)?, ins.src(ty)?);
    let isa = ins.isa();
    Ok(Op::Alu(match ty {
        Ty::F32 => map2(isa, d, a, b, move |a: f32, b: f32| {
            let (a, b) = (ftz(flush, a), ftz(flush, b));
            // The approximation multiplies by a reciprocal that underflows beyond 2^126.
            if approx && !full && b.abs() > f32::from_bits(253 << 23) && b.is_finite() {
                let zero = 0f32.copysign(a) * 1f32.copysign(b);
                return if a.is_infinite() || a.is_nan() { canon(f32::NAN) } else { zero };
            }
            float_out(div32(a, b, round), flush, false)
        }),
        Ty::F64 => map2(isa, d, a, b, move |a: f64, b: f64| div64(a, b, round)),
        _ => return ins.unsupported(),
    }))
}

pub(super) fn rcp(ins: &mut Ins) -> Decoded {
    let approx = ins.flag("approx");
    let round = ins.round().unwrap_or(Round::Even);
    let flush = ins.flag("ftz");
    let ty = ins.ty()?;
    let (d, a) = (ins.dst(ty)?, ins.src(ty)?);
    let isa = ins.isa();
    Ok(Op::Alu(match ty {
        Ty::F32 => {
            map1(isa, d, a, move |a: f32| float_out(div32(1.0, ftz(flush, a), round), flush, false))
        }
        Ty::F64 if approx => map1(isa, d, a, |a: f64| gross(a, |a| 1.0 / a)),
        Ty::F64 => map1(isa, d, a, move |a: f64| div64(1.0, a, round)),
        _ => return ins.unsupported(),
    }))
}

/// `rcp.approx.ftz.f64` and `rsqrt.approx.ftz.f64`: high words only, subnormals are zero.
#[inline(always)]
fn gross(a: f64, f: impl Fn(f64) -> f64) -> f64 {
    let high = |x: f64| {
        let bits = x.to_bits() & 0xffff_ffff_0000_0000;
        f64::from_bits(if bits & 0x7ff0_0000_0000_0000 == 0 { bits & 1 << 63 } else { bits })
    };
    let r = f(high(a));
    if r.is_nan() { f64::from_bits(0x7fff_ffff_0000_0000) } else { high(r) }
}

pub(super) fn sqrt(ins: &mut Ins) -> Decoded {
    ins.flag("approx");
    let round = ins.round().unwrap_or(Round::Even);
    let flush = ins.flag("ftz");
    let ty = ins.ty()?;
    let (d, a) = (ins.dst(ty)?, ins.src(ty)?);
    let isa = ins.isa();
    Ok(Op::Alu(match ty {
        Ty::F32 => {
            map1(isa, d, a, move |a: f32| float_out(sqrt32(ftz(flush, a), round), flush, false))
        }
        Ty::F64 => map1(isa, d, a, move |a: f64| sqrt64(a, round)),
        _ => return ins.unsupported(),
    }))
}

/// A single-precision function computed in double.
fn through_f64(ins: &mut Ins, f: impl Fn(f64) -> f64 + Copy + Send + Sync + 'static) -> Decoded {
    ins.flag("approx");
    let flush = ins.flag("ftz");
    let ty = ins.ty()?;
    let (d, a) = (ins.dst(ty)?, ins.src(ty)?);
    let mods = HalfMods { flush, ..HalfMods::default() };
    Ok(Op::Alu(match ty {
        Ty::F32 => map1(ins.isa(), d, a, move |a: f32| {
            float_out(f(f64::from(ftz(flush, a))) as f32, flush, false)
        }),
        _ => half_op(ins, ty, d, [a, a, a], mods, move |a, _, _| f(f64::from(a)))?,
    }))
}

pub(super) fn rsqrt(ins: &mut Ins) -> Decoded {
    if ins.has("f64") {
        ins.flag("approx");
        let flush = ins.flag("ftz");
        let ty = ins.ty()?;
        let (d, a) = (ins.dst(ty)?, ins.src(ty)?);
        let isa = ins.isa();
        return Ok(Op::Alu(if flush {
            map1(isa, d, a, |a: f64| gross(a, |a| 1.0 / a.sqrt()))
        } else {
            map1(isa, d, a, |a: f64| 1.0 / a.sqrt())
        }));
    }
    through_f64(ins, |a| 1.0 / a.sqrt())
}

pub(super) fn sin(ins: &mut Ins) -> Decoded {
    through_f64(ins, f64::sin)
}

pub(super) fn cos(ins: &mut Ins) -> Decoded {
    through_f64(ins, f64::cos)
}

pub(super) fn lg2(ins: &mut Ins) -> Decoded {
    through_f64(ins, f64::log2)
}

pub(super) fn tanh(ins: &mut Ins) -> Decoded {
    through_f64(ins, f64::tanh)
}

/// `ex2`: single precision is hot in every softmax, so it has a polynomial of its own.
pub(super) fn ex2(ins: &mut Ins) -> Decoded {
    if !ins.has("f32") {
        return through_f64(ins, f64::exp2);
    }
    ins.flag("approx");
    let flush = ins.flag("ftz");
    let ty = ins.ty()?;
    let (d, a) = (ins.dst(ty)?, ins.src(ty)?);
    Ok(Op::Alu(map1(ins.isa(), d, a, move |a: f32| {
        float_out(exp2_f32(ftz(flush, a)), flush, false)
    })))
}

/// 2^x to under one unit in the last place: a degree-11 Taylor polynomial in double, scaled exactly.
#[inline(always)]
fn exp2_f32(x: f32) -> f32 {
    if x.is_nan() {
        return x;
    }
    let x = f64::from(x.clamp(-200.0, 200.0));
    let whole = x.round_ties_even();
    let t = (x - whole) * std::f64::consts::LN_2;
    let mut sum = 1.0;
    for n in (1..=11).rev() {
        sum = 1.0 + t / f64::from(n) * sum;
    }
    let scale = f64::from_bits(((whole as i64 + 1023) as u64) << 52);
    (sum * scale) as f32
}

// --- sign, minimum, maximum, tests ---------------------------------------------------------

pub(super) fn abs(ins: &mut Ins) -> Decoded {
    sign_op(ins, |bits, sign| bits & !sign)
}

pub(super) fn neg(ins: &mut Ins) -> Decoded {
    sign_op(ins, |bits, sign| bits ^ sign)
}

/// `abs` and `neg` touch the sign bit only (and flush under `.ftz`).
fn sign_op(ins: &mut Ins, f: impl Fn(u64, u64) -> u64 + Copy + Send + Sync + 'static) -> Decoded {
    let flush = ins.flag("ftz");
    let ty = ins.ty()?;
    let (d, a) = (ins.dst(ty)?, ins.src(ty)?);
    let isa = ins.isa();
    let half = move |bits: u16| {
        let bits = if flush && bits & 0x7c00 == 0 { bits & 0x8000 } else { bits };
        f(u64::from(bits), 0x8000) as u16
    };
    Ok(Op::Alu(match ty {
        Ty::F32 => map1(isa, d, a, move |a: f32| {
            f32::from_bits(f(u64::from(ftz(flush, a).to_bits()), 0x8000_0000) as u32)
        }),
        Ty::F64 => map1(isa, d, a, move |a: u64| f(a, 1 << 63)),
        Ty::F16 | Ty::BF16 => map1(isa, d, a, half),
        Ty::F16x2 | Ty::BF16x2 => map1(isa, d, a, move |a: [u16; 2]| a.map(half)),
        _ => return ins.unsupported(),
    }))
}

pub(super) fn min_or_max(ins: &mut Ins, max: bool) -> Decoded {
    let flush = ins.flag("ftz");
    let nan = ins.flag("NaN");
    let xorsign = ins.flag("xorsign") & ins.flag("abs");
    let ty = ins.ty()?;
    let (d, a, b) = (ins.dst(ty)?, ins.src(ty)?, ins.src(ty)?);
    let isa = ins.isa();
    let pick = move |a: f32, b: f32| {
        let (a, b) = (ftz(flush, a), ftz(flush, b));
        if xorsign {
            let sign = (a.to_bits() ^ b.to_bits()) & 0x8000_0000;
            let m = minmax(a.abs(), b.abs(), max, nan);
            if m.is_nan() { m } else { f32::from_bits(m.to_bits() & 0x7fff_ffff | sign) }
        } else {
            minmax(a, b, max, nan)
        }
    };
    Ok(Op::Alu(match ty {
        Ty::F32 => map2(isa, d, a, b, pick),
        Ty::F64 => map2(isa, d, a, b, move |a: f64, b: f64| minmax64(a, b, max)),
        _ => {
            let mods = HalfMods {
                flush: flush && matches!(ty, Ty::F16 | Ty::F16x2),
                ..HalfMods::default()
            };
            half_op(ins, ty, d, [a, b, b], mods, move |a, b, _| f64::from(pick(a, b)))?
        }
    }))
}

pub(super) fn copysign(ins: &mut Ins) -> Decoded {
    let ty = ins.ty()?;
    let (d, a, b) = (ins.dst(ty)?, ins.src(ty)?, ins.src(ty)?);
    let isa = ins.isa();
    // `copysign d, a, b` gives the magnitude of b the sign of a.
    Ok(Op::Alu(match ty {
        Ty::F32 => map2(isa, d, a, b, |a: u32, b: u32| b & 0x7fff_ffff | a & 0x8000_0000),
        Ty::F64 => map2(isa, d, a, b, |a: u64, b: u64| b & !(1 << 63) | a & 1 << 63),
        _ => return ins.unsupported(),
    }))
}

/// The classes of `testp`.
#[derive(Clone, Copy)]
enum Class {
    Finite,
    Infinite,
    Number,
    NotANumber,
    Normal,
    Subnormal,
}

impl Class {
    fn holds(self, c: std::num::FpCategory) -> bool {
        use std::num::FpCategory::*;
        match self {
            Class::Finite => !matches!(c, Nan | Infinite),
            Class::Infinite => c == Infinite,
            Class::Number => c != Nan,
            Class::NotANumber => c == Nan,
            // Zero counts as normal in the manual.
            Class::Normal => matches!(c, Normal | Zero),
            Class::Subnormal => c == Subnormal,
        }
    }
}

pub(super) fn testp(ins: &mut Ins) -> Decoded {
    let class = ins.choice(&[
        ("finite", Class::Finite),
        ("infinite", Class::Infinite),
        ("number", Class::Number),
        ("notanumber", Class::NotANumber),
        ("normal", Class::Normal),
        ("subnormal", Class::Subnormal),
    ]);
    let Some(class) = class else { return ins.unsupported() };
    let ty = ins.ty()?;
    let (p, a) = (ins.pred_dst()?, ins.src(ty)?);
    let out = PredOut { p: Some(p), q: None, combine: None };
    let isa = ins.isa();
    Ok(Op::Alu(match ty {
        Ty::F32 => test2(isa, a, a, out, move |a: f32, _: f32| class.holds(a.classify())),
        Ty::F64 => test2(isa, a, a, out, move |a: f64, _: f64| class.holds(a.classify())),
        _ => return ins.unsupported(),
    }))
}

#[cfg(test)]
mod tests {
    #[test]
    fn exp2_is_within_one_unit() {
        for i in -15_000..15_000 {
            let x = i as f32 * 0.01;
            let want = f64::from(x).exp2() as f32;
            let got = super::exp2_f32(x);
            assert!(
                (got.to_bits() as i64 - want.to_bits() as i64).abs() <= 1,
                "{x}: {got:e} {want:e}"
            );
        }
        assert_eq!(super::exp2_f32(f32::NEG_INFINITY), 0.0);
        assert_eq!(super::exp2_f32(f32::INFINITY), f32::INFINITY);
        assert_eq!(super::exp2_f32(3.0), 8.0);
    }
}
