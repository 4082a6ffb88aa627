//! `mbarrier` objects (PTX ISA, "Parallel Synchronization and Communication: mbarrier").
//!
//! Their state lives beside shared memory; the 64 bits in memory hold only what programs may look
//! at. Asynchronous copies that complete on a barrier are delivered when a thread waits for it.

use super::engine::Engine;
use super::step::Then;
use super::unit::Unit;
use super::warp::lanes_of;
use crate::check::FindingKind;
use crate::check::clock::Joined;
use crate::check::shadow::Kind;
use crate::program::{Address, Mbar, Order};
use crate::types::Space;

/// One barrier object.
#[derive(Debug, Default)]
pub(crate) struct Mbarrier {
    expected: u32,
    pending: u32,
    tx: i64,
    pub(crate) phase: u64,
    joined: Joined,
    last: Joined,
}

impl Mbarrier {
    /// Completes the phase if everything has arrived.
    fn settle(&mut self) -> bool {
        if self.pending != 0 || self.tx != 0 {
            return false;
        }
        self.phase += 1;
        self.pending = self.expected;
        self.last = std::mem::take(&mut self.joined);
        true
    }
}

impl Unit {
    pub(crate) fn mbarrier(
        &mut self,
        engine: &Engine,
        w: usize,
        pc: u32,
        active: u32,
        op: &Mbar,
        at: &Address,
    ) -> Then {
        if let Mbar::PendingCount { d, state } = op {
            for lane in lanes_of(active) {
                let state = self.warps[w].regs.u64_at(*state, lane);
                self.warps[w].regs.set_u32(*d, lane, (state >> 32) as u32);
            }
            return Then::Next;
        }
        let addresses = self.addresses(w, at);
        let mut then = Then::Next;
        for lane in lanes_of(active) {
            let address = match at.space {
                Space::Generic => super::access::resolve(addresses[lane]).1,
                _ => addresses[lane],
            };
            let cta = self.warps[w].cta;
            let Some((cta, offset)) = self.shared_at(engine, cta, address, 8) else {
                self.report(engine, FindingKind::OutOfBounds, (w, lane, pc), Some(address), || {
                    "an mbarrier outside shared memory".into()
                });
                continue;
            };
            if offset % 8 != 0 {
                self.report(engine, FindingKind::Misaligned, (w, lane, pc), Some(address), || {
                    "an mbarrier needs an address that is a multiple of 8".into()
                });
                continue;
            }
            // The object itself: whoever uses it must have seen its initialisation, and whoever
            // takes the memory back must have seen the last use.
            let (kind, strong) = match op {
                Mbar::Init { .. } | Mbar::Inval => (Kind::Write, false),
                _ => (Kind::Atomic, true),
            };
            let order = Order { strong, ..Order::default() };
            self.check_shared(engine, (w, lane, pc), (cta, offset), 8, kind, order);
            if !self.one(engine, (w, lane, pc), (cta, offset as u32), op) {
                then = Then::Yield;
            }
        }
        then
    }

    /// One lane's operation; false if it should let others run.
    fn one(
        &mut self,
        engine: &Engine,
        who: super::report::Who,
        key: (usize, u32),
        op: &Mbar,
    ) -> bool {
        let (w, lane, _) = who;
        let value = |unit: &Self, slot: u32| unit.warps[w].regs.u32_at(slot, lane);
        if let Mbar::Init { count } = op {
            let expected = value(self, *count);
            let new = Mbarrier { expected, pending: expected, ..Mbarrier::default() };
            self.ctas[key.0].mbarriers.insert(key.1, new);
            let offset = key.1 as usize;
            self.ctas[key.0].written.set(offset, 8, true);
            self.events += 1;
            return true;
        }
        if !self.ctas[key.0].mbarriers.contains_key(&key.1) {
            self.report(engine, FindingKind::Uninitialised, who, Some(u64::from(key.1)), || {
                "this mbarrier was never initialised".into()
            });
            return false;
        }
        match *op {
            Mbar::Inval => {
                self.ctas[key.0].mbarriers.remove(&key.1);
            }
            Mbar::Arrive { state, count, expect, drop } => {
                let tx = expect.map_or(0, |e| i64::from(value(self, e)));
                let n = count.map_or(1, |c| value(self, c));
                let token = self.arrive_mbarrier(engine, who, key, (n, tx, drop));
                if let Some(state) = state {
                    self.warps[w].regs.set_u64(state, lane, token);
                }
            }
            Mbar::ExpectTx { tx } => {
                let tx = i64::from(value(self, tx));
                self.with(key, |m| m.tx += tx);
            }
            Mbar::CompleteTx { tx } => {
                let tx = i64::from(value(self, tx));
                self.complete_tx(key, tx, w);
            }
            Mbar::Wait { p, state, parity, order } => {
                let state = state.map(|s| self.warps[w].regs.u64_at(s, lane) & 0xffff_ffff);
                let parity = parity.map(|s| value(self, s) & 1);
                return self.test_wait(engine, who, key, (p, state, parity), order);
            }
            Mbar::CopyArrive { noinc } => {
                if !noinc {
                    self.with(key, |m| m.pending += 1);
                }
                self.defer_arrival(engine, w, lane, key);
            }
            Mbar::Init { .. } | Mbar::PendingCount { .. } => {}
        }
        true
    }

