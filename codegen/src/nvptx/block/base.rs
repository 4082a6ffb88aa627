//! Carries the maxima of exponents in base two.
//!
//! A loop that carries `m = max(m, x)` and uses it in `exp(y − m)` alone carries `m·log₂e` instead, and turns it back
//! behind the loop. An exponent is then one multiply-add, what shrinks earlier sums is a difference and a power of
//! two, and nothing overflows: no finite maximum has to be told from −∞ again.

use std::collections::{HashMap, HashSet};
use std::f64::consts::{LN_2, LOG2_E};

use gigac_ir::kernel::{Carry, Expr, Kernel, Scalar, Stmt, TileId, TileType};
use gigac_ir::pointwise::Pointwise;

use super::program::count;

/// The kernel with such maxima in base two.
pub(super) fn in_base_two(kernel: &Kernel) -> Kernel {
    let mut base = Base {
        kernel: kernel.clone(),
        exprs: HashMap::new(),
        uses: HashMap::new(),
        maxima: HashMap::new(),
        differences: HashSet::new(),
    };
    count(&kernel.body, &mut base.uses);
    base.collect(&kernel.body);
    base.find(&kernel.body);
    let body = base.block(&kernel.body);
    Kernel { body, ..base.kernel }
}

struct Base {
    kernel: Kernel,
    exprs: HashMap<TileId, Expr>,
    /// How often values are read.
    uses: HashMap<TileId, usize>,
    /// What is carried in base two: by the next value, the argument and what it is compared with.
    maxima: HashMap<TileId, [TileId; 2]>,
    /// Exponents, `y − m`.
    differences: HashSet<TileId>,
}

impl Base {
    fn collect(&mut self, body: &[Stmt]) {
        for stmt in body {
            match stmt {
                Stmt::Let(value, expr) => {
                    self.exprs.insert(*value, expr.clone());
                }
                Stmt::Loop { body, .. } => self.collect(body),
                Stmt::When(_) | Stmt::Store { .. } => {}
            }
        }
    }

    fn find(&mut self, body: &[Stmt]) {
        for stmt in body {
            let Stmt::Loop { carried, body, .. } = stmt else { continue };
            for carry in carried {
                if let Some((operands, differences)) = self.maximum(carry) {
                    self.maxima.insert(carry.next, operands);
                    self.differences.extend(differences);
                }
            }
            self.find(body);
        }
    }

    /// The operands of a carried maximum, and the exponents that it is subtracted in, when these are all that
    /// it is for.
    fn maximum(&self, carry: &Carry) -> Option<([TileId; 2], Vec<TileId>)> {
        self.real(carry.init)?;
        let Expr::Pointwise(Pointwise::Max, x) = self.exprs.get(&carry.next)? else { return None };
        let other = match x[..] {
            [a, b] if a == carry.arg => b,
            [a, b] if b == carry.arg => a,
            _ => return None,
        };
        let subtracted = |(value, expr): (&TileId, &Expr)| match expr {
            Expr::Pointwise(Pointwise::Sub, x) if x[1] == carry.next => Some((*value, x[0])),
            _ => None,
        };
        let found: Vec<(TileId, TileId)> = self.exprs.iter().filter_map(subtracted).collect();
        let back = found.iter().filter(|(_, from)| *from == carry.arg).count();
        let used = |value| self.uses.get(&value).copied().unwrap_or(0);
        let only = used(carry.arg) == 1 + back
            && used(carry.next) == 1 + found.len()
            && found.iter().all(|(value, _)| self.is_exponent(*value));
        only.then(|| ([carry.arg, other], found.into_iter().map(|(value, _)| value).collect()))
    }

    /// Whether the one use of a value is `exp`.
    fn is_exponent(&self, value: TileId) -> bool {
        let of = |expr: &Expr| matches!(expr, Expr::Pointwise(Pointwise::Exp, x) if x[0] == value);
        self.uses.get(&value) == Some(&1) && self.exprs.values().any(of)
    }

    fn real(&self, value: TileId) -> Option<f64> {
        match self.exprs.get(&value) {
            Some(Expr::Real(x)) => Some(*x),
            _ => None,
        }
    }

