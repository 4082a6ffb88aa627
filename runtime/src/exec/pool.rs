//! Worker threads that run the grid points of one launch after the other.
//!
//! The calling thread is one of the workers. Points are handed out in chunks, large ones first, so
//! the split depends on speed, but no result does: grid points are independent. A launch does not
//! wait for workers that are still asleep when the points run out.
//!
//! A launch may have several parts: their points are one row, and a chunk never has points of two. So
//! threads that find no more of one part go on with the next one, and nobody waits in between.
//!
//! Every thread's scratch memory begins with a header that is zeroed when the thread enters a
//! part: kernels remember there from chunk to chunk what they have packed.
//!
//! The door protocol: a worker enters by raising `inside` and then looks whether the door is
//! `open`; only then it reads the task. The caller closes the door and waits until nobody is
//! inside before the task's data goes away. Both sides use sequentially consistent accesses, so
//! either the worker sees the closed door or the caller sees the worker.

use std::cell::UnsafeCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::thread::{self, JoinHandle, Thread};

use gigac_ir::plan::ALIGNMENT;

use crate::error::{Error, Result};
use crate::exec::allocations;
use crate::exec::arena::Arena;

/// Looks at the round before a worker goes to sleep: some tens of microseconds.
const SPINS: u32 = 20_000;
/// A thread takes this part of its share of the points that are left: large pieces first, single
/// points in the end, so that all threads finish together.
const PART: u64 = 2;

/// Runs points of a part with thread-private scratch memory: the part, its points `first..last`.
type Task<'t> = &'t (dyn Fn(usize, u64, u64, *mut u8) + Sync);

/// Where the points of each part end in the row of all.
type Ends<'t> = &'t [u64];

struct Door {
    /// The task and its parts; written only while nobody is in.
    task: UnsafeCell<Option<(Task<'static>, Ends<'static>)>>,
    next: AtomicU64,
    open: AtomicBool,
    inside: AtomicUsize,
    /// Raised whenever the door opens, so that waiting workers notice.
    round: AtomicU64,
    asleep: AtomicUsize,
    stop: AtomicBool,
}

// SAFETY: the cell is written by the caller of `Pool::run` alone, while the door is closed and
// nobody is inside, and read by those inside an open door.
unsafe impl Sync for Door {}

/// A fixed set of worker threads.
pub struct Pool {
    door: Arc<Door>,
    workers: Vec<(JoinHandle<()>, Thread)>,
    scratch: Arena,
}

impl Pool {
    /// Starts `threads − 1` workers beside the caller; each thread has `scratch_bytes` of its own.
    ///
    /// # Errors
    /// [`Error::Machine`] when the system refuses a thread or the memory.
    pub fn new(threads: usize, scratch_bytes: u64) -> Result<Self> {
        let door = Arc::new(Door {
            task: UnsafeCell::new(None),
            next: AtomicU64::new(0),
            open: AtomicBool::new(false),
            inside: AtomicUsize::new(0),
            round: AtomicU64::new(0),
            asleep: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        });
        let bytes = scratch_bytes.max(ALIGNMENT).next_multiple_of(ALIGNMENT);
        let mut pool = Self { door, workers: Vec::new(), scratch: Arena::new(bytes)? };
        for worker in 1..threads.max(1) {
            let (door, scratch) = (pool.door.clone(), Arena::new(bytes)?);
            let handle = thread::Builder::new()
                .name(format!("worker-{worker}"))
                .spawn(move || work(&door, threads as u64, &scratch))
                .map_err(|e| Error::Machine(format!("cannot start {threads} threads: {e}")))?;
            let thread = handle.thread().clone();
            pool.workers.push((handle, thread));
        }
        Ok(pool)
    }

