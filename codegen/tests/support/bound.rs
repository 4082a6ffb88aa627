//! What attention kernels compute in exact arithmetic, and how far from it their results may be.
//!
//! [`bounded`] turns a kernel into one that, interpreted in f64, gives the *exact* results, with no rounding in them, and
//! beside each result a bound of its error: a running error analysis (Higham, Accuracy and Stability of Numerical
//! Algorithms, §3.3). Every value `x` has an `e(x)` with `|computed − exact| ≤ e(x)`:
//!
//! | | e |
//! |---|---|
//! | loads, ints, truth values | 0 |
//! | constants | their distance from f32 |
//! | rounding to bf16, and storing as bf16 | `e + u₁₆·(|x| + e)`, `u₁₆ = 2⁻⁸`: half a step of 8 digits |
//! | `a + b` | `e(a) + e(b) + u·(|a + b| + e(a) + e(b))`, `u = 2⁻²³`: twice what rounding to nearest takes, for terms of second order and for tensor cores that cut off |
//! | `a − b` | `e(a) + e(b) + u·(|a| + |b|)`: both sides may be scaled first |
//! | `a·b` | `|a|·e(b) + e(a)·(|b| + e(b)) + u·(|a| + e(a))·(|b| + e(b))` |
//! | `a / b` | `(e(a) + |a/b|·e(b)) / (|b| − e(b)) + 3u·|a/b|` |
//! | `Σ a·b` over n positions | `Σ |a|·e(b) + Σ e(a)·(|b| + e(b)) + n·u·Σ (|a| + e(a))·(|b| + e(b))`; a sum that it is added to counts with its products |
//! | `Σ x` over n | `Σ e + n·u·Σ (|x| + e)` |
//! | `exp x` | `exp(x + e) − exp(x) + 2⁻²¹·exp(x + e) + 2⁻¹²⁶`: `ex2.approx` has two units in the last place, and gives 0 for what is denormal |
//! | `log x` | `e / (x − e) + 4u·|log x| + u` |
//! | `tanh x` | `e + 8u` |
//! | `b^x`, `b` exact | `|b^x|·(exp(|log b|·e) − 1 + 16u)` |
//! | `max`, `min`, `where` | the larger, that of the side taken |
//!
//! One rule is of attention. The maximum `m` that a loop carries has no error: `Σ exp(x − m)·v / Σ exp(x − m)` and `m + log Σ
//! exp(x − m)` are the same numbers for every `m`, so that whichever the kernel holds serves as the exact one.

use std::collections::{HashMap, HashSet};

use gigac_ir::kernel::{
    Access, Buffer, BufferId, Carry, Expr, Kernel, Offset, Reduction, Scalar, Stmt, Storage,
    TileId, TileType, VarId,
};
use gigac_ir::pointwise::Pointwise;

/// Half a step of bf16.
const U16: f64 = 1.0 / 256.0;

/// A step of f32.
const U: f64 = 1.0 / 8_388_608.0;

/// The relative error of an exponential.
const POWER: f64 = 4.0 * U;

/// What is rounded to 0.
const DENORMAL: f64 = 1.2e-38;

/// Additions of a reduction that are not those of its tile: to what is carried, and over threads.
const MORE: u64 = 8;

/// From here on numbers stand for infinities: no exponential of a difference from them is more than 0.
const INFINITE: f64 = 1e37;

/// A kernel with exact results and their bounds.
pub(crate) struct Bounded {
    pub(crate) kernel: Kernel,
    /// For each written argument, the argument that holds the bounds.
    pub(crate) bounds: Vec<(usize, usize)>,
}

