//! Offsets: sums of products of constants with digits of variables, scalars and int tiles.

use serde::{Deserialize, Serialize};

use super::{Kernel, TileId, VarId};

/// What an offset term multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Factor {
    /// `(var / divisor) mod modulus`; modulus 0 means none. A digit of a variable that stands for
    /// several merged axes.
    Digit {
        /// The variable.
        var: VarId,
        /// Divisor, at least 1.
        divisor: u64,
        /// Modulus, or 0 for none.
        modulus: u64,
    },
    /// An int argument of the kernel.
    Scalar(u32),
    /// An int tile: makes the access a gather or scatter.
    Tile(TileId),
}

/// `coefficient · factor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Term {
    /// Elements per unit.
    pub coefficient: i64,
    /// The unit.
    pub factor: Factor,
}

/// `constant + Σ terms`, in elements, computed in 64 bits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Offset {
    /// Constant part.
    pub constant: i64,
    /// Terms; no two with the same factor, none with coefficient 0.
    pub terms: Vec<Term>,
}

impl Offset {
    /// The constant offset.
    pub fn constant(constant: i64) -> Self {
        Self { constant, terms: Vec::new() }
    }

    /// A whole variable.
    pub fn var(var: VarId) -> Self {
        Self::factor(Factor::Digit { var, divisor: 1, modulus: 0 })
    }

    /// One factor.
    pub fn factor(factor: Factor) -> Self {
        Self { constant: 0, terms: vec![Term { coefficient: 1, factor }] }
    }

    /// The sum of two offsets.
    #[must_use]
    pub fn plus(mut self, other: &Self) -> Self {
        self.constant += other.constant;
        for term in &other.terms {
            match self.terms.iter_mut().find(|t| t.factor == term.factor) {
                Some(t) => t.coefficient += term.coefficient,
                None => self.terms.push(*term),
            }
        }
        self.terms.retain(|t| t.coefficient != 0);
        self
    }

    /// The offset times a constant.
    #[must_use]
    pub fn times(mut self, by: i64) -> Self {
        self.constant *= by;
        self.terms.iter_mut().for_each(|t| t.coefficient *= by);
        self.terms.retain(|t| t.coefficient != 0);
        self
    }

    /// The tiles among the factors, in order.
    pub fn tiles(&self) -> Vec<TileId> {
        let tile = |term: &Term| match term.factor {
            Factor::Tile(tile) => Some(tile),
            Factor::Digit { .. } | Factor::Scalar(_) => None,
        };
        self.terms.iter().filter_map(tile).collect()
    }

    /// The variables among the factors, in order.
    pub fn vars(&self) -> Vec<VarId> {
        let var = |term: &Term| match term.factor {
            Factor::Digit { var, .. } => Some(var),
            Factor::Tile(_) | Factor::Scalar(_) => None,
        };
        self.terms.iter().filter_map(var).collect()
    }

    /// Smallest and largest value over the extents; none when scalars or tiles take part.
    pub fn range(&self, kernel: &Kernel) -> Option<(i128, i128)> {
        let mut range = (i128::from(self.constant), i128::from(self.constant));
        for Term { coefficient, factor } in &self.terms {
            let reach = i128::from(factor.positions(kernel)? - 1) * i128::from(*coefficient);
            if reach < 0 {
                range.0 += reach;
            } else {
                range.1 += reach;
            }
        }
        Some(range)
    }

    /// A variable of `vars` whose positions this offset does not tell apart, as far as sorting
    /// the strides can show: each stride must exceed the reach of all smaller ones. Scalars are
    /// uniform and do not matter; tiles are not understood and must not occur.
    pub fn collision(&self, kernel: &Kernel, vars: &[VarId]) -> Option<VarId> {
        let whole: Vec<_> = vars.iter().map(|var| (*var, kernel.var(*var).extent)).collect();
        self.meeting(kernel, &whole)
    }

    /// The same for so many neighbouring positions of each variable.
    pub(super) fn meeting(&self, kernel: &Kernel, vars: &[(VarId, u64)]) -> Option<VarId> {
        let mut strides = Vec::new();
        for (var, count) in vars {
            let digits = self.digits(*var);
            if !covers(&digits, *count) {
                return Some(*var);
            }
            strides.extend(digits.iter().filter_map(|(coefficient, factor)| {
                let positions = factor.positions(kernel)?;
                (positions > 1).then(|| (coefficient.unsigned_abs(), positions - 1, *var))
            }));
        }
        strides.sort_unstable();
        let mut reach = 0u128;
        for (stride, positions, var) in strides {
            if u128::from(stride) <= reach {
                return Some(var);
            }
            reach += u128::from(stride) * u128::from(positions);
        }
        None
    }

    /// The terms of one variable.
    fn digits(&self, of: VarId) -> Vec<(i64, Factor)> {
        let of_var = |t: &&Term| matches!(t.factor, Factor::Digit { var, .. } if var == of);
        self.terms.iter().filter(of_var).map(|t| (t.coefficient, t.factor)).collect()
    }
}

impl Factor {
    /// Number of values a digit takes; none for scalars and tiles.
    pub fn positions(&self, kernel: &Kernel) -> Option<u64> {
        let Self::Digit { var, divisor, modulus } = *self else { return None };
        let positions = kernel.var(var).extent.div_ceil(divisor.max(1)).max(1);
        Some(if modulus == 0 { positions } else { positions.min(modulus) })
    }
}

/// Whether digits of a variable tell so many neighbouring positions apart: sorted by divisor, each begins where the
/// one below ends, and together they span that many.
fn covers(digits: &[(i64, Factor)], count: u64) -> bool {
    let mut spans: Vec<(u64, u64)> = digits
        .iter()
        .filter_map(|(_, factor)| match *factor {
            Factor::Digit { divisor, modulus: 0, .. } => Some((divisor, u64::MAX)),
            Factor::Digit { divisor, modulus, .. } => {
                Some((divisor, divisor.saturating_mul(modulus)))
            }
            Factor::Scalar(_) | Factor::Tile(_) => None,
        })
        .collect();
    spans.sort_unstable();
    let known = spans.into_iter().fold(1, |known, (from, to)| {
        if from <= known && known.is_multiple_of(from) { known.max(to) } else { known }
    });
    known >= count
}
