//! Recognises the contraction pattern in a kernel.
//!
//! ```text
//! lets                                        ; grid level: row scalars, masks, constants
//! %zero = 0.0
//! loop k carry (%acc = %zero -> %sum) {
//!   lets                                      ; loads and pointwise prologue
//!   %d = dot %a, %b along k
//!   %n = add %acc, %d
//!   next %n
//! }
//! ...                                         ; further loops, each from the sum before on
//! lets and stores                             ; epilogue
//! ```
//! The grid has a row variable and a column variable; all others are batch variables with tile 1.
//! Several loops make a sum of products: all have the same rows and columns.

use std::collections::BTreeMap;

use gigac_ir::kernel::{
    Access, BufferId, Carry, Expr, Factor, Kernel, Offset, Stmt, Term, TileId, VarId,
};
use gigac_ir::pointwise::Pointwise;

/// A kernel with its parts named.
pub(crate) struct Contraction<'k> {
    pub(crate) kernel: &'k Kernel,
    /// The variable whose positions are rows of the result.
    pub(crate) rows: VarId,
    /// The variable along which the result is contiguous.
    pub(crate) cols: VarId,
    /// What is summed, in order.
    pub(crate) products: Vec<Product>,
    /// The finished sum, as the epilogue sees it.
    pub(crate) sum: TileId,
    /// How every other value is made.
    pub(crate) exprs: BTreeMap<TileId, &'k Expr>,
    /// The epilogue's stores, in order.
    pub(crate) stores: Vec<Store<'k>>,
}

/// One product of the sum.
#[derive(Clone, Copy)]
pub(crate) struct Product {
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

/// Why a kernel is not of the pattern.
type Reason = &'static str;

impl<'k> Contraction<'k> {
    /// Names the parts of a verified kernel.
    ///
    /// # Errors
    /// The first part that does not fit.
    pub(crate) fn recognise(kernel: &'k Kernel) -> Result<Self, Reason> {
        let mut parts = Parts::default();
        kernel.body.iter().try_for_each(|stmt| parts.statement(stmt))?;
        let Parts { mut exprs, stores, loops } = parts;
        let (_, first, _) = *loops.first().ok_or("it has no loop")?;
        require(
            matches!(exprs.get(&first.init), Some(Expr::Real(0.0))),
            "its sum starts not at 0",
        )?;
        let chained = loops.windows(2).all(|w| w[1].1.init == w[0].1.result);
        require(chained, "a later loop starts not at the sum before")?;
        for (_, _, body) in &loops {
            for stmt in *body {
                let Stmt::Let(value, expr) = stmt else {
                    return Err("its loop holds more than lets");
                };
                exprs.insert(*value, expr);
            }
        }
        let sum = loops[loops.len() - 1].1.result;
        let mut hidden = Vec::new();
        let mut dots = Vec::new();
        for (k, carry, _) in &loops {
            let dot = accumulated(&exprs, carry)?;
            let Expr::Dot(a, b, along) = *exprs[&dot] else {
                return Err("its carry adds no `dot`");
            };
            require(along == *k, "its `dot` is not along the loop's variable")?;
            exprs.remove(&dot);
            exprs.remove(&carry.next);
            hidden.extend([carry.arg, carry.next, dot, carry.result]);
            dots.push((*k, a, b));
        }
        hidden.retain(|value| *value != sum);
        let (k, a, b) = dots[0];
        let (mut rows, mut cols) = own_vars(kernel, k, a, b)?;
        if stores.first().is_some_and(|s| is_contiguous(s.offset, rows)) {
            (rows, cols) = (cols, rows);
        }
        let products = dots.into_iter().map(|dot| product(kernel, dot, [rows, cols]));
        let products = products.collect::<Result<_, _>>()?;
        let found = Self { kernel, rows, cols, products, sum, exprs, stores };
        found.check(&hidden)?;
        Ok(found)
    }

    fn check(&self, hidden: &[TileId]) -> Result<(), Reason> {
        let kernel = self.kernel;
        let sized = [self.rows, self.cols];
        let whole = |v: &VarId| sized.contains(v) || kernel.var(*v).tile == 1;
        require(kernel.grid.iter().all(whole), "a batch variable has a tile above 1")?;
        require(
            sized.iter().all(|v| kernel.grid.contains(v)),
            "its rows or columns are no grid variables",
        )?;
        let locals = kernel.buffers.iter().any(|b| b.access == Access::Local);
        require(!locals, "it uses local buffers")?;
        for expr in self.exprs.values() {
            require(
                !expr_operands(expr).iter().any(|o| hidden.contains(o)),
                "it uses a partial sum",
            )?;
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

    /// How a value is made; the sum is made by the loop.
    pub(crate) fn expr(&self, value: TileId) -> &'k Expr {
        self.exprs.get(&value).unwrap_or_else(|| panic!("{value} has no definition"))
    }

    /// Loads that a value is computed from, beside the sum.
    pub(crate) fn loads(&self, value: TileId) -> Vec<(BufferId, &'k Offset)> {
        if value == self.sum {
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
}

#[derive(Default)]
struct Parts<'k> {
    exprs: BTreeMap<TileId, &'k Expr>,
    stores: Vec<Store<'k>>,
    loops: Vec<(VarId, &'k Carry, &'k [Stmt])>,
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
                let [carry] = carried.as_slice() else {
                    return Err("its loop carries not one sum");
                };
                self.loops.push((*var, carry, body));
            }
            Stmt::Store { buffer, offset, value, mask, accumulate } => {
                let (buffer, value, mask) = (*buffer, *value, *mask);
                self.stores.push(Store { buffer, offset, value, mask, accumulate: *accumulate });
            }
        }
        Ok(())
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
fn product(
    kernel: &Kernel,
    (k, a, b): (VarId, TileId, TileId),
    [rows, cols]: [VarId; 2],
) -> Result<Product, Reason> {
    let own = own_vars(kernel, k, a, b)?;
    if own == (rows, cols) {
        Ok(Product { k, lhs: a, rhs: b })
    } else if own == (cols, rows) {
        Ok(Product { k, lhs: b, rhs: a })
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
/// grid variable of one position will do.
fn own_vars(kernel: &Kernel, k: VarId, a: TileId, b: TileId) -> Result<(VarId, VarId), Reason> {
    let own = [own_var(kernel, k, a, b), own_var(kernel, k, b, a)];
    let free = |v: &VarId| kernel.var(*v).extent == 1 && !own.contains(&Some(*v));
    let mut single = kernel.grid.iter().copied().filter(free);
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

impl Contraction<'_> {
    /// A number that divides every position at which vectors along a variable start, if they
    /// start every `step` positions of a block.
    pub(crate) fn start_align(&self, var: VarId, step: u64) -> u64 {
        let declared = self.kernel.var(var);
        if declared.tiles() == 1 { step } else { greatest_divisor(declared.tile, step) }
    }
}

fn greatest_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_divisor(b, a % b) }
}
