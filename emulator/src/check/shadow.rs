//! Shadow memory: who wrote and read each cell last.
//!
//! A cell covers four bytes until the first narrower access splits it (whole shared memory, or one
//! page of global memory), so that neighbouring half-words never conflict.

use std::sync::{Mutex, OnceLock};

use super::clock::{Clock, Stamp};
use crate::lanes::FULL;

/// Reads of one cell of shared memory by the lanes of one warp, at one clock.
#[derive(Debug, Clone, Copy, Default)]
struct Readers {
    clock: u32,
    lanes: u32,
    pc: u32,
    strong: bool,
}

/// Shadow of the shared memory of one block.
#[derive(Debug)]
pub(crate) struct SharedShadow {
    /// Bytes per cell, as a shift.
    shift: u32,
    warps: usize,
    writes: Vec<Stamp>,
    /// The last strong write of each cell, which must not hide an earlier weak one: two strong
    /// accesses never conflict. Empty until there is one.
    strong: Vec<Stamp>,
    reads: Vec<Readers>,
}

/// What an access is, to the race check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Write,
    Atomic,
}

/// A conflicting earlier access.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Conflict {
    pub(crate) stamp: Stamp,
    pub(crate) what: &'static str,
}

fn named(stamp: Stamp) -> &'static str {
    if stamp.flags & Stamp::ATOMIC != 0 { "atomic" } else { "write" }
}

/// Lanes that store to one place in one instruction: some lane wins, and compilers rely on it where
/// any of the values will do (the copies of a reduction's result differ in their last bit).
fn same_instruction(a: Stamp, b: Stamp) -> bool {
    let plain = (a.flags | b.flags) & Stamp::ATOMIC == 0;
    plain && (a.unit, a.warp, a.clock, a.pc) == (b.unit, b.warp, b.clock, b.pc)
}

/// The conflict of an access with an earlier write, if nothing orders or excuses them.
#[inline]
fn unordered(write: Stamp, me: Stamp, clock: &Clock) -> Option<Conflict> {
    let fine = !write.is_some()
        || both_strong(write, me)
        || same_instruction(write, me)
        || clock.ordered(write, usize::from(me.lane));
    (!fine).then(|| Conflict { stamp: write, what: named(write) })
}

/// Two strong accesses of sufficient scope are not a data race (PTX ISA, "Morally strong").
fn both_strong(a: Stamp, b: Stamp) -> bool {
    let strong = a.flags & b.flags & Stamp::STRONG != 0;
    strong && (a.unit == b.unit || a.flags & b.flags & Stamp::WIDE != 0)
}

impl SharedShadow {
    pub(crate) fn new(bytes: usize, warps: usize) -> Self {
        let cells = bytes.div_ceil(4);
        SharedShadow {
            shift: 2,
            warps,
            writes: vec![Stamp::default(); cells],
            strong: Vec::new(),
            reads: vec![Readers::default(); cells * warps],
        }
    }

    fn split(&mut self, shift: u32) {
        let times = 1 << (self.shift - shift);
        for list in [&mut self.writes, &mut self.strong] {
            *list = list.iter().flat_map(|w| std::iter::repeat_n(*w, times)).collect();
        }
        let rows = self.reads.chunks(self.warps);
        self.reads = rows.flat_map(|r| std::iter::repeat_n(r, times)).flatten().copied().collect();
        self.shift = shift;
    }

    /// Checks an access against what is recorded, and records it.
    #[inline]
    pub(crate) fn access(
        &mut self,
        offset: usize,
        bytes: usize,
        kind: Kind,
        me: Stamp,
        clock: &Clock,
    ) -> Option<Conflict> {
        let need =
            if bytes < 4 { bytes.trailing_zeros() } else { (offset.trailing_zeros()).min(2) };
        if need < self.shift {
            self.split(need);
        }
        let mut conflict = None;
        for cell in offset >> self.shift..=(offset + bytes - 1) >> self.shift {
            let found = if kind == Kind::Read {
                self.read(cell, me, clock)
            } else {
                self.write(cell, me, clock)
            };
            conflict = conflict.or(found);
        }
        conflict
    }

