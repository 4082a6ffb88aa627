//! Barriers of a block and of a cluster.

use super::engine::Engine;
use super::step::Then;
use super::unit::Unit;
use super::warp::{Why, lanes_of};
use crate::check::FindingKind;
use crate::check::clock::Joined;
use crate::program::{Barrier, BarrierKind, Op};

/// One of the sixteen barriers of a block.
#[derive(Debug, Default)]
pub(crate) struct BarrierState {
    /// Thread count given by the arrivals; `None`: all threads of the block.
    pub(crate) expected: Option<u32>,
    pub(crate) arrived: u32,
    /// Warps and lanes that wait for completion, and the instruction they wait at.
    waiting: Vec<(usize, u32, u32)>,
    joined: Joined,
    /// `bar.red`: votes so far.
    count: u32,
    and: bool,
    or: bool,
    /// Lanes of each warp that arrived in this generation.
    arrivals: Vec<(usize, u32)>,
}

impl Unit {
    pub(crate) fn barrier(
        &mut self,
        engine: &Engine,
        w: usize,
        pc: u32,
        (active, idle): (u32, u32),
        barrier: &Barrier,
    ) -> Then {
        let mut lanes = active;
        if barrier.aligned {
            match self.gather_warp(w, pc, active, idle) {
                Some(all) => lanes = all,
                None => return Then::Pick,
            }
        }
        lanes_of(idle).for_each(|l| self.warps[w].pcs[l] = pc + 1);
        let warp = &self.warps[w];
        let first = lanes.trailing_zeros() as usize;
        let id = warp.regs.u32_at(barrier.id, first);
        let count = barrier.count.map(|c| warp.regs.u32_at(c, first));
        let born = warp.born;
        if id > 15 || count.is_some_and(|c| c == 0 || c % 32 != 0 && c != engine.block_threads()) {
            self.report(engine, FindingKind::BadOperand, (w, first, pc), None, || match count {
                Some(c) if id <= 15 => {
                    format!("barrier thread count {c} is not a multiple of the warp size")
                }
                _ => format!("barrier {id} does not exist; there are sixteen"),
            });
            self.aborted = true;
            return Then::Pick;
        }
        self.arrive(engine, (w, first, pc), lanes, barrier, id, count);
        // The hardware counts warps: an aligned arrival stands for every lane of the warp.
        let weight = match (barrier.aligned, count.is_some()) {
            (true, true) if lanes & born == born => 32,
            (true, true) => 32,
            _ => lanes.count_ones(),
        };
        let cta = self.warps[w].cta;
        self.ctas[cta].barriers[id as usize].arrived += weight;
        if matches!(barrier.kind, BarrierKind::Arrive) {
            lanes_of(lanes).for_each(|l| self.warps[w].pcs[l] = pc + 1);
        } else {
            self.warps[w].wait(pc, lanes, Why::Barrier(id));
            self.ctas[cta].barriers[id as usize].waiting.push((w, lanes, pc));
        }
        self.complete_if_full(engine, cta, id);
        Then::Pick
    }

    /// Records an arrival: clocks, votes, and whether it fits the others.
    fn arrive(
        &mut self,
        engine: &Engine,
        who: super::report::Who,
        lanes: u32,
        barrier: &Barrier,
        id: u32,
        count: Option<u32>,
    ) {
        let (w, _, pc) = who;
        let cta = self.warps[w].cta;
        let state = &mut self.ctas[cta].barriers[id as usize];
        let opening = state.arrivals.is_empty();
        let differs = !opening && state.expected != count;
        if opening {
            state.expected = count;
            (state.count, state.and, state.or) = (0, true, false);
        }
        state.arrivals.push((w, lanes));
        if let BarrierKind::Count { p, .. } | BarrierKind::Vote { p, .. } = barrier.kind {
            let votes = self.warps[w].regs.pred(p) & lanes;
            state.count += votes.count_ones();
            state.and &= votes == lanes;
            state.or |= votes != 0;
        }
        state.joined.arrive(&mut self.warps[w].clock);
        if differs {
            let expected = state.expected;
            self.report(engine, FindingKind::BarrierDivergence, who, None, || {
                let show = |c: Option<u32>| c.map_or("all".into(), |c| c.to_string());
                format!(
                    "barrier {id} expects {} threads here and {} elsewhere",
                    show(count),
                    show(expected)
                )
            });
        }
        let elsewhere =
            self.ctas[cta].barriers[id as usize].waiting.iter().find(|x| x.2 != pc).map(|x| x.2);
        if let (Some(other), None, 0, true) = (elsewhere, count, id, barrier.aligned) {
            let line = engine.program.code[other as usize].line;
            self.report(engine, FindingKind::BarrierDivergence, who, None, || {
                format!("other warps of the block wait at a different barrier, on line {line}")
            });
        }
    }

