//! The SIMD video instructions on halves and bytes (PTX ISA, "Video Instructions"), in the form without masks and
//! selectors, which is what compilers write.

use super::{Decoded, Ins};
use crate::lanes::map3;
use crate::program::Op;
use crate::types::Ty;

/// What happens to a pair of elements.
#[derive(Clone, Copy)]
enum Pairwise {
    Add,
    Sub,
    /// The mean, halves rounded up.
    Average,
    Difference,
    Min,
    Max,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    Equal,
    NotEqual,
}

impl Pairwise {
    fn of(self, a: i32, b: i32) -> i32 {
        match self {
            Pairwise::Add => a + b,
            Pairwise::Sub => a - b,
            Pairwise::Average => (a + b + i32::from(a + b >= 0)) >> 1,
            Pairwise::Difference => (a - b).abs(),
            Pairwise::Min => a.min(b),
            Pairwise::Max => a.max(b),
            Pairwise::Less => i32::from(a < b),
            Pairwise::LessEqual => i32::from(a <= b),
            Pairwise::Greater => i32::from(a > b),
            Pairwise::GreaterEqual => i32::from(a >= b),
            Pairwise::Equal => i32::from(a == b),
            Pairwise::NotEqual => i32::from(a != b),
        }
    }
}

/// `vadd4.dtype.atype.btype{.sat}{.add} d, a, b, c` and its siblings for two or four elements.
pub(super) fn simd(ins: &mut Ins) -> Decoded {
    let root = ins.ast.opcode.split('.').next().unwrap_or_default();
    let (name, elements) = root.split_at(root.len() - 1);
    let bits = if elements == "2" { 16 } else { 8 };
    let (op, result) = match name {
        "vset" => (None, Ty::U32),
        _ => (pairwise(name), ins.ty()?),
    };
    let (ta, tb) = (ins.ty()?, ins.ty()?);
    let compare = [
        ("lt", Pairwise::Less),
        ("le", Pairwise::LessEqual),
        ("gt", Pairwise::Greater),
        ("ge", Pairwise::GreaterEqual),
        ("eq", Pairwise::Equal),
        ("ne", Pairwise::NotEqual),
    ];
    let Some(op) = op.or_else(|| ins.choice(&compare)) else { return ins.unsupported() };
    let (saturate, sum) = (ins.flag("sat"), ins.flag("add"));
    let d = ins.dst(Ty::B32)?;
    let (a, b, c) = (ins.src(Ty::B32)?, ins.src(Ty::B32)?, ins.src(Ty::B32)?);
    let (sa, sb, sd) = (ta.is_signed(), tb.is_signed(), result.is_signed());
    Ok(Op::Alu(map3(ins.isa(), d, a, b, c, move |a: u32, b: u32, c: u32| {
        let values = (0..32 / bits).map(|i| {
            let v = op.of(element(a, i, bits, sa), element(b, i, bits, sb));
            if saturate { clamp(v, bits, sd) } else { v }
        });
        if sum {
            return values.fold(c, |total, v| total.wrapping_add(v as u32));
        }
        values.rev().fold(0, |word, v| word << bits | v as u32 & ((1 << bits) - 1))
    })))
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

/// Element `i` of `bits` bits.
fn element(v: u32, i: u32, bits: u32, signed: bool) -> i32 {
    let top = v << (32 - bits * (i + 1));
    if signed { top as i32 >> (32 - bits) } else { (top >> (32 - bits)) as i32 }
}

fn clamp(v: i32, bits: u32, signed: bool) -> i32 {
    if signed {
        v.clamp(-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    } else {
        v.clamp(0, (1 << bits) - 1)
    }
}
