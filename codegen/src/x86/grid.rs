//! Runs a body for the grid points `first..last`.
//!
//! Digits of the point number are divided out once, at `first`, and then counted up. The fastest
//! variable with several tiles is an inner loop over whole tiles, followed by its ragged tile if
//! it has one; so bodies know at compile time how many lanes they have, and need no masks. A
//! ragged variable further out selects between two copies of the inner loop.

use gigac_ir::kernel::{Kernel, VarId};
use inkwell::IntPredicate;
use inkwell::values::IntValue;

use super::emit::{Elem, Emitter, Value};
use super::frame::Frame;
use crate::CodegenError;

/// Where a variable stands: its first position, and how many lanes from there are inside the
/// extent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Position<'c> {
    pub(super) var: VarId,
    pub(super) base: IntValue<'c>,
    pub(super) lanes: u64,
}

/// The tiles of a variable: whole ones, then at most one ragged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tiles {
    /// Lanes of a whole tile: the tile, or the extent if that is smaller.
    pub(super) lanes: u64,
    /// Number of whole tiles.
    pub(super) whole: u64,
    /// Lanes of the ragged tile; 0 for none.
    pub(super) ragged: u64,
}

impl Tiles {
    pub(super) fn of(kernel: &Kernel, var: VarId) -> Self {
        let var = kernel.var(var);
        let lanes = var.tile.min(var.extent);
        Self { lanes, whole: var.extent / lanes, ragged: var.extent % lanes }
    }

    /// Number of all tiles.
    pub(super) fn all(self) -> u64 {
        self.whole + u64::from(self.ragged > 0)
    }
}

type Body<'b, 'c> = &'b mut dyn FnMut(&[Position<'c>]) -> Result<(), CodegenError>;

/// Emits the loops, and the body once for each combination of whole and ragged tiles.
pub(super) fn points<'c>(
    emit: &Emitter<'c>,
    kernel: &Kernel,
    frame: &Frame<'c>,
    body: Body<'_, 'c>,
) -> Result<(), CodegenError> {
    let tiles = |v: &VarId| (*v, Tiles::of(kernel, *v));
    let (mut split, still): (Vec<_>, Vec<_>) =
        kernel.grid.iter().map(tiles).partition(|(_, tiles)| tiles.all() > 1);
    let still =
        still.iter().map(|(var, t)| Position { var: *var, base: emit.i64(0), lanes: t.lanes });
    let mut grid = Grid { emit, positions: still.collect(), body };
    let some = emit.icmp(IntPredicate::ULT, frame.first.into(), frame.last.into());
    emit.when(some, || match split.pop() {
        None => (grid.body)(&grid.positions),
        Some(inner) => grid.runs(&split, inner, frame),
    })
}

struct Grid<'e, 'b, 'c> {
    emit: &'e Emitter<'c>,
    positions: Vec<Position<'c>>,
    body: Body<'b, 'c>,
}

impl<'c> Grid<'_, '_, 'c> {
    /// One turn per stretch of points that differ in the inner variable only.
    fn runs(
        &mut self,
        outer: &[(VarId, Tiles)],
        inner: (VarId, Tiles),
        frame: &Frame<'c>,
    ) -> Result<(), CodegenError> {
        let emit = self.emit;
        let (start, mut rest) = self.digit(frame.first, inner.1);
        let mut digits = Vec::new();
        for (_, tiles) in outer.iter().rev() {
            let (digit, above) = self.digit(rest, *tiles);
            digits.insert(0, digit);
            rest = above;
        }
        if outer.is_empty() {
            let count = emit.sub(frame.last, frame.first);
            return self.run(&[], inner, start, emit.add(start, count));
        }
        let (before, head, exit) = (emit.here(), emit.block("run"), emit.block("end"));
        emit.jump(head);
        emit.enter(head);
        let first: Vec<Value<'c>> =
            [frame.first, start].into_iter().chain(digits).map(Into::into).collect();
        let phis: Vec<_> = first.iter().map(|v| emit.phi(v.get_type())).collect();
        let values: Vec<_> = phis.iter().map(|p| p.as_basic_value().into_int_value()).collect();
        let (point, start, digits) = (values[0], values[1], &values[2..]);

        let left = emit.sub(frame.last, point);
        let in_row = emit.sub(emit.i64(inner.1.all() as i64), start);
        let count = emit.min(left, in_row);
        let outer_digits: Vec<_> = outer.iter().copied().zip(digits.iter().copied()).collect();
        self.run(&outer_digits, inner, start, emit.add(start, count))?;

        let point = emit.add(point, count);
        let mut next: Vec<Value<'c>> = vec![point.into(), emit.i64(0).into()];
        next.extend(self.count_up(&outer_digits));
        let more = emit.icmp(IntPredicate::ULT, point.into(), frame.last.into());
        let last = emit.here();
        emit.branch(more, head, exit);
        for ((phi, first), next) in phis.iter().zip(&first).zip(&next) {
            phi.add_incoming(&[(first, before), (next, last)]);
        }
        emit.enter(exit);
        Ok(())
    }

