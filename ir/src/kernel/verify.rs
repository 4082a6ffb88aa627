//! What a well-formed kernel is. All violations are reported, not only the first.
//!
//! - Names are identifiers, no keyword, and unique among buffers, and among variables and scalars
//!   together; extents, tiles, divisors are at least 1; grid variables are distinct.
//! - Every value is defined once, before its uses and in an enclosing block. A loop's argument is
//!   visible inside it, its results after it.
//! - A digit of a variable stands only where the variable has a position: it is a grid variable
//!   or an enclosing loop's.
//! - A value varies along exactly the variables of its operands (`load` and `index`: of offset
//!   and mask), less the one that `reduce` or `dot` sums along. Only constants choose freely. A
//!   carry's first and next values may vary along fewer variables than its argument.
//! - `when` stands in a loop's body in front of its stores and inner loops, at most once, and
//!   names a bool.
//! - Element types fit: see [`Typing`]; reductions take reals or ints, `dot` takes reals; a stored value fits the storage.
//! - Offsets known at compile time stay inside their buffer, unless masked.
//! - Stores do not race, as far as offsets tell: the offset's digits determine the position of
//!   every lane of the value, and of every grid variable with more than one tile (masked stores
//!   and scatters are trusted).

use std::collections::BTreeSet;

use thiserror::Error;

use super::{
    Access, BufferId, Carry, Expr, Factor, Kernel, Offset, Scalar, Stmt, Storage, TileId, TileType,
    Var, VarId,
};
use crate::pointwise::{Pointwise, Typing};

/// One way in which a kernel is not well formed. Values print as `%3`; variables and buffers by
/// their names.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KernelError {
    /// Two declarations share a name, or a name cannot be read back.
    #[error("the name `{0}` is declared twice or is no identifier")]
    Name(String),
    /// An extent or tile of zero, or a repeated grid variable.
    #[error("variable `{0}` has extent or tile zero, or stands twice in the grid")]
    Var(String),
    /// A use of a value that no earlier statement of an enclosing block defines.
    #[error("{0} is used where it is not defined")]
    Undefined(TileId),
    /// A value with no definition or several.
    #[error("{value} is defined {times} times")]
    Definitions {
        /// The value.
        value: TileId,
        /// Number of definitions.
        times: usize,
    },
    /// A loop over a grid variable or over one that an enclosing loop runs.
    #[error("loop over `{0}`, which has a position already")]
    Reloop(String),
    /// A digit of a variable that neither the grid nor an enclosing loop positions.
    #[error("{place}: `{var}` has no position here")]
    Position {
        /// Value or buffer concerned.
        place: String,
        /// The variable.
        var: String,
    },
    /// An offset with a zero divisor, a zero coefficient, a repeated factor, an unknown scalar or
    /// a tile that is not an int.
    #[error("{place}: malformed offset {offset}")]
    Offset {
        /// Value or buffer concerned.
        place: String,
        /// The offset.
        offset: String,
    },
    /// A type that does not follow from the operands.
    #[error("{value} has type {found}, expected {expected}")]
    Type {
        /// The value.
        value: TileId,
        /// Its declared type.
        found: String,
        /// What the expression gives.
        expected: String,
    },
    /// Operands that the operation does not take.
    #[error("{value}: {operation} does not take these operands")]
    Operands {
        /// The value.
        value: TileId,
        /// Name of the operation.
        operation: &'static str,
    },
    /// A `when` outside of loops, behind a store, an inner loop or another one.
    #[error("`when {0}` stands not first in a loop")]
    When(TileId),
    /// A read of a written buffer, or a write to a read one.
    #[error("buffer `{0}` is not declared for this access")]
    Access(String),
    /// An access outside the buffer.
    #[error("`{buffer}`: offsets {low} to {high}, but it has {elements} elements")]
    Bounds {
        /// The buffer.
        buffer: String,
        /// Smallest offset.
        low: i128,
        /// Largest offset.
        high: i128,
        /// Its size.
        elements: u64,
    },
    /// A store in which several lanes or grid points write one element.
    #[error("store to `{buffer}`: the offset does not tell positions of `{var}` apart")]
    Race {
        /// The buffer.
        buffer: String,
        /// A variable whose positions collide.
        var: String,
    },
}

