//! Traces graph values into tile programs: turns "the value at these positions" into kernel
//! statements, inlining everything that is not stored.

use std::collections::{BTreeSet, HashMap, HashSet};

use gigac_ir::graph::{AxisId, DType, Graph, Node, Op, ValueId};
use gigac_ir::kernel::{
    Access, Buffer, BufferId, Carry, Expr, Factor, Kernel, Machine, Offset, Reduction, Scalar,
    Stmt, Term, TileId, TileType, Var, VarId,
};
use gigac_ir::pointwise::Pointwise;

use super::defs::{Class, Def, Defs, class};
use super::layout::Layouts;

/// Where along each axis a value is read.
pub(crate) type Positions = Vec<(AxisId, Offset)>;

/// What tracing needs to know of the graph.
pub(crate) struct Context<'g> {
    /// The graph.
    pub(crate) graph: &'g Graph,
    /// Who defines what.
    pub(crate) defs: Defs<'g>,
    /// Values that lie in memory.
    pub(crate) stored: HashSet<ValueId>,
    /// In which order of axes.
    pub(crate) layouts: Layouts,
    /// Axes of repeats: no decision depends on their sizes.
    pub(crate) depth: BTreeSet<AxisId>,
    /// How often each value is used.
    pub(crate) uses: HashMap<ValueId, usize>,
    /// Whether sums must be added in the order that the graph says.
    pub(crate) exact: bool,
    /// What tiles are chosen for.
    pub(crate) machine: Machine,
}

impl Context<'_> {
    /// The axes of a value in the order of the memory that it is read from, slowest first; those
    /// that a view makes last.
    pub(crate) fn order(&self, value: ValueId) -> Vec<AxisId> {
        let ty = self.graph.ty(value);
        let mut axes: Vec<AxisId> = self.layouts.of(value).to_vec();
        axes.retain(|a| ty.has(*a));
        axes.extend(ty.axes.iter().filter(|a| !axes.contains(a)).copied().collect::<Vec<_>>());
        axes
    }
}

/// What the elements of a type are in registers.
pub(crate) fn scalar(dtype: DType) -> Scalar {
    match dtype {
        DType::F32 | DType::Bf16 => Scalar::F32,
        DType::Int { .. } => Scalar::I32,
        DType::Bool => Scalar::Bool,
    }
}

/// Buffers from this one on are local, until the number of arguments is known.
const FIRST_LOCAL: u32 = 1 << 31;

/// A value that only the grid point that computes it reads: the elements of the point's rows.
pub(crate) struct Local {
    /// The value.
    pub(crate) value: ValueId,
    /// Axes that the grid runs over.
    pub(crate) rows: Vec<AxisId>,
    /// Variables of the grid with several lanes, and how many: those that lie outside of the point's
    /// other axes in memory ...
    pub(crate) outer: Vec<(VarId, u64)>,
    /// ... and the one inside.
    pub(crate) inner: Option<(VarId, u64)>,
    /// Elements of a grid point.
    pub(crate) elements: u64,
}

/// Changes the buffers of all accesses.
fn renumber(stmts: &mut [Stmt], change: &dyn Fn(&mut BufferId)) {
    for stmt in stmts {
        match stmt {
            Stmt::Let(_, Expr::Load { buffer, .. }) | Stmt::Store { buffer, .. } => change(buffer),
            Stmt::Loop { body, .. } => renumber(body, change),
            Stmt::Let(..) | Stmt::When(_) => {}
        }
    }
}

/// A block under construction: the grid's, or a loop's.
struct Frame {
    var: Option<VarId>,
    stmts: Vec<Stmt>,
    memo: HashMap<String, TileId>,
}

/// A kernel under construction.
pub(crate) struct Tracer<'c, 'g> {
    pub(crate) context: &'c Context<'g>,
    pub(crate) kernel: Kernel,
    /// The values behind the argument buffers, in order.
    pub(crate) arguments: Vec<ValueId>,
    /// The turns behind the scalars, as nesting depths.
    pub(crate) turns: Vec<u32>,
    /// Values that lie in memory of a grid point's own.
    locals: Vec<Local>,
    /// Tiles of values computed in this kernel, at the positions of the iteration; of a cast to bf16,
    /// before it rounds.
    pub(crate) computed: HashMap<ValueId, TileId>,
    frames: Vec<Frame>,
}

