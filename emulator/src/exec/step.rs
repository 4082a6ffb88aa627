//! The inner loop: picks the lanes of a warp that run together, and executes their instruction.

use super::engine::Engine;
use super::undefined::propagate;
use super::unit::Unit;
use super::warp::{Why, lanes_of};
use crate::check::FindingKind;
use crate::profile::Counts;
use crate::program::{FlowRule, Inst, Op};
use crate::types::Space;

/// What happens after an instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// All lanes go on with the next instruction.
    Next,
    /// All lanes jump.
    Jump(u32),
    /// The instruction set the counters itself; pick lanes anew.
    Pick,
    /// As [`Then::Next`], but let another warp run: this one polls.
    Yield,
}

/// A poll counts as so many instructions, so that a block that only polls is soon found stuck.
const POLL: u64 = 200;
/// Instructions that lanes run while others of their warp wait to run, before those get a turn.
const FAIRNESS: u32 = 20_000;

impl Unit {
    /// Runs warp `w` for at most `budget` instructions; returns how many it ran.
    pub(crate) fn run_warp(
        &mut self,
        engine: &Engine,
        counts: &mut Counts,
        w: usize,
        budget: u64,
    ) -> u64 {
        let mut used = 0;
        while used < budget && !self.aborted {
            let Some((mask, pc, rival)) = self.pick(w) else { break };
            let (ran, yielded) =
                self.run_group(engine, counts, w, (mask, pc, rival), budget - used);
            used += ran;
            if yielded {
                self.polled = true;
                used += POLL;
                break;
            }
        }
        used
    }

    /// The lanes to run: deepest call first, then lowest counter. Also the lowest counter among the
    /// other lanes at that depth, where the group must stop to be joined.
    fn pick(&mut self, w: usize) -> Option<(u32, u32, u32)> {
        let warp = &mut self.warps[w];
        let mut runnable = warp.runnable() & !warp.deferred;
        if runnable == 0 {
            warp.deferred = 0;
            runnable = warp.runnable();
        }
        if runnable == 0 {
            return None;
        }
        let depth = lanes_of(runnable).map(|l| warp.depth[l]).max()?;
        let deep: u32 =
            lanes_of(runnable).filter(|&l| warp.depth[l] == depth).fold(0, |m, l| m | 1 << l);
        let pc = lanes_of(deep).map(|l| warp.pcs[l]).min()?;
        let mask = lanes_of(deep).filter(|&l| warp.pcs[l] == pc).fold(0, |m, l| m | 1 << l);
        let rival = lanes_of(deep & !mask).map(|l| warp.pcs[l]).min().unwrap_or(u32::MAX);
        Some((mask, pc, rival))
    }

    fn set_pcs(&mut self, w: usize, lanes: u32, pc: u32) {
        lanes_of(lanes).for_each(|l| self.warps[w].pcs[l] = pc);
    }

    /// Runs one group of lanes until it meets others, splits, waits or uses up the budget.
    fn run_group(
        &mut self,
        engine: &Engine,
        counts: &mut Counts,
        w: usize,
        (mask, start, rival): (u32, u32, u32),
        budget: u64,
    ) -> (u64, bool) {
        let code = &engine.program.code;
        let mut pc = start;
        let mut used = 0;
        let others = self.warps[w].runnable() & !mask;
        loop {
            let inst = &code[pc as usize];
            used += 1;
            let then = self.execute(engine, counts, w, pc, mask, inst);
            match then {
                Then::Next | Then::Yield => pc += 1,
                Then::Jump(target) => pc = target,
                Then::Pick => return (used, false),
            }
            if others != 0 && used >= u64::from(FAIRNESS) {
                self.warps[w].deferred |= mask;
                self.set_pcs(w, mask, pc);
                return (used, false);
            }
            if then == Then::Yield && others != 0 {
                // These lanes poll; the lane they wait for may be in this very warp.
                self.warps[w].deferred |= mask;
                self.set_pcs(w, mask, pc);
                return (used, false);
            }
            if then == Then::Yield || pc >= rival || used >= budget {
                self.set_pcs(w, mask, pc);
                return (used, then == Then::Yield);
            }
        }
    }

    /// Executes one instruction for the lanes of `mask`, guard included.
    #[inline]
    fn execute(
        &mut self,
        engine: &Engine,
        counts: &mut Counts,
        w: usize,
        pc: u32,
        mask: u32,
        inst: &Inst,
    ) -> Then {
        let regs = &mut self.warps[w].regs;
        let mut active = mask;
        if let Some(guard) = inst.guard {
            active &= regs.pred(guard);
            if regs.tainted && regs.pred_undef[guard.0 as usize] & mask != 0 {
                self.undefined_guard(engine, w, pc, mask, inst);
            }
        }
        counts.executed(pc, active);
        if let Op::Alu(alu) = &inst.op {
            let regs = &mut self.warps[w].regs;
            if active != 0 {
                if regs.tainted {
                    propagate(regs, inst, active);
                }
                alu(regs, active);
            }
            if engine.program.has_wgmma {
                if !self.warps[w].wgmma.in_flight.is_empty() {
                    self.check_wgmma_registers(engine, w, pc, active, &inst.flow);
                }
                self.mark_wgmma_registers(engine, w, pc);
            }
            return Then::Next;
        }
        if active == 0 {
            return Then::Next;
        }
        let idle = mask & !active;
        self.dispatch(engine, counts, w, pc, (active, idle), inst)
    }

