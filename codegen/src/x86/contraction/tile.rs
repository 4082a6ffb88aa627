//! A full register tile: sums in registers from the first step to the last, and the epilogue on
//! them without a detour through memory.

use inkwell::values::{FunctionValue, IntValue, PointerValue, VectorValue};

use super::ahead::{Fetch, Stream};
use super::driver::{Driver, int_param, pointer_param};
use super::emit::{Cache, Emit, sound};
use super::lanewise::Frame;
use super::micro::{Micro, Shape};
use super::source::{Reading, Source};

impl<'c> Driver<'_, 'c, '_, '_> {
    /// Emits `tile(…, steps, rows, columns, sums, first row, first column, add, last, first step,
    /// streams …)`: `add` when earlier turns have left sums, `last` when the epilogue follows. One
    /// that reads its columns at their source leaves the packed ones.
    pub(super) fn full_tile(
        &self,
        product: usize,
        source: Option<Source<'_>>,
    ) -> FunctionValue<'c> {
        let emit = self.emit;
        let (int, pointer) = (emit.context.i64_type().into(), emit.pointer_type().into());
        let truth = emit.context.bool_type().into();
        let mut params = vec![int, pointer, pointer, pointer, int, int, truth, truth, int];
        let (of_rows, of_cols) = (self.row_streams(product), self.col_streams(product));
        params.extend(of_rows.iter().map(|_| pointer));
        params.extend(of_cols.iter().flat_map(|_| [pointer, int]));
        let name = format!("tile{product}{}", if source.is_some() { ".copying" } else { "" });
        let (function, frame) = self.function(&name, &params);
        let [rows, cols, sums] = [4, 5, 6].map(|i| pointer_param(function, i));
        let [add, last] = [9, 10].map(|i| int_param(function, i));
        let shape = Shape { rows: self.layout.tile.rows, vectors: self.layout.tile.vectors };
        let corner = [7, 8].map(|i| int_param(function, i));
        let source = source.map(|Source { load, stride }| {
            let (cols, k) = (self.contraction.cols, self.contraction.products[product].k);
            let at = [(cols, corner[1]), (k, int_param(function, 11))];
            Reading { from: self.address(&frame, load, &at), stride }
        });
        let mut fetches = fetches(emit, function, &of_rows, &of_cols);
        fetches.extend(self.finish_fetches(product, &frame, shape, corner, last));
        fetches.extend(self.sums_fetch(product, sums));
        let micro = Micro {
            emit,
            strides: self.layout.strides(product),
            shape,
            rows,
            cols,
            source,
            fetches,
        };
        let finish = |all: &[VectorValue<'c>]| {
            if self.contraction.waits(product) {
                micro.write_sums(sums, all, false);
            }
            self.finish_tile(product, &frame, shape, corner, (sums, all));
        };
        let new = micro.sums(int_param(function, 3));
        if self.layout.turns == 1 {
            finish(&new);
        } else {
            let finish = || finish(&self.added(sums, shape, &new));
            emit.branch(last, finish, || micro.write(sums, &new, add));
        }
        emit.finish();
        function
    }

    /// Sums of this turn and of those before it.
    fn added(
        &self,
        sums: PointerValue<'c>,
        shape: Shape,
        new: &[VectorValue<'c>],
    ) -> Vec<VectorValue<'c>> {
        let emit = self.emit;
        let one = |(i, new): (u64, &VectorValue<'c>)| {
            let (row, v) = (i / shape.vectors, i % shape.vectors);
            let element = row * self.layout.sum_stride + v * self.layout.tile.lanes;
            let old = emit.load(emit.vector_type(), emit.field(sums, element * 4));
            sound(emit.builder.build_float_add(old.into_vector_value(), *new, ""))
        };
        (0..).zip(new).map(one).collect()
    }

    /// The epilogue behind a product, on sums in registers that would lie at an address.
    fn finish_tile(
        &self,
        product: usize,
        frame: &Frame<'c>,
        shape: Shape,
        [first_row, first_col]: [IntValue<'c>; 2],
        (place, sums): (PointerValue<'c>, &[VectorValue<'c>]),
    ) {
        let emit = self.emit;
        let mut sums = sums.iter();
        for row in 0..shape.rows {
            let mut positions = frame.positions.clone();
            let at = emit.add(first_row, emit.int(row.cast_signed()));
            positions.insert(self.contraction.rows, at);
            let (buffers, scalars) = (frame.buffers.clone(), frame.scalars.clone());
            let frame = Frame { buffers, scalars, positions };
            let line = emit.field(place, row * self.layout.sum_stride * 4);
            for (v, sum) in (0..shape.vectors).zip(&mut sums) {
                self.finish_vector(product, &frame, (line, *sum), (first_col, v), None);
            }
        }
    }
}

/// The streams of a tile's function, from its parameters.
fn fetches<'c>(
    emit: &Emit<'c, '_>,
    function: FunctionValue<'c>,
    of_rows: &[Stream<'_>],
    of_cols: &[Stream<'_>],
) -> Vec<Fetch<'c>> {
    let mut at = 12..;
    let mut next = || at.next().expect("parameters go on");
    let mut fetches = Vec::new();
    for (stream, runtime_stride) in
        of_rows.iter().map(|s| (s, false)).chain(of_cols.iter().map(|s| (s, true)))
    {
        let from = pointer_param(function, next());
        let stride = match runtime_stride {
            true => int_param(function, next()),
            false => emit.int(stream.walk.stride.cast_signed()),
        };
        let (walk, start) = (stream.walk, stream.walk.late());
        fetches.push(Fetch { from, stride, walk, cache: Cache::Second, start });
    }
    fetches
}
