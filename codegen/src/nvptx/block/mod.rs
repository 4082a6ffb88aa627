//! Block programs on tensor cores: kernels whose products read what other products made.
//!
//! All products have their rows in common, which warps share, 16 or 32 rows each; every warp has
//! all columns. So a row stays in one warp throughout: a reduction along it is a few shuffles, and what one
//! `mma` accumulated is, rounded and packed, the left operand of the next one, in the same registers.
//!
//! - Operands that are loaded lie in panels of shared memory. Those that stay the same in all loops are
//!   fetched once; of left ones the fragments stay in registers where there are enough.
//! - The innermost loop is software-pipelined (`turns`). Turns in which a mask holds nowhere are left out:
//!   a scan goes on to the next one that counts.
//! - What is stored at the end passes between the four threads of a row, for accesses of 16 bytes (`finish`).
//! - Columns of scores are interleaved where they come in 32: a thread has eight neighbours, so that what is read or
//!   written for each pair of positions goes in 16 bytes too (`panel::position_of`).
//!
//! What qualifies (`program`): each product has one operand that varies along the rows; the other is loaded;
//! both have at most the digits of bf16.

mod base;
mod convex;
mod course;
mod finish;
mod holds;
mod multiply;
mod partial;
mod program;
mod quick;
mod scale;
mod turns;
mod vectors;

use std::collections::{BTreeSet, HashMap};

use gigac_ir::kernel::{Kernel, Stmt, TileId, VarId};
use inkwell::values::IntValue;

use super::gpu::{Gpu, WARP};
use super::layout::{Layout, Spread};
use super::lower::{Frame, Lowerer, Refusal};
use super::panel::{INTERLEAVED, Panel, padded, position_of};
use super::{GpuTarget, Resources, dots};
use crate::alias::without_trivial_reductions;
use crate::llvm::emit::Value;
use multiply::Fragments;
use program::{Dot, Program};
use vectors::Vector;

/// Rows of one `mma`.
const ROWS: u64 = 16;

/// Registers of a thread for accumulators and fragments; the others are for addresses and what is in hand.
const REGISTERS: u64 = 168;

/// Most registers of accumulators.
const ACCUMULATORS: u64 = 200;

/// Fewest warps that are worth it to have twice the rows in each.
const WARPS: u64 = 4;

/// Stages of the pipeline: at least and at most.
const STAGES: [u64; 2] = [2, 3];

/// How a block is shared between warps, and what it keeps where.
struct Plan {
    /// Rows of one warp.
    rows: u64,
    warps: u64,
    /// Whether fragments of left operands stay in registers.
    keeps: bool,
}

impl Plan {
    fn of(program: &Program<'_>) -> Result<Self, Refusal> {
        let kernel = program.kernel;
        // For 16 rows, a thread has half as many sums as there are columns, a quarter as many words of
        // an operand as that is wide.
        let sums: u64 = program.dots.values().map(|d| padded(kernel, d.cols) / 2).sum();
        let kept: BTreeSet<TileId> = program.kept().map(|d| d.lhs).collect();
        let along = |value: &TileId| {
            let along = program.dots.values().find(|d| d.lhs == *value).map(|d| d.along);
            along.map_or(0, |v| padded(kernel, v) / 4)
        };
        let fragments: u64 = kept.iter().map(along).sum();
        if sums > ACCUMULATORS {
            return Err(format!("its products take {sums} registers of each thread"));
        }
        let all = padded(kernel, program.rows);
        let twice = 2 * (sums + fragments) <= REGISTERS && all >= 2 * ROWS * WARPS;
        let rows = if twice { 2 * ROWS } else { ROWS };
        let warps = all.div_ceil(rows).next_power_of_two();
        if warps * WARP > 1024 {
            return Err(format!("{all} rows are more than a block has"));
        }
        Ok(Self { rows, warps, keeps: twice || sums + fragments <= REGISTERS })
    }

    fn threads(&self) -> u64 {
        self.warps * WARP
    }

    /// Rows by lane bits 2 to 4 and warps, columns of all other variables by lane bits 0 and 1.
    fn spreads(&self, program: &Program<'_>) -> Vec<Spread> {
        let kernel = program.kernel;
        let pairs = |size: u64, step: u64, pair: u64| {
            (0..size / step).flat_map(move |i| [i * step, i * step + pair]).collect()
        };
        let warps = (0..self.warps.ilog2()).map(|i| (WARP.ilog2() + i, self.rows << i));
        let rows = Spread {
            bits: [(2, 1), (3, 2), (4, 4)].into_iter().chain(warps).collect(),
            registers: pairs(self.rows, 16, 8),
            start: 0,
        };
        let of = |i: usize| {
            let var = VarId(i as u32);
            match kernel.var(var).tile {
                _ if var == program.rows => rows.clone(),
                1 => Spread::single(),
                _ => {
                    let registers = pairs(padded(kernel, var), 8, 1);
                    let lines = Spread { bits: vec![(0, 2), (1, 4)], registers, start: 0 };
                    if program.interleaves(var) { lines.mapped(position_of) } else { lines }
                }
            }
        };
        (0..kernel.vars.len()).map(of).collect()
    }
}

