//! Asynchronous copies and `mbarrier` (PTX ISA, "Asynchronous operations").

use super::ins::Ins;
use crate::error::PtxError;
use crate::exec::tensormap::Field;
use crate::program::*;
use crate::syntax::ast::Operand;
use crate::types::{Space, Ty};

type Decoded = Result<Op, PtxError>;

pub(super) fn cp(ins: &mut Ins) -> Decoded {
    if ins.flag("reduce") {
        if !ins.flag("async") || !ins.flag("bulk") {
            return ins.unsupported();
        }
        return bulk(ins, true);
    }
    if !ins.flag("async") {
        return ins.unsupported();
    }
    if ins.flag("bulk") {
        return bulk(ins, false);
    }
    if ins.flag("commit_group") {
        return Ok(Op::CommitGroup);
    }
    if ins.flag("wait_group") {
        return Ok(Op::WaitGroup(ins.immediate()?.min(u64::from(u32::MAX)) as u32));
    }
    if ins.flag("wait_all") {
        return Ok(Op::WaitGroup(u32::MAX));
    }
    if ins.flag("mbarrier") {
        if !ins.flag("arrive") {
            return ins.unsupported();
        }
        let noinc = ins.flag("noinc");
        ins.parsed(Space::parse);
        ins.ty()?;
        let at = shared_address(ins)?;
        return Ok(Op::Mbar(Box::new(Mbar::CopyArrive { noinc }), at));
    }
    plain(ins)
}

/// `cp.async.ca.shared.global [dst], [src], size{, src-size | ignore-src}{, policy}`
fn plain(ins: &mut Ins) -> Decoded {
    let bypass = ins.has("cg");
    ins.cache_hints();
    let (to, from) = (ins.parsed(Space::parse), ins.parsed(Space::parse));
    if (to, from) != (Some(Space::Shared), Some(Space::Global)) {
        return ins.unsupported();
    }
    let dst = ins.address(Space::Shared)?;
    let src = ins.address(Space::Global)?;
    let bytes = ins.immediate()? as u32;
    if !matches!(bytes, 4 | 8 | 16) || (bypass && bytes != 16) {
        return ins.error("`cp.async.ca` copies 4, 8 or 16 bytes and `cp.async.cg` 16");
    }
    let policy = usize::from(ins.has("L2::cache_hint"));
    let (mut src_size, mut ignore) = (None, None);
    if ins.left() > policy {
        let operand = ins.take()?;
        match ins.pred_of(operand) {
            Ok(p) if !matches!(operand, Operand::Int(_)) => ignore = Some(p),
            _ => src_size = Some(ins.src_of(operand, Ty::U32)?),
        }
    }
    if ins.left() > 0 {
        ins.src(Ty::B64)?;
    }
    Ok(Op::CopyAsync(Box::new(CopyAsync { dst, src, bytes, src_size, ignore })))
}

/// An mbarrier or shared operand: `.shared` or generic.
fn shared_address(ins: &mut Ins) -> Result<Address, PtxError> {
    let space = if ins.has("shared") || ins.has("shared::cta") || ins.has("shared::cluster") {
        Space::Shared
    } else {
        Space::Generic
    };
    ins.address(space)
}

// --- bulk copies ---------------------------------------------------------------------------

fn bulk(ins: &mut Ins, reduce: bool) -> Decoded {
    if ins.flag("commit_group") {
        return Ok(Op::BulkCommit);
    }
    if ins.flag("wait_group") {
        // With `.read` only the sources are free again; both happen at once here.
        ins.flag("read");
        return Ok(Op::BulkWait(ins.immediate()? as u32));
    }
    if ins.flag("prefetch") {
        return prefetch(ins);
    }
    if ins.flag("tensor") {
        return tensor(ins, reduce);
    }
    let (to, from) = (ins.parsed(Space::parse), ins.parsed(Space::parse));
    let (Some(to), Some(from)) = (to, from) else { return ins.unsupported() };
    let mbarrier = ins.flag("mbarrier::complete_tx::bytes");
    let by_group = ins.flag("bulk_group");
    if mbarrier == by_group {
        return ins.error("a bulk copy completes by an mbarrier or by a bulk group");
    }
    let multicast = ins.flag("multicast::cluster");
    ins.cache_hints();
    let reduction = if reduce { Some(reduction(ins)?) } else { None };
    let dst = ins.address(to)?;
    let src = ins.address(from)?;
    let size = ins.src(Ty::U32)?;
    let mbar = if mbarrier { Some(ins.address(Space::Shared)?) } else { None };
    let multicast = if multicast { Some(ins.src(Ty::U16)?) } else { None };
    if ins.has("L2::cache_hint") {
        ins.src(Ty::B64)?;
    }
    Ok(Op::Bulk(Box::new(Bulk { dst, src, size, mbar, reduce: reduction, multicast })))
}

