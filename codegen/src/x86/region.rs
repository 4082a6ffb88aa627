//! Region kernels: pointwise functions, reductions and data movement, statement by statement.

use gigac_ir::kernel::{
    BufferId, Carry, Expr, Factor, Kernel, Offset, Scalar, Stmt, Term, TileId, TileType, VarId,
};
use inkwell::values::{InstructionOpcode, IntValue};

use super::emit::{Elem, Emitter, Value};
use super::frame::Frame;
use super::grid::{self, Position, Tiles};
use super::noise::noise;
use super::pointwise::pointwise;
use super::reduce::{reduce_lanes, reduce_values};
use super::tile::{Coordinates, Row, Shape, Span, Tile};
use crate::CodegenError;

/// Most lanes of one vector: beyond it, values do not stay in registers anyway.
const MAX_LANES: u64 = 256;

/// Most elements that a value is unrolled into.
const MAX_UNROLLED: u64 = 64;

/// Emits a kernel without `Dot`; returns the scratch bytes it needs.
pub(super) fn lower<'c>(emit: &Emitter<'c>, kernel: &Kernel) -> Result<u64, CodegenError> {
    check_sizes(kernel)?;
    let frame = Frame::open(emit, kernel);
    let vectors = vector_variables(kernel);
    grid::points(emit, kernel, &frame, &mut |positions| {
        let mut region = Region::new(emit, kernel, &frame, &vectors);
        positions.iter().for_each(|position| region.enter(*position));
        region.block(&kernel.body)
    })?;
    emit.ret();
    Ok(frame.local_bytes)
}

/// Refuses values with too many lanes.
fn check_sizes(kernel: &Kernel) -> Result<(), CodegenError> {
    let vectors = vector_variables(kernel);
    for (i, ty) in kernel.values.iter().enumerate() {
        let shape = Shape::of(ty, &vectors, |var| Tiles::of(kernel, var).lanes);
        let unrolled: u64 = shape.unrolled.iter().map(|(_, lanes)| lanes).product();
        if shape.lanes > MAX_LANES || unrolled > MAX_UNROLLED {
            let what = format!(
                "%{i} has {} × {unrolled} lanes, more than {MAX_LANES} × {MAX_UNROLLED}",
                shape.lanes
            );
            return Err(CodegenError::Unsupported { kernel: kernel.name.clone(), what });
        }
    }
    Ok(())
}

/// The variables whose lanes lie in vectors: those along which most accesses lie side by side, but
/// never two that one value or access varies along. Each loop over rows of memory has one.
fn vector_variables(kernel: &Kernel) -> Vec<VarId> {
    let mut contiguous = vec![0u64; kernel.vars.len()];
    count_contiguous(&kernel.body, &mut contiguous);
    let mut together: Vec<Vec<VarId>> = kernel.values.iter().map(|ty| ty.vars.clone()).collect();
    collect_accessed(kernel, &kernel.body, &mut together);
    let wide = |var: &VarId| Tiles::of(kernel, *var).lanes > 1;
    let mut vars: Vec<VarId> = (0..kernel.vars.len() as u32).map(VarId).filter(wide).collect();
    let key = |var: &VarId| (contiguous[var.0 as usize], Tiles::of(kernel, *var).lanes, var.0);
    vars.sort_by_key(|var| std::cmp::Reverse(key(var)));
    let mut chosen: Vec<VarId> = Vec::new();
    for var in vars {
        let meets =
            |vars: &Vec<VarId>| vars.contains(&var) && vars.iter().any(|v| chosen.contains(v));
        if !together.iter().any(meets) {
            chosen.push(var);
        }
    }
    chosen
}

/// The variables that each access varies along.
fn collect_accessed(kernel: &Kernel, body: &[Stmt], found: &mut Vec<Vec<VarId>>) {
    for stmt in body {
        match stmt {
            Stmt::Let(_, Expr::Load { offset, mask, .. }) => {
                found.push(accessed(kernel, offset, mask.as_slice()));
            }
            Stmt::Store { offset, value, mask, .. } => {
                let values: Vec<TileId> = mask.iter().chain([value]).copied().collect();
                found.push(accessed(kernel, offset, &values));
            }
            Stmt::Let(..) | Stmt::When(_) => {}
            Stmt::Loop { body, .. } => collect_accessed(kernel, body, found),
        }
    }
}

