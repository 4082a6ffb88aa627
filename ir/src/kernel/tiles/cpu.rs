//! Tile sizes on CPUs.
//!
//! One grid point computes a block of `rows × cols` of the result. Its columns are packed once per
//! thread, since grid points with the same columns follow one another; its rows pass by in panels,
//! read in place or packed one by one. What the sizes weigh, all relative to the multiply-adds:
//!
//! - **Packing.** Fetching and copying the rows costs `16 / cols`. Copying the columns costs
//!   `3 / rows of all points`, or `4 / rows` where they are too many to be kept for the next point.
//! - **Caches.** The packed columns of one turn (`cols · depth`, at most 512 KiB) stay in the
//!   second-level cache while rows pass by. So should, in 2 MiB, the columns that are kept for the
//!   next point, the sums that wait for the next turn, and the rows of a turn.
//! - **Edges.** A remainder of fewer rows than hide the latency of an addition, and columns that
//!   fill no register, are worked for in vain.
//! - **Balance.** Threads take ranges of grid points; few points must share out evenly, first of all
//!   between two threads, and many points even out what disturbs a thread.
//!
//! Several products that share an operand share its packing; the other operands, and the sums, are
//! held for each of them.

use super::{AttentionKernel, AttentionTiles, ContractionTiles, Extents, RegionTiles};

/// Largest block: see the module's text.
const ROWS: u64 = 384;
const COLS: u64 = 512;
const DEPTH: u64 = 256;

/// Products of at most this many multiply-adds are summed in blocks of about the square root of
/// their depth: it halves the rounding error of one long chain, and their speed hardly matters.
const SMALL: u64 = 1 << 22;

/// Contracted positions come in multiples of this: one AVX-512 register.
const LANES: u64 = 16;

/// Columns come in multiples of this: the register tile of AVX-512, and two of AVX2.
const WIDTH: u64 = 32;

/// Rows of a register tile with AVX-512; with AVX2 it is half as many.
const HEIGHT: u64 = 12;

/// A register tile of fewer rows takes as long as one of so many.
const LEAST_HEIGHT: u64 = 4;

/// Blocks are not cut finer than this to give threads work.
const LEAST: u64 = 32;

/// More ways to cut a side than this are not tried.
const CHOICES: u64 = 16;

/// From this many grid points on it does not matter whether threads share them evenly.
const MANY: u64 = 64;

/// Code generators keep a thread's packed columns for its next grid point up to so many bytes:
/// more would come from as far away as the source.
pub const KEPT_COLUMNS: u64 = 3 << 19;

/// What a grid point holds in the second-level cache slows it down from so many bytes on: the rest
/// is for what comes and goes.
const HELD: u64 = 3 << 19;

/// Four AVX-512 registers of floats hide the latency of additions; a grid point keeps half of the
/// second cache of a small core.
pub(super) const REGIONS: RegionTiles = RegionTiles {
    vector: 64,
    alone: 64,
    together: 1,
    across: 1,
    least: 16,
    least_across: 16,
    columns: 16,
    points: 8,
    local_bytes: 1 << 18,
};

/// Blocks for `batch` products of `rows × depth` by `depth × cols`.
pub fn contraction_tiles(batch: u64, rows: u64, cols: u64, depth: u64) -> ContractionTiles {
    tiles(&Extents { batch, rows, cols, depth, operands: [1, 1] })
}

/// The same for each of several products that share an operand.
pub(super) fn tiles(product: &Extents) -> ContractionTiles {
    let Extents { batch, rows, cols, depth, .. } = *product;
    let work = [rows, cols, depth].into_iter().fold(batch, u64::saturating_mul);
    let chain = if work <= SMALL { depth.isqrt().next_multiple_of(LANES) } else { DEPTH };
    let depth = equal_parts(depth, depth.div_ceil(chain), LANES);
    let cuts = |extent: u64, largest: u64| {
        let fewest = extent.div_ceil(largest).max(1);
        fewest..=(extent / LEAST).clamp(fewest, fewest + CHOICES)
    };
    let tiles = cuts(rows, ROWS).flat_map(|down| {
        let rows = equal_parts(rows, down, 1);
        cuts(cols, COLS).map(move |across| {
            let cols = equal_parts(cols, across, WIDTH);
            ContractionTiles { rows, cols, depth }
        })
    });
    let cheapest = tiles.min_by(|a, b| a.cost(product).total_cmp(&b.cost(product)));
    cheapest.expect("there is one way to cut a side at least")
}

/// What the best blocks cost beyond the multiply-adds, relative to these. Columns that the first
/// tiles copy on their way cost nothing to pack.
pub(super) fn overhead(product: &Extents, on_the_way: bool) -> f64 {
    let tiles = tiles(product);
    let [_, cols] = tiles.copies(product);
    tiles.cost(product) - if on_the_way { cols } else { 0.0 }
}

impl ContractionTiles {
    /// What the blocks cost beyond the multiply-adds, relative to these.
    fn cost(&self, product: &Extents) -> f64 {
        let points = self.points(product);
        let [rows, cols] = self.copies(product);
        rows + cols
            + self.edges()
            + self.crowding(product)
            + self.excess(product, 2)
            + self.excess(product, 4) / 64.0
            + 0.04 / points as f64
    }