impl<'c, 'g> Tracer<'c, 'g> {
    /// A kernel with the given grid.
    pub(crate) fn new(context: &'c Context<'g>, vars: Vec<Var>, grid: Vec<VarId>) -> Self {
        let kernel = Kernel {
            name: String::new(),
            origin: String::new(),
            buffers: Vec::new(),
            scalars: Vec::new(),
            vars,
            grid,
            values: Vec::new(),
            body: Vec::new(),
        };
        let root = Frame { var: None, stmts: Vec::new(), memo: HashMap::new() };
        Self {
            context,
            kernel,
            arguments: Vec::new(),
            turns: Vec::new(),
            locals: Vec::new(),
            computed: HashMap::new(),
            frames: vec![root],
        }
    }

    /// The finished kernel.
    pub(crate) fn finish(mut self) -> Traced {
        assert_eq!(self.frames.len(), 1, "a loop was opened and not closed");
        self.kernel.body = self.frames.pop().expect("the grid's block").stmts;
        self.append_locals();
        Traced { kernel: self.kernel, arguments: self.arguments, turns: self.turns }
    }

    /// Opens a loop.
    pub(crate) fn open(&mut self, var: VarId) {
        self.frames.push(Frame { var: Some(var), stmts: Vec::new(), memo: HashMap::new() });
    }

    /// Closes the innermost loop.
    pub(crate) fn close(&mut self, carried: Vec<Carry>) {
        let frame = self.frames.pop().expect("a loop is open");
        let var = frame.var.expect("a loop is open");
        self.innermost().stmts.push(Stmt::Loop { var, carried, body: frame.stmts });
        self.computed.retain(|_, tile| !self.kernel.values[tile.0 as usize].vars.contains(&var));
    }

    /// A value without a definition yet, for carried values.
    pub(crate) fn fresh(&mut self, scalar: Scalar, mut vars: Vec<VarId>) -> TileId {
        vars.sort_unstable();
        vars.dedup();
        self.kernel.values.push(TileType { scalar, vars });
        TileId(self.kernel.values.len() as u32 - 1)
    }

    /// Adds a statement to the innermost block.
    pub(crate) fn push(&mut self, stmt: Stmt) {
        self.innermost().stmts.push(stmt);
    }

    /// The type of a tile.
    pub(crate) fn ty(&self, tile: TileId) -> &TileType {
        self.kernel.ty(tile)
    }

    fn innermost(&mut self) -> &mut Frame {
        self.frames.last_mut().expect("the grid's block is open")
    }

    /// The outermost block in which all these variables have a position.
    fn level(&self, vars: &[VarId]) -> usize {
        let loops = self.frames.iter().enumerate().rev();
        loops
            .filter(|(_, f)| f.var.is_some_and(|v| vars.contains(&v)))
            .map(|(i, _)| i)
            .next()
            .unwrap_or(0)
    }

    /// Defines a tile in the outermost block that can, or finds it there.
    pub(crate) fn emit(&mut self, expr: Expr, scalar: Scalar, vars: Vec<VarId>) -> TileId {
        let level = self.level(&vars).max(self.operand_level(&expr));
        let key = format!("{expr:?}");
        if let Some(tile) = self.frames[..=level].iter().rev().find_map(|f| f.memo.get(&key)) {
            return *tile;
        }
        let tile = self.fresh(scalar, vars);
        self.frames[level].stmts.push(Stmt::Let(tile, expr));
        self.frames[level].memo.insert(key, tile);
        tile
    }

    /// The innermost block that defines an operand. Carried arguments vary along nothing that
    /// tells their block, so uses of them are emitted with [`Tracer::emit_here`].
    fn operand_level(&self, expr: &Expr) -> usize {
        match expr {
            // Memory may have been written in this block: stay here unless nothing varies.
            Expr::Reduce(_, tile, var) => self.level(&self.ty(*tile).vars).max(self.level(&[*var])),
            Expr::Dot(a, b, var) => {
                let vars: Vec<VarId> = [&self.ty(*a).vars[..], &self.ty(*b).vars, &[*var]].concat();
                self.level(&vars)
            }
            _ => 0,
        }
    }

    /// Defines a tile in the innermost block.
    pub(crate) fn emit_here(&mut self, expr: Expr, scalar: Scalar, vars: Vec<VarId>) -> TileId {
        let tile = self.fresh(scalar, vars);
        self.innermost().stmts.push(Stmt::Let(tile, expr));
        tile
    }

