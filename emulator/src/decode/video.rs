//! Video instructions: one value per lane with parts selected from its operands, or two halves and
//! four bytes at once (PTX ISA, "Video Instructions", whose pseudo-code this follows).

use super::ins::Ins;
use super::{Decoded, bits, compare};
use crate::error::PtxError;
use crate::lanes::{Slot, map3};
use crate::program::Op;
use crate::syntax::ast::Operand;
use crate::types::Ty;

/// What happens to a pair of values.
#[derive(Clone, Copy)]
enum Pairwise {
    Add,
    Sub,
    /// The mean, halves rounded up.
    Average,
    Difference,
    Min,
    Max,
    Compare(compare::Cmp),
    /// Shifts; `true` wraps the amount at 32, otherwise it stops there.
    Left(bool),
    Right(bool),
}

impl Pairwise {
    #[inline(always)]
    fn of(self, a: i64, b: i64) -> i64 {
        let amount = |wrap: bool| if wrap { b & 31 } else { (b as u32).min(32).into() };
        match self {
            Pairwise::Add => a + b,
            Pairwise::Sub => a - b,
            Pairwise::Average => (a + b + i64::from(a + b >= 0)) >> 1,
            Pairwise::Difference => (a - b).abs(),
            Pairwise::Min => a.min(b),
            Pairwise::Max => a.max(b),
            Pairwise::Compare(cmp) => cmp.holds(a, b).into(),
            // What reaches 2^63 has 32 zero bits at its end, and stays beyond every limit.
            Pairwise::Left(wrap) => {
                i64::try_from(i128::from(a) << amount(wrap)).unwrap_or(i64::MAX >> 32 << 32)
            }
            Pairwise::Right(wrap) => a >> amount(wrap),
        }
    }
}

fn pairwise(name: &str) -> Option<Pairwise> {
    Some(match name {
        "vadd" => Pairwise::Add,
        "vsub" => Pairwise::Sub,
        "vavrg" => Pairwise::Average,
        "vabsdiff" => Pairwise::Difference,
        "vmin" => Pairwise::Min,
        "vmax" => Pairwise::Max,
        _ => return None,
    })
}

fn comparison(ins: &mut Ins) -> Result<Pairwise, PtxError> {
    match ins.choice(compare::COMPARISONS) {
        Some(cmp) => Ok(Pairwise::Compare(cmp)),
        None => ins.error("this instruction lacks a comparison"),
    }
}

// --- parts of a register ---------------------------------------------------------------------

/// Bits `at .. at + bits` of a word.
#[derive(Clone, Copy)]
struct Part {
    at: u32,
    bits: u32,
}

const WORD: Part = Part { at: 0, bits: 32 };

impl Part {
    fn parse(selector: &str) -> Option<Part> {
        Some(match selector {
            "b0" | "b1" | "b2" | "b3" => {
                Part { at: 8 * u32::from(selector.as_bytes()[1] - b'0'), bits: 8 }
            }
            "h0" => Part { at: 0, bits: 16 },
            "h1" => Part { at: 16, bits: 16 },
            _ => return None,
        })
    }

    #[inline(always)]
    fn take(self, word: u32, signed: bool) -> i64 {
        let top = word << (32 - self.at - self.bits);
        if signed {
            i64::from(top as i32 >> (32 - self.bits))
        } else {
            (top >> (32 - self.bits)).into()
        }
    }

    #[inline(always)]
    fn merge(self, value: u32, into: u32) -> u32 {
        let mask = (u32::MAX >> (32 - self.bits)) << self.at;
        into & !mask | value << self.at & mask
    }

    #[inline(always)]
    fn clamp(self, v: i64, signed: bool) -> i64 {
        if signed {
            v.clamp(-(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1)
        } else {
            v.clamp(0, (1 << self.bits) - 1)
        }
    }
}

/// Takes an operand such as `%r1.h0`: the register and its selector, if it has one.
fn selected<'i>(ins: &mut Ins<'i, '_>) -> Result<(Operand, Option<&'i str>), PtxError> {
    let operand = ins.take()?;
    if let Operand::Name(name, offset, span) = operand
        && let Some((register, selector)) = name.rsplit_once('.')
        && ins.body.lookup(register).is_some()
    {
        return Ok((Operand::Name(register.into(), *offset, *span), Some(selector)));
    }
    Ok((operand.clone(), None))
}