    /// Packing of rows and of columns, and what comes from beyond the second-level cache.
    fn copies(&self, product: &Extents) -> [f64; 2] {
        let (rows, all) = (self.rows as f64, product.rows as f64);
        let [of_rows, of_cols] = product.operands;
        let bytes = self.cols.saturating_mul(product.depth).saturating_mul(4 * of_cols);
        // Two threads pack the columns each for itself, if both come to work on them.
        let packers = product.rows.div_ceil(self.rows).min(2) as f64;
        let cols = if bytes <= KEPT_COLUMNS { 3.0 * packers / all } else { 4.0 / rows };
        let each = product.products() as f64;
        [16.0 / self.cols as f64 * of_rows as f64 / each, cols * of_cols as f64 / each]
    }

    /// What leaves the second-level cache because packed columns, sums between turns and rows of a
    /// turn do not fit in it together.
    fn crowding(&self, product: &Extents) -> f64 {
        let floats = |a: u64, b: u64| a.saturating_mul(b).saturating_mul(4);
        let [of_rows, of_cols] = product.operands;
        let all = floats(self.cols, product.depth).saturating_mul(of_cols);
        let turn = floats(self.cols, self.depth) * of_cols;
        let cols = if all <= KEPT_COLUMNS { all } else { turn };
        let sums = if product.depth > self.depth { floats(self.rows, self.cols) } else { 0 };
        let held = cols + sums * product.products() + floats(self.rows, self.depth) * of_rows;
        0.15 * held.saturating_sub(HELD) as f64 / f64::from(1 << 20)
    }

    /// Work on rows and columns that do not exist, and the detour of edges through memory.
    fn edges(&self) -> f64 {
        let height = self.rows % HEIGHT;
        let rows = match height {
            0 => 0,
            h => 1 + LEAST_HEIGHT.saturating_sub(h),
        };
        let cols = self.cols.next_multiple_of(LANES) - self.cols;
        rows as f64 / self.rows as f64 + cols as f64 / self.cols as f64
    }

    /// Work of the fullest of so many threads over the mean, less one, when they take equal ranges
    /// of grid points.
    fn excess(&self, product: &Extents, threads: u64) -> f64 {
        let Extents { batch, rows, cols, .. } = *product;
        let (down, points) = (rows.div_ceil(self.rows), self.points(product));
        if points > MANY {
            return 0.0;
        }
        let size = |point: u64| {
            let across = cols.div_ceil(self.cols);
            let (row, col) = (point % down * self.rows, point / down % across * self.cols);
            (self.rows.min(rows - row) * self.cols.min(cols - col)) as f64
        };
        let share = |t: u64| (points * t / threads..points * (t + 1) / threads).map(size).sum();
        let fullest = (0..threads).map(share).fold(0.0, f64::max);
        fullest * threads as f64 / (batch * rows * cols) as f64 - 1.0
    }
}

/// The size of `parts` nearly equal parts, in multiples of `unit` where there are several.
fn equal_parts(extent: u64, parts: u64, unit: u64) -> u64 {
    if parts <= 1 { extent.max(1) } else { extent.div_ceil(parts).next_multiple_of(unit) }
}

/// Queries of a tile forward, where a row of the output is divided and scaled for each tile of keys.
const FORWARD_QUERIES: u64 = 64;

/// Other tiles of attention. Larger ones spread what is done once for a pair of tiles over more
/// products, until scores no longer stay in the second-level cache; blocks that a mask leaves out
/// cost nothing in them.
const POSITIONS: u64 = 128;

/// Tiles of attention.
pub(super) fn attention(kernel: AttentionKernel, [queries, keys]: [u64; 2]) -> AttentionTiles {
    let most = if kernel == AttentionKernel::Forward { FORWARD_QUERIES } else { POSITIONS };
    AttentionTiles { queries: part(queries, most), keys: part(keys, POSITIONS) }
}

/// Equal parts of at most so many positions, in whole vectors.
fn part(extent: u64, most: u64) -> u64 {
    equal_parts(extent, extent.div_ceil(most), LANES).next_multiple_of(LANES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_threads_are_balanced() {
        for (batch, m, n, k) in [
            (1, 2048, 256, 256),
            (1, 2048, 688, 256),
            (1, 2048, 256, 688),
            (1, 2048, 4096, 256),
            (1, 2048, 42000, 256),
            (1, 256, 256, 2048),
            (1, 42000, 256, 2048),
            (1, 688, 256, 2048),
            (32, 256, 256, 64),
            (4, 2048, 2048, 64),
            (1, 256, 2304, 768),
            (1, 256, 3072, 768),
            (1, 256, 50257, 768),
            (1, 64, 176, 64),
        ] {
            let tiles = contraction_tiles(batch, m, n, k);
            let excess =
                tiles.excess(&Extents { batch, rows: m, cols: n, depth: k, operands: [1, 1] }, 2);
            assert!(excess < 0.07, "{batch} × {m} × {n} × {k}: {tiles:?}, {excess}");
        }
    }

    #[test]
    fn sizes_are_within_limits_for_any_extent() {
        for m in [1, 2, 31, 255, 257, 5000, 1 << 40] {
            for n in [1, 15, 257, 1 << 40] {
                let tiles = contraction_tiles(1, m, n, n);
                assert!((1..=ROWS).contains(&tiles.rows));
                assert!((1..=COLS).contains(&tiles.cols));
                assert!((1..=DEPTH).contains(&tiles.depth));
            }
        }
    }
}
