//! `ldmatrix`, `stmatrix`, `movmatrix`, `mma`, `wmma`, `wgmma` (PTX ISA, "Warp Level Matrix
//! Multiply-Accumulate" and "Asynchronous Warpgroup Level Matrix").

use super::ins::Ins;
use crate::error::PtxError;
use crate::exec::matrix::{Accumulate, Matrix, Mma, Shape, WmmaMemory};
use crate::exec::wgmma::{Wgmma, WgmmaA};
use crate::num::Round;
use crate::program::{FlowRule, Op};
use crate::syntax::ast::Operand;
use crate::types::{Space, Ty};

type Decoded = Result<Op, PtxError>;

fn op(matrix: Matrix) -> Decoded {
    Ok(Op::Matrix(Box::new(matrix)))
}

/// `.sync.aligned`, which every form has.
fn aligned(ins: &mut Ins) -> Result<(), PtxError> {
    if ins.flag("sync") && ins.flag("aligned") {
        ins.flow.rule = FlowRule::Own;
        return Ok(());
    }
    ins.error("needs `.sync.aligned`")
}

/// `m16n8k16` → (16, 8, 16).
fn parse_shape(name: &str) -> Option<Shape> {
    let rest = name.strip_prefix('m')?;
    let (m, rest) = rest.split_once('n')?;
    let (n, k) = match rest.split_once('k') {
        Some((n, k)) => (n, k.parse().ok()?),
        None => (rest, 0),
    };
    Some(Shape { m: m.parse().ok()?, n: n.parse().ok()?, k })
}

fn shape(ins: &mut Ins) -> Result<Shape, PtxError> {
    match ins.parsed(parse_shape) {
        Some(shape) => Ok(shape),
        None => ins.error("lacks a shape such as `.m16n8k16`"),
    }
}

// --- moving tiles --------------------------------------------------------------------------

fn tiles(ins: &mut Ins) -> Result<(usize, bool), PtxError> {
    aligned(ins)?;
    let shape = shape(ins)?;
    if (shape.m, shape.n) != (8, 8) {
        return ins.error("only 8 × 8 tiles are supported");
    }
    let n = ins.choice(&[("x1", 1), ("x2", 2), ("x4", 4)]);
    let trans = ins.flag("trans");
    match n {
        Some(n) => Ok((n, trans)),
        None => ins.error("needs `.x1`, `.x2` or `.x4`"),
    }
}

fn tile_space(ins: &mut Ins) -> Result<Space, PtxError> {
    let space = ins.parsed(Space::parse).unwrap_or(Space::Generic);
    if ins.ty()? != Ty::B16 {
        return ins.error("only `.b16` tiles are supported");
    }
    Ok(space)
}

pub(super) fn ldmatrix(ins: &mut Ins) -> Decoded {
    let (n, trans) = tiles(ins)?;
    let space = tile_space(ins)?;
    let dst = ins.destinations(n, Ty::B32)?;
    let at = ins.address(space)?;
    op(Matrix::Load { at, dst, trans })
}

pub(super) fn stmatrix(ins: &mut Ins) -> Decoded {
    let (n, trans) = tiles(ins)?;
    let space = tile_space(ins)?;
    let at = ins.address(space)?;
    let src = ins.sources(n, Ty::B32)?;
    op(Matrix::Store { at, src, trans })
}

pub(super) fn movmatrix(ins: &mut Ins) -> Decoded {
    aligned(ins)?;
    shape(ins)?;
    if !ins.flag("trans") {
        return ins.unsupported();
    }
    ins.ty()?;
    let (d, a) = (ins.dst(Ty::B32)?, ins.src(Ty::B32)?);
    op(Matrix::Transpose { d, a })
}

// --- mma -----------------------------------------------------------------------------------

/// The register type that holds elements of `ty`, and how many of them.
fn container(ty: Ty) -> (Ty, u32) {
    match ty {
        Ty::F64 => (Ty::F64, 1),
        _ => (Ty::B32, 32 / ty.bits()),
    }
}