    fn with(&mut self, key: (usize, u32), f: impl FnOnce(&mut Mbarrier)) {
        self.events += 1;
        if let Some(m) = self.ctas[key.0].mbarriers.get_mut(&key.1) {
            f(m);
        }
    }

    /// An arrival; returns the state token: the phase, and the pending count above it.
    pub(crate) fn arrive_mbarrier(
        &mut self,
        engine: &Engine,
        who: super::report::Who,
        key: (usize, u32),
        (n, tx, drop): (u32, i64, bool),
    ) -> u64 {
        self.events += 1;
        let Some(m) = self.ctas[key.0].mbarriers.get_mut(&key.1) else { return 0 };
        let token = m.phase & 0xffff_ffff | u64::from(m.pending) << 32;
        m.joined.arrive(&mut self.warps[who.0].clock);
        m.tx += tx;
        if drop {
            m.expected = m.expected.saturating_sub(n);
        }
        let too_many = n > m.pending;
        m.pending = m.pending.saturating_sub(n);
        m.settle();
        if too_many {
            self.report(
                engine,
                FindingKind::BarrierDivergence,
                who,
                Some(u64::from(key.1)),
                || "more arrivals than this mbarrier expects".into(),
            );
        }
        token
    }

    /// Bytes of a copy arrived on behalf of warp `w`.
    pub(crate) fn complete_tx(&mut self, key: (usize, u32), bytes: i64, w: usize) {
        self.events += 1;
        if let Some(m) = self.ctas[key.0].mbarriers.get_mut(&key.1) {
            m.joined.arrive(&mut self.warps[w].clock);
            m.tx -= bytes;
            m.settle();
        }
    }

    fn is_complete(&self, key: (usize, u32), state: Option<u64>, parity: Option<u32>) -> bool {
        let Some(m) = self.ctas[key.0].mbarriers.get(&key.1) else { return false };
        match (state, parity) {
            (Some(state), _) => m.phase & 0xffff_ffff != state,
            // The phase with parity p is complete while the current phase has the other parity.
            (None, Some(parity)) => (m.phase & 1) as u32 != parity,
            (None, None) => false,
        }
    }

    fn test_wait(
        &mut self,
        engine: &Engine,
        (w, lane, _): super::report::Who,
        key: (usize, u32),
        (p, state, parity): (u32, Option<u64>, Option<u32>),
        order: Order,
    ) -> bool {
        if !self.is_complete(key, state, parity) {
            self.deliver(engine, key);
        }
        let done = self.is_complete(key, state, parity);
        let warp = &mut self.warps[w];
        warp.regs.put_pred(p, 1 << lane, u32::from(done) << lane);
        if done
            && order.acquire
            && let Some(m) = self.ctas[key.0].mbarriers.get(&key.1)
        {
            let live = warp.live;
            m.last.depart(&mut warp.clock, 1 << lane, live);
        }
        done
    }

    /// Delivers what completes on this barrier: bulk copies and the arrivals after `cp.async`.
    fn deliver(&mut self, engine: &Engine, key: (usize, u32)) {
        for w in 0..self.warps.len() {
            self.deliver_from(engine, w, key);
        }
    }
}
