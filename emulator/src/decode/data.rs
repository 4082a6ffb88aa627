//! `mov`, loads, stores, atomics and address arithmetic between state spaces.

use super::ins::Ins;
use super::names::Entity;
use crate::error::PtxError;
use crate::lanes::{AluFn, Slot, map1, map2};
use crate::program::*;
use crate::syntax::ast::Operand;
use crate::types::{Space, Ty, window};

type Decoded = Result<Op, PtxError>;

// --- mov -----------------------------------------------------------------------------------

pub(super) fn mov(ins: &mut Ins) -> Decoded {
    let ty = ins.ty()?;
    if ty == Ty::Pred {
        let (d, a) = (ins.pred_dst()?, ins.pred_src()?);
        return Ok(Op::Alu(Box::new(move |regs, mask| {
            let v = regs.pred(a);
            regs.put_pred(d, mask, v);
        })));
    }
    if let Some(Operand::Vector(items)) = ins.peek() {
        ins.take()?;
        return unpack(ins, items, ty);
    }
    let d = ins.dst(ty)?;
    if let Some(Operand::Vector(items)) = ins.peek() {
        ins.take()?;
        return pack(ins, d, items, ty);
    }
    if let Some(Operand::Name(name, 0, _)) = ins.peek() {
        let wide = ty.bits() == 64;
        if matches!(
            name.as_str(),
            "%clock"
                | "%clock_hi"
                | "%clock64"
                | "%globaltimer"
                | "%globaltimer_lo"
                | "%globaltimer_hi"
        ) || name.starts_with("%pm")
        {
            ins.take()?;
            return Ok(Op::Clock { d, wide });
        }
    }
    let a = ins.src(ty)?;
    ins.flow.rule = FlowRule::Union(vec![a]);
    let isa = ins.isa();
    Ok(Op::Alu(match ty.bits() {
        128 => copy_rows(d, a, 4),
        64 => map1(isa, d, a, |a: u64| a),
        _ => map1(isa, d, a, |a: u32| a),
    }))
}

fn copy_rows(d: Slot, a: Slot, rows: u32) -> AluFn {
    Box::new(move |regs, mask| {
        for r in 0..rows {
            let row: [u32; 32] = regs.get(a + r);
            regs.put::<u32>(d + r, mask, &row);
        }
    })
}

/// `mov.b32 d, {a, b}` and the like.
fn pack(ins: &mut Ins, d: Slot, items: &[Operand], ty: Ty) -> Decoded {
    let each = part(ins, items, ty)?;
    let parts: Vec<Slot> =
        items.iter().map(|item| ins.src_of(item, each)).collect::<Result<_, _>>()?;
    ins.moves(&parts, each);
    if let ([a, b], Ty::B16) = (parts.as_slice(), each) {
        return Ok(Op::Alu(map2(ins.isa(), d, *a, *b, |a: u16, b: u16| {
            u32::from(a) | u32::from(b) << 16
        })));
    }
    let bits = each.bits();
    Ok(Op::Alu(Box::new(move |regs, mask| {
        for row in 0..ty.bits().div_ceil(32) {
            let mut out = [0u32; 32];
            for (i, &slot) in parts.iter().enumerate() {
                let at = i as u32 * bits;
                if at / 32 != row && (bits < 64 || at / 32 + 1 != row) {
                    continue;
                }
                let source: [u32; 32] = regs.get(slot + (row - at / 32));
                let keep = if bits >= 32 { u32::MAX } else { (1 << bits) - 1 };
                (0..32).for_each(|l| out[l] |= (source[l] & keep) << (at % 32));
            }
            regs.put::<u32>(d + row, mask, &out);
        }
    })))
}

/// `mov.b32 {a, b}, d` and the like.
fn unpack(ins: &mut Ins, items: &[Operand], ty: Ty) -> Decoded {
    let each = part(ins, items, ty)?;
    let mut parts = Vec::new();
    for item in items {
        parts.push(match item {
            Operand::Sink => None,
            item => Some(ins.dst_of(item, each.bits())?.0),
        });
    }
    let a = ins.src(ty)?;
    ins.moves(&[a], ty);
    let bits = each.bits();
    Ok(Op::Alu(Box::new(move |regs, mask| {
        // All rows first: a destination may be the source.
        let rows: Vec<[u32; 32]> = (0..ty.bits().div_ceil(32)).map(|r| regs.get(a + r)).collect();
        for (i, slot) in parts.iter().enumerate() {
            let Some(slot) = slot else { continue };
            let at = i as u32 * bits;
            for r in 0..bits.div_ceil(32) {
                let source = &rows[(at / 32 + r) as usize];
                let keep = if bits >= 32 { u32::MAX } else { (1 << bits) - 1 };
                let out = std::array::from_fn(|l| source[l] >> (at % 32) & keep);
                regs.put::<u32>(slot + r, mask, &out);
            }
        }
    })))
}