    #[inline]
    fn read(&mut self, cell: usize, me: Stamp, clock: &Clock) -> Option<Conflict> {
        let conflict = unordered(self.writes[cell], me, clock)
            .or_else(|| unordered(*self.strong.get(cell)?, me, clock));
        let strong = me.flags & Stamp::STRONG != 0;
        let slot = &mut self.reads[cell * self.warps + usize::from(me.warp)];
        if slot.clock == me.clock && slot.strong == strong {
            slot.lanes |= 1 << me.lane;
        } else if slot.clock != me.clock || slot.strong {
            // A weak read conflicts with more than a strong one, so it stays.
            *slot = Readers { clock: me.clock, lanes: 1 << me.lane, pc: me.pc, strong };
        }
        conflict
    }

    #[inline]
    fn write(&mut self, cell: usize, me: Stamp, clock: &Clock) -> Option<Conflict> {
        let lane = usize::from(me.lane);
        let weak = self.writes[cell];
        let strong = self.strong.get(cell).copied().unwrap_or_default();
        if me.flags & Stamp::STRONG == 0 {
            self.writes[cell] = me;
        } else {
            if self.strong.is_empty() {
                self.strong = vec![Stamp::default(); self.writes.len()];
            }
            self.strong[cell] = me;
        }
        let conflict = unordered(weak, me, clock).or_else(|| unordered(strong, me, clock));
        if conflict.is_some() {
            return conflict;
        }
        for warp in 0..self.warps {
            let r = self.reads[cell * self.warps + warp];
            if r.clock == 0 || (r.strong && me.flags & Stamp::STRONG != 0) {
                continue;
            }
            let reader = if warp == usize::from(me.warp) {
                (0..32).find(|&l| r.lanes >> l & 1 != 0 && !clock.lane_ordered(l, r.clock, lane))
            } else if clock.warp_ordered(warp as u32, r.clock) {
                None
            } else {
                Some(r.lanes.trailing_zeros() as usize)
            };
            if let Some(reader) = reader {
                let stamp =
                    Stamp { warp: warp as u16, lane: reader as u8, clock: r.clock, pc: r.pc, ..me };
                return Some(Conflict { stamp, what: "read" });
            }
        }
        None
    }
}

/// Bytes of global memory per shadow page.
const PAGE: usize = 1024;

#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    write: Stamp,
    /// Two readers suffice: any writer conflicts with at least one of two unordered readers.
    reads: [Stamp; 2],
}

#[derive(Debug)]
struct PageShadow {
    shift: u32,
    cells: Vec<Cell>,
    /// As [`SharedShadow::strong`].
    strong: Vec<Stamp>,
}

/// Pages of a chunk.
const CHUNK: usize = 1024;

type Chunk = Box<[OnceLock<Mutex<PageShadow>>]>;

/// Shadow of one global buffer, made page by page as it is touched.
pub(crate) struct GlobalShadow {
    chunks: Vec<OnceLock<Chunk>>,
    pages: usize,
}

impl GlobalShadow {
    pub(crate) fn new(bytes: u64) -> Self {
        let pages = (bytes as usize).div_ceil(PAGE);
        let chunks = (0..pages.div_ceil(CHUNK)).map(|_| OnceLock::new()).collect();
        GlobalShadow { chunks, pages }
    }

    fn page(&self, index: usize) -> &Mutex<PageShadow> {
        let chunk = self.chunks[index / CHUNK].get_or_init(|| {
            let rest = self.pages - index / CHUNK * CHUNK;
            (0..rest.min(CHUNK)).map(|_| OnceLock::new()).collect()
        });
        chunk[index % CHUNK].get_or_init(|| {
            Mutex::new(PageShadow {
                shift: 2,
                cells: vec![Cell::default(); PAGE / 4],
                strong: Vec::new(),
            })
        })
    }

