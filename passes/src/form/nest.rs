//! Emits a group of tasks as one kernel: a grid over rows, and phases of loops inside.
//!
//! The kernel is traced twice. The first trace has one variable for each axis; from its accesses
//! follow which neighbouring axes behave as one (and become one variable) and which variable is
//! contiguous in most accesses (and becomes the vector). The second trace is the kernel.

use std::collections::{BTreeSet, HashSet};

use gigac_ir::graph::{AxisId, Op, ValueId};
use gigac_ir::kernel::{
    self, BufferId, Carry, Expr, Factor, Kernel, Offset, Reduction, Scalar, Stmt, TileId, Var,
    VarId,
};
use gigac_ir::pointwise::Pointwise;

use super::group::{Group, Task, reads};
use super::shape::{Sizes, Vector};
use super::trace::{Context, Local, Positions, Traced, Tracer};

/// Part of a phase: a task, or one piece of a concatenation.
#[derive(Clone, Copy)]
struct Part {
    task: usize,
    piece: Option<usize>,
}

/// Loops over the same inner axes, and what is computed in them.
struct Phase {
    inner: Vec<AxisId>,
    parts: Vec<Part>,
}

/// The order of work of a group.
struct Schedule<'a, 'g> {
    context: &'a Context<'g>,
    tasks: &'a [Task<'g>],
    rows: Vec<AxisId>,
    phases: Vec<Phase>,
    /// Tasks without inner axes that are computed before the phase of this index.
    before: Vec<Vec<usize>>,
    /// Values that must reach memory.
    kept: HashSet<ValueId>,
    /// Those of them that only later phases read.
    passed: HashSet<ValueId>,
}

/// Which axes share a variable, and which variable is the vector.
struct Space {
    rows: Vec<Vec<AxisId>>,
    inner: Vec<Vec<Vec<AxisId>>>,
    vector: Vector,
}

/// Emits a group. `external` are the values that other units or results read.
pub(crate) fn emit(
    context: &Context<'_>,
    group: &Group<'_>,
    external: &HashSet<ValueId>,
) -> Traced {
    let schedule = Schedule::new(context, group, external);
    let separate = schedule.separate();
    let draft = schedule.trace(&separate);
    let space = schedule.merge(&draft.kernel);
    schedule.trace(&space)
}

impl<'a, 'g> Schedule<'a, 'g> {
    fn new(context: &'a Context<'g>, group: &'a Group<'g>, external: &HashSet<ValueId>) -> Self {
        let tasks = &group.tasks[..];
        let first = tasks.iter().find(|t| !t.reduced.is_empty()).unwrap_or(&tasks[0]);
        let rows: Vec<AxisId> = match (&group.rows, &first.node.op) {
            (Some(rows), _) => first.axes.iter().copied().filter(|a| rows.contains(a)).collect(),
            (None, Op::Cat { to, .. }) => first.axes.iter().copied().filter(|a| a != to).collect(),
            (None, _) => first.axes[..first.axes.len().saturating_sub(1)].to_vec(),
        };
        let mut schedule = Self {
            context,
            tasks,
            rows,
            phases: Vec::new(),
            before: Vec::new(),
            kept: HashSet::new(),
            passed: HashSet::new(),
        };
        schedule.assign();
        schedule.passed = schedule.kept.iter().filter(|v| !external.contains(v)).copied().collect();
        schedule.kept.extend(tasks.iter().map(|t| t.value).filter(|v| external.contains(v)));
        schedule
    }

    fn inner(&self, task: &Task<'_>) -> Vec<AxisId> {
        task.axes.iter().copied().filter(|a| !self.rows.contains(a)).collect()
    }

    /// Assigns tasks to phases: a task runs after the reductions it reads, in the loops of an
    /// earlier task over the same axes where there are such.
    fn assign(&mut self) {
        let mut ready = vec![0; self.tasks.len()];
        let mut phase = vec![None; self.tasks.len()];
        for (i, task) in self.tasks.iter().enumerate() {
            let read = reads(self.context, task.node);
            let needs: Vec<usize> =
                (0..i).filter(|j| read.contains_key(&self.tasks[*j].value)).collect();
            for j in &needs {
                let after = match phase[*j] {
                    Some(p) if self.tasks[*j].reduced.is_empty() => p,
                    Some(p) => p + 1,
                    None => ready[*j],
                };
                ready[i] = ready[i].max(after);
            }
            let inner = self.inner(task);
            if let Op::Cat { pieces, to } = &task.node.op {
                self.cat(i, pieces, *to, &inner);
                phase[i] = Some(self.phases.len() - 1);
            } else if !inner.is_empty() {
                phase[i] = Some(self.place(i, ready[i], inner));
            } else {
                self.before.resize_with(self.before.len().max(ready[i] + 1), Vec::new);
                self.before[ready[i]].push(i);
            }
            for j in needs {
                if phase[j].is_some() && self.tasks[j].reduced.is_empty() && phase[j] != phase[i] {
                    self.kept.insert(self.tasks[j].value);
                }
            }
        }
    }