fn prefetch(ins: &mut Ins) -> Decoded {
    ins.flag("L2");
    let space = ins.parsed(Space::parse).unwrap_or(Space::Global);
    ins.cache_hints();
    if ins.flag("tensor") {
        let dims = dimensions(ins)?;
        ins.flag("tile");
        map_and_coordinates(ins, dims)?;
    } else {
        ins.address(space)?;
        ins.src(Ty::U32)?;
    }
    if ins.has("L2::cache_hint") {
        ins.src(Ty::B64)?;
    }
    Ok(Op::Nop)
}

fn dimensions(ins: &mut Ins) -> Result<usize, PtxError> {
    match ins.choice(&[("1d", 1), ("2d", 2), ("3d", 3), ("4d", 4), ("5d", 5)]) {
        Some(dims) => Ok(dims),
        None => ins.unsupported(),
    }
}

fn reduce_op(ins: &mut Ins) -> Result<AtomOp, PtxError> {
    let op = ins.choice(&[
        ("add", AtomOp::Add),
        ("min", AtomOp::Min),
        ("max", AtomOp::Max),
        ("inc", AtomOp::Inc),
        ("dec", AtomOp::Dec),
        ("and", AtomOp::And),
        ("or", AtomOp::Or),
        ("xor", AtomOp::Xor),
    ]);
    match op {
        Some(op) => Ok(op),
        None => ins.error("this reduction lacks an operation"),
    }
}

fn reduction(ins: &mut Ins) -> Result<(AtomOp, Ty), PtxError> {
    let op = reduce_op(ins)?;
    ins.flag("noftz");
    Ok((op, ins.ty()?))
}

/// `cp.async.bulk.tensor.Nd.shared::cluster.global.tile.mbarrier… [dst], [map, {x, y}], [mbar]`
/// and the store form with the operands exchanged.
fn tensor(ins: &mut Ins, reduce: bool) -> Decoded {
    let dims = dimensions(ins)?;
    let (to, from) = (ins.parsed(Space::parse), ins.parsed(Space::parse));
    let load = to == Some(Space::Shared);
    if from != Some(if load { Space::Global } else { Space::Shared }) {
        return ins.unsupported();
    }
    let reduce = if reduce { Some(reduce_op(ins)?) } else { None };
    ins.flag("tile");
    let by_mbarrier = ins.flag("mbarrier::complete_tx::bytes");
    let by_group = ins.flag("bulk_group");
    if load != by_mbarrier || load == by_group {
        return ins.unsupported();
    }
    let multicast = ins.flag("multicast::cluster");
    ins.cache_hints();
    let shared = if load { Some(ins.address(Space::Shared)?) } else { None };
    let (map, coords) = map_and_coordinates(ins, dims)?;
    let shared = match shared {
        Some(shared) => shared,
        None => ins.address(Space::Shared)?,
    };
    let mbar = if load { Some(ins.address(Space::Shared)?) } else { None };
    let multicast = if multicast { Some(ins.src(Ty::U16)?) } else { None };
    if ins.has("L2::cache_hint") {
        ins.src(Ty::B64)?;
    }
    Ok(Op::BulkTensor(Box::new(Tensor { load, map, coords, shared, mbar, multicast, reduce })))
}

fn map_and_coordinates(
    ins: &mut Ins,
    dims: usize,
) -> Result<(Address, Vec<crate::lanes::Slot>), PtxError> {
    let Operand::Address(items) = ins.take()? else {
        return ins.error("expected `[map, {coordinates}]`");
    };
    let [map, coords] = items.as_slice() else {
        return ins.error("expected `[map, {coordinates}]`");
    };
    let map = ins.address_item(map, Space::Generic)?;
    let list = match coords {
        Operand::Vector(list) => list.as_slice(),
        one => std::slice::from_ref(one),
    };
    if list.len() != dims {
        return ins.error(format!("expected {dims} coordinates, found {}", list.len()));
    }
    let coords = list.iter().map(|c| ins.src_of(c, Ty::S32)).collect::<Result<_, _>>()?;
    Ok((map, coords))
}

/// `tensormap.replace.tile.field.space.b1024.type [addr], [ordinal,] value`
pub(super) fn tensormap(ins: &mut Ins) -> Decoded {
    if ins.flag("cp_fenceproxy") {
        return map_copy(ins);
    }
    if !ins.flag("replace") || !ins.flag("tile") {
        return ins.unsupported();
    }
    let field = ins.choice(&[
        ("global_address", Field::Address),
        ("rank", Field::Rank),
        ("box_dim", Field::Box),
        ("global_dim", Field::Dim),
        ("global_stride", Field::Stride),
        ("element_stride", Field::ElementStride),
        ("elemtype", Field::Type),
        ("interleave_layout", Field::Interleave),
        ("swizzle_mode", Field::Swizzle),
        ("fill_mode", Field::Fill),
        ("swizzle_atomicity", Field::Atomicity),
    ]);
    let Some(field) = field else { return ins.unsupported() };
    let space = ins.parsed(Space::parse).unwrap_or(Space::Generic);
    ins.flag("b1024");
    let ty = ins.ty()?;
    let at = ins.address(space)?;
    let indexed = matches!(field, Field::Box | Field::Dim | Field::Stride | Field::ElementStride);
    let ordinal = if indexed { ins.immediate()? as u32 } else { 0 };
    let value = ins.src(ty)?;
    Ok(Op::TensorReplace(Box::new(TensorReplace {
        at,
        field,
        ordinal,
        value,
        wide: ty.bits() == 64,
    })))
}

