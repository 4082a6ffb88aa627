//! Evaluates tile values for one vector of lanes: along one variable, all others at a position.
//!
//! Every value is a vector; what does not vary along the variable is splat, and LLVM moves it out
//! of the loops around.

use std::cell::RefCell;
use std::collections::BTreeMap;

use gigac_ir::kernel::{BufferId, Expr, Factor, Kernel, Offset, Storage, TileId, VarId};
use inkwell::types::{BasicTypeEnum, VectorType};
use inkwell::values::{IntValue, PointerValue, VectorValue};

use super::super::convert::{from_memory, to_memory};
use super::super::noise::noise;
use super::super::pointwise::pointwise;
use super::access::{Access, Starts, classify};
use super::emit::{Emit, sound};
use crate::pattern::Store;

/// What a function of a kernel knows: where buffers are, and where variables stand.
pub(in crate::x86) struct Frame<'c> {
    /// Addresses of the buffers.
    pub(in crate::x86) buffers: Vec<PointerValue<'c>>,
    /// The kernel's int arguments.
    pub(in crate::x86) scalars: Vec<IntValue<'c>>,
    /// Positions of variables.
    pub(in crate::x86) positions: BTreeMap<VarId, IntValue<'c>>,
}

/// A run of positions of one variable, as many as a vector has lanes.
#[derive(Clone, Copy)]
pub(in crate::x86) struct Lanes<'c> {
    pub(in crate::x86) var: VarId,
    /// The first position.
    pub(in crate::x86) start: IntValue<'c>,
    /// Where such runs start.
    pub(in crate::x86) starts: Starts,
    /// Lanes that exist; none when all do.
    pub(in crate::x86) mask: Option<VectorValue<'c>>,
}

/// Evaluates values of a kernel over some lanes.
pub(in crate::x86) struct Lanewise<'e, 'c, 'm, 'k> {
    pub(in crate::x86) emit: &'e Emit<'c, 'm>,
    pub(in crate::x86) kernel: &'k Kernel,
    /// How every value is made that is not set.
    pub(in crate::x86) exprs: &'e BTreeMap<TileId, &'k Expr>,
    pub(in crate::x86) frame: &'e Frame<'c>,
    pub(in crate::x86) lanes: Lanes<'c>,
    known: RefCell<BTreeMap<TileId, VectorValue<'c>>>,
}

impl<'e, 'c, 'm, 'k> Lanewise<'e, 'c, 'm, 'k> {
    pub(in crate::x86) fn new(
        emit: &'e Emit<'c, 'm>,
        (kernel, exprs): (&'k Kernel, &'e BTreeMap<TileId, &'k Expr>),
        frame: &'e Frame<'c>,
        lanes: Lanes<'c>,
    ) -> Self {
        Self { emit, kernel, exprs, frame, lanes, known: RefCell::default() }
    }

    /// Makes a value known that is not computed here.
    pub(in crate::x86) fn set(&self, value: TileId, vector: VectorValue<'c>) {
        self.known.borrow_mut().insert(value, vector);
    }

    /// The lanes of a value.
    pub(in crate::x86) fn value(&self, value: TileId) -> VectorValue<'c> {
        if let Some(known) = self.known.borrow().get(&value) {
            return *known;
        }
        let expr = self.exprs.get(&value).unwrap_or_else(|| panic!("{value} has no definition"));
        let vector = self.expr(expr);
        self.set(value, vector);
        vector
    }

