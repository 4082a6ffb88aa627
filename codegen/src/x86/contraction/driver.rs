//! The kernel function: walks grid points, packs what changed, runs tiles, ends with the epilogue.

use std::collections::BTreeMap;

use gigac_ir::kernel::{Access, TileId, VarId};
use inkwell::IntPredicate;
use inkwell::module::Linkage;
use inkwell::types::BasicMetadataTypeEnum;
use inkwell::values::{FunctionValue, IntValue, PointerValue};

use super::blocking::Layout;
use super::emit::{Emit, sound};
use super::lanewise::{Frame, Lanes, Lanewise};
use super::micro::{self, Shape};
use super::pack::Pack;
use super::pattern::{Contraction, expr_operands};

pub(super) struct Driver<'e, 'c, 'm, 'k> {
    pub(super) emit: &'e Emit<'c, 'm>,
    pub(super) contraction: &'e Contraction<'k>,
    pub(super) layout: Layout,
}

/// Functions that the kernel function calls.
struct Callees<'c> {
    pack_rows: FunctionValue<'c>,
    pack_cols: FunctionValue<'c>,
    finish: FunctionValue<'c>,
    micro: Vec<(Shape, FunctionValue<'c>)>,
}

/// What the kernel function knows of the grid point in hand.
struct Point<'c> {
    /// Arguments that callees take first: buffers, scalars, positions.
    common: [PointerValue<'c>; 3],
    scratch: PointerValue<'c>,
    /// Rows and columns of the block.
    size: [IntValue<'c>; 2],
}

/// One turn of the loop over k.
struct Turn<'c> {
    steps: IntValue<'c>,
    rows: PointerValue<'c>,
    cols: PointerValue<'c>,
    add: IntValue<'c>,
    last: IntValue<'c>,
}

