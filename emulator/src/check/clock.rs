//! Happens-before, by vector clocks over warps.
//!
//! Each warp has a clock that ticks whenever it publishes something (a barrier, a fence, a release).
//! An access is stamped with its warp, lane and clock; it happened before another thread's access
//! if that thread's warp has *seen* the clock. Inside a warp the question is asked per lane, since
//! lanes are ordered only by `bar.warp.sync` and barriers. Between blocks, what was seen is a map
//! from unit (a block or cluster) to its warps' clocks; it travels through synchronising variables.

use std::collections::HashMap;
use std::sync::Arc;

use super::knowledge::Knowledge;
use crate::lanes::{FULL, LANES};

/// A block, or a cluster of blocks, by its number in the launch.
pub(crate) type Unit = u32;

/// Joins two shared maps without copying when one is empty or both are the same.
pub(crate) fn join(a: &mut Option<Arc<Knowledge>>, b: &Option<Arc<Knowledge>>) {
    let Some(b) = b else { return };
    match a {
        None => *a = Some(b.clone()),
        Some(mine) if !Arc::ptr_eq(mine, b) => Arc::make_mut(mine).join(b),
        Some(_) => {}
    }
}

/// Who made an access, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Stamp {
    pub(crate) unit: Unit,
    /// Zero: no access.
    pub(crate) clock: u32,
    pub(crate) pc: u32,
    pub(crate) warp: u16,
    pub(crate) lane: u8,
    pub(crate) flags: u8,
}

impl Stamp {
    /// The access was not `.weak`.
    pub(crate) const STRONG: u8 = 1;
    /// Its scope reaches other blocks.
    pub(crate) const WIDE: u8 = 2;
    /// It was an atomic.
    pub(crate) const ATOMIC: u8 = 4;

    pub(crate) fn is_some(self) -> bool {
        self.clock != 0
    }
}

/// The clock of one warp and what it has seen.
#[derive(Debug, Clone)]
pub(crate) struct Clock {
    pub(crate) unit: Unit,
    pub(crate) warp: u32,
    /// Stamps of accesses made now.
    pub(crate) now: u32,
    /// What this warp has seen of the warps of its unit; its own entry is unused.
    seen: Vec<u32>,
    /// All lanes have seen all lanes up to here.
    all: u32,
    /// What lane `i` has seen of lane `j`, once a partial mask synchronised.
    lanes: Option<Box<[[u32; LANES]; LANES]>>,
    /// Other units.
    others: Option<Arc<Knowledge>>,
    /// Read from synchronising variables by relaxed reads; becomes known at the next fence.
    pending: Option<Arc<Knowledge>>,
    /// Published by relaxed writes: what was known at the last fence, and whether that fence
    /// reaches other blocks.
    fenced: Option<(Arc<Knowledge>, bool)>,
}

impl Clock {
    pub(crate) fn new(unit: Unit, warp: u32, warps: usize) -> Self {
        Clock {
            unit,
            warp,
            now: 1,
            seen: vec![0; warps],
            all: 0,
            lanes: None,
            others: None,
            pending: None,
            fenced: None,
        }
    }

    /// Whether an access by lane `lane` of this warp at `clock` is visible to lane `reader`.
    #[inline]
    pub(crate) fn lane_ordered(&self, lane: usize, clock: u32, reader: usize) -> bool {
        lane == reader
            || clock <= self.all
            || self.lanes.as_ref().is_some_and(|l| l[reader][lane] >= clock)
    }

    /// Whether an access by warp `warp` of this unit at `clock` is visible to this warp.
    #[inline]
    pub(crate) fn warp_ordered(&self, warp: u32, clock: u32) -> bool {
        self.seen[warp as usize] >= clock
    }