/// The kernel that gives results and bounds. Buffers of bounds stand behind the others.
pub(crate) fn bounded(kernel: &Kernel) -> Bounded {
    let mut bound = Bound {
        kernel: Kernel { body: Vec::new(), ..kernel.clone() },
        blocks: vec![Vec::new()],
        exprs: HashMap::new(),
        errors: HashMap::new(),
        shifts: HashSet::new(),
        buffers: HashMap::new(),
    };
    bound.collect(&kernel.body);
    let mut bounds = Vec::new();
    for (i, buffer) in kernel.buffers.iter().enumerate() {
        assert!(buffer.access != Access::Local, "attention has no buffers of its own");
        if buffer.access == Access::Read {
            continue;
        }
        bound.kernel.buffers[i].storage = Storage::F32;
        let name = format!("bound_of_{}", buffer.name);
        let error = Buffer { name, storage: Storage::F32, access: Access::Write, ..buffer.clone() };
        bounds.push((i, bound.kernel.buffers.len()));
        bound.buffers.insert(BufferId(i as u32), BufferId(bound.kernel.buffers.len() as u32));
        bound.kernel.buffers.push(error);
    }
    bound.block(kernel, &kernel.body);
    let body = bound.blocks.remove(0);
    Bounded { kernel: Kernel { body, ..bound.kernel }, bounds }
}

struct Bound {
    kernel: Kernel,
    /// Statements of the blocks under construction, the innermost one last.
    blocks: Vec<Vec<Stmt>>,
    exprs: HashMap<TileId, Expr>,
    /// Bounds of values; those without one are exact.
    errors: HashMap<TileId, TileId>,
    /// Carried maxima.
    shifts: HashSet<TileId>,
    /// The buffers of bounds.
    buffers: HashMap<BufferId, BufferId>,
}

impl Bound {
    fn collect(&mut self, body: &[Stmt]) {
        for stmt in body {
            match stmt {
                Stmt::Let(value, expr) => {
                    self.exprs.insert(*value, expr.clone());
                }
                Stmt::Loop { body, carried, .. } => {
                    self.collect(body);
                    for carry in carried {
                        let next = self.exprs.get(&carry.next);
                        let of = |x: &[TileId]| x.contains(&carry.arg);
                        if matches!(next, Some(Expr::Pointwise(Pointwise::Max, x)) if of(x)) {
                            self.shifts.extend([carry.arg, carry.next, carry.result]);
                        }
                    }
                }
                Stmt::When(_) | Stmt::Store { .. } => {}
            }
        }
    }

    // Values.

    fn fresh(&mut self, vars: Vec<VarId>, scalar: Scalar) -> TileId {
        self.kernel.values.push(TileType { scalar, vars });
        TileId(self.kernel.values.len() as u32 - 1)
    }

    fn push(&mut self, stmt: Stmt) {
        self.blocks.last_mut().expect("a block is open").push(stmt);
    }

    fn emit(&mut self, expr: Expr, vars: Vec<VarId>, scalar: Scalar) -> TileId {
        let value = self.fresh(vars, scalar);
        self.push(Stmt::Let(value, expr));
        value
    }

    fn real(&mut self, x: f64) -> TileId {
        self.emit(Expr::Real(x), Vec::new(), Scalar::F32)
    }

    fn union(&self, of: &[TileId]) -> Vec<VarId> {
        let mut vars: Vec<VarId> =
            of.iter().flat_map(|v| self.kernel.ty(*v).vars.iter().copied()).collect();
        vars.sort_unstable();
        vars.dedup();
        vars
    }

    fn map(&mut self, function: Pointwise, of: &[TileId]) -> TileId {
        let scalar = if function == Pointwise::Lt { Scalar::Bool } else { Scalar::F32 };
        self.emit(Expr::Pointwise(function, of.to_vec()), self.union(of), scalar)
    }

    fn add(&mut self, a: TileId, b: TileId) -> TileId {
        self.map(Pointwise::Add, &[a, b])
    }

    fn times(&mut self, a: TileId, b: TileId) -> TileId {
        self.map(Pointwise::Mul, &[a, b])
    }

    fn scaled(&mut self, x: TileId, by: f64) -> TileId {
        let by = self.real(by);
        self.times(x, by)
    }

    fn magnitude(&mut self, x: TileId) -> TileId {
        let negative = self.map(Pointwise::Neg, &[x]);
        self.map(Pointwise::Max, &[x, negative])
    }