/// The type of one part of a packed register.
fn part(ins: &Ins, items: &[Operand], ty: Ty) -> Result<Ty, PtxError> {
    Ok(match ty.bits() / (items.len() as u32).max(1) {
        8 => Ty::B8,
        16 => Ty::B16,
        32 => Ty::B32,
        64 => Ty::B64,
        _ => return ins.error("the parts do not fill the register"),
    })
}

// --- ld, st --------------------------------------------------------------------------------

fn space(ins: &mut Ins) -> Space {
    ins.parsed(Space::parse).unwrap_or(Space::Generic)
}

/// `.weak`, `.relaxed`, `.acquire`, `.release`, `.volatile`, `.mmio` and the scope.
fn order(ins: &mut Ins) -> Order {
    let mut order = Order::default();
    match ins.choice(&[
        ("weak", 0),
        ("relaxed", 1),
        ("acquire", 2),
        ("release", 3),
        ("acq_rel", 4),
        ("volatile", 5),
        ("mmio", 1),
    ]) {
        None | Some(0) => {}
        Some(kind) => {
            order.strong = true;
            order.acquire = kind == 2 || kind == 4;
            order.release = kind == 3 || kind == 4;
            if kind == 5 {
                order.scope = Scope::Sys;
            }
            // `.mmio` is written with `.relaxed`.
            ins.flag("relaxed");
            ins.flag("mmio");
        }
    }
    if let Some(scope) = ins.scope() {
        order.scope = scope;
    }
    order
}

fn vector_length(ins: &mut Ins) -> usize {
    ins.choice(&[("v2", 2), ("v4", 4), ("v8", 8)]).unwrap_or(1)
}

/// An optional cache policy after the operands.
fn cache_policy(ins: &mut Ins) -> Result<(), PtxError> {
    if ins.has("L2::cache_hint") && ins.left() > 0 {
        ins.src(Ty::B64)?;
    }
    Ok(())
}

pub(super) fn ld(ins: &mut Ins) -> Decoded {
    let order = order(ins);
    let space = space(ins);
    ins.cache_hints();
    if ins.base() == "ldu" && !matches!(space, Space::Global | Space::Generic) {
        return ins.unsupported();
    }
    let n = vector_length(ins);
    let ty = ins.ty()?;
    let items = ins.vector()?;
    if items.len() != n {
        return ins.error(format!("expected {n} destinations, found {}", items.len()));
    }
    let mut dst = Vec::new();
    for item in items {
        dst.push(match item {
            Operand::Sink => None,
            item => Some(ins.dst_of(item, ty.bits())?),
        });
    }
    if dst.iter().flatten().any(|(_, bits)| *bits < ty.bits()) {
        return ins.error("the destination is narrower than the type");
    }
    let at = ins.address(space)?;
    cache_policy(ins)?;
    ins.flow.rule = FlowRule::Own;
    Ok(Op::Load(Box::new(Load { at, ty, dst, order, is_guess: false })))
}

pub(super) fn st(ins: &mut Ins) -> Decoded {
    if ins.flag("async") {
        return store_async(ins, None);
    }
    let order = order(ins);
    let space = space(ins);
    ins.cache_hints();
    let n = vector_length(ins);
    let ty = ins.ty()?;
    let at = ins.address(space)?;
    let items = ins.vector()?;
    if items.len() != n {
        return ins.error(format!("expected {n} values, found {}", items.len()));
    }
    let mut src = Vec::new();
    for item in items {
        let (slot, bits) = ins.src_any(item, ty)?;
        if bits < ty.bits() {
            return ins.error("the value is narrower than the type");
        }
        src.push(slot);
    }
    cache_policy(ins)?;
    ins.flow.rule = FlowRule::Own;
    Ok(Op::Store(Box::new(Store { at, ty, src, order })))
}

/// `st.async… [addr], value, [mbar]` and `red.async`.
fn store_async(ins: &mut Ins, reduce: Option<AtomOp>) -> Decoded {
    for word in ["weak", "relaxed", "cluster", "mbarrier::complete_tx::bytes"] {
        ins.flag(word);
    }
    space(ins);
    let n = vector_length(ins);
    let ty = ins.ty()?;
    let at = ins.address(Space::Shared)?;
    let src = ins.sources(n, ty)?;
    let mbar = ins.address(Space::Shared)?;
    Ok(Op::StoreAsync(Box::new(StoreAsync { at, ty, src, mbar, reduce })))
}

/// The operation of an atomic.
fn atomic_op(ins: &mut Ins) -> Result<AtomOp, PtxError> {
    let op = ins.choice(&[
        ("add", AtomOp::Add),
        ("min", AtomOp::Min),
        ("max", AtomOp::Max),
        ("inc", AtomOp::Inc),
        ("dec", AtomOp::Dec),
        ("and", AtomOp::And),
        ("or", AtomOp::Or),
        ("xor", AtomOp::Xor),
        ("exch", AtomOp::Exch),
        ("cas", AtomOp::Cas),
    ]);
    match op {
        Some(op) => Ok(op),
        None => ins.unsupported(),
    }
}

// --- atom, red -----------------------------------------------------------------------------

