//! What all host threads share, and how they take blocks.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};

use super::unit::Unit;
use crate::check::clock::Variables;
use crate::check::{Checks, Findings};
use crate::lanes::Isa;
use crate::memory::Globals;
use crate::profile::Counts;
use crate::program::Program;

/// The order in which the warps of a block advance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schedule {
    /// One instruction each, in turn.
    LockStep,
    /// The warp with the lowest number runs until it must wait.
    LowestFirst,
    /// The warp with the highest number runs until it must wait.
    HighestFirst,
    /// A random warp runs for a random while, from this seed.
    Random(u64),
}

/// How a launch runs.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) checks: Checks,
    pub(crate) schedule: Schedule,
    /// Asynchronous operations land when they are issued, not when they are waited for.
    pub(crate) async_at_once: bool,
    /// Count sectors and bank conflicts.
    pub(crate) profile: bool,
    pub(crate) threads: usize,
    /// Warp instructions without any effect on memory or barriers after which a block is stuck.
    pub(crate) patience: u64,
    /// Findings after which the launch stops.
    pub(crate) max_findings: usize,
}

/// A launch while it runs.
pub(crate) struct Engine<'a> {
    pub(crate) program: &'a Program,
    pub(crate) entry: usize,
    pub(crate) grid: [u32; 3],
    pub(crate) block: [u32; 3],
    pub(crate) cluster: [u32; 3],
    pub(crate) dynamic_shared: u32,
    pub(crate) params: Vec<u8>,
    pub(crate) globals: &'a Globals,
    pub(crate) options: &'a Options,
    /// Units (blocks, or clusters) to run; `None` for all.
    pub(crate) selected: Option<Vec<u64>>,
    pub(crate) isa: Isa,
    pub(crate) variables: Mutex<Variables>,
    pub(crate) findings: Mutex<Findings>,
    pub(crate) printed: Mutex<String>,
    pub(crate) next: AtomicU64,
    /// Effects on global memory so far, to tell a stuck block from a waiting one.
    pub(crate) events: AtomicU64,
    /// Units that have finished.
    pub(crate) finished: AtomicU64,
    pub(crate) stop: AtomicBool,
    /// Host threads whose units cannot go on by themselves.
    pub(crate) idle: Mutex<Idle>,
    pub(crate) host_threads: usize,
}

/// Host threads that have nothing to do until something happens: how many, as of which event. All of
/// them must have looked after the last event, or one could still be about to find what it waits for.
#[derive(Debug)]
pub(crate) struct Idle {
    at: u64,
    count: usize,
    /// Host threads that have not come to their end.
    working: usize,
}

impl Idle {
    pub(crate) fn new(working: usize) -> Self {
        Idle { at: 0, count: 0, working }
    }

    fn register(&mut self, event: u64) {
        if event > self.at {
            (self.at, self.count) = (event, 0);
        }
        self.count += usize::from(event == self.at);
    }

    fn is_everyone(&self, event: u64) -> bool {
        self.at == event && self.count >= self.working
    }
}

/// Instructions that a unit runs before a host thread looks at its other units.
const SLICE: u64 = 400_000;
/// The same once nothing has happened for a slice: units that only poll take turns quickly.
const SHORT: u64 = 20_000;
/// Units that one host thread keeps alive while they wait for one another.
const RESIDENT: usize = 4096;

