//! Block programs: kernels with several products, and rows of softmax between them.
//!
//! ```text
//! kernel(first..last)
//!   point                                 one position of every grid variable
//!     statements, loops                   in the order of the program
//!       sweep                             pointwise chains, reductions, loads and stores over a tile
//!       dot                               the micro-kernel of contractions over panels of a tile
//! ```
//! A tile of two variables that a product makes or reads lies in scratch memory, row-major, one
//! variable along the **lanes**: its *home*. A product reads its left operand in either order and
//! its right operand with its own variable along the lanes; where a tile lies the other way, a
//! transposed *twin* is made. Which way tiles lie is chosen for the whole kernel (`shape`): so
//! that rows of a softmax are reduced lane by lane, and little is transposed.
//!
//! Everything else is computed where it is used. The statements of a program become *steps*
//! (`plan`): values with a home are filled by **sweeps**, and what can be done in one sweep over a
//! tile is done in one. Tiles die after their last reader, and the next one takes their home, in
//! place where that reader makes it. Operands that come from memory alone stay packed between
//! grid points, calls of a launch and turns that read them again. Of a turn that a mask cuts, only blocks in which the
//! mask holds somewhere are computed (`live`).
//!
//! Sums of a product are added in ascending order by fused multiply-add from zero, then to what a
//! carried tile holds; sums of rows in ascending order along rows, and along lanes in sixteen
//! chains that are added as a tree. So results depend neither on the width of vectors nor on how
//! the grid is shared.
//!
//! What qualifies: values vary along at most two variables with a tile above 1; each product has
//! two operands that do; nothing is loaded from a buffer that is stored to.

mod dot;
mod driver;
mod home;
mod interval;
mod live;
mod plan;
mod program;
mod shape;
mod sweep;

use gigac_ir::kernel::Kernel;

use super::contraction::blocking::RegisterTile;
use super::contraction::emit::Emit;
use super::emit::Emitter;
use crate::alias::without_trivial_reductions;
use driver::Driver;

/// Why a kernel is no block program.
type Reason = &'static str;

/// Emits the function of a verified kernel; returns the bytes of scratch memory of a thread.
///
/// # Errors
/// Why the kernel does not qualify.
pub(super) fn lower(base: &Emitter<'_>, kernel: &Kernel) -> Result<u64, Reason> {
    let tile = RegisterTile::of(&base.target);
    let kernel = without_trivial_reductions(kernel);
    let plan = plan::plan(&kernel, tile.lanes)?;
    let emit = Emit::new(base);
    Ok(Driver::new(&emit, &plan, tile).run())
}
