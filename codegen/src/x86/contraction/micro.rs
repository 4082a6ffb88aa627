//! The micro-kernel: sums of one register tile over the steps of a turn.
//!
//! Per step it loads the tile's columns, broadcasts each row's element and multiply-adds. All sums
//! live in registers from the first step to the last.

use inkwell::module::Linkage;
use inkwell::values::{BasicValueEnum, FunctionValue, IntValue, PointerValue, VectorValue};

use super::ahead::Fetch;
use super::blocking::RowLayout;
use super::emit::{Cache, Emit, sound};
use super::source::{AHEAD, Reading};

/// Steps per turn of the main loop: enough to hide the loop's own instructions.
pub(super) const UNROLL: u64 = 4;

/// Rows and vectors of a tile; edges of blocks have smaller ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::x86) struct Shape {
    pub(in crate::x86) rows: u64,
    pub(in crate::x86) vectors: u64,
}

/// How the operands and the sums of a tile lie, in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::x86) struct Strides {
    /// Whether the rows' operand has the elements of a row side by side, or those of a step.
    pub(in crate::x86) row_layout: RowLayout,
    /// Distance of rows ([`RowLayout::ByRow`]) or of steps ([`RowLayout::ByStep`]).
    pub(in crate::x86) rows: u64,
    /// Distance of steps of the columns' operand.
    pub(in crate::x86) cols: u64,
    /// Distance of rows of sums.
    pub(in crate::x86) sums: u64,
}

/// A register tile and where its operands are.
pub(super) struct Micro<'e, 'c, 'm> {
    pub(super) emit: &'e Emit<'c, 'm>,
    pub(super) strides: Strides,
    pub(super) shape: Shape,
    pub(super) rows: PointerValue<'c>,
    pub(super) cols: PointerValue<'c>,
    /// Where the columns come from, should they not be packed yet: the copy goes to `cols`.
    pub(super) source: Option<Reading<'c>>,
    /// What to fetch ahead.
    pub(super) fetches: Vec<Fetch<'c>>,
}

/// Emits `micro(steps, packed rows, packed columns, sums, add)`.
pub(in crate::x86) fn emit<'c>(
    emit: &Emit<'c, '_>,
    strides: Strides,
    shape: Shape,
    name: &str,
) -> FunctionValue<'c> {
    let (int, pointer) = (emit.context.i64_type().into(), emit.pointer_type().into());
    let name = format!("{name}.sum.{}x{}", shape.rows, shape.vectors);
    let params = [int, pointer, pointer, pointer, emit.context.bool_type().into()];
    let function = emit.function(&name, &params, Linkage::Internal);
    let param = |i| function.get_nth_param(i).expect("five parameters");
    let (steps, sums) = (param(0).into_int_value(), param(3).into_pointer_value());
    let (rows, cols) = (param(1).into_pointer_value(), param(2).into_pointer_value());
    let micro = Micro { emit, strides, shape, rows, cols, source: None, fetches: Vec::new() };
    micro.write(sums, &micro.sums(steps), param(4).into_int_value());
    emit.finish();
    function
}

impl<'c> Micro<'_, 'c, '_> {
    /// The sums over so many steps, row by row.
    pub(super) fn sums(&self, steps: IntValue<'c>) -> Vec<VectorValue<'c>> {
        let emit = self.emit;
        let zero = emit.vector_type().const_zero();
        let start = vec![zero; (self.shape.rows * self.shape.vectors) as usize];
        let whole = emit.times(emit.over(steps, UNROLL), UNROLL.cast_signed());
        let turns = || self.fetches.iter().map(Fetch::turns);
        let mut bounds: Vec<u64> = turns().flat_map(|t| [t.start, t.end]).collect();
        bounds.sort_unstable();
        bounds.dedup();
        let (mut from, mut sums, mut before) = (emit.int(0), start, 0);
        for turn in bounds.into_iter().filter(|turn| *turn > 0) {
            let to = emit.smaller(whole, emit.int((turn * UNROLL).cast_signed()));
            let fetches = self.fetches.iter().filter(|f| f.turns().contains(&before));
            sums = self.steps(from, to, UNROLL, &fetches.collect::<Vec<_>>(), sums);
            (from, before) = (to, turn);
        }
        sums = self.steps(from, whole, UNROLL, &[], sums);
        self.steps(whole, steps, 1, &[], sums)
    }

    /// A loop over steps; takes and gives the sums.
    fn steps(
        &self,
        from: IntValue<'c>,
        to: IntValue<'c>,
        unroll: u64,
        fetches: &[&Fetch<'c>],
        start: Vec<VectorValue<'c>>,
    ) -> Vec<VectorValue<'c>> {
        let builder = &self.emit.builder;
        let before = builder.get_insert_block().expect("a block is being emitted");
        let mut phis = Vec::new();
        let mut ends = Vec::new();
        self.emit.each(from, to, unroll, |step| {
            // The loop's head is the one predecessor of the block being emitted.
            let body = builder.get_insert_block().expect("a block is being emitted");
            let head = body.get_previous_basic_block().expect("the head stands before the body");
            builder.position_at(head, &head.get_first_instruction().expect("it has a phi"));
            phis.extend(start.iter().map(|sum| sound(builder.build_phi(sum.get_type(), ""))));
            builder.position_at_end(body);
            fetches.iter().for_each(|f| f.turn(self.emit, self.emit.over(step, unroll)));
            let sums = phis.iter().map(|phi| phi.as_basic_value().into_vector_value()).collect();
            ends = (0..unroll).fold(sums, |sums, i| self.step(step, i, sums));
            for ((phi, start), end) in phis.iter().zip(&start).zip(&ends) {
                phi.add_incoming(&[(start, before), (end, body)]);
            }
        });
        phis.iter().map(|phi| phi.as_basic_value().into_vector_value()).collect()
    }

    /// The multiply-adds of step `step + ahead`.
    fn step(
        &self,
        step: IntValue<'c>,
        ahead: u64,
        mut sums: Vec<VectorValue<'c>>,
    ) -> Vec<VectorValue<'c>> {
        let vectors = self.shape.vectors;
        let right = self.columns(step, ahead);
        for row in 0..self.shape.rows {
            let left = self.row_element(step, ahead, row);
            for v in 0..vectors {
                let sum = &mut sums[(row * vectors + v) as usize];
                *sum = self.multiply_add(left, right[v as usize], *sum);
            }
        }
        sums
    }

