//! Barriers, fences and the instructions in which the lanes of a warp meet.

use super::ins::Ins;
use crate::error::PtxError;
use crate::lanes::Slot;
use crate::program::*;
use crate::syntax::ast::Operand;
use crate::types::Ty;

type Decoded = Result<Op, PtxError>;

/// `bar` and `barrier` in all forms, `bar.warp.sync`, `barrier.cluster`.
pub(super) fn bar(ins: &mut Ins) -> Decoded {
    if ins.flag("warp") {
        ins.flag("sync");
        let mask = ins.src(Ty::B32)?;
        return Ok(Op::Collective(Box::new(Collective::WarpSync), mask));
    }
    if ins.flag("cluster") {
        return cluster(ins);
    }
    let aligned = ins.flag("aligned") || ins.base() == "bar";
    ins.flag("cta");
    let sync = ins.flag("sync");
    let arrive = !sync && ins.flag("arrive");
    let red = !sync && !arrive && ins.flag("red");
    if red {
        return bar_red(ins, aligned);
    }
    if !sync && !arrive {
        return ins.unsupported();
    }
    let id = ins.src(Ty::U32)?;
    let count = if ins.left() > 0 { Some(ins.src(Ty::U32)?) } else { None };
    if arrive && count.is_none() {
        return ins.error("`bar.arrive` needs a thread count");
    }
    let kind = if sync { BarrierKind::Sync } else { BarrierKind::Arrive };
    Ok(Op::Barrier(Box::new(Barrier { kind, id, count, aligned })))
}

/// `bar.red.{popc.u32,and.pred,or.pred} d, a{, b}, {!}c`
fn bar_red(ins: &mut Ins, aligned: bool) -> Decoded {
    let popc = ins.flag("popc");
    let and = ins.flag("and");
    if !popc && !and && !ins.flag("or") {
        return ins.unsupported();
    }
    ins.ty()?;
    let d_slot = if popc { Some(ins.dst(Ty::U32)?) } else { None };
    let d_pred = if popc { None } else { Some(ins.pred_dst()?) };
    let id = ins.src(Ty::U32)?;
    let count = if ins.left() > 1 { Some(ins.src(Ty::U32)?) } else { None };
    let p = ins.pred_src()?;
    let kind = match (d_slot, d_pred) {
        (Some(d), _) => BarrierKind::Count { d, p },
        (None, Some(d)) => BarrierKind::Vote { d, p, and },
        (None, None) => return ins.unsupported(),
    };
    Ok(Op::Barrier(Box::new(Barrier { kind, id, count, aligned })))
}

fn cluster(ins: &mut Ins) -> Decoded {
    ins.flag("aligned");
    if ins.flag("arrive") {
        ins.choice(&[("relaxed", ()), ("release", ())]);
        return Ok(Op::ClusterArrive);
    }
    if ins.flag("wait") {
        ins.flag("acquire");
        return Ok(Op::ClusterWait);
    }
    ins.unsupported()
}

/// `membar.level`, `fence.sem.scope`, `fence.proxy.*`, `fence.mbarrier_init`.
pub(super) fn fence(ins: &mut Ins) -> Decoded {
    if ins.flag("proxy") {
        let shared = ins.has("async") && !ins.has("global");
        while ins
            .parsed(|m| {
                (m.starts_with("async")
                    || m.starts_with("tensormap")
                    || m.starts_with("alias")
                    || m.starts_with("sync_restrict")
                    || m.starts_with("shared")
                    || m.starts_with("global")
                    || matches!(m, "acquire" | "release" | "cta" | "cluster" | "gpu" | "sys"))
                .then_some(())
            })
            .is_some()
        {}
        while ins.left() > 0 {
            // `fence.proxy.tensormap::generic.acquire.gpu [addr], 128`
            ins.take()?;
        }
        return Ok(if shared { Op::ProxyFence } else { Op::Nop });
    }
    if ins.flag("mbarrier_init") {
        ins.flag("release");
        ins.flag("cluster");
        return Ok(Op::Fence { scope: Scope::Cluster });
    }
    ins.choice(&[("sc", ()), ("acq_rel", ()), ("acquire", ()), ("release", ())]);
    while ins.parsed(|m| m.starts_with("sync_restrict").then_some(())).is_some() {}
    let Some(scope) = ins.scope() else { return ins.unsupported() };
    Ok(Op::Fence { scope })
}

/// The member mask, which comes last; the forms before `.sync` address all active lanes.
fn member_mask(ins: &mut Ins, sync: bool) -> Result<Slot, PtxError> {
    if sync { ins.src(Ty::B32) } else { ins.error("only the `.sync` form exists from sm_70 on") }
}

