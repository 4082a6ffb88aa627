//! Recognises matrix products in a kernel.
//!
//! ```text
//! lets                                        ; grid level: row scalars, masks, constants
//! %zero = 0.0
//! loop k carry (%acc = %zero -> %sum, …) {
//!   lets                                      ; loads and pointwise prologue
//!   %d = dot %a, %b along k                   ; one for each sum
//!   %n = add %acc, %d
//!   next %n, …
//! }
//! ...                                         ; further loops, each from sums before on or from 0
//! lets and stores                             ; epilogue
//! ```
//! A sum has a row variable and a column variable in the grid. Several sums of one kernel have rows or
//! columns in common: products of one operand with several others. All other variables of the grid are
//! batch variables with tile 1. Several loops into one sum make a sum of products.

use std::collections::{BTreeMap, BTreeSet};

use gigac_ir::kernel::{
    Access, BufferId, Carry, Expr, Factor, Kernel, Offset, Stmt, Term, TileId, VarId,
};
use gigac_ir::pointwise::Pointwise;

/// A kernel of products with its parts named.
pub(crate) struct Products<'k> {
    pub(crate) kernel: &'k Kernel,
    pub(crate) sums: Vec<Sum>,
    /// The products of each loop, in order; at most one for each sum.
    pub(crate) loops: Vec<Vec<Product>>,
    /// How every other value is made.
    pub(crate) exprs: BTreeMap<TileId, &'k Expr>,
    /// The epilogue's stores, in order.
    pub(crate) stores: Vec<Store<'k>>,
}

/// A sum of products.
#[derive(Clone, Copy)]
pub(crate) struct Sum {
    /// The finished sum, as the epilogue sees it.
    pub(crate) value: TileId,
    /// The variable whose positions are rows of the result.
    pub(crate) rows: VarId,
    /// The variable along which the result is contiguous.
    pub(crate) cols: VarId,
}

/// One product of a sum.
#[derive(Clone, Copy)]
pub(crate) struct Product {
    /// The sum that it is added to, by number.
    pub(crate) sum: usize,
    /// The contracted variable.
    pub(crate) k: VarId,
    /// The operand that varies along rows and k.
    pub(crate) lhs: TileId,
    /// The operand that varies along k and columns.
    pub(crate) rhs: TileId,
}

/// A store of the epilogue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Store<'k> {
    pub(crate) buffer: BufferId,
    pub(crate) offset: &'k Offset,
    pub(crate) value: TileId,
    pub(crate) mask: Option<TileId>,
    pub(crate) accumulate: bool,
}

impl Store<'_> {
    /// The values that it reads.
    pub(crate) fn operands(&self) -> impl Iterator<Item = TileId> {
        self.offset.tiles().into_iter().chain(self.mask).chain([self.value])
    }
}

/// Why a kernel is not of the pattern.
type Reason = &'static str;

impl<'k> Products<'k> {
    /// Names the parts of a verified kernel.
    ///
    /// # Errors
    /// The first part that does not fit.
    pub(crate) fn recognise(kernel: &'k Kernel) -> Result<Self, Reason> {
        let mut parts = Parts::default();
        kernel.body.iter().try_for_each(|stmt| parts.statement(stmt))?;
        let Parts { exprs, stores, loops } = parts;
        require(!loops.is_empty(), "it has no loop")?;
        let mut chains = Chains { exprs, ends: Vec::new(), hidden: Vec::new(), loops: Vec::new() };
        loops.into_iter().try_for_each(|(k, carried, body)| chains.turns(k, carried, body))?;
        let sums = chains.sums(kernel, &stores)?;
        let Chains { exprs, hidden, loops, .. } = chains;
        let of = |dot: &Dot| product(kernel, dot, &sums[dot.sum]);
        let loops = loops.iter().map(|dots| dots.iter().map(of).collect());
        let loops = loops.collect::<Result<_, _>>()?;
        let found = Self { kernel, sums, loops, exprs, stores };
        found.check(&hidden)?;
        Ok(found)
    }

