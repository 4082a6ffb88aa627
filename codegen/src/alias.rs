//! Leaves out reductions along variables whose tile is one position: their operand is the result.

use std::collections::BTreeMap;

use gigac_ir::kernel::{Carry, Expr, Factor, Kernel, Offset, Stmt, TileId};

/// The kernel without such reductions.
pub(crate) fn without_trivial_reductions(kernel: &Kernel) -> Kernel {
    let mut aliases = Aliases { kernel, same: BTreeMap::new() };
    let body = aliases.block(&kernel.body);
    Kernel { body, ..kernel.clone() }
}

struct Aliases<'k> {
    kernel: &'k Kernel,
    /// Values that are another one.
    same: BTreeMap<TileId, TileId>,
}

impl Aliases<'_> {
    fn value(&self, value: TileId) -> TileId {
        self.same.get(&value).copied().unwrap_or(value)
    }

    fn block(&mut self, body: &[Stmt]) -> Vec<Stmt> {
        body.iter().filter_map(|stmt| self.stmt(stmt)).collect()
    }

    fn stmt(&mut self, stmt: &Stmt) -> Option<Stmt> {
        Some(match stmt {
            Stmt::Let(value, Expr::Reduce(_, of, along)) if self.kernel.var(*along).tile == 1 => {
                self.same.insert(*value, self.value(*of));
                return None;
            }
            Stmt::Let(value, expr) => Stmt::Let(*value, self.expr(expr)),
            Stmt::When(mask) => Stmt::When(self.value(*mask)),
            Stmt::Store { buffer, offset, value, mask, accumulate } => Stmt::Store {
                buffer: *buffer,
                offset: self.offset(offset),
                value: self.value(*value),
                mask: mask.map(|m| self.value(m)),
                accumulate: *accumulate,
            },
            Stmt::Loop { var, carried, body } => {
                let body = self.block(body);
                let carry = |c: &Carry| Carry {
                    init: self.value(c.init),
                    next: self.value(c.next),
                    ..c.clone()
                };
                Stmt::Loop { var: *var, carried: carried.iter().map(carry).collect(), body }
            }
        })
    }

    fn expr(&self, expr: &Expr) -> Expr {
        let all = |values: &[TileId]| values.iter().map(|v| self.value(*v)).collect();
        match expr {
            Expr::Real(_) | Expr::Int(_) | Expr::Bool(_) => expr.clone(),
            Expr::Index(offset) => Expr::Index(self.offset(offset)),
            Expr::Load { buffer, offset, mask } => Expr::Load {
                buffer: *buffer,
                offset: self.offset(offset),
                mask: mask.map(|m| self.value(m)),
            },
            Expr::Pointwise(function, operands) => Expr::Pointwise(*function, all(operands)),
            Expr::Reduce(op, of, along) => Expr::Reduce(*op, self.value(*of), *along),
            Expr::Dot(a, b, along) => Expr::Dot(self.value(*a), self.value(*b), *along),
            Expr::Noise { key, counter } => Expr::Noise { key: *key, counter: all(counter) },
        }
    }

    fn offset(&self, offset: &Offset) -> Offset {
        let mut offset = offset.clone();
        for term in &mut offset.terms {
            if let Factor::Tile(tile) = &mut term.factor {
                *tile = self.value(*tile);
            }
        }
        offset
    }
}