    fn dispatch(
        &mut self,
        engine: &Engine,
        counts: &mut Counts,
        w: usize,
        pc: u32,
        (active, idle): (u32, u32),
        inst: &Inst,
    ) -> Then {
        if engine.program.has_wgmma && !inst.op.is_wgmma() {
            if !self.warps[w].wgmma.in_flight.is_empty() {
                self.check_wgmma_registers(engine, w, pc, active, &inst.flow);
            }
            self.mark_wgmma_registers(engine, w, pc);
        }
        let regs = &mut self.warps[w].regs;
        let own =
            matches!(inst.op, Op::Collective(..) | Op::Call(_)) || inst.flow.rule == FlowRule::Own;
        if regs.tainted && !own {
            inst.flow.writes.iter().for_each(|&d| regs.set_undefined(d, active, 0));
            inst.flow.pred_writes.iter().for_each(|&d| regs.pred_undef[d as usize] &= !active);
        }
        match &inst.op {
            Op::Alu(_) | Op::Nop => Then::Next,
            Op::Bra(target) => self.branch(w, pc, active, idle, *target),
            Op::BrxIdx { index, targets } => {
                self.branch_indexed(engine, w, pc, (active, idle), *index, targets)
            }
            Op::Call(call) => self.call(engine, w, pc, active, idle, call),
            Op::Ret => self.ret(engine, w, pc, active, idle),
            Op::Exit => self.exit(engine, w, pc, active, idle),
            Op::Trap => {
                let place = (w, active.trailing_zeros() as usize, pc);
                self.report(engine, FindingKind::Trap, place, None, || {
                    "the program executed `trap`".into()
                });
                self.exit(engine, w, pc, active, idle)
            }
            Op::Clock { d, wide } => {
                self.clock_ticks += 1;
                let now = self.clock_ticks * 16;
                let regs = &mut self.warps[w].regs;
                if *wide {
                    regs.put(*d, active, &[now; 32])
                } else {
                    regs.put(*d, active, &[now as u32; 32])
                }
                Then::Next
            }
            Op::Sleep => Then::Yield,
            Op::Load(load) => self.load(engine, counts, w, pc, active, load),
            Op::Store(store) => self.store(engine, counts, w, pc, active, store),
            Op::Atomic(atomic) => self.atomic(engine, counts, w, pc, active, atomic),
            Op::CopyAsync(copy) => self.copy_async(engine, counts, w, pc, active, copy),
            Op::CommitGroup => {
                self.warps[w].copies.commit(active);
                Then::Next
            }
            Op::WaitGroup(pending) => self.wait_group(engine, w, active, *pending),
            Op::Barrier(barrier) => self.barrier(engine, w, pc, (active, idle), barrier),
            Op::ClusterArrive => self.cluster_arrive(w, active),
            Op::ClusterWait => self.cluster_wait(engine, w, pc, active, idle),
            Op::Fence { scope } => {
                let wide = *scope >= crate::program::Scope::Gpu;
                self.warps[w].clock.fence(wide);
                Then::Next
            }
            Op::ProxyFence => {
                self.proxy_epoch += 1;
                Then::Next
            }
            Op::Collective(collective, members) => {
                self.collective(engine, w, pc, (active, idle), collective, *members)
            }
            Op::ActiveMask(d) => {
                self.warps[w].regs.put(*d, active, &[active; 32]);
                Then::Next
            }
            Op::Matrix(matrix) => self.matrix(engine, counts, w, pc, (active, idle), matrix),
            Op::Mbar(op, at) => self.mbarrier(engine, w, pc, active, op, at),
            Op::StoreAsync(store) => self.store_async(engine, w, pc, active, store),
            Op::Bulk(bulk) => self.bulk(engine, w, pc, active, bulk),
            Op::BulkTensor(tensor) => self.bulk_tensor(engine, w, pc, active, tensor),
            Op::BulkCommit => {
                self.warps[w].copies.commit_bulk(active);
                Then::Next
            }
            Op::BulkWait(pending) => self.wait_bulk(engine, w, active, *pending),
            Op::TensorReplace(replace) => self.tensor_replace(engine, w, pc, active, replace),
            Op::MapCopy(both) => self.map_copy(engine, w, pc, active, &both.0, &both.1),
            Op::IsSpace { p, a, space } => self.is_space(w, active, *p, *a, *space),
            Op::Alloca { d, size, align } => self.alloca(w, active, *d, *size, *align),
            Op::StackSave(d) => {
                for lane in lanes_of(active) {
                    let top = u64::from(self.warps[w].stack(lane).top);
                    self.warps[w].regs.set_u64(*d, lane, top);
                }
                Then::Next
            }
            Op::StackRestore(a) => {
                for lane in lanes_of(active) {
                    let top = self.warps[w].regs.u64_at(*a, lane) as u32;
                    self.warps[w].stack(lane).top = top;
                }
                Then::Next
            }
        }
    }