    /// Union of the variables that tiles vary along.
    pub(crate) fn union(&self, tiles: &[TileId]) -> Vec<VarId> {
        let mut vars: Vec<VarId> =
            tiles.iter().flat_map(|t| self.ty(*t).vars.iter().copied()).collect();
        vars.sort_unstable();
        vars.dedup();
        vars
    }

    /// A pointwise function of tiles.
    pub(crate) fn pointwise(&mut self, function: Pointwise, operands: &[TileId]) -> TileId {
        use gigac_ir::pointwise::Typing;
        let scalar = match function.def().typing {
            Typing::Real | Typing::Rounding | Typing::ToReal => Scalar::F32,
            Typing::Integer => Scalar::I32,
            Typing::Compare | Typing::Logic => Scalar::Bool,
            Typing::Arithmetic => self.ty(operands[0]).scalar,
            Typing::Select => self.ty(operands[1]).scalar,
        };
        let vars = self.union(operands);
        self.emit(Expr::Pointwise(function, operands.to_vec()), scalar, vars)
    }

    /// An int tile of an offset.
    pub(crate) fn index(&mut self, offset: &Offset) -> TileId {
        if let ([Term { coefficient: 1, factor: Factor::Tile(tile) }], 0) =
            (&offset.terms[..], offset.constant)
        {
            return *tile;
        }
        let vars = self.offset_vars(offset);
        self.emit(Expr::Index(offset.clone()), Scalar::I32, vars)
    }

    /// Variables that an offset depends on.
    pub(crate) fn offset_vars(&self, offset: &Offset) -> Vec<VarId> {
        let mut vars: Vec<VarId> = offset
            .terms
            .iter()
            .flat_map(|term| match term.factor {
                Factor::Digit { var, .. } => vec![var],
                Factor::Scalar(_) => Vec::new(),
                Factor::Tile(tile) => self.ty(tile).vars.clone(),
            })
            .collect();
        vars.sort_unstable();
        vars.dedup();
        vars
    }

    /// Has a value lie in memory of a grid point's own instead of an argument.
    pub(crate) fn localise(&mut self, local: Local) {
        self.locals.push(local);
    }

    /// Puts local buffers behind the arguments, whose number is known now.
    fn append_locals(&mut self) {
        let arguments = self.kernel.buffers.len() as u32;
        renumber(&mut self.kernel.body, &|buffer: &mut BufferId| {
            if buffer.0 >= FIRST_LOCAL {
                buffer.0 = buffer.0 - FIRST_LOCAL + arguments;
            }
        });
        for (i, local) in self.locals.iter().enumerate() {
            let dtype = self.context.graph.ty(local.value).dtype;
            let (name, storage) = (format!("l{i}"), dtype.storage());
            let access = Access::Local;
            self.kernel.buffers.push(Buffer {
                name,
                storage,
                elements: local.elements,
                access,
                below: None,
            });
        }
    }

    fn local(&self, value: ValueId) -> Option<(u32, &Local)> {
        (FIRST_LOCAL..).zip(&self.locals).find(|(_, local)| local.value == value)
    }

    /// The buffer of a stored value.
    pub(crate) fn buffer(&mut self, value: ValueId, access: Access) -> BufferId {
        if let Some((buffer, _)) = self.local(value) {
            return BufferId(buffer);
        }
        if let Some(i) = self.arguments.iter().position(|a| *a == value) {
            let buffer = &mut self.kernel.buffers[i];
            if buffer.access != access {
                buffer.access = Access::ReadWrite;
            }
            return BufferId(i as u32);
        }
        let ty = self.context.graph.ty(value);
        let name = format!("b{}", self.arguments.len());
        let elements = self.context.graph.elements(&ty.axes);
        let below = match ty.dtype {
            DType::Int { lo: 0.., hi } => u64::try_from(hi).ok(),
            _ => None,
        };
        let storage = ty.dtype.storage();
        self.kernel.buffers.push(Buffer { name, storage, elements, access, below });
        self.arguments.push(value);
        BufferId(self.arguments.len() as u32 - 1)
    }

