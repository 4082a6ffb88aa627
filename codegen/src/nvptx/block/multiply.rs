//! Products: fragments of the left operand from registers or from a panel, of the right one from a panel.

use gigac_ir::kernel::{Expr, TileId};
use gigac_ir::pointwise::Pointwise;
use inkwell::values::{IntValue, PointerValue};

use super::super::gpu::WARP;
use super::super::layout::Shape;
use super::super::lower::Refusal;
use super::super::panel::{PERIOD, Panel, padded};
use super::super::product::ascending;
use super::super::runs::WIDEST;
use super::program::Dot;
use super::{Block, ROWS};
use crate::llvm::emit::Value;

/// Depth of one `mma`.
const DEPTH: u64 = 16;

/// Left operands of `mma`: by step of the depth, then by 16 rows.
pub(super) type Fragments<'c> = Vec<Vec<[Value<'c>; 4]>>;

/// Where a matrix of 8 × 8 begins: what the thread adds, and what is constant.
#[derive(Clone, Copy)]
struct Corner<'c> {
    line: (IntValue<'c>, u64),
    chunk: (IntValue<'c>, u64),
}

impl<'c> Block<'_, '_, 'c> {
    /// Rows and columns of a product's result.
    pub(super) fn held(&self, dot: &Dot) -> Shape {
        self.lowerer.layout.shape(&ascending(self.program.rows, dot.cols))
    }

    /// Where the panel of an operand lies in a stage; what stays lies in front of them.
    pub(super) fn base(&self, value: TileId, slot: IntValue<'c>) -> PointerValue<'c> {
        let (gpu, held) = (self.lowerer.gpu, &self.panels[&value]);
        match self.program.turns(value) {
            false => gpu.bytes(gpu.shared_memory(), gpu.i32(held.at)),
            true => {
                let stage = gpu.bytes(gpu.shared_memory(), slot);
                gpu.bytes(stage, gpu.i32(self.fixed + held.at))
            }
        }
    }

    /// The product, in the order of its rows and columns, added to a start.
    pub(super) fn multiply(
        &mut self,
        dot: &Dot,
        start: Option<Vec<Value<'c>>>,
    ) -> Result<Vec<Value<'c>>, Refusal> {
        let gpu = self.lowerer.gpu;
        let kernel = self.program.kernel;
        let lhs = match self.kept.get(&dot.lhs) {
            Some(fragments) => fragments.clone(),
            None if self.program.is_loaded(dot.lhs) => self.loaded_rows(dot),
            None => self.packed_rows(dot)?,
        };
        let down = (self.plan.rows / ROWS) as usize;
        let across = (padded(kernel, dot.cols) / 8) as usize;
        let held = self.held(dot);
        let order = order(&held, self.program.rows == held.vars[0], [down, across]);
        let zero = gpu.real(0.0, 1);
        let mut sums: Vec<[Value<'c>; 4]> = match start {
            Some(start) => order.iter().map(|four| four.map(|at| start[at])).collect(),
            None => vec![[zero; 4]; down * across],
        };
        let base = self.base(dot.rhs, self.slot.unwrap_or(gpu.i32(0)));
        for (step, lhs) in lhs.iter().enumerate() {
            for j in 0..across / 2 {
                let [b0, b1, b2, b3] = self.columns(dot, base, j as u64, step as u64);
                for (i, a) in lhs.iter().enumerate() {
                    let at = i * across + 2 * j;
                    sums[at] = gpu.multiply(*a, [b0, b1], sums[at]);
                    sums[at + 1] = gpu.multiply(*a, [b2, b3], sums[at + 1]);
                }
            }
        }
        let mut elements = vec![zero; held.count()];
        for (four, sums) in order.iter().zip(sums) {
            four.iter().zip(sums).for_each(|(at, sum)| elements[*at] = sum);
        }
        Ok(elements)
    }

    fn lane(&self) -> IntValue<'c> {
        self.lowerer.gpu.and(self.lowerer.frame.thread, WARP - 1)
    }

    /// Fragments of a left operand in a panel.
    pub(super) fn loaded_rows(&self, dot: &Dot) -> Fragments<'c> {
        let gpu = self.lowerer.gpu;
        let panel = &self.panels[&dot.lhs].panel;
        let base = self.base(dot.lhs, self.slot.unwrap_or(gpu.i32(0)));
        let lane = self.lane();
        let warp = gpu.shift(self.lowerer.frame.thread, -(WARP.ilog2() as i32));
        let own = gpu.times(warp, self.plan.rows as i64);
        let (low, high) = (gpu.and(lane, 15), gpu.shift(lane, -4));
        let fragment = |step: u64, i: u64| {
            let corner = if panel.fast == dot.along {
                Corner { line: (gpu.plus(own, low), ROWS * i), chunk: (high, 2 * step) }
            } else {
                let line = gpu.plus(gpu.and(lane, 7), gpu.shift(high, 3));
                let half = gpu.and(gpu.shift(lane, -3), 1);
                let chunk = gpu.plus(gpu.shift(own, -3), half);
                Corner { line: (line, DEPTH * step), chunk: (chunk, 2 * i) }
            };
            self.matrices(panel, base, corner, panel.fast != dot.along)
        };
        let steps = padded(self.program.kernel, dot.along) / DEPTH;
        let rows = self.plan.rows / ROWS;
        (0..steps).map(|step| (0..rows).map(|i| fragment(step, i)).collect()).collect()
    }

    /// Columns `16·j …` of a right operand at a step of the depth.
    fn columns(&self, dot: &Dot, base: PointerValue<'c>, j: u64, step: u64) -> [Value<'c>; 4] {
        let gpu = self.lowerer.gpu;
        let panel = &self.panels[&dot.rhs].panel;
        let lane = self.lane();
        let (low, high) = (gpu.and(lane, 15), gpu.shift(lane, -4));
        let corner = if panel.fast == dot.along {
            let line = gpu.plus(gpu.and(lane, 7), gpu.shift(high, 3));
            let half = gpu.and(gpu.shift(lane, -3), 1);
            Corner { line: (line, 16 * j), chunk: (half, 2 * step) }
        } else {
            Corner { line: (low, DEPTH * step), chunk: (high, 2 * j) }
        };
        self.matrices(panel, base, corner, panel.fast != dot.along)
    }

    /// Four matrices of a panel. Constant parts of lines come in multiples of 8, which the swizzle
    /// does not see, and those of chunks have no bit in common with what the thread adds: so few
    /// addresses serve all steps, the rest is constant.
    fn matrices(
        &self,
        panel: &Panel,
        base: PointerValue<'c>,
        Corner { line, chunk }: Corner<'c>,
        transposed: bool,
    ) -> [Value<'c>; 4] {
        let gpu = self.lowerer.gpu;
        let period = panel.chunks.min(PERIOD);
        let turn = gpu.shift(line.0, -((PERIOD / period).ilog2() as i32));
        let swizzled = gpu.xor(chunk.0, gpu.and(turn, period - 1));
        let swizzled = gpu.xor(swizzled, gpu.i32(chunk.1 % period));
        let pitch = panel.chunks * WIDEST;
        let own =
            gpu.plus(gpu.times(line.0, pitch as i64), gpu.shift(swizzled, WIDEST.ilog2() as i32));
        let constant = line.1 * pitch + chunk.1 / period * period * WIDEST;
        let at = gpu.bytes(gpu.bytes(base, own), gpu.i32(constant));
        gpu.load_matrices(at, transposed)
    }

    /// Fragments of a left operand that is computed: accumulators, rounded and packed. What does not
    /// exist along the contracted variable is 0.
    fn packed_rows(&mut self, dot: &Dot) -> Result<Fragments<'c>, Refusal> {
        let mut value = dot.lhs;
        while let Some(Expr::Pointwise(Pointwise::Bf16 | Pointwise::Stop, x)) =
            self.lowerer.lazy.get(&value)
        {
            value = x[0];
        }
        let gpu = self.lowerer.gpu;
        let (tile, own) = (self.lowerer.value(value)?, self.lowerer.shape(value));
        let shape = self.lowerer.layout.shape(&ascending(self.program.rows, dot.along));
        let rows_first = shape.vars[0] == self.program.rows;
        let element = |row: usize, col: usize| {
            let at = if rows_first { [row, col] } else { [col, row] };
            let value = tile[own.index(&shape, &at)];
            match self.lowerer.exists(dot.along, col) {
                Some(exists) => gpu.select(exists, value, gpu.real(0.0, 1)),
                None => value,
            }
        };
        let fragment = |step: usize, i: usize| {
            [(0, 0), (1, 0), (0, 1), (1, 1)].map(|(below, right)| {
                let (row, col) = (2 * i + below, 2 * (2 * step + right));
                gpu.bf16_pair(element(row, col), element(row, col + 1))
            })
        };
        let steps = (padded(self.program.kernel, dot.along) / DEPTH) as usize;
        let rows = (self.plan.rows / ROWS) as usize;
        Ok((0..steps).map(|step| (0..rows).map(|i| fragment(step, i)).collect()).collect())
    }
}

/// Where the accumulators of `mma` stand among the elements of a result.
fn order(held: &Shape, rows_first: bool, [down, across]: [usize; 2]) -> Vec<[usize; 4]> {
    let place = |row: usize, col: usize| {
        held.index(held, &if rows_first { [row, col] } else { [col, row] })
    };
    let tile = |i: usize, j: usize| {
        [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(r, c)| place(2 * i + r, 2 * j + c))
    };
    (0..down).flat_map(|i| (0..across).map(move |j| (i, j))).map(|(i, j)| tile(i, j)).collect()
}
