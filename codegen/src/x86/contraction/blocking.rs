//! Sizes: the register tile of an instruction set, and where packed operands lie in scratch memory.
//!
//! ```text
//! scratch: header │ panels of rows │ columns of every turn, or of one │ sums of a block, or of a tile
//! ```

use std::ops::Range;

use gigac_ir::kernel::{Expr, KEPT_COLUMNS, Offset, Storage, VarId};

use super::super::CpuTarget;
use super::access::{Access, Starts, boundaries, classify, slope};
use super::micro::{Strides, UNROLL};
use super::shared::Contraction;
use crate::pattern::Product;

/// The part of the result that is summed in registers.
///
/// AVX-512: 12 × 32 takes 24 of 32 registers for sums, 2 for the columns in hand and one for the
/// broadcast row element; every step of k costs 14 loads for 24 multiply-adds. AVX2: 6 × 16 takes
/// 12 + 2 + 1 of 16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::x86) struct RegisterTile {
    /// f32 lanes of a register.
    pub(in crate::x86) lanes: u64,
    /// Rows.
    pub(in crate::x86) rows: u64,
    /// Registers per row.
    pub(in crate::x86) vectors: u64,
}

impl RegisterTile {
    pub(in crate::x86) fn of(target: &CpuTarget) -> Self {
        let rows = if target.registers() >= 32 { 12 } else { 6 };
        Self { lanes: target.lanes(), rows, vectors: 2 }
    }

    /// Columns.
    pub(in crate::x86) fn cols(self) -> u64 {
        self.lanes * self.vectors
    }
}

/// How the rows' operand lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::x86) enum RowLayout {
    /// `[row][k]`: a source that is contiguous along k, or its copy.
    ByRow,
    /// Panels `[k][row]` of as many rows as the register tile has: the copy of a source that is
    /// contiguous along rows.
    ByStep,
}

/// Where the micro-kernel finds its rows. Strides are in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rows {
    /// In the buffer itself: plain f32, contiguous along k, rows at a constant distance.
    InPlace {
        /// Distance of rows.
        stride: u64,
    },
    /// In a packed panel `[row][k]`: the copy of a source that is contiguous along k.
    ByRow {
        /// Distance of rows.
        stride: u64,
    },
    /// In a packed panel `[k][row]`: the copy of a source that is contiguous along rows.
    ByStep,
}

/// Most rows that are packed at a time: where the source is contiguous along rows, enough lines of
/// each step for the processor to see a stream, and few enough to leave room in the second cache.
const GROUP: u64 = 96;

/// How one product of the sum is blocked, in elements unless said otherwise.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProductLayout {
    /// Turns of the loop.
    pub(super) turns: u64,
    /// Contracted positions of a turn.
    pub(super) depth: u64,
    pub(super) rows: Rows,
    /// Rows that are packed at a time: whole panels, groups of a block about equal.
    pub(super) group: u64,
    /// Whether columns are packed through a transposition: the source is contiguous along k.
    pub(super) transposed_cols: bool,
    /// Byte offset of the packed rows.
    pub(super) rows_at: u64,
    /// Size of the packed columns of one turn.
    pub(super) cols_size: u64,
    /// Byte offset of the packed columns of the first turn.
    pub(super) cols_at: u64,
}

/// How a kernel is blocked.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) tile: RegisterTile,
    /// Rows and columns of a block.
    pub(super) block: [u64; 2],
    pub(super) products: Vec<ProductLayout>,
    /// Whether the packed columns of all turns are kept for later grid points.
    pub(super) keep_cols: bool,
    /// Turns of all loops.
    pub(super) turns: u64,
    /// Byte offset of the sums.
    pub(super) sums_at: u64,
    /// Bytes from the tile or block of a sum to that of the next one.
    pub(super) sums_apart: u64,
    /// Distance of rows of sums.
    pub(super) sum_stride: u64,
}

