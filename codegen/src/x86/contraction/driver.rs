//! The kernel function: walks grid points, packs what changed, runs register tiles.

use std::collections::BTreeMap;
use std::ops::Range;

use gigac_ir::kernel::{Access, TileId, VarId};
use inkwell::IntPredicate;
use inkwell::module::Linkage;
use inkwell::types::BasicMetadataTypeEnum;
use inkwell::values::{BasicValueEnum, FunctionValue, IntValue, PointerValue};

use super::ahead::{Next, Number};
use super::blocking::{Layout, ProductLayout, Rows};
use super::emit::{Emit, sound};
use super::lanewise::Frame;
use super::micro::{self, Shape};
use super::pack::Pack;
use super::shared::Contraction;
use crate::pattern::{Product, expr_operands};

pub(super) struct Driver<'e, 'c, 'm, 'k> {
    pub(super) emit: &'e Emit<'c, 'm>,
    pub(super) contraction: &'e Contraction<'k>,
    pub(super) layout: Layout,
}

/// Functions of one product that the kernel function calls.
struct Callees<'c> {
    /// Packs a panel of rows; none when rows are read in place, or an earlier product packs them.
    pack_rows: Option<FunctionValue<'c>>,
    /// Packs the columns; none when an earlier product does.
    pack_cols: Option<FunctionValue<'c>>,
    /// A full register tile with its epilogue.
    tile: FunctionValue<'c>,
    /// The same, of columns that are not packed yet.
    copying: Option<FunctionValue<'c>>,
    /// Sums of tiles at the edges of blocks.
    edges: Vec<(Shape, FunctionValue<'c>)>,
    /// The epilogue behind it of a tile whose sums lie in memory, if there is one.
    finish: Option<FunctionValue<'c>>,
}

/// What the kernel function knows of the grid point in hand.
struct Point<'c> {
    /// Arguments that callees take first: buffers, scalars, positions.
    common: [PointerValue<'c>; 3],
    frame: Frame<'c>,
    scratch: PointerValue<'c>,
    /// Rows and columns of the block.
    size: [IntValue<'c>; 2],
    /// Whether columns must be packed.
    fresh: IntValue<'c>,
}

/// One turn of a loop over k.
struct Turn<'c> {
    /// The first contracted position, and their number.
    first: IntValue<'c>,
    steps: IntValue<'c>,
    products: Vec<Term<'c>>,
}

/// A product in a turn.
struct Term<'c> {
    /// Which product.
    product: usize,
    cols: PointerValue<'c>,
    /// Whether its sum has turns before.
    add: IntValue<'c>,
    /// Whether it is the last turn of its sum.
    last: IntValue<'c>,
}

