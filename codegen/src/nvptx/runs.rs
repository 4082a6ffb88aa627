//! Which neighbours along a variable one access can take: 128 bits where alignment allows.

use gigac_ir::kernel::{BufferId, Factor, Kernel, Offset, Term, TileId, VarId};

/// Bytes of the widest access.
pub(super) const WIDEST: u64 = 16;

/// The alignment of a buffer's address in bytes, up to [`WIDEST`]: the largest power of two that
/// divides its size, since a buffer may be one slice of a stack.
pub(super) fn alignment(kernel: &Kernel, buffer: BufferId) -> u64 {
    let buffer = &kernel.buffers[buffer.0 as usize];
    let bytes = buffer.elements * buffer.storage.bytes();
    (1 << bytes.trailing_zeros()).min(WIDEST)
}

/// The longest run of neighbours along a variable, a power of two, such that every run that
/// begins at a multiple of it lies side by side in memory, is aligned as a whole, and is inside or
/// outside of the extent as a whole. `mask` says which lanes take part.
pub(super) fn longest(
    kernel: &Kernel,
    buffer: BufferId,
    offset: &Offset,
    mask: Option<TileId>,
    var: VarId,
) -> u64 {
    let bytes = kernel.buffers[buffer.0 as usize].storage.bytes();
    let mut length = alignment(kernel, buffer) / bytes.min(alignment(kernel, buffer));
    while length > 1 && !fits(kernel, offset, mask, var, length) {
        length /= 2;
    }
    length
}

fn fits(kernel: &Kernel, offset: &Offset, mask: Option<TileId>, var: VarId, length: u64) -> bool {
    let declared = kernel.var(var);
    let varies = |tile: TileId| kernel.ty(tile).vars.contains(&var);
    let whole = |coefficient: i64| coefficient.unsigned_abs().is_multiple_of(length);
    let mut units = 0;
    let terms = offset.terms.iter().all(|Term { coefficient, factor }| match *factor {
        Factor::Digit { var: v, divisor: 1, modulus } if v == var && *coefficient == 1 => {
            units += 1;
            modulus.is_multiple_of(length)
        }
        Factor::Digit { var: v, divisor, .. } if v == var => {
            divisor.is_multiple_of(length) && whole(*coefficient)
        }
        Factor::Digit { .. } | Factor::Scalar(_) => whole(*coefficient),
        Factor::Tile(tile) => whole(*coefficient) && !varies(tile),
    });
    terms
        && units == 1
        && whole(offset.constant)
        && declared.extent.is_multiple_of(length)
        && (declared.tile.is_multiple_of(length) || declared.tiles() == 1)
        && mask.is_none_or(|mask| !varies(mask))
}
