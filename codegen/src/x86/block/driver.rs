//! The kernel function: grid points, loops, and the steps between them, in scratch memory.

use std::cell::RefCell;
use std::collections::BTreeMap;

use gigac_ir::image::ALIGNMENT;
use gigac_ir::kernel::{Expr, TileId, VarId};
use gigac_ir::pointwise::Pointwise;
use inkwell::IntPredicate;
use inkwell::module::Linkage;
use inkwell::values::{FunctionValue, IntValue, PointerValue};

use super::super::contraction::blocking::{HEADER, RegisterTile};
use super::super::contraction::emit::Emit;
use super::super::contraction::transpose::transpose;
use super::dot::{Dots, sizes};
use super::home::{HomeId, bytes, stride};
use super::live::Live;
use super::plan::{Dot, Guard, Plan, Step};
use super::shape::Cache;

/// Where a variable stands.
#[derive(Clone, Copy)]
pub(super) struct At<'c> {
    /// Number of the tile.
    number: IntValue<'c>,
    /// Its first position.
    pub(super) base: IntValue<'c>,
    /// Its positions inside the extent.
    pub(super) size: IntValue<'c>,
}

/// Emits the function of a plan.
pub(super) struct Driver<'e, 'c, 'm, 'k> {
    pub(super) emit: &'e Emit<'c, 'm>,
    pub(super) plan: &'e Plan<'k>,
    tile: RegisterTile,
    frame: Option<Frame<'c>>,
    at: RefCell<BTreeMap<VarId, At<'c>>>,
    /// Truth values that are known where the steps in hand run.
    known: RefCell<BTreeMap<TileId, bool>>,
    /// The table of the mask that cuts the turn in hand.
    cut: RefCell<Option<Live>>,
}

/// The arguments of the function.
struct Frame<'c> {
    buffers: Vec<PointerValue<'c>>,
    scalars: Vec<IntValue<'c>>,
    scratch: PointerValue<'c>,
    dots: Dots<'c>,
}

impl Plan<'_> {
    /// Elements from row to row of a home.
    pub(super) fn stride(&self, home: HomeId) -> u64 {
        stride(self.program.kernel, self.homes[home.0].lie)
    }
}

impl<'e, 'c, 'm, 'k> Driver<'e, 'c, 'm, 'k> {
    pub(super) fn new(emit: &'e Emit<'c, 'm>, plan: &'e Plan<'k>, tile: RegisterTile) -> Self {
        let (at, known, cut) = (RefCell::default(), RefCell::default(), RefCell::default());
        Self { emit, plan, tile, frame: None, at, known, cut }
    }

    /// Emits the function and what it calls; returns its bytes of scratch memory.
    pub(super) fn run(mut self) -> u64 {
        let emit = self.emit;
        let kernel = self.plan.program.kernel;
        let dots = Dots::emit(emit, self.plan, self.tile);
        let (int, pointer) = (emit.context.i64_type().into(), emit.pointer_type().into());
        let params = [pointer, pointer, int, int, pointer];
        let function = emit.function(&kernel.name, &params, Linkage::External);
        let [buffers, scalars, scratch] = [0, 1, 4].map(|i| pointer_param(function, i));
        let place = |base, i: usize| emit.field(base, 8 * i as u64);
        self.frame = Some(Frame {
            buffers: (0..kernel.buffers.len())
                .map(|i| emit.load_pointer(place(buffers, i)))
                .collect(),
            scalars: (0..kernel.scalars.len()).map(|i| emit.load_int(place(scalars, i))).collect(),
            scratch,
            dots,
        });
        let [first, last] = [2, 3].map(|i| int_param(function, i));
        let entered = emit.compare(IntPredicate::EQ, emit.load_int(scratch), emit.int(0));
        emit.branch(entered, || self.forget(), || ());
        emit.each(first, last, 1, |point| {
            self.enter_point(point);
            self.steps(&self.plan.body);
        });
        emit.finish();
        self.plan.bytes.next_multiple_of(ALIGNMENT)
    }

    /// At the beginning of a launch nothing is packed.
    fn forget(&self) {
        let emit = self.emit;
        emit.each(emit.int(0), emit.int(self.plan.tags.cast_signed()), 1, |tag| {
            emit.store(emit.int(-1), self.tag(tag));
        });
        emit.store(emit.int(1), self.frame().scratch);
    }

    /// The address of a tag.
    fn tag(&self, number: IntValue<'c>) -> PointerValue<'c> {
        let emit = self.emit;
        emit.after(emit.field(self.frame().scratch, HEADER), emit.times(number, 8))
    }

    fn frame(&self) -> &Frame<'c> {
        self.frame.as_ref().expect("the function is open")
    }

    /// The addresses of the buffers.
    pub(super) fn buffers(&self) -> &[PointerValue<'c>] {
        &self.frame().buffers
    }

