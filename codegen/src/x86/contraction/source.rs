//! Packing on the way: columns that the first tiles read where they lie, leaving a packed copy.
//!
//! A plain operand that is contiguous along columns has the order of the packed copy already; only
//! the distance of its steps differs. So nothing is packed beforehand: the tiles of a block's first
//! panel read their columns at the source and store them for the panels after it. Multiply-adds
//! leave the ports for loads and stores half idle, so the copy costs next to nothing.
//!
//! Rows are packed beforehand all the same: a panel has less than a line of each step, so that its
//! tiles would wait for as many lines as they have multiply-adds to hide them.

use gigac_ir::kernel::{BufferId, Expr, Offset, Storage};
use inkwell::values::PointerValue;

use super::driver::Driver;

/// Steps between what is fetched and what is read.
pub(super) const AHEAD: u64 = 16;

/// Columns that tiles may read where they lie.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'k> {
    pub(super) load: (BufferId, &'k Offset),
    /// Bytes from one step to the next.
    pub(super) stride: u64,
}

impl<'k> Driver<'_, '_, '_, 'k> {
    /// The source of a product's columns, if full tiles read it themselves: a plain load of f32
    /// that is contiguous along columns, and no tiles but full ones across a block. Columns that
    /// several products share are copied by the first one.
    pub(super) fn col_source(&self, product: usize) -> Option<Source<'k>> {
        let (con, (terms, layout)) = (self.contraction, self.product(product));
        if con.first_with_cols(product) != product {
            return None;
        }
        let Expr::Load { buffer, offset, mask: None } = con.expr(terms.rhs) else { return None };
        let load = (*buffer, offset);
        let storage = con.kernel.buffers[buffer.0 as usize].storage;
        let contiguous = self.bytes_apart(load, con.cols)? == storage.bytes();
        let stride = self.bytes_apart(load, terms.k)?;
        let plain = storage == Storage::F32 && contiguous && !layout.transposed_cols;
        (plain && self.edge_vectors().is_empty()).then_some(Source { load, stride })
    }
}

/// The source of columns within a tile's function.
pub(super) struct Reading<'c> {
    /// The first step's first element.
    pub(super) from: PointerValue<'c>,
    /// Bytes from one step to the next.
    pub(super) stride: u64,
}