/// Runs of a merged axis that are so many vectors long count as contiguous: few vectors straddle
/// their ends.
const LONG: u64 = 2;

/// Bytes in front of the scratch memory, zero when a thread enters a launch: here the number of the
/// packed block of columns, plus 1.
pub(in crate::x86) const HEADER: u64 = gigac_ir::image::ALIGNMENT;

impl Layout {
    pub(super) fn new(contraction: &Contraction<'_>, tile: RegisterTile) -> Self {
        let kernel = contraction.kernel;
        let size = |v: VarId| kernel.var(v).tile.min(kernel.var(v).extent);
        let block = [contraction.rows, contraction.cols].map(size);
        let padded_cols = block[1].next_multiple_of(tile.cols());
        let product = |product: &Product| {
            let depth = size(product.k);
            ProductLayout {
                turns: kernel.var(product.k).tiles(),
                depth,
                rows: rows(contraction, product, tile),
                group: block[0].div_ceil(block[0].div_ceil(GROUP)).next_multiple_of(tile.rows),
                transposed_cols: prefers_k(contraction, product, tile, false),
                rows_at: HEADER,
                cols_size: padded_cols * depth.next_multiple_of(tile.lanes),
                cols_at: 0,
            }
        };
        let products: Vec<_> = contraction.products.iter().map(product).collect();
        let turns = contraction.loops().map(|range| products[range.start].turns).sum();
        let (sum_rows, sum_stride) = match turns {
            1 => (tile.rows, tile.cols()),
            _ => (block[0], padded_cols),
        };
        let own_cols = (0..products.len()).filter(|i| contraction.first_with_cols(*i) == *i);
        let all: u64 = own_cols.map(|i| products[i].turns * products[i].cols_size * 4).sum();
        let keep_cols = all <= KEPT_COLUMNS;
        let sums_apart = sum_rows * sum_stride * 4;
        let mut layout =
            Self { tile, block, products, keep_cols, turns, sums_at: 0, sums_apart, sum_stride };
        layout.place(contraction);
        layout
    }

    /// How the micro-kernel finds the operands and sums of a product.
    pub(super) fn strides(&self, product: usize) -> Strides {
        let (row_layout, rows) = match self.products[product].rows {
            Rows::InPlace { stride } | Rows::ByRow { stride } => (RowLayout::ByRow, stride),
            Rows::ByStep => (RowLayout::ByStep, self.tile.rows),
        };
        Strides { row_layout, rows, cols: self.tile.cols(), sums: self.sum_stride }
    }

    /// Places what is packed: products of one loop beside each other, but for operands that they
    /// share; loops over each other, but for columns that are kept.
    fn place(&mut self, contraction: &Contraction<'_>) {
        let first_cols = contraction.loops().map(|range| self.place_rows(contraction, range));
        let first_cols = first_cols.collect::<Vec<_>>().into_iter().max().unwrap_or(HEADER);
        let mut at = first_cols;
        for range in contraction.loops() {
            let from = if self.keep_cols { at } else { first_cols };
            at = at.max(self.place_cols(contraction, range, from));
        }
        self.sums_at = at;
    }

    /// Gives a loop's rows their places; returns the end of them.
    fn place_rows(&mut self, contraction: &Contraction<'_>, products: Range<usize>) -> u64 {
        products.fold(HEADER, |at, i| {
            let first = contraction.first_with_rows(i);
            let (panel, groups) = (self.products[i].panel_size(self.tile), self.products[i].group);
            self.products[i].rows_at = if first == i { at } else { self.products[first].rows_at };
            let bytes = (groups / self.tile.rows * panel * 4).next_multiple_of(HEADER);
            if first == i { at + bytes } else { at }
        })
    }

    /// Gives a loop's columns their places; returns the end of them.
    fn place_cols(
        &mut self,
        contraction: &Contraction<'_>,
        products: Range<usize>,
        from: u64,
    ) -> u64 {
        products.fold(from, |at, i| {
            let first = contraction.first_with_cols(i);
            let ProductLayout { turns, cols_size, .. } = self.products[i];
            self.products[i].cols_at = if first == i { at } else { self.products[first].cols_at };
            let kept = if self.keep_cols { turns } else { 1 };
            if first == i { at + kept * cols_size * 4 } else { at }
        })
    }

