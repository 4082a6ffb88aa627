//! How many positions of each variable a grid point of loops over elements takes at a time.
//!
//! One variable is the *vector*, along which memory is contiguous. Where a machine shares a tile out to
//! many threads and the vector alone does not keep them busy, other variables join it: rows of the
//! grid where rows are short, positions of a sum where the sum runs across them.

use gigac_ir::kernel::RegionTiles;

/// Which variable is the vector.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Vector {
    /// None: everything is taken one by one.
    None,
    /// This one of the grid's.
    Row(usize),
    /// The last one of each phase's loops.
    Inner,
}

/// A number for each variable of a kernel.
pub(super) struct Sizes {
    /// Variables of the grid, slowest first.
    pub(super) rows: Vec<u64>,
    /// Variables of the loops of each phase, outermost first.
    pub(super) inner: Vec<Vec<u64>>,
}

/// Rows that do not exist are worked for in vain: at most one for so many that do.
const WASTE: u64 = 8;

impl Sizes {
    /// The tiles for variables of these extents.
    pub(super) fn tiles(&self, vector: Vector, tiles: &RegionTiles) -> Sizes {
        let ones = |extents: &Vec<u64>| vec![1; extents.len()];
        let (mut rows, mut inner) = (ones(&self.rows), self.inner.iter().map(ones).collect());
        match vector {
            Vector::None => {}
            Vector::Row(v) => {
                let others = self.points() / self.rows[v].max(1);
                let flat = self.inner.iter().all(Vec::is_empty);
                let least = if flat { tiles.least } else { tiles.least_across };
                rows[v] = row_tile(tiles, least, self.rows[v], others);
                inner = self.last(tiles.across / rows[v]);
            }
            Vector::Inner => {
                let alone = self.points() < tiles.points;
                inner = self.last(if alone { tiles.alone } else { tiles.vector });
                let lasts = inner.iter().filter_map(|tiles| tiles.last());
                let wanted = lasts.max().map_or(1, |tile| tiles.together / tile);
                rows = self.together(wanted.min(self.points() / tiles.points));
            }
        }
        Sizes { rows, inner }
    }

    fn points(&self) -> u64 {
        self.rows.iter().product()
    }

    /// Tiles of loops: at most so many positions of each innermost one, one of all others.
    fn last(&self, most: u64) -> Vec<Vec<u64>> {
        let of = |extents: &Vec<u64>| {
            let mut tiles = vec![1; extents.len()];
            if let (Some(tile), Some(extent)) = (tiles.last_mut(), extents.last()) {
                *tile = extent.next_power_of_two().min(most.max(1));
            }
            tiles
        };
        self.inner.iter().map(of).collect()
    }

    /// Tiles of the grid that together have at most so many rows, of the fastest variables first.
    fn together(&self, wanted: u64) -> Vec<u64> {
        let mut left = wanted;
        let tile = |extent: &u64| {
            let wasted = |tile: u64| extent.next_multiple_of(tile) - extent;
            let mut tile = 1;
            while 2 * tile <= left && wasted(2 * tile) * WASTE <= *extent {
                tile *= 2;
            }
            left /= tile;
            tile
        };
        let mut tiles: Vec<u64> = self.rows.iter().rev().map(tile).collect();
        tiles.reverse();
        tiles
    }
}

/// Tile of a vector variable of the grid: smaller where there would be few points.
fn row_tile(tiles: &RegionTiles, least: u64, extent: u64, others: u64) -> u64 {
    let mut tile = extent.next_power_of_two().min(tiles.vector);
    while tile > least && extent.div_ceil(tile) * others.max(1) < tiles.points {
        tile /= 2;
    }
    tile
}

#[cfg(test)]
mod tests {
    use gigac_ir::kernel::Machine;

    use super::*;

    const GPU: Machine = Machine::Gpu { units: 108 };

    fn tiles(machine: Machine, vector: Vector, rows: &[u64], inner: &[u64]) -> [Vec<u64>; 2] {
        let extents = Sizes { rows: rows.to_vec(), inner: vec![inner.to_vec()] };
        let Sizes { rows, mut inner } = extents.tiles(vector, &machine.regions());
        [rows, inner.remove(0)]
    }

    #[test]
    fn short_rows_share_a_block() {
        // Heads of 128 elements; of 52, eight at a time leave four of 56 without work.
        assert_eq!(tiles(GPU, Vector::Inner, &[4096, 52], &[128]), [vec![1, 8], vec![128]]);
        assert_eq!(tiles(GPU, Vector::Inner, &[4096, 52], &[64]), [vec![2, 8], vec![64]]);
        assert_eq!(tiles(GPU, Vector::Inner, &[4096, 5], &[64]), [vec![16, 1], vec![64]]);
        assert_eq!(tiles(Machine::Cpu, Vector::Inner, &[4096, 52], &[64]), [vec![1, 1], vec![64]]);
    }

    #[test]
    fn long_rows_and_few_rows_have_a_block_each() {
        assert_eq!(tiles(GPU, Vector::Inner, &[4096], &[6656]), [vec![1], vec![1024]]);
        assert_eq!(tiles(GPU, Vector::Inner, &[300], &[64]), [vec![1], vec![64]]);
    }

    #[test]
    fn one_block_reads_far_ahead() {
        assert_eq!(tiles(GPU, Vector::Inner, &[], &[42000]), [vec![], vec![2048]]);
    }

    #[test]
    fn sums_down_columns_take_many_positions_at_once() {
        assert_eq!(tiles(GPU, Vector::Row(0), &[6656], &[4096]), [vec![64], vec![32]]);
        assert_eq!(tiles(Machine::Cpu, Vector::Row(0), &[6656], &[4096]), [vec![64], vec![1]]);
    }
}
