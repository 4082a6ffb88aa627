//! Offsets: sums of products of constants with digits of variables, scalars and int tiles.

use serde::{Deserialize, Serialize};

use super::{TileId, VarId};

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
}
