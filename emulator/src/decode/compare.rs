//! Comparison and selection.

use super::arith::{Decoded, binary};
use super::floats;
use super::ins::Ins;
use crate::error::PtxError;
use crate::lanes::{AluFn, BoolOp, Isa, Lane, Pred, PredOut, Slot, map3, test2};
use crate::num::ftz;
use crate::program::{FlowRule, Op};
use crate::syntax::ast::Operand;
use crate::types::Ty;

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
