//! The library door: load a module, describe a launch, run it, look at the report.

use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};

use crate::check::clock::Variables;
use crate::check::{Checks, Finding, Findings};
use crate::error::LaunchError;
use crate::exec::Engine;
use crate::exec::engine::{Idle, Options, Schedule};
use crate::lanes::Isa;
use crate::memory::{Backing, Buffer, Filler, Globals, Memory};
use crate::profile::{Counts, Profile, annotate};
use crate::program::Program;
use crate::{decode, syntax};

/// A PTX module, parsed and decoded once, to be launched any number of times.
#[derive(Clone)]
pub struct Module(Arc<Program>);

impl std::fmt::Debug for Module {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_list().entries(self.entries()).finish()
    }
}

impl Module {
    /// Reads PTX text.
    ///
    /// # Errors
    /// The first thing in the text that is not PTX or not supported, with line and column.
    pub fn parse(text: &str) -> Result<Module, crate::PtxError> {
        Module::parse_for(text, Isa::detect())
    }

    /// As [`Module::parse`], but runs with no better vector instructions of the host than these: to measure what they
    /// bring, or to compare results. Those that the processor lacks are never used.
    ///
    /// # Errors
    /// As [`Module::parse`].
    pub fn parse_for(text: &str, isa: Isa) -> Result<Module, crate::PtxError> {
        let tree = syntax::parse(text)?;
        Ok(Module(Arc::new(decode::decode(text, &tree, isa.available())?)))
    }

    /// Names of its kernels.
    pub fn entries(&self) -> impl Iterator<Item = &str> {
        self.0.functions.iter().filter(|f| f.is_entry).map(|f| f.name.as_str())
    }

    /// The `.target` of the module.
    pub fn target(&self) -> &str {
        &self.0.target
    }

    /// Distinct opcodes, as written.
    pub fn opcodes(&self) -> &[String] {
        &self.0.opcodes
    }
}

/// One argument of a kernel, in the order of its parameters.
#[derive(Clone)]
enum Arg {
    Buffer(usize),
    Bytes(Vec<u8>),
}

/// A kernel launch on the CPU.
///
/// ```
/// use gigac_emulator::{Launch, Module};
///
/// let module = Module::parse(
///     ".version 8.0
///      .target sm_80
///      .address_size 64
///      .visible .entry double(.param .u64 data) {
///          .reg .b32 %r<3>;
///          .reg .b64 %rd<4>;
///          ld.param.u64 %rd1, [data];
///          mov.u32 %r1, %tid.x;
///          mul.wide.u32 %rd2, %r1, 4;
///          add.s64 %rd3, %rd1, %rd2;
///          ld.global.u32 %r2, [%rd3];
///          shl.b32 %r2, %r2, 1;
///          st.global.u32 [%rd3], %r2;
///          ret;
///      }",
/// )?;
/// let input: Vec<u8> = (0..64u32).flat_map(u32::to_le_bytes).collect();
/// let report = Launch::new(&module, "double").block([64, 1, 1]).buffer("data", input).run()?;
/// assert!(report.findings.is_empty());
/// assert_eq!(report.buffer("data").unwrap()[4..8], 2u32.to_le_bytes());
///
/// // One thread too many: the report names the line, the thread and the address.
/// let report = Launch::new(&module, "double").block([65, 1, 1]).buffer("data", vec![0; 256]).run()?;
/// assert_eq!(report.findings[0].at.thread, [64, 0, 0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Launch {
    module: Module,
    entry: String,
    grid: [u32; 3],
    block: [u32; 3],
    cluster: Option<[u32; 3]>,
    dynamic_shared: u32,
    args: Vec<Arg>,
    buffers: Vec<(String, u64, Backing)>,
    blocks: Option<Vec<u64>>,
    options: Options,
}

