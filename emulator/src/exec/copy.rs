//! Asynchronous copies: `cp.async`, bulk copies and tensor copies.
//!
//! The hardware may deliver at any time up to the wait, so delivering exactly at the wait (and
//! flagging every touch of the destination before) finds every wait that is missing or too weak.

use super::bulk::{Source, Transfer};
use super::engine::Engine;
use super::report::Who;
use super::step::Then;
use super::unit::Unit;
use super::warp::lanes_of;
use crate::check::FindingKind;
use crate::lanes::LANES;
use crate::profile::Counts;
use crate::program::{CopyAsync, Order, Proxy};
use crate::types::Space;

/// One lane's `cp.async` on its way.
#[derive(Debug, Clone)]
struct Entry {
    lane: usize,
    group: u32,
    pc: u32,
    cta: usize,
    offset: usize,
    bytes: usize,
    data: [u8; 16],
    undefined: bool,
}

/// Asynchronous copies of one warp.
#[derive(Debug, Default)]
pub(crate) struct AsyncCopies {
    entries: Vec<Entry>,
    group: [u32; LANES],
    pub(super) bulk: Vec<Transfer>,
    pub(super) bulk_group: [u32; LANES],
    /// `cp.async.mbarrier.arrive`: lane, barrier, and how many of the entries precede it.
    arrivals: Vec<(usize, (usize, u32))>,
}

impl AsyncCopies {
    pub(crate) fn commit(&mut self, lanes: u32) {
        lanes_of(lanes).for_each(|l| self.group[l] += 1);
    }

    pub(crate) fn commit_bulk(&mut self, lanes: u32) {
        lanes_of(lanes).for_each(|l| self.bulk_group[l] += 1);
    }
}

impl Unit {
    // --- cp.async ---------------------------------------------------------------------------

    pub(crate) fn copy_async(
        &mut self,
        engine: &Engine,
        counts: &mut Counts,
        w: usize,
        pc: u32,
        mask: u32,
        copy: &CopyAsync,
    ) -> Then {
        let (to, from) = (self.addresses(w, &copy.dst), self.addresses(w, &copy.src));
        let bytes = copy.bytes as usize;
        let ignored = copy.ignore.map_or(0, |p| self.warps[w].regs.pred(p));
        counts.accessed(pc, engine.options.profile, Space::Global, &from, mask, bytes, false);
        for lane in lanes_of(mask) {
            let who = (w, lane, pc);
            let asked =
                copy.src_size.map_or(copy.bytes, |s| self.warps[w].regs.u32_at(s, lane)) as usize;
            let size = if ignored >> lane & 1 != 0 { 0 } else { asked };
            if size > bytes {
                self.report(engine, FindingKind::BadOperand, who, None, || {
                    format!("the source size {size} is larger than the copy of {bytes} bytes")
                });
                continue;
            }
            let mut data = [0; 16];
            let undefined = self.read_source(engine, who, from[lane], size, bytes, &mut data);
            if to[lane] % bytes as u64 != 0 {
                self.report(engine, FindingKind::Misaligned, who, Some(to[lane]), || {
                    format!("a copy of {bytes} bytes needs a shared address that is a multiple of {bytes}")
                });
                continue;
            }
            let cta = self.warps[w].cta;
            let Some((cta, offset)) = self.shared_at(engine, cta, to[lane], bytes) else {
                // Reports the place; a write outside memory does nothing else.
                self.write_shared(
                    engine,
                    who,
                    to[lane],
                    &data[..bytes],
                    (bytes, 0),
                    Order::default(),
                    Proxy::Async,
                );
                continue;
            };
            let group = self.warps[w].copies.group[lane];
            let entry = Entry { lane, group, pc, cta, offset, bytes, data, undefined };
            if engine.options.async_at_once {
                self.land(engine, w, entry);
            } else {
                self.check_overlap(engine, who, (cta, offset), bytes);
                self.mark_in_flight(cta, offset, bytes, true);
                self.warps[w].copies.entries.push(entry);
            }
        }
        Then::Next
    }

    /// Two copies under way to one place land in any order.
    fn check_overlap(
        &mut self,
        engine: &Engine,
        who: Who,
        (cta, offset): (usize, usize),
        bytes: usize,
    ) {
        if !engine.options.checks.waits || self.ctas[cta].any_in_flight == 0 {
            return;
        }
        let busy =
            self.ctas[cta].in_flight[offset / 4..=(offset + bytes - 1) / 4].iter().any(|&n| n > 0);
        if busy {
            self.report(engine, FindingKind::MissingWait, who, Some(offset as u64), || {
                "copies to shared memory that an earlier copy has not reached yet".into()
            });
        }
    }

    /// Reads `size` bytes of the source; the rest of the copy is zero.
    fn read_source(
        &mut self,
        engine: &Engine,
        who: Who,
        address: u64,
        size: usize,
        bytes: usize,
        data: &mut [u8],
    ) -> bool {
        if !address.is_multiple_of(bytes as u64) && size > 0 {
            self.report(engine, FindingKind::Misaligned, who, Some(address), || {
                format!(
                    "a copy of {bytes} bytes needs a global address that is a multiple of {bytes}"
                )
            });
            return false;
        }
        let mut undefined = false;
        let mut at = 0;
        // Whole copy, or the largest aligned parts of a short one.
        while at < size {
            let left = size - at;
            let step =
                [16, 8, 4, 2, 1].into_iter().find(|s| *s <= left && at % s == 0).unwrap_or(1);
            let place = (Space::Global, address + at as u64);
            undefined |=
                self.read(engine, who, place, &mut data[at..at + step], step, Order::default())
                    != 0;
            at += step;
        }
        undefined
    }