    /// Whether the access `stamp` is visible to lane `lane`.
    #[inline]
    pub(crate) fn ordered(&self, stamp: Stamp, lane: usize) -> bool {
        if stamp.unit != self.unit {
            return self
                .others
                .as_ref()
                .is_some_and(|o| o.has(stamp.unit, u32::from(stamp.warp), stamp.clock));
        }
        if u32::from(stamp.warp) == self.warp {
            self.lane_ordered(usize::from(stamp.lane), stamp.clock, lane)
        } else {
            self.warp_ordered(u32::from(stamp.warp), stamp.clock)
        }
    }

    /// Lanes of `mask` synchronised among themselves (`bar.warp.sync`).
    pub(crate) fn sync_lanes(&mut self, mask: u32, live: u32) {
        let now = self.now;
        self.now += 1;
        if mask & live == live || mask == FULL {
            self.all = now;
            self.lanes = None;
            return;
        }
        let all = self.all;
        let table = self.lanes.get_or_insert_with(|| Box::new([[all; LANES]; LANES]));
        let members = || (0..LANES).filter(|i| mask >> i & 1 != 0);
        let mut joined = [0; LANES];
        for i in members() {
            table[i][i] = now;
            joined.iter_mut().zip(table[i]).for_each(|(j, t)| *j = t.max(*j));
        }
        for i in members() {
            table[i] = joined;
        }
    }

    /// Everything this warp knows, its own accesses so far included; the clock ticks.
    pub(crate) fn publish(&mut self) -> Arc<Knowledge> {
        let mut seen = self.seen.clone();
        seen[self.warp as usize] = self.now;
        self.now += 1;
        let mut all = self.others.as_deref().cloned().unwrap_or_default();
        all.insert(self.unit, seen.into());
        Arc::new(all)
    }

    /// Learns all of `known`. For the own warp, lane `lane` (or every lane) learns about the others.
    pub(crate) fn learn(&mut self, known: &Arc<Knowledge>, lane: Option<usize>) {
        if let Some(seen) = known.get(self.unit) {
            for (mine, theirs) in self.seen.iter_mut().zip(seen.iter()) {
                *mine = (*mine).max(*theirs);
            }
            self.learn_own(seen[self.warp as usize], lane);
        }
        if !known.is_only(self.unit) {
            join(&mut self.others, &Some(known.clone()));
        }
    }

    fn learn_own(&mut self, clock: u32, lane: Option<usize>) {
        match lane {
            None => self.all = self.all.max(clock),
            Some(lane) if clock > self.all => {
                let all = self.all;
                let table = self.lanes.get_or_insert_with(|| Box::new([[all; LANES]; LANES]));
                table[lane].iter_mut().for_each(|t| *t = (*t).max(clock));
            }
            Some(_) => {}
        }
    }

    /// A relaxed read saw `known`.
    pub(crate) fn observe(&mut self, known: &Arc<Knowledge>) {
        join(&mut self.pending, &Some(known.clone()));
    }

    /// A fence: what relaxed reads saw becomes known, and later relaxed writes publish.
    pub(crate) fn fence(&mut self, wide: bool) {
        self.settle();
        let keep_wide = wide;
        self.fenced = Some((self.publish(), keep_wide));
    }

    /// A barrier orders what relaxed reads saw, too.
    pub(crate) fn settle(&mut self) {
        if let Some(pending) = self.pending.take() {
            self.learn(&pending, None);
        }
    }

    /// What a relaxed write publishes; `wide` if the variable is visible to other blocks.
    pub(crate) fn fenced(&self, wide: bool) -> Option<Arc<Knowledge>> {
        self.fenced.as_ref().filter(|(_, w)| *w || !wide).map(|(k, _)| k.clone())
    }
}

/// What releases have left at each synchronising variable.
#[derive(Debug, Default)]
pub(crate) struct Variables(HashMap<u64, Arc<Knowledge>>);

impl Variables {
    pub(crate) fn get(&self, address: u64) -> Option<&Arc<Knowledge>> {
        self.0.get(&address)
    }