/// What a launch did.
#[derive(Debug, Clone)]
pub struct Report {
    /// Buffers after the launch, in the order of the arguments; lazily backed ones are left out.
    pub buffers: Vec<(String, Vec<u8>)>,
    /// Pages of lazily backed buffers that were touched: name, offset, bytes.
    pub pages: Vec<(String, u64, Vec<u8>)>,
    /// What was wrong; empty for a correct kernel.
    pub findings: Vec<Finding>,
    /// Counts.
    pub profile: Profile,
    /// What the kernel printed.
    pub printed: String,
    /// Blocks that ran.
    pub blocks: u64,
    counts: Counts,
    module: Module,
}

impl Report {
    /// The content of a buffer after the launch.
    pub fn buffer(&self, name: &str) -> Option<&[u8]> {
        self.buffers.iter().find(|b| b.0 == name).map(|b| b.1.as_slice())
    }

    /// The PTX text with counts in front of each line.
    pub fn listing(&self) -> String {
        annotate(&self.module.0, &self.counts)
    }
}

impl Launch {
    /// A launch of kernel `entry` with one block of one thread and all checks.
    pub fn new(module: &Module, entry: &str) -> Launch {
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
        Launch {
            module: module.clone(),
            entry: entry.to_string(),
            grid: [1; 3],
            block: [1; 3],
            cluster: None,
            dynamic_shared: 0,
            args: Vec::new(),
            buffers: Vec::new(),
            blocks: None,
            options: Options {
                checks: Checks::ALL,
                schedule: Schedule::LowestFirst,
                async_at_once: false,
                profile: true,
                threads,
                patience: 40_000_000,
                max_findings: 20,
            },
        }
    }

    /// Blocks along x, y, z.
    pub fn grid(mut self, grid: [u32; 3]) -> Self {
        self.grid = grid;
        self
    }

    /// Threads along x, y, z.
    pub fn block(mut self, block: [u32; 3]) -> Self {
        self.block = block;
        self
    }

    /// Blocks per cluster; the kernel's `.reqnctapercluster` is the default.
    pub fn cluster(mut self, cluster: [u32; 3]) -> Self {
        self.cluster = Some(cluster);
        self
    }

    /// Bytes of dynamic shared memory.
    pub fn dynamic_shared(mut self, bytes: u32) -> Self {
        self.dynamic_shared = bytes;
        self
    }

    /// Next argument: a pointer to a buffer with this content and exactly this size.
    pub fn buffer(self, name: &str, bytes: Vec<u8>) -> Self {
        let len = bytes.len() as u64;
        self.backed(name, len, Backing::Bytes(Arc::new(bytes)))
    }

    /// Next argument: a pointer to a buffer that nobody has written yet.
    pub fn fresh_buffer(self, name: &str, bytes: u64) -> Self {
        self.backed(name, bytes, Backing::Fresh)
    }

    /// Next argument: a pointer to a buffer whose pages are filled by `fill(offset, bytes)` when
    /// first touched, so that sampled blocks of a huge launch need little memory.
    pub fn lazy_buffer(self, name: &str, bytes: u64, fill: Filler) -> Self {
        self.backed(name, bytes, Backing::Lazy(fill))
    }

    fn backed(mut self, name: &str, len: u64, backing: Backing) -> Self {
        self.args.push(Arg::Buffer(self.buffers.len()));
        self.buffers.push((name.to_string(), len, backing));
        self
    }