    /// The int arguments.
    pub(super) fn scalars(&self) -> &[IntValue<'c>] {
        &self.frame().scalars
    }

    /// An int argument.
    pub(super) fn scalar(&self, scalar: u32) -> IntValue<'c> {
        self.frame().scalars[scalar as usize]
    }

    /// Where a variable stands.
    pub(super) fn at(&self, var: VarId) -> At<'c> {
        *self.at.borrow().get(&var).expect("the verifier has checked positions")
    }

    /// Puts a variable on a part of its tile.
    pub(super) fn place(&self, var: VarId, base: IntValue<'c>, size: IntValue<'c>) {
        let number = self.at(var).number;
        self.at.borrow_mut().insert(var, At { number, base, size });
    }

    /// The table of the mask that cuts the turn in hand.
    pub(super) fn cut(&self) -> Option<Live> {
        *self.cut.borrow()
    }

    /// The address of a table.
    pub(super) fn table(&self, live: Live) -> PointerValue<'c> {
        self.emit.field(self.frame().scratch, live.offset)
    }

    /// The first positions of all variables that have one.
    pub(super) fn bases(&self) -> BTreeMap<VarId, IntValue<'c>> {
        self.at.borrow().iter().map(|(var, at)| (*var, at.base)).collect()
    }

    /// The truth values that are known here.
    pub(super) fn known(&self) -> BTreeMap<TileId, bool> {
        self.known.borrow().clone()
    }

    fn enter_point(&self, mut point: IntValue<'c>) {
        let kernel = self.plan.program.kernel;
        for var in kernel.grid.iter().rev() {
            let tiles = kernel.var(*var).tiles();
            self.enter(*var, self.emit.modulo(point, tiles));
            point = self.emit.over(point, tiles);
        }
    }

    /// Puts a variable on a tile.
    fn enter(&self, var: VarId, number: IntValue<'c>) {
        let (emit, kernel) = (self.emit, self.plan.program.kernel);
        let declared = kernel.var(var);
        let base = emit.times(number, declared.tile.cast_signed());
        let size = match sizes(kernel, var)[..] {
            [whole] => emit.int(whole.cast_signed()),
            _ => {
                let left = emit.sub(emit.int(declared.extent.cast_signed()), base);
                emit.smaller(left, emit.int(declared.tile.cast_signed()))
            }
        };
        self.at.borrow_mut().insert(var, At { number, base, size });
    }

    fn steps(&self, steps: &[Step<'k>]) {
        steps.iter().for_each(|step| self.step(step));
    }

    fn step(&self, step: &Step<'k>) {
        match step {
            Step::Sweep(sweep) => self.sweep(sweep),
            Step::Dot(dot) => self.dot(dot),
            Step::Transpose { from, to } => self.transpose(*from, *to),
            Step::Copy { from, to } => self.copy(*from, *to),
            Step::Loop { var, guard, body } => self.looped(*var, *guard, body),
            Step::Cached { cache, tags, body } => self.cached(cache, *tags, body),
        }
    }

    fn looped(&self, var: VarId, guard: Option<Guard>, body: &[Step<'k>]) {
        let emit = self.emit;
        let tiles = self.plan.program.kernel.var(var).tiles();
        emit.each(emit.int(0), emit.int(tiles.cast_signed()), 1, |turn| {
            self.enter(var, turn);
            match guard {
                None => self.steps(body),
                Some(Guard { mask, live }) => {
                    let holds = self.holds(mask);
                    let some = || {
                        let all = || self.knowing(mask, body);
                        emit.branch(holds.everywhere, all, || self.cutting(mask, live, body));
                    };
                    emit.branch(holds.somewhere, some, || ());
                }
            }
        });
        self.at.borrow_mut().remove(&var);
    }

    /// Steps of a turn in which a mask holds everywhere.
    fn knowing(&self, mask: TileId, body: &[Step<'k>]) {
        let before = self.known();
        self.suppose(mask, true);
        self.steps(body);
        *self.known.borrow_mut() = before;
    }

    /// Steps of a turn in which a mask holds here and there.
    fn cutting(&self, mask: TileId, live: Option<Live>, body: &[Step<'k>]) {
        if let Some(live) = live {
            self.survey(mask, live);
        }
        let before = self.cut.replace(live);
        self.steps(body);
        *self.cut.borrow_mut() = before;
    }

    /// Notes a truth value and what follows from it.
    fn suppose(&self, value: TileId, holds: bool) {
        self.known.borrow_mut().insert(value, holds);
        match (self.plan.program.exprs.get(&value), holds) {
            (Some(Expr::Pointwise(Pointwise::And, x)), true)
            | (Some(Expr::Pointwise(Pointwise::Or, x)), false) => {
                x.iter().for_each(|x| self.suppose(*x, holds));
            }
            (Some(Expr::Pointwise(Pointwise::Not, x)), _) => self.suppose(x[0], !holds),
            _ => {}
        }
    }

    fn cached(&self, cache: &Cache, tags: u64, body: &[Step<'k>]) {
        let emit = self.emit;
        let key = self.linear(&cache.key);
        let slot = emit.add(self.linear(&cache.slots), emit.int(tags.cast_signed()));
        let tag = self.tag(slot);
        let stale = emit.compare(IntPredicate::NE, emit.load_int(tag), key);
        let fill = || {
            self.steps(body);
            emit.store(key, tag);
        };
        emit.branch(stale, fill, || ());
    }

    /// A number that tells the tiles of some variables apart.
    fn linear(&self, vars: &[VarId]) -> IntValue<'c> {
        let (emit, kernel) = (self.emit, self.plan.program.kernel);
        vars.iter().fold(emit.int(0), |number, var| {
            let above = emit.times(number, kernel.var(*var).tiles().cast_signed());
            emit.add(above, self.at(*var).number)
        })
    }

    /// The address of a home, of the slot in hand if it has several.
    pub(super) fn home(&self, home: HomeId) -> PointerValue<'c> {
        let (emit, plan) = (self.emit, self.plan);
        let Some(declared) = plan.homes.get(home.0) else { panic!("{home:?} is in no plan") };
        let base = emit.field(self.frame().scratch, declared.offset);
        if declared.slots.is_empty() {
            return base;
        }
        let bytes = bytes(plan.program.kernel, declared.lie);
        emit.after(base, emit.times(self.linear(&declared.slots), bytes.cast_signed()))
    }

    fn dot(&self, dot: &Dot) {
        let emit = self.emit;
        let function = self.frame().dots.of(emit, self.plan, self.tile, (dot, self.cut()));
        let out = self.plan.homes[dot.out.0].lie;
        let rows = self.at(out.rows.expect("products have two variables")).size;
        let (cols, steps) = (self.at(out.lanes).size, self.at(dot.along).size);
        let [left, right, out] = [dot.left, dot.right, dot.out].map(|h| self.home(h).into());
        let add = emit.context.bool_type().const_int(dot.add.into(), false).into();
        let table = self.cut().map_or(self.frame().scratch, |live| self.table(live)).into();
        emit.call(
            function,
            &[rows.into(), cols.into(), steps.into(), left, right, out, add, table],
        );
    }

    /// Squares of registers, also beyond the edges, where homes have room.
    fn transpose(&self, from: HomeId, to: HomeId) {
        let (emit, lanes) = (self.emit, self.tile.lanes);
        let lie = self.plan.homes[from.0].lie;
        let rows = self.at(lie.rows.expect("tiles of two variables are turned")).size;
        let cols = self.at(lie.lanes).size;
        let (from_stride, to_stride) = (self.plan.stride(from), self.plan.stride(to));
        let (from, to) = (self.home(from), self.home(to));
        let element = |base, row, col, stride: u64| {
            let line = emit.times(row, (4 * stride).cast_signed());
            emit.after(base, emit.add(line, emit.times(col, 4)))
        };
        emit.each(emit.int(0), rows, lanes, |row| {
            emit.each(emit.int(0), cols, lanes, |col| {
                let corner = element(from, row, col, from_stride);
                let line = |i: u64| emit.field(corner, i * 4 * from_stride);
                let load = |i| emit.load(emit.vector_type(), line(i)).into_vector_value();
                let turned = transpose(emit, (0..lanes).map(load).collect());
                let corner = element(to, col, row, to_stride);
                for (i, vector) in (0..).zip(turned) {
                    emit.store(vector, emit.field(corner, i * 4 * to_stride));
                }
            });
        });
    }

    fn copy(&self, from: HomeId, to: HomeId) {
        let emit = self.emit;
        let lie = self.plan.homes[from.0].lie;
        let rows = lie.rows.map_or(emit.int(1), |rows| self.at(rows).size);
        let cols = self.at(lie.lanes).size;
        let strides = [from, to].map(|h| (4 * self.plan.stride(h)).cast_signed());
        let bases = [from, to].map(|h| self.home(h));
        emit.each(emit.int(0), rows, 1, |row| {
            let [from, to] = [0, 1].map(|i| emit.after(bases[i], emit.times(row, strides[i])));
            emit.each(emit.int(0), cols, self.tile.lanes, |col| {
                let [from, to] = [from, to].map(|line| emit.after(line, emit.times(col, 4)));
                emit.store(emit.load(emit.vector_type(), from).into_vector_value(), to);
            });
        });
    }
}

fn pointer_param(function: FunctionValue<'_>, i: u32) -> PointerValue<'_> {
    function.get_nth_param(i).expect("the function has this parameter").into_pointer_value()
}

fn int_param(function: FunctionValue<'_>, i: u32) -> IntValue<'_> {
    function.get_nth_param(i).expect("the function has this parameter").into_int_value()
}