    /// Bytes of scratch memory for one thread, with so many sums.
    pub(super) fn scratch_bytes(&self, sums: usize) -> u64 {
        self.sums_at + sums as u64 * self.sums_apart
    }
}

impl ProductLayout {
    /// Turns of the micro-kernel's main loop.
    pub(super) fn main_turns(&self) -> u64 {
        self.depth / UNROLL
    }

    /// Elements of a packed panel of rows.
    pub(super) fn panel_size(&self, tile: RegisterTile) -> u64 {
        match self.rows {
            Rows::InPlace { .. } => 0,
            Rows::ByRow { stride } => tile.rows * stride,
            // The last step is written as a whole vector.
            Rows::ByStep => (self.depth * tile.rows + tile.lanes).next_multiple_of(tile.lanes),
        }
    }

    /// Elements of one packed sliver: the columns of a register tile times the steps that it has
    /// room for.
    pub(super) fn sliver_size(&self, tile: RegisterTile) -> u64 {
        self.depth.next_multiple_of(tile.lanes) * tile.cols()
    }
}

fn rows(contraction: &Contraction<'_>, product: &Product, tile: RegisterTile) -> Rows {
    if let Some(stride) = in_place(contraction, product) {
        return Rows::InPlace { stride };
    }
    let k = contraction.kernel.var(product.k);
    match prefers_k(contraction, product, tile, true) {
        true => Rows::ByRow { stride: k.tile.min(k.extent).next_multiple_of(tile.lanes) },
        false => Rows::ByStep,
    }
}

/// The distance of rows, when the micro-kernel can read them where they lie.
fn in_place(contraction: &Contraction<'_>, product: &Product) -> Option<u64> {
    let (buffer, offset) = plain_load(contraction, product)?;
    let kernel = contraction.kernel;
    let f32s = kernel.buffers[buffer.0 as usize].storage == Storage::F32;
    let unit = slope(kernel, offset, product.k)? == 1;
    let stride = u64::try_from(slope(kernel, offset, contraction.rows)?).ok()?;
    (f32s && unit).then_some(stride)
}

/// The load that the rows' operand is, if it is nothing else.
fn plain_load<'k>(
    contraction: &Contraction<'k>,
    product: &Product,
) -> Option<(gigac_ir::kernel::BufferId, &'k Offset)> {
    match contraction.expr(product.lhs) {
        Expr::Load { buffer, offset, mask: None } if offset.tiles().is_empty() => {
            Some((*buffer, offset))
        }
        _ => None,
    }
}

/// Whether more loads of an operand are contiguous along k than along its own variable. Where
/// neither is, rows are gathered along k and columns along columns, which needs no transposition.
fn prefers_k(
    contraction: &Contraction<'_>,
    product: &Product,
    tile: RegisterTile,
    of_rows: bool,
) -> bool {
    let (operand, own) = match of_rows {
        true => (product.lhs, contraction.rows),
        false => (product.rhs, contraction.cols),
    };
    let loads = contraction.loads(operand);
    let contiguous = |var| {
        let along = |offset: &Offset| {
            let runs_long =
                boundaries([offset].into_iter(), var).iter().all(|b| *b >= LONG * tile.lanes);
            let starts = match runs_long {
                true => Starts::Unbroken,
                false => Starts::Multiples(contraction.start_align(var, tile.lanes)),
            };
            classify(contraction.kernel, offset, var, starts, tile.lanes) == Access::Contiguous
        };
        loads.iter().filter(|(_, offset)| along(offset)).count()
    };
    let (along_k, along_own) = (contiguous(product.k), contiguous(own));
    along_k > along_own || (of_rows && along_k == along_own)
}