/// Registers per lane of a `rows × cols` fragment.
fn registers(rows: u32, cols: u32, ty: Ty) -> usize {
    let (_, per) = container(ty);
    (rows * cols / 32).div_ceil(per) as usize
}

pub(super) fn mma(ins: &mut Ins) -> Decoded {
    aligned(ins)?;
    let shape = shape(ins)?;
    let layout = [("row", true), ("col", false)];
    let (Some(a_row), Some(b_row)) = (ins.choice(&layout), ins.choice(&layout)) else {
        return ins.error("needs the layouts of A and B");
    };
    let sat = ins.flag("satfinite");
    let (d, a, b, c) = (ins.ty()?, ins.ty()?, ins.ty()?, ins.ty()?);
    let bit = bit_op(ins);
    // Four products at once, where the others have one.
    let volta = a == Ty::F16 && shape.k == 4;
    let rows = |n: u32| if volta { 4 * n } else { n };
    let ds = ins.destinations(registers(rows(shape.m), shape.n, d), container(d).0)?;
    let av = ins.sources(registers(rows(shape.m), shape.k, a), container(a).0)?;
    let bv = ins.sources(registers(rows(shape.n), shape.k, b), container(b).0)?;
    let cv = ins.sources(registers(rows(shape.m), shape.n, c), container(c).0)?;
    let types = Accumulate { a, b, c, d, sat, round: Round::Even, bit };
    let mma = Box::new(Mma { shape, types, d: ds, a: av, b: bv, c: cv });
    op(if volta { Matrix::Volta(mma, (a_row, b_row)) } else { Matrix::Mma(mma) })
}

/// `.and.popc` and `.xor.popc` of one-bit products; `true` for xor.
fn bit_op(ins: &mut Ins) -> Option<bool> {
    let xor = ins.choice(&[("xor", true), ("and", false)]);
    ins.flag("popc");
    xor
}

// --- wmma ----------------------------------------------------------------------------------

/// Registers of a `wmma` fragment, fixed by the manual; half-precision A and B hold each element
/// twice as much room as they need.
fn fragment(role: char, s: Shape, ty: Ty) -> usize {
    match (role, ty) {
        ('a' | 'b', Ty::F16) => 8,
        ('a', _) => registers(s.m, s.k, ty),
        ('b', _) => registers(s.n, s.k, ty),
        _ => registers(s.m, s.n, ty),
    }
}

pub(super) fn wmma(ins: &mut Ins) -> Decoded {
    if ins.flag("mma") {
        return wmma_mma(ins);
    }
    let load = ins.flag("load");
    if !load && !ins.flag("store") {
        return ins.unsupported();
    }
    let role = ins.choice(&[("a", 'a'), ("b", 'b'), ("c", 'c'), ("d", 'c')]);
    let Some(role) = role else { return ins.unsupported() };
    aligned(ins)?;
    let Some(row) = ins.choice(&[("row", true), ("col", false)]) else { return ins.unsupported() };
    let shape = shape(ins)?;
    let space = ins.parsed(Space::parse).unwrap_or(Space::Generic);
    let ty = ins.ty()?;
    let n = fragment(role, shape, ty);
    let register = container(ty).0;
    let (at, regs) = if load {
        let regs = ins.destinations(n, register)?;
        (ins.address(space)?, regs)
    } else {
        (ins.address(space)?, ins.sources(n, register)?)
    };
    let (rows, cols) = match role {
        'a' => (shape.m, shape.k),
        'b' => (shape.k, shape.n),
        _ => (shape.m, shape.n),
    };
    let stride = if ins.left() > 0 {
        ins.src(Ty::B32)?
    } else {
        ins.body.constant(u64::from(if row { cols } else { rows }), 32)
    };
    op(Matrix::WmmaMemory(Box::new(WmmaMemory { load, at, stride, regs, ty, rows, cols, row })))
}

