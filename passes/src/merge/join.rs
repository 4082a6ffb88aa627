//! Writes one kernel for two launches of products that have an operand in common.
//!
//! ```text
//! lets                                             ; of both, equal ones once
//! loop k carry (sums of the first, sums of the second) {
//!   lets                                           ; the common operand once
//!   dot and add for each sum
//! }
//! epilogue of the first, epilogue of the second    ; which takes from registers what the first one stores
//! ```

use std::collections::{BTreeSet, HashMap};

use gigac_ir::graph::ValueId;
use gigac_ir::kernel::{
    Access, Buffer, BufferId, Carry, Expr, Factor, Kernel, Offset, Scalar, Stmt, Storage, Term,
    TileId, TileType, VarId,
};
use gigac_ir::pointwise::Pointwise;

use crate::form::Launch;

/// A kernel for two launches.
pub(super) struct Joined {
    /// Without a name, and with the tiles of the first one.
    pub(super) kernel: Kernel,
    pub(super) arguments: Vec<ValueId>,
    pub(super) turns: Vec<u32>,
    pub(super) shape: Shape,
}

/// Products of one operand with several others, in one kernel.
pub(super) struct Shape {
    /// The variable of rows, and that of columns, along which results are contiguous.
    pub(super) rows: VarId,
    pub(super) cols: VarId,
    /// How often there are such products.
    pub(super) batch: u64,
    /// Rows and columns of each result.
    pub(super) extents: [u64; 2],
    /// Length of each sum.
    pub(super) depth: u64,
    /// Different operands with the rows, and with the columns: one of the two is 1.
    pub(super) operands: [u64; 2],
    /// Whether all operands have at most the digits of bf16.
    pub(super) bf16: bool,
    /// Whether what has the columns lies in memory as it is multiplied: f32, contiguous along them.
    pub(super) in_order: bool,
}

/// The parts of a kernel of products with one loop.
pub(super) struct Product<'k> {
    before: &'k [Stmt],
    /// The contracted variable.
    along: VarId,
    carried: &'k [Carry],
    body: &'k [Stmt],
    after: &'k [Stmt],
}

impl<'k> Product<'k> {
    /// Names the parts of a kernel, should it be of this kind: the grid and the contracted variable
    /// are all its variables, and the loop carries nothing but sums of products from 0 on.
    pub(super) fn of(kernel: &'k Kernel) -> Option<Self> {
        let body = &kernel.body;
        let at = body.iter().position(|s| matches!(s, Stmt::Loop { .. }))?;
        let (before, after) = (&body[..at], &body[at + 1..]);
        let Stmt::Loop { var, carried, body } = &body[at] else { unreachable!("a loop is there") };
        let lets = |stmts: &[Stmt]| stmts.iter().all(|s| matches!(s, Stmt::Let(..)));
        let straight = after.iter().all(|s| matches!(s, Stmt::Let(..) | Stmt::Store { .. }));
        let own = kernel.buffers.iter().all(|b| b.access != Access::Local);
        let vars = kernel.vars.len() == kernel.grid.len() + 1 && kernel.grid.len() >= 2;
        let found = Self { before, along: *var, carried, body, after };
        let fits = lets(before) && lets(body) && straight && own && vars;
        (fits && !carried.is_empty() && carried.iter().all(|c| found.is_sum(c))).then_some(found)
    }

    fn is_sum(&self, carry: &Carry) -> bool {
        let dot = |value: TileId| {
            let made = definition(self.body, value);
            matches!(made, Some(Expr::Dot(_, _, along)) if *along == self.along)
        };
        let adds = match definition(self.body, carry.next) {
            Some(Expr::Pointwise(Pointwise::Add, x)) => x[0] == carry.arg && dot(x[1]),
            _ => false,
        };
        adds && matches!(definition(self.before, carry.init), Some(Expr::Real(0.0)))
    }
}

fn definition(stmts: &[Stmt], value: TileId) -> Option<&Expr> {
    stmts.iter().find_map(|stmt| match stmt {
        Stmt::Let(tile, expr) if *tile == value => Some(expr),
        _ => None,
    })
}