    /// A read-modify-write continues the release sequence; a plain write starts a new one.
    pub(crate) fn release(&mut self, address: u64, known: Option<Arc<Knowledge>>, keep: bool) {
        match (known, keep) {
            (None, false) => {
                self.0.remove(&address);
            }
            (None, true) => {}
            (Some(known), false) => {
                self.0.insert(address, known);
            }
            (Some(known), true) => {
                let mut old = self.0.remove(&address);
                join(&mut old, &Some(known));
                if let Some(old) = old {
                    self.0.insert(address, old);
                }
            }
        }
    }
}

/// What the arrivals at a barrier know together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Joined {
    seen: Vec<u32>,
    others: Option<Arc<Knowledge>>,
}

impl Joined {
    /// `warp` arrives: its accesses so far are part of what the barrier knows.
    pub(crate) fn arrive(&mut self, warp: &mut Clock) {
        warp.settle();
        self.seen.resize(warp.seen.len(), 0);
        self.seen.iter_mut().zip(&warp.seen).for_each(|(j, s)| *j = (*j).max(*s));
        let own = &mut self.seen[warp.warp as usize];
        *own = (*own).max(warp.now);
        warp.now += 1;
        join(&mut self.others, &warp.others);
    }

    /// `warp` leaves and knows it; all its lanes took part if `whole`.
    pub(crate) fn depart(&self, warp: &mut Clock, mask: u32, live: u32) {
        warp.seen.iter_mut().zip(&self.seen).for_each(|(s, j)| *s = (*s).max(*j));
        join(&mut warp.others, &self.others);
        let Some(&own) = self.seen.get(warp.warp as usize) else { return };
        if mask & live == live {
            warp.all = warp.all.max(own);
        } else {
            (0..LANES)
                .filter(|i| mask >> i & 1 != 0)
                .for_each(|lane| warp.learn_own(own, Some(lane)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(clock: &Clock, lane: u8) -> Stamp {
        Stamp { unit: clock.unit, clock: clock.now, pc: 0, warp: clock.warp as u16, lane, flags: 0 }
    }

    #[test]
    fn lanes_are_ordered_by_a_warp_barrier_only() {
        let mut w = Clock::new(0, 0, 1);
        let access = stamp(&w, 3);
        assert!(w.ordered(access, 3) && !w.ordered(access, 4));
        w.sync_lanes(0b11000, FULL);
        assert!(w.ordered(access, 4) && !w.ordered(access, 5));
        w.sync_lanes(FULL, FULL);
        assert!(w.ordered(access, 5));
        assert!(!w.ordered(stamp(&w, 3), 4), "an access after the barrier is not covered by it");
    }

    #[test]
    fn warps_are_ordered_by_a_barrier() {
        let (mut a, mut b) = (Clock::new(0, 0, 2), Clock::new(0, 1, 2));
        let access = stamp(&a, 0);
        assert!(!b.ordered(access, 0));
        let mut joined = Joined::default();
        joined.arrive(&mut a);
        joined.arrive(&mut b);
        joined.depart(&mut a, FULL, FULL);
        joined.depart(&mut b, FULL, FULL);
        assert!(b.ordered(access, 0) && !b.ordered(stamp(&a, 0), 0));
    }

    #[test]
    fn blocks_are_ordered_by_fences_around_a_variable() {
        let (mut a, mut b) = (Clock::new(1, 0, 1), Clock::new(2, 0, 1));
        let mut variables = Variables::default();
        let access = stamp(&a, 0);
        variables.release(64, a.fenced(true), true);
        assert!(variables.get(64).is_none(), "a relaxed write without a fence publishes nothing");
        a.fence(true);
        let late = stamp(&a, 0);
        variables.release(64, a.fenced(true), true);
        let known = variables.get(64).expect("published").clone();
        b.observe(&known);
        assert!(!b.ordered(access, 0), "a relaxed read alone does not acquire");
        b.fence(true);
        assert!(b.ordered(access, 0) && !b.ordered(late, 0));
    }
}