/// The variables that an offset or one of some values varies along, ascending.
fn accessed(kernel: &Kernel, offset: &Offset, values: &[TileId]) -> Vec<VarId> {
    let tiles = offset.tiles();
    let tiles = tiles.iter().chain(values);
    let mut vars: Vec<VarId> = tiles.flat_map(|t| kernel.ty(*t).vars.clone()).collect();
    vars.extend(offset.terms.iter().filter_map(|term| match term.factor {
        Factor::Digit { var, .. } => Some(var),
        Factor::Scalar(_) | Factor::Tile(_) => None,
    }));
    vars.sort_unstable();
    vars.dedup();
    vars
}

fn count_contiguous(body: &[Stmt], counts: &mut [u64]) {
    for stmt in body {
        match stmt {
            Stmt::Let(_, Expr::Load { offset, .. }) | Stmt::Store { offset, .. } => {
                offset.terms.iter().filter_map(contiguous).for_each(|var| counts[var] += 1);
            }
            Stmt::Let(..) | Stmt::When(_) => {}
            Stmt::Loop { body, .. } => count_contiguous(body, counts),
        }
    }
}

/// The variable whose positions a term lays side by side.
fn contiguous(term: &Term) -> Option<usize> {
    match term.factor {
        Factor::Digit { var, divisor: 1, .. } if term.coefficient == 1 => Some(var.0 as usize),
        _ => None,
    }
}

/// The state of lowering statements: where variables stand, and the values made so far.
pub(super) struct Region<'a, 'c> {
    pub(super) emit: &'a Emitter<'c>,
    pub(super) kernel: &'a Kernel,
    pub(super) frame: &'a Frame<'c>,
    /// The variables whose lanes lie in vectors.
    pub(super) vectors: &'a [VarId],
    /// A vector variable of which some lanes are in hand, and these.
    pub(super) window: Option<(VarId, Span)>,
    positions: Vec<Option<Position<'c>>>,
    values: Vec<Option<Tile<'c>>>,
    /// The variables of the loops in hand, the innermost last.
    loops: Vec<VarId>,
}

impl<'a, 'c> Region<'a, 'c> {
    /// No variable has a position yet, and no value is known.
    pub(super) fn new(
        emit: &'a Emitter<'c>,
        kernel: &'a Kernel,
        frame: &'a Frame<'c>,
        vectors: &'a [VarId],
    ) -> Self {
        let positions = vec![None; kernel.vars.len()];
        let values = vec![None; kernel.values.len()];
        let loops = Vec::new();
        Self { emit, kernel, frame, vectors, window: None, positions, values, loops }
    }

    /// Puts a variable at a position.
    pub(super) fn enter(&mut self, position: Position<'c>) {
        self.positions[position.var.0 as usize] = Some(position);
    }

    /// Takes the position of a variable away.
    pub(super) fn leave(&mut self, var: VarId) {
        self.positions[var.0 as usize] = None;
    }

    /// Gives a value.
    pub(super) fn set(&mut self, value: TileId, tile: Tile<'c>) {
        self.values[value.0 as usize] = Some(tile);
    }

