//! Which neighbours along a variable one access can take: 128 bits where alignment allows.

use gigac_ir::kernel::{BufferId, Expr, Factor, Kernel, Offset, Stmt, Term, TileId, VarId};
use gigac_ir::pointwise::Pointwise;

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
    let (terms, units) = counts_in_runs(kernel, offset, var, length);
    terms
        && units == 1
        && whole(offset.constant, length)
        && declared.extent.is_multiple_of(length)
        && (declared.tile.is_multiple_of(length) || declared.tiles() == 1)
        && mask.is_none_or(|mask| is_steady(kernel, mask, var, length))
}

fn whole(number: i64, length: u64) -> bool {
    number.unsigned_abs().is_multiple_of(length)
}

/// Whether the terms of an offset are multiples of the length where a run begins, and how many count
/// its elements.
fn counts_in_runs(kernel: &Kernel, offset: &Offset, var: VarId, length: u64) -> (bool, usize) {
    let mut units = 0;
    let terms = offset.terms.iter().all(|Term { coefficient, factor }| match *factor {
        Factor::Digit { var: v, divisor: 1, modulus } if v == var && *coefficient == 1 => {
            units += 1;
            modulus.is_multiple_of(length)
        }
        Factor::Digit { var: v, divisor, .. } if v == var => {
            divisor.is_multiple_of(length) && whole(*coefficient, length)
        }
        Factor::Digit { .. } | Factor::Scalar(_) => whole(*coefficient, length),
        Factor::Tile(tile) => whole(*coefficient, length) && !varies(kernel, tile, var),
    });
    (terms, units)
}

fn varies(kernel: &Kernel, tile: TileId, var: VarId) -> bool {
    kernel.ty(tile).vars.contains(&var)
}

/// Whether a truth value is the same for all elements of a run: it does not vary along the variable, is
/// made of such values, or compares a position with a multiple of the run's length.
fn is_steady(kernel: &Kernel, mask: TileId, var: VarId, length: u64) -> bool {
    use Pointwise::{Ge, Gt, Le, Lt};
    if !varies(kernel, mask, var) {
        return true;
    }
    let Some(Expr::Pointwise(function, of)) = definition(&kernel.body, mask) else { return false };
    // A run lies on one side of `position < limit` when both are multiples of its length.
    let split = |position: TileId, limit: TileId, past: i64| {
        let (Some(Expr::Index(offset)), Some(Expr::Int(limit))) =
            (definition(&kernel.body, position), definition(&kernel.body, limit))
        else {
            return false;
        };
        let (terms, units) = counts_in_runs(kernel, offset, var, length);
        let limit = i64::from(*limit) + past;
        terms && units == 1 && whole(offset.constant, length) && whole(limit, length)
    };
    match (function, &of[..]) {
        (Lt | Ge, [a, b]) => split(*a, *b, 0) || split(*b, *a, 1),
        (Le | Gt, [a, b]) => split(*a, *b, 1) || split(*b, *a, 0),
        (Pointwise::And | Pointwise::Or | Pointwise::Not, of) => {
            of.iter().all(|tile| is_steady(kernel, *tile, var, length))
        }
        _ => false,
    }
}

/// What a value is computed by; none when a loop carries it.
fn definition(body: &[Stmt], value: TileId) -> Option<&Expr> {
    body.iter().find_map(|stmt| match stmt {
        Stmt::Let(tile, expr) => (*tile == value).then_some(expr),
        Stmt::Loop { body, .. } => definition(body, value),
        Stmt::When(_) | Stmt::Store { .. } => None,
    })
}
