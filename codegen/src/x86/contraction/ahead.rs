//! Fetching ahead: while a register tile is computed, lines that later tiles need come into the
//! caches.
//!
//! Each full tile fetches its share of the source of the next rows (the next panel where rows are
//! read in place, the next group where they are packed) and, while columns are packed turn by turn,
//! of the columns of the next turn. What the tile itself will need comes first, in the first half of its loop, the rest
//! after it: fetched together they would wait for each other. Addresses may lie past the end of a buffer: fetching ahead
//! never faults, and what is no operand is never used.

use std::ops::Range;

use gigac_ir::kernel::{BufferId, Offset, TileId, VarId};
use inkwell::values::{BasicValueEnum, IntValue, PointerValue};

use super::access::slope;
use super::blocking::Rows;
use super::driver::Driver;
use super::emit::{Cache, Emit};
use super::lanewise::Frame;
use super::micro::Shape;

/// Bytes of a line of the cache.
const LINE: u64 = 64;

/// An epilogue that reads and writes in so many places is fetched to the second cache: its lines
/// would take the buffers through which the first one gets the columns.
const MANY_PLACES: usize = 4;

/// Lines that a tile fetches, beside its first steps.
#[derive(Clone, Debug)]
pub(super) struct Stream<'k> {
    load: (BufferId, &'k Offset),
    pub(super) walk: Walk,
    /// Rows and steps, or only steps, from one tile's share to the next.
    share: Share,
}

/// A grid of lines, walked stride by stride, few in each turn of the main loop: a burst of them
/// would take all the buffers that the loop's own loads need.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walk {
    /// Bytes from a line to the next one, and their number.
    pub(super) stride: u64,
    pub(super) strides: u64,
    /// Bytes from a row of the grid to the next one, and the number of rows.
    apart: u64,
    rows: u64,
    /// Turns over which the walk is spread.
    over: u64,
}

impl Walk {
    /// The first turn of a walk that leaves the first half of the loop to what the tile itself needs,
    /// as far as its lines allow.
    pub(super) fn late(self) -> u64 {
        let last = self.over.saturating_sub(self.turns());
        (self.over / 2).min(last)
    }

    fn per_turn(self) -> u64 {
        (self.strides * self.rows).div_ceil(self.over.max(1))
    }

    fn turns(self) -> u64 {
        (self.strides * self.rows).div_ceil(self.per_turn())
    }
}

#[derive(Clone, Copy, Debug)]
enum Share {
    /// Each tile fetches so many rows.
    Rows(u64),
    /// Each tile fetches so many steps.
    Steps(u64),
}

/// Where the operands of later tiles begin.
pub(super) struct Next<'c> {
    /// Position of the next rows, and of their first step.
    pub(super) row: IntValue<'c>,
    pub(super) step: IntValue<'c>,
    /// First step of the columns to pack next.
    pub(super) cols_step: IntValue<'c>,
    /// Whether columns are being packed.
    pub(super) packs: IntValue<'c>,
}

/// Number of a tile among those that share the work.
pub(super) struct Number<'c> {
    /// Among the tiles that use the same rows.
    pub(super) of_rows: IntValue<'c>,
    /// Of its panel in the block.
    pub(super) panel: IntValue<'c>,
}

