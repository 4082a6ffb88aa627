//! Sums of rows that loops carry, each thread with what it has added itself.
//!
//! A carried `sum·factor + Σ x` is linear in what the threads of a row add, and they all have the same factor. So only
//! behind the loop do they exchange their parts, not in every turn.

use gigac_ir::kernel::{Carry, Expr, Reduction, TileId, VarId};
use gigac_ir::pointwise::Pointwise;

use super::super::lower::{Refusal, Tile};
use super::Block;
use super::program::Program;

/// What a carried sum becomes in a turn.
#[derive(Clone, Copy)]
pub(super) struct Partial {
    factor: Option<TileId>,
    of: TileId,
    along: VarId,
}

impl Program<'_> {
    /// The parts of a carried sum that begins with 0 and is for nothing else.
    pub(super) fn partial(&self, carry: &Carry) -> Option<Partial> {
        let once = |value: &TileId| self.uses.get(value) == Some(&1);
        let zero = matches!(self.exprs.get(&carry.init), Some(Expr::Real(x)) if *x == 0.0);
        let Expr::Pointwise(Pointwise::Add, x) = self.exprs.get(&carry.next)? else { return None };
        let parts = |kept: TileId, sum: TileId| {
            let Expr::Reduce(Reduction::Sum, of, along) = **self.exprs.get(&sum)? else {
                return None;
            };
            let factor = self.kept_part(carry.arg, kept)?;
            let alone = [carry.arg, carry.next, kept, sum].iter().all(once);
            (zero && alone).then_some(Partial { factor, of, along })
        };
        parts(x[0], x[1]).or_else(|| parts(x[1], x[0]))
    }

    /// The factor of an argument, if there is one.
    fn kept_part(&self, arg: TileId, kept: TileId) -> Option<Option<TileId>> {
        match self.exprs.get(&kept) {
            _ if kept == arg => Some(None),
            Some(Expr::Pointwise(Pointwise::Mul, x)) if x[0] == arg => Some(Some(x[1])),
            Some(Expr::Pointwise(Pointwise::Mul, x)) if x[1] == arg => Some(Some(x[0])),
            _ => None,
        }
    }
}

impl<'c> Block<'_, '_, 'c> {
    /// A turn of a carried sum, in each thread.
    pub(super) fn add_partial(&mut self, carry: &Carry, part: Partial) -> Result<(), Refusal> {
        let gpu = self.lowerer.gpu;
        let shape = self.lowerer.shape(carry.next);
        let sums = self.lowerer.inside_threads(Reduction::Sum, part.of, part.along, &shape)?;
        let (before, own) = (self.lowerer.value(carry.arg)?, self.lowerer.shape(carry.arg));
        let factor = match part.factor {
            Some(factor) => Some((self.lowerer.value(factor)?, self.lowerer.shape(factor))),
            None => None,
        };
        let next = |(at, sum): (Vec<usize>, _)| {
            let before = before[own.index(&shape, &at)];
            let factor = match &factor {
                Some((tile, own)) => tile[own.index(&shape, &at)],
                None => gpu.real(1.0, 1),
            };
            gpu.intrinsic("llvm.fma", &[before, factor, sum])
        };
        let tile: Tile<'c> = shape.all().zip(sums).map(next).collect();
        self.lowerer.values[carry.next.0 as usize] = Some(tile);
        Ok(())
    }

    /// The sum, behind the loop, from the parts of all threads.
    pub(super) fn join_partial(&mut self, carry: &Carry, part: Partial) {
        let place = carry.result.0 as usize;
        let parts = self.lowerer.values[place].take().expect("the loop has given its results");
        let sums = self.lowerer.over_threads(Reduction::Sum, part.along, parts.to_vec());
        self.lowerer.values[place] = Some(sums.into());
    }
}
