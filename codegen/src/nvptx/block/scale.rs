//! Moves positive factors of scores behind masks and maxima.
//!
//! `where(mask, x·c, −∞)` is `where(mask, x, −∞)·c`, and `max(x·c)` is `max(x)·c`, both exactly, since
//! rounding is monotonic. The factor of a score then joins the exponent's in one multiply-add.

use std::collections::HashMap;

use gigac_ir::kernel::{Expr, Kernel, Reduction, Stmt, TileId};
use gigac_ir::pointwise::Pointwise;

/// The kernel with factors moved.
pub(super) fn moved(kernel: &Kernel) -> Kernel {
    let mut scale = Scale { kernel: kernel.clone(), scaled: HashMap::new(), reals: HashMap::new() };
    let body = scale.block(&kernel.body);
    Kernel { body, ..scale.kernel }
}

struct Scale {
    kernel: Kernel,
    /// Values that are another one, scaled: by which function and constant.
    scaled: HashMap<TileId, (Pointwise, TileId, TileId)>,
    reals: HashMap<TileId, f64>,
}

impl Scale {
    fn block(&mut self, body: &[Stmt]) -> Vec<Stmt> {
        let mut all = Vec::new();
        for stmt in body {
            match stmt {
                Stmt::Let(value, expr) => {
                    let (before, expr) = self.expr(*value, expr);
                    all.extend(before);
                    all.push(Stmt::Let(*value, expr));
                }
                Stmt::Loop { var, carried, body } => {
                    let (var, carried, body) = (*var, carried.clone(), self.block(body));
                    all.push(Stmt::Loop { var, carried, body });
                }
                Stmt::When(_) | Stmt::Store { .. } => all.push(stmt.clone()),
            }
        }
        all
    }

    /// A definition, and what stands in front of it.
    fn expr(&mut self, value: TileId, expr: &Expr) -> (Option<Stmt>, Expr) {
        let moved = match expr {
            Expr::Real(x) => {
                self.reals.insert(value, *x);
                None
            }
            Expr::Pointwise(function @ (Pointwise::Mul | Pointwise::Div), x) => {
                let by = self.reals.get(&x[1]).copied().unwrap_or(0.0);
                // A factor of 1 only brings variables of one position along.
                let same = (by == 1.0).then(|| self.scaled.get(&x[0]).copied()).flatten();
                if let Some(scaled) = same {
                    self.scaled.insert(value, scaled);
                } else if by > 0.0 && by.is_finite() {
                    self.scaled.insert(value, (*function, x[0], x[1]));
                }
                None
            }
            Expr::Pointwise(Pointwise::Where, x)
                if self.reals.get(&x[2]) == Some(&f64::NEG_INFINITY) =>
            {
                let scaled = self.scaled.get(&x[1]).copied();
                scaled.map(|(function, of, by)| {
                    let inner = Expr::Pointwise(Pointwise::Where, vec![x[0], of, x[2]]);
                    (function, self.fresh(value), inner, by)
                })
            }
            Expr::Reduce(Reduction::Max, of, var) => {
                let scaled = self.scaled.get(of).copied();
                scaled.map(|(function, of, by)| {
                    let inner = Expr::Reduce(Reduction::Max, of, *var);
                    (function, self.fresh(value), inner, by)
                })
            }
            _ => None,
        };
        let Some((function, inner, expr_of_inner, by)) = moved else { return (None, expr.clone()) };
        self.scaled.insert(value, (function, inner, by));
        let outer = Expr::Pointwise(function, vec![inner, by]);
        (Some(Stmt::Let(inner, expr_of_inner)), outer)
    }

    /// A new value of the type of another one.
    fn fresh(&mut self, like: TileId) -> TileId {
        let ty = self.kernel.ty(like).clone();
        self.kernel.values.push(ty);
        TileId(self.kernel.values.len() as u32 - 1)
    }
}