    fn check(&self, hidden: &[TileId]) -> Result<(), Reason> {
        let kernel = self.kernel;
        let rows: BTreeSet<VarId> = self.sums.iter().map(|s| s.rows).collect();
        let cols: BTreeSet<VarId> = self.sums.iter().map(|s| s.cols).collect();
        require(rows.is_disjoint(&cols), "a variable is rows and columns")?;
        let sized: BTreeSet<VarId> = rows.union(&cols).copied().collect();
        let whole = |v: &VarId| sized.contains(v) || kernel.var(*v).tile == 1;
        require(kernel.grid.iter().all(whole), "a batch variable has a tile above 1")?;
        require(
            sized.iter().all(|v| kernel.grid.contains(v)),
            "its rows or columns are no grid variables",
        )?;
        let locals = kernel.buffers.iter().any(|b| b.access == Access::Local);
        require(!locals, "it uses local buffers")?;
        let multiplied = || self.loops.iter().flatten().flat_map(|p| [p.lhs, p.rhs]);
        let computed = self.exprs.values().flat_map(|expr| expr_operands(expr));
        let mut read =
            computed.chain(multiplied()).chain(self.stores.iter().flat_map(Store::operands));
        require(read.all(|value| !hidden.contains(&value)), "it uses a partial sum")?;
        require(self.sums_of(multiplied()).is_empty(), "it multiplies a sum")?;
        for expr in self.exprs.values() {
            let lanewise = !matches!(expr, Expr::Reduce(..) | Expr::Dot(..));
            require(lanewise, "it has a second reduction")?;
            self.check_load(expr)?;
        }
        require(!self.stores.is_empty(), "it stores nothing")
    }

    /// Loads of a stored buffer must read just what is overwritten, so that no order of tiles
    /// and no order of loads matters.
    fn check_load(&self, expr: &Expr) -> Result<(), Reason> {
        let Expr::Load { buffer, offset, .. } = expr else { return Ok(()) };
        let alike = |s: &Store<'_>| s.buffer != *buffer || s.offset == offset;
        require(self.stores.iter().all(alike), "it loads what it stores elsewhere")
    }

    /// How a value is made; sums are made by the loops.
    pub(crate) fn expr(&self, value: TileId) -> &'k Expr {
        self.exprs.get(&value).unwrap_or_else(|| panic!("{value} has no definition"))
    }

    /// The sums that values are computed from, by number.
    pub(crate) fn sums_of(&self, values: impl IntoIterator<Item = TileId>) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        let mut open: Vec<TileId> = values.into_iter().collect();
        let mut seen: BTreeSet<TileId> = open.iter().copied().collect();
        while let Some(value) = open.pop() {
            match self.sums.iter().position(|s| s.value == value) {
                Some(sum) => {
                    found.insert(sum);
                }
                None => {
                    let operands = expr_operands(self.expr(value)).into_iter();
                    open.extend(operands.filter(|o| seen.insert(*o)));
                }
            }
        }
        found
    }

    /// Loads that a value is computed from, beside the sums.
    pub(crate) fn loads(&self, value: TileId) -> Vec<(BufferId, &'k Offset)> {
        if self.sums.iter().any(|s| s.value == value) {
            return Vec::new();
        }
        let expr = self.expr(value);
        let mut loads: Vec<_> =
            expr_operands(expr).into_iter().flat_map(|o| self.loads(o)).collect();
        if let Expr::Load { buffer, offset, .. } = expr {
            loads.push((*buffer, offset));
        }
        loads
    }

    /// A number that divides every position at which vectors along a variable start, if they
    /// start every `step` positions of a block.
    pub(crate) fn start_align(&self, var: VarId, step: u64) -> u64 {
        let declared = self.kernel.var(var);
        if declared.tiles() == 1 { step } else { greatest_divisor(declared.tile, step) }
    }
}

