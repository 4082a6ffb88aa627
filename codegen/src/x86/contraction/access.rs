//! How an offset runs along the lanes of a vector.

use std::collections::BTreeSet;

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

/// Where the vectors along a variable start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::x86) enum Starts {
    /// At multiples of a number.
    Multiples(u64),
    /// Where no digit of a merged axis changes inside a vector: see [`boundaries`].
    Unbroken,
}

/// Classifies an offset along `var`, for vectors of `lanes` positions. Digits of merged axes change
/// only between vectors where their sizes and the starts allow.
pub(in crate::x86) fn classify(
    kernel: &Kernel,
    offset: &Offset,
    var: VarId,
    starts: Starts,
    lanes: u64,
) -> Access {
    let each = offset.terms.iter().map(|term| classify_term(kernel, term, var, starts, lanes));
    each.fold(Access::Uniform, |all, term| match (all, term) {
        (all, Access::Uniform) => all,
        (Access::Uniform, term) => term,
        _ => Access::Scattered,
    })
}

fn classify_term(kernel: &Kernel, term: &Term, along: VarId, starts: Starts, lanes: u64) -> Access {
    let fits = |run: u64| match starts {
        Starts::Multiples(align) => align.is_multiple_of(lanes) && run.is_multiple_of(lanes),
        Starts::Unbroken => true,
    };
    match term.factor {
        Factor::Digit { var, divisor, modulus } if var == along => {
            let unit = divisor == 1 && term.coefficient == 1;
            if unit && (modulus == 0 || fits(modulus)) {
                Access::Contiguous
            } else if divisor > 1 && fits(divisor) {
                Access::Uniform
            } else {
                Access::Scattered
            }
        }
        Factor::Tile(tile) if kernel.ty(tile).vars.contains(&along) => Access::Scattered,
        _ => Access::Uniform,
    }
}

/// Numbers at whose multiples a digit of `along` in an offset changes or wraps.
pub(super) fn boundaries<'o>(
    offsets: impl Iterator<Item = &'o Offset>,
    along: VarId,
) -> BTreeSet<u64> {
    let terms = offsets.flat_map(|offset| &offset.terms);
    let digits = terms.filter_map(|term| match term.factor {
        Factor::Digit { var, divisor, modulus } if var == along => {
            Some([divisor, divisor * modulus])
        }
        _ => None,
    });
    digits.flatten().filter(|boundary| *boundary > 1).collect()
}

/// Elements between neighbouring positions of `var` within a tile of it, if that is constant:
/// digits of merged axes must change only between tiles.
pub(super) fn slope(kernel: &Kernel, offset: &Offset, along: VarId) -> Option<i64> {
    let declared = kernel.var(along);
    let single = declared.tiles() == 1;
    // Positions of a tile start at a multiple of the tile, or at 0.
    let spans = |n: u64| {
        if single { n >= declared.extent } else { n.is_multiple_of(declared.tile) }
    };
    let mut sum = 0;
    for term in &offset.terms {
        match term.factor {
            Factor::Digit { var, divisor, modulus } if var == along => {
                if divisor == 1 && (modulus == 0 || spans(modulus)) {
                    sum += term.coefficient;
                } else if !spans(divisor) {
                    return None;
                }
            }
            Factor::Tile(tile) if kernel.ty(tile).vars.contains(&along) => return None,
            _ => {}
        }
    }
    Some(sum)
}