    /// The element offset of a stored value at some positions.
    pub(crate) fn element(&self, value: ValueId, positions: &Positions) -> Offset {
        let mut stride = 1;
        let mut offset = Offset::default();
        let local = self.local(value).map(|(_, local)| local);
        let lane = |(var, lanes): (VarId, u64)| {
            Offset::factor(Factor::Digit { var, divisor: 1, modulus: lanes })
        };
        if let Some((var, lanes)) = local.and_then(|local| local.inner) {
            offset = lane((var, lanes));
            stride = lanes as i64;
        }
        for axis in self.context.layouts.of(value).iter().rev() {
            if local.is_some_and(|local| local.rows.contains(axis)) {
                continue;
            }
            offset = offset.plus(&at(positions, *axis).clone().times(stride));
            stride *= self.context.graph.size(*axis) as i64;
        }
        for (var, lanes) in local.iter().flat_map(|local| &local.outer).rev() {
            offset = offset.plus(&lane((*var, *lanes)).times(stride));
            stride *= *lanes as i64;
        }
        super::digits::simplify(offset, &self.kernel.vars)
    }

    /// Stores a tile as a value's elements at some positions.
    pub(crate) fn store(&mut self, value: ValueId, positions: &Positions, tile: TileId, add: bool) {
        self.store_where(value, positions, tile, None, add);
    }

    /// The same for the lanes in which a mask holds.
    pub(crate) fn store_where(
        &mut self,
        value: ValueId,
        positions: &Positions,
        tile: TileId,
        mask: Option<TileId>,
        accumulate: bool,
    ) {
        let offset = self.element(value, positions);
        let access = if accumulate { Access::ReadWrite } else { Access::Write };
        let buffer = self.buffer(value, access);
        let mut vars = self.offset_vars(&offset);
        vars.extend([Some(tile), mask].into_iter().flatten().flat_map(|t| self.ty(t).vars.clone()));
        let level = if accumulate { self.frames.len() - 1 } else { self.level(&vars) };
        let store = Stmt::Store { buffer, offset, value: tile, mask, accumulate };
        self.frames[level].stmts.push(store);
    }

    /// The tile of a value at some positions; lanes whose mask is false may hold anything.
    pub(crate) fn value(&mut self, value: ValueId, at: &Positions, mask: Option<TileId>) -> TileId {
        if let Some(tile) = self.computed.get(&value).copied() {
            return if self.rounds(value) {
                self.pointwise(Pointwise::Bf16, &[tile])
            } else {
                tile
            };
        }
        if self.context.stored.contains(&value) {
            return self.load(value, at, mask);
        }
        match self.context.defs.get(value) {
            Def::Turn(depth) => {
                let offset = Offset::factor(Factor::Scalar(self.turn(depth)));
                self.index(&offset)
            }
            Def::Argument => panic!("{value}: an argument of a region is stored"),
            Def::Node(node) => self.node(node, at, mask),
        }
    }

    fn load(&mut self, value: ValueId, at: &Positions, mask: Option<TileId>) -> TileId {
        let offset = self.element(value, at);
        let buffer = self.buffer(value, Access::Read);
        let mut vars = self.offset_vars(&offset);
        if let Some(mask) = mask {
            vars = [vars, self.ty(mask).vars.clone()].concat();
        }
        let scalar = scalar(self.context.graph.ty(value).dtype);
        self.emit(Expr::Load { buffer, offset, mask }, scalar, vars)
    }

    fn turn(&mut self, depth: u32) -> u32 {
        if let Some(i) = self.turns.iter().position(|d| *d == depth) {
            return i as u32;
        }
        self.turns.push(depth);
        self.kernel.scalars.push(format!("turn{depth}"));
        self.turns.len() as u32 - 1
    }

    /// The tile of what a node computes, whether it is stored or not.
    pub(crate) fn node(&mut self, node: &Node, at: &Positions, mask: Option<TileId>) -> TileId {
        match &node.op {
            Op::Real(x) => self.emit(Expr::Real(x.get()), Scalar::F32, vec![]),
            Op::Int(i) => self.emit(Expr::Int(*i as i32), Scalar::I32, vec![]),
            Op::Bool(b) => self.emit(Expr::Bool(*b), Scalar::Bool, vec![]),
            Op::Pos(axis) => {
                let offset = super::trace::at(at, *axis).clone();
                self.index(&offset)
            }
            Op::Pointwise(Pointwise::F32 | Pointwise::Stop) | Op::Cast(DType::F32) => {
                self.real(node.operands[0], at, mask, &node.op)
            }
            Op::Cast(_) => {
                let tile = self.value(node.operands[0], at, mask);
                self.pointwise(Pointwise::Bf16, &[tile])
            }
            Op::Pointwise(function) => {
                let operands: Vec<TileId> =
                    node.operands.iter().map(|v| self.value(*v, at, mask)).collect();
                self.pointwise(*function, &operands)
            }
            Op::Dot { .. } => {
                let operands: Vec<TileId> =
                    node.operands.iter().map(|v| self.value(*v, at, mask)).collect();
                self.pointwise(Pointwise::Mul, &operands)
            }
            Op::Broadcast { .. } => self.value(node.operands[0], at, mask),
            Op::Noise { axes, key } => self.noise(axes, *key, &node.operands, at, mask),
            Op::Gather { axis } => {
                let e = self.value(node.operands[1], at, mask);
                let inner = replace(at, &[], &[(*axis, Offset::factor(Factor::Tile(e)))]);
                self.value(node.operands[0], &inner, mask)
            }
            Op::Pad { axis, to, start, stride } => {
                self.pad(node.operands[0], (*axis, *to, *start, *stride), at, mask)
            }
            op if class(op) == Class::View => {
                let inner = self.view(op, at);
                self.value(node.operands[0], &inner, mask)
            }
            op => panic!("{op:?} is stored before it is read"),
        }
    }