/// `tensormap.cp_fenceproxy.global.shared::cta.tensormap::generic.release.gpu.sync.aligned [d], [s], 128`
fn map_copy(ins: &mut Ins) -> Decoded {
    let (to, from) = (ins.parsed(Space::parse), ins.parsed(Space::parse));
    let (Some(to), Some(from)) = (to, from) else { return ins.unsupported() };
    for word in ["tensormap::generic", "release", "sync", "aligned"] {
        ins.flag(word);
    }
    ins.scope();
    let (to, from) = (ins.address(to)?, ins.address(from)?);
    ins.immediate()?;
    Ok(Op::MapCopy(Box::new((to, from))))
}

// --- mbarrier ------------------------------------------------------------------------------

/// Semantics and scope of an mbarrier operation; the default is release or acquire in the block.
fn mbar_order(ins: &mut Ins) -> Order {
    let relaxed = ins.choice(&[
        ("acquire", false),
        ("release", false),
        ("acq_rel", false),
        ("relaxed", true),
    ]);
    let strict = relaxed != Some(true);
    let scope = ins.scope().unwrap_or(Scope::Cta);
    Order { strong: true, acquire: strict, release: strict, scope }
}

pub(super) fn mbarrier(ins: &mut Ins) -> Decoded {
    let kind = ins.choice(&[
        ("init", 0),
        ("inval", 1),
        ("arrive", 2),
        ("arrive_drop", 3),
        ("expect_tx", 4),
        ("complete_tx", 5),
        ("test_wait", 6),
        ("try_wait", 6),
        ("pending_count", 7),
    ]);
    let Some(kind) = kind else { return ins.unsupported() };
    // `mbarrier.arrive.expect_tx` also sets the expectation.
    let expects = matches!(kind, 2 | 3) && ins.flag("expect_tx");
    ins.flag("noComplete");
    let parity = ins.flag("parity");
    let order = mbar_order(ins);
    ins.parsed(Space::parse);
    ins.ty()?;
    let (op, at) = match kind {
        0 => {
            let at = shared_address(ins)?;
            (Mbar::Init { count: ins.src(Ty::U32)? }, at)
        }
        1 => (Mbar::Inval, shared_address(ins)?),
        2 | 3 => arrive(ins, kind == 3, expects)?,
        4 => {
            let at = shared_address(ins)?;
            (Mbar::ExpectTx { tx: ins.src(Ty::U32)? }, at)
        }
        5 => {
            let at = shared_address(ins)?;
            (Mbar::CompleteTx { tx: ins.src(Ty::U32)? }, at)
        }
        6 => wait(ins, parity, order)?,
        _ => {
            let (d, state) = (ins.dst(Ty::U32)?, ins.src(Ty::B64)?);
            (
                Mbar::PendingCount { d, state },
                Address { space: Space::Shared, base: None, offset: 0 },
            )
        }
    };
    Ok(Op::Mbar(Box::new(op), at))
}

fn arrive(ins: &mut Ins, drop: bool, expects: bool) -> Result<(Mbar, Address), PtxError> {
    // The state is left out for a barrier of another block: `mbarrier.arrive… _, [addr]` or `[addr]`.
    let state = match ins.peek() {
        Some(Operand::Address(_)) => None,
        Some(Operand::Sink) => {
            ins.take()?;
            None
        }
        _ => Some(ins.dst(Ty::B64)?),
    };
    let at = shared_address(ins)?;
    let expect = if expects { Some(ins.src(Ty::U32)?) } else { None };
    let count = if ins.left() > 0 { Some(ins.src(Ty::U32)?) } else { None };
    Ok((Mbar::Arrive { state, count, expect, drop }, at))
}

fn wait(ins: &mut Ins, parity: bool, order: Order) -> Result<(Mbar, Address), PtxError> {
    let p = ins.pred_dst()?;
    let at = shared_address(ins)?;
    let (state, parity) =
        if parity { (None, Some(ins.src(Ty::U32)?)) } else { (Some(ins.src(Ty::B64)?), None) };
    if ins.left() > 0 {
        // The time limit of `try_wait` is a hint.
        ins.src(Ty::U32)?;
    }
    Ok((Mbar::Wait { p, state, parity, order }, at))
}