impl<'c> Driver<'_, 'c, '_, '_> {
    /// Emits the kernel and its parts.
    pub(super) fn run(&self) {
        let callees = Callees {
            pack_rows: self.pack("rows", |pack| pack.rows()),
            pack_cols: self.pack("cols", |pack| pack.cols()),
            finish: self.epilogue(),
            micro: self.shapes().into_iter().map(|s| (s, self.micro(s))).collect(),
        };
        self.kernel(&callees);
    }

    fn name(&self) -> &str {
        &self.contraction.kernel.name
    }

    fn micro(&self, shape: Shape) -> FunctionValue<'c> {
        micro::emit(self.emit, self.layout.strides(), shape, self.name())
    }

    /// Full tiles and those at the edges of full and last blocks.
    fn shapes(&self) -> Vec<Shape> {
        let vectors: Vec<u64> = (1..=self.layout.tile.vectors)
            .filter(|v| *v == self.layout.tile.vectors || self.edge_vectors().contains(v))
            .collect();
        let heights = self.edges(self.contraction.rows, self.layout.tile.rows);
        let heights = heights.into_iter().chain([self.layout.tile.rows]);
        heights.flat_map(|rows| vectors.iter().map(move |v| Shape { rows, vectors: *v })).collect()
    }

    fn edge_vectors(&self) -> Vec<u64> {
        let edges = self.edges(self.contraction.cols, self.layout.tile.cols());
        edges.into_iter().map(|cols| cols.div_ceil(self.layout.tile.lanes)).collect()
    }

    /// Remainders, not 0, of full and last blocks of a variable.
    fn edges(&self, var: VarId, step: u64) -> Vec<u64> {
        let declared = self.contraction.kernel.var(var);
        let tile = declared.tile.min(declared.extent);
        let mut edges = vec![tile % step, declared.extent % tile % step];
        edges.sort_unstable();
        edges.dedup();
        edges.retain(|edge| *edge != 0);
        edges
    }

    /// Starts a function whose first parameters are buffers, scalars and positions.
    fn function(
        &self,
        part: &str,
        more: &[BasicMetadataTypeEnum<'c>],
    ) -> (FunctionValue<'c>, Frame<'c>) {
        let pointer = self.emit.pointer_type().into();
        let params: Vec<_> = [pointer; 3].into_iter().chain(more.iter().copied()).collect();
        let name = format!("{}.{part}", self.name());
        let function = self.emit.function(&name, &params, Linkage::Internal);
        let param = |i| pointer_param(function, i);
        let frame = self.frame([param(0), param(1), param(2)]);
        (function, frame)
    }

    fn frame(&self, [buffers, scalars, positions]: [PointerValue<'c>; 3]) -> Frame<'c> {
        let (emit, kernel) = (self.emit, self.contraction.kernel);
        let arguments = kernel.buffers.iter().filter(|b| b.access != Access::Local).count() as u64;
        let place = |i: u64| emit.field(buffers, 8 * i);
        let position = |i: u64| emit.load_int(emit.field(positions, 8 * i));
        Frame {
            buffers: (0..arguments).map(|i| emit.load_pointer(place(i))).collect(),
            scalars: (0..kernel.scalars.len() as u64)
                .map(|i| emit.load_int(emit.field(scalars, 8 * i)))
                .collect(),
            positions: kernel.grid.iter().copied().zip((0..).map(position)).collect(),
        }
    }

    /// Emits `pack(…, to, first step, steps)`.
    fn pack(&self, part: &str, body: impl Fn(&Pack<'_, 'c, '_, '_>)) -> FunctionValue<'c> {
        let emit = self.emit;
        let int = emit.context.i64_type().into();
        let (function, frame) = self.function(part, &[emit.pointer_type().into(), int, int]);
        body(&Pack {
            emit,
            contraction: self.contraction,
            layout: &self.layout,
            frame,
            to: pointer_param(function, 3),
            first_step: int_param(function, 4),
            steps: int_param(function, 5),
        });
        emit.finish();
        function
    }

    /// Emits `finish(…, sums, first row, rows, first column, columns)` for one register tile.
    fn epilogue(&self) -> FunctionValue<'c> {
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
            let run = |v, mask| self.finish_vector(&frame, line, first_col, v, mask);
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
    fn finish_edge(
        &self,
        cols: IntValue<'c>,
        v: u64,
        body: impl FnOnce(inkwell::values::VectorValue<'c>),
    ) {
        let emit = self.emit;
        let before = emit.int((v * self.layout.tile.lanes).cast_signed());
        let exists = emit.compare(IntPredicate::UGT, cols, before);
        emit.branch(exists, || body(emit.lanes_below(emit.sub(cols, before))), || ());
    }

    fn finish_vector(
        &self,
        frame: &Frame<'c>,
        line: PointerValue<'c>,
        first_col: IntValue<'c>,
        v: u64,
        mask: Option<inkwell::values::VectorValue<'c>>,
    ) {
        let (emit, con) = (self.emit, self.contraction);
        let inside = v * self.layout.tile.lanes;
        let start = emit.add(first_col, emit.int(inside.cast_signed()));
        let align = con.start_align(con.cols, self.layout.tile.lanes);
        let lanes = Lanes { var: con.cols, start, align, mask };
        let lanewise = Lanewise::new(emit, (con.kernel, &con.exprs), frame, lanes);
        let sum = emit.load(emit.vector_type(), emit.field(line, inside * 4));
        lanewise.set(con.sum, sum.into_vector_value());
        con.stores.iter().for_each(|store| lanewise.store(store));
    }

    /// Emits the function that is called from outside.
    fn kernel(&self, callees: &Callees<'c>) {
        let emit = self.emit;
        let (int, pointer) = (emit.context.i64_type(), emit.pointer_type().into());
        let params = [pointer, pointer, int.into(), int.into(), pointer];
        let function = emit.function(self.name(), &params, Linkage::External);
        let grid = self.contraction.kernel.grid.len() as u64;
        let array = int.array_type(u32::try_from(grid.max(1)).expect("few grid variables"));
        let positions = sound(emit.builder.build_alloca(array, "positions"));
        let packed = ["rows", "cols"].map(|name| {
            let slot = sound(emit.builder.build_alloca(int, name));
            emit.store(emit.int(-1), slot);
            slot
        });
        let common = [pointer_param(function, 0), pointer_param(function, 1), positions];
        let scratch = pointer_param(function, 4);
        let [first, last] = [2, 3].map(|i| int_param(function, i));
        emit.each(first, last, 1, |point| {
            let at = self.positions(point, positions);
            let size = [self.contraction.rows, self.contraction.cols]
                .map(|var| self.block_size(var, at[&var].1));
            let blocks = [self.contraction.lhs, self.contraction.rhs]
                .map(|operand| self.block_number(operand, &at));
            let point = Point { common, scratch, size };
            self.point(callees, &point, packed, blocks);
        });
        emit.finish();
    }

    /// Writes the positions of a grid point; returns the numbers of its tiles and the positions.
    fn positions(
        &self,
        point: IntValue<'c>,
        to: PointerValue<'c>,
    ) -> BTreeMap<VarId, (IntValue<'c>, IntValue<'c>)> {
        let (emit, kernel) = (self.emit, self.contraction.kernel);
        let mut rest = point;
        let mut all = BTreeMap::new();
        for (i, var) in kernel.grid.iter().enumerate().rev() {
            let declared = kernel.var(*var);
            let number = emit.modulo(rest, declared.tiles());
            rest = emit.over(rest, declared.tiles());
            let position = emit.times(number, declared.tile.cast_signed());
            emit.store(position, emit.field(to, 8 * i as u64));
            all.insert(*var, (number, position));
        }
        all
    }

    fn block_size(&self, var: VarId, start: IntValue<'c>) -> IntValue<'c> {
        let (emit, declared) = (self.emit, self.contraction.kernel.var(var));
        let left = emit.sub(emit.int(declared.extent.cast_signed()), start);
        emit.smaller(left, emit.int(declared.tile.cast_signed()))
    }

    /// A number that tells blocks of an operand apart: from the grid variables it depends on.
    fn block_number(
        &self,
        operand: TileId,
        at: &BTreeMap<VarId, (IntValue<'c>, IntValue<'c>)>,
    ) -> IntValue<'c> {
        let (emit, kernel) = (self.emit, self.contraction.kernel);
        let of_operand = |var: &&VarId| self.depends(operand, **var);
        kernel.grid.iter().filter(of_operand).fold(emit.int(0), |number, var| {
            emit.add(emit.times(number, kernel.var(*var).tiles().cast_signed()), at[var].0)
        })
    }

    fn depends(&self, value: TileId, var: VarId) -> bool {
        let direct = self.contraction.kernel.ty(value).vars.contains(&var);
        let operands = expr_operands(self.contraction.expr(value));
        direct || operands.into_iter().any(|operand| self.depends(operand, var))
    }

    /// One grid point: all turns of the loop.
    fn point(
        &self,
        callees: &Callees<'c>,
        point: &Point<'c>,
        packed: [PointerValue<'c>; 2],
        blocks: [IntValue<'c>; 2],
    ) {
        let (emit, layout) = (self.emit, &self.layout);
        let k = self.contraction.kernel.var(self.contraction.k);
        let fresh = [0, 1].map(|i| {
            let old = emit.load_int(packed[i]);
            let keep = [layout.keep_rows, layout.keep_cols][i];
            let changed = emit.compare(IntPredicate::NE, old, blocks[i]);
            if keep { changed } else { emit.context.bool_type().const_all_ones() }
        });
        emit.each(emit.int(0), emit.int(layout.chunks.cast_signed()), 1, |chunk| {
            let first = emit.times(chunk, k.tile.cast_signed());
            let left = emit.sub(emit.int(k.extent.cast_signed()), first);
            let steps = emit.smaller(left, emit.int(k.tile.cast_signed()));
            let kept =
                |keep, size: u64| emit.times(chunk, if keep { size * 4 } else { 0 }.cast_signed());
            let rows = emit.after(point.scratch, kept(layout.keep_rows, layout.rows_size));
            let cols = emit.field(point.scratch, layout.cols_at());
            let cols = emit.after(cols, kept(layout.keep_cols, layout.cols_size));
            for (i, (pack, to)) in
                [(callees.pack_rows, rows), (callees.pack_cols, cols)].into_iter().enumerate()
            {
                let common = point.common.map(Into::into);
                let arguments = [&common[..], &[to.into(), first.into(), steps.into()]].concat();
                emit.branch(
                    fresh[i],
                    || {
                        emit.call(pack, &arguments);
                    },
                    || (),
                );
            }
            let add = emit.compare(IntPredicate::NE, chunk, emit.int(0));
            let final_chunk = emit.int(layout.chunks.cast_signed() - 1);
            let last = emit.compare(IntPredicate::EQ, chunk, final_chunk);
            self.turn(callees, point, &Turn { steps, rows, cols, add, last });
        });
        packed.iter().zip(blocks).for_each(|(slot, block)| emit.store(block, *slot));
    }

    /// All register tiles of a block, for one turn: rows outside, so that a panel of rows stays
    /// in the first cache while the columns stream from the second.
    fn turn(&self, callees: &Callees<'c>, point: &Point<'c>, turn: &Turn<'c>) {
        let (emit, height) = (self.emit, self.layout.tile.rows);
        let whole = emit.times(emit.over(point.size[0], height), height.cast_signed());
        emit.each(emit.int(0), whole, height, |row| self.row(callees, point, turn, row, height));
        let left = emit.sub(point.size[0], whole);
        for edge in self.edges(self.contraction.rows, height) {
            let found = emit.compare(IntPredicate::EQ, left, emit.int(edge.cast_signed()));
            emit.branch(found, || self.row(callees, point, turn, whole, edge), || ());
        }
    }

    /// The tiles of some rows.
    fn row(
        &self,
        callees: &Callees<'c>,
        point: &Point<'c>,
        turn: &Turn<'c>,
        row: IntValue<'c>,
        height: u64,
    ) {
        let (emit, tile) = (self.emit, self.layout.tile);
        emit.each(emit.int(0), point.size[1], tile.cols(), |col| {
            let left = emit.sub(point.size[1], col);
            let run = |vectors| {
                let shape = Shape { rows: height, vectors };
                self.tile(callees, point, turn, [row, col], shape);
            };
            if self.edge_vectors().contains(&1) {
                let lanes = emit.int(tile.lanes.cast_signed());
                let narrow = emit.compare(IntPredicate::ULE, left, lanes);
                emit.branch(narrow, || run(1), || run(tile.vectors));
            } else {
                run(tile.vectors);
            }
        });
    }

    /// One register tile: its sums, and after the last turn its epilogue.
    fn tile(
        &self,
        callees: &Callees<'c>,
        point: &Point<'c>,
        turn: &Turn<'c>,
        [row, col]: [IntValue<'c>; 2],
        shape: Shape,
    ) {
        let (emit, layout) = (self.emit, &self.layout);
        let bytes = |number, size: u64| emit.times(number, (size * 4).cast_signed());
        let panel = bytes(emit.over(row, layout.tile.rows), layout.panel_size());
        let sliver = bytes(emit.over(col, layout.tile.cols()), layout.sliver_size());
        let [rows, cols] = [emit.after(turn.rows, panel), emit.after(turn.cols, sliver)];
        let sums = emit.field(point.scratch, layout.sums_at());
        let sums = if layout.chunks == 1 {
            sums
        } else {
            let line = emit.times(row, layout.sum_stride.cast_signed());
            emit.after(sums, bytes(emit.add(line, col), 1))
        };
        let found = callees.micro.iter().find(|(known, _)| *known == shape);
        let (_, micro) = found.unwrap_or_else(|| panic!("no micro-kernel for {shape:?}"));
        emit.call(
            *micro,
            &[turn.steps.into(), rows.into(), cols.into(), sums.into(), turn.add.into()],
        );
        let height = emit.int(shape.rows.cast_signed());
        let left = emit.sub(point.size[1], col);
        let common = point.common.map(Into::into);
        let at = [self.contraction.rows, self.contraction.cols].map(|var| self.stored(point, var));
        let more = [
            sums.into(),
            emit.add(at[0], row).into(),
            height.into(),
            emit.add(at[1], col).into(),
            left.into(),
        ];
        let arguments = [&common[..], &more].concat();
        emit.branch(
            turn.last,
            || {
                emit.call(callees.finish, &arguments);
            },
            || (),
        );
    }

    /// The first position of the block along a grid variable.
    fn stored(&self, point: &Point<'c>, var: VarId) -> IntValue<'c> {
        let grid = &self.contraction.kernel.grid;
        let at = grid.iter().position(|v| *v == var).expect("rows and columns are grid variables");
        self.emit.load_int(self.emit.field(point.common[2], 8 * at as u64))
    }
}

fn pointer_param(function: FunctionValue<'_>, i: u32) -> PointerValue<'_> {
    function.get_nth_param(i).expect("the function has this parameter").into_pointer_value()
}

fn int_param(function: FunctionValue<'_>, i: u32) -> IntValue<'_> {
    function.get_nth_param(i).expect("the function has this parameter").into_int_value()
}
