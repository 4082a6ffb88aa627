//! What is known of a kernel before its steps are planned: definitions, domains, and which values
//! get a home.
//!
//! **Barriers** are values that cannot be computed where they are used: results of products and
//! reductions, and what loops carry. Other values are *lanewise*; **kept** are those lanewise
//! values that get a home all the same:
//! - operands of products,
//! - values that vary along one variable, cost something or lie strewn in memory, and are read in a
//!   sweep over two,
//! - dear values that two sweeps read which cannot be one.

use std::collections::{BTreeMap, BTreeSet};

use gigac_ir::kernel::{self, Carry, Expr, Kernel, Scalar, Stmt, TileId, VarId};
use gigac_ir::pointwise::Pointwise;

use super::super::contraction::access::{Access, Starts, classify};
use super::Reason;
use super::home::LINE;
use crate::pattern::{Store, expr_operands};

/// Operations from which a value is rather read again than computed again.
const DEAR: u64 = 8;

/// A kernel with its definitions in tables.
pub(super) struct Program<'k> {
    pub(super) kernel: &'k Kernel,
    /// How values are made, but for those that loops carry.
    pub(super) exprs: BTreeMap<TileId, &'k Expr>,
    /// What loops carry, by argument.
    pub(super) carries: BTreeMap<TileId, &'k Carry>,
    /// Results of loops.
    pub(super) results: BTreeSet<TileId>,
    /// The block that defines a value: 0 is the grid's, the others are numbered as they open.
    pub(super) block: BTreeMap<TileId, usize>,
    /// Variables of the loops around the statements of each block, outermost first.
    pub(super) loops: Vec<Vec<VarId>>,
    /// All stores, in order.
    pub(super) stores: Vec<Store<'k>>,
    /// Lanewise values with a home.
    pub(super) kept: BTreeSet<TileId>,
    /// How often a value is named.
    uses: BTreeMap<TileId, usize>,
}

impl<'k> Program<'k> {
    /// Reads a kernel.
    ///
    /// # Errors
    /// Why it is no block program.
    pub(super) fn read(kernel: &'k Kernel) -> Result<Self, Reason> {
        let mut program = Self {
            kernel,
            exprs: BTreeMap::new(),
            carries: BTreeMap::new(),
            results: BTreeSet::new(),
            block: BTreeMap::new(),
            loops: vec![Vec::new()],
            stores: Vec::new(),
            kept: BTreeSet::new(),
            uses: BTreeMap::new(),
        };
        program.statements(&kernel.body, 0)?;
        program.check()?;
        program.keep();
        Ok(program)
    }

    fn statements(&mut self, body: &'k [Stmt], block: usize) -> Result<(), Reason> {
        for stmt in body {
            match stmt {
                Stmt::Let(value, expr) => {
                    self.exprs.insert(*value, expr);
                    self.block.insert(*value, block);
                    expr_operands(expr).into_iter().for_each(|o| self.use_of(o));
                }
                Stmt::When(mask) => self.use_of(*mask),
                Stmt::Store { buffer, offset, value, mask, accumulate } => {
                    let (buffer, value, mask) = (*buffer, *value, *mask);
                    let store = Store { buffer, offset, value, mask, accumulate: *accumulate };
                    offset.tiles().into_iter().chain(mask).chain([value]).for_each(|v| {
                        self.use_of(v);
                    });
                    self.stores.push(store);
                }
                Stmt::Loop { var, carried, body } => {
                    let mut around = self.loops[block].clone();
                    around.push(*var);
                    self.loops.push(around);
                    let inner = self.loops.len() - 1;
                    for carry in carried {
                        if self.kernel.ty(carry.arg).vars.contains(var) {
                            return Err("a carried tile varies along its loop");
                        }
                        self.carries.insert(carry.arg, carry);
                        self.results.insert(carry.result);
                        self.block.insert(carry.arg, inner);
                        self.block.insert(carry.result, block);
                        self.use_of(carry.init);
                        self.use_of(carry.next);
                    }
                    self.statements(body, inner)?;
                }
            }
        }
        Ok(())
    }

    fn use_of(&mut self, value: TileId) {
        *self.uses.entry(value).or_default() += 1;
    }

