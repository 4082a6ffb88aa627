//! The products of a block program, and what their operands are.

use std::collections::{BTreeMap, HashMap, HashSet};

use gigac_ir::kernel::{Access, BufferId, Expr, Kernel, Offset, Stmt, TileId, VarId};
use gigac_ir::pointwise::Pointwise;

use super::super::dots;
use super::super::lower::Refusal;
use super::super::product::is_bf16;
use crate::pattern::expr_operands;

/// A product as tensor cores take it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dot {
    /// The operand that varies along rows.
    pub(super) lhs: TileId,
    pub(super) rhs: TileId,
    pub(super) along: VarId,
    /// The columns of the result.
    pub(super) cols: VarId,
    /// The sum that it is added into, when it is used for nothing else, and what it is added to.
    pub(super) added: Option<(TileId, TileId)>,
}

/// A kernel whose products all have the same rows.
pub(super) struct Program<'k> {
    pub(super) kernel: &'k Kernel,
    /// The variable that warps share: every product has it in one operand and in the result.
    pub(super) rows: VarId,
    /// How values are made, but carried ones.
    pub(super) exprs: HashMap<TileId, &'k Expr>,
    pub(super) dots: BTreeMap<TileId, Dot>,
    /// How often values are read.
    pub(super) uses: HashMap<TileId, usize>,
    /// Variables of loops.
    loops: HashSet<VarId>,
    /// Variables of loops that have products and no further loop of products in them.
    pub(super) innermost: HashSet<VarId>,
}

impl<'k> Program<'k> {
    /// Names the parts of a verified kernel.
    pub(super) fn of(kernel: &'k Kernel) -> Result<Self, Refusal> {
        let mut program = Self {
            kernel,
            rows: VarId(0),
            exprs: HashMap::new(),
            dots: BTreeMap::new(),
            uses: HashMap::new(),
            loops: HashSet::new(),
            innermost: HashSet::new(),
        };
        program.collect(&kernel.body);
        program.rows = program.shared_rows()?;
        count(&kernel.body, &mut program.uses);
        for (value, expr) in &program.exprs {
            if let Expr::Dot(a, b, along) = **expr {
                let dot = program.dot(*value, [a, b], along)?;
                program.dots.insert(*value, dot);
            }
        }
        Ok(program)
    }

    fn collect(&mut self, body: &'k [Stmt]) {
        for stmt in body {
            match stmt {
                Stmt::Let(value, expr) => {
                    self.exprs.insert(*value, expr);
                }
                Stmt::Loop { var, body, .. } => {
                    self.loops.insert(*var);
                    if dots(body) > 0 && innermost(body) {
                        self.innermost.insert(*var);
                    }
                    self.collect(body);
                }
                Stmt::When(_) | Stmt::Store { .. } => {}
            }
        }
    }

    /// Variables of a value that have a tile.
    pub(super) fn wide(&self, value: TileId) -> Vec<VarId> {
        let vars = self.kernel.ty(value).vars.iter().copied();
        vars.filter(|v| self.kernel.var(*v).tile > 1).collect()
    }

    fn shared_rows(&self) -> Result<VarId, Refusal> {
        let dots = || {
            self.exprs.values().filter_map(|e| match e {
                Expr::Dot(a, b, _) => Some([self.wide(*a), self.wide(*b)]),
                _ => None,
            })
        };
        let shared =
            |v: &VarId| dots().all(|sides| sides.iter().filter(|s| s.contains(v)).count() == 1);
        let along =
            |v: &VarId| self.exprs.values().any(|e| matches!(e, Expr::Dot(.., k) if k == v));
        let vars = (0..self.kernel.vars.len() as u32).map(VarId);
        let found = vars.into_iter().find(|v| shared(v) && !along(v));
        found.ok_or_else(|| "its products have no rows in common".to_owned())
    }

