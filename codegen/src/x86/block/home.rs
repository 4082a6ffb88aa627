//! Where tiles lie in scratch memory.

use gigac_ir::image::ALIGNMENT;
use gigac_ir::kernel::{Kernel, VarId};

/// Index of a home in the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct HomeId(pub(super) usize);

/// Which variables a tile has, and how they lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Lie {
    /// The slow variable of a tile of two.
    pub(super) rows: Option<VarId>,
    /// The variable along which elements are neighbours.
    pub(super) lanes: VarId,
}

impl Lie {
    /// The other way round.
    pub(super) fn turned(self) -> Self {
        let rows = self.rows.expect("only tiles of two variables are turned");
        Self { rows: Some(self.lanes), lanes: rows }
    }
}

/// Room for a tile, or for one of each tile of the variables `slots`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Home {
    pub(super) lie: Lie,
    /// Variables whose tiles have room of their own, slowest first.
    pub(super) slots: Vec<VarId>,
    /// Holds what other grid points and turns have packed.
    pub(super) packed: bool,
    /// First byte.
    pub(super) offset: u64,
}

/// Rows this many bytes apart fall on few lines of the first cache.
const ALIASING: u64 = 1024;

/// Elements of a line of the cache: rows and columns come in whole lines, whatever the width of
/// vectors.
pub(super) const LINE: u64 = 16;

/// Elements from row to row; one line more where rows would alias.
pub(super) fn stride(kernel: &Kernel, lie: Lie) -> u64 {
    let stride = size(kernel, lie.lanes).next_multiple_of(LINE);
    if lie.rows.is_some() && (stride * 4).is_multiple_of(ALIASING) { stride + LINE } else { stride }
}

/// Bytes of one tile. Its rows are whole vectors too, so that it can be turned in squares.
pub(super) fn bytes(kernel: &Kernel, lie: Lie) -> u64 {
    let rows = lie.rows.map_or(1, |rows| size(kernel, rows).next_multiple_of(LINE));
    (rows * stride(kernel, lie) * 4).next_multiple_of(ALIGNMENT)
}

/// Positions of a whole tile.
pub(super) fn size(kernel: &Kernel, var: VarId) -> u64 {
    let var = kernel.var(var);
    var.tile.min(var.extent)
}