    /// Number of threads, the caller included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs a task for all points of all parts, which end at `ends` in the row of all points, and returns when the last one is
    /// done.
    pub fn run(&mut self, ends: &[u64], task: Task<'_>) {
        let points = ends.last().copied().unwrap_or(0);
        if self.workers.is_empty() || points <= 1 {
            let mut first = 0;
            for (part, end) in ends.iter().enumerate() {
                if *end > first {
                    clear_header(&self.scratch);
                    task(part, 0, end - first, self.scratch.base());
                }
                first = *end;
            }
            return;
        }
        // SAFETY: the references are used only by threads inside the door, and `leave` below
        // returns after the last one has left, so they do not outlive `task` and `ends`.
        let (task, ends) = unsafe {
            std::mem::transmute::<(Task<'_>, Ends<'_>), (Task<'static>, Ends<'static>)>((
                task, ends,
            ))
        };
        // SAFETY: the door is closed and nobody is inside: the last run left it so.
        unsafe { *self.door.task.get() = Some((task, ends)) };
        self.door.next.store(0, SeqCst);
        self.door.open.store(true, SeqCst);
        self.door.round.fetch_add(1, SeqCst);
        if self.door.asleep.load(SeqCst) > 0 {
            self.workers.iter().for_each(|(_, thread)| thread.unpark());
        }
        let leave = Leave(&self.door);
        let threads = self.threads() as u64;
        chunks(&self.door, ends, threads, task, &self.scratch);
        drop(leave);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.door.stop.store(true, SeqCst);
        self.door.round.fetch_add(1, SeqCst);
        for (handle, thread) in self.workers.drain(..) {
            thread.unpark();
            // A worker that panicked has already said so on stderr.
            let _ = handle.join();
        }
    }
}

/// Closes the door and waits for those inside, also when the caller's own share panics.
struct Leave<'d>(&'d Door);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.open.store(false, SeqCst);
        let mut spins = 0;
        while self.0.inside.load(SeqCst) > 0 {
            pause(&mut spins);
        }
    }
}

/// Takes chunks until none is left.
fn chunks(door: &Door, ends: Ends<'_>, threads: u64, task: Task<'_>, scratch: &Arena) {
    let part_of = |point: u64| ends.partition_point(|end| *end <= point);
    let chunk = |first: u64, end: u64| ((end - first) / (threads * PART)).max(1);
    let next = |first| ends.get(part_of(first)).map(|end| first + chunk(first, *end));
    let mut entered = None;
    while let Ok(first) = door.next.fetch_update(SeqCst, SeqCst, next) {
        let part = part_of(first);
        if entered != Some(part) {
            clear_header(scratch);
            entered = Some(part);
        }
        let begin = part.checked_sub(1).map_or(0, |before| ends[before]);
        let last = first + chunk(first, ends[part]);
        task(part, first - begin, last - begin, scratch.base());
    }
}

/// Forgets what other kernels have left in the header.
fn clear_header(scratch: &Arena) {
    // SAFETY: scratch memory is at least one alignment unit long, and the thread's own.
    unsafe { scratch.base().write_bytes(0, ALIGNMENT as usize) };
}

/// Life of a worker.
fn work(door: &Door, threads: u64, scratch: &Arena) {
    allocations::watch_thread(true);
    let mut seen = 0;
    loop {
        seen = wait_for_round(door, seen);
        if door.stop.load(SeqCst) {
            return;
        }
        door.inside.fetch_add(1, SeqCst);
        let _inside = Inside(door);
        if door.open.load(SeqCst) {
            // SAFETY: inside an open door the cell is not written.
            if let Some((task, ends)) = unsafe { *door.task.get() } {
                chunks(door, ends, threads, task, scratch);
            }
        }
    }
}

/// Leaves the door on drop, also when a task panics: the caller must not wait for ever.
struct Inside<'d>(&'d Door);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, SeqCst);
    }
}