    fn dot(&self, value: TileId, [a, b]: [TileId; 2], along: VarId) -> Result<Dot, Refusal> {
        let (lhs, rhs) = if self.wide(a).contains(&self.rows) { (a, b) } else { (b, a) };
        let fault = |what: &str| format!("the product {value} {what}");
        let cols: Vec<VarId> = self.wide(rhs).into_iter().filter(|v| *v != along).collect();
        let &[cols] = &cols[..] else { return Err(fault("has several variables as columns")) };
        if self.wide(lhs).iter().any(|v| *v != self.rows && *v != along) {
            return Err(fault("has an operand of three variables"));
        }
        for operand in [lhs, rhs] {
            if !is_bf16(self.kernel, &|v| self.exprs.get(&v).copied(), operand) {
                return Err(fault("multiplies more digits than tensor cores take"));
            }
        }
        if !self.is_loaded(rhs) {
            return Err(fault("has a computed right operand"));
        }
        let added = (self.uses.get(&value) == Some(&1)).then(|| self.sum(value)).flatten();
        Ok(Dot { lhs, rhs, along, cols, added })
    }

    /// The only user of a product, when it adds something of the same shape that does not depend on it.
    fn sum(&self, product: TileId) -> Option<(TileId, TileId)> {
        let adds = |(value, expr): (&TileId, &&Expr)| match expr {
            Expr::Pointwise(Pointwise::Add, x) if x.contains(&product) => {
                let other = if x[0] == product { x[1] } else { x[0] };
                Some((*value, other))
            }
            _ => None,
        };
        let (sum, other) = self.exprs.iter().find_map(adds)?;
        let fits = self.wide(sum) == self.wide(product) && self.wide(other) == self.wide(sum);
        (fits && !self.depends(other, product)).then_some((sum, other))
    }

    fn depends(&self, value: TileId, on: TileId) -> bool {
        let operands = self.exprs.get(&value).map_or(vec![], |e| expr_operands(e));
        value == on || operands.into_iter().any(|v| self.depends(v, on))
    }

    /// Whether a value is computed from what is only read, and from positions.
    pub(super) fn is_loaded(&self, value: TileId) -> bool {
        let Some(expr) = self.exprs.get(&value) else { return false };
        let own = match expr {
            Expr::Load { buffer, .. } => {
                self.kernel.buffers[buffer.0 as usize].access == Access::Read
            }
            Expr::Dot(..) | Expr::Reduce(..) | Expr::Noise { .. } => false,
            Expr::Real(_) | Expr::Int(_) | Expr::Bool(_) | Expr::Index(_) => true,
            Expr::Pointwise(..) => true,
        };
        own && expr_operands(expr).into_iter().all(|v| self.is_loaded(v))
    }

    /// Loads that a value is computed from.
    pub(super) fn loads(&self, value: TileId) -> Vec<(BufferId, &'k Offset)> {
        let Some(expr) = self.exprs.get(&value) else { return Vec::new() };
        let mut loads: Vec<_> =
            expr_operands(expr).into_iter().flat_map(|v| self.loads(v)).collect();
        if let Expr::Load { buffer, offset, .. } = expr {
            loads.push((*buffer, offset));
        }
        loads
    }

    /// Whether a value changes from turn to turn of some loop.
    pub(super) fn turns(&self, value: TileId) -> bool {
        self.kernel.ty(value).vars.iter().any(|v| self.loops.contains(v))
    }

    /// The products of a block, without those of its loops.
    pub(super) fn products(&self, body: &[Stmt]) -> Vec<Dot> {
        let of = |stmt: &Stmt| match stmt {
            Stmt::Let(value, _) => self.dots.get(value).copied(),
            _ => None,
        };
        body.iter().filter_map(of).collect()
    }
}

/// Whether all products of a loop's body are in no further loop.
fn innermost(body: &[Stmt]) -> bool {
    body.iter().all(|s| !matches!(s, Stmt::Loop { body, .. } if dots(body) > 0))
}

/// How often values are read.
pub(super) fn count(body: &[Stmt], uses: &mut HashMap<TileId, usize>) {
    for stmt in body {
        let read = match stmt {
            Stmt::Let(_, expr) => expr_operands(expr),
            Stmt::When(mask) => vec![*mask],
            Stmt::Store { offset, value, mask, .. } => {
                offset.tiles().into_iter().chain(*mask).chain([*value]).collect()
            }
            Stmt::Loop { carried, body, .. } => {
                count(body, uses);
                carried.iter().flat_map(|c| [c.init, c.next]).collect()
            }
        };
        read.into_iter().for_each(|v| *uses.entry(v).or_default() += 1);
    }
}
