//! Kernels around a `dot`, or several that share an operand: blocked, packed, register-tiled matrix
//! products with prologue and epilogue.
//!
//! ```text
//! kernel(first..last)                         one call, any range of grid points
//!   point                                     a block of rows × columns of the result
//!     turn of the loop over k
//!       pack columns                          prologue applied; kept while the block is the same;
//!                                             plain ones by the first tiles (`source.rs`)
//!       panel of 12 rows (AVX2: 6)            packed, or read where they lie
//!         tile of 32 columns (AVX2: 16)       of each sum: in registers over all steps of the turn
//!           finish                            epilogue on the registers, after the last turn
//! ```
//! A thread keeps the columns it has packed from call to call of a launch: the header of its
//! scratch memory says which.
//!
//! Sums of one turn are added in ascending order by fused multiply-add from zero, then added to
//! those of the turns before: exactly what the kernel says, so results are the interpreter's bit
//! for bit, for any blocking of rows and columns and any split of the grid.
//!
//! Operands may lie in memory in any way: see `pack.rs`. Which kernels qualify: see `pattern.rs`; what
//! several sums share: `shared.rs`.

pub(super) mod access;
mod ahead;
pub(super) mod blocking;
mod driver;
pub(super) mod emit;
mod finish;
pub(super) mod lanewise;
pub(super) mod micro;
mod pack;
mod shared;
mod source;
mod tile;
pub(super) mod transpose;

use gigac_ir::kernel::Kernel;

use super::emit::Emitter;
use blocking::{Layout, RegisterTile};
use driver::Driver;
use emit::Emit;
use shared::Contraction;

/// Emits the function of a verified kernel that contains a `dot`; returns the bytes of scratch
/// memory that a thread needs.
///
/// # Errors
/// Why the kernel is not of the pattern of `pattern.rs`.
pub(super) fn lower(base: &Emitter<'_>, kernel: &Kernel) -> Result<u64, &'static str> {
    let contraction = Contraction::recognise(kernel)?;
    let layout = Layout::new(&contraction, RegisterTile::of(&base.target));
    let emit = Emit::new(base);
    let scratch = layout.scratch_bytes(contraction.sums.len());
    Driver { emit: &emit, contraction: &contraction, layout }.run();
    Ok(scratch)
}
