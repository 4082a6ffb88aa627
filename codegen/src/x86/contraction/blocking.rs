//! Sizes: the register tile of an instruction set, and where packed blocks lie in scratch memory.

use gigac_ir::kernel::Kernel;

use super::super::CpuTarget;
use super::access::{Access, classify};
use super::micro::Strides;
use super::pattern::Contraction;

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

/// How the rows' operand is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::x86) enum RowLayout {
    /// `[row][k]`: the copy of a source that is contiguous along k.
    ByRow,
    /// Panels `[k][row]` of as many rows as the register tile has: the copy of a source that is
    /// contiguous along rows.
    ByStep,
}

/// Blocks, all in elements unless said otherwise.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) tile: RegisterTile,
    /// Rows, columns and contracted positions of a block.
    pub(super) block: [u64; 3],
    /// Turns of the loop.
    pub(super) chunks: u64,
    pub(super) row_layout: RowLayout,
    /// Whether columns are packed through a transposition: the source is contiguous along k.
    pub(super) transposed_cols: bool,
    /// Distance of rows ([`RowLayout::ByRow`]) or of steps ([`RowLayout::ByStep`]).
    pub(super) row_stride: u64,
    /// Size of the packed rows of one turn.
    pub(super) rows_size: u64,
    /// Size of the packed columns of one turn.
    pub(super) cols_size: u64,
    /// Whether the packed blocks of all turns are kept, to be used again by the next grid point.
    pub(super) keep_rows: bool,
    /// The same for columns.
    pub(super) keep_cols: bool,
    /// Distance of rows of sums.
    pub(super) sum_stride: u64,
}

/// Above this many bytes the packed blocks of all turns are not kept: they would only push each
/// other out of the caches.
const KEEP_BYTES: u64 = 4 << 20;

impl Layout {
    pub(super) fn new(contraction: &Contraction<'_>, tile: RegisterTile) -> Self {
        let kernel = contraction.kernel;
        let [rows, cols, k] = [contraction.rows, contraction.cols, contraction.k].map(|v| {
            let var = kernel.var(v);
            var.tile.min(var.extent)
        });
        let chunks = kernel.var(contraction.k).tiles();
        let row_layout = row_layout(contraction, tile);
        let padded_k = k.next_multiple_of(tile.lanes);
        let (row_stride, rows_size) = match row_layout {
            // One more line, so that rows do not fall on the same lines of the cache.
            RowLayout::ByRow => (padded_k + tile.lanes, rows * (padded_k + tile.lanes)),
            RowLayout::ByStep => {
                let step = tile.rows.next_multiple_of(tile.lanes);
                (step, rows.div_ceil(tile.rows) * padded_k * step)
            }
        };
        let padded_cols = cols.next_multiple_of(tile.cols());
        let cols_size = padded_cols * padded_k;
        let keep = |size: u64| chunks * size * 4 <= KEEP_BYTES;
        Self {
            tile,
            block: [rows, cols, k],
            chunks,
            row_layout,
            transposed_cols: prefers_k(contraction, tile, false),
            row_stride,
            rows_size,
            cols_size,
            keep_rows: keep(rows_size),
            keep_cols: keep(cols_size),
            sum_stride: if chunks == 1 { tile.cols() } else { padded_cols },
        }
    }

    /// Offset of the packed rows of a turn; rows come first.
    pub(super) fn rows_kept(&self) -> u64 {
        if self.keep_rows { self.chunks } else { 1 }
    }

    pub(super) fn cols_kept(&self) -> u64 {
        if self.keep_cols { self.chunks } else { 1 }
    }

    /// Byte offset of the packed columns.
    pub(super) fn cols_at(&self) -> u64 {
        self.rows_kept() * self.rows_size * 4
    }

    /// Byte offset of the sums.
    pub(super) fn sums_at(&self) -> u64 {
        self.cols_at() + self.cols_kept() * self.cols_size * 4
    }

    /// Bytes of scratch memory for one thread, which must begin at a multiple of 64.
    pub(super) fn scratch_bytes(&self) -> u64 {
        let rows = if self.chunks == 1 { self.tile.rows } else { self.block[0] };
        self.sums_at() + rows * self.sum_stride * 4
    }

    /// How the micro-kernel finds its operands and sums.
    pub(super) fn strides(&self) -> Strides {
        Strides {
            row_layout: self.row_layout,
            rows: self.row_stride,
            cols: self.tile.cols(),
            sums: self.sum_stride,
        }
    }

    /// Columns of one packed sliver times the steps that it has room for.
    pub(super) fn sliver_size(&self) -> u64 {
        self.block[2].next_multiple_of(self.tile.lanes) * self.tile.cols()
    }

    /// Offset of the panel that begins with a row divided by the tile's rows.
    pub(super) fn panel_size(&self) -> u64 {
        match self.row_layout {
            RowLayout::ByRow => self.tile.rows * self.row_stride,
            RowLayout::ByStep => self.block[2].next_multiple_of(self.tile.lanes) * self.row_stride,
        }
    }
}

fn row_layout(contraction: &Contraction<'_>, tile: RegisterTile) -> RowLayout {
    if prefers_k(contraction, tile, true) { RowLayout::ByRow } else { RowLayout::ByStep }
}

/// Whether more loads of an operand are contiguous along k than along its own variable. Where
/// neither is, rows are gathered along k and columns along columns, which needs no transposition.
fn prefers_k(contraction: &Contraction<'_>, tile: RegisterTile, of_rows: bool) -> bool {
    let kernel: &Kernel = contraction.kernel;
    let (operand, own) = match of_rows {
        true => (contraction.lhs, contraction.rows),
        false => (contraction.rhs, contraction.cols),
    };
    let loads = contraction.loads(operand);
    let contiguous = |var| {
        let by_panel = of_rows && var == own;
        let align = contraction.start_align(var, if by_panel { tile.rows } else { tile.lanes });
        let along = |offset| classify(kernel, offset, var, align, tile.lanes) == Access::Contiguous;
        loads.iter().filter(|(_, offset)| along(offset)).count()
    };
    let (along_k, along_own) = (contiguous(contraction.k), contiguous(own));
    along_k > along_own || (of_rows && along_k == along_own)
}
