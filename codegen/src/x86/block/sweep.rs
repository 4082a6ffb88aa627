//! One pass over a tile: chains of pointwise functions in registers, vector by vector.
//!
//! A reduction along rows keeps its sums in registers while the rows pass by: groups of vectors
//! outside, rows inside. Everything else takes row after row. Vectors at the edge of a variable
//! have a mask where memory is touched or lanes are added up; homes have room for whole vectors.

use gigac_ir::kernel::{Expr, Reduction, Scalar, TileId, VarId};
use inkwell::values::{BasicValueEnum, IntValue, VectorValue};

use super::super::contraction::access::{Access, Starts, classify};
use super::super::contraction::lanewise::{Frame, Lanes, Lanewise};
use super::super::reduce::{combine, reduce_lanes};
use super::dot::sizes;
use super::driver::Driver;
use super::home::{HomeId, Lie};
use super::live::{BLOCK, Live};
use super::plan::{Sink, Sweep};
use crate::pattern::expr_operands;

/// Vectors per turn of the inner loop: enough to hide the loop's own instructions.
const UNROLL: u64 = 4;

/// Chains of additions along lanes.
const CHAINS: u64 = 16;

/// The vector in hand: its row, its first lane, and the lanes that exist.
#[derive(Clone, Copy)]
struct Place<'c> {
    row: Option<IntValue<'c>>,
    lane: IntValue<'c>,
    mask: Option<VectorValue<'c>>,
}

/// A reduction of a sweep.
#[derive(Clone, Copy)]
struct Sum {
    op: Reduction,
    of: TileId,
    home: HomeId,
    scalar: Scalar,
}

impl<'c, 'k> Driver<'_, 'c, '_, 'k> {
    /// Evaluates values along a variable, from some of its lanes on.
    pub(super) fn lanes<'a>(
        &'a self,
        var: VarId,
        lane: IntValue<'c>,
        mask: Option<VectorValue<'c>>,
        row: Option<(VarId, IntValue<'c>)>,
    ) -> (Frame<'c>, Lanes<'c>) {
        let emit = self.emit;
        let mut positions = self.bases();
        if let Some((var, row)) = row {
            positions.insert(var, emit.add(positions[&var], row));
        }
        let start = emit.add(positions[&var], lane);
        let (buffers, scalars) = (self.buffers().to_vec(), self.scalars().to_vec());
        let align = self.align(var);
        (
            Frame { buffers, scalars, positions },
            Lanes { var, start, starts: Starts::Multiples(align), mask },
        )
    }