fn part(ins: &Ins, selector: Option<&str>) -> Result<Part, PtxError> {
    match selector {
        None => Ok(WORD),
        Some(text) => match Part::parse(text) {
            Some(part) => Ok(part),
            None => ins.error(format!("`.{text}` selects no byte or half")),
        },
    }
}

fn source(ins: &mut Ins) -> Result<(Slot, Part), PtxError> {
    let (operand, selector) = selected(ins)?;
    Ok((ins.src_of(&operand, Ty::B32)?, part(ins, selector)?))
}

// --- one value ---------------------------------------------------------------------------------

/// The operation with `c` after the main one.
#[derive(Clone, Copy)]
enum Second {
    Nothing,
    Add,
    Min,
    Max,
}

/// `vadd.dtype.atype.btype{.sat}{.op2} d{.sel}, a{.sel}, b{.sel}{, c}` and its siblings.
pub(super) fn scalar(ins: &mut Ins) -> Decoded {
    let name = ins.base();
    let result = if name == "vset" { Ty::U32 } else { ins.ty()? };
    let (ta, tb) = (ins.ty()?, ins.ty()?);
    let saturate = ins.flag("sat");
    let shift = matches!(name, "vshl" | "vshr");
    let wrap = shift && bits::wraps(ins)?;
    let op = match name {
        "vset" => comparison(ins)?,
        "vshl" => Pairwise::Left(wrap),
        "vshr" => Pairwise::Right(wrap),
        _ => match pairwise(name) {
            Some(op) => op,
            None => return ins.unsupported(),
        },
    };
    let second = ins
        .choice(&[("add", Second::Add), ("min", Second::Min), ("max", Second::Max)])
        .unwrap_or(Second::Nothing);
    let (operand, selector) = selected(ins)?;
    let (d, _) = ins.dst_of(&operand, 32)?;
    let into = part(ins, selector)?;
    let ((a, pa), (b, pb)) = (source(ins)?, source(ins)?);
    let c = if ins.left() > 0 { ins.src(Ty::B32)? } else { ins.body.constant(0, 32) };
    let (sa, sb, sd) = (ta.is_signed(), tb.is_signed(), result.is_signed());
    Ok(Op::Alu(map3(ins.isa(), d, a, b, c, move |a: u32, b: u32, c: u32| {
        let v = op.of(pa.take(a, sa), pb.take(b, sb));
        let v = if saturate { into.clamp(v, sd) } else { v };
        let other = if sd { i64::from(c as i32) } else { i64::from(c) };
        // The secondary operation sees the result as the 32-bit value it has become.
        let v32 = if sd { i64::from(v as i32) } else { i64::from(v as u32) };
        match second {
            Second::Nothing => into.merge(v as u32, c),
            Second::Add => (v32 + other) as u32,
            Second::Min => v32.min(other) as u32,
            Second::Max => v32.max(other) as u32,
        }
    })))
}

/// `vmad.dtype.atype.btype{.po}{.sat}{.scale} d, {-}a{.sel}, {-}b{.sel}, {-}c`
pub(super) fn mad(ins: &mut Ins) -> Decoded {
    ins.ty()?;
    let (ta, tb) = (ins.ty()?, ins.ty()?);
    let (plus_one, saturate) = (ins.flag("po"), ins.flag("sat"));
    let scale = ins.choice(&[("shr7", 7), ("shr15", 15)]).unwrap_or(0);
    let d = ins.dst(Ty::B32)?;
    let minus_a = ins.negated();
    let (a, pa) = source(ins)?;
    let minus = minus_a ^ ins.negated();
    let (b, pb) = source(ins)?;
    let minus_c = ins.negated();
    let c = ins.src(Ty::B32)?;
    let (sa, sb) = (ta.is_signed(), tb.is_signed());
    let signed = sa || sb || minus || minus_c;
    Ok(Op::Alu(map3(ins.isa(), d, a, b, c, move |a: u32, b: u32, c: u32| {
        let product = i128::from(pa.take(a, sa)) * i128::from(pb.take(b, sb));
        // Negation is a complement and a carry; `.po` takes the carry alone.
        let (product, c, carry) = match (plus_one, minus, minus_c) {
            (true, ..) => (product, c, 1),
            (_, true, _) => (!product, c, 1),
            (_, _, true) => (product, !c, 1),
            _ => (product, c, 0),
        };
        let c = if signed { i128::from(c as i32) } else { i128::from(c) };
        let v = ((product + c + carry) >> scale) as i64;
        match (saturate, signed) {
            (false, _) => v as u32,
            (true, true) => v.clamp(i32::MIN.into(), i32::MAX.into()) as u32,
            (true, false) => (v as u64).min(u32::MAX.into()) as u32,
        }
    })))
}