    fn place(&mut self, task: usize, ready: usize, inner: Vec<AxisId>) -> usize {
        let set: BTreeSet<AxisId> = inner.iter().copied().collect();
        let same = |p: &Phase| {
            p.inner.iter().copied().collect::<BTreeSet<_>>() == set
                && p.parts.iter().all(|part| part.piece.is_none())
        };
        let part = Part { task, piece: None };
        match (ready..self.phases.len()).find(|p| same(&self.phases[*p])) {
            Some(p) => {
                self.phases[p].parts.push(part);
                p
            }
            None => {
                self.phases.push(Phase { inner, parts: vec![part] });
                self.phases.len() - 1
            }
        }
    }

    fn cat(&mut self, task: usize, pieces: &[Option<AxisId>], to: AxisId, inner: &[AxisId]) {
        for (n, piece) in pieces.iter().enumerate() {
            let inner =
                inner.iter().filter_map(|a| if *a == to { *piece } else { Some(*a) }).collect();
            let parts = vec![Part { task, piece: Some(n) }];
            self.phases.push(Phase { inner, parts });
        }
    }

    /// One variable for each axis, no vector.
    fn separate(&self) -> Space {
        let single = |axes: &[AxisId]| axes.iter().map(|a| vec![*a]).collect();
        Space {
            rows: single(&self.rows),
            inner: self.phases.iter().map(|p| single(&p.inner)).collect(),
            vector: Vector::None,
        }
    }

    /// Joins axes that behave as one in every access of the draft, and chooses the vector.
    fn merge(&self, draft: &Kernel) -> Space {
        let offsets = self.offsets(draft, &draft.body, 1);
        let mut next = 0;
        let mut join = |axes: &[AxisId]| {
            let vars: Vec<VarId> = (0..axes.len()).map(|i| VarId((next + i) as u32)).collect();
            next += axes.len();
            let mut groups: Vec<(Vec<AxisId>, VarId)> = Vec::new();
            for (axis, var) in axes.iter().zip(&vars) {
                let extent = self.context.graph.size(*axis);
                match groups.last_mut() {
                    Some((group, last)) if joins(&offsets, *last, *var, extent) => {
                        group.push(*axis);
                        *last = *var;
                    }
                    _ => groups.push((vec![*axis], *var)),
                }
            }
            groups
        };
        let rows = join(&self.rows);
        let inner: Vec<_> = self.phases.iter().map(|p| join(&p.inner)).collect();
        let score = |var: VarId| -> u64 {
            let unit = |o: &&Access| coefficient(&o.offset, var) == Some(1) && o.memory;
            offsets.iter().filter(unit).map(|o| o.turns).sum()
        };
        let best_row = (0..rows.len()).max_by_key(|i| (score(rows[*i].1), *i));
        let row_score = best_row.map_or(0, |i| score(rows[i].1));
        let inner_score: u64 =
            inner.iter().map(|g| g.iter().map(|(_, v)| score(*v)).max().unwrap_or(0)).sum();
        let vector = match best_row {
            Some(i) if row_score > inner_score => Vector::Row(i),
            _ => Vector::Inner,
        };
        let mut inner: Vec<Vec<(Vec<AxisId>, VarId)>> = inner;
        for groups in &mut inner {
            // The vector runs innermost.
            if let Some(best) = (0..groups.len()).max_by_key(|i| (score(groups[*i].1), *i)) {
                let group = groups.remove(best);
                groups.push(group);
            }
        }
        let axes = |groups: Vec<(Vec<AxisId>, VarId)>| groups.into_iter().map(|g| g.0).collect();
        Space { rows: axes(rows), inner: inner.into_iter().map(axes).collect(), vector }
            .flattened(self)
    }