    fn check(&self) -> Result<(), Reason> {
        let all = self.block.keys();
        if all.clone().any(|v| self.domain(*v).len() > 2) {
            return Err("a value varies along three variables with tiles");
        }
        if self.kernel.buffers.iter().any(|b| b.access == kernel::Access::Local) {
            return Err("it uses local buffers");
        }
        let bool_home = |v: &TileId| self.is_barrier(*v) && self.scalar(*v) == Scalar::Bool;
        if all.clone().any(bool_home) {
            return Err("it carries or reduces truth values");
        }
        if all.clone().any(|v| self.is_barrier(*v) && self.domain(*v).is_empty()) {
            return Err("it carries or reduces to a single number");
        }
        let stored = |expr: &Expr| match expr {
            Expr::Load { buffer, .. } => self.stores.iter().any(|s| s.buffer == *buffer),
            _ => false,
        };
        if self.exprs.values().any(|expr| stored(expr)) {
            return Err("it loads what it stores");
        }
        let swaps = |c: &Carry| c.next != c.arg && self.carries.contains_key(&c.next);
        if self.carries.values().any(|c| swaps(c)) {
            return Err("a loop exchanges what it carries");
        }
        let products = self.exprs.iter().filter(|(_, e)| matches!(e, Expr::Dot(..)));
        for (value, expr) in products {
            let Expr::Dot(a, b, along) = expr else { continue };
            let own = |v: TileId| {
                let domain = self.domain(v);
                (domain.len() == 2 && domain.contains(along)).then_some(domain)
            };
            let (Some(_), Some(_)) = (own(*a), own(*b)) else {
                return Err("an operand of a `dot` varies not along two variables with tiles");
            };
            if self.domain(*value).len() != 2 {
                return Err("a `dot` has no rows or no columns");
            }
        }
        Ok(())
    }

    /// Element type of a value.
    pub(super) fn scalar(&self, value: TileId) -> Scalar {
        self.kernel.ty(value).scalar
    }

    /// Whether a variable has a tile above 1.
    pub(super) fn is_wide(&self, var: VarId) -> bool {
        self.kernel.var(var).tile > 1
    }

    /// The variables with a tile above 1 that a value varies along.
    pub(super) fn domain(&self, value: TileId) -> Vec<VarId> {
        self.kernel.ty(value).vars.iter().copied().filter(|v| self.is_wide(*v)).collect()
    }

    /// The variables with a tile above 1 that a store has lanes along.
    pub(super) fn store_domain(&self, store: &Store<'_>) -> Vec<VarId> {
        let tiles = store.offset.tiles().into_iter().chain(store.mask).chain([store.value]);
        let mut vars: Vec<VarId> = tiles.flat_map(|v| self.domain(v)).collect();
        vars.extend(store.offset.vars().into_iter().filter(|v| self.is_wide(*v)));
        vars.sort_unstable();
        vars.dedup();
        vars
    }

    /// Whether a value cannot be computed where it is used.
    pub(super) fn is_barrier(&self, value: TileId) -> bool {
        match self.exprs.get(&value) {
            Some(Expr::Dot(..) | Expr::Reduce(..)) => true,
            Some(_) => false,
            None => true,
        }
    }

    /// Whether a value has a home.
    pub(super) fn has_home(&self, value: TileId) -> bool {
        self.kept.contains(&value) || self.is_barrier(value)
    }

    /// The values with homes that computing a value reads; itself excluded.
    pub(super) fn leaves(&self, value: TileId) -> BTreeSet<TileId> {
        let mut found = BTreeSet::new();
        let mut open = self.operands(value);
        while let Some(next) = open.pop() {
            if self.has_home(next) {
                found.insert(next);
            } else {
                open.extend(self.operands(next));
            }
        }
        found
    }

    /// What a lanewise value is computed from.
    fn operands(&self, value: TileId) -> Vec<TileId> {
        match self.exprs.get(&value) {
            Some(expr) if !self.is_barrier(value) => expr_operands(expr),
            _ => Vec::new(),
        }
    }

    /// How often a value is named.
    pub(super) fn uses(&self, value: TileId) -> usize {
        self.uses.get(&value).copied().unwrap_or(0)
    }

    /// Operations for one element, down to values with homes.
    fn cost(&self, value: TileId) -> u64 {
        let own = match self.exprs.get(&value) {
            Some(Expr::Pointwise(function, _)) => u64::from(function.def().flops),
            Some(Expr::Noise { .. }) => 100,
            _ => 0,
        };
        let below = self.operands(value).into_iter().filter(|o| !self.has_home(*o));
        own + below.map(|o| self.cost(o)).sum::<u64>()
    }

    /// What is read by sweeps: the values that a sink computes, by the sink's domain and depth.
    fn sinks(&self) -> Vec<(TileId, Vec<VarId>)> {
        let mut sinks = Vec::new();
        for (value, expr) in &self.exprs {
            if let Expr::Reduce(_, of, _) = expr {
                sinks.push((*of, self.domain(*of)));
            } else if self.kept.contains(value) {
                sinks.push((*value, self.domain(*value)));
            }
        }
        for carry in self.carries.values() {
            sinks.push((carry.init, self.domain(carry.arg)));
            sinks.push((carry.next, self.domain(carry.arg)));
        }
        for store in &self.stores {
            let domain = self.store_domain(store);
            let read = store.offset.tiles().into_iter().chain(store.mask).chain([store.value]);
            sinks.extend(read.map(|v| (v, domain.clone())));
        }
        sinks
    }