/// One kernel for two launches; none where they do not fit together. `is_read` says whether anybody
/// but the two reads a value.
pub(super) fn join(
    first: (&Kernel, &Launch),
    second: (&Kernel, &Launch),
    is_read: &dyn Fn(ValueId) -> bool,
) -> Option<Joined> {
    let parts = [Product::of(first.0)?, Product::of(second.0)?];
    if !same_grid(first.0, second.0, &parts) {
        return None;
    }
    let mut writer = Writer::new(first.0);
    let [one, two] = parts;
    writer.add(first, &one)?;
    writer.add(second, &two)?;
    let shape = writer.shape(one.along)?;
    writer.drop_unread(is_read);
    Some(writer.finish(one.along, shape))
}

/// Whether variables of the grid and the contracted ones have the same sizes.
fn same_grid(a: &Kernel, b: &Kernel, [one, two]: &[Product<'_>; 2]) -> bool {
    let extents = |k: &Kernel| k.grid.iter().map(|v| k.var(*v).extent).collect::<Vec<_>>();
    let depth = |k: &Kernel, p: &Product<'_>| (k.var(p.along).extent, k.var(p.along).tile);
    extents(a) == extents(b) && depth(a, one) == depth(b, two)
}

/// A block being written.
#[derive(Default)]
struct Block {
    stmts: Vec<Stmt>,
    /// Values by how they are made.
    known: HashMap<String, TileId>,
}

/// The blocks of the kernel.
const BEFORE: usize = 0;
const BODY: usize = 1;
const AFTER: usize = 2;

struct Writer {
    kernel: Kernel,
    arguments: Vec<ValueId>,
    turns: Vec<u32>,
    blocks: [Block; 3],
    carried: Vec<Carry>,
}

/// What the names of one of the two kernels are called in the one that is written.
struct Names {
    vars: Vec<VarId>,
    scalars: Vec<u32>,
    buffers: Vec<BufferId>,
    tiles: HashMap<TileId, TileId>,
}

impl Writer {
    /// An empty kernel with the variables of another one.
    fn new(like: &Kernel) -> Self {
        let kernel = Kernel {
            name: String::new(),
            origin: String::new(),
            buffers: Vec::new(),
            scalars: Vec::new(),
            vars: like.vars.clone(),
            grid: like.grid.clone(),
            values: Vec::new(),
            body: Vec::new(),
        };
        let blocks = [Block::default(), Block::default(), Block::default()];
        Self { kernel, arguments: Vec::new(), turns: Vec::new(), blocks, carried: Vec::new() }
    }

    /// Appends a kernel's statements to those that are there.
    fn add(&mut self, (kernel, launch): (&Kernel, &Launch), parts: &Product<'_>) -> Option<()> {
        let mut names = self.names(kernel, launch, parts.along);
        let stored = self.stored();
        let meets = |stmts: &[Stmt]| {
            accesses(stmts).any(|(b, ..)| stored.contains(&names.buffers[b.0 as usize]))
        };
        let loaded = self.loaded();
        let spoils = accesses(parts.after).any(|(b, _, store)| {
            let buffer = names.buffers[b.0 as usize];
            store && (loaded.contains(&buffer) || stored.contains(&buffer))
        });
        if meets(parts.before) || meets(parts.body) || spoils {
            return None;
        }
        self.lets(BEFORE, parts.before, kernel, &mut names)?;
        for carry in parts.carried {
            for tile in [carry.arg, carry.result] {
                let ty = names.ty(kernel.ty(tile));
                names.tiles.insert(tile, self.fresh(ty));
            }
        }
        self.lets(BODY, parts.body, kernel, &mut names)?;
        self.carried.extend(parts.carried.iter().map(|c| Carry {
            init: names.tile(c.init),
            arg: names.tile(c.arg),
            next: names.tile(c.next),
            result: names.tile(c.result),
        }));
        self.lets(AFTER, parts.after, kernel, &mut names)
    }

    fn names(&mut self, kernel: &Kernel, launch: &Launch, along: VarId) -> Names {
        let own = (0..self.kernel.vars.len() as u32).map(VarId);
        let mut own = own.filter(|v| !self.kernel.grid.contains(v));
        let contracted = own.next().expect("the contracted variable");
        let mut vars = vec![contracted; kernel.vars.len()];
        for (theirs, ours) in kernel.grid.iter().zip(&self.kernel.grid) {
            vars[theirs.0 as usize] = *ours;
        }
        vars[along.0 as usize] = contracted;
        let scalars = launch.turns.iter().map(|turn| self.turn(*turn)).collect();
        let arguments = launch.arguments.iter().zip(&kernel.buffers);
        let buffers = arguments.map(|(value, buffer)| self.buffer(*value, buffer)).collect();
        Names { vars, scalars, buffers, tiles: HashMap::new() }
    }

    fn turn(&mut self, turn: u32) -> u32 {
        let known = self.turns.iter().position(|t| *t == turn);
        known.unwrap_or_else(|| {
            self.turns.push(turn);
            self.kernel.scalars.push(format!("turn{turn}"));
            self.turns.len() - 1
        }) as u32
    }

    fn buffer(&mut self, value: ValueId, like: &Buffer) -> BufferId {
        let known = self.arguments.iter().position(|v| *v == value);
        let number = known.unwrap_or_else(|| {
            self.arguments.push(value);
            self.kernel.buffers.push(like.clone());
            self.arguments.len() - 1
        });
        BufferId(number as u32)
    }

    fn fresh(&mut self, ty: TileType) -> TileId {
        self.kernel.values.push(ty);
        TileId(self.kernel.values.len() as u32 - 1)
    }

    /// Buffers that the statements so far store to, or load from.
    fn stored(&self) -> BTreeSet<BufferId> {
        self.accessed(true)
    }

    fn loaded(&self) -> BTreeSet<BufferId> {
        self.accessed(false)
    }

    fn accessed(&self, stores: bool) -> BTreeSet<BufferId> {
        let all = self.blocks.iter().flat_map(|block| accesses(&block.stmts));
        all.filter(|(_, _, store)| *store == stores).map(|(buffer, ..)| buffer).collect()
    }

    /// Appends lets and stores to a block.
    fn lets(
        &mut self,
        block: usize,
        stmts: &[Stmt],
        kernel: &Kernel,
        names: &mut Names,
    ) -> Option<()> {
        // Of this kernel's own stores nothing is read.
        let forwarded: Vec<Stmt> = self.blocks[AFTER].stmts.clone();
        for stmt in stmts {
            match stmt {
                Stmt::Let(tile, expr) => {
                    let (expr, ty) = (names.expr(expr), names.ty(kernel.ty(*tile)));
                    let value = match self.forward(&forwarded, &expr, &ty)? {
                        Some(value) => value,
                        None => self.define(block, expr, ty),
                    };
                    names.tiles.insert(*tile, value);
                }
                Stmt::Store { buffer, offset, value, mask, accumulate } => {
                    let store = Stmt::Store {
                        buffer: names.buffers[buffer.0 as usize],
                        offset: names.offset(offset),
                        value: names.tile(*value),
                        mask: mask.map(|mask| names.tile(mask)),
                        accumulate: *accumulate,
                    };
                    self.blocks[block].stmts.push(store);
                }
                Stmt::Loop { .. } | Stmt::When(_) => unreachable!("lets and stores alone"),
            }
        }
        Some(())
    }

    /// A value made by an expression in a block or around it.
    fn define(&mut self, block: usize, expr: Expr, ty: TileType) -> TileId {
        let key = format!("{expr:?}");
        let around = if block == BEFORE { &[BEFORE][..] } else { &[BEFORE, block] };
        if let Some(known) = around.iter().find_map(|b| self.blocks[*b].known.get(&key)) {
            return *known;
        }
        let tile = self.fresh(ty);
        self.blocks[block].stmts.push(Stmt::Let(tile, expr));
        self.blocks[block].known.insert(key, tile);
        tile
    }

    /// What a load finds that reads a stored element, if it reads one: `None` where that is not
    /// known.
    #[expect(clippy::option_option, reason = "the outer one ends the joining")]
    fn forward(&mut self, stores: &[Stmt], expr: &Expr, ty: &TileType) -> Option<Option<TileId>> {
        let Expr::Load { buffer, offset, mask } = expr else { return Some(None) };
        let mut own = stores.iter().filter_map(|stmt| match stmt {
            Stmt::Store { buffer: b, offset, value, mask, accumulate } if b == buffer => {
                Some((offset, *value, mask.is_none() && !accumulate))
            }
            _ => None,
        });
        let Some((stored, value, whole)) = own.next() else { return Some(None) };
        let alone = own.next().is_none();
        let found = self.kernel.ty(value) == ty;
        if !(alone && whole && found && mask.is_none() && stored == offset) {
            return None;
        }
        let narrow = self.kernel.buffers[buffer.0 as usize].storage == Storage::Bf16;
        Some(Some(if narrow { self.rounded(value, ty) } else { value }))
    }

    /// A value as a store leaves it in bf16.
    fn rounded(&mut self, value: TileId, ty: &TileType) -> TileId {
        match definition(&self.blocks[AFTER].stmts, value) {
            Some(Expr::Pointwise(Pointwise::Bf16, _)) => value,
            _ => {
                let rounded = Expr::Pointwise(Pointwise::Bf16, vec![value]);
                self.define(AFTER, rounded, ty.clone())
            }
        }
    }

    /// What the products have in common; none when no operand is common to all.
    fn shape(&self, along: VarId) -> Option<Shape> {
        let dots: Vec<[TileId; 2]> = self.blocks[BODY]
            .stmts
            .iter()
            .filter_map(|stmt| match stmt {
                Stmt::Let(_, Expr::Dot(a, b, _)) => Some([*a, *b]),
                _ => None,
            })
            .collect();
        let shared = dots[0].into_iter().find(|x| dots.iter().all(|dot| dot.contains(x)))?;
        let grid = &self.kernel.grid;
        let (rows, cols) = (*grid.last()?, *grid.get(grid.len().checked_sub(2)?)?);
        let varies = |tile: TileId, var: VarId| self.kernel.ty(tile).vars.contains(&var);
        let operands: BTreeSet<TileId> = dots.iter().flatten().copied().collect();
        let count = |var| operands.iter().filter(|tile| varies(**tile, var)).count() as u64;
        let extent = |var: VarId| self.kernel.var(var).extent;
        let batch = grid[..grid.len() - 2].iter().map(|v| extent(*v)).product();
        let one_sided = varies(shared, rows) != varies(shared, cols);
        (one_sided && self.carried.len() == dots.len()).then_some(Shape {
            rows,
            cols,
            batch,
            extents: [extent(rows), extent(cols)],
            depth: extent(along),
            operands: [count(rows), count(cols)],
            bf16: operands.iter().all(|tile| self.is_bf16(*tile)),
            in_order: operands
                .iter()
                .filter(|t| varies(**t, cols))
                .all(|t| self.in_order(*t, cols)),
        })
    }

    /// Whether an operand is a load of f32 that is contiguous along a variable.
    fn in_order(&self, tile: TileId, along: VarId) -> bool {
        let plain = Factor::Digit { var: along, divisor: 1, modulus: 0 };
        let unit = |term: &Term| term.coefficient == 1 && term.factor == plain;
        match definition(&self.blocks[BODY].stmts, tile) {
            Some(Expr::Load { buffer, offset, mask: None }) => {
                let storage = self.kernel.buffers[buffer.0 as usize].storage;
                storage == Storage::F32 && offset.terms.iter().any(unit)
            }
            _ => false,
        }
    }

    /// Whether an operand has at most the digits of bf16, as far as its load or last rounding tells.
    fn is_bf16(&self, tile: TileId) -> bool {
        let blocks = [BEFORE, BODY];
        let made = blocks.iter().find_map(|b| definition(&self.blocks[*b].stmts, tile));
        match made {
            Some(Expr::Load { buffer, .. }) => {
                self.kernel.buffers[buffer.0 as usize].storage == Storage::Bf16
            }
            Some(Expr::Pointwise(Pointwise::Bf16, _)) => true,
            _ => false,
        }
    }

    /// Leaves out stores of what nobody reads any more.
    fn drop_unread(&mut self, is_read: &dyn Fn(ValueId) -> bool) {
        let Self { blocks, arguments, .. } = self;
        blocks[AFTER].stmts.retain(|stmt| match stmt {
            Stmt::Store { buffer, .. } => is_read(arguments[buffer.0 as usize]),
            _ => true,
        });
    }

    /// The kernel, with the buffers that it has use for.
    fn finish(mut self, along: VarId, shape: Shape) -> Joined {
        let [before, body, after] = self.blocks.map(|block| block.stmts);
        let turns = Stmt::Loop { var: along, carried: self.carried, body };
        self.kernel.body = before;
        self.kernel.body.push(turns);
        self.kernel.body.extend(after);
        let uses = uses(&self.kernel);
        let used = |(i, _): &(usize, ValueId)| uses[*i].is_some();
        let arguments = self.arguments.into_iter().enumerate().filter(used).map(|(_, v)| v);
        let arguments = arguments.collect();
        let mut new = vec![BufferId(u32::MAX); uses.len()];
        let mut buffers = Vec::new();
        for (i, (mut buffer, access)) in self.kernel.buffers.into_iter().zip(uses).enumerate() {
            let Some(access) = access else { continue };
            new[i] = BufferId(buffers.len() as u32);
            buffer.name = format!("b{}", buffers.len());
            buffer.access = access;
            buffers.push(buffer);
        }
        self.kernel.buffers = buffers;
        renumber(&mut self.kernel.body, &new);
        Joined { kernel: self.kernel, arguments, turns: self.turns, shape }
    }
}

impl Names {
    fn tile(&self, tile: TileId) -> TileId {
        self.tiles[&tile]
    }

    fn var(&self, var: VarId) -> VarId {
        self.vars[var.0 as usize]
    }

    fn ty(&self, ty: &TileType) -> TileType {
        let mut vars: Vec<VarId> = ty.vars.iter().map(|v| self.var(*v)).collect();
        vars.sort_unstable();
        let scalar: Scalar = ty.scalar;
        TileType { scalar, vars }
    }

    fn offset(&self, offset: &Offset) -> Offset {
        offset.terms.iter().fold(Offset::constant(offset.constant), |sum, term| {
            let Term { coefficient, factor } = *term;
            let factor = match factor {
                Factor::Digit { var, divisor, modulus } => {
                    Factor::Digit { var: self.var(var), divisor, modulus }
                }
                Factor::Scalar(scalar) => Factor::Scalar(self.scalars[scalar as usize]),
                Factor::Tile(tile) => Factor::Tile(self.tile(tile)),
            };
            sum.plus(&Offset::factor(factor).times(coefficient))
        })
    }

    fn expr(&self, expr: &Expr) -> Expr {
        let tiles = |tiles: &[TileId]| tiles.iter().map(|t| self.tile(*t)).collect();
        match expr {
            Expr::Real(_) | Expr::Int(_) | Expr::Bool(_) => expr.clone(),
            Expr::Index(offset) => Expr::Index(self.offset(offset)),
            Expr::Load { buffer, offset, mask } => Expr::Load {
                buffer: self.buffers[buffer.0 as usize],
                offset: self.offset(offset),
                mask: mask.map(|mask| self.tile(mask)),
            },
            Expr::Pointwise(function, operands) => Expr::Pointwise(*function, tiles(operands)),
            Expr::Reduce(op, tile, var) => Expr::Reduce(*op, self.tile(*tile), self.var(*var)),
            Expr::Dot(a, b, var) => Expr::Dot(self.tile(*a), self.tile(*b), self.var(*var)),
            Expr::Noise { key, counter } => Expr::Noise { key: *key, counter: tiles(counter) },
        }
    }
}

/// Loads and stores of statements, loops inside included: the buffer, whether a store also adds, and
/// whether it is a store.
fn accesses(stmts: &[Stmt]) -> Box<dyn Iterator<Item = (BufferId, bool, bool)> + '_> {
    Box::new(stmts.iter().flat_map(|stmt| -> Box<dyn Iterator<Item = _> + '_> {
        match stmt {
            Stmt::Let(_, Expr::Load { buffer, .. }) => {
                Box::new(std::iter::once((*buffer, false, false)))
            }
            Stmt::Store { buffer, accumulate, .. } => {
                Box::new(std::iter::once((*buffer, *accumulate, true)))
            }
            Stmt::Loop { body, .. } => accesses(body),
            Stmt::Let(..) | Stmt::When(_) => Box::new(std::iter::empty()),
        }
    }))
}

/// What a kernel does with each buffer; nothing with some.
fn uses(kernel: &Kernel) -> Vec<Option<Access>> {
    let mut uses = vec![None; kernel.buffers.len()];
    for (buffer, adds, store) in accesses(&kernel.body) {
        let access = match (store, adds) {
            (false, _) => Access::Read,
            (true, false) => Access::Write,
            (true, true) => Access::ReadWrite,
        };
        let known = &mut uses[buffer.0 as usize];
        *known = Some(match *known {
            Some(other) if other != access => Access::ReadWrite,
            _ => access,
        });
    }
    uses
}

/// Gives the buffers of all accesses new numbers.
fn renumber(stmts: &mut [Stmt], new: &[BufferId]) {
    for stmt in stmts {
        match stmt {
            Stmt::Let(_, Expr::Load { buffer, .. }) | Stmt::Store { buffer, .. } => {
                *buffer = new[buffer.0 as usize];
            }
            Stmt::Loop { body, .. } => renumber(body, new),
            Stmt::Let(..) | Stmt::When(_) => {}
        }
    }
}
