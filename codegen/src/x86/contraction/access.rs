//! How an offset runs along the lanes of a vector.

use gigac_ir::kernel::{Factor, Kernel, Offset, Term, VarId};

/// The lanes' elements in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::x86) enum Access {
    /// All the same one.
    Uniform,
    /// One after the other.
    Contiguous,
    /// Anything else.
    Scattered,
}

/// Classifies an offset along `var`, for vectors of `lanes` positions that start at multiples of
/// `align`. Digits of merged axes change only between vectors where sizes allow.
pub(in crate::x86) fn classify(
    kernel: &Kernel,
    offset: &Offset,
    var: VarId,
    align: u64,
    lanes: u64,
) -> Access {
    let each = offset.terms.iter().map(|term| classify_term(kernel, term, var, align, lanes));
    each.fold(Access::Uniform, |all, term| match (all, term) {
        (all, Access::Uniform) => all,
        (Access::Uniform, term) => term,
        _ => Access::Scattered,
    })
}

fn classify_term(kernel: &Kernel, term: &Term, along: VarId, align: u64, lanes: u64) -> Access {
    let aligned = align.is_multiple_of(lanes);
    match term.factor {
        Factor::Digit { var, divisor, modulus } if var == along => {
            let unit = divisor == 1 && term.coefficient == 1;
            let unbroken = modulus == 0 || (aligned && modulus.is_multiple_of(lanes));
            if unit && unbroken {
                Access::Contiguous
            } else if aligned && divisor.is_multiple_of(lanes) {
                Access::Uniform
            } else {
                Access::Scattered
            }
        }
        Factor::Tile(tile) if kernel.ty(tile).vars.contains(&along) => Access::Scattered,
        _ => Access::Uniform,
    }
}