#[derive(Default)]
struct Parts<'k> {
    exprs: BTreeMap<TileId, &'k Expr>,
    stores: Vec<Store<'k>>,
    loops: Vec<(VarId, &'k [Carry], &'k [Stmt])>,
}

impl<'k> Parts<'k> {
    fn statement(&mut self, stmt: &'k Stmt) -> Result<(), Reason> {
        match stmt {
            Stmt::Let(value, expr) => {
                self.exprs.insert(*value, expr);
            }
            Stmt::When(_) => return Err("it leaves turns out"),
            Stmt::Loop { var, carried, body } => {
                require(self.stores.is_empty(), "it stores before its loop")?;
                require(!carried.is_empty(), "its loop carries no sum")?;
                self.loops.push((*var, carried, body));
            }
            Stmt::Store { buffer, offset, value, mask, accumulate } => {
                let (buffer, value, mask) = (*buffer, *value, *mask);
                self.stores.push(Store { buffer, offset, value, mask, accumulate: *accumulate });
            }
        }
        Ok(())
    }
}

/// A product that is added to a sum.
struct Dot {
    sum: usize,
    k: VarId,
    a: TileId,
    b: TileId,
}

/// Sums under way, from loop to loop.
struct Chains<'k> {
    exprs: BTreeMap<TileId, &'k Expr>,
    /// What each sum is after the loops so far.
    ends: Vec<TileId>,
    /// Values that are no finished sums.
    hidden: Vec<TileId>,
    loops: Vec<Vec<Dot>>,
}

impl<'k> Chains<'k> {
    /// Goes on with a loop.
    fn turns(&mut self, k: VarId, carried: &[Carry], body: &'k [Stmt]) -> Result<(), Reason> {
        for stmt in body {
            let Stmt::Let(value, expr) = stmt else {
                return Err("its loop holds more than lets");
            };
            self.exprs.insert(*value, expr);
        }
        let dots = carried.iter().map(|carry| self.carried(k, carry));
        let dots = dots.collect::<Result<_, _>>()?;
        self.loops.push(dots);
        Ok(())
    }

    fn carried(&mut self, k: VarId, carry: &Carry) -> Result<Dot, Reason> {
        let sum = match self.ends.iter().position(|end| *end == carry.init) {
            Some(sum) => {
                self.hidden.push(carry.init);
                self.ends[sum] = carry.result;
                sum
            }
            None => {
                let zero = matches!(self.exprs.get(&carry.init), Some(Expr::Real(0.0)));
                require(zero, "a sum starts not at 0")?;
                self.ends.push(carry.result);
                self.ends.len() - 1
            }
        };
        let dot = accumulated(&self.exprs, carry)?;
        let Expr::Dot(a, b, along) = *self.exprs[&dot] else {
            return Err("its carry adds no `dot`");
        };
        require(along == k, "its `dot` is not along the loop's variable")?;
        self.exprs.remove(&dot);
        self.exprs.remove(&carry.next);
        self.hidden.extend([carry.arg, carry.next, dot]);
        Ok(Dot { sum, k, a, b })
    }