    /// A value made before.
    pub(super) fn tile(&self, value: TileId) -> &Tile<'c> {
        let tile = &self.values[value.0 as usize];
        tile.as_ref().expect("verified kernels define values before they use them")
    }

    /// First position of a variable, lanes of its whole tiles, whether it has one tile only.
    pub(super) fn position(&self, var: VarId) -> (IntValue<'c>, u64, bool) {
        let position = self.positions[var.0 as usize];
        let position = position.expect("verified kernels use digits where the variable stands");
        let tiles = Tiles::of(self.kernel, var);
        (position.base, tiles.lanes, tiles.all() == 1)
    }

    /// The shape that a value of this type has at present, in the window if there is one.
    fn shape(&self, ty: &TileType) -> Shape {
        Shape::of(ty, self.vectors, |var| match self.window {
            Some((of, (_, lanes))) if var == of => lanes,
            _ => self.lanes(var),
        })
    }

    /// Lanes of a variable's tile in hand.
    pub(super) fn lanes(&self, var: VarId) -> u64 {
        match self.positions[var.0 as usize] {
            Some(position) => position.lanes,
            None => Tiles::of(self.kernel, var).lanes,
        }
    }

    /// So many lanes of the vector variable, from the first of the window.
    pub(super) fn span(&self, lanes: u64) -> Span {
        (self.window.map_or(0, |(_, (from, _))| from), lanes)
    }

    /// Emits one statement.
    pub(super) fn stmt(&mut self, stmt: &Stmt) -> Result<(), CodegenError> {
        match stmt {
            Stmt::Let(value, expr) => {
                let tile = self.expr(*value, expr)?;
                self.define(*value, tile);
                Ok(())
            }
            Stmt::Loop { var, carried, body } => self.looped(*var, carried, body),
            // What may be left out may be done as well.
            Stmt::When(_) => Ok(()),
            Stmt::Store { buffer, offset, value, mask, accumulate } => {
                self.store_tile(*buffer, offset, *value, *mask, *accumulate);
                Ok(())
            }
        }
    }

    /// Gives a value, or its next lanes.
    fn define(&mut self, value: TileId, tile: Tile<'c>) {
        match (self.window, &mut self.values[value.0 as usize]) {
            (Some((_, (from, _))), Some(begun)) if from > 0 => begun.append(tile),
            (_, slot) => *slot = Some(tile),
        }
    }

    fn expr(&self, value: TileId, expr: &Expr) -> Result<Tile<'c>, CodegenError> {
        let shape = self.shape(self.kernel.ty(value));
        let row = |at: &Coordinates| {
            let value = self.row(expr, at, shape.lanes)?;
            Ok(Row { pieces: vec![value] })
        };
        let rows = shape.coordinates().iter().map(row).collect::<Result<_, CodegenError>>()?;
        Ok(Tile { shape, rows })
    }

    /// Lanes of an expression at some coordinates.
    fn row(&self, expr: &Expr, at: &Coordinates, lanes: u64) -> Result<Value<'c>, CodegenError> {
        let emit = self.emit;
        let operand = |tile: &TileId| self.operand(*tile, at, lanes);
        Ok(match expr {
            Expr::Real(x) => emit.real(*x as f32, lanes),
            Expr::Int(x) => emit.int(*x, lanes),
            Expr::Bool(x) => emit.bool(*x, lanes),
            Expr::Index(offset) => self.index(offset, at, lanes),
            Expr::Load { buffer, offset, mask } => {
                let address = self.address(offset, at, lanes);
                let mask = mask.as_ref().map(operand);
                self.load(*buffer, &address, mask, self.walks(offset))
            }
            Expr::Pointwise(function, operands) => {
                let last = operands.last().expect("pointwise functions have operands");
                let of = self.kernel.ty(*last).scalar;
                pointwise(emit, *function, of, &operands.iter().map(operand).collect::<Vec<_>>())
            }
            Expr::Reduce(reduction, tile, var) => {
                let (source, count) = (self.tile(*tile), self.lanes(*var));
                if self.vectors.contains(var) {
                    reduce_lanes(emit, *reduction, source.row(at).lanes(emit, (0, count)))
                } else {
                    let rows = source.along(at, (*var, count));
                    let rows = rows.iter().map(|row| row.lanes(emit, self.span(lanes)));
                    reduce_values(emit, *reduction, &rows.collect::<Vec<_>>())
                }
            }
            Expr::Noise { key, counter } => {
                let word = |i: usize| match counter.get(i) {
                    Some(tile) => operand(tile),
                    None => emit.int(0, lanes),
                };
                let key = [word(0), emit.int(*key as i32, lanes)];
                noise(emit, key, [word(1), word(2), word(3), word(4)])
            }
            Expr::Dot(..) => return Err(self.unsupported("`dot` in a region kernel")),
        })
    }

    /// Lanes of a value made before, at some coordinates.
    fn operand(&self, tile: TileId, at: &Coordinates, lanes: u64) -> Value<'c> {
        self.tile(tile).row(at).lanes(self.emit, self.span(lanes))
    }

    /// Whether accesses go along memory from turn to turn of the innermost loop, and on from grid
    /// point to grid point: what every point reads again is in the caches.
    fn walks(&self, offset: &Offset) -> bool {
        let Some(fastest) = self.kernel.grid.last() else { return false };
        let inner = self.loops.last().unwrap_or(fastest);
        let along = |var: &VarId| {
            let of =
                |term: &&Term| matches!(term.factor, Factor::Digit { var: v, .. } if v == *var);
            offset.terms.iter().find(of)
        };
        along(fastest).is_some()
            && along(inner).is_some_and(|term| contiguous(term) == Some(inner.0 as usize))
    }

    fn unsupported(&self, what: &str) -> CodegenError {
        CodegenError::Unsupported { kernel: self.kernel.name.clone(), what: what.to_owned() }
    }

    /// An offset as i32 lanes.
    fn index(&self, offset: &Offset, at: &Coordinates, lanes: u64) -> Value<'c> {
        use InstructionOpcode::{Add, Trunc};
        let emit = self.emit;
        let address = self.address(offset, at, lanes);
        let base = emit.splat(emit.cast(Trunc, address.base.into(), Elem::I32), lanes);
        let fixed = emit.cast(Trunc, emit.i64s(&address.fixed), Elem::I32);
        let sum = emit.binary(Add, base, fixed);
        match address.computed {
            Some(computed) => emit.binary(Add, sum, emit.cast(Trunc, computed, Elem::I32)),
            None => sum,
        }
    }

    fn store_tile(
        &self,
        buffer: BufferId,
        offset: &Offset,
        value: TileId,
        mask: Option<TileId>,
        accumulate: bool,
    ) {
        let shape = self.shape(&self.stored_type(offset, value, mask));
        for at in shape.coordinates() {
            let element = |tile: TileId| self.operand(tile, &at, shape.lanes);
            let address = self.address(offset, &at, shape.lanes);
            self.store(buffer, &address, mask.map(element), element(value), accumulate);
        }
    }

    /// What a store varies along: its value, its mask and its offset.
    pub(super) fn stored_type(
        &self,
        offset: &Offset,
        value: TileId,
        mask: Option<TileId>,
    ) -> TileType {
        let values: Vec<TileId> = mask.into_iter().chain([value]).collect();
        let vars = accessed(self.kernel, offset, &values);
        TileType { scalar: Scalar::F32, vars }
    }

    /// Whole tiles in a loop, then the ragged one.
    fn looped(&mut self, var: VarId, carried: &[Carry], body: &[Stmt]) -> Result<(), CodegenError> {
        let emit = self.emit;
        let tiles = Tiles::of(self.kernel, var);
        self.loops.push(var);
        let mut args: Vec<Tile> = carried.iter().map(|c| self.spread(c.init, c.arg)).collect();
        if tiles.whole == 1 {
            args = self.turn(
                Position { var, base: emit.i64(0), lanes: tiles.lanes },
                carried,
                args,
                body,
            )?;
        } else {
            let end = (tiles.whole * tiles.lanes) as i64;
            let flat: Vec<Value> = args.iter().flat_map(pieces).collect();
            let range = (emit.i64(0), emit.i64(end), tiles.lanes as i64);
            let flat = emit.looped(range, &flat, |base, values| {
                let args = regroup(&args, values);
                let position = Position { var, base, lanes: tiles.lanes };
                let next = self.turn(position, carried, args, body)?;
                Ok::<_, CodegenError>(next.iter().flat_map(pieces).collect())
            })?;
            args = regroup(&args, &flat);
        }
        if tiles.ragged > 0 {
            let base = emit.i64((tiles.whole * tiles.lanes) as i64);
            args = self.turn(Position { var, base, lanes: tiles.ragged }, carried, args, body)?;
        }
        self.leave(var);
        self.loops.pop();
        carried.iter().zip(args).for_each(|(carry, tile)| self.set(carry.result, tile));
        Ok(())
    }

    /// One turn of a loop: carried values in and out.
    fn turn(
        &mut self,
        position: Position<'c>,
        carried: &[Carry],
        args: Vec<Tile<'c>>,
        body: &[Stmt],
    ) -> Result<Vec<Tile<'c>>, CodegenError> {
        self.enter(position);
        carried.iter().zip(&args).for_each(|(carry, arg)| self.set(carry.arg, arg.clone()));
        self.block(body)?;
        // Lanes past the extent keep what they had.
        let keep = |(arg, carry): (&Tile<'c>, &Carry)| {
            let next = self.spread(carry.next, carry.arg);
            arg.overlay(self.emit, &next, &self.windows(arg.shape.lanes))
        };
        Ok(args.iter().zip(carried).map(keep).collect())
    }

    /// A value with the variables of another one's type, in windows.
    fn spread(&self, value: TileId, like: TileId) -> Tile<'c> {
        let shape = self.shape(self.kernel.ty(like));
        let row = |at: &Coordinates| {
            let row = self.tile(value).row(at);
            let spans = self.windows(shape.lanes);
            Row { pieces: spans.iter().map(|span| row.lanes(self.emit, *span)).collect() }
        };
        let rows = shape.coordinates().iter().map(row).collect();
        Tile { shape, rows }
    }
}

/// All pieces of a tile.
fn pieces<'t, 'c>(tile: &'t Tile<'c>) -> impl Iterator<Item = Value<'c>> + use<'t, 'c> {
    tile.rows.iter().flat_map(|row| row.pieces.iter().copied())
}

/// A flat list of pieces as tiles like the given ones.
fn regroup<'c>(like: &[Tile<'c>], flat: &[Value<'c>]) -> Vec<Tile<'c>> {
    let mut tiles = like.to_vec();
    let rows = tiles.iter_mut().flat_map(|tile| &mut tile.rows);
    rows.flat_map(|row| &mut row.pieces).zip(flat).for_each(|(piece, value)| *piece = *value);
    tiles
}