    /// The lowest digit of a number, and the number without it.
    fn digit(&self, number: IntValue<'c>, tiles: Tiles) -> (IntValue<'c>, IntValue<'c>) {
        (self.emit.rem(number, tiles.all()), self.emit.div(number, tiles.all()))
    }

    /// The digits of the next run.
    fn count_up(&self, digits: &[((VarId, Tiles), IntValue<'c>)]) -> Vec<Value<'c>> {
        let emit = self.emit;
        let mut carry = emit.i64(1);
        let mut next: Vec<Value<'c>> = Vec::new();
        for ((_, tiles), digit) in digits.iter().rev() {
            let up = emit.add(*digit, carry);
            let wraps = emit.icmp(IntPredicate::EQ, up.into(), emit.i64(tiles.all() as i64).into());
            next.insert(0, emit.select(wraps, emit.i64(0).into(), up.into()));
            carry = emit
                .cast(inkwell::values::InstructionOpcode::ZExt, wraps, Elem::I64)
                .into_int_value();
        }
        next
    }

    /// The points of one run: `start..end` of the inner variable.
    fn run(
        &mut self,
        outer: &[((VarId, Tiles), IntValue<'c>)],
        inner: (VarId, Tiles),
        start: IntValue<'c>,
        end: IntValue<'c>,
    ) -> Result<(), CodegenError> {
        let emit = self.emit;
        let Some((((var, tiles), digit), outer)) = outer.split_first() else {
            return self.row(inner, start, end);
        };
        let base = emit.mul(*digit, tiles.lanes as i64);
        let mut with = |lanes| {
            self.positions.push(Position { var: *var, base, lanes });
            let result = self.run(outer, inner, start, end);
            self.positions.pop();
            result
        };
        if tiles.ragged == 0 {
            return with(tiles.lanes);
        }
        let whole =
            emit.icmp(IntPredicate::ULT, (*digit).into(), emit.i64(tiles.whole as i64).into());
        let (then, otherwise, join) =
            (emit.block("whole"), emit.block("ragged"), emit.block("join"));
        emit.branch(whole, then, otherwise);
        for (block, lanes) in [(then, tiles.lanes), (otherwise, tiles.ragged)] {
            emit.enter(block);
            with(lanes)?;
            emit.jump(join);
        }
        emit.enter(join);
        Ok(())
    }

    /// Whole tiles in a loop, then the ragged one.
    fn row(
        &mut self,
        (var, tiles): (VarId, Tiles),
        start: IntValue<'c>,
        end: IntValue<'c>,
    ) -> Result<(), CodegenError> {
        let emit = self.emit;
        let whole = emit.i64(tiles.whole as i64);
        let stop = if tiles.ragged == 0 { end } else { emit.min(end, whole) };
        let mut at = |digit, lanes| {
            let base = emit.mul(digit, tiles.lanes as i64);
            self.positions.push(Position { var, base, lanes });
            let result = (self.body)(&self.positions);
            self.positions.pop();
            result
        };
        if tiles.ragged == 0 {
            return emit
                .looped((start, stop, 1), &[], |i, _| at(i, tiles.lanes).map(|()| vec![]))
                .map(drop);
        }
        emit.when(emit.icmp(IntPredicate::ULT, start.into(), stop.into()), || {
            emit.looped((start, stop, 1), &[], |i, _| at(i, tiles.lanes).map(|()| vec![])).map(drop)
        })?;
        let ends = emit.icmp(IntPredicate::UGT, end.into(), whole.into());
        emit.when(ends, || at(whole, tiles.ragged))
    }
}