impl<'c, 'k> Driver<'_, 'c, '_, 'k> {
    /// What tiles fetch of a product's next rows; of rows that several share, the first one's tiles.
    pub(super) fn row_streams(&self, product: usize) -> Vec<Stream<'k>> {
        let (con, tile) = (self.contraction, self.layout.tile);
        let (terms, layout) = self.product(product);
        if con.first_with_rows(product) != product {
            return Vec::new();
        }
        let across = self.layout.block[1].div_ceil(tile.cols());
        let (unit, tiles) = match layout.rows {
            Rows::InPlace { .. } => (tile.rows, across),
            _ => (layout.group, layout.group / tile.rows * across),
        };
        let stream = |load: (BufferId, &'k Offset)| {
            let [by_row, by_step] = [con.rows, terms.k].map(|var| self.bytes_apart(load, var));
            let (by_row, by_step) = (by_row?, by_step?);
            let over = layout.main_turns();
            Some(match layout.rows {
                Rows::ByStep => {
                    let strides = layout.depth.div_ceil(tiles);
                    let rows = lines(unit, by_row)?;
                    let walk = Walk { stride: by_step, strides, apart: LINE, rows, over };
                    Stream { load, walk, share: Share::Steps(strides) }
                }
                _ => {
                    let rows = unit.div_ceil(tiles);
                    let strides = (layout.depth * by_step).div_ceil(LINE);
                    let walk = Walk { stride: LINE, strides, apart: by_row, rows, over };
                    Stream { load, walk, share: Share::Rows(rows) }
                }
            })
        };
        self.distinct_loads(terms.lhs).into_iter().filter_map(stream).collect()
    }

    /// What tiles fetch of a product's next columns, likewise.
    pub(super) fn col_streams(&self, product: usize) -> Vec<Stream<'k>> {
        let (terms, layout) = self.product(product);
        let shared = self.contraction.first_with_cols(product) != product;
        if layout.turns == 1 || layout.transposed_cols || shared {
            return Vec::new();
        }
        let tile = self.layout.tile;
        let panels = self.layout.block[0].div_ceil(tile.rows);
        let stream = |load: (BufferId, &'k Offset)| {
            let by_col = self.bytes_apart(load, self.contraction.cols)?;
            let stride = self.bytes_apart(load, terms.k)?;
            let strides = layout.depth.div_ceil(panels);
            let rows = lines(tile.cols(), by_col)?;
            let walk = Walk { stride, strides, apart: LINE, rows, over: layout.main_turns() };
            Some(Stream { load, walk, share: Share::Steps(strides) })
        };
        self.distinct_loads(terms.rhs).into_iter().filter_map(stream).collect()
    }

    /// What a full tile fetches for its own epilogue, over the first half of its loop: the lines
    /// that it reads, and those that it writes, which would hold up the next tile's loads otherwise.
    pub(super) fn finish_fetches(
        &self,
        product: usize,
        frame: &Frame<'c>,
        shape: Shape,
        [first_row, first_col]: [IntValue<'c>; 2],
        last: IntValue<'c>,
    ) -> Vec<Fetch<'c>> {
        let (emit, con) = (self.emit, self.contraction);
        let places = self.finish_places(product);
        let cache = if places.len() < MANY_PLACES { Cache::First } else { Cache::Second };
        let fetch = |place| {
            let [by_row, by_col] = [con.rows, con.cols].map(|var| self.bytes_apart(place, var));
            let (by_row, by_col) = (by_row?, by_col?);
            let rows = lines(self.layout.tile.cols(), by_col)?;
            let over = self.product(product).1.main_turns() / 2;
            let walk = Walk { stride: by_row, strides: shape.rows, apart: LINE, rows, over };
            let at = [(con.rows, first_row), (con.cols, first_col)];
            let stride = emit.choose(last, emit.int(by_row.cast_signed()), emit.int(0));
            let from = self.address(frame, place, &at);
            Some(Fetch { from, stride, walk, cache, start: 0 })
        };
        places.into_iter().filter_map(fetch).collect()
    }

    /// The sums of earlier turns that a full tile adds its own to, fetched over the first half of its
    /// loop: a block of them lies in the second cache.
    pub(super) fn sums_fetch(&self, product: usize, sums: PointerValue<'c>) -> Option<Fetch<'c>> {
        let tile = self.layout.tile;
        if self.layout.turns == 1 {
            return None;
        }
        let stride = self.layout.sum_stride * 4;
        let over = self.product(product).1.main_turns() / 2;
        let rows = (tile.cols() * 4).div_ceil(LINE);
        let walk = Walk { stride, strides: tile.rows, apart: LINE, rows, over };
        let stride = self.emit.int(stride.cast_signed());
        Some(Fetch { from: sums, stride, walk, cache: Cache::First, start: 0 })
    }

    /// What the epilogue behind a product loads and stores.
    fn finish_places(&self, product: usize) -> Vec<(BufferId, &'k Offset)> {
        let con = self.contraction;
        let mut distinct = Vec::new();
        for store in con.stores_behind(product) {
            let values = [Some(store.value), store.mask].into_iter().flatten();
            let stored = (store.buffer, store.offset);
            for place in values.flat_map(|value| con.loads(value)).chain([stored]) {
                if !distinct.contains(&place) {
                    distinct.push(place);
                }
            }
        }
        distinct
    }

    fn distinct_loads(&self, operand: TileId) -> Vec<(BufferId, &'k Offset)> {
        let mut loads = self.contraction.loads(operand);
        loads.dedup();
        loads
    }

    /// Bytes between neighbouring positions of a variable; none where that is no constant above 0.
    pub(super) fn bytes_apart(
        &self,
        (buffer, offset): (BufferId, &Offset),
        var: VarId,
    ) -> Option<u64> {
        let kernel = self.contraction.kernel;
        if !offset.tiles().is_empty() {
            return None;
        }
        let elements = u64::try_from(slope(kernel, offset, var)?).ok().filter(|n| *n > 0)?;
        Some(elements * kernel.buffers[buffer.0 as usize].storage.bytes())
    }

    /// The arguments of a tile for its streams: a pointer for each; those of columns stand still
    /// when none are being packed.
    pub(super) fn stream_arguments(
        &self,
        product: usize,
        frame: &Frame<'c>,
        next: &Next<'c>,
        number: &Number<'c>,
        col: IntValue<'c>,
    ) -> Vec<BasicValueEnum<'c>> {
        let (emit, con) = (self.emit, self.contraction);
        let k = con.products[product].k;
        let times = |count: IntValue<'c>, by: u64| emit.times(count, by.cast_signed());
        let mut arguments: Vec<BasicValueEnum<'c>> = Vec::new();
        for stream in self.row_streams(product) {
            let at = match stream.share {
                Share::Rows(rows) => {
                    [(con.rows, emit.add(next.row, times(number.of_rows, rows))), (k, next.step)]
                }
                Share::Steps(steps) => {
                    [(con.rows, next.row), (k, emit.add(next.step, times(number.of_rows, steps)))]
                }
            };
            arguments.push(self.address(frame, stream.load, &at).into());
        }
        for stream in self.col_streams(product) {
            let Share::Steps(steps) = stream.share else { unreachable!("columns go by steps") };
            let step = emit.add(next.cols_step, times(number.panel, steps));
            let address = self.address(frame, stream.load, &[(con.cols, col), (k, step)]);
            arguments.push(address.into());
            let stride = emit.int(stream.walk.stride.cast_signed());
            arguments.push(emit.choose(next.packs, stride, emit.int(0)).into());
        }
        arguments
    }
}