    /// Next argument: these bytes (a scalar or a structure by value).
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.args.push(Arg::Bytes(bytes.to_vec()));
        self
    }

    /// Next argument: a 32-bit integer.
    pub fn u32(self, value: u32) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    /// Next argument: a single.
    pub fn f32(self, value: f32) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    /// Next argument: an address, such as one that [`Memory`] gave out.
    pub fn pointer(self, address: u64) -> Self {
        self.bytes(&address.to_le_bytes())
    }

    /// Next argument: a null pointer.
    pub fn null(self) -> Self {
        self.bytes(&[0; 8])
    }

    /// Runs only these blocks, by their linear number (x fastest).
    pub fn only_blocks(mut self, blocks: Vec<u64>) -> Self {
        self.blocks = Some(blocks);
        self
    }

    /// Which checks run.
    pub fn checks(mut self, checks: Checks) -> Self {
        self.options.checks = checks;
        self
    }

    /// In which order warps advance.
    pub fn schedule(mut self, schedule: Schedule) -> Self {
        self.options.schedule = schedule;
        self
    }

    /// Lets asynchronous operations land at once instead of at their wait.
    pub fn async_at_once(mut self, on: bool) -> Self {
        self.options.async_at_once = on;
        self
    }

    /// Host threads; one makes the order of blocks, and so of their float atomics, reproducible.
    pub fn threads(mut self, threads: usize) -> Self {
        self.options.threads = threads;
        self
    }

    /// Whether sectors and bank conflicts are counted.
    pub fn profile(mut self, on: bool) -> Self {
        self.options.profile = on;
        self
    }

    /// Warp instructions without any effect after which waiting counts as a deadlock.
    pub fn patience(mut self, instructions: u64) -> Self {
        self.options.patience = instructions;
        self
    }

    /// Different findings after which the launch stops.
    pub fn max_findings(mut self, findings: usize) -> Self {
        self.options.max_findings = findings;
        self
    }

    /// Runs the launch in memory of its own.
    ///
    /// # Errors
    /// If there is no such kernel, or the arguments or the shape do not fit it. What goes wrong
    /// while it runs is in [`Report::findings`].
    pub fn run(self) -> Result<Report, LaunchError> {
        self.run_in(&Memory::new())
    }

    /// Runs the launch in `memory`, which keeps what the kernel leaves there. The report holds the
    /// launch's own buffers only.
    ///
    /// # Errors
    /// As [`Launch::run`].
    pub fn run_in(self, memory: &Memory) -> Result<Report, LaunchError> {
        let program = &*self.module.0;
        let entry = program
            .functions
            .iter()
            .position(|f| f.is_entry && f.name == self.entry && f.entry.is_some());
        let Some(entry) = entry else {
            let known: Vec<&str> = self.module.entries().collect();
            return Err(LaunchError::NoEntry { name: self.entry.clone(), known: known.join(", ") });
        };
        let cluster = self.shape(entry)?;
        let globals = Globals::new(memory, &self.buffers, &self.module.0)?;
        let own = globals.buffers.len() - self.buffers.len();
        let params = self.params(entry, &globals.buffers[own..])?;
        let per_unit = u64::from(cluster.iter().product::<u32>());
        let engine = Engine {
            program,
            entry,
            grid: self.grid,
            block: self.block,
            cluster,
            dynamic_shared: self.dynamic_shared,
            params,
            globals: &globals,
            options: &self.options,
            selected: self.blocks.as_ref().map(|b| self.units(b, cluster)),
            isa: program.isa,
            variables: Mutex::new(Variables::default()),
            findings: Mutex::new(Findings::default()),
            printed: Mutex::new(String::new()),
            next: AtomicU64::new(0),
            events: AtomicU64::new(0),
            finished: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            idle: Mutex::new(Idle::new(1)),
            host_threads: 1,
        };
        let host_threads = self.options.threads.max(1).min(engine.units().max(1) as usize);
        let idle = Mutex::new(Idle::new(host_threads));
        let engine = Engine { host_threads, idle, ..engine };
        let counts = engine.run();
        let blocks = engine.finished.into_inner() * per_unit;
        let findings = engine.findings.into_inner().unwrap_or_else(|p| p.into_inner());
        let printed = engine.printed.into_inner().unwrap_or_else(|p| p.into_inner());
        Ok(self.report(&globals.buffers[own..], counts, findings, printed, blocks))
    }

    fn report(
        &self,
        own: &[Buffer],
        counts: Counts,
        findings: Findings,
        printed: String,
        blocks: u64,
    ) -> Report {
        let (mut buffers, mut pages) = (Vec::new(), Vec::new());
        for (buffer, (name, _, backing)) in own.iter().zip(&self.buffers) {
            if let Backing::Lazy(_) = backing {
                pages.extend(
                    buffer.touched().into_iter().map(|(at, bytes)| (name.clone(), at, bytes)),
                );
            } else {
                buffers.push((name.clone(), buffer.bytes()));
            }
        }
        Report {
            buffers,
            pages,
            findings: findings.into_vec(),
            profile: Profile::new(&self.module.0, &counts),
            printed,
            blocks,
            counts,
            module: self.module.clone(),
        }
    }

    /// Checks grid, block and shared memory; returns the cluster shape.
    fn shape(&self, entry: usize) -> Result<[u32; 3], LaunchError> {
        let function = &self.module.0.functions[entry];
        let fail = |message: String| Err(LaunchError::Shape(message));
        let threads: u64 = self.block.iter().map(|&n| u64::from(n)).product();
        if threads == 0 || threads > 1024 || self.grid.contains(&0) {
            return fail(format!(
                "a block of {threads} threads and a grid of {:?} blocks cannot run",
                self.grid
            ));
        }
        if self.grid.iter().map(|&n| u128::from(n)).product::<u128>() > u128::from(u32::MAX) {
            return fail("more than 2^32 - 1 blocks".into());
        }
        if let Some((limits, exact)) = &function.threads {
            let limit = |i: usize| limits.get(i).copied().unwrap_or(1);
            let wrong = if *exact {
                (0..3).any(|i| self.block[i] != limit(i))
            } else {
                threads > (0..3).map(|i| u64::from(limit(i))).product()
            };
            if wrong {
                let word = if *exact { "requires" } else { "allows" };
                return fail(format!(
                    "the kernel {word} blocks of {limits:?} threads, not {:?}",
                    self.block
                ));
            }
        }
        if self.module.0.static_shared.checked_add(self.dynamic_shared).is_none_or(|n| n > 1 << 22)
        {
            return fail("more shared memory than any device has".into());
        }
        let declared = function.cluster.as_ref();
        let axis = |c: &Vec<u32>, i: usize| c.get(i).copied().unwrap_or(1).max(1);
        let cluster = self
            .cluster
            .or(declared.map(|c| std::array::from_fn(|i| axis(c, i))))
            .unwrap_or([1; 3]);
        if (0..3).any(|i| cluster[i] == 0 || !self.grid[i].is_multiple_of(cluster[i]))
            || cluster.iter().product::<u32>() > 16
        {
            return fail(format!(
                "clusters of {cluster:?} blocks do not fit a grid of {:?}",
                self.grid
            ));
        }
        Ok(cluster)
    }

    fn params(&self, entry: usize, own: &[Buffer]) -> Result<Vec<u8>, LaunchError> {
        let params = &self.module.0.functions[entry].kernel_params;
        let fail = |message: String| Err(LaunchError::Arguments(message));
        if params.len() != self.args.len() {
            return fail(format!(
                "`{}` takes {} arguments, {} were given",
                self.entry,
                params.len(),
                self.args.len()
            ));
        }
        let size = params.last().map_or(0, |p| p.1 + p.2) as usize;
        let mut out = vec![0; size];
        for ((name, offset, bytes), arg) in params.iter().zip(&self.args) {
            let value = match arg {
                Arg::Buffer(i) => own[*i].base.to_le_bytes().to_vec(),
                Arg::Bytes(bytes) => bytes.clone(),
            };
            if value.len() != *bytes as usize {
                return fail(format!(
                    "parameter `{name}` has {bytes} bytes, its argument {}",
                    value.len()
                ));
            }
            out[*offset as usize..][..value.len()].copy_from_slice(&value);
        }
        Ok(out)
    }

    /// Units that contain the chosen blocks.
    fn units(&self, blocks: &[u64], cluster: [u32; 3]) -> Vec<u64> {
        let grid = self.grid.map(u64::from);
        let c = cluster.map(u64::from);
        let units: Vec<u64> = (0..3).map(|i| grid[i] / c[i]).collect();
        let total: u64 = grid.iter().product();
        let mut list: Vec<u64> = blocks
            .iter()
            .filter(|b| **b < total)
            .map(|b| {
                let (x, y, z) = (b % grid[0], b / grid[0] % grid[1], b / grid[0] / grid[1]);
                x / c[0] + units[0] * (y / c[1] + units[1] * (z / c[2]))
            })
            .collect();
        list.sort_unstable();
        list.dedup();
        list
    }
}