    /// The magnitude of what is finite.
    fn size(&mut self, x: TileId) -> TileId {
        let magnitude = self.magnitude(x);
        let (limit, zero) = (self.real(INFINITE), self.real(0.0));
        let finite = self.map(Pointwise::Lt, &[magnitude, limit]);
        self.map(Pointwise::Where, &[finite, magnitude, zero])
    }

    /// The most that a value may be.
    fn most(&mut self, x: TileId) -> TileId {
        let magnitude = self.magnitude(x);
        self.plus_error(magnitude, x)
    }

    fn plus_error(&mut self, sum: TileId, of: TileId) -> TileId {
        match self.errors.get(&of).copied() {
            Some(error) => self.add(sum, error),
            None => sum,
        }
    }

    fn error(&mut self, of: TileId) -> TileId {
        match self.errors.get(&of).copied() {
            Some(error) => error,
            None => self.real(0.0),
        }
    }

    // Statements.

    fn block(&mut self, kernel: &Kernel, body: &[Stmt]) {
        for stmt in body {
            match stmt {
                Stmt::Let(value, Expr::Pointwise(Pointwise::Bf16, x)) => {
                    self.push(Stmt::Let(*value, Expr::Pointwise(Pointwise::Stop, x.clone())));
                    let error = self.narrowed(x[0]);
                    self.errors.insert(*value, error);
                }
                Stmt::Let(value, expr) => {
                    self.push(stmt.clone());
                    let exact =
                        self.shifts.contains(value) || kernel.ty(*value).scalar != Scalar::F32;
                    if let Some(error) = (!exact).then(|| self.of(*value, expr)).flatten() {
                        self.errors.insert(*value, error);
                    }
                }
                Stmt::When(_) => self.push(stmt.clone()),
                Stmt::Loop { var, carried, body } => self.looped(kernel, *var, carried, body),
                Stmt::Store { buffer, offset, value, mask, accumulate } => {
                    assert!(!accumulate, "kernels of GPUs add nothing to memory");
                    self.push(stmt.clone());
                    let storage = kernel.buffers[buffer.0 as usize].storage;
                    self.store_error(*buffer, storage, offset, (*value, *mask));
                }
            }
        }
    }

    fn looped(&mut self, kernel: &Kernel, var: VarId, carried: &[Carry], body: &[Stmt]) {
        let mut all = carried.to_vec();
        let of: Vec<&Carry> = carried.iter().filter(|c| !self.shifts.contains(&c.arg)).collect();
        let inits: Vec<TileId> = of.iter().map(|c| self.error(c.init)).collect();
        let fresh = |s: &mut Self, like| s.fresh(kernel.ty(like).vars.clone(), Scalar::F32);
        let args: Vec<TileId> = of.iter().map(|c| fresh(self, c.arg)).collect();
        for (carry, arg) in of.iter().zip(&args) {
            self.errors.insert(carry.arg, *arg);
        }
        self.blocks.push(Vec::new());
        self.block(kernel, body);
        let nexts: Vec<TileId> = of.iter().map(|c| self.error(c.next)).collect();
        let body = self.blocks.pop().expect("the block that was opened");
        for (i, carry) in of.iter().enumerate() {
            let result = fresh(self, carry.result);
            self.errors.insert(carry.result, result);
            all.push(Carry { init: inits[i], arg: args[i], next: nexts[i], result });
        }
        self.push(Stmt::Loop { var, carried: all, body });
    }

    fn store_error(
        &mut self,
        buffer: BufferId,
        storage: Storage,
        offset: &Offset,
        (value, mask): (TileId, Option<TileId>),
    ) {
        let error = match storage {
            Storage::Bf16 => self.narrowed(value),
            _ => self.error(value),
        };
        let vars = self.union(&[value]);
        let zero = self.real(0.0);
        let value =
            self.emit(Expr::Pointwise(Pointwise::Add, vec![error, zero]), vars, Scalar::F32);
        let buffer = self.buffers[&buffer];
        self.push(Stmt::Store { buffer, offset: offset.clone(), value, mask, accumulate: false });
    }

