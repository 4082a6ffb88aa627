//! A unit: the blocks that run together on one host thread. Without clusters that is one block.

use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};

use super::engine::{Engine, Schedule};
use super::mbarrier::Mbarrier;
use super::sync::BarrierState;
use super::warp::{Warp, lane_special};
use crate::check::clock::{Clock, Joined, Variables};
use crate::check::shadow::{SharedShadow, Written};
use crate::lanes::{FULL, LANES};
use crate::memory::POISON;
use crate::profile::Counts;
use crate::program::Special;

/// One block.
pub(crate) struct Cta {
    pub(crate) id: [u32; 3],
    pub(crate) shared: Vec<u8>,
    pub(crate) written: Written,
    pub(crate) shadow: Option<SharedShadow>,
    /// Proxy epoch of the last ordinary store to each word; empty if no instruction asks for it.
    pub(crate) stored: Vec<u32>,
    /// Asynchronous writes under way, per word of shared memory.
    pub(crate) in_flight: Vec<u8>,
    pub(crate) any_in_flight: u32,
    pub(crate) barriers: Vec<BarrierState>,
    pub(crate) mbarriers: HashMap<u32, Mbarrier>,
    /// Threads that have not exited.
    pub(crate) live: u32,
}

/// What all blocks of a cluster wait at.
#[derive(Default)]
pub(crate) struct ClusterBarrier {
    pub(crate) arrived: u32,
    pub(crate) phase: u64,
    pub(crate) joined: Joined,
    pub(crate) last: Joined,
    /// Phase in which each warp's lanes arrived, until they wait for it; otherwise the largest number.
    pub(crate) arrivals: Vec<[u64; LANES]>,
}

/// Blocks that run together.
pub(crate) struct Unit {
    pub(crate) index: u64,
    pub(crate) ctas: Vec<Cta>,
    pub(crate) warps: Vec<Warp>,
    pub(crate) warps_per_cta: usize,
    pub(crate) cluster_barrier: ClusterBarrier,
    /// Synchronising variables in shared memory.
    pub(crate) variables: Variables,
    /// Effects so far: changed memory, moved mbarriers, threads gone.
    pub(crate) events: u64,
    /// Counts `fence.proxy.async`, from 1.
    pub(crate) proxy_epoch: u32,
    /// A fault after which this block cannot go on.
    pub(crate) aborted: bool,
    random: u64,
    current: usize,
    pub(crate) clock_ticks: u64,
    /// Some warp has polled since the slice began.
    pub(crate) polled: bool,
    /// Digests of the states of its warps since the last effect.
    states: HashSet<u64>,
}

/// States remembered while looking for one that comes back.
const STATES: usize = 100_000;

impl Unit {
    pub(crate) fn new(engine: &Engine, index: u64) -> Self {
        let ctas = engine.cluster.iter().product::<u32>() as usize;
        let warps_per_cta = engine.block_threads().div_ceil(LANES as u32) as usize;
        let total = ctas * warps_per_cta;
        let clock = |w| Clock::new(0, w as u32, total);
        let mut unit = Unit {
            index,
            ctas: (0..ctas).map(|_| Cta::new(engine)).collect(),
            warps: (0..total)
                .map(|w| {
                    Warp::new(
                        engine.program,
                        w / warps_per_cta,
                        (w % warps_per_cta) as u32,
                        clock(w),
                    )
                })
                .collect(),
            warps_per_cta,
            cluster_barrier: ClusterBarrier::default(),
            variables: Variables::default(),
            events: 0,
            proxy_epoch: 1,
            aborted: false,
            random: 0,
            current: 0,
            clock_ticks: 0,
            polled: false,
            states: HashSet::new(),
        };
        unit.restart(engine, index);
        unit
    }

    /// The unit numbered `index`, in the memory of a finished one if there is any.
    pub(crate) fn placed(engine: &Engine, index: u64, spare: Option<Unit>) -> Self {
        match spare {
            Some(mut unit) => {
                unit.restart(engine, index);
                unit
            }
            None => Unit::new(engine, index),
        }
    }

