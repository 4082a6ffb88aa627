//! Packing: copies the operands of a block into the order in which the micro-kernel reads them.
//!
//! Loads, conversions and the pointwise prologue happen here. Any order of the source's axes costs
//! about the same: rows are kept as they are contiguous, columns that are contiguous along k are
//! transposed in registers.

use gigac_ir::kernel::{TileId, VarId};
use inkwell::IntPredicate;
use inkwell::values::{IntValue, PointerValue, VectorValue};

use super::access::{Starts, boundaries};
use super::blocking::{ProductLayout, RegisterTile, Rows};
use super::emit::Emit;
use super::lanewise::{Frame, Lanes, Lanewise};
use super::shared::Contraction;
use super::transpose::transpose;
use crate::pattern::Product;

/// Steps of columns that are copied before the next columns.
const STEPS: u64 = 8;

/// Emits the packing of one operand within a function of its own.
pub(super) struct Pack<'e, 'c, 'm, 'k> {
    pub(super) emit: &'e Emit<'c, 'm>,
    pub(super) contraction: &'e Contraction<'k>,
    pub(super) tile: RegisterTile,
    pub(super) product: &'e Product,
    pub(super) layout: &'e ProductLayout,
    pub(super) frame: Frame<'c>,
    pub(super) to: PointerValue<'c>,
    /// First contracted position, and their number.
    pub(super) first_step: IntValue<'c>,
    pub(super) steps: IntValue<'c>,
}

/// A position of a variable other than the lanes' one.
type At<'c> = (VarId, IntValue<'c>);

/// A run of lanes along a variable.
#[derive(Clone, Copy)]
struct Run<'c> {
    var: VarId,
    start: IntValue<'c>,
    starts: Starts,
    mask: Option<VectorValue<'c>>,
}

