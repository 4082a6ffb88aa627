//! Tile sizes for matrix products on CPUs.
//!
//! One grid point computes a block of `rows × cols` of the result; one turn of its loop packs
//! `rows × depth` and `depth × cols` operands. What the sizes weigh:
//!
//! - **Packing.** Copying a block's columns costs about `2 / rows` of its multiply-adds, and
//!   copying its rows `2 / cols`; blocks of 256 make that about 1 %. Neighbouring points of the
//!   grid share packed rows, so rows may be cut finer than columns.
//! - **Caches.** Packed columns (`cols · depth`, at most 512 KiB) stay in the second-level cache
//!   while panels of rows pass by.
//! - **Balance.** Threads take grid points. Few points must be equal and even in number; many may
//!   be anything, the last one then costs little.

/// Rows, columns and depth of the blocks of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContractionTiles {
    /// Tile of the row variable.
    pub rows: u64,
    /// Tile of the column variable: the one along which the result is contiguous.
    pub cols: u64,
    /// Tile of the contracted variable.
    pub depth: u64,
}

/// Largest block: see the module's text.
const ROWS: u64 = 256;
const COLS: u64 = 256;
const DEPTH: u64 = 512;

/// Columns and contracted positions come in multiples of this: one AVX-512 register.
const LANES: u64 = 16;

/// Blocks are not cut below this many rows to give threads work: copying would cost too much.
const LEAST_ROWS: u64 = 32;

/// From this many grid points on it does not matter if they do not divide evenly among threads.
const MANY: u64 = 24;

/// Blocks for `batch` products of `rows × depth` by `depth × cols`.
pub fn contraction_tiles(batch: u64, rows: u64, cols: u64, depth: u64) -> ContractionTiles {
    let depth = equal_parts(depth, depth.div_ceil(DEPTH), LANES);
    let col_blocks = cols.div_ceil(COLS);
    let least = rows.div_ceil(ROWS);
    let most = (rows / LEAST_ROWS).max(least);
    let points = |blocks: u64| batch.saturating_mul(blocks).saturating_mul(col_blocks);
    let balanced = |blocks: &u64| points(*blocks) >= MANY || points(*blocks).is_multiple_of(4);
    let even = |blocks: &u64| points(*blocks).is_multiple_of(2);
    let row_blocks = (least..=most.min(4 * least))
        .find(balanced)
        .or_else(|| (least..=most).find(even))
        .unwrap_or(least);
    ContractionTiles {
        rows: equal_parts(rows, row_blocks, 1),
        cols: equal_parts(cols, col_blocks, LANES),
        depth,
    }
}

/// The size of `parts` nearly equal parts, in multiples of `unit` where there are several.
fn equal_parts(extent: u64, parts: u64, unit: u64) -> u64 {
    if parts <= 1 { extent.max(1) } else { extent.div_ceil(parts).next_multiple_of(unit) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Grid points, and multiply-adds of the fullest of so many threads over the mean, for
    /// threads that take equal ranges of points.
    fn balance(batch: u64, m: u64, n: u64, k: u64, threads: u64) -> (u64, f64) {
        let ContractionTiles { rows, cols, .. } = contraction_tiles(batch, m, n, k);
        let (across, down) = (n.div_ceil(cols), m.div_ceil(rows));
        let points = batch * across * down;
        let size = |point: u64| {
            let (row, col) = (point / across % down * rows, point % across * cols);
            (rows.min(m - row) * cols.min(n - col)) as f64
        };
        let share = |t: u64| (points * t / threads..points * (t + 1) / threads).map(size).sum();
        let fullest = (0..threads).map(share).fold(0.0, f64::max);
        (points, fullest * threads as f64 / (batch * m * n) as f64)
    }

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
            let (points, excess) = balance(batch, m, n, k, 2);
            assert!(points >= 2, "{batch} × {m} × {n} × {k}: {points} points");
            assert!(excess < 1.03, "{batch} × {m} × {n} × {k}: {points} points, {excess}");
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