    /// Chooses the lanewise values that get a home.
    fn keep(&mut self) {
        for expr in self.exprs.values() {
            if let Expr::Dot(a, b, _) = expr {
                let lanewise = [*a, *b].into_iter().filter(|v| !self.is_barrier(*v));
                self.kept.extend(lanewise.collect::<Vec<_>>());
            }
        }
        for carry in self.carries.values() {
            if let Some((base, _)) = self.accumulated(carry)
                && base != carry.arg
            {
                self.kept.insert(base);
            }
        }
        // Keeping a value makes it a sink whose own operands may have to be kept.
        loop {
            let before = self.kept.len();
            let narrow: Vec<TileId> =
                self.sinks().iter().flat_map(|(v, domain)| self.narrow(*v, domain)).collect();
            self.kept.extend(narrow);
            let shared = self.shared();
            self.kept.extend(shared);
            if self.kept.len() == before {
                return;
            }
        }
    }

    /// Whether a value of one variable is loaded from places apart: a load for each of its lanes.
    fn is_strewn(&self, value: TileId) -> bool {
        let Some(Expr::Load { offset, .. }) = self.exprs.get(&value) else { return false };
        let [along] = self.domain(value)[..] else { return false };
        let starts = Starts::Multiples(LINE);
        classify(self.kernel, offset, along, starts, LINE) == Access::Scattered
    }

    /// The largest values of one variable in the chain of a sink over two, that cost something.
    fn narrow(&self, sink: TileId, domain: &[VarId]) -> Vec<TileId> {
        let mut found = Vec::new();
        let mut open = vec![sink];
        while let Some(value) = open.pop() {
            let smaller = self.domain(value).len() == 1 && domain.len() == 2;
            let real = self.scalar(value) == Scalar::F32;
            if self.is_barrier(value) || (self.kept.contains(&value) && value != sink) {
                continue;
            }
            if smaller && real && (self.cost(value) > 0 || self.is_strewn(value)) {
                found.push(value);
            } else {
                open.extend(self.operands(value));
            }
        }
        found
    }

    /// Dear values that sinks of different depths read.
    fn shared(&self) -> Vec<TileId> {
        let mut readers: BTreeMap<TileId, BTreeSet<usize>> = BTreeMap::new();
        let mut depths = BTreeMap::new();
        for (sink, domain) in self.sinks() {
            let depth = self.depth(sink, &mut depths);
            let mut open = vec![sink];
            while let Some(value) = open.pop() {
                if self.is_barrier(value) || (self.kept.contains(&value) && value != sink) {
                    continue;
                }
                if self.domain(value) == domain && self.scalar(value) == Scalar::F32 {
                    readers.entry(value).or_default().insert(depth);
                }
                open.extend(self.operands(value));
            }
        }
        let shared = |v: &TileId| readers.get(v).is_some_and(|depths| depths.len() > 1);
        let whole: Vec<TileId> = readers.keys().copied().filter(shared).collect();
        // Of a chain that is shared as a whole, its end is kept.
        let inner: BTreeSet<TileId> = whole.iter().flat_map(|v| self.operands(*v)).collect();
        let ends = whole.into_iter().filter(|v| !inner.contains(v) && !self.kept.contains(v));
        ends.filter(|v| self.cost(*v) >= DEAR).collect()
    }

    /// Number of barriers, one on the other, below a value.
    fn depth(&self, value: TileId, known: &mut BTreeMap<TileId, usize>) -> usize {
        if let Some(depth) = known.get(&value) {
            return *depth;
        }
        let of = |values: Vec<TileId>, known: &mut BTreeMap<TileId, usize>| {
            values.into_iter().map(|v| self.depth(v, known)).max().unwrap_or(0)
        };
        let depth = match self.exprs.get(&value) {
            Some(expr) => of(expr_operands(expr), known) + usize::from(self.is_barrier(value)),
            None => 0,
        };
        known.insert(value, depth);
        depth
    }

    /// For a carry whose next value is its argument, perhaps changed element by element, plus a
    /// product that nothing else reads: the value that the product is added to, and the product.
    pub(super) fn accumulated(&self, carry: &Carry) -> Option<(TileId, TileId)> {
        let Some(Expr::Pointwise(Pointwise::Add, operands)) = self.exprs.get(&carry.next) else {
            return None;
        };
        let product = |v: TileId| {
            let dot = matches!(self.exprs.get(&v), Some(Expr::Dot(..)));
            dot && self.uses(v) == 1 && self.domain(v) == self.domain(carry.arg)
        };
        let (base, dot) = match operands[..] {
            [x, y] if product(y) => (x, y),
            [x, y] if product(x) => (y, x),
            _ => return None,
        };
        let alone = self.uses(carry.next) == 1 && self.is_chain(carry.arg, base);
        alone.then_some((base, dot))
    }

    /// Whether `end` is `start`, or computed from it by a chain of values that nothing else reads.
    fn is_chain(&self, start: TileId, end: TileId) -> bool {
        let mut value = end;
        loop {
            if self.uses(value) != 1 || self.domain(value) != self.domain(start) {
                return false;
            }
            if value == start {
                return true;
            }
            let same = |v: &TileId| self.reaches(start, *v);
            let next: Vec<TileId> = self.operands(value).into_iter().filter(same).collect();
            let [only] = next[..] else { return false };
            value = only;
        }
    }

    fn reaches(&self, start: TileId, value: TileId) -> bool {
        value == start || self.operands(value).into_iter().any(|o| self.reaches(start, o))
    }
}