    /// The tile of what a node computes, up to the rounding that its store does.
    pub(crate) fn unrounded(&mut self, node: &Node, at: &Positions) -> TileId {
        match node.op {
            Op::Cast(DType::Bf16) => self.value(node.operands[0], at, None),
            _ => self.node(node, at, None),
        }
    }

    /// Whether a value is a cast, so that its tile in [`Tracer::computed`] is not rounded.
    fn rounds(&self, value: ValueId) -> bool {
        self.context.defs.node(value).is_some_and(|n| matches!(n.op, Op::Cast(DType::Bf16)))
    }

    /// `f32`, `stop` and widening casts: bools and ints become real, reals stay.
    fn real(&mut self, value: ValueId, at: &Positions, mask: Option<TileId>, op: &Op) -> TileId {
        let tile = self.value(value, at, mask);
        let stop = matches!(op, Op::Pointwise(Pointwise::Stop));
        if stop || self.ty(tile).scalar == Scalar::F32 {
            return tile;
        }
        self.pointwise(Pointwise::ToReal, &[tile])
    }

    /// Positions in the operand of a view.
    pub(crate) fn view(&mut self, op: &Op, at: &Positions) -> Positions {
        let size = |axis: &AxisId| self.context.graph.size(*axis);
        match op {
            Op::Rename { from, to } => {
                replace(at, &[*to], &[(*from, super::trace::at(at, *to).clone())])
            }
            Op::Slice { axis, to, start, stride } => {
                let along = to.map_or(Offset::default(), |t| super::trace::at(at, t).clone());
                let offset = along.times(*stride).plus(&Offset::constant(*start));
                replace(at, to.as_slice(), &[(*axis, offset)])
            }
            Op::Split { from, to } => {
                let mut offset = Offset::default();
                for axis in to {
                    offset = offset.times(size(axis) as i64).plus(super::trace::at(at, *axis));
                }
                let offset = super::digits::simplify(offset, &self.kernel.vars);
                replace(at, to.as_slice(), &[(*from, offset)])
            }
            Op::Merge { from, to } => {
                let sizes: Vec<u64> = from.iter().map(size).collect();
                let whole = super::trace::at(at, *to).clone();
                let parts = self.digits(&whole, &sizes);
                let new: Positions = from.iter().copied().zip(parts).collect();
                replace(at, &[*to], &new)
            }
            op => panic!("{op:?} is not a view"),
        }
    }

    /// Splits a position into digits of the given sizes, the first one slow.
    fn digits(&mut self, whole: &Offset, sizes: &[u64]) -> Vec<Offset> {
        let mut rest = whole.clone();
        let mut parts = Vec::new();
        for size in sizes[1..].iter().rev() {
            let (high, low) = match super::digits::split(&rest, *size, &self.kernel.vars) {
                Some(parts) => parts,
                None => {
                    let tile = self.index(&rest);
                    let size = self.emit(Expr::Int(*size as i32), Scalar::I32, vec![]);
                    let high = self.pointwise(Pointwise::FloorDiv, &[tile, size]);
                    let low = self.pointwise(Pointwise::Mod, &[tile, size]);
                    (Offset::factor(Factor::Tile(high)), Offset::factor(Factor::Tile(low)))
                }
            };
            parts.push(low);
            rest = high;
        }
        parts.push(rest);
        parts.reverse();
        parts
    }