    /// The offsets of a draft's statements; its variables are the axes of rows and phases in order.
    fn offsets(&self, draft: &Kernel, stmts: &[Stmt], turns: u64) -> Vec<Access> {
        let mut found = Vec::new();
        let in_memory =
            |buffer: &BufferId| draft.buffers[buffer.0 as usize].access != kernel::Access::Local;
        for stmt in stmts {
            match stmt {
                Stmt::Let(_, Expr::Index(offset)) => {
                    found.push(Access { offset: offset.clone(), memory: false, turns });
                }
                Stmt::Let(_, Expr::Load { buffer, offset, .. })
                | Stmt::Store { buffer, offset, .. } => {
                    let memory = in_memory(buffer);
                    found.push(Access { offset: offset.clone(), memory, turns });
                }
                Stmt::Let(..) | Stmt::When(_) => {}
                Stmt::Loop { var, body, .. } => {
                    let turns = turns.saturating_mul(self.turns(*var));
                    found.extend(self.offsets(draft, body, turns));
                }
            }
        }
        found
    }

    /// Turns of the loop over a draft's variable; one for axes of repeats, whose sizes decide
    /// nothing.
    fn turns(&self, var: VarId) -> u64 {
        let mut axes = self.rows.iter().chain(self.phases.iter().flat_map(|p| &p.inner));
        let axis = axes.nth(var.0 as usize).expect("a draft has a variable for each axis");
        if self.context.depth.contains(axis) { 1 } else { self.context.graph.size(*axis) }
    }

    /// Traces the group with the given variables.
    fn trace(&self, space: &Space) -> Traced {
        let sizes = |groups: &Vec<Vec<AxisId>>| -> Vec<u64> {
            groups.iter().map(|axes| self.context.graph.elements(axes)).collect()
        };
        let (rows, inner) = (sizes(&space.rows), space.inner.iter().map(sizes).collect());
        let extents = Sizes { rows, inner };
        let tiles = extents.tiles(space.vector, &self.context.machine.regions());
        let var =
            |name: String, (extent, tile): (&u64, &u64)| Var { name, extent: *extent, tile: *tile };
        let rows = extents.rows.iter().zip(&tiles.rows).enumerate();
        let mut vars: Vec<Var> = rows.map(|(i, sizes)| var(format!("r{i}"), sizes)).collect();
        let grid: Vec<VarId> = (0..vars.len()).map(|i| VarId(i as u32)).collect();
        let mut loops: Vec<Vec<VarId>> = Vec::new();
        for (p, (extents, tiles)) in extents.inner.iter().zip(&tiles.inner).enumerate() {
            loops.push((vars.len()..vars.len() + extents.len()).map(|i| VarId(i as u32)).collect());
            let sizes = extents.iter().zip(tiles).enumerate();
            vars.extend(sizes.map(|(i, sizes)| var(format!("p{p}i{i}"), sizes)));
        }
        let mut tracer = Tracer::new(self.context, vars, grid.clone());
        self.localise(&mut tracer, space);
        let rows = positions(self.context, &space.rows, &grid);
        for (p, (phase, vars)) in self.phases.iter().zip(&loops).enumerate() {
            self.between(&mut tracer, p, &rows);
            let mut at = rows.clone();
            at.extend(positions(self.context, &space.inner[p], vars));
            self.phase(&mut tracer, phase, &at, vars);
        }
        self.between(&mut tracer, self.phases.len(), &rows);
        tracer.finish()
    }

    /// What only later phases read lies in memory of the grid point's own, unless it is large.
    fn localise(&self, tracer: &mut Tracer<'_, 'g>, space: &Space) {
        let rows = (0..space.rows.len() as u32).map(VarId);
        let lanes = rows.map(|var| (var, tracer.kernel.var(var).tile)).filter(|lanes| lanes.1 > 1);
        let is_vector = |lanes: &(VarId, u64)| space.vector == Vector::Row(lanes.0.0 as usize);
        let (inside, outer): (Vec<_>, Vec<_>) = lanes.partition(is_vector);
        let together: u64 = inside.iter().chain(&outer).map(|(_, lanes)| lanes).product();
        let passed = self.tasks.iter().map(|t| t.value).filter(|v| self.passed.contains(v));
        for value in passed {
            let ty = self.context.graph.ty(value);
            let inner: Vec<AxisId> =
                ty.axes.iter().copied().filter(|a| !self.rows.contains(a)).collect();
            let elements = self.context.graph.elements(&inner) * together;
            if elements * ty.dtype.storage().bytes() <= self.context.machine.regions().local_bytes {
                let (rows, outer) = (self.rows.clone(), outer.clone());
                let inner = inside.first().copied();
                tracer.localise(Local { value, rows, outer, inner, elements });
            }
        }
    }