    fn branch(&mut self, w: usize, pc: u32, active: u32, idle: u32, target: u32) -> Then {
        if idle == 0 {
            return Then::Jump(target);
        }
        self.set_pcs(w, active, target);
        self.set_pcs(w, idle, pc + 1);
        Then::Pick
    }

    fn branch_indexed(
        &mut self,
        engine: &Engine,
        w: usize,
        pc: u32,
        (active, idle): (u32, u32),
        index: u32,
        targets: &[u32],
    ) -> Then {
        self.set_pcs(w, idle, pc + 1);
        for lane in lanes_of(active) {
            let i = self.warps[w].regs.u32_at(index, lane) as usize;
            let Some(&target) = targets.get(i) else {
                self.report(engine, FindingKind::BadOperand, (w, lane, pc), None, || {
                    format!("branch index {i} with {} targets", targets.len())
                });
                self.set_pcs(w, 1 << lane, pc + 1);
                continue;
            };
            self.set_pcs(w, 1 << lane, target);
        }
        Then::Pick
    }

    fn is_space(&mut self, w: usize, active: u32, p: u32, a: u32, space: Space) -> Then {
        let regs = &mut self.warps[w].regs;
        let addresses: [u64; 32] = regs.get(a);
        let hit = (0..32)
            .fold(0, |m, i| m | u32::from(super::access::resolve(addresses[i]).0 == space) << i);
        regs.put_pred(p, active, hit);
        Then::Next
    }

    fn alloca(&mut self, w: usize, active: u32, d: u32, size: u32, align: u64) -> Then {
        for lane in lanes_of(active) {
            let size = self.warps[w].regs.u64_at(size, lane);
            let stack = self.warps[w].stack(lane);
            let at = u64::from(stack.top).next_multiple_of(align);
            stack.top = (at + size.min(1 << 24)) as u32;
            self.warps[w].regs.set_u64(d, lane, at);
        }
        Then::Next
    }

    /// Lanes leave for good; barriers that waited only for them complete.
    pub(crate) fn exit(
        &mut self,
        engine: &Engine,
        w: usize,
        pc: u32,
        active: u32,
        idle: u32,
    ) -> Then {
        self.set_pcs(w, idle, pc + 1);
        let warp = &mut self.warps[w];
        warp.live &= !active;
        let cta = warp.cta;
        self.ctas[cta].live -= active.count_ones();
        self.events += 1;
        self.after_exit(engine, w);
        Then::Pick
    }

    fn undefined_guard(&mut self, engine: &Engine, w: usize, pc: u32, mask: u32, inst: &Inst) {
        let Some((pred, _)) = inst.guard else { return };
        let regs = &mut self.warps[w].regs;
        let bad = regs.pred_undef[pred as usize] & mask;
        // A guarded move only makes its result undefined; anything else acts on the value.
        if let Op::Alu(_) = inst.op {
            for &d in &inst.flow.writes {
                regs.set_undefined(d, bad, u32::MAX);
            }
            for &d in &inst.flow.pred_writes {
                regs.pred_undef[d as usize] |= bad;
            }
            return;
        }
        regs.pred_undef[pred as usize] &= !bad;
        self.report_undefined(
            engine,
            (w, bad.trailing_zeros() as usize, pc),
            "decides a branch or a guard",
        );
    }

    /// Lanes that must all be there (aligned instructions): waits unless `active` is every live
    /// lane of the warp. Returns the lanes to execute with.
    pub(crate) fn gather_warp(&mut self, w: usize, pc: u32, active: u32, idle: u32) -> Option<u32> {
        let warp = &mut self.warps[w];
        let there =
            warp.waits.iter().find(|x| x.pc == pc && x.why == Why::Warp).map_or(0, |x| x.lanes);
        let all = active | there;
        if all & warp.live == warp.live {
            warp.unwait(there);
            return Some(all);
        }
        let next = pc + 1;
        warp.wait(pc, active, Why::Warp);
        lanes_of(idle).for_each(|l| warp.pcs[l] = next);
        None
    }

    /// After a gathered instruction: all of `lanes` go on together.
    pub(crate) fn after_gather(
        &mut self,
        w: usize,
        pc: u32,
        lanes: u32,
        active: u32,
        idle: u32,
    ) -> Then {
        if lanes == active && idle == 0 {
            return Then::Next;
        }
        self.set_pcs(w, lanes | idle, pc + 1);
        Then::Pick
    }
}