    // Bounds.

    /// Of a value rounded to bf16.
    fn narrowed(&mut self, x: TileId) -> TileId {
        let most = self.most(x);
        let rounding = self.scaled(most, U16);
        self.plus_error(rounding, x)
    }

    /// Of a real value, made by an expression that stands in front.
    fn of(&mut self, value: TileId, expr: &Expr) -> Option<TileId> {
        match expr {
            Expr::Real(x) => {
                let distance = (x - f64::from(*x as f32)).abs();
                (distance > 0.0 && x.is_finite()).then(|| self.real(distance))
            }
            Expr::Load { .. } | Expr::Int(_) | Expr::Bool(_) | Expr::Index(_) => None,
            Expr::Pointwise(function, x) => self.pointwise(value, *function, x),
            Expr::Reduce(Reduction::Sum, x, var) => Some(self.sum(*x, *var)),
            Expr::Reduce(Reduction::Max, x, var) => {
                let error = self.error(*x);
                Some(self.along(Reduction::Max, error, *x, *var))
            }
            Expr::Dot(a, b, var) => Some(self.dot([*a, *b], *var)),
            Expr::Noise { .. } => panic!("attention draws nothing"),
        }
    }

    fn pointwise(&mut self, value: TileId, function: Pointwise, x: &[TileId]) -> Option<TileId> {
        Some(match function {
            Pointwise::Neg | Pointwise::Stop | Pointwise::F32 => self.errors.get(&x[0]).copied()?,
            Pointwise::ToReal => return None,
            Pointwise::Add => self.total(value, x),
            Pointwise::Sub => {
                let [a, b] = [0, 1].map(|i| self.size(x[i]));
                let both = self.add(a, b);
                let rounding = self.scaled(both, U);
                let error = self.plus_error(rounding, x[0]);
                self.plus_error(error, x[1])
            }
            Pointwise::Mul => self.product(x),
            Pointwise::Div => self.quotient(value, x),
            Pointwise::Exp => self.power(value, x[0]),
            Pointwise::Log => {
                let (error, size) = (self.error(x[0]), self.magnitude(value));
                let least = self.map(Pointwise::Sub, &[x[0], error]);
                let moved = self.map(Pointwise::Div, &[error, least]);
                let (rounding, more) = (self.scaled(size, 4.0 * U), self.real(U));
                let rounding = self.add(rounding, more);
                self.add(moved, rounding)
            }
            Pointwise::Pow => {
                assert!(!self.errors.contains_key(&x[0]), "powers of constants alone");
                let (base, size) = (self.magnitude(x[0]), self.magnitude(value));
                let (log, off) = (self.map(Pointwise::Log, &[base]), self.error(x[1]));
                let (log, one) = (self.magnitude(log), self.real(1.0));
                let off = self.times(log, off);
                let most = self.map(Pointwise::Exp, &[off]);
                let moved = self.map(Pointwise::Sub, &[most, one]);
                let more = self.real(16.0 * U);
                let moved = self.add(moved, more);
                self.times(size, moved)
            }
            Pointwise::Tanh => {
                let more = self.real(8.0 * U);
                self.plus_error(more, x[0])
            }
            Pointwise::Max | Pointwise::Min => {
                let [a, b] = [0, 1].map(|i| self.error(x[i]));
                self.map(Pointwise::Max, &[a, b])
            }
            Pointwise::Where => {
                let [a, b] = [1, 2].map(|i| self.error(x[i]));
                self.map(Pointwise::Where, &[x[0], a, b])
            }
            other => panic!("no bound is known for `{}`", other.name()),
        })
    }

    /// Of a sum of two; one that a product is added to takes part in the additions of the product.
    fn total(&mut self, value: TileId, x: &[TileId]) -> TileId {
        let most = self.magnitude(value);
        let most = self.plus_error(most, x[0]);
        let most = self.plus_error(most, x[1]);
        let mut error = self.scaled(most, U);
        for (one, other) in [(x[0], x[1]), (x[1], x[0])] {
            error = self.plus_error(error, one);
            if let Some(Expr::Dot(.., var)) = self.exprs.get(&one) {
                let additions = self.additions(*var);
                let most = self.most(other);
                let rounding = self.scaled(most, additions);
                error = self.add(error, rounding);
            }
        }
        error
    }