impl Engine<'_> {
    pub(crate) fn isa(&self) -> Isa {
        self.isa
    }

    /// Threads per block.
    pub(crate) fn block_threads(&self) -> u32 {
        self.block.iter().product()
    }

    pub(crate) fn shared_bytes(&self) -> u32 {
        self.program.static_shared + self.dynamic_shared
    }

    /// Clusters along each axis.
    pub(crate) fn unit_grid(&self) -> [u32; 3] {
        std::array::from_fn(|i| self.grid[i] / self.cluster[i])
    }

    pub(crate) fn units(&self) -> u64 {
        match &self.selected {
            Some(list) => list.len() as u64,
            None => self.unit_grid().iter().map(|&n| u64::from(n)).product(),
        }
    }

    fn take(&self) -> Option<u64> {
        if self.stop.load(Relaxed) {
            return None;
        }
        // Whoever counts idle threads sees that one of them is about to be busy.
        self.events.fetch_add(1, SeqCst);
        let i = self.next.fetch_add(1, SeqCst);
        match &self.selected {
            Some(list) => list.get(i as usize).copied(),
            None => (i < self.units()).then_some(i),
        }
    }

    fn any_left(&self) -> bool {
        self.next.load(SeqCst) < self.units()
    }

    /// Runs all units and returns the counts of all host threads together.
    pub(crate) fn run(&self) -> Counts {
        let threads = self.host_threads;
        let work = || {
            let mut counts = Counts::new(self.program.code.len());
            self.work(&mut counts);
            self.idle().working -= 1;
            counts
        };
        if threads == 1 {
            return work();
        }
        std::thread::scope(|scope| {
            let handles: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            let mut total = Counts::new(self.program.code.len());
            for handle in handles {
                match handle.join() {
                    Ok(counts) => total.add(&counts),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            total
        })
    }

    /// One host thread: usually one unit at a time; further ones only while those wait for others.
    fn work(&self, counts: &mut Counts) {
        let mut resident: Vec<Unit> = Vec::new();
        let mut spare: Option<Unit> = None;
        let mut registered = None;
        let (mut quiet, mut waiting) = (0, false);
        loop {
            let full = resident.len() >= RESIDENT;
            if resident.is_empty() || (waiting && !full && self.any_left()) {
                match self.take() {
                    Some(index) => {
                        resident.push(Unit::placed(self, index, spare.take()));
                        quiet = 0;
                    }
                    None if resident.is_empty() => return,
                    None => {}
                }
            }
            let seen = self.events.load(SeqCst);
            let effects = self.turn(&mut resident, &mut spare, counts, quiet > 0);
            if effects > 0 {
                self.events.fetch_add(effects, SeqCst);
            }
            if self.stop.load(Relaxed) {
                return;
            }
            if self.events.load(SeqCst) != seen {
                resident.iter_mut().for_each(Unit::forget_states);
                (quiet, waiting) = (0, false);
                continue;
            }
            quiet += SHORT;
            let cycling = self.all_cycle(&mut resident);
            waiting = cycling || resident.iter().all(|unit| unit.polled);
            let hopeless = cycling || quiet > self.options.patience;
            if hopeless && (full || !self.any_left()) {
                if registered.replace(seen) != Some(seen) {
                    self.idle().register(seen);
                }
                if self.idle().is_everyone(seen) && self.events.load(SeqCst) == seen {
                    resident.iter_mut().for_each(|unit| unit.report_stuck(self));
                    self.stop.store(true, Relaxed);
                    return;
                }
                std::thread::yield_now();
            }
        }
    }

    /// Runs each resident unit for a slice; returns how much happened.
    fn turn(
        &self,
        resident: &mut Vec<Unit>,
        spare: &mut Option<Unit>,
        counts: &mut Counts,
        quiet: bool,
    ) -> u64 {
        let mut effects = 0;
        let mut i = 0;
        while i < resident.len() {
            let before = resident[i].events;
            let finished = resident[i].run(self, counts, if quiet { SHORT } else { SLICE });
            effects += resident[i].events - before;
            if finished {
                self.finished.fetch_add(1, Relaxed);
                effects += 1;
                *spare = Some(resident.swap_remove(i));
            } else {
                i += 1;
            }
        }
        effects
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(|p| p.into_inner())
    }

    /// Whether every resident unit is back in a state that it was in before, with nothing in memory
    /// changed since: then it will go round for ever, unless another block does something.
    fn all_cycle(&self, resident: &mut [Unit]) -> bool {
        // Every one remembers its state, also after the first that is new.
        resident.iter_mut().filter_map(|unit| (!unit.is_back()).then_some(())).count() == 0
    }
}