/// Lines that so many elements lie in; nothing when each has a line of its own, as those are too many
/// to fetch ahead.
fn lines(elements: u64, apart: u64) -> Option<u64> {
    (apart <= LINE).then(|| (elements * apart).div_ceil(LINE))
}

/// A walk within a tile's function.
pub(super) struct Fetch<'c> {
    pub(super) from: PointerValue<'c>,
    /// Bytes of a stride: the walk's, or 0 to stand still.
    pub(super) stride: IntValue<'c>,
    pub(super) walk: Walk,
    pub(super) cache: Cache,
    /// The first turn of the main loop that fetches.
    pub(super) start: u64,
}

impl<'c> Fetch<'c> {
    /// Turns of the main loop that fetch.
    pub(super) fn turns(&self) -> Range<u64> {
        self.start..self.start + self.walk.turns()
    }

    /// Fetches the lines of one turn of the main loop.
    pub(super) fn turn(&self, emit: &Emit<'c, '_>, turn: IntValue<'c>) {
        let Walk { strides, apart, .. } = self.walk;
        let per_turn = self.walk.per_turn();
        let turn = emit.sub(turn, emit.int(self.start.cast_signed()));
        for i in 0..per_turn.cast_signed() {
            let line = emit.add(emit.times(turn, per_turn.cast_signed()), emit.int(i));
            let (along, row) = (emit.modulo(line, strides), emit.over(line, strides));
            let at = emit.after(self.from, emit.product(along, self.stride));
            let at = emit.after(at, emit.times(row, apart.cast_signed()));
            emit.prefetch(at, self.cache);
        }
    }
}