    /// Roundings of a sum along a variable.
    fn additions(&self, var: VarId) -> f64 {
        let declared = self.kernel.var(var);
        (declared.tile.min(declared.extent) + MORE) as f64 * U
    }

    fn product(&mut self, x: &[TileId]) -> TileId {
        // What is masked stays −∞.
        let [size, other] = [0, 1].map(|i| self.size(x[i]));
        let (a, b) = (self.plus_error(size, x[0]), self.plus_error(other, x[1]));
        let (of_a, of_b) = (self.error(x[0]), self.error(x[1]));
        let moved = [self.times(size, of_b), self.times(of_a, b)];
        let most = self.times(a, b);
        let rounding = self.scaled(most, U);
        let moved = self.add(moved[0], moved[1]);
        self.add(moved, rounding)
    }

    fn quotient(&mut self, value: TileId, x: &[TileId]) -> TileId {
        let (size, divisor) = (self.magnitude(value), self.magnitude(x[1]));
        let (of_a, of_b) = (self.error(x[0]), self.error(x[1]));
        let carried = self.times(size, of_b);
        let moved = self.add(of_a, carried);
        let least = self.map(Pointwise::Sub, &[divisor, of_b]);
        let moved = self.map(Pointwise::Div, &[moved, least]);
        let rounding = self.scaled(size, 3.0 * U);
        self.add(moved, rounding)
    }

    fn power(&mut self, value: TileId, x: TileId) -> TileId {
        let size = self.size(x);
        let rounding = self.scaled(size, 2.0 * U);
        let off = self.plus_error(rounding, x);
        let high = self.add(x, off);
        let most = self.map(Pointwise::Exp, &[high]);
        let moved = self.map(Pointwise::Sub, &[most, value]);
        let (rounding, lost) = (self.scaled(most, POWER), self.real(DENORMAL));
        let rounding = self.add(rounding, lost);
        self.add(moved, rounding)
    }

    /// A reduction of a bound along a variable that the value it belongs to has.
    fn along(&mut self, by: Reduction, error: TileId, of: TileId, var: VarId) -> TileId {
        let vars = self.kernel.ty(of).vars.clone();
        let zero = self.real(0.0);
        let whole =
            self.emit(Expr::Pointwise(Pointwise::Add, vec![error, zero]), vars, Scalar::F32);
        let kept = self.kernel.ty(of).vars.iter().copied().filter(|v| *v != var).collect();
        self.emit(Expr::Reduce(by, whole, var), kept, Scalar::F32)
    }

    fn sum(&mut self, x: TileId, var: VarId) -> TileId {
        let most = self.most(x);
        let rounding = self.scaled(most, self.additions(var));
        let error = self.plus_error(rounding, x);
        self.along(Reduction::Sum, error, x, var)
    }

    fn dot(&mut self, x: [TileId; 2], var: VarId) -> TileId {
        let mut vars = self.union(&x);
        vars.retain(|v| *v != var);
        let dot = |s: &mut Self, a: TileId, b: TileId| {
            s.emit(Expr::Dot(a, b, var), vars.clone(), Scalar::F32)
        };
        let [a, b] = x.map(|v| self.most(v));
        let all = dot(self, a, b);
        let mut error = self.scaled(all, self.additions(var));
        let size = self.magnitude(x[0]);
        for (i, other) in [(0, b), (1, size)] {
            if self.errors.contains_key(&x[i]) {
                let vars = self.kernel.ty(x[i]).vars.clone();
                let (own, zero) = (self.error(x[i]), self.real(0.0));
                let own =
                    self.emit(Expr::Pointwise(Pointwise::Add, vec![own, zero]), vars, Scalar::F32);
                let moved = dot(self, own, other);
                error = self.add(error, moved);
            }
        }
        error
    }
}
