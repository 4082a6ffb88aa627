//! Where the time of a plan goes: seconds of every kernel, and of copies.
//!
//! A launch of several kernels is timed as a whole, and what all threads together have spent in each part says how that
//! time is shared out.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use gigac_ir::plan::{Part, Plan};
use serde_json::{Value, json};

use crate::exec::executor::widest;

/// What the launches of one kernel, or all copies, have taken.
#[derive(Clone, Copy, Default)]
struct Row {
    calls: u64,
    time: Duration,
    /// Bytes that the calls read and wrote, every argument counted once.
    bytes: u64,
}

/// Times of launches, by kernel. Recording allocates nothing.
pub struct Profile {
    kernels: Vec<Row>,
    copies: Row,
    /// Nanoseconds that threads have spent in each part of the launch in hand.
    parts: Vec<AtomicU64>,
    runs: u64,
}

impl Profile {
    /// An empty profile of a plan's kernels.
    pub fn new(plan: &Plan) -> Self {
        let kernels = vec![Row::default(); plan.kernels.len()];
        let parts = (0..widest(&plan.items).parts).map(|_| AtomicU64::new(0)).collect();
        Self { kernels, copies: Row::default(), parts, runs: 0 }
    }

    /// Counts one run of the plan.
    pub(crate) fn run(&mut self) {
        self.runs += 1;
    }

    /// Does work of a part of the launch in hand, which has several.
    pub(crate) fn of_part(&self, part: usize, work: impl FnOnce()) {
        let started = Instant::now();
        work();
        self.parts[part].fetch_add(started.elapsed().as_nanos() as u64, Relaxed);
    }

    pub(crate) fn launch(&mut self, plan: &Plan, parts: &[Part], started: Instant) {
        let time = started.elapsed();
        let all: u64 = self.parts.iter_mut().map(|nanos| *nanos.get_mut()).sum();
        for (part, nanos) in parts.iter().zip(&mut self.parts) {
            let nanos = std::mem::take(nanos.get_mut());
            let share = if all > 0 { nanos as f64 / all as f64 } else { 1.0 / parts.len() as f64 };
            let arguments = &plan.kernels[part.kernel as usize].arguments;
            let bytes = arguments.iter().map(|a| a.bytes).sum();
            self.kernels[part.kernel as usize].add(time.mul_f64(share), bytes);
        }
    }

    pub(crate) fn copy(&mut self, bytes: u64, started: Instant) {
        self.copies.add(started.elapsed(), 2 * bytes);
    }

    /// The rows of a run on average, longest first: seconds, calls, share of the run, 10⁹
    /// operations and 10⁹ bytes of arguments per second.
    pub fn to_json(&self, plan: &Plan) -> Value {
        let all: Duration = self.rows().map(|row| row.time).sum();
        let row = |row: &Row, name: &str, origin: &str, points: u64, flops: u64| {
            let seconds = row.time.as_secs_f64();
            json!({
                "kernel": name,
                "origin": origin,
                "grid_points": points,
                "seconds": seconds / self.runs.max(1) as f64,
                "calls": row.calls / self.runs.max(1),
                "share": seconds / all.as_secs_f64(),
                "gflops": (flops * row.calls) as f64 / seconds / 1e9,
                "gbytes_per_s": row.bytes as f64 / seconds / 1e9,
            })
        };
        let mut rows: Vec<(Duration, Value)> = self
            .kernels
            .iter()
            .zip(&plan.kernels)
            .map(|(r, k)| (r.time, row(r, &k.name, &k.origin, k.grid_points, k.flops)))
            .collect();
        rows.push((self.copies.time, row(&self.copies, "copy", "", 0, 0)));
        rows.retain(|(time, _)| !time.is_zero());
        rows.sort_by_key(|(time, _)| std::cmp::Reverse(*time));
        rows.into_iter().map(|(_, row)| row).collect()
    }

    fn rows(&self) -> impl Iterator<Item = &Row> {
        self.kernels.iter().chain([&self.copies])
    }
}

impl Row {
    fn add(&mut self, time: Duration, bytes: u64) {
        self.calls += 1;
        self.time += time;
        self.bytes += bytes;
    }
}
