//! Whether the turns in which a mask may hold follow one another.
//!
//! Ints grow or shrink along a variable, or it is not known. A comparison of two that together go one way
//! holds from some turn on, or up to one; masks that must all hold then leave one run of turns.

use gigac_ir::kernel::{Expr, Factor, Offset, TileId, VarId};
use gigac_ir::pointwise::Pointwise;

use super::super::lower::Lowerer;

/// How an int changes along a variable.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Slope {
    Flat,
    Up,
    Down,
}

impl Slope {
    fn turned(self) -> Self {
        match self {
            Self::Flat => Self::Flat,
            Self::Up => Self::Down,
            Self::Down => Self::Up,
        }
    }

    /// Of two together; none where they go different ways.
    fn with(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Flat, x) | (x, Self::Flat) => Some(x),
            (a, b) => (a == b).then_some(a),
        }
    }
}

impl Lowerer<'_, '_> {
    /// Whether the turns along a variable in which [`Self::holds`] says that a truth value may hold are one run.
    pub(super) fn is_convex(&self, value: TileId, var: VarId) -> bool {
        let Some(Expr::Pointwise(function, x)) = self.lazy.get(&value) else { return true };
        let one_way = |x: &[TileId]| {
            let slopes = x.iter().map(|v| self.slope(*v, var)).collect::<Option<Vec<_>>>();
            slopes.is_some_and(|s| s[0].with(s[1].turned()).is_some())
        };
        match function {
            Pointwise::And => x.iter().all(|v| self.is_convex(*v, var)),
            Pointwise::Lt | Pointwise::Le | Pointwise::Gt | Pointwise::Ge | Pointwise::Eq => {
                one_way(x)
            }
            Pointwise::Not => match self.lazy.get(&x[0]) {
                Some(Expr::Pointwise(
                    Pointwise::Lt | Pointwise::Le | Pointwise::Gt | Pointwise::Ge,
                    x,
                )) => one_way(x),
                _ => false,
            },
            Pointwise::Or | Pointwise::Ne => false,
            // Nothing is known of the others, so they may hold in all turns.
            _ => true,
        }
    }

    fn slope(&self, value: TileId, var: VarId) -> Option<Slope> {
        // What is no function of positions is no interval either: it may be anything in any turn.
        let Some(expr) = self.lazy.get(&value) else { return Some(Slope::Flat) };
        match expr {
            Expr::Index(offset) => self.slope_of_sum(offset, var),
            Expr::Pointwise(Pointwise::Neg, x) => Some(self.slope(x[0], var)?.turned()),
            Expr::Pointwise(Pointwise::Sub, x) => {
                self.slope(x[0], var)?.with(self.slope(x[1], var)?.turned())
            }
            Expr::Pointwise(
                Pointwise::Stop | Pointwise::Add | Pointwise::Min | Pointwise::Max,
                x,
            ) => x.iter().try_fold(Slope::Flat, |sum, v| sum.with(self.slope(*v, var)?)),
            _ => Some(Slope::Flat),
        }
    }

    fn slope_of_sum(&self, offset: &Offset, var: VarId) -> Option<Slope> {
        offset.terms.iter().try_fold(Slope::Flat, |sum, term| {
            let factor = match term.factor {
                Factor::Digit { var: v, modulus: 0, .. } if v == var => Slope::Up,
                Factor::Digit { .. } | Factor::Scalar(_) => Slope::Flat,
                Factor::Tile(tile) => self.slope(tile, var)?,
            };
            sum.with(if term.coefficient < 0 { factor.turned() } else { factor })
        })
    }
}