    /// A value that has no homes below it.
    pub(super) fn evaluate(
        &self,
        (frame, lanes): &(Frame<'c>, Lanes<'c>),
        value: TileId,
    ) -> VectorValue<'c> {
        let program = &self.plan.program;
        let lanes = Lanes { ..*lanes };
        Lanewise::new(self.emit, (program.kernel, &program.exprs), frame, lanes).value(value)
    }

    /// A number that divides every position at which a vector begins.
    fn align(&self, var: VarId) -> u64 {
        let (declared, lanes) = (self.plan.program.kernel.var(var), self.plan.lanes);
        if declared.tiles() == 1 {
            lanes
        } else {
            1 << declared.tile.trailing_zeros().min(lanes.trailing_zeros())
        }
    }

    /// Emits a sweep.
    pub(super) fn sweep(&self, sweep: &Sweep<'k>) {
        let (mut down, mut across) = (Vec::new(), Vec::new());
        for sink in &sweep.sinks {
            if let Sink::Reduce { op, of, along, home } = *sink {
                let sum = Sum { op, of, home, scalar: self.plan.program.scalar(of) };
                if along == sweep.lie.lanes { across.push(sum) } else { down.push(sum) }
            }
        }
        // Sums along lanes read what the others may overwrite.
        if !across.is_empty() {
            self.across(sweep, &across, down.is_empty());
        }
        let cut = self.cut().filter(|live| live.covers(sweep.lie));
        match (down.is_empty(), cut) {
            (false, cut) => self.down(sweep, &down, cut),
            (true, _) if !across.is_empty() => {}
            (true, Some(live)) => self.cut_rows(sweep, live),
            (true, None) => self.rows(sweep, |row| {
                self.vectors(sweep, |lane, mask| {
                    self.element(sweep, Place { row, lane, mask }, &[], true);
                });
            }),
        }
    }

    /// Rows of which a mask leaves a part: zeros before and behind it.
    fn cut_rows(&self, sweep: &Sweep<'k>, live: Live) {
        let (emit, lanes) = (self.emit, self.plan.lanes);
        let along = sweep.lie.lanes;
        let rows = sweep.lie.rows.expect("the table covers a tile of two variables");
        let (height, width) = (self.at(rows).size, self.at(along).size);
        emit.each(emit.int(0), height, BLOCK, |first| {
            let count = emit.smaller(emit.sub(height, first), emit.int(BLOCK.cast_signed()));
            let (from, to) = self.live_part(live, (rows, first, count), along);
            emit.each(first, emit.add(first, count), 1, |row| {
                let row = Some(row);
                let zeros = |from, to| {
                    emit.each(from, to, lanes, |lane| {
                        self.clear(sweep, Place { row, lane, mask: None })
                    });
                };
                zeros(emit.int(0), from);
                if self.needs_mask(sweep, false) {
                    emit.each(from, to, lanes, |lane| {
                        let mask = Some(self.lanes_before(lane, width));
                        self.element(sweep, Place { row, lane, mask }, &[], true);
                    });
                } else {
                    emit.each(from, to, lanes, |lane| {
                        self.element(sweep, Place { row, lane, mask: None }, &[], true);
                    });
                }
                zeros(
                    emit.times(
                        emit.over(emit.add(to, emit.int(BLOCK.cast_signed() - 1)), BLOCK),
                        BLOCK.cast_signed(),
                    ),
                    width,
                );
            });
        });
    }

    /// Zeros in all homes that a sweep fills, at one place.
    fn clear(&self, sweep: &Sweep<'k>, place: Place<'c>) {
        let emit = self.emit;
        for sink in &sweep.sinks {
            if let Sink::Keep { value, home } = sink {
                let zero = match self.plan.program.scalar(*value) {
                    Scalar::I32 => emit.base.int(0, self.plan.lanes),
                    _ => emit.base.real(0.0, self.plan.lanes),
                };
                emit.store(zero.into_vector_value(), self.vector_place(*home, place));
            }
        }
    }

    /// Runs a body for every row.
    fn rows(&self, sweep: &Sweep<'k>, body: impl FnOnce(Option<IntValue<'c>>)) {
        let emit = self.emit;
        match sweep.lie.rows {
            None => body(None),
            Some(rows) => emit.each(emit.int(0), self.at(rows).size, 1, |row| body(Some(row))),
        }
    }

    /// Runs a body for every vector of a row, with a mask where lanes may be missing.
    fn vectors(&self, sweep: &Sweep<'k>, body: impl Fn(IntValue<'c>, Option<VectorValue<'c>>)) {
        let (emit, lanes) = (self.emit, self.plan.lanes);
        let size = self.at(sweep.lie.lanes).size;
        let masked = self.needs_mask(sweep, false);
        let end =
            if masked { emit.times(emit.over(size, lanes), lanes.cast_signed()) } else { size };
        // Turns of several vectors must all exist; a home's room may be overrun by none.
        let group = UNROLL * lanes;
        let grouped = emit.times(emit.over(end, group), group.cast_signed());
        emit.each(emit.int(0), grouped, group, |lane| {
            (0..UNROLL)
                .for_each(|i| body(emit.add(lane, emit.int((i * lanes).cast_signed())), None));
        });
        emit.each(grouped, end, lanes, |lane| body(lane, None));
        if masked {
            let left = emit.sub(size, end);
            let some = emit.compare(inkwell::IntPredicate::NE, left, emit.int(0));
            emit.branch(some, || body(end, Some(emit.lanes_below(left))), || ());
        }
    }

    /// Whether the vectors of a row may not all be whole, and that matters.
    fn needs_mask(&self, sweep: &Sweep<'k>, reduces: bool) -> bool {
        let sizes = sizes(self.plan.program.kernel, sweep.lie.lanes);
        // Sums along lanes take as many at a time as there are chains.
        let unit = if reduces { CHAINS } else { self.plan.lanes };
        let whole = sizes.iter().all(|n| n.is_multiple_of(unit));
        !whole && (reduces || self.touches_memory(sweep))
    }

    fn touches_memory(&self, sweep: &Sweep<'k>) -> bool {
        let program = &self.plan.program;
        let stops: Vec<TileId> = sweep.reads.iter().map(|(v, _)| *v).collect();
        let mut open = Vec::new();
        for sink in &sweep.sinks {
            match sink {
                Sink::Keep { value, .. } | Sink::Reduce { of: value, .. } => open.push(*value),
                Sink::Store(_) => return true,
            }
        }
        while let Some(value) = open.pop() {
            if stops.contains(&value) {
                continue;
            }
            let Some(expr) = program.exprs.get(&value) else { continue };
            if let Expr::Load { offset, .. } = expr {
                let align = self.align(sweep.lie.lanes);
                let kernel = program.kernel;
                let access = classify(
                    kernel,
                    offset,
                    sweep.lie.lanes,
                    Starts::Multiples(align),
                    self.plan.lanes,
                );
                if access != Access::Uniform {
                    return true;
                }
            }
            open.extend(expr_operands(expr));
        }
        false
    }

    /// Computes the vectors of all sinks at one place; gives those of `sums`. Everything is read
    /// before anything is written, so homes may be overwritten in place.
    fn element(
        &self,
        sweep: &Sweep<'k>,
        place: Place<'c>,
        sums: &[Sum],
        write: bool,
    ) -> Vec<BasicValueEnum<'c>> {
        let (emit, program) = (self.emit, &self.plan.program);
        let Lie { rows, lanes: along } = sweep.lie;
        let row = rows.zip(place.row);
        let (frame, lanes) = self.lanes(along, place.lane, place.mask, row);
        let lanewise = Lanewise::new(emit, (program.kernel, &program.exprs), &frame, lanes);
        for (value, home) in &sweep.reads {
            lanewise.set(*value, self.read(*value, *home, sweep.lie, place));
        }
        for (value, holds) in self.known() {
            let bit = emit.context.bool_type().const_int(holds.into(), false);
            lanewise.set(value, emit.splat(bit.into(), emit.lanes));
        }
        let mut keeps = Vec::new();
        for sink in &sweep.sinks {
            match sink {
                Sink::Keep { value, home } => keeps.push((lanewise.value(*value), *home)),
                Sink::Reduce { .. } => {}
                Sink::Store(store) => {
                    lanewise.value(store.value);
                }
            }
        }
        let results = sums.iter().map(|sum| lanewise.value(sum.of).into()).collect();
        if write {
            for (vector, home) in keeps {
                emit.store(vector, self.vector_place(home, place));
            }
            for sink in &sweep.sinks {
                if let Sink::Store(store) = sink {
                    lanewise.store(store);
                }
            }
        }
        results
    }

    /// The lanes of a value in a home.
    fn read(&self, value: TileId, home: HomeId, lie: Lie, place: Place<'c>) -> VectorValue<'c> {
        let emit = self.emit;
        let int = self.plan.program.scalar(value) == Scalar::I32;
        let own = self.plan.homes[home.0].lie;
        if own.rows.is_none() && own.lanes != lie.lanes {
            // It varies along the rows of the sweep.
            let row = place.row.expect("a tile of two variables has rows");
            let at = emit.after(self.home(home), emit.times(row, 4));
            let scalar = match int {
                true => emit.load(emit.context.i32_type(), at),
                false => emit.load(emit.context.f32_type(), at),
            };
            return emit.splat(scalar, emit.lanes);
        }
        let at = self.vector_place(home, place);
        match int {
            true => emit.load(emit.context.i32_type().vec_type(emit.lanes), at).into_vector_value(),
            false => emit.load(emit.vector_type(), at).into_vector_value(),
        }
    }

    /// Where a home has the vector of a place.
    fn vector_place(&self, home: HomeId, place: Place<'c>) -> inkwell::values::PointerValue<'c> {
        let emit = self.emit;
        let mut base = self.home(home);
        if let (Some(_), Some(row)) = (self.plan.homes[home.0].lie.rows, place.row) {
            base = emit.after(base, emit.times(row, (4 * self.plan.stride(home)).cast_signed()));
        }
        emit.after(base, emit.times(place.lane, 4))
    }

    /// What a reduction starts from.
    fn neutral(&self, sum: Sum) -> BasicValueEnum<'c> {
        let (emit, lanes) = (self.emit.base, self.plan.lanes);
        match (sum.op, sum.scalar) {
            (Reduction::Sum, Scalar::F32) => emit.real(0.0, lanes),
            (Reduction::Max, Scalar::F32) => emit.real(f32::NEG_INFINITY, lanes),
            (Reduction::Sum, _) => emit.int(0, lanes),
            (Reduction::Max, _) => emit.int(i32::MIN, lanes),
        }
    }

    fn add_to(
        &self,
        sums: &[Sum],
        so_far: &[BasicValueEnum<'c>],
        new: Vec<BasicValueEnum<'c>>,
    ) -> Vec<BasicValueEnum<'c>> {
        let all = sums.iter().zip(so_far).zip(new);
        all.map(|((sum, a), b)| combine(self.emit.base, sum.op, *a, b)).collect()
    }

    /// Sums along rows: a group of vectors at a time.
    fn down(&self, sweep: &Sweep<'k>, sums: &[Sum], cut: Option<Live>) {
        let (emit, lanes) = (self.emit, self.plan.lanes);
        let row_var = sweep.lie.rows.expect("it has rows to sum along");
        let rows = self.at(row_var).size;
        let size = self.at(sweep.lie.lanes).size;
        let neutral: Vec<_> = sums.iter().map(|sum| self.neutral(*sum)).collect();
        let group = |lane: IntValue<'c>, count: u64, mask: Option<VectorValue<'c>>| {
            let at = |i: u64| emit.add(lane, emit.int((i * lanes).cast_signed()));
            let start: Vec<_> = (0..count).flat_map(|_| neutral.clone()).collect();
            // Rows that a mask leaves, zeros before and behind them.
            let (from, to) = cut.map_or((emit.int(0), rows), |live| {
                let width = emit.int((count * lanes).cast_signed());
                let width = emit.smaller(emit.sub(size, lane), width);
                let part = self.live_part(live, (sweep.lie.lanes, lane, width), row_var);
                for (from, to) in [(emit.int(0), part.0), (part.1, rows)] {
                    emit.each(from, to, 1, |row| {
                        for i in 0..count {
                            let place = Place { row: Some(row), lane: at(i), mask: None };
                            self.clear(sweep, place);
                        }
                    });
                }
                part
            });
            let ends = emit.fold((from, to), 1, &start, |row, so_far| {
                let each = (0..count).zip(so_far.chunks(sums.len()));
                each.flat_map(|(i, so_far)| {
                    let place = Place { row: Some(row), lane: at(i), mask };
                    self.add_to(sums, so_far, self.element(sweep, place, sums, true))
                })
                .collect()
            });
            for (i, ends) in (0..count).zip(ends.chunks(sums.len())) {
                for (sum, end) in sums.iter().zip(ends) {
                    let to = emit.after(self.home(sum.home), emit.times(at(i), 4));
                    emit.store(end.into_vector_value(), to);
                }
            }
        };
        let masked = self.needs_mask(sweep, false);
        let end =
            if masked { emit.times(emit.over(size, lanes), lanes.cast_signed()) } else { size };
        // Of a cut tile, a wide group would compute more that does not count.
        let most = if cut.is_some() { BLOCK / lanes } else { UNROLL };
        let several = most * lanes;
        let grouped = emit.times(emit.over(end, several), several.cast_signed());
        emit.each(emit.int(0), grouped, several, |lane| group(lane, most, None));
        emit.each(grouped, end, lanes, |lane| group(lane, 1, None));
        if masked {
            let left = emit.sub(size, end);
            let some = emit.compare(inkwell::IntPredicate::NE, left, emit.int(0));
            emit.branch(some, || group(end, 1, Some(emit.lanes_below(left))), || ());
        }
    }

    /// Sums along lanes, in [`CHAINS`] chains whatever the width of vectors.
    fn across(&self, sweep: &Sweep<'k>, sums: &[Sum], write: bool) {
        let (emit, lanes) = (self.emit, self.plan.lanes);
        let parts = CHAINS / lanes;
        let size = self.at(sweep.lie.lanes).size;
        let masked = self.needs_mask(sweep, true);
        let whole = emit.times(emit.over(size, CHAINS), CHAINS.cast_signed());
        let neutral: Vec<_> = sums.iter().map(|sum| self.neutral(*sum)).collect();
        let start: Vec<_> = (0..parts).flat_map(|_| neutral.clone()).collect();
        let rows = self.at(sweep.lie.rows.expect("sums along lanes have rows")).size;
        emit.each(emit.int(0), rows, 1, |row| {
            let chunk = |lane: IntValue<'c>, so_far: &[BasicValueEnum<'c>], edge: bool| {
                let each = (0..parts).zip(so_far.chunks(sums.len()));
                let part = |(i, so_far): (u64, &[BasicValueEnum<'c>])| {
                    let lane = emit.add(lane, emit.int((i * lanes).cast_signed()));
                    let mask = edge.then(|| self.lanes_before(lane, size));
                    let place = Place { row: Some(row), lane, mask };
                    let mut new = self.element(sweep, place, sums, write);
                    if let Some(mask) = mask {
                        let pairs = new.iter_mut().zip(&neutral);
                        pairs.for_each(|(x, n)| *x = emit.base.select(mask.into(), *x, *n));
                    }
                    self.add_to(sums, so_far, new)
                };
                each.flat_map(part).collect::<Vec<_>>()
            };
            let most = emit.fold((emit.int(0), whole), CHAINS, &start, |lane, so_far| {
                chunk(lane, &so_far, false)
            });
            let all = if masked {
                emit.fold((whole, size), CHAINS, &most, |lane, so_far| chunk(lane, &so_far, true))
            } else {
                most
            };
            for (i, sum) in sums.iter().enumerate() {
                let mut vectors = all.iter().skip(i).step_by(sums.len()).copied();
                let first = vectors.next().expect("there is one part at least");
                let joined = vectors.fold(first, |a, b| combine(emit.base, sum.op, a, b));
                let scalar = reduce_lanes(emit.base, sum.op, joined);
                let to = emit.after(self.home(sum.home), emit.times(row, 4));
                match scalar {
                    BasicValueEnum::FloatValue(x) => emit.store(x, to),
                    other => emit.store(other.into_int_value(), to),
                }
            }
        });
    }

    /// A mask of the lanes of a vector that lie before the end; none when it begins behind it.
    fn lanes_before(&self, lane: IntValue<'c>, end: IntValue<'c>) -> VectorValue<'c> {
        let emit = self.emit;
        emit.lanes_below(emit.sub(end, emit.smaller(lane, end)))
    }
}