    /// Whether every warp that could run is back in a state that it was in before, since memory last
    /// changed. What a warp does next depends on its state and on memory alone, so it goes round for
    /// ever, whatever the schedule.
    pub(crate) fn is_back(&mut self) -> bool {
        if self.states.len() >= STATES {
            self.states.clear();
        }
        let mut all = true;
        for (w, warp) in self.warps.iter().enumerate().filter(|(_, warp)| warp.runnable() != 0) {
            let mut hasher = DefaultHasher::new();
            w.hash(&mut hasher);
            warp.hash_state(&mut hasher);
            all &= !self.states.insert(hasher.finish());
        }
        all
    }

    /// Something changed: states may come back without meaning anything.
    pub(crate) fn forget_states(&mut self) {
        self.states.clear();
    }

    /// Makes this unit the one numbered `index`.
    pub(crate) fn restart(&mut self, engine: &Engine, index: u64) {
        self.index = index;
        self.aborted = false;
        self.proxy_epoch = 1;
        self.variables = Variables::default();
        self.cluster_barrier = ClusterBarrier {
            arrivals: vec![[u64::MAX; LANES]; self.warps.len()],
            ..Default::default()
        };
        let seed = if let Schedule::Random(seed) = engine.options.schedule { seed } else { 0 };
        self.random = (seed ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15)) | 1;
        self.current = 0;
        self.states.clear();
        let threads = engine.block_threads();
        for rank in 0..self.ctas.len() {
            let id = block_id(engine, index, rank as u32);
            self.ctas[rank].restart(engine, id, threads, self.warps.len());
        }
        let total = self.warps.len();
        for w in 0..total {
            let clock = Clock::new(index as u32, w as u32, total);
            let warp = &mut self.warps[w];
            warp.restart(engine.program, engine.entry, clock);
            let left = threads - warp.index * LANES as u32;
            warp.live = if left >= 32 { FULL } else { (1 << left) - 1 };
            warp.born = warp.live;
            self.fill_specials(engine, w);
        }
    }

    fn fill_specials(&mut self, engine: &Engine, w: usize) {
        let rank = self.warps[w].cta as u32;
        let id = self.ctas[rank as usize].id;
        let [nx, ny, _] = engine.block;
        let base = self.warps[w].index * LANES as u32;
        let units = engine.unit_grid();
        for &(special, slot, wide) in &engine.program.specials {
            let warp_index = self.warps[w].index;
            let uniform = match special {
                Special::Ntid(a) => engine.block[a as usize],
                Special::Ctaid(a) => id[a as usize],
                Special::Nctaid(a) => engine.grid[a as usize],
                Special::WarpId => warp_index,
                Special::NWarpId => self.warps_per_cta as u32,
                Special::SmId => (self.index % 108) as u32,
                Special::NSmId => 108,
                Special::DynamicShared => engine.dynamic_shared,
                Special::TotalShared | Special::AggrShared => engine.shared_bytes(),
                Special::IsExplicitCluster => u32::from(self.ctas.len() > 1),
                Special::ClusterId(a) => id[a as usize] / engine.cluster[a as usize],
                Special::NClusterId(a) => units[a as usize],
                Special::ClusterCtaid(a) => id[a as usize] % engine.cluster[a as usize],
                Special::ClusterNctaid(a) => engine.cluster[a as usize],
                Special::ClusterCtarank => rank,
                Special::ClusterNctarank => self.ctas.len() as u32,
                _ => 0,
            };
            self.warps[w].fill_special(slot, wide, |lane| {
                let t = base + lane as u32;
                match special {
                    Special::Tid(0) => t % nx,
                    Special::Tid(1) => t / nx % ny,
                    Special::Tid(2) => t / nx / ny,
                    _ => lane_special(special, lane).unwrap_or(uniform),
                }
            });
        }
    }

    fn next_random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    fn is_finished(&self) -> bool {
        self.aborted || self.ctas.iter().all(|c| c.live == 0)
    }

    /// Runs about `slice` warp instructions; true when every thread has exited.
    pub(crate) fn run(&mut self, engine: &Engine, counts: &mut Counts, slice: u64) -> bool {
        let mut left = slice as i64;
        self.polled = false;
        while left > 0 {
            if self.is_finished() || engine.stop.load(std::sync::atomic::Ordering::Relaxed) {
                self.wind_down(engine);
                return true;
            }
            let Some((w, quantum)) = self.choose(engine) else {
                self.report_deadlock(engine);
                self.aborted = true;
                return true;
            };
            let used = self.run_warp(engine, counts, w, quantum.min(left as u64));
            left -= used.max(1) as i64;
        }
        false
    }

    /// The warp to run next, and for how long.
    fn choose(&mut self, engine: &Engine) -> Option<(usize, u64)> {
        let n = self.warps.len();
        let ready = |unit: &Self, w: usize| unit.warps[w].runnable() != 0;
        match engine.options.schedule {
            Schedule::LockStep => {
                let w = (1..=n).map(|i| (self.current + i) % n).find(|&w| ready(self, w))?;
                self.current = w;
                Some((w, 1))
            }
            Schedule::Random(_) => {
                let start = self.next_random() as usize % n;
                let w = (0..n).map(|i| (start + i) % n).find(|&w| ready(self, w))?;
                Some((w, 1 + self.next_random() % 64))
            }
            // A warp that used up its quantum without waiting is likely to spin: go on from the
            // next one, or the warp it spins for never runs.
            Schedule::LowestFirst => {
                let w = (0..n).map(|i| (self.current + i) % n).find(|&w| ready(self, w))?;
                self.current = (w + 1) % n;
                Some((w, QUANTUM))
            }
            Schedule::HighestFirst => {
                let w = (0..n)
                    .map(|i| (self.current + n - i) % n)
                    .map(|i| (i + n - 1) % n)
                    .find(|&w| ready(self, w))?;
                self.current = w;
                Some((w, QUANTUM))
            }
        }
    }
}