impl Program<'_> {
    /// Products whose left operand is loaded once.
    fn kept(&self) -> impl Iterator<Item = &Dot> {
        self.dots.values().filter(|d| self.is_loaded(d.lhs) && !self.turns(d.lhs))
    }
}

impl Program<'_> {
    /// Whether positions of a variable are interleaved: those of an innermost loop, when they are lines in all panels.
    fn interleaves(&self, var: VarId) -> bool {
        let lines = |(value, [own, along]): (TileId, [VarId; 2])| {
            let loads = self.loads(value);
            let panel = Panel::new(self.kernel, (value, &loads), [own, along], [INTERLEAVED; 2], 0);
            panel.fast != var
        };
        let loaded = self.operands().filter(|(value, _)| self.is_loaded(*value));
        self.innermost.contains(&var)
            && padded(self.kernel, var).is_multiple_of(INTERLEAVED)
            && loaded.into_iter().all(lines)
    }

    /// The operands of all products, with their own variables and those that they are contracted along.
    fn operands(&self) -> impl Iterator<Item = (TileId, [VarId; 2])> {
        let of = move |d: &Dot| [(d.lhs, [self.rows, d.along]), (d.rhs, [d.cols, d.along])];
        self.dots.values().flat_map(of)
    }
}

/// A panel and where it lies, from the start of what is fixed or of a stage.
struct Held {
    panel: Panel,
    at: u64,
}

/// A block program under construction.
struct Block<'a, 'e, 'c> {
    lowerer: Lowerer<'e, 'c>,
    program: &'a Program<'e>,
    plan: &'a Plan,
    panels: HashMap<TileId, Held>,
    vectors: HashMap<TileId, Vector>,
    /// Bytes from the start of shared memory to the first stage.
    fixed: u64,
    /// Bytes of a stage, and how many there are.
    stage: u64,
    stages: u64,
    /// The stage in hand, in bytes.
    slot: Option<IntValue<'c>>,
    kept: HashMap<TileId, Fragments<'c>>,
    /// The program at its end, in layouts with wide accesses: along columns, and along rows.
    ends: [Option<Lowerer<'e, 'c>>; 2],
    /// Whether stages have been used.
    used: bool,
}

/// Emits the function of a block program.
pub(super) fn lower(
    gpu: &Gpu<'_>,
    kernel: &Kernel,
    target: GpuTarget,
) -> Result<Resources, Refusal> {
    let kernel = &base::in_base_two(&scale::moved(&without_trivial_reductions(kernel)));
    let program = Program::of(kernel)?;
    let plan = Plan::of(&program)?;
    let frame = Frame::new(gpu, kernel, plan.threads());
    let layout = Layout::new(gpu, frame.thread, plan.spreads(&program));
    let mut lowerer = Lowerer::new(gpu, kernel, &frame, layout);
    let lazy = program.exprs.iter().filter(|(value, _)| !program.dots.contains_key(value));
    lowerer.lazy = lazy.map(|(value, expr)| (*value, *expr)).collect();
    lowerer.quick = true;
    lowerer.place();
    let mut block = Block {
        lowerer,
        program: &program,
        plan: &plan,
        panels: HashMap::new(),
        vectors: HashMap::new(),
        fixed: frame.local,
        stage: 0,
        stages: STAGES[0],
        slot: None,
        kept: HashMap::new(),
        ends: [None, None],
        used: false,
    };
    let shared = block.memory(target)?;
    block.begin()?;
    block.block(&kernel.body, true)?;
    gpu.ret();
    Ok(Resources { threads: plan.threads(), shared })
}