    /// Computes the tasks that stand before a phase.
    fn between(&self, tracer: &mut Tracer<'_, 'g>, phase: usize, rows: &Positions) {
        for task in self.before.get(phase).into_iter().flatten() {
            self.pointwise(tracer, *task, rows);
        }
    }

    /// Computes a pointwise task and stores it when somebody else reads it.
    fn pointwise(&self, tracer: &mut Tracer<'_, 'g>, task: usize, at: &Positions) {
        let task = &self.tasks[task];
        let tile = tracer.unrounded(task.node, at);
        if self.kept.contains(&task.value) {
            tracer.store(task.value, at, tile, false);
        }
        tracer.computed.insert(task.value, tile);
    }

    fn phase(&self, tracer: &mut Tracer<'_, 'g>, phase: &Phase, at: &Positions, loops: &[VarId]) {
        loops.iter().for_each(|var| tracer.open(*var));
        let mut sums = Vec::new();
        for part in &phase.parts {
            let task = &self.tasks[part.task];
            match part.piece {
                Some(piece) => self.piece(tracer, task, piece, at),
                None if task.reduced.is_empty() => self.pointwise(tracer, part.task, at),
                None => sums.push(accumulate(tracer, task, at, loops)),
            }
        }
        for depth in (0..loops.len()).rev() {
            let carried = sums.iter_mut().map(|sum| sum.leave(tracer, depth)).collect();
            tracer.close(carried);
        }
        for sum in sums {
            let tile = sum.finish(tracer, loops);
            if self.kept.contains(&sum.value) {
                let task = self.tasks.iter().find(|t| t.value == sum.value);
                let rows = task.map(Task::result_axes).unwrap_or_default();
                let at: Positions = at.iter().filter(|(a, _)| rows.contains(a)).cloned().collect();
                tracer.store(sum.value, &at, tile, false);
            }
            tracer.computed.insert(sum.value, tile);
        }
    }

    /// Stores one piece of a concatenation at its place.
    fn piece(&self, tracer: &mut Tracer<'_, 'g>, task: &Task<'g>, piece: usize, at: &Positions) {
        let Op::Cat { pieces, to } = &task.node.op else { unreachable!("only `cat` has pieces") };
        let size = |p: &Option<AxisId>| p.map_or(1, |a| self.context.graph.size(a)) as i64;
        let start: i64 = pieces[..piece].iter().map(size).sum();
        let along = match pieces[piece] {
            Some(axis) => super::trace::at(at, axis).clone(),
            None => Offset::default(),
        };
        let tile = tracer.value(task.node.operands[piece], at, None);
        let drop = pieces[piece].as_slice();
        let place = super::trace::replace(at, drop, &[(*to, along.plus(&Offset::constant(start)))]);
        tracer.store(task.value, &place, tile, false);
    }
}

impl Task<'_> {
    fn result_axes(&self) -> Vec<AxisId> {
        self.axes.iter().copied().filter(|a| !self.reduced.contains(a)).collect()
    }
}

impl Space {
    /// A group of pointwise tasks whose rows and inner axes all behave as one runs over a flat
    /// grid, without a loop; so does one with few rows.
    fn flattened(mut self, schedule: &Schedule<'_, '_>) -> Self {
        let pointwise = schedule.tasks.iter().all(|t| t.reduced.is_empty())
            && schedule.phases.len() == 1
            && schedule.phases[0].parts.iter().all(|p| p.piece.is_none());
        let (graph, tiles) = (schedule.context.graph, schedule.context.machine.regions());
        let rows: u64 = self.rows.iter().map(|g| graph.elements(g)).product();
        if !pointwise || self.vector != Vector::Inner || rows >= 4 * tiles.points {
            return self;
        }
        let vector = self.inner[0].pop();
        self.rows.append(&mut self.inner[0]);
        self.rows.extend(vector);
        self.vector = Vector::Row(self.rows.len() - 1);
        self
    }
}

/// A reduction in progress.
struct Sum {
    value: ValueId,
    op: Reduction,
    scalar: Scalar,
    vars: Vec<VarId>,
    init: TileId,
    args: Vec<TileId>,
    next: TileId,
    result: TileId,
}