/// Words with a meaning of their own where names stand.
const KEYWORDS: &[&str] = &["loop", "when", "store", "next", "carry", "where", "along", "grid"];

impl Kernel {
    /// Checks that the kernel is well formed: see the list on top of `verify.rs`.
    ///
    /// # Errors
    /// Every violation found.
    pub fn verify(&self) -> Result<(), Vec<KernelError>> {
        let mut verifier = Verifier {
            kernel: self,
            positioned: self.grid.clone(),
            visible: vec![false; self.values.len()],
            definitions: vec![0; self.values.len()],
            errors: Vec::new(),
        };
        verifier.declarations();
        verifier.block(&self.body);
        verifier.defined_once();
        if verifier.errors.is_empty() { Ok(()) } else { Err(verifier.errors) }
    }
}

struct Verifier<'k> {
    kernel: &'k Kernel,
    /// Variables of the grid and of the enclosing loops.
    positioned: Vec<VarId>,
    /// Values that the next statement may use.
    visible: Vec<bool>,
    definitions: Vec<usize>,
    errors: Vec<KernelError>,
}

impl Verifier<'_> {
    fn check(&mut self, holds: bool, error: impl FnOnce() -> KernelError) {
        if !holds {
            self.errors.push(error());
        }
    }

    fn name_of(&self, var: VarId) -> String {
        self.kernel.var(var).name.clone()
    }

    fn declarations(&mut self) {
        let kernel = self.kernel;
        self.names([&kernel.name].into_iter());
        self.names(kernel.buffers.iter().map(|b| &b.name));
        self.names(kernel.vars.iter().map(|v| &v.name).chain(&kernel.scalars));
        let mut seen = BTreeSet::new();
        for var in &kernel.grid {
            self.check(seen.insert(*var), || KernelError::Var(kernel.var(*var).name.clone()));
        }
        for var in &kernel.vars {
            let sound = var.extent > 0 && var.tile > 0;
            self.check(sound, || KernelError::Var(var.name.clone()));
        }
    }

    fn names<'a>(&mut self, names: impl Iterator<Item = &'a String>) {
        let mut seen = BTreeSet::new();
        for name in names {
            let sound = is_identifier(name) && seen.insert(name);
            self.check(sound, || KernelError::Name(name.clone()));
        }
    }

    fn defined_once(&mut self) {
        for (value, &times) in (0..).map(TileId).zip(&self.definitions) {
            if times != 1 {
                self.errors.push(KernelError::Definitions { value, times });
            }
        }
    }

    fn block(&mut self, body: &[Stmt]) {
        for stmt in body {
            match stmt {
                Stmt::Let(value, expr) => {
                    self.expr(*value, expr);
                    self.define(*value);
                }
                Stmt::Store { buffer, offset, value, mask, accumulate } => {
                    self.store(*buffer, offset, *value, *mask, *accumulate);
                }
                Stmt::Loop { var, carried, body } => self.looped(*var, carried, body),
                Stmt::When(mask) => {
                    let first = body.iter().find(|s| !matches!(s, Stmt::Let(..)));
                    let first = first.is_some_and(|s| std::ptr::eq(s, stmt));
                    let inside = self.positioned.len() > self.kernel.grid.len();
                    self.check(first && inside, || KernelError::When(*mask));
                    self.truth(*mask);
                }
            }
        }
    }

    fn define(&mut self, value: TileId) {
        match self.definitions.get_mut(value.0 as usize) {
            Some(times) => *times += 1,
            None => return self.errors.push(KernelError::Undefined(value)),
        }
        self.visible[value.0 as usize] = true;
    }

    /// The type of a value in use; reports it when it is not visible.
    fn operand(&mut self, value: TileId) -> Option<TileType> {
        let visible = self.visible.get(value.0 as usize) == Some(&true);
        self.check(visible, || KernelError::Undefined(value));
        visible.then(|| self.kernel.ty(value).clone())
    }

    fn looped(&mut self, var: VarId, carried: &[Carry], body: &[Stmt]) {
        let name = self.name_of(var);
        self.check(!self.positioned.contains(&var), || KernelError::Reloop(name));
        carried.iter().for_each(|carry| self.carried(carry, carry.init));
        let outside = self.visible.clone();
        carried.iter().for_each(|carry| self.define(carry.arg));
        self.positioned.push(var);
        self.block(body);
        carried.iter().for_each(|carry| self.carried(carry, carry.next));
        self.positioned.pop();
        self.visible = outside;
        carried.iter().for_each(|carry| self.define(carry.result));
    }

    /// A value that becomes the argument of a carry.
    fn carried(&mut self, carry: &Carry, value: TileId) {
        let Some(ty) = self.operand(value) else { return };
        let (arg, result) = (self.kernel.ty(carry.arg), self.kernel.ty(carry.result));
        let fits = ty.scalar == arg.scalar && ty.vars.iter().all(|v| arg.vars.contains(v));
        let (found, expected) = (self.type_of(&ty), self.type_of(arg));
        self.check(fits, || KernelError::Type { value, found, expected });
        let (found, expected) = (self.type_of(result), self.type_of(arg));
        let value = carry.result;
        self.check(result == arg, || KernelError::Type { value, found, expected });
    }

    fn type_of(&self, ty: &TileType) -> String {
        let names: Vec<String> = ty.vars.iter().map(|v| self.name_of(*v)).collect();
        format!("{}[{}]", ty.scalar.name(), names.join(", "))
    }

    fn expr(&mut self, value: TileId, expr: &Expr) {
        let Some(found) = self.kernel.values.get(value.0 as usize).cloned() else { return };
        let expected = match expr {
            Expr::Real(_) => Some((Scalar::F32, found.vars.clone())),
            Expr::Int(_) => Some((Scalar::I32, found.vars.clone())),
            Expr::Bool(_) => Some((Scalar::Bool, found.vars.clone())),
            Expr::Index(offset) => {
                Some((Scalar::I32, self.offset_vars(&value.to_string(), offset)))
            }
            Expr::Load { buffer, offset, mask } => {
                self.check_access(*buffer, Access::Write);
                self.bounds(*buffer, offset, mask.is_some());
                let mut vars = self.offset_vars(&value.to_string(), offset);
                vars.extend(self.mask_vars(value, *mask));
                Some((loaded(self.kernel.buffers[buffer.0 as usize].storage), vars))
            }
            Expr::Pointwise(op, operands) => self.pointwise(value, *op, operands),
            Expr::Reduce(reduction, operand, var) => {
                self.summed(value, reduction.name(), &[*operand], *var)
            }
            Expr::Dot(a, b, var) => self.summed(value, "dot", &[*a, *b], *var),
            Expr::Noise { counter, .. } => self.noise(value, counter),
        };
        let Some((scalar, mut vars)) = expected else { return };
        vars.sort_unstable();
        vars.dedup();
        let expected = TileType { scalar, vars };
        let (fits, expected) = (expected == found, self.type_of(&expected));
        let found = self.type_of(&found);
        self.check(fits, || KernelError::Type { value, found, expected });
    }

    fn truth(&mut self, value: TileId) {
        let Some(ty) = self.operand(value) else { return };
        let fits = ty.scalar == Scalar::Bool;
        self.check(fits, || KernelError::Operands { value, operation: "when" });
    }

    fn mask_vars(&mut self, value: TileId, mask: Option<TileId>) -> Vec<VarId> {
        let Some(ty) = mask.and_then(|mask| self.operand(mask)) else { return Vec::new() };
        let fits = ty.scalar == Scalar::Bool;
        self.check(fits, || KernelError::Operands { value, operation: "where" });
        ty.vars
    }

    /// Types of visible operands; none when one is not visible.
    fn operands(&mut self, operands: &[TileId]) -> Option<Vec<TileType>> {
        let types: Vec<_> = operands.iter().map(|o| self.operand(*o)).collect();
        types.into_iter().collect()
    }

    fn pointwise(
        &mut self,
        value: TileId,
        op: Pointwise,
        operands: &[TileId],
    ) -> Option<(Scalar, Vec<VarId>)> {
        let types = self.operands(operands)?;
        let scalars: Vec<Scalar> = types.iter().map(|t| t.scalar).collect();
        let scalar = result_of(op, &scalars);
        self.check(scalar.is_some(), || KernelError::Operands { value, operation: op.name() });
        Some((scalar?, types.into_iter().flat_map(|t| t.vars).collect()))
    }

    /// A reduction or dot: every operand varies along `var`, the result does not.
    fn summed(
        &mut self,
        value: TileId,
        operation: &'static str,
        operands: &[TileId],
        var: VarId,
    ) -> Option<(Scalar, Vec<VarId>)> {
        let types = self.operands(operands)?;
        let scalar = types[0].scalar;
        let fits = types.iter().all(|t| t.scalar == scalar && t.vars.contains(&var));
        let allowed = scalar == Scalar::F32 || scalar == Scalar::I32 && operands.len() == 1;
        self.check(fits && allowed, || KernelError::Operands { value, operation });
        let vars = types.into_iter().flat_map(|t| t.vars).filter(|v| *v != var).collect();
        Some((scalar, vars))
    }

    fn noise(&mut self, value: TileId, counter: &[TileId]) -> Option<(Scalar, Vec<VarId>)> {
        let types = self.operands(counter)?;
        let fits = types.iter().all(|t| t.scalar == Scalar::I32) && (1..=5).contains(&types.len());
        self.check(fits, || KernelError::Operands { value, operation: "noise" });
        Some((Scalar::F32, types.into_iter().flat_map(|t| t.vars).collect()))
    }

    /// Reports a buffer declared only for the opposite of the access.
    fn check_access(&mut self, buffer: BufferId, opposite: Access) {
        let buffer = &self.kernel.buffers[buffer.0 as usize];
        let name = buffer.name.clone();
        self.check(buffer.access != opposite, || KernelError::Access(name));
    }

    fn store(
        &mut self,
        buffer: BufferId,
        offset: &Offset,
        value: TileId,
        mask: Option<TileId>,
        accumulate: bool,
    ) {
        self.check_access(buffer, Access::Read);
        if accumulate {
            self.check_access(buffer, Access::Write);
        }
        self.bounds(buffer, offset, mask.is_some());
        let name = self.kernel.buffers[buffer.0 as usize].name.clone();
        self.offset_vars(&name, offset);
        self.mask_vars(value, mask);
        let Some(ty) = self.operand(value) else { return };
        let storage = self.kernel.buffers[buffer.0 as usize].storage;
        let fits = loaded(storage) == ty.scalar;
        self.check(fits, || KernelError::Operands { value, operation: "store" });
        if mask.is_none() {
            self.race(buffer, offset, &ty);
        }
    }

    /// Checks an offset and lists the variables that its value varies along.
    fn offset_vars(&mut self, place: &str, offset: &Offset) -> Vec<VarId> {
        let mut vars = Vec::new();
        let mut sound = true;
        for (i, term) in offset.terms.iter().enumerate() {
            let repeated = offset.terms[..i].iter().any(|t| t.factor == term.factor);
            sound &= term.coefficient != 0 && !repeated;
            match term.factor {
                Factor::Digit { var, divisor, .. } => {
                    sound &= divisor > 0;
                    self.position(place, var);
                    vars.push(var);
                }
                Factor::Scalar(scalar) => {
                    sound &= (scalar as usize) < self.kernel.scalars.len();
                }
                Factor::Tile(tile) => {
                    let Some(ty) = self.operand(tile) else { continue };
                    sound &= ty.scalar == Scalar::I32;
                    vars.extend(ty.vars);
                }
            }
        }
        let text = || self.kernel.offset_text(offset);
        if !sound {
            let error = KernelError::Offset { place: place.to_owned(), offset: text() };
            self.errors.push(error);
        }
        vars
    }

    fn position(&mut self, place: &str, var: VarId) {
        let (place, name) = (place.to_owned(), self.name_of(var));
        let positioned = self.positioned.contains(&var);
        self.check(positioned, || KernelError::Position { place, var: name });
    }

    /// Reports accesses outside the buffer that the declared extents allow.
    fn bounds(&mut self, buffer: BufferId, offset: &Offset, masked: bool) {
        let Some((low, high)) = offset.range(self.kernel) else { return };
        let buffer = &self.kernel.buffers[buffer.0 as usize];
        let inside = low >= 0 && high < i128::from(buffer.elements);
        let (buffer, elements) = (buffer.name.clone(), buffer.elements);
        self.check(masked || inside, || KernelError::Bounds { buffer, low, high, elements });
    }

    /// Reports a store in which two lanes or two grid points meet.
    fn race(&mut self, buffer: BufferId, offset: &Offset, ty: &TileType) {
        let kernel = self.kernel;
        let sized = kernel.vars.iter().all(|v| v.extent > 0 && v.tile > 0);
        if !sized || !offset.tiles().is_empty() {
            return;
        }
        let spread = |v: &&VarId| kernel.var(**v).extent > 1 && kernel.var(**v).tile > 1;
        let split = |v: &&VarId| kernel.var(**v).tiles() > 1;
        // Each grid point has local buffers of its own, and of the grid's variables one tile.
        let local = kernel.buffers[buffer.0 as usize].access == Access::Local;
        let mut vars: Vec<VarId> = ty.vars.iter().filter(spread).copied().collect();
        vars.extend(kernel.grid.iter().filter(|v| !local && split(v)));
        vars.sort_unstable();
        vars.dedup();
        let positions = |var: VarId| match kernel.var(var) {
            Var { extent, tile, .. } if local && kernel.grid.contains(&var) => *extent.min(tile),
            Var { extent, .. } => *extent,
        };
        let vars: Vec<_> = vars.into_iter().map(|var| (var, positions(var))).collect();
        if let Some(var) = offset.meeting(kernel, &vars) {
            let buffer = kernel.buffers[buffer.0 as usize].name.clone();
            self.errors.push(KernelError::Race { buffer, var: self.name_of(var) });
        }
    }
}

