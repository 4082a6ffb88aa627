//! Tile sizes on GPUs.
//!
//! A block of threads computes one tile of a product from a short list that the code generator
//! holds in registers. All blocks take the same time; the multiprocessors take them in waves, of
//! which the last one may be nearly empty. So the price of a tile is
//!
//! `waves · depth · (multiply-adds / rate + bytes of operands / 64)`
//!
//! in cycles of one multiprocessor. Edges cost what whole tiles cost. Where a kernel has several results, a block
//! computes a tile of each, all with as many rows and columns; together they are no larger than the largest tile.

use super::{AttentionKernel, AttentionTiles, ContractionTiles, Extents, RegionTiles};

/// Rows, columns and depth of tiles on tensor cores: up to 256 threads of 128 sums each. Of 256 rows
/// by 128 columns threads would not hold all addresses in registers.
const TENSOR: [[u64; 3]; 8] = [
    [128, 256, 32],
    [128, 128, 32],
    [128, 64, 32],
    [64, 128, 32],
    [64, 64, 32],
    [64, 32, 32],
    [32, 64, 32],
    [32, 32, 32],
];

/// The same without tensor cores: 256 threads of up to 32 sums each.
const FUSED: [[u64; 3]; 6] =
    [[128, 64, 32], [64, 128, 32], [64, 64, 32], [64, 32, 32], [32, 64, 32], [32, 32, 32]];

/// Multiply-adds of bf16 in a cycle of a multiprocessor (NVIDIA A100 whitepaper).
const TENSOR_RATE: f64 = 1024.0;

/// Multiply-adds of f32 in a cycle of a multiprocessor (same source).
const FUSED_RATE: f64 = 64.0;

/// Bytes that a multiprocessor gets from the second cache in a cycle (same source).
const BYTES: f64 = 64.0;

/// The cheapest tile for a product, or for each of several; of equals the first one of the list.
pub(super) fn products(product: &Extents, units: u64, bf16: bool) -> ContractionTiles {
    let (list, rate, bytes) =
        if bf16 { (&TENSOR[..], TENSOR_RATE, 2.0) } else { (&FUSED[..], FUSED_RATE, 4.0) };
    let (operands, sums) = (product.operands, product.products());
    let cycles = |tiles: &ContractionTiles| {
        let waves = tiles.points(product).div_ceil(units) as f64;
        let read = operands[0] * tiles.rows + operands[1] * tiles.cols;
        waves * ((sums * tiles.rows * tiles.cols) as f64 / rate + read as f64 * bytes / BYTES)
    };
    let most = list.iter().map(|[rows, cols, _]| rows * cols).max().unwrap_or(0);
    let held = |[rows, cols, _]: &&[u64; 3]| sums * rows * cols <= most;
    let tiles = list.iter().filter(held).map(|[rows, cols, depth]| ContractionTiles {
        rows: *rows,
        cols: *cols,
        depth: *depth,
    });
    tiles.min_by(|a, b| cycles(a).total_cmp(&cycles(b))).expect("a list of tiles")
}

/// Widest heads of attention.
pub(super) const WIDEST: u64 = 256;

/// Widest heads for which a thread holds the gradients of keys and of values.
pub(super) const BOTH: u64 = 128;

/// Heads of at most so many elements leave registers for 64 positions of a loop in all kernels.
const NARROW: u64 = 64;

/// Rows of a tile of attention: 8 warps of 16, or 4 of 32.
const ROWS: u64 = 128;

/// Rows of a tile whose panels would else not fit into shared memory.
const FEW_ROWS: u64 = 64;

/// Tiles of attention. What the grid has are rows, which warps share; what the loop has, columns of scores. A
/// thread holds the scores' columns beside those of the results, so wide heads leave room for few.
pub(super) fn attention(
    kernel: AttentionKernel,
    [queries, keys]: [u64; 2],
    width: u64,
) -> AttentionTiles {
    use AttentionKernel::{Backward, Forward, Keys, Queries};
    let rows = if width > BOTH { FEW_ROWS } else { ROWS };
    let cols = match kernel {
        Forward | Queries | Backward if width <= BOTH => 64,
        Keys if width <= NARROW => 64,
        _ => 32,
    };
    let [queries, keys] = match kernel {
        Forward | Queries | Backward => [part(queries, rows), part(keys, cols)],
        Keys => [part(queries, cols), part(keys, rows)],
    };
    AttentionTiles { queries, keys }
}

/// A tile, or all positions where they are fewer, in whole tiles of `mma`.
fn part(extent: u64, tile: u64) -> u64 {
    extent.next_multiple_of(16).min(tile)
}

/// A vector, or the short rows of a block, take 256 threads with an access of 128 bits each. A block
/// that reads alone needs several accesses of each thread on the way, and one that adds down columns
/// has few columns, at least a line of the cache of bf16. There are two blocks for each multiprocessor.
/// What a block keeps lies in shared memory.
pub(super) fn regions(units: u64) -> RegionTiles {
    RegionTiles {
        vector: 1024,
        alone: 2048,
        together: 1024,
        across: 2048,
        least: 128,
        least_across: 64,
        columns: 1024,
        points: 2 * units,
        local_bytes: 1 << 14,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A100: u64 = 108;

    fn chosen(rows: u64, cols: u64, depth: u64, bf16: bool) -> [u64; 3] {
        several([1, 1], rows, cols, depth, bf16)
    }

    fn several(operands: [u64; 2], rows: u64, cols: u64, depth: u64, bf16: bool) -> [u64; 3] {
        let tiles = products(&Extents { batch: 1, rows, cols, depth, operands }, A100, bf16);
        [tiles.rows, tiles.cols, tiles.depth]
    }

    #[test]
    fn large_products_take_large_tiles() {
        assert_eq!(chosen(16384, 16384, 4096, true), [128, 256, 32]);
        assert_eq!(chosen(16384, 16384, 4096, false), [128, 64, 32]);
    }

    #[test]
    fn small_products_are_spread_over_the_multiprocessors() {
        assert_eq!(chosen(64, 64, 4096, true), [32, 32, 32]);
        assert_eq!(chosen(256, 384, 64, false), [32, 32, 32]);
    }

    /// The table of `docs/ptx.md`.
    #[test]
    fn the_tile_follows_the_shape() {
        for (sides, tile) in [
            ([4096, 6656], [128, 256]),
            ([1152, 1536], [128, 128]),
            ([1024, 4096], [128, 64]),
            ([512, 4096], [64, 64]),
            ([256, 256], [32, 32]),
        ] {
            assert_eq!(chosen(sides[0], sides[1], 4096, true)[..2], tile, "{sides:?}");
        }
    }

    #[test]
    fn several_results_share_the_registers() {
        assert_eq!(several([1, 2], 16384, 16384, 4096, true), [128, 128, 32]);
        assert_eq!(several([2, 1], 16384, 16384, 4096, true), [128, 128, 32]);
        assert_eq!(several([1, 3], 16384, 16384, 4096, true), [128, 64, 32]);
        assert_eq!(several([1, 2], 16384, 16384, 4096, false), [64, 64, 32]);
        assert_eq!(several([1, 8], 16384, 16384, 4096, true), [64, 64, 32]);
    }

    #[test]
    fn a_nearly_empty_wave_is_avoided() {
        // 9 × 12 tiles of 128 × 256 are one wave; transposed they would be 5 × 24, two of them.
        assert_eq!(chosen(9 * 128, 12 * 256, 1024, true), [128, 256, 32]);
    }
}