/// Spins, then sleeps, until the round differs from the one last seen.
fn wait_for_round(door: &Door, seen: u64) -> u64 {
    for _ in 0..SPINS {
        let round = door.round.load(SeqCst);
        if round != seen {
            return round;
        }
        std::hint::spin_loop();
    }
    door.asleep.fetch_add(1, SeqCst);
    while door.round.load(SeqCst) == seen {
        thread::park();
    }
    door.asleep.fetch_sub(1, SeqCst);
    door.round.load(SeqCst)
}

/// Waits a moment: busily at first, then giving the core away.
fn pause(spins: &mut u32) {
    *spins += 1;
    if *spins < SPINS { std::hint::spin_loop() } else { thread::yield_now() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    #[test]
    fn every_point_runs_once() {
        for threads in [1, 2, 5] {
            let mut pool = Pool::new(threads, 64).unwrap();
            for points in [0, 1, 7, 1000] {
                let hits: Vec<AtomicU32> = (0..points).map(|_| AtomicU32::new(0)).collect();
                pool.run(&[points], &|_, first, last, _| {
                    (first..last).for_each(|p| {
                        hits[p as usize].fetch_add(1, SeqCst);
                    });
                });
                assert!(hits.iter().all(|h| h.load(SeqCst) == 1), "{threads} threads, {points}");
            }
        }
    }

    /// Parts of any sizes, also of none; a thread that enters a part finds the header empty.
    #[test]
    fn every_point_of_every_part_runs_once() {
        let parts = [0, 1, 500, 0, 3, 64, 0];
        let ends: Vec<u64> = parts
            .iter()
            .scan(0, |sum, n| {
                Some({
                    *sum += n;
                    *sum
                })
            })
            .collect();
        for threads in [1, 2, 5] {
            let mut pool = Pool::new(threads, 64).unwrap();
            let hits = parts.map(|n| (0..n).map(|_| AtomicU32::new(0)).collect::<Vec<_>>());
            pool.run(&ends, &|part, first, last, scratch| {
                // SAFETY: scratch memory has 64 bytes, and is this thread's own.
                let header = unsafe { &mut *scratch.cast::<u64>() };
                assert!([0, part as u64 + 1].contains(header), "{part} finds what {header} left");
                *header = part as u64 + 1;
                (first..last).for_each(|p| {
                    hits[part][p as usize].fetch_add(1, SeqCst);
                });
            });
            assert!(hits.iter().flatten().all(|h| h.load(SeqCst) == 1), "{threads} threads");
        }
    }

    #[test]
    fn many_short_rounds_lose_nothing() {
        let mut pool = Pool::new(3, 64).unwrap();
        let sum = AtomicU64::new(0);
        for _ in 0..20_000 {
            pool.run(&[8], &|_, first, last, _| {
                sum.fetch_add(last - first, SeqCst);
            });
        }
        assert_eq!(sum.load(SeqCst), 160_000);
    }

    #[test]
    fn sleeping_workers_wake() {
        let mut pool = Pool::new(2, 64).unwrap();
        thread::sleep(std::time::Duration::from_millis(50));
        let met = AtomicUsize::new(0);
        // Both points wait for each other, so two threads must take part.
        pool.run(&[2], &|_, _, _, _| {
            met.fetch_add(1, SeqCst);
            while met.load(SeqCst) < 2 {
                thread::yield_now();
            }
        });
    }

    #[test]
    fn scratch_is_private_and_aligned() {
        let mut pool = Pool::new(2, 256).unwrap();
        let seen = std::sync::Mutex::new(std::collections::HashSet::new());
        for _ in 0..50 {
            pool.run(&[64], &|_, _, _, scratch| {
                assert_eq!(scratch as usize % 64, 0);
                seen.lock().unwrap().insert((thread::current().id(), scratch as usize));
            });
        }
        let seen = seen.into_inner().unwrap();
        let threads: std::collections::HashSet<_> = seen.iter().map(|(t, _)| t).collect();
        assert_eq!(threads.len(), seen.len(), "one scratch area per thread");
    }
}
