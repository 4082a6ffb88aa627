//! The epilogue: pointwise work on finished sums, and stores.

use gigac_ir::kernel::{BufferId, Offset, VarId};
use inkwell::IntPredicate;
use inkwell::values::{FunctionValue, IntValue, PointerValue, VectorValue};

use super::access::Starts;
use super::driver::{Driver, int_param, pointer_param};
use super::lanewise::{Frame, Lanes, Lanewise};

impl<'c> Driver<'_, 'c, '_, '_> {
    /// Emits `finish(…, sums, first row, rows, first column, columns)` for a tile whose sums lie
    /// in memory.
    pub(super) fn finish(&self) -> FunctionValue<'c> {
        let emit = self.emit;
        let int = emit.context.i64_type().into();
        let params = [emit.pointer_type().into(), int, int, int, int];
        let (function, mut frame) = self.function("finish", &params);
        let (sums, cols) = (pointer_param(function, 3), int_param(function, 7));
        let [first_row, rows, first_col] = [4, 5, 6].map(|i| int_param(function, i));
        let width = emit.int(self.layout.tile.cols().cast_signed());
        let full = emit.compare(IntPredicate::UGE, cols, width);
        let stride = (self.layout.sum_stride * 4).cast_signed();
        emit.each(emit.int(0), rows, 1, |row| {
            frame.positions.insert(self.contraction.rows, emit.add(first_row, row));
            let line = emit.after(sums, emit.times(row, stride));
            let run = |v: u64, mask| {
                let inside = v * self.layout.tile.lanes * 4;
                let sum = emit.load(emit.vector_type(), emit.field(line, inside));
                self.finish_vector(&frame, sum.into_vector_value(), first_col, v, mask);
            };
            let vectors = 0..self.layout.tile.vectors;
            emit.branch(
                full,
                || vectors.clone().for_each(|v| run(v, None)),
                || vectors.clone().for_each(|v| self.finish_edge(cols, v, |m| run(v, Some(m)))),
            );
        });
        emit.finish();
        function
    }

    /// Runs `body` with the mask of the columns of vector `v` that exist, if one does.
    fn finish_edge(&self, cols: IntValue<'c>, v: u64, body: impl FnOnce(VectorValue<'c>)) {
        let emit = self.emit;
        let before = emit.int((v * self.layout.tile.lanes).cast_signed());
        let exists = emit.compare(IntPredicate::UGT, cols, before);
        emit.branch(exists, || body(emit.lanes_below(emit.sub(cols, before))), || ());
    }

    /// The epilogue of vector `v` of a row; the frame holds the row.
    pub(super) fn finish_vector(
        &self,
        frame: &Frame<'c>,
        sum: VectorValue<'c>,
        first_col: IntValue<'c>,
        v: u64,
        mask: Option<VectorValue<'c>>,
    ) {
        let (emit, con) = (self.emit, self.contraction);
        let inside = v * self.layout.tile.lanes;
        let start = emit.add(first_col, emit.int(inside.cast_signed()));
        let starts = Starts::Multiples(con.start_align(con.cols, self.layout.tile.lanes));
        let lanes = Lanes { var: con.cols, start, starts, mask };
        let lanewise = Lanewise::new(emit, (con.kernel, &con.exprs), frame, lanes);
        lanewise.set(con.sum, sum);
        con.stores.iter().for_each(|store| lanewise.store(store));
    }

    /// The address of an element, at given positions of some variables.
    pub(super) fn address(
        &self,
        frame: &Frame<'c>,
        (buffer, offset): (BufferId, &Offset),
        at: &[(VarId, IntValue<'c>)],
    ) -> PointerValue<'c> {
        let mut positions = frame.positions.clone();
        positions.extend(at.iter().copied());
        let frame =
            Frame { buffers: frame.buffers.clone(), scalars: frame.scalars.clone(), positions };
        let (var, start) = at[0];
        let lanes = Lanes { var, start, starts: Starts::Multiples(1), mask: None };
        let con = self.contraction;
        Lanewise::new(self.emit, (con.kernel, &con.exprs), &frame, lanes).place(buffer, offset)
    }
}