    /// Checks an access (at most 16 bytes, aligned) against what is recorded, and records it.
    pub(crate) fn access(
        &self,
        offset: u64,
        bytes: usize,
        kind: Kind,
        me: Stamp,
        clock: &Clock,
    ) -> Option<Conflict> {
        let offset = offset as usize;
        let page = self.page(offset / PAGE);
        let mut page = page.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let need = if bytes < 4 { bytes.trailing_zeros() } else { 2 };
        if need < page.shift {
            let times = 1 << (page.shift - need);
            page.cells = page.cells.iter().flat_map(|c| std::iter::repeat_n(*c, times)).collect();
            page.strong = page.strong.iter().flat_map(|s| std::iter::repeat_n(*s, times)).collect();
            page.shift = need;
        }
        let at = offset % PAGE;
        let (first, last) = (at >> page.shift, (at + bytes - 1) >> page.shift);
        let mut conflict = None;
        for cell in first..=last {
            let found = if kind == Kind::Read {
                page.read(cell, me, clock)
            } else {
                page.write(cell, me, clock)
            };
            conflict = conflict.or(found);
        }
        conflict
    }
}

impl PageShadow {
    fn read(&mut self, at: usize, me: Stamp, clock: &Clock) -> Option<Conflict> {
        let cell = &mut self.cells[at];
        let conflict = unordered(cell.write, me, clock)
            .or_else(|| unordered(*self.strong.get(at)?, me, clock));
        let lane = usize::from(me.lane);
        let free = cell.reads.iter().position(|r| !r.is_some() || clock.ordered(*r, lane));
        if let Some(free) = free {
            cell.reads[free] = me;
        } else if cell.reads[0].unit == cell.reads[1].unit && me.unit != cell.reads[0].unit {
            // Keep readers of two different blocks rather than two of one.
            cell.reads[1] = me;
        }
        conflict
    }

    fn write(&mut self, at: usize, me: Stamp, clock: &Clock) -> Option<Conflict> {
        let lane = usize::from(me.lane);
        let cell = self.cells[at];
        let strong = self.strong.get(at).copied().unwrap_or_default();
        if me.flags & Stamp::STRONG == 0 {
            self.cells[at].write = me;
        } else {
            if self.strong.is_empty() {
                self.strong = vec![Stamp::default(); self.cells.len()];
            }
            self.strong[at] = me;
        }
        let read = || {
            let late =
                |r: &&Stamp| r.is_some() && !both_strong(**r, me) && !clock.ordered(**r, lane);
            cell.reads.iter().find(late).map(|r| Conflict { stamp: *r, what: "read" })
        };
        unordered(cell.write, me, clock).or_else(|| unordered(strong, me, clock)).or_else(read)
    }
}

/// One bit per byte of shared or local memory: whether it was ever written.
#[derive(Debug, Clone, Default)]
pub(crate) struct Written(Vec<u32>);

impl Written {
    pub(crate) fn new(bytes: usize) -> Self {
        Written(vec![0; bytes.div_ceil(32) + 1])
    }

    fn mask(bytes: usize) -> u64 {
        if bytes >= 32 { u64::from(FULL) } else { (1 << bytes) - 1 }
    }

    /// Bits of up to 32 bytes from `offset`.
    #[inline]
    fn bits(&self, offset: usize) -> u64 {
        let word = offset / 32;
        let low = u64::from(self.0[word]);
        let high = self.0.get(word + 1).map_or(0, |&w| u64::from(w));
        (low | high << 32) >> (offset % 32)
    }

    /// Whether none of these bytes was written.
    #[inline]
    pub(crate) fn none(&self, offset: usize, bytes: usize) -> bool {
        self.bits(offset) & Self::mask(bytes) == 0
    }

    /// Whether all of these bytes were written.
    #[inline]
    pub(crate) fn all(&self, offset: usize, bytes: usize) -> bool {
        self.bits(offset) & Self::mask(bytes) == Self::mask(bytes)
    }

    /// Marks up to 32 bytes.
    #[inline]
    pub(crate) fn set(&mut self, offset: usize, bytes: usize, on: bool) {
        let mask = Self::mask(bytes) << (offset % 32);
        for (i, part) in [mask as u32, (mask >> 32) as u32].into_iter().enumerate() {
            if part != 0
                && let Some(word) = self.0.get_mut(offset / 32 + i)
            {
                if on { *word |= part } else { *word &= !part }
            }
        }
    }

    pub(crate) fn clear(&mut self, bytes: usize) {
        self.0.clear();
        self.0.resize(bytes.div_ceil(32) + 1, 0);
    }
}
