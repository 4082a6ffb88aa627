//! The state of one warp: registers, one program counter per lane, and what its lanes wait for.

use std::hash::{Hash, Hasher};

use crate::check::clock::Clock;
use crate::check::shadow::Written;
use crate::lanes::{FULL, LANES, Regs, Row};
use crate::memory::POISON;
use crate::program::{Program, Special};

use super::copy::AsyncCopies;
use super::wgmma::WgmmaQueue;

/// Why lanes do not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// At a `.sync` instruction until these lanes are there too.
    Members(u32),
    /// At an aligned barrier or matrix instruction until the whole warp is there.
    Warp,
    /// Arrived at barrier so-and-so.
    Barrier(u32),
    /// Arrived at the cluster barrier.
    Cluster,
}

/// Lanes that wait at an instruction.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waiting {
    pub(crate) pc: u32,
    pub(crate) lanes: u32,
    pub(crate) why: Why,
}

/// A call that has not returned.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) return_pc: u32,
    pub(crate) call_pc: u32,
    pub(crate) function: u32,
    pub(crate) base: u64,
    pub(crate) top: u32,
    /// The callee's registers of this lane before the call, if it is recursive.
    pub(crate) saved: Vec<u32>,
    pub(crate) saved_preds: Vec<bool>,
}

/// Local memory and call stack of one lane.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stack {
    pub(crate) memory: Vec<u8>,
    pub(crate) written: Written,
    pub(crate) top: u32,
    pub(crate) frames: Vec<Frame>,
}

/// One warp.
pub(crate) struct Warp {
    pub(crate) cta: usize,
    /// Number within the block.
    pub(crate) index: u32,
    pub(crate) regs: Regs,
    pub(crate) pcs: [u32; LANES],
    pub(crate) depth: [u16; LANES],
    /// Lanes that exist and have not exited.
    pub(crate) live: u32,
    /// Lanes that exist.
    pub(crate) born: u32,
    /// Lanes in [`Warp::waits`].
    pub(crate) waiting: u32,
    pub(crate) waits: Vec<Waiting>,
    /// Lanes that spin and let others go first for a while.
    pub(crate) deferred: u32,
    /// Lanes that stored something, for the rule on threads that leave before a barrier.
    pub(crate) worked: u32,
    pub(crate) stacks: Vec<Stack>,
    pub(crate) clock: Clock,
    pub(crate) copies: AsyncCopies,
    pub(crate) wgmma: WgmmaQueue,
    /// The latest load of uninitialised memory: program counter, lane, address.
    pub(crate) origin: Option<(u32, u8, u64)>,
}

impl Warp {
    pub(crate) fn new(program: &Program, cta: usize, index: u32, clock: Clock) -> Self {
        let rows = program.rows as usize;
        let preds = program.preds as usize;
        let regs = Regs {
            rows: vec![Row([POISON; LANES]); rows],
            preds: vec![0; preds],
            undef: Vec::new(),
            pred_undef: Vec::new(),
            tainted: false,
        };
        let mut warp = Warp {
            cta,
            index,
            regs,
            pcs: [0; LANES],
            depth: [0; LANES],
            live: 0,
            born: 0,
            waiting: 0,
            waits: Vec::new(),
            deferred: 0,
            worked: 0,
            stacks: Vec::new(),
            clock,
            copies: AsyncCopies::default(),
            wgmma: WgmmaQueue::default(),
            origin: None,
        };
        warp.fill_constants(program);
        warp
    }

    fn fill_constants(&mut self, program: &Program) {
        for &(slot, value) in &program.constants {
            self.regs.rows[slot as usize] = Row([value; LANES]);
        }
        self.regs.preds[1] = FULL;
        self.regs.rows[program.frame_slot as usize] = Row([0; LANES]);
        self.regs.rows[program.frame_slot as usize + 1] = Row([0; LANES]);
    }

    /// Back to the first instruction of the kernel, for the next block.
    pub(crate) fn restart(&mut self, program: &Program, entry: usize, clock: Clock) {
        self.regs.tainted = false;
        self.regs.rows.fill(Row([POISON; LANES]));
        self.regs.preds.fill(0);
        self.fill_constants(program);
        let function = &program.functions[entry];
        self.pcs = [function.entry.unwrap_or(0); LANES];
        self.depth = [0; LANES];
        (self.waiting, self.deferred, self.worked) = (0, 0, 0);
        self.waits.clear();
        self.stacks.clear();
        if function.frame > 0 {
            let stack = Stack { top: function.frame, ..Stack::default() };
            self.stacks = vec![stack; LANES];
        }
        self.clock = clock;
        self.copies = AsyncCopies::default();
        self.wgmma = WgmmaQueue::default();
        self.origin = None;
    }

    /// The stack of a lane, made on first use.
    pub(crate) fn stack(&mut self, lane: usize) -> &mut Stack {
        if self.stacks.is_empty() {
            self.stacks = vec![Stack::default(); LANES];
        }
        &mut self.stacks[lane]
    }

    /// Everything that decides what this warp does next, but memory.
    pub(crate) fn hash_state(&self, hasher: &mut impl Hasher) {
        self.regs.rows.iter().for_each(|row| row.0.hash(hasher));
        self.regs.preds.hash(hasher);
        self.pcs.hash(hasher);
        self.depth.hash(hasher);
        (self.live, self.waiting, self.deferred).hash(hasher);
    }

    /// Lanes that could run now.
    pub(crate) fn runnable(&self) -> u32 {
        self.live & !self.waiting
    }

    /// Lanes `lanes` stop at `pc`.
    pub(crate) fn wait(&mut self, pc: u32, lanes: u32, why: Why) {
        for lane in lanes_of(lanes) {
            self.pcs[lane] = pc;
        }
        self.waiting |= lanes;
        match self.waits.iter_mut().find(|w| w.pc == pc && w.why == why) {
            Some(w) => w.lanes |= lanes,
            None => self.waits.push(Waiting { pc, lanes, why }),
        }
    }

    /// Lanes `lanes` go on after the instruction they waited at.
    pub(crate) fn release(&mut self, lanes: u32) {
        for lane in lanes_of(lanes & self.waiting) {
            self.pcs[lane] += 1;
        }
        self.unwait(lanes);
    }

    /// Lanes `lanes` no longer wait; their counters stay.
    pub(crate) fn unwait(&mut self, lanes: u32) {
        self.waiting &= !lanes;
        self.waits.retain_mut(|w| {
            w.lanes &= !lanes;
            w.lanes != 0
        });
    }

    pub(crate) fn fill_special(&mut self, slot: u32, wide: bool, values: impl Fn(usize) -> u32) {
        self.regs.rows[slot as usize] = Row(std::array::from_fn(values));
        if wide {
            self.regs.rows[slot as usize + 1] = Row([0; LANES]);
        }
    }
}

/// Lane masks that are the same in every warp.
pub(crate) fn lane_special(special: Special, lane: usize) -> Option<u32> {
    Some(match special {
        Special::LaneId => lane as u32,
        Special::LaneMaskEq => 1 << lane,
        Special::LaneMaskLt => (1 << lane) - 1,
        Special::LaneMaskLe => ((1u64 << (lane + 1)) - 1) as u32,
        Special::LaneMaskGt => !(((1u64 << (lane + 1)) - 1) as u32),
        Special::LaneMaskGe => !((1u32 << lane) - 1),
        _ => return None,
    })
}

/// The set bits of a lane mask.
pub(crate) fn lanes_of(mut mask: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        (mask != 0).then(|| {
            let lane = mask.trailing_zeros() as usize;
            mask &= mask - 1;
            lane
        })
    })
}