impl<'c> Driver<'_, 'c, '_, '_> {
    /// Emits the kernel and its parts.
    pub(super) fn run(&self) {
        let callees = (0..self.layout.products.len()).map(|i| Callees {
            pack_rows: self.pack_rows(i),
            pack_cols: self.pack_cols(i),
            tile: self.full_tile(i, None),
            copying: self.col_source(i).map(|source| self.full_tile(i, Some(source))),
            edges: self.edge_shapes().into_iter().map(|s| (s, self.edge_tile(i, s))).collect(),
            finish: self.finish(i),
        });
        self.kernel(&callees.collect::<Vec<_>>());
    }

    pub(super) fn name(&self) -> &str {
        &self.contraction.kernel.name
    }

    pub(super) fn product(&self, i: usize) -> (&Product, &ProductLayout) {
        (&self.contraction.products[i], &self.layout.products[i])
    }

    /// Emits the sums of a tile at an edge of a block.
    fn edge_tile(&self, product: usize, shape: Shape) -> FunctionValue<'c> {
        let name = format!("{}.{product}", self.name());
        micro::emit(self.emit, self.layout.strides(product), shape, &name)
    }

    /// Register tiles at the edges of full and last blocks.
    fn edge_shapes(&self) -> Vec<Shape> {
        let tile = self.layout.tile;
        let widths: Vec<u64> = (1..=tile.vectors)
            .filter(|v| *v == tile.vectors || self.edge_vectors().contains(v))
            .collect();
        let heights = self.edges(self.contraction.rows, tile.rows).into_iter().chain([tile.rows]);
        let shape = |rows| widths.iter().map(move |v| Shape { rows, vectors: *v });
        let mut shapes: Vec<Shape> = heights.flat_map(shape).collect();
        if self.edge_vectors().is_empty() {
            // Full tiles need no function beside their own.
            shapes.retain(|s| s.rows != tile.rows);
        }
        shapes
    }

    pub(super) fn edge_vectors(&self) -> Vec<u64> {
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
    pub(super) fn function(
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

    /// Emits `rows(…, to, first step, steps, first row, rows)`.
    fn pack_rows(&self, i: usize) -> Option<FunctionValue<'c>> {
        let emit = self.emit;
        let int = emit.context.i64_type().into();
        let (product, layout) = self.product(i);
        let shared = self.contraction.first_with_rows(i) != i;
        if shared || matches!(layout.rows, Rows::InPlace { .. }) {
            return None;
        }
        let params = [emit.pointer_type().into(), int, int, int, int];
        let (function, frame) = self.function(&format!("rows{i}"), &params);
        let [first, steps, row, rows] = [4, 5, 6, 7].map(|p| int_param(function, p));
        let pack = Pack {
            emit,
            contraction: self.contraction,
            tile: self.layout.tile,
            product,
            layout,
            frame,
            to: pointer_param(function, 3),
            first_step: first,
            steps,
        };
        pack.rows(row, rows);
        emit.finish();
        Some(function)
    }

    /// Emits `cols(…, to, first step, steps)`.
    fn pack_cols(&self, i: usize) -> Option<FunctionValue<'c>> {
        if self.contraction.first_with_cols(i) != i {
            return None;
        }
        let emit = self.emit;
        let int = emit.context.i64_type().into();
        let (product, layout) = self.product(i);
        let params = [emit.pointer_type().into(), int, int];
        let (function, frame) = self.function(&format!("cols{i}"), &params);
        let pack = Pack {
            emit,
            contraction: self.contraction,
            tile: self.layout.tile,
            product,
            layout,
            frame,
            to: pointer_param(function, 3),
            first_step: int_param(function, 4),
            steps: int_param(function, 5),
        };
        pack.cols();
        emit.finish();
        Some(function)
    }

    /// Emits the function that is called from outside.
    fn kernel(&self, callees: &[Callees<'c>]) {
        let emit = self.emit;
        let (int, pointer) = (emit.context.i64_type(), emit.pointer_type().into());
        let params = [pointer, pointer, int.into(), int.into(), pointer];
        let function = emit.function(self.name(), &params, Linkage::External);
        let grid = self.contraction.kernel.grid.len() as u64;
        let array = int.array_type(u32::try_from(grid.max(1)).expect("few grid variables"));
        let positions = sound(emit.builder.build_alloca(array, "positions"));
        let common = [pointer_param(function, 0), pointer_param(function, 1), positions];
        let scratch = pointer_param(function, 4);
        let [first, last] = [2, 3].map(|i| int_param(function, i));
        emit.each(first, last, 1, |point| {
            let at = self.positions(point, positions);
            let size = [self.contraction.rows, self.contraction.cols]
                .map(|var| self.block_size(var, at[&var].1));
            let known = emit.load_int(scratch);
            let block = emit.add(self.cols_number(&at), emit.int(1));
            let fresh = if self.layout.keep_cols {
                emit.compare(IntPredicate::NE, known, block)
            } else {
                emit.context.bool_type().const_all_ones()
            };
            let frame = self.frame(common);
            let point = Point { common, frame, scratch, size, fresh };
            self.point(callees, &point);
            emit.store(block, scratch);
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

    /// A number that tells blocks of columns apart: from the grid variables they depend on.
    fn cols_number(&self, at: &BTreeMap<VarId, (IntValue<'c>, IntValue<'c>)>) -> IntValue<'c> {
        let (emit, kernel) = (self.emit, self.contraction.kernel);
        let products = &self.contraction.products;
        let matters = |var: &&VarId| products.iter().any(|p| self.depends(p.rhs, **var));
        kernel.grid.iter().filter(matters).fold(emit.int(0), |number, var| {
            emit.add(emit.times(number, kernel.var(*var).tiles().cast_signed()), at[var].0)
        })
    }

    fn depends(&self, value: TileId, var: VarId) -> bool {
        let direct = self.contraction.kernel.ty(value).vars.contains(&var);
        let operands = expr_operands(self.contraction.expr(value));
        direct || operands.into_iter().any(|operand| self.depends(operand, var))
    }

    /// One grid point: all turns of all loops.
    fn point(&self, callees: &[Callees<'c>], point: &Point<'c>) {
        let emit = self.emit;
        for products in self.contraction.loops() {
            let (product, layout) = self.product(products.start);
            let k = self.contraction.kernel.var(product.k);
            emit.each(emit.int(0), emit.int(layout.turns.cast_signed()), 1, |turn| {
                let first = emit.times(turn, k.tile.cast_signed());
                let left = emit.sub(emit.int(k.extent.cast_signed()), first);
                let steps = emit.smaller(left, emit.int(k.tile.cast_signed()));
                let terms = products.clone().map(|i| self.term(point, turn, i)).collect();
                let turn = Turn { first, steps, products: terms };
                turn.products.iter().for_each(|t| self.columns(callees, point, &turn, t));
                self.turn(callees, point, &turn, &products);
            });
        }
    }

    fn term(&self, point: &Point<'c>, turn: IntValue<'c>, product: usize) -> Term<'c> {
        let (emit, layout) = (self.emit, self.product(product).1);
        let kept = if self.layout.keep_cols { layout.cols_size * 4 } else { 0 };
        let cols = emit.field(point.scratch, layout.cols_at);
        let cols = emit.after(cols, emit.times(turn, kept.cast_signed()));
        let truth = |yes: bool| emit.context.bool_type().const_int(yes.into(), false);
        let add = match self.contraction.starts(product) {
            true => emit.compare(IntPredicate::NE, turn, emit.int(0)),
            false => truth(true),
        };
        let end = emit.int(layout.turns.cast_signed() - 1);
        let last = match self.contraction.ends(product) {
            true => emit.compare(IntPredicate::EQ, turn, end),
            false => truth(false),
        };
        Term { product, cols, add, last }
    }

    /// Packs the columns of a turn, unless they are there or the first tiles do it.
    fn columns(
        &self,
        callees: &[Callees<'c>],
        point: &Point<'c>,
        turn: &Turn<'c>,
        term: &Term<'c>,
    ) {
        let emit = self.emit;
        let callee = &callees[term.product];
        let Some(pack_cols) = callee.pack_cols else { return };
        let more: [BasicValueEnum<'c>; 3] =
            [term.cols.into(), turn.first.into(), turn.steps.into()];
        let arguments = [&point.common.map(Into::into)[..], &more].concat();
        let pack = || {
            emit.call(pack_cols, &arguments);
        };
        let packs = match callee.copying {
            None => point.fresh,
            // A block without a full panel has nothing that packs on the way.
            Some(_) => {
                let height = emit.int(self.layout.tile.rows.cast_signed());
                let low = emit.compare(IntPredicate::ULT, point.size[0], height);
                emit.both(point.fresh, low)
            }
        };
        emit.branch(packs, pack, || ());
    }

    /// All register tiles of a block, for one turn: rows outside, so that a panel of rows stays
    /// in the first cache while the columns stream from the second.
    fn turn(
        &self,
        callees: &[Callees<'c>],
        point: &Point<'c>,
        turn: &Turn<'c>,
        products: &Range<usize>,
    ) {
        let (emit, height) = (self.emit, self.layout.tile.rows);
        let group_rows = self.product(products.start).1.group;
        let whole = emit.times(emit.over(point.size[0], height), height.cast_signed());
        let left = emit.sub(point.size[0], whole);
        emit.each(emit.int(0), point.size[0], group_rows, |first| {
            let end = emit.add(first, emit.int(group_rows.cast_signed()));
            products.clone().for_each(|i| self.group(callees, point, turn, i, first));
            let last = emit.smaller(end, whole);
            emit.each(first, last, height, |row| {
                self.panel(callees, point, turn, [first, row], height)
            });
            for edge in self.edges(self.contraction.rows, height) {
                let found = emit.compare(IntPredicate::EQ, left, emit.int(edge.cast_signed()));
                let here = emit.compare(IntPredicate::ULT, whole, end);
                let panel = || self.panel(callees, point, turn, [first, whole], edge);
                emit.branch(emit.both(found, here), panel, || ());
            }
        });
    }

    /// Packs a group of a product's rows, unless they are read in place or packed already.
    fn group(
        &self,
        callees: &[Callees<'c>],
        point: &Point<'c>,
        turn: &Turn<'c>,
        product: usize,
        first: IntValue<'c>,
    ) {
        let emit = self.emit;
        let Some(pack) = callees[product].pack_rows else { return };
        let layout = self.product(product).1;
        let to = emit.field(point.scratch, layout.rows_at);
        let left = emit.sub(point.size[0], first);
        let rows = emit.smaller(left, emit.int(layout.group.cast_signed()));
        let row = emit.add(point.frame.positions[&self.contraction.rows], first);
        let more: [BasicValueEnum<'c>; 5] =
            [to.into(), turn.first.into(), turn.steps.into(), row.into(), rows.into()];
        emit.call(pack, &[&point.common.map(Into::into)[..], &more].concat());
    }

    /// The tiles of some rows: of all products in turn, so that what waits for a later sum, and the
    /// columns that they share, are in the first cache.
    fn panel(
        &self,
        callees: &[Callees<'c>],
        point: &Point<'c>,
        turn: &Turn<'c>,
        [group, row]: [IntValue<'c>; 2],
        height: u64,
    ) {
        let (emit, tile) = (self.emit, self.layout.tile);
        let sides = turn.products.iter().map(|term| {
            let rows = self.panel_rows(point, turn, term.product, [group, row]);
            (term, rows, self.next(point, turn, term.product, [group, row]))
        });
        let sides: Vec<_> = sides.collect();
        emit.each(emit.int(0), point.size[1], tile.cols(), |col| {
            for (term, rows, next) in &sides {
                let place = Place { rows: *rows, row, col, group_first: group };
                self.tile(callees, point, (turn, term), (&place, next), height);
            }
        });
    }

    /// A tile of a product: a full one, or one at an edge.
    fn tile(
        &self,
        callees: &[Callees<'c>],
        point: &Point<'c>,
        turn: (&Turn<'c>, &Term<'c>),
        (place, next): (&Place<'c>, &Next<'c>),
        height: u64,
    ) {
        let (emit, tile) = (self.emit, self.layout.tile);
        let width = emit.int(tile.cols().cast_signed());
        let left = emit.sub(point.size[1], place.col);
        let edge = |vectors| {
            let shape = Shape { rows: height, vectors };
            self.call_edge(callees, point, turn, place, shape);
        };
        let narrower = || {
            if self.edge_vectors().contains(&1) {
                let lanes = emit.int(tile.lanes.cast_signed());
                let narrow = emit.compare(IntPredicate::ULE, left, lanes);
                emit.branch(narrow, || edge(1), || edge(tile.vectors));
            } else {
                edge(tile.vectors);
            }
        };
        let full = || self.call_tile(callees, point, turn, place, next);
        if height != tile.rows {
            narrower();
        } else if self.edge_vectors().is_empty() {
            full();
        } else {
            let wide = emit.compare(IntPredicate::UGE, left, width);
            emit.branch(wide, full, narrower);
        }
    }

    /// The address of a panel's rows.
    fn panel_rows(
        &self,
        point: &Point<'c>,
        turn: &Turn<'c>,
        product: usize,
        [group, row]: [IntValue<'c>; 2],
    ) -> PointerValue<'c> {
        let emit = self.emit;
        let (product, layout) = self.product(product);
        if matches!(layout.rows, Rows::InPlace { .. }) {
            let row = emit.add(point.frame.positions[&self.contraction.rows], row);
            let at = [(self.contraction.rows, row), (product.k, turn.first)];
            let loads = self.contraction.loads(product.lhs);
            return self.address(&point.frame, loads[0], &at);
        }
        let panel = emit.over(emit.sub(row, group), self.layout.tile.rows);
        let bytes = layout.panel_size(self.layout.tile) * 4;
        let packed = emit.field(point.scratch, layout.rows_at);
        emit.after(packed, emit.times(panel, bytes.cast_signed()))
    }

    /// What the tiles of a panel fetch ahead: the next rows of the block, or its first ones for the
    /// next turn.
    fn next(
        &self,
        point: &Point<'c>,
        turn: &Turn<'c>,
        product: usize,
        [group, row]: [IntValue<'c>; 2],
    ) -> Next<'c> {
        let emit = self.emit;
        let (_, layout) = self.product(product);
        let after = match layout.rows {
            Rows::InPlace { .. } => emit.add(row, emit.int(self.layout.tile.rows.cast_signed())),
            _ => emit.add(group, emit.int(layout.group.cast_signed())),
        };
        let cols_step = emit.add(turn.first, emit.int(layout.depth.cast_signed()));
        let inside = match layout.turns {
            // The rows behind those of the block are most likely the next point's.
            1 => emit.context.bool_type().const_all_ones(),
            _ => emit.compare(IntPredicate::ULT, after, point.size[0]),
        };
        let row = emit.choose(inside, after, emit.int(0));
        let row = emit.add(point.frame.positions[&self.contraction.rows], row);
        let step = emit.choose(inside, turn.first, cols_step);
        Next { row, step, cols_step, packs: point.fresh }
    }

    fn sums(&self, point: &Point<'c>, product: usize, place: &Place<'c>) -> PointerValue<'c> {
        let (emit, layout) = (self.emit, &self.layout);
        let before = self.contraction.products[product].sum as u64 * layout.sums_apart;
        let sums = emit.field(point.scratch, layout.sums_at + before);
        if layout.turns == 1 {
            return sums;
        }
        let line = emit.times(place.row, layout.sum_stride.cast_signed());
        emit.after(sums, emit.times(emit.add(line, place.col), 4))
    }

    /// The columns of a tile in their packed block.
    fn sliver(&self, term: &Term<'c>, col: IntValue<'c>) -> PointerValue<'c> {
        let (emit, tile) = (self.emit, self.layout.tile);
        let (_, layout) = self.product(term.product);
        let bytes = (layout.sliver_size(tile) * 4).cast_signed();
        emit.after(term.cols, emit.times(emit.over(col, tile.cols()), bytes))
    }

    /// The first position of a tile along rows and columns.
    fn corner(&self, point: &Point<'c>, place: &Place<'c>) -> [IntValue<'c>; 2] {
        let at = [(self.contraction.rows, place.row), (self.contraction.cols, place.col)];
        at.map(|(var, inside)| self.emit.add(point.frame.positions[&var], inside))
    }

    /// A full register tile.
    fn call_tile(
        &self,
        callees: &[Callees<'c>],
        point: &Point<'c>,
        (turn, term): (&Turn<'c>, &Term<'c>),
        place: &Place<'c>,
        next: &Next<'c>,
    ) {
        let [row, col] = self.corner(point, place);
        let mut arguments: Vec<BasicValueEnum<'c>> = point.common.map(Into::into).to_vec();
        arguments.extend::<[BasicValueEnum<'c>; 9]>([
            turn.steps.into(),
            place.rows.into(),
            self.sliver(term, place.col).into(),
            self.sums(point, term.product, place).into(),
            row.into(),
            col.into(),
            term.add.into(),
            term.last.into(),
            turn.first.into(),
        ]);
        let (emit, tile) = (self.emit, self.layout.tile);
        let across = self.layout.block[1].div_ceil(tile.cols()).cast_signed();
        let in_group = emit.over(emit.sub(place.row, place.group_first), tile.rows);
        let in_panel = emit.over(place.col, tile.cols());
        let number = Number {
            of_rows: match self.layout.products[term.product].rows {
                Rows::InPlace { .. } => in_panel,
                _ => emit.add(emit.times(in_group, across), in_panel),
            },
            panel: emit.over(place.row, tile.rows),
        };
        arguments.extend(self.stream_arguments(term.product, &point.frame, next, &number, col));
        let callee = &callees[term.product];
        let packed = || {
            emit.call(callee.tile, &arguments);
        };
        let copying = |tile| {
            emit.call(tile, &arguments);
        };
        let Some(tile) = callee.copying else { return packed() };
        let first = emit.compare(IntPredicate::EQ, place.row, emit.int(0));
        let copies = emit.both(first, point.fresh);
        emit.branch(copies, || copying(tile), packed);
    }

    /// A register tile at an edge: its sums, and after the last turn its epilogue.
    fn call_edge(
        &self,
        callees: &[Callees<'c>],
        point: &Point<'c>,
        (turn, term): (&Turn<'c>, &Term<'c>),
        place: &Place<'c>,
        shape: Shape,
    ) {
        let emit = self.emit;
        let callee = &callees[term.product];
        let found = callee.edges.iter().find(|(s, _)| *s == shape);
        let (_, function) = found.unwrap_or_else(|| panic!("no micro-kernel for {shape:?}"));
        let sums = self.sums(point, term.product, place);
        let cols = self.sliver(term, place.col);
        let sum: [BasicValueEnum<'c>; 5] =
            [turn.steps.into(), place.rows.into(), cols.into(), sums.into(), term.add.into()];
        emit.call(*function, &sum);
        let Some(finish) = callee.finish else { return };
        let [row, col] = self.corner(point, place);
        let height = emit.int(shape.rows.cast_signed());
        let left = emit.sub(point.size[1], place.col);
        let more: [BasicValueEnum<'c>; 5] =
            [sums.into(), row.into(), height.into(), col.into(), left.into()];
        let arguments = [&point.common.map(Into::into)[..], &more].concat();
        let finish = || {
            emit.call(finish, &arguments);
        };
        emit.branch(term.last, finish, || ());
    }
}

/// A register tile within a block.
struct Place<'c> {
    /// The panel's rows.
    rows: PointerValue<'c>,
    row: IntValue<'c>,
    col: IntValue<'c>,
    /// The first row of its group.
    group_first: IntValue<'c>,
}

pub(super) fn pointer_param(function: FunctionValue<'_>, i: u32) -> PointerValue<'_> {
    function.get_nth_param(i).expect("the function has this parameter").into_pointer_value()
}

pub(super) fn int_param(function: FunctionValue<'_>, i: u32) -> IntValue<'_> {
    function.get_nth_param(i).expect("the function has this parameter").into_int_value()
}