impl<'c> Pack<'_, 'c, '_, '_> {
    fn lanes(&self) -> u64 {
        self.tile.lanes
    }

    fn place(&self, element: IntValue<'c>) -> PointerValue<'c> {
        self.emit.after(self.to, self.emit.times(element, 4))
    }

    /// The first position of the block along a grid variable.
    fn block_start(&self, var: VarId) -> IntValue<'c> {
        self.frame.positions[&var]
    }

    /// Positions of the block along a grid variable.
    fn block_size(&self, var: VarId) -> IntValue<'c> {
        let declared = self.contraction.kernel.var(var);
        let left = self.emit.sub(self.end(var), self.block_start(var));
        self.emit.smaller(left, self.emit.int(declared.tile.cast_signed()))
    }

    fn end(&self, var: VarId) -> IntValue<'c> {
        self.emit.int(self.contraction.kernel.var(var).extent.cast_signed())
    }

    /// A vector of an operand.
    fn vector(&self, operand: TileId, run: Run<'c>, fixed: At<'c>) -> VectorValue<'c> {
        let mut positions = self.frame.positions.clone();
        positions.insert(fixed.0, fixed.1);
        let (buffers, scalars) = (self.frame.buffers.clone(), self.frame.scalars.clone());
        let frame = Frame { buffers, scalars, positions };
        let Run { var, start, starts, mask } = run;
        let lanes = Lanes { var, start, starts, mask };
        let con = self.contraction;
        Lanewise::new(self.emit, (con.kernel, &con.exprs), &frame, lanes).value(operand)
    }

    /// Runs `body` with the lanes from `start` on that lie before `end`, whose starts are multiples
    /// of `step` from the start of a block: without a mask where all exist, and as an unbroken run
    /// where no digit of a merged axis changes inside.
    fn run(
        &self,
        operand: TileId,
        (var, start): At<'c>,
        step: u64,
        end: IntValue<'c>,
        body: impl Fn(Run<'c>),
    ) {
        let emit = self.emit;
        let aligned = Starts::Multiples(self.contraction.start_align(var, step));
        let count = emit.sub(end, start);
        let full = emit.compare(IntPredicate::UGE, count, emit.int(self.lanes().cast_signed()));
        let loads = self.contraction.loads(operand);
        let changes = boundaries(loads.iter().map(|(_, offset)| *offset), var);
        let masked = |starts| {
            emit.branch(
                full,
                || body(Run { var, start, starts, mask: None }),
                || body(Run { var, start, starts, mask: Some(emit.lanes_below(count)) }),
            );
        };
        let aligned_everywhere = match aligned {
            Starts::Multiples(align) => {
                let fits = |n: &u64| n.is_multiple_of(self.lanes());
                fits(&align) && changes.iter().all(fits)
            }
            Starts::Unbroken => true,
        };
        if changes.is_empty() || aligned_everywhere {
            return masked(aligned);
        }
        let inside = |boundary: &u64| {
            let left = emit.sub(emit.int(boundary.cast_signed()), emit.modulo(start, *boundary));
            emit.compare(IntPredicate::UGE, left, emit.int(self.lanes().cast_signed()))
        };
        let truth = emit.context.bool_type().const_all_ones();
        let unbroken = changes.iter().map(inside).fold(truth, |a, b| emit.both(a, b));
        emit.branch(unbroken, || masked(Starts::Unbroken), || masked(aligned));
    }

    /// Panels of the rows' operand: so many rows from a position on, at most a group.
    pub(super) fn rows(&self, first: IntValue<'c>, rows: IntValue<'c>) {
        match self.layout.rows {
            Rows::InPlace { .. } => unreachable!("rows in place are not packed"),
            Rows::ByRow { stride } => self.rows_by_row(first, rows, stride),
            Rows::ByStep => self.rows_by_step(first, rows),
        }
    }

    fn rows_by_row(&self, first: IntValue<'c>, rows: IntValue<'c>, stride: u64) {
        let (emit, con) = (self.emit, self.contraction);
        let end = emit.add(self.first_step, self.steps);
        emit.each(emit.int(0), rows, 1, |row| {
            let at = (con.rows, emit.add(first, row));
            let line = emit.times(row, stride.cast_signed());
            emit.each(emit.int(0), self.steps, self.lanes(), |step| {
                let to = self.place(emit.add(line, step));
                let start = (self.product.k, emit.add(self.first_step, step));
                self.run(self.product.lhs, start, self.lanes(), end, |run| {
                    emit.store(self.vector(self.product.lhs, run, at), to);
                });
            });
        });
    }

    /// Every step writes a whole vector; the next one overwrites what is not of the panel.
    fn rows_by_step(&self, first: IntValue<'c>, rows: IntValue<'c>) {
        let (emit, con, height) = (self.emit, self.contraction, self.tile.rows);
        let together = self.steps_together();
        let step_of = |run: Run<'c>, panel: IntValue<'c>, step: IntValue<'c>| {
            let at = (self.product.k, emit.add(self.first_step, step));
            let vector = self.vector(self.product.lhs, run, at);
            let inside = emit.times(step, height.cast_signed());
            emit.store(vector, self.place(emit.add(panel, inside)));
        };
        let steps_of = |run: Run<'c>, panel: IntValue<'c>, step: IntValue<'c>| {
            let at = |s: u64| emit.add(self.first_step, emit.add(step, emit.int(s.cast_signed())));
            let vectors = (0..together)
                .map(|s| self.vector(self.product.lhs, run, (self.product.k, at(s))))
                .collect::<Vec<_>>();
            let line = emit.add(panel, emit.times(step, height.cast_signed()));
            for (i, vector) in (0..).zip(self.joined(&vectors)) {
                let inside = emit.int((i * self.lanes()).cast_signed());
                emit.store(vector, self.place(emit.add(line, inside)));
            }
        };
        let size = self.layout.panel_size(self.tile).cast_signed();
        let single = |panel: IntValue<'c>| {
            let start = (con.rows, emit.add(first, emit.times(panel, height.cast_signed())));
            self.run(self.product.lhs, start, height, self.end(con.rows), |run| {
                let panel = emit.times(panel, size);
                emit.each(emit.int(0), self.steps, 1, |step| step_of(run, panel, step));
            });
        };
        let count = emit.over(emit.add(rows, emit.int(height.cast_signed() - 1)), height);
        let loads = self.contraction.loads(self.product.lhs);
        if !boundaries(loads.iter().map(|(_, offset)| *offset), con.rows).is_empty() {
            return emit.each(emit.int(0), count, 1, single);
        }
        // Panels whose vectors lie inside the source are read step by step, along its lines.
        let lanes = emit.int(self.lanes().cast_signed());
        let room = emit.sub(self.end(con.rows), first);
        let fits = emit.over(emit.sub(room, lanes), height);
        let fits = emit.add(fits, emit.int(1));
        let short = emit.compare(IntPredicate::ULT, room, lanes);
        let inside = emit.smaller(count, emit.choose(short, emit.int(0), fits));
        let run_of = |panel: IntValue<'c>| {
            let start = emit.add(first, emit.times(panel, height.cast_signed()));
            Run { var: con.rows, start, starts: Starts::Multiples(1), mask: None }
        };
        let panel_of = |step: IntValue<'c>, panel: IntValue<'c>| {
            step_of(run_of(panel), emit.times(panel, size), step);
        };
        let all = (self.layout.group / height).cast_signed();
        let asked = emit.compare(IntPredicate::EQ, inside, emit.int(all));
        let whole = || {
            let full = emit.times(emit.over(self.steps, together), together.cast_signed());
            emit.each(emit.int(0), full, together, |step| {
                (0..all).map(|panel| emit.int(panel)).for_each(|panel| {
                    steps_of(run_of(panel), emit.times(panel, size), step);
                });
            });
            emit.each(full, self.steps, 1, |step| {
                (0..all).for_each(|panel| panel_of(step, emit.int(panel)));
            });
        };
        let some = || {
            emit.each(emit.int(0), self.steps, 1, |step| {
                emit.each(emit.int(0), inside, 1, |panel| panel_of(step, panel));
            });
        };
        emit.branch(asked, whole, some);
        emit.each(inside, count, 1, single);
    }

    /// The fewest steps whose rows of a panel fill whole vectors.
    fn steps_together(&self) -> u64 {
        let (lanes, height) = (self.lanes(), self.tile.rows);
        (1..=lanes).find(|steps| (steps * height).is_multiple_of(lanes)).expect("so many lanes do")
    }

    /// The rows of a panel in consecutive steps, one behind the other.
    fn joined(&self, steps: &[VectorValue<'c>]) -> Vec<VectorValue<'c>> {
        let (lanes, height) = (self.lanes(), self.tile.rows);
        let vector = |first: u64| {
            let step = first / height;
            let lane = |l: u64| (l / height - step) * lanes + l % height;
            let lanes = (first..first + lanes).map(|l| u32::try_from(lane(l)).expect("few lanes"));
            let next = steps[(step as usize + 1).min(steps.len() - 1)];
            self.emit.shuffle(steps[step as usize], next, lanes)
        };
        (0..steps.len() as u64 * height / lanes).map(|i| vector(i * lanes)).collect()
    }

    /// The columns' operand, sliver by sliver, each `[k][columns of the register tile]`.
    pub(super) fn cols(&self) {
        if self.layout.transposed_cols {
            self.vectors_of_cols(|start, to| self.transposed_cols(start, to));
        } else {
            // A few steps at a time, so that the source is read along its lines.
            self.emit.each(self.emit.int(0), self.steps, STEPS, |step| {
                let end = self.emit.add(step, self.emit.int(STEPS.cast_signed()));
                let end = self.emit.smaller(end, self.steps);
                self.vectors_of_cols(|start, to| self.cols_in_order(start, to, [step, end]));
            });
        }
    }

    /// Every vector of columns: its first position, and where its first step goes.
    fn vectors_of_cols(&self, body: impl Fn(IntValue<'c>, IntValue<'c>)) {
        let (emit, con) = (self.emit, self.contraction);
        let first = self.block_start(con.cols);
        emit.each(emit.int(0), self.block_size(con.cols), self.tile.cols(), |col| {
            let sliver = emit.over(col, self.tile.cols());
            let sliver = emit.times(sliver, self.layout.sliver_size(self.tile).cast_signed());
            for v in 0..self.tile.vectors {
                let inside = emit.int((v * self.lanes()).cast_signed());
                let start = emit.add(emit.add(first, col), inside);
                let exists = emit.compare(IntPredicate::ULT, start, self.end(con.cols));
                let to = emit.add(sliver, inside);
                emit.branch(exists, || body(start, to), || ());
            }
        });
    }

    fn cols_in_order(&self, start: IntValue<'c>, to: IntValue<'c>, [from, end]: [IntValue<'c>; 2]) {
        let (emit, con) = (self.emit, self.contraction);
        let width = self.tile.cols().cast_signed();
        let first = (con.cols, start);
        self.run(self.product.rhs, first, self.lanes(), self.end(con.cols), |run| {
            emit.each(from, end, 1, |step| {
                let at = (self.product.k, emit.add(self.first_step, step));
                let vector = self.vector(self.product.rhs, run, at);
                emit.store(vector, self.place(emit.add(to, emit.times(step, width))));
            });
        });
    }

    fn transposed_cols(&self, start: IntValue<'c>, to: IntValue<'c>) {
        let (emit, con) = (self.emit, self.contraction);
        let last = emit.sub(self.end(con.cols), emit.int(1));
        let end = emit.add(self.first_step, self.steps);
        emit.each(emit.int(0), self.steps, self.lanes(), |step| {
            let from = (self.product.k, emit.add(self.first_step, step));
            self.run(self.product.rhs, from, self.lanes(), end, |run| {
                // Columns past the last one repeat it: their sums are never stored.
                let column = |c: u64| {
                    let col = emit.add(start, emit.int(c.cast_signed()));
                    self.vector(self.product.rhs, run, (con.cols, emit.smaller(col, last)))
                };
                let columns = (0..self.lanes()).map(column).collect();
                for (line, vector) in (0..).zip(transpose(emit, columns)) {
                    let line = emit.add(step, emit.int(line));
                    let line = emit.times(line, self.tile.cols().cast_signed());
                    emit.store(vector, self.place(emit.add(to, line)));
                }
            });
        });
    }
}