/// What a load of this storage gives.
fn loaded(storage: Storage) -> Scalar {
    match storage {
        Storage::F32 | Storage::Bf16 => Scalar::F32,
        Storage::I32 => Scalar::I32,
        Storage::Bool => Scalar::Bool,
    }
}

/// Element type of a pointwise result; none when the operands do not fit.
fn result_of(op: Pointwise, operands: &[Scalar]) -> Option<Scalar> {
    let all = |scalar| operands.iter().all(|o| *o == scalar);
    let same = operands.windows(2).all(|pair| pair[0] == pair[1]);
    if operands.len() != op.def().arity {
        return None;
    }
    match op.def().typing {
        Typing::Real | Typing::Rounding => all(Scalar::F32).then_some(Scalar::F32),
        Typing::Arithmetic => (same && !all(Scalar::Bool)).then(|| operands[0]),
        Typing::Integer => all(Scalar::I32).then_some(Scalar::I32),
        Typing::Compare => same.then_some(Scalar::Bool),
        Typing::Logic => all(Scalar::Bool).then_some(Scalar::Bool),
        Typing::ToReal => Some(Scalar::F32),
        Typing::Select => {
            (operands[0] == Scalar::Bool && operands[1] == operands[2]).then(|| operands[1])
        }
    }
}

fn is_identifier(name: &str) -> bool {
    let inside = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    name.starts_with(first) && name.chars().all(inside) && !KEYWORDS.contains(&name)
}
