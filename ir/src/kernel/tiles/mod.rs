//! Tile sizes: what a kernel's grid points take at a time, for each kind of machine.

mod cpu;
mod gpu;

pub use cpu::{KEPT_COLUMNS, contraction_tiles};

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

/// Sizes of a product, or of several that share an operand.
struct Extents {
    batch: u64,
    rows: u64,
    cols: u64,
    depth: u64,
    /// Different operands of rows and of columns: one of the two is 1.
    operands: [u64; 2],
}

impl Extents {
    /// Products.
    fn products(&self) -> u64 {
        self.operands[0].max(self.operands[1])
    }
}

impl ContractionTiles {
    /// Blocks of a product's result.
    fn points(&self, product: &Extents) -> u64 {
        let blocks = [product.rows.div_ceil(self.rows), product.cols.div_ceil(self.cols)];
        blocks.into_iter().fold(product.batch, u64::saturating_mul)
    }
}

/// Queries and keys of the tiles of attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionTiles {
    /// Tile of the queries.
    pub queries: u64,
    /// Tile of the keys.
    pub keys: u64,
}

/// Tiles of kernels without products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionTiles {
    /// Most elements of the vector variable's tile ...
    pub vector: u64,
    /// ... when it runs inside of few grid points.
    pub alone: u64,
    /// Rows that are shorter than this are taken together, up to so many elements.
    pub together: u64,
    /// A sum down columns takes positions of the sum together, up to so many elements.
    pub across: u64,
    /// A vector of the grid is not cut finer than this to have more grid points.
    pub least: u64,
    /// Nor are columns that are summed down ...
    pub least_across: u64,
    /// ... and those of a scatter.
    pub columns: u64,
    /// Fewest grid points wanted: fewer rows are not taken together, and the vector of a grid is cut.
    pub points: u64,
    /// Most bytes of a value that a grid point keeps to itself between its loops. Larger ones go
    /// through the arena.
    pub local_bytes: u64,
}

/// What a kernel of attention has in its grid and what in its loops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttentionKernel {
    /// Forward: queries in the grid, a loop over keys.
    Forward,
    /// Backward in one kernel: a loop over keys around one over queries.
    Backward,
    /// The gradient of queries: queries in the grid, a loop over keys.
    Queries,
    /// The gradients of keys or values or both: keys in the grid, a loop over queries.
    Keys,
}

/// The kind of machine that kernels are formed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    /// Threads with vector registers and caches.
    Cpu,
    /// Blocks of threads on so many multiprocessors.
    Gpu {
        /// Multiprocessors.
        units: u64,
    },
}

impl Machine {
    /// Tiles for a sum of `batch` products of `rows × depth` by `depth × cols`, for each of its
    /// depths. `operands` are the numbers of operands with its rows and with its columns: `[1, 1]` for one sum, `[1, 2]`
    /// for two that share what has the rows. `bf16` says whether all operands have at most the digits of bf16.
    pub fn products(
        self,
        batch: u64,
        [rows, cols]: [u64; 2],
        operands: [u64; 2],
        depths: &[u64],
        bf16: bool,
    ) -> Vec<ContractionTiles> {
        let of = |depth: &u64| {
            let product = Extents { batch, rows, cols, depth: *depth, operands };
            match self {
                Self::Cpu => cpu::tiles(&product),
                Self::Gpu { units } => gpu::products(&product, units, bf16),
            }
        };
        depths.iter().map(of).collect()
    }

    /// Whether products that share an operand are computed together with no more effort beside the
    /// multiply-adds than one by one, as far as blocks tell. `on_the_way` says whether the operand of
    /// columns lies in the order in which it is multiplied.
    pub fn gathers(
        self,
        batch: u64,
        [rows, cols]: [u64; 2],
        operands: [u64; 2],
        depth: u64,
        on_the_way: bool,
    ) -> bool {
        match self {
            Self::Cpu => {
                let of = |operands| {
                    let product = Extents { batch, rows, cols, depth, operands };
                    cpu::overhead(&product, on_the_way)
                };
                of(operands) <= of([1, 1])
            }
            // Rates and waves say it all.
            Self::Gpu { .. } => true,
        }
    }

    /// Tiles of attention over so many queries and keys, with heads of at most `width` elements.
    pub fn attention(
        self,
        kernel: AttentionKernel,
        [queries, keys]: [u64; 2],
        width: u64,
    ) -> AttentionTiles {
        match self {
            Self::Cpu => cpu::attention(kernel, [queries, keys]),
            Self::Gpu { .. } => gpu::attention(kernel, [queries, keys], width),
        }
    }

    /// Whether the backward pass of attention over heads of at most `width` elements computes the gradients of
    /// keys and of values in kernels of their own.
    pub fn splits_keys(self, width: u64) -> bool {
        matches!(self, Self::Gpu { .. }) && width > gpu::BOTH
    }

    /// Whether kernels compute attention over heads of at most `width` elements; `bf16` says whether all that
    /// is multiplied has at most its digits.
    pub fn has_attention(self, width: u64, bf16: bool) -> bool {
        match self {
            Self::Cpu => true,
            Self::Gpu { .. } => bf16 && width <= gpu::WIDEST,
        }
    }

    /// Tiles of kernels without products.
    pub fn regions(self) -> RegionTiles {
        match self {
            Self::Cpu => cpu::REGIONS,
            Self::Gpu { units } => gpu::regions(units),
        }
    }
}