pub(super) fn vote(ins: &mut Ins) -> Decoded {
    let sync = ins.flag("sync");
    let mode = ins.choice(&[("all", 0), ("any", 1), ("uni", 2), ("ballot", 3)]);
    ins.ty()?;
    let c = match mode {
        Some(3) => Collective::Ballot { d: ins.dst(Ty::B32)?, p: ins.pred_src()? },
        Some(0) => Collective::VoteAll { d: ins.pred_dst()?, p: ins.pred_src()? },
        Some(1) => Collective::VoteAny { d: ins.pred_dst()?, p: ins.pred_src()? },
        Some(_) => Collective::VoteUni { d: ins.pred_dst()?, p: ins.pred_src()? },
        None => return ins.unsupported(),
    };
    let mask = member_mask(ins, sync)?;
    Ok(Op::Collective(Box::new(c), mask))
}

pub(super) fn match_(ins: &mut Ins) -> Decoded {
    let any = ins.flag("any");
    if !any && !ins.flag("all") {
        return ins.unsupported();
    }
    let sync = ins.flag("sync");
    let ty = ins.ty()?;
    let wide = ty.bits() == 64;
    let c = if any {
        Collective::MatchAny { d: ins.dst(Ty::B32)?, a: ins.src(ty)?, wide }
    } else {
        let (d, p) = match ins.take()? {
            Operand::Pair(d, p) => (Some(ins.dst_of(d, 32)?.0), ins.pred_dst_of(p)?),
            d => (Some(ins.dst_of(d, 32)?.0), None),
        };
        Collective::MatchAll { d, p, a: ins.src(ty)?, wide }
    };
    let mask = member_mask(ins, sync)?;
    Ok(Op::Collective(Box::new(c), mask))
}

pub(super) fn activemask(ins: &mut Ins) -> Decoded {
    ins.ty()?;
    Ok(Op::ActiveMask(ins.dst(Ty::B32)?))
}

pub(super) fn redux(ins: &mut Ins) -> Decoded {
    let sync = ins.flag("sync");
    let op = ins.choice(&[
        ("add", AtomOp::Add),
        ("min", AtomOp::Min),
        ("max", AtomOp::Max),
        ("and", AtomOp::And),
        ("or", AtomOp::Or),
        ("xor", AtomOp::Xor),
    ]);
    let Some(op) = op else { return ins.unsupported() };
    let ty = ins.ty()?;
    if !matches!(ty, Ty::B32 | Ty::U32 | Ty::S32) {
        return ins.unsupported();
    }
    let (d, a) = (ins.dst(ty)?, ins.src(ty)?);
    let mask = member_mask(ins, sync)?;
    Ok(Op::Collective(Box::new(Collective::Redux { op, signed: ty == Ty::S32, d, a }), mask))
}

/// `shfl.sync.mode.b32 d[|p], a, b, c, membermask`
pub(super) fn shfl(ins: &mut Ins) -> Decoded {
    let sync = ins.flag("sync");
    let mode = ins.choice(&[
        ("up", Shuffle::Up),
        ("down", Shuffle::Down),
        ("bfly", Shuffle::Bfly),
        ("idx", Shuffle::Idx),
    ]);
    let Some(mode) = mode else { return ins.unsupported() };
    ins.ty()?;
    let (d, p) = match ins.take()? {
        Operand::Pair(d, p) => (ins.dst_of(d, 32)?.0, ins.pred_dst_of(p)?),
        d => (ins.dst_of(d, 32)?.0, None),
    };
    let (a, b, c) = (ins.src(Ty::B32)?, ins.src(Ty::B32)?, ins.src(Ty::B32)?);
    ins.flow.rule = FlowRule::Own;
    let mask = member_mask(ins, sync)?;
    Ok(Op::Collective(Box::new(Collective::Shuffle { mode, d, p, a, b, c }), mask))
}

/// `elect.sync d|p, membermask`
pub(super) fn elect(ins: &mut Ins) -> Decoded {
    let sync = ins.flag("sync");
    let (d, p) = match ins.take()? {
        Operand::Pair(d, p) => {
            let d = match &**d {
                Operand::Sink => None,
                d => Some(ins.dst_of(d, 32)?.0),
            };
            (d, ins.pred_dst_of(p)?)
        }
        _ => return ins.error("`elect` needs `d|p`"),
    };
    let Some(p) = p else { return ins.unsupported() };
    let mask = member_mask(ins, sync)?;
    Ok(Op::Collective(Box::new(Collective::Elect { d, p }), mask))
}
