//! Products of tiles in scratch memory: panels of rows by groups of columns, each one call of the
//! micro-kernel.
//!
//! A function is shared by all products whose operands lie alike. The sizes that a tile may have
//! are known: whole, and ragged at the end of its variable. For each of them the rows are cut into
//! as few panels as registers allow, of heights that differ by one at most: 64 rows are four
//! panels of 11 and two of 10, so that none is a thin remainder.

use std::cell::RefCell;
use std::collections::BTreeMap;

use gigac_ir::kernel::{Kernel, VarId};
use inkwell::IntPredicate;
use inkwell::module::Linkage;
use inkwell::values::{FunctionValue, IntValue, PointerValue};

use super::super::contraction::blocking::{RegisterTile, RowLayout};
use super::super::contraction::emit::Emit;
use super::super::contraction::micro::{self, Shape, Strides};
use super::home::size;
use super::live::{Live, Skip, blocks_of, hull, steps_of_tile};
use super::plan::{Dot, Guard, Plan, Step};

/// What products have in common that share a function.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Kind {
    strides: Strides,
    /// Sizes that the rows may have, and the columns.
    rows: Vec<u64>,
    cols: Vec<u64>,
    /// What a mask leaves out.
    skip: Skip,
}

/// The functions of a kernel's products.
pub(super) struct Dots<'c> {
    kinds: Vec<(Kind, FunctionValue<'c>)>,
}

/// Emits functions of products.
struct Builder<'e, 'c, 'm, 'k> {
    emit: &'e Emit<'c, 'm>,
    plan: &'e Plan<'k>,
    tile: RegisterTile,
    micros: RefCell<Vec<(Strides, Shape, FunctionValue<'c>)>>,
}

/// The parameters of a product's function.
struct Operands<'c> {
    cols: IntValue<'c>,
    steps: IntValue<'c>,
    left: PointerValue<'c>,
    right: PointerValue<'c>,
    out: PointerValue<'c>,
    add: IntValue<'c>,
    /// The table of live blocks.
    table: PointerValue<'c>,
}

impl<'c> Dots<'c> {
    /// Emits the functions of all products of a plan.
    pub(super) fn emit(emit: &Emit<'c, '_>, plan: &Plan<'_>, tile: RegisterTile) -> Self {
        let builder = Builder { emit, plan, tile, micros: RefCell::default() };
        let mut kinds: Vec<(Kind, FunctionValue<'c>)> = Vec::new();
        for (dot, live) in products(&plan.body, None) {
            let kind = builder.kind(dot, live);
            if kinds.iter().all(|(known, _)| *known != kind) {
                let function = builder.function(&kind, kinds.len());
                kinds.push((kind, function));
            }
        }
        Self { kinds }
    }

    /// The function of a product.
    pub(super) fn of(
        &self,
        emit: &Emit<'c, '_>,
        plan: &Plan<'_>,
        tile: RegisterTile,
        (dot, live): (&Dot, Option<Live>),
    ) -> FunctionValue<'c> {
        let kind = Builder { emit, plan, tile, micros: RefCell::default() }.kind(dot, live);
        let found = self.kinds.iter().find(|(known, _)| *known == kind);
        found.expect("every product of the plan has a function").1
    }
}

/// All products of some steps, with the tables of the masks that cut them; those of guarded loops
/// occur without a table too.
fn products<'p>(steps: &'p [Step<'_>], live: Option<Live>) -> Vec<(&'p Dot, Option<Live>)> {
    let of = |step: &'p Step<'_>| match step {
        Step::Dot(dot) => vec![(dot, live)],
        Step::Loop { guard: Some(Guard { live: inner, .. }), body, .. } => {
            [products(body, live), products(body, *inner)].concat()
        }
        Step::Loop { guard: None, body, .. } | Step::Cached { body, .. } => products(body, live),
        Step::Sweep(_) | Step::Transpose { .. } | Step::Copy { .. } => Vec::new(),
    };
    steps.iter().flat_map(of).collect()
}