    /// The operand where `to` holds one of its elements, else zero.
    fn pad(
        &mut self,
        x: ValueId,
        (axis, to, start, stride): (Option<AxisId>, AxisId, i64, i64),
        at: &Positions,
        mask: Option<TileId>,
    ) -> TileId {
        let along = super::trace::at(at, to).clone();
        let shifted = along.plus(&Offset::constant(-start));
        let count = axis.map_or(1, |a| self.context.graph.size(a)) as i64;
        let place = self.index(&shifted);
        let int = |s: &mut Self, i: i64| s.emit(Expr::Int(i as i32), Scalar::I32, vec![]);
        let (step, zero, end) = (int(self, stride), int(self, 0), int(self, count));
        let (position, offset) = if stride == 1 {
            (place, shifted)
        } else {
            let tile = self.pointwise(Pointwise::FloorDiv, &[place, step]);
            (tile, Offset::factor(Factor::Tile(tile)))
        };
        let above = self.pointwise(Pointwise::Ge, &[position, zero]);
        let below = self.pointwise(Pointwise::Lt, &[position, end]);
        let mut inside = self.pointwise(Pointwise::And, &[above, below]);
        if stride != 1 {
            let rest = self.pointwise(Pointwise::Mod, &[place, step]);
            let whole = self.pointwise(Pointwise::Eq, &[rest, zero]);
            inside = self.pointwise(Pointwise::And, &[inside, whole]);
        }
        let inner = match axis {
            Some(axis) => replace(at, &[to], &[(axis, offset)]),
            None => replace(at, &[to], &[]),
        };
        let both = match mask {
            Some(mask) => self.pointwise(Pointwise::And, &[mask, inside]),
            None => inside,
        };
        let tile = self.value(x, &inner, Some(both));
        let zero = match self.ty(tile).scalar {
            Scalar::F32 => self.emit(Expr::Real(0.0), Scalar::F32, vec![]),
            Scalar::I32 => zero,
            Scalar::Bool => self.emit(Expr::Bool(false), Scalar::Bool, vec![]),
        };
        self.pointwise(Pointwise::Where, &[inside, tile, zero])
    }

    /// Counter words: the first operand (the seed) keys, the element's index and the other
    /// operands count.
    fn noise(
        &mut self,
        axes: &[AxisId],
        key: u32,
        operands: &[ValueId],
        at: &Positions,
        mask: Option<TileId>,
    ) -> TileId {
        let mut element = Offset::default();
        for axis in axes {
            let size = self.context.graph.size(*axis) as i64;
            element = element.times(size).plus(super::trace::at(at, *axis));
        }
        let element = super::digits::simplify(element, &self.kernel.vars);
        let mut counter: Vec<TileId> = operands.iter().map(|v| self.value(*v, at, mask)).collect();
        let place = self.index(&element);
        counter.insert(counter.len().min(1), place);
        let vars = self.union(&counter);
        self.emit(Expr::Noise { key, counter }, Scalar::F32, vars)
    }

    /// A reduction's neutral element.
    pub(crate) fn neutral(&mut self, op: Reduction, scalar: Scalar) -> TileId {
        match (op, scalar) {
            (Reduction::Sum, Scalar::F32) => self.emit(Expr::Real(0.0), scalar, vec![]),
            (Reduction::Max, Scalar::F32) => {
                self.emit(Expr::Real(f64::NEG_INFINITY), scalar, vec![])
            }
            (Reduction::Sum, _) => self.emit(Expr::Int(0), Scalar::I32, vec![]),
            (Reduction::Max, _) => self.emit(Expr::Int(i32::MIN), Scalar::I32, vec![]),
        }
    }
}

/// A kernel with the values behind its arguments.
pub(crate) struct Traced {
    /// The kernel, without a name.
    pub(crate) kernel: Kernel,
    /// Values behind the argument buffers.
    pub(crate) arguments: Vec<ValueId>,
    /// Nesting depths of the turns behind the scalars.
    pub(crate) turns: Vec<u32>,
}

/// The position along an axis.
pub(crate) fn at(positions: &Positions, axis: AxisId) -> &Offset {
    let found = positions.iter().find(|(a, _)| *a == axis);
    &found.unwrap_or_else(|| panic!("no position along {axis}")).1
}

/// Positions without some axes and with others set.
pub(crate) fn replace(
    positions: &Positions,
    drop: &[AxisId],
    set: &[(AxisId, Offset)],
) -> Positions {
    let new = |axis: &AxisId| set.iter().any(|(a, _)| a == axis);
    let mut result: Positions =
        positions.iter().filter(|(a, _)| !drop.contains(a) && !new(a)).cloned().collect();
    result.extend(set.iter().cloned());
    result
}