    fn complete_if_full(&mut self, engine: &Engine, cta: usize, id: u32) {
        let live = self.ctas[cta].live;
        let state = &mut self.ctas[cta].barriers[id as usize];
        if state.arrivals.is_empty() {
            return;
        }
        let full = match state.expected {
            Some(expected) => state.arrived >= expected,
            None => {
                state
                    .arrivals
                    .iter()
                    .map(|(w, lanes)| (lanes & self.warps[*w].live).count_ones())
                    .sum::<u32>()
                    >= live
            }
        };
        if !full {
            return;
        }
        let done = std::mem::take(state);
        for (w, lanes, pc) in done.waiting {
            let warp = &mut self.warps[w];
            if let Op::Barrier(barrier) = &engine.program.code[pc as usize].op {
                match barrier.kind {
                    BarrierKind::Count { d, .. } => warp.regs.put(d, lanes, &[done.count; 32]),
                    BarrierKind::Vote { d, and, .. } => {
                        let value = if and { done.and } else { done.or };
                        warp.regs.put_pred(d, lanes, if value { u32::MAX } else { 0 });
                    }
                    BarrierKind::Sync | BarrierKind::Arrive => {}
                }
            }
            let live = warp.live;
            done.joined.depart(&mut warp.clock, lanes, live);
            warp.release(lanes);
        }
    }

    /// Threads of warp `w` exited: whoever waited for all threads may now go on. That is what the
    /// hardware does, and sound for threads that left at once; but a thread that worked and then
    /// left without the barrier shows that the barrier stands in divergent code.
    pub(crate) fn after_exit(&mut self, engine: &Engine, w: usize) {
        self.after_exit_in_warp(engine, w);
        let cta = self.warps[w].cta;
        for id in 0..16 {
            let state = &self.ctas[cta].barriers[id as usize];
            let Some(&(waiter, lanes, pc)) = state.waiting.first() else { continue };
            let worked = self.warps[w].worked & !self.warps[w].live;
            if state.expected.is_none() && worked != 0 {
                let who = (waiter, lanes.trailing_zeros() as usize, pc);
                let (index, lane) = (self.warps[w].index, worked.trailing_zeros());
                self.report(engine, FindingKind::BarrierDivergence, who, None, || {
                    format!(
                        "thread {} left the kernel without coming to this barrier",
                        index * 32 + lane
                    )
                });
            }
            self.complete_if_full(engine, cta, id);
        }
        self.complete_cluster();
    }

    /// Lanes that waited for the whole warp, or for members that are gone, may now be complete:
    /// let them try again.
    fn after_exit_in_warp(&mut self, engine: &Engine, w: usize) {
        let warp = &mut self.warps[w];
        let live = warp.live;
        let ready: u32 = warp
            .waits
            .iter()
            .filter(|x| match x.why {
                Why::Warp => x.lanes & live == live,
                Why::Members(mask) => {
                    let there =
                        warp.waits.iter().filter(|y| y.why == x.why).fold(0, |m, y| m | y.lanes);
                    there & mask & live == mask & live
                }
                _ => false,
            })
            .fold(0, |m, x| m | x.lanes);
        let worked = warp.worked & warp.born & !live;
        let aligned =
            warp.waits.iter().find(|x| x.why == Why::Warp && x.lanes & ready != 0).copied();
        warp.unwait(ready);
        if let (Some(wait), true) = (aligned, worked != 0) {
            let who = (w, wait.lanes.trailing_zeros() as usize, wait.pc);
            self.report(engine, FindingKind::BarrierDivergence, who, None, || {
                format!("lanes {worked:#010x} of the warp left the kernel without coming here")
            });
        }
    }

    // --- clusters -----------------------------------------------------------------------------

    pub(crate) fn cluster_arrive(&mut self, w: usize, active: u32) -> Then {
        let barrier = &mut self.cluster_barrier;
        barrier.arrived += active.count_ones();
        barrier.joined.arrive(&mut self.warps[w].clock);
        lanes_of(active).for_each(|l| barrier.arrivals[w][l] = barrier.phase);
        self.complete_cluster();
        Then::Next
    }

    pub(crate) fn complete_cluster(&mut self) {
        let live: u32 = self.ctas.iter().map(|c| c.live).sum();
        let barrier = &mut self.cluster_barrier;
        if barrier.arrived == 0 || barrier.arrived < live {
            return;
        }
        barrier.arrived = 0;
        barrier.phase += 1;
        barrier.last = std::mem::take(&mut barrier.joined);
        for warp in &mut self.warps {
            let waiting =
                warp.waits.iter().filter(|x| x.why == Why::Cluster).fold(0, |m, x| m | x.lanes);
            if waiting != 0 {
                let live = warp.live;
                barrier.last.depart(&mut warp.clock, waiting, live);
                warp.release(waiting);
            }
        }
    }

    pub(crate) fn cluster_wait(
        &mut self,
        engine: &Engine,
        w: usize,
        pc: u32,
        active: u32,
        idle: u32,
    ) -> Then {
        lanes_of(idle).for_each(|l| self.warps[w].pcs[l] = pc + 1);
        let barrier = &mut self.cluster_barrier;
        let arrivals = &mut barrier.arrivals[w];
        let early = lanes_of(active).any(|l| arrivals[l] == barrier.phase);
        let absent = lanes_of(active).find(|&l| arrivals[l] == u64::MAX);
        lanes_of(active).for_each(|l| arrivals[l] = u64::MAX);
        if let Some(lane) = absent {
            self.report(engine, FindingKind::BarrierDivergence, (w, lane, pc), None, || {
                "waits at the cluster barrier without having arrived".into()
            });
        }
        if early {
            self.warps[w].wait(pc, active, Why::Cluster);
            return Then::Pick;
        }
        let warp = &mut self.warps[w];
        let live = warp.live;
        self.cluster_barrier.last.depart(&mut warp.clock, active, live);
        lanes_of(active).for_each(|l| warp.pcs[l] = pc + 1);
        Then::Pick
    }
}