/// Sizes that a tile of a variable may have.
pub(super) fn sizes(kernel: &Kernel, var: VarId) -> Vec<u64> {
    let (whole, extent) = (size(kernel, var), kernel.var(var).extent);
    let mut sizes = vec![whole];
    if !extent.is_multiple_of(whole) {
        sizes.push(extent % whole);
    }
    sizes
}

/// Panels of equal height: first row, number of panels, height.
fn panels(rows: u64, highest: u64) -> Vec<(u64, u64, u64)> {
    let count = rows.div_ceil(highest);
    let (height, higher) = (rows / count, rows % count);
    let all = [(0, higher, height + 1), (higher * (height + 1), count - higher, height)];
    all.into_iter().filter(|(_, count, _)| *count > 0).collect()
}

impl<'c> Builder<'_, 'c, '_, '_> {
    fn kind(&self, dot: &Dot, live: Option<Live>) -> Kind {
        let (plan, kernel) = (self.plan, self.plan.program.kernel);
        let stride = |home| plan.stride(home);
        let out = plan.homes[dot.out.0].lie;
        let rows = out.rows.expect("products have two variables");
        Kind {
            strides: Strides {
                row_layout: dot.layout,
                rows: stride(dot.left),
                cols: stride(dot.right),
                sums: stride(dot.out),
            },
            rows: sizes(kernel, rows),
            cols: sizes(kernel, out.lanes),
            skip: live.map_or(Skip::Nothing, |live| live.skip(out, dot.along)),
        }
    }

    /// Emits `dot(rows, cols, steps, left, right, out, add, table)`.
    fn function(&self, kind: &Kind, number: usize) -> FunctionValue<'c> {
        let emit = self.emit;
        let name = format!("{}.dot{number}", self.plan.program.kernel.name);
        let shapes: BTreeMap<(u64, u64), FunctionValue<'c>> =
            self.shapes(kind).map(|s| ((s.rows, s.vectors), self.micro(kind, s, &name))).collect();
        let (int, pointer) = (emit.context.i64_type().into(), emit.pointer_type().into());
        let truth = emit.context.bool_type().into();
        let params = [int, int, int, pointer, pointer, pointer, truth, pointer];
        let function = emit.function(&name, &params, Linkage::Internal);
        let param = |i| function.get_nth_param(i).expect("eight parameters");
        let pointer = |i| param(i).into_pointer_value();
        let operands = Operands {
            cols: param(1).into_int_value(),
            steps: param(2).into_int_value(),
            left: pointer(3),
            right: pointer(4),
            out: pointer(5),
            add: param(6).into_int_value(),
            table: pointer(7),
        };
        for rows in &kind.rows {
            let these = emit.int(rows.cast_signed());
            let found = emit.compare(IntPredicate::EQ, param(0).into_int_value(), these);
            let run = || {
                for panel in panels(*rows, self.tile.rows) {
                    self.panels(kind, &operands, panel, &shapes);
                }
            };
            emit.branch(found, run, || ());
        }
        emit.finish();
        function
    }

    /// The register tiles that a product is cut into.
    fn shapes<'k>(&'k self, kind: &'k Kind) -> impl Iterator<Item = Shape> + 'k {
        let heights = kind.rows.iter().flat_map(|rows| panels(*rows, self.tile.rows));
        let vectors: Vec<u64> = (1..=self.tile.vectors).filter(|v| self.occurs(kind, *v)).collect();
        heights.flat_map(move |(_, _, rows)| {
            vectors.clone().into_iter().map(move |vectors| Shape { rows, vectors })
        })
    }

    /// Whether some columns are cut into a group of so many vectors.
    fn occurs(&self, kind: &Kind, vectors: u64) -> bool {
        let RegisterTile { lanes, vectors: most, .. } = self.tile;
        kind.cols.iter().any(|cols| {
            let all = cols.div_ceil(lanes);
            if vectors == most { all >= most } else { all % most == vectors }
        })
    }

    fn micro(&self, kind: &Kind, shape: Shape, name: &str) -> FunctionValue<'c> {
        let alike = |known: &&(Strides, Shape, _)| (known.0, known.1) == (kind.strides, shape);
        if let Some((_, _, function)) = self.micros.borrow().iter().find(alike) {
            return *function;
        }
        let function = micro::emit(self.emit, kind.strides, shape, name);
        self.micros.borrow_mut().push((kind.strides, shape, function));
        function
    }

    /// Panels of one height, each over all columns, so that it stays in the first cache.
    fn panels(
        &self,
        kind: &Kind,
        operands: &Operands<'c>,
        (first, count, height): (u64, u64, u64),
        shapes: &BTreeMap<(u64, u64), FunctionValue<'c>>,
    ) {
        let (emit, tile) = (self.emit, self.tile);
        let bytes = |n: IntValue<'c>, by: u64| emit.times(n, (by * 4).cast_signed());
        let left_stride = match kind.strides.row_layout {
            RowLayout::ByRow => kind.strides.rows,
            RowLayout::ByStep => 1,
        };
        emit.each(emit.int(0), emit.int(count.cast_signed()), 1, |panel| {
            let row = emit.times(panel, height.cast_signed());
            let row = emit.add(row, emit.int(first.cast_signed()));
            let mut left = emit.after(operands.left, bytes(row, left_stride));
            let out = emit.after(operands.out, bytes(row, kind.strides.sums));
            let (mut first_right, mut steps) = (operands.right, operands.steps);
            let blocks = blocks_of(emit, row, emit.int(height.cast_signed()));
            if let Skip::Steps { rows, steps: step } = kind.skip {
                let (from, to) = hull(emit, operands.table, (blocks, rows), step, steps);
                let step_stride = match kind.strides.row_layout {
                    RowLayout::ByRow => 1,
                    RowLayout::ByStep => kind.strides.rows,
                };
                left = emit.after(left, bytes(from, step_stride));
                first_right = emit.after(first_right, bytes(from, kind.strides.cols));
                steps = emit.sub(to, from);
            }
            emit.each(emit.int(0), operands.cols, tile.cols(), |col| {
                let right = emit.after(first_right, bytes(col, 1));
                let out = emit.after(out, bytes(col, 1));
                let run = |vectors: u64| {
                    let Some(micro) = shapes.get(&(height, vectors)) else { return };
                    let mut steps = steps;
                    if let Skip::Tiles { rows, cols } = kind.skip {
                        let width = emit.int((vectors * tile.lanes).cast_signed());
                        let count = emit.smaller(emit.sub(operands.cols, col), width);
                        let columns = (blocks_of(emit, col, count), cols);
                        let rows = (blocks, rows);
                        steps = steps_of_tile(emit, operands.table, rows, columns, steps);
                    }
                    let (steps, add) = (steps.into(), operands.add.into());
                    emit.call(*micro, &[steps, left.into(), right.into(), out.into(), add]);
                };
                self.groups(emit.sub(operands.cols, col), tile.vectors, &run);
            });
        });
    }

    /// Runs what fits the columns that are left: a whole group of vectors, or fewer.
    fn groups(&self, left: IntValue<'c>, vectors: u64, run: &dyn Fn(u64)) {
        let emit = self.emit;
        if vectors == 1 {
            return run(1);
        }
        let fewer = emit.int(((vectors - 1) * self.tile.lanes).cast_signed());
        let whole = emit.compare(IntPredicate::UGT, left, fewer);
        emit.branch(whole, || run(vectors), || self.groups(left, vectors - 1, run));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_cover_the_rows_and_differ_by_one() {
        for rows in 1..200 {
            for highest in [6, 12] {
                let panels = panels(rows, highest);
                let mut next = 0;
                for (first, count, height) in &panels {
                    assert_eq!(*first, next);
                    assert!((1..=highest).contains(height));
                    next += count * height;
                }
                assert_eq!(next, rows);
                let heights = panels.iter().map(|(_, _, h)| *h);
                assert!(heights.clone().max() <= heights.min().map(|h| h + 1));
            }
        }
    }
}