    /// The columns of a step: packed, or at their source, leaving a copy and fetching a later step.
    fn columns(&self, step: IntValue<'c>, ahead: u64) -> Vec<BasicValueEnum<'c>> {
        let (emit, cols) = (self.emit, self.strides.cols);
        let line = emit.after(self.cols, emit.times(step, (cols * 4).cast_signed()));
        let vector = |v: u64| {
            let inside = v * u64::from(emit.lanes) * 4;
            let packed = emit.field(line, ahead * cols * 4 + inside);
            let Some(source) = &self.source else { return emit.load(emit.vector_type(), packed) };
            let at = emit.after(source.from, emit.times(step, source.stride.cast_signed()));
            emit.prefetch(emit.field(at, (ahead + AHEAD) * source.stride + inside), Cache::Second);
            let vector =
                emit.load(emit.vector_type(), emit.field(at, ahead * source.stride + inside));
            emit.store(vector, packed);
            vector
        };
        (0..self.shape.vectors).map(vector).collect()
    }

    fn row_element(&self, step: IntValue<'c>, ahead: u64, row: u64) -> BasicValueEnum<'c> {
        let (emit, stride) = (self.emit, self.strides.rows);
        let (per_step, element) = match self.strides.row_layout {
            RowLayout::ByRow => (1, row * stride + ahead),
            RowLayout::ByStep => (stride, ahead * stride + row),
        };
        let line = emit.after(self.rows, emit.times(step, (per_step * 4).cast_signed()));
        let scalar = emit.load(emit.context.f32_type(), emit.field(line, element * 4));
        emit.splat(scalar, emit.lanes).into()
    }

    fn multiply_add(
        &self,
        a: BasicValueEnum<'c>,
        b: BasicValueEnum<'c>,
        sum: VectorValue<'c>,
    ) -> VectorValue<'c> {
        let ty = self.emit.vector_type().into();
        let result = self.emit.intrinsic("llvm.fma", &[ty], &[a, b, sum.into()]);
        result.expect("it has a result").into_vector_value()
    }

    /// Leaves sums in memory, added to those of earlier turns if there are any.
    pub(super) fn write(&self, to: PointerValue<'c>, sums: &[VectorValue<'c>], add: IntValue<'c>) {
        self.emit.branch(
            add,
            || self.write_sums(to, sums, true),
            || self.write_sums(to, sums, false),
        );
    }

    /// Leaves sums in memory, or adds them to what is there.
    pub(super) fn write_sums(&self, to: PointerValue<'c>, sums: &[VectorValue<'c>], add: bool) {
        let emit = self.emit;
        for (i, sum) in (0..).zip(sums) {
            let (row, v) = (i / self.shape.vectors, i % self.shape.vectors);
            let element = row * self.strides.sums + v * u64::from(emit.lanes);
            let place = emit.field(to, element * 4);
            let mut sum = *sum;
            if add {
                let old = emit.load(emit.vector_type(), place).into_vector_value();
                sum = sound(emit.builder.build_float_add(old, sum, ""));
            }
            emit.store(sum, place);
        }
    }
}
