//! The epilogue: pointwise work on finished sums, and stores.

use gigac_ir::kernel::{BufferId, Offset, VarId};
use inkwell::IntPredicate;
use inkwell::values::{FunctionValue, IntValue, PointerValue, VectorValue};

use super::access::Starts;
use super::driver::{Driver, int_param, pointer_param};
use super::lanewise::{Frame, Lanes, Lanewise};

impl<'c> Driver<'_, 'c, '_, '_> {
    /// Emits `finish(…, sums, first row, rows, first column, columns)` for the epilogue behind a
    /// product, on a tile whose sums lie in memory; none when nothing is stored there.
    pub(super) fn finish(&self, product: usize) -> Option<FunctionValue<'c>> {
        self.contraction.stores_behind(product).next()?;
        let emit = self.emit;
        let int = emit.context.i64_type().into();
        let params = [emit.pointer_type().into(), int, int, int, int];
        let (function, mut frame) = self.function(&format!("finish{product}"), &params);
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
                let sum = (line, sum.into_vector_value());
                self.finish_vector(product, &frame, sum, (first_col, v), mask);
            };
            let vectors = 0..self.layout.tile.vectors;
            emit.branch(
                full,
                || vectors.clone().for_each(|v| run(v, None)),
                || vectors.clone().for_each(|v| self.finish_edge(cols, v, |m| run(v, Some(m)))),
            );
        });
        emit.finish();
        Some(function)
    }

    /// Runs `body` with the mask of the columns of vector `v` that exist, if one does.
    fn finish_edge(&self, cols: IntValue<'c>, v: u64, body: impl FnOnce(VectorValue<'c>)) {
        let emit = self.emit;
        let before = emit.int((v * self.layout.tile.lanes).cast_signed());
        let exists = emit.compare(IntPredicate::UGT, cols, before);
        emit.branch(exists, || body(emit.lanes_below(emit.sub(cols, before))), || ());
    }

    /// The epilogue behind a product for vector `v` of a row; the frame holds the row. The product's
    /// sums are in a register; those of others lie as far from the line of its own as they are
    /// apart.
    pub(super) fn finish_vector(
        &self,
        product: usize,
        frame: &Frame<'c>,
        (line, sum): (PointerValue<'c>, VectorValue<'c>),
        (first_col, v): (IntValue<'c>, u64),
        mask: Option<VectorValue<'c>>,
    ) {
        let (emit, con) = (self.emit, self.contraction);
        let inside = v * self.layout.tile.lanes;
        let start = emit.add(first_col, emit.int(inside.cast_signed()));
        let starts = Starts::Multiples(con.start_align(con.cols, self.layout.tile.lanes));
        let lanes = Lanes { var: con.cols, start, starts, mask };
        let lanewise = Lanewise::new(emit, (con.kernel, &con.exprs), frame, lanes);
        let own = con.products[product].sum;
        lanewise.set(con.sums[own].value, sum);
        for other in con.read_behind(product) {
            let apart = (other as i64 - own as i64) * self.layout.sums_apart.cast_signed();
            let place = emit.after(line, emit.int(apart + (inside * 4).cast_signed()));
            let sum = emit.load(emit.vector_type(), place).into_vector_value();
            lanewise.set(con.sums[other].value, sum);
        }
        con.stores_behind(product).for_each(|store| lanewise.store(store));
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