fn wmma_mma(ins: &mut Ins) -> Decoded {
    let bit = bit_op(ins);
    aligned(ins)?;
    let layout = [("row", true), ("col", false)];
    ins.choice(&layout);
    ins.choice(&layout);
    let shape = shape(ins)?;
    let round = ins.round().unwrap_or(Round::Even);
    let first = ins.ty()?;
    let second = ins.ty()?;
    // Half precision names only D and C; every other type names D, A, B, C.
    let (d, a, b, c) = match ins.parsed(Ty::parse) {
        None => (first, Ty::F16, Ty::F16, second),
        Some(b) => (first, second, b, ins.ty()?),
    };
    let sat = ins.flag("satfinite");
    let register = |ty: Ty| container(ty).0;
    let ds = ins.destinations(fragment('c', shape, d), register(d))?;
    let av = ins.sources(fragment('a', shape, a), register(a))?;
    let bv = ins.sources(fragment('b', shape, b), register(b))?;
    let cv = ins.sources(fragment('c', shape, c), register(c))?;
    let types = Accumulate { a, b, c, d, sat, round, bit };
    op(Matrix::Wmma(Box::new(Mma { shape, types, d: ds, a: av, b: bv, c: cv })))
}

// --- wgmma ---------------------------------------------------------------------------------

pub(super) fn wgmma(ins: &mut Ins) -> Decoded {
    let kind =
        ins.choice(&[("fence", 0), ("commit_group", 1), ("wait_group", 2), ("mma_async", 3)]);
    if kind == Some(3) {
        return wgmma_mma(ins);
    }
    aligned(ins)?;
    match kind {
        Some(0) => op(Matrix::WgmmaFence),
        Some(1) => op(Matrix::WgmmaCommit),
        Some(_) => {
            let pending = ins.immediate()? as u32;
            op(Matrix::WgmmaWait { pending })
        }
        None => ins.unsupported(),
    }
}

fn wgmma_mma(ins: &mut Ins) -> Decoded {
    aligned(ins)?;
    let shape = shape(ins)?;
    let (d, a, b) = (ins.ty()?, ins.ty()?, ins.ty()?);
    let sat = ins.flag("satfinite");
    let bit = bit_op(ins);
    let ds = ins.destinations(registers(64, shape.n, d) / 4, Ty::B32)?;
    let from_registers = matches!(ins.peek(), Some(Operand::Vector(_)));
    let a_from = if from_registers {
        WgmmaA::Registers(ins.sources(4, Ty::B32)?)
    } else {
        WgmmaA::Shared(ins.src(Ty::B64)?)
    };
    let b_desc = ins.src(Ty::B64)?;
    let scale_d = scale(ins)?;
    let integer = matches!(a, Ty::S8 | Ty::U8 | Ty::B1);
    let (scale_a, scale_b) =
        if integer || ins.left() == 0 { (1, 1) } else { (sign(ins)?, sign(ins)?) };
    let transposable = matches!(a, Ty::F16 | Ty::BF16) && ins.left() > 0;
    let trans_a = transposable && !from_registers && ins.immediate()? != 0;
    let trans_b = transposable && ins.immediate()? != 0;
    let types = Accumulate { a, b, c: d, d, sat, round: Round::Even, bit };
    let w = Wgmma {
        shape,
        types,
        d: ds,
        a: a_from,
        b: b_desc,
        scale_d,
        signs: (scale_a, scale_b),
        trans: (trans_a, trans_b),
    };
    op(Matrix::Wgmma(Box::new(w)))
}

/// `scale-d`: a predicate or a constant; the accumulator is dropped where it is false.
fn scale(ins: &mut Ins) -> Result<(crate::lanes::Pred, bool), PtxError> {
    if ins.left() == 0 {
        return Ok((ins.body.true_pred(), false));
    }
    ins.pred_src()
}

fn sign(ins: &mut Ins) -> Result<i32, PtxError> {
    match ins.immediate()? as i64 {
        1 => Ok(1),
        -1 => Ok(-1),
        _ => ins.error("this scale must be 1 or -1"),
    }
}