pub(super) fn atom(ins: &mut Ins) -> Decoded {
    if ins.flag("async") {
        let op = atomic_op(ins)?;
        return store_async(ins, Some(op));
    }
    let mut order = order(ins);
    order.strong = true;
    let space = space(ins);
    ins.cache_hints();
    let op = atomic_op(ins)?;
    ins.flag("noftz");
    let n = vector_length(ins);
    let ty = ins.ty()?;
    let dst = if ins.base() == "atom" { ins.destinations(n, ty)? } else { Vec::new() };
    let at = ins.address(space)?;
    let src = ins.sources(n, ty)?;
    let swap = if op == AtomOp::Cas { Some(ins.src(ty)?) } else { None };
    cache_policy(ins)?;
    ins.flow.rule = FlowRule::Own;
    Ok(Op::Atomic(Box::new(Atomic { at, op, ty, dst, src, swap, order })))
}

// --- addresses -----------------------------------------------------------------------------

fn window_of(space: Space) -> u64 {
    match space {
        Space::Shared => window::SHARED,
        Space::Local => window::LOCAL,
        Space::Const => window::CONST,
        // Global and parameter addresses are the same in their window and in generic space.
        _ => 0,
    }
}

/// `cvta.space` adds the window, `cvta.to.space` removes it; a null pointer is left alone.
pub(super) fn cvta(ins: &mut Ins) -> Decoded {
    let to = ins.flag("to");
    let space = space(ins);
    let ty = ins.ty()?;
    if ty.bits() != 64 {
        return ins.error("generic addresses have 64 bits");
    }
    let d = ins.dst(ty)?;
    let base = window_of(space);
    let frame_param = match ins.peek() {
        Some(Operand::Name(name, ..)) => {
            matches!(ins.body.lookup(name), Some(Entity::Frame(_, true)))
        }
        _ => false,
    };
    let a = ins.src(ty)?;
    let base = if frame_param { 0 } else { base };
    Ok(Op::Alu(map1(
        ins.isa(),
        d,
        a,
        move |a: u64| if to { a.wrapping_sub(base) } else { a.wrapping_add(base) },
    )))
}

pub(super) fn isspacep(ins: &mut Ins) -> Decoded {
    let space = space(ins);
    let (p, a) = (ins.pred_dst()?, ins.src(Ty::B64)?);
    Ok(Op::IsSpace { p, a, space })
}

/// `prefetch`, `discard`, `applypriority`: no effect on any result.
pub(super) fn touch(ins: &mut Ins) -> Decoded {
    let space = space(ins);
    let known = |m: &str| matches!(m, "L1" | "L2" | "tensormap") || m.starts_with("L2::");
    while ins.parsed(|m| known(m).then_some(())).is_some() {}
    ins.cache_hints();
    ins.address(space)?;
    if ins.left() > 0 {
        ins.immediate()?;
    }
    Ok(Op::Nop)
}

/// `createpolicy`: policies are opaque and change no result.
pub(super) fn createpolicy(ins: &mut Ins) -> Decoded {
    while ins
        .parsed(|m| {
            (m.starts_with("L2::") || matches!(m, "fractional" | "range" | "cvt" | "L2" | "global"))
                .then_some(())
        })
        .is_some()
    {}
    ins.ty()?;
    let d = ins.dst(Ty::B64)?;
    while ins.left() > 0 {
        ins.take()?;
    }
    let zero = ins.body.constant(0, 64);
    Ok(Op::Alu(map1(ins.isa(), d, zero, |z: u64| z)))
}

/// `mapa d, a, rank`: the address of `a` in another block of the cluster.
pub(super) fn mapa(ins: &mut Ins) -> Decoded {
    let shared = space(ins) == Space::Shared;
    let ty = ins.ty()?;
    let (d, a) = (ins.dst(ty)?, ins.src(ty)?);
    let rank = ins.src(Ty::U32)?;
    let isa = ins.isa();
    let map =
        |offset: u64, rank: u32| offset & 0xff_ffff | u64::from(rank + 1) << window::RANK_SHIFT;
    Ok(Op::Alu(match (ty.bits(), shared) {
        (32, _) => map2(isa, d, a, rank, move |a: u32, r: u32| map(u64::from(a), r) as u32),
        (_, true) => map2(isa, d, a, rank, move |a: u64, r: u32| map(a, r)),
        (_, false) => map2(isa, d, a, rank, move |a: u64, r: u32| window::SHARED | map(a, r)),
    }))
}

pub(super) fn getctarank(ins: &mut Ins) -> Decoded {
    space(ins);
    let ty = ins.ty()?;
    let (d, a) = (ins.dst(Ty::U32)?, ins.src(ty)?);
    let own = ins.body.special("%cluster_ctarank", 32).unwrap_or(d);
    let isa = ins.isa();
    let rank = |a: u32, own: u32| {
        if a >> window::RANK_SHIFT == 0 { own } else { (a >> window::RANK_SHIFT) - 1 }
    };
    Ok(Op::Alu(match ty.bits() {
        32 => map2(isa, d, a, own, rank),
        _ => map2(isa, d, a, own, move |a: u64, own: u32| rank(a as u32, own)),
    }))
}