    fn expr(&self, expr: &Expr) -> VectorValue<'c> {
        let context = self.emit.context;
        let splat = |scalar| self.emit.splat(scalar, self.emit.lanes);
        match expr {
            Expr::Real(x) => splat(context.f32_type().const_float(f64::from(*x as f32)).into()),
            Expr::Int(x) => splat(context.i32_type().const_int(*x as u64, true).into()),
            Expr::Bool(x) => splat(context.bool_type().const_int((*x).into(), false).into()),
            Expr::Index(offset) => {
                let wide = self.offsets(offset);
                let narrow = context.i32_type().vec_type(self.emit.lanes);
                sound(self.emit.builder.build_int_truncate(wide, narrow, ""))
            }
            Expr::Load { buffer, offset, mask } => self.load(*buffer, offset, *mask),
            Expr::Pointwise(op, operands) => {
                let last = operands.last().expect("pointwise functions have operands");
                let of = self.kernel.ty(*last).scalar;
                let operands: Vec<_> = operands.iter().map(|o| self.value(*o).into()).collect();
                pointwise(self.emit.base, *op, of, &operands).into_vector_value()
            }
            Expr::Noise { key, counter } => {
                let zero = self.emit.base.int(0, self.emit.lanes.into());
                let mut words = [zero; 5];
                let drawn = counter.iter().map(|c| self.value(*c).into());
                words.iter_mut().zip(drawn).for_each(|(word, drawn)| *word = drawn);
                let key = self.emit.base.int(key.cast_signed(), self.emit.lanes.into());
                let [seed, counter @ ..] = words;
                noise(self.emit.base, [seed, key], counter).into_vector_value()
            }
            Expr::Reduce(..) | Expr::Dot(..) => {
                panic!("reductions and products are set, not evaluated")
            }
        }
    }

    fn classify(&self, offset: &Offset) -> Access {
        let Lanes { var, starts, .. } = self.lanes;
        classify(self.kernel, offset, var, starts, self.emit.lanes.into())
    }

    /// Lanes that exist and that a mask admits; none when all do.
    fn mask(&self, mask: Option<TileId>) -> Option<VectorValue<'c>> {
        match (mask.map(|mask| self.value(mask)), self.lanes.mask) {
            (Some(a), Some(b)) => Some(sound(self.emit.builder.build_and(a, b, ""))),
            (a, b) => a.or(b),
        }
    }

    fn load(&self, buffer: BufferId, offset: &Offset, mask: Option<TileId>) -> VectorValue<'c> {
        let access = self.classify(offset);
        let (ty, place) = (self.memory_type(buffer), || self.place(buffer, offset));
        let raw = match (access, self.mask(mask)) {
            (Access::Contiguous, None) => self.emit.load(ty, place()).into_vector_value(),
            (Access::Contiguous, Some(mask)) => self.emit.masked_load(ty, place(), mask),
            // A lane that does not exist may as well read what the others read.
            (Access::Uniform, _) if mask.is_none() => {
                self.emit.splat(self.emit.load(ty.get_element_type(), place()), self.emit.lanes)
            }
            (_, mask) => self.gather(buffer, offset, mask),
        };
        from_memory(self.emit.base, self.storage(buffer), raw.into()).into_vector_value()
    }

    fn gather(
        &self,
        buffer: BufferId,
        offset: &Offset,
        mask: Option<VectorValue<'c>>,
    ) -> VectorValue<'c> {
        let ty = self.memory_type(buffer);
        let places = self.places(buffer, offset);
        let types = [ty.into(), places.get_type().into()];
        let mask = mask.unwrap_or_else(|| self.all());
        let arguments = [places.into(), mask.into(), ty.const_zero().into()];
        let gathered = self.emit.intrinsic("llvm.masked.gather", &types, &arguments);
        gathered.expect("it has a result").into_vector_value()
    }

    fn all(&self) -> VectorValue<'c> {
        let yes = self.emit.context.bool_type().const_all_ones();
        self.emit.splat(yes.into(), self.emit.lanes)
    }

    /// Performs a store of the epilogue for these lanes.
    pub(in crate::x86) fn store(&self, store: &Store<'_>) {
        let mut value = self.value(store.value);
        if store.accumulate {
            let old = self.load(store.buffer, store.offset, store.mask);
            value = sound(self.emit.builder.build_float_add(old, value, ""));
        }
        let raw = to_memory(self.emit.base, self.storage(store.buffer), value.into());
        let raw = raw.into_vector_value();
        let place = || self.place(store.buffer, store.offset);
        match (self.classify(store.offset), self.mask(store.mask)) {
            (Access::Contiguous, None) => self.emit.store(raw, place()),
            (Access::Contiguous, Some(mask)) => self.emit.masked_store(raw, place(), mask),
            // Only a variable of one position can be missing in a store.
            (Access::Uniform, _) if store.mask.is_none() => {
                let first = self.emit.context.i32_type().const_zero();
                let lane = sound(self.emit.builder.build_extract_element(raw, first, ""));
                self.emit.store(lane, place());
            }
            (_, mask) => {
                let places = self.places(store.buffer, store.offset);
                let types = [raw.get_type().into(), places.get_type().into()];
                let mask = mask.unwrap_or_else(|| self.all());
                let arguments = [raw.into(), places.into(), mask.into()];
                self.emit.intrinsic("llvm.masked.scatter", &types, &arguments);
            }
        }
    }

    fn storage(&self, buffer: BufferId) -> Storage {
        self.kernel.buffers[buffer.0 as usize].storage
    }

    fn memory_type(&self, buffer: BufferId) -> VectorType<'c> {
        let (context, lanes) = (self.emit.context, self.emit.lanes);
        match self.storage(buffer) {
            Storage::F32 => context.f32_type().vec_type(lanes),
            Storage::Bf16 => context.i16_type().vec_type(lanes),
            Storage::I32 => context.i32_type().vec_type(lanes),
            Storage::Bool => context.i8_type().vec_type(lanes),
        }
    }

    /// The address of the first lane.
    pub(in crate::x86) fn place(&self, buffer: BufferId, offset: &Offset) -> PointerValue<'c> {
        let emit = self.emit;
        let elements = offset.terms.iter().fold(emit.int(offset.constant), |sum, term| {
            let factor = match term.factor {
                Factor::Digit { var, divisor, modulus } => {
                    let position =
                        if var == self.lanes.var { self.lanes.start } else { self.position(var) };
                    self.digit(position, divisor, modulus)
                }
                Factor::Scalar(scalar) => self.frame.scalars[scalar as usize],
                Factor::Tile(tile) => self.first_lane(tile),
            };
            emit.add(sum, emit.times(factor, term.coefficient))
        });
        let bytes = emit.times(elements, self.storage(buffer).bytes().cast_signed());
        emit.after(self.frame.buffers[buffer.0 as usize], bytes)
    }

    fn position(&self, var: VarId) -> IntValue<'c> {
        *self.frame.positions.get(&var).unwrap_or_else(|| panic!("{var:?} has no position"))
    }

    fn digit(&self, position: IntValue<'c>, divisor: u64, modulus: u64) -> IntValue<'c> {
        let digit = if divisor == 1 { position } else { self.emit.over(position, divisor) };
        if modulus == 0 { digit } else { self.emit.modulo(digit, modulus) }
    }

    /// A tile that is the same in all lanes, as one number.
    fn first_lane(&self, tile: TileId) -> IntValue<'c> {
        let builder = &self.emit.builder;
        let first = self.emit.context.i32_type().const_zero();
        let lane = sound(builder.build_extract_element(self.value(tile), first, ""));
        let wide = self.emit.context.i64_type();
        sound(builder.build_int_s_extend(lane.into_int_value(), wide, ""))
    }

    /// The address of every lane.
    fn places(&self, buffer: BufferId, offset: &Offset) -> VectorValue<'c> {
        let builder = &self.emit.builder;
        let wide = self.emit.context.i64_type();
        let base = self.frame.buffers[buffer.0 as usize];
        let base = sound(builder.build_ptr_to_int(base, wide, ""));
        let bytes = wide.const_int(self.storage(buffer).bytes(), false);
        let bytes = self.emit.splat(bytes.into(), self.emit.lanes);
        let offsets = sound(builder.build_int_mul(self.offsets(offset), bytes, ""));
        let base = self.emit.splat(base.into(), self.emit.lanes);
        let addresses = sound(builder.build_int_add(base, offsets, ""));
        let BasicTypeEnum::PointerType(pointer) = self.emit.pointer_type() else {
            panic!("`pointer_type` is a pointer type")
        };
        sound(builder.build_int_to_ptr(addresses, pointer.vec_type(self.emit.lanes), ""))
    }

    /// The offset of every lane, as 64-bit ints.
    fn offsets(&self, offset: &Offset) -> VectorValue<'c> {
        let (emit, builder) = (self.emit, &self.emit.builder);
        let splat = |scalar: IntValue<'c>| emit.splat(scalar.into(), emit.lanes);
        offset.terms.iter().fold(splat(emit.int(offset.constant)), |sum, term| {
            let factor = match term.factor {
                Factor::Digit { var, divisor, modulus } if var == self.lanes.var => {
                    let lanes = emit.count_up(emit.context.i64_type(), emit.lanes);
                    let at = sound(builder.build_int_add(splat(self.lanes.start), lanes, ""));
                    self.digits(at, divisor, modulus)
                }
                Factor::Digit { var, divisor, modulus } => {
                    splat(self.digit(self.position(var), divisor, modulus))
                }
                Factor::Scalar(scalar) => splat(self.frame.scalars[scalar as usize]),
                Factor::Tile(tile) => {
                    let wide = emit.context.i64_type().vec_type(emit.lanes);
                    sound(builder.build_int_s_extend(self.value(tile), wide, ""))
                }
            };
            let product =
                sound(builder.build_int_mul(factor, splat(emit.int(term.coefficient)), ""));
            sound(builder.build_int_add(sum, product, ""))
        })
    }

    fn digits(&self, at: VectorValue<'c>, divisor: u64, modulus: u64) -> VectorValue<'c> {
        let builder = &self.emit.builder;
        let number = |n: u64| {
            let scalar = self.emit.context.i64_type().const_int(n, false);
            self.emit.splat(scalar.into(), self.emit.lanes)
        };
        let digit = sound(builder.build_int_unsigned_div(at, number(divisor), ""));
        if modulus == 0 {
            return digit;
        }
        sound(builder.build_int_unsigned_rem(digit, number(modulus), ""))
    }
}
