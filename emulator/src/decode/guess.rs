//! Finds the loads that only guess what a compare-and-swap will meet.
//!
//! `old = *p; do { seen = old; old = atomicCAS(p, seen, f(seen)); } while (old != seen)` is how CUDA's guide and headers build the
//! atomics that the hardware lacks. Its first read is an ordinary one that races with other threads' swaps, and does no
//! harm: a wrong guess makes the swap fail. The race check treats such a load as a relaxed one.

use crate::lanes::Slot;
use crate::program::{AtomOp, Atomic, Inst, Op};

/// Marks every weak load whose value reaches, through moves alone, the comparand of a `cas` with the same address and type.
pub(super) fn mark(code: &mut [Inst]) {
    let guesses: Vec<usize> = code
        .iter()
        .filter_map(|inst| match &inst.op {
            Op::Atomic(cas) if cas.op == AtomOp::Cas => Some(guesses_of(code, cas)),
            _ => None,
        })
        .flatten()
        .collect();
    for at in guesses {
        if let Op::Load(load) = &mut code[at].op {
            load.is_guess = true;
        }
    }
}

fn guesses_of(code: &[Inst], cas: &Atomic) -> Vec<usize> {
    let sources = moved_into(code, cas.src[0]);
    let is_guess = |inst: &Inst| match &inst.op {
        Op::Load(load) => {
            load.dst.len() == 1
                && load.ty.bits() == cas.ty.bits()
                && load.at.base == cas.at.base
                && load.at.offset == cas.at.offset
                && load.dst[0].is_some_and(|(slot, _)| sources.contains(&slot))
        }
        _ => false,
    };
    (0..code.len()).filter(|&i| is_guess(&code[i])).collect()
}

/// Registers whose value moves may carry into `slot`, itself among them.
fn moved_into(code: &[Inst], slot: Slot) -> Vec<Slot> {
    let mut known = vec![slot];
    let mut at = 0;
    while let Some(&slot) = known.get(at) {
        for inst in code.iter().filter(|i| i.is_move && i.flow.writes.contains(&slot)) {
            let new: Vec<Slot> =
                inst.flow.reads.iter().copied().filter(|read| !known.contains(read)).collect();
            known.extend(new);
        }
        at += 1;
    }
    known
}
