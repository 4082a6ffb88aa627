//! Times steps on synthetic data.

use std::time::Instant;

use gigac_ir::program::Program;
use serde_json::{Value, json};

use crate::data::batch::{Batch, Layout, feed_scalars};
use crate::data::source::{Source, Synthetic};
use crate::error::Result;
use crate::exec::code::Kernels;
use crate::exec::peak;
use crate::train::{Machine, Readback};
use crate::weights::initial;

/// Steps before the clock counts: the first touches every page.
const WARM_UP: u64 = 2;

/// Figures of a benchmark.
pub struct Report {
    /// Median wall time of a step, in seconds.
    pub median_step_s: f64,
    /// Fastest step.
    pub min_step_s: f64,
    /// Tokens of a step over the median.
    pub tokens_per_s: f64,
    /// 10⁹ operations of a step, by the formula of the benchmark models.
    pub gflop_step: f64,
    /// 10⁹ operations per second at the median.
    pub gflops: f64,
    /// 10⁹ operations per second that the machine can do on these threads, with the vectors of the
    /// program's code.
    pub peak_gflops: f64,
    /// Most memory that the process held, in MB (10⁶ bytes).
    pub peak_rss_mb: f64,
    /// Loss of the last step: shows that numbers were computed.
    pub loss: f64,
    /// Times by kernel, when asked for: see [`crate::exec::profile`].
    pub profile: Option<Value>,
}

impl Report {
    /// As a JSON object.
    pub fn to_json(&self) -> Value {
        let mut figures = json!({
            "median_step_s": self.median_step_s,
            "min_step_s": self.min_step_s,
            "tokens_per_s": self.tokens_per_s,
            "gflop_step": self.gflop_step,
            "gflops": self.gflops,
            "peak_gflops": self.peak_gflops,
            "peak_rss_mb": self.peak_rss_mb,
            "loss": self.loss,
        });
        if let Some(profile) = &self.profile {
            figures["profile"] = profile.clone();
        }
        figures
    }
}

/// Runs the first phase's step `steps` times, after a warm-up; then, for a profile, as often again.
///
/// # Errors
/// [`crate::Error::Machine`] when the machine cannot run the program.
pub fn bench(
    program: &Program,
    kernels: &Kernels,
    steps: u64,
    threads: usize,
    profile: bool,
) -> Result<Report> {
    let mut machine = Machine::new(program, kernels, threads, false)?;
    let phase = &program.phases[0];
    let plan = &phase.step;
    initial::weights(plan, &mut machine.arena, &mut machine.pool, 0);
    initial::moments(plan, &mut machine.arena);
    initial::round(plan, &mut machine.arena, &mut machine.pool);
    let layout = Layout::new(plan);
    let (mut source, mut batch) = (Synthetic::new(&layout, 0), Batch::new(&layout));
    let mut executor = machine.bind(plan)?;
    let mut times = Vec::new();
    for step in 0..steps + WARM_UP {
        source.fill(step, &mut batch)?;
        let started = Instant::now();
        batch.feed(&layout, &mut machine.arena);
        feed_scalars(plan, &mut machine.arena, step, steps + WARM_UP, 0);
        machine.run(&mut executor)?;
        if step >= WARM_UP {
            times.push(started.elapsed().as_secs_f64());
        }
    }
    if profile {
        executor.start_profile();
        (0..steps).try_for_each(|_| machine.run(&mut executor))?;
    }
    let loss = Readback::new(plan).loss(&machine);
    times.sort_by(f64::total_cmp);
    let median = (times[(times.len() - 1) / 2] + times[times.len() / 2]) / 2.0;
    Ok(Report {
        median_step_s: median,
        min_step_s: times[0],
        tokens_per_s: phase.tokens_per_step as f64 / median,
        gflop_step: phase.gflop_step,
        gflops: phase.gflop_step / median,
        peak_gflops: peak::measure(&mut machine.pool, kernels.vectors()) / 1e9,
        peak_rss_mb: peak_rss_mb(),
        loss,
        profile: executor.profile().map(|profile| profile.to_json(plan)),
    })
}

/// Most memory that this process held so far, in MB.
fn peak_rss_mb() -> f64 {
    // The system's count of a process starts with what its parent held, this one does not.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok());
    if let Some(kib) = kib {
        return kib * 1024.0 / 1e6;
    }
    // SAFETY: the structure is plain data that the call fills.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    };
    // Linux counts in KiB.
    usage.ru_maxrss as f64 * 1024.0 / 1e6
}