// --- halves and bytes at once ------------------------------------------------------------------

/// Which of the eight bytes (four halves) of `{b, a}` each element takes, least significant first.
type Lanes = [u8; 4];

/// `.h32` or `.b7654`: digits, the most significant element first.
fn digits(ins: &Ins, text: &str, elements: u32, highest: u8) -> Result<Lanes, PtxError> {
    let mut out = [0; 4];
    let (kind, digits) = text.split_at(1);
    let good = digits.len() == elements as usize
        && kind == if elements == 2 { "h" } else { "b" }
        && digits.bytes().all(|d| (b'0'..=highest).contains(&d));
    if !good {
        return ins.error(format!("`.{text}` does not select {elements} elements"));
    }
    digits.bytes().rev().zip(&mut out).for_each(|(d, o)| *o = d - b'0');
    Ok(out)
}

/// The mask after the destination: the elements that the instruction produces.
fn mask(ins: &Ins, selector: Option<&str>, elements: u32) -> Result<u32, PtxError> {
    let Some(text) = selector else { return Ok((1 << elements) - 1) };
    let kind = if elements == 2 { 'h' } else { 'b' };
    let mut mask = 0;
    for (i, c) in text.chars().enumerate() {
        match c.to_digit(10) {
            Some(d) if i > 0 && d < elements => mask |= 1 << d,
            None if i == 0 && c == kind => {}
            _ => return ins.error(format!("`.{text}` is no mask of {elements} elements")),
        }
    }
    Ok(mask)
}

/// `vadd4.dtype.atype.btype{.sat|.add} d{.mask}, a{.sel}, b{.sel}, c` and its siblings.
pub(super) fn simd(ins: &mut Ins) -> Decoded {
    let (name, elements) = ins.base().split_at(ins.base().len() - 1);
    let elements: u32 = if elements == "2" { 2 } else { 4 };
    let bits = 32 / elements;
    let set = name == "vset";
    let result = if set { Ty::U32 } else { ins.ty()? };
    let (ta, tb) = (ins.ty()?, ins.ty()?);
    let op = if set { Some(comparison(ins)?) } else { pairwise(name) };
    let Some(op) = op else { return ins.unsupported() };
    let (saturate, sum) = (ins.flag("sat"), ins.flag("add"));
    let (operand, selector) = selected(ins)?;
    let (d, _) = ins.dst_of(&operand, 32)?;
    let mask = mask(ins, selector, elements)?;
    let highest = b'0' + 2 * elements as u8 - 1;
    let defaults = if elements == 2 { ("h10", "h32") } else { ("b3210", "b7654") };
    let (operand, selector) = selected(ins)?;
    let a = ins.src_of(&operand, Ty::B32)?;
    let from_a = digits(ins, selector.unwrap_or(defaults.0), elements, highest)?;
    let (operand, selector) = selected(ins)?;
    let b = ins.src_of(&operand, Ty::B32)?;
    let from_b = digits(ins, selector.unwrap_or(defaults.1), elements, highest)?;
    let c = ins.src(Ty::B32)?;
    let (sa, sb, sd) = (ta.is_signed(), tb.is_signed(), result.is_signed());
    Ok(Op::Alu(map3(ins.isa(), d, a, b, c, move |a: u32, b: u32, c: u32| {
        let pick = |i: u8, signed: bool| {
            let (word, i) = if u32::from(i) < elements { (a, i) } else { (b, i - elements as u8) };
            Part { at: bits * u32::from(i), bits }.take(word, signed)
        };
        let mut out = c;
        for i in (0..elements).filter(|i| mask >> i & 1 != 0) {
            let here = Part { at: bits * i, bits };
            let v = op.of(pick(from_a[i as usize], sa), pick(from_b[i as usize], sb));
            let v = if saturate { here.clamp(v, sd) } else { v };
            out = if sum { out.wrapping_add(v as u32) } else { here.merge(v as u32, out) };
        }
        out
    })))
}