/// Adds the task's element to its accumulator in the innermost loop.
fn accumulate<'g>(
    tracer: &mut Tracer<'_, 'g>,
    task: &Task<'g>,
    at: &Positions,
    loops: &[VarId],
) -> Sum {
    let operands: Vec<TileId> =
        task.node.operands.iter().map(|v| tracer.value(*v, at, None)).collect();
    let (op, mut tile) = match &task.node.op {
        Op::Reduce { op, .. } => (*op, operands[0]),
        _ => (Reduction::Sum, tracer.pointwise(Pointwise::Mul, &operands)),
    };
    let vector = loops.last().copied().filter(|v| tracer.kernel.var(*v).tile > 1);
    let scalar = tracer.ty(tile).scalar;
    for var in loops {
        if Some(*var) != vector && tracer.ty(tile).vars.contains(var) {
            let vars = tracer.ty(tile).vars.iter().copied().filter(|v| v != var).collect();
            tile = tracer.emit_here(Expr::Reduce(op, tile, *var), scalar, vars);
        }
    }
    let mut vars = tracer.ty(tile).vars.clone();
    vars.extend(vector);
    let init = tracer.neutral(op, scalar);
    let args: Vec<TileId> = loops.iter().map(|_| tracer.fresh(scalar, vars.clone())).collect();
    let Some(last) = args.last() else {
        // No loop: the reduced axes are gone, one element is the result.
        return Sum { value: task.value, op, scalar, vars, init, args, next: tile, result: tile };
    };
    let function = if op == Reduction::Sum { Pointwise::Add } else { Pointwise::Max };
    let operands = vec![*last, tile];
    let next = tracer.emit_here(Expr::Pointwise(function, operands), scalar, vars.clone());
    Sum { value: task.value, op, scalar, vars, init, args, next, result: next }
}

impl Sum {
    /// What the loop at a depth carries, when it closes.
    fn leave(&mut self, tracer: &mut Tracer<'_, '_>, depth: usize) -> Carry {
        let init = if depth == 0 { self.init } else { self.args[depth - 1] };
        let result = tracer.fresh(self.scalar, self.vars.clone());
        let carry = Carry { init, arg: self.args[depth], next: self.next, result };
        self.next = result;
        self.result = result;
        carry
    }

    /// The reduced value after the loops.
    fn finish(&self, tracer: &mut Tracer<'_, '_>, loops: &[VarId]) -> TileId {
        match loops.last() {
            Some(var) if self.vars.contains(var) => {
                let vars = self.vars.iter().copied().filter(|v| v != var).collect();
                tracer.emit_here(Expr::Reduce(self.op, self.result, *var), self.scalar, vars)
            }
            _ => self.result,
        }
    }
}

/// Positions along the axes of merged variables: each axis is a digit of its variable.
pub(crate) fn positions(
    context: &Context<'_>,
    groups: &[Vec<AxisId>],
    vars: &[VarId],
) -> Positions {
    let mut at = Positions::new();
    for (group, var) in groups.iter().zip(vars) {
        let mut divisor = 1;
        for (i, axis) in group.iter().enumerate().rev() {
            let size = context.graph.size(*axis);
            let modulus = if i == 0 { 0 } else { size };
            let factor = Factor::Digit { var: *var, divisor, modulus };
            at.push((*axis, Offset::factor(factor)));
            divisor *= size;
        }
    }
    at
}

/// An offset that occurs in a kernel, whether memory is accessed there, and how often at a point.
struct Access {
    offset: Offset,
    memory: bool,
    turns: u64,
}

/// The coefficient of a whole variable; nothing when only a digit of it is used.
fn coefficient(offset: &Offset, var: VarId) -> Option<i64> {
    let mut sum = 0;
    for term in &offset.terms {
        match term.factor {
            Factor::Digit { var: v, divisor: 1, modulus: 0 } if v == var => sum += term.coefficient,
            Factor::Digit { var: v, .. } if v == var => return None,
            _ => {}
        }
    }
    Some(sum)
}

/// Whether `high·extent + low` can stand for both variables everywhere.
fn joins(offsets: &[Access], high: VarId, low: VarId, extent: u64) -> bool {
    offsets.iter().all(|access| {
        match (coefficient(&access.offset, high), coefficient(&access.offset, low)) {
            (Some(h), Some(l)) => h == l * extent as i64,
            _ => false,
        }
    })
}
