//! Packing: copies the operands of a block into the order in which the micro-kernel reads them.
//!
//! Loads, conversions and the pointwise prologue happen here, once per element of a block. Any
//! order of the source's axes costs about the same: rows are kept as they are contiguous, columns
//! that are contiguous along k are transposed in registers.

use gigac_ir::kernel::{TileId, VarId};
use inkwell::IntPredicate;
use inkwell::values::{IntValue, PointerValue, VectorValue};

use super::blocking::{Layout, RowLayout};
use super::emit::Emit;
use super::lanewise::{Frame, Lanes, Lanewise};
use super::pattern::Contraction;
use super::transpose::transpose;

/// Emits the packing of one operand within a function of its own.
pub(super) struct Pack<'e, 'c, 'm, 'k> {
    pub(super) emit: &'e Emit<'c, 'm>,
    pub(super) contraction: &'e Contraction<'k>,
    pub(super) layout: &'e Layout,
    pub(super) frame: Frame<'c>,
    pub(super) to: PointerValue<'c>,
    /// First contracted position, and their number.
    pub(super) first_step: IntValue<'c>,
    pub(super) steps: IntValue<'c>,
}

/// A position of a variable other than the lanes' one.
type At<'c> = (VarId, IntValue<'c>);

impl<'c> Pack<'_, 'c, '_, '_> {
    fn lanes(&self) -> u64 {
        self.layout.tile.lanes
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

    /// A vector of an operand along `var` from `start` on.
    fn vector(
        &self,
        operand: TileId,
        (var, start): At<'c>,
        step: u64,
        fixed: At<'c>,
        mask: Option<VectorValue<'c>>,
    ) -> VectorValue<'c> {
        let align = self.contraction.start_align(var, step);
        let mut positions = self.frame.positions.clone();
        positions.insert(fixed.0, fixed.1);
        let (buffers, scalars) = (self.frame.buffers.clone(), self.frame.scalars.clone());
        let frame = Frame { buffers, scalars, positions };
        let lanes = Lanes { var, start, align, mask };
        let con = self.contraction;
        Lanewise::new(self.emit, (con.kernel, &con.exprs), &frame, lanes).value(operand)
    }

    /// Runs `body` with no mask where `count` lanes all exist, else with a mask of the first ones.
    fn masked(&self, count: IntValue<'c>, mut body: impl FnMut(Option<VectorValue<'c>>)) {
        let lanes = self.emit.int(self.lanes().cast_signed());
        let full = self.emit.compare(IntPredicate::UGE, count, lanes);
        let body = std::cell::RefCell::new(&mut body);
        self.emit.branch(
            full,
            || body.borrow_mut()(None),
            || body.borrow_mut()(Some(self.emit.lanes_below(count))),
        );
    }

    /// The rows' operand.
    pub(super) fn rows(&self) {
        match self.layout.row_layout {
            RowLayout::ByRow => self.rows_by_row(),
            RowLayout::ByStep => self.rows_by_step(),
        }
    }

    fn rows_by_row(&self) {
        let (emit, con) = (self.emit, self.contraction);
        let first_row = self.block_start(con.rows);
        let stride = self.layout.row_stride.cast_signed();
        emit.each(emit.int(0), self.block_size(con.rows), 1, |row| {
            let at = (con.rows, emit.add(first_row, row));
            let line = emit.times(row, stride);
            emit.each(emit.int(0), self.steps, self.lanes(), |step| {
                let to = self.place(emit.add(line, step));
                let start = (con.k, emit.add(self.first_step, step));
                self.masked(emit.sub(self.steps, step), |mask| {
                    emit.store(self.vector(con.lhs, start, self.lanes(), at, mask), to);
                });
            });
        });
    }

    fn rows_by_step(&self) {
        let (emit, con) = (self.emit, self.contraction);
        let first_row = self.block_start(con.rows);
        let (height, panel) = (self.layout.tile.rows, self.layout.panel_size());
        emit.each(emit.int(0), self.block_size(con.rows), height, |row| {
            let panel = emit.times(emit.over(row, height), panel.cast_signed());
            let start = (con.rows, emit.add(first_row, row));
            self.masked(emit.sub(self.end(con.rows), start.1), |mask| {
                emit.each(emit.int(0), self.steps, 1, |step| {
                    let at = (con.k, emit.add(self.first_step, step));
                    let line = emit.times(step, self.layout.row_stride.cast_signed());
                    let vector = self.vector(con.lhs, start, height, at, mask);
                    emit.store(vector, self.place(emit.add(panel, line)));
                });
            });
        });
    }

    /// The columns' operand, sliver by sliver, each `[k][columns of the register tile]`.
    pub(super) fn cols(&self) {
        let (emit, con) = (self.emit, self.contraction);
        let lanes = self.lanes();
        let first = self.block_start(con.cols);
        let vectors = self.layout.tile.vectors;
        emit.each(emit.int(0), self.block_size(con.cols), self.layout.tile.cols(), |col| {
            let sliver = emit.over(col, self.layout.tile.cols());
            let sliver = emit.times(sliver, self.layout.sliver_size().cast_signed());
            for v in 0..vectors {
                let inside = emit.int((v * lanes).cast_signed());
                let start = emit.add(emit.add(first, col), inside);
                let exists = emit.compare(IntPredicate::ULT, start, self.end(con.cols));
                let to = emit.add(sliver, inside);
                emit.branch(exists, || self.cols_of_vector(start, to), || ());
            }
        });
    }

    fn cols_of_vector(&self, start: IntValue<'c>, to: IntValue<'c>) {
        if self.layout.transposed_cols {
            return self.transposed_cols(start, to);
        }
        let (emit, con) = (self.emit, self.contraction);
        let width = self.layout.tile.cols().cast_signed();
        self.masked(emit.sub(self.end(con.cols), start), |mask| {
            emit.each(emit.int(0), self.steps, 1, |step| {
                let at = (con.k, emit.add(self.first_step, step));
                let vector = self.vector(con.rhs, (con.cols, start), self.lanes(), at, mask);
                emit.store(vector, self.place(emit.add(to, emit.times(step, width))));
            });
        });
    }

    fn transposed_cols(&self, start: IntValue<'c>, to: IntValue<'c>) {
        let (emit, con) = (self.emit, self.contraction);
        let last = emit.sub(self.end(con.cols), emit.int(1));
        emit.each(emit.int(0), self.steps, self.lanes(), |step| {
            let from = (con.k, emit.add(self.first_step, step));
            self.masked(emit.sub(self.steps, step), |mask| {
                // Columns past the last one repeat it: their sums are never stored.
                let column = |c: u64| {
                    let col = emit.add(start, emit.int(c.cast_signed()));
                    let at = (con.cols, emit.smaller(col, last));
                    self.vector(con.rhs, from, self.lanes(), at, mask)
                };
                let columns = (0..self.lanes()).map(column).collect();
                for (line, vector) in (0..).zip(transpose(emit, columns)) {
                    let line = emit.add(step, emit.int(line));
                    let line = emit.times(line, self.layout.tile.cols().cast_signed());
                    emit.store(vector, self.place(emit.add(to, line)));
                }
            });
        });
    }
}
