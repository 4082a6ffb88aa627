//! Which parts of a tile a mask leaves: one byte for each block of 16 × 16 lanes, written at the
//! beginning of a turn that a mask cuts, and read by its products and sweeps.
//!
//! `when m` promises that lanes in which `m` does not hold count nowhere. So of a product that
//! makes scores, register tiles without a live block are left at zero; of one that sums over
//! scores, the steps before the first live block and behind the last one are left out: they would
//! add zeros. Sweeps over scores write zeros there.

use gigac_ir::kernel::{TileId, VarId};
use inkwell::IntPredicate;
use inkwell::values::{IntValue, PointerValue};

use super::super::contraction::emit::{Emit, sound};
use super::driver::Driver;
use super::home::{Lie, size};
use super::plan::Plan;

/// Positions of a block along either variable.
pub(super) const BLOCK: u64 = 16;

/// The table of a guarded loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Live {
    /// Its first byte in scratch memory.
    pub(super) offset: u64,
    /// The mask's variables; the second one is fast in the table.
    pub(super) vars: [VarId; 2],
    /// Blocks along the second variable.
    stride: u64,
}

/// How a product uses a table: distances of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Skip {
    /// Not at all.
    Nothing,
    /// Its rows and columns are the table's.
    Tiles { rows: u64, cols: u64 },
    /// Its rows and its steps are.
    Steps { rows: u64, steps: u64 },
}

/// Blocks of so many positions.
fn blocks(positions: u64) -> u64 {
    positions.div_ceil(BLOCK)
}

impl Live {
    /// The table of a mask, at a place of scratch memory; none when the mask has not two variables.
    pub(super) fn new(plan: &Plan<'_>, mask: TileId, offset: u64) -> Option<Self> {
        let vars = <[VarId; 2]>::try_from(plan.program.domain(mask)).ok()?;
        let stride = blocks(size(plan.program.kernel, vars[1]));
        Some(Self { offset, vars, stride })
    }

    /// Bytes of the table.
    pub(super) fn bytes(&self, plan: &Plan<'_>) -> u64 {
        blocks(size(plan.program.kernel, self.vars[0])) * self.stride
    }

    /// Distance of neighbouring blocks along a variable; none when it is not the table's.
    fn step(&self, var: VarId) -> Option<u64> {
        match self.vars {
            [slow, _] if slow == var => Some(self.stride),
            [_, fast] if fast == var => Some(1),
            _ => None,
        }
    }

    /// How a product of rows, columns and steps uses the table.
    pub(super) fn skip(&self, out: Lie, along: VarId) -> Skip {
        let rows = out.rows.and_then(|rows| self.step(rows));
        match (rows, self.step(out.lanes), self.step(along)) {
            (Some(rows), Some(cols), _) => Skip::Tiles { rows, cols },
            (Some(rows), _, Some(steps)) => Skip::Steps { rows, steps },
            _ => Skip::Nothing,
        }
    }

    /// Whether a tile has the table's variables.
    pub(super) fn covers(&self, lie: Lie) -> bool {
        lie.rows.is_some_and(|rows| self.step(rows).is_some()) && self.step(lie.lanes).is_some()
    }
}

/// Some consecutive blocks: the first and the last one.
pub(super) type Blocks<'c> = [IntValue<'c>; 2];

/// The blocks that positions `from..from + count` lie in.
pub(super) fn blocks_of<'c>(
    emit: &Emit<'c, '_>,
    from: IntValue<'c>,
    count: IntValue<'c>,
) -> Blocks<'c> {
    let last = emit.sub(emit.add(from, count), emit.int(1));
    [emit.over(from, BLOCK), emit.over(last, BLOCK)]
}