    fn block(&mut self, body: &[Stmt]) -> Vec<Stmt> {
        let mut all = Vec::new();
        for stmt in body {
            match stmt {
                Stmt::Let(value, expr) => {
                    let expr = self.expr(*value, expr, &mut all);
                    all.push(Stmt::Let(*value, expr));
                }
                Stmt::Loop { var, carried, body } => {
                    let mut behind = Vec::new();
                    let carried = carried.iter().map(|c| self.carry(c, &mut all, &mut behind));
                    let carried = carried.collect();
                    let body = self.block(body);
                    all.push(Stmt::Loop { var: *var, carried, body });
                    all.extend(behind);
                }
                Stmt::When(_) | Stmt::Store { .. } => all.push(stmt.clone()),
            }
        }
        all
    }

    fn carry(&mut self, carry: &Carry, before: &mut Vec<Stmt>, behind: &mut Vec<Stmt>) -> Carry {
        let init = self.real(carry.init).filter(|_| self.maxima.contains_key(&carry.next));
        let Some(init) = init else { return carry.clone() };
        let init = (init * LOG2_E).max(f64::from(f32::MIN));
        let (init, result) = (self.constant(init, before), self.fresh(carry.result));
        let expr = self.times(result, LN_2, behind);
        behind.push(Stmt::Let(carry.result, expr));
        Carry { init, result, ..carry.clone() }
    }

    /// A definition, with what stands in front of it in `before`.
    fn expr(&mut self, value: TileId, expr: &Expr, before: &mut Vec<Stmt>) -> Expr {
        if let Some([arg, other]) = self.maxima.get(&value).copied() {
            let other = self.scaled(other, LOG2_E, before);
            return Expr::Pointwise(Pointwise::Max, vec![arg, other]);
        }
        match expr {
            Expr::Pointwise(Pointwise::Sub, x) if self.differences.contains(&value) => {
                let carried = self.maxima.get(&x[1]).is_some_and(|[arg, _]| *arg == x[0]);
                let from = if carried { x[0] } else { self.scaled(x[0], LOG2_E, before) };
                Expr::Pointwise(Pointwise::Sub, vec![from, x[1]])
            }
            Expr::Pointwise(Pointwise::Exp, x) if self.differences.contains(&x[0]) => {
                Expr::Pointwise(Pointwise::Exp, vec![self.scaled(x[0], LN_2, before)])
            }
            _ => expr.clone(),
        }
    }

    fn scaled(&mut self, value: TileId, by: f64, before: &mut Vec<Stmt>) -> TileId {
        let expr = self.times(value, by, before);
        let scaled = self.fresh(value);
        before.push(Stmt::Let(scaled, expr));
        scaled
    }

    /// A value times a constant; one that is another one times a constant is multiplied once.
    fn times(&mut self, value: TileId, by: f64, before: &mut Vec<Stmt>) -> Expr {
        let (of, by) = match self.exprs.get(&value) {
            Some(Expr::Pointwise(Pointwise::Mul, x)) => match self.real(x[1]) {
                Some(factor) => (x[0], factor * by),
                None => (value, by),
            },
            Some(Expr::Pointwise(Pointwise::Div, x)) => match self.real(x[1]) {
                Some(divisor) if divisor != 0.0 => (x[0], by / divisor),
                _ => (value, by),
            },
            _ => (value, by),
        };
        let by = self.constant(by, before);
        Expr::Pointwise(Pointwise::Mul, vec![of, by])
    }

    fn constant(&mut self, x: f64, before: &mut Vec<Stmt>) -> TileId {
        self.kernel.values.push(TileType { scalar: Scalar::F32, vars: Vec::new() });
        let value = TileId(self.kernel.values.len() as u32 - 1);
        before.push(Stmt::Let(value, Expr::Real(x)));
        value
    }

    /// A new value of the type of another one.
    fn fresh(&mut self, like: TileId) -> TileId {
        let ty = self.kernel.ty(like).clone();
        self.kernel.values.push(ty);
        TileId(self.kernel.values.len() as u32 - 1)
    }
}