    /// The finished sums. Which of their variables are columns follows from the first store; the
    /// others have rows or columns in common with the first one.
    fn sums(&self, kernel: &Kernel, stores: &[Store<'_>]) -> Result<Vec<Sum>, Reason> {
        let dots = || self.loops.iter().flatten();
        let mut sums: Vec<Sum> = Vec::new();
        for (number, value) in self.ends.iter().enumerate() {
            let dot = dots().find(|d| d.sum == number).expect("every sum has a product");
            let (rows, cols) = own_vars(kernel, dot.k, dot.a, dot.b)?;
            let (rows, cols) = match sums.first() {
                None => (rows, cols),
                Some(first) if rows == first.rows || cols == first.cols => (rows, cols),
                Some(first) if rows == first.cols || cols == first.rows => (cols, rows),
                Some(_) => return Err("its sums have neither rows nor columns in common"),
            };
            sums.push(Sum { value: *value, rows, cols });
        }
        let across = |store: &Store<'_>| sums.iter().any(|s| is_contiguous(store.offset, s.rows));
        if stores.first().is_some_and(across) {
            for sum in &mut sums {
                (sum.rows, sum.cols) = (sum.cols, sum.rows);
            }
        }
        Ok(sums)
    }
}

fn require(holds: bool, reason: Reason) -> Result<(), Reason> {
    if holds { Ok(()) } else { Err(reason) }
}

/// The dot that a carry adds to its argument.
fn accumulated(exprs: &BTreeMap<TileId, &Expr>, carry: &Carry) -> Result<TileId, Reason> {
    let dot = match exprs.get(&carry.next) {
        Some(Expr::Pointwise(Pointwise::Add, operands)) => match operands[..] {
            [x, y] if x == carry.arg => y,
            [x, y] if y == carry.arg => x,
            _ => return Err("its carry adds nothing to its argument"),
        },
        _ => return Err("its carry adds nothing to its argument"),
    };
    let known = exprs.contains_key(&dot);
    require(known, "its carry adds no `dot`").map(|()| dot)
}

/// A dot whose rows and columns are known.
fn product(kernel: &Kernel, dot: &Dot, of: &Sum) -> Result<Product, Reason> {
    let Dot { sum, k, a, b } = *dot;
    let own = own_vars(kernel, k, a, b)?;
    if own == (of.rows, of.cols) {
        Ok(Product { sum, k, lhs: a, rhs: b })
    } else if own == (of.cols, of.rows) {
        Ok(Product { sum, k, lhs: b, rhs: a })
    } else {
        Err("its `dot`s have different rows and columns")
    }
}

/// The variable along which only `operand` varies: its rows or columns. Should there be several,
/// the one with the largest tile; batch variables have tile 1.
fn own_var(kernel: &Kernel, k: VarId, operand: TileId, other: TileId) -> Option<VarId> {
    let shared = &kernel.ty(other).vars;
    let own = kernel.ty(operand).vars.iter().filter(|v| **v != k && !shared.contains(v));
    own.copied().max_by_key(|v| (kernel.var(*v).tile, kernel.var(*v).extent))
}

/// Rows and columns: the variables that the operands have for themselves. Where one has none, a
/// grid variable of one position will do: that with the largest tile, since batch variables have tile 1.
fn own_vars(kernel: &Kernel, k: VarId, a: TileId, b: TileId) -> Result<(VarId, VarId), Reason> {
    let own = [own_var(kernel, k, a, b), own_var(kernel, k, b, a)];
    let free = |v: &VarId| kernel.var(*v).extent == 1 && !own.contains(&Some(*v));
    let mut single: Vec<VarId> = kernel.grid.iter().copied().filter(free).collect();
    single.sort_by_key(|v| std::cmp::Reverse(kernel.var(*v).tile));
    let mut single = single.into_iter();
    let [rows, cols] = own.map(|var| var.or_else(|| single.next()));
    rows.zip(cols).ok_or("an operand of its `dot` has no variable of its own")
}

fn is_contiguous(offset: &Offset, along: VarId) -> bool {
    offset.terms.iter().any(|Term { coefficient, factor }| {
        let unit = matches!(factor, Factor::Digit { var, divisor: 1, .. } if *var == along);
        unit && *coefficient == 1
    })
}

/// The values an expression reads.
pub(crate) fn expr_operands(expr: &Expr) -> Vec<TileId> {
    match expr {
        Expr::Real(_) | Expr::Int(_) | Expr::Bool(_) => Vec::new(),
        Expr::Index(offset) => offset.tiles(),
        Expr::Load { offset, mask, .. } => offset.tiles().into_iter().chain(*mask).collect(),
        Expr::Pointwise(_, operands) | Expr::Noise { counter: operands, .. } => operands.clone(),
        Expr::Reduce(_, value, _) => vec![*value],
        Expr::Dot(a, b, _) => vec![*a, *b],
    }
}

fn greatest_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_divisor(b, a % b) }
}