/// Whether one of two neighbouring blocks along `a`, at one or two places along `b`, is live.
fn is_live<'c>(
    emit: &Emit<'c, '_>,
    table: PointerValue<'c>,
    (a, a_step): (Blocks<'c>, u64),
    (b, b_step): (Blocks<'c>, u64),
) -> IntValue<'c> {
    let byte = emit.context.i8_type();
    let offset = |n: IntValue<'c>, step: u64| emit.times(n, step.cast_signed());
    let mut all = byte.const_zero();
    for a in a {
        for b in b {
            let at = emit.after(table, emit.add(offset(a, a_step), offset(b, b_step)));
            let found = emit.load(byte, at).into_int_value();
            all = sound(emit.builder.build_or(all, found, ""));
        }
    }
    emit.compare(IntPredicate::NE, all, byte.const_zero())
}

/// The steps of a register tile: none when none of its blocks is live.
pub(super) fn steps_of_tile<'c>(
    emit: &Emit<'c, '_>,
    table: PointerValue<'c>,
    rows: (Blocks<'c>, u64),
    cols: (Blocks<'c>, u64),
    steps: IntValue<'c>,
) -> IntValue<'c> {
    let live = is_live(emit, table, rows, cols);
    sound(emit.builder.build_select(live, steps, emit.int(0), "")).into_int_value()
}

/// From the first to behind the last of `count` positions along a variable whose blocks are live
/// somewhere in `others`; `0..0` when none is.
pub(super) fn hull<'c>(
    emit: &Emit<'c, '_>,
    table: PointerValue<'c>,
    others: (Blocks<'c>, u64),
    step: u64,
    count: IntValue<'c>,
) -> (IntValue<'c>, IntValue<'c>) {
    let pick = |c, a: IntValue<'c>, b: IntValue<'c>| {
        sound(emit.builder.build_select(c, a, b, "")).into_int_value()
    };
    let start = [emit.int(0).into(), emit.int(0).into()];
    let ends = emit.fold((emit.int(0), count), BLOCK, &start, |position, ends| {
        let [low, high] = [0, 1].map(|i| ends[i].into_int_value());
        let block = emit.over(position, BLOCK);
        let live = is_live(emit, table, others, ([block, block], step));
        // Nothing was live before as long as the end is 0.
        let first = emit.compare(IntPredicate::EQ, high, emit.int(0));
        let first = sound(emit.builder.build_and(live, first, ""));
        let behind = emit.smaller(emit.add(position, emit.int(BLOCK.cast_signed())), count);
        vec![pick(first, position, low).into(), pick(live, behind, high).into()]
    });
    (ends[0].into_int_value(), ends[1].into_int_value())
}

impl<'c> Driver<'_, 'c, '_, '_> {
    /// Writes the table of a mask for the tiles in hand.
    pub(super) fn survey(&self, mask: TileId, live: Live) {
        let emit = self.emit;
        let [slow, fast] = live.vars.map(|v| self.at(v));
        let table = self.table(live);
        let block = emit.int(BLOCK.cast_signed());
        emit.each(emit.int(0), slow.size, BLOCK, |i| {
            emit.each(emit.int(0), fast.size, BLOCK, |j| {
                for ((var, at), from) in live.vars.into_iter().zip([slow, fast]).zip([i, j]) {
                    let size = emit.smaller(emit.sub(at.size, from), block);
                    self.place(var, emit.add(at.base, from), size);
                }
                let found = self.holds(mask).somewhere;
                let byte = emit.context.i8_type();
                let found = sound(emit.builder.build_int_z_extend(found, byte, ""));
                let line = emit.times(emit.over(i, BLOCK), live.stride.cast_signed());
                emit.store(found, emit.after(table, emit.add(line, emit.over(j, BLOCK))));
            });
        });
        for (var, at) in live.vars.into_iter().zip([slow, fast]) {
            self.place(var, at.base, at.size);
        }
    }

    /// The positions along the lanes of a tile, or along its rows, that are live for some of the
    /// other's.
    pub(super) fn live_part(
        &self,
        live: Live,
        (others, from, count): (VarId, IntValue<'c>, IntValue<'c>),
        along: VarId,
    ) -> (IntValue<'c>, IntValue<'c>) {
        let emit = self.emit;
        let step = |var| live.step(var).expect("the table covers the tile");
        let blocks = blocks_of(emit, from, count);
        let size = self.at(along).size;
        hull(emit, self.table(live), (blocks, step(others)), step(along), size)
    }
}