    pub(super) fn mark_in_flight(&mut self, cta: usize, offset: usize, bytes: usize, begin: bool) {
        let memory = &mut self.ctas[cta];
        for word in &mut memory.in_flight[offset / 4..=(offset + bytes - 1) / 4] {
            *word = if begin { word.saturating_add(1) } else { word.saturating_sub(1) };
        }
        if begin {
            memory.any_in_flight += 1;
        } else {
            memory.any_in_flight = memory.any_in_flight.saturating_sub(1);
        }
    }

    fn land(&mut self, engine: &Engine, w: usize, e: Entry) {
        let address = e.offset as u64 | ((e.cta as u64 + 1) << crate::types::window::RANK_SHIFT);
        let undefined = u32::from(e.undefined);
        self.write_shared(
            engine,
            (w, e.lane, e.pc),
            address,
            &e.data[..e.bytes],
            (e.bytes, undefined),
            Order::default(),
            // These writes are generic, yet compilers fence only what they store themselves.
            Proxy::Async,
        );
    }

    /// `cp.async.wait_group`: all but the latest `pending` groups land; `u32::MAX` is `wait_all`.
    pub(crate) fn wait_group(
        &mut self,
        engine: &Engine,
        w: usize,
        active: u32,
        pending: u32,
    ) -> Then {
        let copies = &mut self.warps[w].copies;
        if pending == u32::MAX {
            copies.commit(active);
        }
        let allowed = if pending == u32::MAX { 0 } else { pending };
        let group = copies.group;
        self.land_where(engine, w, |e| {
            active >> e.lane & 1 != 0 && e.group + allowed < group[e.lane]
        });
        Then::Next
    }

    fn land_where(&mut self, engine: &Engine, w: usize, ready: impl Fn(&Entry) -> bool) {
        let entries = std::mem::take(&mut self.warps[w].copies.entries);
        let (landing, waiting): (Vec<_>, Vec<_>) = entries.into_iter().partition(|e| ready(e));
        self.warps[w].copies.entries = waiting;
        for entry in landing {
            self.mark_in_flight(entry.cta, entry.offset, entry.bytes, false);
            self.land(engine, w, entry);
        }
    }

    /// The instruction whose copy is on its way to this place.
    pub(crate) fn find_in_flight(&self, cta: usize, offset: usize) -> Option<u32> {
        let word = offset / 4;
        for warp in &self.warps {
            let hit = |e: &&Entry| {
                e.cta == cta && (e.offset / 4..=(e.offset + e.bytes - 1) / 4).contains(&word)
            };
            if let Some(e) = warp.copies.entries.iter().find(hit) {
                return Some(e.pc);
            }
            for t in &warp.copies.bulk {
                if t.pieces.iter().any(|p| {
                    p.to.0 == Space::Shared
                        && (p.to.1 & 0xff_ffff) as usize / 4 <= word
                        && word < (p.to.1 & 0xff_ffff) as usize / 4 + 4
                }) {
                    return Some(t.pc);
                }
            }
        }
        None
    }

    // --- mbarrier completion ------------------------------------------------------------------

    /// `cp.async.mbarrier.arrive`: arrives once the lane's earlier copies have landed.
    pub(crate) fn defer_arrival(
        &mut self,
        engine: &Engine,
        w: usize,
        lane: usize,
        key: (usize, u32),
    ) {
        self.warps[w].copies.arrivals.push((lane, key));
        if engine.options.async_at_once {
            self.deliver_from(engine, w, key);
        }
    }

    /// Delivers what warp `w` has on its way to barrier `key`.
    pub(crate) fn deliver_from(&mut self, engine: &Engine, w: usize, key: (usize, u32)) {
        let arrivals = std::mem::take(&mut self.warps[w].copies.arrivals);
        let (now, later): (Vec<_>, Vec<_>) = arrivals.into_iter().partition(|a| a.1 == key);
        self.warps[w].copies.arrivals = later;
        for (lane, key) in now {
            self.land_where(engine, w, |e| e.lane == lane);
            let pc = self.warps[w].pcs[lane];
            self.arrive_mbarrier(engine, (w, lane, pc), key, (1, 0, false));
        }
        let bulk = std::mem::take(&mut self.warps[w].copies.bulk);
        let (now, later): (Vec<_>, Vec<_>) =
            bulk.into_iter().partition(|t| t.mbar.iter().any(|m| m.0 == key));
        self.warps[w].copies.bulk = later;
        for transfer in now {
            self.perform(engine, w, transfer, true);
        }
    }

    // --- bulk copies --------------------------------------------------------------------------

    /// At the end of a block, stores that nobody waited for still reach global memory.
    pub(crate) fn wind_down(&mut self, engine: &Engine) {
        if self.aborted {
            return;
        }
        for w in 0..self.warps.len() {
            let bulk = std::mem::take(&mut self.warps[w].copies.bulk);
            for transfer in bulk.into_iter().filter(|t| t.mbar.is_empty()) {
                if engine.options.checks.waits
                    && transfer
                        .pieces
                        .iter()
                        .any(|p| matches!(p.from, Source::Memory(Space::Shared, _)))
                {
                    let who = (w, transfer.lane, transfer.pc);
                    self.report(engine, FindingKind::MissingWait, who, None, || {
                        "the block ends before `cp.async.bulk.wait_group`, while this copy still \
                         reads its shared memory"
                            .into()
                    });
                }
                self.perform(engine, w, transfer, true);
            }
        }
    }
}