impl<'e, 'c> Block<'_, 'e, 'c> {
    /// Gives every loaded operand its place in shared memory; the bytes of all.
    fn memory(&mut self, target: GpuTarget) -> Result<u64, Refusal> {
        for (value, [own, along]) in self.program.operands() {
            if self.program.is_loaded(value) && !self.panels.contains_key(&value) {
                self.place(value, own, along);
            }
        }
        self.place_vectors();
        let limit = target.shared_limit();
        let several = if self.plan.threads() <= WARPS * WARP { 2 } else { 1 };
        let left = (limit / several).saturating_sub(self.fixed);
        let [least, most] = STAGES;
        self.stages = (left / self.stage.max(1)).clamp(least, most);
        let all = self.fixed + self.stages * self.stage;
        if all > limit {
            return Err(format!("{all} bytes of shared memory are more than a block has"));
        }
        Ok(all)
    }

    /// Positions of a variable that the block has.
    fn size(&self, var: VarId) -> u64 {
        match var == self.program.rows {
            true => self.plan.rows * self.plan.warps,
            false => padded(self.program.kernel, var),
        }
    }

    fn place(&mut self, value: TileId, own: VarId, along: VarId) {
        let kernel = self.program.kernel;
        let loads = self.program.loads(value);
        let bits = self.plan.threads().ilog2();
        let extents = [self.size(own), self.size(along)];
        let mut panel = Panel::new(kernel, (value, &loads), [own, along], extents, bits);
        panel.narrow = self.program.turns(value);
        panel.interleaved = self.program.interleaves(panel.slow);
        let end = if self.program.turns(value) { &mut self.stage } else { &mut self.fixed };
        let at = *end;
        *end += panel.bytes();
        self.panels.insert(value, Held { panel, at });
    }

    /// Fetches what stays, and the fragments of it that stay in registers.
    fn begin(&mut self) -> Result<(), Refusal> {
        let gpu = self.lowerer.gpu;
        let stay = |v: &&TileId| !self.program.turns(**v);
        let mut values: Vec<TileId> = self.panels.keys().filter(stay).copied().collect();
        values.sort_unstable();
        let rows = self.program.rows;
        for value in &values {
            let first = self.lowerer.firsts[rows.0 as usize].unwrap_or(gpu.i32(0));
            self.fill(*value, (rows, first), gpu.i32(0))?;
        }
        let first = self.lowerer.firsts[rows.0 as usize].unwrap_or(gpu.i32(0));
        let vectors = self.vectors_along(rows);
        self.send_vectors(&vectors, (rows, first), gpu.i32(0))?;
        gpu.commit_copies();
        gpu.wait_copies(0);
        gpu.barrier();
        self.stage_vectors(&vectors, gpu.i32(0));
        for vector in vectors {
            self.lowerer.value(vector)?;
        }
        if self.plan.keeps {
            let kept: Vec<Dot> = self.program.kept().copied().collect();
            for dot in kept {
                let fragments = self.loaded_rows(&dot);
                self.kept.insert(dot.lhs, fragments);
            }
        }
        Ok(())
    }

    /// Sends for the panel of an operand, with a variable at a position.
    fn fill(
        &self,
        value: TileId,
        at: (VarId, IntValue<'c>),
        slot: IntValue<'c>,
    ) -> Result<(), Refusal> {
        self.panels[&value].panel.fill(&self.lowerer, at, self.base(value, slot))
    }

    /// Runs statements; `last` says whether nothing follows but the end.
    fn block(&mut self, body: &'e [Stmt], last: bool) -> Result<(), Refusal> {
        for stmt in body {
            match stmt {
                Stmt::Let(value, _) => {
                    if let Some(dot) = self.program.dots.get(value).copied() {
                        self.product(*value, &dot)?;
                    }
                }
                Stmt::When(_) => {}
                Stmt::Loop { var, carried, body } => {
                    self.ends = [None, None];
                    match dots(body) {
                        0 => self.lowerer.block(std::slice::from_ref(stmt))?,
                        _ if self.program.innermost.contains(var) => {
                            self.pipelined(*var, carried, body)?
                        }
                        _ => self.plain(*var, carried, body)?,
                    }
                }
                Stmt::Store { buffer, offset, value, mask, accumulate } => {
                    let along = usize::from(self.program.wide(*value) == [self.program.rows]);
                    if last && self.ends[along].is_none() {
                        self.ends[along] =
                            Some(if along == 0 { self.widened() } else { self.heightened() });
                    }
                    let lowerer = self.ends[along].as_mut().unwrap_or(&mut self.lowerer);
                    lowerer.store(*buffer, offset, *value, *mask, *accumulate)?;
                }
            }
        }
        Ok(())
    }

    /// Computes a product, into the sum that it is added to.
    fn product(&mut self, value: TileId, dot: &Dot) -> Result<(), Refusal> {
        let (target, start) = match dot.added {
            Some((sum, other)) => (sum, Some(self.lowerer.value(other)?.to_vec())),
            None => (value, None),
        };
        let start: Option<Vec<Value<'c>>> = start.map(|tile| {
            let own = self.lowerer.shape(dot.added.expect("it is added").1);
            let held = self.held(dot);
            held.all().map(|at| tile[own.index(&held, &at)]).collect()
        });
        let sums = self.multiply(dot, start)?;
        let (own, held) = (self.lowerer.shape(target), self.held(dot));
        let mut tile = sums.clone();
        for (at, sum) in held.all().zip(&sums) {
            tile[own.index(&held, &at)] = *sum;
        }
        self.lowerer.values[target.0 as usize] = Some(tile.into());
        Ok(())
    }
}