/// Instructions that one warp runs before another gets its turn.
const QUANTUM: u64 = 20_000;

impl Cta {
    fn new(engine: &Engine) -> Self {
        let bytes = engine.shared_bytes() as usize;
        Cta {
            id: [0; 3],
            shared: vec![0; bytes],
            written: Written::new(bytes),
            shadow: None,
            stored: vec![0; if engine.program.has_async_reads { bytes.div_ceil(4) } else { 0 }],
            in_flight: vec![0; bytes.div_ceil(4)],
            any_in_flight: 0,
            barriers: Vec::new(),
            mbarriers: HashMap::new(),
            live: 0,
        }
    }

    fn restart(&mut self, engine: &Engine, id: [u32; 3], threads: u32, warps: usize) {
        self.id = id;
        let poison = POISON.to_le_bytes();
        self.shared.iter_mut().zip(poison.iter().cycle()).for_each(|(b, p)| *b = *p);
        self.written.clear(self.shared.len());
        let reserved = engine.program.reserved_shared as usize;
        self.shared[..reserved].fill(0);
        (0..reserved).step_by(32).for_each(|at| self.written.set(at, 32, true));
        self.shadow =
            engine.options.checks.races.then(|| SharedShadow::new(self.shared.len(), warps));
        self.stored.fill(0);
        self.in_flight.fill(0);
        self.any_in_flight = 0;
        self.barriers = (0..16).map(|_| BarrierState::default()).collect();
        self.mbarriers.clear();
        self.live = threads;
    }
}

/// Block `rank` of unit `index`.
pub(crate) fn block_id(engine: &Engine, index: u64, rank: u32) -> [u32; 3] {
    let units = engine.unit_grid().map(u64::from);
    let unit = [index % units[0], index / units[0] % units[1], index / units[0] / units[1]];
    let c = engine.cluster;
    let inside = [rank % c[0], rank / c[0] % c[1], rank / c[0] / c[1]];
    std::array::from_fn(|i| unit[i] as u32 * c[i] + inside[i])
}
